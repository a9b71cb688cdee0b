//! Signing in: a one-time link, a cookie that outlives the server, and what other sites cannot do with it.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use rusqlite::Connection;
use serde_json::Value;

use crate::support::chromium::{Tab, browser};
use crate::support::matrix::{Index, each};
use crate::support::serving::{Lines, Reply, Served, pixel, request, run, send, serve};
use crate::support::setup::require;

const SESSION: &str = "/v1/api/session";
const SAME: (&str, &[u8]) = ("Sec-Fetch-Site", b"same-origin");

fn printed(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// The secret of a new link.
fn secret(folder: &Path, arguments: &[&str]) -> String {
    let link = printed(folder, &[&["login"], arguments].concat());
    let (_, secret) = link.split_once("/#token=").expect("a link");
    secret.to_owned()
}

fn ask(served: &Served, method: &str, target: &str, headers: &[(&str, &[u8])]) -> Reply {
    send(served.address, &request(method, target, headers))
}

fn exchange(served: &Served, secret: &str) -> Reply {
    let bearer = format!("Bearer {secret}");
    ask(served, "POST", SESSION, &[("Authorization", bearer.as_bytes()), SAME])
}

/// The cookie of a reply, as a browser sends it back.
fn cookie(reply: &Reply) -> String {
    let cookie = reply.header("set-cookie").expect("a cookie");
    cookie.split(';').next().expect("a pair").to_owned()
}

fn sign_in(served: &Served, secret: &str) -> String {
    let reply = exchange(served, secret);
    assert_eq!(reply.status, 204);
    cookie(&reply)
}

fn stats(served: &Served, cookie: &str) -> u16 {
    ask(served, "GET", "/v1/api/stats", &[("Cookie", cookie.as_bytes())]).status
}

#[test]
fn a_link_begins_one_session_which_outlives_a_restart() {
    let served = serve().start();
    let secret = secret(served.folder(), &[]);
    let bearer = format!("Bearer {secret}");
    let as_token = ask(&served, "GET", "/v1/api/stats", &[("Authorization", bearer.as_bytes())]);
    assert_eq!(as_token.status, 401, "a link's secret is no token");
    let reply = exchange(&served, &secret);
    let set = reply.header("set-cookie").expect("a cookie").to_owned();
    for part in ["; HttpOnly", "; SameSite=Strict", "; Max-Age=2592000"] {
        assert!(set.contains(part), "{part} in {set}");
    }
    assert!(!set.contains("Secure"), "{set}");
    let cookie = cookie(&reply);
    assert_eq!(exchange(&served, &secret).status, 401, "it works once");
    assert_eq!(stats(&served, &cookie), 200);
    let token = cookie.split_once('=').expect("a pair").1;
    let bearer = format!("Bearer {token}");
    let as_bearer = ask(&served, "GET", "/v1/api/stats", &[("Authorization", bearer.as_bytes())]);
    assert_eq!(as_bearer.status, 401, "a session is no token");

    let served = served.kill().start();
    assert_eq!(stats(&served, &cookie), 200);
    let listed: Value = serde_json::from_str(&printed(served.folder(), &["token", "list", "--json"])).expect("JSON");
    let session = &listed[0];
    assert_eq!(
        (&session["kind"], listed.as_array().map(Vec::len)),
        (&"session".into(), Some(1)),
        "{listed}"
    );
    assert!(
        session["expires"].is_string() && session["created"].is_string(),
        "{listed}"
    );
    let bytes = |name: &str| std::fs::read(served.folder().join(name)).unwrap_or_default();
    let file = [bytes("pixel.db"), bytes("pixel.db-wal")].concat();
    assert!(
        !file.windows(token.len()).any(|part| part == token.as_bytes()),
        "only its hash is kept"
    );
    printed(
        served.folder(),
        &["token", "revoke", session["id"].as_str().expect("an id")],
    );
    assert_eq!(stats(&served, &cookie), 401);
}

#[test]
fn links_and_sessions_expire() {
    let served = serve().start();
    let (first, second) = (secret(served.folder(), &[]), secret(served.folder(), &[]));
    let cookie = sign_in(&served, &first);
    let file = Connection::open(served.folder().join("pixel.db")).expect("it opens");
    let lifetimes: Vec<(String, i64)> = {
        let mut rows = file
            .prepare("SELECT kind, expires - created FROM tokens ORDER BY kind")
            .expect("it is there");
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
        rows.collect::<Result<_, _>>().expect("rows")
    };
    let minute = 60_000;
    assert_eq!(
        lifetimes,
        [
            ("login".to_owned(), 15 * minute),
            ("session".to_owned(), 30 * 24 * 60 * minute)
        ]
    );
    file.execute("UPDATE tokens SET expires = created", [])
        .expect("it can be written");
    assert_eq!(exchange(&served, &second).status, 401);
    assert_eq!(stats(&served, &cookie), 401);
}

#[test]
fn what_changes_something_needs_the_same_origin() {
    let served = serve().start();
    let cookie = sign_in(&served, &secret(served.folder(), &[]));
    let cookie = ("Cookie", cookie.as_bytes());
    let own = format!("http://{}", served.address);
    let host = served.address.to_string();
    // `request` names another host, which `Origin` has to match.
    let raw = |method: &str, target: &str, headers: &[(&str, &[u8])]| ask(&served, method, target, headers).status;
    for (method, target) in [
        ("POST", "/v1/api/gen-image"),
        ("GET", "/v1/api/gen-image"),
        ("DELETE", SESSION),
    ] {
        for others in [
            &[("Sec-Fetch-Site", &b"cross-site"[..])][..],
            &[("Sec-Fetch-Site", b"same-site")],
            &[("Origin", b"https://evil.example")],
            &[("Origin", b"null")],
            &[],
        ] {
            let headers = [&[cookie], others].concat();
            assert_eq!(raw(method, target, &headers), 403, "{method} {target} {others:?}");
        }
    }
    assert_eq!(raw("POST", "/v1/api/gen-image", &[cookie, SAME]), 200);
    let _ = (own, host);
    let login = secret(served.folder(), &[]);
    let bearer = format!("Bearer {login}");
    let foreign = [("Authorization", bearer.as_bytes()), ("Sec-Fetch-Site", b"cross-site")];
    assert_eq!(
        raw("POST", SESSION, &foreign),
        403,
        "nobody is signed in from elsewhere"
    );
    let out = ask(&served, "DELETE", SESSION, &[cookie, SAME]);
    assert_eq!(out.status, 204);
    assert!(out.header("set-cookie").expect("a cookie").contains("Max-Age=0"));
    assert_eq!(raw("GET", "/v1/api/stats", &[cookie]), 401);
}

#[test]
fn a_session_ends_with_its_token_and_may_do_no_more() {
    let served = serve()
        .variable("PIXEL_PUBLIC_URL", "https://stats.example.org")
        .start();
    let token = printed(served.folder(), &["token", "new", "--scope", "stats:read"]);
    let reply = exchange(&served, &token);
    assert!(
        reply.header("set-cookie").expect("a cookie").ends_with("; Secure"),
        "the public URL is https"
    );
    let cookie = cookie(&reply);
    assert_eq!(stats(&served, &cookie), 200);
    let events = ask(&served, "GET", "/v1/api/events", &[("Cookie", cookie.as_bytes())]);
    assert_eq!(events.status, 403);
    let listed: Value = serde_json::from_str(&printed(served.folder(), &["token", "list", "--json"])).expect("JSON");
    let id = listed
        .as_array()
        .and_then(|tokens| tokens.iter().find(|token| token["kind"] == "token"));
    printed(
        served.folder(),
        &["token", "revoke", id.expect("the token")["id"].as_str().expect("an id")],
    );
    assert_eq!(stats(&served, &cookie), 401);
    let statuses: Vec<u16> = (0..12).map(|_| exchange(&served, "pixel_wrong").status).collect();
    assert!(statuses.contains(&429), "{statuses:?}");
}

/// `pixel serve` at a terminal.
struct AtTerminal(Child);

impl AtTerminal {
    fn start(folder: &Path, variables: &[(&str, &str)]) -> (Self, Lines) {
        require(&["script"]);
        let command = format!("{} serve --listen 127.0.0.1:0", env!("CARGO_BIN_EXE_pixel"));
        let mut script = Command::new("script");
        script
            .args(["-qefc", &command, "/dev/null"])
            .current_dir(folder)
            .stdin(Stdio::null());
        script.env("XDG_STATE_HOME", folder).envs(variables.iter().copied());
        let mut child = script.stdout(Stdio::piped()).spawn().expect("a terminal");
        let lines = Lines::of(child.stdout.take().expect("stdout is piped"));
        lines.wait_for("that it serves", |line| line.starts_with("Ctrl-C stops"));
        (Self(child), lines)
    }
}

impl Drop for AtTerminal {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_link_is_printed_to_a_terminal_only() {
    let served = serve().start();
    let said = served.stderr.all().join("\n");
    assert!(!said.contains("pixel_") && said.contains("pixel login"), "{said}");
    // Also where there are other tokens.
    printed(served.folder(), &["token", "new", "--scope", "stats:read"]);
    let (_terminal, lines) = AtTerminal::start(served.folder(), &[]);
    let said = lines.all().join("\n");
    assert_eq!(said.matches("#token=pixel_").count(), 1, "{said}");
    let secret = said
        .split_once("#token=")
        .expect("a link")
        .1
        .split_whitespace()
        .next()
        .expect("a secret");
    assert_eq!(exchange(&served, secret).status, 204, "the store knows it");
}

fn signed_in(tab: &Tab<'_>) {
    tab.wait("the numbers", "document.querySelectorAll('#totals dd').length > 0");
}

#[test]
fn a_browser_stays_signed_in_over_tabs_and_restarts() {
    let served = serve().start();
    let browser = browser();
    let link = printed(served.folder(), &["login", "--url", &served.url()]);
    let tab = browser.open(&link);
    signed_in(&tab);
    assert_eq!(tab.value("location.href"), format!("{}/", served.url()));
    assert_eq!(
        tab.value("sessionStorage.length + localStorage.length + document.cookie.length"),
        0
    );
    let used = browser.open(&link);
    used.wait(
        "that the link is used up",
        "document.querySelector('#trouble').innerText.includes('not known')",
    );
    let address = served.address;
    let served = served.kill().listen(address).start();
    let other = browser.open(&served.url());
    signed_in(&other);

    let listed: Value = serde_json::from_str(&printed(served.folder(), &["token", "list", "--json"])).expect("JSON");
    printed(
        served.folder(),
        &["token", "revoke", listed[0]["id"].as_str().expect("an id")],
    );
    other.value("location.hash = '#/?since=7d'");
    other.wait("the form", "!document.querySelector('#enter').hidden");
    let token = printed(
        served.folder(),
        &["token", "new", "--scope", "stats:read,events:read,codes:write"],
    );
    other.value(&format!("document.querySelector('#token').value = '{token}'"));
    other.click("#enter button");
    signed_in(&other);
    assert_eq!(other.value("sessionStorage.length"), 0);
    other.click("#leave");
    other.wait("the form", "!document.querySelector('#enter').hidden");
    other.value("location.reload()");
    other.wait(
        "the form again",
        "document.readyState === 'complete' && !document.querySelector('#enter').hidden",
    );
}

#[test]
fn sessions_are_kept_beside_an_index_too() {
    each(|subject| {
        let index = Index::new(subject, "sign-in");
        let destination = subject.destination(&index.name);
        let set_up = subject.pixel(&["setup", "--destination", &destination]);
        assert!(set_up.status.success(), "{set_up:?}");
        let mut serve = serve().to(&destination);
        for (name, value) in subject.variables() {
            serve = serve.variable(name, &value);
        }
        let served = serve.start();
        let command = |arguments: &[&str]| {
            let mut command = pixel(served.folder());
            command
                .args(arguments)
                .args(["-d", &destination])
                .envs(subject.variables());
            let output = command.output().expect("pixel starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).expect("text").trim().to_owned()
        };
        let link = command(&["login"]);
        let secret = link.split_once("#token=").expect("a link").1;
        let cookie = sign_in(&served, secret);
        assert_eq!(exchange(&served, secret).status, 401, "{}", subject.name);
        assert_eq!(stats(&served, &cookie), 200, "{}", subject.name);
        let listed: Value = serde_json::from_str(&command(&["token", "list", "--json"])).expect("JSON");
        assert_eq!(listed[0]["kind"], "session", "{}: {listed}", subject.name);
        command(&["token", "revoke", listed[0]["id"].as_str().expect("an id")]);
        assert_eq!(stats(&served, &cookie), 401, "{}", subject.name);
        subject.ask("DELETE", &format!("/pixel-tokens-of-{}", index.name), None);
    });
}
