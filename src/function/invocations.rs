//! Invocations, one after the other, from the Runtime API.
//!
//! The runtime's crate puts the trace id of each invocation into the process's environment, and the C library keeps
//! every value that a variable has ever had: some 140 bytes for each hit (measured), and after a million hits the
//! memory of a sandbox. The roles that hits go through do not read that variable, so they get their invocations
//! themselves and parse the payload in their own way. The paths and headers are those of the Lambda developer guide,
//! "Using the Lambda runtime API for custom runtimes"; `Lambda-Runtime-Invocation-Id` is handed back where there is
//! one, as the runtime's crate does.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Request};
use lambda_runtime::Diagnostic;
use serde_json::json;

use super::api::Api;
use super::{BoxError, log};
use crate::config::Variables;

const INVOCATION_ID: &str = "lambda-runtime-invocation-id";

/// The Runtime API.
pub(super) struct Invocations {
    api: Api,
}

/// One invocation.
#[derive(Debug)]
pub(super) struct Invocation {
    /// The request's id.
    pub(super) id: String,
    /// The time at which the invocation must be over.
    pub(super) deadline: SystemTime,
    /// The payload as text; invalid UTF-8 is replaced.
    pub(super) payload: String,
    /// The header [`INVOCATION_ID`], by which Lambda recognises stale replies.
    mark: Option<HeaderValue>,
}

impl Invocations {
    pub(super) fn new(variables: &Variables) -> Result<Self, BoxError> {
        Api::new(variables).map(|api| Self { api })
    }

    /// Waits for the next invocation.
    ///
    /// # Errors
    ///
    /// When the Runtime API does not answer, or answers something else. Then the process has to end: Lambda starts
    /// another sandbox.
    pub(super) async fn next(&mut self) -> Result<Invocation, BoxError> {
        let request = Request::get("/2018-06-01/runtime/invocation/next");
        let (head, body) = self.api.call(request.body(String::new())?).await?.into_parts();
        let found = (
            text(&head.headers, "lambda-runtime-aws-request-id"),
            text(&head.headers, "lambda-runtime-deadline-ms").and_then(|time| time.parse().ok()),
        );
        let (true, (Some(id), Some(deadline))) = (head.status.is_success(), found) else {
            let status = head.status;
            return Err(format!("the Runtime API answered {status}, and no invocation").into());
        };
        Ok(Invocation {
            id: id.to_owned(),
            deadline: SystemTime::UNIX_EPOCH + Duration::from_millis(deadline),
            payload: match String::from_utf8(body) {
                Ok(payload) => payload,
                Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
            },
            mark: head.headers.get(INVOCATION_ID).cloned(),
        })
    }

    /// Ends an invocation with its reply, which is JSON, or with an error. A reply that Lambda rejects as late or too
    /// large is not an error here: Lambda has told the caller of the function.
    ///
    /// # Errors
    ///
    /// When the Runtime API does not answer.
    pub(super) async fn end(
        &mut self,
        invocation: &Invocation,
        reply: Result<String, Diagnostic>,
    ) -> Result<(), BoxError> {
        let id = &invocation.id;
        let request = match reply {
            Ok(reply) => Request::post(format!("/2018-06-01/runtime/invocation/{id}/response")).body(reply),
            Err(error) => Request::post(format!("/2018-06-01/runtime/invocation/{id}/error"))
                .header("lambda-runtime-function-error-type", "unhandled")
                .body(serde_json::to_string(&error)?),
        };
        let mut request = request?;
        let mark = invocation.mark.clone();
        request
            .headers_mut()
            .extend(mark.map(|value| (http::HeaderName::from_static(INVOCATION_ID), value)));
        let status = self.api.call(request).await?.status();
        if !status.is_success() {
            let reason = format!("the Runtime API answered the reply with {status}");
            log(&json!({"level": "ERROR", "message": "reply", "reason": reason}));
        }
        Ok(())
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
