//! The log lines of hits and events.

use crate::destination::undelivered::{self, JOURNAL, UNDELIVERED};
use crate::hit::event::Event;
use crate::hit::outcome::{Delivered, Ignored, Outcome};
use crate::hit::request::Ingress;
use serde_json::{Value, json};

/// Returns the log line of an event. If the event was not delivered, the line contains all of it, so that it can be
/// replayed.
pub fn log_line(event: &Event, delivered: &Delivered, destination: &str, milliseconds: u64) -> Value {
    let mut line = json!({
        "level": "INFO",
        "message": "hit",
        "outcome": delivered.outcome.name(),
        "event_id": event.id,
        "attempts": delivered.attempts,
        "breaker": delivered.breaker,
        "milliseconds": milliseconds,
    });
    if let Outcome::Failed(failure) = &delivered.outcome {
        line["level"] = "ERROR".into();
        line["message"] = UNDELIVERED.into();
        line["reason"] = failure.reason.as_str().into();
        line["destination"] = destination.into();
        line["event"] = undelivered::document_value(event);
    }
    if let Outcome::Fallback(failure) = &delivered.outcome {
        line["level"] = "WARN".into();
        line["reason"] = failure.reason.as_str().into();
        line["destination"] = destination.into();
    }
    line
}

/// Returns the log line that keeps an event from before the reply until the delivery.
pub fn journal_line(event: &Event) -> Value {
    json!({"level": "INFO", "message": JOURNAL, "event_id": event.id, "event": undelivered::document_value(event)})
}

/// Returns the log line of a request that is not stored.
pub fn ignored_line(ingress: Ingress, why: Ignored) -> Value {
    json!({"level": "INFO", "message": "hit", "outcome": "ignored", "reason": why.name(), "ingress": ingress.name()})
}
