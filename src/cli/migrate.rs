//! `pixel migrate` moves everything in a store that has outgrown its machine to an index or another file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use chrono::Utc;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::interruption::Interrupted;
use super::replay::{self, Source};
use super::{DestinationArgument, WrongArguments, configuration, connect, privacy_key};
use crate::client::codes;
use crate::client::http::Deliverer;
use crate::config::token::{KeptToken, TokenKind};
use crate::config::{CodeStanding, Config};
use crate::destination::Destination;
use crate::hit::event::format_iso;
use crate::query::store::{AddResult, ListedCode, Store};
use crate::query::store::{OptOut, Requester};
use crate::query::{Cursor, Filter, Interval, Query, QueryError, QueryResult, SeriesQuery, Zone};
use crate::sqlite::opt_outs::OptOutChange;
use crate::sqlite::{Reader, Store as File, StoreError};
use crate::terminal::{json_line, print, print_message, printable};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The store to move: `sqlite:FILE`
    #[arg(long, value_name = "URL")]
    from: String,
    /// The new destination: `https://HOST/INDEX` of OpenSearch or Elasticsearch, prepared by `pixel setup`, or `sqlite:FILE`
    #[arg(long, value_name = "URL")]
    to: String,
    /// Add to a destination that already holds something; the comparison then only finds what is missing there
    #[arg(long)]
    merge: bool,
    /// The maximum number of events stored per second
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Keep the progress in this file; the same command continues from there
    /// [default: next to the store, `pixel.db.migration`]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// The file for refused events, with the reasons; created when there is one
    #[arg(long, value_name = "FILE", default_value = "pixel-refused.ndjson")]
    refused: PathBuf,
    /// Print the comparison as JSON
    #[arg(long)]
    json: bool,
}

/// The number of codes that are read or written at once.
const CODES_PAGE: usize = 1000;
/// The number of concurrent requests to an index.
const MAX_REQUESTS: usize = 16;
/// The maximum number of differing days that are listed.
const MAX_SHOWN_DAYS: usize = 10;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let target = DestinationArgument {
        destination: Some(arguments.to.clone()),
    };
    let mut config = configuration(&target)?;
    // All events are copied, also those of recipients who have opted out since.
    config.code_standing = CodeStanding::None;
    let to = config.destination.clone().context("no destination")?;
    let wrong = |reason: String| anyhow::Error::from(WrongArguments(reason));
    let source = Source::parse(&arguments.from, &config)?;
    let Source::Store(path) = &source else {
        let from = printable(&arguments.from, 200);
        return Err(wrong(format!(
            "`--from {from}` is not a store; give `sqlite:FILE`, and use `pixel replay` for logs and queues"
        )));
    };
    if matches!(to, Destination::Message(_)) {
        return Err(wrong(format!(
            "{to} keeps no codes and opt-outs; give an index or `sqlite:FILE`"
        )));
    }
    if source.is(&to) {
        return Err(wrong(format!("`--from` and `--to` are the same: {to}")));
    }
    super::runtime()?.block_on(migrate(arguments, &config, path, &to))
}

async fn migrate(arguments: &Arguments, config: &Config, path: &Path, to: &Destination) -> anyhow::Result<()> {
    let from = Destination::Sqlite(path.to_owned());
    let source = Place::File(Reader::open(path)?.unmapped()?);
    let target = Place::open(config, to).await?;
    let state = arguments
        .state
        .clone()
        .unwrap_or_else(|| path.with_added_extension("migration"));
    let label = format!("{from} to {to}");
    if !state.exists() {
        let held = Holdings::read(&target, to).await?;
        if !arguments.merge && !held.is_empty() {
            return Err(WrongArguments(format!(
                "cannot migrate to {to}: it already holds {held}; try an empty one, or add to it with `--merge`"
            ))
            .into());
        }
        std::fs::write(&state, replay::state_text(&label, 0))
            .with_context(|| format!("cannot write the state `{}`", state.display()))?;
    }
    let holdings = Holdings::read(&source, &from).await?;
    print_message(&format!("{holdings} in {from}"));
    // Opt-outs go first: a hit may arrive at the new server meanwhile.
    target.add_opt_outs(read_opt_outs(path)?).await?;
    target.add_tokens(&holdings.tokens).await?;
    target.add_codes(&holdings.codes).await?;
    let carry = replay::Arguments {
        source: label,
        destination: DestinationArgument { destination: None },
        dry_run: false,
        rate: arguments.rate,
        state: Some(state.clone()),
        refused: arguments.refused.clone(),
        json: true,
    };
    let summary = replay::replay(&carry, Arc::new(config.clone()), Source::Store(path.to_owned()), to).await?;
    summary.check(&carry, to)?;
    if let Some(signal) = summary.interruption {
        let resume = "the same command goes on from here".to_owned();
        return Err(Interrupted { signal, resume }.into());
    }
    let comparison = Comparison {
        from: Holdings::read(&source, &from).await?,
        to: Holdings::read(&target, to).await?,
        merge: arguments.merge,
    };
    if arguments.json {
        let mut shown = comparison.json();
        shown["from"] = from.to_string().into();
        shown["to"] = to.to_string().into();
        shown["carried"] = summary.json();
        print(&json_line(&shown))?;
    } else {
        print(&comparison.text())?;
    }
    say_keys(config, &from, to)?;
    ensure!(
        comparison.is_equal(),
        "{from} and {to} are not the same; stop the server that writes to the old store, and run this again"
    );
    Ok(())
}

/// Prints which keys the new server needs, and copies the key of the hashes to the new place.
fn say_keys(config: &Config, from: &Destination, to: &Destination) -> anyhow::Result<()> {
    let variables = super::environment();
    let old = privacy_key::path_for(from, &variables).filter(|path| path.exists());
    let shown = |path: &Path| path.display().to_string();
    print_message(&match (&old, privacy_key::copy_to(from, to, &variables)?) {
        (Some(old), Some((new, true))) => format!(
            "key     the privacy key is in `{}` and, the same, in `{}`; every server and function that writes to {to} needs it",
            shown(old),
            shown(&new)
        ),
        (Some(old), Some((new, false))) => format!(
            "key     `{}` holds another privacy key than `{}`; with another key, everybody is new there: copy the old one",
            shown(&new),
            shown(old)
        ),
        (Some(old), None) => format!(
            "key     set `PIXEL_PRIVACY_KEY` of the new server to the text of `{}`, or everybody is new there",
            shown(old)
        ),
        (None, _) => {
            "key     set the same `PIXEL_PRIVACY_KEY` for the new server as for the old one, or everybody is new there"
                .to_owned()
        }
    });
    if config.code_keys.is_empty() {
        print_message("key     where codes are signed, set the same `PIXEL_CODE_KEYS` for the new server");
    } else {
        print_message("key     set the same `PIXEL_CODE_KEYS` for the new server, or its signed codes are invalid");
    }
    Ok(())
}

/// A store or an index.
enum Place {
    File(Reader),
    Index(Arc<Deliverer>),
}

impl Place {
    async fn open(config: &Config, destination: &Destination) -> anyhow::Result<Self> {
        match destination {
            Destination::Sqlite(path) => {
                if !path.exists() {
                    File::open(path)?.close();
                }
                Ok(Self::File(Reader::open(path)?))
            }
            Destination::OpenSearch(target) => {
                Ok(Self::Index(Arc::new(connect::open_deliverer(config, target).await?)))
            }
            Destination::Message(outlet) => anyhow::bail!("{outlet} keeps no codes"),
        }
    }

    async fn ask(&self, question: &Query) -> Result<QueryResult, QueryError> {
        match self {
            Self::File(reader) => reader.ask(question),
            Self::Index(deliverer) => deliverer.ask(question).await,
        }
    }

    async fn codes(&self) -> Result<Vec<ListedCode>, QueryError> {
        let mut codes: Vec<ListedCode> = Vec::new();
        loop {
            let after = codes.last().map(|code| Cursor {
                time: code.created_at.0.timestamp_millis(),
                id: code.code.clone(),
            });
            let page = match self {
                Self::File(reader) => reader.codes(after.as_ref(), CODES_PAGE)?,
                Self::Index(deliverer) => deliverer.codes(after.as_ref(), CODES_PAGE).await?,
            };
            let is_last = page.len() < CODES_PAGE;
            codes.extend(page);
            if is_last {
                return Ok(codes);
            }
        }
    }

    async fn tokens(&self) -> Result<Vec<KeptToken>, QueryError> {
        let tokens = match self {
            Self::File(reader) => reader.tokens()?,
            Self::Index(deliverer) => codes::tokens(deliverer).await?,
        };
        let now = Utc::now();
        // A link's secret is for one server, for a few minutes.
        let lasts = |token: &KeptToken| token.kind != TokenKind::Login && token.is_valid(token.kind, now);
        Ok(tokens.into_iter().filter(lasts).collect())
    }

    async fn opt_outs(&self, destination: &Destination) -> anyhow::Result<BTreeSet<String>> {
        match (self, destination) {
            (Self::Index(deliverer), _) => Ok(codes::list_opted_out(deliverer).await?),
            (Self::File(_), Destination::Sqlite(path)) => Ok(opted_out_codes(path)?),
            (Self::File(_), _) => Ok(BTreeSet::new()),
        }
    }

    async fn add_opt_outs(&self, opt_outs: Vec<OptOutChange>) -> anyhow::Result<()> {
        match self {
            Self::Index(deliverer) => {
                let add = |deliverer: Arc<Deliverer>, change: OptOutChange| async move {
                    let OptOutChange { code, out, by, at } = change;
                    codes::change_opt_out(&deliverer, &code, out, by, at).await.map(drop)
                };
                in_parallel(deliverer, opt_outs.into_iter(), add)
                    .await
                    .context("cannot write the opt-outs")
            }
            Self::File(reader) => {
                reader.change_opt_outs(&opt_outs)?;
                Ok(())
            }
        }
    }

    async fn add_tokens(&self, tokens: &[KeptToken]) -> anyhow::Result<()> {
        for token in tokens {
            match self {
                Self::File(reader) => reader.add_token(token)?,
                Self::Index(deliverer) => deliverer.add_token(token).await.context("cannot write the tokens")?,
            };
        }
        Ok(())
    }

    async fn add_codes(&self, codes: &[ListedCode]) -> anyhow::Result<()> {
        match self {
            Self::File(reader) => {
                for code in codes {
                    let put = reader.add_code(code)?;
                    if code.revoked_at.is_some() && is_to_be_revoked(put, reader.code(&code.code)?) {
                        reader.replace_code(code)?;
                    }
                }
                Ok(())
            }
            Self::Index(deliverer) => {
                let add = |deliverer: Arc<Deliverer>, code: ListedCode| async move {
                    let put = codes::add_one_of_many(&deliverer, &code).await?;
                    if put == AddResult::Exists
                        && code.revoked_at.is_some()
                        && is_to_be_revoked(put, deliverer.code(&code.code).await?)
                    {
                        deliverer.replace(&code).await?;
                    }
                    Ok(())
                };
                in_parallel(deliverer, codes.iter().cloned(), add)
                    .await
                    .context("cannot write the codes")
            }
        }
    }
}

/// Returns true if a code that is revoked in the old list must still be revoked in the new one. Nothing else is changed
/// there.
fn is_to_be_revoked(put: AddResult, now: Option<ListedCode>) -> bool {
    put == AddResult::Done || now.is_some_and(|code| code.revoked_at.is_none())
}

/// Sends a request for each of many items, a few at the same time.
async fn in_parallel<T, F>(
    deliverer: &Arc<Deliverer>,
    items: impl Iterator<Item = T>,
    send: impl Fn(Arc<Deliverer>, T) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = Result<(), QueryError>> + Send + 'static,
{
    let mut requests = JoinSet::new();
    for item in items {
        if requests.len() >= MAX_REQUESTS
            && let Some(one) = requests.join_next().await
        {
            one??;
        }
        requests.spawn(send(Arc::clone(deliverer), item));
    }
    while let Some(one) = requests.join_next().await {
        one??;
    }
    Ok(())
}

/// Reads the opt-outs of a store; if time or origin is unknown, it counts as made now, on the page.
fn read_opt_outs(path: &Path) -> Result<Vec<OptOutChange>, StoreError> {
    let now = Utc::now();
    let mut opt_outs = Vec::new();
    Reader::open(path)?.visit_opt_outs(|OptOut { code, since, by }| {
        opt_outs.push(OptOutChange {
            code,
            out: true,
            by: by.unwrap_or(Requester::Page),
            at: since.map_or(now, |since| since.0),
        });
        Ok::<_, StoreError>(())
    })?;
    Ok(opt_outs)
}

/// Returns the codes of a store whose recipients have opted out.
fn opted_out_codes(path: &Path) -> Result<BTreeSet<String>, StoreError> {
    Ok(read_opt_outs(path)?.into_iter().map(|change| change.code).collect())
}

/// Returns a note on what a replay of a store's events leaves behind; none if that is nothing.
pub(super) fn left_behind(path: &Path) -> anyhow::Result<Option<String>> {
    let reader = Reader::open(path)?;
    let holdings = Holdings {
        days: BTreeMap::new(),
        codes: super::runtime()?.block_on(Place::File(reader).codes())?,
        tokens: Reader::open(path)?.tokens()?,
        opt_outs: opted_out_codes(path)?,
    };
    Ok((!holdings.is_empty()).then(|| holdings.to_string()))
}

/// The contents of a place.
struct Holdings {
    /// The number of events by the day of their hits (UTC).
    days: BTreeMap<String, u64>,
    codes: Vec<ListedCode>,
    tokens: Vec<KeptToken>,
    opt_outs: BTreeSet<String>,
}

impl Holdings {
    async fn read(place: &Place, destination: &Destination) -> anyhow::Result<Self> {
        if let Place::Index(deliverer) = place {
            codes::refresh(deliverer).await;
        }
        let question = Query {
            filter: Filter::default(),
            unique: None,
            compare: false,
            series: Some(SeriesQuery {
                interval: Interval::Day,
                zone: Zone::default(),
            }),
            by: Vec::new(),
            limit: 1,
        };
        let answer = place
            .ask(&question)
            .await
            .with_context(|| format!("cannot count the events of {destination}"))?;
        let points = answer.series.into_iter().flatten().filter(|point| point.events > 0);
        Ok(Self {
            days: points.map(|point| (format_iso(point.start.0), point.events)).collect(),
            codes: place.codes().await.context("cannot read the codes")?,
            tokens: place.tokens().await.context("cannot read the tokens")?,
            opt_outs: place.opt_outs(destination).await.context("cannot read the opt-outs")?,
        })
    }

    fn events(&self) -> u64 {
        self.days.values().sum()
    }

    fn counts(&self) -> [(&'static str, u64); 4] {
        [
            ("events", self.events()),
            ("codes", self.codes.len() as u64),
            ("tokens", self.tokens.len() as u64),
            ("opt-outs", self.opt_outs.len() as u64),
        ]
    }

    fn is_empty(&self) -> bool {
        self.counts().iter().all(|(_, count)| *count == 0)
    }
}

impl std::fmt::Display for Holdings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = self
            .counts()
            .map(|(name, count)| (count > 0).then(|| format!("{count} {name}")));
        let counts: Vec<_> = counts.into_iter().flatten().collect();
        formatter.write_str(if counts.is_empty() { "nothing" } else { "" })?;
        formatter.write_str(&counts.join(", "))
    }
}

/// The contents of both places after the move.
struct Comparison {
    from: Holdings,
    to: Holdings,
    /// True if the new place may hold more than the old one.
    merge: bool,
}

impl Comparison {
    /// Returns the days whose numbers differ, with both numbers.
    fn days(&self) -> Vec<(&str, u64, u64)> {
        let days: BTreeSet<&String> = self.from.days.keys().chain(self.to.days.keys()).collect();
        let count = |holdings: &Holdings, day: &String| holdings.days.get(day).copied().unwrap_or_default();
        days.into_iter()
            .map(|day| (day.as_str(), count(&self.from, day), count(&self.to, day)))
            .filter(|(_, from, to)| if self.merge { to < from } else { from != to })
            .collect()
    }

    fn is_same<T: PartialEq>(&self, from: &[T], to: &[T]) -> bool {
        from.iter().all(|one| to.contains(one)) && (self.merge || from.len() == to.len())
    }

    /// Returns true for each kind that is the same in both.
    fn same(&self) -> [bool; 4] {
        let by_code = |holdings: &Holdings| -> BTreeMap<String, ListedCode> {
            let codes = holdings.codes.iter();
            codes.map(|code| (code.code.clone(), code.clone())).collect()
        };
        let (from, to) = (by_code(&self.from), by_code(&self.to));
        let codes = from.iter().all(|(code, listed)| to.get(code) == Some(listed));
        let opt_outs = if self.merge {
            self.from.opt_outs.is_subset(&self.to.opt_outs)
        } else {
            self.from.opt_outs == self.to.opt_outs
        };
        [
            self.days().is_empty(),
            codes && (self.merge || from.len() == to.len()),
            self.is_same(&self.from.tokens, &self.to.tokens),
            opt_outs,
        ]
    }

    fn is_equal(&self) -> bool {
        self.same().into_iter().all(|same| same)
    }

    fn rows(&self) -> impl Iterator<Item = (&'static str, u64, u64, bool)> {
        let counts = self.from.counts().into_iter().zip(self.to.counts());
        counts
            .zip(self.same())
            .map(|(((name, from), (_, to)), same)| (name, from, to, same))
    }

    fn text(&self) -> String {
        let mut lines = vec![format!("{:<10} {:>10} {:>10}", "", "OLD", "NEW")];
        lines.extend(self.rows().map(|(name, from, to, same)| {
            let verdict = match (same, self.merge) {
                (true, false) => "equal",
                (true, true) => "nothing missing",
                (false, _) => "DIFFERENT",
            };
            format!("{name:<10} {from:>10} {to:>10}  {verdict}")
        }));
        let days = self.days();
        lines.extend(
            days.iter()
                .take(MAX_SHOWN_DAYS)
                .map(|(day, from, to)| format!("  {:<10} {from:>8} {to:>10}", day.split('T').next().unwrap_or(day))),
        );
        if days.len() > MAX_SHOWN_DAYS {
            lines.push(format!("  and {} more days", days.len() - MAX_SHOWN_DAYS));
        }
        lines.join("\n")
    }

    fn json(&self) -> Value {
        let mut shown = json!({"equal": self.is_equal()});
        for (name, from, to, same) in self.rows() {
            shown[name.replace('-', "_")] = json!({"from": from, "to": to, "equal": same});
        }
        let days = self.days();
        let days = days
            .iter()
            .map(|(day, from, to)| json!({"day": day, "from": from, "to": to}));
        shown["events"]["days_that_differ"] = days.collect();
        shown
    }
}
