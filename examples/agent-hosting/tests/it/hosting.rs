//! Orders, the life of a machine, and its end.

use provision_adapters::{hetzner, resend, tailscale};
use provision_testkit::harness::encodings;

use crate::place::Place;

/// What one agent consists of.
const WHOLE: [&str; 4] = [
    "hetzner firewall agent-demo",
    "hetzner server agent-demo",
    "hetzner ssh_key agent-demo",
    "tailscale device agent-demo",
];

// covers: R2-01, R2-24, R2-28, R2-61
#[test]
fn a_machine_is_made_shown_stopped_started_and_removed_without_a_rest() {
    let place = Place::new();
    let report = place.done(&["--preset", "medium", "--region", "nbg1"]);
    assert_eq!(report["status"], "Succeeded");
    assert_eq!(place.things(), WHOLE);
    let row = &place.rows()[0];
    assert_eq!((&row["state"], &row["phase"]), (&"running".into(), &"running".into()));
    assert_eq!((&row["region"], &row["server_type"]), (&"nbg1".into(), &"cpx22".into()));
    assert!(row["ipv4"].is_string() && row["tailnet_ipv4"].is_string(), "{row}");
    assert!(row["tailnet_name"].as_str().unwrap().starts_with("agent-demo."), "{row}");
    assert_eq!(place.done(&["cost"])["monthly_milli"]["demo"]["EUR"], 6_490);

    stopped_and_started(&place);
    place.done(&["stop"]);
    let ran = place.run(&["--tear-down", "--preset", "large"]);
    assert!(ran.code == Some(64) && ran.stderr.contains("error[other_options]"), "{ran:?}");
    // A removal is told in the shape of an order.
    let removed = place.done(&["--tear-down"]);
    assert_eq!(
        (&removed["run"], &removed["status"]),
        (&report["run"], &serde_json::json!("TornDown"))
    );
    assert_eq!((place.state(), place.things()), ("gone".to_owned(), Vec::new()));
    assert!(place.done(&["cost"])["monthly_milli"]["demo"]["EUR"].is_null());
    assert_eq!(place.done(&["sweep"])["strays"].as_array().unwrap().len(), 0);
    // Ordered again, it begins anew under the same names.
    place.done(&[]);
    assert_eq!(place.things(), WHOLE);
}

/// Stops a machine, twice, and starts it again.
fn stopped_and_started(place: &Place) {
    place.done(&["stop"]);
    assert_eq!(place.state(), "stopped");
    assert_eq!(place.done(&["sweep"])["missing"], serde_json::json!([]), "off, and not gone");
    assert_eq!(place.things(), WHOLE, "its state stays");
    assert_eq!(place.done(&["cost"])["monthly_milli"]["demo"]["EUR"], 6_490, "billed while off");
    place.done(&["stop"]);
    place.done(&["start"]);
    assert_eq!(
        (place.state(), place.things()),
        ("running".to_owned(), WHOLE.map(str::to_owned).to_vec())
    );
}

// covers: R2-30, R2-58
#[test]
fn a_machine_that_cannot_join_or_be_set_up_is_removed() {
    for step in ["device", "agent", "server", "finalize"] {
        let place = Place::new();
        let ran = place.run(&["--fail-at", step]);
        assert_eq!(ran.code, Some(1), "{step}: {ran:?}");
        assert!(place.things().is_empty(), "{step}: {:?}", place.things());
        assert_eq!(place.state(), "failed", "{step}");
    }
}

#[test]
fn what_is_typed_and_what_was_ordered_have_to_agree() {
    let place = Place::new();
    place.done(&["--preset", "small"]);
    let ran = place.run(&["--preset", "large"]);
    assert_eq!(ran.code, Some(64), "{ran:?}");
    assert!(ran.stderr.contains("error[other_options]"), "{ran:?}");
    let ran = place.run(&["stop", "--subscription", "nobody"]);
    assert!(ran.stderr.contains("error[no_such_subscription]"), "{ran:?}");
}

// covers: R2-32
#[test]
fn costs_are_summed_by_customer() {
    let place = Place::new();
    place.done(&["--subscription", "a", "--customer", "acme", "--fleet", "3"]);
    place.done(&["--subscription", "b", "--customer", "other", "--preset", "large"]);
    let cost = place.done(&["cost"])["monthly_milli"].clone();
    assert_eq!(
        cost,
        serde_json::json!({ "acme": { "EUR": 3 * 3_490 }, "other": { "EUR": 5_490 } })
    );
}

#[test]
fn a_plan_says_what_an_order_would_do_and_changes_nothing() {
    let place = Place::new();
    let plan = place.run(&["--plan"]);
    assert_eq!(plan.code, Some(2), "{plan:?}");
    let steps = plan.json()["steps"].as_array().unwrap().clone();
    let of = |path: &str| {
        let step = steps.iter().find(|step| step["path"] == path);
        step.unwrap_or_else(|| panic!("{path}: {steps:?}"))["change"].clone()
    };
    assert_eq!([of("prices"), of("firewall"), of("server")], ["run", "create", "later"]);
    assert!(place.things().is_empty() && place.rows().is_empty());
}

#[test]
fn no_token_and_no_join_key_is_readable_outside_of_the_cloud() {
    let place = Place::new();
    let mut texts = Vec::new();
    let disturbed: [&[&str]; 4] = [
        &["--subscription", "a", "--fail-at", "device"],
        &["--subscription", "b", "--crash-at", "join-key"],
        &["--subscription", "b", "--crash-at", "server"],
        &["--subscription", "c", "--fail-at", "join-key"],
    ];
    for arguments in disturbed {
        let ran = place.run(arguments);
        assert_ne!(ran.code, Some(0), "{ran:?}");
        texts.extend([ran.stdout.into_bytes(), ran.stderr.into_bytes()]);
    }
    for arguments in [&["--subscription", "b"][..], &["stop", "--subscription", "b"]] {
        let ran = place.run(arguments);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        texts.extend([ran.stdout.into_bytes(), ran.stderr.into_bytes()]);
    }
    let files = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = files.filter(|path| path.is_file()).collect();
    assert!(files.iter().any(|file| file.extension().is_some_and(|kind| kind == "db")));
    texts.extend(files.iter().map(|file| std::fs::read(file).unwrap()));
    let texts: Vec<_> = texts.iter().map(|text| String::from_utf8_lossy(text)).collect();
    let keys = place.join_keys();
    assert!(!keys.is_empty(), "a machine was told one");
    let tokens = [hetzner::sim::TOKEN, tailscale::sim::CLIENT_SECRET, resend::sim::KEY];
    for secret in tokens.map(str::to_owned).into_iter().chain(keys) {
        for form in encodings(&secret) {
            assert!(!texts.iter().any(|text| text.contains(&form)), "{secret} as {form}");
        }
    }
}
