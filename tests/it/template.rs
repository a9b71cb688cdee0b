//! `mapping-templates/passthrough.vtl` keeps every request whole, and the console's stock form does not.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};

use crate::template_corpus::{CONTEXT, expected, hostile, random};
use crate::velocity::{TemplateInput, render};

const PASSTHROUGH: &str = include_str!("../../mapping-templates/passthrough.vtl");
const STOCK: &str = include_str!("data/stock-passthrough.vtl");

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
