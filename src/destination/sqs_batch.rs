//! Messages of a queue: the batch that Lambda passes to the function, and the response to `ReceiveMessage`.

use std::borrow::Cow;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Deserialize;

/// The message of a batch's log line.
pub const BATCH: &str = "batch";

/// A message of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The message's id, which is the same in every delivery.
    pub id: String,
    /// The body.
    pub body: String,
    /// The time when the queue received it.
    pub sent: Option<DateTime<Utc>>,
}

/// The messages of an SQS invocation, parsed in parts: the first can be delivered while the others are parsed.
#[derive(Clone, Debug)]
pub struct Messages {
    payload: Arc<String>,
    /// The offset of the next message.
    at: usize,
    ended: bool,
}

/// The error for a payload that is not an SQS batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchError;

/// The size of messages at which a part ends.
const PART_BYTES: usize = 512 * 1024;

impl Messages {
    /// Parses the beginning of Lambda's payload: an object whose only member is the list of messages.
    ///
    /// # Errors
    ///
    /// [`BatchError`]; an error after the list's beginning is reported with its part.
    pub fn parse(payload: String) -> Result<Self, BatchError> {
        let mut messages = Self {
            payload: Arc::new(payload),
            at: 0,
            ended: false,
        };
        for token in ["{", "\"Records\"", ":", "["] {
            messages.expect(token)?;
        }
        messages.ended = messages.expect("]").is_ok();
        Ok(messages)
    }

    /// Parses the next part; none after the last.
    ///
    /// # Errors
    ///
    /// [`BatchError`] if a message cannot be parsed.
    pub fn part(&mut self) -> Result<Option<Vec<Message>>, BatchError> {
        let mut part = Vec::new();
        let mut bytes = 0;
        while bytes < PART_BYTES && !self.ended {
            let message = self.message()?;
            bytes += message.body.len();
            part.push(message);
        }
        Ok(Some(part).filter(|part| !part.is_empty()))
    }

    /// Returns the number of messages that remain, up to the first that cannot be parsed.
    pub fn count(mut self) -> usize {
        let mut count = 0;
        while !self.ended && self.message().is_ok() {
            count += 1;
        }
        count
    }

    fn message(&mut self) -> Result<Message, BatchError> {
        let mut records = serde_json::Deserializer::from_str(&self.payload[self.at..]).into_iter::<Record<'_>>();
        let record = records.next().and_then(Result::ok).ok_or(BatchError)?;
        let read = records.byte_offset();
        let message = record.message().ok_or(BatchError)?;
        self.at += read;
        self.ended = self.expect(",").is_err();
        if self.ended {
            self.expect("]")?;
        }
        Ok(message)
    }

    fn expect(&mut self, token: &str) -> Result<(), BatchError> {
        let rest = &self.payload[self.at..];
        let found = rest.trim_ascii_start().strip_prefix(token).ok_or(BatchError)?;
        self.at += rest.len() - found.len();
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    message_id: Option<String>,
    body: Option<String>,
    #[serde(borrow)]
    event_source: Option<Cow<'a, str>>,
    attributes: Option<Attributes>,
}

impl Record<'_> {
    fn message(self) -> Option<Message> {
        self.event_source.filter(|source| source == "aws:sqs")?;
        Some(Message {
            id: self.message_id?,
            body: self.body?,
            sent: self.attributes.and_then(|attributes| time(&attributes.sent?)),
        })
    }
}

#[derive(Deserialize)]
struct Attributes {
    #[serde(rename = "SentTimestamp")]
    sent: Option<String>,
}

fn time(milliseconds: &str) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(milliseconds.parse().ok()?)
}

/// A received message, and the receipt that deletes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The message.
    pub message: Message,
    /// The receipt; valid as long as the message is hidden from other readers.
    pub receipt: String,
}

#[derive(Deserialize)]
struct Receive {
    #[serde(rename = "Messages", default)]
    messages: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    message_id: String,
    receipt_handle: String,
    body: String,
    #[serde(default)]
    attributes: Option<Attributes>,
}

/// Parses the response to `ReceiveMessage`; none if it is something else.
pub fn parse_received(body: &[u8]) -> Option<Vec<Received>> {
    let answer: Receive = serde_json::from_slice(body).ok()?;
    let received = |entry: Entry| Received {
        message: Message {
            id: entry.message_id,
            body: entry.body,
            sent: entry.attributes.and_then(|attributes| time(&attributes.sent?)),
        },
        receipt: entry.receipt_handle,
    };
    Some(answer.messages.unwrap_or_default().into_iter().map(received).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(payload: &str) -> Result<Vec<Vec<Message>>, BatchError> {
        let mut messages = Messages::parse(payload.to_owned())?;
        let count = messages.clone().count();
        let mut parts = Vec::new();
        while let Some(part) = messages.part()? {
            parts.push(part);
        }
        assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), count);
        Ok(parts)
    }

    fn record(body: &str) -> serde_json::Value {
        json!({
            "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
            "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
            "body": body,
            "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1545082649183", "SenderId": "AIDAIENQZJOLO23YVJ4VO"},
            "messageAttributes": {},
            "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:my-queue",
            "awsRegion": "us-east-2"
        })
    }

    #[test]
    fn a_batch_is_read_as_lambda_sends_it() {
        let body = "{\"a\": \"\\u00e9\"}";
        let expected = Message {
            id: "059f36b4-87a3-44ab-83d2-661975830a7d".to_owned(),
            body: body.to_owned(),
            sent: DateTime::from_timestamp_millis(1_545_082_649_183),
        };
        let batch = json!({"Records": [record(body), record(body)]});
        for payload in [batch.to_string(), format!("{batch:#}\n")] {
            assert_eq!(read(&payload), Ok(vec![vec![expected.clone(); 2]]), "{payload}");
        }
        assert_eq!(read(r#"{"Records":[]}"#), Ok(Vec::new()));
    }

    #[test]
    fn a_large_batch_is_read_in_parts() {
        let bodies: Vec<String> = (0..7).map(|number| number.to_string().repeat(200_000)).collect();
        let records: Vec<_> = bodies.iter().map(|body| record(body)).collect();
        let parts = read(&json!({"Records": records}).to_string()).expect("it is a batch");
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 1]);
        let found: Vec<_> = parts.concat().into_iter().map(|message| message.body).collect();
        assert_eq!(found, bodies);
    }

    #[test]
    fn what_is_no_batch_is_found_out() {
        let whole = json!({"Records": [record("{}"), record("{}")]}).to_string();
        let mut broken: Vec<String> = (0..whole.len() - 2).map(|length| whole[..length].to_owned()).collect();
        for other in [
            json!({}),
            json!({"Records": null}),
            json!({"Records": 7}),
            json!({"Records": [{"eventSource": "aws:s3", "s3": {}}]}),
            json!({"Records": [{"messageId": "a", "body": "{}"}]}),
            json!({"Records": [{"eventSource": "aws:sqs", "messageId": "a"}]}),
            json!({"Records": [record("{}"), {"eventSource": "aws:sqs", "messageId": "a"}]}),
            json!({"Records": [record("{}"), 7]}),
            json!({"httpMethod": "GET"}),
        ] {
            broken.push(other.to_string());
        }
        broken.extend([
            String::new(),
            "[]".to_owned(),
            whole.replace("},{", "}{"),
            whole.replace("},{", "},,{"),
        ]);
        for payload in broken {
            let found = Messages::parse(payload.clone()).and_then(|mut messages| {
                while messages.part()?.is_some() {}
                Ok(())
            });
            assert_eq!(found, Err(BatchError), "{payload}");
        }
    }

    #[test]
    fn an_empty_answer_has_no_messages() {
        assert_eq!(parse_received(b"{}"), Some(Vec::new()));
        assert_eq!(parse_received(b"<ReceiveMessageResponse/>"), None);
        let answer = br#"{"Messages":[{"MessageId":"m","ReceiptHandle":"r","MD5OfBody":"x","Body":"{}","Attributes":{"SentTimestamp":"1000"}}]}"#;
        let messages = parse_received(answer).expect("an answer");
        assert_eq!(
            (messages[0].receipt.as_str(), messages[0].message.body.as_str()),
            ("r", "{}")
        );
        assert_eq!(messages[0].message.sent, DateTime::from_timestamp(1, 0));
    }
}
