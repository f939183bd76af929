//! The services a project is registered with: authentication, realtime and storage. All three have
//! the same interface and a server of their own.

use std::{collections::BTreeMap, fmt::Debug, marker::PhantomData, time::Duration};

use provision_adapters::http::{
    BaseUrl, ConfigError, Http, HttpConfig, Request, Response, classify,
};
use provision_core::{
    Call, ExternalId, Facts, Found, Identity, Intent, Listing, Owned, OwnerMark, Readiness,
    Resource, SecretRef, StepContext, StepError, Timing, limit::Profile, resource::Foreign,
};
use serde::{Deserialize, Serialize};

/// Name of the token that opens all three.
pub const TOKEN: &str = "TENANT_SERVICES_TOKEN";
/// When to ask again whether a registration works.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// One of the services, as a type: each has rows of its own in the ledger.
pub trait Service: Debug + Clone + Copy + Send + Sync + 'static {
    /// Its name.
    const NAME: &'static str;
    /// Durable kind of what is made there.
    const KIND: &'static str;
}

/// Who may sign in.
#[derive(Debug, Clone, Copy)]
pub struct Auth;
/// Who hears of changes.
#[derive(Debug, Clone, Copy)]
pub struct Realtime;
/// Where files are.
#[derive(Debug, Clone, Copy)]
pub struct Storage;

impl Service for Auth {
    const NAME: &'static str = "auth";
    const KIND: &'static str = "auth.registration";
}

impl Service for Realtime {
    const NAME: &'static str = "realtime";
    const KIND: &'static str = "realtime.registration";
}

impl Service for Storage {
    const NAME: &'static str = "storage";
    const KIND: &'static str = "storage.registration";
}

/// What a service is told of a project. It holds no password: services get in by a way of their
/// own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationSpec {
    /// The project's slug; a service knows one of a name.
    pub project: String,
    /// Its database.
    pub database: String,
    /// Where it is.
    pub region: String,
}

/// A registration that works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The service.
    pub service: String,
    /// The service's own id of it.
    pub id: String,
}

/// A registration as services show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub(crate) id: String,
    pub(crate) project: String,
    pub(crate) ready: bool,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Shown {
    fn mark(&self) -> Option<OwnerMark> {
        OwnerMark::from_labels(
            self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())),
        )
    }
}

/// A project's registration with one service.
#[derive(Debug, Clone)]
pub struct Registration<S> {
    http: Http,
    service: PhantomData<S>,
}

impl<S: Service> Registration<S> {
    /// Registers with the service at this address.
    ///
    /// # Errors
    /// The address cannot be used.
    pub fn at(base: BaseUrl) -> Result<Self, ConfigError> {
        let bucket = Profile { bucket: S::NAME.to_owned(), rate: None, concurrency: None };
        let http = Http::new(HttpConfig::new(S::NAME, base, bucket))?;
        Ok(Self { http, service: PhantomData })
    }

    async fn send(
        &self,
        cx: &StepContext,
        call: &Call,
        request: Request,
    ) -> Result<Response, StepError> {
        let token = cx.reveal(&SecretRef::named(TOKEN)).await?;
        self.http.send(cx, call.clone(), request.bearer(&token)).await
    }

    /// Anything but a success is an error.
    async fn done(
        &self,
        cx: &StepContext,
        call: &Call,
        request: Request,
    ) -> Result<Response, StepError> {
        let response = self.send(cx, call, request).await?;
        if response.is_success() { Ok(response) } else { Err(self.refused(call, &response)) }
    }

    /// `None` where there is nothing.
    async fn look(
        &self,
        cx: &StepContext,
        call: &Call,
        request: Request,
    ) -> Result<Option<Response>, StepError> {
        let response = self.send(cx, call, request).await?;
        match response.status {
            404 => Ok(None),
            _ if response.is_success() => Ok(Some(response)),
            _ => Err(self.refused(call, &response)),
        }
    }

    fn refused(&self, call: &Call, response: &Response) -> StepError {
        classify(call, response, self.http.bucket(), |_, _| None)
    }
}

impl<S: Service> Resource for Registration<S> {
    const KIND: &'static str = S::KIND;
    type Spec = RegistrationSpec;
    type Output = Registered;

    fn identity(&self, spec: &RegistrationSpec) -> Identity {
        Identity::Named(spec.project.clone())
    }

    async fn find(&self, cx: &StepContext, spec: &RegistrationSpec) -> Result<Found, StepError> {
        let call = Call::read("look for registration");
        let request = Request::get(&["v1", "registrations"]).query("project", &*spec.project);
        let response = self.done(cx, &call, request).await?;
        let shown: Vec<Shown> = response.json(call.operation)?;
        let Some(shown) = shown.into_iter().find(|shown| shown.project == spec.project) else {
            return Ok(Found::Absent);
        };
        Ok(match shown.mark() {
            Some(mark) if mark == cx.mark() => Found::Ours(ExternalId::new(shown.id)),
            Some(owner) => Found::Foreign(Foreign::unmarked(shown.id).with_owner(owner)),
            None => Found::Foreign(Foreign::unmarked(shown.id)),
        })
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &RegistrationSpec,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        let call = Call::mutate("register project");
        let labels: BTreeMap<_, _> = intent.labels().iter().cloned().collect();
        let body = serde_json::json!({
            "project": spec.project, "database": spec.database, "region": spec.region,
            "labels": labels,
        });
        let request = Request::post(&["v1", "registrations"]).json(&body);
        let shown: Shown = self.done(cx, &call, request).await?.json(call.operation)?;
        Ok(ExternalId::new(shown.id))
    }

    async fn ready(
        &self,
        cx: &StepContext,
        _: &RegistrationSpec,
        id: &ExternalId,
    ) -> Result<Readiness<Registered>, StepError> {
        let call = Call::read("look at registration");
        let request = Request::get(&["v1", "registrations", id.as_str()]);
        let Some(response) = self.look(cx, &call, request).await? else {
            return Ok(Readiness::Broken { code: "gone".to_owned() });
        };
        let shown: Shown = response.json(call.operation)?;
        Ok(match shown.ready {
            true => Readiness::Ready(Registered { service: S::NAME.to_owned(), id: shown.id }),
            false => Readiness::NotYet { again_in: ASK_AGAIN },
        })
    }

    async fn delete(
        &self,
        cx: &StepContext,
        _: &RegistrationSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        let call = Call::mutate("remove registration");
        let request = Request::delete(&["v1", "registrations", id.as_str()]);
        self.look(cx, &call, request).await.map(drop)
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        let call = Call::read("list registrations");
        let response = self.done(cx, &call, Request::get(&["v1", "registrations"])).await?;
        let shown: Vec<Shown> = response.json(call.operation)?;
        let owned = shown.into_iter().map(|shown| {
            let mark = shown.mark();
            Owned::new(shown.id).with_name(shown.project).with_mark(mark)
        });
        Ok(owned.filter(|owned| owned.mark.is_some()).collect())
    }

    fn timing(&self) -> Timing {
        // A service commits before it answers, and lists what it has committed.
        Timing { listing_lag: Duration::ZERO, ..Timing::default() }
    }

    fn facts(&self, spec: &RegistrationSpec) -> Facts {
        let region = Some(spec.region.clone());
        Facts { name: Some(spec.project.clone()), region, ..Facts::default() }
    }
}
