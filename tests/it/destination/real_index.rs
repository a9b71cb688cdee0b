//! The real command line and the real function in front of every real server of the matrix.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use pixel::hit::pixel::GIF;
use pixel::hit::request::Ingress;
use pixel::hit::request::http_request::HttpRequest;
use pixel::server::gateway::payload;
use serde_json::{Value, json};

use crate::hit::template::native;
use crate::support::lambda_rig::{Rig, RigOptions};
use crate::support::matrix::{Index, Subject, block_on, each};
use crate::support::serving::{Serve, Served, request, send, serve};
use crate::support::template_corpus::hostile;

const ORDERS: [&str; 2] = ["first", "after-indexing"];

fn text<'a>(event: &'a Value, pointer: &str) -> Option<&'a str> {
    event.pointer(pointer).and_then(Value::as_str)
}

fn number(event: &Value) -> Option<String> {
    text(event, "/params/querystring/n").map(ToOwned::to_owned)
}

fn hit(served: &Served, target: &str) {
    let reply = send(served.address, &request("GET", target, &[("User-Agent", b"Mail/7")]));
    assert_eq!((reply.status, reply.body.as_slice()), (200, GIF.as_slice()), "{target}");
}

// The command line.

fn to(subject: &Subject, destination: String) -> Serve {
    let variables = subject.variables();
    variables.iter().fold(serve().to(destination), |serve, (name, value)| {
        serve.variable(name, value)
    })
}

fn patient(index: &Index) -> Served {
    to(&index.subject, index.destination()).start()
}

/// What `pixel hits` lists, as one who may read.
fn listed(index: &Index, suffix: &str) -> Vec<Value> {
    let destination = index.subject.destination(&index.name) + suffix;
    let output = index
        .subject
        .pixel(&["hits", "--json", "--limit", "10000", "-d", &destination]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "pixel hits: {errors}");
    let events = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    events
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect()
}

#[test]
fn served_hits_are_found_by_search_exactly_once() {
    each(|subject| {
        for order in ORDERS {
            check_served(subject, order);
        }
    });
}

fn check_served(subject: &Subject, order: &str) {
    let what = format!("{}, {order}", subject.name);
    let index = Index::new(subject, &format!("served-{order}"));
    let served = to(subject, index.destination()).variable("PIXEL_REPLY", order).start();
    let numbers: Vec<_> = (0..60).map(|number| number.to_string()).collect();
    std::thread::scope(|scope| {
        for part in numbers.chunks(15) {
            scope.spawn(|| part.iter().for_each(|n| hit(&served, &format!("/pixel/abc.gif?n={n}"))));
        }
    });
    served
        .stdout
        .wait_for_count("a line for each hit", numbers.len(), |line| line.contains("indexed"));

    let found = index.all();
    let found_numbers: BTreeSet<_> = found.iter().filter_map(|(_, event)| number(event)).collect();
    assert_eq!(found.len(), numbers.len(), "{what}");
    assert_eq!(found_numbers, numbers.iter().cloned().collect(), "{what}");
    for (id, event) in &found {
        assert_eq!(text(event, "/event/id"), Some(id.as_str()), "{what}");
        assert_eq!(text(event, "/client/ip"), Some("127.0.0.0"), "{what}");
    }
    let one = index.search(&json!({"term": {"labels.keyword": "n=17"}}));
    assert_eq!(one.len(), 1, "{what}");
    let since = index.search(&json!({"range": {"@timestamp": {"gte": "now-1h"}}}));
    assert_eq!(since.len(), numbers.len(), "{what}: its times are times");

    let listed = listed(&index, "");
    let listed_numbers: BTreeSet<_> = listed.iter().filter_map(number).collect();
    assert_eq!((listed.len(), listed_numbers), (numbers.len(), found_numbers), "{what}");
    let latest = subject.pixel(&["hits", "--limit", "5", "-d", &subject.destination(&index.name)]);
    assert_eq!(
        String::from_utf8_lossy(&latest.stdout).lines().count(),
        6,
        "{what}: a header and five"
    );
}

#[test]
fn an_index_that_is_not_there_lists_nothing() {
    each(|subject| {
        let index = Index::new(subject, "absent");
        assert_eq!(listed(&index, ""), Vec::<Value>::new(), "{}", subject.name);
    });
}

#[test]
fn a_dated_index_is_made_of_the_time_of_the_hit() {
    // As it is, and percent-encoded.
    each(|subject| {
        for pattern in ["-%Y.%m", "-%25Y.%25m"] {
            check_dated(subject, pattern);
        }
    });
}

fn check_dated(subject: &Subject, pattern: &str) {
    let what = format!("{}, {pattern}", subject.name);
    let index = Index::new(subject, "dated");
    let served = to(subject, index.destination() + pattern).start();
    let before = Utc::now();
    hit(&served, "/pixel.gif?n=dated");
    served
        .stdout
        .wait_for("the line of the hit", |line| line.contains("indexed"));
    let months = [before, Utc::now()].map(|time| format!("{}-{}", index.name, time.format("%Y.%m")));
    let names = index.indices();
    assert!(names.len() == 1 && months.contains(&names[0]), "{what}: {names:?}");
    subject.expect("POST", &format!("/{}/_refresh", names[0]), None);
    let listed = listed(&index, pattern);
    assert_eq!(
        listed.iter().filter_map(number).collect::<Vec<_>>(),
        ["dated"],
        "{what}"
    );
}

#[test]
fn a_blocked_index_is_told_and_loses_nothing() {
    each(|subject| {
        for block in ["index.blocks.write", "index.blocks.read_only"] {
            check_blocked(subject, block);
        }
    });
}

fn check_blocked(subject: &Subject, block: &str) {
    let what = format!("{}, {block}", subject.name);
    let index = Index::new(subject, &format!("blocked-{}", block.replace(['.', '_'], "-")));
    let served = patient(&index);
    hit(&served, "/pixel.gif?n=before");
    served.stdout.wait_for("the first hit", |line| line.contains("indexed"));

    index.ask("PUT", "/_settings", Some(&json!({ block: true })));
    hit(&served, "/pixel.gif?n=blocked");
    let line = served
        .stderr
        .wait_for("the undelivered event", |line| line.contains("undelivered event"));
    let entry: Value = serde_json::from_str(&line).expect("it is one line of JSON");
    let reason = text(&entry, "/reason").unwrap_or_default();
    assert!(
        reason.contains("status 403") && reason.contains("cluster_block_exception"),
        "{what}: {reason}"
    );
    assert_eq!(number(&entry["event"]).as_deref(), Some("blocked"), "{what}");
    let shown = format!("{}/{}", subject.running.url, index.name);
    assert_eq!(entry["destination"], shown.as_str(), "{what}");
    assert_eq!(entry["attempts"], 1, "{what}: another attempt would not change it");
    served
        .stdout
        .wait_for("the line of the hit", |line| line.contains("failed"));

    index.ask("PUT", "/_settings", Some(&json!({ block: null })));
    hit(&served, "/pixel.gif?n=after");
    served
        .stdout
        .wait_for_count("the last hit", 2, |line| line.contains("indexed"));
    assert_eq!(numbers(&index), ["after", "before"], "{what}");

    // What was logged can be indexed as it stands.
    index.ask("POST", "/_doc", Some(&entry["event"]));
    assert_eq!(numbers(&index), ["after", "before", "blocked"], "{what}");
}

fn numbers(index: &Index) -> Vec<String> {
    let mut numbers: Vec<_> = index.all().iter().filter_map(|(_, event)| number(event)).collect();
    numbers.sort();
    numbers
}

/// A full disk blocks an index until there is room again; the servers answer 429 then.
#[test]
fn an_index_that_was_full_gets_what_was_held_back() {
    each(|subject| {
        let index = Index::new(subject, "full");
        let block = |on: &Value| json!({"index.blocks.read_only_allow_delete": on});
        index.ask("PUT", "", Some(&json!({"settings": block(&true.into())})));
        let path = format!("/{}/_doc/probe?op_type=create", index.name);
        let (status, answer) = subject.ask("PUT", &path, Some(&json!({})));
        // Elasticsearch 6 says no for good: its client cannot know that there may be room again.
        let passing = !subject.has_types();
        assert_eq!(status, if passing { 429 } else { 403 }, "{}: {answer}", subject.name);

        let served = patient(&index);
        hit(&served, "/pixel.gif?n=held");
        if passing {
            index.ask("PUT", "/_settings", Some(&block(&Value::Null)));
            served
                .stdout
                .wait_for("the line of the hit", |line| line.contains("indexed"));
            assert_eq!(numbers(&index), ["held"], "{}", subject.name);
        } else {
            served
                .stderr
                .wait_for("the undelivered event", |line| line.contains("undelivered event"));
        }
    });
}

// The function.

fn time() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_700_000_000_123).expect("a time")
}

/// The document that the API makes of a visit.
fn passthrough(id: &str) -> Vec<u8> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let arrived = HttpRequest {
        method: "GET".to_owned(),
        path: "/prod/image/spring.png".to_owned(),
        query: "n=1&q=it%27s%20%22quoted%22".to_owned(),
        headers: vec![pair("User-Agent", "Mail/7"), pair("Authorization", "Bearer secret")],
        peer: Some([203, 0, 113, 77].into()),
        id: id.to_owned(),
        time: time(),
        body: None,
    };
    payload(Ingress::Passthrough, &arrived).expect("it is a path of the pixel")
}

async fn function(index: &Index, order: &str, pattern: &str) -> Rig {
    let mut options = RigOptions::new(env!("CARGO_BIN_EXE_bootstrap"))
        .env("PIXEL_DESTINATION", index.destination() + pattern)
        .env("PIXEL_REPLY", order)
        .timeout(Duration::from_secs(30));
    for (name, value) in index.subject.variables() {
        options = options.env(name, value);
    }
    let rig = Rig::start(options).await;
    assert_eq!(rig.init_error(), None);
    rig
}

/// The log lines of hits.
fn logged(rig: &Rig) -> Vec<Value> {
    let lines = rig.log_lines();
    let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["outcome"].is_string()).collect()
}

#[test]
fn the_function_indexes_the_passthrough_document_once() {
    each(|subject| {
        for order in ORDERS {
            block_on(check_function(subject, order));
        }
    });
}

async fn check_function(subject: &Subject, order: &str) {
    let what = format!("{}, {order}", subject.name);
    let index = Index::new(subject, &format!("function-{order}"));
    let rig = function(&index, order, "").await;
    // The second is the same request again, as after a retry.
    for outcome in ["indexed", "duplicate"] {
        let invocation = rig.invoke(passthrough("JKJaXmPLvHcESHA=/+")).await;
        let reply = invocation.reply_json();
        assert!(
            reply.as_str().is_some_and(|image| image.starts_with("iVBORw0KGgo")),
            "{what}: {reply}"
        );
        let outcomes: Vec<_> = logged(&rig);
        let last = outcomes
            .last()
            .expect("the hit is logged before the invocation is over");
        assert_eq!(last["outcome"], outcome, "{what}: {last}");
    }
    let found = index.all();
    assert_eq!(found.len(), 1, "{what}");
    let (id, event) = &found[0];
    assert_eq!(id, "JKJaXmPLvHcESHA=/+", "{what}");
    for (pointer, value) in [
        ("/date", json!(1_700_000_000_123_u64)),
        ("/@timestamp", json!("2023-11-14T22:13:20.123Z")),
        ("/pixel/code", json!("spring")),
        ("/client/ip", json!("203.0.113.0")),
        ("/params/querystring/q", json!("it's \"quoted\"")),
        ("/context/stage", json!("prod")),
    ] {
        assert_eq!(event.pointer(pointer), Some(&value), "{what}: {pointer}");
    }
    let document = event.to_string();
    assert!(
        !document.contains("secret\"") && !document.contains("203.0.113.77"),
        "{what}: {document}"
    );
    assert_eq!(rig.refusals(), Vec::<String>::new(), "{what}");
}

#[test]
fn the_function_dates_the_index_by_the_hit() {
    each(|subject| {
        let index = Index::new(subject, "function-dated");
        block_on(async {
            let rig = function(&index, "first", "-%Y.%m.%d").await;
            rig.invoke(passthrough("dated")).await;
        });
        subject.expect("GET", &format!("/{}-2023.11.14/_doc/dated", index.name), None);
    });
}

#[test]
fn the_function_tells_of_a_blocked_index() {
    each(|subject| {
        // Beside its place in time, the order changes nothing in what is told.
        block_on(check_function_blocked(subject, "first"));
    });
}

async fn check_function_blocked(subject: &Subject, order: &str) {
    let what = format!("{}, {order}", subject.name);
    let index = Index::new(subject, &format!("function-blocked-{order}"));
    index.ask("PUT", "", Some(&json!({"settings": {"index.blocks.write": true}})));
    let rig = function(&index, order, "").await;
    let invocation = rig.invoke(passthrough("blocked")).await;
    assert!(invocation.reply_json().is_string(), "{what}");
    let line = logged(&rig).pop().expect("the hit is logged");
    let reason = text(&line, "/reason").unwrap_or_default();
    assert_eq!(line["outcome"], "failed", "{what}");
    assert!(
        reason.contains("status 403") && reason.contains("cluster_block_exception"),
        "{what}: {reason}"
    );
    assert_eq!(text(&line, "/event/pixel/code"), Some("spring"), "{what}");

    index.ask("PUT", "/_settings", Some(&json!({"index.blocks.write": null})));
    rig.invoke(passthrough("free")).await;
    let ids: Vec<_> = index.all().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["free"], "{what}");
}

#[test]
fn every_hostile_document_is_indexed() {
    each(|subject| block_on(check_hostile(subject)));
}

async fn check_hostile(subject: &Subject) {
    let index = Index::new(subject, "hostile");
    let made = subject.pixel(&["setup", "-d", &subject.destination(&index.name)]);
    assert!(made.status.success(), "{}: {made:?}", subject.name);
    let before = index.mapping_of(&index.name);
    let rig = function(&index, "first", "").await;
    let cases = hostile();
    for (number, (name, input)) in cases.iter().enumerate() {
        let mut document = native(input);
        // The one value that nobody but API Gateway gives, and that must be unique.
        document["context"]["extended-request-id"] = format!("hostile-{number}").into();
        document["context"]["http-method"] = "GET".into();
        rig.invoke(document.to_string()).await;
        let line = logged(&rig).pop().expect("the hit is logged");
        assert_eq!(line["outcome"], "indexed", "{}, {name}: {line}", subject.name);
    }
    let found = index.search(&json!({"range": {"date": {"gte": 0}}}));
    assert_eq!(found.len(), cases.len(), "{}", subject.name);
    assert_eq!(
        index.mapping_of(&index.name),
        before,
        "{}: no field was added",
        subject.name
    );
}
