//! `pixel serve`

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chrono::{Days, Utc};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::listen::parse_listen;
use super::{DestinationArgument, connect};
use crate::aws::client::{Deliverer, Endpoint, Request};
use crate::aws::courier::Way;
use crate::config::Config;
use crate::delivery::sqlite::{Reader, Store};
use crate::delivery::{Destination, Outcome};
use crate::event::iso;
use crate::geo::file::GeoFile;
use crate::manage::{index, token};
use crate::request::Ingress;
use crate::setup::server::explain;
use crate::stage::access_log::AccessLog;
use crate::stage::opt_out::OptOuts;
use crate::stage::server::{Report, Sink, Stage, serve};
use crate::terminal::{clean, json_line, printable, talk};

#[derive(Debug, clap::Args)]
#[command(mut_arg("destination", |argument| argument.help(super::ANY_DESTINATION)))]
pub(super) struct Arguments {
    #[command(flatten)]
    destination: DestinationArgument,
    /// Address and port to listen on; a port alone is on 127.0.0.1, and port 0 takes a free one
    #[arg(long, short, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080", allow_negative_numbers = true, value_parser = parse_listen)]
    listen: SocketAddr,
    /// Listen on this port of 127.0.0.1
    #[arg(long, value_name = "PORT", conflicts_with = "listen", allow_negative_numbers = true, value_parser = super::whole(0..=u16::MAX))]
    port: Option<u16>,
    /// Which ingress to stand in for
    #[arg(long, value_name = "INGRESS", default_value = Ingress::Passthrough.name(), value_parser = ingress())]
    ingress: Ingress,
    /// Delete events after this time, where they go to a file: `90d`, `3mo`, `1y`; a number alone is days
    #[arg(long, value_name = "DURATION", value_parser = super::days)]
    keep: Option<u32>,
    /// Print hits as JSON, one per line
    #[arg(long)]
    json: bool,
    /// Append a line of JSON for each answer to this file, in the form that the deployed API writes; `pixel audit` reads it
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
    /// Print no line per hit
    #[arg(long, short)]
    quiet: bool,
}

impl Arguments {
    /// The address to listen on.
    fn address(&self) -> SocketAddr {
        let on_this_machine = |port| SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port));
        self.port.map_or(self.listen, on_this_machine)
    }
}

/// Parses the ingresses' names, and lists them in help and errors.
fn ingress() -> impl TypedValueParser<Value = Ingress> {
    let names = Ingress::ALL.map(Ingress::name);
    PossibleValuesParser::new(names).map(|given| {
        Ingress::ALL
            .into_iter()
            .find(|ingress| ingress.name() == given)
            .unwrap_or(Ingress::Passthrough)
    })
}

/// Lines that may wait for a slow terminal; beyond, lines are dropped, never hits.
const LINES: usize = 4096;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (config, geo) = configuration(&arguments.destination)?;
    super::runtime()?.block_on(run_until_signal(arguments, config, geo))
}

/// The configuration, and the file of places that it names.
fn configuration(destination: &DestinationArgument) -> anyhow::Result<(Config, Option<GeoFile>)> {
    let (config, mut problems) = Config::read(&super::variables(destination).0);
    let geo = config.geo_file.as_deref().map(GeoFile::open).transpose();
    let geo = geo.unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    super::refuse(problems, destination)?;
    Ok((config, geo))
}

async fn run_until_signal(arguments: &Arguments, mut config: Config, geo: Option<GeoFile>) -> anyhow::Result<()> {
    let sink = sink(&config, config.destination.as_ref().context("no destination")?).await?;
    let fallback = match &config.fallback {
        Some(fallback) => Some(self::sink(&config, fallback).await?),
        None => None,
    };
    let (log, writer) = access_log(arguments)?;
    let token = token_of_this_run(&mut config, &sink)?;
    let address = arguments.address();
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; is something else there? Choose another with `--listen`")
    })?;
    if !config.has_key {
        talk("note    `PIXEL_PRIVACY_KEY` is not set: hashes of visitors and users begin anew with every start");
    }
    introduce(&config, listener.local_addr()?, token.as_deref());
    let (reports, lines) = mpsc::channel(LINES);
    let printer = printer(lines, arguments.json, arguments.quiet);
    let mut stage = Stage::new(config, arguments.ingress, sink, reports)
        .with_fallback(fallback)
        .with_access_log(log);
    if let Some(Destination::Sqlite(path)) = &stage.config.destination {
        let opened = OptOuts::open(stage.config.opt_out.clone(), path);
        stage.opt_outs = opened.with_context(|| format!("cannot read who has opted out from `{}`", path.display()))?;
    }
    stage.geo = geo;
    let stage = Arc::new(stage);
    let now_and_then = [
        warn_if_unreachable(&stage),
        keep(arguments.keep, &stage)?,
        look_for_bursts(&stage),
        learn_opt_outs(&stage).await,
    ];
    serve(Arc::clone(&stage), listener, stop()).await;
    for task in now_and_then.into_iter().flatten() {
        task.abort();
        // It lets go of the stage.
        let _ = task.await;
    }
    talk("stopping; waiting for what was begun");
    stage.drain().await;
    if let Sink::Store { store, .. } = &stage.sink {
        mark_bursts(store.path().to_owned()).await;
    }
    finish(stage, printer, writer)
}

type AccessLogWriter = Option<std::thread::JoinHandle<()>>;

fn access_log(arguments: &Arguments) -> anyhow::Result<(Option<AccessLog>, AccessLogWriter)> {
    let Some(path) = &arguments.access_log else {
        return Ok((None, None));
    };
    let (log, writer) = AccessLog::open(path).with_context(|| format!("the access log `{}`", path.display()))?;
    Ok((Some(log), Some(writer)))
}

/// Says at once when nobody answers at the destination, and what becomes of hits meanwhile.
fn warn_if_unreachable(stage: &Arc<Stage>) -> Option<JoinHandle<()>> {
    if matches!(stage.sink, Sink::Store { .. }) {
        return None;
    }
    let stage = Arc::clone(stage);
    Some(tokio::spawn(async move {
        let Sink::Remote { way, .. } = &stage.sink else { return };
        let reached = match way.as_ref() {
            Way::Index(index) if index.target().serverless => reach(index, WAKE_TIMEOUT).await,
            Way::Index(index) => reach(index, REACH_TIMEOUT).await,
            Way::Message(outlet) => reach(outlet, REACH_TIMEOUT).await,
        };
        let Err(reason) = reached else { return };
        let hits = stage.config.fallback.as_ref().map_or_else(
            || "are written whole to the log, from which `pixel replay` can store them".to_owned(),
            |fallback| format!("go to {fallback}"),
        );
        talk(&format!(
            "warning: the destination cannot be reached: {reason}\n  until it can, visitors get the image, and hits {hits}"
        ));
    }))
}

/// Asks a server for any answer. The error says why there is none.
async fn reach<R: Endpoint>(deliverer: &Deliverer<R>, timeout: Duration) -> Result<(), String> {
    let remote = deliverer.remote();
    let request = Request::json("HEAD", format!("{}/", remote.base()), "");
    let sent = deliverer.send(request, 0, timeout).await;
    sent.map(|_| ())
        .map_err(|error| explain(&error.to_string(), remote.base(), remote.auth().name()))
}

/// How long the destination may take for its first answer before that is said.
const REACH_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for OpenSearch Serverless, which may have to wake up.
const WAKE_TIMEOUT: Duration = Duration::from_mins(1);

/// How often old events are looked for.
const PRUNE_INTERVAL: Duration = Duration::from_mins(10);

/// Deletes old events now and then.
fn keep(days: Option<u32>, stage: &Arc<Stage>) -> anyhow::Result<Option<JoinHandle<()>>> {
    let Some(days) = days else { return Ok(None) };
    anyhow::ensure!(
        matches!(stage.sink, Sink::Store { .. }),
        "`--keep` deletes events of a file; for an index, `pixel setup --keep` and `pixel prune` do it"
    );
    let stage = Arc::clone(stage);
    Ok(Some(tokio::spawn(async move {
        loop {
            let before = Utc::now().checked_sub_days(Days::new(days.into()));
            if let (Sink::Store { store, .. }, Some(before)) = (&stage.sink, before) {
                match store.prune(before).await {
                    Ok(0) => {}
                    Ok(events) => talk(&format!("deleted {events} events from before {}", iso(before))),
                    Err(error) => talk(&format!("could not delete old events: {error}")),
                }
            }
            tokio::time::sleep(PRUNE_INTERVAL).await;
        }
    })))
}

/// How often an index is asked who has opted out elsewhere, and how often while it has not answered yet.
const OPT_OUTS_INTERVAL: Duration = Duration::from_mins(1);
const OPT_OUTS_RETRY: Duration = Duration::from_secs(5);
/// How long the first visitors may be kept waiting for that.
const OPT_OUTS_PATIENCE: Duration = Duration::from_secs(1);

/// Learns from the index who has opted out, before the first hit where the index answers.
async fn learn_opt_outs(stage: &Arc<Stage>) -> Option<JoinHandle<()>> {
    let index = stage.sink.index()?;
    let asked = tokio::time::timeout(OPT_OUTS_PATIENCE, index::opted_out(index)).await;
    let mut pause = if let Ok(Ok(codes)) = asked {
        stage.opt_outs.add(codes);
        OPT_OUTS_INTERVAL
    } else {
        talk("note    the index does not say yet who has opted out; it is asked again");
        OPT_OUTS_RETRY
    };
    let stage = Arc::clone(stage);
    Some(tokio::spawn(async move {
        while let Some(index) = stage.sink.index() {
            tokio::time::sleep(pause).await;
            if let Ok(codes) = index::opted_out(index).await {
                stage.opt_outs.add(codes);
                pause = OPT_OUTS_INTERVAL;
            }
        }
    }))
}

/// How often bursts are looked for, and how far back: twice as far, so that none is cut in two.
const BURST_INTERVAL: Duration = Duration::from_secs(30);

/// Classes bursts of hits in the store's file now and then, which no single hit shows.
fn look_for_bursts(stage: &Arc<Stage>) -> Option<JoinHandle<()>> {
    let Sink::Store { store, .. } = &stage.sink else {
        return None;
    };
    let path = store.path().to_owned();
    Some(tokio::spawn(async move {
        loop {
            tokio::time::sleep(BURST_INTERVAL).await;
            mark_bursts(path.clone()).await;
        }
    }))
}

async fn mark_bursts(path: PathBuf) {
    let since = (Utc::now() - 2 * BURST_INTERVAL).timestamp_millis();
    let marked = tokio::task::spawn_blocking(move || super::reclassify::mark_bursts(&path, since)).await;
    match marked {
        Ok(Ok(0)) | Err(_) => {}
        Ok(Ok(events)) => talk(&format!(
            "classed {events} events as automation: bursts over many codes"
        )),
        Ok(Err(error)) => talk(&format!(
            "could not look for bursts; `pixel reclassify` does: {error:#}"
        )),
    }
}

/// Closes the store, then waits for the last lines. Where a visitor's connection outlives the patience of [`serve`], the
/// process ends with it; what was committed is safe.
fn finish(stage: Arc<Stage>, printer: std::thread::JoinHandle<()>, writer: AccessLogWriter) -> anyhow::Result<()> {
    let Ok(stage) = Arc::try_unwrap(stage) else {
        return Ok(());
    };
    let (sinks, reports) = stage.apart();
    // The printer stops when nobody can report any more.
    drop(reports);
    for sink in sinks {
        if let Sink::Store { store, file } = sink {
            // The last one to close the file tidies up.
            drop(file);
            store.close();
        }
    }
    if let Some(writer) = writer {
        // A writer that failed has said so.
        let _ = writer.join();
    }
    anyhow::ensure!(printer.join().is_ok(), "the printer of hits has failed");
    Ok(())
}

/// While nobody has made a token, there is one for as long as this process runs.
fn token_of_this_run(config: &mut Config, sink: &Sink) -> anyhow::Result<Option<String>> {
    let kept = match sink {
        Sink::Store { store, .. } => !Reader::open(store.path())?.tokens()?.is_empty(),
        Sink::Remote { .. } => false,
    };
    if kept || !config.tokens.is_empty() {
        return Ok(None);
    }
    let token = token::of_bytes(super::random()?);
    config.tokens.add(token::hash(&token), &token::Scope::ALL);
    Ok(Some(token))
}

async fn sink(config: &Config, destination: &Destination) -> anyhow::Result<Sink> {
    match destination {
        Destination::Sqlite(path) => Ok(Sink::store(Store::open(path)?)),
        remote => Ok(Sink::remote(
            connect::way(config, remote).await?.context("no connection")?,
        )),
    }
}

fn introduce(config: &Config, address: SocketAddr, token: Option<&str>) {
    let destination = config.destination.as_ref().map(ToString::to_string).unwrap_or_default();
    talk(&format!("pixel   http://{address}/pixel.gif"));
    talk(&format!(
        "paste   <img src=\"http://{address}/pixel.gif\" width=\"1\" height=\"1\" alt=\"\">"
    ));
    // The page keeps the token and takes it out of its address; what stands behind `#` is never sent.
    let shown = token.map(|token| format!("#token={token}")).unwrap_or_default();
    talk(&format!("page    http://{address}/{shown}"));
    talk(&format!("events  {destination}"));
    if let Some(fallback) = &config.fallback {
        talk(&format!("else to {fallback}"));
    }
    if let Some(token) = token {
        talk(&format!(
            "token   {token}  (of this run, for http://{address}/v1/api/; `pixel token new` makes lasting ones)"
        ));
    }
    talk("Ctrl-C stops; nothing that was accepted is lost");
}

async fn stop() {
    let interrupted = tokio::signal::ctrl_c();
    let Ok(mut terminated) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
        let _ = interrupted.await;
        return;
    };
    tokio::select! {
        _ = interrupted => {}
        _ = terminated.recv() => {}
    }
}

/// Prints reports on a thread of its own, so that a slow terminal never holds up a visitor.
fn printer(mut lines: mpsc::Receiver<Report>, json: bool, quiet: bool) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        if quiet {
            // Nobody reads the reports from now on, so none are made.
            return;
        }
        let mut out = std::io::BufWriter::new(std::io::stdout());
        let immediate = std::io::stdout().is_terminal();
        while let Some(report) = lines.blocking_recv() {
            let line = if json {
                json_line(&as_json(&report))
            } else {
                as_text(&report)
            };
            let written = writeln!(out, "{}", clean(&line));
            let flushed = if immediate || lines.is_empty() {
                out.flush()
            } else {
                Ok(())
            };
            if written.and(flushed).is_err() {
                // Whoever read stdout has gone; the hits are stored all the same.
                return;
            }
        }
    })
}

/// The event of a report; null where there is none.
fn event_of(report: &Report) -> Value {
    let event = report.event.as_ref();
    let read = event.and_then(|event| serde_json::from_str(&event.document).ok());
    read.unwrap_or_default()
}

/// The request with the code as it is stored.
fn request_of(report: &Report, event: &Value) -> String {
    match event.pointer("/pixel/code").and_then(Value::as_str) {
        Some(code) => report.request.replace("{code}", code),
        None => report.request.clone(),
    }
}

fn as_json(report: &Report) -> Value {
    let request = request_of(report, &event_of(report));
    let mut line = json!({"time": iso(report.time), "request": request, "outcome": report.outcome.name()});
    match &report.outcome {
        Outcome::Ignored(why) => line["reason"] = why.name().into(),
        Outcome::Failed(failure) | Outcome::Returned(failure) | Outcome::Fallback(failure) => {
            line["reason"] = failure.reason.as_str().into();
        }
        Outcome::Indexed | Outcome::Queued | Outcome::Duplicate => {}
    }
    if let Some(event) = &report.event {
        line["event_id"] = event.id.as_str().into();
    }
    line
}

fn as_text(report: &Report) -> String {
    let event = event_of(report);
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
    format!(
        "{}  {:<9}  {}  {}  {}",
        report.time.format("%H:%M:%S"),
        report.outcome.to_string(),
        printable(&request_of(report, &event), 60),
        text("/client/ip"),
        printable(&text("/user_agent/original"), 60)
    )
}
