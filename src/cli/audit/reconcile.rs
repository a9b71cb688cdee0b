//! The comparison that accounts for every hit: what the server answered, what outcome the function logged, and where the
//! event is now.
//!
//! With ids (an access log, or a file of ids) each hit is looked for by its id; with a number alone, numbers are compared,
//! and a hit that is in several places counts once.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::destination::counts::Counts;
use crate::destination::sqs_batch::BATCH;
use crate::destination::undelivered::{Found, JOURNAL, UNDELIVERED, find};
use crate::replay::find_object;

/// A period from one moment (included) to another (excluded).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first moment.
    pub from: DateTime<Utc>,
    /// The first moment after it.
    pub to: DateTime<Utc>,
}

impl Window {
    /// Returns true if a moment is in the window.
    pub fn holds(&self, time: DateTime<Utc>) -> bool {
        self.from <= time && time < self.to
    }
}

/// The hits that the server answered with an image and meant to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnsweredHits {
    /// The ids of these hits.
    Ids(BTreeSet<String>),
    /// Their number.
    Number(u64),
}

impl AnsweredHits {
    /// Returns the number of hits.
    pub fn len(&self) -> u64 {
        match self {
            Self::Ids(ids) => ids.len() as u64,
            Self::Number(number) => *number,
        }
    }

    /// Returns true if there are no hits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A line of an access log, of API Gateway or of `pixel serve`.
#[derive(Deserialize)]
struct Access {
    time: String,
    id: String,
    method: String,
    resource: String,
    status: String,
    /// The size of the response body.
    #[serde(default)]
    bytes: Option<String>,
    /// The reason that `pixel serve` sent to the visitor (`X-Pixel`).
    #[serde(default)]
    answer: Option<String>,
}

/// The beginnings of resources without an image: what the templates' APIs serve next to it, and `-`, the mark of an unknown
/// resource. A resource that is not known here may be an owner's own path of the image: its hits are looked for.
const NO_IMAGE: [&str; 5] = ["-", "/pixel.js", "/opt-out", "/.well-known/", "/v1/"];

/// The resources that match every path, in `http-api.yaml` and `rest-proxy.yaml`. They also serve the script, which is
/// recognised by its length.
const ANY_PATH: [&str; 2] = ["$default", "/{proxy+}"];

/// A size above that of every image.
const MAX_IMAGE_BYTES: u64 = 256;

impl Access {
    /// Returns true if the answer is that of a hit: the image, or a redirect to it, as from the queue's API.
    fn is_hit(&self) -> bool {
        let long = |bytes: &String| bytes.parse::<u64>().is_ok_and(|bytes| bytes > MAX_IMAGE_BYTES);
        matches!(self.method.as_str(), "GET" | "HEAD" | "POST")
            && matches!(self.status.as_str(), "200" | "302")
            && !NO_IMAGE.iter().any(|path| self.resource.starts_with(path))
            && !(ANY_PATH.contains(&self.resource.as_str()) && self.bytes.as_ref().is_some_and(long))
    }
}

/// The meaning of a line of an access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noted {
    /// The hit of this id.
    Hit(String),
    /// A request outside the window, or one that was not to be stored.
    NoHit,
}

/// Parses a line of an access log; none if the line is something else.
pub fn noted(line: &str, window: &Window) -> Option<Noted> {
    let line: Access = serde_json::from_str(find_object(line)?.0).ok()?;
    let time = DateTime::from_timestamp_millis(line.time.parse().ok()?)?;
    let stored = line.answer.as_ref().is_none_or(|answer| answer.starts_with("accepted"));
    Some(if window.holds(time) && line.is_hit() && stored {
        Noted::Hit(line.id)
    } else {
        Noted::NoHit
    })
}

/// The outcomes of hits according to a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOutcomes {
    /// The number of hits with each outcome.
    pub counts: Counts,
    /// The outcome of each hit whose id is logged; the last one counts.
    pub outcomes: BTreeMap<String, String>,
    /// The hits whose whole events are in the log, and the times when they were received.
    pub held: BTreeMap<String, DateTime<Utc>>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    message: String,
    #[serde(default)]
    outcome: Option<String>,
    #[serde(default)]
    event_id: Option<String>,
}

impl LogOutcomes {
    /// Reads a line of a log and ignores lines of other programs.
    pub fn read(&mut self, text: &str) {
        let Some((text, _)) = find_object(text) else { return };
        let Ok(line) = serde_json::from_str::<Line>(text) else {
            return;
        };
        // The role `index` counts a whole batch and does not name its hits; a message that is returned counts each time.
        if line.message == BATCH {
            self.counts
                .add_embedded(&serde_json::from_str(text).unwrap_or_default());
        }
        if [UNDELIVERED, JOURNAL].contains(&line.message.as_str())
            && let Ok(Found::Event(event)) = find(text.to_owned())
        {
            self.held.insert(event.id, event.time);
        }
        let Some(outcome) = line.outcome else { return };
        if self.counts.add_named(&outcome)
            && let Some(id) = line.event_id
        {
            self.outcomes.insert(id, outcome);
        }
    }
}

/// The places where events are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The destination; when numbers are compared, it was asked for the ids of the other places.
    pub destination: Holding,
    /// The fallback for events that the destination does not take.
    pub fallback: Fallback,
    /// The approximate number of messages in queues before the destination.
    pub queued: u64,
}

/// The fallback for events that the destination does not take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// The log alone.
    #[default]
    Log,
    /// A place that can be searched. When numbers are compared, `found` are its events of the window.
    Seen(Holding),
    /// A place that cannot be searched, so that the log is believed, with the approximate number of messages of a queue.
    Unseen(u64),
}

impl Fallback {
    fn holds(&self, id: &str, log: &LogOutcomes) -> bool {
        match self {
            Self::Log => false,
            Self::Seen(holding) => holding.found.contains_key(id),
            Self::Unseen(_) => log.outcomes.get(id).is_some_and(|outcome| outcome == "fallback"),
        }
    }

    /// Returns the ids of the fallback's events, as far as they are known without asking for each.
    pub fn ids<'a>(&'a self, log: &'a LogOutcomes) -> Box<dyn Iterator<Item = &'a String> + 'a> {
        match self {
            Self::Log => Box::new(std::iter::empty()),
            Self::Seen(holding) => Box::new(holding.found.keys()),
            Self::Unseen(_) => Box::new(log.outcomes.keys().filter(|id| self.holds(id, log))),
        }
    }

    /// Returns the number of messages beyond the hits that are known to be here.
    const fn count_beyond(&self, known: u64) -> u64 {
        match self {
            Self::Log | Self::Seen(_) => 0,
            Self::Unseen(messages) => messages.saturating_sub(known),
        }
    }
}

/// The events of one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// The number of events found for each id.
    pub found: BTreeMap<String, u64>,
    /// The number of events of the window.
    pub events: u64,
}

/// The result of the comparison: each number has a name; the last is the number of unaccounted hits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The number of hits that the server answered.
    pub answered: u64,
    /// The number of hits by outcome, according to the log.
    pub outcomes: Counts,
    /// The number of hits in the destination.
    pub indexed: u64,
    /// The number of hits in the fallback.
    pub fallback: u64,
    /// The number of hits whose whole events are in the log.
    pub logged: u64,
    /// The number of hits in a queue.
    pub queued: u64,
    /// The number of hits that were not to be stored, according to the log.
    pub ignored: u64,
    /// The number of hits that are in the destination more than once.
    pub doubled: u64,
    /// The number of hits that are nowhere.
    pub unaccounted: u64,
    /// The first ids of hits that are nowhere.
    pub missing: Vec<String>,
}

/// The maximum number of missing ids in a report.
const MAX_NAMED_IDS: usize = 20;

/// Compares the answered hits with the log and the places.
pub fn audit(answered: &AnsweredHits, log: &LogOutcomes, places: &Places) -> Report {
    match answered {
        AnsweredHits::Ids(ids) => by_ids(ids, log, places),
        AnsweredHits::Number(number) => by_number(*number, log, places),
    }
}

fn by_ids(ids: &BTreeSet<String>, log: &LogOutcomes, places: &Places) -> Report {
    let outcome = |id: &str| log.outcomes.get(id).map(String::as_str);
    let mut report = Report {
        answered: ids.len() as u64,
        outcomes: log.counts,
        indexed: 0,
        fallback: 0,
        logged: 0,
        queued: 0,
        ignored: 0,
        doubled: places.destination.found.values().filter(|times| **times > 1).count() as u64,
        unaccounted: 0,
        missing: Vec::new(),
    };
    let mut missing = Vec::new();
    for id in ids {
        if places.destination.found.contains_key(id) {
            report.indexed += 1;
        } else if places.fallback.holds(id, log) {
            report.fallback += 1;
        } else if log.held.contains_key(id) {
            report.logged += 1;
        } else if outcome(id) == Some("ignored") {
            report.ignored += 1;
        } else {
            missing.push(id.clone());
        }
    }
    // A queue cannot be searched without taking from it: it may hold as many hits as it has messages, but not more.
    let waiting = places.queued + places.fallback.count_beyond(report.fallback);
    report.queued = waiting.min(missing.len() as u64);
    report.unaccounted = missing.len() as u64 - report.queued;
    if report.unaccounted > 0 {
        missing.truncate(MAX_NAMED_IDS);
        report.missing = missing;
    }
    report
}

fn by_number(number: u64, log: &LogOutcomes, places: &Places) -> Report {
    let is_apart = |id: &&String| !places.destination.found.contains_key(*id);
    let indexed = places.destination.events;
    let fallback = places.fallback.ids(log).filter(is_apart).count() as u64;
    let logged = log.held.keys().filter(is_apart);
    let logged = logged.filter(|id| !places.fallback.holds(id, log)).count() as u64;
    let ignored = log.counts.get("ignored");
    let known = indexed + fallback + logged + ignored;
    let waiting = places.queued + places.fallback.count_beyond(fallback);
    let queued = waiting.min(number.saturating_sub(known));
    Report {
        answered: number,
        outcomes: log.counts,
        indexed,
        fallback,
        logged,
        queued,
        ignored,
        doubled: 0,
        unaccounted: number.abs_diff(known + queued),
        missing: Vec::new(),
    }
}

impl Report {
    /// Returns true if every hit is accounted for, and none is stored twice.
    pub const fn is_clean(&self) -> bool {
        self.unaccounted == 0 && self.doubled == 0
    }

    /// Returns names and numbers, in the order of the table.
    pub fn rows(&self) -> Vec<(String, u64)> {
        let mut rows = vec![("stage answered".to_owned(), self.answered)];
        for (outcome, count) in self.outcomes.iter().filter(|(_, count)| *count > 0) {
            rows.push((format!("function said {outcome}"), count));
        }
        for (name, count) in [
            ("in the destination", self.indexed),
            ("in the fallback", self.fallback),
            ("in the log", self.logged),
            ("in a queue", self.queued),
            ("not to be stored", self.ignored),
            ("more than once", self.doubled),
            ("unaccounted for", self.unaccounted),
        ] {
            rows.push((name.to_owned(), count));
        }
        rows
    }

    /// Returns the report as JSON.
    pub fn json(&self) -> Value {
        let outcomes: BTreeMap<_, _> = self.outcomes.iter().collect();
        json!({
            "answered": self.answered,
            "told": outcomes,
            "destination": self.indexed,
            "fallback": self.fallback,
            "log": self.logged,
            "queue": self.queued,
            "ignored": self.ignored,
            "doubled": self.doubled,
            "unaccounted": self.unaccounted,
            "missing": self.missing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        let time = |seconds| DateTime::from_timestamp(seconds, 0).expect("a time");
        Window {
            from: time(1_780_000_000),
            to: time(1_780_003_600),
        }
    }

    fn ids(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn an_access_log_tells_which_hits_were_answered() {
        let line = |time: &str, method: &str, resource: &str, status: &str| {
            json!({"time": time, "id": "a=", "method": method, "resource": resource, "status": status}).to_string()
        };
        let good = line("1780000000000", "GET", "/pixel.gif", "200");
        let hit = Some(Noted::Hit("a=".to_owned()));
        assert_eq!(noted(&good, &window()), hit);
        assert_eq!(noted(&format!("2026-05-28 {good}"), &window()), hit);
        let with = |answer: &str| good.replace('}', &format!(",\"answer\":\"{answer}\"}}"));
        assert_eq!(noted(&with("accepted; not yet stored"), &window()), hit);
        // A queue's API redirects to an image elsewhere.
        assert_eq!(noted(&good.replace("200", "302"), &window()), hit);
        let long = |resource: &str, bytes: &str| {
            good.replace('}', &format!(",\"bytes\":\"{bytes}\"}}"))
                .replace("/pixel.gif", resource)
        };
        for (resource, bytes) in [
            ("$default", "43"),
            ("/{proxy+}", "67"),
            ("$default", "-"),
            ("/my/own.gif", "1432"),
        ] {
            assert_eq!(noted(&long(resource, bytes), &window()), hit, "{resource}");
        }
        for other in [
            long("$default", "1432"),
            long("/{proxy+}", "1432"),
            long("/opt-out", "0"),
            long("/.well-known/gpc.json", "44"),
            line("1779999999999", "GET", "/pixel.gif", "200"),
            line("1780003600000", "GET", "/pixel.gif", "200"),
            line("1780000000000", "OPTIONS", "/pixel.gif", "204"),
            line("1780000000000", "GET", "/pixel.gif", "429"),
            line("1780000000000", "GET", "-", "200"),
            line("1780000000000", "GET", "/pixel.js", "200"),
            with("ignored; reason=health_check"),
        ] {
            assert_eq!(noted(&other, &window()), Some(Noted::NoHit), "{other}");
        }
        for other in ["START RequestId", "", "{}", r#"{"time":"soon"}"#] {
            assert_eq!(noted(other, &window()), None, "{other}");
        }
    }

    #[test]
    fn each_hit_has_one_place_and_the_rest_is_missing() {
        let mut log = LogOutcomes::default();
        for line in [
            r#"{"message":"hit","outcome":"indexed","event_id":"a"}"#,
            r#"2026-05-28T20:26:41Z 1-2 WARN {"message":"hit","outcome":"fallback","event_id":"b"}"#,
            r#"{"message":"undelivered event","outcome":"failed","event_id":"c","event":{"@timestamp":"2026-05-28T20:26:40Z","event":{"id":"c"}}}"#,
            r#"{"message":"hit","outcome":"indexed","event_id":"lost","Indexed":1,"Function":"f"}"#,
            r#"{"message":"batch","messages":9,"Indexed":5,"Duplicate":1,"Returned":3}"#,
            "REPORT RequestId: 8476a536",
            "{}",
        ] {
            log.read(line);
        }
        let mut places = Places::default();
        places.destination.found = BTreeMap::from([("a".to_owned(), 1), ("twice".to_owned(), 2)]);
        // The log says that `b` is in the fallback, and it is not.
        places.fallback = Fallback::Seen(Holding {
            found: BTreeMap::from([("d".to_owned(), 1)]),
            events: 1,
        });
        let answered = AnsweredHits::Ids(ids(&["a", "b", "c", "d", "lost", "twice"]));
        let report = audit(&answered, &log, &places);
        let counted = (
            report.indexed,
            report.fallback,
            report.logged,
            report.doubled,
            report.unaccounted,
        );
        assert_eq!(counted, (2, 1, 1, 1, 2));
        let said = ["indexed", "duplicate", "returned", "fallback"].map(|name| log.counts.get(name));
        assert_eq!(said, [7, 1, 3, 1]);
        assert_eq!(report.missing, ["b", "lost"]);
        assert_eq!(report.rows().last(), Some(&("unaccounted for".to_owned(), 2)));
        places.queued = 5;
        let report = audit(&answered, &log, &places);
        assert_eq!((report.queued, report.unaccounted, report.is_clean()), (2, 0, false));
        // A queue cannot be searched: its messages are `b`, according to the log, and then perhaps `d`.
        for (messages, queued, unaccounted) in [(0, 0, 2), (1, 0, 2), (2, 1, 1), (9, 2, 0)] {
            (places.fallback, places.queued) = (Fallback::Unseen(messages), 0);
            let report = audit(&answered, &log, &places);
            let counted = (report.fallback, report.queued, report.unaccounted);
            assert_eq!(counted, (1, queued, unaccounted), "{messages}");
        }
    }

    #[test]
    fn numbers_alone_are_compared_in_both_directions() {
        let mut places = Places::default();
        places.destination.events = 95;
        let three = ["a", "b", "c"].map(|id| (id.to_owned(), 1));
        places.fallback = Fallback::Seen(Holding {
            found: BTreeMap::from(three),
            events: 3,
        });
        let check =
            |number, places: &Places| audit(&AnsweredHits::Number(number), &LogOutcomes::default(), places).unaccounted;
        assert_eq!(check(98, &places), 0);
        assert_eq!(check(100, &places), 2);
        assert_eq!(check(90, &places), 8);
        places.queued = 40;
        assert_eq!(check(100, &places), 0);
        assert_eq!(check(98, &places), 0);
    }
}
