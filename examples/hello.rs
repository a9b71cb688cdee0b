//! The floor for the function's figures: the runtime's crate with a handler that answers the image and does nothing else.
//!
//! `cargo bench --bench function` builds it as the function is built and drives it beside the function.

use std::convert::Infallible;

use lambda_runtime::{LambdaEvent, service_fn};
use serde::de::IgnoredAny;

/// The reply of the non-proxy integration: the transparent GIF in base64.
const IMAGE: &str = "R0lGODlhAQABAIAAAAAAAAAAACH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda_runtime::run(service_fn(|_: LambdaEvent<IgnoredAny>| async {
        Ok::<_, Infallible>(IMAGE)
    }))
    .await
}
