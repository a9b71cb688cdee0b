//! What an event costs in an index: bytes on disk of 5,000 realistic events in OpenSearch 2.19.4, one shard, merged into one
//! segment, in an index that `pixel setup` made; then what each group of fields costs, and what other settings would save.
//! Also how long `pixel setup` takes on an empty server.
//!
//! The figure wanted is 500 bytes at most; measured were 356, of which 158 are the raw request and 41 `event.id`.
//!
//! `cargo bench --bench index_size`. It needs what the tests need for that server. Two runs differ by less than a byte per
//! event, since the events are the same. What it does not measure: replicas, several shards, the transaction log.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a benchmark prints, and may fail where it stands"
)]

#[path = "../tests/it/servers.rs"]
mod servers;
#[path = "../tests/it/setup.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod setup;

use std::process::Command;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use pixel::capture;
use pixel::config::Config;
use pixel::event::Event;
use pixel::hit::Circumstances;
use pixel::request::Request;
use pixel::request::passthrough::{Document, document};
use pixel::setup::schema;
use serde_json::{Map, Value, json};

use servers::{Running, Server};

const EVENTS: usize = 5000;

/// Groups of fields, each as the pointers of its members.
const GROUPS: [(&str, &[&str]); 13] = [
    (
        "the raw request",
        &["params", "context", "stage-variables", "body-json"],
    ),
    ("params", &["params"]),
    ("context", &["context"]),
    ("labels", &["labels"]),
    ("event.id (the document's id stays)", &["event/id"]),
    ("event.ingested", &["event/ingested"]),
    (
        "the rest of event",
        &["event/action", "event/ingress", "event/cut", "event/oddities"],
    ),
    ("@timestamp", &["@timestamp"]),
    ("date", &["date"]),
    ("client and user", &["client", "user"]),
    ("user_agent", &["user_agent"]),
    ("url and http", &["url", "http"]),
    ("pixel, campaign and privacy", &["pixel", "campaign", "privacy"]),
];

fn main() {
    let running = servers::start(Server::OpenSearch2);
    time_setup(&running);
    let events = events();
    let json: usize = events.iter().map(|event| event.document.len()).sum();
    println!("{EVENTS} events of {} bytes of JSON", json / EVENTS);

    let declared = template(&json!({}), &json!({}));
    let whole = measure(&running, "declared", &declared, &events, &[]);
    println!("{whole:7.1} bytes per event, as declared\n\nwithout a group of fields:");
    for (name, members) in GROUPS {
        let without = measure(&running, "group", &declared, &events, members);
        println!("{without:7.1}  saves {:6.1}  {name}", whole - without);
    }

    println!("\nwith other settings:");
    for (name, body) in alternatives() {
        let other = measure(&running, "other", &body, &events, &[]);
        println!("{other:7.1}  saves {:6.1}  {name}", whole - other);
    }
}

/// The declared settings and mappings with others over them.
fn template(settings: &Value, mappings: &Value) -> Value {
    let mut body = json!({"settings": schema::settings(), "mappings": schema::mappings()});
    merge(&mut body["settings"], settings);
    merge(&mut body["mappings"], mappings);
    body
}

fn merge(value: &mut Value, over: &Value) {
    match (value, over) {
        (Value::Object(members), Value::Object(over)) => {
            for (name, over) in over {
                merge(members.entry(name).or_insert(Value::Null), over);
            }
        }
        (value, over) => *value = over.clone(),
    }
}

fn alternatives() -> Vec<(&'static str, Value)> {
    let sorted = |fields: &[&str]| {
        let orders = vec!["asc"; fields.len()];
        template(
            &json!({"index.sort.field": fields, "index.sort.order": orders}),
            &json!({}),
        )
    };
    let properties = |properties: Value| template(&json!({}), &json!({"properties": properties}));
    let no_values = json!({"doc_values": false});
    vec![
        (
            "the default codec",
            template(&json!({"index.codec": "default"}), &json!({})),
        ),
        ("sorted by @timestamp", sorted(&["@timestamp"])),
        (
            "sorted by pixel.code and @timestamp",
            sorted(&["pixel.code", "@timestamp"]),
        ),
        (
            "sorted by user_agent.original and @timestamp",
            sorted(&["user_agent.original", "@timestamp"]),
        ),
        (
            "no doc_values for event.id",
            properties(json!({"event": {"properties": {"id": no_values}}})),
        ),
        (
            "neither index nor doc_values for event.id (found by _id)",
            properties(json!({"event": {"properties": {"id": {"doc_values": false, "index": false}}}})),
        ),
        (
            "no doc_values for url.full and url.query",
            properties(json!({"url": {"properties": {"full": no_values, "query": no_values}}})),
        ),
        ("no doc_values for labels", properties(json!({"labels": no_values}))),
        (
            "date without index (ranges use @timestamp)",
            properties(json!({"date": {"index": false}})),
        ),
        (
            "the raw request left out of _source",
            template(
                &json!({}),
                &json!({"_source": {"excludes": ["params", "context", "stage-variables", "body-json"]}}),
            ),
        ),
    ]
}

/// Bytes per event of an index of this form, its events without some members.
fn measure(running: &Running, name: &str, body: &Value, events: &[Event], without: &[&str]) -> f64 {
    let index = format!("size-{name}-{}p", std::process::id());
    expect(running, "PUT", &format!("/{index}"), &body.to_string());
    for part in events.chunks(500) {
        let lines: String = part.iter().map(|event| lines(event, without)).collect();
        let answer = expect(running, "POST", &format!("/{index}/_bulk"), &lines);
        assert_eq!(answer["errors"], false, "{answer}");
    }
    expect(
        running,
        "POST",
        &format!("/{index}/_forcemerge?max_num_segments=1&flush=true"),
        "",
    );
    expect(running, "POST", &format!("/{index}/_refresh"), "");
    let deadline = Instant::now() + Duration::from_mins(1);
    let bytes = loop {
        let stats = expect(running, "GET", &format!("/{index}/_stats/store,segments,docs"), "");
        let primaries = &stats["_all"]["primaries"];
        // Merged segments are deleted in their own time.
        if primaries["segments"]["count"] == 1 && primaries["docs"]["count"] == EVENTS {
            break primaries["store"]["size_in_bytes"].as_f64().expect("a size");
        }
        assert!(Instant::now() < deadline, "never one segment: {stats}");
    };
    expect(running, "DELETE", &format!("/{index}"), "");
    bytes / f64::from(u32::try_from(EVENTS).expect("a small number"))
}

fn lines(event: &Event, without: &[&str]) -> String {
    let mut document: Value = serde_json::from_str(&event.document).expect("an event is JSON");
    for member in without {
        let (parent, name) = member.split_once('/').unwrap_or(("", member));
        let parent = if parent.is_empty() {
            Some(&mut document)
        } else {
            document.get_mut(parent)
        };
        parent
            .and_then(Value::as_object_mut)
            .map(|parent: &mut Map<_, _>| parent.remove(name));
    }
    format!("{}\n{document}\n", json!({"create": {"_id": event.id}}))
}

fn expect(running: &Running, method: &str, path: &str, body: &str) -> Value {
    let (status, answer) = servers::request(running, method, path, Some(body));
    assert!(matches!(status, 200 | 201), "{method} {path}: {status} {answer}");
    serde_json::from_str(&answer).expect("it answers JSON")
}

/// Times the command line as a person sees it.
fn time_setup(running: &Running) {
    for rotation in ["none", "daily", "rollover", "data-stream"] {
        let index = format!("size-setup-{rotation}-{}p", std::process::id());
        let url = format!("{}/{index}", running.url);
        let setup = || {
            let begun = Instant::now();
            let mut command = Command::new(env!("CARGO_BIN_EXE_pixel"));
            let output = command.args(["setup", "-d", &url, "--rotation", rotation]).output();
            assert!(output.is_ok_and(|output| output.status.success()), "{rotation}");
            begun.elapsed().as_secs_f64()
        };
        println!("setup, {rotation}: {:.2} s, the second time {:.2} s", setup(), setup());
        let paths = [
            format!("/_data_stream/{index}"),
            format!("/{index}*"),
            format!("/_index_template/pixel-{index}"),
        ];
        for path in paths {
            servers::request(running, "DELETE", &path, None);
        }
    }
}

// The events: mails that are opened through proxies and by people, and a site.

/// A generator of numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % sides
    }

    fn one<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }

    fn text(&mut self, alphabet: &[u8], length: usize) -> String {
        (0..length)
            .map(|_| char::from(alphabet[self.roll(alphabet.len())]))
            .collect()
    }
}

const AGENTS: [&str; 8] = [
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
    "Mozilla/5.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.6478.122 Mobile Safari/537.36",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
];
const PAGES: [&str; 6] = [
    "",
    "pricing",
    "blog/what-an-open-means",
    "docs/setup",
    "about",
    "blog/2026/index-size",
];
const SOURCES: [&str; 4] = [
    "https://www.google.com/",
    "https://news.example/item?id=4711",
    "https://t.example/abc",
    "",
];
const CAMPAIGNS: [&str; 5] = ["spring", "welcome", "winback", "digest-11", "product-news"];
const COUNTRIES: [&str; 6] = ["DE", "US", "FR", "GB", "IN", "BR"];
const LANGUAGES: [&str; 4] = [
    "de-DE,de;q=0.9,en;q=0.8",
    "en-US,en;q=0.9",
    "fr-FR,fr;q=0.9",
    "en-GB,en;q=0.7",
];

fn events() -> Vec<Event> {
    let start: DateTime<Utc> = "2026-03-01T00:00:00Z".parse().expect("a time");
    let mut dice = Dice(7);
    let mut events: Vec<_> = (0..EVENTS).map(|_| event(start, &mut dice)).collect();
    // As they arrive.
    events.sort_by_key(|event| event.time);
    events
}

fn event(start: DateTime<Utc>, dice: &mut Dice) -> Event {
    const HEX: &[u8] = b"0123456789abcdef";
    const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let milliseconds = i64::try_from(dice.roll(1 << 30)).expect("31 bits") * 2;
    let time = start + TimeDelta::milliseconds(milliseconds);
    let (address, agent) = (
        format!("203.0.{}.{}", dice.roll(256), dice.roll(256)),
        dice.one(&AGENTS),
    );
    let id = format!("{}=", dice.text(BASE64, 15));
    let request_id = [8, 4, 4, 4, 12].map(|length| dice.text(HEX, length)).join("-");
    let mail = dice.roll(10) < 6;
    let campaign = dice.one(&CAMPAIGNS);
    let code = if mail { campaign } else { "site" };
    let user = format!("u-{}", dice.text(HEX, 8));
    let page = format!("https://shop.example/{}", dice.one(&PAGES));
    let query = if mail {
        vec![
            ("utm_source", "mail".to_owned()),
            ("utm_medium", "email".to_owned()),
            ("utm_campaign", campaign.to_owned()),
            ("userid", user),
        ]
    } else {
        let source = dice.one(&SOURCES).to_owned();
        let width = dice.one(&["1920", "1440", "390"]).to_owned();
        vec![
            ("url", page.clone()),
            ("ref", source),
            ("w", width),
            ("action", "view".to_owned()),
        ]
    };
    let mut headers = vec![
        (
            "Accept",
            "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8".to_owned(),
        ),
        ("Accept-Encoding", "gzip, deflate, br".to_owned()),
        ("Accept-Language", dice.one(&LANGUAGES).to_owned()),
        ("CloudFront-Viewer-Country", dice.one(&COUNTRIES).to_owned()),
        ("CloudFront-Is-Mobile-Viewer", dice.one(&["true", "false"]).to_owned()),
        ("Host", "abc123.execute-api.eu-central-1.amazonaws.com".to_owned()),
        ("User-Agent", agent.to_owned()),
        ("Via", "2.0 4f2e1a.cloudfront.net (CloudFront)".to_owned()),
        ("X-Amz-Cf-Id", dice.text(BASE64, 56)),
        (
            "X-Amzn-Trace-Id",
            format!("Root=1-{}-{}", dice.text(HEX, 8), dice.text(HEX, 24)),
        ),
        ("X-Forwarded-For", format!("{address}, 198.51.100.7")),
        ("X-Forwarded-Proto", "https".to_owned()),
    ];
    if !mail {
        headers.push(("Referer", page));
    }
    let context = vec![
        ("api-id", "abc123".to_owned()),
        ("account-id", "123456789012".to_owned()),
        (
            "domain-name",
            "abc123.execute-api.eu-central-1.amazonaws.com".to_owned(),
        ),
        ("extended-request-id", id.clone()),
        ("http-method", "GET".to_owned()),
        ("request-id", request_id.clone()),
        ("request-time-epoch", time.timestamp_millis().to_string()),
        ("resource-id", "x7k2p9".to_owned()),
        ("resource-path", "/pixel/{code}".to_owned()),
        ("source-ip", address),
        ("stage", "prod".to_owned()),
        ("user-agent", agent.to_owned()),
    ];
    let owned = |pairs: Vec<(&str, String)>| {
        pairs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    };
    let payload = document(&Document {
        path: vec![("code".to_owned(), format!("{code}.gif"))],
        query: owned(query),
        headers: owned(headers),
        stage_variables: Vec::new(),
        context: owned(context),
        body: Some(json!({})),
    });
    let circumstances = Circumstances {
        now: time + TimeDelta::milliseconds(i64::try_from(dice.roll(60)).expect("a small number")),
        invocation: request_id,
        trusted_hops: 0,
    };
    let request = Request::decode(payload.to_string().as_bytes()).expect("a request");
    capture::event(request, &circumstances, &Config::default())
}
