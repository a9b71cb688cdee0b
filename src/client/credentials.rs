//! AWS credentials: in the function from Lambda's environment variables, on the command line from the usual chain.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use tokio::sync::Mutex;

use crate::config::Variables;

/// Returns the credentials that Lambda puts into the environment. They are valid for the life of the sandbox.
pub fn from_environment(variables: &Variables) -> Option<SharedCredentialsProvider> {
    let get = |name: &str| variables.get(name).filter(|value| !value.is_empty()).cloned();
    let (key, secret) = (get("AWS_ACCESS_KEY_ID")?, get("AWS_SECRET_ACCESS_KEY")?);
    let credentials = Credentials::new(key, secret, get("AWS_SESSION_TOKEN"), None, "environment");
    Some(SharedCredentialsProvider::new(credentials))
}

/// The remaining validity below which credentials are not used.
const MARGIN: Duration = Duration::from_mins(1);

/// The credentials in use. A provider may run a program or send a request each time, so its credentials are cached
/// until they expire, or until a service reports that they have.
#[derive(Debug)]
pub struct CredentialCache {
    provider: SharedCredentialsProvider,
    kept: Mutex<Option<Credentials>>,
}

impl CredentialCache {
    /// Creates an empty cache of `provider`'s credentials.
    pub fn new(provider: SharedCredentialsProvider) -> Self {
        Self {
            provider,
            kept: Mutex::new(None),
        }
    }

    /// Returns the provider of the credentials.
    pub const fn provider(&self) -> &SharedCredentialsProvider {
        &self.provider
    }

    /// Returns the credentials to sign with at `now`.
    ///
    /// # Errors
    ///
    /// The error of a provider that has no credentials.
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

    /// Replaces credentials that a service reports as expired. Returns false if the provider has no others: those of
    /// the environment, and so the function's, never change.
    pub async fn renew(&self, ended: &Credentials) -> bool {
        let mut kept = self.kept.lock().await;
        let others = |credentials: &Credentials| {
            (credentials.access_key_id(), credentials.session_token()) != (ended.access_key_id(), ended.session_token())
        };
        // Another request may have replaced them before.
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
