//! Catalogs about relations, their columns, keys and indexes.

use super::super::error::SqlError;
use super::super::run::Env;
use super::super::state::lookup::{PG_CATALOG, quote_ident};
use super::super::state::{Generated, Oid, Relation, RelationKind, Row};
use super::super::value::Value;
use super::super::value::sql_type::{self, Type};
use super::ColumnType::{Many, One};
use super::{SystemRelation, all, print_acl};

pub(super) static LIST: &[SystemRelation] = &[
    SystemRelation {
        schema: PG_CATALOG,
        name: "pg_class",
        view: false,
        complete: false,
        columns: &[
            ("oid", One(Type::Oid)),
            ("relname", One(Type::Name)),
            ("relnamespace", One(Type::Oid)),
            ("relowner", One(Type::Oid)),
            ("relkind", One(Type::InternalChar)),
            ("relnatts", One(Type::Int2)),
            ("relchecks", One(Type::Int2)),
            ("relhasindex", One(Type::Bool)),
            ("relrowsecurity", One(Type::Bool)),
            ("relforcerowsecurity", One(Type::Bool)),
            ("relispopulated", One(Type::Bool)),
            ("relispartition", One(Type::Bool)),
            ("relpersistence", One(Type::InternalChar)),
            ("relacl", Many(Type::AclItem)),
            ("reloptions", Many(Type::Text)),
        ],
        rows: pg_class,
    },
    SystemRelation {
        schema: PG_CATALOG,
        name: "pg_attribute",
        view: false,
        complete: false,
        columns: &[
            ("attrelid", One(Type::Oid)),
            ("attname", One(Type::Name)),
            ("atttypid", One(Type::Oid)),
            ("attnum", One(Type::Int2)),
            ("atttypmod", One(Type::Int4)),
            ("attnotnull", One(Type::Bool)),
            ("atthasdef", One(Type::Bool)),
            ("attidentity", One(Type::InternalChar)),
            ("attgenerated", One(Type::InternalChar)),
            ("attisdropped", One(Type::Bool)),
            ("attacl", Many(Type::AclItem)),
        ],
        rows: pg_attribute,
    },
    SystemRelation {
        schema: PG_CATALOG,
        name: "pg_constraint",
        view: false,
        complete: false,
        columns: &[
            ("conname", One(Type::Name)),
            ("connamespace", One(Type::Oid)),
            ("contype", One(Type::InternalChar)),
            ("conrelid", One(Type::Oid)),
            ("confrelid", One(Type::Oid)),
            ("conkey", Many(Type::Int2)),
            ("confkey", Many(Type::Int2)),
        ],
        rows: pg_constraint,
    },
    SystemRelation {
        schema: PG_CATALOG,
        name: "pg_inherits",
        view: false,
        complete: false,
        columns: &[("inhrelid", One(Type::Oid)), ("inhparent", One(Type::Oid))],
        rows: |env| {
            let children = env.db.relations.values().filter_map(|relation| {
                let place = relation.partition_of.as_ref()?;
                Some(vec![relation.oid.into(), place.parent.into()])
            });
            Ok(children.collect())
        },
    },
    SystemRelation {
        schema: PG_CATALOG,
        name: "pg_tables",
        view: true,
        complete: true,
        columns: &[
            ("schemaname", One(Type::Name)),
            ("tablename", One(Type::Name)),
            ("tableowner", One(Type::Name)),
            ("tablespace", One(Type::Name)),
            ("hasindexes", One(Type::Bool)),
            ("hasrules", One(Type::Bool)),
            ("hastriggers", One(Type::Bool)),
            ("rowsecurity", One(Type::Bool)),
        ],
        rows: pg_tables,
    },
    SystemRelation {
        schema: PG_CATALOG,
        name: "pg_views",
        view: true,
        complete: true,
        columns: &[
            ("schemaname", One(Type::Name)),
            ("viewname", One(Type::Name)),
            ("viewowner", One(Type::Name)),
            ("definition", One(Type::Text)),
        ],
        rows: |env| {
            let views = of_kind(env, RelationKind::View);
            Ok(views.map(|view| vec_of(named(env, view), [definition(view)])).collect())
        },
    },
    SystemRelation {
        schema: PG_CATALOG,
        name: "pg_matviews",
        view: true,
        complete: true,
        columns: &[
            ("schemaname", One(Type::Name)),
            ("matviewname", One(Type::Name)),
            ("matviewowner", One(Type::Name)),
            ("tablespace", One(Type::Name)),
            ("hasindexes", One(Type::Bool)),
            ("ispopulated", One(Type::Bool)),
            ("definition", One(Type::Text)),
        ],
        rows: |env| {
            let views = of_kind(env, RelationKind::MaterializedView);
            let row = |view: &Relation| {
                let rest = [
                    Value::Null,
                    has_index(env, view.oid).into(),
                    view.populated.into(),
                    definition(view),
                ];
                vec_of(named(env, view), rest)
            };
            Ok(views.map(row).collect())
        },
    },
    SystemRelation {
        schema: PG_CATALOG,
        name: "pg_indexes",
        view: true,
        complete: true,
        columns: &[
            ("schemaname", One(Type::Name)),
            ("tablename", One(Type::Name)),
            ("indexname", One(Type::Name)),
            ("tablespace", One(Type::Name)),
            ("indexdef", One(Type::Text)),
        ],
        rows: pg_indexes,
    },
];

fn of_kind<'e>(env: &Env<'e>, kind: RelationKind) -> impl Iterator<Item = &'e Relation> {
    env.db.relations.values().filter(move |relation| relation.kind == kind)
}

fn vec_of<const N: usize>(mut row: Row, rest: [Value; N]) -> Row {
    row.extend(rest);
    row
}

/// Schema, name and owner, as the views of the catalog begin.
fn named(env: &Env<'_>, relation: &Relation) -> Row {
    let owner = env.db.roles.get(&relation.owner).map(|role| role.name.as_str());
    vec![env.db.schema_name(relation.schema).into(), relation.name.as_str().into(), owner.into()]
}

fn definition(relation: &Relation) -> Value {
    relation.query.as_ref().map(|query| Value::Text(format!(" {};", query.text))).into()
}

fn has_index(env: &Env<'_>, table: Oid) -> bool {
    let of_table = |relation: &Relation| relation.index.as_ref().is_some_and(|i| i.table == table);
    env.db.relations.values().any(of_table)
}

/// The role that owns what the server itself made.
pub(super) fn system_owner(env: &Env<'_>) -> Value {
    env.db.roles.values().find(|role| role.superuser).map(|role| role.oid).into()
}

fn number(count: usize) -> Value {
    Value::Int(i64::try_from(count).unwrap_or_default())
}

fn pg_class(env: &Env<'_>) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for system in all() {
        let kind = if system.view { "v" } else { "r" };
        rows.push(vec![
            system.oid().into(),
            system.name.into(),
            system.schema.into(),
            system_owner(env),
            kind.into(),
            number(system.columns.len()),
            Value::Int(0),
            Value::Bool(!system.view),
            Value::Bool(false),
            Value::Bool(false),
            Value::Bool(true),
            Value::Bool(false),
            "p".into(),
            super::access::readable_by_all(env),
            Value::Null,
        ]);
    }
    for relation in env.db.relations.values() {
        let partitioned_index = relation.index.as_ref().is_some_and(|index| {
            env.db.relations.get(&index.table).is_some_and(|t| t.kind == RelationKind::Partitioned)
        });
        let options = relation.options.iter().map(|option| option.as_str().into()).collect();
        let options = (!relation.options.is_empty()).then_some(Value::Array(options));
        rows.push(vec![
            relation.oid.into(),
            relation.name.as_str().into(),
            relation.schema.into(),
            relation.owner.into(),
            relation.kind.letter(partitioned_index).into(),
            number(relation.columns.len()),
            number(relation.checks.len()),
            has_index(env, relation.oid).into(),
            relation.row_security.into(),
            relation.force_row_security.into(),
            relation.populated.into(),
            relation.partition_of.is_some().into(),
            "p".into(),
            print_acl(env, relation.acl.as_ref()),
            options.into(),
        ]);
    }
    Ok(rows)
}

fn pg_attribute(env: &Env<'_>) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    let unset = |rest: usize| vec![Value::Bool(false); rest];
    for system in all() {
        for (place, (name, ty)) in system.columns.iter().enumerate() {
            let mut row = attribute(system.oid(), name, &ty.ty(), place);
            row.extend(unset(2));
            row.extend(["".into(), "".into(), Value::Bool(false), Value::Null]);
            rows.push(row);
        }
    }
    for relation in env.db.relations.values() {
        for (place, column) in relation.columns.iter().enumerate() {
            let (identity, generated) = match column.generated {
                Generated::No => ("", ""),
                Generated::IdentityAlways => ("a", ""),
                Generated::IdentityByDefault => ("d", ""),
                Generated::Stored => ("", "s"),
            };
            let serial = column.sequence.is_some() && column.generated == Generated::No;
            let mut row = attribute(relation.oid, &column.name, &column.ty, place);
            row.extend([
                column.not_null.into(),
                (column.default.is_some() || serial).into(),
                identity.into(),
                generated.into(),
                Value::Bool(false),
                print_acl(env, column.acl.as_ref()),
            ]);
            rows.push(row);
        }
    }
    Ok(rows)
}

fn attribute(relation: Oid, name: &str, ty: &Type, place: usize) -> Row {
    vec![
        relation.into(),
        name.into(),
        sql_type::number(ty).into(),
        number(place.saturating_add(1)),
        Value::Int(sql_type::modifier(ty)),
    ]
}

fn places(columns: &[usize]) -> Value {
    Value::Array(columns.iter().map(|column| number(column.saturating_add(1))).collect())
}

fn pg_constraint(env: &Env<'_>) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for relation in env.db.relations.values() {
        let row = |name: &str, kind: &str, keys: (Value, Value), target: Oid| {
            vec![
                name.into(),
                relation.schema.into(),
                kind.into(),
                relation.oid.into(),
                target.into(),
                keys.0,
                keys.1,
            ]
        };
        for key in relation.keys.iter().filter(|key| key.constraint) {
            let kind = if key.primary { "p" } else { "u" };
            rows.push(row(&key.name, kind, (places(&key.columns), Value::Null), 0));
        }
        for check in &relation.checks {
            // The columns of a check are not kept, so they are not shown either.
            rows.push(row(&check.name, "c", (Value::Null, Value::Null), 0));
        }
        for key in &relation.foreign_keys {
            let keys = (places(&key.columns), places(&key.target_columns));
            rows.push(row(&key.name, "f", keys, key.target));
        }
    }
    Ok(rows)
}

fn pg_tables(env: &Env<'_>) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    let owner = env.db.roles.values().find(|role| role.superuser).map(|role| role.name.as_str());
    for system in all().filter(|system| !system.view) {
        let first: Row =
            vec![env.db.schema_name(system.schema).into(), system.name.into(), owner.into()];
        let flags = [true, false, false, false].map(Value::Bool);
        rows.push(vec_of(vec_of(first, [Value::Null]), flags));
    }
    for table in env.db.relations.values().filter(|relation| relation.kind.is_table()) {
        let flags = [
            has_index(env, table.oid),
            false,
            !table.foreign_keys.is_empty() || is_referenced(env, table.oid),
            table.row_security,
        ];
        rows.push(vec_of(vec_of(named(env, table), [Value::Null]), flags.map(Value::Bool)));
    }
    Ok(rows)
}

/// Foreign keys are kept by triggers on both of their tables.
fn is_referenced(env: &Env<'_>, table: Oid) -> bool {
    let mut keys = env.db.relations.values().flat_map(|relation| &relation.foreign_keys);
    keys.any(|key| key.target == table)
}

fn pg_indexes(env: &Env<'_>) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for relation in env.db.relations.values() {
        let Some(index) = &relation.index else { continue };
        let table = env.db.relation(index.table)?;
        let unique = if index.unique { "UNIQUE " } else { "" };
        let text = format!(
            "CREATE {unique}INDEX {} ON {} {}",
            quote_ident(&relation.name),
            env.db.qualified(table),
            index.definition
        );
        rows.push(vec![
            env.db.schema_name(relation.schema).into(),
            table.name.as_str().into(),
            relation.name.as_str().into(),
            Value::Null,
            Value::Text(text),
        ]);
    }
    Ok(rows)
}
