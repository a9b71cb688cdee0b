//! What people write into codes, filters, fields, intervals and time zones means itself and nothing else: in SQLite, in the
//! searches that are sent to an index, and over HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use pixel::client::ask;
use pixel::client::bulk::BulkTimeouts;
use pixel::destination::bulk::Limits;
use pixel::hit::event::{Event, format_iso};
use pixel::hit::outcome::Outcome;
use pixel::query::elastic;
use pixel::query::elastic::Dialect;
use pixel::query::{EventQuery, Parameters, Query};
use pixel::sqlite::{Reader, Store};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::server::questions::deliverer;
use crate::support::matrix::{Index, any as any_server, block_on};
use crate::support::serving::{request, send, serve};

const FIELDS: [&str; 6] = [
    "pixel.code",
    "campaign.source",
    "labels",
    "visit.class",
    "privacy.dnt",
    "client.as.number",
];

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_780_000_000, 0).expect("a time")
}

/// Texts that mean something to SQL, to JSON, to the query languages of the engines, to URLs and to terminals, and any others.
fn text() -> impl Strategy<Value = String> {
    let known = [
        "spring",
        "a",
        "",
        " ",
        "NULL",
        "null",
        "true",
        "' OR '1'='1",
        "'; DROP TABLE events; --",
        "\"; DELETE FROM codes; --",
        "?1",
        ":code",
        "%",
        "_",
        "*",
        "a*",
        "/.*/",
        "[a TO z]",
        "a OR b",
        "pixel.code:*",
        "\"}}},{\"match_all\":{}}",
        "{\"query\":{\"match_all\":{}}}",
        "..",
        "../../_all/_delete",
        "<script>alert(1)</script>",
        "\\",
        "\\u0000",
        "=",
        "!=",
        "a=b",
        "é",
        "E\u{301}",
        "\u{1f4a9}",
        "\u{202e}x",
        "1e3",
        "-1",
        "9223372036854775807",
        "92233720368547758070",
    ];
    let word = proptest::sample::select(known.to_vec()).prop_map(ToOwned::to_owned);
    prop_oneof![4 => word, 2 => "[a-c]{1,2}", 1 => "\\PC{0,12}", 1 => "\\PC{300}"]
}

/// One event's values.
#[derive(Clone, Debug)]
struct Made {
    texts: [Option<String>; 2],
    labels: Vec<String>,
    class: &'static str,
    dnt: bool,
    network: Option<i64>,
}

impl Made {
    /// The values by which an index finds it.
    fn values(&self, field: &str) -> Vec<String> {
        let up_to = |most: usize| move |text: &&String| text.encode_utf16().count() <= most;
        match field {
            "pixel.code" => self.texts[0].iter().filter(up_to(256)).cloned().collect(),
            "campaign.source" => self.texts[1].iter().filter(up_to(256)).cloned().collect(),
            "labels" => self.labels.iter().filter(up_to(1024)).cloned().collect(),
            "visit.class" => vec![self.class.to_owned()],
            "privacy.dnt" => vec![self.dnt.to_string()],
            "client.as.number" => self.network.iter().map(ToString::to_string).collect(),
            other => panic!("{other}"),
        }
    }

    fn event(&self, place: usize) -> Event {
        let time = now() - TimeDelta::minutes(i64::try_from(place).expect("a small number") + 1);
        let id = format!("event-{place}");
        let mut document = json!({
            "@timestamp": format_iso(time), "date": time.timestamp_millis(), "event": {"id": id},
            "pixel": {}, "campaign": {}, "labels": self.labels, "visit": {"class": self.class},
            "privacy": {"dnt": self.dnt}, "client": {}, "visitor": {"id": format!("visitor-{}", place % 5)},
        });
        if let Some(code) = &self.texts[0] {
            document["pixel"]["code"] = code.as_str().into();
        }
        if let Some(source) = &self.texts[1] {
            document["campaign"]["source"] = source.as_str().into();
        }
        if let Some(number) = self.network {
            document["client"]["as"] = json!({"number": number});
        }
        Event {
            id,
            time,
            document: document.to_string(),
        }
    }
}

fn made() -> impl Strategy<Value = Made> {
    let optional = || proptest::option::of(text());
    let labels = proptest::collection::vec(text(), 0..3);
    let class = proptest::sample::select(vec!["human", "automation"]);
    let network = proptest::option::of(-2_i64..3);
    (optional(), optional(), labels, class, any::<bool>(), network).prop_map(
        |(code, source, labels, class, dnt, network)| Made {
            texts: [code, source],
            labels,
            class,
            dnt,
            network,
        },
    )
}

type Given = Vec<(String, String)>;

/// What somebody asks: mostly of known fields.
fn given() -> impl Strategy<Value = Given> {
    let field = || prop_oneof![6 => proptest::sample::select(FIELDS.to_vec()).prop_map(ToOwned::to_owned), 1 => text()];
    let sometimes = |name: &'static str, value: BoxedStrategy<String>| {
        proptest::option::weighted(0.15, value.prop_map(move |value| (name.to_owned(), value)))
    };
    let words = |words: &[&'static str]| {
        let words = proptest::sample::select(words.to_vec()).prop_map(ToOwned::to_owned);
        prop_oneof![3 => words, 1 => text()].boxed()
    };
    let class = proptest::sample::select(vec!["human", "automation"]);
    let filter = (field(), any::<bool>(), text(), class).prop_map(|(field, not, value, class)| {
        let not = if not { "!" } else { "" };
        // Its values are a closed set, and others are refused.
        let value = if field == "visit.class" { class } else { &value };
        ("filter".to_owned(), format!("{field}{not}={value}"))
    });
    (
        proptest::collection::vec(filter, 0..4),
        proptest::collection::vec(field().prop_map(|field| ("by".to_owned(), field)), 0..3),
        sometimes("interval", words(&["minute", "hour", "day", "week", "month"])),
        sometimes("zone", words(&["UTC", "Europe/Berlin", "+05:30", "Europe/Atlantis"])),
        sometimes("class", words(&["human", "automation"])),
        sometimes("limit", words(&["1", "1000"])),
        sometimes("unique", words(&["none", "labels", "visitor.id"])),
    )
        .prop_map(|(mut given, by, interval, zone, class, limit, unique)| {
            given.extend(by);
            given.extend([interval, zone, class, limit, unique].into_iter().flatten());
            given.push(("since".to_owned(), "all".to_owned()));
            given
        })
}

/// What a filter over the events themselves finds.
fn expected<'m>(events: &'m [Made], question: &Query) -> Vec<(usize, &'m Made)> {
    let passes = |made: &Made| {
        question.filter.terms.iter().all(|term| {
            let values = made.values(term.field.name);
            values.iter().any(|value| term.values.contains(value)) != term.not
        })
    };
    events.iter().enumerate().filter(|(_, made)| passes(made)).collect()
}

fn store(folder: &Path, events: &[Made]) -> Reader {
    let path = folder.join("pixel.db");
    let store = Store::open(&path).expect("a store can be made");
    let events = events
        .iter()
        .enumerate()
        .map(|(place, made)| made.event(place))
        .collect();
    let outcomes = block_on(store.store_all(events));
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Indexed));
    store.close();
    Reader::open(&path).expect("it is there")
}

/// Everything that a question could have changed.
fn contents(folder: &Path) -> Vec<String> {
    let connection = rusqlite::Connection::open(folder.join("pixel.db")).expect("it is a file of SQLite");
    let all = |sql: &str| -> Vec<String> {
        let mut statement = connection.prepare(sql).expect("it can be asked");
        let rows = statement.query_map([], |row| row.get(0)).expect("it can be asked");
        rows.map(|row| row.expect("a row")).collect()
    };
    [
        all("SELECT name || coalesce(sql, '') FROM sqlite_schema ORDER BY name"),
        all("SELECT id || time || document FROM events ORDER BY number"),
        all("SELECT code FROM codes"),
    ]
    .concat()
}

/// The body of a search with all texts of the asker taken out.
fn blanked(question: &Query) -> Value {
    let mut question = question.clone();
    for term in &mut question.filter.terms {
        for value in &mut term.values {
            value.clear();
        }
    }
    elastic::body(&question, Dialect::Calendar)
}

/// Takes the texts out of a finished body, where they may stand.
fn blank(body: &mut Value) {
    for place in ["filter", "must_not"] {
        for clause in body["query"]["bool"][place].as_array_mut().expect("a list") {
            let Some(terms) = clause.get_mut("terms").and_then(Value::as_object_mut) else {
                continue;
            };
            for value in terms
                .values_mut()
                .flat_map(|values| values.as_array_mut().expect("a list"))
            {
                *value = "".into();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_is_asked_the_answer_is_that_of_a_plain_filter(
        events in proptest::collection::vec(made(), 1..30),
        asked in proptest::collection::vec(given(), 20),
    ) {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let reader = store(folder.path(), &events);
        let before = contents(folder.path());
        for given in &asked {
            let Ok(question) = Parameters::new(given, now()).question() else { continue };
            let mut body = elastic::body(&question, Dialect::Calendar);
            blank(&mut body);
            prop_assert_eq!(body, blanked(&question), "{:?}", given);

            let expected = expected(&events, &question);
            let answer = match reader.ask(&question) {
                Ok(answer) => answer,
                Err(pixel::query::QueryError::Parameter(error)) => {
                    prop_assert_eq!(error.parameter.as_str(), "zone", "{:?}", given);
                    continue;
                }
                Err(other) => return Err(TestCaseError::fail(format!("{given:?}: {other}"))),
            };
            prop_assert_eq!(answer.totals.events, expected.len() as u64, "{:?}", given);
            prop_assert_eq!(reader.count(&question.filter), Ok(expected.len() as u64), "{:?}", given);
            for listing in &answer.by {
                let mut counts: BTreeMap<String, u64> = BTreeMap::new();
                for (_, made) in &expected {
                    let values: BTreeSet<_> = made.values(listing.field).into_iter().collect();
                    for value in values {
                        *counts.entry(value).or_default() += 1;
                    }
                }
                prop_assert_eq!(listing.values.len(), counts.len().min(question.limit), "{:?}", given);
                for group in &listing.values {
                    prop_assert_eq!(Some(&group.events), counts.get(&group.value), "{:?}", given);
                }
            }
            let latest = EventQuery { filter: question.filter.clone(), limit: 1_000, after: None, oldest_first: false };
            let found = reader.find(&latest).expect("it can be read");
            let ids: Vec<_> = found.events.iter().map(|event| event["event"]["id"].clone()).collect();
            let wanted: Vec<_> = expected.iter().map(|(place, _)| json!(format!("event-{place}"))).collect();
            prop_assert_eq!(ids, wanted, "{:?}", given);
        }
        prop_assert_eq!(contents(folder.path()), before);
    }
}

/// So many of a strategy's values, the same in every run.
fn some<T>(strategy: &impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    let mut one = || strategy.new_tree(&mut runner).expect("a value").current();
    (0..count).map(|_| one()).collect()
}

#[test]
fn an_index_understands_the_same() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let events = some(&made(), 60);
    let reader = store(folder.path(), &events);
    let subject = any_server();
    let index = Index::new(&subject, "injection");
    let set_up = subject.pixel(&["setup", "-d", &subject.destination(&index.name)]);
    assert!(set_up.status.success(), "{set_up:?}");
    let deliverer = deliverer(&subject, &index);
    let documents: Vec<_> = events
        .iter()
        .enumerate()
        .map(|(place, made)| made.event(place))
        .collect();
    let outcomes = block_on(deliverer.deliver_all(&documents, Limits::default(), BulkTimeouts::default()));
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Indexed));
    index.ask("POST", "/_refresh", None);
    let mut answered = 0;
    for given in some(&given(), 250) {
        let Ok(question) = Parameters::new(&given, now()).question() else {
            continue;
        };
        let (ours, theirs) = (reader.ask(&question), block_on(ask::ask(&deliverer, &question)));
        // What one does not know, the other does not know either.
        assert_eq!(ours, theirs, "{given:?}");
        answered += usize::from(ours.is_ok());
    }
    assert!(answered > 50, "{answered}");
}

#[test]
fn nothing_that_is_sent_is_a_fault_of_the_server() {
    let served = serve().start();
    let scopes = "stats:read,events:read,codes:write";
    let made = crate::support::serving::run(served.folder(), &["token", "new", "--scope", scopes]);
    let token = String::from_utf8(made.stdout).expect("a token is text");
    let bearer = format!("Bearer {}", token.trim());
    served.get("/image/spring.png");
    let encode =
        |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let ask = |method: &str, target: &str| {
        let target = format!("/v1/api/{target}");
        let reply = send(
            served.address,
            &request(method, &target, &[("Authorization", bearer.as_bytes())]),
        );
        assert!(
            matches!(reply.status, 200 | 400 | 404 | 405),
            "{method} {target}: {}",
            reply.status
        );
        reply.status
    };
    for given in some(&given(), 100) {
        let pairs: Vec<_> = given
            .iter()
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect();
        ask("GET", &format!("stats?{}", pairs.join("&")));
        ask("GET", &format!("events?{}", pairs.join("&")));
    }
    for code in some(&text(), 150) {
        for path in ["info", "codes"] {
            ask("GET", &format!("{path}/{}", encode(&code)));
        }
        ask("DELETE", &format!("codes/{}", encode(&code)));
        ask("GET", &format!("events?after={}", encode(&code)));
    }
    assert_eq!(ask("GET", "info/spring"), 404, "nobody has made this code");
    assert_eq!(served.documents().len(), 1, "none of this was a hit");
}
