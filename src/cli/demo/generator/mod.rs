//! Made-up hits that look like real ones, for first looks, dashboards, tests and benchmarks.
//!
//! A [`Demo`] is a shop with a newsletter and a site. The same seed always gives the same shop: people, mails, visits, and
//! every byte of every event. Hits are made as requests of the passthrough ingress and become events like every hit
//! ([`answer::build_event`]), so a demo stores what the program stores. The keys of hashes and signed codes come from the
//! seed, not from the owner: the demo needs none of the owner's keys, and nothing else ever uses the demo's.
//!
//! It contains, in shares of the events:
//!
//! | share | what | how it shows |
//! |---|---|---|
//! | 52 % | mails are opened | code, `userid` and UTM parameters of a campaign; most a few hours after the send, few some
//! days later |
//! | | … in Gmail and Yahoo | through their image proxies, again with every open |
//! | | … in Apple Mail | once, soon after the send, read or not: agent `Mozilla/5.0` |
//! | | … in companies | before anybody reads them, by a gateway's scanner within seconds of the send; a few change the code |
//! | | newsletters, news, sales, welcomes | have a word as their code, the same in all mails |
//! | | invitations, surveys, receipts, reminders, reset passwords | have a signed code in each: campaign, recipient, time of the send |
//! | | … opened late | have expired (invitations, reset passwords) or are revoked (reminders) |
//! | 38 % | people visit the site | page (`url`), source (`referrer`: search, social, mail, AI, other sites, none), screen; visitors return |
//! | | … and their browsers prefetch | `Sec-Purpose: prefetch` and its older forms |
//! | 9 % | crawlers and monitors visit | their agents, in bursts and every few minutes |
//! | 1 % | something is odd | broken encoding, far too long values, secrets in parameters, made-up codes, no address |
//!
//! People are active by day and on weekdays, each in the time zone of their country. Addresses are those reserved for
//! documentation, host names end in `.example`; agents are in the public forms of real browsers, programs and crawlers.

mod agents;
mod draft;
mod machines;
mod mail;
mod people;
mod random;
mod site;

use crate::hit::settings::Lookups;
use chrono::{DateTime, Utc};

use crate::config::Config;
use crate::hit::answer;
use crate::hit::code::Listing;
use crate::hit::event::Event;
use crate::hit::privacy::Key;
use crate::hit::read::RequestContext;
use crate::hit::request::Request;
use draft::Draft;
use mail::{Mail, Mailing};
use people::{DAY, Person};
use random::{Random, scatter};

/// The mark of made-up events (`event.dataset`).
pub const DATASET: &str = "demo";

/// The parameters of a demo. The same values make the same events, byte by byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demo {
    /// The seed, which chooses one of the many possible shops.
    pub seed: u64,
    /// The number of events.
    pub events: u32,
    /// The number of days before `end` on which the events happen.
    pub days: u32,
    /// The latest time of an event.
    pub end: DateTime<Utc>,
}

impl Demo {
    /// Plans all hits, in the order of their times.
    pub fn plan(&self) -> Plan {
        let window = Window::new(self);
        let mailing = Mailing::new(self.seed, window, self.events);
        let mut hits = plan(self, window, &mailing);
        // The sort is stable, so that equal times keep the order in which they were planned.
        hits.sort_by_key(|planned| planned.time);
        Plan {
            seed: self.seed,
            mailing,
            hits,
        }
    }

    /// Returns the requests in the order of their times, each with its context.
    pub fn requests(&self) -> impl Iterator<Item = (Request, RequestContext)> + use<> {
        let plan = self.plan();
        (0..plan.len()).map(move |number| plan.request(number))
    }

    /// Returns the events under a configuration, in the order of their times.
    pub fn events(&self, config: &Config) -> impl Iterator<Item = Event> + use<> {
        let (plan, config) = (self.plan(), config.clone());
        (0..plan.len()).map(move |number| plan.event(number, &config))
    }
}

/// All hits of a demo. Each hit is made from its number alone, so several can be made at the same time.
#[derive(Debug)]
pub struct Plan {
    seed: u64,
    mailing: Mailing,
    hits: Vec<Planned>,
}

impl Plan {
    /// Returns the number of hits.
    pub const fn len(&self) -> usize {
        self.hits.len()
    }

    /// Returns true if there are no hits.
    pub const fn is_empty(&self) -> bool {
        self.hits.is_empty()
    }

    /// Builds the request of a hit, with its context. Its id depends on seed and number alone, so that making a demo again
    /// stores nothing twice.
    ///
    /// # Panics
    ///
    /// If there is no hit with this number.
    pub fn request(&self, number: usize) -> (Request, RequestContext) {
        let planned = self.hits[number];
        let mut random = Random::new(self.seed ^ 0x006d_616b_6531, number as u64);
        let draft = self.draft(planned, &mut random);
        let id = id(self.seed, number as u64);
        let context = RequestContext {
            now: time(planned.time + delay(&mut random)),
            invocation: uuid(&mut random),
            trusted_hops: 0,
        };
        (draft.request(planned.time, &id, &mut random), context)
    }

    /// Builds the event of a hit under the policy of a configuration.
    ///
    /// # Panics
    ///
    /// If there is no hit with this number.
    pub fn event(&self, number: usize, config: &Config) -> Event {
        let (request, context) = self.request(number);
        // Hashes and codes are the same with the same values, too. The owner's keys have made none of these codes.
        let mut config = config.clone();
        config.policy.key = Key::from_secret(&format!("demo {}", self.seed));
        config.code_keys = self.mailing.keys().clone();
        let listing = match self.hits[number].what {
            HitKind::Open(mail) | HitKind::Scan(mail) => self.mailing.listing(mail),
            _ => Listing::None,
        };
        let lookups = Lookups {
            code_status: &|_| listing.into(),
            ..Lookups::none()
        };
        answer::build_event(request, &context, &config.settings(), &lookups).with_dataset(DATASET)
    }

    fn draft(&self, planned: Planned, random: &mut Random) -> Draft {
        let person = |number: u32| Person::new(self.seed, number.into());
        match planned.what {
            HitKind::Open(mail) => self.mailing.open(mail, planned.time, &person(mail.recipient), random),
            HitKind::Scan(mail) => self.mailing.scan(mail, planned.time, &person(mail.recipient), random),
            HitKind::View { visitor, visit, step } => site::view(
                &person(visitor),
                &mut Random::new(self.seed ^ 0x7669_6577, visit.into()),
                step,
                random,
            ),
            HitKind::Crawl { crawler } => machines::crawl(self.seed, crawler, random),
            HitKind::Watch { monitor } => machines::watch(monitor),
            HitKind::Odd { person: number } => machines::build_odd(&person(number), random),
        }
    }
}

/// One planned hit.
#[derive(Clone, Copy, Debug)]
struct Planned {
    /// Milliseconds since the epoch.
    time: i64,
    what: HitKind,
}

/// The kind of a planned hit.
#[derive(Clone, Copy, Debug)]
enum HitKind {
    /// A mail's image is fetched for its recipient.
    Open(Mail),
    /// A gateway looks at a mail.
    Scan(Mail),
    /// A page is viewed, as a step of a visit.
    View { visitor: u32, visit: u32, step: u8 },
    /// A crawler fetches something.
    Crawl { crawler: u32 },
    /// A monitor checks the site.
    Watch { monitor: u8 },
    /// A defective hit.
    Odd { person: u32 },
}

/// A period, both ends included, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug)]
struct Window {
    start: i64,
    end: i64,
}

impl Window {
    /// Creates the window of a demo, not before the epoch, since hits have no such times.
    fn new(demo: &Demo) -> Self {
        let end = demo.end.timestamp_millis().max(0);
        let start = (end - i64::from(demo.days) * DAY).max(0);
        Self { start, end }
    }

    const fn holds(self, time: i64) -> bool {
        self.start <= time && time <= self.end
    }

    /// Returns any time from `start` on.
    fn since(self, start: i64, random: &mut Random) -> i64 {
        random.between(start.clamp(self.start, self.end), self.end + 1)
    }

    /// Returns a time at which a person is active.
    fn active_time(self, person: &Person, random: &mut Random) -> i64 {
        let mut found = self.since(self.start, random);
        // After these attempts any time is accepted: some people work at night.
        for _ in 0..12 {
            if person.is_active(found, random) {
                break;
            }
            found = self.since(self.start, random);
        }
        found
    }
}

fn plan(demo: &Demo, window: Window, mailing: &Mailing) -> Vec<Planned> {
    let events = usize::try_from(demo.events).unwrap_or(usize::MAX);
    let part = |percent: usize| events / 100 * percent + events % 100 * percent / 100;
    let (mails, machines, odd) = (part(52), part(9), part(1));
    let mut plan = Vec::with_capacity(events);
    mailing.plan(mails, &mut plan);
    machines::plan(demo.seed, window, machines, odd, &mut plan);
    site::plan(demo.seed, window, events - plan.len(), &mut plan);
    plan
}

/// Returns the milliseconds until a hit was written: mostly about ten, seldom thousands.
fn delay(random: &mut Random) -> i64 {
    let (_, least, most) = *random.weighted(&DELAYS, |delay| delay.0);
    random.between(least, most)
}

const DELAYS: [(u64, i64, i64); 4] = [(60, 15, 120), (30, 120, 600), (9, 600, 2_500), (1, 2_500, 9_000)];

fn time(milliseconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(milliseconds).unwrap_or_default()
}

/// Returns an id in the form of API Gateway's extended request ids: eleven bytes in base64. Like those it begins with
/// something that grows, which keeps an index of ids compact; as many ids of one seed differ as fit into the four bytes.
fn id(seed: u64, number: u64) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let grows = scatter(seed ^ 0x6964).wrapping_add(number).to_be_bytes();
    let rest = Random::new(seed ^ 0x6964, number).next().to_be_bytes();
    let mut bytes = [0; 11];
    bytes[..4].copy_from_slice(&grows[4..]);
    bytes[4..].copy_from_slice(&rest[1..]);
    STANDARD.encode(bytes)
}

fn uuid(random: &mut Random) -> String {
    let hex = random.hex(32);
    format!(
        "{}-{}-4{}-a{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hit::request::passthrough::{Document, document};

    fn demo(events: u32) -> Demo {
        Demo {
            seed: 1,
            events,
            days: 30,
            end: time(1_780_000_000_123),
        }
    }

    /// The requests are built directly for speed; the template's document, decoded, gives the same.
    #[test]
    fn a_request_is_what_the_passthrough_template_gives() {
        for (request, _) in demo(1_500).requests() {
            let document = document(&Document {
                path: request.path_parameters.clone(),
                query: request.query.clone(),
                headers: request.headers.clone(),
                stage_variables: request.stage_variables.clone(),
                context: request.context.clone(),
                body: None,
            });
            let decoded = Request::decode(document.to_string().as_bytes());
            assert_eq!(decoded.as_ref(), Ok(&request));
        }
    }

    #[test]
    fn ids_are_all_different_also_those_of_another_seed() {
        let mut ids: Vec<_> = (0..4)
            .flat_map(|seed| (0..50_000).map(move |number| id(seed, number)))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 200_000);
    }

    #[test]
    fn there_are_as_many_as_asked_for_in_any_window() {
        for events in [1, 2, 7, 99, 500] {
            for days in [1, 2, 400] {
                for end in [0, 1_000, 1_780_000_000_000] {
                    let end = time(end);
                    let demo = Demo {
                        seed: 9,
                        events,
                        days,
                        end,
                    };
                    assert_eq!(demo.plan().len(), events as usize, "{demo:?}");
                    assert_eq!(demo.requests().count(), events as usize, "{demo:?}");
                }
            }
        }
    }
}
