//! `information_schema`, as far as verification reads it. It shows what the current role may see.

use super::super::bind::uses::has_right;
use super::super::error::SqlError;
use super::super::run::Env;
use super::super::state::acl::{Acl, Rights};
use super::super::state::lookup::INFORMATION_SCHEMA;
use super::super::state::{Function, GrantObject, Oid, PUBLIC, Relation, RelationKind, Row};
use super::super::value::Value;
use super::super::value::sql_type::{self, Type};
use super::ColumnType::One;
use super::SystemRelation;

static GRANTS: &[(&str, super::ColumnType)] = &[
    ("grantor", One(Type::Name)),
    ("grantee", One(Type::Name)),
    ("table_catalog", One(Type::Name)),
    ("table_schema", One(Type::Name)),
    ("table_name", One(Type::Name)),
    ("privilege_type", One(Type::Varchar(None))),
    ("is_grantable", One(Type::Varchar(None))),
    ("with_hierarchy", One(Type::Varchar(None))),
];

pub(super) static LIST: &[SystemRelation] = &[
    SystemRelation {
        schema: INFORMATION_SCHEMA,
        name: "tables",
        view: true,
        complete: false,
        columns: &[
            ("table_catalog", One(Type::Name)),
            ("table_schema", One(Type::Name)),
            ("table_name", One(Type::Name)),
            ("table_type", One(Type::Varchar(None))),
        ],
        rows: tables,
    },
    SystemRelation {
        schema: INFORMATION_SCHEMA,
        name: "columns",
        view: true,
        complete: false,
        columns: &[
            ("table_catalog", One(Type::Name)),
            ("table_schema", One(Type::Name)),
            ("table_name", One(Type::Name)),
            ("column_name", One(Type::Name)),
            ("ordinal_position", One(Type::Int4)),
            ("is_nullable", One(Type::Varchar(None))),
            ("data_type", One(Type::Varchar(None))),
            ("udt_name", One(Type::Name)),
        ],
        rows: columns,
    },
    SystemRelation {
        schema: INFORMATION_SCHEMA,
        name: "views",
        view: true,
        complete: false,
        columns: &[
            ("table_catalog", One(Type::Name)),
            ("table_schema", One(Type::Name)),
            ("table_name", One(Type::Name)),
        ],
        rows: |env| {
            let views = seen(env).filter(|relation| relation.kind == RelationKind::View);
            Ok(views.map(|view| identity(env, view)).collect())
        },
    },
    SystemRelation {
        schema: INFORMATION_SCHEMA,
        name: "schemata",
        view: true,
        complete: false,
        columns: &[
            ("catalog_name", One(Type::Name)),
            ("schema_name", One(Type::Name)),
            ("schema_owner", One(Type::Name)),
        ],
        rows: schemata,
    },
    SystemRelation {
        schema: INFORMATION_SCHEMA,
        name: "table_privileges",
        view: true,
        complete: true,
        columns: GRANTS,
        rows: |env| grants(env, true),
    },
    SystemRelation {
        schema: INFORMATION_SCHEMA,
        name: "role_table_grants",
        view: true,
        complete: true,
        columns: GRANTS,
        rows: |env| grants(env, false),
    },
    SystemRelation {
        schema: INFORMATION_SCHEMA,
        name: "routines",
        view: true,
        complete: false,
        columns: &[
            ("routine_schema", One(Type::Name)),
            ("routine_name", One(Type::Name)),
            ("routine_type", One(Type::Varchar(None))),
            ("security_type", One(Type::Varchar(None))),
        ],
        rows: |env| {
            let row = |function: &Function| {
                let security = if function.definer { "DEFINER" } else { "INVOKER" };
                vec![
                    env.db.schema_name(function.schema).into(),
                    function.name.as_str().into(),
                    "FUNCTION".into(),
                    security.into(),
                ]
            };
            let seen = env.db.functions.values().filter(|function| {
                env.db.rights_on(&function.target(), env.role).has(Rights::EXECUTE)
            });
            Ok(seen.map(row).collect())
        },
    },
    SystemRelation {
        schema: INFORMATION_SCHEMA,
        name: "routine_privileges",
        view: true,
        complete: false,
        columns: &[
            ("grantor", One(Type::Name)),
            ("grantee", One(Type::Name)),
            ("routine_schema", One(Type::Name)),
            ("routine_name", One(Type::Name)),
            ("privilege_type", One(Type::Varchar(None))),
            ("is_grantable", One(Type::Varchar(None))),
        ],
        rows: routine_privileges,
    },
];

/// The relations on which the current role has any right at all.
fn seen<'e>(env: &Env<'e>) -> impl Iterator<Item = &'e Relation> {
    let visible = |relation: &&Relation| {
        let shown = relation.kind.is_table() || relation.kind == RelationKind::View;
        let held = env.db.rights_on(&relation.target(), env.role);
        let columns = [Rights::SELECT, Rights::INSERT, Rights::UPDATE, Rights::REFERENCES];
        let any = |right| has_right(env, relation, (right, true), env.role);
        shown
            && (env.db.has_rights_of(env.role, relation.owner)
                || !held.is_none()
                || columns.into_iter().any(any))
    };
    env.db.relations.values().filter(visible).collect::<Vec<_>>().into_iter()
}

fn identity(env: &Env<'_>, relation: &Relation) -> Row {
    vec![
        "postgres".into(),
        env.db.schema_name(relation.schema).into(),
        relation.name.as_str().into(),
    ]
}

fn tables(env: &Env<'_>) -> Result<Vec<Row>, SqlError> {
    let mut rows: Vec<Row> = super::all()
        .map(|system| {
            let kind = if system.view { "VIEW" } else { "BASE TABLE" };
            let schema = env.db.schema_name(system.schema);
            vec!["postgres".into(), schema.into(), system.name.into(), kind.into()]
        })
        .collect();
    for relation in seen(env) {
        let kind = if relation.kind.is_table() { "BASE TABLE" } else { "VIEW" };
        let mut row = identity(env, relation);
        row.push(kind.into());
        rows.push(row);
    }
    Ok(rows)
}

fn columns(env: &Env<'_>) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for relation in seen(env) {
        for (place, column) in relation.columns.iter().enumerate() {
            let number = i64::try_from(place.saturating_add(1)).unwrap_or_default();
            let nullable = if column.not_null { "NO" } else { "YES" };
            let data_type = match &column.ty {
                Type::Array(_) => "ARRAY".to_owned(),
                ty => ty.base().label(),
            };
            let mut row = identity(env, relation);
            row.extend([
                column.name.as_str().into(),
                Value::Int(number),
                nullable.into(),
                Value::Text(data_type),
                Value::Text(sql_type::short_name(&column.ty)),
            ]);
            rows.push(row);
        }
    }
    Ok(rows)
}

fn schemata(env: &Env<'_>) -> Result<Vec<Row>, SqlError> {
    let owned = env.db.schemas.values().filter(|schema| {
        env.db.has_rights_of(env.role, schema.owner)
            || !env.db.rights_on(&schema.target(), env.role).is_none()
    });
    let row = |schema: &super::super::state::Schema| {
        let owner = env.db.roles.get(&schema.owner).map(|role| role.name.as_str());
        vec!["postgres".into(), schema.name.as_str().into(), owner.into()]
    };
    Ok(owned.map(row).collect())
}

/// Grants that concern the current role; those to everybody only where they are asked for.
fn grants(env: &Env<'_>, to_everybody: bool) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for relation in env.db.relations.values() {
        if !relation.kind.is_table() && relation.kind != RelationKind::View {
            continue;
        }
        let default;
        let acl = match &relation.acl {
            Some(acl) => acl,
            None => {
                default = Acl::default_for(GrantObject::Table, relation.owner);
                &default
            }
        };
        for (grantor, grantee, word, option) in shown(env, acl, relation.owner, to_everybody) {
            let mut row = vec![role(env, grantor), role(env, grantee)];
            row.extend(identity(env, relation));
            let hierarchy = if word == "SELECT" { "YES" } else { "NO" };
            row.extend([word.into(), yes(option), hierarchy.into()]);
            rows.push(row);
        }
    }
    Ok(rows)
}

fn routine_privileges(env: &Env<'_>) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for function in env.db.functions.values() {
        let default = Acl::default_for(GrantObject::Function, function.owner);
        let acl = function.acl.as_ref().unwrap_or(&default);
        for (grantor, grantee, word, option) in shown(env, acl, function.owner, true) {
            rows.push(vec![
                role(env, grantor),
                role(env, grantee),
                env.db.schema_name(function.schema).into(),
                function.name.as_str().into(),
                word.into(),
                yes(option),
            ]);
        }
    }
    Ok(rows)
}

type Shown = (Oid, Oid, &'static str, bool);

fn shown(env: &Env<'_>, acl: &Acl, owner: Oid, to_everybody: bool) -> Vec<Shown> {
    let concerns = |other: Oid| env.db.has_rights_of(env.role, other);
    let mut found = Vec::new();
    for item in &acl.0 {
        let public = item.grantee == PUBLIC;
        let visible = concerns(item.grantor)
            || (!public && concerns(item.grantee))
            || (public && to_everybody);
        if !visible {
            continue;
        }
        for (right, word) in item.rights.words() {
            // An owner may hand everything on without having been told so.
            let option = item.options.has(right) || item.grantee == owner;
            found.push((item.grantor, item.grantee, word, option));
        }
    }
    found
}

fn role(env: &Env<'_>, oid: Oid) -> Value {
    if oid == PUBLIC {
        return "PUBLIC".into();
    }
    env.db.roles.get(&oid).map(|role| role.name.as_str()).into()
}

fn yes(flag: bool) -> Value {
    if flag { "YES" } else { "NO" }.into()
}
