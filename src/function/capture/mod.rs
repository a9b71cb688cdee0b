//! The role `capture`: a request becomes the pixel, and an event in the index.
//!
//! The visitor is answered first. Lambda forwards the function's response as soon as it has it, even while extensions
//! still run, and counts the invocation as over only when the runtime and every extension ask for the next event. So
//! the process registers itself as an internal extension, and indexes between the reply and its own "next" (AWS Lambda
//! developer guide, "Lambda Extensions API"). A task that is only left running after the reply would be frozen.

mod extension;

use crate::destination::log_lines;
use crate::hit::settings::Lookups;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use lambda_runtime::Diagnostic;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::api::Api;
use super::invocations::{Invocation, Invocations};
use super::{BoxError, DEADLINE_MARGIN, Function, log};
use crate::client::codes::{CodeLookup, look_up_code};
use crate::config::{CodeStanding, Config, Journal, ReplyOrder, Variables};
use crate::destination::Destination;
use crate::destination::counts::Counts;
use crate::hit::answer;
use crate::hit::answer::Answer;
use crate::hit::event::Event;
use crate::hit::outcome::{Ignored, Outcome};
use crate::hit::read::{RequestContext, code_of};
use crate::hit::request::{Ingress, Request};

/// Runs the role.
pub(super) async fn run(variables: &Variables) -> Result<(), BoxError> {
    let capture = Arc::new(Capture::new(variables));
    match capture.function.config.reply {
        ReplyOrder::First => reply_first(capture, variables).await,
        ReplyOrder::AfterIndexing => {
            let preparation = tokio::spawn(Arc::clone(&capture).prepare());
            reply_after_indexing(capture, variables, preparation).await
        }
    }
}

/// Registers the extension, prepares the connection at the same time, and alternates between runtime and extension.
async fn reply_first(capture: Arc<Capture>, variables: &Variables) -> Result<(), BoxError> {
    let (replied, jobs) = mpsc::unbounded_channel();
    let preparation = tokio::spawn(Arc::clone(&capture).prepare());
    let extension = match extension::Extension::register(Api::new(variables)?).await {
        Ok(extension) => extension,
        Err(reason) => {
            log(&refused_line(&reason.to_string()));
            return reply_after_indexing(capture, variables, preparation).await;
        }
    };
    let replying = reply(&capture, Invocations::new(variables)?, replied);
    tokio::try_join!(replying, extension.run(&capture, jobs, preparation)).map(|_| ())
}

/// Returns the log line of a registration that was refused.
fn refused_line(reason: &str) -> Value {
    let reason = format!(
        "cannot register the extension that works after the reply: {reason}; every hit is indexed before its reply, as with `PIXEL_REPLY=after-indexing`"
    );
    json!({"level": "WARN", "message": "extension", "reason": reason})
}

/// Answers one invocation after the other, and hands over the remaining work once each reply has been sent, even if the
/// sending failed.
async fn reply(
    capture: &Capture,
    mut invocations: Invocations,
    replied: mpsc::UnboundedSender<Option<Job>>,
) -> Result<(), BoxError> {
    loop {
        let invocation = invocations.next().await?;
        let (reply, job) = capture.answer(&invocation);
        let sent = invocations.end(&invocation, reply).await;
        // The extension lives as long as this: both end together.
        let _ = replied.send(job);
        sent?;
    }
}

/// Indexes each hit, then answers its visitor, who waits meanwhile: so the budget is the one for hits that are waited for.
async fn reply_after_indexing(
    capture: Arc<Capture>,
    variables: &Variables,
    preparation: JoinHandle<()>,
) -> Result<(), BoxError> {
    // Begun already, finished while the first event is awaited.
    let mut preparation = Some(preparation);
    let budget = capture.function.config.timing.budget;
    let mut invocations = Invocations::new(variables)?;
    loop {
        let invocation = invocations.next().await?;
        let (reply, job) = capture.answer(&invocation);
        if let Some(job) = job {
            // Wait for the warm-up connection, so that the first hit does not open a second one.
            if let Some(preparation) = preparation.take() {
                let _ = tokio::time::timeout(extension::WARM_UP_TIMEOUT, preparation).await;
            }
            finish(&capture, job, budget).await;
        }
        invocations.end(&invocation, reply).await?;
    }
}

/// The work that remains after the reply to an invocation.
#[derive(Debug)]
struct Job {
    work: Work,
    /// The deadline of the invocation.
    deadline: SystemTime,
}

#[derive(Debug)]
enum Work {
    /// A request from which the event is still to be made.
    Request { request: Box<Request>, invocation: String },
    /// An event that is in the log already.
    Event(Box<Event>),
}

impl Work {
    /// Returns the ingress of the request; none for an event that is in the log already, because the log has it.
    fn ingress(&self) -> Option<Ingress> {
        match self {
            Self::Request { request, .. } => Some(request.ingress),
            Self::Event(_) => None,
        }
    }
}

/// The role's parts, made once per sandbox.
#[derive(Debug)]
struct Capture {
    function: Function,
}

/// The budget when the clock contradicts the deadline.
const BUDGET_IF_CLOCK_IS_WRONG: Duration = Duration::from_millis(500);

impl Capture {
    fn new(variables: &Variables) -> Self {
        let function = Function::new(variables);
        if let Some(reason) = explain_no_lookup(&function) {
            log(&json!({"level": "WARN", "message": "configuration", "reason": reason}));
        }
        Self { function }
    }

    async fn prepare(self: Arc<Self>) {
        self.function.router.prepare().await;
    }

    /// Returns the reply, and the work that remains after it.
    fn answer(&self, invocation: &Invocation) -> (Result<String, Diagnostic>, Option<Job>) {
        let payload = invocation.payload.as_bytes();
        let config = &self.function.config;
        match answer::catch_panic(payload, || answer::answer(payload, &config.settings())) {
            Answer::Accepted { reply, request } => {
                let job = Job {
                    work: self.begin(request, invocation.id.clone()),
                    deadline: invocation.deadline,
                };
                (Ok(reply), Some(job))
            }
            Answer::Ignored { reply, ingress, why } => {
                let mut line = log_lines::ignored_line(ingress, why);
                self.count_one(&mut line, &Outcome::Ignored(why));
                log(&line);
                (Ok(reply), None)
            }
            Answer::Refused(error) => {
                let mut line = json!({"level": "ERROR", "message": "hit", "outcome": "ignored", "reason": error.reason(), "detail": error.to_string()});
                self.count_one(&mut line, &Outcome::Ignored(Ignored::Unreadable(error.reason())));
                log(&line);
                let error = Diagnostic {
                    error_type: "Refused".to_owned(),
                    error_message: error.to_string(),
                };
                (Err(error), None)
            }
        }
    }

    /// Does the part of the work that comes before the reply: nothing, unless there is a journal.
    fn begin(&self, request: Box<Request>, invocation: String) -> Work {
        if self.function.config.journal == Journal::None {
            return Work::Request { request, invocation };
        }
        let context = self.request_context(invocation.clone());
        let spare = request.clone();
        // A panic costs the journal's line, and never the reply.
        let made = catch_unwind(AssertUnwindSafe(|| {
            answer::build_event(*spare, &context, &self.function.config.settings(), &Lookups::none())
        }));
        match made {
            Ok(event) => {
                log(&log_lines::journal_line(&event));
                Work::Event(Box::new(event))
            }
            Err(_) => Work::Request { request, invocation },
        }
    }

    fn request_context(&self, invocation: String) -> RequestContext {
        RequestContext {
            now: chrono::Utc::now(),
            invocation,
            trusted_hops: self.function.config.trusted_hops,
        }
    }

    /// Looks up the status of a request's code, if that is configured; an index that is known to be down is not asked.
    async fn look_up_status(&self, request: &Request, time: Duration) -> Result<CodeLookup, String> {
        let Function { config, router, .. } = &self.function;
        let (CodeStanding::Index, Ok(index)) = (config.code_standing, router.index()) else {
            return Ok(CodeLookup::default());
        };
        let Some(code) = code_of(request) else {
            return Ok(CodeLookup::default());
        };
        if index.breaker_state() != "closed" {
            return Err("the circuit breaker is not closed".to_owned());
        }
        let lookup = look_up_code(index, &code, time).await;
        lookup.map_err(|error| error.to_string())
    }

    fn count_one(&self, line: &mut Value, outcome: &Outcome) {
        let mut counts = Counts::default();
        counts.add(outcome);
        self.function.count(line, &counts);
    }
}

/// Returns the reason why codes are not looked up although the configuration asks for it.
fn explain_no_lookup(function: &Function) -> Option<String> {
    if function.config.code_standing == CodeStanding::None {
        return None;
    }
    let why = match (function.config.journal, function.router.index()) {
        (Journal::Log, _) => {
            "`PIXEL_JOURNAL` is `log`, which writes the event before its code can be looked up".to_owned()
        }
        (Journal::None, Err(_)) if matches!(function.config.destination, Some(Destination::Message(_))) => {
            "`PIXEL_DESTINATION` is not an index; behind a queue, set it where `Handler: index` reads that".to_owned()
        }
        (Journal::None, Err(reason)) => reason,
        (Journal::None, Ok(_)) => return None,
    };
    Some(format!("`PIXEL_CODE_STANDING` has no effect: {why}"))
}

/// Returns the budget of a delivery that begins now: the remaining time of the invocation without the margin. A job
/// begins right after its reply, so a deadline in the past means a wrong clock, and the hit gets
/// [`BUDGET_IF_CLOCK_IS_WRONG`].
fn remaining_budget(deadline: SystemTime, now: SystemTime, budget: Duration) -> Duration {
    let left = deadline.duration_since(now).unwrap_or_default();
    budget.min(
        left.checked_sub(DEADLINE_MARGIN)
            .filter(|left| !left.is_zero())
            .unwrap_or(BUDGET_IF_CLOCK_IS_WRONG),
    )
}

/// Returns the part of a budget that the look-up of a code may take. A paused index wakes up meanwhile, and then stores
/// at once.
fn lookup_time(budget: Duration, config: &Config) -> Duration {
    let can_pause = config.destination.as_ref().is_some_and(Destination::can_pause);
    let part = if can_pause { budget * 3 / 4 } else { budget / 4 };
    part.min(config.destination_timing().attempt)
}

/// Makes the event of a job and delivers it within the remaining time of the invocation. A panic is this hit's outcome
/// and does not end the function.
async fn finish(capture: &Capture, job: Job, budget: Duration) {
    let ingress = job.work.ingress();
    let mut delivery = pin!(deliver_job(capture, job, budget));
    let guarded = poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| delivery.as_mut().poll(context)));
        polled.map_or(Poll::Ready(Err(())), |polled| polled.map(Ok))
    });
    if guarded.await.is_err() {
        let mut line = json!({"level": "ERROR", "message": "hit", "outcome": "failed", "reason": "panic", "ingress": ingress.map(Ingress::name)});
        let mut counts = Counts::default();
        counts.add_named("failed");
        capture.function.count(&mut line, &counts);
        log(&line);
    }
}

async fn deliver_job(capture: &Capture, job: Job, budget: Duration) {
    let started = Instant::now();
    let function = &capture.function;
    let config = &function.config;
    let mut unknown = None;
    let event = match job.work {
        Work::Request { request, invocation } => {
            let context = capture.request_context(invocation);
            let time = lookup_time(remaining_budget(job.deadline, SystemTime::now(), budget), config);
            let lookup = capture.look_up_status(&request, time).await.unwrap_or_else(|reason| {
                unknown = Some(reason);
                CodeLookup::default()
            });
            if lookup.opted_out {
                let why = Ignored::OptedOut;
                let mut line = log_lines::ignored_line(request.ingress, why);
                capture.count_one(&mut line, &Outcome::Ignored(why));
                log(&line);
                return;
            }
            let lookups = Lookups {
                code_status: &|_| lookup.status.clone(),
                ..Lookups::none()
            };
            answer::build_event(*request, &context, &config.settings(), &lookups)
        }
        Work::Event(event) => *event,
    };
    let budget = remaining_budget(job.deadline, SystemTime::now(), budget);
    let delivered = function.router.deliver(&event, budget).await;
    let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut line = log_lines::log_line(&event, &delivered, function.router.name(), milliseconds);
    if let Some(reason) = unknown {
        line["code_standing"] = format!("unknown: {reason}").into();
    }
    function.note_clock(&mut line);
    capture.count_one(&mut line, &delivered.outcome);
    log(&line);
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::log_panics;
    use super::*;

    /// A text in the visitor's request, and in the message of a panic.
    const SECRET: &str = "hush-hush";

    /// The variable of the process whose log is read; the panic hook applies to the whole process.
    const CHILD: &str = "TEST_OF_PANICS";

    /// Returns a capture under which reading a hit panics: the number of hops overflows, which tests do not allow.
    fn faulty(journal: Journal) -> Arc<Capture> {
        let mut capture = Capture::new(&Variables::new());
        capture.function.config.trusted_hops = usize::MAX;
        capture.function.config.journal = journal;
        Arc::new(capture)
    }

    async fn panic_everywhere() {
        log_panics();
        let _ = catch_unwind(|| panic!("{SECRET}"));
        let payload = json!({
            "params": {"querystring": {"token": SECRET}},
            "context": {"resource-path": "/pixel.gif", "source-ip": "198.51.100.7", "request-time-epoch": "1769903999999"},
        });
        for journal in [Journal::None, Journal::Log] {
            let Answer::Accepted { request, .. } =
                answer::answer(payload.to_string().as_bytes(), &Config::default().settings())
            else {
                panic!("it is a hit");
            };
            let capture = faulty(journal);
            let work = capture.begin(request, "id-1".to_owned());
            assert!(
                matches!(work, Work::Request { .. }),
                "what could not be made is tried again"
            );
            let deadline = SystemTime::now() + Duration::from_secs(10);
            // The caller goes on.
            finish(&capture, Job { work, deadline }, Duration::from_secs(5)).await;
        }
    }

    #[tokio::test]
    async fn a_panic_costs_one_hit_is_counted_and_tells_nothing_of_the_visitor() {
        if std::env::var_os(CHILD).is_some() {
            return panic_everywhere().await;
        }
        let own = std::env::current_exe().expect("a test is a program");
        let name = "function::capture::tests::a_panic_costs_one_hit_is_counted_and_tells_nothing_of_the_visitor";
        let mut child = Command::new(own);
        child.args(["--exact", name, "--nocapture"]).env(CHILD, "1");
        let ended = child.output().expect("it starts");
        let log = String::from_utf8_lossy(&ended.stdout).into_owned();
        let all = format!("{log}{}", String::from_utf8_lossy(&ended.stderr));
        assert!(ended.status.success() && !all.contains(SECRET), "{all}");
        // The test harness writes to some lines, too.
        let lines = log.lines().filter_map(|line| line.find('{').map(|at| &line[at..]));
        let lines: Vec<Value> = lines.filter_map(|line| serde_json::from_str(line).ok()).collect();
        let panics: Vec<_> = lines.iter().filter(|line| line["message"] == "panic").collect();
        // The one of this test; in the event; before the reply, for the journal, and in the event again.
        assert_eq!(panics.len(), 4, "{all}");
        for line in panics {
            let place = line["place"].as_str().unwrap_or_default();
            assert!(place.contains(".rs:"), "{line}");
            assert_eq!(line, &json!({"level": "ERROR", "message": "panic", "place": place}));
        }
        let hits: Vec<_> = lines.iter().filter(|line| line.get("outcome").is_some()).collect();
        assert_eq!(hits.len(), 2, "{all}");
        for line in hits {
            let expected = [
                ("level", json!("ERROR")),
                ("outcome", json!("failed")),
                ("reason", json!("panic")),
                ("ingress", json!("passthrough")),
                ("Failed", json!(1)),
            ];
            for (name, value) in expected {
                assert_eq!(line[name], value, "{name} of {line}");
            }
        }
    }
}
