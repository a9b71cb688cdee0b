//! Notices requests that come through a proxy although none is trusted: all visitors would share the proxy's address.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::api::Warning;
use crate::hit::read::is_private_address;
use crate::hit::request::http_request::HttpRequest;
use crate::terminal::print_message;

/// The warning for the owner.
const WARNING: Warning = Warning {
    code: "proxy_without_hops",
    message: "requests come through a proxy, and all visitors are counted as one; start `pixel serve` with `--behind-proxy`, or set `PIXEL_TRUSTED_HOPS` to the number of proxies",
};

/// A flag that is set once a request has come through a proxy that is not trusted.
#[derive(Debug, Default)]
pub(super) struct Untrusted(AtomicBool);

impl Untrusted {
    /// Checks a request. The first one that comes through a proxy is logged as a warning.
    pub(super) fn notice(&self, request: &HttpRequest, trusted_hops: usize) {
        if trusted_hops == 0 && comes_through_proxy(request) && !self.0.swap(true, Ordering::Relaxed) {
            print_message(&format!("warning {}", WARNING.message));
        }
    }

    /// Returns whether there was such a request.
    pub(super) fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns the warning once there was such a request.
    pub(super) fn warning(&self) -> Option<Warning> {
        self.is_known().then_some(WARNING)
    }
}

/// Returns true if a request comes through a proxy. A visitor can send such a header as well, but not from the server's
/// own machine or network.
fn comes_through_proxy(request: &HttpRequest) -> bool {
    let names_client = || request.header("x-forwarded-for").is_some() || request.header("forwarded").is_some();
    request.peer.is_some_and(is_private_address) && names_client()
}
