//! The integration tests: one binary, a module per subject.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "helpers are public to their sibling modules, and a test may fail where it stands"
)]

mod index_stub;
mod lambda_rig;
mod readme;
mod servers;
mod setup;
mod template;
mod template_corpus;
mod velocity;
