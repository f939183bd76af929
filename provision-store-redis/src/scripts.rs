//! Every script of the store, by name; the text is in `lua/`.
//!
//! A script is one operation and one round trip. It is sent by its hash; a server that does not
//! know it, because it is new or somebody flushed its scripts, is sent the text.

use std::sync::OnceLock;

const PRELUDE: &str = include_str!("../lua/prelude.lua");
const ROWS: &str = include_str!("../lua/rows.lua");
const LEDGER_ROWS: &str = include_str!("../lua/ledger_rows.lua");
const START: &str = include_str!("../lua/start.lua");
const RECORD: &str = include_str!("../lua/record.lua");
const PICK: &str = include_str!("../lua/pick.lua");

/// One script.
#[derive(Debug)]
pub(crate) struct Script {
    /// What the call is named in errors.
    pub(crate) operation: &'static str,
    parts: &'static [&'static str],
    made: OnceLock<redis::Script>,
}

impl Script {
    const fn new(operation: &'static str, parts: &'static [&'static str]) -> Self {
        Self { operation, parts, made: OnceLock::new() }
    }

    /// The text and its hash.
    pub(crate) fn made(&self) -> &redis::Script {
        self.made.get_or_init(|| redis::Script::new(&self.text()))
    }

    pub(crate) fn text(&self) -> String {
        self.parts.concat()
    }
}

macro_rules! scripts {
    ($($name:ident = $operation:literal, [$($part:expr),+];)*) => {
        $(pub(crate) static $name: Script = Script::new($operation, &[$($part),+]);)*

        /// All of them, for tests that look at each.
        #[cfg(test)]
        pub(crate) static ALL: &[&Script] = &[$(&$name),*];
    };
}

scripts! {
    APPEND = "append", [PRELUDE, ROWS, LEDGER_ROWS, START, include_str!("../lua/append.lua")];
    SUBMIT = "submit", [PRELUDE, ROWS, START, include_str!("../lua/submit.lua")];
    LEASE = "lease", [PRELUDE, ROWS, RECORD, PICK, include_str!("../lua/lease.lua")];
    PARK = "park what cannot be read", [PRELUDE, ROWS, include_str!("../lua/park.lua")];
    LOAD = "load", [PRELUDE, ROWS, RECORD, include_str!("../lua/load.lua")];
    LIST = "list", [PRELUDE, ROWS, PICK, include_str!("../lua/list.lua")];
    NOW = "read the clock", [PRELUDE, include_str!("../lua/now.lua")];
    OFFER = "offer", [PRELUDE, ROWS, include_str!("../lua/offer.lua")];
    PROPOSE = "claim", [PRELUDE, ROWS, PICK, include_str!("../lua/propose.lua")];
    STATS = "count the queue", [PRELUDE, ROWS, PICK, include_str!("../lua/stats.lua")];
    LEDGER_QUERY = "read the ledger", [PRELUDE, ROWS, PICK, include_str!("../lua/ledger_query.lua")];
    LEDGER_ENTER = "enter into the ledger", [PRELUDE, ROWS, LEDGER_ROWS, include_str!("../lua/ledger_enter.lua")];
    WATCH_CLAIM = "claim the watch", [PRELUDE, LEDGER_ROWS, include_str!("../lua/watch_claim.lua")];
    WATCH_END = "end the watch", [PRELUDE, LEDGER_ROWS, include_str!("../lua/watch_end.lua")];
    SIGHT = "add a sighting", [PRELUDE, include_str!("../lua/sight.lua")];
    SIGHTINGS = "read sightings", [PRELUDE, include_str!("../lua/sightings.lua")];
    SECRET_PUT = "put a secret", [PRELUDE, LEDGER_ROWS, include_str!("../lua/secret_put.lua")];
    SECRET_REPLACE = "replace a secret", [PRELUDE, include_str!("../lua/secret_replace.lua")];
    SECRET_GET = "read a secret", [PRELUDE, include_str!("../lua/secret_get.lua")];
    SECRET_KEYS = "list secrets", [PRELUDE, include_str!("../lua/secret_keys.lua")];
    SECRET_ERASE = "erase a secret", [PRELUDE, include_str!("../lua/secret_erase.lua")];
    BUCKET_READ = "read a limit", [include_str!("../lua/bucket_read.lua")];
    BUCKET_SWAP = "change a limit", [include_str!("../lua/bucket_swap.lua")];
    OPEN = "open the store", [include_str!("../lua/open.lua")];
}

#[cfg(test)]
mod tests {
    use super::ALL;

    // What a script finds by itself in a key it was not given would be out of reach of a cluster.
    #[test]
    fn scripts_name_no_key_that_is_not_declared() {
        for script in ALL {
            let text = script.text();
            let calls = text.matches("call('").count();
            assert!(calls > 0, "{} calls nothing", script.operation);
            assert!(!text.contains("}:"), "{} makes up a key", script.operation);
        }
    }
}
