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
    let welcome = async |user: &str, state: &Secret| {
        place.service.welcome(user, state, &code()).await.map_err(|told| told.code().to_owned())
    };
    let unknown = Err("oauth_state_unknown".to_owned());
    assert_eq!(welcome("ada", &Secret::new("forged")).await, unknown);
    let first = invite().await;
    assert!(first.url.expose().contains(&format!("state={}", first.state.expose())));
    assert_eq!(welcome("eve", &first.state).await, unknown, "another user's");
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
        let run = place.service.welcome("ada", &state, &Secret::new("none")).await.unwrap();
        let outcome = place.service.engine().handle::<Connection>(run).outcome().await.unwrap();
        let Outcome::RolledBack(Some(failure)) = outcome else { panic!("{name}: {outcome:?}") };
        assert!(failure.to_string().contains("invalid_grant"), "{name}: {failure}");
    }
    assert_eq!(place.number("SELECT count(*) FROM connectors.connections").await, 0);
    assert_eq!(place.number("SELECT count(*) FROM connectors.encrypted_secrets").await, 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_connected_to_a_tenant_once() {
    let Some(place) = Place::new().await else { return };
    let worker = place.worker();
    let name = PlatformName::Gbp;
    place.connect("acme", name).await;
    place.connect("globex", name).await;
    let invitation = place.service.invite("acme", "ada", name, REDIRECT).await.unwrap();
    let code = Secret::new(place.sim(name).with(|sim| sim.world().consent(REDIRECT, now())));
    let run = place.service.welcome("ada", &invitation.state, &code).await.unwrap();
    let outcome = place.service.engine().handle::<Connection>(run).outcome().await.unwrap();
    let Outcome::RolledBack(Some(failure)) = outcome else { panic!("{outcome:?}") };
    assert!(failure.to_string().contains("account_connected_already"), "{failure}");
    assert_eq!(place.sim(name).with(|sim| sim.world().tokens.len()), 2, "its tokens are revoked");
    worker.stop().await;
}
