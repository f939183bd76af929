//! Functions.

use std::cell::RefCell;

use super::super::bind::scope::Scope;
use super::super::bind::uses::Uses;
use super::super::bind::{Binder, keep, routine as body};
use super::super::error::{SqlError, code};
use super::super::parse::statement::{
    AlterFunction, CreateFunction, FunctionOptions, FunctionRef, ReturnsSpec, RoleSpec, TypeSpec,
};
use super::super::run::settings;
use super::super::session::Exec;
use super::super::state::{Argument, Function, GrantObject, Oid, Returns, Shape, Volatility};
use super::super::value::sql_type::Type;
use super::{check_new_owner, initial_acl, role_of};

pub(super) fn create(exec: &mut Exec, create: &CreateFunction) -> Result<(), SqlError> {
    let schema = exec.env().resolver().creation_schema(&create.name)?.oid;
    let owner = exec.role();
    let mut function = Function {
        oid: 0,
        schema,
        name: create.name.name.clone(),
        owner,
        acl: initial_acl(&exec.db, GrantObject::Function, owner, Some(schema)),
        arguments: arguments(exec, create)?,
        returns: returns(exec, &create.returns)?,
        body: create.body.clone(),
        definer: create.options.definer.unwrap_or(false),
        strict: create.options.strict.unwrap_or(false),
        volatility: create.options.volatility.unwrap_or(Volatility::Volatile),
        config: Vec::new(),
    };
    configure(&mut function, &create.options)?;
    check_names(&function)?;
    check_body(exec, &function)?;
    let same = |known: &&Function| known.argument_types().eq(function.argument_types());
    let known = exec.db.functions_in(schema, &function.name).find(same).cloned();
    if let Some(known) = known {
        return replace(exec, create, (&known, function));
    }
    function.oid = exec.db.take_oid();
    exec.db.functions.insert(function.oid, function);
    Ok(())
}

/// Replaces a function: owner and rights stay, and so must the shape of its result.
fn replace(
    exec: &mut Exec,
    create: &CreateFunction,
    (known, mut function): (&Function, Function),
) -> Result<(), SqlError> {
    if !create.or_replace {
        let text =
            format!("function \"{}\" already exists with same argument types", create.name.name);
        return Err(SqlError::new(code::DUPLICATE_FUNCTION, text));
    }
    if !exec.db.has_rights_of(exec.role(), known.owner) {
        return Err(SqlError::not_owner("function", &known.name));
    }
    if known.returns.set != function.returns.set || known.returns.shape != function.returns.shape {
        let text = "cannot change return type of existing function";
        return Err(SqlError::new(code::INVALID_FUNCTION, text));
    }
    let renamed = known
        .arguments
        .iter()
        .zip(&function.arguments)
        .any(|(old, new)| old.name.is_some() && old.name != new.name);
    if renamed {
        let text = "cannot change name of input parameter";
        return Err(SqlError::new(code::INVALID_FUNCTION, text));
    }
    function.oid = known.oid;
    function.owner = known.owner;
    function.acl = known.acl.clone();
    exec.db.functions.insert(known.oid, function);
    Ok(())
}

fn arguments(exec: &Exec, create: &CreateFunction) -> Result<Vec<Argument>, SqlError> {
    let env = exec.env();
    let mut found = Vec::new();
    for spec in &create.arguments {
        if matches!(spec.ty, Type::Void | Type::Record | Type::Unknown) {
            let text = format!("SQL functions cannot have arguments of type {}", spec.ty.label());
            return Err(SqlError::new(code::INVALID_FUNCTION, text));
        }
        let default = match &spec.default {
            None => None,
            Some(expr) => {
                let uses = RefCell::new(Uses::default());
                let binder = Binder::new(&env, &uses);
                let typed = binder.expr(expr, &Scope::ROOT)?;
                binder.implicit(&typed, &spec.ty)?;
                Some(keep(&env, expr, uses.into_inner())?)
            }
        };
        found.push(Argument { name: spec.name.clone(), ty: spec.ty.base(), default });
    }
    Ok(found)
}

fn returns(exec: &Exec, spec: &ReturnsSpec) -> Result<Returns, SqlError> {
    Ok(match spec {
        ReturnsSpec::Table(columns) => {
            let columns = columns.iter().map(|(name, ty)| (name.clone(), ty.base())).collect();
            Returns { set: true, shape: Shape::Table(columns) }
        }
        ReturnsSpec::Type { ty: TypeSpec::Known(Type::Record), .. } => {
            return Err(SqlError::unsupported("functions that return record"));
        }
        ReturnsSpec::Type { ty: TypeSpec::Known(ty), set } => {
            Returns { set: *set, shape: Shape::Scalar(ty.base()) }
        }
        ReturnsSpec::Type { ty: TypeSpec::Relation(name), set } => {
            let env = exec.env();
            let relation = env.resolver().user_relation(name).map_err(|error| {
                if error.sqlstate == code::UNDEFINED_TABLE {
                    let text = format!("type \"{name}\" does not exist");
                    return SqlError::new(code::UNDEFINED_OBJECT, text);
                }
                error
            })?;
            Returns { set: *set, shape: Shape::Relation(relation.oid) }
        }
    })
}

fn check_names(function: &Function) -> Result<(), SqlError> {
    let inputs = function.arguments.iter().filter_map(|argument| argument.name.as_ref());
    let mut names: Vec<&String> = inputs.collect();
    if let Shape::Table(columns) = &function.returns.shape {
        names.extend(columns.iter().map(|(name, _)| name));
    }
    names.sort_unstable();
    let twice = names.windows(2).find_map(|pair| match pair {
        [a, b] if a == b => Some(*a),
        _ => None,
    });
    match twice {
        Some(name) => {
            let text = format!("parameter name \"{name}\" used more than once");
            Err(SqlError::new(code::INVALID_FUNCTION, text))
        }
        None => Ok(()),
    }
}

/// Applies the options that set something.
fn configure(function: &mut Function, options: &FunctionOptions) -> Result<(), SqlError> {
    if options.reset_all {
        function.config.clear();
    }
    for (name, value) in &options.config {
        function.config.retain(|known| known.split_once('=').is_none_or(|(key, _)| key != name));
        if let Some(value) = value {
            if name == "role" {
                return Err(SqlError::unsupported("functions that SET role"));
            }
            // An empty path is kept as the server keeps it, as a name without letters.
            let value = settings::check(name, value)?;
            let empty = name == "search_path" && value.is_empty();
            let value = if empty { "\"\"".to_owned() } else { value };
            function.config.push(format!("{name}={value}"));
        }
    }
    Ok(())
}

/// Checks the body as the function will see it, unless checks were switched off.
fn check_body(exec: &Exec, function: &Function) -> Result<(), SqlError> {
    body::parse_body(&function.body)?;
    if exec.shared.settings.borrow().is_off("check_function_bodies") {
        return Ok(());
    }
    let mut env = exec.env();
    for setting in &function.config {
        if let Some(("search_path", path)) = setting.split_once('=') {
            env.path = settings::split_path(path);
        }
    }
    body::check(&env, function)
}

/// Finds the one function a name means.
pub(super) fn find(exec: &Exec, function: &FunctionRef) -> Result<Oid, SqlError> {
    let env = exec.env();
    let candidates = env.resolver().functions(&function.name)?;
    let name = &function.name;
    match &function.types {
        Some(types) => {
            let wanted = || types.iter().map(Type::base);
            let mut found = candidates.into_iter().filter(|c| c.argument_types().eq(wanted()));
            found.next().map(|found| found.oid).ok_or_else(|| {
                let types: Vec<String> = wanted().map(|ty| ty.label()).collect();
                let text = format!("function {name}({}) does not exist", types.join(", "));
                SqlError::new(code::UNDEFINED_FUNCTION, text)
            })
        }
        None => match candidates.as_slice() {
            [only] => Ok(only.oid),
            [] => {
                let text = format!("could not find a function named \"{name}\"");
                Err(SqlError::new(code::UNDEFINED_FUNCTION, text))
            }
            _ => {
                let text = format!("function name \"{name}\" is not unique");
                Err(SqlError::new(code::AMBIGUOUS_FUNCTION, text))
            }
        },
    }
}

pub(super) fn alter(exec: &mut Exec, alter: &AlterFunction) -> Result<(), SqlError> {
    let oid = owned(exec, &alter.function)?;
    let function = exec.db.functions.get_mut(&oid);
    let function = function.ok_or_else(|| SqlError::internal("a function is missing"))?;
    let options = &alter.options;
    function.definer = options.definer.unwrap_or(function.definer);
    function.strict = options.strict.unwrap_or(function.strict);
    function.volatility = options.volatility.unwrap_or(function.volatility);
    configure(function, options)
}

fn owned(exec: &Exec, function: &FunctionRef) -> Result<Oid, SqlError> {
    let oid = find(exec, function)?;
    let found = exec.db.functions.get(&oid);
    let found = found.ok_or_else(|| SqlError::internal("a function is missing"))?;
    if exec.db.has_rights_of(exec.role(), found.owner) {
        return Ok(oid);
    }
    Err(SqlError::not_owner("function", &found.name))
}

pub(super) fn change_owner(
    exec: &mut Exec,
    function: &FunctionRef,
    owner: &RoleSpec,
) -> Result<(), SqlError> {
    let oid = owned(exec, function)?;
    let owner = role_of(exec, owner)?;
    check_new_owner(exec, owner)?;
    let schema = exec.db.functions.get(&oid).map(|function| function.schema).unwrap_or_default();
    super::check_owner_may_create(exec, schema, owner)?;
    let function = exec.db.functions.get_mut(&oid);
    let function = function.ok_or_else(|| SqlError::internal("a function is missing"))?;
    let before = std::mem::replace(&mut function.owner, owner);
    if let Some(acl) = &mut function.acl {
        acl.change_owner(before, owner);
    }
    Ok(())
}
