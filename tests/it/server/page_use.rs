//! How the page at `/` helps its readers: each test is a situation in which somebody was misled, lost or stuck.

use std::fs;

use serde_json::{Value, json};

use crate::server::page::{World, accessible, axe, ready, wait_for_hits};
use crate::support::chromium::Tab;
use crate::support::serving::{pixel, run, serve, wait_for};

const KEYS: &str = "1:MDEyMzQ1Njc4OWFiY2RlZg";

/// Keeps the plot that the page makes as `plotted`.
const KEEP_PLOT: &str = "(() => { let made; Object.defineProperty(window, 'uPlot', { configurable: true, get: () => made, set: real => { made = new Proxy(real, { construct: (target, given) => window.plotted = new target(...given) }); } }); })()";

/// Answers GET requests for a path of the API in the server's place.
fn answer(path: &str, body: &Value) -> String {
    format!(
        "(() => {{ const real = window.fetch; window.fetch = (url, options) => String(url).split('?')[0].endsWith({}) && (!options || !options.method) ? Promise.resolve(new Response({}, {{ headers: {{ 'Content-Type': 'application/json' }} }})) : real(url, options); }})()",
        json!(format!("/v1/api/{path}")),
        json!(body.to_string())
    )
}

/// Collects errors that nobody caught.
const UNCAUGHT: &str = "window.uncaught = []; addEventListener('error', event => uncaught.push(event.message)); addEventListener('unhandledrejection', event => uncaught.push(String(event.reason)))";

fn is_in_view(selector: &str) -> String {
    format!(
        "(rect => rect.top >= 0 && rect.bottom <= innerHeight && rect.height > 0)(document.querySelector({}).getBoundingClientRect())",
        json!(selector)
    )
}

fn open_code(tab: &Tab<'_>, code: &str) {
    tab.value(&format!("location.hash = '#/code/{code}'"));
    tab.wait(
        "the code's page",
        &format!("document.querySelector('#about-title').innerText === 'Code {code}'"),
    );
}

#[test]
fn one_hit_is_plotted_within_minutes_not_years() {
    let world = World::new();
    world.hit("/pixel/single.gif?action=open");
    let tab = world.open_with(KEEP_PLOT);
    open_code(&tab, "single");
    wait_for_hits(&tab, 1);
    tab.wait(
        "the plot of minutes",
        "document.querySelector('#legend-visitors').innerText === 'Visitors' && plotted.data[1].includes(1)",
    );
    let slots = tab.value("(plotted.scales.x.max - plotted.scales.x.min) / 60");
    assert_eq!(slots, 24, "minutes from end to end");
    let place = tab.value(
        "plotted.data[0][plotted.data[1].indexOf(1)] > plotted.scales.x.min && plotted.data[0][plotted.data[1].indexOf(1)] < plotted.scales.x.max",
    );
    assert_eq!(place, true, "the hit is within them");
    assert_eq!(
        tab.value("document.querySelectorAll('#series-rows tr').length"),
        1,
        "the table has only what was seen"
    );
    assert_eq!(tab.text("#legend-visitors"), "Visitors", "minutes are within a day");
}

#[test]
fn a_code_opens_at_its_top_with_the_focus_on_its_heading() {
    let world = World::with_events(300);
    let tab = world.open();
    tab.size(1280, 700);
    tab.value("document.querySelector('#live a').scrollIntoView({block: 'center'})");
    assert_ne!(tab.value("scrollY"), 0, "the link is far down");
    tab.click("#live a");
    tab.wait(
        "its heading",
        "document.querySelector('#about-title').innerText.startsWith('Code ') && scrollY === 0 && document.activeElement.id === 'about-title'",
    );
    ready(&tab);
    assert_eq!(tab.value("scrollY"), 0);
    assert_eq!(tab.value(&is_in_view("#about-title")), true);
    tab.click(".back a");
    tab.wait(
        "the heading of all",
        "document.querySelector('#about').hidden && document.activeElement.id === 'all-title'",
    );
}

#[test]
fn a_filter_is_in_view_wherever_it_was_set() {
    let world = World::with_events(2000);
    for (width, height) in [(1280, 700), (390, 700)] {
        let tab = world.open();
        tab.size(width, height);
        tab.wait(
            "the actions",
            "document.querySelectorAll('#list-event-action button').length > 1",
        );
        tab.value("document.querySelector('#list-event-action').scrollIntoView({block: 'end'})");
        tab.value("document.querySelector('#list-event-action button').focus()");
        tab.press("Enter");
        tab.wait("the filter", &is_in_view("#filters button"));
        tab.wait(
            "the list with the filter",
            "document.querySelectorAll('#list-event-action li').length === 1",
        );
        ready(&tab);
        assert!(
            tab.text("#filters button").starts_with("Action: "),
            "{}",
            tab.text("#filters")
        );
        assert_eq!(
            tab.value(&is_in_view("#list-event-action")),
            true,
            "the reader is where they were at {width}"
        );
        assert_eq!(tab.value(&is_in_view("#filters button")), true);
        assert_eq!(
            tab.value("document.activeElement.getAttribute('aria-pressed')"),
            "true",
            "the focus is where it was"
        );
    }
}

#[test]
fn latest_hits_fit_a_laptop_and_a_phone() {
    let world = World::with_events(500);
    world.hit(&format!(
        "/pixel/{}.gif?action=view&url=https%3A%2F%2Fshop.example%2F{}",
        "c".repeat(120),
        "p".repeat(300)
    ));
    let tab = world.open();
    tab.wait("hits", "document.querySelectorAll('#live tr').length > 20");
    for width in [1280, 1000, 700, 390] {
        tab.size(width, 800);
        tab.wait("the width", &format!("innerWidth === {width}"));
        let outside = tab.value(
            "[...document.querySelectorAll('#live td')].filter(it => it.offsetWidth && it.getBoundingClientRect().right > innerWidth).map(it => it.className)",
        );
        assert_eq!(outside, json!([]), "cells beyond the right edge at {width}");
        let scrolls = tab.value("(it => it.scrollWidth - it.clientWidth)(document.querySelector('#live-scroll'))");
        assert_eq!(scrolls, 0, "{width}");
        let cut = tab.value(
            "[...document.querySelectorAll('#live .time, #live .visit')].filter(it => it.scrollWidth > it.clientWidth).map(it => it.innerText)",
        );
        assert_eq!(cut, json!([]), "times and visits are whole at {width}");
        let networks = tab.value(
            "[...document.querySelectorAll('#live .network:not(.none)')].filter(it => it.offsetWidth > 40).length > 20",
        );
        assert_eq!(networks, true, "the networks can be seen at {width}");
    }
    let cards = tab.value("getComputedStyle(document.querySelector('#live tr')).display");
    assert_eq!(cards, "flex", "each hit is a card on a phone");
}

#[test]
fn a_change_is_shown_only_against_a_whole_period_with_hits() {
    let world = World::new();
    let made = run(world.served.folder(), &["demo", "--events", "3000", "--days", "40"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let tab = world.open();
    // The 30 days before have ten days of events.
    assert!(!tab.text("#totals").contains('%'), "{}", tab.text("#totals"));
    tab.value("location.hash = '#/?since=7d'");
    tab.wait(
        "a change",
        "document.querySelector('#totals').innerText.includes('% from the period before')",
    );
    tab.value("location.hash = '#/?since=7d&filter=event.action%3Dsign-up'");
    tab.wait(
        "few hits",
        "Number(document.querySelector('#totals dd').innerText) < 20",
    );
    assert!(!tab.text("#totals").contains('%'), "{}", tab.text("#totals"));
}

#[test]
fn the_plot_has_a_legend_and_daily_visitors_are_explained() {
    let world = World::with_events(300);
    let tab = world.open();
    let legend =
        tab.value("[...document.querySelectorAll('#legend li')].map(it => it.innerText.replace('?', '').trim())");
    assert_eq!(legend, json!(["Hits", "Daily visitors"]));
    assert_eq!(tab.value(&is_in_view("#legend")), true);
    let title = tab.value("document.querySelectorAll('#totals dt')[1].innerText");
    assert!(
        title.as_str().is_some_and(|title| title.starts_with("Daily visitors")),
        "{title}"
    );
    assert_eq!(
        tab.value("document.querySelector('#series-visitors').textContent"),
        "Daily visitors"
    );
    for button in ["#totals .ask", "#legend .ask"] {
        tab.click(button);
        tab.wait(
            "the explanation",
            "document.querySelector('#about-visitors').matches(':popover-open')",
        );
        assert!(tab.text("#about-visitors").contains("counts once a day"));
        tab.click("#about-visitors button");
    }
}

#[test]
fn empty_tables_say_what_belongs_there() {
    let world = World::new();
    let tab = world.open();
    tab.wait(
        "what a code is",
        "document.querySelector('#codes-empty').offsetHeight > 0 && document.querySelector('#codes-empty').innerText.includes('No codes yet. A code is ')",
    );
    tab.wait(
        "that there are no hits",
        "document.querySelector('#live-empty').offsetHeight > 0",
    );
    assert_eq!(
        tab.value("[...document.querySelectorAll('.cards')].filter(it => it.offsetHeight).length"),
        0
    );
    world.hit("/pixel/first.gif");
    tab.wait(
        "the hit",
        "document.querySelector('#live-empty').hidden && document.querySelector('#live-scroll').offsetHeight > 0",
    );
    tab.wait(
        "what campaigns need",
        "document.querySelector('#list-campaign-name').innerText.includes('utm_campaign')",
    );
    tab.value("document.querySelector('[name=code]').value = 'first'");
    tab.value("document.querySelector('#make').requestSubmit()");
    tab.wait("the code", "document.querySelector('#codes-empty').hidden && document.querySelector('#code-rows').innerText.includes('first')");
}

#[test]
fn skip_links_lead_to_hits_and_codes() {
    let world = World::with_events(50);
    let tab = world.open();
    for (presses, id) in [(2, "live-title"), (3, "codes-title")] {
        tab.value("document.activeElement.blur(); location.reload()");
        tab.wait("the page anew", "document.activeElement === document.body");
        ready(&tab);
        for _ in 0..presses {
            tab.press("Tab");
        }
        tab.press("Enter");
        tab.wait(id, &format!("document.activeElement.id === '{id}'"));
        assert_eq!(tab.value(&is_in_view(&format!("#{id}"))), true);
        assert_eq!(tab.value("location.hash"), "", "the address is that of the view");
    }
    open_code(&tab, "site");
    assert_eq!(
        tab.value(
            "[...document.querySelectorAll('.skip')].filter(it => getComputedStyle(it).display !== 'none').length"
        ),
        2,
        "a code's page has no list of codes"
    );
}

#[test]
fn lines_to_paste_are_sorted_by_place() {
    let world = World::new();
    world.hit("/pixel/lines.gif");
    let tab = world.open();
    open_code(&tab, "lines");
    tab.click("#about-lines summary");
    let shown = "[...document.querySelectorAll('#about-lines .paste')].filter(it => it.offsetHeight).map(it => it.dataset.form)";
    tab.wait(
        "the tabs",
        "document.querySelectorAll('#about-lines [role=tab]').length === 3",
    );
    let tabs = tab.value("[...document.querySelectorAll('#about-lines [role=tab]')].map(it => it.innerText)");
    assert_eq!(tabs, json!(["Web page", "Mail", "Other"]));
    assert_eq!(tab.value(shown), json!(["html", "script", "noscript"]));
    tab.value("document.querySelectorAll('#about-lines [role=tab]')[1].click()");
    assert_eq!(tab.value(shown), json!(["mail", "mjml"]));
    tab.value("document.querySelector('#about-lines [aria-selected=true]').focus()");
    tab.press("ArrowRight");
    assert_eq!(tab.value(shown), json!(["rss", "markdown", "amp", "gtm"]));
    let place = tab.value("[document.activeElement.innerText, document.activeElement.getAttribute('aria-selected')]");
    assert_eq!(place, json!(["Other", "true"]), "arrows move the focus");
    assert_eq!(
        tab.value("[...document.querySelectorAll('#about-lines .paste b')].at(-1).innerText"),
        "Google Tag Manager"
    );
}

#[test]
fn revoking_asks_first() {
    let world = World::new();
    let tab = world.open();
    tab.value("document.querySelector('[name=code]').value = 'short-lived'");
    tab.value("document.querySelector('#make').requestSubmit()");
    tab.wait(
        "the code",
        "document.querySelector('#code-rows').innerText.includes('short-lived')",
    );
    open_code(&tab, "short-lived");
    let revoke = "#about-facts button";
    tab.wait(
        "the button",
        "document.querySelector('#about-facts button')?.innerText === 'Revoke'",
    );
    tab.click(revoke);
    tab.wait("the question", "document.querySelector('#revoke').open");
    assert!(tab.text("#revoke").contains("Revoke the code short-lived?"));
    assert_eq!(
        tab.value("document.activeElement.id"),
        "revoke-no",
        "the harmless answer is the first"
    );
    tab.click("#revoke-no");
    let state = || {
        let shown = run(world.served.folder(), &["code", "list", "--json"]);
        String::from_utf8_lossy(&shown.stdout).into_owned()
    };
    assert_eq!(tab.value("document.querySelector('#revoke').open"), false);
    assert!(!state().contains("revoked_at"), "{}", state());
    tab.click(revoke);
    tab.click("#revoke-yes");
    tab.wait(
        "that it is revoked",
        "document.querySelector('#about-facts').innerText.includes('Revoked')",
    );
    assert!(state().contains("revoked_at"), "{}", state());
    tab.wait("the focus", "document.activeElement.id === 'about-title'");
}

#[test]
fn a_recipient_is_asked_for_only_where_codes_are_signed() {
    let world = World::new();
    let tab = world.open();
    tab.click("#new summary");
    tab.wait(
        "why there is no recipient",
        "document.querySelector('#recipient-note').innerText.includes('PIXEL_CODE_KEYS')",
    );
    assert_eq!(tab.value("document.querySelector('[name=recipient]').offsetHeight"), 0);

    let world = World::serving(serve().variable("PIXEL_CODE_KEYS", KEYS));
    let tab = world.open();
    tab.click("#new summary");
    tab.wait("the codes", "!document.querySelector('#codes-empty').hidden");
    assert_ne!(tab.value("document.querySelector('[name=recipient]').offsetHeight"), 0);
    assert_eq!(tab.value("document.querySelector('#recipient-note').hidden"), true);
    tab.value("document.querySelector('[name=recipient]').value = 'ann@shop.example'");
    tab.value("document.querySelector('#make').requestSubmit()");
    tab.wait(
        "the code",
        "document.querySelector('#made h3')?.innerText.startsWith('The code is _')",
    );
}

#[test]
fn lists_are_short_on_a_phone_until_more_is_wanted() {
    let world = World::with_events(2000);
    let tab = world.open();
    let visible = "[...document.querySelectorAll('#list-pixel-code li')].filter(it => it.offsetHeight).length";
    tab.wait(
        "the list",
        "document.querySelectorAll('#list-pixel-code li').length === 10",
    );
    tab.size(1280, 800);
    assert_eq!(tab.value(visible), 10);
    assert_eq!(
        tab.value("document.querySelector('#lists .more').offsetHeight"),
        0,
        "a wide window has room"
    );
    tab.size(390, 800);
    assert_eq!(tab.value(visible), 5);
    assert_eq!(tab.text("#list-pixel-code .more"), "Show 5 more");
    tab.click("#list-pixel-code .more");
    assert_eq!(tab.value(visible), 10);
    assert_eq!(
        tab.value("document.querySelector('#list-pixel-code .more').getAttribute('aria-expanded')"),
        "true"
    );
    world.hit("/pixel/site.gif?action=another");
    wait_for_hits(&tab, 2001);
    tab.wait(
        "the list again",
        "document.querySelector('#list-event-action').innerText.length > 0",
    );
    assert_eq!(tab.value(visible), 10, "it stays open");
    assert!(
        tab.value("document.querySelector('header').offsetHeight").as_u64() < Some(100),
        "the header is small"
    );
}

#[test]
fn countries_have_names() {
    let world = World::with_events(1000);
    let tab = world.open();
    let list = "#list-client-geo-country_iso_code";
    tab.wait(
        "a name",
        "document.querySelector('#list-client-geo-country_iso_code').innerText.includes('United States')",
    );
    tab.value(&format!(
        "[...document.querySelectorAll('{list} button')].find(it => it.innerText.includes('Germany')).click()"
    ));
    tab.wait(
        "the filter",
        "document.querySelector('#filters').innerText.includes('Country: Germany')",
    );
    assert_eq!(tab.value("location.hash"), "#/?filter=client.geo.country_iso_code%3DDE");
    tab.wait(
        "only it",
        &format!("document.querySelectorAll('{list} li').length === 1"),
    );
}

#[test]
fn events_of_another_shape_are_shown_beside_the_others() {
    let world = World::new();
    let shapes = [
        json!({"visit": {"class": "human", "reasons": 5}, "pixel": null}),
        json!({"visit": 7, "pixel": {"code": {"a": 1}}, "url": "x", "client": [1]}),
        json!({"visit": {"class": {"a": 1}, "reasons": {"b": 2}}, "user_agent": {"original": ["a", 2]}}),
        json!({"event": {"id": "foreign-3", "action": null}}),
        json!({"visit": {"class": "human"}, "pixel": {"code": "usual"}}),
    ];
    let now = chrono::Utc::now();
    let lines: Vec<_> = (0_i64..)
        .zip(&shapes)
        .map(|(number, shape)| {
            let time = now - chrono::Duration::seconds(number + 5);
            let event = json!({
                "@timestamp": time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true), "date": time.timestamp_millis(),
                "event": {"id": format!("foreign-{number}"), "action": "view"},
            });
            (event, shape)
        })
        .collect();
    let usual: Vec<_> = lines.iter().map(|(event, _)| event.to_string()).collect();
    fs::write(world.served.folder().join("foreign.ndjson"), usual.join("\n")).expect("the file can be written");
    let stored = run(world.served.folder(), &["replay", "foreign.ndjson"]);
    assert!(stored.status.success(), "{}", String::from_utf8_lossy(&stored.stderr));
    // `replay` refuses other shapes, but a file may have been written by another program.
    let file = rusqlite::Connection::open(world.served.folder().join("pixel.db")).expect("the file opens");
    for (mut event, shape) in lines {
        let id = event["event"]["id"].clone();
        for (name, value) in shape.as_object().expect("an object") {
            event[name] = value.clone();
        }
        let update = "UPDATE events SET document = ?1 WHERE id = ?2";
        let changed = file
            .execute(update, (event.to_string(), id.as_str()))
            .expect("it is changed");
        assert_eq!(changed, 1);
    }

    let tab = world.open_with(UNCAUGHT);
    wait_for_hits(&tab, 5);
    tab.wait("all rows", "document.querySelectorAll('#live tr').length === 5");
    assert!(tab.text("#live").contains("usual"));
    assert_eq!(tab.value("document.querySelector('#trouble').innerText"), "");
    assert_eq!(tab.value("uncaught"), json!([]));
    // The stream goes on.
    world.hit("/pixel/next.gif");
    tab.wait(
        "the next",
        "document.querySelector('#live tr').innerText.includes('next')",
    );
}

#[test]
fn what_cannot_be_shown_is_said() {
    let world = World::new();
    let broken = json!({"events": "none", "next": null});
    let tab = world.browser.tab();
    tab.before_each_page(&answer("events", &broken));
    tab.go(&world.url(&format!("#token={}", world.token)));
    tab.wait(
        "what is wrong",
        "document.querySelector('#trouble').innerText.length > 5",
    );
}

#[test]
fn a_damaged_link_is_no_uncaught_error() {
    let world = World::new();
    let tab = world.browser.tab();
    tab.before_each_page(UNCAUGHT);
    tab.go(&world.url("#token=%E0%A4%A"));
    tab.wait("the question for a token", "!document.querySelector('#enter').hidden");
    assert_eq!(tab.value("uncaught"), json!([]));
}

#[test]
fn pages_are_not_told_apart_by_click_ids() {
    let world = World::new();
    for rest in [
        "",
        "%3Ffbclid%3Dabc1",
        "%3Ffbclid%3Dabc2",
        "%3Futm_source%3Dx",
        "%23one",
        "%23two",
    ] {
        world.hit(&format!(
            "/pixel/site.gif?action=view&url=https%3A%2F%2Fshop.example%2Fpost{rest}"
        ));
    }
    let tab = world.open();
    wait_for_hits(&tab, 6);
    let pages = "document.querySelector('#lists section')";
    tab.wait("the pages", &format!("{pages}.innerText.startsWith('Pages')"));
    assert_eq!(tab.value(&format!("{pages}.querySelectorAll('li').length")), 1);
    let row = tab.value(&format!("{pages}.querySelector('li').innerText.replace(/\\s+/g, ' ')"));
    assert!(row.as_str().is_some_and(|row| row.contains("/post 6 ")), "{row}");
    tab.value(&format!("{pages}.querySelector('button').click()"));
    tab.wait(
        "the filter",
        "document.querySelector('#filters').innerText.startsWith('Page: ')",
    );
    wait_for_hits(&tab, 6);
}

#[test]
fn lines_to_paste_have_the_public_url() {
    let world = World::new();
    let status = json!({"status": "success", "data": "", "public_url": "https://stats.example.org/p/"});
    let tab = world.open_with(&answer("status", &status));
    tab.wait("the line", "!document.querySelector('#empty').hidden");
    let line = tab.text("#empty pre");
    assert!(line.contains("src=\"https://stats.example.org/p/pixel.gif\""), "{line}");
    tab.click("#try");
    wait_for_hits(&tab, 1);
    open_code(&tab, "any");
    tab.wait(
        "the lines",
        "document.querySelector('#about-lines [data-form=mail] pre')?.textContent.includes('https://stats.example.org/p/pixel/any.gif')",
    );
    assert_eq!(tab.value("document.title"), "any – stats.example.org – pixel");
}

#[test]
fn warnings_are_shown_until_they_are_dismissed() {
    let world = World::with_events(50);
    let status = json!({"status": "success", "data": "", "warnings": [
        {"code": "proxy", "message": "requests come through a proxy; set `PIXEL_TRUSTED_HOPS=1`, or all visitors look like one"},
        {"code": "other", "message": "<b>another</b> one"},
        {"code": "broken"}, null, 5,
    ]});
    let script = answer("status", &status);
    let tab = world.open_with(&script);
    let shown = "[...document.querySelectorAll('#warnings [role=status]')].map(it => it.querySelector('p').innerText)";
    tab.wait(
        "both",
        "document.querySelectorAll('#warnings [role=status]').length === 2",
    );
    let texts = tab.value(shown);
    assert!(
        texts[0]
            .as_str()
            .is_some_and(|text| text.contains("set PIXEL_TRUSTED_HOPS=1,")),
        "{texts}"
    );
    assert!(
        texts[1].as_str().is_some_and(|text| text.contains("<b>another</b>")),
        "{texts}"
    );
    for (scheme, width) in [("light", 1280), ("dark", 390)] {
        tab.media(&[("prefers-color-scheme", scheme)]);
        tab.size(width, 800);
        accessible(&tab, &axe(), &format!("warnings, {scheme}"));
    }
    tab.click("#warnings button");
    assert_eq!(
        tab.value("document.querySelectorAll('#warnings [role=status]').length"),
        1
    );
    tab.value("location.reload()");
    ready(&tab);
    tab.wait(
        "the other",
        "document.querySelectorAll('#warnings [role=status]').length === 1",
    );
    assert_eq!(
        tab.value("document.querySelector('#warnings').innerText.includes('another')"),
        true
    );
    let next = world.open_with(&script);
    next.wait(
        "both in another tab",
        "document.querySelectorAll('#warnings [role=status]').length === 2",
    );
}

#[test]
fn a_signed_codes_page_says_what_the_code_says() {
    let world = World::new();
    world.hit("/pixel/signed.gif");
    let known = json!({
        "code": "signed", "campaign": "spring", "recipient": "u-0123456789abcdef", "sent": "2026-03-01T09:30:00.000Z",
        "opted_out": true, "image_url": "",
    });
    let tab = world.open_with(&answer("codes/signed", &known));
    open_code(&tab, "signed");
    tab.wait(
        "the facts",
        "document.querySelector('#about-facts').innerText.includes('Its recipient has opted out')",
    );
    let facts = tab.text("#about-facts");
    for said in ["spring", "u-0123456789abcdef", "Mar 1, 2026"] {
        assert!(facts.contains(said), "{said} is not in {facts}");
    }
    assert_eq!(
        tab.value("document.querySelectorAll('#about-facts button').length"),
        0,
        "only a listed code can be revoked"
    );
}

#[test]
fn a_signed_code_that_is_not_listed_is_read_from_its_events() {
    let world = World::serving(serve().variable("PIXEL_CODE_KEYS", KEYS));
    let words = ["code", "new", "--campaign", "spring", "--recipient", "ann@shop.example"];
    let made = pixel(world.served.folder())
        .env("PIXEL_CODE_KEYS", KEYS)
        .args(words)
        .output();
    let made = String::from_utf8_lossy(&made.expect("pixel starts").stdout).into_owned();
    let is_code = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
    let code = made
        .split(|character| !is_code(character))
        .find(|word| word.starts_with('_'));
    let code = code.unwrap_or_else(|| panic!("no signed code: {made}"));
    world.hit(&format!("/pixel/{code}.gif"));
    let tab = world.open();
    open_code(&tab, code);
    tab.wait(
        "the campaign",
        "document.querySelector('#about-facts').innerText.includes('spring')",
    );
    let facts = tab.text("#about-facts");
    for name in ["Recipient (hash)", "Sent", "not in the list"] {
        assert!(facts.contains(name), "{name} is not in {facts}");
    }
}

#[test]
fn axe_finds_nothing_in_tabs_questions_and_explanations() {
    let axe = axe();
    let world = World::with_events(100);
    let tab = world.open();
    tab.value("document.querySelector('[name=code]').value = 'looked-at-by-a-person-with-a-small-phone-and-large-letters'; document.querySelector('#new').open = true");
    tab.value("document.querySelector('#make').requestSubmit()");
    tab.wait(
        "the lines",
        "document.querySelectorAll('#made [role=tab]').length === 3",
    );
    for (scheme, width) in [("light", 1280), ("dark", 390)] {
        tab.media(&[("prefers-color-scheme", scheme), ("prefers-reduced-motion", "reduce")]);
        tab.size(width, 800);
        accessible(&tab, &axe, &format!("lines, {scheme}"));
        let overflow = tab.value("document.documentElement.scrollWidth - document.documentElement.clientWidth");
        assert_eq!(overflow, 0, "nothing is wider than {width}");
        tab.click("#totals .ask");
        accessible(&tab, &axe, &format!("daily visitors, {scheme}"));
        tab.click("#about-visitors button");
    }
    open_code(&tab, "looked-at-by-a-person-with-a-small-phone-and-large-letters");
    tab.wait("the button", "document.querySelector('#about-facts button') !== null");
    tab.click("#about-facts button");
    tab.wait("the question", "document.querySelector('#revoke').open");
    accessible(&tab, &axe, "revoke");
    wait_for("nothing else", || (tab.value("violations") == json!([])).then_some(()));
}
