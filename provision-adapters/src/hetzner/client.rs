//! One method per endpoint of Hetzner Cloud's API, or per shape of endpoint where several kinds
//! share it. Facts: docs.hetzner.cloud and hcloud-go v2.47, read 2026-10.

use std::{sync::Arc, time::Duration};

use provision_core::{
    Call, StepContext, StepError,
    limit::{Profile, Rate},
};
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;

use super::{
    ACTIONS_SHOWN, CALLS_PER_HOUR, CONCURRENCY, PAGE_ITEMS, PAGES_MAX, REFILL,
    config::HetznerConfig,
    error::{correlation, is_definite_404, opinion},
    model::{Action, One, Page, PricingShown, Taken, Thing},
};
use crate::http::{
    ConfigError, Credential, Http, HttpConfig, Request, Response, classify, not_the_provider,
};

/// Selects everything that carries a mark of ours.
pub(crate) const ANY_MARK: &str = provision_core::mark::RUN_LABEL;

/// A project at Hetzner Cloud. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Hetzner {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: Http,
    config: HetznerConfig,
}

impl Hetzner {
    /// Builds the client; nothing is sent.
    ///
    /// # Errors
    /// The address needs TLS and the feature `live` is off, or the HTTP client cannot be set up.
    pub fn new(config: HetznerConfig) -> Result<Self, ConfigError> {
        let project = config.project.as_deref().unwrap_or("default");
        // Calls are counted per project, whatever token and machine they come from.
        let hour = Duration::from_secs(3_600);
        let rate = Rate { calls: CALLS_PER_HOUR, per: hour, burst: CALLS_PER_HOUR };
        let profile = Profile {
            bucket: format!("hetzner/{project}"),
            rate: Some(rate),
            concurrency: Some(CONCURRENCY.into()),
        };
        let http = HttpConfig::new("hetzner", config.base.clone(), profile)
            .with_call_timeout(config.call_timeout)
            .with_refill(REFILL);
        let http = Http::new(http)?;
        Ok(Self { inner: Arc::new(Inner { http, config }) })
    }

    pub(crate) fn account(&self) -> &str {
        self.inner.config.project.as_deref().unwrap_or("default")
    }

    async fn send(
        &self,
        cx: &StepContext,
        call: &Call,
        request: Request,
    ) -> Result<Response, StepError> {
        let Inner { http, config } = &*self.inner;
        http.send_as(cx, call.clone(), request, Credential::bearer(&config.token)).await
    }

    /// Sends, and turns every answer but a success into an error.
    async fn call<T: DeserializeOwned>(
        &self,
        cx: &StepContext,
        call: Call,
        request: Request,
    ) -> Result<T, StepError> {
        let response = self.send(cx, &call, request).await?;
        if !response.is_success() {
            return Err(self.refused(&call, &response));
        }
        response.json(call.operation)
    }

    /// As [`Self::call`], with `None` for a definite 404.
    async fn look<T: DeserializeOwned>(
        &self,
        cx: &StepContext,
        call: Call,
        request: Request,
    ) -> Result<Option<T>, StepError> {
        let response = self.send(cx, &call, request).await?;
        if is_definite_404(&response) {
            return Ok(None);
        }
        if !response.is_success() {
            return Err(self.refused(&call, &response));
        }
        response.json(call.operation).map(Some)
    }

    fn refused(&self, call: &Call, response: &Response) -> StepError {
        if response.status == 404 && !is_definite_404(response) {
            return not_the_provider(call);
        }
        let error = classify(call, response, self.inner.http.bucket(), |status, body| {
            opinion(call.kind, status, body)
        });
        match correlation(response) {
            Some(id) => {
                error.with_message(format!("HTTP {}, correlation id {id}", response.status))
            }
            None => error,
        }
    }

    /// GET /{kind}: all pages; a name or a selector may be given.
    pub(crate) async fn list<T: Thing>(
        &self,
        cx: &StepContext,
        operation: &'static str,
        filter: Option<(&str, &str)>,
    ) -> Result<Vec<T>, StepError> {
        let mut request = Request::get(&path(&[T::PATH])).query("per_page", PAGE_ITEMS.to_string());
        if let Some((name, value)) = filter {
            request = request.query(name, value);
        }
        let (mut all, mut number) = (Vec::new(), 1);
        for _ in 0..PAGES_MAX {
            let page = request.clone().query("page", number.to_string());
            let page: Page<T> = self.call(cx, Call::read(operation), page).await?;
            all.extend(page.all);
            match page.meta.pagination.map(|page| page.next_page) {
                Some(Some(next)) if next > number => number = next,
                Some(None) => return Ok(all),
                // An answer that does not say whether it is the last page says nothing of the end.
                Some(Some(_)) | None => break,
            }
        }
        // Half a listing proves nothing about what is absent.
        Err(StepError::retry(operation)
            .with_code("endless_listing")
            .with_message("the pages of the listing do not come to an end"))
    }

    /// GET /{kind}?name=: names are unique in a project and compared as a whole.
    pub(crate) async fn by_name<T: Thing>(
        &self,
        cx: &StepContext,
        name: &str,
    ) -> Result<Option<T>, StepError> {
        let listed: Vec<T> = self.list(cx, T::FIND, Some(("name", name))).await?;
        Ok(listed.into_iter().find(|thing| thing.head().name == name))
    }

    /// GET /{kind}/{id}.
    pub(crate) async fn by_id<T: Thing>(
        &self,
        cx: &StepContext,
        id: u64,
    ) -> Result<Option<T>, StepError> {
        let request = Request::get(&path(&[T::PATH, &id.to_string()]));
        let found: Option<One<T>> = self.look(cx, Call::read(T::FIND), request).await?;
        Ok(found.map(|found| found.one))
    }

    /// POST /{kind}: 201; 409 `uniqueness_error` when the name is taken. Of the answer only the
    /// thing itself is read: what it may hold besides, a root password, goes with the bytes.
    pub(crate) async fn create<T: Thing>(
        &self,
        cx: &StepContext,
        body: &(impl Serialize + Sync),
    ) -> Result<T, StepError> {
        let request = Request::post(&path(&[T::PATH])).json(body);
        let made: One<T> = self.call(cx, Call::mutate(T::CREATE), request).await?;
        Ok(made.one)
    }

    /// DELETE /{kind}/{id}: 204, or 200 with an action; false when a definite 404 says that it is
    /// gone. A page with status 200 proves nothing.
    pub(crate) async fn delete<T: Thing>(
        &self,
        cx: &StepContext,
        id: u64,
    ) -> Result<bool, StepError> {
        let call = Call::mutate(T::DELETE);
        let request = Request::delete(&path(&[T::PATH, &id.to_string()]));
        let response = self.send(cx, &call, request).await?;
        match response.status {
            204 => Ok(true),
            404 if is_definite_404(&response) => Ok(false),
            200..=299 => response.json::<IgnoredAny>(call.operation).map(|_| true),
            _ => Err(self.refused(&call, &response)),
        }
    }

    /// POST /{kind}/{id}/actions/{command}: 201 with what is now under way. `None` when the thing
    /// is gone.
    pub(crate) async fn act<T: Thing>(
        &self,
        cx: &StepContext,
        (operation, command): (&'static str, &str),
        id: u64,
        body: Option<&Value>,
    ) -> Result<Option<Taken>, StepError> {
        let request = Request::post(&path(&[T::PATH, &id.to_string(), "actions", command]));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        self.look(cx, Call::mutate(operation), request).await
    }

    /// GET /pricing: what everything costs.
    pub(crate) async fn pricing(&self, cx: &StepContext) -> Result<PricingShown, StepError> {
        let request = Request::get(&path(&["pricing"]));
        let shown: One<PricingShown> = self.call(cx, Call::read("read prices"), request).await?;
        Ok(shown.one)
    }

    /// GET /actions/{id}.
    pub(crate) async fn action(
        &self,
        cx: &StepContext,
        id: u64,
    ) -> Result<Option<Action>, StepError> {
        let request = Request::get(&path(&["actions", &id.to_string()]));
        let found: Option<Taken> = self.look(cx, Call::read("look at action"), request).await?;
        Ok(found.and_then(|found| found.action))
    }

    /// GET /servers/{id}/actions: the latest ones first; empty when the server is gone.
    pub(crate) async fn server_actions(
        &self,
        cx: &StepContext,
        id: u64,
    ) -> Result<Vec<Action>, StepError> {
        let request = Request::get(&path(&["servers", &id.to_string(), "actions"]))
            .query("sort", "id:desc")
            .query("per_page", ACTIONS_SHOWN.to_string());
        let page: Option<Page<Action>> =
            self.look(cx, Call::read("look at actions"), request).await?;
        let mut actions = page.map(|page| page.all).unwrap_or_default();
        actions.sort_by_key(|action| std::cmp::Reverse(action.id));
        Ok(actions)
    }
}

fn path<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    std::iter::once("v1").chain(rest.iter().copied()).collect()
}
