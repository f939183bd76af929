//! A program's own tables in a PostgreSQL database: how they are reached, who makes them, and what is
//! told of what the server refuses.

use std::{str::FromStr as _, time::Duration};

use sqlx::{
    Error, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
    query,
};

use crate::exit::Trouble;

/// How long a connection is waited for: a busy server takes seconds for a new one.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(10);

const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];
/// Classes of SQLSTATE: data, integrity, and what does not exist or is not allowed.
const FOR_GOOD: [&str; 3] = ["22", "23", "42"];

/// How to connect to a database.
///
/// # Errors
/// Code `wrong_database`: it is no address of a PostgreSQL database; the address is not repeated.
pub fn options(url: &str) -> Result<PgConnectOptions, Trouble> {
    let wrong = || {
        let hint = "give postgres://user:password@host/database";
        Trouble::usage("wrong_database", "this is no address of a PostgreSQL database", hint)
    };
    if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
        return Err(wrong());
    }
    PgConnectOptions::from_str(url).map_err(|_says_the_url| wrong())
}

/// A pool of at most so many connections; nothing is sent yet. One is waited for for
/// [`CONNECT_WITHIN`].
#[must_use]
pub fn pool(options: PgConnectOptions, connections_max: u32) -> PgPool {
    let pool = PgPoolOptions::new().max_connections(connections_max);
    pool.acquire_timeout(CONNECT_WITHIN).connect_lazy_with(options)
}

/// Waits until no other command of this program makes its tables; until the transaction ends, none
/// begins to. Commands may begin at the same time, and `IF NOT EXISTS` alone does not part them.
///
/// # Errors
/// The server does not answer.
pub async fn alone(tx: &mut PgConnection, program: &str) -> Result<(), Error> {
    let lock = query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))").bind(program);
    lock.execute(tx).await.map(drop)
}

/// A script that brings a transaction of its own, as part of another one.
#[must_use]
pub fn within(script: &str) -> String {
    script.replace("BEGIN;\n", "").replace("COMMIT;\n", "")
}

/// What the server says names tables and columns, and no address.
#[must_use]
pub fn said(error: &Error) -> String {
    match error {
        Error::Database(said) => said.message().to_owned(),
        _ => "the database did not answer".to_owned(),
    }
}

/// Tells a person that a statement failed, with the program's own word for its database.
pub fn unread(code: &'static str) -> impl Fn(Error) -> Trouble {
    move |error| Trouble::unavailable(code, said(&error), "check the database and type it again")
}

/// Whether the server refuses a statement for good: a repetition would be refused as well.
#[must_use]
pub fn is_refused(error: &Error) -> bool {
    let state = error.as_database_error().and_then(|said| said.code());
    state.is_some_and(|state| FOR_GOOD.iter().any(|class| state.starts_with(class)))
}

#[cfg(test)]
mod tests {
    use std::io;

    use sqlx::Error;

    use super::{is_refused, options, said, unread, within};
    use crate::exit::Exit;

    #[test]
    fn only_addresses_of_postgresql_are_taken_and_none_is_repeated() {
        for url in ["postgres://me@127.0.0.1/x", "postgresql://127.0.0.1:5433/x?sslmode=disable"] {
            assert!(options(url).is_ok(), "{url}");
        }
        for url in ["", "mysql://127.0.0.1/x", "postgres://me:hunter2@127.0.0.1:port/x"] {
            let trouble = options(url).unwrap_err();
            assert_eq!(trouble.code(), "wrong_database", "{url}");
            assert!(!format!("{trouble:?}").contains("hunter2"), "{trouble:?}");
        }
    }

    #[test]
    fn a_lost_connection_is_no_refusal_and_says_no_address() {
        let lost = Error::Io(io::Error::other("postgres://me:hunter2@127.0.0.1"));
        assert!(!is_refused(&lost));
        assert_eq!(said(&lost), "the database did not answer");
        let trouble = unread("host_tables")(lost);
        assert_eq!((trouble.code(), trouble.exit()), ("host_tables", Exit::Unavailable));
    }

    #[test]
    fn a_script_becomes_part_of_another_transaction() {
        assert_eq!(within("BEGIN;\nGRANT x TO y;\nCOMMIT;\n"), "GRANT x TO y;\n");
    }
}
