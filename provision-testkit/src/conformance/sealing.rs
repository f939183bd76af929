//! Values sealed by the very append that records their intent.

use provision_core::secret::{Sealed, SecretKey};

use super::{Fixture, append_of, new_worker};

fn key(run: &str) -> SecretKey {
    SecretKey {
        scope: run.to_owned(),
        generation: 1,
        name: "password".to_owned(),
        path: "db".to_owned(),
    }
}

fn sealed(byte: u8) -> Sealed {
    Sealed { format: 1, key_id: "k1".to_owned(), bytes: vec![byte, 0, 255] }
}

/// The value is there as soon as the append is, readable as a secret.
pub async fn an_append_seals_with_its_frame(f: Fixture) {
    let leased = f.leased_run(new_worker()).await;
    let key = key(&leased.record.head.id.to_string());
    let mut append = append_of(&leased, 1);
    append.sealed = vec![(key.clone(), sealed(7))];
    f.main.applied(append).await;
    assert_eq!(f.again.secrets.get(&key).await.unwrap(), Some(sealed(7)));
}

/// A value that is there is never drawn anew.
// covers: S10
pub async fn a_sealed_value_is_not_replaced_by_an_append(f: Fixture) {
    let leased = f.leased_run(new_worker()).await;
    let key = key(&leased.record.head.id.to_string());
    assert_eq!(f.main.secrets.put(&key, &sealed(1)).await.unwrap(), sealed(1));
    let mut append = append_of(&leased, 1);
    append.sealed = vec![(key.clone(), sealed(2))];
    f.main.applied(append).await;
    assert_eq!(f.main.secrets.get(&key).await.unwrap(), Some(sealed(1)));
}
