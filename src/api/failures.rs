//! How often somebody has come with a wrong token.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};

/// Counts wrong tokens by who sends them.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<Option<IpAddr>, (i64, u32)>>);

/// Wrong tokens in a minute that are told to be wrong.
const MAX_FAILURES: u32 = 10;

/// More senders are not told apart.
const MAX_SENDERS: usize = 4096;

impl Failures {
    /// Counts one more; whether there are too many of this sender in this minute.
    pub fn add(&self, peer: Option<IpAddr>, now: DateTime<Utc>) -> bool {
        let minute = now.timestamp() / 60;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (of, _)| *of == minute);
        let peer = if known.len() < MAX_SENDERS { peer } else { None };
        let (_, count) = known.entry(peer).or_insert((minute, 0));
        *count = count.saturating_add(1);
        *count > MAX_FAILURES
    }
}
