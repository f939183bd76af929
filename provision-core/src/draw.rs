//! Randomness, drawn from the operating system and handed in where it is needed.
//!
//! Generated secrets, run ids, nonces and jitter all come through [`Entropy`], so a simulation can
//! replace the source and repeat a run exactly. Nothing else in this crate touches a generator.

use std::{
    fmt::{self, Debug},
    sync::atomic::{AtomicU64, Ordering},
};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::{Builder, Uuid};
use zeroize::Zeroizing;

use crate::{
    id::{RunId, Timestamp},
    secret::{Secret, SecretSpec},
};

/// Longest secret that can be drawn, in characters.
pub const LONGEST_DRAW: usize = 4_096;

/// A source of random bytes that nobody can predict.
pub trait Entropy: Debug + Send + Sync + 'static {
    /// Fills the whole slice.
    ///
    /// # Errors
    /// The source gives nothing; the content of the slice is undefined and must not be used.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), DrawError>;
}

/// The operating system's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), DrawError> {
        // X10: this is the only source of generated credentials outside of tests.
        getrandom::fill(bytes).map_err(|_| DrawError::Source)
    }
}

/// A repeatable stream for tests and simulations. **Predictable: never draws a real secret.**
#[derive(Debug)]
pub struct SeededEntropy {
    seed: u64,
    block: AtomicU64,
}

impl SeededEntropy {
    /// Starts the stream of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, block: AtomicU64::new(0) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), DrawError> {
        for chunk in bytes.chunks_mut(32) {
            let block = self.block.fetch_add(1, Ordering::Relaxed);
            let digest = Sha256::new()
                .chain_update(self.seed.to_be_bytes())
                .chain_update(block.to_be_bytes())
                .finalize();
            chunk.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        }
        Ok(())
    }
}

/// Why nothing was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DrawError {
    /// The source of randomness gives nothing.
    Source,
    /// The alphabet has fewer than 2 or more than 256 characters, or one of them twice.
    Alphabet,
    /// The length is zero or above [`LONGEST_DRAW`].
    Length,
}

impl fmt::Display for DrawError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "draw secret: the system gives no randomness",
            Self::Alphabet => "draw secret: the alphabet needs 2 to 256 different characters",
            Self::Length => "draw secret: the length must be 1 to 4,096",
        })
    }
}

impl std::error::Error for DrawError {}

/// Draws a secret: every character of the alphabet is equally likely at every place.
///
/// # Errors
/// The specification cannot be met, or the source gives nothing.
pub fn draw(spec: &SecretSpec, entropy: &dyn Entropy) -> Result<Secret, DrawError> {
    let alphabet = checked(spec)?;
    // Bytes at and above this limit are thrown away: taking them modulo the alphabet's size would
    // make its first characters likelier.
    let limit = 256 - 256 % alphabet.len();
    // The exact capacity, so that no half-written copy is left behind by growing.
    let widest = alphabet.iter().map(|c| c.len_utf8()).max().unwrap_or(1);
    let mut value = Zeroizing::new(String::with_capacity(spec.length * widest));
    let mut buffer = Zeroizing::new([0_u8; 64]);
    let mut missing = spec.length;
    while missing > 0 {
        entropy.fill(buffer.as_mut_slice())?;
        let usable = buffer.iter().map(|b| usize::from(*b)).filter(|b| *b < limit);
        for c in usable.filter_map(|b| alphabet.get(b % alphabet.len())).take(missing) {
            value.push(*c);
            missing -= 1;
        }
    }
    Ok(Secret::new(std::mem::take(&mut *value)))
}

/// Bits of entropy of what [`draw`] gives for a specification; 0 for one it refuses.
#[must_use]
pub fn entropy_bits(spec: &SecretSpec) -> f64 {
    let size = checked(spec).ok().and_then(|all| u32::try_from(all.len()).ok()).unwrap_or(1);
    f64::from(size).log2() * f64::from(u32::try_from(spec.length).unwrap_or(0))
}

fn checked(spec: &SecretSpec) -> Result<Vec<char>, DrawError> {
    if spec.length == 0 || spec.length > LONGEST_DRAW {
        return Err(DrawError::Length);
    }
    let alphabet: Vec<char> = spec.alphabet.chars().collect();
    let mut different = alphabet.clone();
    different.sort_unstable();
    different.dedup();
    if different.len() != alphabet.len() || !(2..=256).contains(&alphabet.len()) {
        return Err(DrawError::Alphabet);
    }
    Ok(alphabet)
}

/// Draws the name of a run: version 7, so that runs sort by their start.
///
/// # Errors
/// The source gives nothing.
pub fn run_id(entropy: &dyn Entropy, now: Timestamp) -> Result<RunId, DrawError> {
    let mut random = [0_u8; 10];
    entropy.fill(&mut random)?;
    let id = Builder::from_unix_timestamp_millis(now.as_millis(), &random).into_uuid();
    Ok(RunId::from_uuid(id))
}

/// Draws a version 4 UUID, 122 random bits: share tokens and names of process incarnations.
///
/// # Errors
/// The source gives nothing.
pub fn uuid_v4(entropy: &dyn Entropy) -> Result<Uuid, DrawError> {
    let mut random = [0_u8; 16];
    entropy.fill(&mut random)?;
    Ok(Builder::from_random_bytes(random).into_uuid())
}

/// Draws an even number over all values: jitter.
///
/// # Errors
/// The source gives nothing.
pub fn number(entropy: &dyn Entropy) -> Result<u64, DrawError> {
    let mut random = [0_u8; 8];
    entropy.fill(&mut random)?;
    Ok(u64::from_be_bytes(random))
}

/// Compares a secret with what somebody presented; the time tells the lengths only.
#[must_use]
pub fn same(secret: &Secret, presented: &str) -> bool {
    // X10: no early end at the first difference.
    secret.expose().as_bytes().ct_eq(presented.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, HashSet};

    use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

    use super::{
        DrawError, Entropy, Secret, SecretSpec, SeededEntropy, SystemEntropy, Timestamp, draw,
        entropy_bits, number, run_id, same, uuid_v4,
    };

    #[derive(Debug)]
    struct Dry;

    impl Entropy for Dry {
        fn fill(&self, _: &mut [u8]) -> Result<(), DrawError> {
            Err(DrawError::Source)
        }
    }

    // covers: R1-27, X10
    #[test]
    fn a_password_has_its_length_alphabet_and_entropy() {
        let spec = SecretSpec::password("db");
        let drawn: BTreeSet<String> =
            (0..1_000).map(|_| draw(&spec, &SystemEntropy).unwrap().expose().to_owned()).collect();
        assert_eq!(drawn.len(), 1_000, "no value comes twice");
        for value in &drawn {
            assert_eq!(value.chars().count(), 40);
            assert!(value.chars().all(|c| SecretSpec::ALPHANUMERIC.contains(c)));
        }
        assert!(entropy_bits(&spec) > 238.0 && entropy_bits(&spec) < 239.0);
    }

    // covers: R1-27
    #[test]
    fn every_character_is_equally_likely() {
        // 200 does not divide 256: a modulo without rejection would double the first 56.
        let alphabet: String = (0x100..0x100 + 200).filter_map(char::from_u32).collect();
        let spec = SecretSpec { name: "x", length: 4_000, alphabet: alphabet.leak() };
        let entropy = SeededEntropy::new(7);
        let mut counts: BTreeMap<char, f64> = BTreeMap::new();
        for _ in 0..50 {
            for c in draw(&spec, &entropy).unwrap().expose().chars() {
                *counts.entry(c).or_default() += 1.0;
            }
        }
        let expected = 200_000.0 / 200.0;
        let chi: f64 = counts.values().map(|n| (n - expected).powi(2) / expected).sum();
        assert_eq!(counts.len(), 200);
        // 199 degrees of freedom: above 290 once in a hundred thousand seeds.
        assert!(chi < 290.0, "{chi}");
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let spec = |length, alphabet| SecretSpec { name: "x", length, alphabet };
        let refused = [
            (spec(0, "ab"), DrawError::Length),
            (spec(4_097, "ab"), DrawError::Length),
            (spec(8, ""), DrawError::Alphabet),
            (spec(8, "a"), DrawError::Alphabet),
            (spec(8, "aba"), DrawError::Alphabet),
        ];
        for (spec, error) in refused {
            assert_eq!(draw(&spec, &SystemEntropy).unwrap_err(), error, "{spec:?}");
            assert!(entropy_bits(&spec) < 0.001);
        }
        assert_eq!(draw(&spec(8, "ab"), &Dry).unwrap_err(), DrawError::Source);
        assert!(run_id(&Dry, Timestamp::ZERO).is_err() && uuid_v4(&Dry).is_err());
        assert!(number(&Dry).is_err());
    }

    #[test]
    fn run_ids_are_version_7_and_sort_by_time() {
        let at = |ms| run_id(&SystemEntropy, Timestamp::from_millis(ms)).unwrap();
        let (early, late) = (at(1_700_000_000_000), at(1_700_000_000_001));
        assert_eq!(early.as_uuid().get_version_num(), 7);
        assert_eq!(early.as_uuid().get_timestamp().unwrap().to_unix().0, 1_700_000_000);
        assert!(early < late);
    }

    // covers: R3-07
    #[test]
    fn share_tokens_are_version_4_and_never_come_twice() {
        let tokens: HashSet<u128> =
            (0..1_000_000).map(|_| uuid_v4(&SystemEntropy).unwrap().as_u128()).collect();
        assert_eq!(tokens.len(), 1_000_000);
        assert!(tokens.iter().all(|t| uuid::Uuid::from_u128(*t).get_version_num() == 4));
    }

    // covers: X10
    #[test]
    fn comparing_accepts_the_secret_only() {
        let secret = Secret::new("correct horse");
        assert!(same(&secret, "correct horse"));
        for wrong in ["", "correct horsf", "correct hors", "correct horse "] {
            assert!(!same(&secret, wrong), "{wrong:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_seed_repeats_its_stream(seed in any::<u64>(), length in 1usize..300) {
            let spec = SecretSpec { length, ..SecretSpec::password("x") };
            let of = |seed| draw(&spec, &SeededEntropy::new(seed)).unwrap().expose().to_owned();
            prop_assert_eq!(of(seed), of(seed));
            prop_assert_eq!(of(seed).len(), length);
            prop_assert!(length < 8 || of(seed) != of(seed ^ 1));
        }
    }
}
