//! An HTTP request as a server received it.

use super::{self as request, Pairs};
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use std::net::IpAddr;

/// An HTTP request as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// The request method.
    pub method: String,
    /// The path as written in the request line, still encoded.
    pub path: String,
    /// The query as written in the request line, without `?`.
    pub query: String,
    /// The headers in the order received.
    pub headers: Pairs,
    /// The address of the other end of the connection.
    pub peer: Option<IpAddr>,
    /// The id that the server gave this request.
    pub id: String,
    /// The time of arrival.
    pub time: DateTime<Utc>,
    /// The body, when there is one.
    pub body: Option<Vec<u8>>,
}

impl HttpRequest {
    /// Returns the last header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .rev()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the query's decoded names and values in their order.
    pub fn decoded_query(&self) -> Pairs {
        request::parse_query(&self.query, &mut Vec::new())
    }

    /// Returns the query's names and values as written.
    pub fn raw_query(&self) -> impl Iterator<Item = (String, String)> {
        request::split_query(&self.query).map(|(name, value)| (name.to_owned(), value.to_owned()))
    }

    /// Returns the address of the other end as text.
    pub fn peer_text(&self) -> String {
        self.peer
            .map(|address| address.to_canonical().to_string())
            .unwrap_or_default()
    }

    /// Returns the body in base64.
    pub fn body_text(&self) -> Option<String> {
        self.body.as_ref().map(|body| STANDARD.encode(body))
    }
}
