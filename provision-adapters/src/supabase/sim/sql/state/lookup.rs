//! Finds objects by name the way the server does: along the search path, skipping what the role may
//! not look into.

use super::super::error::{SqlError, code};
use super::super::parse::Name;
use super::super::sys::{self, SystemRelation};
use super::acl::Rights;
use super::{Database, Function, Oid, Policy, Relation, Schema};

/// Number of the schema `pg_catalog`.
pub(crate) const PG_CATALOG: Oid = 11;
/// Number of the schema `information_schema`.
pub(crate) const INFORMATION_SCHEMA: Oid = 12;

/// A relation found by name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found<'a> {
    Relation(&'a Relation),
    System(&'static SystemRelation),
}

/// Whose eyes look names up, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resolver<'a> {
    pub(crate) db: &'a Database,
    pub(crate) role: Oid,
    pub(crate) path: &'a [String],
    /// False inside stored definitions: their names were resolved when they were created.
    pub(crate) check_usage: bool,
}

impl<'a> Resolver<'a> {
    /// The schemas of the path that exist and may be used; `pg_catalog` leads unless it is named.
    pub(crate) fn schemas(&self) -> Vec<Oid> {
        let mut found = self.named_schemas();
        if !found.contains(&PG_CATALOG) {
            found.insert(0, PG_CATALOG);
        }
        found
    }

    fn named_schemas(&self) -> Vec<Oid> {
        let user = self.db.roles.get(&self.role).map(|role| role.name.as_str());
        let mut found = Vec::new();
        for name in self.path {
            let name = if name == "$user" { user.unwrap_or_default() } else { name };
            let Some(schema) = self.db.schema_named(name) else { continue };
            let usable = !self.check_usage || self.may_use(schema);
            if usable && !found.contains(&schema.oid) {
                found.push(schema.oid);
            }
        }
        found
    }

    fn may_use(&self, schema: &Schema) -> bool {
        self.db.rights_on(&schema.target(), self.role).has(Rights::USAGE)
    }

    /// Finds a schema and checks that the role may use it.
    pub(crate) fn schema(&self, name: &str) -> Result<&'a Schema, SqlError> {
        let schema = self.db.schema_named(name).ok_or_else(|| SqlError::undefined_schema(name))?;
        if self.check_usage && !self.may_use(schema) {
            return Err(SqlError::denied("schema", name));
        }
        Ok(schema)
    }

    /// Finds a relation, or nothing when neither its schema nor it exists.
    pub(crate) fn find(&self, name: &Name) -> Result<Option<Found<'a>>, SqlError> {
        if let Some(schema) = &name.schema {
            if self.db.schema_named(schema).is_none() {
                return Ok(None);
            }
            let schema = self.schema(schema)?;
            return self.in_schema(schema.oid, &name.name);
        }
        for schema in self.schemas() {
            if let Some(found) = self.in_schema(schema, &name.name)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn in_schema(&self, schema: Oid, name: &str) -> Result<Option<Found<'a>>, SqlError> {
        if schema == PG_CATALOG || schema == INFORMATION_SCHEMA {
            return Ok(sys::find(schema, name)?.map(Found::System));
        }
        Ok(self.db.relation_in(schema, name).map(Found::Relation))
    }

    /// Finds a relation that a query reads or writes.
    pub(crate) fn relation(&self, name: &Name) -> Result<Found<'a>, SqlError> {
        self.find(name)?.ok_or_else(|| SqlError::undefined_table(name))
    }

    /// Finds a relation that a definition statement works on; system relations are out of reach.
    pub(crate) fn user_relation(&self, name: &Name) -> Result<&'a Relation, SqlError> {
        if let Some(schema) = &name.schema {
            self.schema(schema)?;
        }
        match self.relation(name)? {
            Found::Relation(relation) => Ok(relation),
            Found::System(system) => {
                let text = format!("permission denied: \"{}\" is a system catalog", system.name);
                Err(SqlError::new(code::INSUFFICIENT_PRIVILEGE, text))
            }
        }
    }

    /// Chooses the schema for a new object and checks the right to create there.
    pub(crate) fn creation_schema(&self, name: &Name) -> Result<&'a Schema, SqlError> {
        let schema = match &name.schema {
            Some(schema) => {
                self.db.schema_named(schema).ok_or_else(|| SqlError::undefined_schema(schema))?
            }
            None => {
                let first = self.named_schemas().into_iter().next();
                first.and_then(|oid| self.db.schemas.get(&oid)).ok_or_else(|| {
                    let text = "no schema has been selected to create in";
                    SqlError::new(code::UNDEFINED_SCHEMA, text)
                })?
            }
        };
        let system = schema.oid == PG_CATALOG || schema.oid == INFORMATION_SCHEMA;
        if system || !self.db.rights_on(&schema.target(), self.role).has(Rights::CREATE) {
            return Err(SqlError::denied("schema", &schema.name));
        }
        Ok(schema)
    }

    /// The functions a name may mean, those of the nearest schema first.
    pub(crate) fn functions(&self, name: &Name) -> Result<Vec<&'a Function>, SqlError> {
        let schemas = match &name.schema {
            Some(schema) => vec![self.schema(schema)?.oid],
            None => self.schemas(),
        };
        let mut found: Vec<&Function> = Vec::new();
        for schema in schemas {
            for function in self.db.functions_in(schema, &name.name) {
                // The same arguments in a nearer schema hide the function.
                if !found.iter().any(|near| near.argument_types().eq(function.argument_types())) {
                    found.push(function);
                }
            }
        }
        Ok(found)
    }
}

impl Database {
    pub(crate) fn schema_named(&self, name: &str) -> Option<&Schema> {
        self.schemas.values().find(|schema| schema.name == name)
    }

    pub(crate) fn schema_name(&self, oid: Oid) -> &str {
        self.schemas.get(&oid).map_or("", |schema| schema.name.as_str())
    }

    pub(crate) fn relation(&self, oid: Oid) -> Result<&Relation, SqlError> {
        self.relations.get(&oid).ok_or_else(|| SqlError::internal("a relation is missing"))
    }

    pub(crate) fn relation_mut(&mut self, oid: Oid) -> Result<&mut Relation, SqlError> {
        self.relations.get_mut(&oid).ok_or_else(|| SqlError::internal("a relation is missing"))
    }

    pub(crate) fn relation_in(&self, schema: Oid, name: &str) -> Option<&Relation> {
        self.relations.values().find(|relation| relation.schema == schema && relation.name == name)
    }

    pub(crate) fn functions_in(&self, schema: Oid, name: &str) -> impl Iterator<Item = &Function> {
        self.functions
            .values()
            .filter(move |function| function.schema == schema && function.name == name)
    }

    pub(crate) fn policies_of(&self, relation: Oid) -> impl Iterator<Item = &Policy> {
        self.policies.values().filter(move |policy| policy.relation == relation)
    }

    pub(crate) fn policy_on(&self, relation: Oid, name: &str) -> Option<&Policy> {
        self.policies_of(relation).find(|policy| policy.name == name)
    }

    /// The partitions directly below a table, by number.
    pub(crate) fn partitions_of(&self, parent: Oid) -> impl Iterator<Item = &Relation> {
        self.relations.values().filter(move |relation| {
            relation.partition_of.as_ref().is_some_and(|place| place.parent == parent)
        })
    }

    /// Prints the name of a relation as the server does in its own texts.
    pub(crate) fn qualified(&self, relation: &Relation) -> String {
        format!(
            "{}.{}",
            quote_ident(self.schema_name(relation.schema)),
            quote_ident(&relation.name)
        )
    }
}

impl Relation {
    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Finds a column by name, or refuses as the server does.
    pub(crate) fn require_column(&self, name: &str) -> Result<usize, SqlError> {
        self.column(name).ok_or_else(|| {
            let text = format!("column \"{name}\" of relation \"{}\" does not exist", self.name);
            SqlError::new(code::UNDEFINED_COLUMN, text)
        })
    }

    pub(crate) fn option(&self, name: &str) -> bool {
        let truths = ["true", "on", "yes", "1"];
        self.options.iter().any(|option| {
            option
                .split_once('=')
                .is_some_and(|(key, value)| key == name && truths.contains(&value))
        })
    }
}

impl Function {
    pub(crate) fn argument_types(
        &self,
    ) -> impl Iterator<Item = super::super::value::sql_type::Type> + '_ {
        self.arguments.iter().map(|argument| argument.ty.base())
    }

    /// Prints the name with the argument types, as in messages.
    pub(crate) fn signature(&self) -> String {
        let types: Vec<String> = self.argument_types().map(|ty| ty.label()).collect();
        format!("{}({})", self.name, types.join(","))
    }
}

/// Prints a name so that it can be read back, in quotes where it needs them.
pub(crate) fn quote_ident(name: &str) -> String {
    let mut symbols = name.chars();
    let first = symbols.next().is_some_and(|symbol| symbol.is_ascii_lowercase() || symbol == '_');
    let plain =
        |symbol: char| symbol.is_ascii_lowercase() || symbol.is_ascii_digit() || symbol == '_';
    if first && symbols.all(plain) && !super::super::parse::is_reserved(name) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}
