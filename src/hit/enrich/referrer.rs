//! The source of a page's visitor: medium, name and registrable domain.

use std::collections::HashMap;
use std::sync::OnceLock;

use reqwest::Url;

use crate::hit::enrich::domain::{Registrable, registrable};

/// The kind of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Medium {
    /// A search engine.
    Search,
    /// A social network, a messenger or a forum.
    Social,
    /// A mailbox in a browser.
    Email,
    /// An AI assistant.
    Ai,
    /// The tracked site itself.
    Internal,
    /// Another site.
    Referral,
    /// No source, as the page itself reports.
    Direct,
}

impl Medium {
    /// Every medium.
    pub const ALL: [Self; 7] = [
        Self::Search,
        Self::Social,
        Self::Email,
        Self::Ai,
        Self::Internal,
        Self::Referral,
        Self::Direct,
    ];

    /// Returns the name stored with the event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::Social => "social",
            Self::Email => "email",
            Self::Ai => "ai",
            Self::Internal => "internal",
            Self::Referral => "referral",
            Self::Direct => "direct",
        }
    }
}

/// The source of a visit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// The kind of the source.
    pub medium: Medium,
    /// The name of a known source.
    pub name: Option<&'static str>,
    /// The registrable domain; the host if it has none, as with addresses.
    pub domain: Option<String>,
}

/// The addresses in a hit that show its source.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trail<'a> {
    /// The referrer as the page's script reports it; empty if the page has none.
    pub origin: Option<&'a str>,
    /// The tracked page.
    pub page: Option<&'a str>,
    /// The `Referer` header of the image's request: the page that shows the image.
    pub header: Option<&'a str>,
}

/// Finds the source of a visit: the page's own report, else the page that shows the image if it is not the tracked one or if
/// it is a known source, such as a mailbox in a browser.
///
/// ```
/// use pixel::hit::enrich::referrer::{Medium, Trail, find_referrer};
/// let trail = Trail { origin: Some("https://www.google.co.uk/"), page: Some("https://shop.example/"), header: None };
/// let visit = find_referrer(trail);
/// assert_eq!(visit.map(|source| (source.medium, source.name)), Some((Medium::Search, Some("Google"))));
/// ```
pub fn find_referrer(trail: Trail<'_>) -> Option<Referrer> {
    // A page shows its own image in most hits.
    if trail.origin.is_none() && trail.header == trail.page {
        return None;
    }
    let page = trail.page.and_then(host);
    match trail.origin.map(str::trim) {
        Some("") => Some(Referrer {
            medium: Medium::Direct,
            name: None,
            domain: None,
        }),
        Some(origin) => host(origin).map(|origin| classify_host(&origin, page.as_deref())),
        None => {
            let source = classify_host(&trail.header.and_then(host)?, page.as_deref());
            let is_informative = matches!(
                source.medium,
                Medium::Search | Medium::Social | Medium::Email | Medium::Ai
            );
            is_informative.then_some(source)
        }
    }
}

/// Names in the DNS are not longer (RFC 1035, 3.1).
const MAX_HOST_BYTES: usize = 253;

/// Returns the host of a URL, or of an app as Android's browsers write it (`android-app://com.example/`).
fn host(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    url.host_str()
        .filter(|host| (1..=MAX_HOST_BYTES).contains(&host.len()))
        .map(str::to_ascii_lowercase)
}

/// Returns whether a host shows mail in a browser: its pages are mails, wherever an image in one is loaded.
///
/// ```
/// use pixel::hit::enrich::referrer::is_mailbox;
/// assert!(["mail.proton.me", "outlook.live.com", "webmail.shop.example"].iter().all(|host| is_mailbox(host)));
/// assert!(!["shop.example", "mailchimp.com"].iter().any(|host| is_mailbox(host)));
/// ```
pub fn is_mailbox(host: &str) -> bool {
    let own = ["webmail.", "mail.", "roundcube.", "owa."]
        .iter()
        .any(|label| host.starts_with(label));
    own || look_up(host).is_some_and(|(medium, _)| medium == Medium::Email)
}

fn classify_host(host: &str, page: Option<&str>) -> Referrer {
    let registered = registrable(host);
    let domain = registered.map_or(host, |domain| domain.name);
    let same = |page: &str| page == host || registered.is_some() && registrable(page) == registered;
    let (medium, name) = match find_known(host, registered) {
        _ if page.is_some_and(same) => (Medium::Internal, None),
        Some((medium, name)) => (medium, Some(name)),
        None => (Medium::Referral, None),
    };
    Referrer {
        medium,
        name,
        domain: Some(domain.to_owned()),
    }
}

/// The kind and name of a source.
type Known = (Medium, &'static str);

/// The table's entry of a name.
#[derive(Clone, Copy, Debug)]
struct Entry {
    known: Known,
    /// True if the entry does not apply to names below it.
    alone: bool,
}

/// Returns the longest known name at the end of the host, else the longest with any suffix. A name below somebody else's
/// domain, such as `google.blogspot.com`, is not known.
fn find_known(host: &str, domain: Option<Registrable<'_>>) -> Option<Known> {
    let host = host.strip_prefix("www.").unwrap_or(host);
    look_up(host).or_else(|| {
        let Registrable { name, .. } = domain.filter(|domain| !domain.private)?;
        let suffix = &name[name.find('.')?..];
        look_up(&format!("{}.*", host.strip_suffix(suffix)?))
    })
}

fn look_up(host: &str) -> Option<Known> {
    static TABLE: OnceLock<HashMap<&'static str, Entry>> = OnceLock::new();
    let table = TABLE.get_or_init(parse_table);
    let mut rest = Some(host);
    while let Some(name) = rest {
        if let Some(entry) = table.get(name).filter(|entry| !entry.alone || name == host) {
            return Some(entry.known);
        }
        rest = name.split_once('.').map(|(_, rest)| rest);
    }
    None
}

fn parse_table() -> HashMap<&'static str, Entry> {
    let mut table = HashMap::new();
    for line in include_str!("rules/referrers.rules").lines() {
        let Some((what, hosts)) = line.split_once(": ").filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let (medium, name) = what.split_once(' ').unwrap_or((what, ""));
        let Some(medium) = Medium::ALL.into_iter().find(|known| known.name() == medium) else {
            continue;
        };
        let known = (medium, name);
        table.extend(hosts.split(' ').map(|host| match host.strip_prefix('=') {
            Some(host) => (host, Entry { known, alone: true }),
            None => (host, Entry { known, alone: false }),
        }));
    }
    table
}
