//! `--live`: the same shop over the real providers, with keys from the environment.

use example_command::exit::Trouble;
use provision_adapters::{
    elevenlabs::ElevenLabsConfig, http::ConfigError, supabase_storage::SupabaseStorageConfig,
};
use provision_core::{
    SecretRef,
    resolver::{EnvResolver, Required, SecretResolver, require_all},
};

use crate::{
    secret::WEBHOOK_SECRET,
    shop::{ELEVENLABS_KEY, STORAGE_KEY},
};

/// The variable with the id of the project whose storage is used.
const PROJECT: &str = "SUPABASE_PROJECT_REF";

/// What must be set, and where it is to be had.
fn required() -> [Required; 4] {
    [
        (ELEVENLABS_KEY, "elevenlabs.io/app/settings/api-keys"),
        (PROJECT, "the id in supabase.com/dashboard/project/ID; it needs a private bucket `songs`"),
        (STORAGE_KEY, "supabase.com/dashboard/project/ID/settings/api-keys, a secret key"),
        (WEBHOOK_SECRET, "dashboard.stripe.com/webhooks, the signing secret of the endpoint"),
    ]
    .map(|(name, hint)| Required::new(name).with_hint(hint))
}

/// The environment, limited to what this example asks for.
#[must_use]
pub fn resolver() -> EnvResolver {
    EnvResolver::new().only(required().iter().map(Required::name))
}

/// How the real providers are reached.
///
/// # Errors
/// Code `secrets_missing`, naming **all** variables that are not set; or the program was built
/// without TLS.
pub async fn providers() -> Result<(ElevenLabsConfig, SupabaseStorageConfig), Trouble> {
    let environment = resolver();
    require_all(&environment, &required()).await.map_err(|error| {
        let trouble = Trouble::from(error);
        // Told together with the variables, not after all of them have been looked up.
        match cfg!(feature = "live") {
            true => trouble,
            false => trouble.with_hint("this program is to be built with `--features live`"),
        }
    })?;
    let project = environment.resolve(PROJECT).await?;
    let project = project.map(|id| id.expose().trim().to_owned()).unwrap_or_default();
    let storage = SupabaseStorageConfig::new(&project, SecretRef::named(STORAGE_KEY));
    let storage = storage.map_err(ConfigError::from)?;
    Ok((ElevenLabsConfig::new(SecretRef::named(ELEVENLABS_KEY))?, storage))
}
