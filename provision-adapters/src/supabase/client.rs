//! One method per endpoint of the Management API v1. Facts: the provider's OpenAPI document of
//! 2026-06-01 and answers recorded in its command line's tests, read 2026-08-21.

use std::{sync::Arc, time::Duration};

use provision_core::{
    Call, CallKind, Secret, StepContext, StepError,
    limit::{Concurrency, Profile, Rate},
};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value};

use super::{
    CALLS_BURST, CALLS_PER_MINUTE, CONCURRENCY, CREATE_TIMEOUT, PAGE_ITEMS, PAGES_MAX,
    QUERY_TIMEOUT, REGION_GROUPS,
    config::SupabaseConfig,
    error::{Endpoint, is_transient, opinion, sqlstate},
    model::{ApiKey, ProjectShown, ProjectsPage, RegionsShown, ServiceHealth},
    verify::{Answer, Row},
};
use crate::http::{ConfigError, Credential, Http, HttpConfig, Request, Response, classify};

/// Supabase on behalf of one organization. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Supabase {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: Http,
    config: SupabaseConfig,
}

/// What a create sends besides the name.
pub(crate) struct NewProject<'a> {
    pub(crate) name: &'a str,
    pub(crate) region: &'a str,
    pub(crate) instance_size: Option<&'a str>,
    pub(crate) password: &'a Secret,
}

impl Supabase {
    /// Builds the client; nothing is sent.
    ///
    /// # Errors
    /// The address needs TLS and the feature `live` is off, the HTTP client cannot be set up, or
    /// the organization's slug cannot be one.
    pub fn new(config: SupabaseConfig) -> Result<Self, ConfigError> {
        let slug = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if config.organization.is_empty() || !config.organization.chars().all(slug) {
            let reason = "a slug has letters, digits, `-` and `_` only";
            return Err(ConfigError::Option { option: "organization", reason });
        }
        if !config.project_url.contains("{ref}") {
            let reason = "it must hold `{ref}`";
            return Err(ConfigError::Option { option: "project_url", reason });
        }
        let bucket = Profile {
            bucket: format!("supabase/{}", config.organization),
            rate: None,
            concurrency: Some(CONCURRENCY.into()),
        };
        let http = Http::new(
            HttpConfig::new("supabase", config.base.clone(), bucket)
                .with_call_timeout(config.call_timeout),
        )?;
        Ok(Self { inner: Arc::new(Inner { http, config }) })
    }

    pub(crate) fn config(&self) -> &SupabaseConfig {
        &self.inner.config
    }

    /// Where the project's own APIs are.
    pub(crate) fn project_url(&self, id: &str) -> String {
        self.inner.config.project_url.replace("{ref}", id)
    }

    /// The limit the provider has for this endpoint of this project or organization.
    fn limit(&self, endpoint: Endpoint, scope: &str) -> Profile {
        let organization = &self.inner.config.organization;
        let (calls, burst) = (CALLS_PER_MINUTE, CALLS_BURST);
        // How many projects may be made at the same time is written nowhere.
        let concurrency = match endpoint {
            Endpoint::Create => Concurrency::Adaptive(CONCURRENCY),
            _ => Concurrency::AtMost(CONCURRENCY),
        };
        Profile {
            bucket: format!("supabase/{organization}/{}/{scope}", endpoint.name()),
            rate: Some(Rate { calls, per: Duration::from_secs(60), burst }),
            concurrency: Some(concurrency),
        }
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

    fn refused(&self, endpoint: Endpoint, call: &Call, response: &Response) -> StepError {
        let bucket = call.limit.as_ref().map_or(self.inner.http.bucket(), |limit| &limit.bucket);
        classify(call, response, bucket, |status, body| opinion(endpoint, status, body))
    }

    async fn call<T: DeserializeOwned>(
        &self,
        cx: &StepContext,
        (endpoint, scope): (Endpoint, &str),
        call: Call,
        request: Request,
    ) -> Result<T, StepError> {
        let call = call.with_limit(self.limit(endpoint, scope));
        let response = self.send(cx, &call, request).await?;
        if !response.is_success() {
            return Err(self.refused(endpoint, &call, &response));
        }
        response.json(call.operation)
    }

    /// As [`Self::call`], with `None` for a definite 404.
    async fn look<T: DeserializeOwned>(
        &self,
        cx: &StepContext,
        (endpoint, scope): (Endpoint, &str),
        call: Call,
        request: Request,
    ) -> Result<Option<T>, StepError> {
        let call = call.with_limit(self.limit(endpoint, scope));
        let response = self.send(cx, &call, request).await?;
        // Proxies answer 404 with pages of their own; the provider's own is JSON.
        if response.status == 404 && response.json::<IgnoredAny>(call.operation).is_ok() {
            return Ok(None);
        }
        if !response.is_success() {
            return Err(self.refused(endpoint, &call, &response));
        }
        response.json(call.operation).map(Some)
    }

    /// GET /v1/organizations/{slug}: whether the token sees the organization.
    pub(crate) async fn organization(&self, cx: &StepContext) -> Result<(), StepError> {
        let slug = &self.inner.config.organization;
        let request = Request::get(&["v1", "organizations", slug]);
        let at = (Endpoint::Organization, slug.as_str());
        self.call::<IgnoredAny>(cx, at, Call::read("read organization"), request).await.map(drop)
    }

    /// GET /v1/organizations/{slug}/projects, all pages: every project whose name contains
    /// `search`, branches left out.
    pub(crate) async fn projects(
        &self,
        cx: &StepContext,
        search: &str,
    ) -> Result<Vec<ProjectShown>, StepError> {
        let slug = &self.inner.config.organization;
        let mut all: Vec<ProjectShown> = Vec::new();
        let mut offset = 0;
        for _ in 0..PAGES_MAX {
            let request = Request::get(&["v1", "organizations", slug, "projects"])
                .query("limit", PAGE_ITEMS.to_string())
                .query("offset", offset.to_string())
                .query("search", search)
                .query("sort", "created_asc");
            let at = (Endpoint::Projects, slug.as_str());
            let page: ProjectsPage =
                self.call(cx, at, Call::read("list projects"), request).await?;
            let items = page.projects.len();
            offset += items;
            all.extend(page.projects.into_iter().filter(|project| !project.is_branch));
            if items == 0 || offset >= page.pagination.count {
                return Ok(all);
            }
        }
        // Half a listing proves nothing about what is absent.
        Err(StepError::retry("list projects")
            .with_code("endless_listing")
            .with_message("the pages of the listing do not end"))
    }

    /// POST /v1/projects: 201 with the id; names are not unique, keys are not in the answer.
    pub(crate) async fn create_project(
        &self,
        cx: &StepContext,
        project: &NewProject<'_>,
    ) -> Result<ProjectShown, StepError> {
        let slug = &self.inner.config.organization;
        let kind = if REGION_GROUPS.contains(&project.region) { "smartGroup" } else { "specific" };
        let mut body = serde_json::json!({
            "name": project.name,
            "organization_slug": slug,
            "db_pass": project.password.expose(),
            "region_selection": { "type": kind, "code": project.region },
        });
        if let (Some(size), Some(body)) = (project.instance_size, body.as_object_mut()) {
            body.insert("desired_instance_size".to_owned(), Value::from(size));
        }
        let request = Request::post(&["v1", "projects"]).json(&body);
        let call = Call::mutate("create project").with_timeout(CREATE_TIMEOUT);
        self.call(cx, (Endpoint::Create, slug), call, request).await
    }

    /// GET /v1/projects/{ref}.
    pub(crate) async fn project(
        &self,
        cx: &StepContext,
        id: &str,
    ) -> Result<Option<ProjectShown>, StepError> {
        let request = Request::get(&["v1", "projects", id]);
        self.look(cx, (Endpoint::Project, id), Call::read("read project"), request).await
    }

    /// DELETE /v1/projects/{ref}: 200 at once, the rest follows; 404 is done.
    pub(crate) async fn delete_project(&self, cx: &StepContext, id: &str) -> Result<(), StepError> {
        let request = Request::delete(&["v1", "projects", id]);
        let call = Call::mutate("delete project");
        self.look::<IgnoredAny>(cx, (Endpoint::Delete, id), call, request).await.map(drop)
    }

    /// GET /v1/projects/{ref}/health: `services` is repeated, the comma form is refused.
    pub(crate) async fn health(
        &self,
        cx: &StepContext,
        id: &str,
        services: &[&'static str],
    ) -> Result<Vec<ServiceHealth>, StepError> {
        let request = Request::get(&["v1", "projects", id, "health"]);
        let request = services.iter().fold(request, |r, service| r.query("services", *service));
        self.call(cx, (Endpoint::Health, id), Call::read("read health"), request).await
    }

    /// GET /v1/projects/{ref}/api-keys?reveal=true.
    pub(crate) async fn api_keys(
        &self,
        cx: &StepContext,
        id: &str,
    ) -> Result<Vec<ApiKey>, StepError> {
        let request = Request::get(&["v1", "projects", id, "api-keys"]).query("reveal", "true");
        self.call(cx, (Endpoint::Keys, id), Call::read("read api keys"), request).await
    }

    /// GET /v1/projects/available-regions: codes with room for the organization.
    pub(crate) async fn regions(&self, cx: &StepContext) -> Result<Vec<String>, StepError> {
        let slug = &self.inner.config.organization;
        let request = Request::get(&["v1", "projects", "available-regions"])
            .query("organization_slug", slug.as_str());
        let shown: RegionsShown =
            self.call(cx, (Endpoint::Regions, slug), Call::read("list regions"), request).await?;
        let roomy = shown.all.specific.into_iter().filter(|r| r.status.is_none());
        Ok(roomy.map(|region| region.code).collect())
    }

    /// POST /v1/projects/{ref}/database/query: 201 with the rows of the last statement that has
    /// any. `call` says whether the batch changes something.
    pub(crate) async fn query(
        &self,
        cx: &StepContext,
        id: &str,
        call: Call,
        sql: &str,
    ) -> Result<Answer, StepError> {
        let call = call.with_timeout(QUERY_TIMEOUT).with_limit(self.limit(Endpoint::Query, id));
        let request = Request::post(&["v1", "projects", id, "database", "query"])
            .json(&serde_json::json!({ "query": sql }));
        let response = self.send(cx, &call, request).await?;
        if response.is_success() {
            let rows: Vec<Map<String, Value>> = response.json(call.operation)?;
            return Ok(Answer::Rows(rows.into_iter().map(row).collect()));
        }
        match sqlstate(&response.body).filter(|_| matches!(response.status, 400 | 500)) {
            Some(state) if is_transient(&state) => Err(transient(&call, &state)),
            Some(sqlstate) => Ok(Answer::Refused { sqlstate }),
            None => Err(self.refused(Endpoint::Query, &call, &response)),
        }
    }
}

fn transient(call: &Call, state: &str) -> StepError {
    let error = match call.kind {
        CallKind::Read => StepError::retry(call.operation),
        // A lost connection may have lost the answer to a commit.
        CallKind::Mutate => StepError::unknown(call.operation),
    };
    let message = format!("the database answered SQLSTATE {state}");
    error.with_code("database_busy").with_message(message)
}

/// Every value as text: numbers come as numbers or as text, by their size.
fn row(row: Map<String, Value>) -> Row {
    row.into_iter()
        .map(|(name, value)| {
            let value = match value {
                Value::Null => None,
                Value::String(text) => Some(text),
                other => Some(other.to_string()),
            };
            (name, value)
        })
        .collect()
}
