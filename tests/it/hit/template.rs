//! `mapping-templates/passthrough.vtl` keeps every request whole, and the console's stock form does not.

use std::collections::BTreeMap;
use std::fmt;

use chrono::DateTime;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pixel::hit::request::http_request::HttpRequest;
use pixel::hit::request::passthrough::{Document, document};
use pixel::hit::request::{Ingress, Pairs};
use pixel::server::gateway::payload;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};

use crate::support::template_corpus::{CONTEXT, expected, hostile, random};
use crate::support::velocity::{TemplateInput, render};

const PASSTHROUGH: &str = include_str!("../../../mapping-templates/passthrough.vtl");
const STOCK: &str = include_str!("../../fixtures/stock-passthrough.vtl");

#[test]
fn passthrough_keeps_every_request_whole() {
    let fixed = hostile().into_iter().map(|(name, input)| (name.to_owned(), input));
    let drawn = random(7, 500)
        .into_iter()
        .enumerate()
        .map(|(number, input)| (format!("random {number}"), input));
    let (names, inputs): (Vec<_>, Vec<_>) = fixed.chain(drawn).unzip();

    let outcomes = render(PASSTHROUGH, &inputs);
    let mut failures = Vec::new();
    for ((name, input), rendered) in names.iter().zip(&inputs).zip(outcomes) {
        if let Err(reason) = verdict(rendered, &expected(input)) {
            failures.push(format!("{name}: {reason}"));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} fail:\n{}",
        failures.len(),
        inputs.len(),
        failures.join("\n")
    );
}

#[test]
fn the_stock_form_loses_and_forges() {
    let (names, inputs): (Vec<_>, Vec<_>) = hostile().into_iter().unzip();
    let outcomes = render(STOCK, &inputs);
    let mut failing = Vec::new();
    for ((name, input), rendered) in names.iter().zip(&inputs).zip(&outcomes) {
        if verdict(rendered.clone(), &expected_of_stock(input)).is_err() {
            failing.push(*name);
        }
    }
    println!(
        "the stock form fails {} of {}: {failing:#?}",
        failing.len(),
        names.len()
    );

    assert!(!failing.contains(&"benign"));
    for name in [
        "apostrophe in a query value",
        "quote in a query name",
        "spoof in the User-Agent",
        "quote in the User-Agent",
    ] {
        assert!(failing.contains(&name), "{name} passes");
    }
    let spoof = names
        .iter()
        .position(|name| *name == "spoof in the User-Agent")
        .expect("the corpus has it");
    let rendered = outcomes[spoof].as_deref().expect("Velocity renders it");
    let believed: Value = serde_json::from_str(rendered).expect("a parser that takes the last key accepts it");
    assert_eq!(believed["context"]["source-ip"], "6.6.6.6");
}

#[test]
fn the_native_document_equals_the_rendered_one() {
    let mut inputs: Vec<_> = hostile().into_iter().map(|(_, input)| input).collect();
    inputs.extend(random(11, 200));
    let documents = inputs.iter().map(native);
    check_equal(&inputs, documents);
}

#[test]
fn the_stage_makes_what_the_template_makes_of_the_same_request() {
    let arrivals: Vec<_> = hostile()
        .into_iter()
        .map(|(_, input)| input)
        .chain(random(13, 200))
        .map(|input| arrival(&input))
        .collect();
    let inputs: Vec<_> = arrivals
        .iter()
        .map(|(arrived, code)| as_the_gateway_sees(arrived, code))
        .collect();
    let payloads = arrivals.iter().map(|(arrived, _)| {
        let payload = payload(Ingress::Passthrough, arrived).expect("it is a path of the pixel");
        serde_json::from_slice(&payload).expect("a payload is JSON")
    });
    check_equal(&inputs, payloads);
}

/// What Velocity renders of each input is the document beside it, and has no key twice.
fn check_equal(inputs: &[TemplateInput], documents: impl ExactSizeIterator<Item = Value>) {
    assert_eq!(inputs.len(), documents.len());
    let rendered = render(PASSTHROUGH, inputs);
    for ((input, rendered), document) in inputs.iter().zip(rendered).zip(documents) {
        if let Err(reason) = verdict(rendered, &document) {
            panic!("{reason}\nfor {input:?}");
        }
    }
}

/// The document that is made natively of the same request.
pub fn native(input: &TemplateInput) -> Value {
    let pairs = |map: &BTreeMap<String, String>| map.clone().into_iter().collect::<Pairs>();
    let context = CONTEXT.iter().filter_map(|(key, member)| {
        let value = input.context.get(*member)?;
        Some(((*key).to_owned(), value.clone()))
    });
    let body = input.body.as_deref().filter(|body| !body.is_empty());
    document(&Document {
        path: pairs(&input.path),
        query: pairs(&input.query),
        headers: pairs(&input.headers),
        stage_variables: pairs(&input.stage_variables),
        context: context.collect(),
        body: body.map(|body| serde_json::from_str(body).unwrap_or_else(|_| body.into())),
    })
}

/// An HTTP request with the input's texts in its path, query and headers, the first of each repeated, and the code in its path.
fn arrival(input: &TemplateInput) -> (HttpRequest, String) {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let texts: String = input.path.values().map(String::as_str).collect();
    let code = format!("c{}", texts.replace('/', "|"));
    let repeated = |map: &BTreeMap<String, String>| {
        let again = map
            .iter()
            .next()
            .map(|(name, value)| (name.clone(), format!("{value}, again")));
        map.clone().into_iter().chain(again).collect::<Pairs>()
    };
    let query = repeated(&input.query);
    let query: Vec<_> = query
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    let arrived = HttpRequest {
        method: "GET".to_owned(),
        path: format!("/live/image/{}", encode(&code)),
        query: query.join("&"),
        headers: repeated(&input.headers),
        peer: Some([192, 0, 2, 7].into()),
        id: "JKJaXmPLvHcESHA=".to_owned(),
        time: DateTime::from_timestamp_millis(1_700_000_000_123).expect("a time"),
        body: None,
    };
    (arrived, code)
}

/// The variables that API Gateway sets for this request: of repeated names the last value.
fn as_the_gateway_sees(arrived: &HttpRequest, code: &str) -> TemplateInput {
    let member = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let header = |name: &str| {
        let found = arrived
            .headers
            .iter()
            .rfind(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    let query = arrived.query.split('&').filter_map(|part| part.split_once('='));
    let decode = |text: &str| {
        let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
        decoded.expect("what was encoded is UTF-8").into_owned()
    };
    TemplateInput {
        path: BTreeMap::from([member("code", code)]),
        query: query.map(|(name, value)| (decode(name), decode(value))).collect(),
        headers: arrived.headers.iter().cloned().collect(),
        stage_variables: BTreeMap::new(),
        context: BTreeMap::from([
            member("domainName", header("host")),
            member("extendedRequestId", &arrived.id),
            member("httpMethod", "GET"),
            member("identity.sourceIp", "192.0.2.7"),
            member("identity.userAgent", header("user-agent")),
            member("requestId", &arrived.id),
            member("requestTimeEpoch", "1700000000123"),
            member("resourcePath", "/image/{code}"),
            member("stage", "live"),
        ]),
        body: None,
    }
}

#[test]
fn only_repeated_keys_are_refused() {
    let document = r#"{"a": [1, -2, 0.5, null, true, "x"], "b": {"a": {}}}"#;
    let parsed: Unique = serde_json::from_str(document).expect("no key is repeated");
    assert_eq!(parsed.0, json!({"a": [1, -2, 0.5, null, true, "x"], "b": {"a": {}}}));
    for document in [r#"{"a": 1, "a": 1}"#, r#"[{"b": {"a": 1, "\u0061": 2}}]"#] {
        assert!(serde_json::from_str::<Unique>(document).is_err(), "{document}");
    }
}

/// Whether the rendering is a document without repeated keys and the expected one.
fn verdict(rendered: Result<String, String>, expected: &Value) -> Result<(), String> {
    let rendered = rendered?;
    let document: Unique = serde_json::from_str(&rendered).map_err(|error| error.to_string())?;
    if document.0 == *expected {
        Ok(())
    } else {
        Err(format!("{} instead of {expected}", document.0))
    }
}

/// The expected document, with as much of the context as the stock form in the tests has.
fn expected_of_stock(input: &TemplateInput) -> Value {
    let mut document = expected(input);
    let context = document["context"].as_object_mut().expect("the context is an object");
    for (key, _) in CONTEXT {
        if !STOCK.contains(&format!("\"{key}\" :")) {
            context.remove(key);
        }
    }
    document
}

/// Any JSON in which no object repeats a key; `Value` alone would keep the last.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("JSON without repeated keys")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Unique(item)) = sequence.next_element()? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, Unique(value))) = entries.next_entry::<String, Unique>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("repeated key {key:?}")));
            }
            object.insert(key, value);
        }
        Ok(object.into())
    }
}
