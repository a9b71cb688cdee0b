//! A limit of requests per minute for each client network.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};

/// The number of networks that are counted separately in a minute. More share one count, so that the memory is bounded.
const MAX_NETWORKS: usize = 65_536;

/// A counter of requests by client network.
#[derive(Debug)]
pub struct RateLimit {
    max_requests: u32,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    minute: i64,
    /// An IPv4 address, or the first half of an IPv6 address: one customer has all of its second half.
    networks: HashMap<Option<IpAddr>, u32>,
}

impl RateLimit {
    /// Makes a limit of this many requests a minute.
    pub fn new(max_requests: u32) -> Self {
        Self {
            max_requests,
            counts: Mutex::default(),
        }
    }

    /// Counts a request and returns whether it is within the limit.
    pub fn allow(&self, peer: Option<IpAddr>, now: DateTime<Utc>) -> bool {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now.timestamp() / 60;
        if counts.minute != minute {
            *counts = Counts {
                minute,
                networks: HashMap::new(),
            };
        }
        let network = peer.map(mask_network);
        let is_counted = counts.networks.len() < MAX_NETWORKS || counts.networks.contains_key(&network);
        let count = counts.networks.entry(network.filter(|_| is_counted)).or_default();
        *count = count.saturating_add(1);
        *count <= self.max_requests
    }
}

fn mask_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_limited_by_itself_and_for_a_minute() {
        let limit = RateLimit::new(2);
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let peer = |text: &str| Some(text.parse().unwrap());
        assert!(limit.allow(peer("192.0.2.1"), at(0)) && limit.allow(peer("::ffff:192.0.2.1"), at(1)));
        assert!(!limit.allow(peer("192.0.2.1"), at(59)));
        assert!(limit.allow(peer("192.0.2.2"), at(59)) && limit.allow(None, at(59)));
        assert!(limit.allow(peer("192.0.2.1"), at(60)));
        assert!(limit.allow(peer("2001:db8::1"), at(60)) && limit.allow(peer("2001:db8::2"), at(60)));
        assert!(!limit.allow(peer("2001:db8::3"), at(60)));
        assert!(limit.allow(peer("2001:db8:0:1::1"), at(60)));
    }

    #[test]
    fn many_networks_do_not_fill_the_memory() {
        let limit = RateLimit::new(1);
        let at = DateTime::from_timestamp(0, 0).unwrap();
        for number in 0..2 * u32::try_from(MAX_NETWORKS).unwrap() {
            let _ = limit.allow(Some(IpAddr::V4(number.into())), at);
        }
        assert_eq!(limit.counts.lock().unwrap().networks.len(), MAX_NETWORKS + 1);
        assert!(
            !limit.allow(Some(IpAddr::V4(0.into())), at),
            "whoever is known is still counted alone"
        );
    }
}
