//! What an event costs in an index: bytes on disk of 5,000 events of the demo in OpenSearch 2.19.4, one shard, merged into one
//! segment, in an index that `pixel setup` made; then what each group of fields costs, and what other settings would save.
//! Also how long `pixel setup` takes on an empty server.
//!
//! The figure wanted is 500 bytes at most; measured were 462, of which 89 are the raw request, 40 `labels` and
//! 35 `event.id`.
//!
//! `cargo bench --bench index_size`. It needs what the tests need for that server. Two runs differ by a few bytes per event:
//! the events are the same, the merges are not. What it does not measure: replicas, several shards, the transaction log.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a benchmark prints, and may fail where it stands"
)]

#[path = "../tests/support/servers.rs"]
mod servers;
#[path = "../tests/support/setup.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod setup;

use std::process::Command;
use std::time::{Duration, Instant};

use pixel::cli::demo::generator::Demo;
use pixel::config::Config;
use pixel::hit::event::Event;
use pixel::setup::schema;
use serde_json::{Map, Value, json};

use servers::{Running, Server};

const EVENTS: u32 = 5000;

/// Groups of fields, each as the pointers of its members.
const GROUPS: [(&str, &[&str]); 13] = [
    (
        "the raw request",
        &["params", "context", "stage-variables", "body-json"],
    ),
    ("params", &["params"]),
    ("context", &["context"]),
    ("labels", &["labels"]),
    ("event.id (the document's id stays)", &["event/id"]),
    ("event.ingested", &["event/ingested"]),
    (
        "the rest of event",
        &["event/action", "event/ingress", "event/cut", "event/oddities"],
    ),
    ("@timestamp", &["@timestamp"]),
    ("date", &["date"]),
    ("client and user", &["client", "user"]),
    ("user_agent", &["user_agent"]),
    ("url and http", &["url", "http"]),
    ("pixel, campaign and privacy", &["pixel", "campaign", "privacy"]),
];

fn main() {
    let running = servers::start(Server::OpenSearch2);
    time_setup(&running);
    let events = events();
    let json: usize = events.iter().map(|event| event.document.len()).sum();
    println!("{} events of {} bytes of JSON", events.len(), json / events.len());

    let whole = measure(&running, "declared", None, &events, &[]);
    println!("{whole:7.1} bytes per event, as declared\n\nwithout a group of fields:");
    for (name, members) in GROUPS {
        let without = measure(&running, "group", None, &events, members);
        println!("{without:7.1}  saves {:6.1}  {name}", whole - without);
    }

    println!("\nwith other settings:");
    for (name, body) in alternatives() {
        let other = measure(&running, "other", Some(&body), &events, &[]);
        println!("{other:7.1}  saves {:6.1}  {name}", whole - other);
    }
}

/// The declared settings and mappings with others over them.
fn template(settings: &Value, mappings: &Value) -> Value {
    let mut body = json!({"settings": schema::settings(), "mappings": schema::mappings()});
    merge(&mut body["settings"], settings);
    merge(&mut body["mappings"], mappings);
    body
}

fn merge(value: &mut Value, over: &Value) {
    match (value, over) {
        (Value::Object(members), Value::Object(over)) => {
            for (name, over) in over {
                merge(members.entry(name).or_insert(Value::Null), over);
            }
        }
        (value, over) => *value = over.clone(),
    }
}

fn alternatives() -> Vec<(&'static str, Value)> {
    let sorted = |fields: &[&str]| {
        let orders = vec!["asc"; fields.len()];
        template(
            &json!({"index.sort.field": fields, "index.sort.order": orders}),
            &json!({}),
        )
    };
    let properties = |properties: Value| template(&json!({}), &json!({"properties": properties}));
    let no_values = json!({"doc_values": false});
    vec![
        (
            "the default codec",
            template(&json!({"index.codec": "default"}), &json!({})),
        ),
        ("sorted by @timestamp", sorted(&["@timestamp"])),
        (
            "sorted by pixel.code and @timestamp",
            sorted(&["pixel.code", "@timestamp"]),
        ),
        (
            "sorted by user_agent.original and @timestamp",
            sorted(&["user_agent.original", "@timestamp"]),
        ),
        (
            "no doc_values for event.id",
            properties(json!({"event": {"properties": {"id": no_values}}})),
        ),
        (
            "neither index nor doc_values for event.id (found by _id)",
            properties(json!({"event": {"properties": {"id": {"doc_values": false, "index": false}}}})),
        ),
        (
            "no doc_values for url.full and url.query",
            properties(json!({"url": {"properties": {"full": no_values, "query": no_values}}})),
        ),
        ("no doc_values for labels", properties(json!({"labels": no_values}))),
        (
            "date without index (ranges use @timestamp)",
            properties(json!({"date": {"index": false}})),
        ),
        (
            "the raw request left out of _source",
            template(
                &json!({}),
                &json!({"_source": {"excludes": ["params", "context", "stage-variables", "body-json"]}}),
            ),
        ),
    ]
}

/// Bytes per event of an index of this form, or as `pixel setup` makes it, its events without some members.
fn measure(running: &Running, name: &str, body: Option<&Value>, events: &[Event], without: &[&str]) -> f64 {
    let index = format!("size-{name}-{}p", std::process::id());
    match body {
        Some(body) => drop(expect(running, "PUT", &format!("/{index}"), &body.to_string())),
        None => drop(set_up(&format!("{}/{index}", running.url), "none")),
    }
    for part in events.chunks(500) {
        let lines: String = part.iter().map(|event| lines(event, without)).collect();
        let answer = expect(running, "POST", &format!("/{index}/_bulk"), &lines);
        assert_eq!(answer["errors"], false, "{answer}");
    }
    expect(
        running,
        "POST",
        &format!("/{index}/_forcemerge?max_num_segments=1&flush=true"),
        "",
    );
    expect(running, "POST", &format!("/{index}/_refresh"), "");
    let deadline = Instant::now() + Duration::from_mins(1);
    let bytes = loop {
        let stats = expect(running, "GET", &format!("/{index}/_stats/store,segments,docs"), "");
        let primaries = &stats["_all"]["primaries"];
        // Merged segments are deleted in their own time.
        if primaries["segments"]["count"] == 1 && primaries["docs"]["count"] == EVENTS {
            break primaries["store"]["size_in_bytes"].as_f64().expect("a size");
        }
        assert!(Instant::now() < deadline, "never one segment: {stats}");
    };
    forget(running, &index);
    bytes / f64::from(EVENTS)
}

fn lines(event: &Event, without: &[&str]) -> String {
    let mut document: Value = serde_json::from_str(&event.document).expect("an event is JSON");
    for member in without {
        let (parent, name) = member.split_once('/').unwrap_or(("", member));
        let parent = if parent.is_empty() {
            Some(&mut document)
        } else {
            document.get_mut(parent)
        };
        parent
            .and_then(Value::as_object_mut)
            .map(|parent: &mut Map<_, _>| parent.remove(name));
    }
    format!("{}\n{document}\n", json!({"create": {"_id": event.id}}))
}

fn expect(running: &Running, method: &str, path: &str, body: &str) -> Value {
    let (status, answer) = servers::request(running, method, path, Some(body));
    assert!(matches!(status, 200 | 201), "{method} {path}: {status} {answer}");
    serde_json::from_str(&answer).expect("it answers JSON")
}

/// Times the command line as a person sees it.
fn time_setup(running: &Running) {
    for rotation in ["none", "daily", "rollover", "data-stream"] {
        let index = format!("size-setup-{rotation}-{}p", std::process::id());
        let url = format!("{}/{index}", running.url);
        let (first, second) = (set_up(&url, rotation), set_up(&url, rotation));
        println!(
            "setup, {rotation}: {:.2} s, the second time {:.2} s",
            first.as_secs_f64(),
            second.as_secs_f64()
        );
        forget(running, &index);
    }
}

fn set_up(url: &str, rotation: &str) -> Duration {
    let begun = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pixel"));
    let output = command.args(["setup", "-d", url, "--rotation", rotation]).output();
    assert!(output.is_ok_and(|output| output.status.success()), "{url}, {rotation}");
    begun.elapsed()
}

/// Deletes what was made under this name.
fn forget(running: &Running, index: &str) {
    for path in [
        format!("/_data_stream/{index}"),
        format!("/{index}*"),
        format!("/_index_template/pixel-{index}"),
    ] {
        servers::request(running, "DELETE", &path, None);
    }
}

/// The events of the demo, in the order in which they happen.
fn events() -> Vec<Event> {
    let demo = Demo {
        seed: 7,
        events: EVENTS,
        days: 30,
        end: "2026-03-31T00:00:00Z".parse().expect("a time"),
    };
    demo.events(&Config::default()).collect()
}
