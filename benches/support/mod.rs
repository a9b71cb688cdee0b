//! What the benchmarks share: building programs as they are deployed, reading `/proc`, and showing figures.

#![allow(dead_code, reason = "a toolbox: not every benchmark uses every tool")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// What was asked for after `--`.
pub(crate) struct Options {
    arguments: Vec<String>,
}

impl Options {
    pub(crate) fn read() -> Self {
        Self {
            arguments: std::env::args().skip(1).collect(),
        }
    }

    /// The word after `name`.
    pub(crate) fn after(&self, name: &str) -> Option<&str> {
        let place = self.arguments.iter().position(|argument| argument == name)?;
        self.arguments.get(place + 1).map(String::as_str)
    }

    /// The number after `name`.
    pub(crate) fn number(&self, name: &str, default: usize) -> usize {
        self.after(name).map_or(default, |text| {
            text.parse().unwrap_or_else(|_| panic!("{name} takes a number"))
        })
    }

    /// Writes the figures where `--json FILE` says.
    pub(crate) fn write(&self, figures: &Value) {
        if let Some(file) = self.after("--json") {
            let text = format!("{figures:#}\n");
            // Cargo starts a benchmark in the package's folder, so a relative name is relative to that.
            std::fs::write(file, text).unwrap_or_else(|error| panic!("{file}: {error}"));
        }
    }
}

/// Builds one program with these features and nothing else: the function as it is deployed, `pixel` as a server.
///
/// A build of its own: in the build of the benchmark itself, the features of all its dependencies would be united.
pub(crate) fn build(features: &str, target: [&str; 2]) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let [kind, name] = target;
    let profile = if features == "cli" { "server" } else { "release" };
    eprintln!("building `{name}` with `{features}`");
    // What cargo says to a benchmark about its package would make build scripts run again.
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut command = Command::new(cargo);
    for name in names.filter(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
        command.env_remove(name);
    }
    let built = command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--locked", "--profile", profile, "--no-default-features"])
        .args(["--message-format=json-render-diagnostics", "--features", features])
        .args([kind, name])
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(built.status.success(), "`{name}` is built");
    let messages = String::from_utf8(built.stdout).expect("cargo writes text");
    let executable = messages.lines().rev().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let found = message["target"]["name"] == name;
        message["executable"].as_str().filter(|_| found).map(PathBuf::from)
    });
    executable.unwrap_or_else(|| panic!("cargo says where `{name}` is"))
}

/// Size of a program, with and without its symbols stripped being up to the profile.
pub(crate) fn size(program: &Path) -> u64 {
    program.metadata().map_or(0, |metadata| metadata.len())
}

/// Time on a processor of all threads of a process that are still there, exact to the nanosecond; `utime` and `stime` come
/// in steps of 10 ms.
pub(crate) fn cpu(process: u32) -> Duration {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else {
        return Duration::ZERO;
    };
    let nanoseconds = threads.flatten().filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// User and system time of a process, in steps of 10 ms, threads that have ended included.
pub(crate) fn user_and_system(process: u32) -> Duration {
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        let fields = fields.split_whitespace().skip(11).take(2);
        Some(fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>())
    };
    Duration::from_millis(ticks().unwrap_or(0) * 10)
}

/// A line of `/proc/PROCESS/status` in bytes.
pub(crate) fn memory(process: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Durations, to be asked for their minimum and median.
#[derive(Clone, Default)]
pub(crate) struct Sample(Vec<Duration>);

impl Sample {
    pub(crate) fn push(&mut self, value: Duration) {
        self.0.push(value);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn minimum(&self) -> f64 {
        self.at(0.0)
    }

    pub(crate) fn median(&self) -> f64 {
        self.at(0.5)
    }

    pub(crate) fn p95(&self) -> f64 {
        self.at(0.95)
    }

    /// Milliseconds at a place between 0 and 1 of the sorted sample.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a sample of some thousands"
    )]
    pub(crate) fn at(&self, place: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let index = (sorted.len().saturating_sub(1)) as f64 * place;
        sorted
            .get(index as usize)
            .map_or(f64::NAN, |value| milliseconds(*value))
    }
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The machine, in one line: the same program on another one gives other figures.
pub(crate) fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let release = read("/proc/sys/kernel/osrelease");
    let kernel = release.split('-').next().unwrap_or_default().trim();
    let load = read("/proc/loadavg");
    let load: Vec<_> = load.split(' ').take(2).collect();
    format!(
        "{processors} x {}, Linux {kernel}, load before the run {} (one minute), {} (five)",
        model.unwrap_or("unknown processor"),
        load.first().unwrap_or(&"?"),
        load.get(1).unwrap_or(&"?"),
    )
}

/// A table in Markdown, columns aligned.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
        })
        .collect();
    let rule: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
    lines.insert(1, format!("| {} |", rule.join(" | ")));
    lines.join("\n")
}
