//! The owner mark: what we write on everything we create, and read before we take it as ours.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::RunId;

/// Label name that carries the run.
pub const RUN_LABEL: &str = "provision-run";
/// Label name that carries the step.
pub const STEP_LABEL: &str = "provision-step";

/// Names the run and step that made a resource. Another run's mark makes it foreign.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OwnerMark {
    run: RunId,
    step: String,
}

impl OwnerMark {
    /// The mark of a run and step path.
    ///
    /// The path is kept as a token of letters, digits, `-` and `_` that label rules of all
    /// providers accept: other characters become `_`, and a hash is appended when one did or when
    /// the path is longer than 40 characters.
    #[must_use]
    pub fn new(run: RunId, path: &str) -> Self {
        Self { run, step: step_token(path) }
    }

    /// The run that made it.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.run
    }

    /// The token of the step that made it.
    #[must_use]
    pub fn step(&self) -> &str {
        &self.step
    }

    /// As label pairs, for providers with labels, tags or metadata.
    #[must_use]
    pub fn labels(&self) -> Vec<(String, String)> {
        vec![
            (RUN_LABEL.to_owned(), self.run.to_string()),
            (STEP_LABEL.to_owned(), self.step.clone()),
        ]
    }

    /// Reads it back from label pairs.
    #[must_use]
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let (mut run, mut step) = (None, None);
        for (name, value) in labels {
            match name {
                RUN_LABEL => run = value.parse().ok(),
                STEP_LABEL => step = Some(value.to_owned()),
                _ => {}
            }
        }
        Some(Self { run: run?, step: step? })
    }

    /// Finds a mark that was printed into a description or another text.
    #[must_use]
    pub fn find_in(text: &str) -> Option<Self> {
        let start = text.find(PREFIX)? + PREFIX.len();
        let rest = text.get(start..)?;
        let end = rest.find(']')?;
        let (run, step) = rest.get(..end)?.split_once('/')?;
        Some(Self { run: run.parse().ok()?, step: step.to_owned() })
    }

    /// A short token (12 hex digits) of run and step, for names where they are not unique.
    #[must_use]
    pub fn token(&self) -> String {
        let id = Uuid::new_v5(self.run.as_uuid(), self.step.as_bytes()).simple().to_string();
        id.chars().take(12).collect()
    }
}

const PREFIX: &str = "[provision:";

/// Prints the form for descriptions: `[provision:<run>/<step>]`.
impl fmt::Display for OwnerMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}/{}]", self.run, self.step)
    }
}

fn step_token(path: &str) -> String {
    const LONGEST: usize = 40;
    let clean: String = path
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' })
        .collect();
    let edges = |c: char| c.is_ascii_alphanumeric();
    if clean == path && clean.len() <= LONGEST && clean.starts_with(edges) && clean.ends_with(edges)
    {
        return clean;
    }
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, path.as_bytes()).simple().to_string();
    let short: String = clean.chars().take(LONGEST).collect();
    let hash: String = hash.chars().take(12).collect();
    format!("s{short}-{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> RunId {
        RunId::from_uuid(Uuid::from_u128(7))
    }

    #[test]
    fn a_mark_is_read_back_from_labels_and_text() {
        for path in ["db", "variants[2]/compose", &"x".repeat(90)] {
            let mark = OwnerMark::new(run(), path);
            let labels = mark.labels();
            let pairs = labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
            assert_eq!(OwnerMark::from_labels(pairs).as_ref(), Some(&mark));
            assert_eq!(OwnerMark::find_in(&format!("made by {mark}, keep")).as_ref(), Some(&mark));
        }
    }

    #[test]
    fn two_paths_never_share_a_token() {
        let a = OwnerMark::new(run(), "a[1]");
        let b = OwnerMark::new(run(), "a_1_");
        assert_ne!(a, b);
        assert_ne!(a.token(), b.token());
    }
}
