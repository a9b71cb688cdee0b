//! `/ready` says whether events can be stored, and nothing is answered as stored that is not.

use std::io::{Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::path::Path;

use rusqlite::Connection;
use serde_json::Value;

use super::{Prepared, get, json, metric};
use crate::support::serving::{Served, documents, serve, wait_for};
use crate::support::setup;

fn wait_until_ready(served: &Served, is_ready: bool) -> String {
    wait_at(served.address, is_ready)
}

/// Waits until `/ready` says that events can be stored, or why not.
fn wait_at(address: SocketAddr, is_ready: bool) -> String {
    let status = if is_ready { 200 } else { 503 };
    let reply = wait_for(&format!("{status} of /ready"), || {
        let reply = get(address, "/ready");
        (reply.status == status).then_some(reply)
    });
    assert_eq!(metric(address, "pixel_ready"), u64::from(is_ready));
    json(&reply)["reason"].as_str().unwrap_or_default().to_owned()
}

fn outcome_of(served: &Served, target: &str) -> String {
    let reply = served.get(target);
    assert_eq!(reply.status, 200, "the visitor gets the image");
    reply.header("x-pixel").expect("a header").to_owned()
}

/// The logged event with this code, whole.
fn logged(served: &Served, code: &str) -> Value {
    let line = served.stderr.wait_for("the event in the log", |line| {
        line.starts_with('{') && line.contains(code)
    });
    let line: Value = serde_json::from_str(&line).expect("JSON");
    line["event"].clone()
}

#[test]
fn a_locked_file_is_not_ready_until_it_is_free() {
    let served = serve().start();
    wait_until_ready(&served, true);
    let other = Connection::open(served.folder().join("pixel.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Nobody has to come for that to be seen.
    let reason = wait_until_ready(&served, false);
    assert!(reason.contains("locked"), "{reason}");
    assert_eq!(outcome_of(&served, "/pixel/waits.gif"), "accepted; not yet stored");
    other.execute_batch("ROLLBACK").unwrap();
    wait_until_ready(&served, true);
    // It waited for the file, and is lost neither to the log nor to anybody.
    wait_for("the hit that waited", || {
        let events = documents(served.folder());
        events.iter().any(|event| event.contains("\"waits\"")).then_some(())
    });
    assert_eq!(outcome_of(&served, "/pixel/after.gif"), "accepted");
}

#[test]
fn a_disk_without_room_is_not_ready_until_there_is_some() {
    setup::require(&["prlimit"]);
    let folder = tempfile::tempdir().unwrap();
    // A file that may not grow is refused by the system like one on a full disk.
    let served = Prepared::start(folder.path(), "trap '' XFSZ; ulimit -S -f 1000", &["--quiet"]);
    let target = format!("/pixel/full.gif?pad={}", "a".repeat(1500));
    let outcome = || {
        get(served.address, &target)
            .header("x-pixel")
            .unwrap_or_default()
            .to_owned()
    };
    wait_for("the first event that is not stored", || {
        (outcome() != "accepted").then_some(())
    });
    assert_eq!(outcome(), "accepted; not yet stored");
    let reason = wait_at(served.address, false);
    assert!(reason.contains("disk"), "{reason}");
    setup::run(
        &["prlimit"],
        &["--pid", &served.process.id().to_string(), "--fsize=unlimited"],
    )
    .unwrap();
    wait_at(served.address, true);
    assert_eq!(outcome(), "accepted");
}

#[test]
fn a_deleted_file_is_noticed_before_anything_is_said_to_be_stored() {
    for gone in ["pixel.db", "pixel.db-wal"] {
        let served = serve().start();
        assert_eq!(outcome_of(&served, "/pixel/before.gif"), "accepted");
        let (file, aside) = (served.folder().join(gone), served.folder().join("aside"));
        std::fs::rename(&file, &aside).unwrap();
        for number in 0..5 {
            let code = format!("gone-{number}");
            let outcome = outcome_of(&served, &format!("/pixel/{code}.gif"));
            assert_eq!(outcome, "accepted; not yet stored", "{gone}");
            assert_eq!(logged(&served, &code)["pixel"]["code"], code.as_str());
        }
        let reason = wait_until_ready(&served, false);
        assert!(
            reason.contains(gone) && reason.contains("was deleted or replaced"),
            "{reason}"
        );
        std::fs::rename(&aside, &file).unwrap();
        wait_until_ready(&served, true);
        assert_eq!(outcome_of(&served, "/pixel/after.gif"), "accepted");
        let stored = documents(served.folder());
        let codes = ["before", "after"].map(|code| stored.iter().filter(|event| event.contains(code)).count());
        assert_eq!((stored.len(), codes), (2, [1, 1]));
    }
}

#[test]
fn a_replaced_file_is_noticed_too() {
    let served = serve().start();
    assert_eq!(outcome_of(&served, "/pixel/before.gif"), "accepted");
    let file = served.folder().join("pixel.db");
    let copy = served.folder().join("copy.db");
    std::fs::copy(&file, &copy).unwrap();
    std::fs::rename(&copy, &file).unwrap();
    assert_eq!(outcome_of(&served, "/pixel/lost.gif"), "accepted; not yet stored");
    assert_eq!(logged(&served, "lost")["pixel"]["code"], "lost");
    wait_until_ready(&served, false);
}

/// Overwrites the page at the root of an index.
fn damage(file: &Path, index: &str) {
    let connection = Connection::open(file).unwrap();
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let page = number(&format!("SELECT rootpage FROM sqlite_schema WHERE name = '{index}'"));
    let size = number("PRAGMA page_size");
    drop(connection);
    let mut file = std::fs::File::options().write(true).open(file).unwrap();
    let place = (page - 1) * size;
    file.seek(SeekFrom::Start(place.unsigned_abs())).unwrap();
    file.write_all(&vec![0xa5; usize::try_from(size).unwrap()]).unwrap();
}

#[test]
fn a_damaged_file_is_not_ready() {
    let served = serve().start();
    assert_eq!(outcome_of(&served, "/pixel/before.gif"), "accepted");
    served.signal("TERM");
    let (_, serving) = served.ended();
    damage(&serving.folder().join("pixel.db"), "sqlite_autoindex_events_1");
    let served = serving.start();
    let reason = wait_until_ready(&served, false);
    assert!(reason.contains("malformed"), "{reason}");
    assert_eq!(outcome_of(&served, "/pixel/lost.gif"), "accepted; not yet stored");
    assert_eq!(logged(&served, "lost")["pixel"]["code"], "lost");
    assert_eq!(get(served.address, "/ready").status, 503);
}
