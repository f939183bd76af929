//! The system catalogs as tables that are computed when they are read.
//!
//! Only what verification reads is here. A relation or a column that the server has and the model has
//! not is an error that says so, never an empty answer.

mod access;
mod information;
mod objects;
pub(crate) mod print;
mod relations;

pub(crate) use self::access::{acl_explode, print_acl};

use super::error::SqlError;
use super::func;
use super::run::Env;
use super::state::lookup::{INFORMATION_SCHEMA, PG_CATALOG};
use super::state::{Oid, Row};
use super::value::sql_type::Type;

/// First number of the catalogs' own relations.
const FIRST_RELATION: Oid = 1_200;

/// First number of the server's own functions.
const FIRST_FUNCTION: Oid = 5_000;

/// The type of a column of a catalog.
#[derive(Debug)]
pub(crate) enum ColumnType {
    One(Type),
    Many(Type),
}

impl ColumnType {
    pub(crate) fn ty(&self) -> Type {
        match self {
            Self::One(ty) => ty.clone(),
            Self::Many(ty) => Type::array(ty.clone()),
        }
    }
}

/// A relation of the catalogs.
#[derive(Debug)]
pub(crate) struct SystemRelation {
    pub(crate) schema: Oid,
    pub(crate) name: &'static str,
    pub(crate) view: bool,
    /// True where every column of the server is here, so that `*` may be asked for.
    pub(crate) complete: bool,
    pub(crate) columns: &'static [(&'static str, ColumnType)],
    rows: fn(&Env<'_>) -> Result<Vec<Row>, SqlError>,
}

impl PartialEq for SystemRelation {
    fn eq(&self, other: &Self) -> bool {
        self.schema == other.schema && self.name == other.name
    }
}

impl SystemRelation {
    /// Its number in `pg_class`.
    pub(crate) fn oid(&self) -> Oid {
        let place = all().position(|known| known == self).unwrap_or_default();
        FIRST_RELATION.saturating_add(u32::try_from(place).unwrap_or_default())
    }
}

/// Every relation of the catalogs.
pub(crate) fn all() -> impl Iterator<Item = &'static SystemRelation> {
    let lists = [relations::LIST, access::LIST, objects::LIST, information::LIST];
    lists.into_iter().flatten()
}

/// Finds a relation of the catalogs; one that only the server has is refused by name.
pub(crate) fn find(schema: Oid, name: &str) -> Result<Option<&'static SystemRelation>, SqlError> {
    if let Some(found) = all().find(|known| known.schema == schema && known.name == name) {
        return Ok(Some(found));
    }
    let refused = (schema == PG_CATALOG && name.starts_with("pg_")) || schema == INFORMATION_SCHEMA;
    if refused { Err(SqlError::unsupported(format!("catalog {name}"))) } else { Ok(None) }
}

pub(crate) fn with_oid(oid: Oid) -> Option<&'static SystemRelation> {
    let place = usize::try_from(oid.checked_sub(FIRST_RELATION)?).ok()?;
    all().nth(place)
}

pub(crate) fn rows(env: &Env<'_>, relation: &SystemRelation) -> Result<Vec<Row>, SqlError> {
    let rows = (relation.rows)(env)?;
    let width = relation.columns.len();
    if rows.iter().any(|row| row.len() != width) {
        return Err(SqlError::internal("a catalog row has another width than its catalog"));
    }
    Ok(rows)
}

/// The number of a function of the server in `pg_proc`.
pub(crate) fn function_oid(place: usize) -> Oid {
    FIRST_FUNCTION.saturating_add(u32::try_from(place).unwrap_or_default())
}

pub(crate) fn is_server_function(oid: Oid) -> bool {
    let place = oid.checked_sub(FIRST_FUNCTION).and_then(|place| usize::try_from(place).ok());
    place.is_some_and(|place| func::get(place).is_ok())
}
