//! Signed codes from the command line to the event.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::serving::{pixel, serve};

const KEYS: &str = "1:MDEyMzQ1Njc4OWFiY2RlZg";
const OTHER: &str = "1:ZmVkY2JhOTg3NjU0MzIxMA";

fn command(keys: &str, arguments: &[&str]) -> Command {
    let mut command = pixel(&std::env::temp_dir());
    command.arg("code").args(arguments).env("PIXEL_CODE_KEYS", keys);
    command
}

fn succeeded(output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    String::from_utf8(output.stdout.clone())
        .expect("codes are text")
        .trim_end()
        .to_owned()
}

fn code(keys: &str, arguments: &[&str]) -> String {
    succeeded(
        &command(keys, &[&["new"], arguments].concat())
            .output()
            .expect("pixel starts"),
    )
}

/// Bulk input and what becomes of it.
fn bulk(arguments: &[&str], csv: &str) -> Output {
    let mut command = command(KEYS, &[&["new", "--csv", "-"], arguments].concat());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let written = child.stdin.take().unwrap().write_all(csv.as_bytes());
    written.expect("it reads to the end");
    child.wait_with_output().unwrap()
}

#[test]
fn a_hit_says_what_its_code_says_as_far_as_that_is_genuine() {
    let contents = [
        "--campaign",
        "spring",
        "--recipient",
        "Ann@example.org",
        "--sent",
        "2026-03-01T09:00:00Z",
    ];
    let signed = |keys, more: &[&str]| code(keys, &[&contents, more].concat());
    let valid = signed(KEYS, &[]);
    let served = serve()
        .variable("PIXEL_CODE_KEYS", &format!("7:c2VjcmV0IHRoYXQgc2lnbnMh,{KEYS}"))
        .start();
    let codes = [
        valid.clone(),
        signed(KEYS, &["--expires", "1d"]),
        signed(OTHER, &[]),
        "spring".to_owned(),
    ];
    for code in &codes {
        assert_eq!(served.get(&format!("/pixel/{code}.gif")).status, 200);
    }
    let events = served.events();
    let found: Vec<&Value> = events.iter().map(|event| &event["pixel"]).collect();
    for (pixel, code) in found.iter().zip(&codes) {
        assert_eq!(pixel["code"], code.as_str());
    }
    let words: Vec<_> = found.iter().map(|pixel| pixel["signature"].as_str().unwrap()).collect();
    assert_eq!(words, ["valid", "expired", "invalid", "none"]);
    for pixel in &found[..2] {
        let recipient = "9a57b973dbcb1a7e";
        assert_eq!(
            (&pixel["campaign"], &pixel["recipient"]),
            (&json!("spring"), &json!(recipient))
        );
        assert_eq!(pixel["sent"], "2026-03-01T09:00:00.000Z");
    }
    let received: chrono::DateTime<chrono::Utc> = events[0]["@timestamp"].as_str().unwrap().parse().unwrap();
    let sent: chrono::DateTime<chrono::Utc> = "2026-03-01T09:00:00Z".parse().unwrap();
    assert_eq!(found[0]["seconds_since_sent"], (received - sent).num_seconds());
    for pixel in &found[2..] {
        assert_eq!(
            pixel.as_object().unwrap().len(),
            2,
            "nothing that a stranger says: {pixel}"
        );
    }
}

#[test]
fn a_file_of_recipients_becomes_a_file_of_urls() {
    let csv = "name,recipient,campaign,expires,note\n\
               Ann,ann@example.org,,,\"a, \"\"b\"\"\"\n\
               Bob,bob@example.org,autumn,2030-01-01,\n\
               Ödön,ödön@example.org,été,30d,x\n";
    let options = [
        "--campaign",
        "spring",
        "--sent",
        "2026-03-01",
        "--url",
        "https://pixel.example/prod/",
    ];
    let printed = succeeded(&bulk(&options, csv));
    let mut reader = csv::Reader::from_reader(printed.as_bytes());
    let header: Vec<String> = reader.headers().unwrap().iter().map(Into::into).collect();
    assert_eq!(
        header,
        ["name", "recipient", "campaign", "expires", "note", "code", "url"]
    );
    let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.unwrap()).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(&rows[0][4], "a, \"b\"");
    let expected = [
        ("spring", Value::Null),
        ("autumn", json!("2030-01-01T00:00:00.000Z")),
        ("été", json!("2026-03-31T00:00:00.000Z")),
    ];
    for (row, (campaign, expires)) in rows.iter().zip(expected) {
        assert_eq!(row[6], format!("https://pixel.example/prod/pixel/{}.gif", &row[5]));
        let said = succeeded(&command(KEYS, &["check", "--json", &row[5]]).output().unwrap());
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(
            (&said["contents"]["campaign"], &said["contents"]["expires"]),
            (&json!(campaign), &expires)
        );
        let alone = code(
            KEYS,
            &[
                "--recipient",
                &row[1],
                "--campaign",
                campaign,
                "--sent",
                "2026-03-01",
                "--json",
            ],
        );
        let alone: Value = serde_json::from_str(&alone).unwrap();
        assert_eq!(said["contents"]["recipient"], alone["contents"]["recipient"]);
    }
}

/// Where nobody says at which host the images are, no column says so wrongly.
#[test]
fn urls_are_below_the_public_one_or_left_out() {
    let csv = "recipient\nann@example.org\n";
    let columns = |output: &Output| {
        let printed = succeeded(output);
        let mut reader = csv::Reader::from_reader(printed.as_bytes());
        let header: Vec<String> = reader.headers().unwrap().iter().map(Into::into).collect();
        let row = reader.records().next().expect("a row").expect("it is read");
        (header, row)
    };
    let (header, row) = columns(&bulk(&[], csv));
    assert_eq!((header.join(","), row.len()), ("recipient,code".to_owned(), 2));
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), csv).expect("it is written");
    let name = file.path().to_str().expect("a text");
    for (arguments, base) in [
        (&["new", "--csv", name][..], "https://pixel.example/prod"),
        (
            &["new", "--csv", name, "--url", "http://other.example"],
            "http://other.example",
        ),
    ] {
        let mut command = command(KEYS, arguments);
        let output = command
            .env("PIXEL_PUBLIC_URL", "https://pixel.example/prod/")
            .output()
            .unwrap();
        let (header, row) = columns(&output);
        assert_eq!(header.join(","), "recipient,code,url");
        assert_eq!(row[2], format!("{base}/pixel/{}.gif", &row[1]));
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (csv, says) in [
        ("recipient,sent\na,2026-03-01\nb,soon\n", "column `sent`"),
        ("recipient,expires\na,never\n", "column `expires`"),
        ("recipient,code\na,b\n", "a column `code` already"),
        ("recipient,campaign\na,b,c\n", "record"),
        (&format!("campaign\n{}\n", "x".repeat(65)), "at most 64 bytes"),
        ("recipients\na\nb\n", "none of the columns `campaign`, `recipient`"),
        ("recipient;campaign\na;b\n", "not by `;`"),
        ("sent,expires\n2026-03-01,2026-02-01\n", "would have expired before"),
    ] {
        let output = bulk(&[], csv);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{csv}: {told}");
        assert!(told.contains(says), "{csv}: {told}");
        let lines = String::from_utf8_lossy(&output.stdout).lines().count();
        assert!(lines <= 2, "{csv}: {lines}");
    }
    for expires in ["2026-02-01", "2026-03-01"] {
        let dated = ["new", "--campaign", "x", "--sent", "2026-03-01", "--expires", expires];
        let expired = command(KEYS, &dated).output().unwrap();
        let told = String::from_utf8_lossy(&expired.stderr);
        assert_eq!((expired.status.code(), expired.stdout.len()), (Some(1), 0), "{told}");
        assert!(told.contains("2026-03-01"), "{told}");
    }
    for (name, value) in [("PIXEL_CODE_KEYS", "bad"), ("PIXEL_PUBLIC_URL", "pixel.example")] {
        let csv = ["new", "--csv", "/dev/null"];
        let output = command(KEYS, &csv).env(name, value).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(
            told.contains("configuration is not valid") && told.contains(name),
            "{told}"
        );
    }
    let without = pixel(&std::env::temp_dir())
        .args(["code", "new", "--campaign", "x"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&without.stderr);
    assert!(!without.status.success() && told.contains("pixel code key"), "{told}");
}

#[test]
fn a_new_key_is_one() {
    let key = || succeeded(&command("", &["key", "--id", "9"]).output().unwrap());
    let (one, other) = (key(), key());
    assert_ne!(one, other);
    let made = code(&one, &["--campaign", "x"]);
    let check = |keys: &str, code: &str| command(keys, &["check", code]).output().unwrap();
    let both = format!("{other_id},{one}", other_id = other.replace("9:", "8:"));
    assert!(succeeded(&check(&both, &made)).starts_with("signature   valid"));
    for (keys, code, signature, says) in [
        (&other, made.as_str(), "invalid", "no key of ours"),
        (&one, "spring", "none", "not a signed code"),
    ] {
        let output = check(keys, code);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{code}: {told}");
        assert!(told.contains(says), "{code}: {told}");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(
            printed.starts_with(&format!("signature   {signature}")),
            "{code}: {printed}"
        );
    }
}
