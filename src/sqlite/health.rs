//! The store's health: the outcome of the last commit, and of a probe where none was made lately; and whether the file is
//! still the one that was opened.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, TransactionBehavior, params};

use super::layout::LAYOUT;

/// The time for which the outcome of a commit or a probe is the store's health.
const FRESH: Duration = Duration::from_secs(5);

/// The shorter time after a failure, so that a recovery is noticed sooner.
const FRESH_FAILURE: Duration = Duration::from_secs(1);

/// A commit's or a probe's outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It worked.
    Good,
    /// It failed, and a probe that works shows that it is over.
    Failing(String),
    /// Pages of the file are damaged. A probe does not look at all of them, so only a commit shows that it is over.
    Damaged(String),
}

impl Health {
    /// Returns the health by the outcome of a commit or a probe.
    pub(super) fn from_outcome<T>(outcome: &Result<T, Failure>) -> Self {
        match outcome {
            Ok(_) => Self::Good,
            Err(failure) if failure.damaged => Self::Damaged(failure.reason.clone()),
            Err(failure) => Self::Failing(failure.reason.clone()),
        }
    }

    fn trouble(&self) -> Result<(), String> {
        match self {
            Self::Good => Ok(()),
            Self::Failing(reason) | Self::Damaged(reason) => Err(reason.clone()),
        }
    }
}

/// A commit or a probe that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: String,
    /// The file is damaged.
    damaged: bool,
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let damaged = matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        );
        Self {
            reason: error.to_string(),
            damaged,
        }
    }
}

/// The last outcome, and when it was known.
#[derive(Debug)]
pub(super) struct LastOutcome(Mutex<(Health, Instant)>);

impl Default for LastOutcome {
    /// Returns a healthy state: a store that was just opened could be written.
    fn default() -> Self {
        Self(Mutex::new((Health::Good, Instant::now())))
    }
}

impl LastOutcome {
    /// Notes the outcome of a commit.
    pub(super) fn note(&self, health: Health) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (health, Instant::now());
    }

    /// Notes the outcome of a probe.
    pub(super) fn note_probe(&self, health: Health) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match (&last.0, health) {
            (Health::Damaged(_), Health::Good) => last.0.clone(),
            (_, health) => health,
        };
        *last = (known, Instant::now());
    }

    /// Returns the last outcome of any age.
    pub(super) fn last(&self) -> Result<(), String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.trouble()
    }

    /// Returns the last outcome; none if it is too old.
    pub(super) fn fresh(&self) -> Option<Result<(), String>> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = if last.0 == Health::Good { FRESH } else { FRESH_FAILURE };
        (last.1.elapsed() < limit).then(|| last.0.trouble())
    }
}

/// A file's device and inode.
type Identity = (u64, u64);

fn identity(path: &Path) -> Option<Identity> {
    let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
    path.metadata().ok().map(identity)
}

/// The files that were opened: the database and its log of changes.
#[derive(Debug)]
pub(super) struct OpenedFiles(Vec<(PathBuf, Identity)>);

impl OpenedFiles {
    /// Remembers the files of a store that was just opened.
    pub(super) fn open(path: &Path) -> Self {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let known = [path.to_owned(), log.into()].into_iter();
        // A log that is not there yet is not missed.
        Self(
            known
                .filter_map(|file| identity(&file).map(|known| (file, known)))
                .collect(),
        )
    }

    /// Checks that they are still there: what is written into a deleted file is gone with the process.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match self.0.iter().find(|(file, known)| identity(file) != Some(*known)) {
            Some((file, _)) => Err(Failure {
                reason: format!(
                    "`{}` was deleted or replaced while it was open; put it back, or restart `pixel serve`",
                    file.display()
                ),
                damaged: false,
            }),
            None => Ok(()),
        }
    }
}

/// Writes an event without keeping it, then commits a page that stays the same: finds a file that is locked or read-only, a disk
/// that is full, and most damage.
pub(super) fn probe(connection: &mut Connection) -> Result<(), Failure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let insert = "INSERT OR IGNORE INTO events (id, time, document) VALUES (?1, ?2, ?3)";
    transaction.execute(insert, params!["probe", i64::MAX, "{}"])?;
    transaction.rollback()?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.pragma_update(None, "user_version", LAYOUT)?;
    transaction.commit()?;
    // So that the log does not grow with each probe.
    super::wal::checkpoint(connection)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_does_not_hide_damage_that_a_commit_has_found() {
        let outcome = LastOutcome::default();
        let damaged = Health::Damaged("malformed".to_owned());
        outcome.note(damaged);
        outcome.note_probe(Health::Good);
        assert_eq!(outcome.last(), Err("malformed".to_owned()));
        outcome.note(Health::Good);
        assert_eq!(outcome.last(), Ok(()));
        outcome.note(Health::Failing("full".to_owned()));
        outcome.note_probe(Health::Good);
        assert_eq!(outcome.last(), Ok(()));
    }
}
