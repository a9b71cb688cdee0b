//! The role `capture`: turns a request into the pixel and an event.
//!
//! Everything here is a function of its arguments; the shell waits and connects.

use std::net::IpAddr;
use std::panic::{UnwindSafe, catch_unwind};

use crate::config::Config;
use crate::hit::code::{CodeStatus, Listing};
use crate::hit::enrich::geo::Place;
use crate::hit::enrich::{EnrichContext, Enriched};
use crate::hit::event::Event;
use crate::hit::outcome::Ignored;
use crate::hit::pixel::{Image, Pixel, Status};
use crate::hit::privacy;
use crate::hit::privacy::Consent;
use crate::hit::read::{Hit, RequestContext, Route, asks_for_script, is_health_check, request_route, takes_beacons};
use crate::hit::request::{DecodeError, Ingress, Request};

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

/// Answers a payload under a configuration.
pub fn answer_for(payload: &[u8], config: &Config) -> Answer {
    answer_under(payload, config, config.consent())
}

/// Answers a payload under a configuration and the given consent, which may know more codes that have opted out.
pub fn answer_under(payload: &[u8], config: &Config, consent: Consent<'_>) -> Answer {
    let cors = config.cors_origin.as_deref();
    answer_at(payload, cors, config.any_path).under(consent, cors)
}

/// Answers a payload; only the default paths are the pixel.
pub fn answer(payload: &[u8], cors_origin: Option<&str>) -> Answer {
    answer_at(payload, cors_origin, false)
}

fn answer_at(payload: &[u8], cors_origin: Option<&str>, any_path: bool) -> Answer {
    let request = match Request::decode(payload) {
        Ok(request) => request,
        Err(error @ DecodeError::Foreign(_)) => return Answer::Refused(error),
        Err(error) => return fallback(Ingress::Passthrough, Ignored::Unreadable(error.reason())),
    };
    let (pixel, ignored) = build_pixel(&request, any_path);
    let reply = request.ingress.reply(&pixel.with_cors(cors_origin));
    match ignored {
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

impl Answer {
    /// Applies the owner's policy: a hit that must not be stored still gets its reply, and is ignored.
    #[must_use]
    pub fn under(self, consent: Consent<'_>, cors_origin: Option<&str>) -> Self {
        let Self::Accepted { request, .. } = &self else {
            return self;
        };
        let Some(why) = privacy::find_refusal(request, consent) else {
            return self;
        };
        // The hit was accepted, so its path is a path of the pixel.
        let (accepted, _) = build_pixel(request, true);
        let mut pixel = Pixel::new(accepted.status, accepted.content, explain_ignored(why)).with_cors(cors_origin);
        pixel.body = accepted.body;
        Self::Ignored {
            reply: request.ingress.reply(&pixel),
            ingress: request.ingress,
            why,
        }
    }
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

fn build_pixel(request: &Request, any_path: bool) -> (Pixel, Option<Ignored>) {
    let anywhere = || Route {
        code: None,
        image: Image::from_path(&request.path),
    };
    let found = request_route(request).or_else(|| any_path.then(anywhere));
    let Route { image, .. } = found.clone().unwrap_or(Route {
        code: None,
        image: Image::Gif,
    });
    let ignored = |status, why| (Pixel::new(status, image, explain_ignored(why)), Some(why));
    if is_health_check(request) {
        return ignored(Status::Ok, Ignored::HealthCheck);
    }
    if asks_for_script(request) && matches!(request.method.as_str(), "GET" | "HEAD") {
        let pixel = Pixel::script(request.header("if-none-match"), explain_ignored(Ignored::Script));
        let whole = request.method == "GET";
        return (if whole { pixel } else { pixel.without_body() }, Some(Ignored::Script));
    }
    match (found, request.method.as_str()) {
        (None, _) => ignored(Status::NotFound, Ignored::UnknownPath),
        (Some(_), "GET") => (Pixel::new(Status::Ok, image, "accepted"), None),
        (Some(_), "HEAD") => (Pixel::new(Status::Ok, image, "accepted").without_body(), None),
        (Some(_), "POST") if takes_beacons(&request.path) => (Pixel::new(Status::Ok, image, "accepted"), None),
        (Some(_), "OPTIONS") => ignored(Status::NoContent, Ignored::Preflight),
        (Some(_), _) => {
            let (mut pixel, why) = ignored(Status::MethodNotAllowed, Ignored::WrongMethod);
            pixel.headers.push(("Allow", allowed_methods(&request.path).into()));
            (pixel, why)
        }
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

/// Makes the event of an accepted request.
pub fn event(request: Request, context: &RequestContext, config: &Config) -> Event {
    event_listed(request, context, config, Listing::None)
}

/// Makes the event of a request whose code was looked up in the list.
pub fn event_listed(
    request: Request,
    context: &RequestContext,
    config: &Config,
    status: impl Into<CodeStatus>,
) -> Event {
    let status = status.into();
    event_known(request, context, config, |_| Place::default(), |_| status.clone())
}

/// Makes the event of a request with a server's look-ups: `place` locates the visitor's whole address, for edges that do not
/// name its location; `status` returns the status of a code in the list.
pub fn event_known(
    request: Request,
    context: &RequestContext,
    config: &Config,
    place: impl Fn(IpAddr) -> Place,
    status: impl Fn(&str) -> CodeStatus,
) -> Event {
    let mut hit = Hit::read(request, context);
    if let Some(code) = &hit.code {
        hit.checked = config.code_keys.check(code, hit.received);
        let status = status(code);
        hit.checked.signature = hit.checked.signature.with(status.listing);
        hit.listed_campaign = status.campaign;
    }
    let enrich_context = EnrichContext {
        seconds_since_sent: hit.seconds_since_sent(),
        place: hit.address.map(place).unwrap_or_default(),
    };
    let enriched = Enriched::new(&hit, enrich_context);
    Event::new(&hit, &enriched, &config.policy, context.now)
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let answered = answer_for(payload("GET", path).as_bytes(), &anywhere);
            assert!(matches!(answered, Answer::Accepted { .. }), "{path}: {answered:?}");
        }
        let wrong = answer_for(payload("DELETE", "/track").as_bytes(), &anywhere);
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
        let elsewhere = answer_for(payload("GET", "/track").as_bytes(), &Config::default());
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
