//! `pixel code list`

use serde_json::json;

use crate::cli::DestinationArgument;
use crate::cli::source::Source;
use crate::cli::stats::sparkline;
use crate::hit::code::Signature;
use crate::hit::event::format_iso;
use crate::query::store::ListedCode;
use crate::query::{Cursor, Filter, Interval, MAX_EVENTS, Query, SeriesQuery, Term, Zone, declared_field};
use crate::terminal::{CsvWriter, allow_broken_pipe, json_line, print, print_message, printable, spreadsheet_cell};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    destination: DestinationArgument,
    /// The maximum number of codes, latest first
    #[arg(long, short = 'n', default_value_t = 20, allow_negative_numbers = true, value_parser = crate::cli::whole(1..=MAX_EVENTS))]
    limit: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// A code with its opens.
struct Row {
    listed: ListedCode,
    opens: u64,
    /// The opens of each day of the last month.
    days: Vec<u64>,
}

/// The list, as far as it is shown.
struct Shown {
    rows: Vec<Row>,
    /// The number of all codes of the list.
    total: usize,
    /// The number of signed codes with hits, counted if the list is empty.
    signed: u64,
}

/// Lists the codes of a destination, with how often they were opened.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Shown { rows, total, signed } = crate::cli::runtime()?.block_on(read_list(arguments))?;
    if arguments.json {
        let rows = rows.iter().map(|Row { listed, opens, .. }| {
            let mut row = serde_json::to_value(listed).unwrap_or_default();
            row["opens"] = json!(opens);
            row
        });
        return print(&json_line(&rows.collect::<Vec<_>>().into()));
    }
    if arguments.csv {
        return allow_broken_pipe(write_csv(&rows));
    }
    if rows.is_empty() {
        let opened = match signed {
            0 => String::new(),
            signed => format!("; hits came with {signed} signed codes, which need no list"),
        };
        print_message(&format!(
            "no codes are listed; `pixel code new --list` lists one{opened}"
        ));
        return Ok(());
    }
    let widths = rows.iter().map(|row| row.listed.code.chars().count());
    let width = widths.max().unwrap_or(0).clamp(24, 100);
    print(&format!(
        "{:<width$}  {:>8}  {:<30}  {:<24}  {:<20}  NOTE",
        "CODE", "OPENS", "LAST 30 DAYS", "CREATED", "CAMPAIGN"
    ))?;
    for Row { listed, opens, days } in &rows {
        let text = |text: &Option<String>, width| printable(text.as_deref().unwrap_or("-"), width);
        let revoked = if listed.revoked_at.is_some() { " (revoked)" } else { "" };
        print(&format!(
            "{:<width$}  {opens:>8}  {:<30}  {:<24}  {:<20}  {}{revoked}",
            printable(&listed.code, width),
            sparkline(days),
            format_iso(listed.created_at.0),
            text(&listed.campaign, 20),
            text(&listed.note, 40)
        ))?;
    }
    if rows.len() < total {
        print_message(&format!("{} of {total} codes; `--limit` shows more", rows.len()));
    }
    Ok(())
}

async fn read_list(arguments: &Arguments) -> anyhow::Result<Shown> {
    let source = Source::open(&arguments.destination).await?;
    let rows = read_rows(&source, arguments.limit).await?;
    let for_people = !arguments.json && !arguments.csv;
    let total = if for_people && rows.len() == arguments.limit {
        count_codes(&source).await?
    } else {
        rows.len()
    };
    let signed = if for_people && rows.is_empty() {
        count_signed_codes(&source).await?
    } else {
        0
    };
    Ok(Shown { rows, total, signed })
}

/// Counts the codes of the list.
async fn count_codes(source: &Source) -> anyhow::Result<usize> {
    let (mut total, mut after) = (0, None);
    loop {
        let page = source.codes(after.as_ref(), MAX_EVENTS).await?;
        total += page.len();
        match page.last() {
            Some(last) if page.len() == MAX_EVENTS => {
                after = Some(Cursor {
                    time: last.created_at.0.timestamp_millis(),
                    id: last.code.clone(),
                });
            }
            _ => return Ok(total),
        }
    }
}

/// Counts the different signed codes that hits came with.
async fn count_signed_codes(source: &Source) -> anyhow::Result<u64> {
    let signed = [Signature::Valid, Signature::Expired];
    let question = Query {
        filter: Filter {
            terms: vec![Term {
                field: declared_field("pixel.signature"),
                values: signed.map(|signature| signature.name().to_owned()).to_vec(),
                not: false,
            }],
            ..Filter::default()
        },
        unique: Some(declared_field("pixel.code")),
        compare: false,
        series: None,
        by: Vec::new(),
        limit: 1,
    };
    Ok(source.ask(&question).await?.totals.uniques.unwrap_or_default())
}

async fn read_rows(source: &Source, limit: usize) -> anyhow::Result<Vec<Row>> {
    let now = chrono::Utc::now();
    let mut rows = Vec::new();
    for listed in source.codes(None, limit).await? {
        let mut filter = Filter {
            terms: vec![Term {
                field: declared_field("pixel.code"),
                values: vec![listed.code.clone()],
                not: false,
            }],
            ..Default::default()
        };
        let opens = source.count(&filter).await?;
        filter.from = now.checked_sub_days(chrono::Days::new(29));
        filter.to = Some(now);
        let question = Query {
            filter,
            unique: None,
            compare: false,
            series: Some(SeriesQuery {
                interval: Interval::Day,
                zone: Zone::default(),
            }),
            by: Vec::new(),
            limit: 1,
        };
        let days = if opens == 0 {
            Vec::new()
        } else {
            source
                .ask(&question)
                .await?
                .series
                .into_iter()
                .flatten()
                .map(|point| point.events)
                .collect()
        };
        rows.push(Row { listed, opens, days });
    }
    Ok(rows)
}

fn write_csv(rows: &[Row]) -> csv::Result<()> {
    let mut writer = CsvWriter::stdout();
    writer.row(["code", "opens", "created_at", "campaign", "note", "revoked_at"])?;
    for Row { listed, opens, .. } in rows {
        let revoked = listed.revoked_at.map(|time| format_iso(time.0)).unwrap_or_default();
        let (opens, created) = (opens.to_string(), format_iso(listed.created_at.0));
        writer.row([
            spreadsheet_cell(&listed.code),
            opens.into(),
            created.into(),
            spreadsheet_cell(listed.campaign.as_deref().unwrap_or_default()),
            spreadsheet_cell(listed.note.as_deref().unwrap_or_default()),
            revoked.into(),
        ])?;
    }
    writer.flush()
}
