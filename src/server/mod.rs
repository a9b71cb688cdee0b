//! The server of `pixel serve`: listens, passes each request to the function's handler, and stores the event.

pub mod access_log;
mod connections;
pub mod file_store;
pub mod follow;
pub mod gateway;
#[cfg(feature = "cli")]
pub mod geo_file;
mod hits;
mod limits;
pub mod list;
mod managed;
pub mod opt_out;
mod proxy;
mod sink;
mod status;

use crate::destination::log_lines;
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::Utc;
use http_body_util::channel::Channel;
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, broadcast, mpsc};

use crate::api;
use crate::api::{ApiResponse, Manager};
use crate::client::http::secure_random;
use crate::config::Config;
use crate::destination::counts::Counts;
use crate::hit::event::Event;
use crate::hit::outcome::{Delivered, Outcome};
use crate::hit::request::Ingress;
use crate::hit::request::http_request::HttpRequest;
use crate::server::access_log::{AccessLog, AccessLogEntry};
use crate::server::gateway::HttpAnswer;
use crate::server::geo_file::GeoFile;
use crate::server::list::KnownCodes;
use crate::server::opt_out::OptOuts;
use crate::terminal::{json_line, print_message};
use connections::{Connection, Connections, Watched};
use proxy::Untrusted;

pub use limits::{Limits, raise_open_files};
pub(crate) use sink::QuerySource;
pub use sink::Sink;

/// The number of events whose outcome may be unknown at the same time; further events go to the log at once.
const MAX_PENDING_EVENTS: u32 = 10_000;

/// The time beyond the budget in which events that are under way can be logged at shutdown.
const SHUTDOWN_LOG_GRACE: Duration = Duration::from_secs(1);

/// One line of the server's report: a hit and its outcome.
#[derive(Clone, Debug)]
pub struct HitReport {
    /// The time of arrival.
    pub time: chrono::DateTime<Utc>,
    /// The method and the path template; the code itself is in the event only, after the privacy policy.
    pub request: String,
    /// The outcome of the hit.
    pub outcome: Outcome,
    /// The event, unless the hit was ignored.
    pub event: Option<Arc<Event>>,
}

/// The server of `pixel serve`.
#[derive(Debug)]
pub struct PixelServer {
    /// The configuration of the handler.
    pub config: Config,
    /// The ingress whose payload the function gets.
    pub ingress: Ingress,
    /// The destination of events.
    pub sink: Sink,
    /// The fallback for events that the destination does not take.
    pub fallback: Option<Sink>,
    /// The hits since the start by their outcome.
    counts: Mutex<Counts>,
    /// The number of responses since the start: images, and the script.
    answers: AtomicU64,
    /// The start time.
    started: chrono::DateTime<Utc>,
    /// The access log, one line per response.
    access_log: Option<AccessLog>,
    /// The channel of reports; when it is full or has no reader, reports are dropped, never hits.
    pub reports: mpsc::Sender<HitReport>,
    /// The codes whose recipients have opted out.
    pub opt_outs: OptOuts,
    /// The geolocation of addresses.
    pub geo: Option<GeoFile>,
    /// One permit per event, held until its outcome is known.
    permits: Arc<Semaphore>,
    /// The handler of the API.
    manager: Manager,
    /// The code list by which hits are marked.
    list: KnownCodes,
    /// The limits of connections and their duration.
    limits: Limits,
    /// The open connections.
    connections: Connections,
    /// True once a request has come through a proxy that is not configured.
    untrusted_proxy: Untrusted,
    /// The channel of stored events for followers; none once the server stops.
    followed: Mutex<Option<broadcast::Sender<Arc<Event>>>>,
}

/// The number of events that a follower may be behind before it has to ask the store.
const MAX_FOLLOWER_LAG: usize = 1024;

/// Serves until `stop` resolves, then finishes the open requests.
///
/// # Errors
///
/// When the listener fails for good.
pub async fn serve(server: Arc<PixelServer>, listener: TcpListener, stop: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let limits = server.limits;
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_headers(1000)
        .max_buf_size(256 * 1024);
    if let QuerySource::File(file) = server.source() {
        // So that the first hit is marked, too. A failure is tried again.
        let _ = server.list.refresh(&file, None).await;
    }
    let watcher = {
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.watch_codes().await })
    };
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let Ok((stream, peer)) = accepted else {
            // Most likely out of file descriptors; those of closed connections are free in a moment.
            server.connections.close_one();
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        };
        // All others are being answered: this one is refused.
        let Some(place) = server.connections.admit(peer.ip()) else {
            continue;
        };
        // Answers are small and must not wait for the client's acknowledgement.
        let _ = stream.set_nodelay(true);
        let stream = TokioIo::new(Watched::new(stream, Arc::clone(&place.connection), limits));
        let (server, connection) = (Arc::clone(&server), Arc::clone(&place.connection));
        let service = service_fn(move |incoming| respond(Arc::clone(&server), incoming, peer, Arc::clone(&connection)));
        let exchange = graceful.watch(builder.serve_connection(stream, service));
        tokio::spawn(async move {
            tokio::select! {
                // A visitor who disconnects is not an error.
                _ = exchange => {}
                () = place.connection.closed() => {}
            }
        });
    }
    drop(listener);
    watcher.abort();
    // The task then drops its reference to the server.
    let _ = watcher.await;
    // Followers would delay the shutdown.
    server.with_followers(Option::take);
    let timeout = Duration::from_secs(5);
    let _ = tokio::time::timeout(timeout, graceful.shutdown()).await;
}

impl PixelServer {
    /// Makes a server that does not listen yet.
    pub fn new(config: Config, ingress: Ingress, sink: Sink, reports: mpsc::Sender<HitReport>) -> Self {
        let manager = Manager {
            keys: config.code_keys.clone(),
            tokens: config.tokens.clone(),
            random: secure_random,
            failures: api::Failures::default(),
        };
        Self {
            list: KnownCodes::default(),
            opt_outs: OptOuts::new(config.opt_out.clone()),
            limits: Limits::default(),
            connections: Connections::new(Limits::default(), config.trusted_hops == 0),
            untrusted_proxy: Untrusted::default(),
            geo: None,
            config,
            ingress,
            sink,
            fallback: None,
            counts: Mutex::default(),
            answers: AtomicU64::new(0),
            started: Utc::now(),
            access_log: None,
            reports,
            permits: Arc::new(Semaphore::new(MAX_PENDING_EVENTS as usize)),
            manager,
            followed: Mutex::new(Some(broadcast::Sender::new(MAX_FOLLOWER_LAG))),
        }
    }

    fn with_followers<T>(&self, act: impl FnOnce(&mut Option<broadcast::Sender<Arc<Event>>>) -> T) -> T {
        act(&mut self.followed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets a second destination for events that the first does not take.
    #[must_use]
    pub fn with_fallback(mut self, fallback: Option<Sink>) -> Self {
        self.fallback = fallback;
        self
    }

    /// Sets the limits of connections.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self.connections = Connections::new(limits, self.config.trusted_hops == 0);
        self
    }

    /// Sets the access log.
    #[must_use]
    pub fn with_access_log(mut self, log: Option<AccessLog>) -> Self {
        self.access_log = log;
        self
    }

    /// Delivers an event; if there is a fallback, part of the budget is reserved for it.
    async fn deliver(&self, event: &Arc<Event>) -> Delivered {
        let budget = self.config.destination_timing().budget;
        let reserved = match self.fallback {
            Some(_) => self.config.timing.attempt.min(budget / 2),
            None => Duration::ZERO,
        };
        let delivered = self.sink.deliver(event, budget.saturating_sub(reserved)).await;
        let (Some(fallback), Outcome::Failed(failure)) = (&self.fallback, &delivered.outcome) else {
            return delivered;
        };
        let destination = self.destination();
        Delivered {
            outcome: fallback.keep(event, failure, &destination, reserved).await,
            ..delivered
        }
    }

    /// Reads the codes that other processes have listed or revoked, at an interval.
    async fn watch_codes(&self) {
        let mut since = None;
        loop {
            let source = self.source();
            let refreshed = match (&source, source.index()) {
                (QuerySource::File(file), _) => self.list.refresh(file, since).await,
                (QuerySource::Remote(_), Some(deliverer)) => self.list.refresh(deliverer, since).await,
                (QuerySource::Remote(_), None) => return,
            };
            if let QuerySource::File(file) = &source {
                // A file that cannot be read is tried again, too.
                let _ = self.opt_outs.refresh_from_file(file).await;
            }
            drop(source);
            // A store that cannot be reached is asked again.
            since = refreshed.unwrap_or(since);
            tokio::time::sleep(list::INTERVAL).await;
        }
    }

    pub(crate) fn source(&self) -> QuerySource {
        match &self.sink {
            Sink::Store { file, .. } => QuerySource::File(file.clone()),
            Sink::Remote { way, .. } => QuerySource::Remote(Arc::clone(way)),
        }
    }

    fn destination(&self) -> String {
        self.config
            .destination
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    fn count(&self, outcome: &Outcome) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).add(outcome);
    }

    /// Returns the hits since the start by their outcome.
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the parts that the caller has to close: the destinations and the channel of reports. This ends the
    /// access log.
    pub fn into_parts(self) -> (Vec<Sink>, mpsc::Sender<HitReport>) {
        let sinks = std::iter::once(self.sink).chain(self.fallback);
        (sinks.collect(), self.reports)
    }

    /// Waits until every accepted event has its outcome. An event whose delivery has not begun when the budget is over
    /// is logged whole; a delivery that has begun ends with its own budget.
    pub async fn drain(&self) {
        let budget = self.config.timing.budget;
        let all_permits = || self.permits.acquire_many(MAX_PENDING_EVENTS);
        if tokio::time::timeout(budget, all_permits()).await.is_ok() {
            return;
        }
        self.sink.stop();
        let longest = self.config.destination_timing().budget;
        let _ = tokio::time::timeout(longest + SHUTDOWN_LOG_GRACE, all_permits()).await;
    }

    /// Reports the outcome of an event; one that was not delivered is logged whole.
    fn record_outcome(&self, request: &HttpRequest, event: Arc<Event>, delivered: Delivered, took: Duration) {
        if let Outcome::Failed(_) = delivered.outcome {
            log_undelivered(self, &event, &delivered, took);
        }
        if delivered.outcome == Outcome::Indexed {
            // Fails if there are no followers.
            let _ = self.with_followers(|followed| followed.as_ref().map(|sender| sender.send(Arc::clone(&event))));
        }
        self.report(request, delivered.outcome, Some(event));
    }

    fn report(&self, request: &HttpRequest, outcome: Outcome, event: Option<Arc<Event>>) {
        self.count(&outcome);
        if self.reports.is_closed() {
            return;
        }
        let entry = AccessLogEntry::from_request(request);
        let _ = self.reports.try_send(HitReport {
            time: request.time,
            request: format!("{} {}", entry.method, entry.resource),
            outcome,
            event,
        });
    }
}

type HttpResponse = hyper::Response<Either<Full<Bytes>, Channel<Bytes, Infallible>>>;

async fn respond(
    server: Arc<PixelServer>,
    incoming: hyper::Request<Incoming>,
    peer: SocketAddr,
    connection: Arc<Connection>,
) -> Result<HttpResponse, Infallible> {
    connection.begin_answer();
    let response = answer(server, incoming, peer, &connection).await;
    connection.begin_sending(matches!(response.body(), Either::Right(_)));
    Ok(response)
}

async fn answer(
    server: Arc<PixelServer>,
    incoming: hyper::Request<Incoming>,
    peer: SocketAddr,
    connection: &Connection,
) -> HttpResponse {
    let request = read_request(&incoming, peer.ip());
    server.untrusted_proxy.notice(&request, server.config.trusted_hops);
    if managed::is_managed(&request.path) {
        return managed::answer(server, request, incoming.into_body(), connection).await;
    }
    if let Some(page) = page(&request) {
        return page;
    }
    if let Some(status) = status::status(&server, &request).await {
        return status;
    }
    if let Some(page) = opt_out::answer(&request, &server).await {
        return build_response(page);
    }
    let entry = server
        .access_log
        .as_ref()
        .map(|log| (log.clone(), AccessLogEntry::from_request(&request)));
    let answer = hits::capture_hit(Arc::clone(&server), request).await;
    server.answers.fetch_add(1, Ordering::Relaxed);
    if let Some((log, entry)) = entry {
        log.write(&entry, &answer);
    }
    response(answer)
}

fn read_request(incoming: &hyper::Request<Incoming>, peer: IpAddr) -> HttpRequest {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    HttpRequest {
        method: incoming.method().as_str().to_owned(),
        path: incoming.uri().path().to_owned(),
        query: incoming.uri().query().unwrap_or_default().to_owned(),
        headers: incoming
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect(),
        peer: Some(peer),
        id: uuid::Uuid::now_v7().to_string(),
        time: Utc::now(),
        body: None,
    }
}

/// Answers a request for the dashboard page.
fn page(request: &HttpRequest) -> Option<HttpResponse> {
    let known = request.header("if-none-match");
    let reply = (request.path == "/").then(|| crate::api::page::answer(&request.method, known))?;
    reply.map(build_response)
}

fn build_response(reply: ApiResponse) -> HttpResponse {
    let headers = reply
        .headers
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let body = reply.body.into_bytes();
    response(HttpAnswer {
        status: reply.status,
        headers,
        body,
    })
}

fn full_body(body: impl Into<Bytes>) -> Either<Full<Bytes>, Channel<Bytes, Infallible>> {
    Either::Left(Full::new(body.into()))
}

fn response(answer: HttpAnswer) -> HttpResponse {
    let mut response = HttpResponse::new(full_body(answer.body));
    if let Ok(status) = hyper::StatusCode::from_u16(answer.status) {
        *response.status_mut() = status;
    }
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// Logs the whole event as one line of JSON, from which it can be replayed.
fn log_undelivered(server: &PixelServer, event: &Event, delivered: &Delivered, took: Duration) {
    let destination = server.destination();
    let line = log_lines::log_line(
        event,
        delivered,
        &destination,
        u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    );
    print_message(&json_line(&line));
}
