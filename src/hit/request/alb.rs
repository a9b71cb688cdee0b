//! Application Load Balancer, with single-value or multi-value headers.
//!
//! A load balancer gives no id, no time and no address except the last entry of `X-Forwarded-For`, which it appends itself.
//! It does not decode the query. A target group with multi-value headers needs multi-value headers in the reply.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{Entries, Ingress, Pairs, Parts, Request};
use crate::hit::pixel::Pixel;

/// Decodes the payload.
pub(crate) fn decode(top: &Entries<'_>) -> Request {
    let mut oddities = top.oddities();
    let multi_value = top.get("multiValueHeaders").is_some();
    let headers = top.repeated_pairs("multiValueHeaders", "headers", &mut oddities);
    let query = top.repeated_pairs(
        "multiValueQueryStringParameters",
        "queryStringParameters",
        &mut oddities,
    );
    let decoded = |(name, value): (String, String), oddities: &mut Vec<_>| {
        (
            super::decode_form(&name, oddities),
            super::decode_form(&value, oddities),
        )
    };
    let method = top.text("httpMethod", &mut oddities);
    Request::assemble(
        if multi_value {
            Ingress::AlbMultiValue
        } else {
            Ingress::Alb
        },
        Parts {
            path: super::decode_text(&top.text("path", &mut oddities).unwrap_or_default(), &mut oddities),
            query: query.into_iter().map(|pair| decoded(pair, &mut oddities)).collect(),
            context: context(&headers, method.as_deref()),
            headers,
            method,
            path_parameters: Pairs::new(),
            stage_variables: Pairs::new(),
            body: super::body(top, &mut oddities),
        },
        oddities,
    )
}

fn context(headers: &Pairs, method: Option<&str>) -> Pairs {
    let header = |wanted: &str| headers.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
    let forwarded = header("x-forwarded-for").and_then(|(_, value)| value.rsplit(',').next());
    let host = header("host").map(|(_, value)| value.as_str());
    let known = [
        ("http-method", method),
        ("source-ip", forwarded.map(str::trim)),
        ("domain-name", host),
    ];
    known
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect()
}

/// Encodes the reply.
pub(crate) fn reply(pixel: &Pixel, multi_value: bool) -> String {
    let body = if pixel.body {
        STANDARD.encode(pixel.content.bytes())
    } else {
        String::new()
    };
    let mut reply = json!({
        "statusCode": pixel.status.code(),
        "statusDescription": pixel.status.line(),
        "body": body,
        "isBase64Encoded": pixel.body,
    });
    let value = |value: &str| if multi_value { json!([value]) } else { value.into() };
    let headers: Map<String, Value> = pixel
        .all_headers()
        .map(|(name, text)| (name.to_owned(), value(text)))
        .collect();
    reply[if multi_value { "multiValueHeaders" } else { "headers" }] = headers.into();
    reply.to_string()
}

#[cfg(feature = "cli")]
pub(crate) mod stage {
    //! The payload as the local server makes it.

    use serde_json::{Map, Value, json};

    use crate::hit::request::Pairs;
    use crate::hit::request::http_request::HttpRequest;

    /// Builds the payload of a request; appends the peer to `X-Forwarded-For` as the load balancer does.
    pub(crate) fn payload(request: &HttpRequest, multi_value: bool) -> Value {
        let mut headers: Pairs = request
            .headers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
            .collect();
        append_forwarded(&mut headers, &request.peer_text());
        let query: Pairs = request.raw_query().collect();
        let mut payload = json!({
            "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:local:123456789012:targetgroup/local/0"}},
            "httpMethod": request.method,
            "path": request.path,
            "body": request.body_text().unwrap_or_default(),
            "isBase64Encoded": request.body.is_some(),
        });
        let (query_key, headers_key) = if multi_value {
            ("multiValueQueryStringParameters", "multiValueHeaders")
        } else {
            ("queryStringParameters", "headers")
        };
        payload[query_key] = members(&query, multi_value).into();
        payload[headers_key] = members(&headers, multi_value).into();
        payload
    }

    fn append_forwarded(headers: &mut Pairs, peer: &str) {
        match headers.iter_mut().rev().find(|(name, _)| name == "x-forwarded-for") {
            Some((_, value)) => *value = format!("{value}, {peer}"),
            None => headers.push(("x-forwarded-for".to_owned(), peer.to_owned())),
        }
    }

    fn members(pairs: &Pairs, multi_value: bool) -> Map<String, Value> {
        let mut members = Map::<String, Value>::new();
        for (name, value) in pairs {
            match members.get_mut(name) {
                Some(Value::Array(values)) => values.push(value.as_str().into()),
                _ if multi_value => drop(members.insert(name.clone(), json!([value]))),
                _ => drop(members.insert(name.clone(), value.as_str().into())),
            }
        }
        members
    }
}
