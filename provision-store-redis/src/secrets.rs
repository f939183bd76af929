//! Sealed values: ciphertext only.

use async_trait::async_trait;
use provision_core::{
    error::StoreError,
    secret::{Sealed, SecretKey, SecretStore},
};
use redis::Value;

use crate::{
    args::Args,
    error::bad_row,
    keys::Reach,
    reply::{bytes, changed, texts},
    rows::hex,
    scripts,
    store::RedisStore,
};

/// Keys one call of [`SecretStore::keys`] answers.
const KEYS_PAGE: usize = 1_000;

/// A key as text that sorts like it.
pub(crate) fn key_text(key: &SecretKey) -> String {
    format!("{}.{:010}.{}.{}", hex(&key.scope), key.generation, hex(&key.name), hex(&key.path))
}

fn key_of(text: &str) -> Option<SecretKey> {
    let mut parts = text.split('.');
    let scope = unhex(parts.next()?)?;
    let generation = parts.next()?.parse().ok()?;
    let (name, path) = (unhex(parts.next()?)?, unhex(parts.next()?)?);
    Some(SecretKey { scope, generation, name, path })
}

fn unhex(text: &str) -> Option<String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|half| u8::try_from(half).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some((digit(*high)? << 4) | digit(*low)?),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
    String::from_utf8(bytes?).ok()
}

/// `<format> <id of the key, in hexadecimal> <bytes>`.
pub(crate) fn value_bytes(value: &Sealed) -> Vec<u8> {
    let mut stored = format!("{} {} ", value.format, hex(&value.key_id)).into_bytes();
    stored.extend_from_slice(&value.bytes);
    stored
}

fn value_of(stored: Value) -> Result<Sealed, StoreError> {
    let stored = bytes(stored)?;
    let mut parts = stored.splitn(3, |byte| *byte == b' ');
    let mut read = || {
        let format = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        let key_id = unhex(std::str::from_utf8(parts.next()?).ok()?)?;
        Some(Sealed { format, key_id, bytes: parts.next()?.to_vec() })
    };
    read().ok_or_else(|| bad_row("a sealed value"))
}

#[async_trait]
impl SecretStore for RedisStore {
    async fn put(&self, key: &SecretKey, value: &Sealed) -> Result<Sealed, StoreError> {
        let mut args = Args::default();
        args.push(key_text(key));
        args.push(value_bytes(value));
        value_of(self.link().write(&scripts::SECRET_PUT, self.keys().of(Reach::All), &args).await?)
    }

    async fn replace(
        &self,
        key: &SecretKey,
        old: &Sealed,
        new: &Sealed,
    ) -> Result<bool, StoreError> {
        let mut args = Args::default();
        args.push(key_text(key));
        args.push(value_bytes(old));
        args.push(value_bytes(new));
        let keys = self.keys().of(Reach::All);
        Ok(changed(&self.link().write(&scripts::SECRET_REPLACE, keys, &args).await?))
    }

    async fn get(&self, key: &SecretKey) -> Result<Option<Sealed>, StoreError> {
        let mut args = Args::default();
        args.push(key_text(key));
        let keys = self.keys().of(Reach::All);
        match self.link().read(&scripts::SECRET_GET, keys, &args).await? {
            Value::Nil => Ok(None),
            stored => value_of(stored).map(Some),
        }
    }

    async fn keys(&self, after: Option<&SecretKey>) -> Result<Vec<SecretKey>, StoreError> {
        let mut args = Args::default();
        args.push(after.map(key_text).unwrap_or_default());
        args.count(KEYS_PAGE);
        let keys = self.keys().of(Reach::All);
        let found = texts(self.link().read(&scripts::SECRET_KEYS, keys, &args).await?)?;
        let key = |text: &String| key_of(text).ok_or_else(|| bad_row("the key of a sealed value"));
        found.iter().map(key).collect()
    }

    async fn erase(&self, key: &SecretKey) -> Result<(), StoreError> {
        let mut args = Args::default();
        args.push(key_text(key));
        let keys = self.keys().of(Reach::All);
        self.link().write(&scripts::SECRET_ERASE, keys, &args).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::{Sealed, SecretKey, key_of, key_text, value_bytes, value_of};

    #[test]
    fn keys_and_values_come_back_and_keys_sort_as_they_do() {
        let key = |scope: &str, generation, name: &str| SecretKey {
            scope: scope.to_owned(),
            generation,
            name: name.to_owned(),
            path: "a/b".to_owned(),
        };
        let mut keys = [
            key("b", 0, "x"),
            key("a.b", 3, "y"),
            key("a", 10, "ü"),
            key("a", 9, "z"),
            key("", 0, ""),
        ];
        for key in &keys {
            assert_eq!(key_of(&key_text(key)).as_ref(), Some(key));
        }
        let mut texts: Vec<_> = keys.iter().map(key_text).collect();
        texts.sort();
        keys.sort();
        assert_eq!(texts, keys.iter().map(key_text).collect::<Vec<_>>());
        let value = Sealed { format: 1, key_id: "k 1".to_owned(), bytes: vec![0, 32, 255, 32] };
        assert_eq!(value_of(Value::BulkString(value_bytes(&value))).ok(), Some(value));
    }
}
