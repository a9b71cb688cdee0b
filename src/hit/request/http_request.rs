//! An HTTP request as a server received it.

use super::{self as request, Pairs};
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use std::net::IpAddr;

/// One HTTP request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// The method.
    pub method: String,
    /// The path as it stood in the request line, still encoded.
    pub path: String,
    /// The query as it stood in the request line, without `?`.
    pub query: String,
    /// The headers in their order.
    pub headers: Pairs,
    /// The other end of the connection.
    pub peer: Option<IpAddr>,
    /// The stage's own id of this request.
    pub id: String,
    /// When it arrived.
    pub time: DateTime<Utc>,
    /// The body, when there is one.
    pub body: Option<Vec<u8>>,
}

impl HttpRequest {
    /// The last header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .rev()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The query's names and values, decoded, in their order.
    pub fn decoded_query(&self) -> Pairs {
        request::parse_query(&self.query, &mut Vec::new())
    }

    /// The query's names and values as they stand in it.
    pub fn raw_query(&self) -> impl Iterator<Item = (String, String)> {
        request::split_query(&self.query).map(|(name, value)| (name.to_owned(), value.to_owned()))
    }

    /// The other end's address as text.
    pub fn peer_text(&self) -> String {
        self.peer
            .map(|address| address.to_canonical().to_string())
            .unwrap_or_default()
    }

    /// The body in base64.
    pub fn body_text(&self) -> Option<String> {
        self.body.as_ref().map(|body| STANDARD.encode(body))
    }
}
