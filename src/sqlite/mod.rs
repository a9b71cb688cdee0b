//! The store of the local stage: one SQLite file.
//!
//! One thread writes. It takes whatever events are waiting, stores them in one transaction and only then tells each of them
//! what became of it, so many waiting hits share one commit. The file is in WAL mode: what was committed survives the
//! process being killed, and people can read while hits arrive. Questions are answered from segments, in which the values of
//! some thousand events stand field by field; a second thread packs them.

mod archive;
mod ask;
pub mod codes;
mod health;
mod layout;
pub mod opt_outs;
mod pack;
mod purge;
mod reader;
mod segment;
mod tail;
pub mod threads;
mod wal;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rusqlite::{Connection, TransactionBehavior};

pub use archive::{Archive, Change, prune};
pub use purge::{Purge, purge};
pub use reader::{Reader, Stored};
pub use writer::{Store, probe};

/// An error of opening or reading a store.
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

/// The state that all connections to the file share in this process.
#[derive(Debug, Default)]
struct Shared {
    tail: tail::Tail,
    numbered: ask::Kept,
    reading: RwLock<()>,
}

impl Shared {
    /// Returns a lock that long reads of the file hold.
    fn read(&self) -> RwLockReadGuard<'_, ()> {
        self.reading.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody reads, and lets nobody begin.
    fn pause(&self) -> RwLockWriteGuard<'_, ()> {
        self.reading.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A factory of readers of one file, which share their memory.
#[derive(Clone, Debug)]
pub struct Readers {
    path: PathBuf,
    shared: Arc<Shared>,
}

impl Readers {
    /// Makes readers of a file that is not open for writing in this process.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            shared: Arc::default(),
        }
    }

    /// Returns the path of the file.
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

fn in_transaction<T>(
    connection: &mut Connection,
    work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let result = work(&transaction)?;
    transaction.commit()?;
    Ok(result)
}
