//! The real command line and the real function in front of a real OpenSearch and a real Elasticsearch.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use pixel::pixel::GIF;
use pixel::request::Ingress;
use pixel::stage::gateway::{Arrived, payload};
use serde_json::{Value, json};

use crate::lambda_rig::{Rig, RigOptions};
use crate::servers::{self, Running, Server};
use crate::serving::{Serve, Served, request, send, serve, wait_for};
use crate::template::native;
use crate::template_corpus::hostile;

const SERVERS: [Server; 2] = [Server::OpenSearch2, Server::Elasticsearch7];
const ORDERS: [&str; 2] = ["first", "after-indexing"];

/// An index of one test on one engine.
struct Index {
    running: Running,
    name: String,
}

impl Index {
    fn new(engine: Server, subject: &str) -> Self {
        Self {
            running: servers::start(engine),
            // Ends in a letter, so that no other process's name begins with it.
            name: format!("events-{subject}-{}p", std::process::id()),
        }
    }

    fn destination(&self) -> String {
        format!("{}/{}", self.running.url, self.name)
    }

    /// Sends a request below the index and expects a success.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let path = format!("/{}{path}", self.name);
        let (status, answer) = servers::request(&self.running, method, &path, body.map(Value::to_string).as_deref());
        assert!(matches!(status, 200 | 201), "{method} {path}: {status} {answer}");
        serde_json::from_str(&answer).expect("an index answers JSON")
    }

    /// What a search finds once everything that was stored can be found: sources and ids.
    fn search(&self, query: &Value) -> Vec<(String, Value)> {
        self.ask("POST", "/_refresh", None);
        let mut found = self.ask("POST", "/_search?size=1000", Some(&json!({"query": query})));
        let hits = found["hits"]["hits"].as_array_mut().expect("a search has hits");
        let hits = hits.iter_mut().map(|hit| {
            (
                hit["_id"].as_str().unwrap_or_default().to_owned(),
                hit["_source"].take(),
            )
        });
        hits.collect()
    }

    fn all(&self) -> Vec<(String, Value)> {
        self.search(&json!({"match_all": {}}))
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        // The engine may be used by others for long; blocks do not forbid this.
        let settings = json!({"index.blocks.write": null, "index.blocks.read_only": null, "index.blocks.read_only_allow_delete": null});
        let _ = servers::request(
            &self.running,
            "PUT",
            &format!("/{}*/_settings", self.name),
            Some(&settings.to_string()),
        );
        let _ = servers::request(&self.running, "DELETE", &format!("/{}*", self.name), None);
    }
}

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

/// A server that is busy with other tests is slow, and not down.
const PATIENT: [(&str, &str); 3] = [
    ("PIXEL_CONNECT_TIMEOUT_MS", "20000"),
    ("PIXEL_ATTEMPT_TIMEOUT_MS", "20000"),
    ("PIXEL_BUDGET_MS", "25000"),
];

fn to(destination: String) -> Serve {
    let serve = serve().to(destination);
    PATIENT
        .iter()
        .fold(serve, |serve, (name, value)| serve.variable(name, value))
}

fn patient(index: &Index) -> Served {
    to(index.destination()).start()
}

#[test]
fn served_hits_are_found_by_search_exactly_once() {
    for engine in SERVERS {
        for order in ORDERS {
            check_served(engine, order);
        }
    }
}

fn check_served(engine: Server, order: &str) {
    let what = format!("{engine:?}, {order}");
    let index = Index::new(engine, &format!("served-{order}"));
    let served = to(index.destination()).variable("PIXEL_REPLY", order).start();
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

    let listed = served.events();
    let listed_numbers: BTreeSet<_> = listed.iter().filter_map(number).collect();
    assert_eq!((listed.len(), listed_numbers), (numbers.len(), found_numbers), "{what}");
    let latest = served.hits(&["--limit", "5"]);
    assert_eq!(
        String::from_utf8_lossy(&latest.stdout).lines().count(),
        6,
        "{what}: a header and five"
    );
}

#[test]
fn an_index_that_is_not_there_lists_nothing() {
    for engine in SERVERS {
        let index = Index::new(engine, "absent");
        let served = patient(&index);
        assert_eq!(served.events(), Vec::<Value>::new(), "{engine:?}");
    }
}

#[test]
fn a_dated_index_is_made_of_the_time_of_the_hit() {
    // As it is, and percent-encoded.
    for (engine, pattern) in [(Server::OpenSearch2, "%Y.%m"), (Server::Elasticsearch7, "%25Y.%25m")] {
        let index = Index::new(engine, "dated");
        let served = to(format!("{}-{pattern}", index.destination())).start();
        let before = Utc::now();
        hit(&served, "/pixel.gif?n=dated");
        served
            .stdout
            .wait_for("the line of the hit", |line| line.contains("indexed"));
        let months = [before, Utc::now()].map(|time| time.format("%Y.%m").to_string());

        let (_, listing) = servers::request(
            &index.running,
            "GET",
            &format!("/_cat/indices/{}*?h=index", index.name),
            None,
        );
        let names: Vec<_> = listing.split_whitespace().collect();
        assert_eq!(names.len(), 1, "{engine:?}: {listing}");
        let expected = months.map(|month| format!("{}-{month}", index.name));
        assert!(expected.iter().any(|name| name == names[0]), "{engine:?}: {names:?}");
        let listed = wait_for("the hit", || Some(served.events()).filter(|events| !events.is_empty()));
        assert_eq!(
            listed.iter().filter_map(number).collect::<Vec<_>>(),
            ["dated"],
            "{engine:?}"
        );
    }
}

#[test]
fn a_blocked_index_is_told_and_loses_nothing() {
    for engine in SERVERS {
        for block in ["index.blocks.write", "index.blocks.read_only"] {
            check_blocked(engine, block);
        }
    }
}

fn check_blocked(engine: Server, block: &str) {
    let what = format!("{engine:?}, {block}");
    let index = Index::new(engine, &format!("blocked-{}", block.replace(['.', '_'], "-")));
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
    assert_eq!(entry["destination"], index.destination().as_str(), "{what}");
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
    for engine in SERVERS {
        let index = Index::new(engine, "full");
        let block = |on: &Value| json!({"index.blocks.read_only_allow_delete": on});
        index.ask("PUT", "", Some(&json!({"settings": block(&true.into())})));
        let path = format!("/{}/_doc/probe?op_type=create", index.name);
        assert_eq!(
            servers::request(&index.running, "PUT", &path, Some("{}")).0,
            429,
            "{engine:?}"
        );

        let served = patient(&index);
        hit(&served, "/pixel.gif?n=held");
        index.ask("PUT", "/_settings", Some(&block(&Value::Null)));
        served
            .stdout
            .wait_for("the line of the hit", |line| line.contains("indexed"));
        assert_eq!(numbers(&index), ["held"], "{engine:?}");
    }
}

// The function.

fn time() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_700_000_000_123).expect("a time")
}

/// The document that the API makes of a visit.
fn passthrough(id: &str) -> Vec<u8> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let arrived = Arrived {
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
        .env("PIXEL_AUTH", "none")
        .env("PIXEL_REPLY", order)
        .timeout(Duration::from_secs(30));
    for (name, value) in PATIENT {
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

#[tokio::test(flavor = "multi_thread")]
async fn the_function_indexes_the_passthrough_document_once() {
    for engine in SERVERS {
        for order in ORDERS {
            check_function(engine, order).await;
        }
    }
}

async fn check_function(engine: Server, order: &str) {
    let what = format!("{engine:?}, {order}");
    let index = Index::new(engine, &format!("function-{order}"));
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

#[tokio::test(flavor = "multi_thread")]
async fn the_function_dates_the_index_by_the_hit() {
    for engine in SERVERS {
        let index = Index::new(engine, "function-dated");
        let rig = function(&index, "first", "-%Y.%m.%d").await;
        rig.invoke(passthrough("dated")).await;
        let path = format!("/{}-2023.11.14/_doc/dated", index.name);
        let (status, answer) = servers::request(&index.running, "GET", &path, None);
        assert_eq!(status, 200, "{engine:?}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_function_tells_of_a_blocked_index() {
    for engine in SERVERS {
        for order in ORDERS {
            check_function_blocked(engine, order).await;
        }
    }
}

async fn check_function_blocked(engine: Server, order: &str) {
    let what = format!("{engine:?}, {order}");
    let index = Index::new(engine, &format!("function-blocked-{order}"));
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

/// Visitors name what they like; only the named fields are indexed.
fn mapping() -> Value {
    json!({"mappings": {
        "dynamic": false,
        "properties": {
            "@timestamp": {"type": "date"},
            "date": {"type": "date", "format": "epoch_millis"},
            "event": {"properties": {"id": {"type": "keyword"}, "action": {"type": "keyword"}, "ingested": {"type": "date"}}},
            "pixel": {"properties": {"code": {"type": "keyword"}}},
            "client": {"properties": {"ip": {"type": "ip"}}},
            "user_agent": {"properties": {"original": {"type": "keyword"}}},
            "url": {"properties": {"full": {"type": "keyword"}, "domain": {"type": "keyword"}}},
            "labels": {"type": "keyword"},
            "body-json": {"type": "object", "enabled": false},
        },
    }})
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hostile_document_is_indexed() {
    for engine in SERVERS {
        let index = Index::new(engine, "hostile");
        index.ask("PUT", "", Some(&mapping()));
        let rig = function(&index, "first", "").await;
        let cases = hostile();
        for (number, (name, input)) in cases.iter().enumerate() {
            let mut document = native(input);
            // The one value that nobody but API Gateway gives, and that must be unique.
            document["context"]["extended-request-id"] = format!("hostile-{number}").into();
            document["context"]["http-method"] = "GET".into();
            rig.invoke(document.to_string()).await;
            let line = logged(&rig).pop().expect("the hit is logged");
            assert_eq!(line["outcome"], "indexed", "{engine:?}, {name}: {line}");
        }
        let found = index.search(&json!({"range": {"date": {"gte": 0}}}));
        assert_eq!(found.len(), cases.len(), "{engine:?}");
        let fields = index.ask("GET", "/_mapping", None);
        assert_eq!(
            fields[&index.name]["mappings"]["properties"]
                .as_object()
                .map(serde_json::Map::len),
            Some(9),
            "{engine:?}: no field was added"
        );
    }
}
