//! Deletion of old indices by age. Only indices that the pattern of the destination has made are touched, and never the
//! write index.

use chrono::{DateTime, Days, Months, NaiveDate, Utc};
use serde_json::Value;

use super::server::{ServerError, reason, send_request};
use crate::client::http::Deliverer;
use crate::destination::opensearch::Index;

/// The decision about one index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The index is older than the limit.
    Delete {
        /// The latest possible time of its last event.
        until: DateTime<Utc>,
    },
    /// The index is younger than the limit.
    Keep,
    /// Events are written to it.
    WriteIndex,
    /// The pattern did not make this name.
    Foreign,
}

/// Returns the latest possible time of the last event of an index of this name: the end of its day or month. None when
/// the pattern did not make the name.
pub fn latest_event_time(index: &Index, name: &str) -> Option<DateTime<Utc>> {
    let parsed = parse(&index.pattern, name)?;
    let monthly = !index.pattern.contains("%d") && !index.pattern.contains("%j");
    let next = if monthly {
        parsed.checked_add_months(Months::new(1))?
    } else {
        parsed.checked_add_days(Days::new(1))?
    };
    // The pattern must produce exactly this name again: `events-2024.1.1` is not one of ours.
    let start = parsed.and_hms_opt(0, 0, 0)?.and_utc();
    (index.name(start) == name)
        .then(|| next.and_hms_opt(0, 0, 0).map(|end| end.and_utc()))
        .flatten()
}

fn parse(pattern: &str, name: &str) -> Option<NaiveDate> {
    if !pattern.contains('%') {
        return None;
    }
    // A month has no day to parse.
    let (pattern, name) = if pattern.contains("%d") || pattern.contains("%j") {
        (pattern.to_owned(), name.to_owned())
    } else {
        (format!("{pattern} %d"), format!("{name} 01"))
    };
    NaiveDate::parse_from_str(&name, &pattern).ok()
}

/// Returns true if a rollover made this name: `events-000001`, for a data stream `.ds-events-000001`, and since
/// Elasticsearch 7.11 `.ds-events-2026.03.01-000001`.
fn is_rollover_name(index: &Index, name: &str) -> bool {
    let hidden = name.strip_prefix(".ds-");
    let number = hidden
        .unwrap_or(name)
        .strip_prefix(index.pattern.as_str())
        .and_then(|rest| rest.strip_prefix('-'));
    let number = number.map(|rest| match rest.split_once('-') {
        Some((date, number)) if hidden.is_some() && NaiveDate::parse_from_str(date, "%Y.%m.%d").is_ok() => number,
        _ => rest,
    });
    number.is_some_and(|number| number.len() == 6 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Decides about an index. `last` is the time of its last event, for names without a date.
pub fn decide_fate(
    index: &Index,
    name: &str,
    write_index: bool,
    last: Option<DateTime<Utc>>,
    before: DateTime<Utc>,
) -> Fate {
    let until = match latest_event_time(index, name) {
        Some(end) => Some(end),
        None if is_rollover_name(index, name) => last,
        None => return Fate::Foreign,
    };
    match until {
        _ if write_index => Fate::WriteIndex,
        Some(until) if until <= before => Fate::Delete { until },
        _ => Fate::Keep,
    }
}

/// An index and the decision about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedIndex {
    /// Its name.
    pub name: String,
    /// The number of its events.
    pub events: u64,
    /// The decision.
    pub fate: Fate,
}

/// Lists the indices whose names begin like the destination's, and decides about each.
///
/// # Errors
///
/// [`ServerError`] with a remedy.
pub async fn judge(
    deliverer: &Deliverer,
    before: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Vec<JudgedIndex>, ServerError> {
    let index = &deliverer.target().index;
    let dated = index.pattern.contains('%');
    let wildcard = if dated {
        index.wildcard()
    } else {
        // Hidden indices match a wildcard that begins with a dot.
        format!("{base}*,.ds-{base}-*", base = index.pattern)
    };
    let path = format!("/_cat/indices/{wildcard}?format=json&h=index,docs.count&s=index");
    let listed = expect_ok("GET", &path, send_request(deliverer, "GET", &path, None).await?)?;
    let write = write_indices(deliverer, index, now).await?;
    let mut judged = Vec::new();
    for row in listed.as_array().into_iter().flatten() {
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
        let name = text("index").to_owned();
        // A foreign index may have no times, or be closed.
        let last = if is_rollover_name(index, &name) {
            last_event(deliverer, &name).await?
        } else {
            None
        };
        let fate = decide_fate(index, &name, write.contains(&name), last, before);
        judged.push(JudgedIndex {
            events: text("docs.count").parse().unwrap_or_default(),
            name,
            fate,
        });
    }
    Ok(judged)
}

/// Deletes one index.
///
/// # Errors
///
/// [`ServerError`] with a remedy.
pub async fn delete(deliverer: &Deliverer, name: &str) -> Result<(), ServerError> {
    let path = format!("/{name}");
    expect_ok("DELETE", &path, send_request(deliverer, "DELETE", &path, None).await?).map(|_| ())
}

fn expect_ok(method: &str, path: &str, reply: super::server::Reply) -> Result<Value, ServerError> {
    match reply.status {
        200 => Ok(reply.body),
        404 => Ok(Value::Null),
        status => Err(ServerError::new(format!(
            "`{method} {path}` was answered with status {status}: {}",
            reason(&reply.body)
        ))),
    }
}

/// Returns the indices that are written to now: today's name, the alias's write index, the last one of a data stream.
async fn write_indices(deliverer: &Deliverer, index: &Index, now: DateTime<Utc>) -> Result<Vec<String>, ServerError> {
    if index.pattern.contains('%') {
        return Ok(vec![index.name(now)]);
    }
    let mut found = vec![index.pattern.clone()];
    let aliases = expect_ok(
        "GET",
        "alias",
        send_request(deliverer, "GET", &format!("/_alias/{}", index.pattern), None).await?,
    )?;
    let aliases = aliases.as_object().cloned().unwrap_or_default();
    let only = aliases.len() == 1;
    for (name, body) in aliases {
        let write = body
            .pointer(&format!("/aliases/{}/is_write_index", index.pattern))
            .and_then(Value::as_bool);
        if write.unwrap_or(only) {
            found.push(name);
        }
    }
    let path = format!("/_data_stream/{}", index.pattern);
    let streams = send_request(deliverer, "GET", &path, None).await?;
    let last = streams
        .body
        .pointer("/data_streams/0/indices")
        .and_then(Value::as_array)
        .and_then(|indices| indices.last());
    found.extend(
        last.and_then(|last| last.get("index_name")?.as_str())
            .map(ToOwned::to_owned),
    );
    Ok(found)
}

/// Returns the time of the last event of an index; none when it is empty.
async fn last_event(deliverer: &Deliverer, name: &str) -> Result<Option<DateTime<Utc>>, ServerError> {
    let path = format!("/{name}/_search?size=0");
    let query = serde_json::json!({"aggs": {"last": {"max": {"field": "date"}}}});
    let answer = expect_ok(
        "POST",
        &path,
        send_request(deliverer, "POST", &path, Some(&query)).await?,
    )?;
    let last = answer.pointer("/aggregations/last/value").and_then(Value::as_f64);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the aggregation gives whole milliseconds as a float"
    )]
    Ok(last.and_then(|last| DateTime::from_timestamp_millis(last as i64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(pattern: &str) -> Index {
        Index {
            pattern: pattern.to_owned(),
        }
    }

    #[test]
    fn only_names_that_the_pattern_makes_have_an_end() {
        let ends = [
            ("events-%Y.%m.%d", "events-2026.02.28", Some("2026-03-01T00:00:00Z")),
            ("events-%Y.%m", "events-2026.12", Some("2027-01-01T00:00:00Z")),
            ("events-%Y.%j", "events-2024.366", Some("2025-01-01T00:00:00Z")),
            ("events-%Y.%m.%d", "events-2026.2.8", None),
            ("events-%Y.%m.%d", "events-2026.02.30", None),
            ("events-%Y.%m.%d", "events-2026.02.28-copy", None),
            ("events-%Y.%m.%d", "events-archive", None),
            ("events", "events", None),
        ];
        for (pattern, name, end) in ends {
            let expected = end.map(|end| end.parse::<DateTime<Utc>>().expect("a time"));
            assert_eq!(latest_event_time(&index(pattern), name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_written_to_and_what_is_not_ours_stays() {
        let before: DateTime<Utc> = "2026-03-01T00:00:00Z".parse().expect("a time");
        let old = before - Days::new(1);
        let dated = index("events-%Y.%m.%d");
        let plain = index("events");
        assert_eq!(
            decide_fate(&dated, "events-2026.02.28", false, None, before),
            Fate::Delete { until: before }
        );
        assert_eq!(
            decide_fate(&dated, "events-2026.02.28", true, None, before),
            Fate::WriteIndex
        );
        assert_eq!(
            decide_fate(&dated, "events-2026.03.01", false, None, before),
            Fate::Keep
        );
        assert_eq!(
            decide_fate(&dated, "events-backup", false, Some(old), before),
            Fate::Foreign
        );
        assert_eq!(
            decide_fate(&plain, "events-000001", false, Some(old), before),
            Fate::Delete { until: old }
        );
        assert_eq!(
            decide_fate(&plain, "events-000002", true, Some(old), before),
            Fate::WriteIndex
        );
        assert_eq!(
            decide_fate(&plain, ".ds-events-000001", false, Some(old), before),
            Fate::Delete { until: old }
        );
        assert_eq!(
            decide_fate(&plain, ".ds-events-2026.01.31-000001", false, Some(old), before),
            Fate::Delete { until: old }
        );
        assert_eq!(decide_fate(&plain, "events-000003", false, None, before), Fate::Keep);
        assert_eq!(
            decide_fate(&plain, "events-2026.01.31-000001", false, Some(old), before),
            Fate::Foreign
        );
        assert_eq!(
            decide_fate(&plain, "events-old", false, Some(old), before),
            Fate::Foreign
        );
        assert_eq!(
            decide_fate(&plain, "eventsother-000001", false, Some(old), before),
            Fate::Foreign
        );
    }
}
