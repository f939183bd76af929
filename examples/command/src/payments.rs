//! The payment provider's side of a delivery: events are signed as Stripe signs them.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use provision_core::{
    Secret,
    clock::{Clock, SystemClock},
};
use sha2::Sha256;

/// The header that proves a body, signed now.
#[must_use]
pub fn signature(secret: &Secret, body: &str) -> String {
    signed_at(SystemClock.wall().as_millis() / 1_000, secret, body)
}

/// The header that proves a body, signed at this second since the epoch.
fn signed_at(second: u64, secret: &Secret, body: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) else {
        return String::new();
    };
    mac.update(format!("{second}.{body}").as_bytes());
    let hex = mac.finalize().into_bytes().iter().fold(String::new(), |mut hex, byte| {
        // Writing into a text does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    format!("t={second},v1={hex}")
}

#[cfg(test)]
mod tests {
    use provision_core::Secret;

    use super::signed_at;

    #[test]
    fn time_and_body_are_signed_together() {
        // printf '7.{}' | openssl dgst -sha256 -hmac whsec_test
        let expected = "546e865d2b8c285b4f66c2ab2b7eb506de5118ee9858e56ea9b4db60348e0cf0";
        let header = signed_at(7, &Secret::new("whsec_test"), "{}");
        assert_eq!(header, format!("t=7,v1={expected}"));
        assert_ne!(signed_at(8, &Secret::new("whsec_test"), "{}")[3..], header[3..]);
    }
}
