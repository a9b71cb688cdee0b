//! Listens, hands each request to the function's handler, and stores the event.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, broadcast, mpsc};

use super::access_log::{AccessLog, Note};
use super::gateway::{Arrived, HttpAnswer, http_answer, payload};
use super::list::{self, List};
use super::manage::File;
use super::opt_out::{self, OptOuts};
use crate::aws::client::{Deliverer, secure_random};
use crate::aws::courier::{Way, settle};
use crate::capture::{self, Answer};
use crate::config::{Config, ReplyOrder};
use crate::delivery::counts::Counts;
use crate::delivery::sqlite::Store;
use crate::delivery::{Delivered, Failure, Ignored, Outcome};
use crate::event::Event;
use crate::geo::file::GeoFile;
use crate::hit::{self, Circumstances, takes_beacons};
use crate::manage::{self, Asked, Change, Followed, Manager, Place, Problem, Reply};
use crate::pixel::{Image, Pixel, Status};
use crate::privacy::Consent;
use crate::question::{AskError, Filter};
use crate::request::Ingress;
use crate::terminal::{json_line, printable, talk};

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
    Store {
        /// Stores.
        store: Store,
        /// Answers.
        file: File,
    },
    /// A server.
    Remote {
        /// Delivers.
        way: Arc<Way>,
        /// Deliveries at once; closed when none may begin any more.
        at_once: Semaphore,
    },
}

impl Sink {
    /// A file.
    pub fn store(store: Store) -> Self {
        Self::Store {
            file: File::of(&store.readers()),
            store,
        }
    }

    /// A remote destination.
    pub fn remote(way: Way) -> Self {
        Self::Remote {
            way: Arc::new(way),
            at_once: Semaphore::new(REMOTE_AT_ONCE),
        }
    }

    /// The index, when it is one.
    pub fn index(&self) -> Option<&Deliverer> {
        match self {
            Self::Remote { way, .. } => way.index(),
            Self::Store { .. } => None,
        }
    }

    async fn deliver(&self, event: &Arc<Event>, budget: Duration) -> Delivered {
        match self {
            Self::Store { store, .. } => Delivered {
                outcome: store.store(Arc::clone(event)).await,
                attempts: 1,
                breaker: "closed",
            },
            Self::Remote { way, at_once } => match at_once.acquire().await {
                Ok(_turn) => way.deliver(event, budget).await,
                Err(_closed) => Delivered::not_tried("the stage was stopped before it was this event's turn"),
            },
        }
    }

    /// Keeps what the destination has not taken.
    async fn keep(&self, event: &Arc<Event>, failure: &Failure, destination: &str, budget: Duration) -> Outcome {
        match self {
            Self::Store { store, .. } => settle(failure, store.store(Arc::clone(event)).await),
            Self::Remote { way, .. } => way.keep(event, failure, destination, budget).await,
        }
    }

    /// Why events cannot be stored now, as far as that is known without trying.
    fn trouble(&self) -> Option<&'static str> {
        match self {
            Self::Store { store, .. } => store.is_closed().then_some("the store's writer has stopped"),
            Self::Remote { way, .. } => {
                (way.breaker_state() != "closed").then_some("the circuit breaker of the destination is open")
            }
        }
    }

    /// Begins nothing more.
    fn stop(&self) {
        if let Self::Remote { at_once, .. } = self {
            at_once.close();
        }
    }
}

/// Where questions are answered.
#[derive(Clone)]
pub(super) enum Source {
    File(File),
    /// An index, or something that answers no questions.
    Remote(Arc<Way>),
}

impl Source {
    fn index(&self) -> Option<&Deliverer> {
        match self {
            Self::File(_) => None,
            Self::Remote(way) => way.index(),
        }
    }

    /// What came after a place.
    pub(super) async fn follow(&self, place: &Place, filter: &Filter) -> Result<Followed, AskError> {
        match (self, self.index()) {
            (Self::File(file), _) => manage::Store::follow(file, place, filter).await,
            (Self::Remote(_), Some(deliverer)) => manage::Store::follow(deliverer, place, filter).await,
            (Self::Remote(_), None) => Err(AskError::Unavailable("events go elsewhere".to_owned())),
        }
    }
}

/// One line of the stage's report: a hit and what became of it.
#[derive(Clone, Debug)]
pub struct Report {
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
pub struct Stage {
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
    pub reports: mpsc::Sender<Report>,
    /// Who is not to be counted.
    pub opt_outs: OptOuts,
    /// Where addresses are.
    pub geo: Option<GeoFile>,
    /// Lends a place to each event until its outcome is known.
    places: Arc<Semaphore>,
    /// Answers what is asked of the store.
    manager: Manager,
    /// By which hits are marked.
    list: List,
    /// Tells followers of events that were stored; none when the stage stops.
    followed: Mutex<Option<broadcast::Sender<Arc<Event>>>>,
}

/// Events that a follower may be behind before it has to ask the store for some.
const BEHIND: usize = 1024;

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
    if let Source::File(file) = stage.source() {
        // So that the first hit is marked, too. Where it fails, it is tried again.
        let _ = stage.list.refresh(&file, None).await;
    }
    let learning = {
        let stage = Arc::clone(&stage);
        tokio::spawn(async move { stage.learn().await })
    };
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
    learning.abort();
    // It lets go of the stage.
    let _ = learning.await;
    // Followers would hold the end up.
    stage.followed(Option::take);
    let patience = Duration::from_secs(5);
    let _ = tokio::time::timeout(patience, connections.shutdown()).await;
}

impl Stage {
    /// Makes a stage; it does not listen yet.
    pub fn new(config: Config, ingress: Ingress, sink: Sink, reports: mpsc::Sender<Report>) -> Self {
        let manager = Manager {
            keys: config.code_keys.clone(),
            tokens: config.tokens.clone(),
            random: secure_random,
            failures: manage::Failures::default(),
        };
        Self {
            list: List::default(),
            opt_outs: OptOuts::of(config.opt_out.clone()),
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
            places: Arc::new(Semaphore::new(UNDER_WAY as usize)),
            manager,
            followed: Mutex::new(Some(broadcast::Sender::new(BEHIND))),
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

    /// With a note of each answer.
    #[must_use]
    pub fn with_access_log(mut self, log: Option<AccessLog>) -> Self {
        self.access_log = log;
        self
    }

    /// Delivers an event; where there is a fallback, part of the budget is kept for it.
    async fn deliver(&self, event: &Arc<Event>) -> Delivered {
        let timing = &self.config.timing;
        let budget = timing.budget;
        let kept = match self.fallback {
            Some(_) => timing.attempt.min(budget / 2),
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
    async fn learn(&self) {
        let mut since = None;
        loop {
            let source = self.source();
            let learnt = match (&source, source.index()) {
                (Source::File(file), _) => self.list.refresh(file, since).await,
                (Source::Remote(_), Some(deliverer)) => self.list.refresh(deliverer, since).await,
                (Source::Remote(_), None) => return,
            };
            drop(source);
            // A store that is away is asked again.
            since = learnt.unwrap_or(since);
            tokio::time::sleep(list::INTERVAL).await;
        }
    }

    fn source(&self) -> Source {
        match &self.sink {
            Sink::Store { file, .. } => Source::File(file.clone()),
            Sink::Remote { way, .. } => Source::Remote(Arc::clone(way)),
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
    pub fn apart(self) -> (Vec<Sink>, mpsc::Sender<Report>) {
        let sinks = std::iter::once(self.sink).chain(self.fallback);
        (sinks.collect(), self.reports)
    }

    /// Waits until every event that was accepted has its outcome. What has not had its turn when the budget is over is
    /// logged whole; what has ends with its own budget.
    pub async fn drain(&self) {
        let budget = self.config.timing.budget;
        let all_back = || self.places.acquire_many(UNDER_WAY);
        if tokio::time::timeout(budget, all_back()).await.is_ok() {
            return;
        }
        self.sink.stop();
        let _ = tokio::time::timeout(budget + LAST_WORDS, all_back()).await;
    }

    /// Tells what became of an event; one that was not delivered is logged whole.
    fn conclude(&self, arrived: &Arrived, event: Arc<Event>, delivered: Delivered, took: Duration) {
        if let Outcome::Failed(_) = delivered.outcome {
            log_undelivered(self, &event, &delivered, took);
        }
        if delivered.outcome == Outcome::Indexed {
            // Without followers nobody takes it.
            let _ = self.followed(|followed| followed.as_ref().map(|sender| sender.send(Arc::clone(&event))));
        }
        self.report(arrived, delivered.outcome, Some(event));
    }

    fn report(&self, arrived: &Arrived, outcome: Outcome, event: Option<Arc<Event>>) {
        self.count(&outcome);
        if self.reports.is_closed() {
            return;
        }
        let note = Note::of(arrived);
        let request = format!("{} {}", note.method, note.resource);
        let _ = self.reports.try_send(Report {
            time: arrived.time,
            request,
            outcome,
            event,
        });
    }
}

type HttpResponse = hyper::Response<Either<Full<Bytes>, Channel<Bytes, Infallible>>>;

async fn answer(
    stage: Arc<Stage>,
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
) -> Result<HttpResponse, Infallible> {
    let mut arrived = arrive(&request, peer.ip());
    if is_managed(&arrived.path) {
        let body = Limited::new(request.into_body(), manage::BODY_BYTES + 1)
            .collect()
            .await;
        // One that is too long, or was broken off, is no JSON; the answer says what a body may be.
        arrived.body = Some(body.map_or_else(|_| vec![b' '; manage::BODY_BYTES + 1], |body| body.to_bytes().to_vec()));
        return Ok(managed(stage, arrived).await);
    }
    if let Some(page) = page(&arrived).or_else(|| status(&stage, &arrived)) {
        return Ok(page);
    }
    if let Some(page) = opt_out::answer(
        &arrived,
        &stage.opt_outs,
        stage.config.policy.signal,
        stage.sink.index(),
    )
    .await
    {
        return Ok(of_reply(page));
    }
    let note = stage.access_log.as_ref().map(|log| (log.clone(), Note::of(&arrived)));
    let answer = capture_hit(Arc::clone(&stage), arrived).await;
    stage.answers.fetch_add(1, Ordering::Relaxed);
    if let Some((log, note)) = note {
        log.write(&note, &answer);
    }
    Ok(response(answer))
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

/// Whether a path is one of codes and statistics. Where it could be both, it is a pixel's.
fn is_managed(path: &str) -> bool {
    manage::below(path).is_some_and(|(_, rest)| rest.contains('/') || hit::route(path).is_none())
}

/// Answers what is asked of the store.
async fn managed(stage: Arc<Stage>, arrived: Arrived) -> HttpResponse {
    let cors = stage.config.cors_origin.clone();
    let with_cors = |mut response: HttpResponse| {
        if let Some(origin) = cors.as_deref().and_then(|origin| HeaderValue::try_from(origin).ok()) {
            let headers = response.headers_mut();
            headers.insert("access-control-allow-origin", origin);
            headers.insert("vary", HeaderValue::from_static("Origin"));
        }
        response
    };
    if arrived.method == "OPTIONS" && cors.is_some() {
        let headers = vec![
            ("access-control-allow-methods", "GET, POST, PATCH, DELETE".to_owned()),
            ("access-control-allow-headers", "authorization, content-type".to_owned()),
            ("access-control-max-age", "600".to_owned()),
        ];
        let body = String::new();
        return with_cors(of_reply(Reply {
            status: 204,
            headers,
            body,
        }));
    }
    let follows = arrived
        .header("accept")
        .is_some_and(|accept| accept.contains("text/event-stream"));
    // Whoever was away goes on where it was.
    let was_at = arrived.header("last-event-id").unwrap_or_default().to_owned();
    let follows = follows.then_some(was_at);
    let asked = asked(&stage, arrived);
    let source = stage.source();
    let (reply, reason) = match (&source, source.index()) {
        (Source::File(file), _) => answer_from(&stage, &asked, follows, file).await,
        (Source::Remote(_), Some(deliverer)) => answer_from(&stage, &asked, follows, deliverer).await,
        (Source::Remote(_), None) => {
            let elsewhere = Problem::NotFound("events go to a queue or a stream: ask where they are brought to");
            (of_reply(elsewhere.reply()), None)
        }
    };
    if let Some(reason) = reason {
        talk(&format!(
            "could not answer {} {}: {}",
            asked.method,
            printable(&asked.path, 60),
            printable(&reason, 300)
        ));
    }
    with_cors(reply)
}

/// Answers from a store, or begins to send events as they come.
async fn answer_from(
    stage: &Stage,
    asked: &Asked,
    follows: Option<String>,
    store: &impl manage::Store,
) -> (HttpResponse, Option<String>) {
    let now = Utc::now();
    if let Some(was_at) = follows.filter(|_| asked.path == "events" && asked.method == "GET") {
        return match stage.manager.may_follow(asked, &was_at, store, now).await {
            Ok((place, filter)) => (follow(stage, place, filter), None),
            Err(problem) => (of_reply(problem.reply()), None),
        };
    }
    let (reply, reason) = stage.manager.answer(asked, store, now).await;
    if let Some((change, code)) = changed(asked, &reply) {
        stage.list.note(change, &code);
    }
    (of_reply(reply), reason)
}

/// What an answer has done with a code.
fn changed(asked: &Asked, reply: &Reply) -> Option<(Change, String)> {
    let member = |name: &str| {
        let body: serde_json::Value = serde_json::from_str(&reply.body).ok()?;
        Some(body.get(name)?.as_str()?.to_owned())
    };
    match (asked.method.as_str(), asked.path.as_str(), reply.status) {
        ("DELETE", path, 200) => Some((Change::Revoked, path.strip_prefix("codes/")?.to_owned())),
        ("POST", "codes", 201) => Some((Change::Listed, member("code")?)),
        (_, "gen-image", 200) => Some((Change::Listed, member("unique_code")?)),
        _ => None,
    }
}

fn asked(stage: &Stage, arrived: Arrived) -> Asked {
    let (before, rest) = manage::below(&arrived.path).unwrap_or_default();
    let base = stage.config.public_url.clone().unwrap_or_else(|| {
        let secure = arrived
            .header("x-forwarded-proto")
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
        let host = arrived.header("host").unwrap_or_default();
        format!("{}://{host}{before}", if secure { "https" } else { "http" })
    });
    Asked {
        method: if arrived.method == "HEAD" {
            "GET".to_owned()
        } else {
            arrived.method.clone()
        },
        path: crate::request::decode_text(rest, &mut Vec::new()),
        query: arrived.decoded_query(),
        authorization: arrived.header("authorization").map(ToOwned::to_owned),
        base,
        peer: arrived.peer,
        authorized: false,
        body: arrived.body.unwrap_or_default(),
    }
}

fn of_reply(reply: Reply) -> HttpResponse {
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

/// Sends every event that is stored after a place, or from now on, as server-sent events.
fn follow(stage: &Stage, place: Place, filter: Filter) -> HttpResponse {
    let (sender, body) = Channel::new(16);
    if let Some(events) = stage.followed(|followed| followed.as_ref().map(broadcast::Sender::subscribe)) {
        tokio::spawn(super::follow::follow(stage.source(), place, filter, events, sender));
    }
    let headers = vec![
        ("content-type", "text/event-stream".to_owned()),
        ("cache-control", "no-store".to_owned()),
    ];
    let reply = Reply {
        status: 200,
        headers,
        body: String::new(),
    };
    of_reply(reply).map(|_| Either::Right(body))
}

async fn capture_hit(stage: Arc<Stage>, arrived: Arrived) -> HttpAnswer {
    let config = &stage.config;
    let cors = config.cors_origin.as_deref();
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
            let place = |address| stage.geo.as_ref().map(|geo| geo.place(address)).unwrap_or_default();
            let listing = |code: &str| stage.list.standing(code);
            let event = capture::event_known(*request, &circumstances, &stage.config, place, listing);
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
    let config = &stage.config;
    let opt_out = stage.opt_outs.read();
    let consent = Consent {
        opt_out: &opt_out,
        ..config.consent()
    };
    capture::guarded(payload, || capture::answer_under(payload, config, consent))
}

/// The methods that the deployed non-proxy API declares; the other ingresses hand every method to the function.
fn allowed(ingress: Ingress, arrived: &Arrived) -> bool {
    let beacon = arrived.method == "POST" && takes_beacons(&arrived.path);
    ingress != Ingress::Passthrough || beacon || matches!(arrived.method.as_str(), "GET" | "HEAD")
}

/// What the deployed API answers by itself: unknown paths and methods, with the image all the same.
fn refuse(stage: &Stage, arrived: &Arrived) -> HttpAnswer {
    let known = super::gateway::resource(&arrived.path);
    let image = known.as_ref().map_or(Image::Gif, |(resource, ..)| resource.image());
    let (status, why) = match (known, arrived.method.as_str()) {
        (None, _) => (Status::NotFound, Ignored::UnknownPath),
        (Some(_), "OPTIONS") => (Status::NoContent, Ignored::Preflight),
        (Some(_), _) => (Status::MethodNotAllowed, Ignored::WrongMethod),
    };
    let mut pixel = Pixel::new(status, image, capture::explain(why)).with_cors(stage.config.cors_origin.as_deref());
    if why != Ignored::UnknownPath {
        pixel.headers.push(("Allow", capture::methods(&arrived.path).into()));
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
        (Sink::Store { .. }, _) => COMMIT_PATIENCE,
        (Sink::Remote { .. }, ReplyOrder::AfterIndexing) => stage.config.timing.budget,
        (Sink::Remote { .. }, ReplyOrder::First) => Duration::ZERO,
    };
    // Taken before the answer, so that a stop waits for what was answered.
    let Ok(place) = Arc::clone(&stage.places).try_acquire_owned() else {
        let reason = format!("{UNDER_WAY} events are waiting for the destination already");
        stage.conclude(&arrived, event, Delivered::not_tried(reason), Duration::ZERO);
        return Err(Late);
    };
    let work = tokio::spawn(async move {
        let begun = Instant::now();
        let delivered = stage.deliver(&event).await;
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
    let destination = stage.destination();
    let line = capture::log_line(
        event,
        delivered,
        &destination,
        u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    );
    talk(&json_line(&line));
}

fn whole(body: impl Into<Bytes>) -> Either<Full<Bytes>, Channel<Bytes, Infallible>> {
    Either::Left(Full::new(body.into()))
}

fn response(answer: HttpAnswer) -> HttpResponse {
    let mut response = HttpResponse::new(whole(answer.body));
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

/// What monitors ask: `/health` (the process answers), `/ready` (events can be stored), `/metrics` (Prometheus).
fn status(stage: &Stage, arrived: &Arrived) -> Option<HttpResponse> {
    if !matches!(arrived.method.as_str(), "GET" | "HEAD") {
        return None;
    }
    let (status, media, text) = match arrived.path.as_str() {
        "/health" => (200, "application/json", json!({"status": "ok"}).to_string()),
        "/ready" => match stage.sink.trouble() {
            None => (200, "application/json", json!({"status": "ready"}).to_string()),
            Some(reason) => {
                let text = json!({"status": "not ready", "reason": reason}).to_string();
                (503, "application/json", text)
            }
        },
        "/metrics" => (200, "text/plain; version=0.0.4; charset=utf-8", metrics(stage)),
        _ => return None,
    };
    Some(response(HttpAnswer {
        status,
        headers: vec![
            ("Content-Type".to_owned(), media.to_owned()),
            ("Cache-Control".to_owned(), "no-store".to_owned()),
        ],
        body: text.into_bytes(),
    }))
}

/// The metrics in Prometheus' text format.
fn metrics(stage: &Stage) -> String {
    use std::fmt::Write;
    let mut text =
        String::from("# HELP pixel_hits_total Requests by what became of them.\n# TYPE pixel_hits_total counter\n");
    // Writing to a string cannot fail.
    for (outcome, count) in stage.counts().iter() {
        let _ = writeln!(text, "pixel_hits_total{{outcome=\"{outcome}\"}} {count}");
    }
    let answers = stage.answers.load(Ordering::Relaxed);
    let under_way = UNDER_WAY as usize - stage.places.available_permits();
    let ready = u8::from(stage.sink.trouble().is_none());
    let started = stage.started.timestamp();
    for (name, kind, help, value) in [
        (
            "pixel_answers_total",
            "counter",
            "Answers, all of them images but the script.",
            answers.to_string(),
        ),
        (
            "pixel_events_under_way",
            "gauge",
            "Events whose outcome is not known yet.",
            under_way.to_string(),
        ),
        (
            "pixel_ready",
            "gauge",
            "1 while events can be stored.",
            ready.to_string(),
        ),
        (
            "pixel_start_time_seconds",
            "gauge",
            "When the process started, in seconds since 1970.",
            started.to_string(),
        ),
    ] {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    }
    text
}

/// The page that shows what was seen.
fn page(arrived: &Arrived) -> Option<HttpResponse> {
    let known = arrived.header("if-none-match");
    let reply = (arrived.path == "/").then(|| crate::page::answer(&arrived.method, known))?;
    reply.map(of_reply)
}
