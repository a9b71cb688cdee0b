//! The declared fields are the written ones, and the documentation's.

use pixel::hit::settings::Lookups;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;

use chrono::{DateTime, Utc};
use pixel::config::Config;
use pixel::hit::answer;
use pixel::hit::code::{Contents, Keys};
use pixel::hit::event::fields::{FIELDS, Kind};
use pixel::hit::privacy::{AddressPolicy, SignalPolicy};
use pixel::hit::read::RequestContext;
use pixel::hit::request::Request;
use pixel::hit::request::passthrough::{Document, document};
use serde_json::{Value, json};

fn pairs(given: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    given.iter().map(owned).collect()
}

fn keys() -> Keys {
    Keys::parse("1:MDEyMzQ1Njc4OWFiY2RlZg").expect("a key")
}

/// A code that says everything that a code can say.
fn signed_code() -> String {
    let contents = Contents {
        campaign: Some("spring".to_owned()),
        recipient: keys().recipient("ann@example.org").ok(),
        sent: DateTime::from_timestamp(1_772_000_000, 0),
        expires: DateTime::from_timestamp(1_772_000_001, 0),
    };
    keys().sign(&contents).expect("it fits")
}

/// Hits that have, together, everything a hit can have.
fn hits() -> Vec<Value> {
    let query = [
        ("action", "signup"),
        ("url", "https://shop.example/spring?page=2&token=secret"),
        ("referrer", "https://www.google.com/"),
        ("userid", "u-7"),
        ("title", "Shoes of the spring"),
        ("language", "de-CH"),
        ("screen", "compact"),
        ("utm_source", "mail"),
        ("utm_medium", "email"),
        ("utm_campaign", "spring"),
        ("utm_term", "shoes"),
        ("utm_content", "top"),
        ("utm_id", "17"),
        ("gclid", "g"),
        ("fbclid", "f"),
        ("msclkid", "m"),
        ("ttclid", "t"),
        ("twclid", "x"),
        ("li_fat_id", "l"),
        ("dclid", "d"),
        ("gbraid", "b"),
        ("wbraid", "w"),
        ("yclid", "y"),
        ("password", "secret"),
        ("@timestamp", "mine"),
        ("client.ip", "mine"),
    ];
    let headers = [
        (
            "User-Agent",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
        ),
        ("Referer", "https://shop.example/spring?page=2"),
        ("DNT", "1"),
        ("Sec-GPC", "1"),
        ("CloudFront-Viewer-Country", "DE"),
        ("CloudFront-Viewer-ASN", "3320"),
        ("Authorization", "Bearer secret"),
        ("X-Forwarded-For", "203.0.113.77, 198.51.100.1"),
        ("X-Bell", "\u{7}"),
    ];
    let context = [
        ("extended-request-id", "JKJaXmPLvHcESHA="),
        ("request-time-epoch", "1772357400123"),
        ("http-method", "GET"),
        ("source-ip", "198.51.100.1"),
        ("resource-path", "/pixel/{code}"),
        ("user-arn", "arn:aws:iam::123456789012:user/x"),
    ];
    let whole = Document {
        path: pairs(&[("code", &signed_code())]),
        query: pairs(&query),
        headers: pairs(&headers),
        stage_variables: pairs(&[("table", "a")]),
        context: pairs(&context),
        body: Some(json!({"client": {"ip": "mine"}, "list": [1, {"password": "secret"}]})),
    };
    let long = "x".repeat(9000);
    let cut = Document {
        query: pairs(&[("url", &long), ("utm_source", &long)]),
        body: None,
        ..whole.clone()
    };
    let bare = Document::default();
    [whole, cut, bare].iter().map(document).collect()
}

/// The fields of a document: what stands in raw objects is none.
fn fields(document: &Value) -> BTreeSet<String> {
    fn collect(value: &Value, name: &str, found: &mut BTreeSet<String>) {
        let raw = FIELDS.iter().any(|field| field.name == name && field.kind == Kind::Raw);
        match value.as_object().filter(|_| !raw) {
            Some(members) => {
                for (member, value) in members {
                    let name = if name.is_empty() {
                        member.clone()
                    } else {
                        format!("{name}.{member}")
                    };
                    collect(value, &name, found);
                }
            }
            None => {
                found.insert(name.to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    collect(document, "", &mut found);
    found
}

/// Whether a value is one of the kind that is declared for it.
fn is_of(kind: Kind, value: &Value) -> bool {
    match (kind, value) {
        (Kind::Keyword(_), Value::Array(values)) => values.iter().all(Value::is_string),
        (Kind::Date, Value::String(text)) => text.parse::<DateTime<Utc>>().is_ok(),
        (Kind::Ip, Value::String(text)) => text.parse::<std::net::IpAddr>().is_ok(),
        (Kind::Keyword(_), value) => value.is_string(),
        (Kind::EpochMillis | Kind::Long, value) => value.is_i64(),
        (Kind::Boolean, value) => value.is_boolean(),
        // A body may be anything.
        (Kind::Raw, _) => true,
        (Kind::Date | Kind::Ip, _) => false,
    }
}

#[test]
fn exactly_the_fields_that_are_declared_as_written_are_written() {
    let mut written = BTreeSet::new();
    for (hit, trusted_hops) in hits().iter().flat_map(|hit| [(hit, 0), (hit, 5)]) {
        for address in [AddressPolicy::Shorten, AddressPolicy::Full, AddressPolicy::Drop] {
            let circumstances = RequestContext {
                now: "2026-03-01T09:30:00.150Z".parse().expect("a time"),
                invocation: "invocation-1".to_owned(),
                trusted_hops,
            };
            let mut config = Config::default();
            config.policy.address = address;
            // What is left out for those who ask not to be tracked is written for the others.
            config.policy.signal = match address {
                AddressPolicy::Full => SignalPolicy::Anonymise,
                _ => SignalPolicy::Record,
            };
            config.code_keys = keys();
            let request = Request::decode(hit.to_string().as_bytes()).expect("a request");
            let event = answer::build_event(request, &circumstances, &config.settings(), &Lookups::none());
            let document: Value = serde_json::from_str(&event.document).expect("an event is JSON");
            for name in fields(&document) {
                let pointer = format!("/{}", name.replace('.', "/"));
                let value = document.pointer(&pointer).expect("it was found there");
                if let Some(field) = FIELDS.iter().find(|field| field.name == name) {
                    assert!(is_of(field.kind, value), "{name}: {value} is no {:?}", field.kind);
                }
                written.insert(name);
            }
        }
    }
    // Made-up events alone have a mark.
    written.insert("event.dataset".to_owned());
    let declared: BTreeSet<_> = FIELDS.iter().map(|field| field.name.to_owned()).collect();
    assert_eq!(
        written, declared,
        "what `Event::new` and `Event::with_dataset` write, and what `event::fields::FIELDS` declares"
    );
}

/// The reference of fields as it stands in the repository.
const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kibana/FIELDS.md");

fn reference() -> String {
    let mut text = "# Fields of an event\n\n\
        Names are the Elastic Common Schema's wherever it has one. Made of `src/event/fields.rs`; a test holds the two equal.\n\n\
        A `keyword` is searched as a whole, and not at all when it is longer than the number behind it. An `object` is kept as\n\
        it came and never looked into: a name that a visitor chose is never a field.\n\n\
        | field | type | meaning |\n|---|---|---|\n"
        .to_owned();
    for field in FIELDS {
        let kind = match field.kind {
            Kind::Keyword(longest) => format!("keyword ({longest})"),
            Kind::EpochMillis => "date (milliseconds since 1970)".to_owned(),
            kind => kind.name().to_owned(),
        };
        let _ = writeln!(text, "| `{}` | {kind} | {} |", field.name, field.meaning);
    }
    text
}

#[test]
fn the_reference_lists_every_field() {
    let found = fs::read_to_string(REFERENCE).unwrap_or_default();
    let expected = reference();
    assert!(found == expected, "make `kibana/FIELDS.md` this:\n{expected}");
}
