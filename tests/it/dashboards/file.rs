//! The same events in a file of `pixel serve`, counted by plain SQL: a third count, beside the server's and the one in memory.

use std::path::Path;

use pixel::hit::event::Event;
use pixel::hit::event::fields::{FIELDS, Kind};
use pixel::hit::outcome::Outcome;
use pixel::sqlite::Store;
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

use super::check::inner;
use super::events::Stored;
use super::kql::Query;
use super::search::{Range, query};
use crate::support::matrix::block_on;

/// A file with events.
pub struct File {
    connection: Connection,
    _folder: TempDir,
}

impl File {
    pub fn of(events: &[Stored]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("events.db");
        store(&path, events);
        Self {
            connection: Connection::open(&path).expect("a file"),
            _folder: folder,
        }
    }

    fn number(&self, sql: &str, range: Range) -> usize {
        let between = [range.from.timestamp_millis(), range.to.timestamp_millis()];
        let found = self.connection.query_row(sql, between, |row| row.get::<_, i64>(0));
        let found = found.unwrap_or_else(|error| panic!("{error}: {sql}"));
        usize::try_from(found).expect("a count")
    }

    /// Holds the totals of an answer against the file: the events that are meant, and numbers of different values.
    pub fn verify(&self, object: &Value, range: Range, answer: &Value) -> Result<(), String> {
        let meant = condition(&query(object));
        let total = &answer["hits"]["total"]["value"];
        let stored = self.number(
            &format!("SELECT count(*) FROM events WHERE time BETWEEN ?1 AND ?2 AND {meant}"),
            range,
        );
        if !total.is_null() && *total != stored {
            return Err(format!("{total} hits, and {stored} of them in the file"));
        }
        let state = inner(object, "/attributes/visState").unwrap_or_default();
        let aggs = state["aggs"].as_array().map_or(&[][..], Vec::as_slice);
        if aggs.iter().any(|agg| agg["schema"] != "metric") {
            return Ok(());
        }
        for agg in aggs.iter().filter(|agg| agg["type"] == "cardinality") {
            let field = agg["params"]["field"].as_str().unwrap_or_default();
            let values = format!(
                "SELECT count(DISTINCT value) FROM events, {} WHERE time BETWEEN ?1 AND ?2 AND {meant} AND {}",
                each(field),
                indexed(field)
            );
            let expected = self.number(&values, range);
            let got = &answer["aggregations"][agg["id"].as_str().unwrap_or_default()]["value"];
            let got = got.as_u64().and_then(|got| usize::try_from(got).ok());
            // HyperLogLog++ takes two different texts for the same now and then.
            if got.is_none_or(|got| got.abs_diff(expected) > expected / 500) {
                return Err(format!("{got:?} different {field}, and {expected} of them in the file"));
            }
        }
        Ok(())
    }
}

fn store(path: &Path, events: &[Stored]) {
    let stored = events.iter().map(|(id, document)| Event {
        id: id.clone(),
        time: document["@timestamp"]
            .as_str()
            .expect("a time")
            .parse()
            .expect("a time"),
        document: document.to_string(),
    });
    let store = Store::open(path).expect("a file");
    let outcomes = block_on(store.store_all(stored.collect()));
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Indexed));
    store.close();
}

/// The values of a field, one a row.
fn each(field: &str) -> String {
    format!("json_each(document, '$.{field}')")
}

/// Whether a value is one that an index finds: longer texts it does not.
fn indexed(field: &str) -> String {
    let known = FIELDS.iter().find(|known| known.name == field);
    match known.map(|known| known.kind) {
        Some(Kind::Keyword(most)) => format!("(value IS NOT NULL AND length(value) <= {most})"),
        _ => "value IS NOT NULL".to_owned(),
    }
}

fn some(field: &str, more: &str) -> String {
    format!("EXISTS (SELECT 1 FROM {} WHERE {}{more})", each(field), indexed(field))
}

/// A query as a condition.
fn condition(query: &Query) -> String {
    let all = |parts: &[Query], word: &str| {
        let parts: Vec<_> = parts.iter().map(condition).collect();
        format!("({})", parts.join(word))
    };
    match query {
        Query::All => "1".to_owned(),
        Query::Exists(field) => some(field, ""),
        Query::Is(field, value) => some(
            field,
            &format!(" AND CAST(value AS TEXT) = '{}'", value.replace('\'', "''")),
        ),
        Query::Compare(field, operator, number) => {
            let sign = match *operator {
                "lt" => "<",
                "lte" => "<=",
                "gt" => ">",
                _ => ">=",
            };
            some(field, &format!(" AND value {sign} {number}"))
        }
        Query::Not(inner) => format!("NOT {}", condition(inner)),
        Query::And(parts) => all(parts, " AND "),
        Query::Or(parts) => all(parts, " OR "),
    }
}
