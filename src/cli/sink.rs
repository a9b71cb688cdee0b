//! Where commands store many events: any destination, behind one face.

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

/// How long a server may take for its first answer: one of OpenSearch Serverless that sleeps takes half a minute.
const REACH: Duration = Duration::from_mins(1);

/// Messages under way to a queue or stream at the same time.
const MESSAGES: usize = 32;

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
                let deliverer = connect::deliverer(config, target).await?;
                reach(&deliverer).await?;
                Ok(Self::Index(Arc::new(deliverer)))
            }
            Destination::Message(_) => {
                let way = connect::way(config, destination).await?;
                Ok(Self::Message(Arc::new(way.context("no connection")?)))
            }
        }
    }

    /// How many batches to deliver at the same time: while an index answers one, it works on another. A file has one writer,
    /// and is to have the events in their order.
    pub(super) const fn under_way(&self) -> usize {
        match self {
            Self::Store(_) | Self::Message(_) => 1,
            Self::Index(_) => 2,
        }
    }

    /// Delivers a batch, and says of each event in its place what became of it.
    pub(super) async fn deliver(self, events: Vec<Event>) -> Vec<Outcome> {
        match self {
            Self::Store(store) => store.store_all(events).await,
            Self::Index(deliverer) => {
                deliverer
                    .deliver_all(&events, Limits::default(), BulkTimeouts::default())
                    .await
            }
            Self::Message(way) => hand_over(way, events).await,
        }
    }

    /// The index that it is.
    pub(super) fn index(&self) -> Option<&Deliverer> {
        match self {
            Self::Index(deliverer) => Some(deliverer),
            Self::Store(_) | Self::Message(_) => None,
        }
    }

    /// The same for one who still needs the events.
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

    /// Leaves a tidy file behind.
    pub(super) fn close(self) {
        if let Self::Store(store) = self
            && let Some(store) = Arc::into_inner(store)
        {
            store.close();
        }
    }
}

/// Hands over events one by one, many at the same time.
async fn hand_over(way: Arc<RemoteDestination>, events: Vec<Event>) -> Vec<Outcome> {
    let turns = Arc::new(Semaphore::new(MESSAGES));
    let mut tasks = Vec::with_capacity(events.len());
    for event in events {
        let (way, turns) = (Arc::clone(&way), Arc::clone(&turns));
        tasks.push(tokio::spawn(async move {
            // Never closed.
            let _turn = turns.acquire().await;
            way.deliver(&event, BulkTimeouts::default().budget).await.outcome
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

/// Whether anybody answers at all; a batch would be tried for long before it says so.
async fn reach(deliverer: &Deliverer) -> anyhow::Result<()> {
    let target = deliverer.target();
    let url = format!("{}/", target.base);
    let answered = deliverer.send(ClientRequest::json("HEAD", url, ""), 0, REACH).await;
    answered.with_context(|| format!("cannot reach {target}; is it the right host and port, and is the server up?"))?;
    Ok(())
}
