//! The factories that run, wait for their turn, and wait for their next try.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinSet};
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

use super::settings::Settings;
use crate::endpoints::Readiness;
use crate::task::shield::panicked;
use crate::{Error, ErrorKind, Factory, Instance, InstanceId};

/// Which run of which factory.
pub(super) type Ticket = (InstanceId, u64);

/// Runs the factory for each slot without a service. Each of these stands in exactly one of the three places.
pub(super) struct Factories<S, F> {
    factory: Arc<F>,
    max_concurrent: usize,
    timeout: Duration,
    queue: VecDeque<Ticket>,
    running: JoinSet<(Ticket, Result<S, Error>)>,
    /// By task, for a factory that panicked cannot name itself.
    tickets: HashMap<Id, Ticket>,
    later: DelayQueue<Ticket>,
}

/// What has come of a factory.
pub(super) enum Progress<S> {
    Made(Ticket, Result<S, Error>),
    /// Its next try is due, and it stands in the queue.
    Queued(Ticket),
}

impl<S: Send + 'static, F: Factory<S>> Factories<S, F> {
    pub(super) fn new(factory: Arc<F>, settings: &Settings) -> Self {
        Self {
            factory,
            max_concurrent: settings.max_concurrent,
            timeout: settings.make_timeout,
            queue: VecDeque::new(),
            running: JoinSet::new(),
            tickets: HashMap::new(),
            later: DelayQueue::new(),
        }
    }

    pub(super) fn queue(&mut self, ticket: Ticket) {
        self.queue.push_back(ticket);
    }

    /// Queues it after a while, unless it is [cancelled](Self::cancel).
    pub(super) fn queue_after(&mut self, delay: Duration, ticket: Ticket) -> Key {
        self.later.insert(ticket, delay)
    }

    pub(super) fn cancel(&mut self, key: &Key) {
        self.later.try_remove(key);
    }

    pub(super) fn cancel_all(&mut self) {
        self.later.clear();
    }

    /// Throws away tickets of what is gone when they are many; the others go when their turn comes.
    pub(super) fn trim(&mut self, slots: usize, is_wanted: impl Fn(&Ticket) -> bool) {
        if self.queue.len() > 2 * slots {
            self.queue.retain(is_wanted);
        }
    }

    /// Queues anew what waits for its turn, after a panic: all that neither runs nor waits for its next try.
    pub(super) fn requeue(&mut self, waiting: impl Iterator<Item = Ticket>) {
        let running: HashSet<&Ticket> = self.tickets.values().collect();
        self.queue = waiting.filter(|ticket| !running.contains(ticket)).collect();
    }

    /// Fills the free places with what is still wanted.
    pub(super) fn start(&mut self, wanted: impl Fn(&Ticket) -> Option<(Arc<Instance>, Readiness)>) {
        while self.running.len() < self.max_concurrent {
            let Some(ticket) = self.queue.pop_front() else {
                // The room that a whole fleet took when it came up is not needed any more.
                self.queue.shrink_to(self.max_concurrent);
                return;
            };
            let Some((instance, readiness)) = wanted(&ticket) else { continue };
            let (factory, timeout) = (self.factory.clone(), self.timeout);
            let known_as = ticket.clone();
            let task = self.running.spawn(async move {
                let removed = readiness.clone();
                let made = tokio::select! {
                    made = tokio::time::timeout(timeout, factory.make(&instance, readiness)) => {
                        made.unwrap_or_else(|_| Err(Error::timeout("the factory took too long")))
                    }
                    // The place is free again as soon as nobody wants the result.
                    () = removed.removed() => Err(Error::new(ErrorKind::Closed, "removed")),
                };
                (ticket, made)
            });
            self.tickets.insert(task.id(), known_as);
        }
    }

    /// Waits for one to end, or for its next try to be due; for ever if there is none. Cancel safe.
    pub(super) async fn next(&mut self) -> Progress<S> {
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.running.join_next_with_id() => match ended {
                    Ok((id, (ticket, made))) => {
                        self.tickets.remove(&id);
                        return Progress::Made(ticket, made);
                    }
                    Err(error) => if let Some(ticket) = self.tickets.remove(&error.id()) {
                        return Progress::Made(ticket, Err(panicked("the factory")));
                    },
                },
                Some(due) = std::future::poll_fn(|cx| self.later.poll_expired(cx)) => {
                    let ticket = due.into_inner();
                    self.queue.push_back(ticket.clone());
                    return Progress::Queued(ticket);
                }
                else => std::future::pending().await,
            }
        }
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.queue.len(), self.later.len())
    }
}
