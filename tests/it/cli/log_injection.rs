//! A visitor's text in a log is never read back as an event, in any form of log that is read.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Child;

use pixel::sqlite::{Reader, Store};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::support::serving::{pixel, request, send, signal, wait, wait_for};

/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:9/events";

/// What somebody would send who knows the forms of our lines.
const PIECES: [&str; 26] = [
    r#"{"message":"journal","event":{"params":{"path":{"code":1}}}}"#,
    r#"{"message":"undelivered event","event":{"@timestamp":"2020-01-01T00:00:00Z","event":{"id":"forged-1"}}}"#,
    r#"{"@timestamp":"2020-01-01T00:00:00Z","event":{"id":"forged-2"}}"#,
    r#"{"params":{"path":{},"querystring":{},"header":{}},"context":{"http-method":"GET","resource-path":"/pixel.gif"}}"#,
    r#"{"version":"2.0","requestContext":{"http":{"method":"GET","path":"/pixel.gif"}}}"#,
    r#"{"events":[{"message":"{\"message\":\"journal\",\"event\":{\"params\":{}}}"}]}"#,
    r#"{"outcome":"indexed","event_id":"forged-3"}"#,
    r#"{"message":"journal","event":{"a":""#,
    r#"","params":{"path":{"code":"spring-mail"}}}}"#,
    r#"","@timestamp":"2020-01-01T00:00:00Z","event":{"id":"forged-4"}}}"#,
    r#"","message":"journal","event":{"params":{}},"x":""#,
    "{",
    "}",
    "\"",
    "\\",
    "\\\"",
    "\n",
    "\r\n",
    "\u{2028}",
    "\u{85}",
    "%7B",
    "é",
    "  ",
    "2026-05-28T20:26:41Z host pixel[1]: ",
    "pixel-1  | ",
    "\t",
];

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(&PIECES[..]).prop_map(ToOwned::to_owned),
        1 => "\\PC{0,12}",
    ];
    prop::collection::vec(piece, 1..4).prop_map(|pieces| pieces.concat())
}

fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// A text as a header takes it.
fn header(text: &str) -> Vec<u8> {
    text.bytes()
        .filter(|byte| *byte == b'\t' || (*byte >= 0x20 && *byte != 0x7f))
        .collect()
}

/// Hits in whose every place such texts stand.
fn hits(count: usize) -> Vec<Vec<u8>> {
    let mut runner = TestRunner::deterministic();
    let strategy = (text(), text(), text(), text());
    (0..count)
        .map(|number| {
            let value = strategy.new_tree(&mut runner).expect("a value").current();
            let (code, agent, query, referrer) = if number < PIECES.len() {
                let piece = || PIECES[number].to_owned();
                (piece(), piece(), piece(), piece())
            } else {
                value
            };
            let target = format!("/pixel/{}.gif?x={}&{}=1", encode(&code), encode(&query), encode(&query));
            let headers = [("User-Agent", &*header(&agent)), ("Referer", &*header(&referrer))];
            request("GET", &target, &headers)
        })
        .collect()
}

/// A `pixel serve` whose stdout and stderr are one log, as under systemd.
struct Logged {
    child: Child,
    log: PathBuf,
}

impl Logged {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let log = folder.join("serve.log");
        let file = File::create(&log).expect("the log");
        let mut command = pixel(folder);
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
        command.env("PIXEL_BUDGET_MS", "100");
        command.stdout(file.try_clone().expect("the log")).stderr(file);
        let child = command.spawn().expect("pixel starts");
        Self { child, log }
    }

    fn read(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).expect("the log")).into_owned()
    }

    /// Sends hits, waits until the log is whole, and ends the server.
    fn serve(mut self, hits: &[Vec<u8>], is_whole: impl Fn(&str) -> bool) -> String {
        let address: SocketAddr = wait_for("its address", || {
            let log = self.read();
            log.contains("Ctrl-C stops").then_some(())?;
            let url = log.lines().find_map(|line| line.strip_prefix("pixel   http://"))?;
            url.split('/').next()?.parse().ok()
        });
        for hit in hits {
            let shown = String::from_utf8_lossy(hit);
            assert_eq!(send(address, hit).body.len(), 43, "{shown}");
        }
        wait_for("the whole log", || is_whole(&self.read()).then_some(()));
        signal(&self.child, "TERM");
        wait(&mut self.child);
        self.read()
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The forms in which a log is kept.
fn forms(log: &str) -> Vec<(&'static str, String)> {
    let lines: Vec<_> = log.split('\n').filter(|line| !line.is_empty()).collect();
    let with = |prefix: &str| {
        lines
            .iter()
            .map(|line| [prefix, line, "\n"].concat())
            .collect::<String>()
    };
    let event = |line: &&str| json!({"timestamp": 1, "message": line, "logStreamName": "a"});
    let export = json!({"events": lines.iter().map(event).collect::<Vec<_>>(), "searchedLogStreams": []});
    vec![
        ("as it is", log.to_owned()),
        ("systemd", with("May 28 20:26:41 host pixel[123]: ")),
        ("systemd, ISO", with("2026-05-28T20:26:41+0200 host pixel[123]: ")),
        ("Docker", with("2026-05-28T20:26:41.123456789Z ")),
        ("Docker Compose", with("pixel-1  | ")),
        ("Kubernetes", with("2026-05-28T20:26:41.123456789Z stderr F ")),
        (
            "aws logs tail",
            with("2026-05-28T20:26:41.123000+00:00 web/pixel/0123 "),
        ),
        ("filter-log-events", export.to_string()),
        (
            "filter-log-events, pretty",
            serde_json::to_string_pretty(&export).expect("JSON"),
        ),
    ]
}

/// The ids that a replay of a log stores.
fn replayed(folder: &Path, log: &str) -> BTreeSet<String> {
    std::fs::write(folder.join("copy.log"), log).expect("it can be written");
    let _ = std::fs::remove_file(folder.join("replayed.db"));
    let mut command = pixel(folder);
    let output = command
        .args(["replay", "--json", "copy.log", "-d", "sqlite:replayed.db"])
        .output();
    let output = output.expect("pixel starts");
    let summary: Value = serde_json::from_slice(&output.stdout).expect("a summary");
    assert_eq!(
        (&summary["refused"], &summary["failed"]),
        (&json!(0), &json!(0)),
        "{summary}"
    );
    let reader = Reader::open(&folder.join("replayed.db")).expect("the store");
    let stored = reader.events_after(0, 100_000).expect("it can be read");
    stored.into_iter().map(|(_, event)| event.id).collect()
}

#[test]
fn a_log_of_hits_that_were_stored_holds_no_event() {
    let hits = hits(150);
    for (arguments, line) in [(&[][..], "  indexed  "), (&["--json"], "\"indexed\"")] {
        let folder = tempfile::tempdir().expect("a folder");
        let logged = Logged::start(folder.path(), arguments);
        let log = logged.serve(&hits, |log| log.matches(line).count() >= hits.len());
        for (form, log) in forms(&log) {
            assert_eq!(replayed(folder.path(), &log), BTreeSet::new(), "{form} {arguments:?}");
        }
    }
}

#[test]
fn a_log_of_hits_that_were_not_stored_holds_each_once() {
    let hits = hits(120);
    for json in [&[][..], &["--json"]] {
        let folder = tempfile::tempdir().expect("a folder");
        let arguments = [json, &["-d", NOWHERE, "--access-log", "access.ndjson"]].concat();
        let logged = Logged::start(folder.path(), &arguments);
        let log = logged.serve(&hits, |log| {
            log.matches(r#""message":"undelivered event""#).count() >= hits.len()
        });
        let noted = std::fs::read_to_string(folder.path().join("access.ndjson")).expect("the access log");
        let id = |line: &str| {
            serde_json::from_str::<Value>(line).expect("JSON")["id"]
                .as_str()
                .map(ToOwned::to_owned)
        };
        let genuine: BTreeSet<String> = noted.lines().filter_map(id).collect();
        assert_eq!(genuine.len(), hits.len());
        Store::open(&folder.path().join("empty.db")).expect("a store").close();
        for (form, log) in forms(&log) {
            assert_eq!(replayed(folder.path(), &log), genuine, "{form} {json:?}");
            // The audit believes the same lines.
            let audited = pixel(folder.path())
                .args([
                    "audit",
                    "--json",
                    "--from",
                    "2020-01-01",
                    "--to",
                    "2100-01-01",
                    "--log",
                    "copy.log",
                ])
                .args(["--access-log", "access.ndjson", "-d", "sqlite:empty.db"])
                .output();
            let audited = audited.expect("pixel starts");
            let report: Value = serde_json::from_slice(&audited.stdout).expect("a report");
            let expected = (&json!(hits.len()), &json!(0));
            assert_eq!((&report["log"], &report["unaccounted"]), expected, "{form} {report}");
        }
    }
}
