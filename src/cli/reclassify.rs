//! `pixel reclassify`

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde_json::{Value, json};

use super::archive::Archive;
use super::{DestinationArgument, configuration};
use crate::hit::enrich::PURPOSE_HEADERS;
use crate::hit::enrich::burst;
use crate::hit::enrich::burst::{BURST_CODES, Touch};
use crate::hit::enrich::classify::{Class, RULES, Signals, Visit, classify};
use crate::hit::enrich::rules;
use crate::sqlite::{Archive as File, Change};
use crate::terminal::{print, printable};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    destination: DestinationArgument,
    /// Report what would change and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// The number of events and of changes.
#[derive(Default)]
struct Summary {
    events: u64,
    /// Events whose class or reasons change, or that another version of the rules classified.
    changed: u64,
    /// The number of events whose class changes, by the class before and now.
    classes: BTreeMap<(String, &'static str), u64>,
}

/// Classifies stored events by the rules of this version.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = configuration(&arguments.destination)?;
    super::runtime()?.block_on(async {
        let archive = Archive::open(&config).await?;
        archive.refresh().await;
        let bursts = bursts(&archive).await?;
        let mut summary = Summary::default();
        let each = archive.each(None, |page| {
            let mut changes = Vec::new();
            for stored in page {
                let now = classify_again(&stored.document, &bursts);
                if summary.count(&stored.document, &now) && !arguments.dry_run {
                    changes.push((stored, json!({"visit": visit(&now)})));
                }
            }
            Ok(changes)
        });
        each.await?;
        archive.refresh().await;
        show(&summary, arguments)
    })
}

impl Summary {
    /// Counts an event and returns true if it changes.
    fn count(&mut self, document: &Value, now: &Visit) -> bool {
        self.events += 1;
        let before = &document["visit"];
        let class = before["class"].as_str().unwrap_or("none");
        if class != now.class.name() {
            *self
                .classes
                .entry((printable(class, 40), now.class.name()))
                .or_default() += 1;
        }
        let same = class == now.class.name() && before["reasons"] == json!(now.reasons) && before["rules"] == RULES;
        self.changed += u64::from(!same);
        !same
    }
}

/// Returns the events that are part of bursts, by [`Touch::event`].
async fn bursts(archive: &Archive) -> anyhow::Result<HashSet<u64>> {
    let mut touches = Vec::new();
    let each = archive.each(None, |page| {
        let people = page
            .iter()
            .filter(|stored| classify_again(&stored.document, &HashSet::new()).class == Class::Human);
        touches.extend(people.filter_map(|stored| Touch::from_document(&stored.document)));
        Ok(Vec::new())
    });
    each.await?;
    Ok(burst::find(&touches))
}

/// Classifies the bursts among a file's events since a time, in milliseconds, and returns the number of changed events. A
/// server may be running.
pub(super) fn mark_bursts(path: &Path, since: i64) -> anyhow::Result<u64> {
    let file = File::open(path)?;
    let rows = file.find_events_of_many_codes(since, BURST_CODES)?;
    let documents: Vec<Value> = rows
        .iter()
        .map(|row| serde_json::from_str(&row.document).unwrap_or_default())
        .collect();
    let touches: Vec<_> = documents.iter().filter_map(Touch::from_document).collect();
    let bursts = burst::find(&touches);
    let mut changes = Vec::new();
    for (row, mut document) in rows.into_iter().zip(documents) {
        if Touch::from_document(&document).is_some_and(|touch| bursts.contains(&touch.event)) {
            document["visit"] = visit(&classify_again(&document, &bursts));
            changes.push(Change {
                number: row.number,
                before: row.document,
                after: document.to_string(),
            });
        }
    }
    Ok(file.rewrite(&changes)?)
}

/// Converts a visit to JSON, as it is stored.
fn visit(visit: &Visit) -> Value {
    json!({"class": visit.class.name(), "reasons": visit.reasons, "rules": RULES})
}

/// Classifies a stored event again, from what is stored of its hit and of those around it.
fn classify_again(document: &Value, bursts: &HashSet<u64>) -> Visit {
    let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str);
    let headers = &document["params"]["header"];
    let agent = text("/user_agent/original");
    let accepts = ["accept", "accept-encoding", "accept-language"];
    let network = document.pointer("/client/as/number").and_then(Value::as_u64);
    let signals = Signals {
        agent,
        purpose: PURPOSE_HEADERS.iter().find_map(|name| headers[name].as_str()),
        accepts: accepts.iter().any(|name| headers[name].is_string()),
        network: network.and_then(|network| network.try_into().ok()),
        seconds_since_sent: document.pointer("/pixel/seconds_since_sent").and_then(Value::as_i64),
        burst: !bursts.is_empty() && Touch::from_document(document).is_some_and(|touch| bursts.contains(&touch.event)),
    };
    classify(&signals, &rules::agents().search(agent.unwrap_or_default()))
}

fn show(summary: &Summary, arguments: &Arguments) -> anyhow::Result<()> {
    let classes: Vec<_> = summary
        .classes
        .iter()
        .map(|((before, now), events)| json!({"before": before, "now": now, "events": events}))
        .collect();
    if arguments.json {
        let result = json!({
            "rules": RULES,
            "events": summary.events,
            "changed": summary.changed,
            "classes": classes,
            "dry_run": arguments.dry_run,
        });
        return print(&result.to_string());
    }
    for ((before, now), events) in &summary.classes {
        print(&format!("{before:<14} → {now:<14} {events:>12}"))?;
    }
    let did = if arguments.dry_run { "would change" } else { "changed" };
    print(&format!(
        "{did} {} of {} events by the rules {RULES}",
        summary.changed, summary.events
    ))
}
