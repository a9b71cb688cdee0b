//! The delivery of many events: several in a request, and several requests at a time.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

use crate::client::http::{ClientRequest, Deliverer, SendError, failed, random, was_refused};
use crate::destination::bulk::{BulkRequest, BulkResponse, Limits, Planned, RequestForm, parse_response};
use crate::destination::opensearch::Target;
use crate::destination::{Verdict, backoff};
use crate::hit::event::Event;
use crate::hit::outcome::Outcome;

/// The time limits for many events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkTimeouts {
    /// The limit for one request.
    pub attempt: Duration,
    /// The time after which no request is retried.
    pub budget: Duration,
}

impl Default for BulkTimeouts {
    fn default() -> Self {
        Self {
            attempt: Duration::from_secs(30),
            budget: Duration::from_secs(30),
        }
    }
}

/// The size limit of a response that is read; 5,000 refusals with their reasons are about 2 MB.
const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;

/// Delivers batch after batch, up to `max_concurrent` at a time, and reports the outcomes of each in the order in which
/// they end. If `report` returns a break, running deliveries are finished and no new one is started.
///
/// # Errors
///
/// A panic of `deliver`; the events of that call have no outcome.
pub async fn load<D, F>(
    batches: impl IntoIterator<Item = Vec<Event>>,
    max_concurrent: usize,
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
        while under_way.len() < max_concurrent.max(1) {
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

/// The maximum number of concurrent requests: one for each of the two processors of a small index, and one that is
/// already there when they finish.
const MAX_CONCURRENT_REQUESTS: usize = 3;

impl Deliverer {
    /// Delivers events in as few requests as possible, and returns their outcomes in the same order. While the index
    /// works on some requests, the next is written. After a transient failure only the affected events are sent again.
    /// Of several events with one id the first is sent; the others are its duplicates.
    pub async fn deliver_all(&self, events: &[Event], limits: Limits, timeouts: BulkTimeouts) -> Vec<Outcome> {
        let mut all = Some(events.iter().collect());
        self.deliver_parts(|| all.take(), limits, timeouts).await.1
    }

    /// Like [`Self::deliver_all`], for events in parts: while the index works on some, `next` makes more, until it
    /// returns none.
    pub async fn deliver_parts<E: Borrow<Event> + Send>(
        &self,
        next: impl FnMut() -> Option<Vec<E>> + Send,
        limits: Limits,
        timeouts: BulkTimeouts,
    ) -> (Vec<E>, Vec<Outcome>) {
        let deadline = Instant::now() + timeouts.budget;
        let queue = Mutex::new(PartQueue {
            next,
            events: Vec::new(),
            planned: VecDeque::new(),
            round: BulkAttempt::new(limits),
        });
        let room = Semaphore::new(MAX_CONCURRENT_REQUESTS);
        for attempt in 1.. {
            let learnt = AtomicBool::new(false);
            let worker = async || {
                loop {
                    let next = lock(&queue).next(self.target(), || self.form());
                    let Some((batch, form)) = next else { return };
                    // The semaphore is never closed.
                    let _room = room.acquire().await;
                    let left = deadline.saturating_duration_since(Instant::now());
                    let timeout = timeouts.attempt.min(left);
                    if self.deliver_batch(batch, form, &queue, timeout).await {
                        learnt.store(true, Ordering::Relaxed);
                    }
                }
            };
            // One worker more than concurrent requests, which has the next one ready.
            tokio::join!(worker(), worker(), worker(), worker());
            if lock(&queue).round.waiting().next().is_none() {
                break;
            }
            let wait = if learnt.into_inner() {
                Duration::ZERO
            } else {
                backoff(attempt, random())
            };
            if Instant::now() + wait >= deadline {
                break;
            }
            tokio::time::sleep(wait).await;
            lock(&queue).plan_from(0, self.target(), self.form());
        }
        let PartQueue { events, round, .. } = queue.into_inner().unwrap_or_else(PoisonError::into_inner);
        (events, round.outcomes())
    }

    fn form(&self) -> RequestForm {
        RequestForm {
            ids: !self.refuses_ids.load(Ordering::Relaxed),
            doc_type: self.needs_type.load(Ordering::Relaxed),
        }
    }

    /// Sends a batch and records the results of its members. Returns true if a retry will differ because something was
    /// learnt from the response.
    async fn deliver_batch<E, P>(
        &self,
        batch: BulkRequest,
        form: RequestForm,
        queue: &Mutex<PartQueue<E, P>>,
        timeout: Duration,
    ) -> bool {
        let BulkRequest { request, body, members } = batch;
        let bytes = body.len();
        let sent = self
            .send(
                ClientRequest::json(request.method, request.url, body),
                MAX_RESPONSE_BYTES,
                timeout,
            )
            .await;
        let is_refused = sent.as_ref().is_ok_and(|got| was_refused(got.status));
        let response = match sent {
            Ok(got) => parse_response(got.status, &got.body, members.len()),
            Err(SendError::Transport(reason) | SendError::Slow(reason)) => BulkResponse::Whole(Verdict::Retry(reason)),
            Err(SendError::Impossible(reason)) => BulkResponse::Whole(Verdict::Denied(reason)),
        };
        let round = &mut lock(queue).round;
        match response {
            BulkResponse::Items(verdicts) => {
                let mut learnt = false;
                for (member, verdict) in members.iter().zip(verdicts) {
                    learnt |= self.record_verdict(round, *member, verdict, form);
                }
                learnt
            }
            BulkResponse::NeedsType if !form.doc_type => {
                self.needs_type.store(true, Ordering::Relaxed);
                true
            }
            BulkResponse::TooLarge(_) if members.len() > 1 => {
                round.limits.bytes = round.limits.bytes.min(bytes / 2);
                true
            }
            BulkResponse::NeedsType => round.settle_all(&members, |_| {
                ItemResult::Over(failed(
                    "the server rejected the request with and without the mapping type `_doc`".to_owned(),
                    false,
                ))
            }),
            BulkResponse::TooLarge(reason) | BulkResponse::Whole(Verdict::Refused(reason)) => {
                round.settle_all(&members, |_| ItemResult::Over(failed(reason.clone(), false)))
            }
            BulkResponse::Whole(Verdict::Denied(reason)) => {
                round.settle_all(&members, |_| ItemResult::Over(failed(reason.clone(), true)))
            }
            BulkResponse::Whole(Verdict::Retry(reason)) if is_refused => {
                round.settle_all(&members, |_| ItemResult::Again(reason.clone()))
            }
            BulkResponse::Whole(Verdict::Retry(reason)) => {
                round.settle_all(&members, |_| ItemResult::Unknown(reason.clone()))
            }
            BulkResponse::Whole(other) => round.settle_all(&members, |_| ItemResult::Unknown(format!("{other:?}"))),
        }
    }

    /// Records the verdict on one event. Returns true if something was learnt from it.
    fn record_verdict(
        &self,
        round: &mut BulkAttempt,
        member: usize,
        verdict: Option<Verdict>,
        form: RequestForm,
    ) -> bool {
        let result = match verdict {
            Some(Verdict::Indexed) => ItemResult::Over(Outcome::Indexed),
            // An earlier attempt of ours may have stored it although its response was lost, so it is not a second hit.
            Some(Verdict::Duplicate) if round.may_be_ours(member) => ItemResult::Over(Outcome::Indexed),
            Some(Verdict::Duplicate) => ItemResult::Over(Outcome::Duplicate),
            Some(Verdict::Refused(reason)) => ItemResult::Over(failed(reason, false)),
            Some(Verdict::Denied(reason)) => ItemResult::Over(failed(reason, true)),
            Some(Verdict::Retry(reason)) => ItemResult::Again(reason),
            Some(Verdict::RefusesIds) if form.ids => {
                self.refuses_ids.store(true, Ordering::Relaxed);
                return true;
            }
            Some(Verdict::RefusesIds) => ItemResult::Over(failed(
                "the index refuses documents without an id, too".to_owned(),
                false,
            )),
            None => ItemResult::Unknown("the answer says nothing of it".to_owned()),
        };
        round.settle(member, result);
        false
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The events received in parts so far, with their states.
struct PartQueue<E, P> {
    next: P,
    events: Vec<E>,
    /// The requests of this attempt that are not yet written.
    planned: VecDeque<Planned>,
    round: BulkAttempt,
}

impl<E: Borrow<Event>, P: FnMut() -> Option<Vec<E>>> PartQueue<E, P> {
    /// Returns the next request of this attempt, and takes the next part if necessary.
    fn next(&mut self, target: &Target, form: impl Fn() -> RequestForm) -> Option<(BulkRequest, RequestForm)> {
        loop {
            if let Some(planned) = self.planned.pop_front() {
                return Some((planned.write(&self.events), planned.form));
            }
            let from = self.events.len();
            self.events.extend((self.next)()?);
            self.round.add(&self.events, target);
            self.plan_from(from, target, form());
        }
    }

    /// Plans the requests for the waiting events from a number on.
    fn plan_from(&mut self, from: usize, target: &Target, form: RequestForm) {
        let waiting = self.round.waiting().skip_while(|number| *number < from);
        let waiting = waiting.map(|number| (number, self.events[number].borrow()));
        self.planned = target.plan(waiting, form, self.round.limits).into();
    }
}

/// The result of one attempt for an event.
enum ItemResult {
    /// The event has its outcome.
    Over(Outcome),
    /// The event was not stored, and is sent again.
    Again(String),
    /// It is unknown if the event was stored; it is sent again.
    Unknown(String),
}

/// The state of an event.
enum ItemState {
    /// The event is to be sent, for the first time or again.
    Waiting {
        /// The reason why it has not been stored yet.
        reason: String,
        /// True if an earlier attempt may have stored it.
        may_be_ours: bool,
    },
    /// The event has the id of an earlier one, and waits for that one's outcome.
    Behind(usize),
    Over(Outcome),
}

impl ItemState {
    const UNSENT: Self = Self::Waiting {
        reason: String::new(),
        may_be_ours: false,
    };
}

/// The states of all events.
struct BulkAttempt {
    limits: Limits,
    events: Vec<ItemState>,
    /// The first event with each id.
    firsts: HashMap<String, usize>,
    /// The later events with the same id as an event, in their order.
    twins: BTreeMap<usize, Vec<usize>>,
    /// The event that replaces a refused one with the same id.
    successors: BTreeMap<usize, usize>,
}

impl BulkAttempt {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            events: Vec::new(),
            firsts: HashMap::new(),
            twins: BTreeMap::new(),
            successors: BTreeMap::new(),
        }
    }

    /// Adds the events that are new at the end of `events`.
    fn add<E: Borrow<Event>>(&mut self, events: &[E], target: &Target) {
        let index = |number: usize| target.index.name(events[number].borrow().time);
        for (number, event) in events.iter().enumerate().skip(self.events.len()) {
            let id = &event.borrow().id;
            let first = self.firsts.get(id).copied();
            // The same id in another index is a different document.
            let Some(first) = first.filter(|first| index(*first) == index(number)) else {
                self.firsts.entry(id.clone()).or_insert(number);
                self.events.push(ItemState::UNSENT);
                continue;
            };
            let mut before = first;
            while let Some(successor) = self.successors.get(&before) {
                before = *successor;
            }
            self.events.push(ItemState::Behind(before));
            self.twins.entry(before).or_default().push(number);
            if let ItemState::Over(outcome) = &self.events[before] {
                self.settle_twins(before, &outcome.clone());
            }
        }
    }

    fn waiting(&self) -> impl Iterator<Item = usize> {
        let events = self.events.iter().enumerate();
        events.filter_map(|(number, state)| matches!(state, ItemState::Waiting { .. }).then_some(number))
    }

    fn may_be_ours(&self, member: usize) -> bool {
        matches!(self.events[member], ItemState::Waiting { may_be_ours: true, .. })
    }

    fn settle(&mut self, member: usize, result: ItemResult) {
        let before = self.may_be_ours(member);
        self.events[member] = match result {
            ItemResult::Over(outcome) => {
                self.settle_twins(member, &outcome);
                ItemState::Over(outcome)
            }
            ItemResult::Again(reason) => ItemState::Waiting {
                reason,
                may_be_ours: before,
            },
            ItemResult::Unknown(reason) => ItemState::Waiting {
                reason,
                may_be_ours: true,
            },
        };
    }

    /// Settles the events with the same id, after the first got its outcome. A refusal of one event's content does not
    /// apply to the next, which may be a different document.
    fn settle_twins(&mut self, first: usize, outcome: &Outcome) {
        let Some(mut twins) = self.twins.remove(&first) else {
            return;
        };
        match outcome {
            Outcome::Failed(failure) if !failure.temporary => {
                let next = twins.remove(0);
                self.successors.insert(first, next);
                self.events[next] = ItemState::UNSENT;
                for twin in &twins {
                    self.events[*twin] = ItemState::Behind(next);
                }
                if !twins.is_empty() {
                    self.twins.insert(next, twins);
                }
            }
            Outcome::Failed(_) => twins
                .into_iter()
                .for_each(|twin| self.events[twin] = ItemState::Over(outcome.clone())),
            _ => twins
                .into_iter()
                .for_each(|twin| self.events[twin] = ItemState::Over(Outcome::Duplicate)),
        }
    }

    /// Settles all members alike. Returns false: nothing is learnt from that.
    fn settle_all(&mut self, members: &[usize], result: impl Fn(usize) -> ItemResult) -> bool {
        for member in members {
            self.settle(*member, result(*member));
        }
        false
    }

    /// Returns the outcomes; an event that still waits has failed for its last reason.
    fn outcomes(&self) -> Vec<Outcome> {
        (0..self.events.len()).map(|number| self.outcome(number)).collect()
    }

    fn outcome(&self, number: usize) -> Outcome {
        match &self.events[number] {
            ItemState::Over(outcome) => outcome.clone(),
            ItemState::Waiting { reason, .. } => failed(reason.clone(), true),
            ItemState::Behind(first) => self.outcome(*first),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;
    use crate::destination::Destination;

    fn target(url: &str) -> Target {
        match Destination::parse(url, None, None) {
            Ok(Destination::OpenSearch(target)) => target,
            other => panic!("{url}: {other:?}"),
        }
    }

    fn events(ids: &[u8]) -> Vec<Event> {
        let event = |id: &u8| Event {
            id: id.to_string(),
            time: DateTime::from_timestamp(1_780_000_000, 0).expect("a time"),
            document: "{}".to_owned(),
        };
        ids.iter().map(event).collect()
    }

    fn round(ids: &[u8]) -> BulkAttempt {
        round_at("http://host/events", &events(ids))
    }

    fn round_at(url: &str, events: &[Event]) -> BulkAttempt {
        let mut round = BulkAttempt::new(Limits::default());
        round.add(events, &target(url));
        round
    }

    fn waiting(round: &BulkAttempt) -> Vec<usize> {
        round.waiting().collect()
    }

    #[test]
    fn one_twin_is_sent_and_the_others_are_its_duplicates() {
        let mut round = round(&[1, 2, 1, 1]);
        assert_eq!(waiting(&round), [0, 1]);
        round.settle(0, ItemResult::Unknown("no answer".to_owned()));
        assert_eq!(waiting(&round), [0, 1]);
        assert!(round.may_be_ours(0));
        round.settle(0, ItemResult::Over(Outcome::Indexed));
        round.settle(1, ItemResult::Over(Outcome::Duplicate));
        assert!(waiting(&round).is_empty());
        let (indexed, duplicate) = (Outcome::Indexed, Outcome::Duplicate);
        assert_eq!(
            round.outcomes(),
            [indexed, duplicate.clone(), duplicate.clone(), duplicate]
        );
    }

    #[test]
    fn a_twin_of_what_was_refused_has_its_own_chance() {
        let mut round = round(&[1, 1, 1]);
        round.settle(0, ItemResult::Over(failed("status 400".to_owned(), false)));
        assert_eq!(waiting(&round), [1]);
        round.settle(1, ItemResult::Over(Outcome::Indexed));
        let refused = failed("status 400".to_owned(), false);
        assert_eq!(round.outcomes(), [refused, Outcome::Indexed, Outcome::Duplicate]);
    }

    #[test]
    fn twins_of_what_was_not_stored_are_not_stored() {
        let mut denied = round(&[1, 1]);
        denied.settle(0, ItemResult::Over(failed("status 403".to_owned(), true)));
        assert_eq!(denied.outcomes(), vec![failed("status 403".to_owned(), true); 2]);
        let mut busy = round(&[1, 1]);
        busy.settle(0, ItemResult::Again("status 429".to_owned()));
        assert_eq!(waiting(&busy), [0]);
        assert_eq!(busy.outcomes(), vec![failed("status 429".to_owned(), true); 2]);
    }

    #[test]
    fn one_id_in_two_indices_is_two_documents() {
        let mut events = events(&[1, 1]);
        events[1].time += chrono::Duration::days(40);
        let waiting = |url| round_at(url, &events).waiting().count();
        assert_eq!(
            (waiting("http://host/events-%Y.%m"), waiting("http://host/events")),
            (2, 1)
        );
    }

    proptest! {
        /// The simulated index answers at random, loses responses and forgets nothing: each id that it did not contain
        /// before counts once as indexed, as soon as it has a verdict.
        #[test]
        fn what_is_counted_is_what_was_stored(
            ids in prop::collection::vec(0_u8..6, 1..24),
            // The number of events before the first request, and the number after each verdict.
            first in 1_usize..24,
            more in 0_usize..4,
            before in prop::collection::btree_set(0_u8..6, 0..3),
            chances in prop::collection::vec(0_u8..6, 1..200),
        ) {
            let all = events(&ids);
            let target = target("http://host/events");
            let mut come = first.min(ids.len());
            let mut round = BulkAttempt::new(Limits::default());
            round.add(&all[..come], &target);
            let mut stored = before.clone();
            let mut chances = chances.into_iter();
            for _ in 0..200 {
                let Some(member) = round.waiting().next() else {
                    if come == ids.len() {
                        break;
                    }
                    come += 1;
                    round.add(&all[..come], &target);
                    continue;
                };
                let id = ids[member];
                let lost = round.may_be_ours(member);
                let result = match chances.next().unwrap_or(0) {
                    1 => ItemResult::Again("busy".to_owned()),
                    2 => ItemResult::Unknown("nothing came".to_owned()),
                    // The event is stored and the response is lost; this cannot be distinguished from an earlier copy.
                    3 if !before.contains(&id) => {
                        stored.insert(id);
                        ItemResult::Unknown("the answer is lost".to_owned())
                    }
                    4 => ItemResult::Over(failed("wrong".to_owned(), false)),
                    5 => ItemResult::Over(failed("denied".to_owned(), true)),
                    _ if stored.insert(id) || lost => ItemResult::Over(Outcome::Indexed),
                    _ => ItemResult::Over(Outcome::Duplicate),
                };
                round.settle(member, result);
                come = (come + more).min(ids.len());
                round.add(&all[..come], &target);
            }
            round.add(&all, &target);
            let outcomes = round.outcomes();
            prop_assert_eq!(outcomes.len(), ids.len());
            for id in 0..6 {
                let of_id = || ids.iter().zip(&outcomes).filter(|(other, _)| **other == id).map(|(_, outcome)| outcome);
                let indexed = of_id().filter(|outcome| **outcome == Outcome::Indexed).count();
                prop_assert!(indexed <= 1, "{}: {:?}", id, outcomes);
                prop_assert!(indexed == 0 || stored.contains(&id));
                let done = of_id().any(|outcome| matches!(outcome, Outcome::Indexed | Outcome::Duplicate));
                prop_assert!(!done || stored.contains(&id), "{}: {:?}", id, outcomes);
            }
        }
    }
}
