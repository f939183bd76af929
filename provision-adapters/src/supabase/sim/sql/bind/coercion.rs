//! Bringing expressions to the types their places need.

use super::super::error::{SqlError, code};
use super::super::plan::{Expr, Typed};
use super::super::run::cast;
use super::super::value::Value;
use super::super::value::sql_type::{CastLevel, Type, cast_level, common};
use super::Binder;

impl Binder<'_> {
    /// Brings an expression to a type, if that is allowed at this level; otherwise answers nothing.
    pub(crate) fn coerce(
        &self,
        typed: &Typed,
        to: &Type,
        level: CastLevel,
    ) -> Result<Option<Expr>, SqlError> {
        if typed.ty == *to {
            return Ok(Some(typed.expr.clone()));
        }
        if cast_level(&typed.ty, to).is_none_or(|needed| needed > level) {
            return Ok(None);
        }
        if *to == Type::Unknown {
            return Ok(Some(typed.expr.clone()));
        }
        if typed.ty == Type::Unknown
            && let Expr::Const(value) = &typed.expr
        {
            let explicit = level == CastLevel::Explicit;
            let parsed = cast::cast(self.env, value, (&Type::Unknown, to), explicit)?;
            return Ok(Some(Expr::Const(parsed)));
        }
        if typed.ty == to.base() && typed.ty.base() == *to {
            return Ok(Some(typed.expr.clone()));
        }
        Ok(Some(Expr::Cast {
            expr: Box::new(typed.expr.clone()),
            from: typed.ty.clone(),
            to: to.clone(),
            explicit: level == CastLevel::Explicit,
        }))
    }

    /// Brings an expression to a type implicitly, or refuses.
    pub(crate) fn implicit(&self, typed: &Typed, to: &Type) -> Result<Expr, SqlError> {
        self.coerce(typed, to, CastLevel::Implicit)?.ok_or_else(|| cannot(&typed.ty, to))
    }

    /// Brings an expression to the type of a column it is stored in.
    pub(crate) fn assign(&self, typed: &Typed, to: &Type, column: &str) -> Result<Expr, SqlError> {
        self.coerce(typed, to, CastLevel::Assignment)?.ok_or_else(|| {
            let text = format!(
                "column \"{column}\" is of type {} but expression is of type {}",
                to.label(),
                typed.ty.label()
            );
            SqlError::new(code::DATATYPE_MISMATCH, text)
        })
    }

    /// Casts as a cast in the text asks for.
    pub(crate) fn explicit(&self, typed: &Typed, to: &Type) -> Result<Typed, SqlError> {
        if let (Expr::Array(items), Type::Array(element)) = (&typed.expr, to)
            && items.is_empty()
        {
            return Ok(Typed {
                expr: Expr::Array(Vec::new()),
                ty: Type::array((**element).clone()),
            });
        }
        let expr = self.coerce(typed, to, CastLevel::Explicit)?;
        let expr = expr.ok_or_else(|| cannot(&typed.ty, to))?;
        Ok(Typed { expr, ty: to.clone() })
    }

    /// Brings an expression to a condition.
    pub(crate) fn condition(&self, typed: &Typed, place: &str) -> Result<Expr, SqlError> {
        let ty = typed.ty.label();
        self.coerce(typed, &Type::Bool, CastLevel::Implicit)?.ok_or_else(|| {
            let text = format!("argument of {place} must be type boolean, not type {ty}");
            SqlError::new(code::DATATYPE_MISMATCH, text)
        })
    }

    /// Finds the type several branches have in common, and brings them there.
    pub(crate) fn unify(&self, items: &[Typed], what: &str) -> Result<(Vec<Expr>, Type), SqlError> {
        let mut ty = Type::Unknown;
        for item in items {
            ty = match (&ty, &item.ty) {
                (Type::Unknown, other) => other.base(),
                (ty, Type::Unknown) => ty.clone(),
                (ty, other) => common(ty, other).ok_or_else(|| {
                    let text = format!(
                        "{what} types {} and {} cannot be matched",
                        ty.label(),
                        other.label()
                    );
                    SqlError::new(code::DATATYPE_MISMATCH, text)
                })?,
            };
        }
        if ty == Type::Unknown {
            ty = Type::Text;
        }
        let exprs: Vec<Expr> =
            items.iter().map(|item| self.implicit(item, &ty)).collect::<Result<_, _>>()?;
        Ok((exprs, ty))
    }

    /// Gives a literal without a type the type it has in a result.
    pub(crate) fn settle(&self, typed: Typed) -> Result<Typed, SqlError> {
        if typed.ty != Type::Unknown {
            return Ok(typed);
        }
        Ok(Typed { expr: self.implicit(&typed, &Type::Text)?, ty: Type::Text })
    }

    /// Brings two operands of a comparison together.
    pub(crate) fn comparable(
        &self,
        (left, right): (&Typed, &Typed),
        symbol: &str,
    ) -> Result<(Expr, Expr, Type), SqlError> {
        let ty = common(&left.ty, &right.ty).filter(Type::has_equality);
        let ty = ty.ok_or_else(|| no_operator(&left.ty, symbol, &right.ty))?;
        Ok((self.implicit(left, &ty)?, self.implicit(right, &ty)?, ty))
    }
}

pub(crate) fn cannot(from: &Type, to: &Type) -> SqlError {
    let text = format!("cannot cast type {} to {}", from.label(), to.label());
    SqlError::new(code::CANNOT_COERCE, text)
}

pub(crate) fn no_operator(left: &Type, symbol: &str, right: &Type) -> SqlError {
    let text = format!("operator does not exist: {} {symbol} {}", left.label(), right.label());
    SqlError::new(code::UNDEFINED_FUNCTION, text)
}

pub(crate) fn null() -> Typed {
    Typed { expr: Expr::Const(Value::Null), ty: Type::Unknown }
}
