//! Events of platforms: believed by their signature alone, kept as they came, once each.

use connector_platform::platform::PlatformName;
use hmac::{Hmac, KeyInit as _, Mac as _};
use provision_core::Timestamp;
use sha2::Sha256;

use crate::place::{Place, now};

const BODY: &[u8] = br#"{"object":"page","entry":[{"id":"401","time":1,
    "changes":[{"field":"feed","value":{"item":"comment"}}]}]}"#;

fn signed(body: &[u8], secret: &str) -> Vec<(String, Vec<u8>)> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    let hex: String =
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    vec![("X-Hub-Signature-256".to_owned(), format!("sha256={hex}").into_bytes())]
}

// covers: R5-05, R5-60, R5-61
#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_believed_parsed_and_kept_once_byte_for_byte() {
    let Some(place) = Place::new().await else { return };
    let worker = place.worker();
    let connection = place.connect("acme", PlatformName::Meta).await;
    let at = Timestamp::from_millis(u64::try_from(now().as_millis()).unwrap());
    let good = signed(BODY, "simulated-secret");
    let take = async |headers: &Vec<(String, Vec<u8>)>, body: &[u8]| {
        let taken = place.service.take_in(PlatformName::Meta, headers, body, at).await;
        taken.map_err(|told| told.code().to_owned())
    };
    let forged = Err("webhook_forged".to_owned());
    assert_eq!(take(&signed(BODY, "another"), BODY).await, forged);
    let mut altered = BODY.to_vec();
    altered[20] ^= 1;
    assert_eq!(take(&good, &altered).await, forged);
    assert_eq!(take(&Vec::new(), BODY).await, Err("webhook_unsigned".to_owned()));
    let kept = "SELECT count(*) FROM connectors.webhook_events";
    assert_eq!(place.number(kept).await, 0, "what is not believed is not kept");
    let first = take(&good, BODY).await.unwrap();
    let again = take(&good, BODY).await.unwrap();
    assert!(first.is_new && !again.is_new && first.event == again.event);
    assert_eq!((&*first.tells[0].account, &*first.tells[0].kind), ("401", "feed.comment"));
    assert_eq!(place.number(kept).await, 1);
    assert_eq!(place.service.raw_body(first.event).await.unwrap(), BODY);
    let of = "SELECT tenant_id || ' ' || connection_id FROM connectors.webhook_events";
    assert_eq!(place.text(of).await, format!("acme {connection}"));
    let clear = "SELECT count(*) FROM connectors.webhook_events
        WHERE position('page'::bytea IN body_sealed) > 0";
    assert_eq!(place.number(clear).await, 0, "it is sealed");
    // A body that was moved to another row does not open there.
    place.execute("UPDATE connectors.webhook_events SET event_id = 'another'").await;
    let told = place.service.raw_body(first.event).await.unwrap_err();
    assert_eq!(told.code(), "secret_unopenable");
    worker.stop().await;
}

// covers: R5-62
#[tokio::test(flavor = "multi_thread")]
async fn connectors_without_webhooks_say_so() {
    let Some(place) = Place::new().await else { return };
    for name in PlatformName::ALL.into_iter().filter(|name| *name != PlatformName::Meta) {
        let told = place.service.take_in(name, &[], b"{}", Timestamp::ZERO).await.unwrap_err();
        assert_eq!(told.code(), "unsupported", "{name}");
        assert!(told.hint().contains("polled"), "{name}: {}", told.hint());
    }
}
