//! AWS credentials: in the function the four variables that Lambda sets, on the command line the usual chain.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use tokio::sync::Mutex;

use crate::config::Variables;

/// The credentials that Lambda puts into the environment. They hold for the sandbox's life.
pub fn from_environment(variables: &Variables) -> Option<SharedCredentialsProvider> {
    let get = |name: &str| variables.get(name).filter(|value| !value.is_empty()).cloned();
    let (key, secret) = (get("AWS_ACCESS_KEY_ID")?, get("AWS_SECRET_ACCESS_KEY")?);
    let credentials = Credentials::new(key, secret, get("AWS_SESSION_TOKEN"), None, "environment");
    Some(SharedCredentialsProvider::new(credentials))
}

/// Credentials that are about to end are not used any more.
const MARGIN: Duration = Duration::from_mins(1);

/// The credentials in use. A provider may run a program or ask a server each time, so what it gave is kept until it ends, or
/// until a service says that it has.
#[derive(Debug)]
pub struct CredentialCache {
    provider: SharedCredentialsProvider,
    kept: Mutex<Option<Credentials>>,
}

impl CredentialCache {
    /// Keeps what `provider` will give.
    pub fn new(provider: SharedCredentialsProvider) -> Self {
        Self {
            provider,
            kept: Mutex::new(None),
        }
    }

    /// Who gives them.
    pub const fn provider(&self) -> &SharedCredentialsProvider {
        &self.provider
    }

    /// The credentials to sign with at `now`.
    ///
    /// # Errors
    ///
    /// When the provider has none to give.
    pub async fn at(&self, now: SystemTime) -> Result<Credentials, CredentialsError> {
        let mut kept = self.kept.lock().await;
        let holds = |credentials: &Credentials| credentials.expiry().is_none_or(|expiry| now + MARGIN < expiry);
        if let Some(credentials) = kept.as_ref().filter(|credentials| holds(credentials)) {
            return Ok(credentials.clone());
        }
        let credentials = self.provider.provide_credentials().await?;
        *kept = Some(credentials.clone());
        Ok(credentials)
    }

    /// Asks for others than those that a service says have ended. False when there are none: those of the environment, and
    /// so the function's, never change.
    pub async fn renew(&self, ended: &Credentials) -> bool {
        let mut kept = self.kept.lock().await;
        let others = |credentials: &Credentials| {
            (credentials.access_key_id(), credentials.session_token()) != (ended.access_key_id(), ended.session_token())
        };
        // Another request may have found out before.
        if kept.as_ref().is_some_and(others) {
            return true;
        }
        match self.provider.provide_credentials().await {
            Ok(credentials) if others(&credentials) => {
                *kept = Some(credentials);
                true
            }
            _ => false,
        }
    }
}
