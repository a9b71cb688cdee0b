//! Answers the questions of [`crate::question`] from segments, and from the tail that is not packed yet.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::pack::collect;
use super::segment::{self, Column};
use super::tail::{Block, Tail};
use crate::event::fields::Field;
use crate::question::clock::Clock;
use crate::question::{
    Answer, AskError, CLASS, Cursor, Filter, Group, Interval, Latest, Listing, MOST_POINTS, Moment, Page, Point,
    Question, Term, Totals, known, sort, too_many_points, wrong,
};

impl From<rusqlite::Error> for AskError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Hashes are hashes already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
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

type ByHash<T> = HashMap<u64, T, BuildHasherDefault<AsItIs>>;

/// A segment's row in the table.
struct Packed {
    number: i64,
    first: i64,
    last: i64,
    start: i64,
    end: i64,
    rows: usize,
}

fn packed(connection: &Connection) -> rusqlite::Result<Vec<Packed>> {
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

/// The numbers that no segment holds, as first and last.
fn gaps(packed: &[Packed]) -> Vec<(i64, i64)> {
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

/// What is to be read of the rows.
struct Wanted<'a> {
    fields: &'a [&'static Field],
    /// Whether the time of every row matters.
    times: bool,
    /// Whether the events' numbers matter.
    numbers: bool,
}

/// A range of times, begin included, end not.
#[derive(Clone, Copy)]
struct Range(i64, i64);

impl Range {
    fn of(filter: &Filter) -> Self {
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
fn read(connection: &Connection, packed: &Packed, wanted: &Wanted<'_>, range: Range) -> rusqlite::Result<Block> {
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
struct Snapshot<'c> {
    connection: &'c Connection,
    tail: &'c Tail,
}

impl Snapshot<'_> {
    /// Shows the rows of a gap between segments.
    fn unpacked(
        &self,
        (first, last): (i64, i64),
        wanted: &Wanted<'_>,
        visit: &mut dyn FnMut(&Block) -> Result<(), AskError>,
    ) -> Result<(), AskError> {
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
    fn blocks(
        &self,
        wanted: &Wanted<'_>,
        range: Range,
        visit: &mut dyn FnMut(&Block) -> Result<(), AskError>,
    ) -> Result<(), AskError> {
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

/// The rows of a block that pass a filter.
fn select(block: &Block, terms: &[Term], range: Range) -> Vec<u32> {
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

/// Different numbers: a short list as long as they are few, then a bit for each.
#[derive(Clone, Debug)]
enum Different {
    Few(Vec<u32>),
    Many(Vec<u64>),
}

impl Default for Different {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

const FEW: usize = 2048;

impl Different {
    fn add(&mut self, number: u32) {
        match self {
            Self::Few(numbers) if numbers.last() == Some(&number) => {}
            Self::Few(numbers) => {
                numbers.push(number);
                if numbers.len() > 2 * FEW {
                    numbers.sort_unstable();
                    numbers.dedup();
                    if numbers.len() > FEW {
                        let mut bits = Vec::new();
                        for number in numbers.iter() {
                            set(&mut bits, *number);
                        }
                        *self = Self::Many(bits);
                    }
                }
            }
            Self::Many(bits) => set(bits, number),
        }
    }

    fn count(self) -> u64 {
        match self {
            Self::Few(mut numbers) => {
                numbers.sort_unstable();
                numbers.dedup();
                numbers.len() as u64
            }
            Self::Many(bits) => bits.iter().map(|bits| u64::from(bits.count_ones())).sum(),
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

/// Numbers the values of the unique field through all blocks.
#[derive(Default)]
struct Numbering {
    numbers: ByHash<u32>,
    /// Of the codes of the block at hand, 0 being not numbered yet.
    of_codes: Vec<u32>,
}

impl Numbering {
    fn begin(&mut self, column: &Column) {
        self.of_codes.clear();
        self.of_codes.resize(1 + column.hashes.len(), 0);
    }

    fn count(&self) -> u64 {
        self.numbers.len() as u64
    }

    /// The number of a code, from 1 on.
    fn number(&mut self, column: &Column, code: u32) -> u32 {
        let known = self.of_codes[code as usize];
        if known != 0 {
            return known;
        }
        let next = u32::try_from(self.numbers.len() + 1).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(column.hashes[code as usize - 1]).or_insert(next);
        self.of_codes[code as usize] = number;
        number
    }
}

/// Where a value's text is.
enum Place {
    Segment(i64, u32),
    Text(Box<str>),
}

/// How many events have each value of a field.
#[derive(Default)]
struct Counts(ByHash<(u64, Place)>);

impl Counts {
    fn add(&mut self, block: &Block, column: &Column, rows: &[u32]) {
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

    /// The most frequent values with their texts, in their order; equally frequent ones need their texts to be ordered.
    fn first(
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
struct Points {
    clock: Clock,
    interval: Interval,
    /// By their begin.
    found: HashMap<i64, (i64, u64, Different)>,
    /// The point of the last event, most often also that of the next.
    last: (i64, i64),
}

impl Points {
    fn add(&mut self, time: i64) -> &mut Different {
        if time < self.last.0 || self.last.1 <= time {
            self.last = self.clock.point(self.interval, time);
        }
        let (start, end) = self.last;
        let (_, events, different) = self
            .found
            .entry(start)
            .or_insert_with(|| (end, 0, Different::default()));
        *events += 1;
        different
    }

    /// All points without gaps: from the first to the last that has events, or through the whole period.
    fn finish(mut self, range: Range, counted: bool) -> Result<Vec<Point>, AskError> {
        let bounded = range.0 > i64::MIN && range.1 < i64::MAX;
        let first = self.found.keys().min().copied().into_iter();
        let last = self.found.keys().max().copied().into_iter();
        let point = |time| self.clock.point(self.interval, time).0;
        let first = first.chain(bounded.then(|| point(range.0))).min();
        let last = last.chain(bounded.then(|| point(range.1 - 1))).max();
        let (Some(mut start), Some(last)) = (first, last) else {
            return Ok(Vec::new());
        };
        let mut points = Vec::new();
        while start <= last {
            if points.len() == MOST_POINTS {
                return Ok(wrong("interval", too_many_points())?);
            }
            let (end, events, different) = self.found.remove(&start).unwrap_or_else(|| {
                let (_, end) = self.clock.point(self.interval, start);
                (end, 0, Different::default())
            });
            points.push(Point {
                start: Moment::of_millis(start),
                events,
                uniques: counted.then(|| different.count()),
            });
            start = end;
        }
        Ok(points)
    }
}

/// What is counted of the selected rows beside their values.
#[derive(Default)]
struct Sums {
    events: u64,
    first: Option<i64>,
    last: Option<i64>,
}

impl Sums {
    fn add(&mut self, block: &Block, rows: &[u32]) {
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

    fn totals(&self, uniques: Option<u64>) -> Totals {
        Totals {
            events: self.events,
            uniques,
            first: self.first.map(Moment::of_millis),
            last: self.last.map(Moment::of_millis),
        }
    }
}

/// The fields of a filter, and others, each once.
fn fields(filter: &Filter, others: &[&'static Field]) -> Vec<&'static Field> {
    let of_terms = filter.terms.iter().map(|term| term.field);
    let mut fields: Vec<&'static Field> = Vec::new();
    for field in of_terms.chain(others.iter().copied()) {
        if !fields.contains(&field) {
            fields.push(field);
        }
    }
    fields
}

/// Answers a question.
pub(super) fn ask(connection: &Connection, tail: &Tail, question: &Question) -> Result<Answer, AskError> {
    // All that is read is of the same moment.
    let transaction = connection.unchecked_transaction()?;
    let snapshot = Snapshot {
        connection: &transaction,
        tail,
    };
    let mut answer = count(&snapshot, question)?;
    if question.compare {
        answer.previous = Some(totals(&snapshot, question, &question.filter.before())?);
    }
    Ok(answer)
}

fn totals(snapshot: &Snapshot<'_>, question: &Question, filter: &Filter) -> Result<Totals, AskError> {
    let fields = fields(filter, question.unique.as_slice());
    let wanted = Wanted {
        fields: &fields,
        times: !filter.terms.is_empty(),
        numbers: false,
    };
    let (range, mut sums, mut numbering) = (Range::of(filter), Sums::default(), Numbering::default());
    snapshot.blocks(&wanted, range, &mut |block| {
        let rows = select(block, &filter.terms, range);
        sums.add(block, &rows);
        if let Some(column) = question.unique.and_then(|unique| block.column(unique)) {
            numbering.begin(column);
            for row in &rows {
                for code in column.codes(*row as usize) {
                    numbering.number(column, *code);
                }
            }
        }
        Ok(())
    })?;
    Ok(sums.totals(question.unique.map(|_| numbering.count())))
}

/// The uniques of each class, counted in the same go as everything else: there are few classes.
#[derive(Default)]
struct OfClasses {
    places: ByHash<usize>,
    different: Vec<Different>,
    /// Of the codes of the block at hand.
    of_codes: Vec<usize>,
}

impl OfClasses {
    fn begin(&mut self, column: &Column) {
        self.of_codes.clear();
        self.of_codes.push(usize::MAX);
        for hash in &column.hashes {
            let next = self.different.len();
            let place = *self.places.entry(*hash).or_insert(next);
            if place == next {
                self.different.push(Different::default());
            }
            self.of_codes.push(place);
        }
    }

    fn add(&mut self, class: u32, number: u32) {
        if let Some(different) = self.different.get_mut(self.of_codes[class as usize]) {
            different.add(number);
        }
    }

    fn count(mut self, groups: &mut [(u64, Group)]) {
        for (hash, group) in groups {
            let place = self.places.get(hash).and_then(|place| self.different.get_mut(*place));
            group.uniques = Some(place.map_or(0, |different| std::mem::take(different).count()));
        }
    }
}

fn count(snapshot: &Snapshot<'_>, question: &Question) -> Result<Answer, AskError> {
    let filter = &question.filter;
    let class = known(CLASS);
    let others = [&[class][..], &question.by, question.unique.as_slice()].concat();
    let fields = fields(filter, &others);
    let wanted = Wanted {
        fields: &fields,
        times: question.series.is_some() || !filter.terms.is_empty(),
        numbers: false,
    };
    let range = Range::of(filter);
    let points = |series: &crate::question::Series| {
        Ok::<_, AskError>(Points {
            clock: Clock::of(&series.zone)?,
            interval: series.interval,
            found: HashMap::new(),
            last: (0, 0),
        })
    };
    let mut points = question.series.as_ref().map(points).transpose()?;
    let (mut sums, mut numbering) = (Sums::default(), Numbering::default());
    let (mut classes, mut of_classes) = (Counts::default(), OfClasses::default());
    let mut counts: Vec<Counts> = question.by.iter().map(|_| Counts::default()).collect();
    snapshot.blocks(&wanted, range, &mut |block| {
        let rows = select(block, &filter.terms, range);
        sums.add(block, &rows);
        let unique = question.unique.and_then(|unique| block.column(unique));
        let of_class = block.column(class);
        if let Some(column) = unique {
            numbering.begin(column);
            if let Some(of_class) = of_class {
                of_classes.begin(of_class);
            }
        }
        if points.is_some() || unique.is_some() {
            for row in &rows {
                let row = *row as usize;
                let mut point = points.as_mut().map(|points| points.add(block.times[row]));
                let Some(column) = unique else { continue };
                for code in column.codes(row) {
                    let number = numbering.number(column, *code);
                    if let Some(point) = &mut point {
                        point.add(number);
                    }
                    for class in of_class.into_iter().flat_map(|column| column.codes(row)) {
                        of_classes.add(*class, number);
                    }
                }
            }
        }
        let listed = std::iter::once((&mut classes, &class)).chain(counts.iter_mut().zip(&question.by));
        for (counts, field) in listed {
            if let Some(column) = block.column(field) {
                counts.add(block, column, &rows);
            }
        }
        Ok(())
    })?;
    let connection = snapshot.connection;
    let mut classes = classes.first(connection, class, 100)?;
    let mut listings = Vec::new();
    for (counts, field) in counts.into_iter().zip(&question.by) {
        listings.push(counts.first(connection, field, question.limit)?);
    }
    if let Some(unique) = question.unique {
        of_classes.count(&mut classes);
        count_uniques(snapshot, question, unique, &mut listings)?;
    }
    let plain = |groups: Vec<(u64, Group)>| groups.into_iter().map(|(_, group)| group).collect();
    let listing = |(field, groups): (&&'static Field, _)| Listing {
        field: field.name,
        values: plain(groups),
    };
    let counted = question.unique.is_some();
    Ok(Answer {
        totals: sums.totals(counted.then(|| numbering.count())),
        classes: plain(classes),
        previous: None,
        series: points.map(|points| points.finish(range, counted)).transpose()?,
        by: question.by.iter().zip(listings).map(listing).collect(),
    })
}

/// Counts the uniques of the values that are listed, now that it is known which these are.
fn count_uniques(
    snapshot: &Snapshot<'_>,
    question: &Question,
    unique: &'static Field,
    listings: &mut [Vec<(u64, Group)>],
) -> Result<(), AskError> {
    if listings.iter().all(Vec::is_empty) {
        return Ok(());
    }
    let range = Range::of(&question.filter);
    let places: Vec<ByHash<usize>> = listings
        .iter()
        .map(|groups| {
            groups
                .iter()
                .enumerate()
                .map(|(place, (hash, _))| (*hash, place))
                .collect()
        })
        .collect();
    let mut different: Vec<Vec<Different>> = listings
        .iter()
        .map(|groups| vec![Different::default(); groups.len()])
        .collect();
    let mut numbering = Numbering::default();
    let others = [&question.by[..], &[unique]].concat();
    let fields = fields(&question.filter, &others);
    let wanted = Wanted {
        fields: &fields,
        times: false,
        numbers: false,
    };
    snapshot.blocks(&wanted, range, &mut |block| {
        let Some(column) = block.column(unique) else {
            return Ok(());
        };
        numbering.begin(column);
        let rows = select(block, &question.filter.terms, range);
        let columns = question
            .by
            .iter()
            .map(|field| block.column(field))
            .zip(&places)
            .zip(&mut different);
        for ((by, places), different) in columns {
            let Some(by) = by else { continue };
            let mut of_codes = vec![None];
            of_codes.extend(by.hashes.iter().map(|hash| places.get(hash).copied()));
            for row in &rows {
                let row = *row as usize;
                for place in by.codes(row).iter().filter_map(|code| of_codes[*code as usize]) {
                    for code in column.codes(row) {
                        different[place].add(numbering.number(column, *code));
                    }
                }
            }
        }
        Ok(())
    })?;
    for (groups, different) in listings.iter_mut().zip(different) {
        for ((_, group), different) in groups.iter_mut().zip(different) {
            group.uniques = Some(different.count());
        }
    }
    Ok(())
}

/// Counts events.
pub(super) fn count_events(connection: &Connection, tail: &Tail, filter: &Filter) -> Result<u64, AskError> {
    let Range(from, to) = Range::of(filter);
    let number = |count: i64| u64::try_from(count).unwrap_or_default();
    if let Some(code) = filter.only_code() {
        let mut statement =
            connection.prepare_cached("SELECT count(*) FROM events WHERE code = ?1 AND time >= ?2 AND time < ?3")?;
        return Ok(statement.query_row(params![code, from, to], |row| row.get(0).map(number))?);
    }
    let transaction = connection.unchecked_transaction()?;
    let snapshot = Snapshot {
        connection: &transaction,
        tail,
    };
    let fields = fields(filter, &[]);
    let wanted = Wanted {
        fields: &fields,
        times: false,
        numbers: false,
    };
    let (range, mut events) = (Range(from, to), 0);
    snapshot.blocks(&wanted, range, &mut |block| {
        events += select(block, &filter.terms, range).len() as u64;
        Ok(())
    })?;
    Ok(events)
}

/// An event that was found: its place in the order, and its document.
type Found = (Cursor, String);

/// Finds events.
pub(super) fn latest(connection: &Connection, tail: &Tail, latest: &Latest) -> Result<Page, AskError> {
    let transaction = connection.unchecked_transaction()?;
    let mut range = Range::of(&latest.filter);
    if let Some(Cursor { time, .. }) = &latest.after {
        // Those of the same time are told apart by their ids later.
        if latest.oldest_first {
            range.0 = range.0.max(*time);
        } else {
            range.1 = range.1.min(time.saturating_add(1));
        }
    }
    let mut found = if let Some(code) = latest.filter.only_code() {
        by_index(&transaction, latest, Some(code), range)?
    } else if latest.filter.terms.is_empty() {
        by_index(&transaction, latest, None, range)?
    } else {
        let snapshot = Snapshot {
            connection: &transaction,
            tail,
        };
        by_segments(&snapshot, latest, range)?
    };
    let more = found.len() > latest.limit;
    found.truncate(latest.limit);
    let next = found.last().filter(|_| more).map(|(cursor, _)| cursor.clone());
    let parse = |(_, document): Found| serde_json::from_str(&document).unwrap_or_default();
    Ok(Page {
        events: found.into_iter().map(parse).collect(),
        next,
    })
}

fn by_index(
    connection: &Connection,
    latest: &Latest,
    code: Option<&str>,
    range: Range,
) -> rusqlite::Result<Vec<Found>> {
    let order = if latest.oldest_first { "ASC" } else { "DESC" };
    let compare = if latest.oldest_first { ">" } else { "<" };
    let of_code = if code.is_some() {
        "code = ?6 AND"
    } else {
        "?6 IS NULL AND"
    };
    let sql = format!(
        "SELECT time, id, document FROM events
         WHERE {of_code} time >= ?1 AND time < ?2 AND (?3 IS NULL OR (time, id) {compare} (?3, ?4))
         ORDER BY time {order}, id {order} LIMIT ?5"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let (time, id) = latest
        .after
        .as_ref()
        .map(|cursor| (cursor.time, cursor.id.as_str()))
        .unzip();
    let limit = i64::try_from(latest.limit + 1).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![range.0, range.1, time, id, limit, code], |row| {
        Ok((
            Cursor {
                time: row.get(0)?,
                id: row.get(1)?,
            },
            row.get(2)?,
        ))
    })?;
    rows.collect()
}

/// Goes through segments until no later one can hold what is asked for.
fn by_segments(snapshot: &Snapshot<'_>, latest: &Latest, range: Range) -> Result<Vec<Found>, AskError> {
    let fields = fields(&latest.filter, &[]);
    let wanted = Wanted {
        fields: &fields,
        times: true,
        numbers: true,
    };
    // By what is wanted first; negated times let both orders be one.
    let rank = |time: i64| if latest.oldest_first { time } else { -time };
    let mut matches: Vec<(i64, i64)> = Vec::new();
    let after = latest.after.as_ref().map(|cursor| rank(cursor.time));
    let gather = |block: &Block, matches: &mut Vec<(i64, i64)>| {
        for row in select(block, &latest.filter.terms, range) {
            let row = row as usize;
            matches.push((rank(block.times[row]), block.number(row)));
        }
    };
    let mut packed = packed(snapshot.connection)?;
    for gap in gaps(&packed) {
        snapshot.unpacked(gap, &wanted, &mut |block| {
            gather(block, &mut matches);
            Ok(())
        })?;
    }
    packed.retain(|segment| segment.end >= range.0 && segment.start < range.1);
    let best = |segment: &Packed| {
        rank(if latest.oldest_first {
            segment.start
        } else {
            segment.end
        })
    };
    packed.sort_by_key(best);
    // How many of the best are enough: those of the cursor's time may all stand before the cursor.
    let enough = |matches: &mut Vec<(i64, i64)>| {
        matches.sort_unstable();
        let same = matches.iter().filter(|(rank, _)| Some(*rank) == after).count();
        let last = matches.get(latest.limit + same).map(|(rank, _)| *rank);
        if let Some(last) = last {
            matches.retain(|(rank, _)| *rank <= last);
        }
        last
    };
    for segment in &packed {
        if enough(&mut matches).is_some_and(|last| best(segment) > last) {
            break;
        }
        gather(&read(snapshot.connection, segment, &wanted, range)?, &mut matches);
    }
    enough(&mut matches);
    let mut statement = snapshot
        .connection
        .prepare_cached("SELECT time, id, document FROM events WHERE number = ?1")?;
    let mut found: Vec<Found> = Vec::new();
    for (_, number) in matches {
        let row = statement.query_row([number], |row| {
            Ok((
                Cursor {
                    time: row.get(0)?,
                    id: row.get(1)?,
                },
                row.get(2)?,
            ))
        });
        found.extend(row.optional()?);
    }
    found.sort_by(|(left, _), (right, _)| {
        if latest.oldest_first {
            left.cmp(right)
        } else {
            right.cmp(left)
        }
    });
    if let Some(cursor) = &latest.after {
        found.retain(|(place, _)| {
            if latest.oldest_first {
                place > cursor
            } else {
                place < cursor
            }
        });
    }
    Ok(found)
}
