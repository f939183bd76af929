//! `--live`: the same saga over the real providers, with tokens from the environment.

use example_command::exit::Trouble;
use provision_adapters::{
    github::{Account, GitHub, GitHubConfig},
    http::BaseUrl,
    n8n::{N8n, N8nConfig},
    supabase::{Supabase, SupabaseConfig},
    vercel::{Vercel, VercelConfig},
};
use provision_core::{
    SecretRef,
    resolver::{EnvResolver, Required, SecretResolver, require_all},
};

use crate::{
    input::Tier,
    providers::{Providers, token},
};

const ORGANIZATION: &str = "SUPABASE_ORGANIZATION";
const OWNER: &str = "GITHUB_OWNER";
const TEMPLATE: &str = "GITHUB_TEMPLATE";
const TEAM: &str = "VERCEL_TEAM";
const N8N_URL: &str = "N8N_URL";
const ZONE: &str = "ONBOARDING_ZONE";

/// What must be set, and where it is to be had.
fn required(tier: Tier) -> Vec<Required> {
    let mut names = vec![
        (token::SUPABASE, "supabase.com/dashboard/account/tokens"),
        (ORGANIZATION, "the slug in supabase.com/dashboard/org/SLUG"),
        (token::GITHUB, "github.com/settings/tokens, scopes repo, delete_repo and workflow"),
        (OWNER, "the organization that gets the repositories"),
        (TEMPLATE, "a template repository, owner/name, that holds a README.md"),
        (token::VERCEL, "vercel.com/account/settings/tokens"),
    ];
    if tier.has_automation() {
        names.push((N8N_URL, "the root of your n8n instance, https://.."));
        names.push((token::N8N, "n8n: Settings, n8n API"));
    }
    if tier.has_domain() {
        names.push((ZONE, "a domain whose wildcard record points at cname.vercel-dns.com"));
    }
    names.into_iter().map(|(name, hint)| Required::new(name).with_hint(hint)).collect()
}

/// The environment, limited to what this example asks for.
#[must_use]
pub fn resolver() -> EnvResolver {
    let names = required(Tier::Enterprise);
    EnvResolver::new().only(names.iter().map(Required::name).chain([TEAM]))
}

/// Clients of the real providers.
///
/// # Errors
/// Code `secrets_missing`, naming **all** variables that are not set; or the program was built
/// without TLS.
pub async fn providers(tier: Tier) -> Result<Providers, Trouble> {
    let environment = resolver();
    require_all(&environment, &required(tier)).await.map_err(|error| {
        let trouble = Trouble::from(error);
        // Told together with the variables, not after all of them have been looked up.
        match cfg!(feature = "live") {
            true => trouble,
            false => trouble.with_hint("this program is to be built with `--features live`"),
        }
    })?;
    let token = SecretRef::named;
    let text = async |name: &str| -> Result<String, Trouble> {
        let value = environment.resolve(name).await?;
        Ok(value.map(|value| value.expose().trim().to_owned()).unwrap_or_default())
    };
    let supabase = SupabaseConfig::new(token(token::SUPABASE), text(ORGANIZATION).await?);
    let owner = Account::Organization(text(OWNER).await?);
    let mut vercel = VercelConfig::new(token(token::VERCEL))?;
    let team = text(TEAM).await?;
    if !team.is_empty() {
        vercel = vercel.with_team(team);
    }
    // A tier without workflows never calls this; the client wants an address all the same.
    let n8n = match text(N8N_URL).await? {
        url if url.is_empty() => "http://127.0.0.1:9".to_owned(),
        url => url,
    };
    let n8n = BaseUrl::parse(&n8n).map_err(|error| {
        Trouble::usage("bad_url", format!("{N8N_URL}: {error}"), "such as https://n8n.example.com")
    })?;
    Ok(Providers {
        supabase: Supabase::new(supabase?)?,
        github: GitHub::new(GitHubConfig::new(owner, token(token::GITHUB)))?,
        vercel: Vercel::new(vercel)?,
        n8n: N8n::new(N8nConfig::new(n8n, token(token::N8N)))?,
        template: text(TEMPLATE).await?,
        zone: text(ZONE).await?,
    })
}
