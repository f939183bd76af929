//! What can be provisioned at Hetzner Cloud, one file each, and what they have in common: names
//! that are unique, labels that carry the mark, and changes that take their time.

use std::{collections::BTreeMap, time::Duration};

use provision_core::{
    Candidate, Effect, ExternalId, Foreign, Found, Listing, Owned, OwnerMark, Readiness,
    StepContext, StepError, Timestamp, Timing, Verdict,
};

use super::{
    GOING_POLL, LATE_WINDOW, LISTING_LAG, LOCKED_WAIT, READY_WITHIN,
    client::ANY_MARK,
    client::Hetzner,
    error::{failed_action, parked, under_way},
    model::{Action, ActionStatus, Labels, Thing},
};
use crate::http::parse_rfc3339;

pub(crate) mod attachment;
pub(crate) mod change_type;
pub(crate) mod firewall;
pub(crate) mod network;
pub(crate) mod power;
pub(crate) mod prices;
pub(crate) mod rebuild;
pub(crate) mod server;
pub(crate) mod ssh_key;
pub(crate) mod user_data;
pub(crate) mod volume;

/// Ends the id of a state that was there before, and that undoing leaves as it is.
const KEPT: &str = "/kept";
const NAME_MAX: usize = 63;
const RESERVED: &str = "hetzner.cloud/";

/// Looks by name, which is unique, and then by mark: a person may have renamed it.
async fn find<T: Thing>(
    hetzner: &Hetzner,
    cx: &StepContext,
    name: &str,
) -> Result<Found, StepError> {
    let named = hetzner.by_name::<T>(cx, name).await?.map(|thing| judge(cx, &thing));
    if let Some(found @ (Found::Ours(_) | Found::Going { .. })) = named {
        return Ok(found);
    }
    let pairs: Vec<String> =
        cx.mark().labels().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let selector = pairs.join(",");
    let marked: Vec<T> = hetzner.list(cx, T::FIND, Some(("label_selector", &selector))).await?;
    let ours: Vec<&T> =
        marked.iter().filter(|t| mark_of(*t).as_ref() == Some(&cx.mark())).collect();
    Ok(match ours.as_slice() {
        // What somebody else has under the name hides nothing of ours.
        [] => named.unwrap_or(Found::Absent),
        [one] => judge(cx, *one),
        many => Found::Many(many.iter().map(|thing| candidate(*thing)).collect()),
    })
}

fn judge<T: Thing>(cx: &StepContext, thing: &T) -> Found {
    if thing.is_going() {
        return Found::Going { again_in: GOING_POLL };
    }
    let mark = mark_of(thing);
    if mark.as_ref() == Some(&cx.mark()) {
        return Found::Ours(id_of(thing));
    }
    let mut foreign = Foreign::unmarked(id_of(thing));
    if let Some(owner) = mark {
        foreign = foreign.with_owner(owner);
    }
    if let Some(at) = created(thing) {
        foreign = foreign.with_created_at(at);
    }
    Found::Foreign(foreign)
}

fn candidate<T: Thing>(thing: &T) -> Candidate {
    Candidate { id: id_of(thing), marked: true, created_at: created(thing) }
}

fn id_of<T: Thing>(thing: &T) -> ExternalId {
    ExternalId::new(thing.head().id.to_string())
}

fn mark_of<T: Thing>(thing: &T) -> Option<OwnerMark> {
    let labels = &thing.head().labels;
    OwnerMark::from_labels(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

fn created<T: Thing>(thing: &T) -> Option<Timestamp> {
    thing.head().created.as_deref().and_then(parse_rfc3339)
}

/// Everything of a kind that carries a mark of ours.
async fn list_owned<T: Thing>(hetzner: &Hetzner, cx: &StepContext) -> Result<Listing, StepError> {
    let marked: Vec<T> = hetzner.list(cx, T::LIST, Some(("label_selector", ANY_MARK))).await?;
    let owned = marked.iter().filter(|thing| !thing.is_going()).map(|thing| {
        Owned::new(id_of(thing))
            .with_name(thing.head().name.as_str())
            .with_mark(mark_of(thing))
            .with_created_at(created(thing))
    });
    Ok(owned.collect())
}

/// What is there of a thing that is to be deleted; `None` when it is gone.
///
/// A protected one waits for a person, and so does one that has got another run's mark: it has
/// changed its owner since (S11).
async fn to_delete<T: Thing>(
    hetzner: &Hetzner,
    cx: &StepContext,
    id: &ExternalId,
) -> Result<Option<T>, StepError> {
    let Some(thing) = hetzner.by_id::<T>(cx, number(T::DELETE, id.as_str())?).await? else {
        return Ok(None);
    };
    if mark_of(&thing).is_some_and(|mark| mark != cx.mark()) {
        let hint = "its labels name another run: tear that one down, or restore the labels";
        return Err(parked(T::DELETE, "owner_changed", hint));
    }
    if thing.is_going() {
        return Err(going::<T>());
    }
    if thing.head().protection.delete {
        let hint = "it is protected from deletion: end that in the console, then retry";
        return Err(parked(T::DELETE, "protected", hint));
    }
    Ok(Some(thing))
}

/// Deletes a thing that goes at once; already gone is done.
async fn delete<T: Thing>(
    hetzner: &Hetzner,
    cx: &StepContext,
    id: &ExternalId,
) -> Result<(), StepError> {
    match to_delete::<T>(hetzner, cx, id).await? {
        Some(thing) => hetzner.delete::<T>(cx, thing.head().id).await.map(drop),
        None => Ok(()),
    }
}

fn going<T: Thing>() -> StepError {
    under_way(T::DELETE, "deleting", GOING_POLL)
}

/// Something is attached to a thing that is to be deleted; the provider might not mind.
fn in_use<T: Thing>() -> StepError {
    StepError::new(Effect::None, Verdict::Retry { after: Some(LOCKED_WAIT) }, T::DELETE)
        .with_code("resource_in_use")
        .with_hint("something is attached to it: it goes when that is detached")
}

/// A state of a server that is as wanted: this step's doing if a call of it may have done it, and
/// otherwise nothing that undoing would take back.
fn taken_over(cx: &StepContext, id: String) -> Found {
    let memory = cx.memory();
    let ours = memory.intent.is_some() && memory.may_exist;
    Found::Ours(ExternalId::new(if ours { id } else { id + KEPT }))
}

/// The server of an id that says more than that.
fn server_of<'a>(operation: &'static str, id: &'a ExternalId) -> Result<(u64, &'a str), StepError> {
    let (server, rest) = id.as_str().split_once('/').unwrap_or((id.as_str(), ""));
    Ok((number(operation, server)?, rest))
}

/// How much earlier than our intent an action of ours may claim to have begun. Little: what was
/// done before is not this step's.
const CLOCK_SLACK: Duration = Duration::from_secs(5);

/// The actions that began since this step meant to act; none as long as no intent is remembered.
///
/// An attempt that has just recorded its intent does not remember it yet: its next look does.
fn since_intent(cx: &StepContext, mut actions: Vec<Action>) -> Vec<Action> {
    let Some(intent) = &cx.memory().intent else { return Vec::new() };
    actions.retain(|action| {
        let started = action.started.as_deref().and_then(parse_rfc3339);
        started.is_some_and(|at| at.plus(CLOCK_SLACK) >= intent.at)
    });
    actions
}

/// Whether an action of this command goes on.
fn goes_on(actions: &[Action], command: &str) -> bool {
    actions.iter().any(|a| a.status == ActionStatus::Running && a.command == command)
}

/// How the latest action of some commands failed, if it did.
fn failure(actions: &[Action], commands: &[&str]) -> Option<String> {
    let latest = actions.iter().find(|action| commands.contains(&action.command.as_str()))?;
    (latest.status == ActionStatus::Error).then(|| failed_action(latest))
}

/// Reads one of the provider's numbers back.
fn number(operation: &'static str, text: &str) -> Result<u64, StepError> {
    text.parse().map_err(|_| StepError::permanent(operation).with_code("bad_id"))
}

/// The labels of the spec and the owner mark, in the same call as the create (S11).
fn labels(own: &Labels, mark: &OwnerMark) -> Labels {
    own.iter().map(|(name, value)| (name.clone(), value.clone())).chain(mark.labels()).collect()
}

/// Whether labels are as the provider takes them, and leave ours alone.
fn check_labels(own: &BTreeMap<String, String>) -> Result<(), &'static str> {
    let ours = [provision_core::mark::RUN_LABEL, provision_core::mark::STEP_LABEL];
    for (key, value) in own {
        if ours.contains(&key.as_str()) || key.starts_with(RESERVED) {
            return Err("a label's name is reserved");
        }
        let (prefix, name) = match key.split_once('/') {
            Some((prefix, name)) => (Some(prefix), name),
            None => (None, key.as_str()),
        };
        if name.is_empty() || !is_label(name) || prefix.is_some_and(|p| !is_host_name(p)) {
            return Err("a label's name has up to 63 letters, digits, '-', '_' and '.'");
        }
        if !is_label(value) {
            return Err("a label's value has up to 63 letters, digits, '-', '_' and '.'");
        }
    }
    Ok(())
}

pub(super) fn is_label(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.len() <= NAME_MAX
        && text.chars().all(inner)
        && edge(text.chars().next())
        && edge(text.chars().next_back())
}

/// RFC 1123: labels of letters, digits and inner hyphens, joined by dots.
fn is_host_name(name: &str) -> bool {
    let part = |part: &str| {
        (1..=NAME_MAX).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(part)
}

/// Names of things other than servers: whatever can be printed, within a limit of ours.
fn check_name(name: &str) -> Result<(), &'static str> {
    let plain = name.chars().all(|c| !c.is_control()) && name.trim() == name;
    if plain && !name.is_empty() && name.len() <= NAME_MAX {
        Ok(())
    } else {
        Err("a name has 1 to 63 printable characters")
    }
}

fn invalid(operation: &'static str) -> impl Fn(&'static str) -> StepError {
    move |why| StepError::permanent(operation).with_code("invalid_spec").with_message(why)
}

/// Whether polling began so recently that a look may still be behind the create.
fn may_lag(cx: &StepContext) -> bool {
    waited(cx) < LISTING_LAG
}

fn waited(cx: &StepContext) -> Duration {
    cx.memory().polling_since.map_or(Duration::ZERO, |since| cx.now().since(since))
}

/// Asks again soon at first and then less often: each look counts against the project's calls.
fn not_yet<T>(cx: &StepContext) -> Readiness<T> {
    let again_in = (waited(cx) / 4).clamp(Duration::from_secs(1), Duration::from_secs(15));
    Readiness::NotYet { again_in }
}

/// A look right after the create may be behind it; later, what is not there will not come.
fn vanished<T>(cx: &StepContext) -> Readiness<T> {
    if may_lag(cx) { not_yet(cx) } else { broken("vanished") }
}

fn broken<T>(code: impl Into<String>) -> Readiness<T> {
    Readiness::Broken { code: code.into() }
}

fn timing() -> Timing {
    Timing {
        late_window: LATE_WINDOW,
        listing_lag: LISTING_LAG,
        ready_within: READY_WITHIN,
        ..Timing::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{check_labels, is_host_name};

    #[test]
    fn names_and_labels_are_judged_as_the_provider_does() {
        let hosts = [("a", true), ("web-1.acme", true), ("", false), ("-a", false), ("a_b", false)];
        for (name, good) in hosts {
            assert_eq!(is_host_name(name), good, "{name}");
        }
        assert!(!is_host_name(&"a".repeat(64)));
        let labels = [
            ("env", "prod", true),
            ("acme.example/tier", "", true),
            ("env", "a.b_c-d", true),
            ("", "x", false),
            ("env", "-x", false),
            ("env", "https://x", false),
            ("hetzner.cloud/x", "y", false),
            ("provision-run", "y", false),
        ];
        for (name, value, good) in labels {
            let one = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            assert_eq!(check_labels(&one).is_ok(), good, "{name}={value}");
        }
    }
}
