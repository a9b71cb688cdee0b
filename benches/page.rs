//! How long the page of `pixel serve` takes over a million events, in a real browser, and how long a new hit is under way to it.
//!
//! `cargo bench --bench page [-- --events N --rounds N --json FILE --pixel FILE]`. It needs Chromium.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a benchmark prints, may fail where it stands, and shares tools that it does not use all of"
)]

#[path = "../tests/support/chromium.rs"]
mod chromium;
#[path = "../tests/support/serving.rs"]
mod serving;
#[path = "../tests/support/setup.rs"]
mod setup;
mod support;

use std::process::Command;
use std::time::Instant;

use chromium::{Tab, browser};
use serde_json::{Value, json};
use serving::{request, run, send, serve};
use support::Options;

/// What is waited for, by the milliseconds since the browser was told to go there.
const MARKS: [(&str, &str); 4] = [
    (
        "totals and shares",
        "document.querySelectorAll('#totals dd').length > 0",
    ),
    ("the plot", "!!document.querySelector('#series canvas')"),
    ("the latest hits", "document.querySelectorAll('#live tr').length > 0"),
    (
        "every list",
        "document.querySelectorAll('#lists section').length === 10",
    ),
];

/// Notes when each mark was first true, as the page itself sees it.
fn watcher() -> String {
    let marks: Vec<_> = MARKS
        .iter()
        .map(|(_, expression)| format!("() => {expression}"))
        .collect();
    format!(
        "window.reached = [];
         addEventListener('DOMContentLoaded', () => {{
           const marks = [{}];
           const look = () => marks.forEach((mark, place) => {{ if (reached[place] == null && mark()) reached[place] = performance.now(); }});
           new MutationObserver(look).observe(document.body, {{childList: true, subtree: true, attributes: true}});
         }});",
        marks.join(", ")
    )
}

fn load(tab: &Tab<'_>, url: &str) -> Vec<f64> {
    // Only a new document is loaded; a change behind `#` is none.
    tab.value(&format!(
        "window.stale = true; setTimeout(() => {{ location.href = {}; location.reload(); }}); 0",
        json!(url)
    ));
    let count = MARKS.len();
    let all = format!("!window.stale && reached.filter(it => it != null).length === {count}");
    tab.wait("the whole page", &all);
    let reached = tab.value("reached");
    reached
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_f64().unwrap())
        .collect()
}

/// The least, the middle, and what 95 of 100 stay below.
fn summary(mut times: Vec<f64>) -> [f64; 3] {
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    [times[0], at(50), at(95)]
}

fn show(what: &str, times: Vec<f64>, figures: &mut Vec<Value>) {
    let [least, middle, most] = summary(times);
    println!("| {what:<44} | {least:>7.0} | {middle:>7.0} | {most:>7.0} |");
    figures.push(json!({"what": what, "minimum_ms": least, "median_ms": middle, "p95_ms": most}));
}

fn main() {
    let options = Options::read();
    let events = options.number("--events", 1_000_000).to_string();
    let rounds = options.number("--rounds", 20);
    let world = serve();
    let made = Command::new(env!("CARGO_BIN_EXE_pixel"))
        .args(["demo", "--events", &events, "--days", "60"])
        .current_dir(world.folder())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let scopes = ["token", "new", "--scope", "stats:read,events:read,codes:write"];
    let printed = String::from_utf8(run(world.folder(), &scopes).stdout).unwrap();
    let token = printed
        .split_whitespace()
        .find(|word| word.starts_with("pixel_"))
        .unwrap()
        .to_owned();
    let served = world.argument("--quiet").start();
    let browser = browser();
    let tab = browser.tab();
    tab.before_each_page(&watcher());
    // The token stays in the tab.
    tab.go(&format!("{}/#token={token}", served.url()));
    tab.wait("the numbers", MARKS[3].1);

    println!("{events} events, {rounds} rounds, milliseconds\n");
    println!("| {:<44} | minimum | median  | p95     |", "until there are");
    println!("|{:-<46}|---------|---------|---------|", "");
    let mut figures = Vec::new();
    for (period, hash) in [("30 days", ""), ("24 hours", "#/?since=24h"), ("all", "#/?since=all")] {
        let rounds: Vec<_> = (0..rounds)
            .map(|_| load(&tab, &format!("{}/{hash}", served.url())))
            .collect();
        for (place, (mark, _)) in MARKS.iter().enumerate() {
            let times = rounds.iter().map(|times| times[place]).collect();
            show(&format!("{mark}, {period}"), times, &mut figures);
        }
    }

    load(&tab, &format!("{}/", served.url()));
    tab.wait(
        "the stream",
        "document.querySelector('#following').innerText === 'as they come'",
    );
    let times = (0..rounds)
        .map(|round| {
            let begun = Instant::now();
            send(
                served.address,
                &request("GET", &format!("/pixel.gif?action=round{round}"), &[]),
            );
            let shown = format!("document.querySelector('#live tr').innerText.includes('round{round}')");
            tab.wait("the hit", &shown);
            begun.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    show("the hit that was just sent, looked for every 20", times, &mut figures);
    options.write(&json!({"events": events, "figures": figures}));
}
