//! `pixel codes`

use std::io;

use serde_json::json;

use super::DestinationArgument;
use super::source::Source;
use super::stats::{cell, sparkline};
use crate::event::iso;
use crate::manage::Listed;
use crate::question::{Interval, MOST_EVENTS, Question, Series, Term, Zone, known};
use crate::terminal::{json_line, print, printable, talk};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    destination: DestinationArgument,
    /// How many, the latest first
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=MOST_EVENTS as i64))]
    limit: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// A code with its opens.
struct Row {
    listed: Listed,
    opens: u64,
    /// By day, of the last month.
    days: Vec<u64>,
}

/// Lists the codes that were made by the HTTP interface, with how often they were opened.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let rows = super::runtime()?.block_on(rows(arguments))?;
    if arguments.json {
        let rows = rows.iter().map(|Row { listed, opens, .. }| {
            let mut row = serde_json::to_value(listed).unwrap_or_default();
            row["opens"] = json!(opens);
            row
        });
        return print(&json_line(&rows.collect::<Vec<_>>().into()));
    }
    if arguments.csv {
        return csv(&rows).or_else(|error| match error.kind() {
            csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(error.into()),
        });
    }
    if rows.is_empty() {
        talk("no codes are listed; `POST /v1/api/codes` lists one");
        return Ok(());
    }
    print(&format!(
        "{:<24}  {:>8}  {:<30}  {:<24}  {:<20}  NOTE",
        "CODE", "OPENS", "LAST 30 DAYS", "CREATED", "CAMPAIGN"
    ))?;
    for Row { listed, opens, days } in &rows {
        let text = |text: &Option<String>, width| printable(text.as_deref().unwrap_or("-"), width);
        let revoked = if listed.revoked_at.is_some() { " (revoked)" } else { "" };
        print(&format!(
            "{:<24}  {opens:>8}  {:<30}  {:<24}  {:<20}  {}{revoked}",
            printable(&listed.code, 24),
            sparkline(days),
            iso(listed.created_at.0),
            text(&listed.campaign, 20),
            text(&listed.note, 40)
        ))?;
    }
    Ok(())
}

async fn rows(arguments: &Arguments) -> anyhow::Result<Vec<Row>> {
    let source = Source::open(&arguments.destination).await?;
    let now = chrono::Utc::now();
    let mut rows = Vec::new();
    for listed in source.codes(arguments.limit.into()).await? {
        let mut filter = crate::question::Filter {
            terms: vec![Term {
                field: known("pixel.code"),
                values: vec![listed.code.clone()],
                not: false,
            }],
            ..Default::default()
        };
        let opens = source.count(&filter).await?;
        filter.from = now.checked_sub_days(chrono::Days::new(29));
        filter.to = Some(now);
        let question = Question {
            filter,
            unique: None,
            compare: false,
            series: Some(Series {
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

fn csv(rows: &[Row]) -> csv::Result<()> {
    let mut writer = csv::Writer::from_writer(io::stdout().lock());
    writer.write_record(["code", "opens", "created_at", "campaign", "note", "revoked_at"])?;
    for Row { listed, opens, .. } in rows {
        let revoked = listed.revoked_at.map(|time| iso(time.0)).unwrap_or_default();
        let text = |text: &Option<String>| cell(text.as_deref().unwrap_or_default());
        let created = iso(listed.created_at.0);
        let row = [
            cell(&listed.code),
            opens.to_string(),
            created,
            text(&listed.campaign),
            text(&listed.note),
            revoked,
        ];
        writer.write_record(row)?;
    }
    Ok(writer.flush()?)
}
