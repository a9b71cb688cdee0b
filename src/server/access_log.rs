//! The stage's access log: a line of JSON for each answer, in the form that the deployed API writes. `pixel audit` reads both.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use serde_json::json;

use super::gateway::HttpAnswer;
use crate::files::{self, Access};
use crate::hit::request::http_request::HttpRequest;
use crate::terminal::print_message;

/// What of a request stands in its line.
#[derive(Clone, Debug)]
pub struct AccessLogEntry {
    time: i64,
    id: String,
    pub(super) method: &'static str,
    pub(super) resource: &'static str,
}

/// The methods that are named; a visitor may send any word as one.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"];

/// Stands where there is nothing of ours to name.
const OTHER: &str = "-";

impl AccessLogEntry {
    /// Of a request; of its method and path only what is ours, since the rest is the visitor's.
    pub fn from_request(arrived: &HttpRequest) -> Self {
        let resource = super::gateway::resource(&arrived.path);
        let method = METHODS.into_iter().find(|method| *method == arrived.method);
        Self {
            time: arrived.time.timestamp_millis(),
            id: arrived.id.clone(),
            method: method.unwrap_or(OTHER),
            resource: resource.map_or(OTHER, |(route, ..)| route.path),
        }
    }
}

/// Writes lines on a thread of its own, so that a slow disk never holds up a visitor.
#[derive(Clone, Debug)]
pub struct AccessLog {
    lines: mpsc::Sender<String>,
}

impl AccessLog {
    /// Opens a file for appending.
    ///
    /// # Errors
    ///
    /// When it cannot be opened, or no thread can be started.
    pub fn open(path: &Path) -> std::io::Result<(Self, JoinHandle<()>)> {
        let file = files::append_to(path, Access::Group)?;
        let (lines, waiting) = mpsc::channel();
        let name = path.display().to_string();
        let thread = std::thread::Builder::new().name("access-log".to_owned());
        let writer = thread.spawn(move || write_all(file, &waiting, &name))?;
        Ok((Self { lines }, writer))
    }

    /// Writes the line of an answer.
    pub fn write(&self, note: &AccessLogEntry, answer: &HttpAnswer) {
        let line = json!({
            "time": note.time.to_string(),
            "id": note.id,
            "method": note.method,
            "resource": note.resource,
            "status": answer.status.to_string(),
            "answer": answer.header("x-pixel"),
            "bytes": answer.body.len().to_string(),
        });
        // The writer has said why when it has stopped.
        let _ = self.lines.send(line.to_string());
    }
}

fn write_all(file: File, lines: &mpsc::Receiver<String>, name: &str) {
    let mut out = BufWriter::new(file);
    while let Ok(line) = lines.recv() {
        let mut written = writeln!(out, "{line}");
        for line in lines.try_iter() {
            written = written.and_then(|()| writeln!(out, "{line}"));
        }
        if let Err(error) = written.and_then(|()| out.flush()) {
            print_message(&format!("the access log `{name}` cannot be written any more: {error}"));
            return;
        }
    }
}
