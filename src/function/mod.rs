//! The shell of the Lambda function: the Runtime API, the Extensions API, the log.
//!
//! One program has every role; the function's `Handler` chooses.

mod api;
mod capture;
mod care;
mod index;
mod invocations;
mod manage;
mod readable;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::LocalOptions;

use crate::client::credentials;
use crate::client::router::Router;
use crate::config::{Config, Variables};
use crate::destination::counts::Counts;

/// The roles, chosen by the function's `Handler`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Answers a hit with the pixel and stores an event.
    Capture,
    /// Sets up the index; also CloudFormation's custom resource.
    Setup,
    /// Deletes old indices.
    Prune,
    /// Delivers a queue's messages to the index.
    Index,
    /// Answers the API of codes and statistics.
    Manage,
}

impl Role {
    /// All roles with their handlers' names.
    pub const ALL: [(&'static str, Self); 5] = [
        ("capture", Self::Capture),
        ("setup", Self::Setup),
        ("prune", Self::Prune),
        ("index", Self::Index),
        ("manage", Self::Manage),
    ];

    /// Parses a handler's name. `bootstrap` is the default of deployment tools.
    ///
    /// # Errors
    ///
    /// The message to show, which lists the known names.
    pub fn parse(handler: &str) -> Result<Self, String> {
        let known = Self::ALL
            .iter()
            .find(|(name, _)| *name == handler || (*name == "capture" && handler == "bootstrap"));
        known.map(|(_, role)| *role).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|(name, _)| format!("`{name}`")).collect();
            format!(
                "`{handler}` is not a handler of this function; set `Handler` to one of {}",
                names.join(", ")
            )
        })
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Runs the function until Lambda ends the sandbox.
pub fn main() -> ExitCode {
    log_panics();
    let variables: Variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    // A runtime of one thread, in the form that leaves the scheduler for several out of the program, and with it the
    // mathematical library, which that calls.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    // In a task of its own: each wake-up of the future on which the runtime blocks also wakes the driver, which costs
    // two system calls and more.
    let ended = runtime.map_err(BoxError::from).and_then(|runtime| {
        runtime.block_on(async { tokio::task::spawn_local(async move { run(&variables).await }).await? })
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&json!({"level": "ERROR", "message": "the function stops", "reason": error.to_string()}));
            ExitCode::FAILURE
        }
    }
}

/// Logs panics by their places only: a message could quote a visitor's data.
fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string);
        log(&json!({"level": "ERROR", "message": "panic", "place": place}));
    }));
}

async fn run(variables: &Variables) -> Result<(), BoxError> {
    let handler = variables.get("_HANDLER").map_or("capture", String::as_str);
    match Role::parse(handler) {
        Ok(Role::Capture) => capture::run(variables).await,
        Ok(Role::Index) => index::run(variables).await,
        Ok(Role::Setup) => care::run_setup(variables).await,
        Ok(Role::Prune) => care::run_prune(variables).await,
        Ok(Role::Manage) => manage::run(variables).await,
        Err(reason) => refuse(variables, reason).await,
    }
}

/// Reports to Lambda and the log the reason why the function does not start.
async fn refuse(variables: &Variables, reason: String) -> Result<(), BoxError> {
    api::report_init_error(variables, "UnknownHandler", &reason).await;
    Err(reason.into())
}

/// The function's parts, made once per sandbox.
#[derive(Debug)]
struct Function {
    config: Config,
    router: Router,
    /// The function's name, under which its outcomes are counted.
    name: String,
}

const NO_KEY: &str = "`PIXEL_PRIVACY_KEY` is not set: every sandbox hashes with a random key of its own, so a visitor or user of two sandboxes counts as two";

const NO_GEO_FILE: &str = "`PIXEL_GEO_FILE` is set, and the function reads no such file: countries are those of the edge's headers, such as CloudFront's";

/// The time before the deadline that is reserved for the log line and the next "next".
const DEADLINE_MARGIN: Duration = Duration::from_millis(100);

impl Function {
    /// Reads the configuration. Errors in it are logged; visitors are answered anyway, and their events are logged
    /// whole.
    fn new(variables: &Variables) -> Self {
        let (config, problems) = Config::read(variables);
        for problem in &problems {
            log(&json!({"level": "ERROR", "message": "configuration", "reason": problem.to_string()}));
        }
        let (router, problems) = Router::new(&config, credentials::from_environment(variables).as_ref());
        for reason in problems {
            log(&json!({"level": "ERROR", "message": "configuration", "reason": reason}));
        }
        if !config.has_key {
            log(&json!({"level": "WARN", "message": "configuration", "reason": NO_KEY}));
        }
        if config.geo_file.is_some() {
            log(&json!({"level": "WARN", "message": "configuration", "reason": NO_GEO_FILE}));
        }
        Self {
            config,
            router,
            name: variables
                .get("AWS_LAMBDA_FUNCTION_NAME")
                .map_or("pixel", String::as_str)
                .to_owned(),
        }
    }
}

impl Function {
    /// Adds the metrics for `CloudWatch` to a log line.
    fn count(&self, line: &mut Value, counts: &Counts) {
        counts.embed(line, &self.name, chrono::Utc::now().timestamp_millis());
    }

    /// Adds to a log line the difference between the index's clock and ours, if it is known.
    fn note_clock(&self, line: &mut Value) {
        let seconds = self.router.clock_offset();
        if seconds != 0 {
            line["clock_offset_seconds"] = seconds.into();
        }
    }
}

fn deadline(context: &lambda_runtime::Context) -> std::time::SystemTime {
    std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(context.deadline)
}

/// Writes one line to the log, in one piece. A failure is ignored, because the visitor must be answered.
fn log(line: &Value) {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    let _ = std::io::stdout().lock().write_all(&text);
}
