//! One attempt of a call: below the retry, above the balancing.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use fleetward_core::BoxError;
use futures::future::BoxFuture;
use http::StatusCode;
use tonic::body::Body;
use tonic::{Code, Status};
use tower_service::Service;

use super::Shared;
use super::head::failure;
use super::request::Replay;
use crate::ConnectionError;
use crate::connection::Fate;

/// Sends a call's request to one endpoint, and makes an error of a response that says in its head
/// that the call failed: the retry above looks at errors only.
#[derive(Clone)]
pub(super) struct Attempts {
    channel: Arc<Shared>,
}

impl Attempts {
    pub(super) fn new(channel: Arc<Shared>) -> Self {
        Self { channel }
    }
}

impl Service<Replay> for Attempts {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<http::Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, replay: Replay) -> Self::Future {
        let Some(request) = replay.request() else {
            // Not reachable: the policy tries again only what can be sent again.
            let spent = Status::internal("the request's body was sent already");
            return Box::pin(std::future::ready(Err(spent.into())));
        };
        let response = self.channel.balanced.clone().call(request);
        Box::pin(async move {
            match response.await {
                Ok(response) => match failure(&response) {
                    None => Ok(response),
                    Some(code) => Err(Rejected { code, head: response.into_parts().0 }.into()),
                },
                Err(error) => {
                    take_back(&replay, &error).await;
                    Err(error)
                }
            }
        })
    }
}

/// Keeps the request of an attempt that never left for the next one.
async fn take_back(replay: &Replay, error: &BoxError) {
    let Some(error) = error.downcast_ref::<ConnectionError>() else { return };
    if error.fate() != Fate::Unsent {
        return;
    }
    let before = replay.give_back(error.take_request());
    // The first time another endpoint is tried at once. If it happens again, the set of endpoints
    // has not yet caught up with connections that were just lost, and gets a moment to do so.
    if before > 0 {
        tokio::time::sleep(Duration::from_millis(1 << before.min(4))).await;
    }
}

/// The head of a response that is a failure, kept whole to be handed on as it came.
#[derive(Debug)]
pub(super) struct Rejected {
    pub(super) code: Code,
    pub(super) head: http::response::Parts,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.code)?;
        match self.head.headers.get(Status::GRPC_MESSAGE) {
            Some(message) => {
                let message = String::from_utf8_lossy(message.as_bytes());
                let short: String = message.chars().take(200).collect();
                write!(f, ": {}", short.escape_debug())
            }
            None if self.head.status != StatusCode::OK => write!(f, ": HTTP {}", self.head.status),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Rejected {}
