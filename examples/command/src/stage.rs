//! What a simulated cloud changes about a resource: its times are short, and at a chosen step the
//! provider refuses the last call for good.
//!
//! Real providers take minutes, and their adapters look every few seconds. [`OnStage`] shortens
//! these times by the same factor as the simulators' own; over real providers it changes nothing.

use std::{fmt, sync::Arc, time::Duration};

use provision_adapters::sim::{Fault, FaultPlan, FaultRule, RuleId};
use provision_core::{
    ExternalId, Facts, Found, Identity, Intent, Listing, Readiness, Resource, SecretSpec,
    StepContext, StepError, Timing, Verdict,
};
use tokio::sync::{RwLock, RwLockReadGuard};

/// The simulators of a cloud, as far as one of them is to refuse something.
pub trait Simulators: fmt::Debug + Send + Sync + 'static {
    /// The last call of the step at `path`: what `ready` of its adapter ends with. `id` is that of
    /// the resource. `None` where no simulator is called: the stage refuses what comes after it.
    fn last_call(&self, path: &str, id: &str) -> Option<LastCall<'_>>;
}

/// A call of a simulator.
#[derive(Debug)]
pub struct LastCall<'a> {
    /// What goes wrong at the simulator.
    pub faults: &'a FaultPlan,
    /// Method of the call.
    pub method: &'static str,
    /// Part of its path.
    pub part: String,
}

/// Decides what happens to the steps of a saga. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Stage {
    scene: Option<Arc<Scene>>,
}

#[derive(Debug)]
struct Scene {
    speed: f64,
    refuses: Option<Refuses>,
}

/// The step that is refused. Only the cloud of this very process can be told to.
#[derive(Debug)]
struct Refuses {
    cloud: Arc<dyn Simulators>,
    step: String,
    /// While it is refused, no other run talks to its provider: the refusal is for none else.
    gate: RwLock<()>,
}

impl Stage {
    /// Real providers: nothing is changed.
    #[must_use]
    pub fn live() -> Self {
        Self::default()
    }

    /// A simulated cloud whose times are multiplied by `speed`; it refuses `fail_at`.
    #[must_use]
    pub fn simulated<S: Simulators>(cloud: &Arc<S>, speed: f64, fail_at: Option<String>) -> Self {
        let cloud: Arc<dyn Simulators> = Arc::<S>::clone(cloud);
        let refuses = fail_at.map(|step| Refuses { cloud, step, gate: RwLock::new(()) });
        Self { scene: Some(Arc::new(Scene { speed, refuses })) }
    }

    /// A simulated cloud that another process serves, with its times; nothing is refused.
    #[must_use]
    pub fn served(speed: f64) -> Self {
        Self { scene: Some(Arc::new(Scene { speed, refuses: None })) }
    }

    /// Puts a resource on this stage.
    pub fn on<R: Resource>(&self, resource: R) -> OnStage<R> {
        OnStage { resource, stage: self.clone() }
    }

    /// Lets a step without calls go on, or fails it.
    ///
    /// # Errors
    /// Permanent, when this step was chosen to fail.
    pub fn allow(&self, cx: &StepContext) -> Result<(), StepError> {
        if self.refuses(cx).is_some() { Err(refused()) } else { Ok(()) }
    }

    fn refuses(&self, cx: &StepContext) -> Option<&Refuses> {
        self.scene.as_ref()?.refuses.as_ref().filter(|refuses| refuses.step == cx.path())
    }

    /// Held while a step talks to its provider, where another one may be refused meanwhile.
    async fn apart(&self) -> Option<RwLockReadGuard<'_, ()>> {
        Some(self.scene.as_ref()?.refuses.as_ref()?.gate.read().await)
    }

    fn scaled(&self, time: Duration) -> Duration {
        match &self.scene {
            Some(scene) => time.mul_f64(scene.speed).max(SHORTEST),
            None => time,
        }
    }

    /// What an adapter asks to wait is shortened like the cloud that makes it wait; what a
    /// provider's answer asks for (a throttled call) never is.
    fn sooner(&self, error: StepError) -> StepError {
        let Verdict::Retry { after: Some(after) } = error.verdict() else { return error };
        if self.scene.is_none() {
            return error;
        }
        let verdict = Verdict::Retry { after: Some(self.scaled(*after)) };
        let mut sooner = StepError::new(error.effect(), verdict, error.operation().to_owned())
            .with_code(error.code().to_owned());
        if let Some(message) = error.message() {
            sooner = sooner.with_message(message.to_owned());
        }
        if let Some(hint) = error.hint() {
            sooner = sooner.with_hint(hint.to_owned());
        }
        if error.is_broken() { sooner.broken() } else { sooner }
    }
}

/// Below this a wait is no wait.
const SHORTEST: Duration = Duration::from_millis(20);

fn refused() -> StepError {
    StepError::permanent("go on").with_code("refused_by_order").with_message("--fail-at names it")
}

/// A resource on a [`Stage`]; the same kind, found, created and deleted as ever.
#[derive(Debug, Clone)]
pub struct OnStage<R> {
    resource: R,
    stage: Stage,
}

impl<R: Resource> Resource for OnStage<R> {
    const KIND: &'static str = R::KIND;
    const REVISION: u32 = R::REVISION;
    type Spec = R::Spec;
    type Output = R::Output;

    fn identity(&self, spec: &R::Spec) -> Identity {
        self.resource.identity(spec)
    }

    async fn find(&self, cx: &StepContext, spec: &R::Spec) -> Result<Found, StepError> {
        let _apart = self.stage.apart().await;
        let found = self.resource.find(cx, spec).await.map_err(|error| self.stage.sooner(error))?;
        Ok(match found {
            Found::Going { again_in } => Found::Going { again_in: self.stage.scaled(again_in) },
            found => found,
        })
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &R::Spec,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        let _apart = self.stage.apart().await;
        let made = self.resource.create(cx, spec, intent).await;
        made.map_err(|error| self.stage.sooner(error))
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &R::Spec,
        id: &ExternalId,
    ) -> Result<Readiness<R::Output>, StepError> {
        let (ready, refuses) = match self.stage.refuses(cx) {
            Some(refuses) => {
                let _alone = refuses.gate.write().await;
                let _refusal = Refusal::arm(&*refuses.cloud, cx.path(), id);
                (self.resource.ready(cx, spec, id).await, true)
            }
            None => {
                let _apart = self.stage.apart().await;
                (self.resource.ready(cx, spec, id).await, false)
            }
        };
        match ready.map_err(|error| self.stage.sooner(error))? {
            Readiness::NotYet { again_in } => {
                Ok(Readiness::NotYet { again_in: self.stage.scaled(again_in) })
            }
            // An earlier attempt had made the call that is refused: nothing was left to call.
            Readiness::Ready(_) if refuses => Err(refused()),
            ready => Ok(ready),
        }
    }

    async fn delete(
        &self,
        cx: &StepContext,
        spec: &R::Spec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        let _apart = self.stage.apart().await;
        let gone = self.resource.delete(cx, spec, id).await;
        gone.map_err(|error| self.stage.sooner(error))
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        let _apart = self.stage.apart().await;
        self.resource.list_owned(cx).await
    }

    fn secrets(&self, spec: &R::Spec) -> Vec<SecretSpec> {
        self.resource.secrets(spec)
    }

    fn timing(&self) -> Timing {
        let times = self.resource.timing();
        Timing {
            late_window: self.stage.scaled(times.late_window),
            listing_lag: self.stage.scaled(times.listing_lag),
            ..times
        }
    }

    fn facts(&self, spec: &R::Spec) -> Facts {
        self.resource.facts(spec)
    }
}

/// While it lives, the provider refuses the last call of one step.
struct Refusal<'a> {
    faults: &'a FaultPlan,
    rule: RuleId,
}

impl<'a> Refusal<'a> {
    fn arm(cloud: &'a dyn Simulators, path: &str, id: &ExternalId) -> Option<Self> {
        let LastCall { faults, method, part } = cloud.last_call(path, id.as_str())?;
        let rule = FaultRule::new(Fault::Status(403)).method(method).path_contains(part);
        Some(Self { faults, rule: faults.add(rule) })
    }
}

impl Drop for Refusal<'_> {
    fn drop(&mut self) {
        self.faults.remove(self.rule);
    }
}
