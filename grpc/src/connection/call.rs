//! One call on a connection.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use fleetward_client::Deadline;
use fleetward_core::InstanceId;
use fleetward_core::endpoints::Readiness;
use fleetward_http2::{Call, Caller, Sender};
use futures::future::BoxFuture;
use h2::Reason;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Uri, header};
use tonic::body::Body;
use tonic::{Code, Status};

use super::body::ResponseBody;
use super::error::ConnectionError;
use crate::deadline;

/// What the calls of one connection have in common.
pub(super) struct Peer {
    pub(super) instance: InstanceId,
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    pub(super) authority_is_forced: bool,
    pub(super) user_agent: HeaderValue,
    /// Says when no call should wait here any more.
    pub(super) readiness: Readiness,
}

/// In a request's extensions: it waits for a stream although its instance takes no calls of others. A
/// health check has to find out when that changes.
#[derive(Clone, Copy)]
pub(crate) struct Patient;

impl Caller for Peer {
    type Body = Body;

    /// Everything that HTTP/2 asks for, and what is left of the deadline. gRPC's own headers are tonic's matter.
    fn complete(&self, request: &mut http::Request<Body>) {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(self.scheme.clone());
        if self.authority_is_forced || parts.authority.is_none() {
            parts.authority = Some(self.authority.clone());
        }
        if parts.path_and_query.is_none() {
            parts.path_and_query = Some(PathAndQuery::from_static("/"));
        }
        // All three parts are there, so this cannot fail.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        let ours = self.user_agent.clone();
        if let Some(given) = request.headers_mut().insert(header::USER_AGENT, ours) {
            let both = [given.as_bytes(), b" ", self.user_agent.as_bytes()].concat();
            if let Ok(both) = HeaderValue::from_bytes(&both) {
                request.headers_mut().insert(header::USER_AGENT, both);
            }
        }
        if let Some(deadline) = request.extensions().get::<Deadline>().copied() {
            deadline::write(deadline, request.headers_mut());
        }
    }

    fn withdrawn(&self, request: &http::Request<Body>) -> Option<BoxFuture<'static, ()>> {
        if request.extensions().get::<Patient>().is_some() {
            return None;
        }
        let readiness = self.readiness.clone();
        Some(Box::pin(async move { readiness.withdrawn().await }))
    }

    /// A body is cancelled if its call goes on with another attempt.
    fn reason(error: &Status) -> Reason {
        match error.code() {
            Code::Cancelled => Reason::CANCEL,
            _ => Reason::INTERNAL_ERROR,
        }
    }
}

/// The response of a [`Connection`](super::Connection). Dropped before, the call is taken back and the server
/// told so.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture {
    call: Call<Peer>,
}

impl ResponseFuture {
    pub(super) fn new(
        peer: Arc<Peer>,
        sender: Option<Arc<Sender>>,
        request: http::Request<Body>,
    ) -> Self {
        Self { call: Call::new(peer, sender, request) }
    }

    /// Whether the server has no room for the request yet, which is still here.
    pub(crate) fn is_waiting(&self) -> bool {
        self.call.is_waiting()
    }
}

impl Future for ResponseFuture {
    type Output = Result<http::Response<ResponseBody>, ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.call).poll(cx));
        let instance = &self.call.caller().instance;
        Poll::Ready(match result {
            Ok((response, mut room)) => {
                let mut response = response.map(|body| ResponseBody::new(body, instance.clone()));
                room.clear();
                room.insert(instance.clone());
                room.extend(std::mem::take(response.extensions_mut()));
                *response.extensions_mut() = room;
                Ok(response)
            }
            Err(error) => Err(ConnectionError::new(instance.clone(), error)),
        })
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("instance", &self.call.caller().instance)
            .finish_non_exhaustive()
    }
}
