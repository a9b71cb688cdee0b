//! `pixel serve` and `pixel hits` as people run them: real processes, real connections, a real file.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pixel::hit::pixel::{GIF, PNG};
use pixel::sqlite::Store;
use serde_json::{Value, json};

use crate::support::index_stub::{Behaviour, IndexStub};
use crate::support::serving::{
    Lines, Reply, Serve, Served, documents, files, pixel, request, run, send, serve, signal, try_send, wait, wait_for,
};

/// The largest document that is stored by default.
const MAX_BYTES: usize = 32 * 1024;

/// A visitor's answer holds exactly one image of the type that it names, or nothing where nothing may be.
fn check_image(what: &str, reply: &Reply) {
    let expected: &[u8] = match reply.header("content-type") {
        Some("image/gif") => &GIF,
        Some("image/png") => &PNG,
        other => panic!("{what}: the content type is {other:?}"),
    };
    assert_eq!(reply.body, expected, "{what}: the body is not the image of its type");
}

fn text<'a>(event: &'a Value, pointer: &str) -> Option<&'a str> {
    event.pointer(pointer).and_then(Value::as_str)
}

fn words(event: &Value, pointer: &str) -> Vec<String> {
    let words = event.pointer(pointer).and_then(Value::as_array);
    let words = words.into_iter().flatten();
    words
        .map(|word| word.as_str().expect("a list of words").to_owned())
        .collect()
}

fn parsed(document: &str) -> Value {
    serde_json::from_str(document).expect("a stored document is JSON")
}

fn printed(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("pixel prints UTF-8");
    (text(&output.stdout), text(&output.stderr))
}

// Paths and methods.

/// What a request is answered. With status 200 an event is stored, with this code.
struct Row {
    request: (&'static str, &'static str),
    status: u16,
    content_type: &'static str,
    explanation: &'static str,
    code: Option<&'static str>,
}

const fn accepted(path: &'static str, content_type: &'static str, code: Option<&'static str>) -> Row {
    Row {
        request: ("GET", path),
        status: 200,
        content_type,
        explanation: "accepted",
        code,
    }
}

const fn ignored(method: &'static str, path: &'static str, status: u16, content_type: &'static str) -> Row {
    Row {
        request: (method, path),
        status,
        content_type,
        explanation: match status {
            404 => "ignored; reason=unknown_path",
            _ => "ignored; reason=wrong_method",
        },
        code: None,
    }
}

const ROWS: [Row; 32] = [
    accepted("/pixel", "image/gif", None),
    accepted("/pixel.gif", "image/gif", None),
    accepted("/pixel.png", "image/png", None),
    accepted("/pixel.gif?code=of-the-query", "image/gif", Some("of-the-query")),
    accepted("/pixel/abc", "image/gif", Some("abc")),
    accepted("/pixel/abc.gif", "image/gif", Some("abc")),
    accepted("/image/abc", "image/png", Some("abc")),
    accepted("/image/abc.png", "image/png", Some("abc")),
    accepted("/image/a.b-c_d.png?code=other", "image/png", Some("a.b-c_d")),
    accepted("/pixel/%C3%A9t%C3%A9.gif", "image/gif", Some("été")),
    accepted("/pixel/%22%27%3C.gif", "image/gif", Some("\"'<")),
    accepted("/prod/pixel", "image/gif", None),
    accepted("/prod/pixel.png", "image/png", None),
    accepted("/prod/pixel/abc.gif", "image/gif", Some("abc")),
    accepted("/prod/image/abc.png", "image/png", Some("abc")),
    accepted("/below/more/pixel.gif", "image/gif", None),
    ignored("GET", "/unknown", 404, "image/gif"),
    ignored("GET", "/favicon.ico", 404, "image/gif"),
    ignored("GET", "/pixel/", 404, "image/gif"),
    ignored("GET", "/pixel.gif/abc/def", 404, "image/gif"),
    ignored("GET", "/%70ixel%2", 404, "image/gif"),
    ignored("POST", "/unknown", 404, "image/gif"),
    ignored("OPTIONS", "/unknown", 404, "image/gif"),
    ignored("POST", "/pixel.gif", 405, "image/gif"),
    ignored("POST", "/pixel/abc", 405, "image/gif"),
    ignored("POST", "/pixel.js", 405, "image/gif"),
    ignored("PUT", "/pixel", 405, "image/gif"),
    ignored("PUT", "/pixel.png", 405, "image/png"),
    ignored("DELETE", "/prod/pixel/abc.gif", 405, "image/gif"),
    ignored("PATCH", "/image/abc", 405, "image/png"),
    ignored("TRACE", "/pixel.gif", 405, "image/gif"),
    ignored("GOSSIP", "/pixel.gif", 405, "image/gif"),
];

#[test]
fn every_path_and_method_is_answered_with_the_image() {
    let served = serve().start();
    for row in &ROWS {
        let (method, target) = row.request;
        let what = format!("{method} {target}");
        let reply = send(served.address, &request(method, target, &[]));
        check_image(&what, &reply);
        assert_eq!(
            (reply.status, reply.header("content-type"), reply.header("x-pixel")),
            (row.status, Some(row.content_type), Some(row.explanation)),
            "{what}"
        );
        let beacons = target.ends_with("/pixel");
        let allow = (row.status == 405).then_some(if beacons {
            "GET, HEAD, POST, OPTIONS"
        } else {
            "GET, HEAD, OPTIONS"
        });
        assert_eq!(reply.header("allow"), allow, "{what}");
    }
    let stored: Vec<Value> = served.documents().iter().map(|document| parsed(document)).collect();
    let stored: Vec<_> = stored.iter().map(|event| text(event, "/pixel/code")).collect();
    let expected: Vec<_> = ROWS
        .iter()
        .filter(|row| row.status == 200)
        .map(|row| row.code)
        .collect();
    assert_eq!(stored, expected);
}

#[test]
fn the_body_is_the_image_that_the_content_type_names() {
    let served = serve().start();
    for target in [
        "/pixel/abc.png",
        "/pixel/abc.PNG",
        "/pixel/abc.gif",
        "/image/abc.gif",
        "/image/abc",
        "/pixel/png",
    ] {
        check_image(target, &served.get(target));
    }
}

#[test]
fn head_and_options_have_no_body() {
    let served = serve().start();
    let head = send(served.address, &request("HEAD", "/pixel.png?n=head", &[]));
    assert_eq!(
        (
            head.status,
            head.header("content-type"),
            head.header("x-pixel"),
            head.body.as_slice()
        ),
        (200, Some("image/png"), Some("accepted"), b"".as_slice())
    );
    let options = send(served.address, &request("OPTIONS", "/pixel.png?n=options", &[]));
    assert_eq!(
        (options.status, options.header("x-pixel"), options.body.as_slice()),
        (204, Some("ignored; reason=preflight"), b"".as_slice())
    );
    assert_eq!(options.header("allow"), Some("GET, HEAD, OPTIONS"));
    let unknown = send(served.address, &request("HEAD", "/unknown", &[]));
    assert_eq!((unknown.status, unknown.body.as_slice()), (404, b"".as_slice()));

    let events = served.events();
    let methods: Vec<_> = events.iter().map(|event| text(event, "/http/request/method")).collect();
    assert_eq!(methods, [Some("HEAD")]);
}

#[test]
fn the_page_of_the_stage_is_a_page_and_no_hit() {
    let served = serve().start();
    let page = served.get("/");
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    assert!(String::from_utf8_lossy(&page.body).contains("<title>pixel</title>"));
    assert_eq!(served.documents(), Vec::<String>::new());
}

// Headers.

#[test]
fn every_answer_has_the_headers_of_the_pixel() {
    // Whatever a client claims to have stored, it is answered whole and counted.
    let conditions: &[(&str, &[u8])] = &[
        ("If-None-Match", b"*"),
        ("If-Modified-Since", b"Fri, 01 Jan 2100 00:00:00 GMT"),
        ("Range", b"bytes=0-0"),
        ("Origin", b"https://shop.example"),
    ];
    let origins = [None, Some("*"), Some("https://shop.example")];
    for origin in origins {
        let mut how = serve();
        if let Some(origin) = origin {
            how = how.variable("PIXEL_CORS_ORIGIN", origin);
        }
        let served = how.start();
        for (method, target) in [
            ("GET", "/pixel.gif"),
            ("GET", "/image/abc.png"),
            ("HEAD", "/pixel.gif"),
            ("GET", "/unknown"),
            ("POST", "/pixel.gif"),
            ("OPTIONS", "/pixel.gif"),
        ] {
            let what = format!("{method} {target} with origin {origin:?}");
            check_headers(
                &what,
                origin,
                &send(served.address, &request(method, target, conditions)),
            );
        }
        assert_eq!(served.documents().len(), 3, "GET, GET and HEAD are hits");
    }
}

fn check_headers(what: &str, origin: Option<&str>, reply: &Reply) {
    assert_ne!(reply.status, 304, "{what}");
    assert_ne!(reply.status, 206, "{what}");
    let expected = [
        ("cache-control", Some("no-store, no-cache, max-age=0, private")),
        ("cross-origin-resource-policy", Some("cross-origin")),
        ("access-control-allow-origin", origin),
        ("vary", origin.filter(|origin| *origin != "*").map(|_| "Origin")),
        ("etag", None),
        ("last-modified", None),
        ("expires", None),
        ("set-cookie", None),
    ];
    for (name, value) in expected {
        assert_eq!(reply.header(name), value, "{what}: {name}");
    }
    assert!(reply.header("x-pixel").is_some(), "{what}");
}

// Hostile requests.

/// A request that must be answered with the image and stored exactly once.
struct Hostile {
    name: &'static str,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    oddities: &'static [&'static str],
    /// What the event must hold.
    expected: Vec<(&'static str, Value)>,
}

fn hostile(name: &'static str, target: impl Into<String>) -> Hostile {
    Hostile {
        name,
        target: target.into(),
        headers: Vec::new(),
        oddities: &[],
        expected: Vec::new(),
    }
}

impl Hostile {
    fn header(mut self, name: impl Into<String>, value: &[u8]) -> Self {
        self.headers.push((name.into(), value.to_vec()));
        self
    }

    fn odd(mut self, oddities: &'static [&'static str]) -> Self {
        self.oddities = oddities;
        self
    }

    fn holds(mut self, pointer: &'static str, value: impl Into<Value>) -> Self {
        self.expected.push((pointer, value.into()));
        self
    }
}

fn hostile_requests() -> Vec<Hostile> {
    let mut requests = hostile_queries();
    requests.extend(hostile_headers());
    requests
}

fn hostile_queries() -> Vec<Hostile> {
    let injection = "/pixel.gif?q=x%22,%22source-ip%22:%226.6.6.6&x%22:%7B%22y=1";
    vec![
        hostile("20 KB of query", format!("/pixel.gif?q={}", "x".repeat(20_000)))
            .holds("/params/querystring/q", "x".repeat(2048))
            .holds("/event/cut", json!(["labels", "params.querystring"])),
        hostile("20 KB of names", format!("/pixel.gif?{}=1", "n".repeat(20_000)))
            .holds("/event/cut", json!(["labels", "params.querystring"])),
        hostile("1000 parameters", {
            let parameters: Vec<_> = (0..1000).map(|number| format!("p{number}={number}")).collect();
            format!("/pixel.gif?{}", parameters.join("&"))
        })
        .odd(&["too_many"])
        .holds("/event/cut", json!(["labels", "params.querystring"])),
        hostile("apostrophes and quotes", "/pixel.gif?q=it's%20%22quoted%22%20\\")
            .holds("/params/querystring/q", "it's \"quoted\" \\"),
        hostile("injection", injection)
            // An address in a text is shortened, too.
            .holds("/params/querystring/q", "x\",\"source-ip\":\"6.6.6.0")
            .holds("/context/source-ip", "127.0.0.0"),
        hostile("NUL", "/pixel.gif?q=a%00b")
            .odd(&["control_character"])
            .holds("/params/querystring/q", "a\0b"),
        hostile("control characters in a name", "/pixel.gif?a%1b%5b31m=1").odd(&["control_character"]),
        hostile("NUL in the code", "/pixel/a%00b.gif")
            .odd(&["control_character"])
            .holds("/pixel/code", "a\0b"),
        hostile("escapes that are none", "/pixel.gif?q=100%&r=%zz&s=%4")
            .holds("/params/querystring", json!({"q": "100%", "r": "%zz", "s": "%4"})),
        hostile("bytes that are no UTF-8", "/pixel.gif?q=a%ff%feb%C3")
            .odd(&["invalid_encoding"])
            .holds("/params/querystring/q", "a\u{fffd}\u{fffd}b\u{fffd}"),
        hostile("raw UTF-8", "/pixel.gif?q=日本").holds("/params/querystring/q", "日本"),
        hostile("surrogates in UTF-8", "/pixel.gif?q=%ED%A0%80").odd(&["invalid_encoding"]),
        hostile("both", "/pixel.gif?q=%ff%00").odd(&["invalid_encoding", "control_character"]),
        hostile("separators alone", "/pixel.gif?&&=&=x&a&&"),
        hostile("question marks", "/pixel.gif???").holds("/params/querystring", json!({"??": ""})),
        hostile("a repeated name", "/pixel.gif?a=1&a=2&a=3").holds("/params/querystring", json!({"a": "3"})),
        hostile(
            "names of the event",
            "/pixel.gif?event.id=1&client.ip=2&@timestamp=3&date=4&__proto__=5",
        ),
        hostile("an action that is none", "/pixel.gif?action=%3Cscript%3E").holds("/event/action", "open"),
        hostile("a page that is no URL", "/pixel.gif?url=%3A%2F%2F%00%2F%3F%23")
            .odd(&["control_character"])
            .holds("/url/full", "://\0/?#"),
        hostile("a long code", format!("/pixel/{}.gif", "c".repeat(20_000)))
            .holds("/pixel/code", "c".repeat(2048))
            .holds("/event/cut", json!(["params.path", "pixel.code"])),
    ]
}

fn hostile_headers() -> Vec<Hostile> {
    let many = |count: usize, length: usize| {
        let headers = (0..count).map(|number| (format!("Sec-CH-{number}"), vec![b'v'; length]));
        headers.collect::<Vec<_>>()
    };
    let with = |name, headers| Hostile {
        headers,
        ..hostile(name, "/pixel.gif")
    };
    vec![
        with("200 headers", many(200, 10))
            .odd(&["too_many"])
            .holds("/event/cut", json!(["params.header"])),
        with("200 headers of 900 bytes", many(200, 900)).odd(&["too_many"]),
        with("900 headers", many(900, 10)).odd(&["too_many"]),
        hostile("a header of 60 KB", "/pixel.gif")
            .header("Sec-CH-Long", &vec![b'x'; 60_000])
            .holds("/event/cut", json!(["params.header"])),
        hostile("a long User-Agent", "/pixel.gif")
            .header("User-Agent", &[b'U'; 5000])
            .holds("/user_agent/original", "U".repeat(2048))
            .holds("/event/cut", json!(["context", "params.header", "user_agent.original"])),
        hostile("a long page", "/pixel.gif")
            .header(
                "Referer",
                format!("https://shop.example/{}", "p".repeat(8000)).as_bytes(),
            )
            .holds(
                "/event/cut",
                json!(["http.request.referrer", "params.header", "url.full"]),
            ),
        hostile("quotes in the User-Agent", "/pixel.gif")
            .header("User-Agent", b"\"', \"source-ip\": \"6.6.6.6")
            .holds("/user_agent/original", "\"', \"source-ip\": \"6.6.6.0")
            .holds("/context/source-ip", "127.0.0.0"),
        hostile("bytes that are no UTF-8 in a header", "/pixel.gif")
            .header("Sec-CH-Odd", b"a\xff\xfeb")
            .odd(&["invalid_encoding"])
            .holds("/params/header/sec-ch-odd", "a\u{fffd}\u{fffd}b"),
        hostile("bytes that are no UTF-8 in the User-Agent", "/pixel.gif")
            .header("User-Agent", b"\xc3\x28")
            .odd(&["invalid_encoding"])
            .holds("/user_agent/original", "\u{fffd}("),
        hostile("UTF-8 in a header", "/pixel.gif")
            .header("Sec-CH-Odd", "é日🙂".as_bytes())
            .holds("/params/header/sec-ch-odd", "é日🙂"),
        hostile("empty headers", "/pixel.gif")
            .header("User-Agent", b"")
            .header("Referer", b"")
            .holds("/event/action", "open"),
        hostile("a repeated header", "/pixel.gif")
            .header("Sec-CH-Twice", b"1")
            .header("sec-ch-twice", b"2")
            .holds("/params/header/sec-ch-twice", "2"),
        hostile("an address that is none", "/pixel.gif")
            .header("X-Forwarded-For", b"unknown, \"<script>\", 300.1.1.1")
            .holds("/client/ip", "127.0.0.0"),
    ]
}

#[test]
fn no_hostile_request_loses_its_hit() {
    let served = serve().start();
    for (number, case) in hostile_requests().iter().enumerate() {
        check_hostile(&served, number, case);
    }
}

fn check_hostile(served: &Served, number: usize, case: &Hostile) {
    let Hostile { name, .. } = case;
    let headers: Vec<_> = case
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_slice()))
        .collect();
    let reply = send(served.address, &request("GET", &case.target, &headers));
    assert_eq!(
        (reply.status, reply.header("x-pixel")),
        (200, Some("accepted")),
        "{name}"
    );
    check_image(name, &reply);

    let documents = served.documents();
    assert_eq!(documents.len(), number + 1, "{name}: stored once");
    let document = documents.last().expect("there is one");
    assert!(document.len() <= MAX_BYTES, "{name}: {} bytes", document.len());
    let event = parsed(document);
    let mut oddities = words(&event, "/event/oddities");
    oddities.sort();
    let mut expected = case.oddities.to_vec();
    expected.sort_unstable();
    assert_eq!(oddities, expected, "{name}: {event:#}");
    for (pointer, value) in &case.expected {
        assert_eq!(event.pointer(pointer), Some(value), "{name}: {pointer}");
    }
}

/// Bytes that are no HTTP request for the pixel have no image to ask for; they must not cost others theirs.
#[test]
fn what_is_no_http_is_refused_and_others_are_served() {
    let served = serve().start();
    let malformed: [(&str, &[u8]); 6] = [
        (
            "a raw quote in the target",
            b"GET /pixel.gif?q=\"a\" HTTP/1.1\r\nHost: x\r\n\r\n",
        ),
        (
            "a raw NUL in a header",
            b"GET /pixel.gif HTTP/1.1\r\nHost: x\r\nX-Odd: a\0b\r\n\r\n",
        ),
        ("no version", b"GET /pixel.gif\r\n\r\n"),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
        ("a header without a colon", b"GET /pixel.gif HTTP/1.1\r\nHost\r\n\r\n"),
        (
            "a name with a space",
            b"GET /pixel.gif HTTP/1.1\r\nHost: x\r\nX Odd: 1\r\n\r\n",
        ),
    ];
    for (name, bytes) in malformed {
        let refused = try_send(served.address, bytes);
        assert!(
            refused.as_ref().is_ok_and(|reply| reply.status == 400),
            "{name}: {refused:?}"
        );
        check_image(name, &served.get("/pixel.gif"));
    }
    assert_eq!(
        served.documents().len(),
        malformed.len(),
        "one for each request that was one"
    );
}

#[test]
fn a_document_keeps_to_its_limit() {
    for limit in [8192, 10_000, 32_768, 200_000] {
        let served = serve().variable("PIXEL_MAX_EVENT_BYTES", &limit.to_string()).start();
        // Each of these needs six bytes in JSON.
        let query = format!("/pixel/{0}?q={0}&url={0}&utm_source={0}&uid={0}", "%01".repeat(3000));
        let reply = send(
            served.address,
            &request("GET", &query, &[("User-Agent", &[b'"'; 4000])]),
        );
        assert_eq!(reply.status, 200, "{limit}");
        let documents = served.documents();
        assert_eq!(documents.len(), 1, "{limit}");
        assert!(documents[0].len() <= limit, "{limit}: {} bytes", documents[0].len());
        let cut = words(&parsed(&documents[0]), "/event/cut");
        assert!(cut.contains(&"user_agent.original".to_owned()), "{limit}: {cut:?}");
    }
}

// Privacy.

const SECRETS: [&str; 9] = [
    "secret-authorization",
    "secret-cookie",
    "secret-proxy",
    "secret-key-header",
    "secret-token-header",
    "secret-parameter",
    "secret-of-page",
    "secret-password",
    "secret-fragment",
];

fn private_request() -> Vec<u8> {
    request(
        "GET",
        "/pixel.gif?n=1&api_key=secret-parameter&url=https%3A%2F%2Fme%3Asecret-password%40shop.example%2F%3Ftoken%3Dsecret-of-page%23id_token%3Dsecret-fragment",
        &[
            ("Authorization", b"Bearer secret-authorization"),
            ("Cookie", b"session=secret-cookie"),
            ("Proxy-Authorization", b"Basic secret-proxy"),
            ("X-Api-Key", b"secret-key-header"),
            ("X-Amz-Security-Token", b"secret-token-header"),
            ("X-Forwarded-For", b"198.51.100.99, 203.0.113.77"),
            ("Forwarded", b"for=203.0.113.77;proto=https"),
            ("X-Real-IP", b"203.0.113.77"),
            ("True-Client-IP", b"203.0.113.77"),
            (
                "Referer",
                b"https://me:secret-password@shop.example/?token=secret-of-page",
            ),
            ("User-Agent", b"Mail/1"),
        ],
    )
}

#[test]
fn nothing_private_is_stored_unless_the_policy_says_so() {
    // Policy, trusted proxies, the stored address, the addresses that must not be found.
    let cases = [
        (
            "shorten",
            "0",
            Some("127.0.0.0"),
            vec!["127.0.0.1", "203.0.113.77", "198.51.100.99"],
        ),
        (
            "shorten",
            "1",
            Some("203.0.113.0"),
            vec!["127.0.0.1", "203.0.113.77", "198.51.100.99"],
        ),
        (
            "shorten",
            "2",
            Some("198.51.100.0"),
            vec!["127.0.0.1", "203.0.113.77", "198.51.100.99"],
        ),
        ("full", "1", Some("203.0.113.77"), vec!["198.51.100.99"]),
        ("drop", "0", None, vec!["127.0.0.", "203.0.113.", "198.51.100."]),
    ];
    for (policy, hops, address, absent) in cases {
        let what = format!("{policy} with {hops} proxies");
        let served = serve()
            .variable("PIXEL_PRIVACY_IP", policy)
            .variable("PIXEL_TRUSTED_HOPS", hops)
            .start();
        assert_eq!(send(served.address, &private_request()).status, 200, "{what}");
        let documents = served.documents();
        assert_eq!(documents.len(), 1, "{what}");
        for secret in absent.iter().chain(&SECRETS) {
            assert!(
                !documents[0].contains(secret),
                "{what}: {secret} is in {}",
                documents[0]
            );
        }
        let event = parsed(&documents[0]);
        assert_eq!(text(&event, "/client/ip"), address, "{what}");
        assert_eq!(
            text(&event, "/url/full"),
            Some("https://shop.example/?token=[redacted]"),
            "{what}"
        );
        let applied = words(&event, "/privacy/applied");
        for removed in [
            "secret_headers_dropped",
            "address_headers_dropped",
            "secret_parameters_replaced",
        ] {
            assert!(applied.contains(&removed.to_owned()), "{what}: {applied:?}");
        }
        let line = served
            .stdout
            .wait_for("the line of the hit", |line| line.contains("/pixel.gif"));
        for secret in absent.iter().chain(&SECRETS) {
            assert!(!line.contains(secret), "{what}: {secret} is in {line}");
        }
    }
}

// Stopping.

/// A longer wait may be one for a commit that the stage has stopped waiting for.
const COMMITTED_WITHIN: Duration = Duration::from_millis(500);

/// Sends hits from several threads until one fails, and returns the numbers of those that were answered as stored.
fn load(served: Served, enough: usize, stop: impl FnOnce(Served) -> Serve) -> (BTreeSet<String>, Serve) {
    let address = served.address;
    let answered = Mutex::new(BTreeSet::new());
    let over = AtomicBool::new(false);
    let again = std::thread::scope(|scope| {
        for thread in 0..16 {
            let (answered, over) = (&answered, &over);
            scope.spawn(move || {
                for number in 0..100_000 {
                    let n = format!("{thread}.{number}");
                    let begun = Instant::now();
                    let reply = try_send(address, &request("GET", &format!("/pixel.gif?n={n}"), &[]));
                    let stored = reply
                        .as_ref()
                        .is_ok_and(|reply| reply.status == 200 && reply.body == GIF);
                    if stored && begun.elapsed() < COMMITTED_WITHIN {
                        answered.lock().unwrap().insert(n);
                    }
                    if reply.is_err() || over.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        wait_for("enough hits", || {
            (answered.lock().unwrap().len() >= enough).then_some(())
        });
        let again = stop(served);
        over.store(true, Ordering::Relaxed);
        again
    });
    (answered.into_inner().unwrap(), again)
}

/// The values of the parameter `n` of the stored hits, each stored once.
fn stored_numbers(documents: &[String]) -> BTreeSet<String> {
    let number = |document: &String| text(&parsed(document), "/params/querystring/n").map(ToOwned::to_owned);
    let numbers: BTreeSet<_> = documents.iter().filter_map(number).collect();
    assert_eq!(numbers.len(), documents.len(), "no hit is stored twice");
    numbers
}

fn check_all_stored(answered: &BTreeSet<String>, again: Serve) {
    let stored = stored_numbers(&documents(again.folder()));
    let lost: Vec<_> = answered.difference(&stored).collect();
    assert!(lost.is_empty(), "answered and not stored: {lost:?}");

    let served = again.start();
    assert_eq!(served.get("/pixel.gif?n=after").status, 200);
    let documents = served.documents();
    assert_eq!(
        stored_numbers(&documents).len(),
        stored.len() + 1,
        "the store is used again"
    );
}

#[test]
fn a_kill_loses_no_hit_that_was_answered() {
    let (answered, again) = load(serve().start(), 400, Served::kill);
    check_all_stored(&answered, again);
}

#[test]
fn a_signal_ends_it_when_all_is_stored() {
    for name in ["TERM", "INT"] {
        let (answered, again) = load(serve().start(), 200, |served| {
            // A client that keeps its connection does not hold it up.
            let _idle = std::net::TcpStream::connect(served.address).expect("it listens");
            served.signal(name);
            let (stdout, stderr) = (served.stdout.clone(), served.stderr.clone());
            let (status, again) = served.ended();
            assert_eq!(status.code(), Some(0), "{name}: {:?}", stderr.all());
            assert!(!stdout.to_the_end().is_empty(), "{name}");
            again
        });
        assert_eq!(
            files(again.folder()),
            ["pixel.db", "pixel.key"],
            "{name}: one file and the key are left"
        );
        check_all_stored(&answered, again);
    }
}

#[test]
fn the_last_lines_are_printed_before_the_end() {
    let served = serve().start();
    for number in 0..50 {
        served.get(&format!("/image/{number}.png"));
    }
    served.signal("TERM");
    let stdout = served.stdout.clone();
    assert_eq!(served.ended().0.code(), Some(0));
    assert_eq!(stdout.to_the_end().len(), 50);
}

// Mistakes.

#[test]
fn a_second_one_on_the_same_port_says_so() {
    let served = serve().start();
    let output = serve().listen(served.address).fail();
    let (_, errors) = printed(&output);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains(&format!("cannot listen on {}", served.address)) && errors.contains("--listen"),
        "{errors}"
    );
}

#[test]
fn all_that_is_wrong_with_the_configuration_is_said_at_once() {
    let wrong = [
        (
            "PIXEL_DESTINATION",
            "https://me:secret-password@host.example",
            "name the index",
        ),
        ("PIXEL_REPLY", "later", "`first`, `after-indexing`"),
        ("PIXEL_BUDGET_MS", "soon", "whole number"),
        ("PIXEL_MAX_EVENT_BYTES", "100", "from 8192"),
        ("PIXEL_PRIVACY_IP", "maybe", "`shorten`"),
        ("PIXEL_CORS_ORIGIN", "shop.example", "https://example.org"),
        ("PIXEL_TRUSTED_HOPS", "-1", "whole number"),
        ("PIXEL_AUTH", "magic", "`api-key`"),
    ];
    for command in ["serve", "hits"] {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let mut pixel = pixel(folder.path());
        pixel.arg(command).envs(wrong.map(|(name, value, _)| (name, value)));
        let output = pixel.output().expect("pixel starts");
        let (out, errors) = printed(&output);
        assert_eq!(
            (output.status.code(), out.as_str()),
            (Some(2), ""),
            "{command}: {errors}"
        );
        for (name, _, remedy) in wrong {
            let told = |line: &str| line.contains(&format!("`{name}`")) && line.contains(remedy);
            assert!(errors.lines().any(told), "{command}: {name} in {errors}");
        }
        assert!(!errors.contains("secret-password"), "{command}: {errors}");
        assert_eq!(
            files(folder.path()),
            Vec::<String>::new(),
            "{command} leaves nothing behind"
        );
    }
}

#[test]
fn a_file_that_is_no_store_is_refused() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("notes.txt"), "These are notes. ".repeat(500)).unwrap();
    Store::open(&file("newer.db")).expect("a store can be made").close();
    let newer = rusqlite::Connection::open(file("newer.db")).unwrap();
    newer.pragma_update(None, "user_version", 7).unwrap();
    drop(newer);
    let other = rusqlite::Connection::open(file("other.db")).unwrap();
    other.execute_batch("CREATE TABLE shopping (item TEXT)").unwrap();
    drop(other);

    let serve = ["serve", "--listen", "127.0.0.1:0", "--destination"];
    let hits = ["hits", "--destination"];
    let cases: [(&[&str], &str, &str); 8] = [
        (&serve, "sqlite:notes.txt", "not a database"),
        (&hits, "sqlite:notes.txt", "not a database"),
        (&serve, "sqlite:newer.db", "layout 7"),
        (&hits, "sqlite:newer.db", "layout 7"),
        (&serve, "sqlite:other.db", "layout 0"),
        (&hits, "sqlite:other.db", "no store"),
        (&serve, "sqlite:no/such/folder/pixel.db", "folder"),
        (&hits, "sqlite:no/such/folder/pixel.db", "no such file"),
    ];
    for (arguments, destination, reason) in cases {
        let what = format!("{} {destination}", arguments[0]);
        let mut command = pixel(folder.path());
        command.args(arguments).arg(destination);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("pixel starts");
        wait(&mut child);
        let output = child.wait_with_output().expect("it has ended");
        let (_, errors) = printed(&output);
        assert_eq!(output.status.code(), Some(1), "{what}: {errors}");
        let path = destination.trim_start_matches("sqlite:");
        assert!(errors.contains(reason) && errors.contains(path), "{what}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{what}: {errors}");
    }
}

// Listing.

#[test]
fn hits_are_listed_as_a_table_and_as_json() {
    let served = serve().start();
    for (target, page) in [
        ("/image/one.png", ""),
        ("/pixel.gif?action=click", "https://shop.example/basket"),
        ("/image/three.png", ""),
    ] {
        let headers: &[(&str, &[u8])] = &[("User-Agent", b"Mail/7 (test)"), ("Referer", page.as_bytes())];
        send(served.address, &request("GET", target, headers));
    }
    let (table, _) = printed(&served.hits(&[]));
    let rows: Vec<_> = table.lines().collect();
    assert_eq!(rows.len(), 4, "{table}");
    for (row, cells) in rows.iter().zip([
        ["TIME", "ACTION", "CODE", "ADDRESS"],
        ["open", "one", "127.0.0.0", "Mail/7 (test)"],
        ["click", "-", "127.0.0.0", "https://shop.example/basket"],
        ["open", "three", "127.0.0.0", "Mail/7 (test)"],
    ]) {
        assert!(cells.iter().all(|cell| row.contains(cell)), "{cells:?} in {row}");
    }

    let codes = |events: &[Value]| -> Vec<_> {
        let code = |event: &Value| text(event, "/pixel/code").map(ToOwned::to_owned);
        events.iter().map(code).collect()
    };
    let stored: Vec<_> = served.documents().iter().map(|document| parsed(document)).collect();
    assert_eq!(served.events(), stored, "--json prints what is stored");
    let (latest, _) = printed(&served.hits(&["--json", "-n", "2"]));
    let latest: Vec<_> = latest.lines().map(parsed).collect();
    assert_eq!(
        codes(&latest),
        [None, Some("three".to_owned())],
        "the latest, oldest first"
    );
}

#[test]
fn followed_hits_appear_as_they_come() {
    let served = serve().start();
    served.get("/image/before.png");
    for json in [false, true] {
        let mut command = served.hits_command(&["--follow"]);
        command.args(json.then_some("--json")).stdout(Stdio::piped());
        let mut child = command.spawn().expect("pixel starts");
        let lines = Lines::of(child.stdout.take().expect("stdout is piped"));
        lines.wait_for("the hit before", |line| line.contains("before"));
        let code = format!("during-{json}");
        served.get(&format!("/image/{code}.png"));
        let line = lines.wait_for("the new hit", |line| line.contains(&code));
        assert_eq!(serde_json::from_str::<Value>(&line).is_ok(), json, "{line}");

        signal(&child, "INT");
        assert_eq!(wait(&mut child).code(), Some(0));
        let all = lines.to_the_end();
        assert_eq!(
            all.iter().filter(|line| line.contains(&code)).count(),
            1,
            "each hit once: {all:?}"
        );
    }
}

#[test]
fn listing_ends_when_nobody_reads() {
    let served = serve().start();
    served.get("/image/before.png");
    let mut command = served.hits_command(&["--follow"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pixel starts");
    let mut stdout = std::io::BufReader::new(child.stdout.take().expect("stdout is piped"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stdout, &mut line).expect("there is a line");
    drop(stdout);
    let ended = wait_for("the end of the listing", || {
        served.get("/pixel.gif");
        child.try_wait().expect("the process is ours")
    });
    let errors = child.wait_with_output().expect("it has ended").stderr;
    assert_eq!((ended.code(), errors.as_slice()), (Some(0), b"".as_slice()));
}

#[test]
fn nothing_a_visitor_sends_controls_the_terminal() {
    let served = serve().start();
    // C0 controls cannot stand in a header; C1 controls can, and terminals obey them, too.
    let headers: &[(&str, &[u8])] = &[("User-Agent", "a\u{9b}31mb\u{85}c".as_bytes())];
    for target in [
        "/pixel.gif",
        "/image/%1b%5b2J%07.png",
        "/pixel.gif?url=https%3A%2F%2Fx.example%2F%1b%5b31m%c2%9b31m%0d%0a%7f",
        "/pixel.gif?action=%1b%5b2J&q=%1b%c2%9b",
    ] {
        assert_eq!(
            send(served.address, &request("GET", target, headers)).status,
            200,
            "{target}"
        );
    }
    let shown = served.stdout.wait_for_count("the lines of the hits", 4, |_| true);
    check_harmless("serve", &shown.join("\n"));
    check_harmless("serve's messages", &served.stderr.all().join("\n"));
    for arguments in [[].as_slice(), &["--json"]] {
        let (out, errors) = printed(&served.hits(arguments));
        assert!(out.lines().count() >= 4, "{out}");
        check_harmless(&format!("hits {arguments:?}"), &(out + &errors));
    }
}

fn check_harmless(what: &str, printed: &str) {
    let control = printed
        .chars()
        .find(|character| character.is_control() && *character != '\n');
    assert_eq!(control, None, "{what} prints a control character: {printed:?}");
}

// What is printed.

#[test]
fn each_hit_prints_one_line() {
    let plain = serve().start();
    let json = serve().argument("--json").start();
    let quiet = serve().argument("--quiet").start();
    for served in [&plain, &json, &quiet] {
        served.get("/image/abc.png");
        served.get("/unknown");
    }
    let lines = plain.stdout.wait_for_count("two lines", 2, |_| true);
    assert!(
        lines[0].contains("indexed") && lines[0].contains("GET /image/abc "),
        "{lines:?}"
    );
    assert!(lines[1].contains("ignored (unknown_path)"), "{lines:?}");
    let lines = json.stdout.wait_for_count("two lines", 2, |_| true);
    let id = parsed(&json.documents()[0])["event"]["id"].clone();
    let lines: Vec<_> = lines.iter().map(|line| parsed(line)).collect();
    assert_eq!((&lines[0]["outcome"], &lines[0]["event_id"]), (&json!("indexed"), &id));
    assert_eq!(
        (&lines[1]["outcome"], &lines[1]["reason"]),
        (&json!("ignored"), &json!("unknown_path"))
    );
    quiet.signal("TERM");
    let stdout = quiet.stdout.clone();
    quiet.ended();
    assert_eq!(stdout.to_the_end(), Vec::<String>::new());
}

#[test]
fn the_start_says_what_to_do() {
    let served = serve().to("sqlite:events.db").start();
    let lines = served.stderr.all().join("\n");
    for line in [
        format!("pixel   {}/pixel.gif", served.url()),
        format!("paste   <img src=\"{}/pixel.gif\"", served.url()),
        "events  sqlite:events.db".to_owned(),
    ] {
        assert!(lines.contains(&line), "{line} in {lines}");
    }
}

#[test]
fn help_and_completions_name_each_command() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (help, _) = printed(&run(folder.path(), &["--help"]));
    for command in ["serve", "hits", "invoke", "config", "completions"] {
        assert!(
            help.lines().any(|line| line.trim_start().starts_with(command)),
            "{command} in {help}"
        );
        let output = run(folder.path(), &[command, "--help"]);
        assert!(output.status.success(), "{command} --help");
        for shell in ["bash", "zsh", "fish"] {
            let output = run(folder.path(), &["completions", shell]);
            let (script, errors) = printed(&output);
            assert_eq!((output.status.code(), errors.as_str()), (Some(0), ""), "{shell}");
            assert!(script.contains(command), "{command} in the completions of {shell}");
        }
    }
    for arguments in [
        [].as_slice(),
        &["completions", "abacus"],
        &["brew"],
        &["serve", "--listen", "here"],
    ] {
        let output = run(folder.path(), arguments);
        let (out, errors) = printed(&output);
        assert_eq!((output.status.code(), out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(
            errors.contains("--help") || errors.contains("Usage"),
            "{arguments:?}: {errors}"
        );
    }
    let (version, _) = printed(&run(folder.path(), &["--version"]));
    assert_eq!(version.trim_end(), concat!("pixel ", env!("CARGO_PKG_VERSION")));
}

// Remote destinations.

/// Waits for the document of one hit in the stub.
async fn arrived(stub: &IndexStub, n: &str) -> Value {
    let of_n = |document: &Value| text(document, "/params/querystring/n") == Some(n);
    stub.wait_for("the hit", |stub| stub.documents().values().any(of_n))
        .await;
    let found = stub.documents().into_values().find(of_n);
    found.expect("it was there just now")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_destination_gets_the_hit_in_either_order() {
    for order in ["first", "after-indexing"] {
        let stub = IndexStub::start().await;
        let destination = format!("{}/events", stub.url());
        let served = serve().to(&destination).variable("PIXEL_REPLY", order).start();
        let reply = send(served.address, &request("GET", "/image/abc.png?n=remote", &[]));
        check_image(order, &reply);
        if order == "after-indexing" {
            assert_eq!(stub.documents().len(), 1, "the answer came after the index's");
        }
        let event = arrived(&stub, "remote").await;
        assert_eq!(text(&event, "/pixel/code"), Some("abc"), "{order}");
        served
            .stdout
            .wait_for("the line of the hit", |line| line.contains("indexed"));
        assert_eq!((stub.documents().len(), stub.violations()), (1, Vec::new()), "{order}");
        assert_eq!(
            files(served.folder()),
            Vec::<String>::new(),
            "{order}: nothing on the disk"
        );
    }
}

/// The events that were logged whole.
fn logged(lines: &[String]) -> Vec<Value> {
    let lines = lines.iter().filter(|line| line.starts_with('{'));
    let lines = lines.map(|line| parsed(line));
    lines.filter(|line| line["message"] == "undelivered event").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_down_costs_no_visitor_anything() {
    let faults = [
        (Behaviour::Refuse, "refused"),
        (Behaviour::NeverAnswer, "timed out"),
        (Behaviour::Garbage, "error sending request"),
        (Behaviour::Html200, "not an index's"),
        (Behaviour::Status(403, "no".to_owned()), "status 403"),
        (Behaviour::Status(500, String::new()), "status 500"),
    ];
    for (fault, reason) in faults {
        for order in ["first", "after-indexing"] {
            check_down(fault.clone(), reason, order).await;
        }
    }
}

async fn check_down(fault: Behaviour, reason: &str, order: &str) {
    let what = format!("{fault:?}, {order}");
    let stub = IndexStub::start().await;
    stub.behave(fault);
    let destination = format!("http://me:secret-password@{}/events", stub.address());
    let served = serve()
        .to(&destination)
        .variable("PIXEL_REPLY", order)
        .variable("PIXEL_BUDGET_MS", "400")
        .variable("PIXEL_ATTEMPT_TIMEOUT_MS", "200")
        .start();
    let reply = send(served.address, &private_request());
    assert_eq!((reply.status, reply.body.as_slice()), (200, GIF.as_slice()), "{what}");

    let line = served
        .stderr
        .wait_for("the undelivered event", |line| line.contains("undelivered event"));
    let entry = parsed(&line);
    assert_eq!(
        (&entry["level"], &entry["outcome"]),
        (&json!("ERROR"), &json!("failed")),
        "{what}"
    );
    assert!(
        text(&entry, "/reason").is_some_and(|told| told.contains(reason)),
        "{what}: {line}"
    );
    let event = &entry["event"];
    assert_eq!(text(event, "/params/querystring/n"), Some("1"), "{what}");
    assert_eq!(text(event, "/client/ip"), Some("127.0.0.0"), "{what}");
    assert_eq!(event["event"]["id"], entry["event_id"], "{what}");
    for secret in SECRETS.iter().chain(&["203.0.113.77", "127.0.0.1,"]) {
        assert!(!line.contains(secret), "{what}: {secret} is in {line}");
    }
    assert_eq!(logged(&served.stderr.all()).len(), 1, "{what}: once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_leaves_no_event_behind() {
    // An index that takes its time, and one that never answers.
    for fault in [Behaviour::Delay(Duration::from_millis(300)), Behaviour::NeverAnswer] {
        let stub = IndexStub::start().await;
        stub.behave(fault.clone());
        let served = serve()
            .to(format!("{}/events", stub.url()))
            .variable("PIXEL_BUDGET_MS", "600")
            .variable("PIXEL_ATTEMPT_TIMEOUT_MS", "500")
            .start();
        let sent = send_many(served.address, 200);
        served.signal("TERM");
        let stderr = served.stderr.clone();
        assert_eq!(served.ended().0.code(), Some(0), "{fault:?}");
        let events = logged(&stderr.to_the_end())
            .into_iter()
            .map(|mut entry| entry["event"].take());
        let kept: BTreeSet<_> = stub
            .documents()
            .into_values()
            .chain(events)
            .filter_map(|event| text(&event, "/params/querystring/n").map(ToOwned::to_owned))
            .collect();
        let lost: Vec<_> = sent.difference(&kept).collect();
        assert!(
            lost.is_empty(),
            "{fault:?}: {} of {} are neither indexed nor logged",
            lost.len(),
            sent.len()
        );
    }
}

/// Sends so many hits over several connections; all are answered.
fn send_many(address: SocketAddr, count: usize) -> BTreeSet<String> {
    let numbers: Vec<_> = (0..count).map(|number| number.to_string()).collect();
    std::thread::scope(|scope| {
        for part in numbers.chunks(count.div_ceil(8)) {
            scope.spawn(move || {
                for number in part {
                    let reply = send(address, &request("GET", &format!("/pixel.gif?n={number}"), &[]));
                    assert_eq!((reply.status, reply.body.as_slice()), (200, GIF.as_slice()));
                }
            });
        }
    });
    numbers.into_iter().collect()
}
