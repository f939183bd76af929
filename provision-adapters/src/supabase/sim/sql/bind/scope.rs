//! The names an expression can see.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::super::error::{SqlError, code};
use super::super::plan::QueryPlan;
use super::super::state::Relation;
use super::super::value::sql_type::Type;

/// Columns a table has without listing them; the model has none of them.
const SYSTEM_COLUMNS: &[&str] = &["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];

/// Tells the names no column may have.
pub(crate) fn is_system_column(name: &str) -> bool {
    SYSTEM_COLUMNS.contains(&name)
}

/// The tables of one query, and the queries around it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope<'s> {
    pub(crate) tables: Vec<Table>,
    pub(crate) ctes: Vec<(String, Rc<QueryPlan>)>,
    pub(crate) parent: Option<&'s Self>,
    /// True when no row stands behind the scope: it only names common tables.
    pub(crate) transparent: bool,
}

/// A table in a `FROM` list.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) alias: String,
    /// Schema the table can be named with, unless an alias hides it.
    pub(crate) schema: Option<String>,
    pub(crate) columns: Vec<(String, Type)>,
    /// Columns that only their qualified name reaches, because `USING` merged them.
    pub(crate) merged: BTreeSet<usize>,
    /// Where its columns begin in the row.
    pub(crate) offset: usize,
    /// Its entry in the list of uses.
    pub(crate) used: Option<usize>,
    /// True where the model has only some of the columns the server has.
    pub(crate) incomplete: bool,
}

/// A column that was found.
#[derive(Debug, Clone)]
pub(crate) struct FoundColumn {
    pub(crate) up: usize,
    pub(crate) index: usize,
    pub(crate) ty: Type,
    /// The use to note it in, and its place there.
    pub(crate) used: Option<(usize, usize)>,
}

impl Scope<'_> {
    /// A scope without names.
    pub(crate) const ROOT: Scope<'static> =
        Scope { tables: Vec::new(), ctes: Vec::new(), parent: None, transparent: false };

    /// Opens a scope inside this one.
    pub(crate) fn inside(&self) -> Scope<'_> {
        Scope { tables: Vec::new(), ctes: Vec::new(), parent: Some(self), transparent: false }
    }

    /// All common tables that can be seen, for a scope that sees nothing else.
    pub(crate) fn only_ctes(&self) -> Scope<'static> {
        let mut ctes = self.parent.map_or_else(Vec::new, |parent| parent.only_ctes().ctes);
        ctes.extend(self.ctes.iter().cloned());
        Scope { tables: Vec::new(), ctes, parent: None, transparent: true }
    }

    pub(crate) fn width(&self) -> usize {
        self.tables.iter().map(|table| table.columns.len()).sum()
    }

    pub(crate) fn cte(&self, name: &str) -> Option<Rc<QueryPlan>> {
        let own = self.ctes.iter().rev().find(|(cte, _)| cte == name);
        match own {
            Some((_, plan)) => Some(Rc::clone(plan)),
            None => self.parent.and_then(|parent| parent.cte(name)),
        }
    }

    /// Finds an unqualified column, from the inside out.
    pub(crate) fn column(&self, name: &str) -> Result<Option<FoundColumn>, SqlError> {
        let mut scope = Some(self);
        let mut up = 0_usize;
        while let Some(here) = scope {
            let mut found = here.tables.iter().filter_map(|table| table.find(name, up));
            if let Some(first) = found.next() {
                if found.next().is_some() {
                    let text = format!("column reference \"{name}\" is ambiguous");
                    return Err(SqlError::new(code::AMBIGUOUS_COLUMN, text));
                }
                return Ok(Some(first));
            }
            if here.tables.iter().any(|table| table.alias == name) {
                return Err(SqlError::unsupported(format!("the whole row of {name} as a value")));
            }
            here.refuse_unmodelled(name, None)?;
            scope = here.parent;
            up = up.saturating_add(usize::from(!here.transparent));
        }
        Ok(None)
    }

    /// Finds `table.column`, from the inside out.
    pub(crate) fn qualified(
        &self,
        (schema, table): (Option<&str>, &str),
        name: &str,
    ) -> Result<Option<FoundColumn>, SqlError> {
        let mut scope = Some(self);
        let mut up = 0_usize;
        while let Some(here) = scope {
            if let Some(found) = here.tables.iter().find(|known| known.is_named(schema, table)) {
                if let Some(column) = found.find_any(name, up) {
                    return Ok(Some(column));
                }
                here.refuse_unmodelled(name, Some(found))?;
                return Err(SqlError::new(
                    code::UNDEFINED_COLUMN,
                    format!("column {table}.{name} does not exist"),
                ));
            }
            scope = here.parent;
            up = up.saturating_add(usize::from(!here.transparent));
        }
        Ok(None)
    }

    fn refuse_unmodelled(&self, name: &str, table: Option<&Table>) -> Result<(), SqlError> {
        let partial = match table {
            Some(table) => table.incomplete,
            None => self.tables.iter().any(|table| table.incomplete),
        };
        if partial || (SYSTEM_COLUMNS.contains(&name) && !self.tables.is_empty()) {
            return Err(SqlError::unsupported(format!("column {name} of a system relation")));
        }
        Ok(())
    }

    /// Adds the tables of a source that stands to the right.
    pub(crate) fn append(&mut self, tables: Vec<Table>) -> Result<(), SqlError> {
        let width = self.width();
        for mut table in tables {
            let twice = |known: &Table| known.alias == table.alias && known.schema == table.schema;
            if !table.alias.is_empty() && self.tables.iter().any(twice) {
                let text = format!("table name \"{}\" specified more than once", table.alias);
                return Err(SqlError::new(code::DUPLICATE_ALIAS, text));
            }
            table.offset = table.offset.saturating_add(width);
            self.tables.push(table);
        }
        Ok(())
    }

    /// A scope with the columns of one table, for its policies, checks and defaults.
    pub(crate) fn of_relation(relation: &Relation, used: Option<usize>) -> Scope<'static> {
        let columns = relation.columns.iter().map(|c| (c.name.clone(), c.ty.clone())).collect();
        let table = Table {
            alias: relation.name.clone(),
            schema: None,
            columns,
            merged: BTreeSet::new(),
            offset: 0,
            used,
            incomplete: false,
        };
        Scope { tables: vec![table], ctes: Vec::new(), parent: None, transparent: false }
    }
}

impl Table {
    fn is_named(&self, schema: Option<&str>, name: &str) -> bool {
        self.alias == name && (schema.is_none() || self.schema.as_deref() == schema)
    }

    fn find(&self, name: &str, up: usize) -> Option<FoundColumn> {
        let mut places = self.columns.iter().enumerate();
        let visible = |place: &usize| !self.merged.contains(place);
        let (place, _) = places.find(|(place, (column, _))| column == name && visible(place))?;
        self.at(place, up)
    }

    fn find_any(&self, name: &str, up: usize) -> Option<FoundColumn> {
        let place = self.columns.iter().position(|(column, _)| column == name)?;
        self.at(place, up)
    }

    pub(crate) fn at(&self, place: usize, up: usize) -> Option<FoundColumn> {
        let (_, ty) = self.columns.get(place)?;
        Some(FoundColumn {
            up,
            index: self.offset.saturating_add(place),
            ty: ty.clone(),
            used: self.used.map(|used| (used, place)),
        })
    }
}

/// Names a table of a query after the relation it shows.
pub(crate) fn table_of(relation: &Relation, schema: &str, used: usize) -> Table {
    let columns = relation.columns.iter().map(|c| (c.name.clone(), c.ty.clone())).collect();
    Table {
        alias: relation.name.clone(),
        schema: Some(schema.to_owned()),
        columns,
        merged: BTreeSet::new(),
        offset: 0,
        used: Some(used),
        incomplete: false,
    }
}
