//! The HTTP client, and the delivery of one event within a budget.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HOST, HeaderMap, HeaderName, HeaderValue};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::correction::{SignatureError, clock_offset, correct_time};
use super::credentials::CredentialCache;
use super::sign;
use crate::config::Timing;
use crate::destination::breaker::{Admission, Breaker};
use crate::destination::message::{AwsCall, MessageTarget};
use crate::destination::opensearch::{Target, verdict};
use crate::destination::{Auth, Verdict, backoff};
use crate::hit::event::Event;
use crate::hit::outcome::{Delivered, Failure, Outcome};

/// More of an answer is not read: what matters stands at its beginning.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// Why a client could not be made.
pub type ClientError = Box<dyn std::error::Error + Send + Sync>;

/// An HTTP client that trusts the compiled-in public roots, or only those of `ca_file`.
///
/// # Errors
///
/// When the file cannot be read or holds no certificate.
pub fn http_client(ca_file: Option<&Path>, timing: &Timing) -> Result<reqwest::Client, ClientError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(ca_file)?)
        .with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(timing.connect)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("pixel/", env!("CARGO_PKG_VERSION")))
        .build()?;
    Ok(client)
}

fn roots(ca_file: Option<&Path>) -> Result<rustls::RootCertStore, ClientError> {
    let Some(path) = ca_file else {
        return Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect());
    };
    let broken = |error: String| {
        format!(
            "`PIXEL_CA_FILE` `{}`: {error}; give a PEM file with certificates",
            path.display()
        )
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| broken(error.to_string()))? {
        roots.add(certificate.map_err(|error| broken(error.to_string()))?)?;
    }
    if roots.is_empty() {
        return Err(broken("it holds no certificate".to_owned()).into());
    }
    Ok(roots)
}

/// Fills `bytes` with what nobody can guess; false when the system has none to give.
pub fn secure_random(bytes: &mut [u8]) -> bool {
    SystemRandom::new().fill(bytes).is_ok()
}

/// What can be connected to.
pub trait Endpoint: fmt::Debug + Send + Sync {
    /// The server's URL without a slash at its end.
    fn base(&self) -> &str;

    /// How requests prove who sends them.
    fn auth(&self) -> &Auth;
}

/// What events can be delivered to.
pub trait Remote: Endpoint {
    /// The request that stores an event, under its id if the remote takes ids.
    ///
    /// # Errors
    ///
    /// When the remote cannot take such an event, in words.
    fn request(&self, event: &Event, with_id: bool) -> Result<ClientRequest, String>;

    /// What an answer to that request means.
    fn verdict(&self, status: u16, body: &[u8]) -> Verdict;

    /// Whether it may pause when unused, and take long to answer the next request.
    fn can_pause(&self) -> bool {
        false
    }
}

impl Endpoint for Target {
    fn base(&self) -> &str {
        &self.base
    }

    fn auth(&self) -> &Auth {
        &self.auth
    }
}

impl Remote for Target {
    fn request(&self, event: &Event, with_id: bool) -> Result<ClientRequest, String> {
        let request = self.store(event, with_id);
        Ok(ClientRequest::json(request.method, request.url, event.document.clone()))
    }

    fn verdict(&self, status: u16, body: &[u8]) -> Verdict {
        verdict(status, body)
    }

    fn can_pause(&self) -> bool {
        Self::can_pause(self)
    }
}

impl Endpoint for MessageTarget {
    fn base(&self) -> &str {
        &self.base
    }

    fn auth(&self) -> &Auth {
        &self.auth
    }
}

impl Remote for MessageTarget {
    fn request(&self, event: &Event, _with_id: bool) -> Result<ClientRequest, String> {
        match self.too_large(event) {
            Some(reason) => Err(reason),
            None => Ok(ClientRequest::call(&self.base, self.send_call(event))),
        }
    }

    fn verdict(&self, status: u16, body: &[u8]) -> Verdict {
        self.verdict(status, body)
    }
}

/// A request that is not yet authenticated.
#[derive(Clone, Debug)]
pub struct ClientRequest {
    /// The method.
    pub method: &'static str,
    /// The whole URL, encoded as it will be sent; it begins with the remote's.
    pub url: String,
    /// The media type of the body.
    pub content_type: &'static str,
    /// `X-Amz-Target`, where AWS's JSON protocol is spoken.
    pub target: Option<&'static str>,
    /// The body.
    pub body: Bytes,
}

impl ClientRequest {
    /// A request with a JSON body, which may be empty.
    pub fn json(method: &'static str, url: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            method,
            url: url.into(),
            content_type: sign::CONTENT_TYPE,
            target: None,
            body: body.into(),
        }
    }

    /// A call of AWS's JSON protocol to the endpoint at `base`.
    pub fn call(base: &str, call: AwsCall) -> Self {
        Self {
            method: "POST",
            url: format!("{base}/"),
            content_type: call.content_type,
            target: Some(call.target),
            body: call.body.into(),
        }
    }
}

/// A connection to one remote, and delivers events to it.
#[derive(Debug)]
pub struct Deliverer<R = Target> {
    http: reqwest::Client,
    remote: R,
    /// The `Host` header of all its requests.
    host: Result<String, SendError>,
    timing: Timing,
    credentials: Option<CredentialCache>,
    /// By how many seconds the server's clock is ahead of ours, as far as it has said so.
    clock_offset: AtomicI64,
    /// Learnt from the first refusal: a time-series collection takes no ids.
    pub(super) refuses_ids: AtomicBool,
    /// Learnt from the first bulk request: Elasticsearch 6 wants the type in the path.
    pub(super) needs_type: AtomicBool,
    breaker: Mutex<Breaker>,
}

/// An answer of the destination.
#[derive(Clone, Debug)]
pub struct ClientResponse {
    /// HTTP status.
    pub status: u16,
    /// The beginning of the body.
    pub body: Vec<u8>,
}

impl Deliverer<Target> {
    /// The index it delivers to.
    pub const fn target(&self) -> &Target {
        &self.remote
    }
}

impl<R> Deliverer<R> {
    /// Who sends, where requests are signed.
    pub fn credentials(&self) -> Option<&SharedCredentialsProvider> {
        self.credentials.as_ref().map(CredentialCache::provider)
    }
}

impl<R: Endpoint> Deliverer<R> {
    /// Makes a deliverer. No connection is opened yet.
    pub fn new(
        http: reqwest::Client,
        remote: R,
        timing: Timing,
        credentials: Option<SharedCredentialsProvider>,
    ) -> Self {
        Self {
            http,
            host: host(remote.base()),
            remote,
            timing,
            credentials: credentials.map(CredentialCache::new),
            clock_offset: AtomicI64::new(0),
            refuses_ids: AtomicBool::new(false),
            needs_type: AtomicBool::new(false),
            breaker: Mutex::default(),
        }
    }

    /// What it delivers to.
    pub const fn remote(&self) -> &R {
        &self.remote
    }

    /// Opens the connection, so that the first event does not have to. Whether that works is not of interest yet.
    pub async fn prepare(&self) {
        let url = format!("{}/", self.remote.base());
        let _answer = self
            .send(
                ClientRequest::json("HEAD", url, Bytes::new()),
                MAX_RESPONSE_BYTES,
                self.timing.connect,
            )
            .await;
    }

    /// By how many seconds the server's clock is ahead of ours, once a signature was refused for that; else 0.
    pub fn clock_offset(&self) -> i64 {
        self.clock_offset.load(Ordering::Relaxed)
    }

    /// The circuit breaker's state.
    pub fn breaker_state(&self) -> &'static str {
        self.breaker(|breaker| breaker.name())
    }

    fn breaker<T>(&self, act: impl FnOnce(&mut Breaker) -> T) -> T {
        act(&mut self.breaker.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends one request to the remote's server, authenticated, and reads at most `most` bytes of the answer. What is refused
    /// for its signature is signed once more, by the server's clock or with other credentials where there are any.
    ///
    /// # Errors
    ///
    /// [`SendError`] when there is no answer.
    pub async fn send(
        &self,
        mut request: ClientRequest,
        most: usize,
        timeout: Duration,
    ) -> Result<ClientResponse, SendError> {
        let begun = Instant::now();
        let mut complaints = Vec::new();
        loop {
            let credentials = self.kept_credentials().await?;
            let time = correct_time(now(), self.clock_offset());
            let headers = authentication(
                Unauthenticated::from_request(&request),
                self.remote.auth(),
                || self.host.clone(),
                credentials.as_ref(),
                time,
            )?;
            let same = credentials.is_some().then(|| request.clone());
            let left = timeout.saturating_sub(begun.elapsed());
            let (answer, date) = self.exchange(request, headers, most, left).await?;
            let complaint = SignatureError::parse(answer.status, &answer.body);
            let (Some(complaint), Some(credentials), Some(same)) = (complaint, credentials, same) else {
                return Ok(answer);
            };
            // Each can be done something about once.
            if complaints.contains(&complaint) || !self.correct_signing(complaint, date.as_deref(), &credentials).await
            {
                return Ok(answer);
            }
            complaints.push(complaint);
            request = same;
        }
    }

    /// The credentials to sign with, where requests are signed.
    async fn kept_credentials(&self) -> Result<Option<Credentials>, SendError> {
        match (self.remote.auth(), &self.credentials) {
            (Auth::SigV4 { .. }, Some(kept)) => kept.at(now()).await.map(Some).map_err(no_credentials),
            _ => Ok(None),
        }
    }

    /// Whether something was learnt from a complaint, so that the next signature will differ.
    async fn correct_signing(&self, complaint: SignatureError, date: Option<&str>, used: &Credentials) -> bool {
        match (complaint, &self.credentials) {
            (SignatureError::Clock, _) => match clock_offset(date, now(), self.clock_offset()) {
                Some(offset) => {
                    self.clock_offset.store(offset, Ordering::Relaxed);
                    true
                }
                None => false,
            },
            (SignatureError::Credentials, Some(kept)) => kept.renew(used).await,
            (SignatureError::Credentials, None) => false,
        }
    }

    /// The answer to a request, and its `Date`.
    async fn exchange(
        &self,
        request: ClientRequest,
        headers: HeaderMap,
        most: usize,
        timeout: Duration,
    ) -> Result<(ClientResponse, Option<String>), SendError> {
        let method = request
            .method
            .parse()
            .map_err(|_| SendError::Impossible(format!("`{}` is no HTTP method", request.method)))?;
        let request = self
            .http
            .request(method, request.url)
            .headers(headers)
            .body(request.body)
            .timeout(timeout);
        let mut response = request.send().await.map_err(transport)?;
        let status = response.status().as_u16();
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
        let date = date.map(ToOwned::to_owned);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(transport)? {
            body.extend_from_slice(&chunk[..chunk.len().min(most.saturating_sub(body.len()))]);
        }
        Ok((ClientResponse { status, body }, date))
    }
}

impl<R: Remote> Deliverer<R> {
    /// Delivers an event: again after a passing fault, until the budget is spent. While the breaker is open nothing is
    /// tried; as a probe, it is tried once. A remote that may only be waking up from its pause does not open the breaker.
    pub async fn deliver(&self, event: &Event, budget: Duration) -> Delivered {
        let admission = self.breaker(|breaker| breaker.admit(since_epoch()));
        let mut may_be_waking = false;
        let (outcome, attempts) = match admission {
            Admission::Deliver => self.deliver_within(event, budget, u32::MAX, &mut may_be_waking).await,
            Admission::Probe => self.deliver_within(event, budget, 1, &mut false).await,
            Admission::Refuse => (
                failed("the circuit breaker is open after failures in a row".to_owned(), true),
                0,
            ),
        };
        if admission != Admission::Refuse && !may_be_waking {
            let reached = !matches!(&outcome, Outcome::Failed(failure) if failure.temporary);
            self.breaker(|breaker| breaker.record(reached, since_epoch()));
        }
        Delivered {
            outcome,
            attempts,
            breaker: self.breaker(|breaker| breaker.name()),
        }
    }

    /// `may_be_waking` becomes true when it ends without an answer from a remote that pauses, sooner than a pause does.
    async fn deliver_within(
        &self,
        event: &Event,
        budget: Duration,
        most: u32,
        may_be_waking: &mut bool,
    ) -> (Outcome, u32) {
        let deadline = Instant::now() + budget;
        let mut attempts = 0;
        let mut told = None;
        // Whether an earlier attempt of ours may have stored it, though its answer got lost.
        let mut may_be_ours = false;
        loop {
            attempts += 1;
            let left = deadline.saturating_duration_since(Instant::now());
            let with_id = !self.refuses_ids.load(Ordering::Relaxed);
            let timeout = left.min(self.timing.attempt);
            let Attempt { verdict, unknown, slow } = self.attempt(event, with_id, timeout).await;
            let reason = match verdict {
                Verdict::Indexed => return (Outcome::Indexed, attempts),
                // No second hit.
                Verdict::Duplicate if may_be_ours => return (Outcome::Indexed, attempts),
                Verdict::Duplicate => return (Outcome::Duplicate, attempts),
                Verdict::RefusesIds if with_id => {
                    self.refuses_ids.store(true, Ordering::Relaxed);
                    continue;
                }
                Verdict::RefusesIds => {
                    return (
                        failed("the index refuses documents without an id, too".to_owned(), false),
                        attempts,
                    );
                }
                Verdict::Refused(reason) => return (failed(reason, false), attempts),
                Verdict::Denied(reason) => return (failed(reason, true), attempts),
                Verdict::Retry(reason) => reason,
            };
            may_be_ours |= unknown;
            // What the index said tells more than that the last attempt was cut short by the budget.
            let reason = if left < self.timing.attempt {
                told.take().unwrap_or(reason)
            } else {
                reason
            };
            let wait = backoff(attempts, random());
            if attempts >= most || Instant::now() + wait >= deadline {
                *may_be_waking = slow && self.remote.can_pause() && budget < Timing::WITH_PAUSE.attempt;
                return (failed(reason, true), attempts);
            }
            told = Some(reason);
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(&self, event: &Event, with_id: bool, timeout: Duration) -> Attempt {
        let attempt = |verdict, unknown, slow| Attempt { verdict, unknown, slow };
        let request = match self.remote.request(event, with_id) {
            Ok(request) => request,
            Err(reason) => return attempt(Verdict::Refused(reason), false, false),
        };
        match self.send(request, MAX_RESPONSE_BYTES, timeout).await {
            Ok(answer) => {
                let verdict = self.remote.verdict(answer.status, &answer.body);
                attempt(verdict, !was_refused(answer.status), false)
            }
            Err(SendError::Transport(reason)) => attempt(Verdict::Retry(reason), true, false),
            Err(SendError::Slow(reason)) => attempt(Verdict::Retry(reason), true, true),
            Err(SendError::Impossible(reason)) => attempt(Verdict::Denied(reason), false, false),
        }
    }
}

/// The result of one attempt to deliver an event.
struct Attempt {
    verdict: Verdict,
    /// Whether it may have stored the event without saying so.
    unknown: bool,
    /// Whether the remote was connected and did not answer in time.
    slow: bool,
}

/// Whether a status says that nothing was stored: the server is too busy, or lets nobody in.
pub(super) const fn was_refused(status: u16) -> bool {
    matches!(status, 400 | 401 | 403 | 404 | 413 | 429)
}

/// What a request must say to be authenticated.
#[derive(Clone, Copy, Debug)]
pub struct Unauthenticated<'a> {
    /// The method.
    pub method: &'a str,
    /// The whole URL, encoded as it will be sent.
    pub url: &'a str,
    /// The media type of the body.
    pub content_type: &'a str,
    /// `X-Amz-Target`.
    pub target: Option<&'static str>,
    /// The body.
    pub body: &'a [u8],
}

impl<'a> Unauthenticated<'a> {
    fn from_request(request: &'a ClientRequest) -> Self {
        Self {
            method: request.method,
            url: &request.url,
            content_type: request.content_type,
            target: request.target,
            body: &request.body,
        }
    }
}

/// The headers that say who sends a request, with its media type and its target.
///
/// # Errors
///
/// [`SendError::Impossible`]
pub async fn authenticate(
    request: Unauthenticated<'_>,
    auth: &Auth,
    credentials: Option<&SharedCredentialsProvider>,
) -> Result<HeaderMap, SendError> {
    let credentials = match (auth, credentials) {
        (Auth::SigV4 { .. }, Some(provider)) => Some(provider.provide_credentials().await.map_err(no_credentials)?),
        _ => None,
    };
    authentication(request, auth, || host(request.url), credentials.as_ref(), now())
}

/// The same with credentials that are known, for the `Host` of `host`, at a time by the server's clock.
///
/// # Errors
///
/// [`SendError::Impossible`]
fn authentication(
    request: Unauthenticated<'_>,
    auth: &Auth,
    host: impl FnOnce() -> Result<String, SendError>,
    credentials: Option<&Credentials>,
    time: SystemTime,
) -> Result<HeaderMap, SendError> {
    let mut headers = HeaderMap::new();
    let content_type = HeaderValue::from_str(request.content_type)
        .map_err(|_| SendError::Impossible("the media type cannot be a header".to_owned()))?;
    headers.insert(CONTENT_TYPE, content_type);
    if let Some(target) = request.target {
        headers.insert(TARGET, HeaderValue::from_static(target));
    }
    match auth {
        Auth::None => {}
        Auth::Basic { user, password } => {
            let pair = STANDARD.encode(format!("{user}:{}", password.expose()));
            headers.insert(AUTHORIZATION, sensitive(&format!("Basic {pair}"))?);
        }
        Auth::ApiKey(key) => {
            headers.insert(AUTHORIZATION, sensitive(&format!("ApiKey {}", key.expose()))?);
        }
        Auth::SigV4 { service, region } => {
            let host = host()?;
            let credentials = credentials.ok_or_else(|| no_credentials("none were found"))?;
            let unsigned = sign::Unsigned {
                method: request.method,
                url: request.url,
                host: &host,
                body: request.body,
            };
            let service = service.name();
            let also = [
                ("content-type", request.content_type),
                (TARGET, request.target.unwrap_or_default()),
            ];
            let also = &also[..=usize::from(request.target.is_some())];
            let signed = sign::headers_of(unsigned, also, credentials, service, region, time);
            for (name, value) in signed.map_err(|error| SendError::Impossible(format!("could not sign: {error}")))? {
                headers.insert(HeaderName::from_static(name), sensitive(&value)?);
            }
            headers.insert(HOST, sensitive(&host)?);
        }
    }
    Ok(headers)
}

/// Names the operation of a call in AWS's JSON protocol.
const TARGET: &str = "x-amz-target";

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendError {
    /// No connection, no answer, or half of one: another attempt may do better.
    Transport(String),
    /// It was connected, and did not answer in time.
    Slow(String),
    /// The request cannot be made: no credentials, or a value that cannot be a header.
    Impossible(String),
}

impl std::fmt::Display for SendError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Transport(reason) | Self::Slow(reason) | Self::Impossible(reason) => formatter.write_str(reason),
        }
    }
}

impl std::error::Error for SendError {}

fn no_credentials(error: impl std::fmt::Display) -> SendError {
    SendError::Impossible(format!("no AWS credentials to sign with: {error}"))
}

/// The `Host` header: with the port only where it is not the scheme's own.
fn host(url: &str) -> Result<String, SendError> {
    let parsed =
        reqwest::Url::parse(url).map_err(|error| SendError::Impossible(format!("`{url}` is no URL: {error}")))?;
    let host = parsed.host_str().unwrap_or_default();
    Ok(parsed
        .port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

fn sensitive(text: &str) -> Result<HeaderValue, SendError> {
    let mut value =
        HeaderValue::from_str(text).map_err(|_| SendError::Impossible("a credential cannot be a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A transport error with its causes and without the URL, which may hold what a visitor sent.
pub(crate) fn transport(error: reqwest::Error) -> SendError {
    let error = error.without_url();
    let is_slow = error.is_timeout() && !error.is_connect();
    let mut reason = if error.is_timeout() {
        "timed out: ".to_owned()
    } else {
        String::new()
    };
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        if !reason.is_empty() && !reason.ends_with(": ") {
            reason.push_str(": ");
        }
        reason.push_str(&error.to_string());
        cause = error.source();
    }
    if is_slow {
        SendError::Slow(reason)
    } else {
        SendError::Transport(reason)
    }
}

pub(super) fn failed(reason: String, temporary: bool) -> Outcome {
    Outcome::Failed(Failure { reason, temporary })
}

/// The wall clock, which goes on while a sandbox is frozen.
fn since_epoch() -> Duration {
    now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn now() -> SystemTime {
    SystemTime::now()
}

/// A number that differs between sandboxes, for jitter.
pub(super) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
