//! A layer around the handler of the role `manage` that makes every payload valid JSON.

use std::task::{Context, Poll};

use lambda_runtime::{LambdaInvocation, tower};
use serde::de::IgnoredAny;
use tower::{Layer, Service};

/// The replacement for a payload that is not JSON.
const NOT_JSON: &str = r#""not JSON""#;

/// A layer that makes sure that the handler is called: the runtime's crate answers a payload that it cannot parse with
/// an error that does not tell the caller the reason.
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
