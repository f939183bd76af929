//! The database a new project has.
//!
//! The roles and the empty schemas are made here; the rest is SQL, run as the platform's superuser,
//! so that it passes through the same rules as everything else.

use std::collections::BTreeMap;

use super::Catalog;
use super::session::Session;
use super::state::acl::{Acl, Rights};
use super::state::lookup::{INFORMATION_SCHEMA, PG_CATALOG};
use super::state::{Database, FIRST_NORMAL_OID, Membership, Oid, PUBLIC, Role, Schema};

/// 2026-01-01 00:00:00 UTC.
const START: i64 = 1_767_225_600_000_000;

const ROLES: &str = include_str!("sql/roles.sql");
const PROJECT: &str = include_str!("sql/project.sql");
const EXTENSIONS: &str = include_str!("sql/extensions.sql");
const OPEN: &str = include_str!("sql/open.sql");

const ADMIN: Oid = 10;
const POSTGRES: Oid = 16;
const DATABASE_OWNER: Oid = 6_171;

/// Makes a new project's database, with or without the grants on whatever is created in `public`.
pub(super) fn catalog(open: bool) -> Catalog {
    let mut session = Session::new(empty(), ADMIN, START);
    let scripts = [ROLES, PROJECT, EXTENSIONS, if open { OPEN } else { "" }];
    // The scripts are constants; a test asks for what their last statements make.
    let _ = session.script(&scripts.concat().replace("{owner}", "postgres"));
    Catalog { db: session.finish(), now: START }
}

fn empty() -> Database {
    let mut db = Database {
        next_oid: FIRST_NORMAL_OID,
        roles: BTreeMap::new(),
        members: Vec::new(),
        schemas: BTreeMap::new(),
        relations: BTreeMap::new(),
        functions: BTreeMap::new(),
        policies: BTreeMap::new(),
        default_acls: Vec::new(),
        extensions: BTreeMap::new(),
        comments: Vec::new(),
        owner: POSTGRES,
        drawn: 0,
    };
    let admin = Role {
        superuser: true,
        bypass_rls: true,
        create_role: true,
        create_db: true,
        login: true,
        replication: true,
        ..role(ADMIN, "supabase_admin")
    };
    let postgres = Role { superuser: false, ..admin.clone() };
    let postgres = Role { oid: POSTGRES, name: "postgres".to_owned(), ..postgres };
    for role in [admin, postgres, role(DATABASE_OWNER, "pg_database_owner")] {
        db.roles.insert(role.oid, role);
    }
    // Whoever owns the database is this role.
    db.members.push(Membership {
        role: DATABASE_OWNER,
        member: POSTGRES,
        grantor: ADMIN,
        admin: false,
    });
    let system = [(PG_CATALOG, "pg_catalog"), (INFORMATION_SCHEMA, "information_schema")];
    for (oid, name) in system {
        db.schemas.insert(oid, schema(oid, name, ADMIN));
    }
    db.schemas.insert(2_200, schema(2_200, "public", DATABASE_OWNER));
    db
}

fn role(oid: Oid, name: &str) -> Role {
    Role {
        oid,
        name: name.to_owned(),
        superuser: false,
        inherit: true,
        create_role: false,
        create_db: false,
        login: false,
        replication: false,
        bypass_rls: false,
        connection_limit: -1,
        config: Vec::new(),
    }
}

fn schema(oid: Oid, name: &str, owner: Oid) -> Schema {
    let mut acl = Acl::default();
    acl.add(owner, owner, Rights::SCHEMA, Rights::NONE);
    acl.add(PUBLIC, owner, Rights::USAGE, Rights::NONE);
    Schema { oid, name: name.to_owned(), owner, acl: Some(acl) }
}
