//! What the way over a queue costs: the function's role `index` alone and before a real OpenSearch, replies while the index is
//! down, and `pixel replay` of a grown SQLite store, the last two beside a bare loader that sends the same bodies.
//!
//! `cargo bench --bench queue [-- --events N --rounds N --json FILE --pixel FILE --bootstrap FILE]`; `--only NAME` runs one of
//! `encode`, `memory`, `rate`, `reply` and `replay`. It needs what the tests need for that server.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::too_many_lines,
    clippy::naive_bytecount,
    dead_code,
    unreachable_pub,
    reason = "a benchmark prints, may fail where it stands, and shares tools that it does not use all of"
)]

#[path = "../tests/support/lambda_rig.rs"]
mod lambda_rig;
#[path = "../tests/support/servers.rs"]
mod servers;
#[path = "../tests/support/setup.rs"]
mod setup;
mod support;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chrono::DateTime;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request as HttpRequest, Response};
use hyper_util::rt::TokioIo;
use lambda_rig::{InvokeResult, Rig, RigOptions};
use pixel::cli::demo::generator::Demo;
use pixel::client::http::{ClientRequest, Deliverer, http_client};
use pixel::config::{Config, Timing};
use pixel::destination::Destination;
use pixel::destination::bulk::{BulkRequest as Body, Limits, RequestForm};
use pixel::destination::opensearch::Target;
use pixel::destination::sqs_batch::Messages;
use pixel::hit::event::Event;
use pixel::replay::{Origin, event};
use pixel::sqlite::Reader;
use serde_json::{Value, json};
use servers::{Running, Server};
use support::{Options, Sample, build, cpu, machine, memory, table};

/// The largest payload of an invocation.
const PAYLOAD: usize = 6 * 1024 * 1024;

/// Most messages of one batch.
const MESSAGES: usize = 10_000;

/// As many as `pixel replay` sends in one request.
const PIECE: usize = 2_500;

fn main() {
    let options = Options::read();
    let only = options.after("--only").map(ToOwned::to_owned);
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let program = |name: &str, features| {
        let given = options.after(&format!("--{name}")).map(PathBuf::from);
        given.unwrap_or_else(|| build(features, ["--bin", name]))
    };
    let machine = machine();
    println!("{machine}\n");
    let mut rows = vec![["figure", "here", "wanted"].map(ToOwned::to_owned).to_vec()];
    let mut figures = json!({"machine": machine});
    let mut row = |name: &str, value: f64, digits: usize, unit: &str, wanted: &str| {
        println!("{name}: {value:.digits$}{unit}");
        rows.push(vec![
            name.to_owned(),
            format!("{value:.digits$}{unit}"),
            wanted.to_owned(),
        ]);
        figures[name] = json!(value);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let rounds = options.number("--rounds", 5);
    if wanted("encode") {
        let (events, bytes) = encode(Duration::from_secs(5));
        row(
            "index role: events decoded and encoded per second of a core",
            events,
            0,
            "",
            ">= 60000",
        );
        row("index role: the same in megabytes", bytes / 1e6, 0, " MB/s", "");
    }
    if wanted("memory") {
        let bootstrap = program("bootstrap", "capture");
        let (idle, small, large, rate) = runtime.block_on(batch_memory(&bootstrap));
        row(
            "index role, the program itself: events per second of a processor",
            rate,
            0,
            "",
            "",
        );
        row(
            "index role: memory for a batch : its size, many small events",
            small,
            2,
            "",
            "<= 3",
        );
        row(
            "index role: memory for a batch : its size, events as of visits",
            large,
            2,
            "",
            "<= 3",
        );
        row(
            "index role: memory before the first batch",
            idle / 1024.0 / 1024.0,
            1,
            " MiB",
            "",
        );
    }
    if wanted("rate") {
        let (bootstrap, pixel) = (program("bootstrap", "capture"), program("pixel", "cli"));
        let rates = rate(&bootstrap, &pixel, rounds);
        let name = "OpenSearch 2.19.4, a batch";
        for ((_, how), rate) in LOADERS.iter().zip(rates.bare) {
            row(&format!("{name}: bare loader, {how}"), rate, 0, " events/s", "");
        }
        row(&format!("{name}: index role"), rates.ours, 0, " events/s", "");
        for ((_, how), ratio) in LOADERS.iter().zip(rates.ratios) {
            row(&format!("index role : bare loader, {how}"), ratio, 2, "", ">= 0.9");
        }
    }
    if wanted("reply") {
        let bootstrap = program("bootstrap", "capture");
        let (up, down) = runtime.block_on(replies(&bootstrap));
        row("reply while the index is up, median", up, 3, " ms", "");
        row("reply while it is down, median", down, 3, " ms", "");
        row("down : up", down / up, 2, "", "<= 1.2");
    }
    if wanted("replay") {
        let pixel = program("pixel", "cli");
        let count = options.number("--events", 1_000_000);
        let replay = replay(&pixel, count, rounds);
        row("bare loader, two requests at a time", replay.bare, 0, " events/s", "");
        row("pixel replay of a store", replay.ours, 0, " events/s", "");
        row("pixel replay : bare loader", replay.ratio, 2, "", ">= 0.9");
        row(
            "pixel replay: memory at a tenth",
            replay.early / 1024.0 / 1024.0,
            1,
            " MiB",
            "",
        );
        row(
            "pixel replay: memory, peak",
            replay.peak / 1024.0 / 1024.0,
            1,
            " MiB",
            "the same",
        );
    }
    println!("\n{}", table(&rows));
    options.write(&figures);
}

fn demo(events: usize) -> Demo {
    Demo {
        seed: 1,
        events: u32::try_from(events).unwrap(),
        days: 30,
        end: DateTime::from_timestamp_millis(1_780_000_000_000).unwrap(),
    }
}

fn visits(count: usize) -> Vec<Event> {
    demo(count).events(&Config::default()).collect()
}

/// A message as Lambda hands it over.
fn record(number: usize, body: &str) -> Value {
    json!({
        "messageId": format!("{number:08x}-7b61-11e6-9a41-93e8deadbeef"),
        "receiptHandle": "AQEBzbVv",
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1700000000456", "SenderId": "AROAEXAMPLE:api"},
        "messageAttributes": {},
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:pixel",
        "awsRegion": "eu-central-1",
    })
}

/// Payloads of full batches, and how many events each holds.
fn payloads<'a>(documents: impl IntoIterator<Item = &'a str>) -> Vec<(Vec<u8>, usize)> {
    let mut payloads = Vec::new();
    let (mut records, mut bytes) = (Vec::new(), 0);
    let mut end = |records: &mut Vec<Value>| {
        let count = records.len();
        payloads.push((
            json!({"Records": std::mem::take(records)}).to_string().into_bytes(),
            count,
        ));
    };
    for (number, document) in documents.into_iter().enumerate() {
        let record = record(number, document);
        let size = record.to_string().len() + 1;
        if bytes + size > PAYLOAD - 100 || records.len() == MESSAGES {
            end(&mut records);
            bytes = 0;
        }
        bytes += size;
        records.push(record);
    }
    if !records.is_empty() {
        end(&mut records);
    }
    payloads
}

fn target(url: &str) -> Target {
    match Destination::parse(url, None, None) {
        Ok(Destination::OpenSearch(target)) => target,
        other => panic!("{other:?}"),
    }
}

/// The very bodies that the role makes of a batch.
fn bodies(payload: &[u8], target: &Target) -> Vec<Body> {
    let config = Config::default();
    let mut messages = Messages::parse(String::from_utf8(payload.to_vec()).unwrap()).unwrap();
    let mut bodies = Vec::new();
    while let Some(part) = messages.part().unwrap() {
        let of = |message: pixel::destination::sqs_batch::Message| {
            let time = message.sent.unwrap();
            event(message.body, Origin { id: &message.id, time }, &config).unwrap()
        };
        let events: Vec<Event> = part.into_iter().map(of).collect();
        bodies.extend(target.bulk(&events, RequestForm::default(), Limits::HALF));
    }
    bodies
}

/// What the role does between the Runtime API and the index: events and bytes of documents per second of one thread on a
/// processor, whatever else the machine does.
fn encode(time: Duration) -> (f64, f64) {
    let events = visits(4_000);
    let (payload, count) = payloads(events.iter().map(|event| event.document.as_str())).swap_remove(0);
    let target = target("http://host:9200/events");
    let (mut done, mut bytes) = (0, 0);
    let (began, used) = (Instant::now(), cpu(std::process::id()));
    while began.elapsed() < time {
        bytes += bodies(&payload, &target)
            .iter()
            .map(|body| body.body.len())
            .sum::<usize>();
        done += count;
    }
    let seconds = cpu(std::process::id()).saturating_sub(used).as_secs_f64();
    (done as f64 / seconds, bytes as f64 / seconds)
}

/// An index that takes everything at once; gives its URL.
async fn willing_index() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(take)),
            );
        }
    });
    url
}

async fn take(request: HttpRequest<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let bulk = request.uri().path().ends_with("/_bulk");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let answer = if bulk {
        let count = body.iter().filter(|byte| **byte == b'\n').count() / 2;
        let items = vec![r#"{"create":{"status":201}}"#; count].join(",");
        format!(r#"{{"errors":false,"items":[{items}]}}"#)
    } else {
        r#"{"result":"created"}"#.to_owned()
    };
    let mut response = Response::new(Full::new(Bytes::from(answer)));
    if !bulk {
        *response.status_mut() = hyper::StatusCode::CREATED;
    }
    Ok(response)
}

async fn index_role(bootstrap: &Path, destination: &str) -> Rig {
    let options = RigOptions::new(bootstrap)
        .handler("index")
        .env("PIXEL_DESTINATION", destination)
        // As the templates have it.
        .env("MALLOC_MMAP_THRESHOLD_", "131072")
        .timeout(Duration::from_mins(1));
    Rig::start(options).await
}

async fn invoke(rig: &Rig, payload: &[u8]) -> Duration {
    let invocation = rig.invoke(payload).await;
    assert_eq!(invocation.reply_json(), json!({"batchItemFailures": []}));
    invocation.billed
}

/// Idle memory, and what a batch adds to it as a multiple of its payload: of as many messages as may be, and of visits.
/// Last the events of visits that it takes per second of a processor: received, read, sent, and their outcomes counted.
async fn batch_memory(bootstrap: &Path) -> (f64, f64, f64, f64) {
    const MORE: usize = 40;
    let url = willing_index().await;
    let small: Vec<_> = (0..MESSAGES)
        .map(|number| {
            let fill = "x".repeat(40);
            format!(r#"{{"@timestamp":"2026-05-28T20:26:40.123Z","event":{{"id":"event-{number}"}},"fill":"{fill}"}}"#)
        })
        .collect();
    let visits = visits(4_500);
    let batches = [
        payloads(small.iter().map(String::as_str)),
        payloads(visits.iter().map(|event| event.document.as_str())),
    ];
    let mut idle = 0.0;
    let (mut ratios, mut rate) = (Vec::new(), 0.0);
    for mut batches in batches {
        let (payload, count) = batches.swap_remove(0);
        let rig = index_role(bootstrap, &format!("{url}/events")).await;
        let before = rig.child_peak_rss().unwrap() as f64;
        for _ in 0..5 {
            invoke(&rig, &payload).await;
        }
        let after = rig.child_peak_rss().unwrap() as f64;
        idle = before;
        ratios.push((after - before) / payload.len() as f64);
        let pid = rig.child_pid().unwrap();
        let used = cpu(pid);
        for _ in 0..MORE {
            invoke(&rig, &payload).await;
        }
        let used = cpu(pid).saturating_sub(used).as_secs_f64();
        rate = (count * MORE) as f64 / used;
    }
    (idle, ratios[0], ratios[1], rate)
}

/// Times something with an index that `pixel setup` has made, and removes the index.
fn with_index<T>(running: &Running, pixel: &Path, index: &str, act: impl FnOnce(&str) -> T) -> T {
    let url = format!("{}/{index}", running.url);
    let made = Command::new(pixel)
        .env_clear()
        .args(["setup", "-d", &url])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let result = act(&url);
    for path in [format!("/{index}"), format!("/_index_template/pixel-{index}")] {
        servers::request(running, "DELETE", &path, None);
    }
    result
}

async fn send(deliverer: &Deliverer, body: Body) {
    let Body { request, body, .. } = body;
    let request = ClientRequest::json(request.method, request.url, body);
    let answer = deliverer
        .send(request, usize::MAX, Duration::from_mins(1))
        .await
        .unwrap();
    assert!(answer.body.starts_with(br#"{"errors":false"#));
}

fn deliverer(url: &str) -> Deliverer {
    let timing = Timing::default();
    Deliverer::new(http_client(None, &timing).unwrap(), target(url), timing, None)
}

/// Events per second of a batch, median.
struct Rates {
    /// Of the bare loaders, with one request at a time and more.
    bare: [f64; LOADERS.len()],
    ours: f64,
    /// Of the role to each loader, batch by batch, median.
    ratios: [f64; LOADERS.len()],
}

/// Requests at a time of the bare loaders.
const LOADERS: [(usize, &str); 3] = [
    (1, "one request at a time"),
    (2, "two at a time"),
    (3, "three at a time"),
];

/// The rates of bare loaders and of the role. They take turns batch by batch, so that whatever else the machine does befalls
/// all of them.
fn rate(bootstrap: &Path, pixel: &Path, rounds: usize) -> Rates {
    let running = servers::start(Server::OpenSearch2);
    let events = visits(40_000);
    let payloads = payloads(events.iter().map(|event| event.document.as_str()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut bare: [Vec<f64>; LOADERS.len()] = Default::default();
    let mut ratios = bare.clone();
    let mut ours = Vec::new();
    for round in 0..=rounds {
        let mut act = |urls: &[String]| {
            let (role, loaders) = urls.split_last().unwrap();
            let loaders: Vec<_> = loaders.iter().map(|url| std::sync::Arc::new(deliverer(url))).collect();
            let rig = runtime.block_on(index_role(bootstrap, role));
            for (turn, (payload, count)) in payloads.iter().enumerate() {
                let mut rates = [0.0; LOADERS.len() + 1];
                for way in 0..rates.len() {
                    let way = (way + turn) % rates.len();
                    let took = match loaders.get(way) {
                        Some(loader) => {
                            let bodies = bodies(payload, loader.target());
                            let began = Instant::now();
                            runtime.block_on(send_all(loader, bodies, LOADERS[way].0));
                            began.elapsed()
                        }
                        None => runtime.block_on(invoke(&rig, payload)),
                    };
                    rates[way] = *count as f64 / took.as_secs_f64();
                }
                // The first round warms the server up, and the last batch is not a full one.
                if round > 0 && turn + 1 < payloads.len() {
                    let (role, loaders) = rates.split_last().unwrap();
                    ours.push(*role);
                    for (place, rate) in loaders.iter().enumerate() {
                        bare[place].push(*rate);
                        ratios[place].push(role / rate);
                    }
                }
            }
        };
        let name = |what: usize| format!("queue-bench-{what}-{}-{round}", std::process::id());
        let names: Vec<_> = (0..=LOADERS.len()).map(name).collect();
        with_indices(&running, pixel, &names, &mut Vec::new(), &mut act);
        let rates: Vec<_> = bare.iter().map(|rates| median(rates).round()).collect();
        eprintln!("bare {rates:?}, role {:.0} events/s", median(&ours));
    }
    Rates {
        bare: bare.map(|rates| median(&rates)),
        ours: median(&ours),
        ratios: ratios.map(|ratios| median(&ratios)),
    }
}

/// [`with_index`] for each of the names.
fn with_indices(
    running: &Running,
    pixel: &Path,
    names: &[String],
    urls: &mut Vec<String>,
    act: &mut impl FnMut(&[String]),
) {
    match names.split_first() {
        Some((name, rest)) => with_index(running, pixel, name, |url| {
            urls.push(url.to_owned());
            with_indices(running, pixel, rest, urls, act);
        }),
        None => act(urls),
    }
}

fn median(sample: &[f64]) -> f64 {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Sends bodies, so many at the same time.
async fn send_all(deliverer: &std::sync::Arc<Deliverer>, bodies: Vec<Body>, at_once: usize) {
    let mut under_way = tokio::task::JoinSet::new();
    for body in bodies {
        if under_way.len() == at_once {
            under_way.join_next().await.unwrap().unwrap();
        }
        let deliverer = std::sync::Arc::clone(deliverer);
        under_way.spawn(async move { send(&deliverer, body).await });
    }
    under_way.join_all().await;
}

/// The median reply in milliseconds with an index that is up, and with one that is down once the breaker is open.
async fn replies(bootstrap: &Path) -> (f64, f64) {
    const HITS: usize = 1_000;
    let url = willing_index().await;
    let hit = include_str!("hit.json");
    let (mut up, mut down) = (Sample::default(), Sample::default());
    let start = async |destination: String| {
        let options = RigOptions::new(bootstrap)
            .env("PIXEL_DESTINATION", destination)
            .env("PIXEL_ATTEMPT_TIMEOUT_MS", "200")
            .env("PIXEL_BUDGET_MS", "200");
        Rig::start(options).await
    };
    let reached = start(format!("{url}/events")).await;
    // Nobody listens there.
    let lost = start("http://127.0.0.1:1/events".to_owned()).await;
    for _ in 0..10 {
        reached.invoke(hit).await;
        lost.invoke(hit).await;
    }
    for _ in 0..HITS / 50 {
        for (rig, sample) in [(&reached, &mut up), (&lost, &mut down)] {
            for _ in 0..50 {
                let invocation = rig.invoke(hit).await;
                assert!(matches!(invocation.result, InvokeResult::Reply(_)));
                sample.push(invocation.reply_time.unwrap());
            }
        }
    }
    (up.median(), down.median())
}

struct Replay {
    /// Events per second, medians of the rounds.
    bare: f64,
    ours: f64,
    /// Of the two, round by round, median.
    ratio: f64,
    /// Resident memory when a tenth is done, and at most.
    early: f64,
    peak: f64,
}

fn replay(pixel: &Path, count: usize, rounds: usize) -> Replay {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = folder.path().join("grown.db");
    let name = format!("sqlite:{}", store.display());
    eprintln!("making {count} events");
    let made = Command::new(pixel)
        .env_clear()
        .args(["demo", "--events", &count.to_string(), "--destination", &name])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let running = servers::start(Server::OpenSearch2);
    let mut samples: [Vec<f64>; 5] = Default::default();
    for round in 0..rounds {
        let index = |what: &str| format!("replay-bench-{what}-{}-{round}", std::process::id());
        let bare = with_index(&running, pixel, &index("bare"), |url| load(&store, url));
        let (ours, early, peak) = with_index(&running, pixel, &index("ours"), |url| {
            run_replay(pixel, &name, url, count)
        });
        let per_second = |took: Duration| count as f64 / took.as_secs_f64();
        eprintln!("bare {:.0}, replay {:.0} events/s", per_second(bare), per_second(ours));
        let (bare, ours) = (per_second(bare), per_second(ours));
        for (sample, value) in samples.iter_mut().zip([bare, ours, ours / bare, early, peak]) {
            sample.push(value);
        }
    }
    let [bare, ours, ratio, early, peak] = samples.map(|sample| median(&sample));
    Replay {
        bare,
        ours,
        ratio,
        early,
        peak,
    }
}

/// Sends bodies that are prepared beforehand, two at a time; only the sending counts. Prepared in parts, since a million
/// events do not fit everywhere.
fn load(store: &Path, url: &str) -> Duration {
    const PART: usize = 100_000;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let reader = Reader::open(store).unwrap();
    let deliverer = std::sync::Arc::new(deliverer(url));
    let (mut position, mut took) = (0, Duration::ZERO);
    loop {
        let rows = reader.events_after(position, PART).unwrap();
        let Some((last, _)) = rows.last() else { return took };
        position = *last;
        let events: Vec<Event> = rows.into_iter().map(|(_, event)| event).collect();
        let bodies: Vec<Body> = events
            .chunks(PIECE)
            .flat_map(|part| deliverer.target().bulk(part, RequestForm::default(), Limits::default()))
            .collect();
        drop(events);
        let began = Instant::now();
        runtime.block_on(send_all(&deliverer, bodies, 2));
        took += began.elapsed();
    }
}

/// Runs the command line, from its start to its end, and watches its memory.
fn run_replay(pixel: &Path, source: &str, url: &str, count: usize) -> (Duration, f64, f64) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let state = folder.path().join("state.json");
    let began = Instant::now();
    let child = Command::new(pixel)
        .env_clear()
        .current_dir(folder.path())
        .args(["replay", source, "--json", "-d", url, "--state", "state.json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = child.id();
    let watch = std::thread::spawn(move || {
        let (mut early, mut peak) = (0, 0);
        loop {
            let now = memory(process, "VmHWM");
            if now == 0 {
                return (early, peak);
            }
            peak = now;
            let reached = std::fs::read_to_string(&state).ok();
            let reached = reached.and_then(|state| serde_json::from_str::<Value>(&state).ok()?["position"].as_u64());
            if early == 0 && reached.is_some_and(|reached| reached >= count as u64 / 10) {
                early = now;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let output = child.wait_with_output().unwrap();
    let took = began.elapsed();
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["indexed"], count, "{summary}");
    let (early, peak) = watch.join().unwrap();
    (took, early as f64, peak as f64)
}
