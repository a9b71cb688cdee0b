//! Events of a made-up month, for the dashboards to show: those of [`pixel::demo`]. Their codes are not signed; what signed
//! ones say is added here.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use pixel::config::Config;
use pixel::demo::Demo;
use pixel::event::fields::{FIELDS, Kind};
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
    let mut dice = Dice(7);
    demo.events(&Config::default()).map(move |event| {
        let mut document: Value = serde_json::from_str(&event.document).expect("an event is JSON");
        // One in eight opens keeps its code without a signature.
        if document.get("url").is_none() && dice.below(8) > 0 {
            sign(&mut document, &mut dice);
        }
        (event.id, document)
    })
}

/// Numbers that look random and are always the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits fit") % end
    }

    /// One of them, the first ones most often.
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let last = self.below(from.len()) + 1;
        from[self.below(last)]
    }
}

/// What a signed code says.
fn sign(document: &mut Value, dice: &mut Dice) {
    document["pixel"]["signature"] = dice.pick(&["valid", "valid", "expired", "invalid"]).into();
    document["pixel"]["recipient"] = document["user"]["id"].clone();
    document["pixel"]["seconds_since_sent"] = dice.pick(&[1_900, 9_000, 200, 40_000, 20, 130_000, 400_000]).into();
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
