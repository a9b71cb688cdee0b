//! The page at `/` in a real browser: numbers, live hits, filters, codes, and that everybody can use it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pixel::config::token::{encode_hex, hash_token};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::chromium::{Browser, Tab, browser};
use crate::support::fault_proxy::{Fault, FaultProxy};
use crate::support::matrix::{Index, any};
use crate::support::serving::{Serve, Served, request, run, send, serve};
use crate::support::setup;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What the page asks for: everything.
const SCOPES: &str = "stats:read,events:read,codes:write";

/// A person's browser, so that a hit is one of a person.
pub const PERSON: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// A stage, a token for it, and a browser.
pub struct World {
    pub served: Served,
    pub token: String,
    pub browser: Browser,
}

fn token(folder: &Path, scopes: &str) -> String {
    let output = run(folder, &["token", "new", "--scope", scopes]);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = printed.split(|character: char| !(character.is_ascii_alphanumeric() || "-_".contains(character)));
    let found = words.into_iter().find(|word| word.starts_with("pixel_"));
    found
        .unwrap_or_else(|| panic!("no token: {printed}{}", String::from_utf8_lossy(&output.stderr)))
        .to_owned()
}

impl World {
    pub fn new() -> Self {
        Self::serving(serve())
    }

    pub fn serving(serve: Serve) -> Self {
        let served = serve.start();
        Self {
            token: token(served.folder(), SCOPES),
            served,
            browser: browser(),
        }
    }

    /// With so many made-up events of the last 20 days.
    pub fn with_events(events: usize) -> Self {
        let world = Self::new();
        let made = run(
            world.served.folder(),
            &["demo", "--events", &events.to_string(), "--days", "20"],
        );
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        world
    }

    pub fn url(&self, hash: &str) -> String {
        format!("{}/{hash}", self.served.url())
    }

    /// A tab that has shown its token and has numbers.
    pub fn open(&self) -> Tab<'_> {
        self.open_with("")
    }

    /// The same with a script that runs before the page's own.
    pub fn open_with(&self, script: &str) -> Tab<'_> {
        let tab = self.browser.tab();
        tab.before_each_page(script);
        tab.before_each_page(
            "window.violations = []; addEventListener('securitypolicyviolation', event => violations.push(event.violatedDirective + ' ' + event.blockedURI))",
        );
        tab.go(&self.url(&format!("#token={}", self.token)));
        ready(&tab);
        tab
    }

    pub fn hit(&self, target: &str) {
        let headers: [(&str, &[u8]); 2] = [("User-Agent", PERSON.as_bytes()), ("Accept-Language", b"en")];
        let reply = send(self.served.address, &request("GET", target, &headers));
        assert_eq!(reply.header("x-pixel"), Some("accepted"), "{target}");
    }
}

/// Waits for numbers, lists and the stream of hits.
pub fn ready(tab: &Tab<'_>) {
    tab.wait("the numbers", "document.querySelectorAll('#totals dd').length > 0");
    tab.wait(
        "the stream",
        "document.querySelector('#following').innerText === 'as they come'",
    );
    tab.wait(
        "the lists, or that nothing was seen",
        "!document.querySelector('#empty').hidden || document.querySelectorAll('#lists section').length >= 9",
    );
}

/// The hits that the page counts.
pub fn hits(tab: &Tab<'_>) -> u64 {
    let text = tab.text("#totals dd");
    text.replace([',', '\u{a0}'], "").parse().expect("a number")
}

pub fn wait_for_hits(tab: &Tab<'_>, hits: u64) {
    let expression = format!("document.querySelector('#totals dd').innerText.replace(/\\D/g, '') === '{hits}'");
    tab.wait(&format!("{hits} hits"), &expression);
}

#[test]
fn the_plots_library_is_the_published_one() {
    let folder = Path::new(ROOT).join("src/api/page/uplot");
    let told = fs::read_to_string(folder.join("README.md")).expect("it is there");
    let rows: Vec<_> = told
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('`');
            Some((cells.next()?, cells.nth(1)?))
        })
        .collect();
    assert_eq!(rows.len(), 3, "{rows:?}");
    for (name, hash) in rows {
        let file = fs::read(folder.join(name)).expect("it is there");
        let found: String = Sha256::digest(&file).iter().fold(String::new(), |mut text, byte| {
            use std::fmt::Write;
            let _ = write!(text, "{byte:02x}");
            text
        });
        assert_eq!(found, hash, "{name}");
    }
}

#[test]
fn the_page_is_one_document_with_a_strict_policy() {
    let served = serve().start();
    let page = served.get("/");
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(
        !policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"),
        "{policy}"
    );
    let tag = page.header("etag").expect("a tag").to_owned();
    let again = request("GET", "/", &[("If-None-Match", tag.as_bytes())]);
    let again = send(served.address, &again);
    assert_eq!((again.status, again.body.len()), (304, 0));
    let head = send(served.address, &request("HEAD", "/", &[]));
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(send(served.address, &request("POST", "/", &[])).status, 404);
}

#[test]
fn whoever_looks_shows_a_token_and_is_no_hit() {
    let world = World::with_events(200);
    let before = world.served.documents().len();
    let tab = world.browser.tab();
    tab.go(&world.url(""));
    tab.wait("the question for a token", "!document.querySelector('#enter').hidden");
    assert_eq!(tab.value("document.querySelector('#board').hidden"), true);
    tab.value("document.querySelector('#token').value = 'pixel_wrong'");
    tab.click("#enter button");
    tab.wait(
        "that it is wrong",
        "document.querySelector('#trouble').innerText.includes('not known') && !document.querySelector('#enter').hidden",
    );
    let token = json!(world.token);
    tab.value(&format!("document.querySelector('#token').value = {token}"));
    tab.click("#enter button");
    ready(&tab);
    assert_eq!(tab.value("sessionStorage.length + localStorage.length"), 0);
    assert_eq!(tab.value("document.cookie"), "");

    tab.value("location.reload()");
    ready(&tab);
    let open = world.open();
    assert_eq!(
        open.value("location.href"),
        world.url(""),
        "the token leaves the address"
    );
    assert_eq!(open.value("violations"), json!([]));
    let origin = world.served.url();
    let elsewhere = open.value(&format!(
        "performance.getEntriesByType('resource').map(it => it.name).filter(it => !it.startsWith('{origin}/v1/api/') && !it.startsWith('data:'))"
    ));
    assert_eq!(elsewhere, json!([]), "nothing else is fetched");
    open.click("#leave");
    open.wait("the question for a token", "!document.querySelector('#enter').hidden");
    assert_eq!(open.value("sessionStorage.length"), 0);
    assert_eq!(world.served.documents().len(), before, "looking is no hit");
}

#[test]
fn a_token_that_may_do_less_shows_what_it_may() {
    let world = World::with_events(100);
    let reader = token(world.served.folder(), "stats:read");
    let tab = world.browser.open(&world.url(&format!("#token={reader}")));
    tab.wait("the numbers", "document.querySelectorAll('#totals dd').length > 0");
    tab.wait(
        "why there are no hits",
        "document.querySelector('#trouble').innerText.includes('events:read')",
    );
}

#[test]
fn a_store_that_is_down_is_said_and_the_page_goes_on_when_it_is_back() {
    let subject = any();
    let index = Index::new(&subject, "page-down");
    let ready_made = subject.pixel(&["setup", "--destination", &index.destination()]);
    assert!(
        ready_made.status.success(),
        "{}",
        String::from_utf8_lossy(&ready_made.stderr)
    );
    let proxy = FaultProxy::before(&subject.running.url);
    let token = "pixel_of-the-page";
    let scopes = SCOPES.replace(',', "+");
    let mut serve = serve()
        .to(format!("{}/{}", proxy.url(), index.name))
        .variable("PIXEL_TOKENS", &format!("{}={scopes}", encode_hex(&hash_token(token))))
        .variable("PIXEL_REPLY", "after-indexing")
        .variable("PIXEL_BUDGET_MS", "500");
    for (name, value) in subject.variables() {
        serve = serve.variable(name, &value);
    }
    let served = serve.start();
    let headers: [(&str, &[u8]); 1] = [("User-Agent", PERSON.as_bytes())];
    let hit = || send(served.address, &request("GET", "/pixel/down.gif", &headers));
    assert_eq!(hit().header("x-pixel"), Some("accepted"));

    proxy.set(Fault::Down);
    let browser = browser();
    let tab = browser.open(&format!("{}/#token={token}", served.url()));
    tab.wait(
        "what is wrong",
        "!document.querySelector('#trouble').hidden && document.querySelector('#trouble').innerText.trim() !== ''",
    );
    let loaded = tab.value(
        "new Promise(done => { const image = new Image(); image.onload = () => done(image.width); image.onerror = () => done('broken'); image.src = '/pixel/down.gif?again'; })",
    );
    assert_eq!(loaded, 1, "the pixel does not need the store");

    proxy.set(Fault::None);
    tab.wait("that all is well", "document.querySelector('#trouble').hidden");
    ready(&tab);
    wait_for_hits(&tab, 1);
}

#[test]
fn an_index_that_nobody_made_ready_is_said() {
    let subject = any();
    let index = Index::new(&subject, "page-unprepared");
    let token = "pixel_of-the-page";
    let scopes = SCOPES.replace(',', "+");
    let mut serve = serve()
        .to(index.destination())
        .variable("PIXEL_TOKENS", &format!("{}={scopes}", encode_hex(&hash_token(token))))
        .variable("PIXEL_REPLY", "after-indexing");
    for (name, value) in subject.variables() {
        serve = serve.variable(name, &value);
    }
    let served = serve.start();
    let headers: [(&str, &[u8]); 1] = [("User-Agent", PERSON.as_bytes())];
    let reply = send(served.address, &request("GET", "/pixel/unprepared.gif", &headers));
    assert_eq!(reply.header("x-pixel"), Some("accepted"));
    index.ask("POST", "/_refresh", None);
    let browser = browser();
    let tab = browser.open(&format!("{}/#token={token}", served.url()));
    tab.wait(
        "what to do",
        "document.querySelector('#trouble').innerText.includes('`pixel setup`')",
    );
}

#[test]
fn numbers_are_those_of_the_command_line() {
    let world = World::with_events(2000);
    let tab = world.open();
    let output = run(world.served.folder(), &["stats", "--since", "30d", "--json"]);
    let stats: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)));
    assert_eq!(stats["totals"]["events"], hits(&tab));
    let shown = tab.value(
        "[...document.querySelectorAll('#classes li')].reduce((sum, it) => sum + Number(/\\(([\\d,.]+)\\)/.exec(it.innerText)[1].replace(/\\D/g, '')), 0)",
    );
    assert_eq!(shown, stats["totals"]["events"], "every hit is in one share");
    let rows = tab.value(
        "[...document.querySelectorAll('#series-rows tr')].reduce((sum, row) => sum + Number(row.cells[1].textContent.replace(/\\D/g, '')), 0)",
    );
    assert_eq!(
        rows, stats["totals"]["events"],
        "the table beside the plot has them all"
    );
    assert_eq!(tab.value("document.querySelectorAll('#series canvas').length"), 1);
    let drawn = tab.value(
        "(() => { const canvas = document.querySelector('#series canvas'); const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data; return data.some(byte => byte > 0); })()",
    );
    assert_eq!(drawn, true, "something is plotted");
}

#[test]
fn a_new_hit_appears_and_is_counted() {
    let world = World::with_events(300);
    let tab = world.open();
    let before = hits(&tab);
    world.hit("/pixel/fresh.gif?action=signup&url=https%3A%2F%2Fshop.example%2Fnew");
    tab.wait(
        "the hit on top",
        "(row => row && row.innerText.includes('signup') && row.innerText.includes('fresh') && row.innerText.includes('shop.example/new'))(document.querySelector('#live tr'))",
    );
    wait_for_hits(&tab, before + 1);

    // Only what the filters let through.
    tab.value("location.hash = '#/?filter=event.action%3Dsignup'");
    wait_for_hits(&tab, 1);
    tab.wait(
        "the stream",
        "document.querySelectorAll('#live tr').length === 1 && document.querySelector('#following').innerText === 'as they come'",
    );
    world.hit("/pixel/other.gif?action=other");
    world.hit("/pixel/again.gif?action=signup");
    wait_for_hits(&tab, 2);
    assert_eq!(tab.value("document.querySelectorAll('#live tr').length"), 2);
    assert!(tab.text("#live tr").contains("again"));
}

#[test]
fn a_value_that_is_pressed_becomes_a_filter() {
    let world = World::with_events(2000);
    let tab = world.open();
    let all = hits(&tab);
    let list = "#list-event-action";
    tab.wait(
        "the list",
        "document.querySelectorAll('#list-event-action button').length > 1",
    );
    let first = "document.querySelector('#list-event-action button')";
    let of_value = tab.value(&format!(
        "{first}.querySelector('.number').innerText.split(' ')[0].replace(/\\D/g, '')"
    ));
    let of_value: u64 = of_value.as_str().and_then(|text| text.parse().ok()).expect("a number");
    assert!(of_value > 0 && of_value < all, "{of_value} of {all}");
    tab.value(&format!("{first}.focus()"));
    tab.press("Enter");
    wait_for_hits(&tab, of_value);
    assert!(
        tab.value("location.hash")
            .as_str()
            .is_some_and(|hash| hash.contains("filter=event.action"))
    );
    tab.wait(
        "that it is pressed",
        &format!("document.querySelector('{list} button').getAttribute('aria-pressed') === 'true'"),
    );
    assert_eq!(tab.value("document.querySelectorAll('#filters button').length"), 1);
    tab.click("#filters button");
    wait_for_hits(&tab, all);
    tab.value("history.back()");
    wait_for_hits(&tab, of_value);
    tab.value("history.back()");
    wait_for_hits(&tab, all);

    tab.value("(select => { select.value = 'human'; select.dispatchEvent(new Event('change')); })(document.querySelector('#class'))");
    tab.wait(
        "only people",
        "/people 100/.test(document.querySelector('#classes').innerText)",
    );
    assert!(hits(&tab) < all);
}

#[test]
fn a_code_is_made_and_has_a_page() {
    let world = World::new();
    let tab = world.open();
    tab.click("#new summary");
    tab.value("document.querySelector('[name=code]').value = 'not a code'");
    tab.click("#make button[type=submit]");
    tab.wait(
        "what is wrong, and with which field",
        "!document.querySelector('#make-trouble').hidden && document.activeElement.name === 'code' && document.activeElement.getAttribute('aria-invalid') === 'true'",
    );
    tab.value("document.querySelector('[name=code]').value = 'spring-mail'; document.querySelector('[name=campaign]').value = 'Spring & \"more\"'");
    tab.click("#make button[type=submit]");
    tab.wait("the lines", "document.querySelectorAll('#made .paste').length === 9");
    let line = tab.text("#made [data-form=mail] pre");
    assert!(
        line.contains(&format!("src=\"{}/pixel/spring-mail.gif\"", world.served.url())) && line.contains("alt=\"\""),
        "{line}"
    );
    tab.wait(
        "it in the list",
        "document.querySelector('#code-rows').innerText.includes('spring-mail')",
    );

    // The line does what it says.
    let target = line.split("src=\"").nth(1).and_then(|rest| rest.split('"').next());
    let target = target
        .and_then(|url| url.strip_prefix(&world.served.url()))
        .expect("a URL");
    world.hit(target);
    world.hit("/pixel/another.gif");
    tab.click("#made h3 a");
    tab.wait(
        "its page",
        "document.querySelector('#about-title').innerText === 'Code spring-mail'",
    );
    wait_for_hits(&tab, 1);
    tab.wait(
        "its campaign",
        "document.querySelector('#about-facts').innerText.includes('Spring & \"more\"')",
    );
    assert_eq!(
        tab.value("document.title"),
        format!("spring-mail – {} – pixel", world.served.address)
    );
    assert_eq!(tab.value("document.querySelector('#codes').hidden"), true);
    tab.wait("its only hit", "document.querySelectorAll('#live tr').length === 1");
    tab.wait(
        "the stream",
        "document.querySelector('#following').innerText === 'as they come'",
    );
    world.hit("/pixel/another.gif");
    world.hit("/pixel/spring-mail.gif");
    wait_for_hits(&tab, 2);

    tab.click("#about-facts button");
    tab.click("#revoke-yes");
    tab.wait(
        "that it is revoked",
        "document.querySelector('#about-facts').innerText.includes('Revoked')",
    );
    tab.click(".back a");
    tab.wait(
        "all again",
        "document.querySelector('#about').hidden && document.querySelector('#code-rows').innerText.includes('revoked')",
    );
}

#[test]
fn an_empty_store_shows_the_line_to_paste() {
    let world = World::new();
    let tab = world.open();
    tab.wait("the line", "!document.querySelector('#empty').hidden");
    let line = tab.text("#empty pre");
    assert!(
        line.starts_with(&format!("<img src=\"{}/pixel.gif\"", world.served.url())),
        "{line}"
    );
    assert_eq!(world.served.documents().len(), 0);
    tab.click("#try");
    tab.wait(
        "the numbers",
        "document.querySelector('#empty').hidden && !document.querySelector('#numbers').hidden",
    );
    wait_for_hits(&tab, 1);
}

#[test]
fn what_visitors_send_is_only_text() {
    let world = World::new();
    world.hit("/pixel/%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E%22%27.gif?action=view&url=javascript%3Aalert(1)%2F%2F%3Cscript%3Ealert(2)%3C%2Fscript%3E&utm_source=%3Cb%3Ebold%3C%2Fb%3E&utm_campaign=a%3Db%26c%23d%25");
    let tab = world.open();
    tab.wait("the hit", "document.querySelectorAll('#live tr').length === 1");
    assert_eq!(
        tab.value("document.querySelectorAll('main img, main b:not(.paste b), main script').length"),
        0
    );
    tab.wait("all lists", "document.querySelectorAll('#lists section').length === 10");
    assert!(tab.text("#list-campaign-source").contains("<b>bold</b>"));
    assert!(tab.text("#live tr").contains("<img src=x onerror=alert(1)>\"'"));
    assert_eq!(
        tab.value("[...document.querySelectorAll('a')].filter(it => it.protocol === 'javascript:').length"),
        0
    );
    tab.click("#list-campaign-name button");
    tab.wait(
        "the filter",
        "document.querySelector('#filters').innerText.includes('a=b&c#d%')",
    );
    wait_for_hits(&tab, 1);
    tab.wait("the hit again", "document.querySelectorAll('#live a').length === 1");
    tab.click("#live a");
    tab.wait(
        "the code's page",
        "document.querySelector('#about-title').innerText.includes('<img src=x')",
    );
    wait_for_hits(&tab, 1);
    assert_eq!(tab.value("violations"), json!([]));
}

#[test]
fn it_can_be_used_by_keyboard() {
    let world = World::with_events(50);
    let tab = world.open();
    tab.press("Tab");
    assert_eq!(tab.value("document.activeElement.className"), "skip");
    tab.press("Enter");
    tab.wait("the main part", "document.activeElement.id === 'main'");
    let mut reached = Vec::new();
    for _ in 0..12 {
        tab.press("Tab");
        let found = tab.value("document.activeElement.tagName + '#' + document.activeElement.id + '.' + document.activeElement.innerText.split('\\n')[0]");
        reached.push(found.as_str().unwrap_or_default().to_owned());
    }
    assert!(
        reached.iter().any(|it| it.starts_with("SUMMARY#series-summary")),
        "{reached:?}"
    );
    assert!(reached.iter().any(|it| it.starts_with("BUTTON#")), "{reached:?}");
}

// How it looks.

/// axe-core, as the lock file has it.
pub fn axe() -> String {
    setup::require(&["node", "npm"]);
    let source = Path::new(ROOT).join("tests/page");
    let lock = fs::read(source.join("package-lock.json")).expect("it is there");
    let name = format!(
        "page-{:016x}",
        u64::from_be_bytes(Sha256::digest(&lock)[..8].try_into().unwrap())
    );
    let place: PathBuf = setup::cache_dir().join(name);
    let _one_installs = setup::lock(&setup::cache_dir().join("npm.lock"));
    let script = place.join("node_modules/axe-core/axe.min.js");
    if !place.join("complete").exists() {
        fs::create_dir_all(&place).expect("the folder can be made");
        for name in ["package.json", "package-lock.json"] {
            fs::copy(source.join(name), place.join(name)).expect("a file can be written");
        }
        let words = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"];
        let output = Command::new("npm").args(words).arg(&place).output().expect("npm runs");
        assert!(
            output.status.success(),
            "npm ci: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        fs::write(place.join("complete"), "").expect("the mark can be written");
    }
    fs::read_to_string(script).expect("axe-core is there")
}

const AXE: &str = "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map(it => it.id + ': ' + it.nodes.map(node => node.html).join(' | ').slice(0, 600)))";

pub fn accessible(tab: &Tab<'_>, axe: &str, what: &str) {
    tab.value(axe);
    assert_eq!(tab.value(AXE), json!([]), "{what}");
}

/// Whether the bars of the plot have the colour of the scheme.
fn plotted(scheme: &str) -> String {
    let [red, green, blue] = if scheme == "dark" {
        [0x24, 0x36, 0x4e]
    } else {
        [0xdb, 0xe7, 0xf6]
    };
    format!(
        "(() => {{ const canvas = document.querySelector('#series canvas'); const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data; for (let at = 0; at < data.length; at += 4) if (data[at] === {red} && data[at + 1] === {green} && data[at + 2] === {blue} && data[at + 3] === 255) return true; return false; }})()"
    )
}

#[test]
fn axe_finds_nothing_light_or_dark_large_or_small() {
    let axe = axe();
    let world = World::with_events(500);
    let empty = World::new();
    for (scheme, width) in [("light", 1200), ("dark", 1200), ("light", 360), ("dark", 360)] {
        let what = |state: &str| format!("{state}, {scheme}, {width}");
        let features = [("prefers-color-scheme", scheme), ("prefers-reduced-motion", "reduce")];

        let tab = world.open();
        tab.media(&features);
        tab.size(width, 900);
        tab.click("#new summary");
        tab.click("#series-summary");
        tab.wait(
            "the codes",
            "document.querySelectorAll('#list-pixel-code button').length > 0",
        );
        accessible(&tab, &axe, &what("numbers"));
        let overflow = tab.value("document.documentElement.scrollWidth - document.documentElement.clientWidth");
        assert_eq!(overflow, 0, "{}", what("nothing is wider than the window"));
        let dark = tab.value("getComputedStyle(document.documentElement).backgroundColor !== 'rgb(255, 255, 255)'");
        assert_eq!(dark, scheme == "dark", "{}", what("the background"));
        tab.wait(&what("the plot in its colours"), &plotted(scheme));

        tab.value("document.querySelector('#list-event-action button').click()");
        tab.wait(
            "the filter",
            "document.querySelectorAll('#filters button').length === 1",
        );
        tab.value("location.hash = '#/code/site'");
        tab.wait(
            "the code's page",
            "document.querySelector('#about-title').innerText === 'Code site'",
        );
        tab.click("#about-lines summary");
        ready(&tab);
        accessible(&tab, &axe, &what("a code"));

        let tab = empty.open();
        tab.media(&features);
        tab.size(width, 900);
        tab.wait("the line", "!document.querySelector('#empty').hidden");
        accessible(&tab, &axe, &what("empty"));
        tab.click("#leave");
        accessible(&tab, &axe, &what("the question for a token"));
    }
}

/// `src/page/render.sh` keeps the pictures; without it they are only taken.
#[test]
fn the_page_has_its_pictures() {
    let world = World::with_events(20_000);
    for (name, scheme, width, height) in [
        ("light", "light", 1100, 1500),
        ("dark", "dark", 1100, 1500),
        ("phone", "light", 390, 1100),
    ] {
        let tab = world.open();
        tab.media(&[("prefers-color-scheme", scheme)]);
        tab.size(width, height);
        tab.wait("all lists", "document.querySelectorAll('#lists section').length === 10");
        tab.wait(
            "the plot in its size",
            "document.querySelector('#series canvas').clientWidth <= document.querySelector('#series').clientWidth",
        );
        tab.wait("the plot in its colours", &plotted(scheme));
        let picture = tab.picture();
        assert!(picture.starts_with(b"\x89PNG"), "{name}");
        if let Some(folder) = std::env::var_os("PAGE_PICTURES") {
            fs::write(Path::new(&folder).join(format!("page-{name}.png")), picture).expect("it can be written");
        }
    }
}
