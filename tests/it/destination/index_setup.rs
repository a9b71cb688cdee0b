//! `pixel setup` on real servers: every rotation, what stands in its way, and what a hostile visitor cannot do to the index.

use pixel::hit::settings::Lookups;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use pixel::client::http::{Deliverer, http_client};
use pixel::config::{Config, Timing};
use pixel::destination::Destination;
use pixel::hit::answer;
use pixel::hit::event::Event;
use pixel::hit::outcome::Outcome;
use pixel::hit::read::RequestContext;
use pixel::hit::request::Request;
use pixel::hit::request::passthrough::{Document, document};
use pixel::setup::schema::field_types;
use serde_json::{Value, json};

use crate::support::matrix::{self, Index, Subject, any, block_on, each};
use crate::support::servers::{self, Server};
use crate::support::serving;
use crate::support::small_server::{Asked, Reaction, SmallServer};

pub fn printed(output: &Output) -> String {
    let [out, talk] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    format!("{out}{talk}")
}

/// Runs the command line where no certificate is needed.
pub fn pixel(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut command = serving::pixel(folder.path());
    command.args(arguments).envs(matrix::PATIENT);
    command.output().expect("pixel starts")
}

pub fn succeeded(output: &Output, what: &str) -> String {
    let printed = printed(output);
    assert_eq!(output.status.code(), Some(0), "{what}: {printed}");
    printed
}

pub fn failed(output: &Output, words: &[&str], what: &str) {
    let printed = printed(output);
    assert_eq!(output.status.code(), Some(1), "{what}: {printed}");
    for word in words {
        assert!(printed.contains(word), "{what}: no `{word}` in {printed}");
    }
}

/// It asks for what cannot be.
pub fn asked_wrongly(output: &Output, words: &[&str], what: &str) {
    let printed = printed(output);
    assert_eq!(output.status.code(), Some(2), "{what}: {printed}");
    for word in words {
        assert!(printed.contains(word), "{what}: no `{word}` in {printed}");
    }
}

// Events.

/// The event of a visit, made as the function makes it.
pub fn event(id: &str, time: DateTime<Utc>, query: &[(String, String)], headers: &[(String, String)]) -> Event {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    let payload = document(&Document {
        query: query.to_vec(),
        headers: headers.to_vec(),
        context: vec![
            pair("extended-request-id", id.to_owned()),
            pair("request-time-epoch", time.timestamp_millis().to_string()),
            pair("source-ip", "203.0.113.77".to_owned()),
        ],
        ..Document::default()
    });
    let request = Request::decode(payload.to_string().as_bytes()).expect("it is a request");
    let circumstances = RequestContext {
        now: time,
        invocation: id.to_owned(),
        trusted_hops: 0,
    };
    answer::build_event(request, &circumstances, &Config::default().settings(), &Lookups::none())
}

/// Delivers as the function does.
pub fn deliver(subject: &Subject, destination: &str, events: &[Event]) -> Vec<Outcome> {
    let Ok(Destination::OpenSearch(target)) = Destination::parse(destination, None, None) else {
        panic!("{destination} is no index");
    };
    let patience = Duration::from_secs(25);
    let timing = Timing {
        connect: patience,
        attempt: patience,
        budget: patience,
    };
    let http = http_client(subject.running.ca_file.as_deref(), &timing).expect("a client can be made");
    let deliverer = Deliverer::new(http, target, timing, None);
    let work = async {
        let mut outcomes = Vec::new();
        for event in events {
            outcomes.push(deliverer.deliver(event, patience).await.outcome);
        }
        outcomes
    };
    // On a thread of its own, so that asynchronous tests can call it too.
    std::thread::scope(|scope| scope.spawn(|| block_on(work)).join()).expect("delivery does not panic")
}

fn march() -> DateTime<Utc> {
    "2026-03-01T09:30:00.123Z".parse().expect("a time")
}

// Every rotation.

/// Rotation, what is added to the name in the destination, and the index that an event of March is found in; none where the
/// server chooses its name.
const ROTATIONS: [(&str, &str, Option<&str>); 5] = [
    ("none", "", Some("")),
    ("daily", "-%Y.%m.%d", Some("-2026.03.01")),
    ("monthly", "-%Y.%m", Some("-2026.03")),
    ("rollover", "", Some("-000001")),
    ("data-stream", "", None),
];

#[test]
fn every_rotation_is_made_ready_once() {
    each(|subject| {
        for (rotation, suffix, index) in ROTATIONS {
            if rotation == "data-stream" && !subject.has_data_streams() {
                check_without_data_streams(subject);
            } else {
                check_rotation(subject, rotation, suffix, index);
                // Printed, one date is like the other.
                if rotation != "monthly" {
                    check_printed(subject, rotation);
                }
            }
        }
    });
}

fn check_rotation(subject: &Subject, rotation: &str, suffix: &str, written: Option<&str>) {
    let what = format!("{}, {rotation}", subject.name);
    let index = Index::new(subject, &format!("setup-{rotation}"));
    let before = subject.running.clone();
    let proxy = SmallServer::proxy(subject, |_| None);
    let url = format!("{}/{}", proxy.url(), index.name);
    let setup = |more: &[&str]| pixel(&[&["setup", "-d", &url, "--rotation", rotation], more].concat());

    let dry = succeeded(&setup(&["--dry-run"]), &what);
    assert!(dry.contains("would be written"), "{what}: {dry}");
    assert_eq!(proxy.writes(), Vec::<String>::new(), "{what}: --dry-run writes nothing");

    let first = succeeded(&setup(&[]), &what);
    assert!(
        first.contains("created     index template") && first.contains("is as declared now"),
        "{what}: {first}"
    );
    let advised = format!("{}/{}{suffix}", proxy.url(), index.name);
    assert_eq!(
        first.contains(&advised),
        !suffix.is_empty(),
        "{what}: where to send events: {first}"
    );

    let rolls = matches!(rotation, "rollover" | "data-stream");
    let lacks = rolls && !subject.has_lifecycle();
    let instead = "run `pixel prune --older-than 90d` daily instead";
    for said in [&dry, &first] {
        assert_eq!(said.contains("unavailable lifecycle policy"), lacks, "{what}: {said}");
        assert_eq!(said.contains(instead), lacks, "{what}: {said}");
    }
    assert_eq!(
        first.contains("except what is unavailable here"),
        lacks,
        "{what}: {first}"
    );

    proxy.forget();
    let second = succeeded(&setup(&[]), &what);
    assert!(second.contains("nothing to write"), "{what}: {second}");
    assert_eq!(
        second.contains("except what is unavailable here"),
        lacks,
        "{what}: {second}"
    );
    assert_eq!(
        proxy.writes(),
        Vec::<String>::new(),
        "{what}: the second run writes nothing"
    );
    let admin = before.admin.as_ref();
    let destination = format!(
        "{}{suffix}",
        subject.destination_as(before.writer.as_ref().or(admin), &index.name)
    );
    let hit = event("hit-1", march(), &[("n".to_owned(), "1".to_owned())], &[]);
    let outcomes = deliver(subject, &destination, &[hit.clone(), hit]);
    assert_eq!(outcomes, [Outcome::Indexed, Outcome::Duplicate], "{what}");
    let indices = index.indices();
    match written {
        Some(suffix) => assert_eq!(indices, [format!("{}{suffix}", index.name)], "{what}"),
        None => assert!(
            indices.len() == 1 && indices[0].starts_with(&format!(".ds-{}-", index.name)),
            "{what}: {indices:?}"
        ),
    }
    let mapped = field_types(&index.mapping_of(&indices[0]));
    let declared = field_types(&pixel::setup::schema::mappings());
    assert_eq!(
        mapped, declared,
        "{what}: the new index has the declared fields and no others"
    );
    let found = subject.expect("GET", &format!("/{}/_refresh", indices[0]), None);
    assert!(found["_shards"].is_object(), "{what}");
    let query =
        json!({"query": {"bool": {"filter": [{"term": {"labels": "n=1"}}, {"term": {"client.ip": "203.0.113.0"}}]}}});
    let found = subject.expect("POST", &format!("/{}/_search", indices[0]), Some(&query));
    assert_eq!(found["hits"]["hits"][0]["_id"], "hit-1", "{what}: {found}");

    // Nothing of what happened since makes it other than declared.
    let third = succeeded(&setup(&[]), &what);
    assert!(third.contains("nothing to write"), "{what}: {third}");
}

/// What `--print` prints is all there is to do.
fn check_printed(subject: &Subject, rotation: &str) {
    let what = format!("{}, {rotation} by hand", subject.name);
    let index = Index::new(subject, &format!("print-{rotation}"));
    let proxy = SmallServer::proxy(subject, |_| None);
    let url = format!("{}/{}", proxy.url(), index.name);
    let output = pixel(&["setup", "-d", &url, "--rotation", rotation, "--print"]);
    succeeded(&output, &what);
    assert_eq!(proxy.writes(), Vec::<String>::new(), "{what}");
    let requests: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    for request in requests.as_array().expect("a list of requests") {
        let text = |name: &str| request[name].as_str().expect("a text");
        let body = Some(&request["body"]).filter(|body| !body.is_null());
        subject.expect(text("method"), text("path"), body);
    }
    let after = succeeded(&pixel(&["setup", "-d", &url, "--rotation", rotation]), &what);
    assert!(after.contains("nothing to write"), "{what}: {after}");
    assert_eq!(proxy.writes(), Vec::<String>::new(), "{what}");
}

fn check_without_data_streams(subject: &Subject) {
    let index = Index::new(subject, "no-streams");
    let output = subject.pixel(&[
        "setup",
        "-d",
        &subject.destination(&index.name),
        "--rotation",
        "data-stream",
    ]);
    failed(&output, &["no data streams", "--rotation rollover"], subject.name);
    check_nothing_there(&index, subject.name);
}

fn check_nothing_there(index: &Index, what: &str) {
    assert_eq!(index.template(), None, "{what}");
    assert_eq!(index.indices(), Vec::<String>::new(), "{what}");
}

// What is there already.

#[test]
fn a_mapping_that_cannot_become_the_declared_one_is_told_before_anything_is_touched() {
    each(|subject| {
        let conflicts = [
            (
                json!({
                    "client": {"properties": {"ip": {"type": "text"}}},
                    "params": {"properties": {"q": {"type": "keyword"}}},
                    "date": {"type": "date", "format": "epoch_second"},
                }),
                vec![
                    "`client.ip` is text",
                    "`params` is object with fields",
                    "`date` is date of the format epoch_second",
                ],
            ),
            (
                json!({"client": {"type": "keyword"}, "params": {"type": "object"}, "date": {"type": "long"}}),
                vec![
                    "`client` is keyword",
                    "`params` is object with fields",
                    "`date` is long",
                ],
            ),
        ];
        for (properties, words) in conflicts {
            check_conflict(subject, &subject.mappings(&properties), &words);
        }
        if subject.has_types() {
            check_conflict(subject, &json!({"mappings": {"hit": {}}}), &["of the type `hit`"]);
        }
    });
}

fn check_conflict(subject: &Subject, body: &Value, words: &[&str]) {
    let what = format!("{}, {words:?}", subject.name);
    let index = Index::new(subject, "conflict");
    index.ask("PUT", "", Some(body));
    let proxy = SmallServer::proxy(subject, |_| None);
    let output = pixel(&["setup", "-d", &format!("{}/{}", proxy.url(), index.name)]);
    failed(
        &output,
        &[words, &["nothing was touched", "new index name"]].concat(),
        &what,
    );
    assert_eq!(proxy.writes(), Vec::<String>::new(), "{what}");
    assert_eq!(index.template(), None, "{what}");
}

#[test]
fn an_index_that_lacks_fields_gets_them() {
    each(|subject| {
        let own = json!({"type": "keyword", "ignore_above": 9, "fields": {"more": {"type": "keyword"}}});
        let lacking = [
            json!({}),
            // These read what is written, and cannot be changed.
            json!({"date": {"type": "date"}, "@timestamp": {"type": "date", "format": "strict_date_optional_time||epoch_second"}}),
            json!({"client": {"properties": {"ip": {"type": "ip"}, "port": {"type": "long"}}}, "labels": own}),
        ];
        for (number, properties) in lacking.iter().enumerate() {
            let what = format!("{}, {number}", subject.name);
            let index = Index::new(subject, "lacking");
            index.ask("PUT", "", Some(&subject.mappings(properties)));
            let url = subject.destination(&index.name);
            let first = succeeded(&subject.pixel(&["setup", "-d", &url]), &what);
            assert!(first.contains("updated     mapping"), "{what}: {first}");
            let mapped = field_types(&index.mapping_of(&index.name));
            for field in field_types(&pixel::setup::schema::mappings()) {
                assert!(mapped.contains(&field), "{what}: {field:?}");
            }
            for (name, _) in field_types(&json!({"properties": properties})) {
                assert!(mapped.iter().any(|(mapped, _)| *mapped == name), "{what}: {name} stays");
            }
            let second = succeeded(&subject.pixel(&["setup", "-d", &url]), &what);
            assert!(second.contains("nothing to write"), "{what}: {second}");
            let outcomes = deliver(subject, &url, &[event("hit-1", march(), &[], &[])]);
            assert_eq!(outcomes, [Outcome::Indexed], "{what}");
        }
    });
}

#[test]
fn what_bears_our_name_and_is_not_ours_is_left_alone() {
    each(|subject| {
        check_foreign_template(subject);
        for (rotation, words) in [("rollover", "is an index"), ("data-stream", "is an index")] {
            if rotation == "rollover" || subject.has_data_streams() {
                check_foreign_index(subject, rotation, words);
            }
        }
        check_alias_without_write_index(subject);
    });
}

fn check_foreign_template(subject: &Subject) {
    let index = Index::new(subject, "foreign");
    subject.expect(
        "PUT",
        &index.template_path(),
        Some(&json!({"index_patterns": ["nothing-like-it"]})),
    );
    let before = index.template();
    let output = subject.pixel(&["setup", "-d", &subject.destination(&index.name)]);
    failed(
        &output,
        &["is not ours", "rename or delete it", "another index name"],
        subject.name,
    );
    assert_eq!(
        (index.template(), index.indices()),
        (before, Vec::new()),
        "{}",
        subject.name
    );
}

fn check_foreign_index(subject: &Subject, rotation: &str, words: &str) {
    let what = format!("{}, {rotation}", subject.name);
    let index = Index::new(subject, "occupied");
    index.ask("PUT", "", Some(&json!({})));
    let output = subject.pixel(&["setup", "-d", &subject.destination(&index.name), "--rotation", rotation]);
    failed(&output, &[words, "choose another name"], &what);
    assert_eq!(index.template(), None, "{what}: it is told before anything is written");
}

fn check_alias_without_write_index(subject: &Subject) {
    let index = Index::new(subject, "alias");
    for number in ["-000001", "-000002"] {
        index.ask("PUT", number, Some(&json!({"aliases": {index.name.as_str(): {}}})));
    }
    let output = subject.pixel(&[
        "setup",
        "-d",
        &subject.destination(&index.name),
        "--rotation",
        "rollover",
    ]);
    failed(&output, &["none that is written to", "is_write_index"], subject.name);
    assert_eq!(index.template(), None, "{}", subject.name);
}

// What cannot be asked for.

/// A server that has everything but a lifecycle, and to which nothing was written yet.
fn without_lifecycle() -> SmallServer {
    SmallServer::start(|asked| match asked.path.split('?').next() {
        Some("/") => Reaction::json(200, &version("2.19.4", Some("opensearch"))),
        _ => Reaction::json(404, &json!({"error": "not here", "status": 404})),
    })
}

#[test]
fn what_cannot_be_is_told_before_anything_is_written() {
    let nonsense: &[&str] = &["--dashboards", "nonsense"];
    let cases: [(&[&str], &[&str]); 6] = [
        (nonsense, &["`--dashboards` is not an address", "`https://host:5601`"]),
        (
            &["--dashboards", "http://127.0.0.1:1", "--print"],
            &["--print", "cannot be used with", "--dashboards"],
        ),
        (
            &["--dashboards", "http://127.0.0.1:1", "--index-pattern", " "],
            &["--index-pattern", "as in `events*`"],
        ),
        (
            &["--keep", "90d"],
            &["no age", "choose a rotation", "`--rotation`", "`--keep`"],
        ),
        (
            &["--keep", "90d", "--rotation", "none", "--print"],
            &["choose a rotation"],
        ),
        (
            &["--keep", "36501d", "--rotation", "daily"],
            &["from 1 to 36500", "as in `90d`"],
        ),
    ];
    let server = without_lifecycle();
    let url = format!("{}/events", server.url());
    for (arguments, words) in cases {
        let what = format!("{arguments:?}");
        let output = pixel(&[&["setup", "-d", &url], arguments].concat());
        asked_wrongly(&output, words, &what);
        assert_eq!(server.writes(), Vec::<String>::new(), "{what}");
        assert!(output.stdout.is_empty(), "{what}: {output:?}");
    }
    let dated = format!("{url}-%Y.%m.%d");
    asked_wrongly(
        &pixel(&["setup", "-d", &dated, "--rotation", "rollover"]),
        &["is a dated index"],
        &dated,
    );
}

#[test]
fn a_server_without_lifecycle_is_not_said_to_delete() {
    let server = without_lifecycle();
    let url = format!("{}/events", server.url());
    let dry = |more: &[&str]| {
        let arguments = ["setup", "-d", &url, "--rotation", "daily", "--keep", "45d", "--dry-run"];
        pixel(&[&arguments[..], more].concat())
    };
    let said = succeeded(&dry(&[]), "in words");
    for words in [
        "unavailable lifecycle policy `pixel-events`",
        "run `pixel prune --older-than 45d` daily instead",
    ] {
        assert!(said.contains(words), "no `{words}` in {said}");
    }
    let whole: Value = serde_json::from_slice(&dry(&["--json"]).stdout).expect("it prints JSON");
    let step = &whole["steps"][0];
    assert_eq!(step["result"], "unavailable", "{whole}");
    assert!(
        step["why"].as_str().is_some_and(|why| why.contains("pixel prune")),
        "{whole}"
    );
}

#[test]
fn a_file_needs_no_setup_in_every_form() {
    let setup = |more: &[&str]| {
        let output = pixel(&[&["setup", "-d", "sqlite:some.db"], more].concat());
        succeeded(&output, &format!("{more:?}"));
        String::from_utf8(output.stdout).expect("text")
    };
    assert!(setup(&[]).contains("`some.db` needs no setup"));
    let json = |more: &[&str]| serde_json::from_str::<Value>(&setup(more)).expect("it prints JSON");
    assert_eq!(json(&["--print"]), json!([]));
    for (more, dry_run) in [(&["--json"][..], false), (&["--json", "--dry-run"], true)] {
        assert_eq!(
            json(more),
            json!({"product": "SQLite", "dry_run": dry_run, "steps": [
                {"subject": "`some.db`", "result": "unchanged", "why": "it is made when it is first written"}
            ]})
        );
    }
}

// What stands in the way.

#[test]
fn wrong_and_missing_permissions_are_named() {
    each(|subject| {
        let index = Index::new(subject, "refused");
        if let Some((user, _)) = &subject.running.admin {
            let wrong = (user.clone(), "wrong".to_owned());
            let output = subject.pixel(&["setup", "-d", &subject.destination_as(Some(&wrong), &index.name)]);
            failed(&output, &["status 401", "`basic`", "not accepted"], subject.name);
            let output = subject.pixel(&["setup", "-d", &subject.destination_as(None, &index.name)]);
            failed(&output, &["status 401", "`none`"], subject.name);
        }
        if let Some(writer) = &subject.running.writer {
            let output = subject.pixel(&["setup", "-d", &subject.destination_as(Some(writer), &index.name)]);
            failed(
                &output,
                &["status 403", "cluster:monitor/main", "allow the action named above"],
                subject.name,
            );
        }
        check_nothing_there(&index, subject.name);
    });
}

#[test]
fn a_blocked_index_is_told_and_finished_later() {
    each(|subject| {
        let index = Index::new(subject, "readonly");
        index.ask("PUT", "", Some(&json!({})));
        index.ask("PUT", "/_settings", Some(&json!({"index.blocks.read_only": true})));
        let url = subject.destination(&index.name);
        failed(
            &subject.pixel(&["setup", "-d", &url]),
            &["cluster_block_exception", "index.blocks.read_only"],
            subject.name,
        );
        assert_eq!(index.template(), None, "{}", subject.name);
        index.ask("PUT", "/_settings", Some(&json!({"index.blocks.read_only": null})));
        succeeded(&subject.pixel(&["setup", "-d", &url]), subject.name);
        let after = succeeded(&subject.pixel(&["setup", "-d", &url]), subject.name);
        assert!(after.contains("nothing to write"), "{}: {after}", subject.name);
    });
}

fn version(number: &str, distribution: Option<&str>) -> Value {
    json!({"name": "node", "version": {"number": number, "distribution": distribution}, "tagline": "The tagline"})
}

/// Answers that no server of ours gives, and what is made of them.
#[test]
fn answers_that_are_in_the_way_are_explained() {
    let page = || Reaction::Answer(200, "<!DOCTYPE html><html><title>Log in</title></html>".to_owned());
    let cases: [(&str, &str, Reaction, &[&str]); 8] = [
        (
            "a login page",
            "/",
            page(),
            &["no JSON", "a page for people", "not of Dashboards"],
        ),
        (
            "Elasticsearch 5.6",
            "/",
            Reaction::json(200, &version("5.6.16", None)),
            &["Elasticsearch 5.6 is not supported", "6.8 to 9"],
        ),
        (
            "OpenSearch 9",
            "/",
            Reaction::json(200, &version("9.0.0", Some("opensearch"))),
            &["OpenSearch 9.0 is not supported", "1 to 3"],
        ),
        (
            "something else",
            "/",
            Reaction::json(200, &json!({"hello": "world"})),
            &["neither OpenSearch nor Elasticsearch"],
        ),
        (
            "a red cluster",
            "/_cluster/health?wait_for_status=yellow&timeout=5s",
            Reaction::json(200, &json!({"status": "red"})),
            &["the cluster is red", "allocation/explain"],
        ),
        (
            "a page in the midst",
            "/_index_template/pixel-events",
            page(),
            &["GET /_index_template/pixel-events", "a page for people"],
        ),
        (
            "no answer",
            "/_index_template/pixel-events",
            Reaction::Drop,
            &["http://127.0.0.1"],
        ),
        (
            "a server at its end",
            "/_index_template/pixel-events",
            Reaction::json(
                503,
                &json!({"error": {"type": "no_master", "reason": "no leader"}, "status": 503}),
            ),
            &["status 503", "no_master: no leader"],
        ),
    ];
    for (what, path, reaction, words) in cases {
        check_answer(what, path, reaction, words);
    }
}

fn check_answer(what: &str, path: &str, reaction: Reaction, words: &[&str]) {
    let path = path.to_owned();
    let stub = SmallServer::start(move |asked| match asked.path.as_str() {
        asked if asked == path => reaction.clone(),
        "/" => Reaction::json(200, &version("2.19.4", Some("opensearch"))),
        _ => Reaction::json(404, &json!({"error": "not here", "status": 404})),
    });
    failed(&pixel(&["setup", "-d", &format!("{}/events", stub.url())]), words, what);
    assert_eq!(stub.writes(), Vec::<String>::new(), "{what}");
}

/// An OpenSearch that calls itself 7.10 for the sake of old clients is still one.
#[test]
fn the_compatibility_mode_of_opensearch_is_seen_through() {
    let stub = SmallServer::start(|asked| match asked.path.split('?').next() {
        Some("/") => Reaction::json(200, &version("7.10.2", Some("opensearch"))),
        Some("/_nodes/_local") => Reaction::json(200, &json!({"nodes": {"a": {"version": "2.19.4"}}})),
        _ => Reaction::json(404, &json!({"error": "not here", "status": 404})),
    });
    let dry = succeeded(
        &pixel(&["setup", "-d", &format!("{}/events", stub.url()), "--dry-run"]),
        "compatibility",
    );
    assert!(dry.contains("OpenSearch 2.19"), "{dry}");
}

/// What the servers answer to every write while `cluster.blocks.read_only` is set, which others on the same server would not
/// survive.
#[test]
fn a_read_only_cluster_is_told_and_finished_later() {
    let refusal = json!({
        "error": {"type": "cluster_block_exception", "reason": "blocked by: [FORBIDDEN/6/cluster read-only (api)];"},
        "status": 403,
    });
    let subject = any();
    let index = Index::new(&subject, "cluster");
    let blocked = Arc::new(AtomicUsize::new(1));
    let block = Arc::clone(&blocked);
    let proxy = SmallServer::proxy(&subject, move |asked| {
        (asked.is_write() && block.load(Ordering::Relaxed) == 1).then(|| Reaction::json(403, &refusal))
    });
    let url = format!("{}/{}", proxy.url(), index.name);
    failed(
        &pixel(&["setup", "-d", &url]),
        &["cluster read-only", "cluster.blocks.read_only", "null"],
        subject.name,
    );
    check_nothing_there(&index, subject.name);
    blocked.store(0, Ordering::Relaxed);
    succeeded(&pixel(&["setup", "-d", &url]), subject.name);
}

/// However far a run came, the next one goes on from there.
#[test]
fn a_run_that_was_interrupted_is_finished_by_the_next() {
    let subject = any();
    for nth in 0..2 {
        for arrives in [false, true] {
            check_interrupted(&subject, nth, arrives);
        }
    }
}

/// Interrupts the write number `nth`; it `arrives`, or it does not.
fn check_interrupted(subject: &Subject, nth: usize, arrives: bool) {
    let what = format!("{}, write {nth}, arrives: {arrives}", subject.name);
    let index = Index::new(subject, &format!("interrupted-{nth}"));
    let written = AtomicUsize::new(0);
    let running = subject.running.clone();
    let proxy = SmallServer::proxy(subject, move |asked: &Asked| {
        let interrupted = asked.is_write() && written.fetch_add(1, Ordering::Relaxed) == nth;
        if interrupted && arrives {
            servers::request(&running, &asked.method, &asked.path, Some(&asked.body));
        }
        interrupted.then_some(Reaction::Drop)
    });
    let url = format!("{}/{}", proxy.url(), index.name);
    let setup = || pixel(&["setup", "-d", &url, "--rotation", "rollover"]);
    failed(&setup(), &["http://127.0.0.1"], &what);
    succeeded(&setup(), &what);
    proxy.forget();
    let after = succeeded(&setup(), &what);
    assert!(after.contains("nothing to write"), "{what}: {after}");
    assert_eq!(proxy.writes(), Vec::<String>::new(), "{what}");
}

// What visitors name.

#[test]
fn what_visitors_name_never_becomes_a_field() {
    let events: Vec<_> = (0..1000).map(named_by_visitor).collect();
    each(|subject| {
        let index = Index::new(subject, "named");
        let url = subject.destination(&index.name);
        succeeded(&subject.pixel(&["setup", "-d", &url]), subject.name);
        let before = index.mapping_of(&index.name);
        for part in events.chunks(100) {
            let lines = part.iter().map(|event| {
                let action = json!({"create": {"_id": event.id}});
                format!("{action}\n{}\n", event.document)
            });
            let path = format!(
                "/{}{}/_bulk",
                index.name,
                if subject.has_types() { "/_doc" } else { "" }
            );
            let (status, answer) = servers::request(&subject.running, "POST", &path, Some(&lines.collect::<String>()));
            assert!(
                status == 200 && answer.contains("\"errors\":false"),
                "{}: {answer:.400}",
                subject.name
            );
        }
        assert_eq!(index.mapping_of(&index.name), before, "{}", subject.name);
        assert_eq!(index.all().len(), 1000, "{}", subject.name);
        let label = index.search(&json!({"term": {"labels": "q-17-0=v"}}));
        assert_eq!(label.len(), 1, "{}: what is kept can be found", subject.name);
    });
}

/// A visit with a thousand names of its own, half of them parameters, half of them headers.
fn named_by_visitor(visit: usize) -> Event {
    let named = |letter: char| {
        let names = (0..500).map(|number| (format!("{letter}-{visit}-{number}"), "v".to_owned()));
        names.collect::<Vec<_>>()
    };
    event(&format!("visit-{visit}"), march(), &named('q'), &named('h'))
}

/// The servers that a person can choose all have a name.
#[test]
fn every_server_is_in_the_matrix() {
    for server in Server::ALL {
        assert!(matrix::NAMES.iter().any(|(_, named)| *named == server), "{server:?}");
    }
}
