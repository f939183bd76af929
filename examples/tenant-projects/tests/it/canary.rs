//! No key and no password stands in the open anywhere but on the line that shows it.

use std::{fs, path::Path};

use provision_core::RunId;
use provision_testkit::harness::encodings;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, query_scalar};
use tenant_projects::saga::Ready;

use crate::place::{Place, Ran};

const FAST: [&str; 2] = ["--key-hash", "argon2id"];

/// Everything that was written down, with the name of where.
type Texts = Vec<(String, String)>;

/// Every row of every table of the host's database.
async fn dump(place: &Place) -> Texts {
    let mut conn = PgConnection::connect(&place.url).await.unwrap();
    let tables = "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables
        WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
    let tables: Vec<String> = query_scalar(tables).fetch_all(&mut conn).await.unwrap();
    assert!(tables.len() > 10, "{tables:?}");
    let mut texts = Vec::new();
    for table in tables {
        let rows = format!("SELECT to_jsonb(t)::text || t::text FROM {table} t");
        let rows: Vec<String> =
            query_scalar(AssertSqlSafe(rows)).fetch_all(&mut conn).await.unwrap();
        texts.push((table, rows.join("\n")));
    }
    texts
}

/// Every file of a folder and those below it.
fn files(folder: &Path, texts: &mut Texts) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, texts);
        } else {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            texts.push((path.display().to_string(), text));
        }
    }
}

/// Both streams of a command, but for the lines that show keys.
fn streams(name: &str, ran: &Ran) -> Texts {
    let lines = ran.said.lines().filter(|line| !line.contains("\"key\":"));
    vec![
        (format!("stdout of {name}"), lines.collect::<Vec<_>>().join("\n")),
        (format!("stderr of {name}"), ran.error.clone()),
    ]
}

/// Where one of these secrets can be read, in whatever form it usually escapes.
fn leaks(secrets: &[String], texts: &Texts) -> Vec<String> {
    let forms: Vec<String> = secrets.iter().flat_map(|secret| encodings(secret)).collect();
    let shown = texts.iter().filter(|(_, text)| forms.iter().any(|form| text.contains(form)));
    shown.map(|(place, _)| place.clone()).collect()
}

// covers: X1, R4-15, R4-21
#[tokio::test]
async fn no_key_and_no_password_can_be_read_anywhere_else() {
    let Some(place) = Place::new().await else { return };
    let (mut texts, mut secrets) = (Texts::new(), Vec::new());
    for arguments in [
        &["--fail-at", "keys"][..],
        &["--fail-at", "activate"],
        &["--crash-at", "login"],
        &["--crash-at", "keys"],
        &[],
        &["usage"],
        &["inventory"],
    ] {
        // What looks has no key to hash.
        let fast = if arguments.first().is_some_and(|a| !a.starts_with('-')) { 0 } else { 2 };
        let ran = place.run(&[&FAST[..fast], arguments].concat()).await;
        secrets.extend(ran.keys());
        texts.extend(streams(&arguments.join(" "), &ran));
        if arguments.is_empty() {
            assert_eq!((ran.code, secrets.len()), (Some(0), 2), "{ran:?}");
        }
    }
    // A key that is lost and replaced, by a run of its own.
    place.execute("UPDATE tenants.api_keys SET shown_at = NULL WHERE purpose = 'secret'").await;
    let ran = place.run(&FAST).await;
    secrets.extend(ran.keys());
    texts.extend(streams("replacing", &ran));
    assert_eq!(secrets.len(), 3, "{ran:?}");
    let run: RunId = ran.json()["run"].as_str().unwrap().parse().unwrap();
    let host = place.host().await;
    let ready = host.engine.handle::<Ready>(run).output().await.unwrap();
    let password = host.engine.reveal(&run, ready.password.as_ref().unwrap()).await.unwrap();
    secrets.push(password.expose().to_owned());
    drop(host);

    texts.extend(dump(&place).await);
    files(place.path(), &mut texts);
    assert!(texts.len() > 30, "{}", texts.len());
    assert_eq!(leaks(&secrets, &texts), Vec::<String>::new());

    // What is planted is found: a key in a table, and a password in a file, in another form.
    let mut conn = PgConnection::connect(&place.url).await.unwrap();
    let plant = "UPDATE tenants.projects SET name = $1 WHERE state = 'active'";
    sqlx::query(plant).bind(&secrets[2]).execute(&mut conn).await.unwrap();
    let hex: String = secrets[3].bytes().map(|byte| format!("{byte:02x}")).collect();
    fs::write(place.path().join("planted"), hex).unwrap();
    let mut planted = dump(&place).await;
    files(place.path(), &mut planted);
    let file = place.path().join("planted").display().to_string();
    assert_eq!(leaks(&secrets, &planted), ["tenants.projects".to_owned(), file]);
    drop(conn);
    assert_eq!(place.run(&["--tear-down"]).await.code, Some(0));
}
