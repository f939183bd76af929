//! What a look-up shows, and what it proves long after the calls of a step, of a kind that nothing
//! lists.

use crate::{
    id::ExternalId,
    resource::{Candidate, Foreign, Found, Identity},
};

/// What a look-up without consequences found, for `plan`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Absent,
    Ours(ExternalId),
    Foreign(Foreign),
    Going,
    Many(usize),
}

impl From<Found> for Seen {
    fn from(found: Found) -> Self {
        match found {
            // A run would go on with what is only begun by creating it.
            Found::Absent | Found::Begun(_) => Self::Absent,
            Found::Ours(id) => Self::Ours(id),
            Found::Foreign(foreign) => Self::Foreign(foreign),
            Found::Going { .. } => Self::Going,
            Found::Many(all) => Self::Many(all.len()),
        }
    }
}

/// How the things of a kind that nothing lists are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// A thing carries its mark where `find` looks.
    Mark,
    /// It does not: what is found may be anybody's.
    Nothing,
}

/// What was proven of a step's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Nothing of it is there.
    Gone,
    /// These are its own.
    Ours(Vec<ExternalId>),
    /// These are there, and may be its own or anybody's; with none, nothing was found where a
    /// look-up cannot find everything.
    Unclear(Vec<ExternalId>),
    /// It is on its way out: another look will say.
    Going,
}

impl Proof {
    /// What an answer of `find` proves. `by_intent` says whether something unmarked can be the
    /// step's own, by what its intent says.
    pub(crate) fn of(found: Found, by: By, identity: &Identity, by_intent: bool) -> Self {
        match (found, by) {
            (Found::Going { .. }, _) => Self::Going,
            (Found::Ours(id) | Found::Begun(id), By::Mark) => Self::Ours(vec![id]),
            (Found::Many(all), By::Mark) => {
                let ours = all.into_iter().filter(|candidate| candidate.marked);
                Self::Ours(ours.map(|candidate| candidate.id).collect())
            }
            (Found::Absent | Found::Foreign(_), By::Mark) => Self::Gone,
            (Found::Absent, By::Nothing) => match identity {
                // It cannot be found again, and that it was not found says nothing.
                Identity::None => Self::Unclear(Vec::new()),
                Identity::Named(_) | Identity::ProviderKey | Identity::Label => Self::Gone,
            },
            // S11: of another run, or older than the call that may have made it.
            (Found::Foreign(_), By::Nothing) if !by_intent => Self::Gone,
            (Found::Foreign(foreign), By::Nothing) => Self::Unclear(vec![foreign.id]),
            (Found::Ours(id) | Found::Begun(id), By::Nothing) => Self::Unclear(vec![id]),
            (Found::Many(all), By::Nothing) => Self::Unclear(all.into_iter().map(id_of).collect()),
        }
    }
}

fn id_of(candidate: Candidate) -> ExternalId {
    candidate.id
}

#[cfg(test)]
mod tests {
    use super::{By, Proof};
    use crate::{
        id::ExternalId,
        resource::{Foreign, Found, Identity},
    };

    // covers: S11, S15
    #[test]
    fn only_a_mark_or_a_definite_absence_proves_anything() {
        let id = || ExternalId::new("x");
        let named = Identity::Named("x".to_owned());
        let of = |found, by, identity: &Identity| Proof::of(found, by, identity, true);
        let foreign = || Found::Foreign(Foreign::unmarkable(id()));
        assert_eq!(of(Found::Ours(id()), By::Mark, &Identity::None), Proof::Ours(vec![id()]));
        assert_eq!(of(Found::Absent, By::Mark, &Identity::None), Proof::Gone);
        assert_eq!(of(foreign(), By::Mark, &named), Proof::Gone);
        assert_eq!(of(Found::Absent, By::Nothing, &named), Proof::Gone);
        assert_eq!(of(Found::Absent, By::Nothing, &Identity::None), Proof::Unclear(Vec::new()));
        assert_eq!(of(Found::Ours(id()), By::Nothing, &named), Proof::Unclear(vec![id()]));
        assert_eq!(of(foreign(), By::Nothing, &named), Proof::Unclear(vec![id()]));
        let older = Proof::of(foreign(), By::Nothing, &named, false);
        assert_eq!(older, Proof::Gone, "it was there before the call");
    }
}
