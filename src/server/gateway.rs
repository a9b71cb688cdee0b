//! A model of API Gateway between a visitor and the function: makes the payload of a request and the HTTP response of a
//! reply.

use crate::hit::request::http_request::HttpRequest;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::hit::answer;
use crate::hit::outcome::Ignored;
use crate::hit::pixel::{Content, Image, Pixel, Status};
use crate::hit::request;
use crate::hit::request::passthrough;
use crate::hit::request::passthrough::Document;
use crate::hit::request::{Ingress, Pairs, alb, http, rest};

/// A path template of the deployed API, as `infra/pixel.yaml` declares them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The template.
    pub path: &'static str,
    /// The content that its integration response declares.
    pub content: Content,
}

impl Resource {
    /// Returns the image of the resource; for the script, the one of its error responses.
    pub const fn image(self) -> Image {
        match self.content {
            Content::Image(image) => image,
            Content::Script => Image::Gif,
        }
    }
}

/// The resources of the deployed API.
pub const RESOURCES: [Resource; 6] = [
    Resource {
        path: "/pixel",
        content: Content::Image(Image::Gif),
    },
    Resource {
        path: "/pixel.gif",
        content: Content::Image(Image::Gif),
    },
    Resource {
        path: "/pixel.png",
        content: Content::Image(Image::Png),
    },
    Resource {
        path: "/pixel.js",
        content: Content::Script,
    },
    Resource {
        path: "/pixel/{code}",
        content: Content::Image(Image::Gif),
    },
    Resource {
        path: "/image/{code}",
        content: Content::Image(Image::Png),
    },
];

/// Returns the resource of a path, the part before it (the stage's name) and the code, both decoded.
pub fn resource(path: &str) -> Option<(Resource, String, Option<String>)> {
    // Split first: an encoded slash is part of a code.
    let decode = |text: &str| request::decode_text(text, &mut Vec::new());
    let (before, name) = path.rsplit_once('/')?;
    let name = decode(name);
    let find = |template: &str| RESOURCES.into_iter().find(|resource| resource.path == template);
    if let Some(resource) = find(&format!("/{name}")) {
        return Some((resource, decode(before.trim_start_matches('/')), None));
    }
    let (stage, parent) = before.rsplit_once('/')?;
    let resource = find(&format!("/{parent}/{{code}}")).filter(|_| !name.is_empty())?;
    Some((resource, decode(stage.trim_start_matches('/')), Some(name)))
}

/// Builds the payload that the ingress makes of a request; none when it has no such resource. Only the non-proxy API
/// declares its resources; all other ingresses pass every path to the function.
pub fn payload(ingress: Ingress, request: &HttpRequest) -> Option<Vec<u8>> {
    let payload = match ingress {
        Ingress::Passthrough => return passthrough(request).map(String::into_bytes),
        Ingress::Rest => rest::stage::payload(request),
        Ingress::Http | Ingress::FunctionUrl => http::stage::payload(ingress, request),
        Ingress::Alb => alb::stage::payload(request, false),
        Ingress::AlbMultiValue => alb::stage::payload(request, true),
    };
    Some(payload.to_string().into_bytes())
}

fn passthrough(request: &HttpRequest) -> Option<String> {
    let (resource, stage, code) = resource(&request.path)?;
    let peer = request.peer_text();
    let time = request.time.timestamp_millis().to_string();
    let context = [
        ("http-method", request.method.as_str()),
        ("stage", &stage),
        ("source-ip", &peer),
        ("user-agent", request.header("user-agent").unwrap_or_default()),
        ("request-id", &request.id),
        ("resource-path", resource.path),
        ("extended-request-id", &request.id),
        ("request-time-epoch", &time),
        ("domain-name", request.header("host").unwrap_or_default()),
    ];
    Some(passthrough::text(&Document {
        path: code.map(|code| ("code".to_owned(), code)).into_iter().collect(),
        query: request.decoded_query(),
        headers: request.headers.clone(),
        stage_variables: Pairs::new(),
        context: context.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        body: None,
    }))
}

/// An HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The headers, in their order.
    pub headers: Pairs,
    /// The body, empty for `HEAD`.
    pub body: Vec<u8>,
}

impl HttpAnswer {
    /// Returns the value of the first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Sets the header `X-Pixel` to the outcome of the hit, if the response has this header.
    pub fn set_outcome(&mut self, outcome: &str) {
        let found = self
            .headers
            .iter_mut()
            .find(|(name, _)| name.eq_ignore_ascii_case("x-pixel"));
        if let Some((_, value)) = found {
            outcome.clone_into(value);
        }
    }

    /// Builds the response that carries this pixel.
    pub fn from_pixel(pixel: &Pixel) -> Self {
        let headers = pixel
            .all_headers()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let body = if pixel.body {
            pixel.content.bytes().to_vec()
        } else {
            Vec::new()
        };
        Self {
            status: pixel.status.code(),
            headers,
            body,
        }
    }
}

/// Builds the response that the ingress makes of the function's reply. A passthrough integration decodes the base64
/// string and adds the headers that the API declares.
pub fn http_answer(ingress: Ingress, request: &HttpRequest, reply: &str, cors_origin: Option<&str>) -> HttpAnswer {
    match ingress {
        Ingress::Passthrough => {
            let content = resource(&request.path).map_or(Image::Gif.into(), |(resource, ..)| resource.content);
            let pixel = match content {
                Content::Image(image) => Pixel::new(Status::Ok, image, "accepted"),
                // API Gateway itself never answers 304; this server does, to save the transfer.
                Content::Script => Pixel::script(
                    request.header("if-none-match"),
                    answer::explain_ignored(Ignored::Script),
                ),
            };
            let mut answer = HttpAnswer::from_pixel(&pixel.with_cors(cors_origin));
            if answer.status == 304 {
                return answer;
            }
            let decoded = serde_json::from_str::<String>(reply)
                .ok()
                .and_then(|text| STANDARD.decode(text).ok());
            answer.body = if request.method == "HEAD" {
                Vec::new()
            } else {
                decoded.unwrap_or_default()
            };
            answer
        }
        _ => proxy_answer(request, reply).unwrap_or_else(|| HttpAnswer {
            status: 502,
            headers: Pairs::new(),
            body: Vec::new(),
        }),
    }
}

/// Parses the reply to a proxy integration; none when it has another shape, which API Gateway answers with 502.
fn proxy_answer(request: &HttpRequest, reply: &str) -> Option<HttpAnswer> {
    let reply: Value = serde_json::from_str(reply).ok()?;
    let status = reply.get("statusCode")?.as_u64()?.try_into().ok()?;
    let text = |value: &Value| {
        value
            .as_str()
            .or_else(|| value.get(0)?.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    let headers = ["headers", "multiValueHeaders"]
        .into_iter()
        .filter_map(|key| reply.get(key)?.as_object())
        .flatten();
    let headers = headers.map(|(name, value)| (name.clone(), text(value))).collect();
    let encoded = reply.get("body").and_then(Value::as_str).unwrap_or_default();
    let body = if request.method == "HEAD" {
        Vec::new()
    } else {
        STANDARD.decode(encoded).ok()?
    };
    Some(HttpAnswer { status, headers, body })
}
