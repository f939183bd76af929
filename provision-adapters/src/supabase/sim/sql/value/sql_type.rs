//! The types the model knows, how they are named and when one becomes another.

use serde::{Deserialize, Serialize};
use sqlparser::ast::{ArrayElemTypeDef, CharacterLength, DataType, ExactNumberInfo, TimezoneInfo};

use super::super::error::{SqlError, code};

/// A type of the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Type {
    /// A literal whose type is not decided yet.
    Unknown,
    Void,
    Record,
    Bool,
    Int2,
    Int4,
    Int8,
    /// Precision and scale, where they were given.
    Numeric(Option<(u32, u32)>),
    Float8,
    Text,
    /// Longest length in characters, where it was given.
    Varchar(Option<u32>),
    Name,
    /// The one-byte `"char"` of the catalogs.
    InternalChar,
    Uuid,
    Json,
    Jsonb,
    Timestamp,
    Timestamptz,
    Date,
    Interval,
    Oid,
    Regclass,
    Regrole,
    Regnamespace,
    Regprocedure,
    Regtype,
    AclItem,
    NodeTree,
    Array(Box<Self>),
}

/// When one type becomes another, from the most willing to the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CastLevel {
    Implicit,
    Assignment,
    Explicit,
}

/// Names of server types the model knows to exist and does not have.
const FOREIGN_TYPES: &[&str] = &[
    "bit",
    "bpchar",
    "box",
    "bytea",
    "char",
    "character",
    "cidr",
    "circle",
    "citext",
    "cstring",
    "float4",
    "halfvec",
    "hstore",
    "inet",
    "line",
    "lseg",
    "macaddr",
    "macaddr8",
    "money",
    "path",
    "pg_lsn",
    "point",
    "polygon",
    "real",
    "regproc",
    "smallserial",
    "time",
    "timetz",
    "tsquery",
    "tsvector",
    "varbit",
    "vector",
    "xid",
    "xml",
    "geometry",
    "geography",
    "ltree",
    "int4range",
    "int8range",
    "numrange",
    "tsrange",
    "tstzrange",
    "daterange",
    "anyelement",
    "anyarray",
    "trigger",
    "event_trigger",
];

impl Type {
    pub(crate) fn array(element: Self) -> Self {
        Self::Array(Box::new(element))
    }

    /// Drops length and precision.
    pub(crate) fn base(&self) -> Self {
        match self {
            Self::Varchar(_) => Self::Varchar(None),
            Self::Numeric(_) => Self::Numeric(None),
            Self::Array(element) => Self::array(element.base()),
            other => other.clone(),
        }
    }

    /// Names the type as `format_type` does.
    pub(crate) fn label(&self) -> String {
        let fixed = match self {
            Self::Unknown => "unknown",
            Self::Void => "void",
            Self::Record => "record",
            Self::Bool => "boolean",
            Self::Int2 => "smallint",
            Self::Int4 => "integer",
            Self::Int8 => "bigint",
            Self::Numeric(None) => "numeric",
            Self::Numeric(Some((precision, scale))) => {
                return format!("numeric({precision},{scale})");
            }
            Self::Float8 => "double precision",
            Self::Text => "text",
            Self::Varchar(None) => "character varying",
            Self::Varchar(Some(length)) => return format!("character varying({length})"),
            Self::Name => "name",
            Self::InternalChar => "\"char\"",
            Self::Uuid => "uuid",
            Self::Json => "json",
            Self::Jsonb => "jsonb",
            Self::Timestamp => "timestamp without time zone",
            Self::Timestamptz => "timestamp with time zone",
            Self::Date => "date",
            Self::Interval => "interval",
            Self::Oid => "oid",
            Self::Regclass => "regclass",
            Self::Regrole => "regrole",
            Self::Regnamespace => "regnamespace",
            Self::Regprocedure => "regprocedure",
            Self::Regtype => "regtype",
            Self::AclItem => "aclitem",
            Self::NodeTree => "pg_node_tree",
            Self::Array(element) => return format!("{}[]", element.label()),
        };
        fixed.to_owned()
    }

    pub(crate) fn is_string(&self) -> bool {
        matches!(self, Self::Text | Self::Varchar(_) | Self::Name | Self::InternalChar)
    }

    pub(crate) fn is_number(&self) -> bool {
        self.number_rank().is_some()
    }

    pub(crate) fn is_moment(&self) -> bool {
        matches!(self, Self::Date | Self::Timestamp | Self::Timestamptz)
    }

    /// Tells the types whose values are numbers of objects.
    pub(crate) fn is_object_id(&self) -> bool {
        self.is_registered() || *self == Self::Oid
    }

    /// Tells the types that print an object's number as its name.
    pub(crate) fn is_registered(&self) -> bool {
        matches!(
            self,
            Self::Regclass
                | Self::Regrole
                | Self::Regnamespace
                | Self::Regprocedure
                | Self::Regtype
        )
    }

    /// Tells the types with an equality, which the server demands for keys, `DISTINCT` and `IN`.
    pub(crate) fn has_equality(&self) -> bool {
        match self {
            Self::Json | Self::NodeTree | Self::Void | Self::Record => false,
            Self::Array(element) => element.has_equality(),
            _ => true,
        }
    }

    fn number_rank(&self) -> Option<u8> {
        match self {
            Self::Int2 => Some(0),
            Self::Int4 => Some(1),
            Self::Int8 => Some(2),
            Self::Numeric(_) => Some(3),
            Self::Float8 => Some(4),
            _ => None,
        }
    }

    fn moment_rank(&self) -> Option<u8> {
        match self {
            Self::Date => Some(0),
            Self::Timestamp => Some(1),
            Self::Timestamptz => Some(2),
            _ => None,
        }
    }

    pub(crate) fn is_integer(&self) -> bool {
        matches!(self, Self::Int2 | Self::Int4 | Self::Int8)
    }
}

/// Says how willingly a value of one type becomes another, or that it never does.
pub(crate) fn cast_level(from: &Type, to: &Type) -> Option<CastLevel> {
    let (from, to) = (from.base(), to.base());
    if from == to || from == Type::Unknown {
        return Some(CastLevel::Implicit);
    }
    if let (Type::Array(a), Type::Array(b)) = (&from, &to) {
        return cast_level(a, b);
    }
    if let Some(level) = number_cast(&from, &to).or_else(|| moment_cast(&from, &to)) {
        return Some(level);
    }
    if let Some(level) = object_cast(&from, &to) {
        return Some(level);
    }
    match (&from, &to) {
        (Type::Varchar(_) | Type::Name | Type::InternalChar, Type::Text)
        | (Type::Text, Type::Varchar(_))
        | (Type::Text | Type::Varchar(_), Type::Name)
        | (Type::NodeTree, Type::Text) => Some(CastLevel::Implicit),
        (Type::Json, Type::Jsonb) | (Type::Jsonb, Type::Json) => Some(CastLevel::Assignment),
        (Type::Bool, Type::Int4) | (Type::Int4, Type::Bool) => Some(CastLevel::Explicit),
        (Type::Jsonb, other) if other.is_number() || *other == Type::Bool => {
            Some(CastLevel::Explicit)
        }
        // Every type prints itself, and every type but a pseudo-type reads itself.
        (Type::Void | Type::Record, _) | (_, Type::Void | Type::Record | Type::Unknown) => None,
        (_, other) if other.is_string() => Some(CastLevel::Assignment),
        (other, _) if other.is_string() => Some(CastLevel::Explicit),
        _ => None,
    }
}

fn number_cast(from: &Type, to: &Type) -> Option<CastLevel> {
    let (a, b) = (from.number_rank()?, to.number_rank()?);
    Some(if a < b { CastLevel::Implicit } else { CastLevel::Assignment })
}

fn moment_cast(from: &Type, to: &Type) -> Option<CastLevel> {
    let (a, b) = (from.moment_rank()?, to.moment_rank()?);
    Some(if a < b { CastLevel::Implicit } else { CastLevel::Assignment })
}

fn object_cast(from: &Type, to: &Type) -> Option<CastLevel> {
    if to.is_object_id() {
        let willing = from.is_integer() || *from == Type::Oid || from.is_registered();
        let named = *to == Type::Regclass && matches!(from, Type::Text | Type::Varchar(_));
        let related = !(from.is_registered() && to.is_registered());
        return ((willing && related) || named).then_some(CastLevel::Implicit);
    }
    (from.is_object_id() && matches!(to, Type::Int4 | Type::Int8)).then_some(CastLevel::Assignment)
}

/// Finds the type in which two values can be compared, or be branches of one expression.
pub(crate) fn common(left: &Type, right: &Type) -> Option<Type> {
    let (left, right) = (left.base(), right.base());
    if left == right || right == Type::Unknown {
        return Some(if left == Type::Unknown { Type::Text } else { left });
    }
    if left == Type::Unknown {
        return Some(right);
    }
    if left.is_string() && right.is_string() {
        return Some(Type::Text);
    }
    if left.is_object_id() && (right.is_object_id() || right.is_integer()) {
        return Some(Type::Oid);
    }
    if left.is_integer() && right.is_object_id() {
        return Some(Type::Oid);
    }
    if let (Type::Array(a), Type::Array(b)) = (&left, &right) {
        let strings = a.is_string() && b.is_string();
        return strings.then(|| Type::array(Type::Text));
    }
    let numbers = left.is_number() && right.is_number();
    let moments = left.is_moment() && right.is_moment();
    if !numbers && !moments {
        return None;
    }
    Some(if cast_level(&left, &right) == Some(CastLevel::Implicit) { right } else { left })
}

/// Translates a parsed type name, refusing what the model does not have.
pub(crate) fn from_ast(data_type: &DataType) -> Result<Type, SqlError> {
    let found = match data_type {
        DataType::Bool | DataType::Boolean => Type::Bool,
        DataType::SmallInt(None) | DataType::Int2(None) => Type::Int2,
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => Type::Int4,
        DataType::BigInt(None) | DataType::Int8(None) => Type::Int8,
        DataType::Numeric(info) | DataType::Decimal(info) => numeric(info)?,
        DataType::Float8 | DataType::DoublePrecision => Type::Float8,
        DataType::Text => Type::Text,
        DataType::Varchar(length) | DataType::CharacterVarying(length) => {
            Type::Varchar(varchar(length.as_ref())?)
        }
        DataType::Uuid => Type::Uuid,
        DataType::JSON => Type::Json,
        DataType::JSONB => Type::Jsonb,
        DataType::Date => Type::Date,
        DataType::Timestamp(None, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => {
            Type::Timestamptz
        }
        DataType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            Type::Timestamp
        }
        DataType::Interval { fields: None, precision: None } => Type::Interval,
        DataType::Regclass => Type::Regclass,
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, None)) => {
            match from_ast(element)? {
                // An array of arrays is the same type with more dimensions.
                Type::Array(_) => return Err(SqlError::unsupported("arrays of arrays")),
                element => Type::array(element),
            }
        }
        DataType::Custom(name, modifiers) if modifiers.is_empty() => custom(name)?,
        other => return Err(SqlError::unsupported(format!("type {other}"))),
    };
    Ok(found)
}

fn numeric(info: &ExactNumberInfo) -> Result<Type, SqlError> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => return Ok(Type::Numeric(None)),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    let precision = u32::try_from(precision).ok().filter(|precision| (1..=30).contains(precision));
    let scale = u32::try_from(scale).ok();
    precision
        .zip(scale)
        .filter(|(precision, scale)| scale <= precision)
        .map(|modifier| Type::Numeric(Some(modifier)))
        .ok_or_else(|| SqlError::unsupported(format!("numeric{info}")))
}

fn varchar(length: Option<&CharacterLength>) -> Result<Option<u32>, SqlError> {
    match length {
        None => Ok(None),
        Some(CharacterLength::IntegerLength { length, unit: None }) => u32::try_from(*length)
            .ok()
            .filter(|length| (1..=10_485_760).contains(length))
            .map(Some)
            .ok_or_else(|| {
                let text = format!("length for type varchar cannot be {length}");
                SqlError::new(code::INVALID_PARAMETER, text)
            }),
        Some(other) => Err(SqlError::unsupported(format!("varchar({other})"))),
    }
}

fn custom(name: &sqlparser::ast::ObjectName) -> Result<Type, SqlError> {
    let mut parts = Vec::new();
    for part in &name.0 {
        let ident = part.as_ident().ok_or_else(|| SqlError::unsupported(format!("type {name}")))?;
        parts.push(super::super::parse::fold(ident));
    }
    let quoted = name
        .0
        .last()
        .and_then(|part| part.as_ident())
        .is_some_and(|ident| ident.quote_style.is_some());
    let unqualified = match parts.as_slice() {
        [only] => only.as_str(),
        [schema, only] if schema == "pg_catalog" => only.as_str(),
        _ => return Err(undefined_type(&parts.join("."))),
    };
    named(unqualified, quoted).ok_or_else(|| {
        if FOREIGN_TYPES.contains(&unqualified) {
            SqlError::unsupported(format!("type {unqualified}"))
        } else {
            undefined_type(unqualified)
        }
    })
}

fn undefined_type(name: &str) -> SqlError {
    SqlError::new(code::UNDEFINED_OBJECT, format!("type \"{name}\" does not exist"))
}

/// Finds a type by the name it has in `pg_type`, arrays by a leading underscore.
///
/// A quoted `"char"` is the catalog type; the unquoted word is the padded one, which is not modelled.
fn named(name: &str, quoted: bool) -> Option<Type> {
    if let Some(element) = name.strip_prefix('_') {
        return named(element, true).map(Type::array);
    }
    Some(match name {
        "bool" => Type::Bool,
        "int2" => Type::Int2,
        "int4" => Type::Int4,
        "int8" => Type::Int8,
        "numeric" => Type::Numeric(None),
        "float8" => Type::Float8,
        "text" => Type::Text,
        "varchar" => Type::Varchar(None),
        "name" => Type::Name,
        "char" if quoted => Type::InternalChar,
        "uuid" => Type::Uuid,
        "json" => Type::Json,
        "jsonb" => Type::Jsonb,
        "timestamp" => Type::Timestamp,
        "timestamptz" => Type::Timestamptz,
        "date" => Type::Date,
        "interval" => Type::Interval,
        "oid" => Type::Oid,
        "regclass" => Type::Regclass,
        "regrole" => Type::Regrole,
        "regnamespace" => Type::Regnamespace,
        "regprocedure" => Type::Regprocedure,
        "regtype" => Type::Regtype,
        "aclitem" => Type::AclItem,
        "pg_node_tree" => Type::NodeTree,
        "void" => Type::Void,
        "record" => Type::Record,
        _ => return None,
    })
}

/// Numbers of types, of their arrays (0 where there is none), and their names in `pg_type`.
const NUMBERS: &[(Type, u32, u32, &str)] = &[
    (Type::Bool, 16, 1000, "bool"),
    (Type::InternalChar, 18, 1002, "char"),
    (Type::Name, 19, 1003, "name"),
    (Type::Int8, 20, 1016, "int8"),
    (Type::Int2, 21, 1005, "int2"),
    (Type::Int4, 23, 1007, "int4"),
    (Type::Text, 25, 1009, "text"),
    (Type::Oid, 26, 1028, "oid"),
    (Type::Json, 114, 199, "json"),
    (Type::NodeTree, 194, 0, "pg_node_tree"),
    (Type::Float8, 701, 1022, "float8"),
    (Type::Unknown, 705, 0, "unknown"),
    (Type::AclItem, 1033, 1034, "aclitem"),
    (Type::Varchar(None), 1043, 1015, "varchar"),
    (Type::Date, 1082, 1182, "date"),
    (Type::Timestamp, 1114, 1115, "timestamp"),
    (Type::Timestamptz, 1184, 1185, "timestamptz"),
    (Type::Interval, 1186, 1187, "interval"),
    (Type::Numeric(None), 1700, 1231, "numeric"),
    (Type::Regprocedure, 2202, 2207, "regprocedure"),
    (Type::Regclass, 2205, 2210, "regclass"),
    (Type::Regtype, 2206, 2211, "regtype"),
    (Type::Record, 2249, 2287, "record"),
    (Type::Void, 2278, 0, "void"),
    (Type::Uuid, 2950, 2951, "uuid"),
    (Type::Jsonb, 3802, 3807, "jsonb"),
    (Type::Regnamespace, 4089, 4090, "regnamespace"),
    (Type::Regrole, 4096, 4097, "regrole"),
];

/// Pseudo-types that a catalog query asks about although nothing here can have them.
const PSEUDO_NUMBERS: &[(&str, u32)] = &[("trigger", 2279), ("event_trigger", 3838)];

/// The number of a type in `pg_type`.
pub(crate) fn number(ty: &Type) -> u32 {
    if let Type::Array(element) = ty {
        let element = element.base();
        return NUMBERS.iter().find(|row| row.0 == element).map_or(0, |row| row.2);
    }
    let base = ty.base();
    NUMBERS.iter().find(|row| row.0 == base).map_or(0, |row| row.1)
}

/// The modifier of a type as `pg_attribute.atttypmod` holds it.
pub(crate) fn modifier(ty: &Type) -> i64 {
    match ty {
        Type::Varchar(Some(length)) => i64::from(*length).saturating_add(4),
        Type::Numeric(Some((precision, scale))) => {
            (i64::from(*precision) << 16 | i64::from(*scale)).saturating_add(4)
        }
        Type::Array(element) => modifier(element),
        _ => -1,
    }
}

/// The type with a number and a modifier.
pub(crate) fn numbered(number: u32, modifier: i64) -> Option<Type> {
    let row = NUMBERS.iter().find(|row| row.1 == number || (row.2 == number && number != 0))?;
    let wide = modifier.checked_sub(4).and_then(|value| u32::try_from(value).ok());
    let element = match (&row.0, wide) {
        (Type::Varchar(None), length) => Type::Varchar(length),
        (Type::Numeric(None), Some(packed)) => Type::Numeric(Some((packed >> 16, packed & 0xffff))),
        (other, _) => other.clone(),
    };
    Some(if row.1 == number { element } else { Type::array(element) })
}

/// The number behind a type name, pseudo-types included.
pub(crate) fn number_of_name(name: &str) -> Option<u32> {
    PSEUDO_NUMBERS.iter().find(|(pseudo, _)| *pseudo == name).map(|(_, number)| *number)
}

/// The name of a pseudo-type.
pub(crate) fn pseudo_name(number: u32) -> Option<&'static str> {
    PSEUDO_NUMBERS.iter().find(|(_, known)| *known == number).map(|(name, _)| *name)
}

/// The short name of a type, as in `pg_type.typname` and `udt_name`.
pub(crate) fn short_name(ty: &Type) -> String {
    if let Type::Array(element) = ty {
        return format!("_{}", short_name(element));
    }
    let base = ty.base();
    NUMBERS.iter().find(|row| row.0 == base).map_or_else(String::new, |row| row.3.to_owned())
}
