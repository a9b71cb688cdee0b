//! `pixel replay`: from wherever events have come to rest to wherever they are to be, each once, however often it is run and
//! wherever it is stopped.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use pixel::sqlite::Reader;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::function::index_role::{event, ids, numbered, plain_index};
use crate::support::matrix::Index;
use crate::support::queue::Queue;
use crate::support::serving::{Lines, pixel, wait_for};
use crate::support::small_server::{Reaction, SmallServer};

const COUNT: usize = 60;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder can be made")
}

fn events() -> Vec<Value> {
    (0..COUNT)
        .map(|number| event(&format!("event-{number}"), number, 20))
        .collect()
}

/// What a run has come to.
struct Ran {
    code: Option<i32>,
    summary: Value,
    errors: String,
}

impl Ran {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            summary: serde_json::from_slice(&output.stdout).unwrap_or_default(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Checks numbers of the summary; those that are not named are zero.
    #[track_caller]
    fn has(&self, case: &str, code: i32, numbers: &[(&str, usize)]) {
        let names = [
            "read",
            "indexed",
            "already_there",
            "refused",
            "ignored",
            "failed",
            "kept_in_queue",
            "other_lines",
        ];
        let of = |name: &str| {
            numbers
                .iter()
                .find(|(it, _)| *it == name)
                .map_or(0, |(_, number)| *number)
        };
        let expected: BTreeMap<_, _> = names.map(|name| (name, json!(of(name)))).into();
        let found: BTreeMap<_, _> = names.map(|name| (name, self.summary[name].clone())).into();
        assert_eq!(found, expected, "{case}: {}\n{}", self.summary, self.errors);
        assert_eq!(self.code, Some(code), "{case}: {}", self.errors);
    }
}

fn start(folder: &Path, arguments: &[&str]) -> Child {
    let mut command = pixel(folder);
    command.args(["replay", "--json"]).args(arguments).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("pixel starts")
}

fn replay_of(folder: &Path, arguments: &[&str], input: &str) -> Ran {
    let mut child = start(folder, arguments);
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // Whoever refuses the arguments reads nothing.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    Ran::of(&child.wait_with_output().expect("it has ended"))
}

fn replay(folder: &Path, arguments: &[&str]) -> Ran {
    replay_of(folder, arguments, "")
}

/// The documents of a store by their ids.
fn stored(store: &Path) -> BTreeMap<String, Value> {
    let reader = Reader::open(store).expect("the store opens");
    let documents = reader.latest(u32::MAX).expect("it can be read");
    let count = documents.len();
    let by_id: BTreeMap<_, _> = documents
        .iter()
        .map(|stored| serde_json::from_str::<Value>(&stored.document).expect("JSON"))
        .map(|document| (document["event"]["id"].as_str().expect("an id").to_owned(), document))
        .collect();
    assert_eq!(by_id.len(), count, "each once");
    by_id
}

fn by_id(events: &[Value]) -> BTreeMap<String, Value> {
    let id = |event: &Value| event["event"]["id"].as_str().expect("an id").to_owned();
    events.iter().map(|event| (id(event), event.clone())).collect()
}

fn lines(values: impl IntoIterator<Item = Value>) -> String {
    values.into_iter().map(|value| value.to_string() + "\n").collect()
}

fn undelivered(event: &Value) -> Value {
    json!({"level": "ERROR", "message": "undelivered event", "reason": "status 503", "attempts": 3, "event": event})
}

/// As `aws logs filter-log-events` gives them.
fn export(messages: impl IntoIterator<Item = String>) -> Value {
    let event = |(number, message): (usize, String)| {
        json!({
            "logStreamName": "2026/05/28/[$LATEST]0123456789abcdef",
            "timestamp": 1_780_000_000_000_u64 + number as u64,
            "message": message,
            "ingestionTime": 1_780_000_001_000_u64,
            "eventId": format!("3694{number:052}"),
        })
    };
    let events: Vec<_> = messages.into_iter().enumerate().map(event).collect();
    json!({"events": events, "searchedLogStreams": []})
}

/// The log of a function, in which every event stands in a line of its own kind.
fn log(events: &[Value]) -> Vec<String> {
    let mut lines = vec!["INIT_START Runtime Version: provided:al2023.v1".to_owned()];
    for (number, event) in events.iter().enumerate() {
        lines.push(format!("START RequestId: {number} Version: $LATEST"));
        lines.push(match number % 3 {
            0 => undelivered(event).to_string() + "\n",
            1 => json!({"level": "INFO", "message": "journal", "event_id": "x", "event": event}).to_string(),
            _ => event.to_string(),
        });
        lines.push(json!({"level": "INFO", "message": "hit", "outcome": "indexed", "event_id": "other"}).to_string());
    }
    lines
}

/// Where the events are, and how it is named.
enum Place {
    File(&'static str, String),
    Stdin(String),
    Queue(Queue, Vec<String>),
    Store,
}

/// A source with all events in it, how many lines in it are somebody else's, and how many are refused.
struct Source {
    name: &'static str,
    place: Place,
    other_lines: usize,
    refused: usize,
    number: usize,
}

fn sources(what: &str, events: &[Value]) -> Vec<Source> {
    let all = || events.iter().cloned();
    let source = |name, place| Source {
        name,
        place,
        other_lines: 0,
        refused: 0,
        number: 0,
    };
    let log = log(events);
    let others = log.len() - events.len();
    let exported = |text| Source {
        other_lines: others,
        ..source("an export of a log", Place::File("export.json", text))
    };
    let text: Vec<_> = log
        .iter()
        .map(|line| format!("2026-05-28T20:26:40.123000+00:00 2026/05/28/[$LATEST]0123 {line}"))
        .collect();
    let cut = undelivered(&events[0]).to_string();
    let text = format!(
        "{}\n{}\n",
        text.join("\n").replace("\n\n", "\n"),
        &cut[..cut.len() - 30]
    );
    // Behind a time, only what says what it is can be told from somebody else's JSON.
    let unmarked = events.len() / 3;
    let pages = log.chunks(50).map(|page| export(page.to_vec()));
    let pretty = pages
        .clone()
        .map(|page| serde_json::to_string_pretty(&page).expect("JSON"));
    let queued = |kind: &str| Queue::new(&format!("{what}-{kind}"));
    let mut sources = vec![
        source("a store", Place::Store),
        source("a file of events", Place::File("events.ndjson", lines(all()))),
        source("stdin", Place::Stdin(lines(all()))),
        source(
            "a fallback's file",
            Place::File("undelivered.ndjson", lines(all().map(|event| undelivered(&event)))),
        ),
        exported(lines(pages.clone())),
        exported(pretty.collect::<Vec<_>>().join("\n")),
        Source {
            other_lines: others + unmarked,
            refused: 1,
            ..source(
                "a log",
                Place::File("function.log", text + &lines(all().skip(2).step_by(3))),
            )
        },
        source(
            "a queue",
            Place::Queue(queued("queue"), all().map(|event| event.to_string()).collect()),
        ),
        source(
            "a dead-letter queue",
            Place::Queue(
                queued("dead"),
                all().map(|event| undelivered(&event).to_string()).collect(),
            ),
        ),
    ];
    for (number, source) in sources.iter_mut().enumerate() {
        source.number = number;
    }
    sources
}

impl Source {
    /// Makes it ready for a run, and says its name and its input.
    fn prepare(&self, folder: &Path, events: &[Value]) -> (String, String) {
        match &self.place {
            Place::File(name, text) => {
                std::fs::write(folder.join(name), text).expect("it can be written");
                ((*name).to_owned(), String::new())
            }
            Place::Stdin(text) => ("-".to_owned(), text.clone()),
            Place::Queue(queue, bodies) => {
                for body in bodies {
                    queue.send(body);
                }
                (queue.destination(), String::new())
            }
            Place::Store => {
                let store = folder.join("grown.db");
                if !store.exists() {
                    replay_of(folder, &["-", "-d", "sqlite:grown.db"], &lines(events.iter().cloned()));
                }
                ("sqlite:grown.db".to_owned(), String::new())
            }
        }
    }
}

/// Where the events are to be.
enum Target {
    Store,
    Index(Index),
    Queue(Queue),
}

impl Target {
    fn all(number: usize) -> [Self; 3] {
        let what = format!("replayed-{number}");
        // A queue that knows repetitions; another one leaves that to the index behind it.
        [
            Self::Store,
            Self::Index(plain_index(&what)),
            Self::Queue(Queue::fifo(&what)),
        ]
    }

    fn name(&self) -> String {
        match self {
            Self::Store => "sqlite:to.db".to_owned(),
            Self::Index(index) => index.destination(),
            Self::Queue(queue) => queue.destination(),
        }
    }

    fn documents(&self, folder: &Path) -> BTreeMap<String, Value> {
        match self {
            Self::Store => stored(&folder.join("to.db")),
            Self::Index(index) => index.all().into_iter().collect(),
            Self::Queue(queue) => {
                let taken: Vec<_> = queue
                    .take()
                    .iter()
                    .map(|body| serde_json::from_str(body).expect("JSON"))
                    .collect();
                let documents = by_id(&taken);
                assert_eq!(documents.len(), taken.len(), "each once");
                documents
            }
        }
    }
}

#[test]
fn from_every_source_to_every_destination_each_event_comes_once() {
    let events = events();
    let expected = by_id(&events);
    // Side by side, since queues are waited for.
    std::thread::scope(|scope| {
        for source in sources("replay", &events) {
            let (events, expected) = (&events, &expected);
            scope.spawn(move || {
                for target in Target::all(source.number) {
                    check_way(&source, &target, events, expected);
                }
            });
        }
    });
}

fn check_way(source: &Source, target: &Target, events: &[Value], expected: &BTreeMap<String, Value>) {
    let case = format!("{} to {}", source.name, target.name());
    let folder = folder();
    for run in 1..=2 {
        let (from, input) = source.prepare(folder.path(), events);
        let ran = replay_of(folder.path(), &[&from, "-d", &target.name()], &input);
        // A queue takes what it knows without a word.
        let known = run == 2 && !matches!(target, Target::Queue(_));
        let numbers = [
            ("read", COUNT + source.refused),
            (if known { "already_there" } else { "indexed" }, COUNT),
            ("refused", source.refused),
            ("other_lines", source.other_lines),
        ];
        ran.has(&format!("{case}, run {run}"), i32::from(source.refused > 0), &numbers);
    }
    assert!(target.documents(folder.path()) == *expected, "{case}");
    if let Place::Queue(queue, _) = &source.place {
        assert_eq!(queue.counts(), (0, 0), "{case}");
    }
    let refused = std::fs::read_to_string(folder.path().join("pixel-refused.ndjson")).unwrap_or_default();
    assert_eq!(refused.lines().count(), 2 * source.refused, "{case}: {refused}");
}

/// A store or a file of many events.
fn grown(folder: &Path, count: usize) {
    let events = (0..count).map(|number| event(&format!("event-{number}"), number, 20));
    let text = lines(events);
    std::fs::write(folder.join("grown.ndjson"), &text).expect("it can be written");
    let ran = replay(folder, &["grown.ndjson", "-d", "sqlite:grown.db"]);
    ran.has("grown", 0, &[("read", count), ("indexed", count)]);
}

#[test]
fn a_run_that_was_killed_goes_on_from_its_state() {
    let count = 4_000;
    for source in ["sqlite:grown.db", "grown.ndjson"] {
        let folder = folder();
        let folder = folder.path();
        grown(folder, count);
        let arguments = [source, "-d", "sqlite:to.db", "--state", "state.json"];
        let mut child = start(folder, &[&arguments[..], &["--rate", "500"]].concat());
        let reached = || {
            let state = std::fs::read_to_string(folder.join("state.json")).ok()?;
            serde_json::from_str::<Value>(&state).ok()?["position"].as_u64()
        };
        wait_for("some progress", || reached().filter(|position| *position > 0));
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
        let before = stored(&folder.join("to.db")).len();
        assert!((500..count).contains(&before), "{source}: {before} before the kill");

        let ran = replay(folder, &arguments);
        let read = ran.summary["read"]
            .as_u64()
            .and_then(|read| usize::try_from(read).ok())
            .expect("a number");
        assert!((count - before..count).contains(&read), "{source}: {}", ran.summary);
        assert_eq!(ran.code, Some(0), "{source}: {}", ran.errors);
        let there = count - read;
        let known = before - there;
        ran.has(
            source,
            0,
            &[("read", read), ("indexed", read - known), ("already_there", known)],
        );
        assert_eq!(stored(&folder.join("to.db")).len(), count, "{source}");
        // All of it is done.
        replay(folder, &arguments).has(source, 0, &[]);
    }
}

#[test]
fn a_line_that_is_still_being_written_is_read_again() {
    let folder = folder();
    let folder = folder.path();
    let text = lines(events());
    let (begun, rest) = text.split_at(text.len() - 40);
    let arguments = ["growing.log", "-d", "sqlite:to.db", "--state", "state.json"];
    std::fs::write(folder.join("growing.log"), begun).expect("it can be written");
    replay(folder, &arguments).has("begun", 1, &[("read", COUNT), ("indexed", COUNT - 1), ("refused", 1)]);
    let mut file = std::fs::File::options()
        .append(true)
        .open(folder.join("growing.log"))
        .expect("it is there");
    file.write_all(rest.as_bytes()).expect("it can be written");
    replay(folder, &arguments).has("ended", 0, &[("read", 1), ("indexed", 1)]);
    assert_eq!(stored(&folder.join("to.db")), by_id(&events()));
}

#[test]
fn an_interrupted_run_stores_what_it_has_begun() {
    let folder = folder();
    let folder = folder.path();
    grown(folder, 4_000);
    let arguments = ["sqlite:grown.db", "-d", "sqlite:to.db", "--state", "state.json"];
    let child = start(folder, &[&arguments[..], &["--rate", "500"]].concat());
    wait_for("some progress", || folder.join("state.json").exists().then_some(()));
    crate::support::serving::signal(&child, "INT");
    let ran = Ran::of(&child.wait_with_output().expect("it ends"));
    assert_eq!(
        (ran.code, &ran.summary["interrupted"]),
        (Some(130), &json!(true)),
        "{}",
        ran.errors
    );
    assert!(ran.errors.contains("with the same `--state`"), "{}", ran.errors);
    assert_eq!(ran.summary["indexed"], json!(stored(&folder.join("to.db")).len()));
    let again = replay(folder, &arguments).summary;
    let number = |summary: &Value, name: &str| summary[name].as_u64().expect("a number");
    assert_eq!(number(&again, "read") + number(&ran.summary, "read"), 4_000, "{again}");
    assert_eq!(again["already_there"], 0);
}

/// Whatever it reads from: the exit code of who was interrupted, how to go on, and a next run that stores the rest.
#[test]
fn an_interrupted_run_says_so_and_how_to_go_on() {
    /// More messages than it takes at one go.
    const QUEUED: usize = 1_200;
    let queue = Queue::new("interrupted");
    for ten in 0..QUEUED / 10 {
        let entry = |number: usize| {
            let body = event(&format!("event-{number}"), number, 5).to_string();
            json!({"Id": number.to_string(), "MessageBody": body})
        };
        let entries: Vec<_> = (ten * 10..ten * 10 + 10).map(entry).collect();
        queue.expect("SendMessageBatch", json!({ "Entries": entries }));
    }
    let file = lines((0..4_000).map(|number| event(&format!("event-{number}"), number, 5)));
    let queue_url = queue.destination();
    let table = [
        ("INT", 130, "events.ndjson", 4_000, "begins anew"),
        ("TERM", 143, "events.ndjson", 4_000, "`--state FILE`"),
        ("INT", 130, "-", 4_000, "with the same input"),
        ("INT", 130, queue_url.as_str(), QUEUED, "five minutes"),
    ];
    for (name, code, source, count, resume) in table {
        let case = format!("{name} {source}");
        let folder = folder();
        let folder = folder.path();
        std::fs::write(folder.join("events.ndjson"), &file).expect("it can be written");
        let mut child = start(folder, &[source, "-d", "sqlite:to.db", "--rate", "400"]);
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // The pipe stays open, as from a program that has not ended: only the signal ends the run.
        if source == "-" {
            let half = file.lines().take(2_000).map(|line| line.to_owned() + "\n");
            stdin.write_all(half.collect::<String>().as_bytes()).expect("it reads");
        }
        let store = folder.join("to.db");
        let begun = || {
            let latest = Reader::open(&store).ok()?.latest(1).ok()?;
            (!latest.is_empty()).then_some(())
        };
        wait_for("some progress", begun);
        crate::support::serving::signal(&child, name);
        let ran = Ran::of(&child.wait_with_output().expect("it ends"));
        drop(stdin);
        assert_eq!(
            (ran.code, &ran.summary["interrupted"]),
            (Some(code), &json!(true)),
            "{case}: {}",
            ran.errors
        );
        assert!(
            ran.errors.contains("interrupted; ") && ran.errors.contains(resume),
            "{case}: {}",
            ran.errors
        );
        assert_eq!(ran.summary["indexed"], json!(stored(&store).len()), "{case}");
        if count == QUEUED {
            // Else they would be there again only later.
            let gone = stored(&store).len();
            assert!(gone < count, "{case}: {gone}");
            continue;
        }
        let again = replay_of(folder, &[source, "-d", "sqlite:to.db"], &file);
        assert_eq!(again.code, Some(0), "{case}: {}", again.errors);
        assert_eq!(stored(&store).len(), count, "{case}");
    }
}

#[test]
fn a_second_signal_does_not_wait() {
    let silent = SmallServer::start(|asked| match asked.method.as_str() {
        "HEAD" => Reaction::Answer(200, String::new()),
        _ => Reaction::Silence,
    });
    let folder = folder();
    std::fs::write(folder.path().join("events.ndjson"), lines(events())).expect("it can be written");
    let destination = format!("{}/events", silent.url());
    let mut child = start(folder.path(), &["events.ndjson", "-d", &destination]);
    wait_for("the request", || {
        silent.asked().iter().any(|asked| asked.method == "POST").then_some(())
    });
    let lines = Lines::of(child.stderr.take().expect("stderr is piped"));
    crate::support::serving::signal(&child, "INT");
    lines.wait_for("that it has understood", |line| line.contains("a second signal"));
    crate::support::serving::signal(&child, "TERM");
    // A first one alone would wait, and end with what became of the events.
    let code = crate::support::serving::wait(&mut child).code();
    assert_eq!(code, Some(143));
}

#[test]
fn a_rate_holds_it_back() {
    let folder = folder();
    let begun = Instant::now();
    let ran = replay_of(folder.path(), &["-", "--rate", "30"], &lines(events()));
    ran.has("rate", 0, &[("read", COUNT), ("indexed", COUNT)]);
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn a_dry_run_changes_nothing() {
    let events = events();
    for source in sources("dry", &events) {
        let folder = folder();
        let (from, input) = source.prepare(folder.path(), &events);
        let ran = replay_of(folder.path(), &[&from, "--dry-run", "-d", "sqlite:to.db"], &input);
        let queue = match &source.place {
            Place::Queue(queue, _) => Some(queue),
            _ => None,
        };
        // A queue is asked for its number only.
        let read = if queue.is_some() { 0 } else { COUNT + source.refused };
        let numbers = [
            ("read", read),
            ("refused", source.refused),
            ("other_lines", source.other_lines),
        ];
        ran.has(source.name, i32::from(source.refused > 0), &numbers);
        assert!(!folder.path().join("to.db").exists(), "{}", source.name);
        if let Some(queue) = queue {
            assert_eq!(queue.counts(), (COUNT as u64, 0));
            assert!(
                ran.errors.contains(&format!("about {COUNT} messages")),
                "{}",
                ran.errors
            );
        }
    }
}

#[test]
fn what_was_refused_can_be_replayed_when_the_index_takes_it() {
    let folder = folder();
    let folder = folder.path();
    let (strict, open) = (plain_index("strict"), plain_index("open"));
    let mut events = events();
    for event in events.iter_mut().step_by(7) {
        event["n"] = "no number".into();
    }
    let bad = events.iter().filter(|event| event["n"].is_string()).count();
    let input = lines(events.iter().cloned()) + "{\"@timestamp\":\"soon\",\"event\":{\"id\":\"a\"}}\n";
    let ran = replay_of(folder, &["-", "-d", &strict.destination()], &input);
    let numbers = [("read", COUNT + 1), ("indexed", COUNT - bad), ("refused", bad + 1)];
    ran.has("strict", 1, &numbers);
    assert!(ran.errors.contains("pixel-refused.ndjson"), "{}", ran.errors);
    let reasons = ran.summary["reasons"].to_string();
    assert!(
        reasons.contains("status 400") && reasons.contains("without a time"),
        "{reasons}"
    );
    assert_eq!(ids(&strict).len(), COUNT - bad);

    // The file cannot be source and place of the refused at once.
    let looped = replay(folder, &["pixel-refused.ndjson", "-d", &open.destination()]);
    assert_eq!(looped.code, Some(2));
    assert!(looped.errors.contains("--refused"), "{}", looped.errors);

    open.subject.ask("DELETE", &format!("/{}", open.name), None);
    let again = [
        "pixel-refused.ndjson",
        "-d",
        &open.destination(),
        "--refused",
        "again.ndjson",
    ];
    replay(folder, &again).has("open", 1, &[("read", bad + 1), ("indexed", bad), ("refused", 1)]);
    assert_eq!(ids(&open).len(), bad);
    let still = std::fs::read_to_string(folder.join("again.ndjson")).expect("one is refused");
    assert!(
        still.contains("not a JSON object") || still.contains("without a time"),
        "{still}"
    );
}

/// A destination that does not take them now: exit code 1, and the next run with the same state has them all.
#[test]
fn what_is_not_taken_now_is_taken_by_the_next_run() {
    let folder = folder();
    let folder = folder.path();
    grown(folder, 6_000);
    let index = plain_index("not-now");
    let closed = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let door = std::sync::Arc::clone(&closed);
    let seen = std::sync::atomic::AtomicUsize::new(0);
    let server = SmallServer::proxy(&index.subject, move |asked| {
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        let shut = asked.path.contains("_bulk") && seen.fetch_add(1, relaxed) == 1 && door.load(relaxed);
        shut.then(|| Reaction::Answer(403, "the door is shut".to_owned()))
    });
    let destination = format!("{}/{}", server.url(), index.name);
    let arguments = ["sqlite:grown.db", "-d", &destination, "--state", "state.json"];
    let ran = replay(folder, &arguments);
    assert_eq!(ran.code, Some(1), "{}", ran.summary);
    assert!(ran.errors.contains("run it again"), "{}", ran.errors);
    assert!(ran.summary["failed"].as_u64() > Some(0), "{}", ran.summary);
    assert!(
        ran.summary["reasons"].to_string().contains("the door is shut"),
        "{}",
        ran.summary
    );
    closed.store(false, std::sync::atomic::Ordering::Relaxed);
    let ran = replay(folder, &arguments);
    assert_eq!(
        (ran.code, &ran.summary["failed"]),
        (Some(0), &json!(0)),
        "{}",
        ran.errors
    );
    assert_eq!(ids(&index), numbered("event", 6_000));
}

#[test]
fn wrong_arguments_say_what_would_be_right() {
    let folder = folder();
    let folder = folder.path();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("it can be written");
    write("events.ndjson", &lines(events()));
    write("nonsense.json", "nonsense");
    write("other.json", r#"{"source": "other.ndjson", "position": 7}"#);
    write(
        "no.db",
        "this is no store, though it is long enough to be looked at as if it were one",
    );
    let queue = Queue::new("arguments");
    let queue = queue.destination();
    let missing = queue.replace("arguments", "missing");
    let table: [(&[&str], i32, &str); 18] = [
        (&[], 2, "SOURCE"),
        (&["events.ndjson", "--rate", "0"], 2, "--rate"),
        (&["events.ndjson", "--rate", "fast"], 2, "--rate"),
        (&["nothing.ndjson"], 1, "nothing.ndjson"),
        (
            &["/etc/passwd"],
            1,
            "cannot replay `/etc/passwd`: no events in this file",
        ),
        (&["."], 1, "the file `.`"),
        (&["sqlite:nothing.db"], 1, "there is no such file"),
        (&["sqlite:no.db"], 1, "no.db"),
        (&["sqlite:"], 2, "name the file"),
        (&["https://host/events"], 2, "cannot be read back"),
        (
            &["firehose://firehose.eu-west-1.amazonaws.com/hits"],
            2,
            "cannot be read back",
        ),
        (&["sqs://nowhere"], 2, "give it in the form"),
        (&[&missing], 1, "QueueDoesNotExist"),
        (&[&queue, "-d", &queue], 2, "the same"),
        (&[&queue, "--state", "state.json"], 2, "no place to go on from"),
        (&["-", "--state", "state.json"], 2, "no place to go on from"),
        (&["events.ndjson", "--state", "nonsense.json"], 1, "is not a state"),
        (&["events.ndjson", "--state", "other.json"], 1, "of another source"),
    ];
    for (arguments, code, says) in table {
        let ran = replay(folder, arguments);
        assert_eq!(ran.code, Some(code), "{arguments:?}: {}", ran.errors);
        assert!(ran.errors.contains(says), "{arguments:?}: {}", ran.errors);
    }
    let same = pixel(folder)
        .args(["replay", "sqlite:./pixel.db", "-d", "sqlite:pixel.db"])
        .output()
        .expect("pixel starts");
    assert_eq!(same.status.code(), Some(2));
    let misconfigured = pixel(folder)
        .args(["replay", "events.ndjson"])
        .env("PIXEL_BUDGET_MS", "soon")
        .output()
        .expect("pixel starts");
    assert_eq!(misconfigured.status.code(), Some(2));
}

/// Nothing in a file can stop it, or act on a terminal.
#[test]
fn whatever_stands_in_a_file_is_read_to_its_end() {
    let folder = folder();
    let deep = "{\"a\":".repeat(5_000);
    let long = format!("{{\"@timestamp\":\"{}\"}}", "x".repeat(3_000_000));
    let odd: Vec<Vec<u8>> = vec![
        b"\0\x01\xff\xfe\x1b[2J".to_vec(),
        deep.into_bytes(),
        long.into_bytes(),
        b"{\"events\": 7}".to_vec(),
        b"{\"message\":\"undelivered event\",\"event\":\"\\u001b[2J\"}".to_vec(),
        b"{\"events\":[{\"message\":\"{\\\"message\\\":\\\"journal\\\",\\\"event\\\":{}}\"}]}".to_vec(),
        b"H4sIAAAAAAAA/6tWSk7NS8wtyEkFAKbN9RQLAAAA".to_vec(),
        b"\r".to_vec(),
    ];
    let mut file = odd.join(&b'\n');
    file.extend_from_slice(b"\n");
    file.extend_from_slice(lines(events()).as_bytes());
    std::fs::write(folder.path().join("odd.log"), file).expect("it can be written");
    let ran = replay(folder.path(), &["odd.log", "-d", "sqlite:to.db"]);
    assert_eq!(ran.summary["indexed"], COUNT, "{}", ran.summary);
    assert!(!ran.errors.contains('\x1b') && !ran.summary.to_string().contains('\x1b'));
    assert_eq!(stored(&folder.path().join("to.db")), by_id(&events()));
}

/// Events that somebody else has written are refused where a field is of another type: no list could show them.
#[test]
fn an_event_of_another_shape_is_refused_with_its_reason() {
    let folder = folder();
    let folder = folder.path();
    let mut other = events().remove(0);
    other["event"]["id"] = json!("foreign");
    other["visit"] = json!({"class": "human", "reasons": 5});
    let queue = Queue::new("shapes");
    queue.send(&other.to_string());
    let text = lines(events().into_iter().chain([
        other,
        json!({"@timestamp": "2026-05-28T20:26:40Z", "event": {"id": "b"}, "visit": []}),
    ]));
    std::fs::write(folder.join("foreign.ndjson"), text).expect("it can be written");
    let ran = replay(folder, &["foreign.ndjson", "-d", "sqlite:to.db"]);
    ran.has("shapes", 1, &[("read", COUNT + 2), ("indexed", COUNT), ("refused", 2)]);
    let reason = "it is an event of another shape: `visit.reasons` is a number where an event has text";
    assert!(ran.summary["reasons"].to_string().contains(reason), "{}", ran.summary);
    let refused = std::fs::read_to_string(folder.join("pixel-refused.ndjson")).expect("it is there");
    assert!(
        refused.contains(reason) && refused.contains("`visit` is a list"),
        "{refused}"
    );
    assert_eq!(stored(&folder.join("to.db")), by_id(&events()));

    let ran = replay(folder, &[&queue.destination(), "-d", "sqlite:to.db"]);
    ran.has("a queue", 1, &[("read", 1), ("refused", 1), ("kept_in_queue", 1)]);
}
