//! `pixel prune`

use anyhow::Context;
use chrono::{DateTime, Days, Utc};
use serde_json::json;

use super::archive::explain_still_readable;
use super::{DestinationArgument, configuration, connect};
use crate::destination::Destination;
use crate::hit::event::format_iso;
use crate::setup::prune::{Fate, JudgedIndex, delete, judge};
use crate::sqlite;
use crate::sqlite::Purge;
use crate::terminal::{json_line, print, print_message};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    destination: DestinationArgument,
    /// Delete what is older: `90d`, `12w`, `3mo`, `1y`; a number alone means days
    #[arg(long, value_name = "DURATION", value_parser = super::days)]
    older_than: u32,
    /// Report what would be deleted and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = configuration(&arguments.destination)?;
    let now = Utc::now();
    let before = now
        .checked_sub_days(Days::new(arguments.older_than.into()))
        .context("so many days ago there was no time")?;
    match config.destination.as_ref().context("no destination")? {
        Destination::Sqlite(path) => prune_store(arguments, path, before),
        Destination::Message(outlet) => {
            anyhow::bail!("{outlet} drops by itself what nobody has read in time; name an index or a file")
        }
        Destination::OpenSearch(target) => super::runtime()?.block_on(async {
            let deliverer = connect::open_deliverer(&config, target).await?;
            let verdicts = judge(&deliverer, before, now).await?;
            if verdicts.is_empty() {
                print_message(&format!("no index matches `{}`", target.index.pattern));
            }
            for index in verdicts
                .iter()
                .filter(|index| matches!(index.fate, Fate::Delete { .. }))
            {
                if !arguments.dry_run {
                    delete(&deliverer, &index.name).await?;
                    print_message(&format!("deleted `{}`", index.name));
                }
            }
            show(arguments, &verdicts)
        }),
    }
}

fn prune_store(arguments: &Arguments, path: &std::path::Path, before: DateTime<Utc>) -> anyhow::Result<()> {
    let events = sqlite::prune(path, before, arguments.dry_run)?;
    let purge = if arguments.dry_run {
        Purge::Complete
    } else {
        sqlite::purge(path)?
    };
    let not_reached = match &purge {
        Purge::Complete => None,
        Purge::Incomplete(reason) => Some(format!("sqlite:{}: {}", path.display(), explain_still_readable(reason))),
    };
    if arguments.json {
        let mut result = json!({"events": events, "before": format_iso(before), "dry_run": arguments.dry_run});
        result["not_reached"] = not_reached.iter().map(String::as_str).collect();
        print(&json_line(&result))?;
    } else {
        let did = if arguments.dry_run { "would delete" } else { "deleted" };
        print(&format!(
            "{did} {events} events from before {} in `{}`",
            format_iso(before),
            path.display()
        ))?;
    }
    not_reached.map_or(Ok(()), |reason| Err(anyhow::anyhow!(reason)))
}

fn word(fate: &Fate, dry_run: bool) -> &'static str {
    match fate {
        Fate::Delete { .. } if dry_run => "would delete",
        Fate::Delete { .. } => "deleted",
        Fate::Keep => "kept",
        Fate::WriteIndex => "kept: events are written to it",
        Fate::Foreign => "kept: not made by this pattern",
    }
}

fn show(arguments: &Arguments, verdicts: &[JudgedIndex]) -> anyhow::Result<()> {
    let dry_run = arguments.dry_run;
    if arguments.json {
        let rows: Vec<_> = verdicts
            .iter()
            .map(|index| json!({"index": index.name, "events": index.events, "result": word(&index.fate, dry_run)}))
            .collect();
        return print(&json_line(&json!({"indices": rows, "dry_run": dry_run})));
    }
    for index in verdicts {
        print(&format!(
            "{:<40} {:>12} events  {}",
            index.name,
            index.events,
            word(&index.fate, dry_run)
        ))?;
    }
    let gone: Vec<_> = verdicts
        .iter()
        .filter(|index| matches!(index.fate, Fate::Delete { .. }))
        .collect();
    let events: u64 = gone.iter().map(|index| index.events).sum();
    let did = if dry_run { "would delete" } else { "deleted" };
    print(&format!(
        "{did} {} of {} indices, {events} events",
        gone.len(),
        verdicts.len()
    ))
}
