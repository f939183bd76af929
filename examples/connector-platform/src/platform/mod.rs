//! Five social platforms behind one trait.
//!
//! A platform differs from an adapter of `provision-adapters` in whose credentials it uses: an
//! adapter works in one account of the host, a platform in the accounts of many tenants, each with
//! tokens of its own that grow old.

mod gbp;
mod link;
mod linkedin;
mod listing;
mod mailchimp;
mod meta;
mod tiktok;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use provision_adapters::{
    http::{BaseUrl, ConfigError},
    webhook::{Verified, Verifier},
};
use provision_core::{Call, ExternalId, Secret, StepContext, StepError, Timestamp, limit::Profile};
use serde::{Deserialize, Serialize};

pub use link::Link;

/// Which platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlatformName {
    /// Pages of Facebook.
    Meta,
    /// Pages of organisations on LinkedIn.
    LinkedIn,
    /// Videos on TikTok.
    TikTok,
    /// Local posts of a Google Business Profile.
    Gbp,
    /// Campaigns of Mailchimp.
    Mailchimp,
}

impl PlatformName {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Meta, Self::LinkedIn, Self::TikTok, Self::Gbp, Self::Mailchimp];

    /// The name it is stored and shown under.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::LinkedIn => "linkedin",
            Self::TikTok => "tiktok",
            Self::Gbp => "gbp",
            Self::Mailchimp => "mailchimp",
        }
    }

    /// The flag that opens it.
    #[must_use]
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Meta => "integration_meta",
            Self::LinkedIn => "integration_linkedin",
            Self::TikTok => "integration_tiktok",
            Self::Gbp => "integration_gbp",
            Self::Mailchimp => "integration_mailchimp",
        }
    }

    /// Finds a platform by its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|platform| platform.as_str() == name)
    }
}

impl fmt::Display for PlatformName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a user's consent is turned into tokens with.
#[derive(Debug)]
pub struct Grant {
    /// The code the platform sent the user back with; good for one use.
    pub code: Secret,
    /// Where it sent the user: the same address that was asked for.
    pub redirect_uri: String,
}

/// Tokens of one connection.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// Signs calls.
    pub access: Secret,
    /// Gets new tokens, where the platform has such a one.
    pub refresh: Option<Secret>,
    /// How long the access token works; `None` for one that does not grow old.
    pub lifetime: Option<Duration>,
}

/// What a call is made with: a token, the account it works in, and what the token may do.
#[derive(Debug, Clone)]
pub struct Access {
    /// Signs the call.
    pub token: Secret,
    /// The platform's id of the account; empty before one was chosen.
    pub account: String,
    /// The bucket that all calls of this token count against, in all processes.
    pub limit: Profile,
}

impl Access {
    pub(crate) fn read(&self, operation: &'static str) -> Call {
        Call::read(operation).with_limit(self.limit.clone())
    }

    pub(crate) fn mutate(&self, operation: &'static str) -> Call {
        Call::mutate(operation).with_limit(self.limit.clone())
    }
}

/// An account that can be published by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The platform's id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// What is to be published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPost {
    /// What it says.
    pub body: String,
    /// Where it leads, as HTTPS.
    pub link: String,
    /// What it is found again by: 1 to 40 letters and digits, one of its own for each post.
    pub reference: String,
}

impl NewPost {
    /// The link, with the reference as its campaign parameter. None of the platforms takes an
    /// idempotency key with a post, so the link carries what a lost post is found again by.
    #[must_use]
    pub fn marked_link(&self) -> String {
        let join = if self.link.contains('?') { '&' } else { '?' };
        format!("{}{join}utm_content={}", self.link, self.reference)
    }

    /// The text that goes out.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}", self.body, self.marked_link())
    }

    /// Whether a listed text is the one of this post.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        text.contains(&format!("utm_content={}", self.reference))
    }
}

/// Figures of one post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Figures {
    /// How often it was shown.
    pub impressions: u64,
    /// Likes and the like.
    pub reactions: u64,
    /// How often its link was followed.
    pub clicks: u64,
}

/// What a platform tells of, read from a verified body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookEvent {
    /// The platform's id of the account it is about.
    pub account: String,
    /// What happened, in the platform's word.
    pub kind: String,
}

/// Headers of a delivery, in names of any case.
pub type DeliveryHeaders = [(String, Vec<u8>)];

/// One social platform.
///
/// Every method is one call of its API or a few that only look; none waits, repeats or keeps
/// anything. What a platform cannot do fails for good with the code `unsupported` and says what can
/// be done instead.
#[async_trait]
pub trait Platform: fmt::Debug + Send + Sync + 'static {
    /// Which one it is.
    fn name(&self) -> PlatformName;

    /// Where a user is sent to consent.
    fn authorize_url(&self, state: &str, redirect_uri: &str) -> String;

    /// Turns a consent into tokens.
    async fn authenticate(
        &self,
        cx: &StepContext,
        limit: &Profile,
        grant: &Grant,
    ) -> Result<Tokens, StepError>;

    /// Gets new tokens. The old refresh token stays good until the new access token is used for the
    /// first time, so it may be repeated as long as the new ones are not stored.
    async fn refresh_token(
        &self,
        cx: &StepContext,
        limit: &Profile,
        old: &Tokens,
    ) -> Result<Tokens, StepError>;

    /// Makes tokens worthless; worthless ones are done.
    async fn revoke(
        &self,
        cx: &StepContext,
        limit: &Profile,
        tokens: &Tokens,
    ) -> Result<(), StepError>;

    /// Lists the accounts that a token may publish by.
    async fn fetch_accounts(
        &self,
        cx: &StepContext,
        access: &Access,
    ) -> Result<Vec<Account>, StepError>;

    /// Publishes. The answer is what [`Self::settled`] asks about.
    async fn publish(
        &self,
        cx: &StepContext,
        access: &Access,
        post: &NewPost,
    ) -> Result<ExternalId, StepError>;

    /// Looks whether a post is there, by its reference.
    async fn find_post(
        &self,
        cx: &StepContext,
        access: &Access,
        post: &NewPost,
    ) -> Result<Option<ExternalId>, StepError>;

    /// Whether [`Self::find_post`] does not see what was taken and is still being worked on. Where it
    /// does not, a lost post is waited for, and then left to a person: "not seen" is not "not there".
    fn hides_unfinished(&self) -> bool {
        false
    }

    /// Looks whether a post is out, and finishes what is missing; answers the id of the post.
    async fn settled(
        &self,
        _cx: &StepContext,
        _access: &Access,
        _post: &NewPost,
        id: &ExternalId,
    ) -> Result<Option<String>, StepError> {
        Ok(Some(id.as_str().to_owned()))
    }

    /// Deletes a post; one that is gone is deleted.
    async fn delete_post(
        &self,
        cx: &StepContext,
        access: &Access,
        id: &ExternalId,
    ) -> Result<(), StepError>;

    /// Reads the figures of a post.
    async fn post_analytics(
        &self,
        cx: &StepContext,
        access: &Access,
        post: &str,
    ) -> Result<Figures, StepError>;

    /// Whether the token works and still may publish by its account.
    async fn health_check(&self, cx: &StepContext, access: &Access) -> Result<(), StepError> {
        let accounts = self.fetch_accounts(cx, access).await?;
        if accounts.iter().any(|account| account.id == access.account) {
            return Ok(());
        }
        Err(StepError::permanent("check connection")
            .with_code("account_gone")
            .with_hint("the user may not publish by this account any more: connect again"))
    }

    /// What tells deliveries of this platform from forgeries.
    ///
    /// # Errors
    /// The platform's deliveries are not taken, or the app has no secret to judge them by.
    fn webhook_verifier(&self) -> Result<Verifier, Unbelieved> {
        Err(Unbelieved {
            code: "unsupported",
            hint: "this connector takes no webhooks: its figures and states are polled",
        })
    }

    /// What a platform shows that asks at an address before it delivers there; `None` where it does
    /// not, or nobody has set it.
    fn verify_token(&self) -> Option<&Secret> {
        None
    }

    /// Whether a delivery is the platform's, over the raw body; says when and under which id.
    ///
    /// # Errors
    /// Why it is not believed, as a code and what can be done.
    fn validate_webhook_signature(
        &self,
        headers: &DeliveryHeaders,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Verified, Unbelieved> {
        let headers = headers.iter().map(|(name, value)| (&**name, &**value));
        self.webhook_verifier()?.verify(headers, body, now).map_err(|refused| Unbelieved {
            code: refused.code(),
            hint: "nothing was taken in: check the secret of the app at both ends",
        })
    }

    /// Reads what a verified body tells of; what is not known is left out.
    ///
    /// # Errors
    /// The body has another shape.
    fn parse_webhook_event(&self, _body: &[u8]) -> Result<Vec<WebhookEvent>, Unbelieved> {
        Err(Unbelieved {
            code: "unsupported",
            hint: "this connector takes no webhooks: its figures and states are polled",
        })
    }
}

/// Why a delivery is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unbelieved {
    /// Stable word.
    pub code: &'static str,
    /// What can be done.
    pub hint: &'static str,
}

/// What a platform's API does not offer: an end for good that names a way out.
pub(crate) fn unsupported(operation: &'static str, hint: &'static str) -> StepError {
    StepError::permanent(operation).with_code("unsupported").with_hint(hint)
}

/// The service's registration at one platform.
#[derive(Debug, Clone)]
pub struct App {
    /// Root of the platform's API.
    pub base: BaseUrl,
    /// Id of the service's app.
    pub client_id: String,
    /// Its secret, for tokens and for the signatures of webhooks.
    pub client_secret: Secret,
    /// What the platform shows when an address for its webhooks is registered, where it asks there
    /// first; without it that is not answered.
    pub verify_token: Option<Secret>,
}

/// All platforms. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Platforms(Arc<BTreeMap<PlatformName, Arc<dyn Platform>>>);

impl Platforms {
    /// Builds the connector of each platform that the service is registered at; nothing is sent.
    ///
    /// # Errors
    /// An address needs TLS and the program was built without it.
    pub fn new(apps: BTreeMap<PlatformName, App>) -> Result<Self, ConfigError> {
        let mut all: BTreeMap<PlatformName, Arc<dyn Platform>> = BTreeMap::new();
        for (name, app) in apps {
            let link = |table| Link::new(name, app.clone(), table);
            let platform: Arc<dyn Platform> = match name {
                PlatformName::Meta => Arc::new(meta::Meta(link(meta::opinion)?)),
                PlatformName::LinkedIn => Arc::new(linkedin::LinkedIn(link(link::opinion)?)),
                PlatformName::TikTok => Arc::new(tiktok::TikTok(link(tiktok::opinion)?)),
                PlatformName::Gbp => Arc::new(gbp::Gbp(link(link::opinion)?)),
                PlatformName::Mailchimp => Arc::new(mailchimp::Mailchimp(link(link::opinion)?)),
            };
            all.insert(name, platform);
        }
        Ok(Self(Arc::new(all)))
    }

    /// The connector of a platform.
    ///
    /// # Errors
    /// The service is not registered there.
    pub fn get(&self, name: PlatformName) -> Result<&Arc<dyn Platform>, StepError> {
        self.0.get(&name).ok_or_else(|| {
            StepError::permanent("choose platform")
                .with_code("platform_not_set_up")
                .with_hint("name the address and the app of this platform in the settings")
        })
    }

    /// Those that the service is registered at.
    pub fn names(&self) -> impl Iterator<Item = PlatformName> {
        self.0.keys().copied()
    }
}
