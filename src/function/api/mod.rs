//! Lambda's Runtime API and Extensions API, for requests that the runtime's crate does not make.

mod connection;

use lambda_runtime_api_client::{PooledClient, body::Body};
use serde_json::json;

pub(super) use connection::Api;

use super::BoxError;
use crate::config::Variables;

/// Returns the address of both APIs: a host and its port.
///
/// # Errors
///
/// When the environment does not have it.
fn address(variables: &Variables) -> Result<&str, BoxError> {
    let address = variables
        .get("AWS_LAMBDA_RUNTIME_API")
        .ok_or("`AWS_LAMBDA_RUNTIME_API` is not set; this program is started by AWS Lambda")?;
    Ok(address)
}

/// Reports to Lambda the reason why the function cannot start; Lambda shows it to the caller or the deployer.
pub(super) async fn report_init_error(variables: &Variables, kind: &str, message: &str) {
    let endpoint = address(variables).and_then(|address| Ok(format!("http://{address}").parse()?));
    let body = json!({"errorType": kind, "errorMessage": message}).to_string();
    let request = http::Request::post("/2018-06-01/runtime/init/error")
        .header("Lambda-Runtime-Function-Error-Type", format!("Runtime.{kind}"))
        .body(Body::from(body));
    if let (Ok(endpoint), Ok(request)) = (endpoint, request) {
        // The log line has the same text if this fails.
        let _ = PooledClient::builder()
            .with_endpoint(endpoint)
            .build()
            .call(request)
            .await;
    }
}
