//! One method per endpoint of n8n's public API 1.1.1. Facts: measured on n8n 2.8.4 and read from
//! the OpenAPI document in npm n8n 2.41.3, 2026-11-21.

use std::sync::Arc;

use provision_core::{Call, StepContext, StepError, limit::Profile};
use serde::de::{DeserializeOwned, IgnoredAny};

use super::{
    CONCURRENCY, PAGE_ITEMS, PAGES_MAX,
    config::N8nConfig,
    error::{Registered, is_definite_404, opinion, registered},
    model::{CredentialShown, NewCredential, NewWorkflow, Page, WorkflowShown},
};
use crate::http::{ConfigError, Credential, Http, HttpConfig, Request, Response, classify};

const KEY_HEADER: &str = "x-n8n-api-key";
const ROOT: [&str; 2] = ["api", "v1"];

/// An n8n instance. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct N8n {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: Http,
    webhooks: Http,
    config: N8nConfig,
}

impl N8n {
    /// Builds the client; nothing is sent.
    ///
    /// # Errors
    /// An address needs TLS and the feature `live` is off, or the HTTP client cannot be set up.
    pub fn new(config: N8nConfig) -> Result<Self, ConfigError> {
        let account = config.account.as_deref().unwrap_or("default");
        let bucket = |class: &str| Profile {
            bucket: format!("n8n/{account}/{class}"),
            rate: None,
            concurrency: Some(CONCURRENCY.into()),
        };
        let http = Http::new(
            HttpConfig::new("n8n", config.base.clone(), bucket("api"))
                .with_call_timeout(config.call_timeout),
        )?;
        // Webhooks are asked by a client of its own, which never holds the key.
        let hooks = HttpConfig::new("n8n", config.webhooks.clone(), bucket("webhooks"))
            .with_body_bytes_max(1 << 20)
            .with_call_timeout(config.call_timeout);
        let webhooks = Http::new(hooks)?;
        Ok(Self { inner: Arc::new(Inner { http, webhooks, config }) })
    }

    pub(crate) fn account(&self) -> &str {
        self.inner.config.account.as_deref().unwrap_or("default")
    }

    /// Root of the webhooks, without a final slash.
    pub(crate) fn webhook_root(&self) -> String {
        format!("{}/webhook", self.inner.config.webhooks.as_str())
    }

    async fn send(
        &self,
        cx: &StepContext,
        call: &Call,
        request: Request,
    ) -> Result<Response, StepError> {
        let Inner { http, config, .. } = &*self.inner;
        let credential = Credential::header(KEY_HEADER, &config.key);
        http.send_as(cx, call.clone(), request, credential).await
    }

    fn refused(&self, call: &Call, response: &Response) -> StepError {
        classify(call, response, self.inner.http.bucket(), opinion)
    }

    /// Sends and reads the answer; anything but a success with the right JSON is an error.
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
        // A page answered with 200, as while n8n starts, is no success.
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

    /// Reads all pages of a listing.
    async fn list<T: DeserializeOwned>(
        &self,
        cx: &StepContext,
        operation: &'static str,
        request: Request,
    ) -> Result<Vec<T>, StepError> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let page = request.clone().query("limit", PAGE_ITEMS.to_string());
            let page = match cursor.take() {
                Some(cursor) => page.query("cursor", cursor),
                None => page,
            };
            let page: Page<T> = self.call(cx, Call::read(operation), page).await?;
            all.extend(page.data);
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(all),
            }
        }
        // Half a listing proves nothing about what is absent.
        Err(StepError::retry(operation)
            .with_code("endless_listing")
            .with_message("the pages of the listing do not end"))
    }

    /// POST /workflows: 200 (not 201), always inactive.
    pub(crate) async fn create_workflow(
        &self,
        cx: &StepContext,
        workflow: &NewWorkflow<'_>,
    ) -> Result<WorkflowShown, StepError> {
        let request = Request::post(&path(&["workflows"])).json(workflow);
        self.call(cx, Call::mutate("create workflow"), request).await
    }

    /// GET /workflows?name=: all whose name contains `part`.
    pub(crate) async fn workflows(
        &self,
        cx: &StepContext,
        part: &str,
    ) -> Result<Vec<WorkflowShown>, StepError> {
        let request = Request::get(&path(&["workflows"]))
            .query("name", part)
            .query("excludePinnedData", "true");
        self.list(cx, "list workflows", request).await
    }

    /// GET /workflows/{id}.
    pub(crate) async fn workflow(
        &self,
        cx: &StepContext,
        id: &str,
    ) -> Result<Option<WorkflowShown>, StepError> {
        let request = Request::get(&path(&["workflows", id]));
        self.look(cx, Call::read("read workflow"), request).await
    }

    /// PUT /workflows/{id}: 200; the whole content, live at once where the workflow is active.
    pub(crate) async fn replace_workflow(
        &self,
        cx: &StepContext,
        id: &str,
        workflow: &NewWorkflow<'_>,
    ) -> Result<WorkflowShown, StepError> {
        let request = Request::put(&path(&["workflows", id])).json(workflow);
        self.call(cx, Call::mutate("replace workflow"), request).await
    }

    /// DELETE /workflows/{id}: 200, also while active; 404 is done.
    pub(crate) async fn delete_workflow(
        &self,
        cx: &StepContext,
        id: &str,
    ) -> Result<(), StepError> {
        let request = Request::delete(&path(&["workflows", id]));
        self.look::<IgnoredAny>(cx, Call::mutate("delete workflow"), request).await.map(drop)
    }

    /// POST /workflows/{id}/activate: 200, also when active. Newer releases call it publish.
    pub(crate) async fn activate(
        &self,
        cx: &StepContext,
        id: &str,
    ) -> Result<WorkflowShown, StepError> {
        let call = Call::mutate("activate workflow");
        let empty = serde_json::json!({});
        let request = Request::post(&path(&["workflows", id, "activate"])).json(&empty);
        let response = self.send(cx, &call, request).await?;
        let response = if matches!(response.status, 404 | 405) {
            let request = Request::post(&path(&["workflows", id, "publish"])).json(&empty);
            self.send(cx, &call, request).await?
        } else {
            response
        };
        if !response.is_success() {
            return Err(self.refused(&call, &response));
        }
        response.json(call.operation)
    }

    /// POST /workflows/{id}/deactivate: 200, also when inactive; `None` when it is gone.
    pub(crate) async fn deactivate(
        &self,
        cx: &StepContext,
        id: &str,
    ) -> Result<Option<WorkflowShown>, StepError> {
        let call = Call::mutate("deactivate workflow");
        let request = Request::post(&path(&["workflows", id, "deactivate"]));
        self.look(cx, call, request).await
    }

    /// POST /credentials: 200, without the data.
    pub(crate) async fn create_credential(
        &self,
        cx: &StepContext,
        credential: &NewCredential<'_>,
    ) -> Result<CredentialShown, StepError> {
        let request = Request::post(&path(&["credentials"])).json(credential);
        self.call(cx, Call::mutate("create credential"), request).await
    }

    /// GET /credentials: all, without their data. There is no filter.
    pub(crate) async fn credentials(
        &self,
        cx: &StepContext,
    ) -> Result<Vec<CredentialShown>, StepError> {
        self.list(cx, "list credentials", Request::get(&path(&["credentials"]))).await
    }

    /// DELETE /credentials/{id}: 200; 404 is done.
    pub(crate) async fn delete_credential(
        &self,
        cx: &StepContext,
        id: &str,
    ) -> Result<(), StepError> {
        let request = Request::delete(&path(&["credentials", id]));
        self.look::<IgnoredAny>(cx, Call::mutate("delete credential"), request).await.map(drop)
    }

    /// Asks a webhook with a method that is not its own, which starts nothing.
    pub(crate) async fn probe(
        &self,
        cx: &StepContext,
        method: &str,
        segments: &[&str],
    ) -> Result<Registered, StepError> {
        let call = Call::read("probe webhook");
        let all: Vec<&str> = std::iter::once("webhook").chain(segments.iter().copied()).collect();
        let request = if method == "GET" { Request::post(&all) } else { Request::get(&all) };
        let response = self.inner.webhooks.send(cx, call.clone(), request).await?;
        match response.status {
            404 => Ok(registered(&response)),
            200..=299 => Ok(Registered::Unclear),
            _ => Err(classify(&call, &response, self.inner.webhooks.bucket(), opinion)),
        }
    }
}

fn path<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    ROOT.iter().chain(rest).copied().collect()
}
