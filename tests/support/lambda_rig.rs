//! A Lambda execution environment on loopback: the Runtime API (2018-06-01) and the Extensions API
//! (2020-01-01) around a real child process, so that tests and benchmarks drive the very binary
//! that is deployed.
//!
//! What it keeps to, because the function's correctness hangs on it:
//!
//! * An event is handed out only when the runtime and every registered extension wait in Next. The
//!   invocation lasts, and is billed, until all of them wait again.
//! * The caller has its answer as soon as the runtime posts it, long before that.
//! * The deadline is an absolute epoch time. At the deadline the process is killed; the next
//!   invocation starts a new one, and so it does after an exit.
//! * The start after a failed one (init error, exit, time-out) happens inside the invocation that
//!   needs it: within the function's time-out, and billed.
//! * Registration closes with the runtime's first Next; an internal extension may not subscribe to
//!   SHUTDOWN; a reply above the limit is refused with 413, one for another invocation with 400, a
//!   second one for the same invocation with 403.
//!
//! What it does not do: it does not freeze the process between invocations, it enforces no memory
//! or CPU share, it has no external extensions, no Telemetry API, no response streaming and no
//! `SnapStart`; and it hands over any payload, also one that is not JSON, which Lambda would refuse.

#![allow(dead_code, reason = "a toolbox: not every test binary uses every tool")]

use std::collections::hash_map::RandomState;
use std::convert::Infallible;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

/// The largest reply (and event) Lambda takes: 6 MiB and 100 bytes.
pub const PAYLOAD_LIMIT: usize = 6 * 1024 * 1024 + 100;
/// What an internal extension is given between SIGTERM and SIGKILL.
pub const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);
/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(10);
/// The number of extensions one environment may have.
const MAX_EXTENSIONS: usize = 10;

/// The secret of all hashes.
pub const PRIVACY_KEY: &str = "the secret of the tests";

pub const FUNCTION_NAME: &str = "pixel-under-test";
pub const FUNCTION_ARN: &str = "arn:aws:lambda:eu-central-1:123456789012:function:pixel-under-test";

/// What to run, and in which surroundings.
#[derive(Clone, Debug)]
pub struct RigOptions {
    pub program: PathBuf,
    /// Arguments; Lambda gives none, but a wrapper (a shell with `ulimit`, valgrind) needs some.
    pub args: Vec<String>,
    /// `_HANDLER`.
    pub handler: String,
    /// Added to the environment that Lambda gives, and winning over it.
    pub env: Vec<(String, String)>,
    /// Names taken out of the environment, for what is missing.
    pub without: Vec<String>,
    /// The function's time-out.
    pub timeout: Duration,
    /// The time-out of the init phase.
    pub init_timeout: Duration,
    pub memory_mb: u32,
    /// Status and body with which every registration of an extension is refused, as Lambda Managed Instances do.
    pub refused_registration: Option<(u16, &'static str)>,
}

impl RigOptions {
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            handler: "capture".to_owned(),
            env: Vec::new(),
            without: Vec::new(),
            timeout: Duration::from_secs(10),
            init_timeout: Duration::from_secs(10),
            memory_mb: 128,
            refused_registration: None,
        }
    }

    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.args.push(argument.into());
        self
    }

    pub fn handler(mut self, handler: impl Into<String>) -> Self {
        self.handler = handler.into();
        self
    }

    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    pub fn without(mut self, name: impl Into<String>) -> Self {
        self.without.push(name.into());
        self
    }

    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub fn refuse_registration(mut self, status: u16, body: &'static str) -> Self {
        self.refused_registration = Some((status, body));
        self
    }

    pub fn init_timeout(mut self, timeout: Duration) -> Self {
        self.init_timeout = timeout;
        self
    }

    fn command(&self, api_address: &str) -> Command {
        let program = if self.program.components().count() > 1 {
            std::path::absolute(&self.program).expect("the program's path can be made absolute")
        } else {
            self.program.clone()
        };
        let task_root = program
            .parent()
            .filter(|parent| parent.is_dir())
            .map_or_else(std::env::temp_dir, PathBuf::from);
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());

        let mut command = Command::new(program);
        command
            .args(&self.args)
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", api_address)
            .env("AWS_LAMBDA_FUNCTION_NAME", FUNCTION_NAME)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", self.memory_mb.to_string())
            .env("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{FUNCTION_NAME}"))
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "2026/01/31/[$LATEST]0123456789abcdef")
            .env("AWS_REGION", "eu-central-1")
            .env("AWS_ACCESS_KEY_ID", "ASIATESTTESTTESTTEST")
            .env("AWS_SECRET_ACCESS_KEY", "test-secret-key")
            .env("AWS_SESSION_TOKEN", "test-session-token")
            .env("PIXEL_PRIVACY_KEY", PRIVACY_KEY)
            .env("LAMBDA_TASK_ROOT", &task_root)
            .env("PATH", path)
            .env("_HANDLER", &self.handler)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(task_root)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        for name in &self.without {
            command.env_remove(name);
        }
        command
    }
}

/// What the caller was answered.
#[derive(Clone, PartialEq, Eq)]
pub enum Answer {
    Reply(Vec<u8>),
    FunctionError(Vec<u8>),
    /// The reply was refused: so many bytes.
    TooLarge(usize),
}

/// The answer at the moment when the caller has it.
#[derive(Clone, Debug)]
pub struct FirstAnswer {
    pub answer: Answer,
    pub at: Instant,
    /// Since the event was handed out.
    pub after: Duration,
}

/// Why a process did not get as far as waiting for its first event.
#[derive(Clone, PartialEq, Eq)]
pub enum InitFailure {
    /// The body posted to `/runtime/init/error` or `/extension/init/error`.
    Reported(Vec<u8>),
    /// The process ended by itself; no code if a signal ended it.
    Exited(Option<i32>),
    TimedOut,
}

/// How an invocation ended.
#[derive(Clone, PartialEq, Eq)]
pub enum InvokeResult {
    Reply(Vec<u8>),
    FunctionError(Vec<u8>),
    /// The process ended during the invocation (no code if a signal ended it), perhaps after the
    /// reply.
    Exited {
        code: Option<i32>,
        reply: Option<Vec<u8>>,
    },
    /// Killed at the deadline, perhaps after the reply.
    TimedOut {
        reply: Option<Vec<u8>>,
    },
    ResponseTooLarge,
    /// No process was there, and starting one failed.
    InitError(InitFailure),
}

/// Bodies as text, cut short: what a failed assertion prints should be readable.
struct Text<'a>(&'a [u8]);

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(400)];
        write!(f, "{:?}", String::from_utf8_lossy(shown))?;
        if shown.len() < self.0.len() {
            write!(f, "... ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reply(body) => write!(f, "Reply({:?})", Text(body)),
            Self::FunctionError(body) => write!(f, "FunctionError({:?})", Text(body)),
            Self::TooLarge(length) => write!(f, "TooLarge({length})"),
        }
    }
}

impl fmt::Debug for InitFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reported(body) => write!(f, "Reported({:?})", Text(body)),
            Self::Exited(code) => write!(f, "Exited({code:?})"),
            Self::TimedOut => f.write_str("TimedOut"),
        }
    }
}

impl fmt::Debug for InvokeResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |reply: &Option<Vec<u8>>| format!("{:?}", reply.as_deref().map(Text));
        match self {
            Self::Reply(body) => write!(f, "Reply({:?})", Text(body)),
            Self::FunctionError(body) => write!(f, "FunctionError({:?})", Text(body)),
            Self::Exited { code, reply } => {
                write!(f, "Exited {{ code: {code:?}, reply: {} }}", text(reply))
            }
            Self::TimedOut { reply } => write!(f, "TimedOut {{ reply: {} }}", text(reply)),
            Self::ResponseTooLarge => f.write_str("ResponseTooLarge"),
            Self::InitError(failure) => write!(f, "InitError({failure:?})"),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Invocation {
    pub request_id: String,
    pub result: InvokeResult,
    /// From handing out the event to the answer; `None` without an answer.
    pub reply_time: Option<Duration>,
    /// Until the runtime and all extensions waited again, the process ended, or the time-out.
    /// Includes `restart`.
    pub billed: Duration,
    /// How long the start took if this invocation had to start a process.
    pub restart: Option<Duration>,
}

impl Invocation {
    /// The reply's bytes; panics with the result if there is none.
    pub fn reply(&self) -> &[u8] {
        match &self.result {
            InvokeResult::Reply(body)
            | InvokeResult::Exited { reply: Some(body), .. }
            | InvokeResult::TimedOut { reply: Some(body) } => body,
            other => panic!("no reply to {}: {other:?}", self.request_id),
        }
    }

    /// The reply as JSON; panics if it is none.
    pub fn reply_json(&self) -> Value {
        serde_json::from_slice(self.reply()).expect("the reply is JSON")
    }
}

/// How [`Rig::terminate`] ended the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Termination {
    /// SIGTERM was sent (an extension was registered).
    pub asked: bool,
    /// SIGKILL was sent (no extension, or still there after the grace period).
    pub killed: bool,
    pub code: Option<i32>,
    pub took: Duration,
}

/// One function with at most one execution environment. Invocations run one after the other, as in
/// one environment of Lambda. Dropping the rig kills the process.
pub struct Rig {
    inner: Arc<Inner>,
}

struct Inner {
    options: RigOptions,
    turn: tokio::sync::Mutex<()>,
    environment: Mutex<Option<Arc<Environment>>>,
    log: Log,
    history: Mutex<History>,
}

/// What outlives a single environment.
#[derive(Default)]
struct History {
    cold_starts: usize,
    inits: Vec<Duration>,
    init_error: Option<InitFailure>,
    refusals: Vec<String>,
    connections: usize,
}

impl Rig {
    /// Spawns the program and runs the init phase. A failed init is no panic: see
    /// [`Rig::init_error`].
    pub async fn start(options: RigOptions) -> Self {
        let inner = Arc::new(Inner {
            options,
            turn: tokio::sync::Mutex::default(),
            environment: Mutex::default(),
            log: Log::default(),
            history: Mutex::default(),
        });
        let rig = Self { inner };
        let limit = rig.inner.options.init_timeout;
        // The outcome stays in the history; nobody else can have the turn yet.
        let _ = rig.inner.start_environment(limit).await;
        rig
    }

    /// Sends an event and waits until the invocation is over.
    pub async fn invoke(&self, payload: impl Into<Vec<u8>>) -> Invocation {
        let (first, _) = oneshot::channel();
        self.inner.clone().invoke(payload.into(), first).await
    }

    /// Sends an event; the answer and the end of the invocation can be awaited apart. The answer's
    /// channel closes without a value if the process ends without one.
    pub fn invoke_observing(
        &self,
        payload: impl Into<Vec<u8>>,
    ) -> (oneshot::Receiver<FirstAnswer>, JoinHandle<Invocation>) {
        let (first, answer) = oneshot::channel();
        let invocation = self.inner.clone().invoke(payload.into(), first);
        (answer, tokio::spawn(invocation))
    }

    /// SIGKILL now; returns when the process is gone. A running invocation ends as `Exited`.
    pub async fn kill(&self) {
        if let Some(environment) = self.inner.take_environment() {
            environment.kill().await;
        }
    }

    /// Ends the environment as Lambda does: SIGTERM and 500 ms with an extension, SIGKILL at once
    /// without. `None` if there is no process.
    pub async fn terminate(&self) -> Option<Termination> {
        let environment = self.inner.take_environment()?;
        Some(environment.terminate().await)
    }

    /// Everything the process wrote to stdout and stderr, line by line, over all its starts. What
    /// was written before the process waited for the next event is there when `invoke` returns.
    pub fn log_lines(&self) -> Vec<String> {
        self.inner.log.lines()
    }

    /// Waits for a line that satisfies the condition and returns it; panics after ten seconds.
    pub async fn wait_for_log(&self, what: &str, condition: impl Fn(&str) -> bool) -> String {
        let mut changes = self.inner.log.changed.subscribe();
        let search = async {
            loop {
                if let Some(line) = self.log_lines().into_iter().find(|line| condition(line)) {
                    return line;
                }
                changes.changed().await.expect("the log lives in the rig");
            }
        };
        let found = tokio::time::timeout(PATIENCE, search).await;
        found.unwrap_or_else(|_| panic!("no log line: {what}; the log is {:#?}", self.log_lines()))
    }

    /// Why the latest start failed; `None` if it did not.
    pub fn init_error(&self) -> Option<InitFailure> {
        lock(&self.inner.history).init_error.clone()
    }

    /// How long each successful init phase took: from before the spawn until all waited.
    pub fn init_durations(&self) -> Vec<Duration> {
        lock(&self.inner.history).inits.clone()
    }

    /// The number of processes started.
    pub fn cold_starts(&self) -> usize {
        lock(&self.inner.history).cold_starts
    }

    /// What the two APIs refused, as `METHOD path: status type`; a sound program causes none.
    pub fn refusals(&self) -> Vec<String> {
        lock(&self.inner.history).refusals.clone()
    }

    /// Connections accepted by the two APIs, over all starts.
    pub fn api_connections(&self) -> usize {
        lock(&self.inner.history).connections
    }

    /// The extensions registered in the present environment.
    pub fn extensions(&self) -> Vec<String> {
        let Some(environment) = self.inner.running() else {
            return Vec::new();
        };
        let state = environment.api.lock();
        state.extensions.iter().map(|it| it.name.clone()).collect()
    }

    pub fn child_pid(&self) -> Option<u32> {
        self.inner.running().map(|environment| environment.pid)
    }

    /// The process's peak resident memory in bytes (`VmHWM`).
    pub fn child_peak_rss(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child_pid()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    }

    /// The processor time the process used, user and system, in steps of 10 ms.
    pub fn child_cpu_time(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child_pid()?)).ok()?;
        // The name in parentheses may hold anything; the 14th and 15th field are ticks of 1/100 s.
        let (_, after_name) = stat.rsplit_once(')')?;
        let mut fields = after_name.split_whitespace().skip(11);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some(Duration::from_millis((user + system) * 10))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // The environment kills its process when the last holder lets go of it; a detached
        // invocation may be one, so say it here too.
        if let Some(environment) = self.inner.take_environment() {
            environment.order(Order::Kill);
        }
    }
}

impl Inner {
    fn running(&self) -> Option<Arc<Environment>> {
        let environment = lock(&self.environment).clone()?;
        let alive = environment.api.lock().exit.is_none();
        alive.then_some(environment)
    }

    fn take_environment(&self) -> Option<Arc<Environment>> {
        lock(&self.environment).take()
    }

    /// Starts a process and waits for the end of its init phase. The caller holds the turn.
    async fn start_environment(self: &Arc<Self>, limit: Duration) -> Result<Arc<Environment>, InitFailure> {
        let environment = Arc::new(Environment::spawn(self).await);
        *lock(&self.environment) = Some(environment.clone());
        let init = environment.init(limit).await;
        let mut history = lock(&self.history);
        match init {
            Ok(duration) => {
                history.inits.push(duration);
                history.init_error = None;
                Ok(environment)
            }
            Err(failure) => {
                history.init_error = Some(failure.clone());
                lock(&self.environment).take();
                Err(failure)
            }
        }
    }

    async fn invoke(self: Arc<Self>, payload: Vec<u8>, first: oneshot::Sender<FirstAnswer>) -> Invocation {
        assert!(
            payload.len() <= PAYLOAD_LIMIT,
            "Lambda refuses an event of {} bytes before the function sees it",
            payload.len()
        );
        let _turn = self.turn.lock().await;
        let started = Instant::now();
        let event = Event::new(payload, self.options.timeout);
        let mut restart = None;
        let environment = match self.running() {
            Some(environment) => environment,
            None => match self.start_environment(self.options.timeout).await {
                Ok(environment) => {
                    restart = Some(started.elapsed());
                    environment
                }
                Err(failure) => return event.never_handed_out(failure, started.elapsed()),
            },
        };
        let request_id = event.request_id.clone();
        let deadline = started + self.options.timeout;
        let run = environment.run(event, deadline, first).await;
        if run.process_is_gone() {
            self.forget(&environment);
        }
        Invocation {
            request_id,
            reply_time: run.reply_time,
            billed: match run.end {
                End::TimedOut => self.options.timeout,
                End::Idle(at) | End::Exited(_, at) => at.saturating_duration_since(started),
            },
            result: run.result(),
            restart,
        }
    }

    /// Lets go of an environment, unless another one has taken its place.
    fn forget(&self, environment: &Arc<Environment>) {
        let mut present = lock(&self.environment);
        if present.as_ref().is_some_and(|it| Arc::ptr_eq(it, environment)) {
            present.take();
        }
    }
}

/// How the part of an invocation after handing out went.
struct Run {
    answer: Option<Answer>,
    reply_time: Option<Duration>,
    end: End,
}

enum End {
    /// All wait again, since then.
    Idle(Instant),
    Exited(Option<i32>, Instant),
    TimedOut,
}

impl Run {
    fn process_is_gone(&self) -> bool {
        !matches!(self.end, End::Idle(_))
    }

    fn result(self) -> InvokeResult {
        let reply = match &self.answer {
            Some(Answer::Reply(body)) => Some(body.clone()),
            _ => None,
        };
        match (self.end, self.answer) {
            (End::TimedOut, _) => InvokeResult::TimedOut { reply },
            (End::Exited(code, _), _) => InvokeResult::Exited { code, reply },
            (End::Idle(_), Some(Answer::Reply(body))) => InvokeResult::Reply(body),
            (End::Idle(_), Some(Answer::FunctionError(body))) => InvokeResult::FunctionError(body),
            (End::Idle(_), Some(Answer::TooLarge(_))) => InvokeResult::ResponseTooLarge,
            (End::Idle(_), None) => unreachable!("Next is refused before the answer"),
        }
    }
}

/// An event on its way to the runtime.
struct Event {
    request_id: String,
    trace_id: String,
    deadline_ms: u128,
    payload: Bytes,
}

impl Event {
    fn new(payload: Vec<u8>, timeout: Duration) -> Self {
        let deadline = SystemTime::now() + timeout;
        let since_epoch = deadline.duration_since(UNIX_EPOCH).expect("the clock is past 1970");
        Self {
            request_id: new_uuid(),
            trace_id: new_trace_id(since_epoch.as_secs()),
            deadline_ms: since_epoch.as_millis(),
            payload: payload.into(),
        }
    }

    fn never_handed_out(self, failure: InitFailure, billed: Duration) -> Invocation {
        Invocation {
            request_id: self.request_id,
            result: InvokeResult::InitError(failure),
            reply_time: None,
            billed,
            restart: None,
        }
    }

    fn for_extensions(&self) -> Bytes {
        let event = json!({
            "eventType": "INVOKE",
            "deadlineMs": u64::try_from(self.deadline_ms).expect("the deadline is in this age"),
            "requestId": self.request_id,
            "invokedFunctionArn": FUNCTION_ARN,
            "tracing": {"type": "X-Amzn-Trace-Id", "value": self.trace_id},
        });
        event.to_string().into()
    }

    fn for_runtime(self) -> HttpResponse {
        Response::builder()
            .header("content-type", "application/json")
            .header(INVOCATION_ID, invocation_id(&self.request_id))
            .header("lambda-runtime-aws-request-id", self.request_id)
            .header("lambda-runtime-deadline-ms", self.deadline_ms.to_string())
            .header("lambda-runtime-invoked-function-arn", FUNCTION_ARN)
            .header("lambda-runtime-trace-id", self.trace_id)
            .body(Full::new(self.payload))
            .expect("the headers are valid")
    }
}

/// One process and the APIs it talks to. Every process has a port of its own, so nothing a killed
/// one left behind can reach its successor's state.
struct Environment {
    pid: u32,
    spawned: Instant,
    api: Arc<Api>,
    orders: mpsc::UnboundedSender<Order>,
    server: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Terminate,
    Kill,
}

impl Environment {
    async fn spawn(rig: &Arc<Inner>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let api = Arc::new(Api::new(&rig.options));
        let server = tokio::spawn(accept(listener, api.clone(), Arc::downgrade(rig)));

        let mut command = rig.options.command(&address.to_string());
        let reader = capture_output(&mut command);
        lock(&rig.history).cold_starts += 1;
        let spawned = Instant::now();
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{} starts: {error}", rig.options.program.display()));
        // The command holds the writing end of the pipe.
        drop(command);
        rig.log.follow(reader);
        let (orders, inbox) = mpsc::unbounded_channel();
        let pid = child.id().expect("a child that was not awaited has an id");
        tokio::spawn(supervise(child, inbox, api.clone()));
        Self {
            pid,
            spawned,
            api,
            orders,
            server,
        }
    }

    /// Waits for the end of the init phase; a process that fails it is killed.
    async fn init(&self, limit: Duration) -> Result<Duration, InitFailure> {
        let outcome = self.api.wait(|state| {
            if let Some(report) = state.init_error.take() {
                return Some(Err(InitFailure::Reported(report)));
            }
            if let Some((status, _)) = state.exit {
                return Some(Err(InitFailure::Exited(status.code())));
            }
            let idle_since = state.idle_since()?;
            state.init_over = true;
            Some(Ok(idle_since))
        });
        let deadline = (self.spawned + limit).into();
        let failure = match tokio::time::timeout_at(deadline, outcome).await {
            Ok(Ok(idle_since)) => return Ok(idle_since.duration_since(self.spawned)),
            Ok(Err(failure)) => failure,
            Err(_) => InitFailure::TimedOut,
        };
        self.kill().await;
        Err(failure)
    }

    /// Hands an event out and waits until all is quiet, the process is gone, or the deadline.
    async fn run(&self, event: Event, deadline: Instant, first: oneshot::Sender<FirstAnswer>) -> Run {
        self.api.hand_out(event, first);
        let over = self.api.wait(|state| {
            if let Some((status, at)) = state.exit {
                return Some(End::Exited(status.code(), at));
            }
            let answered = state.current.as_ref().is_some_and(|it| it.answer.is_some());
            state.idle_since().filter(|_| answered).map(End::Idle)
        });
        let end = if let Ok(end) = tokio::time::timeout_at(deadline.into(), over).await {
            end
        } else {
            self.kill().await;
            End::TimedOut
        };
        let current = self.api.lock().current.take();
        let answer = current.and_then(|it| it.answer);
        Run {
            reply_time: answer.as_ref().map(|it| it.after),
            answer: answer.map(|it| it.answer),
            end,
        }
    }

    fn order(&self, order: Order) {
        // The supervisor is gone once the process is: then there is nothing left to do.
        let _ = self.orders.send(order);
    }

    async fn exited(&self) -> ExitStatus {
        self.api.wait(|state| state.exit.map(|(status, _)| status)).await
    }

    async fn kill(&self) {
        self.order(Order::Kill);
        self.exited().await;
    }

    async fn terminate(&self) -> Termination {
        let asked_at = Instant::now();
        let asked = !self.api.lock().extensions.is_empty();
        let mut killed = true;
        if asked {
            self.order(Order::Terminate);
            killed = tokio::time::timeout(SHUTDOWN_GRACE, self.exited()).await.is_err();
        }
        if killed {
            self.order(Order::Kill);
        }
        let status = self.exited().await;
        Termination {
            asked,
            killed,
            code: status.code(),
            took: asked_at.elapsed(),
        }
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.order(Order::Kill);
        self.server.abort();
    }
}

/// Owns the process until it is gone, so that no signal can meet another process of the same id.
async fn supervise(mut child: Child, mut orders: mpsc::UnboundedReceiver<Order>, api: Arc<Api>) {
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.expect("the process can be awaited"),
            Some(order) = orders.recv() => match (order, child.id()) {
                (Order::Kill, _) => child.start_kill().expect("the process can be killed"),
                (Order::Terminate, Some(pid)) => send_sigterm(pid).await,
                (Order::Terminate, None) => {}
            }
        }
    };
    api.change(|state| state.exit = Some((status, Instant::now())));
}

/// Without `libc` in reach, the shell's own `kill` does it.
async fn send_sigterm(pid: u32) {
    Command::new("sh")
        .args(["-c", "kill -TERM \"$1\"", "sh", &pid.to_string()])
        .status()
        .await
        .expect("the shell runs");
}

/// Points both outputs at one pipe, so that their lines keep their order.
fn capture_output(command: &mut Command) -> PipeReader {
    let (reader, writer) = io::pipe().expect("a pipe can be made");
    let second = writer.try_clone().expect("the pipe can be shared");
    command.stdout(writer).stderr(second);
    reader
}

/// What the processes write. The pipes are read in the background, lest the process blocks, and
/// also on demand, so that nothing already written is missed.
#[derive(Default)]
struct Log {
    pipes: Mutex<Vec<Arc<LogPipe>>>,
    text: Arc<Mutex<Vec<String>>>,
    changed: watch::Sender<()>,
}

struct LogPipe {
    reader: PipeReader,
    /// The line that has not ended yet.
    rest: Mutex<Vec<u8>>,
}

impl Log {
    fn follow(&self, reader: PipeReader) {
        let second = reader.try_clone().expect("the pipe can be shared");
        // tokio's end tells when to read, and makes both ends non-blocking; the other one can be
        // read whether or not tokio has noticed anything yet.
        let notifier = pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).expect("the pipe can be made non-blocking");
        let pipe = Arc::new(LogPipe {
            reader: second,
            rest: Mutex::default(),
        });
        lock(&self.pipes).push(pipe.clone());
        let (text, changed) = (self.text.clone(), self.changed.clone());
        tokio::spawn(async move {
            let mut ended = false;
            while !ended && notifier.readable().await.is_ok() {
                // It is always emptied, and says so in order to be told of what comes next.
                let _ = notifier.try_io(|| {
                    ended = pipe.drain(&text);
                    Err::<(), _>(io::ErrorKind::WouldBlock.into())
                });
                changed.send_replace(());
            }
        });
    }

    fn lines(&self) -> Vec<String> {
        lock(&self.pipes).retain(|pipe| !pipe.drain(&self.text));
        lock(&self.text).clone()
    }
}

impl LogPipe {
    /// Reads what is there; tells whether the writer is gone.
    fn drain(&self, text: &Mutex<Vec<String>>) -> bool {
        let mut rest = lock(&self.rest);
        let mut chunk = [0; 8192];
        loop {
            match (&self.reader).read(&mut chunk) {
                Ok(0) => {
                    if !rest.is_empty() {
                        lock(text).push(take_line(&mut rest));
                    }
                    return true;
                }
                Ok(length) => rest.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => panic!("the pipe can be read: {error}"),
            }
            while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                let mut line: Vec<u8> = rest.drain(..=end).collect();
                line.pop();
                lock(text).push(take_line(&mut line));
            }
        }
    }
}

fn take_line(bytes: &mut Vec<u8>) -> String {
    let line = String::from_utf8_lossy(bytes).into_owned();
    bytes.clear();
    line
}

/// The state behind the two APIs of one environment.
struct Api {
    state: Mutex<ApiState>,
    changed: watch::Sender<()>,
    handler: String,
    refused_registration: Option<(u16, &'static str)>,
}

#[derive(Default)]
struct ApiState {
    runtime: Option<Parked<Event>>,
    /// The runtime has asked for its first event: no more registrations.
    registration_closed: bool,
    init_over: bool,
    extensions: Vec<Extension>,
    current: Option<Current>,
    init_error: Option<Vec<u8>>,
    exit: Option<(ExitStatus, Instant)>,
}

/// Somebody waiting in Next.
struct Parked<T> {
    sender: oneshot::Sender<T>,
    since: Instant,
}

struct Extension {
    id: String,
    name: String,
    wants_invoke: bool,
    parked: Option<Parked<Bytes>>,
}

/// The invocation that is going on.
struct Current {
    request_id: String,
    handed_out: Instant,
    first: Option<oneshot::Sender<FirstAnswer>>,
    answer: Option<FirstAnswer>,
}

impl<T> Parked<T> {
    fn new() -> (Self, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        let since = Instant::now();
        (Self { sender, since }, receiver)
    }

    /// The time since which the caller waits, if its connection is still there.
    fn waiting_since(slot: Option<&Self>) -> Option<Instant> {
        slot.filter(|parked| !parked.sender.is_closed())
            .map(|parked| parked.since)
    }
}

impl ApiState {
    /// The time since which everybody waits in Next.
    fn idle_since(&self) -> Option<Instant> {
        let runtime = Parked::waiting_since(self.runtime.as_ref())?;
        self.extensions.iter().try_fold(runtime, |latest, extension| {
            Parked::waiting_since(extension.parked.as_ref()).map(|since| since.max(latest))
        })
    }
}

impl Api {
    fn new(options: &RigOptions) -> Self {
        Self {
            state: Mutex::default(),
            changed: watch::Sender::default(),
            handler: options.handler.clone(),
            refused_registration: options.refused_registration,
        }
    }

    fn lock(&self) -> MutexGuard<'_, ApiState> {
        lock(&self.state)
    }

    fn change<T>(&self, change: impl FnOnce(&mut ApiState) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.send_replace(());
        result
    }

    async fn wait<T>(&self, mut check: impl FnMut(&mut ApiState) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        loop {
            if let Some(found) = check(&mut self.lock()) {
                return found;
            }
            changes.changed().await.expect("the sender is in self");
        }
    }

    /// Gives the event to everybody who waits. Who is gone meanwhile is found out by the exit.
    fn hand_out(&self, event: Event, first: oneshot::Sender<FirstAnswer>) {
        let for_extensions = event.for_extensions();
        let mut state = self.lock();
        state.current = Some(Current {
            request_id: event.request_id.clone(),
            handed_out: Instant::now(),
            first: Some(first),
            answer: None,
        });
        if let Some(parked) = state.runtime.take() {
            let _ = parked.sender.send(event);
        }
        for extension in &mut state.extensions {
            if extension.wants_invoke
                && let Some(parked) = extension.parked.take()
            {
                let _ = parked.sender.send(for_extensions.clone());
            }
        }
    }

    async fn runtime_next(&self) -> Result<HttpResponse, Refusal> {
        let event = self.change(|state| {
            let unanswered = state.current.as_ref().is_some_and(|it| it.answer.is_none());
            if unanswered || Parked::waiting_since(state.runtime.as_ref()).is_some() {
                return Err(Refusal::bad_transition("Next"));
            }
            let (parked, event) = Parked::new();
            state.runtime = Some(parked);
            state.registration_closed = true;
            Ok(event)
        })?;
        match event.await {
            Ok(event) => Ok(event.for_runtime()),
            Err(_) => std::future::pending().await,
        }
    }

    fn answer(&self, request_id: &str, answer: Answer) -> Result<HttpResponse, Refusal> {
        let at = Instant::now();
        let too_large = matches!(answer, Answer::TooLarge(_));
        self.change(|state| {
            let current = state
                .current
                .as_mut()
                .filter(|current| current.request_id == request_id)
                .ok_or_else(Refusal::unknown_request)?;
            if current.answer.is_some() {
                return Err(Refusal::bad_transition("Response"));
            }
            let after = at.duration_since(current.handed_out);
            let first = FirstAnswer { answer, at, after };
            if let Some(observer) = current.first.take() {
                // Nobody needs to look.
                let _ = observer.send(first.clone());
            }
            current.answer = Some(first);
            Ok(())
        })?;
        if too_large {
            return Err(Refusal::too_large());
        }
        Ok(accepted())
    }

    fn init_error(&self, report: Vec<u8>) -> Result<HttpResponse, Refusal> {
        self.change(|state| {
            if state.registration_closed {
                return Err(Refusal::bad_transition("InitError"));
            }
            state.init_error = Some(report);
            Ok(accepted())
        })
    }

    fn register(&self, name: &str, body: &[u8]) -> Result<HttpResponse, Refusal> {
        if let Some((status, body)) = self.refused_registration {
            let answer = Response::builder().status(status);
            return Ok(answer.body(Full::new(body.into())).expect("the status is valid"));
        }
        let wants_invoke = subscription(name, body)?;
        let id = new_uuid();
        self.change(|state| {
            state.admit(name)?;
            state.extensions.push(Extension {
                id: id.clone(),
                name: name.to_owned(),
                wants_invoke,
                parked: None,
            });
            Ok(())
        })?;
        let metadata = json!({
            "functionName": FUNCTION_NAME,
            "functionVersion": "$LATEST",
            "handler": self.handler,
        });
        Ok(Response::builder()
            .header("content-type", "application/json")
            .header("lambda-extension-identifier", id)
            .body(Full::new(metadata.to_string().into()))
            .expect("the headers are valid"))
    }

    async fn extension_next(&self, id: &str) -> Result<HttpResponse, Refusal> {
        let event = self.change(|state| {
            let extension = state.extension(id)?;
            if Parked::waiting_since(extension.parked.as_ref()).is_some() {
                return Err(Refusal::bad_extension_state());
            }
            let (parked, event) = Parked::new();
            extension.parked = Some(parked);
            Ok(event)
        })?;
        match event.await {
            Ok(event) => Ok(Response::builder()
                .header("content-type", "application/json")
                .header("lambda-extension-event-identifier", new_uuid())
                .body(Full::new(event))
                .expect("the headers are valid")),
            Err(_) => std::future::pending().await,
        }
    }

    /// An extension that cannot go on: during init that is an init error. Later, Lambda waits for
    /// the exit that follows.
    fn extension_error(&self, id: &str, report: Vec<u8>) -> Result<HttpResponse, Refusal> {
        self.change(|state| {
            state.extension(id)?;
            if !state.init_over {
                state.init_error = Some(report);
            }
            Ok(accepted())
        })
    }
}

impl ApiState {
    fn admit(&self, name: &str) -> Result<(), Refusal> {
        if self.registration_closed {
            return Err(Refusal::forbidden(
                "Extension.RegistrationClosed",
                "Extension registration closed already",
            ));
        }
        if self.extensions.iter().any(|it| it.name == name) {
            return Err(Refusal::forbidden(
                "Extension.InvalidExtensionState",
                "Extension with this name already registered",
            ));
        }
        if self.extensions.len() >= MAX_EXTENSIONS {
            return Err(Refusal::forbidden(
                "Extension.TooManyExtensions",
                "Extension limit (10) reached",
            ));
        }
        Ok(())
    }

    fn extension(&mut self, id: &str) -> Result<&mut Extension, Refusal> {
        if id.is_empty() {
            return Err(Refusal::forbidden(
                "Extension.MissingExtensionIdentifier",
                "Missing Lambda-Extension-Identifier header",
            ));
        }
        let found = self.extensions.iter_mut().find(|it| it.id == id);
        found.ok_or_else(|| {
            Refusal::forbidden(
                "Extension.UnknownExtensionIdentifier",
                format!("Unknown extension {id}"),
            )
        })
    }
}

/// What a registration asks for: whether INVOKE is in it.
fn subscription(name: &str, body: &[u8]) -> Result<bool, Refusal> {
    if name.is_empty() {
        return Err(Refusal::forbidden(
            "Extension.InvalidExtensionName",
            "Empty extension name",
        ));
    }
    let malformed = || Refusal::forbidden("InvalidRequestFormat", "The body is not as documented");
    let body: Value = serde_json::from_slice(body).map_err(|_| malformed())?;
    let events = match &body["events"] {
        Value::Null => &Vec::new(),
        Value::Array(events) => events,
        _ => return Err(malformed()),
    };
    let mut wants_invoke = false;
    for event in events {
        match event.as_str() {
            Some("INVOKE") => wants_invoke = true,
            other => {
                return Err(Refusal::forbidden(
                    "Extension.InvalidEventType",
                    format!("{}: not an event for internal extensions", other.unwrap_or("?")),
                ));
            }
        }
    }
    Ok(wants_invoke)
}

type HttpResponse = Response<Full<Bytes>>;

/// An error answer of the APIs.
struct Refusal {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, kind, message }
    }

    fn forbidden(kind: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, kind, message)
    }

    fn bad_transition(to: &str) -> Self {
        Self::forbidden(
            "InvalidStateTransition",
            format!("State transition to {to} is not allowed for runtime now"),
        )
    }

    fn bad_extension_state() -> Self {
        Self::forbidden("Extension.InvalidExtensionState", "The extension waits in Next already")
    }

    fn unknown_request() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidRequestID", "Invalid request ID")
    }

    fn too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!("Exceeded maximum allowed payload size ({PAYLOAD_LIMIT} bytes)."),
        )
    }

    fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", "404 page not found")
    }

    fn into_response(self) -> HttpResponse {
        let body = json!({"errorMessage": self.message, "errorType": self.kind});
        respond(self.status, &body)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status.as_u16(), self.kind)
    }
}

fn accepted() -> HttpResponse {
    respond(StatusCode::ACCEPTED, &json!({"status": "OK"}))
}

fn respond(status: StatusCode, body: &Value) -> HttpResponse {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Full::new(body.to_string().into()))
        .expect("the headers are valid")
}

async fn accept(listener: TcpListener, api: Arc<Api>, rig: std::sync::Weak<Inner>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        if let Some(rig) = rig.upgrade() {
            lock(&rig.history).connections += 1;
        }
        // Without it a delayed acknowledgement would show in the timings.
        stream.set_nodelay(true).expect("Nagle can be switched off");
        let (api, rig) = (api.clone(), rig.clone());
        let service = service_fn(move |request| serve(api.clone(), rig.clone(), request));
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        connections.spawn(connection);
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(
    api: Arc<Api>,
    rig: std::sync::Weak<Inner>,
    request: Request<Incoming>,
) -> Result<HttpResponse, Infallible> {
    let line = format!("{} {}", request.method(), request.uri().path());
    let answer = route(&api, request).await.unwrap_or_else(|refusal| {
        if let Some(rig) = rig.upgrade() {
            lock(&rig.history).refusals.push(format!("{line}: {refusal}"));
        }
        refusal.into_response()
    });
    Ok(answer)
}

async fn route(api: &Api, request: Request<Incoming>) -> Result<HttpResponse, Refusal> {
    let (head, body) = request.into_parts();
    let header = |name| {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    };
    // Read to its end also when it is too large, so that the refusal arrives and the connection
    // stays usable.
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "TruncatedHTTPRequest", ""));
        }
    };
    let path: Vec<&str> = head.uri.path().split('/').skip(1).collect();
    let post = head.method == Method::POST;
    if let (true, ["2018-06-01", "runtime", "invocation", id, "response" | "error"]) = (post, path.as_slice())
        && header(INVOCATION_ID) != invocation_id(id)
    {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "InvalidInvocationID",
            header(INVOCATION_ID),
        ));
    }
    match (&head.method, path.as_slice()) {
        (&Method::GET, ["2018-06-01", "runtime", "invocation", "next"]) => api.runtime_next().await,
        (_, ["2018-06-01", "runtime", "invocation", id, "response"]) if post => {
            let answer = if body.len() > PAYLOAD_LIMIT {
                Answer::TooLarge(body.len())
            } else {
                Answer::Reply(body.into())
            };
            api.answer(id, answer)
        }
        (_, ["2018-06-01", "runtime", "invocation", id, "error"]) if post => {
            api.answer(id, Answer::FunctionError(body.into()))
        }
        (_, ["2018-06-01", "runtime", "init", "error"]) if post => api.init_error(body.into()),
        (_, ["2020-01-01", "extension", "register"]) if post => api.register(header("lambda-extension-name"), &body),
        (&Method::GET, ["2020-01-01", "extension", "event", "next"]) => {
            api.extension_next(header("lambda-extension-identifier")).await
        }
        (_, ["2020-01-01", "extension", "init" | "exit", "error"]) if post => {
            api.extension_error(header("lambda-extension-identifier"), body.into())
        }
        _ => Err(Refusal::not_found()),
    }
}

/// Tells an answer to an invocation from a late one to an earlier attempt; whoever answers hands it back.
const INVOCATION_ID: &str = "lambda-runtime-invocation-id";

fn invocation_id(request_id: &str) -> String {
    format!("1/{request_id}")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that panicked elsewhere must not hide its message behind a poisoned lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A random UUID (version 4): unlike a counter, distinct over several rigs and runs too.
fn new_uuid() -> String {
    let (high, low) = (random(), random());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | ((low >> 48) & 0x3fff),
        low & 0xffff_ffff_ffff
    )
}

fn new_trace_id(epoch_seconds: u64) -> String {
    let tail = random() & 0xffff_ffff;
    let (root, parent) = (random(), random());
    format!("Root=1-{epoch_seconds:08x}-{root:016x}{tail:08x};Parent={parent:016x};Sampled=0")
}
