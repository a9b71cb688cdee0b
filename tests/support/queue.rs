//! A queue of its own for one test, on the shared server that is as strict with messages as SQS is.

#![allow(dead_code, reason = "a toolbox: not every test uses every tool")]

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::servers::{self, Running, Server};
use super::serving::{Reply, try_send, wait_for};

/// The account of all queues.
const ACCOUNT: &str = "000000000000";

/// Long enough for any test.
const HIDDEN: u32 = 600;

/// A queue; dropping it deletes it.
#[derive(Debug)]
pub struct Queue {
    running: Running,
    pub name: String,
}

/// A message that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub id: String,
    pub body: String,
    pub receipt: String,
    /// Milliseconds since 1970, as the queue tells it.
    pub sent: String,
}

impl Queue {
    pub fn new(what: &str) -> Self {
        Self::made(what, "", &json!({}))
    }

    pub fn fifo(what: &str) -> Self {
        Self::made(what, ".fifo", &json!({"FifoQueue": "true"}))
    }

    /// A queue, and the one where its messages go that were received so often without being removed.
    pub fn with_dead_letters(what: &str, most: u32) -> (Self, Self) {
        let dead = Self::new(&format!("{what}-dead"));
        let target = format!("arn:aws:sqs:elasticmq:{ACCOUNT}:{}", dead.name);
        let redrive = json!({"deadLetterTargetArn": target, "maxReceiveCount": most.to_string()}).to_string();
        // What was not removed shows again at once.
        let attributes = json!({"RedrivePolicy": redrive, "VisibilityTimeout": "0"});
        (Self::made(what, "", &attributes), dead)
    }

    fn made(what: &str, suffix: &str, attributes: &Value) -> Self {
        if let Err(why) = servers::runnable(Server::ElasticMq) {
            panic!("{why}");
        }
        let queue = Self {
            running: servers::start(Server::ElasticMq),
            name: format!("{what}-{}{suffix}", std::process::id()),
        };
        queue.expect(
            "CreateQueue",
            json!({"QueueName": queue.name, "Attributes": attributes}),
        );
        queue
    }

    fn address(&self) -> SocketAddr {
        let address = self.running.url.trim_start_matches("http://");
        address.parse().expect("the server's URL is an address")
    }

    /// As `PIXEL_DESTINATION` has it.
    pub fn destination(&self) -> String {
        format!("sqs+{}/{ACCOUNT}/{}", self.running.url, self.name)
    }

    /// Calls the queue; the URL of the queue is added.
    pub fn call(&self, action: &str, mut body: Value) -> Reply {
        body["QueueUrl"] = format!("{}/{ACCOUNT}/{}", self.running.url, self.name).into();
        let body = body.to_string();
        let head = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/x-amz-json-1.0\r\n\
             X-Amz-Target: AmazonSQS.{action}\r\nContent-Length: {}\r\n\r\n",
            self.address(),
            body.len()
        );
        let bytes = [head.as_bytes(), body.as_bytes()].concat();
        try_send(self.address(), &bytes).unwrap_or_else(|error| panic!("{action}: {error}"))
    }

    /// Calls the queue and expects a success.
    pub fn expect(&self, action: &str, body: Value) -> Value {
        let reply = self.call(action, body);
        let text = String::from_utf8_lossy(&reply.body);
        assert_eq!(reply.status, 200, "{action}: {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    pub fn send(&self, body: &str) {
        self.expect("SendMessage", json!({"MessageBody": body}));
    }

    /// Up to ten messages, hidden from others for so many seconds.
    pub fn receive(&self, hidden: u32) -> Vec<Received> {
        let question =
            json!({"MaxNumberOfMessages": 10, "VisibilityTimeout": hidden, "AttributeNames": ["SentTimestamp"]});
        let answer = self.expect("ReceiveMessage", question);
        let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        messages
            .iter()
            .map(|message| Received {
                id: text(&message["MessageId"]),
                body: text(&message["Body"]),
                receipt: text(&message["ReceiptHandle"]),
                sent: text(&message["Attributes"]["SentTimestamp"]),
            })
            .collect()
    }

    pub fn remove(&self, receipt: &str) {
        self.expect("DeleteMessage", json!({"ReceiptHandle": receipt}));
    }

    /// All messages that can be had; they are removed.
    pub fn take(&self) -> Vec<String> {
        let mut bodies = Vec::new();
        loop {
            let messages = self.receive(HIDDEN);
            if messages.is_empty() {
                return bodies;
            }
            for message in messages {
                self.remove(&message.receipt);
                bodies.push(message.body);
            }
        }
    }

    /// All messages, which others can have all the same.
    pub fn receive_all(&self) -> Vec<Received> {
        let mut messages = Vec::new();
        loop {
            let some = self.receive(HIDDEN);
            if some.is_empty() {
                break;
            }
            messages.extend(some);
        }
        for message in &messages {
            let body = json!({"ReceiptHandle": message.receipt, "VisibilityTimeout": 0});
            self.expect("ChangeMessageVisibility", body);
        }
        messages
    }

    /// Waits until there are so many messages, and takes them.
    pub fn take_all(&self, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        wait_for(&format!("{count} messages in {}", self.name), || {
            bodies.extend(self.take());
            (bodies.len() >= count).then_some(())
        });
        bodies
    }

    /// Messages that can be had now, and those that are hidden.
    pub fn counts(&self) -> (u64, u64) {
        let attributes = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
        let answer = self.expect("GetQueueAttributes", json!({"AttributeNames": attributes}));
        let number = |name| {
            answer["Attributes"][name]
                .as_str()
                .and_then(|number| number.parse().ok())
        };
        let numbers = attributes.map(|name| number(name).expect("a number"));
        numbers.into()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.call("DeleteQueue", json!({}));
    }
}
