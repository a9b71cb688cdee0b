//! The role `manage` in the stage: the same answers from a file.

use std::path::PathBuf;

use crate::delivery::sqlite::{Reader, StoreError};
use crate::manage::token::Scope;
use crate::manage::{Listed, Put, Store};
use crate::question::{Answer, AskError, Cursor, Filter, Latest, Page, Question};

/// A file of events, opened anew for every question: that takes a fraction of a millisecond, and nobody waits for another.
#[derive(Clone, Debug)]
pub struct File(pub PathBuf);

impl From<StoreError> for AskError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl File {
    /// Does something on a thread that may wait for the disk.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reader) -> Result<T, AskError> + Send + 'static,
    ) -> Result<T, AskError> {
        let path = self.0.clone();
        let task = tokio::task::spawn_blocking(move || work(&Reader::open(&path)?));
        task.await
            .unwrap_or_else(|_| Err(AskError::Unavailable("a panic".to_owned())))
    }
}

impl Store for File {
    async fn ask(&self, question: &Question) -> Result<Answer, AskError> {
        let question = question.clone();
        self.with(move |reader| reader.ask(&question)).await
    }

    async fn find(&self, latest: &Latest) -> Result<Page, AskError> {
        let latest = latest.clone();
        self.with(move |reader| reader.find(&latest)).await
    }

    async fn count(&self, filter: &Filter) -> Result<u64, AskError> {
        let filter = filter.clone();
        self.with(move |reader| reader.count(&filter)).await
    }

    async fn code(&self, code: &str) -> Result<Option<Listed>, AskError> {
        let code = code.to_owned();
        self.with(move |reader| Ok(reader.code(&code)?)).await
    }

    async fn codes(&self, after: Option<&Cursor>, limit: usize) -> Result<Vec<Listed>, AskError> {
        let after = after.cloned();
        self.with(move |reader| Ok(reader.codes(after.as_ref(), limit)?)).await
    }

    async fn add(&self, code: &Listed) -> Result<Put, AskError> {
        let code = code.clone();
        self.with(move |reader| Ok(reader.add_code(&code)?)).await
    }

    async fn replace(&self, code: &Listed) -> Result<(), AskError> {
        let code = code.clone();
        self.with(move |reader| Ok(reader.replace_code(&code)?)).await
    }

    async fn token(&self, hash: &[u8; 32]) -> Result<Option<Vec<Scope>>, AskError> {
        let hash = *hash;
        self.with(move |reader| Ok(reader.token(&hash)?)).await
    }
}
