//! `GRANT`, `REVOKE` and default privileges.

use super::super::error::{SqlError, code};
use super::super::parse::statement::{DefaultPrivileges, Grant, GrantTarget, RightsSpec};
use super::super::session::Exec;
use super::super::state::acl::{Acl, Revocation, Rights};
use super::super::state::roles::Target;
use super::super::state::{DefaultAcl, GrantObject, Oid, PUBLIC, RelationKind};
use super::{grantee_of, role_of, routine};

/// One object with its kind.
#[derive(Debug, Clone, Copy)]
enum Subject {
    Relation(Oid),
    Schema(Oid),
    Function(Oid),
}

/// What is given or taken, and between whom.
#[derive(Debug, Clone, Copy)]
struct Change<'g> {
    revoke: bool,
    option: bool,
    cascade: bool,
    roles: &'g [Oid],
}

pub(super) fn run(exec: &mut Exec, grant: &Grant) -> Result<(), SqlError> {
    let subjects = subjects(exec, &grant.on)?;
    let roles: Vec<Oid> =
        grant.roles.iter().map(|role| grantee_of(exec, role)).collect::<Result<_, _>>()?;
    if grant.option && !grant.revoke && roles.contains(&PUBLIC) {
        let text = "grant options can only be granted to roles";
        return Err(SqlError::new(code::INVALID_GRANT, text));
    }
    let (revoke, option, cascade) = (grant.revoke, grant.option, grant.cascade);
    let change = Change { revoke, option, cascade, roles: &roles };
    for subject in subjects {
        one(exec, subject, &grant.rights, change)?;
    }
    Ok(())
}

fn subjects(exec: &Exec, on: &GrantTarget) -> Result<Vec<Subject>, SqlError> {
    let env = exec.env();
    let resolver = env.resolver();
    match on {
        GrantTarget::Relations(names, sequence) => names
            .iter()
            .map(|name| {
                let relation = resolver.user_relation(name)?;
                if relation.kind == RelationKind::Index {
                    let text = format!("\"{}\" is an index", relation.name);
                    return Err(SqlError::new(code::WRONG_OBJECT_TYPE, text));
                }
                if *sequence && relation.kind != RelationKind::Sequence {
                    let text = format!("\"{}\" is not a sequence", relation.name);
                    return Err(SqlError::new(code::WRONG_OBJECT_TYPE, text));
                }
                Ok(Subject::Relation(relation.oid))
            })
            .collect(),
        GrantTarget::Schemas(names) => names
            .iter()
            .map(|name| {
                let found = exec.db.schema_named(name);
                let found = found.ok_or_else(|| SqlError::undefined_schema(name))?;
                Ok(Subject::Schema(found.oid))
            })
            .collect(),
        GrantTarget::Functions(functions) => functions
            .iter()
            .map(|function| Ok(Subject::Function(routine::find(exec, function)?)))
            .collect(),
        GrantTarget::All(object, schemas) => {
            let mut found = Vec::new();
            for name in schemas {
                let schema = resolver.schema(name)?.oid;
                found.extend(all_in(exec, schema, *object));
            }
            Ok(found)
        }
    }
}

fn all_in(exec: &Exec, schema: Oid, object: GrantObject) -> Vec<Subject> {
    let functions = exec.db.functions.values().filter(|function| function.schema == schema);
    if object == GrantObject::Function {
        return functions.map(|function| Subject::Function(function.oid)).collect();
    }
    let sequences = object == GrantObject::Sequence;
    let relations = exec.db.relations.values().filter(|relation| {
        relation.schema == schema
            && relation.kind != RelationKind::Index
            && (relation.kind == RelationKind::Sequence) == sequences
    });
    relations.map(|relation| Subject::Relation(relation.oid)).collect()
}

fn one(
    exec: &mut Exec,
    subject: Subject,
    rights: &RightsSpec,
    change: Change<'_>,
) -> Result<(), SqlError> {
    let (target, name, kind) = target(exec, subject)?;
    let object = target.object;
    let Wanted { whole, columns } = wanted(rights, object, kind)?;
    let (grantor, grantable) = grantor(exec, &target, whole);
    if grantable.is_none() {
        let held = exec.db.rights_on(&target, exec.role());
        if held.is_none() {
            return Err(SqlError::denied(kind, &name));
        }
        // Who holds a right without the option to hand it on changes nothing; the server warns.
        return Ok(());
    }
    let owner = target.owner;
    let mut acl = target.acl.cloned().unwrap_or_else(|| Acl::default_for(object, owner));
    apply(&mut acl, (whole.and(grantable), grantor, owner), change)?;
    store(exec, subject, acl)?;
    column_rights(exec, subject, (&columns, whole, grantable, grantor), change)
}

/// A right with the columns it is about.
type ColumnRights = (Rights, Vec<String>);

/// Rights on the whole object, and those on columns.
struct Wanted {
    whole: Rights,
    columns: Vec<ColumnRights>,
}

fn wanted(rights: &RightsSpec, object: GrantObject, kind: &str) -> Result<Wanted, SqlError> {
    let Some(listed) = &rights.0 else {
        return Ok(Wanted { whole: object.all_rights(), columns: Vec::new() });
    };
    let mut wanted = Wanted { whole: Rights::NONE, columns: Vec::new() };
    for (right, columns) in listed {
        let word = right.words().map(|(_, word)| word).next().unwrap_or_default();
        let fits = object.all_rights().has(*right);
        if !fits || (!columns.is_empty() && !Rights::COLUMN.has(*right)) {
            let text = format!("invalid privilege type {word} for {kind}");
            return Err(SqlError::new(code::INVALID_GRANT, text));
        }
        if columns.is_empty() {
            wanted.whole = wanted.whole.or(*right);
        } else {
            wanted.columns.push((*right, columns.clone()));
        }
    }
    Ok(wanted)
}

fn target(exec: &Exec, subject: Subject) -> Result<(Target<'_>, String, &'static str), SqlError> {
    let missing = || SqlError::internal("an object is missing");
    match subject {
        Subject::Relation(oid) => {
            let relation = exec.db.relation(oid)?;
            Ok((relation.target(), relation.name.clone(), relation.kind.word()))
        }
        Subject::Schema(oid) => {
            let schema = exec.db.schemas.get(&oid).ok_or_else(missing)?;
            Ok((schema.target(), schema.name.clone(), "schema"))
        }
        Subject::Function(oid) => {
            let function = exec.db.functions.get(&oid).ok_or_else(missing)?;
            Ok((function.target(), function.name.clone(), "function"))
        }
    }
}

/// Chooses in whose name the current role gives rights, and which it may give.
fn grantor(exec: &Exec, target: &Target<'_>, wanted: Rights) -> (Oid, Rights) {
    let role = exec.role();
    if exec.db.has_rights_of(role, target.owner) {
        return (target.owner, target.object.all_rights());
    }
    let options = |candidate: Oid| {
        target.acl.map_or(Rights::NONE, |acl| acl.grantable(|grantee| grantee == candidate))
    };
    let others = exec.db.roles.keys().copied().filter(|other| exec.db.has_rights_of(role, *other));
    let mut best = (role, options(role));
    for other in others {
        let available = options(other);
        let better = available.and(wanted).words().count() > best.1.and(wanted).words().count();
        if better {
            best = (other, available);
        }
    }
    best
}

fn apply(
    acl: &mut Acl,
    (rights, grantor, owner): (Rights, Oid, Oid),
    change: Change<'_>,
) -> Result<(), SqlError> {
    if rights.is_none() {
        return Ok(());
    }
    for grantee in change.roles {
        if change.revoke {
            let taken = Revocation {
                grantee: *grantee,
                grantor,
                rights,
                options_only: change.option,
                cascade: change.cascade,
            };
            acl.revoke(&taken, owner)?;
        } else {
            let options = if change.option { rights } else { Rights::NONE };
            acl.add(*grantee, grantor, rights, options);
        }
    }
    Ok(())
}

fn store(exec: &mut Exec, subject: Subject, acl: Acl) -> Result<(), SqlError> {
    match subject {
        Subject::Relation(oid) => exec.db.relation_mut(oid)?.acl = Some(acl),
        Subject::Schema(oid) => {
            if let Some(schema) = exec.db.schemas.get_mut(&oid) {
                schema.acl = Some(acl);
            }
        }
        Subject::Function(oid) => {
            if let Some(function) = exec.db.functions.get_mut(&oid) {
                function.acl = Some(acl);
            }
        }
    }
    Ok(())
}

/// Changes rights on columns; taking a right from a table takes it from each column too.
fn column_rights(
    exec: &mut Exec,
    subject: Subject,
    (listed, whole, grantable, grantor): (&[ColumnRights], Rights, Rights, Oid),
    change: Change<'_>,
) -> Result<(), SqlError> {
    let Subject::Relation(oid) = subject else { return Ok(()) };
    let relation = exec.db.relation_mut(oid)?;
    let owner = relation.owner;
    let mut places = Vec::new();
    for (right, columns) in listed {
        for column in columns {
            places.push((relation.require_column(column)?, *right));
        }
    }
    if change.revoke {
        let taken = whole.and(Rights::COLUMN);
        places.extend((0..relation.columns.len()).map(|place| (place, taken)));
    }
    for (place, rights) in places {
        let Some(column) = relation.columns.get_mut(place) else { continue };
        let mut acl = column.acl.clone().unwrap_or_default();
        apply(&mut acl, (rights.and(grantable), grantor, owner), change)?;
        column.acl = (!acl.0.is_empty()).then_some(acl);
    }
    Ok(())
}

pub(super) fn defaults(exec: &mut Exec, defaults: &DefaultPrivileges) -> Result<(), SqlError> {
    let mut owners = Vec::new();
    for owner in &defaults.owners {
        let owner = role_of(exec, owner)?;
        super::check_new_owner(exec, owner)?;
        owners.push(owner);
    }
    if owners.is_empty() {
        owners.push(exec.role());
    }
    let mut schemas = Vec::new();
    for name in &defaults.schemas {
        let found = exec.db.schema_named(name).ok_or_else(|| SqlError::undefined_schema(name))?;
        schemas.push(Some(found.oid));
    }
    if schemas.is_empty() {
        schemas.push(None);
    } else if defaults.object == GrantObject::Schema {
        let text = "cannot use IN SCHEMA clause when using GRANT/REVOKE ON SCHEMAS";
        return Err(SqlError::new(code::INVALID_GRANT, text));
    }
    let roles: Vec<Oid> =
        defaults.roles.iter().map(|role| grantee_of(exec, role)).collect::<Result<_, _>>()?;
    if defaults.option && !defaults.revoke && roles.contains(&PUBLIC) {
        let text = "grant options can only be granted to roles";
        return Err(SqlError::new(code::INVALID_GRANT, text));
    }
    let object = defaults.object;
    let Wanted { whole, columns } = wanted(&defaults.rights, object, object.word())?;
    if !columns.is_empty() {
        let text = "default privileges cannot be set for columns";
        return Err(SqlError::new(code::INVALID_GRANT, text));
    }
    let (revoke, option, cascade) = (defaults.revoke, defaults.option, defaults.cascade);
    let change = Change { revoke, option, cascade, roles: &roles };
    for owner in owners {
        for schema in &schemas {
            set_default(exec, (owner, *schema, object), whole, change)?;
        }
    }
    Ok(())
}

fn set_default(
    exec: &mut Exec,
    (role, schema, object): (Oid, Option<Oid>, GrantObject),
    rights: Rights,
    change: Change<'_>,
) -> Result<(), SqlError> {
    // For all schemas the list replaces the server's own; for one schema it is added to that.
    let standard = match schema {
        None => Acl::default_for(object, role),
        Some(_) => Acl::default(),
    };
    let same =
        |known: &DefaultAcl| known.role == role && known.schema == schema && known.object == object;
    let known = exec.db.default_acls.iter().find(|known| same(known));
    let mut acl = known.map_or_else(|| standard.clone(), |known| known.acl.clone());
    apply(&mut acl, (rights, role, role), change)?;
    exec.db.default_acls.retain(|known| !same(known));
    if acl != standard {
        exec.db.default_acls.push(DefaultAcl { role, schema, object, acl });
    }
    Ok(())
}
