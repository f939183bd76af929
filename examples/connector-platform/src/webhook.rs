//! Events of platforms: believed by their signature over the raw body, kept as they came, sealed, one
//! row for each.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use provision_core::{
    Secret, Timestamp,
    secret::{Sealed, SecretKey},
    vault::{Binding, Vault},
};
use sha2::{Digest as _, Sha256};
use sqlx::{PgPool, query, query_as};
use uuid::Uuid;

use crate::{
    flags::WEBHOOK_EVENTS,
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
    pub event: Uuid,
    /// Whether it is the first of its repetitions.
    pub is_new: bool,
    /// What it tells of.
    pub tells: Vec<WebhookEvent>,
}

impl From<Unbelieved> for Trouble {
    fn from(why: Unbelieved) -> Self {
        Self::new(why.code, "the delivery was not taken in", why.hint)
    }
}

impl Service {
    /// Takes a delivery in: verified first, then parsed, then kept. Repetitions are told by the
    /// sender's id, or where there is none by the body.
    ///
    /// # Errors
    /// It is not believed, has another shape, or is too long; events are switched off for the tenant
    /// it is about; or the database does not answer: then the sender repeats it.
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
        let (kind, account) = match tells.first() {
            Some(event) => (event.kind.clone(), event.account.clone()),
            None => ("nothing".to_owned(), String::new()),
        };
        let sql = "SELECT id, tenant_id FROM connectors.connections
            WHERE platform = $1 AND account_id = $2 AND state <> 'disconnected' LIMIT 1";
        let row = query_as(sql).bind(platform.as_str()).bind(&account);
        let of: Option<(Uuid, String)> = row.fetch_optional(self.pool()).await?;
        let (connection, tenant) = of.unzip();
        self.is_on(
            &self.flags().freeze(tenant.as_deref().unwrap_or_default()).await?,
            WEBHOOK_EVENTS,
        )?;
        let digest = || Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
        let id: String = verified.id().map_or_else(digest, ToOwned::to_owned);
        let value = Secret::new(STANDARD.encode(body));
        let sealed = self.seal(platform, &id, &value).await?;
        // The same event has the same row, whoever takes it in first.
        let event = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{platform}/{id}").as_bytes());
        let sql = "INSERT INTO connectors.webhook_events
            (id, platform, event_id, tenant_id, connection_id, kind, body_format, body_key, body_sealed)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (platform, event_id) DO NOTHING";
        let row = query(sql).bind(event).bind(platform.as_str()).bind(&id).bind(tenant);
        let row = row.bind(connection).bind(kind).bind(i16::from(sealed.format));
        let row = row.bind(sealed.key_id).bind(sealed.bytes).execute(self.pool()).await?;
        Ok(TakenIn { event, is_new: row.rows_affected() == 1, tells })
    }

    /// Opens a kept delivery: every byte as it came.
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

/// Opens a kept delivery, by any keys.
pub(crate) async fn open_body(
    pool: &PgPool,
    vault: &Vault,
    event: Uuid,
) -> Result<Vec<u8>, Trouble> {
    let gone = || Trouble::new("no_such_event", "there is no such event", "ask for a kept one");
    let sql = "SELECT platform, event_id, body_format, body_key, body_sealed
        FROM connectors.webhook_events WHERE id = $1";
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
