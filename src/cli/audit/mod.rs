//! `pixel audit`

#[cfg(feature = "cli")]
pub mod cloudwatch;
#[cfg(feature = "cli")]
pub mod reconcile;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::archive::Pages;
use super::{DestinationArgument, WrongArguments, configuration, connect, queue};
use crate::cli::audit::cloudwatch::{Counted, Dimensions};
use crate::cli::audit::reconcile::{
    AnsweredHits, Fallback, Holding, LogOutcomes, Noted, Places, Report, Window, audit, noted,
};
use crate::client::http::{ClientRequest, Deliverer, Endpoint, SendError, http_client};
use crate::config::Config;
use crate::destination::message::{MessageService, MessageTarget};
use crate::destination::{Auth, Destination, Service};
use crate::hit::event::format_iso;
use crate::replay;
use crate::replay::LogExport;
use crate::setup::server::explain;
use crate::sqlite::Reader;
use crate::terminal::{print, print_message, printable};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The first moment: a day or an RFC 3339 time, in UTC if it names no time zone
    #[arg(long, value_name = "TIME", value_parser = super::moment)]
    from: DateTime<Utc>,
    /// The first moment after it
    #[arg(long, value_name = "TIME", value_parser = super::moment)]
    to: DateTime<Utc>,
    /// The access log: of `pixel serve --access-log`, or of the deployed API, as lines or as printed by `aws logs
    /// filter-log-events`
    #[arg(long, value_name = "FILE", group = "stage")]
    access_log: Vec<PathBuf>,
    /// The ids of the answered hits, one per line
    #[arg(long, value_name = "FILE", group = "stage")]
    ids: Option<PathBuf>,
    /// The number of answered requests, as API Gateway's metric `Count` reports it. Only numbers are compared then, which is
    /// less exact than ids: the metric also counts requests that reach no function, such as `/opt-out`
    #[arg(long, value_name = "NUMBER", group = "stage")]
    count: Option<u64>,
    /// A file with the metric `Count` as `aws cloudwatch get-metric-data` or `get-metric-statistics` prints it
    #[arg(long, value_name = "FILE", group = "stage")]
    metrics: Vec<PathBuf>,
    /// Read the metric `Count` from `CloudWatch`, for the API with these dimensions, as in `ApiName=pixel,Stage=prod` (REST)
    /// or `ApiId=a1b2c3` (HTTP); with detailed metrics, add `Method=GET,Resource=/pixel.gif` to count only that resource
    #[arg(long, value_name = "DIMENSIONS", group = "stage")]
    api: Option<Dimensions>,
    /// The address of `CloudWatch` [default: `https://monitoring.$AWS_REGION.amazonaws.com`]
    #[arg(long, value_name = "URL", requires = "api")]
    endpoint: Option<String>,
    /// The function's log, or what `pixel serve` wrote to stderr
    #[arg(long, value_name = "FILE")]
    log: Vec<PathBuf>,
    /// A queue before the destination, or a dead-letter queue, as `sqs://HOST/ACCOUNT/QUEUE`
    #[arg(long, value_name = "URL")]
    queue: Vec<String>,
    #[command(flatten)]
    destination: DestinationArgument,
    /// Print the numbers as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = configuration(&arguments.destination)?;
    ensure!(
        arguments.from < arguments.to,
        "`--from` ({}) is not before `--to` ({})",
        format_iso(arguments.from),
        format_iso(arguments.to)
    );
    let window = Window {
        from: arguments.from,
        to: arguments.to,
    };
    let runtime = super::runtime()?;
    let answered = runtime.block_on(read_answered(arguments, &config, &window))?;
    let mut log = LogOutcomes::default();
    for path in &arguments.log {
        lines(path, |line| log.read(line))?;
    }
    if let AnsweredHits::Number(_) = answered {
        // A log may cover a longer time.
        log.held.retain(|_, time| window.holds(*time));
    }
    if answered.is_empty() {
        print_message(&format!(
            "no hit was answered from {} to {}",
            format_iso(window.from),
            format_iso(window.to)
        ));
    }
    let places = runtime.block_on(places(arguments, &config, &answered, &log, &window))?;
    let report = audit(&answered, &log, &places);
    show(arguments, &report)?;
    let (lost, doubled) = (report.unaccounted, report.doubled);
    ensure!(
        report.is_clean(),
        "{lost} unaccounted for, {doubled} more than once, from {} to {}",
        format_iso(window.from),
        format_iso(window.to)
    );
    Ok(())
}

/// Reads the answered hits from the source that the arguments name.
async fn read_answered(arguments: &Arguments, config: &Config, window: &Window) -> anyhow::Result<AnsweredHits> {
    if let Some(number) = arguments.count {
        return Ok(AnsweredHits::Number(number));
    }
    if !arguments.metrics.is_empty() {
        return exported_count(&arguments.metrics, window);
    }
    if let Some(dimensions) = &arguments.api {
        return asked_count(arguments, dimensions, config, window).await;
    }
    let mut ids = BTreeSet::new();
    if let Some(path) = &arguments.ids {
        lines(path, |line| {
            let id = line.trim();
            if !id.is_empty() {
                ids.insert(id.to_owned());
            }
        })?;
        ensure!(!ids.is_empty(), "the file `{}` holds no id", path.display());
        return Ok(AnsweredHits::Ids(ids));
    }
    if arguments.access_log.is_empty() {
        let says = "say what the stage answered: give `--access-log`, `--ids`, `--count`, `--metrics` or `--api`";
        return Err(WrongArguments(says.to_owned()).into());
    }
    for path in &arguments.access_log {
        let mut understood = false;
        lines(path, |line| {
            let noted = noted(line, window);
            understood |= noted.is_some();
            if let Some(Noted::Hit(id)) = noted {
                ids.insert(id);
            }
        })?;
        ensure!(
            understood,
            "the file `{}` holds no line of an access log; give what `pixel serve --access-log` or the deployed API writes",
            path.display()
        );
    }
    Ok(AnsweredHits::Ids(ids))
}

/// Returns the count from files that `aws cloudwatch` has printed.
fn exported_count(files: &[PathBuf], window: &Window) -> anyhow::Result<AnsweredHits> {
    let minute = |time: DateTime<Utc>| time.timestamp_millis() % 60_000 == 0;
    ensure!(
        minute(window.from) && minute(window.to),
        "CloudWatch keeps counts of whole minutes; give `--from` and `--to` as such"
    );
    let mut counted = Counted::default();
    for path in files {
        let broken = || format!("the file `{}`", path.display());
        let text = std::fs::read_to_string(path).with_context(broken)?;
        counted
            .add(&text, window)
            .map_err(anyhow::Error::msg)
            .with_context(broken)?;
    }
    if counted.outside > 0 {
        print_message(&format!(
            "{} periods are outside of the time and left out",
            counted.outside
        ));
    }
    Ok(number(&counted))
}

fn number(counted: &Counted) -> AnsweredHits {
    if counted.periods == 0 {
        print_message("CloudWatch has counted nothing in this time; are the API's name and stage right?");
    }
    AnsweredHits::Number(counted.requests)
}

/// A client of `CloudWatch` in one region.
#[derive(Debug)]
struct Metrics {
    base: String,
    auth: Auth,
}

impl Endpoint for Metrics {
    fn base(&self) -> &str {
        &self.base
    }

    fn auth(&self) -> &Auth {
        &self.auth
    }
}

impl Metrics {
    /// Creates a client for an address, or for AWS's own in a region.
    fn new(endpoint: Option<&str>, region: Option<&str>) -> anyhow::Result<Self> {
        let region = region.context("CloudWatch is asked in a region; set `AWS_REGION`")?;
        let plain = |character: char| character.is_ascii_alphanumeric() || character == '-';
        ensure!(
            !region.is_empty() && region.chars().all(plain),
            "`AWS_REGION` is `{}`, which is not a region",
            printable(region, 40)
        );
        let base = match endpoint {
            Some(endpoint) => {
                let url = reqwest::Url::parse(endpoint).ok();
                let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.path() == "/");
                ensure!(
                    url.is_some_and(|url| url.has_host() && url.query().is_none() && url.fragment().is_none()),
                    "`--endpoint` `{}` is not the address of a service; give `https://HOST`",
                    crate::destination::hide_password(endpoint)
                );
                endpoint.trim_end_matches('/').to_owned()
            }
            None if region.starts_with("cn-") => format!("https://monitoring.{region}.amazonaws.com.cn"),
            None => format!("https://monitoring.{region}.amazonaws.com"),
        };
        let auth = Auth::SigV4 {
            service: Service::Monitoring,
            region: region.to_owned(),
        };
        Ok(Self { base, auth })
    }
}

/// The maximum number of pages of one query; a page holds up to 100,800 periods, and a window has fewer.
const MAX_PAGES: usize = 20;

async fn asked_count(
    arguments: &Arguments,
    dimensions: &Dimensions,
    config: &Config,
    window: &Window,
) -> anyhow::Result<AnsweredHits> {
    let period = cloudwatch::period(window, Utc::now()).map_err(anyhow::Error::msg)?;
    let region = super::environment().get("AWS_REGION").cloned();
    let metrics = Metrics::new(arguments.endpoint.as_deref(), region.as_deref())?;
    let base = metrics.base.clone();
    let http = http_client(None, &config.timing).map_err(|error| anyhow::anyhow!("{error}"))?;
    let metrics = Deliverer::new(http, metrics, config.timing, Some(connect::credentials().await?));
    let mut counted = Counted::default();
    for _ in 0..MAX_PAGES {
        let call = cloudwatch::question(dimensions, window, period, counted.next.as_deref());
        let sent = metrics.send(ClientRequest::call(&base, call), usize::MAX, Duration::from_mins(1));
        let answer = sent
            .await
            .with_context(|| format!("cannot reach CloudWatch at {base}"))?;
        let text = String::from_utf8_lossy(&answer.body);
        ensure!(
            answer.status == 200,
            "CloudWatch at {base} answered with status {}: {}",
            answer.status,
            printable(&text, 300)
        );
        let added = counted.add(&text, window).map_err(anyhow::Error::msg);
        added.with_context(|| format!("the answer of CloudWatch at {base}"))?;
        if counted.next.is_none() {
            print_message(&format!(
                "CloudWatch counts {} requests of {dimensions}",
                counted.requests
            ));
            return Ok(number(&counted));
        }
    }
    bail!("CloudWatch at {base} goes on without end; ask for a shorter time")
}

/// Calls a function for each line of a file, or for each message of a log export.
fn lines(path: &Path, mut each: impl FnMut(&str)) -> anyhow::Result<()> {
    let broken = || format!("the file `{}`", path.display());
    let mut file = BufReader::new(File::open(path).with_context(broken)?);
    let mut line = Vec::new();
    while file.read_until(b'\n', &mut line).with_context(broken)? > 0 {
        let mut text = String::from_utf8_lossy(&line).into_owned();
        if text.trim() == "{" {
            std::io::Read::read_to_string(&mut file, &mut text).with_context(broken)?;
        }
        match replay::exported(&text) {
            Some(exports) => exports.iter().flat_map(LogExport::messages).for_each(&mut each),
            None => text.lines().for_each(&mut each),
        }
        line.clear();
    }
    Ok(())
}

async fn places(
    arguments: &Arguments,
    config: &Config,
    answered: &AnsweredHits,
    log: &LogOutcomes,
    window: &Window,
) -> anyhow::Result<Places> {
    let destination = config.destination.as_ref().context("no destination")?;
    ensure!(
        !matches!(destination, Destination::Message(_)),
        "{destination} cannot be looked into; give the index that its events come to as `--destination`, and a queue on the way as `--queue`"
    );
    let queued = count_waiting(arguments, config).await?;
    let fallback = match &config.fallback {
        Some(Destination::Message(outlet)) if outlet.kind == MessageService::Sqs => {
            Fallback::Unseen(queue::count(&queue::open(config, outlet).await?).await?)
        }
        Some(Destination::Message(outlet)) => {
            print_message(&format!("{outlet} cannot be looked into; the log is believed of it"));
            Fallback::Unseen(0)
        }
        Some(fallback) => Fallback::Seen(search_fallback(config, fallback, answered, window).await?),
        None => Fallback::Log,
    };
    let ids: BTreeSet<&str> = match answered {
        AnsweredHits::Ids(ids) => ids.iter().map(String::as_str).collect(),
        // Events that are there, too, must not count twice.
        AnsweredHits::Number(_) => fallback.ids(log).chain(log.held.keys()).map(String::as_str).collect(),
    };
    let ids: Vec<&str> = ids.into_iter().collect();
    let held = match destination {
        Destination::Sqlite(path) => in_file(path, &ids, window)?,
        Destination::OpenSearch(target) => {
            search_index(&connect::open_deliverer(config, target).await?, &ids, window).await?
        }
        Destination::Message(_) => None,
    };
    Ok(Places {
        destination: held.with_context(|| format!("there is no index at {destination}; name where the events are"))?,
        fallback,
        queued,
    })
}

/// Returns the number of messages in the queues before the destination.
async fn count_waiting(arguments: &Arguments, config: &Config) -> anyhow::Result<u64> {
    let region = super::environment().get("AWS_REGION").cloned();
    let mut queued = 0;
    for url in &arguments.queue {
        let outlet = match MessageTarget::parse(url, region.as_deref()) {
            Some(outlet) => outlet?,
            None => bail!(
                "`{}` is not a queue; give `sqs://HOST/ACCOUNT/QUEUE`",
                printable(url, 200)
            ),
        };
        queued += queue::count(&queue::open(config, &outlet).await?).await?;
    }
    Ok(queued)
}

/// Returns what a fallback that can be searched holds: the events of the ids, or of the window. A fallback without events
/// may not exist yet.
async fn search_fallback(
    config: &Config,
    fallback: &Destination,
    answered: &AnsweredHits,
    window: &Window,
) -> anyhow::Result<Holding> {
    let held = match (fallback, answered) {
        (Destination::Sqlite(path), _) if !path.exists() => None,
        (Destination::Sqlite(path), AnsweredHits::Ids(ids)) => {
            in_file(path, &ids.iter().map(String::as_str).collect::<Vec<_>>(), window)?
        }
        (Destination::Sqlite(path), AnsweredHits::Number(_)) => {
            Some(hold_ids(Reader::open(path)?.ids_between(window.from, window.to)?))
        }
        (Destination::OpenSearch(target), AnsweredHits::Ids(ids)) => {
            let ids: Vec<_> = ids.iter().map(String::as_str).collect();
            search_index(&connect::open_deliverer(config, target).await?, &ids, window).await?
        }
        (Destination::OpenSearch(target), AnsweredHits::Number(_)) => {
            Some(find_window(&connect::open_deliverer(config, target).await?, window).await?)
        }
        (Destination::Message(_), _) => None,
    };
    Ok(held.unwrap_or_default())
}

fn hold_ids(ids: Vec<String>) -> Holding {
    Holding {
        events: ids.len() as u64,
        found: ids.into_iter().map(|id| (id, 1)).collect(),
    }
}

fn in_file(path: &Path, ids: &[&str], window: &Window) -> anyhow::Result<Option<Holding>> {
    let reader = Reader::open(path)?;
    let mut holding = Holding {
        events: reader.count_between(window.from, window.to)?,
        ..Holding::default()
    };
    for id in ids {
        if reader.holds(id)? {
            holding.found.insert((*id).to_owned(), 1);
        }
    }
    Ok(Some(holding))
}

/// Returns the query for the events of a window, by their time.
fn range(window: &Window) -> Value {
    json!({"range": {"@timestamp": {"gte": format_iso(window.from), "lt": format_iso(window.to)}}})
}

/// Returns all ids of a window.
async fn find_window(deliverer: &Deliverer, window: &Window) -> anyhow::Result<Holding> {
    let _ = search(deliverer, "_refresh", &Value::Null).await;
    let (mut ids, mut pages) = (Vec::new(), Pages::new(deliverer, range(window)));
    while let Some(page) = pages.next().await? {
        let id = |document: &Value| document.pointer("/event/id")?.as_str().map(ToOwned::to_owned);
        ids.extend(page.iter().filter_map(|stored| id(&stored.document)));
    }
    pages.end().await;
    Ok(hold_ids(ids))
}

/// The number of ids in one request; servers take 65,536 terms, and each response has as many hits.
const MAX_IDS_PER_REQUEST: usize = 1_000;

/// Returns the events of an index; none if there is no such index. A collection does not report that.
async fn search_index(deliverer: &Deliverer, ids: &[&str], window: &Window) -> anyhow::Result<Option<Holding>> {
    // Searches must find what was written, however seldom the index refreshes; a collection refreshes by itself and knows no
    // such request.
    let _ = search(deliverer, "_refresh", &Value::Null).await;
    let count = search(deliverer, "_count", &json!({ "query": range(window) })).await?;
    if !deliverer.target().serverless && count["_shards"]["total"] == 0 {
        return Ok(None);
    }
    let mut holding = Holding {
        events: count["count"].as_u64().unwrap_or_default(),
        found: BTreeMap::new(),
    };
    for some in ids.chunks(MAX_IDS_PER_REQUEST) {
        // Twice as many as there should be, so that duplicates are found.
        let query = json!({
            "size": (some.len() * 2).min(10_000),
            "_source": ["event.id"],
            // A time-series collection gives documents its own ids.
            "query": {"bool": {"should": [{"ids": {"values": some}}, {"terms": {"event.id": some}}]}},
        });
        let answer = search(deliverer, "_search", &query).await?;
        let hits = answer.pointer("/hits/hits").and_then(Value::as_array);
        for hit in hits.context("the index's answer has no hits")? {
            let id = hit.pointer("/_source/event/id").and_then(Value::as_str);
            if let Some(id) = id {
                *holding.found.entry(id.to_owned()).or_default() += 1;
            }
        }
    }
    Ok(Some(holding))
}

async fn search(deliverer: &Deliverer, what: &str, body: &Value) -> anyhow::Result<Value> {
    let target = deliverer.target();
    let url = format!(
        "{}/{}/{what}?ignore_unavailable=true",
        target.base,
        target.index.wildcard()
    );
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let sent = deliverer
        .send(
            ClientRequest::json("POST", url, body),
            usize::MAX,
            Duration::from_mins(1),
        )
        .await;
    let explained = |error: SendError| explain(&error.to_string(), &target.base, target.auth.name());
    let answer = sent.map_err(|error| anyhow::anyhow!(explained(error)))?;
    let text = String::from_utf8_lossy(&answer.body);
    ensure!(
        answer.status == 200,
        "{target} answered `{what}` with status {}: {}",
        answer.status,
        printable(&text, 300)
    );
    let answer: Value =
        serde_json::from_str(&text).with_context(|| format!("{target} answered something that is not an index's"))?;
    // A response of only some shards would miss hits that are there.
    let failed = answer
        .pointer("/_shards/failed")
        .and_then(Value::as_u64)
        .unwrap_or_default();
    let timed_out = answer["timed_out"].as_bool().unwrap_or_default();
    ensure!(
        failed == 0 && !timed_out,
        "{target} answered `{what}` in part only ({failed} shards failed, timed out: {timed_out}); ask again when it is well"
    );
    Ok(answer)
}

fn show(arguments: &Arguments, report: &Report) -> anyhow::Result<()> {
    if arguments.json {
        return print(&report.json().to_string());
    }
    let rows = report.rows();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines: Vec<_> = rows
        .iter()
        .map(|(name, count)| format!("{name:<width$} {count:>10}"))
        .collect();
    if !report.missing.is_empty() {
        print_message(&format!(
            "unaccounted for: {}",
            printable(&report.missing.join(" "), 2_000)
        ));
    }
    print(&lines.join("\n"))
}
