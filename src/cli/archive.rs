//! The stored events of any destination: they can be read, changed and deleted here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use super::connect;
use crate::client::http::{ClientRequest, ClientResponse, Deliverer};
use crate::config::Config;
use crate::destination::Destination;
use crate::hit::event::fields::{FIELDS, Kind};
use crate::sqlite::{Archive as File, Change};
use crate::terminal::printable;

/// The subject whose events are searched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A user: the id as it was given, the forms in which it may be stored, and the hashes of it that signed codes carry.
    User {
        id: String,
        forms: Vec<UserForm>,
        recipients: Vec<String>,
    },
    /// A visitor of one day, by `visitor.id`.
    Visitor(String),
    /// A code.
    Code(String),
    /// A data set, by `event.dataset`.
    Dataset(&'static str),
}

/// One form in which a user's id may be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UserForm {
    /// A short name of what was done to the id.
    pub(super) name: &'static str,
    /// The id in this form.
    pub(super) id: String,
    /// The hash of this form.
    pub(super) hash: String,
}

impl Subject {
    /// Returns the forms of a user's id that are searched for, without the id itself.
    pub(super) fn searched(&self) -> Vec<String> {
        match self {
            Self::User { forms, .. } => forms
                .iter()
                .map(|form| format!("{} ({})", form.hash, form.name))
                .collect(),
            Self::Visitor(_) | Self::Code(_) | Self::Dataset(_) => Vec::new(),
        }
    }

    /// Returns a text that names the subject in messages without the private value.
    pub(super) fn name(&self) -> String {
        match self {
            Self::User { forms, .. } => format!("user {}", forms.first().map_or("", |form| &form.hash)),
            Self::Visitor(id) => format!("visitor {id}"),
            Self::Code(code) => format!("code {code}"),
            Self::Dataset(name) => format!("dataset {name}"),
        }
    }

    /// Returns the query for an index. A field is a keyword by the template; without the template it is a text with a
    /// keyword subfield.
    fn query(&self) -> Value {
        let term = |field: &str, value: &str| {
            let exact = [field.to_owned(), format!("{field}.keyword")];
            exact.map(|field| json!({"term": {field: value}}))
        };
        let within = |field: &str, value: &str| {
            let exact = [field.to_owned(), format!("{field}.keyword")];
            exact.map(|field| json!({"wildcard": {field: {"value": format!("*{value}*")}}}))
        };
        let should: Vec<Value> = match self {
            Self::User { id, forms, recipients } => {
                let ids = forms.iter().flat_map(|form| [&form.id, &form.hash]);
                let mut should: Vec<Value> = ids.chain([id]).flat_map(|id| term("user.id", id)).collect();
                should.extend(recipients.iter().flat_map(|hash| term("pixel.recipient", hash)));
                // A mail address may appear in any text.
                let texts = FIELDS.iter().filter(|field| matches!(field.kind, Kind::Keyword(_)));
                should.extend(texts.flat_map(|field| forms.iter().flat_map(|form| within(field.name, &form.hash))));
                should
            }
            Self::Visitor(id) => term("visitor.id", id).to_vec(),
            Self::Code(code) => term("pixel.code", code).to_vec(),
            Self::Dataset(name) => term("event.dataset", name).to_vec(),
        };
        json!({"bool": {"should": should, "minimum_should_match": 1}})
    }

    /// Returns true if a document belongs to the subject.
    fn matches(&self, text: &str, document: &Value) -> bool {
        let is = |pointer: &str, value: &str| document.pointer(pointer).and_then(Value::as_str) == Some(value);
        match self {
            Self::User { id, forms, recipients } => {
                let found = |form: &UserForm| is("/user/id", &form.id) || text.contains(&form.hash);
                is("/user/id", id)
                    || forms.iter().any(found)
                    || recipients.iter().any(|hash| is("/pixel/recipient", hash))
            }
            Self::Visitor(id) => is("/visitor/id", id),
            Self::Code(code) => is("/pixel/code", code),
            Self::Dataset(name) => is("/event/dataset", name),
        }
    }
}

/// One stored event.
#[derive(Debug)]
pub(super) struct StoredEvent {
    place: Place,
    /// The event.
    pub(super) document: Value,
}

/// The position of a stored event.
#[derive(Clone, Debug)]
enum Place {
    /// The row's number, and the document as it is stored there.
    Row(i64, String),
    /// The index, the id, and the type if the server has types.
    Entry(Value),
}

/// An open destination.
#[derive(Debug)]
pub(super) enum Archive {
    File(PathBuf),
    Index(Box<Deliverer>),
}

/// The number of events that are read or changed at once.
const PAGE: usize = 1000;

/// The size limit of one response: a page of the largest events.
const MAX_RESPONSE_BYTES: usize = 256 << 20;

const DELETE_BY_QUERY: &str = "/_delete_by_query?conflicts=proceed&refresh=true&ignore_unavailable=true";

const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

impl Archive {
    pub(super) async fn open(config: &Config) -> anyhow::Result<Self> {
        Self::open_destination(config, config.destination.as_ref().context("no destination")?).await
    }

    /// Opens a destination or fallback.
    pub(super) async fn open_destination(config: &Config, destination: &Destination) -> anyhow::Result<Self> {
        Ok(match destination {
            Destination::Sqlite(path) => {
                File::open(path)?;
                Self::File(path.clone())
            }
            Destination::OpenSearch(target) => Self::Index(Box::new(connect::open_deliverer(config, target).await?)),
            Destination::Message(outlet) => {
                bail!("{outlet} holds events only until they are taken from it; name where they go")
            }
        })
    }

    /// Calls a function for each event of a subject, or for all events, in the order in which they are stored.
    pub(super) async fn each(
        &self,
        subject: Option<&Subject>,
        mut take: impl FnMut(Vec<StoredEvent>) -> anyhow::Result<Vec<(StoredEvent, Value)>>,
    ) -> anyhow::Result<()> {
        match self {
            Self::File(path) => each_row(path, subject, take),
            Self::Index(deliverer) => {
                let query = subject.map_or_else(|| json!({"match_all": {}}), Subject::query);
                let mut pages = Pages::new(deliverer, query);
                while let Some(page) = pages.next().await? {
                    let changes = take(page)?;
                    update(deliverer, changes).await?;
                }
                pages.end().await;
                Ok(())
            }
        }
    }

    /// Returns the number of a subject's events.
    pub(super) async fn count(&self, subject: &Subject) -> anyhow::Result<u64> {
        match self {
            Self::File(_) => {
                let mut count = 0;
                self.each(Some(subject), |page| {
                    count += page.len() as u64;
                    Ok(Vec::new())
                })
                .await?;
                Ok(count)
            }
            Self::Index(deliverer) => {
                let body = json!({"query": subject.query()});
                let found = ask(deliverer, "POST", "/_count?ignore_unavailable=true", &body).await?;
                found["count"].as_u64().context("the answer has no count")
            }
        }
    }

    /// Returns true if there are events outside a data set.
    pub(super) async fn has_others_than(&self, dataset: &'static str) -> anyhow::Result<bool> {
        match self {
            Self::File(path) => Ok(File::open(path)?.has_others_than(dataset)?),
            Self::Index(deliverer) => {
                let others = json!({"bool": {"must_not": [Subject::Dataset(dataset).query()]}});
                let mut pages = Pages::new(deliverer, others);
                let found = pages.next().await?;
                pages.end().await;
                // An index that does not know the field finds all events; only the documents show which ones count.
                let is_other =
                    |stored: &StoredEvent| stored.document.pointer("/event/dataset") != Some(&dataset.into());
                Ok(found.is_some_and(|page| page.iter().any(is_other)))
            }
        }
    }

    /// Deletes a subject's events and returns their number.
    pub(super) async fn delete(&self, subject: &Subject) -> anyhow::Result<u64> {
        match self {
            Self::File(path) => {
                let mut rows = Vec::new();
                self.each(Some(subject), |page| {
                    rows.extend(page.iter().filter_map(|stored| match stored.place {
                        Place::Row(row, _) => Some(row),
                        Place::Entry(_) => None,
                    }));
                    Ok(Vec::new())
                })
                .await?;
                Ok(File::open(path)?.delete(&rows)?)
            }
            Self::Index(deliverer) if deliverer.target().serverless => delete_one_by_one(deliverer, subject).await,
            Self::Index(deliverer) => {
                let path = format!("/{}{DELETE_BY_QUERY}", deliverer.target().index.wildcard());
                let body = json!({"query": subject.query()}).to_string().into_bytes();
                let answer = receive(deliverer, "POST", &path, body).await?;
                // Not every server has this request.
                if matches!(answer.status, 400 | 403 | 404 | 405) {
                    return delete_one_by_one(deliverer, subject).await;
                }
                let answer = read(deliverer, &answer)?;
                let failures = answer["failures"].as_array().map_or(0, Vec::len);
                ensure!(
                    failures == 0,
                    "{failures} events could not be deleted: {}",
                    printable(&answer.to_string(), 300)
                );
                answer["deleted"]
                    .as_u64()
                    .context("the answer does not say how many were deleted")
            }
        }
    }

    /// Refreshes the index, so that searches find what was written.
    pub(super) async fn refresh(&self) {
        if let Self::Index(deliverer) = self {
            // Serverless collections have no such request; they refresh by themselves after some seconds.
            let path = format!(
                "/{}/_refresh?ignore_unavailable=true",
                deliverer.target().index.wildcard()
            );
            let _ = receive(deliverer, "POST", &path, Vec::new()).await;
        }
    }
}

fn each_row(
    path: &Path,
    subject: Option<&Subject>,
    mut take: impl FnMut(Vec<StoredEvent>) -> anyhow::Result<Vec<(StoredEvent, Value)>>,
) -> anyhow::Result<()> {
    let file = File::open(path)?;
    let mut after = i64::MIN;
    loop {
        let rows = file.page(after, PAGE)?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.number;
        let mut page = Vec::new();
        for row in rows {
            let document: Value = serde_json::from_str(&row.document).context("a stored event is not JSON")?;
            if subject.is_none_or(|subject| subject.matches(&row.document, &document)) {
                page.push(StoredEvent {
                    place: Place::Row(row.number, row.document),
                    document,
                });
            }
        }
        let changes = take(page)?;
        let changes = changes.into_iter().filter_map(|(mut stored, change)| {
            merge(&mut stored.document, change);
            match stored.place {
                Place::Row(number, before) => Some(Change {
                    number,
                    before,
                    after: stored.document.to_string(),
                }),
                Place::Entry(_) => None,
            }
        });
        file.rewrite(&changes.collect::<Vec<_>>())?;
    }
}

/// Returns the message that deleted events can still be read in a file.
pub(super) fn explain_still_readable(reason: &str) -> String {
    format!("what was deleted can still be read in the bytes of the file or its `-wal`: {reason}; run this again")
}

/// Merges the members of `change` into a document, as an index's partial update does.
fn merge(document: &mut Value, change: Value) {
    match (document, change) {
        (Value::Object(document), Value::Object(change)) => {
            for (name, value) in change {
                merge(document.entry(name).or_insert(Value::Null), value);
            }
        }
        (document, change) => *document = change,
    }
}

/// The pages of an index: a scroll or, if the server has none, searches after the last event's time and id.
pub(super) struct Pages<'a> {
    deliverer: &'a Deliverer,
    query: Value,
    scroll: Option<String>,
    after: Option<Value>,
    done: bool,
}

impl<'a> Pages<'a> {
    pub(super) const fn new(deliverer: &'a Deliverer, query: Value) -> Self {
        Self {
            deliverer,
            query,
            scroll: None,
            after: None,
            done: false,
        }
    }

    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Vec<StoredEvent>>> {
        if self.done {
            return Ok(None);
        }
        let mut found = self.ask().await?;
        if let Some(scroll) = found["_scroll_id"].as_str() {
            self.scroll = Some(scroll.to_owned());
        }
        let hits = found
            .pointer_mut("/hits/hits")
            .and_then(Value::as_array_mut)
            .context("the answer has no hits")?;
        if hits.is_empty() {
            self.done = true;
            return Ok(None);
        }
        self.after = hits.last().and_then(|hit| hit.get("sort")).cloned();
        Ok(Some(hits.iter_mut().map(stored).collect()))
    }

    async fn ask(&self) -> anyhow::Result<Value> {
        if let Some(scroll) = &self.scroll {
            let body = json!({"scroll": "2m", "scroll_id": scroll});
            return ask_server(self.deliverer, "POST", "/_search/scroll", &body).await;
        }
        let mut body = json!({"query": self.query, "size": PAGE});
        if self.deliverer.target().serverless {
            body["sort"] = json!([{"date": "asc"}, {"event.id": "asc"}]);
            if let Some(after) = &self.after {
                body["search_after"] = after.clone();
            }
            return ask(self.deliverer, "POST", "/_search", &body).await;
        }
        ask(
            self.deliverer,
            "POST",
            "/_search?scroll=2m&ignore_unavailable=true",
            &body,
        )
        .await
    }

    /// Ends the scroll; otherwise the server ends it after a while.
    pub(super) async fn end(&self) {
        if let Some(scroll) = &self.scroll {
            let body = json!({"scroll_id": [scroll]});
            let _ = ask_server(self.deliverer, "DELETE", "/_search/scroll", &body).await;
        }
    }
}

fn stored(hit: &mut Value) -> StoredEvent {
    let mut entry = json!({"_index": hit["_index"], "_id": hit["_id"]});
    // Elasticsearch 6 needs the type in the request; 8 has none.
    if let Some(kind) = hit.get("_type") {
        entry["_type"] = kind.clone();
    }
    StoredEvent {
        place: Place::Entry(entry),
        document: hit["_source"].take(),
    }
}

async fn update(deliverer: &Deliverer, changes: Vec<(StoredEvent, Value)>) -> anyhow::Result<()> {
    let lines = changes.into_iter().filter_map(|(stored, change)| match stored.place {
        Place::Entry(entry) => Some([json!({"update": entry}), json!({"doc": change})]),
        Place::Row(..) => None,
    });
    bulk(deliverer, lines.flatten().collect()).await
}

async fn delete_one_by_one(deliverer: &Deliverer, subject: &Subject) -> anyhow::Result<u64> {
    let mut entries = Vec::new();
    let mut pages = Pages::new(deliverer, subject.query());
    while let Some(page) = pages.next().await? {
        entries.extend(page.into_iter().filter_map(|stored| match stored.place {
            Place::Entry(entry) => Some(json!({"delete": entry})),
            Place::Row(..) => None,
        }));
    }
    let count = entries.len() as u64;
    for chunk in entries.chunks(PAGE) {
        bulk(deliverer, chunk.to_vec()).await?;
    }
    Ok(count)
}

async fn bulk(deliverer: &Deliverer, lines: Vec<Value>) -> anyhow::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut body = String::new();
    for line in &lines {
        body.push_str(&line.to_string());
        body.push('\n');
    }
    let answer = send(deliverer, "POST", "/_bulk", body.into_bytes()).await?;
    let items = answer["items"].as_array().context("the answer has no items")?;
    let failed = |item: &&Value| {
        let outcome = item.as_object().and_then(|item| item.values().next());
        let status = outcome
            .and_then(|outcome| outcome["status"].as_u64())
            .unwrap_or_default();
        // A document that is already deleted need not be changed any more.
        !(200..300).contains(&status) && status != 404
    };
    match items.iter().find(failed) {
        Some(item) => bail!("an event could not be changed: {}", printable(&item.to_string(), 300)),
        None => Ok(()),
    }
}

/// Sends a request to the destination's indices.
async fn ask(deliverer: &Deliverer, method: &'static str, path: &str, body: &Value) -> anyhow::Result<Value> {
    let path = format!("/{}{path}", deliverer.target().index.wildcard());
    ask_server(deliverer, method, &path, body).await
}

async fn ask_server(deliverer: &Deliverer, method: &'static str, path: &str, body: &Value) -> anyhow::Result<Value> {
    send(deliverer, method, path, body.to_string().into_bytes()).await
}

async fn send(deliverer: &Deliverer, method: &'static str, path: &str, body: Vec<u8>) -> anyhow::Result<Value> {
    read(deliverer, &receive(deliverer, method, path, body).await?)
}

async fn receive(
    deliverer: &Deliverer,
    method: &'static str,
    path: &str,
    body: Vec<u8>,
) -> anyhow::Result<ClientResponse> {
    let target = deliverer.target();
    let url = format!("{}{path}", target.base);
    let answer = deliverer
        .send(
            ClientRequest::json(method, url, body),
            MAX_RESPONSE_BYTES,
            REQUEST_TIMEOUT,
        )
        .await;
    answer.with_context(|| format!("asking {target}"))
}

fn read(deliverer: &Deliverer, answer: &ClientResponse) -> anyhow::Result<Value> {
    let target = deliverer.target();
    let text = String::from_utf8_lossy(&answer.body);
    ensure!(
        (200..300).contains(&answer.status),
        "{target} answered {}: {}",
        answer.status,
        printable(&text, 300)
    );
    serde_json::from_str(&text).with_context(|| format!("{target} answered something that is not an index's"))
}
