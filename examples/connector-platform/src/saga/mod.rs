//! The five sagas, one file each: input, output, steps, definition.

pub mod check;
pub mod connect;
pub mod figures;
pub mod publish;
pub mod refresh;

/// Queue of publishing, and how many of its runs are worked on at a time.
pub const PUBLISH_JOBS: &str = "publish_jobs";
/// Queue of health checks.
pub const HEALTH_CHECKS: &str = "health_checks";
/// Queue of token refreshes.
pub const TOKEN_REFRESH: &str = "token_refresh";
/// All queues, with how many of their runs are worked on at a time, by all processes together.
pub const QUEUES: [(&str, u32); 3] = [(PUBLISH_JOBS, 5), (HEALTH_CHECKS, 10), (TOKEN_REFRESH, 5)];
