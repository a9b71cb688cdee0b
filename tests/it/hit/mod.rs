//! A hit: requests, privacy, classes, events.

pub mod codes;
pub mod corpora;
pub mod geo;
pub mod ingress;
pub mod injection;
pub mod privacy;
pub mod properties;
pub mod redaction;
pub mod schema;
pub mod sources;
pub mod template;
