//! A request's body as it came in, and who has read how much of it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tonic::Status;
use tonic::body::Body;

use super::buffer::{Buffer, Share};

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
    /// Gone at its end.
    body: Option<Body>,
    failed: Option<Status>,
    readers: u64,
    /// Those that read no more.
    left: Vec<u64>,
    committed: Committed,
    limit: usize,
    share: Option<Share>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Committed {
    No,
    /// To whoever reads first: it goes out once.
    Next,
    To(u64),
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
            body: Some(body),
            failed: None,
            readers: 0,
            left: Vec::new(),
            committed,
            limit,
            share,
        };
        Arc::new(Self { state: Mutex::new(state), waiting: Arc::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A body that panicked while it was polled leaves whole frames.
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
        let mut state = self.lock();
        if !matches!(state.committed, Committed::To(_)) {
            state.commit(reader);
        }
        drop(state);
        // Those who wait in vain hear of it.
        self.waiting.wake_all();
    }

    /// `reader` reads no more. If the call was committed to it, nobody does.
    pub(super) fn leave(&self, reader: u64) {
        let mut state = self.lock();
        let body = match state.committed {
            Committed::To(only) if only == reader => state.close(),
            Committed::To(_) => None,
            _ => {
                state.left.push(reader);
                None
            }
        };
        drop(state);
        self.waiting.wake_all();
        // Whatever that does, it does it without the lock.
        drop(body);
    }

    /// Frame number `at`, for `reader`.
    pub(super) fn poll_frame(
        &self,
        reader: u64,
        at: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut state = self.lock();
        if state.left.contains(&reader) {
            return Poll::Ready(Some(Err(Status::cancelled("the attempt is over"))));
        }
        if state.committed == Committed::Next {
            state.commit(reader);
        }
        match state.committed {
            Committed::To(other) if other != reader => {
                let status = Status::cancelled("the call goes on with another attempt");
                Poll::Ready(Some(Err(status)))
            }
            Committed::To(_) => state.poll_out(at, cx, &self.waiting),
            _ => state.poll_kept(reader, at, cx, &self.waiting),
        }
    }
}

impl State {
    fn commit(&mut self, reader: u64) {
        self.committed = Committed::To(reader);
        // What is left is on its way out.
        self.share = None;
    }

    /// Takes the body out, to be dropped.
    fn close(&mut self) -> Option<Body> {
        self.frames.clear();
        let body = self.body.take();
        if body.is_some() {
            self.failed = Some(Status::cancelled("the call is over"));
        }
        body
    }

    /// For the only reader: what it has taken is no longer kept.
    fn poll_out(
        &mut self,
        at: usize,
        cx: &mut Context<'_>,
        waiting: &Waiting,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        while self.first < at && self.frames.pop_front().is_some() {
            self.first += 1;
        }
        if let Some(frame) = self.frames.pop_front() {
            self.first += 1;
            return Poll::Ready(Some(Ok(frame)));
        }
        let polled = self.poll_body(cx);
        if polled.is_pending() {
            // The call may end before the body goes on.
            waiting.add(cx.waker());
        }
        polled
    }

    fn poll_kept(
        &mut self,
        reader: u64,
        at: usize,
        cx: &mut Context<'_>,
        waiting: &Arc<Waiting>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(frame) = self.frames.get(at) {
            return Poll::Ready(copy(frame).map(Ok));
        }
        // Readers wait for one body, which knows one waker: all are woken.
        waiting.add(cx.waker());
        let all = Waker::from(waiting.clone());
        let polled = self.poll_body(&mut Context::from_waker(&all));
        let Poll::Ready(frame) = polled else { return Poll::Pending };
        waiting.wake_all();
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            match copy(frame).filter(|_| self.has_room(bytes)) {
                Some(kept) => self.frames.push_back(kept),
                None => {
                    // This reader has come furthest, for it was the one to need more.
                    self.commit(reader);
                    self.first = at + 1;
                    self.frames.clear();
                }
            }
        }
        Poll::Ready(frame)
    }

    fn has_room(&mut self, bytes: usize) -> bool {
        let limit = self.limit;
        self.share.as_mut().is_some_and(|share| {
            share.bytes().saturating_add(bytes) <= limit && share.grow(bytes).is_ok()
        })
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(status) = &self.failed {
            return Poll::Ready(Some(Err(status.clone())));
        }
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.body = None,
            Poll::Ready(Some(Err(status))) => {
                self.failed = Some(status.clone());
                self.body = None;
            }
            _ => {}
        }
        polled
    }
}

/// `None` for trailers, which gRPC's requests do not have.
fn copy(frame: &Frame<Bytes>) -> Option<Frame<Bytes>> {
    frame.data_ref().cloned().map(Frame::data)
}

/// The readers that have read all there is so far.
#[derive(Default)]
struct Waiting {
    wakers: Mutex<Vec<Waker>>,
}

impl Waiting {
    fn add(&self, waker: &Waker) {
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    fn wake_all(&self) {
        let wakers =
            std::mem::take(&mut *self.wakers.lock().unwrap_or_else(PoisonError::into_inner));
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }
}
