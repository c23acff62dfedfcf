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
use fleetward_http2::frames::poll_filled;
use http_body::{Body, Frame};

use super::AttemptError;
use super::buffer::{ReplayBuffer, Share};
use super::waiting::Waiting;

/// Frames are kept while the call is not committed; then its one reader takes them out, and reads the
/// rest from the body itself.
pub(super) struct Log<B: Body> {
    state: Mutex<State<B>>,
    /// Apart from the state: a body may wake while it is polled.
    waiting: Arc<Waiting>,
}

struct State<B: Body> {
    /// From number `first` on.
    frames: VecDeque<Frame<Bytes>>,
    first: usize,
    body: Source<B>,
    readers: u64,
    /// Those that read no more.
    left: Vec<u64>,
    /// The only one that reads from now on.
    committed: Option<u64>,
    limit: usize,
    /// Nothing if no more is kept: then the call is committed to whoever reads first.
    share: Option<Share>,
}

enum Source<B: Body> {
    Here(B),
    /// A reader polls it at this moment.
    Lent,
    Ended,
    Failed(B::Error),
    Panicked,
    /// Nobody reads any more.
    Closed,
}

/// A frame for a reader; nothing at the end.
type Next<E> = Option<Result<Frame<Bytes>, AttemptError<E>>>;

pub(super) type Polled<E> = Poll<Next<E>>;

/// What a reader does next.
enum Step<B: Body> {
    Done(Next<B::Error>),
    /// Another reader polls the body.
    Wait,
    Poll {
        body: B,
        /// Nobody else waits for what comes.
        alone: bool,
    },
}

/// What is no longer needed. Dropping it may run the caller's code.
struct Unneeded<B: Body> {
    frames: VecDeque<Frame<Bytes>>,
    _polled: Option<Polled<B::Error>>,
    _body: Option<B>,
}

impl<B: Body> Default for Unneeded<B> {
    fn default() -> Self {
        Self { frames: VecDeque::new(), _polled: None, _body: None }
    }
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
        let state = State {
            frames,
            first: 0,
            body: Source::Here(body),
            readers: 0,
            left: Vec::new(),
            committed: None,
            limit,
            share,
        };
        Arc::new(Self { state: Mutex::new(state), waiting: Arc::default() })
    }

    /// Frame number `at`, for `reader`.
    pub(super) fn poll_frame(
        &self,
        reader: u64,
        at: usize,
        cx: &mut Context<'_>,
    ) -> Polled<B::Error> {
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
    ) -> Polled<B::Error> {
        let mut loan = Loan { log: self, body: Some(body) };
        let Some(body) = &mut loan.body else { return Poll::Pending };
        let polled = if alone {
            let polled = poll_filled(Pin::new(body), cx).map_err(AttemptError::Body);
            if polled.is_pending() {
                // The call may end before the body goes on.
                self.waiting.add(cx.waker());
            }
            polled
        } else {
            // Readers wait for one body, which knows one waker: all are woken.
            self.waiting.add(cx.waker());
            let all = Waker::from(self.waiting.clone());
            poll_filled(Pin::new(body), &mut Context::from_waker(&all)).map_err(AttemptError::Body)
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

impl<B: Body> State<B> {
    fn commit(&mut self, reader: u64) {
        self.committed = Some(reader);
        // What is left is on its way out.
        self.share = None;
    }

    fn commit_if_first(&mut self, reader: u64) -> Unneeded<B> {
        if self.committed.is_some() {
            return Unneeded::default();
        }
        self.commit(reader);
        // It may have stopped reading before its response began.
        if self.left.contains(&reader) { self.close() } else { Unneeded::default() }
    }

    fn leave(&mut self, reader: u64) -> Unneeded<B> {
        if self.committed == Some(reader) {
            return self.close();
        }
        if self.committed.is_none() && !self.left.contains(&reader) {
            self.left.push(reader);
        }
        Unneeded::default()
    }

    fn close(&mut self) -> Unneeded<B> {
        let frames = mem::take(&mut self.frames);
        let body = match &self.body {
            Source::Here(_) | Source::Lent => match mem::replace(&mut self.body, Source::Closed) {
                Source::Here(body) => Some(body),
                // Whoever has it drops it.
                _ => None,
            },
            _ => None,
        };
        Unneeded { frames, _body: body, ..Unneeded::default() }
    }
}

impl<B> State<B>
where
    B: Body<Data = Bytes>,
    B::Error: Clone,
{
    /// Why this reader gets nothing, if it does not.
    fn refusal(&self, reader: u64) -> Option<AttemptError<B::Error>> {
        if self.left.contains(&reader) {
            return Some(AttemptError::Cancelled("the attempt is over"));
        }
        let other = self.committed.is_some_and(|other| other != reader);
        other.then(|| AttemptError::Cancelled("the call goes on with another attempt"))
    }

    /// What a body that gives no more frames ends with.
    fn end(&self) -> Option<Next<B::Error>> {
        match &self.body {
            Source::Here(_) | Source::Lent => None,
            Source::Ended => Some(None),
            Source::Failed(error) => Some(Some(Err(AttemptError::Body(error.clone())))),
            Source::Panicked => Some(Some(Err(AttemptError::Panicked))),
            Source::Closed => Some(Some(Err(AttemptError::Cancelled("the call is over")))),
        }
    }

    fn step(&mut self, reader: u64, at: usize) -> (Step<B>, Unneeded<B>) {
        let mut unneeded = Unneeded::default();
        if let Some(error) = self.refusal(reader) {
            return (Step::Done(Some(Err(error))), unneeded);
        }
        // What there is no room to keep goes out once.
        if self.committed.is_none() && self.share.is_none() && self.frames.len() > at {
            self.commit(reader);
        }
        let alone = self.committed == Some(reader);
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
            frame.map(|frame| Some(Ok(frame)))
        } else {
            self.frames.get(at).map(|frame| copy(frame).map(Ok))
        };
        let step = match frame.or_else(|| self.end()) {
            Some(done) => Step::Done(done),
            None => match mem::replace(&mut self.body, Source::Lent) {
                Source::Here(body) => Step::Poll { body, alone },
                _ => Step::Wait,
            },
        };
        (step, unneeded)
    }

    /// Takes the body back from `reader`, which wanted frame number `at`, and what it gave. While it
    /// was away the attempt may have ended, or another one may have been committed.
    fn put_back(
        &mut self,
        reader: u64,
        at: usize,
        body: Option<B>,
        polled: Polled<B::Error>,
    ) -> (Polled<B::Error>, Unneeded<B>) {
        let mut unneeded = Unneeded::default();
        if let Some(end) = self.end() {
            // The call has ended meanwhile.
            unneeded._body = body;
            unneeded._polled = Some(polled);
            return (Poll::Ready(end), unneeded);
        }
        let (next, gone) = match &polled {
            Poll::Ready(None) => (Source::Ended, body),
            Poll::Ready(Some(Err(AttemptError::Body(error)))) => {
                (Source::Failed(error.clone()), body)
            }
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
            Some(error) => (Poll::Ready(Some(Err(error))), unneeded),
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
        unneeded: &mut Unneeded<B>,
    ) -> Polled<B::Error> {
        let bytes = frame.data_ref().map(Bytes::len);
        let fits = bytes.is_some_and(|bytes| self.has_room(bytes));
        if is_over {
            self.frames.push_back(frame);
            if !fits {
                // It goes out to the reader that comes next, as this one is gone.
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

/// Nothing for trailers, which are not replayed.
fn copy(frame: &Frame<Bytes>) -> Option<Frame<Bytes>> {
    frame.data_ref().cloned().map(Frame::data)
}
