//! The saga, in the order in which sagas are read: input, output, steps, definition, steps of
//! our own.
//!
//! Input: [`Client`].

use example_command::stage::Stage;
use provision_adapters::{
    github::{
        Repo, RepoFromTemplate, RepoSecrets, RepoSpec, RepoVariables, SecretsSpec, VariablesSpec,
    },
    n8n::{
        ActivationSpec, Credential, CredentialMade, CredentialSpec, CredentialValue, Template,
        Workflow, WorkflowActivation, WorkflowMade, WorkflowSpec,
    },
    supabase::{Project, ProjectSpec, SchemaSpec, SupabaseProject},
    vercel::{
        Deployed, DeploymentSpec, DomainSpec, DomainVerified, EnvSpec, EnvVar, GitSource, Probe,
        SiteProject, SiteSpec, VercelDeployment, VercelDomain, VercelEnv, VercelProject,
    },
};
use provision_core::{NothingToUndo, Saga, SagaError, SagaId, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use crate::{
    input::{Client, Tier},
    providers::Providers,
};

/// Name and version; runs are stored under them.
pub const ONBOARD: SagaId<Client, Site> = SagaId::new("client-onboarding", 1);

/// Path that the deployed app must answer.
pub const HEALTH: &str = "/api/health";

/// Output: where everything is. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// The client it was made for.
    pub client: Client,
    /// Address of the live app.
    pub url: String,
    /// Address of the database's API.
    pub database_url: String,
    /// The repository, `owner/name`.
    pub repository: String,
    /// Where the workflow is called; professional and up.
    pub webhook_url: Option<String>,
    /// The client's own domain; enterprise, and absent where it could not be had.
    pub domain: Option<String>,
}

/// Steps, in the order of the definition. Paths are stored and never change.
///
/// | Path | Makes | Needs | Tier |
/// |---|---|---|---|
/// | `supabase` | a project, locked down and verified before any key leaves it | | all |
/// | `repo` | a repository from the template | | all |
/// | `repo-secrets` | its secrets, sealed for it | `supabase`, `repo` | all |
/// | `repo-variables` | its variables | `supabase`, `repo` | all |
/// | `site` | a Vercel project linked to the repository | `repo` | all |
/// | `env` | the site's variables, read back | `site`, `supabase` | all |
/// | `deployment` | a deployment, probed once its alias is live | `env` | all |
/// | `domain` | the client's own domain; optional | `deployment` | enterprise |
/// | `webhook-key` | the header that callers of the workflow must send | | professional |
/// | `workflow` | the workflow | `webhook-key`, `deployment` | professional |
/// | `activation` | its activation, probed | `workflow` | professional |
/// | `finalize` | nothing: it gathers what the run's last transaction writes | all | all |
pub const STEPS: [&str; 12] = [
    "supabase",
    "repo",
    "repo-secrets",
    "repo-variables",
    "site",
    "env",
    "deployment",
    "domain",
    "webhook-key",
    "workflow",
    "activation",
    "finalize",
];

/// The steps that change nothing outside of the run.
pub const PURE: [&str; 1] = ["finalize"];

/// The steps whose failure is tolerated: the run then ends as `PartlySucceeded`, without them.
pub const OPTIONAL: [&str; 1] = ["domain"];

/// Wires the saga over the given providers. `stage` lets a simulated cloud hurry, or refuse.
///
/// # Errors
/// Never for this graph; a changed one is checked here.
pub fn onboarding(providers: &Providers, stage: &Stage) -> Result<Saga<Client, Site>, SagaError> {
    let Providers { supabase, github, vercel, n8n, .. } = providers;
    let (template, zone) = (providers.template.clone(), providers.zone.clone());
    Saga::define(ONBOARD, |s| {
        s.phase("database");
        let db = s
            .resource("supabase", stage.on(SupabaseProject::new(supabase)))
            .input((), |c, ()| database(c));

        s.phase("code");
        let repo = s
            .resource("repo", stage.on(RepoFromTemplate::new(github)))
            .input((), move |c, ()| repository(c, &template));
        let secrets = s
            .resource("repo-secrets", stage.on(RepoSecrets::new(github)))
            .input((repo, db), |_, (repo, db)| repository_secrets(&repo, db));
        let variables = s
            .resource("repo-variables", stage.on(RepoVariables::new(github)))
            .input((repo, db), |c, (repo, db)| repository_variables(c, &repo, db));

        s.phase("site");
        let site = s
            .resource("site", stage.on(VercelProject::new(vercel)))
            .input(repo, |c, repo| SiteSpec::linked(c.app(), repo.full_name));
        // R1-64: the deployment takes what only the step before it gives, so it cannot come first.
        let env = s
            .resource("env", stage.on(VercelEnv::new(vercel)))
            .input((site, db), |_, (site, db)| variables_of(site, db));
        let live = s.resource("deployment", stage.on(VercelDeployment::new(vercel))).input(
            (env, repo),
            |_, (env, repo)| {
                let source = source(env.project(), &repo);
                DeploymentSpec::production(env, source).with_probe(Some(Probe::at(HEALTH)))
            },
        );
        // Whether its DNS is right is up to the client: that is no reason to take the site away.
        let domain = s
            .resource("domain", stage.on(VercelDomain::new(vercel)))
            .after(live)
            .when(|c| c.tier.has_domain())
            .optional()
            .input(site, move |c, site| DomainSpec::new(site, format!("{}.{zone}", c.app())));

        s.phase("automation");
        let key = s
            .resource("webhook-key", stage.on(Credential::new(n8n)))
            .when(|c| c.tier.has_automation())
            .input((), |c, ()| webhook_key(c));
        let workflow = s
            .resource("workflow", stage.on(Workflow::new(n8n)))
            .when(|c| c.tier.has_automation())
            .try_input((key, live), |c, (key, live)| workflow(c, key, &live));
        let active = s
            .resource("activation", stage.on(WorkflowActivation::new(n8n)))
            .when(|c| c.tier.has_automation())
            .try_input(workflow, |_, workflow| activation(workflow));

        s.phase("finalize");
        s.step("finalize", Finalize(stage.clone()), NothingToUndo)
            .after((secrets, variables))
            .input((db, repo, live, domain, active), |c, (db, repo, live, domain, active)| Site {
                client: c.clone(),
                url: live.url,
                database_url: db.url,
                repository: repo.full_name,
                webhook_url: active.and_then(|active| active.webhook_url),
                domain: domain.ok().flatten().map(|domain: DomainVerified| domain.domain),
            })
    })
}

fn database(client: &Client) -> ProjectSpec {
    let schema = SchemaSpec::new().with_migration("0001_notes", include_str!("schema.sql"));
    let spec = ProjectSpec::new(client.app(), client.region.as_str()).with_schema(schema);
    match client.tier {
        Tier::Starter | Tier::Professional => spec,
        Tier::Enterprise => spec.with_instance_size("small"),
    }
}

/// The display name is a label: the name derives from the id.
fn repository(client: &Client, template: &str) -> RepoSpec {
    RepoSpec::from_template(template, client.app())
        .with_description(format!("Site of {}", client.name))
        .with_sentinel("README.md")
}

fn repository_secrets(repo: &Repo, db: Project) -> SecretsSpec {
    SecretsSpec::new(repo.id, repo.full_name.as_str())
        .with("SUPABASE_DB_PASSWORD", db.db_password)
        .with("SUPABASE_SERVICE_KEY", db.service_key)
}

fn repository_variables(client: &Client, repo: &Repo, db: Project) -> VariablesSpec {
    VariablesSpec::new(repo.id, repo.full_name.as_str())
        .with("CLIENT_ID", client.id.as_str())
        .with("SUPABASE_URL", db.url)
}

fn variables_of(site: SiteProject, db: Project) -> EnvSpec {
    EnvSpec::new(
        site,
        [
            EnvVar::encrypted("NEXT_PUBLIC_SUPABASE_ANON_KEY", db.anon_key),
            EnvVar::plain("NEXT_PUBLIC_SUPABASE_URL", db.url),
            EnvVar::sensitive("SUPABASE_SERVICE_KEY", db.service_key),
        ],
    )
}

/// By the number the provider itself gave the link, so that a renamed repository is still found.
fn source(site: &SiteProject, repo: &Repo) -> GitSource {
    let branch = repo.default_branch.as_str();
    match site.repository_id {
        Some(number) => GitSource::repository_id(number, branch),
        None => GitSource::repository(repo.full_name.as_str(), branch),
    }
}

fn webhook_key(client: &Client) -> CredentialSpec {
    CredentialSpec::header(client.app(), "x-webhook-key", CredentialValue::Generated)
}

/// R1-79: the path is the client's own.
fn workflow(
    client: &Client,
    key: Option<CredentialMade>,
    live: &Deployed,
) -> Result<WorkflowSpec, StepError> {
    let key = key.ok_or_else(|| missing("webhook-key"))?;
    let template = Template::webhook("client-intake", "1.0.0", "<<app>>/intake");
    Ok(WorkflowSpec::new(client.app(), template)
        .with_value("app", client.app())
        .with_value("site", live.url.as_str())
        .with_credential(key))
}

fn activation(workflow: Option<WorkflowMade>) -> Result<ActivationSpec, StepError> {
    workflow.map(ActivationSpec::new).ok_or_else(|| missing("workflow"))
}

fn missing(path: &'static str) -> StepError {
    StepError::permanent("wire a step").with_code("missing_dependency").with_message(path)
}

/// Gathers what the transaction that ends the run writes into the host's table.
struct Finalize(Stage);

impl Step for Finalize {
    const KIND: &'static str = "internal.finalize";
    type Input = Site;
    type Output = Site;

    async fn run(&self, cx: &StepContext, site: Site) -> Result<Site, StepError> {
        self.0.allow(cx)?;
        if site.url.is_empty() || site.repository.is_empty() {
            return Err(StepError::permanent("finalize").with_code("incomplete"));
        }
        Ok(site)
    }
}
