//! Redacts the texts of a hit: every text of a document passes through here.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;

use super::{Campaign, Id, Kind, Limits, MAX_BODY_DEPTH, MAX_LABEL_BYTES, Members, Policy, System, Url, UserAgent};
use crate::hit::enrich::Enriched;
use crate::hit::enrich::campaign;
use crate::hit::enrich::user_agent::Device;
use crate::hit::privacy;
use crate::hit::privacy::names::{ParameterPolicy, classify_parameter, is_plain};
use crate::hit::privacy::redact;
use crate::hit::privacy::redact::{Anonymous, Cleaner};
use crate::hit::privacy::{AddressPolicy, Applied, HeaderPolicy, UserPolicy};
use crate::hit::read::Hit;
use crate::hit::request::{Pairs, passthrough};

/// The privacy policy applied to each value; it records what was removed.
pub(super) struct Redactor<'a> {
    limits: &'a Limits,
    cleaner: Cleaner,
    /// True if nothing may be stored that distinguishes this visitor from others.
    pub(super) anonymous: bool,
    /// The visitor's user agent if nothing in it needs cleaning; it occurs in several places.
    clean_agent: Option<&'a str>,
    pub(super) applied: BTreeSet<Applied>,
    pub(super) cut: BTreeSet<&'static str>,
    pub(super) too_many: bool,
}

impl<'a> Redactor<'a> {
    pub(super) fn new(hit: &Hit, policy: &Policy, limits: &'a Limits, anonymous: bool) -> Self {
        let source_ip = hit.request.context("source-ip").map(ToOwned::to_owned);
        let own = hit.address.iter().map(ToString::to_string).chain(source_ip).collect();
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

    pub(super) fn address(&mut self, address: IpAddr) -> Option<IpAddr> {
        let (kept, applied) = self.cleaner.address.apply(address);
        self.applied.extend(applied);
        kept
    }

    pub(super) fn user<'t>(&mut self, id: Option<&'t str>) -> Option<Id<'t>> {
        let id = id.filter(|id| !id.is_empty())?;
        let kept = match self.cleaner.person(id, &mut self.applied) {
            Some(replaced) => (self.cleaner.user == UserPolicy::Hash).then_some(replaced.into()),
            None => Some(self.text("user.id", id)),
        };
        kept.map(|id| Id { id })
    }

    /// Returns an id that distinguishes the visitors of a day, by the whole address before it was shortened.
    pub(super) fn visitor(&self, hit: &Hit, policy: &Policy) -> Option<Id<'static>> {
        let agent = hit.request.header("user-agent").unwrap_or_default();
        let id = |address| policy.key.visitor(hit.received, address, agent);
        hit.address
            .filter(|_| !self.anonymous)
            .map(|address| Id { id: id(address).into() })
    }

    pub(super) fn user_agent(&mut self, original: Option<&'a str>, enriched: &'a Enriched) -> Option<UserAgent<'a>> {
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

    /// Removes the query of a referrer, which may hold a person's search words or a mailbox's address.
    pub(super) fn without_query<'t>(&mut self, referrer: &'t str) -> &'t str {
        let bare = referrer.split(['?', '#']).next().unwrap_or_default();
        if bare.len() < referrer.len() {
            self.applied.insert(Applied::ReferrerQuery);
        }
        bare
    }

    pub(super) fn referrer<'t>(&mut self, referrer: Option<&'t str>) -> Option<Cow<'t, str>> {
        let bare = self.without_query(referrer?);
        self.optional("http.request.referrer", Some(bare))
    }

    /// Returns a text truncated to the limit, without secrets in a URL's query.
    pub(super) fn text<'t>(&mut self, place: &'static str, text: &'t str) -> Cow<'t, str> {
        let cleaned = self.cleaner.clean(text, &mut self.applied);
        self.truncate(place, cleaned, self.limits.text)
    }

    /// Returns a text by which software describes itself, cleaned and truncated.
    pub(super) fn agent<'t>(&mut self, place: &'static str, text: &'t str) -> Cow<'t, str> {
        let cleaned = if self.clean_agent == Some(text) {
            Cow::Borrowed(text)
        } else {
            self.cleaner.clean_agent(text, &mut self.applied)
        };
        self.truncate(place, cleaned, self.limits.text)
    }

    pub(super) fn truncate<'t>(&mut self, place: &'static str, cleaned: Cow<'t, str>, limit: usize) -> Cow<'t, str> {
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

    pub(super) fn optional<'t>(&mut self, place: &'static str, text: Option<&'t str>) -> Option<Cow<'t, str>> {
        text.filter(|text| !text.is_empty()).map(|text| self.text(place, text))
    }

    /// Returns a value, redacted by its name, which the visitor may have chosen.
    pub(super) fn value<'t>(&mut self, place: &'static str, name: &str, value: &'t str) -> Cow<'t, str> {
        if privacy::is_secret(name) {
            self.applied.insert(Applied::SecretParameters);
            return Cow::Borrowed(privacy::REPLACEMENT);
        }
        if privacy::names_person(name)
            && let Some(replaced) = self.cleaner.person(value, &mut self.applied)
        {
            return Cow::Owned(replaced);
        }
        self.clean_known_value(place, name, value)
    }

    /// Returns a value whose name is neither a secret's nor a person's.
    pub(super) fn clean_known_value<'t>(&mut self, place: &'static str, name: &str, value: &'t str) -> Cow<'t, str> {
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

    pub(super) fn first<'p>(&mut self, place: &'static str, pairs: &'p [(String, String)]) -> &'p [(String, String)] {
        if pairs.len() > self.limits.items {
            self.cut.insert(place);
            self.too_many = true;
        }
        &pairs[..pairs.len().min(self.limits.items)]
    }

    pub(super) fn members<'t>(&mut self, place: &'static str, pairs: &'t Pairs) -> Members<'t> {
        let mut members = Members::new();
        for (name, value) in self.first(place, pairs) {
            let value = self.value(place, name, value);
            members.insert(self.text(place, name), value);
        }
        members
    }

    pub(super) fn headers<'t>(&mut self, headers: &'t Pairs) -> Members<'t> {
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
            let value = self.clean_known_value(PLACE, name, value);
            kept.insert(named, value);
        }
        kept
    }

    /// Returns the context without the caller's identity; the policy applies to its address as to `client.ip`.
    pub(super) fn context<'t>(&mut self, context: &'t Pairs) -> Members<'t> {
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
                _ if known => Some(self.clean_known_value("context", name, value)),
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

    /// Returns every query parameter as `name=value`, with repeated names, and the parameters by name.
    pub(super) fn query<'t>(&mut self, query: &'t Pairs) -> (Vec<String>, Members<'t>) {
        const PLACE: &str = "params.querystring";
        let limit = self.limits.text.min(MAX_LABEL_BYTES);
        let (mut labels, mut members) = (Vec::with_capacity(query.len()), Members::new());
        for (name, value) in self.first(PLACE, query) {
            let value = if self.anonymous {
                match classify_parameter(name, value) {
                    ParameterPolicy::Value => value,
                    ParameterPolicy::Address => redact::without_query(value),
                    ParameterPolicy::No => continue,
                }
            } else {
                value
            };
            let value = self.value(PLACE, name, value);
            let named = self.text(PLACE, name);
            let label = format!("{name}={value}");
            // A name may be a code as well.
            let is_clean = !self.anonymous && redact::is_clean_pair(name, &value);
            let cleaned = if is_clean {
                Cow::Owned(label)
            } else {
                Cow::Owned(self.cleaner.clean(&label, &mut self.applied).into_owned())
            };
            labels.push(self.truncate("labels", cleaned, limit).into_owned());
            members.insert(named, value);
        }
        if self.cut.contains(PLACE) {
            self.cut.insert("labels");
        }
        (labels, members)
    }

    pub(super) fn url<'t>(&mut self, page: Option<&'t str>) -> Option<Url<'t>> {
        let page = page.map(|page| {
            if self.anonymous {
                redact::without_query(page)
            } else {
                page
            }
        });
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

    /// Returns the campaign that the hit names, else the one of its code.
    pub(super) fn campaign<'t>(
        &mut self,
        campaign: &'t campaign::Campaign<'_>,
        of_code: Option<&'t str>,
    ) -> Campaign<'t> {
        let anonymous = self.anonymous;
        let mut part = |place, text: &'t Option<Cow<'_, str>>| {
            let text = text.as_deref().filter(|text| !anonymous || is_plain(text));
            self.optional(place, text)
        };
        let mut kept = Campaign {
            source: part("campaign.source", &campaign.source),
            medium: part("campaign.medium", &campaign.medium),
            name: part("campaign.name", &campaign.name),
            term: part("campaign.term", &campaign.term),
            content: part("campaign.content", &campaign.content),
            id: part("campaign.id", &campaign.id),
            click_id: self.clicks(&campaign.clicks),
        };
        if kept.name.is_none() {
            kept.name = self.optional("campaign.name", of_code);
        }
        kept
    }

    /// Returns the ids of clicks; the id of a click distinguishes one visitor from others.
    pub(super) fn clicks<'t>(
        &mut self,
        clicks: &'t [(&'static str, Cow<'_, str>)],
    ) -> BTreeMap<&'static str, Cow<'t, str>> {
        let kept = if self.anonymous { &[] } else { clicks };
        kept.iter()
            .map(|(name, id)| (*name, self.text("campaign.click_id", id)))
            .collect()
    }

    /// Returns the body with every text redacted by the same rules; a body too deep to read is left out.
    pub(super) fn body(&mut self, body: Option<&str>) -> Option<Value> {
        // A body may contain anything, and a campaign's words are not expected there.
        let body = body.filter(|_| !self.anonymous)?;
        let kept = self.limits.body.then(|| serde_json::from_str(body).ok()).flatten();
        let kept = kept.filter(|value| depth(value) <= MAX_BODY_DEPTH);
        if kept.is_none() {
            self.cut.insert("body-json");
        }
        kept.map(|value| self.json(value))
    }

    pub(super) fn json(&mut self, value: Value) -> Value {
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

    pub(super) fn member(&mut self, name: &str, value: Value) -> (String, Value) {
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

/// Returns the nesting depth of lists and objects.
fn depth(value: &Value) -> usize {
    let deepest = |values: &mut dyn Iterator<Item = &Value>| 1 + values.map(depth).max().unwrap_or(0);
    match value {
        Value::Array(values) => deepest(&mut values.iter()),
        Value::Object(members) => deepest(&mut members.values()),
        _ => 0,
    }
}
