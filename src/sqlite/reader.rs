//! The file open for reading, while events arrive.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::{Shared, StoreError, ask, layout, opt_outs};
use crate::files;
use crate::hit::event::Event;
use crate::query::store::{FollowedEvents, MAX_FOLLOWED, Position};
use crate::query::{Cursor, EventPage, EventQuery, Filter, Query, QueryError, QueryResult};

/// A file open for reading.
#[derive(Debug)]
pub struct Reader {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    pub(super) shared: Arc<Shared>,
}

/// A stored document and its place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The event's number, which grows with every event.
    pub number: i64,
    /// The document as JSON text.
    pub document: String,
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

    pub(super) fn open_shared(path: &Path, shared: Arc<Shared>) -> Result<Self, StoreError> {
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
            // Who reads may also revoke codes, change documents and delete them.
            .and_then(|()| connection.pragma_update(None, "secure_delete", true))
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
        opt_outs::prepare(&mut reader.connection).map_err(|error| StoreError::new(path, error))?;
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

    /// Returns the latest `limit` events, oldest first.
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

    /// Returns the events after `number`, oldest first.
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

    /// Returns true if there is an event with this id.
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

    /// Returns the number of events that were received from one time on and before another.
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

    /// Returns the ids of the events that were received from one time on and before another.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn ids_between(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<Vec<String>, StoreError> {
        let read = || {
            let ids = "SELECT id FROM events WHERE time >= ?1 AND time < ?2";
            let mut statement = self.connection.prepare(ids)?;
            let rows = statement.query_map([from.timestamp_millis(), to.timestamp_millis()], |row| row.get(0))?;
            rows.collect::<Result<_, _>>()
        };
        read().map_err(|error: rusqlite::Error| StoreError::new(&self.path, error))
    }

    /// Returns the number of events after `number`.
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

    /// Returns the first events after `number`, with their numbers.
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

    /// Returns the events after a position, in the order in which they were stored.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn follow(&self, place: &Position) -> Result<FollowedEvents, StoreError> {
        let read = || {
            let number = |sql: &str| {
                self.connection
                    .prepare_cached(sql)?
                    .query_row([], |row| row.get::<_, i64>(0))
            };
            let last = number("SELECT coalesce(max(number), 0) FROM events")?;
            let row = match place {
                Position::Now => last,
                // The last rows may have been deleted, and their numbers be given again.
                Position::Row(row) => last.min(*row),
                Position::After(cursor) => self.row_of(cursor)?.unwrap_or(last),
            };
            let sql = "SELECT number, time, id, document FROM events WHERE number > ?1 ORDER BY number LIMIT ?2";
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![row, i64::try_from(MAX_FOLLOWED).unwrap_or(i64::MAX)])?;
            let (mut events, mut after) = (Vec::new(), row);
            while let Some(row) = rows.next()? {
                after = row.get(0)?;
                let cursor = Cursor {
                    time: row.get(1)?,
                    id: row.get(2)?,
                };
                events.push((cursor, row.get(3)?));
            }
            let place = Position::Row(after);
            Ok(FollowedEvents { events, place })
        };
        read().map_err(|error: rusqlite::Error| StoreError::new(&self.path, error))
    }

    /// Returns the row of an event or, if it was deleted, the row before the first later event.
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

    pub(super) fn query(&self, sql: &str, values: [i64; 1]) -> Result<Vec<Stored>, StoreError> {
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
    /// [`QueryError`] when the file cannot be read, or the query cannot be answered.
    pub fn ask(&self, question: &Query) -> Result<QueryResult, QueryError> {
        let _reading = self.shared.read();
        ask::ask(&self.connection, &self.shared, question)
    }

    /// Finds events.
    ///
    /// # Errors
    ///
    /// As [`Reader::ask`].
    pub fn find(&self, latest: &EventQuery) -> Result<EventPage, QueryError> {
        let _reading = self.shared.read();
        ask::latest(&self.connection, &self.shared.tail, latest)
    }

    /// Counts events.
    ///
    /// # Errors
    ///
    /// As [`Reader::ask`].
    pub fn count(&self, filter: &Filter) -> Result<u64, QueryError> {
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
        files::create_private(to);
        let copied = self.connection.execute("VACUUM INTO ?1", [name]);
        copied.map(drop).map_err(|error| {
            // So that the same command can be tried again.
            let _ = std::fs::remove_file(to);
            StoreError::new(to, error)
        })
    }
}
