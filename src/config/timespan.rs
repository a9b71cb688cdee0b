//! Durations and moments as people write them: one grammar for every option, variable and query parameter.
//!
//! A duration is a whole number and a unit: `m` (minutes), `h`, `d`, `w`, `mo` (30 days) or `y` (365 days); a number
//! alone is days. A moment is `now`, `today`, `yesterday`, a day as in `2026-03-01` or an RFC 3339 time; days begin at
//! midnight UTC.

use chrono::{DateTime, Duration, NaiveDate, NaiveTime, Utc};

/// The longest duration in days: a hundred years.
pub const MAX_DAYS: u32 = 36_500;

/// The correct forms of a duration, for messages.
pub const DURATION_FORMS: &str = "`30m`, `24h`, `7d`, `2w`, `3mo` or `1y` (a number alone is days)";

/// The correct forms of a moment, for messages.
pub const MOMENT_FORMS: &str = "`today`, `yesterday`, `2026-03-01` or `2026-03-01T09:30:00Z`";

/// The units with their length in minutes.
const UNITS: [(&str, i64); 6] = [
    ("mo", 30 * 24 * 60),
    ("m", 1),
    ("h", 60),
    ("d", 24 * 60),
    ("w", 7 * 24 * 60),
    ("y", 365 * 24 * 60),
];

/// Parses a duration of at least a minute and at most [`MAX_DAYS`].
///
/// ```
/// use chrono::Duration;
/// use pixel::config::timespan::parse_duration;
/// assert_eq!(parse_duration("7"), Some(Duration::days(7)));
/// assert_eq!(parse_duration("3mo"), Some(Duration::days(90)));
/// assert_eq!(parse_duration("3m"), Some(Duration::minutes(3)));
/// assert_eq!(parse_duration("0d"), None);
/// ```
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|next: char| !next.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = if unit.is_empty() { "d" } else { unit };
    let (_, minutes) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    let minutes = number.parse::<i64>().ok()?.checked_mul(minutes)?;
    let max_minutes = i64::from(MAX_DAYS) * 24 * 60;
    (1..=max_minutes).contains(&minutes).then(|| Duration::minutes(minutes))
}

/// Parses a duration of whole days.
///
/// # Errors
///
/// A message with the correct forms.
///
/// ```
/// use pixel::config::timespan::parse_days;
/// assert_eq!(parse_days("1y"), Ok(365));
/// assert!(parse_days("3m").unwrap_err().contains("`3mo`"));
/// ```
pub fn parse_days(text: &str) -> Result<u32, String> {
    let example = "give a number of days from 1 to 36500, as in `90d`, `12w`, `3mo` or `1y`";
    let Some(duration) = parse_duration(text) else {
        return Err(example.to_owned());
    };
    let days = u32::try_from(duration.num_days()).unwrap_or(0);
    if Duration::days(days.into()) == duration {
        return Ok(days);
    }
    Err(match text.strip_suffix('m') {
        Some(number) => format!("`{text}` is minutes; for months write `{number}mo`"),
        None => example.to_owned(),
    })
}

/// Parses a moment. `now` is the present.
pub fn parse_moment(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let begin = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc();
    match text {
        "now" => Some(now),
        "today" => Some(begin(now.date_naive())),
        "yesterday" => now.date_naive().pred_opt().map(begin),
        _ => NaiveDate::parse_from_str(text, "%Y-%m-%d")
            .map(begin)
            .or_else(|_| DateTime::parse_from_rfc3339(text).map(|moment| moment.to_utc()))
            .ok(),
    }
}

/// Parses the begin of a period: a moment, or a duration before `end`.
pub fn parse_begin(text: &str, end: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    parse_moment(text, now).or_else(|| end.checked_sub_signed(parse_duration(text)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        for (text, minutes) in [
            ("1m", 1),
            ("90m", 90),
            ("24h", 24 * 60),
            ("7", 7 * 24 * 60),
            ("7d", 7 * 24 * 60),
            ("2w", 14 * 24 * 60),
            ("1mo", 30 * 24 * 60),
            ("1y", 365 * 24 * 60),
            ("100y", 36_500 * 24 * 60),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::minutes(minutes)), "{text}");
        }
        for text in [
            "",
            "d",
            "0",
            "0d",
            "-1d",
            "+1d",
            "1.5d",
            "1 d",
            " 1d",
            "1d ",
            "1D",
            "1s",
            "1M",
            "1mon",
            "101y",
            "36501",
            "99999999999999999999d",
            "1d2h",
            "١d",
            "yesterday",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn days_are_whole() {
        for (text, days) in [
            ("90", 90),
            ("90d", 90),
            ("48h", 2),
            ("1440m", 1),
            ("3mo", 90),
            ("1y", 365),
        ] {
            assert_eq!(parse_days(text), Ok(days), "{text}");
        }
        assert_eq!(
            parse_days("3m"),
            Err("`3m` is minutes; for months write `3mo`".to_owned())
        );
        for text in ["25h", "0", "36501d", "x", ""] {
            assert!(parse_days(text).is_err_and(|told| told.contains("36500")), "{text}");
        }
    }

    #[test]
    fn a_moment_is_a_word_a_day_or_a_time() {
        let now = at("2026-03-01T09:30:00Z");
        for (text, moment) in [
            ("now", "2026-03-01T09:30:00Z"),
            ("today", "2026-03-01T00:00:00Z"),
            ("yesterday", "2026-02-28T00:00:00Z"),
            ("2024-02-29", "2024-02-29T00:00:00Z"),
            ("2026-03-01T09:30:00+02:00", "2026-03-01T07:30:00Z"),
        ] {
            assert_eq!(parse_moment(text, now), Some(at(moment)), "{text}");
        }
        for text in [
            "",
            "tomorrow",
            "2026-02-29",
            "2026-3",
            "7d",
            "2026-03-01T09:30:00",
            "Today",
        ] {
            assert_eq!(parse_moment(text, now), None, "{text}");
        }
        let end = at("2026-02-15T00:00:00Z");
        assert_eq!(parse_begin("1w", end, now), Some(at("2026-02-08T00:00:00Z")));
        assert_eq!(parse_begin("yesterday", end, now), Some(at("2026-02-28T00:00:00Z")));
    }

    proptest! {
        /// Every number and unit is parsed as that duration.
        #[test]
        fn durations_are_their_number_times_their_unit(number in 1_u32..40_000, unit in proptest::sample::select(&UNITS[..])) {
            let minutes = i64::from(number) * unit.1;
            let expected = (minutes <= i64::from(MAX_DAYS) * 24 * 60).then(|| Duration::minutes(minutes));
            let text = format!("{number}{}", unit.0);
            prop_assert_eq!(parse_duration(&text), expected);
            if unit.0 == "d" {
                prop_assert_eq!(parse_duration(&number.to_string()), expected);
            }
            prop_assert_eq!(parse_moment(&text, DateTime::UNIX_EPOCH), None);
        }

        /// No text is both a moment and a duration, and none makes the parsers panic.
        #[test]
        fn any_text_has_one_meaning(text in "\\PC{0,24}|[0-9]{1,22}(m|h|d|w|mo|y)?|[0-9-]{1,12}", seconds in 0_i64..4_000_000_000) {
            let now = DateTime::from_timestamp(seconds, 0).unwrap_or_default();
            let (moment, duration) = (parse_moment(&text, now), parse_duration(&text));
            prop_assert!(moment.is_none() || duration.is_none());
            if let Ok(days) = parse_days(&text) {
                prop_assert_eq!(duration, Some(Duration::days(days.into())));
                prop_assert!((1..=MAX_DAYS).contains(&days));
            }
            let begin = parse_begin(&text, now, now);
            prop_assert_eq!(begin.is_some(), moment.is_some() || duration.is_some());
        }

        #[test]
        fn written_times_are_read_again(seconds in 0_i64..4_000_000_000) {
            let time = DateTime::from_timestamp(seconds, 0).unwrap_or_default();
            prop_assert_eq!(parse_moment(&crate::hit::event::format_iso(time), DateTime::UNIX_EPOCH), Some(time));
            let day = time.format("%Y-%m-%d").to_string();
            prop_assert_eq!(parse_moment(&day, DateTime::UNIX_EPOCH).map(|day| day.date_naive()), Some(time.date_naive()));
        }
    }
}
