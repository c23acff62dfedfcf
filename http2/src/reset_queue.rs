//! Calls that were given up before anything of them was on the wire.
//!
//! h2 cannot take a stream back: it sends the head and RST_STREAM right behind it. A server that finds many such pairs
//! takes them for an attack ("rapid reset", CVE-2023-44487) and ends the connection, with every other call on it; h2's
//! own server does so at twenty. A stream that the server has taken up before it is reset does not count. So these
//! streams are kept open for a moment, and then reset a few at a time.

use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

/// How long they are kept, and how many are reset then.
pub(crate) const PAUSE: Duration = Duration::from_millis(5);
const AT_ONCE: usize = 8;

/// A stream, which is reset when this is dropped.
type GivenUp = Box<dyn Send>;

pub(crate) struct ResetQueue {
    /// How often the connection was polled. What was opened since the last time has not been sent.
    polls: AtomicU64,
    queued: Mutex<Queued>,
}

struct Queued {
    streams: Vec<GivenUp>,
    driver: Option<Waker>,
    /// The connection is over. Each stream holds the queue, so none is kept then.
    is_over: bool,
}

impl ResetQueue {
    pub(crate) fn new() -> Self {
        let queued = Queued { streams: Vec::new(), driver: None, is_over: false };
        Self { polls: AtomicU64::new(0), queued: Mutex::new(queued) }
    }

    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn polls(&self) -> u64 {
        self.polls.load(Ordering::Relaxed)
    }

    /// Whether the connection has not been polled since.
    pub(crate) fn is_unsent(&self, opened: u64) -> bool {
        self.polls() == opened
    }

    pub(crate) fn keep(&self, stream: GivenUp) {
        let mut queued = self.lock();
        if queued.is_over {
            // Dropping it takes other locks.
            drop(queued);
            return drop(stream);
        }
        queued.streams.push(stream);
        let driver = queued.driver.take();
        drop(queued);
        driver.into_iter().for_each(Waker::wake);
    }

    /// The connection is about to be polled. Returns whether there are any; the first one wakes it later.
    pub(crate) fn begin_poll(&self, cx: &Context<'_>) -> bool {
        self.polls.fetch_add(1, Ordering::Relaxed);
        let queued = self.lock();
        if !queued.streams.is_empty() {
            return true;
        }
        if queued.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
            return false;
        }
        // A waker is foreign code: cloned and dropped without the lock.
        drop(queued);
        let waker = cx.waker().clone();
        let mut queued = self.lock();
        let before = queued.driver.replace(waker);
        let some = !queued.streams.is_empty();
        drop(queued);
        drop(before);
        some
    }

    /// Resets some.
    pub(crate) fn release(&self) {
        let mut queued = self.lock();
        let some = queued.streams.len().min(AT_ONCE);
        let streams: Vec<_> = queued.streams.drain(..some).collect();
        drop(queued);
        drop(streams);
    }

    pub(crate) fn end(&self) {
        let mut queued = self.lock();
        queued.is_over = true;
        let streams = mem::take(&mut queued.streams);
        drop(queued);
        drop(streams);
    }
}

impl fmt::Debug for ResetQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResetQueue").field("polls", &self.polls()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::task::Wake;

    use super::*;

    /// A waker that comes back when it is dropped.
    struct ComesBack(Arc<ResetQueue>);

    impl Wake for ComesBack {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for ComesBack {
        fn drop(&mut self) {
            self.0.release();
        }
    }

    #[test]
    fn a_waker_is_dropped_without_the_lock() {
        let (done, over) = mpsc::channel();
        std::thread::spawn(move || {
            let queue = Arc::new(ResetQueue::new());
            let waker = Waker::from(Arc::new(ComesBack(queue.clone())));
            queue.begin_poll(&Context::from_waker(&waker));
            drop(waker);
            queue.begin_poll(&Context::from_waker(Waker::noop()));
            done.send(()).unwrap();
        });
        over.recv_timeout(Duration::from_secs(20)).expect("the thread is frozen");
    }
}
