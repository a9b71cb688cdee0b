//! How fast `pixel demo` is: into SQLite, and into a real OpenSearch beside a bare loader that sends the same `_bulk` bodies,
//! prepared beforehand, two at a time as the demo does.
//!
//! `cargo bench --bench demo [-- --events N --rounds N --json FILE --pixel FILE]`. It needs what the tests need for that server.
//! The server runs on the same machine: what the demo's making of events costs, the server does not get, other than in life.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a benchmark prints, may fail where it stands, and shares tools that it does not use all of"
)]

#[path = "../tests/support/servers.rs"]
mod servers;
#[path = "../tests/support/setup.rs"]
mod setup;
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat};
use pixel::cli::demo::generator::Demo;
use pixel::client::http::{ClientRequest, Deliverer, http_client};
use pixel::config::{Config, Timing};
use pixel::destination::Destination;
use pixel::destination::bulk::{BulkRequest, Limits, RequestForm};
use pixel::hit::event::Event;
use serde_json::{Value, json};
use servers::{Running, Server};
use support::{Options, build, machine};

/// As many as the demo sends in one request.
const BATCH: usize = 2_500;

fn main() {
    let options = Options::read();
    let pixel = options.after("--pixel").map(PathBuf::from);
    let pixel = pixel.unwrap_or_else(|| build("cli", ["--bin", "pixel"]));
    let demo = Demo {
        seed: 1,
        events: u32::try_from(options.number("--events", 100_000)).unwrap(),
        days: 30,
        end: DateTime::from_timestamp_millis(1_780_000_000_000).unwrap(),
    };
    let rounds = options.number("--rounds", 5);
    println!("{}\n{} events\n", machine(), demo.events);
    let events: Vec<Event> = demo.events(&Config::default()).collect();
    let bytes: usize = events.iter().map(|event| event.document.len()).sum();
    println!("{:<46} {:>8}", "average document in bytes", bytes / events.len());
    let file = best((0..rounds).map(|_| into_sqlite(&pixel, &demo)));
    report("pixel demo into SQLite", &demo, file);
    let (bare, ours) = into_opensearch(&pixel, &demo, &events, rounds);
    let ratio = bare.as_secs_f64() / ours.as_secs_f64();
    println!("{:<46} {ratio:>8.2}", "demo / bare loader, best of each");
    let figures = [("sqlite", file), ("opensearch_bare", bare), ("opensearch", ours)];
    let seconds: Value = figures.iter().map(|(name, took)| (*name, took.as_secs_f64())).collect();
    options.write(&json!({"events": demo.events, "bytes": bytes, "seconds": seconds, "ratio": ratio}));
}

fn best(times: impl Iterator<Item = Duration>) -> Duration {
    times.min().expect("there is a round")
}

fn report(what: &str, demo: &Demo, took: Duration) {
    let speed = f64::from(demo.events) / took.as_secs_f64();
    println!("{what:<46} {speed:>8.0} events/s");
}

/// Runs the command line, from its start to its end.
fn run(pixel: &Path, demo: &Demo, destination: &str) -> Duration {
    let numbers = [
        ("--seed", demo.seed.to_string()),
        ("--events", demo.events.to_string()),
        ("--days", demo.days.to_string()),
        ("--end", demo.end.to_rfc3339_opts(SecondsFormat::Millis, true)),
    ];
    let mut command = Command::new(pixel);
    command
        .env_clear()
        .args(["demo", "--json", "--destination", destination]);
    for (name, value) in &numbers {
        command.args([name, value.as_str()]);
    }
    let began = Instant::now();
    let output = command.output().unwrap();
    let took = began.elapsed();
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["stored"], demo.events, "{summary}");
    took
}

fn into_sqlite(pixel: &Path, demo: &Demo) -> Duration {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    run(
        pixel,
        demo,
        &format!("sqlite:{}", folder.path().join("pixel.db").display()),
    )
}

/// The best times of the bare loader and of the demo, which take turns.
fn into_opensearch(pixel: &Path, demo: &Demo, events: &[Event], rounds: usize) -> (Duration, Duration) {
    let running = servers::start(Server::OpenSearch2);
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    // What the server learns in the round before the first would count for the second of the two only.
    for round in 0..=rounds {
        let name = |what: &str| format!("demo-bench-{what}-{}-{round}", std::process::id());
        let loaded = with_index(&running, pixel, &name("bare"), |url| send_prepared(url, events));
        let filled = with_index(&running, pixel, &name("demo"), |url| run(pixel, demo, url));
        if round > 0 {
            report("  bare loader into OpenSearch", demo, loaded);
            report("  pixel demo into OpenSearch", demo, filled);
            bare.push(loaded);
            ours.push(filled);
        }
    }
    (best(bare.into_iter()), best(ours.into_iter()))
}

/// Times something with an index that `pixel setup` has made, and removes the index.
fn with_index(running: &Running, pixel: &Path, index: &str, act: impl FnOnce(&str) -> Duration) -> Duration {
    let url = format!("{}/{index}", running.url);
    let made = Command::new(pixel)
        .env_clear()
        .args(["setup", "-d", &url])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let took = act(&url);
    for path in [format!("/{index}"), format!("/_index_template/{index}")] {
        servers::request(running, "DELETE", &path, None);
    }
    took
}

/// Sends bodies, and does nothing else.
fn send_prepared(url: &str, events: &[Event]) -> Duration {
    let destination = Destination::parse(url, None, None);
    let Ok(Destination::OpenSearch(target)) = destination else {
        panic!("{destination:?}")
    };
    let batches: Vec<BulkRequest> = events
        .chunks(BATCH)
        .flat_map(|part| target.bulk(part, RequestForm::default(), Limits::default()))
        .collect();
    let timing = Timing::default();
    let deliverer = Arc::new(Deliverer::new(
        http_client(None, &timing).unwrap(),
        target,
        timing,
        None,
    ));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let began = Instant::now();
    runtime.unwrap().block_on(async {
        let mut under_way = tokio::task::JoinSet::new();
        for batch in batches {
            if under_way.len() == 2 {
                under_way.join_next().await.unwrap().unwrap();
            }
            under_way.spawn(send(Arc::clone(&deliverer), batch));
        }
        under_way.join_all().await;
    });
    began.elapsed()
}

async fn send(deliverer: Arc<Deliverer>, batch: BulkRequest) {
    let BulkRequest { request, body, .. } = batch;
    let sent = deliverer.send(
        ClientRequest::json(request.method, request.url, body),
        usize::MAX,
        Duration::from_mins(1),
    );
    let answer = sent.await.unwrap();
    assert!(answer.body.starts_with(br#"{"errors":false"#));
}
