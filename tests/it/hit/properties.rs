//! What holds for every payload and every visitor, tried on arbitrary ones.

use pixel::config::Config;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use pixel::hit::answer;
use pixel::hit::answer::Answer;
use pixel::hit::enrich::{EnrichContext, Enriched};
use pixel::hit::event::{Event, Policy};
use pixel::hit::pixel::{GIF, PNG};
use pixel::hit::privacy::redact::{Cleaner, is_clean_pair};
use pixel::hit::privacy::{AddressPolicy, Key, UserPolicy, clean_url, is_secret, names_person};
use pixel::hit::read::{Hit, RequestContext, find_route};
use pixel::hit::request::http_request::HttpRequest;
use pixel::hit::request::{Ingress, Pairs, Request};
use pixel::server::gateway::payload;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

/// Cases of one property; cheap ones have more.
const CASES: u32 = 300;

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        cases: count,
        // A failure is told with its smallest case; files of seeds would be left behind in the source tree.
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_700_000_000_123).expect("a time")
}

/// Names and values that mean something in one of the payloads.
const WORDS: [&str; 62] = [
    "params",
    "querystring",
    "header",
    "path",
    "stage-variables",
    "context",
    "body-json",
    "source-ip",
    "http-method",
    "resource-path",
    "extended-request-id",
    "request-time-epoch",
    "requestContext",
    "version",
    "1.0",
    "2.0",
    "http",
    "method",
    "httpMethod",
    "resource",
    "rawPath",
    "rawQueryString",
    "headers",
    "multiValueHeaders",
    "queryStringParameters",
    "multiValueQueryStringParameters",
    "pathParameters",
    "stageVariables",
    "identity",
    "sourceIp",
    "elb",
    "targetGroupArn",
    "cookies",
    "body",
    "isBase64Encoded",
    "timeEpoch",
    "requestTimeEpoch",
    "domainName",
    "x.lambda-url.eu-west-1.on.aws",
    "GET",
    "HEAD",
    "OPTIONS",
    "POST",
    "/pixel.gif",
    "/pixel.png",
    "/image/a.png",
    "/pixel/{code}",
    "/{proxy+}",
    "{code}",
    "code",
    "a=1&b=%ff&c",
    "203.0.113.9",
    "x-forwarded-for",
    "user-agent",
    "ELB-HealthChecker/2.0",
    "url",
    "https://me:pw@shop.example/?token=1#a=b",
    "1700000000123",
    "-1",
    "99999999999999999999",
    "AA==",
    "\u{0}\u{1b}\u{fffd}",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![3 => select(&WORDS[..]).prop_map(ToOwned::to_owned), 1 => any::<String>()]
}

/// Any JSON, rich in what the payloads are made of.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            1 => vec(inner.clone(), 0..6).prop_map(Value::from),
            3 => vec((word(), inner), 0..8).prop_map(|members| members.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

/// A document of the right shape with anything in its places.
fn shaped_document() -> impl Strategy<Value = Value> {
    let members = || vec((word(), json_value()), 0..4).prop_map(|members| members.into_iter().collect::<Map<_, _>>());
    let marks = select(vec![
        json!({}),
        json!({"version": "2.0"}),
        json!({"requestContext": {"elb": {"targetGroupArn": "a"}}, "httpMethod": "GET", "path": "/pixel.gif"}),
        json!({"requestContext": {"http": {"method": "GET", "path": "/pixel.gif"}}, "version": "2.0"}),
        json!({"requestContext": {"identity": {"sourceIp": "203.0.113.9"}}, "httpMethod": "GET", "path": "/pixel.gif"}),
    ]);
    (members(), members(), members(), members(), members(), marks).prop_map(
        |(query, headers, context, top, other, marks)| {
            let mut document = json!({
                "params": {"querystring": query.clone(), "header": headers.clone(), "path": other},
                "context": context,
                "queryStringParameters": query,
                "headers": headers,
            });
            for (name, value) in top.into_iter().chain(marks.as_object().cloned().unwrap_or_default()) {
                document[name] = value;
            }
            document
        },
    )
}

/// Whether the payload is an event of another service, by the marks that AWS documents.
fn is_foreign(payload: &Value) -> bool {
    let has = |name: &str| payload.get(name).is_some_and(|value| !value.is_null());
    has("Records") || has("detail-type") || has("awslogs") || has("ResponseURL") && has("RequestType")
}

fn foreign_event() -> impl Strategy<Value = Value> {
    let mark = select(vec!["Records", "detail-type", "awslogs", "ResponseURL", "RequestType"]);
    (vec((mark, json_value()), 1..3), shaped_document()).prop_map(|(marks, mut document)| {
        for (name, value) in marks {
            document[name] = value;
        }
        document
    })
}

/// The reply holds the image, or nothing where nothing may be.
fn check_reply(reply: &str, without_body: bool) {
    let reply: Value = serde_json::from_str(reply).expect("a reply is JSON");
    let encoded = match &reply {
        Value::String(encoded) => encoded.as_str(),
        Value::Object(members) => {
            let body = members.get("body").and_then(Value::as_str).unwrap_or_default();
            if body.is_empty() {
                assert!(without_body || members["statusCode"] == 204, "no body: {reply}");
                return;
            }
            assert_eq!(members["isBase64Encoded"], true, "{reply}");
            body
        }
        other => panic!("neither a text nor an object: {other}"),
    };
    let image = STANDARD.decode(encoded).expect("the image is base64");
    assert!(image == GIF || image == PNG, "{reply}");
}

/// Answers, and makes the event of what was accepted; returns whether the payload was refused.
fn check_answer(payload: &[u8]) -> bool {
    match answer::answer(
        payload,
        &Config {
            cors_origin: Some("*".to_owned()),
            ..Config::default()
        }
        .settings(),
    ) {
        Answer::Accepted { reply, request } => {
            check_reply(&reply, request.method == "HEAD");
            check_event(&Hit::read(*request, &circumstances(1)), &Policy::default());
            false
        }
        Answer::Ignored { reply, .. } => {
            let head = String::from_utf8_lossy(payload)
                .to_ascii_uppercase()
                .contains("\"HEAD\"");
            check_reply(&reply, head);
            false
        }
        Answer::Refused(_) => true,
    }
}

proptest! {
    #![proptest_config(cases(CASES))]

    #[test]
    fn any_json_is_answered_with_the_image(payload in prop_oneof![json_value(), shaped_document(), foreign_event()]) {
        prop_assert_eq!(check_answer(payload.to_string().as_bytes()), is_foreign(&payload));
    }

    #[test]
    fn broken_json_is_answered_with_the_image(document in shaped_document(), cut in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = document.to_string().into_bytes();
        let place = cut.index(bytes.len());
        prop_assert!(!check_answer(&bytes[..place]));
        bytes[place] = byte;
        check_answer(&bytes);
    }

    #[test]
    fn any_bytes_are_answered_with_the_image(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(!check_answer(&bytes));
    }
}

#[test]
fn deep_json_is_answered_with_the_image() {
    for (open, close) in [
        ("[", "]"),
        ("{\"a\":", "}"),
        ("{\"body-json\":", "}"),
        ("{\"context\":", "}"),
    ] {
        for depth in [100, 127, 128, 129, 100_000] {
            let payload = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            assert!(!check_answer(payload.as_bytes()), "{open} {depth} times");
            let body = format!("{{\"context\":{{\"resource-path\":\"/pixel\"}},\"body-json\":{payload}}}");
            assert!(!check_answer(body.as_bytes()), "{open} {depth} times in the body");
        }
    }
}

// The stage's payload and its decoding are inverse to each other.

#[derive(Clone, Debug)]
struct Visit {
    resource: &'static str,
    code: Option<String>,
    arrived: HttpRequest,
    query: Pairs,
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn pairs(most: usize) -> impl Strategy<Value = Pairs> {
    // Names from few, so that they repeat.
    let name = prop_oneof![
        select(vec!["a", "b", "user-agent", "host"]).prop_map(ToOwned::to_owned),
        any::<String>()
    ];
    vec((name, any::<String>()), 0..most)
}

const WITHOUT_CODE: [&str; 3] = ["/pixel", "/pixel.gif", "/pixel.png"];

fn place() -> impl Strategy<Value = (&'static str, Option<String>)> {
    let code = any::<String>().prop_filter("a code is one segment of the path", |code| {
        !code.is_empty() && !code.contains('/') && !WITHOUT_CODE.contains(&format!("/{code}").as_str())
    });
    prop_oneof![
        select(&WITHOUT_CODE[..]).prop_map(|resource| (resource, None)),
        (select(vec!["/pixel/{code}", "/image/{code}"]), code).prop_map(|(resource, code)| (resource, Some(code))),
    ]
}

prop_compose! {
    fn visit()(
        (resource, code) in place(),
        stage in "[a-z]{0,5}",
        method in "[A-Z]{1,8}",
        query in pairs(8),
        headers in pairs(8),
        peer in option::of(any::<IpAddr>()),
        id in "[A-Za-z0-9=-]{1,40}",
    ) -> Visit {
        let prefix = if stage.is_empty() { stage } else { format!("/{stage}") };
        let path = resource.replace("{code}", &encoded(code.as_deref().unwrap_or_default()));
        let written: Vec<_> = query.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
        let arrived = HttpRequest {
            method,
            path: prefix + &path,
            query: written.join("&"),
            headers,
            peer,
            id,
            time: now(),
            body: None,
        };
        Visit { resource, code, arrived, query }
    }
}

/// What is left of repeated names: the last value of each, sorted by name.
fn last_values(pairs: &Pairs) -> Pairs {
    pairs.iter().cloned().collect::<BTreeMap<_, _>>().into_iter().collect()
}

fn lower_case(mut headers: Pairs) -> Pairs {
    for (name, _) in &mut headers {
        name.make_ascii_lowercase();
    }
    headers.sort_by(|left, right| left.0.cmp(&right.0));
    headers
}

fn check_round_trip(visit: &Visit) {
    let Visit {
        resource,
        code,
        arrived,
        query,
    } = visit;
    let payload = payload(Ingress::Passthrough, arrived).expect("it is a path of the pixel");
    let request = Request::decode(&payload).expect("the stage makes what can be decoded");
    let header = |name: &str| pixel::hit::request::last(&arrived.headers, name).filter(|value| !value.is_empty());
    let peer = arrived.peer.map(|address| address.to_canonical().to_string());
    assert_eq!(request.ingress, Ingress::Passthrough);
    assert_eq!(request.method, arrived.method);
    let placed = resource.strip_suffix("{code}").unwrap_or(resource);
    assert_eq!(request.path, format!("{placed}{}", code.as_deref().unwrap_or_default()));
    assert_eq!(request.query, last_values(query));
    assert_eq!(request.headers, lower_case(last_values(&arrived.headers)));
    assert_eq!(
        pixel::hit::request::last(&request.path_parameters, "code"),
        code.as_deref()
    );
    assert_eq!(request.context("source-ip"), peer.as_deref());
    assert_eq!(request.context("resource-path"), Some(*resource));
    assert_eq!(request.context("extended-request-id"), Some(arrived.id.as_str()));
    assert_eq!(request.context("user-agent"), header("user-agent"));
    assert_eq!((request.body, request.oddities), (None, Vec::new()));
}

/// What is left of a visitor after the ingress: everything but what the README's table says that AWS drops.
fn check_visitor(ingress: Ingress, visit: &Visit) {
    let Visit { arrived, query, .. } = visit;
    let payload = payload(ingress, arrived).expect("it is a path of the pixel");
    assert!(!check_answer(&payload));
    let request = Request::decode(&payload).expect("the stage makes what can be decoded");
    assert_eq!(request.ingress, ingress);
    assert_eq!(request.method, arrived.method, "{ingress}");
    let path = match ingress {
        Ingress::Passthrough => {
            let code = visit.code.as_deref().unwrap_or_default();
            visit.resource.replace("{code}", code)
        }
        _ => percent_decode_str(&arrived.path).decode_utf8_lossy().into_owned(),
    };
    assert_eq!(request.path, path, "{ingress}");
    let only_last = matches!(ingress, Ingress::Passthrough | Ingress::Alb);
    let kept = if only_last {
        last_values(query)
    } else {
        by_name(query.clone())
    };
    assert_eq!(request.query, kept, "{ingress}");
    assert_eq!(request.headers, headers_after(ingress, arrived), "{ingress}");
    assert_eq!(
        (request.body.as_deref(), &request.stage_variables),
        (None, &Pairs::new()),
        "{ingress}"
    );

    let has_id = !matches!(ingress, Ingress::Alb | Ingress::AlbMultiValue);
    let id = has_id.then_some(arrived.id.as_str());
    assert_eq!(request.context("request-id"), id, "{ingress}");
    let circumstances = circumstances(0);
    let hit = Hit::read(request, &circumstances);
    // The one id that no visitor can choose is the REST API's.
    let (id, received) = match ingress {
        Ingress::Passthrough | Ingress::Rest => (&arrived.id, arrived.time),
        Ingress::Http | Ingress::FunctionUrl => (&circumstances.invocation, arrived.time),
        Ingress::Alb | Ingress::AlbMultiValue => (&circumstances.invocation, circumstances.now),
    };
    assert_eq!((&hit.id, hit.received), (id, received), "{ingress}");
    assert_eq!(
        hit.address,
        arrived.peer.map(|address| address.to_canonical()),
        "{ingress}"
    );
}

/// Sorted by their names; equal names keep their order.
fn by_name(mut pairs: Pairs) -> Pairs {
    pairs.sort_by(|left, right| left.0.cmp(&right.0));
    pairs
}

/// The headers as they come out of the ingress, names in lower case and sorted.
fn headers_after(ingress: Ingress, arrived: &HttpRequest) -> Pairs {
    let lowered = || {
        let lower = |(name, value): &(String, String)| (name.to_ascii_lowercase(), value.clone());
        arrived.headers.iter().map(lower).collect::<Pairs>()
    };
    let headers = match ingress {
        Ingress::Passthrough => last_values(&arrived.headers),
        Ingress::Rest => by_name(arrived.headers.clone()),
        Ingress::Http | Ingress::FunctionUrl => {
            let mut joined = BTreeMap::<String, Vec<String>>::new();
            for (name, value) in lowered() {
                joined.entry(name).or_default().push(value);
            }
            joined
                .into_iter()
                .map(|(name, values)| (name, values.join(",")))
                .collect()
        }
        Ingress::Alb | Ingress::AlbMultiValue => {
            // The load balancer names the peer in the last header of this name.
            let mut headers = lowered();
            let peer = arrived
                .peer
                .map(|address| address.to_canonical().to_string())
                .unwrap_or_default();
            match headers.iter_mut().rev().find(|(name, _)| name == "x-forwarded-for") {
                Some((_, chain)) => *chain = format!("{chain}, {peer}"),
                None => headers.push(("x-forwarded-for".to_owned(), peer)),
            }
            if ingress == Ingress::Alb {
                last_values(&headers)
            } else {
                headers
            }
        }
    };
    lower_case(headers)
}

proptest! {
    #![proptest_config(cases(CASES))]

    #[test]
    fn decoding_gives_back_what_the_visitor_sent(visit in visit()) {
        check_round_trip(&visit);
    }

    #[test]
    fn every_ingress_gives_back_the_visitor(visit in visit(), forwarded in option::of("[0-9a-f.:, ]{0,20}"), ingress in select(&Ingress::ALL[..])) {
        let mut visit = visit;
        visit.arrived.time -= TimeDelta::milliseconds(86_399_877);
        visit.arrived.headers.extend(forwarded.map(|text| ("X-Forwarded-For".to_owned(), text)));
        check_visitor(ingress, &visit);
    }

    #[test]
    fn no_route_panics(path in prop_oneof![any::<String>(), vec(select(vec!["/", "pixel", "image", ".png", ".gif", ".", "é", "%", ""]), 0..8).prop_map(|parts| parts.concat())]) {
        if let Some(found) = find_route(&path) {
            prop_assert!(found.code.is_none_or(|code| !code.is_empty()), "an empty code is no code");
        }
    }
}

// What is stored.

fn circumstances(trusted_hops: usize) -> RequestContext {
    RequestContext {
        now: now(),
        invocation: "8476a536-e9f4-11e8-9739-2dfe598c3fcd".to_owned(),
        trusted_hops,
    }
}

/// A text, sometimes much longer than what is kept, often of what is longer still in JSON.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => any::<String>(),
        2 => (select(vec!["\0", "\"", "é", "🙂", "x", "/?a=", "%41"]), 0..3000_usize).prop_map(|(piece, count)| piece.repeat(count)),
        1 => select(&WORDS[..]).prop_map(ToOwned::to_owned),
    ]
}

fn texts(names: &'static [&'static str], most: usize) -> impl Strategy<Value = Pairs> {
    let name = prop_oneof![2 => text(), 1 => select(names).prop_map(ToOwned::to_owned)];
    vec((name, text()), 0..most)
}

const PARAMETERS: [&str; 10] = [
    "url",
    "code",
    "action",
    "ref",
    "uid",
    "utm_source",
    "utm_medium",
    "utm_campaign",
    "utm_term",
    "utm_content",
];
const HEADERS: [&str; 4] = ["user-agent", "referer", "host", "accept"];
const CONTEXT: [&str; 5] = [
    "extended-request-id",
    "request-time-epoch",
    "resource-path",
    "user-agent",
    "domain-name",
];

/// Stands for every secret; it can be found in a document whatever was cut or escaped around it.
const SECRET: &str = "5ecret";
const SECRET_HEADERS: [&str; 8] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "x-api-key",
    "x-amz-security-token",
    "x-csrf-token",
    "set-cookie",
    "x-session-id",
];
const SECRET_PARAMETERS: [&str; 5] = ["api_key", "accessToken", "password", "X-Amz-Signature", "jwt"];
const SECRET_CONTEXT: [&str; 4] = ["api-key", "caller", "user-arn", "cognito-identity-id"];

/// An address that is not its own network, so that storing the network does not store it.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 3]>().prop_flat_map(|[a, b, c]| (101..=254_u8).prop_map(move |d| IpAddr::from([a, b, c, d]))),
        any::<[u16; 8]>().prop_map(|mut segments| {
            segments[0] |= 0x2000;
            segments[7] |= 0x1000;
            Ipv6Addr::from(segments).into()
        }),
    ]
}

#[derive(Clone, Debug)]
struct Case {
    hit: Hit,
    policy: Policy,
    addresses: Vec<IpAddr>,
}

prop_compose! {
    fn case()(
        ingress in select(&Ingress::ALL[..]),
        method in text(),
        path in text(),
        mut query in texts(&PARAMETERS, 12),
        mut headers in texts(&HEADERS, 12),
        path_parameters in texts(&["code"], 3),
        stage_variables in texts(&["index"], 3),
        mut context in texts(&CONTEXT, 8),
        many in select(vec![0_usize, 0, 150]),
        body in option::of(json_value()),
        addresses in vec(address(), 1..4),
        trusted_hops in 0..4_usize,
        secret in select(&SECRET_HEADERS[..]),
        parameter in select(&SECRET_PARAMETERS[..]),
        caller in select(&SECRET_CONTEXT[..]),
        address in select(vec![AddressPolicy::Shorten, AddressPolicy::Drop]),
        max_bytes in Policy::MIN_BYTES..65_536,
    ) -> Case {
        let pair = |name: &str, value: String| (name.to_owned(), value);
        let chain: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        headers.extend((0..many).map(|number| pair(&format!("x-{number}"), "v".repeat(number))));
        headers.push(pair("x-forwarded-for", chain.join(", ")));
        headers.push(pair("x-real-ip", chain[0].clone()));
        headers.push(pair(secret, format!("Bearer {SECRET}")));
        query.push(pair(parameter, SECRET.to_owned()));
        query.push(pair("dl", format!("https://me:{SECRET}@shop.example/?{parameter}={SECRET}&q=1")));
        context.push(pair("source-ip", chain.last().cloned().unwrap_or_default()));
        context.push(pair(caller, SECRET.to_owned()));
        let request = Request {
            ingress,
            method,
            path,
            query,
            headers,
            path_parameters,
            stage_variables,
            context,
            body: body.map(|body| body.to_string().into()),
            oddities: Vec::new(),
        };
        let hit = Hit::read(request, &circumstances(trusted_hops));
        Case { hit, policy: Policy { address, max_bytes, ..Policy::default() }, addresses }
    }
}

/// Makes the event and returns its document, which is JSON and no larger than the policy allows.
fn check_event(hit: &Hit, policy: &Policy) -> String {
    let Event { document, id, .. } = Event::new(hit, &Enriched::new(hit, EnrichContext::default()), policy, now());
    assert!(
        document.len() <= policy.max_bytes,
        "{} bytes, not {}",
        document.len(),
        policy.max_bytes
    );
    let event: Value = serde_json::from_str(&document).expect("a document is JSON");
    assert_eq!(event["event"]["id"], id.as_str());
    assert_eq!(event["date"], hit.received.timestamp_millis());
    document
}

/// The network of an address, by its bits.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::from((address.to_bits() & (u32::MAX << 8)).to_be_bytes()),
        IpAddr::V6(address) => IpAddr::from((address.to_bits() & (u128::MAX << 80)).to_be_bytes()),
    }
}

fn check_stored(case: &Case) {
    let Case { hit, policy, addresses } = case;
    let document = check_event(hit, policy);
    assert!(!document.contains(SECRET), "a secret is in {document}");
    for address in addresses {
        assert!(!document.contains(&address.to_string()), "{address} is in {document}");
    }
    let event: Value = serde_json::from_str(&document).expect("a document is JSON");
    let stored = event.pointer("/client/ip").and_then(Value::as_str);
    let expected = hit
        .address
        .filter(|_| policy.address == AddressPolicy::Shorten)
        .map(|address| network(address).to_string());
    assert_eq!(stored, expected.as_deref());
    assert!(
        hit.address.is_some_and(|address| addresses.contains(&address)),
        "the address is one that was given"
    );
}

proptest! {
    #![proptest_config(cases(CASES))]

    #[test]
    fn an_event_fits_and_keeps_secrets_out(case in case()) {
        check_stored(&case);
    }
}

// Texts with a query in them.

/// What the URLs are made of, put together in any order.
const PIECES: [&str; 12] = [
    "https",
    "://",
    "://me:pw@",
    "@",
    "/",
    "?",
    "?token=",
    "#",
    "&",
    "=",
    "&q=",
    "a",
];

proptest! {
    #![proptest_config(cases(20 * CASES))]

    #[test]
    fn cleaning_twice_is_cleaning_once(text in pieces()) {
        let once = clean_url(&text).into_owned();
        prop_assert!(!once.contains("://me:pw@"), "{:?} of {:?}", once, text);
        let twice = clean_url(&once).into_owned();
        prop_assert_eq!(twice, once, "of {:?}", text);
    }

    /// A pair that is said to be clean without a look at the whole is.
    #[test]
    fn a_clean_pair_is_clean_as_one_text(name in prop_oneof![3 => "[a-z_.:?&; ]{0,12}", 1 => pieces()], value in prop_oneof![1 => "[a-z0-9_.: ]{0,20}", 2 => pieces()]) {
        let cleaner = Cleaner {
            user: UserPolicy::Hash,
            key: Key::from_secret("a secret of the tests"),
            address: AddressPolicy::Shorten,
            own: vec!["192.0.2.7".to_owned()],
            anonymous: None,
        };
        let value = cleaner.clean(&value, &mut BTreeSet::new()).into_owned();
        if is_clean_pair(&name, &value) && !is_secret(&name) && !names_person(&name) {
            let pair = format!("{name}={value}");
            let cleaned = cleaner.clean(&pair, &mut BTreeSet::new()).into_owned();
            prop_assert_eq!(cleaned, pair);
        }
    }
}

fn pieces() -> impl Strategy<Value = String> {
    prop_oneof![3 => vec(select(&PIECES[..]), 0..10).prop_map(|pieces| pieces.concat()), 1 => any::<String>()]
}
