//! What the notes of a workflow's marked node say: who made it from which template, and who has
//! upgraded it since.

use std::fmt;

use provision_core::OwnerMark;

use crate::n8n::model::WorkflowShown;

/// What each mark begins with.
const MARK: &str = "[provision:";
/// Upgrades that are kept; beyond, the oldest are forgotten and can no longer be undone.
const UPGRADES_MAX: usize = 50;

/// One mark with the template it stands for; the first is the maker's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct History {
    maker: (OwnerMark, String),
    upgrades: Vec<(OwnerMark, String)>,
}

impl History {
    /// Of a workflow that is being made.
    pub(super) fn begun(maker: &OwnerMark, label: String) -> Self {
        Self { maker: (maker.clone(), label), upgrades: Vec::new() }
    }

    /// Of a workflow as it is shown; `None` if nobody of ours has made it.
    pub(super) fn of(workflow: &WorkflowShown) -> Option<Self> {
        workflow.nodes.iter().filter_map(|node| node.notes.as_deref()).find_map(Self::read)
    }

    fn read(notes: &str) -> Option<Self> {
        let mut marked =
            notes.match_indices(MARK).map(|(at, _)| notes.get(at..).unwrap_or_default());
        let mut entry = || {
            marked.next().and_then(|from| {
                let (_, label) = from.split_once(']')?;
                let label = label.split_once(MARK).map_or(label, |(label, _)| label);
                Some((OwnerMark::find_in(from)?, label.trim().to_owned()))
            })
        };
        let maker = entry()?;
        Some(Self { maker, upgrades: std::iter::from_fn(entry).collect() })
    }

    pub(super) fn maker(&self) -> &OwnerMark {
        &self.maker.0
    }

    /// Template and version it has now.
    pub(super) fn label(&self) -> &str {
        self.upgrades.last().map_or(&self.maker.1, |(_, label)| label)
    }

    /// Who has upgraded it, the last one last.
    pub(super) fn upgrades(&self) -> impl DoubleEndedIterator<Item = &OwnerMark> {
        self.upgrades.iter().map(|(mark, _)| mark)
    }

    /// With one upgrade more.
    pub(super) fn upgraded(mut self, by: &OwnerMark, label: String) -> Self {
        self.upgrades.push((by.clone(), label));
        let forgotten = self.upgrades.len().saturating_sub(UPGRADES_MAX);
        self.upgrades.drain(..forgotten);
        self
    }

    /// Without its last upgrade.
    pub(super) fn put_back(mut self) -> Self {
        self.upgrades.pop();
        self
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.maker.0, self.maker.1)?;
        self.upgrades.iter().try_for_each(|(mark, label)| write!(f, " {mark} {label}"))
    }
}

#[cfg(test)]
mod tests {
    use provision_core::{OwnerMark, RunId};
    use uuid::Uuid;

    use super::{History, UPGRADES_MAX};

    fn mark(run: u128) -> OwnerMark {
        OwnerMark::new(RunId::from_uuid(Uuid::from_u128(run)), "flow")
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut history = History::begun(&mark(1), "intake@1.0.0".to_owned());
        assert_eq!(history.to_string(), format!("{} intake@1.0.0", mark(1)), "as before upgrades");
        for upgrade in 2..=4 {
            assert_eq!(History::read(&history.to_string()), Some(history.clone()));
            history = history.upgraded(&mark(upgrade), format!("client intake@{upgrade}.0.0"));
        }
        assert_eq!((history.maker(), history.label()), (&mark(1), "client intake@4.0.0"));
        assert_eq!(history.upgrades().cloned().collect::<Vec<_>>(), [mark(2), mark(3), mark(4)]);
        assert_eq!(history.clone().put_back().label(), "client intake@3.0.0");
        for upgrade in 5..200 {
            history = history.upgraded(&mark(upgrade), "x@1.0.0".to_owned());
        }
        assert_eq!(history.upgrades().count(), UPGRADES_MAX);
        assert_eq!(history.maker(), &mark(1));
        for other in ["", "by hand", "[provision:broken] x"] {
            assert_eq!(History::read(other), None, "{other}");
        }
    }
}
