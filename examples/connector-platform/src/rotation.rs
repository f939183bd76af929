//! New keys for what is sealed: tokens, consents, and the bodies of deliveries.
//!
//! Old keys stay in the file and go on opening: workers seal under the one that was current when they
//! began, until they meet a value under the new one, and backups hold what was sealed before.

use std::sync::Arc;

use provision_core::vault::LocalKeys;
use serde::Serialize;

use crate::{database::Database, trouble::Trouble, vault::TokenKeeper, webhook::reseal_bodies};

/// What a rotation came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rotated {
    /// Id of the key that was drawn, where one was.
    pub drawn: Option<String>,
    /// Values that were sealed anew.
    pub resealed: u64,
    /// Values that do not open, and were left as they are.
    pub unopenable: u64,
}

impl Rotated {
    /// Whether nothing is left under an older key, but for what is sealed by a worker that has not
    /// met the new one yet.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unopenable == 0
    }
}

/// Draws a key, and seals nothing anew: the file is then given to every machine that has a copy of it.
/// Workers that run read it when they meet a value under a key that they lack; one that begins with
/// the file seals under the new key at once.
///
/// # Errors
/// The file cannot be written.
pub fn draw(keys: &LocalKeys) -> Result<Rotated, Trouble> {
    Ok(Rotated { drawn: Some(keys.rotate()?), resealed: 0, unopenable: 0 })
}

/// Draws a key where `draw` says so, and seals everything anew that is under an older one. A command
/// that was killed is typed again, without drawing once more.
///
/// # Errors
/// The file cannot be written, or the database does not answer: what was sealed anew stays so.
pub async fn rotate(db: &Database, keys: &LocalKeys, draw: bool) -> Result<Rotated, Trouble> {
    let drawn = if draw { Some(keys.rotate()?) } else { None };
    let keeper = TokenKeeper::new(db.pool(), Arc::new(keys.clone())).acting_for("rotation");
    let tokens = keeper.reseal().await?;
    let bodies = reseal_bodies(db.pool(), keeper.vault()).await?;
    let unopened = tokens.unopenable.len() + tokens.unknown.len();
    Ok(Rotated {
        drawn,
        resealed: tokens.resealed + bodies.resealed,
        unopenable: u64::try_from(unopened).unwrap_or(u64::MAX).saturating_add(bodies.unopenable),
    })
}
