//! Signals that a run has heard and no step has taken, and of whom.

use super::{Phase, State, Undo};
use crate::{id::Payload, run::journal::SignalSource};

/// A signal that is kept.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) value: Payload,
    pub(crate) source: Option<SignalSource>,
}

impl State {
    /// Whether this name was heard of this source.
    pub(crate) fn has_heard(&self, name: &str, source: &SignalSource) -> bool {
        self.heard.contains(&(name.to_owned(), source.clone()))
    }

    /// Whether what the source has made stands, or is being made.
    pub(crate) fn is_current(&self, source: &SignalSource) -> bool {
        self.find(&source.path)
            .map(|number| self.node(number))
            .is_some_and(|node| node.generation == source.generation && node.undo == Undo::None)
    }

    /// A signal is handed to one wait only.
    pub(super) fn hand_over(&mut self, name: &str, number: usize) {
        let place = self.kept_signal(name).map(|(place, _)| place);
        let queue = self.signals.get_mut(name);
        let heard = queue.zip(place).and_then(|(queue, place)| queue.remove(place));
        match heard.and_then(|heard| heard.source) {
            Some(source) => self.taken.insert(number, source),
            None => self.taken.remove(&number),
        };
    }

    /// Waits whose signal was about something that is gone wait again when the run does; what
    /// nobody stands behind, such as an approval, stays said.
    pub(super) fn forget_signals(&mut self) {
        for number in 0..self.nodes.len() {
            let node = self.node(number);
            let gone = self.taken.get(&number).is_some_and(|source| !self.is_current(source));
            if gone && node.phase == Phase::Succeeded {
                let generation = node.generation;
                self.node_mut(number).renew(generation);
            }
        }
    }

    /// The oldest signal of a name that is not of a source that is gone, and its place.
    pub(crate) fn kept_signal(&self, name: &str) -> Option<(usize, &Payload)> {
        let mut queue = self.signals.get(name)?.iter().enumerate();
        let current = |heard: &Heard| heard.source.as_ref().is_none_or(|s| self.is_current(s));
        queue.find(|(_, heard)| current(heard)).map(|(place, heard)| (place, &heard.value))
    }
}
