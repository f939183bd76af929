//! Who may do what on a server that host and tenants share.

use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions,
    query_scalar,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use crate::place::{Place, ran};

/// What a role that is no superuser sets besides.
const SETTINGS: &str = "provision.schema_version, lc_messages";

/// A role of a test's own, made and dropped by whoever the tests log in as.
struct Login {
    conn: PgConnection,
    name: String,
}

impl Login {
    async fn new(place: &Place, rights: &str) -> Self {
        let mut conn = PgConnection::connect(&place.url).await.unwrap();
        let name = format!("{}_login", place.slug);
        let make = format!("CREATE ROLE {name} LOGIN {rights} PASSWORD 'of_this_test'");
        conn.execute(AssertSqlSafe(make)).await.unwrap();
        Self { conn, name }
    }

    async fn execute(&mut self, sql: &str) {
        let sql = sql.replace("{}", &self.name);
        self.conn.execute(AssertSqlSafe(sql)).await.unwrap();
    }

    async fn drop(mut self) {
        self.execute("DROP OWNED BY {}; DROP ROLE {}").await;
    }
}

// covers: R4-02, R4-11
#[tokio::test]
async fn a_server_is_administered_with_the_rights_that_are_named() {
    let Some(place) = Place::new().await else { return };
    let mut admin = Login::new(&place, "CREATEDB CREATEROLE").await;
    admin.execute(&format!("GRANT SET ON PARAMETER {SETTINGS} TO {{}}")).await;
    let server: PgConnectOptions = place.url.parse().unwrap();
    let (host, port) = (server.get_host().to_owned(), server.get_port().to_string());
    let typed = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.env("TENANTS_PGHOST", &host).env("TENANTS_PGPORT", &port);
        command.env("TENANTS_PGUSER", &admin.name).env("TENANTS_PGPASSWORD", "of_this_test");
        ran(command)
    };
    let up = typed(&[]).await;
    assert_eq!((up.code, up.keys().len()), (Some(0), 2), "{up:?}");
    assert_eq!(place.catalog().await.len(), 3);
    let measured = typed(&["usage"]).await;
    assert_eq!(measured.code, Some(0), "{measured:?}");
    let down = typed(&["--tear-down"]).await;
    assert_eq!(down.code, Some(0), "{down:?}");
    assert!(place.catalog().await.is_empty());
    admin.execute(&format!("REVOKE SET ON PARAMETER {SETTINGS} FROM {{}}")).await;
    admin.drop().await;
}

// covers: R4-02
#[tokio::test]
async fn logins_of_tenants_do_not_get_into_the_database_of_the_host() {
    let Some(place) = Place::new().await else { return };
    let may = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'project\\_%' AND rolcanlogin
        AND has_database_privilege(oid, current_database(), 'CONNECT')";
    let open =
        "SELECT has_database_privilege('public', current_database(), 'CONNECT')::int::bigint";
    assert_eq!(place.number(open).await, 1);
    let up = place.run(&[]).await;
    assert_eq!(up.code, Some(0), "{up:?}");
    assert_eq!((place.number(open).await, place.number(may).await), (0, 0));
    let down = place.run(&["--tear-down"]).await;
    assert_eq!(down.code, Some(0), "{down:?}");
}

// covers: R4-02
#[tokio::test]
async fn a_host_that_cannot_close_its_database_makes_nothing() {
    let Some(place) = Place::new().await else { return };
    let mut host = Login::new(&place, "CREATEDB CREATEROLE").await;
    let name = place.url.rsplit_once('/').unwrap().1.to_owned();
    host.execute(&format!("GRANT CREATE ON DATABASE {name} TO {{}}")).await;
    let server: PgConnectOptions = place.url.parse().unwrap();
    let url = format!(
        "postgres://{}:of_this_test@{}:{}/{name}",
        host.name,
        server.get_host(),
        server.get_port()
    );
    let typed = || {
        let mut command = place.command(&[]);
        command.env("DATABASE_URL", &url);
        ran(command)
    };
    let refused = typed().await;
    assert_eq!(refused.code, Some(69), "{refused:?}");
    assert_eq!(refused.json()["error"]["code"], "open_database", "{refused:?}");
    assert!(place.catalog().await.is_empty());
    let tables = "SELECT (to_regclass('tenants.projects') IS NOT NULL)::int::bigint";
    assert_eq!(place.number(tables).await, 0);
    // Its owner does what it was told, and it goes on.
    host.execute(&format!("REVOKE CONNECT, TEMPORARY ON DATABASE {name} FROM PUBLIC")).await;
    host.execute(&format!("GRANT CONNECT ON DATABASE {name} TO {{}}")).await;
    host.execute(&format!("GRANT SET ON PARAMETER {SETTINGS} TO {{}}")).await;
    let up = typed().await;
    assert_eq!((up.code, up.keys().len()), (Some(0), 2), "{up:?}");
    let mut command = place.command(&["--tear-down"]);
    command.env("DATABASE_URL", &url);
    let down = ran(command).await;
    assert_eq!(down.code, Some(0), "{down:?}");
    host.execute(&format!("REVOKE SET ON PARAMETER {SETTINGS} FROM {{}}")).await;
    host.drop().await;
}

/// Passes on what comes to a port of its own, as a pooler before a server does.
async fn passed_on(server: &PgConnectOptions) -> u16 {
    let (host, port) = (server.get_host().to_owned(), server.get_port());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let Ok(mut server) = TcpStream::connect((&*host, port)).await else { continue };
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    own
}

// covers: R4-02
#[tokio::test]
async fn a_server_is_known_through_a_pooler_and_who_administers_it_is_not_locked_out() {
    let Some(place) = Place::new().await else { return };
    let mut admin = Login::new(&place, "CREATEDB CREATEROLE").await;
    admin.execute(&format!("GRANT SET ON PARAMETER {SETTINGS} TO {{}}")).await;
    let server: PgConnectOptions = place.url.parse().unwrap();
    let (host, port) = (server.get_host().to_owned(), server.get_port().to_string());
    let pooler = passed_on(&server).await;
    let url = place.url.replace(&format!(":{port}/"), &format!(":{pooler}/"));
    assert_ne!(url, place.url);
    let typed = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.env("DATABASE_URL", &url);
        command.env("TENANTS_PGHOST", &host).env("TENANTS_PGPORT", &port);
        command.env("TENANTS_PGUSER", &admin.name).env("TENANTS_PGPASSWORD", "of_this_test");
        ran(command)
    };
    let up = typed(&[]).await;
    assert_eq!((up.code, up.keys().len()), (Some(0), 2), "{up:?}");
    let open =
        "SELECT has_database_privilege('public', current_database(), 'CONNECT')::int::bigint";
    assert_eq!(place.number(open).await, 0);
    let enters =
        format!("SELECT has_database_privilege('{}', current_database(), 'CONNECT')", admin.name);
    let enters: bool =
        query_scalar(AssertSqlSafe(enters)).fetch_one(&mut admin.conn).await.unwrap();
    assert!(enters);
    let down = typed(&["--tear-down"]).await;
    assert_eq!(down.code, Some(0), "{down:?}");
    admin.execute(&format!("REVOKE SET ON PARAMETER {SETTINGS} FROM {{}}")).await;
    admin.drop().await;
}
