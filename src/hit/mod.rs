//! A hit: from the request to the event and its outcome.

pub mod answer;
pub mod code;
pub mod enrich;
pub mod event;
pub mod outcome;
pub mod pixel;
pub mod privacy;
pub mod read;
pub mod request;
pub mod script;
pub mod settings;
