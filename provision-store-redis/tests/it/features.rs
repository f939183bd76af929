//! The small sagas on a real server, whose clock is let pass where they wait.

use std::sync::Arc;

use provision_testkit::{features::Trial, features_suite, skips::is_long};

use crate::{crash_matrix::OnServer, given::namespace, server::Server};

/// Of so many points one is played, the first being number [`SEED`] of them; in memory they are played
/// all of them each time.
const PARTS: usize = 48;
const SEED: usize = 5;

fn trial() -> Option<Trial<OnServer>> {
    // A server that no other test slows down: what is written together depends on its pace.
    let server = Arc::new(Server::start("")?);
    let trial = Trial::new(move || std::future::ready(OnServer::new(&server.url(), namespace())));
    let (parts, interrupted) = if is_long() { (PARTS / 4, 2) } else { (PARTS, 8) };
    Some(trial.in_real_time().part(SEED, parts).interrupted_part(1, interrupted))
}

features_suite!(
    #[tokio::test]
    on_server,
    trial()
);
