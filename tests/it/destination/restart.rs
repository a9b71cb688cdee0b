//! A real server that is killed in the middle of a batch and started again, while visitors come: what was acknowledged is
//! there, and everything else comes there, each once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pixel::hit::pixel::GIF;
use serde_json::{Value, json};

use crate::function::index_role::{Message, batch, blocking, events, failures, invoke, options, set};
use crate::support::fault_proxy::{Fault, FaultProxy};
use crate::support::lambda_rig::{InvokeResult, Rig};
use crate::support::matrix::{self, Subject};
use crate::support::queue::Queue;
use crate::support::servers::Own;
use crate::support::serving::{run, serve};

const INDEX: &str = "events-restart";

/// Of one batch: two requests.
const COUNT: usize = 3_500;

/// Before, in the middle of and after the kill.
const HITS: usize = 12;

fn messages(prefix: &str) -> Vec<Message> {
    let renamed = |(id, body): Message| {
        let id = id.replace("message", prefix);
        (id, body.replace("event-", &format!("{prefix}-")))
    };
    events(COUNT, 900).into_iter().map(renamed).collect()
}

/// The ids in the index, of events and of hits, the latter as `hit-NUMBER`.
fn found(subject: &Subject) -> BTreeSet<String> {
    subject.expect("POST", &format!("/{INDEX}/_refresh"), None);
    let search = json!({"size": 10_000, "_source": ["params.querystring.n"]});
    let found = subject.expect("POST", &format!("/{INDEX}/_search"), Some(&search));
    let hits = found["hits"]["hits"].as_array().expect("a search has hits");
    let name = |hit: &Value| match hit.pointer("/_source/params/querystring/n").and_then(Value::as_str) {
        Some(number) => format!("hit-{number}"),
        None => hit["_id"].as_str().expect("an id").to_owned(),
    };
    let names: BTreeSet<_> = hits.iter().map(name).collect();
    assert_eq!(names.len(), hits.len(), "something is doubled");
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_the_middle_and_started_again_has_each_hit_once() {
    let own = blocking(|| Own::start(matrix::any_server())).await;
    let subject = Subject {
        name: "a server of its own",
        server: own.running.server,
        running: own.running.clone(),
    };
    let asked = subject.clone();
    blocking(move || {
        let properties = json!({"@timestamp": {"type": "date"}, "n": {"type": "long"}});
        let mut body = asked.mappings(&properties);
        let fields = if asked.has_types() {
            &mut body["mappings"]["_doc"]
        } else {
            &mut body["mappings"]
        };
        fields["dynamic"] = false.into();
        asked.expect("PUT", &format!("/{INDEX}"), Some(&body));
    })
    .await;
    let own = Arc::new(Mutex::new(own));
    let proxy = FaultProxy::before(&subject.running.url);
    let destination = format!("{}/{INDEX}", proxy.url());
    let rig = Rig::start(options(&destination).timeout(Duration::from_secs(15))).await;
    let queue = blocking(|| Queue::new("restart")).await;
    let served = serve()
        .to(&destination)
        .variable("PIXEL_FALLBACK", &queue.destination())
        .variable("PIXEL_BUDGET_MS", "600")
        .variable("PIXEL_ATTEMPT_TIMEOUT_MS", "300");
    let served = blocking(move || served.start()).await;
    let visit = |numbers: std::ops::Range<usize>| {
        for number in numbers {
            let reply = served.get(&format!("/pixel.gif?n={number}"));
            assert_eq!(
                (reply.status, reply.body.as_slice()),
                (200, GIF.as_slice()),
                "hit {number}"
            );
        }
    };

    let (first, second) = (messages("first"), messages("second"));
    assert_eq!(invoke(&rig, &first).await, set::<&str>([]));
    tokio::task::block_in_place(|| visit(0..HITS / 3));
    let (requests, spare) = (AtomicUsize::new(0), Arc::clone(&own));
    proxy.choose_by(move |request| {
        // The second request of the batch finds nobody any more.
        if request.contains("/_bulk") && requests.fetch_add(1, Ordering::Relaxed) == 1 {
            spare.lock().unwrap_or_else(PoisonError::into_inner).kill();
        }
        Fault::None
    });
    let (_, invocation) = rig.invoke_observing(batch(&second));
    let gone = Arc::clone(&own);
    blocking(move || {
        crate::support::serving::wait_for("the kill", || {
            let own = gone.lock().unwrap_or_else(PoisonError::into_inner);
            (!own.is_alive()).then_some(())
        });
    })
    .await;
    tokio::task::block_in_place(|| visit(HITS / 3..2 * HITS / 3));
    let invocation = invocation.await.expect("it does not panic");
    assert!(
        matches!(invocation.result, InvokeResult::Reply(_)),
        "{:?}",
        invocation.result
    );
    let mut left = failures(&invocation.reply_json());
    assert!(!left.is_empty(), "the second request has no answer");

    let again = Arc::clone(&own);
    blocking(move || again.lock().unwrap_or_else(PoisonError::into_inner).start_again()).await;
    proxy.set(Fault::None);
    // What was acknowledged has outlived the kill.
    let acknowledged: BTreeSet<_> = first.iter().chain(&second).map(|(id, _)| id.clone()).collect();
    let acknowledged: BTreeSet<_> = acknowledged.difference(&left).cloned().collect();
    let asked = subject.clone();
    let there = blocking(move || found(&asked)).await;
    let lost: Vec<_> = acknowledged.difference(&there).take(5).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");

    tokio::task::block_in_place(|| visit(2 * HITS / 3..HITS));
    for _ in 0..5 {
        let rest: Vec<_> = second.iter().filter(|(id, _)| left.contains(id)).cloned().collect();
        left = invoke(&rig, &rest).await;
        if left.is_empty() {
            break;
        }
    }
    assert_eq!(left, set::<&str>([]));
    served.signal("TERM");
    let (status, serve) = blocking(move || served.ended()).await;
    assert!(status.success());
    let direct = format!("{}/{INDEX}", subject.running.url);
    let everything = blocking(move || {
        let output = run(serve.folder(), &["replay", &queue.destination(), "-d", &direct]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        found(&subject)
    });
    let mut expected: BTreeSet<_> = first.into_iter().chain(second).map(|(id, _)| id).collect();
    expected.extend((0..HITS).map(|number| format!("hit-{number}")));
    assert_eq!(everything.await, expected);
}
