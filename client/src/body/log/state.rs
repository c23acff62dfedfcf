//! What a log holds. Only looked at and changed under its lock: none of the caller's code runs in here.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http_body::{Body, Frame};

use crate::body::AttemptError;
use crate::body::buffer::Share;

pub(super) struct State<B: Body> {
    /// From number `first` on.
    pub(super) frames: VecDeque<Frame<Bytes>>,
    pub(super) first: usize,
    pub(super) body: Source<B>,
    pub(super) readers: u64,
    /// Those that read no more.
    left: Vec<u64>,
    /// The only one that reads from now on.
    pub(super) committed: Option<u64>,
    limit: usize,
    /// Nothing if no more is kept: then the call is committed to whoever reads first.
    share: Option<Share>,
}

pub(super) enum Source<B: Body> {
    Here(B),
    /// A reader polls it at this moment.
    Lent,
    Ended,
    Failed(Arc<B::Error>),
    Panicked,
    /// Nobody reads any more.
    Closed,
}

/// A frame for a reader; nothing at the end. Readers share an error: whoever takes it out copies it without the lock.
pub(super) type Next<E> = Option<Result<Frame<Bytes>, AttemptError<Arc<E>>>>;

/// What a reader does next.
pub(super) enum Step<B: Body> {
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
pub(super) struct Unneeded<B: Body> {
    frames: VecDeque<Frame<Bytes>>,
    _polled: Option<Poll<Next<B::Error>>>,
    _body: Option<B>,
}

impl<B: Body> Default for Unneeded<B> {
    fn default() -> Self {
        Self { frames: VecDeque::new(), _polled: None, _body: None }
    }
}

impl<B: Body> State<B> {
    pub(super) fn new(
        frames: VecDeque<Frame<Bytes>>,
        body: B,
        limit: usize,
        share: Option<Share>,
    ) -> Self {
        Self {
            frames,
            first: 0,
            body: Source::Here(body),
            readers: 0,
            left: Vec::new(),
            committed: None,
            limit,
            share,
        }
    }

    fn commit(&mut self, reader: u64) {
        self.committed = Some(reader);
        // What is left is on its way out.
        self.share = None;
    }

    pub(super) fn commit_if_first(&mut self, reader: u64) -> Unneeded<B> {
        if self.committed.is_some() {
            return Unneeded::default();
        }
        self.commit(reader);
        // It may have stopped reading before its response began.
        if self.left.contains(&reader) { self.close() } else { Unneeded::default() }
    }

    pub(super) fn leave(&mut self, reader: u64) -> Unneeded<B> {
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

impl<B: Body<Data = Bytes>> State<B> {
    /// Why this reader gets nothing, if it does not.
    fn refusal(&self, reader: u64) -> Option<AttemptError<Arc<B::Error>>> {
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

    pub(super) fn step(&mut self, reader: u64, at: usize) -> (Step<B>, Unneeded<B>) {
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
    pub(super) fn put_back(
        &mut self,
        reader: u64,
        at: usize,
        body: Option<B>,
        polled: Poll<Next<B::Error>>,
    ) -> (Poll<Next<B::Error>>, Unneeded<B>) {
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
    ) -> Poll<Next<B::Error>> {
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
