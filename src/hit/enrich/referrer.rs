//! Where a page's visitor came from: medium, name and registrable domain.

use std::collections::HashMap;
use std::sync::OnceLock;

use reqwest::Url;

use crate::hit::enrich::domain::{Registrable, registrable};

/// The kind of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Medium {
    /// A search engine.
    Search,
    /// A social network, a messenger, a forum.
    Social,
    /// Mail in a browser.
    Email,
    /// An assistant.
    Ai,
    /// The same site.
    Internal,
    /// Another site.
    Referral,
    /// Nowhere, as the page itself says.
    Direct,
}

impl Medium {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Search,
        Self::Social,
        Self::Email,
        Self::Ai,
        Self::Internal,
        Self::Referral,
        Self::Direct,
    ];

    /// The name stored with the event.
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

/// A source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// Its kind.
    pub medium: Medium,
    /// Its name, when it is a known one.
    pub name: Option<&'static str>,
    /// Its registrable domain; its host where that has none, as addresses.
    pub domain: Option<String>,
}

/// What a hit says of where its visitor was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trail<'a> {
    /// Where the page's visitor came from, as the page says; empty when it says nowhere.
    pub origin: Option<&'a str>,
    /// The tracked page.
    pub page: Option<&'a str>,
    /// The `Referer` header of the image's request, which is the page that shows it.
    pub header: Option<&'a str>,
}

/// The source of a visit, as far as something is known: what the page says, else the page that shows the image when it is
/// another than the tracked one or a known source, such as a mailbox in a browser.
///
/// ```
/// use pixel::referrer::{Medium, Trail, of};
/// let visit = of(Trail { origin: Some("https://www.google.co.uk/"), page: Some("https://shop.example/"), header: None });
/// assert_eq!(visit.map(|source| (source.medium, source.name)), Some((Medium::Search, Some("Google"))));
/// ```
pub fn find_referrer(trail: Trail<'_>) -> Option<Referrer> {
    // A page shows its own image: most hits of pages.
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
        Some(origin) => host(origin).map(|origin| judge(&origin, page.as_deref())),
        None => {
            let source = judge(&trail.header.and_then(host)?, page.as_deref());
            let told = matches!(
                source.medium,
                Medium::Search | Medium::Social | Medium::Email | Medium::Ai
            );
            told.then_some(source)
        }
    }
}

/// No name in the DNS is longer (RFC 1035, 3.1).
const MAX_HOST_BYTES: usize = 253;

/// The host of a URL, or of an app as Android's browsers write it (`android-app://com.example/`).
fn host(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    url.host_str()
        .filter(|host| (1..=MAX_HOST_BYTES).contains(&host.len()))
        .map(str::to_ascii_lowercase)
}

/// Returns whether a host shows mail in a browser: its pages are mails, wherever an image in one is loaded.
///
/// ```
/// use pixel::referrer::is_mailbox;
/// assert!(["mail.proton.me", "outlook.live.com", "webmail.shop.example"].iter().all(|host| is_mailbox(host)));
/// assert!(!["shop.example", "mailchimp.com"].iter().any(|host| is_mailbox(host)));
/// ```
pub fn is_mailbox(host: &str) -> bool {
    let own = ["webmail.", "mail.", "roundcube.", "owa."]
        .iter()
        .any(|label| host.starts_with(label));
    own || find(host).is_some_and(|(medium, _)| medium == Medium::Email)
}

fn judge(host: &str, page: Option<&str>) -> Referrer {
    let registered = registrable(host);
    let domain = registered.map_or(host, |domain| domain.name);
    let same = |page: &str| page == host || registered.is_some() && registrable(page) == registered;
    let (medium, name) = match known(host, registered) {
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

/// A source's kind and name.
type Known = (Medium, &'static str);

/// What the table says of a name.
#[derive(Clone, Copy, Debug)]
struct Entry {
    known: Known,
    /// It says nothing of the names below it.
    alone: bool,
}

/// The longest known name that the host ends in, else the longest with any suffix. A name below somebody else's domain, such
/// as `google.blogspot.com`, is nobody's.
fn known(host: &str, domain: Option<Registrable<'_>>) -> Option<Known> {
    let host = host.strip_prefix("www.").unwrap_or(host);
    find(host).or_else(|| {
        let Registrable { name, .. } = domain.filter(|domain| !domain.private)?;
        let suffix = &name[name.find('.')?..];
        find(&format!("{}.*", host.strip_suffix(suffix)?))
    })
}

fn find(host: &str) -> Option<Known> {
    static TABLE: OnceLock<HashMap<&'static str, Entry>> = OnceLock::new();
    let table = TABLE.get_or_init(table);
    let mut rest = Some(host);
    while let Some(name) = rest {
        if let Some(entry) = table.get(name).filter(|entry| !entry.alone || name == host) {
            return Some(entry.known);
        }
        rest = name.split_once('.').map(|(_, rest)| rest);
    }
    None
}

fn table() -> HashMap<&'static str, Entry> {
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
