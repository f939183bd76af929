//! Events of platforms: believed by their signature over the raw body, kept as they came, sealed, with
//! a row for each thing that they tell a connection of.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use provision_adapters::webhook::Verified;
use provision_core::{
    Secret, Timestamp,
    secret::{Sealed, SecretKey},
    vault::{Binding, Vault, VaultError},
};
use sha2::{Digest as _, Sha256};
use sqlx::{PgPool, query, query_as};
use uuid::Uuid;

use crate::{
    flags::{Frozen, WEBHOOK_EVENTS},
    platform::{DeliveryHeaders, PlatformName, Unbelieved, WebhookEvent},
    service::Service,
    trouble::Trouble,
};

/// Longest body, in bytes: sealed values have a limit, and Base64 adds a third.
pub const BODY_MAX: usize = 48 << 10;

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenIn {
    /// The row that keeps it.
    pub delivery: Uuid,
    /// Whether something of it was not kept before.
    pub is_new: bool,
    /// What is kept of what it tells, in its order.
    pub kept: Vec<Kept>,
}

/// One thing that a delivery tells, for one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its row.
    pub event: Uuid,
    /// The tenant and the connection it is for; none where nobody has connected the account.
    pub of: Option<(String, Uuid)>,
    /// What it tells.
    pub tells: WebhookEvent,
    // As the sender knows it, with what tells it from all others of its delivery.
    event_id: String,
}

/// What was told before: event, tenant, connection.
type Before = (String, Option<String>, Option<Uuid>);

impl From<Unbelieved> for Trouble {
    fn from(why: Unbelieved) -> Self {
        Self::new(why.code, "the delivery was not taken in", why.hint)
    }
}

impl Service {
    /// Takes a delivery in: verified first, then parsed, then kept. Repetitions are told by the
    /// sender's id, or where there is none by the body.
    ///
    /// A delivery is kept once. Each thing that it tells is kept once for each connection to the
    /// account that it is about, where events are switched on for the connection's tenant; of an
    /// account that nobody has connected, where they are switched on for nobody in particular. One
    /// that comes again after all of its connections are gone adds nothing.
    ///
    /// # Errors
    /// It is not believed, has another shape, or is too long; events are switched off for all whom
    /// it is about; or the database does not answer: then the sender repeats it. Nothing of it is
    /// kept then.
    pub async fn take_in(
        &self,
        platform: PlatformName,
        headers: &DeliveryHeaders,
        body: &[u8],
        now: Timestamp,
    ) -> Result<TakenIn, Trouble> {
        if body.len() > BODY_MAX {
            let hint = "only deliveries of up to 48 KiB are taken in";
            return Err(Trouble::new("webhook_too_large", "the body is too long", hint));
        }
        let found = self.platform(platform)?;
        let verified = found.validate_webhook_signature(headers, body, now)?;
        let tells = found.parse_webhook_event(body)?;
        self.keep(platform, (&verified, body), tells).await
    }

    /// Keeps what was believed, in one transaction.
    pub(crate) async fn keep(
        &self,
        platform: PlatformName,
        (verified, body): (&Verified, &[u8]),
        tells: Vec<WebhookEvent>,
    ) -> Result<TakenIn, Trouble> {
        let digest = || Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
        let id: String = verified.id().map_or_else(digest, ToOwned::to_owned);
        let kept = self.wanted(platform, &id, tells).await?;
        let sealed = self.seal(platform, &id, &Secret::new(STANDARD.encode(body))).await?;
        let delivery = row_id(platform, &id);
        let mut tx = self.pool().begin().await?;
        let sql = "INSERT INTO connectors.webhook_events
            (id, delivery, platform, event_id, kind, body_format, body_key, body_sealed)
            VALUES ($1, $1, $2, $3, 'delivery', $4, $5, $6)
            ON CONFLICT (platform, event_id) DO NOTHING";
        let row = query(sql).bind(delivery).bind(platform.as_str()).bind(&id);
        let row = row.bind(i16::from(sealed.format)).bind(sealed.key_id).bind(sealed.bytes);
        let mut new = row.execute(&mut *tx).await?.rows_affected();
        let sql = "INSERT INTO connectors.webhook_events
            (id, delivery, platform, event_id, tenant_id, connection_id, kind)
            SELECT e.id, $1, $2, e.event_id, e.tenant, e.connection, e.kind
            FROM unnest($3::uuid[], $4::text[], $5::text[], $6::uuid[], $7::text[])
                AS e (id, event_id, tenant, connection, kind)
            ON CONFLICT (platform, event_id) DO NOTHING";
        let of = |kept: &Kept| kept.of.clone().unzip();
        let (tenants, connections): (Vec<Option<String>>, Vec<Option<Uuid>>) =
            kept.iter().map(of).unzip();
        let rows = query(sql).bind(delivery).bind(platform.as_str());
        let rows = rows.bind(kept.iter().map(|kept| kept.event).collect::<Vec<_>>());
        let rows = rows.bind(kept.iter().map(|kept| kept.event_id.clone()).collect::<Vec<_>>());
        let rows = rows.bind(tenants).bind(connections);
        let rows = rows.bind(kept.iter().map(|kept| kept.tells.kind.clone()).collect::<Vec<_>>());
        new += rows.execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        Ok(TakenIn { delivery, is_new: new > 0, kept })
    }

    /// What a delivery tells those for whom events are switched on.
    async fn wanted(
        &self,
        platform: PlatformName,
        id: &str,
        tells: Vec<WebhookEvent>,
    ) -> Result<Vec<Kept>, Trouble> {
        let accounts: BTreeSet<&str> = tells.iter().map(|event| &*event.account).collect();
        let sql = "SELECT id, tenant_id, account_id FROM connectors.connections
            WHERE platform = $1 AND account_id = ANY ($2) AND state <> 'disconnected'
            ORDER BY tenant_id";
        let rows =
            query_as(sql).bind(platform.as_str()).bind(accounts.into_iter().collect::<Vec<_>>());
        let rows: Vec<(Uuid, String, String)> = rows.fetch_all(self.pool()).await?;
        let before = self.told_before(row_id(platform, id)).await?;
        let flags = self.flags().all().await?;
        let is_on = |tenant: &str| Frozen::judge(&flags, tenant).has(WEBHOOK_EVENTS);
        let mut kept = Vec::new();
        for (place, tells) in tells.iter().enumerate() {
            let about = rows.iter().filter(|(.., account)| *account == tells.account);
            let mut of: Vec<_> =
                about.map(|(connection, tenant, _)| Some((tenant.clone(), *connection))).collect();
            let nobody_now = of.is_empty();
            if nobody_now {
                of.push(None);
            }
            of.retain(|of| is_on(of.as_ref().map_or("", |(tenant, _)| tenant)));
            // A repetition is of whom it was, also where they have disconnected since.
            let told: Vec<_> = before
                .iter()
                .filter(|(event, ..)| event.starts_with(&format!("{id}/{place}/")))
                .map(|(_, tenant, connection)| tenant.clone().zip(*connection))
                .collect();
            if nobody_now && !told.is_empty() {
                of = told;
            }
            kept.extend(of.into_iter().map(|of| {
                let whose = of.as_ref().map_or(Uuid::nil(), |(_, connection)| *connection);
                let event_id = format!("{id}/{place}/{whose}");
                let event = row_id(platform, &event_id);
                Kept { event, of, tells: tells.clone(), event_id }
            }));
        }
        // What tells nothing is judged as what tells nobody in particular.
        if kept.is_empty() && !(tells.is_empty() && is_on("")) {
            self.is_on(&Frozen::default(), WEBHOOK_EVENTS)?;
        }
        Ok(kept)
    }

    /// Of whom the things are kept that a delivery told when it came before: as the sender knows
    /// them, with tenant and connection.
    async fn told_before(&self, delivery: Uuid) -> Result<Vec<Before>, Trouble> {
        let sql = "SELECT event_id, tenant_id, connection_id FROM connectors.webhook_events
            WHERE delivery = $1 AND id <> delivery ORDER BY event_id";
        Ok(query_as(sql).bind(delivery).fetch_all(self.pool()).await?)
    }

    /// Opens the delivery of a row, its own or that of an event: every byte as it came.
    ///
    /// # Errors
    /// There is none of this id, or it does not open.
    pub async fn raw_body(&self, event: Uuid) -> Result<Vec<u8>, Trouble> {
        open_body(self.pool(), self.shared().tokens.vault(), event).await
    }

    async fn seal(
        &self,
        platform: PlatformName,
        id: &str,
        value: &Secret,
    ) -> Result<Sealed, Trouble> {
        let sealed = self.shared().tokens.vault().seal(&binding(platform, id), value).await;
        Ok(sealed.map_err(provision_core::Error::from)?)
    }
}

/// How many kept bodies were sealed anew, and how many could not be opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bodies {
    pub(crate) resealed: u64,
    pub(crate) unopenable: u64,
}

/// Seals every body anew that is not under the current key. It may be stopped at any moment and
/// begun again, also beside others.
pub(crate) async fn reseal_bodies(pool: &PgPool, vault: &Vault) -> Result<Bodies, Trouble> {
    let current = vault.current_key().await.map_err(provision_core::Error::from)?;
    let sql = "SELECT id, platform, event_id, body_format, body_key, body_sealed
        FROM connectors.webhook_events
        WHERE id = delivery AND body_key <> $1 AND id > $2 ORDER BY id LIMIT 100";
    let (mut bodies, mut after) = (Bodies::default(), Uuid::nil());
    loop {
        let rows = query_as(sql).bind(&current).bind(after).fetch_all(pool).await?;
        let rows: Vec<(Uuid, String, String, i16, String, Vec<u8>)> = rows;
        let Some((last, ..)) = rows.last() else { return Ok(bodies) };
        after = *last;
        for (id, platform, event_id, format, key_id, bytes) in rows {
            let sealed = Sealed { format: u8::try_from(format).unwrap_or(u8::MAX), key_id, bytes };
            let place = PlatformName::parse(&platform).map(|name| binding(name, &event_id));
            let opened = match &place {
                Some(place) => vault.open(place, &sealed).await,
                None => Err(VaultError::Unopenable),
            };
            match (place, opened) {
                (Some(place), Ok(value)) => {
                    let anew = vault.seal(&place, &value).await;
                    let anew = anew.map_err(provision_core::Error::from)?;
                    bodies.resealed += replace_body(pool, id, (&sealed, &anew)).await?;
                }
                (_, Err(VaultError::Unopenable)) | (None, _) => bodies.unopenable += 1,
                (_, Err(error)) => return Err(provision_core::Error::from(error).into()),
            }
        }
    }
}

/// Replaces exactly the body that was read; answers how many that were.
async fn replace_body(
    pool: &PgPool,
    id: Uuid,
    (old, new): (&Sealed, &Sealed),
) -> Result<u64, Trouble> {
    let sql = "UPDATE connectors.webhook_events
        SET body_format = $2, body_key = $3, body_sealed = $4
        WHERE id = $1 AND body_key = $5 AND body_sealed = $6";
    let row = query(sql).bind(id).bind(i16::from(new.format)).bind(&new.key_id).bind(&new.bytes);
    let row = row.bind(&old.key_id).bind(&old.bytes);
    Ok(row.execute(pool).await?.rows_affected())
}

/// Opens a kept delivery, by any keys.
pub(crate) async fn open_body(
    pool: &PgPool,
    vault: &Vault,
    event: Uuid,
) -> Result<Vec<u8>, Trouble> {
    let gone = || Trouble::new("no_such_event", "there is no such event", "ask for a kept one");
    let sql = "SELECT d.platform, d.event_id, d.body_format, d.body_key, d.body_sealed
        FROM connectors.webhook_events AS e
        INNER JOIN connectors.webhook_events AS d ON d.id = e.delivery WHERE e.id = $1";
    let row = query_as(sql).bind(event).fetch_optional(pool).await?;
    let row: Option<(String, String, i16, String, Vec<u8>)> = row;
    let (platform, id, format, key_id, bytes) = row.ok_or_else(gone)?;
    let platform = PlatformName::parse(&platform).ok_or_else(gone)?;
    let sealed = Sealed { format: u8::try_from(format).unwrap_or(u8::MAX), key_id, bytes };
    let value = vault.open(&binding(platform, &id), &sealed).await;
    let value = value.map_err(provision_core::Error::from)?;
    STANDARD.decode(value.expose()).map_err(|_| {
        Trouble::new("secret_unopenable", "the body cannot be read", "restore the row")
    })
}

/// The same event has the same row, whoever takes it in first.
fn row_id(platform: PlatformName, event_id: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{platform}/{event_id}").as_bytes())
}

/// A body opens in its own row alone.
fn binding(platform: PlatformName, id: &str) -> Binding {
    let key = SecretKey {
        scope: format!("webhook/{platform}"),
        generation: 0,
        name: "body".to_owned(),
        path: id.to_owned(),
    };
    Binding::new("connectors", None, &key)
}
