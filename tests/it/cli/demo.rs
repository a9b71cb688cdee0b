//! The demo: its events are what it says, are the same every time, and arrive once; and the loader that brings them there.

use pixel::hit::settings::Lookups;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use pixel::cli::demo::generator::Demo;
use pixel::client::bulk::{BulkTimeouts, load};
use pixel::client::http::{Deliverer, http_client};
use pixel::config::{Config, Timing};
use pixel::destination::Destination;
use pixel::destination::bulk::Limits;
use pixel::hit::event::Event;
use pixel::hit::outcome::Outcome;
use pixel::sqlite::Reader;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::matrix;
use crate::support::servers::{self, Server};
use crate::support::serving::{pixel, run, signal, wait};

fn end() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_780_000_000_123).expect("a time")
}

fn demo(seed: u64, events: u32) -> Demo {
    Demo {
        seed,
        events,
        days: 30,
        end: end(),
    }
}

fn events(demo: &Demo) -> Vec<Event> {
    demo.events(&Config::default()).collect()
}

/// The events of one demo that many tests look at.
fn month() -> &'static [Event] {
    static MONTH: LazyLock<Vec<Event>> = LazyLock::new(|| events(&demo(1, 10_000)));
    &MONTH
}

fn documents(events: &[Event]) -> Vec<Value> {
    let read = |event: &Event| serde_json::from_str(&event.document).expect("a document is JSON");
    events.iter().map(read).collect()
}

fn text<'a>(event: &'a Value, pointer: &str) -> &'a str {
    event.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

// What it makes.

#[test]
fn a_seed_makes_the_same_events_and_another_seed_others() {
    let hash = |seed| {
        let mut hasher = DefaultHasher::new();
        for event in events(&demo(seed, 1_000)) {
            (event.id, event.time, event.document).hash(&mut hasher);
        }
        hasher.finish()
    };
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
    let ids = |seed| {
        events(&demo(seed, 1_000))
            .into_iter()
            .map(|event| event.id)
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(ids(1).len(), 1_000);
    assert!(ids(1).is_disjoint(&ids(2)));
}

#[test]
fn times_ascend_within_the_days() {
    for days in [1, 30, 365] {
        let demo = Demo { days, ..demo(1, 1_000) };
        let start = end() - chrono::Duration::days(days.into());
        let made = events(&demo);
        assert!(made.is_sorted_by_key(|event| event.time), "{days}");
        assert!(made.iter().all(|event| (start..=end()).contains(&event.time)), "{days}");
        let span = made[made.len() - 1].time - made[0].time;
        assert!(span > (end() - start) * 4 / 5, "{days}: {span}");
        for (event, document) in made.iter().zip(documents(&made)) {
            let ingested: DateTime<Utc> = text(&document, "/event/ingested").parse().expect("a time");
            let delay = ingested - event.time;
            assert!((10..10_000).contains(&delay.num_milliseconds()), "{delay}");
        }
    }
}

#[test]
fn documents_are_of_the_size_of_real_ones_and_hold_no_address() {
    let made = month();
    let bytes: usize = made.iter().map(|event| event.document.len()).sum();
    let average = bytes / made.len();
    assert!((1_500..=2_300).contains(&average), "{average}");
    for event in made {
        assert!(event.document.len() <= 32 * 1024, "{}", event.document.len());
        for network in ["192.0.2.", "198.51.100.", "203.0.113."] {
            for (place, _) in event.document.match_indices(network) {
                let host = &event.document[place + network.len()..];
                assert!(host.starts_with("0\""), "{}", event.document);
            }
        }
        for (place, _) in event.document.match_indices("2001:db8:") {
            let address = event.document[place..].split('"').next().unwrap_or_default();
            assert!(address.ends_with("::") && address.len() <= 16, "{address}");
        }
        for secret in ["5ecre7", "pa55", "authorization\"", "cookie\""] {
            assert!(!event.document.contains(secret), "{secret}: {}", event.document);
        }
    }
}

/// The shares of a hundred that a demo's events have of something.
fn share(documents: &[Value], holds: impl Fn(&Value) -> bool) -> usize {
    documents.iter().filter(|document| holds(document)).count() * 100 / documents.len()
}

#[test]
fn the_shares_are_those_of_its_description() {
    let made = documents(month());
    let agent = |document: &Value, part: &str| text(document, "/user_agent/original").contains(part);
    let email =
        |document: &Value| text(document, "/campaign/medium") == "email" && text(document, "/url/full").is_empty();
    let shares = [
        ("mails", share(&made, email), 45..=55),
        (
            "pages",
            share(&made, |document| text(document, "/url/domain") == "www.shop.example"),
            38..=48,
        ),
        (
            "Gmail's proxy",
            share(&made, |document| agent(document, "GoogleImageProxy")),
            8..=25,
        ),
        (
            "Apple Mail",
            share(&made, |document| {
                text(document, "/user_agent/original") == "Mozilla/5.0"
            }),
            8..=25,
        ),
        ("phones", share(&made, |document| agent(document, "Mobile")), 10..=30),
        (
            "monitors",
            share(&made, |document| {
                agent(document, "UptimeRobot") || agent(document, "Pingdom")
            }),
            1..=3,
        ),
    ];
    for (what, share, expected) in shares {
        assert!(expected.contains(&share), "{what}: {share} %");
    }
    let some = |what: &str, holds: &dyn Fn(&Value) -> bool| {
        let found = made.iter().filter(|document| holds(document)).count();
        assert!(found >= 5, "{what}: {found}");
    };
    let header = |name: &'static str| move |document: &Value| !document["params"]["header"][name].is_null();
    some("prefetches", &header("sec-purpose"));
    some("who asks not to be tracked", &header("dnt"));
    some("who asks in the new way", &header("sec-gpc"));
    some("Yahoo's proxy", &|document| agent(document, "YahooMailProxy"));
    some("crawlers", &|document| agent(document, "Googlebot"));
    some("televisions", &|document| {
        agent(document, "Tizen") || agent(document, "Web0S")
    });
    some("cut values", &|document| document["event"]["cut"].is_array());
    for oddity in ["invalid_encoding", "control_character", "no_address", "too_many"] {
        some(oddity, &|document| {
            document["event"]["oddities"].to_string().contains(oddity)
        });
    }
    for applied in [
        "secret_parameters_replaced",
        "secret_headers_dropped",
        "address_shortened",
    ] {
        some(applied, &|document| {
            document["privacy"]["applied"].to_string().contains(applied)
        });
    }
    let different = |pointer: &str| {
        made.iter()
            .map(|document| text(document, pointer).to_owned())
            .collect::<BTreeSet<_>>()
            .len()
    };
    assert!(
        different("/user_agent/original") > 1_000,
        "{}",
        different("/user_agent/original")
    );
    assert!(different("/pixel/code") > 500);
    assert!(different("/params/header/cloudfront-viewer-country") > 20);
}

#[test]
fn most_opens_are_soon_after_the_send_and_scanners_come_first() {
    let made = documents(month());
    let mut campaigns: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for document in &made {
        if text(document, "/campaign/source") == "newsletter" && text(document, "/url/full").is_empty() {
            campaigns
                .entry(text(document, "/campaign/id"))
                .or_default()
                .push(document["date"].as_i64().expect("a number"));
        }
    }
    assert_eq!(campaigns.len(), 10, "{:?}", campaigns.keys());
    for (campaign, times) in campaigns {
        let hours = |hour: i64| {
            times
                .iter()
                .filter(|time| **time - times[0] <= hour * 3_600_000)
                .count()
                * 100
                / times.len()
        };
        assert!((30..=85).contains(&hours(4)), "{campaign}: {} %", hours(4));
        assert!(hours(24) > 60, "{campaign}: {} %", hours(24));
    }
}

#[test]
fn codes_are_words_and_signed_ones_of_every_kind() {
    let made = documents(month());
    let coded: Vec<_> = made
        .iter()
        .filter(|document| document["pixel"]["code"].is_string())
        .cloned()
        .collect();
    let signed = |document: &Value| text(document, "/pixel/code").starts_with('_');
    let by = |signature: &'static str| move |document: &Value| text(document, "/pixel/signature") == signature;
    for (signature, expected) in [("none", 75..=92), ("valid", 8..=20)] {
        let share = share(&coded, by(signature));
        assert!(expected.contains(&share), "{signature}: {share} %");
    }
    for (signature, expected) in [("expired", 10..100), ("invalid", 10..100), ("revoked", 10..100)] {
        let found = coded.iter().filter(|document| by(signature)(document)).count();
        assert!(expected.contains(&found), "{signature}: {found}");
    }
    let is_anonymous = |document: &Value| {
        let applied = document["privacy"]["applied"].as_array();
        applied.is_some_and(|applied| applied.iter().any(|it| it == "anonymised"))
    };
    assert!(
        made.iter()
            .any(|document| is_anonymous(document) && by("valid")(document))
    );
    for document in &made {
        let said =
            ["campaign", "recipient", "sent", "seconds_since_sent"].map(|name| !document["pixel"][name].is_null());
        // Whoever wishes not to be told from others has no code of its own.
        if is_anonymous(document) {
            assert!(!signed(document) && said[1..] == [false; 3], "{document}");
            continue;
        }
        assert_eq!(signed(document), !by("none")(document), "{document}");
        let believed = signed(document) && !by("invalid")(document);
        let open = !document["campaign"]["name"].is_null();
        assert!(
            said[0] == believed && (!believed || said[2] && said[3] && open),
            "{document}"
        );
        if believed {
            assert_eq!(
                document["pixel"]["campaign"], document["campaign"]["name"],
                "{document}"
            );
        }
    }
    // A mail has one code, and is opened after it was sent.
    let mut mails: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for document in coded
        .iter()
        .filter(|document| signed(document) && !by("invalid")(document))
    {
        let seconds = document["pixel"]["seconds_since_sent"].as_i64();
        assert!(seconds >= Some(0), "{document}");
        mails
            .entry(text(document, "/pixel/code"))
            .or_default()
            .insert(text(document, "/pixel/sent"));
    }
    assert!(mails.values().all(|sent| sent.len() == 1), "{mails:?}");
    let opens = coded.iter().filter(|document| signed(document)).count();
    assert!(mails.len() * 11 / 10 < opens, "{} codes of {opens} opens", mails.len());
}

/// A demo's key is known to who knows its seed, so it checks the demo's codes and no others; the owner's own are not needed.
#[test]
fn the_codes_are_good_for_the_demo_alone() {
    let variables = [("PIXEL_CODE_KEYS".to_owned(), "100:MDEyMzQ1Njc4OWFiY2RlZg".to_owned())].into();
    let (config, problems) = Config::read(&variables);
    assert_eq!(problems, []);
    let plan = demo(1, 1_000).plan();
    let mut valid = 0;
    for number in 0..plan.len() {
        let event = plan.event(number, &config);
        assert_eq!(event, plan.event(number, &Config::default()));
        let (request, circumstances) = plan.request(number);
        let elsewhere = pixel::hit::answer::build_event(request, &circumstances, &config.settings(), &Lookups::none());
        let [here, elsewhere] = [event, elsewhere].map(|event| {
            let document: Value = serde_json::from_str(&event.document).expect("JSON");
            text(&document, "/pixel/signature").to_owned()
        });
        assert_eq!(elsewhere, if here == "none" { "none" } else { "invalid" });
        valid += usize::from(here == "valid");
    }
    assert!(valid > 50, "{valid}");
}

#[test]
fn hours_and_weekdays_have_a_shape() {
    let made = month();
    let mut hours = [0; 24];
    let mut days = [0; 7];
    for (event, document) in made.iter().zip(documents(made)) {
        use chrono::{Datelike, Timelike};
        hours[event.time.hour() as usize] += 1;
        // Mails are sent on weekdays; who visits the site says when people are about.
        if document["visit"]["class"] == "human" && document.get("url").is_some() {
            days[event.time.weekday().num_days_from_monday() as usize] += 1;
        }
    }
    let (week, end): (usize, usize) = (days[..5].iter().sum(), days[5..].iter().sum());
    assert!(end > 0 && week / 5 > end / 2 * 3 / 2, "from Monday: {days:?}");
    let (night, day): (usize, usize) = (hours[1..5].iter().sum(), hours[9..13].iter().sum());
    assert!(day > 2 * night, "{hours:?}");
}

#[test]
fn the_policy_of_the_owner_holds() {
    let variables = [("PIXEL_PRIVACY_IP".to_owned(), "drop".to_owned())].into();
    let (config, problems) = Config::read(&variables);
    assert_eq!(problems, []);
    for event in demo(1, 500).events(&config) {
        let document: Value = serde_json::from_str(&event.document).expect("JSON");
        assert_eq!(document["client"]["ip"], Value::Null, "{document}");
    }
}

// The command line.

fn summary(output: &std::process::Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"))
}

fn counts(summary: &Value) -> [u64; 4] {
    ["stored", "already_there", "refused", "not_sent"].map(|name| summary[name].as_u64().expect("a number"))
}

const END: &str = "2026-05-28T20:26:40.123Z";

#[test]
fn into_a_file_twice_stores_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = [
        "demo", "--events", "4000", "--days", "30", "--seed", "7", "--end", END, "--json",
    ];
    let first = run(folder.path(), &arguments);
    assert!(first.status.success());
    assert_eq!(counts(&summary(&first)), [4_000, 0, 0, 0]);
    let again = run(folder.path(), &arguments);
    assert!(again.status.success());
    assert_eq!(counts(&summary(&again)), [0, 4_000, 0, 0]);

    let stored = Reader::open(&folder.path().join("pixel.db")).expect("a store");
    let stored = stored.latest(10_000).expect("it can be read");
    let stored: Vec<_> = stored.into_iter().map(|stored| stored.document).collect();
    let made: Vec<_> = events(&demo(7, 4_000))
        .into_iter()
        .map(|event| event.document)
        .collect();
    assert_eq!(stored, made);

    // Later, the same seed is still the same events.
    let later = run(folder.path(), &["demo", "--events", "4000", "--seed", "7"]);
    let printed = String::from_utf8_lossy(&later.stdout);
    assert!(printed.contains("already there        4000"), "{printed}");
    let talked = String::from_utf8_lossy(&later.stderr);
    assert_eq!(talked.lines().count(), 1, "no bar where nobody sees it: {talked}");
    let listed = run(folder.path(), &["hits", "--limit", "3"]);
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 4);
}

#[test]
fn wrong_arguments_say_what_would_be_right() {
    let folder = tempfile::tempdir().expect("a folder");
    for (arguments, expected) in [
        (["--events", "0"], "from 1 to 10000000"),
        (["--days", "0"], "from 1 to 3650"),
        (["--end", "soon"], "give a day or an RFC 3339 time"),
        (["--end", "1969-12-31"], "give a year from 1980 to 9998"),
        (["--destination", "kafka://x"], "https://host/index"),
    ] {
        let output = run(folder.path(), &[&["demo"], arguments.as_slice()].concat());
        let talked = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{talked}");
        assert!(talked.contains(expected), "{talked}");
    }
}

#[test]
fn a_server_that_lets_nobody_in_is_told_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let stub = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = stub.local_addr().expect("an address");
    std::thread::spawn(move || {
        // Whatever is asked, it is a login page.
        for stream in stub.incoming().flatten() {
            let mut stream = stream;
            let mut head = [0; 16];
            let _ = std::io::Read::read(&mut stream, &mut head);
            let page = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 6\r\nConnection: close\r\n\r\nlog in";
            let _ = std::io::Write::write_all(&mut stream, page.as_bytes());
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    let destination = format!("http://{address}/events");
    let output = run(
        folder.path(),
        &["demo", "--events", "20000", "--destination", &destination],
    );
    let (printed, talked) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(1), "{talked}");
    assert!(
        talked.contains("cannot tell whether real events are there"),
        "{printed}{talked}"
    );
    assert!(talked.contains("401") && talked.contains("log in"), "{talked}");
    let output = run(
        folder.path(),
        &["demo", "--events", "20000", "--yes", "--destination", &destination],
    );
    let (printed, talked) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(1), "{talked}");
    assert!(printed.contains("x status 401: log in"), "{printed}");
    assert!(printed.contains("not sent") && printed.contains("gave up"), "{printed}");
    assert!(talked.contains(&format!("{destination} refused")), "{talked}");
}

#[test]
fn real_and_made_up_events_are_not_mixed_unless_told_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let made_up = run(folder.path(), &["demo", "--events", "500", "-d", "sqlite:demo.db"]);
    assert!(made_up.status.success());
    let real = run(
        folder.path(),
        &["demo", "--events", "30", "--seed", "9", "-d", "sqlite:pixel.db"],
    );
    assert!(real.status.success());
    // Real ones have no mark, as those of demos of earlier versions.
    let connection = rusqlite::Connection::open(folder.path().join("pixel.db")).expect("the file opens");
    let unmarked = "UPDATE events SET document = json_remove(document, '$.event.dataset')";
    assert_eq!(connection.execute(unmarked, []).expect("it is changed"), 30);
    drop(connection);

    let refused = run(folder.path(), &["demo", "--events", "200"]);
    let talked = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{talked}");
    assert!(
        talked.contains("it holds real ones; try another destination") && talked.contains("`--yes`"),
        "{talked}"
    );
    assert_eq!(crate::support::serving::documents(folder.path()).len(), 30);
    let mixed = run(folder.path(), &["demo", "--events", "200", "--yes"]);
    assert!(mixed.status.success(), "{}", String::from_utf8_lossy(&mixed.stderr));
    let documents = crate::support::serving::documents(folder.path());
    assert_eq!(documents.len(), 230);
    let gone: Vec<_> = documents
        .iter()
        .filter(|document| document.contains(r#""dataset":"demo""#))
        .map(|document| {
            serde_json::from_str::<Value>(document).expect("JSON")["event"]["id"]
                .to_string()
                .into_bytes()
        })
        .collect();
    assert_eq!(gone.len(), 200);
    let removed = summary(&run(folder.path(), &["demo", "--remove", "--json"]));
    assert_eq!(
        (&removed["found"], &removed["deleted"], &removed["left"]),
        (&json!(200), &json!(200), &json!(0))
    );
    assert_eq!(crate::support::serving::documents(folder.path()).len(), 30);
    assert_eq!(
        crate::server::deletion::left(folder.path(), &gone)
            .iter()
            .filter(|found| found.starts_with("pixel.db"))
            .count(),
        0
    );
    let none = run(folder.path(), &["demo", "--remove"]);
    let talked = String::from_utf8_lossy(&none.stderr);
    assert!(
        none.status.success() && talked.contains("demos of earlier versions have no mark"),
        "{talked}"
    );
    // More of the same are no mixture.
    let more = run(
        folder.path(),
        &["demo", "--events", "500", "--seed", "2", "-d", "sqlite:demo.db"],
    );
    assert!(more.status.success(), "{}", String::from_utf8_lossy(&more.stderr));
}

#[test]
fn a_server_that_is_not_there_is_told_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let destination = format!("http://{}/events", port.local_addr().expect("an address"));
    drop(port);
    let began = Instant::now();
    let output = run(folder.path(), &["demo", "--destination", &destination]);
    let talked = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{talked}");
    assert!(talked.contains(&format!("cannot reach {destination}")), "{talked}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
fn an_interruption_keeps_what_was_stored() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = pixel(folder.path());
    command.args(["demo", "--events", "400000", "--json"]);
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null());
    let mut child = command.spawn().expect("pixel starts");
    let store = folder.path().join("pixel.db");
    let stored = || {
        Reader::open(&store)
            .ok()
            .and_then(|reader| reader.latest(1).ok())
            .unwrap_or_default()
    };
    crate::support::serving::wait_for("the first event", || (!stored().is_empty()).then_some(()));
    signal(&child, "INT");
    assert_eq!(wait(&mut child).code(), Some(130));
    let printed = std::io::read_to_string(child.stdout.take().expect("it is piped")).expect("text");
    let summary: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(summary["interrupted"], true, "{summary}");
    let [indexed, _, refused, not_sent] = counts(&summary);
    assert!(indexed > 0 && refused == 0 && not_sent > 0, "{summary}");
    assert_eq!(stored()[0].number.unsigned_abs(), indexed);
}

// A real index.

#[test]
fn into_an_index_twice_stores_once() {
    check_index(Server::OpenSearch2, "");
    check_index(Server::OpenSearch2, "-%Y.%m");
}

/// It refuses requests without a type, which later servers refuse to be given.
#[test]
fn an_old_index_gets_the_type_it_wants() {
    check_index(Server::Elasticsearch6, "");
}

#[test]
fn the_other_engines_take_it_too() {
    check_index(Server::Elasticsearch7, "");
    check_index(Server::Elasticsearch8, "");
}

fn check_index(engine: Server, pattern: &str) {
    if !matrix::has(engine, "the demo in an index") {
        return;
    }
    let running = servers::start(engine);
    let folder = tempfile::tempdir().expect("a folder");
    let dated = if pattern.is_empty() { "" } else { "-dated" };
    let name = format!("demo{dated}-{}p", std::process::id());
    let ask = |method: &str, path: &str, body: Option<Value>| {
        let (status, answer) = servers::request(&running, method, path, body.map(|body| body.to_string()).as_deref());
        assert!(status == 200, "{engine:?}: {method} {path}: {status} {answer}");
        serde_json::from_str::<Value>(&answer).expect("an index answers JSON")
    };
    if pattern.is_empty() {
        let mappings = match engine {
            // As of a version before there was a mark.
            Server::Elasticsearch6 => json!({"_doc": {"dynamic": false}}),
            _ => json!({
                "dynamic": false,
                "properties": {"event": {"properties": {"dataset": {"type": "keyword"}}}},
            }),
        };
        ask("PUT", &format!("/{name}"), Some(json!({"mappings": mappings})));
    }
    let destination = format!("{}/{name}{pattern}", running.url);
    let fill = || {
        run(
            folder.path(),
            &[
                "demo",
                "--events",
                "2000",
                "--days",
                "30",
                "--end",
                END,
                "--json",
                "-d",
                &destination,
            ],
        )
    };
    for expected in [[2_000, 0, 0, 0], [0, 2_000, 0, 0]] {
        let output = fill();
        assert_eq!(counts(&summary(&output)), expected, "{engine:?}: {}", summary(&output));
        assert!(output.status.success());
        ask("POST", &format!("/{name}*/_refresh"), None);
        assert_eq!(
            ask("GET", &format!("/{name}*/_count"), None)["count"],
            2_000,
            "{engine:?}"
        );
    }
    let known = events(&demo(1, 2_000)).swap_remove(1_234);
    let index = format!("{name}{}", known.time.format(pattern));
    let found = ask(
        "GET",
        &format!("/{index}/_doc/{}", known.id.replace('/', "%2F").replace('+', "%2B")),
        None,
    );
    let document: Value = serde_json::from_str(&known.document).expect("JSON");
    assert_eq!(found["_source"], document, "{engine:?}");
    if engine != Server::Elasticsearch6 {
        let removed = summary(&run(folder.path(), &["demo", "--remove", "--json", "-d", &destination]));
        assert_eq!(
            (&removed["deleted"], &removed["left"]),
            (&json!(2_000), &json!(0)),
            "{engine:?}"
        );
        let real = json!({"@timestamp": "2026-03-01T09:30:00Z", "event": {"id": "real"}});
        let (status, answer) = servers::request(
            &running,
            "PUT",
            &format!("/{index}/_doc/real?refresh=true"),
            Some(&real.to_string()),
        );
        assert_eq!(status, 201, "{answer}");
        let refused = fill();
        let talked = String::from_utf8_lossy(&refused.stderr);
        assert!(
            refused.status.code() == Some(1) && talked.contains("it holds real ones"),
            "{engine:?}: {talked}"
        );
    }
    let (_, made) = servers::request(&running, "GET", &format!("/_cat/indices/{name}*?h=index"), None);
    made.split_whitespace()
        .for_each(|index| drop(ask("DELETE", &format!("/{index}"), None)));
}

// The loader.

/// An index that stores by id, and answers as its script says.
pub struct Stub {
    pub url: String,
    state: Arc<Mutex<State>>,
}

pub struct State {
    /// What each id is answered, one after the other; then it is stored.
    pub script: HashMap<String, Vec<u16>>,
    /// How often each id was stored.
    pub stored: BTreeMap<String, usize>,
    /// The ids of each request.
    pub requests: Vec<Vec<String>>,
    /// Statuses that whole requests are answered first.
    pub whole: Vec<u16>,
    /// The largest body that is taken.
    pub largest: usize,
    under_way: usize,
    most_under_way: usize,
}

impl Stub {
    pub async fn start(script: impl IntoIterator<Item = (String, Vec<u16>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/events", listener.local_addr().expect("an address"));
        let state = Arc::new(Mutex::new(State {
            script: script.into_iter().collect(),
            stored: BTreeMap::new(),
            requests: Vec::new(),
            whole: Vec::new(),
            largest: usize::MAX,
            under_way: 0,
            most_under_way: 0,
        }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                let service = service_fn(move |request| bulk(Arc::clone(&shared), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { url, state }
    }

    pub fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().expect("no test panics with it"))
    }

    fn deliverer(&self) -> Arc<Deliverer> {
        let timing = Timing::default();
        let http = http_client(None, &timing).expect("a client");
        let Ok(Destination::OpenSearch(target)) = Destination::parse(&self.url, None, None) else {
            panic!("{} is an index", self.url)
        };
        Arc::new(Deliverer::new(http, target, timing, None))
    }
}

async fn bulk(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() == "HEAD" {
        return Ok(Response::default());
    }
    assert_eq!(request.uri().path(), "/events/_bulk");
    let look = |state: &Arc<Mutex<State>>, by: isize| {
        let mut state = state.lock().expect("no test panics with it");
        state.under_way = state.under_way.saturating_add_signed(by);
        state.most_under_way = state.most_under_way.max(state.under_way);
    };
    look(&state, 1);
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    tokio::time::sleep(Duration::from_millis(20)).await;
    look(&state, -1);
    let (status, answer) = state.lock().expect("no test panics with it").answer(&body);
    let mut response = Response::new(Full::new(Bytes::from(answer)));
    *response.status_mut() = hyper::StatusCode::from_u16(status).expect("a status");
    Ok(response)
}

impl State {
    fn answer(&mut self, body: &[u8]) -> (u16, String) {
        if body.len() > self.largest {
            return (413, "too large".to_owned());
        }
        let text = std::str::from_utf8(body).expect("a body is text");
        assert!(text.ends_with('\n'));
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("lines are JSON"))
            .collect();
        let ids: Vec<_> = lines.chunks(2).map(|pair| text_of_id(&pair[0])).collect();
        self.requests.push(ids.clone());
        if !self.whole.is_empty() {
            return (
                self.whole.remove(0),
                r#"{"error":{"type":"overloaded","reason":"all of it"}}"#.to_owned(),
            );
        }
        let items: Vec<_> = ids.iter().map(|id| self.item(id)).collect();
        (200, json!({"took": 1, "errors": true, "items": items}).to_string())
    }

    fn item(&mut self, id: &str) -> Value {
        let scripted = self
            .script
            .get_mut(id)
            .filter(|left| !left.is_empty())
            .map(|left| left.remove(0));
        let status = scripted.unwrap_or_else(|| {
            let times = self.stored.entry(id.to_owned()).or_insert(0);
            *times += 1;
            if *times == 1 { 201 } else { 409 }
        });
        match status {
            201 => json!({"create": {"status": 201}}),
            409 => {
                json!({"create": {"status": 409, "error": {"type": "version_conflict_engine_exception", "reason": "it is there"}}})
            }
            // Stored, and the answer says nothing of it.
            0 => {
                self.stored.insert(id.to_owned(), 1);
                json!({"create": {}})
            }
            status => {
                json!({"create": {"status": status, "error": {"type": "some_exception", "reason": "as scripted"}}})
            }
        }
    }
}

fn text_of_id(action: &Value) -> String {
    text(action, "/create/_id").to_owned()
}

fn numbered(count: usize) -> Vec<Event> {
    let event = |number| Event {
        id: format!("event-{number}"),
        time: end(),
        document: json!({ "n": number }).to_string(),
    };
    (0..count).map(event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_item_ends_exactly_once() {
    let script: [&[u16]; 7] = [&[], &[409], &[429], &[503, 429], &[400], &[0], &[500]];
    let events = numbered(70);
    let stub = Stub::start(
        events
            .iter()
            .zip(script.iter().cycle())
            .map(|(event, script)| (event.id.clone(), script.to_vec())),
    )
    .await;
    let outcomes = stub
        .deliverer()
        .deliver_all(&events, Limits::default(), BulkTimeouts::default())
        .await;
    assert_eq!(outcomes.len(), events.len());
    for (number, outcome) in outcomes.iter().enumerate() {
        match (number % 7, outcome) {
            // 5 was stored by us without a word, and is no duplicate therefore.
            (0 | 2 | 3 | 5 | 6, Outcome::Indexed) | (1, Outcome::Duplicate) => {}
            (4, Outcome::Failed(failure)) => assert_eq!(failure.reason, "status 400: some_exception: as scripted"),
            other => panic!("{number}: {other:?}"),
        }
    }
    let (sizes, twice) = stub.state(|state| {
        let sizes: Vec<_> = state.requests.iter().map(Vec::len).collect();
        let asked = |kind: usize| {
            state
                .requests
                .iter()
                .flatten()
                .filter(|id| *id == &format!("event-{kind}"))
                .count()
        };
        (sizes, (0..7).map(asked).collect::<Vec<_>>())
    });
    assert_eq!(sizes, [70, 40, 10], "only what may be accepted later is sent again");
    assert_eq!(twice, [1, 1, 2, 3, 1, 2, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn patience_ends() {
    let events = numbered(3);
    let stub = Stub::start([("event-1".to_owned(), vec![429; 1_000])]).await;
    let patience = BulkTimeouts {
        budget: Duration::from_millis(500),
        ..BulkTimeouts::default()
    };
    let outcomes = stub.deliverer().deliver_all(&events, Limits::default(), patience).await;
    assert_eq!((&outcomes[0], &outcomes[2]), (&Outcome::Indexed, &Outcome::Indexed));
    let Outcome::Failed(failure) = &outcomes[1] else {
        panic!("{outcomes:?}")
    };
    assert!(
        failure.temporary && failure.reason.starts_with("status 429"),
        "{failure:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_fails_as_a_whole_is_sent_again_as_a_whole() {
    let events = numbered(10);
    let stub = Stub::start([]).await;
    stub.state(|state| {
        state.whole = vec![429, 503];
        state.stored.insert("event-3".to_owned(), 1);
    });
    let deliverer = stub.deliverer();
    let outcomes = deliverer
        .deliver_all(&events, Limits::default(), BulkTimeouts::default())
        .await;
    // The request that got 503 may have stored it.
    assert_eq!(outcomes, vec![Outcome::Indexed; 10]);
    assert_eq!(stub.state(|state| state.requests.len()), 3);

    // One that got 429 has not.
    stub.state(|state| state.whole = vec![429]);
    let outcomes = deliverer
        .deliver_all(&events, Limits::default(), BulkTimeouts::default())
        .await;
    assert_eq!(outcomes, vec![Outcome::Duplicate; 10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_halved() {
    let events = numbered(100);
    let stub = Stub::start([]).await;
    stub.state(|state| state.largest = 1_000);
    let outcomes = stub
        .deliverer()
        .deliver_all(&events, Limits::default(), BulkTimeouts::default())
        .await;
    assert_eq!(outcomes, vec![Outcome::Indexed; 100]);
    assert!(stub.state(|state| state.stored.values().all(|times| *times == 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_refuses_ids_gets_none() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let stub = Stub {
        url: format!("http://{}/events", listener.local_addr().expect("an address")),
        state: Stub::start([]).await.state,
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(refuse_ids)),
            );
        }
    });
    let deliverer = stub.deliverer();
    for _ in 0..2 {
        let outcomes = deliverer
            .deliver_all(&numbered(5), Limits::default(), BulkTimeouts::default())
            .await;
        assert_eq!(outcomes, vec![Outcome::Indexed; 5]);
    }
}

async fn refuse_ids(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    let items: Vec<_> = body
        .lines()
        .filter(|line| line.starts_with("{\"create\""))
        .map(|line| if line.contains("_id") {
            json!({"create": {"status": 400, "error": {"type": "illegal_argument_exception", "reason": "Document ID is not supported in create/index operation request"}}})
        } else {
            json!({"create": {"status": 201}})
        })
        .collect();
    Ok(Response::new(Full::new(Bytes::from(
        json!({"errors": true, "items": items}).to_string(),
    ))))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_requests_are_under_way_and_an_end_waits_for_them() {
    let stub = Stub::start([]).await;
    let deliverer = stub.deliverer();
    let batches = numbered(100).chunks(10).map(<[Event]>::to_vec).collect::<Vec<_>>();
    let deliver = |events: Vec<Event>| {
        let deliverer = Arc::clone(&deliverer);
        async move {
            deliverer
                .deliver_all(&events, Limits::default(), BulkTimeouts::default())
                .await
        }
    };
    let mut reported = 0;
    let loaded = load(batches, 2, deliver, |outcomes| {
        reported += outcomes.len();
        if reported >= 50 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    loaded.await.expect("nothing panics");
    assert_eq!(reported, 60, "five batches, and the one that was under way");
    let (stored, most) = stub.state(|state| (state.stored.len(), state.most_under_way));
    assert_eq!((stored, most), (60, 2));
}
