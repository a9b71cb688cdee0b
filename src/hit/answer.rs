//! Turns a request into the pixel and an event.
//!
//! Everything here is a function of its arguments; the callers wait and connect.

use std::panic::{UnwindSafe, catch_unwind};

use crate::hit::enrich::{EnrichContext, Enriched};
use crate::hit::event::Event;
use crate::hit::outcome::Ignored;
use crate::hit::pixel::{Image, Pixel, Status};
use crate::hit::privacy;
use crate::hit::read::{Hit, RequestContext, Route, asks_for_script, is_health_check, request_route, takes_beacons};
use crate::hit::request::{DecodeError, Ingress, Request};
use crate::hit::settings::{Lookups, Settings};

/// The result of handling one payload: the reply, and the request to store.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The visitor gets the reply, and the hit is to be stored.
    Accepted {
        /// The reply as JSON text.
        reply: String,
        /// The request from which the event is made.
        request: Box<Request>,
    },
    /// The visitor gets the reply, and nothing is stored.
    Ignored {
        /// The reply as JSON text.
        reply: String,
        /// The ingress of the payload, as far as it is known.
        ingress: Ingress,
        /// The reason for storing nothing.
        why: Ignored,
    },
    /// Nobody waits for an image: the caller gets an error.
    Refused(DecodeError),
}

/// Answers a payload: decides first whether the hit is stored, then builds the reply once.
pub fn answer(payload: &[u8], settings: &Settings<'_>) -> Answer {
    let request = match Request::decode(payload) {
        Ok(request) => request,
        Err(error @ DecodeError::Foreign(_)) => return Answer::Refused(error),
        Err(error) => return fallback(Ingress::Passthrough, Ignored::Unreadable(error.reason())),
    };
    let decision = decide(&request, settings);
    let pixel = build_pixel(&request, decision).with_cors(settings.cors_origin);
    let reply = request.ingress.reply(&pixel);
    match decision.ignored {
        Some(why) => Answer::Ignored {
            reply,
            ingress: request.ingress,
            why,
        },
        None => Answer::Accepted {
            reply,
            request: Box::new(request),
        },
    }
}

/// The decision about one request.
#[derive(Clone, Copy, Debug)]
struct Decision {
    /// The status of the reply.
    status: Status,
    /// The image of the reply.
    image: Image,
    /// The reason for storing nothing; none if the hit is stored.
    ignored: Option<Ignored>,
}

fn decide(request: &Request, settings: &Settings<'_>) -> Decision {
    let anywhere = || Route {
        code: None,
        image: Image::from_path(&request.path),
    };
    let route = request_route(request).or_else(|| settings.any_path.then(anywhere));
    let image = route.as_ref().map_or(Image::Gif, |route| route.image);
    let reads = matches!(request.method.as_str(), "GET" | "HEAD");
    let (status, ignored) = if is_health_check(request) {
        (Status::Ok, Some(Ignored::HealthCheck))
    } else if asks_for_script(request) && reads {
        (Status::Ok, Some(Ignored::Script))
    } else {
        decide_status(route.is_some(), &request.method, &request.path)
    };
    Decision {
        status,
        image,
        ignored: ignored.or_else(|| privacy::find_refusal(request, settings.consent)),
    }
}

/// Decides the status of a reply by path and method; `is_known` is true if the path is a path of the pixel.
pub fn decide_status(is_known: bool, method: &str, path: &str) -> (Status, Option<Ignored>) {
    match method {
        _ if !is_known => (Status::NotFound, Some(Ignored::UnknownPath)),
        "GET" | "HEAD" => (Status::Ok, None),
        "POST" if takes_beacons(path) => (Status::Ok, None),
        "OPTIONS" => (Status::NoContent, Some(Ignored::Preflight)),
        _ => (Status::MethodNotAllowed, Some(Ignored::WrongMethod)),
    }
}

fn build_pixel(request: &Request, decision: Decision) -> Pixel {
    let Decision { status, image, ignored } = decision;
    let explanation = ignored.map_or_else(|| "accepted".to_owned(), explain_ignored);
    let mut pixel = match ignored {
        Some(Ignored::Script) => Pixel::script(request.header("if-none-match"), explanation),
        _ => Pixel::new(status, image, explanation),
    };
    if ignored == Some(Ignored::WrongMethod) {
        pixel.headers.push(("Allow", allowed_methods(&request.path).into()));
    }
    if request.method == "HEAD" && status == Status::Ok {
        pixel = pixel.without_body();
    }
    pixel
}

/// Returns the result of `answer`, which must be [`answer`] for this payload; if it panics, returns the image in the form of
/// the payload's ingress.
pub fn catch_panic(payload: &[u8], answer: impl FnOnce() -> Answer + UnwindSafe) -> Answer {
    catch_unwind(answer).unwrap_or_else(|_| {
        let ingress = catch_unwind(|| Ingress::recognise(payload)).unwrap_or(Ingress::Passthrough);
        fallback(ingress, Ignored::Panic)
    })
}

/// Returns the image for a request that could not be read, in the form of its ingress.
pub fn fallback(ingress: Ingress, why: Ignored) -> Answer {
    let pixel = Pixel::new(Status::Ok, Image::Gif, explain_ignored(why));
    Answer::Ignored {
        reply: ingress.reply(&pixel),
        ingress,
        why,
    }
}

/// Returns the methods that a path of the pixel supports, as the header `Allow` lists them.
pub fn allowed_methods(path: &str) -> &'static str {
    if takes_beacons(path) {
        "GET, HEAD, POST, OPTIONS"
    } else {
        "GET, HEAD, OPTIONS"
    }
}

/// Returns the value of the `X-Pixel` header for a hit that is not stored.
pub fn explain_ignored(why: Ignored) -> String {
    format!("ignored; reason={}", why.name())
}

/// Builds the event of an accepted request.
pub fn build_event(
    request: Request,
    context: &RequestContext,
    settings: &Settings<'_>,
    lookups: &Lookups<'_>,
) -> Event {
    let mut hit = Hit::read(request, context);
    if let Some(code) = &hit.code {
        hit.checked = settings.code_keys.check(code, hit.received);
        let status = (lookups.code_status)(code);
        hit.checked.signature = hit.checked.signature.with(status.listing);
        hit.listed_campaign = status.campaign;
    }
    let enrich_context = EnrichContext {
        seconds_since_sent: hit.seconds_since_sent(),
        place: hit.address.map(lookups.place).unwrap_or_default(),
    };
    let enriched = Enriched::new(&hit, enrich_context);
    Event::new(&hit, &enriched, settings.policy, context.now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use serde_json::json;

    #[test]
    fn every_path_can_be_the_pixels() {
        let payload = |method: &str, path: &str| {
            let http = json!({"method": method, "path": path, "sourceIp": "203.0.113.9"});
            json!({"version": "2.0", "rawPath": path, "rawQueryString": "userid=7", "requestContext": {"http": http}})
                .to_string()
        };
        let anywhere = Config {
            any_path: true,
            ..Config::default()
        };
        for path in ["/", "/track", "/a/b.png", "/pixel/code.gif"] {
            let answered = answer(payload("GET", path).as_bytes(), &anywhere.settings());
            assert!(matches!(answered, Answer::Accepted { .. }), "{path}: {answered:?}");
        }
        let wrong = answer(payload("DELETE", "/track").as_bytes(), &anywhere.settings());
        assert!(
            matches!(
                wrong,
                Answer::Ignored {
                    why: Ignored::WrongMethod,
                    ..
                }
            ),
            "{wrong:?}"
        );
        let elsewhere = answer(payload("GET", "/track").as_bytes(), &Config::default().settings());
        assert!(
            matches!(
                elsewhere,
                Answer::Ignored {
                    why: Ignored::UnknownPath,
                    ..
                }
            ),
            "{elsewhere:?}"
        );
    }

    #[test]
    fn a_panic_costs_the_hit_and_never_the_image() {
        let payloads = [
            (r#"{"params": {}}"#, Ingress::Passthrough),
            (r#"{"httpMethod": "GET", "requestContext": {}}"#, Ingress::Rest),
            (r#"{"version": "2.0", "requestContext": {}}"#, Ingress::Http),
            (
                r#"{"version": "2.0", "requestContext": {"domainName": "a.lambda-url.b.on.aws"}}"#,
                Ingress::FunctionUrl,
            ),
            (r#"{"requestContext": {"elb": {}}}"#, Ingress::Alb),
            (
                r#"{"requestContext": {"elb": {}}, "multiValueHeaders": {}}"#,
                Ingress::AlbMultiValue,
            ),
            ("no JSON", Ingress::Passthrough),
        ];
        for (payload, expected) in payloads {
            let answer = catch_panic(payload.as_bytes(), || panic!("a fault in reading"));
            let pixel = Pixel::new(Status::Ok, Image::Gif, "ignored; reason=panic");
            let image = Answer::Ignored {
                reply: expected.reply(&pixel),
                ingress: expected,
                why: Ignored::Panic,
            };
            assert_eq!(answer, image, "{payload}");
        }
    }
}
