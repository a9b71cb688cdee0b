//! The role `index`: delivers a batch of a queue's messages to the index.
//!
//! Every message has one outcome: it is in the index (now or before), it is in the fallback with the reason, or the
//! response names it, so that it stays in the queue, whose limit of attempts moves it to the dead-letter queue in the
//! end. A message with an unknown outcome stays in the queue.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use chrono::Utc;
use lambda_runtime::Diagnostic;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::invocations::Invocations;
use super::{BoxError, DEADLINE_MARGIN, Function, log};
use crate::client::bulk::BulkTimeouts;
use crate::client::codes::apply_code_status;
use crate::client::http::Deliverer;
use crate::config::{CodeStanding, Timing, Variables};
use crate::destination::bulk::Limits;
use crate::destination::counts::Counts;
use crate::destination::sqs_batch::{BATCH, BatchError, Message, Messages};
use crate::hit::event::Event;
use crate::hit::outcome::{Failure, Ignored, Outcome};
use crate::replay;
use crate::replay::{Origin, ReplayError};

/// Runs the role.
pub(super) async fn run(variables: &Variables) -> Result<(), BoxError> {
    let function = Arc::new(Function::new(variables));
    let prepared = Arc::clone(&function);
    let _preparation = tokio::spawn(async move { prepared.router.prepare().await });
    let mut invocations = Invocations::new(variables)?;
    loop {
        let mut invocation = invocations.next().await?;
        let payload = std::mem::take(&mut invocation.payload);
        let answer = index(&function, payload, invocation.deadline).await;
        let answer = answer.map(|answer| answer.to_string());
        invocations.end(&invocation, answer).await?;
    }
}

async fn index(function: &Arc<Function>, payload: String, deadline: SystemTime) -> Result<Value, Diagnostic> {
    let started = Instant::now();
    let Ok(messages) = Messages::parse(payload) else {
        return Err(not_a_batch());
    };
    let (spare, again) = (Arc::clone(function), messages.clone());
    let work = async move { work(&spare, messages, remaining_time(deadline)).await };
    match spawn_guarded(work).await {
        Some(Ok(done)) => Ok(done.log_and_respond(function, started)),
        Some(Err(BatchError)) => Err(not_a_batch()),
        None => {
            BatchResult::after_panic(again.count()).log_and_respond(function, started);
            Err(Diagnostic {
                error_type: "Panic".to_owned(),
                error_message: "panic; the log says where, and the whole batch stays in the queue".to_owned(),
            })
        }
    }
}

fn not_a_batch() -> Diagnostic {
    let reason = "the payload is not a batch of SQS; connect this function to a queue";
    log(&json!({"level": "ERROR", "message": BATCH, "reason": reason}));
    Diagnostic {
        error_type: "NoBatch".to_owned(),
        error_message: reason.to_owned(),
    }
}

/// Returns the result of `work`; none when it panics. Then the whole batch stays in the queue, including the messages
/// that were delivered: they are not known any more, and a document that is sent again exists already.
async fn spawn_guarded<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    tokio::spawn(work).await.ok()
}

/// The outcome of a batch.
#[derive(Default)]
struct BatchResult {
    messages: usize,
    counts: Counts,
    /// The ids of messages that stay in the queue.
    failures: Vec<String>,
    back_to_queue: usize,
    /// The first different reasons with their numbers of messages.
    reasons: Vec<(String, u64)>,
    /// The reason why the status of the batch's codes is not known.
    code_standing: Option<String>,
}

impl BatchResult {
    /// Builds the outcome of a batch after a panic: the error of the invocation returns all messages to the queue.
    fn after_panic(messages: usize) -> Self {
        let mut done = Self {
            messages,
            ..Self::default()
        };
        for _ in 0..messages {
            done.counts.add_named("returned");
        }
        done.back_to_queue = messages;
        done.reasons = vec![("panic".to_owned(), messages as u64)];
        done
    }

    /// Records the outcome of a message; one that is neither in the index nor in the fallback stays in the queue.
    fn note(&mut self, message: String, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Failed(failure) => Outcome::Returned(failure),
            other => other,
        };
        match &outcome {
            Outcome::Returned(failure) | Outcome::Failed(failure) => {
                self.failures.push(message);
                self.back_to_queue += 1;
                self.reason(&failure.reason);
            }
            Outcome::Fallback(failure) => self.reason(&failure.reason),
            Outcome::Indexed | Outcome::Queued | Outcome::Duplicate | Outcome::Ignored(_) => {}
        }
        self.counts.add(&outcome);
    }

    fn reason(&mut self, reason: &str) {
        const MAX_REASONS: usize = 5;
        if let Some((_, count)) = self.reasons.iter_mut().find(|(known, _)| known == reason) {
            *count += 1;
        } else if self.reasons.len() < MAX_REASONS {
            self.reasons.push((reason.to_owned(), 1));
        }
    }

    /// Logs the outcome of the batch, and returns the response.
    fn log_and_respond(self, function: &Function, started: Instant) -> Value {
        let reasons: Vec<_> = self
            .reasons
            .iter()
            .map(|(reason, count)| json!({"reason": reason, "messages": count}))
            .collect();
        let mut line = json!({
            "level": if self.back_to_queue == 0 { "INFO" } else { "ERROR" },
            "message": BATCH,
            "messages": self.messages,
            "back_to_queue": self.back_to_queue,
            "reasons": reasons,
            "milliseconds": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        if let Some(unknown) = self.code_standing {
            line["code_standing"] = unknown.into();
        }
        function.note_clock(&mut line);
        function.count(&mut line, &self.counts);
        log(&line);
        let failures: Vec<_> = self.failures.iter().map(|id| json!({"itemIdentifier": id})).collect();
        json!({"batchItemFailures": failures})
    }
}

/// A batch that is being read, and the state of its messages.
struct BatchReader<'a> {
    function: &'a Function,
    messages: Messages,
    /// The message ids of the events that were read, in their order.
    ids: Vec<String>,
    /// The codes of these events, if they are to be looked up.
    codes: Vec<Option<String>>,
    refused: Vec<RefusedMessage>,
    done: BatchResult,
    broken: Result<(), BatchError>,
}

impl<'a> BatchReader<'a> {
    fn new(function: &'a Function, messages: Messages) -> Self {
        Self {
            function,
            messages,
            ids: Vec::new(),
            codes: Vec::new(),
            refused: Vec::new(),
            done: BatchResult::default(),
            broken: Ok(()),
        }
    }

    /// Returns the events of the next messages; none when there are no more.
    fn next(&mut self) -> Option<Vec<Event>> {
        match self.messages.part() {
            Ok(part) => part.map(|part| part.into_iter().filter_map(|message| self.event(message)).collect()),
            Err(error) => {
                self.broken = Err(error);
                None
            }
        }
    }

    fn event(&mut self, message: Message) -> Option<Event> {
        let Message { id, body, sent } = message;
        let origin = Origin {
            id: &id,
            time: sent.unwrap_or_else(Utc::now),
        };
        self.done.messages += 1;
        let config = &self.function.config;
        let read = match config.code_standing {
            CodeStanding::None => replay::event(body, origin, config),
            CodeStanding::Index => replay::event_and_code(body, origin, config).map(|(event, code)| {
                self.codes.push(code);
                event
            }),
        };
        match read {
            Ok(event) => {
                self.ids.push(id);
                return Some(event);
            }
            Err(ReplayError::Ignored(why)) => self.done.note(id, Outcome::Ignored(why)),
            Err(ReplayError::Poison { reason, text }) => self.refused.push(RefusedMessage {
                event: wrap_unreadable(&id, text),
                message: id,
                reason,
            }),
        }
        None
    }

    /// Reads all events and marks them by the status of their codes; the look-up may take a part of the time. Nothing
    /// is lost if it fails.
    async fn look_up_codes(&mut self, index: &Deliverer, left: Duration) -> Vec<Event> {
        const PART: u32 = 4;
        let mut events: Vec<_> = std::iter::from_fn(|| self.next()).flatten().collect();
        let opted_out = match apply_code_status(index, &mut events, &self.codes, left / PART).await {
            Ok(opted_out) => opted_out,
            Err(error) => {
                self.done.code_standing = Some(format!("unknown: {error}"));
                return events;
            }
        };
        let ids = std::mem::take(&mut self.ids);
        let mut kept = Vec::with_capacity(events.len());
        for ((id, event), opted_out) in ids.into_iter().zip(events).zip(opted_out) {
            if opted_out {
                self.done.note(id, Outcome::Ignored(Ignored::OptedOut));
            } else {
                self.ids.push(id);
                kept.push(event);
            }
        }
        kept
    }
}

async fn work(function: &Arc<Function>, messages: Messages, left: Duration) -> Result<BatchResult, BatchError> {
    let router = &function.router;
    let deadline = Instant::now() + left;
    let mut reader = BatchReader::new(function, messages);
    // The good messages first, so that the bad ones cannot use up their time.
    let (events, outcomes) = match router.index() {
        Ok(index) if function.config.code_standing == CodeStanding::Index => {
            let mut all = Some(reader.look_up_codes(index, left).await);
            let left = deadline.saturating_duration_since(Instant::now());
            deliver(index, || all.take(), left.saturating_sub(router.fallback_budget(left))).await
        }
        Ok(index) => {
            deliver(
                index,
                || reader.next(),
                left.saturating_sub(router.fallback_budget(left)),
            )
            .await
        }
        // Without a destination, events stay in the queue.
        Err(reason) => {
            let events: Vec<_> = std::iter::from_fn(|| reader.next()).flatten().collect();
            let outcomes = events.iter().map(|_| failed_outcome(&reason, true)).collect();
            (events, outcomes)
        }
    };
    let BatchReader {
        ids,
        mut refused,
        mut done,
        broken,
        ..
    } = reader;
    broken?;
    for ((message, event), outcome) in ids.into_iter().zip(events).zip(outcomes) {
        match outcome {
            Outcome::Failed(Failure {
                reason,
                temporary: false,
            }) => refused.push(RefusedMessage { message, event, reason }),
            other => done.note(message, other),
        }
    }
    keep_all(function, refused, deadline, &mut done).await;
    Ok(done)
}

/// Returns the time that is left of the invocation for delivery.
fn remaining_time(deadline: SystemTime) -> Duration {
    time_for_delivery(deadline.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Returns the part of the remaining time before the response has to be built: then thousands of outcomes are counted
/// and written, and a function with little memory has only a fraction of a processor.
fn time_for_delivery(left: Duration) -> Duration {
    let margin = (left / 10).clamp(DEADLINE_MARGIN, MAX_MARGIN);
    // A wrong clock must not prevent an attempt.
    left.checked_sub(margin)
        .filter(|left| !left.is_zero())
        .unwrap_or(BUDGET_IF_CLOCK_IS_WRONG)
}

/// The longest time that the response takes, for the largest batch of a queue.
const MAX_MARGIN: Duration = Duration::from_secs(3);

/// The time for a batch when the clock contradicts the deadline.
const BUDGET_IF_CLOCK_IS_WRONG: Duration = Duration::from_secs(5);

/// Delivers events while others are still being read.
async fn deliver(
    index: &Deliverer,
    next: impl FnMut() -> Option<Vec<Event>> + Send,
    budget: Duration,
) -> (Vec<Event>, Vec<Outcome>) {
    let timeouts = BulkTimeouts {
        attempt: budget.min(if index.target().can_pause() {
            Timing::WITH_PAUSE.attempt
        } else {
            BulkTimeouts::default().attempt
        }),
        budget,
    };
    index.deliver_parts(next, Limits::HALF, timeouts).await
}

fn failed_outcome(reason: &str, temporary: bool) -> Outcome {
    Outcome::Failed(Failure {
        reason: reason.to_owned(),
        temporary,
    })
}

/// A message that the index will never accept.
struct RefusedMessage {
    message: String,
    event: Event,
    reason: String,
}

/// The number of messages that are sent to the fallback at the same time.
const MAX_CONCURRENT_FALLBACK: usize = 32;

/// Sends messages that the index will never accept to the fallback. Without a fallback, or if it fails, or at the
/// deadline, a message stays in the queue, which moves it to the dead-letter queue.
async fn keep_all(function: &Arc<Function>, refused: Vec<RefusedMessage>, deadline: Instant, done: &mut BatchResult) {
    let mut waiting = refused.into_iter();
    let mut under_way = JoinSet::new();
    loop {
        while under_way.len() < MAX_CONCURRENT_FALLBACK
            && let Some(next) = waiting.next()
        {
            under_way.spawn(keep(Arc::clone(function), next, deadline));
        }
        match under_way.join_next().await {
            Some(Ok((message, outcome))) => done.note(message, outcome),
            Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            None => return,
        }
    }
}

async fn keep(function: Arc<Function>, refused: RefusedMessage, deadline: Instant) -> (String, Outcome) {
    let RefusedMessage { message, event, reason } = refused;
    let failure = Failure {
        reason,
        temporary: false,
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let budget = left.min(function.config.timing.attempt);
    let outcome = if left.is_zero() {
        Outcome::Failed(failure)
    } else {
        function.router.keep(&event, &failure, budget).await
    };
    (message, outcome)
}

/// Wraps a message that is not an event, in the form of the fallback's events.
fn wrap_unreadable(message: &str, text: String) -> Event {
    Event {
        id: message.to_owned(),
        time: Utc::now(),
        document: Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_leaves_time_for_its_answer() {
        let milliseconds = Duration::from_millis;
        for (left, wanted) in [(900_000, 897_000), (15_000, 13_500), (1_000, 900), (500, 400), (101, 1)] {
            assert_eq!(
                time_for_delivery(milliseconds(left)),
                milliseconds(wanted),
                "of {left} ms"
            );
        }
        assert_eq!(
            (time_for_delivery(milliseconds(100)), time_for_delivery(milliseconds(0))),
            (BUDGET_IF_CLOCK_IS_WRONG, BUDGET_IF_CLOCK_IS_WRONG)
        );
    }

    fn function() -> Arc<Function> {
        Arc::new(Function::new(&Variables::new()))
    }

    #[tokio::test]
    async fn a_panic_in_the_middle_of_a_batch_acknowledges_nothing() {
        let work = async {
            let mut done = BatchResult::default();
            done.note("first".to_owned(), Outcome::Indexed);
            tokio::task::yield_now().await;
            panic!("a fault in the middle");
        };
        assert!(spawn_guarded(work).await.is_none());
        let done = BatchResult::after_panic(3);
        assert_eq!(
            (done.counts.get("returned"), done.counts.total(), done.back_to_queue),
            (3, 3, 3)
        );
    }

    #[test]
    fn what_has_no_place_yet_is_returned_and_has_not_failed() {
        let mut done = BatchResult::default();
        for (id, outcome) in [
            ("a", Outcome::Indexed),
            ("b", failed_outcome("status 429", true)),
            ("c", failed_outcome("status 400", false)),
            ("d", Outcome::Duplicate),
        ] {
            done.note(id.to_owned(), outcome);
        }
        assert_eq!((done.counts.get("returned"), done.counts.get("failed")), (2, 0));
        let answer = done.log_and_respond(&function(), Instant::now());
        assert_eq!(
            answer,
            json!({"batchItemFailures": [{"itemIdentifier": "b"}, {"itemIdentifier": "c"}]})
        );
    }
}
