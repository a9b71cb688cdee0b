//! The begin and end of the points of a time series, in a time zone.

use chrono::{
    DateTime, Datelike, Days, FixedOffset, LocalResult, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone,
};
use chrono_tz::Tz;

use super::{Interval, ParameterError, Zone, next_month, offset_minutes, wrong};
use crate::config::nearest::nearest;

/// A known time zone.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// A fixed offset from UTC.
    Fixed(FixedOffset),
    /// The rules of a place.
    Place(Tz),
}

/// Returns the message for an unknown zone, with the most similar one: `Berlin` is short for `Europe/Berlin`.
fn unknown_zone(name: &str) -> String {
    let names = || chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
    let lower = name.to_ascii_lowercase().replace(' ', "_");
    let is_place = |zone: &&str| {
        zone.rsplit('/')
            .next()
            .is_some_and(|place| place.eq_ignore_ascii_case(&lower))
    };
    match names().find(is_place).or_else(|| nearest(name, names())) {
        Some(guess) => format!("there is no time zone `{name}`; did you mean `{guess}`?"),
        None => format!("there is no time zone `{name}`; zones look like `Europe/Berlin`"),
    }
}

impl Clock {
    /// Returns the clock of a zone.
    ///
    /// # Errors
    ///
    /// A zone that does not exist.
    pub fn new(zone: &Zone) -> Result<Self, ParameterError> {
        if let Some(offset) = offset_minutes(zone.name()).and_then(|minutes| FixedOffset::east_opt(minutes * 60)) {
            return Ok(Self::Fixed(offset));
        }
        match zone.name().parse() {
            Ok(place) => Ok(Self::Place(place)),
            Err(_) => wrong("zone", unknown_zone(zone.name())),
        }
    }

    fn offset(self, time: i64) -> i64 {
        let utc = DateTime::from_timestamp_millis(time).unwrap_or_default().naive_utc();
        let seconds = match self {
            Self::Fixed(offset) => offset.local_minus_utc(),
            Self::Place(place) => place.offset_from_utc_datetime(&utc).fix().local_minus_utc(),
        };
        i64::from(seconds) * 1000
    }

    fn local(self, local: NaiveDateTime) -> Option<i64> {
        fn first<Z: TimeZone>(found: LocalResult<DateTime<Z>>) -> Option<i64> {
            found.earliest().map(|time| time.timestamp_millis())
        }
        match self {
            Self::Fixed(offset) => first(offset.from_local_datetime(&local)),
            Self::Place(place) => first(place.from_local_datetime(&local)),
        }
    }

    /// Returns the first moment of a day, which is not midnight if the clock is put forward then.
    fn begin(self, day: NaiveDate) -> i64 {
        let midnight = day.and_time(chrono::NaiveTime::MIN);
        let mut tries = (0..=24 * 4).map(|quarters| midnight + TimeDelta::minutes(quarters * 15));
        tries
            .find_map(|local| self.local(local))
            .unwrap_or_else(|| midnight.and_utc().timestamp_millis())
    }

    /// Returns the begin and end of the point that contains a time; all in milliseconds since 1970.
    pub fn point(self, interval: Interval, time: i64) -> (i64, i64) {
        let width = match interval {
            Interval::Minute => 60_000,
            Interval::Hour => 3_600_000,
            Interval::Day | Interval::Week | Interval::Month => return self.days(interval, time),
        };
        let start = time - (time + self.offset(time)).rem_euclid(width);
        (start, start + width)
    }

    fn days(self, interval: Interval, time: i64) -> (i64, i64) {
        let local = DateTime::from_timestamp_millis(time + self.offset(time)).unwrap_or_default();
        let day = local.date_naive();
        let (first, next) = match interval {
            Interval::Month => {
                let first = day.with_day(1).unwrap_or(day);
                (first, next_month(first))
            }
            Interval::Week => {
                let monday = day - Days::new(day.weekday().num_days_from_monday().into());
                (monday, monday + Days::new(7))
            }
            _ => (day, day + Days::new(1)),
        };
        (self.begin(first), self.begin(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_point_is_as_long_as_its_day() {
        let at = |text: &str| {
            text.parse::<DateTime<chrono::Utc>>()
                .expect("a time")
                .timestamp_millis()
        };
        for (zone, interval, time, start, end) in [
            (
                "UTC",
                Interval::Week,
                "2026-03-01T09:30:00Z",
                "2026-02-23T00:00:00Z",
                "2026-03-02T00:00:00Z",
            ),
            (
                "+05:30",
                Interval::Hour,
                "2026-03-01T09:45:00Z",
                "2026-03-01T09:30:00Z",
                "2026-03-01T10:30:00Z",
            ),
            (
                "Europe/Berlin",
                Interval::Day,
                "2026-03-29T09:30:00Z",
                "2026-03-28T23:00:00Z",
                "2026-03-29T22:00:00Z",
            ),
            (
                "Europe/Berlin",
                Interval::Month,
                "2026-03-31T22:30:00Z",
                "2026-03-31T22:00:00Z",
                "2026-04-30T22:00:00Z",
            ),
            (
                "Africa/Cairo",
                Interval::Day,
                "2026-04-24T09:30:00Z",
                "2026-04-23T22:00:00Z",
                "2026-04-24T21:00:00Z",
            ),
        ] {
            let clock = Clock::new(&Zone::parse(zone).expect("a name")).expect("a zone");
            assert_eq!(clock.point(interval, at(time)), (at(start), at(end)), "{zone} {time}");
        }
    }

    proptest! {
        #[test]
        fn points_hold_their_times_and_follow_each_other(
            time in 0_i64..4_000_000_000_000, place in proptest::sample::select(&chrono_tz::TZ_VARIANTS[..]),
            interval in proptest::sample::select(&Interval::ALL[2..]),
        ) {
            let clock = Clock::Place(place);
            let (start, end) = clock.point(interval.1, time);
            prop_assert!(start <= time && time < end, "{} {} {}", place, start, end);
            prop_assert_eq!(clock.point(interval.1, end).0, end);
            prop_assert_eq!(clock.point(interval.1, start), (start, end));
        }
    }
}
