//! The contents of a queue, a log or a file: events, undelivered events, and payloads that no function has read.
//!
//! There are three forms, which are recognized by their marks:
//!
//! | form | mark | written by |
//! |---|---|---|
//! | event | `event.id` and `@timestamp` | the function to a queue or stream; `pixel hits --json` |
//! | undelivered event | `"message": "undelivered event"` and `event` | the log, the fallback; also of the journal: `"message": "journal"` |
//! | payload | that of an ingress | API Gateway straight to a queue |

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::message::remove_line_breaks;
use crate::hit::event::Event;

/// The message of an undelivered event's log line.
pub const UNDELIVERED: &str = "undelivered event";

/// The message of an event's log line from before its reply.
pub const JOURNAL: &str = "journal";

/// The size limit of an id in an index.
const MAX_ID_BYTES: usize = 512;

/// Wraps an undelivered event with its destination and the reason, as a message for the fallback.
pub fn wrap_undelivered(event: &Event, reason: &str, destination: &str) -> Value {
    json!({
        "message": UNDELIVERED,
        "event_id": event.id,
        "reason": reason,
        "destination": destination,
        "event": document_value(event),
    })
}

/// Returns the document of an event as a JSON value.
pub fn document_value(event: &Event) -> Value {
    serde_json::from_str(&event.document).unwrap_or_else(|_| event.document.as_str().into())
}

/// The content of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// An event, to be stored as it is.
    Event(Event),
    /// The payload of an ingress, from which an event must still be built.
    Payload(String),
}

/// The reason why a text contains nothing to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// The text is not JSON.
    NotJson,
    /// The text is compressed, or otherwise binary in base64.
    Binary,
    /// The text is JSON, but not an object.
    NotAnObject,
    /// An event without an id that is valid for an index.
    NoId,
    /// An event without a valid time.
    NoTime,
    /// An object without any known mark.
    Neither,
    /// An undelivered event that is wrapped too many times.
    TooDeep,
}

impl NotFound {
    /// Returns the reason in words.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotJson => "it is not JSON",
            Self::Binary => "it is binary in base64, not JSON; was it compressed on its way?",
            Self::NotAnObject => "it is not a JSON object",
            Self::NoId => "it is an event without an id of 1 to 512 bytes (`event.id`)",
            Self::NoTime => "it is an event without a time that can be read (`@timestamp`)",
            Self::Neither => "it is neither an event nor a request",
            Self::TooDeep => "it is an undelivered event in an undelivered event, too many times over",
        }
    }
}

#[derive(Deserialize)]
struct Marks<'a> {
    #[serde(rename = "@timestamp", borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
    /// The payload in Lambda's record of a failed invocation.
    #[serde(rename = "requestPayload", borrow, default)]
    request_payload: Option<&'a RawValue>,
    /// The context in the mapping template's document.
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
    /// The context in all other payloads.
    #[serde(rename = "requestContext", borrow, default)]
    request_context: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Id<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
}

/// Finds the content of a text.
///
/// # Errors
///
/// [`NotFound`] with the text, if it contains nothing that can become a stored event.
pub fn find(text: String) -> Result<Found, (NotFound, String)> {
    let mut text = text;
    for _ in 0..MAX_WRAPPINGS {
        match parse(&text) {
            Err(why) => return Err((why, text)),
            Ok(Part::Whole(id, time)) => {
                let document = match remove_line_breaks(&text) {
                    Cow::Borrowed(_) => text,
                    Cow::Owned(line) => line,
                };
                return Ok(Found::Event(Event { id, time, document }));
            }
            Ok(Part::Inside(inside)) => text = inside,
            Ok(Part::Payload) => return Ok(Found::Payload(text)),
        }
    }
    Err((NotFound::TooDeep, text))
}

/// The maximum number of wrappings that are removed. An event that was undelivered several times is wrapped several
/// times; the limit stops a function that wraps without end.
const MAX_WRAPPINGS: usize = 16;

enum Part {
    Whole(String, DateTime<Utc>),
    Inside(String),
    Payload,
}

fn parse(text: &str) -> Result<Part, NotFound> {
    // Serde would take an array for an object's values.
    let object = |text: &str| text.trim_start().starts_with('{');
    let marks = object(text)
        .then(|| serde_json::from_str::<Marks<'_>>(text).ok())
        .flatten();
    let Some(marks) = marks else {
        return Err(unreadable(text));
    };
    if let (Some(message), Some(event)) = (marks.message, marks.event)
        && [UNDELIVERED, JOURNAL]
            .iter()
            .any(|mark| message.get().trim_matches('"') == *mark)
    {
        // A document that is not JSON is a text in its line; the next step reports it.
        return Ok(Part::Inside(event.get().to_owned()));
    }
    if let Some(payload) = marks.request_payload {
        return Ok(Part::Inside(payload.get().to_owned()));
    }
    let (Some(timestamp), Some(event)) = (marks.timestamp, marks.event) else {
        let request = marks.params.or(marks.context).or(marks.request_context);
        return request.map(|_| Part::Payload).ok_or(NotFound::Neither);
    };
    let id = object(event.get())
        .then(|| serde_json::from_str::<Id<'_>>(event.get()).ok()?.id)
        .flatten();
    let id = id
        .filter(|id| (1..=MAX_ID_BYTES).contains(&id.len()))
        .ok_or(NotFound::NoId)?;
    let time = serde_json::from_str::<&str>(timestamp.get()).ok();
    let time = time
        .and_then(|time| DateTime::parse_from_rfc3339(time).ok())
        .ok_or(NotFound::NoTime)?;
    Ok(Part::Whole(id.into_owned(), time.to_utc()))
}

fn unreadable(text: &str) -> NotFound {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) if text.trim_start().starts_with('{') => NotFound::NotJson,
        Ok(_) => NotFound::NotAnObject,
        // The base64 of gzip's first bytes, 1f 8b 08.
        Err(_) if text.starts_with("H4sI") => NotFound::Binary,
        Err(_) => NotFound::NotJson,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            id: "JKJaXmPLvHcESHA=".to_owned(),
            time: DateTime::from_timestamp_millis(1_780_000_000_123).expect("a time"),
            document:
                r#"{"@timestamp":"2026-05-28T20:26:40.123Z","event":{"id":"JKJaXmPLvHcESHA="},"labels":["a=\"b\""]}"#
                    .to_owned(),
        }
    }

    #[test]
    fn an_event_is_found_wherever_it_stands() {
        let event = event();
        let line = wrap_undelivered(&event, "status 503", "https://host/events").to_string();
        let journal = json!({"level": "INFO", "message": "journal", "event": document_value(&event)}).to_string();
        let record =
            json!({"requestContext": {"functionArn": "arn"}, "requestPayload": document_value(&event)}).to_string();
        for text in [event.document.clone(), line, journal, record] {
            let Ok(Found::Event(found)) = find(text.clone()) else {
                panic!("{text}")
            };
            assert_eq!((&found.id, found.time), (&event.id, event.time), "{text}");
            assert_eq!(document_value(&found), document_value(&event), "{text}");
        }
        let broken = event.document.replace(',', ",\r\n ");
        let Ok(Found::Event(found)) = find(broken) else {
            panic!()
        };
        assert!(!found.document.contains(['\r', '\n']));
        assert_eq!(document_value(&found), document_value(&event));
    }

    #[test]
    fn an_event_is_found_in_wrappings_up_to_a_depth() {
        let event = event();
        let mut text = event.document.clone();
        for depth in 0..MAX_WRAPPINGS * 2 {
            let found = find(text.clone());
            if depth < MAX_WRAPPINGS {
                assert!(matches!(found, Ok(Found::Event(_))), "{depth}: {found:?}");
            } else {
                assert!(matches!(found, Err((NotFound::TooDeep, _))), "{depth}: {found:?}");
            }
            text = format!(r#"{{"message":"undelivered event","event":{text}}}"#);
        }
        let deep = r#"{"message":"journal","event":"#.repeat(20_000);
        let deep = format!("{deep}1{}", "}".repeat(20_000));
        assert!(matches!(find(deep), Err((NotFound::TooDeep, _))));
    }

    #[test]
    fn a_payload_is_left_for_its_decoder() {
        let payload = r#"{"params": {}, "context": {}}"#.to_owned();
        assert_eq!(find(payload.clone()), Ok(Found::Payload(payload.clone())));
        let failed = json!({"requestContext": {}, "requestPayload": {"params": {}, "context": {}}}).to_string();
        assert!(matches!(find(failed), Ok(Found::Payload(_))));
    }

    #[test]
    fn what_cannot_be_stored_has_its_reason() {
        let long = format!(
            r#"{{"@timestamp":"2026-05-28T20:26:40Z","event":{{"id":"{}"}}}}"#,
            "x".repeat(513)
        );
        let table = [
            ("", NotFound::NotJson),
            ("poison", NotFound::NotJson),
            (r#"{"@timestamp":"#, NotFound::NotJson),
            ("H4sIAAAAAAAA/6tWSk7NS8wtyEkFAKbN9RQLAAAA", NotFound::Binary),
            ("[1]", NotFound::NotAnObject),
            ("\"text\"", NotFound::NotAnObject),
            (r#"{"@timestamp":"2026-05-28T20:26:40Z","event":{}}"#, NotFound::NoId),
            (
                r#"{"@timestamp":"2026-05-28T20:26:40Z","event":{"id":""}}"#,
                NotFound::NoId,
            ),
            (
                r#"{"@timestamp":"2026-05-28T20:26:40Z","event":{"id":7}}"#,
                NotFound::NoId,
            ),
            (
                r#"{"@timestamp":"2026-05-28T20:26:40Z","event":"first version"}"#,
                NotFound::NoId,
            ),
            (long.as_str(), NotFound::NoId),
            (r#"{"@timestamp":"yesterday","event":{"id":"a"}}"#, NotFound::NoTime),
            ("{}", NotFound::Neither),
            (r#"{"message":"journal","event":{}}"#, NotFound::Neither),
            (r#"{"@timestamp":1,"event":{"id":"a"}}"#, NotFound::NoTime),
            (
                r#"{"message":"undelivered event","event":"no JSON"}"#,
                NotFound::NotAnObject,
            ),
        ];
        for (text, expected) in table {
            assert_eq!(find(text.to_owned()).map_err(|(why, _)| why), Err(expected), "{text}");
        }
    }
}
