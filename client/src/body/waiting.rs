//! The readers of a body that wait for more of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// Wakers of the readers that have read all there is so far.
///
/// A waker is foreign code as much as a body is: it is cloned, woken and dropped without the lock.
#[derive(Default)]
pub(super) struct Waiting {
    wakers: Mutex<Vec<Waker>>,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, waker: &Waker) {
        let mut new = Some(waker.clone());
        let mut wakers = self.lock();
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.extend(new.take());
        }
        drop(wakers);
        drop(new);
    }

    pub(super) fn wake_all(&self) {
        let wakers = std::mem::take(&mut *self.lock());
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }
}
