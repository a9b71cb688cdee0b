//! `pixel reclassify`

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::archive::Archive;
use super::{DestinationArgument, configuration};
use crate::enrich::PURPOSE_HEADERS;
use crate::rules;
use crate::terminal::{print, printable};
use crate::visit::{RULES, Signals, Visit, classify};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    destination: DestinationArgument,
    /// Say what would change and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Default)]
struct Summary {
    events: u64,
    /// Events whose class or reasons change, or that another version of the rules classed.
    changed: u64,
    /// By the class before and now, of events whose class changes.
    classes: BTreeMap<(String, &'static str), u64>,
}

/// Classes stored events by the rules of this version.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = configuration(&arguments.destination)?;
    super::runtime()?.block_on(async {
        let archive = Archive::open(&config).await?;
        archive.refresh().await;
        let mut summary = Summary::default();
        let each = archive.each(None, |page| {
            let mut changes = Vec::new();
            for stored in page {
                let now = again(&stored.document);
                if summary.count(&stored.document, &now) && !arguments.dry_run {
                    let visit = json!({"class": now.class.name(), "reasons": now.reasons, "rules": RULES});
                    changes.push((stored, json!({"visit": visit})));
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
    /// Counts an event; whether it changes.
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

/// The class of a stored event, by what is stored of its hit.
fn again(document: &Value) -> Visit {
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
