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

use chrono::DateTime;
use pixel::config::Config;
use pixel::demo::Demo;
use pixel::enrich::{Beside, Enriched};
use pixel::event::Event;
use pixel::hit::{Circumstances, Hit};
use pixel::rules;
use serde_json::json;
use support::{Options, machine};

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
            black_box(Enriched::of(hit, Beside::default()));
        }
    });
    let whole = best(rounds, || {
        for hit in &hits {
            let enriched = Enriched::of(hit, Beside::default());
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
    options.write(
        &json!({"hits": hits.len(), "tables": built.as_secs_f64() * 1e6, "enrich": each(enrich), "event": each(whole)}),
    );
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
            Circumstances {
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
                    &Circumstances {
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
