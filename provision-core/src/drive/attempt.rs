//! One open attempt: the author's future, caught when it panics and cut when it takes too long.

use std::{
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tracing::{Instrument, Span};

use super::{AttemptHost, Kept, Message, Shared, child, report};
use crate::{
    clock,
    context::{Attempt as Facts, StepContext},
    error::StepError,
    id::Payload,
    panics,
    probe::{Juncture, Probe},
    protocol::{Action, Flow},
    run::{
        decide::{AttemptEnd, Command, State},
        journal::Direction,
    },
    saga::graph::Kind,
    store::RunHead,
};

/// What an attempt sends back to its driver: messages while it runs, values kept for its end.
#[derive(Debug)]
pub(crate) struct Back {
    pub(crate) driver: mpsc::UnboundedSender<Message>,
    pub(crate) kept: Kept,
}

/// How an attempt ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) node: usize,
    pub(crate) dir: Direction,
    pub(crate) end: AttemptEnd,
    /// The attempt's span: its outcome is committed in it.
    pub(crate) span: Span,
}

type Work = Pin<Box<dyn Future<Output = Result<Flow, StepError>> + Send>>;

/// An open attempt; dropping it cuts it.
pub(crate) struct Attempt {
    node: usize,
    dir: Direction,
    span: Span,
    work: Pin<Box<dyn Future<Output = AttemptEnd> + Send>>,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Future for Attempt {
    type Output = Finished;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Finished> {
        let (node, dir) = (self.node, self.dir);
        let end = std::task::ready!(self.work.as_mut().poll(cx));
        let span = std::mem::replace(&mut self.span, Span::none());
        Poll::Ready(Finished { node, dir, end, span })
    }
}

impl Attempt {
    pub(crate) fn place(&self) -> (usize, Direction) {
        (self.node, self.dir)
    }

    pub(crate) fn begin(
        shared: &Arc<Shared>,
        state: &State,
        head: &RunHead,
        command: Command,
        back: Back,
    ) -> Self {
        let Back { driver, kept } = back;
        let node = state.node(command.node);
        let def = node.def();
        let number = match command.dir {
            Direction::Forward => node.forward.begun,
            Direction::Undo => node.backward.begun,
        };
        let facts = Facts {
            run: state.run,
            tenant: head.tenant.clone(),
            path: node.path.to_string(),
            number,
            generation: node.generation,
            memory: state.memory(command.node),
        };
        let host = AttemptHost {
            shared: Arc::clone(shared),
            node: command.node,
            run: state.run,
            tenant: head.tenant.clone(),
            path: Arc::clone(&node.path),
            generation: node.generation,
            provider: def.provider(),
            driver,
            kept,
            quiet: node.quiet_start,
            ends: clock::moment() + def.attempt_timeout,
        };
        let input = node.input.clone().unwrap_or_else(Payload::null);
        let output = node.output.clone();
        // No parent: what an outcome starts is begun while the span of its attempt is entered.
        let span = tracing::info_span!(
            parent: None, "attempt", run = %state.run, saga = %head.saga.name, step = %node.path, number,
            dir = ?command.dir, context = ?head.context
        );
        let work: Work = match (&def.kind, def.action()) {
            (Kind::Saga { child: saga }, _) => {
                let child = child::Parent::of(state, head, command.node).child();
                let child = (child, saga.clone());
                Box::pin(child::run(Arc::clone(shared), child, input, command.dir))
            }
            (_, Some(action)) => {
                let action = Arc::clone(action);
                let cx = StepContext::new(facts, Arc::new(host));
                let probe = Arc::clone(&shared.probe);
                Box::pin(perform(probe, action, command.dir, cx, (input, output)))
            }
            (_, None) => Box::pin(async { Ok(Flow::Done(Payload::null())) }),
        };
        let timeout = def.attempt_timeout;
        let (saga, path) = (head.saga.name.clone(), Arc::clone(&node.path));
        let work = async move {
            let began = clock::moment();
            let end = finish(clock::within(timeout, caught(work)).await);
            report::attempted(&saga, &path, &end, began.elapsed());
            end
        };
        let work = Box::pin(work.instrument(span.clone()));
        Self { node: command.node, dir: command.dir, span, work }
    }
}

/// Runs the author's code, unless a test wants its beginning or its end to go wrong.
async fn perform(
    probe: Arc<dyn Probe>,
    action: Arc<dyn Action>,
    dir: Direction,
    cx: StepContext,
    (input, output): (Payload, Option<Payload>),
) -> Result<Flow, StepError> {
    let (at, attempt) = (cx.clone(), cx.attempt());
    let upset = |juncture| probe.upset(at.run_id(), at.path(), juncture);
    if let Some(error) = upset(Juncture::Begins { dir, attempt }) {
        return Err(error);
    }
    let end = match dir {
        Direction::Forward => action.run(cx, input).await?,
        Direction::Undo => action.undo(cx, input, output).await?,
    };
    match end {
        Flow::Done(_) => upset(Juncture::Done { dir, attempt }).map_or(Ok(end), Err),
        other => Ok(other),
    }
}

/// S21: a panic hurts only its attempt, whose end is then unknown. It is told as every failed
/// attempt is.
async fn caught(work: Work) -> Result<Flow, StepError> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
        panics::count("run the step");
        Err(panics::error("run the step").with_message("the step panicked"))
    })
}

fn finish(end: Option<Result<Flow, StepError>>) -> AttemptEnd {
    match end {
        Some(Ok(Flow::Done(output))) => AttemptEnd::Done(output),
        Some(Ok(Flow::NotYet { after, reason })) => AttemptEnd::NotYet { after, reason },
        Some(Ok(Flow::Renew)) => AttemptEnd::Renew,
        Some(Ok(Flow::Kept)) => AttemptEnd::Kept,
        Some(Err(error)) => AttemptEnd::Failed(error),
        None => AttemptEnd::Failed(
            StepError::unknown("run the step")
                .with_code("attempt_timeout")
                .with_message("the attempt took longer than its step allows"),
        ),
    }
}
