//! What exists in a simulated cloud, in one order for all providers.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// One resource that a run could have created.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InventoryItem {
    /// Provider, such as `github`.
    pub provider: String,
    /// Kind within the provider, such as `repo`.
    pub kind: String,
    /// The provider's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Labels, tags or whatever carries the owner mark.
    pub labels: BTreeMap<String, String>,
}

/// Inventories of several clouds, sorted by provider, kind and id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Inventory {
    items: Vec<InventoryItem>,
}

impl Inventory {
    /// Merges the inventories of several clouds.
    #[must_use]
    pub fn merge(parts: impl IntoIterator<Item = Vec<InventoryItem>>) -> Self {
        let mut items: Vec<_> = parts.into_iter().flatten().collect();
        items.sort();
        Self { items }
    }

    /// The resources, sorted.
    #[must_use]
    pub fn items(&self) -> &[InventoryItem] {
        &self.items
    }

    /// Whether nothing is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The resources of one kind.
    pub fn of<'a>(
        &'a self,
        provider: &'a str,
        kind: &'a str,
    ) -> impl Iterator<Item = &'a InventoryItem> {
        self.items.iter().filter(move |item| item.provider == provider && item.kind == kind)
    }
}

/// Prints one line per resource: provider, kind, id and name.
impl fmt::Display for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for item in &self.items {
            writeln!(f, "{} {} {} {}", item.provider, item.kind, item.id, item.name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Inventory, InventoryItem};

    fn item(provider: &str, kind: &str, id: &str) -> InventoryItem {
        InventoryItem {
            provider: provider.to_owned(),
            kind: kind.to_owned(),
            id: id.to_owned(),
            name: format!("name-{id}"),
            labels: Default::default(),
        }
    }

    #[test]
    fn merged_inventories_are_sorted_by_provider_kind_and_id() {
        let github = vec![item("github", "repo", "2"), item("github", "repo", "1")];
        let supabase = vec![item("supabase", "project", "a"), item("supabase", "branch", "b")];
        let one = Inventory::merge([supabase.clone(), github.clone()]);
        assert_eq!(one, Inventory::merge([github, supabase]));
        let ids: Vec<_> = one.items().iter().map(|i| i.id.as_str()).collect();
        assert_eq!(ids, ["1", "2", "b", "a"]);
        assert_eq!(one.of("github", "repo").count(), 2);
    }
}
