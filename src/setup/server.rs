//! The server of a destination: administrative requests, product, version and error messages.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::product::Product;
use crate::client::http::{ClientRequest, ClientResponse, Deliverer};

/// The largest administrative response that is read.
const MAX_RESPONSE_BYTES: usize = 16 << 20;

/// The time-out of one administrative request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// An error of a server, with a message that includes a remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    message: String,
    silent: bool,
}

impl ServerError {
    /// Makes an error with this message about a response.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            silent: false,
        }
    }

    /// Returns true if there was no response at all.
    pub const fn is_silent(&self) -> bool {
        self.silent
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for ServerError {}

/// A JSON response and its status.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body; null when there is none.
    pub body: Value,
}

/// Sends a request to the destination's server; `path` begins with a slash.
///
/// # Errors
///
/// When there is no response, it refuses the credentials, or it is not JSON.
pub async fn send_request(
    deliverer: &Deliverer,
    method: &'static str,
    path: &str,
    body: Option<&Value>,
) -> Result<Reply, ServerError> {
    let target = deliverer.target();
    let url = format!("{}{path}", target.base);
    let body = body.map(Value::to_string).unwrap_or_default();
    let answer = deliverer
        .send(
            ClientRequest::json(method, url, body),
            MAX_RESPONSE_BYTES,
            REQUEST_TIMEOUT,
        )
        .await;
    let explained = |reason: &str| explain(reason, &target.base, target.auth.name());
    let answer = answer.map_err(|error| ServerError {
        message: explained(&error.to_string()),
        silent: true,
    })?;
    check_response(answer, method, path).map_err(|reason| ServerError::new(explained(&reason)))
}

fn check_response(answer: ClientResponse, method: &str, path: &str) -> Result<Reply, String> {
    let ClientResponse { status, body } = answer;
    let text = String::from_utf8_lossy(&body);
    let parsed: Option<Value> = if body.is_empty() {
        Some(Value::Null)
    } else {
        serde_json::from_slice(&body).ok()
    };
    match (status, parsed) {
        (401 | 403, parsed) => {
            let reason = parsed.as_ref().map_or_else(|| excerpt(&text), reason);
            Err(format!("`{method} {path}` was refused with status {status}: {reason}"))
        }
        (status, Some(body)) => Ok(Reply { status, body }),
        (405 | 404 | 400, None) => Ok(Reply {
            status,
            body: Value::String(text.into_owned()),
        }),
        (status, None) => Err(format!(
            "`{method} {path}` was answered with status {status} and no JSON: {}",
            excerpt(&text)
        )),
    }
}

/// Returns the reason in an error response, in the server's words.
pub fn reason(body: &Value) -> String {
    let error = body.get("error").unwrap_or(body);
    let part = |name: &str| error.get(name).and_then(Value::as_str);
    match (part("type"), part("reason")) {
        (Some(kind), Some(reason)) => excerpt(&format!("{kind}: {reason}")),
        _ => excerpt(&error.as_str().map_or_else(|| error.to_string(), ToOwned::to_owned)),
    }
}

fn excerpt(text: &str) -> String {
    let line: String = text
        .chars()
        .take(400)
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect();
    if line.is_empty() { "no body".to_owned() } else { line }
}

/// Returns the product and the version of the server.
///
/// # Errors
///
/// As for [`send_request`], and when it is neither OpenSearch nor Elasticsearch or of a version that is not supported.
pub async fn product(deliverer: &Deliverer) -> Result<Product, ServerError> {
    let target = deliverer.target();
    if target.serverless {
        return Ok(Product::Serverless);
    }
    let root = send_request(deliverer, "GET", "/", None).await?;
    let flavour = root.body.pointer("/version/distribution").and_then(Value::as_str);
    let number = root
        .body
        .pointer("/version/number")
        .and_then(Value::as_str)
        .map(ToOwned::to_owned);
    let opensearch = flavour == Some("opensearch");
    let number = match number {
        // OpenSearch calls itself 7.10 where `compatibility.override_main_response_version` is set, for old clients.
        Some(number) if !(opensearch && number.starts_with("7.")) => Some(number),
        _ => node_version(deliverer).await?,
    };
    let Some((major, minor)) = number.as_deref().and_then(version) else {
        let base = &target.base;
        return Err(ServerError::new(format!(
            "`{base}` is neither OpenSearch nor Elasticsearch; is the URL right?"
        )));
    };
    let product = if opensearch {
        Product::OpenSearch(major, minor)
    } else {
        Product::Elasticsearch(major, minor)
    };
    if product.is_supported() {
        return Ok(product);
    }
    Err(ServerError::new(format!(
        "{product} is not supported; use OpenSearch 1 to 3 or Elasticsearch 6.8 to 9"
    )))
}

/// Returns the version of a server that does not answer at its root.
async fn node_version(deliverer: &Deliverer) -> Result<Option<String>, ServerError> {
    let nodes = send_request(deliverer, "GET", "/_nodes/_local?filter_path=nodes.*.version", None).await?;
    let node = nodes
        .body
        .get("nodes")
        .and_then(Value::as_object)
        .and_then(|nodes| nodes.values().next().cloned());
    Ok(node.and_then(|node| node.get("version")?.as_str().map(ToOwned::to_owned)))
}

fn version(number: &str) -> Option<(u32, u32)> {
    let mut parts = number.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Adds a remedy to a reason, on a line of its own.
pub fn explain(reason: &str, base: &str, auth: &str) -> String {
    let lower = reason.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let hint = if says(&["status "]) {
        hint_at_refusal(&says, auth)
    } else {
        hint_at_silence(&says)
    };
    hint.map_or_else(
        || format!("{base}: {reason}"),
        |hint| format!("{base}: {reason}\n  {hint}"),
    )
}

/// Returns a remedy for a missing response.
fn hint_at_silence(says: &impl Fn(&[&str]) -> bool) -> Option<String> {
    let hint = if says(&["dns", "lookup", "resolve"]) {
        "the host's name is not known here; is it spelt right, and is the domain in a VPC that this machine cannot see?"
    } else if says(&["certificate", "unknownissuer", "handshake"]) {
        "the server's certificate is not trusted; for a private authority set `PIXEL_CA_FILE`"
    } else if says(&["connection refused"]) {
        "nothing listens there; is the server up and the port right?"
    } else if says(&["timed out"]) {
        "no answer in time; security group, firewall, or a VPC that this machine cannot see?"
    } else {
        return None;
    };
    Some(hint.to_owned())
}

/// Returns a remedy for an error response.
fn hint_at_refusal(says: &impl Fn(&[&str]) -> bool, auth: &str) -> Option<String> {
    let hint = if says(&["status 401"]) {
        return Some(format!(
            "the credentials (`{auth}`) are not accepted; check user and password, API key or AWS credentials"
        ));
    } else if says(&["cluster read-only"]) {
        "the cluster is read-only: set `cluster.blocks.read_only` and `cluster.blocks.read_only_allow_delete` to null (`PUT /_cluster/settings`)"
    } else if says(&["read-only-allow-delete", "read-only / allow delete", "flood"]) {
        "the index is read-only because the disk was full: free space, then set `index.blocks.read_only_allow_delete` to null"
    } else if says(&["cluster_block", "read-only", "read_only"]) {
        "the index is blocked: set its `index.blocks.read_only` and `index.blocks.write` to null"
    } else if says(&["status 403"]) {
        return Some(format!(
            "the credentials (`{auth}`) may not do this; allow the action named above in the role, the IAM policy and the domain's access policy"
        ));
    } else if says(&["<html", "<!doctype"]) {
        "that is a page for people, most often a login or Dashboards; give the URL of the index, not of Dashboards"
    } else if says(&["status 404", "status 405"]) {
        "there is no such thing, and it is not created by itself; is the URL's path right?"
    } else {
        return None;
    };
    Some(hint.to_owned())
}
