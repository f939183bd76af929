//! The provider's error table. Tailscale answers `{"message": ".."}` without a code, so the texts
//! are compared here and nowhere else (tailscale-client-go-v2 and terraform-provider-tailscale,
//! read 2026-11-21).

use provision_core::Effect;

use super::model::ErrorBody;
use crate::http::{Opinion, Response};

pub(crate) const GET_TOKEN: &str = "get access token";
pub(crate) const CREATE_KEY: &str = "create auth key";
pub(crate) const DELETE_DEVICE: &str = "delete device";
pub(crate) const RENAME_DEVICE: &str = "name device";

/// What this provider means by an answer; silence leaves it to the general table.
pub(crate) fn opinion(operation: &'static str, status: u16, body: &[u8]) -> Option<Opinion> {
    let message = message(body).unwrap_or_default();
    match (operation, status) {
        (GET_TOKEN, 400 | 401 | 403) => Some(Opinion::permanent("unauthorized").with_hint(
            "check the OAuth client's id, and the secret behind the adapter's reference",
        )),
        (CREATE_KEY, 400) if message.contains("tags") => {
            Some(Opinion::permanent("tags_not_permitted").with_hint(
                "give the OAuth client these tags, or let one of its tags own them (tagOwners)",
            ))
        }
        (RENAME_DEVICE, 400 | 409) => Some(
            Opinion::permanent("name_refused")
                .with_hint("remove the device that has this name, or choose another name"),
        ),
        // A device that another tailnet shares is not ours to remove.
        (DELETE_DEVICE, 501) => Some(Opinion::permanent("shared_device").with_effect(Effect::None)),
        (_, 401) => Some(
            Opinion::permanent("unauthorized")
                .with_hint("a fresh access token was refused, too: check the OAuth client"),
        ),
        (_, 403) => Some(
            Opinion::permanent("forbidden")
                .with_hint("the OAuth client needs the scopes auth_keys and devices:core"),
        ),
        _ => None,
    }
}

/// Whether a 404 is the provider's own, and not the page of something in between, which may well be
/// empty: the provider's has a message, as its document says of every endpoint.
pub(crate) fn is_definite_404(response: &Response) -> bool {
    response.status == 404 && message(&response.body).is_some()
}

fn message(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<ErrorBody>(body).ok().map(|body| body.message)
}

#[cfg(test)]
mod tests {
    use super::{CREATE_KEY, DELETE_DEVICE, GET_TOKEN, RENAME_DEVICE, opinion};

    // covers: S9, R1-02
    #[test]
    fn statuses_and_texts_of_the_provider_have_codes() {
        let tags =
            br#"{"message":"requested tags [tag:x] are invalid or not permitted"}"#.as_slice();
        let cases: [(&'static str, u16, &[u8], &str); 10] = [
            (GET_TOKEN, 401, b"", "unauthorized"),
            (GET_TOKEN, 400, br#"{"message":"invalid_client"}"#, "unauthorized"),
            (CREATE_KEY, 400, tags, "tags_not_permitted"),
            (CREATE_KEY, 400, br#"{"message":"invalid description"}"#, ""),
            (RENAME_DEVICE, 409, b"", "name_refused"),
            (DELETE_DEVICE, 501, b"", "shared_device"),
            ("list devices", 501, b"", ""),
            ("list devices", 403, b"", "forbidden"),
            ("list devices", 504, b"<html>", ""),
            ("list devices", 429, b"", ""),
        ];
        for (operation, status, body, code) in cases {
            let got = opinion(operation, status, body).map(|o| format!("{o:?}"));
            let got = got.unwrap_or_default();
            assert!(got.contains(code) && got.is_empty() == code.is_empty(), "{status} {got}");
        }
    }
}
