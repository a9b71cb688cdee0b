//! Queues and streams as destination and as fallback, of the real command line and the real function: what visitors send
//! arrives, and comes back out as it would have been stored.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use pixel::hit::pixel::GIF;
use pixel::hit::request::Ingress;
use pixel::hit::request::http_request::HttpRequest;
use pixel::server::gateway::payload;
use serde_json::{Value, json};

use crate::function::capture::{ORDERS, side_by_side};
use crate::support::lambda_rig::{Rig, RigOptions};
use crate::support::queue::Queue;
use crate::support::serving::{Serve, run, serve};
use crate::support::small_server::{Asked, Reaction, SmallServer};

/// Nobody listens there.
const DOWN: &str = "http://127.0.0.1:1/events";

/// What stands behind `?n=`: characters that queues refuse, that JSON escapes, that are none, and long ones.
const TEXTS: [&str; 11] = [
    "plain",
    "%00",
    "%01%1F%7F",
    "%EF%BF%BE",
    "x%EF%BF%BFy",
    "%ED%A0%80",
    "%F0%9F%98%80%F4%8F%BF%BF",
    "%22%27%5C%22",
    "%C2%85%E2%80%A8%E2%80%A9",
    "%0D%0A",
    "%FF%FE",
];

/// How the queue comes to the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum As {
    Destination,
    Fifo,
    /// The destination is down.
    Fallback,
}

impl As {
    const ALL: [Self; 3] = [Self::Destination, Self::Fifo, Self::Fallback];

    fn queue(self, what: &str) -> Queue {
        let what = format!("{what}-{self:?}").to_lowercase();
        match self {
            Self::Fifo => Queue::fifo(&what),
            Self::Destination | Self::Fallback => Queue::new(&what),
        }
    }

    fn variables(self, queue: &str) -> Vec<(&'static str, String)> {
        match self {
            Self::Destination | Self::Fifo => vec![("PIXEL_DESTINATION", queue.to_owned())],
            Self::Fallback => vec![
                ("PIXEL_DESTINATION", DOWN.to_owned()),
                ("PIXEL_FALLBACK", queue.to_owned()),
                ("PIXEL_BUDGET_MS", "4000".to_owned()),
                ("PIXEL_ATTEMPT_TIMEOUT_MS", "3600".to_owned()),
            ],
        }
    }

    /// The event that a message holds.
    fn event(self, message: &str) -> Value {
        let mut message: Value = serde_json::from_str(message).unwrap_or_else(|error| panic!("{error}: {message}"));
        if self == Self::Fallback {
            assert_eq!(message["message"], "undelivered event");
            assert_eq!(message["destination"], DOWN);
            let reason = message["reason"].as_str().unwrap_or_default();
            assert!(
                ["connect", "breaker"].iter().any(|part| reason.contains(part)),
                "{reason}"
            );
            assert_eq!(message["event_id"], message["event"]["event"]["id"]);
            message = message["event"].take();
        }
        message
    }
}

fn visit(served: &crate::support::serving::Served) {
    for text in TEXTS {
        let reply = served.get(&format!("/pixel.gif?n={text}"));
        assert_eq!((reply.status, reply.body.as_slice()), (200, GIF.as_slice()), "{text}");
    }
}

/// The parameter of each event, as JSON text, so that no two of them look alike.
fn parameters(events: impl IntoIterator<Item = Value>) -> BTreeSet<String> {
    let parameter = |event: Value| {
        let found = event.pointer("/params/querystring/n").cloned();
        found.unwrap_or_else(|| panic!("no parameter: {event:#}")).to_string()
    };
    events.into_iter().map(parameter).collect()
}

fn parsed(document: &str) -> Value {
    serde_json::from_str(document).expect("a document is JSON")
}

/// What a store holds after the same visits.
fn expected() -> BTreeSet<String> {
    let served = serve().start();
    visit(&served);
    let expected = parameters(served.documents().iter().map(|it| parsed(it)));
    assert_eq!(expected.len(), TEXTS.len(), "{expected:?}");
    expected
}

/// Takes all messages out of the queue, and back into a store by `pixel replay`.
fn check_queue(case: &str, how: As, queue: &Queue, expected: &BTreeSet<String>) {
    let messages = queue.take_all(TEXTS.len());
    let found = parameters(messages.iter().map(|message| how.event(message)));
    assert_eq!(&found, expected, "{case}");
    assert_eq!(messages.len(), TEXTS.len(), "{case}: each once");

    let again = how.queue(&format!("{}-again", queue.name.trim_end_matches(".fifo")));
    for (number, message) in messages.iter().enumerate() {
        let id = number.to_string();
        let mut body = json!({"MessageBody": message});
        if how == As::Fifo {
            body["MessageGroupId"] = id.as_str().into();
            body["MessageDeduplicationId"] = id.into();
        }
        again.expect("SendMessage", body);
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let output = run(
        folder.path(),
        &["replay", &again.destination(), "-d", "sqlite:pixel.db"],
    );
    assert!(
        output.status.success(),
        "{case}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let stored = crate::support::serving::documents(folder.path());
    assert_eq!(
        &parameters(stored.iter().map(|it| parsed(it))),
        expected,
        "{case}: read back"
    );
    assert_eq!(again.counts(), (0, 0), "{case}: what is stored is removed");
}

#[test]
fn what_visitors_send_to_the_stage_goes_through_a_queue_unchanged() {
    let expected = expected();
    for how in As::ALL {
        let queue = how.queue("stage");
        let served = how
            .variables(&queue.destination())
            .iter()
            .fold(serve(), |serve, (name, value)| serve.variable(name, value))
            .argument("--json")
            .start();
        visit(&served);
        let outcome = format!(
            "\"outcome\":\"{}\"",
            if how == As::Fallback { "fallback" } else { "queued" }
        );
        served
            .stdout
            .wait_for_count(&outcome, TEXTS.len(), |line| line.contains(&outcome));
        check_queue(&format!("{how:?}"), how, &queue, &expected);
    }
}

fn arrived(id: &str, text: &str) -> HttpRequest {
    HttpRequest {
        method: "GET".to_owned(),
        path: "/pixel.gif".to_owned(),
        query: format!("n={text}"),
        headers: vec![("User-Agent".to_owned(), "Mail/7".to_owned())],
        peer: Some([203, 0, 113, 77].into()),
        id: id.to_owned(),
        time: DateTime::<Utc>::from_timestamp_millis(1_700_000_000_123).expect("a time"),
        body: None,
    }
}

fn passthrough(id: &str, text: &str) -> Vec<u8> {
    payload(Ingress::Passthrough, &arrived(id, text)).expect("it is a path of the pixel")
}

fn assert_image(case: &str, reply: &Value) {
    let image = reply.as_str().and_then(|text| STANDARD.decode(text).ok());
    assert_eq!(image.as_deref(), Some(GIF.as_slice()), "{case}: {reply}");
}

fn rig(variables: impl IntoIterator<Item = (&'static str, String)>, order: &str) -> RigOptions {
    let options = RigOptions::new(env!("CARGO_BIN_EXE_bootstrap")).env("PIXEL_REPLY", order);
    variables
        .into_iter()
        .fold(options, |options, (name, value)| options.env(name, value))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_visitors_send_to_the_function_goes_through_a_queue_unchanged() {
    let expected = tokio::task::spawn_blocking(expected).await.unwrap();
    let cases = As::ALL.into_iter().flat_map(|how| ORDERS.map(|order| (how, order)));
    side_by_side(cases.map(|(how, order)| check_function(how, order, expected.clone()))).await;
}

async fn check_function(how: As, order: &'static str, expected: BTreeSet<String>) {
    let case = format!("{how:?}, {order}");
    let queue = tokio::task::spawn_blocking(move || how.queue(&format!("function-{order}")))
        .await
        .unwrap();
    let rig = Rig::start(rig(how.variables(&queue.destination()), order)).await;
    for (number, text) in TEXTS.iter().enumerate() {
        let invocation = rig.invoke(passthrough(&format!("id-{number}="), text)).await;
        assert_image(&case, &invocation.reply_json());
    }
    let wanted = if how == As::Fallback { "fallback" } else { "queued" };
    let lines = hits(&rig);
    assert_eq!(lines.len(), TEXTS.len(), "{case}: {lines:#?}");
    for line in lines {
        assert_eq!(line["outcome"], wanted, "{case}: {line:#}");
        let metric = if how == As::Fallback { "Fallback" } else { "Queued" };
        assert_eq!(
            (&line[metric], &line["Function"]),
            (&json!(1), &json!("pixel-under-test")),
            "{case}: {line:#}"
        );
    }
    tokio::task::spawn_blocking(move || check_queue(&case, how, &queue, &expected))
        .await
        .unwrap();
}

/// The log lines that tell what became of a hit.
fn hits(rig: &Rig) -> Vec<Value> {
    let lines = rig.log_lines();
    let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["outcome"].is_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifo_queue_takes_a_repeated_hit_once() {
    let queue = tokio::task::spawn_blocking(|| Queue::fifo("repeated")).await.unwrap();
    let rig = Rig::start(rig([("PIXEL_DESTINATION", queue.destination())], "first")).await;
    for id in ["id-1=", "id-1=", "an id that is no deduplication id", "id-1="] {
        assert_image(id, &rig.invoke(passthrough(id, "x")).await.reply_json());
    }
    let messages = tokio::task::spawn_blocking(move || queue.take_all(2)).await.unwrap();
    assert_eq!(messages.len(), 2, "{messages:#?}");
}

/// The journal's line stands in the log before the reply, and holds what the queue gets.
#[tokio::test(flavor = "multi_thread")]
async fn the_journal_holds_each_event_that_is_queued() {
    let queue = tokio::task::spawn_blocking(|| Queue::new("journal")).await.unwrap();
    for order in ORDERS {
        let variables = [
            ("PIXEL_DESTINATION", queue.destination()),
            ("PIXEL_JOURNAL", "log".to_owned()),
        ];
        let rig = Rig::start(rig(variables, order)).await;
        for (number, text) in TEXTS.iter().enumerate() {
            let invocation = rig.invoke(passthrough(&format!("{order}-{number}"), text)).await;
            assert_image(order, &invocation.reply_json());
        }
        let lines = rig.log_lines();
        let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let journal: Vec<_> = lines.filter(|line| line["message"] == "journal").collect();
        assert_eq!(journal.len(), TEXTS.len(), "{order}: {journal:#?}");
        let spare = queue.destination();
        let messages = tokio::task::block_in_place(|| queue.take_all(TEXTS.len()));
        let sorted = |events: Vec<Value>| {
            let mut events: Vec<_> = events.iter().map(ToString::to_string).collect();
            events.sort();
            events
        };
        let queued = messages.iter().map(|message| As::Destination.event(message)).collect();
        let noted = journal.into_iter().map(|mut line| line["event"].take()).collect();
        assert_eq!(sorted(noted), sorted(queued), "{order}: {spare}");
    }
}

// Streams.

/// Takes records as Firehose does, and fails the test that sends anything else.
struct Stream {
    server: SmallServer,
}

/// The largest record, before base64.
const RECORD_BYTES: usize = 1000 * 1024;

/// What a record must be; why the request is refused if it is not.
fn record(asked: &Asked) -> Result<Value, String> {
    let header = |name: &str| {
        asked
            .headers
            .iter()
            .find(|(it, _)| it == name)
            .map(|(_, value)| value.as_str())
    };
    let head = (
        asked.method.as_str(),
        asked.path.as_str(),
        header("content-type"),
        header("x-amz-target"),
    );
    let wanted = (
        "POST",
        "/",
        Some("application/x-amz-json-1.1"),
        Some("Firehose_20150804.PutRecord"),
    );
    if head != wanted {
        return Err(format!("{head:?} is not {wanted:?}"));
    }
    let body: Value = serde_json::from_str(&asked.body).map_err(|error| error.to_string())?;
    let data = body["Record"]["Data"].as_str().ok_or("no data")?;
    if body != json!({"DeliveryStreamName": "hits", "Record": {"Data": data}}) {
        return Err(format!("more or less than a record: {body}"));
    }
    let data = STANDARD.decode(data).map_err(|error| error.to_string())?;
    if data.is_empty() || data.len() > RECORD_BYTES || data.contains(&b'\n') {
        return Err(format!("{} bytes, or a line break", data.len()));
    }
    let event: Value = serde_json::from_slice(&data).map_err(|error| error.to_string())?;
    event.is_object().then_some(event).ok_or("no object".to_owned())
}

impl Stream {
    /// Answers with these one after the other, then takes records.
    fn start(first: Vec<(u16, &'static str)>) -> Self {
        let first = std::sync::Mutex::new(first.into_iter());
        let server = SmallServer::start(move |asked| {
            if asked.method == "HEAD" {
                return Reaction::Answer(404, String::new());
            }
            if let Err(why) = record(asked) {
                return Reaction::json(400, &json!({"__type": "ValidationException", "message": why}));
            }
            if let Some((status, kind)) = first.lock().ok().and_then(|mut first| first.next()) {
                let body = json!({"__type": kind, "message": "as scripted"});
                return Reaction::json(status, &body);
            }
            Reaction::json(200, &json!({"RecordId": "r-1", "Encrypted": false}))
        });
        Self { server }
    }

    fn destination(&self) -> String {
        format!("firehose+{}/hits", self.server.url())
    }

    /// The events that were sent, soundly all of them.
    fn events(&self) -> Vec<Value> {
        let asked = self.server.asked();
        let posts = asked.iter().filter(|asked| asked.is_write());
        posts
            .map(|asked| record(asked).unwrap_or_else(|why| panic!("{why}")))
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_gets_one_record_for_each_hit() {
    let expected = tokio::task::spawn_blocking(expected).await.unwrap();
    for order in ORDERS {
        let stream = Stream::start(Vec::new());
        let function = Rig::start(rig([("PIXEL_DESTINATION", stream.destination())], order)).await;
        for (number, text) in TEXTS.iter().enumerate() {
            let invocation = function.invoke(passthrough(&format!("id-{number}="), text)).await;
            assert_image(order, &invocation.reply_json());
        }
        let events = stream.events();
        assert_eq!(
            (events.len(), parameters(events)),
            (TEXTS.len(), expected.clone()),
            "{order}"
        );
        assert!(
            hits(&function).iter().all(|line| line["outcome"] == "queued"),
            "{order}"
        );
    }
    let stream = Stream::start(Vec::new());
    let events = tokio::task::block_in_place(|| {
        let served = serve().to(stream.destination()).start();
        visit(&served);
        served.signal("TERM");
        served.ended();
        stream.events()
    });
    assert_eq!((events.len(), parameters(events)), (TEXTS.len(), expected));
}

/// What a stream says when it does not take a record, and what then becomes of the hit.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_refuses_is_understood() {
    const TIMES: usize = 50;
    let table = [
        // Passing faults are tried again.
        (500, "ServiceUnavailableException", 1, "queued"),
        (400, "com.amazonaws.firehose#ThrottlingException", 2, "queued"),
        (400, "LimitExceededException", 1, "queued"),
        (503, "ServiceUnavailableException", TIMES, "failed"),
        // These are not.
        (400, "ResourceNotFoundException", 1, "failed"),
        (400, "AccessDeniedException", 1, "failed"),
        (400, "ValidationException", 1, "failed"),
    ];
    side_by_side(table.map(async |(status, kind, times, outcome)| {
        let case = format!("{status} {kind}");
        let stream = Stream::start(vec![(status, kind); times]);
        let variables = [
            ("PIXEL_DESTINATION", stream.destination()),
            (
                "PIXEL_BUDGET_MS",
                if times == TIMES { "600" } else { "8000" }.to_owned(),
            ),
        ];
        let function = Rig::start(rig(variables, "first")).await;
        assert_image(&case, &function.invoke(passthrough("id-1=", "x")).await.reply_json());
        let line = hits(&function).pop().unwrap_or_default();
        assert_eq!(line["outcome"], outcome, "{case}: {line:#}");
        let sent = stream.events().len();
        if outcome == "failed" {
            let reason = line["reason"].as_str().unwrap_or_default();
            assert!(reason.contains(kind), "{case}: {line:#}");
            assert_eq!(line["event"]["event"]["id"], "id-1=", "{case}: {line:#}");
            assert!(times == TIMES || sent == 1, "{case}: sent {sent} times");
        } else {
            assert_eq!(sent, times + 1, "{case}");
        }
    }))
    .await;
}

/// A queue that is not there, and one that wants a permission: the hit goes to the fallback, else to the log.
#[test]
fn a_queue_that_is_not_there_loses_nothing() {
    let fallback = Queue::new("rescue");
    let missing = fallback.destination().replace("rescue", "missing");
    let start = |serve: Serve| serve.to(&missing).variable("PIXEL_BUDGET_MS", "2000").start();
    let served = start(serve());
    visit(&served);
    let lines = served
        .stderr
        .wait_for_count("the log", TEXTS.len(), |line| line.contains("undelivered event"));
    assert!(
        lines
            .iter()
            .all(|line| line.contains("QueueDoesNotExist") || line.contains("breaker")),
        "{lines:#?}"
    );

    let served = start(serve().variable("PIXEL_FALLBACK", &fallback.destination()));
    visit(&served);
    let kept = fallback.take_all(TEXTS.len());
    assert_eq!(kept.len(), TEXTS.len());
    let whole = kept.iter().filter(|message| message.contains("undelivered event"));
    assert_eq!(whole.count(), TEXTS.len(), "{kept:#?}");
}
