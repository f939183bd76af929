//! Connecting by a consent whose state is checked, and disconnecting.

use connector_platform::{platform::PlatformName, saga::connect::Connection};
use provision_core::{Outcome, Secret};

use crate::place::{Place, REDIRECT, now, until};

// covers: R5-03, R5-20, R5-52, R5-53, R5-55, R5-74
#[tokio::test(flavor = "multi_thread")]
async fn every_platform_connects_and_disconnects_and_leaves_a_trail() {
    let Some(place) = Place::new().await else { return };
    let worker = place.worker();
    for name in PlatformName::ALL {
        let connection = place.connect("acme", name).await;
        let sql = "SELECT state || ' ' || account_name FROM connectors.connections
            ORDER BY created_at DESC LIMIT 1";
        assert_eq!(place.text(sql).await, "connected Account 1", "{name}");
        assert_eq!(place.sim(name).with(|sim| sim.world().tokens.len()), 1);
        place.service.disconnect("acme", connection).await.unwrap();
        let gone = "SELECT count(*) FROM connectors.connections WHERE state <> 'disconnected'";
        until("disconnected", async || place.number(gone).await == 0).await;
        let secrets = "SELECT count(*) FROM connectors.encrypted_secrets";
        until("erased", async || place.number(secrets).await == 0).await;
        let left = place.sim(name).with(|sim| sim.world().tokens.len());
        // Mailchimp has no call that revokes.
        assert_eq!(left, usize::from(name == PlatformName::Mailchimp), "{name}");
    }
    for (action, wanted) in [
        (
            "SELECT count(*) FROM connectors.connection_audit WHERE action = 'connection.connected'",
            5,
        ),
        (
            "SELECT count(*) FROM connectors.connection_audit WHERE action = 'connection.disconnected'",
            5,
        ),
        (
            "SELECT count(DISTINCT connection_id) FROM connectors.connection_audit WHERE action = 'secret.delete'",
            5,
        ),
    ] {
        assert_eq!(place.number(action).await, wanted, "{action}");
    }
    let other = place.service.disconnect("globex", uuid::Uuid::new_v4()).await.unwrap_err();
    assert_eq!(other.code(), "no_such_connection");
    worker.stop().await;
}

// covers: R5-14, R5-53
#[tokio::test(flavor = "multi_thread")]
async fn a_state_works_once_in_time_and_for_its_own_user() {
    let Some(place) = Place::new().await else { return };
    let name = PlatformName::LinkedIn;
    let invite = async || place.service.invite("acme", "ada", name, REDIRECT).await.unwrap();
    let code = || Secret::new(place.sim(name).with(|sim| sim.world().consent(REDIRECT, now())));
    let welcome_at = async |who: (&str, &str), at: PlatformName, state: &Secret| {
        let welcome = place.service.welcome(who, at, state, &code()).await;
        welcome.map_err(|told| told.code().to_owned())
    };
    let welcome = async |user: &str, state: &Secret| welcome_at(("acme", user), name, state).await;
    let unknown = Err("oauth_state_unknown".to_owned());
    assert_eq!(welcome("ada", &Secret::new("forged")).await, unknown);
    let first = invite().await;
    assert!(first.url.expose().contains(&format!("state={}", first.state.expose())));
    assert_eq!(welcome("eve", &first.state).await, unknown, "another user's");
    let foreign = welcome_at(("globex", "ada"), name, &first.state).await;
    assert_eq!(foreign, unknown, "a user of the same name in another tenant");
    let mixed = welcome_at(("acme", "ada"), PlatformName::Meta, &first.state).await;
    assert_eq!(mixed, unknown, "another platform has sent the user back");
    assert!(welcome("ada", &first.state).await.is_ok());
    assert_eq!(welcome("ada", &first.state).await, unknown, "replayed");
    let late = invite().await;
    let over = "UPDATE connectors.oauth_states SET expires_at = now() - interval '1 second'";
    place.execute(over).await;
    assert_eq!(welcome("ada", &late.state).await, Err("oauth_state_expired".to_owned()));
    // Who never comes back is swept.
    let _never = invite().await;
    place.execute(over).await;
    assert_eq!(place.service.tend().await.unwrap().swept, 1);
    assert_eq!(place.number("SELECT count(*) FROM connectors.oauth_states").await, 0);
    let runs = "SELECT count(*) FROM provision.runs_view WHERE saga = 'connect-account'";
    assert_eq!(place.number(runs).await, 1, "one was started");
}

// covers: R5-53, R5-77
#[tokio::test(flavor = "multi_thread")]
async fn a_consent_that_is_worth_nothing_leaves_nothing() {
    let Some(place) = Place::new().await else { return };
    let worker = place.worker();
    for name in PlatformName::ALL {
        let invitation = place.service.invite("acme", "ada", name, REDIRECT).await.unwrap();
        let state = invitation.state;
        let run = place
            .service
            .welcome(("acme", "ada"), name, &state, &Secret::new("none"))
            .await
            .unwrap();
        let outcome = place.service.engine().handle::<Connection>(run).outcome().await.unwrap();
        let Outcome::RolledBack(Some(failure)) = outcome else { panic!("{name}: {outcome:?}") };
        assert!(failure.to_string().contains("invalid_grant"), "{name}: {failure}");
    }
    assert_eq!(place.number("SELECT count(*) FROM connectors.connections").await, 0);
    assert_eq!(place.number("SELECT count(*) FROM connectors.encrypted_secrets").await, 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_connected_again_keeps_its_connection() {
    let Some(place) = Place::new().await else { return };
    let worker = place.worker();
    let name = PlatformName::Gbp;
    let first = place.connect("acme", name).await;
    place.connect("globex", name).await;
    let (invited, connected) = place.consent("acme", name).await;
    assert_ne!(invited, first);
    assert_eq!(connected, first, "the connection that was there is taken over");
    assert_eq!(place.number("SELECT count(*) FROM connectors.connections").await, 2);
    let secrets = "SELECT count(*) FROM connectors.encrypted_secrets WHERE tenant_id = 'acme'";
    assert_eq!(place.number(secrets).await, 1, "the tokens moved");
    let actors = "SELECT string_agg(actor || ' ' || action, ',') FROM connectors.connection_audit
        WHERE action = 'connection.reconnected'";
    assert_eq!(place.text(actors).await, "ada connection.reconnected");
    // The first run has nothing left to undo: what it had connected is another run's now.
    let sql = "SELECT run::text FROM provision.runs_view
        WHERE saga = 'connect-account' AND tenant = 'acme' ORDER BY created_at LIMIT 1";
    let old = uuid::Uuid::parse_str(&place.text(sql).await).unwrap();
    let old = provision_core::RunId::from_uuid(old);
    place.service.engine().tear_down(&old, provision_core::By::new("test", "old")).await.unwrap();
    let outcome = place.service.engine().handle::<Connection>(old).outcome().await.unwrap();
    assert!(matches!(outcome, Outcome::TornDown), "{outcome:?}");
    assert_eq!(place.number(secrets).await, 1);
    let (_, outcome) = place.publish("acme", first).await;
    assert!(!matches!(outcome, Outcome::RolledBack(_) | Outcome::Parked(..)), "{outcome:?}");
    // Who disconnects ends what is there now; the grant that another tenant lives on stays.
    let tokens = place.sim(name).with(|sim| sim.world().tokens.len());
    place.service.disconnect("acme", first).await.unwrap();
    until("erased", async || place.number(secrets).await == 0).await;
    assert_eq!(place.sim(name).with(|sim| sim.world().tokens.len()), tokens);
    worker.stop().await;
}
