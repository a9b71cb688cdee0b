//! The sources of a replay, which are read in pieces, ahead of storing.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use chrono::Utc;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::cli::{WrongArguments, queue};
use crate::client::http::Deliverer;
use crate::config::Config;
use crate::destination::Destination;
use crate::destination::message::{MessageService, MessageTarget};
use crate::destination::undelivered::UNDELIVERED;
use crate::hit::event::Event;
use crate::hit::event::shape::check_shape;
use crate::hit::outcome::Outcome;
use crate::replay;
use crate::replay::{LogExport, Origin, ReplayError};
use crate::sqlite::Reader;

/// The maximum number of events in one piece.
pub(super) const MAX_PIECE_EVENTS: usize = 2_500;

/// The number of a queue's messages in one piece: late deletion needs a longer time of hiding.
const PIECE_MESSAGES: usize = 500;

/// The number of concurrent calls that receive messages.
const MAX_RECEIVERS: usize = 4;

/// The seconds for which messages are hidden from other receivers: much longer than storing them takes.
const HIDDEN_SECONDS: u32 = 300;

/// The source of a replay.
pub(crate) enum Source {
    Stdin,
    File(PathBuf),
    Store(PathBuf),
    Queue(MessageTarget),
}

/// The size of a source, as far as it is known.
pub(super) struct Total {
    pub(super) size: Option<u64>,
    pub(super) in_bytes: bool,
    about: bool,
}

impl fmt::Display for Total {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.size {
            None => formatter.write_str("events"),
            Some(size) if self.in_bytes => write!(formatter, "{size} bytes"),
            Some(size) if self.about => write!(formatter, "about {size} messages"),
            Some(size) => write!(formatter, "{size} events"),
        }
    }
}

/// Some events, and what else was found with them.
pub(super) struct Piece {
    pub(super) number: u64,
    pub(super) events: Vec<Event>,
    pub(super) refused: Vec<Refused>,
    pub(super) other_lines: u64,
    pub(super) marks: Marks,
    /// The bytes, events or messages that it adds to the progress.
    pub(super) size: u64,
}

/// An entry that was found and cannot be stored.
pub(super) struct Refused {
    pub(super) reason: String,
    text: String,
}

impl Refused {
    /// Returns it in the form of an undelivered event, though it holds none.
    pub(super) fn line(&self) -> Value {
        json!({"message": UNDELIVERED, "reason": self.reason, "event": self.text})
    }
}

/// The information for completing a piece once it is stored.
pub(super) enum Marks {
    /// The source may continue from this position.
    Position(u64),
    /// One receipt for each event; `kept` more messages stay where they are.
    Receipts { receipts: Vec<String>, kept: u64 },
}

impl Source {
    pub(crate) fn parse(text: &str, config: &Config) -> Result<Self, WrongArguments> {
        if text == "-" {
            return Ok(Self::Stdin);
        }
        // A file may have any name; text in the form of a URL is one.
        if !text.contains("://") && !text.starts_with("sqlite:") {
            return Ok(Self::File(text.into()));
        }
        let region = crate::cli::environment().get("AWS_REGION").cloned();
        match Destination::parse(text, None, region.as_deref()) {
            Ok(Destination::Sqlite(path)) => Ok(Self::Store(path)),
            Ok(Destination::Message(outlet)) if outlet.kind == MessageService::Sqs => Ok(Self::Queue(outlet)),
            Ok(other) => Err(WrongArguments(format!(
                "{other} cannot be read back; give a queue (`sqs://…`), `sqlite:FILE`, a file or `-`{}",
                if config.destination.as_ref() == Some(&other) {
                    "; is it the destination?"
                } else {
                    ""
                }
            ))),
            Err(error) => Err(WrongArguments(format!(
                "`{}`: {error}",
                crate::destination::hide_password(text)
            ))),
        }
    }

    /// Returns true if reading can continue from a position.
    pub(super) const fn has_place(&self) -> bool {
        matches!(self, Self::File(_) | Self::Store(_))
    }

    pub(crate) fn is(&self, destination: &Destination) -> bool {
        match (self, destination) {
            (Self::Store(path), Destination::Sqlite(other)) => same_file(path, other),
            (Self::Queue(queue), Destination::Message(other)) => queue == other,
            _ => false,
        }
    }

    pub(super) fn is_file(&self, other: &Path) -> bool {
        matches!(self, Self::File(path) if same_file(path, other))
    }

    /// Opens the source and begins to read ahead.
    pub(super) async fn open(
        self,
        config: Arc<Config>,
        position: u64,
        most: usize,
        dry_run: bool,
    ) -> anyhow::Result<(Total, Pieces)> {
        match self {
            Self::Store(path) => {
                let reader = Reader::open(&path)?.unmapped()?;
                let total = Total {
                    size: Some(reader.count_after(position)?),
                    in_bytes: false,
                    about: false,
                };
                let pieces = ahead(move |send| read_store(&reader, position, most, send))?;
                Ok((total, Pieces::Read(pieces)))
            }
            Self::File(path) => {
                let broken = || format!("the file `{}`", path.display());
                let mut file = File::open(&path).with_context(broken)?;
                let metadata = file.metadata().with_context(broken)?;
                ensure!(!metadata.is_dir(), "{} is a folder; name a file", broken());
                let size = metadata.len();
                file.seek(SeekFrom::Start(position)).with_context(broken)?;
                let total = Total {
                    size: Some(size.saturating_sub(position)),
                    in_bytes: true,
                    about: false,
                };
                let pieces = ahead(move |send| read_lines(BufReader::new(file), position, most, &config, send))?;
                Ok((total, Pieces::Read(pieces)))
            }
            Self::Stdin => {
                let total = Total {
                    size: None,
                    in_bytes: false,
                    about: false,
                };
                let pieces = ahead(move |send| read_lines(BufReader::new(std::io::stdin()), 0, most, &config, send))?;
                Ok((total, Pieces::Read(pieces)))
            }
            Self::Queue(outlet) => {
                let queue = Arc::new(queue::open(&config, &outlet).await?);
                let total = Total {
                    size: Some(queue::count(&queue).await?),
                    in_bytes: false,
                    about: true,
                };
                let pieces = Pieces::Queue { queue, config, dry_run };
                Ok((total, pieces))
            }
        }
    }
}

fn same_file(path: &Path, other: &Path) -> bool {
    let whole = |path: &Path| path.canonicalize().ok();
    path == other || whole(path).is_some_and(|path| whole(other) == Some(path))
}

/// A stream of pieces.
pub(super) enum Pieces {
    /// The pieces from a reading thread.
    Read(mpsc::Receiver<anyhow::Result<Piece>>),
    /// The pieces from a queue.
    Queue {
        queue: Arc<Deliverer<MessageTarget>>,
        config: Arc<Config>,
        /// True if only the number of messages is requested, because receiving them would hide them from others.
        dry_run: bool,
    },
}

impl Pieces {
    /// Returns true if the next piece may never come, as from a pipe. A piece from a queue must not be dropped half-way.
    pub(super) const fn can_wait_for_ever(&self) -> bool {
        matches!(self, Self::Read(_))
    }

    /// Returns the next piece; none at the end.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Piece>> {
        match self {
            Self::Read(pieces) => pieces.recv().await.transpose(),
            Self::Queue { dry_run: true, .. } => Ok(None),
            Self::Queue { queue, config, .. } => receive(queue, config).await,
        }
    }

    /// Deletes from a queue the messages whose events are stored elsewhere now, or are not to be stored.
    pub(super) async fn settle(&self, marks: &Marks, outcomes: &[Outcome]) -> anyhow::Result<()> {
        let (Self::Queue { queue, .. }, Marks::Receipts { receipts, .. }) = (self, marks) else {
            return Ok(());
        };
        let is_over = |outcome: &Outcome| {
            matches!(
                outcome,
                Outcome::Indexed | Outcome::Duplicate | Outcome::Queued | Outcome::Ignored(_)
            )
        };
        let done: Vec<&str> = receipts
            .iter()
            .zip(outcomes)
            .filter(|(_, outcome)| is_over(outcome))
            .map(|(receipt, _)| receipt.as_str())
            .collect();
        for receipts in done.chunks(10) {
            let left = queue::remove(queue, receipts).await?;
            if left > 0 {
                // They are stored; the next reader finds them there already.
                crate::terminal::print_message(&format!(
                    "{left} stored messages could not be removed from {}",
                    queue.remote()
                ));
            }
        }
        Ok(())
    }
}

/// Reads on a separate thread, two pieces ahead.
fn ahead(
    read: impl FnOnce(&mut dyn FnMut(Piece) -> bool) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<mpsc::Receiver<anyhow::Result<Piece>>> {
    let (sender, receiver) = mpsc::channel(2);
    std::thread::Builder::new().name("source".to_owned()).spawn(move || {
        let mut send = |piece| sender.blocking_send(Ok(piece)).is_ok();
        if let Err(error) = read(&mut send) {
            // A receiver that has gone does not need the error.
            let _ = sender.blocking_send(Err(error));
        }
    })?;
    Ok(receiver)
}

fn read_store(
    reader: &Reader,
    mut position: u64,
    most: usize,
    send: &mut dyn FnMut(Piece) -> bool,
) -> anyhow::Result<()> {
    loop {
        let rows = reader.events_after(position, most)?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        position = *last;
        let events: Vec<_> = rows.into_iter().map(|(_, event)| event).collect();
        let piece = Piece {
            number: 0,
            size: events.len() as u64,
            events,
            refused: Vec::new(),
            other_lines: 0,
            marks: Marks::Position(position),
        };
        if !send(piece) {
            return Ok(());
        }
    }
}

fn read_lines(
    mut input: impl BufRead,
    mut position: u64,
    most: usize,
    config: &Config,
    send: &mut dyn FnMut(Piece) -> bool,
) -> anyhow::Result<()> {
    let mut gathered = Gathered::new(config, position);
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line).context("reading")? > 0 {
        // A line that is still being written is read again by the next run, when it is complete.
        if line.ends_with(b"\n") {
            position += line.len() as u64;
        }
        if String::from_utf8_lossy(&line).trim() == "{" {
            // A document over several lines can only be read entirely.
            let mut rest = line.clone();
            input.read_to_end(&mut rest).context("reading")?;
            position += (rest.len() - line.len()) as u64;
            gathered.documents(&String::from_utf8_lossy(&rest));
        } else {
            gathered.line(&String::from_utf8_lossy(&line));
        }
        line.clear();
        if gathered.piece.events.len() >= most && !send(gathered.take(position)) {
            return Ok(());
        }
    }
    send(gathered.take(position));
    Ok(())
}

struct Gathered<'a> {
    config: &'a Config,
    begun: u64,
    piece: Piece,
}

impl<'a> Gathered<'a> {
    const fn new(config: &'a Config, begun: u64) -> Self {
        Self {
            config,
            begun,
            piece: Piece {
                number: 0,
                events: Vec::new(),
                refused: Vec::new(),
                other_lines: 0,
                marks: Marks::Position(0),
                size: 0,
            },
        }
    }

    fn take(&mut self, position: u64) -> Piece {
        let mut piece = std::mem::replace(&mut self.piece, Self::new(self.config, position).piece);
        piece.size = position - self.begun;
        piece.marks = Marks::Position(position);
        self.begun = position;
        piece
    }

    /// Reads JSON documents one after the other: exports of a log, or else events.
    fn documents(&mut self, text: &str) {
        let mut read = 0;
        let mut documents = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        while let Some(document) = documents.next() {
            let Ok(document) = document else { break };
            read = documents.byte_offset();
            match LogExport::deserialize(&document) {
                Ok(export) => export.messages().for_each(|message| self.text(message)),
                Err(_) => self.text(&document.to_string()),
            }
        }
        let rest = text[read..].trim();
        if !rest.is_empty() {
            self.refuse("it is not JSON to its end", rest);
        }
    }

    fn line(&mut self, line: &str) {
        match replay::exported(line) {
            Some(exports) => exports
                .iter()
                .flat_map(LogExport::messages)
                .for_each(|message| self.text(message)),
            None => self.text(line),
        }
    }

    fn text(&mut self, text: &str) {
        if text.trim().is_empty() {
            return;
        }
        let Some(text) = replay::extract_own_part(text) else {
            self.piece.other_lines += 1;
            return;
        };
        // A request without an id gets one from its contents, so that reading it again stores it once.
        let id = fingerprint(text);
        let origin = Origin {
            id: &id,
            time: Utc::now(),
        };
        match replay::event(text.to_owned(), origin, self.config) {
            Ok(event) => match shape_of(&event) {
                Ok(()) => self.piece.events.push(event),
                Err(reason) => self.refuse(&reason, &event.document),
            },
            Err(ReplayError::Ignored(_)) => self.piece.other_lines += 1,
            Err(ReplayError::Poison { reason, text }) => self.piece.refused.push(Refused { reason, text }),
        }
    }

    fn refuse(&mut self, reason: &str, text: &str) {
        self.piece.refused.push(Refused {
            reason: reason.to_owned(),
            text: text.to_owned(),
        });
    }
}

/// Checks that an event has our format: it may be another program's.
fn shape_of(event: &Event) -> Result<(), String> {
    let document: Value = serde_json::from_str(&event.document).map_err(|_| "it is not JSON".to_owned())?;
    check_shape(&document).map_err(|reason| format!("it is an event of another shape: {reason}"))
}

fn fingerprint(text: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use sha2::{Digest, Sha256};
    URL_SAFE_NO_PAD.encode(&Sha256::digest(text.as_bytes())[..18])
}

/// Receives messages until there are enough for a piece or none is left.
async fn receive(queue: &Arc<Deliverer<MessageTarget>>, config: &Config) -> anyhow::Result<Option<Piece>> {
    let mut received = Vec::new();
    // The last rounds wait for messages that seem not to be there: a queue answers from only a few of its servers.
    for patience in [0, 1, 2] {
        loop {
            let mut calls = tokio::task::JoinSet::new();
            for _ in 0..MAX_RECEIVERS {
                let queue = Arc::clone(queue);
                calls.spawn(async move { queue::receive(&queue, HIDDEN_SECONDS, patience).await });
            }
            let mut found = false;
            while let Some(messages) = calls.join_next().await {
                let messages = messages??;
                found |= !messages.is_empty();
                received.extend(messages);
            }
            if !found || received.len() >= PIECE_MESSAGES {
                break;
            }
        }
        if !received.is_empty() {
            break;
        }
    }
    if received.is_empty() {
        return Ok(None);
    }
    let size = received.len() as u64;
    let (mut events, mut receipts, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    let mut ignored = Vec::new();
    for crate::destination::sqs_batch::Received { message, receipt } in received {
        let origin = Origin {
            id: &message.id,
            time: message.sent.unwrap_or_else(Utc::now),
        };
        match replay::event(message.body, origin, config) {
            Ok(event) => match shape_of(&event) {
                Ok(()) => {
                    events.push(event);
                    receipts.push(receipt);
                }
                Err(reason) => refused.push(Refused {
                    reason,
                    text: event.document,
                }),
            },
            Err(ReplayError::Ignored(_)) => ignored.push(receipt),
            Err(ReplayError::Poison { reason, text }) => refused.push(Refused { reason, text }),
        }
    }
    for receipts in ignored.chunks(10) {
        let receipts: Vec<&str> = receipts.iter().map(String::as_str).collect();
        queue::remove(queue, &receipts).await?;
    }
    let kept = refused.len() as u64;
    Ok(Some(Piece {
        number: 0,
        events,
        refused,
        other_lines: ignored.len() as u64,
        marks: Marks::Receipts { receipts, kept },
        size,
    }))
}
