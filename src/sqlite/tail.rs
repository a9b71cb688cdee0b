//! The tail: the events after the last segment, with their values in memory, so that no question parses a document that
//! another has parsed before.
//!
//! It is shared by all who read the file in one process, each at a moment of its own. It only grows, until rows at its begin
//! are packed, or events of the file are changed or deleted; then it begins anew. Who reads at an older moment than the one
//! that it was begun at reads the documents.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, params};

use super::layout::changes;
use super::segment::{Builder, Column, ROWS};
use crate::hit::event::fields::Field;

/// Some rows and the columns that were asked for.
pub(super) struct Block {
    pub(super) rows: usize,
    /// The first and last time.
    pub(super) start: i64,
    pub(super) end: i64,
    /// The time of each row; read only if it is needed.
    pub(super) times: Arc<Vec<i64>>,
    /// The event's number of the first row, and of each where they do not follow each other.
    pub(super) first: i64,
    pub(super) numbers: Arc<Vec<i64>>,
    /// The columns of the requested fields that have values.
    pub(super) columns: Vec<(&'static Field, Arc<Column>)>,
    /// The segment; none when it was made of documents.
    pub(super) segment: Option<i64>,
}

impl Block {
    pub(super) fn column(&self, field: &Field) -> Option<&Column> {
        let found = self.columns.iter().find(|(known, _)| known.name == field.name);
        found.map(|(_, column)| column.as_ref())
    }

    pub(super) fn number(&self, row: usize) -> i64 {
        match self.numbers.get(row) {
            Some(number) => *number,
            None => self.first + i64::try_from(row).unwrap_or_default(),
        }
    }
}

/// Returns the first and the last of some times.
pub(super) fn span(times: &[i64]) -> (i64, i64) {
    times.iter().fold((i64::MAX, i64::MIN), |(start, end), time| {
        (start.min(*time), end.max(*time))
    })
}

/// The rows with the values of all fields.
#[derive(Debug, Default)]
pub(super) struct Collected {
    numbers: Arc<Vec<i64>>,
    times: Arc<Vec<i64>>,
    values: Builder,
}

impl Collected {
    pub(super) fn numbers(&self) -> &[i64] {
        &self.numbers
    }

    pub(super) fn times(&self) -> &[i64] {
        &self.times
    }

    pub(super) fn count(&self) -> usize {
        self.numbers.len()
    }

    /// Returns the columns that have values, once it is closed.
    pub(super) fn columns(&self) -> impl Iterator<Item = (&'static Field, &Column)> {
        self.values.columns()
    }

    /// Closes the collection; nothing more may be added.
    pub(super) fn close(&mut self) {
        self.values.close();
    }

    /// Adds at most so many rows of these numbers; how many there were.
    pub(super) fn read(
        &mut self,
        connection: &Connection,
        first: i64,
        last: i64,
        most: usize,
    ) -> rusqlite::Result<usize> {
        let sql = "SELECT number, time, document FROM events WHERE number BETWEEN ?1 AND ?2 ORDER BY number LIMIT ?3";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![first, last, i64::try_from(most).unwrap_or(i64::MAX)])?;
        // Whoever looks at them keeps what there was.
        let (numbers, times) = (Arc::make_mut(&mut self.numbers), Arc::make_mut(&mut self.times));
        let before = numbers.len();
        while let Some(row) = rows.next()? {
            let (number, time) = (row.get(0)?, row.get(1)?);
            self.values.add(row.get_ref(2)?.as_str().unwrap_or_default());
            numbers.push(number);
            times.push(time);
        }
        Ok(numbers.len() - before)
    }

    /// Returns the rows up to a number with these fields; none if there are no such rows.
    pub(super) fn view(&self, fields: &[&'static Field], last: i64) -> Option<Block> {
        let rows = self.numbers.partition_point(|number| *number <= last);
        if rows == 0 {
            return None;
        }
        let (start, end) = span(&self.times[..rows]);
        let column = |field: &&'static Field| Some((*field, self.values.column(field)?));
        Some(Block {
            rows,
            start,
            end,
            times: Arc::clone(&self.times),
            first: 0,
            numbers: Arc::clone(&self.numbers),
            columns: fields.iter().filter_map(column).collect(),
            segment: None,
        })
    }
}

/// The number of full collections that may wait for being packed; later rows are not kept.
const MOST_FULL: usize = 2;

/// The number of rows that the packer reads at a time, so that no query waits for long.
const STEP: usize = 256;

#[derive(Debug)]
struct State {
    /// The number of changes and deletions in the file at that time.
    changes: i64,
    /// The first number that no segment holds.
    begin: i64,
    full: VecDeque<Arc<Collected>>,
    growing: Collected,
}

impl Default for State {
    fn default() -> Self {
        Self {
            changes: 0,
            begin: i64::MIN,
            full: VecDeque::new(),
            growing: Collected::default(),
        }
    }
}

impl State {
    /// Goes to the moment of a snapshot, where the numbers from `begin` on are in no segment; false when it is over. At a
    /// later moment `begin` is smaller only when segments were taken away, which is a change.
    fn follow(&mut self, snapshot: &Connection, begin: i64) -> rusqlite::Result<bool> {
        let changes = changes(snapshot)?;
        if changes < self.changes || (changes == self.changes && begin < self.begin) {
            return Ok(false);
        }
        if changes == self.changes {
            while self.full.front().is_some_and(|rows| rows.numbers.last() < Some(&begin)) {
                self.full.pop_front();
            }
        }
        let first = self.full.front().map_or(&self.growing, |rows| rows).numbers.first();
        if changes > self.changes || first.is_some_and(|first| *first < begin) {
            *self = Self::default();
        }
        (self.changes, self.begin) = (changes, begin);
        Ok(true)
    }

    fn last(&self) -> Option<i64> {
        let of_full = || self.full.back().and_then(|rows| rows.numbers.last());
        self.growing.numbers.last().or_else(of_full).copied()
    }

    /// Returns the first number that is not here.
    fn next(&self) -> i64 {
        self.last().map_or(self.begin, |last| last + 1)
    }

    /// Reads so many rows more at most; whether there may be more.
    fn read(&mut self, snapshot: &Connection, most: usize) -> rusqlite::Result<bool> {
        let most = most.min(ROWS - self.growing.count());
        let next = self.next();
        let read = self.growing.read(snapshot, next, i64::MAX, most);
        if read.is_err() {
            // Some values of a row may be there without its number.
            *self = Self::default();
        }
        if self.growing.count() == ROWS {
            self.growing.close();
            let full = std::mem::take(&mut self.growing);
            self.full.push_back(Arc::new(full));
        }
        Ok(read? == most)
    }
}

/// The rows to be packed next.
pub(super) enum Full {
    /// These rows, as they were after so many changes of the file.
    Rows(Arc<Collected>, i64),
    /// There are not enough rows yet.
    NotYet,
    /// More are to be read.
    More,
}

/// The tail of a file.
#[derive(Debug, Default)]
pub(super) struct Tail(Mutex<State>);

impl Tail {
    /// Returns the rows from `begin` on, and the first number after them; the caller reads the later rows itself.
    pub(super) fn view(
        &self,
        snapshot: &Connection,
        begin: i64,
        fields: &[&'static Field],
    ) -> rusqlite::Result<(Vec<Block>, i64)> {
        let last = "SELECT coalesce(max(number), 0) FROM events";
        let last: i64 = snapshot.prepare_cached(last)?.query_row([], |row| row.get(0))?;
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.follow(snapshot, begin)? {
            return Ok((Vec::new(), begin));
        }
        while state.full.len() < MOST_FULL && state.read(snapshot, ROWS)? {}
        let all = state
            .full
            .iter()
            .map(AsRef::as_ref)
            .chain(std::iter::once(&state.growing));
        let blocks = all.filter_map(|rows| rows.view(fields, last)).collect();
        Ok((blocks, state.next()))
    }

    /// Rows for a full segment. Where there are not enough in memory, some are read.
    pub(super) fn full(&self, snapshot: &Connection, begin: i64) -> rusqlite::Result<Full> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.follow(snapshot, begin)? {
            return Ok(Full::NotYet);
        }
        if let Some(rows) = state.full.front() {
            return Ok(Full::Rows(Arc::clone(rows), state.changes));
        }
        let more = state.read(snapshot, STEP)?;
        Ok(if more || !state.full.is_empty() {
            Full::More
        } else {
            Full::NotYet
        })
    }
}
