//! The configuration: every variable in one place, read once, with every problem reported at once.
//!
//! Nothing here reads the environment: the caller passes the variables.

pub mod nearest;
pub mod timespan;
pub mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::config::nearest::nearest;
use crate::config::timespan::parse_days;
use crate::config::token::Tokens;
use crate::destination::message::RecordFormat;
use crate::destination::rotation::Rotation;
use crate::destination::{Auth, Destination, Secret, Service, has_user, hide_password};
use crate::hit::code::Keys;
use crate::hit::event::Policy;
use crate::hit::privacy::{AddressPolicy, Consent, Key, Recording, SignalPolicy, UserPolicy};
use crate::hit::settings::Settings;

/// An environment variable.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// The variable's name.
    pub name: &'static str,
    /// The value if it is not set, in words or as a value.
    pub default: &'static str,
    /// The purpose, and the unit.
    pub meaning: &'static str,
    /// True if the value must not be shown.
    pub secret: bool,
}

const fn variable(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable {
        name,
        default,
        meaning,
        secret: false,
    }
}

/// The prefix of this program's own variables.
const PREFIX: &str = "PIXEL_";

/// All variables. A test keeps the table in the README equal to this one.
pub const VARIABLES: [Variable; 30] = [
    variable(
        "PIXEL_DESTINATION",
        "`sqlite:pixel.db` on the command line; none in the function",
        "where events go: `https://host/index` (OpenSearch, Elasticsearch, OpenSearch Serverless), `sqs://host/account/queue`, `firehose://host/stream` or, on the command line, `sqlite:file`; the index may hold a date pattern, as in `events-%Y.%m.%d`",
    ),
    variable(
        "PIXEL_FALLBACK",
        "the log",
        "where events go that the destination does not take, in the same forms",
    ),
    variable(
        "PIXEL_RECORD",
        "`event`",
        "what a `firehose:` destination gets of a hit: `event`, the whole event, or `flat`, the texts `date`, `ip`, `userAgent`, `userId` and `thirdPartyId` (of the parameter `thirdpartyname`)",
    ),
    variable(
        "PIXEL_PATHS",
        "`pixel`",
        "where the image is: `pixel`, at `/pixel…` and `/image/…`, or `any`, at every path that the ingress lets through",
    ),
    variable(
        "PIXEL_AUTH",
        "what the URL implies",
        "`es` or `aoss` (SigV4 with that service name), `basic`, `api-key` or `none`",
    ),
    Variable {
        secret: true,
        ..variable(
            "PIXEL_API_KEY",
            "none",
            "the API key for `api-key`, as the server issued it (base64)",
        )
    },
    variable(
        "PIXEL_CA_FILE",
        "the public roots, compiled in",
        "PEM file with the only certificate authorities to trust, for a private one",
    ),
    variable(
        "PIXEL_REPLY",
        "`first`",
        "`first`: answer, then index; `after-indexing`: the other way round",
    ),
    variable(
        "PIXEL_JOURNAL",
        "`none`",
        "`log`: the function writes each event to the log before it answers, so that a killed sandbox loses none; `none`: it does not",
    ),
    variable(
        "PIXEL_CONNECT_TIMEOUT_MS",
        "1000",
        "milliseconds to connect, TLS included",
    ),
    variable(
        "PIXEL_ATTEMPT_TIMEOUT_MS",
        "2000; after the reply to OpenSearch Serverless, which can pause, 35000",
        "milliseconds for one attempt to deliver an event",
    ),
    variable(
        "PIXEL_BUDGET_MS",
        "5000; after the reply to OpenSearch Serverless, which can pause, 40000",
        "milliseconds for all attempts to deliver an event; in the function never beyond the invocation's deadline",
    ),
    variable(
        "PIXEL_MAX_EVENT_BYTES",
        "32768",
        "largest event in bytes, 8192 to 1048576; longer values are cut and the cut is marked",
    ),
    variable(
        "PIXEL_TRUSTED_HOPS",
        "0",
        "how many proxies of yours stand before the ingress; so many entries of `X-Forwarded-For` are believed",
    ),
    variable(
        "PIXEL_PRIVACY_IP",
        "`shorten`",
        "`shorten` (/24, IPv6 /48), `full` or `drop` the visitor's address",
    ),
    Variable {
        secret: true,
        ..variable(
            "PIXEL_PRIVACY_KEY",
            "the file `pixel.key` beside `pixel.db`, or one in the state folder, made at the first start; in the function random, with every start another",
            "the secret of all hashes, at least 16 characters; all servers and functions of one destination need the same, and with another nobody finds again what is stored of a person",
        )
    },
    variable(
        "PIXEL_PRIVACY_USER_ID",
        "`hash`",
        "`hash` (with the key), `plain` or `drop` ids of users and mail addresses, wherever they stand",
    ),
    variable(
        "PIXEL_PRIVACY_SIGNAL",
        "`anonymise`",
        "hits with `Sec-GPC: 1` or `DNT: 1`: `record`, `anonymise` (no address, no ids, no code that stands for one person) or `ignore` them",
    ),
    variable(
        "PIXEL_PRIVACY_OPT_OUT",
        "none",
        "codes whose recipients have opted out, with commas between: the pixel is served, and nothing is stored",
    ),
    variable(
        "PIXEL_PRIVACY_RECORD",
        "`on`",
        "`on`, or `off`: the pixel is served, and nothing is stored",
    ),
    variable(
        "PIXEL_CODE_STANDING",
        "`none`",
        "`index`: after its reply the function, and with `Handler: index` for each batch, asks the index of `PIXEL_DESTINATION` whether a hit's code is listed or revoked (so the hit is marked) or its recipient has opted out (then nothing is stored); `none`: it does not",
    ),
    variable(
        "PIXEL_GEO_FILE",
        "none: only what the edge's headers say",
        "file in MaxMind's format (`.mmdb`) with countries or networks; on the command line, not in the function",
    ),
    variable(
        "PIXEL_CORS_ORIGIN",
        "no CORS headers",
        "value of `Access-Control-Allow-Origin`: `*` or one origin",
    ),
    variable(
        "PIXEL_ROTATION",
        "by the date in the URL, else `none`",
        "for the function's role `setup`: `none`, `daily`, `monthly`, `rollover` or `data-stream`",
    ),
    variable(
        "PIXEL_KEEP_DAYS",
        "for ever",
        "for the roles `setup` and `prune`: days after which rotated indices are deleted, also as in `12w`, `3mo` or `1y`",
    ),
    Variable {
        secret: true,
        ..variable(
            "PIXEL_CODE_KEYS",
            "none: codes are not signed",
            "keys of signed codes, `ID:SECRET` with commas between them; the first signs, all check; `pixel code key` makes one",
        )
    },
    Variable {
        secret: true,
        ..variable(
            "PIXEL_TOKENS",
            "none",
            "hashes of bearer tokens for codes and statistics, `HASH=SCOPE+SCOPE` with commas between them; `pixel token new` prints one",
        )
    },
    variable(
        "PIXEL_PUBLIC_URL",
        "that of the request",
        "the URL below which visitors reach the pixel, as in `https://pixel.example/prod`; stands in the lines to paste and the URLs of codes; `--url` comes before it",
    ),
    variable(
        "PIXEL_PAGE",
        "`off`",
        "for the function's role `manage`: `on` shows the page of `pixel serve` at the root of the API; it asks for a token",
    ),
    variable(
        "AWS_REGION",
        "set by Lambda",
        "region for SigV4, unless the host names one",
    ),
];

/// The order of the reply to the visitor and the delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyOrder {
    /// The reply is sent before the event is indexed.
    #[default]
    First,
    /// The reply is sent when the event is indexed, or indexing has failed.
    AfterIndexing,
}

/// The place that keeps an event from before the reply until the delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Journal {
    /// No place.
    #[default]
    None,
    /// The log.
    Log,
}

/// The time limits of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The limit for connecting, including TLS.
    pub connect: Duration,
    /// The limit for one attempt.
    pub attempt: Duration,
    /// The limit for all attempts.
    pub budget: Duration,
}

impl Timing {
    /// The default for a destination that can pause, when nobody waits for the reply: a collection of OpenSearch
    /// Serverless that has scaled to zero answers its first request after 10 to 30 seconds.
    pub const WITH_PAUSE: Self = Self {
        connect: Duration::from_secs(1),
        attempt: Duration::from_secs(35),
        budget: Duration::from_secs(40),
    };
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            attempt: Duration::from_secs(2),
            budget: Duration::from_secs(5),
        }
    }
}

/// The place in which the function looks up the status of a hit's code: revoked, or its recipient opted out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CodeStanding {
    /// No place.
    #[default]
    None,
    /// The index, next to the events.
    Index,
}

/// The whole configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The destination of events; none only until the command line has chosen one.
    pub destination: Option<Destination>,
    /// True if every path serves the image.
    pub any_path: bool,
    /// The destination of events that the main destination does not accept.
    pub fallback: Option<Destination>,
    /// A file of certificate authorities to trust instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// The order of the reply and the delivery.
    pub reply: ReplyOrder,
    /// The place that keeps an event until it is delivered.
    pub journal: Journal,
    /// The time limits of delivery to a destination that does not pause, or while the visitor waits.
    pub timing: Timing,
    /// The time limits of delivery after the reply to a destination that can pause.
    pub pause_timing: Timing,
    /// The privacy policy for stored values.
    pub policy: Policy,
    /// The switch that turns storing on or off.
    pub recording: Recording,
    /// The codes whose recipients have opted out.
    pub opt_out: BTreeSet<String>,
    /// The place in which the function looks up the status of a hit's code.
    pub code_standing: CodeStanding,
    /// True if the key of all hashes is configured, not random.
    pub has_key: bool,
    /// A file that maps addresses to places.
    pub geo_file: Option<PathBuf>,
    /// The number of the owner's proxies before the ingress.
    pub trusted_hops: usize,
    /// The origin whose scripts may read the response.
    pub cors_origin: Option<String>,
    /// The rotation of indices, unless the destination's URL gives it.
    pub rotation: Option<Rotation>,
    /// The age in days at which rotated indices are deleted.
    pub keep_days: Option<u32>,
    /// The keys of signed codes.
    pub code_keys: Keys,
    /// The bearer tokens that are not stored with the events.
    pub tokens: Tokens,
    /// The URL under which visitors reach the pixel, without a slash at its end.
    pub public_url: Option<String>,
    /// True if the function also serves the page.
    pub page: bool,
}

/// A problem in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The variable.
    pub variable: String,
    /// The value, hidden if it is or contains a secret; empty if the variable is not set.
    pub value: String,
    /// The correct form, for the message.
    pub remedy: String,
}

impl Problem {
    /// Returns true if the variable is not one of [`VARIABLES`].
    pub fn is_unknown_variable(&self) -> bool {
        self.variable.starts_with(PREFIX) && VARIABLES.iter().all(|variable| variable.name != self.variable)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            variable,
            value,
            remedy,
        } = self;
        if value.is_empty() {
            return write!(formatter, "`{variable}` is not set: {remedy}");
        }
        write!(formatter, "`{variable}` is `{value}`: {remedy}")
    }
}

/// The variables that are set, by name.
pub type Variables = BTreeMap<String, String>;

impl Config {
    /// Reads the configuration from `variables`. A wrong value is replaced by its default, so that the function can
    /// answer visitors in spite of mistakes.
    pub fn read(variables: &Variables) -> (Self, Vec<Problem>) {
        let mut reader = Reader {
            variables,
            problems: Vec::new(),
        };
        let defaults = Self::default();
        let timing = reader.timing(defaults.timing);
        let address = [
            ("shorten", AddressPolicy::Shorten),
            ("full", AddressPolicy::Full),
            ("drop", AddressPolicy::Drop),
        ];
        let reply = [
            ("first", ReplyOrder::First),
            ("after-indexing", ReplyOrder::AfterIndexing),
        ];
        let user = [
            ("hash", UserPolicy::Hash),
            ("plain", UserPolicy::Plain),
            ("drop", UserPolicy::Drop),
        ];
        let signal = [
            ("record", SignalPolicy::Record),
            ("anonymise", SignalPolicy::Anonymise),
            ("ignore", SignalPolicy::Ignore),
        ];
        let recording = [("on", Recording::On), ("off", Recording::Off)];
        let key = reader.key();
        let mut config = Self {
            destination: reader.destination(),
            fallback: reader.fallback(),
            any_path: reader.choice("PIXEL_PATHS", &[("pixel", false), ("any", true)]),
            ca_file: reader.get("PIXEL_CA_FILE").map(PathBuf::from),
            reply: reader.choice("PIXEL_REPLY", &reply),
            journal: reader.choice("PIXEL_JOURNAL", &[("none", Journal::None), ("log", Journal::Log)]),
            timing,
            pause_timing: reader.without_problems().timing(Timing::WITH_PAUSE),
            policy: Policy {
                address: reader.strict_choice("PIXEL_PRIVACY_IP", &address, AddressPolicy::Drop),
                user: reader.strict_choice("PIXEL_PRIVACY_USER_ID", &user, UserPolicy::Drop),
                signal: reader.strict_choice("PIXEL_PRIVACY_SIGNAL", &signal, SignalPolicy::Ignore),
                key: key.unwrap_or_else(Key::for_process),
                max_bytes: reader.number(
                    "PIXEL_MAX_EVENT_BYTES",
                    defaults.policy.max_bytes,
                    Policy::MIN_BYTES..=1024 * 1024,
                ),
            },
            recording: reader.strict_choice("PIXEL_PRIVACY_RECORD", &recording, Recording::Off),
            opt_out: reader.list("PIXEL_PRIVACY_OPT_OUT"),
            code_standing: reader.choice(
                "PIXEL_CODE_STANDING",
                &[("none", CodeStanding::None), ("index", CodeStanding::Index)],
            ),
            has_key: key.is_some(),
            geo_file: reader.get("PIXEL_GEO_FILE").map(PathBuf::from),
            trusted_hops: reader.number("PIXEL_TRUSTED_HOPS", 0, 0..=16),
            cors_origin: reader.origin(),
            rotation: reader
                .get("PIXEL_ROTATION")
                .map(|_| reader.choice("PIXEL_ROTATION", &Rotation::ALL)),
            keep_days: reader
                .get("PIXEL_KEEP_DAYS")
                .and_then(|_| reader.days("PIXEL_KEEP_DAYS")),
            code_keys: reader.code_keys(),
            tokens: reader.tokens(),
            public_url: reader.public_url(),
            page: reader.choice("PIXEL_PAGE", &[("off", false), ("on", true)]),
        };
        if reader.report_unknown_variables() {
            // Anything that could be meant as a privacy setting gets the strictest one.
            config.policy.address = AddressPolicy::Drop;
            config.policy.user = UserPolicy::Drop;
            config.policy.signal = SignalPolicy::Ignore;
        }
        (config, reader.problems)
    }

    /// Returns the time limits of delivery to a destination.
    pub fn timing_for(&self, destination: &Destination) -> Timing {
        match self.reply {
            ReplyOrder::First if destination.can_pause() => self.pause_timing,
            _ => self.timing,
        }
    }

    /// Returns the time limits for this configuration's destination.
    pub fn destination_timing(&self) -> Timing {
        self.destination
            .as_ref()
            .map_or(self.timing, |destination| self.timing_for(destination))
    }

    /// Returns the settings that decide about hits.
    pub fn settings(&self) -> Settings<'_> {
        Settings {
            any_path: self.any_path,
            cors_origin: self.cors_origin.as_deref(),
            consent: Consent {
                recording: self.recording,
                signal: self.policy.signal,
                opt_out: &self.opt_out,
            },
            policy: &self.policy,
            code_keys: &self.code_keys,
        }
    }
}

struct Reader<'a> {
    variables: &'a Variables,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.variables
            .get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    }

    fn problem(&mut self, variable: &str, value: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem {
            variable: variable.to_owned(),
            value: value.into(),
            remedy: remedy.into(),
        });
    }

    fn number<T: FromStr + PartialOrd + fmt::Display>(
        &mut self,
        name: &str,
        default: T,
        range: std::ops::RangeInclusive<T>,
    ) -> T {
        let Some(value) = self.get(name) else { return default };
        match value.parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                self.problem(
                    name,
                    value,
                    format!("give a whole number from {} to {}", range.start(), range.end()),
                );
                default
            }
        }
    }

    /// Reads a number of days, in the grammar of every duration.
    fn days(&mut self, name: &str) -> Option<u32> {
        let value = self.get(name)?;
        parse_days(value)
            .map_err(|remedy| self.problem(name, value, remedy))
            .ok()
    }

    /// Returns a reader of the same variables that discards its problems, for variables that are read a second time.
    const fn without_problems(&self) -> Self {
        Self {
            variables: self.variables,
            problems: Vec::new(),
        }
    }

    fn timing(&mut self, defaults: Timing) -> Timing {
        Timing {
            connect: self.milliseconds("PIXEL_CONNECT_TIMEOUT_MS", defaults.connect),
            attempt: self.milliseconds("PIXEL_ATTEMPT_TIMEOUT_MS", defaults.attempt),
            budget: self.milliseconds("PIXEL_BUDGET_MS", defaults.budget),
        }
    }

    fn milliseconds(&mut self, name: &str, default: Duration) -> Duration {
        let default = u64::try_from(default.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.number(name, default, 1..=900_000))
    }

    fn choice<T: Copy + Default>(&mut self, name: &str, choices: &[(&str, T)]) -> T {
        let Some(value) = self.get(name) else {
            return T::default();
        };
        choices.iter().find(|(word, _)| *word == value).map_or_else(
            || {
                let words: Vec<_> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
                self.problem(name, value, format!("give one of {}", words.join(", ")));
                T::default()
            },
            |(_, choice)| *choice,
        )
    }

    fn origin(&mut self) -> Option<String> {
        let value = self.get("PIXEL_CORS_ORIGIN")?;
        let valid =
            value == "*" || reqwest::Url::parse(value).is_ok_and(|url| url.origin().ascii_serialization() == value);
        if !valid {
            self.problem(
                "PIXEL_CORS_ORIGIN",
                value,
                "give `*` or an origin such as `https://example.org`",
            );
        }
        valid.then(|| value.to_owned())
    }

    fn code_keys(&mut self) -> Keys {
        let keys = self.get("PIXEL_CODE_KEYS").map(Keys::parse);
        keys.unwrap_or_else(|| Ok(Keys::default())).unwrap_or_else(|error| {
            self.problem("PIXEL_CODE_KEYS", "…", error.to_string());
            Keys::default()
        })
    }

    fn tokens(&mut self) -> Tokens {
        let tokens = self.get("PIXEL_TOKENS").map(Tokens::parse);
        tokens
            .unwrap_or_else(|| Ok(Tokens::default()))
            .unwrap_or_else(|remedy| {
                self.problem("PIXEL_TOKENS", "…", remedy);
                Tokens::default()
            })
    }

    fn public_url(&mut self) -> Option<String> {
        let value = self.get("PIXEL_PUBLIC_URL")?;
        if let Some(url) = parse_public_url(value) {
            return Some(url);
        }
        self.problem(
            "PIXEL_PUBLIC_URL",
            hide_password(value),
            "give a URL such as `https://pixel.example/prod`",
        );
        None
    }

    fn destination(&mut self) -> Option<Destination> {
        let value = self.get("PIXEL_DESTINATION")?;
        let auth = self.auth(value);
        let record = self.choice(
            "PIXEL_RECORD",
            &[("event", RecordFormat::Event), ("flat", RecordFormat::Flat)],
        );
        let mut destination = self.parse_destination("PIXEL_DESTINATION", value, auth)?;
        if let Destination::Message(target) = &mut destination {
            target.record = record;
        }
        Some(destination)
    }

    /// Reads the fallback. `PIXEL_AUTH` and the API key are for the destination; the fallback's authentication comes
    /// from its URL.
    fn fallback(&mut self) -> Option<Destination> {
        let value = self.get("PIXEL_FALLBACK")?;
        self.parse_destination("PIXEL_FALLBACK", value, None)
    }

    fn parse_destination(&mut self, name: &'static str, value: &str, auth: Option<Auth>) -> Option<Destination> {
        match Destination::parse(value, auth, self.get("AWS_REGION")) {
            Ok(destination) => Some(destination),
            Err(error) => {
                let variable = if error.about_region { "AWS_REGION" } else { name };
                let shown = if error.about_region {
                    String::new()
                } else {
                    hide_password(value)
                };
                self.problem(variable, shown, error.remedy);
                None
            }
        }
    }

    /// Reads the authentication from the variables; none if the URL decides.
    fn auth(&mut self, url: &str) -> Option<Auth> {
        let key = self.get("PIXEL_API_KEY");
        let named = self.get("PIXEL_AUTH");
        let region = self.get("AWS_REGION").unwrap_or_default().to_owned();
        match (named, key) {
            (None, None) => None,
            (None | Some("api-key"), Some(key)) => Some(Auth::ApiKey(Secret::new(key))),
            (Some("api-key"), None) => {
                self.problem("PIXEL_API_KEY", "", "give the key, since `PIXEL_AUTH` is `api-key`");
                None
            }
            (Some("none"), _) => Some(Auth::None),
            (Some("es"), _) => Some(Auth::SigV4 {
                service: Service::Es,
                region,
            }),
            (Some("aoss"), _) => Some(Auth::SigV4 {
                service: Service::Aoss,
                region,
            }),
            (Some("basic"), _) => {
                if reqwest::Url::parse(url).is_ok_and(|url| !has_user(&url)) {
                    self.problem("PIXEL_DESTINATION", hide_password(url), "put user and password into the URL (`https://user:password@host/events`), since `PIXEL_AUTH` is `basic`");
                }
                None
            }
            (Some(other), _) => {
                self.problem(
                    "PIXEL_AUTH",
                    other,
                    "give one of `es`, `aoss`, `basic`, `api-key`, `none`",
                );
                None
            }
        }
    }

    /// Reads a setting of the privacy policy: a mistyped one becomes the strictest, never silently the default.
    fn strict_choice<T: Copy + Default>(&mut self, name: &str, choices: &[(&str, T)], strictest: T) -> T {
        let before = self.problems.len();
        let chosen = self.choice(name, choices);
        if self.problems.len() > before {
            strictest
        } else {
            chosen
        }
    }

    fn key(&mut self) -> Option<Key> {
        let secret = self.get("PIXEL_PRIVACY_KEY")?;
        if secret.chars().count() < Key::MIN_CHARACTERS {
            let remedy = format!(
                "give at least {} characters, such as `openssl rand -hex 32` makes",
                Key::MIN_CHARACTERS
            );
            self.problem("PIXEL_PRIVACY_KEY", "…", remedy);
            return None;
        }
        Some(Key::from_secret(secret))
    }

    fn list(&self, name: &str) -> BTreeSet<String> {
        let parts = self.get(name).unwrap_or_default().split(',').map(str::trim);
        parts.filter(|part| !part.is_empty()).map(ToOwned::to_owned).collect()
    }

    /// Reports unknown variables, since a mistyped name would silently leave the default. Returns true if one of them
    /// is about privacy.
    fn report_unknown_variables(&mut self) -> bool {
        let known = |name: &str| VARIABLES.iter().any(|variable| variable.name == name);
        let names: Vec<_> = self
            .variables
            .keys()
            .filter(|name| name.starts_with(PREFIX) && !known(name))
            .collect();
        let is_private = |name: &str| name.contains("PRIV");
        let has_private = names.iter().any(|name| is_private(name));
        for name in names {
            let without_prefix = name.trim_start_matches(PREFIX);
            let known = VARIABLES
                .iter()
                .filter_map(|variable| variable.name.strip_prefix(PREFIX));
            let guess = nearest(without_prefix, known).map(|known| format!("; did you mean `{PREFIX}{known}`?"));
            let guess = guess.unwrap_or_else(|| "; `pixel config` lists them".to_owned());
            let strict = if is_private(name) {
                "; until it is corrected, the privacy settings are the strictest"
            } else {
                ""
            };
            self.problem(name, "…", format!("there is no such variable{guess}{strict}"));
        }
        has_private
    }
}

/// Parses the URL under which visitors reach the pixel, and removes the slashes from its end.
pub fn parse_public_url(text: &str) -> Option<String> {
    let url = reqwest::Url::parse(text).ok()?;
    let web = matches!(url.scheme(), "http" | "https") && url.host_str().is_some();
    let plain = url.query().is_none() && url.fragment().is_none() && !has_user(&url);
    (web && plain).then(|| text.trim().trim_end_matches('/').to_owned())
}
