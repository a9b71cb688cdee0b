//! What the stage remembers of those who are not to be counted; the page is [`crate::api::opt_out`]'s.
//!
//! A cookie is sent by the browser with every image from then on. `/opt-out/{code}` is for the recipient of a mail: the code is
//! remembered by the stage, because mail programs keep no cookies. A store's file keeps the codes, or an index beside that of
//! the events; a queue or a stream keeps none.

use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use chrono::{DateTime, Utc};

use crate::api::ApiResponse;
use crate::api::opt_out;
use crate::api::opt_out::{CodeReach, OptOutRequest, OptOutScope, RequestSite};
use crate::api::rate_limit::RateLimit;
use crate::client::codes;
use crate::client::http::Deliverer;
use crate::hit::privacy::{CodeSet, OPT_OUT_COOKIE, SignalPolicy, says_opt_out};
use crate::hit::read::find_address;
use crate::hit::request::http_request::HttpRequest;
use crate::query::QueryError;
use crate::query::store::Requester;
use crate::server::file_store::FileStore;
use crate::server::{PixelServer, QuerySource, Sink};
use crate::sqlite::opt_outs::{OptOutChange, OptOutState};
use crate::terminal::print_message;

/// Changes in a minute from one network by codes that prove whom they stand for. Nobody without such a code counts, and a mail
/// provider sends its users' from few addresses.
const MAX_CHANGES: u32 = 600;

/// Codes that are looked up in the list in a minute for one network.
const MAX_LOOKUPS: u32 = 120;

/// The codes whose recipients have opted out.
#[derive(Debug)]
pub struct OptOuts {
    /// Those of the configuration.
    configured: BTreeSet<String>,
    known: RwLock<Known>,
    /// Nobody can choose two codes of the same hash.
    hasher: RandomState,
    changes: RateLimit,
    lookups: RateLimit,
}

/// A million codes take some 20 MB: of each only its hash is kept.
#[derive(Debug, Default)]
struct Known {
    codes: HashSet<u64>,
    /// The state of the file that was read last.
    state: Option<OptOutState>,
    /// Changes of this process since the store was last read, which what is read may lack.
    recent: Vec<(u64, bool)>,
}

impl Known {
    fn change(&mut self, code: u64, out: bool) {
        if out {
            self.codes.insert(code);
        } else {
            self.codes.remove(&code);
        }
    }
}

impl OptOuts {
    /// Those of the configuration; the store's are read by [`Self::refresh_from_file`] and [`Self::refresh_from_index`].
    pub fn new(configured: BTreeSet<String>) -> Self {
        Self {
            configured,
            known: RwLock::default(),
            hasher: RandomState::new(),
            changes: RateLimit::new(MAX_CHANGES),
            lookups: RateLimit::new(MAX_LOOKUPS),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what was opted out, or is no longer, since the file was last read.
    ///
    /// # Errors
    ///
    /// [`AskError`] when the file cannot be read.
    pub async fn refresh_from_file(&self, file: &FileStore) -> Result<(), QueryError> {
        let known = {
            let mut known = self.write();
            known.recent.clear();
            known.state
        };
        let hasher = self.hasher.clone();
        let Some(news) = file.opt_outs_after(known, move |code| hasher.hash_one(code)).await? else {
            return Ok(());
        };
        if news.is_whole {
            self.replace(news.codes.into_iter().collect());
        } else {
            self.write().codes.extend(news.codes);
        }
        self.write().state = Some(news.state);
        Ok(())
    }

    /// Reads all that is opted out in an index.
    ///
    /// # Errors
    ///
    /// [`AskError`] when the index cannot be asked, or answers of a part of it alone; then nobody is counted again.
    pub async fn refresh_from_index(&self, index: &Deliverer) -> Result<(), QueryError> {
        self.write().recent.clear();
        let mut codes = HashSet::new();
        codes::visit_opt_outs(index, |opt_out| {
            codes.insert(self.hasher.hash_one(&opt_out.code));
            Ok::<_, QueryError>(())
        })
        .await?;
        self.replace(codes);
        Ok(())
    }

    fn replace(&self, codes: HashSet<u64>) {
        let mut known = self.write();
        let before = std::mem::replace(&mut known.codes, codes);
        for (code, out) in known.recent.clone() {
            known.change(code, out);
        }
        drop(known);
        // Freeing many takes a while, for which no hit has to wait.
        drop(before);
    }

    /// Records a change in the store and then here.
    async fn change(&self, sink: &Sink, code: &str, out: bool, at: DateTime<Utc>) -> Result<Place, QueryError> {
        let by = Requester::Page;
        match (sink, sink.index()) {
            (Sink::Store { store, .. }, _) => {
                let code = code.to_owned();
                store.change_opt_out(OptOutChange { code, out, by, at }).await?;
            }
            (Sink::Remote { .. }, Some(index)) => {
                codes::change_opt_out(index, code, out, by, at).await?;
            }
            (Sink::Remote { .. }, None) => return Ok(Place::None),
        }
        let mut known = self.write();
        let code = self.hasher.hash_one(code);
        known.change(code, out);
        known.recent.push((code, out));
        Ok(Place::Store)
    }
}

/// The place where opt-outs are kept.
enum Place {
    Store,
    /// A queue or a stream keeps none.
    None,
}

impl CodeSet for OptOuts {
    fn has(&self, code: &str) -> bool {
        self.configured.contains(code) || self.read().codes.contains(&self.hasher.hash_one(code))
    }
}

/// Answers the paths of this module: `/opt-out`, `/opt-out/{code}` and `/.well-known/gpc.json`.
pub async fn answer(arrived: &HttpRequest, stage: &PixelServer) -> Option<ApiResponse> {
    if arrived.path == "/.well-known/gpc.json" {
        return Some(gpc(stage.config.policy.signal));
    }
    let code = match arrived.path.strip_prefix("/opt-out")? {
        "" | "/" => None,
        rest => Some(decoded(rest.strip_prefix('/')?)),
    };
    let site = RequestSite::read(&arrived.headers, stage.config.public_url.as_deref());
    let reply = match (OptOutRequest::parse(&arrived.method, &arrived.decoded_query()), code) {
        (None, _) => opt_out::render_wrong_method(),
        (Some(OptOutRequest::Out | OptOutRequest::In), _) if site == RequestSite::Other => opt_out::other_site(),
        (Some(wish), None) => answer_browser(arrived, wish, |secure| OptOutScope::Browser { secure }),
        (Some(_), Some(code)) if !opt_out::can_be_remembered(&code) => opt_out::render_unknown_code(),
        (Some(wish), Some(code)) => answer_code(arrived, stage, wish, site, &code)
            .await
            .unwrap_or_else(|error| {
                print_message(&format!("could not answer who has opted out: {error}"));
                opt_out::render_unavailable()
            }),
    };
    Some(opt_out::without_body_for_head(&arrived.method, reply))
}

/// Shows or sets the cookie.
fn answer_browser(arrived: &HttpRequest, wish: OptOutRequest, whom: impl Fn(bool) -> OptOutScope) -> ApiResponse {
    match wish {
        OptOutRequest::See => opt_out::render_page(whom(is_secure(arrived)), says_opt_out(&arrived.headers)),
        OptOutRequest::Out | OptOutRequest::In => set_cookie(arrived, wish == OptOutRequest::Out),
    }
}

/// Shows or changes the opt-out of a code's recipient, or the cookie where the code stands for many people.
async fn answer_code(
    arrived: &HttpRequest,
    stage: &PixelServer,
    wish: OptOutRequest,
    site: RequestSite,
    code: &str,
) -> Result<ApiResponse, QueryError> {
    let opt_outs = &stage.opt_outs;
    if opt_outs.configured.contains(code) {
        return Ok(opt_out::render_fixed_by_owner());
    }
    let now = arrived.time;
    let peer = find_address(&arrived.headers, arrived.peer, stage.config.trusted_hops).or(arrived.peer);
    let checked = stage.config.code_keys.check(code, now);
    let reach = match CodeReach::from_signature(&checked) {
        Some(reach) => reach,
        None if !opt_outs.lookups.allow(peer, now) => return Ok(opt_out::too_many()),
        None => match stage.source() {
            QuerySource::File(file) => CodeReach::find(code, &checked, &file).await?,
            source @ QuerySource::Remote(_) => match source.index() {
                Some(index) => CodeReach::find(code, &checked, index).await?,
                None => CodeReach::Unknown,
            },
        },
    };
    let is_out = opt_outs.has(code);
    match (reach, wish) {
        (CodeReach::Shared | CodeReach::Unknown, _) if is_out => Ok(opt_out::render_fixed_by_owner()),
        (CodeReach::Shared | CodeReach::Unknown, _) => Ok(answer_browser(arrived, wish, |secure| {
            OptOutScope::BrowserWithSharedCode { secure }
        })),
        (CodeReach::Personal, OptOutRequest::See) => Ok(opt_out::render_page(OptOutScope::Recipient, is_out)),
        // Only a browser takes it back: a provider's click never does.
        (CodeReach::Personal, OptOutRequest::In) if site != RequestSite::Same => Ok(opt_out::other_site()),
        (CodeReach::Personal, wish) => {
            let out = wish == OptOutRequest::Out;
            if !opt_outs.changes.allow(peer, now) {
                return Ok(opt_out::too_many());
            }
            // Whatever is known here: another server may have changed it a moment ago.
            match opt_outs.change(&stage.sink, code, out, now).await? {
                Place::Store => Ok(opt_out::changed(site, out)),
                Place::None => Ok(opt_out::render_no_store()),
            }
        }
    }
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

/// When what is said of the signal last changed; `infra/pixel.yaml` says the same.
const GPC_UPDATED: &str = "2026-03-01";

/// Global Privacy Control, "GPC Support Resource": whether the signal has an effect.
fn gpc(signal: SignalPolicy) -> ApiResponse {
    let heeded = signal != SignalPolicy::Record;
    ApiResponse {
        status: 200,
        headers: vec![("content-type", "application/json".to_owned())],
        body: format!("{{\"gpc\": {heeded}, \"lastUpdate\": \"{GPC_UPDATED}\"}}\n"),
    }
}

fn is_secure(arrived: &HttpRequest) -> bool {
    arrived.header("x-forwarded-proto") == Some("https")
}

/// Sets the cookie for a year, or takes it back. Other sites' pages send it with the image only over TLS and when it may go
/// to other sites.
fn set_cookie(arrived: &HttpRequest, out: bool) -> ApiResponse {
    let reach = if is_secure(arrived) {
        "SameSite=None; Secure"
    } else {
        "SameSite=Lax"
    };
    let age = if out { 365 * 24 * 3600 } else { 0 };
    let cookie = format!("{OPT_OUT_COOKIE}=1; Path=/; Max-Age={age}; HttpOnly; {reach}");
    let mut reply = opt_out::redirect_to_page();
    reply.headers.push(("set-cookie", cookie));
    reply
}
