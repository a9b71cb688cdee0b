//! Queues as sources: their messages are received, and deleted once they are stored elsewhere.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::connect;
use crate::client::http::{ClientRequest, Deliverer};
use crate::config::Config;
use crate::destination::Auth;
use crate::destination::message::{AwsCall, MessageService, MessageTarget};
use crate::destination::sqs_batch::{Received, parse_received};
use crate::terminal::printable;

/// The timeout of one call, which may itself wait for messages.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The size limit of a response: ten messages of 1 MiB, escaped.
const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// Connects to a queue.
pub(super) async fn open(config: &Config, outlet: &MessageTarget) -> anyhow::Result<Deliverer<MessageTarget>> {
    ensure!(
        outlet.kind == MessageService::Sqs,
        "{outlet} cannot be read back; name the place that it delivers to"
    );
    let plain = |error: crate::client::http::ClientError| anyhow::anyhow!("{error}");
    let http = crate::client::http::http_client(None, &config.timing).map_err(plain)?;
    let credentials = match outlet.auth {
        Auth::SigV4 { .. } => Some(connect::credentials().await?),
        _ => None,
    };
    Ok(Deliverer::new(http, outlet.clone(), config.timing, credentials))
}

/// Receives up to ten messages, which other receivers then do not see for `hidden` seconds.
pub(super) async fn receive(
    queue: &Deliverer<MessageTarget>,
    hidden: u32,
    patience: u32,
) -> anyhow::Result<Vec<Received>> {
    let body = call(queue, queue.remote().receive_call(hidden, patience)).await?;
    parse_received(&body).with_context(|| format!("{} answered something that is not a queue's", queue.remote()))
}

/// Deletes messages, at most ten; returns the number that could not be deleted.
pub(super) async fn remove(queue: &Deliverer<MessageTarget>, receipts: &[&str]) -> anyhow::Result<usize> {
    let body = call(queue, queue.remote().delete_call(receipts.iter().copied())).await?;
    let answer: Value = serde_json::from_slice(&body)?;
    Ok(answer.get("Failed").and_then(Value::as_array).map_or(0, Vec::len))
}

/// Returns the approximate number of messages: visible, hidden and delayed.
pub(super) async fn count(queue: &Deliverer<MessageTarget>) -> anyhow::Result<u64> {
    let body = call(queue, queue.remote().count_call()).await?;
    let answer: Value = serde_json::from_slice(&body)?;
    let attributes = answer.get("Attributes").and_then(Value::as_object);
    let attributes = attributes.with_context(|| format!("{} did not say how full it is", queue.remote()))?;
    let numbers = attributes
        .values()
        .filter_map(|value| value.as_str()?.parse::<u64>().ok());
    Ok(numbers.sum())
}

async fn call(queue: &Deliverer<MessageTarget>, call: AwsCall) -> anyhow::Result<Vec<u8>> {
    let outlet = queue.remote();
    let action = call.target.rsplit('.').next().unwrap_or(call.target);
    let sent = queue
        .send(
            ClientRequest::call(&outlet.base, call),
            MAX_RESPONSE_BYTES,
            REQUEST_TIMEOUT,
        )
        .await;
    let answer = sent.with_context(|| format!("cannot reach {outlet}"))?;
    ensure!(
        answer.status == 200,
        "{outlet} refused `{action}` with status {}: {}",
        answer.status,
        printable(&String::from_utf8_lossy(&answer.body), 300)
    );
    Ok(answer.body)
}
