//! `pixel demo`

#[cfg(feature = "cli")]
pub mod generator;

use std::collections::VecDeque;
use std::fmt::Write;
use std::io::IsTerminal;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{JoinHandle, available_parallelism};
use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::{DateTime, Utc};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde_json::{Value, json};

use super::archive::{Archive, Subject, explain_still_readable};
use super::interruption::{Interrupted, Signal, Stop};
use super::sink::Sink;
use super::{DestinationArgument, configuration};
use crate::cli::demo::generator::{DATASET, Demo, Plan};
use crate::client::bulk::load;
use crate::config::Config;
use crate::destination::Destination;
use crate::destination::bulk::Tally;
use crate::hit::event::{Event, format_iso};
use crate::hit::outcome::Outcome;
use crate::sqlite::{Purge, purge};
use crate::terminal::{json_line, print, print_message, printable};

#[derive(Debug, clap::Args)]
#[command(mut_arg("destination", |argument| argument.help(super::ANY_DESTINATION)))]
pub(super) struct Arguments {
    #[command(flatten)]
    destination: DestinationArgument,
    /// The number of events
    #[arg(long, value_name = "N", default_value_t = 10_000, allow_negative_numbers = true, value_parser = super::whole(1..=10_000_000_u32))]
    events: u32,
    /// The number of days of the demo: `30`, `12w`, `3mo`, `1y`
    #[arg(long, value_name = "DURATION", default_value_t = 60, value_parser = demo_days)]
    days: u32,
    /// The seed: the same one makes the same events, and storing them again stores nothing twice
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = super::whole(0..=u64::MAX))]
    seed: u64,
    /// The latest time of an event: `today`, `2026-03-01` or `2026-03-01T09:30:00Z` [default: now]
    #[arg(long, value_name = "TIME", value_parser = end)]
    end: Option<DateTime<Utc>>,
    /// Store them even if the destination holds real events
    #[arg(long)]
    yes: bool,
    /// Delete made-up events instead, of all seeds: those marked `event.dataset: demo`. Demos of versions before this mark
    /// cannot be distinguished from real events
    #[arg(long, conflicts_with_all = ["events", "days", "seed", "end", "yes"])]
    remove: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// The number of events in one batch, about 4 MB.
const BATCH: usize = 2_500;

/// Parses a duration of whole days, at most ten years.
fn demo_days(text: &str) -> Result<u32, String> {
    let days = super::days(text).ok().filter(|days| *days <= 3650);
    days.ok_or_else(|| "give a number of days from 1 to 3650, as in `30`, `12w`, `3mo` or `1y`".to_owned())
}

/// Parses a day or a moment; not so early that the first event would be before 1970.
fn end(text: &str) -> Result<DateTime<Utc>, String> {
    let end = super::moment(text)?;
    let known = ("1980".."9999").contains(&end.format("%Y").to_string().as_str());
    if known {
        Ok(end)
    } else {
        Err("give a year from 1980 to 9998".to_owned())
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = configuration(&arguments.destination)?;
    if arguments.remove {
        return super::runtime()?.block_on(remove(arguments, &config));
    }
    let demo = Demo {
        seed: arguments.seed,
        events: arguments.events,
        days: arguments.days,
        end: arguments.end.unwrap_or_else(Utc::now),
    };
    let summary = super::runtime()?.block_on(fill(&demo, &config, arguments.yes))?;
    if arguments.json {
        print(&summary.json(&demo).to_string())?;
    } else {
        print(&summary.text())?;
    }
    let lost = summary.tally.failed;
    anyhow::ensure!(lost == 0, "{} refused {lost} of the events", summary.destination);
    match summary.interruption() {
        Some(signal) => Err(Interrupted {
            signal,
            resume: format!(
                "with `--seed {} --end {}` and the other options as they were, another run stores the rest, and nothing twice",
                demo.seed,
                format_iso(demo.end)
            ),
        }
        .into()),
        None => Ok(()),
    }
}

/// Deletes the events of all demos.
async fn remove(arguments: &Arguments, config: &Config) -> anyhow::Result<()> {
    let destination = config.destination.as_ref().context("no destination")?;
    let (archive, demos) = (
        Archive::open_destination(config, destination).await?,
        Subject::Dataset(DATASET),
    );
    archive.refresh().await;
    let found = archive.count(&demos).await?;
    let deleted = archive.delete(&demos).await?;
    let purge = match destination {
        Destination::Sqlite(path) => purge(path)?,
        _ => Purge::Complete,
    };
    archive.refresh().await;
    let left = archive.count(&demos).await?;
    let not_reached = match &purge {
        Purge::Complete => None,
        Purge::Incomplete(reason) => Some(format!("{destination}: {}", explain_still_readable(reason))),
    };
    if arguments.json {
        let not_reached: Vec<_> = not_reached.iter().collect();
        print(&json_line(&json!({
            "destination": destination.to_string(),
            "found": found,
            "deleted": deleted,
            "left": left,
            "not_reached": not_reached,
        })))?;
    } else {
        print(&format!("deleted {deleted} made-up events of {destination}"))?;
    }
    if found == 0 {
        print_message(&format!(
            "found no event of {destination} with `event.dataset: {DATASET}`; demos of earlier versions have no mark and cannot be told from real events, and an index that was made before searches for the mark only after `pixel setup`"
        ));
    }
    if let Some(reason) = not_reached {
        anyhow::bail!(reason);
    }
    anyhow::ensure!(left == 0, "{left} made-up events are left; run it again");
    Ok(())
}

/// Refuses a destination that holds real events.
async fn refuse_real_events(config: &Config, destination: &Destination) -> anyhow::Result<()> {
    let archive = Archive::open_destination(config, destination).await?;
    archive.refresh().await;
    let others = archive.has_others_than(DATASET).await;
    let others =
        others.context("cannot tell whether real events are there; try `--yes` to store the demo all the same")?;
    anyhow::ensure!(
        !others,
        "cannot make up events in {destination}: it holds real ones; try another destination, as in `--destination sqlite:demo.db`, or `--yes` to mix them"
    );
    Ok(())
}

async fn fill(demo: &Demo, config: &Config, mix: bool) -> anyhow::Result<Summary> {
    let destination = config.destination.as_ref().context("no destination")?;
    let sink = Sink::open(config, destination).await?;
    // A queue or a stream cannot be searched.
    if !mix && !matches!(destination, Destination::Message(_)) {
        refuse_real_events(config, destination).await?;
    }
    let (stop, bar) = (Stop::on_signal(), progress(demo, destination));
    let began = Instant::now();
    let mut tally = Tally::default();
    let deliver = |events| sink.clone().deliver(events);
    let loaded = load(
        Batches::new(demo, config),
        sink.max_concurrent_batches(),
        deliver,
        |outcomes| {
            for outcome in outcomes {
                tally.add(outcome);
            }
            bar.inc(outcomes.len() as u64);
            // If nothing of a batch arrives, the next one will not succeed either.
            let hopeless = outcomes.iter().all(|outcome| matches!(outcome, Outcome::Failed(_)));
            if hopeless || stop.is_set() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        },
    );
    loaded.await.context("storing the events has failed")?;
    bar.finish_and_clear();
    sink.close();
    Ok(Summary {
        destination: destination.to_string(),
        events: demo.events.into(),
        tally,
        signal: stop.signal(),
        took: began.elapsed(),
    })
}

/// The events in batches, which are made on threads of their own before they are needed.
struct Batches {
    plan: Arc<Plan>,
    config: Arc<Config>,
    /// The first hit that no thread makes yet.
    next: usize,
    ahead: usize,
    making: VecDeque<JoinHandle<Vec<Event>>>,
}

impl Batches {
    fn new(demo: &Demo, config: &Config) -> Self {
        Self {
            plan: Arc::new(demo.plan()),
            config: Arc::new(config.clone()),
            next: 0,
            ahead: available_parallelism().map_or(1, NonZero::get).min(4),
            making: VecDeque::new(),
        }
    }

    fn begin(&mut self) {
        let numbers = self.next..self.plan.len().min(self.next + BATCH);
        self.next = numbers.end;
        let (plan, config) = (Arc::clone(&self.plan), Arc::clone(&self.config));
        let make = move || numbers.map(|number| plan.event(number, &config)).collect();
        self.making.push_back(std::thread::spawn(make));
    }
}

impl Iterator for Batches {
    type Item = Vec<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.making.len() < self.ahead && self.next < self.plan.len() {
            self.begin();
        }
        let made = self.making.pop_front()?.join();
        Some(made.unwrap_or_else(|panic| resume_unwind(panic)))
    }
}

/// Returns a progress bar for a terminal, else prints one line.
fn progress(demo: &Demo, destination: &Destination) -> ProgressBar {
    let Demo {
        seed,
        events,
        days,
        end,
    } = demo;
    let end = format_iso(*end);
    print_message(&format!(
        "{events} events of seed {seed} over {days} days before {end}, into {destination}"
    ));
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new((*events).into());
    match ProgressStyle::with_template("{bar:40} {human_pos} of {human_len}  {speed}  {eta} left") {
        Ok(style) => bar.with_style(style.with_key("speed", speed)),
        Err(_) => bar,
    }
}

fn speed(state: &ProgressState, text: &mut dyn Write) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{:.0}/s", state.per_sec());
}

struct Summary {
    destination: String,
    events: u64,
    tally: Tally,
    signal: Option<Signal>,
    took: Duration,
}

impl Summary {
    /// The signal that stopped it early.
    fn interruption(&self) -> Option<Signal> {
        self.signal.filter(|_| self.not_sent() > 0)
    }

    const fn not_sent(&self) -> u64 {
        self.events - self.tally.total()
    }

    fn json(&self, demo: &Demo) -> Value {
        let reasons: Vec<_> = self
            .tally
            .reasons
            .iter()
            .map(|(reason, count)| json!({"reason": reason, "events": count}))
            .collect();
        json!({
            "destination": self.destination,
            "seed": demo.seed,
            "days": demo.days,
            "end": format_iso(demo.end),
            "events": self.events,
            "stored": self.tally.indexed,
            "already_there": self.tally.duplicate,
            "refused": self.tally.failed,
            "not_sent": self.not_sent(),
            "reasons": reasons,
            "interrupted": self.interruption().is_some(),
            "seconds": self.took.as_secs_f64(),
        })
    }

    fn text(&self) -> String {
        let line = |name: &str, count| format!("{name:<14} {count:>10}");
        let mut lines = vec![
            line("events", self.events),
            line("stored", self.tally.indexed),
            line("already there", self.tally.duplicate),
            line("refused", self.tally.failed),
        ];
        for (reason, count) in &self.tally.reasons {
            lines.push(format!("  {count:>8} x {}", printable(reason, 300)));
        }
        if self.not_sent() > 0 {
            let why = match self.interruption() {
                Some(_) => "interrupted",
                None => "gave up",
            };
            lines.push(format!("{}  ({why})", line("not sent", self.not_sent())));
        }
        lines.join("\n")
    }
}
