//! A request's body as it came in, and who has read how much of it.
//!
//! The body is the caller's code. It may take long, panic, or come back here while it is polled or
//! dropped: a request stream may own the response of its own call, and dropping that ends an attempt.
//! So none of it runs under the lock. Whoever polls takes the body out of the log and puts it back;
//! everything that is no longer needed is moved out under the lock and dropped after it.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::Frame;
use tonic::Status;
use tonic::body::Body;

use super::buffer::{Buffer, Share};
use super::waiting::Waiting;
use fleetward_http2::frames::poll_filled;

/// Frames are kept while the call is not committed; then its one reader takes them out, and reads the
/// rest from the body itself.
pub(super) struct Log {
    state: Mutex<State>,
    /// Apart from the state: a body may wake while it is polled.
    waiting: Arc<Waiting>,
}

struct State {
    /// From number `first` on.
    frames: VecDeque<Frame<Bytes>>,
    first: usize,
    body: Source,
    readers: u64,
    /// Those that read no more.
    left: Vec<u64>,
    committed: Committed,
    limit: usize,
    share: Option<Share>,
}

enum Source {
    Here(Body),
    /// A reader polls it at this moment.
    Lent,
    Ended,
    Failed(Status),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Committed {
    No,
    /// To whoever reads first: it goes out once.
    Next,
    To(u64),
}

type Polled = Poll<Option<Result<Frame<Bytes>, Status>>>;

/// What a reader does next.
enum Step {
    Done(Option<Result<Frame<Bytes>, Status>>),
    /// Another reader polls the body.
    Wait,
    Poll {
        body: Body,
        /// Nobody else waits for what comes.
        alone: bool,
    },
}

/// What is no longer needed. Dropping it may run the caller's code.
#[derive(Default)]
struct Unneeded {
    frames: VecDeque<Frame<Bytes>>,
    _polled: Option<Polled>,
    _body: Option<Body>,
}

impl Log {
    pub(super) fn new(
        frames: VecDeque<Frame<Bytes>>,
        body: Body,
        limit: usize,
        buffer: &Arc<Buffer>,
    ) -> Arc<Self> {
        let read = frames.iter().filter_map(Frame::data_ref).map(Bytes::len).sum();
        let mut share = buffer.empty_share();
        let fits = read <= limit && share.grow(read).is_ok();
        let committed = if fits { Committed::No } else { Committed::Next };
        Self::with(frames, body, committed, limit, Some(share))
    }

    /// One that goes out once.
    pub(super) fn committed(frames: VecDeque<Frame<Bytes>>, body: Body) -> Arc<Self> {
        Self::with(frames, body, Committed::Next, 0, None)
    }

    fn with(
        frames: VecDeque<Frame<Bytes>>,
        body: Body,
        committed: Committed,
        limit: usize,
        share: Option<Share>,
    ) -> Arc<Self> {
        let state = State {
            frames,
            first: 0,
            body: Source::Here(body),
            readers: 0,
            left: Vec::new(),
            committed,
            limit,
            share,
        };
        Arc::new(Self { state: Mutex::new(state), waiting: Arc::default() })
    }

    /// No foreign code runs while this is held.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another attempt can no longer be made.
    pub(super) fn is_committed(&self) -> bool {
        matches!(self.lock().committed, Committed::To(_))
    }

    pub(super) fn is_committed_to_another(&self, reader: u64) -> bool {
        matches!(self.lock().committed, Committed::To(other) if other != reader)
    }

    /// A new reader, which begins at the beginning; none once the call is committed.
    pub(super) fn reader(&self) -> Option<u64> {
        let mut state = self.lock();
        if matches!(state.committed, Committed::To(_)) {
            return None;
        }
        state.readers += 1;
        Some(state.readers)
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

    /// Frame number `at`, for `reader`.
    pub(super) fn poll_frame(&self, reader: u64, at: usize, cx: &mut Context<'_>) -> Polled {
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
        body: Body,
        alone: bool,
        cx: &mut Context<'_>,
    ) -> Polled {
        let mut loan = Loan { log: self, body: Some(body) };
        let Some(body) = &mut loan.body else { return Poll::Pending };
        let polled = if alone {
            let polled = poll_filled(Pin::new(body), cx);
            if polled.is_pending() {
                // The call may end before the body goes on.
                self.waiting.add(cx.waker());
            }
            polled
        } else {
            // Readers wait for one body, which knows one waker: all are woken.
            self.waiting.add(cx.waker());
            let all = Waker::from(self.waiting.clone());
            poll_filled(Pin::new(body), &mut Context::from_waker(&all))
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
struct Loan<'a> {
    log: &'a Log,
    body: Option<Body>,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        // It has panicked. Nobody gets more of it.
        let status = Status::internal("the request's body panicked");
        let before = mem::replace(&mut self.log.lock().body, Source::Failed(status));
        self.log.waiting.wake_all();
        drop((before, body));
    }
}

impl State {
    fn commit(&mut self, reader: u64) {
        self.committed = Committed::To(reader);
        // What is left is on its way out.
        self.share = None;
    }

    fn commit_if_first(&mut self, reader: u64) -> Unneeded {
        if matches!(self.committed, Committed::To(_)) {
            return Unneeded::default();
        }
        self.commit(reader);
        // It may have stopped reading before its response began.
        if self.left.contains(&reader) { self.close() } else { Unneeded::default() }
    }

    fn leave(&mut self, reader: u64) -> Unneeded {
        match self.committed {
            Committed::To(only) if only == reader => self.close(),
            Committed::To(_) => Unneeded::default(),
            _ => {
                if !self.left.contains(&reader) {
                    self.left.push(reader);
                }
                Unneeded::default()
            }
        }
    }

    fn close(&mut self) -> Unneeded {
        let frames = mem::take(&mut self.frames);
        let over = Source::Failed(Status::cancelled("the call is over"));
        let body = match &self.body {
            Source::Here(_) | Source::Lent => match mem::replace(&mut self.body, over) {
                Source::Here(body) => Some(body),
                // Whoever has it drops it.
                _ => None,
            },
            Source::Ended | Source::Failed(_) => None,
        };
        Unneeded { frames, _body: body, ..Unneeded::default() }
    }

    /// Why this reader gets nothing, if it does not.
    fn refusal(&self, reader: u64) -> Option<Status> {
        match self.committed {
            _ if self.left.contains(&reader) => Some(Status::cancelled("the attempt is over")),
            Committed::To(other) if other != reader => {
                Some(Status::cancelled("the call goes on with another attempt"))
            }
            _ => None,
        }
    }

    fn step(&mut self, reader: u64, at: usize) -> (Step, Unneeded) {
        let mut unneeded = Unneeded::default();
        if let Some(status) = self.refusal(reader) {
            return (Step::Done(Some(Err(status))), unneeded);
        }
        if self.committed == Committed::Next {
            self.commit(reader);
        }
        let alone = self.committed == Committed::To(reader);
        let frame = if alone {
            // What the only reader has taken is no longer kept.
            while self.first < at
                && let Some(frame) = self.frames.pop_front()
            {
                self.first += 1;
                unneeded.frames.push_back(frame);
            }
            let frame = self.frames.pop_front();
            self.first += usize::from(frame.is_some());
            frame.map(|frame| Step::Done(Some(Ok(frame))))
        } else {
            self.frames.get(at).map(|frame| Step::Done(copy(frame).map(Ok)))
        };
        let step = frame.unwrap_or_else(|| self.poll(alone));
        (step, unneeded)
    }

    fn poll(&mut self, alone: bool) -> Step {
        match mem::replace(&mut self.body, Source::Lent) {
            Source::Here(body) => Step::Poll { body, alone },
            Source::Lent => Step::Wait,
            Source::Ended => {
                self.body = Source::Ended;
                Step::Done(None)
            }
            Source::Failed(status) => {
                self.body = Source::Failed(status.clone());
                Step::Done(Some(Err(status)))
            }
        }
    }

    /// Takes the body back from `reader`, which wanted frame number `at`, and what it gave. While it
    /// was away the attempt may have ended, or another one may have been committed.
    fn put_back(
        &mut self,
        reader: u64,
        at: usize,
        body: Option<Body>,
        polled: Polled,
    ) -> (Polled, Unneeded) {
        let mut unneeded = Unneeded::default();
        if let Source::Failed(status) = &self.body {
            // The call has ended meanwhile.
            let answer = Poll::Ready(Some(Err(status.clone())));
            let unneeded = Unneeded { _body: body, _polled: Some(polled), ..unneeded };
            return (answer, unneeded);
        }
        let (next, gone) = match &polled {
            Poll::Ready(None) => (Source::Ended, body),
            Poll::Ready(Some(Err(status))) => (Source::Failed(status.clone()), body),
            _ => (body.map_or(Source::Ended, Source::Here), None),
        };
        self.body = next;
        unneeded._body = gone;
        let refusal = self.refusal(reader);
        let polled = match polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.came(reader, at, frame, refusal.is_some(), &mut unneeded)
            }
            polled => polled,
        };
        match refusal {
            Some(status) => (Poll::Ready(Some(Err(status))), unneeded),
            None => (polled, unneeded),
        }
    }

    /// Frame number `at` has come. It is kept while somebody else may need it.
    fn came(
        &mut self,
        reader: u64,
        at: usize,
        frame: Frame<Bytes>,
        is_over: bool,
        unneeded: &mut Unneeded,
    ) -> Polled {
        let is_committed = matches!(self.committed, Committed::To(_));
        let bytes = frame.data_ref().map(Bytes::len);
        let fits = !is_committed && bytes.is_some_and(|bytes| self.has_room(bytes));
        if is_over {
            self.frames.push_back(frame);
            if !is_committed && !fits {
                // The call is committed to the reader that comes next, as this one is gone.
                self.committed = Committed::Next;
                self.share = None;
            }
            return Poll::Pending;
        }
        match copy(&frame).filter(|_| fits) {
            Some(kept) => self.frames.push_back(kept),
            None => {
                // This reader has come furthest, for it was the one to need more.
                self.commit(reader);
                self.first = at + 1;
                unneeded.frames = mem::take(&mut self.frames);
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn has_room(&mut self, bytes: usize) -> bool {
        let limit = self.limit;
        self.share.as_mut().is_some_and(|share| {
            share.bytes().saturating_add(bytes) <= limit && share.grow(bytes).is_ok()
        })
    }
}

/// `None` for trailers, which gRPC's requests do not have.
fn copy(frame: &Frame<Bytes>) -> Option<Frame<Bytes>> {
    frame.data_ref().cloned().map(Frame::data)
}
