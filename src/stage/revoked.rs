//! The revoked codes, in memory: a hit is marked without asking the store.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use crate::manage::Store;
use crate::question::{AskError, Cursor};

/// The revoked codes that are known.
#[derive(Debug, Default)]
pub struct Revoked(RwLock<HashSet<String>>);

/// How often it is looked whether others have revoked codes.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);

/// Others' clocks may be so many milliseconds behind.
const BEHIND: i64 = 60_000;

/// Codes that are asked for at a time.
const AT_ONCE: usize = 1_000;

impl Revoked {
    /// Whether a code is among them.
    pub fn holds(&self, code: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(code)
    }

    /// Adds a code.
    pub fn add(&self, code: String) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(code);
    }

    /// Adds those that were revoked since the last time; from when on to ask the next time.
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    pub async fn refresh(&self, store: &impl Store, since: Option<i64>) -> Result<Option<i64>, AskError> {
        let mut after = since.map(|time| Cursor {
            time: time - BEHIND,
            id: String::new(),
        });
        loop {
            let codes = store.revoked(after.as_ref(), AT_ONCE).await?;
            let more = codes.len() == AT_ONCE;
            after = codes.last().cloned().or(after);
            for Cursor { id, .. } in codes {
                if !self.holds(&id) {
                    self.add(id);
                }
            }
            if !more {
                return Ok(after.map(|cursor| cursor.time.max(since.unwrap_or_default())));
            }
        }
    }
}
