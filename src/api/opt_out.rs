//! The opt-out page for visitors: its requests and its responses.
//!
//! It is a form without a script. Its links are relative, so that they work below the name of an API Gateway stage, and
//! no response repeats what a visitor has sent. `pixel serve` and the role `manage` store the opt-outs.
//!
//! Only the code of one person can be opted out, by anybody who has it: having the code is the proof, as with a link to
//! unsubscribe. A person to whom a mail is forwarded has it, too, and can opt its recipient out, or in again on this
//! page. That person could also open the mail, so the owner learns no more than by the forwarding itself.

use crate::api;
use crate::api::ApiResponse;
use crate::hit::code::{Checked, Signature};
use crate::query::QueryError;
use crate::query::store::Store;

/// The longest code that is stored, in bytes; anybody can send the form.
pub const MAX_CODE_BYTES: usize = 256;

/// Returns true if a code can be stored. `.` and `..` cannot: no URL of an index's document ends in one.
pub fn can_be_remembered(code: &str) -> bool {
    !matches!(code, "" | "." | "..") && code.len() <= MAX_CODE_BYTES
}

/// The action that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptOutRequest {
    /// Show the present state.
    See,
    /// Opt out.
    Out,
    /// Opt in again.
    In,
}

impl OptOutRequest {
    /// Parses a method and a decoded query; none when the page has no such method.
    pub fn parse(method: &str, query: &[(String, String)]) -> Option<Self> {
        match method {
            "GET" | "HEAD" => Some(Self::See),
            "POST" if query.iter().any(|(name, _)| name == "in") => Some(Self::In),
            "POST" => Some(Self::Out),
            _ => None,
        }
    }
}

/// The page's path, without a prefix such as a stage's name.
const PATH: &str = "/opt-out";

/// Returns the code in a decoded path, with or without a stage's name before it; empty when the path ends before a
/// code. None when the path is not the page's: all paths below `/v1/api/` are the API's.
pub fn extract_code(path: &str) -> Option<&str> {
    let (before, code) = match path.split_once("/opt-out/") {
        Some(parts) => parts,
        None => (path.strip_suffix(PATH)?, ""),
    };
    let of_interface = format!("{before}/").contains(api::PREFIX);
    (!of_interface).then_some(code)
}

/// The number of people for whom a code stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeReach {
    /// One person, who may opt out.
    Personal,
    /// Many people: the code is ours and is shared.
    Shared,
    /// Unknown: no key of ours made the code, and it is not in the list.
    Unknown,
}

impl CodeReach {
    /// Returns the reach that a signature proves; none when only the list has the answer.
    pub fn from_signature(checked: &Checked) -> Option<Self> {
        (is_ours(checked) && checked.contents.recipient.is_some()).then_some(Self::Personal)
    }

    /// Looks up the reach of a code that does not itself name a recipient.
    ///
    /// # Errors
    ///
    /// [`QueryError`] when the list cannot be read.
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

/// The site whose page sent a request, according to the browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestSite {
    /// Our own page.
    Same,
    /// Another site's page.
    Other,
    /// No browser: every browser names the site when it sends a form. A mail provider that unsubscribes with one click
    /// (RFC 8058) does not.
    Unsaid,
}

impl RequestSite {
    /// Reads `Sec-Fetch-Site`, which no page can forge, else `Origin`, which has to name this server: its public URL,
    /// or the host that the request or the proxy before this server names. A form of another site cannot set these
    /// headers.
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
    /// The browser that sent the request.
    Browser {
        /// True if the request came over TLS; otherwise the browser sends the cookie only with this site's own pages.
        secure: bool,
    },
    /// The browser that sent the request, with a code that many people have.
    BrowserWithSharedCode {
        /// See [`Self::Browser`].
        secure: bool,
    },
    /// The recipient of a mail.
    Recipient,
}

/// Renders the page, with a button that changes the state.
pub fn render_page(scope: OptOutScope, is_out: bool) -> ApiResponse {
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
    let button = match (scope, is_out) {
        (OptOutScope::Recipient, true) => "Count it again",
        (OptOutScope::Recipient, false) => "Do not count it",
        (_, true) => "Count me again",
        (_, false) => "Do not count me",
    };
    let state = match scope {
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

/// The explanation that a shared code cannot be opted out.
const SHARED: &str = "Many people have this same address, so it cannot leave out one mail: it would leave out everybody. \
    If you have it from a mail, ask its sender to leave you out.";

/// Refuses a code that many people have, for hosts whose cookies do not reach the pixel.
pub fn render_shared_code(action: OptOutRequest) -> ApiResponse {
    html(if action == OptOutRequest::See { 200 } else { 403 }, SHARED, "")
}

/// Refuses a request that another site's page has sent, with a link to the page.
pub fn render_other_site() -> ApiResponse {
    let words = "Another site has sent this, so nothing was changed. If it is what you want, say so here.";
    html(
        403,
        words,
        "<form method=\"get\" action=\"?\"><button>Show how it is</button></form>\n",
    )
}

/// Refuses a request above the rate limit, with status 429.
pub fn render_too_many() -> ApiResponse {
    let mut reply = html(
        429,
        "Too many requests come from your network. Try again in a minute.",
        "",
    );
    reply.headers.push(("retry-after", "60".to_owned()));
    reply
}

/// Returns the response to a change. A browser is redirected to the page; any other client gets the page at once,
/// because a mail provider that unsubscribes with one click follows no redirect (RFC 8058).
pub fn render_changed(site: RequestSite, is_out: bool) -> ApiResponse {
    match site {
        RequestSite::Unsaid => render_page(OptOutScope::Recipient, is_out),
        RequestSite::Same | RequestSite::Other => redirect_to_page(),
    }
}

/// Redirects to the page, which shows the new state: the same path without its query.
pub fn redirect_to_page() -> ApiResponse {
    let mut headers = HEADERS.map(|(name, value)| (name, value.to_owned())).to_vec();
    headers.push(("location", "?".to_owned()));
    ApiResponse {
        status: 303,
        headers,
        body: String::new(),
    }
}

/// Renders the answer for a code whose opt-out only the owner can change: the configuration lists it, or many people
/// have it.
pub fn render_fixed_by_owner() -> ApiResponse {
    html(
        200,
        "This mail is not counted: nothing is stored when it is opened. Only its sender can change that.",
        "",
    )
}

/// Renders the answer for a code that no mail has.
pub fn render_unknown_code() -> ApiResponse {
    html(
        404,
        "No mail is known here by this address. Open it as it stands in the mail, up to its last character.",
        "",
    )
}

/// Renders the answer of a server that cannot store codes.
pub fn render_no_store() -> ApiResponse {
    html(503, "This server cannot remember this code; ask its owner.", "")
}

/// Renders the answer while the store of codes cannot be reached.
pub fn render_unavailable() -> ApiResponse {
    let mut reply = html(
        503,
        "What is remembered cannot be reached now. Try again in a minute: the page says how it is.",
        "",
    );
    reply.headers.push(("retry-after", "60".to_owned()));
    reply
}

/// Renders the answer to a method that the page does not have.
pub fn render_wrong_method() -> ApiResponse {
    let mut reply = html(405, "Only GET, HEAD and POST.", "");
    reply.headers.push(("allow", "GET, HEAD, POST".to_owned()));
    reply
}

/// The headers of every response. A mail's code can be in the address, and no other site may learn it.
const HEADERS: [(&str, &str); 5] = [
    ("cache-control", "no-store"),
    (
        "content-security-policy",
        "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("x-robots-tag", "noindex"),
    // The form has to name its origin to our own page.
    ("referrer-policy", "same-origin"),
    ("x-content-type-options", "nosniff"),
];

/// Builds a page from our own text only.
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

/// Removes the body of the response to a `HEAD` request.
pub fn without_body_for_head(method: &str, mut reply: ApiResponse) -> ApiResponse {
    if method == "HEAD" {
        reply.body.clear();
    }
    reply
}
