//! The URL at which visitors reach the pixel: `--url`, else `PIXEL_PUBLIC_URL`, else a default of the caller.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::parse_public_url;

/// Parses the argument of `--url`.
pub(super) fn parse(text: &str) -> Result<String, String> {
    parse_public_url(text).ok_or_else(|| "give a URL without query, as in https://pixel.example/prod".to_owned())
}

/// Returns the URL that was given, else that of the environment.
pub(super) fn find(given: Option<&String>) -> anyhow::Result<Option<String>> {
    match given {
        Some(url) => Ok(Some(url.clone())),
        None => Ok(super::read_environment(&["PIXEL_PUBLIC_URL"])?.public_url),
    }
}

/// Returns the URL of a server that listens on this address. `0.0.0.0` cannot be opened, so it becomes the local address.
pub(super) fn from_address(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}
