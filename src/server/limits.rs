//! The server's limits: for how long and how many connections may be open.

use std::time::Duration;

/// The server's limits. A visitor's browser meets none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The time for the head of a request, and how long a connection without requests stays open.
    pub head: Duration,
    /// The time for a request's body.
    pub body: Duration,
    /// The time in which a client takes [`Self::step_bytes`] of an answer, or the rest of it.
    pub answer_step: Duration,
    /// See [`Self::answer_step`].
    pub step_bytes: usize,
    /// The most open connections.
    pub connections: usize,
    /// The most open connections of one client.
    pub client_connections: usize,
}

/// The number of files that the process opens in addition to clients' connections: the store, queries, logs,
/// connections to destinations.
const RESERVED_FILES: u64 = 96;

/// The lower limit of connections, even with very few files.
const MIN_CONNECTIONS: u64 = 32;

/// The upper limit of connections; more would take too much memory if all clients are slow.
const MAX_CONNECTIONS: u64 = 4096;

impl Limits {
    /// Makes the limits of a process that may have this many files open.
    pub fn new(open_files: u64) -> Self {
        let connections = open_files
            .saturating_sub(RESERVED_FILES)
            .clamp(MIN_CONNECTIONS, MAX_CONNECTIONS);
        let connections = usize::try_from(connections).unwrap_or(usize::MAX);
        Self {
            head: Duration::from_secs(30),
            body: Duration::from_secs(10),
            answer_step: Duration::from_secs(20),
            step_bytes: 64 * 1024,
            connections,
            // An office behind one address has some hundred people, whose connections are short.
            client_connections: connections / 4,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(DEFAULT_OPEN_FILES)
    }
}

/// The usual limit of open files where the system is not asked.
const DEFAULT_OPEN_FILES: u64 = 1024;

/// Raises the limit of open files as far as the system allows without further rights. Returns the limit.
#[cfg(target_os = "linux")]
pub fn raise_open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // No number means no limit.
    allowed.unwrap_or(u64::MAX)
}

/// Returns the usual limit of open files.
#[cfg(not(target_os = "linux"))]
pub fn raise_open_files() -> u64 {
    DEFAULT_OPEN_FILES
}
