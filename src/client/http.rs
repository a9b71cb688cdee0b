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

/// The size limit of a response that is read: the relevant part is at its beginning.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// An error in creating an HTTP client.
pub type ClientError = Box<dyn std::error::Error + Send + Sync>;

/// Returns an HTTP client that trusts the compiled-in public roots, or only those of `ca_file`.
///
/// # Errors
///
/// A file that cannot be read or contains no certificate.
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

/// Fills `bytes` with secure random numbers; returns false if the system has none.
pub fn secure_random(bytes: &mut [u8]) -> bool {
    SystemRandom::new().fill(bytes).is_ok()
}

/// A server to connect to.
pub trait Endpoint: fmt::Debug + Send + Sync {
    /// Returns the server's URL without a slash at its end.
    fn base(&self) -> &str;

    /// Returns the authentication of requests.
    fn auth(&self) -> &Auth;
}

/// A server that events are delivered to.
pub trait Remote: Endpoint {
    /// Builds the request that stores an event, under its id if `with_id` is true and the remote supports ids.
    ///
    /// # Errors
    ///
    /// A message, if the remote cannot accept such an event.
    fn request(&self, event: &Event, with_id: bool) -> Result<ClientRequest, String>;

    /// Returns the meaning of a response to that request.
    fn verdict(&self, status: u16, body: &[u8]) -> Verdict;

    /// Returns true if the server may pause when unused, and take long to answer the next request.
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
    /// The whole URL, encoded as it will be sent; it begins with the remote's URL.
    pub url: String,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The header `X-Amz-Target` of AWS's JSON protocol.
    pub target: Option<&'static str>,
    /// The body.
    pub body: Bytes,
}

impl ClientRequest {
    /// Returns a request with a JSON body, which may be empty.
    pub fn json(method: &'static str, url: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            method,
            url: url.into(),
            content_type: sign::CONTENT_TYPE,
            target: None,
            body: body.into(),
        }
    }

    /// Returns a request for a call in AWS's JSON protocol to the endpoint at `base`.
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

/// A client of one remote, which delivers events to it.
#[derive(Debug)]
pub struct Deliverer<R = Target> {
    http: reqwest::Client,
    remote: R,
    /// The `Host` header of all its requests.
    host: Result<String, SendError>,
    timing: Timing,
    credentials: Option<CredentialCache>,
    /// The seconds by which the server's clock is ahead of ours, as far as it has reported that.
    clock_offset: AtomicI64,
    /// True after a refusal of ids: a time-series collection does not accept them.
    pub(super) refuses_ids: AtomicBool,
    /// True after a bulk request without a type was refused: Elasticsearch 6 needs it in the path.
    pub(super) needs_type: AtomicBool,
    breaker: Mutex<Breaker>,
}

/// A response of the destination.
#[derive(Clone, Debug)]
pub struct ClientResponse {
    /// The HTTP status.
    pub status: u16,
    /// The beginning of the body.
    pub body: Vec<u8>,
}

impl Deliverer<Target> {
    /// Returns the index to which events are delivered.
    pub const fn target(&self) -> &Target {
        &self.remote
    }
}

impl<R> Deliverer<R> {
    /// Returns the credentials' provider, if requests are signed.
    pub fn credentials(&self) -> Option<&SharedCredentialsProvider> {
        self.credentials.as_ref().map(CredentialCache::provider)
    }
}

impl<R: Endpoint> Deliverer<R> {
    /// Creates a deliverer. No connection is opened yet.
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

    /// Returns the server to which events are delivered.
    pub const fn remote(&self) -> &R {
        &self.remote
    }

    /// Opens the connection, so that the first event does not have to. A failure is ignored.
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

    /// Returns the seconds by which the server's clock is ahead of ours, after it rejected a signature for that;
    /// otherwise 0.
    pub fn clock_offset(&self) -> i64 {
        self.clock_offset.load(Ordering::Relaxed)
    }

    /// Returns the circuit breaker's state.
    pub fn breaker_state(&self) -> &'static str {
        self.breaker(|breaker| breaker.name())
    }

    fn breaker<T>(&self, act: impl FnOnce(&mut Breaker) -> T) -> T {
        act(&mut self.breaker.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends an authenticated request to the remote's server, and reads at most `max_bytes` bytes of the response. A
    /// request whose signature is rejected is signed once more, by the server's clock or with other credentials if
    /// there are any.
    ///
    /// # Errors
    ///
    /// [`SendError`] if there is no response.
    pub async fn send(
        &self,
        mut request: ClientRequest,
        max_bytes: usize,
        timeout: Duration,
    ) -> Result<ClientResponse, SendError> {
        let begun = Instant::now();
        let mut corrected = Vec::new();
        loop {
            let credentials = self.signing_credentials().await?;
            let time = correct_time(now(), self.clock_offset());
            let headers = authentication(
                Unauthenticated::from_request(&request),
                self.remote.auth(),
                || self.host.clone(),
                credentials.as_ref(),
                time,
            )?;
            let copy = credentials.is_some().then(|| request.clone());
            let left = timeout.saturating_sub(begun.elapsed());
            let (answer, date) = self.exchange(request, headers, max_bytes, left).await?;
            let error = SignatureError::parse(answer.status, &answer.body);
            let (Some(error), Some(credentials), Some(copy)) = (error, credentials, copy) else {
                return Ok(answer);
            };
            // Each error can be corrected once.
            if corrected.contains(&error) || !self.correct_signing(error, date.as_deref(), &credentials).await {
                return Ok(answer);
            }
            corrected.push(error);
            request = copy;
        }
    }

    /// Returns the credentials to sign with, if requests are signed.
    async fn signing_credentials(&self) -> Result<Option<Credentials>, SendError> {
        match (self.remote.auth(), &self.credentials) {
            (Auth::SigV4 { .. }, Some(cache)) => cache.at(now()).await.map(Some).map_err(no_credentials),
            _ => Ok(None),
        }
    }

    /// Corrects the clock or the credentials after a rejected signature. Returns true if the next signature will
    /// differ.
    async fn correct_signing(&self, error: SignatureError, date: Option<&str>, used: &Credentials) -> bool {
        match (error, &self.credentials) {
            (SignatureError::Clock, _) => match clock_offset(date, now(), self.clock_offset()) {
                Some(offset) => {
                    self.clock_offset.store(offset, Ordering::Relaxed);
                    true
                }
                None => false,
            },
            (SignatureError::Credentials, Some(cache)) => cache.renew(used).await,
            (SignatureError::Credentials, None) => false,
        }
    }

    /// Returns the response to a request, and its `Date`.
    async fn exchange(
        &self,
        request: ClientRequest,
        headers: HeaderMap,
        max_bytes: usize,
        timeout: Duration,
    ) -> Result<(ClientResponse, Option<String>), SendError> {
        let method = request
            .method
            .parse()
            .map_err(|_| SendError::Impossible(format!("`{}` is not an HTTP method", request.method)))?;
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
            body.extend_from_slice(&chunk[..chunk.len().min(max_bytes.saturating_sub(body.len()))]);
        }
        Ok((ClientResponse { status, body }, date))
    }
}

impl<R: Remote> Deliverer<R> {
    /// Delivers an event, and retries after a transient failure until the budget is spent. While the breaker is open
    /// nothing is sent; a probe is sent once. A remote that may be waking up from a pause does not open the breaker.
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

    /// Delivers an event within a budget. Sets `may_be_waking` if a remote that can pause has not answered, and the
    /// budget was shorter than a pause.
    async fn deliver_within(
        &self,
        event: &Event,
        budget: Duration,
        max_attempts: u32,
        may_be_waking: &mut bool,
    ) -> (Outcome, u32) {
        let deadline = Instant::now() + budget;
        let mut attempts = 0;
        let mut last_reason = None;
        // True if an earlier attempt of ours may have stored the event although its response was lost.
        let mut may_be_ours = false;
        loop {
            attempts += 1;
            let left = deadline.saturating_duration_since(Instant::now());
            let with_id = !self.refuses_ids.load(Ordering::Relaxed);
            let timeout = left.min(self.timing.attempt);
            let Attempt { verdict, unknown, slow } = self.attempt(event, with_id, timeout).await;
            let reason = match verdict {
                Verdict::Indexed => return (Outcome::Indexed, attempts),
                // It is not a second hit.
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
            // The index's reason says more than the timeout of a last attempt that the budget cut short.
            let reason = if left < self.timing.attempt {
                last_reason.take().unwrap_or(reason)
            } else {
                reason
            };
            let wait = backoff(attempts, random());
            if attempts >= max_attempts || Instant::now() + wait >= deadline {
                *may_be_waking = slow && self.remote.can_pause() && budget < Timing::WITH_PAUSE.attempt;
                return (failed(reason, true), attempts);
            }
            last_reason = Some(reason);
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
    /// True if it may have stored the event without reporting so.
    unknown: bool,
    /// True if the remote was connected and did not answer in time.
    slow: bool,
}

/// Returns true if a status means that nothing was stored: the server is too busy, or denies access.
pub(super) const fn was_refused(status: u16) -> bool {
    matches!(status, 400 | 401 | 403 | 404 | 413 | 429)
}

/// A request without authentication.
#[derive(Clone, Copy, Debug)]
pub struct Unauthenticated<'a> {
    /// The method.
    pub method: &'a str,
    /// The whole URL, encoded as it will be sent.
    pub url: &'a str,
    /// The media type of the body.
    pub content_type: &'a str,
    /// The header `X-Amz-Target`.
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

/// Returns the headers that authenticate a request, with its media type and its target.
///
/// # Errors
///
/// [`SendError::Impossible`] if there are no credentials, or a value is not valid in a header.
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

/// Returns the headers for given credentials, for the `Host` of `host`, at a time of the server's clock.
///
/// # Errors
///
/// [`SendError::Impossible`], as for [`authenticate`].
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

/// The header with the operation of a call in AWS's JSON protocol.
const TARGET: &str = "x-amz-target";

/// The reason why there is no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendError {
    /// No connection, no response, or an incomplete one: another attempt may succeed.
    Transport(String),
    /// The server was connected, and did not answer in time.
    Slow(String),
    /// The request cannot be built: no credentials, or a value that is not valid in a header.
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

/// Returns the `Host` header: the port is in it only if it is not the scheme's default.
fn host(url: &str) -> Result<String, SendError> {
    let parsed =
        reqwest::Url::parse(url).map_err(|error| SendError::Impossible(format!("`{url}` is not a URL: {error}")))?;
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

/// Describes a transport error with its causes and without the URL, which may contain a visitor's data.
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

/// Returns the wall-clock time, which goes on while a sandbox is frozen.
fn since_epoch() -> Duration {
    now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn now() -> SystemTime {
    SystemTime::now()
}

/// Returns a number that differs between sandboxes, for jitter.
pub(super) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
