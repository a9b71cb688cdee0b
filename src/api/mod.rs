//! The API of `pixel serve` and of the function's role `manage`: codes and statistics over HTTP.
//!
//! A request is parsed into an [`ApiCall`], which is always valid, and answered from a [`Store`]. The caller sends a
//! bearer token, or IAM has authorized the request before. `/v1/api/status`, `gen-image` and `info` answer in the form
//! of an earlier system, `TrackPixel`.

pub mod call;
pub mod failures;
pub mod openapi;
pub mod opt_out;
pub mod page;
pub mod rate_limit;
pub mod reply;
pub mod session;
pub mod snippet;

use crate::query::store::{AddResult, ListedCode, Position, Store};
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::token::{Scope, Tokens};
use crate::hit::code::{Contents, Keys, MARK, Signature};
use crate::hit::event::format_iso;
use crate::query::{
    Cursor, EventPage, EventQuery, Filter, NO_UNIQUES, Query, QueryError, QueryResult, Timestamp, wrong,
};
use call::Annotation;
pub use call::{ApiCall, NewCode};
pub use failures::Failures;
pub use reply::{ApiResponse, Problem};
use session::SameOrigin;

/// The largest body that is read, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// The longest code that is kept in the list, in bytes.
const MAX_CODE_BYTES: usize = 256;

/// The longest note, in bytes.
const MAX_NOTE_BYTES: usize = 4096;

/// A request to the API.
#[derive(Clone, Debug, Default)]
pub struct ApiRequest {
    /// The method in upper case.
    pub method: String,
    /// The path after `/v1/api/`, decoded; see [`split_prefix`].
    pub path: String,
    /// The decoded query.
    pub query: Vec<(String, String)>,
    /// The body, as it was sent.
    pub body: Vec<u8>,
    /// The header `Authorization`.
    pub authorization: Option<String>,
    /// The base URL at which visitors reach the pixel.
    pub base: String,
    /// The address of the client, by which failures are counted.
    pub peer: Option<IpAddr>,
    /// True if the request is already authorized, by IAM or before its body was read.
    pub authorized: bool,
    /// The warnings for the owner of the server.
    pub warnings: Vec<Warning>,
    /// True if tokens and sessions are looked up in the store; false in the function.
    pub keeps_tokens: bool,
    /// The token of a session's cookie.
    pub session: Option<String>,
    /// The origin of the request relative to this server, according to the browser.
    pub same_origin: SameOrigin,
    /// True if the visitor's browser uses HTTPS.
    pub secure: bool,
}

/// A problem in the setup of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The kind of warning, for programs.
    pub code: &'static str,
    /// The problem and its remedy, for people.
    pub message: &'static str,
}

/// The prefix of all paths of the API.
pub const PREFIX: &str = "/v1/api/";

/// Splits a path at [`PREFIX`]: returns the part before it, such as a stage's name, and the part after it.
pub fn split_prefix(path: &str) -> Option<(&str, &str)> {
    path.rfind(PREFIX)
        .map(|place| (&path[..place], &path[place + PREFIX.len()..]))
}

/// A source of cryptographically secure random bytes; false if it fails.
pub type Random = fn(&mut [u8]) -> bool;

/// The API without its store.
#[derive(Debug)]
pub struct Manager {
    /// The keys of signed codes.
    pub keys: Keys,
    /// The tokens that are not kept with the events.
    pub tokens: Tokens,
    /// The source of random bytes.
    pub random: Random,
    /// The wrong tokens in the present minute.
    pub failures: Failures,
}

impl Manager {
    /// Answers a request. The second value is a failure of the store, for the log.
    pub async fn answer(
        &self,
        request: &ApiRequest,
        store: &impl Store,
        now: DateTime<Utc>,
    ) -> (ApiResponse, Option<String>) {
        match self.try_answer(request, store, now).await {
            Ok(reply) => (reply, None),
            Err(problem) => problem_response(&problem),
        }
    }

    /// Checks the authorization of a request before its body is read. A request that is not authorized is answered as
    /// by [`Self::answer`]. For an authorized one, the caller reads the body and sets [`ApiRequest::authorized`].
    ///
    /// # Errors
    ///
    /// The response to a request that is not authorized, and a failure of the store for the log.
    pub async fn permit(
        &self,
        request: &ApiRequest,
        store: &impl Store,
        now: DateTime<Utc>,
    ) -> Result<(), (ApiResponse, Option<String>)> {
        // No scope depends on the body.
        let without_body = ApiRequest {
            body: b"{}".to_vec(),
            ..request.clone()
        };
        let permitted = self.parse_authorized(&without_body, store, now).await;
        // Other problems are reported with the answer, but an unknown path at once.
        match permitted {
            Ok(Err(problem @ (Problem::NotFound(_) | Problem::Method(_)))) | Err(problem) => {
                Err(problem_response(&problem))
            }
            Ok(_) => Ok(()),
        }
    }

    async fn try_answer(
        &self,
        request: &ApiRequest,
        store: &impl Store,
        now: DateTime<Utc>,
    ) -> Result<ApiResponse, Problem> {
        match self.parse_authorized(request, store, now).await?? {
            ApiCall::SignIn => self.sign_in(request, store, now).await,
            ApiCall::SignOut => session::sign_out(request, store).await,
            call => self.call(call, request, store, now).await,
        }
    }

    /// Parses a request and checks its authorization.
    async fn parse_authorized(
        &self,
        request: &ApiRequest,
        store: &impl Store,
        now: DateTime<Utc>,
    ) -> Result<Result<ApiCall, Problem>, Problem> {
        let call = ApiCall::parse(request, now);
        // A caller without authorization learns nothing about parameters either.
        let scope = match &call {
            Ok(call) => call.scope(),
            Err(Problem::NotFound(_)) => None,
            Err(_) => Some(Scope::StatsRead),
        };
        if let Some(scope) = scope {
            self.authorize(request, store, scope, call.is_err(), now).await?;
        }
        Ok(call)
    }

    /// Checks that the caller has a scope. For an impossible call any token is accepted.
    async fn authorize(
        &self,
        request: &ApiRequest,
        store: &impl Store,
        scope: Scope,
        any: bool,
        now: DateTime<Utc>,
    ) -> Result<(), Problem> {
        if request.authorized {
            return Ok(());
        }
        let known = match request.bearer() {
            Some(token) => {
                self.scopes_of_token(request, &crate::config::token::hash_token(token), store, now)
                    .await?
            }
            None if request.session.is_some() => {
                if (scope == Scope::CodesWrite || request.method != "GET") && request.same_origin != SameOrigin::Yes {
                    return Err(Problem::OtherOrigin);
                }
                self.scopes_of_session(request, store, now).await?
            }
            None => return Err(Problem::Unauthorized),
        };
        match known {
            Some(scopes) if any || scopes.contains(&scope) => Ok(()),
            Some(_) => Err(Problem::Forbidden(scope)),
            None => Err(self.count_wrong_token(request, now)),
        }
    }

    /// Counts a wrong token, and returns the problem for its sender.
    fn count_wrong_token(&self, request: &ApiRequest, now: DateTime<Utc>) -> Problem {
        if self.failures.add(request.peer, now) {
            Problem::TooMany
        } else {
            Problem::Unauthorized
        }
    }

    /// Authorizes a follower of live events, and returns the position to start from and the filter. A client that was
    /// disconnected gives its position by the header `Last-Event-ID`, or by the parameter `after`.
    ///
    /// # Errors
    ///
    /// [`Problem`] as for every other call.
    pub async fn authorize_follower(
        &self,
        request: &ApiRequest,
        last_event_id: &str,
        store: &impl Store,
        now: DateTime<Utc>,
    ) -> Result<(Position, Filter), Problem> {
        match ApiCall::parse(request, now) {
            Ok(ApiCall::Events(latest)) => {
                self.authorize(request, store, Scope::EventsRead, false, now).await?;
                let after = match last_event_id {
                    "" => latest.after,
                    id => Some(Cursor::parse("Last-Event-ID", id)?),
                };
                Ok((after.map_or(Position::Now, Position::After), latest.filter))
            }
            Ok(_) => Err(Problem::NotFound("only events can be followed")),
            Err(problem) => {
                self.authorize(request, store, Scope::EventsRead, true, now).await?;
                Err(problem)
            }
        }
    }

    async fn call(
        &self,
        call: ApiCall,
        request: &ApiRequest,
        store: &impl Store,
        now: DateTime<Utc>,
    ) -> Result<ApiResponse, Problem> {
        let ok = |body: &Value| Ok(ApiResponse::json(200, body));
        match call {
            ApiCall::Status => {
                let mut status = json!({
                    "data": "Pixel tracker API running smoothly",
                    "status": "success",
                    "public_url": request.base,
                    "sessions": request.keeps_tokens,
                });
                if !request.warnings.is_empty() {
                    status["warnings"] = json!(request.warnings);
                }
                ok(&status)
            }
            // These calls are answered before.
            ApiCall::SignIn | ApiCall::SignOut => Err(Problem::NotFound(session::NOT_HERE)),
            ApiCall::OpenApi => ok(&openapi::document(&request.base)),
            ApiCall::GenImage => {
                let listed = self.create(NewCode::default(), store, now, true).await?;
                ok(&json!({"image_url": image(&request.base, &listed.code), "unique_code": listed.code}))
            }
            ApiCall::Info { code, latest } => self.info(&code, &latest, store, now).await,
            ApiCall::Stats(question) => {
                let answer = store.ask(&question).await?;
                ok(&stats(&question, &answer))
            }
            ApiCall::Events(latest) => {
                let EventPage { events, next } = store.find(&latest).await?;
                ok(&json!({"events": events, "next": next.map(|cursor| cursor.to_string())}))
            }
            ApiCall::Codes { after, limit } => {
                let mut codes = store.codes(after.as_ref(), limit + 1).await?;
                let more = codes.len() > limit;
                codes.truncate(limit);
                let place = |code: &ListedCode| Cursor {
                    time: code.created_at.0.timestamp_millis(),
                    id: code.code.clone(),
                };
                let next = codes.last().filter(|_| more).map(|code| place(code).to_string());
                let codes: Vec<_> = codes.iter().map(|code| show(&request.base, code)).collect();
                ok(&json!({"codes": codes, "next": next, "signing": !self.keys.is_empty()}))
            }
            ApiCall::Create(new) => {
                let listed = self.create(*new, store, now, false).await?;
                let location = format!("{}{PREFIX}codes/{}", request.base, listed.code);
                Ok(ApiResponse::json(201, &show(&request.base, &listed)).with("location", location))
            }
            ApiCall::Code(code) => {
                let mut shown = show(&request.base, &known_code(store, &code).await?);
                let opt_out = store.opt_out(&code).await?;
                shown["opted_out"] = opt_out.is_some().into();
                if let Some(since) = opt_out.and_then(|opt_out| opt_out.since) {
                    shown["opted_out_at"] = format_iso(since.0).into();
                }
                ok(&shown)
            }
            ApiCall::Annotate(code, Annotation { campaign, note }) => {
                let listed = known_code(store, &code).await?;
                let changed = ListedCode {
                    campaign: campaign.apply(listed.campaign),
                    note: note.apply(listed.note),
                    ..listed
                };
                store.replace(&changed).await?;
                ok(&show(&request.base, &changed))
            }
            ApiCall::Revoke(code) => {
                let listed = known_code(store, &code).await?;
                let revoked = ListedCode {
                    revoked_at: listed.revoked_at.or(Some(Timestamp(now))),
                    ..listed
                };
                store.replace(&revoked).await?;
                ok(&show(&request.base, &revoked))
            }
        }
    }

    /// Makes a code and adds it to the list. It is signed if there is a key and the owner has not chosen a code, and
    /// short if it has no other content.
    async fn create(
        &self,
        new: NewCode,
        store: &impl Store,
        now: DateTime<Utc>,
        short: bool,
    ) -> Result<ListedCode, Problem> {
        for _ in 0..8 {
            let listed = ListedCode {
                code: self.make(&new, now, short)?,
                created_at: Timestamp(now),
                campaign: new.campaign.clone(),
                recipient: self.recipient_hash(&new)?,
                note: new.note.clone(),
                revoked_at: None,
            };
            match store.add(&listed).await? {
                AddResult::Done => return Ok(listed),
                // A random code that exists is replaced by another.
                AddResult::Exists if new.code.is_none() && (short || self.keys.is_empty()) => {}
                AddResult::Exists => return Err(Problem::Conflict),
            }
        }
        Err(Problem::Unavailable("no code was free".to_owned()))
    }

    /// Returns the keyed hash of a new code's recipient.
    fn recipient_hash(&self, new: &NewCode) -> Result<Option<String>, Problem> {
        let Some(recipient) = &new.recipient else {
            return Ok(None);
        };
        match self.keys.recipient(recipient) {
            Ok(hash) => Ok(Some(hash.to_string())),
            Err(_) => needs_keys("recipient"),
        }
    }

    fn make(&self, new: &NewCode, now: DateTime<Utc>, short: bool) -> Result<String, Problem> {
        if let Some(code) = &new.code {
            return Ok(code.clone());
        }
        let wrong_member = |name: &str, reason: String| Ok::<String, Problem>(wrong(name, reason)?);
        if short && !self.keys.is_empty() {
            let random = self.bytes()?;
            return self
                .keys
                .short(random)
                .or_else(|error| wrong_member("code", error.to_string()));
        }
        if !self.keys.is_empty() {
            let recipient = new
                .recipient
                .as_deref()
                .map(|recipient| self.keys.recipient(recipient))
                .transpose();
            let contents = Contents {
                campaign: new.campaign.clone(),
                recipient: recipient.ok().flatten(),
                sent: Some(new.sent.unwrap_or(now)),
                expires: new.expires,
            };
            return self
                .keys
                .sign(&contents)
                .or_else(|error| wrong_member("campaign", error.to_string()));
        }
        let signed = [
            ("recipient", new.recipient.is_some()),
            ("sent", new.sent.is_some()),
            ("expires", new.expires.is_some()),
        ];
        if let Some((name, _)) = signed.into_iter().find(|(_, given)| *given) {
            return needs_keys(name);
        }
        let code = URL_SAFE_NO_PAD.encode(self.bytes::<12>()?);
        // The first character marks a signed code.
        Ok(code.replacen(
            ['-', MARK],
            "x",
            usize::from(!code.starts_with(|first: char| first.is_ascii_alphanumeric())),
        ))
    }

    fn bytes<const N: usize>(&self) -> Result<[u8; N], Problem> {
        let mut bytes = [0; N];
        if (self.random)(&mut bytes) {
            Ok(bytes)
        } else {
            Err(Problem::Unavailable("the system gives no random bytes".to_owned()))
        }
    }

    async fn info(
        &self,
        code: &str,
        latest: &EventQuery,
        store: &impl Store,
        now: DateTime<Utc>,
    ) -> Result<ApiResponse, Problem> {
        let listed = store.code(code).await?;
        let checked = self.keys.check(code, now);
        let genuine = matches!(checked.signature, Signature::Valid | Signature::Expired);
        if listed.is_none() && !genuine {
            return Err(Problem::NotFound("there is no such code"));
        }
        let revoked = listed.as_ref().and_then(|listed| listed.revoked_at);
        let created = listed.map(|listed| listed.created_at.0).or(checked.contents.sent);
        let total = store.count(&latest.filter).await?;
        let EventPage { events, next } = store.find(latest).await?;
        let text = |event: &Value, pointer: &str| {
            event
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let opens: Vec<_> = events
            .iter()
            .map(|event| json!({"uri": code, "time_stamp": text(event, "/@timestamp"), "ip_address": text(event, "/client/ip")}))
            .collect();
        let mut body = json!({
            "uri": code,
            "total_opens": total,
            "created_at": created.map(format_iso),
            "timeseries_data": opens,
        });
        if let Some(next) = next {
            body["next"] = next.to_string().into();
        }
        if let Some(Timestamp(revoked)) = revoked {
            body["revoked_at"] = format_iso(revoked).into();
        }
        Ok(ApiResponse::json(200, &body))
    }
}

/// Returns the response to a problem, and a failure of the store for the log.
fn problem_response(problem: &Problem) -> (ApiResponse, Option<String>) {
    let reason = match problem {
        Problem::Unavailable(reason) => Some(reason.clone()),
        Problem::Unprepared => Some(QueryError::Unprepared.to_string()),
        _ => None,
    };
    (problem.reply(), reason)
}

fn needs_keys<T>(parameter: &str) -> Result<T, Problem> {
    Ok(wrong(parameter, "it needs keys: set `PIXEL_CODE_KEYS`")?)
}

async fn known_code(store: &impl Store, code: &str) -> Result<ListedCode, Problem> {
    store
        .code(code)
        .await?
        .ok_or(Problem::NotFound("there is no such code"))
}

fn image(base: &str, code: &str) -> String {
    format!("{base}/image/{code}.png")
}

fn show(base: &str, listed: &ListedCode) -> Value {
    let mut shown = serde_json::to_value(listed).unwrap_or_default();
    shown["image_url"] = image(base, &listed.code).into();
    shown
}

/// Builds the response to a query, with its period.
pub fn stats(question: &Query, answer: &QueryResult) -> Value {
    let mut body = serde_json::to_value(answer).unwrap_or_default();
    body["from"] = question.filter.from.map(format_iso).into();
    body["to"] = question.filter.to.map(format_iso).into();
    body["unique"] = question.unique.map_or(NO_UNIQUES, |unique| unique.name).into();
    if let Some(series) = &question.series {
        body["interval"] = series.interval.name().into();
        body["zone"] = series.zone.name().into();
    }
    body
}
