//! One call on a connection: it waits for room, its request goes out, its response comes in.
//!
//! All of this happens in the task of the caller. hyper's client would take the request through a queue to a task of
//! the connection, and spawn one more for each response. Here a call wakes the task that writes to the socket, and is
//! woken by it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use futures::future::BoxFuture;
use h2::Reason;
use http::header::{self, HeaderMap};
use http::{Extensions, Request, Response};
use http_body::Body;

use crate::body::Incoming;
use crate::error::Lost;
use crate::sender::Sender;
use crate::slots::{Closed, Slot};
use crate::stream::Stream;
use crate::upload;

/// What the calls of one client have in common.
pub trait Caller: Send + Sync + 'static {
    /// The body of its requests.
    type Body: Body<Data = Bytes> + Send + Unpin + 'static;

    /// Completes a request that leaves now. It may have waited for a stream before.
    ///
    /// The URI must have a scheme, an authority and a path.
    fn complete(&self, request: &mut Request<Self::Body>);

    /// Ends when a request should wait for a stream no longer, because it may go elsewhere. `None`: it waits until
    /// the connection closes.
    fn withdrawn(&self, request: &Request<Self::Body>) -> Option<BoxFuture<'static, ()>>;

    /// The code of the RST_STREAM that a failed body sends.
    fn reason(error: &<Self::Body as Body>::Error) -> Reason;
}

/// A call that failed.
pub enum CallError<B> {
    /// Nothing of it was sent.
    Unsent {
        /// The request as it was, unless the connection broke in the very moment of sending.
        request: Option<Box<Request<B>>>,
        /// Why.
        why: Unsent,
    },
    /// It failed after the server got the request, or may have got it.
    Failed(Lost),
}

/// Why a request was not sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum Unsent {
    /// There is no connection, or it takes no more requests.
    Down(Option<Lost>),
    /// The request should not wait here any longer ([`Caller::withdrawn`]).
    Withdrawn,
}

impl<B> fmt::Debug for CallError<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsent { why, .. } => f.debug_tuple("Unsent").field(why).finish(),
            Self::Failed(lost) => f.debug_tuple("Failed").field(lost).finish(),
        }
    }
}

/// The response to one request, with what the request's extensions were kept in: filling it again saves the response
/// three allocations.
///
/// Dropped before, the call is taken back: the server is told so.
#[must_use = "futures do nothing unless polled"]
pub struct Call<C: Caller> {
    state: State<C>,
    caller: Arc<C>,
}

enum State<C: Caller> {
    /// The server takes no more streams for now.
    Waiting(Box<Waiting<C>>),
    Open(Option<Stream>),
    Failed(Option<CallError<C::Body>>),
}

/// Why a request that waited is given back.
enum NoSlot {
    Closed,
    Withdrawn,
}

struct Waiting<C: Caller> {
    turn: BoxFuture<'static, Result<Slot, NoSlot>>,
    sender: Arc<Sender>,
    request: Option<Request<C::Body>>,
}

impl<C: Caller> Call<C> {
    /// Sends the request now, if there is room for it. Without a sender there is no connection.
    pub fn new(caller: Arc<C>, sender: Option<Arc<Sender>>, request: Request<C::Body>) -> Self {
        let state = match sender {
            None => State::unsent(Some(request), Unsent::Down(None)),
            Some(sender) => match sender.slots.try_take() {
                Ok(Some(slot)) => State::send(&*caller, &sender, slot, request),
                Ok(None) => {
                    let turn = turn(&sender, caller.withdrawn(&request));
                    State::Waiting(Box::new(Waiting { turn, sender, request: Some(request) }))
                }
                Err(Closed) => State::unsent(Some(request), Unsent::Down(None)),
            },
        };
        Self { state, caller }
    }

    /// Whether the request is still here because the server has no room for it.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    /// Whose call it is.
    pub fn caller(&self) -> &C {
        &self.caller
    }
}

fn turn(
    sender: &Sender,
    withdrawn: Option<BoxFuture<'static, ()>>,
) -> BoxFuture<'static, Result<Slot, NoSlot>> {
    let slot = sender.slots.clone().take();
    let Some(withdrawn) = withdrawn else {
        return Box::pin(async { slot.await.map_err(|Closed| NoSlot::Closed) });
    };
    Box::pin(async move {
        tokio::select! {
            biased;
            slot = slot => slot.map_err(|Closed| NoSlot::Closed),
            () = withdrawn => Err(NoSlot::Withdrawn),
        }
    })
}

impl<C: Caller> State<C> {
    fn unsent(request: Option<Request<C::Body>>, why: Unsent) -> Self {
        let request = request.map(Box::new);
        Self::Failed(Some(CallError::Unsent { request, why }))
    }

    fn send(caller: &C, sender: &Sender, slot: Slot, mut request: Request<C::Body>) -> Self {
        let mut requests = sender.requests.clone();
        // A handle that has sent nothing waits for nothing: it is ready, or the connection is over.
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(Err(error)) = requests.poll_ready(&mut cx) {
            return Self::unsent(Some(request), Unsent::Down(Some(Lost::Http2(error))));
        }
        caller.complete(&mut request);
        strip_connection_headers(request.headers_mut());
        *request.version_mut() = http::Version::HTTP_2;
        // h2 looks at none but that of an extended CONNECT.
        let extensions = std::mem::take(request.extensions_mut());
        let (head, body) = request.into_parts();
        let is_empty = body.is_end_stream();
        match requests.send_request(Request::from_parts(head, ()), is_empty) {
            Ok((response, stream)) => {
                let upload = match is_empty {
                    true => None,
                    false => upload::start(body, stream, C::reason, &sender.runtime),
                };
                Self::Open(Some(Stream::new(response, upload, slot, extensions)))
            }
            // It has ended since it was asked.
            Err(error) if error.is_io() || error.is_go_away() => {
                Self::unsent(None, Unsent::Down(Some(Lost::Http2(error))))
            }
            Err(error) => Self::Failed(Some(CallError::Failed(Lost::Http2(error)))),
        }
    }
}

impl<C: Caller> Future for Call<C> {
    type Output = Result<(Response<Incoming>, Extensions), CallError<C::Body>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { state, caller } = self.get_mut();
        if let State::Waiting(waiting) = state {
            let turn = ready!(waiting.turn.as_mut().poll(cx));
            // It is there until this state is left.
            let Some(request) = waiting.request.take() else { return Poll::Pending };
            *state = match turn {
                Ok(slot) => State::send(&**caller, &waiting.sender.clone(), slot, request),
                Err(NoSlot::Closed) => State::unsent(Some(request), Unsent::Down(None)),
                Err(NoSlot::Withdrawn) => State::unsent(Some(request), Unsent::Withdrawn),
            };
        }
        let stream = match state {
            State::Open(Some(stream)) => stream,
            State::Failed(error) => match error.take() {
                Some(error) => return Poll::Ready(Err(error)),
                None => return Poll::Pending,
            },
            // Polled after its end.
            State::Open(None) | State::Waiting(_) => return Poll::Pending,
        };
        let answer = ready!(stream.poll_response(cx));
        let State::Open(Some(stream)) = std::mem::replace(state, State::Open(None)) else {
            return Poll::Pending;
        };
        Poll::Ready(stream.begin(answer).map_err(CallError::Failed))
    }
}

impl<C: Caller> Drop for Call<C> {
    fn drop(&mut self) {
        if let State::Open(stream) = &mut self.state
            && let Some(stream) = stream.take()
        {
            stream.give_up();
        }
    }
}

/// Headers of HTTP/1 between two neighbours have no place in HTTP/2 (RFC 9113, 8.2.2), and h2 refuses them.
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

impl<C: Caller> fmt::Debug for Call<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("is_waiting", &self.is_waiting()).finish_non_exhaustive()
    }
}
