//! The function looks up how a hit's code stands, after its reply, and its role `index` for each batch: a revoked code is
//! marked, and of a recipient who has opted out nothing is stored, from the next hit or batch on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use pixel::client::codes::set_opted_out;
use pixel::hit::request::Ingress;
use pixel::hit::request::http_request::HttpRequest;
use pixel::query::Timestamp;
use pixel::query::store::{ListedCode, Store};
use pixel::server::gateway::payload;
use serde_json::{Value, json};

use crate::function::capture::{ORDERS, PATIENT, QUICK, Timing, only_hit, side_by_side, to};
use crate::function::index_role::{self, Message, blocking, counted, counts, event, invoke, set};
use crate::server::questions::deliverer;
use crate::support::index_stub::{Behaviour, IndexStub};
use crate::support::lambda_rig::{InvokeResult, Rig, RigOptions};
use crate::support::matrix::{self, Index};
use crate::support::queue::Queue;
use crate::support::serving;
use crate::support::small_server::{Asked, Reaction, SmallServer};

const BOOTSTRAP: &str = env!("CARGO_BIN_EXE_bootstrap");

fn asking(options: RigOptions) -> RigOptions {
    options.env("PIXEL_CODE_STANDING", "index")
}

fn hit(ingress: Ingress, path: &str, id: &str) -> Vec<u8> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let arrived = HttpRequest {
        method: "GET".to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: vec![("User-Agent".to_owned(), "Mail/7".to_owned())],
        peer: Some([203, 0, 113, 77].into()),
        id: id.to_owned(),
        time: DateTime::<Utc>::from_timestamp_millis(1_780_000_000_000).expect("a time"),
        body: None,
    };
    payload(ingress, &arrived).expect("a path of the pixel")
}

async fn open(rig: &Rig, ingress: Ingress, code: &str, id: &str) {
    let reply = rig.invoke(hit(ingress, &format!("/pixel/{code}.gif"), id)).await;
    assert!(
        matches!(reply.result, InvokeResult::Reply(_)),
        "{code}: {:?}",
        reply.result
    );
}

fn listed(code: &str, revoked: bool) -> ListedCode {
    let time = Timestamp::from_millis(1_779_000_000_000);
    ListedCode {
        code: code.to_owned(),
        created_at: time,
        campaign: Some("listed spring".to_owned()),
        recipient: None,
        note: None,
        revoked_at: revoked.then_some(time),
    }
}

/// The last line that tells what became of a hit.
fn last_hit(rig: &Rig) -> Value {
    let lines = rig.log_lines();
    let mut lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.rfind(|line| line.get("outcome").is_some()).expect("a hit's line")
}

/// On a real index, which has none of these lists before the first entry: what is changed there holds for the next hit.
#[tokio::test(flavor = "multi_thread")]
async fn a_code_stands_as_the_index_has_it_at_that_moment() {
    let index = blocking(|| Index::new(&matrix::any(), "standing")).await;
    let lists = deliverer(&index.subject, &index);
    let patient = matrix::PATIENT
        .into_iter()
        .fold(RigOptions::new(BOOTSTRAP), |options, (name, value)| {
            options.env(name, value)
        });
    let options = patient
        .env("PIXEL_DESTINATION", index.destination())
        .timeout(Duration::from_mins(1));
    let rig = Rig::start(asking(options)).await;
    let code = "it's \"7\"?";
    let path = "it's%20%227%22%3F";
    let mut number = 0;
    let mut opened = async |ingress| {
        number += 1;
        open(&rig, ingress, path, &format!("hit-{number}")).await;
        let line = last_hit(&rig);
        assert_eq!(line.get("code_standing"), None, "{line}");
        (line["outcome"].clone(), line["reason"].clone())
    };
    let (indexed, ignored) = (("indexed".into(), Value::Null), ("ignored".into(), "opted_out".into()));
    // Nobody knows it; then it is listed.
    assert_eq!(opened(Ingress::Passthrough).await, indexed);
    lists.add(&listed(code, false)).await.expect("it is added");
    assert_eq!(opened(Ingress::Http).await, indexed);
    set_opted_out(&lists, code, true).await.expect("it is remembered");
    assert_eq!(opened(Ingress::Passthrough).await, ignored);
    assert_eq!(opened(Ingress::Http).await, ignored);
    set_opted_out(&lists, code, false).await.expect("it is forgotten");
    lists.replace(&listed(code, true)).await.expect("it is revoked");
    assert_eq!(opened(Ingress::Rest).await, indexed);
    lists.replace(&listed(code, false)).await.expect("it is replaced");
    assert_eq!(opened(Ingress::Passthrough).await, indexed);
    open(&rig, Ingress::Passthrough, "nobodys", "hit-nobodys").await;
    let stored = blocking(move || {
        let stored = index.all();
        for list in ["codes", "opt-outs"] {
            index
                .subject
                .ask("DELETE", &format!("/pixel-{list}-of-{}", index.name), None);
        }
        stored
    });
    let mut signatures: Vec<_> = stored
        .await
        .into_iter()
        .map(|(_, event)| {
            let signature = event["pixel"]["signature"].as_str().expect("a text").to_owned();
            assert_eq!(event["pixel"]["code"] == code, signature != "unknown", "{event:#}");
            let listed = matches!(&*signature, "listed" | "revoked");
            assert_eq!(event["campaign"]["name"] == "listed spring", listed, "{event:#}");
            signature
        })
        .collect();
    signatures.sort_unstable();
    assert_eq!(signatures, ["listed", "listed", "none", "revoked", "unknown"]);
}

/// Whatever the lookup comes to, the visitor has the image and the hit is stored; the log says that nothing was known.
#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_that_fails_costs_no_hit() {
    let status = |status: u16| Behaviour::Status(status, "{}".to_owned());
    let faults = [
        status(401),
        status(403),
        status(429),
        status(500),
        status(302),
        status(200),
        Behaviour::Html200,
        Behaviour::Garbage,
        Behaviour::ResetOnAccept,
        Behaviour::NeverAnswer,
        Behaviour::Delay(Duration::from_mins(1)),
    ];
    let cases = faults
        .into_iter()
        .flat_map(|fault| ORDERS.map(|order| (fault.clone(), order)));
    side_by_side(cases.map(async |(fault, order)| {
        let case = format!("{fault:?}, {order}");
        let stub = IndexStub::start().await;
        // The preparation of the connection comes first.
        stub.script(vec![Behaviour::Normal, fault]);
        let rig = Rig::start(asking(to(&stub, order, PATIENT))).await;
        stub.wait_for("the preparation", |stub| !stub.requests().is_empty())
            .await;
        open(&rig, Ingress::Passthrough, "spring", "id-1").await;
        let line = only_hit(&case, &rig);
        assert_eq!(line["outcome"], "indexed", "{case}: {line}");
        let told = line["code_standing"].as_str().unwrap_or_default();
        assert!(told.starts_with("unknown: "), "{case}: {line}");
        let stored = stub.documents();
        assert_eq!(stored.len(), 1, "{case}");
        assert!(
            stored.values().all(|event| event["pixel"]["signature"] == "none"),
            "{case}"
        );
    }))
    .await;
}

/// Nobody asks about hits without a code, of an index that is down, or when that is not wanted.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_in_vain() {
    let lookups = |stub: &IndexStub| stub.requests().iter().filter(|request| request.method == "GET").count();
    let stub = IndexStub::start().await;
    let unasked = Rig::start(to(&stub, "first", PATIENT)).await;
    open(&unasked, Ingress::Passthrough, "spring", "id-1").await;
    assert_eq!(lookups(&stub), 0);
    let rig = Rig::start(asking(to(&stub, "first", PATIENT))).await;
    for path in ["/pixel.gif", "/pixel"] {
        rig.invoke(hit(Ingress::Passthrough, path, path)).await;
    }
    // No document of the lists has such an id.
    open(&rig, Ingress::Passthrough, &"x".repeat(513), "id-2").await;
    assert_eq!(lookups(&stub), 0);
    open(&rig, Ingress::Passthrough, "spring", "id-3").await;
    assert_eq!(
        (lookups(&stub), last_hit(&rig)["outcome"].as_str()),
        (2, Some("indexed"))
    );
    assert_eq!(stub.violations(), Vec::<String>::new());

    let Timing(attempt, budget) = QUICK;
    let down = IndexStub::start().await;
    down.behave(Behaviour::Status(503, "{}".to_owned()));
    let rig = Rig::start(asking(to(&down, "first", Timing(attempt, budget)))).await;
    for number in 0..6 {
        open(&rig, Ingress::Passthrough, "spring", &format!("down-{number}")).await;
    }
    let line = last_hit(&rig);
    assert_eq!(line["breaker"], "open", "{line}");
    // An opt-out is asked for first, and its failure is enough.
    assert_eq!(lookups(&down), 3, "{line}");
    assert!(
        line["code_standing"]
            .as_str()
            .is_some_and(|told| told.contains("breaker")),
        "{line}"
    );
}

/// Where it cannot be looked up the start says why, and hits go their way.
#[tokio::test(flavor = "multi_thread")]
async fn what_makes_it_impossible_is_told_at_the_start() {
    let stub = IndexStub::start().await;
    let queue = format!("sqs+{}/000000000000/hits", stub.url());
    let cases = [
        (
            to(&stub, "first", QUICK).env("PIXEL_JOURNAL", "log"),
            "`PIXEL_JOURNAL` is `log`",
        ),
        (
            to(&stub, "first", QUICK).env("PIXEL_DESTINATION", queue),
            "is not an index",
        ),
        (
            to(&stub, "first", QUICK).env("PIXEL_DESTINATION", ""),
            "`PIXEL_DESTINATION` is not set",
        ),
    ];
    for (options, why) in cases {
        let rig = Rig::start(asking(options)).await;
        open(&rig, Ingress::Passthrough, "spring", "id-1").await;
        let told = rig
            .log_lines()
            .into_iter()
            .find(|line| line.contains("PIXEL_CODE_STANDING"));
        let told = told.unwrap_or_else(|| panic!("{why}: {:#?}", rig.log_lines()));
        assert!(told.contains(why) && told.contains("WARN"), "{told}");
        assert!(stub.requests().iter().all(|request| request.method != "GET"), "{why}");
    }
}

// Behind a queue.

fn request(path: &str, id: &str) -> String {
    String::from_utf8(hit(Ingress::Passthrough, path, id)).expect("text")
}

/// An event as the function puts it into a queue.
fn ready(code: &str, id: &str) -> String {
    let pixel = json!({"code": code, "signature": "valid"});
    let body = json!({"pixel": {"code": "spring", "signature": "none"}, "n": 1.5});
    json!({"@timestamp": "2026-05-28T20:26:40.123Z", "event": {"id": id}, "pixel": pixel, "body-json": body})
        .to_string()
}

fn batch_line(rig: &Rig) -> Value {
    let lines = rig.log_lines();
    let mut lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.rfind(|line| line["message"] == "batch").expect("a batch's line")
}

fn message(body: &str) -> Message {
    let id = serde_json::from_str::<Value>(body).expect("JSON");
    let id = id.pointer("/event/id").or(id.pointer("/context/extended-request-id"));
    (id.and_then(Value::as_str).expect("an id").to_owned(), body.to_owned())
}

/// Ids of what is stored, and their signatures.
fn signatures(index: &Index) -> BTreeMap<String, String> {
    let signature =
        |(id, event): (String, Value)| (id, event["pixel"]["signature"].as_str().expect("a text").to_owned());
    index.all().into_iter().map(signature).collect()
}

/// On each server, before and after the lists are there; requests that no function has seen and events that are made.
#[test]
fn a_batch_heeds_how_its_codes_stand() {
    matrix::each(|subject| {
        let index = Index::new(subject, "standing-batch");
        let properties =
            json!({"@timestamp": {"type": "date"}, "pixel": {"properties": {"code": {"type": "keyword"}}}});
        let mut body = subject.mappings(&properties);
        let fields = &mut body["mappings"];
        let fields = if subject.has_types() {
            &mut fields["_doc"]
        } else {
            fields
        };
        fields["dynamic"] = false.into();
        index.ask("PUT", "", Some(&body));
        let lists = deliverer(subject, &index);
        let (revoked, out, path) = ("it's \"7\"?", "gone/…", "it's%20%227%22%3F");
        let bodies = |turn: &str| {
            let id = |what: &str| format!("{turn}-{what}");
            let long = "x".repeat(513);
            [
                request("/pixel/spring.gif", &id("request")),
                request(&format!("/pixel/{path}.gif"), &id("revoked-request")),
                request("/pixel.gif?code=gone/%E2%80%A6", &id("out-request")),
                request("/pixel.gif", &id("no-code-request")),
                ready("spring", &id("event")),
                ready(revoked, &id("revoked-event")),
                ready(out, &id("out-event")),
                ready(&long, &id("long-event")),
                json!({"message": "journal", "event": serde_json::from_str::<Value>(&ready(out, &id("out-journal"))).expect("JSON")})
                    .to_string(),
            ]
        };
        let stored = matrix::block_on(async {
            let options = subject.variables().into_iter().fold(
                index_role::options(&subject.destination(&index.name)),
                |options, (name, value)| options.env(name, value),
            );
            let rig = Rig::start(asking(options)).await;
            for (turn, ignored) in [("before", 0), ("after", 3)] {
                let messages: Vec<Message> = bodies(turn)
                    .iter()
                    .enumerate()
                    .map(|(number, body)| (number.to_string(), body.clone()))
                    .collect();
                assert_eq!(
                    invoke(&rig, &messages).await,
                    set::<&str>([]),
                    "{}: {:?}",
                    subject.name,
                    rig.log_lines()
                );
                let line = batch_line(&rig);
                assert_eq!(line.get("code_standing"), None, "{}: {line}", subject.name);
                let mut expected = counted([("Indexed", 9 - ignored), ("Ignored", ignored)]);
                expected.retain(|_, count| *count > 0);
                assert_eq!(counts(&rig), expected, "{}: {line}", subject.name);
                lists.add(&listed(revoked, true)).await.ok();
                lists.add(&listed("spring", false)).await.ok();
                set_opted_out(&lists, out, true).await.expect("it is remembered");
            }
            signatures(&index)
        });
        for list in ["codes", "opt-outs"] {
            subject.ask("DELETE", &format!("/pixel-{list}-of-{}", index.name), None);
        }
        let mut expected = BTreeMap::new();
        for (turn, listed, mark) in [("before", "none", None), ("after", "listed", Some("revoked"))] {
            for (what, signature) in [
                ("request", listed),
                ("no-code-request", "none"),
                ("event", "valid"),
                ("long-event", "valid"),
            ] {
                expected.insert(format!("{turn}-{what}"), signature);
            }
            for (what, signature) in [("revoked-request", "none"), ("revoked-event", "valid")] {
                expected.insert(format!("{turn}-{what}"), mark.unwrap_or(signature));
            }
        }
        for (what, signature) in [
            ("out-request", "none"),
            ("out-event", "valid"),
            ("out-journal", "valid"),
        ] {
            expected.insert(format!("before-{what}"), signature);
        }
        let expected: BTreeMap<_, _> = expected.into_iter().map(|(id, mark)| (id, mark.to_owned())).collect();
        assert_eq!(stored, expected, "{}", subject.name);
    });
}

/// An index that answers lookups as a test says, and takes everything else.
fn looked_up(react: impl Fn(&Asked) -> Reaction + Send + Sync + 'static) -> SmallServer {
    SmallServer::start(move |asked| {
        let path = asked.path.split('?').next().unwrap_or_default();
        if path.ends_with("/_mget") {
            return react(asked);
        }
        let items = vec![json!({"create": {"status": 201}}); asked.body.lines().count() / 2];
        Reaction::json(200, &json!({"errors": false, "items": items}))
    })
}

/// The ids of a lookup.
fn wanted(asked: &Asked) -> Vec<String> {
    let ids = asked.json()["ids"].take();
    serde_json::from_value(ids).expect("a list of ids")
}

fn nothing_known(asked: &Asked) -> Reaction {
    let docs: Vec<_> = wanted(asked)
        .iter()
        .map(|id| json!({"_id": id, "found": false}))
        .collect();
    Reaction::json(200, &json!({"docs": docs}))
}

/// Many codes are looked up with few requests, each code once; a batch without codes asks nothing.
#[tokio::test(flavor = "multi_thread")]
async fn each_code_of_a_batch_is_looked_up_once() {
    let index = looked_up(|asked| {
        let known = |id: &String| {
            if asked.path.contains("opt-outs") {
                json!({"_id": id, "found": id.ends_with('9')})
            } else {
                json!({"_id": id, "found": true, "_source": {"revoked": id.ends_with('7').then_some(1)}})
            }
        };
        Reaction::json(
            200,
            &json!({"docs": wanted(asked).iter().map(known).collect::<Vec<_>>()}),
        )
    });
    let rig = Rig::start(asking(index_role::options(&format!("{}/events", index.url())))).await;
    let lookups = || -> Vec<Vec<String>> {
        let asked = index.asked();
        asked
            .iter()
            .filter(|asked| asked.path.contains("/_mget"))
            .map(wanted)
            .collect()
    };
    let plain: Vec<_> = [request("/pixel.gif", "a"), event("b", 1, 1).to_string()]
        .iter()
        .map(|body| message(body))
        .collect();
    assert_eq!(invoke(&rig, &plain).await, set::<&str>([]));
    assert_eq!(lookups(), Vec::<Vec<String>>::new());

    let bodies = (0..2_400).map(|number| ready(&format!("code-{}", number % 1_200), &format!("id-{number}")));
    let messages: Vec<_> = bodies.map(|body| message(&body)).collect();
    assert_eq!(invoke(&rig, &messages).await, set::<&str>([]));
    assert_eq!(counts(&rig), counted([("Indexed", 2_160), ("Ignored", 240)]));
    let lookups = lookups();
    assert_eq!(lookups.len(), 4, "two lists, twice");
    let asked: BTreeSet<_> = lookups.concat().into_iter().collect();
    assert_eq!((asked.len(), lookups.concat().len()), (1_200, 2_400));
    let written: String = index
        .asked()
        .iter()
        .filter(|asked| asked.path.contains("/_bulk"))
        .map(|asked| asked.body.as_str())
        .collect();
    let documents = written
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?.get("pixel").cloned());
    let (mut marked, mut others) = (0, 0);
    for pixel in documents.filter(|pixel| pixel["code"].is_string()) {
        let revoked = pixel["code"].as_str().expect("a code").ends_with('7');
        assert_eq!(pixel["signature"] == "revoked", revoked, "{pixel}");
        *if revoked { &mut marked } else { &mut others } += 1;
    }
    assert_eq!((marked, others), (240, 1_920));
}

type React = Box<dyn Fn(&Asked) -> Reaction + Send + Sync>;

/// Whatever the lookup comes to, the batch is indexed as it is; the log says that nothing was known.
#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_that_fails_costs_no_message() {
    let answers = |answer: Value| move |_: &Asked| Reaction::json(200, &answer);
    let status =
        |status: u16| move |_: &Asked| Reaction::Answer(status, r#"{"error":{"type":"some_exception"}}"#.to_owned());
    let cases: [(&str, React); 12] = [
        ("401", Box::new(status(401))),
        ("403", Box::new(status(403))),
        ("429", Box::new(status(429))),
        ("503", Box::new(status(503))),
        ("no list", Box::new(answers(json!({})))),
        ("too few", Box::new(answers(json!({"docs": []})))),
        (
            "too many",
            Box::new(answers(
                json!({"docs": [{"_id": "spring", "found": false}, {"_id": "b", "found": true}]}),
            )),
        ),
        ("neither", Box::new(answers(json!({"docs": [{"_id": "spring"}]})))),
        (
            "one of them",
            Box::new(answers(
                json!({"docs": [{"_id": "spring", "error": {"type": "no_shard_available_action_exception"}}]}),
            )),
        ),
        ("no answer", Box::new(|_| Reaction::Drop)),
        ("silence", Box::new(|_| Reaction::Silence)),
        (
            "the second list",
            Box::new(|asked| {
                if asked.path.contains("opt-outs") {
                    nothing_known(asked)
                } else {
                    Reaction::Answer(500, String::new())
                }
            }),
        ),
    ];
    for (case, react) in cases {
        let index = looked_up(react);
        let options = index_role::options(&format!("{}/events", index.url())).timeout(Duration::from_secs(8));
        let rig = Rig::start(asking(options)).await;
        let messages = [
            message(&ready("spring", "a")),
            message(&request("/pixel/spring.gif", "b")),
        ];
        assert_eq!(invoke(&rig, &messages).await, set::<&str>([]), "{case}");
        assert_eq!(counts(&rig), counted([("Indexed", 2)]), "{case}");
        let line = batch_line(&rig);
        let told = line["code_standing"].as_str().unwrap_or_default();
        assert!(told.starts_with("unknown: "), "{case}: {line}");
        let written: String = index
            .asked()
            .iter()
            .filter(|asked| asked.path.contains("/_bulk"))
            .map(|asked| asked.body.as_str())
            .collect();
        assert!(!written.contains("revoked"), "{case}: {written}");
    }
}

/// Without the variable nothing is asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_not_looked_up_unless_that_is_wanted() {
    let index = looked_up(nothing_known);
    let rig = Rig::start(index_role::options(&format!("{}/events", index.url()))).await;
    assert_eq!(invoke(&rig, &[message(&ready("spring", "a"))]).await, set::<&str>([]));
    assert_eq!(counts(&rig), counted([("Indexed", 1)]));
    assert!(index.asked().iter().all(|asked| !asked.path.contains("_mget")));
}

/// What waits in a queue or a file is not stored after its recipient has opted out, and leaves the queue; without an answer
/// nothing is stored, and nothing leaves it.
#[test]
fn a_replay_heeds_how_codes_stand() {
    let messages = || ["a", "b", "out"].map(|what| ready(what, &format!("id-{what}")));
    let queues = ["standing-unknown", "standing-known"].map(Queue::new);
    for queue in &queues {
        for message in messages() {
            queue.send(&message);
        }
    }
    let [unknown, known_of] = queues.each_ref().map(Queue::destination);
    let folder = tempfile::tempdir().expect("a folder can be made");
    std::fs::write(folder.path().join("events.ndjson"), messages().join("\n")).expect("it can be written");
    let known = |id: &String| json!({"_id": id, "found": id == "out"});
    let broken = || Reaction::Answer(503, String::new());
    for (source, answers) in [(unknown, false), (known_of, true), ("events.ndjson".to_owned(), true)] {
        let index = looked_up(move |asked| match asked.path.contains("opt-outs") {
            true if answers => Reaction::json(
                200,
                &json!({"docs": wanted(asked).iter().map(known).collect::<Vec<_>>()}),
            ),
            true => broken(),
            false => nothing_known(asked),
        });
        let destination = format!("{}/events", index.url());
        let output = serving::pixel(folder.path())
            .args(["replay", &source, "--json", "-d", &destination])
            .env("PIXEL_CODE_STANDING", "index")
            .output()
            .expect("pixel starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        let written: Vec<_> = index
            .asked()
            .into_iter()
            .filter(|asked| asked.path.contains("_bulk"))
            .collect();
        if answers {
            assert!(output.status.success(), "{source}: {errors}");
            let summary: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            assert_eq!(
                (&summary["indexed"], &summary["ignored"]),
                (&json!(2), &json!(1)),
                "{source}: {summary}"
            );
            assert!(
                written.iter().all(|asked| !asked.body.contains("id-out")),
                "{source}: {written:?}"
            );
        } else {
            assert!(
                !output.status.success() && errors.contains("PIXEL_CODE_STANDING"),
                "{source}: {errors}"
            );
            assert_eq!(written, []);
        }
    }
    assert_eq!(queues.each_ref().map(Queue::counts), [(0, 3), (0, 0)]);
}
