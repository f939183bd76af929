//! The command line, and what it means, checked before anything is opened.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use example_command::exit::Trouble;

/// Orders that are bought where nobody says how many.
const ORDERS_DEFAULT: u32 = 3;

/// Takes paid orders by webhook and makes their songs: kill it at any moment and type it again.
#[derive(Debug, Parser)]
#[command(name = "song-orders", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Other>,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Buy so many orders, as the payment provider would; with 0 only finish what is open [default:
    /// 3, and 0 with --serve, --live, --tear-down or --try-again]
    #[arg(long, value_name = "N")]
    orders: Option<u32>,
    /// Styles of the variants; nobody makes one in the style of the `beatles`.
    #[arg(long, value_name = "A,B,C", default_value = "acoustic,pop,ballad")]
    pub(crate) styles: String,
    /// Address to listen at; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Stay open for orders until Ctrl-C.
    #[arg(long)]
    pub(crate) serve: bool,
    /// Use the real ElevenLabs and Supabase Storage, with keys from the environment.
    #[arg(long, conflicts_with_all = ["elevenlabs", "storage"])]
    pub(crate) live: bool,
    #[command(flatten)]
    pub(crate) cloud: CloudArgs,
    /// Remove the songs of every order, and what is known of whom it was.
    #[arg(long)]
    pub(crate) tear_down: bool,
    #[command(flatten)]
    pub(crate) care: Care,
}

/// Other things to do.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Other {
    /// Print what exists in the simulated clouds, and exit.
    Inventory,
}

/// Where things are kept, and how they are shown.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// Folder of keys, of songs on their way, of the simulated clouds, and of a private database
    /// server where `DATABASE_URL` names none.
    #[arg(long, value_name = "DIR", default_value = "./.song-orders", global = true)]
    pub(crate) data_dir: PathBuf,
    /// Print one JSON object on the last line of stdout, and everything else on stderr.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// The simulated clouds.
#[derive(Debug, Args)]
pub struct CloudArgs {
    /// A simulated ElevenLabs elsewhere; needs --storage.
    #[arg(long, value_name = "URL", requires = "storage")]
    pub(crate) elevenlabs: Option<String>,
    /// A simulated storage elsewhere; needs --elevenlabs.
    #[arg(long, value_name = "URL", requires = "elevenlabs")]
    pub(crate) storage: Option<String>,
    /// Calls for music that may be open at a time.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) concurrency: u32,
    /// Multiplies the waits of the simulated clouds.
    #[arg(long, value_name = "FACTOR", default_value_t = 0.02, value_parser = factor)]
    pub(crate) speed: f64,
}

/// What is done about runs that need a person, and about money that is to go back.
#[derive(Debug, Args)]
pub struct Care {
    /// First let them go on.
    #[arg(long)]
    pub(crate) try_again: bool,
    /// Only show them, with what was noted on them.
    #[arg(long)]
    pub(crate) dead_letters: bool,
    /// Only note something on one of them.
    #[arg(long, value_names = ["RUN", "TEXT"], num_args = 2)]
    pub(crate) note: Option<Vec<String>>,
    /// Only show what is to be paid back.
    #[arg(long)]
    pub(crate) refunds: bool,
    /// Only give up the open order of this checkout: what was made of it is removed.
    #[arg(long, value_name = "CHECKOUT")]
    pub(crate) cancel: Option<String>,
    /// Only note that the money of this checkout has gone back: nothing is made of it any more.
    #[arg(long, value_name = "CHECKOUT")]
    pub(crate) refunded: Option<String>,
}

impl Cli {
    /// How many orders this command buys itself.
    #[must_use]
    pub(crate) fn orders(&self) -> u32 {
        let care = self.care.try_again || self.care.cancel.is_some();
        let quiet = self.serve || self.live || self.tear_down || care;
        self.orders.unwrap_or(if quiet { 0 } else { ORDERS_DEFAULT })
    }

    /// Checks what clap cannot.
    ///
    /// # Errors
    /// What does not go together.
    pub(crate) fn check(&self) -> Result<(), Trouble> {
        let refuse = |what: &str, hint: &str| Err(Trouble::usage("usage", what, hint));
        if self.live && self.orders() > 0 {
            return refuse("--live buys nothing", "leave out --orders: real checkouts are paid");
        }
        if self.tear_down && self.orders() > 0 {
            return refuse("--tear-down buys nothing", "leave out --orders");
        }
        let care = &self.care;
        let only = [
            care.dead_letters,
            care.note.is_some(),
            care.refunds,
            care.refunded.is_some(),
            care.cancel.is_some(),
        ];
        let buys = self.orders.is_some_and(|orders| orders > 0);
        let other = self.tear_down || self.serve || care.try_again || buys;
        let asked = only.into_iter().filter(|asked| *asked).count();
        if asked > 1 || (asked == 1 && other) {
            return refuse("this is done alone", "type one command after another");
        }
        if self.live && self.command.is_some() {
            return refuse("the inventory is that of the simulated clouds", "leave out --live");
        }
        Ok(())
    }
}

/// Times are multiplied by it: neither nothing nor for ever.
fn factor(text: &str) -> Result<f64, String> {
    let factor: f64 = text.parse().map_err(|_| "this is no number".to_owned())?;
    match (0.001..=100.0).contains(&factor) {
        true => Ok(factor),
        false => Err("it is 0.001 to 100".to_owned()),
    }
}
