//! A body that comes in over time, lent to one attempt after the other.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use fleetward_core::BoxError;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;

/// The caller's body.
pub(super) type Boxed = UnsyncBoxBody<Bytes, BoxError>;

/// The body, and who may read it.
///
/// It can be lent again for as long as nobody has read anything of it. The former borrower may still hold
/// its loan then, in a task of its client's that has not yet heard that the attempt is over: it reads
/// nothing more.
pub(crate) struct Lender {
    state: Mutex<State>,
}

struct State {
    /// Out while somebody polls it, so that the lock is never held over the caller's code; gone once it
    /// has ended or panicked.
    body: Option<Boxed>,
    /// The latest loan.
    loan: u64,
    read: bool,
}

impl Lender {
    pub(super) fn new(body: Boxed) -> Arc<Self> {
        let state = State { body: Some(body), loan: 0, read: false };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Whether another attempt could have it.
    pub(super) fn can_lend(&self) -> bool {
        let state = self.state();
        !state.read && state.body.is_some()
    }

    /// Ends the loan before. `None` if something was read by then.
    pub(super) fn lend(self: &Arc<Self>) -> Option<Loan> {
        let mut state = self.state();
        if state.read || state.body.is_none() {
            return None;
        }
        state.loan += 1;
        Some(Loan { lender: self.clone(), number: state.loan })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to read the body.
pub(super) struct Loan {
    lender: Arc<Lender>,
    number: u64,
}

impl Loan {
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut body = {
            let mut state = self.lender.state();
            if state.loan != self.number {
                return Poll::Ready(Some(Err(Superseded.into())));
            }
            match state.body.take() {
                Some(body) => body,
                None => return Poll::Ready(None),
            }
        };
        let polled = Pin::new(&mut body).poll_frame(cx);
        let mut state = self.lender.state();
        state.read |= polled.is_ready();
        if matches!(polled, Poll::Pending | Poll::Ready(Some(Ok(_)))) {
            state.body = Some(body);
        }
        polled
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.look(true, Body::is_end_stream)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.look(SizeHint::with_exact(0), Body::size_hint)
    }

    /// `gone` is the answer of a body that is not there any more.
    fn look<T>(&self, gone: T, f: impl FnOnce(&Boxed) -> T) -> T {
        let Some(body) = self.lender.state().body.take() else { return gone };
        let answer = f(&body);
        self.lender.state().body = Some(body);
        answer
    }
}

impl Drop for Loan {
    /// What was read of cannot be lent again, so it goes at once: it may hold something open.
    fn drop(&mut self) {
        let mut state = self.lender.state();
        let gone = if state.read && state.loan == self.number { state.body.take() } else { None };
        drop(state);
        drop(gone);
    }
}

/// Another attempt has the body.
#[derive(Debug)]
struct Superseded;

impl fmt::Display for Superseded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the call goes on with another attempt")
    }
}

impl std::error::Error for Superseded {}
