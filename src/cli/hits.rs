//! `pixel hits`

use std::collections::HashSet;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::{DestinationArgument, configuration, connect};
use crate::client::http::{ClientRequest, Deliverer, SendError};
use crate::destination::Destination;
use crate::setup::server::explain;
use crate::sqlite::Reader;
use crate::terminal::{json_line, printable};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    destination: DestinationArgument,
    /// The maximum number of hits
    #[arg(long, short = 'n', default_value_t = 20, allow_negative_numbers = true, value_parser = super::whole(1..=10_000_u32))]
    limit: u32,
    /// Print whole events as JSON, one per line
    #[arg(long)]
    json: bool,
    /// Wait for more hits and print them as they arrive
    #[arg(long, short)]
    follow: bool,
}

/// The interval between requests to a followed destination.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = configuration(&arguments.destination)?;
    super::runtime()?.block_on(async {
        let source = match config.destination.as_ref().context("no destination")? {
            Destination::Sqlite(path) => Source::Store(Reader::open(path)?),
            Destination::Message(outlet) => bail!("{outlet} cannot be listed; name the index that its events come to"),
            Destination::OpenSearch(target) => {
                Source::Remote(Box::new(connect::open_deliverer(&config, target).await?))
            }
        };
        let mut seen = Seen::default();
        let mut printer = Printer {
            json: arguments.json,
            headed: false,
        };
        let interrupted = tokio::signal::ctrl_c();
        tokio::pin!(interrupted);
        loop {
            let hits = source.latest(arguments.limit, &seen).await?;
            if !printer.print(&seen.news(hits))? || !arguments.follow {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(POLL_INTERVAL) => {}
                _ = &mut interrupted => return Ok(()),
            }
        }
    })
}

enum Source {
    Store(Reader),
    Remote(Box<Deliverer>),
}

/// One hit with its number in a store.
struct Found {
    number: Option<i64>,
    document: Value,
}

impl Source {
    async fn latest(&self, limit: u32, seen: &Seen) -> anyhow::Result<Vec<Found>> {
        match self {
            Self::Store(reader) => {
                let stored = seen
                    .number
                    .map_or_else(|| reader.latest(limit), |number| reader.after(number))?;
                let found = |stored: crate::sqlite::Stored| {
                    Ok(Found {
                        number: Some(stored.number),
                        document: serde_json::from_str(&stored.document)?,
                    })
                };
                stored.into_iter().map(found).collect()
            }
            Self::Remote(deliverer) => search(deliverer, limit).await,
        }
    }
}

/// Returns the latest events of an index, oldest first.
async fn search(deliverer: &Deliverer, limit: u32) -> anyhow::Result<Vec<Found>> {
    let target = deliverer.target();
    let url = format!(
        "{}/{}/_search?ignore_unavailable=true",
        target.base,
        target.index.wildcard()
    );
    let query = json!({"size": limit, "sort": [{"date": {"order": "desc", "unmapped_type": "long"}}]});
    let answer = deliverer
        .send(
            ClientRequest::json("POST", url, query.to_string()),
            usize::MAX,
            Duration::from_secs(10),
        )
        .await;
    let explained = |error: SendError| explain(&error.to_string(), &target.base, target.auth.name());
    let answer = answer.map_err(|error| anyhow::anyhow!(explained(error)))?;
    let body = String::from_utf8_lossy(&answer.body);
    if answer.status != 200 {
        bail!("{target} answered {}: {}", answer.status, printable(&body, 300));
    }
    let mut found: Value =
        serde_json::from_str(&body).with_context(|| format!("{target} answered something that is not an index's"))?;
    let hits = found
        .pointer_mut("/hits/hits")
        .and_then(Value::as_array_mut)
        .context("the answer has no hits")?;
    Ok(hits
        .iter_mut()
        .rev()
        .map(|hit| Found {
            number: None,
            document: hit["_source"].take(),
        })
        .collect())
}

/// The hits that were printed before.
#[derive(Default)]
struct Seen {
    number: Option<i64>,
    ids: HashSet<String>,
}

impl Seen {
    fn news(&mut self, found: Vec<Found>) -> Vec<Value> {
        let mut news = Vec::new();
        for Found { number, document } in found {
            match number {
                Some(number) => self.number = Some(number),
                None if !self.ids.insert(field(&document, "/event/id").to_owned()) => continue,
                None => {}
            }
            news.push(document);
        }
        news
    }
}

fn field<'a>(document: &'a Value, pointer: &str) -> &'a str {
    document.pointer(pointer).and_then(Value::as_str).unwrap_or("-")
}

struct Printer {
    json: bool,
    headed: bool,
}

impl Printer {
    /// Prints hits; returns false when nobody reads them any more.
    fn print(&mut self, hits: &[Value]) -> anyhow::Result<bool> {
        let mut out = std::io::stdout().lock();
        let mut write = |line: String| writeln!(out, "{line}");
        let mut print = || {
            if !self.json && !std::mem::replace(&mut self.headed, true) {
                write(format!(
                    "{:<24}  {:<6}  {:<16}  {:<16}  {}",
                    "TIME", "ACTION", "CODE", "ADDRESS", "PAGE OR USER AGENT"
                ))?;
            }
            hits.iter()
                .try_for_each(|hit| write(if self.json { json_line(hit) } else { row(hit) }))
        };
        match print() {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error).context("cannot print"),
        }
    }
}

fn row(hit: &Value) -> String {
    let what = if field(hit, "/url/full") == "-" {
        "/user_agent/original"
    } else {
        "/url/full"
    };
    let cell = |pointer: &str, width| format!("{:<width$}", printable(field(hit, pointer), width));
    let [time, action, code, address] = [
        cell("/@timestamp", 24),
        cell("/event/action", 6),
        cell("/pixel/code", 16),
        cell("/client/ip", 16),
    ];
    format!(
        "{time}  {action}  {code}  {address}  {}",
        printable(field(hit, what), 80)
    )
}
