//! Finds a secret again in whatever was written down: as it is, and in the forms in which it
//! usually escapes.

use std::fmt::Write as _;

/// The forms in which a secret is looked for: plain, base64 and base64url at each of the three
/// offsets it can have inside a longer text, hexadecimal, and percent-encoded.
#[must_use]
pub fn encodings(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned(), hex(secret), hex(secret).to_uppercase()];
    forms.push(percent(secret));
    forms.push(json(secret));
    for offset in 0..3 {
        forms.push(base64(secret, offset, BASE64));
        forms.push(base64(secret, offset, BASE64_URL));
    }
    forms.sort();
    forms.dedup();
    forms
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The characters that depend on the secret alone when it stands `offset` bytes into a text.
fn base64(secret: &str, offset: usize, alphabet: &[u8; 64]) -> String {
    let mut bytes = vec![0; offset];
    bytes.extend(secret.as_bytes());
    let whole = bytes.len() / 3 * 4;
    let text: String = bytes
        .chunks_exact(3)
        .flat_map(|c| {
            let bits = u32::from(c[0]) << 16 | u32::from(c[1]) << 8 | u32::from(c[2]);
            [18, 12, 6, 0].map(|shift| alphabet[(bits >> shift & 63) as usize] as char)
        })
        .collect();
    // The characters that other bytes have a share in say nothing.
    let first = [0, 2, 3][offset];
    text[first.min(whole)..whole].to_owned()
}

fn hex(secret: &str) -> String {
    secret.bytes().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn percent(secret: &str) -> String {
    secret.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

/// As it stands inside a JSON string.
fn json(secret: &str) -> String {
    let text = serde_json::to_string(secret).unwrap_or_default();
    text.trim_matches('"').to_owned()
}

/// Where a text shows one of these secrets, in words that do not show it again.
pub(super) fn find(secrets: &[Vec<String>], place: &str, text: &str) -> Option<String> {
    let shown = secrets.iter().position(|forms| forms.iter().any(|form| text.contains(form)));
    shown.map(|number| format!("secret number {number} stands in {place}"))
}
