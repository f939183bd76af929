//! Sends one request: permit, lease, first byte, complete answer.

use std::time::Duration;

use provision_core::{
    Call, CallKind, Effect, StepContext, StepError, Verdict,
    limit::{Observed, Profile},
};
use reqwest::redirect;

use super::{
    base::BaseUrl,
    config::{ConfigError, HttpConfig},
    credential::Credential,
    limit::observed,
    request::Request,
    response::{Headers, Response, effect_if_sent},
    stream::AnswerSink,
};

/// Sends requests to one provider. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Http {
    client: reqwest::Client,
    base: BaseUrl,
    provider: &'static str,
    bucket: Profile,
    body_bytes_max: usize,
    call_timeout: Option<Duration>,
    refill: Option<Duration>,
    unasked_pause: Duration,
}

/// The sink of calls that have none: their answers are kept in memory, and it is never asked.
struct NoSink;

impl AnswerSink for NoSink {
    async fn begin(&mut self, _: &Response) -> Result<u64, StepError> {
        Ok(0)
    }

    async fn piece(&mut self, _: &[u8]) -> Result<(), StepError> {
        Ok(())
    }
}

impl Http {
    /// Builds the client of one provider.
    ///
    /// # Errors
    /// The base needs TLS and the feature `live` is off, or the client cannot be set up.
    pub fn new(config: HttpConfig) -> Result<Self, ConfigError> {
        if config.base.needs_tls() && !cfg!(feature = "live") {
            return Err(ConfigError::TlsMissing);
        }
        // X2: an authenticated client follows nothing and obeys no environment.
        let client = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .user_agent(config.user_agent)
            .connect_timeout(config.connect_timeout)
            .read_timeout(config.idle_timeout)
            .build()
            .map_err(|_| ConfigError::Client)?;
        Ok(Self {
            client,
            base: config.base,
            provider: config.provider,
            bucket: config.bucket,
            body_bytes_max: config.body_bytes_max,
            call_timeout: config.call_timeout,
            refill: config.refill,
            unasked_pause: config.unasked_pause,
        })
    }

    /// Short name of the provider.
    #[must_use]
    pub fn provider(&self) -> &'static str {
        self.provider
    }

    /// Name of the bucket that calls count against.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket.bucket
    }

    /// Where the provider is reached.
    #[must_use]
    pub fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// Makes one call and reads the complete answer; any HTTP status is `Ok` here.
    ///
    /// What the answer says about limits goes to the shared bucket. Dropping the future cuts the
    /// call: whatever was sent may have landed.
    ///
    /// # Errors
    /// The request cannot be built (permanent, before anything is sent), the limiter says "wait",
    /// the connection could not be opened (`None`), or the answer did not come completely
    /// (`Unknown` for a mutating call).
    pub async fn send(
        &self,
        cx: &StepContext,
        call: Call,
        request: Request,
    ) -> Result<Response, StepError> {
        self.send_to(cx, call, request, None::<&mut NoSink>).await
    }

    async fn send_to(
        &self,
        cx: &StepContext,
        call: Call,
        request: Request,
        sink: Option<&mut impl AnswerSink>,
    ) -> Result<Response, StepError> {
        let call = match call.limit {
            Some(_) => call,
            None => call.with_limit(self.bucket.clone()),
        };
        let timeout = self.call_timeout.unwrap_or(call.timeout);
        let call = call.with_timeout(timeout);
        let bucket = call.limit.as_ref().map_or(self.bucket(), |limit| &limit.bucket).to_owned();
        let request = request.build(&self.base, cx, call.operation)?;
        let mut sent = false;
        let end = cx
            .call(&call, async {
                sent = true;
                self.exchange(cx, &call, request, sink).await
            })
            .await;
        match &end {
            Ok(response) => {
                cx.observe(&bucket, observed(response, self.refill, self.unasked_pause)).await;
            }
            Err(_) if sent => {
                cx.observe(&bucket, Observed { healthy: Some(false), ..Observed::default() }).await;
            }
            Err(_) => {}
        }
        end
    }

    /// As [`Self::send`], with a token that is opened right before.
    ///
    /// An answer that refuses the token had no effect. A token that was replaced meanwhile is
    /// tried once; any other repetition is the engine's.
    ///
    /// # Errors
    /// As [`Self::send`], or the token cannot be opened.
    pub async fn send_as(
        &self,
        cx: &StepContext,
        call: Call,
        request: Request,
        credential: Credential<'_>,
    ) -> Result<Response, StepError> {
        self.send_as_to(cx, call, request, (credential, None::<&mut NoSink>)).await
    }

    /// As [`Self::send_as`]; the body of a success goes to `sink`, and not to memory.
    ///
    /// # Errors
    /// As [`Self::send_as`], or the sink's own.
    pub async fn send_as_into(
        &self,
        cx: &StepContext,
        call: Call,
        request: Request,
        (credential, sink): (Credential<'_>, &mut impl AnswerSink),
    ) -> Result<Response, StepError> {
        self.send_as_to(cx, call, request, (credential, Some(sink))).await
    }

    async fn send_as_to(
        &self,
        cx: &StepContext,
        call: Call,
        request: Request,
        (credential, mut sink): (Credential<'_>, Option<&mut impl AnswerSink>),
    ) -> Result<Response, StepError> {
        let token = credential.open(cx).await?;
        let signed = credential.sign(request.clone(), &token);
        let answer = self.send_to(cx, call.clone(), signed, sink.as_deref_mut()).await?;
        if !credential.refusals.contains(&answer.status) {
            return Ok(answer);
        }
        let fresh = credential.open(cx).await?;
        if fresh.expose() == token.expose() {
            return Ok(answer);
        }
        self.send_to(cx, call, credential.sign(request, &fresh), sink).await
    }

    async fn exchange(
        &self,
        cx: &StepContext,
        call: &Call,
        request: reqwest::Request,
        sink: Option<&mut impl AnswerSink>,
    ) -> Result<Response, StepError> {
        let mut answer =
            self.client.execute(request).await.map_err(|error| transport(call, error))?;
        let headers: Headers = answer
            .headers()
            .iter()
            .map(|(name, value)| {
                let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.as_str().to_owned(), text)
            })
            .collect();
        if headers.get("content-encoding").is_some_and(|how| how != "identity") {
            return Err(unusable(call, "encoded_body", "the answer is encoded, unasked"));
        }
        let mut response = Response::new(answer.status().as_u16(), headers, call.kind, cx.now());
        let mut sink = sink.filter(|_| response.is_success());
        let most = match &mut sink {
            Some(sink) => sink.begin(&response).await?,
            None => u64::try_from(self.body_bytes_max).unwrap_or(u64::MAX),
        };
        if answer.content_length().is_some_and(|announced| announced > most) {
            return Err(too_large(call, most));
        }
        let mut taken: u64 = 0;
        while let Some(piece) = answer.chunk().await.map_err(|error| transport(call, error))? {
            // X6: counted as it comes, since an announced length may lie or be absent.
            taken = taken.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            if taken > most {
                return Err(too_large(call, most));
            }
            match &mut sink {
                Some(sink) => sink.piece(&piece).await?,
                None => response.body.extend_from_slice(&piece),
            }
        }
        Ok(response)
    }
}

fn too_large(call: &Call, most: u64) -> StepError {
    unusable(call, "body_too_large", format!("the answer is larger than {most} bytes"))
}

/// An answer began and cannot be used: a mutating call may have been carried out.
fn unusable(call: &Call, code: &'static str, message: impl Into<String>) -> StepError {
    StepError::new(effect_if_sent(call.kind), Verdict::Retry { after: None }, call.operation)
        .with_code(code)
        .with_message(message.into())
}

/// Classifies the end of a call that has no answer.
fn transport(call: &Call, error: reqwest::Error) -> StepError {
    // Errors of the client print the URL, and a query may hold what people call harmless.
    let error = error.without_url();
    let retry = Verdict::Retry { after: None };
    let (effect, verdict, code) = if error.is_builder() {
        (Effect::None, Verdict::Permanent, "bad_request")
    } else if error.is_connect() {
        // S9: the connection was never opened, which proves that no byte of the request left.
        (Effect::None, retry, "connect")
    } else if error.is_timeout() {
        (effect_if_sent(call.kind), retry, "timeout")
    } else {
        (effect_if_sent(call.kind), retry, "no_answer")
    };
    let message = match (code, call.kind) {
        ("connect", _) => "no connection",
        ("timeout", _) => "the answer stopped",
        ("bad_request", _) => "the request cannot be built",
        (_, CallKind::Mutate) => "sent, and the answer did not come completely",
        (_, CallKind::Read) => "the answer did not come completely",
    };
    StepError::new(effect, verdict, call.operation)
        .with_code(code)
        .with_message(message)
        .with_source(error)
}
