//! Open and event tracking with a 1x1 image.
//!
//! # The journey of a hit
//!
//! ```text
//! payload ──decode──▶ Request ──read──▶ Hit ──enrich──▶ Event ──deliver──▶ Outcome      Request ──reply──▶ Pixel
//! ```
//!
//! | type | the question it answers | can it fail? |
//! |---|---|---|
//! | [`Request`](hit::request::Request) | Which HTTP request was this, through which ingress? | yes; the visitor still gets the image |
//! | [`Hit`](hit::read::Hit) | What does the visitor's software say, before any policy? | no: oddities are listed in it |
//! | [`Event`](hit::event::Event) | What is stored, after classification and redaction? | no |
//! | [`Destination`](destination::Destination) | Where is the event sent? | as an outcome |
//! | [`Outcome`](hit::outcome::Outcome) | What became of the hit? | it is the failure |
//! | [`Pixel`](hit::pixel::Pixel) | What does the visitor see? | no |
//!
//! Method, path, opt-out and privacy signal decide whether a hit is stored ([`hit::answer`]); the reply is built once, afterwards.
//! The shells that call this code are `function`, the Lambda function, and [`server`], `pixel serve`.
//!
//! # Layers
//!
//! A layer imports only from the layers in its row; `cargo test --test it architecture` fails on any other import.
//!
//! | layer | contents | imports from |
//! |---|---|---|
//! | [`hit`] | a hit: requests, privacy, classes, events, the image, outcomes | nothing |
//! | [`destination`] | destinations: URLs, requests to them, the meaning of their replies, log lines | hit |
//! | [`config`] | the configuration: all variables, tokens | hit, destination |
//! | [`query`] | questions about stored events, and the trait that a store implements | hit, config |
//! | [`replay`] | events read back from logs, queues and files | hit, destination, config |
//! | `terminal` | output for a terminal | nothing |
//! | [`client`] | HTTP: signing, credentials, retries, bulk requests, the fallback router | hit, destination, config, query |
//! | `sqlite` | the embedded store | hit, destination, config, query |
//! | [`api`] | the HTTP API, the page, opting out, lines to paste; works with any store | hit, config, query |
//! | [`setup`] | the index template, the lifecycle, the import of dashboards | hit, destination, config, client |
//! | [`server`] | `pixel serve` | hit, destination, config, query, replay, terminal, client, sqlite, api |
//! | `function` | the Lambda function | hit, destination, config, query, replay, client, api, setup |
//!
//! `cli`, the commands of `pixel`, may import from all but `function`. The first five layers are pure: time, ids, credentials and
//! environment are arguments.
//!
//! # Invariants
//!
//! - The visitor always gets the image. Nothing after decoding can prevent it.
//! - [`Hit`](hit::read::Hit) and [`Event`](hit::event::Event) are two types, so that storing something private takes a change in
//!   one constructor, `Event::new`.
//! - A name that a visitor chooses never becomes the name of an index field.
//! - Each hit has exactly one outcome.

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
#[cfg(feature = "cli")]
pub mod server;
pub mod setup;
#[cfg(feature = "cli")]
pub mod sqlite;
#[cfg(feature = "cli")]
mod terminal;
