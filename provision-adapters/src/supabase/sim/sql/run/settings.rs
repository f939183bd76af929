//! Run-time parameters of a session, and which of them may be set to what.

use std::collections::BTreeMap;

use super::super::error::{SqlError, code};
use super::super::state::Oid;

/// The search path of a session on a new project.
pub(crate) const DEFAULT_PATH: &str = "\"$user\", public, extensions";

/// Parameters that change nothing the model shows, so that any value may be given.
const INERT: &[&str] = &[
    "application_name",
    "client_min_messages",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "statement_timeout",
];

/// Parameters that may only be given the value they have.
const FIXED: &[(&str, &[&str])] = &[
    ("client_encoding", &["UTF8", "utf8", "utf-8"]),
    ("default_table_access_method", &["heap"]),
    ("default_tablespace", &[""]),
    ("standard_conforming_strings", &["on", "true"]),
    ("timezone", &["UTC", "utc"]),
    ("xmloption", &["content"]),
];

/// The parameters in force, and those that stay when the transaction ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// Role set by `SET ROLE`.
    pub(crate) role: Option<Oid>,
    pub(crate) read_only: bool,
    values: BTreeMap<String, String>,
    lasting_role: Option<Oid>,
    lasting: BTreeMap<String, String>,
}

impl Settings {
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        if let Some(value) = self.values.get(name) {
            return Some(value.clone());
        }
        match name {
            "search_path" => Some(DEFAULT_PATH.to_owned()),
            "row_security" | "check_function_bodies" | "standard_conforming_strings" => {
                Some("on".to_owned())
            }
            "server_version" => Some("15.8".to_owned()),
            "server_version_num" => Some("150008".to_owned()),
            "client_encoding" => Some("UTF8".to_owned()),
            "timezone" => Some("UTC".to_owned()),
            "transaction_read_only" => Some(on_off(self.read_only).to_owned()),
            _ => None,
        }
    }

    /// Changes a parameter, or resets it when there is no value; without one, `all` is all of them.
    ///
    /// A local change ends with the transaction.
    pub(crate) fn set(
        &mut self,
        name: &str,
        value: Option<&str>,
        local: bool,
    ) -> Result<(), SqlError> {
        if (name, value) == ("all", None) {
            self.values.clear();
            self.lasting.clear();
            return Ok(());
        }
        let checked = match value {
            Some(value) => Some(check(name, value)?),
            None => {
                check_name(name)?;
                None
            }
        };
        put(&mut self.values, name, checked.clone());
        if !local {
            put(&mut self.lasting, name, checked);
        }
        Ok(())
    }

    pub(crate) fn set_role(&mut self, role: Option<Oid>, local: bool) {
        self.role = role;
        if !local {
            self.lasting_role = role;
        }
    }

    /// Ends the transaction: what was set for it alone is gone.
    pub(crate) fn end_transaction(&mut self) {
        self.role = self.lasting_role;
        self.values = self.lasting.clone();
        self.read_only = false;
    }

    pub(crate) fn search_path(&self) -> Vec<String> {
        split_path(&self.get("search_path").unwrap_or_default())
    }

    pub(crate) fn is_off(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value == "off")
    }
}

fn put(values: &mut BTreeMap<String, String>, name: &str, value: Option<String>) {
    match value {
        Some(value) => values.insert(name.to_owned(), value),
        None => values.remove(name),
    };
}

fn on_off(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

fn check_name(name: &str) -> Result<(), SqlError> {
    let switches = ["search_path", "row_security", "check_function_bodies"];
    let known = name.contains('.')
        || switches.contains(&name)
        || INERT.contains(&name)
        || FIXED.iter().any(|(fixed, _)| *fixed == name);
    if known { Ok(()) } else { Err(SqlError::unsupported(format!("parameter {name}"))) }
}

/// Checks that a parameter may have a value, and brings the value to one spelling.
pub(crate) fn check(name: &str, value: &str) -> Result<String, SqlError> {
    check_name(name)?;
    if name == "row_security" || name == "check_function_bodies" {
        return match value.to_ascii_lowercase().as_str() {
            "on" | "true" | "1" | "yes" => Ok("on".to_owned()),
            "off" | "false" | "0" | "no" => Ok("off".to_owned()),
            _ => {
                let text = format!("parameter \"{name}\" requires a Boolean value");
                Err(SqlError::new(code::INVALID_PARAMETER, text))
            }
        };
    }
    let fixed = FIXED.iter().find(|(fixed, _)| *fixed == name);
    if fixed.is_some_and(|(_, values)| !values.contains(&value)) {
        return Err(SqlError::unsupported(format!("{name} = {value}")));
    }
    Ok(value.to_owned())
}

/// Splits a search path as it is written, quotes undone.
pub(crate) fn split_path(text: &str) -> Vec<String> {
    let item = |part: &str| {
        let part = part.trim();
        match part.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(quoted) => quoted.replace("\"\"", "\""),
            None => part.to_ascii_lowercase(),
        }
    };
    text.split(',').map(item).filter(|name| !name.is_empty()).collect()
}
