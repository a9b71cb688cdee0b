//! The store that answers the command line's queries.

use anyhow::Context;

use super::{DestinationArgument, configuration, connect};
use crate::client::codes;
use crate::client::http::Deliverer;
use crate::config::Config;
use crate::config::token::KeptToken;
use crate::destination::Destination;
use crate::query::store::{ListedCode, Store};
use crate::query::{Cursor, Filter, ParameterError, Parameters, Query, QueryError, QueryResult};
use crate::setup::server::explain;
use crate::sqlite::Reader;

/// A file or an index that answers queries.
pub(super) enum Source {
    File(Box<Reader>),
    Index(Box<Deliverer>),
}

impl Source {
    pub(super) async fn open(destination: &DestinationArgument) -> anyhow::Result<Self> {
        let config = configuration(destination)?;
        Self::open_with(&config, config.destination.as_ref().context("no destination")?).await
    }

    pub(super) async fn open_with(config: &Config, destination: &Destination) -> anyhow::Result<Self> {
        match destination {
            Destination::Sqlite(path) => Ok(Self::File(Box::new(Reader::open(path)?))),
            Destination::Message(outlet) => {
                anyhow::bail!("{outlet} answers no questions; name the index that its events come to")
            }
            Destination::OpenSearch(target) => {
                Ok(Self::Index(Box::new(connect::open_deliverer(config, target).await?)))
            }
        }
    }

    pub(super) async fn ask(&self, question: &Query) -> anyhow::Result<QueryResult> {
        self.explain_error(match self {
            Self::File(file) => file.ask(question),
            Self::Index(deliverer) => deliverer.ask(question).await,
        })
    }

    pub(super) async fn count(&self, filter: &Filter) -> anyhow::Result<u64> {
        self.explain_error(match self {
            Self::File(file) => file.count(filter),
            Self::Index(deliverer) => deliverer.count(filter).await,
        })
    }

    pub(super) async fn codes(&self, after: Option<&Cursor>, limit: usize) -> anyhow::Result<Vec<ListedCode>> {
        self.explain_error(match self {
            Self::File(file) => file.codes(after, limit).map_err(QueryError::from),
            Self::Index(deliverer) => deliverer.codes(after, limit).await,
        })
    }

    pub(super) async fn tokens(&self) -> anyhow::Result<Vec<KeptToken>> {
        self.explain_error(match self {
            Self::File(file) => file.tokens().map_err(QueryError::from),
            Self::Index(deliverer) => codes::tokens(deliverer).await,
        })
    }

    pub(super) async fn add_token(&self, token: &KeptToken) -> anyhow::Result<bool> {
        self.explain_error(match self {
            Self::File(file) => file.add_token(token).map_err(QueryError::from),
            Self::Index(deliverer) => deliverer.add_token(token).await,
        })
    }

    pub(super) async fn delete_token(&self, hash: &[u8; 32]) -> anyhow::Result<bool> {
        self.explain_error(match self {
            Self::File(file) => file.delete_token(hash).map_err(QueryError::from),
            Self::Index(deliverer) => deliverer.delete_token(hash).await,
        })
    }

    /// Names parameters as options and, if an index does not answer, adds what to do.
    fn explain_error<T>(&self, result: Result<T, QueryError>) -> anyhow::Result<T> {
        result.map_err(|error| match (error, self) {
            (QueryError::Parameter(error), _) => WrongOption(error).into(),
            (error @ QueryError::Unprepared, _) => error.into(),
            (QueryError::Unavailable(reason), Self::File(_)) => anyhow::anyhow!(reason),
            (QueryError::Unavailable(reason), Self::Index(deliverer)) => {
                let target = deliverer.target();
                anyhow::anyhow!(explain(&reason, &target.base, target.auth.name()))
            }
        })
    }
}

/// The error of a wrong option.
#[derive(Debug)]
pub(super) struct WrongOption(pub(super) ParameterError);

impl std::fmt::Display for WrongOption {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The message names parameters as in the HTTP API.
        let options = Parameters::QUESTION.iter().fold(self.0.remedy.clone(), |remedy, name| {
            remedy.replace(&format!("`{name}`"), &format!("`--{name}`"))
        });
        write!(formatter, "`--{}`: {options}", self.0.parameter)
    }
}

impl std::error::Error for WrongOption {}
