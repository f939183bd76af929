//! The program as people and other programs type it.

use std::{collections::BTreeSet, fs, time::Duration};

use client_onboarding::saga::STEPS;
use provision_adapters::{n8n, supabase, vercel};
use provision_testkit::harness::encodings;
use serde_json::Value;

use crate::place::Place;

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

// covers: R1-01, R1-21, R1-37, R1-17, R3-09, R5-75
#[test]
fn a_run_without_options_succeeds_and_says_what_exists() {
    let place = Place::new();
    let ran = place.run(&[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 1, "with --json nothing else is on stdout");
    assert!(ran.stderr.starts_with("data: "), "{}", ran.stderr);
    let report = ran.json();
    let shape: BTreeSet<_> = keys(&report).into_iter().collect();
    let expected = ["run", "status", "steps", "resources", "elapsed_ms"];
    assert_eq!(shape, BTreeSet::from(expected));
    assert_eq!(report["status"], "Succeeded");
    let keys_of = |list: &str| {
        let items = report[list].as_array().unwrap();
        let shape = |item| keys(item).into_iter().collect::<BTreeSet<_>>();
        let shapes: BTreeSet<_> = items.iter().map(shape).collect();
        assert_eq!(shapes.len(), 1, "{list}: {shapes:?}");
        shapes.into_iter().next().unwrap()
    };
    assert_eq!(keys_of("steps"), BTreeSet::from(["path", "status", "attempts"]));
    let expected = ["provider", "kind", "id", "name", "origin", "state"];
    assert_eq!(keys_of("resources"), BTreeSet::from(expected));
    let paths: Vec<_> = ran.steps().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, STEPS);
    let resources = report["resources"].as_array().unwrap();
    let of = |provider: &str| resources.iter().filter(|r| r["provider"] == provider).count();
    let counts = ["supabase", "github", "vercel", "n8n", "internal"].map(of);
    assert_eq!(counts, [1, 3, 3, 3, 1]);
    assert!(resources.iter().all(|r| r["origin"] == "created" && r["state"] == "alive"));
    let again = place.run(&[]);
    assert_eq!((again.code, &again.json()["run"]), (Some(0), &report["run"]));
}

// covers: R1-23
#[test]
fn each_tier_has_its_own_steps() {
    let skipped = |tier: &str| {
        let ran = Place::new().run(&["--tier", tier]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let steps = ran.steps().into_iter().filter(|(_, status)| status == "skipped");
        steps.map(|(path, _)| path).collect::<Vec<_>>()
    };
    assert_eq!(skipped("starter"), ["domain", "webhook-key", "workflow", "activation"]);
    assert_eq!(skipped("professional"), ["domain"]);
    assert!(skipped("enterprise").is_empty());
}

#[test]
fn progress_names_phases_waits_and_the_end_for_people() {
    let place = Place::new();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_client-onboarding"))
        .args(["--speed", "0.01", "--data-dir"])
        .arg(place.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "data: ",
        "database    supabase        begins",
        "asked to slow down by github/acme/creates",
        "is not ready yet, looks again in",
        "10.00 USD/month",
        "https://client-demo-app.vercel.app",
        ": Succeeded",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(output.stderr.is_empty());
    // The next client's time is told from that of the first.
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_client-onboarding"))
        .args(["--speed", "0.01", "--client", "next", "--data-dir"])
        .arg(place.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(" to go, as earlier runs took"), "{text}");
}

#[test]
fn a_plan_looks_and_changes_nothing() {
    let place = Place::new();
    let before = place.run(&["--plan"]);
    assert_eq!((before.code, &before.json()["format"]), (Some(2), &Value::from(1)));
    assert!(place.inventory().is_empty());
    assert_eq!(place.run(&[]).code, Some(0));
    let things = place.inventory();
    let after = place.run(&["--plan"]);
    assert_eq!(after.code, Some(0), "{after:?}");
    assert_eq!(place.inventory(), things);
}

// covers: R1-42
#[test]
fn what_was_torn_down_is_gone_and_can_be_made_again() {
    let place = Place::new();
    assert_eq!(place.run(&["--tear-down"]).code, Some(64), "there is nothing yet");
    let made = place.run(&["--tier", "enterprise"]);
    let gone = place.run(&["--tear-down"]);
    assert_eq!(
        (gone.code, &gone.json()["status"]),
        (Some(0), &Value::from("TornDown")),
        "{gone:?}"
    );
    let resources = gone.json()["resources"].as_array().unwrap().clone();
    assert!(resources.iter().all(|r| r["state"] == "gone"), "{resources:?}");
    assert!(resources.iter().any(|r| r["provider"] == "internal"));
    assert!(place.inventory().is_empty());
    let twice = place.run(&["--tear-down"]);
    assert_eq!((twice.code, &twice.json()["run"]), (Some(0), &gone.json()["run"]));
    let next = place.run(&["--tier", "starter"]);
    assert_eq!(next.code, Some(0), "{next:?}");
    assert_ne!(next.json()["run"], made.json()["run"]);
}

#[test]
fn other_options_for_the_same_client_are_refused_and_change_nothing() {
    let place = Place::new();
    assert_eq!(place.run(&["--tier", "starter", "--name", "Acme"]).code, Some(0));
    let things = place.inventory();
    let cases = [
        (["--tier", "enterprise"], "tier is `starter`, not `enterprise`"),
        (["--name", "Other"], "name is `Acme`, not `Other`"),
        (["--region", "eu-west-1"], "region is `eu-central-1`, not `eu-west-1`"),
    ];
    for (arguments, difference) in cases {
        let ran = place.run(&arguments);
        ran.refused(64, "other_options");
        assert!(ran.stderr.contains(difference), "{ran:?}");
    }
    assert_eq!(place.inventory(), things);
    assert_eq!(place.run(&[]).code, Some(0), "what is left out is as it was");
}

// covers: R5-76
#[test]
fn what_cannot_be_used_is_refused_with_a_hint() {
    let place = Place::new();
    let cases: [(&[&str], &str, &str); 12] = [
        (&["--client", "Not An Id"], "bad_client_id", "lower-case"),
        (&["--client", "a--b"], "bad_client_id", "hyphens"),
        (&["--tier", "gold"], "unknown_tier", "starter, professional, enterprise"),
        (&["--region", "mars-1"], "unknown_region", "eu-central-1"),
        (&["--fail-at", "nowhere"], "unknown_step", "repo-secrets"),
        (&["--crash-at", "nowhere"], "unknown_step", "finalize"),
        (&["--store", "mysql://x"], "unknown_store", "sqlite:"),
        (&["--fleet", "0"], "bad_fleet", "1 to"),
        (&["--fleet", "many"], "usage", "--fleet"),
        (&["--name", ""], "bad_name", "characters"),
        (&["--plan", "--tear-down"], "usage", "choose"),
        (&["--wat"], "usage", "--wat"),
    ];
    for (arguments, code, part) in cases {
        let ran = place.run(arguments);
        ran.refused(64, code);
        assert!(ran.stderr.contains(part), "{part}: {ran:?}");
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nothing was made");
}

// covers: R1-16
#[test]
fn missing_variables_of_the_real_providers_are_named_all_at_once() {
    let place = Place::new();
    let ran = place.run(&["--live", "--tier", "enterprise"]);
    ran.refused(64, "secrets_missing");
    // Each of them, with where it is to be had.
    for told in [
        "SUPABASE_ACCESS_TOKEN: supabase.com/dashboard/account/tokens",
        "SUPABASE_ORGANIZATION: the slug in supabase.com/dashboard/org/",
        "GITHUB_TOKEN: github.com/settings/tokens",
        "GITHUB_OWNER: the organization",
        "GITHUB_TEMPLATE: a template repository",
        "VERCEL_TOKEN: vercel.com/account/settings/tokens",
        "N8N_URL: the root of your n8n instance",
        "N8N_API_KEY: n8n: Settings, n8n API",
        "ONBOARDING_ZONE: a domain",
    ] {
        assert!(ran.stderr.contains(told), "{told}: {ran:?}");
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn a_store_that_cannot_be_opened_is_out_of_reach() {
    let place = Place::new();
    let file = place.path().join("file");
    fs::write(&file, "not a database, but long enough to look like something else").unwrap();
    let ran = place.run(&["--store", &format!("sqlite:{}", file.display())]);
    assert_eq!(ran.code, Some(69), "{ran:?}");
    let ran = place.run(&["--store", &format!("sqlite:{}/below/x.db", file.display())]);
    ran.refused(69, "data_dir");
}

// covers: R1-34, R1-91
#[test]
fn two_clients_called_alike_share_nothing() {
    let place = Place::new();
    for client in ["a-1", "a-2"] {
        let ran = place.run(&["--client", client, "--name", "Acme", "--tier", "starter"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    let inventory = place.inventory();
    let repos = inventory.iter().filter(|item| item["kind"] == "repo");
    let names: Vec<_> = repos.map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["acme/client-a-1-app", "acme/client-a-2-app"]);
}

// covers: R1-57, R1-84
#[test]
fn a_fleet_is_onboarded_and_torn_down() {
    let place = Place::new();
    let ran = place.run(&["--fleet", "5", "--client", "f"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let runs = ran.json()["runs"].as_array().unwrap().clone();
    assert_eq!(runs.len(), 5);
    assert!(runs.iter().all(|run| run["status"] == "Succeeded"));
    let projects = |place: &Place| {
        place.things().iter().filter(|thing| thing.starts_with("supabase project")).count()
    };
    assert_eq!(projects(&place), 5);
    let gone = place.run(&["--fleet", "5", "--client", "f", "--tear-down"]);
    assert_eq!(gone.code, Some(0), "{gone:?}");
    assert!(place.inventory().is_empty());
}

#[test]
fn a_store_in_memory_serves_one_command() {
    let place = Place::new();
    let ran = place.run(&["--store", "memory:"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let internal = ran.json()["resources"].as_array().unwrap().last().cloned().unwrap();
    assert_eq!((&internal["provider"], &internal["state"]), (&"internal".into(), &"alive".into()));
    let other = place.run(&["--store", "memory:", "--client", "b", "--fail-at", "finalize"]);
    assert_eq!(other.code, Some(1), "{other:?}");
    assert!(place.things().iter().all(|thing| !thing.contains("client-b-app")));
}

#[tokio::test]
async fn an_interrupt_leaves_a_run_that_goes_on() {
    let place = Place::new();
    let child = place.spawn(&["--tier", "starter", "--speed", "0.05"]);
    // It has begun, and takes far longer.
    let begun = std::time::Instant::now();
    while place.frames().await < 3 {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does nothing");
        provision_core::clock::sleep(Duration::from_millis(20)).await;
    }
    let pid = child.id();
    let order = format!("kill -INT {pid}");
    let told = std::process::Command::new("sh").args(["-c", &order]).status().unwrap();
    assert!(told.success());
    let ran = crate::place::Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(ran.stderr.contains("interrupted"), "{ran:?}");
    let again = place.run(&[]);
    assert_eq!((again.code, &again.json()["run"]), (Some(0), &ran.json()["run"]), "{again:?}");
}

/// The database, its log and all that is printed are searched, after runs that ended well, were
/// refused at steps that hold secrets, and were killed there.
// covers: X1, R1-08, R1-28, R1-30, R1-61, R2-45, R4-15
#[test]
fn no_token_key_or_password_is_readable_outside_of_the_cloud() {
    let place = Place::new();
    let mut texts = Vec::new();
    let disturbed: [&[&str]; 5] = [
        &["--client", "a", "--fail-at", "supabase"],
        &["--client", "b", "--fail-at", "repo-secrets"],
        &["--client", "c", "--crash-at", "webhook-key"],
        &["--client", "c", "--fail-at", "webhook-key"],
        &["--client", "d", "--crash-at", "env"],
    ];
    for arguments in disturbed {
        let ran = place.run(&[arguments, &["--tier", "enterprise"]].concat());
        assert_ne!(ran.code, Some(0), "{ran:?}");
        texts.extend([ran.stdout.into_bytes(), ran.stderr.into_bytes()]);
    }
    let ran = place.run(&["--tier", "enterprise"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    texts.extend([ran.stdout.into_bytes(), ran.stderr.into_bytes()]);
    let files = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = files.filter(|path| path.is_file()).collect();
    assert!(files.iter().any(|file| file.extension().is_some_and(|kind| kind == "db")));
    texts.extend(files.iter().map(|file| fs::read(file).unwrap()));
    let texts: Vec<_> = texts.iter().map(|text| String::from_utf8_lossy(text)).collect();
    for secret in secrets_of(&place) {
        for form in encodings(&secret) {
            assert!(!texts.iter().any(|text| text.contains(&form)), "{secret} as {form}");
        }
    }
}

/// The tokens of the providers, and the passwords and keys of the projects that are there.
fn secrets_of(place: &Place) -> Vec<String> {
    let cloud = fs::read_to_string(place.path().join("cloud/supabase.json")).unwrap();
    let cloud: Value = serde_json::from_str(&cloud).unwrap();
    let tokens = [supabase::sim::TOKEN, vercel::sim::TOKEN, n8n::sim::KEY, "ghp_simulated"];
    let mut secrets: Vec<_> = tokens.map(str::to_owned).into();
    let projects = cloud["state"]["projects"].as_object().unwrap();
    for project in projects.values() {
        secrets.push(project["password"].as_str().unwrap().to_owned());
        let keys = project["keys"].as_object().unwrap().values();
        secrets.extend(keys.map(|key| key.as_str().unwrap().to_owned()));
    }
    assert!(projects.len() > 1, "one of the run that was killed as well");
    secrets
}

/// Every page and test that names a step has to know all of them.
// covers: R1-20
#[test]
fn the_readme_lists_every_step() {
    let readme = include_str!("../../README.md");
    for step in STEPS {
        assert!(readme.contains(&format!("`{step}`")), "{step}");
    }
}

// covers: R1-03
#[tokio::test]
async fn what_lives_with_real_providers_is_not_looked_for_in_the_simulated_cloud() {
    let place = Place::new();
    assert_eq!(place.run(&[]).code, Some(0));
    place.tamper("update provision_runs set input = json_set(input, '$.live', json('true'))").await;
    let before = place.frames().await;
    for arguments in [&["--tear-down"][..], &["--plan"], &[], &["--client", "other"]] {
        place.run(arguments).refused(64, "other_options");
    }
    assert_eq!(place.frames().await, before, "nothing was changed");
}

#[test]
fn a_gitignore_that_is_there_is_left_alone() {
    let place = Place::new();
    let path = place.path().join(".gitignore");
    std::fs::write(&path, "target/\n").unwrap();
    assert_eq!(place.run(&["--plan"]).code, Some(2));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "target/\n");
}
