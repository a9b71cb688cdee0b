//! The passthrough document of a non-proxy REST integration, and its reply.
//!
//! `mapping-templates/passthrough.vtl` makes the document; [`document`] makes the same one natively for the local stage.
//! The reply is the bare base64 string that the integration response's `CONVERT_TO_BINARY` decodes: status and headers of
//! the answer are constants of the API, so nothing else of [`Pixel`] can reach the visitor through this ingress.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{Entries, Ingress, Pairs, Parts, Request, last};
use crate::pixel::Pixel;

/// The keys of `context`: the console's eighteen, and the three that the pixel needs.
pub const CONTEXT: [&str; 21] = [
    "account-id",
    "api-id",
    "api-key",
    "authorizer-principal-id",
    "caller",
    "cognito-authentication-provider",
    "cognito-authentication-type",
    "cognito-identity-id",
    "cognito-identity-pool-id",
    "http-method",
    "stage",
    "source-ip",
    "user",
    "user-agent",
    "user-arn",
    "request-id",
    "resource-id",
    "resource-path",
    "extended-request-id",
    "request-time-epoch",
    "domain-name",
];

/// Decodes the document. Anything may be missing from it, and nothing in it can make this fail.
pub(crate) fn decode(top: &Entries<'_>) -> Request {
    let mut oddities = Vec::new();
    if top.repeated() {
        oddities.push(super::Oddity::DuplicateKey);
    }
    let params = top.object("params", &mut oddities);
    let query = params.object("querystring", &mut oddities).pairs(&mut oddities);
    let headers = params.object("header", &mut oddities).pairs(&mut oddities);
    let path_parameters = params.object("path", &mut oddities).pairs(&mut oddities);
    let stage_variables = top.object("stage-variables", &mut oddities).pairs(&mut oddities);
    let context = top.object("context", &mut oddities).pairs(&mut oddities);
    let body = top
        .get("body-json")
        .map(RawValue::get)
        .filter(|text| *text != "{}" && *text != "\"\"");
    Request::assemble(
        Ingress::Passthrough,
        Parts {
            method: last(&context, "http-method").map(ToOwned::to_owned),
            path: path(last(&context, "resource-path").unwrap_or_default(), &path_parameters),
            query,
            headers,
            path_parameters,
            stage_variables,
            context,
            body: body.map(Into::into),
        },
        oddities,
    )
}

/// The resource's path with what its `{names}` matched.
fn path(resource: &str, parameters: &Pairs) -> String {
    parameters.iter().fold(resource.to_owned(), |path, (name, value)| {
        path.replace(&format!("{{{name}}}"), value)
            .replace(&format!("{{{name}+}}"), value)
    })
}

/// The reply: the image as a base64 JSON string.
pub(crate) fn reply(pixel: &Pixel) -> String {
    format!("\"{}\"", STANDARD.encode(pixel.image.bytes()))
}

/// What the stage knows of one request when it makes the document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// What the resource's path template matched.
    pub path: Pairs,
    /// The decoded query; of repeated names the last is kept, as API Gateway does.
    pub query: Pairs,
    /// Headers, names as the client wrote them; of repeated names the last is kept.
    pub headers: Pairs,
    /// Stage variables.
    pub stage_variables: Pairs,
    /// `context`, by the names in [`CONTEXT`]; the others are empty.
    pub context: Pairs,
    /// The body, which the template passes on as JSON.
    pub body: Option<Value>,
}

/// The document that the mapping template makes of this request.
pub fn document(request: &Document) -> Value {
    let context: Map<String, Value> = CONTEXT
        .iter()
        .map(|name| {
            let value = super::last(&request.context, name).unwrap_or_default();
            ((*name).to_owned(), value.into())
        })
        .collect();
    json!({
        "body-json": request.body.clone().unwrap_or_else(|| json!({})),
        "params": {
            "path": object(&request.path),
            "querystring": object(&request.query),
            "header": object(&request.headers),
        },
        "stage-variables": object(&request.stage_variables),
        "context": context,
    })
}

fn object(pairs: &Pairs) -> Map<String, Value> {
    pairs
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().into()))
        .collect()
}
