//! Where the stage's events go, and where what is asked of them is answered.

use crate::query;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::client::http::Deliverer;
use crate::client::router::{RemoteDestination, combine_outcomes};
use crate::hit::event::Event;
use crate::hit::outcome::{Delivered, Failure, Outcome};
use crate::query::store::{FollowedEvents, Position};
use crate::query::{Filter, QueryError};
use crate::server::file_store::FileStore;
use crate::sqlite::Store;

/// Deliveries under way to a remote destination at the same time.
const MAX_CONCURRENT_DELIVERIES: usize = 32;

/// Where the stage's events go.
#[derive(Debug)]
pub enum Sink {
    /// A file; the answer waits for the commit, which takes about a millisecond.
    Store {
        /// Stores.
        store: Store,
        /// Answers.
        file: FileStore,
    },
    /// A server.
    Remote {
        /// Delivers.
        way: Arc<RemoteDestination>,
        /// Deliveries at once; closed when none may begin any more.
        at_once: Semaphore,
    },
}

impl Sink {
    /// A file.
    pub fn store(store: Store) -> Self {
        Self::Store {
            file: FileStore::new(&store.readers()),
            store,
        }
    }

    /// A remote destination.
    pub fn remote(way: RemoteDestination) -> Self {
        Self::Remote {
            way: Arc::new(way),
            at_once: Semaphore::new(MAX_CONCURRENT_DELIVERIES),
        }
    }

    /// The index, when it is one.
    pub fn index(&self) -> Option<&Deliverer> {
        match self {
            Self::Remote { way, .. } => way.index(),
            Self::Store { .. } => None,
        }
    }

    pub(super) async fn deliver(&self, event: &Arc<Event>, budget: Duration) -> Delivered {
        match self {
            Self::Store { store, .. } => Delivered {
                outcome: store.store(Arc::clone(event)).await,
                attempts: 1,
                breaker: "closed",
            },
            Self::Remote { way, at_once } => match at_once.acquire().await {
                Ok(_turn) => way.deliver(event, budget).await,
                Err(_closed) => Delivered::not_tried("the stage was stopped before it was this event's turn"),
            },
        }
    }

    /// Keeps what the destination has not taken.
    pub(super) async fn keep(
        &self,
        event: &Arc<Event>,
        failure: &Failure,
        destination: &str,
        budget: Duration,
    ) -> Outcome {
        match self {
            Self::Store { store, .. } => combine_outcomes(failure, store.store(Arc::clone(event)).await),
            Self::Remote { way, .. } => way.keep(event, failure, destination, budget).await,
        }
    }

    /// Why events cannot be stored now: a file is tried, of a server the last deliveries are known.
    pub(super) async fn trouble(&self) -> Option<String> {
        match self {
            Self::Store { store, .. } => store.check().await.err(),
            Self::Remote { way, .. } => {
                let is_open = way.breaker_state() != "closed";
                is_open.then(|| "the circuit breaker of the destination is open".to_owned())
            }
        }
    }

    /// Begins nothing more.
    pub(super) fn stop(&self) {
        if let Self::Remote { at_once, .. } = self {
            at_once.close();
        }
    }
}

/// Where questions are answered.
#[derive(Clone)]
pub(crate) enum QuerySource {
    File(FileStore),
    /// An index, or something that answers no questions.
    Remote(Arc<RemoteDestination>),
}

impl QuerySource {
    pub(crate) fn index(&self) -> Option<&Deliverer> {
        match self {
            Self::File(_) => None,
            Self::Remote(way) => way.index(),
        }
    }

    /// What came after a place.
    pub(crate) async fn follow(&self, place: &Position, filter: &Filter) -> Result<FollowedEvents, QueryError> {
        match (self, self.index()) {
            (Self::File(file), _) => query::store::Store::follow(file, place, filter).await,
            (Self::Remote(_), Some(deliverer)) => query::store::Store::follow(deliverer, place, filter).await,
            (Self::Remote(_), None) => Err(QueryError::Unavailable("events go elsewhere".to_owned())),
        }
    }
}
