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
mod config;
mod corpora;
mod dashboards;
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
mod lambda_rig;
mod lambda_rig_itself;
mod lifecycle;
mod manage;
mod matrix;
mod opt_outs;
mod page;
mod privacy;
mod properties;
mod questions;
mod queue;
mod queues;
mod readme;
mod real_index;
mod replay;
mod restart;
mod schema;
mod script;
mod servers;
mod serving;
mod setup;
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
