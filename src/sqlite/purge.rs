//! Removes the bytes of deleted events from the file.
//!
//! SQLite overwrites a row that is deleted (`secure_delete`), but not the copies that it left behind when it moved rows between
//! pages or replaced documents, and not those in files of versions that did not overwrite. Only writing the whole file anew
//! (`VACUUM`) removes them, and emptying the write-ahead log, which holds the old pages.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::{Shared, StoreError};

/// The longest wait for other processes that read the file.
pub(super) const READERS_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause between two attempts to empty the log.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// The time for which one attempt to empty the log may block writers.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(100);

/// The longest wait of a rewrite of the file for other writers.
const WRITERS_TIMEOUT: Duration = Duration::from_secs(30);

/// The result of removing the bytes of deleted events.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Purge {
    /// No byte of a deleted event is left in the file, its free pages or its log.
    Complete,
    /// Deleted events can still be read in the file or its log, for this reason.
    Incomplete(String),
}

/// Notes in the file that bytes of deleted events may be left. Part of the transaction that deletes, after it has counted its
/// change.
pub(super) fn note_remnants(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS remnants (changes INTEGER PRIMARY KEY) STRICT;
        INSERT OR IGNORE INTO remnants SELECT count FROM changes;",
    )
}

/// Returns true when a deletion is noted after which the file was not written anew.
pub(super) fn has_remnants(connection: &Connection) -> rusqlite::Result<bool> {
    if !has_table(connection)? {
        return Ok(false);
    }
    connection.query_row("SELECT EXISTS (SELECT 1 FROM remnants)", [], |row| row.get(0))
}

fn has_table(connection: &Connection) -> rusqlite::Result<bool> {
    let table = "SELECT 1 FROM sqlite_schema WHERE name = 'remnants'";
    Ok(connection.query_row(table, [], |_| Ok(())).optional()?.is_some())
}

/// Removes the bytes of all deleted events, as `purge_shared` does, from a file that this process does not serve.
///
/// # Errors
///
/// [`StoreError`] when the file cannot be opened.
pub fn purge(path: &Path) -> Result<Purge, StoreError> {
    purge_shared(path, &Shared::default(), || {
        let connection = open(path, WRITERS_TIMEOUT)?;
        write_anew(&connection)
    })
}

/// Empties the log, has the file written anew by `write_anew`, and empties the log again.
///
/// While another process reads an older state of the file, the log cannot be emptied; then the file is not written anew
/// either, since that would only make the log grow.
pub(super) fn purge_shared(
    path: &Path,
    shared: &Shared,
    write_anew: impl FnOnce() -> Result<(), String>,
) -> Result<Purge, StoreError> {
    let fail = |error: rusqlite::Error| StoreError::new(path, error);
    let connection = open(path, ATTEMPT_TIMEOUT).map_err(|reason| StoreError::new(path, reason))?;
    let changes = super::layout::changes(&connection).map_err(fail)?;
    if let Some(reason) = empty_log(&connection, shared) {
        return Ok(Purge::Incomplete(reason));
    }
    if let Err(reason) = write_anew() {
        return Ok(Purge::Incomplete(format!(
            "the file could not be written anew: {reason}"
        )));
    }
    if let Some(reason) = empty_log(&connection, shared) {
        return Ok(Purge::Incomplete(reason));
    }
    if has_table(&connection).map_err(fail)? {
        connection.busy_timeout(WRITERS_TIMEOUT).map_err(fail)?;
        let forget = "DELETE FROM remnants WHERE changes <= ?1";
        connection.execute(forget, [changes]).map_err(fail)?;
    }
    Ok(Purge::Complete)
}

/// Empties the log alone.
pub(super) fn purge_log(path: &Path, shared: &Shared) -> Result<Purge, StoreError> {
    let connection = open(path, ATTEMPT_TIMEOUT).map_err(|reason| StoreError::new(path, reason))?;
    Ok(empty_log(&connection, shared).map_or(Purge::Complete, Purge::Incomplete))
}

fn open(path: &Path, timeout: Duration) -> Result<Connection, String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.busy_timeout(timeout)?;
        connection.pragma_update(None, "secure_delete", true)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        Ok(connection)
    });
    opened.map_err(|error| error.to_string())
}

/// Writes the whole file anew, from what is stored.
pub(super) fn write_anew(connection: &Connection) -> Result<(), String> {
    connection.execute_batch("VACUUM").map_err(|error| error.to_string())
}

/// Brings the log of changes into the file and cuts it to nothing; returns the reason when that is not possible in time.
pub(super) fn empty_log(connection: &Connection, shared: &Shared) -> Option<String> {
    let deadline = Instant::now() + READERS_TIMEOUT;
    loop {
        let emptied = {
            // Copies most of it without holding anybody up, so that the rest takes a moment.
            let _ = super::wal::checkpoint(connection);
            let _paused = shared.pause();
            let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
            connection.query_row(truncate, [], |row| Ok(row.get::<_, i64>(0)? == 0))
        };
        let reason = match emptied {
            Ok(true) => return None,
            Ok(false) => "another process is reading or writing the file".to_owned(),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            return Some(reason);
        }
        std::thread::sleep(RETRY_INTERVAL);
    }
}
