//! The delivery of many events: several in a request, several requests under way.

use std::future::Future;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinSet};

use super::client::{Deliverer, Request, SendError, failed, random};
use crate::delivery::bulk::{Answer, Batch, Form, Limits, answer};
use crate::delivery::{Outcome, Verdict, backoff};
use crate::event::Event;

/// How long many events may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// One request.
    pub attempt: Duration,
    /// After this no request is tried again.
    pub budget: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempt: Duration::from_secs(30),
            budget: Duration::from_secs(30),
        }
    }
}

/// More of an answer is not read; one of 5,000 refusals with their reasons is some 2 MB.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Delivers batch after batch, `most` at the same time, and reports the outcomes of each in the order in which they end.
/// Whoever is reported to can end it: what is under way is then waited for, and nothing more is taken.
///
/// # Errors
///
/// When `deliver` panics; what it was to deliver has no outcome.
pub async fn load<D, F>(
    batches: impl IntoIterator<Item = Vec<Event>>,
    most: usize,
    deliver: D,
    mut report: impl FnMut(&[Outcome]) -> ControlFlow<()>,
) -> Result<(), JoinError>
where
    D: Fn(Vec<Event>) -> F,
    F: Future<Output = Vec<Outcome>> + Send + 'static,
{
    let mut batches = Some(batches.into_iter());
    let mut under_way = JoinSet::new();
    loop {
        while under_way.len() < most.max(1) {
            let Some(batch) = batches.as_mut().and_then(Iterator::next) else {
                break;
            };
            under_way.spawn(deliver(batch));
        }
        let Some(outcomes) = under_way.join_next().await else {
            return Ok(());
        };
        if report(&outcomes?).is_break() {
            batches = None;
        }
    }
}

impl Deliverer {
    /// Delivers events, in as few requests as may be, and says of each in its place what became of it. After a passing fault
    /// only those are sent again that it befell.
    pub async fn deliver_all(&self, events: &[Event], limits: Limits, patience: Patience) -> Vec<Outcome> {
        let deadline = Instant::now() + patience.budget;
        let mut round = Round::new(events.len(), limits);
        for attempt in 1.. {
            let waiting: Vec<_> = round.waiting().collect();
            if waiting.is_empty() {
                break;
            }
            let form = self.form();
            let planned = self.target().plan(
                waiting.into_iter().map(|number| (number, &events[number])),
                form,
                round.limits,
            );
            let mut learnt = false;
            for planned in planned {
                let left = deadline.saturating_duration_since(Instant::now());
                learnt |= self
                    .deliver_batch(planned.write(), form, &mut round, patience.attempt.min(left))
                    .await;
            }
            let wait = if learnt {
                Duration::ZERO
            } else {
                backoff(attempt, random())
            };
            if Instant::now() + wait >= deadline {
                break;
            }
            if round.waiting().next().is_some() {
                tokio::time::sleep(wait).await;
            }
        }
        round.end()
    }

    fn form(&self) -> Form {
        Form {
            ids: !self.refuses_ids.load(Ordering::Relaxed),
            doc_type: self.needs_type.load(Ordering::Relaxed),
        }
    }

    /// Sends a batch and notes what became of its members. True when something was learnt from it, so that another attempt
    /// will differ from this one.
    async fn deliver_batch(&self, batch: Batch, form: Form, round: &mut Round, timeout: Duration) -> bool {
        let Batch { request, body, members } = batch;
        let bytes = body.len();
        let sent = self
            .send(Request::json(request.method, request.url, body), ANSWER_BYTES, timeout)
            .await;
        // A server that is too busy says so before it has stored anything.
        let turned_away = sent.as_ref().is_ok_and(|got| matches!(got.status, 403 | 429));
        let answered = match sent {
            Ok(got) => answer(got.status, &got.body, members.len()),
            Err(SendError::Transport(reason)) => Answer::Whole(Verdict::Retry(reason)),
            Err(SendError::Impossible(reason)) => Answer::Whole(Verdict::Denied(reason)),
        };
        match answered {
            Answer::Items(verdicts) => {
                let mut learnt = false;
                for (member, verdict) in members.iter().zip(verdicts) {
                    learnt |= self.note(round, *member, verdict, form);
                }
                learnt
            }
            Answer::NeedsType if !form.doc_type => {
                self.needs_type.store(true, Ordering::Relaxed);
                true
            }
            Answer::TooLarge(_) if members.len() > 1 => {
                round.limits.bytes = bytes / 2;
                true
            }
            Answer::NeedsType => round.all(&members, |_| {
                Fate::Over(failed("the server wants no type and wants one".to_owned(), false))
            }),
            Answer::TooLarge(reason) | Answer::Whole(Verdict::Refused(reason)) => {
                round.all(&members, |_| Fate::Over(failed(reason.clone(), false)))
            }
            Answer::Whole(Verdict::Denied(reason)) => round.all(&members, |_| Fate::Over(failed(reason.clone(), true))),
            Answer::Whole(Verdict::Retry(reason)) if turned_away => {
                round.all(&members, |_| Fate::Again(reason.clone()))
            }
            Answer::Whole(Verdict::Retry(reason)) => round.all(&members, |_| Fate::Unknown(reason.clone())),
            Answer::Whole(other) => round.all(&members, |_| Fate::Unknown(format!("{other:?}"))),
        }
    }

    /// Notes the verdict on one event. True when it taught something.
    fn note(&self, round: &mut Round, member: usize, verdict: Option<Verdict>, form: Form) -> bool {
        let fate = match verdict {
            Some(Verdict::Indexed) => Fate::Over(Outcome::Indexed),
            // An attempt of ours may have stored it, and its answer got lost: no second hit.
            Some(Verdict::Duplicate) if round.may_be_ours[member] => Fate::Over(Outcome::Indexed),
            Some(Verdict::Duplicate) => Fate::Over(Outcome::Duplicate),
            Some(Verdict::Refused(reason)) => Fate::Over(failed(reason, false)),
            Some(Verdict::Denied(reason)) => Fate::Over(failed(reason, true)),
            Some(Verdict::Retry(reason)) => Fate::Again(reason),
            Some(Verdict::RefusesIds) if form.ids => {
                self.refuses_ids.store(true, Ordering::Relaxed);
                return true;
            }
            Some(Verdict::RefusesIds) => Fate::Over(failed(
                "the index refuses documents without an id, too".to_owned(),
                false,
            )),
            None => Fate::Unknown("the answer says nothing of it".to_owned()),
        };
        round.settle(member, fate);
        false
    }
}

/// What one attempt means for an event.
enum Fate {
    /// It has its outcome.
    Over(Outcome),
    /// Not stored; to be sent again.
    Again(String),
    /// Stored or not; to be sent again.
    Unknown(String),
}

/// Where each of the events stands.
struct Round {
    limits: Limits,
    outcomes: Vec<Option<Outcome>>,
    /// Why an event still waits.
    reasons: Vec<String>,
    /// Whether an earlier attempt may have stored it.
    may_be_ours: Vec<bool>,
}

impl Round {
    fn new(events: usize, limits: Limits) -> Self {
        Self {
            limits,
            outcomes: vec![None; events],
            reasons: vec![String::new(); events],
            may_be_ours: vec![false; events],
        }
    }

    fn waiting(&self) -> impl Iterator<Item = usize> {
        self.outcomes
            .iter()
            .enumerate()
            .filter(|(_, outcome)| outcome.is_none())
            .map(|(number, _)| number)
    }

    fn settle(&mut self, member: usize, fate: Fate) {
        match fate {
            Fate::Over(outcome) => self.outcomes[member] = Some(outcome),
            Fate::Again(reason) => self.reasons[member] = reason,
            Fate::Unknown(reason) => {
                self.reasons[member] = reason;
                self.may_be_ours[member] = true;
            }
        }
    }

    /// The same for all members; nothing is learnt from that.
    fn all(&mut self, members: &[usize], fate: impl Fn(usize) -> Fate) -> bool {
        for member in members {
            self.settle(*member, fate(*member));
        }
        false
    }

    /// The outcomes; who still waits has failed for its last reason.
    fn end(self) -> Vec<Outcome> {
        let ends = self.outcomes.into_iter().zip(self.reasons);
        ends.map(|(outcome, reason)| outcome.unwrap_or_else(|| failed(reason, true)))
            .collect()
    }
}
