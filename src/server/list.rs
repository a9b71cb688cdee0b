//! The status of codes in the owner's list, in memory, so that a hit is marked without asking the store.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use chrono::Utc;

use crate::hit::code::{CodeStatus, Listing};
use crate::query::store::{Changed, CodeChange, Store};
use crate::query::{Cursor, QueryError};

/// The known part of the code list.
#[derive(Debug, Default)]
pub struct KnownCodes {
    known: RwLock<Known>,
    /// A random hasher, so that nobody can construct two codes with the same hash.
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Known {
    /// The known codes by their hashes.
    codes: HashMap<u64, Entry>,
    /// The campaigns of all codes, each once: a mailing has one for many codes.
    campaigns: HashSet<Arc<str>>,
    /// True if the list was read whole, so that a code that is not here is not in the list.
    whole: bool,
}

#[derive(Debug, Default)]
struct Entry {
    revoked: bool,
    campaign: Option<Arc<str>>,
}

/// The interval at which changes by other processes are read.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);

/// The number of milliseconds that another server's clock may be behind.
const MAX_CLOCK_SKEW_MS: i64 = 60_000;

/// The number of codes in one request to the store.
const MAX_CODES_PER_REQUEST: usize = 1_000;

impl KnownCodes {
    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the status of a code in the list.
    pub fn status(&self, code: &str) -> CodeStatus {
        let known = self.read();
        let Some(entry) = known.codes.get(&self.hasher.hash_one(code)) else {
            let missing = known.whole && !known.codes.is_empty();
            return if missing { Listing::Missing } else { Listing::None }.into();
        };
        CodeStatus {
            listing: if entry.revoked {
                Listing::Revoked
            } else {
                Listing::Listed
            },
            campaign: entry.campaign.as_deref().map(ToOwned::to_owned),
        }
    }

    /// Records a change to a code, and its campaign.
    pub fn note(&self, change: CodeChange, code: &str, campaign: Option<&str>) {
        let code = self.hasher.hash_one(code);
        let mut known = self.write();
        let campaign = campaign.filter(|campaign| !campaign.is_empty()).map(|campaign| {
            let shared = known
                .campaigns
                .get(campaign)
                .cloned()
                .unwrap_or_else(|| campaign.into());
            known.campaigns.insert(Arc::clone(&shared));
            shared
        });
        let entry = known.codes.entry(code).or_default();
        entry.revoked |= change == CodeChange::Revoked;
        entry.campaign = campaign;
    }

    /// Records the changes since a time, in milliseconds since 1970, and returns the time for the next call. While the
    /// store cannot be asked, an unknown code may have been listed by another process.
    ///
    /// # Errors
    ///
    /// [`QueryError`] when the store cannot be asked.
    pub async fn refresh(&self, store: &impl Store, since: Option<i64>) -> Result<Option<i64>, QueryError> {
        let now = Utc::now().timestamp_millis();
        let mut refreshed = self.ask(store, CodeChange::Listed, since).await;
        if refreshed.is_ok() {
            refreshed = self.ask(store, CodeChange::Revoked, since).await;
        }
        self.write().whole = refreshed.is_ok();
        refreshed.map(|()| Some(now))
    }

    async fn ask(&self, store: &impl Store, change: CodeChange, since: Option<i64>) -> Result<(), QueryError> {
        let mut after = since.map(|time| Cursor {
            time: time - MAX_CLOCK_SKEW_MS,
            id: String::new(),
        });
        loop {
            let mut codes = store.changed(change, after.as_ref(), MAX_CODES_PER_REQUEST).await?;
            for Changed { place, campaign } in &codes {
                self.note(change, &place.id, campaign.as_deref());
            }
            let Some(last) = codes.pop() else {
                return Ok(());
            };
            after = Some(last.place);
        }
    }
}
