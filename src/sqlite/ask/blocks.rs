//! The input of queries: the segments and the tail, as blocks of rows.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::super::pack::collect;
use super::super::segment::{self, Column};
use super::super::tail::{Block, Tail};
use crate::hit::event::fields::Field;
use crate::query::{Filter, QueryError, Term};

/// A segment's row in the table.
pub(super) struct Packed {
    pub(super) number: i64,
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) rows: usize,
}

pub(super) fn packed(connection: &Connection) -> rusqlite::Result<Vec<Packed>> {
    let mut statement =
        connection.prepare_cached("SELECT number, first, last, start, end, events FROM segments ORDER BY first")?;
    let rows = statement.query_map([], |row| {
        Ok(Packed {
            number: row.get(0)?,
            first: row.get(1)?,
            last: row.get(2)?,
            start: row.get(3)?,
            end: row.get(4)?,
            rows: usize::try_from(row.get::<_, i64>(5)?).unwrap_or_default(),
        })
    })?;
    rows.collect()
}

/// Returns the ranges of numbers that no segment holds, each as first and last.
pub(super) fn gaps(packed: &[Packed]) -> Vec<(i64, i64)> {
    let mut gaps = Vec::new();
    let mut next = i64::MIN;
    for segment in packed {
        if next < segment.first {
            gaps.push((next, segment.first - 1));
        }
        next = segment.last + 1;
    }
    gaps.push((next, i64::MAX));
    gaps
}

/// The parts of the rows that a query reads.
pub(super) struct Wanted<'a> {
    pub(super) fields: &'a [&'static Field],
    /// True if the time of every row is needed.
    pub(super) times: bool,
    /// True if the events' numbers are needed.
    pub(super) numbers: bool,
}

/// A range of times, begin included, end not.
#[derive(Clone, Copy)]
pub(super) struct Range(pub(super) i64, pub(super) i64);

impl Range {
    pub(super) fn from_filter(filter: &Filter) -> Self {
        let millis = |time: Option<chrono::DateTime<chrono::Utc>>| time.map(|time| time.timestamp_millis());
        Self(
            millis(filter.from).unwrap_or(i64::MIN),
            millis(filter.to).unwrap_or(i64::MAX),
        )
    }

    const fn holds(self, time: i64) -> bool {
        self.0 <= time && time < self.1
    }
}

/// Reads one segment.
pub(super) fn read(
    connection: &Connection,
    packed: &Packed,
    wanted: &Wanted<'_>,
    range: Range,
) -> rusqlite::Result<Block> {
    let whole = range.holds(packed.start) && range.holds(packed.end);
    let times = if wanted.times || !whole {
        let mut statement = connection.prepare_cached("SELECT times FROM segments WHERE number = ?1")?;
        statement.query_row([packed.number], |row| {
            Ok(segment::unpack_numbers(packed.start, row.get_ref(0)?.as_blob()?))
        })?
    } else {
        Vec::new()
    };
    let numbers = if wanted.numbers {
        let mut statement = connection.prepare_cached("SELECT numbers FROM segments WHERE number = ?1")?;
        statement.query_row([packed.number], |row| {
            Ok(segment::unpack_numbers(packed.first, row.get_ref(0)?.as_blob()?))
        })?
    } else {
        Vec::new()
    };
    let mut statement = connection.prepare_cached("SELECT codes FROM columns WHERE field = ?1 AND segment = ?2")?;
    let mut columns = Vec::with_capacity(wanted.fields.len());
    for field in wanted.fields {
        let found = statement
            .query_row(params![field.name, packed.number], |row| {
                Ok(Column::decode(row.get_ref(0)?.as_blob()?, packed.rows))
            })
            .optional()?;
        columns.extend(found.flatten().map(|column| (*field, Arc::new(column))));
    }
    Ok(Block {
        rows: packed.rows,
        start: packed.start,
        end: packed.end,
        times: Arc::new(times),
        first: packed.first,
        numbers: Arc::new(numbers),
        columns,
        segment: Some(packed.number),
    })
}

/// A file as it is at one moment, and what of it is in memory.
pub(super) struct Snapshot<'c> {
    pub(super) connection: &'c Connection,
    pub(super) tail: &'c Tail,
}

impl Snapshot<'_> {
    /// Shows the rows of a gap between segments.
    pub(super) fn unpacked(
        &self,
        (first, last): (i64, i64),
        wanted: &Wanted<'_>,
        visit: &mut dyn FnMut(&Block) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let mut next = first;
        if last == i64::MAX {
            let (blocks, after) = self.tail.view(self.connection, first, wanted.fields)?;
            blocks.iter().try_for_each(&mut *visit)?;
            next = after;
        }
        loop {
            let rows = collect(self.connection, next, last)?;
            let Some(block) = rows.view(wanted.fields, i64::MAX) else {
                return Ok(());
            };
            visit(&block)?;
            next = rows.numbers().last().map_or(i64::MAX, |last| last + 1);
        }
    }

    /// Shows all blocks that can hold times of the range.
    pub(super) fn blocks(
        &self,
        wanted: &Wanted<'_>,
        range: Range,
        visit: &mut dyn FnMut(&Block) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let packed = packed(self.connection)?;
        for segment in packed
            .iter()
            .filter(|segment| segment.end >= range.0 && segment.start < range.1)
        {
            visit(&read(self.connection, segment, wanted, range)?)?;
        }
        gaps(&packed)
            .into_iter()
            .try_for_each(|gap| self.unpacked(gap, wanted, visit))
    }
}

/// Returns the rows of a block that match a filter.
pub(super) fn select(block: &Block, terms: &[Term], range: Range) -> Vec<u32> {
    let all = 0..u32::try_from(block.rows).unwrap_or(u32::MAX);
    let mut rows: Vec<u32> = if range.holds(block.start) && range.holds(block.end) {
        all.collect()
    } else {
        all.filter(|row| range.holds(block.times[*row as usize])).collect()
    };
    for term in terms {
        let Some(column) = block.column(term.field) else {
            if !term.not {
                rows.clear();
            }
            continue;
        };
        let asked: Vec<u64> = term.values.iter().map(|value| segment::hash(value)).collect();
        let mut matches = vec![false];
        matches.extend(column.hashes.iter().map(|hash| asked.contains(hash)));
        let found = |row: u32| column.codes(row as usize).iter().any(|code| matches[*code as usize]);
        rows.retain(|row| found(*row) != term.not);
    }
    rows
}
