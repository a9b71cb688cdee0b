//! The opt-outs that the server remembers; the page itself is in [`crate::api::opt_out`].
//!
//! A cookie is sent by the browser with every image from then on. `/opt-out/{code}` is for the recipient of a mail: the
//! code is remembered by the server, because mail programs keep no cookies. The store's file keeps the codes, or an
//! index next to that of the events; a queue or a stream keeps none.

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

/// The number of changes in a minute from one network, by codes that prove their recipient. Requests without such a
/// code do not count, and a mail provider sends the requests of all its users from few addresses.
const MAX_CHANGES: u32 = 600;

/// The number of codes that are looked up in the list in a minute for one network.
const MAX_LOOKUPS: u32 = 120;

/// The codes whose recipients have opted out.
#[derive(Debug)]
pub struct OptOuts {
    /// The codes of the configuration.
    configured: BTreeSet<String>,
    known: RwLock<Known>,
    /// A random hasher, so that nobody can construct two codes with the same hash.
    hasher: RandomState,
    changes: RateLimit,
    lookups: RateLimit,
}

/// The opt-outs that were read. A million codes take some 20 MB, because only their hashes are kept.
#[derive(Debug, Default)]
struct Known {
    codes: HashSet<u64>,
    /// The state of the file that was read last.
    state: Option<OptOutState>,
    /// The changes of this process since the store was last read; the next read may lack them.
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
    /// Makes a set of the codes of the configuration; [`Self::refresh_from_file`] and [`Self::refresh_from_index`] read
    /// those of the store.
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

    /// Reads the changes since the file was last read.
    ///
    /// # Errors
    ///
    /// [`QueryError`] when the file cannot be read.
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

    /// Reads all opt-outs of an index.
    ///
    /// # Errors
    ///
    /// [`QueryError`] when the index cannot be asked, or answers for a part of its shards only; then no opt-out is
    /// forgotten.
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
        // Freeing many codes takes a while; no hit should wait for it.
        drop(before);
    }

    /// Records a change in the store and then in memory.
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

/// The place where opt-outs are stored.
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
pub async fn answer(request: &HttpRequest, server: &PixelServer) -> Option<ApiResponse> {
    if request.path == "/.well-known/gpc.json" {
        return Some(gpc_support(server.config.policy.signal));
    }
    let code = match request.path.strip_prefix("/opt-out")? {
        "" | "/" => None,
        rest => Some(decode_code(rest.strip_prefix('/')?)),
    };
    let site = RequestSite::read(&request.headers, server.config.public_url.as_deref());
    let reply = match (OptOutRequest::parse(&request.method, &request.decoded_query()), code) {
        (None, _) => opt_out::render_wrong_method(),
        (Some(OptOutRequest::Out | OptOutRequest::In), _) if site == RequestSite::Other => opt_out::render_other_site(),
        (Some(action), None) => answer_browser(request, action, |secure| OptOutScope::Browser { secure }),
        (Some(_), Some(code)) if !opt_out::can_be_remembered(&code) => opt_out::render_unknown_code(),
        (Some(action), Some(code)) => answer_code(request, server, action, site, &code)
            .await
            .unwrap_or_else(|error| {
                print_message(&format!("could not answer who has opted out: {error}"));
                opt_out::render_unavailable()
            }),
    };
    Some(opt_out::without_body_for_head(&request.method, reply))
}

/// Shows or sets the cookie.
fn answer_browser(request: &HttpRequest, action: OptOutRequest, scope: impl Fn(bool) -> OptOutScope) -> ApiResponse {
    match action {
        OptOutRequest::See => opt_out::render_page(scope(is_secure(request)), says_opt_out(&request.headers)),
        OptOutRequest::Out | OptOutRequest::In => set_cookie(request, action == OptOutRequest::Out),
    }
}

/// Shows or changes the opt-out of a code's recipient, or the cookie where the code stands for many people.
async fn answer_code(
    request: &HttpRequest,
    server: &PixelServer,
    action: OptOutRequest,
    site: RequestSite,
    code: &str,
) -> Result<ApiResponse, QueryError> {
    let opt_outs = &server.opt_outs;
    if opt_outs.configured.contains(code) {
        return Ok(opt_out::render_fixed_by_owner());
    }
    let now = request.time;
    let peer = find_address(&request.headers, request.peer, server.config.trusted_hops).or(request.peer);
    let checked = server.config.code_keys.check(code, now);
    let reach = match CodeReach::from_signature(&checked) {
        Some(reach) => reach,
        None if !opt_outs.lookups.allow(peer, now) => return Ok(opt_out::render_too_many()),
        None => match server.source() {
            QuerySource::File(file) => CodeReach::find(code, &checked, &file).await?,
            source @ QuerySource::Remote(_) => match source.index() {
                Some(index) => CodeReach::find(code, &checked, index).await?,
                None => CodeReach::Unknown,
            },
        },
    };
    let is_out = opt_outs.has(code);
    match (reach, action) {
        (CodeReach::Shared | CodeReach::Unknown, _) if is_out => Ok(opt_out::render_fixed_by_owner()),
        (CodeReach::Shared | CodeReach::Unknown, _) => Ok(answer_browser(request, action, |secure| {
            OptOutScope::BrowserWithSharedCode { secure }
        })),
        (CodeReach::Personal, OptOutRequest::See) => Ok(opt_out::render_page(OptOutScope::Recipient, is_out)),
        // Only a browser can opt in again; a mail provider's one-click request never does.
        (CodeReach::Personal, OptOutRequest::In) if site != RequestSite::Same => Ok(opt_out::render_other_site()),
        (CodeReach::Personal, action) => {
            let out = action == OptOutRequest::Out;
            if !opt_outs.changes.allow(peer, now) {
                return Ok(opt_out::render_too_many());
            }
            // Written even if nothing changes here: another server may have changed it a moment ago.
            match opt_outs.change(&server.sink, code, out, now).await? {
                Place::Store => Ok(opt_out::render_changed(site, out)),
                Place::None => Ok(opt_out::render_no_store()),
            }
        }
    }
}

fn decode_code(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

/// The date of the last change to the handling of the signal; `infra/pixel.yaml` has the same.
const GPC_UPDATED: &str = "2026-03-01";

/// Returns the "GPC Support Resource" (Global Privacy Control), which says if the signal has an effect.
fn gpc_support(signal: SignalPolicy) -> ApiResponse {
    let has_effect = signal != SignalPolicy::Record;
    ApiResponse {
        status: 200,
        headers: vec![("content-type", "application/json".to_owned())],
        body: format!("{{\"gpc\": {has_effect}, \"lastUpdate\": \"{GPC_UPDATED}\"}}\n"),
    }
}

fn is_secure(request: &HttpRequest) -> bool {
    request.header("x-forwarded-proto") == Some("https")
}

/// Sets the cookie for a year, or deletes it. A browser sends it with the image on another site's page only over TLS
/// and with `SameSite=None`.
fn set_cookie(request: &HttpRequest, out: bool) -> ApiResponse {
    let reach = if is_secure(request) {
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
