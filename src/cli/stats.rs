//! `pixel stats`

use std::fmt::Write;
use std::io;

use chrono::Utc;

use super::DestinationArgument;
use super::source::{Source, WrongOption};
use crate::event::iso;
use crate::manage;
use crate::question::{Answer, CLASS, Group, Parameters, Question, Totals};
use crate::terminal::{json_line, print, printable};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    destination: DestinationArgument,
    /// From so long ago: `30m`, `24h`, `7d`, `2w` or `all` [default: 30d]
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// From this day or RFC 3339 time
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Until this day or RFC 3339 time, which is not included
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only visits of this class: `human`, `privacy_proxy`, `automation` or `prefetch`
    #[arg(long)]
    class: Option<String>,
    /// Only events with `FIELD=VALUE`, or without: `FIELD!=VALUE`; may be repeated
    #[arg(long, value_name = "FIELD=VALUE")]
    filter: Vec<String>,
    /// List the most frequent values of these fields, as in `campaign.source,url.domain`
    #[arg(long, value_name = "FIELD")]
    by: Vec<String>,
    /// How many values
    #[arg(long, short = 'n')]
    limit: Option<usize>,
    /// Show a time series: `minute`, `hour`, `day`, `week` or `month`
    #[arg(long)]
    interval: Option<String>,
    /// The time zone of the series, as in `Europe/Berlin` [default: UTC]
    #[arg(long)]
    zone: Option<String>,
    /// The field whose different values are counted, or `none` [default: visitor.id]
    #[arg(long, value_name = "FIELD")]
    unique: Option<String>,
    /// Compare with the period before, which is as long
    #[arg(long)]
    compare: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print CSV: what, name, events, uniques
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

impl Arguments {
    fn parameters(&self) -> Vec<(String, String)> {
        let one = |name: &str, value: &Option<String>| value.clone().map(|value| (name.to_owned(), value));
        let all = |name: &str, values: &[String]| -> Vec<_> {
            values.iter().map(|value| (name.to_owned(), value.clone())).collect()
        };
        let ones = [
            one("since", &self.since),
            one("from", &self.from),
            one("to", &self.to),
            one("class", &self.class),
            one("interval", &self.interval),
            one("zone", &self.zone),
            one("unique", &self.unique),
            one("limit", &self.limit.map(|limit| limit.to_string())),
            one("compare", &self.compare.then(|| "true".to_owned())),
        ];
        let ones = ones.into_iter().flatten();
        ones.chain(all("filter", &self.filter))
            .chain(all("by", &self.by))
            .collect()
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let parameters = arguments.parameters();
    let question = Parameters::new(&parameters, Utc::now())
        .question()
        .map_err(WrongOption)?;
    let answer = super::runtime()?.block_on(async {
        let source = Source::open(&arguments.destination).await?;
        source.ask(&question).await
    })?;
    if arguments.json {
        print(&json_line(&manage::stats(&question, &answer)))
    } else if arguments.csv {
        csv(&answer)
    } else {
        print(&table(&question, &answer))
    }
}

/// A value that a spreadsheet does not take for a formula.
pub(super) fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if formula { format!("'{text}") } else { text.to_owned() }
}

fn csv(answer: &Answer) -> anyhow::Result<()> {
    let mut writer = csv::Writer::from_writer(io::stdout().lock());
    write_rows(answer, &mut writer).or_else(|error| match error.kind() {
        csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error.into()),
    })
}

fn write_rows(answer: &Answer, writer: &mut csv::Writer<impl io::Write>) -> csv::Result<()> {
    writer.write_record(["what", "name", "events", "uniques"])?;
    let mut row = |what: &str, name: &str, events: u64, uniques: Option<u64>| {
        let uniques = uniques.map(|uniques| uniques.to_string()).unwrap_or_default();
        writer.write_record([what, &cell(name), &events.to_string(), &uniques])
    };
    row("total", "", answer.totals.events, answer.totals.uniques)?;
    if let Some(previous) = &answer.previous {
        row("previous", "", previous.events, previous.uniques)?;
    }
    for point in answer.series.iter().flatten() {
        row("series", &iso(point.start.0), point.events, point.uniques)?;
    }
    // Whoever lists them, too, has them there.
    let listed = answer.by.iter().any(|listing| listing.field == CLASS);
    let classes = answer.classes.iter().filter(|_| !listed);
    let classes = classes.map(|group| (CLASS, group));
    let by = answer
        .by
        .iter()
        .flat_map(|listing| listing.values.iter().map(|group| (listing.field, group)));
    for (field, group) in classes.chain(by) {
        row(field, &group.value, group.events, group.uniques)?;
    }
    Ok(writer.flush()?)
}

/// Eighths of a block, from one to eight.
const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A series in one line, a character for each point.
pub(super) fn sparkline(values: &[u64]) -> String {
    let most = values.iter().copied().max().unwrap_or(0).max(1);
    let place = |value: u64| {
        usize::try_from(value.saturating_mul(7).div_ceil(most))
            .unwrap_or(7)
            .min(7)
    };
    values
        .iter()
        .map(|value| if *value == 0 { ' ' } else { EIGHTHS[place(*value)] })
        .collect()
}

/// A bar of so many characters for the largest.
fn bar(value: u64, most: u64, width: u64) -> String {
    let filled = (value * width).div_ceil(most.max(1)).min(width);
    "█".repeat(usize::try_from(filled).unwrap_or(0))
}

fn change(now: u64, before: u64) -> String {
    if before == 0 {
        return "–".to_owned();
    }
    let (now, before) = (i128::from(now), i128::from(before));
    format!("{:+} %", (now - before) * 100 / before)
}

fn table(question: &Question, answer: &Answer) -> String {
    let Totals {
        events,
        uniques,
        first,
        last,
    } = &answer.totals;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let mut line = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    let beside = |now: u64, before: fn(&Totals) -> u64| {
        let before = answer.previous.as_ref().map(before);
        before.map_or_else(String::new, |before| {
            format!("  {before:>12} before  {}", change(now, before))
        })
    };
    line(format!(
        "{:<24} {events:>12}{}",
        "events",
        beside(*events, |totals| totals.events)
    ));
    if let (Some(unique), Some(uniques)) = (question.unique, uniques) {
        let beside = beside(*uniques, |totals| totals.uniques.unwrap_or_default());
        line(format!("{:<24} {uniques:>12}{beside}", unique.name));
    }
    for (name, time) in [("first", first), ("last", last)] {
        line(format!(
            "{name:<24} {}",
            time.map_or_else(|| "-".to_owned(), |time| iso(time.0))
        ));
    }
    if !answer.classes.is_empty() && answer.by.iter().all(|listing| listing.field != CLASS) {
        line(format!("\nvisit.class\n{}", rows(&answer.classes, *events)));
    }
    if let Some(points) = &answer.series {
        let values: Vec<u64> = points.iter().map(|point| point.events).collect();
        let most = values.iter().copied().max().unwrap_or(0);
        let name = question.series.as_ref().map_or("", |series| series.interval.name());
        line(format!("\nevents by {name}, at most {most}\n{}", sparkline(&values)));
        if points.len() <= 100 {
            for point in points {
                let bar = bar(point.events, most, 40);
                line(format!(
                    "{}  {:>10} {:>10}  {bar}",
                    iso(point.start.0),
                    point.events,
                    optional(point.uniques)
                ));
            }
        }
    }
    for listing in &answer.by {
        line(format!("\n{}\n{}", listing.field, rows(&listing.values, *events)));
    }
    text.trim_end().to_owned()
}

/// A number that may not have been asked for.
fn optional(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn rows(groups: &[Group], all: u64) -> String {
    let most = groups.iter().map(|group| group.events).max().unwrap_or(0);
    let width = groups
        .iter()
        .map(|group| group.value.chars().count())
        .max()
        .unwrap_or(0)
        .clamp(10, 40);
    let row = |group: &Group| {
        let percent = group.events * 100 / all.max(1);
        let value = printable(&group.value, width);
        format!(
            "  {value:<width$} {:>12} {:>12} {percent:>4} %  {}",
            group.events,
            optional(group.uniques),
            bar(group.events, most, 24)
        )
    };
    groups.iter().map(row).collect::<Vec<_>>().join("\n")
}
