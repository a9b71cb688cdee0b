//! The page on which visitors say that they are not to be counted: what is asked of it, and what it answers.
//!
//! It needs no script: a form. Its address and the way back from it are relative, so that both work below a stage's name, and
//! nothing that a visitor sends stands in an answer. What is remembered is for `pixel serve` and the role `manage`.
//!
//! Only the code of one person can be opted out, by whoever has it: having it is the proof, as of a link to unsubscribe. Whoever
//! a mail is forwarded to has it, too, and can opt its recipient out, or in again on this page: they could open the mail
//! instead, so that tells the owner no more than forwarding it does.

use crate::api;
use crate::api::ApiResponse;
use crate::hit::code::{Checked, Signature};
use crate::query::QueryError;
use crate::query::store::Store;

/// The longest code that is remembered, in bytes: anybody can send the form.
pub const MAX_CODE_BYTES: usize = 256;

/// Whether a code can be remembered. The two names of folders cannot: no URL of an index's document ends in one.
pub fn can_be_remembered(code: &str) -> bool {
    !matches!(code, "" | "." | "..") && code.len() <= MAX_CODE_BYTES
}

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptOutRequest {
    /// To see how it is.
    See,
    /// Not to be counted.
    Out,
    /// To be counted again.
    In,
}

impl OptOutRequest {
    /// The wish of a method and a decoded query; none where the page has no such method.
    pub fn parse(method: &str, query: &[(String, String)]) -> Option<Self> {
        match method {
            "GET" | "HEAD" => Some(Self::See),
            "POST" if query.iter().any(|(name, _)| name == "in") => Some(Self::In),
            "POST" => Some(Self::Out),
            _ => None,
        }
    }
}

/// The page's path, without what stands before it.
const PATH: &str = "/opt-out";

/// The code of a decoded path, with a stage's name before it or without; empty where the path ends before a code. None
/// where the path is another's: in one below `/v1/api/`, all is the interface's.
pub fn extract_code(path: &str) -> Option<&str> {
    let (before, code) = match path.split_once("/opt-out/") {
        Some(parts) => parts,
        None => (path.strip_suffix(PATH)?, ""),
    };
    let of_interface = format!("{before}/").contains(api::PREFIX);
    (!of_interface).then_some(code)
}

/// The reach of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeReach {
    /// It stands for one person, who may opt out.
    Personal,
    /// It is ours, and many people have the same.
    Shared,
    /// No key of ours made it, and it is not in the list.
    Unknown,
}

impl CodeReach {
    /// Returns the reach that a signature proves; none where only the list can tell.
    pub fn from_signature(checked: &Checked) -> Option<Self> {
        (is_ours(checked) && checked.contents.recipient.is_some()).then_some(Self::Personal)
    }

    /// Finds the reach of a code that names no recipient itself.
    ///
    /// # Errors
    ///
    /// [`AskError`] when the list cannot be read.
    pub async fn find(code: &str, checked: &Checked, list: &impl Store) -> Result<Self, QueryError> {
        Ok(match list.code(code).await? {
            Some(listed) if listed.recipient.is_some() => Self::Personal,
            Some(_) => Self::Shared,
            None if is_ours(checked) => Self::Shared,
            None => Self::Unknown,
        })
    }
}

fn is_ours(checked: &Checked) -> bool {
    matches!(checked.signature, Signature::Valid | Signature::Expired)
}

/// The site whose page sent a request, as far as browsers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestSite {
    /// Our own page.
    Same,
    /// Another site's page.
    Other,
    /// No browser's: every browser says it with a form. A mail provider that unsubscribes with one click (RFC 8058) is one.
    Unsaid,
}

impl RequestSite {
    /// Reads `Sec-Fetch-Site`, which no page can forge, else `Origin`, which has to name this server: its public URL, or the
    /// host that the request or the proxy before us names. A form of another site can send neither of these headers.
    pub fn read(headers: &[(String, String)], public_url: Option<&str>) -> Self {
        let find = |name: &str| {
            let mut found = headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
            found.next_back().map(|(_, value)| value.trim())
        };
        match (find("sec-fetch-site"), find("origin")) {
            (Some("same-origin" | "none"), _) => Self::Same,
            (Some(_), _) => Self::Other,
            (None, None) => Self::Unsaid,
            (None, Some(origin)) => {
                let origin = origin
                    .split_once("://")
                    .map(|(_, authority)| without_default_port(authority));
                let public = public_url
                    .and_then(|url| url.split_once("://"))
                    .map(|(_, rest)| rest.split('/').next().unwrap_or_default());
                let ours = [public, find("host"), find("x-forwarded-host")];
                let is_ours = origin.is_some_and(|origin| {
                    let mut ours = ours.into_iter().flatten();
                    ours.any(|host| without_default_port(host).eq_ignore_ascii_case(origin))
                });
                if is_ours { Self::Same } else { Self::Other }
            }
        }
    }
}

/// Removes the ports of HTTP and HTTPS, which browsers leave out.
fn without_default_port(authority: &str) -> &str {
    let bare = authority.strip_suffix(":443").or_else(|| authority.strip_suffix(":80"));
    bare.unwrap_or(authority)
}

/// The subject of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptOutScope {
    /// The browser that asks.
    Browser {
        /// Whether it asks over TLS; else it keeps the cookie to this site's own pages.
        secure: bool,
    },
    /// The browser that asks, by a code that many people have.
    BrowserWithSharedCode {
        /// As of [`Whom::Browser`].
        secure: bool,
    },
    /// The recipient of a mail.
    Recipient,
}

/// The page, with a button for the other way.
pub fn render_page(whom: OptOutScope, is_out: bool) -> ApiResponse {
    let browser = |secure| match (secure, is_out) {
        (true, true) => "This browser is not counted: nothing is stored when it loads the pixel.",
        (false, true) => {
            "This browser is not counted when a page of this site loads the pixel: nothing is stored then. On other sites it is, \
             because without HTTPS it does not send your wish from there."
        }
        (true, false) => "This browser is counted.",
        (false, false) => {
            "This browser is counted. Without HTTPS it can only be left out on pages of this site, not on other sites."
        }
    };
    let button = match (whom, is_out) {
        (OptOutScope::Recipient, true) => "Count it again",
        (OptOutScope::Recipient, false) => "Do not count it",
        (_, true) => "Count me again",
        (_, false) => "Do not count me",
    };
    let state = match whom {
        OptOutScope::Recipient if is_out => "This mail is not counted: nothing is stored when it is opened.".to_owned(),
        OptOutScope::Recipient => "It is counted when this mail is opened.".to_owned(),
        OptOutScope::Browser { secure } => browser(secure).to_owned(),
        OptOutScope::BrowserWithSharedCode { secure } => {
            format!("{SHARED} Only this browser can be left out here. {}", browser(secure))
        }
    };
    let action = if is_out { "?in=1" } else { "?" };
    let form = format!("<form method=\"post\" action=\"{action}\"><button>{button}</button></form>\n");
    html(200, &state, &form)
}

/// The reason why a shared code cannot be opted out.
const SHARED: &str = "Many people have this same address, so it cannot leave out one mail: it would leave out everybody. \
    If you have it from a mail, ask its sender to leave you out.";

/// Refuses a code that many people have, where no cookie of this host reaches the pixel.
pub fn shared(wish: OptOutRequest) -> ApiResponse {
    html(if wish == OptOutRequest::See { 200 } else { 403 }, SHARED, "")
}

/// Refuses a request that another site's page has sent, with a way to the page.
pub fn other_site() -> ApiResponse {
    let words = "Another site has sent this, so nothing was changed. If it is what you want, say so here.";
    html(
        403,
        words,
        "<form method=\"get\" action=\"?\"><button>Show how it is</button></form>\n",
    )
}

/// Refuses a sender of too many requests for now.
pub fn too_many() -> ApiResponse {
    let mut reply = html(
        429,
        "Too many requests come from your network. Try again in a minute.",
        "",
    );
    reply.headers.push(("retry-after", "60".to_owned()));
    reply
}

/// Returns the answer to a change that was made. A browser goes back to the page; anything else gets the page at once, because
/// a mail provider that unsubscribes with one click follows no redirect (RFC 8058).
pub fn changed(site: RequestSite, is_out: bool) -> ApiResponse {
    match site {
        RequestSite::Unsaid => render_page(OptOutScope::Recipient, is_out),
        RequestSite::Same | RequestSite::Other => redirect_to_page(),
    }
}

/// Back to the page, which shows how it is now: the same path without its query.
pub fn redirect_to_page() -> ApiResponse {
    let mut headers = HEADERS.map(|(name, value)| (name, value.to_owned())).to_vec();
    headers.push(("location", "?".to_owned()));
    ApiResponse {
        status: 303,
        headers,
        body: String::new(),
    }
}

/// The code is opted out, and only the owner can change that: the configuration lists it, or many people have it.
pub fn render_fixed_by_owner() -> ApiResponse {
    html(
        200,
        "This mail is not counted: nothing is stored when it is opened. Only its sender can change that.",
        "",
    )
}

/// No mail has this code.
pub fn render_unknown_code() -> ApiResponse {
    html(
        404,
        "No mail is known here by this address. Open it as it stands in the mail, up to its last character.",
        "",
    )
}

/// There is no place to remember a code in.
pub fn render_no_store() -> ApiResponse {
    html(503, "This server cannot remember this code; ask its owner.", "")
}

/// The place where codes are remembered cannot be reached.
pub fn render_unavailable() -> ApiResponse {
    let mut reply = html(
        503,
        "What is remembered cannot be reached now. Try again in a minute: the page says how it is.",
        "",
    );
    reply.headers.push(("retry-after", "60".to_owned()));
    reply
}

/// The page has no such method.
pub fn render_wrong_method() -> ApiResponse {
    let mut reply = html(405, "Only GET, HEAD and POST.", "");
    reply.headers.push(("allow", "GET, HEAD, POST".to_owned()));
    reply
}

/// Of every answer. Where a mail's code stands in the address, no other site is to learn of it.
const HEADERS: [(&str, &str); 5] = [
    ("cache-control", "no-store"),
    (
        "content-security-policy",
        "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("x-robots-tag", "noindex"),
    // To our own page the form has to say where it comes from.
    ("referrer-policy", "same-origin"),
    ("x-content-type-options", "nosniff"),
];

/// A page of our own words alone.
fn html(status: u16, words: &str, form: &str) -> ApiResponse {
    let mut headers = vec![("content-type", "text/html; charset=utf-8".to_owned())];
    headers.extend(HEADERS.map(|(name, value)| (name, value.to_owned())));
    let body = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"robots\" content=\"noindex\">\n<title>Not to be counted</title>\n\
         <h1>Not to be counted</h1>\n<p>{words}</p>\n{form}"
    );
    ApiResponse { status, headers, body }
}

/// The answer to `HEAD` is that to `GET` without its body.
pub fn without_body_for_head(method: &str, mut reply: ApiResponse) -> ApiResponse {
    if method == "HEAD" {
        reply.body.clear();
    }
    reply
}
