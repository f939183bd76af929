//! What can be provisioned at an n8n instance, one file each.

use provision_core::{Candidate, ExternalId, Found, OwnerMark, StepContext, Timestamp};

use super::LISTING_LAG;
use crate::http::parse_rfc3339;

pub(crate) mod activation;
pub(crate) mod credential;
mod history;
pub(crate) mod template;
pub(crate) mod upgrade;
pub(crate) mod workflow;

const NAME_PREFIX: &str = "[prov:";

/// What a name of ours ends with. Names are not unique there, so they carry this run's token.
pub(crate) fn name_token(mark: &OwnerMark) -> String {
    format!("{NAME_PREFIX}{}]", mark.token())
}

/// What every name of ours contains.
pub(crate) fn any_name_token() -> &'static str {
    NAME_PREFIX
}

/// Answers for a listing that was filtered by our token.
pub(crate) fn found(mut ours: Vec<(String, Option<Timestamp>)>) -> Found {
    match (ours.pop(), ours.is_empty()) {
        (None, _) => Found::Absent,
        (Some((id, _)), true) => Found::Ours(id.into()),
        (Some(last), false) => {
            ours.push(last);
            let candidate = |(id, created_at): (String, _)| Candidate {
                id: ExternalId::new(id),
                marked: true,
                created_at,
            };
            Found::Many(ours.into_iter().map(candidate).collect())
        }
    }
}

/// Whether polling began so recently that a look may still be behind the create.
pub(crate) fn may_lag(cx: &StepContext) -> bool {
    cx.memory().polling_since.is_none_or(|since| cx.now().since(since) < LISTING_LAG)
}

/// Reads a moment as the instance writes it.
pub(crate) fn moment(text: Option<&str>) -> Option<Timestamp> {
    text.and_then(parse_rfc3339)
}
