//! The task that keeps the endpoints in step with the instances.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::time::DelayQueue;

use super::set::EndpointSet;
use super::slot::Slot;
use super::{EndpointerBuilder, Shared};
use crate::{Error, ErrorKind, Factory, Freshness, InstanceId, Snapshot, Subscription, telemetry};

/// Which run of which factory.
type Ticket = (InstanceId, u64);

pub(super) struct Worker<S, F> {
    config: EndpointerBuilder,
    subscription: Subscription,
    factory: Arc<F>,
    shared: Arc<Shared<S>>,
    slots: BTreeMap<InstanceId, Slot<S>>,
    /// Factories that wait for a place, run, and wait for their next try. Each slot without a
    /// service stands in exactly one of the three.
    queue: VecDeque<Ticket>,
    running: JoinSet<(Ticket, Result<S, Error>)>,
    /// By task, for a factory that panicked cannot name itself.
    tickets: std::collections::HashMap<tokio::task::Id, Ticket>,
    later: DelayQueue<Ticket>,
    /// Rung by every endpoint whose connectivity changed.
    changed: Arc<Notify>,
    generation: u64,
    rng: fastrand::Rng,
    freshness: Freshness,
    /// The first error of the current trouble and when it makes the endpoints invalid.
    invalid_at: Option<(Instant, Error)>,
    invalidated: Option<Error>,
}

enum Event<S> {
    Snapshot(Arc<Snapshot>),
    Made(Ticket, Result<S, Error>),
    Retry(Ticket),
    Connectivity,
    Invalid,
    Closed,
}

impl<S, F> Worker<S, F>
where
    S: Clone + Send + Sync + 'static,
    F: Factory<S>,
{
    pub(super) fn new(
        config: EndpointerBuilder,
        subscription: Subscription,
        factory: Arc<F>,
        shared: Arc<Shared<S>>,
    ) -> Self {
        let rng = config.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        Self {
            config,
            subscription,
            factory,
            shared,
            slots: BTreeMap::new(),
            queue: VecDeque::new(),
            running: JoinSet::new(),
            tickets: std::collections::HashMap::new(),
            later: DelayQueue::new(),
            changed: Arc::new(Notify::new()),
            generation: 0,
            rng,
            freshness: Freshness::Pending { error: None },
            invalid_at: None,
            invalidated: None,
        }
    }

    /// Runs until it is aborted by the last handle.
    pub(super) async fn run(mut self) {
        let current = self.subscription.current();
        self.apply(&current);
        self.publish();
        let mut open = true;
        loop {
            let mut event = self.next(open).await;
            // Everything that is there already goes into one new set: a set costs a copy of all
            // endpoints, a thousand connections that come up together need not cost a thousand.
            let mut batch = 0;
            loop {
                match event {
                    Event::Closed => open = false,
                    event => self.handle(event),
                }
                batch += 1;
                match self.next(open).now_or_never() {
                    Some(next) if batch < 10_000 => event = next,
                    _ => break,
                }
            }
            self.publish();
        }
    }

    /// Waits for the next thing to do. Cancel safe: an event is taken only when it is returned.
    async fn next(&mut self, open: bool) -> Event<S> {
        let invalid_at = self.invalid_at.as_ref().map(|(at, _)| *at);
        let invalid = async {
            match invalid_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // In this order: a removal is seen before the endpoint's own changes.
            biased;
            snapshot = self.subscription.changed(), if open => match snapshot {
                Ok(snapshot) => Event::Snapshot(snapshot),
                // Whoever published is gone; the endpoints known last serve on.
                Err(_) => Event::Closed,
            },
            () = self.changed.notified() => Event::Connectivity,
            Some(made) = self.running.join_next_with_id() => match made {
                Ok((id, (ticket, made))) => {
                    self.tickets.remove(&id);
                    Event::Made(ticket, made)
                }
                Err(error) => match self.tickets.remove(&error.id()) {
                    Some(ticket) => Event::Made(
                        ticket,
                        Err(Error::new(ErrorKind::Other, "the factory panicked")),
                    ),
                    None => Event::Connectivity,
                },
            },
            Some(ticket) = std::future::poll_fn(|cx| self.later.poll_expired(cx)) => {
                Event::Retry(ticket.into_inner())
            }
            () = invalid => Event::Invalid,
        }
    }

    fn handle(&mut self, event: Event<S>) {
        match event {
            Event::Snapshot(snapshot) => self.apply(&snapshot),
            Event::Made(ticket, result) => self.made(ticket, result),
            Event::Retry(ticket) => self.queue.push_back(ticket),
            Event::Invalid => self.invalidate(),
            Event::Connectivity | Event::Closed => {}
        }
        self.start_factories();
    }

    fn apply(&mut self, snapshot: &Snapshot) {
        self.freshness = snapshot.freshness.clone();
        match &snapshot.freshness {
            Freshness::Stale { error, .. } => {
                if let Some(timeout) = self.config.invalidate_on_error
                    && self.invalid_at.is_none()
                    && self.invalidated.is_none()
                {
                    self.invalid_at = Some((Instant::now() + timeout, error.clone()));
                }
                if self.invalidated.is_some() {
                    return;
                }
            }
            _ => {
                self.invalid_at = None;
                self.invalidated = None;
            }
        }
        self.slots.retain(|id, _| snapshot.get(id).is_some());
        for instance in snapshot.instances.iter() {
            let known = self.slots.get_mut(instance.id());
            if !known.is_some_and(|slot| slot.update(instance)) {
                self.add(instance.clone());
            }
        }
        self.start_factories();
    }

    fn add(&mut self, instance: Arc<crate::Instance>) {
        self.generation += 1;
        let id = instance.id().clone();
        let slot = Slot::new(
            self.shared.service.clone(),
            instance,
            self.generation,
            self.changed.clone(),
            self.config.backoff.clone(),
            self.rng.fork(),
        );
        self.queue.push_back((id.clone(), self.generation));
        self.slots.insert(id, slot);
    }

    /// Fills the free places. A ticket whose slot is gone or replaced is thrown away here.
    fn start_factories(&mut self) {
        while self.running.len() < self.config.max_concurrent {
            let Some(ticket) = self.queue.pop_front() else { return };
            let Some(slot) = self.slots.get(&ticket.0).filter(|s| s.generation == ticket.1) else {
                continue;
            };
            let (instance, readiness) = (slot.instance().clone(), slot.readiness());
            let (factory, timeout) = (self.factory.clone(), self.config.make_timeout);
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

    fn made(&mut self, ticket: Ticket, result: Result<S, Error>) {
        let Some(slot) = self.slots.get_mut(&ticket.0).filter(|s| s.generation == ticket.1) else {
            return;
        };
        match result {
            Ok(service) => slot.made(service),
            Err(error) => {
                telemetry::factory_failed(&self.shared.service, &ticket.0, &error);
                let delay = slot.failed(error);
                self.later.insert(ticket, delay);
            }
        }
    }

    fn invalidate(&mut self) {
        if let Some((_, error)) = self.invalid_at.take() {
            self.slots.clear();
            self.later.clear();
            self.invalidated = Some(error);
        }
    }

    fn publish(&self) {
        let ready: Vec<_> = self.slots.values().filter_map(Slot::ready).collect();
        let error = match &self.invalidated {
            Some(error) => Some(error.clone()),
            None if ready.is_empty() => self.slots.values().find_map(Slot::error),
            None => None,
        };
        telemetry::endpoints(&self.shared.service, ready.len(), self.slots.len());
        let freshness = self.freshness.clone();
        self.shared.publish(EndpointSet::new(ready, self.slots.len(), freshness, error));
    }
}
