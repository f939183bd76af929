//! What is looked at before anything is asked or written: on every new connection the server and
//! its settings, and when a namespace is opened the user's rights.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use provision_core::error::{StoreError, StoreErrorKind};
use redis::{Cmd, Value, aio::MultiplexedConnection};

use crate::{
    args::Args,
    config::Durability,
    counters::Tally,
    error::sorted,
    keys::Keys,
    link::Link,
    reply::{text, texts},
    scripts,
};

const OPEN: &str = "open the store";
/// The oldest server that tells errors inside scripts apart, and refuses whole scripts.
const VERSION_LEAST: (u32, u32) = (7, 0);

/// Looks at the server behind a new connection: another one may have its address since.
#[derive(Debug)]
pub(crate) struct Look {
    durability: Option<Durability>,
    tally: Arc<Tally>,
    is_open: AtomicBool,
}

impl Look {
    pub(crate) fn new(durability: Option<Durability>, tally: &Arc<Tally>) -> Self {
        Self { durability, tally: Arc::clone(tally), is_open: AtomicBool::new(false) }
    }

    /// Whether the server was a good one before.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Relaxed)
    }

    pub(crate) fn opened(&self) {
        self.is_open.store(true, Relaxed);
    }

    /// Looks whether the server can keep what was declared.
    pub(crate) async fn at(&self, to: &mut MultiplexedConnection) -> Result<(), StoreError> {
        let answer = text(self.ask(to, &redis::cmd("INFO")).await?)?;
        let info = Info::of(&answer);
        version(&info)?;
        if info.get("loading") == "1" {
            return Err(StoreError::new(StoreErrorKind::Unavailable, "redis_loading", OPEN)
                .with_hint("the server reads its file; it answers soon"));
        }
        if info.get("role") == "slave" {
            return Err(unsuitable("redis_is_replica")
                .with_hint("point the URL at the server that takes writes"));
        }
        // Of a sidecar nothing need last.
        let Some(durability) = self.durability else { return Ok(()) };
        eviction(&info)?;
        persists(&info)?;
        if durability != Durability::ProcessCrash {
            let mut command = redis::cmd("CONFIG");
            command.arg("GET").arg("appendfsync").arg("no-appendfsync-on-rewrite");
            syncs(&pairs(self.ask(to, &command).await?)?)?;
        }
        match durability {
            // Later each write tells how many replicas have it.
            Durability::Replicated(wanted) if !self.is_open() => replicas(&info, wanted),
            _ => Ok(()),
        }
    }

    async fn ask(&self, to: &mut MultiplexedConnection, what: &Cmd) -> Result<Value, StoreError> {
        self.tally.sent(what.get_packed_command().len(), false);
        let answer = to.send_packed_command(what).await.and_then(Value::extract_error);
        answer.map_err(|error| sorted(&error, OPEN))
    }
}

/// Figures that the server tells of itself.
struct Info(HashMap<String, String>);

impl Info {
    fn of(answer: &str) -> Self {
        let lines = answer.lines().filter_map(|line| line.split_once(':'));
        Self(lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// Makes the namespace when it is new; refuses one of another format, and a user without rights.
pub(crate) async fn namespace(
    link: &Link,
    namespace: &str,
    keys: &Keys,
    format: &str,
) -> Result<(), StoreError> {
    if namespace.is_empty() || namespace.contains(['{', '}']) {
        return Err(StoreError::new(StoreErrorKind::Invalid, "redis_wrong_namespace", OPEN)
            .with_hint("a namespace is the hash tag of its keys: not empty, without { and }"));
    }
    // Of no use while the server knows all scripts, but needed when it has forgotten one.
    let mut eval = redis::cmd("EVAL");
    link.command(eval.arg("return 1").arg(0), OPEN).await?;
    if matches!(link.durability(), Some(Durability::Replicated(_))) {
        let mut wait = redis::cmd("WAIT");
        link.command(wait.arg(0).arg(1), OPEN).await?;
    }
    let mut args = Args::default();
    args.push(format);
    link.write(&scripts::OPEN, keys.opening(), &args).await.map(drop)
}

fn pairs(answer: Value) -> Result<HashMap<String, String>, StoreError> {
    if let Value::Map(pairs) = answer {
        return pairs.into_iter().map(|(name, value)| Ok((text(name)?, text(value)?))).collect();
    }
    let mut words = texts(answer)?.into_iter();
    let pair = std::iter::from_fn(|| Some((words.next()?, words.next()?)));
    Ok(pair.collect())
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
        .with_hint("Redis 7.0 or newer is needed, or Valkey"))
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

fn persists(info: &Info) -> Result<(), StoreError> {
    if info.get("aof_enabled") != "1" {
        return Err(unsuitable("redis_keeps_nothing")
            .with_context("appendonly is no")
            .with_hint("set `appendonly yes`: without it a restart loses every run"));
    }
    Ok(())
}

fn syncs(settings: &HashMap<String, String>) -> Result<(), StoreError> {
    let of = |name: &str| settings.get(name).map_or("", String::as_str);
    match of("appendfsync") {
        "always" => {}
        "" => return Err(hidden("its appendfsync")),
        policy => {
            return Err(unsuitable("redis_not_synced")
                .with_context(format!("appendfsync is {policy}"))
                .with_hint(
                    "set `appendfsync always`, or declare `Durability::ProcessCrash` and live \
                     with the loss of the last second when the power goes",
                ));
        }
    }
    match of("no-appendfsync-on-rewrite") {
        "no" => Ok(()),
        "" => Err(hidden("its no-appendfsync-on-rewrite")),
        // While it rewrites its file, the server would answer before it has synced.
        value => Err(unsuitable("redis_not_synced")
            .with_context(format!("no-appendfsync-on-rewrite is {value}"))
            .with_hint(
                "set `no-appendfsync-on-rewrite no`, or declare `Durability::ProcessCrash` and \
                 live with the loss of a rewrite's time when the power goes",
            )),
    }
}

fn replicas(info: &Info, wanted: u32) -> Result<(), StoreError> {
    let found = info.get("connected_slaves").parse().unwrap_or(0_u32);
    if found >= wanted {
        return Ok(());
    }
    Err(unsuitable("redis_too_few_replicas")
        .with_context(format!("{found} of {wanted} replicas are connected"))
        .with_hint("connect the replicas, or declare a lower durability"))
}

#[cfg(test)]
mod tests {
    use super::{Info, version};

    #[test]
    fn servers_that_hide_errors_of_scripts_are_too_old() {
        let of = |words: &str| version(&Info::of(words));
        for old in ["6.2.14", "6.0.0", "5.0.7"] {
            let error = of(&format!("# Server\r\nredis_version:{old}\r\n")).unwrap_err();
            assert_eq!(error.code(), "redis_too_old", "{old}");
            assert!(error.hint().is_some());
        }
        for good in ["7.0.15", "7.2.4", "8.0.0"] {
            assert!(of(&format!("redis_version:{good}")).is_ok(), "{good}");
        }
        assert_eq!(of("redis_mode:standalone").unwrap_err().code(), "redis_settings_hidden");
    }
}
