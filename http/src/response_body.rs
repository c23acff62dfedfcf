//! A response's body that takes its call to the end.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use fleetward_client::{Deadline, DeadlineTimer};
use fleetward_core::endpoints::{InFlight, Outcome};
use fleetward_core::{BoxError, Error, ErrorKind, InstanceId};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::origin::chain;

pin_project! {
    /// The body of a response, as an instance sends it.
    ///
    /// The call is under way until this has ended or is dropped, and ends with an error when its
    /// deadline passes. Errors name the instance. A response that the call kept while it made further
    /// attempts may have lost its body: then that is an error, too.
    #[must_use]
    pub struct ResponseBody<B> {
        // Gone at its end: it may hold a connection.
        #[pin]
        inner: Option<B>,
        instance: InstanceId,
        call: Option<InFlight>,
        // Whether the body was dropped before the caller had it, and has not heard so yet.
        let_go: bool,
        deadline: Option<(DeadlineTimer, Arc<str>)>,
    }
}

impl<B> ResponseBody<B> {
    pub(crate) fn new(inner: B, instance: InstanceId) -> Self {
        Self { inner: Some(inner), instance, call: None, let_go: false, deadline: None }
    }

    /// Finishes the call at the body's end.
    pub(crate) fn carry(&mut self, call: InFlight) {
        self.call = Some(call);
    }

    /// Gives the connection back. What was left of the body is lost.
    pub(crate) fn let_go(&mut self)
    where
        B: Body,
    {
        if self.inner.as_ref().is_some_and(|inner| !inner.is_end_stream()) {
            self.inner = None;
            self.call = None;
            self.let_go = true;
        }
    }

    /// Ends it at the deadline of a call to `service`.
    pub(crate) fn cover(&mut self, deadline: Deadline, service: Arc<str>) {
        self.deadline = Some((DeadlineTimer::new(deadline), service));
    }
}

impl<B: Body> Body for ResponseBody<B>
where
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, Error>>> {
        let this = self.as_mut().project();
        let Some(mut inner) = this.inner.as_pin_mut() else {
            let error = || {
                let message = "the response's body was let go while further attempts were made";
                Error::new(ErrorKind::Unavailable, message).with_context("instance", this.instance)
            };
            return Poll::Ready(std::mem::take(this.let_go).then(|| Err(error())));
        };
        let Poll::Ready(frame) = inner.as_mut().poll_frame(cx) else {
            let Some((timer, _)) = this.deadline else { return Poll::Pending };
            return timer.poll_passed(cx).map(|()| Some(Err(self.exceeded())));
        };
        Poll::Ready(match frame {
            // Who knows the length may never ask for the end.
            Some(Ok(frame)) if frame.is_trailers() || inner.is_end_stream() => {
                self.finish(Outcome::Success);
                Some(Ok(frame))
            }
            // A stream that never pauses must end too.
            Some(Ok(_))
                if this.deadline.as_ref().is_some_and(|(at, _)| at.deadline().has_passed()) =>
            {
                Some(Err(self.exceeded()))
            }
            Some(Ok(frame)) => Some(Ok(frame)),
            Some(Err(error)) => Some(Err(self.broken(error.into()))),
            None => {
                self.as_mut().finish(Outcome::Success);
                self.project().inner.set(None);
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        !self.let_go && self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let none = if self.let_go { SizeHint::default() } else { SizeHint::with_exact(0) };
        self.inner.as_ref().map_or(none, Body::size_hint)
    }
}

impl<B> ResponseBody<B> {
    fn finish(self: Pin<&mut Self>, outcome: Outcome) {
        if let Some(call) = self.project().call.take() {
            call.finish(outcome);
        }
    }

    fn broken(mut self: Pin<&mut Self>, error: BoxError) -> Error {
        self.as_mut().finish(Outcome::FAILURE);
        let mut this = self.project();
        this.inner.set(None);
        Error::new(ErrorKind::Unavailable, format!("the response broke off: {}", chain(&*error)))
            .with_context("instance", this.instance)
            .with_source(error)
    }

    fn exceeded(mut self: Pin<&mut Self>) -> Error {
        self.as_mut().project().inner.set(None);
        // The instance hears of it, for it is the one that took too long.
        self.as_mut().finish(Outcome::FAILURE);
        let this = self.project();
        let error = Error::timeout("the deadline passed before the response's end")
            .with_context("instance", this.instance);
        match this.deadline {
            Some((_, service)) => error.with_context("service", service),
            None => error,
        }
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("instance", &self.instance)
            .field("ended", &self.inner.is_none())
            .finish_non_exhaustive()
    }
}
