//! The destinations of events, and the outcome of each delivery.
//!
//! Each destination has its own file, which builds the request and interprets the response; waiting, connecting and
//! retrying are in [`crate::client`] and, for files, in the command line.

pub mod breaker;
pub mod bulk;
pub mod counts;
pub mod log_lines;
pub mod message;
pub mod opensearch;
pub mod rotation;
pub mod sqs_batch;
pub mod undelivered;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use message::MessageTarget;
use opensearch::{Index, Target};

/// A destination of events.
#[derive(Clone, Debug, PartialEq)]
pub enum Destination {
    /// An index of OpenSearch or Elasticsearch.
    OpenSearch(Target),
    /// A queue or a stream, from which something else moves events to an index.
    Message(MessageTarget),
    /// An SQLite file of `pixel serve`.
    Sqlite(PathBuf),
}

/// An error in a destination's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationError {
    /// The correct form, for the message.
    pub remedy: String,
    /// True if only the region is missing.
    pub about_region: bool,
}

impl fmt::Display for DestinationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.remedy)
    }
}

impl std::error::Error for DestinationError {}

impl DestinationError {
    fn new(remedy: impl Into<String>) -> Self {
        Self {
            remedy: remedy.into(),
            about_region: false,
        }
    }
}

impl Destination {
    /// Parses a destination's URL. `auth` overrides the URL's authentication; `region` is used if the host does not
    /// name one.
    ///
    /// # Errors
    ///
    /// [`DestinationError`] with the correct form.
    pub fn parse(text: &str, auth: Option<Auth>, region: Option<&str>) -> Result<Self, DestinationError> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(DestinationError::new("name the file, as in `sqlite:pixel.db`"));
            }
            return Ok(Self::Sqlite(path.into()));
        }
        if let Some(target) = MessageTarget::parse(text, region) {
            return target.map(Self::Message);
        }
        let url = reqwest::Url::parse(text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let Some(url) = url else {
            let forms =
                "give `https://host/index`, `sqs://host/account/queue`, `firehose://host/stream` or `sqlite:file`";
            return Err(DestinationError::new(if is_file_name(text) {
                format!("did you mean `sqlite:{text}`? Else {forms}")
            } else {
                forms.to_owned()
            }));
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(DestinationError::new(
                "leave out `?` and `#`: the URL is the server and its index, nothing more",
            ));
        }
        let (base, index) = split_index(&url)?;
        let auth = Auth::choose(&url, auth, region)?;
        Ok(Self::OpenSearch(Target {
            base,
            index,
            auth,
            serverless: is_serverless(&url),
        }))
    }
}

impl Destination {
    /// Returns true if the destination may pause when unused, and then take up to half a minute to answer.
    pub fn can_pause(&self) -> bool {
        matches!(self, Self::OpenSearch(target) if target.can_pause())
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenSearch(target) => target.fmt(formatter),
            Self::Message(target) => target.fmt(formatter),
            Self::Sqlite(path) => write!(formatter, "sqlite:{}", path.display()),
        }
    }
}

/// Returns true if a text is the name of an SQLite file and contains nothing that could be a password.
fn is_file_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
    let extension = text.rsplit_once('.').map(|(_, extension)| extension);
    text.bytes().all(plain) && matches!(extension, Some("db" | "sqlite" | "sqlite3"))
}

/// Splits a URL into the server's URL and the index, which is the last segment.
fn split_index(url: &reqwest::Url) -> Result<(String, Index), DestinationError> {
    let path = url.path().trim_end_matches('/');
    let (prefix, index) = path.rsplit_once('/').unwrap_or(("", path));
    if index.is_empty() {
        let example = format!("{}/events", hide_password(url.as_str().trim_end_matches('/')));
        return Err(DestinationError::new(format!("name the index, as in `{example}`")));
    }
    let mut base = url.clone();
    // Both can only fail for URLs without a host, which have been refused.
    let _ = base.set_username("").and_then(|()| base.set_password(None));
    base.set_path(prefix);
    let base = base.as_str().trim_end_matches('/').to_owned();
    Ok((base, Index::parse(index)?))
}

/// Returns true if the host is one of OpenSearch Serverless, of either generation.
fn is_serverless(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host.ends_with(".aoss.amazonaws.com") || (host.contains(".aoss.") && host.ends_with(".on.aws"))
}

/// A text that is hidden in debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, for the code that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[hidden]")
    }
}

/// The name of a service in AWS signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// OpenSearch Service and Elasticsearch domains.
    Es,
    /// OpenSearch Serverless.
    Aoss,
    /// Amazon SQS.
    Sqs,
    /// Amazon Data Firehose.
    Firehose,
    /// Amazon `CloudWatch`.
    Monitoring,
}

impl Service {
    /// Returns the signing name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es => "es",
            Self::Aoss => "aoss",
            Self::Sqs => "sqs",
            Self::Firehose => "firehose",
            Self::Monitoring => "monitoring",
        }
    }
}

/// The authentication of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// No authentication.
    None,
    /// A user and a password.
    Basic {
        /// The user's name.
        user: String,
        /// The user's password.
        password: Secret,
    },
    /// Elasticsearch's `Authorization: ApiKey`.
    ApiKey(Secret),
    /// An AWS signature.
    SigV4 {
        /// The service to sign for.
        service: Service,
        /// The region to sign for.
        region: String,
    },
}

impl Auth {
    /// Returns the name used in configuration and messages.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Basic { .. } => "basic",
            Self::ApiKey(_) => "api-key",
            Self::SigV4 { service, .. } => service.name(),
        }
    }

    fn choose(url: &reqwest::Url, wanted: Option<Self>, region: Option<&str>) -> Result<Self, DestinationError> {
        let host = url.host_str().unwrap_or_default();
        let implied = || match aws_service(host) {
            _ if has_user(url) => Self::Basic {
                user: decode(url.username()),
                password: Secret::new(decode(url.password().unwrap_or_default())),
            },
            Some(service) => Self::SigV4 {
                service,
                region: String::new(),
            },
            None => Self::None,
        };
        let chosen = wanted.unwrap_or_else(implied);
        let Self::SigV4 { service, .. } = chosen else {
            return Ok(chosen);
        };
        let region = aws_region(host).or(region).unwrap_or_default().to_owned();
        if region.is_empty() {
            let remedy = "give the region, since the host does not name it and requests are signed".to_owned();
            return Err(DestinationError {
                remedy,
                about_region: true,
            });
        }
        Ok(Self::SigV4 { service, region })
    }
}

/// Returns a URL without its password and query, for messages.
///
/// The text may not be a valid URL, so everything that could be a password is hidden: also one that contains an
/// unencoded `/`, or one in a text without a scheme.
///
/// ```
/// use pixel::destination::hide_password;
/// assert_eq!(hide_password("https://me:pass/word@host/events"), "https://me:…@host/events");
/// assert_eq!(hide_password("me:password@host/events?key=1"), "me:…@host/events?…");
/// assert_eq!(hide_password("https://host:9200/events"), "https://host:9200/events");
/// ```
pub fn hide_password(url: &str) -> String {
    let (scheme, rest) = url
        .find("://")
        .map_or(("", url), |colon| url.split_at(colon + "://".len()));
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => {
            let name = user.split([':', '/', '?', '#']).next().unwrap_or_default();
            (format!("{name}:…@"), rest)
        }
        None => (String::new(), rest),
    };
    match rest.find(['?', '#']) {
        Some(end) => format!("{scheme}{user}{}…", &rest[..=end]),
        None => format!("{scheme}{user}{rest}"),
    }
}

/// Returns true if a URL contains a user; the password may be empty.
pub(crate) fn has_user(url: &reqwest::Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

/// Finds the labels of an AWS endpoint's host that name service and region: `….<region>.es.amazonaws.com`,
/// `….<region>.aoss.amazonaws.com`, `….aos.<region>.on.aws`, `….aoss.<region>.on.aws`.
fn aws_labels(host: &str) -> Option<(&str, &str)> {
    let classic = host
        .strip_suffix(".amazonaws.com")
        .or_else(|| host.strip_suffix(".amazonaws.com.cn"));
    if let Some(labels) = classic {
        let (rest, service) = labels.rsplit_once('.')?;
        return Some((service, rest.rsplit('.').next()?));
    }
    let (rest, region) = host.strip_suffix(".on.aws")?.rsplit_once('.')?;
    Some((rest.rsplit('.').next()?, region))
}

fn aws_service(host: &str) -> Option<Service> {
    match aws_labels(host)?.0 {
        "es" | "aos" => Some(Service::Es),
        "aoss" => Some(Service::Aoss),
        _ => None,
    }
}

fn aws_region(host: &str) -> Option<&str> {
    aws_service(host)?;
    aws_labels(host).map(|(_, region)| region)
}

/// The meaning of a destination's response for one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Stored now.
    Indexed,
    /// Stored before, by its id.
    Duplicate,
    /// Not stored; another attempt may succeed.
    Retry(String),
    /// Not stored because of its content; no other attempt would change that.
    Refused(String),
    /// Not stored because a permission or the index is missing: no attempt now would change that, but a person can.
    Denied(String),
    /// The collection refuses ids: the event must be sent again without one.
    RefusesIds,
}

/// Returns the wait before retry `attempt` (1 is the first): doubles from 50 ms to 1.6 s, of which a part is random.
///
/// `random` is any number; the same number gives the same wait.
pub fn backoff(attempt: u32, random: u64) -> Duration {
    let ceiling = 50_u64 << attempt.saturating_sub(1).min(5);
    Duration::from_millis(ceiling / 2 + random % (ceiling / 2 + 1))
}
