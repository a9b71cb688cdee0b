//! The integration tests: one binary, a module per subject.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "helpers are public to their sibling modules, and a test may fail where it stands"
)]

mod browser;
mod config;
mod destination;
mod function;
mod index_stub;
mod ingress;
mod invoke;
mod lambda_rig;
mod properties;
mod readme;
mod real_index;
mod servers;
mod serving;
mod setup;
mod signature;
mod stage;
mod template;
mod template_corpus;
mod velocity;
