//! The destinations of the server's events, and the stores that answer queries.

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

/// The number of concurrent deliveries to a remote destination.
const MAX_CONCURRENT_DELIVERIES: usize = 32;

/// A destination of the server's events.
#[derive(Debug)]
pub enum Sink {
    /// A SQLite file; the response waits for the commit, which takes about a millisecond.
    Store {
        /// The writer.
        store: Store,
        /// The reader for queries.
        file: FileStore,
    },
    /// A remote destination.
    Remote {
        /// The client of the destination.
        way: Arc<RemoteDestination>,
        /// A permit per delivery; closed when no more may begin.
        permits: Semaphore,
    },
}

impl Sink {
    /// Makes a sink of a file.
    pub fn store(store: Store) -> Self {
        Self::Store {
            file: FileStore::new(&store.readers()),
            store,
        }
    }

    /// Makes a sink of a remote destination.
    pub fn remote(way: RemoteDestination) -> Self {
        Self::Remote {
            way: Arc::new(way),
            permits: Semaphore::new(MAX_CONCURRENT_DELIVERIES),
        }
    }

    /// Returns the client of the index if the destination is an index.
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
            Self::Remote { way, permits } => match permits.acquire().await {
                Ok(_permit) => way.deliver(event, budget).await,
                Err(_closed) => Delivered::not_tried("the server was stopped before it was this event's turn"),
            },
        }
    }

    /// Stores an event that the main destination has not taken.
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

    /// Returns the reason why events cannot be stored now. A file is tried; for a remote destination the circuit
    /// breaker answers.
    pub(super) async fn trouble(&self) -> Option<String> {
        match self {
            Self::Store { store, .. } => store.check().await.err(),
            Self::Remote { way, .. } => {
                let is_open = way.breaker_state() != "closed";
                is_open.then(|| "the circuit breaker of the destination is open".to_owned())
            }
        }
    }

    /// Stops new deliveries.
    pub(super) fn stop(&self) {
        if let Self::Remote { permits, .. } = self {
            permits.close();
        }
    }
}

/// A source of answers to queries.
#[derive(Clone)]
pub(crate) enum QuerySource {
    File(FileStore),
    /// An index, or a destination that answers no queries.
    Remote(Arc<RemoteDestination>),
}

impl QuerySource {
    pub(crate) fn index(&self) -> Option<&Deliverer> {
        match self {
            Self::File(_) => None,
            Self::Remote(way) => way.index(),
        }
    }

    /// Returns the events after a position.
    pub(crate) async fn follow(&self, place: &Position, filter: &Filter) -> Result<FollowedEvents, QueryError> {
        match (self, self.index()) {
            (Self::File(file), _) => query::store::Store::follow(file, place, filter).await,
            (Self::Remote(_), Some(deliverer)) => query::store::Store::follow(deliverer, place, filter).await,
            (Self::Remote(_), None) => Err(QueryError::Unavailable("events go elsewhere".to_owned())),
        }
    }
}
