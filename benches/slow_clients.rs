//! Visitors of `pixel serve` while slow clients hold more connections than the server may have files open.
//!
//! `cargo bench --bench slow_clients [-- --seconds N --json FILE --pixel FILE]`; `benches/README.md` says more.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "the table goes to stdout, what is under way to stderr, and a benchmark may fail where it stands"
)]

mod support;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Options, Sample, build, machine, memory, table};

const HALF_BODY: &[u8] = b"POST /v1/api/codes HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100\r\n\r\n{\"campaign\":";
const HALF_HEAD: &[u8] = b"GET /pixel.gif HTTP/1.1\r\nHost: a.exa";
const PAGE: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
const HIT: &[u8] =
    b"GET /pixel.gif HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nUser-Agent: Mozilla/5.0\r\n\r\n";

/// Slow clients of each kind: what they send, and how many there are.
fn slow_clients() -> [(&'static str, Vec<u8>, usize); 3] {
    [
        ("half a body", HALF_BODY.to_vec(), 300),
        ("60 pages that are never read", PAGE.repeat(60), 250),
        ("half a head", HALF_HEAD.to_vec(), 100),
    ]
}

/// The pause after which a slow client checks whether it was closed, and comes back.
const RETURN_INTERVAL: Duration = Duration::from_millis(200);
/// Between two visitors.
const VISIT_INTERVAL: Duration = Duration::from_millis(5);
/// After so long a visitor goes without the image.
const VISIT_TIMEOUT: Duration = Duration::from_secs(3);

fn main() {
    let options = Options::read();
    let seconds = Duration::from_secs(options.number("--seconds", 20).try_into().unwrap());
    let pixel = options.after("--pixel").map(PathBuf::from);
    let pixel = pixel.unwrap_or_else(|| build("cli", ["--bin", "pixel"]));
    let machine = machine();
    let runs = [
        ("soft limit 256", "ulimit -Sn 256", true),
        ("hard limit 256", "ulimit -n 256", true),
        ("hard limit 256, nobody slow", "ulimit -n 256", false),
    ];
    let runs = runs.map(|(name, limit, are_slow)| (name, run(&pixel, limit, are_slow, seconds)));
    println!("{machine}\n{} s each\n", seconds.as_secs());
    println!("{}", table(&rows(&runs)));
    let figures: Vec<Value> = runs.iter().map(|(name, figures)| figures.json(name)).collect();
    options.write(&json!({"machine": machine, "seconds": seconds.as_secs(), "runs": figures}));
}

struct Figures {
    visits: Sample,
    failed: usize,
    /// At the end.
    connections: u64,
    /// The number of times that slow clients came back.
    returned: u64,
    memory_peak: u64,
}

fn run(pixel: &Path, limit: &str, are_slow: bool, time: Duration) -> Figures {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let server = Server::start(pixel, limit, folder.path());
    let (stop, returned) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut threads = Vec::new();
    if are_slow {
        for (_, sends, count) in slow_clients() {
            let (stop, returned, address) = (Arc::clone(&stop), Arc::clone(&returned), server.address);
            threads.push(std::thread::spawn(move || {
                hold(address, &sends, count, &stop, &returned);
            }));
        }
        // Until all of them have come.
        sleep(Duration::from_secs(3));
    }
    let (mut visits, mut failed) = (Sample::default(), 0);
    let begun = Instant::now();
    while begun.elapsed() < time {
        let visit = Instant::now();
        match open_image(server.address) {
            Ok(()) => visits.push(visit.elapsed()),
            Err(error) => {
                eprintln!("a visitor got no image: {error}");
                failed += 1;
            }
        }
        sleep(VISIT_INTERVAL.saturating_sub(visit.elapsed()));
    }
    let figures = Figures {
        visits,
        failed,
        connections: server.connections(),
        returned: returned.load(Ordering::Relaxed),
        memory_peak: memory(server.process.id(), "VmHWM"),
    };
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    figures
}

/// Holds so many connections on which this was sent, and opens those again that are closed.
fn hold(address: SocketAddr, sends: &[u8], count: usize, stop: &AtomicBool, returned: &AtomicU64) {
    let open = || {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_nonblocking(true).ok()?;
        // What is not taken at once is not sent.
        let _ = stream.write(sends);
        Some(stream)
    };
    let reads_nothing = sends.starts_with(PAGE);
    let mut held: Vec<Option<TcpStream>> = (0..count).map(|_| open()).collect();
    while !stop.load(Ordering::Relaxed) {
        sleep(RETURN_INTERVAL);
        for client in &mut held {
            if client.as_mut().is_none_or(|stream| is_closed(stream, reads_nothing)) {
                *client = open();
                returned.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn is_closed(stream: &mut TcpStream, reads_nothing: bool) -> bool {
    let mut buffer = [0; 4096];
    if reads_nothing {
        // The end would stand behind the answer.
        return stream
            .write(b"\r\n")
            .is_err_and(|error| error.kind() != ErrorKind::WouldBlock);
    }
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// A visitor on a connection of its own.
fn open_image(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, VISIT_TIMEOUT)?;
    stream.set_read_timeout(Some(VISIT_TIMEOUT))?;
    stream.write_all(HIT)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if answer.starts_with(b"HTTP/1.1 200") && answer.windows(3).any(|part| part == b"GIF") {
        Ok(())
    } else {
        Err(std::io::Error::other("the answer is no image"))
    }
}

struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start(pixel: &Path, limit: &str, folder: &Path) -> Self {
        let mut process = Command::new("sh")
            .args([
                "-c",
                &format!("{limit}; exec \"$0\" serve --quiet --listen 127.0.0.1:0 --destination sqlite:pixel.db"),
            ])
            .arg(pixel)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut words = BufReader::new(process.stderr.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let address = words.by_ref().find_map(|line| {
            let url = line.strip_prefix("pixel   http://")?;
            url.split('/').next()?.parse().ok()
        });
        // What it says later must find a reader.
        std::thread::spawn(move || words.for_each(drop));
        Self {
            process,
            address: address.expect("pixel says where it listens"),
        }
    }

    fn connections(&self) -> u64 {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix("pixel_connections "));
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

/// Ends the server, so that none is left behind after a failure.
impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Figures {
    fn json(&self, name: &str) -> Value {
        json!({
            "name": name,
            "visits": self.visits.count(),
            "failed": self.failed,
            "p50_ms": self.visits.median(),
            "p99_ms": self.visits.at(0.99),
            "max_ms": self.visits.at(1.0),
            "connections": self.connections,
            "slow_clients_returned": self.returned,
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
    let milliseconds = |value: f64| format!("{value:.2} ms");
    row("visitors with the image", "all", &|it| it.visits.count().to_string());
    row("visitors without", "0", &|it| it.failed.to_string());
    row("latency, median", "", &|it| milliseconds(it.visits.median()));
    row("latency, 99 of 100 within", "< 100 ms", &|it| {
        milliseconds(it.visits.at(0.99))
    });
    row("latency, slowest", "", &|it| milliseconds(it.visits.at(1.0)));
    row("connections at the end", "", &|it| it.connections.to_string());
    row("slow clients that came back", "", &|it| it.returned.to_string());
    row("memory, peak", "", &|it| format!("{} MiB", it.memory_peak / 1_048_576));
    rows
}
