//! A shop with a database and a pool of its own, which starts a saga in the very transaction that
//! inserts the order.
//!
//! A host that copies this keeps the shape of [`shop`] and writes its own [`saga`].

pub mod saga;
pub mod shop;
pub mod trouble;

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use example_command::signals::signal;
use shop::{Shop, Standing};
use trouble::Trouble;

/// Takes orders and fulfils them: kill it at any moment and type it again.
#[derive(Debug, Parser)]
#[command(name = "host-with-postgres", version, max_term_width = 100)]
struct Cli {
    /// Address of the shop's database, `postgres://user:password@host/database`.
    url: String,
    /// Take so many orders; with 0 only finish what is open.
    #[arg(long, value_name = "N", default_value_t = 3)]
    orders: u32,
    /// What is ordered; nobody can take `nothing` off a shelf.
    #[arg(long, value_name = "ITEM", default_value = "kettle")]
    item: String,
    /// First try again what needs a person.
    #[arg(long)]
    retry_parked: bool,
}

/// Parses the arguments, does what they ask, and says how it went.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(told) => {
            // A closed pipe is no reason to fail.
            let _ = told.print();
            return ExitCode::from(if told.use_stderr() { 64 } else { 0 });
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = runtime.map_err(|error| Trouble::unusable("runtime", error.to_string()));
    match ended.and_then(|runtime| runtime.block_on(serve(&cli))) {
        Ok(code) => ExitCode::from(code),
        Err(trouble) => {
            let _ = writeln!(io::stderr(), "{trouble}");
            ExitCode::from(trouble.exit_code())
        }
    }
}

async fn serve(cli: &Cli) -> Result<u8, Trouble> {
    let shop = Shop::open(&cli.url).await?;
    if cli.retry_parked {
        shop.retry_parked().await?;
    }
    let worker = shop.worker();
    say("open for orders");
    let ended = tokio::select! {
        ended = trade(&shop, cli) => ended.map(Some),
        () = signal() => Ok(None),
    };
    // Whatever came of it: open calls are awaited, and other hosts take over at once.
    worker.stop().await;
    let Some(standing) = ended? else {
        say("interrupted: what is open goes on when this is typed again");
        return Ok(5);
    };
    say(&standing.to_string());
    Ok(if standing.placed == 0 { 0 } else { 3 })
}

async fn trade(shop: &Shop, cli: &Cli) -> Result<Standing, Trouble> {
    for _ in 0..cli.orders {
        let number = shop.place(&cli.item).await?;
        say(&format!("order {number}: one {}", cli.item));
    }
    shop.settled().await
}

fn say(line: &str) {
    // A reader that has gone away is no reason to stop trading.
    let _ = writeln!(io::stdout(), "{line}");
}
