//! The address to listen on, in the forms that people write.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Parses `ADDRESS:PORT`, `localhost:PORT`, `:PORT` or a port alone. Without an address it is 127.0.0.1: to be reachable
/// from elsewhere, an address must be given.
pub(super) fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    let local = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let host_and_port = || match text.rsplit_once(':') {
        None => port(text).map(local),
        Some(("" | "localhost", number)) => port(number).map(local),
        Some(_) => text.parse().ok(),
    };
    host_and_port().ok_or_else(|| "give ADDRESS:PORT, as in 127.0.0.1:8080".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, address) in [
            ("8080", "127.0.0.1:8080"),
            (":8080", "127.0.0.1:8080"),
            ("0", "127.0.0.1:0"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("[::1]:8080", "[::1]:8080"),
            ("[::]:8080", "[::]:8080"),
        ] {
            assert_eq!(parse_listen(text), Ok(address.parse().expect("an address")), "{text}");
        }
        for text in [
            "",
            ":",
            "65536",
            ":65536",
            "localhost",
            "127.0.0.1",
            "::1:8080",
            "+80",
            "a.example:80",
            "http://127.0.0.1:80",
        ] {
            let error = parse_listen(text).expect_err(text);
            assert_eq!(error, "give ADDRESS:PORT, as in 127.0.0.1:8080", "{text}");
        }
    }
}
