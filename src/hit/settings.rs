//! The settings of a hit: how it is answered, and what is stored of it.

use std::net::IpAddr;

use crate::hit::code::{CodeStatus, Keys};
use crate::hit::enrich::geo::Place;
use crate::hit::event::Policy;
use crate::hit::privacy::Consent;

/// The part of the configuration that decides about hits.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// True if the image is at every path.
    pub any_path: bool,
    /// The value of `Access-Control-Allow-Origin`.
    pub cors_origin: Option<&'a str>,
    /// The settings that decide whether a hit may be stored.
    pub consent: Consent<'a>,
    /// The privacy policy of what is stored.
    pub policy: &'a Policy,
    /// The keys of signed codes.
    pub code_keys: &'a Keys,
}

/// The look-ups that a caller offers while an event is built.
pub struct Lookups<'a> {
    /// Locates the visitor's whole address, for edges that do not name its location.
    pub place: &'a dyn Fn(IpAddr) -> Place,
    /// Returns the status of a code in its owner's list.
    pub code_status: &'a dyn Fn(&str) -> CodeStatus,
}

impl Lookups<'_> {
    /// Returns look-ups that know nothing.
    pub fn none() -> Self {
        Self {
            place: &|_| Place::default(),
            code_status: &|_| CodeStatus::default(),
        }
    }
}

impl std::fmt::Debug for Lookups<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Lookups").finish_non_exhaustive()
    }
}
