//! Sealed values: ciphertext only, one row for each.

use async_trait::async_trait;
use provision_core::{
    error::StoreError,
    secret::{Sealed, SecretKey, SecretStore},
};
use sqlx::{PgConnection, postgres::PgRow};

use crate::{
    db::{Db, Statement},
    error::{Fault, bad_row},
    rows::Columns,
    store::PostgresStore,
};

fn sealed(row: &PgRow) -> Result<Sealed, Fault> {
    let mut c = Columns::new(row);
    let format = u8::try_from(c.take::<i16>()?).map_err(|_error| bad_row("format"))?;
    Ok(Sealed { format, key_id: c.take()?, bytes: c.take()? })
}

fn with_key(statement: Statement, ns: i32, key: &SecretKey) -> Statement {
    let statement = statement.bind(ns).bind(key.scope.clone()).bind(i64::from(key.generation));
    statement.bind(key.name.clone()).bind(key.path.clone())
}

fn with_value(statement: Statement, value: &Sealed) -> Statement {
    let statement = statement.bind(i16::from(value.format)).bind(value.key_id.clone());
    statement.bind(value.bytes.clone())
}

/// Puts values whose keys are absent.
pub(crate) async fn put(
    db: &Db,
    conn: &mut PgConnection,
    values: &[(i32, &SecretKey, &Sealed)],
) -> Result<(), Fault> {
    if values.is_empty() {
        return Ok(());
    }
    let column = |read: fn(&SecretKey) -> &str| -> Vec<&str> {
        values.iter().map(|(_, key, _)| read(key)).collect()
    };
    let ns: Vec<i32> = values.iter().map(|(ns, ..)| *ns).collect();
    let generations: Vec<i64> =
        values.iter().map(|(_, key, _)| i64::from(key.generation)).collect();
    let formats: Vec<i16> = values.iter().map(|(.., value)| i16::from(value.format)).collect();
    let key_ids: Vec<&str> = values.iter().map(|(.., value)| value.key_id.as_str()).collect();
    let bytes: Vec<&[u8]> = values.iter().map(|(.., value)| value.bytes.as_slice()).collect();
    let query = db.query(&db.sql.secret_put).bind(ns).bind(column(|key| &key.scope));
    let query = query.bind(generations).bind(column(|key| &key.name));
    let query = query.bind(column(|key| &key.path)).bind(formats).bind(key_ids).bind(bytes);
    db.run(conn, query).await.map(drop)
}

#[async_trait]
impl SecretStore for PostgresStore {
    async fn put(&self, key: &SecretKey, value: &Sealed) -> Result<Sealed, StoreError> {
        const OPERATION: &str = "put a secret";
        let db = &*self.shared.db;
        let mut conn = db.acquire(OPERATION).await?;
        let work = async {
            let mut tx = db.begin(&mut conn).await?;
            put(db, &mut tx, &[(self.ns, key, value)]).await?;
            let get = with_key(db.query(&db.sql.secret_get), self.ns, key);
            let rows = db.rows(&mut tx, get).await?;
            let held = sealed(rows.first().ok_or(sqlx::Error::RowNotFound)?)?;
            db.commit(tx).await?;
            Ok(held)
        };
        work.await.map_err(|fault: Fault| fault.into_store(OPERATION))
    }

    async fn replace(
        &self,
        key: &SecretKey,
        old: &Sealed,
        new: &Sealed,
    ) -> Result<bool, StoreError> {
        const OPERATION: &str = "replace a secret";
        let db = &*self.shared.db;
        let mut conn = db.acquire(OPERATION).await?;
        let query = with_key(db.query(&db.sql.secret_replace), self.ns, key);
        let query = with_value(with_value(query, new), old);
        let work = async {
            let mut tx = db.begin(&mut conn).await?;
            let changed = db.run(&mut tx, query).await?;
            db.commit(tx).await?;
            Ok(changed > 0)
        };
        work.await.map_err(|fault: Fault| fault.into_store(OPERATION))
    }

    async fn get(&self, key: &SecretKey) -> Result<Option<Sealed>, StoreError> {
        const OPERATION: &str = "read a secret";
        let db = &self.shared.db;
        let query = with_key(db.query(&db.sql.secret_get), self.ns, key);
        let rows = db.once(OPERATION, query).await?;
        let found = rows.first().map(sealed).transpose();
        found.map_err(|fault| fault.into_store(OPERATION))
    }

    async fn keys(&self, after: Option<&SecretKey>) -> Result<Vec<SecretKey>, StoreError> {
        const OPERATION: &str = "list secrets";
        let db = &self.shared.db;
        let query = db.query(&db.sql.secret_keys).bind(self.ns);
        // Below every key, whose generation is never negative.
        let query = match after {
            Some(key) => query
                .bind(key.scope.clone())
                .bind(i64::from(key.generation))
                .bind(key.name.clone())
                .bind(key.path.clone()),
            None => query.bind("").bind(-1_i64).bind("").bind(""),
        };
        let rows = db.once(OPERATION, query).await?;
        let keys = rows.iter().map(|row| {
            let mut c = Columns::new(row);
            let (scope, generation) = (c.take()?, c.take::<i64>()?);
            let generation = u32::try_from(generation).map_err(|_error| bad_row("generation"))?;
            Ok(SecretKey { scope, generation, name: c.take()?, path: c.take()? })
        });
        keys.collect::<Result<_, Fault>>().map_err(|fault| fault.into_store(OPERATION))
    }

    async fn erase(&self, key: &SecretKey) -> Result<(), StoreError> {
        let db = &self.shared.db;
        let query = with_key(db.query(&db.sql.secret_erase), self.ns, key);
        db.once("erase a secret", query).await.map(drop)
    }
}
