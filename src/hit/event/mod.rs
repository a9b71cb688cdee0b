//! The event document that is stored, and the only constructor that turns a [`Hit`] into it.
//!
//! [`Event::new`] alone ensures that nothing private is stored unless the policy allows it. Names come from the Elastic
//! Common Schema where it has one. A name that a visitor can choose never becomes a field's name: it is stored in
//! `labels` and, as the request came, in `params`, which is kept and not indexed.

mod code;
pub mod fields;
pub(crate) mod redactor;
pub mod shape;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::hit::event::redactor::Redactor;

use crate::hit::code::Checked;
use crate::hit::enrich::Enriched;
use crate::hit::enrich::referrer::is_mailbox;
use crate::hit::enrich::{campaign, classify};
use crate::hit::privacy::{AddressPolicy, Applied, Key, PrivacySignals, SignalPolicy, UserPolicy};
use crate::hit::read::{Hit, Screen};
use crate::hit::request::Oddity;

/// The privacy policy for stored events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The treatment of the visitor's address.
    pub address: AddressPolicy,
    /// The treatment of ids of users and of mail addresses.
    pub user: UserPolicy,
    /// The treatment of hits whose browsers ask not to be tracked.
    pub signal: SignalPolicy,
    /// The key of all hashes.
    pub key: Key,
    /// The largest document, in bytes of JSON.
    pub max_bytes: usize,
}

impl Policy {
    /// The smallest `max_bytes` for which every event fits.
    pub const MIN_BYTES: usize = 8 * 1024;
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            address: AddressPolicy::default(),
            user: UserPolicy::default(),
            signal: SignalPolicy::default(),
            key: Key::for_process(),
            max_bytes: 32 * 1024,
        }
    }
}

/// A stored event: its id, its time, and the document as JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The id in the index.
    pub id: String,
    /// The time of receipt of the request; it selects a dated index.
    pub time: DateTime<Utc>,
    /// The document.
    pub document: String,
}

impl Event {
    /// Makes the event of a hit at the time `ingested`. The document is never larger than the policy allows: longer
    /// values are cut, then less of the raw request is kept, and `event.cut` lists where.
    ///
    /// `enriched` is the data derived from the same hit.
    pub fn new(hit: &Hit, enriched: &Enriched, policy: &Policy, ingested: DateTime<Utc>) -> Self {
        let campaign = campaign::find_campaign(&hit.request.query, &enriched.page_query);
        let parts = Parts {
            hit,
            enriched,
            campaign: &campaign,
            policy,
            ingested,
        };
        let encode = |limits: &Limits| {
            let mut text = Vec::with_capacity(EXPECTED_BYTES);
            let written = serde_json::to_writer(&mut text, &Document::new(parts, limits));
            written.unwrap_or_else(|error| unreachable!("maps of strings are JSON: {error}"));
            String::from_utf8(text).unwrap_or_else(|error| unreachable!("JSON is text: {error}"))
        };
        let mut document = encode(&LIMITS[0]);
        for limits in &LIMITS[1..] {
            if document.len() <= policy.max_bytes {
                break;
            }
            document = encode(limits);
        }
        // Many events may wait together, and most take half the reserved space.
        document.shrink_to_fit();
        Self {
            id: hit.id.clone(),
            time: hit.received,
            document,
        }
    }

    /// Marks the event as a member of a data set (`event.dataset`). The word must need no escapes in JSON.
    #[must_use]
    pub fn with_dataset(mut self, dataset: &str) -> Self {
        let event = r#""event":{"#;
        // Only times come before it, and nothing of a visitor's.
        if let Some(begin) = self.document.find(event) {
            let member = format!(r#""dataset":"{dataset}","#);
            self.document.insert_str(begin + event.len(), &member);
        }
        self
    }
}

/// The limits on the parts of a hit that are kept.
#[derive(Debug)]
struct Limits {
    /// The maximum bytes of one value or name.
    text: usize,
    /// The maximum members of one object or list.
    items: usize,
    /// True if the body is kept.
    body: bool,
}

/// Ordered from generous to what fits [`Policy::MIN_BYTES`] even if every byte needs six in JSON.
const LIMITS: [Limits; 6] = [
    Limits {
        text: 2048,
        items: 100,
        body: true,
    },
    Limits {
        text: 1024,
        items: 64,
        body: true,
    },
    Limits {
        text: 512,
        items: 64,
        body: false,
    },
    Limits {
        text: 256,
        items: 32,
        body: false,
    },
    Limits {
        text: 64,
        items: 16,
        body: false,
    },
    Limits {
        text: 32,
        items: 0,
        body: false,
    },
];

/// The typical size of a document.
const EXPECTED_BYTES: usize = 4096;

/// The depth of the deepest body that is kept. Readers of JSON have a limit, serde's is 128, and the event, or the log
/// line that holds it, adds a few levels around the body.
const MAX_BODY_DEPTH: usize = 100;

/// An index ignores longer keywords.
const MAX_LABEL_BYTES: usize = 1024;

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "@timestamp")]
    timestamp: String,
    date: i64,
    event: EventFields<'a>,
    pixel: PixelFields<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<Client<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<UserAgent<'a>>,
    visit: Visit<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    visitor: Option<Id<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Id<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<Url<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<Page<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    browser: Option<Browser<'a>>,
    http: Http<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referrer: Option<Referrer<'a>>,
    #[serde(skip_serializing_if = "Campaign::is_empty")]
    campaign: Campaign<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<String>,
    #[serde(skip_serializing_if = "Privacy::is_empty")]
    privacy: Privacy,
    params: Params<'a>,
    #[serde(rename = "stage-variables")]
    stage_variables: Members<'a>,
    context: Members<'a>,
    #[serde(rename = "body-json", skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
}

#[derive(Serialize)]
struct EventFields<'a> {
    id: &'a str,
    action: Cow<'a, str>,
    ingested: String,
    ingress: &'static str,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    cut: BTreeSet<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    oddities: Vec<&'static str>,
}

#[derive(Serialize)]
struct PixelFields<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Cow<'a, str>>,
    signature: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_since_sent: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    campaign: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<String>,
}

impl<'a> PixelFields<'a> {
    fn new(hit: &'a Hit, redactor: &mut Redactor<'_>) -> Self {
        let Checked { signature, contents } = &hit.checked;
        let code = hit.code.as_deref();
        let signature = signature.name();
        let campaign = redactor.optional("pixel.campaign", contents.campaign.as_deref());
        // A code for one person is as good as the person's name, and so may be the second in which the mail was sent.
        if redactor.anonymous && code.is_some_and(|code| hit.checked.may_name_person(code)) {
            return Self {
                code: None,
                signature,
                sent: None,
                seconds_since_sent: None,
                campaign,
                recipient: None,
            };
        }
        Self {
            code: redactor.optional("pixel.code", code),
            signature,
            sent: contents.sent.map(format_iso),
            seconds_since_sent: hit.seconds_since_sent(),
            campaign,
            recipient: contents.recipient.map(|recipient| recipient.to_string()),
        }
    }
}

#[derive(Serialize)]
struct Client<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    geo: Option<Geo<'a>>,
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    network: Option<Network>,
}

impl<'a> Client<'a> {
    fn from_address(ip: Option<IpAddr>, enriched: &'a Enriched) -> Option<Self> {
        let country = enriched.place.country.as_deref();
        let geo = country.map(|country_iso_code| Geo { country_iso_code });
        let network = enriched.place.network.map(|number| Network { number });
        (ip.is_some() || geo.is_some() || network.is_some()).then_some(Self { ip, geo, network })
    }
}

#[derive(Serialize)]
struct Geo<'a> {
    country_iso_code: &'a str,
}

#[derive(Serialize)]
struct Network {
    number: u32,
}

#[derive(Serialize)]
struct UserAgent<'a> {
    original: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    os: Option<System<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Kind>,
}

#[derive(Serialize)]
struct System<'a> {
    name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
}

#[derive(Serialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct Visit<'a> {
    class: &'static str,
    reasons: &'a [&'static str],
    rules: &'static str,
}

#[derive(Serialize)]
struct Id<'a> {
    id: Cow<'a, str>,
}

#[derive(Serialize)]
struct Referrer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<Cow<'a, str>>,
    medium: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'static str>,
}

#[derive(Serialize)]
struct Url<'a> {
    full: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheme: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<String>,
}

#[derive(Serialize)]
struct Page<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<Cow<'a, str>>,
}

impl<'a> Page<'a> {
    /// Returns what is known of the page whose URL this is.
    fn new(url: Option<&Url<'_>>, title: Option<Cow<'a, str>>) -> Option<Self> {
        let key = url.and_then(page_key);
        (key.is_some() || title.is_some()).then_some(Self { key, title })
    }
}

/// Returns the host and path by which a page is listed. The URL is already redacted. A mailbox in a browser is not a page.
fn page_key(url: &Url<'_>) -> Option<String> {
    let web = matches!(url.scheme.as_deref(), Some("http" | "https"));
    let host = url.domain.as_deref().filter(|host| web && !is_mailbox(host))?;
    let host = host.strip_prefix("www.").unwrap_or(host);
    let path = url.path.as_deref().unwrap_or("/");
    // `/post/` is `/post`.
    let path = if path.len() > 1 {
        path.trim_end_matches('/')
    } else {
        path
    };
    Some(format!("{host}{}", if path.is_empty() { "/" } else { path }))
}

#[derive(Serialize)]
struct Browser<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    screen: Option<&'static str>,
}

#[derive(Serialize)]
struct Http<'a> {
    request: HttpRequestFields<'a>,
}

#[derive(Serialize)]
struct HttpRequestFields<'a> {
    method: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referrer: Option<Cow<'a, str>>,
}

#[derive(Default, Serialize)]
struct Campaign<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    medium: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    term: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    click_id: BTreeMap<&'static str, Cow<'a, str>>,
}

impl Campaign<'_> {
    fn is_empty(&self) -> bool {
        let known = self.source.is_some() || self.medium.is_some() || self.name.is_some();
        !known && self.term.is_none() && self.content.is_none() && self.id.is_none() && self.click_id.is_empty()
    }
}

#[derive(Serialize)]
struct Privacy {
    #[serde(skip_serializing_if = "Option::is_none")]
    gpc: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dnt: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    applied: Vec<&'static str>,
}

impl Privacy {
    const fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.gpc.is_none() && self.dnt.is_none()
    }
}

#[derive(Serialize)]
struct Params<'a> {
    path: Members<'a>,
    querystring: Members<'a>,
    header: Members<'a>,
}

/// Names and values; of names that become equal after cleaning, the last is kept.
type Members<'a> = BTreeMap<Cow<'a, str>, Cow<'a, str>>;

/// The sources of an event.
#[derive(Clone, Copy)]
struct Parts<'a> {
    hit: &'a Hit,
    enriched: &'a Enriched,
    campaign: &'a campaign::Campaign<'a>,
    policy: &'a Policy,
    ingested: DateTime<Utc>,
}

impl<'a> Document<'a> {
    fn new(parts: Parts<'a>, limits: &'a Limits) -> Self {
        let Parts {
            hit,
            enriched,
            campaign,
            policy,
            ingested,
        } = parts;
        let request = &hit.request;
        let signals = PrivacySignals::from_request(request);
        let anonymous = policy.signal != SignalPolicy::Record && signals.against_tracking();
        let mut redactor = Redactor::new(hit, policy, limits, anonymous);
        let client = hit.address.and_then(|address| redactor.address(address));
        let user_agent = redactor.user_agent(request.header("user-agent"), enriched);
        let context = redactor.context(&request.context);
        let (labels, querystring) = redactor.query(&request.query);
        let mut document = Self {
            timestamp: format_iso(hit.received),
            date: hit.received.timestamp_millis(),
            event: EventFields {
                id: &hit.id,
                action: redactor.text("event.action", &hit.action),
                ingested: format_iso(ingested),
                ingress: request.ingress.name(),
                cut: BTreeSet::new(),
                oddities: Vec::new(),
            },
            pixel: PixelFields::new(hit, &mut redactor),
            client: Client::from_address(client, enriched),
            user_agent,
            visit: Visit {
                class: enriched.visit.class.name(),
                reasons: &enriched.visit.reasons,
                rules: classify::RULES,
            },
            visitor: redactor.visitor(hit, policy),
            user: redactor.user(hit.user.as_deref()),
            url: None,
            page: None,
            browser: (hit.language.is_some() || hit.screen.is_some()).then(|| Browser {
                language: hit.language.as_deref(),
                screen: hit.screen.map(Screen::name),
            }),
            http: Http {
                request: HttpRequestFields {
                    method: redactor.text("http.request.method", &request.method),
                    referrer: redactor.referrer(request.header("referer")),
                },
            },
            referrer: enriched.referrer.as_ref().map(|source| Referrer {
                domain: redactor.optional("referrer.domain", source.domain.as_deref()),
                medium: source.medium.name(),
                name: source.name,
            }),
            campaign: redactor.campaign(campaign, hit.code_campaign()),
            labels,
            privacy: Privacy {
                gpc: signals.gpc.filter(|asked| *asked),
                dnt: signals.dnt,
                applied: Vec::new(),
            },
            params: Params {
                path: redactor.members("params.path", &request.path_parameters),
                querystring,
                header: redactor.headers(&request.headers),
            },
            stage_variables: redactor.members("stage-variables", &request.stage_variables),
            context,
            body: redactor.body(request.body.as_deref()),
        };
        document.url = redactor.url(hit.page.as_deref());
        let title = redactor.optional("page.title", hit.title.as_deref());
        document.page = Page::new(document.url.as_ref(), title);
        let more = redactor.too_many.then_some(Oddity::TooMany);
        document.event.oddities = request.oddities.iter().copied().chain(more).map(Oddity::name).collect();
        document.event.cut = redactor.cut;
        document.privacy.applied = redactor.applied.into_iter().map(Applied::name).collect();
        document
    }
}

/// Formats a time in ISO 8601 with milliseconds, in UTC.
pub fn format_iso(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
