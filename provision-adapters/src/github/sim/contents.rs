//! Files, commits and branches, with the window in which a generated repository is still empty.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Ask, GitHubSim, invalid, not_found,
    render::commit,
    state::{Repo, sha},
    trouble,
};
use crate::sim::SimResponse;

#[derive(Debug, Deserialize)]
struct Put {
    #[serde(rename = "message")]
    _message: String,
    content: String,
    sha: Option<String>,
}

impl GitHubSim {
    pub(super) fn on_contents(&mut self, ask: &Ask<'_>, id: u64, rest: &[&str]) -> Answer {
        let repo = self.world.repos.get_mut(&id).ok_or_else(not_found)?;
        let empty = !repo.has_commit(ask.now);
        match (ask.request.method.as_str(), rest) {
            ("GET", ["commits"] | ["git", ..]) if empty => {
                Err(trouble(409, "Git Repository is empty."))
            }
            ("GET", ["commits"]) => Ok(SimResponse::json(200, &json!([commit(ask, repo)]))),
            ("GET", ["git", "ref", reference @ ..]) => {
                reference_of(ask, repo, &reference.join("/"))
            }
            ("GET", ["branches"]) => {
                let branches = if empty { json!([]) } else { json!([branch(ask, repo)]) };
                Ok(SimResponse::json(200, &branches))
            }
            ("GET", ["branches", name]) if empty || *name != repo.default_branch => {
                Err(trouble(404, "Branch not found"))
            }
            ("GET", ["branches", _]) => Ok(SimResponse::json(200, &whole_branch(ask, repo))),
            ("GET", ["contents", path @ ..]) => file(ask, repo, &path.join("/")),
            ("PUT", ["contents", path @ ..]) => put(ask, repo, &path.join("/")),
            _ => Err(SimResponse::unhandled(ask.request)),
        }
    }
}

fn reference_of(ask: &Ask<'_>, repo: &Repo, reference: &str) -> Answer {
    if reference != format!("heads/{}", repo.default_branch) {
        return Err(not_found());
    }
    let sha = sha(&format!("{}/commit", repo.id));
    let url = format!("{}/repos/{}/git/refs/{reference}", ask.api(), repo.full_name());
    let object = json!({ "type": "commit", "sha": sha, "url": url });
    let body = json!({
        "ref": format!("refs/{reference}"), "node_id": "REF", "url": url, "object": object,
    });
    Ok(SimResponse::json(200, &body))
}

fn branch(ask: &Ask<'_>, repo: &Repo) -> Value {
    let sha = sha(&format!("{}/commit", repo.id));
    let url = format!("{}/repos/{}/commits/{sha}", ask.api(), repo.full_name());
    json!({
        "name": repo.default_branch, "protected": false, "commit": { "sha": sha, "url": url },
    })
}

fn whole_branch(ask: &Ask<'_>, repo: &Repo) -> Value {
    let url = format!("{}/repos/{}/branches/{}", ask.api(), repo.full_name(), repo.default_branch);
    json!({
        "name": repo.default_branch, "commit": commit(ask, repo),
        "_links": { "html": url, "self": url }, "protected": false,
        "protection": { "enabled": false }, "protection_url": format!("{url}/protection"),
    })
}

/// Files answer before all of them are there: the first in order comes with the commit.
fn file(ask: &Ask<'_>, repo: &Repo, path: &str) -> Answer {
    if !repo.has_commit(ask.now) {
        return Err(trouble(404, "This repository is empty."));
    }
    let content = repo.files.get(path).filter(|_| ask.now >= repo.files_at);
    let content = content.ok_or_else(not_found)?;
    Ok(SimResponse::json(200, &described(ask, repo, path, content)))
}

fn described(ask: &Ask<'_>, repo: &Repo, path: &str, content: &str) -> Value {
    let url = format!("{}/repos/{}/contents/{path}", ask.api(), repo.full_name());
    json!({
        "type": "file", "encoding": "base64", "size": content.len(),
        "name": path.rsplit('/').next().unwrap_or(path), "path": path,
        "content": STANDARD.encode(content), "sha": sha(content), "url": url, "git_url": url,
        "html_url": url, "download_url": url,
        "_links": { "git": url, "html": url, "self": url },
    })
}

fn put(ask: &Ask<'_>, repo: &mut Repo, path: &str) -> Answer {
    let wrong = |why| invalid("Invalid request.", "Content", "content", why);
    let wanted: Put = ask.request.json().map_err(|_| wrong("message or content is missing"))?;
    let content = STANDARD.decode(wanted.content).map_err(|_| wrong("content is not base64"))?;
    let content = String::from_utf8_lossy(&content).into_owned();
    let (now, before) = (ask.now, repo.files.get(path).map(|old| sha(old)));
    let status = match (before, wanted.sha) {
        (None, _) => 201,
        (Some(_), None) => {
            return Err(trouble(422, "Invalid request.\n\n\"sha\" wasn't supplied."));
        }
        (Some(old), Some(given)) if old != given => {
            return Err(trouble(409, &format!("{path} does not match {given}")));
        }
        (Some(_), Some(_)) => 200,
    };
    repo.files.insert(path.to_owned(), content.clone());
    (repo.commit_at, repo.files_at) = (repo.commit_at.min(now), repo.files_at.min(now));
    let body = json!({
        "content": described(ask, repo, path, &content), "commit": { "sha": sha(&content) },
    });
    Ok(SimResponse::json(status, &body))
}
