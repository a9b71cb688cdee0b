//! `/pixel.js`: page views and events of a web page, for those who want more than the image tells.
//!
//! It sends what it knows in the query of a beacon without a body (`POST /pixel?…`), or of the image where there can be no
//! beacon, so that both are the same request to every ingress.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

/// The script's last segment in a path.
pub const NAME: &str = "pixel.js";

/// Its media type.
pub const MEDIA_TYPE: &str = "text/javascript; charset=utf-8";

/// A browser asks for it again after an hour, and meanwhile uses what it has.
pub const CACHE_CONTROL: &str = "public, max-age=3600, stale-while-revalidate=86400";

/// The script as it is served.
pub fn text() -> &'static str {
    &SERVED.text
}

/// Its entity tag, quotes included.
pub fn etag() -> &'static str {
    &SERVED.etag
}

/// Whether a value of `If-None-Match` names the script that is served.
///
/// ```
/// let tag = pixel::script::etag();
/// assert!(pixel::script::matches(tag) && pixel::script::matches(&format!("\"other\", W/{tag}")));
/// assert!(pixel::script::matches("*") && !pixel::script::matches("\"other\""));
/// ```
pub fn matches(if_none_match: &str) -> bool {
    let mut tags = if_none_match.split(',').map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag())
}

struct Served {
    text: String,
    etag: String,
}

static SERVED: LazyLock<Served> = LazyLock::new(|| {
    let text = stripped(include_str!("script/pixel.js"));
    let digest = Sha256::digest(&text);
    let mut start = [0; 8];
    start.copy_from_slice(&digest[..8]);
    Served {
        etag: format!("\"{:016x}\"", u64::from_be_bytes(start)),
        text,
    }
});

/// Without lines of comment, indentation and empty lines; line ends stay, so no statement runs into the next.
fn stripped(source: &str) -> String {
    let lines = source.lines().map(str::trim);
    let kept = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
    kept.flat_map(|line| [line, "\n"]).collect()
}
