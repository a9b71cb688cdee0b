//! The local stage: what API Gateway is to the deployed function, on this machine, with a store beside it.
//!
//! [`gateway`] makes the payload of a real HTTP request and turns the reply into the HTTP answer; [`server`] listens; the
//! handler between them is the function's own. [`manage`] answers what is asked of the store.

pub mod access_log;
pub mod follow;
pub mod gateway;
pub mod list;
pub mod manage;
pub mod opt_out;

pub mod server;
