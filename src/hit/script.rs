//! `/pixel.js`: page views and events of a web page, for owners who need more than the image reports.
//!
//! The script sends its data in the query of a beacon without a body (`POST /pixel?…`), or of the image where a beacon
//! is not possible, so that both are the same request to every ingress.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

/// The last path segment of the script.
pub const NAME: &str = "pixel.js";

/// The media type of the script.
pub const MEDIA_TYPE: &str = "text/javascript; charset=utf-8";

/// A browser asks again after an hour and uses its copy until then.
pub const CACHE_CONTROL: &str = "public, max-age=3600, stale-while-revalidate=86400";

/// Returns the script as it is served.
pub fn text() -> &'static str {
    &SERVED.text
}

/// Returns the entity tag of the script, quotes included.
pub fn etag() -> &'static str {
    &SERVED.etag
}

/// Returns true if a value of `If-None-Match` names the script that is served.
///
/// ```
/// let tag = pixel::hit::script::etag();
/// assert!(pixel::hit::script::matches(tag) && pixel::hit::script::matches(&format!("\"other\", W/{tag}")));
/// assert!(pixel::hit::script::matches("*") && !pixel::hit::script::matches("\"other\""));
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
    let text = strip_source(include_str!("script/pixel.js"));
    let digest = Sha256::digest(&text);
    let mut start = [0; 8];
    start.copy_from_slice(&digest[..8]);
    Served {
        etag: format!("\"{:016x}\"", u64::from_be_bytes(start)),
        text,
    }
});

/// Removes comment lines, indentation and empty lines; line ends stay, so no statement runs into the next.
fn strip_source(source: &str) -> String {
    let lines = source.lines().map(str::trim);
    let kept = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
    kept.flat_map(|line| [line, "\n"]).collect()
}
