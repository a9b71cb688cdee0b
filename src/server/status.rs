//! The endpoints for monitoring.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::{HttpResponse, MAX_PENDING_EVENTS, PixelServer, response};
use crate::hit::request::http_request::HttpRequest;
use crate::server::gateway::HttpAnswer;

/// Answers `/health` (the process responds), `/ready` (events can be stored) and `/metrics` (Prometheus).
pub(super) async fn status(server: &PixelServer, request: &HttpRequest) -> Option<HttpResponse> {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return None;
    }
    let (status, media, text) = match request.path.as_str() {
        "/health" => (200, "application/json", json!({"status": "ok"}).to_string()),
        "/ready" => match server.sink.trouble().await {
            None => (200, "application/json", json!({"status": "ready"}).to_string()),
            Some(reason) => {
                let text = json!({"status": "not ready", "reason": reason}).to_string();
                (503, "application/json", text)
            }
        },
        "/metrics" => (200, "text/plain; version=0.0.4; charset=utf-8", metrics(server).await),
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

/// Returns the metrics in Prometheus' text format.
async fn metrics(server: &PixelServer) -> String {
    use std::fmt::Write;
    let mut text =
        String::from("# HELP pixel_hits_total Requests by what became of them.\n# TYPE pixel_hits_total counter\n");
    // Writing to a string cannot fail.
    for (outcome, count) in server.counts().iter() {
        let _ = writeln!(text, "pixel_hits_total{{outcome=\"{outcome}\"}} {count}");
    }
    let answers = server.answers.load(Ordering::Relaxed);
    let pending = MAX_PENDING_EVENTS as usize - server.permits.available_permits();
    let ready = u8::from(server.sink.trouble().await.is_none());
    let untrusted_proxy = u8::from(server.untrusted_proxy.is_known());
    let started = server.started.timestamp();
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
            pending.to_string(),
        ),
        (
            "pixel_ready",
            "gauge",
            "1 while events can be stored.",
            ready.to_string(),
        ),
        (
            "pixel_connections",
            "gauge",
            "Open connections.",
            server.connections.count().to_string(),
        ),
        (
            "pixel_proxy_without_hops",
            "gauge",
            "1 when requests come through a proxy and no proxy is trusted.",
            untrusted_proxy.to_string(),
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
