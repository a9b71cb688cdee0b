//! `/pixel.js` in a real browser: which views and events arrive, and which must not.

use std::collections::HashMap;
use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use pixel::hit::script;
use serde_json::{Value, json};

use crate::server::browser::{Page, Site, html};
use crate::support::chromium::{Browser, Tab, browser};
use crate::support::serving::{Served, serve, wait_for};

/// Most bytes of the script as browsers fetch it.
const MOST_GZIPPED: usize = 1536;

#[test]
fn the_script_is_small() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(script::text().as_bytes()).expect("memory is enough");
    let gzipped = encoder.finish().expect("memory is enough").len();
    assert!(gzipped <= MOST_GZIPPED, "{gzipped} bytes");
    assert!(!script::text().contains("cookie") && !script::text().contains("Storage"));
}

#[test]
fn a_page_of_the_stage_gets_the_script_with_its_tag() {
    let served = serve().start();
    let reply = served.get("/prod/pixel.js?code=a");
    assert_eq!((reply.status, reply.body.as_slice()), (200, script::text().as_bytes()));
    for (name, value) in [
        ("content-type", script::MEDIA_TYPE),
        ("cache-control", script::CACHE_CONTROL),
        ("etag", script::etag()),
        ("x-pixel", "ignored; reason=script"),
    ] {
        assert_eq!(reply.header(name), Some(value), "{name}");
    }
    assert_eq!(served.documents(), Vec::<String>::new(), "fetching it is no hit");
}

/// A stage, a site whose pages hold its script, and a browser.
struct World {
    served: Served,
    site: Site,
    browser: Browser,
}

/// A page with a title and these elements.
fn page(title: &str, elements: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><title>{title}</title>{elements}</head><body><p>{title}</p></body></html>"
    )
}

fn tag(served: &Served, query: &str) -> String {
    format!("<script async src=\"{}/pixel.js{query}\"></script>", served.url())
}

impl World {
    fn new(pages: impl Fn(&Served) -> Vec<(&'static str, Page)>) -> Self {
        let served = serve().start();
        let site = Site::start(pages(&served).into_iter().collect::<HashMap<_, _>>());
        Self {
            served,
            site,
            browser: browser(),
        }
    }

    /// A site with two pages that hold the script.
    fn usual() -> Self {
        Self::new(|served| {
            vec![
                ("/", html("", page("First", &tag(served, "?code=site")))),
                ("/second", html("", page("Second", &tag(served, "?code=site")))),
            ]
        })
    }

    /// The events in the order of their arrival, once the one with this action is there; it is left out.
    fn until(&self, last: &str) -> Vec<Value> {
        wait_for("the last event", || {
            let mut events = self.served.events();
            let found = events.iter().position(|event| text(event, "/event/action") == last)?;
            events.remove(found);
            Some(events)
        })
    }
}

/// All events but one that the page sends now, once that one is there.
fn end(tab: &Tab<'_>, world: &World) -> Vec<Value> {
    let url = json!(format!("{}/pixel.gif?action=end", world.served.url()));
    tab.value(&format!(
        "new Promise((resolve, reject) => {{ const image = new Image(); image.onload = () => resolve(1); image.onerror = reject; image.src = {url} }})"
    ));
    world.until("end")
}

fn text<'a>(event: &'a Value, pointer: &str) -> &'a str {
    event.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn views(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| text(event, "/url/full")).collect()
}

fn wait_for_views(world: &World, count: usize) -> Vec<Value> {
    wait_for("the views", || {
        Some(world.served.events()).filter(|events| events.len() >= count)
    })
}

#[test]
fn a_view_arrives_complete() {
    let world = World::usual();
    let first = world
        .site
        .url("/?utm_source=news&utm_campaign=It%27s%20%C3%A9&a=b#part");
    let tab = world.browser.open(&first);
    wait_for_views(&world, 1);
    tab.value(&format!("location.href = {}", json!(world.site.url("/second"))));
    let events = wait_for_views(&world, 2);
    let view = &events[0];
    for (pointer, expected) in [
        ("/event/action", "view"),
        ("/pixel/code", "site"),
        ("/url/full", first.trim_end_matches("#part")),
        ("/page/title", "First"),
        ("/browser/language", "en-US"),
        ("/browser/screen", "compact"),
        ("/campaign/source", "news"),
        ("/campaign/name", "It's é"),
        ("/http/request/method", "POST"),
        ("/params/header/sec-fetch-dest", "empty"),
        ("/params/querystring/a", ""),
    ] {
        let expected = if pointer == "/browser/screen" {
            // As wide as headless browsers say they are.
            let width = tab.value("screen.width").as_u64().expect("a width");
            ["compact", "medium", "expanded", "large", "extra-large"]
                [[600, 840, 1200, 1600].iter().filter(|limit| width >= **limit).count()]
        } else {
            expected
        };
        assert_eq!(text(view, pointer), expected, "{pointer}: {view:#}");
    }
    assert_eq!(
        text(&events[1], "/params/querystring/referrer"),
        first.trim_end_matches("#part")
    );
    assert_eq!(text(&events[1], "/page/title"), "Second");
    assert_eq!(text(view, "/params/header/cookie"), "");
    assert_eq!(tab.value("document.cookie"), "", "no cookies");
    assert_eq!(tab.value("localStorage.length + sessionStorage.length"), 0);
}

#[test]
fn moving_within_a_page_is_a_view_for_each_address() {
    let world = World::usual();
    let start = world.site.url("/");
    let tab = world.browser.open(&start);
    wait_for_views(&world, 1);
    for (step, count) in [
        ("history.pushState({}, '', '/a'); document.title = 'A'", 2),
        // Two at once are one, and the same address is none.
        ("history.pushState({}, '', '/b'); history.replaceState({}, '', '/c')", 3),
        ("history.replaceState({n: 1}, '', '/c'); location.hash = 'part'", 3),
        ("history.replaceState({n: 2}, '', '/d')", 4),
        ("history.go(-2)", 5),
    ] {
        tab.value(step);
        wait_for_views(&world, count);
    }
    let events = end(&tab, &world);
    let expected: Vec<_> = ["/", "/a", "/c", "/d", "/a"].map(|path| world.site.url(path)).into();
    assert_eq!(views(&events), expected);
    assert_eq!(text(&events[1], "/page/title"), "A", "the title is the new page's");
    let referrers: Vec<_> = events
        .iter()
        .map(|event| text(event, "/params/querystring/referrer"))
        .collect();
    assert_eq!(referrers[1..4], expected[..3]);
}

#[test]
fn a_page_of_the_back_forward_cache_is_seen_again() {
    let world = World::usual();
    let first = world.site.url("/");
    let tab = world.browser.tab();
    tab.before_each_page("addEventListener('pageshow', event => { window.cached = event.persisted })");
    tab.go(&first);
    wait_for_views(&world, 1);
    tab.go(&world.site.url("/second"));
    wait_for_views(&world, 2);
    tab.value("void history.back()");
    tab.wait(
        "the first page, from the cache",
        "document.title === 'First' && window.cached === true",
    );
    wait_for_views(&world, 3);
    let events = end(&tab, &world);
    assert_eq!(views(&events), [first.clone(), world.site.url("/second"), first]);
}

#[test]
fn the_script_twice_counts_once_and_events_reach_it_all_the_same() {
    let world = World::new(|served| {
        let queue = "<script>window.pixel = function () { (pixel.q = pixel.q || []).push(arguments) };
                     pixel('event', 'early', {place: 'head'})</script>";
        let twice = format!(
            "{queue}{0}{0}{1}",
            tag(served, "?code=site"),
            tag(served, "?code=other")
        );
        vec![("/", html("", page("Twice", &twice)))]
    });
    let tab = world.browser.open(&world.site.url("/"));
    tab.wait("the scripts", "typeof pixel.seen === 'object'");
    wait_for_views(&world, 2);
    tab.value("pixel('event', 'Sign up: now', {plan: 'a&b=c', code: 'own', url: 'mine', empty: '', nothing: null})");
    tab.value("pixel('nonsense')");
    wait_for_views(&world, 3);
    let events = end(&tab, &world);
    // Beacons may overtake each other.
    let mut actions: Vec<_> = events.iter().map(|event| text(event, "/event/action")).collect();
    actions[..2].sort_unstable();
    assert_eq!(actions, ["early", "view", "sign_up:_now"]);
    let early = events.iter().find(|event| text(event, "/event/action") == "early");
    assert_eq!(text(early.expect("it is there"), "/params/querystring/place"), "head");
    let event = &events[2];
    assert_eq!(text(event, "/params/querystring/plan"), "a&b=c");
    assert_eq!(text(event, "/pixel/code"), "own");
    assert_eq!(
        text(event, "/url/full"),
        world.site.url("/"),
        "the page is not the caller's to choose"
    );
    assert!(event.pointer("/params/querystring/nothing").is_none());
}

/// How a beacon can fail, by what the page's head or its headers hold.
#[test]
fn a_blocked_beacon_becomes_an_image() {
    let world = World::new(|served| {
        let plain = tag(served, "");
        let with = |head: &str| html("", page("Page", &format!("{head}{plain}")));
        let policy = |policy: &'static str| {
            let page = page("Page", &plain);
            Page {
                headers: policy,
                ..html("", page)
            }
        };
        vec![
            ("/refused", with("<script>navigator.sendBeacon = () => false</script>")),
            (
                "/absent",
                with("<script>Object.defineProperty(navigator, 'sendBeacon', {value: undefined})</script>"),
            ),
            (
                "/throws",
                with("<script>navigator.sendBeacon = () => { throw new TypeError('no') }</script>"),
            ),
            ("/policy", policy("Content-Security-Policy: connect-src 'none'\r\n")),
        ]
    });
    for (count, path) in ["/refused", "/absent", "/throws", "/policy"].into_iter().enumerate() {
        let tab = world.browser.open(&world.site.url(path));
        // The hit of the page itself and, after it, one more for each page before.
        wait_for_views(&world, 2 * count + 1);
        end(&tab, &world);
        let mut events = world.served.events();
        events.retain(|event| text(event, "/event/action") == "view");
        assert_eq!(events.len(), count + 1, "{path}: one hit");
        let event = events.last().expect("an event");
        assert_eq!(text(event, "/url/full"), world.site.url(path));
        assert_eq!(text(event, "/http/request/method"), "GET", "{path}");
        assert_eq!(text(event, "/params/header/sec-fetch-dest"), "image", "{path}");
        drop(tab);
    }
}

/// A strict policy, as the README tells to write it, and one that only reports.
#[test]
fn a_strict_policy_is_kept() {
    let served = serve().start();
    let origin = served.url();
    let strict: &'static str = format!(
        "Content-Security-Policy: default-src 'none'; script-src {origin}; connect-src {origin}; img-src {origin}\r\n"
    )
    .leak();
    let reporting = "Content-Security-Policy-Report-Only: connect-src 'none'\r\n";
    let pages = HashMap::from([
        ("/strict", html(strict, page("Strict", &tag(&served, "")))),
        ("/reporting", html(reporting, page("Reporting", &tag(&served, "")))),
    ]);
    let world = World {
        site: Site::start(pages),
        served,
        browser: browser(),
    };
    for (count, path) in ["/strict", "/reporting"].into_iter().enumerate() {
        let tab = world.browser.tab();
        tab.before_each_page(
            "window.violations = []; addEventListener('securitypolicyviolation', event => violations.push(event.disposition + ' ' + event.effectiveDirective))",
        );
        tab.go(&world.site.url(path));
        wait_for_views(&world, count + 1);
        let violations = tab.value("violations");
        let violations = violations.as_array().expect("a list");
        assert_eq!(violations.is_empty(), path == "/strict", "{path}");
        assert!(
            violations.iter().all(|it| it == "report connect-src"),
            "{path}: {violations:?}"
        );
    }
    world.served.get("/pixel.gif?action=end");
    let events = world.until("end");
    let methods: Vec<_> = events.iter().map(|event| text(event, "/http/request/method")).collect();
    assert_eq!(methods, ["POST", "POST"]);
}

#[test]
fn who_asks_not_to_be_tracked_is_not() {
    let world = World::usual();
    for wish in [
        "Object.defineProperty(Navigator.prototype, 'globalPrivacyControl', {value: true})",
        "Object.defineProperty(Navigator.prototype, 'doNotTrack', {value: '1'})",
    ] {
        let tab = world.browser.tab();
        tab.before_each_page(wish);
        tab.go(&world.site.url("/"));
        tab.wait("the script", "typeof pixel === 'function'");
        tab.value("pixel('event', 'signup'); history.pushState({}, '', '/a')");
        tab.value("new Promise(resolve => setTimeout(resolve))");
    }
    // The same page without the wish, and with the opposite one, is seen.
    let tab = world.browser.tab();
    tab.before_each_page("Object.defineProperty(Navigator.prototype, 'doNotTrack', {value: '0'})");
    tab.go(&world.site.url("/second"));
    wait_for_views(&world, 1);
    let events = end(&tab, &world);
    assert_eq!(views(&events), [world.site.url("/second")]);
}

#[test]
fn a_page_that_nobody_sees_yet_is_no_view() {
    let world = World::usual();
    let tab = world.browser.tab();
    tab.before_each_page("Object.defineProperty(Document.prototype, 'prerendering', {get: () => !window.shown})");
    tab.go(&world.site.url("/"));
    tab.wait("the script", "typeof pixel === 'function'");
    tab.value("document.title = 'Shown'; window.shown = true; document.dispatchEvent(new Event('prerenderingchange'))");
    let events = wait_for_views(&world, 1);
    assert_eq!(text(&events[0], "/page/title"), "Shown");
    assert_eq!(end(&tab, &world).len(), 1);
}
