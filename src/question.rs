//! What can be asked of the stored events: one set of questions for every store.
//!
//! A question is made of parameters as they come from a command line or a query, and cannot be wrong afterwards. It is
//! answered by [`elastic`] (OpenSearch and Elasticsearch) and by `delivery::sqlite` alike; that both give the same answer is
//! held by tests. Times are milliseconds, ranges include their begin and not their end.

#[cfg(feature = "cli")]
pub mod clock;
pub mod elastic;

use std::fmt;
use std::net::IpAddr;

use chrono::{DateTime, Duration, Months, NaiveDate, NaiveTime, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use serde::Serialize;
use serde_json::Value;

use crate::event::fields::{FIELDS, Field, Kind};
use crate::event::iso;

/// Most points of a time series.
pub const MOST_POINTS: usize = 5_000;

/// Most values of a list, and most fields that are listed at once.
pub const MOST_VALUES: usize = 1_000;
const MOST_FIELDS: usize = 10;

/// Most events of one page.
pub const MOST_EVENTS: usize = 1_000;

/// Most filters.
const MOST_FILTERS: usize = 50;

/// The longest value of a filter in bytes.
pub const VALUE_BYTES: usize = 1024;

/// How far back a question looks when it does not say.
pub const DEFAULT_SINCE: Duration = Duration::days(30);

/// A parameter that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterError {
    /// Which.
    pub parameter: String,
    /// What would be right.
    pub remedy: String,
}

impl fmt::Display for ParameterError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}`: {}", self.parameter, self.remedy)
    }
}

impl std::error::Error for ParameterError {}

/// An error about a parameter.
pub fn wrong<T>(parameter: &str, remedy: impl Into<String>) -> Result<T, ParameterError> {
    Err(ParameterError {
        parameter: parameter.to_owned(),
        remedy: remedy.into(),
    })
}

/// Which events a question is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Not before this.
    pub from: Option<DateTime<Utc>>,
    /// Before this.
    pub to: Option<DateTime<Utc>>,
    /// All of these hold.
    pub terms: Vec<Term>,
}

/// A field has one of these values, or none of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The field; one that can be listed.
    pub field: &'static Field,
    /// The values in the form in which they are listed.
    pub values: Vec<String>,
    /// Whether it must have none of them.
    pub not: bool,
}

impl Term {
    fn holds(&self, event: &Value) -> bool {
        let value = self.field.name.split('.').fold(event, |value, name| &value[name]);
        let values = value
            .as_array()
            .map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
        let text = |value: &Value| match value {
            Value::Null => None,
            Value::String(text) => normal(self.field.kind, text),
            other => normal(self.field.kind, &other.to_string()),
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
    /// From Monday on.
    Week,
    /// A month of the zone.
    Month,
}

impl Interval {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 5] = [
        ("minute", Self::Minute),
        ("hour", Self::Hour),
        ("day", Self::Day),
        ("week", Self::Week),
        ("month", Self::Month),
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// The shortest that one can be.
    const fn least(self) -> Duration {
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
    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Reads a name. Whether there is such a zone, the store knows.
    ///
    /// # Errors
    ///
    /// When it cannot be one.
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

/// The minutes of `+05:30`, less than 18 hours either way.
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

/// The points of a time series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// How wide a point is.
    pub interval: Interval,
    /// By whose clock.
    pub zone: Zone,
}

/// What is to be counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Of which events.
    pub filter: Filter,
    /// The field whose different values are counted as uniques, which takes most of the time; none where they are not wanted.
    pub unique: Option<&'static Field>,
    /// Whether the same is asked of the period before, which is as long.
    pub compare: bool,
    /// The time series, when there is to be one.
    pub series: Option<Series>,
    /// The fields whose most frequent values are listed.
    pub by: Vec<&'static Field>,
    /// Most values of each.
    pub limit: usize,
}

/// Which events are to be given, in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latest {
    /// Of which events.
    pub filter: Filter,
    /// Most of them.
    pub limit: usize,
    /// Only those that come after this place in the order.
    pub after: Option<Cursor>,
    /// Whether the oldest comes first, and not the latest.
    pub oldest_first: bool,
}

/// Events, and where the next page begins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The documents.
    pub events: Vec<Value>,
    /// The place of the last one, when there are more.
    pub next: Option<Cursor>,
}

/// What of an id would have to be encoded in a URL. An id of the usual forms stands in one as it is.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The place of an event among others: by time, then by id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// Milliseconds since 1970.
    pub time: i64,
    /// The event's id.
    pub id: String,
}

impl Cursor {
    /// Reads what [`Cursor`] displays.
    ///
    /// # Errors
    ///
    /// When it is none.
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
            // Each place has one text.
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

/// How many events, and of how many different.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Events.
    pub events: u64,
    /// Different values of the question's unique field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uniques: Option<u64>,
    /// The time of the first event.
    pub first: Option<Moment>,
    /// The time of the last event.
    pub last: Option<Moment>,
}

/// A value of a field, and the events that have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The value.
    pub value: String,
    /// Events.
    pub events: u64,
    /// Different values of the question's unique field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uniques: Option<u64>,
}

/// A point of a time series.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    /// When it begins.
    pub start: Moment,
    /// Events.
    pub events: u64,
    /// Different values of the question's unique field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uniques: Option<u64>,
}

/// A time, written as ISO 8601 with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub DateTime<Utc>);

impl Moment {
    /// A time in milliseconds since 1970.
    pub fn of_millis(milliseconds: i64) -> Self {
        Self(DateTime::from_timestamp_millis(milliseconds).unwrap_or_default())
    }
}

impl Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&iso(self.0))
    }
}

/// The values of one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// The field's name.
    pub field: &'static str,
    /// The most frequent first; of equally frequent ones the smallest.
    pub values: Vec<Group>,
}

/// What a [`Question`] is answered with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Of all events.
    pub totals: Totals,
    /// Of each class of visit.
    pub classes: Vec<Group>,
    /// Of the period before, when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Totals>,
    /// Without gaps, when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<Vec<Point>>,
    /// In the order in which they were asked for.
    pub by: Vec<Listing>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskError {
    /// The question cannot be answered by this store.
    Parameter(ParameterError),
    /// The store cannot be asked now.
    Unavailable(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parameter(error) => error.fmt(formatter),
            Self::Unavailable(reason) => formatter.write_str(reason),
        }
    }
}

impl std::error::Error for AskError {}

impl From<ParameterError> for AskError {
    fn from(error: ParameterError) -> Self {
        Self::Parameter(error)
    }
}

/// In place of the field whose different values are counted: nothing is.
pub const NO_UNIQUES: &str = "none";

/// The class of a visit.
pub const CLASS: &str = "visit.class";

/// The declared field of a name that the program itself uses.
///
/// # Panics
///
/// When there is none.
pub fn known(name: &str) -> &'static Field {
    let found = FIELDS.iter().find(|field| field.name == name);
    found.unwrap_or_else(|| unreachable!("`{name}` is declared in `event::fields`"))
}

/// Whether the values of a field can be listed and asked for.
pub const fn is_listed(kind: Kind) -> bool {
    matches!(kind, Kind::Keyword(_) | Kind::Ip | Kind::Long | Kind::Boolean)
}

/// Reads the name of a field whose values can be listed.
///
/// # Errors
///
/// When there is no such field, or it has no values to list.
pub fn listed(parameter: &str, name: &str) -> Result<&'static Field, ParameterError> {
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
            "there is no such field; `kibana/FIELDS.md` lists them, as in `campaign.source`",
        ),
    }
}

/// The form in which a field's value is listed; none when the field cannot have it, or it is too long to be searched.
pub fn normal(kind: Kind, text: &str) -> Option<String> {
    match kind {
        // An index counts UTF-16 units.
        Kind::Keyword(most) => {
            let fits = text.len() <= most.into() || text.encode_utf16().count() <= most.into();
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

/// What was given, by name and value; names may stand more than once.
#[derive(Clone, Debug)]
pub struct Parameters<'a> {
    given: &'a [(String, String)],
    now: DateTime<Utc>,
}

impl<'a> Parameters<'a> {
    /// The parameters of a question that is asked now.
    pub const fn new(given: &'a [(String, String)], now: DateTime<Utc>) -> Self {
        Self { given, now }
    }

    /// Refuses names that are not known, and those that stand twice although only `filter` and `by` may.
    ///
    /// # Errors
    ///
    /// Naming the first one.
    pub fn only(&self, known: &[&str]) -> Result<(), ParameterError> {
        for (place, (name, value)) in self.given.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return wrong(
                    name,
                    format!("there is no such parameter here; there are {}", known.join(", ")),
                );
            }
            let before = self.given[..place].iter().any(|(earlier, _)| earlier == name);
            if before && !matches!(name.as_str(), "filter" | "by") {
                return wrong(name, "give it once");
            }
            if value.contains(char::is_control) {
                return wrong(name, "leave out control characters");
            }
            if value.is_empty() {
                return wrong(name, "give a value, or leave it out");
            }
        }
        Ok(())
    }

    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.given.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn all(&self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.given
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// A whole number from 1.
    ///
    /// # Errors
    ///
    /// When it is none, or too large.
    pub fn number(&self, name: &str, default: usize, most: usize) -> Result<usize, ParameterError> {
        let Some(text) = self.get(name) else { return Ok(default) };
        match text.parse() {
            Ok(number) if (1..=most).contains(&number) && !text.starts_with('+') => Ok(number),
            _ => wrong(name, format!("give a whole number from 1 to {most}")),
        }
    }

    /// True or false.
    fn flag(&self, name: &str) -> Result<bool, ParameterError> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => wrong(name, "give `true` or `false`"),
        }
    }

    fn time(&self, name: &str) -> Result<Option<DateTime<Utc>>, ParameterError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").map(|day| day.and_time(NaiveTime::MIN).and_utc());
        let time = day.or_else(|_| DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()));
        let time = time
            .ok()
            .filter(|time| (0..253_402_300_800).contains(&time.timestamp()));
        match time {
            Some(time) => Ok(Some(time)),
            None => wrong(
                name,
                "give a day or an RFC 3339 time, as in `2026-03-01` or `2026-03-01T09:30:00Z`",
            ),
        }
    }

    /// The period: `from` and `to`, or `since` so long ago; `default` when neither is given.
    fn period(&self, default: Option<Duration>) -> Result<[Option<DateTime<Utc>>; 2], ParameterError> {
        let (mut from, to) = (self.time("from")?, self.time("to")?);
        if let Some(text) = self.get("since") {
            if from.is_some() {
                return wrong("since", "give `from` or `since`, not both");
            }
            from = match text {
                "all" => None,
                _ => Some(self.ago(text, to)?),
            };
        } else if from.is_none() {
            from = default.and_then(|default| to.unwrap_or(self.now).checked_sub_signed(default));
        }
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            return wrong("to", "it must be after `from`");
        }
        Ok([from, to])
    }

    /// `7d`, `24h`, `30m`, `2w` before the end of the period.
    fn ago(&self, text: &str, to: Option<DateTime<Utc>>) -> Result<DateTime<Utc>, ParameterError> {
        let read = || {
            let unit = text.chars().last()?;
            let number: i64 = text
                .strip_suffix(unit)?
                .parse()
                .ok()
                .filter(|number| (1..=1_000_000).contains(number))?;
            let duration = match unit {
                'm' => Duration::try_minutes(number),
                'h' => Duration::try_hours(number),
                'd' => Duration::try_days(number),
                'w' => Duration::try_weeks(number),
                _ => None,
            }?;
            let begin = to.unwrap_or(self.now).checked_sub_signed(duration)?;
            (begin.timestamp() >= 0).then_some(begin)
        };
        read().map_or_else(
            || {
                wrong(
                    "since",
                    "give minutes, hours, days or weeks, as in `30m`, `24h`, `7d`, `2w`, or `all`",
                )
            },
            Ok,
        )
    }

    fn terms(&self) -> Result<Vec<Term>, ParameterError> {
        let class = self.get("class").map(|class| ("class", format!("{CLASS}={class}")));
        let filters = self.all("filter").map(|text| ("filter", text.to_owned()));
        let mut terms: Vec<Term> = Vec::new();
        for (count, (parameter, text)) in class.into_iter().chain(filters).enumerate() {
            let Some((name, value)) = text.split_once('=') else {
                return wrong(
                    parameter,
                    "give `FIELD=VALUE` or `FIELD!=VALUE`, as in `campaign.source=mail`",
                );
            };
            if count >= MOST_FILTERS || value.len() > VALUE_BYTES {
                return wrong(
                    parameter,
                    format!("give at most {MOST_FILTERS}, each of at most {VALUE_BYTES} bytes"),
                );
            }
            let (name, not) = name.strip_suffix('!').map_or((name, false), |name| (name, true));
            let field = listed(parameter, name)?;
            let value = match normal(field.kind, value) {
                Some(value) => value,
                // So long a value is in no list, so no event has it.
                None if matches!(field.kind, Kind::Keyword(_)) => value.to_owned(),
                None => return wrong(parameter, format!("`{name}` is of the kind `{}`", field.kind.name())),
            };
            match terms.iter_mut().find(|term| term.field == field && term.not == not) {
                Some(term) => term.values.push(value),
                None => terms.push(Term {
                    field,
                    values: vec![value],
                    not,
                }),
            }
        }
        Ok(terms)
    }

    /// The filter of a question.
    ///
    /// # Errors
    ///
    /// Naming the parameter that is wrong.
    pub fn filter(&self, default: Option<Duration>) -> Result<Filter, ParameterError> {
        let [from, to] = self.period(default)?;
        Ok(Filter {
            from,
            to,
            terms: self.terms()?,
        })
    }

    /// The names of a [`Question`]'s parameters.
    pub const QUESTION: [&'static str; 11] = [
        "from", "to", "since", "class", "filter", "unique", "compare", "interval", "zone", "by", "limit",
    ];

    /// A question.
    ///
    /// # Errors
    ///
    /// Naming the parameter that is wrong.
    pub fn question(&self) -> Result<Question, ParameterError> {
        self.only(&Self::QUESTION)?;
        let mut filter = self.filter(Some(DEFAULT_SINCE))?;
        let compare = self.flag("compare")?;
        if compare {
            if filter.from.is_none() {
                return wrong("compare", "give a period: all the time has nothing before it");
            }
            filter.to = filter.to.or(Some(self.now));
        }
        let unique = match self.get("unique") {
            None => Some(known("visitor.id")),
            Some(NO_UNIQUES) => None,
            Some(name) => Some(listed("unique", name)?),
        };
        let mut by = Vec::new();
        for name in self
            .all("by")
            .flat_map(|names| names.split(','))
            .filter(|name| !name.is_empty())
        {
            let field = listed("by", name)?;
            if !by.contains(&field) {
                by.push(field);
            }
        }
        if by.len() > MOST_FIELDS {
            return wrong("by", format!("give at most {MOST_FIELDS} fields"));
        }
        Ok(Question {
            series: self.series(&filter)?,
            limit: self.number("limit", 10, MOST_VALUES)?,
            filter,
            unique,
            compare,
            by,
        })
    }

    fn series(&self, filter: &Filter) -> Result<Option<Series>, ParameterError> {
        let zone = self.get("zone").map(Zone::parse).transpose()?;
        let Some(name) = self.get("interval") else {
            return if zone.is_some() {
                wrong("zone", "it belongs to `interval`")
            } else {
                Ok(None)
            };
        };
        let Some((_, interval)) = Interval::ALL.into_iter().find(|(known, _)| *known == name) else {
            return wrong("interval", "give `minute`, `hour`, `day`, `week` or `month`");
        };
        if let Some(from) = filter.from {
            let points = (filter.to.unwrap_or(self.now) - from).num_seconds() / interval.least().num_seconds();
            if usize::try_from(points).unwrap_or(0) > MOST_POINTS {
                return wrong("interval", too_many_points());
            }
        }
        let zone = zone.unwrap_or_default();
        Ok(Some(Series { interval, zone }))
    }

    /// The names of [`Latest`]'s parameters.
    pub const LATEST: [&'static str; 7] = ["from", "to", "since", "class", "filter", "limit", "after"];

    /// A question for events.
    ///
    /// # Errors
    ///
    /// Naming the parameter that is wrong.
    pub fn latest(&self) -> Result<Latest, ParameterError> {
        self.only(&Self::LATEST)?;
        Ok(Latest {
            filter: self.filter(None)?,
            limit: self.number("limit", 50, MOST_EVENTS)?,
            after: self.get("after").map(|text| Cursor::parse("after", text)).transpose()?,
            oldest_first: false,
        })
    }
}

/// What is said of a series with too many points.
pub fn too_many_points() -> String {
    format!("that would be more than {MOST_POINTS} points; take a longer interval or a shorter period")
}

impl Filter {
    /// Whether an event passes.
    pub fn holds(&self, event: &Value) -> bool {
        let time = event["date"].as_i64().and_then(DateTime::from_timestamp_millis);
        let in_time =
            time.is_none_or(|time| self.from.is_none_or(|from| from <= time) && self.to.is_none_or(|to| time < to));
        in_time && self.terms.iter().all(|term| term.holds(event))
    }

    /// The code that it asks for, when it asks for no other value.
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

    /// The same of the period before, which is as long.
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

/// The next begin of a month.
pub fn next_month(day: NaiveDate) -> NaiveDate {
    day.checked_add_months(Months::new(1)).unwrap_or(NaiveDate::MAX)
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

/// Addresses are ordered as those of IPv6.
fn address(text: &str) -> Option<[u8; 16]> {
    let address: IpAddr = text.parse().ok()?;
    Some(match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    })
}
