//! The parsed calls of the API: a request is parsed and validated once.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::reply::Problem;
use super::{ApiRequest, MAX_BODY_BYTES, MAX_CODE_BYTES, MAX_NOTE_BYTES};
use crate::config::token::Scope;
use crate::hit::code;
use crate::hit::code::MARK;
use crate::query::{
    Cursor, EventQuery, Filter, MAX_EVENTS, ParameterError, Parameters, Query, Term, declared_field, wrong,
};

/// A valid call of the API.
#[derive(Clone, Debug, PartialEq)]
pub enum ApiCall {
    /// A check that the API responds.
    Status,
    /// The OpenAPI description.
    OpenApi,
    /// A new code, in the form of `TrackPixel`.
    GenImage,
    /// The events of a code, in the form of `TrackPixel`.
    Info {
        /// The code.
        code: String,
        /// The position and the size of the page.
        latest: EventQuery,
    },
    /// Statistics of events.
    Stats(Box<Query>),
    /// A page of events.
    Events(EventQuery),
    /// A page of the code list.
    Codes {
        /// The position of the page; none for the first page.
        after: Option<Cursor>,
        /// The size of the page.
        limit: usize,
    },
    /// A new code.
    Create(Box<NewCode>),
    /// One code of the list.
    Code(String),
    /// A change of a code's campaign or note.
    Annotate(String, Annotation),
    /// The revocation of a code.
    Revoke(String),
    /// The start of a browser session.
    SignIn,
    /// The end of a browser session.
    SignOut,
}

/// The properties of a new code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewCode {
    pub(super) code: Option<String>,
    pub(super) campaign: Option<String>,
    pub(super) recipient: Option<String>,
    pub(super) sent: Option<DateTime<Utc>>,
    pub(super) expires: Option<DateTime<Utc>>,
    pub(super) note: Option<String>,
}

/// A change of an optional text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TextChange {
    /// No change.
    #[default]
    Keep,
    /// A new text, or none.
    To(Option<String>),
}

impl TextChange {
    pub(super) fn apply(self, text: Option<String>) -> Option<String> {
        match self {
            Self::Keep => text,
            Self::To(text) => text,
        }
    }
}

/// The changes of a code's campaign and note.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotation {
    pub(super) campaign: TextChange,
    pub(super) note: TextChange,
}

impl ApiCall {
    /// Parses a request.
    ///
    /// # Errors
    ///
    /// [`Problem`] when the path, the method, a parameter or the body is wrong.
    pub fn parse(request: &ApiRequest, now: DateTime<Utc>) -> Result<Self, Problem> {
        let parameters = Parameters::new(&request.query, now);
        let nothing = |call: Self| parameters.only(&[]).map(|()| call).map_err(Problem::from);
        let (first, code) = request.path.split_once('/').unwrap_or((&request.path, ""));
        match (request.method.as_str(), first, code) {
            ("GET", "status", "") => nothing(Self::Status),
            ("GET", "openapi.json", "") => nothing(Self::OpenApi),
            ("GET" | "POST", "gen-image", "") => nothing(Self::GenImage),
            ("GET", "stats", "") => Ok(Self::Stats(Box::new(parameters.question()?))),
            ("GET", "events", "") => Ok(Self::Events(parameters.latest()?)),
            ("GET", "info", code) if !code.is_empty() => info(&parameters, code),
            ("GET", "codes", "") => {
                parameters.only(&["after", "limit"])?;
                let after = parameters
                    .get("after")
                    .map(|text| Cursor::parse("after", text))
                    .transpose()?;
                Ok(Self::Codes {
                    after,
                    limit: parameters.number("limit", 100, MAX_EVENTS)?,
                })
            }
            ("POST", "codes", "") => nothing(Self::Create(Box::new(new(&body(request)?)?))),
            ("GET", "codes", code) => nothing(Self::Code(code.to_owned())),
            ("PATCH", "codes", code) if !code.is_empty() => {
                nothing(Self::Annotate(code.to_owned(), annotation(&body(request)?)?))
            }
            ("DELETE", "codes", code) if !code.is_empty() => nothing(Self::Revoke(code.to_owned())),
            ("POST", "session", "") => nothing(Self::SignIn),
            ("DELETE", "session", "") => nothing(Self::SignOut),
            (_, "session", "") => Err(Problem::Method("POST, DELETE")),
            (_, "status" | "openapi.json" | "stats" | "events", "") => Err(Problem::Method("GET")),
            (_, "info", code) if !code.is_empty() => Err(Problem::Method("GET")),
            (_, "gen-image" | "codes", "") => Err(Problem::Method("GET, POST")),
            (_, "codes", _) => Err(Problem::Method("GET, PATCH, DELETE")),
            _ => Err(Problem::NotFound(
                "there is no such path; `/v1/api/openapi.json` describes them",
            )),
        }
    }

    /// Returns the scope that the call needs; none when it is open to all.
    pub const fn scope(&self) -> Option<Scope> {
        match self {
            // Signing in checks its token itself.
            Self::Status | Self::OpenApi | Self::SignIn | Self::SignOut => None,
            Self::GenImage | Self::Create(_) | Self::Annotate(..) | Self::Revoke(_) => Some(Scope::CodesWrite),
            Self::Stats(_) | Self::Codes { .. } | Self::Code(_) => Some(Scope::StatsRead),
            Self::Events(_) | Self::Info { .. } => Some(Scope::EventsRead),
        }
    }
}

fn info(parameters: &Parameters<'_>, code: &str) -> Result<ApiCall, Problem> {
    parameters.only(&["after", "limit"])?;
    let latest = EventQuery {
        filter: filter_by_code(code),
        limit: parameters.number("limit", MAX_EVENTS, MAX_EVENTS)?,
        after: parameters
            .get("after")
            .map(|text| Cursor::parse("after", text))
            .transpose()?,
        oldest_first: true,
    };
    Ok(ApiCall::Info {
        code: code.to_owned(),
        latest,
    })
}

fn filter_by_code(code: &str) -> Filter {
    Filter {
        terms: vec![Term {
            field: declared_field("pixel.code"),
            values: vec![code.to_owned()],
            not: false,
        }],
        ..Filter::default()
    }
}

/// Parses the body, which must be a JSON object.
fn body(request: &ApiRequest) -> Result<serde_json::Map<String, Value>, Problem> {
    if request.body.len() > MAX_BODY_BYTES {
        return Err(Problem::TooLarge);
    }
    match serde_json::from_slice(&request.body) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Ok(wrong("body", "give a JSON object")?),
    }
}

type Members = serde_json::Map<String, Value>;

fn only(members: &Members, known: &[&str]) -> Result<(), ParameterError> {
    match members.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => wrong(
            name,
            format!("there is no such member here; there are {}", known.join(", ")),
        ),
        None => Ok(()),
    }
}

fn text(members: &Members, name: &str, max_bytes: usize) -> Result<Option<String>, ParameterError> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text))
            if text.len() <= max_bytes && !text.is_empty() && !text.contains(char::is_control) =>
        {
            Ok(Some(text.clone()))
        }
        Some(_) => wrong(
            name,
            format!("give a text of 1 to {max_bytes} bytes without control characters"),
        ),
    }
}

fn time(members: &Members, name: &str) -> Result<Option<DateTime<Utc>>, ParameterError> {
    let Some(given) = text(members, name, 64)? else {
        return Ok(None);
    };
    let time = DateTime::parse_from_rfc3339(&given).ok().map(|time| time.to_utc());
    match time.filter(|time| u32::try_from(time.timestamp()).is_ok()) {
        Some(time) => Ok(Some(time)),
        None => wrong(
            name,
            "give an RFC 3339 time from 1970 to 2106, as in `2026-03-01T09:30:00Z`",
        ),
    }
}

/// Returns the code that the owner has chosen. It must need no encoding in a URL and must not look like a signed code.
fn check_own_code(members: &Members) -> Result<Option<String>, ParameterError> {
    let code = text(members, "code", MAX_CODE_BYTES)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    match code {
        None if members.contains_key("code") => wrong("code", "give a word, or leave it out for a code that is made"),
        Some(code) if !code.bytes().all(plain) || code.starts_with([MARK, '.']) => wrong(
            "code",
            "give letters, digits, `-`, `.`, `_` and `~`, none of `_` and `.` first",
        ),
        code => Ok(code),
    }
}

fn new(members: &Members) -> Result<NewCode, Problem> {
    only(members, &["code", "campaign", "recipient", "sent", "expires", "note"])?;
    let new = NewCode {
        code: check_own_code(members)?,
        campaign: text(members, "campaign", code::CAMPAIGN_BYTES)?,
        recipient: text(members, "recipient", 1024)?,
        sent: time(members, "sent")?,
        expires: time(members, "expires")?,
        note: text(members, "note", MAX_NOTE_BYTES)?,
    };
    let signed = [("sent", new.sent.is_some()), ("expires", new.expires.is_some())];
    if let (Some(_), Some((name, _))) = (&new.code, signed.into_iter().find(|(_, given)| *given)) {
        return Ok(wrong(name, "it is said by signed codes only; leave out `code`")?);
    }
    Ok(new)
}

fn annotation(members: &Members) -> Result<Annotation, Problem> {
    only(members, &["campaign", "note"])?;
    let change = |name, max_bytes| {
        Ok::<_, ParameterError>(match members.get(name) {
            None => TextChange::Keep,
            Some(_) => TextChange::To(text(members, name, max_bytes)?),
        })
    };
    Ok(Annotation {
        campaign: change("campaign", code::CAMPAIGN_BYTES)?,
        note: change("note", MAX_NOTE_BYTES)?,
    })
}
