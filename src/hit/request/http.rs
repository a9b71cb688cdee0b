//! HTTP API and function URL (payload 2.0). Both decode a base64 reply by its flag alone.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{Entries, Ingress, Parts, Request, last};
use crate::hit::pixel::Pixel;

/// The paths in payload 2.0, below `requestContext`, of the values that the passthrough template gives these names.
const CONTEXT: [(&str, &[&str]); 9] = [
    ("account-id", &["accountId"]),
    ("api-id", &["apiId"]),
    ("domain-name", &["domainName"]),
    ("http-method", &["http", "method"]),
    ("request-id", &["requestId"]),
    ("request-time-epoch", &["timeEpoch"]),
    ("source-ip", &["http", "sourceIp"]),
    ("stage", &["stage"]),
    ("user-agent", &["http", "userAgent"]),
];

/// Decodes the payload. Reads the query from `rawQueryString`, since the decoded form joins repeated names with commas.
pub(crate) fn decode(top: &Entries<'_>) -> Request {
    let mut oddities = top.oddities();
    let mut context = top
        .object("requestContext", &mut oddities)
        .pick(&CONTEXT, &mut oddities);
    if let Some(route) = top.text("routeKey", &mut oddities) {
        let path = route.split_once(' ').map_or(route.as_str(), |(_, path)| path);
        context.push(("resource-path".to_owned(), path.to_owned()));
    }
    let function_url = last(&context, "domain-name").is_some_and(|domain| domain.contains(".lambda-url."));
    let raw_query = top.text("rawQueryString", &mut oddities).unwrap_or_default();
    Request::assemble(
        if function_url {
            Ingress::FunctionUrl
        } else {
            Ingress::Http
        },
        Parts {
            method: last(&context, "http-method").map(ToOwned::to_owned),
            path: super::decode_text(&top.text("rawPath", &mut oddities).unwrap_or_default(), &mut oddities),
            query: super::parse_query(&raw_query, &mut oddities),
            headers: top.object("headers", &mut oddities).pairs(&mut oddities),
            path_parameters: top.object("pathParameters", &mut oddities).pairs(&mut oddities),
            stage_variables: top.object("stageVariables", &mut oddities).pairs(&mut oddities),
            context,
            body: super::body(top, &mut oddities),
        },
        oddities,
    )
}

/// Encodes the reply.
pub(crate) fn reply(pixel: &Pixel) -> String {
    let headers: serde_json::Map<_, _> = pixel
        .all_headers()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.into()))
        .collect();
    let body = if pixel.body {
        STANDARD.encode(pixel.content.bytes())
    } else {
        String::new()
    };
    json!({"statusCode": pixel.status.code(), "headers": headers, "body": body, "isBase64Encoded": pixel.body})
        .to_string()
}

#[cfg(feature = "cli")]
pub(crate) mod stage {
    //! The payload as the local server makes it.

    use serde_json::map::Entry;
    use serde_json::{Map, Value, json};

    use crate::hit::request::Ingress;
    use crate::hit::request::http_request::HttpRequest;

    /// Builds the payload of a request to an HTTP API or to a function URL.
    pub(crate) fn payload(ingress: Ingress, request: &HttpRequest) -> Value {
        let domain = match ingress {
            Ingress::FunctionUrl => "local.lambda-url.local.on.aws",
            _ => request.header("host").unwrap_or_default(),
        };
        let mut payload = json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": request.path,
            "rawQueryString": request.query,
            "headers": join_headers(request),
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "local",
                "domainName": domain,
                "http": {
                    "method": request.method,
                    "path": request.path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": request.peer_text(),
                    "userAgent": request.header("user-agent"),
                },
                "requestId": request.id,
                "routeKey": "$default",
                "stage": "$default",
                "timeEpoch": request.time.timestamp_millis(),
            },
            "isBase64Encoded": request.body.is_some(),
        });
        if let Some(body) = request.body_text() {
            payload["body"] = body.into();
        }
        payload
    }

    /// Returns the headers in lower case, repeated ones joined with commas.
    fn join_headers(request: &HttpRequest) -> Map<String, Value> {
        let mut members = Map::<String, Value>::new();
        for (name, value) in &request.headers {
            match members.entry(name.to_ascii_lowercase()) {
                Entry::Occupied(mut before) => {
                    if let Value::String(joined) = before.get_mut() {
                        joined.push(',');
                        joined.push_str(value);
                    }
                }
                Entry::Vacant(free) => drop(free.insert(value.as_str().into())),
            }
        }
        members
    }
}
