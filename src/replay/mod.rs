//! Replay: makes events from what a queue, a log or a file has kept. Stored events stay as they are; requests are
//! handled like every hit.

mod prefix;

use crate::hit::settings::Lookups;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::config::Config;
use crate::destination::undelivered::{Found, JOURNAL, UNDELIVERED, find};
use crate::hit::answer;
use crate::hit::answer::Answer;
use crate::hit::event::Event;
use crate::hit::outcome::Ignored;
use crate::hit::read::{RequestContext, code_of};
pub use prefix::find_object;

/// The reason why a text is not made into an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayError {
    /// The text is a request, but not a hit.
    Ignored(Ignored),
    /// The text contains nothing from which an event can be made.
    Poison {
        /// The reason in words.
        reason: String,
        /// The text.
        text: String,
    },
}

/// The facts about a text that are not in it.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The id of the text, which is the same whenever it is read.
    pub id: &'a str,
    /// The time for requests that have none.
    pub time: DateTime<Utc>,
}

/// Returns the event in a text, or makes one from its request under the configuration.
///
/// # Errors
///
/// [`ReplayError`] if the text is not a hit, or no event can be made from it.
pub fn event(text: String, origin: Origin<'_>, config: &Config) -> Result<Event, ReplayError> {
    read(text, origin, config).map(|(event, _)| event)
}

/// Like [`event`], but also returns the code of the hit, if it has one.
///
/// # Errors
///
/// [`ReplayError`], as for [`event`].
pub fn event_and_code(
    text: String,
    origin: Origin<'_>,
    config: &Config,
) -> Result<(Event, Option<String>), ReplayError> {
    let (event, source) = read(text, origin, config)?;
    let code = match source {
        Source::Request { code } => code,
        Source::Event => event.code(),
    };
    Ok((event, code))
}

enum Source {
    Event,
    Request { code: Option<String> },
}

fn read(text: String, origin: Origin<'_>, config: &Config) -> Result<(Event, Source), ReplayError> {
    let text = match find(text) {
        Ok(Found::Event(event)) => return Ok((event, Source::Event)),
        Ok(Found::Payload(text)) => text,
        Err((why, text)) => {
            let reason = why.reason().to_owned();
            return Err(ReplayError::Poison { reason, text });
        }
    };
    match catch_build_panic(|| build_event(&text, origin, config)) {
        Ok((event, code)) => Ok((event, Source::Request { code })),
        Err(BuildError::Ignored(why)) => Err(ReplayError::Ignored(why)),
        Err(BuildError::Poison(reason)) => Err(ReplayError::Poison { reason, text }),
    }
}

enum BuildError {
    Ignored(Ignored),
    Poison(String),
}

/// Calls `make` for one text and reports a panic as this text's error, so that the others are not lost.
fn catch_build_panic<T>(make: impl FnOnce() -> Result<T, BuildError>) -> Result<T, BuildError> {
    catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|_| {
        Err(BuildError::Poison(
            "making its event failed by a fault of this program (panic)".to_owned(),
        ))
    })
}

/// Makes the event of a request, and returns it with its code.
fn build_event(text: &str, origin: Origin<'_>, config: &Config) -> Result<(Event, Option<String>), BuildError> {
    let payload = text.as_bytes();
    match answer::catch_panic(payload, || answer::answer(payload, &config.settings())) {
        Answer::Accepted { request, .. } => {
            let context = RequestContext {
                now: origin.time,
                invocation: origin.id.to_owned(),
                trusted_hops: config.trusted_hops,
            };
            let code = code_of(&request);
            Ok((
                answer::build_event(*request, &context, &config.settings(), &Lookups::none()),
                code,
            ))
        }
        Answer::Ignored {
            why: why @ (Ignored::Unreadable(_) | Ignored::Panic),
            ..
        } => Err(BuildError::Poison(format!(
            "it is neither an event nor a request ({})",
            why.name()
        ))),
        Answer::Ignored { why, .. } => Err(BuildError::Ignored(why)),
        Answer::Refused(error) => Err(BuildError::Poison(error.to_string())),
    }
}

/// Returns the part of a line of a log or a file that this program wrote; none if another program wrote the line.
///
/// Logs put times, ids and levels before a line; the part begins directly after such a prefix ([`find_object`]).
pub fn extract_own_part(line: &str) -> Option<&str> {
    let (text, whole) = find_object(line)?;
    let Ok(top) = serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(text) else {
        // A line that was cut off is refused with a reason; it must not count as another program's line.
        let contains = |mark: &str| text.contains(mark);
        let cut = contains(UNDELIVERED) || whole && (contains("\"@timestamp\"") || contains("\"stage-variables\""));
        return cut.then_some(text);
    };
    let has = |key: &str| top.contains_key(key);
    let message = top.get("message").map(|message| message.get().trim_matches('"'));
    let marked = message.is_some_and(|message| [UNDELIVERED, JOURNAL].contains(&message));
    let event = has("@timestamp") && has("event");
    let payload = has("params") && has("context") || has("requestContext");
    (marked || whole && (event || payload)).then_some(text)
}

/// The output of `aws logs filter-log-events`.
#[derive(Debug, Deserialize)]
pub struct LogExport {
    events: Vec<ExportedLine>,
}

#[derive(Debug, Deserialize)]
struct ExportedLine {
    message: String,
}

impl LogExport {
    /// Returns the lines of the log.
    pub fn messages(&self) -> impl Iterator<Item = &str> {
        self.events.iter().map(|line| line.message.as_str())
    }
}

/// Parses consecutive exports of a log; none if the text is anything else.
pub fn exported(text: &str) -> Option<Vec<LogExport>> {
    if !text.contains("\"events\"") {
        return None;
    }
    serde_json::Deserializer::from_str(text)
        .into_iter()
        .collect::<Result<_, _>>()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"@timestamp":"2026-05-28T20:26:40.123Z","event":{"id":"a"}}"#;

    #[test]
    fn our_lines_are_found_among_others() {
        let undelivered = format!(r#"{{"level":"ERROR","message":"undelivered event","event":{EVENT}}}"#);
        let spaced = format!(r#"{{"message": "journal", "event": {EVENT}}}"#);
        for line in [
            EVENT.to_owned(),
            format!("  {EVENT}  "),
            undelivered.clone(),
            spaced,
            format!("2026-05-28T20:26:41.000Z\t8476a536\tERROR\t{undelivered}\n"),
            format!("pixel-1  | {undelivered}"),
            r#"{"body-json": {}, "params": {}, "context": {}}"#.to_owned(),
            r#"{"version":"2.0","requestContext":{}}"#.to_owned(),
            r#"{"@timestamp":"2026-05-28T20:26:40.123Z","event":{"id":"a"},"params":{"querystring":{"outcome":"","event_id":""}}}"#.to_owned(),
        ] {
            assert!(
                extract_own_part(&line).is_some_and(|text| text.starts_with('{') && text.ends_with('}')),
                "{line}"
            );
        }
        let cut = &undelivered[..undelivered.len() - 9];
        assert_eq!(
            (extract_own_part(cut), extract_own_part(&EVENT[..30])),
            (Some(cut), Some(&EVENT[..30]))
        );
        for line in [
            "",
            "START RequestId: 8476a536-e9f4-11e8-9739-2dfe598c3fcd Version: $LATEST",
            "REPORT RequestId: 8476a536 Duration: 1.00 ms {}",
            "{}",
            r#"{"level":"INFO","message":"hit","outcome":"indexed","event_id":"a"}"#,
            r#"{"level":"INFO","message":"something","context":{}}"#,
            r#"20:26:41  indexed    GET /pixel.gif  203.0.113.0  {"message":"journal","event":{}}"#,
            r#"20:26:41  indexed    GET /pixel/{"message":"undelivered event","event":{"a":"  203.0.113.0  b"#,
            "[1, 2]",
        ] {
            assert_eq!(extract_own_part(line), None, "{line}");
        }
    }

    #[test]
    fn exports_of_a_log_are_read_one_after_the_other() {
        let one = r#"{"events": [{"timestamp": 1, "message": "a\n"}, {"message": "b"}], "searchedLogStreams": []}"#;
        let read = |text: &str| -> Option<Vec<String>> {
            let exports = exported(text)?;
            Some(
                exports
                    .iter()
                    .flat_map(LogExport::messages)
                    .map(ToOwned::to_owned)
                    .collect(),
            )
        };
        assert_eq!(read(one), Some(vec!["a\n".to_owned(), "b".to_owned()]));
        assert_eq!(read(&format!("{one}\n{one}")).map(|lines| lines.len()), Some(4));
        assert_eq!(read(&one[..one.len() - 1]), None);
        assert_eq!(read(EVENT), None);
        assert_eq!(read(r#"{"events": 1}"#), None);
    }

    #[test]
    fn a_request_becomes_the_same_event_whenever_it_is_read() {
        let payload = r#"{"params": {"path": {}, "querystring": {"utm_source": "a"}, "header": {}}, "context": {"http-method": "GET", "resource-path": "/pixel.gif"}}"#;
        let origin = Origin {
            id: "059f36b4-87a3-44ab-83d2-661975830a7d",
            time: DateTime::from_timestamp(1_780_000_000, 0).expect("a time"),
        };
        let made = || event(payload.to_owned(), origin, &Config::default());
        let first = made().expect("an event");
        assert_eq!(first.id, origin.id);
        assert_eq!(made(), Ok(first));
        let poison = event("poison".to_owned(), origin, &Config::default());
        assert!(matches!(poison, Err(ReplayError::Poison { text, .. }) if text == "poison"));
    }

    #[test]
    fn a_panic_over_one_text_is_its_reason() {
        let Err(BuildError::Poison(reason)) = catch_build_panic::<()>(|| panic!("a fault in making")) else {
            panic!("it has a reason")
        };
        assert!(reason.contains("panic"), "{reason}");
    }
}
