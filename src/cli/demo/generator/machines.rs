//! Crawlers and monitors, and defective hits.

use super::agents::{CRAWLERS, MONITORS, fill};
use super::draft::Draft;
use super::people::{Occasion, Person, address};
use super::random::Random;
use super::{HitKind, Planned, Window};

/// Plans `machines` hits of machines, a third of them of monitors, and `odd` defective hits.
pub(super) fn plan(seed: u64, window: Window, machines: usize, odd: usize, plan: &mut Vec<Planned>) {
    let mut random = Random::new(seed, 0x626f_7473);
    let watches = machines / 3;
    watch_evenly(window, watches, &mut random, plan);
    let end = plan.len() + machines - watches;
    while plan.len() < end {
        let crawler = u32::try_from(random.below(1 << 20)).unwrap_or_default();
        let start = window.since(window.start, &mut random);
        for _ in 0..=random.rather_low(14) {
            let time = start + random.between(0, 40_000);
            if plan.len() < end && window.holds(time) {
                plan.push(Planned {
                    time,
                    what: HitKind::Crawl { crawler },
                });
            }
        }
    }
    for _ in 0..odd {
        let person = u32::try_from(random.below(1 << 20)).unwrap_or_default();
        let time = window.since(window.start, &mut random);
        plan.push(Planned {
            time,
            what: HitKind::Odd { person },
        });
    }
}

/// Plans a monitor's hits at equal intervals, each a little late.
fn watch_evenly(window: Window, count: usize, random: &mut Random, plan: &mut Vec<Planned>) {
    let length = window.end - window.start;
    for turn in 0..count {
        let [turn, count] = [turn, count].map(|number| i64::try_from(number).unwrap_or(i64::MAX));
        let late = random.between(0, 900);
        let time = window.start + length / count * turn + length % count * turn / count + late;
        let monitor = u8::try_from(turn % 4).unwrap_or_default();
        plan.push(Planned {
            time: time.min(window.end),
            what: HitKind::Watch { monitor },
        });
    }
}

/// Builds a crawler's request; a crawler has one address.
pub(super) fn crawl(seed: u64, crawler: u32, random: &mut Random) -> Draft {
    let mut own = Random::new(seed ^ 0x6372_6177, crawler.into());
    let agent = fill(own.weighted(&CRAWLERS, |agent| agent.0).1, &mut own);
    let (country, network) = *own.pick(&[
        ("US", 15_169),
        ("US", 8_075),
        ("US", 16_509),
        ("FR", 16_276),
        ("DE", 24_940),
        ("SG", 45_102),
    ]);
    let mut draft = Draft::for_machine(agent, address(&mut own), country, network);
    draft.header("accept", "*/*");
    draft.header("accept-encoding", "gzip");
    if own.chance(30) {
        draft.header("from", "crawler@search.example");
    }
    let page = *random.pick(&["/", "/sale", "/bags", "/shoes", "/blog", "/blog/waterproof-or-not"]);
    draft.header("referer", format!("https://www.shop.example{page}"));
    draft.with_code("/pixel/{code}", "site.gif")
}

/// Builds a monitor's request; a monitor always has the same address.
pub(super) fn watch(monitor: u8) -> Draft {
    let mut own = Random::new(0x6d6f_6e69, monitor.into());
    let agent = MONITORS[usize::from(monitor) % MONITORS.len()].to_owned();
    let mut draft = Draft::for_machine(agent, address(&mut own), "US", 16_509);
    draft.header("accept", "*/*");
    if monitor.is_multiple_of(2) {
        draft.method = "HEAD";
    }
    draft
}

/// Builds a defective hit.
pub(super) fn build_odd(person: &Person, random: &mut Random) -> Draft {
    let (_, text) = person.agent(Occasion::Web);
    let mut draft = Draft::for_person(person, text);
    draft.add_accept_headers("image/*,*/*;q=0.8", person.language);
    match random.below(8) {
        // `%E4` is not UTF-8; decoded, it is the replacement character.
        0 => draft.parameter("title", "K\u{fffd}se und Br\u{fffd}tchen"),
        1 => draft.parameter(
            "url",
            format!("https://www.shop.example/search?q={}", "bag+".repeat(700)),
        ),
        2 => {
            draft.parameter("url", "https://www.shop.example/account?token=5ecre7&lang=en");
            draft.parameter("access_token", random.hex(32));
        }
        3 => {
            draft.parameter("url", "https://anna:pa55@staging.shop.example/");
            draft.header("authorization", format!("Basic {}", random.hex(16)));
        }
        4 => draft.address = None,
        5 => (0..120).for_each(|number| draft.parameter(&format!("field{number:03}"), random.hex(4))),
        6 => draft.parameter("userid", "u-1\0\r\nSet-Cookie: a=b"),
        _ => {
            draft.parameter("action", "<script>alert(1)</script>");
            draft.parameter("utm_source", "'; DROP TABLE events; --");
            // It looks signed, but is not.
            draft = draft.with_code("/pixel/{code}", format!("_{}.gif", random.hex(43)));
        }
    }
    draft
}
