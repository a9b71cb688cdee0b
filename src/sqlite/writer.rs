//! The file open for writing: one thread stores whatever waits, and tells each event what became of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

use super::health::{self, Health, LastOutcome, OpenedFiles};
use super::opt_outs::{self, OptOutChange};
use super::{Purge, Readers, Shared, StoreError, in_transaction, layout, pack, purge, segment, wal};
use crate::files;
use crate::hit::event::Event;
use crate::hit::outcome::{Failure, Outcome};

/// The largest number of events in one transaction.
const BATCH: usize = 1024;

/// The number of events that may wait for the writer before senders have to wait.
const QUEUE: usize = 8 * 1024;

/// The longest wait of a health check for a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// A file open for writing, and its thread.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    shared: Arc<Shared>,
    sender: mpsc::Sender<Job>,
    writer: JoinHandle<()>,
    last_outcome: Arc<LastOutcome>,
}

/// A job of the writer, with the channel for its result.
#[derive(Debug)]
pub(super) enum Job {
    One {
        event: Arc<Event>,
        done: oneshot::Sender<Outcome>,
    },
    Many {
        events: Vec<Event>,
        done: oneshot::Sender<Vec<Outcome>>,
    },
    Segment {
        segment: Box<pack::Segment>,
        /// The channel for the result; true if the segment was stored.
        done: oneshot::Sender<bool>,
    },
    /// Tries whether events can be stored.
    Probe { done: oneshot::Sender<()> },
    /// Opts a code out or in.
    OptOut {
        change: OptOutChange,
        /// The channel for the result of the change.
        done: oneshot::Sender<Result<(), String>>,
    },
    /// Brings the rest of the log of changes into the file.
    Checkpoint { done: oneshot::Sender<()> },
    Prune {
        /// The time before which events are deleted, in milliseconds since 1970.
        before: i64,
        /// The channel for the number of deleted events; one job may not delete all.
        done: oneshot::Sender<Result<usize, String>>,
    },
    /// Writes the file anew, without what was deleted.
    WriteAnew {
        done: std::sync::mpsc::Sender<Result<(), String>>,
    },
}

impl Job {
    fn events(&self) -> &[Event] {
        match self {
            Self::One { event, .. } => std::slice::from_ref(event),
            Self::Many { events, .. } => events,
            Self::Segment { .. }
            | Self::Probe { .. }
            | Self::OptOut { .. }
            | Self::Checkpoint { .. }
            | Self::Prune { .. }
            | Self::WriteAnew { .. } => &[],
        }
    }

    /// Tells the next outcomes. Who wanted to know may have gone away; the events are stored all the same.
    fn tell(self, mut outcomes: impl Iterator<Item = Outcome>) {
        match self {
            Self::One { done, .. } => drop(outcomes.next().map(|outcome| done.send(outcome))),
            Self::Many { events, done } => drop(done.send(outcomes.take(events.len()).collect())),
            // These were told when they were done.
            Self::Segment { .. }
            | Self::Probe { .. }
            | Self::OptOut { .. }
            | Self::Checkpoint { .. }
            | Self::Prune { .. }
            | Self::WriteAnew { .. } => {}
        }
    }
}

impl Store {
    /// Opens or creates the file.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be opened, is no SQLite file or was written by another version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = writable(path).map_err(|error| StoreError::new(path, error))?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (wake, woken) = std::sync::mpsc::sync_channel(1);
        let shared = Arc::new(Shared::default());
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
            thread.map_err(|error| StoreError::new(path, error))
        };
        let (of_packer, weak, of_all) = (path.to_owned(), sender.downgrade(), Arc::clone(&shared));
        let packer = spawn(
            "sqlite-packer",
            Box::new(move || pack::pack_all(&of_packer, &woken, &weak, &of_all)),
        )?;
        let log = wal::open(path).map_err(|error| StoreError::new(path, error))?;
        let (grown, of_log) = std::sync::mpsc::sync_channel(1);
        let (weak, of_all) = (sender.downgrade(), Arc::clone(&shared));
        let checkpointer = spawn(
            "sqlite-log",
            Box::new(move || wal::empty_all(&log, &of_log, &weak, &of_all)),
        )?;
        let helpers = Helpers {
            wake,
            grown,
            threads: [packer, checkpointer],
        };
        let last_outcome = Arc::new(LastOutcome::default());
        let files = OpenedFiles::open(path);
        let noted = Arc::clone(&last_outcome);
        let writer = spawn(
            "sqlite",
            Box::new(move || write_all(connection, receiver, helpers, &files, &noted)),
        )?;
        Ok(Self {
            path: path.to_owned(),
            shared,
            sender,
            writer,
            last_outcome,
        })
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it for reading.
    pub fn readers(&self) -> Readers {
        Readers {
            path: self.path.clone(),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Deletes the events from before a time, a few at a time, so that hits go on.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be written.
    pub async fn prune(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        let mut total = 0;
        loop {
            let (done, deleted) = oneshot::channel();
            let before = before.timestamp_millis();
            let sent = self.sender.send(Job::Prune { before, done }).await;
            let stopped = || StoreError::new(&self.path, "the store's writer has stopped");
            sent.map_err(|_| stopped())?;
            let deleted = deleted.await.map_err(|_| stopped())?;
            match deleted.map_err(|reason| StoreError::new(&self.path, reason))? {
                0 => return Ok(total),
                some => total += some as u64,
            }
        }
    }

    /// Removes the bytes of deleted events from the log and, where `everywhere` is set, from the whole file, which is written
    /// anew for that. Events that arrive meanwhile are stored afterwards.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be opened.
    pub async fn purge(&self, everywhere: bool) -> Result<Purge, StoreError> {
        let (path, shared, sender) = (self.path.clone(), Arc::clone(&self.shared), self.sender.clone());
        let work = tokio::task::spawn_blocking(move || {
            if !everywhere {
                return purge::purge_log(&path, &shared);
            }
            purge::purge_shared(&path, &shared, || {
                let (done, written) = std::sync::mpsc::channel();
                // Without a writer nobody answers.
                let _ = sender.blocking_send(Job::WriteAnew { done });
                let stopped = || Err("the store's writer has stopped".to_owned());
                written.recv().unwrap_or_else(|_| stopped())
            })
        });
        work.await
            .unwrap_or_else(|error| Err(StoreError::new(&self.path, error)))
    }

    /// Returns true when an earlier deletion has left bytes of events in the file.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn has_remnants(&self) -> Result<bool, StoreError> {
        let reader = self.readers().open()?;
        purge::has_remnants(&reader.connection).map_err(|error| StoreError::new(&self.path, error))
    }

    /// Opts a code out or in.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be written.
    pub async fn change_opt_out(&self, change: OptOutChange) -> Result<(), StoreError> {
        let (done, stored) = oneshot::channel();
        let stopped = || StoreError::new(&self.path, "the store's writer has stopped");
        let sent = self.sender.send(Job::OptOut { change, done }).await;
        sent.map_err(|_| stopped())?;
        let stored = stored.await.map_err(|_| stopped())?;
        stored.map_err(|reason| StoreError::new(&self.path, reason))
    }

    /// Stores an event. When this returns [`Outcome::Indexed`], the event is committed.
    pub async fn store(&self, event: Arc<Event>) -> Outcome {
        let (done, outcome) = oneshot::channel();
        let sent = self.sender.send(Job::One { event, done }).await;
        let lost = || failed("the store's writer has stopped");
        if sent.is_err() {
            lost()
        } else {
            outcome.await.unwrap_or_else(|_| lost())
        }
    }

    /// Stores events in one transaction, and says of each in its place what became of it.
    pub async fn store_all(&self, events: Vec<Event>) -> Vec<Outcome> {
        let count = events.len();
        let (done, outcomes) = oneshot::channel();
        // Without a writer nobody answers, which is found below.
        let _ = self.sender.send(Job::Many { events, done }).await;
        let lost = |_| vec![failed("the store's writer has stopped"); count];
        outcomes.await.unwrap_or_else(lost)
    }

    /// Checks that events can be stored: by the last commit or, where that was long ago, by trying.
    ///
    /// # Errors
    ///
    /// The reason why they cannot.
    pub async fn check(&self) -> Result<(), String> {
        if self.sender.is_closed() {
            return Err("the store's writer has stopped".to_owned());
        }
        if let Some(known) = self.last_outcome.fresh() {
            return known;
        }
        let (done, probed) = oneshot::channel();
        // Where jobs fill the queue, the writer will tell how the next one went.
        if self.sender.try_send(Job::Probe { done }).is_err() {
            return Err("too many events wait to be stored".to_owned());
        }
        match tokio::time::timeout(PROBE_TIMEOUT, probed).await {
            Ok(Ok(())) => self.last_outcome.last(),
            Ok(Err(_)) => Err("the store's writer has stopped".to_owned()),
            Err(_) => Err("the store is locked, or its disk does not answer".to_owned()),
        }
    }

    /// Waits until everything that was sent is committed.
    pub fn close(self) {
        drop(self.sender);
        // A writer that panicked has answered nobody, which its senders have noticed.
        let _ = self.writer.join();
    }
}

fn failed(reason: impl std::fmt::Display) -> Outcome {
    Outcome::Failed(Failure {
        reason: reason.to_string(),
        temporary: true,
    })
}

fn writable(path: &Path) -> Result<Connection, String> {
    // The files beside it get its mode.
    files::create_private(path);
    let mut connection =
        Connection::open(path).map_err(|error| format!("{error}; is its folder there and writable?"))?;
    prepare(&connection)
        // Another thread does that: a hit is not to wait for it.
        .and_then(|()| connection.pragma_update(None, "wal_autocheckpoint", 0))
        .map_err(|error| error.to_string())?;
    layout::migrate(&mut connection)?;
    opt_outs::prepare(&mut connection).map_err(|error| error.to_string())?;
    Ok(connection)
}

/// Writes an event into an existing file and deletes it again, in a transaction of which nothing stays.
///
/// # Errors
///
/// [`StoreError`] when the file cannot be written or is no store.
pub fn probe(path: &Path, event: &Event) -> Result<(), StoreError> {
    let text = |error: rusqlite::Error| error.to_string();
    let probed = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(text)?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(text)?;
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(text)?;
        layout::migrate_within(&transaction)?;
        let Event { id, time, document } = event;
        let row = params![id, time.timestamp_millis(), document];
        let stored = "INSERT INTO events (id, time, document) VALUES (?1, ?2, ?3)";
        transaction.execute(stored, row).map_err(text)?;
        let deleted = transaction.execute("DELETE FROM events WHERE id = ?1", [id]);
        deleted.map(drop).map_err(text)
    };
    probed().map_err(|reason| StoreError::new(path, reason))
}

/// The longest wait of hits for another process that writes, as long as `pixel erase` needs to rewrite a large file.
const WRITERS_TIMEOUT: Duration = Duration::from_mins(1);

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(WRITERS_TIMEOUT)?;
    // Of a new file. A document has about 2 KiB: three share a page, where of SQLite's own size each would have one.
    connection.pragma_update(None, "page_size", 8192)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // With FULL a committed hit survives a power cut, too; the commit is shared by all hits that wait.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Deleted rows are overwritten at once; `purge` removes the copies that this leaves.
    connection.pragma_update(None, "secure_delete", true)?;
    Ok(())
}

/// The threads that work for the writer, and how they are woken.
struct Helpers {
    /// A signal that there are rows to be packed.
    wake: std::sync::mpsc::SyncSender<()>,
    /// The log of changes has grown.
    grown: std::sync::mpsc::SyncSender<()>,
    threads: [JoinHandle<()>; 2],
}

fn write_all(
    mut connection: Connection,
    mut receiver: mpsc::Receiver<Job>,
    helpers: Helpers,
    files: &OpenedFiles,
    last_outcome: &LastOutcome,
) {
    let mut jobs = Vec::with_capacity(BATCH);
    let (mut unpacked, mut written_bytes) = (0, 0);
    while receiver.blocking_recv_many(&mut jobs, BATCH) > 0 {
        let events = || jobs.iter().flat_map(Job::events);
        let count = events().count();
        written_bytes += events().map(|event| event.document.len()).sum::<usize>();
        // A file may be deleted until the commit is done.
        let written = files
            .check()
            .and_then(|()| Ok(write(&mut connection, &jobs)?))
            .and_then(|written| files.check().map(|()| written));
        if count > 0 {
            last_outcome.note(Health::from_outcome(&written));
        }
        let written = written.unwrap_or_else(|failure| vec![failed(failure.reason); count]);
        let mut outcomes = written.into_iter();
        let changed = change_opt_outs(&mut connection, &jobs);
        for job in jobs.drain(..) {
            match job {
                Job::Segment { segment, done } => {
                    let stored = in_transaction(&mut connection, |transaction| segment.store(transaction));
                    let _ = done.send(stored.unwrap_or(false));
                }
                Job::Probe { done } => {
                    let probed = files.check().and_then(|()| health::probe(&mut connection));
                    last_outcome.note_probe(Health::from_outcome(&probed));
                    let _ = done.send(());
                }
                Job::OptOut { done, .. } => drop(done.send(changed.clone())),
                Job::Checkpoint { done } => {
                    // What stays in the log is there for the next time.
                    let _ = wal::checkpoint(&connection);
                    let _ = done.send(());
                }
                Job::Prune { before, done } => {
                    let deleted = in_transaction(&mut connection, |transaction| pack::prune(transaction, before));
                    let _ = done.send(deleted.map_err(|error| error.to_string()));
                }
                Job::WriteAnew { done } => {
                    let _ = done.send(purge::write_anew(&connection));
                }
                job @ (Job::One { .. } | Job::Many { .. }) => job.tell(&mut outcomes),
            }
        }
        unpacked += count;
        // Others have written to the file, too, so it is looked at more often than a segment is full.
        if unpacked >= segment::ROWS / 4 {
            unpacked = 0;
            // A packer that is awake already sees the new rows.
            let _ = helpers.wake.try_send(());
        }
        if written_bytes >= wal::BYTES {
            written_bytes = 0;
            let _ = helpers.grown.try_send(());
        }
    }
    let Helpers { wake, grown, threads } = helpers;
    drop((wake, grown));
    // Whoever closes the file last tidies up, which one who only reads cannot.
    for thread in threads {
        let _ = thread.join();
    }
    // Leaves one file behind instead of three; the next start would do the same, so nobody is waited for long.
    let _ = connection.busy_timeout(Duration::from_secs(5));
    let _ = connection.pragma_update(None, "wal_checkpoint", "TRUNCATE");
}

/// Stores all opt-outs that wait in one transaction: while somebody else holds the file, only one has to wait for it in vain.
fn change_opt_outs(connection: &mut Connection, jobs: &[Job]) -> Result<(), String> {
    let change = |job: &Job| match job {
        Job::OptOut { change, .. } => Some(change.clone()),
        _ => None,
    };
    let changes: Vec<_> = jobs.iter().filter_map(change).collect();
    if changes.is_empty() {
        return Ok(());
    }
    let stored = in_transaction(connection, |transaction| opt_outs::store(transaction, &changes));
    stored.map(drop).map_err(|error| error.to_string())
}

/// The members of a document that have their own columns.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    event: SaidOfEvent,
    pixel: SaidOfPixel,
    visit: SaidOfVisit,
    visitor: SaidOfVisitor,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SaidOfEvent {
    action: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SaidOfPixel {
    code: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SaidOfVisit {
    class: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SaidOfVisitor {
    id: Option<String>,
}

const INSERT: &str = "INSERT OR IGNORE INTO events (id, time, document, code, action, class, visitor)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

/// Stores all or, when the transaction fails, none.
fn write(connection: &mut Connection, jobs: &[Job]) -> rusqlite::Result<Vec<Outcome>> {
    let events = || jobs.iter().flat_map(Job::events);
    if events().next().is_none() {
        return Ok(Vec::new());
    }
    in_transaction(connection, |transaction| {
        let mut insert = transaction.prepare_cached(INSERT)?;
        let mut outcomes = Vec::new();
        for event in events() {
            let said: Said = serde_json::from_str(&event.document).unwrap_or_default();
            let stored = insert.execute(params![
                event.id,
                event.time.timestamp_millis(),
                event.document,
                said.pixel.code,
                said.event.action,
                said.visit.class,
                said.visitor.id,
            ])?;
            outcomes.push(if stored == 1 {
                Outcome::Indexed
            } else {
                Outcome::Duplicate
            });
        }
        Ok(outcomes)
    })
}
