//! Open and event tracking with a 1x1 image.
//!
//! # The journey of one hit
//!
//! ```text
//! payload ──decode──▶ Request ──read──▶ Hit ──new──▶ Event ──deliver──▶ Outcome      Request ──reply──▶ Pixel
//! ```
//!
//! | type | the question it answers | can it fail? |
//! |---|---|---|
//! | [`request::Request`] | what HTTP request was this, through which ingress? | yes; the visitor still gets the pixel |
//! | [`hit::Hit`] | what did the visitor's software tell us, before any policy? | no: oddities are listed in it |
//! | [`event::Event`] | what is stored, after policy: cut, redacted, dated | no |
//! | [`delivery::Destination`] | where does it go? | as an outcome |
//! | [`delivery::Outcome`] | what became of it? One per hit, logged and counted | is the failure |
//! | [`pixel::Pixel`] | what does the visitor see? | no |
//!
//! # What holds throughout
//!
//! - The visitor always gets the image. Nothing after `decode` can take it away.
//! - `request`, `hit`, `privacy`, `event`, `pixel`, `config`, `capture` and `delivery`'s request and verdict do no I/O: time,
//!   ids, credentials and environment are arguments. Connections are made in [`aws`] alone; the shells are `function` (the
//!   Lambda runtime) and `cli` with `stage` (the command line).
//! - [`hit::Hit`] and [`event::Event`] are two types on purpose: that nothing private is stored unless the policy says so is
//!   a property of one constructor.
//! - What a visitor can name never becomes the name of an index field.

#[cfg(feature = "cli")]
pub mod audit;
pub mod aws;
pub mod campaign;
pub mod capture;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod cloudwatch;
pub mod code;
pub mod config;
#[cfg(feature = "cli")]
pub mod dashboards;
pub mod delivery;
#[cfg(feature = "cli")]
pub mod demo;
pub mod domain;
pub mod enrich;
pub mod event;
#[cfg(feature = "cli")]
mod files;
#[cfg(feature = "lambda")]
pub mod function;
pub mod geo;
pub mod hit;
pub mod manage;
pub mod nearest;
pub mod opt_out;
pub mod page;
pub mod pixel;
pub mod privacy;
pub mod question;
pub mod queue;
pub mod rate_limit;
pub mod recover;
pub mod referrer;
pub mod request;
pub mod rules;
pub mod script;
pub mod setup;
pub mod snippet;
#[cfg(feature = "cli")]
pub mod stage;
#[cfg(feature = "cli")]
mod terminal;
pub mod timespan;
pub mod user_agent;
pub mod visit;
