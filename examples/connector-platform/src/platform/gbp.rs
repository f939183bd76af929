//! Local posts of a Google Business Profile.

use async_trait::async_trait;
use provision_adapters::http::Request;
use provision_core::{ExternalId, StepContext, StepError, limit::Profile};
use serde::Deserialize;
use serde_json::json;

use super::{
    Access, Account, Figures, Grant, Link, NewPost, Platform, PlatformName, Tokens,
    listing::{Page, all, turn},
};

/// Local posts of a Google Business Profile. A refresh gives no new refresh token: the old one
/// stays.
#[derive(Debug)]
pub(super) struct Gbp(pub(super) Link);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Locations {
    #[serde(default)]
    locations: Vec<Location>,
    #[serde(default)]
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct Location {
    /// `accounts/1/locations/2`.
    name: String,
    title: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posts {
    #[serde(default)]
    local_posts: Vec<LocalPost>,
    #[serde(default)]
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct LocalPost {
    name: String,
    #[serde(default)]
    summary: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    #[serde(default)]
    local_post_metrics: Vec<Metrics>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metrics {
    metric_values: Vec<Metric>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metric {
    metric: String,
    total_value: TotalValue,
}

#[derive(Deserialize)]
struct TotalValue {
    // Google writes 64-bit numbers as text.
    value: String,
}

/// The segments of a resource name, behind the version.
fn path<'a>(name: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    ["v4"].into_iter().chain(name.split('/')).chain(rest.iter().copied()).collect()
}

#[async_trait]
impl Platform for Gbp {
    fn name(&self) -> PlatformName {
        PlatformName::Gbp
    }

    fn authorize_url(&self, state: &str, redirect_uri: &str) -> String {
        let scope = "https://www.googleapis.com/auth/business.manage";
        // Without these two there is no refresh token.
        let url = self.0.authorize_url("o/oauth2/v2/auth", scope, (state, redirect_uri));
        format!("{url}&access_type=offline&prompt=consent")
    }

    async fn authenticate(
        &self,
        cx: &StepContext,
        limit: &Profile,
        grant: &Grant,
    ) -> Result<Tokens, StepError> {
        self.0.tokens_for_code(cx, limit, &["token"], grant).await
    }

    async fn refresh_token(
        &self,
        cx: &StepContext,
        limit: &Profile,
        old: &Tokens,
    ) -> Result<Tokens, StepError> {
        let fresh = self.0.refreshed(cx, limit, &["token"], old).await?;
        Ok(Tokens { refresh: fresh.refresh.or_else(|| old.refresh.clone()), ..fresh })
    }

    async fn revoke(
        &self,
        cx: &StepContext,
        limit: &Profile,
        tokens: &Tokens,
    ) -> Result<(), StepError> {
        self.0.revoke(cx, limit, &["revoke"], tokens).await
    }

    async fn fetch_accounts(
        &self,
        cx: &StepContext,
        access: &Access,
    ) -> Result<Vec<Account>, StepError> {
        let read = |next: Option<String>| async move {
            let mut request = Request::get(&["v1", "accounts", "-", "locations"])
                .query("readMask", "name,title")
                .query("pageSize", "100");
            if let Some(next) = next {
                request = request.query("pageToken", next);
            }
            let request = request.bearer(&access.token);
            let found: Locations = self.0.ask(cx, access.read("list locations"), request).await?;
            let account = |location: Location| Account { id: location.name, name: location.title };
            let next = found.next_page_token.filter(|token| !token.is_empty());
            Ok((found.locations.into_iter().map(account).collect(), next))
        };
        all(read).await
    }

    async fn publish(
        &self,
        cx: &StepContext,
        access: &Access,
        post: &NewPost,
    ) -> Result<ExternalId, StepError> {
        let body = json!({
            "languageCode": "en",
            "summary": post.text(),
            "topicType": "STANDARD",
            "callToAction": { "actionType": "LEARN_MORE", "url": post.marked_link() },
        });
        let request = Request::post(&path(&access.account, &["localPosts"]))
            .json(&body)
            .bearer(&access.token);
        let posted: LocalPost = self.0.ask(cx, access.mutate("publish post"), request).await?;
        Ok(ExternalId::new(posted.name))
    }

    async fn find_post(
        &self,
        cx: &StepContext,
        access: &Access,
        post: &NewPost,
    ) -> Result<Option<ExternalId>, StepError> {
        let read = |next: Option<String>| async move {
            let mut request =
                Request::get(&path(&access.account, &["localPosts"])).query("pageSize", "100");
            if let Some(next) = next {
                request = request.query("pageToken", next);
            }
            let request = request.bearer(&access.token);
            let listed: Posts = self.0.ask(cx, access.read("list posts"), request).await?;
            let found = listed.local_posts.into_iter().find(|posted| post.is_in(&posted.summary));
            Ok(Page {
                found: found.map(|posted| ExternalId::new(posted.name)),
                // No order is promised: all pages are read.
                oldest: None,
                next: listed.next_page_token.filter(|token| !token.is_empty()),
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
        let request = Request::delete(&path(id.as_str(), &[])).bearer(&access.token);
        self.0.look(cx, &access.mutate("delete post"), request).await.map(drop)
    }

    async fn post_analytics(
        &self,
        cx: &StepContext,
        access: &Access,
        post: &str,
    ) -> Result<Figures, StepError> {
        let body = json!({
            "localPostNames": [post],
            "basicRequest": { "metricRequests": [{ "metric": "ALL" }] },
        });
        let request = Request::post(&path(&access.account, &["localPosts:reportInsights"]))
            .json(&body)
            .bearer(&access.token);
        let report: Report = self.0.ask(cx, access.read("report insights"), request).await?;
        let values = report.local_post_metrics.first().map_or(&[][..], |post| &post.metric_values);
        let of = |name: &str| {
            let metric = values.iter().find(|metric| metric.metric == name);
            metric.and_then(|metric| metric.total_value.value.parse().ok()).unwrap_or(0)
        };
        // Google counts no reactions to local posts.
        Ok(Figures {
            impressions: of("LOCAL_POST_VIEWS_SEARCH"),
            reactions: 0,
            clicks: of("LOCAL_POST_ACTIONS_CALL_TO_ACTION"),
        })
    }
}
