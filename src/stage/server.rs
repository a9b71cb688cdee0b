//! Listens, hands each request to the function's handler, and stores the event.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

use super::gateway::{Arrived, HttpAnswer, http_answer, payload};
use super::opt_out::{self, OptOuts};
use crate::aws::client::Deliverer;
use crate::capture::{self, Answer};
use crate::config::{Config, ReplyOrder};
use crate::delivery::sqlite::Store;
use crate::delivery::{Delivered, Failure, Ignored, Outcome};
use crate::event::Event;
use crate::geo::file::GeoFile;
use crate::hit::Circumstances;
use crate::pixel::{Image, Pixel};
use crate::privacy::Consent;
use crate::request::Ingress;
use crate::terminal::{json_line, talk};

/// Deliveries under way to a remote destination at the same time.
const REMOTE_AT_ONCE: usize = 32;

/// Events whose outcome may be unknown at the same time; beyond, they go to the log at once.
const UNDER_WAY: u32 = 10_000;

/// What is under way gets so much longer than the budget to be logged when the stage stops.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The visitor waits no longer than this for the store's commit.
const COMMIT_PATIENCE: Duration = Duration::from_millis(500);

/// Where the stage's events go.
#[derive(Debug)]
pub enum Sink {
    /// A file; the answer waits for the commit, which takes about a millisecond.
    Store(Store),
    /// A server.
    Remote {
        /// Delivers.
        deliverer: Box<Deliverer>,
        /// Deliveries at once; closed when none may begin any more.
        at_once: Semaphore,
    },
}

impl Sink {
    /// A remote destination.
    pub fn remote(deliverer: Deliverer) -> Self {
        Self::Remote {
            deliverer: Box::new(deliverer),
            at_once: Semaphore::new(REMOTE_AT_ONCE),
        }
    }

    async fn deliver(&self, event: &Arc<Event>, budget: Duration) -> Delivered {
        match self {
            Self::Store(store) => Delivered {
                outcome: store.store(Arc::clone(event)).await,
                attempts: 1,
                breaker: "closed",
            },
            Self::Remote { deliverer, at_once } => match at_once.acquire().await {
                Ok(_turn) => deliverer.deliver(event, budget).await,
                Err(_closed) => not_tried("the stage was stopped before it was this event's turn"),
            },
        }
    }
}

fn not_tried(reason: impl Into<String>) -> Delivered {
    let failure = Failure {
        reason: reason.into(),
        temporary: true,
    };
    Delivered {
        outcome: Outcome::Failed(failure),
        attempts: 0,
        breaker: "closed",
    }
}

/// One line of the stage's report: a hit and what became of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// When it arrived.
    pub time: chrono::DateTime<Utc>,
    /// The request line's method and path.
    pub request: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The event when there is one.
    pub event: Option<Arc<Event>>,
}

/// The stage.
#[derive(Debug)]
pub struct Stage {
    /// The configuration of the handler.
    pub config: Config,
    /// Which payload the function is given.
    pub ingress: Ingress,
    /// Where events go.
    pub sink: Sink,
    /// Takes reports; when it is full or nobody reads it, reports are dropped, never hits.
    pub reports: mpsc::Sender<Report>,
    /// Who is not to be counted.
    pub opt_outs: OptOuts,
    /// Where addresses are.
    pub geo: Option<GeoFile>,
    /// Lends a place to each event until its outcome is known.
    places: Arc<Semaphore>,
}

/// Serves until `stop` resolves, then finishes what was begun.
///
/// # Errors
///
/// When the listener fails for good.
pub async fn serve(stage: Arc<Stage>, listener: TcpListener, stop: impl Future<Output = ()>) {
    let connections = GracefulShutdown::new();
    let mut server = hyper::server::conn::http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30))
        .max_headers(1000)
        .max_buf_size(256 * 1024);
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors, most likely: let some connections end.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        // Answers are small and must not wait for the client's acknowledgement.
        let _ = stream.set_nodelay(true);
        let stage = Arc::clone(&stage);
        let service = service_fn(move |request| answer(Arc::clone(&stage), request, peer));
        let connection = connections.watch(server.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // A visitor who goes away in the middle is no fault of ours.
            let _ = connection.await;
        });
    }
    drop(listener);
    let patience = Duration::from_secs(5);
    let _ = tokio::time::timeout(patience, connections.shutdown()).await;
}

impl Stage {
    /// Makes a stage; it does not listen yet.
    pub fn new(config: Config, ingress: Ingress, sink: Sink, reports: mpsc::Sender<Report>) -> Self {
        Self {
            opt_outs: OptOuts::of(config.opt_out.clone()),
            geo: None,
            config,
            ingress,
            sink,
            reports,
            places: Arc::new(Semaphore::new(UNDER_WAY as usize)),
        }
    }

    /// Waits until every event that was accepted has its outcome. What has not had its turn when the budget is over is
    /// logged whole; what has ends with its own budget.
    pub async fn drain(&self) {
        let budget = self.config.timing.budget;
        let all_back = || self.places.acquire_many(UNDER_WAY);
        if tokio::time::timeout(budget, all_back()).await.is_ok() {
            return;
        }
        if let Sink::Remote { at_once, .. } = &self.sink {
            at_once.close();
        }
        let _ = tokio::time::timeout(budget + LAST_WORDS, all_back()).await;
    }

    /// Tells what became of an event; one that was not delivered is logged whole.
    fn conclude(&self, arrived: &Arrived, event: Arc<Event>, delivered: Delivered, took: Duration) {
        if let Outcome::Failed(_) = delivered.outcome {
            log_undelivered(self, &event, &delivered, took);
        }
        self.report(arrived, delivered.outcome, Some(event));
    }

    fn report(&self, arrived: &Arrived, outcome: Outcome, event: Option<Arc<Event>>) {
        if self.reports.is_closed() {
            return;
        }
        let request = format!("{} {}", arrived.method, arrived.path);
        let _ = self.reports.try_send(Report {
            time: arrived.time,
            request,
            outcome,
            event,
        });
    }
}

type HttpResponse = hyper::Response<Full<Bytes>>;

async fn answer(
    stage: Arc<Stage>,
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
) -> Result<HttpResponse, Infallible> {
    let arrived = arrive(&request, peer.ip());
    if let Some(page) = page(&arrived).or_else(|| opt_out::answer(&arrived, &stage.opt_outs)) {
        return Ok(page);
    }
    Ok(response(capture_hit(stage, arrived).await))
}

fn arrive(request: &hyper::Request<Incoming>, peer: IpAddr) -> Arrived {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Arrived {
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

async fn capture_hit(stage: Arc<Stage>, arrived: Arrived) -> HttpAnswer {
    let cors = stage.config.cors_origin.as_deref();
    let Some(payload) = allowed(stage.ingress, &arrived)
        .then(|| payload(stage.ingress, &arrived))
        .flatten()
    else {
        return refuse(&stage, &arrived);
    };
    match accept(&stage, &payload) {
        Answer::Accepted { reply, request } => {
            let circumstances = Circumstances {
                now: Utc::now(),
                invocation: arrived.id.clone(),
                trusted_hops: stage.config.trusted_hops,
            };
            let event = capture::event_placed(*request, &circumstances, &stage.config, |address| {
                stage.geo.as_ref().map(|geo| geo.place(address)).unwrap_or_default()
            });
            let mut answer = http_answer(stage.ingress, &arrived, &reply, cors);
            let late = store(stage, arrived, Arc::new(event)).await.is_err();
            if late
                && let Some((_, value)) = answer
                    .headers
                    .iter_mut()
                    .find(|(name, _)| name.eq_ignore_ascii_case("x-pixel"))
            {
                "accepted; not yet stored".clone_into(value);
            }
            answer
        }
        Answer::Ignored { reply, why, .. } => {
            let answer = http_answer(stage.ingress, &arrived, &reply, cors);
            stage.report(&arrived, Outcome::Ignored(why), None);
            answer
        }
        // The stage makes no payload that is not a request.
        Answer::Refused(_) => refuse(&stage, &arrived),
    }
}

/// The answer to a payload, by what is known now of who has opted out.
fn accept(stage: &Stage, payload: &[u8]) -> Answer {
    let cors = stage.config.cors_origin.as_deref();
    let opt_out = stage.opt_outs.read();
    let consent = Consent {
        opt_out: &opt_out,
        ..stage.config.consent()
    };
    capture::guarded(payload, || capture::answer(payload, cors).under(consent, cors))
}

/// The methods that the deployed non-proxy API declares; the other ingresses hand every method to the function.
fn allowed(ingress: Ingress, arrived: &Arrived) -> bool {
    ingress != Ingress::Passthrough || matches!(arrived.method.as_str(), "GET" | "HEAD")
}

/// What the deployed API answers by itself: unknown paths and methods, with the image all the same.
fn refuse(stage: &Stage, arrived: &Arrived) -> HttpAnswer {
    let known = super::gateway::resource(&arrived.path);
    let image = known.as_ref().map_or(Image::Gif, |(resource, ..)| resource.image);
    let (status, why) = match (known, arrived.method.as_str()) {
        (None, _) => (404, Ignored::UnknownPath),
        (Some(_), "OPTIONS") => (204, Ignored::Preflight),
        (Some(_), _) => (405, Ignored::WrongMethod),
    };
    let mut pixel = Pixel::new(status, image, capture::explain(why)).with_cors(stage.config.cors_origin.as_deref());
    if why != Ignored::UnknownPath {
        pixel.headers.push(("Allow", "GET, HEAD, OPTIONS".into()));
    }
    if arrived.method == "HEAD" {
        pixel.body = false;
    }
    stage.report(arrived, Outcome::Ignored(why), None);
    HttpAnswer::of(&pixel)
}

/// The visitor was waiting for the store for too long, or in vain.
struct Late;

/// Stores the event: a file before the answer, a remote destination in the configured order.
async fn store(stage: Arc<Stage>, arrived: Arrived, event: Arc<Event>) -> Result<(), Late> {
    let patience = match (&stage.sink, stage.config.reply) {
        (Sink::Store(_), _) => COMMIT_PATIENCE,
        (Sink::Remote { .. }, ReplyOrder::AfterIndexing) => stage.config.timing.budget,
        (Sink::Remote { .. }, ReplyOrder::First) => Duration::ZERO,
    };
    // Taken before the answer, so that a stop waits for what was answered.
    let Ok(place) = Arc::clone(&stage.places).try_acquire_owned() else {
        let reason = format!("{UNDER_WAY} events are waiting for the destination already");
        stage.conclude(&arrived, event, not_tried(reason), Duration::ZERO);
        return Err(Late);
    };
    let work = tokio::spawn(async move {
        let begun = Instant::now();
        let delivered = stage.sink.deliver(&event, stage.config.timing.budget).await;
        let failed = matches!(delivered.outcome, Outcome::Failed(_));
        stage.conclude(&arrived, event, delivered, begun.elapsed());
        // Whoever waits for the place may take the stage apart.
        drop(stage);
        drop(place);
        failed
    });
    if patience.is_zero() {
        return Ok(());
    }
    match tokio::time::timeout(patience, work).await {
        Ok(Ok(false)) => Ok(()),
        _ => Err(Late),
    }
}

/// The last resort: the whole event as one line of JSON, from which it can be replayed.
fn log_undelivered(stage: &Stage, event: &Event, delivered: &Delivered, took: Duration) {
    let destination = stage
        .config
        .destination
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    let line = capture::log_line(
        event,
        delivered,
        &destination,
        u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    );
    talk(&json_line(&line));
}

fn response(answer: HttpAnswer) -> HttpResponse {
    let mut response = HttpResponse::new(Full::new(Bytes::from(answer.body)));
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

/// The page to open after the first start: it shows the image as a page of the owner would.
fn page(arrived: &Arrived) -> Option<HttpResponse> {
    if arrived.path != "/" || arrived.method != "GET" {
        return None;
    }
    let mut response = HttpResponse::new(Full::new(Bytes::from_static(include_bytes!("welcome.html"))));
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, html);
    Some(response)
}
