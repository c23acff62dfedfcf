//! One call on a connection: its request goes out, its response comes in.
//!
//! Both happen in the task of the caller. hyper's client would take the request through a queue to a task of
//! the connection, and spawn one more for each response; here a call wakes the task that writes to the
//! socket, and is woken by it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use futures::future::BoxFuture;
use http::Extensions;
use http::header::{self, HeaderMap};
use tonic::body::Body;

use super::Inner;
use super::body::ResponseBody;
use super::error::{ConnectionError, Lost};
use super::link::Sender;
use super::slots::{Closed, Slot};
use super::upload::{self, Upload};

/// The response of a [`Connection`](super::Connection). Dropped before, the call is taken back and the server
/// told so.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture {
    state: State,
    inner: Arc<Inner>,
}

enum State {
    /// The server takes no more streams for now.
    Waiting(Box<Waiting>),
    Open(Option<Stream>),
    Failed(Option<Box<ConnectionError>>),
}

/// In a request's extensions: it waits for a stream although its instance takes no calls of others. A
/// health check has to find out when that changes.
#[derive(Clone, Copy)]
pub(crate) struct Patient;

/// Why a request is given back.
enum NoSlot {
    Down,
    /// Other instances take calls.
    Withdrawn,
}

struct Waiting {
    turn: BoxFuture<'static, Result<Slot, NoSlot>>,
    sender: Arc<Sender>,
    request: Option<http::Request<Body>>,
}

/// A stream that is open, and what lives as long.
pub(super) struct Stream {
    response: h2::client::ResponseFuture,
    upload: Option<Upload>,
    slot: Slot,
    /// The request's, whose memory the response's can have.
    extensions: Extensions,
    /// How often the connection had been polled.
    opened: u64,
}

impl ResponseFuture {
    /// Sends the request now, if there is room for it.
    pub(super) fn new(inner: Arc<Inner>, request: http::Request<Body>) -> Self {
        let state = match inner.link.sender() {
            None => State::unsent(&inner, Some(request), NoSlot::Down),
            Some(sender) => match sender.slots.try_take() {
                Ok(Some(slot)) => State::send(&inner, &sender, slot, request),
                Ok(None) => {
                    let turn = turn(&inner, &sender, &request);
                    State::Waiting(Box::new(Waiting { turn, sender, request: Some(request) }))
                }
                Err(Closed) => State::unsent(&inner, Some(request), NoSlot::Down),
            },
        };
        Self { state, inner }
    }

    /// Whether the server has no room for the request yet, which is still here.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }
}

/// Waits for room, for as long as the instance takes calls.
fn turn(
    inner: &Inner,
    sender: &Sender,
    request: &http::Request<Body>,
) -> BoxFuture<'static, Result<Slot, NoSlot>> {
    let slot = sender.slots.clone().take();
    if request.extensions().get::<Patient>().is_some() {
        return Box::pin(async { slot.await.map_err(|Closed| NoSlot::Down) });
    }
    let readiness = inner.readiness.clone();
    Box::pin(async move {
        tokio::select! {
            biased;
            slot = slot => slot.map_err(|Closed| NoSlot::Down),
            () = readiness.withdrawn() => Err(NoSlot::Withdrawn),
        }
    })
}

impl State {
    fn unsent(inner: &Inner, request: Option<http::Request<Body>>, why: NoSlot) -> Self {
        let instance = inner.instance.clone();
        let error = match why {
            NoSlot::Down => ConnectionError::unsent(instance, request, None),
            NoSlot::Withdrawn => ConnectionError::withdrawn(instance, request),
        };
        Self::Failed(Some(Box::new(error)))
    }

    fn broken(inner: &Inner, request: Option<http::Request<Body>>, error: h2::Error) -> Self {
        let error = ConnectionError::unsent(inner.instance.clone(), request, Some(error));
        Self::Failed(Some(Box::new(error)))
    }

    fn send(inner: &Inner, sender: &Sender, slot: Slot, mut request: http::Request<Body>) -> Self {
        let mut requests = sender.requests.clone();
        // A handle that has sent nothing waits for nothing: it is ready, or the connection is over.
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(Err(error)) = requests.poll_ready(&mut cx) {
            return Self::broken(inner, Some(request), error);
        }
        inner.complete(&mut request);
        strip_connection_headers(request.headers_mut());
        // h2 looks at none but that of an extended CONNECT, which gRPC does not know.
        let extensions = std::mem::take(request.extensions_mut());
        let (head, body) = request.into_parts();
        let is_empty = http_body::Body::is_end_stream(&body);
        match requests.send_request(http::Request::from_parts(head, ()), is_empty) {
            Ok((response, stream)) => {
                let upload = match is_empty {
                    true => None,
                    false => upload::start(body, stream, &inner.runtime),
                };
                let opened = slot.slots().withdrawn.polls();
                Self::Open(Some(Stream { response, upload, slot, extensions, opened }))
            }
            // It has ended since it was asked.
            Err(error) if error.is_io() || error.is_go_away() => Self::broken(inner, None, error),
            Err(error) => {
                let error = ConnectionError::failed(inner.instance.clone(), Lost::Http2(error));
                Self::Failed(Some(Box::new(error)))
            }
        }
    }
}

impl Future for ResponseFuture {
    type Output = Result<http::Response<ResponseBody>, ConnectionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { state, inner } = self.get_mut();
        if let State::Waiting(waiting) = state {
            let turn = ready!(waiting.turn.as_mut().poll(cx));
            // It is there until this state is left.
            let Some(request) = waiting.request.take() else { return Poll::Pending };
            *state = match turn {
                Ok(slot) => State::send(inner, &waiting.sender.clone(), slot, request),
                Err(why) => State::unsent(inner, Some(request), why),
            };
        }
        let stream = match state {
            State::Open(Some(stream)) => stream,
            State::Failed(error) => match error.take() {
                Some(error) => return Poll::Ready(Err(*error)),
                None => return Poll::Pending,
            },
            // Polled after its end.
            State::Open(None) | State::Waiting(_) => return Poll::Pending,
        };
        let answer = ready!(Pin::new(&mut stream.response).poll(cx));
        let State::Open(Some(stream)) = std::mem::replace(state, State::Open(None)) else {
            return Poll::Pending;
        };
        let Stream { slot, upload, extensions, .. } = stream;
        let instance = inner.instance.clone();
        Poll::Ready(match answer {
            Ok(response) => {
                if let Some(reads) = &slot.slots().reads {
                    reads.note(0);
                }
                let mut response =
                    response.map(|body| ResponseBody::new(body, slot, upload, instance.clone()));
                // What the request's extensions were kept in; anew it would be three allocations.
                let mut room = extensions;
                room.clear();
                room.insert(instance);
                room.extend(std::mem::take(response.extensions_mut()));
                *response.extensions_mut() = room;
                Ok(response)
            }
            Err(error) => Err(ConnectionError::failed(instance, Lost::stream(error, slot.slots()))),
        })
    }
}

impl Drop for ResponseFuture {
    fn drop(&mut self) {
        if let State::Open(stream) = &mut self.state
            && let Some(stream) = stream.take()
        {
            let slots = stream.slot.slots().clone();
            if slots.withdrawn.is_unsent(stream.opened) {
                slots.withdrawn.keep(stream);
            }
        }
    }
}

/// What is between two neighbours of HTTP/1 has no place in HTTP/2 (RFC 9113, 8.2.2), and h2 refuses it.
fn strip_connection_headers(headers: &mut HeaderMap) {
    const NAMES: [&str; 5] =
        ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
    if headers.keys().any(|name| NAMES.contains(&name.as_str())) {
        NAMES.iter().for_each(|name| drop(headers.remove(*name)));
    }
    if headers.get(header::TE).is_some_and(|te| te != "trailers") {
        headers.remove(header::TE);
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("instance", &self.inner.instance)
            .finish_non_exhaustive()
    }
}
