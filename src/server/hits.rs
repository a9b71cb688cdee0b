//! Hits: a request becomes the image and a stored event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;

use super::{MAX_PENDING_EVENTS, PixelServer, Sink};
use crate::config::ReplyOrder;
use crate::hit::answer;
use crate::hit::answer::Answer;
use crate::hit::event::Event;
use crate::hit::outcome::{Delivered, Ignored, Outcome};
use crate::hit::pixel::{Image, Pixel};
use crate::hit::read::{RequestContext, takes_beacons};
use crate::hit::request::http_request::HttpRequest;
use crate::hit::request::{Ingress, Request};
use crate::hit::settings::Lookups;
use crate::server::gateway;
use crate::server::gateway::{HttpAnswer, http_answer, payload};

/// The longest time a visitor waits for the store's commit.
const COMMIT_TIMEOUT: Duration = Duration::from_millis(500);

pub(super) async fn capture_hit(server: Arc<PixelServer>, request: HttpRequest) -> HttpAnswer {
    let config = &server.config;
    let cors = config.cors_origin.as_deref();
    let Some(payload) = is_passed_on(server.ingress, &request)
        .then(|| payload(server.ingress, &request))
        .flatten()
    else {
        return refuse(&server, &request);
    };
    match accept(&server, &payload) {
        Answer::Accepted {
            reply,
            request: hit_request,
        } => {
            let context = RequestContext {
                now: Utc::now(),
                invocation: request.id.clone(),
                trusted_hops: server.config.trusted_hops,
            };
            let event = build_event(&server, *hit_request, &context);
            let mut answer = http_answer(server.ingress, &request, &reply, cors);
            if store(server, request, Arc::new(event)).await.is_err() {
                answer.set_outcome("accepted; not yet stored");
            }
            answer
        }
        Answer::Ignored { reply, why, .. } => {
            let mut answer = http_answer(server.ingress, &request, &reply, cors);
            // The reply to a non-proxy API has no headers, and the deployed API's own headers are the same for all
            // hits.
            answer.set_outcome(&answer::explain_ignored(why));
            server.report(&request, Outcome::Ignored(why), None);
            answer
        }
        // The server makes no payload that is not a request.
        Answer::Refused(_) => refuse(&server, &request),
    }
}

fn build_event(server: &PixelServer, request: Request, context: &RequestContext) -> Event {
    let lookups = Lookups {
        place: &|address| server.geo.as_ref().map(|geo| geo.place(address)).unwrap_or_default(),
        code_status: &|code| server.list.status(code),
    };
    answer::build_event(request, context, &server.config.settings(), &lookups)
}

/// Answers a payload under the opt-outs that are known now.
fn accept(server: &PixelServer, payload: &[u8]) -> Answer {
    let mut settings = server.config.settings();
    settings.consent.opt_out = &server.opt_outs;
    answer::catch_panic(payload, || answer::answer(payload, &settings))
}

/// Returns true if the ingress passes the method to the function. The deployed non-proxy API declares its methods; the
/// other ingresses pass all of them.
fn is_passed_on(ingress: Ingress, request: &HttpRequest) -> bool {
    let beacon = request.method == "POST" && takes_beacons(&request.path);
    ingress != Ingress::Passthrough || beacon || matches!(request.method.as_str(), "GET" | "HEAD")
}

/// Answers unknown paths and methods with the image, as the deployed API does without the function.
fn refuse(server: &PixelServer, request: &HttpRequest) -> HttpAnswer {
    let known = gateway::resource(&request.path);
    let image = known.as_ref().map_or(Image::Gif, |(resource, ..)| resource.image());
    let (status, ignored) = answer::decide_status(known.is_some(), &request.method, &request.path);
    let why = ignored.unwrap_or(Ignored::WrongMethod);
    let mut pixel =
        Pixel::new(status, image, answer::explain_ignored(why)).with_cors(server.config.cors_origin.as_deref());
    if why != Ignored::UnknownPath {
        pixel
            .headers
            .push(("Allow", answer::allowed_methods(&request.path).into()));
    }
    if request.method == "HEAD" {
        pixel.body = false;
    }
    server.report(request, Outcome::Ignored(why), None);
    HttpAnswer::from_pixel(&pixel)
}

/// The error for an event that was not stored before the response.
struct NotYetStored;

/// Stores the event: in a file before the response, in a remote destination in the configured order.
async fn store(server: Arc<PixelServer>, request: HttpRequest, event: Arc<Event>) -> Result<(), NotYetStored> {
    let timeout = match (&server.sink, server.config.reply) {
        (Sink::Store { .. }, _) => COMMIT_TIMEOUT,
        (Sink::Remote { .. }, ReplyOrder::AfterIndexing) => server.config.timing.budget,
        (Sink::Remote { .. }, ReplyOrder::First) => Duration::ZERO,
    };
    // Acquired before the response, so that a shutdown waits for every accepted event.
    let Ok(permit) = Arc::clone(&server.permits).try_acquire_owned() else {
        let reason = format!("{MAX_PENDING_EVENTS} events are waiting for the destination already");
        server.record_outcome(&request, event, Delivered::not_tried(reason), Duration::ZERO);
        return Err(NotYetStored);
    };
    let work = tokio::spawn(async move {
        let started = Instant::now();
        let delivered = server.deliver(&event).await;
        let failed = matches!(delivered.outcome, Outcome::Failed(_));
        server.record_outcome(&request, event, delivered, started.elapsed());
        // The task that waits for the permit may take the server apart.
        drop(server);
        drop(permit);
        failed
    });
    if timeout.is_zero() {
        return Ok(());
    }
    match tokio::time::timeout(timeout, work).await {
        Ok(Ok(false)) => Ok(()),
        _ => Err(NotYetStored),
    }
}
