//! `pixel export`

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context;
use chrono::Utc;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::archive::{Archive, Pages};
use super::source::WrongOption;
use super::{configuration, erase};
use crate::hit::event::fields::{Field, Kind};
use crate::query::{Filter, Parameters, elastic, listed_fields};
use crate::sqlite::Archive as File;
use crate::terminal::{CsvWriter, json_line, print_message, spreadsheet_cell};

/// The number of events that are read at once, so that memory does not grow with their number.
const PAGE: usize = 1000;

const TICK_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    one: erase::ExportArguments,
    /// All events, or those that the following options choose
    #[arg(long, group = "SubjectArgument")]
    all: bool,
    /// With `--all`: only events since then: `7d`, `3mo`, `yesterday`, `2026-03-01`
    #[arg(long, value_name = "DURATION|TIME", requires = "all", conflicts_with_all = ["user", "visitor", "code"])]
    since: Option<String>,
    /// With `--all`: from this moment: `yesterday`, a day or an RFC 3339 time
    #[arg(long, value_name = "TIME", requires = "all", conflicts_with_all = ["since", "user", "visitor", "code"])]
    from: Option<String>,
    /// With `--all`: until this moment, which is not included
    #[arg(long, value_name = "TIME", requires = "all", conflicts_with_all = ["user", "visitor", "code"])]
    to: Option<String>,
    /// With `--all`: only events with `FIELD=VALUE`, or without it: `FIELD!=VALUE`; may be repeated
    #[arg(long, value_name = "FIELD=VALUE", requires = "all", conflicts_with_all = ["user", "visitor", "code"])]
    filter: Vec<String>,
    /// With `--all`: print CSV, with a column for each field of `pixel stats --fields`
    #[arg(long, requires = "all", conflicts_with_all = ["ndjson", "user", "visitor", "code"])]
    csv: bool,
    /// Print whole events as JSON, one per line: this is the default
    #[arg(long)]
    ndjson: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.all {
        export_all(arguments)
    } else {
        erase::export(&arguments.one)
    }
}

impl Arguments {
    fn read_filter(&self) -> Result<Filter, WrongOption> {
        let given = [("since", &self.since), ("from", &self.from), ("to", &self.to)];
        let given = given
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let filters = self.filter.iter().map(|filter| ("filter", filter));
        let parameters: Vec<_> = given
            .chain(filters)
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect();
        let parameters = Parameters::new(&parameters, Utc::now());
        let known = parameters.only(&Parameters::QUESTION);
        known.and_then(|()| parameters.filter(None)).map_err(WrongOption)
    }
}

/// Prints events in the order in which they are stored.
fn export_all(arguments: &Arguments) -> anyhow::Result<()> {
    let filter = arguments.read_filter()?;
    let config = configuration(&arguments.one.destination)?;
    let mut output = if arguments.csv {
        Output::Csv(Box::new(CsvWriter::stdout()), listed_fields().collect())
    } else {
        Output::Lines(io::BufWriter::with_capacity(1 << 16, io::stdout().lock()))
    };
    let progress = progress();
    let exported = super::runtime()?.block_on(async {
        let archive = Archive::open(&config).await?;
        archive.refresh().await;
        output.begin()?;
        let mut take = |documents: Vec<Value>| {
            for document in &documents {
                output.write(document)?;
            }
            progress.inc(documents.len() as u64);
            Ok::<_, anyhow::Error>(())
        };
        match &archive {
            Archive::File(path) => read_file(&File::open(path)?, &filter, &mut take)?,
            Archive::Index(deliverer) => {
                let mut pages = Pages::new(deliverer, elastic::query(&filter));
                let mut read = Ok(());
                while read.is_ok()
                    && let Some(page) = pages.next().await?
                {
                    read = take(page.into_iter().map(|stored| stored.document).collect());
                }
                pages.end().await;
                read?;
            }
        }
        output.end()
    });
    let count = progress.position();
    progress.finish_and_clear();
    match exported {
        Ok(()) => {
            print_message(&format!("{count} events"));
            Ok(())
        }
        // A reader that stops early has what it wanted.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    match error.downcast_ref::<csv::Error>().map(csv::Error::kind) {
        Some(csv::ErrorKind::Io(error)) => closed(error),
        _ => error.downcast_ref::<io::Error>().is_some_and(closed),
    }
}

/// Creates a count of events on stderr, shown if that is a terminal.
fn progress() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} events, {per_sec}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK_INTERVAL);
    bar
}

fn read_file(
    file: &File,
    filter: &Filter,
    take: &mut impl FnMut(Vec<Value>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut after = i64::MIN;
    loop {
        let rows = file.page(after, PAGE)?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.number;
        let mut documents = Vec::with_capacity(rows.len());
        for row in &rows {
            let document: Value = serde_json::from_str(&row.document).context("a stored event is not JSON")?;
            if filter.holds(&document) {
                documents.push(document);
            }
        }
        take(documents)?;
    }
}

enum Output {
    Lines(io::BufWriter<io::StdoutLock<'static>>),
    Csv(Box<CsvWriter<io::StdoutLock<'static>>>, Vec<&'static Field>),
}

impl Output {
    fn begin(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Lines(_) => Ok(()),
            Self::Csv(writer, fields) => Ok(writer.row(fields_of_header(fields))?),
        }
    }

    fn write(&mut self, document: &Value) -> anyhow::Result<()> {
        match self {
            Self::Lines(out) => Ok(writeln!(out, "{}", json_line(document))?),
            Self::Csv(writer, fields) => {
                let time = document["@timestamp"].as_str().unwrap_or_default().to_owned();
                let cells = fields.iter().map(|field| cell(document, field));
                Ok(writer.row(std::iter::once(time).chain(cells))?)
            }
        }
    }

    fn end(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Lines(out) => Ok(out.flush()?),
            Self::Csv(writer, _) => Ok(writer.flush()?),
        }
    }
}

fn fields_of_header<'a>(fields: &'a [&'static Field]) -> impl Iterator<Item = &'static str> + 'a {
    std::iter::once("@timestamp").chain(fields.iter().map(|field| field.name))
}

/// Returns the value of a field; several are separated by spaces.
fn cell(document: &Value, field: &Field) -> String {
    let value = field.name.split('.').fold(document, |value, name| &value[name]);
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let cell = match value {
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(" "),
        value => text(value),
    };
    // A negative number is not a value.
    if matches!(field.kind, Kind::Long) {
        return cell;
    }
    spreadsheet_cell(&cell).into_owned()
}
