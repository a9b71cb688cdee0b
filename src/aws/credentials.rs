//! AWS credentials: in the function the four variables that Lambda sets, on the command line the usual chain.

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;

use crate::config::Variables;

/// The credentials that Lambda puts into the environment. They hold for the sandbox's life.
pub fn from_environment(variables: &Variables) -> Option<SharedCredentialsProvider> {
    let get = |name: &str| variables.get(name).filter(|value| !value.is_empty()).cloned();
    let (key, secret) = (get("AWS_ACCESS_KEY_ID")?, get("AWS_SECRET_ACCESS_KEY")?);
    let credentials = Credentials::new(key, secret, get("AWS_SESSION_TOKEN"), None, "environment");
    Some(SharedCredentialsProvider::new(credentials))
}
