//! Derives from a hit the class of visit, program, location and source, which it does not state directly.
//!
//! Nothing here decides what is stored: [`crate::hit::event::Event::new`] does.

pub mod burst;
pub mod campaign;
pub mod classify;
pub mod domain;
pub mod geo;
pub mod referrer;
pub mod rules;
pub mod user_agent;

use crate::hit::enrich::classify::{Signals, Visit};
use crate::hit::enrich::geo::Place;
use crate::hit::enrich::referrer::{Referrer, Trail};
use crate::hit::enrich::user_agent::UserAgent;
use crate::hit::read::Hit;
use crate::hit::request::{Pairs, last};

/// The data derived from a hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enriched {
    /// The class of visit: a person, a mail proxy, automated or a prefetch.
    pub visit: Visit,
    /// The program, system and device.
    pub agent: UserAgent,
    /// The country and network.
    pub place: Place,
    /// The source of the visit.
    pub referrer: Option<Referrer>,
    /// The query of the tracked page, which can name campaigns as well.
    pub page_query: Pairs,
}

/// The facts that the hit itself does not contain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnrichContext {
    /// Seconds from the sending of the mail to the hit, if a code contains the time of sending.
    pub seconds_since_sent: Option<i64>,
    /// The location of the visitor's address from the owner's location file; the edge's headers take precedence.
    pub place: Place,
}

/// The headers in which browsers announce a prefetch.
pub const PURPOSE_HEADERS: [&str; 4] = ["sec-purpose", "purpose", "x-purpose", "x-moz"];

impl Enriched {
    /// Derives everything from a hit.
    pub fn new(hit: &Hit, context: EnrichContext) -> Self {
        let request = &hit.request;
        let agent = request.header("user-agent");
        let found = rules::agents().search(agent.unwrap_or_default());
        let edge = geo::read_headers(|name| request.header(name));
        let place = Place {
            country: edge.country.or(context.place.country),
            network: edge.network.or(context.place.network),
        };
        let accepts = ["accept", "accept-encoding", "accept-language"];
        let signals = Signals {
            agent,
            purpose: PURPOSE_HEADERS.iter().find_map(|name| request.header(name)),
            accepts: accepts.iter().any(|name| request.header(name).is_some()),
            network: place.network,
            seconds_since_sent: context.seconds_since_sent,
            burst: false,
        };
        let origin = hit.origin.as_deref().or_else(|| {
            let names = ["referrer", "urlref"];
            names.iter().find_map(|name| last(&request.query, name)).map(|_| "")
        });
        let trail = Trail {
            origin,
            page: hit.page.as_deref(),
            header: request.header("referer"),
        };
        Self {
            visit: classify::classify(&signals, &found),
            agent: user_agent::parse_user_agent(agent.unwrap_or_default(), &found, |name| request.header(name)),
            place,
            referrer: referrer::find_referrer(trail),
            page_query: campaign::page_query(hit.page.as_deref()),
        }
    }
}
