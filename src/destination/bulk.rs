//! `_bulk`: many events in one request to OpenSearch or Elasticsearch, and the meaning of the response for each of
//! them.
//!
//! The index is always in the path, since a server may forbid naming it in the body
//! (`rest.action.multi.allow_explicit_index`); where a date pattern gives several indices, each gets its own requests.
//! Events are written with `create` and their id, so that sending one again never stores it twice.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Verdict;
use super::opensearch::{StoreRequest, Target, explains, refusal, verdict};
use crate::hit::event::Event;
use crate::hit::outcome::Outcome;

/// The size limits of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The maximum size of the body; a larger event is sent alone.
    pub bytes: usize,
    /// The maximum number of events.
    pub events: usize,
}

impl Limits {
    /// Half of the default size, for concurrent requests: the index works on some while the next is written.
    pub const HALF: Self = Self {
        bytes: 5 * 1024 * 1024 / 2,
        events: 5_000,
    };
}

impl Default for Limits {
    /// Returns the size that AWS recommends for its domains, which is half of the maximum of the small ones.
    fn default() -> Self {
        Self {
            bytes: 5 * 1024 * 1024,
            events: 5_000,
        }
    }
}

/// The form of request that a server requires; learnt from its responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestForm {
    /// True if documents have the event's id. A time-series collection of OpenSearch Serverless refuses that.
    pub ids: bool,
    /// True if the path has the type `_doc`: Elasticsearch 6 refuses requests without it, later servers those with it.
    pub doc_type: bool,
}

impl Default for RequestForm {
    fn default() -> Self {
        Self {
            ids: true,
            doc_type: false,
        }
    }
}

/// A request with several events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkRequest {
    /// The method and the URL.
    pub request: StoreRequest,
    /// The body: two lines for each event, each with a line break at its end.
    pub body: Vec<u8>,
    /// The events' numbers, in the order of the body.
    pub members: Vec<usize>,
}

/// A request that is not yet written, to save memory.
#[derive(Clone, Debug)]
pub struct Planned {
    request: StoreRequest,
    /// The events' numbers, and the bytes of their lines.
    members: Vec<(usize, usize)>,
    /// The size of the body.
    bytes: usize,
    /// The form in which the request will be written.
    pub form: RequestForm,
}

impl Target {
    /// Returns the requests that store these events; those of an index keep their order.
    pub fn bulk(&self, events: &[Event], form: RequestForm, limits: Limits) -> Vec<BulkRequest> {
        let planned = self.plan(events.iter().enumerate(), form, limits);
        planned.iter().map(|planned| planned.write(events)).collect()
    }

    /// Plans the requests for numbered events, without writing them.
    pub fn plan<'a>(
        &self,
        events: impl IntoIterator<Item = (usize, &'a Event)>,
        form: RequestForm,
        limits: Limits,
    ) -> Vec<Planned> {
        let mut planned_by_index: BTreeMap<String, usize> = BTreeMap::new();
        let mut whole: Vec<Planned> = Vec::new();
        let mut last: Option<(i64, usize)> = None;
        for (number, event) in events {
            // No pattern is finer than hours, and most events have the hour of the one before.
            let hour = event.time.timestamp().div_euclid(3_600);
            let position = match last {
                Some((same, position)) if same == hour => position,
                _ => *planned_by_index
                    .entry(self.index.name(event.time))
                    .or_insert_with_key(|index| {
                        whole.push(self.start_plan(index, form));
                        whole.len() - 1
                    }),
            };
            last = Some((hour, position));
            let bytes = line_bytes(event, form.ids);
            whole[position].bytes += bytes;
            whole[position].members.push((number, bytes));
        }
        whole.into_iter().flat_map(|planned| planned.split(limits)).collect()
    }

    fn start_plan(&self, index: &str, form: RequestForm) -> Planned {
        let base = &self.base;
        let doc_type = if form.doc_type { "/_doc" } else { "" };
        let url = format!("{base}/{index}{doc_type}/_bulk?filter_path=errors,error,items.*.status,items.*.error");
        Planned {
            request: StoreRequest { method: "POST", url },
            members: Vec::new(),
            bytes: 0,
            form,
        }
    }
}

impl Planned {
    /// Splits into requests within the limits, of about the same size each, so that no small remainder is left.
    fn split(self, limits: Limits) -> Vec<Self> {
        let share = self.bytes.div_ceil(self.bytes.div_ceil(limits.bytes.max(1)).max(1));
        if self.bytes <= limits.bytes && self.members.len() <= limits.events {
            return vec![self];
        }
        let empty = |members| Self {
            request: self.request.clone(),
            members,
            bytes: 0,
            form: self.form,
        };
        let mut split = Vec::new();
        let mut open = empty(Vec::new());
        for member in self.members {
            let bytes = member.1;
            let room = open.bytes < share && open.bytes + bytes <= limits.bytes && open.members.len() < limits.events;
            if !room && !open.members.is_empty() {
                split.push(std::mem::replace(&mut open, empty(Vec::new())));
            }
            open.bytes += bytes;
            open.members.push(member);
        }
        split.push(open);
        split
    }

    /// Writes the request with its body; `events` are all events from which the request was planned, by their numbers.
    pub fn write<E: Borrow<Event>>(&self, events: &[E]) -> BulkRequest {
        let mut body = Vec::with_capacity(self.bytes);
        for (number, _) in &self.members {
            write_lines(events[*number].borrow(), self.form.ids, &mut body);
        }
        BulkRequest {
            request: self.request.clone(),
            body,
            members: self.members.iter().map(|(number, _)| *number).collect(),
        }
    }
}

const BEGIN: &[u8] = br#"{"create":{"#;
const ID: &[u8] = br#""_id":"#;
const END: &[u8] = b"}}\n";

/// Writes the action and the document. A document is JSON without line breaks, as [`Event::new`] makes it.
fn write_lines(event: &Event, with_id: bool, lines: &mut Vec<u8>) {
    lines.extend_from_slice(BEGIN);
    if with_id {
        lines.extend_from_slice(ID);
        lines.extend_from_slice(Value::from(event.id.as_str()).to_string().as_bytes());
    }
    lines.extend_from_slice(END);
    lines.extend_from_slice(event.document.as_bytes());
    lines.push(b'\n');
}

/// Returns the number of bytes that [`write_lines`] writes.
fn line_bytes(event: &Event, with_id: bool) -> usize {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    let id = if !with_id {
        0
    } else if event.id.bytes().all(plain) {
        ID.len() + event.id.len() + "\"\"".len()
    } else {
        ID.len() + Value::from(event.id.as_str()).to_string().len()
    };
    BEGIN.len() + id + END.len() + event.document.len() + 1
}

/// The meaning of a response to a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BulkResponse {
    /// One entry for each event, in the order of the body; none for an event that the response does not mention.
    Items(Vec<Option<Verdict>>),
    /// One verdict for all events: [`Verdict::Retry`], [`Verdict::Denied`] or [`Verdict::Refused`].
    Whole(Verdict),
    /// The body is too large for the server, or for a proxy before it.
    TooLarge(String),
    /// The server requires [`RequestForm::doc_type`].
    NeedsType,
}

/// The items of a response, parsed one by one: thousands of JSON values would take more memory than the batch.
#[derive(Deserialize)]
struct Items<'a> {
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

/// Parses the response to a batch of `sent` events.
pub fn parse_response(status: u16, body: &[u8], sent: usize) -> BulkResponse {
    if status == 200
        && let Ok(Items { items: Some(items) }) = serde_json::from_slice(body)
    {
        // With more items than events, the items cannot be assigned to events.
        let known = if items.len() > sent { &[] } else { items.as_slice() };
        let mut verdicts: Vec<_> = known.iter().map(|text| item(text)).collect();
        verdicts.resize(sent, None);
        return BulkResponse::Items(verdicts);
    }
    let read = || serde_json::from_slice::<Value>(body).ok();
    if status == 400 && explains(read().as_ref().and_then(|read| read.get("error")), "type is missing") {
        return BulkResponse::NeedsType;
    }
    match verdict(status, body) {
        Verdict::Retry(reason) => BulkResponse::Whole(Verdict::Retry(reason)),
        Verdict::Refused(reason) if status == 413 => BulkResponse::TooLarge(reason),
        // The index's name is wrong, and it comes from the event's time.
        Verdict::Refused(reason) if status == 400 => BulkResponse::Whole(Verdict::Refused(reason)),
        // A refusal of the whole request is not about the events.
        Verdict::Refused(reason) | Verdict::Denied(reason) => BulkResponse::Whole(Verdict::Denied(reason)),
        Verdict::Indexed | Verdict::Duplicate | Verdict::RefusesIds => BulkResponse::Whole(Verdict::Denied(format!(
            "status {status}, but the answer is not one to a bulk request"
        ))),
    }
}

/// Parses `{"create": {"status": 201}}`, which has an `error` after a failure.
fn item(text: &RawValue) -> Option<Verdict> {
    let item: Value = serde_json::from_str(text.get()).ok()?;
    let result = item.as_object()?.values().next()?;
    let status = u16::try_from(result.get("status")?.as_u64()?).ok()?;
    let error = result.get("error");
    match (status, error) {
        (200 | 201, None) => Some(Verdict::Indexed),
        _ => Some(refusal(status, error, || "no reason was given".to_owned())),
    }
}

/// The number of events by outcome, and the reasons of the failures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events stored now.
    pub indexed: u64,
    /// Events that were stored before.
    pub duplicate: u64,
    /// Events that were not stored.
    pub failed: u64,
    /// The first distinct reasons, and the number of events for each.
    pub reasons: Vec<(String, u64)>,
}

impl Tally {
    /// The maximum number of reasons kept; further ones tend to differ only in names.
    const MAX_REASONS: usize = 5;

    /// Counts one outcome.
    pub fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Indexed | Outcome::Queued => self.indexed += 1,
            Outcome::Duplicate => self.duplicate += 1,
            Outcome::Ignored(_) => {}
            Outcome::Fallback(failure) | Outcome::Returned(failure) | Outcome::Failed(failure) => {
                self.failed += 1;
                self.add_reason(&failure.reason);
            }
        }
    }

    /// Counts a reason without an event.
    pub fn add_reason(&mut self, reason: &str) {
        if let Some((_, count)) = self.reasons.iter_mut().find(|(known, _)| known == reason) {
            *count += 1;
        } else if self.reasons.len() < Self::MAX_REASONS {
            self.reasons.push((reason.to_owned(), 1));
        }
    }

    /// Returns the number of events counted.
    pub const fn total(&self) -> u64 {
        self.indexed + self.duplicate + self.failed
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Duration, Utc};
    use serde_json::json;

    use super::*;
    use crate::destination::Destination;
    use crate::hit::outcome::Failure;

    fn target(url: &str) -> Target {
        match Destination::parse(url, None, None) {
            Ok(Destination::OpenSearch(target)) => target,
            other => panic!("{url}: {other:?}"),
        }
    }

    fn event(number: usize, day: i64, length: usize) -> Event {
        let time = DateTime::<Utc>::from_timestamp_millis(1_772_357_400_123).expect("a time") + Duration::days(day);
        Event {
            id: format!("id-{number}=/+\"\\"),
            time,
            document: json!({"n": number, "fill": "x".repeat(length)}).to_string(),
        }
    }

    #[test]
    fn a_body_has_two_lines_for_each_event() {
        let events = [event(0, 0, 3), event(1, 0, 0)];
        let batches = target("http://host:9200/search/events").bulk(&events, RequestForm::default(), Limits::default());
        let [batch] = batches.as_slice() else {
            panic!("{batches:?}")
        };
        assert_eq!(batch.request.method, "POST");
        assert_eq!(
            batch.request.url,
            "http://host:9200/search/events/_bulk?filter_path=errors,error,items.*.status,items.*.error"
        );
        assert_eq!(
            String::from_utf8_lossy(&batch.body),
            concat!(
                r#"{"create":{"_id":"id-0=/+\"\\"}}"#,
                "\n",
                r#"{"fill":"xxx","n":0}"#,
                "\n",
                r#"{"create":{"_id":"id-1=/+\"\\"}}"#,
                "\n",
                r#"{"fill":"","n":1}"#,
                "\n"
            )
        );
        assert_eq!(batch.members, [0, 1]);
    }

    #[test]
    fn a_body_takes_the_memory_that_it_needs() {
        for id in ["JKJaXmPLvHcESHA=", "", "a\"b\\c", "ä€𝄞", "\t\u{7f}\u{0}", "a b/c"] {
            let event = Event {
                id: id.to_owned(),
                ..event(0, 0, 7)
            };
            for ids in [true, false] {
                let form = RequestForm { ids, doc_type: false };
                let mut lines = Vec::new();
                write_lines(&event, ids, &mut lines);
                assert_eq!(line_bytes(&event, ids), lines.len(), "{id:?}");
                let batches = target("http://host/events").bulk(std::slice::from_ref(&event), form, Limits::default());
                assert_eq!(batches[0].body, lines, "{id:?}");
            }
        }
    }

    #[test]
    fn forms_change_path_and_action() {
        let events = [event(0, 0, 0)];
        let form = RequestForm {
            ids: false,
            doc_type: true,
        };
        let batches = target("http://host/events").bulk(&events, form, Limits::default());
        assert!(batches[0].request.url.starts_with("http://host/events/_doc/_bulk?"));
        assert!(batches[0].body.starts_with(b"{\"create\":{}}\n{"));
    }

    #[test]
    fn bodies_are_split_by_bytes_and_by_count() {
        let events: Vec<_> = (0..10).map(|number| event(number, 0, 1_000)).collect();
        let split = |limits| {
            let batches = target("http://host/events").bulk(&events, RequestForm::default(), limits);
            assert!(batches.iter().all(|batch| batch.body.ends_with(b"}\n")));
            batches.into_iter().map(|batch| batch.members).collect::<Vec<_>>()
        };
        let by_count = split(Limits {
            bytes: usize::MAX,
            events: 4,
        });
        assert_eq!(by_count, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
        let by_bytes = split(Limits {
            bytes: 2_200,
            events: 100,
        });
        assert_eq!(by_bytes.len(), 5, "{by_bytes:?}");
        assert_eq!(by_bytes.concat(), (0..10).collect::<Vec<_>>());
        // Each event is larger than the limit and is sent alone.
        assert_eq!(split(Limits { bytes: 10, events: 100 }).len(), 10);
        assert_eq!(
            target("http://host/events").bulk(&[], RequestForm::default(), Limits::default()),
            []
        );
    }

    #[test]
    fn a_limit_is_never_exceeded_by_more_than_one_event() {
        let events: Vec<_> = (0..4_000).map(|number| event(number, 0, 3_000)).collect();
        let limits = Limits::default();
        let batches = target("http://host/events").bulk(&events, RequestForm::default(), limits);
        assert!(batches.len() > 2);
        assert!(batches.iter().all(|batch| batch.body.len() <= limits.bytes));
    }

    #[test]
    fn dated_indices_get_bodies_of_their_own() {
        let events: Vec<_> = (0..6).map(|number| event(number, [0, 1, 40][number % 3], 10)).collect();
        let batches = target("http://host/events-%Y.%m").bulk(&events, RequestForm::default(), Limits::default());
        let found: Vec<_> = batches
            .iter()
            .map(|batch| {
                (
                    batch.request.url.split('/').nth(3).unwrap_or_default(),
                    batch.members.clone(),
                )
            })
            .collect();
        assert_eq!(
            found,
            [("events-2026.03", vec![0, 1, 3, 4]), ("events-2026.04", vec![2, 5])]
        );
    }

    fn retry(reason: &str) -> Verdict {
        Verdict::Retry(reason.to_owned())
    }

    fn denied(reason: &str) -> Verdict {
        Verdict::Denied(reason.to_owned())
    }

    fn refused(reason: &str) -> Verdict {
        Verdict::Refused(reason.to_owned())
    }

    /// The responses are those of `OpenSearch` 2.19 and OpenSearch Serverless.
    #[test]
    fn each_item_has_its_own_verdict() {
        let table = [
            (json!({"create": {"status": 201}}), Some(Verdict::Indexed)),
            (
                json!({"index": {"_index": "events", "result": "created", "status": 201}}),
                Some(Verdict::Indexed),
            ),
            (
                json!({"create": {"status": 409, "error": {"type": "version_conflict_engine_exception", "reason": "[a]: version conflict, document already exists (current version [1])"}}}),
                Some(Verdict::Duplicate),
            ),
            (
                json!({"create": {"status": 429, "error": {"type": "rejected_execution_exception", "reason": "queue is full"}}}),
                Some(retry("status 429: rejected_execution_exception: queue is full")),
            ),
            (
                json!({"create": {"status": 503, "error": {"type": "unavailable_shards_exception", "reason": "primary shard is not active"}}}),
                Some(retry(
                    "status 503: unavailable_shards_exception: primary shard is not active",
                )),
            ),
            (
                json!({"create": {"status": 400, "error": {"type": "mapper_parsing_exception", "reason": "failed to parse field [date]"}}}),
                Some(refused(
                    "status 400: mapper_parsing_exception: failed to parse field [date]",
                )),
            ),
            (
                json!({"create": {"status": 400, "error": {"type": "illegal_argument_exception", "reason": "Document ID is not supported in create/index operation request"}}}),
                Some(Verdict::RefusesIds),
            ),
            (
                json!({"create": {"status": 403, "error": {"type": "cluster_block_exception", "reason": "index [events] blocked by: [FORBIDDEN/8/index write (api)];"}}}),
                Some(denied(
                    "status 403: cluster_block_exception: index [events] blocked by: [FORBIDDEN/8/index write (api)];",
                )),
            ),
            (
                json!({"create": {"status": 500}}),
                Some(retry("status 500: no reason was given")),
            ),
            // The item has no verdict that can be parsed.
            (json!({"create": {"_id": "a"}}), None),
            (json!({"create": {"status": "201"}}), None),
            (json!({}), None),
            (json!(null), None),
        ];
        let items: Vec<_> = table.iter().map(|(item, _)| item).collect();
        let body = json!({"took": 30, "errors": true, "items": items}).to_string();
        let expected = table.iter().map(|(_, verdict)| verdict.clone()).collect();
        assert_eq!(
            parse_response(200, body.as_bytes(), table.len()),
            BulkResponse::Items(expected)
        );
    }

    #[test]
    fn events_without_an_item_have_no_verdict() {
        let body = br#"{"errors":false,"items":[{"create":{"status":201}}]}"#;
        let expected = vec![Some(Verdict::Indexed), None, None];
        assert_eq!(parse_response(200, body, 3), BulkResponse::Items(expected));
        assert_eq!(
            parse_response(200, br#"{"errors":false,"items":[]}"#, 1),
            BulkResponse::Items(vec![None])
        );
        let more = br#"{"items":[{"create":{"status":201}},{"create":{"status":201}}]}"#;
        assert_eq!(parse_response(200, more, 1), BulkResponse::Items(vec![None]));
    }

    #[test]
    fn an_answer_can_be_for_all() {
        let whole = |status, body: &str| match parse_response(status, body.as_bytes(), 2) {
            BulkResponse::Whole(Verdict::Retry(reason)) => format!("again: {reason}"),
            BulkResponse::Whole(Verdict::Refused(reason)) => format!("never: {reason}"),
            BulkResponse::Whole(Verdict::Denied(reason)) => format!("not now: {reason}"),
            other => format!("{other:?}"),
        };
        let table = [
            (
                429,
                r#"{"error":{"type":"circuit_breaking_exception","reason":"too large"},"status":429}"#,
                "again: status 429: circuit_breaking_exception: too large",
            ),
            (503, "", "again: status 503: no body"),
            (
                502,
                "<html>Bad Gateway</html>",
                "again: status 502: <html>Bad Gateway</html>",
            ),
            (
                403,
                r#"{"Message":"Request throttled due to too many requests"}"#,
                r#"again: status 403: {"Message":"Request throttled due to too many requests"}"#,
            ),
            (401, "Unauthorized", "not now: status 401: Unauthorized"),
            (
                403,
                r#"{"error":{"type":"security_exception","reason":"no permissions for [indices:data/write/bulk]"}}"#,
                "not now: status 403: security_exception: no permissions for [indices:data/write/bulk]",
            ),
            (
                200,
                "<html>please log in</html>",
                "not now: status 200, but the answer is not an index's: <html>please log in</html>",
            ),
            (
                200,
                r#"{"result":"created"}"#,
                "not now: status 200, but the answer is not one to a bulk request",
            ),
            (413, "too large", r#"TooLarge("status 413: too large")"#),
            (
                400,
                r#"{"error":{"type":"action_request_validation_exception","reason":"Validation Failed: 1: type is missing;"},"status":400}"#,
                "NeedsType",
            ),
        ];
        for (status, body, expected) in table {
            assert_eq!(whole(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_tally_keeps_the_first_reasons() {
        let mut tally = Tally::default();
        let failed = |number: u64| {
            Outcome::Failed(Failure {
                reason: format!("reason {number}"),
                temporary: false,
            })
        };
        for number in 0..20 {
            tally.add(&Outcome::Indexed);
            tally.add(&failed(number % 7));
        }
        tally.add(&Outcome::Duplicate);
        assert_eq!(
            (tally.indexed, tally.duplicate, tally.failed, tally.total()),
            (20, 1, 20, 41)
        );
        assert_eq!(tally.reasons.len(), 5);
        assert_eq!(tally.reasons[0], ("reason 0".to_owned(), 3));
    }
}
