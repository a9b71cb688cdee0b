//! Questions in the query language of OpenSearch and Elasticsearch, and what the answers mean.

use serde_json::{Map, Value, json};

use super::{
    CLASS, Cursor, EventPage, EventQuery, Filter, Group, Listing, MAX_POINTS, ParameterError, Point, Query, QueryError,
    QueryResult, SeriesQuery, Timestamp, Totals, sort, too_many_points, wrong,
};
use crate::hit::event::fields::{Field, Kind};

/// Different values up to which a total of uniques is all but exact: the most that the engines offer.
const EXACT_UNIQUES: u32 = 40_000;

/// The same for each value of a list and each point of a series, of which there are many.
const EXACT_UNIQUES_OF_PARTS: u32 = 3_000;

/// How the engine wants to be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// OpenSearch, and Elasticsearch since 7.2.
    #[default]
    Calendar,
    /// Elasticsearch 6, which knows `interval` only.
    Interval,
}

/// The query of a search for the events that pass a filter.
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
    // With several shards, each is asked for so many more that the sums are right but for very even lists.
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

/// The body of the search that answers a question, but for its comparison.
pub fn body(question: &Query, dialect: Dialect) -> Value {
    let unique = question.unique;
    let mut aggregations = totals(unique);
    aggregations.insert("classes".to_owned(), values(super::declared_field(CLASS), unique, 100));
    if let Some(series) = &question.series {
        let histogram = histogram(series, &question.filter, unique, dialect);
        aggregations.insert("series".to_owned(), histogram);
    }
    for (place, field) in question.by.iter().enumerate() {
        aggregations.insert(format!("by{place}"), values(field, unique, question.limit));
    }
    json!({"size": 0, "track_total_hits": true, "query": query(&question.filter), "aggs": aggregations})
}

/// The body of the search for the period before.
pub fn body_before(question: &Query) -> Value {
    let query = query(&question.filter.before());
    json!({"size": 0, "track_total_hits": true, "query": query, "aggs": totals(question.unique)})
}

/// The body of the search for events; one more than asked for tells whether there are more.
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

/// The body of the search that counts events.
pub fn body_count(filter: &Filter) -> Value {
    json!({"size": 0, "track_total_hits": true, "query": query(filter)})
}

/// What an answer's status and body mean before its parts are read.
///
/// # Errors
///
/// When it is no answer to the question.
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

/// Whether an engine's refusal means that it wants the other dialect.
pub fn wants_interval(status: u16, body: &[u8]) -> bool {
    status == 400 && String::from_utf8_lossy(body).contains("calendar_interval")
}

/// The number of events that were found; Elasticsearch 6 gives a number, later ones an object.
pub fn count(answer: &Value) -> u64 {
    let total = &answer["hits"]["total"];
    total.as_u64().or_else(|| total["value"].as_u64()).unwrap_or_default()
}

/// The totals of an answer.
pub fn read_totals(answer: &Value) -> Totals {
    let aggregations = &answer["aggregations"];
    let time = |name: &str| {
        aggregations[name]["value"]
            .as_f64()
            .map(|time| Timestamp::from_millis(whole(time)))
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
const fn whole(time: f64) -> i64 {
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

/// The answer to a question, but for its comparison.
///
/// # Errors
///
/// When there are too many points.
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
    let listing = |(place, field): (usize, &&'static Field)| Listing {
        field: field.name,
        values: groups(field, &aggregations[format!("by{place}")]),
    };
    Ok(QueryResult {
        totals: read_totals(answer),
        classes: groups(super::declared_field(CLASS), &aggregations["classes"]),
        previous: None,
        series,
        by: question.by.iter().enumerate().map(listing).collect(),
    })
}

/// The events of an answer.
pub fn read_latest(latest: &EventQuery, mut answer: Value) -> EventPage {
    let hits = answer["hits"]["hits"]
        .as_array_mut()
        .map(std::mem::take)
        .unwrap_or_default();
    let more = hits.len() > latest.limit;
    let kept = &hits[..hits.len().min(latest.limit)];
    let place = |hit: &Value| {
        let sort = &hit["sort"];
        Some(Cursor {
            time: sort[0].as_i64()?,
            id: sort[1].as_str()?.to_owned(),
        })
    };
    let next = kept.last().filter(|_| more).and_then(place);
    let events = hits
        .into_iter()
        .take(latest.limit)
        .map(|mut hit| hit["_source"].take())
        .collect();
    EventPage { events, next }
}
