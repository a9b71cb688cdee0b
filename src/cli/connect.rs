//! Connections of the command line to remote destinations.

use anyhow::Context;
use aws_credential_types::provider::SharedCredentialsProvider;

use crate::client::http::{ClientError, Deliverer, http_client};
use crate::client::router::RemoteDestination;
use crate::config::Config;
use crate::destination::opensearch::Target;
use crate::destination::{Auth, Destination};

/// Returns a deliverer for a target, with credentials of the usual AWS chain if it signs requests.
pub(super) async fn open_deliverer(config: &Config, target: &Target) -> anyhow::Result<Deliverer> {
    let plain = |error: ClientError| anyhow::anyhow!("{error}");
    let http = http_client(config.ca_file.as_deref(), &config.timing).map_err(plain)?;
    let credentials = match target.auth {
        Auth::SigV4 { .. } => Some(credentials().await?),
        _ => None,
    };
    let timing = config.timing_for(&Destination::OpenSearch(target.clone()));
    Ok(Deliverer::new(http, target.clone(), timing, credentials))
}

/// Connects to a remote destination; none for a file.
pub(super) async fn open_remote(
    config: &Config,
    destination: &Destination,
) -> anyhow::Result<Option<RemoteDestination>> {
    let signs = match destination {
        Destination::OpenSearch(target) => matches!(target.auth, Auth::SigV4 { .. }),
        Destination::Message(outlet) => matches!(outlet.auth, Auth::SigV4 { .. }),
        Destination::Sqlite(_) => false,
    };
    let credentials = if signs { Some(credentials().await?) } else { None };
    let timing = config.timing_for(destination);
    RemoteDestination::open(destination, config.ca_file.as_deref(), timing, credentials)
        .map_err(|error| anyhow::anyhow!("{error}"))
}

/// Returns a provider that searches environment, profiles, SSO, web identity, container and instance roles, in the order of
/// every AWS tool.
pub(super) async fn credentials() -> anyhow::Result<SharedCredentialsProvider> {
    use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
    // The provider is named, because with two providers in one process rustls would not choose one.
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .http_client(http)
        .load()
        .await;
    config
        .credentials_provider()
        .context("found no AWS credentials; set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
}
