//! The interface for codes and statistics: the real `pixel serve`, over a file and over an index.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};

use pixel::api::openapi::DOCUMENT;
use pixel::api::openapi::source::document;
use pixel::config::token::{Scope, encode_hex, hash_token};
use serde_json::{Value, json};

use crate::support::lambda_rig::{Rig, RigOptions};
use crate::support::matrix::{Index, each};
use crate::support::serving::{PATIENCE, Reply, Serve, Served, pixel, serve, try_send, wait_for};
use crate::support::setup;

const KEYS: &str = "1:MDEyMzQ1Njc4OWFiY2RlZg";
pub const TOKEN: &str = "pixel_of-the-tests";

pub fn entry(token: &str, scopes: &[Scope]) -> String {
    let names: Vec<_> = scopes.iter().map(|scope| scope.name()).collect();
    format!("{}={}", encode_hex(&hash_token(token)), names.join("+"))
}

#[test]
fn the_description_is_what_the_program_says() {
    let mut said = serde_json::to_string_pretty(&document()).expect("JSON");
    said.push('\n');
    if said != DOCUMENT {
        let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/document.json");
        std::fs::write(file, said).expect("the file is written");
        panic!("it is {file} now: copy that to src/manage/openapi/document.json");
    }
}

fn managed() -> Serve {
    serve()
        .variable("PIXEL_TOKENS", &entry(TOKEN, &Scope::ALL))
        .variable("PIXEL_CODE_KEYS", KEYS)
}

/// A request with a body, as it stands on the wire.
fn written(method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: pixel.example\r\nConnection: close\r\n");
    for (name, value) in headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    let _ = write!(text, "Content-Length: {}\r\n\r\n{body}", body.len());
    text.into_bytes()
}

fn ask(address: SocketAddr, method: &str, target: &str, token: &str, body: &str) -> (Reply, Value) {
    let bearer = format!("Bearer {token}");
    let headers: &[(&str, &str)] = if token.is_empty() {
        &[]
    } else {
        &[("Authorization", &bearer)]
    };
    let reply = try_send(address, &written(method, target, headers, body)).expect("an answer");
    let json = serde_json::from_slice(&reply.body).unwrap_or_default();
    (reply, json)
}

fn good(served: &Served, method: &str, path: &str, body: &str) -> Value {
    let (reply, json) = ask(served.address, method, &format!("/v1/api/{path}"), TOKEN, body);
    assert!(
        matches!(reply.status, 200 | 201),
        "{method} {path}: {} {json}",
        reply.status
    );
    json
}

fn problem(served: &Served, method: &str, path: &str, token: &str, body: &str) -> (u16, Value) {
    let (reply, json) = ask(served.address, method, &format!("/v1/api/{path}"), token, body);
    assert_eq!(
        reply.header("content-type"),
        Some("application/problem+json"),
        "{method} {path}: {json}"
    );
    assert_eq!(json["status"], reply.status, "{method} {path}");
    (reply.status, json)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("`{name}` in {value}"))
}

/// The earlier system's answers, as its clients know them.
fn check_trackpixel(what: &str, served: &Served, stored: impl Fn()) {
    let (reply, status) = ask(served.address, "GET", "/v1/api/status", "", "");
    assert_eq!(
        (reply.status, status),
        (
            200,
            json!({
                "data": "Pixel tracker API running smoothly", "status": "success",
                "public_url": "http://pixel.example", "sessions": true,
            })
        )
    );
    for method in ["GET", "POST"] {
        let made = good(served, method, "gen-image", "");
        let code = text(&made, "unique_code").to_owned();
        let url = format!("http://pixel.example/image/{code}.png");
        assert_eq!(made, json!({"image_url": url, "unique_code": code}), "{what}");
        assert_eq!(code.len(), 16, "{what}: {code}");
        let info = good(served, "GET", &format!("info/{code}"), "");
        assert_eq!(
            (&info["total_opens"], &info["timeseries_data"]),
            (&json!(0), &json!([])),
            "{what}"
        );
        for _ in 0..3 {
            let image = served.get(&format!("/image/{code}.png"));
            assert_eq!((image.status, image.header("content-type")), (200, Some("image/png")));
        }
        stored();
        let info = wait_for("three opens", || {
            let info = good(served, "GET", &format!("info/{code}"), "");
            (info["total_opens"] == 3).then_some(info)
        });
        let names: Vec<_> = info.as_object().expect("an object").keys().collect();
        assert_eq!(names, ["created_at", "timeseries_data", "total_opens", "uri"], "{what}");
        assert_eq!(text(&info, "uri"), code);
        let opens = info["timeseries_data"].as_array().expect("a list");
        let mut times: Vec<_> = opens.iter().map(|open| text(open, "time_stamp")).collect();
        assert!(
            times.is_sorted() && times[0] >= text(&info, "created_at"),
            "{what}: {info}"
        );
        times.dedup();
        for open in opens {
            assert_eq!(
                (text(open, "uri"), text(open, "ip_address")),
                (code.as_str(), "127.0.0.0"),
                "{what}"
            );
        }
        let first = good(served, "GET", &format!("info/{code}?limit=2"), "");
        let next = percent_encoding::utf8_percent_encode(text(&first, "next"), percent_encoding::NON_ALPHANUMERIC);
        let rest = good(served, "GET", &format!("info/{code}?limit=2&after={next}"), "");
        let pages = [
            first["timeseries_data"].as_array().unwrap().clone(),
            rest["timeseries_data"].as_array().unwrap().clone(),
        ];
        assert_eq!((pages.concat(), &rest["next"]), (opens.clone(), &Value::Null), "{what}");
    }
    let (status, _) = problem(served, "GET", "info/nobody-made-this", TOKEN, "");
    assert_eq!(status, 404, "{what}");
}

fn check_codes(what: &str, served: &Served) {
    let own = good(
        served,
        "POST",
        "codes",
        r#"{"code": "spring", "campaign": "spring", "note": "first"}"#,
    );
    assert_eq!(
        text(&own, "image_url"),
        "http://pixel.example/image/spring.png",
        "{what}"
    );
    let (status, _) = problem(served, "POST", "codes", TOKEN, r#"{"code": "spring"}"#);
    assert_eq!(status, 409, "{what}");
    let signed = good(
        served,
        "POST",
        "codes",
        r#"{"campaign": "été", "recipient": "ann@example.org", "expires": "2030-01-01T00:00:00Z"}"#,
    );
    assert!(text(&signed, "code").starts_with('_'), "{what}: {signed}");
    let noted = good(
        served,
        "PATCH",
        "codes/spring",
        r#"{"note": "second", "campaign": null}"#,
    );
    assert_eq!(
        (&noted["note"], &noted["campaign"], &noted["created_at"]),
        (&json!("second"), &Value::Null, &own["created_at"])
    );
    let revoked = good(served, "DELETE", "codes/spring", "");
    assert!(revoked["revoked_at"].is_string(), "{what}");
    assert_eq!(
        good(served, "DELETE", "codes/spring", ""),
        revoked,
        "{what}: it stays as it is"
    );
    let mut alone = good(served, "GET", "codes/spring", "");
    let opted_out = alone.as_object_mut().and_then(|alone| alone.remove("opted_out"));
    assert_eq!((opted_out, &alone), (Some(json!(false)), &revoked), "{what}");
    let (mut all, mut path) = (Vec::new(), "codes?limit=2".to_owned());
    loop {
        let page = good(served, "GET", &path, "");
        all.extend(page["codes"].as_array().expect("a list").clone());
        let Some(next) = page["next"].as_str() else { break };
        let next = percent_encoding::utf8_percent_encode(next, percent_encoding::NON_ALPHANUMERIC);
        path = format!("codes?limit=2&after={next}");
    }
    assert_eq!(
        all,
        good(served, "GET", "codes", "")["codes"]
            .as_array()
            .expect("a list")
            .clone(),
        "{what}"
    );
    assert_eq!(all.len(), 4, "{what}: two of `gen-image`, and these two");
    assert_eq!(problem(served, "GET", "codes/none", TOKEN, "").0, 404, "{what}");
}

#[test]
fn over_a_file_it_answers_what_the_earlier_system_did_and_lists_codes() {
    let served = managed().start();
    check_trackpixel("a file", &served, || {});
    check_codes("a file", &served);
    let stats = good(
        &served,
        "GET",
        "stats?since=1h&by=pixel.signature&interval=minute&compare=true",
        "",
    );
    assert_eq!(
        (&stats["totals"]["events"], &stats["previous"]["events"]),
        (&json!(6), &json!(0))
    );
    assert_eq!(
        stats["by"][0]["values"][0]["value"], "valid",
        "the codes are signed: {stats}"
    );
    let events = good(&served, "GET", "events?limit=2&filter=event.action=open", "");
    assert_eq!(events["events"].as_array().map(Vec::len), Some(2));
}

#[test]
fn over_an_index_it_answers_the_same() {
    each(|subject| {
        let index = Index::new(subject, "managed");
        let set_up = subject.pixel(&["setup", "-d", &subject.destination(&index.name)]);
        assert!(set_up.status.success(), "{set_up:?}");
        let variables = subject.variables();
        let to = managed().to(subject.destination(&index.name));
        let served = variables
            .iter()
            .fold(to, |serve, (name, value)| serve.variable(name, value))
            .start();
        check_trackpixel(subject.name, &served, || {
            index.ask("POST", "/_refresh", None);
        });
        check_codes(subject.name, &served);
        subject.ask("DELETE", &format!("/pixel-codes-of-{}", index.name), None);
    });
}

#[test]
fn nobody_is_let_in_without_a_token_of_the_right_scope() {
    let served = serve()
        .variable(
            "PIXEL_TOKENS",
            &[entry("a", &[Scope::StatsRead]), entry("b", &[Scope::EventsRead])].join(","),
        )
        .start();
    for (path, a, b) in [
        ("stats", 200, 403),
        ("codes", 200, 403),
        ("events", 403, 200),
        ("gen-image", 403, 403),
        ("stats?limit=0", 400, 400),
    ] {
        let status = |token: &str| {
            ask(served.address, "GET", &format!("/v1/api/{path}"), token, "")
                .0
                .status
        };
        assert_eq!((status("a"), status("b"), status("")), (a, b, 401), "{path}");
    }
    let (reply, _) = ask(served.address, "GET", "/v1/api/stats", "", "");
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    for path in ["status", "openapi.json"] {
        assert_eq!(
            ask(served.address, "GET", &format!("/v1/api/{path}"), "", "").0.status,
            200,
            "{path}"
        );
    }
    // A minute may end in between, so twice as many are certain to be too many in one.
    let guesses: Vec<_> = (0..24)
        .map(|_| ask(served.address, "GET", "/v1/api/stats", "guess", "").0)
        .collect();
    let statuses: Vec<_> = guesses.iter().map(|reply| reply.status).collect();
    assert!(statuses[..10].iter().all(|status| *status == 401), "{statuses:?}");
    let refused = guesses.iter().find(|reply| reply.status == 429).expect("too many");
    assert_eq!(refused.header("retry-after"), Some("60"));
    assert_eq!(
        ask(served.address, "GET", "/v1/api/stats", "a", "").0.status,
        200,
        "a right one is let in all the same"
    );
}

#[test]
fn tokens_are_made_listed_and_revoked() {
    let started = serve().start();
    let folder = started.folder().to_owned();
    let run = |arguments: &[&str]| {
        let output = pixel(&folder)
            .arg("token")
            .args(arguments)
            .output()
            .expect("pixel starts");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    };
    let made = run(&["new", "--name", "page", "--scope", "stats:read,events:read"]);
    for path in ["stats", "events"] {
        assert_eq!(
            ask(started.address, "GET", &format!("/v1/api/{path}"), &made, "")
                .0
                .status,
            200,
            "{path}"
        );
    }
    assert_eq!(
        ask(started.address, "GET", "/v1/api/gen-image", &made, "").0.status,
        403
    );
    let listed: Value = serde_json::from_str(&run(&["list", "--json"])).expect("JSON");
    assert_eq!(
        (&listed[0]["name"], &listed[0]["scopes"]),
        (&json!("page"), &json!(["stats:read", "events:read"]))
    );
    assert!(!listed.to_string().contains(&made));
    let bytes = |name: &str| std::fs::read(folder.join(name)).unwrap_or_default();
    let file = [bytes("pixel.db"), bytes("pixel.db-wal")].concat();
    assert!(
        !file.windows(made.len()).any(|part| part == made.as_bytes()),
        "only its hash is kept"
    );
    run(&["revoke", text(&listed[0], "id")]);
    assert_eq!(ask(started.address, "GET", "/v1/api/stats", &made, "").0.status, 401);
}

#[test]
fn what_is_wrong_is_named() {
    let served = managed().start();
    for (method, path, body, status, parameter) in [
        ("GET", "stats?interval=year", "", 400, Some("interval")),
        ("GET", "stats?filter=colour%3Dred", "", 400, Some("filter")),
        ("GET", "stats?interval=day&zone=Europe/Atlantis", "", 400, Some("zone")),
        ("GET", "stats?class=robot", "", 400, Some("class")),
        ("GET", "events?class=", "", 400, Some("class")),
        ("GET", "stats?filter=visit.class%3DHuman", "", 400, Some("filter")),
        ("GET", "stats?filter=pixel.signature!%3Dforged", "", 400, Some("filter")),
        (
            "GET",
            "events?filter=referrer.medium%3Dnewspaper",
            "",
            400,
            Some("filter"),
        ),
        ("GET", "events?limit=1001", "", 400, Some("limit")),
        ("GET", "events?from=2026-03-02&to=2026-03-01", "", 400, Some("to")),
        ("GET", "codes?after=x", "", 400, Some("after")),
        ("GET", "status?x=1", "", 400, Some("x")),
        ("GET", "stats?since=", "", 400, Some("since")),
        ("GET", "events?after=007~a", "", 400, Some("after")),
        ("GET", "events?after=7~a%252Db", "", 400, Some("after")),
        ("POST", "codes", "[]", 400, Some("body")),
        ("POST", "codes", "", 400, Some("body")),
        ("PATCH", "codes/a", "", 400, Some("body")),
        ("POST", "codes", r#"{"colour": "red"}"#, 400, Some("colour")),
        ("POST", "codes", r#"{"code": "_signed"}"#, 400, Some("code")),
        ("POST", "codes", r#"{"code": "a b"}"#, 400, Some("code")),
        ("POST", "codes", r#"{"code": null}"#, 400, Some("code")),
        (
            "POST",
            "codes",
            r#"{"code": "a", "sent": "2026-01-01T00:00:00Z"}"#,
            400,
            Some("sent"),
        ),
        ("POST", "codes", r#"{"campaign": 7}"#, 400, Some("campaign")),
        ("POST", "codes", r#"{"expires": "tomorrow"}"#, 400, Some("expires")),
        (
            "POST",
            "codes",
            &format!(r#"{{"note": "{}"}}"#, "x".repeat(70_000)),
            413,
            None,
        ),
        ("PUT", "codes", "", 405, None),
        ("POST", "stats", "", 405, None),
        ("GET", "nothing", "", 404, None),
        ("GET", "", "", 404, None),
    ] {
        let (found, problem) = problem(&served, method, path, TOKEN, body);
        assert_eq!(
            (found, problem["parameter"].as_str()),
            (status, parameter),
            "{method} {path}: {problem}"
        );
    }
    let (_, told) = problem(&served, "GET", "stats?class=robot", TOKEN, "");
    for class in ["`human`", "`privacy_proxy`", "`automation`", "`prefetch`"] {
        assert!(text(&told, "detail").contains(class), "{told}");
    }
    for open in [
        "filter=event.action%3Dwaved",
        "class=prefetch",
        "filter=pixel.signature%3Dunknown",
    ] {
        good(&served, "GET", &format!("stats?{open}"), "");
    }
    let documents = served.documents();
    assert_eq!(documents, Vec::<String>::new(), "none of this was a hit");
}

#[test]
fn a_store_that_is_away_costs_the_numbers_and_not_the_image() {
    let away = managed().to("http://127.0.0.1:9/events").start();
    let (reply, _) = ask(away.address, "GET", "/v1/api/stats", TOKEN, "");
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")));
    assert_eq!(away.get("/image/abc.png").status, 200);
}

/// The same of a file of which a part can no longer be read, until it can again.
#[test]
fn a_file_that_becomes_unreadable_costs_the_numbers_and_not_the_hits() {
    let served = managed().start();
    let file = rusqlite::Connection::open(served.folder().join("pixel.db")).expect("the file opens");
    let numbers = || ask(served.address, "GET", "/v1/api/stats?since=all", TOKEN, "");
    let code = || ask(served.address, "GET", "/v1/api/codes", TOKEN, "");
    let open = || {
        let reply = served.get("/image/abc.png");
        assert_eq!((reply.status, reply.header("x-pixel")), (200, Some("accepted")));
    };
    open();
    assert_eq!(
        (numbers().1["totals"]["events"].clone(), code().0.status),
        (json!(1), 200)
    );
    for (table, asked) in [("segments", &numbers as &dyn Fn() -> (Reply, Value)), ("codes", &code)] {
        let rename = |from: &str, to: &str| {
            file.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}"))
                .expect("it is renamed");
        };
        rename(table, "gone");
        let (reply, problem) = asked();
        assert_eq!(
            (reply.status, reply.header("retry-after")),
            (503, Some("5")),
            "{table}: {problem}"
        );
        assert_eq!(
            reply.header("content-type"),
            Some("application/problem+json"),
            "{table}"
        );
        open();
        rename("gone", table);
        assert_eq!(asked().0.status, 200, "{table}: it is asked again");
    }
    open();
    assert_eq!(served.documents().len(), 4, "each hit is stored");
    assert_eq!(numbers().1["totals"]["events"], 4);
}

#[test]
fn scripts_of_other_origins_read_it_where_that_is_configured() {
    let closed = managed().start();
    let (reply, _) = ask(closed.address, "GET", "/v1/api/stats", TOKEN, "");
    assert_eq!(reply.header("access-control-allow-origin"), None);
    let open = managed().variable("PIXEL_CORS_ORIGIN", "https://shop.example").start();
    let (reply, _) = ask(open.address, "GET", "/v1/api/stats", TOKEN, "");
    assert_eq!(
        reply.header("access-control-allow-origin"),
        Some("https://shop.example")
    );
    let (reply, _) = ask(open.address, "OPTIONS", "/v1/api/stats", "", "");
    assert_eq!(
        (reply.status, reply.header("access-control-allow-headers")),
        (204, Some("authorization, content-type"))
    );
}

#[test]
fn events_are_followed_as_they_come_and_do_not_hold_up_the_end() {
    let served = managed().start();
    let mut stream = TcpStream::connect(served.address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("Authorization", bearer.as_str()), ("Accept", "text/event-stream")];
    stream
        .write_all(&written("GET", "/v1/api/events?filter=pixel.code!=quiet", &headers, ""))
        .unwrap();
    let mut lines = BufReader::new(stream)
        .lines()
        .map(|line| line.expect("the stream goes on"));
    assert!(lines.by_ref().any(|line| line.contains("following")));
    served.get("/image/quiet.png");
    served.get("/image/loud.png");
    let data = lines
        .by_ref()
        .find_map(|line| line.strip_prefix("data: ").map(ToOwned::to_owned));
    let event: Value = serde_json::from_str(&data.expect("an event")).expect("JSON");
    assert_eq!(event["pixel"]["code"], "loud");
    let refused = try_send(served.address, &written("GET", "/v1/api/events", &headers[1..], "")).expect("an answer");
    assert_eq!(refused.status, 401);
    served.signal("TERM");
    let (status, _) = served.ended();
    assert_eq!(status.code(), Some(0));
}

/// Follows events, from where somebody was.
fn follow(address: SocketAddr, query: &str, was_at: Option<&str>) -> impl Iterator<Item = (String, Value)> + use<> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let bearer = format!("Bearer {TOKEN}");
    let mut headers = vec![("Authorization", bearer.as_str()), ("Accept", "text/event-stream")];
    headers.extend(was_at.map(|was_at| ("Last-Event-ID", was_at)));
    let target = format!("/v1/api/events{query}");
    stream.write_all(&written("GET", &target, &headers, "")).unwrap();
    let mut lines = BufReader::new(stream)
        .lines()
        .map(|line| line.expect("the stream goes on"));
    assert!(lines.by_ref().any(|line| line.contains("following")));
    let mut id = String::new();
    lines.filter_map(move |line| {
        if let Some(given) = line.strip_prefix("id: ") {
            given.clone_into(&mut id);
        }
        let event = serde_json::from_str(line.strip_prefix("data: ")?).expect("JSON");
        Some((id.clone(), event))
    })
}

/// Takes events until that of a code; all ids.
fn until(events: &mut impl Iterator<Item = (String, Value)>, code: &str) -> Vec<String> {
    let mut ids = Vec::new();
    for (id, event) in events {
        ids.push(id);
        if event["pixel"]["code"] == code {
            return ids;
        }
    }
    panic!("the stream ended before `{code}`");
}

#[test]
fn whoever_was_away_gets_what_came_meanwhile_and_what_other_processes_bring() {
    let served = managed().start();
    served.get("/image/before.png");
    let mut events = follow(served.address, "", None);
    served.get("/image/first.png");
    let was_at = until(&mut events, "first").pop().expect("an event");
    drop(events);
    served.get("/image/meanwhile.png");
    let demo = |seed: &str, end: &str| {
        let demo = [
            "demo", "--events", "5", "--days", "3", "--seed", seed, "--end", end, "--yes",
        ];
        let made = crate::support::serving::run(served.folder(), &demo);
        assert!(made.status.success(), "{made:?}");
    };
    demo("1", "2026-03-15");
    let mut events = follow(served.address, "", Some(&was_at));
    let mut ids = until(&mut events, "meanwhile");
    assert_eq!(ids.len(), 1, "what it had is not given again");
    ids.extend(events.by_ref().take(5).map(|(id, _)| id));
    demo("2", "2026-03-20");
    ids.extend(events.by_ref().take(5).map(|(id, _)| id));
    served.get("/image/last.png");
    ids.extend(until(&mut events, "last"));
    assert_eq!(ids.len(), 12, "each once: {ids:#?}");
    let different: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(different.len(), ids.len(), "{ids:#?}");
    // An `after` in the query does the same, and one that is gone begins at its time.
    let mut events = follow(served.address, &format!("?after={was_at}"), None);
    assert_eq!(until(&mut events, "meanwhile").len(), 1);
    let time = was_at.split_once('~').expect("a time and an id").0;
    let mut events = follow(served.address, "", Some(&format!("{time}~gone")));
    assert!(until(&mut events, "meanwhile").len() <= 2);
    let bearer = format!("Bearer {TOKEN}");
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Accept", "text/event-stream"),
        ("Last-Event-ID", "yesterday"),
    ];
    let refused = try_send(served.address, &written("GET", "/v1/api/events", &headers, "")).expect("an answer");
    let problem: Value = serde_json::from_slice(&refused.body).expect("JSON");
    assert_eq!(
        (refused.status, &problem["parameter"]),
        (400, &json!("Last-Event-ID")),
        "{problem}"
    );
}

#[test]
fn over_an_index_whoever_follows_sees_what_others_bring() {
    let subject = crate::support::matrix::any();
    let index = Index::new(&subject, "followed");
    let set_up = subject.pixel(&["setup", "-d", &subject.destination(&index.name)]);
    assert!(set_up.status.success(), "{set_up:?}");
    let start = || {
        let to = managed().to(subject.destination(&index.name));
        let variables = subject.variables();
        variables
            .iter()
            .fold(to, |serve, (name, value)| serve.variable(name, value))
            .start()
    };
    let (one, other) = (start(), start());
    let mut events = follow(one.address, "", None);
    one.get("/image/own.png");
    let was_at = until(&mut events, "own").pop().expect("an event");
    other.get("/image/others.png");
    assert_eq!(until(&mut events, "others").len(), 1, "its own is not given again");
    let mut events = follow(other.address, "", Some(&was_at));
    assert_eq!(until(&mut events, "others").len(), 1);
}

/// Stored hits of a code, by their signature.
fn signatures(served: &Served, code: &str) -> Vec<String> {
    let documents = served.documents().into_iter();
    let events = documents.map(|document| serde_json::from_str::<Value>(&document).expect("JSON"));
    events
        .filter(|event| event["pixel"]["code"] == code)
        .map(|event| text(&event["pixel"], "signature").to_owned())
        .collect()
}

#[test]
fn hits_of_revoked_codes_are_marked() {
    let served = managed().start();
    good(&served, "POST", "codes", r#"{"code": "own"}"#);
    good(&served, "POST", "codes", r#"{"code": "other"}"#);
    let signed = good(&served, "GET", "gen-image", "");
    let signed = text(&signed, "unique_code");
    for code in ["own", signed] {
        let image = format!("/image/{code}.png");
        served.get(&image);
        let revoked = good(&served, "DELETE", &format!("codes/{code}"), "");
        let reply = served.get(&image);
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("image/png")));
        let info = good(&served, "GET", &format!("info/{code}"), "");
        assert_eq!(
            (&info["total_opens"], &info["revoked_at"]),
            (&json!(2), &revoked["revoked_at"])
        );
    }
    assert_eq!(signatures(&served, "own"), ["listed", "revoked"]);
    assert_eq!(signatures(&served, signed), ["valid", "revoked"]);
    let counted = good(
        &served,
        "GET",
        "stats?by=pixel.signature&filter=pixel.signature%3Drevoked",
        "",
    );
    assert_eq!(counted["by"][0]["values"][0]["events"], 2, "{counted}");

    // Another process revokes one.
    let file = rusqlite::Connection::open(served.folder().join("pixel.db")).expect("the file opens");
    let now = chrono::Utc::now().timestamp_millis();
    file.execute("UPDATE codes SET revoked = ?1 WHERE code = 'other'", [now])
        .expect("it is written");
    wait_for("the mark of a code that another process has revoked", || {
        served.get("/image/other.png");
        signatures(&served, "other")
            .iter()
            .any(|found| found == "revoked")
            .then_some(())
    });
    served.signal("TERM");
    let (ended, again) = served.ended();
    assert_eq!(ended.code(), Some(0));
    let served = again.start();
    served.get("/image/own.png");
    assert_eq!(
        signatures(&served, "own"),
        ["listed", "revoked", "revoked"],
        "also after a start"
    );
}

/// Whoever lists codes learns which hits are of none of them; whoever lists none has chosen all of them.
#[test]
fn hits_of_unknown_codes_are_marked_where_codes_are_listed() {
    let served = serve().variable("PIXEL_TOKENS", &entry(TOKEN, &Scope::ALL)).start();
    let open = |served: &Served, code: &str| {
        let reply = served.get(&format!("/image/{code}.png"));
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (200, Some("image/png")),
            "{code}"
        );
        signatures(served, code).pop().expect("its hit is stored")
    };
    assert_eq!(open(&served, "own-word"), "none");
    let made = good(&served, "GET", "gen-image", "");
    let made = text(&made, "unique_code");
    let posted = good(&served, "POST", "codes", r#"{"campaign": "spring"}"#);
    let posted = text(&posted, "code");
    good(&served, "POST", "codes", r#"{"code": "chosen"}"#);
    for code in [made, posted, "chosen"] {
        assert_eq!(open(&served, code), "listed", "{code}");
        assert_eq!(good(&served, "GET", &format!("info/{code}"), "")["total_opens"], 1);
    }
    let forged: String = made.chars().rev().collect();
    for code in ["own-word", &forged, "_MDEyMzQ1Njc4OWFiY2RlZg"] {
        assert_eq!(open(&served, code), "unknown", "{code}");
        assert_eq!(
            problem(&served, "GET", &format!("info/{code}"), TOKEN, "").0,
            404,
            "{code}"
        );
    }
    let counted = good(
        &served,
        "GET",
        "stats?by=pixel.code&filter=pixel.signature%3Dunknown",
        "",
    );
    assert_eq!(counted["totals"]["events"], 3, "{counted}");

    // Another process lists one.
    let file = rusqlite::Connection::open(served.folder().join("pixel.db")).expect("the file opens");
    let add = "INSERT INTO codes (code, created) VALUES ('own-word', ?1)";
    file.execute(add, [chrono::Utc::now().timestamp_millis()])
        .expect("it is written");
    wait_for("the mark of a code that another process has listed", || {
        (open(&served, "own-word") == "listed").then_some(())
    });
    served.signal("TERM");
    let (ended, again) = served.ended();
    assert_eq!(ended.code(), Some(0));
    let served = again.start();
    assert_eq!(
        (open(&served, "own-word"), open(&served, "new")),
        ("listed".to_owned(), "unknown".to_owned())
    );
}

/// The function before API Gateway: let in by IAM or by a token, and by nothing else.
#[test]
fn the_function_answers_whom_iam_or_a_token_lets_in() {
    let subject = crate::support::matrix::any();
    let index = Index::new(&subject, "managed-by-function");
    let set_up = subject.pixel(&["setup", "-d", &subject.destination(&index.name)]);
    assert!(set_up.status.success(), "{set_up:?}");
    let mut options = RigOptions::new(env!("CARGO_BIN_EXE_bootstrap"))
        .handler("manage")
        .env("PIXEL_DESTINATION", subject.destination(&index.name))
        .env("PIXEL_TOKENS", entry(TOKEN, &[Scope::StatsRead]))
        .env("PIXEL_CODE_KEYS", KEYS);
    for (name, value) in subject.variables() {
        options = options.env(name, value);
    }
    let payload = |method: &str, path: &str, token: &str, iam: bool, body: &Value| {
        let identity = if iam {
            json!({"userArn": "arn:aws:iam::123456789012:user/ann"})
        } else {
            json!({})
        };
        json!({
            "httpMethod": method, "path": format!("/v1/api/{path}"), "resource": "/{proxy+}",
            "headers": {"Host": "api.example", "Authorization": format!("Bearer {token}")},
            "requestContext": {"requestId": "1", "identity": identity, "httpMethod": method},
            "body": body, "isBase64Encoded": false,
        })
    };
    crate::support::matrix::block_on(async {
        let rig = Rig::start(options).await;
        for (method, path, token, iam, body, status) in [
            ("GET", "status", "", false, Value::Null, 200),
            ("GET", "stats", "", false, Value::Null, 401),
            ("GET", "stats", TOKEN, false, Value::Null, 200),
            ("GET", "gen-image", TOKEN, false, Value::Null, 403),
            ("GET", "gen-image", "", true, Value::Null, 200),
            ("POST", "codes", "", true, json!(r#"{"code": "by-function"}"#), 201),
            ("POST", "codes", "", true, json!(r#"{"code": "by-function"}"#), 409),
            ("GET", "codes/by-function", "", true, Value::Null, 200),
            ("GET", "info/by-function", "", true, Value::Null, 200),
            ("GET", "events", "", true, Value::Null, 200),
            ("GET", "nothing", "", true, Value::Null, 404),
            // Without its setting there is no page.
            ("GET", "", "", true, Value::Null, 404),
        ] {
            let invocation = rig.invoke(payload(method, path, token, iam, &body).to_string()).await;
            let reply = invocation.reply_json();
            assert_eq!(reply["statusCode"], status, "{method} {path}: {reply}");
            let media_type = reply["headers"]["content-type"].as_str().expect("a media type");
            let expected = if status < 400 {
                "application/json"
            } else {
                "application/problem+json"
            };
            assert_eq!(media_type, expected, "{method} {path}");
        }
    });
    subject.ask("DELETE", &format!("/pixel-codes-of-{}", index.name), None);
}

/// The page is the one of `pixel serve`; what it asks for is let in as above.
#[test]
fn the_function_shows_the_page_where_it_is_wanted() {
    let served = serve().start().get("/");
    let options = RigOptions::new(env!("CARGO_BIN_EXE_bootstrap"))
        .handler("manage")
        .env("PIXEL_DESTINATION", "http://127.0.0.1:9/events")
        .env("PIXEL_PAGE", "on");
    let payload = |method: &str, path: &str, tag: &str| {
        json!({
            "httpMethod": method, "path": path, "resource": "/", "headers": {"Host": "api.example", "If-None-Match": tag},
            "requestContext": {"requestId": "1", "stage": "prod", "httpMethod": method}, "body": null,
        })
    };
    crate::support::matrix::block_on(async {
        let rig = Rig::start(options).await;
        let tag = served.header("etag").expect("a tag");
        for (method, path, tag, status) in [
            ("GET", "/", "", 200),
            ("GET", "/prod", "", 200),
            ("GET", "/prod/", "", 200),
            ("HEAD", "/", "", 200),
            ("GET", "/", tag, 304),
            ("POST", "/", "", 405),
            ("GET", "/other", "", 404),
            ("GET", "/v1/api/stats", "", 401),
        ] {
            let invocation = rig.invoke(payload(method, path, tag).to_string()).await;
            let reply = invocation.reply_json();
            assert_eq!(reply["statusCode"], status, "{method} {path}: {reply}");
            if status == 200 {
                for name in ["content-type", "content-security-policy"] {
                    let headers = reply["headers"].as_object().expect("headers");
                    let found = headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                    let found = found.and_then(|(_, value)| value.as_str());
                    assert_eq!(found, served.header(name), "{method} {path}");
                }
                let body = reply["body"].as_str().expect("a text").as_bytes();
                assert!(
                    if method == "GET" {
                        body == served.body
                    } else {
                        body.is_empty()
                    },
                    "{method} {path}"
                );
            }
        }
    });
}

/// What the tests need of Python's registry.
const REQUIREMENTS: &str = "schemathesis==4.32.5\n";

fn schemathesis() -> std::path::PathBuf {
    setup::require(&["python3"]);
    let folder = setup::cache_dir().join("schemathesis");
    let _one_makes_it = setup::lock(&folder.with_added_extension("lock"));
    let marker = folder.join("complete");
    if std::fs::read_to_string(&marker).ok().as_deref() != Some(REQUIREMENTS) {
        let _ = std::fs::remove_dir_all(&folder);
        let name = folder.to_str().expect("the cache folder's name is UTF-8");
        let venv = || setup::run(&["python3"], &["-m", "venv", name]);
        venv()
            .or_else(|_| setup::complete("python3").and_then(|()| venv()))
            .expect("a virtual environment can be made");
        let pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            REQUIREMENTS.trim(),
        ];
        setup::run(&[&format!("{name}/bin/python")], &pip).expect("schemathesis can be installed");
        std::fs::write(&marker, REQUIREMENTS).unwrap();
    }
    folder.join("bin/schemathesis")
}

/// The checks that are not made, and why.
const UNCHECKED: &str = r#"
# A code that is revoked stays in the list: its hits still come, and have to be told from others.
[checks]
use_after_free.enabled = false

# Wrong tokens are counted over all operations, and one more of these would be answered with 429. `sign_in` tests it.
[[operations]]
include-path = "/v1/api/session"
enabled = false

# Parameters that are right one by one can be wrong together, which a description cannot say: `from` after `to`, `since`
# beside `from`, a series of too many points.
[[operations]]
include-path = ["/v1/api/stats", "/v1/api/events"]
[operations.checks]
positive_data_acceptance.enabled = false
"#;

/// Many requests made of the description, right and wrong ones: every answer is one that is described.
#[test]
fn the_description_is_true() {
    let program = schemathesis();
    let served = managed().start();
    for path in [
        "/image/spring.png",
        "/pixel.gif?utm_source=mail&url=https://shop.example/",
    ] {
        served.get(path);
    }
    good(&served, "POST", "codes", r#"{"code": "spring"}"#);
    std::fs::write(served.folder().join("unchecked.toml"), UNCHECKED).unwrap();
    let output = std::process::Command::new(program)
        .args(["--config-file", "unchecked.toml"])
        .args([
            "run",
            &format!("{}/v1/api/openapi.json", served.url()),
            "--url",
            &served.url(),
        ])
        .args([
            "-H",
            &format!("Authorization: Bearer {TOKEN}"),
            "--seed",
            "1",
            "--max-examples",
            "30",
            "--no-color",
        ])
        .current_dir(served.folder())
        .output()
        .expect("schemathesis starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let end = said.char_indices().rev().nth(6_000).map_or(0, |(place, _)| place);
    assert!(output.status.success(), "{}", &said[end..]);
}
