//! Events of a made-up month, for the dashboards to show: those of [`pixel::demo`], and then the fields that a later step
//! writes, filled in roughly by hand for most of them.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use chrono::{DateTime, Utc};
use pixel::config::Config;
use pixel::demo::Demo;
use pixel::event::fields::{FIELDS, Kind};
use serde_json::{Value, json};

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
        // One in eight stays as it is today.
        if dice.below(8) > 0 {
            enrich(&mut document, &mut dice);
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

/// What stands in a text, and what that makes it; the first that stands there holds.
type Signs = [(&'static str, &'static str)];

const PROGRAMS: [(&str, &str); 14] = [
    ("GoogleImageProxy", "Gmail"),
    ("YahooMailProxy", "Yahoo Mail"),
    ("Thunderbird", "Thunderbird"),
    ("Outlook", "Outlook"),
    ("SamsungBrowser", "Samsung Internet"),
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("Firefox", "Firefox"),
    ("FxiOS", "Firefox"),
    ("Mobile Safari", "Chrome Mobile"),
    ("CriOS", "Chrome Mobile"),
    ("Chrome", "Chrome"),
    ("iPhone", "Mobile Safari"),
    ("Safari", "Safari"),
];
const SYSTEMS: [(&str, &str); 7] = [
    ("iPhone", "iOS"),
    ("iPad", "iPadOS"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Macintosh", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
];
const DEVICES: [(&str, &str); 7] = [
    ("TV", "tv"),
    ("iPad", "tablet"),
    ("Mobi", "phone"),
    ("Android", "tablet"),
    ("Windows", "desktop"),
    ("Macintosh", "desktop"),
    ("X11", "desktop"),
];
const MEDIA: [(&str, &str); 14] = [
    ("shop.example", "internal"),
    ("google", "search"),
    ("bing", "search"),
    ("duckduckgo", "search"),
    ("chatgpt", "ai"),
    ("perplexity", "ai"),
    ("copilot", "ai"),
    ("facebook", "social"),
    ("instagram", "social"),
    ("linkedin", "social"),
    ("t.co", "social"),
    ("mastodon", "social"),
    ("mail", "email"),
    ("http", "referral"),
];
const CLICKS: [&str; 4] = ["gclid", "fbclid", "msclkid", "li_fat_id"];

fn sign(signs: &Signs, text: &str) -> Option<&'static str> {
    signs
        .iter()
        .find(|(part, _)| text.contains(part))
        .map(|(_, name)| *name)
}

/// What a later step writes, of what it can be told by.
fn enrich(document: &mut Value, dice: &mut Dice) {
    let text = |pointer: &str| {
        document
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (agent, page) = (text("/user_agent/original"), document.get("url").is_some());
    let header = |name: &str| {
        let headers = document["params"]["header"].as_object();
        let found = headers.and_then(|headers| headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)));
        found
            .and_then(|(_, value)| value.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    let visitor = format!(
        "{:016x}",
        hash(&(&agent, text("/client/ip"), &text("/@timestamp")[..10]))
    );
    let prefetched = !(header("Sec-Purpose") + &header("Purpose") + &header("X-Moz")).is_empty();
    let (class, reason) = class(&agent, prefetched);
    let (origin, country) = (
        text("/params/querystring/referrer"),
        header("CloudFront-Viewer-Country"),
    );
    document["visit"] = json!({"class": class, "reasons": [reason], "rules": "1"});
    document["visitor"] = json!({"id": visitor});
    if !country.is_empty() {
        document["client"]["geo"] = json!({"country_iso_code": country});
    }
    if class != "automation" && !agent.is_empty() {
        document["user_agent"]["name"] = sign(&PROGRAMS, &agent).unwrap_or("Apple Mail").into();
        document["user_agent"]["os"] = json!({"name": sign(&SYSTEMS, &agent)});
        document["user_agent"]["device"] = json!({"type": sign(&DEVICES, &agent)});
    }
    if page {
        document["referrer"] = json!({"medium": sign(&MEDIA, &origin).unwrap_or("direct")});
        if dice.below(12) == 0 {
            document["campaign"]["click_id"] = json!({ dice.pick(&CLICKS): visitor });
        }
    } else {
        document["pixel"]["signature"] = dice.pick(&["valid", "valid", "none", "invalid"]).into();
        document["pixel"]["recipient"] = document["user"]["id"].clone();
        document["pixel"]["seconds_since_sent"] = dice.pick(&[1_900, 9_000, 200, 40_000, 20, 130_000, 400_000]).into();
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn class(agent: &str, prefetched: bool) -> (&'static str, &'static str) {
    let lower = agent.to_lowercase();
    let machine = [
        "bot", "crawl", "spider", "monitor", "uptime", "curl", "python", "scan", "check",
    ];
    if prefetched {
        ("prefetch", "purpose:prefetch")
    } else if agent == "Mozilla/5.0" || lower.contains("proxy") {
        ("privacy_proxy", "agent:mail-proxy")
    } else if agent.is_empty() || machine.iter().any(|word| lower.contains(word)) {
        ("automation", "agent:robot")
    } else {
        ("human", "agent:browser")
    }
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
