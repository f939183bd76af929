//! Workloads of the engine, measured beside the raw limit of the same run.
//!
//! `cargo run --release -p benches -- [--runs N] [--in-flight N]
//! [memory|sqlite|postgres|redis|steno|recovery|jobs|growth|load]..`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    reason = "a measuring program: it reads real clocks and prints"
)]

mod growth;
mod jobs;
mod load;
mod measure;
mod peer;
mod raw;
mod recovery;
mod saga;
mod servers;
mod workloads;

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |option: &str| -> Option<usize> {
        let at = args.iter().position(|arg| arg == option)?;
        Some(args.get(at + 1)?.parse().expect("the option takes a number"))
    };
    let runs = number("--runs").unwrap_or(2_000);
    let only = number("--in-flight");
    let chosen = |name: &str| {
        let named: Vec<_> = args
            .iter()
            .filter(|arg| !arg.starts_with("--") && arg.parse::<u32>().is_err())
            .collect();
        named.is_empty() || named.iter().any(|arg| *arg == name)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let [program, place, locks] = args.as_slice()
        && program == recovery::CHILD
    {
        return runtime.block_on(recovery::until_killed(place, locks.as_ref()));
    }
    println!("{}", measure::machine());
    measure::heading();
    runtime.block_on(async {
        let mut memory = None;
        if chosen("memory") {
            memory = Some(workloads::memory(runs).await);
        }
        if chosen("sqlite") {
            workloads::sqlite(runs).await;
        }
        if chosen("postgres") {
            servers::postgres(runs, only).await;
        }
        if chosen("redis") {
            servers::redis(runs, only).await;
        }
        if chosen("steno") {
            let steno = peer::steno_in_memory(runs).await;
            if let Some(memory) = memory {
                let what = "memory W1 / steno in memory, 32 in flight";
                measure::Goal::AtLeast(2.0).judge(what, memory / steno);
            }
        }
        if chosen("recovery") {
            recovery::all().await;
            recovery::waiting(runs).await;
        }
        if chosen("jobs") {
            jobs::all().await;
        }
        if chosen("growth") {
            growth::on_postgres(runs).await;
        }
        if chosen("load") {
            load::sustained(runs * 25).await;
        }
    });
    measure::goals();
}
