//! The internal extension: between the reply and its own "next", it indexes.

use std::time::Duration;

use http::{HeaderValue, Request};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::super::api::Api;
use super::{BoxError, Capture, Job, finish};

/// The longest time that init or the first hit waits for the connection to the index; a visitor may be waiting.
pub(super) const WARM_UP_TIMEOUT: Duration = Duration::from_millis(100);

/// A registered extension.
pub(super) struct Extension {
    api: Api,
    id: HeaderValue,
}

impl Extension {
    /// Registers for INVOKE.
    ///
    /// # Errors
    ///
    /// When Lambda refuses that, as Lambda Managed Instances always do.
    pub(super) async fn register(mut api: Api) -> Result<Self, BoxError> {
        let request = Request::post("/2020-01-01/extension/register")
            .header("Lambda-Extension-Name", "pixel")
            .header("Content-Type", "application/json")
            .body(r#"{"events":["INVOKE"]}"#.to_owned())?;
        let answer = api.call(request).await?;
        let id = answer.headers().get("lambda-extension-identifier").cloned();
        let id = id.ok_or_else(|| {
            let (status, reason) = (answer.status(), String::from_utf8_lossy(answer.body()));
            format!("status {status}: {}", reason.chars().take(200).collect::<String>())
        })?;
        Ok(Self { api, id })
    }

    /// Indexes the event of each invocation, until the sandbox ends.
    pub(super) async fn run(
        mut self,
        capture: &Capture,
        mut jobs: mpsc::UnboundedReceiver<Option<Job>>,
        preparation: JoinHandle<()>,
    ) -> Result<(), BoxError> {
        // Prepared or not, the visitor comes first.
        let _ = tokio::time::timeout(WARM_UP_TIMEOUT, preparation).await;
        let budget = capture.function.config.destination_timing().budget;
        loop {
            self.next().await?;
            if let Some(Some(job)) = jobs.recv().await {
                finish(capture, job, budget).await;
            }
        }
    }

    async fn next(&mut self) -> Result<(), BoxError> {
        let request = Request::get("/2020-01-01/extension/event/next")
            .header("Lambda-Extension-Identifier", self.id.clone())
            .body(String::new())?;
        let status = self.api.call(request).await?.status();
        if status.is_success() {
            Ok(())
        } else {
            Err(format!("the Extensions API answered {status}").into())
        }
    }
}
