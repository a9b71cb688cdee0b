//! Notices requests that come through a proxy although none is trusted: all visitors would share the proxy's address.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::api::Warning;
use crate::hit::read::is_private_address;
use crate::hit::request::http_request::HttpRequest;
use crate::terminal::print_message;

/// What the owner should know.
const WARNING: Warning = Warning {
    code: "proxy_without_hops",
    message: "requests come through a proxy, and all visitors are counted as one; start `pixel serve` with `--behind-proxy`, or set `PIXEL_TRUSTED_HOPS` to the number of proxies",
};

/// Whether requests come through a proxy that is not trusted.
#[derive(Debug, Default)]
pub(super) struct Untrusted(AtomicBool);

impl Untrusted {
    /// Looks at a request. The first one that comes through a proxy is warned of in the log.
    pub(super) fn notice(&self, arrived: &HttpRequest, trusted_hops: usize) {
        if trusted_hops == 0 && comes_through_proxy(arrived) && !self.0.swap(true, Ordering::Relaxed) {
            print_message(&format!("warning {}", WARNING.message));
        }
    }

    /// Returns whether there was such a request.
    pub(super) fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The warning, once there was such a request.
    pub(super) fn warning(&self) -> Option<Warning> {
        self.is_known().then_some(WARNING)
    }
}

/// A visitor can send such a header, too, but not from the server's own machine or network.
fn comes_through_proxy(arrived: &HttpRequest) -> bool {
    let names_client = || arrived.header("x-forwarded-for").is_some() || arrived.header("forwarded").is_some();
    arrived.peer.is_some_and(is_private_address) && names_client()
}
