//! The function's own work for one hit, many times over: decode, reply, event, request, signature. Nothing is sent.
//!
//! `one_hit COUNT` is run by `cargo bench --bench instructions` under callgrind with two counts; the difference is free of
//! start-up.

use pixel::hit::settings::Lookups;
use std::hint::black_box;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use chrono::{DateTime, Utc};
use pixel::client::sign;
use pixel::client::sign::Unsigned;
use pixel::config::{Config, Variables};
use pixel::destination::Destination;
use pixel::destination::opensearch::Target;
use pixel::hit::answer;
use pixel::hit::answer::Answer;
use pixel::hit::read::RequestContext;

const HOST: &str = "search-pixel-abcdefghijklmnopqrstuvwxyz.eu-central-1.es.amazonaws.com";

/// The hit that every benchmark takes.
const HIT: &str = include_str!("../benches/hit.json");

fn main() {
    let count = std::env::args()
        .nth(1)
        .and_then(|count| count.parse().ok())
        .unwrap_or(1);
    let url = format!("https://{HOST}/events-%25Y.%25m.%25d");
    let (config, problems) = Config::read(&Variables::from([("PIXEL_DESTINATION".to_owned(), url)]));
    assert!(problems.is_empty(), "{problems:?}");
    let Some(Destination::OpenSearch(target)) = &config.destination else {
        panic!("the URL is an index's");
    };
    let credentials = Credentials::new(
        "ASIATESTTESTTESTTEST",
        "test-secret-key",
        Some("session token ".repeat(40)),
        None,
        "example",
    );
    for _ in 0..count {
        black_box(hit(black_box(HIT.as_bytes()), &config, target, &credentials));
    }
}

fn hit(payload: &[u8], config: &Config, target: &Target, credentials: &Credentials) -> usize {
    // A fixed time, so that the count is the same every time.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_769_904_007);
    let Answer::Accepted { reply, request } = answer::answer(payload, &config.settings()) else {
        panic!("the hit is accepted");
    };
    let circumstances = RequestContext {
        now: DateTime::<Utc>::from(now),
        invocation: "8476a536-e9f4-11e8-9739-2dfe598c3fcd".to_owned(),
        trusted_hops: config.trusted_hops,
    };
    let event = answer::build_event(*request, &circumstances, &config.settings(), &Lookups::none());
    let request = target.store(&event, true);
    let unsigned = Unsigned {
        method: request.method,
        url: &request.url,
        host: HOST,
        body: event.document.as_bytes(),
    };
    let Ok(headers) = sign::headers(unsigned, credentials, "es", "eu-central-1", now) else {
        panic!("the request can be signed");
    };
    reply.len() + headers.len()
}
