//! Codes, statistics and events: what is asked of the store.

use std::sync::Arc;

use chrono::Utc;
use http_body_util::Either;
use http_body_util::channel::Channel;
use hyper::header::HeaderValue;
use tokio::sync::broadcast;

use super::{HttpResponse, Source, Stage, of_reply};
use crate::hit;
use crate::manage::session::SameOrigin;
use crate::manage::token;
use crate::manage::{self, Asked, Change, Place, Problem, Reply};
use crate::question::Filter;
use crate::stage::follow;
use crate::stage::gateway::Arrived;
use crate::terminal::{printable, talk};

/// Whether a path is one of codes and statistics. Where it could be both, it is a pixel's.
pub(super) fn is_managed(path: &str) -> bool {
    manage::below(path).is_some_and(|(_, rest)| rest.contains('/') || hit::route(path).is_none())
}

/// Answers what is asked of the store.
pub(super) async fn managed(stage: Arc<Stage>, arrived: Arrived) -> HttpResponse {
    let cors = stage.config.cors_origin.clone();
    let with_cors = |mut response: HttpResponse| {
        if let Some(origin) = cors.as_deref().and_then(|origin| HeaderValue::try_from(origin).ok()) {
            let headers = response.headers_mut();
            headers.insert("access-control-allow-origin", origin);
            headers.insert("vary", HeaderValue::from_static("Origin"));
        }
        response
    };
    if arrived.method == "OPTIONS" && cors.is_some() {
        let headers = vec![
            ("access-control-allow-methods", "GET, POST, PATCH, DELETE".to_owned()),
            ("access-control-allow-headers", "authorization, content-type".to_owned()),
            ("access-control-max-age", "600".to_owned()),
        ];
        let body = String::new();
        return with_cors(of_reply(Reply {
            status: 204,
            headers,
            body,
        }));
    }
    let follows = arrived
        .header("accept")
        .is_some_and(|accept| accept.contains("text/event-stream"));
    // Whoever was away goes on where it was.
    let was_at = arrived.header("last-event-id").unwrap_or_default().to_owned();
    let follows = follows.then_some(was_at);
    let asked = asked(&stage, arrived);
    let source = stage.source();
    let (reply, reason) = match (&source, source.index()) {
        (Source::File(file), _) => answer_from(&stage, &asked, follows, file).await,
        (Source::Remote(_), Some(deliverer)) => answer_from(&stage, &asked, follows, deliverer).await,
        (Source::Remote(_), None) => {
            let elsewhere = Problem::NotFound("events go to a queue or a stream: ask where they are brought to");
            (of_reply(elsewhere.reply()), None)
        }
    };
    if let Some(reason) = reason {
        talk(&format!(
            "could not answer {} {}: {}",
            asked.method,
            printable(&asked.path, 60),
            printable(&reason, 300)
        ));
    }
    with_cors(reply)
}

/// Answers from a store, or begins to send events as they come.
async fn answer_from(
    stage: &Stage,
    asked: &Asked,
    follows: Option<String>,
    store: &impl manage::Store,
) -> (HttpResponse, Option<String>) {
    let now = Utc::now();
    if let Some(was_at) = follows.filter(|_| asked.path == "events" && asked.method == "GET") {
        return match stage.manager.may_follow(asked, &was_at, store, now).await {
            Ok((place, filter)) => (follow(stage, place, filter), None),
            Err(problem) => (of_reply(problem.reply()), None),
        };
    }
    let (reply, reason) = stage.manager.answer(asked, store, now).await;
    if let Some((change, code)) = changed(asked, &reply) {
        stage.list.note(change, &code);
    }
    (of_reply(reply), reason)
}

/// What an answer has done with a code.
fn changed(asked: &Asked, reply: &Reply) -> Option<(Change, String)> {
    let member = |name: &str| {
        let body: serde_json::Value = serde_json::from_str(&reply.body).ok()?;
        Some(body.get(name)?.as_str()?.to_owned())
    };
    match (asked.method.as_str(), asked.path.as_str(), reply.status) {
        ("DELETE", path, 200) => Some((Change::Revoked, path.strip_prefix("codes/")?.to_owned())),
        ("POST", "codes", 201) => Some((Change::Listed, member("code")?)),
        (_, "gen-image", 200) => Some((Change::Listed, member("unique_code")?)),
        _ => None,
    }
}

fn asked(stage: &Stage, arrived: Arrived) -> Asked {
    let (before, rest) = manage::below(&arrived.path).unwrap_or_default();
    let public_url = stage.config.public_url.as_deref();
    let secure = arrived
        .header("x-forwarded-proto")
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    let same_origin = SameOrigin::decide(
        arrived.header("sec-fetch-site"),
        arrived.header("origin"),
        arrived.header("host"),
        public_url,
    );
    let base = public_url.map_or_else(
        || {
            let host = arrived.header("host").unwrap_or_default();
            format!("{}://{host}{before}", if secure { "https" } else { "http" })
        },
        ToOwned::to_owned,
    );
    Asked {
        method: if arrived.method == "HEAD" {
            "GET".to_owned()
        } else {
            arrived.method.clone()
        },
        path: crate::request::decode_text(rest, &mut Vec::new()),
        query: arrived.decoded_query(),
        authorization: arrived.header("authorization").map(ToOwned::to_owned),
        base,
        peer: arrived.peer,
        authorized: false,
        keeps_tokens: true,
        session: arrived
            .header("cookie")
            .and_then(token::find_session)
            .map(ToOwned::to_owned),
        same_origin,
        secure: secure || public_url.is_some_and(|url| url.starts_with("https:")),
        body: arrived.body.unwrap_or_default(),
    }
}

/// Sends every event that is stored after a place, or from now on, as server-sent events.
fn follow(stage: &Stage, place: Place, filter: Filter) -> HttpResponse {
    let (sender, body) = Channel::new(16);
    if let Some(events) = stage.followed(|followed| followed.as_ref().map(broadcast::Sender::subscribe)) {
        tokio::spawn(follow::follow(stage.source(), place, filter, events, sender));
    }
    let headers = vec![
        ("content-type", "text/event-stream".to_owned()),
        ("cache-control", "no-store".to_owned()),
    ];
    let reply = Reply {
        status: 200,
        headers,
        body: String::new(),
    };
    of_reply(reply).map(|_| Either::Right(body))
}
