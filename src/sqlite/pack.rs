//! Packs rows into segments, on a thread of its own.
//!
//! It only reads. The writer stores what it has packed, so that hits never wait for another's lock, and only when the rows
//! are still those that were packed.

use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, params};
use tokio::sync::mpsc::Sender;

use super::layout::{changes, count_change};
use super::purge::note_remnants;
use super::segment::{ROWS, pack_numbers};
use super::tail::{Collected, Full};
use super::writer::Job;
use super::{Shared, threads};

/// A packed segment.
#[derive(Debug)]
pub(super) struct Segment {
    /// The number of changes and deletions in the file when its rows were read.
    changes: i64,
    first: i64,
    last: i64,
    start: i64,
    end: i64,
    events: usize,
    times: Vec<u8>,
    /// The encoded numbers; empty if they are consecutive.
    numbers: Vec<u8>,
    /// The columns as field, codes and texts.
    columns: Vec<(&'static str, Vec<u8>, Vec<u8>)>,
}

/// The interval at which the number of new rows is checked without a notification.
const INTERVAL: Duration = Duration::from_mins(1);

/// Packs whenever there are enough rows, until the store is closed.
pub(super) fn pack_all(path: &Path, wake: &Receiver<()>, writer: &tokio::sync::mpsc::WeakSender<Job>, shared: &Shared) {
    threads::give_way();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(connection) = Connection::open_with_flags(path, flags) else {
        return;
    };
    let _ = connection.busy_timeout(Duration::from_secs(5));
    loop {
        // Questions are answered all the same while a file cannot be read, only slower.
        while let Ok(Some(segment)) = next(&connection, shared) {
            let Some(writer) = writer.upgrade() else { return };
            if !store(&writer, segment) {
                break;
            }
        }
        match wake.recv_timeout(INTERVAL) {
            Ok(()) | Err(std::sync::mpsc::RecvTimeoutError::Timeout) => while wake.try_recv().is_ok() {},
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
        }
        if writer.upgrade().is_none() {
            return;
        }
    }
}

/// Has a segment stored; false when that was in vain.
fn store(writer: &Sender<Job>, segment: Segment) -> bool {
    let (done, stored) = tokio::sync::oneshot::channel();
    let job = Job::Segment {
        segment: Box::new(segment),
        done,
    };
    writer.blocking_send(job).is_ok() && stored.blocking_recv() == Ok(true)
}

/// Returns the next rows to be packed: all between two segments, or as many as make a full one after the last.
fn next(connection: &Connection, shared: &Shared) -> rusqlite::Result<Option<Segment>> {
    loop {
        let _reading = shared.read();
        let snapshot = connection.unchecked_transaction()?;
        let mut statement = snapshot.prepare_cached("SELECT first, last FROM segments ORDER BY first")?;
        let known = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut begin = i64::MIN;
        for segment in known {
            let (first, last): (i64, i64) = segment?;
            if begin < first {
                let rows = collect(&snapshot, begin, first - 1)?;
                if rows.count() > 0 {
                    return Ok(Some(pack(&rows, changes(&snapshot)?)));
                }
            }
            begin = last + 1;
        }
        match shared.tail.full(&snapshot, begin)? {
            Full::Rows(rows, changes) => return Ok(Some(pack(&rows, changes))),
            Full::NotYet => return Ok(None),
            // Step by step, each at a moment of its own.
            Full::More => {}
        }
    }
}

/// Reads some rows of these numbers, with their values.
pub(super) fn collect(connection: &Connection, first: i64, last: i64) -> rusqlite::Result<Collected> {
    let mut collected = Collected::default();
    collected.read(connection, first, last, ROWS)?;
    collected.close();
    Ok(collected)
}

fn pack(rows: &Collected, changes: i64) -> Segment {
    let (numbers, times) = (rows.numbers(), rows.times());
    let (start, end) = super::tail::span(times);
    let columns = rows.columns().map(|(field, column)| {
        let (codes, texts) = column.encode();
        (field.name, codes, texts)
    });
    let first = numbers.first().copied().unwrap_or_default();
    Segment {
        changes,
        first,
        last: numbers.last().copied().unwrap_or_default(),
        start,
        end,
        events: numbers.len(),
        times: pack_numbers(start, times),
        numbers: if numbers.is_sorted_by(|number, next| number + 1 == *next) {
            Vec::new()
        } else {
            pack_numbers(first, numbers)
        },
        columns: columns.collect(),
    }
}

impl Segment {
    /// Stores it, unless its rows have changed meanwhile or are packed already.
    pub(super) fn store(&self, transaction: &Transaction<'_>) -> rusqlite::Result<bool> {
        let packed: i64 = transaction
            .prepare_cached("SELECT count(*) FROM segments WHERE last >= ?1 AND first <= ?2")?
            .query_row(params![self.first, self.last], |row| row.get(0))?;
        if changes(transaction)? != self.changes || packed > 0 {
            return Ok(false);
        }
        let insert = "INSERT INTO segments (first, last, start, end, events, times, numbers)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        transaction.prepare_cached(insert)?.execute(params![
            self.first,
            self.last,
            self.start,
            self.end,
            i64::try_from(self.events).unwrap_or(i64::MAX),
            self.times,
            self.numbers
        ])?;
        let number = transaction.last_insert_rowid();
        let mut insert =
            transaction.prepare_cached("INSERT INTO columns (field, segment, codes, texts) VALUES (?1, ?2, ?3, ?4)")?;
        for (field, codes, texts) in &self.columns {
            insert.execute(params![field, number, codes, texts])?;
        }
        Ok(true)
    }
}

/// The largest number of rows that are deleted in one transaction, so that no hit waits for long.
const AT_ONCE: i64 = 500;

/// Takes away the segment that holds a row which changes or goes. Questions read the rows themselves until they are packed
/// again.
pub(super) fn forget(connection: &Connection, number: i64) -> rusqlite::Result<()> {
    let holds = "SELECT number FROM segments WHERE first <= ?1 AND last >= ?1";
    for sql in [
        format!("DELETE FROM columns WHERE segment IN ({holds})"),
        format!("DELETE FROM segments WHERE number IN ({holds})"),
    ] {
        connection.prepare_cached(&sql)?.execute([number])?;
    }
    count_change(connection)
}

/// Deletes some of the events from before a time, and the segments that hold such; says how many events.
pub(super) fn prune(transaction: &Transaction<'_>, before: i64) -> rusqlite::Result<usize> {
    let old = "SELECT EXISTS (SELECT 1 FROM events WHERE time < ?1)";
    if !transaction
        .prepare_cached(old)?
        .query_row([before], |row| row.get::<_, bool>(0))?
    {
        return Ok(0);
    }
    count_change(transaction)?;
    note_remnants(transaction)?;
    transaction
        .prepare_cached("DELETE FROM columns WHERE segment IN (SELECT number FROM segments WHERE start < ?1)")?
        .execute([before])?;
    transaction
        .prepare_cached("DELETE FROM segments WHERE start < ?1")?
        .execute([before])?;
    transaction
        .prepare_cached("DELETE FROM events WHERE number IN (SELECT number FROM events WHERE time < ?1 LIMIT ?2)")?
        .execute([before, AT_ONCE])
}

/// Packs all rows that are not, however few they are.
#[cfg(test)]
pub(super) fn pack_the_rest(connection: &mut Connection) {
    let last = "SELECT coalesce(max(last), 0) FROM segments";
    let last: i64 = connection
        .query_row(last, [], |row| row.get(0))
        .expect("it can be read");
    let rows = collect(connection, last + 1, i64::MAX).expect("it can be read");
    if rows.count() == 0 {
        return;
    }
    let packed = pack(&rows, changes(connection).expect("it can be read"));
    let transaction = connection.transaction().expect("a transaction");
    assert_eq!(packed.store(&transaction), Ok(true));
    transaction.commit().expect("it is stored");
}

#[cfg(test)]
mod tests {
    use super::super::{Archive, Change, Store, Stored};
    use super::*;
    use crate::hit::event::Event;

    fn event(number: u32) -> Event {
        let time = chrono::DateTime::from_timestamp(1_780_000_000 + i64::from(number), 0).expect("a time");
        let document = format!(
            r#"{{"@timestamp":"{}","event":{{"id":"{number}"}},"user":{{"id":"person-{number}"}},"visit":{{"class":"human"}}}}"#,
            crate::hit::event::format_iso(time)
        );
        Event {
            id: number.to_string(),
            time,
            document,
        }
    }

    /// Returns the number of columns that contain a text.
    fn columns_with(connection: &Connection, text: &str) -> i64 {
        let count = "SELECT count(*) FROM columns WHERE instr(texts, CAST(?1 AS BLOB)) > 0";
        connection
            .query_row(count, [text], |row| row.get(0))
            .expect("it can be asked")
    }

    #[test]
    fn what_is_erased_or_changed_stands_in_no_segment() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pixel.db");
        let store = Store::open(&path).expect("the store opens");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        runtime.block_on(store.store_all((0..20).map(event).collect()));
        store.close();
        let mut connection = Connection::open(&path).expect("the file opens");
        pack_the_rest(&mut connection);
        assert!(columns_with(&connection, "person-7") > 0);

        let archive = Archive::open(&path).expect("the archive opens");
        let stored = archive.page(0, 100).expect("it can be read");
        let of = |person: &str| {
            stored
                .iter()
                .find(|stored| stored.document.contains(person))
                .expect("it is there")
        };
        assert_eq!(archive.delete(&[of("person-7\"").number]).expect("it is deleted"), 1);
        assert_eq!(columns_with(&connection, "person-7"), 0);
        assert_eq!(
            columns_with(&connection, "person-8"),
            0,
            "its segment is gone as a whole"
        );

        pack_the_rest(&mut connection);
        let Stored { number, document } = of("person-8\"").clone();
        let change = || Change {
            number,
            before: document.clone(),
            after: document.replace("human", "automation"),
        };
        assert_eq!(archive.rewrite(&[change()]).expect("it is written"), 1);
        assert_eq!(
            archive.rewrite(&[change()]).expect("it is read"),
            0,
            "it is another by now"
        );
        assert_eq!(columns_with(&connection, "person-8"), 0);
        let class = "SELECT class FROM events WHERE number = ?1";
        let class: String = connection.query_row(class, [number], |row| row.get(0)).expect("a row");
        assert_eq!(class, "automation");
    }

    #[test]
    fn what_changes_while_it_is_packed_is_packed_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pixel.db");
        let store = Store::open(&path).expect("the store opens");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        runtime.block_on(store.store_all((0..20).map(event).collect()));
        store.close();
        let mut connection = Connection::open(&path).expect("the file opens");
        let packed = |connection: &Connection| {
            let rows = collect(connection, i64::MIN, i64::MAX).expect("it can be read");
            pack(&rows, changes(connection).expect("it can be read"))
        };
        let archive = Archive::open(&path).expect("the archive opens");
        let stored = archive.page(0, 100).expect("it can be read");
        let stale = packed(&connection);
        // Another process classes an event again: as many rows as before, and no segment yet.
        let change = Change {
            number: stored[3].number,
            before: stored[3].document.clone(),
            after: stored[3].document.replace("human", "automation"),
        };
        archive.rewrite(&[change]).expect("it is written");
        let mut store = |segment: &Segment| {
            let transaction = connection.transaction().expect("a transaction");
            let stored = segment.store(&transaction);
            transaction.commit().expect("it is stored");
            stored
        };
        assert_eq!(store(&stale), Ok(false));
        let fresh = packed(&Connection::open(&path).expect("the file opens"));
        assert_eq!(store(&fresh), Ok(true));
        assert!(columns_with(&connection, "automation") > 0);
    }
}
