//! `pixel audit`, and what monitors ask of `pixel serve`: every hit is accounted for by its id.

use std::path::Path;
use std::process::Output;

use pixel::sqlite::Store;
use serde_json::{Value, json};

use crate::support::matrix::{Index, each};
use crate::support::serving::{Served, pixel, run, serve, wait_for};
use crate::support::small_server::{Reaction, SmallServer};

/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:9/events";

const ALWAYS: [&str; 4] = ["--from", "2026-01-01", "--to", "2100-01-01"];

fn audit(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, Value) {
    let output = pixel(folder)
        .arg("audit")
        .args(ALWAYS)
        .arg("--json")
        .args(arguments)
        .envs(variables.iter().copied())
        .output()
        .expect("pixel starts");
    let report = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        report.unwrap_or_else(|_| panic!("{}", errors(&output))),
    )
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn metric(served: &Served, name: &str) -> u64 {
    let text = String::from_utf8(served.get("/metrics").body).expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap_or_else(|| panic!("{name}: {text}")).trim();
    value.parse().expect("a number")
}

fn outcome(served: &Served, name: &str) -> u64 {
    metric(served, &format!("pixel_hits_total{{outcome=\"{name}\"}}"))
}

/// A store in which there is nothing yet.
fn empty_store(folder: &Path, name: &str) {
    Store::open(&folder.join(name)).expect("a store can be made").close();
}

/// Stops, so that the access log is complete.
fn stopped(served: Served) -> crate::support::serving::Serve {
    served.signal("TERM");
    let (status, serve) = served.ended();
    assert!(status.success());
    serve
}

#[test]
fn what_is_stored_is_accounted_for_and_what_is_removed_is_missed() {
    let served = serve().argument("--access-log").argument("access.ndjson").start();
    for number in 0..20 {
        assert_eq!(served.get(&format!("/pixel/abc.gif?n={number}")).status, 200);
    }
    served.get("/nothing");
    assert_eq!((outcome(&served, "indexed"), outcome(&served, "ignored")), (20, 1));
    assert_eq!(metric(&served, "pixel_answers_total"), 21);
    assert_eq!(metric(&served, "pixel_ready"), 1);
    let serve = stopped(served);
    let folder = serve.folder();
    let (code, report) = audit(folder, &[], &["--access-log", "access.ndjson"]);
    assert_eq!(
        (code, &report["answered"], &report["destination"]),
        (Some(0), &json!(20), &json!(20))
    );
    assert_eq!(report["unaccounted"], 0);

    let store = rusqlite::Connection::open(folder.join("pixel.db")).expect("the store opens");
    let lost: String = store
        .query_row("SELECT id FROM events ORDER BY number LIMIT 1", [], |row| row.get(0))
        .expect("an event");
    store
        .execute("DELETE FROM events WHERE id = ?1", [&lost])
        .expect("it is deleted");
    let (code, report) = audit(folder, &[], &["--access-log", "access.ndjson"]);
    assert_eq!(
        (code, &report["unaccounted"], &report["missing"]),
        (Some(1), &json!(1), &json!([lost]))
    );

    // The numbers alone say the same.
    let (code, report) = audit(folder, &[], &["--count", "20"]);
    assert_eq!((code, &report["unaccounted"]), (Some(1), &json!(1)));
    assert_eq!(audit(folder, &[], &["--count", "19"]).0, Some(0));

    let table = run(
        folder,
        &[&["audit"], &ALWAYS[..], &["--access-log", "access.ndjson"]].concat(),
    );
    let text = String::from_utf8_lossy(&table.stdout).into_owned();
    let end = text.lines().last().unwrap_or_default();
    assert!(end.starts_with("unaccounted for") && end.ends_with(" 1"), "{text}");
    assert!(errors(&table).contains("1 unaccounted for"), "{}", errors(&table));
}

#[test]
fn the_fallback_and_the_log_are_places_too_and_replay_brings_all_home() {
    let served = serve()
        .to(NOWHERE)
        .variable("PIXEL_FALLBACK", "sqlite:fallback.db")
        .variable("PIXEL_BUDGET_MS", "400")
        .argument("--access-log")
        .argument("access.ndjson")
        .start();
    for number in 0..8 {
        assert_eq!(served.get(&format!("/pixel.gif?n={number}")).status, 200);
    }
    wait_for("the fallback to have all", || {
        (outcome(&served, "fallback") == 8).then_some(())
    });
    let ready = served.get("/ready");
    assert_eq!(ready.status, 503);
    assert!(String::from_utf8_lossy(&ready.body).contains("circuit breaker"));
    assert_eq!(served.get("/health").status, 200);
    let first = stopped(served);
    let folder = first.folder();
    // A second stage without a fallback logs its events whole; both wrote one access log.
    let second = serve()
        .to(NOWHERE)
        .variable("PIXEL_BUDGET_MS", "400")
        .argument("--access-log")
        .argument(folder.join("access.ndjson").to_str().expect("a path"))
        .start();
    for number in 0..3 {
        assert_eq!(second.get(&format!("/pixel.gif?n={number}")).status, 200);
    }
    wait_for("the log to have all", || {
        (outcome(&second, "failed") == 3).then_some(())
    });
    // What was written may still be on its way to us.
    let log = second
        .stderr
        .wait_for_count("three events in the log", 3, |line| line.contains("undelivered event"));
    let log = log.join("\n");
    std::fs::write(folder.join("stage.log"), log).expect("the log is written");
    let _second = stopped(second);

    let sources = [
        "--access-log",
        "access.ndjson",
        "--log",
        "stage.log",
        "-d",
        "sqlite:pixel.db",
    ];
    empty_store(folder, "pixel.db");
    let fallback = [("PIXEL_FALLBACK", "sqlite:fallback.db")];
    let (code, report) = audit(folder, &fallback, &sources);
    let numbers = ["answered", "destination", "fallback", "log", "unaccounted"].map(|name| report[name].clone());
    assert_eq!((code, numbers), (Some(0), [11, 0, 8, 3, 0].map(|number| json!(number))));
    let (code, report) = audit(folder, &[], &sources);
    assert_eq!((code, &report["unaccounted"]), (Some(1), &json!(8)));

    for source in ["sqlite:fallback.db", "stage.log"] {
        let replayed = run(folder, &["replay", source, "-d", "sqlite:pixel.db"]);
        assert!(replayed.status.success(), "{}", errors(&replayed));
    }
    let (code, report) = audit(folder, &[], &sources);
    assert_eq!(
        (code, &report["destination"], &report["unaccounted"]),
        (Some(0), &json!(11), &json!(0))
    );
}

#[test]
fn an_index_is_asked_for_each_id_also_for_those_it_has_twice() {
    each(|subject| {
        let index = Index::new(subject, "audit");
        let destination = format!("{}-%Y", index.destination());
        let read = format!("{}-%Y", subject.destination(&index.name));
        let mut serve = serve()
            .to(&destination)
            .argument("--access-log")
            .argument("access.ndjson");
        for (name, value) in subject.variables() {
            serve = serve.variable(name, &value);
        }
        let served = serve.start();
        for number in 0..12 {
            assert_eq!(served.get(&format!("/pixel.gif?n={number}")).status, 200);
        }
        wait_for("the index to have all", || {
            (outcome(&served, "indexed") == 12).then_some(())
        });
        let stopped = stopped(served);
        let folder = stopped.folder();
        let variables = subject.variables();
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let check = || audit(folder, &variables, &["--access-log", "access.ndjson", "-d", &read]);
        let (code, report) = check();
        assert_eq!(
            (code, &report["destination"]),
            (Some(0), &json!(12)),
            "{}",
            subject.name
        );

        // Each event counts once, wherever else it is.
        let twice = [&variables[..], &[("PIXEL_FALLBACK", read.as_str())]].concat();
        let (code, report) = audit(folder, &twice, &["--count", "12", "-d", &read]);
        assert_eq!(
            (
                code,
                &report["destination"],
                &report["fallback"],
                &report["unaccounted"]
            ),
            (Some(0), &json!(12), &json!(0), &json!(0)),
            "{}",
            subject.name
        );

        // The same event in the index of another year.
        let stored = subject.expect("POST", &format!("/{}-*/_search", index.name), None);
        let first = stored.pointer("/hits/hits/0").expect("an event");
        let (id, event) = (first["_id"].as_str().expect("an id"), &first["_source"]);
        let path = format!("/{}-2001/_doc/{}?refresh=true", index.name, percent(id));
        subject.expect("PUT", &path, Some(event));
        let (code, report) = check();
        assert_eq!(
            (code, &report["doubled"], &report["unaccounted"]),
            (Some(1), &json!(1), &json!(0)),
            "{}",
            subject.name
        );
    });
}

fn percent(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[test]
fn what_a_queue_holds_may_be_there_and_no_more() {
    let queue = SmallServer::start(|asked| {
        assert_eq!(asked.json()["AttributeNames"][0], "ApproximateNumberOfMessages");
        let attributes = json!({
            "ApproximateNumberOfMessages": "2", "ApproximateNumberOfMessagesNotVisible": "1",
            "ApproximateNumberOfMessagesDelayed": "0",
        });
        Reaction::json(200, &json!({ "Attributes": attributes }))
    });
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("ids"), "a\nb\n\nc\n").expect("it is written");
    empty_store(folder.path(), "none.db");
    let url = format!("{}/000000000000/pixel", queue.url().replace("http://", "sqs+http://"));
    let (code, report) = audit(
        folder.path(),
        &[],
        &["--ids", "ids", "--queue", &url, "-d", "sqlite:none.db"],
    );
    assert_eq!(
        (code, &report["queue"], &report["unaccounted"]),
        (Some(0), &json!(3), &json!(0))
    );
    std::fs::write(folder.path().join("ids"), "a\nb\nc\nd\n").expect("it is written");
    let (code, report) = audit(
        folder.path(),
        &[],
        &["--ids", "ids", "--queue", &url, "-d", "sqlite:none.db"],
    );
    assert_eq!(
        (code, &report["queue"], &report["unaccounted"]),
        (Some(1), &json!(3), &json!(1))
    );
}

/// A queue that holds so many messages.
fn queue_of(messages: u64) -> (SmallServer, String) {
    let queue = SmallServer::start(move |_| {
        let attributes = json!({
            "ApproximateNumberOfMessages": messages.to_string(), "ApproximateNumberOfMessagesNotVisible": "0",
            "ApproximateNumberOfMessagesDelayed": "0",
        });
        Reaction::json(200, &json!({ "Attributes": attributes }))
    });
    let url = format!("{}/000000000000/pixel", queue.url().replace("http://", "sqs+http://"));
    (queue, url)
}

/// What the function says of hits, one in a line.
fn said(outcomes: &[(&str, &str)]) -> String {
    let line = |(id, outcome): &(&str, &str)| json!({"message": "hit", "outcome": outcome, "event_id": id}).to_string();
    outcomes.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_message_of_the_fallback_s_queue_stands_for_one_hit() {
    let (_queue, url) = queue_of(5);
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    empty_store(folder, "pixel.db");
    let ids: Vec<_> = (0..10).map(|number| format!("id-{number}")).collect();
    std::fs::write(folder.join("ids"), ids.join("\n")).expect("it is written");
    let outcomes = ids
        .iter()
        .enumerate()
        .map(|(number, id)| (id.as_str(), if number < 5 { "fallback" } else { "indexed" }));
    std::fs::write(folder.join("log"), said(&outcomes.collect::<Vec<_>>())).expect("it is written");
    let fallback = [("PIXEL_FALLBACK", url.as_str())];
    let (code, report) = audit(folder, &fallback, &["--ids", "ids", "--log", "log"]);
    let numbers = ["fallback", "queue", "unaccounted"].map(|name| report[name].clone());
    assert_eq!(
        (code, numbers),
        (Some(1), [5, 0, 5].map(|number| json!(number))),
        "{report}"
    );
    assert_eq!(report["missing"], json!(ids[5..]));
    // Another queue's messages may be those that are missing.
    let (_other, way) = queue_of(3);
    let (_, report) = audit(folder, &fallback, &["--ids", "ids", "--log", "log", "--queue", &way]);
    assert_eq!((&report["queue"], &report["unaccounted"]), (&json!(3), &json!(2)));
    let (_, report) = audit(folder, &fallback, &["--count", "10", "--log", "log"]);
    assert_eq!(report["unaccounted"], 5, "{report}");
}

#[test]
fn a_log_is_believed_of_the_fallback_only_where_nobody_can_look() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    for store in ["pixel.db", "fallback.db"] {
        empty_store(folder, store);
    }
    std::fs::write(folder.join("ids"), "a\nb\n").expect("it is written");
    std::fs::write(folder.join("log"), said(&[("a", "fallback"), ("b", "fallback")])).expect("it is written");
    let check = |fallback: &str| {
        let (code, report) = audit(
            folder,
            &[("PIXEL_FALLBACK", fallback)],
            &["--ids", "ids", "--log", "log"],
        );
        (code, report["fallback"].clone(), report["unaccounted"].clone())
    };
    assert_eq!(check("sqlite:fallback.db"), (Some(1), json!(0), json!(2)));
    assert_eq!(check("sqlite:never.db"), (Some(1), json!(0), json!(2)));
    let stream = "firehose+http://127.0.0.1:9/hits";
    assert_eq!(check(stream), (Some(0), json!(2), json!(0)));
    each(|subject| {
        let index = Index::new(subject, "unfilled");
        subject.expect("PUT", &format!("/{}", index.name), None);
        let destination = subject.destination(&index.name);
        let mut variables = subject.variables();
        variables.push(("PIXEL_FALLBACK", destination));
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (code, report) = audit(folder, &variables, &["--ids", "ids", "--log", "log"]);
        assert_eq!((code, &report["unaccounted"]), (Some(1), &json!(2)), "{}", subject.name);
    });
}

#[test]
fn a_hit_in_many_places_counts_once() {
    let served = serve().start();
    for number in 0..5 {
        assert_eq!(served.get(&format!("/pixel.gif?n={number}")).status, 200);
    }
    let serve = stopped(served);
    let folder = serve.folder();
    let documents: Vec<Value> = crate::support::serving::documents(folder)
        .iter()
        .map(|text| serde_json::from_str(text).expect("JSON"))
        .collect();
    // `PIXEL_JOURNAL=log`; of an event of another day, too.
    let mut old = documents[0].clone();
    old["@timestamp"] = json!("2001-01-01T00:00:00.000Z");
    old["event"]["id"] = json!("old");
    let journal: Vec<_> = documents
        .iter()
        .chain([&old])
        .map(|event| {
            json!({"level": "INFO", "message": "journal", "event_id": event["event"]["id"], "event": event}).to_string()
        })
        .collect();
    std::fs::write(folder.join("log"), journal.join("\n")).expect("it is written");
    let numbers = |variables: &[(&str, &str)], sources: &[&str]| {
        let (code, report) = audit(folder, variables, sources);
        let numbers =
            ["destination", "fallback", "log", "unaccounted"].map(|name| report[name].as_u64().expect("a number"));
        (code, numbers)
    };
    assert_eq!(numbers(&[], &["--count", "5", "--log", "log"]), (Some(0), [5, 0, 0, 0]));
    // After a replay from a fallback that keeps what it holds.
    let replayed = run(folder, &["replay", "sqlite:pixel.db", "-d", "sqlite:fallback.db"]);
    assert!(replayed.status.success(), "{}", errors(&replayed));
    let fallback = [("PIXEL_FALLBACK", "sqlite:fallback.db")];
    assert_eq!(numbers(&fallback, &["--count", "5"]), (Some(0), [5, 0, 0, 0]));
    for (store, expected) in [("pixel.db", [4, 1, 0, 0]), ("fallback.db", [4, 0, 1, 0])] {
        let store = rusqlite::Connection::open(folder.join(store)).expect("the store opens");
        let id = documents[0]["event"]["id"].as_str().expect("an id");
        store
            .execute("DELETE FROM events WHERE id = ?1", [id])
            .expect("it is deleted");
        assert_eq!(
            numbers(&fallback, &["--count", "5", "--log", "log"]),
            (Some(0), expected)
        );
    }
    assert_eq!(numbers(&fallback, &["--count", "5"]), (Some(1), [4, 0, 0, 1]));
}

#[test]
fn an_audit_with_nothing_behind_it_is_no_good_news() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    empty_store(folder, "pixel.db");
    let line = json!({"time": "1780000000000", "id": "a", "method": "GET", "resource": "/pixel.gif", "status": "200"});
    for (name, text) in [
        ("other.log", "GET /pixel.gif 200\n{\"a\":1}\n".to_owned()),
        ("empty", "\n".to_owned()),
        ("access.ndjson", line.to_string()),
    ] {
        std::fs::write(folder.join(name), text).expect("it is written");
    }
    let check = |from: &str, sources: &[&str]| {
        let output = run(
            folder,
            &[&["audit", "--from", from, "--to", "2100-01-01"], sources].concat(),
        );
        (output.status.code(), errors(&output))
    };
    for (sources, names) in [
        (&["--access-log", "other.log"][..], "`other.log`"),
        (
            &["--access-log", "access.ndjson", "--access-log", "other.log"],
            "`other.log`",
        ),
        (&["--access-log", "empty"], "`empty`"),
        (&["--ids", "empty"], "`empty`"),
        (&["-d", "sqlite:nofile.db", "--count", "0"], "`nofile.db`"),
    ] {
        let (code, said) = check("2026-01-01", sources);
        assert!(code == Some(1) && said.contains(names), "{sources:?}: {code:?}: {said}");
    }
    // A quiet time is no mistake, and is said.
    let (code, said) = check("2099-01-01", &["--access-log", "access.ndjson"]);
    assert!(
        code == Some(0) && said.contains("no hit was answered"),
        "{code:?}: {said}"
    );
    each(|subject| {
        let variables = subject.variables();
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let nothing = subject.destination("nothing-of-this-name");
        let output = pixel(folder)
            .args([
                "audit",
                "--from",
                "2026-01-01",
                "--to",
                "2100-01-01",
                "--count",
                "0",
                "-d",
                &nothing,
            ])
            .envs(variables)
            .output()
            .expect("pixel starts");
        assert_eq!(output.status.code(), Some(1), "{}", subject.name);
        assert!(errors(&output).contains("nothing-of-this-name"), "{}", errors(&output));
    });
}

/// `CloudWatch` with two periods of one API, on two pages.
fn cloudwatch(from: i64, hour: i64, to: i64) -> SmallServer {
    SmallServer::start(move |asked| {
        let header = |name: &str| {
            asked
                .headers
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.as_str())
        };
        assert_eq!(
            header("x-amz-target"),
            Some("GraniteServiceVersion20100801.GetMetricData")
        );
        assert_eq!(header("content-type"), Some("application/x-amz-json-1.0"));
        let signature = header("authorization").unwrap_or_default();
        assert!(
            signature.contains("/eu-central-1/monitoring/aws4_request"),
            "{signature}"
        );
        let body = asked.json();
        assert_eq!((&body["StartTime"], &body["EndTime"]), (&json!(from), &json!(to)));
        let metric = &body["MetricDataQueries"][0]["MetricStat"]["Metric"];
        if metric["Dimensions"] == json!([{"Name": "ApiId", "Value": "unknown"}]) {
            return Reaction::json(
                400,
                &json!({"__type": "InvalidParameterValue", "message": "no such thing"}),
            );
        }
        assert_eq!(metric["Dimensions"][0], json!({"Name": "ApiName", "Value": "pixel"}));
        let series = |times: &[i64], values: &[f64], status: &str| json!([{"Id": "count", "Label": "Count", "Timestamps": times, "Values": values, "StatusCode": status}]);
        Reaction::json(
            200,
            &match body["NextToken"].as_str() {
                None => json!({"MetricDataResults": series(&[from], &[1.0], "PartialData"), "NextToken": "more"}),
                Some(_) => json!({"MetricDataResults": series(&[hour], &[5.0], "Complete"), "Messages": []}),
            },
        )
    })
}

/// What API Gateway has counted, as `aws cloudwatch` prints it and as `CloudWatch` answers.
#[test]
fn the_count_of_the_api_is_read_from_cloudwatch() {
    let served = serve().start();
    for number in 0..5 {
        assert_eq!(served.get(&format!("/pixel.gif?n={number}")).status, 200);
    }
    let serve = stopped(served);
    let folder = serve.folder();
    let now = chrono::Utc::now();
    let hour = now.timestamp().div_euclid(3_600) * 3_600;
    let (from, to) = (hour - 3_600, hour + 3_600);
    let at = |seconds: i64| {
        chrono::DateTime::from_timestamp(seconds, 0)
            .expect("a time")
            .to_rfc3339()
    };
    let (first, end) = (at(from), at(to));
    let window = [
        "audit",
        "--json",
        "-d",
        "sqlite:pixel.db",
        "--from",
        &first,
        "--to",
        &end,
    ];
    let with = |arguments: &[&str]| -> Vec<String> {
        let all = window.iter().chain(arguments);
        all.map(|argument| (*argument).to_owned()).collect()
    };
    let report = |output: &Output| -> Value {
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", errors(output)))
    };

    let statistics = json!({"Label": "Count", "Datapoints": [
        {"Timestamp": at(hour), "SampleCount": 3.0, "Unit": "Count"},
        {"Timestamp": at(from), "SampleCount": 2.0, "Unit": "Count"},
        {"Timestamp": at(to), "SampleCount": 900.0, "Unit": "Count"},
    ]});
    std::fs::write(folder.join("statistics.json"), format!("{statistics:#}")).expect("it can be written");
    let output = pixel(folder)
        .args(with(&["--metrics", "statistics.json"]))
        .output()
        .expect("pixel starts");
    assert_eq!(
        (output.status.code(), &report(&output)["answered"]),
        (Some(0), &json!(5)),
        "{}",
        errors(&output)
    );
    assert!(errors(&output).contains("1 periods are outside"), "{}", errors(&output));

    let cloudwatch = cloudwatch(from, hour, to);
    let ask = |api: &str| {
        pixel(folder)
            .args(with(&["--api", api, "--endpoint", &cloudwatch.url()]))
            .env("AWS_REGION", "eu-central-1")
            .env("AWS_ACCESS_KEY_ID", "ASIATESTTESTTESTTEST")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .output()
            .expect("pixel starts")
    };
    let output = ask("ApiName=pixel,Stage=prod");
    let numbers = report(&output);
    assert_eq!(
        (output.status.code(), &numbers["answered"], &numbers["unaccounted"]),
        (Some(1), &json!(6), &json!(1)),
        "{}",
        errors(&output)
    );
    assert_eq!(cloudwatch.asked().len(), 2);
    let output = ask("ApiId=unknown");
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("status 400"), "{}", errors(&output));
    assert_eq!(ask("Stage=prod").status.code(), Some(2));
}

#[test]
fn questions_that_cannot_be_answered_say_what_would_be_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let table: [(&[&str], &str); 6] = [
        (&["audit", "--from", "2026-01-01", "--to", "2026-02-01"], "--access-log"),
        (
            &["audit", "--from", "2026-02-01", "--to", "2026-01-01", "--count", "1"],
            "is not before",
        ),
        (
            &["audit", "--from", "soon", "--to", "2026-01-01", "--count", "1"],
            "give a day or an RFC 3339 time",
        ),
        (
            &["audit", "--from", "2026-01-01", "--to", "2026-02-01", "--ids", "none"],
            "the file `none`",
        ),
        (
            &[
                "audit",
                "--from",
                "2026-01-01",
                "--to",
                "2026-02-01",
                "--count",
                "1",
                "--queue",
                "https://q.example",
            ],
            "is not a queue",
        ),
        (
            &[
                "audit",
                "--from",
                "2026-01-01",
                "--to",
                "2026-02-01",
                "--count",
                "1",
                "-d",
                "sqs+http://127.0.0.1:9/0/q",
            ],
            "as `--queue`",
        ),
    ];
    for (arguments, expected) in table {
        let output = run(folder.path(), arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(errors(&output).contains(expected), "{arguments:?}: {}", errors(&output));
    }
}

#[test]
fn without_a_source_it_says_what_to_give() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = run(folder.path(), &[&["audit"], &ALWAYS[..]].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("give `--access-log`"), "{}", errors(&output));
}
