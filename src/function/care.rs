//! The roles that maintain the index: `setup`, as CloudFormation's custom resource or by hand, and `prune`, on a
//! schedule.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{Days, Utc};
use lambda_runtime::{Diagnostic, LambdaEvent, Runtime, service_fn};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::readable::ReadableLayer;
use super::{BoxError, Function, deadline, log};
use crate::client::http::{Deliverer, http_client};
use crate::config::{Config, Variables};
use crate::setup::dashboards::session::{ImportOptions, import};
use crate::setup::dashboards::{EXAMPLES, ImportProperties, Place, objects, place};
use crate::setup::plan::Plan;
use crate::setup::prune::{Fate, delete, judge};
use crate::setup::resource::{ResourceRequest, UnreadableRequest};
use crate::setup::run;

/// The time reserved for the response to CloudFormation, which otherwise waits for an hour.
const CALLBACK_RESERVE: Duration = Duration::from_secs(3);

/// Runs the role `setup`.
pub(super) async fn run_setup(variables: &Variables) -> Result<(), BoxError> {
    let function = Arc::new(Function::new(variables));
    let handler = service_fn(|invocation: LambdaEvent<Box<RawValue>>| setup(Arc::clone(&function), invocation));
    Runtime::new(handler).layer(ReadableLayer).run().await
}

/// Runs the role `prune`.
pub(super) async fn run_prune(variables: &Variables) -> Result<(), BoxError> {
    let function = Function::new(variables);
    let handler = service_fn(|invocation: LambdaEvent<Box<RawValue>>| {
        let function = &function;
        async move {
            with_deadline(deadline(&invocation.context), prune(function))
                .await
                .map_err(|reason| failure("PruneFailed", reason))
        }
    });
    Runtime::new(handler).layer(ReadableLayer).run().await
}

/// Sets up the index and always reports the result to CloudFormation. Without CloudFormation, the result is the reply.
async fn setup(function: Arc<Function>, invocation: LambdaEvent<Box<RawValue>>) -> Result<Value, Diagnostic> {
    let payload = invocation.payload.get();
    let deadline = deadline(&invocation.context);
    let (request, unreadable) = match ResourceRequest::read(payload) {
        Some(Ok(request)) => (Some(request), None),
        Some(Err(UnreadableRequest { request, reason })) => (Some(request), Some(reason)),
        None => (None, None),
    };
    let properties = properties(payload);
    let deleting = request.as_ref().is_some_and(ResourceRequest::is_delete);
    let result = if let Some(reason) = unreadable {
        Err(reason)
    } else if deleting {
        Ok(json!({"kept": "the index and its events stay; delete them yourself if you want to"}))
    } else {
        // As a task, so that a panic is reported like other failures; at the deadline it is aborted with the set.
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { make_ready(&function, &properties).await });
        let finished = async {
            match tasks.join_next().await {
                Some(Ok(result)) => result,
                _ => Err("panic; the log says where".to_owned()),
            }
        };
        with_deadline(deadline, finished).await
    };
    log(&json!({
        "level": if result.is_ok() { "INFO" } else { "ERROR" },
        "message": "setup",
        "result": result.as_ref().ok(),
        "reason": result.as_ref().err(),
    }));
    match request {
        Some(request) => {
            let sent = send_result(&request, &result, deadline).await;
            sent.map(|()| Value::Null)
                .map_err(|reason| failure("CloudFormationNotTold", reason.to_string()))
        }
        None => result.map_err(|reason| failure("SetupFailed", reason)),
    }
}

fn failure(kind: &str, reason: String) -> Diagnostic {
    Diagnostic {
        error_type: kind.to_owned(),
        error_message: reason,
    }
}

/// Returns the result, or at the deadline an error with its remedy.
async fn with_deadline(
    deadline: SystemTime,
    work: impl Future<Output = Result<Value, String>>,
) -> Result<Value, String> {
    let left = deadline
        .duration_since(SystemTime::now())
        .unwrap_or_default()
        .saturating_sub(CALLBACK_RESERVE);
    match tokio::time::timeout(left, work).await {
        Ok(result) => result,
        Err(_) => Err(format!(
            "not finished after {} s, shortly before the function's time-out; is the destination reachable from the function's network? Run it again: it goes on where it stopped",
            left.as_secs()
        )),
    }
}

/// Returns the properties of a custom resource; a payload sent by hand may have them as well.
fn properties(payload: &str) -> Value {
    let mut payload: Value = serde_json::from_str(payload).unwrap_or_default();
    let properties = payload.get_mut("ResourceProperties").map(Value::take);
    properties.unwrap_or_default()
}

async fn make_ready(function: &Function, properties: &Value) -> Result<Value, String> {
    let wanted = ImportProperties::from_properties(properties)?;
    let deliverer = function.router.index()?;
    let Config {
        rotation, keep_days, ..
    } = function.config;
    let plan = Plan::new(&deliverer.target().index, rotation, keep_days)?;
    let report = run::run(deliverer, &plan, true)
        .await
        .map_err(|error| error.to_string())?;
    let steps: Vec<String> = report.steps.iter().map(ToString::to_string).collect();
    let destination = format!("{}/{}", deliverer.target().base, plan.index.pattern);
    let dashboards = match wanted {
        Some(wanted) => import_dashboards(function, deliverer, &plan, wanted)
            .await
            .map_err(|reason| format!("the index is ready, the dashboards are not: {reason}"))?,
        None => "not imported: `DashboardsUrl` is empty".to_owned(),
    };
    Ok(json!({
        "Product": report.product.to_string(),
        "Destination": destination,
        "Steps": steps.join("; "),
        "Dashboards": dashboards,
    }))
}

/// Imports the dashboards of this index, and returns a report.
async fn import_dashboards(
    function: &Function,
    deliverer: &Deliverer,
    plan: &Plan,
    wanted: ImportProperties,
) -> Result<String, String> {
    let Place { base, auth, withheld } = place(&wanted.url, deliverer.target(), false)
        .ok_or_else(|| format!("`DashboardsUrl` is not an address; give one as in {EXAMPLES}"))?;
    let objects = objects(&plan.base)?;
    let http = http_client(function.config.ca_file.as_deref(), &function.config.timing);
    let http = http.map_err(|error| error.to_string())?;
    let options = ImportOptions {
        base,
        auth: wanted.auth.unwrap_or(auth),
        withheld,
        tenant: wanted.tenant,
        space: wanted.space,
        differing: wanted.differing,
        write: true,
    };
    let step = import(&http, deliverer.credentials(), &options, &objects).await;
    step.map(|step| step.to_string()).map_err(|error| error.to_string())
}

/// Deletes the indices that are old enough, one after the other; after a time-out, the next run continues.
async fn prune(function: &Function) -> Result<Value, String> {
    let deliverer = function.router.index()?;
    let days = function
        .config
        .keep_days
        .ok_or("set `PIXEL_KEEP_DAYS` to the number of days after which indices are deleted")?;
    let now = Utc::now();
    let before = now
        .checked_sub_days(Days::new(days.into()))
        .ok_or("`PIXEL_KEEP_DAYS` is too large")?;
    let judged = judge(deliverer, before, now).await.map_err(|error| error.to_string())?;
    let mut deleted = Vec::new();
    for index in judged.iter().filter(|index| matches!(index.fate, Fate::Delete { .. })) {
        delete(deliverer, &index.name)
            .await
            .map_err(|error| error.to_string())?;
        log(&json!({"level": "INFO", "message": "pruned", "index": index.name, "events": index.events}));
        deleted.push(index.name.clone());
    }
    Ok(json!({"deleted": deleted, "kept": judged.len() - deleted.len()}))
}

/// The longest wait for one answer of CloudFormation's URL.
const MAX_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause after the first attempt; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between attempts.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// The number of attempts at a URL that refuses the response permanently.
const MAX_REFUSALS: u32 = 3;
/// The time reserved for the invocation's own response.
const REPLY_TIME: Duration = Duration::from_millis(200);

/// Sends the response to CloudFormation's URL, with retries until the deadline.
async fn send_result(
    request: &ResourceRequest,
    result: &Result<Value, String>,
    deadline: SystemTime,
) -> Result<(), BoxError> {
    let client = crate::client::http::http_client(None, &crate::config::Timing::default())?;
    let body = request.answer(result).to_string();
    let (mut pause, mut refusals) = (FIRST_PAUSE, 0);
    let left = || {
        let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
        left.saturating_sub(REPLY_TIME)
    };
    let reason = loop {
        // The URL is signed for a request without a content type.
        let sent = client
            .put(&request.response_url)
            // Leaves time for another attempt if this one hangs.
            .timeout((left() * 2 / 3).min(MAX_ATTEMPT_TIMEOUT))
            .body(body.clone())
            .send()
            .await;
        let reason = match sent.map(|answer| answer.status()) {
            Ok(status) if status.is_success() => return Ok(()),
            Ok(status) => {
                refusals += u32::from(status.is_client_error() && !matches!(status.as_u16(), 408 | 429));
                format!("status {status}")
            }
            Err(error) => error.without_url().to_string(),
        };
        if refusals == MAX_REFUSALS || left() <= pause {
            break reason;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    };
    Err(format!("could not tell CloudFormation the result: {reason}").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::Destination;

    #[test]
    fn no_destination_of_the_command_line_is_set_up() {
        let variables = Variables::from([("PIXEL_DESTINATION".to_owned(), "sqlite:pixel.db".to_owned())]);
        let function = Function::new(&variables);
        assert!(matches!(function.config.destination, Some(Destination::Sqlite(_))));
        assert!(function.router.index().is_err_and(|reason| reason.contains("sqlite:")));
    }
}
