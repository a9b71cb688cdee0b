//! A client of Lambda's Runtime API and Extensions API, for what the runtime's crate does not ask.

use lambda_runtime_api_client::{PooledClient, body::Body};
use serde_json::json;

use super::BoxError;
use crate::config::Variables;

/// A client that keeps its connections.
///
/// # Errors
///
/// When Lambda has not said where its API is.
pub(super) fn client(variables: &Variables) -> Result<PooledClient, BoxError> {
    let address = variables
        .get("AWS_LAMBDA_RUNTIME_API")
        .ok_or("`AWS_LAMBDA_RUNTIME_API` is not set; this program is started by AWS Lambda")?;
    let endpoint = format!("http://{address}").parse()?;
    Ok(PooledClient::builder().with_endpoint(endpoint).build())
}

/// Tells Lambda why the function cannot start; it shows the message to whoever invokes or deploys it.
pub(super) async fn report_init_error(variables: &Variables, kind: &str, message: &str) {
    let body = json!({"errorType": kind, "errorMessage": message}).to_string();
    let request = http::Request::post("/2018-06-01/runtime/init/error")
        .header("Lambda-Runtime-Function-Error-Type", format!("Runtime.{kind}"))
        .body(Body::from(body));
    if let (Ok(client), Ok(request)) = (client(variables), request) {
        // The log line says the same when nobody listens.
        let _ = client.call(request).await;
    }
}
