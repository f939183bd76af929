//! New keys for what is sealed, while the service works.

use std::{path::Path, process::Command, sync::Arc};

use connector_platform::{platform::PlatformName, shared::Settings, sim::Pace};
use provision_core::{Timestamp, vault::LocalKeys};
use serde_json::Value;

use crate::{
    place::{Place, now, open_with},
    webhooks::{BODY, signed},
};

/// Types `rotate-keys`; answers its exit code and what it said last.
async fn rotated(place: &Place, file: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_connector-platform"));
    command.args(["--database", &place.url, "--json", "--key-file"]).arg(file);
    command.arg("rotate-keys").args(more);
    let ran = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    let last = said.lines().last().unwrap_or_default();
    (ran.status.code(), serde_json::from_str(last).unwrap_or_else(|_| panic!("{said}")))
}

/// A copy of a key file, which its owner alone may read.
fn copied(file: &Path, to: &Path) {
    std::fs::copy(file, to).unwrap();
    std::fs::set_permissions(to, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

const SEALED_UNDER: &str = "SELECT string_agg(DISTINCT key_id, ',') FROM (
    SELECT key_id FROM connectors.encrypted_secrets
    UNION ALL SELECT body_key FROM connectors.webhook_events WHERE id = delivery) AS sealed";

// covers: R5-20, X9
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_while_the_service_works_and_the_new_one_alone_opens_everything() {
    let folder = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("keys");
    let keys = Arc::new(LocalKeys::file(&file).unwrap());
    let old = keys.ids().remove(0);
    let (settings, pace) = (Settings::simulated(), Pace::default());
    let Some(place) = Place::sealed(settings, pace, keys).await else { return };
    let worker = place.worker();
    let connection = place.connect("acme", PlatformName::Meta).await;
    place.connect("globex", PlatformName::TikTok).await;
    let at = Timestamp::from_millis(u64::try_from(now().as_millis()).unwrap());
    let headers = signed(BODY, "simulated-secret");
    let taken = place.service.take_in(PlatformName::Meta, &headers, BODY, at).await.unwrap();
    assert_eq!(place.text(SEALED_UNDER).await, old);

    let (code, told) = rotated(&place, &file, &[]).await;
    assert_eq!((code, &told["resealed"], &told["unopenable"]), (Some(0), &3.into(), &0.into()));
    let new = told["drawn"].as_str().unwrap().to_owned();
    assert!(new != old && place.text(SEALED_UNDER).await == new, "{told}");
    // Who works all the time finds the new key.
    assert_eq!(place.service.raw_body(taken.delivery).await.unwrap(), BODY);
    let tokens = &place.service.shared().tokens;
    assert!(tokens.read("acme", connection).await.unwrap().is_some());
    let trail = "SELECT count(*) FROM connectors.connection_audit
        WHERE action = 'secret.reseal' AND outcome = 'done'";
    assert_eq!(place.number(trail).await, 2);
    let (code, told) = rotated(&place, &file, &["--only-reseal"]).await;
    assert_eq!((code, &told["resealed"], &told["drawn"]), (Some(0), &0.into(), &Value::Null));
    worker.stop().await;

    // Without the old key, in another process: nothing needs it.
    let both = std::fs::read_to_string(&file).unwrap();
    let only: String = both.lines().filter(|line| line.starts_with(&new)).collect();
    let alone = folder.join("alone");
    std::fs::write(&alone, format!("{only}\n")).unwrap();
    std::fs::set_permissions(&alone, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let keys = Arc::new(LocalKeys::file(&alone).unwrap());
    assert_eq!(keys.ids(), [new]);
    let service = open_with(&place.url, &place.sims, Settings::simulated(), keys).await;
    assert_eq!(service.raw_body(taken.delivery).await.unwrap(), BODY);
    assert!(service.shared().tokens.read("acme", connection).await.unwrap().is_some());
    service.shared().db.pool().close().await;

    // A key that is not there is missed, and nothing is changed.
    let stranger = folder.join("stranger");
    drop(LocalKeys::file(&stranger).unwrap());
    let (code, told) = rotated(&place, &stranger, &["--only-reseal"]).await;
    assert_eq!((code, &told["error"]["code"]), (Some(69), &"secret_unopenable".into()), "{told}");
    let before = place.text(SEALED_UNDER).await;
    assert!(both.starts_with(&before), "{before}");
    let none = folder.join("none");
    let (code, told) = rotated(&place, &none, &[]).await;
    assert_eq!((code, &told["error"]["code"]), (Some(69), &"no_key_file".into()), "{told}");
    assert!(!none.exists());
    std::fs::remove_dir_all(folder).unwrap();
}

// covers: R5-20, X9
#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_goes_to_other_machines_before_anything_is_sealed_under_it() {
    let folder = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
    std::fs::create_dir(&folder).unwrap();
    let (file, elsewhere) = (folder.join("keys"), folder.join("elsewhere"));
    let old = LocalKeys::file(&file).unwrap().ids().remove(0);
    copied(&file, &elsewhere);
    // Its workers have a copy of the file.
    let keys = Arc::new(LocalKeys::file(&elsewhere).unwrap());
    let place = Place::sealed(Settings::simulated(), Pace::default(), keys).await;
    let Some(place) = place else { return };
    let worker = place.worker();
    let connection = place.connect("acme", PlatformName::Meta).await;
    let at = Timestamp::from_millis(u64::try_from(now().as_millis()).unwrap());
    let headers = signed(BODY, "simulated-secret");
    let taken = place.service.take_in(PlatformName::Meta, &headers, BODY, at).await.unwrap();

    let (code, told) = rotated(&place, &file, &["--only-draw"]).await;
    assert_eq!((code, &told["resealed"]), (Some(0), &0.into()), "{told}");
    let new = told["drawn"].as_str().unwrap().to_owned();
    assert_eq!(place.text(SEALED_UNDER).await, old);
    // They go on with what they have, and with the new file without being begun anew.
    place.connect("globex", PlatformName::TikTok).await;
    assert_eq!(place.text(SEALED_UNDER).await, old);
    copied(&file, &elsewhere);
    let (code, told) = rotated(&place, &file, &["--only-reseal"]).await;
    assert_eq!((code, &told["resealed"], &told["drawn"]), (Some(0), &3.into(), &Value::Null));
    assert_eq!(place.text(SEALED_UNDER).await, new);
    assert_eq!(place.service.raw_body(taken.delivery).await.unwrap(), BODY);
    let tokens = &place.service.shared().tokens;
    assert!(tokens.read("acme", connection).await.unwrap().is_some());
    worker.stop().await;
    std::fs::remove_dir_all(folder).unwrap();
}
