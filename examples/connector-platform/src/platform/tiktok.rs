//! Videos on TikTok by the Content Posting API.

use async_trait::async_trait;
use provision_adapters::http::{Opinion, Request};
use provision_core::{ExternalId, StepContext, StepError, Timestamp, limit::Profile};
use serde::Deserialize;
use serde_json::json;

use super::{
    Access, Account, Figures, Grant, Link, NewPost, Platform, PlatformName, Tokens, link,
    listing::{Page, turn},
    unsupported,
};

const TOKEN: [&str; 3] = ["v2", "oauth", "token"];
/// What is being published has an id of another kind than what is out.
const PENDING: &str = "publish:";

/// Videos on TikTok. Publishing takes a while and is asked about; each refresh gives a new refresh
/// token, too.
#[derive(Debug)]
pub(super) struct TikTok(pub(super) Link);

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Info {
    user: User,
}

#[derive(Deserialize)]
struct User {
    open_id: String,
    display_name: String,
}

#[derive(Deserialize)]
struct Begun {
    publish_id: String,
}

#[derive(Deserialize)]
struct Progress {
    status: String,
    // Spelt so in the API.
    #[serde(default)]
    publicaly_available_post_id: Vec<u64>,
}

#[derive(Deserialize)]
struct Videos {
    videos: Vec<Video>,
    #[serde(default)]
    cursor: u64,
    #[serde(default)]
    has_more: bool,
}

#[derive(Deserialize)]
struct Video {
    id: String,
    #[serde(default)]
    title: String,
    /// In seconds.
    #[serde(default)]
    create_time: Option<u64>,
    #[serde(default)]
    view_count: u64,
    #[serde(default)]
    like_count: u64,
    #[serde(default)]
    share_count: u64,
}

impl TikTok {
    /// How far the publishing of a video is.
    async fn progress(
        &self,
        cx: &StepContext,
        access: &Access,
        pending: &str,
    ) -> Result<Progress, StepError> {
        let request = Request::post(&["v2", "post", "publish", "status", "fetch"])
            .json(&json!({ "publish_id": pending }))
            .bearer(&access.token);
        let answer: Answer<Progress> =
            self.0.ask(cx, access.read("read publishing status"), request).await?;
        Ok(answer.data)
    }
}

#[async_trait]
impl Platform for TikTok {
    fn name(&self) -> PlatformName {
        PlatformName::TikTok
    }

    fn authorize_url(&self, state: &str, redirect_uri: &str) -> String {
        let scope = "user.info.basic,video.publish,video.list";
        self.0.authorize_url("v2/auth/authorize", scope, (state, redirect_uri))
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
        self.0.revoke(cx, limit, &["v2", "oauth", "revoke"], tokens).await
    }

    async fn fetch_accounts(
        &self,
        cx: &StepContext,
        access: &Access,
    ) -> Result<Vec<Account>, StepError> {
        let request = Request::get(&["v2", "user", "info"])
            .query("fields", "open_id,display_name")
            .bearer(&access.token);
        let answer: Answer<Info> = self.0.ask(cx, access.read("read user"), request).await?;
        let user = answer.data.user;
        Ok(vec![Account { id: user.open_id, name: user.display_name }])
    }

    async fn publish(
        &self,
        cx: &StepContext,
        access: &Access,
        post: &NewPost,
    ) -> Result<ExternalId, StepError> {
        let body = json!({
            "post_info": { "title": post.text(), "privacy_level": "PUBLIC_TO_EVERYONE" },
            "source_info": { "source": "PULL_FROM_URL", "video_url": post.link },
        });
        let path = ["v2", "post", "publish", "video", "init"];
        let request = Request::post(&path).json(&body).bearer(&access.token);
        let answer: Answer<Begun> = self.0.ask(cx, access.mutate("publish video"), request).await?;
        Ok(ExternalId::new(format!("{PENDING}{}", answer.data.publish_id)))
    }

    async fn find_post(
        &self,
        cx: &StepContext,
        access: &Access,
        post: &NewPost,
    ) -> Result<Option<ExternalId>, StepError> {
        let read = |cursor: Option<String>| async move {
            let body = match cursor.and_then(|cursor| cursor.parse::<u64>().ok()) {
                Some(cursor) => json!({ "max_count": 20, "cursor": cursor }),
                None => json!({ "max_count": 20 }),
            };
            let request = Request::post(&["v2", "video", "list"])
                .query("fields", "id,title,create_time")
                .json(&body)
                .bearer(&access.token);
            let answer: Answer<Videos> =
                self.0.ask(cx, access.read("list videos"), request).await?;
            let Videos { videos, cursor, has_more } = answer.data;
            let oldest = videos.last().and_then(|video| video.create_time);
            let found = videos.into_iter().find(|video| post.is_in(&video.title));
            Ok(Page {
                found: found.map(|video| ExternalId::new(video.id)),
                oldest: oldest.map(|at| Timestamp::from_millis(at.saturating_mul(1_000))),
                next: has_more.then(|| cursor.to_string()),
            })
        };
        turn(cx, read).await
    }

    // Only videos that are out are listed, and processing one may take long.
    fn hides_unfinished(&self) -> bool {
        true
    }

    async fn settled(
        &self,
        cx: &StepContext,
        access: &Access,
        _: &NewPost,
        id: &ExternalId,
    ) -> Result<Option<String>, StepError> {
        let Some(pending) = id.as_str().strip_prefix(PENDING) else {
            return Ok(Some(id.as_str().to_owned()));
        };
        let progress = self.progress(cx, access, pending).await?;
        match (&*progress.status, progress.publicaly_available_post_id.first()) {
            ("PUBLISH_COMPLETE", Some(video)) => Ok(Some(video.to_string())),
            ("FAILED", _) => Err(StepError::permanent("publish video")
                .with_code("publish_failed")
                .with_hint("TikTok could not take the video: check its address and its format")),
            _ => Ok(None),
        }
    }

    async fn delete_post(
        &self,
        cx: &StepContext,
        access: &Access,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        if let Some(pending) = id.as_str().strip_prefix(PENDING) {
            match &*self.progress(cx, access, pending).await?.status {
                // Nothing of it is out, and nothing will be.
                "FAILED" => return Ok(()),
                "PUBLISH_COMPLETE" => {}
                _ => {
                    return Err(StepError::retry("delete video")
                        .with_code("still_publishing")
                        .with_hint("TikTok is still at work on the video: it may yet fail"));
                }
            }
        }
        Err(unsupported(
            "delete video",
            "TikTok's API deletes no video: delete it in the app, then resolve the run as undone",
        ))
    }

    async fn post_analytics(
        &self,
        cx: &StepContext,
        access: &Access,
        post: &str,
    ) -> Result<Figures, StepError> {
        let request = Request::post(&["v2", "video", "query"])
            .query("fields", "id,view_count,like_count,share_count")
            .json(&json!({ "filters": { "video_ids": [post] } }))
            .bearer(&access.token);
        let answer: Answer<Videos> = self.0.ask(cx, access.read("query videos"), request).await?;
        let found = answer.data.videos.into_iter().find(|video| video.id == post);
        let video =
            found.ok_or_else(|| StepError::permanent("query videos").with_code("not_found"))?;
        Ok(Figures {
            impressions: video.view_count,
            reactions: video.like_count,
            clicks: video.share_count,
        })
    }
}

#[derive(Deserialize)]
struct Refusal {
    error: Code,
}

#[derive(Deserialize)]
struct Code {
    code: String,
}

/// Errors carry a word; the token endpoint words its own as RFC 6749 does.
pub(super) fn opinion(status: u16, body: &[u8]) -> Option<Opinion> {
    let Ok(Refusal { error }) = serde_json::from_slice(body) else {
        return link::opinion(status, body);
    };
    match &*error.code {
        "access_token_invalid" => Some(
            Opinion::permanent("unauthorized")
                .with_hint("the token is expired or revoked: the user connects again"),
        ),
        "spam_risk_too_many_posts" => Some(
            Opinion::operator("quota")
                .with_hint("the account has posted its most of this day: try again tomorrow"),
        ),
        "scope_not_authorized" => Some(
            Opinion::permanent("forbidden").with_hint("the user has not granted what this needs"),
        ),
        _ => None,
    }
}
