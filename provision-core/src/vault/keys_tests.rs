use std::{fs, sync::Arc};

use super::{DataKey, KeyError, KeyProvider, LocalKeys};
use crate::{
    error::ErrorKind,
    secret::{Secret, SecretKey},
    vault::{Binding, Vault, VaultError},
};

fn binding() -> Binding {
    let key = SecretKey {
        scope: "vault/acme".to_owned(),
        generation: 0,
        name: "token".to_owned(),
        path: "crm".to_owned(),
    };
    Binding::new("main", Some("acme"), &key)
}

/// A folder that goes away with the test.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("provision-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

// covers: X9, R5-24
#[tokio::test]
async fn old_keys_open_until_they_are_retired() {
    let keys = LocalKeys::new("k1", [1; 32]).unwrap();
    let vault = Vault::new(Arc::new(keys.clone()));
    let old = vault.seal(&binding(), &Secret::new("old")).await.unwrap();
    keys.add("k2", [2; 32]).unwrap();
    assert_eq!(vault.current_key().await.unwrap(), "k1", "adding a key does not use it yet");
    keys.promote("k2").unwrap();
    let new = vault.seal(&binding(), &Secret::new("new")).await.unwrap();
    assert_eq!((old.key_id.as_str(), new.key_id.as_str()), ("k1", "k2"));
    assert_eq!(vault.open(&binding(), &old).await.unwrap().expose(), "old");
    assert_eq!(keys.retire("k2").unwrap_err().code(), "key_is_current");
    keys.retire("k1").unwrap();
    assert_eq!(vault.open(&binding(), &old).await.unwrap_err(), VaultError::Unopenable);
    assert_eq!(vault.open(&binding(), &new).await.unwrap().expose(), "new");
}

#[tokio::test]
async fn ids_are_checked_and_keep_their_key() {
    for id in ["", " ", "a b", "#a", "ä", &"x".repeat(201)] {
        assert_eq!(LocalKeys::new(id, [1; 32]).unwrap_err().code(), "key_id_invalid", "{id:?}");
    }
    let keys = LocalKeys::new("k1", [1; 32]).unwrap();
    keys.add("k1", [1; 32]).unwrap();
    assert_eq!(keys.add("k1", [2; 32]).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(keys.promote("k9").unwrap_err().kind(), ErrorKind::NotFound);
    let data_key = DataKey::from_bytes([3; 32]);
    let refused = keys.wrap_key("k9", &data_key, b"").await.unwrap_err();
    assert_eq!(refused, KeyError::Refused);
    assert_eq!(format!("{keys:?}"), r#"LocalKeys { ids: ["k1"], .. }"#);
}

#[tokio::test]
async fn a_wrapped_key_is_bound_to_its_context() {
    let keys = LocalKeys::new("k1", [1; 32]).unwrap();
    let wrapped = keys.wrap_key("k1", &DataKey::from_bytes([3; 32]), b"here").await.unwrap();
    assert_eq!(keys.unwrap_key("k1", &wrapped, b"here").await.unwrap().bytes(), &[3; 32]);
    assert_eq!(keys.unwrap_key("k1", &wrapped, b"there").await.unwrap_err(), KeyError::Refused);
    assert_eq!(keys.unwrap_key("k1", b"short", b"here").await.unwrap_err(), KeyError::Refused);
}

// covers: R5-21, R5-24
#[tokio::test]
async fn a_key_file_is_created_once_kept_private_and_followed() {
    let folder = Folder::new("keyfile");
    let path = folder.0.join("keys");
    let first = LocalKeys::file(&path).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let second = LocalKeys::file(&path).unwrap();
    assert_eq!(first.ids(), second.ids(), "the file is read, not written anew");
    let (a, b) = (Vault::new(Arc::new(first.clone())), Vault::new(Arc::new(second.clone())));
    let old = a.seal(&binding(), &Secret::new("old")).await.unwrap();
    assert_eq!(b.open(&binding(), &old).await.unwrap().expose(), "old");

    let id = first.rotate().unwrap();
    let new = a.seal(&binding(), &Secret::new("new")).await.unwrap();
    assert_eq!(new.key_id, id);
    // The other holder has never heard of the new key, and finds it in the file.
    assert_eq!(b.open(&binding(), &new).await.unwrap().expose(), "new");
    assert_eq!(b.current_key().await.unwrap(), id);
    assert_eq!(a.open(&binding(), &old).await.unwrap().expose(), "old");
    let left: Vec<_> = fs::read_dir(&folder.0).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(left, ["keys"], "no copy of a key is left behind");
}

#[test]
fn many_creators_of_one_key_file_end_up_with_one_key() {
    let folder = Folder::new("race");
    let path = folder.0.join("keys");
    let ids: Vec<Vec<String>> = std::thread::scope(|s| {
        let open = || LocalKeys::file(&path).unwrap().ids();
        let threads: Vec<_> = (0..8).map(|_| s.spawn(open)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(ids[0].len(), 1);
    assert!(ids.iter().all(|other| *other == ids[0]), "{ids:?}");
}

// covers: X9
#[cfg(unix)]
#[test]
fn holders_that_rotate_at_the_same_time_keep_every_key() {
    let folder = Folder::new("rotations");
    let path = folder.0.join("keys");
    let first = LocalKeys::file(&path).unwrap();
    let drawn: Vec<String> = std::thread::scope(|s| {
        let rotate = || LocalKeys::file(&path).unwrap().rotate().unwrap();
        let threads: Vec<_> = (0..8).map(|_| s.spawn(rotate)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let ids = LocalKeys::file(&path).unwrap().ids();
    assert_eq!(ids.len(), 9, "{ids:?}");
    assert!(drawn.iter().chain(&first.ids()).all(|id| ids.contains(id)), "{ids:?}");
}

#[cfg(unix)]
#[test]
fn a_key_file_that_others_may_read_or_that_is_damaged_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("refused");
    let path = folder.0.join("keys");
    LocalKeys::file(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(LocalKeys::file(&path).unwrap_err().code(), "key_file_open");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let good = fs::read_to_string(&path).unwrap();
    for damaged in [
        String::new(),
        "# only a comment\n".to_owned(),
        "k1\n".to_owned(),
        "k1 00\n".to_owned(),
        format!("k1 {}\n", "g".repeat(64)),
        format!("{good}{good}"),
        good.replace(' ', "  x"),
    ] {
        fs::write(&path, &damaged).unwrap();
        let error = LocalKeys::file(&path).unwrap_err();
        assert_eq!(error.code(), "key_file_damaged", "{damaged:?}");
        assert!(!format!("{error} {error:?}").contains(&good[10..30]), "keys stay out of errors");
    }
    fs::write(&path, format!("# current first\n\n{good}")).unwrap();
    assert!(LocalKeys::file(&path).is_ok());
}
