//! Queues and streams, which keep an event until something else moves it to an index: the request that sends an event,
//! and the meaning of the response.
//!
//! Both are one POST in AWS's JSON protocol: SQS `SendMessage` and Firehose `PutRecord`. An event that is sent twice is
//! stored once, since the index identifies it by its id.

use std::borrow::Cow;
use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Auth, DestinationError, Service, Verdict};
use crate::hit::event::Event;

/// A service that takes messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageService {
    /// Amazon SQS.
    Sqs,
    /// Amazon Data Firehose.
    Firehose,
}

impl MessageService {
    /// Returns the scheme of the service's URLs.
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Sqs => "sqs",
            Self::Firehose => "firehose",
        }
    }

    const fn service(self) -> Service {
        match self {
            Self::Sqs => Service::Sqs,
            Self::Firehose => Service::Firehose,
        }
    }

    /// Returns the size limit of a message. SQS since January 2026: 1 MiB of text. Firehose: 1,000 KiB before base64.
    const fn max_bytes(self) -> usize {
        match self {
            Self::Sqs => 1024 * 1024,
            Self::Firehose => 1000 * 1024,
        }
    }
}

/// The format of a record in a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordFormat {
    /// The event's document.
    #[default]
    Event,
    /// Five texts, for programs that already read such records.
    Flat,
}

/// A queue or a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageTarget {
    /// The service.
    pub kind: MessageService,
    /// The endpoint's URL without a slash at its end.
    pub base: String,
    /// `ACCOUNT/QUEUE`, or the stream's name.
    pub name: String,
    /// The authentication of requests.
    pub auth: Auth,
    /// The format of a stream's records.
    pub record: RecordFormat,
}

impl fmt::Display for MessageTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.kind.scheme();
        let Self { base, name, .. } = self;
        match base.strip_prefix("https://") {
            Some(host) => write!(formatter, "{scheme}://{host}/{name}"),
            None => write!(formatter, "{scheme}+{base}/{name}"),
        }
    }
}

/// A call in AWS's JSON protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsCall {
    /// The header `X-Amz-Target`.
    pub target: &'static str,
    /// The media type.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

/// The media type of SQS's protocol.
const JSON_1_0: &str = "application/x-amz-json-1.0";

/// The media type of Firehose's protocol.
const JSON_1_1: &str = "application/x-amz-json-1.1";

impl MessageTarget {
    /// Parses `sqs://HOST/ACCOUNT/QUEUE` or `firehose://HOST/STREAM`; with `+http` after the scheme the connection is
    /// plain and nothing is signed, for emulators. Returns none if the text has neither scheme.
    pub fn parse(text: &str, region: Option<&str>) -> Option<Result<Self, DestinationError>> {
        let (scheme, rest) = text.split_once("://")?;
        let (scheme, plain) = match scheme.strip_suffix("+http") {
            Some(scheme) => (scheme, true),
            None => (scheme, false),
        };
        let kind = [MessageService::Sqs, MessageService::Firehose]
            .into_iter()
            .find(|kind| kind.scheme() == scheme)?;
        Some(Self::build(kind, rest, plain, region))
    }

    fn build(kind: MessageService, rest: &str, plain: bool, region: Option<&str>) -> Result<Self, DestinationError> {
        let (host, name) = rest.trim_end_matches('/').split_once('/').unwrap_or((rest, ""));
        let base = format!("{}://{host}", if plain { "http" } else { "https" });
        let url = reqwest::Url::parse(&base).ok().filter(|url| {
            url.has_host()
                && !super::has_user(url)
                && url.path() == "/"
                && url.query().is_none()
                && url.fragment().is_none()
        });
        let fits = |part: &str, also: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || also.as_bytes().contains(&byte))
        };
        let (named, example) = match kind {
            MessageService::Sqs => (
                name.split_once('/')
                    .is_some_and(|(account, queue)| fits(account, "") && fits(queue, "-_.")),
                "sqs://sqs.eu-central-1.amazonaws.com/123456789012/pixel",
            ),
            MessageService::Firehose => (
                fits(name, "-_.") && name.len() <= 64,
                "firehose://firehose.eu-central-1.amazonaws.com/pixel",
            ),
        };
        let (true, Some(url)) = (named, url) else {
            return Err(DestinationError::new(format!("give it in the form `{example}`")));
        };
        let auth = if plain {
            Auth::None
        } else {
            let host = url.host_str().unwrap_or_default();
            let region = host.split('.').find(|label| is_region(label)).or(region);
            let Some(region) = region.filter(|region| !region.is_empty()) else {
                return Err(DestinationError {
                    remedy: "give the region, since the host does not name it and requests are signed".to_owned(),
                    about_region: true,
                });
            };
            Auth::SigV4 {
                service: kind.service(),
                region: region.to_owned(),
            }
        };
        Ok(Self {
            kind,
            base,
            name: name.to_owned(),
            auth,
            record: RecordFormat::default(),
        })
    }

    /// Returns the queue's own URL, by which SQS identifies it.
    pub fn queue_url(&self) -> String {
        format!("{}/{}", self.base, self.name)
    }

    fn is_fifo(&self) -> bool {
        self.kind == MessageService::Sqs && self.name.rsplit('.').next() == Some("fifo")
    }

    /// Builds the call that sends an event.
    pub fn send_call(&self, event: &Event) -> AwsCall {
        match self.kind {
            MessageService::Sqs => {
                let mut body = json!({"QueueUrl": self.queue_url(), "MessageBody": replace_forbidden(&event.document)});
                if self.is_fifo() {
                    // Every event is a group of its own: their order does not matter, and groups are read in parallel.
                    let id = deduplication_id(&event.id);
                    body["MessageGroupId"] = id.as_str().into();
                    body["MessageDeduplicationId"] = id.into();
                }
                self.call("AmazonSQS.SendMessage", &body)
            }
            MessageService::Firehose => self.call(
                "Firehose_20150804.PutRecord",
                &json!({"DeliveryStreamName": self.name, "Record": {"Data": STANDARD.encode(self.record(event).as_bytes())}}),
            ),
        }
    }

    fn record<'a>(&self, event: &'a Event) -> Cow<'a, str> {
        match self.record {
            RecordFormat::Event => remove_line_breaks(&event.document),
            // A document that is not JSON has no such texts.
            RecordFormat::Flat => flatten_event(event).map_or_else(|| remove_line_breaks(&event.document), Cow::Owned),
        }
    }

    fn call(&self, target: &'static str, body: &Value) -> AwsCall {
        let content_type = match self.kind {
            MessageService::Sqs => JSON_1_0,
            MessageService::Firehose => JSON_1_1,
        };
        AwsCall {
            target,
            content_type,
            body: body.to_string().into_bytes(),
        }
    }

    /// Builds the call that receives up to ten messages and hides them from other readers for `hidden` seconds; the
    /// service waits up to `wait` seconds for the first one.
    pub fn receive_call(&self, hidden: u32, wait: u32) -> AwsCall {
        self.call(
            "AmazonSQS.ReceiveMessage",
            &json!({
                "QueueUrl": self.queue_url(),
                "MaxNumberOfMessages": 10,
                "VisibilityTimeout": hidden,
                "WaitTimeSeconds": wait,
                "AttributeNames": ["SentTimestamp"],
            }),
        )
    }

    /// Builds the call that deletes messages by their receipts, ten at most.
    pub fn delete_call<'a>(&self, receipts: impl IntoIterator<Item = &'a str>) -> AwsCall {
        let entries: Vec<_> = receipts
            .into_iter()
            .enumerate()
            .map(|(number, receipt)| json!({"Id": number.to_string(), "ReceiptHandle": receipt}))
            .collect();
        self.call(
            "AmazonSQS.DeleteMessageBatch",
            &json!({"QueueUrl": self.queue_url(), "Entries": entries}),
        )
    }

    /// Builds the call that returns the number of messages.
    pub fn count_call(&self) -> AwsCall {
        self.call(
            "AmazonSQS.GetQueueAttributes",
            &json!({
                "QueueUrl": self.queue_url(),
                "AttributeNames": ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"],
            }),
        )
    }

    /// Returns the reason if an event is larger than the service accepts.
    pub fn too_large(&self, event: &Event) -> Option<String> {
        let (bytes, most) = (event.document.len(), self.kind.max_bytes());
        (bytes > most).then(|| format!("the event has {bytes} bytes, and {} takes {most}", self.kind.scheme()))
    }

    /// Returns the meaning of a response to [`Self::send_call`].
    pub fn verdict(&self, status: u16, body: &[u8]) -> Verdict {
        let answer = serde_json::from_slice::<AwsResponse>(body).unwrap_or_default();
        let taken = match self.kind {
            MessageService::Sqs => answer.message_id,
            MessageService::Firehose => answer.record_id,
        };
        match (status, taken) {
            (200, Some(id)) if !id.is_empty() => Verdict::Indexed,
            (200, _) => Verdict::Denied(format!(
                "status 200, but the answer is not one of {}",
                self.kind.scheme()
            )),
            _ => classify_error(status, answer.kind.as_deref(), answer.message.as_deref()),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AwsResponse {
    #[serde(rename = "MessageId")]
    message_id: Option<String>,
    #[serde(rename = "RecordId")]
    record_id: Option<String>,
    #[serde(rename = "__type")]
    kind: Option<String>,
    #[serde(alias = "Message")]
    message: Option<String>,
}

/// Classifies an error of AWS's JSON protocol: transient errors are retried, errors about the message itself are
/// refusals, and all others concern permissions, names and settings.
fn classify_error(status: u16, kind: Option<&str>, message: Option<&str>) -> Verdict {
    // `com.amazonaws.sqs#QueueDoesNotExist`; some services add a URL after a colon.
    let kind = kind.map(|kind| kind.rsplit('#').next().unwrap_or(kind));
    let kind = kind
        .map(|kind| kind.split(':').next().unwrap_or(kind))
        .unwrap_or_default();
    let reason = super::opensearch::shorten(&format!(
        "status {status}: {kind}: {}",
        message.unwrap_or("no reason was given")
    ));
    let passing = [
        "Throttl",
        "ServiceUnavailable",
        "InternalFailure",
        "InternalError",
        "RequestTimeout",
        "OverLimit",
        "RequestThrottled",
        "LimitExceeded",
        "InvalidKMSResource",
    ];
    let own = [
        "InvalidMessageContents",
        "MessageTooLong",
        "InvalidParameterValue",
        "ValidationException",
        "BatchRequestTooLong",
    ];
    if matches!(status, 429 | 500..=599) || passing.iter().any(|part| kind.contains(part)) {
        Verdict::Retry(reason)
    } else if status == 413 || own.iter().any(|part| kind.contains(part)) {
        Verdict::Refused(reason)
    } else {
        Verdict::Denied(reason)
    }
}

/// Flattens an event to the record's five texts; none if the document is not JSON.
fn flatten_event(event: &Event) -> Option<String> {
    let document: Value = serde_json::from_str(&event.document).ok()?;
    let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or(UNKNOWN);
    let labels = document.get("labels").and_then(Value::as_array).into_iter().flatten();
    let third = labels
        .filter_map(|label| label.as_str()?.strip_prefix("thirdpartyname="))
        .next_back();
    let record = FlatRecord {
        date: event.time.format("%d/%b/%Y:%H:%M:%S %z").to_string(),
        ip: text("/client/ip"),
        user_agent: text("/user_agent/original"),
        user_id: text("/user/id"),
        third_party_id: third.unwrap_or(UNKNOWN),
    };
    // Files of such records are read line by line.
    Some(serde_json::to_string(&record).ok()? + "\n")
}

/// The value of a text that the hit does not have.
const UNKNOWN: &str = "unknown";

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct FlatRecord<'a> {
    /// The time of the request, in API Gateway's format.
    date: String,
    ip: &'a str,
    user_agent: &'a str,
    user_id: &'a str,
    third_party_id: &'a str,
}

/// Returns true for names such as `eu-central-1`, `us-gov-west-1` and `us-isob-east-1`.
fn is_region(label: &str) -> bool {
    let mut parts = label.split('-');
    let letters = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    let first = parts.next().is_some_and(|part| part.len() == 2 && letters(part));
    let rest: Vec<_> = parts.collect();
    let Some((number, names)) = rest.split_last() else {
        return false;
    };
    first
        && !names.is_empty()
        && names.iter().all(|part| letters(part))
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Escapes U+FFFE and U+FFFF, which JSON does not escape and SQS refuses: it accepts the characters of XML 1.0.
fn replace_forbidden(document: &str) -> Cow<'_, str> {
    if !document.contains(['\u{fffe}', '\u{ffff}']) {
        return Cow::Borrowed(document);
    }
    Cow::Owned(document.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff"))
}

/// Returns JSON text on one line: a line break in it can only be between its parts.
pub(crate) fn remove_line_breaks(document: &str) -> Cow<'_, str> {
    // Two searches for one byte are many times as fast as one for both.
    if !document.contains('\n') && !document.contains('\r') {
        return Cow::Borrowed(document);
    }
    Cow::Owned(document.replace(['\n', '\r'], " "))
}

/// Returns an id of at most 128 letters, digits and punctuation, as SQS requires.
fn deduplication_id(id: &str) -> String {
    if id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return id.to_owned();
    }
    Sha256::digest(id.as_bytes())
        .iter()
        .fold(String::new(), |mut text, byte| {
            use fmt::Write;
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::destination::Destination;

    fn target(text: &str) -> MessageTarget {
        match MessageTarget::parse(text, None) {
            Some(Ok(target)) => target,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn event(id: &str, document: &str) -> Event {
        Event {
            id: id.to_owned(),
            time: DateTime::default(),
            document: document.to_owned(),
        }
    }

    #[test]
    fn urls_name_endpoint_region_and_queue() {
        let signed = |service, region: &str| Auth::SigV4 {
            service,
            region: region.to_owned(),
        };
        let table = [
            (
                "sqs://sqs.eu-central-1.amazonaws.com/123456789012/pixel",
                signed(Service::Sqs, "eu-central-1"),
            ),
            (
                "sqs://sqs.cn-north-1.amazonaws.com.cn/123456789012/pixel.fifo",
                signed(Service::Sqs, "cn-north-1"),
            ),
            (
                "sqs://sqs-fips.us-gov-west-1.amazonaws.com/123456789012/p",
                signed(Service::Sqs, "us-gov-west-1"),
            ),
            (
                "sqs://vpce-0a-1b.sqs.us-east-1.vpce.amazonaws.com/123456789012/p",
                signed(Service::Sqs, "us-east-1"),
            ),
            (
                "firehose://firehose.eu-west-1.amazonaws.com/a_b-c.d",
                signed(Service::Firehose, "eu-west-1"),
            ),
            ("sqs+http://127.0.0.1:9324/000000000000/p", Auth::None),
            ("firehose+http://localhost:4566/p", Auth::None),
        ];
        for (url, auth) in table {
            let parsed = target(url);
            assert_eq!((parsed.to_string().as_str(), &parsed.auth), (url, &auth));
        }
        let elsewhere = MessageTarget::parse("sqs://queue.example/1/p", Some("eu-west-3"));
        assert!(
            matches!(elsewhere, Some(Ok(MessageTarget { auth: Auth::SigV4 { region, .. }, .. })) if region == "eu-west-3")
        );
    }

    #[test]
    fn what_is_no_url_of_theirs_says_what_would_be() {
        for url in [
            "sqs://",
            "sqs://sqs.eu-central-1.amazonaws.com",
            "sqs://sqs.eu-central-1.amazonaws.com/pixel",
            "sqs://sqs.eu-central-1.amazonaws.com/1/a/b",
            "sqs://me:pw@sqs.eu-central-1.amazonaws.com/1/p",
            "sqs://sqs.eu-central-1.amazonaws.com/1/p?x=1",
            "firehose://firehose.eu-central-1.amazonaws.com/",
            "firehose://firehose.eu-central-1.amazonaws.com/a/b",
        ] {
            let error = Destination::parse(url, None, None).expect_err(url);
            assert!(error.remedy.contains("://"), "{url}: {error}");
        }
        let error = Destination::parse("sqs://queue.example/1/p", None, None).expect_err("no region");
        assert!(error.about_region);
    }

    #[test]
    fn a_message_is_inside_the_allowed_characters() {
        let queue = target("sqs://sqs.eu-central-1.amazonaws.com/123456789012/pixel");
        let text = "\u{fffe}\u{ffff}\u{10ffff}\u{7f}é\u{0}\u{1b}";
        let document = json!({ "a": text }).to_string();
        let call = queue.send_call(&event("id", &document));
        assert_eq!(
            (call.target, call.content_type),
            ("AmazonSQS.SendMessage", "application/x-amz-json-1.0")
        );
        let sent: Value = serde_json::from_slice(&call.body).expect("JSON");
        assert_eq!(
            sent["QueueUrl"],
            "https://sqs.eu-central-1.amazonaws.com/123456789012/pixel"
        );
        let message = sent["MessageBody"].as_str().expect("a text");
        let permitted = |character: char| matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}');
        assert!(message.chars().all(permitted), "{message:?}");
        assert_eq!(
            serde_json::from_str::<Value>(message).expect("JSON"),
            json!({ "a": text })
        );
        assert_eq!(sent.get("MessageGroupId"), None);
    }

    #[test]
    fn a_fifo_queue_knows_an_event_by_its_id() {
        let queue = target("sqs://sqs.eu-central-1.amazonaws.com/123456789012/pixel.fifo");
        let sent =
            |id: &str| -> Value { serde_json::from_slice(&queue.send_call(&event(id, "{}")).body).expect("JSON") };
        assert_eq!(sent("JKJaXmPLvHcESHA=")["MessageDeduplicationId"], "JKJaXmPLvHcESHA=");
        for id in ["with space", "é", &"x".repeat(129)] {
            let sent = sent(id);
            let given = sent["MessageDeduplicationId"].as_str().expect("a text");
            assert_eq!(given.len(), 64);
            assert_eq!(sent["MessageGroupId"], given);
        }
    }

    #[test]
    fn a_record_is_one_line() {
        let stream = target("firehose://firehose.eu-west-1.amazonaws.com/pixel");
        let call = stream.send_call(&event("id", "{\n\"a\":\r\n1}"));
        assert_eq!(
            (call.target, call.content_type),
            ("Firehose_20150804.PutRecord", "application/x-amz-json-1.1")
        );
        let sent: Value = serde_json::from_slice(&call.body).expect("JSON");
        assert_eq!(sent["DeliveryStreamName"], "pixel");
        let data = STANDARD
            .decode(sent["Record"]["Data"].as_str().expect("a text"))
            .expect("base64");
        assert_eq!(data, b"{ \"a\":  1}");
        assert_eq!(stream.too_large(&event("id", &"x".repeat(1_024_000))), None);
        assert!(stream.too_large(&event("id", &"x".repeat(1_024_001))).is_some());
    }

    #[test]
    fn a_flat_record_has_five_texts_and_is_valid_whatever_a_visitor_sends() {
        let mut stream = target("firehose://firehose.eu-west-1.amazonaws.com/pixel");
        stream.record = RecordFormat::Flat;
        let document = json!({
            "client": {"ip": "203.0.113.0"}, "user_agent": {"original": "a \"quote\", \"userId\": \"x\""},
            "user": {"id": "u', \"ip\": \"9.9.9.9"}, "labels": ["other=1", "thirdpartyname=first", "thirdpartyname=shop\n"],
        });
        let event = Event {
            time: DateTime::from_timestamp(1_772_357_400, 0).expect("a time"),
            ..event("id", &document.to_string())
        };
        let sent: Value = serde_json::from_slice(&stream.send_call(&event).body).expect("JSON");
        let data = STANDARD
            .decode(sent["Record"]["Data"].as_str().expect("a text"))
            .expect("base64");
        assert!(data.ends_with(b"}\n") && !data[..data.len() - 1].contains(&b'\n'));
        let expected = json!({
            "date": "01/Mar/2026:09:30:00 +0000", "ip": "203.0.113.0", "userAgent": "a \"quote\", \"userId\": \"x\"",
            "userId": "u', \"ip\": \"9.9.9.9", "thirdPartyId": "shop\n",
        });
        assert_eq!(serde_json::from_slice::<Value>(&data).expect("JSON"), expected);
    }

    #[test]
    fn answers_have_their_verdicts() {
        let queue = target("sqs://sqs.eu-central-1.amazonaws.com/1/p");
        let stream = target("firehose://firehose.eu-west-1.amazonaws.com/p");
        let kind = |verdict: &Verdict| match verdict {
            Verdict::Indexed => "taken",
            Verdict::Retry(_) => "retry",
            Verdict::Refused(_) => "refused",
            Verdict::Denied(_) => "denied",
            Verdict::Duplicate | Verdict::RefusesIds => "impossible",
        };
        let table = [
            (
                &queue,
                200,
                r#"{"MessageId":"5fea7756","MD5OfMessageBody":"fafb00f5"}"#,
                "taken",
            ),
            (&stream, 200, r#"{"RecordId":"abc","Encrypted":false}"#, "taken"),
            (&queue, 200, "<html>log in</html>", "denied"),
            (&stream, 200, r#"{"MessageId":"a"}"#, "denied"),
            (
                &queue,
                400,
                r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"The specified queue does not exist."}"#,
                "denied",
            ),
            (
                &queue,
                400,
                r#"{"__type":"com.amazonaws.sqs#InvalidMessageContents","message":"Invalid characters"}"#,
                "refused",
            ),
            (
                &queue,
                400,
                r#"{"__type":"com.amazon.coral.service#ExpiredTokenException"}"#,
                "denied",
            ),
            (
                &queue,
                403,
                r#"{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"not authorized"}"#,
                "denied",
            ),
            (
                &queue,
                400,
                r#"{"__type":"com.amazonaws.sqs#RequestThrottled"}"#,
                "retry",
            ),
            (&queue, 400, r#"{"__type":"com.amazonaws.sqs#KmsThrottled"}"#, "retry"),
            (
                &stream,
                400,
                r#"{"__type":"ResourceNotFoundException","message":"Firehose pixel not found"}"#,
                "denied",
            ),
            (&stream, 400, r#"{"__type":"ServiceUnavailableException"}"#, "retry"),
            (&stream, 400, r#"{"__type":"InvalidKMSResourceException"}"#, "retry"),
            (&stream, 400, r#"{"__type":"ValidationException"}"#, "refused"),
            (&stream, 413, "", "refused"),
            (&stream, 500, "", "retry"),
            (&queue, 503, "Slow down", "retry"),
        ];
        for (target, status, body, expected) in table {
            let verdict = target.verdict(status, body.as_bytes());
            assert_eq!(kind(&verdict), expected, "{status} {body}: {verdict:?}");
        }
    }
}
