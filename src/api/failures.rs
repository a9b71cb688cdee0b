//! A count of wrong tokens for each client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};

/// The number of wrong tokens by the address of the client, in the present minute.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<Option<IpAddr>, (i64, u32)>>);

/// The number of wrong tokens in a minute that get the usual answer.
const MAX_FAILURES: u32 = 10;

/// The number of clients that are counted separately.
const MAX_SENDERS: usize = 4096;

impl Failures {
    /// Counts a wrong token. Returns true if there are too many of this client in this minute.
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
