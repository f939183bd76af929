//! What a simulated platform knows: consents, tokens, posts.

use std::time::Duration;

use provision_adapters::sim::{SimRequest, SimTime};
use serde::{Deserialize, Serialize};

use super::{CLIENT_ID, CLIENT_SECRET, Pace};
use crate::platform::{Account, PlatformName};

/// How long a consent may be turned into tokens.
const CODE_LIFETIME: Duration = Duration::from_secs(600);

/// Everything a simulated platform knows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct World {
    name: PlatformName,
    drawn: u64,
    token_lifetime: Duration,
    publishing: Duration,
    codes: Vec<Code>,
    /// Tokens that were given, newest last; those that work no more are gone.
    pub tokens: Vec<Token>,
    /// How often tokens were refreshed.
    pub refreshes: u32,
    /// Accounts that a user may publish by.
    pub accounts: Vec<Account>,
    /// Whether videos that are published from now on come to nothing, as those that cannot be read.
    #[serde(default)]
    pub fails: bool,
    pub(super) posts: Vec<Post>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Code {
    code: String,
    redirect_uri: String,
    expires: Duration,
}

/// Tokens that were given together.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Token {
    /// Signs calls.
    pub access: String,
    /// Gets new ones.
    pub refresh: String,
    /// When the access token grows old.
    pub expires: Duration,
    /// The refresh token that these were got with, where it ends when these are first used.
    before: Option<String>,
    is_refreshed: bool,
}

impl Token {
    /// Whether these were got by a refresh.
    pub(super) fn is_refreshed(&self) -> bool {
        self.is_refreshed
    }
}

/// A post, from the moment on it was asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Post {
    pub(super) id: String,
    pub(super) account: String,
    /// What a listing shows of it.
    pub(super) text: String,
    pub(super) made_at: Duration,
    pub(super) out_at: Option<Duration>,
    pub(super) hidden_until: Duration,
    pub(super) written: bool,
    /// Whether it will never be out.
    #[serde(default)]
    pub(super) failed: bool,
}

impl Post {
    pub(super) fn is_out(&self, now: SimTime) -> bool {
        !self.failed && self.out_at.is_some_and(|at| at <= now)
    }
}

/// Why a token endpoint gives nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    Client,
    Grant,
}

impl World {
    pub(super) fn new(name: PlatformName, pace: Pace) -> Self {
        let account = |n: u32| Account {
            id: match name {
                PlatformName::LinkedIn => format!("urn:li:organization:{n}"),
                PlatformName::Gbp => format!("accounts/1/locations/{n}"),
                _ => format!("{}0{n}", name.as_str().len()),
            },
            name: format!("Account {n}"),
        };
        Self {
            name,
            drawn: 0,
            token_lifetime: pace.token_lifetime,
            publishing: pace.publishing,
            codes: Vec::new(),
            tokens: Vec::new(),
            refreshes: 0,
            accounts: vec![account(1), account(2)],
            fails: false,
            posts: Vec::new(),
        }
    }

    /// How many posts are there.
    #[must_use]
    pub fn posts(&self) -> usize {
        self.posts.len()
    }

    /// Ids of the posts that have a text in them.
    #[must_use]
    pub fn posts_of(&self, text: &str) -> Vec<String> {
        let has = |post: &&Post| post.text.contains(text);
        self.posts.iter().filter(has).map(|post| post.id.clone()).collect()
    }

    /// Sets how long tokens work that are given from now on.
    pub fn set_token_lifetime(&mut self, lifetime: Duration) {
        self.token_lifetime = lifetime;
    }

    /// A user consents, as by a browser; answers the code that the platform sends back.
    pub fn consent(&mut self, redirect_uri: &str, now: SimTime) -> String {
        let code = self.draw("code");
        self.codes.push(Code {
            code: code.clone(),
            redirect_uri: redirect_uri.to_owned(),
            expires: now + CODE_LIFETIME,
        });
        code
    }

    fn draw(&mut self, what: &str) -> String {
        self.drawn += 1;
        format!("{}-{what}-{}", self.name, self.drawn)
    }

    /// Answers a token endpoint: a consent, a refresh token or, at Meta, an access token is turned
    /// into new tokens.
    pub(super) fn grant(
        &mut self,
        form: &[(String, String)],
        now: SimTime,
    ) -> Result<Token, Denied> {
        let field = |name: &str| form.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let client = (field("client_id"), field("client_secret"));
        if client != (Some(CLIENT_ID), Some(CLIENT_SECRET)) {
            return Err(Denied::Client);
        }
        if let Some(code) = field("code") {
            let place = self.codes.iter().position(|known| known.code == code);
            // A code is good for one use, whatever comes of it.
            let known = place.map(|place| self.codes.remove(place)).ok_or(Denied::Grant)?;
            if known.expires < now || Some(&*known.redirect_uri) != field("redirect_uri") {
                return Err(Denied::Grant);
            }
            return Ok(self.add_token(None, now));
        }
        let old = match (field("refresh_token"), field("fb_exchange_token")) {
            (Some(refresh), _) => self.tokens.iter().find(|token| token.refresh == refresh),
            (None, Some(access)) => {
                self.tokens.iter().find(|token| token.access == access && token.expires > now)
            }
            (None, None) => None,
        };
        let before = old.ok_or(Denied::Grant)?.refresh.clone();
        self.refreshes += 1;
        Ok(self.add_token(Some(before), now))
    }

    fn add_token(&mut self, before: Option<String>, now: SimTime) -> Token {
        let expires = match self.name {
            PlatformName::Mailchimp => Duration::MAX,
            _ => now + self.token_lifetime,
        };
        let (access, is_refreshed) = (self.draw("access"), before.is_some());
        // Google's refresh token stays; the others give a new one each time.
        let (refresh, before) = match (self.name, before) {
            (PlatformName::Gbp, Some(before)) => (before, None),
            (_, before) => (self.draw("refresh"), before),
        };
        let token = Token { access, refresh, expires, before, is_refreshed };
        self.tokens.push(token.clone());
        token
    }

    /// Whether a request is signed by a token that works. The first use of new tokens ends the old
    /// ones: who lost the answer to a refresh may repeat it until then.
    pub(super) fn admits(&mut self, request: &SimRequest, now: SimTime) -> bool {
        let Some(access) = request.bearer() else { return false };
        let used = self.tokens.iter().find(|token| token.access == access && token.expires > now);
        let Some(before) = used.map(|token| token.before.clone()) else { return false };
        if let Some(before) = before {
            let used = access.to_owned();
            self.tokens.retain(|token| token.refresh != before);
            // Of several answers to the same refresh, the one that is used stays.
            self.tokens
                .retain(|token| token.access == used || token.before.as_ref() != Some(&before));
        }
        true
    }

    /// Ends a token, by either of its two.
    pub(super) fn revoke(&mut self, token: &str) {
        self.tokens.retain(|known| known.refresh != token && known.access != token);
    }

    /// Adds a post; `at_once` says whether it is out already.
    pub(super) fn add_post(
        &mut self,
        request: &SimRequest,
        (account, text): (&str, &str),
        at_once: bool,
        now: SimTime,
    ) -> Post {
        self.drawn += 1;
        let id = match self.name {
            PlatformName::LinkedIn => format!("urn:li:share:{}", self.drawn),
            PlatformName::Gbp => format!("{account}/localPosts/{}", self.drawn),
            PlatformName::Meta => format!("{account}_{}", self.drawn),
            PlatformName::TikTok | PlatformName::Mailchimp => self.drawn.to_string(),
        };
        let out_at = match self.name {
            PlatformName::TikTok => Some(now + self.publishing),
            _ if at_once => Some(now),
            _ => None,
        };
        let hidden_until = now + request.hidden_for;
        let (account, text) = (account.to_owned(), text.to_owned());
        let post = Post {
            id,
            account,
            text,
            made_at: now,
            out_at,
            hidden_until,
            written: false,
            failed: self.fails,
        };
        self.posts.push(post.clone());
        post
    }

    /// Somebody else posts as often, by the first account.
    pub fn flood(&mut self, posts: u32, now: SimTime) {
        let Some(account) = self.accounts.first().map(|account| account.id.clone()) else { return };
        for _ in 0..posts {
            self.drawn += 1;
            self.posts.push(Post {
                id: self.drawn.to_string(),
                account: account.clone(),
                text: "Something else".to_owned(),
                made_at: now,
                out_at: Some(now),
                hidden_until: now,
                written: true,
                failed: false,
            });
        }
    }

    /// Posts of an account that a listing shows.
    pub(super) fn listed(
        &self,
        account: &str,
        now: SimTime,
    ) -> impl Iterator<Item = &Post> + use<'_> {
        let account = account.to_owned();
        self.posts
            .iter()
            .rev()
            .filter(move |post| post.account == account && post.hidden_until <= now)
    }

    pub(super) fn post(&mut self, id: &str) -> Option<&mut Post> {
        self.posts.iter_mut().find(|post| post.id == id)
    }

    /// Begins to send what is out only after a while.
    pub(super) fn send(&mut self, id: &str, now: SimTime) -> bool {
        let publishing = self.publishing;
        let ready = self.post(id).filter(|post| post.written && post.out_at.is_none());
        ready.map(|post| post.out_at = Some(now + publishing)).is_some()
    }

    /// Removes a post; says whether it was there.
    pub(super) fn delete(&mut self, id: &str) -> bool {
        let before = self.posts.len();
        self.posts.retain(|post| post.id != id);
        self.posts.len() < before
    }
}
