//! `pixel stats`

use chrono::Utc;
use serde_json::json;

use super::DestinationArgument;
use super::source::{Source, WrongOption};
use crate::api;
use crate::hit::event::format_iso;
use crate::query::clock::Clock;
use crate::query::{
    CLASS, Group, MAX_VALUES, Parameters, Point, Query, QueryResult, Totals, all_values, listed_fields,
};
use crate::terminal::{CsvWriter, allow_broken_pipe, json_line, print, printable, spreadsheet_cell};

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(super) struct Arguments {
    #[command(flatten)]
    destination: DestinationArgument,
    /// The beginning: a duration ago, as in `30m`, `24h`, `7d`, `2w`, `3mo`, `1y` (a number alone means days); or a moment,
    /// as in `yesterday`; or `all` [default: 30d]
    #[arg(long, value_name = "DURATION|TIME")]
    since: Option<String>,
    /// The first moment: `today`, `yesterday`, a day or an RFC 3339 time; days begin at midnight UTC
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// The end, which is not included
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only visits of this class: `human`, `privacy_proxy`, `automation` or `prefetch`
    #[arg(long)]
    class: Option<String>,
    /// Only events with `FIELD=VALUE`, or without it: `FIELD!=VALUE`; may be repeated
    #[arg(long, value_name = "FIELD=VALUE")]
    filter: Vec<String>,
    /// List the most frequent values of these fields, as in `campaign.source,url.domain`
    #[arg(long, value_name = "FIELD")]
    by: Vec<String>,
    /// The maximum number of values of each field [default: 10]
    #[arg(long, short = 'n', allow_negative_numbers = true, value_parser = super::whole(1..=MAX_VALUES))]
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
    /// Compare with the preceding period of the same length
    #[arg(long)]
    compare: bool,
    /// List the fields for `--by`, `--filter` and `--unique` instead
    #[arg(long)]
    fields: bool,
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
    if arguments.fields {
        return show_fields(arguments.json);
    }
    let parameters = arguments.parameters();
    let question = Parameters::new(&parameters, Utc::now())
        .question()
        .map_err(WrongOption)?;
    if let Some(series) = &question.series {
        // Checked before an index is asked, which cannot guess what was meant.
        Clock::new(&series.zone).map_err(WrongOption)?;
    }
    let answer = super::runtime()?.block_on(async {
        let source = Source::open(&arguments.destination).await?;
        source.ask(&question).await
    })?;
    if arguments.json {
        print(&json_line(&api::stats(&question, &answer)))
    } else if arguments.csv {
        allow_broken_pipe(write_csv(&answer))
    } else {
        print(&table(&question, &answer))
    }
}

/// Lists the fields for `--by`, `--filter` and `--unique`.
fn show_fields(json: bool) -> anyhow::Result<()> {
    if json {
        let fields = listed_fields().map(|field| {
            json!({"name": field.name, "kind": field.kind.name(), "meaning": field.meaning, "values": all_values(field)})
        });
        return print(&json_line(&fields.collect::<Vec<_>>().into()));
    }
    let lines = listed_fields().map(|field| format!("{:<28} {:<8} {}", field.name, field.kind.name(), field.meaning));
    print(&lines.collect::<Vec<_>>().join("\n"))
}

fn write_csv(answer: &QueryResult) -> csv::Result<()> {
    let mut writer = CsvWriter::stdout();
    writer.row(["what", "name", "events", "uniques"])?;
    let mut row = |what: &str, name: &str, events: u64, uniques: Option<u64>| {
        let uniques = uniques.map(|uniques| uniques.to_string()).unwrap_or_default();
        writer.row([what, &spreadsheet_cell(name), &events.to_string(), &uniques])
    };
    row("total", "", answer.totals.events, answer.totals.uniques)?;
    if let Some(previous) = &answer.previous {
        row("previous", "", previous.events, previous.uniques)?;
    }
    for point in answer.series.iter().flatten() {
        row("series", &format_iso(point.start.0), point.events, point.uniques)?;
    }
    // If the classes are listed, too, they are shown there.
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
    writer.flush()
}

/// The block characters of one to eight eighths.
const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Returns a series in one line, with a character for each point.
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

/// Returns a bar that has `width` characters for the largest value.
fn bar(value: u64, most: u64, width: u64) -> String {
    let filled = (value * width).div_ceil(most.max(1)).min(width);
    "█".repeat(usize::try_from(filled).unwrap_or(0))
}

/// The minimum number of events for which a change is shown.
const MIN_BASE: u64 = 20;

/// The limit of a shown change; larger ones are all shown alike.
const MAX_PERCENT: i128 = 999;

/// Returns the change in percent; a dash if the base is too small.
fn change(now: u64, before: u64) -> String {
    if before < MIN_BASE {
        return "–".to_owned();
    }
    let (now, before) = (i128::from(now), i128::from(before));
    let percent = (now - before) * 100 / before;
    if percent > MAX_PERCENT {
        format!(">+{MAX_PERCENT} %")
    } else {
        format!("{percent:+} %")
    }
}

/// Returns the heading of the column of different values. A visitor's id changes every day.
fn uniques_head(question: &Query) -> String {
    match question.unique {
        None => String::new(),
        Some(field) if field.name == "visitor.id" => "VISITORS (DAILY)".to_owned(),
        Some(field) => format!("DIFFERENT {}", field.name),
    }
}

/// A table of numbers with headings.
struct Columns {
    uniques: String,
    /// The width of the first column.
    width: usize,
}

impl Columns {
    fn head(&self, first: &str, last: &str) -> String {
        let Self { uniques, width } = self;
        let line = if uniques.is_empty() {
            format!("{first:<width$} {:>12}  {last}", "EVENTS")
        } else {
            format!("{first:<width$} {:>12} {uniques:>16}  {last}", "EVENTS")
        };
        line.trim_end().to_owned()
    }

    fn row(&self, first: &str, events: &str, uniques: Option<String>, last: &str) -> String {
        let width = self.width;
        let line = if self.uniques.is_empty() {
            format!("{first:<width$} {events:>12}  {last}")
        } else {
            let uniques = uniques.unwrap_or_else(|| "-".to_owned());
            let wide = self.uniques.chars().count().max(16);
            format!("{first:<width$} {events:>12} {uniques:>wide$}  {last}")
        };
        line.trim_end().to_owned()
    }
}

/// Formats a number that may not have been requested.
fn spell(number: Option<u64>) -> Option<String> {
    number.map(|number| number.to_string())
}

fn table(question: &Query, answer: &QueryResult) -> String {
    let Totals {
        events,
        uniques,
        first,
        last,
    } = &answer.totals;
    let columns = Columns {
        uniques: uniques_head(question),
        width: 24,
    };
    let mut lines = vec![
        columns.head("", ""),
        columns.row("total", &events.to_string(), spell(*uniques), ""),
    ];
    if let Some(previous) = &answer.previous {
        let both = uniques.zip(previous.uniques);
        lines.push(columns.row("before", &previous.events.to_string(), spell(previous.uniques), ""));
        lines.push(columns.row(
            "change",
            &change(*events, previous.events),
            both.map(|(now, before)| change(now, before)),
            "",
        ));
    }
    for (name, time) in [("first", first), ("last", last)] {
        let time = time.map_or_else(|| "-".to_owned(), |time| format_iso(time.0));
        lines.push(format!("{name:<24} {time}"));
    }
    if !answer.classes.is_empty() && answer.by.iter().all(|listing| listing.field != CLASS) {
        lines.extend(rows(CLASS, &answer.classes, *events, question));
    }
    if let Some(points) = &answer.series {
        let values: Vec<u64> = points.iter().map(|point| point.events).collect();
        let most = values.iter().copied().max().unwrap_or(0);
        let name = question.series.as_ref().map_or("", |series| series.interval.name());
        lines.push(format!("\nevents by {name}, at most {most}\n{}", sparkline(&values)));
        if points.len() <= 100 {
            lines.push(columns.head("", ""));
            let row = |point: &Point| {
                let bar = bar(point.events, most, 40);
                columns.row(
                    &format_iso(point.start.0),
                    &point.events.to_string(),
                    spell(point.uniques),
                    &bar,
                )
            };
            lines.extend(points.iter().map(row));
        }
    }
    for listing in &answer.by {
        lines.extend(rows(listing.field, &listing.values, *events, question));
    }
    lines.join("\n").trim_end().to_owned()
}

/// Returns the values of a field under their headings, after an empty line.
fn rows(field: &str, groups: &[Group], all: u64, question: &Query) -> Vec<String> {
    let most = groups.iter().map(|group| group.events).max().unwrap_or(0);
    let lengths = groups.iter().map(|group| group.value.chars().count());
    let columns = Columns {
        uniques: uniques_head(question),
        width: lengths.max().unwrap_or(0).max(field.len()).clamp(24, 60),
    };
    let row = |group: &Group| {
        let value = printable(&group.value, columns.width);
        let share = format!(
            "{:>4} %  {}",
            group.events * 100 / all.max(1),
            bar(group.events, most, 24)
        );
        columns.row(&value, &group.events.to_string(), spell(group.uniques), &share)
    };
    let head = columns.head(field, " SHARE");
    [String::new(), head]
        .into_iter()
        .chain(groups.iter().map(row))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_from_next_to_nothing_is_none() {
        for (now, before, told) in [
            (9_999, 1, "–"),
            (19, 0, "–"),
            (30, 20, "+50 %"),
            (10, 20, "-50 %"),
            (20, 20, "+0 %"),
            (199_980, 20, ">+999 %"),
            (u64::MAX, u64::MAX, "+0 %"),
        ] {
            assert_eq!(change(now, before), told, "{now} after {before}");
        }
    }
}
