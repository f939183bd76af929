//! Pages of organisations on LinkedIn by the versioned REST API.

use async_trait::async_trait;
use provision_adapters::http::Request;
use provision_core::{ExternalId, StepContext, StepError, Timestamp, limit::Profile};
use serde::Deserialize;
use serde_json::json;

use super::{
    Access, Account, Figures, Grant, Link, NewPost, Platform, PlatformName, Tokens,
    listing::{Page, all_by_offset, turn},
};

const VERSION: &str = "202510";
/// Posts or accounts of one page: the most there are.
const PAGE: u64 = 100;
const TOKEN: [&str; 3] = ["oauth", "v2", "accessToken"];

/// Pages of organisations on LinkedIn. The id of a new post comes in a header.
#[derive(Debug)]
pub(super) struct LinkedIn(pub(super) Link);

#[derive(Deserialize)]
struct Listed<T> {
    elements: Vec<T>,
    #[serde(default)]
    paging: Paging,
}

#[derive(Default, Deserialize)]
struct Paging {
    #[serde(default)]
    links: Vec<PageLink>,
}

#[derive(Deserialize)]
struct PageLink {
    rel: String,
}

impl<T> Listed<T> {
    /// Whether another page is named, or may follow this full one.
    fn goes_on(&self) -> bool {
        let is_full = u64::try_from(self.elements.len()).is_ok_and(|found| found >= PAGE);
        is_full || self.paging.links.iter().any(|link| link.rel == "next")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Role {
    organization: String,
    #[serde(default)]
    organization_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: String,
    #[serde(default)]
    commentary: String,
    /// In milliseconds.
    #[serde(default)]
    created_at: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statistics {
    total_share_statistics: Totals,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Totals {
    impression_count: u64,
    like_count: u64,
    click_count: u64,
}

fn signed(request: Request, access: &Access) -> Request {
    request
        .header("linkedin-version", VERSION)
        .header("x-restli-protocol-version", "2.0.0")
        .bearer(&access.token)
}

#[async_trait]
impl Platform for LinkedIn {
    fn name(&self) -> PlatformName {
        PlatformName::LinkedIn
    }

    fn authorize_url(&self, state: &str, redirect_uri: &str) -> String {
        let scope = "w_organization_social";
        self.0.authorize_url("oauth/v2/authorization", scope, (state, redirect_uri))
    }

    async fn authenticate(
        &self,
        cx: &StepContext,
        limit: &Profile,
        grant: &Grant,
    ) -> Result<Tokens, StepError> {
        self.0.tokens_for_code(cx, limit, &TOKEN, grant).await
    }

    async fn refresh_token(
        &self,
        cx: &StepContext,
        limit: &Profile,
        old: &Tokens,
    ) -> Result<Tokens, StepError> {
        self.0.refreshed(cx, limit, &TOKEN, old).await
    }

    async fn revoke(
        &self,
        cx: &StepContext,
        limit: &Profile,
        tokens: &Tokens,
    ) -> Result<(), StepError> {
        self.0.revoke(cx, limit, &["oauth", "v2", "revoke"], tokens).await
    }

    async fn fetch_accounts(
        &self,
        cx: &StepContext,
        access: &Access,
    ) -> Result<Vec<Account>, StepError> {
        let read = |start: Option<String>| async move {
            let start = start.and_then(|start| start.parse().ok()).unwrap_or(0);
            let request = Request::get(&["rest", "organizationAcls"])
                .query("q", "roleAssignee")
                .query("start", start.to_string())
                .query("count", PAGE.to_string());
            let call = access.read("list pages");
            let listed: Listed<Role> = self.0.ask(cx, call, signed(request, access)).await?;
            let next = listed.goes_on().then(|| (start + PAGE).to_string());
            let account =
                |role: Role| Account { id: role.organization, name: role.organization_name };
            Ok((listed.elements.into_iter().map(account).collect(), next))
        };
        all_by_offset(read).await
    }

    async fn publish(
        &self,
        cx: &StepContext,
        access: &Access,
        post: &NewPost,
    ) -> Result<ExternalId, StepError> {
        let body = json!({
            "author": access.account,
            "commentary": post.text(),
            "visibility": "PUBLIC",
            "distribution": { "feedDistribution": "MAIN_FEED" },
            "lifecycleState": "PUBLISHED",
        });
        let call = access.mutate("publish post");
        let request = signed(Request::post(&["rest", "posts"]).json(&body), access);
        let response = self.0.done(cx, &call, request).await?;
        let id = response.headers.get("x-restli-id").ok_or_else(|| {
            StepError::unknown(call.operation)
                .with_code("garbage")
                .with_message("the answer names no post")
        })?;
        Ok(ExternalId::new(id))
    }

    async fn find_post(
        &self,
        cx: &StepContext,
        access: &Access,
        post: &NewPost,
    ) -> Result<Option<ExternalId>, StepError> {
        let read = |start: Option<String>| async move {
            let start = start.and_then(|start| start.parse().ok()).unwrap_or(0);
            let request = Request::get(&["rest", "posts"])
                .query("q", "author")
                .query("author", &access.account)
                .query("start", start.to_string())
                .query("count", PAGE.to_string())
                .query("sortBy", "CREATED");
            let request = signed(request, access);
            let listed: Listed<Shown> = self.0.ask(cx, access.read("list posts"), request).await?;
            let oldest = listed.elements.last().and_then(|shown| shown.created_at);
            let is_last = listed.elements.is_empty();
            let found = listed.elements.into_iter().find(|shown| post.is_in(&shown.commentary));
            Ok(Page {
                found: found.map(|shown| ExternalId::new(shown.id)),
                oldest: oldest.map(Timestamp::from_millis),
                // A page may be short before the end: posts that nobody may see are left out.
                next: (!is_last).then(|| (start + PAGE).to_string()),
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
        let request = signed(Request::delete(&["rest", "posts", id.as_str()]), access);
        self.0.look(cx, &access.mutate("delete post"), request).await.map(drop)
    }

    async fn post_analytics(
        &self,
        cx: &StepContext,
        access: &Access,
        post: &str,
    ) -> Result<Figures, StepError> {
        let request = Request::get(&["rest", "organizationalEntityShareStatistics"])
            .query("q", "organizationalEntity")
            .query("organizationalEntity", &access.account)
            .query("shares", format!("List({post})"));
        let call = access.read("read statistics");
        let listed: Listed<Statistics> = self.0.ask(cx, call, signed(request, access)).await?;
        let of = |totals: &Totals| Figures {
            impressions: totals.impression_count,
            reactions: totals.like_count,
            clicks: totals.click_count,
        };
        // A post that nobody has seen yet has no statistics.
        let first = listed.elements.first();
        Ok(first.map_or_else(Figures::default, |found| of(&found.total_share_statistics)))
    }
}
