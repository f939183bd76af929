//! Pages of Facebook by the Graph API.

use async_trait::async_trait;
use provision_adapters::{
    http::{Opinion, Request},
    webhook::{Encoding, Verifier},
};
use provision_core::{ExternalId, Secret, StepContext, StepError, Timestamp, limit::Profile};
use serde::Deserialize;
use serde_json::json;

use super::{
    Access, Account, Figures, Grant, Link, NewPost, Platform, PlatformName, Tokens, Unbelieved,
    WebhookEvent, link,
    listing::{Page, all, turn},
};

const VERSION: &str = "v23.0";
const TOKEN: [&str; 3] = [VERSION, "oauth", "access_token"];

/// Pages of Facebook. A page token signs; there is no refresh token: an access token that still
/// works is exchanged for a new one.
#[derive(Debug)]
pub(super) struct Meta(pub(super) Link);

#[derive(Deserialize)]
struct Listed<T> {
    data: Vec<T>,
    #[serde(default)]
    paging: Option<Paging>,
}

#[derive(Deserialize)]
struct Paging {
    #[serde(default)]
    cursors: Option<Cursors>,
    #[serde(default)]
    next: Option<String>,
}

impl Paging {
    /// A cursor stands behind the last page, too; the address of a next one does not.
    fn next(self) -> Option<String> {
        self.next.and(self.cursors).map(|cursors| cursors.after)
    }
}

#[derive(Deserialize)]
struct Cursors {
    after: String,
}

#[derive(Deserialize)]
struct Posted {
    id: String,
    #[serde(default)]
    message: String,
    /// In seconds, as it is asked for.
    #[serde(default)]
    created_time: Option<u64>,
}

#[derive(Deserialize)]
struct Insight {
    name: String,
    values: Vec<InsightValue>,
}

#[derive(Deserialize)]
struct InsightValue {
    value: u64,
}

#[async_trait]
impl Platform for Meta {
    fn name(&self) -> PlatformName {
        PlatformName::Meta
    }

    fn authorize_url(&self, state: &str, redirect_uri: &str) -> String {
        let scope = "pages_manage_posts,read_insights";
        self.0.authorize_url(&format!("{VERSION}/dialog/oauth"), scope, (state, redirect_uri))
    }

    async fn authenticate(
        &self,
        cx: &StepContext,
        limit: &Profile,
        grant: &Grant,
    ) -> Result<Tokens, StepError> {
        let fields = [("code", grant.code.expose()), ("redirect_uri", &grant.redirect_uri)];
        self.0.tokens(cx, limit, &TOKEN, &fields).await
    }

    async fn refresh_token(
        &self,
        cx: &StepContext,
        limit: &Profile,
        old: &Tokens,
    ) -> Result<Tokens, StepError> {
        let exchange = "fb_exchange_token";
        let fields = [("grant_type", exchange), (exchange, old.access.expose())];
        self.0.tokens(cx, limit, &TOKEN, &fields).await
    }

    async fn revoke(
        &self,
        cx: &StepContext,
        limit: &Profile,
        tokens: &Tokens,
    ) -> Result<(), StepError> {
        let access =
            Access { token: tokens.access.clone(), account: String::new(), limit: limit.clone() };
        let call = access.mutate("revoke permissions");
        let request = Request::delete(&[VERSION, "me", "permissions"]).bearer(&access.token);
        match self.0.look(cx, &call, request).await {
            // A token that does not work has no permissions left.
            Err(error) if error.code() == "unauthorized" => Ok(()),
            end => end.map(drop),
        }
    }

    async fn fetch_accounts(
        &self,
        cx: &StepContext,
        access: &Access,
    ) -> Result<Vec<Account>, StepError> {
        let read = |after: Option<String>| async move {
            let mut request = Request::get(&[VERSION, "me", "accounts"])
                .query("fields", "id,name")
                .query("limit", "100");
            if let Some(after) = after {
                request = request.query("after", after);
            }
            let request = request.bearer(&access.token);
            let listed: Listed<Account> =
                self.0.ask(cx, access.read("list pages"), request).await?;
            let next = listed.paging.and_then(Paging::next);
            Ok((listed.data, next))
        };
        all(read).await
    }

    async fn publish(
        &self,
        cx: &StepContext,
        access: &Access,
        post: &NewPost,
    ) -> Result<ExternalId, StepError> {
        let body = json!({ "message": post.text(), "link": post.marked_link() });
        let request =
            Request::post(&[VERSION, &access.account, "feed"]).json(&body).bearer(&access.token);
        let posted: Posted = self.0.ask(cx, access.mutate("publish post"), request).await?;
        Ok(ExternalId::new(posted.id))
    }

    async fn find_post(
        &self,
        cx: &StepContext,
        access: &Access,
        post: &NewPost,
    ) -> Result<Option<ExternalId>, StepError> {
        let read = |after: Option<String>| async move {
            let mut request = Request::get(&[VERSION, &access.account, "feed"])
                .query("fields", "id,message,created_time")
                .query("date_format", "U")
                .query("limit", "100");
            if let Some(after) = after {
                request = request.query("after", after);
            }
            let request = request.bearer(&access.token);
            let listed: Listed<Posted> = self.0.ask(cx, access.read("list posts"), request).await?;
            let oldest = listed.data.last().and_then(|posted| posted.created_time);
            let found = listed.data.into_iter().find(|posted| post.is_in(&posted.message));
            Ok(Page {
                found: found.map(|posted| ExternalId::new(posted.id)),
                oldest: oldest.map(|at| Timestamp::from_millis(at.saturating_mul(1_000))),
                next: listed.paging.and_then(Paging::next),
            })
        };
        turn(cx, read).await
    }

    async fn delete_post(
        &self,
        cx: &StepContext,
        access: &Access,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        let request = Request::delete(&[VERSION, id.as_str()]).bearer(&access.token);
        self.0.look(cx, &access.mutate("delete post"), request).await.map(drop)
    }

    async fn post_analytics(
        &self,
        cx: &StepContext,
        access: &Access,
        post: &str,
    ) -> Result<Figures, StepError> {
        let request = Request::get(&[VERSION, post, "insights"])
            .query("metric", "post_impressions,post_reactions_by_type_total,post_clicks")
            .bearer(&access.token);
        let listed: Listed<Insight> = self.0.ask(cx, access.read("read insights"), request).await?;
        let of = |name: &str| {
            let insight = listed.data.iter().find(|insight| insight.name == name);
            insight.and_then(|insight| insight.values.first()).map_or(0, |value| value.value)
        };
        Ok(Figures {
            impressions: of("post_impressions"),
            reactions: of("post_reactions_by_type_total"),
            clicks: of("post_clicks"),
        })
    }

    fn webhook_verifier(&self) -> Result<Verifier, Unbelieved> {
        let secret = Secret::new(self.0.app().client_secret.expose());
        Verifier::body("meta", ("x-hub-signature-256", "sha256="), Encoding::Hex, [secret]).map_err(
            |_| Unbelieved {
                code: "webhook_secret",
                hint: "set the secret of the app: Meta signs deliveries with it",
            },
        )
    }

    fn verify_token(&self) -> Option<&Secret> {
        self.0.app().verify_token.as_ref()
    }

    fn parse_webhook_event(&self, body: &[u8]) -> Result<Vec<WebhookEvent>, Unbelieved> {
        let delivery: Delivery = serde_json::from_slice(body).map_err(|_| Unbelieved {
            code: "webhook_shape",
            hint: "the body is not as Meta documents deliveries of pages",
        })?;
        let events = delivery.entry.into_iter().flat_map(|entry| {
            let account = entry.id;
            entry.changes.into_iter().map(move |change| WebhookEvent {
                account: account.clone(),
                kind: match change.value.item {
                    Some(item) => format!("{}.{item}", change.field),
                    None => change.field,
                },
            })
        });
        Ok(events.collect())
    }
}

#[derive(Deserialize)]
struct Delivery {
    entry: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    changes: Vec<Change>,
}

#[derive(Deserialize)]
struct Change {
    field: String,
    #[serde(default)]
    value: ChangeValue,
}

#[derive(Default, Deserialize)]
struct ChangeValue {
    item: Option<String>,
}

#[derive(Deserialize)]
struct GraphError {
    error: GraphCode,
}

#[derive(Deserialize)]
struct GraphCode {
    code: u32,
}

/// Graph errors carry a number; the status alone says little: limits are told by 400 and 403, too.
pub(super) fn opinion(status: u16, body: &[u8]) -> Option<Opinion> {
    let Ok(GraphError { error }) = serde_json::from_slice(body) else {
        return link::opinion(status, body);
    };
    match error.code {
        190 => Some(
            Opinion::permanent("unauthorized")
                .with_hint("the token is expired or revoked: the user connects again"),
        ),
        100 if status == 404 => Some(Opinion::permanent("not_found")),
        4 | 17 | 32 | 613 => Some(Opinion::throttled("throttled")),
        10 | 200..=299 => Some(
            Opinion::permanent("forbidden").with_hint("the user has not granted what this needs"),
        ),
        _ => None,
    }
}
