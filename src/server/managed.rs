//! The HTTP API of `pixel serve`: codes, statistics and events.

use crate::query;
use std::sync::Arc;

use chrono::Utc;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Either, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::HeaderValue;
use tokio::sync::broadcast;

use super::connections::Connection;
use super::{HttpResponse, PixelServer, QuerySource, build_response};
use crate::api;
use crate::api::session::SameOrigin;
use crate::api::{ApiRequest, ApiResponse, Problem};
use crate::config::token;
use crate::hit::read;
use crate::hit::request::http_request::HttpRequest;
use crate::query::Filter;
use crate::query::store::{CodeChange, Position};
use crate::server::follow;
use crate::terminal::{print_message, printable};

/// Returns true if a path belongs to the API. A path that could be both is a pixel's.
pub(super) fn is_managed(path: &str) -> bool {
    api::split_prefix(path).is_some_and(|(_, rest)| rest.contains('/') || read::find_route(path).is_none())
}

/// Answers a request for the API.
pub(super) async fn answer(
    server: Arc<PixelServer>,
    request: HttpRequest,
    body: Incoming,
    connection: &Connection,
) -> HttpResponse {
    let cors = server.config.cors_origin.clone();
    let with_cors = |mut response: HttpResponse| {
        if let Some(origin) = cors.as_deref().and_then(|origin| HeaderValue::try_from(origin).ok()) {
            let headers = response.headers_mut();
            headers.insert("access-control-allow-origin", origin);
            headers.insert("vary", HeaderValue::from_static("Origin"));
        }
        response
    };
    if request.method == "OPTIONS" && cors.is_some() {
        let headers = vec![
            ("access-control-allow-methods", "GET, POST, PATCH, DELETE".to_owned()),
            ("access-control-allow-headers", "authorization, content-type".to_owned()),
            ("access-control-max-age", "600".to_owned()),
        ];
        let body = String::new();
        return with_cors(build_response(ApiResponse {
            status: 204,
            headers,
            body,
        }));
    }
    let follows = request
        .header("accept")
        .is_some_and(|accept| accept.contains("text/event-stream"));
    // A client that was disconnected continues where it was.
    let last_event_id = request.header("last-event-id").unwrap_or_default().to_owned();
    let follows = follows.then_some(last_event_id);
    let mut api_request = build_api_request(&server, request);
    let source = server.source();
    // Only these methods have a body; another body is not read.
    if matches!(api_request.method.as_str(), "POST" | "PATCH") && !body.is_end_stream() {
        let now = Utc::now();
        let permitted = match (&source, source.index()) {
            (QuerySource::File(file), _) => server.manager.permit(&api_request, file, now).await,
            (QuerySource::Remote(_), Some(deliverer)) => server.manager.permit(&api_request, deliverer, now).await,
            (QuerySource::Remote(_), None) => Ok(()),
        };
        if let Err((reply, reason)) = permitted {
            log_failure(&api_request, reason);
            return with_cors(build_response(reply));
        }
        api_request.authorized = true;
        connection.begin_body();
        let read = tokio::time::timeout(server.limits.body, read_body(body)).await;
        connection.begin_answer();
        match read {
            Ok(read) => api_request.body = read,
            Err(_) => return with_cors(build_response(Problem::SlowBody.reply())),
        }
    }
    let (reply, reason) = match (&source, source.index()) {
        (QuerySource::File(file), _) => answer_from(&server, &api_request, follows, file).await,
        (QuerySource::Remote(_), Some(deliverer)) => answer_from(&server, &api_request, follows, deliverer).await,
        (QuerySource::Remote(_), None) => {
            let elsewhere = Problem::NotFound("events go to a queue or a stream: ask where they are brought to");
            (build_response(elsewhere.reply()), None)
        }
    };
    log_failure(&api_request, reason);
    with_cors(reply)
}

/// Logs a failure of the store.
fn log_failure(api_request: &ApiRequest, reason: Option<String>) {
    if let Some(reason) = reason {
        print_message(&format!(
            "could not answer {} {}: {}",
            api_request.method,
            printable(&api_request.path, 60),
            printable(&reason, 300)
        ));
    }
}

/// Reads a body. A body that is too long or incomplete is replaced by one that is not JSON, so that the response
/// explains the limits.
async fn read_body(body: Incoming) -> Vec<u8> {
    let read = Limited::new(body, api::MAX_BODY_BYTES + 1).collect().await;
    read.map_or_else(|_| vec![b' '; api::MAX_BODY_BYTES + 1], |body| body.to_bytes().to_vec())
}

/// Answers from a store, or begins to send live events.
async fn answer_from(
    server: &PixelServer,
    api_request: &ApiRequest,
    follows: Option<String>,
    store: &impl query::store::Store,
) -> (HttpResponse, Option<String>) {
    let now = Utc::now();
    if let Some(last_event_id) = follows.filter(|_| api_request.path == "events" && api_request.method == "GET") {
        return match server
            .manager
            .authorize_follower(api_request, &last_event_id, store, now)
            .await
        {
            Ok((place, filter)) => (follow(server, place, filter), None),
            Err(problem) => (build_response(problem.reply()), None),
        };
    }
    let (reply, reason) = server.manager.answer(api_request, store, now).await;
    if let Some((change, code, campaign)) = find_change(api_request, &reply) {
        server.list.note(change, &code, campaign.as_deref());
    }
    (build_response(reply), reason)
}

/// Returns the change that a response made to a code, and the code's campaign.
fn find_change(api_request: &ApiRequest, reply: &ApiResponse) -> Option<(CodeChange, String, Option<String>)> {
    let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let member = |name: &str| Some(body.get(name)?.as_str()?.to_owned());
    let (change, code) = match (api_request.method.as_str(), api_request.path.as_str(), reply.status) {
        ("DELETE", path, 200) => (CodeChange::Revoked, path.strip_prefix("codes/")?.to_owned()),
        ("POST", "codes", 201) => (CodeChange::Listed, member("code")?),
        // Another campaign was recorded. A revoked code stays revoked.
        ("PATCH", path, 200) => (CodeChange::Listed, path.strip_prefix("codes/")?.to_owned()),
        (_, "gen-image", 200) => (CodeChange::Listed, member("unique_code")?),
        _ => return None,
    };
    Some((change, code, member("campaign")))
}

fn build_api_request(server: &PixelServer, request: HttpRequest) -> ApiRequest {
    let (before, rest) = api::split_prefix(&request.path).unwrap_or_default();
    let public_url = server.config.public_url.as_deref();
    let secure = request
        .header("x-forwarded-proto")
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    let same_origin = SameOrigin::decide(
        request.header("sec-fetch-site"),
        request.header("origin"),
        request.header("host"),
        public_url,
    );
    let base = public_url.map_or_else(
        || {
            let host = request.header("host").unwrap_or_default();
            format!("{}://{host}{before}", if secure { "https" } else { "http" })
        },
        ToOwned::to_owned,
    );
    ApiRequest {
        method: if request.method == "HEAD" {
            "GET".to_owned()
        } else {
            request.method.clone()
        },
        path: crate::hit::request::decode_text(rest, &mut Vec::new()),
        query: request.decoded_query(),
        authorization: request.header("authorization").map(ToOwned::to_owned),
        base,
        peer: request.peer,
        authorized: false,
        warnings: server.untrusted_proxy.warning().into_iter().collect(),
        keeps_tokens: true,
        session: request
            .header("cookie")
            .and_then(token::find_session)
            .map(ToOwned::to_owned),
        same_origin,
        secure: secure || public_url.is_some_and(|url| url.starts_with("https:")),
        body: request.body.unwrap_or_default(),
    }
}

/// Sends every event that is stored after a place, or from now on, as server-sent events.
fn follow(server: &PixelServer, place: Position, filter: Filter) -> HttpResponse {
    let (sender, body) = Channel::new(16);
    if let Some(events) = server.with_followers(|followed| followed.as_ref().map(broadcast::Sender::subscribe)) {
        tokio::spawn(follow::follow(server.source(), place, filter, events, sender));
    }
    let headers = vec![
        ("content-type", "text/event-stream".to_owned()),
        ("cache-control", "no-store".to_owned()),
    ];
    let reply = ApiResponse {
        status: 200,
        headers,
        body: String::new(),
    };
    build_response(reply).map(|_| Either::Right(body))
}
