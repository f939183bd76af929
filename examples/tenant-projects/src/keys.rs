//! API keys of projects: a prefix that says what a key is for, an id that finds its row, a secret
//! of 64 random bytes, a checksum. The tables keep a hash; the key itself is sealed with the run
//! that has drawn it until it is shown, once.

use clap::ValueEnum;
use example_command::stage::Stage;
use provision_core::{
    Compensator, SecretRef, Step, StepContext, StepError, Undo,
    api_key::{ApiKey, Hasher, KeyHash},
    draw::SystemEntropy,
};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, Postgres, Transaction, query, query_as};
use uuid::Uuid;

use crate::tables::{answered, begin, commit, hold, refused_after};

/// Path of the step that draws keys, in every saga that does.
pub const PATH: &str = "keys";

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// For programs that everybody can read.
    Publishable,
    /// For servers.
    Secret,
}

impl Purpose {
    /// One key of each is valid at a time.
    pub const ALL: [Self; 2] = [Self::Publishable, Self::Secret];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publishable => "publishable",
            Self::Secret => "secret",
        }
    }

    /// What every key of it begins with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Publishable => "tp_public",
            Self::Secret => "tp_secret",
        }
    }
}

/// How keys are hashed. Those of both kinds verify beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Hashing {
    /// scrypt, 32 MiB.
    Scrypt,
    /// Argon2id, 19 MiB.
    Argon2id,
}

impl Hashing {
    const fn hasher(self) -> Hasher {
        match self {
            Self::Scrypt => Hasher::Scrypt,
            Self::Argon2id => Hasher::Argon2id,
        }
    }
}

/// Keys to be drawn for a project. Valid ones of the same purposes are revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysSpec {
    /// The project.
    pub project: Uuid,
    /// What they are for.
    pub purposes: Vec<Purpose>,
}

/// A key that was drawn. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// What it is for.
    pub purpose: Purpose,
    /// Its public id.
    pub id: String,
    /// Where the key itself is until it is shown.
    pub key: SecretRef,
}

const OPERATION: &str = "issue keys";

/// Draws keys, and enters their hashes.
///
/// An attempt whose outcome was not recorded has lost its keys: the next one revokes them and draws
/// others. Attempts take turns at the project's row, so the commit of a dead one comes before.
#[derive(Debug)]
pub struct Issue {
    /// The database.
    pub pool: PgPool,
    /// How keys are hashed.
    pub hashing: Hashing,
    /// Whether the step is refused.
    pub stage: Stage,
}

impl Step for Issue {
    const KIND: &'static str = "tenants.issue_keys";
    type Input = KeysSpec;
    type Output = Vec<Issued>;

    async fn run(&self, cx: &StepContext, spec: KeysSpec) -> Result<Vec<Issued>, StepError> {
        let drawn = drawn(spec.purposes.clone(), self.hashing).await?;
        let mut tx = begin(&self.pool, OPERATION).await?;
        let state = hold(&mut tx, spec.project, OPERATION).await?;
        if !["provisioning", "active"].contains(&state.as_str()) {
            return Err(StepError::permanent(OPERATION)
                .with_code("project_gone")
                .with_message(format!("the project is {state}")));
        }
        for (purpose, key, hash) in &drawn {
            enter(&mut tx, cx, spec.project, (*purpose, key, hash)).await?;
        }
        commit(tx, OPERATION).await?;
        refused_after(&self.stage, cx)?;
        let issued = |(purpose, key, _): (Purpose, ApiKey, KeyHash)| Issued {
            purpose,
            id: key.id().to_owned(),
            key: cx.keep(purpose.as_str(), key.text().clone()),
        };
        Ok(drawn.into_iter().map(issued).collect())
    }
}

// [quoted: begin]
/// Enters the hash of a key. The key that was valid until now, if there is one, no longer is.
async fn enter(
    tx: &mut Transaction<'static, Postgres>,
    cx: &StepContext,
    project: Uuid,
    (purpose, key, hash): (Purpose, &ApiKey, &KeyHash),
) -> Result<(), StepError> {
    let revoke = "UPDATE tenants.api_keys SET revoked_at = now()
        WHERE project = $1 AND purpose = $2 AND revoked_at IS NULL";
    let revoke = query(revoke).bind(project).bind(purpose.as_str());
    answered(OPERATION, revoke.execute(&mut **tx).await)?;
    let enter = "INSERT INTO tenants.api_keys (id, project, purpose, hash, run, generation)
        VALUES ($1, $2, $3, $4, $5, $6)";
    let enter = query(enter).bind(key.id()).bind(project).bind(purpose.as_str());
    let enter = enter.bind(hash.as_str()).bind(*cx.run_id().as_uuid());
    let enter = enter.bind(i64::from(cx.generation()));
    answered(OPERATION, enter.execute(&mut **tx).await).map(drop)
}
// [quoted: end]

/// Draws and hashes beside the threads that wait for servers: a hash takes its time on purpose.
async fn drawn(
    purposes: Vec<Purpose>,
    hashing: Hashing,
) -> Result<Vec<(Purpose, ApiKey, KeyHash)>, StepError> {
    const OPERATION: &str = "draw keys";
    let one = move |purpose: Purpose| {
        let key = ApiKey::draw(purpose.prefix(), &SystemEntropy)?;
        let hash = KeyHash::of(key.text(), hashing.hasher(), &SystemEntropy)?;
        Ok::<_, provision_core::Error>((purpose, key, hash))
    };
    let all = move || purposes.into_iter().map(one).collect::<Result<Vec<_>, _>>();
    let all = tokio::task::spawn_blocking(all).await;
    all.map_err(|error| StepError::retry(OPERATION).with_source(error))?
        .map_err(|error| StepError::retry(OPERATION).with_source(error))
}

/// Revokes every key of a project, whichever run has drawn it.
#[derive(Debug)]
pub struct Revoke(
    /// The database.
    pub PgPool,
);

impl Compensator<Issue> for Revoke {
    async fn compensate(
        &self,
        _: &StepContext,
        spec: KeysSpec,
        _: Undo<Vec<Issued>>,
    ) -> Result<(), StepError> {
        const OPERATION: &str = "revoke keys";
        let mut tx = begin(&self.0, OPERATION).await?;
        hold(&mut tx, spec.project, OPERATION).await?;
        // From here on nobody draws further ones: a replacement that waits for the row is refused.
        // One that has ended stays as it ended.
        let close = "UPDATE tenants.projects SET state = 'removing' WHERE id = $1
            AND state IN ('provisioning', 'active')";
        answered(OPERATION, query(close).bind(spec.project).execute(&mut *tx).await)?;
        let revoke = "UPDATE tenants.api_keys SET revoked_at = now()
            WHERE project = $1 AND revoked_at IS NULL";
        answered(OPERATION, query(revoke).bind(spec.project).execute(&mut *tx).await)?;
        commit(tx, OPERATION).await
    }
}

/// The project that a presented key opens; `None` for one that is mistyped, revoked or nobody's.
/// Hashes on a thread of its own.
///
/// # Errors
/// The database does not answer.
pub async fn owner_of(pool: &PgPool, presented: &str) -> Result<Option<Uuid>, sqlx::Error> {
    let id = Purpose::ALL.into_iter().find_map(|of| ApiKey::id_of(of.prefix(), presented));
    let Some(id) = id else { return Ok(None) };
    let row = "SELECT k.project, k.hash FROM tenants.api_keys k
        JOIN tenants.projects p ON p.id = k.project
        WHERE k.id = $1 AND k.revoked_at IS NULL AND p.state = 'active'";
    let row: Option<(Uuid, String)> = query_as(row).bind(id).fetch_optional(pool).await?;
    let Some((project, hash)) = row else { return Ok(None) };
    let presented = provision_core::Secret::new(presented);
    let verify = move || KeyHash::from_stored(hash).verify(presented.expose());
    // A thread that ended early has verified nothing.
    let verified = tokio::task::spawn_blocking(verify).await.unwrap_or(false);
    Ok(verified.then_some(project))
}
