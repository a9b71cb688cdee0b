//! `pixel serve` with its SQLite file under load from wrk on the same machine: hits per second, latency, memory, and whether
//! every answer was the image and every answered hit is in the file.
//!
//! `cargo bench --bench serve [-- --seconds N --connections N --json FILE --pixel FILE]`; `benches/README.md` says more.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table goes to stdout, what is under way to stderr"
)]

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Options, Sample, build, cpu, machine, memory, milliseconds, table};

/// What a browser sends for an image on a page; wrk adds `Host`.
const HEADERS: [&str; 12] = [
    "Accept: image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7",
    "Cache-Control: no-cache",
    "Connection: keep-alive",
    "DNT: 1",
    "Pragma: no-cache",
    "Referer: https://shop.example/products/42?variant=blue&utm_source=newsletter",
    "Sec-Fetch-Dest: image",
    "Sec-Fetch-Mode: no-cors",
    "Sec-Fetch-Site: cross-site",
    "User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
];

const PATH: &str = "/pixel.gif?code=spring-2026&userid=u-482913&utm_source=newsletter&utm_medium=email&utm_campaign=spring%20sale&list=customers%20de";

const WARM_UP: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let options = Options::read();
    if Command::new("wrk").arg("-v").output().is_err() {
        eprintln!("`wrk` is not there, and this benchmark needs it: apt-get install wrk");
        return ExitCode::FAILURE;
    }
    let load = Load {
        seconds: options.number("--seconds", 10),
        connections: options.number("--connections", 32),
    };
    let pixel = options.after("--pixel").map(PathBuf::from);
    let pixel = pixel.unwrap_or_else(|| build("cli", ["--bin", "pixel"]));
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder can be made");
    let machine = machine();
    let synced = sync_latency(folder.path());
    let runs = [("--quiet", &["--quiet"][..]), ("a line per hit, to /dev/null", &[])];
    let runs = runs.map(|(name, arguments)| (name, run(&pixel, arguments, folder.path(), &load)));
    println!("{machine}");
    println!(
        "{} connections for {} s after {} s of warm-up; fdatasync of 4 KiB on this disk: minimum {:.2} ms, median {:.2} ms\n",
        load.connections,
        load.seconds,
        WARM_UP.as_secs(),
        synced.minimum(),
        synced.median()
    );
    println!("{}", table(&rows(&runs)));
    let figures: Vec<Value> = runs.iter().map(|(name, figures)| figures.json(name)).collect();
    options.write(&json!({
        "machine": machine,
        "connections": load.connections,
        "seconds": load.seconds,
        "fdatasync_ms": {"minimum": synced.minimum(), "median": synced.median()},
        "runs": figures,
    }));
    ExitCode::SUCCESS
}

struct Load {
    seconds: usize,
    connections: usize,
}

struct Figures {
    per_second: f64,
    p50: f64,
    p99: f64,
    slowest: f64,
    answered: u64,
    stored: u64,
    cpu_per_hit: f64,
    memory_begin: u64,
    memory_end: u64,
    memory_peak: u64,
}

/// One server, its warm-up, its load, its end, and a look into its file.
fn run(pixel: &Path, arguments: &[&str], folder: &Path, load: &Load) -> Figures {
    let file = folder.join(format!("pixel-{}.db", arguments.len()));
    let server = Server::start(pixel, arguments, &file);
    let warm_up = wrk(&server.url, WARM_UP, load.connections);
    let process = server.process.id();
    let (memory_begin, cpu_begin) = (memory(process, "VmRSS"), cpu(process));
    let seconds = Duration::from_secs(load.seconds.try_into().unwrap_or(10));
    let measured = wrk(&server.url, seconds, load.connections);
    let (memory_end, cpu_end) = (memory(process, "VmRSS"), cpu(process));
    let memory_peak = memory(process, "VmHWM");
    server.stop();

    let number = |figures: &Value, name: &str| figures[name].as_u64().unwrap_or(0);
    let answered = number(&measured, "answered");
    let total = answered + number(&warm_up, "answered");
    let stored = count(&file);
    // When its time is over, wrk closes its connections: the last request of each may be stored and its answer not counted.
    let unanswered = 2 * load.connections as u64;
    assert!(
        (total..=total + unanswered).contains(&stored),
        "{total} hits were answered and {stored} are stored"
    );
    for run in [&warm_up, &measured] {
        assert_eq!(
            (number(run, "wrong"), number(run, "errors")),
            (0, 0),
            "every answer is the image"
        );
    }
    let microseconds = |name| Duration::from_micros(number(&measured, name));
    let per_hit = cpu_end.saturating_sub(cpu_begin).as_secs_f64() * 1000.0;
    #[allow(clippy::cast_precision_loss, reason = "less than 2^52 hits")]
    let hits = answered as f64;
    Figures {
        per_second: hits / microseconds("microseconds").as_secs_f64(),
        p50: milliseconds(microseconds("p50_us")),
        p99: milliseconds(microseconds("p99_us")),
        slowest: milliseconds(microseconds("max_us")),
        answered: total,
        stored,
        cpu_per_hit: per_hit / hits,
        memory_begin,
        memory_end,
        memory_peak,
    }
}

fn wrk(url: &str, time: Duration, connections: usize) -> Value {
    let mut command = Command::new("wrk");
    command
        .args(["--threads", "1", "--timeout", "5s"])
        .args(["--connections", &connections.to_string()])
        .args(["--duration", &format!("{}s", time.as_secs())])
        .args(["--script", concat!(env!("CARGO_MANIFEST_DIR"), "/benches/serve.lua")]);
    for header in HEADERS {
        command.args(["--header", header]);
    }
    let output = command.arg(format!("{url}{PATH}")).output().expect("wrk runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let figures = text.lines().find_map(|line| line.strip_prefix("FIGURES "));
    let figures = figures.unwrap_or_else(|| panic!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr)));
    serde_json::from_str(figures).expect("the script prints JSON")
}

struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start(pixel: &Path, arguments: &[&str], file: &Path) -> Self {
        let mut process = Command::new(pixel)
            .args(["serve", "--listen", "127.0.0.1:0", "--destination"])
            .arg(format!("sqlite:{}", file.display()))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("pixel starts");
        let mut words = BufReader::new(process.stderr.take().expect("stderr is a pipe"));
        let (mut line, mut said) = (String::new(), String::new());
        // Notes come first.
        let url = loop {
            line.clear();
            let read = words.read_line(&mut line).expect("pixel says where it listens");
            assert!(read > 0, "pixel says: {said}");
            let of_pixel = line
                .split_whitespace()
                .nth(1)
                .and_then(|url| url.strip_suffix("/pixel.gif"));
            if let Some(url) = of_pixel {
                break url.to_owned();
            }
            said.push_str(&line);
        };
        // What it says later must find a reader, and be seen when it is not what is expected.
        std::thread::spawn(move || {
            for line in words.lines().map_while(Result::ok).filter(|line| line.contains("rror")) {
                eprintln!("pixel: {line}");
            }
        });
        Self { process, url }
    }

    /// Asks it to stop, and waits until everything is committed.
    fn stop(mut self) {
        let process = self.process.id().to_string();
        let asked = Command::new("sh")
            .args(["-c", "kill -TERM \"$1\"", "sh", &process])
            .status();
        assert!(
            asked.is_ok_and(|status| status.success()),
            "the server can be asked to stop"
        );
        assert!(
            self.process.wait().expect("the server ends").success(),
            "the server ends well"
        );
    }
}

/// Ends the server, so that none is left behind after a failure.
impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
    }
}

fn count(file: &Path) -> u64 {
    let connection = rusqlite::Connection::open(file).expect("the file is there");
    let count: i64 = connection
        .query_row("SELECT count(*) FROM events", [], |row| row.get(0))
        .expect("the file has events");
    count.unsigned_abs()
}

/// How long this disk takes to make 4 KiB durable: each commit waits for that, and all hits that wait share it.
fn sync_latency(folder: &Path) -> Sample {
    let mut file = File::create(folder.join("sync")).expect("a file can be made");
    let mut sample = Sample::default();
    for _ in 0..200 {
        let begun = Instant::now();
        file.write_all(&[0; 4096])
            .and_then(|()| file.sync_data())
            .expect("the disk can be written");
        sample.push(begun.elapsed());
    }
    sample
}

impl Figures {
    fn json(&self, name: &str) -> Value {
        json!({
            "name": name,
            "hits_per_second": self.per_second,
            "p50_ms": self.p50,
            "p99_ms": self.p99,
            "max_ms": self.slowest,
            "answered": self.answered,
            "stored": self.stored,
            "cpu_ms_per_hit": self.cpu_per_hit,
            "rss_begin_bytes": self.memory_begin,
            "rss_end_bytes": self.memory_end,
            "rss_peak_bytes": self.memory_peak,
        })
    }
}

fn rows(runs: &[(&str, Figures)]) -> Vec<Vec<String>> {
    let mut rows = vec![vec!["figure".to_owned()]];
    rows[0].extend(runs.iter().map(|(name, _)| (*name).to_owned()));
    rows[0].push("wanted".to_owned());
    let mut row = |name: &str, wanted: &str, value: &dyn Fn(&Figures) -> String| {
        let mut row = vec![name.to_owned()];
        row.extend(runs.iter().map(|(_, figures)| value(figures)));
        row.push(wanted.to_owned());
        rows.push(row);
    };
    row("hits per second", ">= 10000", &|it| format!("{:.0}", it.per_second));
    row("latency, median", "", &|it| format!("{:.2} ms", it.p50));
    row("latency, 99 of 100 within", "< 20 ms", &|it| {
        format!("{:.2} ms", it.p99)
    });
    row("latency, slowest", "", &|it| format!("{:.2} ms", it.slowest));
    row("answered with the image", "all", &|it| it.answered.to_string());
    row("stored", "at least as many", &|it| it.stored.to_string());
    row("processor time per hit", "", &|it| format!("{:.3} ms", it.cpu_per_hit));
    row("memory after the warm-up", "", &|it| mebibytes(it.memory_begin));
    row("memory at the end", "the same", &|it| mebibytes(it.memory_end));
    row("memory, peak", "", &|it| mebibytes(it.memory_peak));
    rows
}

#[allow(clippy::cast_precision_loss, reason = "sizes of processes")]
fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}
