//! What API Gateway does between a visitor and the function: the payload of a request, the answer of a reply.

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
    /// What its integration response declares.
    pub content: Content,
}

impl Resource {
    /// The image for whom it answers with one.
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

/// The resource that a path belongs to, with what stood before it (the stage's name) and the code, both decoded.
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

/// The payload that the ingress makes of a request; none when it has no such resource. Only the non-proxy API declares its
/// resources; everything else hands every path to the function.
pub fn payload(ingress: Ingress, arrived: &HttpRequest) -> Option<Vec<u8>> {
    let payload = match ingress {
        Ingress::Passthrough => return passthrough(arrived).map(String::into_bytes),
        Ingress::Rest => rest::stage::payload(arrived),
        Ingress::Http | Ingress::FunctionUrl => http::stage::payload(ingress, arrived),
        Ingress::Alb => alb::stage::payload(arrived, false),
        Ingress::AlbMultiValue => alb::stage::payload(arrived, true),
    };
    Some(payload.to_string().into_bytes())
}

fn passthrough(arrived: &HttpRequest) -> Option<String> {
    let (resource, stage, code) = resource(&arrived.path)?;
    let peer = arrived.peer_text();
    let time = arrived.time.timestamp_millis().to_string();
    let context = [
        ("http-method", arrived.method.as_str()),
        ("stage", &stage),
        ("source-ip", &peer),
        ("user-agent", arrived.header("user-agent").unwrap_or_default()),
        ("request-id", &arrived.id),
        ("resource-path", resource.path),
        ("extended-request-id", &arrived.id),
        ("request-time-epoch", &time),
        ("domain-name", arrived.header("host").unwrap_or_default()),
    ];
    Some(passthrough::text(&Document {
        path: code.map(|code| ("code".to_owned(), code)).into_iter().collect(),
        query: arrived.decoded_query(),
        headers: arrived.headers.clone(),
        stage_variables: Pairs::new(),
        context: context.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        body: None,
    }))
}

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: Pairs,
    /// Body.
    pub body: Vec<u8>,
}

impl HttpAnswer {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Says in the header `X-Pixel` what became of the hit, where the answer has it.
    pub fn set_outcome(&mut self, outcome: &str) {
        let found = self
            .headers
            .iter_mut()
            .find(|(name, _)| name.eq_ignore_ascii_case("x-pixel"));
        if let Some((_, value)) = found {
            outcome.clone_into(value);
        }
    }

    /// The answer that carries this pixel.
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

/// The answer that the ingress makes of the function's reply. A passthrough integration decodes the base64 string and adds
/// the headers that the API declares.
pub fn http_answer(ingress: Ingress, arrived: &HttpRequest, reply: &str, cors_origin: Option<&str>) -> HttpAnswer {
    match ingress {
        Ingress::Passthrough => {
            let content = resource(&arrived.path).map_or(Image::Gif.into(), |(resource, ..)| resource.content);
            let pixel = match content {
                Content::Image(image) => Pixel::new(Status::Ok, image, "accepted"),
                // API Gateway itself never answers 304; who serves the script with this stage is better off.
                Content::Script => Pixel::script(
                    arrived.header("if-none-match"),
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
            answer.body = if arrived.method == "HEAD" {
                Vec::new()
            } else {
                decoded.unwrap_or_default()
            };
            answer
        }
        _ => proxy_answer(arrived, reply).unwrap_or_else(|| HttpAnswer {
            status: 502,
            headers: Pairs::new(),
            body: Vec::new(),
        }),
    }
}

/// The answer of a proxy's reply; none when the reply is not of the shape, which API Gateway answers with 502.
fn proxy_answer(arrived: &HttpRequest, reply: &str) -> Option<HttpAnswer> {
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
    let body = if arrived.method == "HEAD" {
        Vec::new()
    } else {
        STANDARD.decode(encoded).ok()?
    };
    Some(HttpAnswer { status, headers, body })
}
