//! Decides what must not be stored, and removes it.
//!
//! Names decide if there are any: a visitor's software shows by the name of a header or parameter that its value is a
//! secret, an address or a person's id. Otherwise the form decides: a mail address, a token or the visitor's own
//! address. The only place that applies these rules is [`crate::hit::event::Event::new`]; [`find_refusal`] decides
//! whether a hit may be stored at all.

mod decode;
mod mail;
pub(crate) mod names;
pub mod redact;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use chrono::{DateTime, Utc};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use crate::hit::outcome::Ignored;
pub use crate::hit::privacy::redact::clean_url;
use crate::hit::request::Request;
pub use names::{is_secret, names_person};

/// A kind of data removed from an event. Stored with it as `privacy.applied`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Applied {
    /// The visitor's address was shortened to its network.
    AddressShortened,
    /// The visitor's address was not stored.
    AddressDropped,
    /// Headers that carry secrets were left out.
    SecretHeaders,
    /// Headers that carry the visitor's whole address were left out.
    AddressHeaders,
    /// Values of parameters whose names say that they are secrets were replaced.
    SecretParameters,
    /// The caller's identity (API key, ARN, principal) was left out of the context.
    CallerIdentity,
    /// Headers that are not on the list of those that are stored were left out.
    OtherHeaders,
    /// Ids of users were replaced by keyed hashes.
    UserHashed,
    /// Ids of users were left out.
    UserDropped,
    /// Mail addresses were replaced by keyed hashes.
    MailHashed,
    /// Mail addresses were left out.
    MailDropped,
    /// Texts that look like tokens were replaced.
    TokensReplaced,
    /// Addresses in texts were shortened or left out.
    AddressTexts,
    /// The query of the referrer was left out.
    ReferrerQuery,
    /// The visitor's browser asked not to be tracked: nothing that distinguishes this visitor from others was stored.
    Anonymised,
}

impl Applied {
    /// Returns the name stored with the event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AddressShortened => "address_shortened",
            Self::AddressDropped => "address_dropped",
            Self::SecretHeaders => "secret_headers_dropped",
            Self::AddressHeaders => "address_headers_dropped",
            Self::SecretParameters => "secret_parameters_replaced",
            Self::CallerIdentity => "caller_identity_dropped",
            Self::OtherHeaders => "other_headers_dropped",
            Self::UserHashed => "user_id_hashed",
            Self::UserDropped => "user_id_dropped",
            Self::MailHashed => "mail_addresses_hashed",
            Self::MailDropped => "mail_addresses_dropped",
            Self::TokensReplaced => "tokens_replaced",
            Self::AddressTexts => "addresses_in_texts_shortened",
            Self::ReferrerQuery => "referrer_query_dropped",
            Self::Anonymised => "anonymised",
        }
    }
}

/// The treatment of the visitor's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressPolicy {
    /// The address is stored as its network: /24 of IPv4, /48 of IPv6.
    #[default]
    Shorten,
    /// The address is stored in full.
    Full,
    /// The address is not stored.
    Drop,
}

impl AddressPolicy {
    /// Returns the address as it may be stored, and the change made to it.
    pub fn apply(self, address: IpAddr) -> (Option<IpAddr>, Option<Applied>) {
        match self {
            Self::Shorten => (Some(shorten(address)), Some(Applied::AddressShortened)),
            Self::Full => (Some(address), None),
            Self::Drop => (None, Some(Applied::AddressDropped)),
        }
    }
}

/// The treatment of ids of users, and of texts that look like mail addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserPolicy {
    /// The id is stored as a keyed hash: the same person has the same hash as long as the key is the same.
    #[default]
    Hash,
    /// The id is stored as received.
    Plain,
    /// The id is not stored.
    Drop,
}

/// The treatment of a hit whose browser asks not to be tracked (`Sec-GPC: 1`, `DNT: 1`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignalPolicy {
    /// The hit is stored like any other, with the signal.
    Record,
    /// The hit is stored without anything that distinguishes this visitor from others.
    #[default]
    Anonymise,
    /// The hit is not stored.
    Ignore,
}

/// The switch that turns the storing of hits on or off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recording {
    /// Hits are stored.
    #[default]
    On,
    /// The pixel is served, and nothing is stored.
    Off,
}

/// The key of all hashes. Its `Debug` output does not show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("[hidden]")
    }
}

impl Key {
    /// The minimum length of a secret, in characters.
    pub const MIN_CHARACTERS: usize = 16;

    /// Derives the key from a secret.
    pub fn from_secret(secret: &str) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, secret.as_bytes());
        let mut key = [0; 32];
        key.copy_from_slice(digest.as_ref());
        Self(key)
    }

    /// Returns a random key, the same for the life of the process: hashes from before and after a restart cannot be
    /// compared.
    ///
    /// # Panics
    ///
    /// When the system has no random numbers: a guessable key would be worse.
    pub fn for_process() -> Self {
        static KEY: OnceLock<Key> = OnceLock::new();
        *KEY.get_or_init(|| {
            let mut key = [0; 32];
            assert!(
                SystemRandom::new().fill(&mut key).is_ok(),
                "the system gives no random numbers"
            );
            Self(key)
        })
    }

    /// Returns 128 bits of HMAC-SHA-256 over a purpose and the parts, in hexadecimal.
    fn hash(&self, purpose: &str, parts: &[&str]) -> String {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
        for part in std::iter::once(&purpose).chain(parts) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut hex = String::with_capacity(32);
        for byte in &context.sign().as_ref()[..16] {
            hex.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])));
        }
        hex
    }

    /// Returns the hash of a user's id or a mail address. Case, blanks around it and the notation of an address make no
    /// difference ([`crate::hit::privacy::redact::normalize_user`]).
    pub fn user(&self, id: &str) -> String {
        self.hash_user(&crate::hit::privacy::redact::normalize_user(id))
    }

    /// Returns the hash of a user's id that is already normalized.
    pub(crate) fn hash_user(&self, normal: &str) -> String {
        format!("u-{}", self.hash("user", &[normal]))
    }

    /// Returns an id that distinguishes the visitors of one day (UTC); the next day the same visitor has another.
    pub fn visitor(&self, received: DateTime<Utc>, address: IpAddr, agent: &str) -> String {
        let (day, address) = (received.format("%F").to_string(), address.to_canonical().to_string());
        self.hash("visitor", &[&day, &address, agent])
    }
}

/// The privacy signals in a browser's headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrivacySignals {
    /// The value of `Sec-GPC` (Global Privacy Control); the only value is `1`.
    pub gpc: Option<bool>,
    /// The value of `DNT`: `1` or `0`.
    pub dnt: Option<bool>,
}

impl PrivacySignals {
    /// Reads the signals of a request.
    pub fn from_request(request: &Request) -> Self {
        let flag = |name| match request.header(name).map(str::trim) {
            Some("1") => Some(true),
            Some("0") => Some(false),
            _ => None,
        };
        Self {
            gpc: flag("sec-gpc"),
            dnt: flag("dnt"),
        }
    }

    /// Returns true if a signal asks not to be tracked.
    pub const fn against_tracking(self) -> bool {
        matches!(self.gpc, Some(true)) || matches!(self.dnt, Some(true))
    }
}

/// The cookie that the opt-out page sets.
pub const OPT_OUT_COOKIE: &str = "pixel-opt-out";

/// Returns true if a visitor has opted out, by the cookie.
pub fn opted_out(request: &Request) -> bool {
    says_opt_out(&request.headers)
}

/// Returns true if the headers, as received, contain the opt-out cookie.
pub fn says_opt_out(headers: &[(String, String)]) -> bool {
    let cookies = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("cookie"));
    let mut parts = cookies.flat_map(|(_, value)| value.split(';'));
    parts.any(|part| part.trim().split_once('=') == Some((OPT_OUT_COOKIE, "1")))
}

/// The settings that decide whether a hit may be stored.
#[derive(Clone, Copy, Debug)]
pub struct Consent<'a> {
    /// The switch for storing hits.
    pub recording: Recording,
    /// The treatment of hits whose browsers ask not to be tracked.
    pub signal: SignalPolicy,
    /// The codes whose recipients have opted out.
    pub opt_out: &'a dyn CodeSet,
}

/// A set of codes.
pub trait CodeSet: std::fmt::Debug + Sync + std::panic::RefUnwindSafe {
    /// Returns whether a code is in it.
    fn has(&self, code: &str) -> bool;
}

impl CodeSet for BTreeSet<String> {
    fn has(&self, code: &str) -> bool {
        self.contains(code)
    }
}

/// Returns the reason why a hit must not be stored; none if it may be.
pub fn find_refusal(request: &Request, consent: Consent<'_>) -> Option<Ignored> {
    if consent.recording == Recording::Off {
        return Some(Ignored::RecordingOff);
    }
    let named = || crate::hit::read::code_of(request).is_some_and(|code| consent.opt_out.has(&code));
    if opted_out(request) || named() {
        return Some(Ignored::OptedOut);
    }
    let unwanted = consent.signal == SignalPolicy::Ignore && PrivacySignals::from_request(request).against_tracking();
    unwanted.then_some(Ignored::PrivacySignal)
}

/// The headers that are stored, in addition to those that begin like one of [`STORED_FAMILIES`]: they distinguish kinds of
/// software and network paths, but not one person from another.
const STORED_HEADERS: [&str; 32] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "cf-ipcountry",
    "connection",
    "content-length",
    "content-type",
    "dnt",
    "host",
    "origin",
    "pragma",
    "priority",
    "purpose",
    "range",
    "referer",
    "save-data",
    "sec-gpc",
    "sec-purpose",
    "upgrade-insecure-requests",
    "user-agent",
    "x-appengine-country",
    "x-client-geo-country",
    "x-country-code",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-moz",
    "x-purpose",
    "x-requested-with",
    "x-vercel-ip-as-number",
    "x-vercel-ip-country",
    "x-wap-profile",
];

/// The beginnings of further headers that are stored: those that browsers send by themselves. Of other `Sec-` headers only
/// `Sec-GPC` and `Sec-Purpose` are stored, since anybody can invent one.
const STORED_FAMILIES: [&str; 5] = [
    "sec-ch-",
    "sec-fetch-",
    "cloudfront-is-",
    "cloudfront-viewer-country",
    "cloudfront-viewer-asn",
];

/// The treatment of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderPolicy {
    /// The header is stored; its name is one of ours.
    Stored,
    /// The header is stored; its sender chose a part of its name.
    StoredFamily,
    /// The header is not stored, for this reason.
    Left(Applied),
}

/// Returns the treatment of a header, named in lower case.
///
/// ```
/// use pixel::hit::privacy::{Applied, HeaderPolicy, header};
/// assert_eq!(header("accept"), HeaderPolicy::Stored);
/// assert_eq!(header("sec-gpc"), HeaderPolicy::Stored);
/// assert_eq!(header("sec-ch-ua"), HeaderPolicy::StoredFamily);
/// assert_eq!(header("sec-user"), HeaderPolicy::Left(Applied::OtherHeaders));
/// assert_eq!(header("sec-session-token"), HeaderPolicy::Left(Applied::SecretHeaders));
/// assert_eq!(header("x-real-ip"), HeaderPolicy::Left(Applied::AddressHeaders));
/// assert_eq!(header("x-more"), HeaderPolicy::Left(Applied::OtherHeaders));
/// ```
pub fn header(name: &str) -> HeaderPolicy {
    if STORED_HEADERS.binary_search(&name).is_ok() {
        HeaderPolicy::Stored
    } else if is_secret(name) {
        HeaderPolicy::Left(Applied::SecretHeaders)
    } else if ADDRESS_HEADERS.binary_search(&name).is_ok() {
        HeaderPolicy::Left(Applied::AddressHeaders)
    } else if STORED_FAMILIES.iter().any(|family| name.starts_with(family)) {
        HeaderPolicy::StoredFamily
    } else {
        HeaderPolicy::Left(Applied::OtherHeaders)
    }
}

/// Returns the network of an address: its first 24 bits, of IPv6 its first 48.
pub fn shorten(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
        }
    }
}

/// The text stored in place of a secret.
pub const REPLACEMENT: &str = "[redacted]";

/// The headers in which proxies pass on a visitor's address, or a device reports its own.
const ADDRESS_HEADERS: [&str; 24] = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "client-ip",
    "cloudfront-viewer-address",
    "do-connecting-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "forwarded",
    "forwarded-for",
    "from",
    "remote-addr",
    "true-client-ip",
    "via",
    "x-appengine-user-ip",
    "x-azure-clientip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-forwarded",
    "x-forwarded-for",
    "x-original-forwarded-for",
    "x-originating-ip",
    "x-real-ip",
];

/// The keys of the passthrough's `context` that identify the caller of the API.
pub const CALLER_KEYS: [&str; 10] = [
    "api-key",
    "authorizer-principal-id",
    "caller",
    "cognito-authentication-provider",
    "cognito-authentication-type",
    "cognito-identity-id",
    "cognito-identity-pool-id",
    "user",
    "user-arn",
    "access-key",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_is_stored_is_no_secret_and_no_address() {
        for name in STORED_HEADERS {
            assert!(!is_secret(name) && !names_person(name), "{name}");
            assert!(!ADDRESS_HEADERS.contains(&name), "{name}");
        }
    }

    #[test]
    fn what_is_looked_up_is_sorted() {
        assert!(STORED_HEADERS.is_sorted() && ADDRESS_HEADERS.is_sorted());
    }

    #[test]
    fn the_templates_own_names_are_no_secrets() {
        let own = crate::hit::request::passthrough::CONTEXT;
        for name in own.iter().filter(|name| !CALLER_KEYS.contains(name)) {
            // The account is AWS's; as a visitor's parameter it would be a person's.
            assert!(
                !is_secret(name) && (!names_person(name) || *name == "account-id"),
                "{name}"
            );
        }
    }
}
