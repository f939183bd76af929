//! Catalogs about roles, rights and policies.

use super::super::error::SqlError;
use super::super::parse::routine::qualified_name;
use super::super::run::Env;
use super::super::state::acl::{Acl, Rights};
use super::super::state::lookup::{PG_CATALOG, quote_ident};
use super::super::state::{Oid, PUBLIC, Policy, Row, StoredSql};
use super::super::value::Value;
use super::super::value::sql_type::Type;
use super::ColumnType::{Many, One};
use super::{SystemRelation, print};

pub(super) static LIST: &[SystemRelation] = &[
    SystemRelation {
        schema: PG_CATALOG,
        name: "pg_policy",
        view: false,
        complete: true,
        columns: &[
            ("oid", One(Type::Oid)),
            ("polname", One(Type::Name)),
            ("polrelid", One(Type::Oid)),
            ("polcmd", One(Type::InternalChar)),
            ("polpermissive", One(Type::Bool)),
            ("polroles", Many(Type::Oid)),
            ("polqual", One(Type::NodeTree)),
            ("polwithcheck", One(Type::NodeTree)),
        ],
        rows: pg_policy,
    },
    SystemRelation {
        schema: PG_CATALOG,
        name: "pg_policies",
        view: true,
        complete: true,
        columns: &[
            ("schemaname", One(Type::Name)),
            ("tablename", One(Type::Name)),
            ("policyname", One(Type::Name)),
            ("permissive", One(Type::Text)),
            ("roles", Many(Type::Name)),
            ("cmd", One(Type::Text)),
            ("qual", One(Type::Text)),
            ("with_check", One(Type::Text)),
        ],
        rows: pg_policies,
    },
    SystemRelation {
        schema: PG_CATALOG,
        name: "pg_rules",
        view: true,
        complete: false,
        columns: &[
            ("schemaname", One(Type::Name)),
            ("tablename", One(Type::Name)),
            ("rulename", One(Type::Name)),
        ],
        // No rule can be made here: these are the server's own.
        rows: |_| {
            let row = |rule: &str| vec!["pg_catalog".into(), "pg_settings".into(), rule.into()];
            Ok(["pg_settings_n", "pg_settings_u"].map(row).into())
        },
    },
    SystemRelation {
        schema: PG_CATALOG,
        name: "pg_roles",
        view: true,
        complete: false,
        columns: &[
            ("oid", One(Type::Oid)),
            ("rolname", One(Type::Name)),
            ("rolsuper", One(Type::Bool)),
            ("rolinherit", One(Type::Bool)),
            ("rolcreaterole", One(Type::Bool)),
            ("rolcreatedb", One(Type::Bool)),
            ("rolcanlogin", One(Type::Bool)),
            ("rolreplication", One(Type::Bool)),
            ("rolconnlimit", One(Type::Int4)),
            ("rolbypassrls", One(Type::Bool)),
            ("rolconfig", Many(Type::Text)),
        ],
        rows: pg_roles,
    },
    SystemRelation {
        schema: PG_CATALOG,
        name: "pg_auth_members",
        view: false,
        complete: true,
        columns: &[
            ("roleid", One(Type::Oid)),
            ("member", One(Type::Oid)),
            ("grantor", One(Type::Oid)),
            ("admin_option", One(Type::Bool)),
        ],
        rows: |env| {
            let row = |m: &super::super::state::Membership| {
                vec![m.role.into(), m.member.into(), m.grantor.into(), m.admin.into()]
            };
            Ok(env.db.members.iter().map(row).collect())
        },
    },
    SystemRelation {
        schema: PG_CATALOG,
        name: "pg_default_acl",
        view: false,
        complete: false,
        columns: &[
            ("defaclrole", One(Type::Oid)),
            ("defaclnamespace", One(Type::Oid)),
            ("defaclobjtype", One(Type::InternalChar)),
            ("defaclacl", Many(Type::AclItem)),
        ],
        rows: |env| {
            let row = |default: &super::super::state::DefaultAcl| {
                vec![
                    default.role.into(),
                    default.schema.unwrap_or_default().into(),
                    default.object.letter().into(),
                    print_acl(env, Some(&default.acl)),
                ]
            };
            Ok(env.db.default_acls.iter().map(row).collect())
        },
    },
];

fn pg_policy(env: &Env<'_>) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for policy in env.db.policies.values() {
        rows.push(vec![
            policy.oid.into(),
            policy.name.as_str().into(),
            policy.relation.into(),
            policy.command.letter().into(),
            policy.permissive.into(),
            Value::Array(policy.roles.iter().map(|role| (*role).into()).collect()),
            condition(env, policy.using.as_ref())?,
            condition(env, policy.check.as_ref())?,
        ]);
    }
    Ok(rows)
}

fn condition(env: &Env<'_>, sql: Option<&StoredSql>) -> Result<Value, SqlError> {
    sql.map(|sql| print::expression(env, sql)).transpose().map(|text| text.map(Value::Text).into())
}

fn pg_policies(env: &Env<'_>) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for policy in env.db.policies.values() {
        let relation = env.db.relation(policy.relation)?;
        let permissive = if policy.permissive { "PERMISSIVE" } else { "RESTRICTIVE" };
        rows.push(vec![
            env.db.schema_name(relation.schema).into(),
            relation.name.as_str().into(),
            policy.name.as_str().into(),
            permissive.into(),
            Value::Array(role_names(env, policy)),
            policy.command.word().into(),
            condition(env, policy.using.as_ref())?,
            condition(env, policy.check.as_ref())?,
        ]);
    }
    Ok(rows)
}

fn role_names(env: &Env<'_>, policy: &Policy) -> Vec<Value> {
    if policy.roles.contains(&PUBLIC) {
        return vec!["public".into()];
    }
    let mut names: Vec<&str> = policy
        .roles
        .iter()
        .filter_map(|role| env.db.roles.get(role))
        .map(|role| role.name.as_str())
        .collect();
    names.sort_unstable();
    names.into_iter().map(Value::from).collect()
}

fn pg_roles(env: &Env<'_>) -> Result<Vec<Row>, SqlError> {
    let row = |role: &super::super::state::Role| {
        let config = role.config.iter().map(|setting| setting.as_str().into()).collect();
        vec![
            role.oid.into(),
            role.name.as_str().into(),
            role.superuser.into(),
            role.inherit.into(),
            role.create_role.into(),
            role.create_db.into(),
            role.login.into(),
            role.replication.into(),
            Value::Int(role.connection_limit),
            role.bypass_rls.into(),
            (!role.config.is_empty()).then_some(Value::Array(config)).into(),
        ]
    };
    Ok(env.db.roles.values().map(row).collect())
}

fn role_name(env: &Env<'_>, role: Oid) -> String {
    if role == PUBLIC {
        return String::new();
    }
    env.db.roles.get(&role).map_or_else(|| role.to_string(), |role| quote_ident(&role.name))
}

/// Prints an access control list as `aclitem[]`; one that is the default is null.
pub(crate) fn print_acl(env: &Env<'_>, acl: Option<&Acl>) -> Value {
    let Some(acl) = acl else { return Value::Null };
    let item = |item: &super::super::state::acl::AclItem| {
        let (grantee, grantor) = (role_name(env, item.grantee), role_name(env, item.grantor));
        Value::Text(format!("{grantee}={}/{grantor}", item.letters()))
    };
    Value::Array(acl.0.iter().map(item).collect())
}

/// The list of the catalogs' own relations.
pub(super) fn readable_by_all(env: &Env<'_>) -> Value {
    let Some(owner) = env.db.roles.values().find(|role| role.superuser) else { return Value::Null };
    let mut acl = Acl::default();
    acl.add(owner.oid, owner.oid, Rights::TABLE, Rights::NONE);
    acl.add(PUBLIC, owner.oid, Rights::SELECT, Rights::NONE);
    print_acl(env, Some(&acl))
}

/// Takes an `aclitem[]` apart: grantor, grantee, right, and whether it may be handed on.
pub(crate) fn acl_explode(env: &Env<'_>, acl: &Value) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for item in acl.elements() {
        let text = item.as_str().unwrap_or_default();
        let broken = || SqlError::internal("an aclitem cannot be read");
        let (rest, grantor) = text.rsplit_once('/').ok_or_else(broken)?;
        let (grantee, letters) = rest.rsplit_once('=').ok_or_else(broken)?;
        let role = |name: &str| match name {
            "" => Ok(PUBLIC),
            name => env.db.role_oid(&qualified_name(name)?.name),
        };
        let (grantor, grantee) = (role(grantor)?, role(grantee)?);
        let mut letters = letters.chars().peekable();
        while let Some(letter) = letters.next() {
            let option = letters.next_if_eq(&'*').is_some();
            let word = Rights::from_letter(letter).ok_or_else(broken)?;
            rows.push(vec![grantor.into(), grantee.into(), word.into(), option.into()]);
        }
    }
    Ok(rows)
}
