//! Short-lived tokens that are minted with a long-lived secret: by one caller at a time, kept in
//! memory alone, replaced before their end and once when they are refused.

use std::{
    fmt,
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use provision_core::{Secret, StepError, Verdict};
use tokio::{sync::Mutex, time::Instant};

/// The token of one client, shared by all its callers. Lost with the process.
#[derive(Default)]
pub(crate) struct MintedTokens {
    // Tokio's, since it is held while a token is minted: who waits for it finds the new one.
    current: Mutex<Option<Minted>>,
    /// How often the provider gave no token: for now, or until somebody looks at the secret.
    failures: AtomicU64,
}

impl fmt::Debug for MintedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MintedTokens").finish_non_exhaustive()
    }
}

/// A token, and how long it is used.
pub(crate) struct Minted {
    token: Secret,
    /// The secret it was minted with: another one gets another token.
    with: Secret,
    until: Instant,
}

impl Minted {
    /// A token that was asked for at `asked` and lives so long; it is left alone for `margin` at
    /// its end, and a short one for half of its life.
    pub(crate) fn new(
        token: String,
        with: Secret,
        (asked, life): (Instant, Duration),
        margin: Duration,
    ) -> Self {
        let until = asked + life.saturating_sub(margin.min(life / 2));
        Self { token: Secret::new(token), with, until }
    }

    fn serves(&self, secret: &Secret, refused: Option<&Secret>) -> bool {
        self.with.expose() == secret.expose()
            && refused.is_none_or(|refused| refused.expose() != self.token.expose())
            && Instant::now() < self.until
    }
}

impl MintedTokens {
    /// A token that is good for a while and was minted with this secret; never the one that was
    /// refused. `mint` is polled only if there is none.
    ///
    /// # Errors
    /// What `mint` reports, or that another caller's attempt has failed meanwhile.
    pub(crate) async fn get(
        &self,
        operation: &'static str,
        (secret, refused): (&Secret, Option<&Secret>),
        mint: impl Future<Output = Result<Minted, StepError>> + Send,
    ) -> Result<Secret, StepError> {
        let failures = self.failures.load(Ordering::Acquire);
        let mut current = self.current.lock().await;
        if let Some(minted) = current.as_ref().filter(|minted| minted.serves(secret, refused)) {
            return Ok(minted.token.clone());
        }
        // One failed attempt is the answer for all who waited for it, instead of one after another.
        if self.failures.load(Ordering::Acquire) != failures {
            return Err(StepError::retry(operation)
                .with_code("token_unavailable")
                .with_message("another caller got no token meanwhile"));
        }
        match mint.await {
            Ok(minted) => {
                let token = minted.token.clone();
                *current = Some(minted);
                Ok(token)
            }
            Err(error) => {
                // The end of this caller's lease says nothing about the provider.
                if *error.verdict() != Verdict::Permanent && error.code() != "lease_over" {
                    self.failures.fetch_add(1, Ordering::AcqRel);
                }
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::Ordering, time::Duration};

    use provision_core::{Effect, Secret, StepError, Verdict};

    use super::{Minted, MintedTokens};

    // covers: L4
    #[tokio::test]
    async fn those_who_waited_do_not_ask_again_for_what_was_refused_meanwhile() {
        let throttled = Verdict::Throttled { bucket: "b".into(), after: Duration::from_secs(9) };
        for verdict in [Verdict::Operator, throttled, Verdict::Retry { after: None }] {
            let tokens = MintedTokens::default();
            let secret = Secret::new("long-lived");
            let mints = std::sync::atomic::AtomicU64::new(0);
            let get = || {
                tokens.get("mint", (&secret, None), async {
                    mints.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    Err::<Minted, _>(StepError::new(Effect::None, verdict.clone(), "mint"))
                })
            };
            let (first, second, third) = tokio::join!(get(), get(), get());
            assert_eq!(first.unwrap_err().verdict(), &verdict);
            for waited in [second, third] {
                assert_eq!(waited.unwrap_err().code(), "token_unavailable");
            }
            assert_eq!(mints.load(Ordering::Relaxed), 1, "{verdict:?}");
        }
    }
}
