//! Sealed values: ciphertext only, one row for each.

use async_trait::async_trait;
use provision_core::{
    error::StoreError,
    secret::{Sealed, SecretKey, SecretStore},
};
use rusqlite::{Row, params};

use crate::{error::Fault, rows::all, sql, store::SqliteStore, unit::Unit};

fn sealed(row: &Row<'_>) -> Result<Sealed, Fault> {
    Ok(Sealed { format: row.get(0)?, key_id: row.get(1)?, bytes: row.get(2)? })
}

impl Unit<'_> {
    /// Puts a value if the key is absent.
    pub(crate) fn put_sealed(&self, ns: i64, key: &SecretKey, value: &Sealed) -> Result<(), Fault> {
        let values = params![
            ns,
            key.scope,
            key.generation,
            key.name,
            key.path,
            value.format,
            value.key_id,
            value.bytes,
        ];
        self.run(sql::SECRET_PUT, values)?;
        Ok(())
    }
}

#[async_trait]
impl SecretStore for SqliteStore {
    async fn put(&self, key: &SecretKey, value: &Sealed) -> Result<Sealed, StoreError> {
        let (ns, key, value) = (self.ns(), key.clone(), value.clone());
        self.write("put a secret", move |unit| {
            unit.put_sealed(ns, &key, &value)?;
            let values = (ns, &key.scope, key.generation, &key.name, &key.path);
            let held = unit.first(sql::SECRET_GET, values, sealed)?;
            Ok(held.ok_or(rusqlite::Error::QueryReturnedNoRows)?)
        })
        .await
    }

    async fn replace(
        &self,
        key: &SecretKey,
        old: &Sealed,
        new: &Sealed,
    ) -> Result<bool, StoreError> {
        let (ns, key, old, new) = (self.ns(), key.clone(), old.clone(), new.clone());
        self.write("replace a secret", move |unit| {
            let values = params![
                ns,
                key.scope,
                key.generation,
                key.name,
                key.path,
                new.format,
                new.key_id,
                new.bytes,
                old.format,
                old.key_id,
                old.bytes,
            ];
            Ok(unit.run(sql::SECRET_REPLACE, values)? > 0)
        })
        .await
    }

    async fn get(&self, key: &SecretKey) -> Result<Option<Sealed>, StoreError> {
        let (ns, key) = (self.ns(), key.clone());
        self.read("read a secret", move |conn| {
            let values = (ns, &key.scope, key.generation, &key.name, &key.path);
            Ok(all(conn, sql::SECRET_GET, values, sealed)?.pop())
        })
        .await
    }

    async fn keys(&self, after: Option<&SecretKey>) -> Result<Vec<SecretKey>, StoreError> {
        let (ns, after) = (self.ns(), after.cloned());
        self.read("list secrets", move |conn| {
            // Below every key, whose generation is never negative.
            let (scope, generation, name, path) = match &after {
                Some(key) => {
                    (key.scope.as_str(), i64::from(key.generation), key.name.as_str(), &*key.path)
                }
                None => ("", -1, "", ""),
            };
            all(conn, sql::SECRET_KEYS, (ns, scope, generation, name, path), |row| {
                let (scope, generation, name, path) =
                    (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
                Ok(SecretKey { scope, generation, name, path })
            })
        })
        .await
    }

    async fn erase(&self, key: &SecretKey) -> Result<(), StoreError> {
        let (ns, key) = (self.ns(), key.clone());
        self.write("erase a secret", move |unit| {
            let values = (ns, &key.scope, key.generation, &key.name, &key.path);
            unit.run(sql::SECRET_ERASE, values).map(drop)
        })
        .await
    }
}
