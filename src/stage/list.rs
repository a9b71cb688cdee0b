//! How codes stand in their owner's list, in memory: a hit is marked without asking the store.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use chrono::Utc;

use crate::code::Listing;
use crate::manage::{Change, Store};
use crate::question::{AskError, Cursor};

/// The list, as far as it is known.
#[derive(Debug, Default)]
pub struct List {
    known: RwLock<Known>,
    /// Nobody can choose two codes of the same hash.
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Known {
    /// The codes' hashes, and whether they are revoked.
    codes: HashMap<u64, bool>,
    /// Whether what is not here is not in the list.
    whole: bool,
}

/// How often it is looked whether others have listed or revoked codes.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);

/// Others' clocks may be so many milliseconds behind.
const BEHIND: i64 = 60_000;

/// Codes that are asked for at a time.
const AT_ONCE: usize = 1_000;

impl List {
    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a code stands.
    pub fn standing(&self, code: &str) -> Listing {
        let known = self.read();
        match known.codes.get(&self.hasher.hash_one(code)) {
            Some(true) => Listing::Revoked,
            Some(false) => Listing::Listed,
            None if known.whole && !known.codes.is_empty() => Listing::Missing,
            None => Listing::None,
        }
    }

    /// Notes what was done with a code.
    pub fn note(&self, change: Change, code: &str) {
        let code = self.hasher.hash_one(code);
        let revoked = change == Change::Revoked;
        *self.write().codes.entry(code).or_default() |= revoked;
    }

    /// Notes what was done since a time, in milliseconds since 1970; from when on to ask the next time. Until the store can
    /// be asked again, a code that is not known may be one that was listed elsewhere.
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    pub async fn refresh(&self, store: &impl Store, since: Option<i64>) -> Result<Option<i64>, AskError> {
        let now = Utc::now().timestamp_millis();
        let mut refreshed = self.ask(store, Change::Listed, since).await;
        if refreshed.is_ok() {
            refreshed = self.ask(store, Change::Revoked, since).await;
        }
        self.write().whole = refreshed.is_ok();
        refreshed.map(|()| Some(now))
    }

    async fn ask(&self, store: &impl Store, change: Change, since: Option<i64>) -> Result<(), AskError> {
        let mut after = since.map(|time| Cursor {
            time: time - BEHIND,
            id: String::new(),
        });
        loop {
            let mut codes = store.changed(change, after.as_ref(), AT_ONCE).await?;
            for Cursor { id, .. } in &codes {
                self.note(change, id);
            }
            if codes.is_empty() {
                return Ok(());
            }
            after = codes.pop();
        }
    }
}
