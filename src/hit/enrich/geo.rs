//! From which country and network a visitor came.
//!
//! The edge before the pixel says so in headers of its own (`CloudFront`, Cloudflare, App Engine, Vercel). Without an
//! edge a visitor can send such headers, too: then they are a claim.

/// What is known of a visitor's place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The country: two capital letters (ISO 3166-1).
    pub country: Option<String>,
    /// The network's number.
    pub network: Option<u32>,
}

/// The headers in which edges name the country.
pub const COUNTRY_HEADERS: [&str; 6] = [
    "cloudfront-viewer-country",
    "cf-ipcountry",
    "x-appengine-country",
    "x-vercel-ip-country",
    "x-country-code",
    "x-client-geo-country",
];

/// The headers in which edges name the network.
pub const NETWORK_HEADERS: [&str; 2] = ["cloudfront-viewer-asn", "x-vercel-ip-as-number"];

/// Reads the edge's headers, given by their names in small letters.
pub fn read_headers<'h>(header: impl Fn(&str) -> Option<&'h str>) -> Place {
    Place {
        country: COUNTRY_HEADERS.iter().find_map(|name| country(header(name)?)),
        network: NETWORK_HEADERS
            .iter()
            .find_map(|name| header(name)?.trim().parse().ok()),
    }
}

/// A country's letters; Cloudflare's `XX` and `T1` and App Engine's `ZZ` are none.
pub fn country(text: &str) -> Option<String> {
    let text = text.trim();
    let letters = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    let text = text.to_ascii_uppercase();
    (letters && !["XX", "ZZ"].contains(&text.as_str())).then_some(text)
}
