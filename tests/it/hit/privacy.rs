//! What must not be stored is not: tried on arbitrary visitors, by settings, and on the stage's page for those who do not
//! want to be counted.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use pixel::config::{Config, Variables};
use pixel::destination::log_lines::{journal_line, log_line};
use pixel::destination::message::MessageTarget;
use pixel::hit::answer;
use pixel::hit::code::{Contents, Keys};
use pixel::hit::event::Event;
use pixel::hit::outcome::{Delivered, Failure, Ignored, Outcome};
use pixel::hit::privacy::{AddressPolicy, Key, Recording, SignalPolicy, UserPolicy, clean_url};
use pixel::hit::read::RequestContext;
use pixel::hit::request::http_request::HttpRequest;
use pixel::hit::request::{Ingress, Pairs, Request};
use pixel::hit::settings::Lookups;
use pixel::server::gateway::payload;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::server::opt_out_rules::{KEY, OWN_PAGE, personal};
use crate::support::matrix::{self, Index};
use crate::support::serving::{request, send, serve, wait_for};

fn now() -> DateTime<Utc> {
    "2026-03-01T09:30:00.150Z".parse().expect("a time")
}

fn event_of(request: Request, config: &Config) -> Event {
    let circumstances = RequestContext {
        now: now(),
        invocation: "8476a536-e9f4-11e8-9739-2dfe598c3fcd".to_owned(),
        trusted_hops: 0,
    };
    answer::build_event(request, &circumstances, &config.settings(), &Lookups::none())
}

fn pairs(given: &[(&str, &str)]) -> Pairs {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    given.iter().map(owned).collect()
}

fn a_request(query: &[(&str, &str)], headers: &[(&str, &str)]) -> Request {
    Request {
        ingress: Ingress::Passthrough,
        method: "GET".to_owned(),
        path: "/pixel/spring".to_owned(),
        query: pairs(query),
        headers: pairs(headers),
        path_parameters: pairs(&[("code", "spring")]),
        stage_variables: Pairs::new(),
        context: pairs(&[("source-ip", "203.0.113.77"), ("request-time-epoch", "1772357400123")]),
        body: None,
        oddities: Vec::new(),
    }
}

fn document(request: Request, config: &Config) -> Value {
    serde_json::from_str(&event_of(request, config).document).expect("an event is JSON")
}

fn config(given: &[(&str, &str)]) -> (Config, usize) {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let (config, problems) = Config::read(&given.iter().map(own).collect::<Variables>());
    (config, problems.len())
}

// Leaks.

/// What is private, in a form that shows itself, or under a name that says so.
#[derive(Clone, Debug)]
enum Private {
    Mail(String),
    Address(String),
    Token(String),
}

impl Private {
    fn text(&self) -> &str {
        let (Self::Mail(text) | Self::Address(text) | Self::Token(text)) = self;
        text
    }
}

fn private() -> impl Strategy<Value = Private> {
    prop_oneof![
        "[a-z0-9][a-z0-9._+-]{3,14}[a-z0-9]@[a-z0-9-]{2,10}[a-z0-9]\\.(com|de|co\\.uk|example)".prop_map(Private::Mail),
        any::<[u8; 3]>().prop_flat_map(|[_, b, c]| (101..=254_u8).prop_map(move |d| Private::Address(format!(
            "203.{}.{}.{d}",
            b.max(100),
            c.max(100)
        )))),
        any::<[u16; 4]>().prop_map(|[a, b, c, d]| Private::Address(
            std::net::Ipv6Addr::new(0x2001, 0xdb8, 7, a | 0x1000, b | 0x1000, c | 0x1000, d | 0x1000, 0x4d2)
                .to_string()
        )),
        "eyJ[A-Za-z0-9_-]{20,40}\\.[A-Za-z0-9_-]{20,40}\\.[A-Za-z0-9_-]{20}".prop_map(Private::Token),
    ]
}

/// The forms in which a text stands in URLs.
fn written(text: &str, form: usize) -> String {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    let once = || utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    match form {
        0 => text.to_owned(),
        1 => text.replace('@', "%40"),
        2 => once().replace("%2E", ".").replace("%2D", "-").replace("%5F", "_"),
        _ => text.replace('@', "%2540"),
    }
}

const AROUND: [(&str, &str); 12] = [
    ("", ""),
    ("https://shop.example/a?mail=", "&b=1"),
    ("https://shop.example/", "/settings"),
    ("/search?q=", ""),
    ("hello ", ", how are you"),
    ("next=https%3A%2F%2Fshop.example%2F%3Fto%3D", "%26b%3D1"),
    ("<", ">"),
    ("{\"a\":\"", "\"}"),
    ("a=1?b=", "?c=2"),
    ("(", ")"),
    ("https://shop.example/#", ""),
    ("mailto:", "?subject=a"),
];

/// Everything a visitor writes, with something private in one place of it.
fn leaking() -> impl Strategy<Value = (Request, Vec<String>)> {
    let names = vec![
        "url",
        "ref",
        "referrer",
        "code",
        "action",
        "uid",
        "utm_source",
        "utm_term",
        "gclid",
        "q",
        "email",
        "token",
        "x",
    ];
    let headers = vec![
        "user-agent",
        "referer",
        "accept",
        "accept-language",
        "cookie",
        "authorization",
        "x-forwarded-for",
        "x-real-ip",
        "from",
        "forwarded",
        "origin",
        "sec-ch-ua",
        "x-anything",
        "via",
        "sec-purpose",
        "content-type",
    ];
    let piece = (private(), 0..4_usize, select(&AROUND[..]));
    let placed = prop_oneof![
        4 => select(names).prop_map(|name| (0, name)),
        4 => select(headers).prop_map(|name| (1, name)),
        1 => Just((2, "code")),
        1 => Just((3, "body")),
        1 => Just((4, "name of a parameter")),
        1 => Just((5, "method")),
    ];
    vec((placed, piece), 1..6).prop_map(|placed| {
        let mut request = a_request(&[], &[]);
        let mut secrets = Vec::new();
        for ((place, name), (private, form, (before, behind))) in placed {
            // Only mail addresses are written with another sign in URLs.
            let form = if matches!(private, Private::Mail(_)) { form } else { 0 };
            let value = format!("{before}{}{behind}", written(private.text(), form));
            match place {
                0 => request.query.push((name.to_owned(), value)),
                1 => request.headers.push((name.to_owned(), value)),
                2 => request.path_parameters = vec![(name.to_owned(), value)],
                3 => {
                    request.body = Some(
                        json!({"list": [value.clone()], value.clone(): 1, "b": value})
                            .to_string()
                            .into(),
                    );
                }
                4 => request.query.push((value, "1".to_owned())),
                _ => request.method = value,
            }
            // The local part alone would tell as much.
            secrets.extend(match &private {
                Private::Mail(mail) => mail.split('@').next().map(|local| format!("{local}@")),
                _ => None,
            });
            secrets.push(private.text().to_owned());
            secrets.push(written(private.text(), form));
        }
        request.query.sort();
        request.headers.sort();
        (request, secrets)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_private_is_in_the_event_or_the_log((request, secrets) in leaking()) {
        let event = event_of(request.clone(), &Config::default());
        let failed = Delivered {
            outcome: Outcome::Failed(Failure { reason: "down".to_owned(), temporary: true }),
            attempts: 1,
            breaker: "closed",
        };
        let outlet = |text| MessageTarget::parse(text, None).expect("an outlet").expect("it is right");
        let handed = |text| String::from_utf8_lossy(&outlet(text).send_call(&event).body).into_owned();
        let held = [
            ("the event", event.document.clone()),
            ("the log of an event that was not delivered", log_line(&event, &failed, "https://search.example/events", 1).to_string()),
            ("the log before a reply", journal_line(&event).to_string()),
            ("a queue", handed("sqs://sqs.eu-central-1.amazonaws.com/111122223333/hits")),
            ("a stream", handed("firehose://firehose.eu-central-1.amazonaws.com/hits")),
        ];
        for (place, text) in &held {
            for secret in &secrets {
                prop_assert!(!text.contains(secret.as_str()), "{} is in {}: {}", secret, place, text);
            }
            // A stream's records are in Base64.
            for record in text.split('"').filter(|part| part.len() > 100) {
                let record = STANDARD.decode(record).unwrap_or_default();
                let record = String::from_utf8_lossy(&record);
                for secret in &secrets {
                    prop_assert!(!record.contains(secret.as_str()), "{} is in {}: {}", secret, place, record);
                }
            }
        }
        // Cleaning what was cleaned changes nothing: hashes are not hashed again.
        let _: Value = serde_json::from_str(&event.document).expect("an event is JSON");
    }
}

/// A part of a URL or of a name as a client may write it.
fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// What arrives at an ingress, with something private in one place of it that no ingress of the function itself decides.
fn arriving() -> impl Strategy<Value = (HttpRequest, Vec<String>)> {
    let places = vec![
        "before the path",
        "code",
        "name of a parameter",
        "parameter",
        "page",
        "host",
        "user-agent",
        "referer",
        "accept",
        "name of a header",
        "body",
    ];
    let piece = (private(), any::<bool>(), select(places), select(&AROUND[..]));
    vec(piece, 1..5).prop_map(|pieces| {
        let mut arrived = HttpRequest {
            method: "GET".to_owned(),
            path: "/pixel/spring.gif".to_owned(),
            query: "a=1".to_owned(),
            headers: Pairs::new(),
            peer: "198.51.100.23".parse().ok(),
            id: "id-1".to_owned(),
            time: now(),
            body: None,
        };
        let mut secrets = vec!["198.51.100.23".to_owned()];
        for (private, plain, place, (before, behind)) in pieces {
            let text = private.text().to_owned();
            let around = format!("{before}{text}{behind}");
            // In a line of a request there are no blanks, and no other character that ends a path.
            let in_path = if plain { text.clone() } else { encoded(&text) };
            match place {
                "before the path" => arrived.path = format!("/{in_path}{}", arrived.path),
                "code" => arrived.path = arrived.path.replace("spring", &in_path),
                "name of a parameter" => arrived.query = format!("{}&{}=1", arrived.query, encoded(&around)),
                "parameter" => arrived.query = format!("{}&q={}", arrived.query, encoded(&around)),
                "page" => arrived.query = format!("{}&url={}", arrived.query, encoded(&around)),
                "host" => arrived.headers.push(("Host".to_owned(), text.clone())),
                // `@` and `:` cannot stand in a header's name.
                "name of a header" if text.contains(':') => continue,
                "name of a header" => {
                    let name = format!("sec-ch-{}", text.replace('@', "%40")).to_lowercase();
                    arrived.headers.push((name, "1".to_owned()));
                }
                "body" => arrived.body = Some(json!({ "a": around, around.clone(): 1 }).to_string().into_bytes()),
                name => arrived.headers.push((name.to_owned(), around)),
            }
            secrets.extend(match &private {
                Private::Mail(mail) => mail.split('@').next().map(|local| format!("{local}@")),
                _ => None,
            });
            secrets.extend([encoded(&text), text.replace('@', "%40"), text]);
        }
        (arrived, secrets)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_private_is_in_the_event_whichever_way_it_came((arrived, secrets) in arriving()) {
        for ingress in Ingress::ALL {
            // The API with a resource for each path has none for some of them.
            let Some(payload) = payload(ingress, &arrived) else { continue };
            let request = Request::decode(&payload).expect("a request");
            let event = event_of(request, &Config::default());
            for secret in &secrets {
                prop_assert!(
                    !event.document.contains(secret.as_str()),
                    "{} is in the event by {}: {}", secret, ingress, event.document
                );
            }
        }
    }
}

/// What a property has found once.
#[test]
fn a_token_is_found_whatever_words_are_in_it() {
    let token = "eyJAaA_a-0-aa0-0A0_aA-0.Pwd_aA_-aa-0_AaaAaaA.a_a00AA0aaa__a-A0aaa";
    let mut request = a_request(&[("q", token), (token, "1")], &[]);
    request.body = Some(json!({"b": token, token: 1, "list": [token]}).to_string().into());
    let stored = document(request, &Config::default()).to_string();
    assert!(!stored.contains(token), "{stored}");
}

#[test]
fn the_same_person_has_the_same_hash_wherever_the_address_stands() {
    let config = config(&[("PIXEL_PRIVACY_KEY", "the secret of the tests")]).0;
    let hash = Key::from_secret("the secret of the tests").user("anna@shop.example");
    let query = [
        ("email", "Anna@Shop.example"),
        ("q", "write to anna@shop.example, please"),
        ("userid", "anna@shop.example"),
        ("url", "https://shop.example/a?to=anna%40shop.example&b=1"),
    ];
    let event = document(a_request(&query, &[]), &config);
    assert_eq!(event["user"]["id"], hash.as_str());
    assert_eq!(event["params"]["querystring"]["email"], hash.as_str());
    assert_eq!(event["params"]["querystring"]["q"], format!("write to {hash}, please"));
    assert_eq!(event["url"]["full"], format!("https://shop.example/a?to={hash}&b=1"));
    let applied = event["privacy"]["applied"].as_array().expect("a list");
    for name in ["user_id_hashed", "mail_addresses_hashed"] {
        assert!(applied.contains(&json!(name)), "{applied:?}");
    }
}

#[test]
fn visitors_are_told_apart_for_a_day() {
    let key = Key::from_secret("the secret of the tests");
    let [day, same, next] = ["2026-03-01T00:00:01Z", "2026-03-01T23:59:59Z", "2026-03-02T00:00:01Z"]
        .map(|time| time.parse::<DateTime<Utc>>().expect("a time"));
    let [here, there] = ["203.0.113.77", "203.0.113.78"].map(|address| address.parse().expect("an address"));
    let visitor = key.visitor(day, here, "Mail/7");
    assert_eq!(visitor, key.visitor(same, here, "Mail/7"));
    assert_ne!(visitor, key.visitor(next, here, "Mail/7"));
    // The network is the same, the visitor is not.
    assert_ne!(visitor, key.visitor(day, there, "Mail/7"));
    assert_ne!(visitor, key.visitor(day, here, "Mail/8"));
    assert_ne!(
        visitor,
        Key::from_secret("another secret of the tests").visitor(day, here, "Mail/7")
    );
}

#[test]
fn urls_lose_what_hides_in_them() {
    let cases = [
        (
            "https://a.example/?x=1?token=2",
            "https://a.example/?x=1?token=[redacted]",
        ),
        ("https://a.example/?to%6ben=2", "https://a.example/?to%6ben=[redacted]"),
        (
            "https://a.example/?next=%2Fb%3Fpassword%3Dx%26c%3D1",
            "https://a.example/?next=%2Fb%3Fpassword%3D[redacted]%26c%3D1",
        ),
        (
            "https://a.example/?a=1;session=2",
            "https://a.example/?a=1;session=[redacted]",
        ),
        ("password=hush", "password=[redacted]"),
    ];
    for (given, cleaned) in cases {
        assert_eq!(clean_url(given), cleaned);
    }
}

// Settings.

#[test]
fn a_mistyped_setting_is_never_a_weaker_policy() {
    let strict = |name: &str, value: &str| {
        let (config, problems) = config(&[(name, value)]);
        assert_eq!(problems, 1, "{name}={value}");
        config
    };
    assert_eq!(
        strict("PIXEL_PRIVACY_IP", "shortened").policy.address,
        AddressPolicy::Drop
    );
    assert_eq!(strict("PIXEL_PRIVACY_USER_ID", "none").policy.user, UserPolicy::Drop);
    assert_eq!(
        strict("PIXEL_PRIVACY_SIGNAL", "honour").policy.signal,
        SignalPolicy::Ignore
    );
    assert_eq!(strict("PIXEL_PRIVACY_RECORD", "no").recording, Recording::Off);
    assert!(!strict("PIXEL_PRIVACY_KEY", "short").has_key);
    let unknown = strict("PIXEL_PRIVACY_ADDRESS", "drop");
    let policy = unknown.policy;
    assert_eq!(
        (policy.address, policy.user, policy.signal),
        (AddressPolicy::Drop, UserPolicy::Drop, SignalPolicy::Ignore)
    );
}

#[test]
fn a_wish_not_to_be_tracked_is_followed() {
    let query = [("userid", "u-7"), ("gclid", "click-7")];
    for wish in [("sec-gpc", "1"), ("dnt", "1")] {
        let request = || a_request(&query, &[("user-agent", "Mail/7"), wish]);
        let event = document(request(), &Config::default());
        for gone in ["/client/ip", "/visitor", "/user", "/campaign"] {
            assert_eq!(event.pointer(gone), None, "{wish:?}: {gone} of {event:#}");
        }
        let text = event.to_string();
        assert!(!text.contains("u-7") && !text.contains("click-7"), "{text}");
        assert_eq!(
            event["privacy"]["applied"].as_array().expect("a list").last(),
            Some(&json!("anonymised"))
        );

        let recorded = document(request(), &config(&[("PIXEL_PRIVACY_SIGNAL", "record")]).0);
        assert_eq!(recorded["client"]["ip"], "203.0.113.0");
        assert!(recorded.pointer("/visitor/id").is_some());

        let ignoring = config(&[("PIXEL_PRIVACY_SIGNAL", "ignore")]).0;
        let refusal = pixel::hit::privacy::find_refusal(&request(), ignoring.settings().consent);
        assert_eq!(refusal, Some(Ignored::PrivacySignal));
    }
    let no_wish = document(a_request(&query, &[("dnt", "0")]), &Config::default());
    assert_eq!(
        (&no_wish["privacy"]["dnt"], &no_wish["client"]["ip"]),
        (&json!(false), &json!("203.0.113.0"))
    );
}

/// A code for one recipient, as it is sent to her alone.
#[test]
fn a_wish_not_to_be_tracked_holds_for_signed_codes_too() {
    let (config, problems) = config(&[("PIXEL_CODE_KEYS", "1:MDEyMzQ1Njc4OWFiY2RlZg")]);
    assert_eq!(problems, 0);
    let keys = Keys::parse("1:MDEyMzQ1Njc4OWFiY2RlZg").expect("keys");
    let contents = |recipient: Option<&str>| Contents {
        campaign: Some("spring".to_owned()),
        recipient: recipient.map(|recipient| keys.recipient(recipient).expect("a key")),
        sent: DateTime::from_timestamp(1_772_000_000, 0),
        expires: None,
    };
    let hers = keys.sign(&contents(Some("ann@shop.example"))).expect("it fits");
    let recipient = keys.recipient("ann@shop.example").expect("a key").to_string();
    let everybodys = keys.sign(&contents(None)).expect("it fits");
    let listed = keys.short([1, 2, 3, 4]).expect("a key");

    let page = |code: &str| format!("https://shop.example/mail?from={code}&gclid=click-7&n=1");
    let at = |code: &str, place: &str, wish: &[(&str, &str)]| {
        let (page, ending) = (page(code), format!("{code}.gif"));
        let referrer = format!("https://shop.example/pixel/{code}");
        let headers = [&[("user-agent", "Mail/7"), ("referer", &*referrer)], wish].concat();
        let mut request = a_request(&[("url", &*page)], &headers);
        if place == "path" {
            request.path = format!("/prod/pixel/{ending}");
            request.path_parameters = pairs(&[("code", &*ending)]);
            request
                .context
                .push(("resource-path".to_owned(), format!("/pixel/{ending}")));
        } else {
            request.path = "/pixel".to_owned();
            request.path_parameters.clear();
            request.query.push(("code".to_owned(), code.to_owned()));
        }
        request
    };
    for (name, value) in [("sec-gpc", "1"), ("dnt", "1")] {
        let wish = [(name, value)];
        for place in ["path", "query"] {
            let event = document(at(&hers, place, &wish), &config);
            let text = event.to_string();
            for secret in [&recipient, &hers, &hers[1..], "click-7"] {
                assert!(!text.contains(secret), "{secret} is in {event:#}");
            }
            assert_eq!(
                event["pixel"],
                json!({"signature": "valid", "campaign": "spring"}),
                "{event:#}"
            );
            // Who it is sent to is not known without the key, and is in it all the same.
            let event = document(at(&hers, place, &wish), &Config::default());
            assert!(!event.to_string().contains(&hers[1..]), "{event:#}");
            // What stands for a mail stays, so that the mail can be counted.
            for code in [&everybodys, &listed, "spring"] {
                let event = document(at(code, place, &wish), &config);
                assert_eq!(event["pixel"]["code"], *code, "{event:#}");
                assert!(!event["params"].to_string().contains("redacted]\""), "{event:#}");
            }
        }
    }
    // Hers in the address of a page whose own image has another code, and as a name.
    let mut request = at("spring", "path", &[("dnt", "1")]);
    request.query = pairs(&[
        ("url", &*format!("https://shop.example/r?to=%2Fpixel%2F{hers}")),
        (&hers, "1"),
    ]);
    let event = document(request, &config);
    assert!(!event.to_string().contains(&hers[1..]), "{event:#}");
    // Nobody has asked for less.
    let event = document(at(&hers, "path", &[]), &config);
    assert_eq!(
        (&event["pixel"]["recipient"], &event["pixel"]["code"]),
        (&json!(recipient), &json!(hers))
    );
}

#[test]
fn only_listed_headers_are_stored() {
    let headers = [
        ("accept", "image/*"),
        ("cookie", "a=b"),
        ("sec-fetch-dest", "image"),
        ("user-agent", "Mail/7"),
        ("x-device-id", "4711"),
        ("x-forwarded-for", "203.0.113.77"),
    ];
    let event = document(a_request(&[], &headers), &Config::default());
    let kept: Vec<_> = event["params"]["header"]
        .as_object()
        .expect("an object")
        .keys()
        .collect();
    assert_eq!(kept, ["accept", "sec-fetch-dest", "user-agent"]);
    let applied = event["privacy"]["applied"].to_string();
    for name in [
        "secret_headers_dropped",
        "address_headers_dropped",
        "other_headers_dropped",
    ] {
        assert!(applied.contains(name), "{applied}");
    }
}

// The stage.

#[test]
fn who_opts_out_is_not_counted() {
    // The other ingresses let the answer say what became of the hit.
    let served = serve()
        .argument("--ingress=http-api")
        .variable("PIXEL_CODE_KEYS", KEY)
        .start();
    let get = |path: &str, headers: &[(&str, &[u8])]| send(served.address, &request("GET", path, headers));
    let post = |path: &str| {
        send(
            served.address,
            &request("POST", path, &[("Content-Length", b"0"), OWN_PAGE]),
        )
    };
    let outcome = |reply: &crate::support::serving::Reply| reply.header("x-pixel").unwrap_or_default().to_owned();

    let page = get("/opt-out", &[]);
    let html = String::from_utf8_lossy(&page.body).into_owned();
    assert_eq!(page.status, 200);
    assert!(
        html.contains("<form method=\"post\"") && !html.contains("<script"),
        "{html}"
    );
    let opted = post("/opt-out");
    let cookie = opted.header("set-cookie").expect("a cookie").to_owned();
    assert_eq!((opted.status, opted.header("location")), (303, Some("?")));
    let (cookie, attributes) = cookie.split_once(';').expect("attributes");
    assert!(
        attributes.contains("HttpOnly") && attributes.contains("Max-Age=31536000"),
        "{attributes}"
    );
    let known = get("/opt-out", &[("Cookie", cookie.as_bytes())]);
    assert!(String::from_utf8_lossy(&known.body).contains("is not counted"));
    let ignored = get("/pixel.gif", &[("Cookie", cookie.as_bytes())]);
    assert_eq!(
        (ignored.status, outcome(&ignored)),
        (200, "ignored; reason=opted_out".to_owned())
    );

    // A mail's recipient, by the code.
    let (mail, other) = (personal(1), personal(2));
    let open = |code: &str| outcome(&get(&format!("/pixel/{code}.gif"), &[]));
    assert_eq!(open(&mail), "accepted");
    assert_eq!(post(&format!("/opt-out/{mail}")).status, 303);
    assert_eq!(open(&mail), "ignored; reason=opted_out");
    assert_eq!(open(&other), "accepted");
    assert_eq!(post(&format!("/opt-out/{mail}?in")).status, 303);
    assert_eq!(open(&mail), "accepted");
    assert_eq!(served.documents().len(), 3);

    let gpc = get("/.well-known/gpc.json", &[]);
    let gpc: Value = serde_json::from_slice(&gpc.body).expect("JSON");
    assert_eq!(gpc["gpc"], true);
}

/// The lines of hits go to whoever collects the output of programs.
#[test]
fn nothing_private_is_in_the_lines_of_hits() {
    let plain = serve().argument("--ingress=http-api").start();
    let json = serve().argument("--json").start();
    for served in [&plain, &json] {
        let get = |path: &str, headers: &[(&str, &[u8])]| send(served.address, &request("GET", path, headers)).status;
        assert_eq!(get("/pixel/anna%40shop.example.gif", &[]), 200);
        assert_eq!(get("/203.0.113.77/anna%40shop.example/pixel/spring.gif", &[]), 200);
        assert_eq!(
            get("/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm5hIn0.c2lnbmF0dXJl/pixel.gif", &[]),
            200
        );
        assert_eq!(get("/pixel/mail-7.gif", &[("Cookie", b"pixel-opt-out=1")]), 200);
        assert_ne!(get("/of/anna%40shop.example", &[]), 200);
        let lines = served.stdout.wait_for_count("five lines", 5, |_| true);
        let text = lines.join("\n");
        for secret in ["anna", "203.0.113.77", "eyJ", "mail-7"] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
        assert!(
            text.contains("GET /pixel/spring") && text.contains("GET /pixel.gif"),
            "{text}"
        );
    }
}

#[test]
fn what_is_said_in_public_is_what_is_done() {
    let said = |policy: &str| -> Value {
        let served = serve().variable("PIXEL_PRIVACY_SIGNAL", policy).start();
        serde_json::from_slice(&served.get("/.well-known/gpc.json").body).expect("JSON")
    };
    let template =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/infra/pixel.yaml")).expect("a template");
    for (policy, promised) in [("record", false), ("anonymise", true), ("ignore", true)] {
        let said = said(policy);
        assert_eq!(said["gpc"], promised, "{policy}");
        // The day of the statement, and not of the question.
        let day = said["lastUpdate"].as_str().expect("a day");
        assert!(template.contains(&format!("\"lastUpdate\": \"{day}\"")), "{day}");
    }
}

#[test]
fn the_page_to_opt_out_promises_no_more_than_is_done() {
    let served = serve()
        .variable("PIXEL_PRIVACY_USER_ID", "plain")
        .variable("PIXEL_PRIVACY_IP", "full")
        .start();
    let page = |headers: &[(&str, &[u8])]| {
        let reply = send(served.address, &request("GET", "/opt-out", headers));
        String::from_utf8_lossy(&reply.body).into_owned()
    };
    let cookie: (&str, &[u8]) = ("Cookie", b"pixel-opt-out=1");
    let https: (&str, &[u8]) = ("X-Forwarded-Proto", b"https");
    assert!(page(&[https]).contains("This browser is counted."));
    assert!(!page(&[https]).contains("names you"));
    // A cookie that no other site's page sends keeps nobody from being counted there.
    let limit = "other sites";
    assert!(
        page(&[]).contains(limit) && page(&[cookie]).contains(limit),
        "{}",
        page(&[cookie])
    );
    assert!(!page(&[https]).contains(limit) && !page(&[cookie, https]).contains(limit));
}

#[test]
fn an_opt_out_outlives_the_stage_and_the_switch_stops_everything() {
    let stage = serve()
        .argument("--ingress=rest-proxy")
        .variable("PIXEL_CODE_KEYS", KEY);
    let served = stage.clone().start();
    let mail = personal(1);
    let form = request(
        "POST",
        &format!("/opt-out/{mail}"),
        &[("Content-Length", b"0"), OWN_PAGE],
    );
    let opted = send(served.address, &form);
    assert_eq!(opted.status, 303);
    served.signal("TERM");
    served.ended();
    let served = stage.clone().start();
    let outcome = |address, path: &str| {
        let reply = send(address, &request("GET", path, &[]));
        (reply.status, reply.header("x-pixel").unwrap_or_default().to_owned())
    };
    assert_eq!(
        outcome(served.address, &format!("/pixel/{mail}.gif")),
        (200, "ignored; reason=opted_out".to_owned())
    );
    served.signal("TERM");
    served.ended();
    let served = stage.variable("PIXEL_PRIVACY_RECORD", "off").start();
    assert_eq!(
        outcome(served.address, "/pixel/mail-2.gif"),
        (200, "ignored; reason=recording_off".to_owned())
    );
    assert_eq!(served.documents().len(), 0);
}

#[test]
fn an_index_remembers_who_has_opted_out_for_every_server() {
    matrix::each(|subject| {
        let index = Index::new(subject, "opted");
        // Who writes events may not make other indices.
        let destination = subject.destination(&index.name);
        let mut stage = serve()
            .to(&destination)
            .argument("--ingress=rest-proxy")
            .variable("PIXEL_CODE_KEYS", KEY);
        for (name, value) in subject.variables() {
            stage = stage.variable(name, &value);
        }
        let (first, second) = (stage.clone().start(), stage.clone());
        let ask = |address, method: &str, path: &str| {
            let reply = send(address, &request(method, path, &[("Content-Length", b"0"), OWN_PAGE]));
            (reply.status, reply.header("x-pixel").unwrap_or_default().to_owned())
        };
        let out = (200, "ignored; reason=opted_out".to_owned());
        let mail = personal(1);
        let code = format!("/opt-out/{mail}");
        assert_eq!(ask(first.address, "POST", &code).0, 303, "{}", subject.name);
        let pixel = &format!("/pixel/{mail}.gif");
        assert_eq!(ask(first.address, "GET", pixel), out, "{}", subject.name);
        // What a URL would lose is no code, or the index itself would be deleted.
        for nothing in ["%2E%2E?in", "..?in", "%2e?in", "%2E%2E", &"x".repeat(257)] {
            let reply = ask(first.address, "POST", &format!("/opt-out/{nothing}"));
            assert_eq!(reply.0, 404, "{}: {nothing}", subject.name);
        }
        // Another server of the same index knows it from the start.
        let second = second.start();
        // From a busy index a little later.
        wait_for("the other server to know it", || {
            (ask(second.address, "GET", pixel) == out).then_some(())
        });
        assert_eq!(
            ask(second.address, "POST", &format!("{code}?in")).0,
            303,
            "{}",
            subject.name
        );
        assert_ne!(ask(second.address, "GET", pixel), out, "{}", subject.name);
        let third = stage.start();
        assert_ne!(ask(third.address, "GET", pixel), out, "{}", subject.name);
    });
}

#[test]
fn a_queue_remembers_nobody_and_says_so() {
    let stage = serve()
        .to("sqs+http://127.0.0.1:9/000000000000/p")
        .variable("PIXEL_CODE_KEYS", KEY)
        .start();
    let post = |code: &str| {
        let form = request(
            "POST",
            &format!("/opt-out/{code}"),
            &[("Content-Length", b"0"), OWN_PAGE],
        );
        send(stage.address, &form).status
    };
    assert_eq!((post(&personal(1)), post("mail-1")), (503, 303));
}
