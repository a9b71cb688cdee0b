//! `pixel invoke`: a payload file in, the function's reply and the event out.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use chrono::DateTime;
use pixel::hit::privacy::Key;
use pixel::hit::request::Ingress;
use pixel::hit::request::http_request::HttpRequest;
use pixel::server::gateway::payload;
use serde_json::{Value, json};

const KEY: &str = "the secret of the tests";

fn invoke(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pixel"))
        .env_clear()
        .env("PIXEL_PRIVACY_KEY", KEY)
        .arg("invoke")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pixel runs");
    // A program that refuses its arguments does not read.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    child.wait_with_output().expect("pixel ends")
}

fn printed(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

fn arrived() -> HttpRequest {
    HttpRequest {
        method: "GET".to_owned(),
        path: "/pixel/abc.gif".to_owned(),
        query: "userid=u-1&thirdpartyname=shop".to_owned(),
        headers: vec![("User-Agent".to_owned(), "Mail \"quoted\"".to_owned())],
        peer: Some([198, 51, 100, 7].into()),
        id: "id-1=".to_owned(),
        time: DateTime::from_timestamp_millis(1_769_903_999_999).expect("a time"),
        body: None,
    }
}

#[test]
fn a_payload_of_every_ingress_shows_its_reply_and_its_event() {
    for ingress in Ingress::ALL {
        let payload = payload(ingress, &arrived()).expect("a payload");
        let shown = printed(&invoke(&["-"], &payload));
        assert_eq!(
            (&shown["outcome"], &shown["ingress"]),
            (&json!("accepted"), &json!(ingress.name()))
        );
        assert_eq!(
            shown["event"]["labels"],
            json!([
                "thirdpartyname=shop",
                format!("userid={}", Key::from_secret(KEY).user("u-1"))
            ]),
            "{ingress}"
        );
        assert_eq!(shown["event"]["user_agent"]["original"], "Mail \"quoted\"", "{ingress}");
        let reply = printed(&invoke(&["--reply", "-"], &payload));
        assert_eq!(reply, shown["reply"], "{ingress}");
        assert_eq!(reply.is_string(), ingress == Ingress::Passthrough, "{ingress}");
    }
}

#[test]
fn a_file_is_read_and_what_is_no_hit_is_explained() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("event.json");
    std::fs::write(&file, r#"{"version": "2.0", "rawPath": "/nope", "requestContext": {}}"#).expect("a file");
    let shown = printed(&invoke(&[file.to_str().expect("a path")], b""));
    assert_eq!(
        (&shown["outcome"], &shown["reason"]),
        (&json!("ignored"), &json!("unknown_path"))
    );
    assert_eq!(shown["reply"]["statusCode"], 404);
}

#[test]
fn what_cannot_be_fed_is_an_error_that_says_why() {
    let missing = "no-such-file.json";
    let cases: [(&str, &[u8], &str); 2] = [
        (missing, b"", "no-such-file.json"),
        ("-", br#"{"Records": [{"eventSource": "aws:s3"}]}"#, "an event of S3"),
    ];
    for (file, input, said) in cases {
        let output = invoke(&[file], input);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            (output.status.code(), output.stdout.is_empty()),
            (Some(1), true),
            "{error}"
        );
        assert!(error.contains(said), "{error}");
    }
}
