//! What goes wrong in one scenario.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use provision_core::{
    CallKind, Effect, StepError, Verdict, probe::Juncture, run::journal::Direction,
};

use super::Point;

/// What goes wrong besides a crash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Upset {
    /// Nothing.
    #[default]
    Nothing,
    /// Every attempt of this step is refused before it does anything.
    Refuse {
        /// The step.
        path: String,
    },
    /// The first attempt of this step does its work, and then says for good that it failed.
    FailAfterwards {
        /// The step.
        path: String,
    },
    /// As [`Upset::Refuse`], and the first good end of every undo is lost, so that it comes again.
    RefuseAndUndoTwice {
        /// The step.
        path: String,
    },
    /// The first good end of every step is lost, so that it comes again.
    EveryStepTwice,
    /// The answer of the first such changing call is lost. With `unwinding`, the last step is
    /// refused besides, so that the call of an undo is met.
    LoseAnswer {
        /// The step whose call it is.
        path: String,
        /// The call.
        operation: &'static str,
        /// The step that is refused, so that the run unwinds.
        refuse: Option<String>,
    },
}

/// One scenario: what goes wrong, where somebody interrupts the run, whether it is torn down after
/// its success, and where the world is stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    /// What goes wrong besides a crash.
    pub upset: Upset,
    /// Where somebody does to the run what [`Subject::interrupt`](super::Subject::interrupt) says,
    /// once.
    pub interrupt: Option<Point>,
    /// Whether what succeeded is torn down.
    pub tear_down: bool,
    /// Where the process dies, once.
    pub crash: Option<Point>,
}

impl Script {
    /// A scenario without a crash.
    #[must_use]
    pub fn of(upset: Upset) -> Self {
        Self { upset, ..Self::default() }
    }

    /// The same, with a crash.
    #[must_use]
    pub fn crashing_at(&self, point: Point) -> Self {
        Self { crash: Some(point), ..self.clone() }
    }

    /// The same, with somebody's interruption.
    #[must_use]
    pub fn interrupted_at(&self, point: Point) -> Self {
        Self { interrupt: Some(point), ..self.clone() }
    }

    /// The same, torn down after its success.
    #[must_use]
    pub fn torn_down(&self) -> Self {
        Self { tear_down: true, ..self.clone() }
    }
}

impl fmt::Display for Upset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "nothing fails"),
            Self::Refuse { path } => write!(f, "`{path}` is refused"),
            Self::FailAfterwards { path } => write!(f, "`{path}` fails after its work"),
            Self::RefuseAndUndoTwice { path } => {
                write!(f, "`{path}` is refused and every undo comes twice")
            }
            Self::EveryStepTwice => write!(f, "every step comes twice"),
            Self::LoseAnswer { path, operation, refuse: None } => {
                write!(f, "the answer of `{operation}` of `{path}` is lost")
            }
            Self::LoseAnswer { path, operation, refuse: Some(refused) } => write!(
                f,
                "`{refused}` is refused and the answer of `{operation}` of `{path}` is lost"
            ),
        }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.upset)?;
        if self.tear_down {
            write!(f, ", then torn down")?;
        }
        if let Some(point) = &self.interrupt {
            write!(f, ", interrupted {point}")?;
        }
        match &self.crash {
            Some(point) => write!(f, ", crash {point}"),
            None => Ok(()),
        }
    }
}

/// An upset in play; it outlives the crash of a scenario.
#[derive(Debug)]
pub(super) struct InPlay {
    upset: Upset,
    /// Whether the one answer was lost already. A plain mutex, held for one look.
    lost: Mutex<bool>,
}

impl InPlay {
    pub(super) fn new(upset: Upset) -> Self {
        Self { upset, lost: Mutex::new(false) }
    }

    pub(super) fn at(&self, path: &str, at: Juncture<'_>) -> Option<StepError> {
        let (mut refused, mut lost) = (None, false);
        match (&self.upset, at) {
            (Upset::Refuse { path: p } | Upset::RefuseAndUndoTwice { path: p }, _) => {
                refused = Some(p);
                lost = matches!(self.upset, Upset::RefuseAndUndoTwice { .. })
                    && is_first(at, Direction::Undo);
            }
            (Upset::EveryStepTwice, _) => lost = is_first(at, Direction::Forward),
            (Upset::FailAfterwards { path: p }, Juncture::Done { dir: Direction::Forward, .. })
                if p == path =>
            {
                let failed = StepError::new(Effect::Applied, Verdict::Permanent, "run the step");
                return Some(failed.with_code("as_planned"));
            }
            (Upset::LoseAnswer { path: p, operation, refuse }, at) => {
                refused = refuse.as_ref();
                lost = p == path && self.loses(operation, at);
            }
            (Upset::Nothing | Upset::FailAfterwards { .. }, _) => {}
        }
        let forward = matches!(at, Juncture::Begins { dir: Direction::Forward, .. });
        if forward && refused.is_some_and(|refused| refused == path) {
            return Some(StepError::permanent("run the step").with_code("as_planned"));
        }
        lost.then(|| StepError::unknown("run the step").with_code("as_planned"))
    }

    fn loses(&self, operation: &str, at: Juncture<'_>) -> bool {
        let Juncture::Answered(call) = at else { return false };
        if call.operation != operation || call.kind != CallKind::Mutate {
            return false;
        }
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        !std::mem::replace(&mut *lost, true)
    }
}

fn is_first(at: Juncture<'_>, wanted: Direction) -> bool {
    matches!(at, Juncture::Done { dir, attempt: 1 } if dir == wanted)
}
