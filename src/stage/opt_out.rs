//! The page on which visitors say that they are not to be counted, and what the stage remembers of it.
//!
//! It needs no script: a form, and a cookie that the browser sends with every image from then on. `/opt-out/{code}` is for
//! the recipient of a mail: the code is remembered by the stage, because mail programs keep no cookies. A store's file keeps
//! the codes, or an index beside that of the events; a queue or a stream keeps none.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION, SET_COOKIE};
use hyper::{Response, StatusCode};
use rusqlite::Connection;

use super::gateway::Arrived;
use crate::aws::client::Deliverer;
use crate::manage::index;
use crate::privacy::OPT_OUT_COOKIE;
use crate::terminal::talk;

/// The codes whose recipients have opted out.
#[derive(Debug)]
pub struct OptOuts {
    codes: RwLock<BTreeSet<String>>,
    /// The store's file that remembers them; none where there is none.
    file: Option<Mutex<Connection>>,
}

/// The longest code that is remembered, and how many: anybody can send the form.
const LONGEST: usize = 256;
const MOST: usize = 1_000_000;

impl OptOuts {
    /// Those of the configuration, remembered nowhere.
    pub const fn of(codes: BTreeSet<String>) -> Self {
        Self {
            codes: RwLock::new(codes),
            file: None,
        }
    }

    /// Those of the configuration and of a store's file, which must be open already.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written.
    pub fn open(mut codes: BTreeSet<String>, path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection
            .execute_batch("CREATE TABLE IF NOT EXISTS opt_outs (code TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;")?;
        {
            let mut statement = connection.prepare("SELECT code FROM opt_outs")?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            for code in rows {
                codes.insert(code?);
            }
        }
        Ok(Self {
            codes: RwLock::new(codes),
            file: Some(Mutex::new(connection)),
        })
    }

    /// The codes, to decide by.
    pub fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeSet<String>> {
        self.codes.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds codes that an index has remembered. None is taken away: when in doubt, nobody is counted who has opted out.
    pub fn add(&self, codes: BTreeSet<String>) {
        self.codes.write().unwrap_or_else(PoisonError::into_inner).extend(codes);
    }

    /// Remembers a code, or forgets it; whether that was possible.
    async fn set(&self, code: &str, out: bool, index: Option<&Deliverer>) -> bool {
        if code.is_empty() || code.len() > LONGEST || out && self.read().len() >= MOST {
            return false;
        }
        let kept = match (&self.file, index) {
            (Some(file), _) => keep(file, code, out),
            (None, Some(index)) => match index::opt_out(index, code, out).await {
                Ok(()) => true,
                Err(error) => {
                    talk(&format!("could not remember an opt-out: {error}"));
                    false
                }
            },
            (None, None) => false,
        };
        if kept {
            let mut codes = self.codes.write().unwrap_or_else(PoisonError::into_inner);
            if out {
                codes.insert(code.to_owned());
            } else {
                codes.remove(code);
            }
        }
        kept
    }
}

fn keep(file: &Mutex<Connection>, code: &str, out: bool) -> bool {
    let sql = if out {
        "INSERT OR IGNORE INTO opt_outs (code) VALUES (?1)"
    } else {
        "DELETE FROM opt_outs WHERE code = ?1"
    };
    let written = file.lock().unwrap_or_else(PoisonError::into_inner).execute(sql, [code]);
    written.is_ok()
}

type Page = Response<Full<Bytes>>;

/// Answers the paths of this module: `/opt-out`, `/opt-out/{code}` and `/.well-known/gpc.json`.
/// `index` is where events go, when that is an index.
pub async fn answer(arrived: &Arrived, opt_outs: &OptOuts, index: Option<&Deliverer>) -> Option<Page> {
    if arrived.path == "/.well-known/gpc.json" {
        return Some(gpc(arrived));
    }
    let code = match arrived.path.strip_prefix("/opt-out")? {
        "" | "/" => None,
        rest => Some(decoded(rest.strip_prefix('/')?)),
    };
    Some(match (arrived.method.as_str(), code) {
        ("GET" | "HEAD", None) => page(arrived, &visitor_page(arrived)),
        ("POST", None) => set_cookie(arrived),
        ("GET" | "HEAD", Some(code)) => page(arrived, &code_page(&code, opt_outs)),
        ("POST", Some(code)) if opt_outs.set(&code, wants_out(arrived), index).await => back(&arrived.path),
        ("POST", Some(_)) => status(
            StatusCode::SERVICE_UNAVAILABLE,
            "This server cannot remember this code; ask its owner.\n",
        ),
        _ => status(StatusCode::METHOD_NOT_ALLOWED, "Only GET, HEAD and POST.\n"),
    })
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

/// What the button of the form asks for, in the address that the form is sent to.
fn wants_out(arrived: &Arrived) -> bool {
    arrived.query != "in"
}

/// Global Privacy Control, "GPC Support Resource".
fn gpc(arrived: &Arrived) -> Page {
    let last = arrived.time.format("%F");
    let mut response = Response::new(Full::new(Bytes::from(format!(
        "{{\"gpc\": true, \"lastUpdate\": \"{last}\"}}\n"
    ))));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn visitor_page(arrived: &Arrived) -> String {
    let cookies = arrived
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("cookie"));
    let mut parts = cookies.flat_map(|(_, value)| value.split(';'));
    let out = parts.any(|part| part.trim().split_once('=') == Some((OPT_OUT_COOKIE, "1")));
    let (state, button, action) = if out {
        (
            "This browser is not counted: nothing is stored when it loads the pixel.",
            "Count me again",
            "/opt-out?in",
        )
    } else {
        (
            "This browser is counted. Nothing that names you is stored.",
            "Do not count me",
            "/opt-out",
        )
    };
    form(state, button, action)
}

fn code_page(code: &str, opt_outs: &OptOuts) -> String {
    let encoded = percent_encoding::utf8_percent_encode(code, percent_encoding::NON_ALPHANUMERIC);
    if opt_outs.read().contains(code) {
        form(
            "This mail is not counted: nothing is stored when it is opened.",
            "Count it again",
            &format!("/opt-out/{encoded}?in"),
        )
    } else {
        form(
            "It is counted when this mail is opened.",
            "Do not count it",
            &format!("/opt-out/{encoded}"),
        )
    }
}

/// A page with one button. All texts are ours; the address is encoded.
fn form(state: &str, button: &str, action: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"robots\" content=\"noindex\">\n<title>Not to be counted</title>\n\
         <h1>Not to be counted</h1>\n<p>{state}</p>\n\
         <form method=\"post\" action=\"{action}\"><button>{button}</button></form>\n"
    )
}

fn page(arrived: &Arrived, html: &str) -> Page {
    let body = if arrived.method == "HEAD" { "" } else { html };
    let mut response = Response::new(Full::new(Bytes::from(body.to_owned())));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let only_forms = "default-src 'none'; form-action 'self'; frame-ancestors 'none'";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(only_forms));
    response
}

fn status(status: StatusCode, text: &'static str) -> Page {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// Back to the page, which shows how it is now.
fn back(path: &str) -> Page {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SEE_OTHER;
    if let Ok(path) = HeaderValue::try_from(path) {
        response.headers_mut().insert(LOCATION, path);
    }
    response
}

/// Sets the cookie for a year, or takes it back. Other sites' pages send it with the image only over TLS and when it may go
/// to other sites.
fn set_cookie(arrived: &Arrived) -> Page {
    let secure = arrived.header("x-forwarded-proto") == Some("https");
    let reach = if secure {
        "SameSite=None; Secure"
    } else {
        "SameSite=Lax"
    };
    let age = if wants_out(arrived) { 365 * 24 * 3600 } else { 0 };
    let cookie = format!("{OPT_OUT_COOKIE}=1; Path=/; Max-Age={age}; HttpOnly; {reach}");
    let mut response = back("/opt-out");
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}
