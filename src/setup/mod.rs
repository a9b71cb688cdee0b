//! Making an index ready: what it must be like, and the steps that make it so.
//!
//! [`schema`] and [`plan`] are values: the template, the policies, the requests. [`run`] sends them, reports each step, and
//! writes nothing when all is as declared. [`prune`] deletes old indices. The command line and the function's roles `setup`
//! and `prune` use the same.

pub mod dashboards;
pub mod plan;
pub mod product;
pub mod prune;
pub mod resource;
pub mod run;
pub mod schema;
pub mod server;
