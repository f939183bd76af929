//! Every statement of the store, by name; the text is in `sql/`.
//!
//! The texts name the schema `provision`; a store in another schema has its own copy of them, with
//! that name in its place.

use std::sync::Arc;

use provision_core::error::{StoreError, StoreErrorKind};

/// A statement's text; cheap to clone.
pub(crate) type Text = Arc<str>;

/// The schema as the texts name it.
const WRITTEN: &str = "provision.";
/// PostgreSQL cuts longer names, and two schemas could become one.
const NAME_BYTES_MAX: usize = 63;

/// A name that may stand in a statement: validated, and quoted (X5).
#[derive(Debug, Clone)]
pub(crate) struct Schema(String);

impl Schema {
    /// Takes lower-case letters, digits and underscores, not beginning with a digit or `pg_`.
    pub(crate) fn new(name: &str) -> Result<Self, StoreError> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        let reserved = name.starts_with("pg_") || name == "information_schema";
        if !begins || reserved || name.len() > NAME_BYTES_MAX || !name.chars().all(fits) {
            return Err(StoreError::new(
                StoreErrorKind::Unsuitable,
                "postgres_wrong_schema_name",
                "open the store",
            )
            .with_hint(
                "use at most 63 lower-case letters, digits and underscores, not beginning with a \
                 digit or `pg_`",
            ));
        }
        Ok(Self(name.to_owned()))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// A text with this schema in the place of the one it was written for.
    pub(crate) fn apply(&self, text: &str) -> Text {
        match self.0.as_str() {
            "provision" => text.into(),
            name => text.replace(WRITTEN, &format!("\"{name}\".")).into(),
        }
    }
}

/// The text of a statement: the file of its name, or its parts in their order.
macro_rules! text {
    ($name:ident) => { text!($name = $name) };
    ($name:ident = $($part:ident)+) => {
        concat!($(include_str!(concat!("../sql/", stringify!($part), ".sql"))),+)
    };
}

macro_rules! statements {
    ($($name:ident $(= $($part:ident)+)?,)*) => {
        /// The texts of one schema.
        #[derive(Debug)]
        pub(crate) struct Sql {
            $(pub(crate) $name: Text,)*
        }

        impl Sql {
            pub(crate) fn of(schema: &Schema) -> Self {
                Self {
                    $($name: schema.apply(text!($name $(= $($part)+)?)),)*
                }
            }
        }
    };
}

statements! {
    acquire = acquire_worker acquire_code acquire_turns acquire_picked acquire_held leased
        acquire_signs leased_rows,
    // Most workers have no caps, and pay for none.
    acquire_capped = acquire_worker acquire_code_capped acquire_turns acquire_picked_capped
        acquire_held leased acquire_signs leased_rows,
    append = append_given append_found append_write append_answer,
    append_consuming = append_given append_found append_write append_consumed append_answer,
    append_locked = append_given append_held append_write append_consumed append_answer,
    append_why,
    bucket_drop,
    bucket_keep,
    bucket_lock,
    bucket_read,
    bury,
    cap_count,
    cap_lock,
    cap_queues,
    cap_queues_of,
    cap_wait,
    check,
    clock_keep,
    expired_lock,
    figures,
    give_back,
    guard_freed,
    guard_holder,
    guard_retake,
    guards_free,
    heads_known,
    heads_lock,
    incarnations_forget,
    incarnations_known,
    lane_add,
    lane_find,
    lane_of_version,
    ledger_by_id,
    ledger_holders,
    ledger_one,
    ledger_put,
    ledger_query,
    ledger_watch_claim,
    ledger_watch_set,
    list,
    list_among,
    list_children,
    list_dead,
    list_of_version,
    living_lock,
    migration_add,
    migrations_applied,
    migrations_table,
    names_lock,
    namespace_add,
    namespace_find,
    notify,
    now,
    offer,
    park_unread,
    promote,
    propose,
    prune,
    record,
    release,
    renew,
    request,
    run_by_guard,
    run_by_key,
    run_find,
    run_status_locked,
    runs_free,
    runs_of_prefix,
    secret_erase,
    secret_get,
    secret_keys,
    secret_put,
    secret_replace,
    sight,
    sightings,
    start = start_new start_lease start_heads start_first start_end,
    start_unleased = start_new start_unleased start_heads start_end,
    stats,
    take = take_held leased take_signs leased_rows,
    tombstone_find,
    tombstone_last_key,
    tombstones,
    tombstones_forget,
    wake,
}

#[cfg(test)]
mod tests {
    use super::{Schema, Sql};

    // covers: X5
    #[test]
    fn only_plain_names_are_schemas_and_they_are_quoted() {
        for name in ["", "Upper", "a b", "a\"b", "1a", "pg_x", "information_schema", "ü"] {
            let error = Schema::new(name).expect_err(name);
            assert_eq!(error.code(), "postgres_wrong_schema_name");
            assert!(error.hint().is_some());
        }
        assert!(Schema::new(&"a".repeat(64)).is_err(), "two tenants could share what is cut");
        let schema = Schema::new("order").unwrap();
        let sql = Sql::of(&schema);
        assert!(sql.append.contains("\"order\".heads"), "{}", sql.append);
        assert!(!sql.append.contains(" provision."), "{}", sql.append);
    }

    #[test]
    fn the_default_schema_needs_no_change() {
        let sql = Sql::of(&Schema::new("provision").unwrap());
        assert!(sql.now.contains("provision.moment"));
    }
}
