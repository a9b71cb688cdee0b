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

/// Reads an answer to its end, so that its connection can be used again.
#[cfg(feature = "capture")]
pub(super) async fn read(
    mut body: impl http_body::Body<Data: bytes::Buf, Error: Into<BoxError>> + Unpin,
) -> Result<Vec<u8>, BoxError> {
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or_default();
    let mut read = Vec::with_capacity(expected);
    while let Some(frame) = std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame.map_err(Into::into)?.into_data() {
            bytes::BufMut::put(&mut read, data);
        }
    }
    Ok(read)
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
