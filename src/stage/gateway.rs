//! What API Gateway does between a visitor and the function: the payload of a request, the answer of a reply.

use std::net::IpAddr;

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use percent_encoding::percent_decode;

use crate::pixel::{Image, Pixel};
use crate::request::passthrough::{Document, document};
use crate::request::{Ingress, Pairs};

/// One HTTP request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// The method.
    pub method: String,
    /// The path as it stood in the request line, still encoded.
    pub path: String,
    /// The query as it stood in the request line, without `?`.
    pub query: String,
    /// The headers in their order.
    pub headers: Pairs,
    /// The other end of the connection.
    pub peer: Option<IpAddr>,
    /// The stage's own id of this request.
    pub id: String,
    /// When it arrived.
    pub time: DateTime<Utc>,
}

/// A path template of the deployed API, as `infra/pixel.yaml` declares them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The template.
    pub path: &'static str,
    /// The media type that its integration response declares.
    pub image: Image,
}

/// The resources of the deployed API.
pub const RESOURCES: [Resource; 5] = [
    Resource {
        path: "/pixel",
        image: Image::Gif,
    },
    Resource {
        path: "/pixel.gif",
        image: Image::Gif,
    },
    Resource {
        path: "/pixel.png",
        image: Image::Png,
    },
    Resource {
        path: "/pixel/{code}",
        image: Image::Gif,
    },
    Resource {
        path: "/image/{code}",
        image: Image::Png,
    },
];

/// The resource that a path belongs to, with what stood before it (the stage's name) and the code, both decoded.
pub fn resource(path: &str) -> Option<(Resource, String, Option<String>)> {
    let path = decode(path);
    let (before, name) = path.rsplit_once('/')?;
    let find = |template: &str| RESOURCES.into_iter().find(|resource| resource.path == template);
    if let Some(resource) = find(&format!("/{name}")) {
        return Some((resource, stage_name(before), None));
    }
    let (stage, parent) = before.rsplit_once('/')?;
    let resource = find(&format!("/{parent}/{{code}}")).filter(|_| !name.is_empty())?;
    Some((resource, stage_name(stage), Some(name.to_owned())))
}

fn stage_name(prefix: &str) -> String {
    prefix.trim_start_matches('/').to_owned()
}

/// Percent-decodes what a visitor sent; bytes that are no UTF-8 become U+FFFD.
fn decode(text: &str) -> String {
    percent_decode(text.as_bytes()).decode_utf8_lossy().into_owned()
}

/// A query's names and values, decoded, in their order.
///
/// ```
/// # use pixel::stage::gateway::parse_query;
/// let parsed = parse_query("a=1&b=x+y%21&&c");
/// assert_eq!(parsed, [("a", "1"), ("b", "x y!"), ("c", "")].map(|(name, value)| (name.into(), value.into())));
/// ```
pub fn parse_query(query: &str) -> Pairs {
    let parts = query.split('&').filter(|part| !part.is_empty());
    let text = |text: &str| decode(&text.replace('+', " "));
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (text(name), text(value))
        })
        .collect()
}

/// The payload that the ingress makes of a request; none when it has no such resource.
pub fn payload(ingress: Ingress, arrived: &Arrived) -> Option<Vec<u8>> {
    match ingress {
        Ingress::Passthrough => passthrough(arrived),
    }
}

fn passthrough(arrived: &Arrived) -> Option<Vec<u8>> {
    let (resource, stage, code) = resource(&arrived.path)?;
    let user_agent = crate::request::last(&arrived.headers, "user-agent").unwrap_or_default();
    let host = crate::request::last(&arrived.headers, "host").unwrap_or_default();
    let peer = arrived
        .peer
        .map(|address| address.to_canonical().to_string())
        .unwrap_or_default();
    let time = arrived.time.timestamp_millis().to_string();
    let context = [
        ("http-method", arrived.method.as_str()),
        ("stage", &stage),
        ("source-ip", &peer),
        ("user-agent", user_agent),
        ("request-id", &arrived.id),
        ("resource-path", resource.path),
        ("extended-request-id", &arrived.id),
        ("request-time-epoch", &time),
        ("domain-name", host),
    ];
    let document = document(&Document {
        path: code.map(|code| ("code".to_owned(), code)).into_iter().collect(),
        query: parse_query(&arrived.query),
        headers: arrived.headers.clone(),
        stage_variables: Pairs::new(),
        context: context.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        body: None,
    });
    Some(document.to_string().into_bytes())
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
    /// The answer that carries this pixel.
    pub fn of(pixel: &Pixel) -> Self {
        let headers = pixel
            .all_headers()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let body = if pixel.body {
            pixel.image.bytes().to_vec()
        } else {
            Vec::new()
        };
        Self {
            status: pixel.status,
            headers,
            body,
        }
    }
}

/// The answer that the ingress makes of the function's reply. A passthrough integration decodes the base64 string and adds
/// the headers that the API declares.
pub fn http_answer(ingress: Ingress, arrived: &Arrived, reply: &str, cors_origin: Option<&str>) -> HttpAnswer {
    match ingress {
        Ingress::Passthrough => {
            let image = resource(&arrived.path).map_or(Image::Gif, |(resource, ..)| resource.image);
            let mut answer = HttpAnswer::of(&Pixel::new(200, image, "accepted").with_cors(cors_origin));
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
    }
}
