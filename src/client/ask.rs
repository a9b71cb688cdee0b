//! Runs the queries of [`crate::query`] on an index.

use std::time::Duration;

use serde_json::Value;

use crate::client::http::{ClientRequest, Deliverer};
use crate::query::elastic;
use crate::query::elastic::Dialect;
use crate::query::{EventPage, EventQuery, Filter, Query, QueryError, QueryResult};

/// The size limit of a response: a thousand of the largest events.
const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// The time limit of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

async fn search(deliverer: &Deliverer, body: &Value) -> Result<(u16, Vec<u8>), QueryError> {
    let target = deliverer.target();
    let url = format!(
        "{}/{}/_search?ignore_unavailable=true",
        target.base,
        target.index.wildcard()
    );
    let sent = deliverer
        .send(
            ClientRequest::json("POST", url, body.to_string()),
            MAX_RESPONSE_BYTES,
            REQUEST_TIMEOUT,
        )
        .await;
    let answer = sent.map_err(|error| QueryError::Unavailable(error.to_string()))?;
    Ok((answer.status, answer.body))
}

async fn check_response(deliverer: &Deliverer, body: &Value) -> Result<Value, QueryError> {
    let (status, answer) = search(deliverer, body).await?;
    elastic::check_status(status, &answer)
}

/// Runs a query.
///
/// # Errors
///
/// [`QueryError`] if the index is not available, or refuses the query.
pub async fn ask(deliverer: &Deliverer, query: &Query) -> Result<QueryResult, QueryError> {
    let (mut status, mut answer) = search(deliverer, &elastic::body(query, Dialect::Calendar)).await?;
    if elastic::wants_interval(status, &answer) {
        (status, answer) = search(deliverer, &elastic::body(query, Dialect::Interval)).await?;
    }
    let mut answer = elastic::read(query, &elastic::check_status(status, &answer)?)?;
    if query.compare {
        let before = check_response(deliverer, &elastic::body_before(query)).await?;
        answer.previous = Some(elastic::read_totals(&before));
    }
    Ok(answer)
}

/// Finds events.
///
/// # Errors
///
/// As [`ask`].
pub async fn latest(deliverer: &Deliverer, latest: &EventQuery) -> Result<EventPage, QueryError> {
    let answer = check_response(deliverer, &elastic::body_latest(latest)).await?;
    Ok(elastic::read_latest(latest, answer))
}

/// Counts events.
///
/// # Errors
///
/// As [`ask`].
pub async fn count(deliverer: &Deliverer, filter: &Filter) -> Result<u64, QueryError> {
    let answer = check_response(deliverer, &elastic::body_count(filter)).await?;
    Ok(elastic::count(&answer))
}
