//! OpenSearch, Elasticsearch and OpenSearch Serverless: the request that stores one event, and the meaning of the
//! response.

use std::fmt::{self, Write};

use chrono::{DateTime, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::{Auth, DestinationError, Service, Verdict};
use crate::hit::event::Event;

/// A server and one of its indices.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The server's URL without credentials and without a slash at its end.
    pub base: String,
    /// The index.
    pub index: Index,
    /// The authentication of requests.
    pub auth: Auth,
    /// True if it is a collection of OpenSearch Serverless.
    pub serverless: bool,
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.base, self.index.pattern)
    }
}

/// The name of an index, or a pattern that makes one from an event's time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// The pattern as the owner wrote it, percent-decoded.
    pub pattern: String,
}

/// Returns a text as long as the specifier's value.
const fn example(specifier: char) -> &'static str {
    match specifier {
        'Y' | 'G' => "2026",
        'j' => "031",
        _ => "01",
    }
}

/// The permitted date specifiers. Others make names that are not valid for an index, or that depend on a language.
const SPECIFIERS: &str = "YmdHGVj";

impl Index {
    /// Parses a name from a URL's path. A date pattern may be written as it is (`events-%Y.%m`) or percent-encoded
    /// (`events-%25Y.%25m`).
    ///
    /// # Errors
    ///
    /// A name that is not valid for an index.
    pub fn parse(text: &str) -> Result<Self, DestinationError> {
        let text = if text.contains("%25") {
            super::decode(text)
        } else {
            text.to_owned()
        };
        let mut characters = text.chars();
        let mut plain = String::new();
        while let Some(character) = characters.next() {
            match (character, character == '%') {
                (_, true) => match characters.next() {
                    Some(letter) if SPECIFIERS.contains(letter) => plain.push_str(example(letter)),
                    other => {
                        let letter = other.map(String::from).unwrap_or_default();
                        return Err(DestinationError::new(format!(
                            "`%{letter}` is not a part of a date pattern; use %Y %m %d %H %G %V %j"
                        )));
                    }
                },
                (character, false) => plain.push(character),
            }
        }
        // These are OpenSearch's rules for index names.
        let forbidden = |character: char| {
            character.is_ascii_uppercase() || " ,:\"*+/\\|?#><".contains(character) || character.is_control()
        };
        if plain.starts_with(['_', '-', '.']) || plain.contains(forbidden) || plain.len() > 255 {
            return Err(DestinationError::new(format!(
                "`{text}` cannot be an index: names are lower-case, do not begin with `_`, `-` or `.`, and have no space or any of , : \" * + / \\ | ? # > <"
            )));
        }
        Ok(Self { pattern: text })
    }

    /// Returns the index's name for an event of this time.
    pub fn name(&self, time: DateTime<Utc>) -> String {
        if !self.pattern.contains('%') {
            return self.pattern.clone();
        }
        let mut name = String::new();
        // `parse` checked the specifiers, so formatting cannot fail.
        let _ = write!(name, "{}", time.format(&self.pattern));
        name
    }

    /// Returns a wildcard that matches every name of the pattern.
    pub fn wildcard(&self) -> String {
        let mut wildcard = String::new();
        let mut characters = self.pattern.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                wildcard.push(character);
                continue;
            }
            characters.next();
            if !wildcard.ends_with('*') {
                wildcard.push('*');
            }
        }
        wildcard
    }
}

/// A request that stores one event, before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreRequest {
    /// The method, `PUT` or `POST`.
    pub method: &'static str,
    /// The whole URL.
    pub url: String,
}

/// The characters to encode: all except those that RFC 3986 calls unreserved.
const ID: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Target {
    /// Returns true if the host or the signature is OpenSearch Serverless: such a collection may pause when unused.
    pub const fn can_pause(&self) -> bool {
        let signed = matches!(
            self.auth,
            Auth::SigV4 {
                service: Service::Aoss,
                ..
            }
        );
        self.serverless || signed
    }

    /// Builds the request that stores an event.
    ///
    /// Elasticsearch since 6 (where `_doc` is the type) and every OpenSearch support
    /// `PUT /<index>/_doc/<id>?op_type=create`; OpenSearch Serverless documents `_create`. Without an id, only
    /// `POST /<index>/_doc` remains.
    pub fn store(&self, event: &Event, with_id: bool) -> StoreRequest {
        let index = self.index.name(event.time);
        let id = utf8_percent_encode(&event.id, ID);
        let base = &self.base;
        let (method, url) = match (with_id, self.serverless) {
            (false, _) => ("POST", format!("{base}/{index}/_doc")),
            (true, true) => ("PUT", format!("{base}/{index}/_create/{id}")),
            (true, false) => ("PUT", format!("{base}/{index}/_doc/{id}?op_type=create")),
        };
        StoreRequest { method, url }
    }
}

#[derive(Deserialize)]
struct IndexResponse {
    #[serde(default)]
    result: Option<String>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

/// Returns the meaning of a response. A success counts only if the body has the index's own result, so that a login
/// page or another server's 200 is never taken for one.
pub fn verdict(status: u16, body: &[u8]) -> Verdict {
    let answer: Option<IndexResponse> = serde_json::from_slice(body).ok();
    let error = answer.as_ref().and_then(|answer| answer.error.as_ref());
    match status {
        200 | 201 => match answer.and_then(|answer| answer.result).as_deref() {
            Some("created") => Verdict::Indexed,
            _ => Verdict::Refused(format!(
                "status {status}, but the answer is not an index's: {}",
                excerpt(body)
            )),
        },
        _ => refusal(status, error, || excerpt(body)),
    }
}

/// Returns the meaning of a status other than success; `otherwise` gives the reason if there is no `error`.
pub(super) fn refusal(status: u16, error: Option<&serde_json::Value>, otherwise: impl Fn() -> String) -> Verdict {
    let reason = || format!("status {status}: {}", error.map_or_else(&otherwise, explain));
    match status {
        409 if explains(error, "version_conflict") => Verdict::Duplicate,
        400 if explains(error, "Document ID is not supported") => Verdict::RefusesIds,
        403 if explains(error, "throttled") || otherwise().contains("throttled") => Verdict::Retry(reason()),
        409 | 429 | 500 | 502..=504 => Verdict::Retry(reason()),
        401 | 403 | 404 => Verdict::Denied(reason()),
        _ => Verdict::Refused(reason()),
    }
}

pub(super) fn explains(error: Option<&serde_json::Value>, words: &str) -> bool {
    error.is_some_and(|error| error.to_string().contains(words))
}

/// Returns an error's text; servers send an object with `type` and `reason`, or a string.
fn explain(error: &serde_json::Value) -> String {
    let part = |name: &str| error.get(name).and_then(serde_json::Value::as_str);
    match (part("type"), part("reason")) {
        (Some(kind), Some(reason)) => shorten(&format!("{kind}: {reason}")),
        _ => shorten(&error.to_string()),
    }
}

/// Returns the beginning of a body, on one line.
fn excerpt(body: &[u8]) -> String {
    if body.is_empty() {
        return "no body".to_owned();
    }
    shorten(&String::from_utf8_lossy(&body[..body.len().min(400)]))
}

pub(super) fn shorten(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect();
    let end = line.floor_char_boundary(300);
    line[..end].to_owned()
}
