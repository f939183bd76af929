//! Wire types: only the fields that are used; unknown ones are tolerated.
//!
//! Types that carry a key or a token have no `Debug`, so that they cannot be printed.

use serde::{Deserialize, Deserializer, Serialize};

#[derive(Deserialize)]
pub(crate) struct AccessToken {
    pub(crate) access_token: String,
    pub(crate) expires_in: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewKey<'a> {
    pub(crate) key_type: &'static str,
    pub(crate) description: &'a str,
    pub(crate) expiry_seconds: u64,
    pub(crate) capabilities: Capabilities<'a>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Capabilities<'a> {
    pub(crate) devices: DeviceCapabilities<'a>,
}

#[derive(Debug, Serialize)]
pub(crate) struct DeviceCapabilities<'a> {
    pub(crate) create: CreateDevice<'a>,
}

#[derive(Debug, Serialize)]
pub(crate) struct CreateDevice<'a> {
    pub(crate) reusable: bool,
    pub(crate) ephemeral: bool,
    pub(crate) preauthorized: bool,
    pub(crate) tags: &'a [String],
}

/// The answer of a create: the only place where a key is ever shown.
#[derive(Deserialize)]
pub(crate) struct CreatedKey {
    pub(crate) id: String,
    pub(crate) key: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListedKey {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) key_type: Option<String>,
    #[serde(default)]
    pub(crate) description: Option<String>,
    #[serde(default)]
    pub(crate) created: Option<String>,
    #[serde(default)]
    pub(crate) expires: Option<String>,
    #[serde(default)]
    pub(crate) revoked: Option<String>,
    #[serde(default)]
    pub(crate) invalid: bool,
}

impl ListedKey {
    /// Whether a machine may still join with it. Deleted and used keys may stay in listings.
    pub(crate) fn is_live_auth_key(&self) -> bool {
        let kind = self.key_type.as_deref().unwrap_or("auth");
        let revoked = self.revoked.as_deref().is_some_and(|at| !at.is_empty());
        kind == "auth" && !self.invalid && !revoked
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Keys {
    pub(crate) keys: Vec<ListedKey>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Device {
    pub(crate) node_id: String,
    pub(crate) name: String,
    pub(crate) hostname: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) addresses: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) tags: Vec<String>,
    #[serde(default)]
    pub(crate) authorized: bool,
    /// Empty for devices of others.
    #[serde(default)]
    pub(crate) created: Option<String>,
}

/// Lists are absent, null or there: all of them are answered.
fn null_is_empty<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(from)?.unwrap_or_default())
}

#[derive(Debug, Deserialize)]
pub(crate) struct Devices {
    pub(crate) devices: Vec<Device>,
}

#[derive(Debug, Serialize)]
pub(crate) struct NewName<'a> {
    pub(crate) name: &'a str,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ErrorBody {
    pub(crate) message: String,
}
