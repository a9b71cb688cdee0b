//! What reading a hit costs beyond decoding it: class of visit, program, place, source, campaign, hashes, cleaning.
//!
//! `cargo bench --bench enrich [-- --agents N --rounds N --json FILE]`. The agents are the demo's, all different; each round
//! goes through all of them, so that nothing is in the processor's nearest cache because it was just there.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a benchmark prints, may fail where it stands, and shares tools that it does not use all of"
)]

mod support;

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use pixel::cli::demo::generator::Demo;
use pixel::config::Config;
use pixel::hit::enrich::rules;
use pixel::hit::enrich::{EnrichContext, Enriched};
use pixel::hit::event::Event;
use pixel::hit::read::{Hit, RequestContext};
use pixel::hit::request::http_request::HttpRequest;
use pixel::hit::request::{Ingress, Request};
use pixel::server::gateway::payload;
use serde_json::json;
use support::{Options, machine, milliseconds};

fn main() {
    let options = Options::read();
    let wanted = options.number("--agents", 5_000);
    let rounds = options.number("--rounds", 20);
    let begun = Instant::now();
    let found = rules::agents().search("Mozilla/5.0");
    black_box(found.meaning(rules::VISITS));
    let built = begun.elapsed();
    let hits = hits(wanted);
    let config = Config::default();
    let now = DateTime::from_timestamp_millis(1_780_000_000_000).unwrap();

    let enrich = best(rounds, || {
        for hit in &hits {
            black_box(Enriched::new(hit, EnrichContext::default()));
        }
    });
    let whole = best(rounds, || {
        for hit in &hits {
            let enriched = Enriched::new(hit, EnrichContext::default());
            black_box(Event::new(hit, &enriched, &config.policy, now));
        }
    });
    let each = |took: Duration| took.as_secs_f64() * 1e6 / f64::from(u32::try_from(hits.len()).unwrap());
    println!(
        "{}\n{} hits, as many different agents, best of {rounds} rounds\n",
        machine(),
        hits.len()
    );
    println!("{:<52} {:>8.0} µs", "the tables, once", built.as_secs_f64() * 1e6);
    println!("{:<52} {:>8.2} µs", "enriching a hit", each(enrich));
    println!("{:<52} {:>8.2} µs", "enriching it and making its document", each(whole));
    println!(
        "\n{:<46} {:>10} {:>10} {:>10}",
        "requests with one large part", "decode", "default", "slowest"
    );
    let large = large_requests().map(|(name, arrived)| {
        let whole = |ingress| best(rounds, || read_whole(ingress, &arrived, &config, now));
        let document = payload(Ingress::Passthrough, &arrived).unwrap();
        let decode = milliseconds(best(rounds, || drop(black_box(Request::decode(&document)))));
        let default = milliseconds(whole(Ingress::Passthrough));
        let others = Ingress::ALL.map(|ingress| (whole(ingress), ingress));
        let (slowest, ingress) = others.into_iter().max_by_key(|(took, _)| *took).unwrap();
        let slowest = milliseconds(slowest);
        println!("{name:<46} {decode:>7.2} ms {default:>7.2} ms {slowest:>7.2} ms ({ingress})");
        json!({"name": name, "decode_ms": decode, "default_ms": default, "slowest_ms": slowest, "slowest_ingress": ingress.name()})
    });
    options.write(&json!({
        "hits": hits.len(),
        "tables": built.as_secs_f64() * 1e6,
        "enrich": each(enrich),
        "event": each(whole),
        "large": large,
    }));
}

/// Bytes of the large part of a request: a little less than the server takes in one line.
const LARGE: usize = 64_000;

/// Requests with one large part of each kind that a careless reader would look at once for each of its pieces.
fn large_requests() -> [(&'static str, HttpRequest); 12] {
    let repeated = |text: &str| text.repeat(LARGE / text.len());
    let names = |between: &str| {
        let names = (0..LARGE / 5).map(|number| format!("{number:04x}"));
        names.collect::<Vec<_>>().join(between)
    };
    let query = |query: String| request(query, &[]);
    let header = |name: &str, value: String| request(String::new(), &[(name.to_owned(), value)]);
    let many_headers: Vec<_> = (0..900).map(|_| ("accept".to_owned(), "a".repeat(70))).collect();
    let different_headers: Vec<_> = (0..900)
        .map(|number| (format!("sec-{number:066}"), String::new()))
        .collect();
    [
        ("64 kB of distinct names", query(names("&"))),
        ("64 kB of one name", query(repeated("name&"))),
        (
            "64 kB of distinct names in the page's query",
            query(format!("url=https://a.example/?{}", names("%26"))),
        ),
        ("64 kB of URLs in one value", query(format!("url={}", repeated("://")))),
        (
            "64 kB of persons in one value",
            header("referer", format!("https://a.example/{}", repeated("user="))),
        ),
        ("64 kB of tokens in one value", query(format!("q={}", repeated("eyJ")))),
        (
            "64 kB of addresses in one header",
            header("sec-ch-ua", repeated("1.1.1.1/")),
        ),
        (
            "64 kB of labels in one host",
            header("referer", format!("https://{}example/", repeated("a."))),
        ),
        (
            "64 kB of robots in one agent",
            header("user-agent", format!("Name/1.0 {}", repeated("bot"))),
        ),
        ("64 kB of cookies", header("cookie", repeated("a=b; "))),
        ("900 headers of one name", request(String::new(), &many_headers)),
        (
            "900 headers of different names",
            request(String::new(), &different_headers),
        ),
    ]
}

fn request(query: String, headers: &[(String, String)]) -> HttpRequest {
    HttpRequest {
        method: "GET".to_owned(),
        path: "/pixel.gif".to_owned(),
        query,
        headers: headers.to_vec(),
        peer: "203.0.113.9".parse().ok(),
        id: "bench".to_owned(),
        time: Utc::now(),
        body: None,
    }
}

/// All that `pixel serve` does with a request before it stores the event.
fn read_whole(ingress: Ingress, arrived: &HttpRequest, config: &Config, now: DateTime<Utc>) {
    let payload = payload(ingress, arrived).unwrap();
    let request = Request::decode(&payload).unwrap();
    let circumstances = RequestContext {
        now,
        invocation: "bench".to_owned(),
        trusted_hops: 0,
    };
    let hit = Hit::read(request, &circumstances);
    let enriched = Enriched::new(&hit, EnrichContext::default());
    black_box(Event::new(&hit, &enriched, &config.policy, now));
}

/// Hits with different agents.
fn hits(wanted: usize) -> Vec<Hit> {
    let mut agents = BTreeSet::new();
    let mut hits = Vec::new();
    for seed in 1.. {
        let demo = Demo {
            seed,
            events: 20_000,
            days: 30,
            end: DateTime::from_timestamp_millis(1_780_000_000_000).unwrap(),
        };
        for (
            request,
            RequestContext {
                now,
                invocation,
                trusted_hops,
            },
        ) in demo.requests()
        {
            let agent = request.header("user-agent").unwrap_or_default().to_owned();
            if agents.insert(agent) {
                hits.push(Hit::read(
                    request,
                    &RequestContext {
                        now,
                        invocation,
                        trusted_hops,
                    },
                ));
            }
            if hits.len() == wanted {
                return hits;
            }
        }
    }
    hits
}

fn best(rounds: usize, mut work: impl FnMut()) -> Duration {
    let time = |_| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    };
    (0..rounds).map(time).min().unwrap()
}
