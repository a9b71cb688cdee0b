//! What the panels look like: Vega panels drawn by Vega itself, without a warning, and each dashboard as a picture for the
//! documentation. `kibana/render.sh` keeps the pictures; the tests draw them to see that they can be drawn.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::events::{Stored, events};
use super::{Index, Panel, inner, panels};
use crate::support::servers::Server;
use crate::support::setup;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dashboards");

/// A folder with the script and what it needs, as the lock file has it.
fn workshop() -> PathBuf {
    setup::require(&["node", "npm"]);
    let files = ["package.json", "package-lock.json", "render.mjs"].map(|name| (name, read(name)));
    let mut hasher = DefaultHasher::new();
    files[1].1.hash(&mut hasher);
    let place = setup::cache_dir()
        .join("dashboards")
        .join(format!("{:016x}", hasher.finish()));
    let _one_installs = setup::lock(&setup::cache_dir().join("npm.lock"));
    fs::create_dir_all(&place).expect("the folder can be made");
    for (name, text) in files {
        // Whole at once, since another process may be reading it.
        let unfinished = place.join(format!("{name}.part"));
        fs::write(&unfinished, text)
            .and_then(|()| fs::rename(&unfinished, place.join(name)))
            .expect("a file can be written");
    }
    let complete = place.join("complete");
    if !complete.exists() {
        let words = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"];
        let mut npm = Command::new("npm");
        let output = npm.args(words).arg(&place).output().expect("npm runs");
        assert!(
            output.status.success(),
            "npm ci: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        fs::write(complete, "").expect("the mark can be written");
    }
    place
}

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(FOLDER).join(name)).expect("the file is there")
}

fn render(arguments: &[&str], dashboards: &[Value]) -> Vec<Value> {
    let mut node = Command::new("node")
        .arg(workshop().join("render.mjs"))
        .args(arguments)
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("node starts");
    // The script reads everything before it writes anything.
    let input = Value::from(dashboards).to_string();
    let written = node.stdin.take().expect("it is piped").write_all(input.as_bytes());
    let output = node.wait_with_output().expect("node runs");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && written.is_ok(), "render.mjs: {complaints}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {complaints}"))
}

/// What the script needs to know of each dashboard: definitions and real answers.
fn answered(index: &Index) -> Vec<Value> {
    let mut dashboards: Vec<Value> = Vec::new();
    for panel in panels() {
        if dashboards.last().is_none_or(|last| last["id"] != panel.dashboard["id"]) {
            let title = &panel.dashboard["attributes"]["title"];
            dashboards.push(json!({"id": panel.dashboard["id"], "title": title, "panels": []}));
        }
        let described = describe(&panel, index);
        let last = dashboards.last_mut().and_then(|last| last["panels"].as_array_mut());
        last.expect("there is one").push(described);
    }
    dashboards
}

fn describe(panel: &Panel, index: &Index) -> Value {
    let range = panel.range();
    let colours = inner(&panel.object, "/attributes/uiStateJSON").map(|state| state["vis"]["colors"].clone());
    json!({
        "id": panel.object["id"],
        "title": panel.object["attributes"]["title"],
        "kind": panel.kind(),
        "place": panel.place,
        "state": inner(&panel.object, "/attributes/visState"),
        "columns": panel.object["attributes"]["columns"],
        "colours": colours.filter(Value::is_object).unwrap_or_else(|| json!({})),
        "range": [range.from.timestamp_millis(), range.to.timestamp_millis()],
        "step": range.step().num_milliseconds(),
        "answer": panel.answer(index),
    })
}

#[test]
fn vega_draws_every_vega_panel_without_a_warning() {
    let Some(index) = Index::new(Server::OpenSearch2, "vega") else {
        return;
    };
    for count in [0, 1, 4000] {
        let events: Vec<_> = events(count, 10).collect();
        check_vega(&index, &events);
    }
}

fn check_vega(index: &Index, events: &[Stored]) {
    index.load(events);
    let results = drawn_by_vega(&answered(index));
    if events.len() > 1 {
        let blank: Vec<_> = results
            .iter()
            .filter(|result| result["drawn"].as_u64() < Some(40))
            .collect();
        assert!(blank.is_empty(), "little is drawn: {blank:?}");
    }
}

/// Draws every Vega panel and takes no complaint.
fn drawn_by_vega(dashboards: &[Value]) -> Vec<Value> {
    let results = render(&["vega"], dashboards);
    let wanted = panels().iter().filter(|panel| panel.kind() == "vega").count() * 4;
    assert_eq!(
        results.len(),
        wanted,
        "three versions of Vega, one of them also interpreted"
    );
    for result in &results {
        assert_eq!(result["warnings"], json!([]), "{result}");
        assert_eq!(result["broken"], false, "{result}");
    }
    results
}

/// A pattern that finds no index is answered without aggregations.
#[test]
fn vega_draws_nothing_where_no_index_is() {
    let Some(index) = Index::new(Server::OpenSearch2, "nowhere") else {
        return;
    };
    let nowhere = index.search_elsewhere(
        "-nowhere*",
        &json!({"size": 0, "aggs": {"a": {"terms": {"field": "a"}}}}),
    );
    assert!(nowhere.get("aggregations").is_none(), "{nowhere}");
    let mut dashboards = answered(&index);
    for dashboard in &mut dashboards {
        for panel in dashboard["panels"].as_array_mut().into_iter().flatten() {
            panel["answer"] = nowhere.clone();
        }
    }
    drawn_by_vega(&dashboards);
}

#[test]
fn every_dashboard_has_its_picture() {
    setup::require(&["chromium"]);
    let Some(index) = Index::new(Server::OpenSearch2, "pictures") else {
        return;
    };
    let kept = env::var_os("DASHBOARD_PICTURES").map(PathBuf::from);
    let count = if kept.is_some() { 60_000 } else { 4_000 };
    let events: Vec<_> = events(count, 30).collect();
    index.load(&events);
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = kept.unwrap_or_else(|| scratch.path().join("pictures"));
    fs::create_dir_all(&folder).expect("the folder can be made");
    let pages = scratch.path().display().to_string();
    for drawn in render(&["pictures", &pages], &answered(&index)) {
        assert_eq!(
            (&drawn["warnings"], &drawn["broken"]),
            (&json!([]), &json!(false)),
            "{drawn}"
        );
        let id = drawn["id"].as_str().expect("an id");
        let size = (number(&drawn["width"]), number(&drawn["height"]));
        let picture = folder.join(format!("{id}.png"));
        photograph(
            &scratch.path().join(format!("{id}.html")),
            &picture,
            size,
            scratch.path(),
        );
        assert_eq!(png_size(&picture), size, "{id}");
    }
}

fn number(value: &Value) -> u32 {
    value
        .as_u64()
        .and_then(|number| u32::try_from(number).ok())
        .expect("a number")
}

fn photograph(page: &Path, picture: &Path, (width, height): (u32, u32), scratch: &Path) {
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ])
        .arg(format!("--user-data-dir={}", scratch.join("profile").display()))
        .arg(format!("--screenshot={}", picture.display()))
        .arg(format!("--window-size={width},{height}"))
        .arg(format!("file://{}", page.display()))
        .output()
        .expect("chromium runs");
    assert!(
        output.status.success(),
        "chromium: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Width and height in a PNG's first chunk.
fn png_size(picture: &Path) -> (u32, u32) {
    let bytes = fs::read(picture).expect("the picture is there");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    (number(16), number(20))
}
