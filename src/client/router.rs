//! Delivery with a fallback: events that the destination does not accept go to the fallback, and the log keeps those
//! that it does not accept either.

use std::path::Path;
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;

use crate::client::http::{ClientError, Deliverer, http_client};
use crate::config::{Config, Timing};
use crate::destination::Destination;
use crate::destination::message::MessageTarget;
use crate::destination::undelivered::wrap_undelivered;
use crate::hit::event::Event;
use crate::hit::outcome::{Delivered, Failure, Outcome};

/// A connection to a remote destination.
#[derive(Debug)]
pub enum RemoteDestination {
    /// A connection to an index.
    Index(Deliverer),
    /// A connection to a queue or a stream.
    Message(Deliverer<MessageTarget>),
}

impl RemoteDestination {
    /// Creates a connection, which is not opened yet. None for a file.
    ///
    /// # Errors
    ///
    /// The errors of [`http_client`].
    pub fn open(
        destination: &Destination,
        ca_file: Option<&Path>,
        timing: Timing,
        credentials: Option<SharedCredentialsProvider>,
    ) -> Result<Option<Self>, ClientError> {
        let http = || http_client(ca_file, &timing);
        Ok(match destination {
            Destination::OpenSearch(target) => Some(Self::Index(Deliverer::new(
                http()?,
                target.clone(),
                timing,
                credentials,
            ))),
            // The file of authorities is for the index; AWS's own endpoints have public ones.
            Destination::Message(target) => Some(Self::Message(Deliverer::new(
                http_client(None, &timing)?,
                target.clone(),
                timing,
                credentials,
            ))),
            Destination::Sqlite(_) => None,
        })
    }

    /// Opens the connection in advance.
    pub async fn prepare(&self) {
        match self {
            Self::Index(deliverer) => deliverer.prepare().await,
            Self::Message(deliverer) => deliverer.prepare().await,
        }
    }

    /// Returns the deliverer to an index; none for a queue or a stream.
    pub const fn index(&self) -> Option<&Deliverer> {
        match self {
            Self::Index(deliverer) => Some(deliverer),
            Self::Message(_) => None,
        }
    }

    /// Returns the seconds by which the server's clock is ahead of ours, after it rejected a signature for that;
    /// otherwise 0.
    pub fn clock_offset(&self) -> i64 {
        match self {
            Self::Index(deliverer) => deliverer.clock_offset(),
            Self::Message(deliverer) => deliverer.clock_offset(),
        }
    }

    /// Returns the circuit breaker's state.
    pub fn breaker_state(&self) -> &'static str {
        match self {
            Self::Index(deliverer) => deliverer.breaker_state(),
            Self::Message(deliverer) => deliverer.breaker_state(),
        }
    }

    /// Delivers an event within a budget.
    pub async fn deliver(&self, event: &Event, budget: Duration) -> Delivered {
        match self {
            Self::Index(deliverer) => deliverer.deliver(event, budget).await,
            Self::Message(deliverer) => {
                let done = deliverer.deliver(event, budget).await;
                let outcome = match done.outcome {
                    Outcome::Indexed => Outcome::Queued,
                    other => other,
                };
                Delivered { outcome, ..done }
            }
        }
    }

    /// Sends an event that another destination has not accepted. An index gets the event as it is; a queue or a stream
    /// gets it with the reason.
    pub async fn keep(&self, event: &Event, failure: &Failure, destination: &str, budget: Duration) -> Outcome {
        let done = match self {
            Self::Index(deliverer) => deliverer.deliver(event, budget).await,
            Self::Message(deliverer) => {
                let envelope = Event {
                    document: wrap_undelivered(event, &failure.reason, destination).to_string(),
                    ..event.clone()
                };
                deliverer.deliver(&envelope, budget).await
            }
        };
        combine_outcomes(failure, done.outcome)
    }
}

/// Combines the failure of the destination and the outcome of the fallback.
pub fn combine_outcomes(failure: &Failure, kept: Outcome) -> Outcome {
    match kept {
        Outcome::Failed(also) => Outcome::Failed(Failure {
            reason: format!("{}; the fallback: {}", failure.reason, also.reason),
            temporary: failure.temporary,
        }),
        _ => Outcome::Fallback(failure.clone()),
    }
}

/// The destination and the fallback.
#[derive(Debug)]
pub struct Router {
    destination: Result<RemoteDestination, String>,
    /// The destination's name.
    name: String,
    fallback: Option<RemoteDestination>,
    attempt: Duration,
}

impl Router {
    /// Opens the destinations of a configuration, and returns the problems. Without a destination every event goes to
    /// the fallback.
    pub fn new(config: &Config, credentials: Option<&SharedCredentialsProvider>) -> (Self, Vec<String>) {
        let open = |variable: &str, destination: &Destination| {
            let remote = RemoteDestination::open(
                destination,
                config.ca_file.as_deref(),
                config.timing_for(destination),
                credentials.cloned(),
            );
            remote.map_err(|error| error.to_string())?.ok_or_else(|| {
                format!(
                    "`{variable}` is `sqlite:`, a destination of the command line; the function has no disk that lasts"
                )
            })
        };
        let mut problems = Vec::new();
        let destination = match &config.destination {
            Some(destination) => open("PIXEL_DESTINATION", destination),
            None => Err("`PIXEL_DESTINATION` is not set, or not valid; events are not indexed".to_owned()),
        };
        problems.extend(destination.as_ref().err().cloned());
        let fallback = config
            .fallback
            .as_ref()
            .map(|fallback| open("PIXEL_FALLBACK", fallback));
        problems.extend(fallback.as_ref().and_then(|fallback| fallback.as_ref().err().cloned()));
        let router = Self {
            destination,
            name: config.destination.as_ref().map(ToString::to_string).unwrap_or_default(),
            fallback: fallback.and_then(Result::ok),
            attempt: config.timing.attempt,
        };
        (router, problems)
    }

    /// Returns the deliverer to the index.
    ///
    /// # Errors
    ///
    /// A message, if the destination is not an index.
    pub fn index(&self) -> Result<&Deliverer, String> {
        let remote = self.destination.as_ref().map_err(Clone::clone)?;
        remote
            .index()
            .ok_or_else(|| "`PIXEL_DESTINATION` is not an index; give `https://host/index`".to_owned())
    }

    /// Returns the destination's name in log lines.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns [`RemoteDestination::clock_offset`] of the destination.
    pub fn clock_offset(&self) -> i64 {
        self.destination.as_ref().map_or(0, RemoteDestination::clock_offset)
    }

    /// Opens the connection to the destination in advance.
    pub async fn prepare(&self) {
        if let Ok(remote) = &self.destination {
            remote.prepare().await;
        }
    }

    /// Delivers an event within the budget. If there is a fallback, part of the budget is reserved for it.
    pub async fn deliver(&self, event: &Event, budget: Duration) -> Delivered {
        let kept = self.fallback_budget(budget);
        let delivered = match &self.destination {
            Ok(remote) => remote.deliver(event, budget.saturating_sub(kept)).await,
            Err(reason) => Delivered::not_tried(reason.clone()),
        };
        let Outcome::Failed(failure) = &delivered.outcome else {
            return delivered;
        };
        Delivered {
            outcome: self.keep(event, failure, kept).await,
            ..delivered
        }
    }

    /// Sends an event that the destination has not accepted to the fallback; without one it has failed.
    pub async fn keep(&self, event: &Event, failure: &Failure, budget: Duration) -> Outcome {
        match &self.fallback {
            Some(remote) => remote.keep(event, failure, &self.name, budget).await,
            None => Outcome::Failed(failure.clone()),
        }
    }

    /// Returns the part of a budget that is reserved for the fallback.
    pub fn fallback_budget(&self, budget: Duration) -> Duration {
        if self.fallback.is_some() {
            self.attempt.min(budget / 2)
        } else {
            Duration::ZERO
        }
    }

    /// Returns true if there is a fallback.
    pub const fn has_fallback(&self) -> bool {
        self.fallback.is_some()
    }
}
