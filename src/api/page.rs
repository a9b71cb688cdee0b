//! The dashboard page of `pixel serve` and of the role `manage`: one self-contained document that calls the API of the
//! same server.
//!
//! Its Content Security Policy names the hashes of its own script and style, so that nothing else runs in it, whatever
//! an event contains. It does not contain the pixel, so viewing it is not a hit.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::api::ApiResponse;
use crate::api::snippet::{Form, Target, lines};

/// The document and its headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The HTML document.
    pub html: String,
    /// The headers, `Content-Type` included.
    pub headers: Vec<(&'static str, String)>,
    /// The entity tag, quotes included; also one of the headers.
    pub etag: String,
}

/// Returns the page, which is built once.
pub fn page() -> &'static Page {
    &PAGE
}

/// Answers a request for the page; none for other methods than `GET` and `HEAD`. `known` is the header `If-None-Match`.
pub fn answer(method: &str, known: Option<&str>) -> Option<ApiResponse> {
    let page = page();
    let (status, body) = match method {
        "GET" | "HEAD" if known == Some(page.etag.as_str()) => (304, String::new()),
        "GET" => (200, page.html.clone()),
        "HEAD" => (200, String::new()),
        _ => return None,
    };
    let headers = page.headers.clone();
    Some(ApiResponse { status, headers, body })
}

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let style = concat!(include_str!("page/uplot/uPlot.min.css"), include_str!("page/page.css"));
    let script = concat!(
        include_str!("page/uplot/uPlot.iife.min.js"),
        "\n",
        include_str!("page/page.js")
    );
    let html = include_str!("page/page.html")
        .replace("/* style */", style)
        .replace("/* snippets */", &snippets())
        .replace("/* script */", script);
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        source(script),
        source(style)
    );
    let etag = format!("\"{}\"", STANDARD.encode(&Sha256::digest(&html)[..12]));
    let headers = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Security-Policy", &policy),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Referrer-Policy", "no-referrer"),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-cache"),
        ("ETag", &etag),
    ];
    let headers = headers.map(|(name, value)| (name, value.to_owned())).into();
    Page { html, headers, etag }
});

/// Returns the source expression for an inline text (Content Security Policy Level 3, "hash-source").
fn source(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

/// Returns the lines of every form, with placeholders for the base and the code that the page's script replaces.
fn snippets() -> String {
    let of = |form: Form, code: Option<&str>| {
        let target = Target {
            base: "https://pixel.invalid".to_owned(),
            code: code.map(ToOwned::to_owned),
            ..Target::default()
        };
        lines(form, &target)
    };
    let forms = Form::ALL.map(|form| {
        json!({
            "form": form.name(),
            "label": form.label(),
            "group": form.group().name(),
            "place": form.place(),
            "coded": of(form, Some("CODE-OF-THE-PIXEL")),
            "plain": of(form, None),
        })
    });
    // The text must not end the element that contains it.
    json!(forms).to_string().replace('<', "\\u003c")
}
