//! `pixel stats` and `pixel code list` as people run them, and what is deleted by age while serving.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::support::serving::{documents, run, serve, wait_for};

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn demo(folder: &Path, end: &str) {
    let events = ["demo", "--events", "300", "--days", "10", "--end", end];
    succeeded(&run(folder, &events));
}

#[test]
fn numbers_are_the_same_in_every_form() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    demo(folder.path(), "2026-03-15");
    let question = [
        "stats",
        "--from",
        "2026-03-01",
        "--to",
        "2026-03-15",
        "--interval",
        "day",
        "--by",
        "campaign.source",
    ];
    let of = |more: &[&str]| succeeded(&run(folder.path(), &[&question, more].concat()));
    let answer: Value = serde_json::from_str(&of(&["--json", "--compare"])).expect("JSON");
    let (totals, points) = (&answer["totals"], answer["series"].as_array().expect("a series"));
    assert_eq!(
        (&totals["events"], &answer["previous"]["events"]),
        (&json!(300), &json!(0))
    );
    assert_eq!(points.len(), 14, "a day each, without gaps");
    let table = of(&[]);
    let csv = of(&["--csv"]);
    let groups = answer["by"][0]["values"].as_array().expect("a list");
    assert_eq!(groups[0]["value"], "newsletter");
    for group in groups.iter().chain(answer["classes"].as_array().expect("a list")) {
        let (value, events) = (group["value"].as_str().expect("a text"), &group["events"]);
        assert!(
            table
                .lines()
                .any(|line| line.contains(value) && line.contains(&events.to_string())),
            "{table}"
        );
        assert!(
            csv.lines().any(|line| line.contains(&format!(",{value},{events},"))),
            "{csv}"
        );
    }
    assert!(
        table.contains('█') && table.lines().any(|line| line.chars().count() == 14),
        "bars and a sparkline: {table}"
    );
    let human: Value = serde_json::from_str(&of(&["--json", "--class", "human"])).expect("JSON");
    assert_eq!(human["totals"]["events"], answer["classes"][0]["events"]);
}

#[test]
fn classes_that_are_asked_for_twice_are_there_once() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    demo(folder.path(), "2026-03-15");
    let of = |more: &[&str]| succeeded(&run(folder.path(), &[&["stats", "--since", "all"], more].concat()));
    let count = |text: &str| text.lines().filter(|line| line.contains("human")).count();
    for form in [&["--csv"][..], &[]] {
        for by in [&["--by", "visit.class"][..], &["--by", "event.action,visit.class"], &[]] {
            let told = of(&[form, by].concat());
            assert_eq!(count(&told), 1, "{form:?} {by:?}: {told}");
        }
    }
}

#[test]
fn an_empty_list_says_so_beside_the_data() {
    let served = serve().start();
    for (arguments, told) in [(&["code", "list"][..], "no codes"), (&["token", "list"], "no tokens")] {
        let output = run(served.folder(), arguments);
        assert_eq!(succeeded(&output), "", "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains(told) && said.lines().count() == 1,
            "{arguments:?}: {said}"
        );
    }
}

#[test]
fn a_wrong_option_is_named_with_exit_code_2() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    demo(folder.path(), "2026-03-15");
    for (arguments, option) in [
        (["stats", "--by", "colour"], "--by"),
        (["stats", "--since", "soon"], "--since"),
        (["stats", "--interval", "year"], "--interval"),
        (["stats", "--filter", "colour=red"], "--filter"),
        (["stats", "--class", "robot"], "--class"),
        (["stats", "--filter", "pixel.signature=forged"], "--filter"),
    ] {
        let output = run(folder.path(), &arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
        assert!(told.contains(&format!("`{option}`")), "{arguments:?}: {told}");
    }
}

#[test]
fn a_destination_that_is_away_is_named_with_exit_code_1() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    for command in [&["stats"][..], &["code", "list"]] {
        let output = run(folder.path(), &[command, &["-d", "http://127.0.0.1:9/events"]].concat());
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(1), 0),
            "{command:?}: {told}"
        );
        assert!(told.contains("127.0.0.1:9"), "{command:?}: {told}");
    }
}

#[test]
fn what_a_visitor_sends_is_no_formula_and_no_command_to_a_terminal() {
    let served = serve().start();
    served.get("/pixel.gif?utm_source=%3D1%2B1&utm_medium=%1b%5b2J");
    let csv = succeeded(&run(
        served.folder(),
        &["stats", "--csv", "--by", "campaign.source,campaign.medium"],
    ));
    assert!(csv.contains("campaign.source,'=1+1,1,"), "{csv}");
    let table = succeeded(&run(
        served.folder(),
        &["stats", "--by", "campaign.source,campaign.medium"],
    ));
    assert!(!table.contains('\u{1b}') && table.contains("=1+1"), "{table:?}");
}

#[test]
fn old_events_are_deleted_while_it_serves() {
    let serve = serve().argument("--keep").argument("30d");
    demo(serve.folder(), "2020-01-01");
    assert_eq!(documents(serve.folder()).len(), 300);
    let served = serve.start();
    served.get("/pixel.gif");
    wait_for("the old ones to be gone", || {
        (served.documents().len() == 1).then_some(())
    });
}
