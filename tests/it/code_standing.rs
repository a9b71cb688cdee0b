//! The function looks up how a hit's code stands, after its reply: a revoked code is marked, and of a recipient who has opted
//! out nothing is stored, from the next hit on.

use std::time::Duration;

use chrono::{DateTime, Utc};
use pixel::manage::index::opt_out;
use pixel::manage::{Listed, Store};
use pixel::question::Moment;
use pixel::request::Ingress;
use pixel::stage::gateway::{Arrived, payload};
use serde_json::Value;

use crate::function::{ORDERS, PATIENT, QUICK, Timing, only_hit, side_by_side, to};
use crate::index_role::blocking;
use crate::index_stub::{Behaviour, IndexStub};
use crate::lambda_rig::{InvokeResult, Rig, RigOptions};
use crate::matrix::{self, Index};
use crate::questions::deliverer;

const BOOTSTRAP: &str = env!("CARGO_BIN_EXE_bootstrap");

fn asking(options: RigOptions) -> RigOptions {
    options.env("PIXEL_CODE_STANDING", "index")
}

fn hit(ingress: Ingress, path: &str, id: &str) -> Vec<u8> {
    let arrived = Arrived {
        method: "GET".to_owned(),
        path: path.to_owned(),
        query: String::new(),
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

fn listed(code: &str, revoked: bool) -> Listed {
    let time = Moment::of_millis(1_779_000_000_000);
    Listed {
        code: code.to_owned(),
        created_at: time,
        campaign: None,
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
    opt_out(&lists, code, true).await.expect("it is remembered");
    assert_eq!(opened(Ingress::Passthrough).await, ignored);
    assert_eq!(opened(Ingress::Http).await, ignored);
    opt_out(&lists, code, false).await.expect("it is forgotten");
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
        (to(&stub, "first", QUICK).env("PIXEL_DESTINATION", queue), "is no index"),
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
