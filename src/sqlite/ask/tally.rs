//! The counters over blocks: different values, frequent values, points of a time series, totals.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use rusqlite::{Connection, params};

use super::super::segment::{self, Column};
use super::super::tail::Block;
use super::blocks::Range;
use crate::hit::event::fields::Field;
use crate::query::clock::Clock;
use crate::query::{Group, Interval, MAX_POINTS, Point, QueryError, Timestamp, Totals, sort, too_many_points, wrong};

/// A hasher for values that are hashes already.
#[derive(Debug, Default)]
pub(super) struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only numbers of 64 bits are keys");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

pub(super) type ByHash<T> = HashMap<u64, T, BuildHasherDefault<IdentityHasher>>;

/// A set of numbers: a short list while there are few, then a bit for each.
#[derive(Clone, Debug)]
pub(super) enum DistinctSet {
    Sparse(Vec<u32>),
    Dense(Vec<u64>),
}

impl Default for DistinctSet {
    fn default() -> Self {
        Self::Sparse(Vec::new())
    }
}

const FEW: usize = 2048;

impl DistinctSet {
    pub(super) fn add(&mut self, number: u32) {
        match self {
            Self::Sparse(numbers) if numbers.last() == Some(&number) => {}
            Self::Sparse(numbers) => {
                numbers.push(number);
                if numbers.len() > 2 * FEW {
                    numbers.sort_unstable();
                    numbers.dedup();
                    if numbers.len() > FEW {
                        let mut bits = Vec::new();
                        for number in numbers.iter() {
                            set(&mut bits, *number);
                        }
                        *self = Self::Dense(bits);
                    }
                }
            }
            Self::Dense(bits) => set(bits, number),
        }
    }

    pub(super) fn count(self) -> u64 {
        match self {
            Self::Sparse(mut numbers) => {
                numbers.sort_unstable();
                numbers.dedup();
                numbers.len() as u64
            }
            Self::Dense(bits) => bits.iter().map(|bits| u64::from(bits.count_ones())).sum(),
        }
    }
}

fn set(bits: &mut Vec<u64>, number: u32) {
    let place = number as usize / 64;
    if bits.len() <= place {
        bits.resize(place + 1, 0);
    }
    bits[place] |= 1 << (number % 64);
}

/// The location of a value's text.
enum Place {
    Segment(i64, u32),
    Text(Box<str>),
}

/// The number of events for each value of a field.
#[derive(Default)]
pub(super) struct Counts(ByHash<(u64, Place)>);

impl Counts {
    pub(super) fn add(&mut self, block: &Block, column: &Column, rows: &[u32]) {
        let mut counts = vec![0_u32; column.hashes.len() + 1];
        for row in rows {
            for code in column.codes(*row as usize) {
                counts[*code as usize] += 1;
            }
        }
        for (code, count) in (0..).zip(counts).filter(|(code, count)| *code > 0 && *count > 0) {
            let place = code as usize - 1;
            let place_of = || match block.segment {
                Some(segment) => Place::Segment(segment, code),
                None => Place::Text(column.texts[place].clone()),
            };
            let entry = self.0.entry(column.hashes[place]).or_insert_with(|| (0, place_of()));
            entry.0 += u64::from(count);
        }
    }

    /// Returns the most frequent values with their texts, in their order; equally frequent ones need their texts to be
    /// ordered.
    pub(super) fn first(
        self,
        connection: &Connection,
        field: &'static Field,
        limit: usize,
    ) -> rusqlite::Result<Vec<(u64, Group)>> {
        let mut counts: Vec<u64> = self.0.values().map(|(count, _)| *count).collect();
        counts.sort_unstable_by(|left, right| right.cmp(left));
        let least = counts.get(limit.saturating_sub(1)).copied().unwrap_or(1);
        let mut places: Vec<(u64, u64, Place)> = self
            .0
            .into_iter()
            .filter(|(_, (count, _))| *count >= least)
            .map(|(hash, (count, place))| (hash, count, place))
            .collect();
        // A segment's texts are read once.
        places.sort_by_key(|(_, _, place)| match place {
            Place::Segment(segment, _) => *segment,
            Place::Text(_) => i64::MAX,
        });
        let mut texts = Texts {
            connection,
            field,
            open: None,
        };
        let mut found = Vec::with_capacity(places.len());
        for (hash, events, place) in places {
            let value = match place {
                Place::Text(text) => text.into(),
                Place::Segment(segment, code) => texts.get(segment, code)?,
            };
            found.push((
                hash,
                Group {
                    value,
                    events,
                    uniques: None,
                },
            ));
        }
        let mut groups: Vec<Group> = found.iter().map(|(_, group)| group.clone()).collect();
        sort(field.kind, &mut groups);
        groups.truncate(limit);
        let hashes: HashMap<&str, u64> = found
            .iter()
            .map(|(hash, group)| (group.value.as_str(), *hash))
            .collect();
        let with_hash = groups.iter().map(|group| {
            (
                hashes.get(group.value.as_str()).copied().unwrap_or_default(),
                group.clone(),
            )
        });
        Ok(with_hash.collect())
    }
}

struct Texts<'c> {
    connection: &'c Connection,
    field: &'static Field,
    open: Option<(i64, usize, Vec<u8>)>,
}

impl Texts<'_> {
    fn get(&mut self, segment: i64, code: u32) -> rusqlite::Result<String> {
        if self.open.as_ref().is_none_or(|(open, ..)| *open != segment) {
            let sql = "SELECT substr(codes, 1, 4), texts FROM columns WHERE field = ?1 AND segment = ?2";
            let mut statement = self.connection.prepare_cached(sql)?;
            let read = statement.query_row(params![self.field.name, segment], |row| {
                let values: [u8; 4] = row.get(0)?;
                Ok((u32::from_le_bytes(values) as usize, row.get(1)?))
            })?;
            self.open = Some((segment, read.0, read.1));
        }
        let text = self
            .open
            .as_ref()
            .and_then(|(_, values, blob)| segment::text(blob, *values, code));
        Ok(text.unwrap_or_default().to_owned())
    }
}

/// The points of a time series in the making.
pub(super) struct Points {
    clock: Clock,
    interval: Interval,
    found: Vec<Counted>,
    /// The places in `found` by begin.
    places: BTreeMap<i64, usize>,
    /// The index of the last event's point, which is usually also that of the next.
    last: usize,
}

/// A point that has events.
struct Counted {
    start: i64,
    end: i64,
    events: u64,
    different: DistinctSet,
}

impl Counted {
    const fn holds(&self, time: i64) -> bool {
        self.start <= time && time < self.end
    }
}

impl Points {
    pub(super) fn new(clock: Clock, interval: Interval) -> Self {
        Self {
            clock,
            interval,
            found: Vec::new(),
            places: BTreeMap::new(),
            last: 0,
        }
    }

    /// Counts an event; its point's uniques.
    pub(super) fn add(&mut self, time: i64) -> &mut DistinctSet {
        if !self.found.get(self.last).is_some_and(|point| point.holds(time)) {
            self.last = self.place(time);
        }
        let point = &mut self.found[self.last];
        point.events += 1;
        &mut point.different
    }

    fn place(&mut self, time: i64) -> usize {
        let known = self.places.range(..=time).next_back().map(|(_, place)| *place);
        if let Some(place) = known.filter(|place| self.found[*place].holds(time)) {
            return place;
        }
        let (start, end) = self.clock.point(self.interval, time);
        self.places.insert(start, self.found.len());
        self.found.push(Counted {
            start,
            end,
            events: 0,
            different: DistinctSet::default(),
        });
        self.found.len() - 1
    }

    /// Returns all points without gaps: from the first to the last that has events, or through the whole period.
    pub(super) fn finish(mut self, range: Range, counted: bool) -> Result<Vec<Point>, QueryError> {
        let bounded = range.0 > i64::MIN && range.1 < i64::MAX;
        let first = self.places.first_key_value().map(|(start, _)| *start);
        let last = self.places.last_key_value().map(|(start, _)| *start);
        let point = |time| self.clock.point(self.interval, time).0;
        let first = first.into_iter().chain(bounded.then(|| point(range.0))).min();
        let last = last.into_iter().chain(bounded.then(|| point(range.1 - 1))).max();
        let (Some(mut start), Some(last)) = (first, last) else {
            return Ok(Vec::new());
        };
        let mut points = Vec::new();
        while start <= last {
            if points.len() == MAX_POINTS {
                return Ok(wrong("interval", too_many_points())?);
            }
            let found = self.places.get(&start).map(|place| &mut self.found[*place]);
            let (end, events, different) = match found {
                Some(point) => (point.end, point.events, std::mem::take(&mut point.different)),
                None => (self.clock.point(self.interval, start).1, 0, DistinctSet::default()),
            };
            points.push(Point {
                start: Timestamp::from_millis(start),
                events,
                uniques: counted.then(|| different.count()),
            });
            start = end;
        }
        Ok(points)
    }
}

/// The totals of the selected rows.
#[derive(Default)]
pub(super) struct Sums {
    events: u64,
    first: Option<i64>,
    last: Option<i64>,
}

impl Sums {
    pub(super) fn add(&mut self, block: &Block, rows: &[u32]) {
        if rows.is_empty() {
            return;
        }
        self.events += rows.len() as u64;
        let (first, last) = if rows.len() == block.rows {
            (block.start, block.end)
        } else {
            let times = || rows.iter().map(|row| block.times[*row as usize]);
            (times().min().unwrap_or(block.start), times().max().unwrap_or(block.end))
        };
        self.first = Some(self.first.map_or(first, |known| known.min(first)));
        self.last = Some(self.last.map_or(last, |known| known.max(last)));
    }

    pub(super) fn totals(&self, uniques: Option<u64>) -> Totals {
        Totals {
            events: self.events,
            uniques,
            first: self.first.map(Timestamp::from_millis),
            last: self.last.map(Timestamp::from_millis),
        }
    }
}
