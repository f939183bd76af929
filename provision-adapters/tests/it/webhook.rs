//! Webhooks in: what is believed, what is refused, and that an event is one run.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::future::join_all;
use hmac::{Hmac, KeyInit, Mac};
use proptest::prelude::*;
use provision_adapters::webhook::{
    BODY_MAX, Encoding, Refused, SOURCE_MAX, TOLERANCE_MAX, Unusable, Verified, Verifier,
};
use provision_core::{
    By, Engine, Outcome, RunId, Secret, Timestamp,
    store::{RunFilter, StateStore as _},
};
use sha2::Sha256;

use crate::{
    engine::{Build, SAGA, Stage, ended, paused},
    scenes_tailscale::OnTailscale,
};

const SIGNED: u64 = 1_614_556_800;
/// Of `<SIGNED>.<ORDER>` with `whsec_test`, reckoned with Python's `hmac`.
const STRIPE: &str = "t=1614556800,v1=\
    165ccfbea75f24f4d6a3e35f7dee277a92f338c63aa253fe9a5b4e43d350ed6f,v0=00";
const ORDER: &[u8] = br#"{"id":"evt_1","type":"checkout.session.completed"}"#;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

fn secrets(texts: &[&str]) -> Vec<Secret> {
    texts.iter().map(|text| Secret::new(*text)).collect()
}

fn stripe() -> Verifier {
    of_secrets(&["whsec_test"])
}

fn of_secrets(texts: &[&str]) -> Verifier {
    Verifier::stripe("shop", secrets(texts)).unwrap()
}

fn github(secret: &str) -> Verifier {
    Verifier::github("hook", secrets(&[secret])).unwrap()
}

fn standard(secret: &str) -> Verifier {
    Verifier::standard("mail", secrets(&[secret])).unwrap()
}

fn own(prefix: &str, encoding: Encoding, secret: &str) -> Verifier {
    Verifier::body("own", ("X-Signature", prefix), encoding, secrets(&[secret])).unwrap()
}

/// A delivery with one header, at the moment it was signed.
fn told(
    verifier: &Verifier,
    header: (&str, &str),
    body: &[u8],
    now: u64,
) -> Result<Verified, Refused> {
    verifier.verify([(header.0, header.1.as_bytes())], body, at(now))
}

fn of_stripe(verifier: &Verifier, header: &str, now: u64) -> Result<Verified, Refused> {
    told(verifier, ("Stripe-Signature", header), ORDER, now)
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> String {
    String::from_utf8(hex(&mac(key, parts))).unwrap()
}

/// A sender, and what it says with a signature of its own making.
type Sender = (Verifier, fn(&[u8]) -> Vec<(&'static str, String)>);

/// Each of them under the secret `s`, at the same moment, for the same body.
fn senders() -> [Sender; 4] {
    [
        (of_secrets(&["s"]), |signature| {
            let signature = String::from_utf8(hex(signature)).unwrap();
            vec![("stripe-signature", format!("t={SIGNED},v1={signature}"))]
        }),
        (github("s"), |signature| {
            let signature = String::from_utf8(hex(signature)).unwrap();
            let named = ("x-github-delivery", "72d3162e".to_owned());
            vec![("x-hub-signature-256", format!("sha256={signature}")), named]
        }),
        (standard("whsec_cw=="), |signature| {
            let signature = STANDARD.encode(signature);
            vec![
                ("webhook-id", "msg_1".to_owned()),
                ("webhook-timestamp", SIGNED.to_string()),
                ("webhook-signature", format!("v1,{signature}")),
            ]
        }),
        (own("", Encoding::Base64, "s"), |signature| {
            vec![("x-signature", STANDARD.encode(signature))]
        }),
    ]
}

fn verify(
    verifier: &Verifier,
    headers: &[(&'static str, String)],
    body: &[u8],
    now: u64,
) -> Result<Verified, Refused> {
    let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
    verifier.verify(headers, body, at(now))
}

// covers: X7, R5-60
#[test]
fn a_part_of_a_signature_is_none_and_whose_time_is_signed_has_a_window() {
    for ((verifier, says), before) in senders().into_iter().zip([
        format!("{SIGNED}."),
        String::new(),
        format!("msg_1.{SIGNED}."),
        String::new(),
    ]) {
        let signature = mac(b"s", &[before.as_bytes(), ORDER]);
        let good = verify(&verifier, &says(&signature), ORDER, SIGNED).unwrap();
        for bit in 0..ORDER.len() * 8 {
            let mut body = ORDER.to_vec();
            body[bit / 8] ^= 1 << (bit % 8);
            let refused = verify(&verifier, &says(&signature), &body, SIGNED);
            assert_eq!(refused, Err(Refused::Forged), "{verifier:?}: bit {bit} of the body");
        }
        for bit in 0..256 {
            let mut other = signature.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            let refused = verify(&verifier, &says(&other), ORDER, SIGNED);
            assert_eq!(refused, Err(Refused::Forged), "{verifier:?}: bit {bit}");
        }
        let longer = [signature.as_slice(), b"0"].concat();
        for part in [&signature[..0], &signature[..1], &signature[..16], &signature[..31], &longer]
        {
            let refused = verify(&verifier, &says(part), ORDER, SIGNED);
            assert_eq!(refused, Err(Refused::Forged), "{verifier:?}: {} bytes", part.len());
        }
        for (now, fresh) in [(SIGNED - 301, false), (SIGNED + 300, true), (SIGNED + 301, false)] {
            let answer = verify(&verifier, &says(&signature), ORDER, now);
            assert_eq!(answer.is_ok(), fresh || good.at().is_none(), "{verifier:?} at {now}");
        }
    }
}

// covers: X7, R3-40
#[test]
fn the_same_id_from_another_source_is_another_event() {
    let keys = ["shop", "club"].map(|source| {
        let verifier = Verifier::stripe(source, secrets(&["whsec_test"])).unwrap();
        of_stripe(&verifier, STRIPE, SIGNED).unwrap().key()
    });
    assert_eq!(keys, [Some("stripe:shop:evt_1".to_owned()), Some("stripe:club:evt_1".to_owned())]);
}

// covers: X7
#[test]
fn what_would_refuse_every_delivery_is_refused_itself() {
    let made = |source: &str, texts: &[&str]| Verifier::standard(source, secrets(texts)).map(drop);
    assert_eq!(made("mail", &["whsec_cw=="]), Ok(()));
    assert_eq!(made("mail", &[]), Err(Unusable::NoSecret));
    for text in ["", "whsec_", "whsec_c", "whsec_cw==\n", "whsec_-_-_"] {
        assert_eq!(made("mail", &["whsec_cw==", text]), Err(Unusable::Secret(1)), "{text:?}");
    }
    assert_eq!(Verifier::github("hook", secrets(&[""])).map(drop), Err(Unusable::Secret(0)));
    let long = "a".repeat(SOURCE_MAX + 1);
    for source in ["", "a:b", "a b", "\u{e9}", &long] {
        assert_eq!(made(source, &["whsec_cw=="]), Err(Unusable::Source), "{source:?}");
    }
}

// covers: X7
#[test]
fn a_signed_event_without_an_id_is_not_believed() {
    for body in [
        b"{}".as_slice(),
        b"no json",
        br#"{"id":1}"#,
        br#"{"id":"a","id":"b"}"#,
        br#"{"id":"a b"}"#,
    ] {
        let header = sign("whsec_test", SIGNED, body);
        let refused = told(&stripe(), ("stripe-signature", &header), body, SIGNED);
        assert_eq!(refused, Err(Refused::Nameless));
    }
}

/// What Stripe sends.
pub(crate) fn sign(secret: &str, seconds: u64, body: &[u8]) -> String {
    let before = format!("{seconds}.");
    format!("t={seconds},v1={}", hmac(secret.as_bytes(), &[before.as_bytes(), body]))
}

// covers: X7, R5-60
#[test]
fn published_vectors_are_believed() {
    // https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    let github = github("It's a Secret to Everybody");
    let signed = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let nameless = told(&github, ("x-hub-signature-256", signed), b"Hello, World!", 0);
    assert_eq!(nameless, Err(Refused::Unsigned));
    let headers = [("X-Hub-Signature-256", signed), ("X-GitHub-Delivery", "72d3162e")];
    let headers = headers.map(|(name, value)| (name, value.as_bytes()));
    let event = github.verify(headers, b"Hello, World!", at(0)).unwrap();
    assert_eq!(event.key().as_deref(), Some("github:hook:72d3162e"));
    // https://github.com/standard-webhooks/standard-webhooks, the example of its libraries.
    let standard = standard("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let values = [
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "1614265330",
        "v1,AAAA v1a,xx v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    ];
    let (body, now) = (br#"{"test": 2432232314}"#, at(1_614_265_330));
    for names in [
        ["Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"],
        ["svix-id", "svix-timestamp", "svix-signature"],
    ] {
        let headers = [0, 1, 2].map(|at| (names[at], values[at].as_bytes()));
        let event = standard.verify(headers, body, now).unwrap();
        assert_eq!(event.key().as_deref(), Some("standard:mail:msg_p5jXN8AQM9LWM0D4loKWxJek"));
        assert_eq!(event.at(), Some(now));
        let both = headers.into_iter().chain([("svix-id", b"x".as_slice()), ("webhook-id", b"x")]);
        assert_eq!(standard.verify(both, body, now), Err(Refused::Malformed));
    }
    let event = of_stripe(&stripe(), STRIPE, SIGNED).unwrap();
    assert_eq!((event.id(), event.at()), (Some("evt_1"), Some(at(SIGNED))));
    // A sender with a header of its own, in both encodings.
    let own = |encoding| own("v1:", encoding, "It's a Secret to Everybody");
    let base64 = "v1:dXEH6g6yUJ/CESIczphLijdXC211hsIsRvQ3nIsEPhc=";
    let hex = signed.replace("sha256=", "v1:");
    let body = b"Hello, World!";
    for (encoding, text) in [(Encoding::Base64, base64), (Encoding::Hex, hex.as_str())] {
        let event = told(&own(encoding), ("x-signature", text), body, 0).unwrap();
        assert_eq!((event.key(), event.at()), (None, None));
    }
    let refused = told(&own(Encoding::Hex), ("x-signature", base64), body, 0);
    assert_eq!(refused, Err(Refused::Malformed));
}

// covers: X7, R5-60
#[test]
fn every_flipped_bit_is_refused() {
    let header = ("stripe-signature", STRIPE);
    for bit in 0..ORDER.len() * 8 {
        let mut body = ORDER.to_vec();
        body[bit / 8] ^= 1 << (bit % 8);
        let refused = told(&stripe(), header, &body, SIGNED);
        assert_eq!(refused, Err(Refused::Forged), "bit {bit} of the body");
    }
    // The digits of the time and of the signature.
    let places = (2..12).chain(16..STRIPE.len() - 6);
    for (place, bit) in places.flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut header = STRIPE.as_bytes().to_vec();
        header[place] ^= 1 << bit;
        // The other case of a hexadecimal digit is the same digit.
        if header.eq_ignore_ascii_case(STRIPE.as_bytes()) {
            continue;
        }
        let headers = [("stripe-signature", header.as_slice())];
        assert!(stripe().verify(headers, ORDER, at(SIGNED)).is_err(), "bit {bit} of byte {place}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    // covers: X7, R5-60
    #[test]
    fn what_a_live_secret_signed_is_believed_and_any_change_is_not(
        body in prop::collection::vec(any::<u8>(), 0..200),
        (secret, other) in ("[ -~]{1,40}", "[ -~]{1,40}"),
        seconds in 0_u64..4_000_000_000,
        (place, bit) in (any::<prop::sample::Index>(), 0_u8..8),
        (by, later) in (1_u64..10_000, any::<bool>()),
    ) {
        prop_assume!(secret != other);
        let body = [br#"{"id":"evt_1","of":""#.as_slice(), &hex(&body), b"\"}"].concat();
        let header = sign(&secret, seconds, &body);
        let header = ("stripe-signature", header.as_str());
        let only = |secret: &str| of_secrets(&[secret]);
        let both = of_secrets(&[&other, &secret]);
        prop_assert!(told(&only(&secret), header, &body, seconds).is_ok());
        prop_assert_eq!(told(&both, header, &body, seconds).unwrap().secret(), 1);
        prop_assert_eq!(told(&only(&other), header, &body, seconds), Err(Refused::Forged));
        // Another body: a bit, a byte more.
        let mut changed = body.clone();
        changed[place.index(body.len())] ^= 1 << bit;
        prop_assert_eq!(told(&both, header, &changed, seconds), Err(Refused::Forged));
        let longer = [body.as_slice(), b"0"].concat();
        prop_assert_eq!(told(&both, header, &longer, seconds), Err(Refused::Forged));
        // Another time than the signed one, by which it would be fresh.
        let moved = header.1.replacen(&seconds.to_string(), &(seconds + by).to_string(), 1);
        let moved = told(&both, (header.0, &moved), &body, seconds + by);
        prop_assert_eq!(moved, Err(Refused::Forged));
        // The same delivery at another time.
        let now = if later { seconds + by } else { seconds.saturating_sub(by) };
        let apart = now.abs_diff(seconds);
        let end = told(&both, header, &body, now).map(drop);
        let expected = match apart > 300 {
            true => Err(Refused::Stale(Duration::from_secs(apart))),
            false => Ok(()),
        };
        prop_assert_eq!(end, expected);
    }

    #[test]
    fn nothing_that_is_sent_breaks_a_verifier(
        value in "(t=|v1=|v1,|sha256=|,|=| |[0-9]{1,12}|[0-9a-f]{1,70}|[A-Za-z0-9+/]{1,44}|\\PC){0,12}",
        body in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let names = [
            "stripe-signature", "x-hub-signature-256", "x-github-delivery", "webhook-id",
            "webhook-timestamp", "webhook-signature", "x-signature",
        ];
        let headers = names.map(|name| (name, value.as_bytes()));
        for (verifier, _) in senders() {
            prop_assert!(verifier.verify(headers, &body, at(SIGNED)).is_err());
        }
    }
}

// covers: X7, R5-60
#[test]
fn the_window_is_open_both_ways_and_can_be_neither_shut_nor_open_for_ever() {
    for (now, good) in
        [(SIGNED - 301, false), (SIGNED - 300, true), (SIGNED + 300, true), (SIGNED + 301, false)]
    {
        let event = of_stripe(&stripe(), STRIPE, now);
        assert_eq!(event.is_ok(), good, "{now}: {event:?}");
    }
    let none = stripe().with_tolerance(Duration::ZERO).unwrap();
    assert!(of_stripe(&none, STRIPE, SIGNED).is_ok());
    for now in [SIGNED - 1, SIGNED + 1] {
        let refused = of_stripe(&none, STRIPE, now);
        assert_eq!(refused, Err(Refused::Stale(Duration::from_secs(1))), "zero is not off");
    }
    let widest = stripe().with_tolerance(TOLERANCE_MAX).unwrap();
    assert!(of_stripe(&widest, STRIPE, SIGNED + TOLERANCE_MAX.as_secs()).is_ok());
    let refused = of_stripe(&widest, STRIPE, SIGNED + TOLERANCE_MAX.as_secs() + 1);
    assert!(matches!(refused, Err(Refused::Stale(_))));
    for more in [TOLERANCE_MAX + Duration::from_millis(1), Duration::MAX] {
        assert_eq!(stripe().with_tolerance(more).unwrap_err(), Unusable::Tolerance);
    }
}

// covers: X7, R5-60
#[test]
fn a_secret_is_replaced_without_a_gap() {
    let both = of_secrets(&["whsec_new", "whsec_test"]);
    assert_eq!(of_stripe(&both, STRIPE, SIGNED).unwrap().secret(), 1);
    // The sender signs with both for a while.
    let (new, old) = (sign("whsec_new", SIGNED, ORDER), sign("whsec_test", SIGNED, ORDER));
    let twice = format!("{new},{}", old.split_once(',').unwrap().1);
    for verifier in [&both, &stripe(), &of_secrets(&["whsec_new"])] {
        assert!(of_stripe(verifier, &twice, SIGNED).is_ok());
    }
    let gone = of_secrets(&["whsec_new"]);
    assert_eq!(of_stripe(&gone, STRIPE, SIGNED), Err(Refused::Forged));
}

// covers: X7, X1
#[test]
fn what_cannot_be_read_is_refused_and_shows_nothing() {
    let verifier = stripe();
    let nobody: [(&str, &[u8]); 0] = [];
    assert_eq!(verifier.verify(nobody, ORDER, at(SIGNED)), Err(Refused::Unsigned));
    let (many, long) = (format!("t=1{}", ",v1=00".repeat(9)), "t=1,v1=".repeat(1_000));
    let doubled = "t=1614556800,t=1614556801,v1=00";
    for text in ["", "t=", "v1=00", "t=1", "t=1,v1", "t=1,v1=0", "t=1,v1=zz", doubled]
        .into_iter()
        .chain(["t=+1614556800,v1=00", "t=99999999999999999999,v1=00", &many, &long])
    {
        assert_eq!(of_stripe(&verifier, text, SIGNED), Err(Refused::Malformed), "{text:.40}");
    }
    // Told twice, each part of the way may believe another one.
    let name = "stripe-signature";
    let twice = [(name, STRIPE.as_bytes()), ("Stripe-Signature", STRIPE.as_bytes())];
    assert_eq!(verifier.verify(twice, ORDER, at(SIGNED)), Err(Refused::Malformed));
    let bytes: [(&str, &[u8]); 1] = [(name, b"t=1,v1=\xff")];
    assert_eq!(verifier.verify(bytes, ORDER, at(SIGNED)), Err(Refused::Malformed));
    // An id that would be read as another one, or that no log should show.
    let github = github("s");
    let body = hmac(b"s", &[b"x"]);
    let signed = format!("sha256={body}");
    for id in ["", "a b", "a\nb", "\u{e9}", &"a".repeat(201)] {
        let headers =
            [("x-hub-signature-256", signed.as_bytes()), ("x-github-delivery", id.as_bytes())];
        assert_eq!(github.verify(headers, b"x", at(0)), Err(Refused::Malformed), "{id:?}");
    }
    let standard = standard("whsec_AAAA");
    let headers =
        [("webhook-id", "a.1"), ("webhook-timestamp", "1"), ("webhook-signature", "v1,AA==")];
    let headers = headers.map(|(name, value)| (name, value.as_bytes()));
    assert_eq!(standard.verify(headers, b"x", at(1)), Err(Refused::Malformed));
    let texts = format!("{verifier:?} {:?} {}", Refused::Forged, Refused::Forged);
    assert!(!texts.contains("whsec_test") && !texts.contains("165ccf"));
}

// covers: X6
#[test]
fn a_body_above_the_limit_is_refused() {
    let body = [b"{\"id\":\"evt_1\"}".as_slice(), &vec![b' '; BODY_MAX]].concat();
    let header = sign("whsec_test", SIGNED, &body);
    let header = ("stripe-signature", header.as_str());
    assert_eq!(told(&stripe(), header, &body, SIGNED), Err(Refused::TooLarge));
    assert!(told(&stripe().with_body_max(body.len()), header, &body, SIGNED).is_ok());
    let codes = [
        Refused::Unsigned,
        Refused::Malformed,
        Refused::TooLarge,
        Refused::Stale(Duration::ZERO),
        Refused::Forged,
        Refused::Nameless,
    ];
    let codes: std::collections::BTreeSet<_> = codes.iter().map(Refused::code).collect();
    assert_eq!(codes.len(), 6);
}

/// What a handler does with a delivery: it is answered with the run of its event.
async fn handle(engine: &Engine, delivery: u64) -> RunId {
    // The sender signs each delivery anew.
    let header = sign("whsec_test", SIGNED + delivery % 3, ORDER);
    let event = of_stripe(&stripe(), &header, SIGNED).unwrap();
    let key = event.key().unwrap();
    *engine.start(SAGA, &"client-a".to_owned()).key(key).await.unwrap().id()
}

// covers: X7, S2, R5-60, R2-05, R2-44, R3-40
#[test]
fn a_hundred_deliveries_of_one_event_are_one_run_and_leave_nothing_twice() {
    paused(async {
        let stage = Stage::set(OnTailscale, Build::GOES_WELL).await;
        let first = handle(&stage.engine, 0).await;
        let all = (1..=50).map(|delivery| handle(&stage.engine, delivery));
        for run in join_all(all).await {
            assert_eq!(run, first);
        }
        let run = stage.engine.handle(first);
        let outcome = ended(&run).await;
        assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
        // Late ones are answered alike, also when all is over.
        for answer in join_all((0..49).map(|delivery| handle(&stage.engine, delivery))).await {
            assert_eq!(answer, first);
        }
        // A forged one starts nothing.
        assert!(of_stripe(&stripe(), &sign("guess", SIGNED, ORDER), SIGNED).is_err());
        assert_eq!(stage.store.list(&RunFilter::default()).await.unwrap().runs.len(), 1);
        let head = stage.engine.snapshot(&first).await.unwrap().head;
        assert_eq!(head.key.as_deref(), Some("stripe:shop:evt_1"), "the event stands with its run");
        let kinds: Vec<_> = stage.made().into_iter().map(|item| item.kind).collect();
        assert_eq!(kinds, ["device"]);
        stage.engine.tear_down(&first, By::default()).await.unwrap();
        stage.pass(Duration::from_secs(5)).await;
        assert_eq!(ended(&run).await, Outcome::TornDown);
        stage.assert_as_before(&first, "a repeated event").await;
        stage.close().await;
    });
}

// covers: X7, S2
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_deliveries_at_once_are_one_run() {
    let stage = Stage::set(OnTailscale, Build::GOES_WELL).await;
    let deliveries: Vec<_> = (0..100)
        .map(|delivery| {
            let engine = stage.engine.clone();
            tokio::spawn(async move { handle(&engine, delivery).await })
        })
        .collect();
    let mut runs = Vec::new();
    for delivery in deliveries {
        runs.push(delivery.await.unwrap());
    }
    runs.dedup();
    assert_eq!(runs.len(), 1);
    stage.close().await;
}
