//! What is wanted of a project, and what its dependents get.

use provision_core::SecretRef;
use serde::{Deserialize, Serialize};

use crate::{
    supabase::{
        DATA_API_SERVICE, INSTANCE_SIZES, REGION_GROUPS, SERVICES, SPEC_NAME_MAX, verify::Openings,
    },
    tools::migrations::{Migration, MigrationError, acceptable},
};

/// A project to be there. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectSpec {
    pub(crate) name: String,
    pub(crate) region: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) instance_size: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) without_data_api: bool,
    #[serde(default)]
    pub(crate) schema: SchemaSpec,
}

impl ProjectSpec {
    /// Wants a project of this name in a region or group of regions.
    ///
    /// Make the name from what is unique to the client, such as its id: no two live projects of
    /// one organization may have the same. The owner mark of the run is added to it.
    #[must_use]
    pub fn new(name: impl Into<String>, region: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            region: region.into(),
            instance_size: None,
            without_data_api: false,
            schema: SchemaSpec::default(),
        }
    }

    /// Sets the size of the machine, one of [`INSTANCE_SIZES`]. Default: the smallest of the
    /// organization's plan. Larger ones cost more.
    #[must_use]
    pub fn with_instance_size(mut self, size: impl Into<String>) -> Self {
        self.instance_size = Some(size.into());
        self
    }

    /// Says that new projects of this organization have no Data API, so that its service is not
    /// waited for. It switches nothing off.
    #[must_use]
    pub fn without_data_api(mut self) -> Self {
        self.without_data_api = true;
        self
    }

    /// Services whose health says that the project is up.
    pub(crate) fn services(&self) -> Vec<&'static str> {
        let mut services = SERVICES.to_vec();
        services.retain(|name| !self.without_data_api || *name != DATA_API_SERVICE);
        services
    }

    /// Sets the schema that is applied and verified before any key is given out.
    #[must_use]
    pub fn with_schema(mut self, schema: SchemaSpec) -> Self {
        self.schema = schema;
        self
    }

    /// Looks whether it can be asked for at all, before anything is sent.
    pub(crate) fn check(&self, regions: &[String]) -> Result<(), SpecError> {
        let long = self.name.chars().count() > SPEC_NAME_MAX;
        // A name that looks like a mark could pass for another run's.
        let marked = self.name.contains("[provision:");
        if self.name.trim().is_empty() || long || marked || self.name.chars().any(char::is_control)
        {
            return Err(SpecError::Name);
        }
        let known = regions.contains(&self.region) || REGION_GROUPS.contains(&&*self.region);
        if !known {
            let mut valid = regions.join(", ");
            for group in REGION_GROUPS {
                valid.push_str(", ");
                valid.push_str(group);
            }
            return Err(SpecError::UnknownRegion { region: self.region.clone(), valid });
        }
        if let Some(size) = &self.instance_size
            && !INSTANCE_SIZES.contains(&&**size)
        {
            let (size, valid) = (size.clone(), INSTANCE_SIZES.join(", "));
            return Err(SpecError::UnknownSize { size, valid });
        }
        self.schema.check()
    }
}

/// The schema of a project: migrations in their order, and what is open on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SchemaSpec {
    #[serde(default)]
    pub(crate) migrations: Vec<Migration>,
    #[serde(default)]
    pub(crate) openings: Openings,
}

impl SchemaSpec {
    /// An empty schema.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a migration: tables with their row-level security, policies and grants.
    ///
    /// All migrations run in one transaction, each once; a migration that is recorded under this
    /// name with other SQL is refused.
    #[must_use]
    pub fn with_migration(mut self, name: impl Into<String>, sql: impl Into<String>) -> Self {
        self.migrations.push(Migration::new(name, sql));
        self
    }

    /// Names what anonymous readers may reach. Default: nothing.
    #[must_use]
    pub fn with_openings(mut self, openings: Openings) -> Self {
        self.openings = openings;
        self
    }

    fn check(&self) -> Result<(), SpecError> {
        Ok(acceptable(&self.migrations)?)
    }
}

/// Why a project cannot be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The name is empty, too long, or holds what it must not.
    #[error(
        "the name must have 1 to {SPEC_NAME_MAX} characters, without control characters or marks"
    )]
    Name,
    /// The region is none of the list.
    #[error("unknown region `{region}`; valid are {valid}")]
    UnknownRegion {
        /// What was asked for.
        region: String,
        /// What may be asked for.
        valid: String,
    },
    /// The size of the machine is none of the list.
    #[error("unknown size `{size}`; valid are {valid}")]
    UnknownSize {
        /// What was asked for.
        size: String,
        /// What may be asked for.
        valid: String,
    },
    /// The migrations cannot be applied together.
    #[error(transparent)]
    Migrations(#[from] MigrationError),
}

impl SpecError {
    /// Short stable word.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Name => "bad_name",
            Self::UnknownRegion { .. } => "unknown_region",
            Self::UnknownSize { .. } => "unknown_size",
            Self::Migrations(error) => error.code(),
        }
    }
}

/// A project that is up, locked down and verified. Keys are references, never values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// The provider's id of the project.
    pub project_ref: String,
    /// Address of the project's own APIs.
    pub url: String,
    /// The region it lives in.
    pub region: String,
    /// Host of the database.
    pub db_host: String,
    /// Key for clients; whoever holds it is anonymous.
    pub anon_key: SecretRef,
    /// Key for servers; row-level security does not hold it.
    pub service_key: SecretRef,
    /// Password of the database's owner.
    pub db_password: SecretRef,
}

#[cfg(test)]
mod tests {
    use super::{ProjectSpec, SchemaSpec, SpecError};
    use crate::supabase::REGIONS;

    fn check(spec: &ProjectSpec) -> Result<(), SpecError> {
        spec.check(&REGIONS.map(str::to_owned))
    }

    // covers: R1-26
    #[test]
    fn an_unknown_region_is_refused_with_the_valid_list() {
        assert_eq!(check(&ProjectSpec::new("c-1", "eu-west-1")), Ok(()));
        assert_eq!(check(&ProjectSpec::new("c-1", "emea")), Ok(()));
        let error = check(&ProjectSpec::new("c-1", "af-south-1")).unwrap_err();
        assert_eq!(error.code(), "unknown_region");
        let text = error.to_string();
        assert!(text.contains("`af-south-1`") && text.contains("eu-west-1"), "{text}");
        assert!(text.contains("sa-east-1") && text.contains("emea"), "{text}");
    }

    #[test]
    fn an_unknown_size_is_refused_with_the_valid_list() {
        let sized = |size: &str| check(&ProjectSpec::new("c-1", "emea").with_instance_size(size));
        assert_eq!(sized("small"), Ok(()));
        assert_eq!(sized("48xlarge_high_memory"), Ok(()));
        for size in ["smal", "Small", ""] {
            let error = sized(size).unwrap_err();
            assert_eq!(error.code(), "unknown_size");
            assert!(error.to_string().contains("nano, micro, small"), "{error}");
        }
    }

    #[test]
    fn names_and_migrations_are_checked_before_anything_is_sent() {
        let spec = |name: &str| ProjectSpec::new(name, "eu-west-1");
        for name in ["", "  ", "a\nb", &"x".repeat(121), "a [provision:1/2]"] {
            assert_eq!(check(&spec(name)), Err(SpecError::Name), "{name}");
        }
        let schema = |list: &[(&str, &str)]| {
            let add =
                |schema: SchemaSpec, (name, sql): &(&str, &str)| schema.with_migration(*name, *sql);
            check(&spec("c").with_schema(list.iter().fold(SchemaSpec::new(), add)))
        };
        assert_eq!(schema(&[("0001_init.sql", "select 1"), ("0002", "")]), Ok(()));
        let code = |result: Result<(), SpecError>| result.unwrap_err().code();
        assert_eq!(code(schema(&[("a'b", "")])), "bad_migration_name");
        assert_eq!(code(schema(&[("a", ""), ("a", "")])), "bad_migration_name");
        assert_eq!(code(schema(&[("a", "select 1; commit;")])), "bad_migration");
    }
}
