//! What is stored: the event document, and the one constructor that turns a [`Hit`] into it.
//!
//! That nothing private is stored unless the policy says so is a property of [`Event::new`] alone. Names come from the
//! Elastic Common Schema wherever it has one. What a visitor can name never becomes a field's name: it stands in `labels`
//! and, as the request came, in `params`, which is kept and not indexed.

mod code;
pub mod fields;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::code::Checked;
use crate::enrich::Enriched;
use crate::hit::{Hit, Screen};
use crate::privacy::text::{self, Anonymous, Cleaner};
use crate::privacy::{self, AddressPolicy, Applied, HeaderPolicy, Key, SignalPolicy, UserPolicy, Wishes};
use crate::request::{Oddity, Pairs, passthrough};
use crate::user_agent::Device;
use crate::{campaign, visit};

/// What may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What becomes of the visitor's address.
    pub address: AddressPolicy,
    /// What becomes of ids of users and of mail addresses.
    pub user: UserPolicy,
    /// What becomes of hits whose browsers ask not to be tracked.
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
            key: Key::of_process(),
            max_bytes: 32 * 1024,
        }
    }
}

/// A stored event: its id, its time, and the document as JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The id in the index.
    pub id: String,
    /// When the request was received; decides a dated index.
    pub time: DateTime<Utc>,
    /// The document.
    pub document: String,
}

impl Event {
    /// Makes the event of a hit, `ingested` being now. The document is never larger than the policy allows: longer values
    /// are cut, then less of the raw request is kept, and `event.cut` says where.
    ///
    /// `enriched` is what was read out of the same hit.
    pub fn new(hit: &Hit, enriched: &Enriched, policy: &Policy, ingested: DateTime<Utc>) -> Self {
        let campaign = campaign::of(&hit.request.query, &enriched.page_query);
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
        // Many events may wait together, and most are half as long as was allowed for.
        document.shrink_to_fit();
        Self {
            id: hit.id.clone(),
            time: hit.received,
            document,
        }
    }
}

/// How much of a hit is kept.
#[derive(Debug)]
struct Limits {
    /// Bytes of one value or name.
    text: usize,
    /// Members of one object or list.
    items: usize,
    /// Whether the body is kept.
    body: bool,
}

/// From generous to what fits [`Policy::MIN_BYTES`] even when every byte needs six in JSON.
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

/// The bytes of most documents.
const EXPECTED_BYTES: usize = 4096;

/// Deepest body that is kept. Readers of JSON stop at a depth, serde's at 128, and the event, or the log line that holds
/// it, puts a few levels around the body.
const BODY_DEPTH: usize = 100;

/// An index ignores longer keywords.
const LABEL_BYTES: usize = 1024;

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
    fn new(hit: &'a Hit, keeper: &mut Keeper<'_>) -> Self {
        let Checked { signature, contents } = &hit.checked;
        let code = hit.code.as_deref();
        let signature = signature.name();
        let campaign = keeper.optional("pixel.campaign", contents.campaign.as_deref());
        // A code for one person is as good as her name, and so may be the second in which her mail was sent.
        if keeper.anonymous && code.is_some_and(|code| hit.checked.may_name_person(code)) {
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
            code: keeper.optional("pixel.code", code),
            signature,
            sent: contents.sent.map(iso),
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
    fn of(ip: Option<IpAddr>, enriched: &'a Enriched) -> Option<Self> {
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
    title: Cow<'a, str>,
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
    request: HttpRequest<'a>,
}

#[derive(Serialize)]
struct HttpRequest<'a> {
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

/// Names and values; of names that are the same after cleaning, the last counts.
type Members<'a> = BTreeMap<Cow<'a, str>, Cow<'a, str>>;

/// What an event is made of.
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
        let wishes = Wishes::of(request);
        let anonymous = policy.signal != SignalPolicy::Record && wishes.against_tracking();
        let mut keeper = Keeper::new(hit, policy, limits, anonymous);
        let client = hit.address.and_then(|address| keeper.address(address));
        let user_agent = keeper.user_agent(request.header("user-agent"), enriched);
        let context = keeper.context(&request.context);
        let (labels, querystring) = keeper.query(&request.query);
        let mut document = Self {
            timestamp: iso(hit.received),
            date: hit.received.timestamp_millis(),
            event: EventFields {
                id: &hit.id,
                action: keeper.text("event.action", &hit.action),
                ingested: iso(ingested),
                ingress: request.ingress.name(),
                cut: BTreeSet::new(),
                oddities: Vec::new(),
            },
            pixel: PixelFields::new(hit, &mut keeper),
            client: Client::of(client, enriched),
            user_agent,
            visit: Visit {
                class: enriched.visit.class.name(),
                reasons: &enriched.visit.reasons,
                rules: visit::RULES,
            },
            visitor: keeper.visitor(hit, policy),
            user: keeper.user(hit.user.as_deref()),
            url: keeper.url(hit.page.as_deref()),
            page: keeper
                .optional("page.title", hit.title.as_deref())
                .map(|title| Page { title }),
            browser: (hit.language.is_some() || hit.screen.is_some()).then(|| Browser {
                language: hit.language.as_deref(),
                screen: hit.screen.map(Screen::name),
            }),
            http: Http {
                request: HttpRequest {
                    method: keeper.text("http.request.method", &request.method),
                    referrer: keeper.referrer(request.header("referer")),
                },
            },
            referrer: enriched.referrer.as_ref().map(|source| Referrer {
                domain: keeper.optional("referrer.domain", source.domain.as_deref()),
                medium: source.medium.name(),
                name: source.name,
            }),
            campaign: keeper.campaign(campaign),
            labels,
            privacy: Privacy {
                gpc: wishes.gpc.filter(|asked| *asked),
                dnt: wishes.dnt,
                applied: Vec::new(),
            },
            params: Params {
                path: keeper.members("params.path", &request.path_parameters),
                querystring,
                header: keeper.headers(&request.headers),
            },
            stage_variables: keeper.members("stage-variables", &request.stage_variables),
            context,
            body: keeper.body(request.body.as_deref()),
        };
        let more = keeper.too_many.then_some(Oddity::TooMany);
        document.event.oddities = request.oddities.iter().copied().chain(more).map(Oddity::name).collect();
        document.event.cut = keeper.cut;
        document.privacy.applied = keeper.applied.into_iter().map(Applied::name).collect();
        document
    }
}

/// ISO 8601 with milliseconds, in UTC.
pub fn iso(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Lets through what may be kept, and remembers what it did.
struct Keeper<'a> {
    limits: &'a Limits,
    cleaner: Cleaner,
    /// Nothing that tells this visitor from others.
    anonymous: bool,
    /// The visitor's user agent, where there is nothing in it to clean; it stands in several places.
    clean_agent: Option<&'a str>,
    applied: BTreeSet<Applied>,
    cut: BTreeSet<&'static str>,
    too_many: bool,
}

impl<'a> Keeper<'a> {
    fn new(hit: &Hit, policy: &Policy, limits: &'a Limits, anonymous: bool) -> Self {
        let told = hit.request.context("source-ip").map(ToOwned::to_owned);
        let own = hit.address.iter().map(ToString::to_string).chain(told).collect();
        let code = hit.code.as_deref();
        let of_mail = code.filter(|code| !hit.checked.may_name_person(code));
        Self {
            limits,
            cleaner: Cleaner {
                user: if anonymous { UserPolicy::Drop } else { policy.user },
                key: policy.key,
                address: if anonymous { AddressPolicy::Drop } else { policy.address },
                own,
                anonymous: anonymous.then(|| Anonymous {
                    of_mail: of_mail.map(ToOwned::to_owned),
                }),
            },
            anonymous,
            clean_agent: None,
            applied: anonymous.then_some(Applied::Anonymised).into_iter().collect(),
            cut: BTreeSet::new(),
            too_many: false,
        }
    }

    fn address(&mut self, address: IpAddr) -> Option<IpAddr> {
        let (kept, applied) = self.cleaner.address.apply(address);
        self.applied.extend(applied);
        kept
    }

    fn user<'t>(&mut self, id: Option<&'t str>) -> Option<Id<'t>> {
        let id = id.filter(|id| !id.is_empty())?;
        let kept = match self.cleaner.person(id, &mut self.applied) {
            Some(replaced) => (self.cleaner.user == UserPolicy::Hash).then_some(replaced.into()),
            None => Some(self.text("user.id", id)),
        };
        kept.map(|id| Id { id })
    }

    /// Tells visitors of a day apart, by the whole address before it was shortened.
    fn visitor(&self, hit: &Hit, policy: &Policy) -> Option<Id<'static>> {
        let agent = hit.request.header("user-agent").unwrap_or_default();
        let id = |address| policy.key.visitor(hit.received, address, agent);
        hit.address
            .filter(|_| !self.anonymous)
            .map(|address| Id { id: id(address).into() })
    }

    fn user_agent(&mut self, original: Option<&'a str>, enriched: &'a Enriched) -> Option<UserAgent<'a>> {
        let original = original.filter(|original| !original.is_empty())?;
        let cleaned = self.agent("user_agent.original", original);
        if *cleaned == *original {
            self.clean_agent = Some(original);
        }
        let agent = &enriched.agent;
        let name = self.optional("user_agent.name", agent.name.as_deref());
        let os = self.optional("user_agent.os.name", agent.os.as_deref());
        Some(UserAgent {
            original: cleaned,
            version: agent.version.as_deref().filter(|_| name.is_some()),
            name,
            os: os.map(|name| System {
                name,
                version: agent.os_version.as_deref(),
            }),
            device: agent.device.map(Device::name).map(|kind| Kind { kind }),
        })
    }

    /// A referrer without its query: what a person searched for, or a mailbox's address.
    fn without_query<'t>(&mut self, referrer: &'t str) -> &'t str {
        let bare = referrer.split(['?', '#']).next().unwrap_or_default();
        if bare.len() < referrer.len() {
            self.applied.insert(Applied::ReferrerQuery);
        }
        bare
    }

    fn referrer<'t>(&mut self, referrer: Option<&'t str>) -> Option<Cow<'t, str>> {
        let bare = self.without_query(referrer?);
        self.optional("http.request.referrer", Some(bare))
    }

    /// A text, cut to the limit, without secrets that stand in a URL's query.
    fn text<'t>(&mut self, place: &'static str, text: &'t str) -> Cow<'t, str> {
        let cleaned = self.cleaner.clean(text, &mut self.applied);
        self.cut_to(place, cleaned, self.limits.text)
    }

    /// What software says of itself.
    fn agent<'t>(&mut self, place: &'static str, text: &'t str) -> Cow<'t, str> {
        let cleaned = if self.clean_agent == Some(text) {
            Cow::Borrowed(text)
        } else {
            self.cleaner.clean_agent(text, &mut self.applied)
        };
        self.cut_to(place, cleaned, self.limits.text)
    }

    fn cut_to<'t>(&mut self, place: &'static str, cleaned: Cow<'t, str>, limit: usize) -> Cow<'t, str> {
        let kept = cleaned.floor_char_boundary(limit);
        if kept == cleaned.len() {
            return cleaned;
        }
        self.cut.insert(place);
        match cleaned {
            Cow::Borrowed(text) => Cow::Borrowed(&text[..kept]),
            Cow::Owned(mut text) => {
                text.truncate(kept);
                Cow::Owned(text)
            }
        }
    }

    fn optional<'t>(&mut self, place: &'static str, text: Option<&'t str>) -> Option<Cow<'t, str>> {
        text.filter(|text| !text.is_empty()).map(|text| self.text(place, text))
    }

    /// A value under a name that a visitor may have chosen.
    fn value<'t>(&mut self, place: &'static str, name: &str, value: &'t str) -> Cow<'t, str> {
        if privacy::is_secret(name) {
            self.applied.insert(Applied::SecretParameters);
            return Cow::Borrowed(privacy::REPLACEMENT);
        }
        if privacy::names_person(name)
            && let Some(replaced) = self.cleaner.person(value, &mut self.applied)
        {
            return Cow::Owned(replaced);
        }
        if self.anonymous && campaign::is_click_id(name) {
            return Cow::Borrowed(privacy::REPLACEMENT);
        }
        self.known_value(place, name, value)
    }

    /// A value whose name is neither a secret's nor a person's.
    fn known_value<'t>(&mut self, place: &'static str, name: &str, value: &'t str) -> Cow<'t, str> {
        match name {
            "user-agent" => self.agent(place, value),
            _ if name.starts_with("sec-") => self.agent(place, value),
            "referer" => {
                let bare = self.without_query(value);
                self.text(place, bare)
            }
            _ => self.text(place, value),
        }
    }

    fn first<'p>(&mut self, place: &'static str, pairs: &'p [(String, String)]) -> &'p [(String, String)] {
        if pairs.len() > self.limits.items {
            self.cut.insert(place);
            self.too_many = true;
        }
        &pairs[..pairs.len().min(self.limits.items)]
    }

    fn members<'t>(&mut self, place: &'static str, pairs: &'t Pairs) -> Members<'t> {
        let mut members = Members::new();
        for (name, value) in self.first(place, pairs) {
            let value = self.value(place, name, value);
            members.insert(self.text(place, name), value);
        }
        members
    }

    fn headers<'t>(&mut self, headers: &'t Pairs) -> Members<'t> {
        const PLACE: &str = "params.header";
        let mut kept = Members::new();
        let mut count = 0;
        for (name, value) in headers {
            let named = match privacy::header(name) {
                HeaderPolicy::Stored => Cow::Borrowed(name.as_str()),
                HeaderPolicy::StoredFamily => self.text(PLACE, name),
                HeaderPolicy::Left(why) => {
                    self.applied.insert(why);
                    continue;
                }
            };
            count += 1;
            if count > self.limits.items {
                self.cut.insert(PLACE);
                self.too_many = true;
                continue;
            }
            let value = self.known_value(PLACE, name, value);
            kept.insert(named, value);
        }
        kept
    }

    /// The context without the caller's identity; the address in it obeys the policy like `client.ip`.
    fn context<'t>(&mut self, context: &'t Pairs) -> Members<'t> {
        let mut kept = Members::new();
        for (name, value) in self.first("context", context) {
            if privacy::CALLER_KEYS.contains(&name.as_str()) {
                if !value.is_empty() {
                    self.applied.insert(Applied::CallerIdentity);
                }
                continue;
            }
            // The template's own names.
            let known = passthrough::CONTEXT.contains(&name.as_str());
            let value = match name.as_str() {
                "source-ip" => value
                    .parse()
                    .ok()
                    .and_then(|address| self.address(address))
                    .map(|address| address.to_string().into()),
                _ if known => Some(self.known_value("context", name, value)),
                _ => Some(self.value("context", name, value)),
            };
            if let Some(value) = value {
                let name = if known {
                    Cow::Borrowed(name.as_str())
                } else {
                    self.text("context", name)
                };
                kept.insert(name, value);
            }
        }
        kept
    }

    /// Every query parameter once as `name=value`, repeated names kept; and the parameters by name.
    fn query<'t>(&mut self, query: &'t Pairs) -> (Vec<String>, Members<'t>) {
        const PLACE: &str = "params.querystring";
        let limit = self.limits.text.min(LABEL_BYTES);
        let (mut labels, mut members) = (Vec::with_capacity(query.len()), Members::new());
        for (name, value) in self.first(PLACE, query) {
            let value = self.value(PLACE, name, value);
            let named = self.text(PLACE, name);
            let label = format!("{name}={value}");
            // A name may be a code, too.
            let is_clean = !self.anonymous && text::is_clean_pair(name, &value);
            let cleaned = if is_clean {
                Cow::Owned(label)
            } else {
                Cow::Owned(self.cleaner.clean(&label, &mut self.applied).into_owned())
            };
            labels.push(self.cut_to("labels", cleaned, limit).into_owned());
            members.insert(named, value);
        }
        if self.cut.contains(PLACE) {
            self.cut.insert("labels");
        }
        (labels, members)
    }

    fn url<'t>(&mut self, page: Option<&'t str>) -> Option<Url<'t>> {
        let full = self.optional("url.full", page)?;
        let parsed = reqwest::Url::parse(&full).ok();
        let part =
            |part: fn(&reqwest::Url) -> Option<&str>| parsed.as_ref().and_then(part).filter(|part| !part.is_empty());
        let owned = |part: Option<&str>| part.map(ToOwned::to_owned);
        let mut cleaned = |place, part: Option<&str>| self.optional(place, part).map(Cow::into_owned);
        Some(Url {
            scheme: owned(part(|url| Some(url.scheme()))),
            domain: owned(part(reqwest::Url::host_str)),
            path: cleaned("url.path", part(|url| url.has_host().then(|| url.path()))),
            query: cleaned("url.query", part(reqwest::Url::query)),
            full,
        })
    }

    fn campaign<'t>(&mut self, campaign: &'t campaign::Campaign<'_>) -> Campaign<'t> {
        let mut part = |place, text: &'t Option<Cow<'_, str>>| self.optional(place, text.as_deref());
        Campaign {
            source: part("campaign.source", &campaign.source),
            medium: part("campaign.medium", &campaign.medium),
            name: part("campaign.name", &campaign.name),
            term: part("campaign.term", &campaign.term),
            content: part("campaign.content", &campaign.content),
            id: part("campaign.id", &campaign.id),
            click_id: self.clicks(&campaign.clicks),
        }
    }

    /// A click's id tells one visitor from others.
    fn clicks<'t>(&mut self, clicks: &'t [(&'static str, Cow<'_, str>)]) -> BTreeMap<&'static str, Cow<'t, str>> {
        let kept = if self.anonymous { &[] } else { clicks };
        kept.iter()
            .map(|(name, id)| (*name, self.text("campaign.click_id", id)))
            .collect()
    }

    /// The body with every text in it kept by the same rules; one that is too deep to read is left out.
    fn body(&mut self, body: Option<&str>) -> Option<Value> {
        let body = body?;
        let kept = self.limits.body.then(|| serde_json::from_str(body).ok()).flatten();
        let kept = kept.filter(|value| depth(value) <= BODY_DEPTH);
        if kept.is_none() {
            self.cut.insert("body-json");
        }
        kept.map(|value| self.json(value))
    }

    fn json(&mut self, value: Value) -> Value {
        match value {
            Value::String(text) => self.text("body-json", &text).into_owned().into(),
            Value::Array(values) => values.into_iter().map(|value| self.json(value)).collect(),
            Value::Object(members) => Value::Object(
                members
                    .into_iter()
                    .map(|(name, value)| self.member(&name, value))
                    .collect(),
            ),
            other => other,
        }
    }

    fn member(&mut self, name: &str, value: Value) -> (String, Value) {
        let kept = match value {
            _ if privacy::is_secret(name) => {
                self.applied.insert(Applied::SecretParameters);
                privacy::REPLACEMENT.into()
            }
            Value::String(text) => self.value("body-json", name, &text).into_owned().into(),
            other => self.json(other),
        };
        (self.text("body-json", name).into_owned(), kept)
    }
}

/// How deep lists and objects stand in each other.
fn depth(value: &Value) -> usize {
    let deepest = |values: &mut dyn Iterator<Item = &Value>| 1 + values.map(depth).max().unwrap_or(0);
    match value {
        Value::Array(values) => deepest(&mut values.iter()),
        Value::Object(members) => deepest(&mut members.values()),
        _ => 0,
    }
}
