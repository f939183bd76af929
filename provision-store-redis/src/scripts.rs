//! Every script of the store, by name; the text is in `lua/`.
//!
//! A script is one operation and one round trip. It is sent by its hash; a server that does not
//! know it, because it is new or somebody flushed its scripts, is sent the text.

use std::sync::OnceLock;

/// S18: the server refuses all of a script that may write, before its first line, where it could
/// refuse a part of it: on a replica, or without room.
const WRITES: &str = "#!lua\n";
/// So that a replica is not read: it refuses what may write. A full server is read.
const READS: &str = "#!lua flags=allow-oom\n";
/// Takes away more than it puts: a full server must be able to get room by it.
const FREES: &str = READS;
/// Puts elsewhere what is there, and no more: a full server must go on proposing what it holds.
const MOVES: &str = READS;
const PRELUDE: &str = include_str!("../lua/prelude.lua");
const KEPT: &str = include_str!("../lua/kept.lua");
const ROWS: &str = include_str!("../lua/rows.lua");
const LEDGER_ROWS: &str = include_str!("../lua/ledger_rows.lua");
const START: &str = include_str!("../lua/start.lua");
const PLAIN: &str = include_str!("../lua/plain.lua");
/// What plain appends do without is one function, which makes its own when it is called.
const OTHERS: &str = "local function others()\n";
const OTHERS_END: &str = include_str!("../lua/others.lua");
const SUBMIT: &str = include_str!("../lua/submit.lua");
const APPEND: &str = include_str!("../lua/append.lua");
const RECORD: &str = include_str!("../lua/record.lua");
const PICK: &str = include_str!("../lua/pick.lua");
const SIDECAR: &str = include_str!("../lua/sidecar.lua");
const COUNTED: &str = include_str!("../lua/counted.lua");
const ROOM: &str = include_str!("../lua/room.lua");
const BUCKET: &str = include_str!("../lua/bucket.lua");

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
    WRITE = "write", [WRITES, PRELUDE, KEPT, PLAIN, OTHERS, ROWS, LEDGER_ROWS, COUNTED, START, SUBMIT, APPEND, OTHERS_END, include_str!("../lua/write.lua")];
    LEASE = "lease", [WRITES, PRELUDE, KEPT, ROWS, RECORD, PICK, COUNTED, ROOM, include_str!("../lua/lease.lua")];
    PARK = "park what cannot be read", [WRITES, PRELUDE, KEPT, ROWS, include_str!("../lua/park.lua")];
    LOAD = "load", [READS, PRELUDE, KEPT, ROWS, RECORD, include_str!("../lua/load.lua")];
    LIST = "list", [READS, PRELUDE, KEPT, ROWS, PICK, include_str!("../lua/list.lua")];
    NOW = "read the clock", [READS, PRELUDE, include_str!("../lua/now.lua")];
    OFFER = "offer", [WRITES, PRELUDE, KEPT, ROWS, include_str!("../lua/offer.lua")];
    PROPOSE = "claim", [WRITES, PRELUDE, KEPT, ROWS, PICK, include_str!("../lua/propose.lua")];
    STATS = "count the queue", [READS, PRELUDE, KEPT, ROWS, PICK, include_str!("../lua/stats.lua")];
    SIDECAR_OFFER = "offer", [WRITES, PRELUDE, SIDECAR, KEPT, ROWS, COUNTED, START, include_str!("../lua/sidecar_offer.lua")];
    SIDECAR_CLAIM = "claim", [MOVES, PRELUDE, SIDECAR, KEPT, ROWS, PICK, include_str!("../lua/sidecar_claim.lua")];
    SIDECAR_ACK = "ack", [FREES, PRELUDE, SIDECAR, KEPT, ROWS, include_str!("../lua/sidecar_ack.lua")];
    SIDECAR_STATS = "count the queue", [READS, PRELUDE, SIDECAR, KEPT, ROWS, PICK, include_str!("../lua/stats.lua")];
    LEDGER_QUERY = "read the ledger", [READS, PRELUDE, KEPT, ROWS, PICK, include_str!("../lua/ledger_query.lua")];
    LEDGER_ENTER = "enter into the ledger", [WRITES, PRELUDE, KEPT, ROWS, LEDGER_ROWS, include_str!("../lua/ledger_enter.lua")];
    WATCH_CLAIM = "claim the watch", [WRITES, PRELUDE, LEDGER_ROWS, include_str!("../lua/watch_claim.lua")];
    WATCH_END = "end the watch", [WRITES, PRELUDE, LEDGER_ROWS, include_str!("../lua/watch_end.lua")];
    PRUNE = "remove runs", [FREES, PRELUDE, KEPT, ROWS, LEDGER_ROWS, include_str!("../lua/prune.lua")];
    TOMBSTONES = "read tombstones", [READS, PRELUDE, include_str!("../lua/tombstones.lua")];
    FORGET = "forget tombstones", [FREES, PRELUDE, include_str!("../lua/forget.lua")];
    SIGHT = "add a sighting", [WRITES, PRELUDE, include_str!("../lua/sight.lua")];
    SIGHTINGS = "read sightings", [READS, PRELUDE, include_str!("../lua/sightings.lua")];
    SECRET_PUT = "put a secret", [WRITES, PRELUDE, LEDGER_ROWS, include_str!("../lua/secret_put.lua")];
    SECRET_REPLACE = "replace a secret", [WRITES, PRELUDE, include_str!("../lua/secret_replace.lua")];
    SECRET_GET = "read a secret", [READS, PRELUDE, include_str!("../lua/secret_get.lua")];
    SECRET_KEYS = "list secrets", [READS, PRELUDE, include_str!("../lua/secret_keys.lua")];
    SECRET_ERASE = "erase a secret", [WRITES, PRELUDE, include_str!("../lua/secret_erase.lua")];
    BUCKET_READ = "read a limit", [READS, BUCKET, include_str!("../lua/bucket_read.lua")];
    BUCKET_SWAP = "change a limit", [WRITES, BUCKET, include_str!("../lua/bucket_swap.lua")];
    OPEN = "open the store", [WRITES, include_str!("../lua/open.lua")];
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
