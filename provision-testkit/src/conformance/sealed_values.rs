//! The secret store: put if absent, compare and replace, pages of keys.

use provision_core::secret::{Sealed, SecretKey};
use tokio::task::JoinSet;

use super::Fixture;

fn key(name: &str) -> SecretKey {
    SecretKey {
        scope: "vault/acme".to_owned(),
        generation: 0,
        name: name.to_owned(),
        path: "github".to_owned(),
    }
}

fn sealed(byte: u8) -> Sealed {
    Sealed { format: 2, key_id: "k1".to_owned(), bytes: vec![byte, 0, 0xff, b'\''] }
}

/// A value that was put comes back byte for byte; others are absent.
// covers: R5-09
pub async fn a_value_comes_back_byte_for_byte(f: Fixture) {
    let value = Sealed { format: 7, key_id: "kms:1".to_owned(), bytes: (0..=255).collect() };
    assert_eq!(f.main.secrets.put(&key("a"), &value).await.unwrap(), value);
    assert_eq!(f.again.secrets.get(&key("a")).await.unwrap(), Some(value));
    assert_eq!(f.main.secrets.get(&key("b")).await.unwrap(), None);
    let next = SecretKey { generation: 1, ..key("a") };
    assert_eq!(f.main.secrets.get(&next).await.unwrap(), None);
}

/// The first value put stays; every other put answers with it.
// covers: S10
pub async fn the_first_put_stays(f: Fixture) {
    assert_eq!(f.main.secrets.put(&key("a"), &sealed(1)).await.unwrap(), sealed(1));
    assert_eq!(f.again.secrets.put(&key("a"), &sealed(2)).await.unwrap(), sealed(1));
    assert_eq!(f.main.secrets.get(&key("a")).await.unwrap(), Some(sealed(1)));
}

/// Of many concurrent puts one wins, and all learn which.
// covers: S10
pub async fn concurrent_puts_agree(f: Fixture) {
    let mut tasks = JoinSet::new();
    for byte in 0..16 {
        let secrets = if byte % 2 == 0 { &f.main.secrets } else { &f.again.secrets };
        let secrets = std::sync::Arc::clone(secrets);
        tasks.spawn(async move { secrets.put(&key("a"), &sealed(byte)).await.unwrap() });
    }
    let answers = tasks.join_all().await;
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(f.main.secrets.get(&key("a")).await.unwrap().as_ref(), answers.first());
}

/// A value is replaced only by who knows the present one.
// covers: X9
pub async fn replacing_compares_with_the_present_value(f: Fixture) {
    let secrets = &f.main.secrets;
    assert!(!secrets.replace(&key("a"), &sealed(1), &sealed(2)).await.unwrap());
    secrets.put(&key("a"), &sealed(1)).await.unwrap();
    let other_key = Sealed { key_id: "k2".to_owned(), ..sealed(1) };
    assert!(!secrets.replace(&key("a"), &other_key, &sealed(2)).await.unwrap());
    assert!(secrets.replace(&key("a"), &sealed(1), &other_key).await.unwrap());
    assert_eq!(secrets.get(&key("a")).await.unwrap(), Some(other_key));
}

/// What was erased is gone, and can be put anew; erasing twice is no trouble.
pub async fn erased_values_are_gone(f: Fixture) {
    let secrets = &f.main.secrets;
    secrets.erase(&key("a")).await.unwrap();
    secrets.put(&key("a"), &sealed(1)).await.unwrap();
    secrets.put(&key("b"), &sealed(2)).await.unwrap();
    secrets.erase(&key("a")).await.unwrap();
    secrets.erase(&key("a")).await.unwrap();
    assert_eq!(secrets.get(&key("a")).await.unwrap(), None);
    assert_eq!(secrets.keys(None).await.unwrap(), [key("b")]);
    assert_eq!(secrets.put(&key("a"), &sealed(3)).await.unwrap(), sealed(3));
}

/// Keys come in their order, in pages of at most 1,000, none twice and none missing.
// covers: S25
pub async fn keys_come_in_order_and_pages(f: Fixture) {
    let mut expected = Vec::new();
    for scope in ["a", "b"] {
        for generation in [0, 2, 10] {
            for name in ["x", "y"] {
                for path in ["p", "p/q"] {
                    expected.push(SecretKey {
                        scope: scope.to_owned(),
                        generation,
                        name: name.to_owned(),
                        path: path.to_owned(),
                    });
                }
            }
        }
    }
    expected.extend((0..1_000).map(|n| key(&format!("{n:04}"))));
    let mut tasks = JoinSet::new();
    for key in expected.clone() {
        let secrets = std::sync::Arc::clone(&f.main.secrets);
        tasks.spawn(async move { secrets.put(&key, &sealed(0)).await.map(drop) });
    }
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
    let first = f.again.secrets.keys(None).await.unwrap();
    assert_eq!(first.len(), 1_000);
    let second = f.again.secrets.keys(first.last()).await.unwrap();
    let found: Vec<_> = first.into_iter().chain(second.clone()).collect();
    assert_eq!(found, expected);
    assert!(f.main.secrets.keys(second.last()).await.unwrap().is_empty());
}
