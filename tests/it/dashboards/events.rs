//! Events of a made-up month, for the dashboards to show: those of [`pixel::cli::demo::generator`].

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use pixel::cli::demo::generator::Demo;
use pixel::config::Config;
use pixel::hit::event::fields::{FIELDS, Kind};
use serde_json::Value;

/// The end of the events' time, and the present of every search. A Friday.
pub fn now() -> DateTime<Utc> {
    "2026-03-13T20:10:00Z".parse().expect("a time")
}

/// An event as it is stored: id and document.
pub type Stored = (String, Value);

/// So many events of so many days before [`now`].
pub fn events(count: u32, days: u32) -> impl Iterator<Item = Stored> {
    let demo = Demo {
        seed: 1,
        events: count,
        days,
        end: now(),
    };
    demo.events(&Config::default()).map(|event| {
        let document = serde_json::from_str(&event.document).expect("an event is JSON");
        (event.id, document)
    })
}

/// A field's values as texts, each once; longer ones than the index searches are not among them.
pub fn values(event: &Value, field: &str) -> BTreeSet<String> {
    let mut values = vec![event];
    for name in field.split('.') {
        values = values.into_iter().filter_map(|value| value.get(name)).collect();
    }
    let each = values.into_iter().flat_map(|value| match value {
        Value::Array(items) => items.iter().collect(),
        other => vec![other],
    });
    let known = FIELDS.iter().find(|known| known.name == field);
    let most = match known.map(|known| known.kind) {
        Some(Kind::Keyword(most)) => usize::from(most),
        _ => usize::MAX,
    };
    each.filter(|value| !value.is_null())
        .map(|value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned))
        .filter(|text| text.chars().count() <= most)
        .collect()
}
