use std::{collections::HashSet, sync::Arc};

use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{Aead, Payload},
};
use async_trait::async_trait;
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

use super::{Binding, LONGEST_SECRET, NONCE, Parts, Vault, nonce};
use crate::{
    draw::{DrawError, Entropy, SeededEntropy, SystemEntropy},
    secret::{Sealed, Secret, SecretKey},
    vault::{DataKey, KeyError, KeyProvider, LocalKeys, VaultError},
};

fn place() -> SecretKey {
    SecretKey {
        scope: "0190".to_owned(),
        generation: 1,
        name: "db".to_owned(),
        path: "supabase".to_owned(),
    }
}

fn binding() -> Binding {
    Binding::new("main", Some("acme"), &place())
}

fn vault() -> Vault {
    Vault::new(Arc::new(LocalKeys::new("k1", [7; 32]).unwrap()))
}

fn block<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().build().unwrap().block_on(future)
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |i| u8::from_str_radix(&text[i..i + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

// covers: X9, R5-21
#[test]
fn the_cipher_gives_the_published_vectors() {
    // The Galois/Counter Mode of Operation (McGrew, Viega), test cases 13, 14 and 16.
    let key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
    let clear = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
                 1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39";
    let text = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
                8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662\
                76fc6ece0f4e1768cddf8853bb2d551b";
    let zero = "00".repeat(32);
    let table = [
        (zero.as_str(), "00".repeat(12), "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
        (
            zero.as_str(),
            "00".repeat(12),
            "00000000000000000000000000000000",
            "",
            "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919",
        ),
        (
            key,
            "cafebabefacedbaddecaf888".to_owned(),
            clear,
            "feedfacedeadbeeffeedfacedeadbeefabaddad2",
            text,
        ),
    ];
    for (key, nonce, clear, aad, expected) in table {
        let key: [u8; 32] = unhex(key).try_into().unwrap();
        let nonce: [u8; 12] = unhex(&nonce).try_into().unwrap();
        let (clear, aad) = (unhex(clear), unhex(aad));
        let sealed = super::encrypt(&key, nonce, &clear, &aad).unwrap();
        assert_eq!(sealed, unhex(expected));
        assert_eq!(*super::decrypt(&key, nonce, &sealed, &aad).unwrap(), clear);
        let direct = Aes256Gcm::new(&key.into());
        let payload = Payload { msg: clear.as_slice(), aad: &aad };
        assert_eq!(direct.encrypt(&nonce.into(), payload).unwrap(), sealed);
    }
}

// covers: X9, R5-73
#[test]
fn what_was_sealed_opens_at_its_place() {
    let vault = vault();
    for value in ["", "x", "pässwörd", &"long".repeat(4_000)] {
        let sealed = block(vault.seal(&binding(), &Secret::new(value))).unwrap();
        assert_eq!((sealed.format, sealed.key_id.as_str()), (1, "k1"));
        let opened = block(vault.open(&binding(), &sealed)).unwrap();
        assert_eq!(opened.expose(), value);
    }
}

// covers: X9, R5-21
#[test]
fn another_place_does_not_open_it() {
    let vault = vault();
    let sealed = block(vault.seal(&binding(), &Secret::new("value"))).unwrap();
    let changed = |change: fn(&mut SecretKey)| {
        let mut key = place();
        change(&mut key);
        Binding::new("main", Some("acme"), &key)
    };
    let elsewhere = [
        Binding::new("mai", Some("acme"), &place()),
        // The same letters, cut at another point.
        Binding::new("mainacme", Some(""), &place()),
        Binding::new("main", Some("acm"), &place()),
        Binding::new("main", None, &place()),
        Binding::new("main", Some(""), &place()),
        changed(|k| k.scope = "0191".to_owned()),
        changed(|k| k.generation = 2),
        changed(|k| k.name = "dbsupabase".to_owned()),
        changed(|k| std::mem::swap(&mut k.name, &mut k.path)),
        changed(|k| k.path = "supabase2".to_owned()),
    ];
    for binding in elsewhere {
        let error = block(vault.open(&binding, &sealed)).unwrap_err();
        assert_eq!(error, VaultError::Unopenable, "{binding:?}");
    }
}

// covers: X9
#[test]
fn every_single_flipped_bit_gives_the_same_error() {
    let vault = vault();
    let sealed = block(vault.seal(&binding(), &Secret::new("a value"))).unwrap();
    let mut broken = Vec::new();
    for (i, bit) in (0..sealed.bytes.len()).flat_map(|i| (0..8).map(move |bit| (i, bit))) {
        let mut copy = sealed.clone();
        copy.bytes[i] ^= 1 << bit;
        broken.push(copy);
    }
    for bit in 0..8 {
        broken.push(Sealed { format: sealed.format ^ (1 << bit), ..sealed.clone() });
    }
    for cut in 0..sealed.bytes.len() {
        broken.push(Sealed { bytes: sealed.bytes[..cut].to_vec(), ..sealed.clone() });
    }
    let mut longer = sealed.clone();
    longer.bytes.push(0);
    broken.push(longer);
    broken.push(Sealed { key_id: "k2".to_owned(), ..sealed.clone() });
    for copy in broken {
        let error = block(vault.open(&binding(), &copy)).unwrap_err();
        assert_eq!(error, VaultError::Unopenable);
        assert_eq!(error.to_string(), "open sealed value: it cannot be opened");
    }
    assert!(block(vault.open(&binding(), &sealed)).is_ok());
}

// covers: X9
#[test]
fn the_same_key_under_another_id_does_not_open_it() {
    let keys = LocalKeys::new("k1", [7; 32]).unwrap();
    keys.add("k2", [7; 32]).unwrap();
    let vault = Vault::new(Arc::new(keys));
    let mut sealed = block(vault.seal(&binding(), &Secret::new("value"))).unwrap();
    sealed.key_id = "k2".to_owned();
    let error = block(vault.open(&binding(), &sealed)).unwrap_err();
    assert_eq!(error, VaultError::Unopenable);
}

// covers: X9, R5-21
#[test]
fn nonces_and_data_keys_are_never_used_twice() {
    let drawn: HashSet<[u8; NONCE]> =
        (0..1_000_000).map(|_| nonce(&SystemEntropy).unwrap()).collect();
    assert_eq!(drawn.len(), 1_000_000);
    let vault = vault();
    let (mut nonces, mut salts, mut texts) = (HashSet::new(), HashSet::new(), HashSet::new());
    for _ in 0..2_000 {
        let sealed = block(vault.seal(&binding(), &Secret::new("the same value"))).unwrap();
        let parts = Parts::of(&sealed).unwrap();
        nonces.insert(parts.nonce);
        salts.insert(parts.wrapped[..32].to_vec());
        texts.insert(parts.text.to_vec());
    }
    assert_eq!((nonces.len(), salts.len(), texts.len()), (2_000, 2_000, 2_000));
}

// covers: X1
#[test]
fn nothing_sealed_or_printed_shows_the_value() {
    let canary = "CANARY-VALUE-12345";
    let vault = vault();
    let sealed = block(vault.seal(&binding(), &Secret::new(canary))).unwrap();
    let text = serde_json::to_string(&sealed).unwrap();
    let bytes = String::from_utf8_lossy(&sealed.bytes).into_owned();
    let huge = Secret::new(canary.repeat(LONGEST_SECRET / canary.len() + 1));
    let refused = block(vault.seal(&binding(), &huge)).unwrap_err();
    assert_eq!(refused, VaultError::TooLarge);
    let shown =
        format!("{vault:?} {sealed:?} {refused:?} {refused} {:?}", DataKey::from_bytes([7; 32]));
    for text in [text, bytes, shown] {
        assert!(!text.contains("CANARY") && !text.contains("7, 7"), "{text}");
    }
}

/// A key service in another place: it can be down, and it keeps a key to itself.
#[derive(Debug)]
struct Service {
    keys: LocalKeys,
    down: bool,
}

#[async_trait]
impl KeyProvider for Service {
    async fn current(&self) -> Result<String, KeyError> {
        self.keys.current().await
    }

    async fn wrap_key(
        &self,
        key_id: &str,
        data_key: &DataKey,
        context: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        if self.down {
            return Err(KeyError::Unavailable);
        }
        self.keys.wrap_key(key_id, data_key, context).await
    }

    async fn unwrap_key(
        &self,
        key_id: &str,
        wrapped: &[u8],
        context: &[u8],
    ) -> Result<DataKey, KeyError> {
        if self.down {
            return Err(KeyError::Unavailable);
        }
        self.keys.unwrap_key(key_id, wrapped, context).await
    }
}

// covers: R5-23
#[test]
fn a_key_service_that_is_down_is_not_taken_for_a_damaged_value() {
    let service = |down| {
        let keys = LocalKeys::new("kms/1", [9; 32]).unwrap();
        Vault::new(Arc::new(Service { keys, down }))
    };
    let sealed = block(service(false).seal(&binding(), &Secret::new("value"))).unwrap();
    assert_eq!(block(service(false).open(&binding(), &sealed)).unwrap().expose(), "value");
    let error = block(service(true).open(&binding(), &sealed)).unwrap_err();
    assert_eq!(error, VaultError::Unavailable);
    assert!(error.is_transient() && !VaultError::Unopenable.is_transient());
    let error = block(service(true).seal(&binding(), &Secret::new("value"))).unwrap_err();
    assert_eq!(error, VaultError::Unavailable);
}

#[derive(Debug)]
struct Dry;

impl Entropy for Dry {
    fn fill(&self, _: &mut [u8]) -> Result<(), DrawError> {
        Err(DrawError::Source)
    }
}

// covers: X9
#[test]
fn nothing_is_sealed_without_randomness() {
    let vault = vault().with_entropy(Arc::new(Dry));
    let error = block(vault.seal(&binding(), &Secret::new("value"))).unwrap_err();
    assert_eq!(error, VaultError::Unavailable);
}

// Stored formats are read for ever: this value was written when format 1 was new.
#[test]
fn values_sealed_by_earlier_versions_open() {
    let bytes = unhex(include_str!("golden/format-1.hex").trim());
    let sealed = Sealed { format: 1, key_id: "k1".to_owned(), bytes };
    assert_eq!(block(vault().open(&binding(), &sealed)).unwrap().expose(), "golden");
    // The same randomness gives the same bytes: nothing else enters the format.
    let keys = LocalKeys::new("k1", [7; 32]).unwrap();
    let keys = keys.with_entropy(Arc::new(SeededEntropy::new(2)));
    let again = Vault::new(Arc::new(keys)).with_entropy(Arc::new(SeededEntropy::new(1)));
    assert_eq!(block(again.seal(&binding(), &Secret::new("golden"))).unwrap(), sealed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_value_at_any_place_comes_back(
        value in any::<String>(),
        parts in proptest::array::uniform5(any::<String>()),
        generation in any::<u32>(),
        label in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let [namespace, tenant, scope, path, name] = parts;
        let key = SecretKey { scope, generation, name, path };
        let binding = Binding::new(namespace, Some(&tenant), &key);
        let vault = vault();
        let secret = Secret::new(value.as_str());
        let sealed = block(vault.seal_labelled(&binding, &secret, &label)).unwrap();
        prop_assert_eq!(Vault::label(&sealed), Some(label.as_slice()));
        let opened = block(vault.open(&binding, &sealed)).unwrap();
        prop_assert_eq!(opened.expose(), value.as_str());
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(
        format in any::<u8>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let sealed = Sealed { format, key_id: "k1".to_owned(), bytes };
        let opened = block(vault().open(&binding(), &sealed));
        prop_assert!(matches!(opened, Err(VaultError::Unopenable)));
    }
}

/// A key service that takes calls and answers none.
#[derive(Debug)]
struct Mute;

#[async_trait]
impl KeyProvider for Mute {
    async fn current(&self) -> Result<String, KeyError> {
        std::future::pending().await
    }

    async fn wrap_key(&self, _: &str, _: &DataKey, _: &[u8]) -> Result<Vec<u8>, KeyError> {
        std::future::pending().await
    }

    async fn unwrap_key(&self, _: &str, _: &[u8], _: &[u8]) -> Result<DataKey, KeyError> {
        std::future::pending().await
    }
}

// covers: L1
#[tokio::test(start_paused = true)]
async fn a_key_service_that_never_answers_is_one_that_does_not_answer_now() {
    let sealed = vault().seal(&binding(), &Secret::new("v")).await.unwrap();
    let mute = Vault::new(Arc::new(Mute));
    let began = tokio::time::Instant::now();
    assert_eq!(mute.open(&binding(), &sealed).await.unwrap_err(), VaultError::Unavailable);
    let error = mute.seal(&binding(), &Secret::new("v")).await.unwrap_err();
    assert_eq!(error, VaultError::Unavailable);
    assert!(error.is_transient());
    assert_eq!(began.elapsed().as_secs(), 60, "half a minute each");
}
