//! Messages of a queue: a batch that Lambda hands to the function, and what `ReceiveMessage` answers.

use chrono::{DateTime, Utc};
use serde::Deserialize;

/// Marks the log line of a batch.
pub const BATCH: &str = "batch";

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Identifies it, in every delivery.
    pub id: String,
    /// What it holds.
    pub body: String,
    /// When the queue got it.
    pub sent: Option<DateTime<Utc>>,
}

/// The payload of an invocation by a queue.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Payload")]
pub enum Batch {
    /// A batch of SQS.
    Messages(Vec<Message>),
    /// The event of something else.
    Foreign,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "Records")]
    records: Option<Vec<Record>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    message_id: Option<String>,
    body: Option<String>,
    event_source: Option<String>,
    attributes: Option<Attributes>,
}

#[derive(Deserialize)]
struct Attributes {
    #[serde(rename = "SentTimestamp")]
    sent: Option<String>,
}

impl From<Payload> for Batch {
    fn from(payload: Payload) -> Self {
        let message = |record: Record| {
            record.event_source.filter(|source| source == "aws:sqs")?;
            Some(Message {
                id: record.message_id?,
                body: record.body?,
                sent: record.attributes.and_then(|attributes| time(&attributes.sent?)),
            })
        };
        let messages = payload
            .records
            .and_then(|records| records.into_iter().map(message).collect());
        messages.map_or(Self::Foreign, Self::Messages)
    }
}

fn time(milliseconds: &str) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(milliseconds.parse().ok()?)
}

/// A message that was received, and the receipt by which it is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The message.
    pub message: Message,
    /// Removes it, as long as it is hidden from others.
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

/// Reads what `ReceiveMessage` has answered; none when it is no such answer.
pub fn received(body: &[u8]) -> Option<Vec<Received>> {
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

    fn read(payload: &serde_json::Value) -> Batch {
        serde_json::from_str(&payload.to_string()).expect("it can be read")
    }

    #[test]
    fn a_batch_is_read_as_lambda_sends_it() {
        let record = json!({
            "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
            "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
            "body": "{\"a\": \"\\u00e9\"}",
            "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1545082649183", "SenderId": "AIDAIENQZJOLO23YVJ4VO"},
            "messageAttributes": {},
            "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:my-queue",
            "awsRegion": "us-east-2"
        });
        let expected = Message {
            id: "059f36b4-87a3-44ab-83d2-661975830a7d".to_owned(),
            body: "{\"a\": \"\\u00e9\"}".to_owned(),
            sent: DateTime::from_timestamp_millis(1_545_082_649_183),
        };
        assert_eq!(read(&json!({"Records": [record]})), Batch::Messages(vec![expected]));
        assert_eq!(read(&json!({"Records": []})), Batch::Messages(Vec::new()));
    }

    #[test]
    fn events_of_others_are_no_batch() {
        for payload in [
            json!({}),
            json!({"Records": [{"eventSource": "aws:s3", "s3": {}}]}),
            json!({"Records": [{"messageId": "a", "body": "{}"}]}),
            json!({"Records": [{"eventSource": "aws:sqs", "messageId": "a"}]}),
            json!({"httpMethod": "GET"}),
        ] {
            assert_eq!(read(&payload), Batch::Foreign, "{payload}");
        }
    }

    #[test]
    fn an_empty_answer_has_no_messages() {
        assert_eq!(received(b"{}"), Some(Vec::new()));
        assert_eq!(received(b"<ReceiveMessageResponse/>"), None);
        let answer = br#"{"Messages":[{"MessageId":"m","ReceiptHandle":"r","MD5OfBody":"x","Body":"{}","Attributes":{"SentTimestamp":"1000"}}]}"#;
        let messages = received(answer).expect("an answer");
        assert_eq!(
            (messages[0].receipt.as_str(), messages[0].message.body.as_str()),
            ("r", "{}")
        );
        assert_eq!(messages[0].message.sent, DateTime::from_timestamp(1, 0));
    }
}
