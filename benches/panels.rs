//! How long each panel of the dashboards waits for OpenSearch 2.19.4 with a million events of the demo, and how long a
//! dashboard does whose panels all ask at once, as a browser makes them.
//!
//! `cargo bench --bench panels [-- --events N --rounds N --warm N --json FILE --pixel FILE]`. It needs what the tests need for that
//! server. The index is one that `pixel setup` made, with one shard; the searches are those that the two products send. Every
//! search is sent `rounds` times with the request cache off; what the products see on a second look is faster. On a machine
//! that others use, too, processor time (the median of what the server's threads took) says what a quiet machine would wait.
//! The server is as it comes, but for half a gigabyte of heap, and warm: every panel is asked `warm` times before.
//!
//! Wanted: 300 ms for a panel, 2 s for a dashboard.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a benchmark prints, may fail where it stands, and shares tools that it does not use all of"
)]

#[path = "../tests/it/dashboards/check.rs"]
mod check;
#[path = "../tests/it/dashboards/events.rs"]
mod events;
#[path = "../tests/it/dashboards/kql.rs"]
mod kql;
#[path = "../tests/it/dashboards/search.rs"]
mod search;
#[path = "../tests/support/servers.rs"]
mod servers;
#[path = "../tests/support/setup.rs"]
mod setup;
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use check::inner;
use chrono::{DateTime, SecondsFormat, Utc};
use pixel::cli::saved_objects::{INDEX_PATTERN, objects};
use search::Range;
use serde_json::{Value, json};
use servers::{Compiles, Own, Running, Server};
use support::{Options, build, cpu, machine, milliseconds};

/// When the last event happened, and every look at it.
fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_780_000_000_000).unwrap()
}

/// A panel's search.
struct Panel {
    dashboard: String,
    id: String,
    body: Value,
}

fn main() {
    let options = Options::read();
    let pixel = options.after("--pixel").map(PathBuf::from);
    let pixel = pixel.unwrap_or_else(|| build("cli", ["--bin", "pixel"]));
    let events = options.number("--events", 1_000_000);
    let rounds = options.number("--rounds", 7);
    println!("{}\n", machine());
    let own = Own::start_as(Server::OpenSearch2, Compiles::AsItComes);
    let running = &own.running;
    let index = format!("panels-bench-{}", std::process::id());
    fill(running, &pixel, &index, events);
    let panels = panels();
    for panel in (0..options.number("--warm", 5)).flat_map(|_| &panels) {
        ask(running, &index, &panel.body);
    }
    println!(
        "{:<14} {:<30} {:>9} {:>9} {:>9} {:>9}",
        "dashboard", "panel", "processor", "fastest", "median", "slowest"
    );
    let (mut slowest, mut figures) = (BTreeMap::new(), Vec::new());
    for panel in &panels {
        let (times, processor) = measure(rounds, running, || ask(running, &index, &panel.body));
        let (fastest, median, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
        let [busy, fastest, middle, most] = [processor, fastest, median, most].map(milliseconds);
        println!(
            "{:<14} {:<30} {busy:>6.0} ms {fastest:>6.0} ms {middle:>6.0} ms {most:>6.0} ms",
            panel.dashboard, panel.id
        );
        let worst = slowest.entry(panel.dashboard.as_str()).or_insert(Duration::ZERO);
        *worst = median.max(*worst);
        figures.push(json!({
            "panel": panel.id, "processor_ms": busy, "fastest_ms": fastest, "median_ms": middle, "slowest_ms": most,
        }));
    }
    println!();
    for (dashboard, worst) in slowest {
        let bodies: Vec<_> = panels.iter().filter(|panel| panel.dashboard == dashboard).collect();
        let (times, processor) = measure(rounds, running, || all_at_once(running, &index, &bodies));
        let [busy, fastest, median] = [processor, times[0], times[times.len() / 2]].map(milliseconds);
        println!(
            "{dashboard:<14} {} panels at once: fastest {fastest:.0} ms, median {median:.0} ms, processor time {busy:.0} ms; its \
             slowest panel alone {:.0} ms",
            bodies.len(),
            milliseconds(worst)
        );
        figures.push(json!({
            "dashboard": dashboard, "processor_ms": busy, "fastest_ms": fastest, "median_ms": median,
        }));
    }
    options.write(&json!({"events": events, "figures": figures}));
}

fn fill(running: &Running, pixel: &Path, index: &str, events: usize) {
    let url = format!("{}/{index}", running.url);
    let run = |arguments: &[&str]| {
        let output = Command::new(pixel).env_clear().args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run(&["setup", "-d", &url]);
    let end = now().to_rfc3339_opts(SecondsFormat::Millis, true);
    run(&[
        "demo",
        "-d",
        &url,
        "--events",
        &events.to_string(),
        "--days",
        "30",
        "--end",
        &end,
    ]);
    servers::request(running, "POST", &format!("/{index}/_refresh"), None);
    let (_, count) = servers::request(running, "GET", &format!("/{index}/_count"), None);
    println!("{count}\n");
}

/// The searches of all panels that have one.
fn panels() -> Vec<Panel> {
    let objects = objects(INDEX_PATTERN).unwrap();
    let mut panels = Vec::new();
    for dashboard in objects.iter().filter(|object| object["type"] == "dashboard") {
        let range = Range::since(dashboard["attributes"]["timeFrom"].as_str().unwrap(), now());
        let references = dashboard["references"].as_array().cloned().unwrap_or_default();
        for reference in references {
            let found = |object: &&Value| object["type"] == reference["type"] && object["id"] == reference["id"];
            let object = objects.iter().find(found).unwrap();
            let Some(body) = body(object, range) else { continue };
            panels.push(Panel {
                dashboard: text(&dashboard["id"]),
                id: text(&object["id"]),
                body,
            });
        }
    }
    panels
}

fn body(object: &Value, range: Range) -> Option<Value> {
    let state = inner(object, "/attributes/visState");
    let kind = state
        .as_ref()
        .map_or("search", |state| state["type"].as_str().unwrap_or_default());
    match kind {
        "markdown" => None,
        "search" => Some(search::list(object, range)),
        "vega" => {
            let state = state?;
            let specification: Value = serde_json::from_str(state["params"]["spec"].as_str()?).ok()?;
            Some(search::vega(&specification["data"][0]["url"], range))
        }
        _ => Some(search::visualization(object, range)),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// How long each round took, in order, and the median of what the server's threads took of the processors for one.
fn measure(rounds: usize, running: &Running, work: impl Fn() -> Duration) -> (Vec<Duration>, Duration) {
    let round = |_| {
        let before = cpu(running.pid);
        let took = work();
        // A thread that ends meanwhile takes its account with it.
        (took, cpu(running.pid).saturating_sub(before))
    };
    let (mut times, mut processor): (Vec<_>, Vec<_>) = (0..rounds).map(round).unzip();
    times.sort_unstable();
    processor.sort_unstable();
    (times, processor[processor.len() / 2])
}

fn ask(running: &Running, index: &str, body: &Value) -> Duration {
    let began = Instant::now();
    let path = format!("/{index}/_search?request_cache=false");
    let (status, answer) = servers::request(running, "POST", &path, Some(&body.to_string()));
    let took = began.elapsed();
    assert!(
        status == 200 && answer.contains("\"failed\":0"),
        "{body}\n{status} {answer}"
    );
    took
}

fn all_at_once(running: &Running, index: &str, panels: &[&Panel]) -> Duration {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for panel in panels {
            scope.spawn(|| ask(running, index, &panel.body));
        }
    });
    began.elapsed()
}
