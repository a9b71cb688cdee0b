//! REST API with proxy integration (payload 1.0); an HTTP API sends the same payload if it is configured to.
//!
//! The reply has exactly the keys of payload 1.0: API Gateway answers 502 to any other. The image reaches the visitor
//! only when the API's `binaryMediaTypes` holds `*/*`.

use aws_lambda_events::apigw::ApiGatewayProxyResponse;
use aws_lambda_events::encodings::Body;
use aws_lambda_events::http::{HeaderName, HeaderValue};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Entries, Ingress, Parts, Request};
use crate::hit::pixel::Pixel;

/// The paths in payload 1.0, below `requestContext`, of the values that the passthrough template gives these names.
const CONTEXT: [(&str, &[&str]); 20] = [
    ("account-id", &["accountId"]),
    ("api-id", &["apiId"]),
    ("api-key", &["identity", "apiKey"]),
    ("caller", &["identity", "caller"]),
    (
        "cognito-authentication-provider",
        &["identity", "cognitoAuthenticationProvider"],
    ),
    (
        "cognito-authentication-type",
        &["identity", "cognitoAuthenticationType"],
    ),
    ("cognito-identity-id", &["identity", "cognitoIdentityId"]),
    ("cognito-identity-pool-id", &["identity", "cognitoIdentityPoolId"]),
    ("domain-name", &["domainName"]),
    ("extended-request-id", &["extendedRequestId"]),
    ("http-method", &["httpMethod"]),
    ("request-id", &["requestId"]),
    ("request-time-epoch", &["requestTimeEpoch"]),
    ("resource-id", &["resourceId"]),
    ("resource-path", &["resourcePath"]),
    ("source-ip", &["identity", "sourceIp"]),
    ("stage", &["stage"]),
    ("user", &["identity", "user"]),
    ("user-agent", &["identity", "userAgent"]),
    ("user-arn", &["identity", "userArn"]),
];

/// Decodes the payload.
pub(crate) fn decode(top: &Entries<'_>) -> Request {
    let mut oddities = top.oddities();
    let context = top
        .object("requestContext", &mut oddities)
        .pick(&CONTEXT, &mut oddities);
    let query = top.repeated_pairs(
        "multiValueQueryStringParameters",
        "queryStringParameters",
        &mut oddities,
    );
    let headers = top.repeated_pairs("multiValueHeaders", "headers", &mut oddities);
    let path_parameters = top.object("pathParameters", &mut oddities).pairs(&mut oddities);
    let stage_variables = top.object("stageVariables", &mut oddities).pairs(&mut oddities);
    Request::assemble(
        Ingress::Rest,
        Parts {
            method: top.text("httpMethod", &mut oddities),
            path: super::decode_text(&top.text("path", &mut oddities).unwrap_or_default(), &mut oddities),
            query,
            headers,
            path_parameters,
            stage_variables,
            context,
            body: super::body(top, &mut oddities),
        },
        oddities,
    )
}

/// Encodes the reply.
pub(crate) fn reply(pixel: &Pixel) -> String {
    let mut response = ApiGatewayProxyResponse::default();
    response.status_code = pixel.status.code().into();
    for (name, value) in pixel.all_headers() {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers.insert(name, value);
        }
    }
    response.body = Some(Body::Text(if pixel.body {
        STANDARD.encode(pixel.content.bytes())
    } else {
        String::new()
    }));
    response.is_base64_encoded = pixel.body;
    serde_json::to_string(&response).unwrap_or_else(|error| unreachable!("texts and numbers are JSON: {error}"))
}

#[cfg(feature = "cli")]
pub(crate) mod stage {
    //! The payload as the local server makes it.

    use serde_json::{Map, Value, json};

    use crate::hit::request::Pairs;
    use crate::hit::request::http_request::HttpRequest;

    /// Builds the payload of a request.
    pub(crate) fn payload(request: &HttpRequest) -> Value {
        let query = request.decoded_query();
        json!({
            "resource": "/{proxy+}",
            "path": request.path,
            "httpMethod": request.method,
            "headers": last(&request.headers),
            "multiValueHeaders": all(&request.headers),
            "queryStringParameters": last(&query),
            "multiValueQueryStringParameters": all(&query),
            "pathParameters": null,
            "stageVariables": null,
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "local",
                "stage": "local",
                "httpMethod": request.method,
                "resourcePath": "/{proxy+}",
                "domainName": request.header("host"),
                "requestId": request.id,
                "extendedRequestId": request.id,
                "requestTimeEpoch": request.time.timestamp_millis(),
                "identity": {"sourceIp": request.peer_text(), "userAgent": request.header("user-agent")},
            },
            "body": request.body_text(),
            "isBase64Encoded": request.body.is_some(),
        })
    }

    fn last(pairs: &Pairs) -> Option<Map<String, Value>> {
        let members: Map<_, _> = pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect();
        (!members.is_empty()).then_some(members)
    }

    fn all(pairs: &Pairs) -> Option<Map<String, Value>> {
        let mut members = Map::new();
        for (name, value) in pairs {
            if let Value::Array(values) = members.entry(name.clone()).or_insert_with(|| json!([])) {
                values.push(value.as_str().into());
            }
        }
        (!members.is_empty()).then_some(members)
    }
}
