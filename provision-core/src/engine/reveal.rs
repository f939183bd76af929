//! Handing a run's sealed values to their owner: for as long as they are kept, or once.

use super::Engine;
use crate::{
    error::{Error, ErrorKind},
    id::RunId,
    secret::{Sealed, Secret, SecretKey, SecretRef},
    vault::{Binding, Vault},
};

/// Format of the mark that stands where a value was, between its last showing and its erasure.
const SHOWN: u8 = 0;

impl Engine {
    /// Opens a sealed value of a run, for the host that hands it to its owner.
    ///
    /// Whoever may call it is the host's to decide: the engine only sees to it that the value is one
    /// of this run's.
    ///
    /// # Errors
    /// Kind `Invalid`: the reference is not to a sealed value of this run. Kind `Secret`: the value
    /// is gone (`secret_gone`), the engine has no keys (`no_vault`), or they do not open it. Kind
    /// `Provider`: the key service does not answer now (`keys_unavailable`, with
    /// [`Error::retry_after`]). Or there is no such run, or the store cannot be reached.
    pub async fn reveal(&self, run: &RunId, secret: &SecretRef) -> Result<Secret, Error> {
        self.opened(run, secret).await.map(|(_, _, value)| value)
    }

    /// Opens a sealed value of a run that is over, for the only time, and erases it.
    ///
    /// Of callers at the same time one gets the value. It is gone before this returns, so a caller
    /// that crashes before it has handed the value over has lost it: rotate it then, it cannot be
    /// read again. A run that is under way may still need its values, so it has to be over.
    ///
    /// # Errors
    /// As [`Self::reveal`]; kind `Conflict`, code `run_open`, while the run is not over.
    pub async fn reveal_once(&self, run: &RunId, secret: &SecretRef) -> Result<Secret, Error> {
        if !self.run(run).await?.status.is_end() {
            return Err(Error::new(ErrorKind::Conflict, "run_open", "reveal a value once")
                .with_hint("wait for the run's end; until then its steps may need the value"));
        }
        let (key, sealed, value) = self.opened(run, secret).await?;
        let shown = Sealed { format: SHOWN, key_id: String::new(), bytes: Vec::new() };
        if !self.inner.secrets.replace(&key, &sealed, &shown).await? {
            return Err(gone());
        }
        self.inner.secrets.erase(&key).await?;
        Ok(value)
    }

    async fn opened(
        &self,
        run: &RunId,
        secret: &SecretRef,
    ) -> Result<(SecretKey, Sealed, Secret), Error> {
        let key = secret.key().filter(|key| key.scope == run.to_string()).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "not_of_this_run", "reveal a value")
                .with_hint("pass the run whose output or step holds the reference")
        })?;
        let head = self.run(run).await?;
        let sealed = self.inner.secrets.get(&key).await?;
        let sealed = sealed.filter(|sealed| sealed.format != SHOWN).ok_or_else(gone)?;
        let binding = Binding::new(&*self.inner.namespace, head.tenant.as_deref(), &key);
        let value = self.vault()?.open(&binding, &sealed).await?;
        Ok((key, sealed, value))
    }

    fn vault(&self) -> Result<&Vault, Error> {
        self.inner.vault.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Secret, "no_vault", "reveal a value")
                .with_hint("give the engine keys: `Engine::builder(..).keys(..)`")
        })
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Secret, "secret_gone", "reveal a value")
        .with_hint("it was shown once, or erased: rotate it, it cannot be read again")
}
