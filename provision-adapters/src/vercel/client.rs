//! One method per endpoint of Vercel's API. Facts: vercel.com/docs/rest-api and the pruned
//! OpenAPI document of 2025-10-27, read 2026-11-21.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use provision_core::{Call, CallKind, StepContext, StepError, limit::Profile};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{
    CONCURRENCY, PAGE_ITEMS, PAGES_MAX,
    config::VercelConfig,
    error::{
        ADD_DOMAIN, CREATE_PROJECT, DELETE_PROJECT, SET_VARIABLES, is_definite_404, opinion,
        refused_variables,
    },
    model::{
        Deployment, Deployments, Domain, DomainConfig, ListedDeployment, NewDeployment, NewDomain,
        NewProject, NewVariable, Pagination, Project, Projects, Variable, Variables,
        VariablesCreated,
    },
};
use crate::http::{
    BaseUrl, ConfigError, Credential, Http, HttpConfig, Request, Response, classify,
    not_the_provider,
};

/// Longest time for one mutating call; a create with a linked repository is slow.
const MUTATE_TIMEOUT: Duration = Duration::from_secs(60);

/// A Vercel account or team. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Vercel {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: Http,
    edge: Option<Http>,
    config: VercelConfig,
}

impl Vercel {
    /// Builds the client; nothing is sent.
    ///
    /// # Errors
    /// An address needs TLS and the feature `live` is off, or the HTTP client cannot be set up.
    pub fn new(config: VercelConfig) -> Result<Self, ConfigError> {
        let account = config.account().unwrap_or("default").to_owned();
        let timeout = config.call_timeout;
        let bucket = profile(&format!("vercel/{account}"));
        let http = HttpConfig::new("vercel", config.base.clone(), bucket);
        let http = Http::new(http.with_call_timeout(timeout))?;
        let edge = config.edge.clone().map(|edge| edge_http(edge, timeout)).transpose()?;
        Ok(Self { inner: Arc::new(Inner { http, edge, config }) })
    }

    pub(crate) fn account(&self) -> &str {
        self.inner.config.account().unwrap_or("default")
    }

    pub(crate) fn probe_grace(&self) -> Duration {
        self.inner.config.probe_grace
    }

    /// Sends with token and team. Limits are per endpoint, so each operation has its own bucket.
    async fn send(
        &self,
        cx: &StepContext,
        call: Call,
        request: Request,
    ) -> Result<Response, StepError> {
        let Inner { http, config, .. } = &*self.inner;
        let call = match call.kind {
            CallKind::Mutate => call.with_timeout(MUTATE_TIMEOUT),
            CallKind::Read => call,
        };
        let bucket = format!("{}/{}", http.bucket(), call.operation);
        let call = call.with_limit(profile(&bucket));
        let request = match &config.team {
            Some(team) => request.query("teamId", team.as_str()),
            None => request,
        };
        // This provider says 403 to a stale token too.
        let credential = Credential::bearer(&config.token).refused_by(&[401, 403]);
        http.send_as(cx, call, request, credential).await
    }

    /// Sends, and turns every answer but a success into an error.
    async fn call(
        &self,
        cx: &StepContext,
        call: Call,
        request: Request,
    ) -> Result<Response, StepError> {
        let response = self.send(cx, call.clone(), request).await?;
        if response.is_success() { Ok(response) } else { Err(self.refused(&call, &response)) }
    }

    /// As [`Self::call`], with `None` for a definite 404.
    async fn look(
        &self,
        cx: &StepContext,
        call: Call,
        request: Request,
    ) -> Result<Option<Response>, StepError> {
        let response = self.send(cx, call.clone(), request).await?;
        if is_definite_404(&response) {
            return Ok(None);
        }
        if response.is_success() { Ok(Some(response)) } else { Err(self.refused(&call, &response)) }
    }

    /// Deletes; a definite 404 is done, and a page with status 200 proves nothing.
    async fn remove(
        &self,
        cx: &StepContext,
        operation: &'static str,
        request: Request,
    ) -> Result<(), StepError> {
        match self.look(cx, Call::mutate(operation), request).await? {
            None => Ok(()),
            Some(response) if response.status == 204 => Ok(()),
            Some(response) => response.json::<IgnoredAny>(operation).map(drop),
        }
    }

    fn refused(&self, call: &Call, response: &Response) -> StepError {
        if response.status == 404 && !is_definite_404(response) {
            return not_the_provider(call);
        }
        let bucket = format!("{}/{}", self.inner.http.bucket(), call.operation);
        classify(call, response, &bucket, |status, body| {
            opinion(call.operation, response.at(), status, body)
        })
    }

    /// POST /v11/projects: 200; 409 when the name is taken in this scope.
    pub(crate) async fn create_project(
        &self,
        cx: &StepContext,
        project: &NewProject<'_>,
    ) -> Result<Project, StepError> {
        let request = Request::post(&["v11", "projects"]).json(project);
        self.call(cx, Call::mutate(CREATE_PROJECT), request).await?.json(CREATE_PROJECT)
    }

    /// GET /v9/projects/{idOrName}: 200, 404 when absent (undocumented, measured by others).
    pub(crate) async fn project(
        &self,
        cx: &StepContext,
        id_or_name: &str,
    ) -> Result<Option<Project>, StepError> {
        let request = Request::get(&["v9", "projects", id_or_name]);
        let found = self.look(cx, Call::read("find project"), request).await?;
        found.map(|response| response.json("find project")).transpose()
    }

    /// GET /v10/projects: all pages.
    pub(crate) async fn projects(&self, cx: &StepContext) -> Result<Vec<Project>, StepError> {
        let mut all = Vec::new();
        let mut pages = Pages::new("list projects");
        loop {
            let mut request =
                Request::get(&["v10", "projects"]).query("limit", PAGE_ITEMS.to_string());
            if let Some(from) = pages.cursor() {
                request = request.query("from", from);
            }
            let response = self.call(cx, Call::read("list projects"), request).await?;
            let page: Projects = response.json("list projects")?;
            all.extend(page.projects);
            if !pages.turn(&page.pagination)? {
                return Ok(all);
            }
        }
    }

    /// DELETE /v9/projects/{idOrName}: 204; 404 is done; 409 while it is being transferred.
    pub(crate) async fn delete_project(&self, cx: &StepContext, id: &str) -> Result<(), StepError> {
        let request = Request::delete(&["v9", "projects", id]);
        self.remove(cx, DELETE_PROJECT, request).await
    }

    /// GET /v10/projects/{id}/env: `None` when the project is gone. Values come decrypted where
    /// the token may see them; sensitive ones never do.
    pub(crate) async fn variables(
        &self,
        cx: &StepContext,
        project: &str,
    ) -> Result<Option<Vec<Variable>>, StepError> {
        let request = Request::get(&["v10", "projects", project, "env"]).query("decrypt", "true");
        let Some(response) = self.look(cx, Call::read("read variables"), request).await? else {
            return Ok(None);
        };
        response.json::<Variables>("read variables").map(|list| Some(list.envs))
    }

    /// POST /v10/projects/{id}/env?upsert=true: 201, although some of the entries may have failed.
    pub(crate) async fn upsert_variables(
        &self,
        cx: &StepContext,
        project: &str,
        variables: &[NewVariable<'_>],
    ) -> Result<(), StepError> {
        let request = Request::post(&["v10", "projects", project, "env"])
            .query("upsert", "true")
            .json(variables);
        let call = Call::mutate(SET_VARIABLES);
        let response = self.call(cx, call.clone(), request).await?;
        let answer: VariablesCreated = response.json(SET_VARIABLES)?;
        if answer.failed.is_empty() {
            return Ok(());
        }
        let bucket = self.inner.http.bucket();
        Err(classify(&call, &response, bucket, |_, _| Some(refused_variables(&answer.failed))))
    }

    /// DELETE /v9/projects/{id}/env/{env}: 200; 404 is done.
    pub(crate) async fn delete_variable(
        &self,
        cx: &StepContext,
        project: &str,
        id: &str,
    ) -> Result<(), StepError> {
        let request = Request::delete(&["v9", "projects", project, "env", id]);
        self.remove(cx, "delete variable", request).await
    }

    /// POST /v13/deployments?forceNew=1: 200. Without `forceNew` the provider may answer with an
    /// existing deployment of the same commit, built with older variables.
    pub(crate) async fn create_deployment(
        &self,
        cx: &StepContext,
        deployment: &NewDeployment<'_>,
    ) -> Result<Deployment, StepError> {
        let request = Request::post(&["v13", "deployments"])
            .query("forceNew", "1")
            .query("skipAutoDetectionConfirmation", "1")
            .json(deployment);
        let call = Call::mutate("create deployment");
        self.call(cx, call, request).await?.json("create deployment")
    }

    /// GET /v13/deployments/{id}.
    pub(crate) async fn deployment(
        &self,
        cx: &StepContext,
        id: &str,
    ) -> Result<Option<Deployment>, StepError> {
        let request = Request::get(&["v13", "deployments", id]);
        let found = self.look(cx, Call::read("await deployment"), request).await?;
        found.map(|response| response.json("await deployment")).transpose()
    }

    /// GET /v7/deployments: all pages, of one project or of the whole scope.
    pub(crate) async fn deployments(
        &self,
        cx: &StepContext,
        project: Option<&str>,
    ) -> Result<Vec<ListedDeployment>, StepError> {
        let mut all = Vec::new();
        let mut pages = Pages::new("list deployments");
        loop {
            let mut request =
                Request::get(&["v7", "deployments"]).query("limit", PAGE_ITEMS.to_string());
            if let Some(project) = project {
                request = request.query("projectId", project);
            }
            if let Some(until) = pages.cursor() {
                request = request.query("until", until);
            }
            let look = self.look(cx, Call::read("list deployments"), request).await?;
            // A project that is gone has no deployments.
            let Some(response) = look else { return Ok(all) };
            let page: Deployments = response.json("list deployments")?;
            all.extend(page.deployments);
            if !pages.turn(&page.pagination)? {
                return Ok(all);
            }
        }
    }

    /// DELETE /v13/deployments/{id}: 200; 404 is done.
    pub(crate) async fn delete_deployment(
        &self,
        cx: &StepContext,
        id: &str,
    ) -> Result<(), StepError> {
        let request = Request::delete(&["v13", "deployments", id]);
        self.remove(cx, "delete deployment", request).await
    }

    /// GET /v9/projects/{id}/domains/{domain}.
    pub(crate) async fn domain(
        &self,
        cx: &StepContext,
        project: &str,
        domain: &str,
    ) -> Result<Option<Domain>, StepError> {
        let request = Request::get(&["v9", "projects", project, "domains", domain]);
        let found = self.look(cx, Call::read("find domain"), request).await?;
        found.map(|response| response.json("find domain")).transpose()
    }

    /// POST /v10/projects/{id}/domains: 200; 409 when another project has it.
    pub(crate) async fn add_domain(
        &self,
        cx: &StepContext,
        project: &str,
        domain: &str,
    ) -> Result<Domain, StepError> {
        let request = Request::post(&["v10", "projects", project, "domains"])
            .json(&NewDomain { name: domain });
        self.call(cx, Call::mutate(ADD_DOMAIN), request).await?.json(ADD_DOMAIN)
    }

    /// POST /v9/projects/{id}/domains/{domain}/verify: 400 while the TXT record is not there yet.
    pub(crate) async fn verify_domain(
        &self,
        cx: &StepContext,
        project: &str,
        domain: &str,
    ) -> Result<bool, StepError> {
        let call = Call::mutate("verify domain");
        let request = Request::post(&["v9", "projects", project, "domains", domain, "verify"]);
        let response = self.send(cx, call.clone(), request).await?;
        match response.status {
            400 => Ok(false),
            200 => response.json::<Domain>("verify domain").map(|domain| domain.verified),
            _ => Err(self.refused(&call, &response)),
        }
    }

    /// GET /v6/domains/{domain}/config: whether DNS points elsewhere.
    pub(crate) async fn domain_misconfigured(
        &self,
        cx: &StepContext,
        domain: &str,
    ) -> Result<bool, StepError> {
        let request = Request::get(&["v6", "domains", domain, "config"]);
        let response = self.call(cx, Call::read("check domain"), request).await?;
        response.json::<DomainConfig>("check domain").map(|config| config.misconfigured)
    }

    /// DELETE /v9/projects/{id}/domains/{domain}: 200; 404 is done.
    pub(crate) async fn remove_domain(
        &self,
        cx: &StepContext,
        project: &str,
        domain: &str,
    ) -> Result<(), StepError> {
        // The document wants a body; an empty object is one.
        let request = Request::delete(&["v9", "projects", project, "domains", domain])
            .json(&serde_json::json!({}));
        self.remove(cx, "remove domain", request).await
    }

    /// Asks a deployed app, without any credential, and answers its status.
    pub(crate) async fn probe(
        &self,
        cx: &StepContext,
        host: &str,
        path: &str,
    ) -> Result<u16, StepError> {
        let call = Call::read("probe deployment");
        if !is_public_name(host) {
            return Err(StepError::permanent(call.operation)
                .with_code("bad_host")
                .with_message("the deployment's address is not a public host name"));
        }
        let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
        let request = Request::get(&segments);
        let response = match &self.inner.edge {
            Some(edge) => edge.send(cx, call, request.header("host", host)).await?,
            None => {
                let unusable = |_| StepError::permanent("probe deployment").with_code("no_tls");
                let base = BaseUrl::parse(&format!("https://{host}"))
                    .map_err(|_| StepError::permanent(call.operation).with_code("bad_host"))?;
                edge_http(base, self.inner.config.call_timeout)
                    .map_err(unusable)?
                    .send(cx, call, request)
                    .await?
            }
        };
        Ok(response.status)
    }
}

/// Apps are asked by a client of its own, which holds no credential.
fn edge_http(base: BaseUrl, timeout: Option<Duration>) -> Result<Http, ConfigError> {
    let small = HttpConfig::new("vercel-app", base, profile("vercel-app"))
        .with_body_bytes_max(1 << 20)
        .with_call_timeout(timeout);
    Http::new(small)
}

fn profile(bucket: &str) -> Profile {
    Profile { bucket: bucket.to_owned(), rate: None, concurrency: Some(CONCURRENCY.into()) }
}

/// X3: a name with a letter in its last label; no address, no `localhost`.
fn is_public_name(host: &str) -> bool {
    let labels: Vec<&str> = host.split('.').collect();
    let sound = |label: &&str| {
        !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    labels.len() >= 2
        && labels.iter().all(sound)
        && labels.last().is_some_and(|l| l.chars().any(|c| c.is_ascii_alphabetic()))
}

/// The walk through the pages of one listing; ends although the provider may not.
struct Pages {
    operation: &'static str,
    cursor: Option<String>,
    seen: BTreeSet<String>,
}

impl Pages {
    fn new(operation: &'static str) -> Self {
        Self { operation, cursor: None, seen: BTreeSet::new() }
    }

    fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// Whether there is another page.
    fn turn(&mut self, pagination: &Pagination) -> Result<bool, StepError> {
        let next = match &pagination.next {
            None | Some(Value::Null) => return Ok(false),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        if self.seen.len() >= PAGES_MAX || !self.seen.insert(next.clone()) {
            // Half a listing proves nothing about what is absent.
            return Err(StepError::retry(self.operation)
                .with_code("endless_listing")
                .with_message("the pages of the listing do not end"));
        }
        self.cursor = Some(next);
        Ok(true)
    }
}
