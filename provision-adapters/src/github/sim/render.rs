//! Bodies in the shapes of the OpenAPI document.

use serde_json::{Map, Value, json};

use super::{
    Ask,
    repos::created,
    state::{Repo, Run, printed, sha},
};

/// Fields of a repository that are URLs below its own.
const REPO_URLS: [&str; 37] = [
    "archive_url",
    "assignees_url",
    "blobs_url",
    "branches_url",
    "collaborators_url",
    "comments_url",
    "commits_url",
    "compare_url",
    "contents_url",
    "contributors_url",
    "deployments_url",
    "downloads_url",
    "events_url",
    "forks_url",
    "git_commits_url",
    "git_refs_url",
    "git_tags_url",
    "hooks_url",
    "issue_comment_url",
    "issue_events_url",
    "issues_url",
    "keys_url",
    "labels_url",
    "languages_url",
    "merges_url",
    "milestones_url",
    "notifications_url",
    "pulls_url",
    "releases_url",
    "stargazers_url",
    "statuses_url",
    "subscribers_url",
    "subscription_url",
    "tags_url",
    "teams_url",
    "trees_url",
    "svn_url",
];

/// Fields of an account that are URLs below its own.
const ACCOUNT_URLS: [&str; 13] = [
    "avatar_url",
    "events_url",
    "followers_url",
    "following_url",
    "gists_url",
    "html_url",
    "organizations_url",
    "received_events_url",
    "repos_url",
    "starred_url",
    "subscriptions_url",
    "hooks_url",
    "issues_url",
];

fn urls(names: &[&str], base: &str) -> Map<String, Value> {
    let url = |name: &&str| {
        let part = name.trim_end_matches("_url");
        ((*name).to_owned(), Value::String(format!("{base}/{part}")))
    };
    names.iter().map(url).collect()
}

fn merged(mut map: Map<String, Value>, own: Value) -> Value {
    if let Value::Object(own) = own {
        map.extend(own);
    }
    Value::Object(map)
}

pub(super) fn account(api: &str, login: &str, kind: &str, id: u64) -> Value {
    let url = format!("{api}/users/{login}");
    let own = json!({
        "login": login, "id": id, "node_id": format!("U_{id}"), "gravatar_id": "",
        "site_admin": false, "type": kind, "url": url,
    });
    merged(urls(&ACCOUNT_URLS, &url), own)
}

/// The user a token belongs to, as they see themselves in public.
pub(super) fn user(api: &str, login: &str, id: u64) -> Value {
    let mut own = account(api, login, "User", id);
    if let Some(map) = own.as_object_mut() {
        map.remove("hooks_url");
        map.remove("issues_url");
    }
    let more = json!({
        "bio": null, "blog": null, "company": null, "email": null, "followers": 0,
        "following": 0, "hireable": null, "location": null, "name": null, "public_gists": 0,
        "public_repos": 0, "created_at": "2020-01-01T00:00:00Z",
        "updated_at": "2020-01-01T00:00:00Z", "user_view_type": "public",
    });
    merged(own.as_object().cloned().unwrap_or_default(), more)
}

pub(super) fn organization(api: &str, login: &str, id: u64) -> Value {
    let url = format!("{api}/orgs/{login}");
    let own = json!({
        "login": login, "id": id, "node_id": format!("O_{id}"), "url": url,
        "members_url": format!("{url}/members{{/member}}"),
        "public_members_url": format!("{url}/public_members{{/member}}"), "description": null,
        "has_organization_projects": true, "has_repository_projects": true, "public_repos": 0,
        "public_gists": 0, "followers": 0, "following": 0, "type": "Organization",
        "created_at": "2020-01-01T00:00:00Z", "updated_at": "2020-01-01T00:00:00Z",
        "archived_at": null,
    });
    merged(urls(&ACCOUNT_URLS, &url), own)
}

/// What a user is in an organization.
pub(super) fn membership(
    api: &str,
    (org, org_id): (&str, u64),
    who: (&str, u64),
    role: &str,
) -> Value {
    let url = format!("{api}/orgs/{org}");
    json!({
        "url": format!("{url}/memberships/{}", who.0), "state": "active", "role": role,
        "organization_url": url, "organization": organization(api, org, org_id),
        "user": account(api, who.0, "User", who.1),
    })
}

pub(super) fn full_repo(ask: &Ask<'_>, repo: &Repo) -> Value {
    let (api, full_name) = (ask.api(), repo.full_name());
    let url = format!("{api}/repos/{full_name}");
    let page = format!("https://github.com/{full_name}");
    let admin = ask.token.member;
    // Lazily updated: a fresh copy has size 0 although files are there.
    let size = if repo.fixture { 12 } else { 0 };
    let own = json!({
        "id": repo.id, "node_id": format!("R_{}", repo.id), "name": repo.name,
        "full_name": full_name, "owner": account(&api, &repo.owner, "Organization", 1),
        "private": repo.private, "visibility": if repo.private { "private" } else { "public" },
        "description": repo.description, "html_url": page, "url": url, "fork": false,
        "git_url": format!("git://github.com/{full_name}.git"),
        "clone_url": format!("{page}.git"),
        "ssh_url": format!("git@github.com:{full_name}.git"), "mirror_url": null,
        "default_branch": repo.default_branch, "archived": false, "disabled": false,
        "is_template": repo.is_template, "topics": repo.topics, "language": null,
        "license": null, "homepage": null, "size": size, "created_at": created(repo),
        "updated_at": created(repo), "pushed_at": created(repo),
        "permissions": {
            "admin": admin, "maintain": admin, "push": admin, "triage": admin, "pull": true,
        },
    });
    let counts = [
        "forks",
        "forks_count",
        "open_issues",
        "open_issues_count",
        "stargazers_count",
        "watchers",
        "watchers_count",
        "network_count",
        "subscribers_count",
    ];
    let flags =
        ["has_issues", "has_projects", "has_wiki", "has_pages", "has_discussions", "has_downloads"];
    let mut map = urls(&REPO_URLS, &url);
    map.extend(counts.map(|name| (name.to_owned(), json!(0))));
    map.extend(flags.map(|name| (name.to_owned(), json!(false))));
    if repo.private {
        // A private repository may carry a credential of its own: it must never get anywhere.
        map.insert("temp_clone_token".to_owned(), json!("AAAACANARYCLONETOKEN"));
    }
    merged(map, own)
}

pub(super) fn commit(ask: &Ask<'_>, repo: &Repo) -> Value {
    let sha = sha(&format!("{}/commit", repo.id));
    let url = format!("{}/repos/{}/commits/{sha}", ask.api(), repo.full_name());
    let who = json!({ "name": "octo", "email": "octo@example.com", "date": created(repo) });
    json!({
        "url": url, "sha": sha, "node_id": format!("C_{}", repo.id), "html_url": url,
        "comments_url": format!("{url}/comments"), "author": null, "committer": null,
        "parents": [],
        "commit": {
            "url": url, "author": who, "committer": who, "message": "Initial commit",
            "comment_count": 0, "tree": { "sha": sha, "url": url },
            "verification": {
                "verified": false, "reason": "unsigned", "signature": null, "payload": null,
                "verified_at": null,
            },
        },
    })
}

pub(super) fn run(ask: &Ask<'_>, repo: &Repo, run: &Run) -> Value {
    let url = format!("{}/repos/{}/actions/runs/{}", ask.api(), repo.full_name(), run.id);
    let (status, conclusion) = match () {
        () if run.ended(ask.now).is_some() => ("completed", run.ended(ask.now)),
        () if ask.now >= run.begins => ("in_progress", None),
        () => ("queued", None),
    };
    let small = full_repo(ask, repo);
    let below = |part: &str| format!("{url}/{part}");
    json!({
        "id": run.id, "node_id": format!("WFR_{}", run.id), "name": run.file,
        "head_branch": repo.default_branch, "head_sha": sha(&format!("{}/commit", repo.id)),
        "path": format!(".github/workflows/{}", run.file), "display_title": run.title,
        "run_number": run.number, "run_attempt": 1, "event": run.event, "status": status,
        "conclusion": conclusion, "workflow_id": 1, "url": url,
        "html_url": format!("https://github.com/{}/actions/runs/{}", repo.full_name(), run.id),
        "pull_requests": [], "created_at": printed(run.created),
        "updated_at": printed(run.created), "jobs_url": below("jobs"), "logs_url": below("logs"),
        "check_suite_url": below("check"), "artifacts_url": below("artifacts"),
        "cancel_url": below("cancel"), "rerun_url": below("rerun"),
        "workflow_url": below("workflow"), "head_commit": null, "repository": small,
        "head_repository": small,
    })
}
