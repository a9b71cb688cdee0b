//! The country and network of a visitor.
//!
//! The edge before the pixel (`CloudFront`, Cloudflare, App Engine, Vercel) names them in headers of its own. Without an
//! edge, a visitor can send such headers as well: then they are only a claim.

/// The known location of a visitor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The country: two capital letters (ISO 3166-1).
    pub country: Option<String>,
    /// The number of the network (autonomous system).
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

/// Reads the edge's headers; `header` is called with names in lower case.
pub fn read_headers<'h>(header: impl Fn(&str) -> Option<&'h str>) -> Place {
    Place {
        country: COUNTRY_HEADERS.iter().find_map(|name| country(header(name)?)),
        network: NETWORK_HEADERS
            .iter()
            .find_map(|name| header(name)?.trim().parse().ok()),
    }
}

/// Parses a country's two letters; Cloudflare's `XX` and `T1` and App Engine's `ZZ` are not countries.
pub fn country(text: &str) -> Option<String> {
    let text = text.trim();
    let letters = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    let text = text.to_ascii_uppercase();
    (letters && !["XX", "ZZ"].contains(&text.as_str())).then_some(text)
}
