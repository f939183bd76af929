//! Checks recorded exchanges against a provider's OpenAPI document: every request an adapter
//! sent, and every answer its simulator gave.

use std::{collections::BTreeSet, fs, path::PathBuf};

use provision_adapters::sim::{Exchange, SimRequest, SimResponse};
use serde_json::{Map, Value};

/// The OpenAPI document of one provider.
pub(crate) struct SpecSet {
    document: Value,
    exempt: Vec<&'static str>,
}

impl SpecSet {
    /// Loads `<name>.openapi.json` from the folder that is named, from `specs` in the repository, or
    /// from a folder `shared/specs` beside it; prints a warning when it is in none of them.
    pub(crate) fn load(name: &str) -> Option<Self> {
        let file = format!("{name}.openapi.json");
        let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
        let folders = std::env::var("PROVISION_SPECS_DIR").map(PathBuf::from).into_iter().chain([
            workspace.join("specs"),
            workspace.join("../shared/specs"),
            workspace.join("../../shared/specs"),
        ]);
        for folder in folders {
            if let Ok(text) = fs::read_to_string(folder.join(&file)) {
                let document = serde_json::from_str(&text).expect("the document is json");
                return Some(Self { document, exempt: Vec::new() });
            }
        }
        eprintln!("skipped: {file} is not there (set PROVISION_SPECS_DIR)");
        None
    }

    /// Leaves out requests to paths beginning with this, which the document does not describe.
    pub(crate) fn exempt(mut self, prefix: &'static str) -> Self {
        self.exempt.push(prefix);
        self
    }

    fn is_exempt(&self, path: &str) -> bool {
        self.exempt.iter().any(|prefix| path.starts_with(prefix))
    }
}

/// Panics with every violation found; there must be exchanges to look at. Tells the operations that
/// were seen, as method and path of the document.
pub(crate) fn check_exchanges(spec: &SpecSet, exchanges: &[Exchange]) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    assert!(!exchanges.is_empty(), "no exchange was recorded");
    let mut wrong = Vec::new();
    let mut checked = 0;
    for exchange in exchanges {
        let what = format!("{} /{}", exchange.request.method, exchange.request.path.join("/"));
        if spec.is_exempt(what.split_once(' ').unwrap().1) {
            continue;
        }
        checked += 1;
        seen.extend(operation(spec, &exchange.request));
        for problem in violations(spec, exchange) {
            wrong.push(format!("{what}: {problem}"));
        }
    }
    assert!(checked > 0, "every exchange was exempt");
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{} violations:\n{}", wrong.len(), wrong.join("\n"));
    seen
}

/// Method and path of the document that a request goes to.
fn operation(spec: &SpecSet, request: &SimRequest) -> Option<String> {
    let method = request.method.to_ascii_lowercase();
    let (item, _) = route(&spec.document, &request.path, &method)?;
    let paths = spec.document["paths"].as_object()?;
    let (template, _) = paths.iter().find(|(_, known)| std::ptr::eq(*known, item))?;
    Some(format!("{} {template}", request.method))
}

/// What is wrong with one exchange.
pub(crate) fn violations(spec: &SpecSet, exchange: &Exchange) -> Vec<String> {
    let request = &exchange.request;
    let method = request.method.to_ascii_lowercase();
    let Some((item, bound)) = route(&spec.document, &request.path, &method) else {
        return vec!["no such path in the document".to_owned()];
    };
    let operation = &item[method.as_str()];
    if operation.is_null() {
        return vec!["no such method in the document".to_owned()];
    }
    let mut wrong = parameters(spec, item, operation, request, &bound);
    wrong.extend(request_body(spec, operation, request));
    wrong.extend(response(spec, operation, &exchange.response));
    wrong
}

/// Path parameters, by name.
type Bound = Vec<(String, String)>;

/// The path item a path matches, and its parameters; literal segments win over templates.
///
/// Some documents have one path under several templates, each with some of the methods: one that
/// has this method wins.
fn route<'a>(document: &'a Value, path: &[String], method: &str) -> Option<(&'a Value, Bound)> {
    let prefix: Vec<&str> = document["servers"][0]["url"]
        .as_str()
        .map(|url| url.split_once("://").map_or(url, |(_, rest)| rest))
        .and_then(|url| url.split_once('/'))
        .map(|(_, path)| path.split('/').filter(|s| !s.is_empty()).collect())
        .unwrap_or_default();
    let strips = path.len() >= prefix.len() && prefix.iter().zip(path).all(|(a, b)| a == b);
    let path = if strips { &path[prefix.len()..] } else { path };
    let paths = document["paths"].as_object()?;
    let mut best: Option<((bool, usize), &Value, Bound)> = None;
    for (template, item) in paths {
        let parts: Vec<&str> = template.trim_start_matches('/').split('/').collect();
        let Some(bound) = bind(&parts, path) else { continue };
        let rank = (item[method].is_null(), bound.len());
        if best.as_ref().is_none_or(|(least, ..)| rank < *least) {
            best = Some((rank, item, bound));
        }
    }
    best.map(|(_, item, bound)| (item, bound))
}

fn bind(parts: &[&str], path: &[String]) -> Option<Bound> {
    if parts.len() != path.len() {
        return None;
    }
    let mut bound = Vec::new();
    for (part, segment) in parts.iter().zip(path) {
        match part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
            Some(name) => bound.push((name.to_owned(), segment.clone())),
            None if part == segment => {}
            None => return None,
        }
    }
    Some(bound)
}

fn parameters(
    spec: &SpecSet,
    item: &Value,
    operation: &Value,
    request: &SimRequest,
    bound: &[(String, String)],
) -> Vec<String> {
    let mut wrong = Vec::new();
    let both = [&item["parameters"], &operation["parameters"]];
    let declared: Vec<&Value> = both
        .iter()
        .filter_map(|list| list.as_array())
        .flatten()
        .map(|parameter| resolve(&spec.document, parameter))
        .collect();
    for parameter in &declared {
        let name = parameter["name"].as_str().unwrap_or_default();
        let (place, values): (_, Vec<&str>) = match parameter["in"].as_str().unwrap_or_default() {
            "path" => ("path", bound.iter().filter(|b| b.0 == name).map(|b| &*b.1).collect()),
            "query" => ("query", request.q_all(name)),
            "header" => {
                ("header", request.header(&name.to_ascii_lowercase()).into_iter().collect())
            }
            _ => continue,
        };
        if values.is_empty() && parameter["required"] == Value::Bool(true) {
            wrong.push(format!("{place} parameter `{name}` is missing"));
        }
        if !values.is_empty() && !fits(spec, &parameter["schema"], &values) {
            wrong.push(format!("{place} parameter `{name}` does not fit: {values:?}"));
        }
    }
    for (name, _) in &request.query {
        let known = |p: &&Value| p["in"] == "query" && p["name"] == name.as_str();
        if !declared.iter().any(known) {
            wrong.push(format!("query parameter `{name}` is not declared"));
        }
    }
    wrong
}

/// Whether a parameter's text fits its schema in one of the forms a text can stand for.
fn fits(spec: &SpecSet, schema: &Value, values: &[&str]) -> bool {
    let mut forms = vec![Value::String(values[0].to_owned())];
    forms.extend(serde_json::from_str::<Value>(values[0]).ok());
    let list = |parse: bool| {
        let item = |v: &&str| match serde_json::from_str(v) {
            Ok(value) if parse => value,
            _ => Value::String((*v).to_owned()),
        };
        Value::Array(values.iter().map(item).collect())
    };
    forms.extend([list(true), list(false)]);
    forms.iter().any(|form| validate(spec, schema, form).is_empty())
}

fn request_body(spec: &SpecSet, operation: &Value, request: &SimRequest) -> Vec<String> {
    let declared = resolve(&spec.document, &operation["requestBody"]);
    if declared.is_null() {
        return match request.body.is_empty() {
            true => Vec::new(),
            false => vec!["a body where the document has none".to_owned()],
        };
    }
    if request.body.is_empty() {
        return match declared["required"] == Value::Bool(true) {
            true => vec!["the body is missing".to_owned()],
            false => Vec::new(),
        };
    }
    let kind = request.header("content-type").unwrap_or_default();
    body(spec, &declared["content"], kind, &request.body, "request")
}

fn response(spec: &SpecSet, operation: &Value, answer: &SimResponse) -> Vec<String> {
    let declared = &operation["responses"];
    let class = format!("{}XX", answer.status / 100);
    let found = [answer.status.to_string(), class, "default".to_owned()]
        .iter()
        .map(|key| resolve(&spec.document, &declared[key.as_str()]))
        .find(|found| !found.is_null());
    let Some(found) = found else {
        // Errors are declared incompletely in all of the documents; successes are not.
        return match answer.status {
            200..400 => vec![format!("status {} is not declared", answer.status)],
            _ => Vec::new(),
        };
    };
    let kind = answer.headers.iter().find(|(n, _)| n == "content-type").map_or("", |(_, v)| v);
    match (found["content"].is_object(), answer.body.is_empty()) {
        (true, false) => body(spec, &found["content"], kind, &answer.body, "response"),
        (true, true) if answer.status < 300 => {
            vec![format!("status {} without its body", answer.status)]
        }
        (false, false) if answer.status < 300 => {
            vec![format!("status {} with a body where the document has none", answer.status)]
        }
        _ => Vec::new(),
    }
}

fn body(spec: &SpecSet, content: &Value, kind: &str, bytes: &[u8], side: &str) -> Vec<String> {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let media = [kind, "application/*", "*/*"]
        .iter()
        .map(|key| &content[*key])
        .find(|media| !media.is_null());
    let Some(media) = media else {
        return vec![format!("{side} content type `{kind}` is not declared")];
    };
    if media["schema"].is_null() || !kind.ends_with("json") {
        return Vec::new();
    }
    let value: Value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(error) => return vec![format!("{side} body is no json: {error}")],
    };
    validate(spec, &media["schema"], &value)
        .into_iter()
        .map(|problem| format!("{side} body {problem}"))
        .collect()
}

fn validate(spec: &SpecSet, schema: &Value, value: &Value) -> Vec<String> {
    let mut root = match schema {
        Value::Object(map) => map.clone(),
        Value::Bool(true) | Value::Null => return Vec::new(),
        _ => Map::new(),
    };
    // `#/components/…` must resolve from the root of the schema that is compiled.
    root.insert("components".to_owned(), spec.document["components"].clone());
    let root = Value::Object(root);
    let validator = match jsonschema::draft202012::new(&root) {
        Ok(validator) => validator,
        Err(error) => return vec![format!("schema does not compile: {error}")],
    };
    validator
        .iter_errors(value)
        .map(|error| format!("at `{}`: {error}", error.instance_path()))
        .map(|text| text.chars().take(300).collect())
        .collect()
}

fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str().and_then(|r| r.strip_prefix('#')) {
        Some(pointer) => document.pointer(pointer).unwrap_or(&Value::Null),
        None => value,
    }
}

/// The checker itself must find what it is there to find.
#[test]
fn a_planted_violation_is_found() {
    let Some(spec) = SpecSet::load("github") else { return };
    let exchange = |path: &str, body: Value, answer: SimResponse| Exchange {
        request: SimRequest {
            method: "POST".to_owned(),
            path: path.split('/').map(ToOwned::to_owned).collect(),
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: serde_json::to_vec(&body).unwrap(),
            ..SimRequest::default()
        },
        response: answer,
    };
    let ok = SimResponse::empty(204);
    let good = serde_json::json!({ "event_type": "provisioned" });
    let cases = [
        ("repos/a/b/dispatches", good.clone(), ok.clone(), ""),
        ("repos/a/b/dispatches", serde_json::json!({}), ok.clone(), "event_type"),
        ("repos/a/b/dispatches", serde_json::json!({ "event_type": 7 }), ok.clone(), "event_type"),
        ("repos/a/b/dispatches", good.clone(), SimResponse::empty(201), "201"),
        ("repos/a/b/dispatch", good, ok, "no such path"),
    ];
    for (path, body, answer, expected) in cases {
        let wrong = violations(&spec, &exchange(path, body, answer)).join("; ");
        assert_eq!(wrong.is_empty(), expected.is_empty(), "{path}: {wrong}");
        assert!(wrong.contains(expected), "{path}: {wrong}");
    }
}
