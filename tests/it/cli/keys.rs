//! The file of the privacy key: made once, beside the store or in the state folder, and used from then on.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::support::serving::{Served, files, pixel, request, run, send, serve};
use crate::support::small_server::{Reaction, SmallServer};

const ADDRESS: &str = "anna@shop.example";

fn hit(served: &Served) {
    let reply = send(
        served.address,
        &request("GET", &format!("/pixel.gif?userid={ADDRESS}"), &[]),
    );
    assert_eq!(reply.header("x-pixel"), Some("accepted"));
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The hashes of users in the store.
fn users(folder: &Path) -> Vec<String> {
    let documents = crate::support::serving::documents(folder);
    let documents = documents
        .iter()
        .map(|text| serde_json::from_str::<Value>(text).expect("JSON"));
    let mut users: Vec<_> = documents
        .map(|document| document["user"]["id"].as_str().expect("a hash").to_owned())
        .collect();
    users.sort();
    users.dedup();
    users
}

#[test]
fn a_key_is_made_once_and_outlives_a_restart() {
    let served = serve().start();
    hit(&served);
    let file = served.folder().join("pixel.key");
    let key = std::fs::read_to_string(&file).expect("there is a key");
    let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(served.stderr.all().iter().any(|line| line.contains("`pixel.key`")));
    let again = served.kill().start();
    hit(&again);
    assert!(
        !again.stderr.all().iter().any(|line| line.contains("pixel.key")),
        "said once"
    );
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), key);
    assert_eq!(users(again.folder()).len(), 1);

    let shown = run(again.folder(), &["config"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let row = shown
        .lines()
        .find(|line| line.starts_with("PIXEL_PRIVACY_KEY"))
        .expect("a row");
    assert!(
        row.contains("file") && row.contains("pixel.key") && !row.contains(key.trim()),
        "{row}"
    );
    let backup = run(again.folder(), &["backup", "copy.db"]);
    assert!(backup.status.success());
    assert!(
        !files(again.folder()).contains(&"copy.key".to_owned()),
        "not part of a backup"
    );

    let exported = run(again.folder(), &["export", "--user", ADDRESS]);
    assert_eq!(
        String::from_utf8_lossy(&exported.stdout).lines().count(),
        2,
        "{}",
        said(&exported)
    );
    let erased = run(again.folder(), &["erase", "--user", ADDRESS, "--json"]);
    let receipt: Value = serde_json::from_slice(&erased.stdout).expect("JSON");
    assert_eq!(
        (&receipt["found"], &receipt["left"]),
        (&2.into(), &0.into()),
        "{}",
        said(&erased)
    );
}

#[test]
fn a_broken_key_is_an_error_and_stays() {
    for text in [
        &b"short"[..],
        b"",
        b"\xff\xfe0123456789abcdef",
        b"one line 0123456789\nand another",
    ] {
        let serve = serve();
        let file = serve.folder().join("pixel.key");
        std::fs::write(&file, text).expect("it can be written");
        let folder = serve.folder().to_owned();
        let keep = serve.clone();
        let failed = serve.fail();
        assert_eq!(failed.status.code(), Some(2), "{}", said(&failed));
        assert!(
            said(&failed).contains("cannot use the privacy key `pixel.key`"),
            "{}",
            said(&failed)
        );
        assert_eq!(std::fs::read(&file).expect("it is there"), text);
        let config = run(&folder, &["config"]);
        assert_eq!(config.status.code(), Some(2), "{}", said(&config));
        drop(keep);
    }
}

#[test]
fn the_variable_wins_and_another_file_is_told() {
    let served = serve().start();
    hit(&served);
    let again = served
        .kill()
        .variable("PIXEL_PRIVACY_KEY", "the secret of the tests")
        .start();
    hit(&again);
    let told = again.stderr.all();
    let told: Vec<_> = told.iter().filter(|line| line.contains("`pixel.key`")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(users(again.folder()).len(), 2);
}

#[test]
fn an_ephemeral_key_ends_with_the_process() {
    let served = serve().argument("--ephemeral-key").start();
    hit(&served);
    let again = served.kill().start();
    hit(&again);
    assert_eq!(users(again.folder()).len(), 2);
    assert_eq!(
        files(again.folder())
            .iter()
            .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "key"))
            .count(),
        0
    );
}

#[test]
fn servers_of_one_index_have_one_key_in_the_state_folder() {
    let index = SmallServer::start(|_| Reaction::Answer(404, String::new()));
    let state = tempfile::tempdir().expect("a folder");
    let destination = format!("http://ann:secret@{}/events", index.url().trim_start_matches("http://"));
    let served = |folder: &str| serve().to(&destination).variable("XDG_STATE_HOME", folder).start();
    let folder = state.path().to_str().expect("a plain path");
    let first = served(folder);
    let said = first.stderr.all().join("\n");
    assert!(
        said.contains("made the privacy key") && said.contains("PIXEL_PRIVACY_KEY"),
        "{said}"
    );
    assert!(!said.contains("secret"), "{said}");
    let keys = files(&state.path().join("pixel"));
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert!(
        keys[0].ends_with("_events.key") && !keys[0].contains("secret"),
        "{keys:?}"
    );
    assert!(!served(folder).stderr.all().join("\n").contains("made the privacy key"));
    assert_eq!(files(&state.path().join("pixel")), keys);

    let mut homeless = pixel(state.path());
    homeless
        .env_remove("XDG_STATE_HOME")
        .args(["serve", "--listen", "127.0.0.1:0", "-d", &destination]);
    let refused = homeless.output().expect("pixel starts");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("`--ephemeral-key`"), "{said}");
}
