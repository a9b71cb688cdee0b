//! The setup of an index: its declaration and the steps that apply it.
//!
//! [`schema`] and [`plan`] are values: the template, the policies, the requests. [`run`] sends them, reports each step,
//! and writes nothing if everything is as declared. [`prune`] deletes old indices. The command line and the function's
//! roles `setup` and `prune` share this code.

pub mod dashboards;
pub mod plan;
pub mod product;
pub mod prune;
pub mod resource;
pub mod run;
pub mod schema;
pub mod server;
