//! Bursts: a gateway's scanner fetches every image and link of a mail, or of many people's copies of it, within seconds.
//!
//! No single hit shows that, so the function cannot detect it; `pixel reclassify` checks all stored hits, and `pixel
//! serve` the latest ones in its file. Only hits of mail count, which name no page: a page may contain many pixels. And
//! only those that look like people's: mail proxies fetch many mails at once for one person, and robots are known
//! without this.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

use crate::hit::read::is_private_address;
use crate::hit::request::Oddity;

/// The longest burst, in milliseconds.
pub const BURST_WINDOW: i64 = 10_000;

/// The number of different codes within [`BURST_WINDOW`] that no person opens: a mail holds one or two pixels, and each mail
/// takes a moment to read.
pub const BURST_CODES: usize = 5;

/// The number of different people within [`BURST_WINDOW`] who do not open a mail from one address with one program, even in
/// an office where addresses and programs are the same.
pub const BURST_PEOPLE: usize = 20;

/// The parts of a stored event that matter for bursts; texts as hashes, so that millions fit in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// The time of receipt, in milliseconds.
    pub time: i64,
    /// The hash of the event's id.
    pub event: u64,
    /// The hash of the addressee: the recipient of a signed code, or the user.
    pub person: Option<u64>,
    /// The hash of the visitor id of the day.
    pub visitor: Option<u64>,
    /// The hash of the code.
    pub code: u64,
}

/// Returns the hash of a text for a [`Touch`]; it is stable only within one run of the program.
pub fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl Touch {
    /// Reads a stored event; returns none if it cannot be part of a burst: it came from a page, or has no code or no person.
    pub fn from_document(document: &Value) -> Option<Self> {
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str);
        let hashed = |pointer: &str| text(pointer).map(hash);
        // Such an address may belong to all visitors, so it does not identify one.
        let is_private = text("/client/ip").is_some_and(|ip| ip.parse().is_ok_and(is_private_address));
        let oddities = document.pointer("/event/oddities").and_then(Value::as_array);
        let of_proxy =
            oddities.is_some_and(|oddities| oddities.iter().any(|oddity| *oddity == Oddity::ProxyAddress.name()));
        let touch = Self {
            time: document["date"].as_i64()?,
            event: hashed("/event/id")?,
            person: hashed("/pixel/recipient").or_else(|| hashed("/user/id")),
            visitor: hashed("/visitor/id").filter(|_| !is_private && !of_proxy),
            code: hashed("/pixel/code")?,
        };
        let from_a_page = text("/url/full").or_else(|| text("/http/request/referrer")).is_some();
        (!from_a_page && (touch.person.is_some() || touch.visitor.is_some())).then_some(touch)
    }
}

/// Returns the events that are part of a burst.
pub fn find(touches: &[Touch]) -> HashSet<u64> {
    let mut found = HashSet::new();
    // One person's mail: grouped by addressee, or by visitor if there is none.
    let one = touches.iter().filter_map(|touch| {
        let who = touch.person.or(touch.visitor)?;
        Some((who, touch.time, touch.code, touch.event))
    });
    collect_bursts(one.collect(), BURST_CODES, &mut found);
    // Many people's copies, all fetched by one visitor.
    let many = touches
        .iter()
        .filter_map(|touch| Some((touch.visitor?, touch.time, touch.person?, touch.event)));
    collect_bursts(many.collect(), BURST_PEOPLE, &mut found);
    found
}

/// Marks those events of `(who, time, what, event)` that are in a window of [`BURST_WINDOW`] with at least `min_different`
/// different `what`s.
fn collect_bursts(mut touches: Vec<(u64, i64, u64, u64)>, min_different: usize, found: &mut HashSet<u64>) {
    touches.sort_unstable();
    for group in touches.chunk_by(|before, next| before.0 == next.0) {
        let mut within: HashMap<u64, usize> = HashMap::new();
        let (mut begin, mut marked) = (0, 0);
        for (end, (_, time, what, _)) in group.iter().enumerate() {
            *within.entry(*what).or_default() += 1;
            while time.saturating_sub(group[begin].1) > BURST_WINDOW {
                if let Some(count) = within.get_mut(&group[begin].2) {
                    *count -= 1;
                    if *count == 0 {
                        within.remove(&group[begin].2);
                    }
                }
                begin += 1;
            }
            if within.len() >= min_different {
                // An earlier window has marked the others, so each event is visited once.
                found.extend(group[begin.max(marked)..=end].iter().map(|touch| touch.3));
                marked = end + 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn touch(number: u64, time: i64, person: Option<u64>, visitor: Option<u64>, code: u64) -> Touch {
        Touch {
            time,
            event: number,
            person,
            visitor,
            code,
        }
    }

    /// Returns touches `step` milliseconds apart, each of another code.
    fn every(step: i64, count: u64, person: Option<u64>, visitor: Option<u64>) -> Vec<Touch> {
        let times = std::iter::successors(Some(0), |time| Some(time + step));
        (0..count)
            .zip(times)
            .map(|(number, time)| touch(number, time, person, visitor, number))
            .collect()
    }

    #[test]
    fn bursts_are_those_of_many_codes_in_few_seconds() {
        let same_code: Vec<_> = (0..50).map(|number| touch(number, 0, Some(1), Some(1), 7)).collect();
        let of_many_people = |count: u64| -> Vec<Touch> {
            (0..count)
                .map(|number| touch(number, 100, Some(number), Some(1), number))
                .collect()
        };
        let cases: [(&str, Vec<Touch>, usize); 10] = [
            ("all links of one mail", every(200, 6, Some(1), Some(1)), 6),
            (
                "of one recipient, from changing addresses",
                every(200, 6, Some(1), None),
                6,
            ),
            ("of one visitor whom nobody names", every(200, 6, None, Some(1)), 6),
            ("just few enough", every(200, 4, Some(1), Some(1)), 0),
            ("one mail after the other", every(4000, 50, Some(1), Some(1)), 0),
            (
                "within the window to the millisecond",
                every(2500, 5, Some(1), Some(1)),
                5,
            ),
            ("the same mail again and again", same_code, 0),
            ("an office", of_many_people(19), 0),
            ("a gateway of many people", of_many_people(20), 20),
            ("nobody", Vec::new(), 0),
        ];
        for (name, touches, expected) in cases {
            assert_eq!(find(&touches).len(), expected, "{name}");
        }
    }

    #[test]
    fn what_lies_around_a_burst_is_left_alone() {
        let mut touches = every(100, 6, Some(1), Some(1));
        touches.push(touch(100, -60_000, Some(1), Some(1), 100));
        touches.push(touch(101, 60_000, Some(1), Some(1), 101));
        touches.push(touch(102, 300, Some(2), Some(2), 102));
        let found = find(&touches);
        assert_eq!(found, (0..6).collect());
    }

    #[test]
    fn only_hits_of_mail_with_a_code_count() {
        let mail = json!({"date": 1, "event": {"id": "a"}, "pixel": {"code": "c"}, "visitor": {"id": "v"}});
        assert!(Touch::from_document(&mail).is_some());
        for (pointer, value) in [
            ("url", json!({"full": "https://shop.example/"})),
            ("http", json!({"request": {"referrer": "https://shop.example/"}})),
            ("pixel", json!({})),
            ("visitor", json!({})),
        ] {
            let mut other = mail.clone();
            other[pointer] = value;
            assert_eq!(Touch::from_document(&other), None, "{pointer}");
        }
    }

    proptest::proptest! {
        /// The slow definition: an event is in a burst if some window of that length around it has enough others.
        #[test]
        fn bursts_are_what_every_window_says(given in proptest::collection::vec((0_u64..3, 0_i64..40_000, 0_u64..8), 0..60)) {
            let touches: Vec<_> = (0..)
                .zip(&given)
                .map(|(number, (who, time, code))| touch(number, *time, Some(*who), None, *code))
                .collect();
            let slowly: HashSet<u64> = touches
                .iter()
                .flat_map(|first| {
                    let window: Vec<_> = touches
                        .iter()
                        .filter(|other| other.person == first.person && (0..=BURST_WINDOW).contains(&(other.time - first.time)))
                        .collect();
                    let codes: HashSet<_> = window.iter().map(|touch| touch.code).collect();
                    let events: Vec<_> = window.iter().map(|touch| touch.event).collect();
                    if codes.len() >= BURST_CODES { events } else { Vec::new() }
                })
                .collect();
            proptest::prop_assert_eq!(find(&touches), slowly);
        }
    }
}
