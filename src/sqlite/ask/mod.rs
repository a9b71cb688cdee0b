//! Answers the questions of [`crate::query`] from segments, and from the tail that is not packed yet.

mod blocks;
mod latest;
mod numbering;
mod tally;

use rusqlite::{Connection, params};

use super::Shared;
use super::layout::changes;
use super::segment::Column;
use super::tail::Tail;
use crate::hit::event::fields::Field;
use crate::query::clock::Clock;
use crate::query::{CLASS, Filter, Group, Listing, Query, QueryError, QueryResult, Totals, declared_field};
use blocks::{Range, Snapshot, Wanted, select};
pub(super) use latest::latest;
pub(super) use numbering::Kept;
use numbering::Numbering;
use tally::{ByHash, Counts, DistinctSet, Points, Sums};

impl From<rusqlite::Error> for QueryError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Returns the fields of a filter and others, each once.
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
pub(super) fn ask(connection: &Connection, shared: &Shared, question: &Query) -> Result<QueryResult, QueryError> {
    // All that is read is of the same moment.
    let transaction = connection.unchecked_transaction()?;
    let snapshot = Snapshot {
        connection: &transaction,
        tail: &shared.tail,
    };
    let mut unique = match question.unique {
        Some(field) => Some(shared.numbered.take(field, changes(&transaction)?)),
        None => None,
    };
    let mut answer = count(&snapshot, question, unique.as_mut())?;
    if question.compare {
        answer.previous = Some(totals(&snapshot, &question.filter.before(), unique.as_mut())?);
    }
    if let Some(unique) = unique {
        shared.numbered.keep(unique);
    }
    Ok(answer)
}

fn totals(snapshot: &Snapshot<'_>, filter: &Filter, mut unique: Option<&mut Numbering>) -> Result<Totals, QueryError> {
    let others = unique.as_ref().map(|numbering| numbering.field);
    let fields = fields(filter, others.as_slice());
    let wanted = Wanted {
        fields: &fields,
        times: !filter.terms.is_empty(),
        numbers: false,
    };
    let (range, mut sums, mut all) = (Range::from_filter(filter), Sums::default(), DistinctSet::default());
    snapshot.blocks(&wanted, range, &mut |block| {
        let rows = select(block, &filter.terms, range);
        sums.add(block, &rows);
        if let Some(numbering) = unique.as_deref_mut()
            && let Some(column) = block.column(numbering.field)
        {
            numbering.begin(block, column);
            for row in &rows {
                for code in column.codes(*row as usize) {
                    all.add(numbering.number(column, *code));
                }
            }
        }
        Ok(())
    })?;
    Ok(sums.totals(unique.map(|_| all.count())))
}

/// The uniques of each class, counted in the same go as everything else: there are few classes.
#[derive(Default)]
struct OfClasses {
    places: ByHash<usize>,
    different: Vec<DistinctSet>,
    /// The index of each code of the current block.
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
                self.different.push(DistinctSet::default());
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

fn count(
    snapshot: &Snapshot<'_>,
    question: &Query,
    mut unique: Option<&mut Numbering>,
) -> Result<QueryResult, QueryError> {
    let filter = &question.filter;
    let class = declared_field(CLASS);
    let others = [&[class][..], &question.by, question.unique.as_slice()].concat();
    let fields = fields(filter, &others);
    let wanted = Wanted {
        fields: &fields,
        times: question.series.is_some() || !filter.terms.is_empty(),
        numbers: false,
    };
    let range = Range::from_filter(filter);
    let points = |series: &crate::query::SeriesQuery| {
        Ok::<_, QueryError>(Points::new(Clock::new(&series.zone)?, series.interval))
    };
    let mut points = question.series.as_ref().map(points).transpose()?;
    let (mut sums, mut all) = (Sums::default(), DistinctSet::default());
    let (mut classes, mut of_classes) = (Counts::default(), OfClasses::default());
    let mut counts: Vec<Counts> = question.by.iter().map(|_| Counts::default()).collect();
    snapshot.blocks(&wanted, range, &mut |block| {
        let rows = select(block, &filter.terms, range);
        sums.add(block, &rows);
        let mut numbered = unique.as_deref_mut().and_then(|numbering| {
            let column = block.column(numbering.field)?;
            numbering.begin(block, column);
            Some((column, numbering))
        });
        let of_class = block.column(class);
        if numbered.is_some()
            && let Some(of_class) = of_class
        {
            of_classes.begin(of_class);
        }
        if points.is_some() || numbered.is_some() {
            for row in &rows {
                let row = *row as usize;
                let mut point = points.as_mut().map(|points| points.add(block.times[row]));
                let Some((column, numbering)) = &mut numbered else {
                    continue;
                };
                for code in column.codes(row) {
                    let number = numbering.number(column, *code);
                    all.add(number);
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
    let counted = unique.is_some();
    if let Some(unique) = unique {
        of_classes.count(&mut classes);
        count_uniques(snapshot, question, unique, &mut listings)?;
    }
    let plain = |groups: Vec<(u64, Group)>| groups.into_iter().map(|(_, group)| group).collect();
    let listing = |(field, groups): (&&'static Field, _)| Listing {
        field: field.name,
        values: plain(groups),
    };
    Ok(QueryResult {
        totals: sums.totals(counted.then(|| all.count())),
        classes: plain(classes),
        previous: None,
        series: points.map(|points| points.finish(range, counted)).transpose()?,
        by: question.by.iter().zip(listings).map(listing).collect(),
    })
}

/// Counts the uniques of the values that are listed, now that it is known which these are.
fn count_uniques(
    snapshot: &Snapshot<'_>,
    question: &Query,
    numbering: &mut Numbering,
    listings: &mut [Vec<(u64, Group)>],
) -> Result<(), QueryError> {
    if listings.iter().all(Vec::is_empty) {
        return Ok(());
    }
    let range = Range::from_filter(&question.filter);
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
    let mut different: Vec<Vec<DistinctSet>> = listings
        .iter()
        .map(|groups| vec![DistinctSet::default(); groups.len()])
        .collect();
    let others = [&question.by[..], &[numbering.field]].concat();
    let fields = fields(&question.filter, &others);
    let wanted = Wanted {
        fields: &fields,
        times: false,
        numbers: false,
    };
    snapshot.blocks(&wanted, range, &mut |block| {
        let Some(column) = block.column(numbering.field) else {
            return Ok(());
        };
        numbering.begin(block, column);
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
pub(super) fn count_events(connection: &Connection, tail: &Tail, filter: &Filter) -> Result<u64, QueryError> {
    let Range(from, to) = Range::from_filter(filter);
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
