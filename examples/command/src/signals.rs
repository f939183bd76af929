//! Ctrl-C and SIGTERM: the first one asks to stop between calls, the second one ends the process.

use tokio::{sync::watch, task::JoinSet};

/// Becomes true at the first Ctrl-C or SIGTERM; a second one ends the process with exit code 5.
///
/// Both end when the set is dropped. An error of the receiver means that nobody listens any more.
#[must_use]
pub fn interrupted() -> (JoinSet<()>, watch::Receiver<bool>) {
    let (sender, receiver) = watch::channel(false);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        signal().await;
        let _ = sender.send(true);
        signal().await;
        end_now();
    });
    (tasks, receiver)
}

#[allow(clippy::exit, reason = "asked twice; what is done is recorded, what is open is looked up")]
fn end_now() {
    std::process::exit(5);
}

/// Waits for one Ctrl-C or SIGTERM.
#[cfg(unix)]
pub async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

/// Waits for one Ctrl-C.
#[cfg(not(unix))]
pub async fn signal() {
    let _ = tokio::signal::ctrl_c().await;
}
