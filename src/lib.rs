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
//! | [`crate::hit::request::Request`] | what HTTP request was this, through which ingress? | yes; the visitor still gets the pixel |
//! | [`crate::hit::read::Hit`] | what did the visitor's software tell us, before any policy? | no: oddities are listed in it |
//! | [`crate::hit::event::Event`] | what is stored, after policy: cut, redacted, dated | no |
//! | [`crate::destination::Destination`] | where does it go? | as an outcome |
//! | [`crate::hit::outcome::Outcome`] | what became of it? One per hit, logged and counted | is the failure |
//! | [`crate::hit::pixel::Pixel`] | what does the visitor see? | no |
//!
//! # What holds throughout
//!
//! - The visitor always gets the image. Nothing after `decode` can take it away.
//! - `request`, `hit`, `privacy`, `event`, `pixel`, `config`, `capture` and `delivery`'s request and verdict do no I/O: time,
//!   ids, credentials and environment are arguments. Connections are made in [`aws`] alone; the shells are `function` (the
//!   Lambda runtime) and `cli` with `stage` (the command line).
//! - [`crate::hit::read::Hit`] and [`crate::hit::event::Event`] are two types on purpose: that nothing private is stored unless the policy says so is
//!   a property of one constructor.
//! - What a visitor can name never becomes the name of an index field.

pub mod api;
#[cfg(feature = "cli")]
pub mod cli;
pub mod client;
pub mod config;
pub mod destination;
#[cfg(feature = "cli")]
mod files;
#[cfg(feature = "lambda")]
pub mod function;
pub mod hit;
pub mod query;
pub mod replay;
pub mod server;
pub mod setup;
#[cfg(feature = "cli")]
pub mod sqlite;
#[cfg(feature = "cli")]
mod terminal;
