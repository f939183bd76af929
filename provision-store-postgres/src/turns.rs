//! Whose turn it is: the tenant that was served last, for each lane and priority.
//!
//! Each process remembers its own turns: tenants are served in the order of their names, and after
//! the last one the first comes again, so none waits for ever (L3).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// The tenants served last. A plain mutex, held for one look.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<(i32, i32), String>>);

/// The turns as columns.
#[derive(Debug, Default)]
pub(crate) struct TurnColumns {
    pub(crate) lanes: Vec<i32>,
    pub(crate) priorities: Vec<i32>,
    pub(crate) tenants: Vec<String>,
}

impl Turns {
    pub(crate) fn columns(&self) -> TurnColumns {
        let turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut columns = TurnColumns::default();
        for ((lane, priority), tenant) in turns.iter() {
            columns.lanes.push(*lane);
            columns.priorities.push(*priority);
            columns.tenants.push(tenant.clone());
        }
        columns
    }

    /// Tenants were served, in this order. Where only some of a round were, the next claim goes on
    /// after the last of them in the order of their names, counted from where the round began.
    pub(crate) fn served(&self, served: Vec<(i32, i32, String)>) {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rounds: HashMap<(i32, i32), Vec<String>> = HashMap::new();
        for (lane, priority, tenant) in served {
            rounds.entry((lane, priority)).or_default().push(tenant);
        }
        for (place, tenants) in rounds {
            let began = turns.get(&place).cloned();
            // Those that come before the beginning were served after the end of the alphabet.
            let last = tenants.into_iter().max_by(|a, b| {
                let wrapped = |tenant: &String| began.as_ref().is_some_and(|from| tenant <= from);
                (wrapped(a), a).cmp(&(wrapped(b), b))
            });
            if let Some(last) = last {
                turns.insert(place, last);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Turns;

    fn last(turns: &Turns) -> String {
        turns.columns().tenants.remove(0)
    }

    // covers: L3
    #[test]
    fn a_round_goes_on_after_the_last_one_served_and_wraps() {
        let turns = Turns::default();
        let serve = |tenants: &[&str]| {
            turns.served(tenants.iter().map(|tenant| (1, 0, (*tenant).to_owned())).collect());
        };
        serve(&["b", "a"]);
        assert_eq!(last(&turns), "b");
        serve(&["c", "a"]);
        assert_eq!(last(&turns), "a", "a came after the end of the alphabet");
        serve(&["b"]);
        assert_eq!(last(&turns), "b");
    }
}
