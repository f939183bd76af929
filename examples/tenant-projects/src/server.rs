//! The server with the tenants' databases: one of its own, named by four variables, or the one with
//! the host's tables.

use std::{fmt, time::Duration};

use example_command::{exit::Trouble, tables::options};
use provision_adapters::tools::{
    postgres::{Identifier, Postgres, PostgresConfig},
    row_security::Answer,
};
use provision_core::{
    Call, Secret, SecretRef, StepContext, StepError, clock,
    resolver::{EnvResolver, SecretResolver},
};
use sqlx::{
    Connection as _, PgConnection, PgExecutor, PgPool,
    postgres::{PgConnectOptions, PgSslMode},
    query_scalar,
};

/// Name of the password of whoever administers the server.
pub const PASSWORD: &str = "TENANTS_PGPASSWORD";
/// The role that stands for who is not signed in. It is the host's, and of all projects.
pub const ANONYMOUS: &str = "tenant_anonymous";
/// What a server of one's own is named by.
pub const VARIABLES: [&str; 4] = ["TENANTS_PGHOST", "TENANTS_PGPORT", "TENANTS_PGUSER", PASSWORD];

/// The password that whoever connects to a database takes where its address has none.
const FALLBACK: &str = "PGPASSWORD";
/// The same machine under the name that addresses have for it: connections that stay there need no
/// certificate, and only an address says surely that they do.
const LOCALHOST: (&str, &str) = ("localhost", "127.0.0.1");
const REACH_WITHIN: Duration = Duration::from_secs(5);
/// On the same machine the end of a connection is seen at once.
const LATE_WINDOW_LOCAL: Duration = Duration::from_secs(2);
/// What the data of a server are known by since they were made, whatever stands before it.
const IDENTITY: &str = "SELECT system_identifier::text FROM pg_control_system()";
const MAKE_ANONYMOUS: &str = "DO $$ BEGIN CREATE ROLE tenant_anonymous NOLOGIN;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";

/// A server that is administered, and the password for it.
#[derive(Debug, Clone)]
pub struct TenantServer {
    /// The server.
    pub server: Postgres,
    /// What [`PASSWORD`] resolves to.
    pub password: Secret,
    place: Place,
}

/// Where a server is, and who administers it.
#[derive(Debug, Clone)]
struct Place {
    host: String,
    port: u16,
    user: String,
}

impl Place {
    fn of(options: &PgConnectOptions) -> Self {
        let host = match options.get_socket() {
            Some(folder) => folder.display().to_string(),
            None => options.get_host().to_owned(),
        };
        Self::at((&host, options.get_port()), options.get_username())
    }

    fn at((host, port): (&str, u16), user: &str) -> Self {
        let host = if host == LOCALHOST.0 { LOCALHOST.1 } else { host };
        Self { host: host.to_owned(), port, user: user.to_owned() }
    }

    /// On this machine, by its address or a folder of sockets.
    fn is_here(&self) -> bool {
        ["127.0.0.1", "::1"].contains(&&*self.host) || self.is_socket()
    }

    fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, user } = self;
        write!(f, "{host}:{port} as {user}")
    }
}

impl TenantServer {
    /// The server that the variables name, or the one of the host's database where they name none.
    ///
    /// # Errors
    /// Code `missing_settings`: some of the variables are set; names all that are missing.
    pub async fn find(host_url: &str) -> Result<Self, Trouble> {
        let values = variables().await?;
        if values.iter().all(Option::is_none) {
            let fallback = EnvResolver::new().only([FALLBACK]).resolve(FALLBACK).await?;
            return Self::of(host_url, fallback);
        }
        Self::named(values)
    }

    /// Whether the variables name a server, or a part of one.
    ///
    /// # Errors
    /// The environment cannot be read.
    pub async fn is_named() -> Result<bool, Trouble> {
        Ok(variables().await?.iter().any(Option::is_some))
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
        Ok(Self::at(Place::at((host.expose().trim(), port), user.expose().trim()), password))
    }

    /// The server of a database's address; `fallback` is the password where it has none.
    ///
    /// # Errors
    /// It is no address of a PostgreSQL database.
    pub fn of(url: &str, fallback: Option<Secret>) -> Result<Self, Trouble> {
        let password = password_of(url).map(Secret::new).or(fallback);
        let password = password.unwrap_or_else(|| Secret::new(""));
        Ok(Self::at(Place::of(&options(url)?), password))
    }

    /// Who administers it.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.place.user
    }

    fn at(place: Place, password: Secret) -> Self {
        let Place { host, port, user } = place.clone();
        let config = PostgresConfig::new(host, user, SecretRef::named(PASSWORD)).with_port(port);
        let here = place.is_here();
        let config = if here { config.with_late_window(LATE_WINDOW_LOCAL) } else { config };
        Self { server: Postgres::new(config), password, place }
    }

    /// Connects once, before anything is made: a server that lets the host's tables in may still
    /// refuse whoever is to administer it. One on another machine is reached by the first step.
    ///
    /// # Errors
    /// Code `tenants_server`: it cannot be reached, or refuses us.
    pub async fn reach(&self) -> Result<Reached, Trouble> {
        let Place { host, port, user } = &self.place;
        if !self.place.is_here() {
            return Ok(Reached(None));
        }
        let options = PgConnectOptions::new_without_pgpass().port(*port).username(user);
        let options = options.password(self.password.expose()).database("postgres");
        let options = match self.place.is_socket() {
            true => options.socket(host),
            false => options.host(host).ssl_mode(PgSslMode::Disable),
        };
        let reached = clock::within(REACH_WITHIN, async {
            let mut conn = PgConnection::connect_with(&options).await?;
            let identity = identity(&mut conn).await;
            conn.close().await?;
            Ok(Reached(identity))
        });
        let why = match reached.await {
            Some(Ok(reached)) => return Ok(reached),
            Some(Err(sqlx::Error::Database(said))) => said.message().to_owned(),
            Some(Err(_)) | None => "it does not answer".to_owned(),
        };
        let message = format!("the tenants' server at {} cannot be used: {why}", self.place);
        let hint = "its password comes from the address of DATABASE_URL or from PGPASSWORD, and \
            never from .pgpass; or name the server by the four variables TENANTS_PG..";
        Err(Trouble::unavailable("tenants_server", message, hint))
    }

    /// Makes the role that stands for who is not signed in, where it is missing.
    ///
    /// # Errors
    /// The server does not answer, or whoever administers it may make no roles.
    pub async fn prepare(&self, cx: &StepContext) -> Result<(), Trouble> {
        let hint = "whoever administers it is a superuser, or has the rights that README.md names";
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

/// A server that was reached, by what it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached(Option<String>);

impl Reached {
    /// Whether a database may be on this server: one that says of itself what it says, under whatever
    /// name and through whatever pooler; and any, where one of them says nothing.
    pub async fn may_have(&self, pool: &PgPool) -> bool {
        let Some(mine) = &self.0 else { return true };
        identity(pool).await.is_none_or(|theirs| theirs == *mine)
    }
}

async fn identity(server: impl PgExecutor<'_>) -> Option<String> {
    query_scalar(IDENTITY).fetch_one(server).await.ok()
}

/// What [`VARIABLES`] are set to, where that is more than nothing.
async fn variables() -> Result<Vec<Option<Secret>>, Trouble> {
    let resolver = EnvResolver::new().only(VARIABLES);
    let mut values = Vec::new();
    for name in VARIABLES {
        let value = resolver.resolve(name).await?;
        values.push(value.filter(|value| !value.expose().trim().is_empty()));
    }
    Ok(values)
}

fn is_or_are(names: &[&str]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(", "))
}

/// The password in an address, as it is meant: among its parameters, or before its host.
fn password_of(url: &str) -> Option<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let parameters = parameters.split('#').next().unwrap_or_default();
    let mut named = parameters.split('&').filter_map(|one| one.strip_prefix("password="));
    let authority = rest.split('/').next().unwrap_or_default();
    let before = authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':'));
    match named.next_back() {
        // A parameter is spelled as a form is, where a space is a plus.
        Some(named) => Some(decoded(&named.replace('+', " "))),
        None => before.map(|(_, password)| decoded(password)),
    }
}

fn decoded(encoded: &str) -> String {
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
            ("postgres://me:p%40ss%3a@127.0.0.1:1/x", Some("p@ss:")),
            ("postgres://me:100%@h/x?y=a@b", Some("100%")),
            ("postgres://me@h/x?a=b&password=p%26+q", Some("p& q")),
            ("postgres://me:first@h/x?password=second", Some("second")),
            ("postgres://me@h/x", None),
            ("postgres://h/x:y@z", None),
        ] {
            assert_eq!(password_of(url).as_deref(), password, "{url}");
        }
    }

    // covers: R4-19
    #[test]
    fn a_password_may_come_beside_the_address_and_this_machine_has_one_name() {
        let beside = || Some(Secret::new("beside"));
        for (url, password) in [
            ("postgres://me@localhost:5433/x", "beside"),
            ("postgres://me:inside@localhost:5433/x", "inside"),
        ] {
            let found = TenantServer::of(url, beside()).unwrap();
            assert_eq!(found.password.expose(), password, "{url}");
            assert_eq!(found.place.to_string(), "127.0.0.1:5433 as me");
            assert!(found.place.is_here());
        }
        assert!(!TenantServer::of("postgres://me@db.example/x", None).unwrap().place.is_here());
    }
}
