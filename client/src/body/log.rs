//! A request's body as it came in, and how much of it each attempt has read.
//!
//! The body is the caller's code. It may take long, panic, or come back here while it is polled or
//! dropped: a request stream may own the response of its own call, and dropping that ends an attempt.
//! So none of it runs under the lock. Whoever polls takes the body out of the log and puts it back;
//! everything that is no longer needed is moved out under the lock and dropped after it.

mod state;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use fleetward_http2::frames::poll_filled;
use http_body::{Body, Frame};

use self::state::{Next, Source, State, Step};
use super::AttemptError;
use super::buffer::{ReplayBuffer, Share};
use super::waiting::Waiting;

pub(super) type Polled<E> = Poll<Option<Result<Frame<Bytes>, AttemptError<E>>>>;

/// Frames are kept while the call is not committed; then its one reader takes them out, and reads the
/// rest from the body itself.
pub(super) struct Log<B: Body> {
    state: Mutex<State<B>>,
    /// Apart from the state: a body may wake while it is polled.
    waiting: Arc<Waiting>,
}

impl<B: Body> Log<B> {
    /// No foreign code runs while this is held.
    fn lock(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another attempt can no longer be made.
    pub(super) fn is_committed(&self) -> bool {
        self.lock().committed.is_some()
    }

    pub(super) fn is_committed_to_another(&self, reader: u64) -> bool {
        self.lock().committed.is_some_and(|other| other != reader)
    }

    /// A new reader, which begins at the beginning; none once the call is committed.
    pub(super) fn reader(&self) -> Option<u64> {
        let mut state = self.lock();
        if state.committed.is_some() {
            return None;
        }
        state.readers += 1;
        Some(state.readers)
    }

    /// Whether nothing comes after so many frames. `false` if only the body could tell.
    pub(super) fn is_over(&self, at: usize) -> bool {
        let state = self.lock();
        matches!(state.body, Source::Ended) && at >= state.first + state.frames.len()
    }

    /// Only `reader` reads from now on; unless it is another one already.
    pub(super) fn commit(&self, reader: u64) {
        let unneeded = self.lock().commit_if_first(reader);
        // Those who wait in vain hear of it.
        self.waiting.wake_all();
        drop(unneeded);
    }

    /// `reader` reads no more. If the call was committed to it, nobody does.
    pub(super) fn leave(&self, reader: u64) {
        let unneeded = self.lock().leave(reader);
        self.waiting.wake_all();
        drop(unneeded);
    }
}

impl<B> Log<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Clone,
{
    pub(super) fn new(
        frames: VecDeque<Frame<Bytes>>,
        body: B,
        limit: usize,
        buffer: &Arc<ReplayBuffer>,
    ) -> Arc<Self> {
        let read = frames.iter().filter_map(Frame::data_ref).map(Bytes::len).sum();
        let mut share = buffer.empty_share();
        let fits = read <= limit && share.grow(read).is_ok();
        Self::with(frames, body, limit, fits.then_some(share))
    }

    /// One that goes out once.
    pub(super) fn once(frames: VecDeque<Frame<Bytes>>, body: B) -> Arc<Self> {
        Self::with(frames, body, 0, None)
    }

    fn with(
        frames: VecDeque<Frame<Bytes>>,
        body: B,
        limit: usize,
        share: Option<Share>,
    ) -> Arc<Self> {
        let state = State::new(frames, body, limit, share);
        Arc::new(Self { state: Mutex::new(state), waiting: Arc::default() })
    }

    /// Frame number `at`, for `reader`.
    pub(super) fn poll_frame(
        &self,
        reader: u64,
        at: usize,
        cx: &mut Context<'_>,
    ) -> Polled<B::Error> {
        self.poll_next(reader, at, cx).map_err(|error| match error {
            // The body's own, which knows how to copy itself.
            AttemptError::Body(error) => AttemptError::Body(Arc::unwrap_or_clone(error)),
            AttemptError::Cancelled(why) => AttemptError::Cancelled(why),
            AttemptError::Panicked => AttemptError::Panicked,
        })
    }

    fn poll_next(&self, reader: u64, at: usize, cx: &mut Context<'_>) -> Poll<Next<B::Error>> {
        let mut listens = false;
        loop {
            let (step, unneeded) = self.lock().step(reader, at);
            drop(unneeded);
            match step {
                Step::Done(frame) => return Poll::Ready(frame),
                Step::Wait if listens => return Poll::Pending,
                // Then looks again: the body may be back by now.
                Step::Wait => self.waiting.add(cx.waker()),
                Step::Poll { body, alone } => return self.poll_body(reader, at, body, alone, cx),
            }
            listens = true;
        }
    }

    fn poll_body(
        &self,
        reader: u64,
        at: usize,
        body: B,
        alone: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Next<B::Error>> {
        let mut loan = Loan { log: self, body: Some(body) };
        let Some(body) = &mut loan.body else { return Poll::Pending };
        let polled = if alone {
            let polled = poll_filled(Pin::new(body), cx).map_err(shared);
            if polled.is_pending() {
                // The call may end before the body goes on.
                self.waiting.add(cx.waker());
            }
            polled
        } else {
            // Readers wait for one body, which knows one waker: all are woken.
            self.waiting.add(cx.waker());
            let all = Waker::from(self.waiting.clone());
            poll_filled(Pin::new(body), &mut Context::from_waker(&all)).map_err(shared)
        };
        let came = polled.is_ready();
        let (polled, unneeded) = self.lock().put_back(reader, at, loan.body.take(), polled);
        // Whoever waits for a body that this reader had goes on; one that is still pending wakes
        // by itself, unless this was the reader that it woke, which no longer comes back.
        if came && !alone || !came && polled.is_ready() {
            self.waiting.wake_all();
        }
        drop(unneeded);
        polled
    }
}

/// A body on its way back to the log.
struct Loan<'a, B: Body> {
    log: &'a Log<B>,
    body: Option<B>,
}

impl<B: Body> Drop for Loan<'_, B> {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        // It has panicked. Nobody gets more of it.
        let before = mem::replace(&mut self.log.lock().body, Source::Panicked);
        self.log.waiting.wake_all();
        drop((before, body));
    }
}

fn shared<E>(error: E) -> AttemptError<Arc<E>> {
    AttemptError::Body(Arc::new(error))
}
