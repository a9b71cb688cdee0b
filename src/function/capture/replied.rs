//! A layer around the handler that tells when the reply has been sent.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use lambda_runtime::{LambdaInvocation, tower};
use tokio::sync::mpsc;
use tower::{Layer, Service};

use super::super::readable::{Readable, ReadableLayer};
use super::{BoxError, Capture, Job};

/// Hands over what is left to do once the reply has been sent, whatever became of the reply.
#[derive(Clone, Debug)]
pub(super) struct RepliedLayer {
    capture: Arc<Capture>,
    replied: mpsc::UnboundedSender<Option<Job>>,
}

impl RepliedLayer {
    pub(super) const fn new(capture: Arc<Capture>, replied: mpsc::UnboundedSender<Option<Job>>) -> Self {
        Self { capture, replied }
    }
}

/// The service of [`RepliedLayer`].
#[derive(Debug)]
pub(super) struct Replied<S> {
    inner: Readable<S>,
    layer: RepliedLayer,
}

impl<S> Layer<S> for RepliedLayer {
    type Service = Replied<S>;

    fn layer(&self, inner: S) -> Replied<S> {
        Replied {
            inner: ReadableLayer.layer(inner),
            layer: self.clone(),
        }
    }
}

impl<S> Service<LambdaInvocation> for Replied<S>
where
    S: Service<LambdaInvocation, Response = (), Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = ();
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, invocation: LambdaInvocation) -> Self::Future {
        let reply = self.inner.call(invocation);
        let layer = self.layer.clone();
        Box::pin(async move {
            let sent = reply.await;
            // The extension lives as long as the runtime: both end together.
            let _ = layer.replied.send(layer.capture.take_job());
            sent
        })
    }
}
