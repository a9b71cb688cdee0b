//! The `OpenAPI` 3.1 description of the routes. It is a file, because generating it takes more code than the text is
//! long. A test checks that the file is equal to the output of [`source`].

#[cfg(feature = "cli")]
pub mod source;

use serde_json::{Value, json};

/// The file, without a server's URL.
pub const DOCUMENT: &str = include_str!("document.json");

/// Returns the document for a server at this base URL.
pub fn document(base: &str) -> Value {
    let mut document: Value = serde_json::from_str(DOCUMENT).unwrap_or_default();
    document["servers"] = json!([{"url": if base.is_empty() { "/" } else { base }}]);
    document
}
