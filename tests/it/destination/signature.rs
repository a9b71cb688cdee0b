//! Signatures, recomputed by somebody else.
//!
//! Requests that the program really sent are signed again by botocore, which the AWS command line signs with.
//!
//! The published test vectors of Signature Version 4 cannot be compared whole: they sign other headers than the index's
//! services want (no payload hash, no media type), and the signer's interface allows no others on purpose. What they have
//! to say on paths, queries and tokens is their canonical request, so the first three lines of that are taken as published
//! and signed with our headers by `tests/signature/oracle.py`, whose steps are in turn held to the published signatures.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use chrono::{DateTime, NaiveDateTime, Utc};
use pixel::client::credentials;
use pixel::client::http::{Deliverer, http_client};
use pixel::client::sign::{CONTENT_TYPE, Unsigned, headers};
use pixel::config::{Config, Variables};
use pixel::destination::message::{MessageService, MessageTarget, RecordFormat};
use pixel::destination::{Auth, Destination, Service};
use pixel::hit::event::Event;
use pixel::hit::outcome::Outcome;
use pixel::hit::request::passthrough::{Document, document};
use serde_json::{Value, json};

use crate::support::index_stub::{Behaviour, IndexStub, Recorded};
use crate::support::lambda_rig::{Rig, RigOptions};
use crate::support::setup;
use crate::support::small_server::{Reaction, SmallServer};

const SCRIPT: &str = include_str!("../../signature/oracle.py");
const REQUIREMENTS: &str = include_str!("../../signature/requirements.txt");

const KEY: &str = "ASIATESTTESTTESTTEST";
const REGION: &str = "eu-central-1";

/// The form of `x-amz-date`.
const DATE: &str = "%Y%m%dT%H%M%SZ";

/// The headers that should be on these requests, by the oracle.
fn oracle(requests: &[Value]) -> Vec<BTreeMap<String, String>> {
    let mut child = Command::new(python())
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = json!(requests).to_string();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the oracle fails");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A Python that has botocore; made once, and kept between runs.
fn python() -> PathBuf {
    setup::require(&["python3"]);
    let folder = setup::cache_dir().join("signature");
    let _one_makes_it = setup::lock(&folder.with_added_extension("lock"));
    let marker = folder.join("complete");
    if std::fs::read_to_string(&marker).ok().as_deref() != Some(REQUIREMENTS) {
        // It may be there in part, or with other versions.
        let _ = std::fs::remove_dir_all(&folder);
        if let Err(why) = make_environment(&folder) {
            panic!("no Python with botocore: {why}");
        }
        std::fs::write(&marker, REQUIREMENTS).unwrap();
    }
    folder.join("bin/python")
}

fn make_environment(folder: &std::path::Path) -> Result<(), String> {
    let folder = folder.to_str().ok_or("the cache folder's name is not UTF-8")?;
    let made = setup::run(&["python3"], &["-m", "venv", folder]);
    // Debian keeps a part of `venv` in a package of its own.
    made.or_else(|_| {
        setup::complete("python3")?;
        setup::run(&["python3"], &["-m", "venv", folder])
    })?;
    let requirements = format!("{folder}/requirements.txt");
    std::fs::write(&requirements, REQUIREMENTS).map_err(|error| error.to_string())?;
    let quietly = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    let from = ["--only-binary", ":all:", "-r", &requirements];
    setup::run(
        &[&format!("{folder}/bin/python")],
        &[quietly.as_slice(), &from].concat(),
    )
}

// Requests that were really sent.

/// Whose credentials, and for what.
#[derive(Clone, Copy, Debug)]
struct Signer {
    service: &'static str,
    token: Option<&'static str>,
}

const SIGNERS: [Signer; 4] = [
    Signer {
        service: "es",
        token: None,
    },
    Signer {
        service: "es",
        token: Some("IQoJb3JpZ2luX2VjEHYaCXVzLXdlc3QtMiJHMEUCIQ+/=="),
    },
    Signer {
        service: "aoss",
        token: None,
    },
    Signer {
        service: "aoss",
        token: Some("IQoJb3JpZ2luX2VjEHYaCXVzLXdlc3QtMiJHMEUCIQ+/=="),
    },
];

/// As the secret of an access key is, with the characters of base64.
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

const IDS: [&str; 14] = [
    "JKJaXmPLvHcESHA=",
    "a/b",
    "a+b",
    "a b",
    "a%2Fb",
    "a%b",
    "ä€𝄞",
    "~._-",
    "a..b",
    "*'();:@&$,[]!#?",
    "\"<>\\^`{|}",
    "a=b&c=d",
    "\t\u{7f}",
    "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
];

/// Below the server's address.
const PATHS: [&str; 4] = [
    "events",
    "events-%25Y.%25m.%25d",
    "search/v1/events-%Y",
    "a%20b/c%2Fd/~x/events",
];

#[tokio::test(flavor = "multi_thread")]
async fn botocore_signs_every_sent_request_the_same() {
    let mut sent = Vec::new();
    for signer in SIGNERS {
        for path in PATHS {
            let requests = deliver_all(signer, path).await;
            sent.extend(requests.into_iter().map(|request| (signer, request)));
        }
    }
    sent.extend(sent_by_the_function().await);
    assert!(sent.len() > SIGNERS.len() * PATHS.len() * IDS.len());
    check_signatures(&sent);
}

/// Sends an event with each id, the last once more without an id, and returns the requests.
async fn deliver_all(signer: Signer, path: &str) -> Vec<Recorded> {
    let stub = IndexStub::start().await;
    let deliverer = deliverer(signer, &format!("{}/{path}", stub.url()));
    deliverer.prepare().await;
    // The stub knows no path prefixes and refuses what comes with one.
    let prefixed = path.contains('/');
    for (number, id) in IDS.into_iter().enumerate() {
        let outcome = deliverer
            .deliver(&event(id, number), Duration::from_secs(10))
            .await
            .outcome;
        assert!(prefixed || outcome == Outcome::Indexed, "{path}, {id}: {outcome:?}");
    }
    let ids = include_str!("../../fixtures/answers/serverless-400-document-id.json");
    stub.script(vec![Behaviour::Status(400, ids.to_owned())]);
    deliverer.deliver(&event("another", 0), Duration::from_secs(10)).await;
    if !prefixed {
        let stored: Vec<_> = stub.documents().into_keys().map(|(_, id)| id).collect();
        assert!(
            IDS.iter().all(|id| stored.iter().any(|stored| stored == id)),
            "{stored:?}"
        );
    }
    stub.requests()
}

fn deliverer(signer: Signer, destination: &str) -> Deliverer {
    let mut variables: Variables = [
        ("PIXEL_DESTINATION", destination),
        ("PIXEL_AUTH", signer.service),
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    variables.extend(
        signer
            .token
            .map(|token| ("AWS_SESSION_TOKEN".to_owned(), token.to_owned())),
    );
    let (config, problems) = Config::read(&variables);
    assert_eq!(problems, []);
    let Some(Destination::OpenSearch(target)) = config.destination else {
        panic!("{destination} is an index");
    };
    let http = http_client(None, &config.timing).unwrap();
    Deliverer::new(http, target, config.timing, credentials::from_environment(&variables))
}

/// Events of different sizes: none, ASCII, Unicode, long.
fn event(id: &str, number: usize) -> Event {
    let body = [
        "{}".to_owned(),
        json!({"a": 1}).to_string(),
        json!({"ä": "€"}).to_string(),
    ];
    let long = json!({"text": "x".repeat(number * 1000)}).to_string();
    Event {
        id: id.to_owned(),
        time: DateTime::from_timestamp_millis(1_769_903_999_999).unwrap(),
        document: body.get(number).cloned().unwrap_or(long),
    }
}

/// The real function in both orders, with the credentials of its environment.
async fn sent_by_the_function() -> Vec<(Signer, Recorded)> {
    let signer = Signer {
        service: "es",
        token: Some("test-session-token"),
    };
    let mut sent = Vec::new();
    for order in ["first", "after-indexing"] {
        let stub = IndexStub::start().await;
        let options = RigOptions::new(env!("CARGO_BIN_EXE_bootstrap"))
            .env("PIXEL_DESTINATION", format!("{}/events-%Y.%m", stub.url()))
            .env("PIXEL_AUTH", signer.service)
            .env("PIXEL_REPLY", order)
            .env("AWS_SECRET_ACCESS_KEY", SECRET);
        let rig = Rig::start(options).await;
        let hit = Document {
            context: vec![("extended-request-id".to_owned(), "JKJaXmPLvHcESHA=".to_owned())],
            ..Document::default()
        };
        rig.invoke(document(&hit).to_string()).await;
        assert_eq!(stub.documents().len(), 1, "{order}");
        sent.extend(stub.requests().into_iter().map(|request| (signer, request)));
    }
    sent
}

fn check_signatures(sent: &[(Signer, Recorded)]) {
    let question = |(signer, request): &(Signer, Recorded)| {
        let host = request.header("host").unwrap();
        json!({
            "key": KEY, "secret": SECRET, "token": signer.token, "service": signer.service, "region": REGION,
            "method": request.method, "url": format!("http://{host}{}", request.path_and_query), "host": host,
            "content_type": CONTENT_TYPE, "date": request.header("x-amz-date"),
            "body": String::from_utf8(request.body.clone()).unwrap(),
        })
    };
    let questions: Vec<_> = sent.iter().map(question).collect();
    for ((signer, request), expected) in sent.iter().zip(oracle(&questions)) {
        let case = format!("{signer:?}: {} {}", request.method, request.path_and_query);
        let authorization = request.header("authorization").unwrap_or_default();
        assert_eq!(authorization, expected["authorization"], "{case}");
        let hash = request.header("x-amz-content-sha256").unwrap_or_default();
        assert_eq!(hash, expected["x-amz-content-sha256"], "{case}");
        let signed = match signer.token {
            None => "SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date,",
            Some(_) => "SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-security-token,",
        };
        assert!(authorization.contains(signed), "{case}: {authorization}");
        assert_eq!(request.header("x-amz-security-token"), signer.token, "{case}");
        assert_eq!(request.header("content-type"), Some(CONTENT_TYPE), "{case}");
        assert_fresh(&case, request.header("x-amz-date").unwrap());
    }
}

/// Queues and streams: the target is signed, too, and the media type is theirs.
#[tokio::test(flavor = "multi_thread")]
async fn botocore_signs_every_call_of_a_queue_or_stream_the_same() {
    let token = SIGNERS[1].token;
    let mut questions = Vec::new();
    let mut sent = Vec::new();
    for (kind, name) in [
        (MessageService::Sqs, "123456789012/pixel"),
        (MessageService::Sqs, "123456789012/pixel.fifo"),
        (MessageService::Firehose, "pixel"),
    ] {
        for token in [None, token] {
            let server = SmallServer::start(|_| Reaction::json(200, &json!({"MessageId": "m", "RecordId": "r"})));
            for (number, id) in IDS.into_iter().enumerate() {
                let outcome = outlet(kind, name, &server.url(), token)
                    .deliver(&event(id, number), Duration::from_secs(10))
                    .await;
                assert_eq!(outcome.outcome, Outcome::Indexed, "{name}, {id}");
            }
            for asked in server.asked() {
                let header = |name: &str| {
                    asked
                        .headers
                        .iter()
                        .find(|(it, _)| it == name)
                        .map(|(_, value)| value.clone())
                };
                let host = header("host").unwrap();
                questions.push(json!({
                    "key": KEY, "secret": SECRET, "token": token, "service": kind.scheme(), "region": REGION,
                    "method": asked.method, "url": format!("http://{host}{}", asked.path), "host": host,
                    "content_type": header("content-type"), "target": header("x-amz-target"),
                    "date": header("x-amz-date"), "body": asked.body,
                }));
                assert_fresh(name, &header("x-amz-date").unwrap());
                assert_eq!(header("x-amz-security-token").as_deref(), token);
                sent.push((
                    header("authorization").unwrap(),
                    header("x-amz-content-sha256").unwrap(),
                ));
            }
        }
    }
    assert_eq!(sent.len(), 6 * IDS.len());
    for ((authorization, hash), expected) in sent.iter().zip(oracle(&questions)) {
        assert_eq!(
            (authorization, hash),
            (&expected["authorization"], &expected["x-amz-content-sha256"])
        );
        assert!(authorization.contains("x-amz-target,"), "{authorization}");
    }
}

fn outlet(kind: MessageService, name: &str, base: &str, token: Option<&str>) -> Deliverer<MessageTarget> {
    let service = match kind {
        MessageService::Sqs => Service::Sqs,
        MessageService::Firehose => Service::Firehose,
    };
    let outlet = MessageTarget {
        kind,
        base: base.to_owned(),
        name: name.to_owned(),
        auth: Auth::SigV4 {
            service,
            region: REGION.to_owned(),
        },
        record: RecordFormat::default(),
    };
    let credentials = Credentials::new(KEY, SECRET, token.map(ToOwned::to_owned), None, "test");
    let timing = Config::default().timing;
    Deliverer::new(
        http_client(None, &timing).unwrap(),
        outlet,
        timing,
        Some(SharedCredentialsProvider::new(credentials)),
    )
}

/// The time is now: AWS allows five minutes.
fn assert_fresh(case: &str, date: &str) {
    let date = NaiveDateTime::parse_from_str(date, DATE).unwrap().and_utc();
    assert!((Utc::now() - date).num_seconds().abs() < 300, "{case}: {date}");
}

// The published vectors.

/// One vector of AWS's signing test suite.
struct Vector {
    name: &'static str,
    method: &'static str,
    /// As the vector's request has it.
    target: &'static str,
    /// Path and query of the published canonical request.
    canonical: [&'static str; 2],
    body: &'static str,
    token: Option<&'static str>,
    /// The published signature, where it is one over `host` and `x-amz-date` (and the token) alone.
    signature: Option<&'static str>,
}

const VECTOR: Vector = Vector {
    name: "",
    method: "GET",
    target: "/",
    canonical: ["/", ""],
    body: "",
    token: None,
    signature: None,
};

/// From the suite; left out are those whose point is a header that is never sent to an index.
const VECTORS: [Vector; 18] = [
    Vector {
        name: "get-vanilla",
        signature: Some("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ..VECTOR
    },
    Vector {
        name: "post-vanilla",
        method: "POST",
        signature: Some("5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ..VECTOR
    },
    Vector {
        name: "get-vanilla-query-order-key-case",
        target: "/?Param2=value2&Param1=value1",
        canonical: ["/", "Param1=value1&Param2=value2"],
        signature: Some("b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
        ..VECTOR
    },
    Vector {
        name: "get-vanilla-query-order-encoded",
        target: "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
        canonical: ["/", "%E1%88%B4=Value1&Param=Value2&Param-3=Value3"],
        signature: Some("371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac"),
        ..VECTOR
    },
    Vector {
        name: "get-vanilla-query-unreserved",
        target: "/?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        canonical: [
            "/",
            "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        ],
        signature: Some("9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"),
        ..VECTOR
    },
    Vector {
        name: "get-vanilla-utf8-query",
        target: "/?ሴ=bar",
        canonical: ["/", "%E1%88%B4=bar"],
        signature: Some("2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
        ..VECTOR
    },
    Vector {
        name: "get-unreserved",
        target: "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        canonical: [
            "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            "",
        ],
        signature: Some("07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
        ..VECTOR
    },
    Vector {
        name: "get-utf8",
        target: "/ሴ",
        canonical: ["/%E1%88%B4", ""],
        signature: Some("8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        ..VECTOR
    },
    Vector {
        name: "get-relative-normalized",
        target: "/example/..",
        signature: Some("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ..VECTOR
    },
    Vector {
        name: "get-relative-relative-normalized",
        target: "/example1/example2/../..",
        signature: Some("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ..VECTOR
    },
    Vector {
        name: "get-slash-normalized",
        target: "//",
        signature: Some("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ..VECTOR
    },
    Vector {
        name: "get-slashes-normalized",
        target: "//example//",
        canonical: ["/example/", ""],
        signature: Some("9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
        ..VECTOR
    },
    Vector {
        name: "get-slash-dot-slash-normalized",
        target: "/./",
        signature: Some("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ..VECTOR
    },
    Vector {
        name: "get-slash-pointless-dot-normalized",
        target: "/./example",
        canonical: ["/example", ""],
        signature: Some("ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5"),
        ..VECTOR
    },
    Vector {
        name: "get-vanilla-with-session-token",
        token: Some("6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"),
        signature: Some("07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"),
        ..VECTOR
    },
    Vector {
        name: "post-sts-header-before",
        method: "POST",
        token: Some(
            "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==",
        ),
        signature: Some("85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"),
        ..VECTOR
    },
    Vector {
        name: "post-vanilla-query",
        method: "POST",
        target: "/?Param1=value1",
        canonical: ["/", "Param1=value1"],
        signature: Some("28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
        ..VECTOR
    },
    Vector {
        name: "post-x-www-form-urlencoded",
        method: "POST",
        body: "Param1=value1",
        ..VECTOR
    },
];

/// The suite's credentials, scope and time.
const VECTOR_KEY: &str = "AKIDEXAMPLE";
const VECTOR_HOST: &str = "example.amazonaws.com";
const VECTOR_DATE: &str = "20150830T123600Z";

#[test]
fn canonical_requests_are_the_published_ones() {
    let question = |vector: &Vector, content_type: Option<&str>| {
        let [path, query] = vector.canonical;
        json!({
            "key": VECTOR_KEY, "secret": SECRET, "token": vector.token, "service": "service", "region": "us-east-1",
            "host": VECTOR_HOST, "content_type": content_type, "date": VECTOR_DATE, "body": vector.body,
            "canonical": [vector.method, path, query],
        })
    };
    let published = VECTORS.iter().filter(|vector| vector.signature.is_some());
    let questions: Vec<_> = published.clone().map(|vector| question(vector, None)).collect();
    for (vector, expected) in published.zip(oracle(&questions)) {
        let signature = format!("Signature={}", vector.signature.unwrap_or_default());
        assert!(
            expected["authorization"].ends_with(&signature),
            "the oracle, {}",
            vector.name
        );
    }
    let questions: Vec<_> = VECTORS
        .iter()
        .map(|vector| question(vector, Some(CONTENT_TYPE)))
        .collect();
    for (vector, expected) in VECTORS.iter().zip(oracle(&questions)) {
        assert_eq!(authorization(vector), expected["authorization"], "{}", vector.name);
    }
}

/// What the program makes of a vector.
fn authorization(vector: &Vector) -> String {
    let url = format!("https://{VECTOR_HOST}{}", vector.target);
    let unsigned = Unsigned {
        method: vector.method,
        url: &url,
        host: VECTOR_HOST,
        body: vector.body.as_bytes(),
    };
    let credentials = Credentials::new(VECTOR_KEY, SECRET, vector.token.map(Into::into), None, "vectors");
    let time = NaiveDateTime::parse_from_str(VECTOR_DATE, DATE)
        .unwrap()
        .and_utc()
        .into();
    let signed = headers(unsigned, &credentials, "service", "us-east-1", time).unwrap();
    let found = signed.into_iter().find(|(name, _)| *name == "authorization");
    found.unwrap().1
}
