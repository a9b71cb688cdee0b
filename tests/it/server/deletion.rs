//! Deleting really deletes: after `erase`, `prune` and `serve --keep` no byte of a deleted event is left in the files.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::process::Output;

use chrono::{DateTime, Days, Utc};
use pixel::hit::event::{Event, format_iso};
use pixel::sqlite::Store;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::support::serving::{Served, documents, files, pixel, request, run, send, serve, wait_for};

/// The places of some byte strings in the files of a folder: the first ones, as `file: text`.
pub fn left(folder: &Path, needles: &[Vec<u8>]) -> Vec<String> {
    let begin = |bytes: &[u8]| usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
    let mut begins = vec![false; 1 << 24];
    let mut by_begin: HashMap<usize, Vec<&[u8]>> = HashMap::new();
    for needle in needles {
        begins[begin(needle)] = true;
        by_begin.entry(begin(needle)).or_default().push(needle);
    }
    let mut found = Vec::new();
    for name in files(folder) {
        let bytes = std::fs::read(folder.join(&name)).unwrap_or_default();
        for place in 0..bytes.len().saturating_sub(2) {
            let begin = begin(&bytes[place..]);
            if begins[begin] && found.len() < 10 {
                let here = by_begin[&begin]
                    .iter()
                    .filter(|needle| bytes[place..].starts_with(needle));
                found.extend(here.map(|needle| format!("{name}: {}", String::from_utf8_lossy(needle))));
            }
        }
    }
    found
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// A hexadecimal id as it is written, and as the bytes that it stands for.
fn id(hex: &str) -> [Vec<u8>; 2] {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    let bytes = digits
        .chunks_exact(2)
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).expect("a byte"));
    [hex.as_bytes().to_vec(), bytes.collect()]
}

fn receipt(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(printed.trim()).unwrap_or_else(|_| panic!("no receipt: {printed}{errors}"))
}

fn erase(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = pixel(folder);
    command.env("PIXEL_PRIVACY_KEY", "0123456789abcdef0123456789abcdef");
    command.args(["erase", "--json"]).args(arguments);
    command.output().expect("pixel starts")
}

#[track_caller]
fn check_erased(output: &Output, deleted: u64) {
    let receipt = receipt(output);
    assert_eq!(output.status.code(), Some(0), "{receipt}");
    assert_eq!(
        (&receipt["deleted"], &receipt["left"]),
        (&json!(deleted), &json!(0)),
        "{receipt}"
    );
}

/// An event of a visitor, with a document as long as real ones.
fn event(number: usize, time: DateTime<Utc>, code: &str, visitor: &str) -> Event {
    let document = json!({
        "@timestamp": format_iso(time),
        "event": {"id": format!("event-{number}"), "action": "open"},
        "pixel": {"code": code},
        "visitor": {"id": visitor},
        "visit": {"class": "human", "reasons": ["browser"]},
        "labels": [format!("note={visitor}-{}", "x".repeat(number * 37 % 1500))],
        "user_agent": {"original": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"},
    });
    Event {
        id: format!("event-{number}"),
        time,
        document: document.to_string(),
    }
}

fn store(folder: &Path, events: Vec<Event>) {
    let store = Store::open(&folder.join("pixel.db")).expect("the store opens");
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(store.store_all(events));
    store.close();
}

/// Hits of three people, taken in turn, of whom the first is to be erased.
fn served_with_hits() -> Served {
    let served = serve()
        .variable("PIXEL_PRIVACY_KEY", "0123456789abcdef0123456789abcdef")
        .variable("PIXEL_PRIVACY_USER_ID", "plain")
        .start();
    for number in 0..60 {
        let person = ["annaPLAIN0", "bertPLAIN0", "caraPLAIN0"][number % 3];
        let target = format!("/pixel/code-{number}.gif?userid={person}&note={person}-{number}");
        send(served.address, &request("GET", &target, &[]));
    }
    served
}

#[test]
fn erasing_beside_a_running_server_leaves_nothing_in_its_files() {
    let served = served_with_hits();
    let anna = texts(&["annaPLAIN0"]);
    assert!(!left(served.folder(), &anna).is_empty());
    let erased = erase(served.folder(), &["--user", "u-none"]);
    check_erased(&erased, 0);
    let mut command = pixel(served.folder());
    command.env("PIXEL_PRIVACY_USER_ID", "plain");
    command.env("PIXEL_PRIVACY_KEY", "0123456789abcdef0123456789abcdef");
    let erased = command.args(["erase", "--json", "--user", "annaPLAIN0"]).output();
    check_erased(&erased.expect("pixel starts"), 20);
    assert_eq!(left(served.folder(), &anna), [""; 0]);

    // The server goes on, and its end brings nothing back.
    let next = send(served.address, &request("GET", "/pixel/next.gif", &[]));
    assert_eq!(next.header("x-pixel"), Some("accepted"));
    assert_eq!(served.documents().len(), 41);
    served.signal("TERM");
    let (status, serve) = served.ended();
    assert!(status.success());
    assert_eq!(left(serve.folder(), &anna), [""; 0]);
}

#[test]
fn the_receipt_says_when_somebody_reads_the_file() {
    let served = served_with_hits();
    let anna = texts(&["annaPLAIN0"]);
    let reader = Connection::open(served.folder().join("pixel.db")).expect("the file opens");
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM events;")
        .expect("it is read");
    let erased = erase(served.folder(), &["--user", "annaPLAIN0"]);
    let said = receipt(&erased);
    assert_eq!(erased.status.code(), Some(1), "{said}");
    assert_eq!((&said["deleted"], &said["left"]), (&json!(20), &json!(0)), "{said}");
    let said = said["not_reached"].to_string();
    assert!(
        said.contains("can still be read") && said.contains("another process"),
        "{said}"
    );
    assert!(!left(served.folder(), &anna).is_empty(), "it says the truth");
    let hit = send(served.address, &request("GET", "/pixel/next.gif", &[]));
    assert_eq!(hit.header("x-pixel"), Some("accepted"));

    reader.execute_batch("COMMIT").expect("it ends");
    check_erased(&erase(served.folder(), &["--user", "annaPLAIN0"]), 0);
    assert_eq!(left(served.folder(), &anna), [""; 0]);
}

/// Seconds of a time that is not long ago, so that bursts are looked for in it.
fn spread(count: usize, visitors: &[&str], code: impl Fn(usize) -> String) -> Vec<Event> {
    let begin = Utc::now() - chrono::TimeDelta::days(3);
    let time = |number: usize| begin + chrono::TimeDelta::milliseconds(i64::try_from(number).unwrap() * 500);
    let visitor = |number: usize| visitors[number % visitors.len()];
    let event = |number| event(number, time(number), &code(number), visitor(number));
    (0..count).map(event).collect()
}

/// Makes the file's segments, as a running server does when there are enough rows.
fn pack(folder: &Path) {
    let served = serve_in(folder);
    let reader = Connection::open(folder.join("pixel.db")).expect("the file opens");
    wait_for("segments", || {
        let count = "SELECT count(*) FROM segments";
        let segments = reader.query_row(count, [], |row| row.get::<_, i64>(0));
        segments.is_ok_and(|segments| segments > 0).then_some(())
    });
    drop(reader);
    served.signal("TERM");
    served.ended();
}

fn serve_in(folder: &Path) -> Served {
    serve()
        .to(format!("sqlite:{}", folder.join("pixel.db").display()))
        .start()
}

#[test]
fn a_visitor_whose_events_were_classed_again_leaves_nothing_behind() {
    let folder = tempdir().expect("a folder");
    let visitors = ["0123456789abcdef0123456789abc001", "fedcba98765432100123456789abcdef"];
    store(
        folder.path(),
        spread(9_000, &visitors, |number| format!("code-{number}")),
    );
    pack(folder.path());
    let classed = run(folder.path(), &["reclassify", "--json"]);
    let classed = receipt(&classed);
    assert!(classed["changed"].as_u64() > Some(8_000), "{classed}");
    check_erased(&erase(folder.path(), &["--visitor", visitors[0]]), 4_500);
    assert_eq!(left(folder.path(), &id(visitors[0])), [""; 0]);
    assert!(!left(folder.path(), &id(visitors[1])).is_empty());
    let served = serve_in(folder.path());
    send(served.address, &request("GET", "/pixel/next.gif", &[]));
    served.signal("TERM");
    served.ended();
    assert_eq!(left(folder.path(), &id(visitors[0])), [""; 0]);
}

#[test]
fn a_code_leaves_no_entry_of_an_index() {
    let folder = tempdir().expect("a folder");
    let code = |number: usize| {
        if number.is_multiple_of(3) {
            "ERASEME0".to_owned()
        } else {
            format!("kept-{number}")
        }
    };
    store(folder.path(), spread(3_000, &["someone"], code));
    check_erased(&erase(folder.path(), &["--code", "ERASEME0"]), 1_000);
    assert_eq!(left(folder.path(), &texts(&["ERASEME0"])), [""; 0]);
    assert_eq!(documents(folder.path()).len(), 2_000);
}

/// A file of made-up events, and the ids of visitors and events that are older than ten days, of which no later one is.
fn demo() -> (TempDir, Vec<Vec<u8>>, usize) {
    let folder = tempdir().expect("a folder");
    let made = run(folder.path(), &["demo", "--events", "9000", "--days", "30"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    pack(folder.path());
    let border = format_iso(Utc::now().checked_sub_days(Days::new(10)).expect("a time"));
    let documents: Vec<Value> = documents(folder.path())
        .iter()
        .map(|document| serde_json::from_str(document).expect("JSON"))
        .collect();
    let of = |old: bool| {
        let chosen = documents
            .iter()
            .filter(|document| (document["@timestamp"].as_str() < Some(&border)) == old);
        chosen.collect::<Vec<_>>()
    };
    let ids = |documents: &[&Value]| -> BTreeSet<String> {
        let ids = documents
            .iter()
            .flat_map(|document| [&document["visitor"]["id"], &document["event"]["id"]]);
        ids.filter_map(Value::as_str).map(ToOwned::to_owned).collect()
    };
    let (old, recent) = (of(true), of(false));
    let gone = &ids(&old) - &ids(&recent);
    let mut needles = Vec::new();
    for text in gone {
        if text.len() == 32 {
            needles.extend(id(&text));
        } else {
            needles.push(text.into_bytes());
        }
    }
    assert!(needles.len() > 2_000, "{}", needles.len());
    (folder, needles, recent.len())
}

/// As many as were recent are left, but for a few that have become old meanwhile.
#[track_caller]
fn check_kept(documents: &[String], recent: usize) {
    assert!(
        (recent - 10..=recent + 1).contains(&documents.len()),
        "{} of {recent}",
        documents.len()
    );
}

#[test]
fn pruning_leaves_no_id_of_old_visitors() {
    let (folder, old, recent) = demo();
    assert!(!left(folder.path(), &old).is_empty());
    let pruned = run(folder.path(), &["prune", "--older-than", "10d", "--json"]);
    assert!(pruned.status.success(), "{}", String::from_utf8_lossy(&pruned.stderr));
    assert_eq!(receipt(&pruned)["not_reached"], json!([]));
    assert_eq!(left(folder.path(), &old), [""; 0]);
    check_kept(&documents(folder.path()), recent);
}

#[test]
fn a_server_that_keeps_events_for_some_days_leaves_no_id_of_older_ones() {
    let (folder, old, recent) = demo();
    let serve_keeping = || {
        let destination = format!("sqlite:{}", folder.path().join("pixel.db").display());
        serve().to(destination).argument("--keep").argument("10d").start()
    };
    // Somebody reads: it says so, and the next start does it.
    let reader = Connection::open(folder.path().join("pixel.db")).expect("the file opens");
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM events;")
        .expect("it is read");
    let served = serve_keeping();
    let said = served
        .stderr
        .wait_for("the note", |line| line.contains("can still be read"));
    assert!(said.contains("another process"), "{said}");
    served.signal("TERM");
    served.ended();
    assert!(!left(folder.path(), &old).is_empty());
    reader.execute_batch("COMMIT").expect("it ends");
    drop(reader);

    let served = serve_keeping();
    let hit = send(served.address, &request("GET", "/pixel/kept.gif", &[]));
    assert_eq!(hit.status, 200);
    wait_for("the old ids to be gone", || {
        left(folder.path(), &old).is_empty().then_some(())
    });
    wait_for("the hit", || {
        documents(folder.path()).last()?.contains("\"kept\"").then_some(())
    });
    check_kept(&documents(folder.path()), recent);
    served.signal("TERM");
    served.ended();
    assert_eq!(left(folder.path(), &old), [""; 0]);
}

/// Earlier versions overwrote nothing of what they deleted; the next deletion removes that, too.
#[test]
fn what_an_earlier_version_left_goes_with_the_next_deletion() {
    let folder = tempdir().expect("a folder");
    let visitors = ["early-visitor-0", "later-visitor-0", "other-visitor-0"];
    store(folder.path(), spread(900, &visitors, |number| format!("code-{number}")));
    let earlier = Connection::open(folder.path().join("pixel.db")).expect("the file opens");
    earlier
        .execute_batch("PRAGMA secure_delete = OFF; DELETE FROM events WHERE visitor = 'early-visitor-0';")
        .expect("it is deleted");
    drop(earlier);
    let early = texts(&visitors[..1]);
    assert!(!left(folder.path(), &early).is_empty());
    check_erased(&erase(folder.path(), &["--visitor", visitors[1]]), 300);
    assert_eq!(left(folder.path(), &texts(&visitors[..2])), [""; 0]);
    assert_eq!(documents(folder.path()).len(), 300);
}
