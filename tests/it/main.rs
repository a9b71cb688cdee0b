//! The integration tests: one binary, a folder per layer. Instruments are in `tests/support`.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "helpers are public to their sibling modules, and a test may fail where it stands"
)]

mod architecture;
mod cli;
mod dashboards;
mod destination;
mod function;
mod hit;
mod infra;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod wording;
