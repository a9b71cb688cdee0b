//! `pixel serve`

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::{DateTime, Days, Utc};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::listen::parse_listen;
use super::source::Source;
use super::{DestinationArgument, connect, login, privacy_key, public_url};
use crate::client::http::{ClientRequest, Deliverer, Endpoint};
use crate::client::router::RemoteDestination;
use crate::config::Config;
use crate::config::token::{LOGIN_LIFETIME, Scope};
use crate::destination::Destination;
use crate::hit::event::format_iso;
use crate::hit::outcome::Outcome;
use crate::hit::request::Ingress;
use crate::server::access_log::AccessLog;
use crate::server::geo_file::GeoFile;
use crate::server::{HitReport, Limits, PixelServer, Sink, raise_open_files, serve};
use crate::setup::server::explain;
use crate::sqlite::{Purge, Store, StoreError};
use crate::terminal::{clean, json_line, log_line, print_message, printable};

#[derive(Debug, clap::Args)]
#[command(mut_arg("destination", |argument| argument.help(super::ANY_DESTINATION)))]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct Arguments {
    #[command(flatten)]
    destination: DestinationArgument,
    /// The address and port to listen on; a port alone means 127.0.0.1, and port 0 takes a free one
    #[arg(long, short, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080", allow_negative_numbers = true, value_parser = parse_listen)]
    listen: SocketAddr,
    /// Listen on this port of 127.0.0.1
    #[arg(long, value_name = "PORT", conflicts_with = "listen", allow_negative_numbers = true, value_parser = super::whole(0..=u16::MAX))]
    port: Option<u16>,
    /// Trust the address that one proxy before the server adds to `X-Forwarded-For`; the same as `PIXEL_TRUSTED_HOPS=1`
    #[arg(long)]
    behind_proxy: bool,
    /// The ingress whose requests and replies the server imitates
    #[arg(long, value_name = "INGRESS", default_value = Ingress::Passthrough.name(), value_parser = ingress())]
    ingress: Ingress,
    /// Delete events after this time, if they go to a file: `90d`, `3mo`, `1y`; a number alone means days. Once a day the
    /// file is rewritten, so that none of their bytes are left
    #[arg(long, value_name = "DURATION", value_parser = super::days)]
    keep: Option<u32>,
    /// Print hits as JSON, one per line
    #[arg(long)]
    json: bool,
    /// Append a line of JSON for each answer to this file, in the format of the deployed API; `pixel audit` reads it
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
    /// Print no line per hit
    #[arg(long, short)]
    quiet: bool,
    /// The URL at which visitors reach the pixel, as in `https://pixel.example/prod`
    /// [default: `$PIXEL_PUBLIC_URL`, else that of the request]
    #[arg(long, value_name = "URL", value_parser = public_url::parse)]
    url: Option<String>,
    /// Without `PIXEL_PRIVACY_KEY`, use a key that is lost when the process ends, instead of one that is kept in a file
    #[arg(long)]
    ephemeral_key: bool,
}

impl Arguments {
    /// Returns the address to listen on.
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

/// The number of lines that may wait for a slow terminal; beyond it, lines are dropped, never hits.
const MAX_WAITING_LINES: usize = 4096;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (mut config, geo) = configuration(arguments)?;
    if let Some(url) = &arguments.url {
        config.public_url = Some(url.clone());
    }
    super::runtime()?.block_on(run_until_signal(arguments, config, geo))
}

/// Reads the configuration and the geo file that it names.
fn configuration(arguments: &Arguments) -> anyhow::Result<(Config, Option<GeoFile>)> {
    const HOPS: &str = "PIXEL_TRUSTED_HOPS";
    let mut variables = super::variables(&arguments.destination).0;
    if arguments.behind_proxy {
        let before = variables.insert(HOPS.to_owned(), "1".to_owned());
        if let Some(before) = before.filter(|before| before.trim() != "1") {
            return Err(super::WrongArguments(format!(
                "cannot believe one proxy and `{HOPS}={}`; leave out `--behind-proxy` or the variable",
                printable(&before, 20)
            ))
            .into());
        }
    }
    let (mut config, mut problems) = Config::read(&variables);
    let geo = config.geo_file.as_deref().map(GeoFile::open).transpose();
    let geo = geo.unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    super::refuse(problems, &arguments.destination)?;
    if !arguments.ephemeral_key {
        privacy_key::apply_file(&mut config, &variables)?;
    }
    Ok((config, geo))
}

async fn run_until_signal(arguments: &Arguments, mut config: Config, geo: Option<GeoFile>) -> anyhow::Result<()> {
    let limits = Limits::new(raise_open_files());
    if arguments.ephemeral_key && !config.has_key {
        print_message(
            "note    the privacy key ends with this process: nobody can find again by address what is stored of a person",
        );
    }
    let sink = sink(&config, config.destination.as_ref().context("no destination")?).await?;
    let fallback = match &config.fallback {
        Some(fallback) => Some(self::sink(&config, fallback).await?),
        None => None,
    };
    let (log, writer) = access_log(arguments)?;
    let address = arguments.address();
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; is something else there? Choose another with `--listen`")
    })?;
    if !arguments.ephemeral_key {
        // Only once it is certain that the server starts.
        privacy_key::create_if_missing(&mut config, &super::environment())?;
    }
    introduce(&config, listener.local_addr()?, sign_in(&config).await.as_ref());
    let (reports, lines) = mpsc::channel(MAX_WAITING_LINES);
    let printer = printer(lines, arguments.json, arguments.quiet);
    let mut server = PixelServer::new(config, arguments.ingress, sink, reports)
        .with_fallback(fallback)
        .with_access_log(log)
        .with_limits(limits);
    if let Sink::Store { file, .. } = &server.sink {
        let read = server.opt_outs.refresh_from_file(file).await;
        read.context("cannot read who has opted out")?;
    }
    server.geo = geo;
    let server = Arc::new(server);
    let now_and_then = [
        warn_if_unreachable(&server),
        keep(arguments.keep, &server)?,
        look_for_bursts(&server),
        learn_opt_outs(&server).await,
    ];
    serve(Arc::clone(&server), listener, stop()).await;
    for task in now_and_then.into_iter().flatten() {
        task.abort();
        // The task holds a reference to the server.
        let _ = task.await;
    }
    print_message("stopping; waiting for what was begun");
    server.drain().await;
    if let Sink::Store { store, .. } = &server.sink {
        mark_bursts(store.path().to_owned()).await;
    }
    finish(server, printer, writer)
}

type AccessLogWriter = Option<std::thread::JoinHandle<()>>;

fn access_log(arguments: &Arguments) -> anyhow::Result<(Option<AccessLog>, AccessLogWriter)> {
    let Some(path) = &arguments.access_log else {
        return Ok((None, None));
    };
    let (log, writer) = AccessLog::open(path).with_context(|| format!("the access log `{}`", path.display()))?;
    Ok((Some(log), Some(writer)))
}

/// Reports at once when the destination does not answer, and what happens to hits meanwhile.
fn warn_if_unreachable(server: &Arc<PixelServer>) -> Option<JoinHandle<()>> {
    if matches!(server.sink, Sink::Store { .. }) {
        return None;
    }
    let server = Arc::clone(server);
    Some(tokio::spawn(async move {
        let Sink::Remote { way, .. } = &server.sink else { return };
        let reached = match way.as_ref() {
            RemoteDestination::Index(index) if index.target().serverless => check_reachable(index, WAKE_TIMEOUT).await,
            RemoteDestination::Index(index) => check_reachable(index, REACH_TIMEOUT).await,
            RemoteDestination::Message(outlet) => check_reachable(outlet, REACH_TIMEOUT).await,
        };
        let Err(reason) = reached else { return };
        let hits = server.config.fallback.as_ref().map_or_else(
            || "are written whole to the log, from which `pixel replay` can store them".to_owned(),
            |fallback| format!("go to {fallback}"),
        );
        print_message(&format!(
            "warning: the destination cannot be reached: {reason}\n  until it can, visitors get the image, and hits {hits}"
        ));
    }))
}

/// Sends a request and accepts any response. The error is the reason why there is none.
async fn check_reachable<R: Endpoint>(deliverer: &Deliverer<R>, timeout: Duration) -> Result<(), String> {
    let remote = deliverer.remote();
    let request = ClientRequest::json("HEAD", format!("{}/", remote.base()), "");
    let sent = deliverer.send(request, 0, timeout).await;
    sent.map(|_| ())
        .map_err(|error| explain(&error.to_string(), remote.base(), remote.auth().name()))
}

/// The time for the destination's first response before a warning.
const REACH_TIMEOUT: Duration = Duration::from_secs(5);
/// The time for the first response of OpenSearch Serverless, which may have to wake up.
const WAKE_TIMEOUT: Duration = Duration::from_mins(1);

/// The interval between deletions of old events.
const PRUNE_INTERVAL: Duration = Duration::from_mins(10);

/// The minimum interval between rewrites of the file: one writes as much as the file is large, and hits wait for it.
/// Meanwhile deleted data is overwritten in place.
const PURGE_INTERVAL: Duration = Duration::from_hours(24);

/// Deletes old events periodically.
fn keep(days: Option<u32>, server: &Arc<PixelServer>) -> anyhow::Result<Option<JoinHandle<()>>> {
    let Some(days) = days else { return Ok(None) };
    anyhow::ensure!(
        matches!(server.sink, Sink::Store { .. }),
        "`--keep` deletes events of a file; for an index, `pixel setup --keep` and `pixel prune` do it"
    );
    let server = Arc::clone(server);
    Ok(Some(tokio::spawn(async move {
        // The last time when the file was rewritten.
        let mut purged: Option<Instant> = None;
        loop {
            let before = Utc::now().checked_sub_days(Days::new(days.into()));
            if let (Sink::Store { store, .. }, Some(before)) = (&server.sink, before) {
                let everywhere = purged.is_none_or(|at| at.elapsed() >= PURGE_INTERVAL);
                match delete_old(store, before, everywhere).await {
                    Ok(true) if everywhere => purged = Some(Instant::now()),
                    Ok(_) => {}
                    Err(error) => print_message(&format!("could not delete old events: {error}")),
                }
            }
            tokio::time::sleep(PRUNE_INTERVAL).await;
        }
    })))
}

/// Deletes the events from before a time, and removes their bytes from the file. Returns true if that was done, or there was
/// nothing to do.
async fn delete_old(store: &Store, before: DateTime<Utc>, everywhere: bool) -> Result<bool, StoreError> {
    let events = store.prune(before).await?;
    if events > 0 {
        print_message(&format!("deleted {events} events from before {}", format_iso(before)));
    } else if !(everywhere && store.has_remnants()?) {
        return Ok(false);
    }
    match store.purge(everywhere).await? {
        Purge::Complete => Ok(true),
        Purge::Incomplete(reason) => {
            print_message(&format!(
                "note    deleted events can still be read in the bytes of the file or its `-wal`: {reason}; tried again in {} minutes",
                PRUNE_INTERVAL.as_secs() / 60
            ));
            Ok(false)
        }
    }
}

/// The interval between requests to an index for opt-outs made elsewhere.
const OPT_OUTS_INTERVAL: Duration = Duration::from_mins(1);
/// The interval between those requests while the index has not answered yet.
const OPT_OUTS_RETRY: Duration = Duration::from_secs(5);
/// The maximum time for which the first visitors wait for the opt-outs.
const OPT_OUTS_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads the opt-outs from the index; if it answers, before the first hit.
async fn learn_opt_outs(server: &Arc<PixelServer>) -> Option<JoinHandle<()>> {
    let index = server.sink.index()?;
    let asked = tokio::time::timeout(OPT_OUTS_TIMEOUT, server.opt_outs.refresh_from_index(index)).await;
    let mut pause = if let Ok(Ok(())) = asked {
        OPT_OUTS_INTERVAL
    } else {
        print_message("note    the index does not say yet who has opted out; it is asked again");
        OPT_OUTS_RETRY
    };
    let server = Arc::clone(server);
    Some(tokio::spawn(async move {
        while let Some(index) = server.sink.index() {
            tokio::time::sleep(pause).await;
            if server.opt_outs.refresh_from_index(index).await.is_ok() {
                pause = OPT_OUTS_INTERVAL;
            }
        }
    }))
}

/// The interval between searches for bursts. Each looks back twice as far, so that no burst is cut in two.
const BURST_INTERVAL: Duration = Duration::from_secs(30);

/// Classifies bursts of hits in the store's file periodically, because no single hit shows a burst.
fn look_for_bursts(server: &Arc<PixelServer>) -> Option<JoinHandle<()>> {
    let Sink::Store { store, .. } = &server.sink else {
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
        Ok(Ok(events)) => print_message(&format!(
            "classed {events} events as automation: bursts over many codes"
        )),
        Ok(Err(error)) => print_message(&format!(
            "could not look for bursts; `pixel reclassify` does: {error:#}"
        )),
    }
}

/// Closes the store, then waits for the last lines. If a visitor's connection outlives the timeout of [`serve`], the process
/// ends with it; committed data is safe.
fn finish(
    server: Arc<PixelServer>,
    printer: std::thread::JoinHandle<()>,
    writer: AccessLogWriter,
) -> anyhow::Result<()> {
    let Ok(server) = Arc::try_unwrap(server) else {
        return Ok(());
    };
    let (sinks, reports) = server.into_parts();
    // The printer stops when nothing can send reports any more.
    drop(reports);
    for sink in sinks {
        if let Sink::Store { store, file } = sink {
            // The last one to close the file tidies up.
            drop(file);
            store.close();
        }
    }
    if let Some(writer) = writer {
        // A writer that failed has reported it.
        let _ = writer.join();
    }
    anyhow::ensure!(printer.join().is_ok(), "the printer of hits has failed");
    Ok(())
}

/// The method by which a browser signs in to the page.
enum SignIn {
    /// A link with this secret.
    Secret(String),
    /// A link from `pixel login`.
    Command,
}

/// The maximum time for an index to store the secret of the first link.
const SIGN_IN_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns how a browser signs in; none if events go to a queue or stream, which cannot be queried. A secret is only for a
/// person at a terminal: other output becomes part of a log.
async fn sign_in(config: &Config) -> Option<SignIn> {
    let destination = config.destination.as_ref()?;
    if matches!(destination, Destination::Message(_)) {
        return None;
    }
    if !std::io::stderr().is_terminal() {
        return Some(SignIn::Command);
    }
    let made = async {
        let source = Source::open_with(config, destination).await?;
        login::new_login(&source, &Scope::ALL).await
    };
    match tokio::time::timeout(SIGN_IN_TIMEOUT, made).await {
        Ok(Ok(secret)) => Some(SignIn::Secret(secret)),
        Ok(Err(_)) | Err(_) => Some(SignIn::Command),
    }
}

async fn sink(config: &Config, destination: &Destination) -> anyhow::Result<Sink> {
    match destination {
        Destination::Sqlite(path) => Ok(Sink::store(Store::open(path)?)),
        remote => Ok(Sink::remote(
            connect::open_remote(config, remote).await?.context("no connection")?,
        )),
    }
}

fn introduce(config: &Config, address: SocketAddr, sign_in: Option<&SignIn>) {
    let destination = config.destination.as_ref().map(ToString::to_string).unwrap_or_default();
    let base = config
        .public_url
        .clone()
        .unwrap_or_else(|| public_url::from_address(address));
    print_message(&format!("listen  {address}"));
    if config.public_url.is_none() && !address.ip().is_loopback() {
        print_message(
            "note    set `PIXEL_PUBLIC_URL` (or `--url`) to the URL by which visitors reach this server: lines to paste need it",
        );
    }
    print_message(&format!("pixel   {base}/pixel.gif"));
    print_message(&format!(
        "paste   <img src=\"{base}/pixel.gif\" width=\"1\" height=\"1\" alt=\"\">"
    ));
    match sign_in {
        Some(SignIn::Secret(secret)) => print_message(&format!(
            "page    {}  (signs you in, once, within {} minutes; `pixel login` prints another)",
            login::link(&base, secret),
            LOGIN_LIFETIME.num_minutes()
        )),
        Some(SignIn::Command) => print_message(&format!(
            "page    {base}/  (run `pixel login` for a link that signs you in)"
        )),
        None => {}
    }
    print_message(&format!("events  {destination}"));
    if let Some(fallback) = &config.fallback {
        print_message(&format!("else to {fallback}"));
    }
    print_message("Ctrl-C stops; nothing that was accepted is lost");
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

/// Prints reports on a thread of its own, so that a slow terminal never delays a visitor.
fn printer(mut lines: mpsc::Receiver<HitReport>, json: bool, quiet: bool) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        if quiet {
            // Nobody reads the reports from now on, so none are made.
            return;
        }
        let mut out = std::io::BufWriter::new(std::io::stdout());
        let immediate = std::io::stdout().is_terminal();
        while let Some(report) = lines.blocking_recv() {
            let mut line = if json {
                json_line(&as_json(&report))
            } else {
                log_line(&as_text(&report))
            };
            // In one write, so that no line of stderr comes between the line and its end if both go to one log.
            line.push('\n');
            let written = out.write_all(clean(&line).as_bytes());
            let flushed = if immediate || lines.is_empty() {
                out.flush()
            } else {
                Ok(())
            };
            if written.and(flushed).is_err() {
                // The reader of stdout has gone; hits are still stored.
                return;
            }
        }
    })
}

/// Returns the event of a report; null if there is none.
fn event_of(report: &HitReport) -> Value {
    let event = report.event.as_ref();
    let read = event.and_then(|event| serde_json::from_str(&event.document).ok());
    read.unwrap_or_default()
}

/// Returns the request with the code as it is stored.
fn request_of(report: &HitReport, event: &Value) -> String {
    match event.pointer("/pixel/code").and_then(Value::as_str) {
        Some(code) => report.request.replace("{code}", code),
        None => report.request.clone(),
    }
}

fn as_json(report: &HitReport) -> Value {
    let request = request_of(report, &event_of(report));
    let mut line = json!({"time": format_iso(report.time), "request": request, "outcome": report.outcome.name()});
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

fn as_text(report: &HitReport) -> String {
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
