//! Events of platforms: believed by their signature alone, kept as they came, once each.

use connector_platform::{platform::PlatformName, shared::Settings};
use hmac::{Hmac, KeyInit as _, Mac as _};
use provision_core::Timestamp;
use sha2::Sha256;

use crate::place::{Place, now, open, until};

pub(crate) const BODY: &[u8] = br#"{"object":"page","entry":[{"id":"401","time":1,
    "changes":[{"field":"feed","value":{"item":"comment"}}]}]}"#;

pub(crate) fn signed(body: &[u8], secret: &str) -> Vec<(String, Vec<u8>)> {
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
    assert!(first.is_new && !again.is_new && first.kept == again.kept);
    let told = &first.kept[0];
    assert_eq!((&*told.tells.account, &*told.tells.kind), ("401", "feed.comment"));
    assert_eq!(place.number(kept).await, 2, "the delivery, and what it tells");
    assert_eq!(place.service.raw_body(told.event).await.unwrap(), BODY);
    assert_eq!(place.service.raw_body(first.delivery).await.unwrap(), BODY);
    let of = "SELECT tenant_id || ' ' || connection_id FROM connectors.webhook_events
        WHERE id <> delivery";
    assert_eq!(place.text(of).await, format!("acme {connection}"));
    let clear = "SELECT count(*) FROM connectors.webhook_events
        WHERE position('page'::bytea IN body_sealed) > 0";
    assert_eq!(place.number(clear).await, 0, "it is sealed");
    // A body that was moved to another row does not open there.
    place.execute("UPDATE connectors.webhook_events SET event_id = event_id || 'x'").await;
    let told = place.service.raw_body(first.delivery).await.unwrap_err();
    assert_eq!(told.code(), "secret_unopenable");
    worker.stop().await;
}

/// Two pages, one of which three things have happened to, and one that nobody has connected.
const SEVERAL: &[u8] = br#"{"object":"page","entry":[
    {"id":"401","time":1,"changes":[{"field":"feed","value":{"item":"comment"}},
        {"field":"feed","value":{"item":"reaction"}},{"field":"mention"}]},
    {"id":"402","time":2,"changes":[{"field":"feed","value":{"item":"post"}}]},
    {"id":"499","time":3,"changes":[{"field":"feed"}]}]}"#;

// covers: R5-05, R5-48, R5-61
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_about_several_is_kept_for_each_connection_whose_tenant_wants_it() {
    let Some(place) = Place::new().await else { return };
    let worker = place.worker();
    // Two tenants publish by the same page, and one by another.
    let acme = place.connect("acme", PlatformName::Meta).await;
    let globex = place.connect("globex", PlatformName::Meta).await;
    let second = |sim: &mut connector_platform::sim::SocialSim| sim.world().accounts.reverse();
    place.sim(PlatformName::Meta).with(second);
    let initech = place.connect("initech", PlatformName::Meta).await;
    worker.stop().await;
    let at = Timestamp::from_millis(u64::try_from(now().as_millis()).unwrap());
    let headers = signed(SEVERAL, "simulated-secret");
    let all_off = "UPDATE connectors.feature_flags SET rollout = 0 WHERE name = 'webhook_events'";
    place.execute(all_off).await;
    let fresh = || open(&place.url, &place.sims, Settings::simulated());
    let refused = fresh().await.take_in(PlatformName::Meta, &headers, SEVERAL, at).await;
    assert_eq!(refused.unwrap_err().code(), "flag_off");
    assert_eq!(place.number("SELECT count(*) FROM connectors.webhook_events").await, 0);
    for (sql, wanted) in [
        (
            "UPDATE connectors.feature_flags SET tenants = '{acme,initech}'
                WHERE name = 'webhook_events'",
            vec![("acme", acme, 3), ("initech", initech, 1)],
        ),
        (
            "UPDATE connectors.feature_flags SET rollout = 100 WHERE name = 'webhook_events'",
            vec![("acme", acme, 3), ("globex", globex, 3), ("initech", initech, 1)],
        ),
    ] {
        place.execute(sql).await;
        let service = fresh().await;
        for is_new in [true, false] {
            let taken = service.take_in(PlatformName::Meta, &headers, SEVERAL, at).await.unwrap();
            assert_eq!(taken.is_new, is_new, "what was switched on since is new");
            let last = taken.kept.last().unwrap();
            assert_eq!(service.raw_body(last.event).await.unwrap(), SEVERAL);
        }
        let sql = "SELECT tenant_id, connection_id, count(*) FROM connectors.webhook_events
            WHERE connection_id IS NOT NULL GROUP BY 1, 2 ORDER BY 1";
        let rows = sqlx::query_as(sql).fetch_all(&mut place.owner().await).await;
        let rows: Vec<(String, uuid::Uuid, i64)> = rows.unwrap();
        let rows: Vec<_> = rows.iter().map(|(tenant, of, n)| (&**tenant, *of, *n)).collect();
        assert_eq!(rows, wanted);
        service.shared().db.pool().close().await;
    }
    let unknown = "SELECT count(*) FROM connectors.webhook_events
        WHERE connection_id IS NULL AND id <> delivery";
    assert_eq!(place.number(unknown).await, 1, "of the page that nobody has connected");
    let bodies = "SELECT count(*) FROM connectors.webhook_events WHERE body_sealed IS NOT NULL";
    assert_eq!(place.number(bodies).await, 1, "the body is kept once");
}

// covers: R5-05
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_comes_again_after_its_connection_is_gone_is_answered_as_the_first_was() {
    let Some(place) = Place::new().await else { return };
    let worker = place.worker();
    let connection = place.connect("acme", PlatformName::Meta).await;
    let at = Timestamp::from_millis(u64::try_from(now().as_millis()).unwrap());
    let headers = signed(BODY, "simulated-secret");
    let take =
        async || place.service.take_in(PlatformName::Meta, &headers, BODY, at).await.unwrap();
    let first = take().await;
    place.service.disconnect("acme", connection).await.unwrap();
    let left = "SELECT count(*) FROM connectors.connections WHERE state <> 'disconnected'";
    until("disconnected", async || place.number(left).await == 0).await;
    let again = take().await;
    assert!(first.is_new && !again.is_new && first.kept == again.kept, "{again:?}");
    let kept = "SELECT count(*) FROM connectors.webhook_events";
    assert_eq!(place.number(kept).await, 2, "the delivery, and what it told");
    // Another one is of nobody now, once.
    let other = BODY.iter().map(|byte| if *byte == b'1' { b'2' } else { *byte });
    let other: Vec<u8> = String::from_utf8(other.collect()).unwrap().replace("402", "401").into();
    let headers = signed(&other, "simulated-secret");
    for is_new in [true, false] {
        let taken = place.service.take_in(PlatformName::Meta, &headers, &other, at).await.unwrap();
        assert!(taken.is_new == is_new && taken.kept[0].of.is_none(), "{taken:?}");
    }
    assert_eq!(place.number(kept).await, 4);
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
