//! The page on which visitors say that they are not to be counted: what is asked of it, and what it answers.
//!
//! It needs no script: a form. Its address and the way back from it are relative, so that both work below a stage's name, and
//! nothing that a visitor sends stands in an answer. What is remembered is for `pixel serve` and the role `manage`.

use crate::manage::{self, Reply};

/// The longest code that is remembered, in bytes: anybody can send the form.
pub const LONGEST: usize = 256;

/// Whether a code can be remembered. The two names of folders cannot: no URL of an index's document ends in one.
pub fn is_possible(code: &str) -> bool {
    !matches!(code, "" | "." | "..") && code.len() <= LONGEST
}

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To see how it is.
    See,
    /// Not to be counted.
    Out,
    /// To be counted again.
    In,
}

impl Wish {
    /// The wish of a method and a decoded query; none where the page has no such method.
    pub fn of(method: &str, query: &[(String, String)]) -> Option<Self> {
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
pub fn code_of_path(path: &str) -> Option<&str> {
    let (before, code) = match path.split_once("/opt-out/") {
        Some(parts) => parts,
        None => (path.strip_suffix(PATH)?, ""),
    };
    let of_interface = format!("{before}/").contains(manage::PREFIX);
    (!of_interface).then_some(code)
}

/// Who is counted, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The browser that asks.
    Browser {
        /// Whether it asks over TLS; else it keeps the cookie to this site's own pages.
        secure: bool,
    },
    /// The recipient of a mail.
    Recipient,
}

/// The page, with a button for the other way.
pub fn page(whom: Whom, is_out: bool) -> Reply {
    let (state, button) = match (whom, is_out) {
        (Whom::Browser { secure: true }, true) => (
            "This browser is not counted: nothing is stored when it loads the pixel.",
            "Count me again",
        ),
        (Whom::Browser { secure: false }, true) => (
            "This browser is not counted when a page of this site loads the pixel: nothing is stored then. On other sites it is, \
             because without HTTPS it does not send your wish from there.",
            "Count me again",
        ),
        (Whom::Browser { secure: true }, false) => ("This browser is counted.", "Do not count me"),
        (Whom::Browser { secure: false }, false) => (
            "This browser is counted. Without HTTPS it can only be left out on pages of this site, not on other sites.",
            "Do not count me",
        ),
        (Whom::Recipient, true) => (
            "This mail is not counted: nothing is stored when it is opened.",
            "Count it again",
        ),
        (Whom::Recipient, false) => ("It is counted when this mail is opened.", "Do not count it"),
    };
    let action = if is_out { "?in=1" } else { "?" };
    let form = format!("<form method=\"post\" action=\"{action}\"><button>{button}</button></form>\n");
    html(200, state, &form)
}

/// Back to the page, which shows how it is now: the same path without its query.
pub fn back() -> Reply {
    let mut headers = HEADERS.map(|(name, value)| (name, value.to_owned())).to_vec();
    headers.push(("location", "?".to_owned()));
    Reply {
        status: 303,
        headers,
        body: String::new(),
    }
}

/// The owner has listed this code, so no form changes anything.
pub fn settled() -> Reply {
    html(
        200,
        "This mail is not counted: its sender has seen to that. Nothing is stored when it is opened.",
        "",
    )
}

/// No mail has this code.
pub fn unknown() -> Reply {
    html(
        404,
        "No mail is known here by this address. Open it as it stands in the mail, up to its last character.",
        "",
    )
}

/// There is no place to remember a code in.
pub fn no_place() -> Reply {
    html(503, "This server cannot remember this code; ask its owner.", "")
}

/// The place where codes are remembered cannot be reached.
pub fn away() -> Reply {
    let mut reply = html(
        503,
        "What is remembered cannot be reached now. Try again in a minute: the page says how it is.",
        "",
    );
    reply.headers.push(("retry-after", "60".to_owned()));
    reply
}

/// The page has no such method.
pub fn wrong_method() -> Reply {
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
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
];

/// A page of our own words alone.
fn html(status: u16, words: &str, form: &str) -> Reply {
    let mut headers = vec![("content-type", "text/html; charset=utf-8".to_owned())];
    headers.extend(HEADERS.map(|(name, value)| (name, value.to_owned())));
    let body = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"robots\" content=\"noindex\">\n<title>Not to be counted</title>\n\
         <h1>Not to be counted</h1>\n<p>{words}</p>\n{form}"
    );
    Reply { status, headers, body }
}

/// The answer to `HEAD` is that to `GET` without its body.
pub fn as_asked(method: &str, mut reply: Reply) -> Reply {
    if method == "HEAD" {
        reply.body.clear();
    }
    reply
}
