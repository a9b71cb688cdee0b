//! `pixel erase` and `pixel export`

use std::collections::BTreeSet;

use chrono::Utc;
use serde_json::{Value, json};

use super::archive::{self, Archive, Subject, UserForm};
use super::{DestinationArgument, Misconfigured, configuration};
use crate::config::{Config, Problem};
use crate::destination::Destination;
use crate::hit::event::format_iso;
use crate::hit::privacy::redact::user_forms;
use crate::sqlite::{Purge, purge};
use crate::terminal::{json_line, print, print_message, printable};

/// The subject of the command.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct SubjectArgument {
    /// A user, by the id or mail address in the hits
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// A visitor of one day, by `visitor.id`
    #[arg(long, value_name = "ID")]
    visitor: Option<String>,
    /// A code, by `pixel.code`
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
}

impl SubjectArgument {
    fn subject(&self, config: &Config) -> anyhow::Result<Subject> {
        match (&self.user, &self.visitor, &self.code) {
            (Some(id), ..) => {
                // With another key no event would be found, and the command would report that there is none.
                if !config.has_key && !id.starts_with("u-") {
                    let problem = Problem {
                        variable: "PIXEL_PRIVACY_KEY".to_owned(),
                        value: String::new(),
                        remedy: "give the key with which the hits were stored (`pixel serve` keeps it in a file beside the store, which is not there), or the hash itself (`u-…`)".to_owned(),
                    };
                    return Err(Misconfigured(vec![problem]).into());
                }
                let forms = user_forms(id);
                let hash = |(name, form): &(&'static str, String)| UserForm {
                    name,
                    id: form.clone(),
                    hash: config.policy.key.hash_user(form),
                };
                let forms: Vec<UserForm> = if id.starts_with("u-") {
                    vec![UserForm {
                        name: "hash as given",
                        id: id.clone(),
                        hash: id.clone(),
                    }]
                } else {
                    forms.iter().map(hash).collect()
                };
                let recipients: BTreeSet<_> = std::iter::once(id)
                    .chain(forms.iter().map(|form| &form.id))
                    .flat_map(|form| config.code_keys.recipients(form))
                    .map(|recipient| recipient.to_string())
                    .collect();
                Ok(Subject::User {
                    id: id.clone(),
                    forms,
                    recipients: recipients.into_iter().collect(),
                })
            }
            (_, Some(visitor), _) => Ok(Subject::Visitor(visitor.clone())),
            (_, _, code) => Ok(Subject::Code(code.clone().unwrap_or_default())),
        }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct EraseArguments {
    #[command(flatten)]
    destination: DestinationArgument,
    #[command(flatten)]
    subject: SubjectArgument,
    /// Report what would be deleted and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the receipt as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ExportArguments {
    #[command(flatten)]
    pub(super) destination: DestinationArgument,
    #[command(flatten)]
    subject: SubjectArgument,
}

/// The copies of events that no command reaches.
const BEYOND: [&str; 3] = [
    "log lines of events that could not be delivered; delete them by the event's id, or wait for the log's retention",
    "snapshots and backups of the destination",
    "other destinations; run this for each of them",
];

/// The places in which an index does not search for the hash of a mail address; a file is searched entirely.
const UNSEARCHED: &str = "mail addresses that stood only where an index does not search: in headers, the body and the rest of `params`, \
    `context`, `stage-variables` and `body-json`, or in texts that are longer than the index takes (1024 characters, of most \
    fields 256)";

/// Returns a note on events that a search for a user does not find.
fn not_found(arguments: &SubjectArgument, config: &Config) -> Option<&'static str> {
    let user = arguments.user.as_deref()?;
    if user.starts_with("u-") {
        return Some(
            "hits of signed codes for this user: their recipient has another hash; give the id or mail address itself",
        );
    }
    Some(if config.code_keys.is_empty() {
        "hits of signed codes for this user: `PIXEL_CODE_KEYS` is not set, without which nobody can tell them"
    } else {
        "hits of signed codes of keys that have been taken out of `PIXEL_CODE_KEYS`"
    })
}

/// Deletes a subject's events, counts again, and prints the receipt.
pub(super) fn erase(arguments: &EraseArguments) -> anyhow::Result<()> {
    let config = configuration(&arguments.destination)?;
    let subject = arguments.subject.subject(&config)?;
    super::runtime()?.block_on(async {
        let places = config.destination.iter().chain(&config.fallback);
        let (mut erased, mut beyond) = (Vec::new(), BEYOND.map(ToOwned::to_owned).to_vec());
        beyond.extend(not_found(&arguments.subject, &config).map(ToOwned::to_owned));
        let (mut missed, mut readable) = (0, 0);
        for place in places {
            match place {
                // Messages in a queue reach a destination in the end.
                Destination::Message(outlet) => {
                    beyond.push(format!(
                        "{outlet}: events that wait there; run this again when they have come"
                    ));
                }
                // An unreachable place does not prevent the others from being cleared.
                place => match erase_from(&config, place, &subject, arguments.dry_run).await {
                    Ok(done) => {
                        let in_texts = matches!(subject, Subject::User { .. });
                        if in_texts && matches!(place, Destination::OpenSearch(_)) {
                            beyond.push(format!("{place}: {UNSEARCHED}"));
                        }
                        if let Purge::Incomplete(reason) = &done.purge {
                            readable += 1;
                            beyond.push(format!("{place}: {}", archive::explain_still_readable(reason)));
                        }
                        erased.push(done);
                    }
                    Err(error) => {
                        missed += 1;
                        beyond.push(printable(&format!("{place}: {error:#}; run this again"), 400));
                    }
                },
            }
        }
        let sum = |part: fn(&Erased) -> u64| erased.iter().map(part).sum::<u64>();
        let left = sum(|erased| erased.left);
        let receipt = json!({
            "subject": subject.name(),
            "searched": subject.searched(),
            "time": format_iso(Utc::now()),
            "dry_run": arguments.dry_run,
            "found": sum(|erased| erased.found),
            "deleted": sum(|erased| erased.deleted),
            "left": left,
            "destinations": erased.iter().map(Erased::json).collect::<Vec<_>>(),
            "not_reached": beyond,
        });
        show(&receipt, arguments.json)?;
        anyhow::ensure!(
            missed == 0,
            "{missed} of the places could not be reached; the receipt names them"
        );
        anyhow::ensure!(
            readable == 0,
            "cannot remove all bytes of what was deleted; the receipt says why; run it again"
        );
        anyhow::ensure!(arguments.dry_run || left == 0, "{left} events are left; run it again");
        Ok(())
    })
}

/// The result of deleting a subject's events in one place.
struct Erased {
    place: String,
    found: u64,
    deleted: u64,
    left: u64,
    purge: Purge,
}

impl Erased {
    fn json(&self) -> Value {
        json!({"destination": self.place, "found": self.found, "deleted": self.deleted, "left": self.left})
    }
}

async fn erase_from(config: &Config, place: &Destination, subject: &Subject, dry_run: bool) -> anyhow::Result<Erased> {
    let none_yet =
        matches!(place, Destination::Sqlite(path) if Some(place) == config.fallback.as_ref() && !path.exists());
    if none_yet {
        return Ok(Erased {
            place: place.to_string(),
            found: 0,
            deleted: 0,
            left: 0,
            purge: Purge::Complete,
        });
    }
    let archive = Archive::open_destination(config, place).await?;
    archive.refresh().await;
    let found = archive.count(subject).await?;
    let deleted = if dry_run { 0 } else { archive.delete(subject).await? };
    archive.refresh().await;
    // Also if nothing was found: an earlier run may have been interrupted before this.
    let purge = match place {
        Destination::Sqlite(path) if !dry_run => purge(path)?,
        _ => Purge::Complete,
    };
    Ok(Erased {
        place: place.to_string(),
        found,
        deleted,
        left: archive.count(subject).await?,
        purge,
    })
}

fn show(receipt: &Value, json: bool) -> anyhow::Result<()> {
    if json {
        return print(&json_line(receipt));
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    print(&format!("subject      {}", text(&receipt["subject"])))?;
    for form in receipt["searched"].as_array().into_iter().flatten() {
        print(&format!("searched     {}", printable(&text(form), 300)))?;
    }
    print(&format!("time         {}", text(&receipt["time"])))?;
    for place in receipt["destinations"].as_array().into_iter().flatten() {
        print(&format!("destination  {}", text(&place["destination"])))?;
        for name in ["found", "deleted", "left"] {
            print(&format!("  {name:<10} {}", place[name]))?;
        }
    }
    if receipt["dry_run"] == true {
        print("nothing was deleted: this was a dry run")?;
    }
    print("not reached:")?;
    let beyond = receipt["not_reached"].as_array().into_iter().flatten();
    beyond.map(text).try_for_each(|place| print(&format!("  {place}")))
}

/// Prints a subject's events, one JSON document per line.
pub(super) fn export(arguments: &ExportArguments) -> anyhow::Result<()> {
    let config = configuration(&arguments.destination)?;
    let subject = arguments.subject.subject(&config)?;
    super::runtime()?.block_on(async {
        let archive = Archive::open(&config).await?;
        archive.refresh().await;
        let mut count = 0;
        let each = archive.each(Some(&subject), |page| {
            count += page.len();
            page.iter().try_for_each(|stored| print(&json_line(&stored.document)))?;
            Ok(Vec::new())
        });
        each.await?;
        let beyond = not_found(&arguments.subject, &config).filter(|_| config.code_keys.is_empty());
        if let Some(beyond) = beyond {
            print_message(&format!("not among them: {beyond}"));
        }
        if count == 0 {
            print_message(&format!("no events of {}", subject.name()));
        }
        Ok(())
    })
}
