//! The instance's error table. n8n answers `{"message": ".."}` without a code, so the texts are
//! compared here and nowhere else (measured on n8n 2.8.4, 2026-11-21).

use crate::http::{Opinion, Response};

use super::model::ErrorBody;

/// What an instance means by an answer; silence leaves it to the general table.
pub(crate) fn opinion(status: u16, body: &[u8]) -> Option<Opinion> {
    let Some(message) = message(body) else {
        // While n8n starts, every path answers with a page, although its health check is green.
        return (status == 404).then(|| Opinion::retry("starting"));
    };
    let says = |text: &str| message.contains(text);
    match status {
        400 if says("conflict with one of the webhooks") => Some(webhook_conflict()),
        400 if says("Unrecognized node type") => Some(Opinion::permanent("unknown_node")),
        400 if says("Missing required credential") => {
            Some(Opinion::permanent("missing_credential"))
        }
        400 if says("no trigger node") => Some(Opinion::permanent("no_trigger")),
        403 if says("license") => Some(
            Opinion::permanent("license")
                .with_hint("the instance's licence does not include this feature"),
        ),
        409 => Some(webhook_conflict()),
        _ => None,
    }
}

fn webhook_conflict() -> Opinion {
    Opinion::permanent("webhook_conflict")
        .with_hint("another active workflow owns this method and path; choose another path")
}

/// Whether a 404 is the instance's own, and not a page while it starts.
pub(crate) fn is_definite_404(response: &Response) -> bool {
    response.status == 404 && message(&response.body).is_some()
}

/// What asking a webhook with another method than its own showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registered {
    /// It is there: the instance names the right method.
    Yes,
    /// The instance knows no such webhook.
    No,
    /// The answer does not say.
    Unclear,
}

/// Reads that answer; its body holds a stack trace and goes nowhere else.
pub(crate) fn registered(response: &Response) -> Registered {
    match message(&response.body) {
        Some(text) if response.status == 404 && text.contains("Did you mean") => Registered::Yes,
        Some(text) if response.status == 404 && text.contains("not registered") => Registered::No,
        _ => Registered::Unclear,
    }
}

fn message(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<ErrorBody>(body).ok().map(|body| body.message)
}

#[cfg(test)]
mod tests {
    use super::opinion;

    // covers: S9, R1-02
    #[test]
    fn texts_of_the_instance_have_codes_and_pages_are_never_a_definite_answer() {
        let cases: [(u16, &[u8], &str); 7] = [
            (
                400,
                br#"{"message":"There is a conflict with one of the webhooks."}"#,
                "webhook_conflict",
            ),
            (400, br#"{"message":"Unrecognized node type: a.b"}"#, "unknown_node"),
            (
                400,
                br#"{"message":"x Missing required credential: httpHeaderAuth"}"#,
                "missing_credential",
            ),
            (403, br#"{"message":"Your license does not allow for feat:variables"}"#, "license"),
            (404, b"<html>n8n is starting up</html>", "starting"),
            (404, br#"{"message":"Not Found"}"#, ""),
            (500, b"<html>", ""),
        ];
        for (status, body, code) in cases {
            let got = opinion(status, body).map(|o| format!("{o:?}")).unwrap_or_default();
            assert!(got.contains(code) && got.is_empty() == code.is_empty(), "{status} {got}");
        }
    }
}
