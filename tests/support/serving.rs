//! The real `pixel serve` in a folder of its own, and a client that also sends what well-behaved clients cannot.
//!
//! The environment is empty but for what a test sets. A process that is still running when its [`Served`] is dropped is killed.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pixel::sqlite::Reader;
use serde_json::Value;
use tempfile::TempDir;

/// How long a test waits for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The last line that `pixel serve` prints before it serves.
const INTRODUCED: &str = "Ctrl-C stops";
/// The file of the default destination.
const STORE: &str = "pixel.db";

/// Asks until there is an answer.
///
/// # Panics
///
/// When there is none in time.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// The folder for what programs keep of a user, which is not that of whoever runs the tests.
const STATE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/state");

/// The command line in a folder, with an environment that is empty but for the state folder.
pub fn pixel(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pixel"));
    command
        .env_clear()
        .env("XDG_STATE_HOME", STATE)
        .current_dir(folder)
        .stdin(Stdio::null());
    command
}

/// Runs the command line to its end.
pub fn run(folder: &Path, arguments: &[&str]) -> Output {
    pixel(folder).args(arguments).output().expect("pixel starts")
}

/// Sends a signal by its name.
pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -s {name} {}", child.id())])
        .status();
    assert!(sent.is_ok_and(|status| status.success()), "{name} can be sent");
}

/// Waits for the end of a process.
pub fn wait(child: &mut Child) -> ExitStatus {
    wait_for("the end of the process", || {
        child.try_wait().expect("the process is ours")
    })
}

/// How to serve.
#[derive(Clone, Debug)]
pub struct Serve {
    folder: Arc<TempDir>,
    listen: Vec<String>,
    destination: Option<String>,
    variables: Vec<(String, String)>,
    arguments: Vec<String>,
}

/// Serving in a new folder, into the file that is the default.
pub fn serve() -> Serve {
    let folder = tempfile::tempdir().expect("a folder can be made");
    Serve {
        folder: Arc::new(folder),
        listen: ["--listen", "127.0.0.1:0"].map(ToOwned::to_owned).to_vec(),
        destination: None,
        variables: Vec::new(),
        arguments: Vec::new(),
    }
}

impl Serve {
    pub fn to(mut self, destination: impl Into<String>) -> Self {
        self.destination = Some(destination.into());
        self
    }

    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = vec!["--listen".to_owned(), address.to_string()];
        self
    }

    /// Listens as these arguments say.
    pub fn listen_with(mut self, arguments: &[&str]) -> Self {
        self.listen = arguments.iter().map(|&argument| argument.to_owned()).collect();
        self
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self) -> Command {
        let mut command = pixel(self.folder.path());
        command.arg("serve").args(&self.listen).args(&self.arguments);
        if let Some(destination) = &self.destination {
            command.args(["--destination", destination]);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs to the end, for a start that must fail.
    pub fn fail(self) -> Output {
        let mut child = self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        wait(child.as_mut().expect("pixel starts"));
        child.and_then(Child::wait_with_output).expect("it has ended")
    }

    /// Starts, and waits until it serves.
    pub fn start(self) -> Served {
        let child = self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("pixel starts");
        let stdout = Lines::of(child.stdout.take().expect("stdout is piped"));
        let stderr = Lines::of(child.stderr.take().expect("stderr is piped"));
        stderr.wait_for("that it serves", |line| line.starts_with(INTRODUCED));
        let lines = stderr.all();
        let address = lines.iter().find_map(|line| line.strip_prefix("listen  "));
        let address = address.and_then(|address| address.parse().ok());
        Served {
            address: address.unwrap_or_else(|| panic!("it prints its address: {lines:#?}")),
            serve: self,
            child,
            stdout,
            stderr,
        }
    }
}

/// The lines that a process has printed so far.
#[derive(Clone, Debug)]
pub struct Lines {
    shared: Arc<(Mutex<Printed>, Condvar)>,
}

#[derive(Debug, Default)]
struct Printed {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    /// Reads on a thread of its own until the pipe is closed.
    pub fn of(pipe: impl Read + Send + 'static) -> Self {
        let shared = Arc::<(Mutex<Printed>, Condvar)>::default();
        let printed = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(pipe);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                printed
                    .0
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .lines
                    .push(text);
                printed.1.notify_all();
                line.clear();
            }
            printed.0.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
            printed.1.notify_all();
        });
        Self { shared }
    }

    pub fn all(&self) -> Vec<String> {
        let printed = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        printed.lines.clone()
    }

    /// All lines, when no more can come.
    pub fn to_the_end(&self) -> Vec<String> {
        self.wait_until("the end of the output", |printed| {
            printed.ended.then(|| printed.lines.clone())
        })
    }

    /// The first line that satisfies the condition.
    pub fn wait_for(&self, what: &str, condition: impl Fn(&str) -> bool) -> String {
        self.wait_until(what, |printed| {
            printed.lines.iter().find(|line| condition(line)).cloned()
        })
    }

    /// So many lines that satisfy the condition.
    pub fn wait_for_count(&self, what: &str, count: usize, condition: impl Fn(&str) -> bool) -> Vec<String> {
        self.wait_until(what, |printed| {
            let found: Vec<_> = printed.lines.iter().filter(|line| condition(line)).cloned().collect();
            (found.len() >= count).then_some(found)
        })
    }

    fn wait_until<T>(&self, what: &str, find: impl Fn(&Printed) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let (printed, changed) = &*self.shared;
        let mut printed = printed.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = find(&printed) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero() && !printed.ended,
                "waited in vain for {what}; printed: {:#?}",
                printed.lines
            );
            (printed, _) = changed
                .wait_timeout(printed, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A running `pixel serve`.
#[derive(Debug)]
pub struct Served {
    pub address: SocketAddr,
    pub stdout: Lines,
    pub stderr: Lines,
    serve: Serve,
    child: Child,
}

impl Served {
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn folder(&self) -> &Path {
        self.serve.folder()
    }

    pub fn get(&self, target: &str) -> Reply {
        send(self.address, &request("GET", target, &[]))
    }

    /// The documents in the file, as they are stored, oldest first.
    pub fn documents(&self) -> Vec<String> {
        documents(self.folder())
    }

    /// Runs `pixel hits` on the same destination with the same environment.
    pub fn hits(&self, arguments: &[&str]) -> Output {
        self.hits_command(arguments).output().expect("pixel starts")
    }

    pub fn hits_command(&self, arguments: &[&str]) -> Command {
        let mut command = pixel(self.folder());
        command.arg("hits").args(arguments);
        if let Some(destination) = &self.serve.destination {
            command.args(["--destination", destination]);
        }
        command.envs(self.serve.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The events that `pixel hits --json` prints, oldest first.
    pub fn events(&self) -> Vec<Value> {
        let output = self.hits(&["--json", "--limit", "10000"]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "pixel hits: {errors}");
        let events = String::from_utf8(output.stdout).expect("JSON is UTF-8");
        let events = events.lines().map(serde_json::from_str);
        events.collect::<Result<_, _>>().expect("each line is JSON")
    }

    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Waits for its end: how it ended, and how to serve in the same folder again.
    pub fn ended(mut self) -> (ExitStatus, Serve) {
        let status = wait(&mut self.child);
        (status, self.serve.clone())
    }

    /// SIGKILL.
    pub fn kill(mut self) -> Serve {
        self.child.kill().expect("the process is ours");
        self.ended().1
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The documents of the default store in this folder, oldest first.
pub fn documents(folder: &Path) -> Vec<String> {
    let reader = Reader::open(&folder.join(STORE)).expect("the store opens");
    let stored = reader.latest(u32::MAX).expect("the store can be read");
    stored.into_iter().map(|stored| stored.document).collect()
}

/// The names of the files in a folder, sorted.
pub fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder can be listed");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names
        .map(|name| AsRef::<OsStr>::as_ref(&name).to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(it, _)| it == name);
        found.map(|(_, value)| value.as_str())
    }

    fn parse(answer: &[u8]) -> Option<Self> {
        let end = answer.windows(4).position(|part| part == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&answer[..end]);
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Option<Vec<_>> = lines
            .map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_ascii_lowercase(), value.trim().to_owned()))
            })
            .collect();
        let body = answer[end + 4..].to_vec();
        Some(Self {
            status,
            headers: headers?,
            body,
        })
    }
}

/// The bytes of a request without a body.
pub fn request(method: &str, target: &str, headers: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n").into_bytes();
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        bytes.extend_from_slice(b"Host: pixel.example\r\n");
    }
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: ").as_bytes());
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Sends a request and reads until the connection is closed; an error when there is no whole answer.
pub fn try_send(address: SocketAddr, request: &[u8]) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let reply = Reply::parse(&answer).ok_or_else(|| std::io::Error::other("the answer is not HTTP"))?;
    let length = reply.header("content-length").and_then(|length| length.parse().ok());
    let whole = length.is_none_or(|length: usize| reply.body.len() == length || request.starts_with(b"HEAD "));
    if whole {
        Ok(reply)
    } else {
        Err(std::io::Error::other("the answer is cut off"))
    }
}

/// Sends a request that must be answered.
pub fn send(address: SocketAddr, request: &[u8]) -> Reply {
    try_send(address, request).unwrap_or_else(|error| {
        let shown = String::from_utf8_lossy(&request[..request.len().min(200)]);
        panic!("no answer to {shown:?}: {error}")
    })
}
