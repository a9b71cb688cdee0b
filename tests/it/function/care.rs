//! What keeps an index healthy: `pixel prune`, and the function's roles `setup` and `prune`.

use std::time::Duration;

use chrono::{Days, Utc};
use pixel::hit::outcome::Outcome;
use pixel::sqlite::{Reader, Store};
use serde_json::{Value, json};

use crate::destination::index_setup::{deliver, event, failed, succeeded};
use crate::support::lambda_rig::{Invocation, InvokeResult, Rig, RigOptions};
use crate::support::matrix::{Index, Subject, any, block_on, each};
use crate::support::serving;
use crate::support::small_server::{Asked, Reaction, SmallServer};

/// Stores one event for each time.
fn store(index: &Index, suffix: &str, times: &[&str]) {
    let events: Vec<_> = times
        .iter()
        .enumerate()
        .map(|(number, time)| event(&format!("hit-{time}-{number}"), time.parse().expect("a time"), &[], &[]))
        .collect();
    let outcomes = deliver(
        &index.subject,
        &(index.subject.destination(&index.name) + suffix),
        &events,
    );
    assert!(
        outcomes.iter().all(|outcome| *outcome == Outcome::Indexed),
        "{outcomes:?}"
    );
    for name in index.indices() {
        index.subject.ask("POST", &format!("/{name}/_refresh"), None);
    }
}

fn prune(index: &Index, suffix: &str, more: &[&str]) -> String {
    let url = index.subject.destination(&index.name) + suffix;
    let arguments = [&["prune", "-d", &url, "--older-than", "30d"], more].concat();
    succeeded(&index.subject.pixel(&arguments), index.subject.name)
}

fn named(index: &Index, suffixes: &[&str]) -> Vec<String> {
    let mut names: Vec<_> = suffixes
        .iter()
        .map(|suffix| format!("{}{suffix}", index.name))
        .collect();
    names.sort();
    names
}

// The command line.

#[test]
fn old_dated_indices_are_deleted_and_nothing_else() {
    each(check_dated);
}

fn check_dated(subject: &Subject) {
    let index = Index::new(subject, "prune");
    let suffix = "-%Y.%m.%d";
    let today = format!("-{}", Utc::now().format("%Y.%m.%d"));
    succeeded(
        &subject.pixel(&["setup", "-d", &(subject.destination(&index.name) + suffix)]),
        subject.name,
    );
    let now = Utc::now().to_rfc3339();
    store(
        &index,
        suffix,
        &[
            "2020-01-01T09:30:00Z",
            "2020-01-01T10:30:00Z",
            "2020-01-02T09:30:00Z",
            &now,
        ],
    );
    // Names that the pattern did not make, one of them closed.
    for foreign in ["-backup.of.2020", "-2020.1.1", "-2020.01.01.old"] {
        index.ask("PUT", foreign, Some(&json!({})));
    }
    index.ask("POST", "-2020.01.01.old/_close", None);
    let all = [
        "-2020.01.01",
        "-2020.01.02",
        &today,
        "-backup.of.2020",
        "-2020.1.1",
        "-2020.01.01.old",
    ];

    let dry = prune(&index, suffix, &["--dry-run"]);
    assert!(
        dry.contains("would delete 2 of 6 indices, 3 events"),
        "{}: {dry}",
        subject.name
    );
    assert_eq!(
        index.indices(),
        named(&index, &all),
        "{}: --dry-run deletes nothing",
        subject.name
    );

    let said = prune(&index, suffix, &[]);
    let expected = [
        "deleted 2 of 6 indices, 3 events",
        "kept: not made by this pattern",
        "kept: events are written to it",
    ];
    for words in expected {
        assert!(said.contains(words), "{}: {said}", subject.name);
    }
    assert_eq!(index.indices(), named(&index, &all[2..]), "{}", subject.name);
    let again = prune(&index, suffix, &["--json"]);
    let again: Value = serde_json::from_str(&again).expect("JSON");
    let fates: Vec<_> = again["indices"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| row["result"].as_str())
        .collect();
    let foreign = Some("kept: not made by this pattern");
    let mut expected = vec![foreign, foreign, Some("kept: events are written to it"), foreign];
    expected.sort();
    let mut fates = fates;
    fates.sort();
    assert_eq!(fates, expected, "{}: {again}", subject.name);
}

#[test]
fn of_a_rollover_only_what_is_old_and_not_written_to_is_deleted() {
    each(|subject| {
        check_rolled(subject, "rollover");
        if subject.has_data_streams() {
            check_rolled(subject, "data-stream");
        }
    });
}

fn check_rolled(subject: &Subject, rotation: &str) {
    let what = format!("{}, {rotation}", subject.name);
    let index = Index::new(subject, &format!("prune-{rotation}"));
    let url = subject.destination(&index.name);
    succeeded(&subject.pixel(&["setup", "-d", &url, "--rotation", rotation]), &what);
    store(&index, "", &["2020-01-01T09:30:00Z", "2020-01-02T09:30:00Z"]);
    let before = index.indices();
    let said = prune(&index, "", &[]);
    assert!(
        said.contains("deleted 0 of 1 indices"),
        "{what}: the only index is written to: {said}"
    );

    index.ask("POST", "/_rollover", Some(&json!({})));
    store(&index, "", &["2020-01-03T09:30:00Z"]);
    // A neighbour, closed, which can be asked nothing.
    let neighbour = format!("{}-old", index.name);
    subject.expect("PUT", &format!("/{neighbour}"), Some(&json!({})));
    subject.expect("POST", &format!("/{neighbour}/_close"), None);
    let dry = prune(&index, "", &["--dry-run"]);
    assert!(dry.contains("would delete 1 of 3 indices, 2 events"), "{what}: {dry}");
    let said = prune(&index, "", &[]);
    assert!(said.contains("deleted 1 of 3 indices, 2 events"), "{what}: {said}");
    let left = index.indices();
    assert!(
        !left.contains(&before[0]) && left.contains(&neighbour) && left.len() == 2,
        "{what}: {left:?}"
    );
    // Another event finds its place.
    store(&index, "", &["2020-01-04T09:30:00Z"]);
}

#[test]
fn of_a_file_the_old_events_are_deleted() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("pixel.db");
    let store = Store::open(&path).expect("the store opens");
    block_on(async {
        for (number, days) in [0, 1, 40, 50].into_iter().enumerate() {
            let time = Utc::now() - Days::new(days);
            let event = event(&format!("hit-{number}"), time, &[], &[]);
            let outcome = store.store(event.into()).await;
            assert_eq!(outcome, Outcome::Indexed);
        }
    });
    store.close();
    let left = || {
        Reader::open(&path)
            .and_then(|reader| reader.latest(9))
            .map(|events| events.len())
            .ok()
    };
    let prune = |more: &[&str]| serving::run(folder.path(), &[&["prune", "--older-than", "30d"], more].concat());
    let dry = succeeded(&prune(&["--dry-run"]), "dry");
    assert!(dry.contains("would delete 2 events") && left() == Some(4), "{dry}");
    let said = succeeded(&prune(&["--json"]), "prune");
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&said["events"], left()), (&json!(2), Some(2)));
    let none = serving::run(folder.path(), &["prune", "--older-than", "30d", "-d", "sqlite:no.db"]);
    failed(&none, &["no.db"], "no store");
}

#[test]
fn what_prune_may_not_or_cannot_do_is_told() {
    each(|subject| {
        let index = Index::new(subject, "prune-refused");
        let asked = ["prune", "--older-than", "30d", "-d"];
        if let Some(writer) = &subject.running.writer {
            let url = subject.destination_as(Some(writer), &index.name) + "-%Y.%m";
            let output = subject.pixel(&[&asked[..], &[&url]].concat());
            failed(&output, &["status 403", "allow the action named above"], subject.name);
        }
        let said = prune(&index, "-%Y.%m", &[]);
        assert!(said.contains("deleted 0 of 0 indices"), "{}: {said}", subject.name);
    });
}

// The function.

const SIGNATURE: &str = "X-Amz-Signature=5ecre7";

/// A request as CloudFormation makes it.
fn request(kind: &str, callback: &SmallServer, physical_id: Option<&str>) -> String {
    request_with(kind, callback, physical_id, &[])
}

/// The same with properties of the resource.
pub fn request_with(
    kind: &str,
    callback: &SmallServer,
    physical_id: Option<&str>,
    properties: &[(&str, &str)],
) -> String {
    let mut request = json!({
        "RequestType": kind,
        "ResponseURL": format!("{}/bucket/key?{SIGNATURE}", callback.url()),
        "StackId": "arn:aws:cloudformation:eu-central-1:123456789012:stack/pixel/1",
        "RequestId": format!("request-{kind}"),
        "LogicalResourceId": "Index",
        "ResourceType": "Custom::Index",
        "ResourceProperties": {"ServiceToken": "arn:aws:lambda:eu-central-1:123456789012:function:pixel"},
    });
    for (name, value) in properties {
        request["ResourceProperties"][*name] = (*value).into();
    }
    if let Some(id) = physical_id {
        request["PhysicalResourceId"] = id.into();
    }
    request.to_string()
}

pub fn options(handler: &str, destination: &str) -> RigOptions {
    RigOptions::new(env!("CARGO_BIN_EXE_bootstrap"))
        .handler(handler)
        .env("PIXEL_DESTINATION", destination)
        .timeout(Duration::from_mins(1))
}

pub async fn rig(options: RigOptions) -> Rig {
    let rig = Rig::start(options).await;
    assert_eq!(rig.init_error(), None);
    rig
}

fn against(index: &Index, handler: &str, suffix: &str) -> RigOptions {
    let options = options(handler, &(index.subject.destination(&index.name) + suffix));
    let variables = index.subject.variables();
    variables
        .into_iter()
        .fold(options, |options, (name, value)| options.env(name, value))
}

/// The only answer that was put to the callback.
pub fn answer(callback: &SmallServer, what: &str) -> Value {
    let asked = callback.asked();
    let [asked] = asked.as_slice() else {
        panic!("{what}: it answers once: {asked:#?}");
    };
    assert_eq!(
        (asked.method.as_str(), asked.path.contains(SIGNATURE)),
        ("PUT", true),
        "{what}"
    );
    // The URL is signed for a request without one.
    assert!(
        !asked.headers.iter().any(|(name, _)| name == "content-type"),
        "{what}: {asked:#?}"
    );
    let answer = asked.json();
    callback.forget();
    answer
}

fn check_log(rig: &Rig, what: &str) {
    let log = rig.log_lines();
    assert!(log.iter().any(|line| line.contains("\"setup\"")), "{what}: {log:#?}");
    assert!(
        !log.iter()
            .any(|line| line.contains("5ecre7") || line.contains("Only-4")),
        "{what}: {log:#?}"
    );
}

pub fn callback() -> SmallServer {
    SmallServer::start(|_| Reaction::Answer(200, String::new()))
}

#[test]
fn cloudformation_creates_updates_and_deletes_without_losing_events() {
    each(|subject| block_on(check_resource(subject)));
}

async fn check_resource(subject: &Subject) {
    let what = subject.name;
    let index = Index::new(subject, "resource");
    let callback = callback();
    let rig = rig(against(&index, "setup", "")).await;
    let mut id: Option<String> = None;
    let requests = [
        ("Create", "created", "2026-03-01T09:30:00Z"),
        ("Update", "unchanged", "2026-03-02T09:30:00Z"),
        ("Delete", "", "2026-03-03T09:30:00Z"),
    ];
    for (kind, steps, time) in requests {
        let invocation = rig.invoke(request(kind, &callback, id.as_deref())).await;
        assert!(
            matches!(invocation.result, InvokeResult::Reply(_)),
            "{what}, {kind}: {invocation:?}"
        );
        let answer = answer(&callback, what);
        assert_eq!(answer["Status"], "SUCCESS", "{what}, {kind}: {answer}");
        assert_eq!(answer["RequestId"], format!("request-{kind}"), "{what}");
        assert_eq!(answer["LogicalResourceId"], "Index", "{what}");
        assert!(
            answer["StackId"].is_string() && answer["Reason"].is_string(),
            "{what}: {answer}"
        );
        let physical = answer["PhysicalResourceId"].as_str().map(ToOwned::to_owned);
        assert!(
            id.is_none() || id == physical,
            "{what}, {kind}: another id would delete the old one"
        );
        id = physical;
        let did = answer
            .pointer("/Data/Steps")
            .and_then(Value::as_str)
            .unwrap_or_default();
        assert!(did.contains(steps), "{what}, {kind}: {answer}");
        assert_eq!(index.indices(), named(&index, &[""]), "{what}, {kind}");
        store(&index, "", &[time]);
    }
    assert_eq!(index.all().len(), 3, "{what}: Delete keeps the events");
    check_log(&rig, what);
}

#[test]
fn without_cloudformation_the_report_is_the_reply() {
    let subject = any();
    let index = Index::new(&subject, "manual");
    block_on(async {
        let rig = rig(against(&index, "setup", "").env("PIXEL_ROTATION", "daily")).await;
        for steps in ["created", "unchanged"] {
            let report = rig.invoke("{}").await.reply_json();
            assert!(
                report["Steps"].as_str().is_some_and(|did| did.starts_with(steps)),
                "{report}"
            );
            assert_eq!(report["Dashboards"], "not imported: `DashboardsUrl` is empty");
            let destination = format!("{}/{}-%Y.%m.%d", subject.running.url, index.name);
            assert_eq!(report["Destination"], destination, "{report}");
        }
    });
}

/// A destination, and the words in the reason.
#[test]
fn cloudformation_is_told_why_it_failed() {
    let page = SmallServer::start(|_| Reaction::Answer(200, "<html>Log in</html>".to_owned()));
    let silent = SmallServer::start(|_| Reaction::Silence);
    let cases = [
        (
            "unreachable",
            "http://127.0.0.1:1/events".to_owned(),
            "nothing listens there",
        ),
        ("a page", format!("{}/events", page.url()), "a page for people"),
        (
            "silent",
            format!("{}/events", silent.url()),
            "shortly before the function's time-out",
        ),
        (
            "a file",
            "sqlite:pixel.db".to_owned(),
            "the function has no disk that lasts",
        ),
        ("nothing", String::new(), "PIXEL_DESTINATION"),
    ];
    for (what, destination, words) in cases {
        block_on(check_failure(what, &destination, words));
    }
}

async fn check_failure(what: &str, destination: &str, words: &str) {
    let callback = callback();
    let rig = rig(options("setup", destination).timeout(Duration::from_secs(5))).await;
    let invocation = rig.invoke(request("Create", &callback, None)).await;
    assert!(
        matches!(invocation.result, InvokeResult::Reply(_)),
        "{what}: {invocation:?}"
    );
    let answer = answer(&callback, what);
    assert_eq!(answer["Status"], "FAILED", "{what}");
    assert!(
        answer["Reason"].as_str().is_some_and(|reason| reason.contains(words)),
        "{what}: {answer}"
    );
    assert_eq!(answer["PhysicalResourceId"], "pixel-setup-Index", "{what}");
    // A stack that failed to create is deleted: that must succeed without the destination.
    rig.invoke(request("Delete", &callback, Some("pixel-setup-Index")))
        .await;
    assert_eq!(self::answer(&callback, what)["Status"], "SUCCESS", "{what}");
    check_log(&rig, what);
    // By hand, the reason is the function's error.
    let InvokeResult::FunctionError(error) = rig.invoke("{}").await.result else {
        panic!("{what}: a failure is an error");
    };
    assert!(String::from_utf8_lossy(&error).contains(words), "{what}");
}

#[test]
fn a_callback_that_falters_is_tried_again_and_never_named() {
    let failures = std::sync::atomic::AtomicU32::new(0);
    let faltering = SmallServer::start(move |_: &Asked| {
        let failed = failures.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Reaction::Answer(if failed < 5 { 503 } else { 200 }, String::new())
    });
    // It takes longer than a share of the time that is always left.
    let slow = SmallServer::start(|_: &Asked| {
        std::thread::sleep(Duration::from_millis(1500));
        Reaction::Answer(200, String::new())
    });
    let refusing = SmallServer::start(|_| Reaction::Drop);
    let expired = SmallServer::start(|_| Reaction::Answer(403, String::new()));
    block_on(async {
        let rig = rig(options("setup", "http://127.0.0.1:1/events").timeout(Duration::from_secs(10))).await;
        for (callback, times) in [(&faltering, 6), (&slow, 1)] {
            let told = rig.invoke(request("Delete", callback, None)).await;
            assert!(matches!(told.result, InvokeResult::Reply(_)), "{told:?}");
            assert_eq!(callback.asked().len(), times);
        }
        for callback in [&refusing, &expired] {
            let Invocation { result, .. } = rig.invoke(request("Delete", callback, None)).await;
            let InvokeResult::FunctionError(error) = result else {
                panic!("what could not be told is an error: {result:?}");
            };
            let error = String::from_utf8_lossy(&error);
            assert!(
                error.contains("could not tell CloudFormation") && !error.contains("5ecre7"),
                "{error}"
            );
        }
        assert_eq!(expired.asked().len(), 3, "nothing changes that");
        check_log(&rig, "callback");
    });
}

/// Whatever else is wrong, CloudFormation need not wait for an hour.
#[test]
fn a_request_with_a_wrong_member_is_answered_and_nothing_is_done() {
    let callback = callback();
    let good = request("Create", &callback, None);
    let member = |name: &str, value: &str| {
        let mut members: serde_json::Map<String, Value> = serde_json::from_str(&good).expect("a request");
        members.remove(name);
        let rest = Value::Object(members).to_string();
        let rest = rest.strip_prefix('{').expect("an object");
        if value.is_empty() {
            format!("{{{rest}")
        } else {
            format!("{{\"{name}\":{value},{rest}")
        }
    };
    let repeated = format!("{{\"StackId\":\"another\",{}", &good[1..]);
    let wrong = [
        (member("RequestType", ""), "RequestType"),
        (member("RequestType", "7"), "integer `7`"),
        (member("StackId", "null"), "null"),
        (member("RequestId", "[]"), "sequence"),
        (member("LogicalResourceId", "{}"), "map"),
        (member("PhysicalResourceId", "7"), "integer `7`"),
        (member("PhysicalResourceId", "\"\\ud800\""), "hex escape"),
        (repeated, "StackId"),
    ];
    block_on(async {
        let rig = rig(options("setup", "http://127.0.0.1:1/events").timeout(Duration::from_secs(10))).await;
        for (payload, words) in wrong {
            let invocation = rig.invoke(payload.clone()).await;
            assert!(
                matches!(invocation.result, InvokeResult::Reply(_)),
                "{payload}: {invocation:?}"
            );
            let answer = answer(&callback, &payload);
            let reason = answer["Reason"].as_str().unwrap_or_default();
            assert_eq!(answer["Status"], "FAILED", "{payload}");
            assert!(
                reason.contains("cannot read the request") && reason.contains(words),
                "{payload}: {reason}"
            );
        }
        check_log(&rig, "wrong members");
    });
}

#[test]
fn the_role_prune_deletes_what_is_old() {
    each(|subject| block_on(check_prune_role(subject)));
}

async fn check_prune_role(subject: &Subject) {
    let index = Index::new(subject, "prune-role");
    for month in ["-2020.01", "-2020.02"] {
        index.ask("PUT", month, Some(&json!({})));
    }
    let this_month = format!("-{}", Utc::now().format("%Y.%m"));
    index.ask("PUT", &this_month, Some(&json!({})));
    let pruning = rig(against(&index, "prune", "-%Y.%m").env("PIXEL_KEEP_DAYS", "30")).await;
    let report = pruning
        .invoke(r#"{"source": "aws.events", "detail-type": "Scheduled Event"}"#)
        .await
        .reply_json();
    let expected = json!({"deleted": named(&index, &["-2020.01", "-2020.02"]), "kept": 1});
    assert_eq!(report, expected, "{}", subject.name);
    assert_eq!(index.indices(), named(&index, &[&this_month]), "{}", subject.name);

    let endless = rig(against(&index, "prune", "-%Y.%m")).await;
    let InvokeResult::FunctionError(error) = endless.invoke("{}").await.result else {
        panic!("{}: without a number of days nothing is old", subject.name);
    };
    assert!(
        String::from_utf8_lossy(&error).contains("PIXEL_KEEP_DAYS"),
        "{}",
        subject.name
    );
}

// `pixel config --check`

#[test]
fn a_check_names_the_server_and_explains_refusals() {
    each(|subject| {
        let index = Index::new(subject, "check");
        let check = |url: &str| subject.pixel(&["config", "--check", "-d", url]);
        let url = subject.destination(&index.name);
        failed(&check(&url), &["no index", "pixel setup"], subject.name);
        assert_eq!(
            index.indices(),
            Vec::<String>::new(),
            "{}: a check makes no index",
            subject.name
        );

        succeeded(&subject.pixel(&["setup", "-d", &url]), subject.name);
        let (product, number) = subject.name.split_once('-').expect("a name and a number");
        let product = if product == "opensearch" {
            "OpenSearch"
        } else {
            "Elasticsearch"
        };
        let said = succeeded(&check(&url), subject.name);
        let expected = [
            format!("is {product} {}.", &number[..1]),
            "wrote a probe".to_owned(),
            "deleted it again".to_owned(),
        ];
        for words in expected {
            assert!(said.contains(&words), "{}: no `{words}` in {said}", subject.name);
        }
        assert_eq!(index.all().len(), 0, "{}: the probe is gone", subject.name);

        if let Some((user, _)) = &subject.running.admin {
            let wrong = (user.clone(), "wrong".to_owned());
            failed(
                &check(&subject.destination_as(Some(&wrong), &index.name)),
                &["status 401", "not accepted"],
                subject.name,
            );
        }
        if let Some(writer) = &subject.running.writer {
            let said = succeeded(&check(&subject.destination_as(Some(writer), &index.name)), subject.name);
            assert!(
                said.contains("status 403") && said.contains("wrote a probe"),
                "{}: {said}",
                subject.name
            );
            let elsewhere = subject.destination_as(Some(writer), "elsewhere");
            failed(&check(&elsewhere), &["status 403", "indices:data/write"], subject.name);
        }
        if subject.running.ca_file.is_some() {
            let untrusting = crate::destination::index_setup::pixel(&["config", "--check", "-d", &url]);
            failed(
                &untrusting,
                &["certificate is not trusted", "PIXEL_CA_FILE"],
                subject.name,
            );
        }
        index.ask("PUT", "/_settings", Some(&json!({"index.blocks.read_only": true})));
        failed(&check(&url), &["status 403", "index.blocks.read_only"], subject.name);
    });
}

#[test]
fn a_server_that_is_not_there_is_explained() {
    let cases = [
        ("http://127.0.0.1:1/events", "nothing listens there"),
        ("http://no-such-host.invalid:9200/events", "name is not known here"),
    ];
    for (url, words) in cases {
        let output = crate::destination::index_setup::pixel(&["config", "--check", "-d", url]);
        failed(&output, &[words], url);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.matches(words).count(), 1, "{url}: it is said once: {said}");
        assert!(!said.contains("trying to write"), "{url}: {said}");
    }
}

/// Runs `pixel config --check --json`: the JSON, and the exit code.
fn checked(folder: &std::path::Path, destination: &str) -> (Value, Option<i32>) {
    let arguments = ["config", "--check", "--json", "-d", destination];
    let output = serving::run(folder, &arguments);
    let whole: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert!(whole["variables"].is_array(), "{whole}");
    (whole["check"].clone(), output.status.code())
}

#[test]
fn the_check_of_a_file_writes_it_and_leaves_it_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let names = || {
        let entries = std::fs::read_dir(folder.path()).expect("a folder").flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        names.sort();
        names
    };
    let (check, code) = checked(folder.path(), "sqlite:typo.db");
    assert_eq!((&check["ok"], code), (&json!(true), Some(0)), "{check}");
    let finding = "ok: `typo.db` is not there; it will be made when it is first written";
    assert_eq!(check["findings"], json!([finding]));
    assert!(names().is_empty(), "{:?}", names());
    let (check, code) = checked(folder.path(), "sqlite:nowhere/some.db");
    assert_eq!((&check["ok"], code), (&json!(false), Some(1)), "{check}");
    assert!(
        check["error"].as_str().is_some_and(|error| error.contains("`nowhere`")),
        "{check}"
    );

    let filled = serving::run(folder.path(), &["demo", "--events", "20", "-d", "sqlite:some.db"]);
    assert!(filled.status.success(), "{filled:?}");
    let whole = || {
        let connection = rusqlite::Connection::open(folder.path().join("some.db")).expect("a file");
        let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        (
            count("SELECT count(*) FROM events").expect("a count"),
            count("SELECT count(*) FROM events WHERE id LIKE 'pixel-probe%'").expect("a count"),
        )
    };
    let (check, code) = checked(folder.path(), "sqlite:some.db");
    assert_eq!((&check["ok"], code), (&json!(true), Some(0)), "{check}");
    assert_eq!(
        check["findings"],
        json!(["ok: wrote an event to `some.db` and took it back"])
    );
    assert_eq!(whole(), (20, 0));
    assert_eq!(names(), ["some.db"]);

    // What refuses to be written does so in the check: a rule of the file, and a file that is none of ours.
    let forbid = "CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'the disk is full'); END";
    let connection = rusqlite::Connection::open(folder.path().join("some.db")).expect("a file");
    connection.execute_batch(forbid).expect("a trigger");
    drop(connection);
    std::fs::write(
        folder.path().join("text.db"),
        "no store, but long enough to be read as one".repeat(40),
    )
    .expect("a file");
    for (destination, words) in [
        ("sqlite:some.db", "the disk is full"),
        ("sqlite:text.db", "not a database"),
    ] {
        let (check, code) = checked(folder.path(), destination);
        assert_eq!((&check["ok"], code), (&json!(false), Some(1)), "{destination}: {check}");
        assert!(
            check["error"].as_str().is_some_and(|error| error.contains(words)),
            "{destination}: {check}"
        );
    }
    assert_eq!(whole(), (20, 0));
}

#[test]
fn the_check_of_an_index_is_in_the_json() {
    let subject = any();
    let index = Index::new(&subject, "check-json");
    let url = subject.destination(&index.name);
    let check = || {
        let output = subject.pixel(&["config", "--check", "--json", "-d", &url]);
        let whole: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
        (whole["check"].clone(), output.status.code())
    };
    let (unprepared, code) = check();
    assert_eq!((&unprepared["ok"], code), (&json!(false), Some(1)), "{unprepared}");
    assert!(
        unprepared["error"]
            .as_str()
            .is_some_and(|error| error.contains("pixel setup")),
        "{unprepared}"
    );
    succeeded(&subject.pixel(&["setup", "-d", &url]), subject.name);
    let (ready, code) = check();
    assert_eq!(
        (&ready["ok"], &ready["error"], code),
        (&json!(true), &Value::Null, Some(0)),
        "{ready}"
    );
    let findings = ready["findings"].to_string();
    for words in ["wrote a probe", "deleted it again"] {
        assert!(findings.contains(words), "no `{words}` in {findings}");
    }
}

#[test]
fn a_name_that_no_index_has_is_told() {
    let subject = any();
    let url = subject.destination("no-such-index-anywhere-%Y.%m");
    for more in [&[][..], &["--json"]] {
        let output = subject.pixel(&[&["prune", "--older-than", "30d", "-d", &url], more].concat());
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains("no index matches `no-such-index-anywhere-%Y.%m`"),
            "{said}"
        );
    }
}
