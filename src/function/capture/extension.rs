//! The internal extension: between the reply and its own "next", it indexes.

use std::sync::Arc;
use std::time::Duration;

use lambda_runtime_api_client::{PooledClient, body::Body};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::super::api::{client, read};
use super::{BoxError, Capture, Job, finish};
use crate::config::Variables;

/// Init may wait so long for the connection to the index; a visitor may be waiting for init.
const PREPARATION: Duration = Duration::from_millis(100);

/// A registered extension.
pub(super) struct Extension {
    client: PooledClient,
    id: http::HeaderValue,
}

impl Extension {
    /// Registers for INVOKE.
    pub(super) async fn register(variables: &Variables) -> Result<Self, BoxError> {
        let client = client(variables)?;
        let request = http::Request::post("/2020-01-01/extension/register")
            .header("Lambda-Extension-Name", "pixel")
            .header("Content-Type", "application/json")
            .body(Body::from(r#"{"events":["INVOKE"]}"#))?;
        let answer = client.call(request).await?;
        let id = answer.headers().get("lambda-extension-identifier").cloned();
        let id = id.ok_or_else(|| format!("could not register the extension: status {}", answer.status()))?;
        Ok(Self { client, id })
    }

    /// Indexes what each invocation leaves to do, until the sandbox ends.
    pub(super) async fn run(
        self,
        capture: Arc<Capture>,
        mut jobs: mpsc::UnboundedReceiver<Option<Job>>,
        preparation: JoinHandle<()>,
    ) -> Result<(), BoxError> {
        // Prepared or not, the visitor comes first.
        let _ = tokio::time::timeout(PREPARATION, preparation).await;
        loop {
            self.next().await?;
            if let Some(Some(job)) = jobs.recv().await {
                finish(Arc::clone(&capture), job).await;
            }
        }
    }

    async fn next(&self) -> Result<(), BoxError> {
        let request = http::Request::get("/2020-01-01/extension/event/next")
            .header("Lambda-Extension-Identifier", self.id.clone())
            .body(Body::empty())?;
        let answer = self.client.call(request).await?;
        let status = answer.status();
        read(answer.into_body()).await?;
        if status.is_success() {
            Ok(())
        } else {
            Err(format!("the Extensions API answered {status}").into())
        }
    }
}
