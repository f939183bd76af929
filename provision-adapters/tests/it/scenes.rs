//! A small saga per provider, and the cloud it finds: with things of the same name that others
//! made, and things that another run made.

use std::time::Duration;

use provision_adapters::{
    github::{
        Account, Dispatch, DispatchSpec, Event, GitHub, GitHubConfig, RepoFromTemplate,
        RepoSecrets, RepoSpec, RepoVariables, SecretsSpec, SendEvent, StopRuns, VariablesSpec,
        sim::GitHubSim,
    },
    http::BaseUrl,
    n8n::{
        ActivationSpec, Credential, CredentialMade, CredentialSpec, CredentialValue, N8n,
        N8nConfig, Template, UpgradeSpec, Workflow, WorkflowActivation, WorkflowSpec,
        WorkflowUpgrade,
        sim::{N8nSim, Release},
    },
    supabase::{ProjectSpec, SchemaSpec, Supabase, SupabaseConfig, SupabaseProject, sim},
    vercel::{
        DeploymentSpec, DomainSpec, EnvSpec, EnvVar, GitSource, SiteSpec, Vercel, VercelConfig,
        VercelDeployment, VercelDomain, VercelEnv, VercelProject, sim::VercelSim,
    },
};
use provision_core::{OwnerMark, RunId, Saga, SecretRef, resolver::MapResolver};
use serde_json::Value;
use uuid::Uuid;

use crate::engine::{Build, End, NOTHING, SAGA, Scene, call_within};

/// Stands in every token of a scene.
pub(crate) const TOKEN: &str = "canary-token-9b1f7c";
/// Stands in every value that a scene sets from a secret of the host.
pub(crate) const VALUE: &str = "canary-value-3e8a55";

/// The mark of a run that is not ours, at the same step.
pub(crate) fn other(path: &str) -> OwnerMark {
    OwnerMark::new(RunId::from_uuid(Uuid::from_u128(0xfeed)), path)
}

pub(crate) fn at(url: &str) -> BaseUrl {
    BaseUrl::parse(url).unwrap()
}

pub(crate) fn resolver() -> MapResolver {
    MapResolver::new().with("TOKEN", TOKEN).with("VALUE", VALUE)
}

pub(crate) fn token() -> SecretRef {
    SecretRef::named("TOKEN")
}

pub(crate) fn value() -> SecretRef {
    SecretRef::named("VALUE")
}

/// Removes counters and what was deleted from a state, which a provider never shows.
pub(crate) fn without(mut state: Value, names: &[&str]) -> Value {
    if let Some(object) = state.as_object_mut() {
        object.retain(|name, _| !names.contains(&name.as_str()));
    }
    state
}

/// A repository from a template, what is set in it, and a run in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnGitHub;

pub(crate) fn github(url: &str) -> GitHub {
    let account = Account::Organization("acme".to_owned());
    let config = GitHubConfig::new(account, token()).with_base(at(url));
    GitHub::new(config.with_call_timeout(call_within())).unwrap()
}

impl Scene for OnGitHub {
    type Sim = GitHubSim;

    fn sim(&self) -> GitHubSim {
        let mut sim = GitHubSim::acme(TOKEN);
        sim.add_foreign("acme/client-b", "somebody's");
        sim.add_foreign("acme/client-c", &format!("another run's {}", other("repo")));
        sim
    }

    fn saga(&self, url: &str, build: Build) -> Saga<String, String> {
        let github = github(url);
        Saga::define(SAGA, |s| {
            let repo = s
                .resource("repo", RepoFromTemplate::new(&github))
                .retry(build.policy())
                .input((), templated);
            let secrets = s
                .resource("secrets", RepoSecrets::new(&github))
                .retry(build.policy())
                .input(repo, |_, repo| {
                    SecretsSpec::new(repo.id, repo.full_name).with("A", value()).with("B", value())
                });
            let variables = s
                .resource("variables", RepoVariables::new(&github))
                .retry(build.policy())
                .after(secrets)
                .input(repo, |_, repo| {
                    VariablesSpec::new(repo.id, repo.full_name).with("C", "1").with("D", "2")
                });
            let run = s
                .resource("dispatch", Dispatch::new(&github))
                .retry(build.policy())
                .after(variables)
                .input(repo, |_, repo| {
                    DispatchSpec::new(repo.full_name, "deploy.yml", repo.default_branch)
                        .with_key_input("provision_key")
                });
            s.step("end", End(build), NOTHING).input(run, |_, run| run.html_url)
        })
        .unwrap()
    }

    fn resolver(&self) -> MapResolver {
        resolver()
    }

    fn lasting(&self, state: Value) -> Value {
        without(state, &["next_id"])
    }

    fn same_ids(&self, kind: &str) -> Option<&'static str> {
        match kind {
            "repo" => Some("repo"),
            "workflow_run" => Some("run"),
            _ => None,
        }
    }

    fn lag(&self) -> Duration {
        provision_adapters::github::LISTING_LAG
    }

    fn late(&self) -> Duration {
        provision_adapters::github::LATE_WINDOW
    }
}

/// The repository of both scenes.
fn templated(name: &String, (): ()) -> RepoSpec {
    RepoSpec::from_template("acme/template", name).with_sentinel("README.md")
}

/// A repository, and an event for its workflows: a step that is repeated, and has no identity.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnGitHubEvents;

impl Scene for OnGitHubEvents {
    type Sim = GitHubSim;

    fn sim(&self) -> GitHubSim {
        OnGitHub.sim()
    }

    fn saga(&self, url: &str, build: Build) -> Saga<String, String> {
        let github = github(url);
        Saga::define(SAGA, |s| {
            let repo = s
                .resource("repo", RepoFromTemplate::new(&github))
                .retry(build.policy())
                .input((), templated);
            let event = s
                .step("event", SendEvent::new(&github), StopRuns::new(&github))
                .retry(build.policy())
                .input(repo, |_, repo| Event::new(repo.full_name, "provisioned"));
            s.step("end", End(build), NOTHING).input(event, |_, event| event.key)
        })
        .unwrap()
    }

    fn resolver(&self) -> MapResolver {
        resolver()
    }

    fn lasting(&self, state: Value) -> Value {
        OnGitHub.lasting(state)
    }

    fn same_ids(&self, kind: &str) -> Option<&'static str> {
        (kind == "repo").then_some("repo")
    }

    fn may_repeat(&self, kind: &str) -> bool {
        // An event whose run is not listed yet is sent again; the undo stops all of its runs.
        kind == "run"
    }

    fn lag(&self) -> Duration {
        OnGitHub.lag()
    }

    fn late(&self) -> Duration {
        OnGitHub.late()
    }
}

/// A project with a schema.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnSupabase;

pub(crate) fn supabase(url: &str) -> Supabase {
    let config = SupabaseConfig::at(at(url), token(), sim::ORGANIZATION);
    Supabase::new(config.with_call_timeout(call_within())).unwrap()
}

const SCHEMA: &str = "create table public.notes (id bigint primary key, owner uuid, body text);
alter table public.notes enable row level security;
create policy own on public.notes for select to authenticated using (owner = auth.uid());
grant select on public.notes to authenticated;";

impl Scene for OnSupabase {
    type Sim = sim::SupabaseSim;

    fn sim(&self) -> sim::SupabaseSim {
        let mut sim = sim::SupabaseSim::new();
        sim.set_token(TOKEN);
        sim.add_project("client-a");
        sim.add_project(&format!("client-a {}", other("db")));
        sim
    }

    fn saga(&self, url: &str, build: Build) -> Saga<String, String> {
        let supabase = supabase(url);
        Saga::define(SAGA, |s| {
            let db = s.resource("db", SupabaseProject::new(&supabase)).retry(build.policy()).input(
                (),
                |name: &String, ()| {
                    let schema = SchemaSpec::new().with_migration("0001_notes", SCHEMA);
                    ProjectSpec::new(name.as_str(), "eu-central-1").with_schema(schema)
                },
            );
            s.step("end", End(build), NOTHING).input(db, |_, db| db.url)
        })
        .unwrap()
    }

    fn resolver(&self) -> MapResolver {
        resolver()
    }

    fn lasting(&self, mut state: Value) -> Value {
        if let Some(projects) = state.get_mut("projects").and_then(Value::as_object_mut) {
            projects.retain(|_, project| project["deleted_ms"].is_null());
        }
        without(state, &["windows", "serial"])
    }

    fn same_ids(&self, kind: &str) -> Option<&'static str> {
        (kind == "project").then_some("project")
    }

    fn lag(&self) -> Duration {
        provision_adapters::supabase::LISTING_LAG
    }

    fn late(&self) -> Duration {
        provision_adapters::supabase::LATE_WINDOW
    }
}

/// A site: project, variables, deployment, domain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnVercel;

pub(crate) fn vercel(url: &str) -> Vercel {
    let config = VercelConfig::at(at(url), token()).with_edge(at(url));
    Vercel::new(config.with_call_timeout(call_within())).unwrap()
}

impl Scene for OnVercel {
    type Sim = VercelSim;

    fn sim(&self) -> VercelSim {
        let mut sim = VercelSim::new();
        sim.accept_token(TOKEN);
        sim.set_dns_unasked("client-a.example.com");
        sim.seed_project(provision_adapters::vercel::sim::PERSONAL, "client-b");
        // The same name in another scope is another project.
        sim.add_team("team_theirs");
        sim.seed_project("team_theirs", "client-a");
        sim
    }

    fn saga(&self, url: &str, build: Build) -> Saga<String, String> {
        let vercel = vercel(url);
        Saga::define(SAGA, |s| {
            let site = s
                .resource("site", VercelProject::new(&vercel))
                .retry(build.policy())
                .input((), |name: &String, ()| SiteSpec::linked(name.as_str(), "acme/site"));
            let env = s.resource("env", VercelEnv::new(&vercel)).retry(build.policy()).input(
                site,
                |_, site| {
                    let [a, b] = [EnvVar::plain("A", "1"), EnvVar::encrypted("B", value())];
                    EnvSpec::new(site, [a, b, EnvVar::sensitive("C", value())])
                },
            );
            let live = s
                .resource("deployment", VercelDeployment::new(&vercel))
                .retry(build.policy())
                .input(env, |_, env| {
                    DeploymentSpec::production(env, GitSource::repository("acme/site", "main"))
                });
            let domain = s
                .resource("domain", VercelDomain::new(&vercel))
                .retry(build.policy())
                .after(live)
                .input(site, |name, site| DomainSpec::new(site, format!("{name}.example.com")));
            s.step("end", End(build), NOTHING).input(domain, |_, domain| domain.domain)
        })
        .unwrap()
    }

    fn resolver(&self) -> MapResolver {
        resolver()
    }

    fn lasting(&self, state: Value) -> Value {
        without(state, &["made", "windows"])
    }

    fn same_ids(&self, kind: &str) -> Option<&'static str> {
        ["project", "deployment", "domain"].into_iter().find(|same| *same == kind)
    }

    fn lag(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn late(&self) -> Duration {
        Duration::from_secs(60)
    }
}

/// A webhook: credential, workflow, activation, and the next version.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnN8n {
    pub(crate) release: Release,
}

pub(crate) fn n8n(url: &str) -> N8n {
    N8n::new(N8nConfig::new(at(url), token()).with_call_timeout(call_within())).unwrap()
}

/// The workflow of the scene in one version of its template.
fn intake(app: &str, version: &str, key: &CredentialMade) -> WorkflowSpec {
    WorkflowSpec::new(app, Template::webhook("intake", version, "<<app>>/intake"))
        .with_value("app", app)
        .with_credential(key.clone())
}

impl Scene for OnN8n {
    type Sim = N8nSim;

    fn sim(&self) -> N8nSim {
        let mut sim = N8nSim::new();
        sim.set_release(self.release);
        sim.accept_key(TOKEN);
        sim.seed_workflow("client-a", "POST", "somebody/else", true);
        let name = format!("client-a [prov:{}]", other("workflow").token());
        sim.seed_workflow(&name, "POST", "another/run", true);
        sim
    }

    fn saga(&self, url: &str, build: Build) -> Saga<String, String> {
        let n8n = n8n(url);
        Saga::define(SAGA, |s| {
            let key = s.resource("key", Credential::new(&n8n)).retry(build.policy()).input(
                (),
                |name: &String, ()| {
                    CredentialSpec::header(name.as_str(), "x-key", CredentialValue::Generated)
                },
            );
            let workflow = s
                .resource("workflow", Workflow::new(&n8n))
                .retry(build.policy())
                .input(key, |name, key| intake(name, "1.0.0", &key));
            let active = s
                .resource("activation", WorkflowActivation::new(&n8n))
                .retry(build.policy())
                .input(workflow, |_, workflow| ActivationSpec::new(workflow));
            let upgraded = s
                .resource("upgrade", WorkflowUpgrade::new(&n8n))
                .retry(build.policy())
                .input((key, active), |name, (key, active)| {
                    let version = |number| intake(name, number, &key);
                    UpgradeSpec::new(active.workflow_id, version("1.0.0"), version("1.1.0"))
                });
            s.step("end", End(build), NOTHING)
                .input(upgraded, |_, upgraded| upgraded.webhook_url.unwrap_or_default())
        })
        .unwrap()
    }

    fn resolver(&self) -> MapResolver {
        resolver()
    }

    fn lasting(&self, state: Value) -> Value {
        without(state, &["made"])
    }

    fn same_ids(&self, kind: &str) -> Option<&'static str> {
        ["workflow", "credential"].into_iter().find(|same| *same == kind)
    }

    fn lag(&self) -> Duration {
        provision_adapters::n8n::LISTING_LAG
    }

    fn late(&self) -> Duration {
        Duration::from_secs(60)
    }
}
