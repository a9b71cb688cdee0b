//! The writer of many events to any destination.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Semaphore;

use super::connect;
use crate::client::bulk::BulkTimeouts;
use crate::client::http::{ClientRequest, Deliverer};
use crate::client::router::RemoteDestination;
use crate::config::Config;
use crate::destination::Destination;
use crate::destination::bulk::Limits;
use crate::hit::event::Event;
use crate::hit::outcome::Outcome;
use crate::sqlite::Store;

/// The timeout of a server's first response: OpenSearch Serverless that sleeps takes half a minute.
const REACH_TIMEOUT: Duration = Duration::from_mins(1);

/// The number of concurrent messages to a queue or stream.
const MAX_CONCURRENT_MESSAGES: usize = 32;

/// An open destination.
#[derive(Clone)]
pub(super) enum Sink {
    Store(Arc<Store>),
    Index(Arc<Deliverer>),
    Message(Arc<RemoteDestination>),
}

impl Sink {
    pub(super) async fn open(config: &Config, destination: &Destination) -> anyhow::Result<Self> {
        match destination {
            Destination::Sqlite(path) => Ok(Self::Store(Arc::new(Store::open(path)?))),
            Destination::OpenSearch(target) => {
                let deliverer = connect::open_deliverer(config, target).await?;
                check_reachable(&deliverer).await?;
                Ok(Self::Index(Arc::new(deliverer)))
            }
            Destination::Message(_) => {
                let remote = connect::open_remote(config, destination).await?;
                Ok(Self::Message(Arc::new(remote.context("no connection")?)))
            }
        }
    }

    /// Returns the number of batches to deliver at the same time: while an index answers one, it works on another. A file
    /// has one writer, and gets the events in their order.
    pub(super) const fn max_concurrent_batches(&self) -> usize {
        match self {
            Self::Store(_) | Self::Message(_) => 1,
            Self::Index(_) => 2,
        }
    }

    /// Delivers a batch and returns the outcome of each event, in their order.
    pub(super) async fn deliver(self, events: Vec<Event>) -> Vec<Outcome> {
        match self {
            Self::Store(store) => store.store_all(events).await,
            Self::Index(deliverer) => {
                deliverer
                    .deliver_all(&events, Limits::default(), BulkTimeouts::default())
                    .await
            }
            Self::Message(remote) => send_each(remote, events).await,
        }
    }

    /// Returns the index, if it is one.
    pub(super) fn index(&self) -> Option<&Deliverer> {
        match self {
            Self::Index(deliverer) => Some(deliverer),
            Self::Store(_) | Self::Message(_) => None,
        }
    }

    /// Delivers a batch and returns the events with their outcomes.
    pub(super) async fn deliver_kept(self, events: Vec<Event>) -> (Vec<Event>, Vec<Outcome>) {
        match self {
            Self::Index(deliverer) => {
                let outcomes = deliverer.deliver_all(&events, Limits::default(), BulkTimeouts::default());
                let outcomes = outcomes.await;
                (events, outcomes)
            }
            other => {
                let outcomes = other.deliver(events.clone()).await;
                (events, outcomes)
            }
        }
    }

    /// Closes the file cleanly.
    pub(super) fn close(self) {
        if let Self::Store(store) = self
            && let Some(store) = Arc::into_inner(store)
        {
            store.close();
        }
    }
}

/// Sends events one by one, many at the same time.
async fn send_each(remote: Arc<RemoteDestination>, events: Vec<Event>) -> Vec<Outcome> {
    let turns = Arc::new(Semaphore::new(MAX_CONCURRENT_MESSAGES));
    let mut tasks = Vec::with_capacity(events.len());
    for event in events {
        let (remote, turns) = (Arc::clone(&remote), Arc::clone(&turns));
        tasks.push(tokio::spawn(async move {
            // The semaphore is never closed.
            let _turn = turns.acquire().await;
            remote.deliver(&event, BulkTimeouts::default().budget).await.outcome
        }));
    }
    let mut outcomes = Vec::with_capacity(tasks.len());
    for task in tasks {
        outcomes.push(match task.await {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        });
    }
    outcomes
}

/// Checks that the server answers at all; a batch would be retried for long before it failed.
async fn check_reachable(deliverer: &Deliverer) -> anyhow::Result<()> {
    let target = deliverer.target();
    let url = format!("{}/", target.base);
    let result = deliverer
        .send(ClientRequest::json("HEAD", url, ""), 0, REACH_TIMEOUT)
        .await;
    result.with_context(|| format!("cannot reach {target}; is it the right host and port, and is the server up?"))?;
    Ok(())
}
