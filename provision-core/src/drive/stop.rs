//! Why a drive cannot go on, and what is done with its run then.

use super::{Unusable, park};
use crate::error::StepError;

/// Why a drive cannot go on.
pub(super) enum Stop {
    /// The lease is somebody else's.
    Lost,
    /// A person has to look; the lease is still ours.
    Park(Box<StepError>),
    /// A newer release has to look; the lease is still ours.
    Leave(Unusable),
}

impl From<Unusable> for Stop {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Newer { .. } => Self::Leave(unusable),
            _ => Self::Park(Box::new(park::damaged(unusable.to_string()))),
        }
    }
}

pub(super) type Driven<T> = Result<T, Stop>;
