//! What is looked at before anything is written: the server, its settings, the user's rights.

use std::collections::HashMap;

use provision_core::error::{StoreError, StoreErrorKind};
use redis::Value;

use crate::{
    args::Args,
    config::Durability,
    keys::Keys,
    link::Link,
    reply::{text, texts},
    scripts,
};

const OPEN: &str = "open the store";
/// The oldest server that knows all commands used.
const VERSION_LEAST: (u32, u32) = (6, 2);

/// Figures that the server tells of itself.
struct Info(HashMap<String, String>);

impl Info {
    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// Looks whether the server can keep what `durability` promises.
pub(crate) async fn check(link: &Link, durability: Durability) -> Result<(), StoreError> {
    let info = info(link).await?;
    version(&info)?;
    if info.get("loading") == "1" {
        return Err(StoreError::new(StoreErrorKind::Unavailable, "redis_loading", OPEN)
            .with_hint("the server reads its file; it answers soon"));
    }
    if info.get("role") == "slave" {
        return Err(unsuitable("redis_is_replica")
            .with_hint("point the URL at the server that takes writes"));
    }
    eviction(&info)?;
    persistence(link, &info, durability).await?;
    replicas(&info, durability)
}

/// Makes the namespace when it is new; refuses one of another format, and a user without rights.
pub(crate) async fn namespace(link: &Link, namespace: &str, keys: &Keys) -> Result<(), StoreError> {
    if namespace.is_empty() || namespace.contains(['{', '}']) {
        return Err(StoreError::new(StoreErrorKind::Invalid, "redis_wrong_namespace", OPEN)
            .with_hint("a namespace is the hash tag of its keys: not empty, without { and }"));
    }
    link.write(&scripts::OPEN, keys.opening(), &Args::default()).await.map(drop)
}

async fn info(link: &Link) -> Result<Info, StoreError> {
    let answer = text(link.command(&redis::cmd("INFO"), OPEN).await?)?;
    let lines = answer.lines().filter_map(|line| line.split_once(':'));
    Ok(Info(lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()))
}

fn unsuitable(code: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Unsuitable, code, OPEN)
}

fn version(info: &Info) -> Result<(), StoreError> {
    let found = info.get("redis_version");
    let mut parts = found.split('.').map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
        return Err(hidden("its version"));
    };
    if (major, minor) >= VERSION_LEAST {
        return Ok(());
    }
    Err(unsuitable("redis_too_old")
        .with_context(format!("the server is of version {found}"))
        .with_hint("Redis 6.2 or newer is needed"))
}

fn hidden(what: &str) -> StoreError {
    unsuitable("redis_settings_hidden")
        .with_context(format!("the server does not tell {what}"))
        .with_hint("what it keeps cannot be promised: allow INFO and CONFIG GET to this user")
}

/// A key that is evicted is a run that is lost.
fn eviction(info: &Info) -> Result<(), StoreError> {
    match info.get("maxmemory_policy") {
        "noeviction" => Ok(()),
        "" => Err(hidden("its maxmemory-policy")),
        policy => Err(unsuitable("redis_evicts")
            .with_context(format!("maxmemory-policy is {policy}"))
            .with_hint("set `maxmemory-policy noeviction`: what is evicted is lost")),
    }
}

async fn persistence(link: &Link, info: &Info, durability: Durability) -> Result<(), StoreError> {
    if info.get("aof_enabled") != "1" {
        return Err(unsuitable("redis_keeps_nothing")
            .with_context("appendonly is no")
            .with_hint("set `appendonly yes`: without it a restart loses every run"));
    }
    if durability == Durability::ProcessCrash {
        return Ok(());
    }
    match fsync(link).await?.as_str() {
        "always" => Ok(()),
        "" => Err(hidden("its appendfsync")),
        policy => Err(unsuitable("redis_not_synced")
            .with_context(format!("appendfsync is {policy}"))
            .with_hint(
                "set `appendfsync always`, or declare `Durability::ProcessCrash` and live with \
                 the loss of the last second when the power goes",
            )),
    }
}

async fn fsync(link: &Link) -> Result<String, StoreError> {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg("appendfsync");
    let pair = match link.command(&command, OPEN).await? {
        Value::Map(pairs) => pairs.into_iter().next().map(|(_, value)| text(value)).transpose()?,
        answer => texts(answer)?.into_iter().nth(1),
    };
    Ok(pair.unwrap_or_default())
}

fn replicas(info: &Info, durability: Durability) -> Result<(), StoreError> {
    let Durability::Replicated(wanted) = durability else { return Ok(()) };
    let found = info.get("connected_slaves").parse().unwrap_or(0_u32);
    if found >= wanted {
        return Ok(());
    }
    Err(unsuitable("redis_too_few_replicas")
        .with_context(format!("{found} of {wanted} replicas are connected"))
        .with_hint("connect the replicas, or declare a lower durability"))
}
