//! The README tells the truth: its table of variables is the program's, its commands exist, its event is one.

use pixel::hit::settings::Lookups;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use pixel::config::{Config, VARIABLES};
use pixel::hit::answer;
use pixel::hit::answer::Answer;
use pixel::hit::privacy::Key;
use pixel::hit::read::RequestContext;
use pixel::hit::request::passthrough::{Document, document};
use serde_json::Value;

fn readme() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("the README is there")
}

#[test]
fn the_table_of_variables_is_the_programs() {
    let rows =
        VARIABLES.map(|variable| format!("| `{}` | {} | {} |", variable.name, variable.default, variable.meaning));
    let table = format!(
        "| variable | default | meaning |
|---|---|---|
{}",
        rows.join(
            "
"
        )
    );
    let readme = readme();
    let (_, rest) = readme.split_once("<!-- variables -->\n").expect("the table's begin");
    let (found, _) = rest.split_once("<!-- /variables -->").expect("the table's end");
    assert_eq!(
        found.trim(),
        table.trim(),
        "put this table between the marks of the README:\n{table}"
    );
}

/// The lines of shell blocks that call this program.
fn commands() -> Vec<Vec<String>> {
    let readme = readme();
    let blocks = readme
        .split("```sh\n")
        .skip(1)
        .filter_map(|block| block.split("```").next());
    let lines = blocks
        .flat_map(str::lines)
        .map(|line| line.replace("cargo run -- ", "pixel "));
    lines
        .filter(|line| line.starts_with("pixel "))
        .map(|line| line.split(' ').map(Into::into).collect())
        .collect()
}

#[test]
fn the_commands_exist_with_their_options() {
    let commands = commands();
    assert!(commands.len() >= 4, "found only {commands:?}");
    for words in commands {
        // Of a command with commands of its own, the help of both words.
        let named = if ["code", "token"].contains(&words[1].as_str()) {
            3
        } else {
            2
        };
        let help = Command::new(env!("CARGO_BIN_EXE_pixel"))
            .args(&words[1..named])
            .arg("--help")
            .output()
            .expect("pixel runs");
        assert!(help.status.success(), "{words:?}");
        let help = String::from_utf8(help.stdout).expect("help is text");
        for option in words.iter().filter(|word| word.starts_with("--")) {
            assert!(
                help.contains(option.as_str()),
                "`{option}` of {words:?} is not in the help:\n{help}"
            );
        }
    }
}

/// The table of guarantees names the test that holds each of its lines.
#[test]
fn the_tests_of_the_guarantees_exist() {
    let readme = readme();
    let rows = readme
        .lines()
        .skip_while(|line| !line.ends_with("held by the test |"))
        .skip(2);
    let rows: Vec<_> = rows.take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() >= 8, "{rows:?}");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let mut sources = String::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for file in std::fs::read_dir(folder).expect("the tests are there") {
            let path = file.expect("a file").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                sources += &std::fs::read_to_string(path).expect("text");
            }
        }
    }
    for row in rows {
        let test = row
            .trim_end_matches([' ', '|', '`'])
            .rsplit('`')
            .next()
            .unwrap_or_default();
        assert!(sources.contains(&format!("fn {test}(")), "`{test}` of {row}");
    }
}

/// The paths of all members, those below what a visitor names left out.
fn paths(value: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    let Some(members) = value.as_object() else { return };
    for (name, value) in members {
        let path = format!("{prefix}{name}");
        if !["params.", "context."].iter().any(|free| path.starts_with(free)) {
            paths(value, &format!("{path}."), found);
        }
        found.insert(path);
    }
}

#[test]
fn the_event_is_what_its_request_gives() {
    let readme = readme();
    let (_, rest) = readme
        .split_once("<!-- event -->\n```json\n")
        .expect("the event's begin");
    let shown: Value = serde_json::from_str(rest.split("```").next().unwrap_or_default()).expect("the event is JSON");
    let pairs = |pointer: &str| -> Vec<(String, String)> {
        let members = shown.pointer(pointer).and_then(Value::as_object).expect("an object");
        members
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect()
    };
    let mut headers = pairs("/params/header");
    headers.push(("Cookie".into(), "a=b".into()));
    // What the policy removes was there before.
    let before = |pairs: &mut Vec<(String, String)>, name: &str, value: &str| {
        let found = pairs.iter_mut().filter(|(known, _)| known == name);
        found.for_each(|(_, known)| *known = value.to_owned());
    };
    before(&mut headers, "referer", "https://shop.example/spring?page=2");
    let mut query = pairs("/params/querystring");
    before(&mut query, "userid", "u-7");
    let mut context = pairs("/context");
    before(&mut context, "source-ip", "203.0.113.9");
    let payload = document(&Document {
        path: pairs("/params/path"),
        query,
        headers,
        stage_variables: Vec::new(),
        context,
        body: None,
    });
    let Answer::Accepted { request, .. } =
        answer::answer(payload.to_string().as_bytes(), &Config::default().settings())
    else {
        panic!("the request is a hit");
    };
    let now = "2026-03-01T09:30:00.150Z".parse().expect("a time");
    let circumstances = RequestContext {
        now,
        invocation: "unused".into(),
        trusted_hops: 0,
    };
    let mut config = Config::default();
    config.policy.key = Key::from_secret("the key of the README");
    let event = answer::build_event(*request, &circumstances, &config.settings(), &Lookups::none());
    let mut made: Value = serde_json::from_str(&event.document).expect("the event is JSON");
    // The README leaves out what API Gateway leaves empty.
    let context = made["context"].as_object_mut().expect("an object");
    context.retain(|_, value| value != "");
    let (mut of_readme, mut of_program) = (BTreeSet::new(), BTreeSet::new());
    paths(&shown, "", &mut of_readme);
    paths(&made, "", &mut of_program);
    assert_eq!(of_readme, of_program, "{made:#}");
    assert_eq!(made, shown);
}
