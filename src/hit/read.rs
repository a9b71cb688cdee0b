//! Reads what the visitor's software reports, before any policy.
//!
//! Nothing in this module can fail: the oddities of a hit are listed in it. Nothing here is stored directly either; only
//! [`crate::hit::event::Event::new`] decides what is.

use std::net::IpAddr;

use chrono::{DateTime, Utc};

use crate::hit::code::Checked;
use crate::hit::pixel::Image;
use crate::hit::request::{Ingress, Oddity, Pairs, Request, last};
use crate::hit::script;

/// A request for the image, with everything read from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The request from which the hit was read.
    pub request: Request,
    /// The id of the hit; the visitor cannot choose any part of it.
    pub id: String,
    /// The time at which the ingress received the request.
    pub received: DateTime<Utc>,
    /// The code of the pixel, if one was requested.
    pub code: Option<String>,
    /// The result of checking the code's signature, and the contents of a signed code; empty until it is checked with
    /// the keys.
    pub checked: Checked,
    /// The campaign that the owner's list gives for the code; none until the list is read.
    pub listed_campaign: Option<String>,
    /// The visitor's address, as far as it can be trusted.
    pub address: Option<IpAddr>,
    /// The visitor's action: the caller's word, else `view` on a page and `open` elsewhere.
    pub action: String,
    /// The tracked page: the parameter `url`, else the page that shows the image.
    pub page: Option<String>,
    /// The referrer of the page, as a script on the page reports it (`ref`, `referrer`, `urlref`).
    pub origin: Option<String>,
    /// The user's id: `userid`, `user_id`, `uid` or `email-id`.
    pub user: Option<String>,
    /// The page's title (`title`, `dt`).
    pub title: Option<String>,
    /// The language that the visitor's browser prefers (`language`, `ul`), a tag of BCP 47.
    pub language: Option<String>,
    /// The width class of the visitor's screen (`screen`).
    pub screen: Option<Screen>,
}

/// The width class of a screen, too coarse to identify a visitor: the window size classes of Material Design.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// Below 600 CSS pixels: a phone.
    Compact,
    /// Below 840 CSS pixels: a tablet in portrait orientation.
    Medium,
    /// Below 1200 CSS pixels: a tablet in landscape orientation.
    Expanded,
    /// Below 1600 CSS pixels: a laptop.
    Large,
    /// At least 1600 CSS pixels.
    ExtraLarge,
}

impl Screen {
    /// Every class with its name.
    pub const ALL: [(&'static str, Self); 5] = [
        ("compact", Self::Compact),
        ("medium", Self::Medium),
        ("expanded", Self::Expanded),
        ("large", Self::Large),
        ("extra-large", Self::ExtraLarge),
    ];

    /// Returns the class of this name.
    pub fn parse(name: &str) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, screen)| screen)
    }

    /// Returns the name of the class.
    pub const fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

/// The facts that the function knows in addition to the payload.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The function's clock, for ingresses that report no time.
    pub now: DateTime<Utc>,
    /// The id of the invocation, the same for its retries; for ingresses that give no id of their own.
    pub invocation: String,
    /// The number of the owner's proxies between visitors and the ingress.
    pub trusted_hops: usize,
}

impl Hit {
    /// Reads a hit from a request.
    pub fn read(mut request: Request, context: &RequestContext) -> Self {
        let received = read_time(&mut request, context.now);
        let address = read_address(&mut request, context.trusted_hops);
        note_text_oddities(&mut request);
        let parameter = |names: &[&str]| {
            let value = names
                .iter()
                .find_map(|name| last(&request.query, name).filter(|value| !value.is_empty()));
            value.map(ToOwned::to_owned)
        };
        let code = code_of(&request);
        let page = parameter(&["url", "dl"]).or_else(|| {
            request
                .header("referer")
                .filter(|page| !page.is_empty())
                .map(Into::into)
        });
        let action = parameter(&["action", "event"]).and_then(|word| parse_action(&word));
        Self {
            id: choose_id(&request).unwrap_or_else(|| context.invocation.clone()),
            action: action.unwrap_or_else(|| if page.is_some() { "view" } else { "open" }.to_owned()),
            origin: parameter(&["referrer", "urlref", "ref"]),
            user: parameter(&["userid", "user_id", "uid", "email-id"]),
            title: parameter(&["title", "dt"]),
            language: parameter(&["language", "ul"]).filter(|tag| is_language(tag)),
            screen: parameter(&["screen"]).and_then(|name| Screen::parse(&name)),
            received,
            code,
            checked: Checked::default(),
            listed_campaign: None,
            address,
            page,
            request,
        }
    }
}

impl Hit {
    /// Returns the campaign of the code: that of the code itself if it is signed, else that of the owner's list.
    pub fn code_campaign(&self) -> Option<&str> {
        let signed = self.checked.contents.campaign.as_deref();
        signed.or(self.listed_campaign.as_deref())
    }

    /// Returns the seconds from sending to this hit, if a genuine code contains the time of sending.
    pub fn seconds_since_sent(&self) -> Option<i64> {
        let sent = self.checked.contents.sent?;
        Some((self.received - sent).num_seconds())
    }
}

/// The code and image format that a path requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The code in the path.
    pub code: Option<String>,
    /// The format of the image.
    pub image: Image,
}

/// Finds the route of a path, also below a prefix such as a stage's name; none if it is not a path of the pixel.
///
/// ```
/// use pixel::hit::{pixel::Image, read::find_route};
/// let found = find_route("/prod/image/abc.png").expect("a path of the pixel");
/// assert_eq!((found.code.as_deref(), found.image), (Some("abc"), Image::Png));
/// assert_eq!(find_route("/favicon.ico"), None);
/// ```
pub fn find_route(path: &str) -> Option<Route> {
    let mut segments = path.rsplit('/');
    let name = segments.next()?;

    if ["pixel", "pixel.gif", "pixel.png"]
        .iter()
        .any(|known| name == *known || name.len() > 5 && name.eq_ignore_ascii_case(known))
    {
        return Some(Route {
            code: None,
            image: Image::from_path(name),
        });
    }
    let name = name.trim();
    let code = normalize_code(name);
    let image = match segments.next()? {
        "pixel" => Image::from_path(name),
        "image" => Image::Png,
        _ => return None,
    };
    (!code.is_empty()).then(|| Route {
        code: Some(code.to_owned()),
        image,
    })
}

/// Returns a code as it is stored and compared: without blanks and control characters around it, and without the extension
/// of an image in any case.
///
/// ```
/// use pixel::hit::read::normalize_code;
/// assert_eq!(["mail-1", "mail-1.gif", "mail-1.GIF", " mail-1 ", "mail-1 .Png\n"].map(normalize_code), ["mail-1"; 5]);
/// ```
pub fn normalize_code(code: &str) -> &str {
    let is_blank = |character: char| character.is_whitespace() || character.is_control();
    let code = code.trim_matches(is_blank);
    let place = code.len().checked_sub(4).filter(|place| code.is_char_boundary(*place));
    let bare = place.map(|place| code.split_at(place)).filter(|(_, extension)| {
        [".gif", ".png"]
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
    });
    bare.map_or(code, |(bare, _)| bare.trim_matches(is_blank))
}

/// Finds the route of a request. API Gateway passes on only the paths that its owner has routed to the pixel, whatever the
/// resource is called.
pub fn request_route(request: &Request) -> Option<Route> {
    let found = find_route(&request.path);
    if request.ingress != Ingress::Passthrough {
        return found;
    }
    // The API declares one media type for each resource, regardless of the ending of a visitor's code.
    let declared = request.context("resource-path").and_then(find_route);
    let image = declared
        .or_else(|| found.clone())
        .map_or_else(|| Image::from_path(&request.path), |route| route.image);
    Some(Route {
        code: found.and_then(|route| route.code),
        image,
    })
}

/// Returns true if a request is for `/pixel.js`, also below a prefix. A non-proxy API declares the media type of each
/// resource, so there only the resource of this name can be it.
pub fn asks_for_script(request: &Request) -> bool {
    let path = match request.ingress {
        Ingress::Passthrough => request.context("resource-path").unwrap_or(&request.path),
        _ => &request.path,
    };
    path.rsplit('/').next() == Some(script::NAME)
}

/// Returns true if a path accepts the script's beacons, which are `POST`s.
pub fn takes_beacons(path: &str) -> bool {
    path.rsplit('/').next() == Some("pixel")
}

/// Returns true if the request is a load balancer's health check.
pub fn is_health_check(request: &Request) -> bool {
    let balanced = matches!(request.ingress, Ingress::Alb | Ingress::AlbMultiValue);
    balanced
        && request
            .header("user-agent")
            .is_some_and(|agent| agent.starts_with("ELB-HealthChecker/"))
}

/// Returns the code of a request, from its path or its query.
pub(crate) fn code_of(request: &Request) -> Option<String> {
    let parameter = || {
        last(&request.query, "code")
            .map(str::trim)
            .filter(|code| !code.is_empty())
    };
    find_path_code(request).or_else(|| parameter().map(ToOwned::to_owned))
}

fn find_path_code(request: &Request) -> Option<String> {
    let named = last(&request.path_parameters, "code");
    let route = request_route(request).and_then(|route| route.code);
    route.or_else(|| {
        let code = normalize_code(named?);
        (!code.is_empty()).then(|| code.to_owned())
    })
}

/// Returns API Gateway's own request id. A client can override `request-id`, but not this one
/// (API Gateway developer guide, mapping template reference).
fn choose_id(request: &Request) -> Option<String> {
    // An index rejects ids of more than 512 bytes.
    request
        .context("extended-request-id")
        .filter(|id| id.len() <= 512)
        .map(ToOwned::to_owned)
}

fn read_time(request: &mut Request, now: DateTime<Utc>) -> DateTime<Utc> {
    let epoch = request.context("request-time-epoch").and_then(|text| text.parse().ok());
    let known = epoch
        .and_then(DateTime::from_timestamp_millis)
        .filter(is_plausible_time);
    let has_time = !matches!(request.ingress, Ingress::Alb | Ingress::AlbMultiValue);
    if known.is_none() && has_time {
        request.oddities.push(Oddity::NoTime);
    }
    known.unwrap_or(now)
}

/// Returns true if a time can be one of a hit: the year has four digits, so that every index can read it.
fn is_plausible_time(time: &DateTime<Utc>) -> bool {
    (0..253_402_300_800).contains(&time.timestamp())
}

/// Parses the caller's word for the action: at most 64 letters, digits, `_`, `.`, `:` and `-`; returns it in lower case.
fn parse_action(word: &str) -> Option<String> {
    let fits = word.len() <= 64
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte));
    fits.then(|| word.to_ascii_lowercase())
}

/// Returns true if a text can be a language tag: at most 35 letters, digits and hyphens (RFC 5646, 4.4.1).
fn is_language(tag: &str) -> bool {
    tag.len() <= 35 && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Returns the visitor's address.
///
/// Each proxy appends the address of its client to `X-Forwarded-For`, so only as many entries from the right are
/// trustworthy as there are proxies run by the owner; the others are the visitor's claim.
fn read_address(request: &mut Request, trusted_hops: usize) -> Option<IpAddr> {
    let peer = request.context("source-ip").and_then(parse_address);
    let chain = forwarded_chain(&request.headers, peer);
    // A load balancer's own entry for its visitor is not a proxy's.
    let names_another = chain.len() > 1 || request.header("forwarded").is_some();
    if trusted_hops == 0 && peer.is_some_and(is_private_address) && names_another {
        request.oddities.push(Oddity::ProxyAddress);
    }
    let trusted = find_address(&request.headers, peer, trusted_hops);
    if trusted.is_none() {
        let short = peer.is_some() && trusted_hops > 0;
        request.oddities.push(if short {
            Oddity::ShortForwardedFor
        } else {
            Oddity::NoAddress
        });
    }
    trusted.or(peer)
}

/// Finds the visitor's address in the chain of trusted proxies; none if the chain is too short.
pub fn find_address(headers: &[(String, String)], peer: Option<IpAddr>, trusted_hops: usize) -> Option<IpAddr> {
    let chain = forwarded_chain(headers, peer);
    match peer {
        None if trusted_hops == 0 => None,
        _ => chain.len().checked_sub(1 + trusted_hops).map(|index| chain[index]),
    }
}

/// Returns the addresses of `X-Forwarded-For` and the peer's, in the order of the proxies.
fn forwarded_chain(headers: &[(String, String)], peer: Option<IpAddr>) -> Vec<IpAddr> {
    let forwarded = headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("x-forwarded-for"));
    let mut chain: Vec<IpAddr> = forwarded
        .flat_map(|(_, value)| value.split(','))
        .filter_map(parse_address)
        .collect();
    if let Some(peer) = peer
        && chain.last() != Some(&peer)
    {
        chain.push(peer);
    }
    chain
}

/// Parses an address as written in headers: plain, with a port, in brackets or quotes. IPv4 in IPv6 is IPv4.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.split(']').next())
        .unwrap_or(text);
    let parsed = bare
        .parse()
        .or_else(|_| bare.rsplit_once(':').map_or(bare, |(host, _)| host).parse::<IpAddr>());
    parsed.ok().map(|address| address.to_canonical())
}

fn note_text_oddities(request: &mut Request) {
    let lists: [&Pairs; 3] = [&request.query, &request.headers, &request.path_parameters];
    let texts = || {
        lists
            .iter()
            .flat_map(|pairs| pairs.iter())
            .flat_map(|(name, value)| [name, value])
    };
    let control = texts().any(|text| text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t'));
    let replaced = texts().any(|text| text.contains('\u{fffd}'));
    if control {
        request.oddities.push(Oddity::ControlCharacter);
    }
    if replaced {
        request.oddities.push(Oddity::InvalidEncoding);
    }
    request.oddities.sort_unstable();
    request.oddities.dedup();
}

/// Returns whether an address belongs to the same machine or a private network, such as that of a proxy before the
/// server. No visitor from the Internet has one.
pub fn is_private_address(address: IpAddr) -> bool {
    // The stored form of `::1` is `::`.
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unique_local()
                || address.is_unicast_link_local()
        }
    }
}
