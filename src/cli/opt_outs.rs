//! `pixel opt-outs`

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use chrono::Utc;
use serde_json::json;

use super::source::Source;
use super::{DestinationArgument, WrongArguments};
use crate::api::opt_out::can_be_remembered;
use crate::client::codes;
use crate::hit::event::format_iso;
use crate::query::store::{OptOut, Requester};
use crate::sqlite::opt_outs::OptOutChange;
use crate::terminal::{json_line, print, print_message, printable};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the codes that are opted out, each with the time and origin of its opt-out
    List {
        #[command(flatten)]
        destination: DestinationArgument,
        /// Print JSON, one opt-out per line
        #[arg(long)]
        json: bool,
    },
    /// Opt codes out: from now on their hits are not stored, not even those of codes that many people share
    Add(Change),
    /// Remove opt-outs: hits of these codes are stored again
    Remove(Change),
}

#[derive(Debug, clap::Args)]
struct Change {
    /// The codes, as they appear in the mails' image addresses
    #[arg(required_unless_present = "file")]
    codes: Vec<String>,
    /// Read codes from this file, one per line; `-` reads stdin
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    destination: DestinationArgument,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    super::runtime()?.block_on(async {
        match &arguments.command {
            Command::List { destination, json } => list(destination, *json).await,
            Command::Add(change) => apply(change, true).await,
            Command::Remove(change) => apply(change, false).await,
        }
    })
}

async fn list(destination: &DestinationArgument, json: bool) -> anyhow::Result<()> {
    let mut is_empty = true;
    let show = |opt_out: OptOut| {
        if is_empty && !json {
            print(&format!("{:<40}  {:<24}  BY", "CODE", "SINCE"))?;
        }
        is_empty = false;
        print(&if json { as_json(&opt_out) } else { as_text(&opt_out) })
    };
    match Source::open(destination).await? {
        Source::File(file) => file.visit_opt_outs(show)?,
        Source::Index(deliverer) => codes::visit_opt_outs(&deliverer, show).await?,
    }
    if is_empty {
        print_message("nobody has opted out; `pixel opt-outs add` opts a code out");
    }
    Ok(())
}

fn as_json(opt_out: &OptOut) -> String {
    let line = json!({
        "code": opt_out.code,
        "since": opt_out.since.map(|since| format_iso(since.0)),
        "by": opt_out.by.map(Requester::name),
    });
    json_line(&line)
}

fn as_text(opt_out: &OptOut) -> String {
    let by = match opt_out.by {
        Some(Requester::Page) => "page",
        Some(Requester::CommandLine) => "command line",
        None => "-",
    };
    let since = opt_out
        .since
        .map_or_else(|| "-".to_owned(), |since| format_iso(since.0));
    format!("{:<40}  {since:<24}  {by}", printable(&opt_out.code, 256))
}

/// The number of codes that are changed in one transaction, so that hits can be stored in between.
const BATCH: usize = 1000;

async fn apply(change: &Change, out: bool) -> anyhow::Result<()> {
    let codes = read_codes(change)?;
    let at = Utc::now();
    let mut changed = 0;
    match Source::open(&change.destination).await? {
        Source::File(file) => {
            for batch in codes.chunks(BATCH) {
                let record = |code: &String| OptOutChange {
                    code: code.clone(),
                    out,
                    by: Requester::CommandLine,
                    at,
                };
                changed += file.change_opt_outs(&batch.iter().map(record).collect::<Vec<_>>())?;
            }
        }
        Source::Index(deliverer) => {
            for code in &codes {
                let by = Requester::CommandLine;
                let stored = codes::change_opt_out(&deliverer, code, out, by, at).await;
                let stored =
                    stored.with_context(|| format!("cannot change the opt-out of `{}`", printable(code, 60)))?;
                changed += usize::from(stored);
            }
        }
    }
    report(change, out, changed, codes.len() - changed)
}

fn report(change: &Change, out: bool, changed: usize, unchanged: usize) -> anyhow::Result<()> {
    let (name, same) = if out {
        ("added", "were opted out already")
    } else {
        ("removed", "were not opted out")
    };
    if change.json {
        print(&json_line(&json!({name: changed, "unchanged": unchanged})))?;
    } else {
        print(&format!("{name} {changed}"))?;
        if unchanged > 0 {
            print_message(&format!("{unchanged} {same}"));
        }
    }
    anyhow::ensure!(
        out || changed > 0,
        "none of these codes is opted out; `pixel opt-outs list` lists those that are"
    );
    Ok(())
}

/// Reads the codes of the arguments and of the file, each once and in their order.
fn read_codes(change: &Change) -> anyhow::Result<Vec<String>> {
    let text = match &change.file {
        None => String::new(),
        Some(path) if path == Path::new("-") => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("cannot read stdin")?;
            text
        }
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?,
    };
    let given = change
        .codes
        .iter()
        .map(String::as_str)
        .chain(text.lines().map(str::trim));
    let mut seen = BTreeSet::new();
    let codes: Vec<_> = given.filter(|code| !code.is_empty() && seen.insert(*code)).collect();
    if let Some(code) = codes.iter().find(|code| !can_be_remembered(code)) {
        let shown = printable(code, 60);
        return Err(WrongArguments(format!("`{shown}` is not a code: give one of 1 to 256 bytes")).into());
    }
    if codes.is_empty() {
        return Err(WrongArguments("there is no code in the file; give one per line".to_owned()).into());
    }
    Ok(codes.into_iter().map(ToOwned::to_owned).collect())
}
