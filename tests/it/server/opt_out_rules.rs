//! Opting out at `pixel serve`: whose codes, from which pages, how often, and how servers and the command line share it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};

use pixel::config::token::Scope;
use pixel::hit::code::{Contents, Keys};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::server::api::entry;
use crate::server::browser::{Page, Site, html};
use crate::support::chromium::{Tab, browser_with};
use crate::support::matrix::{Index, any};
use crate::support::serving::{Reply, Serve, Served, pixel, request, run, send, serve, wait_for};

pub const KEY: &str = "1:MDEyMzQ1Njc4OWFiY2RlZg";
const NEXT_KEY: &str = "2:ZmVkY2JhOTg3NjU0MzIxMA";
const TOKEN: &str = "the token of these tests";

/// A code for one person, or for all readers of a campaign.
fn signed(keys: &str, recipient: Option<&str>) -> String {
    let keys = Keys::parse(keys).expect("keys");
    let contents = Contents {
        campaign: Some("spring".to_owned()),
        recipient: recipient.map(|recipient| keys.recipient(recipient).expect("a key")),
        ..Contents::default()
    };
    keys.sign(&contents).expect("a code")
}

pub fn personal(number: u32) -> String {
    signed(KEY, Some(&format!("ann-{number}@shop.example")))
}

/// With an ingress that lets the answer say what became of the hit.
fn serving() -> Serve {
    serve()
        .argument("--ingress=http-api")
        .variable("PIXEL_CODE_KEYS", KEY)
        .variable("PIXEL_TOKENS", &entry(TOKEN, &Scope::ALL))
}

pub const OWN_PAGE: (&str, &[u8]) = ("Origin", b"http://pixel.example");
const OTHER_SITE: (&str, &[u8]) = ("Origin", b"https://other.example");

fn ask(address: SocketAddr, method: &str, target: &str, headers: &[(&str, &[u8])]) -> Reply {
    let headers = [headers, &[("Content-Length", b"0")]].concat();
    send(address, &request(method, target, &headers))
}

fn is_counted(address: SocketAddr, code: &str) -> bool {
    let reply = send(address, &request("GET", &format!("/pixel/{code}.gif"), &[]));
    match reply.header("x-pixel") {
        Some(outcome) if outcome.starts_with("accepted") => true,
        Some("ignored; reason=opted_out") => false,
        other => panic!("{code}: {other:?}"),
    }
}

fn text(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.body).into_owned()
}

fn api(served: &Served, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let authorization = format!("Bearer {TOKEN}");
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let length = body.len().to_string();
    let headers: [(&str, &[u8]); 2] = [
        ("Authorization", authorization.as_bytes()),
        ("Content-Length", length.as_bytes()),
    ];
    let mut bytes = request(method, &format!("/v1/api/{path}"), &headers);
    bytes.extend_from_slice(body.as_bytes());
    let reply = send(served.address, &bytes);
    (reply.status, serde_json::from_slice(&reply.body).unwrap_or_default())
}

#[test]
fn only_the_code_of_one_person_is_opted_out() {
    let keys = format!("{NEXT_KEY},{KEY}");
    let served = serving().variable("PIXEL_CODE_KEYS", &keys).start();
    let (status, listed) = api(
        &served,
        "POST",
        "codes",
        &json!({"code": "for-ann", "recipient": "ann@shop.example"}),
    );
    assert_eq!((status, listed["recipient"].is_string()), (201, true), "{listed}");
    let (status, _) = api(&served, "POST", "codes", &json!({"code": "for-all"}));
    assert_eq!(status, 201);

    let forged = signed("1:ZmVkY2JhOTg3NjU0MzIxMA", Some("ann@shop.example"));
    for code in [
        "spring-mail",
        "for-all",
        &signed(KEY, None),
        &forged,
        "nobody-made-this",
    ] {
        let target = format!("/opt-out/{code}");
        let page = text(&served.get(&target));
        assert!(page.contains("Many people have this same address"), "{code}: {page}");
        for headers in [&[OWN_PAGE][..], &[]] {
            let reply = ask(served.address, "POST", &target, headers);
            assert_eq!(reply.status, 303, "{code}");
            let cookie = reply.header("set-cookie").expect("the visitor's own cookie");
            assert!(
                cookie.starts_with("pixel-opt-out=1;") && cookie.contains("Max-Age=31536000"),
                "{cookie}"
            );
        }
        let page = text(&send(
            served.address,
            &request("GET", &target, &[("Cookie", b"pixel-opt-out=1")]),
        ));
        assert!(
            page.contains("Many people") && page.contains("This browser is not counted"),
            "{page}"
        );
        assert!(is_counted(served.address, code), "{code}: others are counted");
    }
    // Of the first key, of another one that is known, and of the list.
    for code in [&signed(NEXT_KEY, Some("ann@shop.example")), &personal(1), "for-ann"] {
        assert!(is_counted(served.address, code));
        let reply = ask(served.address, "POST", &format!("/opt-out/{code}"), &[OWN_PAGE]);
        assert_eq!((reply.status, reply.header("set-cookie")), (303, None), "{code}");
        assert!(!is_counted(served.address, code), "{code}");
        let page = text(&served.get(&format!("/opt-out/{code}")));
        assert!(page.contains("This mail is not counted"), "{page}");
    }
}

#[test]
fn the_answer_about_a_code_says_that_its_recipient_opted_out() {
    let served = serving().start();
    let (_, listed) = api(&served, "POST", "codes", &json!({"recipient": "ann@shop.example"}));
    let code = listed["code"].as_str().expect("a code").to_owned();
    let about = |served: &Served| api(served, "GET", &format!("codes/{code}"), &Value::Null).1;
    let before = about(&served);
    assert_eq!(
        (&before["opted_out"], before.get("opted_out_at")),
        (&json!(false), None),
        "{before}"
    );
    assert_eq!(
        ask(served.address, "POST", &format!("/opt-out/{code}"), &[OWN_PAGE]).status,
        303
    );
    let after = about(&served);
    let since = after["opted_out_at"].as_str().expect("a time");
    assert!(
        after["opted_out"] == true && chrono::DateTime::parse_from_rfc3339(since).is_ok(),
        "{after}"
    );
}

#[test]
fn a_form_of_another_site_changes_nothing() {
    let served = serving()
        .variable("PIXEL_PUBLIC_URL", "https://public.example/prod")
        .start();
    let code = personal(1);
    let foreign: [&[(&str, &[u8])]; 8] = [
        &[OTHER_SITE],
        &[("Origin", b"null")],
        &[("Origin", b"https://pixel.example.evil.example")],
        &[("Origin", b"https://pixel.example:8443")],
        &[("Sec-Fetch-Site", b"cross-site")],
        &[("Sec-Fetch-Site", b"same-site"), OWN_PAGE],
        &[("Sec-Fetch-Site", b"cross-site"), OWN_PAGE],
        &[OTHER_SITE, ("Content-Type", b"application/x-www-form-urlencoded")],
    ];
    let own: [&[(&str, &[u8])]; 7] = [
        &[OWN_PAGE],
        &[("Origin", b"https://pixel.example")],
        &[("Origin", b"https://public.example")],
        &[("Origin", b"https://pixel.example:443")],
        &[
            ("Origin", b"https://front.example"),
            ("X-Forwarded-Host", b"front.example"),
        ],
        &[("Sec-Fetch-Site", b"same-origin")],
        // As a browser sends it that is told to hide where it comes from.
        &[("Sec-Fetch-Site", b"same-origin"), ("Origin", b"null")],
    ];
    for headers in foreign {
        for target in [
            &format!("/opt-out/{code}"),
            "/opt-out",
            "/opt-out/shared",
            "/opt-out?in=1",
        ] {
            let reply = ask(served.address, "POST", target, headers);
            assert_eq!(
                (reply.status, reply.header("set-cookie")),
                (403, None),
                "{target}: {headers:?}"
            );
        }
        assert!(is_counted(served.address, &code), "{headers:?}");
    }
    for headers in own {
        assert_eq!(
            ask(served.address, "POST", &format!("/opt-out/{code}"), headers).status,
            303,
            "{headers:?}"
        );
        assert!(!is_counted(served.address, &code), "{headers:?}");
        for headers in foreign {
            let reply = ask(served.address, "POST", &format!("/opt-out/{code}?in=1"), headers);
            assert_eq!(reply.status, 403, "{headers:?}");
        }
        assert!(!is_counted(served.address, &code), "{headers:?}");
        assert_eq!(
            ask(served.address, "POST", &format!("/opt-out/{code}?in=1"), headers).status,
            303
        );
        assert!(is_counted(served.address, &code), "{headers:?}");
    }
    // Scanners and browsers that load links beforehand.
    for (method, headers) in [
        (
            "GET",
            &[("Sec-Purpose", &b"prefetch"[..]), ("Sec-Fetch-Site", b"same-origin")][..],
        ),
        ("GET", &[OWN_PAGE]),
        ("HEAD", &[OWN_PAGE]),
    ] {
        assert_eq!(
            send(served.address, &request(method, &format!("/opt-out/{code}"), headers)).status,
            200
        );
        assert!(is_counted(served.address, &code));
    }
}

/// RFC 8058: a mail provider sends this for its user, without a page, and follows no redirect.
#[test]
fn one_click_of_a_mail_provider_opts_out_and_never_in() {
    let served = serving().start();
    let one_click = |target: &str, headers: &[(&str, &[u8])]| {
        let body = b"List-Unsubscribe=One-Click";
        let length = body.len().to_string();
        let kind: (&str, &[u8]) = ("Content-Type", b"application/x-www-form-urlencoded");
        let headers = [headers, &[kind, ("Content-Length", length.as_bytes())]].concat();
        let mut bytes = request("POST", target, &headers);
        bytes.extend_from_slice(body);
        send(served.address, &bytes)
    };
    let code = personal(1);
    let target = format!("/opt-out/{code}");
    assert_eq!(one_click(&target, &[OTHER_SITE]).status, 403);
    assert!(is_counted(served.address, &code));
    for _ in 0..2 {
        let reply = one_click(&target, &[]);
        assert_eq!((reply.status, reply.header("location")), (200, None));
        assert!(text(&reply).contains("This mail is not counted"));
        assert!(!is_counted(served.address, &code));
    }
    assert_eq!(one_click(&format!("{target}?in=1"), &[]).status, 403);
    assert!(!is_counted(served.address, &code));
}

/// A page of another site that sends forms by itself, over plain HTTP and where the browser names the site; and our own page.
#[test]
fn a_browser_opts_out_on_our_page_and_on_no_other() {
    let served = serving().start();
    let code = personal(1);
    let port = served.address.port();
    let browser = browser_with(&["--host-resolver-rules=MAP *.test 127.0.0.1"]);
    for host in [format!("127.0.0.1:{port}"), format!("pixel.test:{port}")] {
        let to = |target: &str| format!("http://{host}{target}");
        let form = |target: &str, extra: &str| -> Page {
            let action = to(target);
            html(
                "",
                format!(
                    "<!doctype html><meta name=\"referrer\" content=\"{extra}\"><form method=\"post\" action=\"{action}\">\
                     <input name=\"List-Unsubscribe\" value=\"One-Click\"></form><script>document.forms[0].submit()</script>"
                ),
            )
        };
        let mail = format!("/opt-out/{code}");
        let site = Site::start(HashMap::from([
            ("/mail-out", form(&mail, "unsafe-url")),
            ("/mail-out-hidden", form(&mail, "no-referrer")),
            ("/mail-in", form(&format!("{mail}?in=1"), "unsafe-url")),
            ("/browser-out", form("/opt-out", "unsafe-url")),
            ("/browser-in", form("/opt-out?in=1", "no-referrer")),
        ]));
        let lure = |path: &str| {
            let tab = browser.tab();
            tab.go(&site.url(path));
            tab.wait(
                "the refusal",
                "document.body.innerText.includes('Another site has sent this')",
            );
        };
        let press = |tab: &Tab<'_>, button: &str, words: &str| {
            assert_eq!(tab.text("button"), button);
            tab.click("button");
            tab.wait(words, &format!("document.body.innerText.includes({words:?})"));
        };
        lure("/mail-out");
        lure("/mail-out-hidden");
        assert!(is_counted(served.address, &code), "{host}");
        let tab = browser.open(&to(&mail));
        press(&tab, "Do not count it", "This mail is not counted");
        assert!(!is_counted(served.address, &code), "{host}");
        lure("/mail-in");
        assert!(!is_counted(served.address, &code), "{host}");
        press(&tab, "Count it again", "It is counted");
        assert!(is_counted(served.address, &code), "{host}");

        lure("/browser-out");
        let tab = browser.open(&to("/opt-out"));
        press(&tab, "Do not count me", "This browser is not counted");
        lure("/browser-in");
        tab.go(&to("/opt-out/shared"));
        assert!(tab.text("p").contains("Many people") && tab.text("p").contains("This browser is not counted"));
        press(&tab, "Count me again", "This browser is counted");
    }
}

#[test]
fn a_locked_file_holds_up_only_those_who_opt_out() {
    let served = serving().start();
    let other = Connection::open(served.folder().join("pixel.db")).expect("the file opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("it is locked");
    let codes: Vec<_> = (0..8).map(personal).collect();
    let waiting: Vec<_> = codes
        .iter()
        .map(|code| {
            let (address, target) = (served.address, format!("/opt-out/{code}"));
            std::thread::spawn(move || ask(address, "POST", &target, &[OWN_PAGE]))
        })
        .collect();
    // Answers in between: whatever takes the threads of the server has taken them by then.
    for _ in 0..50 {
        assert_eq!(served.get("/health").status, 200);
        assert_eq!(served.get("/opt-out").status, 200);
    }
    assert!(waiting.iter().all(|post| !post.is_finished()), "they wait for the file");
    other.execute_batch("COMMIT").expect("it is released");
    for (post, code) in waiting.into_iter().zip(&codes) {
        assert_eq!(post.join().expect("an answer").status, 303);
        assert!(!is_counted(served.address, code));
    }
}

#[test]
fn servers_of_one_file_know_of_each_other_and_of_the_command_line() {
    let first = serving().start();
    let file = format!("sqlite:{}", first.folder().join("pixel.db").display());
    let second = serving().to(&file).start();
    let learn = |served: &Served, code: &str, counted: bool| {
        wait_for("the change of another process", || {
            (is_counted(served.address, code) == counted).then_some(())
        });
    };
    let (one, two) = (personal(1), personal(2));
    assert_eq!(
        ask(first.address, "POST", &format!("/opt-out/{one}"), &[OWN_PAGE]).status,
        303
    );
    assert_eq!(
        ask(first.address, "POST", &format!("/opt-out/{two}"), &[OWN_PAGE]).status,
        303
    );
    learn(&second, &one, false);
    assert_eq!(
        ask(second.address, "POST", &format!("/opt-out/{one}?in=1"), &[OWN_PAGE]).status,
        303
    );
    learn(&first, &one, true);
    assert!(!is_counted(first.address, &two));
    learn(&second, &two, false);

    let folder = first.folder();
    let done = |arguments: &[&str]| {
        let output = run(folder, &[&["opt-outs"], arguments, &["--destination", &file]].concat());
        assert!(output.status.success(), "{output:?}");
    };
    // The owner may opt out any code.
    done(&["add", "spring-mail"]);
    done(&["remove", &two]);
    for served in [&first, &second] {
        learn(served, "spring-mail", false);
        learn(served, &two, true);
    }
    let page = text(&first.get("/opt-out/spring-mail"));
    assert!(
        page.contains("Only its sender can change that") && !page.contains("<form"),
        "{page}"
    );
    assert_eq!(
        ask(first.address, "POST", "/opt-out/spring-mail?in=1", &[OWN_PAGE]).status,
        200
    );
    done(&["remove", "spring-mail"]);
    learn(&first, "spring-mail", true);
}

#[test]
fn a_million_opt_outs_keep_nobody_from_opting_out() {
    let served = serving().start();
    served.signal("TERM");
    let (_, stage) = served.ended();
    {
        let file = Connection::open(stage.folder().join("pixel.db")).expect("the file opens");
        file.execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
             INSERT INTO opt_outs (code) SELECT 'stranger-' || i FROM n",
        )
        .expect("they are written");
    }
    let served = stage.start();
    let code = personal(1);
    assert_eq!(
        ask(served.address, "POST", &format!("/opt-out/{code}"), &[OWN_PAGE]).status,
        303
    );
    assert!(!is_counted(served.address, &code) && !is_counted(served.address, "stranger-1000000"));
    assert!(is_counted(served.address, "stranger-1000001"));
}

#[test]
fn strangers_are_limited_by_their_network_and_keep_nobody_with_a_code_from_opting_out() {
    let served = serving().variable("PIXEL_TRUSTED_HOPS", "1").start();
    let post = |code: &str, from: &str| {
        let from: (&str, &[u8]) = ("X-Forwarded-For", from.as_bytes());
        ask(served.address, "POST", &format!("/opt-out/{code}"), &[OWN_PAGE, from])
    };
    let refused = wait_for("the limit", || {
        Some(post("shared", "198.51.100.7")).filter(|reply| reply.status != 303)
    });
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("60")));
    // What a visitor claims before the trusted proxy says who it is makes no difference.
    assert_eq!(post("shared", "192.0.2.1, 198.51.100.7").status, 429);
    assert_eq!(post("shared", "198.51.100.8").status, 303);
    assert_eq!(post(&personal(1), "198.51.100.7").status, 303);
    assert!(!is_counted(served.address, &personal(1)));
}

#[test]
fn what_an_early_version_remembered_stays_valid() {
    let served = serving().start();
    served.signal("TERM");
    let (_, stage) = served.ended();
    {
        let file = Connection::open(stage.folder().join("pixel.db")).expect("the file opens");
        file.execute_batch(
            "DROP TABLE opt_outs; DROP TABLE opt_outs_removed; ALTER TABLE codes DROP COLUMN recipient;
             CREATE TABLE opt_outs (code TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
             INSERT INTO opt_outs VALUES ('spring-mail');",
        )
        .expect("it is as it was");
    }
    let served = stage.start();
    assert!(!is_counted(served.address, "spring-mail"));
    let listed = run(served.folder(), &["opt-outs", "list", "--json"]);
    let line: Value = serde_json::from_slice(&listed.stdout).expect("a line");
    assert_eq!(line, json!({"code": "spring-mail", "since": null, "by": null}));
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// The command line with a file and with an index.
#[test]
fn the_command_line_lists_adds_and_removes_opt_outs() {
    let subject = any();
    let index = Index::new(&subject, "opt-outs-by-hand");
    let served = serving().start();
    let code = personal(1);
    assert_eq!(
        ask(served.address, "POST", &format!("/opt-out/{code}"), &[OWN_PAGE]).status,
        303
    );
    let folder = served.folder();
    let with_page = lines(&run(folder, &["opt-outs", "list", "--json"]));
    assert_eq!(
        (&with_page[0]["code"], &with_page[0]["by"]),
        (&json!(code), &json!("page")),
        "{with_page:?}"
    );
    assert!(run(folder, &["opt-outs", "remove", &code]).status.success());

    std::fs::write(folder.join("codes.txt"), "one\r\n\n  two  \none\n").expect("a file");
    for destination in ["sqlite:pixel.db".to_owned(), subject.destination(&index.name)] {
        let opt_outs = |arguments: &[&str], stdin: &str| -> Output {
            use std::io::Write;
            let mut command = pixel(folder);
            command
                .arg("opt-outs")
                .args(arguments)
                .args(["--destination", &destination]);
            command.envs(subject.variables());
            let mut child = command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("pixel starts");
            // Wrong arguments end it before it reads.
            let _ = child.stdin.take().expect("stdin").write_all(stdin.as_bytes());
            child.wait_with_output().expect("it ends")
        };
        let listed = || -> Vec<(String, String)> {
            let of = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
            let listed = lines(&opt_outs(&["list", "--json"], ""));
            assert!(
                listed
                    .iter()
                    .all(|line| chrono::DateTime::parse_from_rfc3339(&of(line, "since")).is_ok())
            );
            listed.iter().map(|line| (of(line, "code"), of(line, "by"))).collect()
        };
        let by_hand = |code: &str| (code.to_owned(), "command_line".to_owned());
        assert_eq!(listed(), []);
        let added = opt_outs(&["add", "--file", "codes.txt", "three"], "");
        assert_eq!(
            String::from_utf8_lossy(&added.stdout),
            "added 3\n",
            "{destination}: {added:?}"
        );
        let added = opt_outs(&["add", "--file", "-", "--json"], "three\nfour\n");
        assert_eq!(lines(&added), [json!({"added": 1, "unchanged": 1})]);
        let mut all = listed();
        all.sort();
        assert_eq!(all, ["four", "one", "three", "two"].map(by_hand));
        let shown = opt_outs(&["list"], "");
        assert!(
            String::from_utf8_lossy(&shown.stdout).contains("command line"),
            "{shown:?}"
        );
        let removed = opt_outs(&["remove", "one", "two", "nine", "--json"], "");
        assert_eq!(lines(&removed), [json!({"removed": 2, "unchanged": 1})]);
        assert_eq!(opt_outs(&["remove", "nine"], "").status.code(), Some(1));
        for wrong in [&["add"][..], &["add", ".."], &["add", "--file", "-"], &["list", "x"]] {
            let output = opt_outs(wrong, "\n");
            assert_eq!(output.status.code(), Some(2), "{wrong:?}: {output:?}");
        }
        assert_eq!(opt_outs(&["add", "--file", "missing.txt"], "").status.code(), Some(1));
        let mut all = listed();
        all.sort();
        assert_eq!(all, ["four", "three"].map(by_hand));
    }
    subject.ask("DELETE", &format!("/pixel-opt-outs-of-{}", index.name), None);
    let queue = run(
        Path::new("/"),
        &["opt-outs", "list", "--destination", "sqs+http://127.0.0.1:9/0/p"],
    );
    assert_eq!(queue.status.code(), Some(1), "{queue:?}");
}

#[test]
fn the_line_of_a_hit_says_that_it_was_opted_out() {
    let served = serving().start();
    let code = personal(1);
    assert_eq!(
        ask(served.address, "POST", &format!("/opt-out/{code}"), &[OWN_PAGE]).status,
        303
    );
    assert!(!is_counted(served.address, &code));
    let line = served.stdout.wait_for("the line", |line| line.contains("opted_out"));
    assert!(line.contains("ignored (opted_out)") && !line.contains(&code), "{line}");
}
