//! Every adapter over real HTTP against the simulator of its provider.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and say aloud what they skip"
)]

mod adoption;
mod ambiguous;
mod ansible;
mod callbacks;
mod canary;
mod credentials;
mod elevenlabs;
mod elevenlabs_faults;
mod elevenlabs_folder;
mod engine;
mod faults;
mod github;
mod github_absence;
mod github_app;
mod github_ends;
mod github_faults;
mod github_sim;
mod github_values;
mod hetzner;
mod hetzner_faults;
mod hetzner_machine;
mod hetzner_parts;
mod hetzner_raw;
mod n8n;
mod n8n_faults;
mod n8n_upgrade;
mod network;
mod postgres;
mod postgres_guard;
mod postgres_heirs;
mod postgres_late;
mod postgres_rights;
mod postgres_schema;
mod process;
mod resend;
mod resend_runs;
mod scenes;
mod scenes_elevenlabs;
mod scenes_hetzner;
mod scenes_storage;
mod scenes_tailscale;
mod spec;
mod sql_model;
mod sql_model_catalog;
mod sql_model_fuzz;
mod sql_model_rls;
mod strays;
mod stub;
mod supabase;
mod supabase_faults;
mod supabase_postgres;
mod supabase_raw;
mod supabase_schemas;
mod supabase_storage;
mod tailscale;
mod tailscale_faults;
mod terraform;
mod terraform_real;
mod vercel;
mod vercel_faults;
mod vercel_raw;
mod webhook;
mod webhook_router;
