//! Values of the server in the form the provider's API gives them.

use serde_json::{Number, Value};
use sqlx::{Column as _, Error, Row as _, ValueRef as _, postgres::PgRow};

/// Largest whole number that JavaScript keeps exact; the API gives larger ones as text.
const SAFE_INTEGER: i64 = 9_007_199_254_740_991;

/// Types that are more than text there, by their fixed numbers, with the number of their arrays.
/// Arrays of others (`name[]`) come as text.
const TYPES: [(u32, u32, Shape); 17] = [
    (16, 1_000, Shape::Bool),
    (20, 1_016, Shape::Whole),
    (21, 1_005, Shape::Whole),
    (23, 1_007, Shape::Whole),
    (26, 1_028, Shape::Whole),
    (700, 1_021, Shape::Float),
    (701, 1_022, Shape::Float),
    (114, 199, Shape::Json),
    (3_802, 3_807, Shape::Json),
    (25, 1_009, Shape::Text),
    (1_042, 1_014, Shape::Text),
    (1_043, 1_015, Shape::Text),
    (1_700, 1_231, Shape::Text),
    (2_950, 2_951, Shape::Text),
    (1_082, 1_182, Shape::Text),
    (1_114, 1_115, Shape::Text),
    (1_184, 1_185, Shape::Text),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Bool,
    Whole,
    Float,
    Json,
    Text,
}

impl Shape {
    fn read(self, text: &str) -> Value {
        let as_text = || Value::from(text);
        match self {
            Self::Bool => Value::Bool(text == "t"),
            Self::Whole => match text.parse::<i64>() {
                Ok(whole) if (-SAFE_INTEGER..=SAFE_INTEGER).contains(&whole) => Value::from(whole),
                _ => as_text(),
            },
            Self::Float => {
                text.parse().ok().and_then(Number::from_f64).map_or(Value::Null, Value::Number)
            }
            Self::Json => serde_json::from_str(text).unwrap_or_else(|_error| as_text()),
            Self::Text => as_text(),
        }
    }
}

/// Names of a row's columns.
pub(super) fn names(row: &PgRow) -> Vec<String> {
    row.columns().iter().map(|column| column.name().to_owned()).collect()
}

/// A row's values. Batches are answered in text.
pub(super) fn values(row: &PgRow) -> Result<Vec<Value>, Error> {
    let value = |column: &sqlx::postgres::PgColumn| {
        let value = row.try_get_raw(column.ordinal())?;
        if value.is_null() {
            return Ok(Value::Null);
        }
        let text = value.as_str().map_err(Error::Decode)?;
        let number = column.type_info().oid().map_or(0, |oid| oid.0);
        Ok(shown(number, text))
    };
    row.columns().iter().map(value).collect()
}

fn shown(number: u32, text: &str) -> Value {
    if let Some((_, _, shape)) = TYPES.iter().find(|(single, _, _)| *single == number) {
        return shape.read(text);
    }
    let list = TYPES.iter().find(|(_, array, _)| *array == number);
    let read = list.and_then(|(_, _, shape)| Items::new(text, *shape).list());
    read.unwrap_or_else(|| Value::from(text))
}

/// Reads `{a,"b c",NULL,{d}}`.
struct Items<'a> {
    left: std::iter::Peekable<std::str::Chars<'a>>,
    shape: Shape,
}

impl<'a> Items<'a> {
    fn new(text: &'a str, shape: Shape) -> Self {
        // Bounds stand in front where they do not begin at one: `[0:1]={a,b}`.
        let text = text.find('{').and_then(|begin| text.get(begin..)).unwrap_or(text);
        Self { left: text.chars().peekable(), shape }
    }

    /// `None` where the text is no array.
    fn list(&mut self) -> Option<Value> {
        let mut items = Vec::new();
        self.left.next_if_eq(&'{')?;
        if self.left.next_if_eq(&'}').is_some() {
            return Some(Value::Array(items));
        }
        loop {
            items.push(match self.left.peek()? {
                '{' => self.list()?,
                '"' => self.quoted()?,
                _ => self.bare(),
            });
            match self.left.next()? {
                ',' => {}
                '}' => return Some(Value::Array(items)),
                _ => return None,
            }
        }
    }

    fn quoted(&mut self) -> Option<Value> {
        let mut text = String::new();
        self.left.next();
        loop {
            match self.left.next()? {
                '"' => return Some(self.shape.read(&text)),
                '\\' => text.push(self.left.next()?),
                other => text.push(other),
            }
        }
    }

    fn bare(&mut self) -> Value {
        let mut text = String::new();
        while let Some(next) = self.left.next_if(|next| !",}".contains(*next)) {
            text.push(next);
        }
        if text == "NULL" { Value::Null } else { self.shape.read(&text) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::shown;

    #[test]
    fn values_take_the_form_of_the_providers_driver() {
        let cases = [
            (16, "t", json!(true)),
            (20, "9007199254740991", json!(9_007_199_254_740_991_i64)),
            (20, "9007199254740993", json!("9007199254740993")),
            (1_700, "1.50", json!("1.50")),
            (701, "0.5", json!(0.5)),
            (701, "NaN", Value::Null),
            (3_802, "{\"a\": [1]}", json!({ "a": [1] })),
            (1_009, "{}", json!([])),
            (1_009, "{a,NULL,\"NULL\",\"b, \\\"c\\\\\"}", json!(["a", null, "NULL", "b, \"c\\"])),
            (1_007, "{{1,2},{3,4}}", json!([[1, 2], [3, 4]])),
            (1_007, "[0:1]={5,6}", json!([5, 6])),
            (3_807, "{\"{\\\"a\\\": 1}\",null}", json!([{ "a": 1 }, null])),
            (1_003, "{a,b}", json!("{a,b}")),
            (1_009, "{a,b", json!("{a,b")),
            (2_205, "public.notes", json!("public.notes")),
        ];
        for (number, text, expected) in cases {
            assert_eq!(shown(number, text), expected, "{number} {text}");
        }
    }
}
