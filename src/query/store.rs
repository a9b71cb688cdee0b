//! The interface of a store of events, codes and tokens.

use super::{Cursor, EventPage, EventQuery, Filter, Query, QueryError, QueryResult, Timestamp};
use crate::config::token::KeptToken;
use serde::Serialize;

/// A code in the list of codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedCode {
    /// The code.
    pub code: String,
    /// The time when it was added to the list.
    pub created_at: Timestamp,
    /// The campaign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign: Option<String>,
    /// The keyed hash of its only recipient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// The owner's note.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The time when it was revoked. Its hits are stored anyway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// The position of a follower of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// The end: only later events follow.
    Now,
    /// The position after an event, by its cursor.
    After(Cursor),
    /// The position after a row of an SQLite file.
    Row(i64),
}

/// The maximum number of events that a follower gets at once.
pub const MAX_FOLLOWED: usize = 500;

/// The events after a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedEvents {
    /// The events in the order in which they were stored, at most [`MAX_FOLLOWED`]; some may not match the filter.
    pub events: Vec<(Cursor, String)>,
    /// The position after the events.
    pub place: Position,
}

/// A kind of change to a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeChange {
    /// The code was added to the list.
    Listed,
    /// The code was revoked.
    Revoked,
}

/// A code that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The time of the change, and the code.
    pub place: Cursor,
    /// The code's campaign.
    pub campaign: Option<String>,
}

/// The result of adding a code to the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddResult {
    /// The code was added.
    Done,
    /// The code already exists.
    Exists,
}

/// A store of events, codes and tokens.
pub trait Store: Send + Sync {
    /// Runs a query.
    fn ask(&self, query: &Query) -> impl Future<Output = Result<QueryResult, QueryError>> + Send;
    /// Finds events.
    fn find(&self, latest: &EventQuery) -> impl Future<Output = Result<EventPage, QueryError>> + Send;
    /// Returns the events after a position.
    fn follow(
        &self,
        place: &Position,
        filter: &Filter,
    ) -> impl Future<Output = Result<FollowedEvents, QueryError>> + Send;
    /// Returns up to `limit` codes after a position that were changed in this way, in the order of the changes.
    fn changed(
        &self,
        change: CodeChange,
        after: Option<&Cursor>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Changed>, QueryError>> + Send;
    /// Counts events.
    fn count(&self, filter: &Filter) -> impl Future<Output = Result<u64, QueryError>> + Send;
    /// Returns a code of the list.
    fn code(&self, code: &str) -> impl Future<Output = Result<Option<ListedCode>, QueryError>> + Send;
    /// Returns up to `limit` codes of the list after a position, the latest first.
    fn codes(
        &self,
        after: Option<&Cursor>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<ListedCode>, QueryError>> + Send;
    /// Adds a code.
    fn add(&self, code: &ListedCode) -> impl Future<Output = Result<AddResult, QueryError>> + Send;
    /// Replaces a code.
    fn replace(&self, code: &ListedCode) -> impl Future<Output = Result<(), QueryError>> + Send;
    /// Returns the opt-out of a code's recipient.
    fn opt_out(&self, code: &str) -> impl Future<Output = Result<Option<OptOut>, QueryError>> + Send;
    /// Returns the token with a hash, even if it has expired.
    fn token(&self, hash: &[u8; 32]) -> impl Future<Output = Result<Option<KeptToken>, QueryError>> + Send;
    /// Stores a token; returns true if it is new.
    fn add_token(&self, token: &KeptToken) -> impl Future<Output = Result<bool, QueryError>> + Send;
    /// Deletes the token with a hash; returns true if it existed, which only one of several concurrent callers gets.
    fn delete_token(&self, hash: &[u8; 32]) -> impl Future<Output = Result<bool, QueryError>> + Send;
}

/// An opt-out as a store keeps it. Early versions recorded only the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptOut {
    /// The code.
    pub code: String,
    /// The time of the request.
    pub since: Option<Timestamp>,
    /// The person who made the request.
    pub by: Option<Requester>,
}

/// The person who records an opt-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requester {
    /// The recipient, on the page.
    Page,
    /// The owner, with `pixel opt-outs add`.
    CommandLine,
}

impl Requester {
    /// Returns the name in stores and JSON.
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
