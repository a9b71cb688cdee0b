//! The results of queries.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::hit::event::fields::Kind;
use crate::hit::event::format_iso;

/// The number of events and of unique values, and the first and last time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// The number of events.
    pub events: u64,
    /// The number of different values of the query's unique field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uniques: Option<u64>,
    /// The time of the first event.
    pub first: Option<Timestamp>,
    /// The time of the last event.
    pub last: Option<Timestamp>,
}

/// A value of a field, and the events that have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The value.
    pub value: String,
    /// The number of events.
    pub events: u64,
    /// The number of different values of the query's unique field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uniques: Option<u64>,
}

/// A point of a time series.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    /// The time of its begin.
    pub start: Timestamp,
    /// The number of events.
    pub events: u64,
    /// The number of different values of the query's unique field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uniques: Option<u64>,
}

/// A time, written as ISO 8601 with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub DateTime<Utc>);

impl Timestamp {
    /// Returns a time from milliseconds since 1970.
    pub fn from_millis(milliseconds: i64) -> Self {
        Self(DateTime::from_timestamp_millis(milliseconds).unwrap_or_default())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_iso(self.0))
    }
}

/// The values of one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// The field's name.
    pub field: &'static str,
    /// The values, the most frequent first; of equally frequent ones the smallest.
    pub values: Vec<Group>,
}

/// The result of a [`Query`](super::Query).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct QueryResult {
    /// The totals of all events.
    pub totals: Totals,
    /// The events of each class of visit.
    pub classes: Vec<Group>,
    /// The totals of the previous period, if the query compares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Totals>,
    /// The points of the series without gaps, if the query has a series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<Vec<Point>>,
    /// The values of each listed field, in the order of the query.
    pub by: Vec<Listing>,
}

/// Orders the values of a field: the most frequent first, of equally frequent ones the smallest.
pub fn sort(kind: Kind, groups: &mut [Group]) {
    groups.sort_by(|left, right| {
        let values = || match kind {
            Kind::Long => left.value.parse::<i64>().ok().cmp(&right.value.parse().ok()),
            Kind::Ip => address(&left.value).cmp(&address(&right.value)),
            _ => left.value.cmp(&right.value),
        };
        right.events.cmp(&left.events).then_with(values)
    });
}

/// Returns an address in its IPv6 form, by which addresses are ordered.
fn address(text: &str) -> Option<[u8; 16]> {
    let address: IpAddr = text.parse().ok()?;
    Some(match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    })
}
