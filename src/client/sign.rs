//! Signature Version 4, as OpenSearch Service and OpenSearch Serverless require it.
//!
//! Exactly these are signed: `host`, `content-type`, `x-amz-target` if there is one, `x-amz-content-sha256`,
//! `x-amz-date` and, with temporary credentials, `x-amz-security-token`. The payload's hash is always signed, since
//! Serverless refuses a request without it; the length never is, since Serverless refuses that too (opensearch-js
//! issues 356 and 1098).

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;

/// The parts of a request that are signed.
#[derive(Clone, Copy, Debug)]
pub struct Unsigned<'a> {
    /// The method.
    pub method: &'a str,
    /// The whole URL, encoded as it will be sent.
    pub url: &'a str,
    /// The `Host` header as it will be sent.
    pub host: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// The media type of every body that is sent to an index.
pub const CONTENT_TYPE: &str = "application/json";

/// An error of the signer, which should not occur with a URL that has been parsed.
pub type SignError = Box<dyn std::error::Error + Send + Sync>;

/// Returns the headers that sign `request` at `time`.
///
/// # Errors
///
/// A request that the signer cannot make canonical, which does not occur with a URL that has been parsed.
pub fn headers(
    request: Unsigned<'_>,
    credentials: &Credentials,
    service: &str,
    region: &str,
    time: SystemTime,
) -> Result<Vec<(&'static str, String)>, SignError> {
    headers_of(
        request,
        &[("content-type", CONTENT_TYPE)],
        credentials,
        service,
        region,
        time,
    )
}

/// Like [`headers`], but also signs the headers in `also`, whose names are in lower case.
///
/// # Errors
///
/// As for [`headers`].
pub fn headers_of(
    request: Unsigned<'_>,
    also: &[(&str, &str)],
    credentials: &Credentials,
    service: &str,
    region: &str,
    time: SystemTime,
) -> Result<Vec<(&'static str, String)>, SignError> {
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let identity = credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(time)
        .settings(settings)
        .build()?
        .into();
    let signed = std::iter::once(("host", request.host)).chain(also.iter().copied());
    let signable = SignableRequest::new(request.method, request.url, signed, SignableBody::Bytes(request.body))?;
    let (instructions, _signature) = sign(signable, &params)?.into_parts();
    Ok(instructions
        .headers()
        .filter_map(|(name, value)| static_name(name).map(|name| (name, value.to_owned())))
        .collect())
}

/// Returns the header's static name, if the signer may add it; the signer's names are in lower case.
fn static_name(name: &str) -> Option<&'static str> {
    [
        "authorization",
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-security-token",
    ]
    .into_iter()
    .find(|known| *known == name)
}
