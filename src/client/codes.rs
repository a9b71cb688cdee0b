//! The codes that are stored next to the events of an index: an index of their own, with one document for each.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::client::ask;
use crate::client::http::{ClientRequest, Deliverer};
use crate::config::token::{KeptToken, Scope, TokenKind, decode_hex, encode_hex};
use crate::destination::opensearch::Target;
use crate::hit::code::{CodeStatus, Listing};
use crate::hit::event::Event;
use crate::query::store::{AddResult, Changed, CodeChange, FollowedEvents, ListedCode, MAX_FOLLOWED, Position, Store};
use crate::query::store::{OptOut, Requester};
use crate::query::{Cursor, EventPage, EventQuery, Filter, Query, QueryError, QueryResult, Timestamp};

const MAX_RESPONSE_BYTES: usize = 8 << 20;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The index of the codes.
const CODES: &str = "codes";

/// The index of the codes whose recipients have opted out.
const OPT_OUTS: &str = "opt-outs";

/// The index of the hashes of tokens and sessions.
const TOKENS: &str = "tokens";

/// The time after which all events up to a moment are visible to searches: the engines refresh every second.
const REFRESH_INTERVAL_MS: i64 = 2_000;

/// Returns the name of an index next to that of the events, which the wildcard of the events' indices does not match.
fn side_index(deliverer: &Deliverer, what: &str) -> String {
    let wildcard = deliverer.target().index.wildcard();
    let name: String = wildcard.chars().filter(|character| *character != '*').collect();
    format!("pixel-{what}-of-{}", name.trim_end_matches(['-', '_', '.']))
}

async fn send(
    deliverer: &Deliverer,
    method: &'static str,
    path: &str,
    body: Option<&Value>,
) -> Result<(u16, Value), QueryError> {
    send_to(deliverer, CODES, method, path, body).await
}

async fn send_to(
    deliverer: &Deliverer,
    what: &str,
    method: &'static str,
    path: &str,
    body: Option<&Value>,
) -> Result<(u16, Value), QueryError> {
    send_within(deliverer, what, method, path, body, REQUEST_TIMEOUT).await
}

async fn send_within(
    deliverer: &Deliverer,
    what: &str,
    method: &'static str,
    path: &str,
    body: Option<&Value>,
    timeout: Duration,
) -> Result<(u16, Value), QueryError> {
    let url = format!("{}/{}{path}", deliverer.target().base, side_index(deliverer, what));
    let body = body.map(Value::to_string).unwrap_or_default();
    let sent = deliverer
        .send(ClientRequest::json(method, url, body), MAX_RESPONSE_BYTES, timeout)
        .await;
    let answer = sent.map_err(|error| QueryError::Unavailable(error.to_string()))?;
    Ok((answer.status, serde_json::from_slice(&answer.body).unwrap_or_default()))
}

fn unexpected<T>(what: &str, status: u16) -> Result<T, QueryError> {
    Err(QueryError::Unavailable(format!(
        "the index of {what} answered with status {status}"
    )))
}

/// The result of looking up a code's document.
enum Found {
    Document(Value),
    /// The index does not contain it.
    Missing,
    /// There is no index, or no request was sent because the code is not a possible id.
    NoIndex,
}

/// Returns the current document of a code. A search finds it a second later.
async fn document_of(
    deliverer: &Deliverer,
    what: &str,
    code: &str,
    timeout: Duration,
) -> Result<Option<Value>, QueryError> {
    match find(deliverer, what, code, timeout).await? {
        Found::Document(document) => Ok(Some(document)),
        Found::Missing | Found::NoIndex => Ok(None),
    }
}

async fn find(deliverer: &Deliverer, what: &str, code: &str, timeout: Duration) -> Result<Found, QueryError> {
    if !can_be_id(code) {
        return Ok(Found::NoIndex);
    }
    match send_within(deliverer, what, "GET", &path(code, ""), None, timeout).await? {
        (200, mut found) if found["_source"].is_object() => Ok(Found::Document(found["_source"].take())),
        // The response of a login page, or of something else in front of the index.
        (200, _) => Err(QueryError::Unavailable(format!(
            "what answers for the index of {what} sends no document"
        ))),
        (404, found) if found["found"] == false => Ok(Found::Missing),
        (404, _) => Ok(Found::NoIndex),
        (status, _) => unexpected(what, status),
    }
}

/// The status of a code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodeLookup {
    /// The status in the list of codes.
    pub status: CodeStatus,
    /// True if its recipient has opted out.
    pub opted_out: bool,
}

/// The size limit of a document's id.
const MAX_ID_BYTES: usize = 512;

/// Looks up the current status of a code. An unknown code counts as issued.
///
/// # Errors
///
/// [`QueryError`] if the index is not available within `timeout`.
pub async fn look_up_code(deliverer: &Deliverer, code: &str, timeout: Duration) -> Result<CodeLookup, QueryError> {
    let begun = Instant::now();
    // One request after the other, so that there is one connection.
    let opted_out = document_of(deliverer, OPT_OUTS, code, timeout).await?.is_some();
    let status = if opted_out {
        CodeStatus::default()
    } else {
        let left = timeout.saturating_sub(begun.elapsed());
        match find(deliverer, CODES, code, left).await? {
            Found::Document(code) => code_status(&code),
            // The index is created with the first code of the list.
            Found::Missing => Listing::Missing.into(),
            Found::NoIndex => CodeStatus::default(),
        }
    };
    Ok(CodeLookup { status, opted_out })
}

/// The maximum number of codes that are looked up with one request.
const MAX_CODES_PER_REQUEST: usize = 1_000;

/// Looks up the current status of the codes of many events, marks the events accordingly, and returns for each if its
/// recipient has opted out.
///
/// # Errors
///
/// [`QueryError`] if the index is not available within `timeout`; then nothing is marked.
pub async fn apply_code_status(
    deliverer: &Deliverer,
    events: &mut [Event],
    codes: &[Option<String>],
    timeout: Duration,
) -> Result<Vec<bool>, QueryError> {
    let deadline = Instant::now() + timeout;
    let distinct: BTreeSet<&str> = codes.iter().flatten().map(String::as_str).collect();
    let distinct: Vec<&str> = distinct.into_iter().filter(|code| can_be_id(code)).collect();
    let (mut listings, mut opted_out) = (HashMap::new(), HashSet::new());
    for some in distinct.chunks(MAX_CODES_PER_REQUEST) {
        let left = || deadline.saturating_duration_since(Instant::now());
        let found = documents_of(deliverer, OPT_OUTS, "false", some, left()).await?;
        opted_out.extend(found.into_iter().flatten().map(|document| document.code));
        // The index is created with the first code of the list.
        if let Some(found) = documents_of(deliverer, CODES, "revoked,campaign", some, left()).await? {
            listings.extend(some.iter().map(|code| ((*code).to_owned(), Listing::Missing.into())));
            listings.extend(
                found
                    .into_iter()
                    .map(|document| (document.code, code_status(&document.source))),
            );
        }
    }
    for (event, code) in events.iter_mut().zip(codes) {
        if let Some(status) = code.as_ref().and_then(|code| listings.get(code)) {
            event.mark(status);
        }
    }
    let has_opted_out = |code: &Option<String>| code.as_ref().is_some_and(|code| opted_out.contains(code));
    Ok(codes.iter().map(has_opted_out).collect())
}

/// Returns a code's status from its document in the list.
fn code_status(document: &Value) -> CodeStatus {
    let listing = if document["revoked"].is_number() {
        Listing::Revoked
    } else {
        Listing::Listed
    };
    let campaign = document["campaign"].as_str().filter(|campaign| !campaign.is_empty());
    CodeStatus {
        listing,
        campaign: campaign.map(ToOwned::to_owned),
    }
}

/// The document of one of several codes.
struct Document {
    code: String,
    source: Value,
}

/// Returns the existing documents of codes, with the members in `source`; none if the index does not exist.
async fn documents_of(
    deliverer: &Deliverer,
    what: &str,
    source: &str,
    codes: &[&str],
    timeout: Duration,
) -> Result<Option<Vec<Document>>, QueryError> {
    let path = format!("/_mget?_source={source}&filter_path=docs._id,docs.found,docs._source,docs.error.type");
    let body = json!({"ids": codes});
    let (status, mut answer) = send_within(deliverer, what, "POST", &path, Some(&body), timeout).await?;
    let documents = match (status, answer["docs"].as_array_mut()) {
        (404, _) => return Ok(None),
        (200, Some(documents)) if documents.len() == codes.len() => documents,
        _ => return unexpected(what, status),
    };
    let mut found = Vec::new();
    for document in documents {
        match (document["found"].as_bool(), document["error"]["type"].as_str()) {
            (Some(true), _) => found.push(Document {
                code: document["_id"].as_str().unwrap_or_default().to_owned(),
                source: document["_source"].take(),
            }),
            (Some(false), _) => {}
            (None, Some("index_not_found_exception")) => return Ok(None),
            (None, error) => {
                let error = error.unwrap_or("nothing of one of them");
                return Err(QueryError::Unavailable(format!(
                    "the index of {what} answered with {error}"
                )));
            }
        }
    }
    Ok(Some(found))
}

/// Returns the codes whose recipients have opted out.
///
/// # Errors
///
/// [`QueryError`] if the index is not available.
pub async fn list_opted_out(deliverer: &Deliverer) -> Result<BTreeSet<String>, QueryError> {
    let mut codes = BTreeSet::new();
    visit_opt_outs(deliverer, |opt_out| {
        codes.insert(opt_out.code);
        Ok::<_, QueryError>(())
    })
    .await?;
    Ok(codes)
}

/// Passes every opt-out to `visit`, in the order of the codes.
///
/// # Errors
///
/// [`QueryError`] if the index is not available or only a part of it responds; otherwise the error of `visit`.
pub async fn visit_opt_outs<E: From<QueryError>>(
    deliverer: &Deliverer,
    mut visit: impl FnMut(OptOut) -> Result<(), E>,
) -> Result<(), E> {
    const PAGE: usize = 5000;
    let mut body = json!({"size": PAGE, "sort": [{"code.keyword": {"order": "asc", "unmapped_type": "keyword"}}]});
    loop {
        let path = "/_search?ignore_unavailable=true";
        let (status, mut found) = send_to(deliverer, OPT_OUTS, "POST", path, Some(&body)).await?;
        if status == 404 {
            return Ok(());
        }
        if found["timed_out"] == true || found["_shards"]["failed"].as_u64().unwrap_or_default() > 0 {
            return Ok(unexpected("opt-outs, of which a part is missing,", status)?);
        }
        let Some(hits) = found.pointer_mut("/hits/hits").and_then(Value::as_array_mut) else {
            return Ok(unexpected(OPT_OUTS, status)?);
        };
        for hit in hits.iter() {
            if let Some(code) = hit["_source"]["code"].as_str() {
                visit(read_opt_out(code, &hit["_source"]))?;
            }
        }
        let full = hits.len() == PAGE;
        match hits.last_mut() {
            Some(last) if full => body["search_after"] = last["sort"].take(),
            _ => return Ok(()),
        }
    }
}

/// Parses the document of an opt-out.
fn read_opt_out(code: &str, document: &Value) -> OptOut {
    OptOut {
        code: code.to_owned(),
        since: document["since"].as_i64().map(Timestamp::from_millis),
        by: document["requester"].as_str().and_then(Requester::parse),
    }
}

/// Returns true if a code's recipient has opted out, as of now.
///
/// # Errors
///
/// [`QueryError`] if the index is not available, or the code is not a possible id.
pub async fn is_opted_out(deliverer: &Deliverer, code: &str) -> Result<bool, QueryError> {
    check_id(code)?;
    Ok(document_of(deliverer, OPT_OUTS, code, REQUEST_TIMEOUT).await?.is_some())
}

/// Records that a code's recipient has opted out, or no longer has.
///
/// # Errors
///
/// [`QueryError`] if the write fails.
pub async fn set_opted_out(deliverer: &Deliverer, code: &str, out: bool) -> Result<(), QueryError> {
    let by = Requester::Page;
    change_opt_out(deliverer, code, out, by, chrono::Utc::now())
        .await
        .map(drop)
}

/// Records that a code is opted out, or no longer, and returns true if that changed anything. An existing opt-out keeps
/// its time.
///
/// # Errors
///
/// [`QueryError`] if the write fails.
pub async fn change_opt_out(
    deliverer: &Deliverer,
    code: &str,
    out: bool,
    by: Requester,
    at: chrono::DateTime<chrono::Utc>,
) -> Result<bool, QueryError> {
    check_id(code)?;
    let (status, _) = if out {
        let document = json!({"code": code, "since": at.timestamp_millis(), "requester": by.name()});
        let path = path(code, "?op_type=create&refresh=true");
        send_to(deliverer, OPT_OUTS, "PUT", &path, Some(&document)).await?
    } else {
        send_to(deliverer, OPT_OUTS, "DELETE", &path(code, "?refresh=true"), None).await?
    };
    match (status, out) {
        (200 | 201, _) => Ok(true),
        (409, true) | (404, false) => Ok(false),
        _ => unexpected(OPT_OUTS, status),
    }
}

/// Returns true if a document can have this code as its id. `.` and `..` cannot be one: however they are encoded, a URL
/// loses them, and the rest is the address of the whole index.
fn can_be_id(code: &str) -> bool {
    !matches!(code, "" | "." | "..") && code.len() <= MAX_ID_BYTES
}

fn check_id(code: &str) -> Result<(), QueryError> {
    let reason = || QueryError::Unavailable("no document can have this code as its id".to_owned());
    can_be_id(code).then_some(()).ok_or_else(reason)
}

fn path(code: &str, query: &str) -> String {
    format!("/_doc/{}{query}", utf8_percent_encode(code, NON_ALPHANUMERIC))
}

fn document(code: &ListedCode) -> Value {
    json!({
        "code": code.code,
        "created": code.created_at.0.timestamp_millis(),
        "campaign": code.campaign,
        "recipient": code.recipient,
        "note": code.note,
        "revoked": code.revoked_at.map(|time| time.0.timestamp_millis()),
    })
}

fn parse_listed_code(document: &Value) -> Option<ListedCode> {
    let text = |name: &str| document[name].as_str().map(ToOwned::to_owned);
    let time = |name: &str| document[name].as_i64().map(Timestamp::from_millis);
    Some(ListedCode {
        code: text("code")?,
        created_at: time("created")?,
        campaign: text("campaign"),
        recipient: text("recipient"),
        note: text("note"),
        revoked_at: time("revoked"),
    })
}

/// Returns the codes that a search finds.
async fn search(deliverer: &Deliverer, body: &Value) -> Result<Vec<ListedCode>, QueryError> {
    match send(deliverer, "POST", "/_search?ignore_unavailable=true", Some(body)).await? {
        (200, found) => {
            let hits = found["hits"]["hits"].as_array().into_iter().flatten();
            Ok(hits.filter_map(|hit| parse_listed_code(&hit["_source"])).collect())
        }
        (404, _) => Ok(Vec::new()),
        (status, _) => unexpected(CODES, status),
    }
}

impl Store for Deliverer {
    async fn ask(&self, query: &Query) -> Result<QueryResult, QueryError> {
        ask::ask(self, query).await
    }

    async fn find(&self, latest: &EventQuery) -> Result<EventPage, QueryError> {
        ask::latest(self, latest).await
    }

    /// Follows by the events' times, slightly behind the present: a search finds an event a second after it was
    /// indexed.
    async fn follow(&self, place: &Position, filter: &Filter) -> Result<FollowedEvents, QueryError> {
        let visible_until = chrono::Utc::now().timestamp_millis() - REFRESH_INTERVAL_MS;
        let Position::After(after) = place else {
            let after = Cursor {
                time: visible_until,
                id: String::new(),
            };
            return Ok(FollowedEvents {
                events: Vec::new(),
                place: Position::After(after),
            });
        };
        let latest = EventQuery {
            filter: Filter {
                from: Some(Timestamp::from_millis(after.time).0),
                to: Some(Timestamp::from_millis(visible_until.max(after.time + 1)).0),
                terms: filter.terms.clone(),
            },
            limit: MAX_FOLLOWED,
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
        Ok(FollowedEvents {
            events,
            place: Position::After(last),
        })
    }

    async fn changed(
        &self,
        change: CodeChange,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Vec<Changed>, QueryError> {
        let name = match change {
            CodeChange::Listed => "created",
            CodeChange::Revoked => "revoked",
        };
        let sort = |name: &str, kind: &str| json!({name: {"order": "asc", "unmapped_type": kind}});
        let mut body = json!({
            "size": limit,
            "query": {"exists": {"field": name}},
            "sort": [sort(name, "long"), sort("code.keyword", "keyword")],
        });
        if let Some(Cursor { time, id }) = after {
            body["search_after"] = json!([time, id]);
        }
        let changed = |code: ListedCode| {
            let time = match change {
                CodeChange::Listed => code.created_at,
                CodeChange::Revoked => code.revoked_at?,
            };
            Some(Changed {
                place: Cursor {
                    time: time.0.timestamp_millis(),
                    id: code.code,
                },
                campaign: code.campaign,
            })
        };
        Ok(search(self, &body).await?.into_iter().filter_map(changed).collect())
    }

    async fn count(&self, filter: &Filter) -> Result<u64, QueryError> {
        ask::count(self, filter).await
    }

    async fn code(&self, code: &str) -> Result<Option<ListedCode>, QueryError> {
        let found = document_of(self, CODES, code, REQUEST_TIMEOUT).await?;
        Ok(found.as_ref().and_then(parse_listed_code))
    }

    async fn codes(&self, after: Option<&Cursor>, limit: usize) -> Result<Vec<ListedCode>, QueryError> {
        let sort = |name: &str, kind: &str| json!({name: {"order": "desc", "unmapped_type": kind}});
        let mut body = json!({"size": limit, "sort": [sort("created", "long"), sort("code.keyword", "keyword")]});
        if let Some(Cursor { time, id }) = after {
            body["search_after"] = json!([time, id]);
        }
        search(self, &body).await
    }

    async fn add(&self, code: &ListedCode) -> Result<AddResult, QueryError> {
        add_code(self, code, "&refresh=true").await
    }

    async fn replace(&self, code: &ListedCode) -> Result<(), QueryError> {
        match send(self, "PUT", &path(&code.code, "?refresh=true"), Some(&document(code))).await? {
            (200 | 201, _) => Ok(()),
            (status, _) => unexpected(CODES, status),
        }
    }

    async fn opt_out(&self, code: &str) -> Result<Option<OptOut>, QueryError> {
        let found = document_of(self, OPT_OUTS, code, REQUEST_TIMEOUT).await?;
        Ok(found.map(|document| read_opt_out(code, &document)))
    }

    async fn token(&self, hash: &[u8; 32]) -> Result<Option<KeptToken>, QueryError> {
        let found = document_of(self, TOKENS, &encode_hex(hash), REQUEST_TIMEOUT).await?;
        Ok(found.as_ref().and_then(parse_token))
    }

    async fn add_token(&self, token: &KeptToken) -> Result<bool, QueryError> {
        let path = path(&encode_hex(&token.hash), "?op_type=create&refresh=true");
        let added = match send_to(self, TOKENS, "PUT", &path, Some(&token_document(token))).await? {
            (200 | 201, _) => true,
            (409, _) => false,
            (status, _) => return unexpected(TOKENS, status),
        };
        // Expired tokens are harmless, so it does not matter if the server does not support this request.
        let expired = json!({"query": {"range": {"expires": {"lte": token.created.timestamp_millis()}}}});
        let delete = "/_delete_by_query?conflicts=proceed&ignore_unavailable=true";
        let _ = send_to(self, TOKENS, "POST", delete, Some(&expired)).await;
        Ok(added)
    }

    async fn delete_token(&self, hash: &[u8; 32]) -> Result<bool, QueryError> {
        match send_to(self, TOKENS, "DELETE", &path(&encode_hex(hash), "?refresh=true"), None).await? {
            (200, _) => Ok(true),
            (404, _) => Ok(false),
            (status, _) => unexpected(TOKENS, status),
        }
    }
}

fn token_document(token: &KeptToken) -> Value {
    let scopes: Vec<_> = token.scopes.iter().map(|scope| scope.name()).collect();
    json!({
        "id": token.id,
        "name": token.name,
        "kind": token.kind.name(),
        "hash": encode_hex(&token.hash),
        "scopes": scopes,
        "created": token.created.timestamp_millis(),
        "expires": token.expires.map(|expires| expires.timestamp_millis()),
        "parent": token.parent.as_ref().map(encode_hex),
    })
}

/// Parses a token's document; none if this version does not know its kind.
fn parse_token(document: &Value) -> Option<KeptToken> {
    let text = |name: &str| document[name].as_str();
    let hash = |name: &str| text(name).and_then(decode_hex);
    let time = |name: &str| document[name].as_i64().map(|time| Timestamp::from_millis(time).0);
    let scopes = document["scopes"].as_array()?.iter();
    Some(KeptToken {
        id: text("id")?.to_owned(),
        name: text("name")?.to_owned(),
        kind: TokenKind::parse(text("kind")?)?,
        hash: hash("hash")?,
        scopes: scopes.filter_map(|scope| Scope::parse(scope.as_str()?)).collect(),
        created: time("created")?,
        expires: time("expires"),
        parent: hash("parent"),
    })
}

/// Adds one of many codes to the list; a search finds it after [`refresh`].
///
/// # Errors
///
/// [`QueryError`] if the write fails.
pub async fn add_one_of_many(deliverer: &Deliverer, code: &ListedCode) -> Result<AddResult, QueryError> {
    add_code(deliverer, code, "").await
}

async fn add_code(deliverer: &Deliverer, code: &ListedCode, refresh: &str) -> Result<AddResult, QueryError> {
    let path = path(&code.code, &format!("?op_type=create{refresh}"));
    match send(deliverer, "PUT", &path, Some(&document(code))).await? {
        (200 | 201, _) => Ok(AddResult::Done),
        (409, _) => Ok(AddResult::Exists),
        (status, _) => unexpected(CODES, status),
    }
}

/// Makes all earlier writes visible to searches. Serverless collections do not support the request, and refresh by
/// themselves after some seconds.
pub async fn refresh(deliverer: &Deliverer) {
    let kept = [CODES, OPT_OUTS, TOKENS].map(|what| side_index(deliverer, what));
    let Target { base, index, .. } = deliverer.target();
    let url = format!(
        "{base}/{},{}/_refresh?ignore_unavailable=true",
        index.wildcard(),
        kept.join(",")
    );
    let request = ClientRequest::json("POST", url, String::new());
    let _ = deliverer.send(request, MAX_RESPONSE_BYTES, REQUEST_TIMEOUT).await;
}

/// Returns the tokens and sessions of an index, the oldest first.
///
/// # Errors
///
/// [`QueryError`] if the index is not available.
pub async fn tokens(deliverer: &Deliverer) -> Result<Vec<KeptToken>, QueryError> {
    // No server returns more at once, and nobody has this many.
    let body = json!({"size": 10_000, "sort": [{"created": {"order": "asc", "unmapped_type": "long"}}]});
    match send_to(
        deliverer,
        TOKENS,
        "POST",
        "/_search?ignore_unavailable=true",
        Some(&body),
    )
    .await?
    {
        (200, found) => {
            let hits = found["hits"]["hits"].as_array().into_iter().flatten();
            Ok(hits.filter_map(|hit| parse_token(&hit["_source"])).collect())
        }
        (404, _) => Ok(Vec::new()),
        (status, _) => unexpected(TOKENS, status),
    }
}
