//! An HTTP request in one form for every ingress.
//!
//! Each ingress has a file of its own that decodes its payload and encodes its reply; their common parts are here.
//! Nothing in this module reads a clock or judges a visitor's data: [`crate::hit::read`] does.

pub(crate) mod alb;
pub(crate) mod http;
pub mod http_request;
pub mod passthrough;
pub(crate) mod rest;

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::hit::pixel::Pixel;

/// The ways a request can reach the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ingress {
    /// API Gateway REST API, non-proxy integration, the document made by `mapping-templates/passthrough.vtl`.
    Passthrough,
    /// API Gateway REST API, proxy integration (payload 1.0).
    Rest,
    /// API Gateway HTTP API (payload 2.0).
    Http,
    /// Lambda function URL (payload 2.0).
    FunctionUrl,
    /// Application Load Balancer.
    Alb,
    /// Application Load Balancer whose target group has multi-value headers enabled.
    AlbMultiValue,
}

impl Ingress {
    /// Every ingress, in the order of the documentation.
    pub const ALL: [Self; 6] = [
        Self::Passthrough,
        Self::Rest,
        Self::Http,
        Self::FunctionUrl,
        Self::Alb,
        Self::AlbMultiValue,
    ];

    /// Returns the name used in logs, events and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passthrough => "passthrough",
            Self::Rest => "rest-proxy",
            Self::Http => "http-api",
            Self::FunctionUrl => "function-url",
            Self::Alb => "alb",
            Self::AlbMultiValue => "alb-multi-value",
        }
    }

    /// Recognizes the ingress of a payload by its distinctive members alone, for payloads that cannot be decoded.
    pub fn recognise(payload: &[u8]) -> Self {
        let entries = serde_json::from_slice::<Entries<'_>>(payload).ok();
        entries.and_then(|top| Self::detect(&top)).unwrap_or(Self::Passthrough)
    }

    /// Returns the ingress of a payload that has an ingress's distinctive members.
    fn detect(top: &Entries<'_>) -> Option<Self> {
        let ignored = &mut Vec::new();
        let context = top.object("requestContext", ignored);
        let has = |name| top.get(name).is_some();
        let multi_value = has("multiValueHeaders");
        if top.text("version", ignored).as_deref() == Some("2.0") && has("requestContext") {
            let domain = context.text("domainName", ignored).unwrap_or_default();
            return Some(if domain.contains(".lambda-url.") {
                Self::FunctionUrl
            } else {
                Self::Http
            });
        }
        if context.get("elb").is_some() {
            return Some(if multi_value { Self::AlbMultiValue } else { Self::Alb });
        }
        if has("requestContext") && (has("httpMethod") || has("resource")) {
            return Some(Self::Rest);
        }
        let passthrough = ["params", "context", "stage-variables", "body-json"]
            .into_iter()
            .any(has);
        // An API that passes an unmapped content type through gives the function an empty body: it is a visitor anyway.
        (passthrough || top.is_empty()).then_some(Self::Passthrough)
    }

    /// Encodes the reply for `pixel` that this ingress expects, as JSON text.
    pub fn reply(self, pixel: &Pixel) -> String {
        match self {
            Self::Passthrough => passthrough::reply(pixel),
            Self::Rest => rest::reply(pixel),
            Self::Http | Self::FunctionUrl => http::reply(pixel),
            Self::Alb => alb::reply(pixel, false),
            Self::AlbMultiValue => alb::reply(pixel, true),
        }
    }
}

impl fmt::Display for Ingress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Name and value pairs in the order of arrival; names may repeat.
pub type Pairs = Vec<(String, String)>;

/// One decoded HTTP request. Every part may be missing; unreadable parts are listed in `oddities`.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The ingress through which it came.
    pub ingress: Ingress,
    /// The method in upper case, `GET` if the payload has none.
    pub method: String,
    /// The path, percent-decoded, without the prefix that the ingress added if it reports one.
    pub path: String,
    /// The decoded query, sorted by name; repeated names keep their order, because not every ingress keeps the order of
    /// the names.
    pub query: Pairs,
    /// The headers, names in lower case, sorted like the query.
    pub headers: Pairs,
    /// The values matched by the resource's path template, such as `code`.
    pub path_parameters: Pairs,
    /// The stage variables of API Gateway.
    pub stage_variables: Pairs,
    /// The ingress's data about the request, under the names that the passthrough template uses.
    pub context: Pairs,
    /// The body as JSON text, if there is one.
    pub body: Option<Box<str>>,
    /// The faults of the payload, without its contents.
    pub oddities: Vec<Oddity>,
}

/// Adds the user agent that the ingress names if the payload has no such header. Of the contexts, only the passthrough
/// template's has a user agent of its own.
fn add_user_agent(ingress: Ingress, headers: &mut Pairs, context: &mut Pairs) {
    const NAME: &str = "user-agent";
    let is_missing = last(headers, NAME).is_none_or(str::is_empty);
    if let Some(agent) = last(context, NAME).filter(|agent| is_missing && !agent.is_empty()) {
        headers.push((NAME.to_owned(), agent.to_owned()));
    }
    if ingress != Ingress::Passthrough {
        context.retain(|(name, _)| name != NAME);
    }
}

impl Request {
    /// Decodes the payload of one invocation.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the payload is not a JSON object, or is an event that is not an HTTP request.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let text = match std::str::from_utf8(payload) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(payload),
        };
        let top: Entries<'_> =
            serde_json::from_str(&text).map_err(|_| match serde_json::from_str::<&RawValue>(&text) {
                Ok(_) => DecodeError::NotAnObject,
                Err(_) => DecodeError::NotJson,
            })?;
        if let Some(service) = detect_foreign_service(&top) {
            return Err(DecodeError::Foreign(service));
        }
        match Ingress::detect(&top) {
            Some(Ingress::Passthrough) => Ok(passthrough::decode(&top)),
            Some(Ingress::Rest) => Ok(rest::decode(&top)),
            Some(Ingress::Http | Ingress::FunctionUrl) => Ok(http::decode(&top)),
            Some(Ingress::Alb | Ingress::AlbMultiValue) => Ok(alb::decode(&top)),
            None => Err(DecodeError::UnknownIngress),
        }
    }

    /// Assembles the parts in the form that all ingresses share.
    fn assemble(ingress: Ingress, parts: Parts, mut oddities: Vec<Oddity>) -> Self {
        let Parts {
            method,
            path,
            mut query,
            mut headers,
            path_parameters,
            stage_variables,
            mut context,
            body,
        } = parts;
        for (name, _) in &mut headers {
            name.make_ascii_lowercase();
        }
        add_user_agent(ingress, &mut headers, &mut context);
        query.sort_by(|left, right| left.0.cmp(&right.0));
        headers.sort_by(|left, right| left.0.cmp(&right.0));
        oddities.sort_unstable();
        oddities.dedup();
        let method = method
            .filter(|method| !method.is_empty())
            .unwrap_or_else(|| "GET".to_owned())
            .to_ascii_uppercase();
        Self {
            ingress,
            method,
            path,
            query,
            headers,
            path_parameters,
            stage_variables,
            context,
            body,
            oddities,
        }
    }

    /// Returns the last header of this name, which must be in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        last(&self.headers, name)
    }

    /// Returns the last query parameter of this name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        last(&self.query, name)
    }

    /// Returns the ingress's value of this name, unless it is empty.
    pub fn context(&self, name: &str) -> Option<&str> {
        last(&self.context, name).filter(|value| !value.is_empty())
    }
}

/// The parts that an ingress decodes, before they are normalized.
struct Parts {
    method: Option<String>,
    path: String,
    query: Pairs,
    headers: Pairs,
    path_parameters: Pairs,
    stage_variables: Pairs,
    context: Pairs,
    body: Option<Box<str>>,
}

/// Returns the last value of `name`, the one that API Gateway keeps of a repeated parameter.
pub fn last<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs
        .iter()
        .rev()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

/// A fault in a payload or a hit. It never stops a hit; it is stored with the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Oddity {
    /// A part of the payload has a different type than the ingress uses.
    WrongType,
    /// A key occurred twice in one object of the payload; the first was kept, since API Gateway's own keys come before
    /// those that a visitor can inject.
    DuplicateKey,
    /// A percent-escape or text is not UTF-8 and was replaced by U+FFFD; or a `%` begins no escape and was kept.
    InvalidEncoding,
    /// A name or value contains NUL or another control character.
    ControlCharacter,
    /// The payload has no usable client address.
    NoAddress,
    /// There are fewer forwarded addresses than trusted proxies; the connection's own address was used.
    ShortForwardedFor,
    /// The address is that of an untrusted proxy: a private one, with a header that names another.
    ProxyAddress,
    /// The time of receipt is missing or not a time; the function's clock was used.
    NoTime,
    /// There are more parameters or headers than are kept.
    TooMany,
}

impl Oddity {
    /// Returns the name stored with the event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WrongType => "wrong_type",
            Self::DuplicateKey => "duplicate_key",
            Self::InvalidEncoding => "invalid_encoding",
            Self::ControlCharacter => "control_character",
            Self::NoAddress => "no_address",
            Self::ShortForwardedFor => "short_forwarded_for",
            Self::ProxyAddress => "proxy_address",
            Self::NoTime => "no_time",
            Self::TooMany => "too_many",
        }
    }
}

/// The reason why a payload is not an HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The payload is not JSON.
    NotJson,
    /// The payload is JSON, but not an object.
    NotAnObject,
    /// The payload is an object without the distinctive members of any ingress.
    UnknownIngress,
    /// The payload is an event of another service, such as an S3 notification: nobody waits for an image.
    Foreign(&'static str),
}

impl DecodeError {
    /// Returns the reason as one word, for counting.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::UnknownIngress => "unknown_ingress",
            Self::Foreign(_) => "foreign_event",
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson => formatter.write_str("the payload is not JSON"),
            Self::NotAnObject => formatter.write_str("the payload is not a JSON object"),
            Self::UnknownIngress => formatter.write_str("the payload is of no known ingress"),
            Self::Foreign(service) => write!(
                formatter,
                "the payload is an event of {service}, not an HTTP request; connect this function to API Gateway, a function URL or a load balancer"
            ),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Recognizes events that are not HTTP requests by the members that AWS documents for them.
fn detect_foreign_service(top: &Entries<'_>) -> Option<&'static str> {
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

/// The number of names up to which comparing each with all others takes less time than hashing them.
const FEW_NAMES: usize = 32;

/// The names of one object that are read; an event keeps far fewer of them, and marks that it was cut.
const MAX_NAMES: usize = 2_000;

/// The members of a JSON object in their order, with unparsed values.
///
/// `serde_json::Value` would keep the last of two equal keys without a trace of the first; a visitor who can inject a
/// key could then replace API Gateway's.
#[derive(Debug, Default)]
pub(crate) struct Entries<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
    repeated: bool,
}

impl<'a> Entries<'a> {
    /// Parses `raw` if it is an object.
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

    /// Returns the member as text; numbers and booleans as they are written.
    pub(crate) fn text(&self, name: &str, oddities: &mut Vec<Oddity>) -> Option<String> {
        self.get(name).map(|raw| text(raw, oddities))
    }

    /// Returns the member as an object; anything else is noted and returned as an empty one.
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

    /// Returns the members as names and texts.
    pub(crate) fn pairs(&self, oddities: &mut Vec<Oddity>) -> Pairs {
        self.members
            .iter()
            .map(|(name, raw)| (name.clone().into_owned(), text(raw, oddities)))
            .collect()
    }

    /// Returns the members of arrays, one pair per element; from `single` if there is no `multiple`.
    pub(crate) fn repeated_pairs(&self, multiple: &str, single: &str, oddities: &mut Vec<Oddity>) -> Pairs {
        if self.get(multiple).is_none() {
            return self.object(single, oddities).pairs(oddities);
        }
        let mut pairs = Pairs::new();
        for (name, raw) in self.object(multiple, oddities).members {
            match serde_json::from_str::<Vec<&RawValue>>(raw.get()) {
                Ok(values) => pairs.extend(
                    values
                        .into_iter()
                        .map(|value| (name.clone().into_owned(), text(value, oddities))),
                ),
                Err(_) => pairs.push((name.into_owned(), text(raw, oddities))),
            }
        }
        pairs
    }

    /// Returns the members at these paths, under these names.
    pub(crate) fn pick(&self, wanted: &[(&str, &[&str])], oddities: &mut Vec<Oddity>) -> Pairs {
        let mut pairs = Pairs::new();
        for (name, path) in wanted {
            let found = match path {
                [member] => self.get(member),
                [object, member] => self.object(object, oddities).get(member),
                _ => None,
            };
            // Numbers are expected here: the epoch, an account.
            let plain = &mut Vec::new();
            pairs.extend(found.map(|raw| ((*name).to_owned(), text(raw, plain))));
        }
        pairs
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns the faults of the members' names.
    pub(crate) fn oddities(&self) -> Vec<Oddity> {
        self.repeated.then_some(Oddity::DuplicateKey).into_iter().collect()
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
                // The names so far, once there are many; comparing each name with all before it would take quadratic time.
                let mut names = HashSet::new();
                while entries.members.len() < MAX_NAMES
                    && let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()?
                {
                    if entries.members.len() == FEW_NAMES {
                        names.extend(entries.members.iter().map(|(known, _)| known.clone()));
                    }
                    let known = if names.is_empty() {
                        entries.members.iter().any(|(known, _)| *known == name)
                    } else {
                        !names.insert(name.clone())
                    };
                    if known {
                        entries.repeated = true;
                    } else {
                        entries.members.push((name, value));
                    }
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// The name of a member; borrowed from the payload unless it contains escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Name<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a name")
            }

            fn visit_borrowed_str<E: serde::de::Error>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// Returns a JSON value as text: a string's contents, `null` as an empty text, anything else as it is written.
pub(crate) fn text(raw: &RawValue, oddities: &mut Vec<Oddity>) -> String {
    let source = raw.get();
    match source.as_bytes().first() {
        // The string contains no escapes.
        Some(b'"') if !source.contains('\\') => source[1..source.len() - 1].to_owned(),
        Some(b'"') => serde_json::from_str(source).unwrap_or_else(|_| {
            // Only a lone surrogate is a JSON string but not text.
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

/// Decodes percent-escapes; bytes that are not UTF-8 become U+FFFD and are noted.
pub(crate) fn decode_text(text: &str, oddities: &mut Vec<Oddity>) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let decoded = percent_decode_str(text).decode_utf8_lossy();
    if decoded.contains('\u{fffd}') || has_broken_escape(text.as_bytes()) {
        oddities.push(Oddity::InvalidEncoding);
    }
    decoded.into_owned()
}

/// Returns true if a `%` is not followed by two hexadecimal digits.
fn has_broken_escape(text: &[u8]) -> bool {
    let places = text.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    let broken = |(place, _): (usize, &u8)| {
        let digits = text.get(place + 1..place + 3).unwrap_or_default();
        digits.len() < 2 || !digits.iter().all(u8::is_ascii_hexdigit)
    };
    places.into_iter().any(broken)
}

/// Decodes a part of a query, in which `+` is a space.
pub(crate) fn decode_form(text: &str, oddities: &mut Vec<Oddity>) -> String {
    if text.contains('+') {
        decode_text(&text.replace('+', " "), oddities)
    } else {
        decode_text(text, oddities)
    }
}

/// Returns the names and values of a query as written, in their order.
pub(crate) fn split_query(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| part.split_once('=').unwrap_or((part, "")))
}

/// Returns the decoded names and values of a query, in their order.
pub(crate) fn parse_query(query: &str, oddities: &mut Vec<Oddity>) -> Pairs {
    split_query(query)
        .map(|(name, value)| (decode_form(name, oddities), decode_form(value, oddities)))
        .collect()
}

/// Returns the body of a proxy payload as JSON text: unchanged if it is JSON, else as a JSON string.
pub(crate) fn body(top: &Entries<'_>, oddities: &mut Vec<Oddity>) -> Option<Box<str>> {
    let body = top.text("body", oddities).filter(|body| !body.is_empty())?;
    let encoded = top.get("isBase64Encoded").is_some_and(|raw| raw.get() == "true");
    let bytes = encoded
        .then(|| STANDARD.decode(&body).ok())
        .flatten()
        .unwrap_or_else(|| body.into_bytes());
    let text = String::from_utf8_lossy(&bytes);
    let json = serde_json::from_str::<&RawValue>(&text).map(|raw| raw.get().into());
    Some(json.unwrap_or_else(|_| serde_json::Value::from(text.as_ref()).to_string().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn the_first_of_repeated_names_counts(names in proptest::collection::vec("[a-d\\\\]{0,3}", 0..200)) {
            let member = |(number, name): (usize, &String)| format!("{}:{number}", serde_json::Value::from(name.as_str()));
            let members: Vec<_> = names.iter().enumerate().map(member).collect();
            let text = format!("{{{}}}", members.join(","));
            let entries: Entries<'_> = serde_json::from_str(&text).expect("JSON");
            let mut first = Vec::new();
            for (number, name) in names.iter().enumerate() {
                if !first.iter().any(|(known, _)| known == name) {
                    first.push((name.clone(), number.to_string()));
                }
            }
            proptest::prop_assert_eq!(entries.repeated, first.len() < names.len());
            proptest::prop_assert_eq!(entries.pairs(&mut Vec::new()), first);
        }
    }

    #[test]
    fn many_different_names_are_all_kept() {
        let name = |number: usize| (format!("n{number}"), number.to_string());
        let pairs: Pairs = (0..1000).map(name).collect();
        let members: Vec<_> = pairs
            .iter()
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        let text = format!("{{{}}}", members.join(","));
        let entries: Entries<'_> = serde_json::from_str(&text).expect("JSON");
        assert_eq!((entries.pairs(&mut Vec::new()), entries.repeated), (pairs, false));
    }
}
