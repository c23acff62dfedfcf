//! What the streams of one connection share: how many there may be, and how the connection ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Semaphore, TryAcquireError, watch};

use crate::owed::Owed;
use crate::ping::Reads;
use crate::reset_queue::ResetQueue;

/// More streams than any connection has, and no more than a semaphore takes.
const MOST: usize = 1 << 24;

/// The streams of one connection.
///
/// A request that the server has no room for waits here, where it can still be given back if the connection
/// ends; what h2 has taken is gone with it.
#[derive(Debug)]
pub(crate) struct Slots {
    free: Semaphore,
    /// How many of those taken are not given back: the server takes fewer now.
    owed: Owed,
    /// Whether the server takes any streams at all. It may say later that it does.
    takes_any: watch::Sender<bool>,
    /// Where somebody wants to know what has come in and when.
    pub(crate) reads: Option<Reads>,
    timed_out: AtomicBool,
    pub(crate) resets: ResetQueue,
}

/// The connection takes no more requests.
#[derive(Debug)]
pub(crate) struct Closed;

/// Room for one stream, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
}

impl Slots {
    pub(crate) fn new(reads: Option<Reads>) -> Self {
        Self {
            free: Semaphore::new(0),
            owed: Owed::default(),
            takes_any: watch::Sender::new(true),
            reads,
            timed_out: AtomicBool::new(false),
            resets: ResetQueue::new(),
        }
    }

    /// A slot if one is free now.
    pub(crate) fn try_take(self: &Arc<Self>) -> Result<Option<Slot>, Closed> {
        match self.free.try_acquire() {
            Ok(permit) => Ok(Some(self.slot(permit))),
            Err(TryAcquireError::NoPermits) => Ok(None),
            Err(TryAcquireError::Closed) => Err(Closed),
        }
    }

    /// Waits for one, first come, first served. Not where the server takes no streams.
    pub(crate) async fn take(self: Arc<Self>) -> Result<Slot, Closed> {
        let mut takes_any = self.takes_any.subscribe();
        tokio::select! {
            biased;
            permit = self.free.acquire() => Ok(self.slot(permit.map_err(|_| Closed)?)),
            _ = takes_any.wait_for(|any| !any) => Err(Closed),
        }
    }

    /// Whether the server takes any streams at all, and what it says of that later.
    pub(crate) fn takes_any(&self) -> watch::Receiver<bool> {
        self.takes_any.subscribe()
    }

    fn slot(self: &Arc<Self>, permit: tokio::sync::SemaphorePermit<'_>) -> Slot {
        // The slot gives it back.
        permit.forget();
        Slot { slots: self.clone() }
    }

    /// Whoever waits now gets its request back.
    pub(crate) fn close(&self) {
        self.free.close();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.free.is_closed()
    }

    /// The server does not answer pings: what its streams end with is not the reason.
    pub(crate) fn set_timed_out(&self) {
        self.timed_out.store(true, Ordering::Release);
    }

    pub(crate) fn is_timed_out(&self) -> bool {
        self.timed_out.load(Ordering::Acquire)
    }
}

impl Slot {
    pub(crate) fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.slots.owed.pay(1) == 1 {
            self.slots.free.add_permits(1);
        }
    }
}

/// How many slots there are, as far as given out by the one who does so.
#[derive(Default)]
pub(crate) struct Limit {
    given: usize,
}

impl Limit {
    /// Follows the server's SETTINGS. Where it takes back more than is free, the rest is taken as streams end,
    /// whoever waits for one of them.
    pub(crate) fn follow(&mut self, slots: &Slots, limit: usize) {
        let limit = limit.min(MOST);
        if limit > self.given {
            slots.free.add_permits(slots.owed.pay(limit - self.given));
        } else if limit < self.given {
            // In this order: no stream that ends meanwhile makes room for another.
            slots.owed.add(self.given - limit);
            let taken = slots.free.forget_permits(self.given - limit);
            slots.free.add_permits(slots.owed.pay(taken));
        }
        self.given = limit;
        slots.takes_any.send_if_modified(|any| std::mem::replace(any, limit > 0) != (limit > 0));
    }

    /// Whether no stream is open.
    pub(crate) fn is_idle(&self, slots: &Slots) -> bool {
        slots.free.available_permits() >= self.given && slots.owed.is_nothing()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_lower_limit_is_reached_as_streams_end() {
        let slots = Arc::new(Slots::new(None));
        let mut limit = Limit::default();
        limit.follow(&slots, 3);
        let mut taken: Vec<_> = (0..3).map(|_| slots.try_take().unwrap().unwrap()).collect();
        limit.follow(&slots, 1);
        for _ in 0..2 {
            taken.pop();
            limit.follow(&slots, 1);
            assert!(slots.try_take().unwrap().is_none());
        }
        taken.pop();
        limit.follow(&slots, 1);
        assert!(limit.is_idle(&slots));
        let one = slots.try_take().unwrap();
        assert!(one.is_some() && slots.try_take().unwrap().is_none());
        limit.follow(&slots, usize::MAX);
        assert!(slots.try_take().unwrap().is_some());
    }

    #[tokio::test]
    async fn a_lower_limit_is_reached_though_somebody_waits() {
        let slots = Arc::new(Slots::new(None));
        let mut limit = Limit::default();
        limit.follow(&slots, 3);
        let mut taken: Vec<_> = (0..3).map(|_| slots.try_take().unwrap().unwrap()).collect();
        let waiting = tokio::spawn(slots.clone().take());
        tokio::task::yield_now().await;
        limit.follow(&slots, 1);
        for _ in 0..2 {
            taken.pop();
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished() && !limit.is_idle(&slots));
        }
        taken.pop();
        let last = waiting.await.unwrap().unwrap();
        // What is owed is forgotten where the limit is raised again.
        limit.follow(&slots, 0);
        limit.follow(&slots, 2);
        let other = slots.try_take().unwrap();
        assert!(other.is_some() && slots.try_take().unwrap().is_none());
        drop((last, other));
        assert!(limit.is_idle(&slots) && slots.free.available_permits() == 2);
    }

    #[tokio::test]
    async fn who_waits_hears_that_there_are_to_be_no_more_streams() {
        let slots = Arc::new(Slots::new(None));
        let mut limit = Limit::default();
        limit.follow(&slots, 1);
        let taken = slots.try_take().unwrap();
        let waiting = tokio::spawn(slots.clone().take());
        tokio::task::yield_now().await;
        limit.follow(&slots, 0);
        let hears = async { (waiting.await.unwrap(), slots.clone().take().await) };
        let heard = tokio::time::timeout(Duration::from_secs(20), hears).await;
        assert!(matches!(heard.expect("nobody hears of it"), (Err(_), Err(_))));
        drop(taken);
        limit.follow(&slots, 1);
        assert!(slots.clone().take().await.is_ok());
    }

    #[tokio::test]
    async fn who_waits_hears_of_the_end() {
        let slots = Arc::new(Slots::new(None));
        let waiting = tokio::spawn(slots.clone().take());
        tokio::task::yield_now().await;
        slots.close();
        assert!(waiting.await.unwrap().is_err());
        assert!(slots.try_take().is_err());
    }
}
