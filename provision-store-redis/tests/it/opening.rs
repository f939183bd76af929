//! Opening a store: servers, settings and users that will not do.

use std::time::Duration;

use provision_core::{
    StoreError,
    error::StoreErrorKind,
    store::{LeaseRequest, NewRun, StateStore as _, Submission},
};
use provision_store_redis::{Durability, RedisConfig, RedisStore};
use provision_testkit::conformance::{acquire_any, held_for, new_worker, run_head};
use redis::Value;

use crate::{given::url, server::Server};

/// Why this cannot be opened; it has a hint, and no password in any of its words.
async fn refused(config: RedisConfig) -> StoreError {
    let error = config.open().await.expect_err("it is refused");
    assert!(error.hint().is_some(), "{error} has no hint");
    let words = format!("{error} {error:?}");
    assert!(!words.contains("hunter2"), "{words}");
    error
}

fn told(error: &StoreError) -> (StoreErrorKind, &str) {
    (error.kind(), error.code())
}

/// The server holds nothing at all.
fn is_empty(server: &Server) -> bool {
    server.ask("DBSIZE").unwrap() == Value::Int(0)
}

#[tokio::test]
async fn addresses_that_lead_nowhere_say_so() {
    for url in ["", "postgres://127.0.0.1", "redis://", "not an address"] {
        let error = refused(RedisConfig::new(url)).await;
        assert_eq!(told(&error), (StoreErrorKind::Unsuitable, "redis_wrong_url"), "{url:?}");
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = refused(RedisConfig::new(format!("redis://u:hunter2@127.0.0.1:{port}"))).await;
    assert_eq!(told(&error), (StoreErrorKind::Unavailable, "redis_unreachable"));
}

// covers: X1
#[tokio::test]
async fn passwords_that_are_missing_or_wrong_say_so() {
    let Some(server) = Server::start("requirepass hunter3") else { return };
    let error = refused(RedisConfig::new(server.url())).await;
    assert_eq!(told(&error), (StoreErrorKind::Unsuitable, "redis_password_needed"));
    let url = format!("redis://:hunter2@127.0.0.1:{}", server.port());
    let error = refused(RedisConfig::new(url)).await;
    assert_eq!(told(&error), (StoreErrorKind::Unsuitable, "redis_wrong_password"));
    let url = format!("redis://:hunter3@127.0.0.1:{}", server.port());
    RedisStore::open(url).await.unwrap();
}

#[tokio::test]
async fn a_server_that_would_lose_runs_is_refused_before_anything_is_written() {
    for (settings, code) in [
        ("maxmemory-policy allkeys-lru", "redis_evicts"),
        ("appendonly no", "redis_keeps_nothing"),
        ("appendfsync everysec", "redis_not_synced"),
        ("no-appendfsync-on-rewrite yes", "redis_not_synced"),
    ] {
        let Some(server) = Server::start(settings) else { return };
        let error = refused(RedisConfig::new(server.url())).await;
        assert_eq!(told(&error), (StoreErrorKind::Unsuitable, code), "{settings}");
        assert!(is_empty(&server), "{settings}");
    }
    let Some(server) = Server::start("appendfsync everysec") else { return };
    let level = |level| RedisConfig::new(server.url()).with_durability(level);
    level(Durability::ProcessCrash).open().await.unwrap();
    let error = refused(level(Durability::Replicated(1))).await;
    assert_eq!(error.code(), "redis_not_synced");
    server.ask("CONFIG SET appendfsync always").unwrap();
    let error = refused(level(Durability::Replicated(1))).await;
    assert_eq!(told(&error), (StoreErrorKind::Unsuitable, "redis_too_few_replicas"));
}

#[tokio::test]
async fn a_replica_is_refused() {
    let Some(server) = Server::start("") else { return };
    let Some(replica) = Server::start(&format!("replicaof 127.0.0.1 {}", server.port())) else {
        return;
    };
    let error = refused(RedisConfig::new(replica.url())).await;
    assert_eq!(told(&error), (StoreErrorKind::Unsuitable, "redis_is_replica"));
    assert!(is_empty(&server));
}

/// What the page of the crate lists.
const COMMANDS: &str = "+eval +evalsha +time +info +config|get +wait +publish +subscribe +hget \
    +hset +hsetnx +hmget +hgetall +hlen +hexists +hdel +zadd +zrem +zscore +zcard +zrange \
    +zlexcount +zrangebylex +zrevrangebylex +zrangebyscore +zrandmember";

// Each right that is listed is needed, and no other is.
#[tokio::test]
async fn a_user_with_the_listed_rights_can_do_everything_and_with_one_less_is_told_so() {
    let Some(server) = Server::start("") else { return };
    let user = |commands: &str| {
        let words =
            format!("ACL SETUSER worker reset on >hunter2 ~{{acme}}:* &{{acme}}:meta {commands}");
        server.ask(&words).unwrap();
        let url = format!("redis://worker:hunter2@127.0.0.1:{}", server.port());
        RedisConfig::new(url).with_namespace("acme")
    };
    let listed: Vec<&str> = COMMANDS.split_whitespace().collect();
    let docs = include_str!("../../src/docs.md");
    for right in &listed {
        let name = right.trim_start_matches('+').to_uppercase();
        assert!(docs.contains(&format!("`{name}`")), "{name} is not on the page");
        // These are needed by another level, or only to be told of work sooner.
        if ["+wait", "+publish", "+subscribe"].contains(right) {
            continue;
        }
        let others: Vec<_> = listed.iter().copied().filter(|other| other != right).collect();
        let less = others.join(" ");
        let error = refused(user(&less)).await;
        assert_eq!(told(&error), (StoreErrorKind::Unsuitable, "redis_not_permitted"), "{right}");
        assert!(is_empty(&server), "{right}");
    }
    let config = user(COMMANDS);
    let error = refused(config.clone().with_namespace("other")).await;
    assert_eq!(error.code(), "redis_not_permitted", "S24: another namespace is out of its reach");
    let store = config.open().await.unwrap();
    assert!(store.now().await.is_ok());
    crate::everything::everything(&store).await;
    // More leases that are over than are left uncounted: those that come later remove some.
    let worker = new_worker();
    let born = |_| {
        let lease_to = Some((worker, Duration::from_secs(60)));
        Submission::Run(Box::new(NewRun { head: run_head(), lease_to: lease_to.map(Into::into) }))
    };
    store.submit(&(0..100).map(born).collect::<Vec<_>>()).await.unwrap();
    let retire = LeaseRequest { retire: true, ..held_for(worker, Duration::from_secs(60)) };
    store.lease(&retire).await.unwrap();
    let counted =
        || -> u64 { redis::from_redis_value(server.ask("ZCARD {acme}:capped").unwrap()).unwrap() };
    let before = counted();
    let mut next = acquire_any(new_worker(), Duration::from_secs(60));
    next.acquire.as_mut().unwrap().limit = 1;
    assert_eq!(store.lease(&next).await.unwrap().leased.len(), 1);
    assert!(counted() < before, "leases that are over are removed");
}

#[tokio::test]
async fn a_namespace_of_another_format_is_refused_and_left_alone() {
    let Some(server) = Server::start("") else { return };
    server.ask("HSET {default}:meta format 3").unwrap();
    let error = refused(RedisConfig::new(server.url())).await;
    assert_eq!(told(&error), (StoreErrorKind::Damaged, "schema_newer"));
    assert_eq!(server.ask("DBSIZE").unwrap(), Value::Int(1));
    server.ask("SET {text}:meta words").unwrap();
    let error = refused(RedisConfig::new(server.url()).with_namespace("text")).await;
    assert_eq!(told(&error), (StoreErrorKind::Damaged, "redis_wrong_type"));
}

#[tokio::test]
async fn names_that_would_break_the_hash_tag_are_refused() {
    let Some(url) = url() else { return };
    for name in ["", "a}b", "{"] {
        let error = refused(RedisConfig::new(url).with_namespace(name)).await;
        assert_eq!(told(&error), (StoreErrorKind::Invalid, "redis_wrong_namespace"));
    }
}

// covers: S24
#[tokio::test]
async fn a_store_leaves_no_key_but_those_of_its_namespace() {
    let Some(server) = Server::start("") else { return };
    let store = RedisStore::open(server.url()).await.unwrap();
    crate::everything::everything(&store).await;
    let keys: Vec<String> = redis::from_redis_value(server.ask("KEYS *").unwrap()).unwrap();
    assert!(keys.len() >= 15, "{keys:?}");
    for key in keys {
        let kind = key.strip_prefix("{default}:").expect("a key of the namespace");
        assert!(crate::given::KINDS.contains(&kind), "{key}");
        assert!(include_str!("../../src/docs.md").contains(&format!("`{kind}`")), "{key}");
    }
}

// A failure of the whole server must not look like a new, empty one.
#[tokio::test]
async fn a_store_whose_keys_are_gone_says_so_and_begins_nothing_anew() {
    let Some(server) = Server::start("") else { return };
    let store = RedisStore::open(server.url()).await.unwrap();
    crate::everything::everything(&store).await;
    server.ask("FLUSHALL").unwrap();
    let error = store.now().await.unwrap_err();
    assert_eq!(told(&error), (StoreErrorKind::Unsuitable, "redis_namespace_gone"));
    let error = store.submit(&[crate::everything::submission()]).await.unwrap_err();
    assert_eq!(error.code(), "redis_namespace_gone");
    assert!(is_empty(&server));
    let again = RedisStore::open(server.url()).await.unwrap();
    crate::everything::everything(&again).await;
    assert!(store.now().await.is_ok());
}
