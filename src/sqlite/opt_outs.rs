//! Opt-outs of codes, next to the events.
//!
//! Several servers can have the file open. Each asks every few seconds for what is new: added rows have the highest numbers, and
//! a trigger counts removed ones, after which everything is read again.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::{Reader, StoreError, in_transaction};
use crate::query::Timestamp;
use crate::query::store::{OptOut, Requester};

/// A code that is opted out, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptOutChange {
    /// The code.
    pub code: String,
    /// True to opt out; false to opt in again.
    pub out: bool,
    /// The one who asks.
    pub by: Requester,
    /// The time of the request.
    pub at: DateTime<Utc>,
}

/// The state of the file's opt-outs that a reader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptOutState {
    removed: i64,
    last: i64,
}

/// The opt-outs that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptOutNews<T> {
    /// All of them, or those that were added.
    pub codes: Vec<T>,
    /// True if all codes were read, so that missing codes are no longer opted out.
    pub is_whole: bool,
    /// The state to ask with the next time.
    pub state: OptOutState,
}

/// The names of codes were all that early versions kept.
const TABLES: &str = "
    CREATE TABLE opt_outs (number INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE, since INTEGER, requester TEXT) STRICT;
    CREATE TABLE opt_outs_removed (count INTEGER NOT NULL) STRICT;
    INSERT INTO opt_outs_removed VALUES (0);
    CREATE TRIGGER opt_out_removed AFTER DELETE ON opt_outs BEGIN
        UPDATE opt_outs_removed SET count = count + 1;
    END;";

/// Makes the tables where they are missing.
pub(super) fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    if is_prepared(connection)? {
        return Ok(());
    }
    in_transaction(connection, |transaction| {
        // Another process may have been quicker.
        if is_prepared(transaction)? {
            return Ok(());
        }
        let before = "SELECT count(*) FROM sqlite_schema WHERE name = 'opt_outs'";
        let has_before = transaction.query_row(before, [], |row| row.get::<_, i64>(0))? > 0;
        if has_before {
            transaction.execute_batch("ALTER TABLE opt_outs RENAME TO opt_outs_before")?;
        }
        transaction.execute_batch(TABLES)?;
        if has_before {
            transaction.execute_batch(
                "INSERT INTO opt_outs (code) SELECT code FROM opt_outs_before; DROP TABLE opt_outs_before;",
            )?;
        }
        transaction.execute_batch("ALTER TABLE codes ADD COLUMN recipient TEXT")
    })
}

fn is_prepared(connection: &Connection) -> rusqlite::Result<bool> {
    let found = "SELECT count(*) FROM sqlite_schema WHERE name = 'opt_outs_removed'";
    connection.query_row(found, [], |row| Ok(row.get::<_, i64>(0)? > 0))
}

/// Records changes, and returns how many of them changed something.
pub(super) fn store<'a>(
    transaction: &Transaction<'_>,
    changes: impl IntoIterator<Item = &'a OptOutChange>,
) -> rusqlite::Result<usize> {
    let mut add =
        transaction.prepare_cached("INSERT OR IGNORE INTO opt_outs (code, since, requester) VALUES (?1, ?2, ?3)")?;
    let mut remove = transaction.prepare_cached("DELETE FROM opt_outs WHERE code = ?1")?;
    let mut count = 0;
    for OptOutChange { code, out, by, at } in changes {
        count += if *out {
            add.execute(params![code, at.timestamp_millis(), by.name()])?
        } else {
            remove.execute([code])?
        };
    }
    Ok(count)
}

fn read_opt_out(row: &Row<'_>) -> rusqlite::Result<OptOut> {
    Ok(OptOut {
        code: row.get(0)?,
        since: row.get::<_, Option<i64>>(1)?.map(Timestamp::from_millis),
        by: row
            .get::<_, Option<String>>(2)?
            .and_then(|name| Requester::parse(&name)),
    })
}

impl Reader {
    /// Returns the opt-out of a code.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn opt_out(&self, code: &str) -> Result<Option<OptOut>, StoreError> {
        let sql = "SELECT code, since, requester FROM opt_outs WHERE code = ?1";
        let found = self.connection.query_row(sql, [code], read_opt_out).optional();
        found.map_err(|error| StoreError::new(&self.path, error))
    }

    /// Passes every opt-out to `visit`, the oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read; else what `visit` returns.
    pub fn visit_opt_outs<E: From<StoreError>>(&self, mut visit: impl FnMut(OptOut) -> Result<(), E>) -> Result<(), E> {
        let failed = |error| StoreError::new(&self.path, error);
        let sql = "SELECT code, since, requester FROM opt_outs ORDER BY number";
        let mut statement = self.connection.prepare(sql).map_err(failed)?;
        for opt_out in statement.query_map([], read_opt_out).map_err(failed)? {
            visit(opt_out.map_err(failed)?)?;
        }
        Ok(())
    }

    /// Records changes, all or none, and returns how many of them changed something.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be written.
    pub fn change_opt_outs(&self, changes: &[OptOutChange]) -> Result<usize, StoreError> {
        let write = || {
            let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
            let count = store(&transaction, changes)?;
            transaction.commit()?;
            Ok(count)
        };
        write().map_err(|error: rusqlite::Error| StoreError::new(&self.path, error))
    }

    /// Reads what was opted out after a known state, as `convert` makes it of the codes; none when nothing has changed.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file cannot be read.
    pub fn opt_outs_after<T>(
        &self,
        known: Option<OptOutState>,
        convert: impl Fn(&str) -> T,
    ) -> Result<Option<OptOutNews<T>>, StoreError> {
        let read = || {
            // All of one moment.
            let transaction = self.connection.unchecked_transaction()?;
            let state = transaction
                .prepare_cached(
                    "SELECT (SELECT count FROM opt_outs_removed), (SELECT coalesce(max(number), 0) FROM opt_outs)",
                )?
                .query_row([], |row| {
                    Ok(OptOutState {
                        removed: row.get(0)?,
                        last: row.get(1)?,
                    })
                })?;
            if known == Some(state) {
                return Ok(None);
            }
            let after = known.filter(|known| known.removed == state.removed);
            let mut statement = transaction.prepare_cached("SELECT code FROM opt_outs WHERE number > ?1")?;
            let after_number = after.map_or(i64::MIN, |known| known.last);
            let rows = statement.query_map([after_number], |row| Ok(convert(row.get_ref(0)?.as_str()?)))?;
            Ok(Some(OptOutNews {
                codes: rows.collect::<rusqlite::Result<_>>()?,
                is_whole: after.is_none(),
                state,
            }))
        };
        read().map_err(|error: rusqlite::Error| StoreError::new(&self.path, error))
    }
}
