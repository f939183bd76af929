//! The server with the tenants' databases: one of its own, named by four variables, or the one with
//! the host's tables.

use std::{str::FromStr as _, time::Duration};

use example_command::exit::Trouble;
use provision_adapters::tools::{
    postgres::{Identifier, Postgres, PostgresConfig},
    row_security::Answer,
};
use provision_core::{
    Call, Secret, SecretRef, StepContext, StepError,
    resolver::{EnvResolver, SecretResolver},
};
use sqlx::postgres::PgConnectOptions;

/// Name of the password of whoever administers the server.
pub const PASSWORD: &str = "TENANTS_PGPASSWORD";
/// The role that stands for who is not signed in. It is the host's, and of all projects.
pub const ANONYMOUS: &str = "tenant_anonymous";
/// What a server of one's own is named by.
pub const VARIABLES: [&str; 4] = ["TENANTS_PGHOST", "TENANTS_PGPORT", "TENANTS_PGUSER", PASSWORD];

/// On the same machine the end of a connection is seen at once.
const LATE_WINDOW_LOCAL: Duration = Duration::from_secs(2);
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];
const MAKE_ANONYMOUS: &str = "DO $$ BEGIN CREATE ROLE tenant_anonymous NOLOGIN;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";

/// A server that is administered, and the password for it.
#[derive(Debug, Clone)]
pub struct TenantServer {
    /// The server.
    pub server: Postgres,
    /// What [`PASSWORD`] resolves to.
    pub password: Secret,
}

impl TenantServer {
    /// The server that the variables name, or the one of the host's database where they name none.
    ///
    /// # Errors
    /// Code `missing_settings`: some of the variables are set; names all that are missing.
    pub async fn find(host_url: &str) -> Result<Self, Trouble> {
        let resolver = EnvResolver::new().only(VARIABLES);
        let mut values = Vec::new();
        for name in VARIABLES {
            let value = resolver.resolve(name).await?;
            values.push(value.filter(|value| !value.expose().trim().is_empty()));
        }
        if values.iter().all(Option::is_none) {
            return Self::of(host_url);
        }
        Self::named(values)
    }

    /// The server with these values of [`VARIABLES`].
    ///
    /// # Errors
    /// Code `missing_settings`, with the name of everything that is missing.
    pub fn named(values: Vec<Option<Secret>>) -> Result<Self, Trouble> {
        let missing = VARIABLES.iter().zip(&values).filter(|(_, value)| value.is_none());
        let missing: Vec<&str> = missing.map(|(name, _)| *name).collect();
        let Ok([Some(host), Some(port), Some(user), Some(password)]) =
            <[Option<Secret>; 4]>::try_from(values)
        else {
            let message =
                format!("the tenants' server is named in part; {} missing", is_or_are(&missing));
            let hint = "set all four, or none of them to use the server of the host's database";
            return Err(Trouble::usage("missing_settings", message, hint));
        };
        let port = port.expose().trim().parse().map_err(|_| {
            Trouble::usage("bad_settings", "TENANTS_PGPORT is no port", "give 1 to 65535")
        })?;
        Ok(Self::at((host.expose().trim(), port), user.expose().trim(), password))
    }

    /// The server of a database's address.
    ///
    /// # Errors
    /// It is no address of a PostgreSQL database.
    pub fn of(url: &str) -> Result<Self, Trouble> {
        let options = options(url)?;
        let password = Secret::new(password_of(url));
        let place = match options.get_socket() {
            Some(folder) => folder.display().to_string(),
            None => options.get_host().to_owned(),
        };
        Ok(Self::at((&place, options.get_port()), options.get_username(), password))
    }

    fn at((host, port): (&str, u16), user: &str, password: Secret) -> Self {
        let config = PostgresConfig::new(host, user, SecretRef::named(PASSWORD)).with_port(port);
        let local = ["127.0.0.1", "::1"].contains(&host) || host.starts_with('/');
        let config = if local { config.with_late_window(LATE_WINDOW_LOCAL) } else { config };
        Self { server: Postgres::new(config), password }
    }

    /// Makes the role that stands for who is not signed in, where it is missing.
    ///
    /// # Errors
    /// The server does not answer, or whoever administers it may make no roles.
    pub async fn prepare(&self, cx: &StepContext) -> Result<(), Trouble> {
        let hint = "whoever administers it needs the rights to make databases and roles";
        let call = Call::mutate("prepare the server");
        let wrong =
            |error: StepError| Trouble::unavailable("tenants_server", error.to_string(), hint);
        let maintenance = Identifier::new("postgres")
            .map_err(|error| Trouble::bug("identifier", error.to_string()))?;
        match self.server.query(cx, call, &maintenance, MAKE_ANONYMOUS).await.map_err(wrong)? {
            Answer::Rows(_) => Ok(()),
            Answer::Refused { sqlstate } => {
                let message = format!("the tenants' server refuses to make a role: {sqlstate}");
                Err(Trouble::unavailable("tenants_server", message, hint))
            }
        }
    }
}

fn is_or_are(names: &[&str]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(", "))
}

/// How to connect to a database.
///
/// # Errors
/// It is no address of a PostgreSQL database; the address is not repeated.
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

/// The password in an address, as it is meant.
fn password_of(url: &str) -> String {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    let encoded = authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':'));
    let encoded = encoded.map_or("", |(_, password)| password);
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let [first, tail @ ..] = rest {
        let byte = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = byte.filter(|_| *first == b'%').and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = tail.get(if byte.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use provision_core::Secret;

    use super::{TenantServer, VARIABLES, password_of};

    // covers: R4-19
    #[test]
    fn every_missing_setting_is_named() {
        for set in 1..15_u32 {
            let value = |place: u32| (set & 1 << place != 0).then(|| Secret::new("5432"));
            let trouble = TenantServer::named((0..4).map(value).collect()).unwrap_err();
            assert_eq!(trouble.code(), "missing_settings");
            for (place, name) in (0..4).zip(VARIABLES) {
                let is_set = set & 1 << place != 0;
                let words = trouble.message().split([' ', ',']).collect::<Vec<_>>();
                assert_eq!(words.contains(&name), !is_set, "{set}: {trouble:?}");
            }
        }
        let all = ["db.example", "5432", "admin", "hunter2"];
        let server = TenantServer::named(all.map(|value| Some(Secret::new(value))).to_vec());
        let server = server.unwrap();
        assert!(!format!("{server:?}").contains("hunter2"));
    }

    #[test]
    fn a_password_is_read_as_it_is_meant() {
        for (url, password) in [
            ("postgres://me:p%40ss%3a@127.0.0.1:1/x", "p@ss:"),
            ("postgres://me:100%@h/x?y=a@b", "100%"),
            ("postgres://me@h/x", ""),
            ("postgres://h/x:y@z", ""),
        ] {
            assert_eq!(password_of(url), password, "{url}");
        }
    }
}
