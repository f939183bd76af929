//! Wire types: only the fields that are used.

use serde::{Deserialize, Serialize};

/// Body of a new mail. Its form is a part of what the provider compares under one key, so a
/// change of it makes mails that are under way conflicts.
#[derive(Debug, Serialize)]
pub(crate) struct NewEmail<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(crate) cc: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(crate) bcc: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(crate) reply_to: &'a [String],
    pub(crate) subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) html: Option<&'a str>,
    pub(crate) tags: Vec<Tag<'a>>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Tag<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: &'a str,
}

#[derive(Debug, Deserialize)]
pub(crate) struct EmailAccepted {
    pub(crate) id: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ErrorBody {
    pub(crate) name: String,
}
