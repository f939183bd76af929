//! Binds operators and the predicates that are made of them.

use sqlparser::ast::{self, BinaryOperator, Expr as Ast};

use super::super::error::{SqlError, code};
use super::super::plan::{Arithmetic, Comparison, Expr, SubqueryKind, Typed};
use super::super::value::sql_type::{Type, common};
use super::Binder;
use super::coercion::no_operator;
use super::expr::{boolean, calculate, compare, comparison, single_type};
use super::scope::Scope;

impl Binder<'_> {
    pub(super) fn binary(
        &self,
        (left, op, right): (&Ast, &BinaryOperator, &Ast),
        scope: &Scope<'_>,
    ) -> Result<Typed, SqlError> {
        if matches!(op, BinaryOperator::And | BinaryOperator::Or) {
            return self.connected((left, op, right), scope);
        }
        let (left, right) = (self.expr(left, scope)?, self.expr(right, scope)?);
        if let Some(op) = comparison(op) {
            return self.compared(op, (&left, &right));
        }
        let arithmetic = match op {
            BinaryOperator::Plus => Arithmetic::Add,
            BinaryOperator::Minus => Arithmetic::Subtract,
            BinaryOperator::Multiply => Arithmetic::Multiply,
            BinaryOperator::Divide => Arithmetic::Divide,
            BinaryOperator::Modulo => Arithmetic::Modulo,
            BinaryOperator::StringConcat => return self.concat(left, right),
            BinaryOperator::PGRegexMatch => return self.regex((left, right, false, false)),
            BinaryOperator::PGRegexIMatch => return self.regex((left, right, true, false)),
            BinaryOperator::PGRegexNotMatch => return self.regex((left, right, false, true)),
            BinaryOperator::PGRegexNotIMatch => return self.regex((left, right, true, true)),
            BinaryOperator::PGLikeMatch => return self.matched((left, right, false, false)),
            BinaryOperator::PGNotLikeMatch => return self.matched((left, right, false, true)),
            other => return self.operator_call(&other.to_string(), &[left, right]),
        };
        self.arithmetic(arithmetic, (left, right), &op.to_string())
    }

    /// Binds a chain of `AND` or of `OR` without going down it.
    fn connected(
        &self,
        (left, op, right): (&Ast, &BinaryOperator, &Ast),
        scope: &Scope<'_>,
    ) -> Result<Typed, SqlError> {
        let mut parts = vec![right];
        let mut rest = left;
        while let Ast::BinaryOp { left, op: next, right } = rest {
            if next != op {
                break;
            }
            parts.push(right);
            rest = left;
        }
        parts.push(rest);
        let word = op.to_string();
        let bind = |part: &&Ast| self.condition(&self.expr(part, scope)?, &word);
        let items: Vec<Expr> = parts.iter().rev().map(bind).collect::<Result<_, _>>()?;
        let and = *op == BinaryOperator::And;
        Ok(boolean(if and { Expr::And(items) } else { Expr::Or(items) }))
    }

    fn compared(&self, op: Comparison, (left, right): (&Typed, &Typed)) -> Result<Typed, SqlError> {
        if let (Expr::Row(a), Expr::Row(b)) = (&left.expr, &right.expr) {
            return Err(SqlError::unsupported(format!(
                "comparing rows of {} and {} columns",
                a.len(),
                b.len()
            )));
        }
        let (left, right, _) = self.comparable((left, right), symbol(op))?;
        Ok(boolean(compare(op, left, right)))
    }

    fn arithmetic(
        &self,
        op: Arithmetic,
        (left, right): (Typed, Typed),
        symbol: &str,
    ) -> Result<Typed, SqlError> {
        let refused = || no_operator(&left.ty, symbol, &right.ty);
        let sums = matches!(op, Arithmetic::Add | Arithmetic::Subtract);
        let (a, b) = (left.ty.base(), right.ty.base());
        if (a.is_number() || a == Type::Unknown) && (b.is_number() || b == Type::Unknown) {
            if a == Type::Unknown && b == Type::Unknown {
                return self.operator_call(symbol, &[left, right]);
            }
            let ty = common(&a, &b).filter(Type::is_number).ok_or_else(refused)?;
            let divides = matches!(op, Arithmetic::Divide | Arithmetic::Modulo);
            if divides && !ty.is_integer() && ty != Type::Float8 {
                return Err(SqlError::unsupported("division of numeric"));
            }
            let sides = (self.implicit(&left, &ty)?, self.implicit(&right, &ty)?);
            return Ok(calculate(op, sides, ty));
        }
        let moved = match (&a, &b) {
            (Type::Timestamptz | Type::Timestamp, Type::Interval) if sums => Some(a.clone()),
            (Type::Interval, Type::Timestamptz | Type::Timestamp) if op == Arithmetic::Add => {
                Some(b.clone())
            }
            (Type::Date, Type::Interval) if sums => Some(Type::Timestamp),
            (Type::Interval, Type::Date) if op == Arithmetic::Add => Some(Type::Timestamp),
            (Type::Date, Type::Int4 | Type::Int2) if sums => Some(Type::Date),
            (Type::Date, Type::Date) if op == Arithmetic::Subtract => Some(Type::Int4),
            _ => None,
        };
        match moved {
            Some(ty) => Ok(calculate(op, (left.expr, right.expr), ty)),
            None => self.operator_call(symbol, &[left, right]),
        }
    }

    /// Joins texts; documents and arrays have a `||` of their own.
    fn concat(&self, left: Typed, right: Typed) -> Result<Typed, SqlError> {
        let special = |ty: &Type| matches!(ty, Type::Array(_) | Type::Jsonb);
        if special(&left.ty) || special(&right.ty) {
            return self.operator_call("||", &[left, right]);
        }
        let textual = |ty: &Type| ty.is_string() || *ty == Type::Unknown;
        if !textual(&left.ty) && !textual(&right.ty) {
            return Err(no_operator(&left.ty, "||", &right.ty));
        }
        let left = self.explicit(&left, &Type::Text)?;
        let right = self.explicit(&right, &Type::Text)?;
        self.operator_call("||", &[left, right])
    }

    pub(super) fn is_null(
        &self,
        (inner, negated): (&Ast, bool),
        scope: &Scope<'_>,
    ) -> Result<Typed, SqlError> {
        let typed = self.expr(inner, scope)?;
        if typed.ty == Type::Record {
            return Err(SqlError::unsupported("IS NULL on rows"));
        }
        Ok(boolean(Expr::IsNull { expr: Box::new(typed.expr), negated }))
    }

    pub(super) fn is(
        &self,
        (inner, truth, negated): (&Ast, bool, bool),
        scope: &Scope<'_>,
    ) -> Result<Typed, SqlError> {
        let expr = Box::new(self.condition(&self.expr(inner, scope)?, "IS TRUE")?);
        Ok(boolean(Expr::Is { expr, truth, negated }))
    }

    pub(super) fn distinct(
        &self,
        (left, right, negated): (&Ast, &Ast, bool),
        scope: &Scope<'_>,
    ) -> Result<Typed, SqlError> {
        let (left, right) = (self.expr(left, scope)?, self.expr(right, scope)?);
        let (left, right, _) = self.comparable((&left, &right), "=")?;
        Ok(boolean(Expr::Distinct { left: Box::new(left), right: Box::new(right), negated }))
    }

    pub(super) fn in_list(
        &self,
        (expr, list, negated): (&Ast, &[Ast], bool),
        scope: &Scope<'_>,
    ) -> Result<Typed, SqlError> {
        let left = self.expr(expr, scope)?;
        if list.is_empty() {
            return Err(SqlError::syntax(")"));
        }
        let mut items = Vec::new();
        for item in list {
            let right = self.expr(item, scope)?;
            let op = if negated { Comparison::NotEqual } else { Comparison::Equal };
            items.push(self.compared(op, (&left, &right))?.expr);
        }
        Ok(boolean(if negated { Expr::And(items) } else { Expr::Or(items) }))
    }

    pub(super) fn in_subquery(
        &self,
        (expr, query, negated): (&Ast, &ast::Query, bool),
        scope: &Scope<'_>,
    ) -> Result<Typed, SqlError> {
        let left = self.expr(expr, scope)?;
        let found = self.against_query((&left, Comparison::Equal, query, false), scope)?;
        Ok(boolean(if negated { Expr::Not(Box::new(found)) } else { found }))
    }

    fn against_query(
        &self,
        (left, op, query, all): (&Typed, Comparison, &ast::Query, bool),
        scope: &Scope<'_>,
    ) -> Result<Expr, SqlError> {
        let plan = self.query(query, scope)?;
        let ty = single_type(&plan)?;
        let shared = common(&left.ty, &ty).filter(Type::has_equality);
        let shared = shared.ok_or_else(|| no_operator(&left.ty, symbol(op), &ty))?;
        // The values of the subquery are compared as they come, so their kind must fit already.
        let same = |a: &Type, b: &Type| {
            a == b
                || (a.is_string() && b.is_string())
                || (a.is_integer() && b.is_number())
                || (a.is_object_id() && b.is_object_id())
        };
        if !same(&ty.base(), &shared) {
            return Err(SqlError::unsupported(format!(
                "comparing {} with a subquery of {}",
                left.ty.label(),
                ty.label()
            )));
        }
        let left = Box::new(self.implicit(left, &shared)?);
        let kind = SubqueryKind::Quantified { left, op, all };
        Ok(Expr::Subquery { kind, query: Box::new(plan) })
    }

    pub(super) fn quantified(
        &self,
        (left, op, right, all): (&Ast, &BinaryOperator, &Ast, bool),
        scope: &Scope<'_>,
    ) -> Result<Typed, SqlError> {
        let Some(op) = comparison(op) else {
            return Err(SqlError::unsupported(format!("{op} ANY or ALL")));
        };
        let left = self.expr(left, scope)?;
        let mut inner = right;
        while let Ast::Nested(nested) = inner {
            inner = nested;
        }
        if let Ast::Subquery(query) = inner {
            return Ok(boolean(self.against_query((&left, op, query, all), scope)?));
        }
        let array = self.expr(inner, scope)?;
        let element = match &array.ty {
            Type::Array(element) => (**element).clone(),
            Type::Unknown => left.ty.base(),
            other => {
                let text = format!(
                    "op ANY/ALL (array) requires array on right side, not {}",
                    other.label()
                );
                return Err(SqlError::new(code::WRONG_OBJECT_TYPE, text));
            }
        };
        let ty = common(&left.ty, &element).filter(Type::has_equality);
        let ty = ty.ok_or_else(|| no_operator(&left.ty, symbol(op), &element))?;
        let array = Box::new(self.implicit(&array, &Type::array(ty.clone()))?);
        let left = Box::new(self.implicit(&left, &ty)?);
        Ok(boolean(Expr::Quantified { op, all, left, array }))
    }

    pub(super) fn between(
        &self,
        (expr, low, high, negated): (&Ast, &Ast, &Ast, bool),
        scope: &Scope<'_>,
    ) -> Result<Typed, SqlError> {
        let value = self.expr(expr, scope)?;
        let (low, high) = (self.expr(low, scope)?, self.expr(high, scope)?);
        let above = self.compared(Comparison::GreaterOrEqual, (&value, &low))?.expr;
        let below = self.compared(Comparison::LessOrEqual, (&value, &high))?.expr;
        let both = Expr::And(vec![above, below]);
        Ok(boolean(if negated { Expr::Not(Box::new(both)) } else { both }))
    }

    pub(super) fn like(
        &self,
        (expr, pattern, insensitive, negated): (&Ast, &Ast, bool, bool),
        scope: &Scope<'_>,
    ) -> Result<Typed, SqlError> {
        let (expr, pattern) = (self.expr(expr, scope)?, self.expr(pattern, scope)?);
        self.matched((expr, pattern, insensitive, negated))
    }

    fn matched(
        &self,
        (expr, pattern, insensitive, negated): (Typed, Typed, bool, bool),
    ) -> Result<Typed, SqlError> {
        let text = |typed: &Typed| match self.implicit(typed, &Type::Text) {
            Ok(expr) => Ok(Box::new(expr)),
            Err(_) => Err(no_operator(&expr.ty, "~~", &pattern.ty)),
        };
        let (expr, pattern) = (text(&expr)?, text(&pattern)?);
        Ok(boolean(Expr::Like { expr, pattern, insensitive, negated }))
    }

    /// Regular expressions are known where they are plain text with anchors.
    fn regex(
        &self,
        (expr, pattern, insensitive, negated): (Typed, Typed, bool, bool),
    ) -> Result<Typed, SqlError> {
        let Expr::Const(value) = &pattern.expr else {
            return Err(SqlError::unsupported("regular expressions that are no literal"));
        };
        let Some(text) = value.as_str() else {
            return Err(SqlError::unsupported("regular expressions that are no text"));
        };
        let (start, rest) = match text.strip_prefix('^') {
            Some(rest) => ("", rest),
            None => ("%", text),
        };
        let (body, end) = match rest.strip_suffix('$') {
            Some(body) => (body, ""),
            None => (rest, "%"),
        };
        let plain = |symbol: char| symbol.is_alphanumeric() || "_- /:@".contains(symbol);
        if !body.chars().all(plain) {
            return Err(SqlError::unsupported(format!("regular expression {text}")));
        }
        let like = format!("{start}{}{end}", body.replace('_', "\\_"));
        let pattern =
            Typed { expr: Expr::Const(super::super::value::Value::Text(like)), ty: Type::Text };
        self.matched((expr, pattern, insensitive, negated))
    }
}

fn symbol(op: Comparison) -> &'static str {
    match op {
        Comparison::Equal => "=",
        Comparison::NotEqual => "<>",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    }
}
