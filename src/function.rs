//! The shell of the Lambda function: the Runtime API, the Extensions API, the log.
//!
//! The visitor is answered first. Lambda sends the function's response on as soon as it has it, even while extensions
//! still run, and counts the invocation as over only when the runtime and every extension ask for the next event. So the
//! process registers itself as an internal extension, and indexes between the reply and its own "next"
//! (AWS Lambda developer guide, "Lambda Extensions API"). A task merely left running after the reply would be frozen.

mod care;
mod extension;
mod index;
mod manage;
mod replied;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use lambda_runtime::{Context, LambdaEvent, Runtime, service_fn};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::aws::courier::Courier;
use crate::aws::credentials;
use crate::capture::{self, Answer};
use crate::config::{Config, Journal, ReplyOrder, Variables};
use crate::delivery::counts::Counts;
use crate::delivery::{Ignored, Outcome};
use crate::event::Event;
use crate::hit::Circumstances;
use crate::request::{DecodeError, Ingress, Request};

/// What the function's `Handler` can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A request becomes the pixel and an event.
    Capture,
    /// The index is made ready; also CloudFormation's custom resource.
    Setup,
    /// Old indices are deleted.
    Prune,
    /// A queue's messages go to the index.
    Index,
    /// Codes and statistics are asked for.
    Manage,
}

impl Role {
    /// All of them, with their handler's names.
    pub const ALL: [(&'static str, Self); 5] = [
        ("capture", Self::Capture),
        ("setup", Self::Setup),
        ("prune", Self::Prune),
        ("index", Self::Index),
        ("manage", Self::Manage),
    ];

    /// The role of a handler's name. `bootstrap` is what deployment tools write when nobody has chosen a name.
    ///
    /// # Errors
    ///
    /// The message to show, which lists the known names.
    pub fn of(handler: &str) -> Result<Self, String> {
        let known = Self::ALL
            .iter()
            .find(|(name, _)| *name == handler || (*name == "capture" && handler == "bootstrap"));
        known.map(|(_, role)| *role).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|(name, _)| format!("`{name}`")).collect();
            format!(
                "`{handler}` is no handler of this function; set `Handler` to one of {}",
                names.join(", ")
            )
        })
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Runs the function until Lambda ends the sandbox.
pub fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|info| {
        // The message could quote what a visitor sent, the place cannot.
        let place = info.location().map(ToString::to_string);
        log(&json!({"level": "ERROR", "message": "panic", "place": place}));
    }));
    let variables: Variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime
        .map_err(BoxError::from)
        .and_then(|runtime| runtime.block_on(run(&variables)))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&json!({"level": "ERROR", "message": "the function stops", "reason": error.to_string()}));
            ExitCode::FAILURE
        }
    }
}

async fn run(variables: &Variables) -> Result<(), BoxError> {
    let handler = variables.get("_HANDLER").map_or("capture", String::as_str);
    let role = match Role::of(handler) {
        Ok(role) => role,
        Err(reason) => {
            extension::report_init_error(variables, "UnknownHandler", &reason).await;
            return Err(reason.into());
        }
    };
    match role {
        Role::Capture => run_capture(variables).await,
        Role::Setup => care::run_setup(variables).await,
        Role::Prune => care::run_prune(variables).await,
        Role::Index => index::run(variables).await,
        Role::Manage => manage::run(variables).await,
    }
}

async fn run_capture(variables: &Variables) -> Result<(), BoxError> {
    let function = Arc::new(Function::new(variables));
    match function.config.reply {
        ReplyOrder::First => reply_first(function, variables).await,
        ReplyOrder::AfterIndexing => reply_after_indexing(function).await,
    }
}

/// Registers the extension, prepares the connection meanwhile, and lets runtime and extension take turns.
async fn reply_first(function: Arc<Function>, variables: &Variables) -> Result<(), BoxError> {
    let (replied, jobs) = mpsc::unbounded_channel();
    let preparation = tokio::spawn(Arc::clone(&function).prepare());
    let extension = extension::Extension::register(variables).await?;
    let handler = Arc::clone(&function);
    let runtime = Runtime::new(service_fn(move |invocation: LambdaEvent<Box<RawValue>>| {
        let reply = handler.answer_first(&invocation);
        async move { reply }
    }));
    let layer = replied::RepliedLayer::new(Arc::clone(&function), replied);
    let indexing = extension.run(function, jobs, preparation);
    tokio::try_join!(runtime.layer(layer).run(), indexing).map(|_| ())
}

async fn reply_after_indexing(function: Arc<Function>) -> Result<(), BoxError> {
    // Asked for now, finished while the first event is on its way.
    let _preparation = tokio::spawn(Arc::clone(&function).prepare());
    let handler = Arc::clone(&function);
    let runtime = Runtime::new(service_fn(move |invocation: LambdaEvent<Box<RawValue>>| {
        let function = Arc::clone(&handler);
        async move {
            let reply = function.answer_first(&invocation);
            if let Some(job) = function.take_job() {
                finish(function, job).await;
            }
            reply
        }
    }));
    runtime.layer(replied::ReadableLayer).run().await
}

/// What one invocation leaves to do after its reply.
#[derive(Debug)]
struct Job {
    work: Work,
    /// When the invocation must be over.
    deadline: SystemTime,
}

#[derive(Debug)]
enum Work {
    /// The event is still to be made.
    Request { request: Box<Request>, invocation: String },
    /// The event stands in the log already.
    Event(Box<Event>),
}

impl Work {
    /// Of an event that is in the log already, the log says it.
    fn ingress(&self) -> Option<Ingress> {
        match self {
            Self::Request { request, .. } => Some(request.ingress),
            Self::Event(_) => None,
        }
    }
}

/// The function's parts, made once per sandbox.
#[derive(Debug)]
struct Function {
    config: Config,
    courier: Courier,
    /// The function's name, under which its outcomes are counted.
    name: String,
    job: Mutex<Option<Job>>,
}

const NO_KEY: &str = "`PIXEL_PRIVACY_KEY` is not set: every sandbox hashes with a random key of its own, so a visitor or user of two sandboxes counts as two";

const NO_GEO_FILE: &str = "`PIXEL_GEO_FILE` is set, and the function reads no such file: countries are those of the edge's headers, such as CloudFront's";

/// The budget when the clock contradicts the deadline.
const BLIND: Duration = Duration::from_millis(500);

/// Left of the deadline for the log line and the next "next".
const MARGIN: Duration = Duration::from_millis(100);

impl Function {
    /// Reads the configuration. What is wrong with it is logged; the visitors are answered all the same, and their events
    /// are logged whole.
    fn new(variables: &Variables) -> Self {
        let (config, problems) = Config::read(variables);
        for problem in &problems {
            log(&json!({"level": "ERROR", "message": "configuration", "reason": problem.to_string()}));
        }
        let (courier, problems) = Courier::new(&config, credentials::from_environment(variables).as_ref());
        for reason in problems {
            log(&json!({"level": "ERROR", "message": "configuration", "reason": reason}));
        }
        if !config.has_key {
            log(&json!({"level": "WARN", "message": "configuration", "reason": NO_KEY}));
        }
        if config.geo_file.is_some() {
            log(&json!({"level": "WARN", "message": "configuration", "reason": NO_GEO_FILE}));
        }
        let name = variables.get("AWS_LAMBDA_FUNCTION_NAME");
        Self {
            config,
            courier,
            name: name.map_or("pixel", String::as_str).to_owned(),
            job: Mutex::new(None),
        }
    }

    async fn prepare(self: Arc<Self>) {
        self.courier.prepare().await;
    }

    /// The reply; what is left to do is kept for [`Self::take_job`].
    fn answer_first(&self, invocation: &LambdaEvent<Box<RawValue>>) -> Result<Box<RawValue>, BoxError> {
        let payload = invocation.payload.get().as_bytes();
        let config = &self.config;
        let answer = || {
            if payload == replied::NOT_JSON.as_bytes() {
                return capture::fallback(Ingress::Passthrough, Ignored::Unreadable(DecodeError::NotJson.reason()));
            }
            capture::answer_for(payload, config)
        };
        let reply = match capture::guarded(payload, answer) {
            Answer::Accepted { reply, request } => {
                self.keep_job(Job {
                    work: self.begin(request, invocation.context.request_id.clone()),
                    deadline: deadline(&invocation.context),
                });
                reply
            }
            Answer::Ignored { reply, ingress, why } => {
                let mut line = capture::ignored_line(ingress, why);
                self.count_one(&mut line, &Outcome::Ignored(why));
                log(&line);
                reply
            }
            Answer::Refused(error) => {
                log(
                    &json!({"level": "ERROR", "message": "hit", "outcome": "ignored", "reason": error.reason(), "detail": error.to_string()}),
                );
                return Err(error.into());
            }
        };
        Ok(RawValue::from_string(reply)?)
    }

    /// What is done of the work before the reply: nothing, unless there is a journal.
    fn begin(&self, request: Box<Request>, invocation: String) -> Work {
        if self.config.journal == Journal::None {
            return Work::Request { request, invocation };
        }
        let circumstances = self.circumstances(invocation.clone());
        let spare = request.clone();
        // A panic costs the journal's line, and never the reply.
        let made = catch_unwind(AssertUnwindSafe(|| {
            capture::event(*spare, &circumstances, &self.config)
        }));
        match made {
            Ok(event) => {
                log(&capture::journal_line(&event));
                Work::Event(Box::new(event))
            }
            Err(_) => Work::Request { request, invocation },
        }
    }

    fn circumstances(&self, invocation: String) -> Circumstances {
        Circumstances {
            now: chrono::Utc::now(),
            invocation,
            trusted_hops: self.config.trusted_hops,
        }
    }

    /// Adds to a log line what makes `CloudWatch` count.
    fn count(&self, line: &mut Value, counts: &Counts) {
        counts.embed(line, &self.name, chrono::Utc::now().timestamp_millis());
    }

    /// Adds to a log line that the index's clock differs from ours, where it has said so.
    fn note_clock(&self, line: &mut Value) {
        let seconds = self.courier.clock_offset();
        if seconds != 0 {
            line["clock_offset_seconds"] = seconds.into();
        }
    }

    fn count_one(&self, line: &mut Value, outcome: &Outcome) {
        let mut counts = Counts::default();
        counts.add(outcome);
        self.count(line, &counts);
    }

    fn keep_job(&self, job: Job) {
        *self.job.lock().unwrap_or_else(PoisonError::into_inner) = Some(job);
    }

    fn take_job(&self) -> Option<Job> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn deadline(context: &Context) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(context.deadline)
}

/// The budget of a delivery that begins now: what is left of the invocation, the margin taken off. A job begins right after
/// its reply, so a deadline that is over already means a wrong clock, and the hit gets [`BLIND`].
fn within(deadline: SystemTime, now: SystemTime, budget: Duration) -> Duration {
    let left = deadline.duration_since(now).unwrap_or_default();
    budget.min(left.checked_sub(MARGIN).filter(|left| !left.is_zero()).unwrap_or(BLIND))
}

/// Makes the event of a job and delivers it within what is left of the invocation. A panic on the way is this hit's
/// outcome, not the function's end.
async fn finish(function: Arc<Function>, job: Job) {
    let spare = Arc::clone(&function);
    let ingress = job.work.ingress();
    if tokio::spawn(deliver_job(function, job)).await.is_err() {
        let mut line = json!({"level": "ERROR", "message": "hit", "outcome": "failed", "reason": "panic", "ingress": ingress.map(Ingress::name)});
        let mut counts = Counts::default();
        counts.add_named("failed");
        spare.count(&mut line, &counts);
        log(&line);
    }
}

async fn deliver_job(function: Arc<Function>, job: Job) {
    let begun = Instant::now();
    let config = &function.config;
    let event = match job.work {
        Work::Request { request, invocation } => capture::event(*request, &function.circumstances(invocation), config),
        Work::Event(event) => *event,
    };
    let budget = within(job.deadline, SystemTime::now(), config.timing.budget);
    let delivered = function.courier.deliver(&event, budget).await;
    let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut line = capture::log_line(&event, &delivered, function.courier.name(), milliseconds);
    function.note_clock(&mut line);
    function.count_one(&mut line, &delivered.outcome);
    log(&line);
}

/// One line to the log. A log that cannot be written is no reason to fail a visitor.
fn log(line: &Value) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
