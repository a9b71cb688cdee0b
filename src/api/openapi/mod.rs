//! The description of the routes, in the form of `OpenAPI` 3.1: a file, since making it takes more code than it has text. A test
//! holds the file equal to what [`source`] makes.

#[cfg(feature = "cli")]
pub mod source;

use serde_json::{Value, json};

/// The file, which names no server.
pub const DOCUMENT: &str = include_str!("document.json");

/// The document for a server below this URL.
pub fn document(base: &str) -> Value {
    let mut document: Value = serde_json::from_str(DOCUMENT).unwrap_or_default();
    document["servers"] = json!([{"url": if base.is_empty() { "/" } else { base }}]);
    document
}
