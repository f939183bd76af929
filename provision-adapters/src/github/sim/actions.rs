//! Secrets and variables.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Ask, GitHubSim, not_found, page,
    state::{Repo, Secret, Variable, printed},
    trouble, with_link,
};
use crate::{github::VALUE_BYTES_MAX, sim::SimResponse};

#[derive(Debug, Deserialize)]
struct Sealed {
    encrypted_value: String,
    key_id: String,
}

#[derive(Debug, Default, Deserialize)]
struct Named {
    name: Option<String>,
    value: Option<String>,
}

impl GitHubSim {
    pub(super) fn on_secrets(&mut self, ask: &Ask<'_>, id: u64, rest: &[&str]) -> Answer {
        let repo = self.writable(ask, id)?;
        match (ask.request.method.as_str(), rest) {
            ("GET", []) => {
                let all: Vec<Value> = repo.secrets.iter().map(secret).collect();
                let (items, link) = page(ask, &all, 30, 100);
                let body = json!({ "total_count": all.len(), "secrets": items });
                Ok(with_link(SimResponse::json(200, &body), &link))
            }
            ("GET", ["public-key"]) => {
                let key = STANDARD.encode(repo.key().public_key().as_bytes());
                let body = json!({ "key_id": repo.key_id(), "key": key });
                Ok(SimResponse::json(200, &body))
            }
            ("GET", [name]) => {
                let found = repo.secrets.get_key_value(&name.to_uppercase());
                found.map(|found| SimResponse::json(200, &secret(found))).ok_or_else(not_found)
            }
            ("PUT", [name]) => put_secret(ask, repo, &name.to_uppercase()),
            ("DELETE", [name]) => match repo.secrets.remove(&name.to_uppercase()) {
                Some(_) => Ok(SimResponse::empty(204)),
                None => Err(not_found()),
            },
            _ => Err(SimResponse::unhandled(ask.request)),
        }
    }

    pub(super) fn on_variables(&mut self, ask: &Ask<'_>, id: u64, rest: &[&str]) -> Answer {
        let repo = self.writable(ask, id)?;
        match (ask.request.method.as_str(), rest) {
            ("GET", []) => {
                let all: Vec<Value> = repo.variables.iter().map(variable).collect();
                let (items, link) = page(ask, &all, 10, 30);
                let body = json!({ "total_count": all.len(), "variables": items });
                Ok(with_link(SimResponse::json(200, &body), &link))
            }
            ("POST", []) => post_variable(ask, repo),
            ("GET", [name]) => {
                let found = repo.variables.get_key_value(&name.to_uppercase());
                found.map(|found| SimResponse::json(200, &variable(found))).ok_or_else(not_found)
            }
            ("PATCH", [name]) => patch_variable(ask, repo, &name.to_uppercase()),
            ("DELETE", [name]) => match repo.variables.remove(&name.to_uppercase()) {
                Some(_) => Ok(SimResponse::empty(204)),
                None => Err(not_found()),
            },
            _ => Err(SimResponse::unhandled(ask.request)),
        }
    }

    /// The repository, if the token may change it.
    pub(super) fn writable(&mut self, ask: &Ask<'_>, id: u64) -> Result<&mut Repo, SimResponse> {
        if !ask.token.member {
            return Err(trouble(403, "Resource not accessible by personal access token"));
        }
        self.world.repos.get_mut(&id).ok_or_else(not_found)
    }
}

fn put_secret(ask: &Ask<'_>, repo: &mut Repo, name: &str) -> Answer {
    let wrong = |why: &str| trouble(422, why);
    let sealed: Sealed =
        ask.request.json().map_err(|_| wrong("encrypted_value or key_id is missing"))?;
    if sealed.key_id != repo.key_id() {
        return Err(wrong("Invalid key_id: the public key has changed"));
    }
    if !is_name(name) {
        return Err(wrong("Secret names can only contain alphanumeric characters"));
    }
    let known = repo.secrets.get(name).map(|old| old.created);
    if known.is_none() && repo.secrets.len() >= 100 {
        return Err(wrong("This repository has reached the maximum number of secrets"));
    }
    let secret = Secret {
        sealed: sealed.encrypted_value,
        key: (repo.id, repo.key_number),
        created: known.unwrap_or(ask.now),
        updated: ask.now,
    };
    match secret.open() {
        Some(value) if value.len() <= VALUE_BYTES_MAX => {}
        Some(_) => return Err(wrong("The value is larger than 48 KB")),
        None => return Err(wrong("The value was not sealed for this repository's public key")),
    }
    repo.secrets.insert(name.to_owned(), secret);
    Ok(match known {
        Some(_) => SimResponse::empty(204),
        None => SimResponse::json(201, &json!({})),
    })
}

fn post_variable(ask: &Ask<'_>, repo: &mut Repo) -> Answer {
    let wanted: Named = ask.request.json().unwrap_or_default();
    let (Some(name), Some(value)) = (wanted.name, wanted.value) else {
        return Err(trouble(422, "name and value are required"));
    };
    let name = name.to_uppercase();
    if !is_name(&name) || value.len() > VALUE_BYTES_MAX {
        return Err(trouble(422, "Variable names can only contain alphanumeric characters"));
    }
    if repo.variables.contains_key(&name) {
        return Err(trouble(409, "Already exists - Variable already exists"));
    }
    repo.variables.insert(name, Variable { value, created: ask.now, updated: ask.now });
    Ok(SimResponse::json(201, &json!({})))
}

fn patch_variable(ask: &Ask<'_>, repo: &mut Repo, name: &str) -> Answer {
    let wanted: Named = ask.request.json().unwrap_or_default();
    let known = repo.variables.get_mut(name).ok_or_else(not_found)?;
    if let Some(value) = wanted.value {
        known.value = value;
        known.updated = ask.now;
    }
    Ok(SimResponse::empty(204))
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let starts = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_');
    starts && name.chars().all(allowed) && !name.starts_with("GITHUB_")
}

fn secret((name, secret): (&String, &Secret)) -> Value {
    json!({
        "name": name, "created_at": printed(secret.created),
        "updated_at": printed(secret.updated),
    })
}

fn variable((name, variable): (&String, &Variable)) -> Value {
    json!({
        "name": name, "value": variable.value, "created_at": printed(variable.created),
        "updated_at": printed(variable.updated),
    })
}
