//! What the command line means, checked before anything is opened.

use std::path::PathBuf;

use example_command::{
    exit::Trouble,
    place::{PlaceArgs, Server, StoreAt},
};

use crate::{
    cli::{Cli, ClientArgs, CloudArgs, ModeArgs, Other},
    cloud::CloudOptions,
    input::{Client, REGION_DEFAULT, Tier, check_id},
    saga,
};

/// The client of a command that names none.
pub(crate) const CLIENT_DEFAULT: &str = "demo";
/// Most clients of a fleet.
pub const FLEET_MAX: u32 = 100;

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// Print what the simulated cloud holds.
    Inventory {
        /// Folder it is kept in.
        data_dir: PathBuf,
        /// As JSON.
        json: bool,
    },
    /// Serve the simulated cloud.
    Cloud {
        /// Folder it is kept in.
        data_dir: PathBuf,
        /// How it behaves.
        cloud: CloudOptions,
        /// Addresses as JSON.
        json: bool,
    },
    /// Everything that concerns runs.
    Run(Box<Options>),
}

/// What to do with the clients' runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Start, or go on.
    Run,
    /// Look only.
    Plan,
    /// Remove.
    TearDown,
    /// Start, and leave the rest to workers.
    Submit,
    /// Drive what others have started.
    Work {
        /// End when no run is open.
        until_idle: bool,
    },
}

/// A client as it was typed: what was left out is as it was at its start, or a default.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its id.
    pub id: String,
    name: Option<String>,
    tier: Option<Tier>,
    region: Option<String>,
    live: bool,
}

impl Wanted {
    /// The client to start a run for.
    ///
    /// # Errors
    /// Something of it cannot be used.
    pub fn fresh(&self) -> Result<Client, Trouble> {
        let name = self.name.clone().unwrap_or_else(|| self.id.clone());
        let region = self.region.as_deref().unwrap_or(REGION_DEFAULT);
        let tier = self.tier.unwrap_or(Tier::Professional);
        Ok(Client { live: self.live, ..Client::new(self.id.clone(), name, tier, region)? })
    }

    /// The client of a run that is there already, if what was typed agrees with it.
    ///
    /// # Errors
    /// Code `other_options`, naming what differs; nothing was changed.
    pub fn agreeing_with(&self, stored: Client) -> Result<Client, Trouble> {
        let typed = Client {
            id: stored.id.clone(),
            name: self.name.clone().unwrap_or_else(|| stored.name.clone()),
            tier: self.tier.unwrap_or(stored.tier),
            region: self.region.clone().unwrap_or_else(|| stored.region.clone()),
            live: self.live,
        };
        let differ = stored.differences(&typed);
        if differ.is_empty() {
            return Ok(stored);
        }
        Err(Trouble::usage(
            "other_options",
            format!("the run of client `{}` has other options: {}", stored.id, differ.join("; ")),
            "leave these options out to go on, or --tear-down the run first",
        ))
    }
}

/// Checked options of everything that concerns runs.
#[derive(Debug)]
pub struct Options {
    /// The clients; one, unless there is a fleet.
    pub clients: Vec<Wanted>,
    /// Whether the answer is that of a fleet.
    pub fleet: bool,
    /// What to do with them.
    pub mode: Mode,
    /// Step whose last call is refused.
    pub fail_at: Option<String>,
    /// Step after which this process dies.
    pub crash_at: Option<String>,
    /// Use the real providers.
    pub live: bool,
    /// Folder of store, keys and cloud.
    pub data_dir: PathBuf,
    /// Where runs are stored.
    pub store: StoreAt,
    /// One JSON object on the last line of stdout.
    pub json: bool,
    /// How the simulated cloud behaves.
    pub cloud: CloudOptions,
}

/// Checks a command line.
///
/// # Errors
/// What cannot be used, with what would do.
pub fn command(cli: Cli) -> Result<Command, Trouble> {
    let Cli { command, client, mode, place, cloud } = cli;
    check_combination(&client, &mode)?;
    let cloud = cloud_options(cloud, &mode)?;
    let shared = matches!(command, Some(Other::Worker(_) | Other::Submit(_)));
    if shared {
        check_before_command(&client, &mode)?;
    }
    let (clients, fleet, do_what) = match command {
        Some(Other::Inventory) => {
            return Ok(Command::Inventory { data_dir: place.data_dir, json: place.json });
        }
        Some(Other::Cloud) => {
            let PlaceArgs { data_dir, json, .. } = place;
            return Ok(Command::Cloud { data_dir, cloud, json });
        }
        Some(Other::Worker(worker)) => {
            (Vec::new(), true, Mode::Work { until_idle: worker.until_idle })
        }
        Some(Other::Submit(client)) => (clients(&client, mode.live)?, true, Mode::Submit),
        None => (clients(&client, mode.live)?, client.fleet.is_some(), what_to_do(&mode)),
    };
    if shared && place.store == "memory:" {
        return Err(Trouble::usage(
            "usage",
            "a store in memory is for one process alone",
            "choose a --store that others can open: sqlite:, postgres://.. or redis://..",
        ));
    }
    for step in [&mode.fail_at, &mode.crash_at].into_iter().flatten() {
        check_step(step)?;
    }
    for wanted in &clients {
        wanted.fresh()?;
    }
    let store = StoreAt::parse(&place.store, &place.data_dir)?;
    Ok(Command::Run(Box::new(Options {
        clients,
        fleet,
        mode: do_what,
        fail_at: mode.fail_at,
        crash_at: mode.crash_at,
        live: mode.live,
        data_dir: place.data_dir,
        store,
        json: place.json,
        cloud,
    })))
}

/// What stands before the name of a command would be passed over by it, and a look become a run.
fn check_before_command(client: &ClientArgs, mode: &ModeArgs) -> Result<(), Trouble> {
    let ClientArgs { client, name, tier, region, fleet } = client;
    let named = client != CLIENT_DEFAULT || fleet.is_some();
    let described = name.is_some() || tier.is_some() || region.is_some();
    if named || described || mode.plan || mode.tear_down {
        return Err(Trouble::usage(
            "usage",
            "options of a client stand before the command, where nothing reads them",
            "say them behind `submit`; --plan and --tear-down go without a command",
        ));
    }
    Ok(())
}

fn what_to_do(mode: &ModeArgs) -> Mode {
    match (mode.plan, mode.tear_down) {
        (true, _) => Mode::Plan,
        (_, true) => Mode::TearDown,
        _ => Mode::Run,
    }
}

fn check_combination(client: &ClientArgs, mode: &ModeArgs) -> Result<(), Trouble> {
    let refuse = |what: &str, hint: &str| Err(Trouble::usage("usage", what, hint));
    if mode.plan && mode.tear_down {
        return refuse("--plan and --tear-down do not go together", "choose one of them");
    }
    if mode.plan && client.fleet.is_some() {
        return refuse("--plan looks at one client", "leave out --fleet");
    }
    if mode.live && (mode.fail_at.is_some() || mode.crash_at.is_some()) {
        return refuse(
            "--fail-at and --crash-at are for the simulated cloud",
            "leave out --live: real things would be made to fail",
        );
    }
    Ok(())
}

fn cloud_options(args: CloudArgs, mode: &ModeArgs) -> Result<CloudOptions, Trouble> {
    let CloudArgs { speed, simulated_sql } = args;
    let refuse = |what: &str, hint: &str| Err(Trouble::usage("usage", what, hint));
    if !(speed.is_finite() && (0.0..=10.0).contains(&speed)) {
        return refuse("--speed is a factor from 0 to 10", "1 is as slow as the real providers");
    }
    if let Some(url) = &simulated_sql {
        if mode.live {
            return refuse("--simulated-sql is for the simulated cloud", "leave out --live");
        }
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return refuse("--simulated-sql takes the URL of a PostgreSQL server", "postgres://..");
        }
    }
    Ok(CloudOptions { speed, sql: simulated_sql.map(Server) })
}

/// # Errors
/// There is no such step; the hint lists them.
fn check_step(step: &str) -> Result<(), Trouble> {
    if saga::STEPS.contains(&step) {
        return Ok(());
    }
    let steps = saga::STEPS.join(", ");
    let message = format!("there is no step `{step}`; the steps are {steps}");
    Err(Trouble::usage("unknown_step", message, "name one of the listed steps"))
}

fn clients(args: &ClientArgs, live: bool) -> Result<Vec<Wanted>, Trouble> {
    check_id(&args.client)?;
    let wanted = Wanted {
        id: args.client.clone(),
        name: args.name.clone(),
        tier: args.tier.as_deref().map(str::parse).transpose()?,
        region: args.region.clone(),
        live,
    };
    match args.fleet {
        None => Ok(vec![wanted]),
        Some(size @ 1..=FLEET_MAX) => {
            let of = |number| Wanted { id: format!("{}-{number}", wanted.id), ..wanted.clone() };
            Ok((1..=size).map(of).collect())
        }
        Some(_) => Err(Trouble::usage(
            "bad_fleet",
            "this size of a fleet cannot be used",
            format!("1 to {FLEET_MAX} clients"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use example_command::exit::Trouble;

    use super::{Cli, Command, Options, command};
    use crate::input::Tier;

    fn options(arguments: &[&str]) -> Result<Options, Trouble> {
        let cli = Cli::try_parse_from(["client-onboarding"].iter().chain(arguments)).unwrap();
        match command(cli)? {
            Command::Run(options) => Ok(*options),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_left_out_is_a_default_or_as_it_was() {
        let plain = options(&[]).unwrap();
        let client = plain.clients[0].fresh().unwrap();
        assert_eq!((client.id.as_str(), client.tier), ("demo", Tier::Professional));
        let stored = crate::input::Client { tier: Tier::Starter, ..client };
        assert_eq!(plain.clients[0].agreeing_with(stored.clone()).unwrap(), stored);
        let typed = options(&["--tier", "enterprise"]).unwrap();
        let refused = typed.clients[0].agreeing_with(stored).unwrap_err();
        assert_eq!(refused.code(), "other_options");
    }

    #[test]
    fn a_fleet_is_numbered_and_each_of_its_ids_is_checked() {
        let fleet = options(&["--client", "acme", "--fleet", "3"]).unwrap();
        let ids: Vec<_> = fleet.clients.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["acme-1", "acme-2", "acme-3"]);
        for (id, size) in [("acme", "0"), ("acme", "101"), (&*"x".repeat(40), "3")] {
            assert!(options(&["--client", id, "--fleet", size]).is_err(), "{id} {size}");
        }
    }

    #[test]
    fn what_stands_before_a_command_is_not_passed_over() {
        for before in [&["--plan"][..], &["--tear-down"], &["--client", "acme"], &["--fleet", "2"]]
        {
            for command in ["submit", "worker"] {
                let refused = options(&[before, &[command]].concat()).unwrap_err();
                assert_eq!(refused.code(), "usage", "{before:?} {command}");
            }
        }
        let submit = options(&["submit", "--client", "acme", "--fleet", "2"]).unwrap();
        assert_eq!(submit.clients[1].id, "acme-2");
        assert!(options(&["worker", "--until-idle"]).unwrap().clients.is_empty());
    }
}
