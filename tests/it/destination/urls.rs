//! Where events go: what a URL means, what an index may be called, and what an index's answers mean.

use chrono::DateTime;
use pixel::destination::opensearch::{Index, verdict};
use pixel::destination::{Auth, Destination, DestinationError, Secret, Service, Verdict};

/// Stands in every secret.
const SECRET: &str = "hush-hush";

fn parse(url: &str) -> Result<Destination, DestinationError> {
    Destination::parse(url, None, Some("us-west-2"))
}

// URLs.

/// Server, index, authentication, and whether it is a collection.
type Place<'a> = (&'a str, &'a str, &'a str, bool);

const URLS: [(&str, Place); 25] = [
    (
        "http://localhost:9200/events",
        ("http://localhost:9200", "events", "none", false),
    ),
    (
        "http://localhost:9200/events/",
        ("http://localhost:9200", "events", "none", false),
    ),
    (
        "HTTP://LocalHost:9200/events",
        ("http://localhost:9200", "events", "none", false),
    ),
    (
        "https://search.example/events",
        ("https://search.example", "events", "none", false),
    ),
    (
        "https://search.example:443/events",
        ("https://search.example", "events", "none", false),
    ),
    (
        "https://search.example:9200/a/b/events",
        ("https://search.example:9200/a/b", "events", "none", false),
    ),
    (
        "http://[::1]:9200/events",
        ("http://[::1]:9200", "events", "none", false),
    ),
    (
        "https://10.0.0.1/events-%Y.%m.%d",
        ("https://10.0.0.1", "events-%Y.%m.%d", "none", false),
    ),
    (
        "https://10.0.0.1/events-%25Y.%25m.%25d",
        ("https://10.0.0.1", "events-%Y.%m.%d", "none", false),
    ),
    (
        "https://me:hush-hush@search.example/events",
        ("https://search.example", "events", "basic me hush-hush", false),
    ),
    (
        "https://a%40b:hush%2Dhush%2F%3A@search.example/events",
        ("https://search.example", "events", "basic a@b hush-hush/:", false),
    ),
    (
        "https://me:@search.example/events",
        ("https://search.example", "events", "basic me ", false),
    ),
    (
        "https://me@search.example/events",
        ("https://search.example", "events", "basic me ", false),
    ),
    (
        "https://:hush-hush@search.example/events",
        ("https://search.example", "events", "basic  hush-hush", false),
    ),
    (
        "https://search-x-abc123.eu-west-1.es.amazonaws.com/events",
        (
            "https://search-x-abc123.eu-west-1.es.amazonaws.com",
            "events",
            "es eu-west-1",
            false,
        ),
    ),
    (
        "https://vpc-x-abc123.us-gov-west-1.es.amazonaws.com/events",
        (
            "https://vpc-x-abc123.us-gov-west-1.es.amazonaws.com",
            "events",
            "es us-gov-west-1",
            false,
        ),
    ),
    (
        "https://search-x-abc123.cn-north-1.es.amazonaws.com.cn/events",
        (
            "https://search-x-abc123.cn-north-1.es.amazonaws.com.cn",
            "events",
            "es cn-north-1",
            false,
        ),
    ),
    (
        "https://Search-X.EU-WEST-1.ES.AMAZONAWS.COM/events",
        (
            "https://search-x.eu-west-1.es.amazonaws.com",
            "events",
            "es eu-west-1",
            false,
        ),
    ),
    (
        "https://search-x-abc123.aos.eu-west-1.on.aws/events",
        (
            "https://search-x-abc123.aos.eu-west-1.on.aws",
            "events",
            "es eu-west-1",
            false,
        ),
    ),
    (
        "https://abc123.eu-west-1.aoss.amazonaws.com/events",
        (
            "https://abc123.eu-west-1.aoss.amazonaws.com",
            "events",
            "aoss eu-west-1",
            true,
        ),
    ),
    (
        "https://abc123.aoss.eu-west-1.on.aws/events",
        ("https://abc123.aoss.eu-west-1.on.aws", "events", "aoss eu-west-1", true),
    ),
    // A domain whose own users are asked: fine-grained access control.
    (
        "https://me:hush-hush@search-x.eu-west-1.es.amazonaws.com/events",
        (
            "https://search-x.eu-west-1.es.amazonaws.com",
            "events",
            "basic me hush-hush",
            false,
        ),
    ),
    // Other services of AWS, and hosts that only look like one of them.
    (
        "https://x.eu-west-1.elb.amazonaws.com/events",
        ("https://x.eu-west-1.elb.amazonaws.com", "events", "none", false),
    ),
    (
        "https://es.amazonaws.com.example/events",
        ("https://es.amazonaws.com.example", "events", "none", false),
    ),
    (
        "https://x.aoss.example/events",
        ("https://x.aoss.example", "events", "none", false),
    ),
];

#[test]
fn urls_say_where_and_how() {
    for (url, expected) in URLS {
        let parsed = parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        let Destination::OpenSearch(target) = &parsed else {
            panic!("{url} is {parsed:?}");
        };
        let auth = spell(&target.auth);
        let place = (
            target.base.as_str(),
            target.index.pattern.as_str(),
            auth.as_str(),
            target.serverless,
        );
        assert_eq!(place, expected, "{url}");
        assert_eq!(parsed.to_string(), format!("{}/{}", expected.0, expected.1), "{url}");
        assert!(!format!("{parsed:?} {parsed:#?}").contains(SECRET), "{url}");
    }
}

/// An authentication in words, its secret included.
pub fn spell(auth: &Auth) -> String {
    match auth {
        Auth::None => "none".to_owned(),
        Auth::Basic { user, password } => format!("basic {user} {}", password.expose()),
        Auth::ApiKey(key) => format!("api-key {}", key.expose()),
        Auth::SigV4 { service, region } => format!("{} {region}", service.name()),
    }
}

#[test]
fn a_wish_overrides_what_the_url_implies() {
    let signed = |service| Auth::SigV4 {
        service,
        region: String::new(),
    };
    let key = Auth::ApiKey(Secret::new("key"));
    let domain = "https://x.eu-west-1.es.amazonaws.com/events";
    for (url, wish, region, expected) in [
        (domain, Auth::None, None, Ok("none")),
        (domain, signed(Service::Aoss), None, Ok("aoss eu-west-1")),
        (domain, signed(Service::Es), Some("us-west-2"), Ok("es eu-west-1")),
        (domain, key.clone(), None, Ok("api-key key")),
        ("https://me:pw@search.example/events", key, None, Ok("api-key key")),
        ("https://me:pw@search.example/events", Auth::None, None, Ok("none")),
        (
            "https://search.example/events",
            signed(Service::Es),
            Some("us-west-2"),
            Ok("es us-west-2"),
        ),
        (
            "https://search.example/events",
            signed(Service::Es),
            None,
            Err("give the region"),
        ),
        (
            "https://search.example/events",
            signed(Service::Es),
            Some(""),
            Err("give the region"),
        ),
    ] {
        let case = format!("{url} with {wish:?} in {region:?}");
        match (Destination::parse(url, Some(wish), region), expected) {
            (Ok(Destination::OpenSearch(target)), Ok(auth)) => assert_eq!(spell(&target.auth), auth, "{case}"),
            (Err(error), Err(remedy)) => {
                assert!(error.about_region && error.remedy.contains(remedy), "{case}: {error}");
            }
            (other, _) => panic!("{case}: {other:?}"),
        }
    }
}

#[test]
fn files_are_for_the_command_line() {
    for (url, path) in [
        ("sqlite:pixel.db", "pixel.db"),
        ("sqlite:a b/ü.db", "a b/ü.db"),
        ("sqlite:/var/lib/pixel.db", "/var/lib/pixel.db"),
        ("sqlite:///var/lib/pixel.db", "/var/lib/pixel.db"),
        ("sqlite://pixel.db", "pixel.db"),
    ] {
        let parsed = parse(url).unwrap();
        assert_eq!(parsed, Destination::Sqlite(path.into()), "{url}");
        assert_eq!(parsed.to_string(), format!("sqlite:{path}"), "{url}");
    }
}

#[test]
fn a_url_that_is_none_is_explained() {
    for (url, remedy) in [
        (
            "",
            "give `https://host/index`, `sqs://host/account/queue`, `firehose://host/stream` or `sqlite:file`",
        ),
        (
            "events",
            "give `https://host/index`, `sqs://host/account/queue`, `firehose://host/stream` or `sqlite:file`",
        ),
        (
            "search.example:9200/events",
            "give `https://host/index`, `sqs://host/account/queue`, `firehose://host/stream` or `sqlite:file`",
        ),
        (
            "ftp://search.example/events",
            "give `https://host/index`, `sqs://host/account/queue`, `firehose://host/stream` or `sqlite:file`",
        ),
        (
            "https://:9200/events",
            "give `https://host/index`, `sqs://host/account/queue`, `firehose://host/stream` or `sqlite:file`",
        ),
        (
            "https://search.example:port/events",
            "give `https://host/index`, `sqs://host/account/queue`, `firehose://host/stream` or `sqlite:file`",
        ),
        ("sqlite:", "name the file, as in `sqlite:pixel.db`"),
        ("sqlite://", "name the file, as in `sqlite:pixel.db`"),
        (
            "https://search.example",
            "name the index, as in `https://search.example/events`",
        ),
        (
            "https://search.example/",
            "name the index, as in `https://search.example/events`",
        ),
        (
            "https://me:hush-hush@search.example:9200",
            "name the index, as in `https://me:…@search.example:9200/events`",
        ),
        ("https://search.example/events?pretty", "leave out `?` and `#`"),
        ("https://search.example/events#a", "leave out `?` and `#`"),
        (
            "https://search.example/Events",
            "`Events` cannot be an index: names are lower-case",
        ),
        (
            "https://me:hush-hush@search.example/_events",
            "`_events` cannot be an index",
        ),
    ] {
        let error = parse(url).expect_err(url);
        assert!(error.remedy.contains(remedy), "{url}: {error}");
        assert!(!format!("{error} {error:?}").contains(SECRET), "{url}: {error}");
    }
}

// Indices.

#[test]
fn an_index_is_a_name_or_a_pattern() {
    let time = DateTime::from_timestamp_millis(1_769_903_999_999).unwrap();
    for (text, name, wildcard) in [
        ("events", "events", "events"),
        ("events-%Y.%m.%d", "events-2026.01.31", "events-*.*.*"),
        ("events-%25Y.%25m.%25d", "events-2026.01.31", "events-*.*.*"),
        ("events-%Y%m%d%H", "events-2026013123", "events-*"),
        ("%Y-events", "2026-events", "*-events"),
        ("events-%G.w%V", "events-2026.w05", "events-*.w*"),
        ("events-%Y.%j", "events-2026.031", "events-*.*"),
        (
            "a.b_c-d$e'f(g)h!i&j=k;l@m~",
            "a.b_c-d$e'f(g)h!i&j=k;l@m~",
            "a.b_c-d$e'f(g)h!i&j=k;l@m~",
        ),
    ] {
        let index = Index::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(
            (index.name(time), index.wildcard()),
            (name.to_owned(), wildcard.to_owned()),
            "{text}"
        );
    }
}

#[test]
fn a_name_that_no_index_can_have_is_refused() {
    let long = "x".repeat(256);
    // 252 and the four digits of the year.
    let long_by_date = format!("{}%Y", "x".repeat(252));
    let names = [
        "Events", "_events", "-events", ".events", "a,b", "a b", "a\"b", "a*", "a+b", "a:b", "a\\b", "a|b",
    ];
    let more = [
        "a?b",
        "a#b",
        "a<b",
        "a>b",
        "a/b",
        "a\u{7f}b",
        "a\nb",
        &long,
        &long_by_date,
    ];
    for name in names.into_iter().chain(more) {
        let error = Index::parse(name).expect_err(name);
        assert!(error.remedy.contains("cannot be an index"), "{name}: {error}");
    }
    for (pattern, part) in [
        ("events-%y", "`%y`"),
        ("events-%B", "`%B`"),
        ("events-%M", "`%M`"),
        ("events-%-d", "`%-`"),
        ("events-%", "`%`"),
        ("events-%25", "`%`"),
        ("events-%%", "`%%`"),
        ("ev%C3%A9nements", "`%C`"),
    ] {
        let error = Index::parse(pattern).expect_err(pattern);
        assert!(
            error
                .remedy
                .starts_with(&format!("{part} is not a part of a date pattern")),
            "{pattern}: {error}"
        );
    }
}

// Answers.

macro_rules! answer {
    ($file:literal) => {
        ($file, include_str!(concat!("../../fixtures/answers/", $file)))
    };
}

/// What an answer means, and part of the reason.
#[derive(Debug)]
enum Means {
    Indexed,
    Duplicate,
    RefusesIds,
    Retry(&'static str),
    Refused(&'static str),
    Denied(&'static str),
}

use Means::{Denied, Duplicate, Indexed, Refused, RefusesIds, Retry};

/// Status, file, meaning.
const ANSWERS: [(u16, (&str, &str), Means); 23] = [
    (201, answer!("opensearch-201-created.json"), Indexed),
    (201, answer!("elasticsearch6-201-created.json"), Indexed),
    (200, answer!("opensearch-200-updated.json"), Refused("not an index's")),
    (200, answer!("opensearch-200-info.json"), Refused("not an index's")),
    (
        400,
        answer!("opensearch-400-field-limit.json"),
        Refused("illegal_argument_exception: Limit of total fields [1000] has been exceeded"),
    ),
    (
        400,
        answer!("opensearch-400-mapper-parsing.json"),
        Refused("mapper_parsing_exception: failed to parse field [client.ip] of type [ip]"),
    ),
    (400, answer!("serverless-400-document-id.json"), RefusesIds),
    (
        403,
        answer!("opensearch-403-security.json"),
        Denied("security_exception: no permissions for [indices:data/write/index]"),
    ),
    (
        403,
        answer!("opensearch-403-read-only.json"),
        Denied("cluster_block_exception: index [events] blocked by: [FORBIDDEN/8/index write (api)]"),
    ),
    (
        403,
        answer!("aws-403-not-authorized.json"),
        Denied("is not authorized to perform: es:ESHttpPut"),
    ),
    (
        403,
        answer!("aws-403-signature.json"),
        Denied("The request signature we calculated does not match"),
    ),
    (
        403,
        answer!("serverless-403-forbidden.json"),
        Denied("Forbidden: 403 Forbidden"),
    ),
    (
        403,
        answer!("serverless-403-throttled.json"),
        Retry("Request throttled"),
    ),
    (
        404,
        answer!("opensearch-404-no-index.json"),
        Denied("index_not_found_exception: no such index [events]"),
    ),
    (
        406,
        answer!("elasticsearch-406-content-type.json"),
        Refused("Content-Type header [text/plain]"),
    ),
    (409, answer!("opensearch-409-conflict.json"), Duplicate),
    (
        413,
        answer!("aws-413-too-large.json"),
        Refused("Request size exceeded 10485760 bytes"),
    ),
    (
        429,
        answer!("opensearch-429-rejected.json"),
        Retry("rejected_execution_exception: rejected execution of"),
    ),
    (
        429,
        answer!("opensearch-429-circuit-breaking.json"),
        Retry("circuit_breaking_exception: [parent] Data too large"),
    ),
    (
        429,
        answer!("elasticsearch-429-flood-stage.json"),
        Retry("[TOO_MANY_REQUESTS/12/disk usage exceeded"),
    ),
    (
        500,
        answer!("opensearch-500-io.json"),
        Retry("i_o_exception: No space left on device"),
    ),
    (
        503,
        answer!("opensearch-503-unavailable-shards.json"),
        Retry("unavailable_shards_exception: [events][0]"),
    ),
    (
        504,
        answer!("aws-504-gateway.html"),
        Retry("<title>504 Gateway Time-out</title>"),
    ),
];

#[test]
fn answers_mean_what_the_servers_mean() {
    for (status, (file, body), means) in ANSWERS {
        check_answer(file, status, body, &means);
    }
}

#[test]
fn answers_of_others_are_explained_by_their_beginning() {
    let long = "x".repeat(100_000);
    for (status, body, means) in [
        (201, "", Refused("not an index's: no body")),
        (
            200,
            "<html>log in</html>",
            Refused("not an index's: <html>log in</html>"),
        ),
        (201, r#"{"result": "noop"}"#, Refused("not an index's")),
        (201, r#"{"result": ["created"]}"#, Refused("not an index's")),
        (204, "", Refused("status 204: no body")),
        (301, "", Refused("status 301: no body")),
        (401, "Unauthorized", Denied("status 401: Unauthorized")),
        (403, "Request throttled", Retry("status 403: Request throttled")),
        // A conflict that is not about the document.
        (409, "", Retry("status 409: no body")),
        (
            429,
            "429 Too Many Requests /events/_doc/1",
            Retry("status 429: 429 Too Many Requests"),
        ),
        (500, "\0\r\n\u{1b}[31m", Retry("status 500:    ")),
        (500, &long, Retry("status 500: xxx")),
        (502, "{", Retry("status 502: {")),
        (503, "{\"error\": null}", Retry("status 503: {\"error\": null}")),
        (505, "", Refused("status 505: no body")),
    ] {
        check_answer(&format!("{body:.40}"), status, body, &means);
    }
}

fn check_answer(case: &str, status: u16, body: &str, means: &Means) {
    let verdict = verdict(status, body.as_bytes());
    let reason = match (&verdict, means) {
        (Verdict::Indexed, Means::Indexed)
        | (Verdict::Duplicate, Means::Duplicate)
        | (Verdict::RefusesIds, Means::RefusesIds) => return,
        (Verdict::Retry(reason), Means::Retry(part))
        | (Verdict::Denied(reason), Means::Denied(part))
        | (Verdict::Refused(reason), Means::Refused(part)) => {
            assert!(reason.contains(part), "{case}, {status}: {reason}");
            reason
        }
        _ => panic!("{case}, {status}: {verdict:?} instead of {means:?}"),
    };
    assert!(
        reason.starts_with(&format!("status {status}")),
        "{case}, {status}: {reason}"
    );
    assert!(
        reason.len() < 400 && !reason.contains(char::is_control),
        "{case}, {status}: {reason:?}"
    );
}

#[test]
fn a_body_that_is_not_text_is_no_obstacle() {
    let Verdict::Retry(reason) = verdict(500, b"\xff\xfe\x80") else {
        panic!("500 is worth another attempt");
    };
    assert_eq!(reason, "status 500: \u{fffd}\u{fffd}\u{fffd}");
}
