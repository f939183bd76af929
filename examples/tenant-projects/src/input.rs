//! What is asked for: looked at as a whole, so that everything that is wrong is told at once.

use std::str::FromStr;

use clap::Args;
use example_command::exit::Trouble;
use provision_adapters::tools::postgres::Identifier;
use provision_core::{
    StepError,
    draw::{SystemEntropy, uuid_v4},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest slug; with what is put around it a name of the server's stays below 63 bytes.
pub const SLUG_MAX: usize = 40;
/// Longest display name, in characters.
pub const NAME_MAX: usize = 80;
/// Longest address of a contact, in bytes.
pub const CONTACT_MAX: usize = 254;
/// Most connections to a project's database.
pub const CONNECTIONS_MAX: u16 = 200;
/// Most mebibytes of a project's database: 1 TiB.
pub const DATABASE_MIB_MAX: u32 = 1 << 20;
/// The regions there are.
pub const REGIONS: [&str; 3] = ["eu-central", "eu-west", "us-east"];

const OWNER_DEFAULT: &str = "0190d2a4-3c5b-7000-8000-00000000a11c";
const ORGANIZATION_DEFAULT: &str = "0190d2a4-3c5b-7000-8000-0000000000c0";
const CONNECTIONS_DEFAULT: u16 = 20;
const DATABASE_MIB_DEFAULT: u32 = 512;

/// A project as somebody asks for it: nothing of it is known to be usable.
#[derive(Debug, Clone, Default, Args)]
pub struct Request {
    /// Slug of the project; everything is named after it.
    #[arg(long = "project", value_name = "SLUG", default_value = "demo")]
    pub slug: String,
    /// Id of the owner, a UUID [default: one for trying it out]
    #[arg(long, value_name = "UUID")]
    pub owner: Option<String>,
    /// Id of the owner's organization, a UUID [default: one for trying it out]
    #[arg(long, value_name = "UUID")]
    pub organization: Option<String>,
    /// Display name [default: the slug]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// eu-central, eu-west or us-east [default: eu-central]
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// Address of a mailbox that belongs to the project.
    #[arg(long, value_name = "MAIL")]
    pub contact: Option<String>,
    /// Most connections to its database, 1 to 200 [default: 20]
    #[arg(long, value_name = "N")]
    pub connections: Option<String>,
    /// How large its database may grow, in MiB [default: 512]
    #[arg(long, value_name = "MIB")]
    pub database_mib: Option<String>,
}

/// A project that can be provisioned: the input of the saga.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Its id, drawn for it.
    pub id: Uuid,
    /// Everything is named after it.
    pub slug: String,
    /// What people call it.
    pub name: String,
    /// Whom it belongs to.
    pub owner_id: Uuid,
    /// The owner's organization.
    pub organization_id: Uuid,
    /// Where it is.
    pub region: String,
    /// Mailbox of the project.
    pub contact: Option<String>,
    /// Most connections to its database.
    pub connections: u16,
    /// How large its database may grow, in MiB.
    pub database_mib: u32,
}

impl Request {
    /// The project that is asked for, with an id of its own.
    ///
    /// # Errors
    /// Code `bad_project`, with everything that is wrong.
    pub fn project(&self) -> Result<Project, Trouble> {
        let mut wrong = Wrong::default();
        wrong.unless(is_slug(&self.slug), || {
            format!("--project: 1 to {SLUG_MAX} lower-case letters and digits, with single hyphens between them")
        });
        let owner_id = wrong.uuid("--owner", self.owner.as_deref(), OWNER_DEFAULT);
        let organization_id =
            wrong.uuid("--organization", self.organization.as_deref(), ORGANIZATION_DEFAULT);
        let name = self.name.clone().unwrap_or_else(|| self.slug.clone());
        wrong.unless(is_name(&name), || {
            format!("--name: 1 to {NAME_MAX} characters, none of them a control character")
        });
        let region = self.region.clone().unwrap_or_else(|| REGIONS[0].to_owned());
        wrong.unless(REGIONS.contains(&region.as_str()), || {
            format!("--region: one of {}", REGIONS.join(", "))
        });
        wrong.unless(self.contact.as_deref().is_none_or(is_mailbox), || {
            format!("--contact: an address such as ada@example.com, at most {CONTACT_MAX} bytes")
        });
        let connections =
            wrong.number("--connections", &self.connections, CONNECTIONS_DEFAULT, CONNECTIONS_MAX);
        let database_mib = wrong.number(
            "--database-mib",
            &self.database_mib,
            DATABASE_MIB_DEFAULT,
            DATABASE_MIB_MAX,
        );
        wrong.into_result()?;
        let id = uuid_v4(&SystemEntropy).map_err(|error| {
            Trouble::unavailable("no_randomness", error.to_string(), "try again")
        })?;
        Ok(Project {
            id,
            slug: self.slug.clone(),
            name,
            owner_id,
            organization_id,
            region,
            contact: self.contact.clone(),
            connections,
            database_mib,
        })
    }

    /// The same for the member of a fleet.
    #[must_use]
    pub fn member(&self, number: u32) -> Self {
        Self { slug: format!("{}-{number}", self.slug), ..self.clone() }
    }

    /// What was typed and differs from a project that is there: as it is meant, not as it is
    /// spelled.
    #[must_use]
    pub fn differences(&self, there: &Project) -> Vec<&'static str> {
        let contact = there.contact.clone().unwrap_or_default();
        let all = [
            ("--owner", other(self.owner.as_ref(), &there.owner_id)),
            ("--organization", other(self.organization.as_ref(), &there.organization_id)),
            ("--name", other(self.name.as_ref(), &there.name)),
            ("--region", other(self.region.as_ref(), &there.region)),
            ("--contact", other(self.contact.as_ref(), &contact)),
            ("--connections", other(self.connections.as_ref(), &there.connections)),
            ("--database-mib", other(self.database_mib.as_ref(), &there.database_mib)),
        ];
        all.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}

/// Whether something else was typed than what is there.
fn other<T: FromStr + PartialEq>(typed: Option<&String>, is: &T) -> bool {
    typed.is_some_and(|typed| typed.parse().ok().as_ref() != Some(is))
}

impl Project {
    /// Name of its database.
    ///
    /// # Errors
    /// Permanent: the slug is none, which only a changed store can bring about.
    pub fn database(&self) -> Result<Identifier, StepError> {
        self.identifier("")
    }

    /// Name of a role of its.
    ///
    /// # Errors
    /// As [`Self::database`].
    pub fn role(&self, which: &str) -> Result<Identifier, StepError> {
        self.identifier(&format!("_{which}"))
    }

    fn identifier(&self, end: &str) -> Result<Identifier, StepError> {
        // A slug has no underscores, so two of them never give one name.
        let name = format!("project_{}{end}", self.slug.replace('-', "_"));
        Identifier::new(name).map_err(|error| {
            StepError::permanent("name it").with_code("bad_slug").with_source(error)
        })
    }

    /// Whether a run may be started with it: asked again for what comes by another way.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), &'static str> {
        match () {
            () if !is_slug(&self.slug) => Err("the slug cannot be used"),
            () if !is_name(&self.name) => Err("the name cannot be used"),
            () if !REGIONS.contains(&self.region.as_str()) => Err("there is no such region"),
            () if !self.contact.as_deref().is_none_or(is_mailbox) => Err("this is no mailbox"),
            () if !(1..=CONNECTIONS_MAX).contains(&self.connections) => Err("connections"),
            () if !(1..=DATABASE_MIB_MAX).contains(&self.database_mib) => Err("size"),
            () => Ok(()),
        }
    }
}

/// Everything that is wrong.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn unless(&mut self, right: bool, what: impl FnOnce() -> String) {
        if !right {
            self.0.push(what());
        }
    }

    fn uuid(&mut self, option: &str, text: Option<&str>, default: &str) -> Uuid {
        let id = Uuid::from_str(text.unwrap_or(default)).ok().filter(|id| !id.is_nil());
        self.unless(id.is_some(), || format!("{option}: a UUID"));
        id.unwrap_or_default()
    }

    fn number<N>(&mut self, option: &str, text: &Option<String>, default: N, most: N) -> N
    where
        N: FromStr + Ord + From<u8> + Copy + std::fmt::Display,
    {
        let Some(text) = text else { return default };
        let number = text.parse().ok().filter(|number| (N::from(1)..=most).contains(number));
        self.unless(number.is_some(), || format!("{option}: 1 to {most}"));
        number.unwrap_or(default)
    }

    fn into_result(self) -> Result<(), Trouble> {
        if self.0.is_empty() {
            return Ok(());
        }
        let message = format!("this project cannot be made; {}", self.0.join("; "));
        Err(Trouble::usage("bad_project", message, "mend all of it and type it again"))
    }
}

fn is_slug(slug: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edges = !slug.starts_with('-') && !slug.ends_with('-') && !slug.contains("--");
    !slug.is_empty() && slug.len() <= SLUG_MAX && slug.chars().all(plain) && edges
}

fn is_name(name: &str) -> bool {
    let length = name.chars().count();
    (1..=NAME_MAX).contains(&length)
        && !name.trim().is_empty()
        && !name.chars().any(char::is_control)
}

fn is_mailbox(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && c != '@';
    let parts = text.split_once('@').filter(|(who, place)| {
        !who.is_empty() && who.chars().all(plain) && place.chars().all(plain)
    });
    let dotted = |place: &str| place.contains('.') && place.split('.').all(|part| !part.is_empty());
    text.len() <= CONTACT_MAX && parts.is_some_and(|(_, place)| dotted(place))
}

#[cfg(test)]
mod tests {
    use super::{Project, Request, SLUG_MAX};

    /// What makes a good request a bad one.
    type Change = fn(&mut Request);

    fn request() -> Request {
        Request { slug: "acme-7".to_owned(), ..Request::default() }
    }

    // covers: R4-18
    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let wrong = Request {
            slug: "Acme; drop".to_owned(),
            owner: Some("ada".to_owned()),
            organization: Some(String::new()),
            name: Some("\u{7}".to_owned()),
            region: Some("mars".to_owned()),
            contact: Some("nobody".to_owned()),
            connections: Some("0".to_owned()),
            database_mib: Some("many".to_owned()),
        };
        let trouble = wrong.project().unwrap_err();
        assert_eq!(trouble.code(), "bad_project");
        for option in [
            "--project",
            "--owner",
            "--organization",
            "--name",
            "--region",
            "--contact",
            "--connections",
            "--database-mib",
        ] {
            assert!(trouble.message().contains(&format!("{option}: ")), "{option}: {trouble:?}");
        }
        assert!(!trouble.message().contains("drop"), "what was typed is not repeated");
    }

    // covers: R4-18
    #[test]
    fn each_field_is_looked_at_also_where_it_may_be_left_out() {
        let project = request().project().unwrap();
        assert_eq!((project.name.as_str(), project.connections), ("acme-7", 20));
        assert!(project.check().is_ok());
        let refused: [(&str, Change); 10] = [
            ("--project", |r| r.slug = "x".repeat(SLUG_MAX + 1)),
            ("--project", |r| r.slug = "a--b".to_owned()),
            ("--owner", |r| r.owner = Some("0190d2a4".to_owned())),
            ("--organization", |r| r.organization = Some(uuid::Uuid::nil().to_string())),
            ("--name", |r| r.name = Some(" ".to_owned())),
            ("--region", |r| r.region = Some(String::new())),
            ("--contact", |r| r.contact = Some("a@b@c.de".to_owned())),
            ("--contact", |r| r.contact = Some("a@b..de".to_owned())),
            ("--connections", |r| r.connections = Some("201".to_owned())),
            ("--database-mib", |r| r.database_mib = Some("-1".to_owned())),
        ];
        for (option, change) in refused {
            let mut request = request();
            change(&mut request);
            let trouble = request.project().unwrap_err();
            let told = format!("this project cannot be made; {option}: ");
            assert!(trouble.message().starts_with(&told), "{option}: {trouble:?}");
        }
        let allowed = Request {
            contact: Some("ada@example.com".to_owned()),
            database_mib: Some("64".to_owned()),
            ..request()
        };
        assert_eq!(allowed.project().unwrap().database_mib, 64);
    }

    // covers: R4-18
    #[test]
    fn what_comes_by_another_way_is_checked_again() {
        let good = request().project().unwrap();
        let bad: [fn(&mut Project); 4] = [
            |p| p.slug = "x_y".to_owned(),
            |p| p.region = "mars".to_owned(),
            |p| p.contact = Some("x".to_owned()),
            |p| p.connections = 0,
        ];
        for change in bad {
            let mut project = good.clone();
            change(&mut project);
            assert!(project.check().is_err(), "{project:?}");
        }
        let text = serde_json::to_string(&good).unwrap();
        let other = text.replace("0190d2a4-3c5b-7000-8000-00000000a11c", "ada");
        assert!(serde_json::from_str::<Project>(&other).is_err(), "an owner is a UUID");
    }

    #[test]
    fn names_are_the_slugs_own_and_fit() {
        let longest = Request { slug: "x".repeat(SLUG_MAX), ..request() }.project().unwrap();
        assert!(longest.role("owner").is_ok() && longest.database().is_ok());
        let project = request().project().unwrap();
        assert_eq!(project.role("app").unwrap().as_str(), "project_acme_7_app");
    }

    // covers: R4-18
    #[test]
    fn what_is_there_is_compared_with_what_was_typed_as_it_is_meant() {
        let own = Request {
            owner: Some("0190D2A4-3C5B-7000-8000-00000000AAAA".to_owned()),
            connections: Some("30".to_owned()),
            ..request()
        };
        let project = own.project().unwrap();
        assert!(request().differences(&project).is_empty(), "what is left out does not differ");
        let same = Request {
            owner: Some("{0190d2a4-3c5b-7000-8000-00000000aaaa}".to_owned()),
            connections: Some("+030".to_owned()),
            database_mib: Some("0512".to_owned()),
            ..request()
        };
        assert!(same.differences(&project).is_empty(), "{:?}", same.differences(&project));
        let other = Request {
            owner: Some(super::OWNER_DEFAULT.to_owned()),
            region: Some("us-east".to_owned()),
            connections: Some("20".to_owned()),
            contact: Some("ada@example.com".to_owned()),
            ..request()
        };
        let differ = ["--owner", "--region", "--contact", "--connections"];
        assert_eq!(other.differences(&project), differ);
    }
}
