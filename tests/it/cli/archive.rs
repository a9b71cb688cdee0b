//! What is stored is found, exported, classed again and erased: in a file, and on every server.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use pixel::hit::code::{Contents, Keys};
use pixel::sqlite::{Archive, Change};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::matrix::{self, Index};
use crate::support::serving;

/// A destination under test.
trait Place {
    fn pixel(&self, arguments: &[&str]) -> Output {
        self.pixel_with(&[], arguments)
    }
    fn pixel_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Output;
    fn all(&self) -> Vec<Value>;
    /// Puts another class into the event of this id.
    fn misclass(&self, id: &str, visit: &Value);
}

struct File<'a>(&'a Path);

impl Place for File<'_> {
    fn pixel_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
        let mut command = serving::pixel(self.0);
        command.args(arguments).envs(variables.iter().copied());
        command.output().expect("pixel starts")
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
                let change = Change {
                    number: row.number,
                    before: row.document,
                    after: document.to_string(),
                };
                assert_eq!(file.rewrite(&[change]).expect("it can be written"), 1);
            }
        }
    }
}

impl Place for Index {
    fn pixel_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
        let destination = self.subject.destination(&self.name);
        let folder = tempdir().expect("a folder can be made");
        let mut command = serving::pixel(folder.path());
        command.args(arguments).args(["-d", &destination]);
        command.envs(self.subject.variables()).envs(variables.iter().copied());
        command.output().expect("pixel starts")
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

/// Exports all events, or those that are asked for, as JSON and as CSV.
fn exports_all(place: &impl Place, documents: &[Value]) {
    let sorted = |documents: Vec<Value>| -> BTreeMap<String, Value> {
        let id = |document: &Value| document["event"]["id"].as_str().unwrap_or_default().to_owned();
        documents
            .into_iter()
            .map(|document| (id(&document), document))
            .collect()
    };
    let export = |more: &[&str]| succeeded(&place.pixel(&[&["export", "--all"], more].concat()));
    let lines = |text: &str| -> Vec<Value> {
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().expect("each line is JSON")
    };
    let all = lines(&export(&[]));
    assert_eq!(all.len(), documents.len());
    assert_eq!(sorted(all), sorted(documents.to_vec()));
    let class = &documents[0]["visit"]["class"];
    let (first, same) = (
        documents[0]["@timestamp"].as_str().expect("a time"),
        documents.iter().filter(|document| document["visit"]["class"] == *class),
    );
    let class = format!("visit.class={}", class.as_str().expect("a class"));
    let same = same
        .filter(|document| document["@timestamp"].as_str() >= Some(first))
        .count();
    for form in [&["--ndjson"][..], &["--csv"]] {
        let printed = export(&[form, &["--from", first, "--filter", &class]].concat());
        let rows = if form == ["--csv"] {
            let mut reader = csv::Reader::from_reader(printed.as_bytes());
            let header = reader.headers().expect("a header").clone();
            assert_eq!(
                (&header[0], header.iter().any(|name| name == "visit.class")),
                ("@timestamp", true)
            );
            reader.into_records().flatten().count()
        } else {
            printed.lines().count()
        };
        assert_eq!(rows, same, "{form:?}");
    }
}

fn check(place: &impl Place) {
    let documents = place.all();
    assert_eq!(documents.len(), 600);
    exports_all(place, &documents);

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
    assert!(errors.contains("`PIXEL_PRIVACY_KEY` is not set: "), "{errors}");
}

const FIRST: &str = "1:MDEyMzQ1Njc4OWFiY2RlZg";
const SECOND: &str = "2:ZmVkY2JhOTg3NjU0MzIxMA";
const SECRET: (&str, &str) = ("PIXEL_PRIVACY_KEY", "the secret of the tests");

/// Serves what a person leaves behind who names herself nowhere but in her program's name, and to whom mails were sent with
/// codes of two keys; and what others leave.
fn served_to_ann() -> serving::Serve {
    let both = format!("{SECOND},{FIRST}");
    let served = serving::serve()
        .variable(SECRET.0, SECRET.1)
        .variable("PIXEL_CODE_KEYS", &both)
        .start();
    let code = |keys: &str, recipient: &str| {
        let keys = Keys::parse(keys).expect("keys");
        let recipient = keys.recipient(recipient).ok();
        keys.sign(&Contents {
            recipient,
            ..Contents::default()
        })
        .expect("it fits")
    };
    let get = |code: &str, agent: &str| {
        let headers: [(&str, &[u8]); 1] = [("User-Agent", agent.as_bytes())];
        let request = serving::request("GET", &format!("/pixel/{code}.gif"), &headers);
        assert_eq!(serving::send(served.address, &request).status, 200);
    };
    get(&code(FIRST, "ann@shop.example"), BROWSER);
    get(&code(SECOND, "Ann@shop.example"), BROWSER);
    get("spring", "Mail/7 (ann@shop.example)");
    get(&code(SECOND, "bob@shop.example"), BROWSER);
    get("spring", BROWSER);
    served.signal("TERM");
    served.ended().1
}

fn check_person(place: &impl Place) {
    let ann = ["--user", "ann@shop.example"];
    let both = format!("{SECOND},{FIRST}");
    let keys = [SECRET, ("PIXEL_CODE_KEYS", &*both)];
    let erase = |variables: &[(&str, &str)], more: &[&str]| -> (Value, String) {
        let receipt = succeeded(&place.pixel_with(variables, &[&["erase", "--json"], &ann[..], more].concat()));
        let receipt: Value = serde_json::from_str(receipt.trim()).expect("a receipt");
        let beyond = receipt["not_reached"].to_string();
        (receipt, beyond)
    };
    let export = |variables: &[(&str, &str)]| {
        let output = place.pixel_with(variables, &[&["export"], &ann[..]].concat());
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (succeeded(&output).lines().count(), errors)
    };
    // Without the keys of codes nobody can tell to whom a mail was sent, and that is said.
    let (receipt, beyond) = erase(&[SECRET], &["--dry-run"]);
    assert_eq!(receipt["found"], 1, "{receipt}");
    assert!(beyond.contains("PIXEL_CODE_KEYS"), "{receipt}");
    let (count, errors) = export(&[SECRET]);
    assert!(count == 1 && errors.contains("PIXEL_CODE_KEYS"), "{count}: {errors}");

    let (count, errors) = export(&keys);
    assert_eq!((count, errors.as_str()), (3, ""));
    let (receipt, beyond) = erase(&keys, &[]);
    assert_eq!(
        (&receipt["found"], &receipt["deleted"], &receipt["left"]),
        (&json!(3), &json!(3), &json!(0)),
        "{receipt}"
    );
    assert!(!beyond.contains("PIXEL_CODE_KEYS` is not set"), "{receipt}");
    assert_eq!(place.all().len(), 2);
    let (count, errors) = export(&keys);
    assert_eq!((count, errors.lines().count()), (0, 1), "{errors}");
    assert!(errors.contains("no events of user u-"), "{errors}");
}

#[test]
fn a_person_is_found_in_a_file_by_what_her_mails_and_her_program_say() {
    let serve = served_to_ann();
    check_person(&File(serve.folder()));
}

#[test]
fn a_person_is_found_in_an_index_by_what_her_mails_and_her_program_say() {
    let serve = served_to_ann();
    let file = format!("sqlite:{}", serve.folder().join("pixel.db").display());
    matrix::each(|subject| {
        for (what, made_ready) in [("person", true), ("anyone", false)] {
            let index = Index::new(subject, what);
            let destination = subject.destination(&index.name);
            if made_ready {
                succeeded(&subject.pixel(&["setup", "-d", &destination]));
            }
            succeeded(&subject.pixel(&["replay", &file, "-d", &destination]));
            let dry = index.pixel_with(
                &[SECRET],
                &["erase", "--user", "ann@shop.example", "--dry-run", "--json"],
            );
            // An index does not look into everything that it keeps.
            assert!(succeeded(&dry).contains("`params`"), "{}", subject.name);
            check_person(&index);
        }
    });
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

/// Runs a command with a destination and a fallback.
fn between(folder: &Path, destination: &str, fallback: &str, arguments: &[&str]) -> Output {
    let mut command = serving::pixel(folder);
    command
        .env("PIXEL_DESTINATION", destination)
        .env("PIXEL_FALLBACK", fallback);
    command.args(arguments).output().expect("pixel starts")
}

#[test]
fn what_lies_in_the_fallback_is_erased_too_and_what_is_out_of_reach_is_named() {
    let folder = tempdir().expect("a folder");
    let folder = folder.path();
    for file in ["sqlite:pixel.db", "sqlite:fallback.db"] {
        succeeded(&serving::run(folder, &["demo", "--events", "300", "-d", file]));
    }
    let (code, count) = commonest(&File(folder).all(), "/pixel/code");
    let erase = |destination: &str, fallback: &str| {
        let output = between(folder, destination, fallback, &["erase", "--code", &code, "--json"]);
        let receipt: Value = serde_json::from_slice(&output.stdout).expect("a receipt");
        (output.status.code(), receipt)
    };
    let named = |receipt: &Value, text: &str| {
        let places = receipt["not_reached"].as_array().expect("a list");
        places
            .iter()
            .any(|place| place.as_str().is_some_and(|place| place.contains(text)))
    };

    // Nobody answers at the destination: the fallback is cleared all the same.
    let closed = "http://127.0.0.1:9/events";
    let (exit, receipt) = erase(closed, "sqlite:fallback.db");
    assert_eq!(exit, Some(1), "{receipt}");
    assert_eq!(
        (&receipt["deleted"], &receipt["left"]),
        (&json!(count), &json!(0)),
        "{receipt}"
    );
    assert!(named(&receipt, "127.0.0.1:9/events"), "{receipt}");

    // A file that no event has come to yet, and a queue that holds events for a while.
    let (exit, receipt) = erase("sqlite:pixel.db", "sqlite:never.db");
    assert_eq!((exit, &receipt["deleted"]), (Some(0), &json!(count)), "{receipt}");
    assert_eq!(receipt["destinations"].as_array().map(Vec::len), Some(2));
    let queue = "sqs://sqs.eu-central-1.amazonaws.com/111122223333/hits";
    let (exit, receipt) = erase("sqlite:pixel.db", queue);
    assert_eq!((exit, &receipt["found"]), (Some(0), &json!(0)), "{receipt}");
    assert!(named(&receipt, "111122223333/hits"), "{receipt}");
    assert!(named(&receipt, "log lines"), "{receipt}");
}

const BROWSER: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";

#[test]
fn a_burst_over_a_mail_s_codes_is_found_by_the_server_and_by_reclassify() {
    let stage = serving::serve()
        .argument("--ingress=rest-proxy")
        .argument("--behind-proxy");
    let folder = stage.folder().to_owned();
    let served = stage.clone().start();
    let open = |code: &str, agent: &str| {
        let headers: [(&str, &[u8]); 3] = [
            ("User-Agent", agent.as_bytes()),
            ("Accept", b"image/*"),
            ("X-Forwarded-For", b"203.0.113.7"),
        ];
        let reply = serving::send(
            served.address,
            &serving::request("GET", &format!("/pixel/{code}.gif"), &headers),
        );
        assert_eq!(reply.status, 200);
    };
    for number in 0..6 {
        open(&format!("link-{number}"), BROWSER);
    }
    open("link-0", &BROWSER.replace("142", "141"));
    served.signal("TERM");
    served.ended();
    let classes = || {
        let documents = File(&folder).all();
        let mut classes: Vec<_> = documents
            .iter()
            .map(|document| {
                (
                    document["visit"]["class"].to_string(),
                    document["visit"]["reasons"][0].to_string(),
                )
            })
            .collect();
        classes.sort();
        classes
    };
    let burst = ("\"automation\"".to_owned(), "\"burst\"".to_owned());
    let person = ("\"human\"".to_owned(), "\"browser\"".to_owned());
    let expected = [vec![burst; 6], vec![person]].concat();
    assert_eq!(classes(), expected, "the server looks once more when it stops");

    // Without what the server has done, by the whole file.
    let place = File(&folder);
    for document in place.all() {
        let id = document["event"]["id"].as_str().expect("an id");
        place.misclass(
            id,
            &json!({"class": "human", "reasons": ["browser"], "rules": "2020-01-01"}),
        );
    }
    let done = result(&place, &["reclassify"]);
    assert_eq!(
        done["classes"],
        json!([{"before": "human", "now": "automation", "events": 6}])
    );
    assert_eq!(classes(), expected);
    assert_eq!(result(&place, &["reclassify"])["changed"], 0);
}
