//! Nobody but their owner reads the files that the program creates.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use pixel::destination::undelivered::UNDELIVERED;

use super::{Prepared, get};
use crate::support::serving::documents;

fn mode(file: &Path) -> u32 {
    let metadata = file
        .metadata()
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    metadata.permissions().mode() & 0o777
}

/// Runs the command line in a folder, under the usual umask.
fn pixel(folder: &Path, arguments: &[&str]) {
    let done = Command::new("sh")
        .args(["-c", "umask 022; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_pixel"))
        .args(arguments)
        .env_clear()
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[test]
fn what_is_created_is_its_owner_s() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let served = Prepared::start(folder, "umask 022", &["--quiet", "--access-log", "access.ndjson"]);
    assert_eq!(get(served.address, "/pixel.gif").status, 200);
    for file in ["pixel.db", "pixel.db-wal", "pixel.db-shm"] {
        assert_eq!(mode(&folder.join(file)), 0o600, "{file}");
    }
    // A group may collect logs, in which nothing of a visitor's stands.
    assert_eq!(mode(&folder.join("access.ndjson")), 0o640);
    pixel(folder, &["backup", "copy.db"]);
    assert_eq!(mode(&folder.join("copy.db")), 0o600);

    // An event, and one that was broken off.
    let event = &documents(folder)[0];
    let lines = format!("{event}\n{{\"message\":\"{UNDELIVERED}\",\"event\":{event}\n");
    std::fs::write(folder.join("lines.ndjson"), lines).unwrap();
    let replay = [
        "replay",
        "lines.ndjson",
        "--destination=sqlite:other.db",
        "--state=state.json",
        "--refused=refused.ndjson",
    ];
    let done = Command::new("sh")
        .args(["-c", "umask 022; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_pixel"))
        .args(replay)
        .env_clear()
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    for file in ["other.db", "state.json", "refused.ndjson"] {
        assert!(folder.join(file).exists(), "{file}: {said}");
        assert_eq!(mode(&folder.join(file)), 0o600, "{file}");
    }
}

#[test]
fn a_file_that_exists_keeps_its_mode() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for file in ["pixel.db", "access.ndjson"] {
        std::fs::write(folder.join(file), "").unwrap();
        std::fs::set_permissions(folder.join(file), std::fs::Permissions::from_mode(0o664)).unwrap();
    }
    let served = Prepared::start(folder, "umask 022", &["--quiet", "--access-log", "access.ndjson"]);
    assert_eq!(get(served.address, "/pixel.gif").status, 200);
    assert_eq!(
        ["pixel.db", "access.ndjson"].map(|file| mode(&folder.join(file))),
        [0o664; 2]
    );
}
