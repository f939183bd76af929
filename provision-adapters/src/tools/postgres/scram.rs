//! Turns a password into what the server keeps of it, so that the password itself is in no
//! statement, and in no log of statements.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use provision_core::Secret;
use sha2::{Digest as _, Sha256};

/// Rounds of the hash; the server's own default (PostgreSQL 15 manual, 2026-06-01). A drawn
/// password of 238 bits needs no more.
const ROUNDS: u32 = 4_096;
/// Bytes of the salt; the server's own default.
const SALT_BYTES: usize = 16;

type Sum = [u8; 32];

/// The SCRAM-SHA-256 verifier of a password (RFC 5803) in the form that `CREATE ROLE` takes.
///
/// The salt comes from `seed`, which must differ from one password to the next: a salt is no
/// secret, it only has to be its own. The password is taken as it is, which is right for ASCII.
pub(super) fn verifier(password: &Secret, seed: &str) -> String {
    let salt: Vec<u8> = Sha256::digest(seed.as_bytes()).iter().copied().take(SALT_BYTES).collect();
    verifier_with(password.expose(), &salt)
}

fn verifier_with(password: &str, salt: &[u8]) -> String {
    let salted = stretched(password.as_bytes(), salt);
    let client_key = keyed(&salted, &[b"Client Key"]);
    let stored_key: Sum = Sha256::digest(client_key).into();
    let server_key = keyed(&salted, &[b"Server Key"]);
    let text = |bytes: &[u8]| STANDARD.encode(bytes);
    format!("SCRAM-SHA-256${ROUNDS}:{}${}:{}", text(salt), text(&stored_key), text(&server_key))
}

/// PBKDF2 with one block, which is all that a sum of this length needs (RFC 5802, `Hi`).
fn stretched(password: &[u8], salt: &[u8]) -> Sum {
    let mut round = keyed(password, &[salt, &1_u32.to_be_bytes()]);
    let mut sum = round;
    for _ in 1..ROUNDS {
        round = keyed(password, &[&round]);
        for (byte, other) in sum.iter_mut().zip(round) {
            *byte ^= other;
        }
    }
    sum
}

fn keyed(key: &[u8], parts: &[&[u8]]) -> Sum {
    // A key of any length is taken; the other arm cannot be.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Sum::default() };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use provision_core::Secret;

    use super::{verifier, verifier_with};

    // covers: X10
    #[test]
    fn the_verifier_is_that_of_the_published_example() {
        // RFC 7677, section 3: user `user`, password `pencil`. Its server signature over the
        // example's messages comes from this key.
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        assert_eq!(
            verifier_with("pencil", &salt),
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
             WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }

    #[test]
    fn a_verifier_shows_nothing_of_its_password_and_is_its_own() {
        let password = Secret::new("hunter2");
        let one = verifier(&password, "one");
        assert_eq!(one, verifier(&password, "one"));
        assert_ne!(one, verifier(&password, "two"));
        assert!(!one.contains("hunter2"));
    }
}
