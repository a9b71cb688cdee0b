//! `pixel migrate`: everything that stands in a store comes to another place, however often the way is interrupted.

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::matrix::{Index, each};
use crate::support::serving::{Reply, Serve, Served, pixel, request, run, send, serve, signal, wait, wait_for};

const KEYS: &str = "1:MDEyMzQ1Njc4OWFiY2RlZg";
const EVENTS: usize = 2_000;
const CODES: usize = 499;

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn ask(served: &Served, method: &str, target: &str, token: &str) -> Reply {
    let bearer = format!("Bearer {token}");
    send(
        served.address,
        &request(method, target, &[("Authorization", bearer.as_bytes())]),
    )
}

/// A store with all that there can be in one.
struct Old {
    serve: Serve,
    token: String,
    opted_out: String,
    revoked: String,
}

impl Old {
    fn new(events: usize, codes: usize) -> Self {
        let serve = serve().variable("PIXEL_CODE_KEYS", KEYS);
        let folder = serve.folder().to_owned();
        let made = run(&folder, &["demo", "--events", &events.to_string(), "--days", "20"]);
        assert!(made.status.success(), "{}", errors(&made));
        let served = serve.start();
        let token = text(&run(&folder, &["token", "new", "--scope", "stats:read,codes:write"]));
        let mut last = String::new();
        for _ in 0..codes {
            let reply = ask(&served, "POST", "/v1/api/gen-image", &token);
            let made: Value = serde_json::from_slice(&reply.body).expect("JSON");
            made["unique_code"].as_str().expect("a code").clone_into(&mut last);
        }
        assert_eq!(
            ask(&served, "DELETE", &format!("/v1/api/codes/{last}"), &token).status,
            200
        );
        let mut code = pixel(&folder);
        code.env("PIXEL_CODE_KEYS", KEYS)
            .args(["code", "new", "--recipient", "ann@shop.example"]);
        let opted_out = text(&code.output().expect("pixel starts"));
        let out = request("POST", &format!("/opt-out/{opted_out}"), &[("Content-Length", b"0")]);
        assert_eq!(send(served.address, &out).status, 200);
        assert_eq!(served.get("/pixel/spring.gif").header("x-pixel"), Some("accepted"));
        Self {
            serve: served.kill(),
            token,
            opted_out,
            revoked: last,
        }
    }

    fn folder(&self) -> &Path {
        self.serve.folder()
    }
}

#[test]
fn a_store_moves_to_another_file_and_nothing_is_left_behind() {
    let old = Old::new(200, 5);
    let migrate = |arguments: &[&str]| {
        let all = [
            &[
                "migrate",
                "--from",
                "sqlite:pixel.db",
                "--to",
                "sqlite:new.db",
                "--json",
            ],
            arguments,
        ]
        .concat();
        run(old.folder(), &all)
    };
    let moved = migrate(&[]);
    assert!(moved.status.success(), "{}{}", text(&moved), errors(&moved));
    let comparison: Value = serde_json::from_slice(&moved.stdout).expect("JSON");
    for (name, count) in [("events", 201), ("codes", 5), ("tokens", 1), ("opt_outs", 1)] {
        let row = &comparison[name];
        assert_eq!(
            (&row["from"], &row["to"], &row["equal"]),
            (&count.into(), &count.into(), &true.into()),
            "{comparison}"
        );
    }
    let said = errors(&moved);
    assert!(
        said.contains("`pixel.key`") && said.contains("`new.key`") && said.contains("PIXEL_CODE_KEYS"),
        "{said}"
    );
    let key = |name: &str| std::fs::read(old.folder().join(name)).expect("a key");
    assert_eq!(key("pixel.key"), key("new.key"));

    let served = old.serve.clone().to("sqlite:new.db").start();
    assert_eq!(served.get(&format!("/pixel/{}.gif", old.opted_out)).status, 200);
    assert_eq!(
        ask(&served, "GET", "/v1/api/stats", &old.token).status,
        200,
        "the token works"
    );
    let code = ask(&served, "GET", &format!("/v1/api/codes/{}", old.revoked), &old.token);
    let code: Value = serde_json::from_slice(&code.body).expect("JSON");
    assert!(code["revoked_at"].is_string(), "{code}");
    served.kill();
    // Nothing of the opted-out recipient's hit was stored.
    assert!(migrate(&[]).status.success(), "once more changes nothing");

    let more = run(
        old.folder(),
        &["token", "new", "--scope", "stats:read", "-d", "sqlite:new.db"],
    );
    assert!(more.status.success());
    let different = migrate(&[]);
    assert_eq!(different.status.code(), Some(1), "{}", text(&different));
    let comparison: Value = serde_json::from_slice(&different.stdout).expect("JSON");
    assert_eq!(
        (&comparison["tokens"]["equal"], &comparison["codes"]["equal"]),
        (&false.into(), &true.into())
    );
    let merged = migrate(&["--merge"]);
    assert!(merged.status.success(), "{}", errors(&merged));
    // A new beginning is refused where there is something else.
    std::fs::remove_file(old.folder().join("pixel.db.migration")).expect("the state is there");
    let refused = migrate(&[]);
    assert_eq!(refused.status.code(), Some(2), "{}", errors(&refused));
    assert!(
        errors(&refused).contains("already holds 201 events, 5 codes, 2 tokens, 1 opt-outs"),
        "{}",
        errors(&refused)
    );
}

#[test]
fn a_replay_of_a_store_says_what_stays_behind() {
    let old = Old::new(20, 3);
    let replayed = run(old.folder(), &["replay", "sqlite:pixel.db", "-d", "sqlite:new.db"]);
    assert!(replayed.status.success(), "{}", errors(&replayed));
    let said = errors(&replayed);
    assert!(
        said.contains("3 codes, 1 tokens, 1 opt-outs stay behind") && said.contains("`pixel migrate`"),
        "{said}"
    );
}

#[test]
fn what_cannot_be_moved_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for (from, to, says) in [
        ("log.json", "sqlite:new.db", "`pixel replay`"),
        ("sqlite:a.db", "sqlite:a.db", "are the same"),
        (
            "sqlite:a.db",
            "sqs://sqs.eu-west-1.amazonaws.com/123456789012/pixel",
            "keeps no codes",
        ),
    ] {
        let output = run(folder.path(), &["migrate", "--from", from, "--to", to]);
        assert_eq!(output.status.code(), Some(2), "{from}: {}", errors(&output));
        assert!(errors(&output).contains(says), "{from}: {}", errors(&output));
    }
}

#[test]
fn a_store_moves_to_an_index_also_when_it_is_interrupted() {
    let old = Old::new(EVENTS, CODES);
    each(|subject| {
        let index = Index::new(subject, "migrate");
        let destination = subject.destination(&index.name);
        let set_up = subject.pixel(&["setup", "--destination", &destination]);
        assert!(set_up.status.success(), "{set_up:?}");
        let state = old.folder().join(format!("{}.state", subject.name));
        let command = |more: &[&str]| {
            let mut command = pixel(old.folder());
            command.args([
                "migrate",
                "--from",
                "sqlite:pixel.db",
                "--to",
                &destination,
                "--json",
                "--state",
            ]);
            command.arg(&state).args(more).envs(subject.variables());
            command
        };
        let mut slow = command(&["--rate", "200"])
            .stdout(Stdio::null())
            .spawn()
            .expect("pixel starts");
        wait_for("some events to be moved", || {
            let text = std::fs::read_to_string(&state).ok()?;
            let state: Value = serde_json::from_str(&text).ok()?;
            state["position"].as_u64().filter(|position| *position > 0)
        });
        signal(&slow, "INT");
        assert_eq!(wait(&mut slow).code(), Some(130), "{}", subject.name);
        let moved = command(&[]).output().expect("pixel starts");
        let comparison: Value = serde_json::from_slice(&moved.stdout).unwrap_or_default();
        assert!(
            moved.status.success(),
            "{}: {comparison} {}",
            subject.name,
            errors(&moved)
        );
        let carried = comparison["carried"]["read"].as_u64().expect("a number");
        assert!(
            carried < EVENTS as u64,
            "{}: it went on where it was: {carried}",
            subject.name
        );
        for (name, count) in [("events", EVENTS + 1), ("codes", CODES), ("tokens", 1), ("opt_outs", 1)] {
            assert_eq!(comparison[name]["to"], count, "{}: {comparison}", subject.name);
        }

        let mut serve = serve()
            .to(&destination)
            .variable("PIXEL_CODE_KEYS", KEYS)
            .variable("PIXEL_REPLY", "after-indexing");
        for (name, value) in subject.variables() {
            serve = serve.variable(name, &value);
        }
        let served = serve.start();
        assert_eq!(served.get(&format!("/pixel/{}.gif", old.opted_out)).status, 200);
        assert_eq!(served.get("/pixel/summer.gif").header("x-pixel"), Some("accepted"));
        assert_eq!(
            ask(&served, "GET", "/v1/api/stats", &old.token).status,
            200,
            "{}",
            subject.name
        );
        index.ask("POST", "/_refresh", None);
        let found = index.ask("POST", "/_count", None);
        assert_eq!(
            found["count"],
            EVENTS + 2,
            "{}: the opted-out one is not stored",
            subject.name
        );
        for what in ["codes", "tokens", "opt-outs"] {
            subject.ask("DELETE", &format!("/pixel-{what}-of-{}", index.name), None);
        }
    });
}
