//! `pixel replay`

mod source;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::interruption::{Interrupted, Signal, Stop};
use super::sink::Sink;
use super::{DestinationArgument, WrongArguments, configuration, privacy_key};
use crate::client::bulk::BulkTimeouts;
use crate::client::codes::apply_code_status;
use crate::config::{CodeStanding, Config};
use crate::destination::Destination;
use crate::destination::bulk::Tally;
use crate::destination::undelivered::wrap_undelivered;
use crate::files::{self, Access};
use crate::hit::event::Event;
use crate::hit::outcome::{Ignored, Outcome};
use crate::terminal::{print, print_message, printable};
pub(super) use source::Source;
use source::{MAX_PIECE_EVENTS, Marks, Piece, Refused, Total};

#[derive(Debug, clap::Args)]
#[command(mut_arg("destination", |argument| argument.help(super::ANY_DESTINATION)))]
pub(super) struct Arguments {
    /// The source of events: `sqs://HOST/ACCOUNT/QUEUE` (a dead-letter queue is a queue), `sqlite:FILE`, a file, or `-` for
    /// stdin. A file holds events, undelivered events or requests, one per line; or log lines that contain some of them; or
    /// the output of `aws logs filter-log-events`
    pub(super) source: String,
    #[command(flatten)]
    pub(super) destination: DestinationArgument,
    /// Read and count, and store nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// The maximum number of events stored per second
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rate: Option<u32>,
    /// Keep the progress in this file; with the same file, another run continues from there
    #[arg(long, value_name = "FILE")]
    pub(super) state: Option<PathBuf>,
    /// The file for refused events, with the reasons; created when there is one
    #[arg(long, value_name = "FILE", default_value = "pixel-refused.ndjson")]
    pub(super) refused: PathBuf,
    /// Print the summary as JSON
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut config = configuration(&arguments.destination)?;
    let source = Source::parse(&arguments.source, &config)?;
    let wrong = |reason: String| Err(WrongArguments(reason).into());
    if arguments.state.is_some() && !source.has_place() {
        return wrong("a queue and stdin have no place to go on from; leave out `--state`".to_owned());
    }
    if source.is_file(&arguments.refused) {
        return wrong(format!(
            "`{}` is the source and would get what is refused of it; name another file with `--refused`",
            arguments.refused.display()
        ));
    }
    let destination = config.destination.clone().context("no destination")?;
    if source.is(&destination) {
        return wrong(format!("source and destination are the same: {destination}"));
    }
    let resume = resume(&source, arguments.state.is_some()).to_owned();
    // In a file that is followed with a state, the new lines may well hold no events.
    let must_hold_events = arguments.state.is_none() && matches!(source, Source::File(_) | Source::Stdin);
    let left_behind = if let Source::Store(path) = &source {
        super::migrate::left_behind(path)?
    } else {
        make_key(&mut config, arguments)?;
        None
    };
    if let Some(left_behind) = left_behind {
        print_message(&format!(
            "note: only events are replayed; {left_behind} stay behind, and `pixel migrate` carries them, too"
        ));
    }
    let summary = super::runtime()?.block_on(replay(arguments, Arc::new(config), source, &destination))?;
    if arguments.json {
        print(&summary.json().to_string())?;
    } else {
        print(&summary.text())?;
    }
    summary.check(arguments, &destination)?;
    if let Some(signal) = summary.interruption {
        return Err(Interrupted { signal, resume }.into());
    }
    ensure!(
        !must_hold_events || !summary.is_in_vain(),
        "cannot replay `{}`: no events in this file; try `pixel replay --help` for the forms that are read",
        printable(&arguments.source, 200)
    );
    Ok(())
}

/// Creates the key of the hashes for requests that become events here, if there is a place for it.
fn make_key(config: &mut Config, arguments: &Arguments) -> anyhow::Result<()> {
    let variables = super::environment();
    let place = config
        .destination
        .as_ref()
        .and_then(|it| privacy_key::path_for(it, &variables));
    if place.is_none() || arguments.dry_run {
        return Ok(());
    }
    privacy_key::create_if_missing(config, &variables)
}

/// Returns an instruction for continuing with a source that was not read to its end.
const fn resume(source: &Source, has_state: bool) -> &'static str {
    match source {
        _ if has_state => "with the same `--state`, another run goes on from here",
        Source::File(_) | Source::Store(_) => {
            "another run begins anew, and what is stored stays once; with `--state FILE` it could go on from here"
        }
        Source::Queue(_) => {
            "another run goes on with what is left in the queue; what this one took and did not store is there again after five minutes"
        }
        Source::Stdin => "another run with the same input begins anew, and what is stored stays once",
    }
}

pub(super) async fn replay(
    arguments: &Arguments,
    config: Arc<Config>,
    source: Source,
    destination: &Destination,
) -> anyhow::Result<Summary> {
    let mut place = Place::read(arguments.state.as_deref(), &arguments.source)?;
    let stop = Stop::on_signal();
    // Never more at once than may be stored in a second.
    let most = arguments
        .rate
        .map_or(MAX_PIECE_EVENTS, |rate| MAX_PIECE_EVENTS.min(rate as usize));
    let (total, mut pieces) = source
        .open(Arc::clone(&config), place.position, most, arguments.dry_run)
        .await?;
    let sink = if arguments.dry_run {
        None
    } else {
        Some(Sink::open(&config, destination).await?)
    };
    let bar = progress(&total, arguments);
    let mut summary = Summary::new(arguments, destination);
    let mut refusals = Refusals::new(&arguments.refused);
    let mut under_way: JoinSet<anyhow::Result<(Piece, Vec<Outcome>)>> = JoinSet::new();
    let at_once = sink.as_ref().map_or(1, Sink::max_concurrent_batches);
    let pacer = Pacer::new(arguments.rate);
    let (mut number, mut exhausted) = (0, false);
    loop {
        while under_way.len() < at_once && !exhausted && !stop.is_set() && !summary.gave_up {
            let piece = tokio::select! {
                piece = pieces.next() => piece?,
                // More events may come late or never.
                () = stop.come(), if pieces.can_wait_for_ever() => break,
            };
            let Some(piece) = piece else {
                exhausted = true;
                break;
            };
            summary.read(&piece);
            refusals.write(&piece.refused)?;
            summary.refused += piece.refused.len() as u64;
            pacer.wait(summary.read).await;
            place.begin(number);
            let piece = Piece { number, ..piece };
            number += 1;
            match &sink {
                Some(sink) => {
                    let (sink, standing) = (sink.clone(), config.code_standing);
                    under_way.spawn(async move {
                        let mut piece = piece;
                        let events = std::mem::take(&mut piece.events);
                        let (events, outcomes) = deliver(sink, events, standing).await?;
                        piece.events = events;
                        anyhow::Ok((piece, outcomes))
                    });
                }
                None => bar.inc(piece.size),
            }
        }
        let Some(ended) = under_way.join_next().await else {
            break;
        };
        let (piece, outcomes) = ended.context("storing the events has failed")??;
        let hopeless = summary.note(&piece, &outcomes, &mut refusals, destination)?;
        pieces.settle(&piece.marks, &outcomes).await?;
        if hopeless {
            summary.gave_up = true;
        } else {
            place.end(piece.number, &piece.marks)?;
        }
        bar.inc(piece.size);
    }
    bar.finish_and_clear();
    if let Some(sink) = sink {
        sink.close();
    }
    summary.interruption = stop.signal().filter(|_| !summary.gave_up && !exhausted);
    summary.took = summary.began.elapsed();
    Ok(summary)
}

/// Delivers events and returns the outcome of each, in their order. If requested, an index is first asked for the status of
/// their codes.
async fn deliver(
    sink: Sink,
    mut events: Vec<Event>,
    standing: CodeStanding,
) -> anyhow::Result<(Vec<Event>, Vec<Outcome>)> {
    let asked = sink.index().filter(|_| standing == CodeStanding::Index);
    let Some(index) = asked else {
        return Ok(sink.deliver_kept(events).await);
    };
    let codes: Vec<_> = events.iter().map(Event::code).collect();
    let opted_out = apply_code_status(index, &mut events, &codes, BulkTimeouts::default().budget).await;
    let opted_out = opted_out.context("cannot look up how the codes stand (`PIXEL_CODE_STANDING`)")?;
    let (mut kept, mut gone) = (Vec::with_capacity(events.len()), Vec::new());
    for (event, opted_out) in events.into_iter().zip(&opted_out) {
        if *opted_out { &mut gone } else { &mut kept }.push(event);
    }
    let (kept, outcomes) = sink.deliver_kept(kept).await;
    let mut kept = kept.into_iter().zip(outcomes);
    let mut gone = gone
        .into_iter()
        .map(|event| (event, Outcome::Ignored(Ignored::OptedOut)));
    let all = opted_out.into_iter();
    Ok(all
        .filter_map(|opted_out| if opted_out { gone.next() } else { kept.next() })
        .unzip())
}

fn progress(total: &Total, arguments: &Arguments) -> ProgressBar {
    print_message(&format!("{total} from {}", printable(&arguments.source, 200)));
    let Some(size) = total.size.filter(|_| std::io::stderr().is_terminal()) else {
        return ProgressBar::hidden();
    };
    let bar = ProgressBar::new(size);
    let template = if total.in_bytes {
        "{bar:40} {bytes} of {total_bytes}  {eta} left"
    } else {
        "{bar:40} {human_pos} of {human_len}  {per_sec}  {eta} left"
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The rate limit of a replay.
struct Pacer {
    began: Instant,
    rate: Option<u32>,
}

impl Pacer {
    fn new(rate: Option<u32>) -> Self {
        Self {
            began: Instant::now(),
            rate,
        }
    }

    /// Waits until this number of events may have been read.
    async fn wait(&self, events: u64) {
        let Some(rate) = self.rate else { return };
        let due = Duration::from_millis(events.saturating_mul(1000) / u64::from(rate));
        let left = due.saturating_sub(self.began.elapsed());
        if !left.is_zero() {
            tokio::time::sleep(left).await;
        }
    }
}

/// Returns the text of a state file: the position up to which a source has been read and stored.
pub(super) fn state_text(source: &str, position: u64) -> String {
    json!({"source": source, "position": position}).to_string()
}

/// The position up to which a source has been read and stored, without a gap.
struct Place {
    file: Option<PathBuf>,
    source: String,
    position: u64,
    /// Pieces that are not stored yet, and the positions of those that were done out of turn.
    open: BTreeMap<u64, Option<u64>>,
}

impl Place {
    fn read(file: Option<&Path>, source: &str) -> anyhow::Result<Self> {
        let mut position = 0;
        if let Some(file) = file.filter(|file| file.exists()) {
            let text = std::fs::read_to_string(file).with_context(|| format!("the state `{}`", file.display()))?;
            let state: Value = serde_json::from_str(&text).unwrap_or_default();
            let (from, reached) = (state["source"].as_str(), state["position"].as_u64());
            let (Some(from), Some(reached)) = (from, reached) else {
                anyhow::bail!(
                    "`{}` is not a state of `pixel replay`; name another file",
                    file.display()
                );
            };
            ensure!(
                from == source,
                "the state `{}` is of another source, `{}`; name another file",
                file.display(),
                printable(from, 200)
            );
            position = reached;
            print_message(&format!("going on from position {position}"));
        }
        Ok(Self {
            file: file.map(Path::to_owned),
            source: source.to_owned(),
            position,
            open: BTreeMap::new(),
        })
    }

    fn begin(&mut self, number: u64) {
        self.open.insert(number, None);
    }

    fn end(&mut self, number: u64, marks: &Marks) -> anyhow::Result<()> {
        let (Marks::Position(position), Some(file)) = (marks, &self.file) else {
            return Ok(());
        };
        self.open.insert(number, Some(*position));
        let before = self.position;
        while let Some(first) = self.open.first_entry() {
            let Some(position) = *first.get() else { break };
            self.position = position;
            first.remove();
        }
        if self.position == before {
            return Ok(());
        }
        let state = state_text(&self.source, self.position);
        // After a crash here, the file holds either the old state or the new.
        let new = file.with_extension("new");
        files::write_whole(&new, state.as_bytes())
            .and_then(|()| std::fs::rename(&new, file))
            .with_context(|| format!("the state `{}` cannot be written", file.display()))
    }
}

/// The file of refused events, created when there is one.
struct Refusals<'a> {
    path: &'a Path,
    file: Option<File>,
}

impl<'a> Refusals<'a> {
    const fn new(path: &'a Path) -> Self {
        Self { path, file: None }
    }

    fn write(&mut self, refused: &[Refused]) -> anyhow::Result<()> {
        let lines: Vec<_> = refused
            .iter()
            .map(|refused| refused.line().to_string() + "\n")
            .collect();
        self.append(&lines.concat())
    }

    fn append(&mut self, lines: &str) -> anyhow::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let broken = || format!("the file of refused events `{}`", self.path.display());
        if self.file.is_none() {
            let opened = files::append_to(self.path, Access::Owner);
            self.file = Some(opened.with_context(broken)?);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(lines.as_bytes()).with_context(broken)
    }
}

pub(super) struct Summary {
    source: String,
    destination: String,
    dry_run: bool,
    read: u64,
    other_lines: u64,
    tally: Tally,
    refused: u64,
    /// The number of events of recipients who have opted out.
    ignored: u64,
    failed: u64,
    kept_in_queue: u64,
    gave_up: bool,
    /// The signal that stopped it early.
    pub(super) interruption: Option<Signal>,
    began: Instant,
    took: Duration,
}

impl Summary {
    fn new(arguments: &Arguments, destination: &Destination) -> Self {
        Self {
            source: arguments.source.clone(),
            destination: destination.to_string(),
            dry_run: arguments.dry_run,
            read: 0,
            other_lines: 0,
            tally: Tally::default(),
            refused: 0,
            ignored: 0,
            failed: 0,
            kept_in_queue: 0,
            gave_up: false,
            interruption: None,
            began: Instant::now(),
            took: Duration::ZERO,
        }
    }

    /// Returns true if there were lines, and none of them was an event.
    const fn is_in_vain(&self) -> bool {
        self.read == 0 && self.other_lines > 0
    }

    fn read(&mut self, piece: &Piece) {
        self.read += (piece.events.len() + piece.refused.len()) as u64;
        self.other_lines += piece.other_lines;
        for refused in &piece.refused {
            self.tally.add_reason(&refused.reason);
        }
        if let Marks::Receipts { kept, .. } = piece.marks {
            self.kept_in_queue += kept;
        }
    }

    /// Counts the outcomes of a piece, and writes down what was refused. Returns true if nothing of it arrived: the next one
    /// would not succeed either.
    fn note(
        &mut self,
        piece: &Piece,
        outcomes: &[Outcome],
        refusals: &mut Refusals<'_>,
        destination: &Destination,
    ) -> anyhow::Result<bool> {
        let mut failed = 0;
        let mut lines = String::new();
        for (event, outcome) in piece.events.iter().zip(outcomes) {
            self.tally.add(outcome);
            self.ignored += u64::from(matches!(outcome, Outcome::Ignored(_)));
            if let Outcome::Failed(failure) = outcome {
                if failure.temporary {
                    failed += 1;
                } else {
                    self.refused += 1;
                    lines.push_str(&refusal(event, &failure.reason, destination));
                }
                if let Marks::Receipts { .. } = piece.marks {
                    self.kept_in_queue += 1;
                }
            }
        }
        refusals.append(&lines)?;
        self.failed += failed;
        // A temporary failure must not be skipped: another run begins with this piece.
        Ok(failed > 0)
    }

    /// Fails if an event is not stored.
    pub(super) fn check(&self, arguments: &Arguments, destination: &Destination) -> anyhow::Result<()> {
        let (refused, failed) = (self.refused, self.failed);
        ensure!(
            failed == 0,
            "{destination} did not take {failed} of the events; run it again when it does"
        );
        ensure!(
            refused == 0,
            "{refused} were refused; they stand with the reasons in `{}`",
            arguments.refused.display()
        );
        Ok(())
    }

    pub(super) fn json(&self) -> Value {
        let reasons: Vec<_> = self
            .tally
            .reasons
            .iter()
            .map(|(reason, count)| json!({"reason": reason, "events": count}))
            .collect();
        json!({
            "source": self.source,
            "destination": self.destination,
            "dry_run": self.dry_run,
            "read": self.read,
            "indexed": self.tally.indexed,
            "already_there": self.tally.duplicate,
            "refused": self.refused,
            "ignored": self.ignored,
            "failed": self.failed,
            "kept_in_queue": self.kept_in_queue,
            "other_lines": self.other_lines,
            "reasons": reasons,
            "interrupted": self.interruption.is_some(),
            "seconds": self.took.as_secs_f64(),
        })
    }

    fn text(&self) -> String {
        let line = |name: &str, count| format!("{name:<14} {count:>10}");
        let mut lines = vec![line("read", self.read)];
        if self.dry_run {
            lines.push(line("refused", self.refused));
        } else {
            lines.push(line("indexed", self.tally.indexed));
            lines.push(line("already there", self.tally.duplicate));
            lines.push(line("refused", self.refused));
        }
        for (reason, count) in &self.tally.reasons {
            lines.push(format!("  {count:>8} x {}", printable(reason, 300)));
        }
        for (name, count) in [
            ("opted out", self.ignored),
            ("not now", self.failed),
            ("kept in queue", self.kept_in_queue),
            ("other lines", self.other_lines),
        ] {
            if count > 0 {
                lines.push(line(name, count));
            }
        }
        if self.interruption.is_some() {
            lines.push("interrupted".to_owned());
        } else if self.gave_up {
            lines.push("gave up".to_owned());
        }
        lines.join("\n")
    }
}

fn refusal(event: &Event, reason: &str, destination: &Destination) -> String {
    format!("{}\n", wrap_undelivered(event, reason, &destination.to_string()))
}
