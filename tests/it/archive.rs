//! What is stored is found, exported, classed again and erased: in a file, and on every server.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use pixel::delivery::sqlite::Archive;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::matrix::{self, Index};
use crate::serving;

/// A destination under test.
trait Place {
    fn pixel(&self, arguments: &[&str]) -> Output;
    fn all(&self) -> Vec<Value>;
    /// Puts another class into the event of this id.
    fn misclass(&self, id: &str, visit: &Value);
}

struct File<'a>(&'a Path);

impl Place for File<'_> {
    fn pixel(&self, arguments: &[&str]) -> Output {
        serving::run(self.0, arguments)
    }

    fn all(&self) -> Vec<Value> {
        let documents = serving::documents(self.0);
        documents
            .iter()
            .map(|text| serde_json::from_str(text).expect("JSON"))
            .collect()
    }

    fn misclass(&self, id: &str, visit: &Value) {
        let file = Archive::open(&self.0.join("pixel.db")).expect("a store");
        for row in file.page(i64::MIN, 100_000).expect("it can be read") {
            let mut document: Value = serde_json::from_str(&row.document).expect("JSON");
            if document["event"]["id"] == id {
                document["visit"] = visit.clone();
                file.rewrite(&[(row.number, document.to_string())])
                    .expect("it can be written");
            }
        }
    }
}

impl Place for Index {
    fn pixel(&self, arguments: &[&str]) -> Output {
        let destination = self.subject.destination(&self.name);
        self.subject.pixel(&[arguments, &["-d", &destination]].concat())
    }

    fn all(&self) -> Vec<Value> {
        Self::all(self).into_iter().map(|(_, document)| document).collect()
    }

    fn misclass(&self, id: &str, visit: &Value) {
        let id = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
        let path = if self.subject.has_types() {
            format!("/_doc/{id}/_update")
        } else {
            format!("/_update/{id}")
        };
        let answer = self.ask("POST", &path, Some(&json!({"doc": {"visit": visit}})));
        assert_eq!(answer["result"], "updated", "{answer}");
    }
}

fn succeeded(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn result(place: &impl Place, arguments: &[&str]) -> Value {
    let printed = succeeded(&place.pixel(&[arguments, &["--json"]].concat()));
    serde_json::from_str(printed.trim()).expect("one line of JSON")
}

/// The value of a field that most events have, and how many.
fn commonest(documents: &[Value], pointer: &str) -> (String, u64) {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for value in documents
        .iter()
        .filter_map(|document| document.pointer(pointer)?.as_str())
    {
        *counts.entry(value).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map(|(value, count)| (value.to_owned(), count))
        .expect("there is one")
}

fn check(place: &impl Place) {
    let documents = place.all();
    assert_eq!(documents.len(), 600);

    for (option, pointer) in [
        ("--user", "/user/id"),
        ("--visitor", "/visitor/id"),
        ("--code", "/pixel/code"),
    ] {
        let before = place.all().len() as u64;
        let (id, count) = commonest(&place.all(), pointer);
        let exported = succeeded(&place.pixel(&["export", option, &id]));
        let exported: Vec<Value> = exported
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(exported.len() as u64, count, "{option} {id}");
        assert!(exported.iter().all(|event| event.pointer(pointer) == Some(&json!(id))));

        let dry = result(place, &["erase", option, &id, "--dry-run"]);
        assert_eq!(
            (&dry["found"], &dry["deleted"], &dry["left"]),
            (&json!(count), &json!(0), &json!(count))
        );
        let receipt = result(place, &["erase", option, &id]);
        assert_eq!(
            (&receipt["deleted"], &receipt["left"]),
            (&json!(count), &json!(0)),
            "{receipt}"
        );
        assert!(!receipt["not_reached"].as_array().expect("a list").is_empty());
        assert_eq!(place.all().len() as u64, before - count);
        assert_eq!(result(place, &["erase", option, &id])["found"], 0);
    }

    check_reclassify(place);
}

fn check_reclassify(place: &impl Place) {
    let count = place.all().len();
    let clean = result(place, &["reclassify", "--dry-run"]);
    assert_eq!(
        (&clean["events"], &clean["changed"]),
        (&json!(count), &json!(0)),
        "{clean}"
    );

    let documents = place.all();
    let robot = documents
        .iter()
        .find(|document| document["visit"]["class"] == "automation")
        .expect("a robot");
    let id = robot["event"]["id"].as_str().expect("an id");
    place.misclass(
        id,
        &json!({"class": "human", "reasons": ["browser", "old"], "rules": "2020-01-01"}),
    );
    let expected = json!([{"before": "human", "now": "automation", "events": 1}]);
    let dry = result(place, &["reclassify", "--dry-run"]);
    assert_eq!((&dry["changed"], &dry["classes"]), (&json!(1), &expected));
    assert_eq!(result(place, &["reclassify"])["classes"], expected);
    assert_eq!(result(place, &["reclassify"])["changed"], 0);
    let mut now = place.all();
    let mut before = documents;
    for documents in [&mut now, &mut before] {
        documents.sort_by_key(|document| document["event"]["id"].to_string());
    }
    assert_eq!(now, before, "nothing else has changed");
}

#[test]
fn a_file_is_searched_and_erased() {
    let folder = tempdir().expect("a folder");
    let place = File(folder.path());
    succeeded(&place.pixel(&["demo", "--events", "600"]));
    let (user, _) = commonest(&place.all(), "/user/id");
    check(&place);
    // What was deleted is nowhere in the file any more.
    for name in ["pixel.db", "pixel.db-wal"] {
        let bytes = std::fs::read(folder.path().join(name)).unwrap_or_default();
        let found = bytes.windows(user.len()).any(|window| window == user.as_bytes());
        assert!(!found, "{user} is in {name}");
    }
}

#[test]
fn an_index_is_searched_and_erased() {
    matrix::each(|subject| {
        let index = Index::new(subject, "archive");
        let destination = subject.destination(&index.name);
        succeeded(&subject.pixel(&["setup", "-d", &destination]));
        succeeded(&subject.pixel(&["demo", "--events", "600", "-d", &destination]));
        check(&index);
    });
}

#[test]
fn without_the_key_a_user_is_not_said_to_be_unknown() {
    let folder = tempdir().expect("a folder");
    succeeded(&serving::run(folder.path(), &["demo", "--events", "10"]));
    let output = serving::run(folder.path(), &["erase", "--user", "anna@shop.example"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors.contains("PIXEL_PRIVACY_KEY"), "{errors}");
}

#[test]
fn the_paragraph_says_what_the_settings_do() {
    let folder = tempdir().expect("a folder");
    let paragraph = |variables: &[(&str, &str)]| {
        let mut command = serving::pixel(folder.path());
        command.arg("privacy").envs(variables.iter().copied());
        succeeded(&command.output().expect("pixel starts"))
    };
    let usual = paragraph(&[]);
    assert!(usual.contains("without its last part") && usual.contains("keyed hash") && usual.contains("/opt-out"));
    let open = paragraph(&[
        ("PIXEL_PRIVACY_IP", "full"),
        ("PIXEL_PRIVACY_USER_ID", "plain"),
        ("PIXEL_KEEP_DAYS", "90"),
    ]);
    assert!(open.contains("your IP address,") && open.contains("mail address is stored") && open.contains("90 days"));
    assert!(paragraph(&[("PIXEL_PRIVACY_RECORD", "off")]).contains("nothing is stored"));
}
