//! Which calls are let in, which wait, and which are turned away.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

use crate::endpoints::Readiness;
use crate::{Error, ErrorKind, InstanceId};

/// The limit of one service.
#[derive(Debug)]
pub(super) struct Gate {
    max: usize,
    queue: usize,
    /// Not for a service that is no endpoint's.
    endpoint: Option<(InstanceId, Readiness)>,
    /// Calls under way and calls that wait. A call that holds a permit is always inside: so one that is let in while fewer
    /// than `max` are inside finds a permit.
    inside: AtomicUsize,
    permits: Arc<Semaphore>,
}

impl Gate {
    pub(super) fn new(max: usize, queue: usize, endpoint: Option<(InstanceId, Readiness)>) -> Self {
        let permits = Arc::new(Semaphore::new(max));
        Self { max, queue, endpoint, inside: AtomicUsize::new(0), permits }
    }

    pub(super) fn under_way(&self) -> usize {
        self.max.saturating_sub(self.permits.available_permits())
    }

    pub(super) fn waiting(&self) -> usize {
        self.inside.load(Ordering::Relaxed).saturating_sub(self.under_way())
    }

    fn enter(&self) -> Result<(), Error> {
        let most = self.max.saturating_add(self.queue);
        let one_more = |inside: usize| (inside < most).then(|| inside + 1);
        // Acquire pairs with the release in `leave`: who takes a place finds its permit given back.
        let entered = self.inside.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more);
        entered.map(|_| ()).map_err(|_| self.overloaded())
    }

    fn leave(&self) {
        self.inside.fetch_sub(1, Ordering::Release);
    }

    fn overloaded(&self) -> Error {
        let message = "too many calls are under way, and the queue is full; nothing was sent";
        let error = Error::new(ErrorKind::Overloaded, message)
            .with_context("limit", self.max)
            .with_context("queue", self.queue);
        self.named(error)
    }

    /// Completes with an error when the instance takes no more calls.
    pub(super) fn withdrawn(self: Arc<Self>) -> BoxFuture<'static, Error> {
        Box::pin(async move {
            match &self.endpoint {
                Some((_, readiness)) => readiness.withdrawn().await,
                None => std::future::pending().await,
            }
            let message = "the instance takes no more calls, and the call waited for its turn; \
                           nothing was sent";
            self.named(Error::new(ErrorKind::Overloaded, message))
        })
    }

    fn named(&self, error: Error) -> Error {
        match &self.endpoint {
            Some((instance, _)) => error.with_context("instance", instance),
            None => error,
        }
    }
}

/// One call's place. Dropping it gives back what it holds, at whatever point it is.
pub(super) struct Place {
    gate: Arc<Gate>,
    at: At,
}

enum At {
    Outside,
    Waiting(PollSemaphore),
    Running(#[allow(dead_code)] OwnedSemaphorePermit), // held, never read
}

impl Place {
    pub(super) fn outside(gate: Arc<Gate>) -> Self {
        Self { gate, at: At::Outside }
    }

    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Ready when the call has its turn, or is turned away.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            self.at = match &mut self.at {
                At::Outside => match self.gate.enter() {
                    Ok(()) => At::Waiting(PollSemaphore::new(self.gate.permits.clone())),
                    Err(error) => return Poll::Ready(Err(error)),
                },
                // FIFO, as tokio's semaphore is: a permit that is given back goes to the call that
                // has waited longest, and not to one that comes just then.
                At::Waiting(permits) => match ready!(permits.poll_acquire(cx)) {
                    Some(permit) => At::Running(permit),
                    // Not reachable: nobody closes it.
                    None => return Poll::Ready(Err(self.gate.overloaded())),
                },
                At::Running(_) => return Poll::Ready(Ok(())),
            };
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The permit first: see `Gate::inside`.
        if !matches!(std::mem::replace(&mut self.at, At::Outside), At::Outside) {
            self.gate.leave();
        }
    }
}
