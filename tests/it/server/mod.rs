//! `pixel serve` as a server on the Internet: slow clients, proxies, files, and what it says of itself.

pub mod api;
pub mod browser;
mod connections;
pub mod deletion;
mod files;
mod health;
pub mod opt_out_rules;
mod outcomes;
pub mod page;
pub mod page_use;
mod proxies;
pub mod public_url;
pub mod questions;
pub mod script;
pub mod serve;
pub mod sign_in;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::serving::{Lines, Reply, request, send};

/// A running `pixel serve` that a shell has started after some preparations.
pub struct Prepared {
    pub address: SocketAddr,
    pub process: Child,
}

impl Prepared {
    /// Starts it in a folder; the shell first runs `preparation`.
    pub fn start(folder: &Path, preparation: &str, arguments: &[&str]) -> Self {
        let mut process = Command::new("sh")
            .args(["-c", &format!("{preparation}; exec \"$0\" \"$@\"")])
            .arg(env!("CARGO_BIN_EXE_pixel"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell starts");
        let lines = Lines::of(process.stderr.take().expect("stderr is piped"));
        let line = lines.wait_for("its address", |line| line.starts_with("pixel   http://"));
        lines.wait_for("that it serves", |line| line.starts_with("Ctrl-C stops"));
        let address = line.trim_start_matches("pixel   http://").split('/').next();
        Self {
            address: address.and_then(|address| address.parse().ok()).expect("an address"),
            process,
        }
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn get(address: SocketAddr, target: &str) -> Reply {
    send(address, &request("GET", target, &[]))
}

/// The value of a metric.
fn metric(address: SocketAddr, name: &str) -> u64 {
    let text = String::from_utf8(get(address, "/metrics").body).expect("text");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("{name}: {text}"))
}

fn json(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).expect("JSON")
}
