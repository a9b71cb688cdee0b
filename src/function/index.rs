//! The role `index`: a batch of a queue goes to the index.
//!
//! Every message has one end: it is in the index (now or before), it is in the fallback with the reason, or it is named in
//! the answer and so stays in the queue, whose own limit of attempts takes it to the dead-letter queue in the end. A message
//! of which nothing is known stays in the queue.

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
    let _preparation = tokio::spawn(async move { prepared.courier.prepare().await });
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
    let begun = Instant::now();
    let Ok(messages) = Messages::parse(payload) else {
        return Err(not_a_batch());
    };
    let (spare, again) = (Arc::clone(function), messages.clone());
    let work = async move { work(&spare, messages, left(deadline)).await };
    match guarded(work).await {
        Some(Ok(done)) => Ok(done.log_and_respond(function, begun)),
        Some(Err(BatchError)) => Err(not_a_batch()),
        None => {
            BatchResult::panicked(again.count()).log_and_respond(function, begun);
            Err(Diagnostic {
                error_type: "Panic".to_owned(),
                error_message: "panic; the log says where, and the whole batch stays in the queue".to_owned(),
            })
        }
    }
}

fn not_a_batch() -> Diagnostic {
    let reason = "the payload is no batch of SQS; connect this function to a queue";
    log(&json!({"level": "ERROR", "message": BATCH, "reason": reason}));
    Diagnostic {
        error_type: "NoBatch".to_owned(),
        error_message: reason.to_owned(),
    }
}

/// What `work` comes to; none when it panics. Then the whole batch stays in the queue, also what was done of it: nobody knows
/// any more which that was, and a document that comes again is there already.
async fn guarded<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    tokio::spawn(work).await.ok()
}

/// What became of a batch.
#[derive(Default)]
struct BatchResult {
    messages: usize,
    counts: Counts,
    /// Messages that stay in the queue, and how many these are.
    failures: Vec<String>,
    back_to_queue: usize,
    /// The first different reasons, and how many messages have each.
    reasons: Vec<(String, u64)>,
    /// Why nobody knows how the codes of the batch stand.
    code_standing: Option<String>,
}

impl BatchResult {
    /// A batch of which nothing is known: the error of the invocation names all its messages.
    fn panicked(messages: usize) -> Self {
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

    /// What is neither in the index nor in the fallback stays in the queue.
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
        const KEPT: usize = 5;
        if let Some((_, count)) = self.reasons.iter_mut().find(|(known, _)| known == reason) {
            *count += 1;
        } else if self.reasons.len() < KEPT {
            self.reasons.push((reason.to_owned(), 1));
        }
    }

    /// Logs what became of the batch, and answers it.
    fn log_and_respond(self, function: &Function, begun: Instant) -> Value {
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
            "milliseconds": u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
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

/// A batch that is being read, and what is known of its messages by then.
struct BatchReader<'a> {
    function: &'a Function,
    messages: Messages,
    /// The messages of the events that were read, in their order.
    ids: Vec<String>,
    /// The codes of these events, where they are wanted.
    codes: Vec<Option<String>>,
    hopeless: Vec<RefusedMessage>,
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
            hopeless: Vec::new(),
            done: BatchResult::default(),
            broken: Ok(()),
        }
    }

    /// The events of the next messages; none when there are no more.
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
            Err(ReplayError::Poison { reason, text }) => self.hopeless.push(RefusedMessage {
                event: wrap_unreadable(&id, text),
                message: id,
                reason,
            }),
        }
        None
    }

    /// All events that are to be stored after a look at how their codes stand, which may take a part of the time. Nothing is
    /// lost when that fails.
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
    let courier = &function.courier;
    let deadline = Instant::now() + left;
    let mut reading = BatchReader::new(function, messages);
    // The good ones first, so that the bad ones cannot take their time.
    let (events, outcomes) = match courier.index() {
        Ok(index) if function.config.code_standing == CodeStanding::Index => {
            let mut all = Some(reading.look_up_codes(index, left).await);
            let left = deadline.saturating_duration_since(Instant::now());
            deliver(index, || all.take(), left.saturating_sub(courier.fallback_budget(left))).await
        }
        Ok(index) => {
            deliver(
                index,
                || reading.next(),
                left.saturating_sub(courier.fallback_budget(left)),
            )
            .await
        }
        // What has nowhere to go stays in the queue.
        Err(reason) => {
            let events: Vec<_> = std::iter::from_fn(|| reading.next()).flatten().collect();
            let outcomes = events.iter().map(|_| failed(&reason, true)).collect();
            (events, outcomes)
        }
    };
    let BatchReader {
        ids,
        mut hopeless,
        mut done,
        broken,
        ..
    } = reading;
    broken?;
    for ((message, event), outcome) in ids.into_iter().zip(events).zip(outcomes) {
        match outcome {
            Outcome::Failed(Failure {
                reason,
                temporary: false,
            }) => hopeless.push(RefusedMessage { message, event, reason }),
            other => done.note(message, other),
        }
    }
    keep_all(function, hopeless, deadline, &mut done).await;
    Ok(done)
}

/// What is left of the invocation for delivery.
fn left(deadline: SystemTime) -> Duration {
    until(deadline.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Of what is left of the invocation, the part before the answer is made: thousands of outcomes are counted and written then,
/// and with little memory Lambda gives a function a fraction of a processor.
fn until(left: Duration) -> Duration {
    let margin = (left / 10).clamp(DEADLINE_MARGIN, MAX_MARGIN);
    // A clock that contradicts the deadline must not keep a batch from being tried.
    left.checked_sub(margin)
        .filter(|left| !left.is_zero())
        .unwrap_or(BUDGET_IF_CLOCK_IS_WRONG)
}

/// Longer it takes for no batch that a queue can hand over.
const MAX_MARGIN: Duration = Duration::from_secs(3);

/// The time for a batch when the clock contradicts the deadline.
const BUDGET_IF_CLOCK_IS_WRONG: Duration = Duration::from_secs(5);

/// Delivers events while others are still being read.
async fn deliver(
    index: &Deliverer,
    next: impl FnMut() -> Option<Vec<Event>> + Send,
    budget: Duration,
) -> (Vec<Event>, Vec<Outcome>) {
    let patience = BulkTimeouts {
        attempt: budget.min(if index.target().can_pause() {
            Timing::WITH_PAUSE.attempt
        } else {
            BulkTimeouts::default().attempt
        }),
        budget,
    };
    index.deliver_parts(next, Limits::HALF, patience).await
}

fn failed(reason: &str, temporary: bool) -> Outcome {
    Outcome::Failed(Failure {
        reason: reason.to_owned(),
        temporary,
    })
}

/// A message that the index will never take.
struct RefusedMessage {
    message: String,
    event: Event,
    reason: String,
}

/// Messages under way to the fallback at the same time.
const MAX_CONCURRENT_FALLBACK: usize = 32;

/// Keeps in the fallback what the index will never take. Without a fallback, or when it fails, or when time is up, a message
/// stays in the queue, from where it comes to the dead-letter queue.
async fn keep_all(function: &Arc<Function>, hopeless: Vec<RefusedMessage>, deadline: Instant, done: &mut BatchResult) {
    let mut waiting = hopeless.into_iter();
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

async fn keep(function: Arc<Function>, hopeless: RefusedMessage, deadline: Instant) -> (String, Outcome) {
    let RefusedMessage { message, event, reason } = hopeless;
    let failure = Failure {
        reason,
        temporary: false,
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let budget = left.min(function.config.timing.attempt);
    let outcome = if left.is_zero() {
        Outcome::Failed(failure)
    } else {
        function.courier.keep(&event, &failure, budget).await
    };
    (message, outcome)
}

/// A message that is no event, in the form in which the fallback takes events.
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
            assert_eq!(until(milliseconds(left)), milliseconds(wanted), "of {left} ms");
        }
        assert_eq!(
            (until(milliseconds(100)), until(milliseconds(0))),
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
        assert!(guarded(work).await.is_none());
        let done = BatchResult::panicked(3);
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
            ("b", failed("status 429", true)),
            ("c", failed("status 400", false)),
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
