//! steno in memory, on the same seven steps, in the same run.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use steno::{
    ActionContext, ActionError, ActionFunc, ActionRegistry, DagBuilder, InMemorySecStore, Node,
    SagaDag, SagaId, SagaName, SagaType, SecClient,
};

use crate::measure::Watch;

#[derive(Debug)]
struct Seven;

impl SagaType for Seven {
    type ExecContextType = ();
}

async fn add(cx: ActionContext<Seven>) -> Result<u64, ActionError> {
    let start = cx.saga_params::<u64>()?;
    Ok(start + 1)
}

async fn subtract(_: ActionContext<Seven>) -> steno::UndoResult {
    Ok(())
}

struct Peer {
    sec: SecClient,
    registry: Arc<ActionRegistry<Seven>>,
    action: Arc<dyn steno::Action<Seven>>,
}

impl Peer {
    fn new() -> Self {
        let log = slog::Logger::root(slog::Discard, slog::o!());
        let sec = steno::sec(log, Arc::new(InMemorySecStore::new()));
        let action = ActionFunc::new_action("add", add, subtract);
        let mut registry = ActionRegistry::new();
        registry.register(Arc::clone(&action));
        Self { sec, registry: Arc::new(registry), action }
    }

    async fn one(&self, n: u64) {
        let mut dag = DagBuilder::new(SagaName::new("seven"));
        for step in 1..=7 {
            let name = format!("s{step}");
            dag.append(Node::action(name.clone(), name, &*self.action));
        }
        let dag = dag.build().expect("a graph");
        let params = serde_json::to_value(n).expect("a number");
        let dag = Arc::new(SagaDag::new(dag, params));
        let id = SagaId::new_v4();
        let saga = self.sec.saga_create(id, Arc::new(()), dag, Arc::clone(&self.registry));
        let saga = saga.await.expect("a saga");
        self.sec.saga_start(id).await.expect("a start");
        saga.await.kind.expect("a success");
    }
}

/// W1 on steno: `runs` sagas of seven steps. Answers its steps per second with 32 in flight.
pub(crate) async fn steno_in_memory(runs: usize) -> f64 {
    let mut at_32 = 0.0;
    for in_flight in [1, 32, 256] {
        let peer = Arc::new(Peer::new());
        drive(&peer, runs / 10, in_flight).await;
        let watch = Watch::start();
        let times = drive(&peer, runs, in_flight).await;
        let rate = watch.stop("steno in memory W1", in_flight, runs as u64 * 7, times).print();
        if in_flight == 32 {
            at_32 = rate;
        }
    }
    at_32
}

async fn drive(peer: &Arc<Peer>, runs: usize, in_flight: usize) -> Vec<Duration> {
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..in_flight {
        let peer = Arc::clone(peer);
        tasks.spawn(async move {
            let mut times = Vec::new();
            for n in (lane..runs).step_by(in_flight) {
                let began = Instant::now();
                peer.one(n as u64).await;
                times.push(began.elapsed());
            }
            times
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}
