//! The saga of the workloads: seven trivial steps in a row, each with an undo.

use provision_core::{Compensator, Saga, SagaId, Step, StepContext, StepError, Undo, saga::Handle};

pub(crate) const SEVEN: SagaId<u64, u64> = SagaId::new("seven", 1);
pub(crate) const FAILING: SagaId<u64, u64> = SagaId::new("failing", 1);

/// A step that does nothing.
#[derive(Debug)]
pub(crate) struct Add {
    fail: bool,
}

/// One that succeeds.
pub(crate) const ADD: Add = Add { fail: false };

impl Step for Add {
    const KIND: &'static str = "bench.add";
    type Input = u64;
    type Output = u64;

    async fn run(&self, _: &StepContext, n: u64) -> Result<u64, StepError> {
        if self.fail { Err(StepError::permanent("add")) } else { Ok(n + 1) }
    }
}

/// An undo that does nothing.
#[derive(Debug)]
pub(crate) struct Subtract;

impl<S: Step<Input = u64, Output = u64>> Compensator<S> for Subtract {
    async fn compensate(&self, _: &StepContext, _: u64, _: Undo<u64>) -> Result<(), StepError> {
        Ok(())
    }
}

/// Seven steps; with `fail` the seventh is refused and six are undone.
pub(crate) fn seven(id: SagaId<u64, u64>, fail: bool) -> Saga<u64, u64> {
    Saga::define(id, |s| {
        let mut last: Option<Handle<'_, u64>> = None;
        for n in 1..=7 {
            let node = s.step(format!("s{n}"), Add { fail: fail && n == 7 }, Subtract);
            last = Some(match last {
                None => node.input((), |n, ()| *n),
                Some(before) => node.input(before, |_, n| n),
            });
        }
        last.expect("seven steps")
    })
    .expect("a valid saga")
}
