//! Campaigns of Mailchimp by the Marketing API.

use async_trait::async_trait;
use provision_adapters::http::{Request, parse_rfc3339};
use provision_core::{ExternalId, StepContext, StepError, limit::Profile};
use serde::Deserialize;
use serde_json::json;

use super::{
    Access, Account, Figures, Grant, Link, NewPost, Platform, PlatformName, Tokens,
    listing::{Page, all_by_offset, turn},
    unsupported,
};

const ROOT: &str = "3.0";
/// Audiences or campaigns of one page: the most there are.
const PAGE: u64 = 1_000;

/// Campaigns of Mailchimp. A campaign is made first and sent afterwards; tokens do not grow old.
#[derive(Debug)]
pub(super) struct Mailchimp(pub(super) Link);

#[derive(Deserialize)]
struct Lists {
    lists: Vec<Account>,
    total_items: u64,
}

#[derive(Deserialize)]
struct Campaigns {
    campaigns: Vec<Campaign>,
    total_items: u64,
}

/// From where a page is read.
fn start(next: Option<String>) -> u64 {
    next.and_then(|next| next.parse().ok()).unwrap_or(0)
}

/// Where the next page begins, if there is one.
fn next(start: u64, total: u64) -> Option<String> {
    let next = start + PAGE;
    (next < total).then(|| next.to_string())
}

#[derive(Deserialize)]
struct Campaign {
    id: String,
    status: String,
    #[serde(default)]
    create_time: Option<String>,
    #[serde(default)]
    settings: Settings,
}

#[derive(Default, Deserialize)]
struct Settings {
    #[serde(default)]
    title: String,
}

#[derive(Deserialize)]
struct Report {
    emails_sent: u64,
    opens: Opens,
    clicks: Clicks,
}

#[derive(Deserialize)]
struct Opens {
    opens_total: u64,
}

#[derive(Deserialize)]
struct Clicks {
    clicks_total: u64,
}

#[async_trait]
impl Platform for Mailchimp {
    fn name(&self) -> PlatformName {
        PlatformName::Mailchimp
    }

    fn authorize_url(&self, state: &str, redirect_uri: &str) -> String {
        self.0.authorize_url("oauth2/authorize", "", (state, redirect_uri))
    }

    async fn authenticate(
        &self,
        cx: &StepContext,
        limit: &Profile,
        grant: &Grant,
    ) -> Result<Tokens, StepError> {
        self.0.tokens_for_code(cx, limit, &["oauth2", "token"], grant).await
    }

    async fn refresh_token(
        &self,
        _: &StepContext,
        _: &Profile,
        _: &Tokens,
    ) -> Result<Tokens, StepError> {
        Err(unsupported(
            "refresh tokens",
            "tokens of Mailchimp do not grow old: one that is refused was revoked, connect again",
        ))
    }

    // There is no such call: the user removes the app in the account's own settings.
    async fn revoke(&self, _: &StepContext, _: &Profile, _: &Tokens) -> Result<(), StepError> {
        Ok(())
    }

    async fn fetch_accounts(
        &self,
        cx: &StepContext,
        access: &Access,
    ) -> Result<Vec<Account>, StepError> {
        let read = |from: Option<String>| async move {
            let from = start(from);
            let request = Request::get(&[ROOT, "lists"])
                .query("fields", "lists.id,lists.name,total_items")
                .query("offset", from.to_string())
                .query("count", PAGE.to_string())
                .bearer(&access.token);
            let found: Lists = self.0.ask(cx, access.read("list audiences"), request).await?;
            Ok((found.lists, next(from, found.total_items)))
        };
        all_by_offset(read).await
    }

    async fn publish(
        &self,
        cx: &StepContext,
        access: &Access,
        post: &NewPost,
    ) -> Result<ExternalId, StepError> {
        let subject: String =
            post.body.lines().next().unwrap_or_default().chars().take(120).collect();
        let body = json!({
            "type": "regular",
            "recipients": { "list_id": access.account },
            // The title is the account's own, no reader sees it.
            "settings": { "subject_line": subject, "title": post.marked_link() },
        });
        let request = Request::post(&[ROOT, "campaigns"]).json(&body).bearer(&access.token);
        let made: Campaign = self.0.ask(cx, access.mutate("make campaign"), request).await?;
        Ok(ExternalId::new(made.id))
    }

    async fn find_post(
        &self,
        cx: &StepContext,
        access: &Access,
        post: &NewPost,
    ) -> Result<Option<ExternalId>, StepError> {
        let read = |from: Option<String>| async move {
            let from = start(from);
            let request = Request::get(&[ROOT, "campaigns"])
                .query("list_id", &access.account)
                .query("offset", from.to_string())
                .query("count", PAGE.to_string())
                .query("sort_field", "create_time")
                .query("sort_dir", "DESC")
                .bearer(&access.token);
            let listed: Campaigns = self.0.ask(cx, access.read("list campaigns"), request).await?;
            let oldest = listed.campaigns.last().and_then(|made| made.create_time.as_deref());
            let oldest = oldest.and_then(parse_rfc3339);
            let next = next(from, listed.total_items);
            let found = listed.campaigns.into_iter().find(|made| post.is_in(&made.settings.title));
            Ok(Page { found: found.map(|made| ExternalId::new(made.id)), oldest, next })
        };
        turn(cx, read).await
    }

    async fn settled(
        &self,
        cx: &StepContext,
        access: &Access,
        post: &NewPost,
        id: &ExternalId,
    ) -> Result<Option<String>, StepError> {
        let id = id.as_str();
        let request = Request::get(&[ROOT, "campaigns", id]).bearer(&access.token);
        let seen: Campaign = self.0.ask(cx, access.read("read campaign"), request).await?;
        match &*seen.status {
            "sent" => return Ok(Some(seen.id)),
            "save" => {}
            _ => return Ok(None),
        }
        let content = json!({ "plain_text": post.text() });
        let request = Request::put(&[ROOT, "campaigns", id, "content"]).json(&content);
        let call = access.mutate("write campaign");
        self.0.done(cx, &call, request.bearer(&access.token)).await?;
        // A campaign is sent once: one that is on its way refuses, and the next look sees it.
        let request = Request::post(&[ROOT, "campaigns", id, "actions", "send"]);
        let call = access.mutate("send campaign");
        self.0.done(cx, &call, request.bearer(&access.token)).await?;
        Ok(None)
    }

    async fn delete_post(
        &self,
        cx: &StepContext,
        access: &Access,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        let request = Request::get(&[ROOT, "campaigns", id.as_str()]).bearer(&access.token);
        let call = access.read("read campaign");
        let Some(seen) = self.0.look(cx, &call, request).await? else { return Ok(()) };
        let seen: Campaign = seen.json(call.operation)?;
        if seen.status != "save" {
            return Err(unsupported(
                "delete campaign",
                "its mails are on their way or out, and nobody can take them back: resolve the run \
                 as undone where that is known",
            ));
        }
        let request = Request::delete(&[ROOT, "campaigns", id.as_str()]).bearer(&access.token);
        self.0.look(cx, &access.mutate("delete campaign"), request).await.map(drop)
    }

    async fn post_analytics(
        &self,
        cx: &StepContext,
        access: &Access,
        post: &str,
    ) -> Result<Figures, StepError> {
        let request = Request::get(&[ROOT, "reports", post]).bearer(&access.token);
        let report: Report = self.0.ask(cx, access.read("read report"), request).await?;
        Ok(Figures {
            impressions: report.emails_sent,
            reactions: report.opens.opens_total,
            clicks: report.clicks.clicks_total,
        })
    }
}
