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
use crate::hit::pixel::{Image, Pixel, Status};
use crate::hit::privacy::Consent;
use crate::hit::read::{RequestContext, takes_beacons};
use crate::hit::request::Ingress;
use crate::hit::request::http_request::HttpRequest;
use crate::server::gateway;
use crate::server::gateway::{HttpAnswer, http_answer, payload};

/// The visitor waits no longer than this for the store's commit.
const COMMIT_TIMEOUT: Duration = Duration::from_millis(500);

pub(super) async fn capture_hit(stage: Arc<PixelServer>, arrived: HttpRequest) -> HttpAnswer {
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
            let circumstances = RequestContext {
                now: Utc::now(),
                invocation: arrived.id.clone(),
                trusted_hops: stage.config.trusted_hops,
            };
            let place = |address| stage.geo.as_ref().map(|geo| geo.place(address)).unwrap_or_default();
            let status = |code: &str| stage.list.status(code);
            let event = answer::event_known(*request, &circumstances, &stage.config, place, status);
            let mut answer = http_answer(stage.ingress, &arrived, &reply, cors);
            if store(stage, arrived, Arc::new(event)).await.is_err() {
                answer.set_outcome("accepted; not yet stored");
            }
            answer
        }
        Answer::Ignored { reply, why, .. } => {
            let mut answer = http_answer(stage.ingress, &arrived, &reply, cors);
            // The reply to a non-proxy API carries no headers, and the deployed API's own are the same for all hits.
            answer.set_outcome(&answer::explain_ignored(why));
            stage.report(&arrived, Outcome::Ignored(why), None);
            answer
        }
        // The stage makes no payload that is not a request.
        Answer::Refused(_) => refuse(&stage, &arrived),
    }
}

/// The answer to a payload, by what is known now of who has opted out.
fn accept(stage: &PixelServer, payload: &[u8]) -> Answer {
    let config = &stage.config;
    let consent = Consent {
        opt_out: &stage.opt_outs,
        ..config.consent()
    };
    answer::catch_panic(payload, || answer::answer_under(payload, config, consent))
}

/// The methods that the deployed non-proxy API declares; the other ingresses hand every method to the function.
fn allowed(ingress: Ingress, arrived: &HttpRequest) -> bool {
    let beacon = arrived.method == "POST" && takes_beacons(&arrived.path);
    ingress != Ingress::Passthrough || beacon || matches!(arrived.method.as_str(), "GET" | "HEAD")
}

/// What the deployed API answers by itself: unknown paths and methods, with the image all the same.
fn refuse(stage: &PixelServer, arrived: &HttpRequest) -> HttpAnswer {
    let known = gateway::resource(&arrived.path);
    let image = known.as_ref().map_or(Image::Gif, |(resource, ..)| resource.image());
    let (status, why) = match (known, arrived.method.as_str()) {
        (None, _) => (Status::NotFound, Ignored::UnknownPath),
        (Some(_), "OPTIONS") => (Status::NoContent, Ignored::Preflight),
        (Some(_), _) => (Status::MethodNotAllowed, Ignored::WrongMethod),
    };
    let mut pixel =
        Pixel::new(status, image, answer::explain_ignored(why)).with_cors(stage.config.cors_origin.as_deref());
    if why != Ignored::UnknownPath {
        pixel
            .headers
            .push(("Allow", answer::allowed_methods(&arrived.path).into()));
    }
    if arrived.method == "HEAD" {
        pixel.body = false;
    }
    stage.report(arrived, Outcome::Ignored(why), None);
    HttpAnswer::from_pixel(&pixel)
}

/// The visitor was waiting for the store for too long, or in vain.
struct NotYetStored;

/// Stores the event: a file before the answer, a remote destination in the configured order.
async fn store(stage: Arc<PixelServer>, arrived: HttpRequest, event: Arc<Event>) -> Result<(), NotYetStored> {
    let patience = match (&stage.sink, stage.config.reply) {
        (Sink::Store { .. }, _) => COMMIT_TIMEOUT,
        (Sink::Remote { .. }, ReplyOrder::AfterIndexing) => stage.config.timing.budget,
        (Sink::Remote { .. }, ReplyOrder::First) => Duration::ZERO,
    };
    // Taken before the answer, so that a stop waits for what was answered.
    let Ok(place) = Arc::clone(&stage.places).try_acquire_owned() else {
        let reason = format!("{MAX_PENDING_EVENTS} events are waiting for the destination already");
        stage.record_outcome(&arrived, event, Delivered::not_tried(reason), Duration::ZERO);
        return Err(NotYetStored);
    };
    let work = tokio::spawn(async move {
        let begun = Instant::now();
        let delivered = stage.deliver(&event).await;
        let failed = matches!(delivered.outcome, Outcome::Failed(_));
        stage.record_outcome(&arrived, event, delivered, begun.elapsed());
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
        _ => Err(NotYetStored),
    }
}
