//! What a simulated GitHub remembers.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crypto_box::SecretKey;
use provision_core::{OwnerMark, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    http::format_rfc3339,
    sim::{InventoryItem, SimResponse, SimTime},
};

/// Everything that survives the process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct World {
    pub(super) next_id: u64,
    pub(super) repos: BTreeMap<u64, Repo>,
    /// Old names (lower case) of repositories that were renamed.
    pub(super) renamed: BTreeMap<String, u64>,
}

impl World {
    pub(super) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn by_name(&self, full_name: &str) -> Option<&Repo> {
        self.repos.values().find(|repo| repo.full_name().eq_ignore_ascii_case(full_name))
    }

    pub(super) fn by_name_mut(&mut self, full_name: &str) -> Option<&mut Repo> {
        self.repos.values_mut().find(|repo| repo.full_name().eq_ignore_ascii_case(full_name))
    }

    pub(super) fn rename(&mut self, full_name: &str, new_name: &str) {
        let Some(repo) = self.by_name_mut(full_name) else { return };
        new_name.clone_into(&mut repo.name);
        let id = repo.id;
        self.renamed.insert(full_name.to_lowercase(), id);
    }
}

/// Who a token belongs to, and what it may do.
#[derive(Debug, Clone, Default)]
pub struct Token {
    /// Login of its user.
    pub login: String,
    /// Scopes of a classic token; a fine-grained one has none to show.
    pub scopes: Option<Vec<String>>,
    /// Whether it sees and changes what is private.
    pub member: bool,
    /// Whether its user owns the organizations, and is not a plain member of them.
    pub owner: bool,
    /// The private repositories (`owner/name`) that it was given, where not all.
    pub selected: Option<Vec<String>>,
}

impl Token {
    /// A classic token with scopes.
    #[must_use]
    pub fn classic(login: &str, scopes: &[&str]) -> Self {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        Self { scopes: Some(scopes), ..Self::fine_grained(login) }
    }

    /// A fine-grained token that may do everything.
    #[must_use]
    pub fn fine_grained(login: &str) -> Self {
        let login = login.to_owned();
        Self { login, scopes: None, member: true, owner: true, selected: None }
    }

    /// A token that sees only what is public.
    #[must_use]
    pub fn outsider(login: &str) -> Self {
        Self { member: false, owner: false, ..Self::classic(login, &[]) }
    }

    /// Its user is a plain member of the organizations.
    #[must_use]
    pub fn of_member(mut self) -> Self {
        self.owner = false;
        self
    }

    /// It was given these private repositories (`owner/name`) alone.
    #[must_use]
    pub fn given(mut self, repositories: &[&str]) -> Self {
        self.selected = Some(repositories.iter().map(|name| (*name).to_owned()).collect());
        self
    }

    /// Whether it sees a private repository of this name.
    pub(super) fn sees(&self, full_name: &str) -> bool {
        let given = |all: &Vec<String>| all.iter().any(|one| one.eq_ignore_ascii_case(full_name));
        self.member && self.has("repo") && self.selected.as_ref().is_none_or(given)
    }

    pub(super) fn has(&self, scope: &str) -> bool {
        self.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(|one| one == scope))
    }
}

/// What is allowed before 403 or 429.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests per hour and token. Default 5,000.
    pub per_hour: u32,
    /// Creates per minute and token. Default 80.
    pub creates_per_minute: usize,
    /// Status of a refusal: 403 or 429, which GitHub both uses. Default 403.
    pub status: u16,
    /// `Retry-After` of the secondary limit, in seconds. Default none.
    pub retry_after: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_hour: 5_000, creates_per_minute: 80, status: 403, retry_after: None }
    }
}

/// What a token has used.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    began: SimTime,
    pub(super) used: u32,
    pub(super) creates: Vec<SimTime>,
}

impl Window {
    const LENGTH: SimTime = SimTime::from_secs(3_600);

    pub(super) fn roll(&mut self, now: SimTime) {
        if now.saturating_sub(self.began) >= Self::LENGTH {
            (self.began, self.used) = (now, 0);
        }
        self.creates.retain(|at| now.saturating_sub(*at) < SimTime::from_secs(60));
    }

    pub(super) fn headers(&self, limits: Limits, response: SimResponse) -> SimResponse {
        let left = limits.per_hour.saturating_sub(self.used);
        let reset = self.began.saturating_add(Self::LENGTH).as_secs();
        response
            .header("x-ratelimit-limit", &limits.per_hour.to_string())
            .header("x-ratelimit-remaining", &left.to_string())
            .header("x-ratelimit-used", &self.used.to_string())
            .header("x-ratelimit-reset", &reset.to_string())
            .header("x-ratelimit-resource", "core")
    }
}

/// A workflow file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workflow {
    pub(super) file: String,
    pub(super) inputs: Option<Vec<String>>,
    pub(super) event: Option<String>,
    pub(super) run_name: String,
    /// How its runs end.
    pub(super) conclusion: Option<String>,
    /// How long its runs work.
    pub(super) works: Option<SimTime>,
    /// How long its runs work on when they are cancelled.
    #[serde(default)]
    pub(super) winds_down: SimTime,
    /// Whether its runs end when they are cancelled; else only by force.
    #[serde(default)]
    pub(super) deaf: bool,
}

impl Workflow {
    /// A workflow that nothing starts.
    #[must_use]
    pub fn new(file: &str) -> Self {
        Self { file: file.to_owned(), run_name: file.to_owned(), ..Self::default() }
    }

    /// Lets its runs end in this way. Default `success`.
    #[must_use]
    pub fn ending_as(mut self, conclusion: &str) -> Self {
        self.conclusion = Some(conclusion.to_owned());
        self
    }

    /// Lets its runs work so long. Default 3 s at speed 1.
    #[must_use]
    pub fn working_for(mut self, time: SimTime) -> Self {
        self.works = Some(time);
        self
    }

    /// Lets its runs work on for so long when they are cancelled, as while a step winds up. Default
    /// not at all.
    #[must_use]
    pub fn winding_down_for(mut self, time: SimTime) -> Self {
        self.winds_down = time;
        self
    }

    /// Lets its runs go on when they are cancelled; they end by force alone.
    #[must_use]
    pub fn deaf(mut self) -> Self {
        self.deaf = true;
        self
    }

    /// Starts on `workflow_dispatch`, with these inputs.
    #[must_use]
    pub fn dispatched_with(mut self, inputs: &[&str]) -> Self {
        self.inputs = Some(inputs.iter().map(|input| (*input).to_owned()).collect());
        self
    }

    /// Starts on `repository_dispatch` of this type.
    #[must_use]
    pub fn listening_for(mut self, event: &str) -> Self {
        self.event = Some(event.to_owned());
        self
    }

    /// Title of its runs; `${{ inputs.NAME }}` and `${{ client_payload.provision.key }}` are
    /// replaced.
    #[must_use]
    pub fn named(mut self, run_name: &str) -> Self {
        run_name.clone_into(&mut self.run_name);
        self
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Repo {
    pub(super) id: u64,
    pub(super) owner: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) private: bool,
    pub(super) is_template: bool,
    pub(super) template: Option<String>,
    pub(super) topics: Vec<String>,
    pub(super) default_branch: String,
    pub(super) created: SimTime,
    /// When look-ups and listings begin to show it.
    pub(super) visible: SimTime,
    pub(super) commit_at: SimTime,
    pub(super) files_at: SimTime,
    pub(super) workflows_at: SimTime,
    pub(super) files: BTreeMap<String, String>,
    pub(super) workflows: Vec<Workflow>,
    pub(super) secrets: BTreeMap<String, Secret>,
    pub(super) variables: BTreeMap<String, Variable>,
    pub(super) runs: Vec<Run>,
    pub(super) key_number: u64,
    /// Whether the account had it before any run.
    pub(super) fixture: bool,
}

impl Repo {
    /// A repository that is completely there since long ago.
    pub(super) fn fixture(id: u64, full_name: &str) -> Self {
        let (owner, name) = full_name.split_once('/').unwrap_or(("", full_name));
        Self {
            id,
            owner: owner.to_owned(),
            name: name.to_owned(),
            description: String::new(),
            private: false,
            is_template: false,
            template: None,
            topics: Vec::new(),
            default_branch: "main".to_owned(),
            created: SimTime::from_secs(1_700_000_000),
            visible: SimTime::ZERO,
            commit_at: SimTime::ZERO,
            files_at: SimTime::ZERO,
            workflows_at: SimTime::ZERO,
            files: BTreeMap::new(),
            workflows: Vec::new(),
            secrets: BTreeMap::new(),
            variables: BTreeMap::new(),
            runs: Vec::new(),
            key_number: 1,
            fixture: true,
        }
    }

    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// The key pair that secrets are sealed for; real, and drawn from id and number.
    pub(super) fn key(&self) -> SecretKey {
        key(self.id, self.key_number)
    }

    pub(super) fn key_id(&self) -> String {
        (self.id * 1_000 + self.key_number).to_string()
    }

    pub(super) fn has_commit(&self, now: SimTime) -> bool {
        now >= self.commit_at && !self.files.is_empty()
    }

    pub(super) fn inventory(&self) -> Vec<InventoryItem> {
        let name = self.full_name();
        let labels = OwnerMark::find_in(&self.description).map(|mark| mark.labels());
        let labels: BTreeMap<_, _> = labels.unwrap_or_default().into_iter().collect();
        let item = |kind: &str, id: String, name: String| InventoryItem {
            provider: "github".to_owned(),
            kind: kind.to_owned(),
            id,
            name,
            labels: labels.clone(),
        };
        let mut items = vec![item("repo", self.id.to_string(), name.clone())];
        let inside = |kind, key: &String| item(kind, format!("{name}/{key}"), key.clone());
        items.extend(self.secrets.keys().map(|key| inside("secret", key)));
        items.extend(self.variables.keys().map(|key| inside("variable", key)));
        items
            .extend(self.runs.iter().map(|run| item("run", run.id.to_string(), run.title.clone())));
        items
    }
}

fn key(repo: u64, number: u64) -> SecretKey {
    let half = |side: &str| {
        let seed = format!("{repo}/{number}/{side}");
        *Uuid::new_v5(&Uuid::NAMESPACE_OID, seed.as_bytes()).as_bytes()
    };
    let mut bytes = [0; 32];
    for (place, byte) in bytes.iter_mut().zip(half("a").into_iter().chain(half("b"))) {
        *place = byte;
    }
    SecretKey::from(bytes)
}

/// A secret, as it was sent: sealed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Secret {
    pub(super) sealed: String,
    pub(super) key: (u64, u64),
    pub(super) created: SimTime,
    pub(super) updated: SimTime,
}

impl Secret {
    /// The value, if it was sealed for the key it says.
    pub(super) fn open(&self) -> Option<String> {
        let sealed = STANDARD.decode(&self.sealed).ok()?;
        String::from_utf8(key(self.key.0, self.key.1).unseal(&sealed).ok()?).ok()
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Variable {
    pub(super) value: String,
    pub(super) created: SimTime,
    pub(super) updated: SimTime,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) id: u64,
    pub(super) number: usize,
    pub(super) event: String,
    pub(super) title: String,
    pub(super) file: String,
    pub(super) created: SimTime,
    pub(super) visible: SimTime,
    pub(super) begins: SimTime,
    pub(super) ends: SimTime,
    /// When it ends because it was cancelled.
    #[serde(default)]
    pub(super) cancelled_at: Option<SimTime>,
    pub(super) conclusion: String,
    pub(super) inputs: BTreeMap<String, String>,
}

impl Run {
    /// How it ended, once it has.
    pub(super) fn ended(&self, now: SimTime) -> Option<&str> {
        match self.cancelled_at {
            Some(at) if now >= at && at <= self.ends => Some("cancelled"),
            _ if now >= self.ends => Some(&self.conclusion),
            _ => None,
        }
    }
}

/// A moment as GitHub prints it.
pub(super) fn printed(at: SimTime) -> String {
    format_rfc3339(Timestamp::ZERO.plus(at))
}

/// Forty hex digits that depend on the text alone, where GitHub shows a hash.
pub(super) fn sha(text: &str) -> String {
    let part = |n: u8| Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{n}{text}").as_bytes());
    let hex = format!("{}{}", part(0).simple(), part(1).simple());
    hex.chars().take(40).collect()
}
