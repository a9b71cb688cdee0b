//! What must not be stored, and how it is removed.
//!
//! Names decide: a visitor's software says by the name of a header or parameter that its value is a secret or an address.
//! The one place that applies these rules is [`crate::event::Event::new`].

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What was removed from an event. Stored with it as `privacy.applied`.
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
}

impl Applied {
    /// The name stored with the event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AddressShortened => "address_shortened",
            Self::AddressDropped => "address_dropped",
            Self::SecretHeaders => "secret_headers_dropped",
            Self::AddressHeaders => "address_headers_dropped",
            Self::SecretParameters => "secret_parameters_replaced",
            Self::CallerIdentity => "caller_identity_dropped",
        }
    }
}

/// What becomes of the visitor's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressPolicy {
    /// Stored as its network: /24 of IPv4, /48 of IPv6.
    #[default]
    Shorten,
    /// Stored whole.
    Full,
    /// Not stored.
    Drop,
}

impl AddressPolicy {
    /// The address as it may be stored, and what was done to it.
    pub fn apply(self, address: IpAddr) -> (Option<IpAddr>, Option<Applied>) {
        match self {
            Self::Shorten => (Some(shorten(address)), Some(Applied::AddressShortened)),
            Self::Full => (Some(address), None),
            Self::Drop => (None, Some(Applied::AddressDropped)),
        }
    }
}

/// The network of an address: its first 24 bits, of IPv6 its first 48.
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

/// Stands where a secret stood.
pub const REPLACEMENT: &str = "[redacted]";

/// Words that make a name a secret's name, alone or as one of its words (`x-api-key`, `accessToken`).
const SECRET_WORDS: [&str; 18] = [
    "auth",
    "authorization",
    "authentication",
    "cookie",
    "cookies",
    "credential",
    "credentials",
    "jwt",
    "passwd",
    "password",
    "passphrase",
    "pwd",
    "secret",
    "session",
    "sessionid",
    "signature",
    "token",
    "apikey",
];

/// Words before `key` that make it a secret.
const KEY_WORDS: [&str; 6] = ["api", "access", "private", "secret", "encryption", "signing"];

/// Whether a header or parameter of this name carries a secret.
///
/// ```
/// use pixel::privacy::is_secret;
/// assert!(["Authorization", "X-Api-Key", "accessToken", "PHPSESSIONID", "__Secure-session"].iter().all(|name| is_secret(name)));
/// assert!(!["author", "keyword", "utm_source", "tokenizer", "monkey"].iter().any(|name| is_secret(name)));
/// ```
pub fn is_secret(name: &str) -> bool {
    if !may_be_secret(name.as_bytes()) {
        return false;
    }
    let words = words(name);
    let key = words
        .windows(2)
        .any(|pair| pair[1].starts_with("key") && KEY_WORDS.contains(&pair[0].as_str()));
    key || words
        .iter()
        .any(|word| SECRET_WORDS.contains(&word.as_str()) || word.ends_with("sessionid") || word.ends_with("sessid"))
        || words.concat().ends_with("apikey")
}

/// Whether a name holds what every secret's name holds somewhere; most names hold none of it, and splitting them into words
/// would be in vain. Every name of every hit comes by here, so most of its letters are looked at once.
fn may_be_secret(name: &[u8]) -> bool {
    (0..name.len()).any(|start| {
        let rest = &name[start..];
        let parts: &[&[u8]] = match rest[0].to_ascii_lowercase() {
            b'a' => &[b"auth"],
            b'c' => &[b"cookie", b"credential"],
            b'j' => &[b"jwt"],
            b'k' => &[b"key"],
            b'p' => &[b"pass", b"pwd"],
            b's' => &[b"secret", b"sess", b"signature"],
            b't' => &[b"token"],
            _ => return false,
        };
        let begins = |part: &&[u8]| rest.len() >= part.len() && rest[..part.len()].eq_ignore_ascii_case(part);
        parts.iter().any(begins)
    })
}

/// The words of a name: split where letters end and where a capital follows a small letter.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for character in name.chars().take(256) {
        let starts = character.is_ascii_uppercase() && before.is_ascii_lowercase();
        if (starts || !character.is_ascii_alphanumeric()) && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if character.is_ascii_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.push(character.to_ascii_lowercase());
        }
        before = character;
    }
    words
}

/// Headers by which proxies pass on a visitor's address, or a device tells its own.
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

/// Whether a header, named in lower case, carries a whole address.
pub fn carries_address(name: &str) -> bool {
    ADDRESS_HEADERS.contains(&name)
}

/// Keys of the passthrough's `context` that identify the caller of the API.
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

/// A URL, or any text with a query in it, without user information, secret parameters or a fragment of parameters.
///
/// ```
/// use pixel::privacy::clean_url;
/// assert_eq!(clean_url("https://me:pw@a.example/?token=1&q=2#id_token=3"), "https://a.example/?token=[redacted]&q=2");
/// assert_eq!(clean_url("https://a.example/?next=https://me:pw@b.example/"), "https://a.example/?next=https://b.example/");
/// assert_eq!(clean_url("just text"), "just text");
/// ```
pub fn clean_url(text: &str) -> Cow<'_, str> {
    let mut cleaned = without_users(text);
    if let Some((before, fragment)) = cleaned.split_once('#')
        && fragment.contains('=')
    {
        cleaned = Cow::Owned(before.to_owned());
    }
    if let Some((before, query)) = cleaned.split_once('?')
        && let Cow::Owned(query) = clean_query(query)
    {
        cleaned = Cow::Owned(format!("{before}?{query}"));
    }
    cleaned
}

/// Without the user information of any URL in the text, be it the text itself or a value in its query.
fn without_users(text: &str) -> Cow<'_, str> {
    let mut cleaned = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        cleaned.push_str(before);
        cleaned.push_str("://");
        // In a query, the value that holds a URL ends before the next parameter.
        let ends: &[char] = if cleaned.contains('?') {
            &['/', '?', '#', '&']
        } else {
            &['/', '?', '#']
        };
        let authority = after.split(ends).next().unwrap_or_default();
        rest = authority.rfind('@').map_or(after, |at| &after[at + 1..]);
    }
    if cleaned.len() + rest.len() == text.len() {
        return Cow::Borrowed(text);
    }
    cleaned.push_str(rest);
    Cow::Owned(cleaned)
}

fn clean_query(query: &str) -> Cow<'_, str> {
    let secret = |part: &str| {
        part.split_once('=')
            .is_some_and(|(name, value)| value != REPLACEMENT && is_secret(name))
    };
    if !query.split('&').any(secret) {
        return Cow::Borrowed(query);
    }
    let parts = query.split('&').map(|part| match part.split_once('=') {
        Some((name, _)) if secret(part) => format!("{name}={REPLACEMENT}"),
        _ => part.to_owned(),
    });
    Cow::Owned(parts.collect::<Vec<_>>().join("&"))
}
