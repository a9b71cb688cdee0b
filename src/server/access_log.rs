//! The access log of the server: a line of JSON for each response, in the format of the deployed API. `pixel audit`
//! reads both.

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

/// The fields of a request in its log line.
#[derive(Clone, Debug)]
pub struct AccessLogEntry {
    time: i64,
    id: String,
    pub(super) method: &'static str,
    pub(super) resource: &'static str,
}

/// The methods that are logged by name; a visitor may send any word as a method.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"];

/// The placeholder for unknown methods and paths.
const UNKNOWN: &str = "-";

impl AccessLogEntry {
    /// Makes the entry of a request. Only known methods and path templates are logged, never the visitor's own text.
    pub fn from_request(request: &HttpRequest) -> Self {
        let resource = super::gateway::resource(&request.path);
        let method = METHODS.into_iter().find(|method| *method == request.method);
        Self {
            time: request.time.timestamp_millis(),
            id: request.id.clone(),
            method: method.unwrap_or(UNKNOWN),
            resource: resource.map_or(UNKNOWN, |(route, ..)| route.path),
        }
    }
}

/// An access log. Its lines are written by a thread of its own, so that a slow disk never delays a visitor.
#[derive(Clone, Debug)]
pub struct AccessLog {
    lines: mpsc::Sender<String>,
}

impl AccessLog {
    /// Opens a file for appending.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, or no thread can be started.
    pub fn open(path: &Path) -> std::io::Result<(Self, JoinHandle<()>)> {
        let file = files::append_to(path, Access::Group)?;
        let (lines, waiting) = mpsc::channel();
        let name = path.display().to_string();
        let thread = std::thread::Builder::new().name("access-log".to_owned());
        let writer = thread.spawn(move || write_all(file, &waiting, &name))?;
        Ok((Self { lines }, writer))
    }

    /// Writes the line of a response.
    pub fn write(&self, entry: &AccessLogEntry, answer: &HttpAnswer) {
        let line = json!({
            "time": entry.time.to_string(),
            "id": entry.id,
            "method": entry.method,
            "resource": entry.resource,
            "status": answer.status.to_string(),
            "answer": answer.header("x-pixel"),
            "bytes": answer.body.len().to_string(),
        });
        // If the writer has stopped, it has logged the reason.
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
