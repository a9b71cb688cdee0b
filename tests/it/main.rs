//! The integration tests: one binary, a module per subject.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "helpers are public to their sibling modules, and a test may fail where it stands"
)]

mod archive;
mod audit;
mod browser;
mod care;
mod chromium;
mod code_standing;
mod codes;
mod command_line;
mod config;
mod corpora;
mod dashboards;
mod deletion;
mod demo;
mod destination;
mod fault_proxy;
mod faults;
mod function;
mod geo;
mod index_role;
mod index_setup;
mod index_stub;
mod infra;
mod infra_path;
mod infra_rights;
mod ingress;
mod injection;
mod invoke;
mod keys;
mod lambda_rig;
mod lambda_rig_itself;
mod lambda_traps;
mod lifecycle;
mod log_injection;
mod manage;
mod matrix;
mod migrate;
mod opt_out_rules;
mod opt_outs;
mod page;
mod page_use;
mod privacy;
mod properties;
mod public_url;
mod questions;
mod queue;
mod queues;
mod readme;
mod real_index;
mod redaction;
mod replay;
mod restart;
mod schema;
mod script;
mod server;
mod servers;
mod serving;
mod setup;
mod sign_in;
mod signature;
mod signing_faults;
mod small_server;
mod snippet;
mod sources;
mod stage;
mod stats;
mod template;
mod template_corpus;
mod velocity;
