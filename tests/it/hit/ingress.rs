//! Every way in: the same visit gives the same event, AWS's own types read what we make, and whatever the index does, the
//! answer is the image.

use aws_lambda_events::alb::{AlbTargetGroupRequest, AlbTargetGroupResponse};
use aws_lambda_events::apigw::{
    ApiGatewayProxyRequest, ApiGatewayProxyResponse, ApiGatewayV2httpRequest, ApiGatewayV2httpResponse,
};
use chrono::DateTime;
use pixel::config::Config;
use pixel::hit::answer;
use pixel::hit::answer::Answer;
use pixel::hit::outcome::Ignored;
use pixel::hit::pixel::{GIF, Image, PNG, Pixel, Status};
use pixel::hit::read::RequestContext;
use pixel::hit::request::Ingress;
use pixel::hit::request::http_request::HttpRequest;
use pixel::hit::script;
use pixel::hit::settings::Lookups;
use pixel::server::gateway::{HttpAnswer, http_answer, payload};
use serde_json::{Value, json};

use crate::function::capture::{
    self, ORDERS, SECRET, Timing, Weather, assert_discreet_and_sound, only_hit, side_by_side, stores, to, weathers,
};
use crate::support::index_stub::{IndexStub, Recorded};
use crate::support::lambda_rig::Rig;
use crate::support::serving;

const PROXIES: [Ingress; 5] = [
    Ingress::Rest,
    Ingress::Http,
    Ingress::FunctionUrl,
    Ingress::Alb,
    Ingress::AlbMultiValue,
];

fn visit(method: &str, path: &str, query: &str) -> HttpRequest {
    let headers = [
        ("Host", "pixel.example"),
        ("User-Agent", "Mozilla/5.0 (\"it's\"; \\)"),
        ("Referer", "https://shop.example/a?b=c"),
        ("X-Forwarded-For", "6.6.6.6"),
        ("Cookie", "secret=1"),
    ];
    HttpRequest {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        peer: Some([198, 51, 100, 7].into()),
        id: "JKJaXmPLvHcESHA=".to_owned(),
        time: DateTime::from_timestamp_millis(1_769_903_999_999).expect("a time"),
        body: None,
    }
}

/// The event of a visit.
fn event(ingress: Ingress, arrived: &HttpRequest) -> Value {
    let payload = payload(ingress, arrived).expect("a path of the pixel");
    let Answer::Accepted { request, .. } = answer::answer(&payload, &Config::default().settings()) else {
        panic!("{ingress}: not accepted");
    };
    let circumstances = RequestContext {
        now: arrived.time,
        invocation: arrived.id.clone(),
        trusted_hops: 0,
    };
    let event = answer::build_event(
        *request,
        &circumstances,
        &Config::default().settings(),
        &Lookups::none(),
    );
    serde_json::from_str(&event.document).expect("an event is JSON")
}

/// An event without what tells the ingresses apart: what the README's table says, and what AWS says of itself.
fn common(mut event: Value) -> Value {
    let members = event.as_object_mut().expect("an event is an object");
    members.remove("context");
    members["event"].as_object_mut().expect("an object").remove("ingress");
    members["params"].as_object_mut().expect("an object").remove("path");
    event
}

#[test]
fn the_same_visit_gives_the_same_event() {
    let queries = [
        "",
        "utm_source=news&utm_medium=mail&userid=u-1&url=https%3A%2F%2Fshop.example%2Fb%3Ftoken%3D1",
        "a=it%27s&b=%22quoted%22&c=%5C&d=x+y%20z&e=%C3%A9%F0%9F%8E%AF&f=%00%0A&g=%ff",
        "empty&also=&=nameless&token=1",
        "z=1&a=2&m=3",
    ];
    for path in ["/pixel.gif", "/prod/pixel/summer.gif", "/image/summer%20%C3%A9.png"] {
        for query in queries {
            let arrived = visit("GET", path, query);
            let expected = common(event(Ingress::Passthrough, &arrived));
            for ingress in PROXIES {
                let found = common(event(ingress, &arrived));
                assert_eq!(found, expected, "{ingress} {path}?{query}");
            }
        }
    }
}

#[test]
fn repeated_parameters_are_kept_in_order_where_aws_keeps_them() {
    let arrived = visit("GET", "/pixel.gif", "b=2&a=1&b=3&a=0&b=1");
    let all = json!(["a=1", "a=0", "b=2", "b=3", "b=1"]);
    let last = json!(["a=0", "b=1"]);
    for ingress in Ingress::ALL {
        let expected = if matches!(ingress, Ingress::Passthrough | Ingress::Alb) {
            &last
        } else {
            &all
        };
        assert_eq!(&event(ingress, &arrived)["labels"], expected, "{ingress}");
    }
}

/// What a visitor sees of a request.
fn seen(ingress: Ingress, arrived: &HttpRequest) -> (HttpAnswer, Option<Ignored>) {
    let payload = payload(ingress, arrived).expect("a proxy takes every path");
    match answer::answer(
        &payload,
        &Config {
            cors_origin: Some("https://shop.example".to_owned()),
            ..Config::default()
        }
        .settings(),
    ) {
        Answer::Accepted { reply, .. } => (http_answer(ingress, arrived, &reply, None), None),
        Answer::Ignored { reply, why, .. } => (http_answer(ingress, arrived, &reply, None), Some(why)),
        Answer::Refused(error) => panic!("{ingress}: {error}"),
    }
}

#[test]
fn every_method_and_path_is_answered() {
    type Case = (&'static str, &'static str, u16, &'static [u8], Option<Ignored>);
    let cases: [Case; 10] = [
        ("GET", "/pixel", 200, &GIF, None),
        ("GET", "/prod/pixel.png", 200, &PNG, None),
        ("GET", "/image/abc.png", 200, &PNG, None),
        ("HEAD", "/pixel.gif", 200, b"", None),
        ("OPTIONS", "/pixel.gif", 204, b"", Some(Ignored::Preflight)),
        ("DELETE", "/pixel.gif", 405, &GIF, Some(Ignored::WrongMethod)),
        ("POST", "/prod/pixel", 200, &GIF, None),
        ("POST", "/pixel.gif", 405, &GIF, Some(Ignored::WrongMethod)),
        ("POST", "/image/abc.png", 405, &PNG, Some(Ignored::WrongMethod)),
        ("GET", "/favicon.ico", 404, &GIF, Some(Ignored::UnknownPath)),
    ];
    for ingress in PROXIES {
        for (method, path, status, body, ignored) in cases {
            let (answer, why) = seen(ingress, &visit(method, path, ""));
            let case = format!("{ingress}: {method} {path}");
            assert_eq!(
                (answer.status, answer.body.as_slice(), why),
                (status, body, ignored),
                "{case}"
            );
            let header = |wanted: &str| {
                let found = answer
                    .headers
                    .iter()
                    .find(|(name, _)| name.eq_ignore_ascii_case(wanted));
                found.map(|(_, value)| value.as_str())
            };
            assert_eq!(
                header("access-control-allow-origin"),
                Some("https://shop.example"),
                "{case}"
            );
            assert_eq!(header("cross-origin-resource-policy"), Some("cross-origin"), "{case}");
            assert_eq!(header("content-type").is_some(), status != 204, "{case}");
            assert!(
                header("cache-control").is_some_and(|value| value.contains("no-store")),
                "{case}"
            );
            let explained = ignored.map_or("accepted".to_owned(), |why| format!("ignored; reason={}", why.name()));
            assert_eq!(header("x-pixel"), Some(explained.as_str()), "{case}");
        }
    }
}

#[test]
fn the_script_is_served_through_every_ingress() {
    for ingress in Ingress::ALL {
        for path in ["/pixel.js", "/prod/pixel.js"] {
            let case = format!("{ingress}: {path}");
            let header = |answer: &HttpAnswer, wanted: &str| {
                let found = answer
                    .headers
                    .iter()
                    .find(|(name, _)| name.eq_ignore_ascii_case(wanted));
                found.map(|(_, value)| value.clone())
            };
            let (whole, why) = seen(ingress, &visit("GET", path, "code=spring"));
            assert_eq!((whole.status, why), (200, Some(Ignored::Script)), "{case}");
            assert_eq!(whole.body, script::text().as_bytes(), "{case}");
            for (name, value) in [
                ("content-type", script::MEDIA_TYPE),
                ("cache-control", script::CACHE_CONTROL),
                ("etag", script::etag()),
                ("cross-origin-resource-policy", "cross-origin"),
            ] {
                assert_eq!(header(&whole, name).as_deref(), Some(value), "{case}: {name}");
            }
            let (head, _) = seen(ingress, &visit("HEAD", path, ""));
            assert_eq!((head.status, head.body.len()), (200, 0), "{case}");

            let mut again = visit("GET", path, "");
            again
                .headers
                .push(("If-None-Match".to_owned(), script::etag().to_owned()));
            let (known, _) = seen(ingress, &again);
            assert_eq!((known.status, known.body.len()), (304, 0), "{case}");
            assert_eq!(header(&known, "etag").as_deref(), Some(script::etag()), "{case}");
            assert_eq!(header(&known, "content-type"), None, "{case}");
        }
    }
}

/// An owner's code may be called like the script: what a non-proxy API declares as an image is one.
#[test]
fn only_its_own_resource_of_a_non_proxy_api_is_the_script() {
    let payload = json!({
        "params": {"path": {"code": "pixel.js"}},
        "context": {"http-method": "GET", "resource-path": "/pixel/{code}"},
    });
    let Answer::Accepted { reply, request } =
        answer::answer(payload.to_string().as_bytes(), &Config::default().settings())
    else {
        panic!("it is a hit");
    };
    assert_eq!(
        reply,
        Ingress::Passthrough.reply(&Pixel::new(Status::Ok, Image::Gif, "accepted"))
    );
    assert_eq!(request.path, "/pixel/pixel.js");
}

#[test]
fn a_beacon_gives_the_event_of_its_query() {
    let query = "action=sign.up&url=https%3A%2F%2Fshop.example%2Fb&referrer=https%3A%2F%2Fsearch.example%2F&title=B%20%26%20b&language=de-CH&screen=compact&utm_source=mail";
    for ingress in Ingress::ALL {
        let found = event(ingress, &visit("POST", "/prod/pixel", query));
        for (pointer, expected) in [
            ("/event/action", "sign.up"),
            ("/url/full", "https://shop.example/b"),
            ("/page/title", "B & b"),
            ("/browser/language", "de-CH"),
            ("/browser/screen", "compact"),
            ("/campaign/source", "mail"),
            ("/http/request/method", "POST"),
        ] {
            let value = found.pointer(pointer).and_then(Value::as_str);
            assert_eq!(value, Some(expected), "{ingress}: {pointer}");
        }
    }
}

#[test]
fn what_is_no_language_and_no_screen_class_is_no_field() {
    for query in [
        "language=de%20DE",
        "language=<script>",
        "screen=1920x1080",
        "screen=",
        "language=ààà",
    ] {
        let found = event(Ingress::Http, &visit("GET", "/pixel.gif", query));
        assert_eq!(found.get("browser"), None, "{query}");
        assert_eq!(found["labels"].as_array().map(Vec::len), Some(1), "{query}");
    }
}

#[test]
fn a_load_balancers_health_check_is_answered_and_not_counted() {
    for (ingress, ignored) in [
        (Ingress::Alb, Some(Ignored::HealthCheck)),
        (Ingress::AlbMultiValue, Some(Ignored::HealthCheck)),
        // Through the others it is a visitor's claim.
        (Ingress::Http, None),
    ] {
        let mut check = visit("GET", "/pixel.gif", "");
        check.headers = vec![("User-Agent".to_owned(), "ELB-HealthChecker/2.0".to_owned())];
        let (answer, why) = seen(ingress, &check);
        assert_eq!(
            (answer.status, answer.body.as_slice(), why),
            (200, GIF.as_slice(), ignored),
            "{ingress}"
        );
    }
}

#[test]
fn awss_own_types_read_the_payloads_and_the_replies() {
    let arrived = visit("GET", "/pixel/abc.gif", "a=1&a=2&b=%C3%A9");
    let made = |ingress| payload(ingress, &arrived).expect("a payload");
    let rest: ApiGatewayProxyRequest = serde_json::from_slice(&made(Ingress::Rest)).expect("payload 1.0");
    assert_eq!(rest.multi_value_query_string_parameters.all("a"), Some(vec!["1", "2"]));
    assert_eq!(rest.query_string_parameters.first("b"), Some("é"));
    for ingress in [Ingress::Http, Ingress::FunctionUrl] {
        let http: ApiGatewayV2httpRequest = serde_json::from_slice(&made(ingress)).expect("payload 2.0");
        assert_eq!(http.raw_query_string.as_deref(), Some("a=1&a=2&b=%C3%A9"));
        assert_eq!(http.raw_path.as_deref(), Some("/pixel/abc.gif"));
    }
    for ingress in [Ingress::Alb, Ingress::AlbMultiValue] {
        let alb: AlbTargetGroupRequest = serde_json::from_slice(&made(ingress)).expect("a load balancer's payload");
        assert!(alb.request_context.elb.target_group_arn.is_some(), "{ingress}");
    }
    let reply = |ingress: Ingress| match answer::answer(&made(ingress), &Config::default().settings()) {
        Answer::Accepted { reply, .. } => reply,
        other => panic!("{ingress}: {other:?}"),
    };
    let rest: ApiGatewayProxyResponse = serde_json::from_str(&reply(Ingress::Rest)).expect("a reply 1.0");
    let http: ApiGatewayV2httpResponse =
        serde_json::from_value(with_cookies(&reply(Ingress::Http))).expect("a reply 2.0");
    let alb: AlbTargetGroupResponse = serde_json::from_str(&reply(Ingress::Alb)).expect("a load balancer's reply");
    let multi: AlbTargetGroupResponse = serde_json::from_str(&reply(Ingress::AlbMultiValue)).expect("the same");
    assert!(rest.is_base64_encoded && http.is_base64_encoded && alb.is_base64_encoded && multi.is_base64_encoded);
    assert!(alb.multi_value_headers.is_empty() && multi.headers.is_empty());
}

/// A load balancer passes the description on as the status line.
#[test]
fn a_load_balancer_is_given_the_status_that_it_is_told() {
    for multi_value in [false, true] {
        let ingress = if multi_value {
            Ingress::AlbMultiValue
        } else {
            Ingress::Alb
        };
        let told = |reply: &str| {
            let reply: Value = serde_json::from_str(reply).expect("a reply is JSON");
            let line = reply["statusDescription"].as_str().expect("a text").to_owned();
            let (code, phrase) = line.split_once(' ').expect("a number and a phrase");
            assert_eq!(code, reply["statusCode"].to_string(), "{reply}");
            assert!(!phrase.trim().is_empty(), "{reply}");
            line
        };
        for status in Status::ALL {
            let line = told(&ingress.reply(&Pixel::new(status, Image::Gif, "")));
            assert_eq!(line, status.line());
        }
        let mut known = visit("GET", "/pixel.js", "");
        known
            .headers
            .push(("If-None-Match".to_owned(), script::etag().to_owned()));
        let payload = payload(ingress, &known).expect("a payload");
        let Answer::Ignored { reply, .. } = answer::answer(&payload, &Config::default().settings()) else {
            panic!("the script is no hit");
        };
        assert_eq!(told(&reply), "304 Not Modified");
    }
}

/// The crate's type wants a member that API Gateway does not.
fn with_cookies(reply: &str) -> Value {
    let mut reply: Value = serde_json::from_str(reply).expect("a reply is JSON");
    reply["cookies"] = json!([]);
    reply
}

/// API Gateway answers 502 to a reply of payload 1.0 with any other key.
#[test]
fn a_reply_has_only_the_keys_of_its_shape() {
    let known = ["statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded"];
    for (method, path) in [
        ("GET", "/pixel"),
        ("HEAD", "/pixel"),
        ("OPTIONS", "/pixel"),
        ("PUT", "/x"),
    ] {
        let payload = payload(Ingress::Rest, &visit(method, path, "")).expect("a payload");
        let reply = match answer::answer(
            &payload,
            &Config {
                cors_origin: Some("*".to_owned()),
                ..Config::default()
            }
            .settings(),
        ) {
            Answer::Accepted { reply, .. } | Answer::Ignored { reply, .. } => reply,
            Answer::Refused(error) => panic!("{error}"),
        };
        let reply: Value = serde_json::from_str(&reply).expect("a reply is JSON");
        let keys = reply.as_object().expect("an object").keys();
        let unknown: Vec<_> = keys.filter(|key| !known.contains(&key.as_str())).collect();
        assert_eq!(unknown, Vec::<&String>::new(), "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_index_does_every_ingress_answers_the_image() {
    let cases = PROXIES.into_iter().flat_map(|ingress| {
        ORDERS.into_iter().flat_map(move |order| {
            weathers()
                .into_iter()
                .map(move |weather| check_weather(ingress, order, weather))
        })
    });
    side_by_side(cases).await;
}

async fn check_weather(ingress: Ingress, order: &'static str, weather: Weather) {
    let case = &format!("{ingress}, {order}, {}", weather.name);
    let failing = weather.outcome == "failed";
    let timing = if failing { Timing(150, 450) } else { weather.timing };
    let stub = IndexStub::start().await;
    stub.behave(weather.behaviour.clone());
    let rig = Rig::start(to(&stub, order, timing)).await;
    let query = format!("utm_source=news&token={SECRET}");
    let mut arrived = visit("GET", "/pixel/summer.gif", &query);
    for name in ["Cookie", "Authorization", "X-Api-Key"] {
        arrived.headers.push((name.to_owned(), SECRET.to_owned()));
    }
    let invocation = rig.invoke(payload(ingress, &arrived).expect("a payload")).await;
    let reply = String::from_utf8_lossy(invocation.reply()).into_owned();
    let answer = http_answer(ingress, &arrived, &reply, None);
    assert_eq!((answer.status, answer.body.as_slice()), (200, GIF.as_slice()), "{case}");
    let line = only_hit(case, &rig);
    assert_eq!(line["outcome"], weather.outcome, "{case}: {line:#}");
    assert_eq!(line.get("event").is_some(), failing, "{case}: {line:#}");
    assert!(
        invocation.billed < timing.budget() + capture::SLACK,
        "{case}: {:?} billed",
        invocation.billed
    );
    weather.assert_waited(case, order, &invocation);

    let id = line["event_id"].as_str().expect("a hit has an id");
    let found: Vec<_> = stub.documents().into_keys().collect();
    weather.assert_stored(case, &found, id);
    let logged = line.get("event").cloned();
    for event in stores(&stub).iter().map(Recorded::json).chain(logged) {
        assert_event_of_visit(case, ingress, &event);
    }
    assert_discreet_and_sound(case, &rig, &stub);
}

/// The event of the visit of [`check_weather`], stored or logged.
fn assert_event_of_visit(case: &str, ingress: Ingress, event: &Value) {
    for (place, value) in [
        ("/event/ingress", json!(ingress.name())),
        ("/pixel/code", json!("summer")),
        ("/client/ip", json!("198.51.100.0")),
        ("/campaign/source", json!("news")),
        ("/labels", json!(["token=[redacted]", "utm_source=news"])),
    ] {
        assert_eq!(event.pointer(place), Some(&value), "{case}: {place} of {event:#}");
    }
}

// The local stage.

#[test]
fn the_stage_serves_every_ingress() {
    for ingress in Ingress::ALL {
        let served = serving::serve().argument("--ingress").argument(ingress.name()).start();
        for (path, image) in [
            ("/pixel/summer.gif?utm_source=news", GIF.as_slice()),
            ("/image/autumn.png", &PNG),
        ] {
            let reply = served.get(path);
            assert_eq!((reply.status, reply.body.as_slice()), (200, image), "{ingress}: {path}");
        }
        let stored = serving::wait_for("both events", || {
            Some(served.documents()).filter(|documents| documents.len() == 2)
        });
        for (document, code) in stored.iter().zip(["summer", "autumn.png"]) {
            let event: Value = serde_json::from_str(document).expect("an event is JSON");
            assert_eq!(event["event"]["ingress"], ingress.name(), "{event}");
            let found = event["pixel"]["code"].as_str().unwrap_or_default();
            assert!(code.starts_with(found) && !found.is_empty(), "{ingress}: {event}");
            assert_eq!(event["client"]["ip"], "127.0.0.0", "{ingress}: {event}");
        }
    }
}
