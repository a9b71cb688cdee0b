//! The parsing of queries from names and values.

use chrono::{DateTime, Duration, Utc};

use super::{
    CLASS, Cursor, DEFAULT_SINCE, EventQuery, Filter, Interval, MAX_EVENTS, MAX_FIELDS, MAX_FILTERS, MAX_POINTS,
    MAX_VALUE_BYTES, MAX_VALUES, NO_UNIQUES, ParameterError, Query, SeriesQuery, Term, Zone, all_values,
    declared_field, normalize_value, parse_field, too_many_points, wrong,
};
use crate::config::timespan::{DURATION_FORMS, MOMENT_FORMS, parse_begin, parse_moment};
use crate::hit::event::fields::Kind;

/// The given parameters by name and value; names may occur more than once.
#[derive(Clone, Debug)]
pub struct Parameters<'a> {
    given: &'a [(String, String)],
    now: DateTime<Utc>,
}

impl<'a> Parameters<'a> {
    /// Wraps parameters; `now` is the present.
    pub const fn new(given: &'a [(String, String)], now: DateTime<Utc>) -> Self {
        Self { given, now }
    }

    /// Refuses unknown names, and repeated ones other than `filter` and `by`.
    ///
    /// # Errors
    ///
    /// An error that names the first wrong parameter.
    pub fn only(&self, known: &[&str]) -> Result<(), ParameterError> {
        for (position, (name, value)) in self.given.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return wrong(
                    name,
                    format!("there is no such parameter here; there are {}", known.join(", ")),
                );
            }
            let before = self.given[..position].iter().any(|(earlier, _)| earlier == name);
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

    /// Returns the first value of a name.
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

    /// Parses a whole number of at least 1.
    ///
    /// # Errors
    ///
    /// Another text, or a number above `max`.
    pub fn number(&self, name: &str, default: usize, max: usize) -> Result<usize, ParameterError> {
        let Some(text) = self.get(name) else { return Ok(default) };
        match text.parse() {
            Ok(number) if (1..=max).contains(&number) && !text.starts_with('+') => Ok(number),
            _ => wrong(name, format!("give a whole number from 1 to {max}")),
        }
    }

    /// Parses `true` or `false`.
    fn flag(&self, name: &str) -> Result<bool, ParameterError> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => wrong(name, "give `true` or `false`"),
        }
    }

    fn time(&self, name: &str) -> Result<Option<DateTime<Utc>>, ParameterError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let time = parse_moment(text, self.now).filter(|time| (0..253_402_300_800).contains(&time.timestamp()));
        match time {
            Some(time) => Ok(Some(time)),
            None => wrong(name, format!("give a day or an RFC 3339 time, as in {MOMENT_FORMS}")),
        }
    }

    /// Parses the period: `from` and `to`, or `since`, a duration before the end; `default` if neither is given.
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

    /// Parses a moment, or a duration before the end of the period.
    fn ago(&self, text: &str, to: Option<DateTime<Utc>>) -> Result<DateTime<Utc>, ParameterError> {
        let begin = parse_begin(text, to.unwrap_or(self.now), self.now);
        match begin.filter(|begin| (0..253_402_300_800).contains(&begin.timestamp())) {
            Some(begin) => Ok(begin),
            None => wrong(
                "since",
                format!("give a duration, as in {DURATION_FORMS}, a moment, as in {MOMENT_FORMS}, or `all`"),
            ),
        }
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
            if count >= MAX_FILTERS || value.len() > MAX_VALUE_BYTES {
                return wrong(
                    parameter,
                    format!("give at most {MAX_FILTERS}, each of at most {MAX_VALUE_BYTES} bytes"),
                );
            }
            let (name, not) = name.strip_suffix('!').map_or((name, false), |name| (name, true));
            let field = parse_field(parameter, name)?;
            if let Some(all) = all_values(field)
                && !all.contains(&value)
            {
                return wrong(parameter, format!("`{name}` is one of `{}`", all.join("`, `")));
            }
            let value = match normalize_value(field.kind, value) {
                Some(value) => value,
                // No list contains such a long value, so no event has it.
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

    /// Parses the filter of a query.
    ///
    /// # Errors
    ///
    /// An error that names the wrong parameter.
    pub fn filter(&self, default: Option<Duration>) -> Result<Filter, ParameterError> {
        let [from, to] = self.period(default)?;
        Ok(Filter {
            from,
            to,
            terms: self.terms()?,
        })
    }

    /// The names of a [`Query`]'s parameters.
    pub const QUESTION: [&'static str; 11] = [
        "from", "to", "since", "class", "filter", "unique", "compare", "interval", "zone", "by", "limit",
    ];

    /// Parses a query.
    ///
    /// # Errors
    ///
    /// An error that names the wrong parameter.
    pub fn question(&self) -> Result<Query, ParameterError> {
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
            None => Some(declared_field("visitor.id")),
            Some(NO_UNIQUES) => None,
            Some(name) => Some(parse_field("unique", name)?),
        };
        let mut by = Vec::new();
        for name in self
            .all("by")
            .flat_map(|names| names.split(','))
            .filter(|name| !name.is_empty())
        {
            let field = parse_field("by", name)?;
            if !by.contains(&field) {
                by.push(field);
            }
        }
        if by.len() > MAX_FIELDS {
            return wrong("by", format!("give at most {MAX_FIELDS} fields"));
        }
        Ok(Query {
            series: self.series(&filter)?,
            limit: self.number("limit", 10, MAX_VALUES)?,
            filter,
            unique,
            compare,
            by,
        })
    }

    fn series(&self, filter: &Filter) -> Result<Option<SeriesQuery>, ParameterError> {
        let zone = self.get("zone").map(Zone::parse).transpose()?;
        let Some(name) = self.get("interval") else {
            return if zone.is_some() {
                wrong(
                    "zone",
                    "it needs `interval`, as in `day`; zones look like `Europe/Berlin`",
                )
            } else {
                Ok(None)
            };
        };
        let Some((_, interval)) = Interval::ALL.into_iter().find(|(known, _)| *known == name) else {
            return wrong("interval", "give `minute`, `hour`, `day`, `week` or `month`");
        };
        if let Some(from) = filter.from {
            let points = (filter.to.unwrap_or(self.now) - from).num_seconds() / interval.min_duration().num_seconds();
            if usize::try_from(points).unwrap_or(0) > MAX_POINTS {
                return wrong("interval", too_many_points());
            }
        }
        let zone = zone.unwrap_or_default();
        Ok(Some(SeriesQuery { interval, zone }))
    }

    /// The names of an [`EventQuery`]'s parameters.
    pub const LATEST: [&'static str; 7] = ["from", "to", "since", "class", "filter", "limit", "after"];

    /// Parses a query for events.
    ///
    /// # Errors
    ///
    /// An error that names the wrong parameter.
    pub fn latest(&self) -> Result<EventQuery, ParameterError> {
        self.only(&Self::LATEST)?;
        Ok(EventQuery {
            filter: self.filter(None)?,
            limit: self.number("limit", 50, MAX_EVENTS)?,
            after: self.get("after").map(|text| Cursor::parse("after", text)).transpose()?,
            oldest_first: false,
        })
    }
}
