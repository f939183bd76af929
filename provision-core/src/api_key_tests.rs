use std::collections::HashSet;

use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

use super::{ApiKey, Hasher, KeyHash, Kind, base64, unbase64};
use crate::draw::{SeededEntropy, SystemEntropy};

/// Costs for tests: weak and fast.
const QUICK: [Hasher; 2] =
    [Hasher::Argon2idWith { memory: 64, passes: 1 }, Hasher::ScryptWith { log_n: 4 }];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

// covers: R4-05
#[test]
fn the_hash_functions_give_the_published_vectors() {
    let scrypt = |password: &str, salt: &str, log_n, r, p| {
        let mut out = [0; 64];
        Kind::Scrypt { log_n, r, p }
            .compute(password.as_bytes(), salt.as_bytes(), &mut out)
            .unwrap();
        hex(&out)
    };
    // RFC 7914, section 12.
    assert_eq!(
        scrypt("", "", 4, 1, 1),
        "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442\
         fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906"
    );
    assert_eq!(
        scrypt("password", "NaCl", 10, 8, 16),
        "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162\
         2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640"
    );
    // The test suite of the reference implementation of Argon2, version 1.3.
    let mut out = [0; 32];
    let kind = Kind::Argon2id { memory: 256, passes: 2, lanes: 1 };
    kind.compute(b"password", b"somesalt", &mut out).unwrap();
    assert_eq!(hex(&out), "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe");
}

// covers: R4-05, X10
#[test]
fn a_hash_verifies_its_key_only_and_holds_nothing_of_it() {
    let key = ApiKey::draw("acme_live", &SystemEntropy).unwrap();
    let other = ApiKey::draw("acme_live", &SystemEntropy).unwrap();
    for hasher in QUICK {
        let hash = KeyHash::of(key.text(), hasher, &SystemEntropy).unwrap();
        assert!(hash.verify(key.text().expose()), "{hasher:?}");
        assert!(!hash.verify(other.text().expose()) && !hash.verify(""));
        let again = KeyHash::of(key.text(), hasher, &SystemEntropy).unwrap();
        assert_ne!(hash, again, "every hash has its own salt");
        let stored: KeyHash = serde_json::from_str(&serde_json::to_string(&hash).unwrap()).unwrap();
        assert!(stored.verify(key.text().expose()));
        let shown = format!("{hash:?} {key:?}");
        assert!(!shown.contains(hash.as_str()) && !shown.contains(&key.text().expose()[27..60]));
    }
}

// covers: R4-16
#[test]
fn the_default_costs_are_the_recommended_ones() {
    let key = ApiKey::draw("k", &SystemEntropy).unwrap();
    let argon = KeyHash::of(key.text(), Hasher::default(), &SystemEntropy).unwrap();
    assert!(argon.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    assert!(argon.verify(key.text().expose()));
    let scrypt = KeyHash::of(key.text(), Hasher::Scrypt, &SystemEntropy).unwrap();
    assert!(scrypt.as_str().starts_with("$scrypt$ln=15,r=8,p=1$"));
}

#[test]
fn a_stored_text_that_is_no_hash_or_too_costly_verifies_nothing() {
    let key = ApiKey::draw("k", &SeededEntropy::new(1)).unwrap();
    let hash = KeyHash::of(key.text(), QUICK[0], &SeededEntropy::new(2)).unwrap();
    let good = hash.as_str();
    let cut = &good[..good.len() - 1];
    for text in [
        "",
        "$",
        "plain",
        cut,
        &good.replace("argon2id", "argon2i"),
        &good.replace("v=19", "v=16"),
        &good.replace("m=64", "m=65"),
        &good.replace("m=64", "m=4000000000"),
        &good.replace("m=64", "m=64,x=1"),
        &good.replace("p=1", "p=1,"),
        "$scrypt$ln=63,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
        "$scrypt$ln=20,r=64,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
        "$scrypt$ln=4,r=0,p=0$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
    ] {
        assert!(!KeyHash::from_stored(text).verify(key.text().expose()), "{text}");
    }
    assert!(hash.verify(key.text().expose()));
    let costly = Hasher::ScryptWith { log_n: 40 };
    assert_eq!(KeyHash::of(key.text(), costly, &SystemEntropy).unwrap_err().code(), "hash_costs");
}

// covers: R4-20
#[test]
fn keys_share_no_structure_and_never_come_twice() {
    let mut keys = HashSet::new();
    let mut firsts = [0_u32; 16];
    for _ in 0..100_000 {
        let key = ApiKey::draw("k", &SystemEntropy).unwrap();
        let secret = key.text().expose()[19..].to_owned();
        assert_eq!(secret.len(), 2 * 64 + 8);
        firsts[usize::from_str_radix(&secret[..1], 16).unwrap()] += 1;
        keys.insert(secret[..32].to_owned());
    }
    assert_eq!(keys.len(), 100_000);
    // Each first digit comes 6,250 times, give or take eight standard deviations.
    assert!(firsts.iter().all(|n| (5_630..6_870).contains(n)), "{firsts:?}");
}

#[test]
fn the_id_of_a_key_is_read_only_if_nothing_was_mistyped() {
    let key = ApiKey::draw("acme_live", &SystemEntropy).unwrap();
    let text = key.text().expose();
    assert_eq!(ApiKey::id_of("acme_live", text), Some(key.id()));
    assert_eq!(ApiKey::id_of("acme", text), None);
    assert_eq!(ApiKey::id_of("acme_test", text), None);
    for i in 0..text.len() {
        let mut wrong = text.to_owned();
        let c = if &text[i..=i] == "0" { "1" } else { "0" };
        wrong.replace_range(i..=i, c);
        assert_eq!(ApiKey::id_of("acme_live", &wrong), None, "{i}");
        assert_eq!(ApiKey::id_of("acme_live", &text[..i]), None, "{i}");
    }
    for prefix in ["", "Acme", "a-b", "ä", &"x".repeat(33)] {
        assert_eq!(ApiKey::draw(prefix, &SystemEntropy).unwrap_err().code(), "key_prefix");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn base64_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        prop_assert_eq!(unbase64(&base64(&bytes)), Some(bytes));
    }

    #[test]
    fn any_text_is_looked_at_without_a_panic(text in "\\PC{0,200}", key in any::<String>()) {
        prop_assert!(ApiKey::id_of("k", &text).is_none());
        let (prefixed, stored) = (format!("k_{text}"), format!("$scrypt${text}"));
        prop_assert!(ApiKey::id_of("k", &prefixed).is_none());
        prop_assert!(!KeyHash::from_stored(stored).verify(&key));
    }
}
