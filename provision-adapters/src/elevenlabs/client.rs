//! One method per endpoint of ElevenLabs' API. Facts: the OpenAPI document of
//! api.elevenlabs.io of 2026-08-22 and elevenlabs-python 2.78.0, read 2026-11-21.

use std::{collections::BTreeSet, sync::Arc};

use provision_core::{
    Call, StepContext, StepError, Timestamp,
    limit::{Concurrency, Profile},
};
use serde::Serialize;

use super::{
    PAGE_ITEMS, PAGES_MAX, Prices, SLOT_PAUSE,
    config::ElevenLabsConfig,
    error::{is_definite_404, opinion},
    model::{Subscription, Voice, Voices},
};
use crate::http::{
    AnswerSink, ConfigError, Credential, Http, HttpConfig, Request, Response, classify,
    not_the_provider,
};

/// The provider's own header; it is in no list of sensitive ones but ours.
const KEY_HEADER: &str = "xi-api-key";

/// What a call makes; each has its own limit of open calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Music,
    Speech,
    Sound,
}

impl Family {
    pub(crate) const fn operation(self) -> &'static str {
        match self {
            Self::Music => "compose music",
            Self::Speech => "make speech",
            Self::Sound => "make sound effect",
        }
    }

    const fn class(self) -> &'static str {
        match self {
            Self::Music => "music",
            Self::Speech => "speech",
            Self::Sound => "sound",
        }
    }
}

/// What is left of an account's credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credits {
    /// Credits of this period that can still be used.
    pub left: u64,
    /// Credits of a period.
    pub limit: u64,
    /// When the next period begins, if the provider says.
    pub resets_at: Option<Timestamp>,
}

/// An ElevenLabs account. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct ElevenLabs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: Http,
    config: ElevenLabsConfig,
}

impl ElevenLabs {
    /// Builds the client; nothing is sent.
    ///
    /// # Errors
    /// An address needs TLS and the feature `live` is off, or the HTTP client cannot be set up.
    pub fn new(config: ElevenLabsConfig) -> Result<Self, ConfigError> {
        let bucket = profile(&config, "api", None);
        let http = HttpConfig::new("elevenlabs", config.base.clone(), bucket)
            .with_idle_timeout(config.call_within)
            .with_unasked_pause(SLOT_PAUSE);
        Ok(Self { inner: Arc::new(Inner { http: Http::new(http)?, config }) })
    }

    pub(crate) fn account(&self) -> &str {
        account(&self.inner.config)
    }

    pub(crate) fn prices(&self) -> Option<&Prices> {
        self.inner.config.prices.as_ref()
    }

    pub(crate) fn audio_bytes_max(&self) -> u64 {
        self.inner.config.audio_bytes_max
    }

    fn credential(&self) -> Credential<'_> {
        Credential::header(KEY_HEADER, &self.inner.config.key)
    }

    fn refused(call: &Call, response: &Response, bucket: &str) -> StepError {
        if response.status == 404 && !is_definite_404(response) {
            return not_the_provider(call);
        }
        classify(call, response, bucket, opinion)
    }

    /// Pays for one piece of audio: 200 with the audio, which goes to `sink` as it comes.
    pub(crate) async fn make(
        &self,
        cx: &StepContext,
        (family, path): (Family, &[&str]),
        (format, body): (&str, &(impl Serialize + Sync)),
        sink: &mut impl AnswerSink,
    ) -> Result<Response, StepError> {
        let Inner { http, config } = &*self.inner;
        let slots = match family {
            Family::Music => config.music_concurrency,
            Family::Speech | Family::Sound => config.speech_concurrency,
        };
        let profile = profile(config, family.class(), Some(slots));
        let bucket = profile.bucket.clone();
        let call =
            Call::mutate(family.operation()).with_timeout(config.call_within).with_limit(profile);
        let request = Request::post(path)
            .query("output_format", format)
            .header("accept", "audio/*, application/json")
            .json(body);
        let credential = self.credential();
        let answer = http.send_as_into(cx, call.clone(), request, (credential, sink)).await?;
        if answer.is_success() { Ok(answer) } else { Err(Self::refused(&call, &answer, &bucket)) }
    }

    async fn read(
        &self,
        cx: &StepContext,
        operation: &'static str,
        request: Request,
    ) -> Result<Response, StepError> {
        let call = Call::read(operation);
        let within = call.timeout.min(self.inner.config.call_within);
        let (call, http) = (call.with_timeout(within), &self.inner.http);
        let answer = http.send_as(cx, call.clone(), request, self.credential()).await?;
        if answer.is_success() {
            Ok(answer)
        } else {
            Err(Self::refused(&call, &answer, http.bucket()))
        }
    }

    /// GET /v1/user/subscription: what is left of the account's credits.
    ///
    /// # Errors
    /// The key is refused, or the provider does not say.
    pub async fn credits(&self, cx: &StepContext) -> Result<Credits, StepError> {
        let request = Request::get(&["v1", "user", "subscription"]);
        let answer = self.read(cx, "read credits", request).await?;
        let shown: Subscription = answer.json("read credits")?;
        let reset = shown.next_character_count_reset_unix;
        Ok(Credits {
            left: shown.character_limit.saturating_sub(shown.character_count),
            limit: shown.character_limit,
            resets_at: reset.map(|at| Timestamp::from_millis(at.saturating_mul(1_000))),
        })
    }

    /// GET `/v1/voices/{id}`.
    pub(crate) async fn voice(&self, cx: &StepContext, id: &str) -> Result<Voice, StepError> {
        let request = Request::get(&["v1", "voices", id]);
        self.read(cx, "read voice", request).await?.json("read voice")
    }

    /// GET /v2/voices?search=: all pages of what the search finds, which is more than the name.
    pub(crate) async fn voices(
        &self,
        cx: &StepContext,
        search: &str,
    ) -> Result<Vec<Voice>, StepError> {
        const OPERATION: &str = "list voices";
        let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let request = Request::get(&["v2", "voices"])
                .query("search", search)
                .query("page_size", PAGE_ITEMS.to_string());
            let request = match &cursor {
                Some(cursor) => request.query("next_page_token", cursor.as_str()),
                None => request,
            };
            let page: Voices = self.read(cx, OPERATION, request).await?.json(OPERATION)?;
            all.extend(page.voices);
            match page.next_page_token.filter(|_| page.has_more) {
                Some(next) if seen.insert(next.clone()) => cursor = Some(next),
                Some(_) => break,
                None if page.has_more => break,
                None => return Ok(all),
            }
        }
        // Half a listing proves nothing about what is absent.
        Err(StepError::retry(OPERATION)
            .with_code("endless_listing")
            .with_message("the pages of the listing do not end"))
    }
}

fn profile(config: &ElevenLabsConfig, class: &str, concurrency: Option<u32>) -> Profile {
    let bucket = format!("elevenlabs/{}/{class}", account(config));
    Profile { bucket, rate: None, concurrency: concurrency.map(Concurrency::AtMost) }
}

fn account(config: &ElevenLabsConfig) -> &str {
    config.account.as_deref().unwrap_or("default")
}
