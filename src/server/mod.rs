//! Listens, hands each request to the function's handler, and stores the event.

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

/// Events whose outcome may be unknown at the same time; beyond, they go to the log at once.
const MAX_PENDING_EVENTS: u32 = 10_000;

/// What is under way gets so much longer than the budget to be logged when the stage stops.
const SHUTDOWN_LOG_GRACE: Duration = Duration::from_secs(1);

/// One line of the stage's report: a hit and what became of it.
#[derive(Clone, Debug)]
pub struct HitReport {
    /// When it arrived.
    pub time: chrono::DateTime<Utc>,
    /// The method and the resource; what stands for `{code}` in it is known of the event alone, after policy.
    pub request: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The event when there is one.
    pub event: Option<Arc<Event>>,
}

/// The stage.
#[derive(Debug)]
pub struct PixelServer {
    /// The configuration of the handler.
    pub config: Config,
    /// Which payload the function is given.
    pub ingress: Ingress,
    /// Where events go.
    pub sink: Sink,
    /// Where events go that the sink does not take.
    pub fallback: Option<Sink>,
    /// What became of the hits since the start.
    counts: Mutex<Counts>,
    /// Answers since the start, images but for the script.
    answers: AtomicU64,
    /// When the stage was made.
    started: chrono::DateTime<Utc>,
    /// Where each answer is noted.
    access_log: Option<AccessLog>,
    /// Takes reports; when it is full or nobody reads it, reports are dropped, never hits.
    pub reports: mpsc::Sender<HitReport>,
    /// Who is not to be counted.
    pub opt_outs: OptOuts,
    /// Where addresses are.
    pub geo: Option<GeoFile>,
    /// Lends a place to each event until its outcome is known.
    places: Arc<Semaphore>,
    /// Answers what is asked of the store.
    manager: Manager,
    /// By which hits are marked.
    list: KnownCodes,
    /// For how long and how many connections may be open.
    limits: Limits,
    /// The open connections.
    connections: Connections,
    /// Whether requests come through a proxy that the configuration knows nothing of.
    untrusted_proxy: Untrusted,
    /// Tells followers of events that were stored; none when the stage stops.
    followed: Mutex<Option<broadcast::Sender<Arc<Event>>>>,
}

/// Events that a follower may be behind before it has to ask the store for some.
const MAX_FOLLOWER_LAG: usize = 1024;

/// Serves until `stop` resolves, then finishes what was begun.
///
/// # Errors
///
/// When the listener fails for good.
pub async fn serve(stage: Arc<PixelServer>, listener: TcpListener, stop: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let limits = stage.limits;
    let mut server = hyper::server::conn::http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_headers(1000)
        .max_buf_size(256 * 1024);
    if let QuerySource::File(file) = stage.source() {
        // So that the first hit is marked, too. Where it fails, it is tried again.
        let _ = stage.list.refresh(&file, None).await;
    }
    let learning = {
        let stage = Arc::clone(&stage);
        tokio::spawn(async move { stage.watch_codes().await })
    };
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors, most likely; those of connections that were closed are free in a moment.
            stage.connections.close_one();
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        };
        // All others are being answered: this one is refused.
        let Some(place) = stage.connections.admit(peer.ip()) else {
            continue;
        };
        // Answers are small and must not wait for the client's acknowledgement.
        let _ = stream.set_nodelay(true);
        let stream = TokioIo::new(Watched::new(stream, Arc::clone(&place.connection), limits));
        let (stage, connection) = (Arc::clone(&stage), Arc::clone(&place.connection));
        let service = service_fn(move |request| respond(Arc::clone(&stage), request, peer, Arc::clone(&connection)));
        let exchange = graceful.watch(server.serve_connection(stream, service));
        tokio::spawn(async move {
            tokio::select! {
                // A visitor who goes away in the middle is no fault of ours.
                _ = exchange => {}
                () = place.connection.closed() => {}
            }
        });
    }
    drop(listener);
    learning.abort();
    // It lets go of the stage.
    let _ = learning.await;
    // Followers would hold the end up.
    stage.followed(Option::take);
    let patience = Duration::from_secs(5);
    let _ = tokio::time::timeout(patience, graceful.shutdown()).await;
}

impl PixelServer {
    /// Makes a stage; it does not listen yet.
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
            places: Arc::new(Semaphore::new(MAX_PENDING_EVENTS as usize)),
            manager,
            followed: Mutex::new(Some(broadcast::Sender::new(MAX_FOLLOWER_LAG))),
        }
    }

    fn followed<T>(&self, act: impl FnOnce(&mut Option<broadcast::Sender<Arc<Event>>>) -> T) -> T {
        act(&mut self.followed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// With a second destination, for what the first does not take.
    #[must_use]
    pub fn with_fallback(mut self, fallback: Option<Sink>) -> Self {
        self.fallback = fallback;
        self
    }

    /// With other limits of connections.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self.connections = Connections::new(limits, self.config.trusted_hops == 0);
        self
    }

    /// With a note of each answer.
    #[must_use]
    pub fn with_access_log(mut self, log: Option<AccessLog>) -> Self {
        self.access_log = log;
        self
    }

    /// Delivers an event; where there is a fallback, part of the budget is kept for it.
    async fn deliver(&self, event: &Arc<Event>) -> Delivered {
        let budget = self.config.destination_timing().budget;
        let kept = match self.fallback {
            Some(_) => self.config.timing.attempt.min(budget / 2),
            None => Duration::ZERO,
        };
        let delivered = self.sink.deliver(event, budget.saturating_sub(kept)).await;
        let (Some(fallback), Outcome::Failed(failure)) = (&self.fallback, &delivered.outcome) else {
            return delivered;
        };
        let destination = self.destination();
        Delivered {
            outcome: fallback.keep(event, failure, &destination, kept).await,
            ..delivered
        }
    }

    /// Learns of codes that others have listed or revoked, now and then.
    async fn watch_codes(&self) {
        let mut since = None;
        loop {
            let source = self.source();
            let learnt = match (&source, source.index()) {
                (QuerySource::File(file), _) => self.list.refresh(file, since).await,
                (QuerySource::Remote(_), Some(deliverer)) => self.list.refresh(deliverer, since).await,
                (QuerySource::Remote(_), None) => return,
            };
            if let QuerySource::File(file) = &source {
                // A file that is away is asked again, too.
                let _ = self.opt_outs.refresh_from_file(file).await;
            }
            drop(source);
            // A store that is away is asked again.
            since = learnt.unwrap_or(since);
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

    /// What became of the hits since the start.
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The parts that are to be closed: where events go, and where reports went. The access log ends with this.
    pub fn into_parts(self) -> (Vec<Sink>, mpsc::Sender<HitReport>) {
        let sinks = std::iter::once(self.sink).chain(self.fallback);
        (sinks.collect(), self.reports)
    }

    /// Waits until every event that was accepted has its outcome. What has not had its turn when the budget is over is
    /// logged whole; what has ends with its own budget.
    pub async fn drain(&self) {
        let budget = self.config.timing.budget;
        let all_back = || self.places.acquire_many(MAX_PENDING_EVENTS);
        if tokio::time::timeout(budget, all_back()).await.is_ok() {
            return;
        }
        self.sink.stop();
        let longest = self.config.destination_timing().budget;
        let _ = tokio::time::timeout(longest + SHUTDOWN_LOG_GRACE, all_back()).await;
    }

    /// Tells what became of an event; one that was not delivered is logged whole.
    fn record_outcome(&self, arrived: &HttpRequest, event: Arc<Event>, delivered: Delivered, took: Duration) {
        if let Outcome::Failed(_) = delivered.outcome {
            log_undelivered(self, &event, &delivered, took);
        }
        if delivered.outcome == Outcome::Indexed {
            // Without followers nobody takes it.
            let _ = self.followed(|followed| followed.as_ref().map(|sender| sender.send(Arc::clone(&event))));
        }
        self.report(arrived, delivered.outcome, Some(event));
    }

    fn report(&self, arrived: &HttpRequest, outcome: Outcome, event: Option<Arc<Event>>) {
        self.count(&outcome);
        if self.reports.is_closed() {
            return;
        }
        let note = AccessLogEntry::from_request(arrived);
        let request = format!("{} {}", note.method, note.resource);
        let _ = self.reports.try_send(HitReport {
            time: arrived.time,
            request,
            outcome,
            event,
        });
    }
}

type HttpResponse = hyper::Response<Either<Full<Bytes>, Channel<Bytes, Infallible>>>;

async fn respond(
    stage: Arc<PixelServer>,
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
    connection: Arc<Connection>,
) -> Result<HttpResponse, Infallible> {
    connection.begin_answer();
    let response = answer(stage, request, peer, &connection).await;
    connection.begin_sending(matches!(response.body(), Either::Right(_)));
    Ok(response)
}

async fn answer(
    stage: Arc<PixelServer>,
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
    connection: &Connection,
) -> HttpResponse {
    let arrived = read_request(&request, peer.ip());
    stage.untrusted_proxy.notice(&arrived, stage.config.trusted_hops);
    if managed::is_managed(&arrived.path) {
        return managed::managed(stage, arrived, request.into_body(), connection).await;
    }
    if let Some(page) = page(&arrived) {
        return page;
    }
    if let Some(status) = status::status(&stage, &arrived).await {
        return status;
    }
    if let Some(page) = opt_out::answer(&arrived, &stage).await {
        return build_response(page);
    }
    let note = stage
        .access_log
        .as_ref()
        .map(|log| (log.clone(), AccessLogEntry::from_request(&arrived)));
    let answer = hits::capture_hit(Arc::clone(&stage), arrived).await;
    stage.answers.fetch_add(1, Ordering::Relaxed);
    if let Some((log, note)) = note {
        log.write(&note, &answer);
    }
    response(answer)
}

fn read_request(request: &hyper::Request<Incoming>, peer: IpAddr) -> HttpRequest {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    HttpRequest {
        method: request.method().as_str().to_owned(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        headers: request
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

/// The page that shows what was seen.
fn page(arrived: &HttpRequest) -> Option<HttpResponse> {
    let known = arrived.header("if-none-match");
    let reply = (arrived.path == "/").then(|| crate::api::page::answer(&arrived.method, known))?;
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

/// The last resort: the whole event as one line of JSON, from which it can be replayed.
fn log_undelivered(stage: &PixelServer, event: &Event, delivered: &Delivered, took: Duration) {
    let destination = stage.destination();
    let line = log_lines::log_line(
        event,
        delivered,
        &destination,
        u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    );
    print_message(&json_line(&line));
}
