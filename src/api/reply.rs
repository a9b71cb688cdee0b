//! The responses of the API, including problems (RFC 9457).

use serde::Serialize;
use serde_json::json;

use super::MAX_BODY_BYTES;
use crate::config::token::Scope;
use crate::query::{ParameterError, QueryError};

/// A response of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiResponse {
    /// The HTTP status.
    pub status: u16,
    /// The headers by name, in their order.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

impl ApiResponse {
    pub(super) fn json(status: u16, body: &impl Serialize) -> Self {
        Self::with_media_type(status, "application/json", body)
    }

    pub(super) fn with_media_type(status: u16, media_type: &str, body: &impl Serialize) -> Self {
        let body = serde_json::to_string(body).unwrap_or_default();
        let headers = vec![
            ("content-type", media_type.to_owned()),
            ("cache-control", "no-store".to_owned()),
            ("x-content-type-options", "nosniff".to_owned()),
        ];
        Self { status, headers, body }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A problem that prevents an answer (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A parameter, or a member of the body, is wrong.
    Parameter(ParameterError),
    /// The caller is not authenticated.
    Unauthorized,
    /// The caller's token lacks this scope.
    Forbidden(Scope),
    /// A page of another server sent the request with a session's cookie.
    OtherOrigin,
    /// The path or the object does not exist.
    NotFound(&'static str),
    /// Another object has this name.
    Conflict,
    /// The method is not one of these.
    Method(&'static str),
    /// The body is too large.
    TooLarge,
    /// The body did not arrive in time.
    SlowBody,
    /// The client has sent too many wrong tokens.
    TooMany,
    /// The store cannot be asked.
    Unavailable(String),
    /// The index is not set up.
    Unprepared,
}

impl From<ParameterError> for Problem {
    fn from(error: ParameterError) -> Self {
        Self::Parameter(error)
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Parameter(error) => Self::Parameter(error),
            QueryError::Unavailable(reason) => Self::Unavailable(reason),
            QueryError::Unprepared => Self::Unprepared,
        }
    }
}

impl Problem {
    /// Builds the response to this problem.
    pub fn reply(&self) -> ApiResponse {
        let (status, title, detail) = match self {
            Self::Parameter(error) => (400, "Wrong parameter", error.to_string()),
            Self::Unauthorized => (
                401,
                "Not authorized",
                "send `Authorization: Bearer TOKEN`; `pixel token new` makes one".into(),
            ),
            Self::Forbidden(scope) => (
                403,
                "Not allowed",
                format!("the token has not the scope `{}`", scope.name()),
            ),
            Self::OtherOrigin => (
                403,
                "Other origin",
                "a session changes something only from its own page; elsewhere send `Authorization: Bearer TOKEN`"
                    .into(),
            ),
            Self::NotFound(what) => (404, "Not found", (*what).to_owned()),
            Self::Conflict => (409, "Conflict", "there is such a code already".to_owned()),
            Self::Method(allowed) => (405, "Wrong method", format!("use {allowed}")),
            Self::TooLarge => (413, "Too large", format!("a body has at most {MAX_BODY_BYTES} bytes")),
            Self::SlowBody => (
                408,
                "Body missing",
                "the body did not arrive in time; send it at once with the request".to_owned(),
            ),
            Self::TooMany => (
                429,
                "Too many failures",
                "too many wrong tokens; wait a minute".to_owned(),
            ),
            Self::Unavailable(_) => (
                503,
                "Store unavailable",
                "the store cannot be asked now; the pixel works all the same".into(),
            ),
            Self::Unprepared => (
                503,
                "Index not ready",
                "run `pixel setup` for the index, which lacks the fields to ask for; the pixel works all the same"
                    .into(),
            ),
        };
        let mut body = json!({"type": "about:blank", "title": title, "status": status, "detail": detail});
        if let Self::Parameter(error) = self {
            body["parameter"] = error.parameter.as_str().into();
        }
        let reply = ApiResponse::with_media_type(status, "application/problem+json", &body);
        match self {
            Self::Unauthorized => reply.with("www-authenticate", "Bearer"),
            Self::Method(allowed) => reply.with("allow", *allowed),
            Self::TooMany | Self::Unprepared => reply.with("retry-after", "60"),
            Self::Unavailable(_) => reply.with("retry-after", "5"),
            _ => reply,
        }
    }
}
