//! The provider's error table. The server answers 400 for most refusals and puts the true status
//! into the body, as text (supabase/storage `src/http/error-handler.ts` and
//! `src/internal/errors/codes.ts`, read 2026-11-22).

use std::time::Duration;

use provision_core::Effect;

use super::model::ErrorBody;
use crate::http::{Opinion, Response};

/// The true status of a refusal, and the server's word for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    word: String,
}

impl Refusal {
    /// Reads a refusal; `None` for an answer that is not the server's own.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let body = serde_json::from_slice::<ErrorBody>(body).ok()?;
        let status = body.status.parse().ok()?;
        Some(Self { status, word: body.code.unwrap_or(body.error) })
    }

    /// A bucket that is not there; an object that is not there has another word.
    pub(crate) fn is_no_bucket(&self) -> bool {
        self.status == 404 && matches!(self.word.as_str(), "NoSuchBucket" | "Bucket not found")
    }
}

/// Whether the answer says, in the server's own words, that what was asked for is not there.
pub(crate) fn is_absent(answer: &Response) -> bool {
    !answer.is_success() && Refusal::read(&answer.body).is_some_and(|refusal| refusal.status == 404)
}

/// What the server means by an answer; silence leaves it to the general table.
pub(crate) fn opinion(_: u16, body: &[u8]) -> Option<Opinion> {
    let refusal = Refusal::read(body)?;
    if refusal.is_no_bucket() {
        return Some(Opinion::permanent("no_bucket").with_hint("the bucket does not exist"));
    }
    Some(match refusal.status {
        400 if refusal.word == "InvalidJWT" => UNAUTHORIZED,
        400 => Opinion::permanent("refused"),
        401 | 403 => UNAUTHORIZED,
        404 => Opinion::permanent("not_found"),
        409 if refusal.word == "ResourceNotEmpty" => Opinion::operator("bucket_not_empty")
            .with_hint("remove what is in the bucket, or let the step delete its contents"),
        // What is there may be ours, from an upload whose answer was lost.
        409 => Opinion::name_taken(Duration::ZERO),
        413 => Opinion::permanent("too_large")
            .with_hint("the project or the bucket takes no object of this size"),
        415 => Opinion::permanent("content_type")
            .with_hint("the bucket takes no object of this content type"),
        423 => Opinion::retry("locked"),
        429 => Opinion::throttled("throttled"),
        // Answered with 400 or a status of its own: it may have been carried out.
        500..=599 => Opinion::unknown("server").with_effect(Effect::Unknown),
        _ => return None,
    })
}

const UNAUTHORIZED: Opinion = Opinion::permanent("unauthorized")
    .with_hint("the storage takes the project's secret key, or its service_role key");

#[cfg(test)]
mod tests {
    use super::opinion;

    // covers: S9, L4
    #[test]
    fn the_status_in_the_body_counts() {
        let cases = [
            ("409", "Duplicate", "name_taken", "Unknown"),
            ("409", "ResourceNotEmpty", "bucket_not_empty", "None"),
            ("404", "Bucket not found", "no_bucket", "None"),
            ("404", "not_found", "not_found", "None"),
            ("403", "Unauthorized", "unauthorized", "None"),
            ("400", "InvalidJWT", "unauthorized", "None"),
            ("413", "Payload too large", "too_large", "None"),
            ("415", "invalid_mime_type", "content_type", "None"),
            ("503", "DatabaseReadOnly", "server", "Unknown"),
            ("544", "DatabaseTimeout", "server", "Unknown"),
            ("429", "SlowDown", "throttled", "None"),
        ];
        for (status, error, code, effect) in cases {
            let body = serde_json::json!({ "statusCode": status, "error": error, "message": "m" });
            let got = format!("{:?}", opinion(400, body.to_string().as_bytes()).unwrap());
            assert!(got.contains(code) && got.contains(effect), "{status} {error}: {got}");
        }
        assert_eq!(opinion(400, b"<html>"), None);
        assert_eq!(opinion(502, br#"{"message":"upstream"}"#), None);
    }
}
