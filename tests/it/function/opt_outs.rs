//! The page on which the recipient of a mail says that it is not to be counted, as the function's role `manage` has it: over a
//! real index, open to everybody, and for codes of ours alone.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pixel::api::opt_out::{OptOutRequest, can_be_remembered, extract_code};
use pixel::client::codes;
use pixel::hit::code::{Contents, Keys};
use pixel::hit::request::Ingress;
use pixel::hit::request::http_request::HttpRequest;
use pixel::query::store::Store;
use pixel::server::gateway;
use serde_json::{Value, json};

use crate::server::questions::deliverer;
use crate::support::lambda_rig::{Rig, RigOptions};
use crate::support::matrix::{Index, Subject, any, block_on, each};
use crate::support::serving::{request, send, serve, wait_for};
use crate::support::small_server::{Reaction, SmallServer};

const KEYS: &str = "1:MDEyMzQ1Njc4OWFiY2RlZg";
const OTHER_KEYS: &str = "1:ZmVkY2JhOTg3NjU0MzIxMA";

/// The ingresses that hand every path to the function.
const INGRESSES: [Ingress; 5] = [
    Ingress::Rest,
    Ingress::Http,
    Ingress::FunctionUrl,
    Ingress::Alb,
    Ingress::AlbMultiValue,
];

/// A code for one person.
fn signed(keys: &str, campaign: &str, expires: Option<DateTime<Utc>>) -> String {
    let keys = Keys::parse(keys).expect("keys");
    let contents = Contents {
        campaign: Some(campaign.to_owned()),
        recipient: Some(keys.recipient("ann@shop.example").expect("a key")),
        sent: None,
        expires,
    };
    keys.sign(&contents).expect("a code")
}

/// A code for all readers of a campaign.
fn shared(keys: &str) -> String {
    let contents = Contents {
        campaign: Some("all".to_owned()),
        ..Contents::default()
    };
    Keys::parse(keys).expect("keys").sign(&contents).expect("a code")
}

fn options(destination: &str) -> RigOptions {
    RigOptions::new(env!("CARGO_BIN_EXE_bootstrap"))
        .handler("manage")
        .env("PIXEL_DESTINATION", destination)
        .env("PIXEL_CODE_KEYS", KEYS)
}

fn options_for(subject: &Subject, index: &Index) -> RigOptions {
    let options = options(&subject.destination(&index.name));
    let variables = subject.variables().into_iter();
    variables.fold(options, |options, (name, value)| options.env(name, value))
}

/// What the function answers, whichever form the ingress wants it in.
#[derive(Debug)]
struct Answer {
    status: u64,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn says(&self, words: &str) -> bool {
        self.status == 200 && self.body.contains(words)
    }
}

const COUNTED: &str = "It is counted when this mail is opened.";
const NOT_COUNTED: &str = "This mail is not counted";

/// Asks as the page itself does.
async fn ask(rig: &Rig, ingress: Ingress, method: &str, target: &str) -> Answer {
    ask_from(rig, ingress, method, target, Some("https://manage.example")).await
}

async fn ask_from(rig: &Rig, ingress: Ingress, method: &str, target: &str, origin: Option<&str>) -> Answer {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let arrived = HttpRequest {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: [("Host", Some("manage.example")), ("Origin", origin)]
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect(),
        peer: None,
        id: "1".to_owned(),
        time: Utc::now(),
        body: None,
    };
    let payload = gateway::payload(ingress, &arrived).expect("every path");
    let reply = rig.invoke(payload).await.reply_json();
    let of = if ingress == Ingress::AlbMultiValue {
        &reply["multiValueHeaders"]
    } else {
        &reply["headers"]
    };
    let text = |value: &Value| value.as_str().or_else(|| value[0].as_str()).expect("a text").to_owned();
    let headers = of.as_object().expect("headers").iter();
    let answer = Answer {
        status: reply["statusCode"].as_u64().expect("a status"),
        headers: headers.map(|(name, value)| (name.clone(), text(value))).collect(),
        body: reply["body"].as_str().expect("a body").to_owned(),
    };
    // Whatever it answers, nothing keeps it, frames it, lists it or tells others of its address.
    let policy = "default-src 'none'; form-action 'self'; frame-ancestors 'none'";
    for (name, value) in [
        ("content-security-policy", policy),
        ("cache-control", "no-store"),
        ("x-robots-tag", "noindex"),
        ("referrer-policy", "same-origin"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{method} {target}: {answer:?}");
    }
    answer
}

fn encoded(code: &str) -> String {
    utf8_percent_encode(code, NON_ALPHANUMERIC).to_string()
}

/// The index of opt-outs, which goes with the test.
struct OptOuts<'a>(&'a Index);

impl OptOuts<'_> {
    fn name(&self) -> String {
        format!("pixel-opt-outs-of-{}", self.0.name)
    }

    /// What it holds: by their names, and by themselves.
    fn codes(&self) -> BTreeSet<String> {
        let (status, found) =
            self.0
                .subject
                .ask("POST", &format!("/{}/_search?size=1000", self.name()), Some(&json!({})));
        assert!(matches!(status, 200 | 404), "{status} {found}");
        let hits = found["hits"]["hits"].as_array().into_iter().flatten();
        let codes = hits.map(|hit| {
            assert_eq!(hit["_id"], hit["_source"]["code"], "{hit}");
            hit["_id"].as_str().expect("an id").to_owned()
        });
        codes.collect()
    }
}

impl Drop for OptOuts<'_> {
    fn drop(&mut self) {
        let subject = &self.0.subject;
        for name in [self.name(), format!("pixel-codes-of-{}", self.0.name)] {
            subject.ask("DELETE", &format!("/{name}"), None);
        }
    }
}

/// Puts a code into the list, as its owner does.
async fn list(rig: &Rig, code: &str, recipient: Option<&str>) {
    let identity = json!({"userArn": "arn:aws:iam::123456789012:user/ann"});
    let payload = json!({
        "httpMethod": "POST", "path": "/v1/api/codes", "resource": "/v1/api/{proxy+}", "headers": {"Host": "manage.example"},
        "requestContext": {"requestId": "1", "identity": identity, "httpMethod": "POST"},
        "body": json!({"code": code, "recipient": recipient}).to_string(), "isBase64Encoded": false,
    });
    let reply = rig.invoke(payload.to_string()).await.reply_json();
    assert_eq!(reply["statusCode"], 201, "{reply}");
}

/// Out and in again, with what the page says each time.
async fn out_and_in(rig: &Rig, ingress: Ingress, target: &str) {
    let what = format!("{}: {target}", ingress.name());
    let page = ask(rig, ingress, "GET", target).await;
    assert!(
        page.says(COUNTED) && page.body.contains("action=\"?\""),
        "{what}: {page:?}"
    );
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"), "{what}");
    let head = ask(rig, ingress, "HEAD", target).await;
    assert_eq!(
        (head.status, head.body.as_str(), &head.headers),
        (200, "", &page.headers),
        "{what}"
    );

    let out = ask(rig, ingress, "POST", target).await;
    // The same path without its query, below whichever stage.
    assert_eq!(
        (out.status, out.header("location")),
        (303, Some("?")),
        "{what}: {out:?}"
    );
    let page = ask(rig, ingress, "GET", target).await;
    assert!(
        page.says(NOT_COUNTED) && page.body.contains("action=\"?in=1\""),
        "{what}: {page:?}"
    );
    let again = ask(rig, ingress, "POST", target).await;
    assert_eq!(again.status, 303, "{what}: {again:?}");

    // The button's address is relative to the page's.
    let back = ask(rig, ingress, "POST", &format!("{target}?in=1")).await;
    assert_eq!(
        (back.status, back.header("location")),
        (303, Some("?")),
        "{what}: {back:?}"
    );
    let page = ask(rig, ingress, "GET", &format!("{target}?")).await;
    assert!(page.says(COUNTED), "{what}: {page:?}");
    // A link with the button's address changes nothing.
    assert!(
        ask(rig, ingress, "GET", &format!("{target}?in=1")).await.says(COUNTED),
        "{what}"
    );
}

/// What nobody may fill an index with: forged, unknown, too long, no code at all, and what would be something else in a page, a
/// header or the index's URL.
fn others() -> Vec<String> {
    let genuine = signed(KEYS, "spring", None);
    let last = if genuine.ends_with('A') { "Q" } else { "A" };
    let mut others = vec![
        signed(OTHER_KEYS, "spring", None),
        format!("{}{last}", &genuine[..genuine.len() - 1]),
        "x".repeat(257),
        "_".repeat(40),
    ];
    let texts = [
        "nobody-made-this",
        "",
        ".",
        "..",
        "../_search",
        "a/b",
        "listed/_doc/x",
        "\"><script>alert(1)</script>",
        "'",
        "&lt;",
        "a\r\nSet-Cookie: x=1",
        "a\nb",
        "\0",
        "é",
        "%2F",
        "*",
        "_search",
        "_all",
        "listed,other",
        "Listed",
        " listed",
    ];
    others.extend(texts.map(ToOwned::to_owned));
    others
}

#[test]
fn codes_of_ours_are_remembered_and_no_others() {
    each(|subject| {
        let index = Index::new(subject, "opted-by-function");
        let opt_outs = OptOuts(&index);
        block_on(async {
            let rig = Rig::start(options_for(subject, &index)).await;
            list(&rig, "listed", Some("ann@shop.example")).await;
            list(&rig, "for-all", None).await;
            let expired = signed(KEYS, "winter", Some(Utc::now() - TimeDelta::days(400)));
            let ours = ["listed".to_owned(), signed(KEYS, "spring", None), expired];
            for code in &ours {
                out_and_in(&rig, Ingress::Rest, &format!("/opt-out/{}", encoded(code))).await;
            }
            assert_eq!(opt_outs.codes(), BTreeSet::new(), "{}", subject.name);
            for code in &ours {
                let out = ask(&rig, Ingress::Http, "POST", &format!("/opt-out/{}", encoded(code))).await;
                assert_eq!(out.status, 303, "{}: {out:?}", subject.name);
            }
            let remembered: BTreeSet<_> = ours.into_iter().collect();
            assert_eq!(opt_outs.codes(), remembered, "{}", subject.name);
            // Many people have these, so nobody can opt out for all.
            for code in ["for-all".to_owned(), shared(KEYS)] {
                let target = format!("/opt-out/{code}");
                for (method, query, status) in [
                    ("GET", "", 200),
                    ("HEAD", "", 200),
                    ("POST", "", 403),
                    ("POST", "?in=1", 403),
                ] {
                    let answer = ask(&rig, Ingress::Rest, method, &format!("{target}{query}")).await;
                    assert_eq!(answer.status, status, "{}: {method} {code}: {answer:?}", subject.name);
                    assert!(method == "HEAD" || answer.body.contains("Many people have this same address"));
                    assert!(!answer.body.contains("<form") && answer.header("set-cookie").is_none());
                }
            }
            for code in others() {
                let target = format!("/prod/opt-out/{}", encoded(&code));
                for (method, query) in [("GET", ""), ("HEAD", ""), ("POST", ""), ("POST", "?in=1")] {
                    let answer = ask(&rig, Ingress::Rest, method, &format!("{target}{query}")).await;
                    assert_eq!(answer.status, 404, "{}: {method} {code:?}: {answer:?}", subject.name);
                    assert_eq!(answer.body.is_empty(), method == "HEAD");
                    assert!(
                        !answer.body.contains("<script") && !answer.body.contains("<form"),
                        "{answer:?}"
                    );
                    assert_eq!(answer.header("set-cookie"), None);
                }
            }
            assert_eq!(
                opt_outs.codes(),
                remembered,
                "{}: nothing came, nothing went",
                subject.name
            );
        });
    });
}

#[test]
fn every_way_in_has_the_page_with_the_stage_s_name_and_without() {
    let subject = any();
    let index = Index::new(&subject, "opted-everywhere");
    let opt_outs = OptOuts(&index);
    block_on(async {
        let rig = Rig::start(options_for(&subject, &index)).await;
        for ingress in INGRESSES {
            for before in ["", "/prod"] {
                let code = signed(KEYS, &format!("{ingress}{before}"), None);
                out_and_in(&rig, ingress, &format!("{before}/opt-out/{code}")).await;
                for method in ["PUT", "DELETE", "PATCH", "OPTIONS"] {
                    let answer = ask(&rig, ingress, method, &format!("{before}/opt-out/{code}")).await;
                    assert_eq!(
                        (answer.status, answer.header("allow")),
                        (405, Some("GET, HEAD, POST")),
                        "{ingress}: {answer:?}"
                    );
                }
                let answer = ask(&rig, ingress, "GET", &format!("{before}/opt-out")).await;
                assert_eq!(
                    answer.status, 404,
                    "{ingress}: a browser's own page is at the image's host"
                );
            }
        }
    });
    assert_eq!(opt_outs.codes(), BTreeSet::new());
    let (status, counted) = subject.ask("GET", &format!("/{}/_count", index.name), None);
    assert!(status == 404 || counted["count"] == 0, "looking is no hit: {counted}");
}

/// What the function has remembered, `pixel serve` heeds, and the other way round.
#[test]
fn whoever_serves_the_same_index_heeds_it() {
    let subject = any();
    let index = Index::new(&subject, "opted-and-served");
    let opt_outs = OptOuts(&index);
    let code = signed(KEYS, "spring", None);
    let mut stage = serve()
        .to(subject.destination(&index.name))
        .argument("--ingress=rest-proxy");
    for (name, value) in subject.variables() {
        stage = stage.variable(name, &value);
    }
    // Whether a server that starts now counts a code: it knows what was remembered once it knows of another code.
    let known = signed(KEYS, "known", None);
    let heeds = |code: &str| {
        let served = stage.clone().start();
        let ignored = |code: &str| {
            let reply = send(served.address, &request("GET", &format!("/pixel/{code}.gif"), &[]));
            reply.header("x-pixel") == Some("ignored; reason=opted_out")
        };
        wait_for("what was remembered", || ignored(&known).then_some(()));
        ignored(code)
    };
    block_on(async {
        let rig = Rig::start(options_for(&subject, &index)).await;
        let target = format!("/opt-out/{code}");
        for target in [&target, &format!("/opt-out/{known}")] {
            assert_eq!(ask(&rig, Ingress::Rest, "POST", target).await.status, 303);
        }
        assert!(heeds(&code) && !heeds("another"));
        assert_eq!(
            ask(&rig, Ingress::Rest, "POST", &format!("{target}?in=1")).await.status,
            303
        );
        assert!(!heeds(&code));

        // `pixel serve` remembers the same codes, and the owner any: that is shown here, and only the owner takes it back.
        let served = stage.clone().variable("PIXEL_CODE_KEYS", KEYS).start();
        let headers: [(&str, &[u8]); 2] = [("Content-Length", b"0"), ("Origin", b"http://pixel.example")];
        let post = |target: &str| send(served.address, &request("POST", target, &headers)).status;
        assert_eq!((post(&target), post("/opt-out/own-word")), (303, 303));
        let deliverer = deliverer(&subject, &index);
        codes::set_opted_out(&deliverer, "own-word", true)
            .await
            .expect("it is written");
        let remembered = BTreeSet::from([known.clone(), code.clone(), "own-word".to_owned()]);
        assert_eq!(opt_outs.codes(), remembered);
        for (method, query) in [("GET", ""), ("POST", ""), ("POST", "?in=1")] {
            let page = ask(&rig, Ingress::Rest, method, &format!("/opt-out/own-word{query}")).await;
            assert!(page.says(NOT_COUNTED) && !page.body.contains("<form"), "{page:?}");
        }
        assert_eq!(opt_outs.codes(), remembered);
        codes::set_opted_out(&deliverer, "own-word", false)
            .await
            .expect("it is forgotten");
        assert_eq!(ask(&rig, Ingress::Rest, "POST", "/opt-out/own-word").await.status, 404);
    });
}

/// A form of another site changes nothing; what a mail provider sends for its user opts out, and never in.
#[test]
fn only_the_page_itself_or_a_provider_changes_anything() {
    let subject = any();
    let index = Index::new(&subject, "opted-from-elsewhere");
    let opt_outs = OptOuts(&index);
    let code = signed(KEYS, "spring", None);
    let target = format!("/opt-out/{code}");
    let back = format!("{target}?in=1");
    block_on(async {
        let rig = Rig::start(options_for(&subject, &index)).await;
        for ingress in INGRESSES {
            let post = async |target: &str, origin| ask_from(&rig, ingress, "POST", target, origin).await.status;
            for other in ["https://evil.example", "null", "https://manage.example.evil.example"] {
                assert_eq!(post(&target, Some(other)).await, 403, "{ingress}: {other}");
            }
            assert_eq!(opt_outs.codes(), BTreeSet::new());
            assert_eq!(
                post(&target, None).await,
                200,
                "{ingress}: a provider follows no redirect"
            );
            assert_eq!(opt_outs.codes(), BTreeSet::from([code.clone()]));
            assert_eq!((post(&back, None).await, post(&back, Some("null")).await), (403, 403));
            assert_eq!(opt_outs.codes(), BTreeSet::from([code.clone()]));
            assert_eq!(post(&back, Some("https://manage.example")).await, 303);
            assert_eq!(opt_outs.codes(), BTreeSet::new());
        }
    });
}

#[test]
fn what_the_owner_has_listed_no_form_changes() {
    let code = signed(KEYS, "spring", None);
    block_on(async {
        let options = options("http://127.0.0.1:9/events").env("PIXEL_PRIVACY_OPT_OUT", format!("other,{code}"));
        let rig = Rig::start(options).await;
        for (method, query) in [("GET", ""), ("POST", ""), ("POST", "?in=1")] {
            let answer = ask(&rig, Ingress::Rest, method, &format!("/opt-out/{code}{query}")).await;
            assert!(answer.says(NOT_COUNTED) && !answer.body.contains("<form"), "{answer:?}");
        }
    });
}

/// Nobody is told that they are not counted when that is not so; and no mail's code gets into the log.
#[test]
fn an_index_that_is_down_is_said() {
    let code = signed(KEYS, "spring", None);
    let target = format!("/opt-out/{code}");
    let busy = SmallServer::start(|_| Reaction::json(503, &json!({})));
    let full = SmallServer::start(|asked| Reaction::json(if asked.is_write() { 429 } else { 404 }, &json!({})));
    let seeing = [("GET", ""), ("HEAD", "")].as_slice();
    let changing = [("POST", ""), ("POST", "?in=1")].as_slice();
    block_on(async {
        for (destination, asked) in [
            ("http://127.0.0.1:9".to_owned(), [seeing, changing].concat()),
            (
                "sqs+http://127.0.0.1:9/000000000000".to_owned(),
                [seeing, changing].concat(),
            ),
            (busy.url(), [seeing, changing].concat()),
            // It is asked, and takes nothing.
            (full.url(), vec![("POST", "")]),
        ] {
            let rig = Rig::start(options(&format!("{destination}/events"))).await;
            for (method, query) in asked {
                let answer = ask(&rig, Ingress::Rest, method, &format!("{target}{query}")).await;
                assert_eq!(
                    (answer.status, answer.header("retry-after")),
                    (503, Some("60")),
                    "{destination}: {method}: {answer:?}"
                );
                assert_eq!(answer.body.is_empty(), method == "HEAD");
            }
            let line = rig
                .wait_for_log("the reason", |line| line.contains("\"opt-out\""))
                .await;
            assert!(line.contains("ERROR"), "{line}");
            let lines = rig.log_lines();
            assert!(!lines.iter().any(|line| line.contains(&code)), "{lines:#?}");
        }
    });
}

/// A URL loses `.` and `..`, however they are encoded, and what is left would be the index itself.
#[test]
fn no_code_stands_for_the_whole_index() {
    let subject = any();
    let index = Index::new(&subject, "opted-folders");
    let opt_outs = OptOuts(&index);
    let deliverer = deliverer(&subject, &index);
    block_on(async {
        codes::set_opted_out(&deliverer, "abc", true)
            .await
            .expect("it is written");
        for folder in ["", ".", ".."] {
            assert!(
                codes::set_opted_out(&deliverer, folder, false).await.is_err(),
                "{folder:?}"
            );
            assert!(
                codes::set_opted_out(&deliverer, folder, true).await.is_err(),
                "{folder:?}"
            );
            assert!(codes::is_opted_out(&deliverer, folder).await.is_err(), "{folder:?}");
            let standing = codes::look_up_code(&deliverer, folder, Duration::from_secs(20)).await;
            assert_eq!(standing, Ok(codes::CodeLookup::default()), "{folder:?}");
            assert_eq!(deliverer.code(folder).await, Ok(None), "{folder:?}");
        }
        assert_eq!(codes::is_opted_out(&deliverer, "abc").await, Ok(true));
    });
    assert_eq!(opt_outs.codes(), BTreeSet::from(["abc".to_owned()]));
}

#[test]
fn a_path_is_the_page_s_or_the_interface_s() {
    for (path, code) in [
        ("/opt-out/abc", Some("abc")),
        ("/prod/opt-out/abc", Some("abc")),
        ("/opt-out/a/b", Some("a/b")),
        ("/opt-out/opt-out/abc", Some("opt-out/abc")),
        ("/opt-out/x/v1/api/codes", Some("x/v1/api/codes")),
        ("/opt-out/", Some("")),
        ("/prod/opt-out", Some("")),
        ("/v1/api/codes/opt-out", None),
        ("/v1/api/opt-out/abc", None),
        ("/prod/v1/api/codes/opt-out/abc", None),
        ("/v1/api/status", None),
        ("/opt-outs/abc", None),
        ("/", None),
    ] {
        assert_eq!(extract_code(path), code, "{path}");
    }
    for (code, possible) in [
        ("a", true),
        (&"é".repeat(128), true),
        (&"é".repeat(129), false),
        ("...", true),
        ("..", false),
    ] {
        assert_eq!(can_be_remembered(code), possible, "{code}");
    }
    let button = [("in".to_owned(), String::new())];
    assert_eq!(OptOutRequest::parse("GET", &button), Some(OptOutRequest::See));
    assert_eq!(
        (OptOutRequest::parse("POST", &button), OptOutRequest::parse("POST", &[])),
        (Some(OptOutRequest::In), Some(OptOutRequest::Out))
    );
    assert_eq!(OptOutRequest::parse("post", &[]), None);
}
