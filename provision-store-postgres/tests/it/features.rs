//! The small sagas on a real server, whose clock is let pass where they wait.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use provision_testkit::{features::Trial, features_suite, skips::is_long};
use uuid::Uuid;

use crate::{
    crash_matrix::{OnServer, pool},
    given::Schema,
};

/// Of so many points one is played, the first being number [`SEED`] of them; in memory they are played
/// all of them each time.
const PARTS: usize = 48;
const SEED: usize = 17;

fn trial() -> Option<Trial<OnServer>> {
    let schema = Arc::new(Schema::passed_on()?);
    let (pool, places) = (pool(&schema), AtomicU64::new(0));
    let test = Uuid::now_v7();
    let trial = Trial::new(move || {
        let namespace = format!("{test}-{}", places.fetch_add(1, Relaxed));
        std::future::ready(OnServer::new(&pool, &schema, &namespace))
    });
    let (parts, interrupted) = if is_long() { (PARTS / 4, 2) } else { (PARTS, 8) };
    Some(trial.in_real_time().part(SEED % parts, parts).interrupted_part(1, interrupted))
}

features_suite!(
    #[tokio::test]
    on_server,
    trial()
);
