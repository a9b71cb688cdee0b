//! Instruments of the tests and benchmarks: real servers, a Lambda environment, a browser, proxies.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "helpers are public to their sibling modules, and a test may fail where it stands"
)]

pub mod chromium;
pub mod fault_proxy;
pub mod index_stub;
pub mod lambda_rig;
pub mod matrix;
pub mod queue;
pub mod servers;
pub mod serving;
pub mod setup;
pub mod small_server;
pub mod template_corpus;
pub mod velocity;
