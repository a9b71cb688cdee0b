//! Two traps on AWS: environments that refuse extensions, and collections that pause.

use std::time::Duration;

use serde_json::{Value, json};

use crate::function::capture::{
    ORDERS, PATIENT, Timing, assert_image, hit, hits, log, only_hit, payload, side_by_side, stores, to,
};
use crate::support::index_stub::{Behaviour, IndexStub};
use crate::support::lambda_rig::{InvokeResult, Rig, RigOptions};

// Lambda Managed Instances refuse registrations for INVOKE.

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_registration_costs_no_hit() {
    let refusals = [
        (
            400,
            r#"{"errorType":"Extension.InvalidEventType","errorMessage":"INVOKE is not supported"}"#,
        ),
        (403, "Forbidden"),
        (404, ""),
        (500, "<html>"),
        // Accepted without an identifier.
        (200, "{}"),
    ];
    side_by_side(refusals.map(check_refused_registration)).await;
}

async fn check_refused_registration((status, body): (u16, &'static str)) {
    let case = &format!("status {status}");
    let stub = IndexStub::start().await;
    let rig = Rig::start(to(&stub, "first", PATIENT).refuse_registration(status, body)).await;
    let delay = Duration::from_millis(300);
    stub.behave(Behaviour::Delay(delay));
    for id in ["id-1", "id-2", "id-3"] {
        let invocation = rig.invoke(payload(&hit(id))).await;
        assert_image(case, &invocation);
        // Nobody would wait for what is left to do after the reply.
        assert!(
            invocation.reply_time >= Some(delay),
            "{case}: {:?}",
            invocation.reply_time
        );
    }
    let outcomes: Vec<_> = hits(case, &rig).iter().map(|line| line["outcome"].clone()).collect();
    assert_eq!(outcomes, ["indexed"; 3], "{case}");
    assert_eq!((stub.documents().len(), rig.cold_starts()), (3, 1), "{case}");
    let lines = log(case, &rig);
    let told: Vec<_> = lines.iter().filter(|line| line["message"] == "extension").collect();
    assert_eq!(told.len(), 1, "{case}: {lines:#?}");
    assert_eq!(told[0]["level"], "WARN", "{case}");
    let reason = told[0]["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains(case.as_str()) && reason.contains(body) && reason.contains("after-indexing"),
        "{case}: {reason}"
    );
}

/// The visitor waits for a pausing collection no longer than for another index.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_registration_has_the_budget_of_visitors_who_wait() {
    let stub = IndexStub::start().await;
    let options = collection(&stub, "first", None)
        .refuse_registration(403, "")
        .timeout(Duration::from_mins(1));
    let rig = Rig::start(options).await;
    stub.behave(Behaviour::NeverAnswer);
    let invocation = rig.invoke(payload(&hit("id-1"))).await;
    assert_image("refused", &invocation);
    assert!(
        invocation.reply_time < Some(Duration::from_secs(30)),
        "{:?}",
        invocation.reply_time
    );
}

// A collection of OpenSearch Serverless that has scaled to zero answers late.

/// A function that delivers to the stub as to a collection.
fn collection(stub: &IndexStub, order: &str, timing: Option<Timing>) -> RigOptions {
    let options = to(stub, order, timing.unwrap_or(PATIENT)).env("PIXEL_AUTH", "aoss");
    match timing {
        Some(_) => options,
        None => options.without("PIXEL_ATTEMPT_TIMEOUT_MS").without("PIXEL_BUDGET_MS"),
    }
}

/// Longer than the budget of an index that does not pause; the defaults themselves are checked in `config`.
const PAUSE: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_that_wakes_a_paused_collection_is_stored() {
    let (asleep, fallback) = (IndexStub::start().await, IndexStub::start().await);
    let options = collection(&asleep, "first", None)
        .env("PIXEL_FALLBACK", format!("{}/events", fallback.url()))
        .timeout(Duration::from_mins(1));
    let rig = Rig::start(options).await;
    asleep.behave(Behaviour::Delay(PAUSE));
    let invocation = rig.invoke(payload(&hit("id-1"))).await;
    assert_image("paused", &invocation);
    assert!(invocation.billed >= PAUSE && invocation.reply_time < Some(PAUSE));
    let line = only_hit("paused", &rig);
    for (name, value) in [
        ("outcome", json!("indexed")),
        ("attempts", json!(1)),
        ("breaker", json!("closed")),
    ] {
        assert_eq!(line[name], value, "{name}: {line}");
    }
    assert_eq!((asleep.documents().len(), fallback.documents().len()), (1, 0));
    let alarming = |line: &&Value| line["level"] == "ERROR" || line["Fallback"] == 1 || line["Failed"] == 1;
    let lines = log("paused", &rig);
    assert_eq!(lines.iter().find(alarming), None);
}

/// The same pause of an index that has no reason for it.
#[tokio::test(flavor = "multi_thread")]
async fn another_index_is_not_waited_for_as_long() {
    let stub = IndexStub::start().await;
    let options = collection(&stub, "first", None)
        .env("PIXEL_AUTH", "es")
        .timeout(Duration::from_mins(1));
    let rig = Rig::start(options).await;
    stub.behave(Behaviour::Delay(PAUSE));
    rig.invoke(payload(&hit("id-1"))).await;
    assert_eq!(only_hit("another index", &rig)["outcome"], "failed");
}

/// With less time than a pause takes, a timeout says nothing: the next hit is tried again. What refuses connections is down.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_may_be_waking_does_not_open_the_breaker() {
    side_by_side(ORDERS.map(check_waking)).await;
}

async fn check_waking(order: &'static str) {
    let stub = IndexStub::start().await;
    let rig = Rig::start(collection(&stub, order, Some(Timing(200, 400)))).await;
    stub.behave(Behaviour::NeverAnswer);
    for id in 0..5 {
        let invocation = rig.invoke(payload(&hit(&format!("id-{id}")))).await;
        assert!(matches!(invocation.result, InvokeResult::Reply(_)), "{order}");
    }
    assert!(stores(&stub).len() >= 5, "{order}: each is tried");
    let breakers = hits(order, &rig);
    assert!(
        breakers.iter().all(|line| line["breaker"] == "closed"),
        "{order}: {breakers:#?}"
    );
    stub.behave(Behaviour::Refuse);
    for id in 5..9 {
        rig.invoke(payload(&hit(&format!("id-{id}")))).await;
    }
    let last = hits(order, &rig).pop().expect("a line");
    assert_eq!(
        (&last["breaker"], &last["attempts"]),
        (&json!("open"), &json!(0)),
        "{order}: {last}"
    );
}
