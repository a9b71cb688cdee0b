//! All of an existing file: events are read, changed and deleted.

use std::path::Path;

use chrono::{DateTime, Utc};
use rusqlite::{Transaction, TransactionBehavior, params};

use super::purge::note_remnants;
use super::{Reader, StoreError, Stored, in_transaction, pack};

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

    /// Returns at most `limit` events after `number`, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn page(&self, number: i64, limit: usize) -> Result<Vec<Stored>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sql = format!("SELECT number, document FROM events WHERE number > ?1 ORDER BY number LIMIT {limit}");
        self.reader.query(&sql, [number])
    }

    /// Returns the events since a time, in milliseconds since 1970, of people who met at least `fewest` codes since
    /// then, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn find_events_of_many_codes(&self, since: i64, fewest: usize) -> Result<Vec<Stored>, StoreError> {
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

    /// Returns true when there is an event that is not of a set of data (`event.dataset`).
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn has_others_than(&self, dataset: &str) -> Result<bool, StoreError> {
        let others = "SELECT EXISTS (
            SELECT 1 FROM events WHERE json_extract(document, '$.event.dataset') IS NOT ?1)";
        let found = self.reader.connection.query_row(others, [dataset], |row| row.get(0));
        found.map_err(|error| StoreError::new(&self.reader.path, error))
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

    /// Deletes the events of these numbers, all or none, and returns their number. [`super::purge()`] then removes their bytes.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be written.
    pub fn delete(&self, numbers: &[i64]) -> Result<u64, StoreError> {
        let write = || {
            let connection = &self.reader.connection;
            let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            let mut deleted = 0;
            for number in numbers {
                pack::forget(&transaction, *number)?;
                let delete = "DELETE FROM events WHERE number = ?1";
                deleted += transaction.prepare_cached(delete)?.execute([number])? as u64;
            }
            if deleted > 0 {
                note_remnants(&transaction)?;
            }
            transaction.commit()?;
            Ok(deleted)
        };
        write().map_err(|error: rusqlite::Error| StoreError::new(&self.reader.path, error))
    }
}

/// A new document for a stored event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The event's place in the file.
    pub number: i64,
    /// The document as it was read.
    pub before: String,
    /// The document as it is to be.
    pub after: String,
}

/// Deletes the events from before a time, or counts them. [`super::purge()`] then removes their bytes.
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
