//! The shop's site: its pages, the sources of visits, and the steps of a visit.

use super::agents::Place;
use super::draft::Draft;
use super::mail::add_privacy_signals;
use super::people::{Occasion, Person};
use super::random::Random;
use super::{HitKind, Planned, Window};

/// The pages of the site, with their weights.
const PAGES: [(u64, &str, &str); 32] = [
    (160, "/", "Shop"),
    (70, "/spring", "Spring"),
    (62, "/sale", "Sale"),
    (40, "/new", "New this week"),
    (36, "/bags", "Bags"),
    (34, "/shoes", "Shoes"),
    (30, "/jackets", "Jackets"),
    (24, "/bags/city-backpack", "City backpack"),
    (22, "/shoes/trail-runner", "Trail runner"),
    (20, "/jackets/rain-shell", "Rain shell"),
    (18, "/bags/weekender", "Weekender"),
    (16, "/shoes/canvas-low", "Canvas low"),
    (15, "/jackets/down-light", "Light down jacket"),
    (14, "/shoes/winter-boot", "Winter boot"),
    (12, "/bags/tote", "Tote"),
    (12, "/jackets/fleece", "Fleece"),
    (26, "/basket", "Basket"),
    (14, "/checkout", "Checkout"),
    (9, "/thanks", "Thank you"),
    (16, "/search", "Search"),
    (14, "/account", "Account"),
    (12, "/blog", "Blog"),
    (22, "/blog/how-to-pack-for-a-week", "How to pack for a week"),
    (18, "/blog/waterproof-or-not", "Waterproof or not?"),
    (12, "/blog/repair-instead-of-replace", "Repair instead of replace"),
    (8, "/blog/a-day-in-the-workshop", "A day in the workshop"),
    (10, "/sizes", "Sizes"),
    (9, "/delivery", "Delivery and returns"),
    (7, "/contact", "Contact"),
    (5, "/about", "About us"),
    (4, "/jobs", "Jobs"),
    (3, "/privacy", "Privacy"),
];

/// The source of a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A typed address, or a bookmark.
    Direct,
    /// A page elsewhere, with its referrer.
    Elsewhere(&'static str),
    /// An advertisement: referrer, name of the click id, and its UTM source and medium.
    Paid(&'static str, &'static str, &'static str, &'static str),
    /// A link in a mail.
    Mail(&'static str),
}

const SOURCES: [(u64, Source); 27] = [
    (260, Source::Direct),
    (230, Source::Elsewhere("https://www.google.com/")),
    (45, Source::Elsewhere("https://www.google.de/")),
    (40, Source::Elsewhere("https://www.bing.com/")),
    (32, Source::Elsewhere("https://duckduckgo.com/")),
    (12, Source::Elsewhere("https://www.ecosia.org/")),
    (8, Source::Elsewhere("https://search.yahoo.com/")),
    (6, Source::Elsewhere("https://yandex.com/")),
    (30, Source::Elsewhere("https://l.facebook.com/")),
    (28, Source::Elsewhere("https://l.instagram.com/")),
    (14, Source::Elsewhere("https://t.co/")),
    (12, Source::Elsewhere("https://www.linkedin.com/")),
    (12, Source::Elsewhere("https://www.reddit.com/")),
    (9, Source::Elsewhere("https://www.pinterest.com/")),
    (8, Source::Elsewhere("https://www.youtube.com/")),
    (4, Source::Elsewhere("https://news.ycombinator.com/")),
    (26, Source::Elsewhere("https://chatgpt.com/")),
    (10, Source::Elsewhere("https://www.perplexity.ai/")),
    (8, Source::Elsewhere("https://gemini.google.com/")),
    (6, Source::Elsewhere("https://copilot.microsoft.com/")),
    (4, Source::Elsewhere("https://claude.ai/")),
    (20, Source::Elsewhere("https://hiking.example/gear/backpacks")),
    (12, Source::Elsewhere("https://magazine.example/ten-bags-for-the-city")),
    (60, Source::Paid("https://www.google.com/", "gclid", "google", "cpc")),
    (
        22,
        Source::Paid("https://l.instagram.com/", "fbclid", "instagram", "paid-social"),
    ),
    (40, Source::Mail("https://mail.google.com/")),
    (30, Source::Mail("")),
];

const SCREENS: [&str; 7] = [
    "1920x1080",
    "1536x864",
    "2560x1440",
    "1440x900",
    "1366x768",
    "1680x1050",
    "3840x2160",
];
const PHONES: [&str; 6] = ["390x844", "393x873", "412x915", "360x800", "430x932", "384x832"];

/// The weights of the numbers of pages of a visit.
const LENGTHS: [(u64, u8); 8] = [(44, 1), (20, 2), (12, 3), (9, 4), (6, 5), (4, 7), (3, 9), (2, 14)];

/// Plans `count` page views: people visit again and again, some more than others.
pub(super) fn plan(seed: u64, window: Window, count: usize, plan: &mut Vec<Planned>) {
    let end = plan.len() + count;
    let mut random = Random::new(seed, 0x7369_7465);
    let visitors = (count as u64 / 5).max(20);
    let mut visit = 0;
    while plan.len() < end {
        let visitor = u32::try_from(random.rather_low(visitors)).unwrap_or_default();
        let person = Person::new(seed, visitor.into());
        let mut time = window.active_time(&person, &mut random);
        let length = random.weighted(&LENGTHS, |length| length.0).1;
        for step in 0..length {
            if plan.len() == end || time > window.end {
                break;
            }
            let what = HitKind::View { visitor, visit, step };
            plan.push(Planned { time, what });
            time += 4_000 + random.between(0, 30_000) + i64::try_from(random.rather_low(150_000)).unwrap_or_default();
        }
        visit += 1;
    }
}

/// Builds the request of one step of a visit; `visit` must be the visit's own, at its beginning.
pub(super) fn view(person: &Person, visit: &mut Random, step: u8, random: &mut Random) -> Draft {
    let source = visit.weighted(&SOURCES, |source| source.0).1;
    let click = visit.hex(22);
    let mut before = None;
    let mut page = visit.weighted(&PAGES, |page| page.0);
    for _ in 0..step {
        before = Some(page);
        page = visit.weighted(&PAGES, |page| page.0);
    }
    let (agent, text) = person.agent(Occasion::Web);
    let mut draft = Draft::for_person(person, text).with_code("/pixel/{code}", "site.gif");
    browser_headers(&mut draft, person, agent.place, random);
    let landing = before.is_none();
    let from = before.map_or_else(|| referrer(source).to_owned(), |(_, path, _)| address(path));
    let tags = if landing { tags(source, &click) } else { Vec::new() };
    let query: Vec<_> = tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    draft.parameter("url", format!("{}{mark}{}", address(page.1), query.join("&")));
    if !from.is_empty() {
        draft.parameter("referrer", from);
    }
    for (name, value) in tags {
        draft.parameter(name, value);
    }
    describe(&mut draft, person, page, agent.place);
    act(&mut draft, page.1, random);
    draft
}

fn address(path: &str) -> String {
    format!("https://www.shop.example{path}")
}

const fn referrer(source: Source) -> &'static str {
    match source {
        Source::Direct => "",
        Source::Elsewhere(page) | Source::Paid(page, ..) | Source::Mail(page) => page,
    }
}

/// Returns the parameters of the owner's links and of advertisements.
fn tags(source: Source, click: &str) -> Vec<(&'static str, String)> {
    let tag = |name, value: &str| (name, value.to_owned());
    match source {
        Source::Paid(_, id, source, medium) => vec![
            tag("utm_source", source),
            tag("utm_medium", medium),
            tag("utm_campaign", "brand"),
            tag("utm_term", "backpack"),
            tag(id, click),
        ],
        Source::Mail(_) => vec![
            tag("utm_source", "newsletter"),
            tag("utm_medium", "email"),
            tag("utm_campaign", "newsletter"),
        ],
        Source::Direct | Source::Elsewhere(_) => Vec::new(),
    }
}

/// Adds the parameters that the script sends in addition to the page.
fn describe(draft: &mut Draft, person: &Person, page: &(u64, &str, &str), place: Place) {
    let screens: &[&str] = if place == Place::Mobile { &PHONES } else { &SCREENS };
    let mut own = person.own(0x7363_726e);
    draft.parameter("title", page.2);
    draft.parameter("screen", *own.pick(screens));
    if own.chance(20) {
        // A visitor who has an account and is signed in.
        draft.parameter("userid", person.user());
    }
}

/// Adds an action: most hits are views; some pages lead to more.
fn act(draft: &mut Draft, path: &str, random: &mut Random) {
    let action = match path {
        "/thanks" => "purchase",
        "/basket" if random.chance(40) => "add-to-basket",
        "/account" if random.chance(15) => "sign-up",
        _ if random.chance(6) => "click",
        _ => return,
    };
    draft.parameter("action", action);
}

fn browser_headers(draft: &mut Draft, person: &Person, place: Place, random: &mut Random) {
    draft.add_accept_headers(
        "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
        person.language,
    );
    draft.header("referer", "https://www.shop.example/");
    draft.header("sec-fetch-dest", "image");
    add_privacy_signals(draft, person, place);
    if random.chance(8) {
        // The shop's own cookies are sent, too; they are never stored.
        draft.header("cookie", format!("basket={}; consent=1", random.hex(16)));
    }
    match random.below(100) {
        0..3 => draft.header("sec-purpose", "prefetch"),
        3 => draft.header("sec-purpose", "prefetch;prerender"),
        4 => draft.header("purpose", "prefetch"),
        5 if draft.agent.contains("Firefox/") => draft.header("x-moz", "prefetch"),
        _ => {}
    }
}
