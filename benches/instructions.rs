//! How many instructions the function's own work for one hit takes: decode, reply, event, request, signature. Unlike time,
//! the count is the same on a busy machine, so a regression shows.
//!
//! `cargo bench --bench instructions [-- --json FILE]` runs `examples/one_hit.rs` under valgrind twice, with different numbers
//! of hits; the difference is free of start-up.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the figure goes to stdout, what is under way to stderr"
)]

mod support;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use serde_json::json;
use support::{Options, build, milliseconds};

const FEW: u32 = 10;
const MANY: u32 = 210;

/// Hits for the time, which is shown beside the count.
const TIMED: u32 = 20_000;

fn main() -> ExitCode {
    let options = Options::read();
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("`valgrind` is not there, and this benchmark needs it: apt-get install valgrind");
        return ExitCode::FAILURE;
    }
    let program = build("capture", ["--example", "one_hit"]);
    let per_hit = (instructions(&program, MANY) - instructions(&program, FEW)) / u64::from(MANY - FEW);
    let begun = Instant::now();
    let run = Command::new(&program).arg(TIMED.to_string()).status();
    assert!(run.is_ok_and(|status| status.success()), "the program runs");
    let time = milliseconds(begun.elapsed()) / f64::from(TIMED);
    println!("{per_hit} instructions per hit; {time:.3} ms when nothing else is done");
    options.write(&json!({"instructions_per_hit": per_hit, "ms_per_hit": time}));
    ExitCode::SUCCESS
}

/// The instructions of a whole run.
fn instructions(program: &Path, hits: u32) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .arg(hits.to_string())
        .output()
        .expect("valgrind runs");
    let text = String::from_utf8_lossy(&output.stderr);
    let count = text.lines().find_map(|line| line.split("Collected : ").nth(1));
    count
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or_else(|| panic!("valgrind: {text}"))
}
