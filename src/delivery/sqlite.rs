//! The store of the local stage: one SQLite file.
//!
//! One thread writes. It takes whatever events are waiting, stores them in one transaction and only then tells each of them
//! what became of it, so many waiting hits share one commit. The file is in WAL mode: what was committed survives the
//! process being killed, and people can read while hits arrive. Questions are answered from segments, in which the values of
//! some thousand events stand field by field; a second thread packs them.

mod ask;
pub mod codes;
mod layout;
mod pack;
mod segment;
mod tail;
pub mod threads;
mod wal;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

use super::{Failure, Outcome};
use crate::event::Event;
use crate::manage::{Followed, MOST_FOLLOWED, Place};
use crate::question::{Answer, AskError, Cursor, Filter, Latest, Page, Question};

/// Most events in one transaction.
const BATCH: usize = 1024;

/// Events that may wait for the writer before senders have to.
const QUEUE: usize = 8 * 1024;

/// Why a store could not be opened or read.
#[derive(Debug)]
pub struct StoreError {
    path: PathBuf,
    reason: String,
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "the store `{}`: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for StoreError {}

impl StoreError {
    fn new(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// What all who have the file open in this process share.
#[derive(Debug, Default)]
struct Shared {
    tail: tail::Tail,
    reading: RwLock<()>,
}

impl Shared {
    /// Held by whoever reads the file for more than a moment.
    fn read(&self) -> RwLockReadGuard<'_, ()> {
        self.reading.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody reads, and lets nobody begin.
    fn pause(&self) -> RwLockWriteGuard<'_, ()> {
        self.reading.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a file for reading as often as is wanted; those who read share what they have in memory.
#[derive(Clone, Debug)]
pub struct Readers {
    path: PathBuf,
    shared: Arc<Shared>,
}

impl Readers {
    /// Of a file that nobody in this process has open for writing.
    pub fn of(path: PathBuf) -> Self {
        Self {
            path,
            shared: Arc::default(),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it once more.
    ///
    /// # Errors
    ///
    /// As [`Reader::open`].
    pub fn open(&self) -> Result<Reader, StoreError> {
        Reader::open_shared(&self.path, Arc::clone(&self.shared))
    }
}

/// A file open for writing, and its thread.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    shared: Arc<Shared>,
    sender: mpsc::Sender<Job>,
    writer: JoinHandle<()>,
}

/// Events, and who wants to know what became of them.
#[derive(Debug)]
enum Job {
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
        /// Whether it was stored.
        done: oneshot::Sender<bool>,
    },
    /// Brings the rest of the log of changes into the file.
    Checkpoint { done: oneshot::Sender<()> },
    Prune {
        /// Milliseconds since 1970.
        before: i64,
        /// How many events were deleted; fewer than there are, at one go.
        done: oneshot::Sender<Result<usize, String>>,
    },
}

impl Job {
    fn events(&self) -> &[Event] {
        match self {
            Self::One { event, .. } => std::slice::from_ref(event),
            Self::Many { events, .. } => events,
            Self::Segment { .. } | Self::Checkpoint { .. } | Self::Prune { .. } => &[],
        }
    }

    /// Tells the next outcomes. Who wanted to know may have gone away; the events are stored all the same.
    fn tell(self, mut outcomes: impl Iterator<Item = Outcome>) {
        match self {
            Self::One { done, .. } => drop(outcomes.next().map(|outcome| done.send(outcome))),
            Self::Many { events, done } => drop(done.send(outcomes.take(events.len()).collect())),
            // These were told when they were done.
            Self::Segment { .. } | Self::Checkpoint { .. } | Self::Prune { .. } => {}
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
        let writer = spawn("sqlite", Box::new(move || write_all(connection, receiver, helpers)))?;
        Ok(Self {
            path: path.to_owned(),
            shared,
            sender,
            writer,
        })
    }

    /// The file.
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

    /// Whether nothing can be stored any more.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
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
    let mut connection =
        Connection::open(path).map_err(|error| format!("{error}; is its folder there and writable?"))?;
    prepare(&connection)
        // Another thread does that: a hit is not to wait for it.
        .and_then(|()| connection.pragma_update(None, "wal_autocheckpoint", 0))
        .map_err(|error| error.to_string())?;
    layout::migrate(&mut connection)?;
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
        layout::complete(&transaction)?;
        let Event { id, time, document } = event;
        let row = params![id, time.timestamp_millis(), document];
        let stored = "INSERT INTO events (id, time, document) VALUES (?1, ?2, ?3)";
        transaction.execute(stored, row).map_err(text)?;
        let deleted = transaction.execute("DELETE FROM events WHERE id = ?1", [id]);
        deleted.map(drop).map_err(text)
    };
    probed().map_err(|reason| StoreError::new(path, reason))
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    // Of a new file. A document has about 2 KiB: three share a page, where of SQLite's own size each would have one.
    connection.pragma_update(None, "page_size", 8192)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // With FULL a committed hit survives a power cut, too; the commit is shared by all hits that wait.
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(())
}

/// The threads that work for the writer, and how they are woken.
struct Helpers {
    /// There are rows to be packed.
    wake: std::sync::mpsc::SyncSender<()>,
    /// The log of changes has grown.
    grown: std::sync::mpsc::SyncSender<()>,
    threads: [JoinHandle<()>; 2],
}

fn write_all(mut connection: Connection, mut receiver: mpsc::Receiver<Job>, helpers: Helpers) {
    let mut jobs = Vec::with_capacity(BATCH);
    let (mut unpacked, mut written_bytes) = (0, 0);
    while receiver.blocking_recv_many(&mut jobs, BATCH) > 0 {
        let events = || jobs.iter().flat_map(Job::events);
        let count = events().count();
        written_bytes += events().map(|event| event.document.len()).sum::<usize>();
        let written = write(&mut connection, &jobs).unwrap_or_else(|error| vec![failed(error); count]);
        let mut outcomes = written.into_iter();
        for job in jobs.drain(..) {
            match job {
                Job::Segment { segment, done } => {
                    let stored = in_transaction(&mut connection, |transaction| segment.store(transaction));
                    let _ = done.send(stored.unwrap_or(false));
                }
                Job::Checkpoint { done } => {
                    // What stays in the log is there for the next time.
                    let _ = wal::checkpoint(&connection);
                    let _ = done.send(());
                }
                Job::Prune { before, done } => {
                    let deleted = in_transaction(&mut connection, |transaction| pack::prune(transaction, before));
                    let _ = done.send(deleted.map_err(|error| error.to_string()));
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
    // Leaves one file behind instead of three; the next start would do the same.
    let _ = connection.pragma_update(None, "wal_checkpoint", "TRUNCATE");
}

fn in_transaction<T>(
    connection: &mut Connection,
    work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let result = work(&transaction)?;
    transaction.commit()?;
    Ok(result)
}

/// What of a document has a column of its own.
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

/// A file open for reading.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    connection: Connection,
    shared: Arc<Shared>,
}

/// A stored document and its place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Grows with every event.
    pub number: i64,
    /// The document as JSON text.
    pub document: String,
}

/// Another document for a stored one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The event's place in the file.
    pub number: i64,
    /// The document as it was read.
    pub before: String,
    /// The document as it is to be.
    pub after: String,
}

impl Reader {
    /// Opens an existing file.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when there is no such file, or it is no store.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_shared(path, Arc::default())
    }

    fn open_shared(path: &Path, shared: Arc<Shared>) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::new(
                path,
                "there is no such file; `pixel serve` creates it, or name another with `--destination`",
            ));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|error| StoreError::new(path, error))?;
        connection
            .busy_timeout(Duration::from_secs(5))
            // Segments are read where they are, instead of being copied.
            .and_then(|()| connection.pragma_update(None, "mmap_size", 1_i64 << 30))
            .map_err(|error| StoreError::new(path, error))?;
        let mut reader = Self {
            path: path.to_owned(),
            connection,
            shared,
        };
        let table = "SELECT 1 FROM sqlite_schema WHERE name = 'events'";
        let found = reader.connection.query_row(table, [], |_| Ok(())).optional();
        if found.map_err(|error| StoreError::new(path, error))?.is_none() {
            return Err(StoreError::new(
                path,
                "it is no store of `pixel serve`: it has no table `events`",
            ));
        }
        layout::migrate(&mut reader.connection).map_err(|reason| StoreError::new(path, reason))?;
        Ok(reader)
    }

    /// Reads without mapping the file into memory, where what was read once would stay: for one who copies all of it.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn unmapped(self) -> Result<Self, StoreError> {
        let unmapped = self.connection.pragma_update(None, "mmap_size", 0);
        unmapped.map_err(|error| StoreError::new(&self.path, error))?;
        Ok(self)
    }

    /// The latest `limit` events, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn latest(&self, limit: u32) -> Result<Vec<Stored>, StoreError> {
        let mut latest = self.query(
            "SELECT number, document FROM events ORDER BY number DESC LIMIT ?1",
            [i64::from(limit)],
        )?;
        latest.reverse();
        Ok(latest)
    }

    /// The events after `number`, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn after(&self, number: i64) -> Result<Vec<Stored>, StoreError> {
        self.query(
            "SELECT number, document FROM events WHERE number > ?1 ORDER BY number LIMIT 1000",
            [number],
        )
    }

    /// Whether there is an event of this id.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn holds(&self, id: &str) -> Result<bool, StoreError> {
        let read = || {
            let mut statement = self.connection.prepare_cached("SELECT 1 FROM events WHERE id = ?1")?;
            statement.exists([id])
        };
        read().map_err(|error: rusqlite::Error| StoreError::new(&self.path, error))
    }

    /// How many events were received from one time on and before another.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn count_between(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<u64, StoreError> {
        let count = "SELECT count(*) FROM events WHERE time >= ?1 AND time < ?2";
        let times = [from.timestamp_millis(), to.timestamp_millis()];
        let counted = self.connection.query_row(count, times, |row| row.get::<_, i64>(0));
        counted
            .map(i64::unsigned_abs)
            .map_err(|error| StoreError::new(&self.path, error))
    }

    /// How many events there are after `number`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn count_after(&self, number: u64) -> Result<u64, StoreError> {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        let count = "SELECT count(*) FROM events WHERE number > ?1";
        let counted = self.connection.query_row(count, [number], |row| row.get::<_, i64>(0));
        counted
            .map(i64::unsigned_abs)
            .map_err(|error| StoreError::new(&self.path, error))
    }

    /// The first events after `number`, with their numbers.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn events_after(&self, number: u64, most: usize) -> Result<Vec<(u64, Event)>, StoreError> {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let read = || {
            let sql = "SELECT number, id, time, document FROM events WHERE number > ?1 ORDER BY number LIMIT ?2";
            let mut statement = self.connection.prepare_cached(sql)?;
            let rows = statement.query_map([number, most], |row| {
                let event = Event {
                    id: row.get(1)?,
                    time: DateTime::from_timestamp_millis(row.get(2)?).unwrap_or_default(),
                    document: row.get(3)?,
                };
                Ok((row.get::<_, i64>(0)?.unsigned_abs(), event))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|error| StoreError::new(&self.path, error))
    }

    /// What came after a place, in the order in which it was stored.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn follow(&self, place: &Place) -> Result<Followed, StoreError> {
        let read = || {
            let number = |sql: &str| {
                self.connection
                    .prepare_cached(sql)?
                    .query_row([], |row| row.get::<_, i64>(0))
            };
            let last = number("SELECT coalesce(max(number), 0) FROM events")?;
            let row = match place {
                Place::Now => last,
                // The last rows may have been deleted, and their numbers be given again.
                Place::Row(row) => last.min(*row),
                Place::After(cursor) => self.row_of(cursor)?.unwrap_or(last),
            };
            let sql = "SELECT number, time, id, document FROM events WHERE number > ?1 ORDER BY number LIMIT ?2";
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![row, i64::try_from(MOST_FOLLOWED).unwrap_or(i64::MAX)])?;
            let (mut events, mut after) = (Vec::new(), row);
            while let Some(row) = rows.next()? {
                after = row.get(0)?;
                let cursor = Cursor {
                    time: row.get(1)?,
                    id: row.get(2)?,
                };
                events.push((cursor, row.get(3)?));
            }
            let place = Place::Row(after);
            Ok(Followed { events, place })
        };
        read().map_err(|error: rusqlite::Error| StoreError::new(&self.path, error))
    }

    /// The row of an event or, when it is not there any more, the row before the first later event.
    fn row_of(&self, cursor: &Cursor) -> rusqlite::Result<Option<i64>> {
        let of_id = "SELECT number FROM events WHERE id = ?1";
        let of_time = "SELECT number - 1 FROM events WHERE time > ?1 ORDER BY time LIMIT 1";
        let mut found = self.connection.prepare_cached(of_id)?;
        if let Some(row) = found.query_row([&cursor.id], |row| row.get(0)).optional()? {
            return Ok(Some(row));
        }
        let mut later = self.connection.prepare_cached(of_time)?;
        later.query_row([cursor.time], |row| row.get(0)).optional()
    }

    fn query(&self, sql: &str, values: [i64; 1]) -> Result<Vec<Stored>, StoreError> {
        let read = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            let rows = statement.query_map(values, |row| {
                Ok(Stored {
                    number: row.get(0)?,
                    document: row.get(1)?,
                })
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|error| StoreError::new(&self.path, error))
    }

    /// Answers a question.
    ///
    /// # Errors
    ///
    /// [`AskError`] when the file cannot be read, or the question cannot be answered.
    pub fn ask(&self, question: &Question) -> Result<Answer, AskError> {
        let _reading = self.shared.read();
        ask::ask(&self.connection, &self.shared.tail, question)
    }

    /// Finds events.
    ///
    /// # Errors
    ///
    /// As [`Reader::ask`].
    pub fn find(&self, latest: &Latest) -> Result<Page, AskError> {
        let _reading = self.shared.read();
        ask::latest(&self.connection, &self.shared.tail, latest)
    }

    /// Counts events.
    ///
    /// # Errors
    ///
    /// As [`Reader::ask`].
    pub fn count(&self, filter: &Filter) -> Result<u64, AskError> {
        let _reading = self.shared.read();
        ask::count_events(&self.connection, &self.shared.tail, filter)
    }

    /// Copies everything that is committed now into a new file, also while events arrive.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when there is such a file already, or it cannot be written.
    pub fn backup(&self, to: &Path) -> Result<(), StoreError> {
        // SQLite itself would take an empty file.
        if to.exists() {
            return Err(StoreError::new(to, "it exists already; name a new file"));
        }
        let name = to
            .to_str()
            .ok_or_else(|| StoreError::new(to, "its name is not UTF-8"))?;
        let copied = self.connection.execute("VACUUM INTO ?1", [name]);
        copied.map(|_| ()).map_err(|error| StoreError::new(to, error))
    }
}

/// Deletes the events from before a time, or counts them.
///
/// # Errors
///
/// [`StoreError`] when there is no such store, or it cannot be written.
pub fn prune(path: &Path, before: DateTime<Utc>, dry_run: bool) -> Result<u64, StoreError> {
    let mut reader = Reader::open(path)?;
    let before = before.timestamp_millis();
    let text = |error| StoreError::new(path, error);
    if dry_run {
        let count = "SELECT count(*) FROM events WHERE time < ?1";
        let counted = reader.connection.query_row(count, [before], |row| row.get::<_, i64>(0));
        return counted.map(i64::unsigned_abs).map_err(text);
    }
    let mut total = 0;
    loop {
        let deleted = in_transaction(&mut reader.connection, |transaction| pack::prune(transaction, before));
        match deleted.map_err(text)? {
            0 => return Ok(total),
            some => total += some as u64,
        }
    }
}

/// An existing file, to read all of it, change events and delete them.
#[derive(Debug)]
pub struct Archive {
    reader: Reader,
}

impl Archive {
    /// Opens an existing file.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when there is no such file, or it is no store.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Reader::open(path).map(|reader| Self { reader })
    }

    /// At most `limit` events after `number`, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn page(&self, number: i64, limit: usize) -> Result<Vec<Stored>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sql = format!("SELECT number, document FROM events WHERE number > ?1 ORDER BY number LIMIT {limit}");
        self.reader.query(&sql, [number])
    }

    /// The events since a time, in milliseconds since 1970, of people who met at least `fewest` codes since then, oldest
    /// first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn of_many_codes(&self, since: i64, fewest: usize) -> Result<Vec<Stored>, StoreError> {
        let sql = format!(
            "WITH recent AS (
                SELECT number, visitor, code, document FROM events
                WHERE time >= ?1 AND class = 'human' AND code IS NOT NULL AND visitor IS NOT NULL)
            SELECT number, document FROM recent
            WHERE visitor IN (SELECT visitor FROM recent GROUP BY visitor HAVING count(DISTINCT code) >= {fewest})
            ORDER BY number LIMIT 10000"
        );
        self.reader.query(&sql, [since])
    }

    /// Replaces documents, all or none, except those that have changed or gone meanwhile: how many were replaced.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be written.
    pub fn rewrite(&self, changes: &[Change]) -> Result<u64, StoreError> {
        let write = || {
            let connection = &self.reader.connection;
            // Begun as a writer, so that a hit that is stored meanwhile does not end it.
            let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            let mut replaced = 0;
            for Change { number, before, after } in changes {
                let update = "UPDATE events SET document = ?2,
                        code = json_extract(?2, '$.pixel.code'), action = json_extract(?2, '$.event.action'),
                        class = json_extract(?2, '$.visit.class'), visitor = json_extract(?2, '$.visitor.id')
                    WHERE number = ?1 AND document = ?3";
                replaced += transaction
                    .prepare_cached(update)?
                    .execute(params![number, after, before])? as u64;
                pack::forget(&transaction, *number)?;
            }
            transaction.commit()?;
            Ok(replaced)
        };
        write().map_err(|error: rusqlite::Error| StoreError::new(&self.reader.path, error))
    }

    /// Deletes the events of these numbers, all or none; how many there were. What was deleted is overwritten in the file.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be written.
    pub fn delete(&self, numbers: &[i64]) -> Result<u64, StoreError> {
        let write = || {
            let connection = &self.reader.connection;
            connection.pragma_update(None, "secure_delete", true)?;
            let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            let mut deleted = 0;
            for number in numbers {
                pack::forget(&transaction, *number)?;
                let delete = "DELETE FROM events WHERE number = ?1";
                deleted += transaction.prepare_cached(delete)?.execute([number])? as u64;
            }
            transaction.commit()?;
            // The log of changes holds the old pages until it is emptied.
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            Ok(deleted)
        };
        write().map_err(|error: rusqlite::Error| StoreError::new(&self.reader.path, error))
    }
}
