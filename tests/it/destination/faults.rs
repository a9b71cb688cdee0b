//! No hit is lost and none is counted twice, whatever befalls the index: the real command line and the real function with a
//! proxy before a real server. Each way of running meets each fault; what was sent is then looked for by its number in the
//! index, in the fallback and in the log, and one command brings everything into the index, each hit once.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::Utc;
use pixel::hit::pixel::GIF;
use pixel::hit::request::Ingress;
use pixel::hit::request::http_request::HttpRequest;
use pixel::server::gateway::payload;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::function::capture::SLACK;
use crate::function::index_role::{self, hand_over, plain_index};
use crate::support::fault_proxy::{Fault, FaultProxy};
use crate::support::lambda_rig::{InvokeResult, Rig, RigOptions};
use crate::support::matrix::{Index, block_on};
use crate::support::queue::Queue;
use crate::support::serving::{Lines, PATIENCE, Served, request, run, serve, try_send, wait_for};

/// Of one event; in milliseconds, so are the others.
const BUDGET: u64 = 1_500;
const TIMING: [(&str, u64); 3] = [
    ("PIXEL_CONNECT_TIMEOUT_MS", 300),
    ("PIXEL_ATTEMPT_TIMEOUT_MS", 600),
    ("PIXEL_BUDGET_MS", BUDGET),
];

/// What answers the visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Stage,
    Function,
}

/// A way of running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    program: Program,
    /// `PIXEL_REPLY`.
    reply: &'static str,
    /// Whether there is a queue as the fallback; without, there is the log.
    fallback: bool,
    /// `PIXEL_JOURNAL`.
    journal: &'static str,
}

const WAYS: [Way; 5] = [
    way(Program::Stage, "first", false),
    way(Program::Stage, "after-indexing", true),
    way(Program::Function, "first", true),
    way(Program::Function, "after-indexing", false),
    Way {
        journal: "log",
        ..way(Program::Function, "first", false)
    },
];

const fn way(program: Program, reply: &'static str, fallback: bool) -> Way {
    Way {
        program,
        reply,
        fallback,
        journal: "none",
    }
}

impl Way {
    fn variables(self, destination: &str, fallback: Option<&Queue>) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("PIXEL_DESTINATION", destination.to_owned()),
            ("PIXEL_REPLY", self.reply.to_owned()),
            ("PIXEL_JOURNAL", self.journal.to_owned()),
        ];
        variables.extend(TIMING.map(|(name, value)| (name, value.to_string())));
        variables.extend(fallback.map(|queue| ("PIXEL_FALLBACK", queue.destination())));
        variables
    }

    /// The longest that a visitor may wait.
    fn patience(self) -> Duration {
        let budget = Duration::from_millis(BUDGET);
        if self.reply == "first" { budget } else { budget + SLACK }
    }
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trouble {
    /// Between the program and the server, from before its start.
    AtStart(Fault),
    /// The same, in the middle.
    Between(Fault),
    /// The disk has passed its flood stage.
    Full,
    /// An owner has made it read-only.
    Blocked,
    /// The index has other fields of these names.
    Mapping,
    /// The index is deleted.
    Deleted,
}

impl Trouble {
    fn all() -> Vec<Self> {
        const EXPIRED: &str = r#"{"message":"The security token included in the request is expired"}"#;
        let late = Duration::from_millis(2 * BUDGET);
        vec![
            Self::AtStart(Fault::Down),
            Self::AtStart(Fault::Silence),
            Self::Between(Fault::Down),
            Self::Between(Fault::Late(late)),
            Self::Between(Fault::Reset),
            Self::Between(Fault::ResetAnswer),
            Self::Between(Fault::HalfClose),
            Self::Between(Fault::CutAnswer(9)),
            Self::Between(Fault::CutAnswer(120)),
            Self::Between(Fault::Swallow),
            Self::Between(Fault::Answer(403, EXPIRED)),
            Self::Between(Fault::Answer(429, "{}")),
            Self::Between(Fault::Answer(503, "")),
            Self::Between(Fault::Answer(200, "<html>please log in</html>")),
            Self::Full,
            Self::Blocked,
            Self::Mapping,
            Self::Deleted,
        ]
    }

    /// Whether hits of before would go with it.
    fn is_from_the_start(&self) -> bool {
        matches!(self, Self::AtStart(_) | Self::Mapping | Self::Deleted)
    }

    fn begin(&self, proxy: &FaultProxy, index: &Index) {
        match self {
            Self::AtStart(fault) | Self::Between(fault) => proxy.set(fault.clone()),
            Self::Full => block(index, "read_only_allow_delete", true),
            Self::Blocked => block(index, "write", true),
            Self::Mapping => {
                let properties = json!({"params": {"type": "long"}});
                index.ask("DELETE", "", None);
                index.ask("PUT", "", Some(&index.subject.mappings(&properties)));
            }
            Self::Deleted => {
                index.ask("DELETE", "", None);
            }
        }
    }

    fn end(&self, proxy: &FaultProxy, index: &Index) {
        match self {
            Self::AtStart(_) | Self::Between(_) => proxy.set(Fault::None),
            Self::Full => block(index, "read_only_allow_delete", false),
            Self::Blocked => block(index, "write", false),
            Self::Mapping => {
                index.ask("DELETE", "", None);
            }
            Self::Deleted => {}
        }
    }
}

fn block(index: &Index, name: &str, on: bool) {
    let value = if on { json!(true) } else { Value::Null };
    let name = format!("index.blocks.{name}");
    index.ask("PUT", "/_settings", Some(&json!({ name: value })));
}

/// What is running, and the number of its next hit.
enum Running {
    Stage(Box<Served>, Lines),
    Function(Rig),
}

/// The longest answer so far, all of them images.
#[derive(Default)]
struct Visits {
    numbers: BTreeSet<usize>,
    slowest: Duration,
}

/// The payload of hit `number`.
pub fn hit(number: usize) -> Vec<u8> {
    let arrived = HttpRequest {
        method: "GET".to_owned(),
        path: "/pixel.gif".to_owned(),
        query: format!("n={number}"),
        headers: vec![("User-Agent".to_owned(), "Mail/7".to_owned())],
        peer: Some([203, 0, 113, 77].into()),
        id: format!("hit-{number}="),
        time: Utc::now(),
        body: None,
    };
    payload(Ingress::Passthrough, &arrived).expect("it is a path of the pixel")
}

fn is_image(reply: &[u8]) -> bool {
    let text = serde_json::from_slice::<String>(reply);
    text.is_ok_and(|text| STANDARD.decode(text).is_ok_and(|image| image == GIF))
}

impl Running {
    async fn start(way: Way, destination: &str, fallback: Option<&Queue>) -> Self {
        let variables = way.variables(destination, fallback);
        match way.program {
            Program::Stage => {
                let serve = variables
                    .iter()
                    .fold(serve(), |serve, (name, value)| serve.variable(name, value));
                let served = serve.start();
                let lines = served.stderr.clone();
                Self::Stage(Box::new(served), lines)
            }
            Program::Function => {
                let options = RigOptions::new(env!("CARGO_BIN_EXE_bootstrap"));
                let options = variables
                    .into_iter()
                    .fold(options, |options, (name, value)| options.env(name, value));
                Self::Function(Rig::start(options).await)
            }
        }
    }

    async fn visit(&self, visits: &mut Visits, count: usize) {
        for _ in 0..count {
            let number = visits.numbers.len();
            let took = self.send(number).await;
            visits.numbers.insert(number);
            visits.slowest = visits.slowest.max(took);
        }
    }

    /// Sends a hit, whose answer must be the image; how long that took.
    async fn send(&self, number: usize) -> Duration {
        let begun = Instant::now();
        match self {
            Self::Stage(served, _) => {
                let reply = served.get(&format!("/pixel.gif?n={number}"));
                assert_eq!(
                    (reply.status, reply.body.as_slice()),
                    (200, GIF.as_slice()),
                    "hit {number}"
                );
                begun.elapsed()
            }
            Self::Function(rig) => {
                let invocation = rig.invoke(hit(number)).await;
                let InvokeResult::Reply(reply) = &invocation.result else {
                    panic!("hit {number}: {:?}", invocation.result);
                };
                assert!(is_image(reply), "hit {number}: {}", String::from_utf8_lossy(reply));
                invocation.reply_time.expect("it was answered")
            }
        }
    }

    /// Everything that it has logged, when nothing more is to come.
    fn stop(self) -> Vec<String> {
        match self {
            Self::Stage(served, lines) => {
                served.signal("TERM");
                let (status, _) = served.ended();
                assert!(status.success());
                lines.to_the_end()
            }
            Self::Function(rig) => rig.log_lines(),
        }
    }
}

/// The hit's number in an event.
fn number(event: &Value) -> Option<usize> {
    event.pointer("/params/querystring/n")?.as_str()?.parse().ok()
}

/// The numbers in the index; each stands there once.
fn indexed(case: &str, index: &Index) -> BTreeSet<usize> {
    if index.subject.ask("GET", &format!("/{}", index.name), None).0 == 404 {
        return BTreeSet::new();
    }
    let documents = index.all();
    let numbers: BTreeSet<_> = documents.iter().filter_map(|(_, event)| number(event)).collect();
    assert_eq!(numbers.len(), documents.len(), "{case}: something is doubled");
    numbers
}

/// The numbers of whole events in a log.
fn logged(lines: &[String]) -> BTreeSet<usize> {
    let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|line| number(&line["event"])).collect()
}

/// Where the hits are.
struct Found {
    indexed: BTreeSet<usize>,
    kept: BTreeSet<usize>,
    logged: BTreeSet<usize>,
}

/// Looks for the hits, then brings all of them into the index by `pixel replay`.
fn account(case: &str, visits: &Visits, index: &Index, queue: Option<&Queue>, log: &[String]) -> Found {
    let kept = queue.map(|queue| {
        let messages = queue.receive_all();
        messages
            .iter()
            .filter_map(|message| {
                let message: Value = serde_json::from_str(&message.body).expect("a message is JSON");
                assert!(message["reason"].is_string(), "{case}: {message:#}");
                number(&message["event"])
            })
            .collect()
    });
    let found = Found {
        indexed: indexed(case, index),
        kept: kept.unwrap_or_default(),
        logged: logged(log),
    };
    let mut all = found.indexed.clone();
    all.extend(&found.kept);
    all.extend(&found.logged);
    assert_eq!(all, visits.numbers, "{case}: hits are lost");

    let folder = folder();
    std::fs::write(folder.path().join("log"), log.join("\n") + "\n").expect("it can be written");
    let queue = queue.map(Queue::destination);
    for source in std::iter::once("log").chain(queue.as_deref()) {
        let output = run(folder.path(), &["replay", source, "-d", &index.destination()]);
        let errors = String::from_utf8_lossy(&output.stderr);
        let nothing_to_do = errors.contains("no events in this file") && found.logged.is_empty();
        assert!(output.status.success() || nothing_to_do, "{case}: {source}: {errors}");
    }
    assert_eq!(indexed(case, index), visits.numbers, "{case}: after the replay");
    found
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder can be made")
}

/// Runs the checks of a table on some threads, and tells of all that fail.
fn on_threads<T: Sync>(cases: &[T], check: impl Fn(usize, &T) + Sync) {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(place) else { return };
                    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(place, case)));
                    if let Err(panic) = checked {
                        let said = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(said);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn no_fault_of_the_index_loses_or_doubles_a_hit() {
    let cases: Vec<_> = Trouble::all()
        .into_iter()
        .flat_map(|trouble| WAYS.map(|way| (way, trouble.clone())))
        .collect();
    on_threads(&cases, |place, (way, trouble)| block_on(check(place, *way, trouble)));
}

async fn check(place: usize, way: Way, trouble: &Trouble) {
    let case = format!("{way:?}, {trouble:?}");
    let index = plain_index(&format!("fault-{place}"));
    let proxy = FaultProxy::before(&index.subject.running.url);
    let queue = way.fallback.then(|| Queue::new(&format!("fault-{place}")));
    let mut visits = Visits::default();
    if trouble.is_from_the_start() {
        trouble.begin(&proxy, &index);
    }
    let running = Running::start(way, &format!("{}/{}", proxy.url(), index.name), queue.as_ref()).await;
    if !trouble.is_from_the_start() {
        running.visit(&mut visits, 2).await;
        trouble.begin(&proxy, &index);
    }
    running.visit(&mut visits, 5).await;
    trouble.end(&proxy, &index);
    running.visit(&mut visits, 2).await;
    let log = running.stop();
    if *trouble == Trouble::Mapping {
        // Made anew by whoever came first, else now.
        index.subject.ask("PUT", &format!("/{}", index.name), None);
    }
    let found = account(&case, &visits, &index, queue.as_ref(), &log);
    assert!(
        visits.slowest < way.patience(),
        "{case}: a visitor waited for {:?}",
        visits.slowest
    );
    if way.journal == "log" {
        assert_eq!(found.logged, visits.numbers, "{case}: every hit is in the journal");
    }
    if way.fallback {
        assert!(
            found.logged.is_empty(),
            "{case}: the fallback has them: {:?}",
            found.logged
        );
    }
}

// Kills.

/// A sandbox that is killed after its reply: the one hit under way is lost, unless there is a journal.
#[test]
fn a_function_killed_after_its_reply_loses_the_hit_only_without_a_journal() {
    block_on(async {
        for journal in ["none", "log"] {
            let way = Way {
                journal,
                ..way(Program::Function, "first", false)
            };
            let (running, index, proxy) = under_way(way, "killed").await;
            let Running::Function(rig) = &running else {
                unreachable!("it is the function")
            };
            let mut visits = Visits::default();
            running.visit(&mut visits, 3).await;
            proxy.set(Fault::Silence);
            let (answer, invocation) = rig.invoke_observing(hit(3));
            answer.await.expect("the visitor is answered");
            rig.kill().await;
            let killed = invocation.await.expect("it does not panic").result;
            let InvokeResult::Exited { reply: Some(reply), .. } = killed else {
                panic!("it was answered and killed: {killed:?}");
            };
            assert!(is_image(&reply));
            proxy.set(Fault::None);
            if journal == "log" {
                visits.numbers.insert(3);
            }
            // Without a journal, nothing else is lost.
            account(journal, &visits, &index, None, &running.stop());
        }
    });
}

/// Where the visitor is answered after the index, a kill leaves no hit that was answered elsewhere than in the index.
#[test]
fn a_function_killed_before_its_reply_has_lost_nothing_that_was_answered() {
    block_on(async {
        let (running, index, proxy) = under_way(way(Program::Function, "after-indexing", false), "killed-before").await;
        let Running::Function(rig) = &running else {
            unreachable!("it is the function")
        };
        let mut visits = Visits::default();
        running.visit(&mut visits, 3).await;
        proxy.set(Fault::Swallow);
        let (answer, invocation) = rig.invoke_observing(hit(3));
        let deadline = Instant::now() + PATIENCE;
        while indexed("killed before", &index).len() < 4 {
            assert!(Instant::now() < deadline, "it does not come to the index");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        rig.kill().await;
        assert!(answer.await.is_err(), "nobody was answered");
        assert!(matches!(
            invocation.await.expect("no panic").result,
            InvokeResult::Exited { reply: None, .. }
        ));
        // The API's client asks again, with the same id.
        proxy.set(Fault::None);
        assert!(is_image(rig.invoke(hit(3)).await.reply()));
        visits.numbers.insert(3);
        assert_eq!(indexed("killed before", &index), visits.numbers);
    });
}

async fn under_way(way: Way, what: &str) -> (Running, Index, FaultProxy) {
    let index = plain_index(&format!("{what}-{}", way.journal));
    let proxy = FaultProxy::before(&index.subject.running.url);
    let running = Running::start(way, &format!("{}/{}", proxy.url(), index.name), None).await;
    (running, index, proxy)
}

/// The local stage killed with an index as its destination: what was answered as stored is in the index.
#[test]
fn a_stage_killed_while_it_indexes_has_stored_what_it_said_was_stored() {
    block_on(async {
        let (running, index, _proxy) = under_way(way(Program::Stage, "after-indexing", false), "stage").await;
        let Running::Stage(served, lines) = running else {
            unreachable!("it is the stage")
        };
        let address = served.address;
        let (stored, sent) = (Mutex::new(BTreeSet::new()), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    loop {
                        let number = sent.fetch_add(1, Ordering::Relaxed);
                        let request = request("GET", &format!("/pixel.gif?n={number}"), &[]);
                        let Ok(reply) = try_send(address, &request) else {
                            return;
                        };
                        assert_eq!(reply.body, GIF);
                        if !reply.header("x-pixel").unwrap_or_default().contains("not yet") {
                            stored.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
                        }
                    }
                });
            }
            wait_for("some hits", || (sent.load(Ordering::Relaxed) > 300).then_some(()));
            served.kill();
        });
        let answered = stored.into_inner().unwrap_or_else(PoisonError::into_inner);
        assert!(answered.len() > 200, "{}", answered.len());
        let found = indexed("after-indexing", &index);
        let lost: Vec<_> = answered.difference(&found).collect();
        assert!(lost.is_empty(), "{lost:?}; {:#?}", lines.to_the_end());
    });
}

/// Where it answers first, a kill loses what is under way, and nothing else.
#[test]
fn a_stage_killed_after_its_answer_loses_what_was_under_way() {
    block_on(async {
        let (running, index, proxy) = under_way(way(Program::Stage, "first", false), "stage-first").await;
        let mut visits = Visits::default();
        running.visit(&mut visits, 3).await;
        let before = visits.numbers.clone();
        wait_for("the first hits", || (indexed("first", &index) == before).then_some(()));
        proxy.set(Fault::Silence);
        running.visit(&mut visits, 3).await;
        let Running::Stage(served, lines) = running else {
            unreachable!("it is the stage")
        };
        served.kill();
        assert_eq!(indexed("first", &index), before);
        // On a slow machine a hit's budget may have ended before the kill; then it is in the log, as promised.
        let given_up = logged(&lines.to_the_end());
        assert!(
            given_up.is_subset(&visits.numbers) && given_up.is_disjoint(&before),
            "{given_up:?}"
        );
    });
}

// The soak.

/// Numbers that only look random (`SplitMix64`).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let number = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (number ^ (number >> 31)) % end
    }

    /// One request of ten or so meets a fault.
    fn fault(&mut self) -> Fault {
        match self.below(100) {
            0 => Fault::Reset,
            1 | 2 => Fault::ResetAnswer,
            3 => Fault::HalfClose,
            4 | 5 => Fault::CutAnswer(usize::try_from(self.below(200)).expect("it is small")),
            6 => Fault::Swallow,
            7 => Fault::Late(Duration::from_millis(self.below(1_000))),
            8 => Fault::Answer(429, "{}"),
            9 => Fault::Answer(503, ""),
            10 => Fault::Answer(403, "no"),
            _ => Fault::None,
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} is a number"))
    })
}

/// Tells what is to be seen of a test that passes, too.
fn tell(line: &str) {
    // The harness keeps what the macros print.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// What an event source mapping does between a queue and the role `index`, until it is to stop; some messages are delivered
/// twice.
fn mapped(queue: &Queue, destination: &str, stop: &AtomicBool, mut chance: Chance) {
    // It tries again as long as it is called, and an outage is not to be waited for.
    let options = index_role::options(destination).timeout(Duration::from_secs(3));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    runtime.block_on(async {
        let rig = Rig::start(options).await;
        while !stop.load(Ordering::Relaxed) {
            if hand_over(queue, &rig, || chance.below(20) == 0).await == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
}

/// One command for each place brings everything into the index.
fn bring_back(case: &str, log: &[String], queues: [&Queue; 2], index: &Index) {
    let folder = folder();
    std::fs::write(folder.path().join("log"), log.join("\n") + "\n").expect("it can be written");
    let [fallback, of_hits] = queues.map(Queue::destination);
    for source in ["log", &fallback, &of_hits] {
        let output = run(folder.path(), &["replay", source, "-d", &index.destination()]);
        let talk = String::from_utf8_lossy(&output.stderr);
        let nothing_to_do = talk.contains("no events in this file") && logged(log).is_empty();
        assert!(output.status.success() || nothing_to_do, "{case}: {talk}");
    }
}

/// Thousands of hits from many visitors at once, most to a stage, some to the function, some through a queue and the role
/// `index`; faults by chance, outages, and all of them stopped and started again. `SOAK_HITS=100000` makes it a long one, `SOAK_SEED` repeats one.
#[test]
fn a_soak_of_random_faults_loses_and_doubles_nothing() {
    const LAPS: u64 = 4;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = setting("SOAK_SEED", now.expect("it is past 1970").subsec_nanos().into());
    let hits = usize::try_from(setting("SOAK_HITS", 2_000)).expect("it fits");
    let case = format!("SOAK_SEED={seed} SOAK_HITS={hits}");
    tell(&case);
    let index = plain_index("soak");
    index.ask("PUT", "/_settings", Some(&json!({"index.max_result_window": hits * 2})));
    let proxy = FaultProxy::before(&index.subject.running.url);
    let (queue, of_hits) = (Queue::new("soak"), Queue::new("soak-hits"));
    let way = way(Program::Stage, "after-indexing", true);
    let (mut log, mut chance) = (Vec::new(), Chance(seed));
    let [sent, of_function, of_queue] = [0; 3].map(AtomicUsize::new);
    for lap in 1..=LAPS {
        let mut own = Chance(chance.below(u64::MAX));
        proxy.choose(move || own.fault());
        let destination = format!("{}/{}", proxy.url(), index.name);
        let stage = block_on(Running::start(way, &destination, Some(&queue)));
        let queued = block_on(Running::start(way, &of_hits.destination(), Some(&queue)));
        let (stop, deliveries) = (AtomicBool::new(false), Chance(chance.below(u64::MAX)));
        let order = if lap % 2 == 0 { "first" } else { "after-indexing" };
        let function = Way {
            program: Program::Function,
            reply: order,
            ..way
        };
        let end = hits * usize::try_from(lap).expect("it is small") / usize::try_from(LAPS).expect("it is small");
        let outage = end - hits / 8;
        let next = || {
            let number = sent.fetch_add(1, Ordering::Relaxed);
            if number >= end {
                sent.fetch_sub(1, Ordering::Relaxed);
                return None;
            }
            if lap % 2 == 0 && number == outage {
                proxy.set(Fault::Down);
            }
            Some(number)
        };
        let visit = async |running: &Running, way: Way| {
            let mut visits = 0;
            while let Some(number) = next() {
                let took = running.send(number).await;
                assert!(took < way.patience(), "{case}: {way:?}: {took:?}");
                visits += 1;
            }
            visits
        };
        let lines = std::thread::scope(|scope| {
            let mapper = scope.spawn(|| mapped(&of_hits, &destination, &stop, deliveries));
            let to_stage: Vec<_> = (0..22).map(|_| scope.spawn(|| block_on(visit(&stage, way)))).collect();
            let to_queue: Vec<_> = (0..2).map(|_| scope.spawn(|| block_on(visit(&queued, way)))).collect();
            let by_function = scope.spawn(|| {
                block_on(async {
                    let running = Running::start(function, &destination, Some(&queue)).await;
                    of_function.fetch_add(visit(&running, function).await, Ordering::Relaxed);
                    running.stop()
                })
            });
            let lines = by_function.join().expect("the function has answered");
            for visitor in to_stage {
                visitor.join().expect("the stage has answered");
            }
            for visitor in to_queue {
                let visits = visitor.join().expect("the stage before the queue has answered");
                of_queue.fetch_add(visits, Ordering::Relaxed);
            }
            stop.store(true, Ordering::Relaxed);
            mapper.join().expect("the role has answered");
            lines
        });
        log.extend(lines);
        log.extend(stage.stop());
        log.extend(queued.stop());
    }
    proxy.set(Fault::None);
    let left_in_queue = of_hits.receive_all().len();
    let expected: BTreeSet<_> = (0..hits).collect();
    let before = soaked(&case, &index);
    bring_back(&case, &log, [&queue, &of_hits], &index);
    let after = soaked(&case, &index);
    let lost: Vec<_> = expected.difference(&after).collect();
    assert!(lost.is_empty(), "{case}: lost {lost:?}");
    assert_eq!(after.len(), hits, "{case}");
    assert!(before.len() < hits, "{case}: no fault has kept a hit from the index");
    let (of_function, of_queue) = (of_function.into_inner(), of_queue.into_inner());
    assert!(of_function > 0, "{case}: the function had no hit");
    assert!(of_queue > left_in_queue, "{case}: the role `index` had no hit");
    tell(&format!(
        "{case}: {} at once in the index, {} by replay; {of_function} through the function, {of_queue} through a queue, where \
         {left_in_queue} were left",
        before.len(),
        after.len() - before.len()
    ));
}

/// As [`indexed`], of as many as there may be.
fn soaked(case: &str, index: &Index) -> BTreeSet<usize> {
    index.ask("POST", "/_refresh", None);
    let size = index.ask("GET", "/_count", None)["count"].as_u64().expect("a number");
    let path = format!("/_search?size={}&_source=params.querystring.n", size.max(1));
    let found = index.ask("POST", &path, None);
    let hits = found["hits"]["hits"].as_array().expect("a search has hits");
    let numbers: BTreeSet<_> = hits.iter().filter_map(|hit| number(&hit["_source"])).collect();
    assert_eq!(
        (numbers.len(), hits.len() as u64),
        (hits.len(), size),
        "{case}: something is doubled"
    );
    numbers
}
