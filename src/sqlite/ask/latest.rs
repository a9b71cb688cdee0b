//! Finds events: by an index where there is one for what is asked, else by their segments.

use rusqlite::{Connection, OptionalExtension, params};

use super::super::tail::{Block, Tail};
use super::blocks::{Packed, Range, Snapshot, Wanted, gaps, packed, read, select};
use super::fields;
use crate::query::{Cursor, EventPage, EventQuery, QueryError};

/// An event that was found: its place in the order, and its document.
type Found = (Cursor, String);

/// Finds events.
pub(crate) fn latest(connection: &Connection, tail: &Tail, latest: &EventQuery) -> Result<EventPage, QueryError> {
    let transaction = connection.unchecked_transaction()?;
    let mut range = Range::from_filter(&latest.filter);
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
    Ok(EventPage {
        events: found.into_iter().map(parse).collect(),
        next,
    })
}

fn by_index(
    connection: &Connection,
    latest: &EventQuery,
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
fn by_segments(snapshot: &Snapshot<'_>, latest: &EventQuery, range: Range) -> Result<Vec<Found>, QueryError> {
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
