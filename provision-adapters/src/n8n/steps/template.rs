//! Versioned workflow templates: data in a repository, filled in for each client.
//!
//! A template is what n8n's editor exports, cut down to the four fields the API takes, plus a name
//! and a version of its own. `<<key>>` in any text is replaced by a value of the spec; n8n's own
//! `{{ .. }}` expressions and `${..}` in scripts stay as they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::n8n::NODES_MAX;

const OPEN: &str = "<<";
const CLOSE: &str = ">>";
pub(crate) const WEBHOOK: &str = "n8n-nodes-base.webhook";

/// A workflow to make, in one version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Name of the template, such as `client-intake`.
    pub name: String,
    /// Its version, `major.minor.patch`.
    pub version: String,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Which node leads to which, as n8n writes it.
    #[serde(default)]
    pub connections: Map<String, Value>,
    /// Settings of the workflow, such as `executionOrder`.
    #[serde(default)]
    pub settings: Map<String, Value>,
}

/// One node of a template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    /// Name, unique in the workflow; connections use it.
    pub name: String,
    /// Type, such as `n8n-nodes-base.webhook`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Version of the type.
    pub type_version: f64,
    /// Place on the canvas.
    #[serde(default)]
    pub position: (f64, f64),
    /// What the node does.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// Types of the credentials it needs, such as `httpHeaderAuth`; the spec says which ones.
    #[serde(default)]
    pub needs: Vec<String>,
}

/// Why a template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The text is not a template.
    #[error("the template does not have the shape of one (line {line}, column {column})")]
    Shape {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// The version is not `major.minor.patch`.
    #[error("the version is not major.minor.patch")]
    Version,
    /// It has no node, too many, or two of one name.
    #[error("a template has 1 to 200 nodes with distinct names")]
    Nodes,
    /// A text names a value that is not given.
    #[error("no value is given for <<{0}>>")]
    Value(String),
    /// A text opens `<<` and never closes it.
    #[error("a << is never closed")]
    Open,
    /// A connection leads from or to a node that is not there.
    #[error("a connection names the node `{0}`, which is not there")]
    Connection(String),
    /// A node needs a credential that is not given.
    #[error("no credential of type {0} is given")]
    Credential(String),
    /// The path of a webhook needs encoding, or names another place.
    #[error("the path of the webhook `{0}` is not plain")]
    Path(String),
}

impl Template {
    /// Reads a template from JSON and checks it.
    ///
    /// # Errors
    /// The text is not a template, or contradicts itself.
    pub fn from_json(text: &str) -> Result<Self, TemplateError> {
        let template: Self = serde_json::from_str(text)
            .map_err(|e| TemplateError::Shape { line: e.line(), column: e.column() })?;
        template.check()?;
        Ok(template)
    }

    /// A template of one webhook node, which answers at once.
    ///
    /// `path` may hold `<<key>>`; callers must be authenticated by a header credential.
    #[must_use]
    pub fn webhook(name: impl Into<String>, version: impl Into<String>, path: &str) -> Self {
        let parameters = serde_json::json!({
            "httpMethod": "POST",
            "path": path,
            "authentication": "headerAuth",
            "responseMode": "onReceived",
            "options": {},
        });
        let node = Node {
            name: "Webhook".to_owned(),
            kind: WEBHOOK.to_owned(),
            type_version: 2.0,
            position: (0.0, 0.0),
            parameters: parameters.as_object().cloned().unwrap_or_default(),
            needs: vec!["httpHeaderAuth".to_owned()],
        };
        Self {
            name: name.into(),
            version: version.into(),
            nodes: vec![node],
            connections: Map::new(),
            settings: Map::new(),
        }
    }

    /// Adds a node that follows the last one.
    #[must_use]
    pub fn then(mut self, node: Node) -> Self {
        if let Some(last) = self.nodes.last() {
            let link = serde_json::json!({
                "main": [[{ "node": node.name, "type": "main", "index": 0 }]]
            });
            self.connections.insert(last.name.clone(), link);
        }
        self.nodes.push(node);
        self
    }

    /// Name and version, as the ledger shows them.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// Checks version, nodes and connections.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), TemplateError> {
        let parts: Vec<&str> = self.version.split('.').collect();
        if parts.len() != 3 || !parts.iter().all(|p| p.parse::<u32>().is_ok()) {
            return Err(TemplateError::Version);
        }
        let twice = |(at, node): (usize, &Node)| {
            self.nodes.iter().skip(at + 1).any(|other| other.name == node.name)
        };
        if self.nodes.is_empty()
            || self.nodes.len() > NODES_MAX
            || self.nodes.iter().enumerate().any(twice)
        {
            return Err(TemplateError::Nodes);
        }
        let mut named: Vec<&str> = self.connections.keys().map(String::as_str).collect();
        self.connections.values().for_each(|link| targets(link, &mut named));
        match named.iter().find(|name| self.nodes.iter().all(|node| node.name != **name)) {
            Some(name) => Err(TemplateError::Connection((*name).to_owned())),
            None => Ok(()),
        }
    }

    /// The nodes with all values filled in.
    ///
    /// # Errors
    /// A value is missing.
    pub(crate) fn filled(
        &self,
        values: &BTreeMap<String, String>,
    ) -> Result<Vec<Node>, TemplateError> {
        let fill = |node: &Node| {
            let mut node = node.clone();
            for value in node.parameters.values_mut() {
                fill(value, values)?;
            }
            Ok(node)
        };
        self.nodes.iter().map(fill).collect()
    }
}

/// Names of the nodes a connection leads to, at any depth.
fn targets<'a>(link: &'a Value, into: &mut Vec<&'a str>) {
    match link {
        Value::Object(map) => {
            into.extend(map.get("node").and_then(Value::as_str));
            map.values().for_each(|inner| targets(inner, into));
        }
        Value::Array(list) => list.iter().for_each(|inner| targets(inner, into)),
        _ => {}
    }
}

fn fill(value: &mut Value, values: &BTreeMap<String, String>) -> Result<(), TemplateError> {
    match value {
        Value::String(text) => *text = filled_text(text, values)?,
        Value::Array(list) => {
            for inner in list {
                fill(inner, values)?;
            }
        }
        Value::Object(map) => {
            for inner in map.values_mut() {
                fill(inner, values)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

fn filled_text(text: &str, values: &BTreeMap<String, String>) -> Result<String, TemplateError> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let (key, behind) = after.split_once(CLOSE).ok_or(TemplateError::Open)?;
        let value = values.get(key).ok_or_else(|| TemplateError::Value(key.to_owned()))?;
        out.push_str(before);
        // A value is never read again: what a client typed cannot name another value.
        out.push_str(value);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Template, TemplateError, filled_text};

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn values_are_filled_in_once_and_expressions_stay() {
        let known = values(&[("client", "<<other>>"), ("other", "x")]);
        let cases = [
            ("client-<<client>>/in", Ok("client-<<other>>/in")),
            ("{{ $json.a }} ${b}", Ok("{{ $json.a }} ${b}")),
            ("<<nobody>>", Err(TemplateError::Value("nobody".to_owned()))),
            ("<<client", Err(TemplateError::Open)),
        ];
        for (text, expected) in cases {
            assert_eq!(filled_text(text, &known), expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_template_is_checked_when_it_is_read() {
        let node = |name: &str| serde_json::json!({"name": name, "type": "n8n-nodes-base.noOp", "typeVersion": 1});
        let text = |version: &str, nodes: Vec<serde_json::Value>, links: serde_json::Value| {
            serde_json::json!({"name": "t", "version": version, "nodes": nodes, "connections": links})
                .to_string()
        };
        let link = |to: &str| serde_json::json!({"a": {"main": [[{"node": to, "type": "main", "index": 0}]]}});
        let good = Template::from_json(&text("1.2.3", vec![node("a"), node("b")], link("b")));
        assert_eq!(good.unwrap().label(), "t@1.2.3");
        let none = serde_json::json!({});
        let cases = [
            (text("1.2", vec![node("a")], none.clone()), TemplateError::Version),
            (text("1.0.0", vec![], none.clone()), TemplateError::Nodes),
            (text("1.0.0", vec![node("a"), node("a")], none), TemplateError::Nodes),
            (text("1.0.0", vec![node("a")], link("c")), TemplateError::Connection("c".to_owned())),
        ];
        for (text, expected) in cases {
            assert_eq!(Template::from_json(&text).unwrap_err(), expected);
        }
        assert!(matches!(Template::from_json("{"), Err(TemplateError::Shape { .. })));
    }
}
