//! One method per endpoint of Resend's API. Facts: resend.com/docs (send email, idempotency keys,
//! errors, usage limits) and the OpenAPI document 1.5.0 of resend/resend-openapi, read 2026-11-22.

use std::{sync::Arc, time::Duration};

use provision_core::{
    Call, StepContext, StepError,
    limit::{Profile, Rate},
};

use super::{
    CONCURRENCY,
    config::ResendConfig,
    error::opinion,
    model::{EmailAccepted, NewEmail},
};
use crate::http::{ConfigError, Credential, Http, HttpConfig, Request, classify};

/// Name of the only call.
pub(crate) const SEND: &str = "send mail";
/// Header of the key under which the provider sends a mail once.
const KEY_HEADER: &str = "idempotency-key";

/// A Resend account. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Resend {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: Http,
    config: ResendConfig,
}

impl Resend {
    /// Builds the client; nothing is sent.
    ///
    /// # Errors
    /// An address needs TLS and the feature `live` is off, or the HTTP client cannot be set up.
    pub fn new(config: ResendConfig) -> Result<Self, ConfigError> {
        let account = config.account.as_deref().unwrap_or("default");
        // One at a time: with a burst, a second could hold more calls than are allowed in it.
        let rate = Rate { calls: config.calls_per_second, per: Duration::from_secs(1), burst: 1 };
        let bucket = Profile {
            bucket: format!("resend/{account}"),
            rate: Some(rate),
            concurrency: Some(CONCURRENCY.into()),
        };
        let http = Http::new(
            HttpConfig::new("resend", config.base.clone(), bucket)
                .with_call_timeout(config.call_timeout),
        )?;
        Ok(Self { inner: Arc::new(Inner { http, config }) })
    }

    /// POST /emails: 200 with the mail's id; the same again for the same key and body, for 24 h.
    /// 409 for another body under that key, and while an earlier request under it is under way.
    pub(crate) async fn send_email(
        &self,
        cx: &StepContext,
        key: &str,
        email: &NewEmail<'_>,
    ) -> Result<EmailAccepted, StepError> {
        let Inner { http, config } = &*self.inner;
        let call = Call::mutate(SEND);
        let request = Request::post(&["emails"]).header(KEY_HEADER, key).json(email);
        // A wrong key is 403 here; 401 is one that is missing or may do less.
        let credential = Credential::bearer(&config.key).refused_by(&[401, 403]);
        let answer = http.send_as(cx, call.clone(), request, credential).await?;
        if !answer.is_success() {
            return Err(classify(&call, &answer, http.bucket(), opinion));
        }
        answer.json(SEND)
    }
}
