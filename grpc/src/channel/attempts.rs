//! One attempt of a call: below the retry, above the balancing.

use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

use fleetward_core::{Balanced, BoxError};
use futures::future::BoxFuture;
use http::StatusCode;
use tonic::body::Body;
use tonic::{Code, Status};
use tower_service::Service;

use super::head::failure;
use super::observer::ByStatus;
use super::replay::Replay;
use crate::connection::Fate;
use crate::{Connection, ConnectionError};

/// Sends a call's request to one endpoint, and makes an error of a response that says in its head
/// that the call failed: the retry above looks at errors only.
#[derive(Clone)]
pub(super) struct Attempts {
    balanced: Balanced<Connection, ByStatus>,
}

impl Attempts {
    pub(super) fn new(balanced: Balanced<Connection, ByStatus>) -> Self {
        Self { balanced }
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
        let Some((request, sent)) = replay.request() else {
            // Another attempt of a hedged call was just committed.
            return Box::pin(std::future::ready(Err(Superseded.into())));
        };
        let response = self.balanced.call(request);
        Box::pin(async move {
            match response.await {
                Ok(response) => match failure(&response) {
                    _ if sent.is_superseded() => Err(Superseded.into()),
                    None => Ok(sent.commit(response)),
                    Some(code) => Err(Rejected { code, head: response.into_parts().0 }.into()),
                },
                Err(_) if sent.is_superseded() => Err(Superseded.into()),
                Err(error) => {
                    pause_if_unsent(&replay, &error).await;
                    Err(if sent.is_superseded() { Superseded.into() } else { error })
                }
            }
        })
    }
}

/// The first time an attempt never left, another endpoint is tried at once. If it happens again, the
/// set of endpoints has not yet caught up with connections that were just lost, and gets a moment to
/// do so.
async fn pause_if_unsent(replay: &Replay, error: &BoxError) {
    let unsent = error.downcast_ref::<ConnectionError>().map(ConnectionError::fate);
    if unsent == Some(Fate::Unsent) {
        let before = replay.came_back();
        if before > 0 {
            tokio::time::sleep(Duration::from_millis(1 << before.min(4))).await;
        }
    }
}

/// Another attempt of the same call was committed, so this one could not have the whole request.
#[derive(Debug)]
pub(super) struct Superseded;

impl fmt::Display for Superseded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the call goes on with another attempt")
    }
}

impl std::error::Error for Superseded {}

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
