//! The errors that a service reports about a signature, and their correction: the clock of the signer is wrong, or the
//! credentials have expired. A request with a rejected signature was not executed, so it may be signed again.

use std::time::{Duration, SystemTime};

use chrono::DateTime;

/// The error in a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureError {
    /// The signature is too early or too late by the service's clock.
    Clock,
    /// The credentials have expired.
    Credentials,
}

/// The error codes of the services, and the texts of their front ends (`Signature expired: 20260528T202640Z is now
/// earlier than 20260528T204141Z`).
const CLOCK: [&str; 5] = [
    "Signature expired",
    "Signature not yet current",
    "RequestTimeTooSkewed",
    "RequestExpired",
    "RequestInTheFuture",
];

const CREDENTIALS: [&str; 3] = [
    "ExpiredToken",
    "security token included in the request is expired",
    "security token included in the request is invalid",
];

impl SignatureError {
    /// Parses a response's error about the signature; none if it reports no such error.
    pub fn parse(status: u16, body: &[u8]) -> Option<Self> {
        if !matches!(status, 400 | 401 | 403) {
            return None;
        }
        // Responses with these codes are short; other refusals may be long.
        let text = String::from_utf8_lossy(&body[..body.len().min(4_096)]);
        let says = |marks: &[&str]| marks.iter().any(|mark| text.contains(mark));
        if says(&CLOCK) {
            Some(Self::Clock)
        } else {
            says(&CREDENTIALS).then_some(Self::Credentials)
        }
    }
}

/// The largest difference of clocks that does not explain a rejected signature; services allow five minutes and more.
const MAX_CLOCK_SKEW: u64 = 60;

/// Returns the seconds by which the service's clock is ahead of ours, from the `Date` header of its response. None
/// without a valid header, or if `known` is already about that.
pub fn clock_offset(date: Option<&str>, now: SystemTime, known: i64) -> Option<i64> {
    let theirs = DateTime::parse_from_rfc2822(date?).ok()?.timestamp();
    let ours = DateTime::<chrono::Utc>::from(now).timestamp();
    let offset = theirs.checked_sub(ours)?;
    (offset.abs_diff(known) >= MAX_CLOCK_SKEW).then_some(offset)
}

/// Converts a time of our clock to the service's.
pub fn correct_time(now: SystemTime, offset: i64) -> SystemTime {
    let by = Duration::from_secs(offset.unsigned_abs());
    let moment = if offset < 0 {
        now.checked_sub(by)
    } else {
        now.checked_add(by)
    };
    moment.unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_of_the_services_are_told_apart() {
        use SignatureError::{Clock, Credentials};
        let table = [
            (
                403,
                r#"{"message":"Signature expired: 20260528T202640Z is now earlier than 20260528T204141Z (20260528T204641Z - 5 min.)"}"#,
                Some(Clock),
            ),
            (
                403,
                r#"{"message":"Signature not yet current: 20260528T212640Z is still later than 20260528T205141Z"}"#,
                Some(Clock),
            ),
            (
                400,
                r#"{"__type":"com.amazon.coral.service#InvalidSignatureException","message":"Signature expired: 2"}"#,
                Some(Clock),
            ),
            (403, "<Code>RequestTimeTooSkewed</Code>", Some(Clock)),
            (
                403,
                r#"{"message":"The security token included in the request is expired"}"#,
                Some(Credentials),
            ),
            (
                400,
                r#"{"__type":"ExpiredTokenException","message":"x"}"#,
                Some(Credentials),
            ),
            (
                403,
                r#"{"message":"The security token included in the request is invalid."}"#,
                Some(Credentials),
            ),
            (
                403,
                r#"{"message":"The request signature we calculated does not match the signature you provided."}"#,
                None,
            ),
            (200, "Signature expired", None),
            (500, "ExpiredToken", None),
            (403, "", None),
        ];
        for (status, body, expected) in table {
            assert_eq!(
                SignatureError::parse(status, body.as_bytes()),
                expected,
                "{status} {body}"
            );
        }
    }

    #[test]
    fn an_offset_is_learnt_once() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000);
        let date = "Thu, 28 May 2026 21:26:40 GMT";
        assert_eq!(clock_offset(Some(date), now, 0), Some(3_600));
        assert_eq!(clock_offset(Some(date), now, 3_590), None);
        assert_eq!(clock_offset(Some(date), correct_time(now, 3_600), 0), None);
        assert_eq!(clock_offset(Some(date), correct_time(now, 7_200), 0), Some(-3_600));
        assert_eq!(clock_offset(Some("soon"), now, 0), None);
        assert_eq!(clock_offset(None, now, 0), None);
        assert_eq!(correct_time(correct_time(now, -90), 90), now);
        // An offset that no clock can have changes nothing.
        assert_eq!(correct_time(now, i64::MAX), now);
    }
}
