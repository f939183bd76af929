//! How many runs of a queue may be worked on at the same time, by all workers of all processes.
//!
//! What counts is the lease: a run is in flight while a worker holds it. A run that waits, for a
//! moment, a signal, a child or its next attempt, holds none and takes no place; the runs of a
//! worker that died take theirs until its lease is over. The store compares in the very write that
//! grants a lease, so that no race passes a cap; whoever claims from a queue states the same cap.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Which queues a [`Cap`] is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capped {
    /// The queue of this name.
    Named(String),
    /// Each queue whose name begins so, on its own: a queue for each key.
    Each(String),
}

/// So many runs of a queue may be under lease at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cap {
    /// Which queues.
    pub queues: Capped,
    /// Runs of one such queue; 0 holds them all back.
    pub runs: u32,
}

impl Cap {
    fn fits(&self, queue: &str) -> bool {
        match &self.queues {
            Capped::Named(name) => name == queue,
            Capped::Each(prefix) => queue.starts_with(prefix.as_str()),
        }
    }
}

/// The caps that a worker knows; empty for most.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Caps(pub Vec<Cap>);

impl Caps {
    /// Whether no queue has a cap.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The cap of a queue; where several fit, the smallest.
    ///
    /// ```
    /// use provision_core::caps::{Cap, Capped, Caps};
    ///
    /// let caps = Caps(vec![
    ///     Cap { queues: Capped::Named("publish".to_owned()), runs: 5 },
    ///     Cap { queues: Capped::Each("tenant/".to_owned()), runs: 1 },
    /// ]);
    /// assert_eq!(caps.of("publish"), Some(5));
    /// assert_eq!(caps.of("tenant/42"), Some(1));
    /// assert_eq!(caps.of("default"), None);
    /// ```
    #[must_use]
    pub fn of(&self, queue: &str) -> Option<u32> {
        self.0.iter().filter(|cap| cap.fits(queue)).map(|cap| cap.runs).min()
    }

    /// The room in those of these queues that have a cap; `leased` counts the runs under lease.
    ///
    /// # Errors
    /// What `leased` could not count.
    pub fn room<'a, E>(
        &self,
        queues: impl IntoIterator<Item = &'a str>,
        mut leased: impl FnMut(&str) -> Result<u64, E>,
    ) -> Result<Room, E> {
        let mut room = Room::default();
        if self.is_empty() {
            return Ok(room);
        }
        for queue in queues {
            if let Some(cap) = self.of(queue)
                && !room.left.contains_key(queue)
            {
                let left = u64::from(cap).saturating_sub(leased(queue)?);
                room.left.insert(queue.to_owned(), left);
            }
        }
        Ok(room)
    }
}

/// How many more runs of each capped queue one claim may lease.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Room {
    left: BTreeMap<String, u64>,
}

impl Room {
    /// Whether nothing more of this queue may be leased.
    #[must_use]
    pub fn is_full(&self, queue: &str) -> bool {
        self.left.get(queue) == Some(&0)
    }

    /// Takes a place; false when there is none.
    pub fn take(&mut self, queue: &str) -> bool {
        match self.left.get_mut(queue) {
            Some(0) => false,
            Some(left) => {
                *left = left.saturating_sub(1);
                true
            }
            None => true,
        }
    }

    /// The queues without room.
    #[must_use]
    pub fn full(&self) -> Vec<String> {
        let full = self.left.iter().filter(|(_, left)| **left == 0);
        full.map(|(queue, _)| queue.clone()).collect()
    }

    /// Every capped queue with its room.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.left.iter().map(|(queue, left)| (queue.as_str(), *left))
    }
}

#[cfg(test)]
mod tests {
    use super::{Cap, Capped, Caps};

    // covers: L3
    #[test]
    fn room_is_taken_from_capped_queues_alone_and_the_smallest_cap_holds() {
        let caps = Caps(vec![
            Cap { queues: Capped::Each("t/".to_owned()), runs: 3 },
            Cap { queues: Capped::Named("t/a".to_owned()), runs: 2 },
        ]);
        let none = |_: &str| Ok::<u64, ()>(1);
        let mut room = caps.room(["t/a", "t/b", "other", "t/a"], none).unwrap();
        assert_eq!(room.iter().collect::<Vec<_>>(), [("t/a", 1), ("t/b", 2)]);
        assert!(room.take("t/a"));
        assert!(!room.take("t/a"));
        assert!((0..9).all(|_| room.take("other")));
        assert_eq!(room.full(), ["t/a"]);
        assert!(room.is_full("t/a") && !room.is_full("t/b") && !room.is_full("other"));
    }
}
