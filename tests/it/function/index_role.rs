//! The function's role `index`: batches of a queue, in an environment like Lambda's, against an index that answers item by
//! item as told, and against a real one. No message may ever count as done that is neither in the index nor in the fallback.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use pixel::hit::request::Ingress;
use pixel::hit::request::http_request::HttpRequest;
use pixel::server::gateway::payload;
use serde_json::{Value, json};

use crate::cli::demo::Stub;
use crate::function::capture::side_by_side;
use crate::support::fault_proxy::{Fault, FaultProxy};
use crate::support::index_stub::{Behaviour, IndexStub};
use crate::support::lambda_rig::{InvokeResult, PAYLOAD_LIMIT, Rig, RigOptions};
use crate::support::matrix::{self, Index};
use crate::support::queue::{Queue, Received};
use crate::support::serving::run;

const BOOTSTRAP: &str = env!("CARGO_BIN_EXE_bootstrap");

/// Id and body.
pub type Message = (String, String);

/// The payload that Lambda makes of messages.
pub fn batch(messages: &[Message]) -> Vec<u8> {
    let record = |(id, body): &Message| {
        json!({
            "messageId": id,
            "receiptHandle": "AQEBzbVv",
            "body": body,
            "attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": "1700000000456",
                "SenderId": "AROAEXAMPLE:api",
                "ApproximateFirstReceiveTimestamp": "1700000000500",
            },
            "messageAttributes": {},
            "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:pixel",
            "awsRegion": "eu-central-1",
        })
    };
    let records: Vec<_> = messages.iter().map(record).collect();
    json!({"Records": records}).to_string().into_bytes()
}

/// An event as the function makes them, as far as the index is concerned.
pub fn event(id: &str, number: usize, bytes: usize) -> Value {
    json!({
        "@timestamp": "2026-05-28T20:26:40.123Z",
        "event": {"id": id},
        "n": number,
        "fill": "x".repeat(bytes),
    })
}

/// So many events, each in a message of its own.
pub fn events(count: usize, bytes: usize) -> Vec<Message> {
    (0..count)
        .map(|number| {
            let id = format!("event-{number}");
            (format!("message-{number}"), event(&id, number, bytes).to_string())
        })
        .collect()
}

pub fn options(destination: &str) -> RigOptions {
    RigOptions::new(BOOTSTRAP)
        .handler("index")
        .env("PIXEL_DESTINATION", destination)
        .timeout(Duration::from_mins(1))
}

/// The messages that the answer leaves in the queue.
pub fn failures(answer: &Value) -> BTreeSet<String> {
    let failures = answer["batchItemFailures"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"));
    let ids: BTreeSet<_> = failures
        .iter()
        .map(|failure| failure["itemIdentifier"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(ids.len(), failures.len(), "each once: {answer}");
    ids
}

pub async fn invoke(rig: &Rig, messages: &[Message]) -> BTreeSet<String> {
    failures(&rig.invoke(batch(messages)).await.reply_json())
}

/// What the log counts of the last batch, by the metrics' names; zeros are left out.
pub fn counts(rig: &Rig) -> BTreeMap<String, u64> {
    let lines = rig.log_lines();
    let mut lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let line = lines
        .rfind(|line| line["message"] == "batch")
        .expect("a line of the batch");
    let metrics = line
        .pointer("/_aws/CloudWatchMetrics/0/Metrics")
        .and_then(Value::as_array);
    let names = metrics
        .expect("the line counts")
        .iter()
        .filter_map(|metric| metric["Name"].as_str());
    names
        .map(|name| (name.to_owned(), line[name].as_u64().expect("a number")))
        .collect()
}

pub fn counted<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.map(|(name, count)| (name.to_owned(), count)).into()
}

pub fn set<T: ToString>(ids: impl IntoIterator<Item = T>) -> BTreeSet<String> {
    ids.into_iter().map(|id| id.to_string()).collect()
}

/// An index with few fields: `n` is a number, and everything else is only kept.
pub fn plain_index(what: &str) -> Index {
    let index = Index::new(&matrix::any(), what);
    let properties = json!({"@timestamp": {"type": "date"}, "n": {"type": "long"}});
    let mut body = index.subject.mappings(&properties);
    let fields = &mut body["mappings"];
    let fields = if index.subject.has_types() {
        &mut fields["_doc"]
    } else {
        fields
    };
    fields["dynamic"] = false.into();
    index.ask("PUT", "", Some(&body));
    index
}

/// The ids in an index, of up to ten thousand documents.
pub fn ids(index: &Index) -> BTreeSet<String> {
    index.ask("POST", "/_refresh", None);
    let found = index.ask("POST", "/_search?size=10000&_source=false", None);
    let hits = found["hits"]["hits"].as_array().expect("a search has hits");
    hits.iter()
        .map(|hit| hit["_id"].as_str().expect("an id").to_owned())
        .collect()
}

pub fn numbered(prefix: &str, count: usize) -> BTreeSet<String> {
    set((0..count).map(|number| format!("{prefix}-{number}")))
}

pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it does not panic")
}

/// Of no message, of one, and of as many and as large ones as Lambda hands over; then all of them again, backwards.
#[tokio::test(flavor = "multi_thread")]
async fn batches_of_any_size_are_indexed_and_their_repetition_changes_nothing() {
    let index = blocking(|| plain_index("sizes")).await;
    let rig = Rig::start(options(&index.destination())).await;
    assert_eq!(invoke(&rig, &[]).await, set::<&str>([]));
    assert_eq!(invoke(&rig, &events(1, 10)).await, set::<&str>([]));
    assert_eq!(counts(&rig), counted([("Indexed", 1)]));

    let mut most = events(10_000, 60);
    let size = batch(&most).len();
    assert!((PAYLOAD_LIMIT * 9 / 10..PAYLOAD_LIMIT).contains(&size), "{size} bytes");
    assert_eq!(invoke(&rig, &most).await, set::<&str>([]));
    assert_eq!(counts(&rig), counted([("Indexed", 9_999), ("Duplicate", 1)]));
    most.reverse();
    assert_eq!(invoke(&rig, &most).await, set::<&str>([]));
    assert_eq!(counts(&rig), counted([("Duplicate", 10_000)]));
    let found = blocking(move || ids(&index)).await;
    assert_eq!(found, numbered("event", 10_000));
    assert_eq!(rig.cold_starts(), 1);
}

/// Answers of the index are lost after it has stored, and some events stand in the batch twice: each hit counts as indexed
/// once, the rest as duplicates, and the audit agrees.
#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_and_twins_are_counted_exactly() {
    const DISTINCT: usize = 8_000;
    let index = blocking(|| plain_index("twins")).await;
    let spare = index.subject.running.url.clone();
    let proxy = blocking(move || FaultProxy::before(&spare)).await;
    let lost = Arc::new(AtomicUsize::new(0));
    let mut faults = vec![Fault::CutAnswer(50), Fault::ResetAnswer, Fault::ResetAnswer];
    let spare = Arc::clone(&lost);
    proxy.choose_by(
        move |request| match faults.pop().filter(|_| request.starts_with("POST")) {
            Some(fault) => {
                spare.fetch_add(1, Ordering::Relaxed);
                fault
            }
            None => Fault::None,
        },
    );
    let rig = Rig::start(options(&format!("{}/{}", proxy.url(), index.name))).await;
    let mut messages = events(DISTINCT, 60);
    let again = messages.iter().step_by(5).enumerate();
    let again: Vec<_> = again
        .map(|(number, (_, body))| (format!("again-{number}"), body.clone()))
        .collect();
    let twins = again.len() as u64;
    messages.extend(again);
    assert_eq!(invoke(&rig, &messages).await, set::<&str>([]));
    assert!(lost.load(Ordering::Relaxed) > 0, "no answer was lost");
    assert_eq!(
        counts(&rig),
        counted([("Indexed", DISTINCT as u64), ("Duplicate", twins)])
    );
    let log = rig.log_lines().join("\n");
    let destination = index.destination();
    let found = blocking(move || {
        let folder = tempfile::tempdir().expect("a folder");
        let expected = numbered("event", DISTINCT);
        let lines: Vec<_> = expected.iter().map(String::as_str).collect();
        std::fs::write(folder.path().join("ids"), lines.join("\n")).expect("it can be written");
        std::fs::write(folder.path().join("log"), log).expect("it can be written");
        let window = ["audit", "--json", "--from", "2026-05-28", "--to", "2026-05-29"];
        let arguments = [&window[..], &["--ids", "ids", "--log", "log", "-d", &destination]].concat();
        let output = run(folder.path(), &arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{errors}");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(
            (
                &report["destination"],
                &report["told"]["indexed"],
                &report["told"]["duplicate"]
            ),
            (&json!(DISTINCT), &json!(DISTINCT), &json!(twins)),
            "{report}"
        );
        ids(&index)
    });
    assert_eq!(found.await, numbered("event", DISTINCT));
}

fn request(id: &str) -> String {
    let arrived = HttpRequest {
        method: "GET".to_owned(),
        path: "/pixel.gif".to_owned(),
        query: "n=7&password=hush".to_owned(),
        headers: vec![("User-Agent".to_owned(), "Mail/7".to_owned())],
        peer: Some([203, 0, 113, 77].into()),
        id: id.to_owned(),
        time: DateTime::<Utc>::from_timestamp_millis(1_700_000_000_123).expect("a time"),
        body: None,
    };
    String::from_utf8(payload(Ingress::Passthrough, &arrived).expect("a path of the pixel")).expect("text")
}

/// What a queue can hold, and under which id it is found in the index.
#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_message_becomes_its_event() {
    let index = blocking(|| plain_index("forms")).await;
    let wrapped =
        |id: &str, by: &str| json!({"message": by, "reason": "status 503", "event": event(id, 1, 0)}).to_string();
    let failed = json!({"requestContext": {"functionArn": "arn"}, "requestPayload": event("failed", 1, 0)});
    let forms = [
        ("event", event("event", 1, 0).to_string()),
        (
            "spread",
            serde_json::to_string_pretty(&event("spread", 1, 0)).expect("JSON"),
        ),
        ("wrapped", wrapped("wrapped", "undelivered event")),
        ("journal", wrapped("journal", "journal")),
        ("failed", failed.to_string()),
        ("JKJaXmPLvHcESHA=/+", request("JKJaXmPLvHcESHA=/+")),
        // Twice in one batch.
        ("event", event("event", 1, 0).to_string()),
    ];
    let messages: Vec<_> = forms
        .iter()
        .enumerate()
        .map(|(n, (_, body))| (n.to_string(), body.clone()))
        .collect();
    let rig = Rig::start(options(&index.destination())).await;
    assert_eq!(invoke(&rig, &messages).await, set::<&str>([]));
    assert_eq!(counts(&rig), counted([("Indexed", 6), ("Duplicate", 1)]));
    let found: BTreeMap<_, _> = blocking(move || index.all()).await.into_iter().collect();
    let expected = set(forms.iter().map(|(id, _)| id));
    assert_eq!(set(found.keys()), expected);
    // The request became an event here, by the policy that holds here.
    let made = &found["JKJaXmPLvHcESHA=/+"];
    assert_eq!(made["@timestamp"], "2023-11-14T22:13:20.123Z", "{made:#}");
    assert_eq!(made.pointer("/client/ip"), Some(&json!("203.0.113.0")), "{made:#}");
    assert!(!made.to_string().contains("hush"), "{made:#}");
}

/// What can never be indexed: its reason.
fn poison() -> Vec<(&'static str, String, &'static str)> {
    let mut other = event("other", 1, 0);
    other["event"] = "an event of another version".into();
    let mut unmapped = event("unmapped", 1, 0);
    unmapped["n"] = "no number".into();
    vec![
        ("not-json", "<xml/>".to_owned(), "it is not JSON"),
        ("cut", event("cut", 1, 0).to_string()[..40].to_owned(), "it is not JSON"),
        ("list", "[1]".to_owned(), "not a JSON object"),
        (
            "gzip",
            "H4sIAAAAAAAA/6tWSk7NS8wtyEkFAKbN9RQLAAAA".to_owned(),
            "compressed",
        ),
        ("other-version", other.to_string(), "without an id"),
        (
            "no-time",
            json!({"@timestamp": "soon", "event": {"id": "a"}}).to_string(),
            "without a time",
        ),
        ("long-id", event(&"x".repeat(513), 1, 0).to_string(), "without an id"),
        ("mapping", unmapped.to_string(), "status 400"),
        ("stranger", json!({"hello": "world"}).to_string(), "neither"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_among_thousands_goes_to_the_fallback_with_its_reason() {
    check_poison(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_without_a_fallback_stays_in_the_queue_and_nothing_else_does() {
    check_poison(false).await;
}

async fn check_poison(rescued: bool) {
    let index = blocking(move || plain_index(if rescued { "poison" } else { "poisoned" })).await;
    let fallback = blocking(|| Queue::new("poison-fallback")).await;
    let mut options = options(&index.destination());
    if rescued {
        options = options.env("PIXEL_FALLBACK", fallback.destination());
    }
    let rig = Rig::start(options).await;
    let poison = poison();
    let mut messages = events(9_999, 10);
    for (number, (id, body, _)) in poison.iter().enumerate() {
        messages[number * 1_100] = ((*id).to_owned(), body.clone());
    }
    let bad = set(poison.iter().map(|(id, ..)| id));
    let failed = invoke(&rig, &messages).await;
    let good = 9_999 - poison.len();
    let (good, number) = (good as u64, poison.len() as u64);
    if rescued {
        assert_eq!(failed, set::<&str>([]));
        assert_eq!(counts(&rig), counted([("Indexed", good), ("Fallback", number)]));
        let kept = blocking(move || fallback.take_all(number.try_into().expect("few"))).await;
        assert_eq!(kept.len(), poison.len());
        for (id, body, reason) in poison {
            let envelopes = kept
                .iter()
                .map(|kept| serde_json::from_str::<Value>(kept).expect("JSON"));
            let mut found = envelopes.filter(|envelope| match &envelope["event"] {
                Value::String(text) => *text == body,
                event => *event == serde_json::from_str::<Value>(&body).unwrap_or_default(),
            });
            let envelope = found.next().unwrap_or_else(|| panic!("{id} is not kept: {kept:#?}"));
            assert!(
                envelope["reason"].as_str().is_some_and(|it| it.contains(reason)),
                "{id}: {envelope:#}"
            );
            assert_eq!(envelope["message"], "undelivered event", "{id}");
        }
    } else {
        assert_eq!(failed, bad);
        assert_eq!(counts(&rig), counted([("Indexed", good), ("Returned", number)]));
    }
    let found = blocking(move || ids(&index)).await;
    assert_eq!(found.len() as u64, good);
}

/// Statuses of one item, one after the other, then it is stored; `0` is an item without a status, though it is stored.
#[tokio::test(flavor = "multi_thread")]
async fn each_item_ends_by_its_own_verdict() {
    const FOR_EVER: usize = 1_000;
    let script = [
        ("there", vec![409]),
        ("busy", vec![429]),
        ("late", vec![503, 500, 429]),
        ("silent", vec![0]),
        ("wrong", vec![400]),
        ("never", vec![429; FOR_EVER]),
        ("down", vec![503; FOR_EVER]),
        ("mute", vec![0; FOR_EVER]),
        ("forbidden", vec![403; FOR_EVER]),
    ];
    let script = Arc::new(script.map(|(id, statuses)| (id.to_owned(), statuses)));
    let checks = [true, false].map(|rescued| (rescued, Arc::clone(&script)));
    let checks = checks.map(async |(rescued, script)| {
        let stub = Stub::start(script.iter().cloned()).await;
        let fallback = blocking(move || Queue::new(&format!("verdicts-{rescued}"))).await;
        // What never ends takes all of its time; the rest must have plenty, also beside servers that start.
        let mut options = options(&stub.url)
            .timeout(Duration::from_secs(16))
            .env("PIXEL_ATTEMPT_TIMEOUT_MS", "7000");
        if rescued {
            options = options.env("PIXEL_FALLBACK", fallback.destination());
        }
        let rig = Rig::start(options).await;
        let good = (0..100).map(|number| format!("good-{number}"));
        let all = good.chain(script.iter().map(|(id, _)| id.clone()));
        let messages: Vec<_> = all
            .map(|id| (format!("m-{id}"), event(&id, 1, 5).to_string()))
            .collect();
        let failed = invoke(&rig, &messages).await;
        let mut expected = set(["m-never", "m-down", "m-mute", "m-forbidden"]);
        // `there` was there already; of `silent` it is not known whether it was, so it counts as ours.
        let mut numbers = vec![("Indexed", 103), ("Duplicate", 1), ("Returned", 4)];
        if rescued {
            numbers.push(("Fallback", 1));
        } else {
            expected.insert("m-wrong".to_owned());
            numbers[2].1 += 1;
        }
        assert_eq!(failed, expected, "{rescued}");
        let numbers = numbers
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count))
            .collect();
        assert_eq!(counts(&rig), numbers, "{rescued}");
        let kept = blocking(move || fallback.take_all(usize::from(rescued))).await;
        assert_eq!(kept.len(), usize::from(rescued), "{kept:#?}");
        assert!(
            kept.iter()
                .all(|kept| kept.contains("\"m-wrong\"") || kept.contains("\"wrong\"")),
            "{kept:#?}"
        );
        // Once stored, an event is not sent again.
        let sent = |id: &str| stub.state(|state| state.requests.iter().flatten().filter(|it| *it == id).count());
        assert_eq!(
            (sent("good-1"), sent("there"), sent("late"), sent("forbidden")),
            (1, 1, 4, 1),
            "{rescued}"
        );
    });
    side_by_side(checks).await;
}

/// What befalls a whole request befalls all of it: every message stays in the queue, in time, and none is called done.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_fails_as_a_whole_leaves_all_messages_in_the_queue() {
    let status = |status: u16, body: &str| Behaviour::Status(status, body.to_owned());
    let faults = [
        Behaviour::Refuse,
        Behaviour::ResetOnAccept,
        Behaviour::Garbage,
        Behaviour::NeverAnswer,
        Behaviour::Html200,
        status(200, "{}"),
        status(200, r#"{"errors":false,"items":[]}"#),
        status(200, r#"{"errors":false,"ite"#),
        status(
            200,
            r#"{"items":[{"create":{"status":201}},{"create":{"status":201}},{"create":{"status":201}},{"create":{"status":201}}]}"#,
        ),
        status(302, ""),
        status(401, "Unauthorized"),
        status(403, "no"),
        status(404, "no"),
        status(408, ""),
        status(429, "later"),
        status(500, "no"),
        status(503, "no"),
        status(507, "no"),
    ];
    let checks = faults.into_iter().map(async |fault| {
        let case = format!("{fault:?}");
        let stub = IndexStub::start().await;
        stub.behave(fault);
        let fallback = Stub::start([]).await;
        let limit = Duration::from_secs(3);
        let rig = options(&format!("{}/events", stub.url())).timeout(limit);
        // A fallback is for what the index refuses, and not for what it has no time for.
        let rig = Rig::start(rig.env("PIXEL_FALLBACK", &fallback.url)).await;
        let messages = events(3, 10);
        let invocation = rig.invoke(batch(&messages)).await;
        assert!(
            matches!(invocation.result, InvokeResult::Reply(_)),
            "{case}: {:?}",
            invocation.result
        );
        assert!(invocation.billed < limit, "{case}: {:?}", invocation.billed);
        assert_eq!(failures(&invocation.reply_json()), numbered("message", 3), "{case}");
        assert_eq!(counts(&rig), counted([("Returned", 3)]), "{case}");
        assert_eq!(rig.cold_starts(), 1, "{case}");
    });
    side_by_side(checks.collect::<Vec<_>>()).await;
}

/// Many bad messages and a fallback that takes its time: the good ones are done, and the answer is there before the deadline.
#[tokio::test(flavor = "multi_thread")]
async fn bad_messages_and_a_slow_fallback_cost_the_good_ones_nothing() {
    let stub = Stub::start([]).await;
    let fallback = IndexStub::start().await;
    fallback.behave(Behaviour::NeverAnswer);
    let limit = Duration::from_secs(5);
    let rig = options(&stub.url)
        .env("PIXEL_FALLBACK", format!("{}/refused", fallback.url()))
        .timeout(limit);
    let rig = Rig::start(rig).await;
    let bad = (0..2_000).map(|number| (format!("bad-{number}"), "poison".to_owned()));
    let messages: Vec<_> = bad.chain(events(500, 10)).collect();
    let invocation = rig.invoke(batch(&messages)).await;
    assert!(invocation.billed < limit, "{:?}", invocation.billed);
    assert_eq!(failures(&invocation.reply_json()), numbered("bad", 2_000));
    assert_eq!(counts(&rig), counted([("Indexed", 500), ("Returned", 2_000)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_split_and_one_event_that_is_goes_to_the_fallback() {
    let stub = Stub::start([]).await;
    stub.state(|state| state.largest = 20_000);
    let fallback = blocking(|| Queue::new("large")).await;
    let rig = options(&stub.url).env("PIXEL_FALLBACK", fallback.destination());
    let rig = Rig::start(rig).await;
    let mut messages = events(1_000, 200);
    messages[500].1 = event("large", 1, 30_000).to_string();
    assert_eq!(invoke(&rig, &messages).await, set::<&str>([]));
    assert_eq!(counts(&rig), counted([("Indexed", 999), ("Fallback", 1)]));
    let kept = blocking(move || fallback.take_all(1)).await;
    assert!(kept[0].contains("status 413"), "{}", &kept[0][..300]);
    assert_eq!(stub.state(|state| state.stored.len()), 999);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_batch_is_an_error_of_the_invocation() {
    let stub = Stub::start([]).await;
    let rig = Rig::start(options(&stub.url)).await;
    let stream = json!({"Records": [{"eventSource": "aws:kinesis", "kinesis": {"data": "e30="}}]}).to_string();
    for payload in ["{}", "[]", "null", "not JSON", r#"{"Records": 7}"#, &stream] {
        let invocation = rig.invoke(payload).await;
        let InvokeResult::FunctionError(_) = invocation.result else {
            panic!("{payload}: {:?}", invocation.result);
        };
    }
    assert_eq!(invoke(&rig, &events(1, 1)).await, set::<&str>([]));
    assert_eq!(rig.cold_starts(), 1);
}

/// The function is killed when a part of the batch is in the index, and the queue delivers the batch again.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_killed_in_the_middle_of_a_batch_doubles_nothing() {
    let index = blocking(|| plain_index("killed")).await;
    let rig = Rig::start(options(&index.destination())).await;
    let messages = events(10_000, 60);
    let (_answer, invocation) = rig.invoke_observing(batch(&messages));
    let index = blocking(move || {
        let some = || index.ask("POST", "/_count?ignore_unavailable=true", None)["count"].as_u64();
        crate::support::serving::wait_for("a part of the batch", || {
            index.ask("POST", "/_refresh", None);
            some().filter(|count| *count > 0)
        });
        index
    })
    .await;
    rig.kill().await;
    let killed = invocation.await.expect("it does not panic").result;
    assert!(
        matches!(
            killed,
            InvokeResult::Exited {
                code: None,
                reply: None
            }
        ),
        "{killed:?}"
    );

    assert_eq!(invoke(&rig, &messages).await, set::<&str>([]));
    let counts = counts(&rig);
    assert!(counts["Duplicate"] > 0, "{counts:?}");
    assert_eq!(counts.values().sum::<u64>(), 10_000, "{counts:?}");
    assert_eq!(blocking(move || ids(&index)).await, numbered("event", 10_000));
}

// From the queue to the index.

/// What an event source mapping does: it hands a batch to the function, removes what was done, and lets the queue show the
/// rest again; also what is to be delivered `twice`. Gives how many messages it was.
pub async fn hand_over(queue: &Queue, rig: &Rig, mut twice: impl FnMut() -> bool) -> usize {
    let mut received: Vec<Received> = Vec::new();
    tokio::task::block_in_place(|| {
        while received.len() < 1_000 {
            let some = queue.receive(60);
            if some.is_empty() {
                break;
            }
            received.extend(some);
        }
    });
    if received.is_empty() {
        return 0;
    }
    let messages: Vec<_> = received.iter().map(|it| (it.id.clone(), it.body.clone())).collect();
    let invocation = rig.invoke(batch(&messages)).await;
    let failed = match invocation.result {
        InvokeResult::Reply(_) => failures(&invocation.reply_json()),
        _ => received.iter().map(|it| it.id.clone()).collect(),
    };
    tokio::task::block_in_place(|| {
        for message in received {
            if failed.contains(&message.id) || twice() {
                let body = json!({"ReceiptHandle": message.receipt, "VisibilityTimeout": 0});
                queue.expect("ChangeMessageVisibility", body);
            } else {
                queue.remove(&message.receipt);
            }
        }
    });
    messages.len()
}

/// Hands over until the queue is empty; gives how often the function was called.
async fn map(queue: &Queue, rig: &Rig) -> usize {
    let limit = Instant::now() + Duration::from_mins(2);
    let mut calls = 0;
    while hand_over(queue, rig, || false).await > 0 {
        assert!(Instant::now() < limit, "something loops");
        calls += 1;
    }
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_queue_to_the_index_and_poison_elsewhere() {
    for rescued in [true, false] {
        let index = blocking(move || plain_index(if rescued { "mapped" } else { "mapped-dead" })).await;
        let (queue, dead) = blocking(|| Queue::with_dead_letters("mapped", 3)).await;
        let fallback = blocking(|| Queue::new("mapped-fallback")).await;
        let mut options = options(&index.destination());
        if rescued {
            options = options.env("PIXEL_FALLBACK", fallback.destination());
        }
        let rig = Rig::start(options).await;
        let poison = poison();
        let count = tokio::task::block_in_place(|| {
            let good = events(200, 10).into_iter().map(|(_, body)| body);
            // Delivered twice, out of order.
            let again = events(50, 10).into_iter().rev().map(|(_, body)| body);
            let bad = poison.iter().map(|(_, body, _)| body.clone());
            let bodies: Vec<_> = good.chain(bad).chain(again).chain([request("straight")]).collect();
            for body in &bodies {
                queue.send(body);
            }
            bodies.len()
        });
        let calls = map(&queue, &rig).await;
        assert!(calls < 20, "{calls} calls for {count} messages");
        tokio::task::block_in_place(|| {
            let mut expected = numbered("event", 200);
            expected.insert("straight".to_owned());
            assert_eq!(ids(&index), expected, "{rescued}");
            assert_eq!(queue.counts(), (0, 0), "{rescued}");
            let (kept, dropped) = (fallback.take(), dead.take());
            let expected = if rescued { (poison.len(), 0) } else { (0, poison.len()) };
            assert_eq!((kept.len(), dropped.len()), expected, "{rescued}");
            let bodies = set(poison.iter().map(|(_, body, _)| body));
            assert!(rescued || set(dropped) == bodies);
        });
    }
}
