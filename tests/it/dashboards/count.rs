//! An independent count: what a visualization must show, told from the events in memory, held against a server's answer.

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
use serde_json::Value;

use super::check::inner;
use super::events::{Stored, values};
use super::kql;
use super::search::{Range, query};

/// The events that an object means.
pub fn meant<'a>(object: &Value, events: &'a [Stored], range: Range) -> Vec<&'a Value> {
    let query = query(object);
    let within = |event: &&Value| {
        let time = millis(event["@timestamp"].as_str().expect("every event has a time"));
        (range.from.timestamp_millis()..=range.to.timestamp_millis()).contains(&time) && query.holds(event)
    };
    events.iter().map(|(_, event)| event).filter(within).collect()
}

fn millis(time: &str) -> i64 {
    DateTime::parse_from_rfc3339(time).expect("a time").timestamp_millis()
}

/// Holds an answer against the events, and says how many buckets, at every level, it had.
pub fn verify(object: &Value, events: &[Stored], range: Range, answer: &Value) -> Result<usize, String> {
    let state = inner(object, "/attributes/visState").ok_or("no visState")?;
    let aggs = state["aggs"].as_array().ok_or("no aggregations")?;
    let events = meant(object, events, range);
    let total = &answer["hits"]["total"]["value"];
    if *total != events.len() {
        return Err(format!("{total} hits, and {} events are meant", events.len()));
    }
    let (metrics, buckets): (Vec<_>, Vec<_>) = aggs.iter().partition(|agg| agg["schema"] == "metric");
    let empty = Value::Null;
    let found = answer.get("aggregations").unwrap_or(&empty);
    level(&buckets, &metrics, &events, range, found)
}

fn level(
    buckets: &[&Value],
    metrics: &[&Value],
    events: &[&Value],
    range: Range,
    found: &Value,
) -> Result<usize, String> {
    let Some((bucket, inner)) = buckets.split_first() else {
        metrics.iter().try_for_each(|metric| number(metric, events, found))?;
        return Ok(usize::from(!events.is_empty()));
    };
    let expected = groups(bucket, events, range);
    let answered = answered(&found[bucket["id"].as_str().unwrap_or_default()]["buckets"]);
    let counts = |counts: Vec<usize>| {
        let mut counts = counts;
        counts.sort_unstable_by(|one, other| other.cmp(one));
        counts
    };
    let size = bucket["params"]["size"]
        .as_u64()
        .and_then(|size| usize::try_from(size).ok());
    let mut wanted = counts(expected.values().map(Vec::len).collect());
    wanted.truncate(size.unwrap_or(usize::MAX));
    let got = counts(answered.iter().map(|(_, bucket)| count(bucket)).collect());
    if wanted != got {
        return Err(format!("{bucket}: expected {wanted:?}, got {got:?}"));
    }
    let mut all = 0;
    for (key, node) in answered {
        let events = expected
            .get(&key)
            .ok_or_else(|| format!("{bucket}: nothing is called {key}"))?;
        if count(node) != events.len() {
            return Err(format!("{bucket}: {} of {key}, expected {}", count(node), events.len()));
        }
        all += level(inner, metrics, events, range, node)?;
    }
    Ok(all)
}

fn count(bucket: &Value) -> usize {
    bucket["doc_count"]
        .as_u64()
        .and_then(|count| usize::try_from(count).ok())
        .expect("a bucket has a count")
}

/// The buckets of an answer by their keys.
fn answered(buckets: &Value) -> Vec<(String, &Value)> {
    let text = |key: &Value| key.as_str().map_or_else(|| key.to_string(), ToOwned::to_owned);
    match buckets {
        Value::Array(buckets) => buckets.iter().map(|bucket| (text(&bucket["key"]), bucket)).collect(),
        Value::Object(buckets) => buckets.iter().map(|(key, bucket)| (key.clone(), bucket)).collect(),
        _ => Vec::new(),
    }
}

fn groups<'a>(bucket: &Value, events: &[&'a Value], range: Range) -> BTreeMap<String, Vec<&'a Value>> {
    let params = &bucket["params"];
    let field = params["field"].as_str().unwrap_or_default();
    let mut groups: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    if bucket["type"] == "filters" {
        for filter in params["filters"].as_array().into_iter().flatten() {
            let query = kql::parse(filter["input"]["query"].as_str().unwrap_or_default()).expect("it has been checked");
            let label = filter["label"].as_str().unwrap_or_default().to_owned();
            groups.insert(
                label,
                events.iter().copied().filter(|event| query.holds(event)).collect(),
            );
        }
        return groups;
    }
    for event in events {
        for key in keys(bucket, &values(event, field), range) {
            groups.entry(key).or_default().push(event);
        }
    }
    groups
}

fn keys(bucket: &Value, values: &BTreeSet<String>, range: Range) -> Vec<String> {
    if bucket["type"] == "date_histogram" {
        let step = range.step().num_milliseconds();
        return values
            .iter()
            .map(|time| (millis(time).div_euclid(step) * step).to_string())
            .collect();
    }
    if values.is_empty() && bucket["params"]["missingBucket"] == true {
        return vec!["__missing__".to_owned()];
    }
    values.iter().cloned().collect()
}

fn number(metric: &Value, events: &[&Value], found: &Value) -> Result<(), String> {
    let field = metric["params"]["field"].as_str().unwrap_or_default();
    let values: BTreeSet<String> = events.iter().flat_map(|event| values(event, field)).collect();
    let times = || values.iter().map(|time| millis(time));
    let expected = match metric["type"].as_str().unwrap_or_default() {
        "count" => return Ok(()),
        "cardinality" => i64::try_from(values.len()).ok(),
        "min" => times().min(),
        "max" => times().max(),
        other => return Err(format!("{other} is not counted here")),
    };
    let got = &found[metric["id"].as_str().unwrap_or_default()]["value"];
    #[allow(
        clippy::cast_possible_truncation,
        reason = "milliseconds since 1970 and counts are far below 2^53"
    )]
    let got = got.as_f64().map(|number| number as i64);
    // HyperLogLog++ takes two different texts for the same now and then, also where it counts nearly exactly.
    let off = if metric["type"] == "cardinality" {
        values.len() as u64 / 500
    } else {
        0
    };
    let near = |(got, expected): (i64, i64)| got.abs_diff(expected) <= off;
    if got == expected || got.zip(expected).is_some_and(near) {
        Ok(())
    } else {
        Err(format!("{metric}: expected {expected:?}, got {got:?}"))
    }
}
