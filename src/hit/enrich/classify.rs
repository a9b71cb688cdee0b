//! Classifies a visit as a person, a mail proxy, automated or a prefetch, and gives the reasons.
//!
//! The user agent decides most visits (`src/hit/enrich/rules/visits.rules`). The other signs of a machine (the network
//! of a data centre, a mail opened at the moment of its sending, missing headers that every browser sends) are always
//! among the reasons, and change the class only together: people use such networks as well, and open mail at once. Only
//! a [`super::burst`] over the codes of many mails is enough by itself, and shows only when several hits are compared.

use crate::hit::enrich::rules;
use crate::hit::enrich::rules::RuleMatches;

/// The version of the rules, stored with every visit that they classified. A change of a rule needs a new version.
pub const RULES: &str = "2026-11-21.3";

/// The class of a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A person's program, used by the person at that time.
    Human,
    /// A proxy between a person's mail program and the pixel: the mail is a person's, but time and location mean little.
    PrivacyProxy,
    /// A crawler, scanner, library, monitor or headless browser.
    Automation,
    /// A browser that fetches a page before its person looks at it.
    Prefetch,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 4] = [Self::Human, Self::PrivacyProxy, Self::Automation, Self::Prefetch];

    /// Returns the name stored with the event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::PrivacyProxy => "privacy_proxy",
            Self::Automation => "automation",
            Self::Prefetch => "prefetch",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// The properties of a hit that determine its class.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signals<'a> {
    /// The user agent; none if the header is missing.
    pub agent: Option<&'a str>,
    /// `Sec-Purpose`, `Purpose`, `X-Purpose` or `X-Moz`.
    pub purpose: Option<&'a str>,
    /// True if any of the browsers' content headers is present: `Accept`, `Accept-Encoding`, `Accept-Language`.
    pub accepts: bool,
    /// The number of the network, if the edge names it.
    pub network: Option<u32>,
    /// Seconds from the sending of the mail to this hit, if its code contains the time of sending.
    pub seconds_since_sent: Option<i64>,
    /// True if the hit is part of a burst over many codes, which a single hit cannot show: see [`super::burst`].
    pub burst: bool,
}

/// A class with its reasons; the first one decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The class.
    pub class: Class,
    /// The reasons, at least one.
    pub reasons: Vec<&'static str>,
}

/// The seconds after sending in which hardly anybody but a gateway's scanner opens a mail.
const SCANNER_SECONDS: std::ops::Range<i64> = 0..10;

/// Networks of data centres, where machines are rented and few people browse. Those of privacy relays are not listed.
const DATA_CENTERS: [u32; 34] = [
    7224, 8075, 8100, 8560, 8987, 9370, 12876, 14061, 14618, 15169, 16276, 16509, 20454, 20473, 20940, 21859, 24940,
    26347, 26496, 28753, 31898, 33070, 36351, 36352, 37963, 40676, 45090, 45102, 46606, 47583, 51167, 60781, 63949,
    396_982,
];

/// Classifies a visit; `found` holds the matches in its user agent.
pub fn classify(signals: &Signals<'_>, found: &RuleMatches<'_>) -> Visit {
    let (mut class, reason) = classify_agent(signals, found);
    let mut reasons = vec![reason];
    let ahead = signals.purpose.is_some_and(|purpose| {
        let purpose = purpose.to_ascii_lowercase();
        ["prefetch", "prerender", "preview"]
            .iter()
            .any(|word| purpose.contains(word))
    });
    if class == Class::Human && ahead {
        return Visit {
            class: Class::Prefetch,
            reasons: vec!["prefetch_header", reason],
        };
    }
    if class == Class::Human && signals.burst {
        class = Class::Automation;
        reasons.insert(0, "burst");
    }
    let rented = signals.network.is_some_and(|network| DATA_CENTERS.contains(&network));
    let at_once = signals
        .seconds_since_sent
        .is_some_and(|seconds| SCANNER_SECONDS.contains(&seconds));
    let bare = !signals.accepts && reason == "browser";
    let doubts = [
        (rented, "data_center_network"),
        (at_once, "opened_when_sent"),
        (bare, "no_accept_headers"),
    ];
    reasons.extend(doubts.iter().filter(|(is, _)| *is).map(|(_, doubt)| *doubt));
    if class == Class::Human && reasons.len() > 2 {
        class = Class::Automation;
        // The deciding reason comes first.
        reasons.rotate_left(1);
    }
    Visit { class, reasons }
}

fn classify_agent(signals: &Signals<'_>, found: &RuleMatches<'_>) -> (Class, &'static str) {
    if signals.agent.is_none_or(|agent| agent.trim().is_empty()) {
        return (Class::Automation, "no_agent");
    }
    let known = found.meaning(rules::VISITS).and_then(|meaning| meaning.split_once(' '));
    known
        .and_then(|(class, reason)| Some((Class::parse(class)?, reason)))
        .unwrap_or((Class::Automation, "unknown_program"))
}
