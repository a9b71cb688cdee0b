//! Queries in the query language of OpenSearch and Elasticsearch, and the parsing of their responses.

use serde_json::{Map, Value, json};

use super::{
    CLASS, Cursor, EventPage, EventQuery, Filter, Group, Listing, MAX_POINTS, ParameterError, Point, Query, QueryError,
    QueryResult, SeriesQuery, Timestamp, Totals, sort, too_many_points, wrong,
};
use crate::hit::event::fields::{Field, Kind};

/// The number of different values up to which a total of uniques is nearly exact: the maximum of the engines.
const EXACT_UNIQUES: u32 = 40_000;

/// The corresponding number for each value of a list and each point of a series, of which there are many.
const EXACT_UNIQUES_OF_PARTS: u32 = 3_000;

/// The engine's dialect of the query language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// OpenSearch, and Elasticsearch since 7.2.
    #[default]
    Calendar,
    /// Elasticsearch 6, which supports only `interval`.
    Interval,
}

/// Returns the search query for the events that match a filter.
pub fn query(filter: &Filter) -> Value {
    let mut range = Map::new();
    if let Some(from) = filter.from {
        range.insert("gte".to_owned(), from.timestamp_millis().into());
    }
    if let Some(to) = filter.to {
        range.insert("lt".to_owned(), to.timestamp_millis().into());
    }
    let (mut must, mut must_not) = (Vec::new(), Vec::new());
    if !range.is_empty() {
        must.push(json!({"range": {"date": range}}));
    }
    for term in &filter.terms {
        let clause = json!({"terms": {term.field.name: term.values}});
        if term.not { &mut must_not } else { &mut must }.push(clause);
    }
    json!({"bool": {"filter": must, "must_not": must_not}})
}

fn uniques(unique: &Field, exact: u32) -> Value {
    json!({"cardinality": {"field": unique.name, "precision_threshold": exact}})
}

fn parts(unique: Option<&Field>) -> Value {
    unique.map_or_else(
        || json!({}),
        |unique| json!({"uniques": uniques(unique, EXACT_UNIQUES_OF_PARTS)}),
    )
}

fn totals(unique: Option<&Field>) -> Map<String, Value> {
    let mut aggregations = Map::new();
    if let Some(unique) = unique {
        aggregations.insert("uniques".to_owned(), uniques(unique, EXACT_UNIQUES));
    }
    aggregations.insert("first".to_owned(), json!({"min": {"field": "date"}}));
    aggregations.insert("last".to_owned(), json!({"max": {"field": "date"}}));
    aggregations
}

fn values(field: &Field, unique: Option<&Field>, limit: usize) -> Value {
    // With several shards, each returns so many more values that the sums are right except for very even lists.
    let terms = json!({"field": field.name, "size": limit, "shard_size": limit * 3 + 500});
    json!({"terms": terms, "aggs": parts(unique)})
}

fn histogram(series: &SeriesQuery, filter: &Filter, unique: Option<&Field>, dialect: Dialect) -> Value {
    let width = match dialect {
        Dialect::Calendar => "calendar_interval",
        Dialect::Interval => "interval",
    };
    let mut histogram = json!({
        "field": "date",
        width: series.interval.name(),
        "time_zone": series.zone.name(),
        "min_doc_count": 0,
    });
    if let (Some(from), Some(to)) = (filter.from, filter.to) {
        histogram["extended_bounds"] = json!({"min": from.timestamp_millis(), "max": to.timestamp_millis() - 1});
    }
    json!({"date_histogram": histogram, "aggs": parts(unique)})
}

/// Returns the body of the search for a query, without its comparison.
pub fn body(question: &Query, dialect: Dialect) -> Value {
    let unique = question.unique;
    let mut aggregations = totals(unique);
    aggregations.insert("classes".to_owned(), values(super::declared_field(CLASS), unique, 100));
    if let Some(series) = &question.series {
        let histogram = histogram(series, &question.filter, unique, dialect);
        aggregations.insert("series".to_owned(), histogram);
    }
    for (position, field) in question.by.iter().enumerate() {
        aggregations.insert(format!("by{position}"), values(field, unique, question.limit));
    }
    json!({"size": 0, "track_total_hits": true, "query": query(&question.filter), "aggs": aggregations})
}

/// Returns the body of the search for the previous period.
pub fn body_before(question: &Query) -> Value {
    let query = query(&question.filter.before());
    json!({"size": 0, "track_total_hits": true, "query": query, "aggs": totals(question.unique)})
}

/// Returns the body of the search for events; it requests one more than the limit, to see whether there are more.
pub fn body_latest(latest: &EventQuery) -> Value {
    let order = if latest.oldest_first { "asc" } else { "desc" };
    let sort = |name: &str, kind: &str| json!({name: {"order": order, "unmapped_type": kind}});
    let mut body = json!({
        "size": latest.limit + 1,
        "query": query(&latest.filter),
        "sort": [sort("date", "long"), sort("event.id", "keyword")],
    });
    if let Some(Cursor { time, id }) = &latest.after {
        body["search_after"] = json!([time, id]);
    }
    body
}

/// Returns the body of the search that counts events.
pub fn body_count(filter: &Filter) -> Value {
    json!({"size": 0, "track_total_hits": true, "query": query(filter)})
}

/// Checks that a response reports success, and parses its body.
///
/// # Errors
///
/// A response that reports a failure, or that is not from the engine.
pub fn check_status(status: u16, body: &[u8]) -> Result<Value, QueryError> {
    let text = || String::from_utf8_lossy(&body[..body.len().min(2_000)]).into_owned();
    let unavailable = |reason: String| Err(QueryError::Unavailable(reason));
    if status == 200 {
        let answer: Option<Value> = serde_json::from_slice(body).ok();
        return match answer.filter(|answer| answer.get("hits").is_some()) {
            Some(answer) if answer["timed_out"] == true => unavailable("the index took too long".to_owned()),
            Some(answer) => Ok(answer),
            None => unavailable("the answer is not an index's".to_owned()),
        };
    }
    let text = text();
    let parameter = |name: &str, remedy: &str| -> Result<Value, ParameterError> { wrong(name, remedy) };
    if text.contains("too_many_buckets") || text.contains("Trying to create too many buckets") {
        parameter("interval", &too_many_points())?;
    }
    if text.contains("time_zone") || text.contains("Unknown time-zone") || text.contains("Invalid ID for region") {
        parameter("zone", "there is no such time zone")?;
    }
    if text.contains("ielddata") {
        return Err(QueryError::Unprepared);
    }
    unavailable(format!("the index answered with status {status}"))
}

/// Returns true if an engine's refusal means that it needs the other dialect.
pub fn wants_interval(status: u16, body: &[u8]) -> bool {
    status == 400 && String::from_utf8_lossy(body).contains("calendar_interval")
}

/// Returns the number of events found; Elasticsearch 6 sends a number, later versions an object.
pub fn count(answer: &Value) -> u64 {
    let total = &answer["hits"]["total"];
    total.as_u64().or_else(|| total["value"].as_u64()).unwrap_or_default()
}

/// Parses the totals of a response.
pub fn read_totals(answer: &Value) -> Totals {
    let aggregations = &answer["aggregations"];
    let time = |name: &str| {
        aggregations[name]["value"]
            .as_f64()
            .map(|time| Timestamp::from_millis(to_millis(time)))
    };
    Totals {
        events: count(answer),
        uniques: aggregations["uniques"]["value"].as_u64(),
        first: time("first"),
        last: time("last"),
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "milliseconds of this age are exact in a double"
)]
const fn to_millis(time: f64) -> i64 {
    time as i64
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn buckets(aggregation: &Value) -> impl Iterator<Item = &Value> {
    aggregation["buckets"].as_array().into_iter().flatten()
}

fn groups(field: &Field, aggregation: &Value) -> Vec<Group> {
    let group = |bucket: &Value| {
        let key = match field.kind {
            Kind::Boolean => &bucket["key_as_string"],
            _ => &bucket["key"],
        };
        Group {
            value: key.as_str().map_or_else(|| key.to_string(), ToOwned::to_owned),
            events: number(&bucket["doc_count"]),
            uniques: bucket["uniques"]["value"].as_u64(),
        }
    };
    let mut groups: Vec<_> = buckets(aggregation).map(group).collect();
    sort(field.kind, &mut groups);
    groups
}

/// Parses the result of a query, without its comparison.
///
/// # Errors
///
/// Too many points.
pub fn read(question: &Query, answer: &Value) -> Result<QueryResult, QueryError> {
    let aggregations = &answer["aggregations"];
    let point = |bucket: &Value| Point {
        start: Timestamp::from_millis(bucket["key"].as_i64().unwrap_or_default()),
        events: number(&bucket["doc_count"]),
        uniques: bucket["uniques"]["value"].as_u64(),
    };
    let series = question
        .series
        .as_ref()
        .map(|_| buckets(&aggregations["series"]).map(point).collect());
    if series
        .as_ref()
        .is_some_and(|points: &Vec<Point>| points.len() > MAX_POINTS)
    {
        return Ok(wrong("interval", too_many_points())?);
    }
    let listing = |(position, field): (usize, &&'static Field)| Listing {
        field: field.name,
        values: groups(field, &aggregations[format!("by{position}")]),
    };
    Ok(QueryResult {
        totals: read_totals(answer),
        classes: groups(super::declared_field(CLASS), &aggregations["classes"]),
        previous: None,
        series,
        by: question.by.iter().enumerate().map(listing).collect(),
    })
}

/// Parses the events of a response.
pub fn read_latest(latest: &EventQuery, mut answer: Value) -> EventPage {
    let hits = answer["hits"]["hits"]
        .as_array_mut()
        .map(std::mem::take)
        .unwrap_or_default();
    let more = hits.len() > latest.limit;
    let kept = &hits[..hits.len().min(latest.limit)];
    let cursor = |hit: &Value| {
        let sort = &hit["sort"];
        Some(Cursor {
            time: sort[0].as_i64()?,
            id: sort[1].as_str()?.to_owned(),
        })
    };
    let next = kept.last().filter(|_| more).and_then(cursor);
    let events = hits
        .into_iter()
        .take(latest.limit)
        .map(|mut hit| hit["_source"].take())
        .collect();
    EventPage { events, next }
}
