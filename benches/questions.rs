//! How long the questions of the page take over a million events: in SQLite and in a real OpenSearch, and in SQLite while hits
//! arrive. And how many codes are made in a second.
//!
//! `cargo bench --bench questions [-- --events N --rounds N --json FILE --no-index --pixel FILE --codes]`; `--codes` measures
//! codes alone. It needs what the tests need for that
//! server.

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

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use pixel::cli::demo::generator::{Demo, Plan};
use pixel::client::bulk::BulkTimeouts;
use pixel::client::http::{Deliverer, http_client};
use pixel::config::{Config, Timing};
use pixel::destination::Destination;
use pixel::destination::bulk::Limits;
use pixel::hit::code::{Contents, Keys};
use pixel::hit::event::Event;
use pixel::hit::outcome::Outcome;
use pixel::query::store::Store as _;
use pixel::query::{EventQuery, Parameters};
use pixel::server::file_store::FileStore;
use pixel::setup::plan::Plan as SetupPlan;
use pixel::sqlite::{Readers, Store};
use serde_json::json;
use support::{Options, Sample, build, machine, table};

const BATCH: usize = 2_500;

const KEYS: &str = "1:MDEyMzQ1Njc4OWFiY2RlZg";

/// What the page lists.
macro_rules! page_lists {
    () => {
        "by=url.full,pixel.code,campaign.source,campaign.name,referrer.domain,client.geo.country_iso_code,user_agent.name,user_agent.os.name,user_agent.device.type,event.action"
    };
}

/// Parameters of the questions; `latest` is a question for events, `info` for what became of one code.
///
/// The first ones are the page's own, with the period that it opens with and without one; it asks for its lists beside its
/// numbers.
const QUESTIONS: [(&str, &str); 16] = [
    (
        "page: numbers of a month",
        "since=30d compare=true interval=day zone=Europe/Berlin",
    ),
    (
        "page: lists of a month",
        concat!("since=30d limit=10 unique=none ", page_lists!()),
    ),
    ("page: numbers of all", "since=all interval=day zone=Europe/Berlin"),
    (
        "page: lists of all",
        concat!("since=all limit=10 unique=none ", page_lists!()),
    ),
    ("totals of a week, with the week before", "since=7d compare=true"),
    ("totals of all", "since=all"),
    ("a month by day", "since=30d interval=day zone=Europe/Berlin"),
    ("a week by hour", "since=7d interval=hour zone=Europe/Berlin"),
    (
        "all by campaign and medium",
        "since=all by=campaign.name,campaign.medium",
    ),
    ("all by page", "since=all by=url.path"),
    ("all by agent", "since=all by=user_agent.original"),
    ("all by label", "since=all by=labels"),
    (
        "a campaign by day and content",
        "since=all filter=campaign.source=newsletter interval=day by=campaign.content",
    ),
    (
        "not a campaign, by site and page",
        "since=all filter=campaign.source!=newsletter by=url.domain,url.path",
    ),
    (
        "the latest 50 of a campaign",
        "latest limit=50 filter=campaign.source=shop",
    ),
    ("info of one code", "info"),
];

fn main() {
    let options = Options::read();
    let demo = Demo {
        seed: 1,
        events: u32::try_from(options.number("--events", 1_000_000)).unwrap(),
        days: 45,
        end: DateTime::from_timestamp_millis(1_780_000_000_000).unwrap(),
    };
    let rounds = options.number("--rounds", 20);
    println!("{}\n{} events, {rounds} rounds\n", machine(), demo.events);
    let given = options.after("--pixel").map(PathBuf::from);
    codes(&given.unwrap_or_else(|| build("cli", ["--bin", "pixel"])));
    if std::env::args().any(|word| word == "--codes") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("pixel.db");
    let plan = demo.plan();
    let store = runtime.block_on(fill(&path, &plan));
    let file = FileStore::new(&store.readers());
    let alone = runtime.block_on(ask_all(&file, rounds, demo.end));
    let first = runtime.block_on(first_asked(&path, rounds, demo.end));
    let (busy, waits) = runtime.block_on(while_hits_arrive(store, file, rounds, &plan, demo.end));
    let index = !std::env::args().any(|word| word == "--no-index");
    let index = index.then(|| in_index(&runtime, &plan, rounds, demo.end));
    let mut rows = vec![
        [
            "question (p95 in ms)",
            "SQLite",
            "… while 2,000 hits/s arrive",
            "OpenSearch 2.19.4",
        ]
        .map(String::from)
        .to_vec(),
    ];
    let mut figures = Vec::new();
    for (place, (name, _)) in QUESTIONS.iter().enumerate() {
        let p95 = |samples: &Vec<Sample>| samples[place].p95();
        let other = index.as_ref().map(p95);
        let shown = other.map_or_else(|| "–".to_owned(), |p95| format!("{p95:.1}"));
        rows.push(vec![
            (*name).to_owned(),
            format!("{:.1}", p95(&alone)),
            format!("{:.1}", p95(&busy)),
            shown,
        ]);
        figures.push(json!({"question": name, "sqlite": p95(&alone), "busy": p95(&busy), "opensearch": other}));
    }
    println!("{}\n", table(&rows));
    println!(
        "`{FIRST}` in SQLite when nobody asked before: p95 {:.1} ms, median {:.1} ms\n",
        first.p95(),
        first.median()
    );
    let of = |waits: &Sample| json!({"median": waits.median(), "p99": waits.at(0.99), "slowest": waits.at(1.0)});
    let hits = json!({"unasked": of(&waits[0]), "asked": of(&waits[1])});
    println!(
        "2,000 hits/s waited for their commit (ms)\n  when nobody asks  {}\n  meanwhile         {}",
        hits["unasked"], hits["asked"]
    );
    options.write(&json!({"events": demo.events, "questions": figures, "first": first.p95(), "hits": hits}));
}

/// `pixel code new --csv` over a file, in and out, and what of it is signing.
fn codes(pixel: &Path) {
    const ROWS: u32 = 500_000;
    const TIMES: usize = 3;
    let keys = Keys::parse(KEYS).unwrap();
    let begun = Instant::now();
    for number in 0..ROWS {
        let contents = Contents {
            campaign: Some("spring".to_owned()),
            recipient: Some(keys.recipient(&format!("u-{number}@example.org")).unwrap()),
            sent: DateTime::from_timestamp(1_780_000_000, 0),
            expires: None,
        };
        std::hint::black_box(keys.sign(&contents).unwrap());
    }
    let signing = f64::from(ROWS) / begun.elapsed().as_secs_f64();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (rows, made) = (folder.path().join("rows.csv"), folder.path().join("codes.csv"));
    let mut text = String::from("name,recipient,campaign\n");
    for number in 0..ROWS {
        let _ = writeln!(text, "Person {number},u-{number}@example.org,spring");
    }
    std::fs::write(&rows, text).unwrap();
    let once = || {
        let begun = Instant::now();
        let done = std::process::Command::new(pixel)
            .env("PIXEL_CODE_KEYS", KEYS)
            .args(["code", "new", "--url", "https://pixel.example/prod", "--csv"])
            .arg(&rows)
            .stdout(std::fs::File::create(&made).unwrap())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(done.success());
        begun.elapsed().as_secs_f64()
    };
    let least = (0..TIMES).map(|_| once()).fold(f64::INFINITY, f64::min);
    let lines = std::fs::read_to_string(&made).unwrap().lines().count();
    assert_eq!(lines, ROWS as usize + 1, "a row is missing");
    println!(
        "codes in a second\n  by `pixel code new --csv`, {ROWS} rows in and out  {:.0}\n  signed in memory  {signing:.0}",
        f64::from(ROWS) / least
    );
    let code = keys.sign(&Contents::default()).unwrap();
    let begun = Instant::now();
    for _ in 0..ROWS {
        std::hint::black_box(keys.check(&code, DateTime::default()));
    }
    println!(
        "{:.2} µs to check one\n",
        begun.elapsed().as_secs_f64() * 1e6 / f64::from(ROWS)
    );
}

fn events(plan: &Plan, numbers: std::ops::Range<usize>) -> Vec<Event> {
    let config = Config::default();
    numbers.map(|number| plan.event(number, &config)).collect()
}

async fn fill(path: &Path, plan: &Plan) -> Store {
    let store = Store::open(path).unwrap();
    let begun = Instant::now();
    for begin in (0..plan.len()).step_by(BATCH) {
        let outcomes = store
            .store_all(events(plan, begin..plan.len().min(begin + BATCH)))
            .await;
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Indexed));
    }
    let connection = rusqlite::Connection::open(path).unwrap();
    let packed = || {
        connection
            .query_row("SELECT coalesce(sum(events), 0) FROM segments", [], |row| {
                row.get::<_, i64>(0)
            })
            .unwrap()
    };
    println!("stored after {:.0} s", begun.elapsed().as_secs_f64());
    while usize::try_from(packed()).unwrap() + 8192 <= plan.len() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let size = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, f64>(0)).unwrap() / 1e6;
    println!(
        "packed after {:.0} s; documents {:.0} MB, segments {:.0} MB, file {:.0} MB",
        begun.elapsed().as_secs_f64(),
        size("SELECT CAST(sum(octet_length(document)) AS REAL) FROM events"),
        size("SELECT CAST(sum(octet_length(codes) + octet_length(texts)) AS REAL) FROM columns"),
        size("SELECT CAST(page_count * page_size AS REAL) FROM pragma_page_count, pragma_page_size")
    );
    store
}

fn sample(rounds: usize, mut ask: impl FnMut()) -> Sample {
    let mut sample = Sample::default();
    ask();
    for _ in 0..rounds {
        let begun = Instant::now();
        ask();
        sample.push(begun.elapsed());
    }
    sample
}

fn given(words: &str) -> Vec<(String, String)> {
    let pairs = words.split_whitespace().filter_map(|word| word.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The question for what became of one code.
fn info() -> EventQuery {
    let given = given("filter=pixel.code=order-confirmation limit=100");
    EventQuery {
        oldest_first: true,
        ..Parameters::new(&given, Utc::now()).latest().unwrap()
    }
}

/// Asks as `pixel serve` does.
async fn in_file(file: &FileStore, words: &str, end: DateTime<Utc>) {
    if words == "info" {
        file.count(&info().filter).await.unwrap();
        file.find(&info()).await.unwrap();
        return;
    }
    let given = given(words);
    let parameters = Parameters::new(&given, end);
    if words.starts_with("latest") {
        file.find(&parameters.latest().unwrap()).await.unwrap();
    } else {
        file.ask(&parameters.question().unwrap()).await.unwrap();
    }
}

/// Every question so many times, one after the other.
async fn ask_all(file: &FileStore, rounds: usize, end: DateTime<Utc>) -> Vec<Sample> {
    let mut samples = Vec::new();
    for (_, words) in QUESTIONS {
        in_file(file, words, end).await;
        let mut sample = Sample::default();
        for _ in 0..rounds {
            let begun = Instant::now();
            in_file(file, words, end).await;
            sample.push(begun.elapsed());
        }
        samples.push(sample);
    }
    samples
}

/// The question with the most different values of those that the page asks.
const FIRST: &str = "page: numbers of all";

/// Asks it through readers that have nothing in memory yet.
async fn first_asked(path: &Path, rounds: usize, end: DateTime<Utc>) -> Sample {
    let (_, words) = QUESTIONS.iter().find(|(name, _)| *name == FIRST).unwrap();
    let mut sample = Sample::default();
    for _ in 0..rounds {
        let file = FileStore::new(&Readers::new(path.to_owned()));
        // Opens the file, and counts nobody.
        in_file(&file, "since=all unique=none", end).await;
        let begun = Instant::now();
        in_file(&file, words, end).await;
        sample.push(begun.elapsed());
    }
    sample
}

/// Sends 2,000 hits in a second until there are no more, or it is to stop; says how long each waited for its commit.
async fn send_hits(store: Arc<Store>, hits: Vec<Arc<Event>>, stop: Arc<AtomicBool>) -> Sample {
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    let mut waiting = tokio::task::JoinSet::new();
    for ten in hits.chunks(10) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        tick.tick().await;
        for event in ten {
            let (store, event) = (Arc::clone(&store), Arc::clone(event));
            waiting.spawn(async move {
                let begun = Instant::now();
                assert_eq!(store.store(event).await, Outcome::Indexed);
                begun.elapsed()
            });
        }
    }
    let mut waits = Sample::default();
    for wait in waiting.join_all().await {
        waits.push(wait);
    }
    waits
}

/// Asks everything while 2,000 hits arrive in a second; also says how long these waited, and how long as many wait when
/// nobody asks.
async fn while_hits_arrive(
    store: Store,
    file: FileStore,
    rounds: usize,
    plan: &Plan,
    end: DateTime<Utc>,
) -> (Vec<Sample>, [Sample; 2]) {
    let again = |mut event: Event| {
        event.id.push('+');
        Arc::new(event)
    };
    let mut hits: Vec<_> = events(plan, 0..plan.len().min(120_000))
        .into_iter()
        .map(again)
        .collect();
    let before = hits.split_off(hits.len().saturating_sub(20_000));
    let (store, stop) = (Arc::new(store), Arc::new(AtomicBool::new(false)));
    let unasked = send_hits(Arc::clone(&store), before, Arc::clone(&stop)).await;
    let asked = tokio::spawn(send_hits(Arc::clone(&store), hits, Arc::clone(&stop)));
    let samples = ask_all(&file, rounds, end).await;
    stop.store(true, Ordering::Relaxed);
    let asked = asked.await.unwrap();
    drop(file);
    Arc::into_inner(store).unwrap().close();
    (samples, [unasked, asked])
}

fn in_index(runtime: &tokio::runtime::Runtime, plan: &Plan, rounds: usize, end: DateTime<Utc>) -> Vec<Sample> {
    let running = servers::start(servers::Server::OpenSearch2);
    let name = format!("questions-bench-{}", std::process::id());
    let Ok(Destination::OpenSearch(target)) = Destination::parse(&format!("{}/{name}", running.url), None, None) else {
        panic!("it is a destination")
    };
    let timing = Timing {
        attempt: Duration::from_mins(1),
        ..Timing::default()
    };
    let deliverer = Deliverer::new(http_client(None, &timing).unwrap(), target, timing, None);
    let ask = |words: &str| {
        runtime.block_on(async {
            let given = given(words);
            let parameters = Parameters::new(&given, end);
            if words == "info" {
                pixel::client::ask::count(&deliverer, &info().filter).await.unwrap();
                pixel::client::ask::latest(&deliverer, &info()).await.unwrap();
            } else if words.starts_with("latest") {
                pixel::client::ask::latest(&deliverer, &parameters.latest().unwrap())
                    .await
                    .unwrap();
            } else {
                pixel::client::ask::ask(&deliverer, &parameters.question().unwrap())
                    .await
                    .unwrap();
            }
        });
    };
    runtime.block_on(async {
        let setup = SetupPlan::new(&deliverer.target().index, None, None).unwrap();
        pixel::setup::run::run(&deliverer, &setup, true).await.unwrap();
        for begin in (0..plan.len()).step_by(BATCH) {
            let events = events(plan, begin..plan.len().min(begin + BATCH));
            let outcomes = deliverer
                .deliver_all(&events, Limits::default(), BulkTimeouts::default())
                .await;
            assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Indexed));
        }
    });
    servers::request(&running, "POST", &format!("/{name}/_refresh"), None);
    let samples = QUESTIONS
        .iter()
        .map(|(_, words)| sample(rounds, || ask(words)))
        .collect();
    servers::request(&running, "DELETE", &format!("/{name}"), None);
    servers::request(&running, "DELETE", &format!("/_index_template/pixel-{name}"), None);
    samples
}
