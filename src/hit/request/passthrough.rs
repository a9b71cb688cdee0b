//! The passthrough document of a non-proxy REST integration, and its reply.
//!
//! `mapping-templates/passthrough.vtl` makes the document; [`document`] makes the same one natively for the local server.
//! The reply is the bare base64 string that the integration response's `CONVERT_TO_BINARY` decodes: its status and
//! headers are constants of the API, so nothing else of [`Pixel`] can reach the visitor through this ingress.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Entries, Ingress, Pairs, Parts, Request, last};
use crate::hit::pixel::Pixel;

/// The keys of `context`: the console's eighteen, and three more that the pixel needs.
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

/// Decodes the document. Any part may be missing, and no content can make this fail.
pub(crate) fn decode(top: &Entries<'_>) -> Request {
    let mut oddities = top.oddities();
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

/// Returns the resource's path with the values of its `{names}`.
fn path(resource: &str, parameters: &Pairs) -> String {
    parameters.iter().fold(resource.to_owned(), |path, (name, value)| {
        path.replace(&format!("{{{name}}}"), value)
            .replace(&format!("{{{name}+}}"), value)
    })
}

/// Encodes the reply: the image as a base64 JSON string.
pub(crate) fn reply(pixel: &Pixel) -> String {
    format!("\"{}\"", STANDARD.encode(pixel.content.bytes()))
}

/// The request data from which the local server makes the document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// The values matched by the resource's path template.
    pub path: Pairs,
    /// The decoded query; the last of repeated names is kept, as API Gateway does.
    pub query: Pairs,
    /// The headers, with names as the client wrote them; the last of repeated names is kept.
    pub headers: Pairs,
    /// The stage variables of API Gateway.
    pub stage_variables: Pairs,
    /// The values of `context`, by the names in [`CONTEXT`]; the others are empty.
    pub context: Pairs,
    /// The body, which the template passes on as JSON.
    pub body: Option<Value>,
}

/// Returns the document that the mapping template makes of this request.
pub fn document(request: &Document) -> Value {
    serde_json::to_value(Members::from_document(request))
        .unwrap_or_else(|error| unreachable!("maps of strings are JSON: {error}"))
}

/// Returns the document of [`document`] as JSON text.
pub fn text(request: &Document) -> String {
    serde_json::to_string(&Members::from_document(request))
        .unwrap_or_else(|error| unreachable!("maps of strings are JSON: {error}"))
}

/// The members of the document.
#[derive(Serialize)]
struct Members<'a> {
    #[serde(rename = "body-json")]
    body: Body<'a>,
    params: Params<'a>,
    #[serde(rename = "stage-variables")]
    stage_variables: Object<'a>,
    context: Object<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Given(&'a Value),
    /// An empty object.
    None {},
}

#[derive(Serialize)]
struct Params<'a> {
    path: Object<'a>,
    querystring: Object<'a>,
    header: Object<'a>,
}

/// Unique names with their values.
struct Object<'a>(Vec<(&'a str, &'a str)>);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

impl<'a> Members<'a> {
    fn from_document(request: &'a Document) -> Self {
        let context = CONTEXT.map(|name| (name, last(&request.context, name).unwrap_or_default()));
        Self {
            body: request.body.as_ref().map_or(Body::None {}, Body::Given),
            params: Params {
                path: object(&request.path),
                querystring: object(&request.query),
                header: object(&request.headers),
            },
            stage_variables: object(&request.stage_variables),
            context: Object(context.into()),
        }
    }
}

/// Keeps the last of repeated names. They are sorted: readers treat names that differ only in case as one name, and the
/// order decides which of them is last.
fn object(pairs: &Pairs) -> Object<'_> {
    let kept: BTreeMap<_, _> = pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    Object(kept.into_iter().collect())
}
