//! The commands of `pixel`.

pub mod archive;
pub mod audit;
pub mod command_line;
pub mod config;
pub mod demo;
pub mod invoke;
pub mod keys;
pub mod log_injection;
pub mod migrate;
pub mod readme;
pub mod replay;
pub mod snippet;
pub mod stats;
