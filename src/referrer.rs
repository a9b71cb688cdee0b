//! Where a page's visitor came from: medium, name and registrable domain.

use std::collections::HashMap;
use std::sync::OnceLock;

use reqwest::Url;

use crate::domain::registrable;

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
pub fn of(trail: Trail<'_>) -> Option<Referrer> {
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

/// The host of a URL, or of an app as Android's browsers write it (`android-app://com.example/`).
fn host(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    url.host_str()
        .filter(|host| !host.is_empty())
        .map(str::to_ascii_lowercase)
}

fn judge(host: &str, page: Option<&str>) -> Referrer {
    let domain = registrable(host).unwrap_or(host);
    let same = |page: &str| page == host || registrable(page) == Some(domain);
    let (medium, name) = match known(host, domain) {
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

type Known = (Medium, &'static str);

/// The longest known name that the host ends in, else its domain's first label with any suffix.
fn known(host: &str, domain: &str) -> Option<Known> {
    static TABLE: OnceLock<HashMap<&'static str, Known>> = OnceLock::new();
    let table = TABLE.get_or_init(table);
    let mut rest = Some(host);
    while let Some(name) = rest {
        if let Some(known) = table.get(name) {
            return Some(*known);
        }
        rest = name.split_once('.').map(|(_, rest)| rest);
    }
    let label = domain.split('.').next()?;
    (label != domain)
        .then(|| table.get(format!("{label}.*").as_str()).copied())
        .flatten()
}

fn table() -> HashMap<&'static str, Known> {
    let mut table = HashMap::new();
    for line in include_str!("rules/referrers.rules").lines() {
        let Some((what, hosts)) = line.split_once(": ").filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let (medium, name) = what.split_once(' ').unwrap_or((what, ""));
        let Some(medium) = Medium::ALL.into_iter().find(|known| known.name() == medium) else {
            continue;
        };
        table.extend(hosts.split(' ').map(|host| (host, (medium, name))));
    }
    table
}
