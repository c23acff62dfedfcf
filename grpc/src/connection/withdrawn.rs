//! Calls that were given up before anything of them was on the wire.
//!
//! h2 has no way to withdraw a stream: it sends the head and RST_STREAM right behind it. A server that finds many
//! such pairs takes them for an attack ("rapid reset", CVE-2023-44487) and ends the connection, with
//! every other call on it; h2's own server does so at twenty. One that has taken a stream up before it is reset
//! does not count it. So these are kept open for a moment, and then reset a few at a time.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use super::stream::Stream;

/// How long they are kept, and how many are reset then.
pub(super) const PAUSE: Duration = Duration::from_millis(5);
const AT_ONCE: usize = 8;

pub(super) struct Withdrawn {
    /// How often the connection was polled: what was opened since the last time has not been sent.
    polls: AtomicU64,
    kept: Mutex<Kept>,
}

struct Kept {
    streams: Vec<Stream>,
    driver: Option<Waker>,
    /// The connection is no more. Each stream holds on to what it is kept in, so none is kept then.
    is_over: bool,
}

impl Withdrawn {
    pub(super) fn new() -> Self {
        let kept = Kept { streams: Vec::new(), driver: None, is_over: false };
        Self { polls: AtomicU64::new(0), kept: Mutex::new(kept) }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn polls(&self) -> u64 {
        self.polls.load(Ordering::Relaxed)
    }

    /// Whether the connection has not been polled since.
    pub(super) fn is_unsent(&self, opened: u64) -> bool {
        self.polls() == opened
    }

    pub(super) fn keep(&self, stream: Stream) {
        let mut kept = self.lock();
        if kept.is_over {
            // Dropping it takes other locks.
            drop(kept);
            return drop(stream);
        }
        kept.streams.push(stream);
        let driver = kept.driver.take();
        drop(kept);
        driver.into_iter().for_each(Waker::wake);
    }

    /// The connection is about to be polled. Says whether there are any; the first one wakes it later.
    pub(super) fn begin_poll(&self, cx: &Context<'_>) -> bool {
        self.polls.fetch_add(1, Ordering::Relaxed);
        let kept = self.lock();
        if !kept.streams.is_empty() {
            return true;
        }
        if kept.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
            return false;
        }
        // A waker is foreign code: cloned and dropped without the lock.
        drop(kept);
        let waker = cx.waker().clone();
        let mut kept = self.lock();
        let before = kept.driver.replace(waker);
        let some = !kept.streams.is_empty();
        drop(kept);
        drop(before);
        some
    }

    /// Resets some.
    pub(super) fn release(&self) {
        let mut kept = self.lock();
        let some = kept.streams.len().min(AT_ONCE);
        let streams: Vec<_> = kept.streams.drain(..some).collect();
        drop(kept);
        drop(streams);
    }

    pub(super) fn end(&self) {
        let mut kept = self.lock();
        kept.is_over = true;
        let streams = mem::take(&mut kept.streams);
        drop(kept);
        drop(streams);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::task::Wake;

    use super::*;

    /// A waker that comes back when it is dropped.
    struct ComesBack(Arc<Withdrawn>);

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
            let withdrawn = Arc::new(Withdrawn::new());
            let waker = Waker::from(Arc::new(ComesBack(withdrawn.clone())));
            withdrawn.begin_poll(&Context::from_waker(&waker));
            drop(waker);
            withdrawn.begin_poll(&Context::from_waker(Waker::noop()));
            done.send(()).unwrap();
        });
        over.recv_timeout(Duration::from_secs(20)).expect("the thread is frozen");
    }
}
