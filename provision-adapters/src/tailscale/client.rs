//! One method per endpoint of Tailscale's API v2. Facts: the OpenAPI document of
//! api.tailscale.com, tailscale-client-go-v2 and terraform-provider-tailscale, read 2026-11-21.
//! Nothing there is paged.

use std::{sync::Arc, time::Duration};

use provision_core::{
    Call, StepContext, StepError,
    limit::{Profile, Rate},
};
use serde::de::IgnoredAny;

use super::{
    CALLS_PER_SECOND, CONCURRENCY,
    config::TailscaleConfig,
    error::{CREATE_KEY, DELETE_DEVICE, RENAME_DEVICE, is_definite_404, opinion},
    model::{CreatedKey, Device, Devices, Keys, ListedKey, NewKey, NewName},
    token::token,
};
use crate::http::{
    ConfigError, Http, HttpConfig, MintedTokens, Request, Response, classify, not_the_provider,
};

/// A tailnet, asked by one OAuth client. Cheap to clone; clones share connections and token.
#[derive(Debug, Clone)]
pub struct Tailscale {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: Http,
    config: TailscaleConfig,
    tokens: MintedTokens,
}

impl Tailscale {
    /// Builds the client; nothing is sent.
    ///
    /// # Errors
    /// An address needs TLS and the feature `live` is off, or the HTTP client cannot be set up.
    pub fn new(config: TailscaleConfig) -> Result<Self, ConfigError> {
        let account = config.account().unwrap_or("default");
        let bucket = Profile {
            bucket: format!("tailscale/{account}"),
            rate: Some(Rate {
                calls: CALLS_PER_SECOND,
                per: Duration::from_secs(1),
                burst: CALLS_PER_SECOND,
            }),
            concurrency: Some(CONCURRENCY.into()),
        };
        let http = Http::new(
            HttpConfig::new("tailscale", config.base.clone(), bucket)
                .with_call_timeout(config.call_timeout),
        )?;
        Ok(Self { inner: Arc::new(Inner { http, config, tokens: MintedTokens::default() }) })
    }

    pub(crate) fn account(&self) -> &str {
        self.inner.config.account().unwrap_or("default")
    }

    fn tailnet<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        let root = ["api", "v2", "tailnet", self.inner.config.tailnet.as_str()];
        root.iter().chain(rest).copied().collect()
    }

    /// Sends with an access token; one that is refused had no effect and is replaced once.
    async fn send(
        &self,
        cx: &StepContext,
        call: &Call,
        request: Request,
    ) -> Result<Response, StepError> {
        let Inner { http, config, tokens } = &*self.inner;
        let current = token(tokens, (http, config), cx, None).await?;
        let answer = http.send(cx, call.clone(), request.clone().bearer(&current)).await?;
        if answer.status != 401 {
            return Ok(answer);
        }
        let fresh = token(tokens, (http, config), cx, Some(&current)).await?;
        http.send(cx, call.clone(), request.bearer(&fresh)).await
    }

    fn refused(&self, call: &Call, response: &Response) -> StepError {
        if response.status == 404 && !is_definite_404(response) {
            return not_the_provider(call);
        }
        classify(call, response, self.inner.http.bucket(), |status, body| {
            opinion(call.operation, status, body)
        })
    }

    /// Sends, and turns every answer but a success into an error.
    async fn call(
        &self,
        cx: &StepContext,
        call: Call,
        request: Request,
    ) -> Result<Response, StepError> {
        let response = self.send(cx, &call, request).await?;
        if response.is_success() { Ok(response) } else { Err(self.refused(&call, &response)) }
    }

    /// As [`Self::call`], with `None` for a definite 404.
    async fn look(
        &self,
        cx: &StepContext,
        call: Call,
        request: Request,
    ) -> Result<Option<Response>, StepError> {
        let response = self.send(cx, &call, request).await?;
        if is_definite_404(&response) {
            return Ok(None);
        }
        if response.is_success() { Ok(Some(response)) } else { Err(self.refused(&call, &response)) }
    }

    /// Deletes; a definite 404 is done.
    async fn remove(
        &self,
        cx: &StepContext,
        operation: &'static str,
        request: Request,
    ) -> Result<(), StepError> {
        match self.look(cx, Call::mutate(operation), request).await? {
            None => Ok(()),
            Some(response) => plain(operation, &response),
        }
    }

    /// POST /tailnet/{t}/keys: 200. The same call twice makes two keys.
    pub(crate) async fn create_key(
        &self,
        cx: &StepContext,
        key: &NewKey<'_>,
    ) -> Result<CreatedKey, StepError> {
        let request = Request::post(&self.tailnet(&["keys"])).json(key);
        self.call(cx, Call::mutate(CREATE_KEY), request).await?.json(CREATE_KEY)
    }

    /// GET /tailnet/{t}/keys?all=true: without `all`, an OAuth client sees no auth keys.
    pub(crate) async fn keys(&self, cx: &StepContext) -> Result<Vec<ListedKey>, StepError> {
        let request = Request::get(&self.tailnet(&["keys"])).query("all", "true");
        let response = self.call(cx, Call::read("list keys"), request).await?;
        response.json::<Keys>("list keys").map(|list| list.keys)
    }

    /// DELETE /tailnet/{t}/keys/{id}: 200; 404 is done, also for a used one.
    pub(crate) async fn delete_key(&self, cx: &StepContext, id: &str) -> Result<(), StepError> {
        let request = Request::delete(&self.tailnet(&["keys", id]));
        self.remove(cx, "delete auth key", request).await
    }

    /// GET /tailnet/{t}/devices, all or those of a host name; the provider compares it exactly.
    pub(crate) async fn devices(
        &self,
        cx: &StepContext,
        hostname: Option<&str>,
    ) -> Result<Vec<Device>, StepError> {
        let request = Request::get(&self.tailnet(&["devices"]));
        let request = match hostname {
            Some(hostname) => request.query("hostname", hostname),
            None => request,
        };
        let response = self.call(cx, Call::read("list devices"), request).await?;
        let mut devices = response.json::<Devices>("list devices")?.devices;
        // A filter that is not obeyed must never make devices of others ours.
        devices.retain(|device| hostname.is_none_or(|wanted| device.hostname == wanted));
        Ok(devices)
    }

    /// GET /device/{id}: `None` when it is gone.
    pub(crate) async fn device(
        &self,
        cx: &StepContext,
        id: &str,
    ) -> Result<Option<Device>, StepError> {
        let request = Request::get(&["api", "v2", "device", id]);
        let found = self.look(cx, Call::read("read device"), request).await?;
        found.map(|response| response.json("read device")).transpose()
    }

    /// DELETE /device/{id}: 200; 404 is done.
    pub(crate) async fn delete_device(&self, cx: &StepContext, id: &str) -> Result<(), StepError> {
        self.remove(cx, DELETE_DEVICE, Request::delete(&["api", "v2", "device", id])).await
    }

    /// POST /device/{id}/name: 200; the same name again changes nothing.
    pub(crate) async fn rename_device(
        &self,
        cx: &StepContext,
        id: &str,
        name: &str,
    ) -> Result<(), StepError> {
        let request = Request::post(&["api", "v2", "device", id, "name"]).json(&NewName { name });
        let response = self.call(cx, Call::mutate(RENAME_DEVICE), request).await?;
        plain(RENAME_DEVICE, &response)
    }
}

/// A success that has nothing to say; a page with status 200 proves nothing.
fn plain(operation: &'static str, response: &Response) -> Result<(), StepError> {
    if response.body.is_empty() {
        return Ok(());
    }
    response.json::<IgnoredAny>(operation).map(drop)
}
