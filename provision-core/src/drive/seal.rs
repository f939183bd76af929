//! Intents and sealed values: what has to be committed before a byte goes out.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use super::{Drive, Driven, Event, Shared, Stop, patience::patiently};
use crate::{
    clock,
    error::{Effect, StepError, Verdict},
    ledger::LedgerRow,
    mark::OwnerMark,
    resource::{Intent, IntentRecord},
    secret::{Sealed, Secret, SecretKey, SecretRef, SecretSpec},
    vault::{Binding, Vault, VaultError},
};

/// How long a key service that is away is left alone.
const SEAL_AGAIN: Duration = Duration::from_secs(1);

/// L4: a key service that does not answer now is waited for; nothing parks, and no attempt is used
/// up.
pub(crate) fn key_trouble(error: VaultError) -> StepError {
    StepError::retry("ask for a key").with_code("key_service").with_source(error).uncounted()
}

/// What the vault could not seal or open: for a person, unless it is only away.
fn not_now(error: VaultError) -> StepError {
    if error.is_transient() { key_trouble(error) } else { cannot_seal(error) }
}

fn cannot_seal(error: impl std::error::Error + Send + Sync + 'static) -> StepError {
    StepError::new(Effect::None, Verdict::Operator, "seal a value")
        .with_code("cannot_seal")
        .with_hint("look at the vault's keys")
        .with_source(error)
}

impl Drive {
    fn secret_key(&self, node: usize, name: &str) -> SecretKey {
        let node = self.state.node(node);
        SecretKey {
            scope: self.state.run.to_string(),
            generation: node.generation,
            name: name.to_owned(),
            path: node.path.to_string(),
        }
    }

    fn binding(&self, key: &SecretKey) -> Binding {
        let tenant = self.leased.record.head.tenant.as_deref();
        Binding::new(&*self.shared.namespace, tenant, key)
    }

    async fn opened(
        &mut self,
        vault: &Vault,
        key: &SecretKey,
    ) -> Result<Option<Secret>, StepError> {
        let shared = Arc::clone(&self.shared);
        let stored = self.alongside(patiently(|| shared.secrets.get(key))).await;
        let stored = stored.map_err(|error| {
            StepError::retry("read a sealed value")
                .with_code("store")
                .with_source(error)
                .uncounted()
        })?;
        match stored {
            None => Ok(None),
            // X9: what cannot be opened parks; it is never drawn anew.
            Some(sealed) => {
                let binding = self.binding(key);
                self.alongside(vault.open(&binding, &sealed)).await.map(Some).map_err(not_now)
            }
        }
    }

    /// Draws what is not drawn yet, and writes intent and sealed values in one append. A repeated
    /// intent of the same generation answers with what was recorded first (S10).
    pub(super) async fn intend(
        &mut self,
        node: usize,
        intent: IntentRecord,
        draw: &[SecretSpec],
    ) -> Driven<Result<Intent, StepError>> {
        let (values, sealed) = match self.drawn(node, draw).await {
            Ok(drawn) => drawn,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(error) = self.small(Event::Intent { node, intent }, sealed).await? {
            return Ok(Err(error));
        }
        let node = self.state.node(node);
        let mark = OwnerMark::new(self.state.run, &node.path);
        Ok(match node.intent.clone() {
            Some(record) => Ok(Intent::new(record, mark, values)),
            None => Err(super::host::stopped()),
        })
    }

    async fn drawn(
        &mut self,
        node: usize,
        draw: &[SecretSpec],
    ) -> Result<(Vec<(String, Secret)>, Vec<(SecretKey, Sealed)>), StepError> {
        let (mut values, mut fresh) = (Vec::new(), Vec::new());
        for spec in draw {
            let shared = Arc::clone(&self.shared);
            let vault = shared.vault()?;
            let key = self.secret_key(node, spec.name);
            let value = match self.opened(vault, &key).await? {
                Some(value) => value,
                None => {
                    let value = crate::draw::draw(spec, &*self.shared.entropy);
                    let value = value.map_err(cannot_seal)?;
                    let binding = self.binding(&key);
                    let sealed = self.alongside(vault.seal(&binding, &value)).await;
                    fresh.push((key, sealed.map_err(not_now)?));
                    value
                }
            };
            values.push((spec.name.to_owned(), value));
        }
        Ok((values, fresh))
    }

    /// Seals a value that a step drew itself; an earlier one of that name wins.
    pub(super) async fn seal(
        &mut self,
        node: usize,
        name: &'static str,
        value: Secret,
    ) -> Driven<Result<SecretRef, StepError>> {
        let key = self.secret_key(node, name);
        let reference = SecretRef::sealed(&key);
        let shared = Arc::clone(&self.shared);
        let vault = match shared.vault() {
            Ok(vault) => vault,
            Err(error) => return Ok(Err(error)),
        };
        match self.opened(vault, &key).await {
            Ok(Some(_)) => return Ok(Ok(reference)),
            Ok(None) => {}
            Err(error) => return Ok(Err(error)),
        }
        let binding = self.binding(&key);
        let sealed = match self.alongside(vault.seal(&binding, &value)).await {
            Ok(sealed) => vec![(key, sealed)],
            Err(error) => return Ok(Err(not_now(error))),
        };
        let event = Event::Sealed { node, name: name.to_owned() };
        Ok(self.small(event, sealed).await?.map(|()| reference))
    }

    /// Seals what an attempt kept for the append of its outcome: all of it, or nothing.
    ///
    /// What was shown once is not shown again: a key service that is away is waited for with the
    /// values in hand, until the worker has to cut what is open. Nobody waits any more once the lease is gone: nothing could be written with what was sealed.
    pub(super) async fn seal_kept(&mut self, node: usize) -> Driven<Result<(), StepError>> {
        let Some(kept) = self.kept.remove(&node) else { return Ok(Ok(())) };
        let kept = std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner));
        if kept.is_empty() {
            return Ok(Ok(()));
        }
        let bound = |(key, value)| (self.binding(&key), key, value);
        let kept: Vec<_> = kept.into_iter().map(bound).collect();
        let (shared, lost) = (Arc::clone(&self.shared), Arc::clone(&self.lost));
        let left = shared.left.notified();
        if shared.is_leaving() {
            return Err(Stop::Lost);
        }
        let sealing = self.alongside(sealed(&shared, kept));
        let sealed = tokio::select! {
            biased;
            () = lost.notified() => return Err(Stop::Lost),
            () = left => return Err(Stop::Lost),
            sealed = sealing => sealed,
        };
        Ok(sealed.map(|sealed| self.outcome_seals.extend(sealed)))
    }
}

/// Seals values; a key service that is away is asked again, until the worker has to cut what is
/// open.
async fn sealed(
    shared: &Shared,
    values: Vec<(Binding, SecretKey, Secret)>,
) -> Result<Vec<(SecretKey, Sealed)>, StepError> {
    let vault = shared.vault()?;
    let mut all = Vec::with_capacity(values.len());
    for (binding, key, value) in values {
        let sealed = loop {
            match vault.seal(&binding, &value).await {
                Ok(sealed) => break sealed,
                Err(error) if error.is_transient() && !shared.is_cutting() => {
                    tracing::warn!(%error, "a value waits to be sealed");
                    clock::sleep(SEAL_AGAIN).await;
                }
                Err(error) => return Err(not_now(error)),
            }
        };
        all.push((key, sealed));
    }
    Ok(all)
}

/// Another run's live resource stands where the intent wants to make one. One that is being removed
/// is waited for, which uses up no attempt.
pub(super) fn conflict(row: &LedgerRow) -> StepError {
    let (provider, kind, run) = (&row.provider, &row.kind, row.run);
    let name = row.name.as_deref().unwrap_or_default();
    let operation = "record the intent";
    if row.is_being_removed() {
        return StepError::retry(operation)
            .with_code("conflict")
            .with_message(format!("{provider} {kind} `{name}` of run {run} is being removed"))
            .uncounted();
    }
    StepError::permanent(operation)
        .with_code("conflict")
        .with_message(format!("{provider} {kind} `{name}` is owned by run {run}"))
        .with_hint("tear that run down, or choose another name")
}
