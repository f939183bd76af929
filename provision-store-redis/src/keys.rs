//! The keys of a namespace: all of them, in the order in which scripts are given them.

/// The kinds of keys of the state store, as `lua/prelude.lua` names them.
const KINDS: [&str; 30] = [
    "meta",
    "rows",
    "frames",
    "requests",
    "ready",
    "later",
    "held",
    "guards",
    "letters",
    "ledger",
    "ledger-order",
    "names",
    "ids",
    "watch",
    "secrets",
    "secret-order",
    "fixed",
    "inputs",
    "runs",
    "starts",
    "lanes",
    "children",
    "alive",
    "dead",
    "turns",
    "sights",
    "tombstones",
    "tombstone-ends",
    "tombstone-keys",
    "capped",
];

/// How many of the keys a call may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Its own row, frames and requests, and the places where runs wait.
    Step,
    /// The ledger and sealed values, too.
    Effects,
    /// Everything.
    All,
}

impl Reach {
    const fn count(self) -> usize {
        match self {
            Self::Step => 9,
            Self::Effects => 16,
            Self::All => KINDS.len(),
        }
    }
}

/// The names of the keys of one namespace.
///
/// The namespace is their hash tag: a cluster keeps all of them in one slot, so that a script may
/// touch them together.
#[derive(Debug)]
pub(crate) struct Keys {
    all: Vec<String>,
    limits: [String; 4],
    opening: [String; 2],
}

impl Keys {
    pub(crate) fn new(namespace: &str) -> Self {
        let key = |kind: &str| format!("{{{namespace}}}:{kind}");
        let limits = [key("buckets"), key("dead"), key("meta"), key("alive")];
        let opening = [key("meta"), key("probe")];
        Self { all: KINDS.iter().map(|kind| key(kind)).collect(), limits, opening }
    }

    pub(crate) fn of(&self, reach: Reach) -> &[String] {
        self.all.get(..reach.count()).unwrap_or(&self.all)
    }

    /// Keys of the limiter's scripts.
    pub(crate) fn limits(&self) -> &[String] {
        &self.limits
    }

    /// Keys of the script that opens the namespace.
    pub(crate) fn opening(&self) -> &[String] {
        &self.opening
    }

    /// The channel on which new work is told; the same name as a key, which is no clash.
    pub(crate) fn channel(&self) -> &str {
        self.all.first().map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::{KINDS, Keys, Reach};

    // covers: S24
    #[test]
    fn every_key_carries_its_namespace_as_hash_tag() {
        let keys = Keys::new("acme");
        assert!(keys.of(Reach::All).iter().all(|key| key.starts_with("{acme}:")));
        assert!(keys.limits().iter().chain(keys.opening()).all(|key| key.starts_with("{acme}:")));
        assert_eq!(keys.channel(), "{acme}:meta");
    }

    // A script is given the first so many keys: the order is part of the contract with `lua/`.
    #[test]
    fn the_prelude_names_the_keys_in_this_order() {
        let prelude = include_str!("../lua/prelude.lua");
        let last = |reach: Reach| KINDS[reach.count() - 1];
        assert_eq!((last(Reach::Step), last(Reach::Effects)), ("letters", "secret-order"));
        let mut at = 0;
        for kind in KINDS {
            let name = match kind {
                "starts" => "STARTS".to_owned(),
                other => other.to_uppercase().replace('-', "_"),
            };
            let found = prelude[at..].find(&name);
            assert!(found.is_some(), "{name} is not where it belongs");
            at += found.unwrap_or_default() + name.len();
        }
        assert!(prelude.contains(&format!("KEYS[{}]", KINDS.len())));
        assert!(!prelude.contains(&format!("KEYS[{}]", KINDS.len() + 1)));
    }
}
