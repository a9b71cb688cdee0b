//! The same questions to both stores: equal answers over the same events.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use chrono::{DateTime, Utc};
use pixel::cli::demo::generator::Demo;
use pixel::client::ask;
use pixel::client::bulk::BulkTimeouts;
use pixel::client::http::{Deliverer, http_client};
use pixel::config::{Config, Timing};
use pixel::destination::Destination;
use pixel::destination::bulk::Limits;
use pixel::hit::event::Event;
use pixel::hit::outcome::Outcome;
use pixel::query::{EventQuery, Parameters, Query, QueryError, QueryResult};
use pixel::sqlite::{Reader, Store};
use serde_json::{Value, json};

use crate::support::matrix::{Index, Subject, block_on, each};
use crate::support::serving::wait_for;

const END: &str = "2026-04-15T12:34:56.789Z";

fn now() -> DateTime<Utc> {
    END.parse().expect("a time")
}

/// A month around a change of the clocks, with classes and visitors whether or not the program makes them by itself yet.
fn events(count: u32) -> Vec<Event> {
    let demo = Demo {
        seed: 5,
        events: count,
        days: 45,
        end: now(),
    };
    let mut events: Vec<_> = demo.events(&Config::default()).collect();
    for event in &mut events {
        let mut document: Value = serde_json::from_str(&event.document).expect("an event is JSON");
        let agent = document["user_agent"]["original"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let address = document["client"]["ip"].as_str().unwrap_or_default().to_owned();
        let class = ["human", "human", "privacy_proxy", "automation"][(agent.len() + address.len()) % 4];
        if document["visit"]["class"].is_null() && !agent.len().is_multiple_of(7) {
            document["visit"] = json!({"class": class, "reasons": ["agent", class]});
        }
        if document["visitor"]["id"].is_null() {
            document["visitor"] = json!({"id": format!("{agent}{address}")});
        }
        if document["client"]["as"].is_null() {
            document["client"]["as"] = json!({"number": address.len()});
        }
        document["privacy"]["dnt"] = agent.len().is_multiple_of(3).into();
        event.document = document.to_string();
    }
    events
}

fn given(words: &str) -> Vec<(String, String)> {
    let pair = |word: &str| {
        let (name, value) = word.split_once('=').expect("a parameter has a value");
        (name.to_owned(), value.to_owned())
    };
    words.split_whitespace().map(pair).collect()
}

fn question(words: &str) -> Query {
    let given = given(words);
    Parameters::new(&given, now())
        .question()
        .unwrap_or_else(|error| panic!("{words}: {error}"))
}

const QUESTIONS: [&str; 26] = [
    "",
    "since=all",
    "since=7d compare=true",
    "from=2026-03-20 to=2026-03-21 compare=true",
    "from=2026-03-20T01:02:03.456Z to=2026-04-01T07:08:09.123Z interval=day zone=Europe/Berlin",
    "from=2026-03-28 to=2026-03-31 interval=hour zone=Europe/Berlin",
    "from=2026-03-28T20:00:00Z to=2026-03-29T04:00:00Z interval=minute zone=America/New_York",
    "since=all interval=week zone=Asia/Kolkata",
    "since=all interval=month zone=-03:30",
    "since=all interval=day zone=Pacific/Auckland class=human",
    "from=2020-01-01 to=2020-01-05 interval=day",
    "since=all by=campaign.source,campaign.name,url.domain,http.request.method",
    "since=all by=client.ip limit=40",
    "since=10d by=visit.class,url.path unique=none interval=day compare=true",
    "since=all by=client.as.number,privacy.dnt,visit.class,visit.reasons",
    "since=all by=labels limit=100",
    "since=all by=user_agent.original,url.path limit=25",
    "since=all by=pixel.code unique=user.id",
    "since=all class=human by=pixel.code",
    "since=all filter=campaign.source=newsletter filter=campaign.medium=email by=campaign.content interval=day",
    "since=all filter=campaign.source=newsletter filter=campaign.source=shop by=campaign.source",
    "since=all filter=campaign.source!=newsletter filter=visit.class!=automation by=campaign.source",
    "since=all filter=privacy.dnt=true filter=client.as.number=11 by=client.ip limit=5",
    "since=all filter=campaign.source=nobody by=campaign.source interval=day",
    "since=all filter=labels=\"),({[*?\\'%_ by=labels",
    "since=10d filter=visit.reasons=agent filter=visit.reasons!=human unique=client.ip by=url.domain compare=true",
];

const LATEST: [&str; 7] = [
    "limit=10",
    "limit=1000",
    "from=2026-03-20 to=2026-03-21 limit=100",
    "limit=37 filter=visit.class=human",
    "limit=500 filter=campaign.source!=newsletter class=human from=2026-03-20",
    "limit=20 filter=pixel.code=nothing",
    "limit=5 filter=http.request.method=HEAD",
];

/// A store with these events, packed or not.
fn store(folder: &Path, name: &str, events: &[Event], packed: bool) -> Reader {
    let path = folder.join(name);
    let store = Store::open(&path).expect("a store can be made");
    let outcomes = block_on(store.store_all(events.to_vec()));
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Indexed));
    if packed {
        let wanted = events.len() / 8192;
        wait_for("segments", || (segments(&path) == wanted).then_some(()));
    }
    store.close();
    Reader::open(&path).expect("it is there")
}

fn open(path: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(path).expect("it is a file of SQLite")
}

fn segments(path: &Path) -> usize {
    let count = open(path).query_row("SELECT count(*) FROM segments", [], |row| row.get::<_, i64>(0));
    usize::try_from(count.expect("there is a table")).expect("a count")
}

/// All pages of a question, as ids.
fn pages(
    latest: &EventQuery,
    most: usize,
    mut find: impl FnMut(&EventQuery) -> pixel::query::EventPage,
) -> Vec<String> {
    let (mut latest, mut ids) = (latest.clone(), Vec::new());
    for _ in 0..most {
        let page = find(&latest);
        let id = |event: &Value| event["event"]["id"].as_str().expect("an id").to_owned();
        assert!(page.events.len() <= latest.limit);
        ids.extend(page.events.iter().map(id));
        latest.after = page.next;
        if latest.after.is_none() {
            break;
        }
    }
    ids
}

#[test]
fn what_is_packed_and_what_is_not_give_the_same_answers() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let events = events(9_000);
    let packed = store(folder.path(), "packed.db", &events, true);
    for words in QUESTIONS {
        let whole = packed.ask(&question(words)).expect("an answer");
        let sum: u64 = whole.series.iter().flatten().map(|point| point.events).sum();
        assert!(whole.series.is_none() || sum == whole.totals.events, "{words}");
    }
    // Without its segments, the same file answers from its documents.
    let answers: Vec<_> = QUESTIONS.iter().map(|words| packed.ask(&question(words))).collect();
    let found: Vec<_> = LATEST
        .iter()
        .map(|words| every_page(words, |latest| packed.find(latest)))
        .collect();
    open(&folder.path().join("packed.db"))
        .execute_batch("DELETE FROM segments; DELETE FROM columns")
        .unwrap();
    for (words, answer) in QUESTIONS.iter().zip(answers) {
        assert_eq!(packed.ask(&question(words)), answer, "{words}");
    }
    for (words, found) in LATEST.iter().zip(found) {
        assert_eq!(every_page(words, |latest| packed.find(latest)), found, "{words}");
    }
}

fn latest(words: &str) -> EventQuery {
    let given = given(words);
    Parameters::new(&given, now())
        .latest()
        .unwrap_or_else(|error| panic!("{words}: {error}"))
}

fn every_page(
    words: &str,
    find: impl Fn(&EventQuery) -> Result<pixel::query::EventPage, QueryError>,
) -> Vec<Vec<String>> {
    [false, true]
        .map(|oldest_first| {
            let latest = EventQuery {
                oldest_first,
                ..latest(words)
            };
            let ids = pages(&latest, 4, |latest| find(latest).expect("a page"));
            let different: std::collections::BTreeSet<_> = ids.iter().collect();
            assert_eq!(different.len(), ids.len(), "{words}: no event stands on two pages");
            ids
        })
        .into()
}

/// The number of different values is an estimate of the engine's, beyond its threshold.
fn close(ours: u64, theirs: u64, exact: u64) -> bool {
    let error = if ours <= exact / 2 {
        ours / 200 + u64::from(ours > 200)
    } else {
        ours / 20
    };
    ours.abs_diff(theirs) <= error
}

fn check(what: &str, ours: &mut QueryResult, theirs: &mut QueryResult) {
    let uniques = |answer: &mut QueryResult| -> Vec<Option<u64>> {
        let mut found = vec![answer.totals.uniques.take()];
        found.extend(answer.previous.as_mut().map(|totals| totals.uniques.take()));
        let groups = answer
            .classes
            .iter_mut()
            .chain(answer.by.iter_mut().flat_map(|listing| &mut listing.values));
        found.extend(groups.map(|group| group.uniques.take()));
        found.extend(answer.series.iter_mut().flatten().map(|point| point.uniques.take()));
        found
    };
    let (our_uniques, their_uniques) = (uniques(ours), uniques(theirs));
    assert_eq!(ours, theirs, "{what}");
    for (ours, theirs) in our_uniques.iter().zip(&their_uniques) {
        let alike = match (ours, theirs) {
            (Some(ours), Some(theirs)) => close(*ours, *theirs, 3_000),
            _ => ours == theirs,
        };
        assert!(alike, "{what}: {ours:?} and {theirs:?} uniques");
    }
}

pub fn deliverer(subject: &Subject, index: &Index) -> Deliverer {
    let destination = Destination::parse(&subject.destination(&index.name), None, None);
    let Ok(Destination::OpenSearch(target)) = destination else {
        panic!("{destination:?}")
    };
    let timing = Timing {
        connect: std::time::Duration::from_secs(20),
        ..Timing::default()
    };
    let http = http_client(subject.running.ca_file.as_deref(), &timing).expect("a client");
    Deliverer::new(http, target, timing, None)
}

#[test]
fn both_stores_give_the_same_answers() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let events = events(9_000);
    let path = folder.path();
    drop(store(path, "pixel.db", &events, true));
    each(|subject| {
        let reader = Reader::open(&path.join("pixel.db")).expect("it is there");
        let index = Index::new(subject, "questions");
        let set_up = subject.pixel(&["setup", "-d", &subject.destination(&index.name)]);
        assert!(set_up.status.success(), "{set_up:?}");
        let deliverer = deliverer(subject, &index);
        block_on(async {
            for events in events.chunks(2_000) {
                let outcomes = deliverer
                    .deliver_all(events, Limits::default(), BulkTimeouts::default())
                    .await;
                assert!(
                    outcomes.iter().all(|outcome| *outcome == Outcome::Indexed),
                    "{:?}",
                    outcomes[0]
                );
            }
        });
        index.ask("POST", "/_refresh", None);
        for words in QUESTIONS {
            let question = question(words);
            let mut ours = reader.ask(&question).unwrap_or_else(|error| panic!("{words}: {error}"));
            let theirs = block_on(ask::ask(&deliverer, &question));
            let mut theirs = theirs.unwrap_or_else(|error| panic!("{}: {words}: {error}", subject.name));
            check(&format!("{}: {words}", subject.name), &mut ours, &mut theirs);
        }
        for words in LATEST {
            let ours = every_page(words, |latest| reader.find(latest));
            let theirs = every_page(words, |latest| block_on(ask::latest(&deliverer, latest)));
            assert_eq!(ours, theirs, "{}: {words}", subject.name);
            let filter = latest(words).filter;
            let theirs = block_on(ask::count(&deliverer, &filter));
            assert_eq!(reader.count(&filter), theirs, "{}: {words}", subject.name);
        }
        let nowhere = question("since=all interval=day zone=Europe/Atlantis");
        for refused in [reader.ask(&nowhere), block_on(ask::ask(&deliverer, &nowhere))] {
            assert!(
                matches!(&refused, Err(QueryError::Parameter(error)) if error.parameter == "zone"),
                "{refused:?}"
            );
        }
    });
}

#[test]
fn a_wrong_parameter_is_named() {
    for (words, parameter) in [
        ("interval=year", "interval"),
        ("interval=minute since=30d", "interval"),
        ("zone=UTC", "zone"),
        ("interval=day zone=%00", "zone"),
        ("by=campaign", "by"),
        ("by=params", "by"),
        ("by=@timestamp", "by"),
        ("filter=campaign.source", "filter"),
        ("filter=colour=red", "filter"),
        ("filter=client.ip=10.0.0.0/8", "filter"),
        ("filter=privacy.dnt=yes", "filter"),
        ("class=human class=human", "class"),
        ("from=2026-03-02 to=2026-03-01", "to"),
        ("from=2026-03-02 to=2026-03-02", "to"),
        ("from=someday", "from"),
        ("from=2026-03-01 since=7d", "since"),
        ("since=7x", "since"),
        ("since=99999w", "since"),
        ("since=-1d", "since"),
        ("since=all compare=true", "compare"),
        ("compare=yes", "compare"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=+1", "limit"),
        ("unique=nothing", "unique"),
        ("colour=red", "colour"),
    ] {
        let given = given(words);
        let refused = Parameters::new(&given, now()).question().expect_err(words);
        assert_eq!(refused.parameter, parameter, "{words}: {refused}");
    }
    for (words, parameter) in [
        ("after=1", "after"),
        ("after=x~y", "after"),
        ("interval=day", "interval"),
    ] {
        let given = given(words);
        let refused = Parameters::new(&given, now()).latest().expect_err(words);
        assert_eq!(refused.parameter, parameter, "{words}: {refused}");
    }
}

#[test]
fn a_file_of_the_first_layout_is_brought_to_this_one() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
    let events = events(500);
    let connection = open(&old);
    connection
        .execute_batch(
            "CREATE TABLE events (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, time INTEGER NOT NULL,
                 document TEXT NOT NULL) STRICT;
             CREATE INDEX events_time ON events (time);
             PRAGMA user_version = 1; PRAGMA journal_mode = WAL;",
        )
        .unwrap();
    for event in &events {
        let values = rusqlite::params![event.id, event.time.timestamp_millis(), event.document];
        connection
            .execute("INSERT INTO events (id, time, document) VALUES (?1, ?2, ?3)", values)
            .unwrap();
    }
    let expected = store(folder.path(), "new.db", &events, false);
    let migrated = Reader::open(&old).expect("it is brought to this layout");
    for words in QUESTIONS {
        assert_eq!(
            migrated.ask(&question(words)),
            expected.ask(&question(words)),
            "{words}"
        );
    }
    let columns = |path: &Path| -> Vec<String> {
        let connection = open(path);
        let mut rows = connection
            .prepare("SELECT json_array(id, time, document, code, action, class, visitor) FROM events ORDER BY id")
            .unwrap();
        rows.query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect()
    };
    assert_eq!(columns(&old), columns(&new));
    let schema = |path: &Path| -> Vec<String> {
        let connection = open(path);
        let mut rows = connection
            .prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
            .unwrap();
        let normal = |sql: String| sql.split_whitespace().collect::<Vec<_>>().join(" ");
        rows.query_map([], |row| row.get(0))
            .unwrap()
            .map(|sql| normal(sql.unwrap()))
            .collect()
    };
    let plain = |sql: Vec<String>| {
        sql.join("\n")
            .replace(" ,", ",")
            .replace(", ", ",")
            .replace("( ", "(")
            .replace(" )", ")")
    };
    assert_eq!(plain(schema(&old)), plain(schema(&new)));
}

#[test]
fn what_is_deleted_is_in_no_answer() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let events = events(10_000);
    // Half of them arrived late, so that every segment holds old and new ones.
    let mixed: Vec<_> = (0..5_000)
        .flat_map(|place| [events[place].clone(), events[place + 5_000].clone()])
        .collect();
    let path = folder.path().join("mixed.db");
    drop(store(folder.path(), "mixed.db", &mixed, true));
    let before = events[5_000].time;
    let kept: Vec<_> = events.iter().filter(|event| event.time >= before).cloned().collect();
    let expected = store(folder.path(), "kept.db", &kept, false);
    let reader = Reader::open(&path).expect("it is there");
    let store = Store::open(&path).expect("it can be written");
    let deleted = block_on(store.prune(before)).expect("it can be written");
    assert_eq!(deleted, (events.len() - kept.len()) as u64);
    for words in QUESTIONS {
        assert_eq!(reader.ask(&question(words)), expected.ask(&question(words)), "{words}");
    }
    // Packed again with gaps between their numbers, they are found at their places.
    let more = again(&events[5_000..]);
    block_on(store.store_all(more.clone()));
    wait_for("segments", || (segments(&path) == 1).then_some(()));
    store.close();
    let all: Vec<_> = kept.iter().chain(&more).cloned().collect();
    let expected = self::store(folder.path(), "all.db", &all, true);
    for words in QUESTIONS {
        assert_eq!(reader.ask(&question(words)), expected.ask(&question(words)), "{words}");
    }
    for words in LATEST {
        let (ours, theirs) = (
            |latest: &EventQuery| reader.find(latest),
            |latest: &EventQuery| expected.find(latest),
        );
        assert_eq!(every_page(words, ours), every_page(words, theirs), "{words}");
    }
}

/// Some again, under other ids.
fn again(events: &[Event]) -> Vec<Event> {
    let again = |event: &Event| {
        let id = format!("{}2", event.id);
        let mut document: Value = serde_json::from_str(&event.document).expect("an event is JSON");
        document["event"]["id"] = id.as_str().into();
        Event {
            id,
            time: event.time,
            document: document.to_string(),
        }
    };
    events.iter().map(again).collect()
}

/// What is in a file, in the order in which it was stored; the file is whole.
fn ids(path: &Path) -> Vec<String> {
    let file = rusqlite::Connection::open(path).expect("the file opens");
    let whole: String = file
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("it is checked");
    assert_eq!(whole, "ok", "{}", path.display());
    let mut statement = file
        .prepare("SELECT id FROM events ORDER BY number")
        .expect("it has events");
    let ids = statement.query_map([], |row| row.get(0)).expect("they are read");
    ids.map(|id| id.expect("a text")).collect()
}

#[test]
fn a_backup_is_made_while_events_arrive() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let events = events(3_000);
    let path = folder.path().join("pixel.db");
    let store = Store::open(&path).expect("a store can be made");
    let copy = folder.path().join("copy.db");
    let backup = |copy: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pixel"));
        command.env_clear().arg("backup").arg(copy);
        command.arg("--destination").arg(format!("sqlite:{}", path.display()));
        command.output().expect("pixel starts")
    };
    block_on(store.store_all(events.clone()));
    let (stored, done) = (AtomicUsize::new(events.len()), AtomicBool::new(false));
    let (before, output, after) = std::thread::scope(|scope| {
        // One by one, as hits come.
        scope.spawn(|| {
            for number in 0.. {
                if done.load(Ordering::SeqCst) {
                    return;
                }
                let event = Event {
                    id: format!("meanwhile-{number}"),
                    ..events[number % events.len()].clone()
                };
                assert_eq!(block_on(store.store(Arc::new(event))), Outcome::Indexed);
                stored.fetch_add(1, Ordering::SeqCst);
            }
        });
        let so_many = || stored.load(Ordering::SeqCst);
        while so_many() == events.len() {
            std::thread::yield_now();
        }
        let before = so_many();
        let output = backup(&copy);
        let after = so_many();
        done.store(true, Ordering::SeqCst);
        (before, output, after)
    });
    assert!(output.status.success(), "{output:?}");
    assert!(after > before, "nothing was stored meanwhile: {before}, {after}");
    let again = backup(&copy);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists already"));
    store.close();
    let (all, copied) = (ids(&path), ids(&copy));
    assert_eq!(all.len(), stored.into_inner(), "all that was said to be stored is");
    // One that was not counted yet may be among them.
    assert!(
        (before..=after + 1).contains(&copied.len()),
        "{before} {} {after}",
        copied.len()
    );
    assert!(all.starts_with(&copied), "the copy is how the file was at one moment");
    let everything = question("since=all").filter;
    let count = Reader::open(&copy).expect("a store").count(&everything);
    assert_eq!(count, Ok(copied.len() as u64));
}
