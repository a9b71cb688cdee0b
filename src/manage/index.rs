//! Codes beside the events of an index: an index of their own, one document for each.

use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::token::Scope;
use super::{Followed, Listed, MOST_FOLLOWED, Place, Put, Store};
use crate::aws::ask;
use crate::aws::client::{Deliverer, Request};
use crate::question::{Answer, AskError, Cursor, Filter, Latest, Moment, Page, Question};

const ANSWER_BYTES: usize = 8 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// The index of the codes.
const CODES: &str = "codes";

/// The index of the codes whose recipients have opted out.
const OPT_OUTS: &str = "opt-outs";

/// After so many milliseconds all events of a time can be found: the engines make them visible every second.
const SETTLED: i64 = 2_000;

/// An index beside that of the events: not one that the wildcard of the events' names matches.
fn beside(deliverer: &Deliverer, what: &str) -> String {
    let wildcard = deliverer.target().index.wildcard();
    let name: String = wildcard.chars().filter(|character| *character != '*').collect();
    format!("pixel-{what}-of-{}", name.trim_end_matches(['-', '_', '.']))
}

async fn send(
    deliverer: &Deliverer,
    method: &'static str,
    path: &str,
    body: Option<&Value>,
) -> Result<(u16, Value), AskError> {
    send_to(deliverer, CODES, method, path, body).await
}

async fn send_to(
    deliverer: &Deliverer,
    what: &str,
    method: &'static str,
    path: &str,
    body: Option<&Value>,
) -> Result<(u16, Value), AskError> {
    send_within(deliverer, what, method, path, body, PATIENCE).await
}

async fn send_within(
    deliverer: &Deliverer,
    what: &str,
    method: &'static str,
    path: &str,
    body: Option<&Value>,
    patience: Duration,
) -> Result<(u16, Value), AskError> {
    let url = format!("{}/{}{path}", deliverer.target().base, beside(deliverer, what));
    let body = body.map(Value::to_string).unwrap_or_default();
    let sent = deliverer
        .send(Request::json(method, url, body), ANSWER_BYTES, patience)
        .await;
    let answer = sent.map_err(|error| AskError::Unavailable(error.to_string()))?;
    Ok((answer.status, serde_json::from_slice(&answer.body).unwrap_or_default()))
}

fn unexpected<T>(status: u16) -> Result<T, AskError> {
    Err(AskError::Unavailable(format!(
        "the index of codes answered with status {status}"
    )))
}

/// How a code stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its owner has revoked it.
    pub revoked: bool,
    /// Its recipient has opted out.
    pub opted_out: bool,
}

/// No document has a longer id.
const LONGEST_ID: usize = 512;

/// How a code stands at this moment. A code of which nothing is known stands as it was given out.
///
/// # Errors
///
/// [`AskError`] when the index cannot be asked within `patience`.
pub async fn standing(deliverer: &Deliverer, code: &str, patience: Duration) -> Result<Standing, AskError> {
    let mut standing = Standing::default();
    if !can_be_id(code) {
        return Ok(standing);
    }
    let begun = Instant::now();
    let ask = async |what, query| {
        let left = patience.saturating_sub(begun.elapsed());
        match send_within(deliverer, what, "GET", &path(code, query), None, left).await? {
            (200, found) => Ok(Some(found)),
            // Neither is the index there before its first document.
            (404, _) => Ok(None),
            (status, _) => unexpected(status),
        }
    };
    // One after the other, so that there is one connection.
    standing.opted_out = ask(OPT_OUTS, "?_source=false").await?.is_some();
    if !standing.opted_out {
        let code = ask(CODES, "?_source=revoked").await?;
        standing.revoked = code.is_some_and(|code| code["_source"]["revoked"].is_number());
    }
    Ok(standing)
}

/// The codes whose recipients have opted out.
///
/// # Errors
///
/// [`AskError`] when the index cannot be asked.
#[cfg(feature = "cli")]
pub async fn opted_out(deliverer: &Deliverer) -> Result<std::collections::BTreeSet<String>, AskError> {
    const PAGE: usize = 5000;
    let mut codes = std::collections::BTreeSet::new();
    let mut body = json!({"size": PAGE, "sort": [{"code.keyword": {"order": "asc", "unmapped_type": "keyword"}}]});
    loop {
        let path = "/_search?ignore_unavailable=true";
        let (status, mut found) = send_to(deliverer, OPT_OUTS, "POST", path, Some(&body)).await?;
        if status == 404 {
            return Ok(codes);
        }
        let Some(hits) = found.pointer_mut("/hits/hits").and_then(Value::as_array_mut) else {
            return unexpected(status);
        };
        codes.extend(
            hits.iter()
                .filter_map(|hit| hit["_source"]["code"].as_str())
                .map(ToOwned::to_owned),
        );
        let full = hits.len() == PAGE;
        match hits.last_mut() {
            Some(last) if full => body["search_after"] = last["sort"].take(),
            _ => return Ok(codes),
        }
    }
}

/// Whether a code's recipient has opted out, by the document itself: a search knows it a second later.
///
/// # Errors
///
/// [`AskError`] when the index cannot be asked, or no document can have the code as its id.
#[cfg(any(feature = "care", feature = "cli"))]
pub async fn is_opted_out(deliverer: &Deliverer, code: &str) -> Result<bool, AskError> {
    let path = opt_out_path(code, "")?;
    match send_to(deliverer, OPT_OUTS, "GET", &path, None).await? {
        (200, found) => Ok(found["_source"]["code"] == code),
        // The index itself comes with the first of them.
        (404, _) => Ok(false),
        (status, _) => opt_outs_answered(status),
    }
}

/// Remembers that a code's recipient has opted out, or that no more.
///
/// # Errors
///
/// [`AskError`] when that cannot be written.
#[cfg(any(feature = "care", feature = "cli"))]
pub async fn opt_out(deliverer: &Deliverer, code: &str, out: bool) -> Result<(), AskError> {
    let path = opt_out_path(code, "?refresh=true")?;
    let (status, _) = if out {
        send_to(deliverer, OPT_OUTS, "PUT", &path, Some(&json!({"code": code}))).await?
    } else {
        send_to(deliverer, OPT_OUTS, "DELETE", &path, None).await?
    };
    match (status, out) {
        (200 | 201, _) | (404, false) => Ok(()),
        _ => opt_outs_answered(status),
    }
}

#[cfg(any(feature = "care", feature = "cli"))]
fn opt_outs_answered<T>(status: u16) -> Result<T, AskError> {
    Err(AskError::Unavailable(format!(
        "the index of opt-outs answered with status {status}"
    )))
}

#[cfg(any(feature = "care", feature = "cli"))]
fn opt_out_path(code: &str, query: &str) -> Result<String, AskError> {
    if can_be_id(code) {
        Ok(path(code, query))
    } else {
        Err(AskError::Unavailable(
            "no document can have this code as its id".to_owned(),
        ))
    }
}

/// Whether a document can have this code as its id. The names of folders cannot be one: however they are encoded, a URL
/// loses them, and what is left is the address of the whole index.
fn can_be_id(code: &str) -> bool {
    !matches!(code, "" | "." | "..") && code.len() <= LONGEST_ID
}

fn path(code: &str, query: &str) -> String {
    format!("/_doc/{}{query}", utf8_percent_encode(code, NON_ALPHANUMERIC))
}

fn document(code: &Listed) -> Value {
    json!({
        "code": code.code,
        "created": code.created_at.0.timestamp_millis(),
        "campaign": code.campaign,
        "note": code.note,
        "revoked": code.revoked_at.map(|time| time.0.timestamp_millis()),
    })
}

fn listed(document: &Value) -> Option<Listed> {
    let text = |name: &str| document[name].as_str().map(ToOwned::to_owned);
    let time = |name: &str| document[name].as_i64().map(Moment::of_millis);
    Some(Listed {
        code: text("code")?,
        created_at: time("created")?,
        campaign: text("campaign"),
        note: text("note"),
        revoked_at: time("revoked"),
    })
}

/// The codes that a search finds.
async fn search(deliverer: &Deliverer, body: &Value) -> Result<Vec<Listed>, AskError> {
    match send(deliverer, "POST", "/_search?ignore_unavailable=true", Some(body)).await? {
        (200, found) => {
            let hits = found["hits"]["hits"].as_array().into_iter().flatten();
            Ok(hits.filter_map(|hit| listed(&hit["_source"])).collect())
        }
        (404, _) => Ok(Vec::new()),
        (status, _) => unexpected(status),
    }
}

impl Store for Deliverer {
    async fn ask(&self, question: &Question) -> Result<Answer, AskError> {
        ask::ask(self, question).await
    }

    async fn find(&self, latest: &Latest) -> Result<Page, AskError> {
        ask::latest(self, latest).await
    }

    /// By their times, a little behind the present: an event can be found a second after it was indexed.
    async fn follow(&self, place: &Place, filter: &Filter) -> Result<Followed, AskError> {
        let settled = chrono::Utc::now().timestamp_millis() - SETTLED;
        let Place::After(after) = place else {
            let after = Cursor {
                time: settled,
                id: String::new(),
            };
            return Ok(Followed {
                events: Vec::new(),
                place: Place::After(after),
            });
        };
        let latest = Latest {
            filter: Filter {
                from: Some(Moment::of_millis(after.time).0),
                to: Some(Moment::of_millis(settled.max(after.time + 1)).0),
                terms: filter.terms.clone(),
            },
            limit: MOST_FOLLOWED,
            after: Some(after.clone()),
            oldest_first: true,
        };
        let found = ask::latest(self, &latest).await?;
        let cursor = |event: &Value| Cursor {
            time: event["date"].as_i64().unwrap_or(after.time),
            id: event["event"]["id"].as_str().unwrap_or_default().to_owned(),
        };
        let events: Vec<_> = found
            .events
            .iter()
            .map(|event| (cursor(event), event.to_string()))
            .collect();
        let last = events
            .last()
            .map_or_else(|| after.clone(), |(cursor, _)| cursor.clone());
        Ok(Followed {
            events,
            place: Place::After(last),
        })
    }

    async fn revoked(&self, after: Option<&Cursor>, limit: usize) -> Result<Vec<Cursor>, AskError> {
        let sort = |name: &str, kind: &str| json!({name: {"order": "asc", "unmapped_type": kind}});
        let mut body = json!({
            "size": limit,
            "query": {"exists": {"field": "revoked"}},
            "sort": [sort("revoked", "long"), sort("code.keyword", "keyword")],
        });
        if let Some(Cursor { time, id }) = after {
            body["search_after"] = json!([time, id]);
        }
        let place = |code: Listed| {
            Some(Cursor {
                time: code.revoked_at?.0.timestamp_millis(),
                id: code.code,
            })
        };
        Ok(search(self, &body).await?.into_iter().filter_map(place).collect())
    }

    async fn count(&self, filter: &Filter) -> Result<u64, AskError> {
        ask::count(self, filter).await
    }

    async fn code(&self, code: &str) -> Result<Option<Listed>, AskError> {
        if !can_be_id(code) {
            return Ok(None);
        }
        match send(self, "GET", &path(code, ""), None).await? {
            (200, found) => Ok(listed(&found["_source"])),
            (404, _) => Ok(None),
            (status, _) => unexpected(status),
        }
    }

    async fn codes(&self, after: Option<&Cursor>, limit: usize) -> Result<Vec<Listed>, AskError> {
        let sort = |name: &str, kind: &str| json!({name: {"order": "desc", "unmapped_type": kind}});
        let mut body = json!({"size": limit, "sort": [sort("created", "long"), sort("code.keyword", "keyword")]});
        if let Some(Cursor { time, id }) = after {
            body["search_after"] = json!([time, id]);
        }
        search(self, &body).await
    }

    async fn add(&self, code: &Listed) -> Result<Put, AskError> {
        let path = path(&code.code, "?op_type=create&refresh=true");
        match send(self, "PUT", &path, Some(&document(code))).await? {
            (200 | 201, _) => Ok(Put::Done),
            (409, _) => Ok(Put::Exists),
            (status, _) => unexpected(status),
        }
    }

    async fn replace(&self, code: &Listed) -> Result<(), AskError> {
        match send(self, "PUT", &path(&code.code, "?refresh=true"), Some(&document(code))).await? {
            (200 | 201, _) => Ok(()),
            (status, _) => unexpected(status),
        }
    }

    /// Tokens of an index's owner are in `PIXEL_TOKENS`.
    async fn token(&self, _: &[u8; 32]) -> Result<Option<Vec<Scope>>, AskError> {
        Ok(None)
    }
}
