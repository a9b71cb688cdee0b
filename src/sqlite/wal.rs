//! Brings the log of changes into the file, on a thread of its own.
//!
//! Left to SQLite, whoever commits does that now and then, and a hit waits for it. The log begins anew only when all of it is
//! in the file and nobody reads from it any more; while hits arrive, that moment has to be made: questions pause, and the
//! writer brings the little that is left.

use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::mpsc::WeakSender;

use super::Shared;
use super::writer::Job;

/// The bytes of documents after which the log is checked.
pub(super) const BYTES: usize = 4 << 20;

/// The number of pages from which the log is to start again.
const LONG: i64 = 4096;

/// Opens the file for this.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// Brings what it can into the file without anybody waiting; says how many pages the log had.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))
}

/// Works whenever the log has grown, until the store is closed.
pub(super) fn empty_all(connection: &Connection, grown: &Receiver<()>, writer: &WeakSender<Job>, shared: &Shared) {
    while grown.recv().is_ok() {
        // What cannot be done now is done the next time.
        let Ok(pages) = checkpoint(connection) else { continue };
        if pages < LONG {
            continue;
        }
        let _paused = shared.pause();
        let _ = checkpoint(connection);
        let Some(writer) = writer.upgrade() else { return };
        let (done, finished) = tokio::sync::oneshot::channel();
        if writer.blocking_send(Job::Checkpoint { done }).is_ok() {
            let _ = finished.blocking_recv();
        }
    }
}
