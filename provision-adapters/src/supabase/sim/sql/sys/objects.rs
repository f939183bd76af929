//! Catalogs about schemas, functions and extensions.

use super::super::error::SqlError;
use super::super::func;
use super::super::run::Env;
use super::super::state::lookup::PG_CATALOG;
use super::super::state::{Function, Row, Shape};
use super::super::value::Value;
use super::super::value::sql_type::{self, Type};
use super::ColumnType::{Many, One};
use super::relations::system_owner;
use super::{SystemRelation, function_oid, print_acl};

pub(super) static LIST: &[SystemRelation] = &[
    SystemRelation {
        schema: PG_CATALOG,
        name: "pg_namespace",
        view: false,
        complete: true,
        columns: &[
            ("oid", One(Type::Oid)),
            ("nspname", One(Type::Name)),
            ("nspowner", One(Type::Oid)),
            ("nspacl", Many(Type::AclItem)),
        ],
        rows: |env| {
            let row = |schema: &super::super::state::Schema| {
                vec![
                    schema.oid.into(),
                    schema.name.as_str().into(),
                    schema.owner.into(),
                    print_acl(env, schema.acl.as_ref()),
                ]
            };
            Ok(env.db.schemas.values().map(row).collect())
        },
    },
    SystemRelation {
        schema: PG_CATALOG,
        name: "pg_proc",
        view: false,
        complete: false,
        columns: &[
            ("oid", One(Type::Oid)),
            ("proname", One(Type::Name)),
            ("pronamespace", One(Type::Oid)),
            ("proowner", One(Type::Oid)),
            ("prokind", One(Type::InternalChar)),
            ("prosecdef", One(Type::Bool)),
            ("proisstrict", One(Type::Bool)),
            ("proretset", One(Type::Bool)),
            ("provolatile", One(Type::InternalChar)),
            ("pronargs", One(Type::Int2)),
            ("pronargdefaults", One(Type::Int2)),
            ("prorettype", One(Type::Oid)),
            ("proargnames", Many(Type::Text)),
            ("prosrc", One(Type::Text)),
            ("proconfig", Many(Type::Text)),
            ("proacl", Many(Type::AclItem)),
        ],
        rows: pg_proc,
    },
    SystemRelation {
        schema: PG_CATALOG,
        name: "pg_extension",
        view: false,
        complete: false,
        columns: &[
            ("oid", One(Type::Oid)),
            ("extname", One(Type::Name)),
            ("extowner", One(Type::Oid)),
            ("extnamespace", One(Type::Oid)),
        ],
        rows: |env| {
            let row = |(name, extension): (&String, &super::super::state::Extension)| {
                vec![
                    extension.oid.into(),
                    name.as_str().into(),
                    extension.owner.into(),
                    extension.schema.into(),
                ]
            };
            Ok(env.db.extensions.iter().map(row).collect())
        },
    },
];

fn count(number: usize) -> Value {
    Value::Int(i64::try_from(number).unwrap_or_default())
}

fn pg_proc(env: &Env<'_>) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for (place, builtin) in func::all().filter(|(_, builtin)| !builtin.schema.is_empty()) {
        let returned = match &builtin.returns {
            func::Returns::Is(ty) => sql_type::number(ty),
            func::Returns::ArrayOf(ty) => sql_type::number(&Type::array(ty.clone())),
            func::Returns::Same(_) => 0,
        };
        rows.push(vec![
            function_oid(place).into(),
            builtin.name.into(),
            PG_CATALOG.into(),
            system_owner(env),
            "f".into(),
            Value::Bool(false),
            builtin.strict.into(),
            Value::Bool(false),
            "s".into(),
            count(builtin.types().len()),
            Value::Int(0),
            returned.into(),
            Value::Null,
            builtin.name.into(),
            Value::Null,
            Value::Null,
        ]);
    }
    rows.extend(env.db.functions.values().map(|function| user_function(env, function)));
    Ok(rows)
}

fn user_function(env: &Env<'_>, function: &Function) -> Row {
    let defaults = function.arguments.iter().filter(|argument| argument.default.is_some()).count();
    let name = |argument: &super::super::state::Argument| {
        Value::from(argument.name.as_deref().unwrap_or_default())
    };
    let named = function.arguments.iter().any(|argument| argument.name.is_some());
    let names = named.then(|| Value::Array(function.arguments.iter().map(name).collect()));
    let config = function.config.iter().map(|setting| setting.as_str().into()).collect();
    let returned = match &function.returns.shape {
        Shape::Scalar(ty) => sql_type::number(ty),
        // The row type of a table has the number of the table here.
        Shape::Relation(relation) => *relation,
        Shape::Table(_) => sql_type::number(&Type::Record),
    };
    vec![
        function.oid.into(),
        function.name.as_str().into(),
        function.schema.into(),
        function.owner.into(),
        "f".into(),
        function.definer.into(),
        function.strict.into(),
        function.returns.set.into(),
        function.volatility.letter().into(),
        count(function.arguments.len()),
        count(defaults),
        returned.into(),
        names.into(),
        function.body.as_str().into(),
        (!function.config.is_empty()).then_some(Value::Array(config)).into(),
        print_acl(env, function.acl.as_ref()),
    ]
}
