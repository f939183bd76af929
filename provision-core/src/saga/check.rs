//! What an input must fulfil before a run of it is stored.

use std::{fmt, sync::Arc};

use crate::{
    error::{Error, ErrorKind},
    id::Payload,
};

type CheckFn = Arc<dyn Fn(&Payload) -> Result<(), String> + Send + Sync>;

/// The checks of one saga, in the order in which they were added.
#[derive(Clone, Default)]
pub(crate) struct Checks(Vec<CheckFn>);

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Checks").field(&self.0.len()).finish()
    }
}

impl Checks {
    pub(super) fn add(
        &mut self,
        check: impl Fn(&Payload) -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.0.push(Arc::new(check));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first objection against an input.
    pub(crate) fn pass(&self, input: &Payload) -> Result<(), Error> {
        self.0.iter().try_for_each(|check| check(input)).map_err(|objection| {
            Error::new(ErrorKind::Invalid, "invalid_input", "check the input")
                .with_context(objection)
        })
    }
}
