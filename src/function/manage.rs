//! The role `manage`: the API of codes and statistics, behind API Gateway, a function URL or a load balancer; and the
//! opt-out page for recipients of mails.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lambda_runtime::{LambdaEvent, Runtime, service_fn};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::readable::ReadableLayer;
use super::{BoxError, Function, log};
use crate::api;
use crate::api::opt_out;
use crate::api::opt_out::{CodeReach, OptOutRequest, OptOutScope, RequestSite};
use crate::api::page;
use crate::api::rate_limit::RateLimit;
use crate::api::{ApiRequest, ApiResponse, Failures, Manager, Problem};
use crate::client::codes;
use crate::client::http::secure_random;
use crate::config::Variables;
use crate::hit::code::Keys;
use crate::hit::read::find_address;
use crate::hit::request::{Ingress, Request};
use crate::query::QueryError;
use crate::query::store::Requester;

/// Runs the role.
pub(super) async fn run(variables: &Variables) -> Result<(), BoxError> {
    let function = Function::new(variables);
    let manager = Manager {
        keys: function.config.code_keys.clone(),
        tokens: function.config.tokens.clone(),
        random: secure_random,
        failures: Failures::default(),
    };
    let limits = Limits {
        changes: RateLimit::new(MAX_CHANGES),
        lookups: RateLimit::new(MAX_LOOKUPS),
    };
    let handler = service_fn(|invocation: LambdaEvent<Box<RawValue>>| {
        let (function, manager, limits) = (&function, &manager, &limits);
        async move { Ok::<_, BoxError>(answer(function, manager, limits, invocation.payload.get()).await) }
    });
    Runtime::new(handler).layer(ReadableLayer).run().await
}

async fn answer(function: &Function, manager: &Manager, limits: &Limits, payload: &str) -> Value {
    let Ok(request) = Request::decode(payload.as_bytes()) else {
        return proxy_response(Ingress::Rest, Problem::NotFound("this is not a request").reply());
    };
    let ingress = request.ingress;
    if function.config.page && is_root(&request) {
        let page = page::answer(&request.method, request.header("if-none-match"));
        return proxy_response(ingress, page.unwrap_or_else(|| Problem::Method("GET").reply()));
    }
    if let Some(code) = opt_out::extract_code(&request.path) {
        let reply = answer_opt_out(function, limits, &manager.keys, &request, code).await;
        // Without the code: codes of mails do not belong in the log.
        let reply = reply.unwrap_or_else(|error| {
            log(&json!({"level": "ERROR", "message": "opt-out", "reason": error.to_string()}));
            opt_out::render_unavailable()
        });
        return proxy_response(ingress, opt_out::without_body_for_head(&request.method, reply));
    }
    let request = read_request(function, request, payload);
    let reply = match function.router.index() {
        Ok(index) => {
            let (reply, reason) = manager.answer(&request, index, chrono::Utc::now()).await;
            if let Some(reason) = reason {
                log(&json!({"level": "ERROR", "message": "manage", "path": request.path, "reason": reason}));
            }
            reply
        }
        Err(reason) => {
            log(&json!({"level": "ERROR", "message": "manage", "reason": reason}));
            Problem::Unavailable(reason).reply()
        }
    };
    proxy_response(ingress, with_cors(reply, function.config.cors_origin.as_deref()))
}

/// Returns true if a request is for the API's root, with or without the stage's name.
fn is_root(request: &Request) -> bool {
    let path = request.path.trim_matches('/');
    path.is_empty() || Some(path) == request.context("stage")
}

/// The rate limits of the opt-out page, in each sandbox.
struct Limits {
    changes: RateLimit,
    lookups: RateLimit,
}

/// The number of changes in a minute from one network.
const MAX_CHANGES: u32 = 600;
const MAX_LOOKUPS: u32 = 120;

/// Answers the opt-out page for recipients, which is public. Only codes of one person are stored, so that nobody can
/// fill the index with others; stored opt-outs are shown.
async fn answer_opt_out(
    function: &Function,
    limits: &Limits,
    keys: &Keys,
    request: &Request,
    code: &str,
) -> Result<ApiResponse, QueryError> {
    let Some(action) = OptOutRequest::parse(&request.method, &request.query) else {
        return Ok(opt_out::render_wrong_method());
    };
    if !opt_out::can_be_remembered(code) {
        return Ok(opt_out::render_unknown_code());
    }
    let config = &function.config;
    if config.opt_out.contains(code) {
        return Ok(opt_out::render_fixed_by_owner());
    }
    let site = RequestSite::read(&request.headers, config.public_url.as_deref());
    if action != OptOutRequest::See && site == RequestSite::Other {
        return Ok(opt_out::render_other_site());
    }
    let now = chrono::Utc::now();
    let peer = request.context("source-ip").and_then(|address| address.parse().ok());
    let peer = find_address(&request.headers, peer, config.trusted_hops).or(peer);
    let checked = keys.check(code, now);
    let proven = CodeReach::from_signature(&checked);
    let limit = if proven.is_some() {
        &limits.changes
    } else {
        &limits.lookups
    };
    if !limit.allow(peer, now) {
        return Ok(opt_out::render_too_many());
    }
    let index = function.router.index().map_err(QueryError::Unavailable)?;
    let is_out = codes::is_opted_out(index, code);
    let reach = async {
        match proven {
            Some(reach) => Ok(reach),
            None => CodeReach::find(code, &checked, index).await,
        }
    };
    let (is_out, reach) = tokio::try_join!(is_out, reach)?;
    match (reach, action) {
        (CodeReach::Shared | CodeReach::Unknown, _) if is_out => Ok(opt_out::render_fixed_by_owner()),
        (CodeReach::Unknown, _) => Ok(opt_out::render_unknown_code()),
        // A cookie of this host is not sent to the image's host.
        (CodeReach::Shared, action) => Ok(opt_out::render_shared_code(action)),
        (CodeReach::Personal, OptOutRequest::See) => Ok(opt_out::render_page(OptOutScope::Recipient, is_out)),
        // Only a browser can opt in again; a mail provider's one-click request never does.
        (CodeReach::Personal, OptOutRequest::In) if site != RequestSite::Same => Ok(opt_out::render_other_site()),
        (CodeReach::Personal, action) => {
            let out = action == OptOutRequest::Out;
            if out != is_out {
                codes::change_opt_out(index, code, out, Requester::Page, now).await?;
            }
            Ok(opt_out::render_changed(site, out))
        }
    }
}

fn read_request(function: &Function, request: Request, payload: &str) -> ApiRequest {
    let payload: Value = serde_json::from_str(payload).unwrap_or_default();
    let (before, rest) = api::split_prefix(&request.path).unwrap_or(("", ""));
    let host = request.header("host").unwrap_or_default();
    let base = function.config.public_url.clone();
    ApiRequest {
        method: if request.method == "HEAD" {
            "GET".to_owned()
        } else {
            request.method.clone()
        },
        path: rest.to_owned(),
        authorization: request.header("authorization").map(ToOwned::to_owned),
        base: base.unwrap_or_else(|| format!("https://{host}{before}")),
        peer: request.context("source-ip").and_then(|address| address.parse().ok()),
        authorized: is_authorized_by_iam(&payload["requestContext"]),
        warnings: Vec::new(),
        body: body(&payload),
        query: request.query,
        // Bearer tokens are in `PIXEL_TOKENS`, and there are no sessions.
        ..ApiRequest::default()
    }
}

/// Returns true if IAM has authorized the caller. Only API Gateway and Lambda write this part of a payload.
fn is_authorized_by_iam(context: &Value) -> bool {
    let of_rest = context["identity"]["userArn"].as_str();
    let of_http = context["authorizer"]["iam"]["userArn"].as_str();
    of_rest.or(of_http).is_some_and(|arn| arn.starts_with("arn:"))
}

/// Returns the body as it was sent; a decoded request has it as JSON only.
fn body(payload: &Value) -> Vec<u8> {
    let text = payload["body"].as_str().unwrap_or_default();
    let decoded = (payload["isBase64Encoded"] == true)
        .then(|| STANDARD.decode(text).ok())
        .flatten();
    decoded.unwrap_or_else(|| text.as_bytes().to_vec())
}

fn with_cors(mut reply: ApiResponse, origin: Option<&str>) -> ApiResponse {
    if let Some(origin) = origin {
        reply.headers.push(("access-control-allow-origin", origin.to_owned()));
        reply.headers.push(("vary", "Origin".to_owned()));
    }
    reply
}

/// Builds the reply in the form of a proxy integration.
fn proxy_response(ingress: Ingress, reply: ApiResponse) -> Value {
    let ApiResponse { status, headers, body } = reply;
    let mut proxied = json!({"statusCode": status, "body": body, "isBase64Encoded": false});
    if ingress == Ingress::AlbMultiValue {
        let headers: serde_json::Map<_, _> = headers
            .into_iter()
            .map(|(name, value)| (name.to_owned(), json!([value])))
            .collect();
        proxied["multiValueHeaders"] = headers.into();
    } else {
        let headers: serde_json::Map<_, _> = headers
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        proxied["headers"] = headers.into();
    }
    proxied
}
