//! Layers around the handler: one makes every payload readable, one tells when the reply has been sent.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use lambda_runtime::{LambdaInvocation, tower};
use serde::de::IgnoredAny;
use tokio::sync::mpsc;
use tower::{Layer, Service};

use super::{BoxError, Function, Job};

/// What the handler is given instead of a payload that is not JSON.
pub(super) const NOT_JSON: &str = r#""not JSON""#;

/// Makes sure that the handler is called: the runtime's crate answers what it cannot parse with an error, and a visitor
/// would see a broken image.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadableLayer;

/// The service of [`ReadableLayer`].
#[derive(Debug)]
pub(super) struct Readable<S>(S);

impl<S> Layer<S> for ReadableLayer {
    type Service = Readable<S>;

    fn layer(&self, inner: S) -> Readable<S> {
        Readable(inner)
    }
}

impl<S: Service<LambdaInvocation>> Service<LambdaInvocation> for Readable<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut invocation: LambdaInvocation) -> S::Future {
        if std::str::from_utf8(&invocation.body).is_err() {
            invocation.body = String::from_utf8_lossy(&invocation.body).into_owned().into();
        }
        if serde_json::from_slice::<IgnoredAny>(&invocation.body).is_err() {
            invocation.body = NOT_JSON.into();
        }
        self.0.call(invocation)
    }
}

/// Hands over what is left to do once the reply has been sent, whatever became of the reply.
#[derive(Clone, Debug)]
pub(super) struct RepliedLayer {
    function: Arc<Function>,
    replied: mpsc::UnboundedSender<Option<Job>>,
}

impl RepliedLayer {
    pub(super) const fn new(function: Arc<Function>, replied: mpsc::UnboundedSender<Option<Job>>) -> Self {
        Self { function, replied }
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
            let _ = layer.replied.send(layer.function.take_job());
            sent
        })
    }
}
