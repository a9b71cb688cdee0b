//! The function's figures beside the floor: the real `bootstrap`, in both orders of replying and indexing, each before an index
//! that speaks plain HTTP and one that speaks TLS, and a hello world of the runtime's crate, each in an environment like Lambda's, taking turns so that all see the same machine.
//!
//! `cargo bench --bench function [-- --starts N --hits N --json FILE --bootstrap FILE]`; `benches/README.md` says how to read
//! the table.

#![allow(
    unreachable_pub,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table goes to stdout, and the tests' environment is shared"
)]

#[path = "../tests/support/index_stub.rs"]
mod index_stub;
#[path = "../tests/support/lambda_rig.rs"]
mod lambda_rig;
mod support;
#[path = "support/tls.rs"]
mod tls;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use index_stub::{Behaviour, IndexStub};
use lambda_rig::{InvokeResult, Rig, RigOptions};
use support::{Options, Sample, build, cpu, machine, memory, milliseconds, size, table, user_and_system};
use tls::TlsFront;

const HIT: &str = include_str!("hit.json");
const HIT_ID: &str = "JKJaXmPLvHcESHA=";

/// Hits before the measured ones.
const WARM_UP: usize = 200;

/// Hits in a row before it is the next program's turn: so many that a program finds the processor's caches as it left them,
/// so few that all programs see the same machine.
const TURN: usize = 50;

/// Hits to the slow index.
const SLOW_HITS: usize = 30;
const SLOW: Duration = Duration::from_millis(200);

/// One of the programs that are compared.
struct Contender {
    name: &'static str,
    program: PathBuf,
    /// `PIXEL_REPLY`; none for the one that indexes nothing.
    order: Option<&'static str>,
    stub: IndexStub,
    /// What stands between the program and the index.
    tls: Option<TlsFront>,
    /// Hits sent so far: every one has an id of its own.
    hits: usize,
    figures: Figures,
}

#[derive(Default)]
struct Figures {
    init: Sample,
    cold_reply: Sample,
    cold_billed: Sample,
    reply: Sample,
    billed: Sample,
    cpu: Duration,
    user_and_system: Duration,
    peak: u64,
    connections: usize,
    slow_reply: Sample,
    slow_billed: Sample,
}

fn main() {
    let options = Options::read();
    let (starts, hits) = (options.number("--starts", 60), options.number("--hits", 2000));
    let hello = build("capture", ["--example", "hello"]);
    let bootstrap = options.after("--bootstrap").map(PathBuf::from);
    let bootstrap = bootstrap.unwrap_or_else(|| build("capture", ["--bin", "bootstrap"]));
    let machine = machine();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let contenders = runtime.expect("a runtime can be made").block_on(async {
        let mut contenders = vec![
            Contender::new("hello world", hello, None).await,
            Contender::new("reply first", bootstrap.clone(), Some("first")).await,
            Contender::new("after indexing", bootstrap.clone(), Some("after-indexing")).await,
            Contender::new("first, TLS", bootstrap.clone(), Some("first"))
                .await
                .over_tls()
                .await,
            Contender::new("after, TLS", bootstrap, Some("after-indexing"))
                .await
                .over_tls()
                .await,
        ];
        measure_starts(&mut contenders, starts).await;
        measure_hits(&mut contenders, hits).await;
        measure_slow_index(&mut contenders).await;
        contenders
    });
    println!("{machine}\n{starts} starts, {hits} hits, {SLOW_HITS} hits to an index that takes 200 ms\n");
    println!("{}", table(&rows(&contenders, hits)));
    let figures: Vec<Value> = contenders.iter().map(|contender| contender.json(hits)).collect();
    options.write(&json!({"machine": machine, "starts": starts, "hits": hits, "programs": figures}));
}

async fn measure_starts(contenders: &mut [Contender], starts: usize) {
    for _ in 0..starts {
        for contender in &mut *contenders {
            let rig = contender.start().await;
            let (reply, billed) = contender.invoke(&rig).await;
            let figures = &mut contender.figures;
            figures.init.push(rig.init_durations()[0]);
            figures.cold_reply.push(reply);
            figures.cold_billed.push(billed);
            contender.end(rig).await;
        }
    }
}

async fn measure_hits(contenders: &mut [Contender], hits: usize) {
    let mut rigs = Vec::new();
    for contender in &mut *contenders {
        contender.stub.clear();
        rigs.push(contender.start().await);
    }
    for _ in 0..WARM_UP {
        for (contender, rig) in contenders.iter_mut().zip(&rigs) {
            contender.invoke(rig).await;
        }
    }
    let before: Vec<_> = rigs.iter().map(processor_time).collect();
    for begun in (0..hits).step_by(TURN) {
        for (contender, rig) in contenders.iter_mut().zip(&rigs) {
            for _ in begun..hits.min(begun + TURN) {
                let (reply, billed) = contender.invoke(rig).await;
                contender.figures.reply.push(reply);
                contender.figures.billed.push(billed);
            }
        }
    }
    for ((contender, rig), before) in contenders.iter_mut().zip(rigs).zip(before) {
        let after = processor_time(&rig);
        let figures = &mut contender.figures;
        figures.cpu = after.0.saturating_sub(before.0);
        figures.user_and_system = after.1.saturating_sub(before.1);
        figures.peak = rig.child_pid().map_or(0, |process| memory(process, "VmHWM"));
        figures.connections = contender.stub.connections();
        contender.end(rig).await;
    }
}

fn processor_time(rig: &Rig) -> (Duration, Duration) {
    let process = rig.child_pid().expect("the process runs");
    (cpu(process), user_and_system(process))
}

async fn measure_slow_index(contenders: &mut [Contender]) {
    for contender in &mut *contenders {
        let rig = contender.start().await;
        contender.invoke(&rig).await;
        contender.stub.behave(Behaviour::Delay(SLOW));
        for _ in 0..SLOW_HITS {
            let (reply, billed) = contender.invoke(&rig).await;
            contender.figures.slow_reply.push(reply);
            contender.figures.slow_billed.push(billed);
        }
        contender.stub.behave(Behaviour::Normal);
        contender.end(rig).await;
    }
}

impl Contender {
    async fn new(name: &'static str, program: PathBuf, order: Option<&'static str>) -> Self {
        Self {
            name,
            program,
            order,
            stub: IndexStub::start().await,
            tls: None,
            hits: 0,
            figures: Figures::default(),
        }
    }

    async fn over_tls(self) -> Self {
        let front = TlsFront::start(self.stub.address()).await;
        Self {
            tls: Some(front),
            ..self
        }
    }

    async fn start(&self) -> Rig {
        let mut options = RigOptions::new(&self.program);
        if let Some(order) = self.order {
            let url = self.tls.as_ref().map_or_else(|| self.stub.url(), TlsFront::url);
            options = options
                .env("PIXEL_DESTINATION", format!("{url}/events"))
                .env("PIXEL_AUTH", "es")
                .env("PIXEL_REPLY", order);
        }
        if let Some(tls) = &self.tls {
            options = options.env("PIXEL_CA_FILE", tls.certificate().to_string_lossy());
        }
        let rig = Rig::start(options).await;
        assert_eq!(rig.init_error(), None, "{} starts", self.name);
        rig
    }

    /// One hit: when the caller had the reply, and when the invocation was over.
    async fn invoke(&mut self, rig: &Rig) -> (Duration, Duration) {
        self.hits += 1;
        let id = format!("hit-{:011}=", self.hits);
        let invocation = rig.invoke(HIT.replace(HIT_ID, &id)).await;
        let InvokeResult::Reply(reply) = &invocation.result else {
            panic!("{}: {invocation:?}", self.name);
        };
        assert!(
            reply.starts_with(b"\"R0lGODlhAQAB"),
            "{}: the reply is the image",
            self.name
        );
        let reply = invocation.reply_time.expect("there is a reply");
        (reply, invocation.billed)
    }

    /// Ends the process, after a look at whether everything it was sent was stored.
    async fn end(&mut self, rig: Rig) {
        assert_eq!(rig.refusals(), Vec::<String>::new(), "{}", self.name);
        assert_eq!(self.stub.violations(), Vec::<String>::new(), "{}", self.name);
        if self.order.is_some() {
            assert_eq!(
                self.stub.documents().len(),
                self.hits,
                "{}: every hit is stored",
                self.name
            );
        }
        rig.kill().await;
        self.stub.clear();
        self.hits = 0;
    }

    fn json(&self, hits: usize) -> Value {
        let Figures {
            init,
            cold_reply,
            cold_billed,
            reply,
            billed,
            slow_reply,
            slow_billed,
            ..
        } = &self.figures;
        let sample =
            |sample: &Sample| json!({"minimum": sample.minimum(), "median": sample.median(), "count": sample.count()});
        json!({
            "name": self.name,
            "bytes": size(&self.program),
            "init_ms": sample(init),
            "cold_reply_ms": sample(cold_reply),
            "cold_billed_ms": sample(cold_billed),
            "reply_ms": sample(reply),
            "billed_ms": sample(billed),
            "cpu_ms_per_hit": per_hit(self.figures.cpu, hits),
            "user_and_system_ms_per_hit": per_hit(self.figures.user_and_system, hits),
            "peak_rss_bytes": self.figures.peak,
            "connections": self.figures.connections,
            "slow_index_reply_ms": sample(slow_reply),
            "slow_index_billed_ms": sample(slow_billed),
        })
    }
}

#[allow(clippy::cast_precision_loss, reason = "some thousands of hits")]
fn per_hit(time: Duration, hits: usize) -> f64 {
    milliseconds(time) / hits as f64
}

/// The table: a line per figure, a column per program, and how the function compares.
fn rows(contenders: &[Contender], hits: usize) -> Vec<Vec<String>> {
    let mut rows = vec![vec!["figure".to_owned()]];
    rows[0].extend(contenders.iter().map(|contender| contender.name.to_owned()));
    rows[0].extend(["first : hello".to_owned(), "wanted".to_owned()]);
    let mut row = |name: &str, unit: &str, digits: usize, wanted: &str, value: &dyn Fn(&Contender) -> f64| {
        let values: Vec<_> = contenders.iter().map(value).collect();
        let mut row = vec![name.to_owned()];
        row.extend(
            values
                .iter()
                .map(|value| format!("{value:.digits$} {unit}").trim().to_owned()),
        );
        let ratio = values[1] / values[0];
        row.push(if ratio.is_finite() {
            format!("{ratio:.2}")
        } else {
            String::new()
        });
        row.push(wanted.to_owned());
        rows.push(row);
    };
    row("size", "MB", 2, "<= 3.5 MB", &|it| megabytes(size(&it.program)));
    row("init, minimum", "ms", 2, "<= 1.5 x hello", &|it| {
        it.figures.init.minimum()
    });
    row("init, median", "ms", 2, "", &|it| it.figures.init.median());
    row("cold reply, minimum", "ms", 2, "", &|it| {
        it.figures.cold_reply.minimum()
    });
    row("cold reply, median", "ms", 2, "", &|it| it.figures.cold_reply.median());
    row("warm reply, minimum", "ms", 3, "", &|it| it.figures.reply.minimum());
    row("warm reply, median", "ms", 3, "<= 1.5 x hello + 0.05 ms", &|it| {
        it.figures.reply.median()
    });
    row("billed, minimum", "ms", 3, "", &|it| it.figures.billed.minimum());
    row("billed, median", "ms", 3, "", &|it| it.figures.billed.median());
    row("processor time per hit", "ms", 3, "<= 0.10 ms", &|it| {
        per_hit(it.figures.cpu, hits)
    });
    row("the same in ticks of 10 ms", "ms", 3, "", &|it| {
        per_hit(it.figures.user_and_system, hits)
    });
    row("peak memory (RSS)", "MiB", 2, "<= 5 MiB", &|it| {
        mebibytes(it.figures.peak)
    });
    #[allow(clippy::cast_precision_loss, reason = "a handful of connections")]
    row("connections to the index", "", 0, "1", &|it| {
        it.figures.connections as f64
    });
    row("index takes 200 ms: reply, median", "ms", 2, "< 2 ms", &|it| {
        it.figures.slow_reply.median()
    });
    row("index takes 200 ms: billed, median", "ms", 0, "", &|it| {
        it.figures.slow_billed.median()
    });
    rows
}

#[allow(clippy::cast_precision_loss, reason = "sizes of programs")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[allow(clippy::cast_precision_loss, reason = "sizes of processes")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
