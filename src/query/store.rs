//! The store that queries, codes and tokens are read from.

use super::{Cursor, EventPage, EventQuery, Filter, Query, QueryError, QueryResult, Timestamp};
use crate::config::token::KeptToken;
use serde::Serialize;

/// A code in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedCode {
    /// The code.
    pub code: String,
    /// When it was put there.
    pub created_at: Timestamp,
    /// The campaign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign: Option<String>,
    /// The one person for whom it is, as a keyed hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// The owner's note.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When it was revoked. Hits of it are stored all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// Where whoever follows events is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// Where the next event will be.
    Now,
    /// After an event, as its follower knows it.
    After(Cursor),
    /// After a row of a file.
    Row(i64),
}

/// Most events that are given at once to whoever follows.
pub const MAX_FOLLOWED: usize = 500;

/// What came after a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedEvents {
    /// Events in the order in which they were stored, at most [`MOST_FOLLOWED`] of them; those that are not asked for may be
    /// among them.
    pub events: Vec<(Cursor, String)>,
    /// The place after them.
    pub place: Position,
}

/// What is done with codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeChange {
    /// They are put into the list.
    Listed,
    /// They are revoked.
    Revoked,
}

/// A code with which something was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// When, and which code.
    pub place: Cursor,
    /// Its campaign.
    pub campaign: Option<String>,
}

/// What became of putting a code into the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddResult {
    /// It is there now.
    Done,
    /// There is one already.
    Exists,
}

/// Where events, codes and tokens are.
pub trait Store: Send + Sync {
    /// Answers a question.
    fn ask(&self, question: &Query) -> impl Future<Output = Result<QueryResult, QueryError>> + Send;
    /// Finds events.
    fn find(&self, latest: &EventQuery) -> impl Future<Output = Result<EventPage, QueryError>> + Send;
    /// What came after a place.
    fn follow(
        &self,
        place: &Position,
        filter: &Filter,
    ) -> impl Future<Output = Result<FollowedEvents, QueryError>> + Send;
    /// So many codes after a place with which this was done, in the order of its times.
    fn changed(
        &self,
        change: CodeChange,
        after: Option<&Cursor>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Changed>, QueryError>> + Send;
    /// Counts events.
    fn count(&self, filter: &Filter) -> impl Future<Output = Result<u64, QueryError>> + Send;
    /// A code of the list.
    fn code(&self, code: &str) -> impl Future<Output = Result<Option<ListedCode>, QueryError>> + Send;
    /// So many codes of the list, the latest first, after a place.
    fn codes(
        &self,
        after: Option<&Cursor>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<ListedCode>, QueryError>> + Send;
    /// Adds a code.
    fn add(&self, code: &ListedCode) -> impl Future<Output = Result<AddResult, QueryError>> + Send;
    /// Replaces a code.
    fn replace(&self, code: &ListedCode) -> impl Future<Output = Result<(), QueryError>> + Send;
    /// The opt-out of a code's recipient.
    fn opt_out(&self, code: &str) -> impl Future<Output = Result<Option<OptOut>, QueryError>> + Send;
    /// The token of a hash, also one that has expired.
    fn token(&self, hash: &[u8; 32]) -> impl Future<Output = Result<Option<KeptToken>, QueryError>> + Send;
    /// Keeps a token: whether it is new.
    fn add_token(&self, token: &KeptToken) -> impl Future<Output = Result<bool, QueryError>> + Send;
    /// Deletes the token of a hash: whether there was one, which only one of several callers is told.
    fn delete_token(&self, hash: &[u8; 32]) -> impl Future<Output = Result<bool, QueryError>> + Send;
}

/// An opt-out as a store keeps it. Early versions recorded the code alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptOut {
    /// The code.
    pub code: String,
    /// The time of the request.
    pub since: Option<Timestamp>,
    /// The one who asked.
    pub by: Option<Requester>,
}

/// Who records an opt-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requester {
    /// The recipient, on the page.
    Page,
    /// The owner, with `pixel opt-outs add`.
    CommandLine,
}

impl Requester {
    /// The name in stores and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::CommandLine => "command_line",
        }
    }

    /// Parses a name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Page, Self::CommandLine]
            .into_iter()
            .find(|requester| requester.name() == name)
    }
}
