//! Events of a made-up month, for the dashboards to show: requests that went through [`capture`], and then the fields that
//! a later step writes, filled in by hand for most of them.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use pixel::capture::{self, Answer};
use pixel::config::Config;
use pixel::hit::Circumstances;
use pixel::request::Ingress;
use pixel::stage::gateway::{Arrived, payload};
use serde_json::{Value, json};

/// The end of the events' time, and the present of every search. A Sunday.
pub fn now() -> DateTime<Utc> {
    "2026-03-15T21:10:00Z".parse().expect("a time")
}

/// An event as it is stored: id and document.
pub type Stored = (String, Value);

/// Numbers that look random and are always the same.
pub struct Dice(u64);

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits fit") % end
    }

    /// One of them, the first ones most often.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let last = self.below(from.len()) + 1;
        from[self.below(last)]
    }
}

const CODES: [&str; 9] = [
    "spring-sale",
    "newsletter-11",
    "welcome",
    "invoice",
    "newsletter-10",
    "webinar",
    "survey",
    "reminder",
    "beta",
];
const PATHS: [&str; 8] = [
    "/",
    "/pricing",
    "/blog/tracking-pixels",
    "/docs",
    "/blog/privacy",
    "/about",
    "/docs/setup",
    "/contact",
];
const UTM: [&str; 6] = [
    "utm_source=newsletter&utm_medium=email&utm_campaign=spring&utm_content=header",
    "utm_source=newsletter&utm_medium=email&utm_campaign=spring&utm_content=footer",
    "utm_source=mastodon&utm_medium=social&utm_campaign=launch",
    "utm_source=google&utm_medium=cpc&utm_campaign=brand&utm_term=pixel&utm_content=ad-1",
    "utm_source=partner&utm_campaign=launch",
    "utm_medium=qr&utm_campaign=fair",
];
const CLICKS: [&str; 4] = ["gclid", "fbclid", "msclkid", "li_fat_id"];
/// User-Agent, and what the later step makes of it: class, program, system, device.
const PROGRAMS: [[&str; 5]; 9] = [
    [
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/134.0.0.0 Safari/537.36",
        "human",
        "Chrome",
        "Windows",
        "desktop",
    ],
    [
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_3 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.3 Mobile/15E148 Safari/604.1",
        "human",
        "Mobile Safari",
        "iOS",
        "phone",
    ],
    [
        "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
        "privacy_proxy",
        "Gmail",
        "",
        "",
    ],
    [
        "Mozilla/5.0 (X11; Linux x86_64; rv:136.0) Gecko/20100101 Firefox/136.0",
        "human",
        "Firefox",
        "Linux",
        "desktop",
    ],
    ["Mozilla/5.0", "privacy_proxy", "Apple Mail", "", ""],
    [
        "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/134.0.0.0 Mobile Safari/537.36",
        "human",
        "Chrome Mobile",
        "Android",
        "phone",
    ],
    [
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.3 Safari/605.1.15",
        "human",
        "Safari",
        "macOS",
        "desktop",
    ],
    [
        "Mozilla/5.0 (compatible; ExampleBot/2.1; +https://bot.example/)",
        "automation",
        "ExampleBot",
        "",
        "",
    ],
    [
        "Mozilla/5.0 (iPad; CPU OS 17_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.7 Mobile/15E148 Safari/604.1",
        "human",
        "Mobile Safari",
        "iPadOS",
        "tablet",
    ],
];
const COUNTRIES: [&str; 8] = ["DE", "US", "FR", "GB", "NL", "AT", "JP", "BR"];
const MEDIA: [&str; 7] = ["search", "direct", "social", "referral", "email", "ai", "internal"];

/// So many events of the thirty days before [`now`].
pub fn events(count: usize) -> Vec<Stored> {
    let mut dice = Dice::new(7);
    (0..count).map(|number| event(number, &mut dice)).collect()
}

fn event(number: usize, dice: &mut Dice) -> Stored {
    let time = time(dice);
    let program = dice.pick(&PROGRAMS);
    let visitor = dice.below(60);
    let arrived = arrived(number, time, visitor, program[0], dice);
    let ingress = dice.pick(&[
        Ingress::Passthrough,
        Ingress::Passthrough,
        Ingress::FunctionUrl,
        Ingress::Http,
    ]);
    let payload = payload(ingress, &arrived).expect("it is a path of the pixel");
    let Answer::Accepted { request, .. } = capture::answer(&payload, None) else {
        panic!("a hit is accepted");
    };
    let circumstances = Circumstances {
        now: time + TimeDelta::milliseconds(i64::try_from(dice.below(1900)).expect("it is small")),
        invocation: arrived.id.clone(),
        trusted_hops: 0,
    };
    let event = capture::event(*request, &circumstances, &Config::default());
    let mut document: Value = serde_json::from_str(&event.document).expect("an event is JSON");
    // One in eight stays as it is today.
    if dice.below(8) > 0 {
        enrich(&mut document, program, visitor, time, dice);
    }
    (event.id, document)
}

/// Most often by day and on working days, and more of late.
fn time(dice: &mut Dice) -> DateTime<Utc> {
    let back = |dice: &mut Dice| {
        let days = dice.pick(&(0..30).collect::<Vec<i64>>());
        let seconds = i64::try_from(dice.below(86_400)).expect("a day's seconds");
        now() - TimeDelta::days(days) - TimeDelta::seconds(seconds)
    };
    let quiet = |time: &DateTime<Utc>| {
        let hour: u32 = time.format("%H").to_string().parse().expect("an hour");
        !(7..22).contains(&hour) || time.format("%a").to_string().starts_with('S')
    };
    let first = back(dice);
    if quiet(&first) && dice.below(10) < 7 {
        back(dice)
    } else {
        first
    }
}

fn arrived(number: usize, time: DateTime<Utc>, visitor: usize, program: &str, dice: &mut Dice) -> Arrived {
    let mut query = vec![format!("n={number}")];
    let opened = dice.below(3) > 0;
    if dice.below(3) > 0 {
        query.push(format!("userid=user-{}", dice.below(400)));
    }
    if !opened {
        query.push(format!("url=https%3A%2F%2Fshop.example{}", dice.pick(&PATHS)));
    }
    if dice.below(3) == 0 {
        query.push(dice.pick(&UTM).to_owned());
    }
    if dice.below(25) == 0 {
        query.push(format!("long={}", "x".repeat(3000)));
    }
    if dice.below(30) == 0 {
        query.push("broken=%FF%FE".to_owned());
    }
    let path = if opened {
        format!("/pixel/{}", dice.pick(&CODES))
    } else {
        "/pixel".to_owned()
    };
    let last = u8::try_from(visitor).expect("it is below 60");
    Arrived {
        method: "GET".to_owned(),
        path: format!("/prod{path}"),
        query: query.join("&"),
        headers: vec![("User-Agent".to_owned(), program.to_owned())],
        peer: Some([203, 0, last, 77].into()),
        id: format!("dash-{number:06}"),
        time,
        body: None,
    }
}

/// What a later step writes.
fn enrich(document: &mut Value, program: [&str; 5], visitor: usize, time: DateTime<Utc>, dice: &mut Dice) {
    let [_, class, name, system, device] = program;
    let class = if dice.below(20) == 0 { "prefetch" } else { class };
    document["visit"] = json!({"class": class, "reasons": [format!("user-agent:{name}")], "rules": "1"});
    document["visitor"] = json!({"id": format!("{visitor}-{}", time.format("%j"))});
    document["client"]["geo"] = json!({"country_iso_code": COUNTRIES[visitor % dice.pick(&[8, 8, 3])]});
    document["user_agent"]["name"] = name.into();
    if !system.is_empty() {
        document["user_agent"]["os"] = json!({"name": system});
        document["user_agent"]["device"] = json!({"type": device});
    }
    if document.get("url").is_some() {
        document["referrer"] = json!({"medium": dice.pick(&MEDIA)});
        if dice.below(6) == 0 {
            document["campaign"]["click_id"] = json!({ dice.pick(&CLICKS): format!("click-{visitor}") });
        }
    } else {
        document["pixel"]["signature"] = dice.pick(&["valid", "none", "invalid"]).into();
        document["pixel"]["recipient"] = format!("recipient-{visitor}").into();
        let seconds = dice.pick(&[1_900, 9_000, 200, 40_000, 20, 130_000, 400_000]);
        document["pixel"]["seconds_since_sent"] = seconds.into();
    }
}

/// A field's values as texts, each once.
pub fn values(event: &Value, field: &str) -> BTreeSet<String> {
    let mut values = vec![event];
    for name in field.split('.') {
        values = values.into_iter().filter_map(|value| value.get(name)).collect();
    }
    let each = values.into_iter().flat_map(|value| match value {
        Value::Array(items) => items.iter().collect(),
        other => vec![other],
    });
    each.filter(|value| !value.is_null())
        .map(|value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned))
        .collect()
}
