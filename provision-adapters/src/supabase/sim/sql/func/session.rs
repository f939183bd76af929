//! Functions that ask about the session, the clock, randomness and sequences.

use super::super::error::{SqlError, code};
use super::super::run::Env;
use super::super::state::acl::Rights;
use super::super::value::Value;
use super::super::value::sql_type::Type;
use super::super::value::time;
use super::Parameter::Is;
use super::{Builtin, Parameter, Returns, str_at, strict};

const NAME: Returns = Returns::Is(Type::Name);
const TEXT: Returns = Returns::Is(Type::Text);
const MOMENT: Returns = Returns::Is(Type::Timestamptz);

pub(super) static LIST: &[Builtin] = &[
    strict("current_user", &[], NAME, |env, _, _| Ok(env.db.role(env.role)?.name.as_str().into())),
    strict("session_user", &[], NAME, |env, _, _| {
        Ok(env.db.role(env.shared.session_role)?.name.as_str().into())
    }),
    strict("current_database", &[], NAME, |_, _, _| Ok("postgres".into())),
    strict("version", &[], TEXT, |_, _, _| Ok("PostgreSQL 15.8 (catalog model)".into())),
    strict("current_schema", &[], NAME, |env, _, _| {
        let first = env.resolver().schemas();
        let named = first.iter().find(|oid| {
            env.path.iter().any(|name| {
                let user = env.db.roles.get(&env.role).map(|role| role.name.as_str());
                let name = if name == "$user" { user.unwrap_or_default() } else { name };
                env.db.schema_name(**oid) == name
            })
        });
        Ok(named.map(|oid| env.db.schema_name(*oid)).into())
    }),
    strict("now", &[], MOMENT, |env, _, _| Ok(Value::Time(env.shared.now))),
    strict("transaction_timestamp", &[], MOMENT, |env, _, _| Ok(Value::Time(env.shared.now))),
    strict("current_date", &[], Returns::Is(Type::Date), |env, _, _| {
        Ok(Value::Date(time::date_of(env.shared.now)))
    }),
    strict("gen_random_uuid", &[], Returns::Is(Type::Uuid), |env, _, _| Ok(random_uuid(env))),
    setting("current_setting", &[Is(Type::Text)], |env, a, _| {
        let name = str_at(a, 0).to_ascii_lowercase();
        env.setting(&name).map(Value::Text).ok_or_else(|| unknown(&name))
    }),
    setting("current_setting", &[Is(Type::Text), Is(Type::Bool)], |env, a, _| {
        let name = str_at(a, 0).to_ascii_lowercase();
        match env.setting(&name) {
            Some(value) => Ok(Value::Text(value)),
            None if a.get(1).is_some_and(Value::is_true) => Ok(Value::Null),
            None => Err(unknown(&name)),
        }
    }),
    setting("set_config", &[Is(Type::Text), Is(Type::Text), Is(Type::Bool)], |env, a, _| {
        let (name, value) = (str_at(a, 0).to_ascii_lowercase(), str_at(a, 1));
        let local = a.get(2).is_some_and(Value::is_true);
        if name == "role" {
            let role = env
                .db
                .role_oid(value)
                .map_err(|error| SqlError::new(code::INVALID_PARAMETER, error.message))?;
            if !env.db.is_member(env.shared.session_role, role) {
                let text = format!("permission denied to set role \"{value}\"");
                return Err(SqlError::new(code::INSUFFICIENT_PRIVILEGE, text));
            }
            env.shared.settings.borrow_mut().set_role(Some(role), local);
        } else {
            env.shared.settings.borrow_mut().set(&name, Some(value), local)?;
        }
        Ok(value.into())
    }),
    strict("nextval", &[Is(Type::Regclass)], Returns::Is(Type::Int8), |env, a, _| {
        next_value(env, a.first().and_then(Value::as_oid).unwrap_or_default(), true)
    }),
];

const fn setting(
    name: &'static str,
    parameters: &'static [Parameter],
    body: super::Body,
) -> Builtin {
    strict(name, parameters, TEXT, body)
}

fn unknown(name: &str) -> SqlError {
    let text = format!("unrecognized configuration parameter \"{name}\"");
    SqlError::new(code::UNDEFINED_OBJECT, text)
}

/// Draws the next identifier of a sequence that depends on nothing but how many were drawn.
fn random_uuid(env: &Env<'_>) -> Value {
    let drawn = env.shared.drawn.get().saturating_add(1);
    env.shared.drawn.set(drawn);
    let high = mix(drawn);
    let low = mix(high ^ drawn);
    let bytes = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
    Value::Uuid(uuid::Builder::from_random_bytes(bytes).into_uuid())
}

/// Spreads the bits of a counter (the finalizer of `SplitMix64`).
fn mix(value: u64) -> u64 {
    let mut bits = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Advances a sequence; identity columns do so without asking for rights.
pub(crate) fn next_value(env: &Env<'_>, oid: u32, checked: bool) -> Result<Value, SqlError> {
    let relation = env.db.relations.get(&oid);
    let Some((relation, sequence)) = relation.and_then(|r| Some((r, r.sequence.as_ref()?))) else {
        let text = format!("relation {oid} is not a sequence");
        return Err(SqlError::new(code::WRONG_OBJECT_TYPE, text));
    };
    let held = env.db.rights_on(&relation.target(), env.role);
    if checked && !held.meets(Rights::USAGE.or(Rights::UPDATE)) {
        return Err(SqlError::denied("sequence", &relation.name));
    }
    if env.shared.settings.borrow().read_only {
        let text = "cannot execute nextval() in a read-only transaction";
        return Err(SqlError::new(code::READ_ONLY, text));
    }
    let mut positions = env.shared.sequences.borrow_mut();
    let value = positions.get(&oid).copied().unwrap_or(sequence.next);
    let following = value.checked_add(sequence.increment);
    positions.insert(
        oid,
        following.ok_or_else(|| {
            let text = format!("nextval: reached maximum value of sequence \"{}\"", relation.name);
            SqlError::new("2200H", text)
        })?,
    );
    Ok(Value::Int(value))
}
