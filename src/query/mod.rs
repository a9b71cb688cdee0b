//! The queries about stored events, which are the same for every store.
//!
//! A query is parsed from parameters of a command line or a URL, and is valid from then on. [`elastic`] (OpenSearch and
//! Elasticsearch) and `sqlite` both run it; tests check that both give the same result. Times are in milliseconds;
//! ranges include their begin and exclude their end.

mod answer;
#[cfg(feature = "cli")]
pub mod clock;
pub mod elastic;
mod parameters;
pub mod store;

use std::fmt;
use std::net::IpAddr;

use chrono::{DateTime, Duration, Months, NaiveDate, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use serde_json::Value;

use crate::config::nearest::nearest;
use crate::hit::code::Signature;
use crate::hit::enrich::classify::Class;
use crate::hit::enrich::referrer::Medium;
use crate::hit::enrich::user_agent::Device;
use crate::hit::event::fields::{FIELDS, Field, Kind};
use crate::hit::request::Ingress;
pub use answer::{Group, Listing, Point, QueryResult, Timestamp, Totals, sort};
pub use parameters::Parameters;

/// The maximum number of points of a time series.
pub const MAX_POINTS: usize = 5_000;

/// The maximum number of values of a list.
pub const MAX_VALUES: usize = 1_000;

/// The maximum number of fields that are listed at once.
const MAX_FIELDS: usize = 10;

/// The maximum number of events of a page.
pub const MAX_EVENTS: usize = 1_000;

/// The maximum number of filters.
const MAX_FILTERS: usize = 50;

/// The maximum size of a filter's value.
pub const MAX_VALUE_BYTES: usize = 1024;

/// The default length of a query's period.
pub const DEFAULT_SINCE: Duration = Duration::days(30);

/// An error in a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterError {
    /// The parameter's name.
    pub parameter: String,
    /// The correct form, for the message.
    pub remedy: String,
}

impl fmt::Display for ParameterError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}`: {}", self.parameter, self.remedy)
    }
}

impl std::error::Error for ParameterError {}

/// Returns an error about a parameter.
pub fn wrong<T>(parameter: &str, remedy: impl Into<String>) -> Result<T, ParameterError> {
    Err(ParameterError {
        parameter: parameter.to_owned(),
        remedy: remedy.into(),
    })
}

/// The conditions that an event must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The begin of the period, inclusive.
    pub from: Option<DateTime<Utc>>,
    /// The end of the period, exclusive.
    pub to: Option<DateTime<Utc>>,
    /// The conditions on fields; an event must match all of them.
    pub terms: Vec<Term>,
}

/// A condition: the field has one of these values, or none of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The field, which can be listed.
    pub field: &'static Field,
    /// The values, normalized as in lists.
    pub values: Vec<String>,
    /// True if the field must have none of the values.
    pub not: bool,
}

impl Term {
    fn matches(&self, event: &Value) -> bool {
        let value = self.field.name.split('.').fold(event, |value, name| &value[name]);
        let values = value
            .as_array()
            .map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
        let text = |value: &Value| match value {
            Value::Null => None,
            Value::String(text) => normalize_value(self.field.kind, text),
            other => normalize_value(self.field.kind, &other.to_string()),
        };
        let found = values.iter().filter_map(text).any(|value| self.values.contains(&value));
        found != self.not
    }
}

/// The width of a point of a time series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// 60 seconds.
    Minute,
    /// An hour of the zone's clock.
    Hour,
    /// A day of the zone.
    Day,
    /// A week from Monday, in the zone.
    Week,
    /// A month of the zone.
    Month,
}

impl Interval {
    /// All intervals, with their names.
    pub const ALL: [(&'static str, Self); 5] = [
        ("minute", Self::Minute),
        ("hour", Self::Hour),
        ("day", Self::Day),
        ("week", Self::Week),
        ("month", Self::Month),
    ];

    /// Returns the interval's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// Returns the shortest duration of such an interval.
    const fn min_duration(self) -> Duration {
        match self {
            Self::Minute => Duration::minutes(1),
            Self::Hour => Duration::hours(1),
            Self::Day => Duration::hours(23),
            Self::Week => Duration::hours(7 * 24 - 1),
            Self::Month => Duration::days(28),
        }
    }
}

/// A time zone's name, as in `Europe/Berlin`, or an offset, as in `+05:30`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(String);

impl Zone {
    /// Returns the zone's name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Parses a name. Only the store checks that the zone exists.
    ///
    /// # Errors
    ///
    /// A text that cannot be a zone's name.
    pub fn parse(text: &str) -> Result<Self, ParameterError> {
        let named = |text: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-' | b'+');
            text.len() <= 64 && text.starts_with(|first: char| first.is_ascii_uppercase()) && text.bytes().all(plain)
        };
        if offset_minutes(text).is_some() || named(text) {
            return Ok(Self(text.to_owned()));
        }
        wrong("zone", "give a time zone, as in `Europe/Berlin`, `UTC` or `+05:30`")
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self("UTC".to_owned())
    }
}

/// Returns the minutes of `+05:30`, less than 18 hours in either direction.
pub fn offset_minutes(text: &str) -> Option<i32> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<i32>().ok()).flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours < 18 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

/// The query for a time series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesQuery {
    /// The width of a point.
    pub interval: Interval,
    /// The time zone of the points.
    pub zone: Zone,
}

/// A query for numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The events to count.
    pub filter: Filter,
    /// The field whose different values are counted, which takes most of the time; none to omit them.
    pub unique: Option<&'static Field>,
    /// True if the totals of the previous period of the same length are also wanted.
    pub compare: bool,
    /// The time series, if one is wanted.
    pub series: Option<SeriesQuery>,
    /// The fields whose most frequent values are listed.
    pub by: Vec<&'static Field>,
    /// The maximum number of values of each list.
    pub limit: usize,
}

/// A query for events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventQuery {
    /// The events to return.
    pub filter: Filter,
    /// The maximum number of events.
    pub limit: usize,
    /// The position in the order after which the page begins.
    pub after: Option<Cursor>,
    /// True if the oldest event comes first, not the latest.
    pub oldest_first: bool,
}

/// A page of events, and the cursor of the next page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventPage {
    /// The documents.
    pub events: Vec<Value>,
    /// The position of the last event, if there are more.
    pub next: Option<Cursor>,
}

/// The characters of an id that a URL must encode. The usual ids contain none of them.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The position of an event in the order by time and id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The time in milliseconds since 1970.
    pub time: i64,
    /// The event's id.
    pub id: String,
}

impl Cursor {
    /// Parses the output of [`Cursor`]'s `Display`.
    ///
    /// # Errors
    ///
    /// A text that is not a cursor.
    pub fn parse(parameter: &str, text: &str) -> Result<Self, ParameterError> {
        let read = || {
            let (time, id) = text.split_once('~')?;
            let id = percent_encoding::percent_decode_str(id).decode_utf8().ok()?;
            let time = time
                .parse()
                .ok()
                .filter(|time| (0..253_402_300_800_000).contains(time))?;
            let cursor = Self {
                time,
                id: id.into_owned(),
            };
            // Each position has only one valid text.
            ((1..=512).contains(&cursor.id.len()) && cursor.to_string() == text).then_some(cursor)
        };
        read().map_or_else(|| wrong(parameter, "give what `next` of the answer before says"), Ok)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = percent_encoding::utf8_percent_encode(&self.id, RESERVED);
        write!(formatter, "{}~{id}", self.time)
    }
}

/// An error of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryError {
    /// This store does not support the query.
    Parameter(ParameterError),
    /// The store is not available now.
    Unavailable(String),
    /// The index lacks the fields of queries, because nobody has set it up.
    Unprepared,
}

impl fmt::Display for QueryError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parameter(error) => error.fmt(formatter),
            Self::Unavailable(reason) => formatter.write_str(reason),
            Self::Unprepared => {
                formatter.write_str("the index has not the fields that are asked for: run `pixel setup`")
            }
        }
    }
}

impl std::error::Error for QueryError {}

impl From<ParameterError> for QueryError {
    fn from(error: ParameterError) -> Self {
        Self::Parameter(error)
    }
}

/// The value of `unique` that counts no different values.
pub const NO_UNIQUES: &str = "none";

/// The field of a visit's class.
pub const CLASS: &str = "visit.class";

/// The short name of [`PAGE_KEY`] in parameters.
const PAGE: &str = "page";

/// The field that contains a page's host and path.
pub const PAGE_KEY: &str = "page.key";

/// Returns the declared field of a name that the program itself uses.
///
/// # Panics
///
/// If there is no such field.
pub fn declared_field(name: &str) -> &'static Field {
    let found = FIELDS.iter().find(|field| field.name == name);
    found.unwrap_or_else(|| unreachable!("`{name}` is declared in `event::fields`"))
}

/// Returns true if the values of a field can be listed and used in filters.
pub const fn is_listed(kind: Kind) -> bool {
    matches!(kind, Kind::Keyword(_) | Kind::Ip | Kind::Long | Kind::Boolean)
}

/// Returns the fields whose values can be listed.
pub fn listed_fields() -> impl Iterator<Item = &'static Field> {
    FIELDS.iter().filter(|field| is_listed(field.kind))
}

/// Returns the first characters of an arbitrary name, for a message.
fn shorten(name: &str) -> String {
    name.chars().take(60).collect()
}

/// Parses the name of a field whose values can be listed.
///
/// # Errors
///
/// An unknown field, or one whose values cannot be listed.
pub fn parse_field(parameter: &str, name: &str) -> Result<&'static Field, ParameterError> {
    let name = if name == PAGE { PAGE_KEY } else { name };
    let found = FIELDS.iter().find(|field| field.name == name);
    match found {
        Some(field) if is_listed(field.kind) => Ok(field),
        Some(field) => wrong(
            parameter,
            format!(
                "`{}` is of the kind `{}`, whose values are not listed",
                field.name,
                field.kind.name()
            ),
        ),
        None => wrong(
            parameter,
            match nearest(name, listed_fields().map(|field| field.name)) {
                Some(guess) => format!("there is no field `{}`; did you mean `{guess}`?", shorten(name)),
                None => format!(
                    "there is no field `{}`; `pixel stats --fields` and `/v1/api/openapi.json` list them",
                    shorten(name)
                ),
            },
        ),
    }
}

/// Returns all values of a field whose values are a closed set.
pub fn all_values(field: &Field) -> Option<Vec<&'static str>> {
    match field.name {
        CLASS => Some(Class::ALL.map(Class::name).to_vec()),
        "pixel.signature" => Some(Signature::ALL.map(Signature::name).to_vec()),
        "referrer.medium" => Some(Medium::ALL.map(Medium::name).to_vec()),
        "user_agent.device.type" => Some(Device::ALL.map(Device::name).to_vec()),
        "event.ingress" => Some(Ingress::ALL.map(Ingress::name).to_vec()),
        _ => None,
    }
}

/// Returns a field's value as lists show it; none if the field cannot have it, or it is too long to be searched.
pub fn normalize_value(kind: Kind, text: &str) -> Option<String> {
    match kind {
        // An index counts UTF-16 units.
        Kind::Keyword(max) => {
            let fits = text.len() <= max.into() || text.encode_utf16().count() <= max.into();
            fits.then(|| text.to_owned())
        }
        Kind::Ip => text
            .parse::<IpAddr>()
            .ok()
            .map(|address| address.to_canonical().to_string()),
        Kind::Long => text.parse::<i64>().ok().map(|number| number.to_string()),
        Kind::Boolean => matches!(text, "true" | "false").then(|| text.to_owned()),
        Kind::Date | Kind::EpochMillis | Kind::Raw => None,
    }
}

/// Returns the message for a series with too many points.
pub fn too_many_points() -> String {
    format!("that would be more than {MAX_POINTS} points; take a longer interval or a shorter period")
}

impl Filter {
    /// Returns true if an event matches the filter.
    pub fn holds(&self, event: &Value) -> bool {
        let time = event["date"].as_i64().and_then(DateTime::from_timestamp_millis);
        let in_time =
            time.is_none_or(|time| self.from.is_none_or(|from| from <= time) && self.to.is_none_or(|to| time < to));
        in_time && self.terms.iter().all(|term| term.matches(event))
    }

    /// Returns the filter's code, if it has no other condition on fields.
    pub fn only_code(&self) -> Option<&str> {
        match self.terms.as_slice() {
            [
                Term {
                    field,
                    values,
                    not: false,
                },
            ] if field.name == "pixel.code" && values.len() == 1 => values.first().map(String::as_str),
            _ => None,
        }
    }

    /// Returns the filter for the previous period, which has the same length.
    #[must_use]
    pub fn before(&self) -> Self {
        let (Some(from), Some(to)) = (self.from, self.to) else {
            return self.clone();
        };
        Self {
            from: from.checked_sub_signed(to - from),
            to: Some(from),
            terms: self.terms.clone(),
        }
    }
}

/// Returns the first day of the next month.
pub fn next_month(day: NaiveDate) -> NaiveDate {
    day.checked_add_months(Months::new(1)).unwrap_or(NaiveDate::MAX)
}
