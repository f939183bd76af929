//! What the simulated cloud holds, counted as runs count it.
//!
//! A provider lists every secret and every variable of its own; a step makes and removes a set of
//! them as one. Here a set is one item with the id that the ledger gives it, so that what exists
//! and what runs say exists can be compared line by line. What fits no set stays as it is listed.

use std::collections::BTreeMap;

use provision_adapters::{
    github::Values,
    sim::{Inventory, InventoryItem},
};
use provision_core::OwnerMark;

/// Puts single items together to what a step makes.
#[must_use]
pub fn as_runs_count(listed: impl IntoIterator<Item = InventoryItem>) -> Inventory {
    let mut sets: BTreeMap<(&str, String), Set> = BTreeMap::new();
    let mut items = Vec::new();
    for item in listed {
        match set_of(&item) {
            Some(place) => sets.entry(place).or_default().add(item),
            None => {
                items.extend(activation(&item));
                items.push(item);
            }
        }
    }
    items.extend(sets.into_iter().map(|((kind, whole), set)| set.item(kind, &whole)));
    Inventory::merge([items])
}

/// The kind of set an item is part of, and what tells it from other sets of that kind.
fn set_of(item: &InventoryItem) -> Option<(&'static str, String)> {
    let (parent, _) = item.id.rsplit_once('/')?;
    match (item.provider.as_str(), item.kind.as_str()) {
        ("github", "secret") => Some(("repo_secrets", parent.to_owned())),
        ("github", "variable") => Some(("repo_variables", parent.to_owned())),
        ("vercel", "env") => {
            let mark = OwnerMark::find_in(item.labels.get("comment")?)?;
            Some(("env", format!("{parent}/env/{}", mark.token())))
        }
        _ => None,
    }
}

/// That a workflow is active is an item of its own: a step of its own makes it so.
fn activation(item: &InventoryItem) -> Option<InventoryItem> {
    let active = item.labels.get("active").is_some_and(|active| active == "true");
    let is_one = active && item.provider == "n8n" && item.kind == "workflow";
    is_one.then(|| InventoryItem {
        kind: "activation".to_owned(),
        name: item.id.clone(),
        ..item.clone()
    })
}

#[derive(Default)]
struct Set {
    provider: String,
    names: Vec<String>,
    labels: BTreeMap<String, String>,
}

impl Set {
    fn add(&mut self, item: InventoryItem) {
        self.provider = item.provider;
        self.labels = item.labels;
        self.names.push(item.name);
    }

    fn item(mut self, kind: &str, whole: &str) -> InventoryItem {
        self.names.sort();
        let names = self.names.join(",");
        let (id, name) = match whole.split_once("/env/") {
            Some((project, _)) => (whole.to_owned(), format!("{project}/{names}")),
            None => {
                let values = Values { repository: whole.to_owned(), names: self.names };
                let id = values.id().to_string();
                (id.clone(), id)
            }
        };
        self.labels.insert("names".to_owned(), names);
        let Self { provider, labels, .. } = self;
        InventoryItem { provider, kind: kind.to_owned(), id, name, labels }
    }
}

#[cfg(test)]
mod tests {
    use super::{InventoryItem, as_runs_count};

    fn item(provider: &str, kind: &str, id: &str, name: &str) -> InventoryItem {
        let text = str::to_owned;
        InventoryItem {
            provider: text(provider),
            kind: text(kind),
            id: text(id),
            name: text(name),
            labels: [].into(),
        }
    }

    #[test]
    fn secrets_of_two_repositories_are_two_items_and_doubles_are_not_hidden() {
        let items = as_runs_count([
            item("github", "secret", "acme/a/X", "X"),
            item("github", "secret", "acme/a/Y", "Y"),
            item("github", "secret", "acme/b/X", "X"),
            item("github", "repo", "1", "acme/a"),
            item("github", "repo", "2", "acme/a"),
        ]);
        let kinds: Vec<_> = items.items().iter().map(|item| item.kind.as_str()).collect();
        assert_eq!(kinds, ["repo", "repo", "repo_secrets", "repo_secrets"]);
        assert_eq!(items.items()[2].labels["names"], "X,Y");
    }

    #[test]
    fn a_variable_that_no_run_marked_stays_as_it_is_listed() {
        let foreign = item("vercel", "env", "prj/1", "X");
        assert_eq!(as_runs_count([foreign.clone()]).items(), [foreign]);
    }
}
