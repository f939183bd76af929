//! Paid songs: a signed webhook becomes an order and a run in one transaction, the run makes three
//! variants, and who holds the order's token may hear them.
//!
//! [`intake`] is the point where money becomes work, [`saga`] is the work, and `sql/schema.sql` says
//! who may see what of it.

pub mod checkout;
pub mod cloud;
pub mod intake;
pub mod saga;
pub mod shop;
pub mod web;

use std::{
    ffi::OsString,
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use checkout::Checkout;
use clap::Parser;
use cloud::Cloud;
use example_command::{
    database::Database,
    exit::{Exit, Trouble},
    signals::signal,
    stage::Stage,
};
use provision_adapters::webhook::Verifier;
use provision_core::{
    Secret,
    resolver::{EnvResolver, MapResolver, SecretResolver},
};
use shop::{ELEVENLABS_KEY, Places, STORAGE_KEY, Shop, Standing};
use tokio::net::TcpListener;

/// The variable with the secret that signs webhooks.
const WEBHOOK_SECRET: &str = "STRIPE_WEBHOOK_SECRET";
/// The secret where none is set: good for a demonstration on this machine.
pub const DEMO_SECRET: &str = "whsec_demonstration";

/// Takes paid orders by webhook and makes their songs: kill it at any moment and type it again.
#[derive(Debug, Parser)]
#[command(name = "song-orders", version, max_term_width = 100)]
struct Cli {
    /// Folder of keys, of songs on their way, of the simulated clouds, and of a private database
    /// server where `DATABASE_URL` names none.
    #[arg(long, value_name = "DIR", default_value = "./.song-orders")]
    data_dir: PathBuf,
    /// Buy so many orders, as the payment provider would; with 0 only finish what is open.
    #[arg(long, value_name = "N", default_value_t = 3)]
    orders: u32,
    /// Styles of the variants; nobody makes one in the style of the `beatles`.
    #[arg(long, value_name = "A,B,C", default_value = "acoustic,pop,ballad")]
    styles: String,
    /// Address to listen at; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Stay open for orders until Ctrl-C.
    #[arg(long)]
    serve: bool,
    /// A simulated ElevenLabs elsewhere; needs --storage.
    #[arg(long, value_name = "URL", requires = "storage")]
    elevenlabs: Option<String>,
    /// A simulated storage elsewhere; needs --elevenlabs.
    #[arg(long, value_name = "URL", requires = "elevenlabs")]
    storage: Option<String>,
    /// Calls for music that may be open at a time.
    #[arg(long, value_name = "N", default_value_t = 2)]
    concurrency: u32,
    /// Multiplies the waits of the simulated clouds.
    #[arg(long, value_name = "FACTOR", default_value_t = 0.02, value_parser = factor)]
    speed: f64,
    /// Remove the songs of every order.
    #[arg(long)]
    tear_down: bool,
    #[command(flatten)]
    care: Care,
}

/// What is done about runs that need a person.
#[derive(Debug, clap::Args)]
struct Care {
    /// First let them go on.
    #[arg(long)]
    try_again: bool,
    /// Only show them, with what was noted on them.
    #[arg(long)]
    dead_letters: bool,
    /// Only note something on one of them.
    #[arg(long, value_names = ["RUN", "TEXT"], num_args = 2)]
    note: Option<Vec<String>>,
}

/// Times are multiplied by it: neither nothing nor for ever.
fn factor(text: &str) -> Result<f64, String> {
    let factor: f64 = text.parse().map_err(|_| "this is no number".to_owned())?;
    match (0.001..=100.0).contains(&factor) {
        true => Ok(factor),
        false => Err("it is 0.001 to 100".to_owned()),
    }
}

/// Parses the arguments, does what they ask, and says how it went.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    example_command::run(arguments, work)
}

async fn work(cli: Cli) -> Result<Exit, Trouble> {
    let database = Database::of(&cli.data_dir).await?;
    let cloud = match (&cli.elevenlabs, &cli.storage) {
        (Some(elevenlabs), Some(storage)) => Cloud::at(elevenlabs, storage)?,
        _ => Cloud::own(&cli.data_dir, cli.speed).await?,
    };
    let places = Places {
        database: database.url().to_owned(),
        data_dir: cli.data_dir.clone(),
        elevenlabs: cloud.elevenlabs.clone(),
        storage: cloud.storage.clone(),
        concurrency: cli.concurrency,
        stage: Stage::served(cli.speed),
    };
    let shop = Shop::open(&places, keys()).await?;
    if let Some([run, text]) = cli.care.note.as_deref() {
        shop.note(run, text).await?;
        return Ok(Exit::Done);
    }
    if cli.care.dead_letters {
        return show_dead_letters(&shop).await;
    }
    if cli.care.try_again {
        shop.try_again().await?;
    }
    open(&shop, &cli).await
}

/// Keys of the simulated clouds.
#[must_use]
pub fn keys() -> MapResolver {
    MapResolver::new()
        .with(ELEVENLABS_KEY, provision_adapters::elevenlabs::sim::KEY)
        .with(STORAGE_KEY, provision_adapters::supabase_storage::sim::KEY)
}

async fn open(shop: &Shop, cli: &Cli) -> Result<Exit, Trouble> {
    let named = EnvResolver::new().only([WEBHOOK_SECRET]).resolve(WEBHOOK_SECRET).await?;
    let secret = named.unwrap_or_else(|| Secret::new(DEMO_SECRET));
    let verifier = Verifier::stripe("song-orders", [secret.clone()])
        .map_err(|error| Trouble::usage("webhook_secret", error.to_string(), "set another one"))?;
    let unheard = |error: io::Error| {
        Trouble::unavailable("listen", error.to_string(), "choose another address")
    };
    let listener = TcpListener::bind(cli.listen).await.map_err(unheard)?;
    let address = format!("http://{}", listener.local_addr().map_err(unheard)?);
    let worker = shop.worker();
    say(&format!("open for orders at {address}"));
    let ended = tokio::select! {
        ended = trade(shop, cli, (&address, &secret)) => ended.map(Some),
        served = async { axum::serve(listener, web::router(shop, verifier)).await } => {
            served.map(|()| None).map_err(unheard)
        }
        () = signal() => Ok(None),
    };
    // Whatever came of it: open calls are awaited, and other hosts take over at once.
    worker.stop().await;
    let Some(standing) = ended? else {
        say("interrupted: what is open goes on when this is typed again");
        return Ok(Exit::Cancelled);
    };
    say(&standing.to_string());
    Ok(if standing.open == 0 { Exit::Done } else { Exit::Parked })
}

async fn trade(
    shop: &Shop,
    cli: &Cli,
    (address, secret): (&str, &Secret),
) -> Result<Standing, Trouble> {
    if cli.tear_down {
        return shop.tear_down().await;
    }
    let before = shop.standing().await?;
    let before = before.open + before.completed + before.failed + before.removed;
    for number in 0..i64::from(cli.orders) {
        let id = format!("cs_{}", before + number);
        let checkout = Checkout { styles: cli.styles.clone(), ..Checkout::new(&id, "customer-1") };
        let event = checkout.event(&format!("evt_{}", before + number));
        // Delivered twice, as it happens: the second one finds the order of the first.
        let told = [
            checkout::deliver(address, secret, &event).await?,
            checkout::deliver(address, secret, &event).await?,
        ];
        let [first, second] = told.map(|answer| answer.status);
        say(&format!("{id}: paid, answered {first} and {second}"));
    }
    if cli.serve {
        std::future::pending::<()>().await;
    }
    shop.settled().await
}

async fn show_dead_letters(shop: &Shop) -> Result<Exit, Trouble> {
    let letters = shop.dead_letters().await?;
    for letter in &letters {
        let run = letter.id.to_string();
        let why = letter.summary.failure.as_ref().map_or("", |failure| failure.code.as_str());
        say(&format!("{run} {} {why}", letter.key.as_deref().unwrap_or_default()));
        for note in shop.notes(&run).await? {
            say(&format!("  {note}"));
        }
    }
    Ok(if letters.is_empty() { Exit::Done } else { Exit::Parked })
}

fn say(line: &str) {
    // A reader that has gone away is no reason to stop trading.
    let _ = writeln!(io::stdout(), "{line}");
}
