//! One HTTP request, whichever way it came to us.
//!
//! Each ingress has a file of its own that decodes its payload and encodes its reply; what they share is here. Nothing in
//! this module reads a clock, and nothing in it judges what a visitor said: that is [`crate::hit`]'s work.

pub mod passthrough;

use std::fmt;

use serde_json::value::RawValue;

use crate::pixel::Pixel;

/// The ways a request can reach the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ingress {
    /// API Gateway REST API, non-proxy integration, the document made by `mapping-templates/passthrough.vtl`.
    Passthrough,
}

impl Ingress {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 1] = [Self::Passthrough];

    /// The name used in logs, events and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passthrough => "passthrough",
        }
    }

    /// The ingress that a payload came through, told by its decisive mark alone.
    pub fn recognise(_payload: &[u8]) -> Self {
        Self::Passthrough
    }

    /// The reply that this ingress expects for `pixel`, as JSON text.
    pub fn reply(self, pixel: &Pixel) -> String {
        match self {
            Self::Passthrough => passthrough::reply(pixel),
        }
    }
}

impl fmt::Display for Ingress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Name and value pairs in the order in which they arrived; names may repeat.
pub type Pairs = Vec<(String, String)>;

/// One HTTP request, decoded. Every part may be missing; what could not be read is listed in `oddities`.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// How it came.
    pub ingress: Ingress,
    /// The method in upper case, `GET` where the payload has none.
    pub method: String,
    /// The path, percent-decoded, without what the ingress itself put in front when it says so.
    pub path: String,
    /// The decoded query, sorted by name; repeated names keep their order, because not every ingress keeps the order of the names.
    pub query: Pairs,
    /// Headers, names in lower case, sorted like the query.
    pub headers: Pairs,
    /// What the resource's path template matched, such as `code`.
    pub path_parameters: Pairs,
    /// API Gateway's stage variables.
    pub stage_variables: Pairs,
    /// What the ingress says of the request, under the names that the passthrough template gives it.
    pub context: Pairs,
    /// The body as JSON text, when there is one.
    pub body: Option<Box<RawValueText>>,
    /// What was wrong with the payload, without its contents.
    pub oddities: Vec<Oddity>,
}

/// JSON text that has been checked to be JSON.
pub type RawValueText = str;

impl Request {
    /// Decodes the payload of one invocation.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the payload is no JSON object, or is an event of something that is no HTTP request.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let text = String::from_utf8_lossy(payload);
        let raw: &RawValue = serde_json::from_str(&text).map_err(|_| DecodeError::NotJson)?;
        let top = Entries::read(raw).ok_or(DecodeError::NotAnObject)?;
        if let Some(service) = foreign(&top) {
            return Err(DecodeError::Foreign(service));
        }
        Ok(passthrough::decode(&top))
    }

    /// The last header of this name, which must be given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        last(&self.headers, name)
    }

    /// The last query parameter of this name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        last(&self.query, name)
    }

    /// What the ingress says under this name, when it says something.
    pub fn context(&self, name: &str) -> Option<&str> {
        last(&self.context, name).filter(|value| !value.is_empty())
    }
}

/// The last value of `name`: what API Gateway keeps of a repeated parameter.
pub fn last<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs
        .iter()
        .rev()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

/// Something in a payload or a hit that is not as it should be. It never stops a hit; it is stored with the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Oddity {
    /// A part of the payload has another type than the ingress gives it.
    WrongType,
    /// The same key stood twice in one object of the payload; the first was kept, since what API Gateway writes itself stands
    /// before what a visitor can inject.
    DuplicateKey,
    /// A percent-escape or text that is not UTF-8; replaced by U+FFFD.
    InvalidEncoding,
    /// NUL or another control character in a name or value.
    ControlCharacter,
    /// The payload has no usable client address.
    NoAddress,
    /// Fewer forwarded addresses than trusted proxies; the connection's own address was taken.
    ShortForwardedFor,
    /// The receive time is missing or not a time; the function's clock was taken.
    NoTime,
    /// More parameters or headers than are kept.
    TooMany,
}

impl Oddity {
    /// The name stored with the event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WrongType => "wrong_type",
            Self::DuplicateKey => "duplicate_key",
            Self::InvalidEncoding => "invalid_encoding",
            Self::ControlCharacter => "control_character",
            Self::NoAddress => "no_address",
            Self::ShortForwardedFor => "short_forwarded_for",
            Self::NoTime => "no_time",
            Self::TooMany => "too_many",
        }
    }
}

/// Why a payload is not an HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Not JSON at all.
    NotJson,
    /// JSON, but not an object.
    NotAnObject,
    /// An event of another service, such as an S3 notification: nobody is waiting for an image.
    Foreign(&'static str),
}

impl DecodeError {
    /// The reason as one word, for counting.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::Foreign(_) => "foreign_event",
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson => formatter.write_str("the payload is not JSON"),
            Self::NotAnObject => formatter.write_str("the payload is not a JSON object"),
            Self::Foreign(service) => write!(
                formatter,
                "the payload is an event of {service}, not an HTTP request; connect this function to API Gateway, a function URL or a load balancer"
            ),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Recognises events that are no HTTP requests by the marks that AWS documents for them.
fn foreign(top: &Entries<'_>) -> Option<&'static str> {
    if let Some(records) = top.get("Records") {
        let known = [
            ("\"aws:s3\"", "S3"),
            ("\"aws:sqs\"", "SQS"),
            ("\"aws:sns\"", "SNS"),
            ("\"aws:kinesis\"", "Kinesis"),
            ("\"aws:dynamodb\"", "DynamoDB"),
        ];
        let text = records.get();
        return Some(
            known
                .iter()
                .find(|(mark, _)| text.contains(mark))
                .map_or("a record source", |(_, name)| name),
        );
    }
    if top.get("detail-type").is_some() {
        return Some("EventBridge");
    }
    if top.get("awslogs").is_some() {
        return Some("CloudWatch Logs");
    }
    if top.get("ResponseURL").is_some() && top.get("RequestType").is_some() {
        return Some("CloudFormation");
    }
    None
}

/// The members of a JSON object in their order, values unread.
///
/// `serde_json::Value` would keep the last of two equal keys and lose that there were two; a visitor who can inject a key
/// could then replace what API Gateway wrote.
#[derive(Debug, Default)]
pub(crate) struct Entries<'a> {
    members: Vec<(String, &'a RawValue)>,
    repeated: bool,
}

impl<'a> Entries<'a> {
    /// Reads `raw` when it is an object.
    pub(crate) fn read(raw: &'a RawValue) -> Option<Self> {
        serde_json::from_str(raw.get()).ok()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.members
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| *value)
            .filter(|value| value.get() != "null")
    }

    /// The member as text; numbers and booleans as they are written.
    pub(crate) fn text(&self, name: &str, oddities: &mut Vec<Oddity>) -> Option<String> {
        self.get(name).map(|raw| text(raw, oddities))
    }

    /// The member as an object; anything else is noted and read as an empty one.
    pub(crate) fn object(&self, name: &str, oddities: &mut Vec<Oddity>) -> Self {
        let Some(raw) = self.get(name) else {
            return Self::default();
        };
        let Some(entries) = Self::read(raw) else {
            oddities.push(Oddity::WrongType);
            return Self::default();
        };
        if entries.repeated {
            oddities.push(Oddity::DuplicateKey);
        }
        entries
    }

    /// The members as names and texts.
    pub(crate) fn pairs(&self, oddities: &mut Vec<Oddity>) -> Pairs {
        self.members
            .iter()
            .map(|(name, raw)| (name.clone(), text(raw, oddities)))
            .collect()
    }

    pub(crate) const fn repeated(&self) -> bool {
        self.repeated
    }
}

impl<'de: 'a, 'a> serde::Deserialize<'de> for Entries<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Entries<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Entries::default();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    if entries.members.iter().any(|(known, _)| *known == name) {
                        entries.repeated = true;
                    } else {
                        entries.members.push((name, value));
                    }
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// A JSON value as text: a string's contents, `null` as nothing, anything else as it is written.
pub(crate) fn text(raw: &RawValue, oddities: &mut Vec<Oddity>) -> String {
    let source = raw.get();
    match source.as_bytes().first() {
        Some(b'"') => serde_json::from_str(source).unwrap_or_else(|_| {
            // A lone surrogate is the one thing that is a JSON string and not text.
            oddities.push(Oddity::InvalidEncoding);
            source.trim_matches('"').to_owned()
        }),
        Some(b'n') => String::new(),
        _ => {
            oddities.push(Oddity::WrongType);
            source.to_owned()
        }
    }
}

/// Brings headers to lower case and sorts both lists by name, repeated names in their order.
pub(crate) fn normalise(query: &mut Pairs, headers: &mut Pairs) {
    for (name, _) in headers.iter_mut() {
        name.make_ascii_lowercase();
    }
    query.sort_by(|left, right| left.0.cmp(&right.0));
    headers.sort_by(|left, right| left.0.cmp(&right.0));
}
