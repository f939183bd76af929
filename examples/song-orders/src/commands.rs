//! What a command does, from opening to the last line.

use std::{io, time::Duration};

use example_command::{
    database::Database,
    exit::{Exit, Trouble},
    folder::show_inventory,
    progress::Screen,
    report::{Beside, OwnRow, RunReport, print_json},
    signals::signal,
    stage::Stage,
};
use provision_adapters::webhook::Verifier;
use provision_core::{
    RunId, Secret,
    clock::{Clock, SystemClock},
    resolver::MapResolver,
};
use serde_json::json;
use sqlx::query_as;
use tokio::net::TcpListener;

use crate::{
    checkout::{self, Checkout},
    cli::Cli,
    cloud::{Cloud, stored_inventory},
    database::unread,
    live,
    secret::{FILE, webhook_secret},
    shop::{ELEVENLABS_KEY, Places, STORAGE_KEY, Shop, Standing},
    web,
};

/// Carries a command out.
///
/// # Errors
/// It was typed wrongly, or something it needs is out of reach.
pub async fn work(cli: Cli) -> Result<Exit, Trouble> {
    cli.check()?;
    if cli.command.is_some() {
        return show_inventory(&stored_inventory(&cli.place.data_dir)?, cli.place.json);
    }
    // What is missing is told before a server is started for it.
    let real = if cli.live { Some(live::providers().await?) } else { None };
    let database = Database::of(&cli.place.data_dir).await?;
    let at = |elevenlabs, storage, stage| Places {
        database: database.url().to_owned(),
        data_dir: cli.place.data_dir.clone(),
        elevenlabs,
        storage,
        live: cli.live,
        stage,
    };
    if let Some((elevenlabs, storage)) = real {
        let elevenlabs = elevenlabs.with_music_concurrency(cli.cloud.concurrency);
        let places = at(elevenlabs, storage, Stage::live());
        let shop = Shop::open(&places, live::resolver()).await?;
        return serve(&shop, &cli).await;
    }
    let cloud = match (&cli.cloud.elevenlabs, &cli.cloud.storage) {
        (Some(elevenlabs), Some(storage)) => Cloud::at(elevenlabs, storage)?,
        _ => Cloud::own(&cli.place.data_dir, cli.cloud.speed).await?,
    };
    let elevenlabs = cloud.elevenlabs().with_music_concurrency(cli.cloud.concurrency);
    let places = at(elevenlabs, cloud.storage(), Stage::served(cli.cloud.speed));
    let shop = Shop::open(&places, keys()).await?;
    serve(&shop, &cli).await
}

/// Keys of the simulated clouds.
#[must_use]
pub fn keys() -> MapResolver {
    MapResolver::new()
        .with(ELEVENLABS_KEY, provision_adapters::elevenlabs::sim::KEY)
        .with(STORAGE_KEY, provision_adapters::supabase_storage::sim::KEY)
}

/// Does what is asked about runs and money; else opens the shop.
async fn serve(shop: &Shop, cli: &Cli) -> Result<Exit, Trouble> {
    let care = &cli.care;
    if let Some([run, text]) = care.note.as_deref() {
        shop.note(run, text).await?;
        return Ok(Exit::Done);
    }
    if let Some(checkout) = &care.refunded {
        shop.refunded(checkout).await?;
        return Ok(Exit::Done);
    }
    if let Some(checkout) = &care.cancel {
        shop.cancel(checkout).await?;
        return open(shop, cli).await;
    }
    if care.refunds {
        return show_refunds(shop, cli.place.json).await;
    }
    if care.dead_letters {
        return show_dead_letters(shop, cli.place.json).await;
    }
    if care.try_again {
        shop.try_again().await?;
    }
    open(shop, cli).await
}

/// What a command has bought, and how all orders stand.
#[derive(Default)]
struct Traded {
    runs: Vec<RunId>,
    standing: Option<Standing>,
}

async fn open(shop: &Shop, cli: &Cli) -> Result<Exit, Trouble> {
    let (began, screen) = (SystemClock.wall(), Screen::new(cli.place.json, true));
    let secret = webhook_secret(&cli.place.data_dir, cli.listen, cli.live).await?;
    let verifier = Verifier::stripe("song-orders", [secret.clone()])
        .map_err(|error| Trouble::usage("webhook_secret", error.to_string(), "set another one"))?;
    let unheard = |error: io::Error| {
        Trouble::unavailable("listen", error.to_string(), "choose another address")
    };
    let listener = TcpListener::bind(cli.listen).await.map_err(unheard)?;
    let address = format!("http://{}", listener.local_addr().map_err(unheard)?);
    let worker = shop.worker();
    screen.line(format!("open for orders at {address}"));
    let secret_file = cli.place.data_dir.join(FILE);
    let is_drawn = std::fs::read_to_string(&secret_file);
    if cli.serve && is_drawn.is_ok_and(|drawn| drawn.trim() == secret.expose()) {
        screen.line(format!("a secret of this folder's own is in {}", secret_file.display()));
    }
    let mut traded = Traded::default();
    let ended = tokio::select! {
        ended = trade(shop, cli, (&screen, &address, &secret), &mut traded) => ended,
        served = async { axum::serve(listener, web::router(shop, verifier)).await } => {
            served.map_err(unheard)
        }
        () = signal() => Ok(()),
    };
    // Whatever came of it: open calls are awaited, and other hosts take over at once.
    worker.stop().await;
    ended?;
    let exit = match traded.standing {
        None => Exit::Cancelled,
        // After a tear-down, what could not be removed needs a person, too.
        Some(Standing { open: 0, completed, .. }) if !cli.tear_down || completed == 0 => Exit::Done,
        Some(_) => Exit::Parked,
    };
    report(shop, (&screen, cli.place.json), &traded, SystemClock.wall().since(began)).await?;
    Ok(exit)
}

/// Buys what is to be bought, and waits until no order goes on by itself.
async fn trade(
    shop: &Shop,
    cli: &Cli,
    (screen, address, secret): (&Screen, &str, &Secret),
    traded: &mut Traded,
) -> Result<(), Trouble> {
    if cli.tear_down {
        traded.standing = Some(shop.tear_down().await?);
        return Ok(());
    }
    let before = shop.standing().await?.orders();
    for number in before..before + i64::from(cli.orders()) {
        let id = format!("cs_{number}");
        let checkout = Checkout { styles: cli.styles.clone(), ..Checkout::new(&id, "customer-1") };
        let event = checkout.event(&format!("evt_{number}"));
        // Delivered twice, as it happens: the second one finds the order of the first.
        let first = checkout::deliver(address, secret, &event).await?;
        let second = checkout::deliver(address, secret, &event).await?;
        traded.runs.extend(first.run());
        screen.line(format!("{id}: paid, answered {} and {}", first.status, second.status));
    }
    if cli.serve {
        std::future::pending::<()>().await;
    }
    traded.standing = Some(shop.settled().await?);
    Ok(())
}

/// The last lines: what came of the runs that this command bought, and how all orders stand.
async fn report(
    shop: &Shop,
    (screen, json): (&Screen, bool),
    traded: &Traded,
    elapsed: Duration,
) -> Result<(), Trouble> {
    let mut runs = Vec::with_capacity(traded.runs.len());
    for run in &traded.runs {
        let own = order_row(shop, run).await?.into_iter().collect();
        let beside = Beside { elapsed, own, ..Beside::default() };
        runs.push(RunReport::read(&shop.engine, *run, &beside).await?);
    }
    runs.iter().for_each(|run| run.show(screen));
    let standing = match traded.standing {
        Some(standing) => standing,
        None => {
            screen.line("interrupted: what is open goes on when this is typed again");
            shop.standing().await?
        }
    };
    if traded.standing.is_some() {
        screen.line(standing.to_string());
    }
    if json {
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        print_json(&json!({ "runs": runs, "orders": standing, "elapsed_ms": elapsed_ms }))?;
    }
    Ok(())
}

/// The shop's own row of a run.
async fn order_row(shop: &Shop, run: &RunId) -> Result<Option<OwnRow>, Trouble> {
    let row = "SELECT checkout, progress FROM songs.orders WHERE run = $1";
    let row: Option<(String, String)> = query_as(row)
        .bind(run.as_uuid())
        .fetch_optional(shop.store.pool())
        .await
        .map_err(unread)?;
    Ok(row.map(|(checkout, progress)| OwnRow {
        kind: "order",
        id: checkout,
        is_alive: progress == "completed",
        name: progress,
        place: "songs.orders".to_owned(),
    }))
}

async fn show_refunds(shop: &Shop, json: bool) -> Result<Exit, Trouble> {
    let (due, screen) = (shop.refunds_due().await?, Screen::new(json, true));
    due.iter().for_each(|due| screen.line(due.to_string()));
    if json {
        print_json(&json!({ "refunds": due }))?;
    }
    Ok(if due.is_empty() { Exit::Done } else { Exit::Parked })
}

async fn show_dead_letters(shop: &Shop, json: bool) -> Result<Exit, Trouble> {
    let screen = Screen::new(json, true);
    let mut told = Vec::new();
    for letter in shop.dead_letters().await? {
        let run = letter.id.to_string();
        let code = letter.summary.failure.as_ref().map_or("", |failure| failure.code.as_str());
        let key = letter.key.as_deref().unwrap_or_default();
        let notes = shop.notes(&run).await?;
        screen.line(format!("{run} {key} {code}"));
        notes.iter().for_each(|note| screen.line(format!("  {note}")));
        told.push(json!({ "run": run, "key": key, "code": code, "notes": notes }));
    }
    let exit = if told.is_empty() { Exit::Done } else { Exit::Parked };
    if json {
        print_json(&json!({ "dead_letters": told }))?;
    }
    Ok(exit)
}
