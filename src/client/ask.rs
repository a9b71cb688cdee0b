//! Asks an index the questions of [`crate::query`].

use std::time::Duration;

use serde_json::Value;

use crate::client::http::{Deliverer, Request};
use crate::query::elastic;
use crate::query::elastic::Dialect;
use crate::query::{Answer, AskError, Filter, Latest, Page, Question};

/// Most bytes of an answer: a thousand of the largest events.
const ANSWER_BYTES: usize = 64 << 20;

/// Patience with one question.
const PATIENCE: Duration = Duration::from_secs(20);

async fn search(deliverer: &Deliverer, body: &Value) -> Result<(u16, Vec<u8>), AskError> {
    let target = deliverer.target();
    let url = format!(
        "{}/{}/_search?ignore_unavailable=true",
        target.base,
        target.index.wildcard()
    );
    let sent = deliverer
        .send(Request::json("POST", url, body.to_string()), ANSWER_BYTES, PATIENCE)
        .await;
    let answer = sent.map_err(|error| AskError::Unavailable(error.to_string()))?;
    Ok((answer.status, answer.body))
}

async fn judged(deliverer: &Deliverer, body: &Value) -> Result<Value, AskError> {
    let (status, answer) = search(deliverer, body).await?;
    elastic::judge(status, &answer)
}

/// Answers a question.
///
/// # Errors
///
/// [`AskError`] when the index cannot be asked, or refuses the question.
pub async fn ask(deliverer: &Deliverer, question: &Question) -> Result<Answer, AskError> {
    let (mut status, mut answer) = search(deliverer, &elastic::body(question, Dialect::Calendar)).await?;
    if elastic::wants_interval(status, &answer) {
        (status, answer) = search(deliverer, &elastic::body(question, Dialect::Interval)).await?;
    }
    let mut answer = elastic::read(question, &elastic::judge(status, &answer)?)?;
    if question.compare {
        let before = judged(deliverer, &elastic::body_before(question)).await?;
        answer.previous = Some(elastic::read_totals(&before));
    }
    Ok(answer)
}

/// Finds events.
///
/// # Errors
///
/// As [`ask`].
pub async fn latest(deliverer: &Deliverer, latest: &Latest) -> Result<Page, AskError> {
    let answer = judged(deliverer, &elastic::body_latest(latest)).await?;
    Ok(elastic::read_latest(latest, answer))
}

/// Counts events.
///
/// # Errors
///
/// As [`ask`].
pub async fn count(deliverer: &Deliverer, filter: &Filter) -> Result<u64, AskError> {
    let answer = judged(deliverer, &elastic::body_count(filter)).await?;
    Ok(elastic::count(&answer))
}
