//! The deployed program itself, in an environment like Lambda's, against an index that behaves and misbehaves.
//!
//! Every case has an environment and an index of its own, so cases run side by side.

use std::collections::BTreeSet;
use std::future::Future;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::DateTime;
use pixel::destination::log_lines::log_line;
use pixel::hit::event::Event;
use pixel::hit::outcome::{Delivered, Failure, Outcome};
use pixel::hit::privacy::Key;
use pixel::hit::request::Ingress;
use pixel::hit::request::http_request::HttpRequest;
use pixel::hit::request::passthrough::{Document, document};
use pixel::server::gateway::payload as stage_payload;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::index_stub::{Behaviour, IndexStub, Recorded};
use crate::support::lambda_rig::{InitFailure, Invocation, InvokeResult, PAYLOAD_LIMIT, PRIVACY_KEY, Rig, RigOptions};

const BOOTSTRAP: &str = env!("CARGO_BIN_EXE_bootstrap");

/// The values of `PIXEL_REPLY`.
pub const ORDERS: [&str; 2] = ["first", "after-indexing"];

/// Stands in every secret of [`hit`], so that one search finds any of them.
pub const SECRET: &str = "hush-hush";

/// 2026-01-31T23:59:59.999Z: a millisecond before the day in the index's name changes.
const RECEIVED: &str = "1769903999999";

/// More billed time than a budget, for a machine that is busy.
pub const SLACK: Duration = Duration::from_secs(3);

/// For cases that succeed whatever the machine is doing, in milliseconds: one attempt, and all.
pub const PATIENT: Timing = Timing(5_000, 8_000);

/// For cases that use their budget up.
pub const QUICK: Timing = Timing(400, 1_200);

#[derive(Clone, Copy, Debug)]
pub struct Timing(pub u64, pub u64);

impl Timing {
    pub fn budget(self) -> Duration {
        Duration::from_millis(self.1)
    }
}

/// The request of a visitor that carries every kind of secret.
pub fn hit(id: &str) -> Document {
    let secret = |name: &str| format!("{SECRET} {name}");
    Document {
        query: pairs(&[("utm_source", "news"), ("userid", "u-1"), ("token", &secret("token"))]),
        headers: pairs(&[
            ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)"),
            ("Referer", "https://shop.example/a?b=c"),
            ("Authorization", &secret("authorization")),
            ("Cookie", &secret("cookie")),
            ("Proxy-Authorization", &secret("proxy")),
            ("x-api-key", &secret("header key")),
        ]),
        context: pairs(&[
            ("http-method", "GET"),
            ("resource-path", "/pixel.gif"),
            ("source-ip", "198.51.100.7"),
            ("extended-request-id", id),
            ("request-time-epoch", RECEIVED),
            ("request-id", "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"),
            ("api-key", &secret("context key")),
            ("user-arn", &secret("arn")),
            ("caller", &secret("caller")),
        ]),
        ..Document::default()
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

pub fn payload(hit: &Document) -> Vec<u8> {
    document(hit).to_string().into_bytes()
}

fn options(order: &str, Timing(attempt, budget): Timing) -> RigOptions {
    RigOptions::new(BOOTSTRAP)
        .env("PIXEL_REPLY", order)
        .env("PIXEL_ATTEMPT_TIMEOUT_MS", attempt.to_string())
        .env("PIXEL_BUDGET_MS", budget.to_string())
}

pub fn to(stub: &IndexStub, order: &str, timing: Timing) -> RigOptions {
    options(order, timing).env("PIXEL_DESTINATION", format!("{}/events", stub.url()))
}

/// Runs the checks side by side, a few at a time lest they slow each other down.
pub async fn side_by_side<F: Future<Output = ()> + Send + 'static>(checks: impl IntoIterator<Item = F>) {
    let places = Arc::new(Semaphore::new(6));
    let mut running = JoinSet::new();
    for check in checks {
        let places = places.clone();
        running.spawn(async move {
            let _place = places.acquire().await.unwrap();
            check.await;
        });
    }
    while let Some(ended) = running.join_next().await {
        if let Err(failure) = ended {
            std::panic::resume_unwind(failure.into_panic());
        }
    }
}

/// The reply is the image, in the form of whichever ingress.
fn assert_answered(case: &str, invocation: &Invocation) {
    match invocation.reply_json() {
        Value::String(_) => assert_image(case, invocation),
        reply => {
            assert_eq!(
                (&reply["statusCode"], &reply["isBase64Encoded"]),
                (&json!(200), &json!(true)),
                "{case}: {reply}"
            );
            assert_gif(case, reply["body"].to_string().as_bytes());
        }
    }
}

/// The reply is the image as a base64 JSON string, nothing else.
pub fn assert_image(case: &str, invocation: &Invocation) {
    let InvokeResult::Reply(body) = &invocation.result else {
        panic!("{case}: {:?}", invocation.result);
    };
    assert_gif(case, body);
}

fn assert_gif(case: &str, reply: &[u8]) {
    let text: String = serde_json::from_slice(reply).unwrap_or_else(|error| panic!("{case}: {error}"));
    let image = STANDARD.decode(text).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert!(image.starts_with(b"GIF89a") && image.len() == 43, "{case}: {image:?}");
}

/// The log as JSON, line by line.
pub fn log(case: &str, rig: &Rig) -> Vec<Value> {
    let parse = |line: String| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{case}: {error}: {line}"));
    rig.log_lines().into_iter().map(parse).collect()
}

/// The lines that tell what became of a hit.
pub fn hits(case: &str, rig: &Rig) -> Vec<Value> {
    let of_hit = |line: &Value| line.get("outcome").is_some();
    log(case, rig).into_iter().filter(of_hit).collect()
}

/// The one line of the one hit.
pub fn only_hit(case: &str, rig: &Rig) -> Value {
    let mut lines = hits(case, rig);
    assert_eq!(lines.len(), 1, "{case}: {lines:#?}");
    lines.remove(0)
}

/// The requests that store something; the others prepare the connection.
pub fn stores(stub: &IndexStub) -> Vec<Recorded> {
    let requests = stub.requests().into_iter();
    requests.filter(|request| request.method != "HEAD").collect()
}

/// What holds whatever the index does: no secret left the function, and what it sent was sound.
pub fn assert_discreet_and_sound(case: &str, rig: &Rig, stub: &IndexStub) {
    let log = rig.log_lines().join("\n");
    assert!(!log.contains(SECRET), "{case}: a secret in the log: {log}");
    for request in stub.requests() {
        let everything = format!("{request:?} {}", String::from_utf8_lossy(&request.body));
        assert!(!everything.contains(SECRET), "{case}: a secret in {everything}");
    }
    assert_eq!(stub.violations(), Vec::<String>::new(), "{case}");
    assert_eq!(rig.refusals(), Vec::<String>::new(), "{case}");
}

/// The event of [`hit`].
fn assert_event(case: &str, event: &Value, id: &str) {
    let user = Key::from_secret(PRIVACY_KEY).user("u-1");
    let expected = [
        ("/@timestamp", json!("2026-01-31T23:59:59.999Z")),
        ("/date", json!(1_769_903_999_999_i64)),
        ("/event/id", json!(id)),
        ("/event/action", json!("view")),
        ("/event/ingress", json!("passthrough")),
        ("/client/ip", json!("198.51.100.0")),
        ("/user/id", json!(user)),
        ("/url/domain", json!("shop.example")),
        ("/campaign/source", json!("news")),
        (
            "/labels",
            json!(["token=[redacted]", format!("userid={user}"), "utm_source=news"]),
        ),
        (
            "/params/header",
            json!({"referer": "https://shop.example/a", "user-agent": "Mozilla/5.0 (X11; Linux x86_64)"}),
        ),
    ];
    for (place, value) in expected {
        assert_eq!(event.pointer(place), Some(&value), "{case}: {place} of {event:#}");
    }
}

// Both orders, whatever the index does.

#[derive(Clone, Debug)]
pub struct Weather {
    pub name: &'static str,
    pub behaviour: Behaviour,
    pub timing: Timing,
    pub outcome: &'static str,
    pub tried: Tried,
    /// Part of the reason in the log.
    pub reason: &'static str,
    pub stored: Stored,
}

impl Weather {
    /// An index that takes its time is waited for: in the invocation that is billed, and by the visitor where the order says
    /// so.
    pub fn assert_waited(&self, case: &str, order: &str, invocation: &Invocation) {
        let (Behaviour::Delay(delay), "indexed") = (&self.behaviour, self.outcome) else {
            return;
        };
        assert!(invocation.billed >= *delay, "{case}: {:?} billed", invocation.billed);
        if order == "after-indexing" {
            assert!(
                invocation.reply_time >= Some(*delay),
                "{case}: {:?}",
                invocation.reply_time
            );
        }
    }

    /// What the index holds afterwards, by index and id.
    pub fn assert_stored(&self, case: &str, found: &[(String, String)], id: &str) {
        match self.stored {
            Stored::Yes => assert_eq!(found, [("events".to_owned(), id.to_owned())], "{case}"),
            Stored::No => assert!(found.is_empty(), "{case}: {found:?}"),
            Stored::Late => {}
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tried {
    Once,
    Again,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stored {
    Yes,
    No,
    /// It is stored when nobody waits for it any more.
    Late,
}

const MAPPING: &str = include_str!("../../fixtures/answers/opensearch-400-field-limit.json");
const FORBIDDEN: &str = include_str!("../../fixtures/answers/opensearch-403-security.json");
const BUSY: &str = include_str!("../../fixtures/answers/opensearch-429-rejected.json");
const BROKEN: &str = include_str!("../../fixtures/answers/opensearch-500-io.json");

pub fn weathers() -> Vec<Weather> {
    use Behaviour::{
        CloseMidBody, Delay, DelayThenDropStored, Garbage, HalfClose, Html200, NeverAnswer, Normal, Refuse,
        ResetOnAccept, Status,
    };
    let fine = |name, behaviour| Weather {
        name,
        behaviour,
        timing: PATIENT,
        outcome: "indexed",
        tried: Tried::Once,
        reason: "",
        stored: Stored::Yes,
    };
    let foul = |name, behaviour, tried, reason, stored| Weather {
        name,
        behaviour,
        timing: QUICK,
        outcome: "failed",
        tried,
        reason,
        stored,
    };
    let status = |status, body: &str| Status(status, body.to_owned());
    vec![
        fine("normal", Normal),
        fine("slow", Delay(Duration::from_millis(200))),
        foul("down", Refuse, Tried::Again, "refused", Stored::No),
        foul(
            "far too slow",
            Delay(Duration::from_secs(5)),
            Tried::Again,
            "timed out",
            Stored::Late,
        ),
        foul(
            "400",
            status(400, MAPPING),
            Tried::Once,
            "status 400: illegal_argument_exception: Limit of total fields [1000] has been exceeded",
            Stored::No,
        ),
        foul(
            "403",
            status(403, FORBIDDEN),
            Tried::Once,
            "status 403: security_exception: no permissions for [indices:data/write/index]",
            Stored::No,
        ),
        foul(
            "429",
            status(429, BUSY),
            Tried::Again,
            "status 429: rejected_execution_exception: rejected execution of",
            Stored::No,
        ),
        foul(
            "500",
            status(500, BROKEN),
            Tried::Again,
            "status 500: i_o_exception: No space left on device",
            Stored::No,
        ),
        foul("resets", ResetOnAccept, Tried::Again, "reset", Stored::No),
        foul("half an answer", CloseMidBody, Tried::Again, "", Stored::Yes),
        foul(
            "stores and hangs up",
            DelayThenDropStored(Duration::from_millis(20)),
            Tried::Again,
            "",
            Stored::Yes,
        ),
        foul("garbage", Garbage, Tried::Again, "HTTP version", Stored::No),
        foul("a login page", Html200, Tried::Once, "not an index's", Stored::No),
        foul("silent", NeverAnswer, Tried::Again, "timed out", Stored::No),
        foul("half closed", HalfClose, Tried::Again, "", Stored::No),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_index_does_the_visitor_gets_the_image_and_the_event_is_kept() {
    let cases = ORDERS.into_iter().flat_map(|order| {
        let weathers = weathers().into_iter();
        weathers.map(move |weather| check_weather(order, weather))
    });
    side_by_side(cases).await;
}

async fn check_weather(order: &'static str, weather: Weather) {
    let case = &format!("{}, {order}", weather.name);
    let stub = IndexStub::start().await;
    stub.behave(weather.behaviour.clone());
    let rig = Rig::start(to(&stub, order, weather.timing)).await;
    assert_eq!(rig.init_error(), None, "{case}");

    let (answer, invocation) = rig.invoke_observing(payload(&hit("id-1=")));
    let answer = answer.await.unwrap_or_else(|_| panic!("{case}: no reply"));
    let invocation = invocation.await.unwrap();
    assert_image(case, &invocation);

    let line = only_hit(case, &rig);
    let stores = stores(&stub);
    if let Some(store) = stores.first() {
        let reply_first = answer.at <= store.at;
        assert_eq!(reply_first, order == "first", "{case}: the reply and the index");
    }
    assert!(
        invocation.billed < weather.timing.budget() + SLACK,
        "{case}: {:?} billed",
        invocation.billed
    );

    weather.assert_waited(case, order, &invocation);

    let attempts = line["attempts"].as_u64().unwrap();
    assert_eq!(line["outcome"], weather.outcome, "{case}: {line:#}");
    assert_eq!(line["event_id"], "id-1=", "{case}: {line:#}");
    assert_eq!(attempts > 1, weather.tried == Tried::Again, "{case}: {line:#}");
    if weather.outcome == "failed" {
        assert_undelivered(case, &line, &stub, weather.reason);
    } else {
        assert!(line.get("event").is_none(), "{case}: the event is stored and logged");
    }
    // Each attempt that came through is a request of its own. Where the budget ends them, it may end the last before the
    // index hears of it.
    let heard = u64::try_from(stores.len()).unwrap();
    let ended = weather.outcome == "failed" && weather.tried == Tried::Again && heard + 1 == attempts;
    assert!(
        heard == attempts || ended || unheard(&weather.behaviour),
        "{case}: {heard} of {attempts}"
    );
    for store in &stores {
        assert_event(case, &store.json(), "id-1=");
    }
    let found: Vec<_> = stub.documents().into_keys().collect();
    weather.assert_stored(case, &found, "id-1=");
    assert_discreet_and_sound(case, &rig, &stub);
}

/// Whether the stub cannot hear a request under this behaviour.
fn unheard(behaviour: &Behaviour) -> bool {
    matches!(behaviour, Behaviour::Refuse | Behaviour::ResetOnAccept)
}

/// The line of an event that was not delivered says why, and holds it whole.
fn assert_undelivered(case: &str, line: &Value, stub: &IndexStub, reason: &str) {
    assert_eq!(line["level"], "ERROR", "{case}: {line:#}");
    assert_eq!(line["message"], "undelivered event", "{case}: {line:#}");
    assert_eq!(line["destination"], format!("{}/events", stub.url()), "{case}");
    let said = line["reason"].as_str().unwrap_or_default();
    assert!(
        !said.is_empty() && said.contains(reason),
        "{case}: {said:?} has not {reason:?}"
    );
    assert_event(case, &line["event"], "id-1=");
    if let Some(sent) = stores(stub).last() {
        assert_eq!(line["event"], sent.json(), "{case}: what was sent and what was logged");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_ingress_is_answered_and_stored_in_both_orders() {
    let cases = ORDERS
        .into_iter()
        .flat_map(|order| Ingress::ALL.map(|ingress| check_ingress(order, ingress)));
    side_by_side(cases).await;
}

async fn check_ingress(order: &'static str, ingress: Ingress) {
    let case = &format!("{ingress}, {order}");
    let arrived = HttpRequest {
        method: "GET".to_owned(),
        path: "/pixel/summer.gif".to_owned(),
        query: "utm_source=news&token=hush-hush".to_owned(),
        headers: pairs(&[("Host", "pixel.example"), ("Cookie", SECRET), ("X-Api-Key", SECRET)]),
        peer: Some([198, 51, 100, 7].into()),
        id: "JKJaXmPLvHcESHA=".to_owned(),
        time: DateTime::from_timestamp_millis(RECEIVED.parse().unwrap()).unwrap(),
        body: None,
    };
    let stub = IndexStub::start().await;
    let rig = Rig::start(to(&stub, order, PATIENT)).await;
    let invocation = rig.invoke(stage_payload(ingress, &arrived).unwrap()).await;
    assert_answered(case, &invocation);
    assert_eq!(only_hit(case, &rig)["outcome"], "indexed", "{case}");
    let (_, event) = stub.documents().pop_first().unwrap();
    for (place, value) in [
        ("/event/ingress", json!(ingress.name())),
        ("/pixel/code", json!("summer")),
        ("/client/ip", json!("198.51.100.0")),
        ("/labels", json!(["token=[redacted]", "utm_source=news"])),
        ("/params/header", json!({"host": "pixel.example"})),
    ] {
        assert_eq!(event.pointer(place), Some(&value), "{case}: {place} of {event:#}");
    }
    assert_discreet_and_sound(case, &rig, &stub);
}

// Ids, dates, attempts.

#[tokio::test(flavor = "multi_thread")]
async fn many_hits_share_one_connection() {
    side_by_side(ORDERS.map(|order| check_many(order, 200))).await;
}

async fn check_many(order: &'static str, count: usize) {
    let stub = IndexStub::start().await;
    let rig = Rig::start(to(&stub, order, PATIENT)).await;
    for number in 0..count {
        let invocation = rig.invoke(payload(&hit(&format!("id-{number}")))).await;
        assert_image(order, &invocation);
    }
    assert_eq!(stub.documents().len(), count, "{order}");
    // A hit that comes while the connection is still being prepared need not wait for it and opens a second. That may happen
    // on a busy machine, to the first hits alone.
    assert!(stub.connections() <= 2, "{order}: {}", stub.connections());
    let requests = stub.requests();
    let settled: BTreeSet<_> = requests.iter().skip(count / 2).map(|it| it.connection).collect();
    assert_eq!(settled.len(), 1, "{order}: {settled:?}");
    assert!(
        hits(order, &rig).iter().all(|line| line["outcome"] == "indexed"),
        "{order}"
    );
    assert_discreet_and_sound(order, &rig, &stub);
}

/// What the index does with one attempt after the other, and what becomes of the hit.
struct Retry {
    name: &'static str,
    script: Vec<Behaviour>,
    attempts: u64,
    /// Method and target of the last attempt.
    last: &'static str,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passing_fault_costs_another_attempt_and_no_second_document() {
    let status = |status, body: &str| Behaviour::Status(status, body.to_owned());
    let put = "PUT /events/_doc/id-1?op_type=create";
    let retry = |name, script, attempts, last| Retry {
        name,
        script,
        attempts,
        last,
    };
    let ids = include_str!("../../fixtures/answers/serverless-400-document-id.json");
    let gateway = include_str!("../../fixtures/answers/aws-504-gateway.html");
    let cases = [
        retry("500", vec![status(500, BROKEN)], 2, put),
        retry("429 twice", vec![status(429, BUSY), status(429, BUSY)], 3, put),
        retry("a page of the load balancer", vec![status(504, gateway)], 2, put),
        retry("garbage", vec![Behaviour::Garbage], 2, put),
        retry("half an answer", vec![Behaviour::CloseMidBody], 2, put),
        retry(
            "stored, no answer",
            vec![Behaviour::DelayThenDropStored(Duration::ZERO)],
            2,
            put,
        ),
        retry("no ids", vec![status(400, ids)], 2, "POST /events/_doc"),
    ];
    side_by_side(cases.map(check_retry)).await;
}

async fn check_retry(retry: Retry) {
    let case = retry.name;
    let stub = IndexStub::start().await;
    let rig = Rig::start(to(&stub, "first", PATIENT)).await;
    // The connection is prepared during the start, which is not to use the script up.
    stub.script(retry.script);
    assert_image(case, &rig.invoke(payload(&hit("id-1"))).await);

    let line = only_hit(case, &rig);
    assert_eq!(line["outcome"], "indexed", "{case}: {line:#}");
    assert_eq!(line["attempts"], retry.attempts, "{case}: {line:#}");
    assert_eq!(stub.documents().len(), 1, "{case}");
    let last = stores(&stub).pop().unwrap();
    assert_eq!(format!("{} {}", last.method, last.path_and_query), retry.last, "{case}");
    assert_discreet_and_sound(case, &rig, &stub);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_refuses_ids_is_asked_once() {
    let stub = IndexStub::start().await;
    let rig = Rig::start(to(&stub, "first", PATIENT)).await;
    let ids = include_str!("../../fixtures/answers/serverless-400-document-id.json");
    stub.script(vec![Behaviour::Status(400, ids.to_owned())]);
    for id in ["id-1", "id-2", "id-3"] {
        rig.invoke(payload(&hit(id))).await;
    }
    let attempts: Vec<_> = hits("no ids", &rig)
        .iter()
        .map(|line| line["attempts"].clone())
        .collect();
    assert_eq!(attempts, [2, 1, 1]);
    let ids: Vec<_> = stub
        .documents()
        .into_values()
        .map(|event| event["event"]["id"].clone())
        .collect();
    assert_eq!(ids, ["id-1", "id-2", "id-3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_hit_twice_is_stored_once() {
    let stub = IndexStub::start().await;
    let rig = Rig::start(to(&stub, "first", PATIENT)).await;
    for _ in 0..2 {
        assert_image("twice", &rig.invoke(payload(&hit("id-1"))).await);
    }
    let outcomes: Vec<_> = hits("twice", &rig).iter().map(|line| line["outcome"].clone()).collect();
    assert_eq!(outcomes, ["indexed", "duplicate"]);
    assert_eq!(stub.documents().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_is_one_that_no_visitor_can_choose() {
    let long = "x".repeat(513);
    for given in ["", &long] {
        let stub = IndexStub::start().await;
        let rig = Rig::start(to(&stub, "first", PATIENT)).await;
        let invocation = rig.invoke(payload(&hit(given))).await;
        assert_image(given, &invocation);
        let ids: Vec<_> = stub.documents().into_keys().map(|(_, id)| id).collect();
        assert_eq!(ids, [invocation.request_id], "given {given:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_is_dated_by_the_time_of_the_request() {
    for pattern in ["events-%Y.%m.%d", "events-%25Y.%25m.%25d"] {
        let stub = IndexStub::start().await;
        let destination = format!("{}/{pattern}", stub.url());
        let rig = Rig::start(options("first", PATIENT).env("PIXEL_DESTINATION", destination)).await;
        rig.invoke(payload(&hit("id-1"))).await;
        let indices: Vec<_> = stub.documents().into_keys().map(|(index, _)| index).collect();
        assert_eq!(indices, ["events-2026.01.31"], "{pattern}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_function_ends_before_its_deadline() {
    side_by_side(ORDERS.map(check_deadline)).await;
}

async fn check_deadline(order: &'static str) {
    let stub = IndexStub::start().await;
    stub.behave(Behaviour::NeverAnswer);
    let patient = Timing(600_000, 600_000);
    let rig = Rig::start(to(&stub, order, patient).timeout(Duration::from_secs(1))).await;
    let invocation = rig.invoke(payload(&hit("id-1="))).await;
    assert_image(order, &invocation);
    let line = only_hit(order, &rig);
    assert_undelivered(order, &line, &stub, "timed out");
    assert_eq!(rig.cold_starts(), 1, "{order}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_killed_while_indexing_starts_again() {
    let stub = IndexStub::start().await;
    let rig = Rig::start(to(&stub, "first", PATIENT)).await;
    stub.behave(Behaviour::NeverAnswer);
    let (answer, invocation) = rig.invoke_observing(payload(&hit("id-1")));
    answer.await.unwrap();
    stub.wait_for("the event", |stub| !stores(stub).is_empty()).await;
    rig.kill().await;
    let InvokeResult::Exited { reply: Some(reply), .. } = invocation.await.unwrap().result else {
        panic!("the visitor was answered before");
    };
    assert_gif("killed", &reply);

    stub.behave(Behaviour::Normal);
    let next = rig.invoke(payload(&hit("id-2"))).await;
    assert_image("after kill", &next);
    assert!(next.restart.is_some() && rig.cold_starts() == 2);
    let ids: Vec<_> = stub.documents().into_keys().map(|(_, id)| id).collect();
    assert_eq!(ids, ["id-2"]);
}

// The circuit breaker.

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_down_is_left_alone_until_a_probe_finds_it_up() {
    let down = [Behaviour::Refuse, Behaviour::Status(503, BROKEN.to_owned())];
    side_by_side(down.map(check_breaker)).await;
}

async fn check_breaker(down: Behaviour) {
    let case = &format!("{down:?}");
    let stub = IndexStub::start().await;
    let rig = Rig::start(to(&stub, "first", Timing(500, 500))).await;
    stub.behave(down);
    let mut count = 0;
    let mut send = async || {
        count += 1;
        assert_image(case, &rig.invoke(payload(&hit(&format!("id-{count}")))).await);
        hits(case, &rig).pop().unwrap()
    };

    for breaker in ["closed", "closed", "open"] {
        let line = send().await;
        assert_eq!(line["breaker"], breaker, "{case}: {line:#}");
        assert!(line["attempts"].as_u64() >= Some(1), "{case}: {line:#}");
    }
    let before = (stub.requests().len(), stub.connections());
    let line = send().await;
    assert_eq!(
        (&line["attempts"], &line["breaker"]),
        (&json!(0), &json!("open")),
        "{case}: {line:#}"
    );
    assert!(
        line["reason"].as_str().unwrap().contains("circuit breaker"),
        "{case}: {line:#}"
    );
    assert_event(case, &line["event"], "id-4");
    assert_eq!(
        (stub.requests().len(), stub.connections()),
        before,
        "{case}: it was tried"
    );

    stub.behave(Behaviour::Normal);
    let patience = Instant::now() + Duration::from_secs(40);
    let probe = loop {
        assert!(Instant::now() < patience, "{case}: no probe");
        let line = send().await;
        if line["attempts"] != 0 {
            break line;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let next = send().await;
    for line in [probe, next] {
        assert_eq!(line["outcome"], "indexed", "{case}: {line:#}");
        assert_eq!(
            (&line["attempts"], &line["breaker"]),
            (&json!(1), &json!("closed")),
            "{case}: {line:#}"
        );
    }
    let whole = hits(case, &rig).iter().filter(|line| line["event"].is_object()).count();
    assert_eq!(
        whole + stub.documents().len(),
        count,
        "{case}: every hit is in the log or in the index"
    );
}

// Configuration.

struct Misconfigured {
    env: Vec<(&'static str, &'static str)>,
    without: &'static str,
    /// Part of a line that is logged at the start.
    problem: Option<&'static str>,
    /// Part of the reason of the undelivered event.
    reason: &'static str,
}

#[tokio::test(flavor = "multi_thread")]
async fn no_configuration_breaks_the_image_or_loses_the_event() {
    let wrong = |env: &[(&'static str, &'static str)], without, problem, reason| Misconfigured {
        env: env.to_vec(),
        without,
        problem,
        reason,
    };
    let unset = "`PIXEL_DESTINATION` is not set, or not valid";
    let https = ("PIXEL_DESTINATION", "https://127.0.0.1:1/events");
    let signed = [("PIXEL_DESTINATION", "http://127.0.0.1:1/events"), ("PIXEL_AUTH", "es")];
    let cases = [
        wrong(&[], "", Some(unset), unset),
        wrong(
            &[("PIXEL_DESTINATION", "nonsense")],
            "",
            Some("`PIXEL_DESTINATION` is `nonsense`: give `https://host/index`"),
            unset,
        ),
        wrong(
            &[("PIXEL_DESTINATION", "sqlite:pixel.db")],
            "",
            Some("destination of the command line"),
            "destination of the command line",
        ),
        wrong(
            &[https, ("PIXEL_CA_FILE", "/nowhere/ca.pem")],
            "",
            Some("`PIXEL_CA_FILE` `/nowhere/ca.pem`: "),
            "`PIXEL_CA_FILE`",
        ),
        wrong(
            &[https, ("PIXEL_CA_FILE", BOOTSTRAP)],
            "",
            Some("`PIXEL_CA_FILE`"),
            "`PIXEL_CA_FILE`",
        ),
        wrong(
            &signed,
            "AWS_SECRET_ACCESS_KEY",
            None,
            "no AWS credentials to sign with",
        ),
        wrong(
            &signed,
            "AWS_REGION",
            Some("`AWS_REGION` is not set: give the region"),
            unset,
        ),
        wrong(
            &[("PIXEL_DESTINATION", "https://user:hush-hush@:9200/events")],
            "",
            Some("`PIXEL_DESTINATION` is `https://user:…@:9200/events`"),
            unset,
        ),
        wrong(
            &[("PIXEL_DESTINATION", "user:hush-hush@search.example:9200/events")],
            "",
            Some("`PIXEL_DESTINATION` is `user:…@search.example:9200/events`"),
            unset,
        ),
    ];
    let cases = cases.map(Arc::new);
    let all = ORDERS
        .into_iter()
        .flat_map(|order| cases.clone().map(|case| check_misconfigured(order, case)));
    Box::pin(side_by_side(all)).await;
}

async fn check_misconfigured(order: &'static str, wrong: Arc<Misconfigured>) {
    let case = &format!("{:?} without {:?}, {order}", wrong.env, wrong.without);
    let stub = IndexStub::start().await;
    let env = |options: RigOptions, (name, value): &(&str, &str)| options.env(*name, *value);
    let options = wrong.env.iter().fold(options(order, QUICK), env).without(wrong.without);
    let rig = Rig::start(options).await;
    assert_eq!(rig.init_error(), None, "{case}");
    for number in 1..=2 {
        let id = format!("id-{number}");
        assert_image(case, &rig.invoke(payload(&hit(&id))).await);
        let line = hits(case, &rig).pop().unwrap();
        assert_eq!(line["outcome"], "failed", "{case}: {line:#}");
        let reason = line["reason"].as_str().unwrap();
        assert!(reason.contains(wrong.reason), "{case}: {reason}");
        assert_event(case, &line["event"], &id);
    }
    let problems: Vec<_> = log(case, &rig)
        .into_iter()
        .filter(|line| line["message"] == "configuration")
        .collect();
    let told = |problem| {
        problems
            .iter()
            .any(|line| line["reason"].as_str().unwrap().contains(problem))
    };
    assert!(wrong.problem.is_none_or(told), "{case}: {problems:#?}");
    assert_discreet_and_sound(case, &rig, &stub);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mistyped_keeps_its_default() {
    let stub = IndexStub::start().await;
    let rig = Rig::start(to(&stub, "later", PATIENT).env("PIXEL_PRIVACY_IP", "short")).await;
    assert_image("mistyped", &rig.invoke(payload(&hit("id-1"))).await);
    assert_eq!(stub.documents().len(), 1);
    let log = rig.log_lines().join("\n");
    for problem in [
        "`PIXEL_REPLY` is `later`: give one of `first`, `after-indexing`",
        "`PIXEL_PRIVACY_IP` is `short`: give one of `shorten`, `full`, `drop`",
    ] {
        assert!(log.contains(problem), "{problem:?} is not in {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_as_it_may_be_meant_is_a_warning() {
    let warnings = |rig: &Rig| -> Vec<String> {
        let lines = log("warnings", rig).into_iter();
        let of_start = lines.filter(|line| line["message"] == "configuration" && line["level"] == "WARN");
        of_start
            .map(|line| line["reason"].as_str().unwrap().to_owned())
            .collect()
    };
    let stub = IndexStub::start().await;
    let bare = to(&stub, "after-indexing", PATIENT).without("PIXEL_PRIVACY_KEY");
    let bare = Rig::start(bare.env("PIXEL_GEO_FILE", "places.mmdb")).await;
    assert_image("bare", &bare.invoke(payload(&hit("id-1"))).await);
    let told = warnings(&bare);
    for variable in ["`PIXEL_PRIVACY_KEY` is not set", "`PIXEL_GEO_FILE` is set"] {
        assert_eq!(
            told.iter().filter(|reason| reason.contains(variable)).count(),
            1,
            "{told:#?}"
        );
    }
    let documents: Vec<_> = stub.documents().into_values().collect();
    let [stored] = &documents[..] else { panic!("one event") };
    assert!(format!("{stored:?}").contains("198.51.100.0"));
    assert!(!format!("{stored:?}").contains("country_iso_code"));

    let whole = Rig::start(to(&stub, "after-indexing", PATIENT)).await;
    assert_image("whole", &whole.invoke(payload(&hit("id-2"))).await);
    assert_eq!(warnings(&whole), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_handler_is_an_error_at_the_start() {
    let rig = Rig::start(RigOptions::new(BOOTSTRAP).handler("index.handler")).await;
    let Some(InitFailure::Reported(report)) = rig.init_error() else {
        panic!("{:?}", rig.init_error());
    };
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["errorType"], "UnknownHandler");
    let message = report["errorMessage"].as_str().unwrap();
    for part in ["`index.handler`", "`capture`"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_start_that_cannot_succeed_ends_with_a_reason() {
    for (handler, api, reason) in [
        ("index.handler", Some("127.0.0.1:1"), "`index.handler` is not a handler"),
        ("capture", None, "`AWS_LAMBDA_RUNTIME_API` is not set"),
    ] {
        let mut command = Command::new(BOOTSTRAP);
        command.env_clear().env("_HANDLER", handler);
        command.envs(api.map(|api| ("AWS_LAMBDA_RUNTIME_API", api)));
        let ended = command.output().unwrap();
        let log = String::from_utf8_lossy(&ended.stdout);
        assert_eq!(ended.status.code(), Some(1), "{handler}: {log}");
        assert!(log.contains(reason), "{handler}: {log}");
    }
}

// Payloads.

enum Becomes {
    /// The image; nothing is stored, for this reason.
    Ignored(&'static str),
    /// The image; the event has these values.
    Event(Vec<(&'static str, Value)>),
    /// Nobody is waiting for an image: an error that names the service.
    Error(&'static str),
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

fn odd_payloads() -> Vec<(&'static str, Vec<u8>, Becomes)> {
    use Becomes::{Error, Event, Ignored};
    let with_body = |body: &str| format!(r#"{{"body-json": {body}, "context": {{"http-method": "GET"}}}}"#);
    let duplicate = r#"{"context": {"source-ip": "198.51.100.7", "source-ip": "203.0.113.9", "http-method": "GET"}}"#;
    let wrong = r#"{"params": [1], "context": {"source-ip": 7, "request-time-epoch": [], "extended-request-id": null},
        "stage-variables": "x", "body-json": true}"#;
    let method = r#"{"context": {"http-method": {"a": 1}}}"#;
    let texts: Vec<(&str, String, Becomes)> = vec![
        ("not JSON", "<html>".into(), Ignored("not_json")),
        ("nothing", String::new(), Ignored("not_json")),
        ("half a document", r#"{"params": {"#.into(), Ignored("not_json")),
        ("two documents", "{} {}".into(), Ignored("not_json")),
        ("null", "null".into(), Ignored("not_an_object")),
        ("list", "[]".into(), Ignored("not_an_object")),
        ("text", r#""x""#.into(), Ignored("not_an_object")),
        ("number", "1".into(), Ignored("not_an_object")),
        ("deep list", nested(100_000), Ignored("not_an_object")),
        ("unclosed", "[".repeat(100_000), Ignored("not_json")),
        (
            "empty",
            "{}".into(),
            Event(vec![("/event/oddities", json!(["no_address", "no_time"]))]),
        ),
        (
            "deep body",
            with_body(&nested(100_000)),
            Event(vec![("/event/cut", json!(["body-json"]))]),
        ),
        (
            "large body",
            with_body(&format!("{:?}", "x".repeat(5_000_000))),
            Event(vec![
                ("/event/cut", json!(["body-json"])),
                ("/body-json", json!("x".repeat(2048))),
            ]),
        ),
        (
            "duplicate key",
            duplicate.into(),
            Event(vec![
                ("/event/oddities", json!(["duplicate_key", "no_time"])),
                ("/client/ip", json!("198.51.100.0")),
            ]),
        ),
        (
            "lone surrogate",
            r#"{"params": {"querystring": {"userid": "a\ud800b"}}}"#.into(),
            Event(vec![(
                "/event/oddities",
                json!(["invalid_encoding", "no_address", "no_time"]),
            )]),
        ),
        (
            "lone surrogate in the body",
            with_body(r#""\udfff""#),
            Event(vec![("/event/cut", json!(["body-json"]))]),
        ),
    ];
    let foreign = [
        (
            "S3",
            json!({"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}]}),
        ),
        ("SQS", json!({"Records": [{"eventSource": "aws:sqs", "body": "{}"}]})),
        ("SNS", json!({"Records": [{"EventSource": "aws:sns", "Sns": {}}]})),
        (
            "EventBridge",
            json!({"version": "0", "detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}),
        ),
        ("CloudWatch Logs", json!({"awslogs": {"data": "H4sIAAAA"}})),
    ];
    let mut cases: Vec<_> = texts
        .into_iter()
        .map(|(name, text, becomes)| (name, text.into_bytes(), becomes))
        .collect();
    cases.extend(foreign.map(|(name, event)| (name, event.to_string().into_bytes(), Error(name))));
    cases.push(("bytes", b"\xff\xfe\x00".to_vec(), Ignored("not_json")));
    cases.push((
        "not UTF-8",
        b"{\"params\": {\"header\": {\"User-Agent\": \"a\xffb\"}}}".to_vec(),
        Event(vec![("/user_agent/original", json!("a\u{fffd}b"))]),
    ));
    let oddities = json!(["wrong_type", "no_address", "no_time"]);
    let values = vec![
        ("/event/oddities", oddities),
        ("/params/path", json!({})),
        ("/body-json", json!(true)),
    ];
    cases.push(("wrong types", wrong.into(), Event(values)));
    cases.push(("a method that is none", method.into(), Ignored("wrong_method")));
    cases.extend(of_no_ingress().map(|payload| (payload, payload.into(), Ignored("unknown_ingress"))));
    cases.extend(odd_proxy_payloads());
    cases
}

/// Objects without the marks of an ingress, or with half of them.
fn of_no_ingress() -> [&'static str; 4] {
    [
        r#"{"foo": 1}"#,
        r#"{"httpMethod": "GET", "path": "/pixel.gif"}"#,
        r#"{"version": "2.0", "rawPath": "/pixel.gif"}"#,
        r#"{"requestContext": {"http": {"method": "GET"}}}"#,
    ]
}

/// What of a payload of each form but the non-proxy one stands before and after the value of its body, what names the
/// visitor's address in it, and whether the ingress tells the time.
const PROXY_FORMS: [(&str, &str, &str, &str, bool); 4] = [
    (
        "1.0",
        r#"{"httpMethod": "GET", "path": "/pixel.gif", "body": "#,
        r#", "requestContext": {"identity": ADDRESS}}"#,
        "sourceIp",
        true,
    ),
    (
        "2.0",
        r#"{"version": "2.0", "rawPath": "/pixel.gif", "body": "#,
        r#", "requestContext": {"http": ADDRESS}}"#,
        "sourceIp",
        true,
    ),
    (
        "ALB",
        r#"{"httpMethod": "GET", "path": "/pixel.gif", "body": "#,
        r#", "requestContext": {"elb": {}}, "headers": ADDRESS}"#,
        "x-forwarded-for",
        false,
    ),
    (
        "ALB with all values",
        r#"{"httpMethod": "GET", "path": "/pixel.gif", "body": "#,
        r#", "requestContext": {"elb": {}}, "multiValueHeaders": ADDRESS}"#,
        "x-forwarded-for",
        false,
    ),
];

/// Repeated keys, deep nesting and the largest body that Lambda passes on, in every form.
fn odd_proxy_payloads() -> Vec<(&'static str, Vec<u8>, Becomes)> {
    let mut cases = vec![(
        "the largest body",
        largest(r#"{"context": {"http-method": "GET"}, "body-json": "#, "}"),
        Becomes::Event(vec![("/body-json", json!("x".repeat(2048)))]),
    )];
    for (name, before, after, address, timed) in PROXY_FORMS {
        let with = |addresses: &str, body: &str| format!("{before}{body}{}", after.replace("ADDRESS", addresses));
        let one = format!(r#"{{"{address}": "198.51.100.7"}}"#);
        let two = format!(r#"{{"{address}": "198.51.100.7", "{address}": "203.0.113.9"}}"#);
        let listed = |others: &[&str]| json!([others, if timed { &["no_time"][..] } else { &[] }].concat());
        let known = ("/client/ip", json!("198.51.100.0"));
        cases.push((
            name,
            with(&two, "null").into_bytes(),
            Becomes::Event(vec![known.clone(), ("/event/oddities", listed(&["duplicate_key"]))]),
        ));
        let twice = with(&one, "null").replacen(
            '{',
            r#"{"path": "/pixel/first.gif", "rawPath": "/pixel/first.gif", "#,
            1,
        );
        cases.push((
            name,
            twice.into_bytes(),
            Becomes::Event(vec![
                known.clone(),
                ("/pixel/code", json!("first")),
                ("/event/oddities", listed(&["duplicate_key"])),
            ]),
        ));
        cases.push((
            name,
            with(&nested(100_000), "null").into_bytes(),
            Becomes::Event(vec![("/event/oddities", listed(&["wrong_type", "no_address"]))]),
        ));
        cases.push((
            name,
            with(&one, &json!(nested(100_000)).to_string()).into_bytes(),
            Becomes::Event(vec![known.clone(), ("/event/cut", json!(["body-json"]))]),
        ));
        cases.push((
            name,
            largest(before, &after.replace("ADDRESS", &one)),
            Becomes::Event(vec![
                known,
                ("/event/cut", json!(["body-json"])),
                ("/body-json", json!("x".repeat(2048))),
            ]),
        ));
    }
    cases
}

/// A payload that is as large as Lambda takes, filled with a text.
fn largest(before: &str, after: &str) -> Vec<u8> {
    let left = PAYLOAD_LIMIT - before.len() - after.len() - 2;
    let payload = format!("{before}\"{}\"{after}", "x".repeat(left));
    assert_eq!(payload.len(), PAYLOAD_LIMIT);
    payload.into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn any_payload_is_answered() {
    side_by_side(ORDERS.map(check_payloads)).await;
}

async fn check_payloads(order: &'static str) {
    let stub = IndexStub::start().await;
    let rig = Rig::start(to(&stub, order, PATIENT)).await;
    for (name, payload, becomes) in odd_payloads() {
        let case = &format!("{name}, {order}");
        let (before, stored) = (hits(case, &rig).len(), stores(&stub).len());
        let invocation = rig.invoke(payload).await;
        let mut lines = hits(case, &rig).split_off(before);
        assert_eq!(lines.len(), 1, "{case}: {lines:#?}, {:?}", invocation.result);
        let line = lines.remove(0);
        let stored = stores(&stub).split_off(stored);
        match becomes {
            Becomes::Error(service) => {
                let InvokeResult::FunctionError(body) = &invocation.result else {
                    panic!("{case}: {:?}", invocation.result);
                };
                let body = String::from_utf8_lossy(body);
                assert!(
                    body.contains(&format!("an event of {service}, not an HTTP request")),
                    "{case}: {body}"
                );
                assert_eq!(
                    (&line["outcome"], &line["reason"], &line["Ignored"]),
                    (&json!("ignored"), &json!("foreign_event"), &json!(1)),
                    "{case}: {line:#}"
                );
                assert!(stored.is_empty(), "{case}");
            }
            Becomes::Ignored(reason) => {
                assert_image(case, &invocation);
                assert_eq!(
                    (&line["outcome"], &line["reason"], &line["Ignored"]),
                    (&json!("ignored"), &json!(reason), &json!(1)),
                    "{case}: {line:#}"
                );
                assert!(stored.is_empty(), "{case}");
            }
            Becomes::Event(values) => {
                assert_answered(case, &invocation);
                assert_eq!(
                    (line["outcome"].as_str(), &line["Indexed"], stored.len()),
                    (Some("indexed"), &json!(1), 1),
                    "{case}: {line:#}"
                );
                assert!(stored[0].body.len() <= 32 * 1024, "{case}: {}", stored[0].body.len());
                let event = stored[0].json();
                for (place, value) in values {
                    assert_eq!(event.pointer(place), Some(&value), "{case}: {place} of {event:#}");
                }
            }
        }
    }
    assert_eq!(rig.cold_starts(), 1, "{order}");
    assert_discreet_and_sound(order, &rig, &stub);
}

/// Readers of JSON stop at some depth, and the log line is a document around the event, which is one around the body.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_deep_for_the_log_is_left_out() {
    let rig = Rig::start(options("first", QUICK)).await;
    for depth in (98..=103).chain(122..=130) {
        let case = &format!("depth {depth}");
        let text = document(&hit("id-1=")).to_string();
        let text = text.replace(r#""body-json":{}"#, &format!(r#""body-json":{}"#, nested(depth)));
        assert_image(case, &rig.invoke(text).await);
        let line = hits(case, &rig).pop().unwrap();
        assert_event(case, &line["event"], "id-1=");
        let kept = line["event"].get("body-json").map(Value::to_string);
        assert_eq!(kept, (depth <= 100).then(|| nested(depth)), "{case}");
        let cut = line["event"].pointer("/event/cut");
        assert_eq!(cut, (depth > 100).then_some(&json!(["body-json"])), "{case}");
    }
}

/// Nothing in making the line may fail: it is the event's last resort.
#[test]
fn a_log_line_holds_any_document() {
    for (document, logged) in [
        (r#"{"a":1}"#.to_owned(), json!({"a": 1})),
        (nested(1_000), json!(nested(1_000))),
    ] {
        let event = Event {
            id: "id-1".to_owned(),
            time: DateTime::UNIX_EPOCH,
            document,
        };
        let failure = Failure {
            reason: "down".to_owned(),
            temporary: true,
        };
        let delivered = Delivered {
            outcome: Outcome::Failed(failure),
            attempts: 1,
            breaker: "closed",
        };
        assert_eq!(log_line(&event, &delivered, "", 0)["event"], logged);
    }
}

// The machine.

/// The program is started with so few file descriptors that none is left for the event's connection.
#[tokio::test(flavor = "multi_thread")]
async fn without_file_descriptors_the_visitor_still_gets_the_image() {
    for limit in 4..64 {
        let stub = IndexStub::start().await;
        // Preparing the connection takes the last descriptor and keeps it.
        stub.script(vec![Behaviour::NeverAnswer]);
        let limited = RigOptions {
            program: "sh".into(),
            ..to(&stub, "first", QUICK).env("PIXEL_CONNECT_TIMEOUT_MS", "60000")
        };
        let limited = limited.arg("-c").arg(r#"ulimit -n "$1" && exec "$2""#);
        let rig = Rig::start(limited.arg("sh").arg(limit.to_string()).arg(BOOTSTRAP)).await;
        if rig.init_error().is_some() {
            continue;
        }
        let case = &format!("{limit} descriptors");
        assert_image(case, &rig.invoke(payload(&hit("id-1="))).await);
        assert_undelivered(case, &only_hit(case, &rig), &stub, "Too many open files");
        return;
    }
    panic!("it needs 64 file descriptors to start");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_costs_nothing() {
    crate::support::setup::require(&["faketime"]);
    let clocks = ["+400d", "-400d", "+30y"].into_iter();
    side_by_side(clocks.flat_map(|shift| ORDERS.map(|order| check_clock(order, shift)))).await;
}

async fn check_clock(order: &'static str, shift: &'static str) {
    let case = &format!("{shift}, {order}");
    let stub = IndexStub::start().await;
    // Not by the command `faketime`, which refuses to start in a process with the number of one that was killed. The loader
    // knows where libraries are.
    let shifted = to(&stub, order, PATIENT)
        .env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketime.so.1")
        .env("FAKETIME", shift);
    let rig = Rig::start(shifted).await;
    assert_image(case, &rig.invoke(payload(&hit("id-1="))).await);
    assert_eq!(only_hit(case, &rig)["outcome"], "indexed", "{case}");
    let event = stub.documents().pop_first().expect("an event").1;
    // The request's time is API Gateway's, only the time of writing is ours.
    assert_event(case, &event, "id-1=");
    let ingested: DateTime<chrono::Utc> = event["event"]["ingested"].as_str().unwrap().parse().unwrap();
    let off = (chrono::Utc::now() - ingested).num_days().abs();
    assert!(off > 300, "{case}: the clock is off by {off} days");
}
