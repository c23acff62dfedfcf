//! The task that keeps the endpoints in step with the instances.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::time::DelayQueue;

use super::lists::{Copies, Lists, Moves, Place};
use super::set::{EndpointSet, Facts, Unseen};
use super::slot::{Available, Census, Slot};
use super::{EndpointerBuilder, Shared};
use crate::endpoints::endpoint::Surroundings;
use crate::outlier::OutlierDetector;
use crate::task::supervised::{Supervised, panicked};
use crate::{
    Error, ErrorKind, Factory, Freshness, Instance, InstanceId, Snapshot, Subscription, telemetry,
};

/// What is there already goes into one set, up to so many events.
const MAX_BATCH: usize = 10_000;

/// For the time that it took to make a set, the next ones wait so many times as long, and so does the
/// next look for outliers: a hundred thousand endpoints that come up one after the other, or whose
/// ejections end one after the other, do not keep a core busy.
const PAUSE: u32 = 4;

/// So much of that waiting is let off after a quiet time: an instance that joins means two sets, the second
/// when its service stands, and nobody waits for it.
const LET_OFF: Duration = Duration::from_millis(20);

/// Which run of which factory.
type Ticket = (InstanceId, u64);

pub(super) struct Worker<S, F> {
    config: EndpointerBuilder,
    subscription: Subscription,
    factory: Arc<F>,
    shared: Arc<Shared<S>>,
    slots: BTreeMap<InstanceId, Slot<S>>,
    /// Those whose place in the set may have changed since the last one; also those that are gone.
    touched: Vec<InstanceId>,
    census: Census,
    panicking: bool,
    copies: Copies<S>,
    /// Those that are not in the next set. They end when it is published.
    leaving: Vec<Available>,
    /// The instances that the slots were last brought in step with.
    seen: Arc<Vec<Arc<Instance>>>,
    /// Factories that wait for a place, run, and wait for their next try. Each slot without a
    /// service stands in exactly one of the three.
    queue: VecDeque<Ticket>,
    running: JoinSet<(Ticket, Result<S, Error>)>,
    /// By task, for a factory that panicked cannot name itself.
    tickets: std::collections::HashMap<tokio::task::Id, Ticket>,
    later: DelayQueue<Ticket>,
    generation: u64,
    detector: Option<OutlierDetector>,
    /// Not to be run before.
    look_at: Instant,
    rng: fastrand::Rng,
    freshness: Freshness,
    unseen: Unseen,
    /// The first error of the current trouble and when it makes the endpoints invalid.
    invalid_at: Option<(Instant, Error)>,
    invalidated: Option<Error>,
}

enum Event<S> {
    Snapshot(Arc<Snapshot>),
    Made(Ticket, Result<S, Error>),
    Retry(Ticket),
    /// An endpoint's connectivity, health or admission changed.
    Endpoint,
    /// It is time to look for outliers.
    Outliers,
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
        let mut rng = config.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let outliers = config.outliers.clone();
        let detector = outliers.map(|it| OutlierDetector::new(it, rng.u64(..), Instant::now()));
        Self {
            config,
            subscription,
            factory,
            shared,
            slots: BTreeMap::new(),
            touched: Vec::new(),
            census: Census::default(),
            panicking: false,
            copies: Copies::new(),
            leaving: Vec::new(),
            seen: Arc::default(),
            queue: VecDeque::new(),
            running: JoinSet::new(),
            tickets: std::collections::HashMap::new(),
            later: DelayQueue::new(),
            generation: 0,
            detector,
            look_at: Instant::now(),
            rng,
            freshness: Freshness::Pending { error: None },
            unseen: Unseen::default(),
            invalid_at: None,
            invalidated: None,
        }
    }

    /// Runs until it is aborted by the last handle.
    async fn follow(&mut self) {
        let current = self.subscription.current();
        self.apply(&current);
        self.publish();
        let mut open = true;
        // Set while events wait to be published.
        let mut due = None;
        // Until when the time that sets took is waited off.
        let mut busy_until = Instant::now();
        let mut changed = false;
        loop {
            let mut event = match due {
                None => Some(self.next(open).await),
                Some(due) => timeout_at(due, self.next(open)).await.ok(),
            };
            let mut batch = 0;
            while let Some(taken) = event {
                match taken {
                    Event::Closed => open = false,
                    event => changed |= self.handle(event),
                }
                batch += 1;
                // Not asked beyond the batch: what it gives is taken.
                event = if batch < MAX_BATCH { self.next(open).now_or_never() } else { None };
            }
            let now = Instant::now();
            let not_before = busy_until.checked_sub(LET_OFF).filter(|at| *at > now);
            due = not_before.filter(|_| changed);
            if changed && due.is_none() {
                changed = false;
                // An endpoint may have failed often enough to be an outlier by now.
                self.look_for_outliers();
                self.publish();
                if !self.copies.catch_up() {
                    // A call is picking: that takes no longer than a moment.
                    tokio::task::yield_now().await;
                    if !self.copies.catch_up() {
                        self.copies.give_up();
                    }
                }
                busy_until = busy_until.max(now) + now.elapsed() * (1 + PAUSE);
            }
        }
    }

    /// Waits for the next thing to do. Cancel safe: an event is taken only when it is returned.
    async fn next(&mut self, open: bool) -> Event<S> {
        let invalid_at = self.invalid_at.as_ref().map(|(at, _)| *at);
        let outliers_at = self.detector.as_ref().and_then(OutlierDetector::next_wake);
        let outliers_at = outliers_at.map(|at| at.max(self.look_at));
        let view_at = self.subscription.retry_at();
        tokio::select! {
            // In this order: a removal is seen before the endpoint's own changes.
            biased;
            snapshot = self.subscription.changed(), if open => match snapshot {
                Ok(snapshot) => Event::Snapshot(snapshot),
                // Whoever published is gone; the endpoints known last serve on.
                Err(_) => Event::Closed,
            },
            () = self.shared.around.changed.notified() => Event::Endpoint,
            Some(made) = self.running.join_next_with_id() => match made {
                Ok((id, (ticket, made))) => {
                    self.tickets.remove(&id);
                    Event::Made(ticket, made)
                }
                Err(error) => match self.tickets.remove(&error.id()) {
                    Some(ticket) => Event::Made(ticket, Err(panicked("the factory"))),
                    None => Event::Endpoint,
                },
            },
            Some(ticket) = std::future::poll_fn(|cx| self.later.poll_expired(cx)) => {
                Event::Retry(ticket.into_inner())
            }
            () = sleep_until(invalid_at) => Event::Invalid,
            () = sleep_until(outliers_at) => Event::Outliers,
            () = sleep_until(view_at), if open => Event::Snapshot(self.subscription.current()),
        }
    }

    /// Whether there is a new set to publish.
    fn handle(&mut self, event: Event<S>) -> bool {
        let mut changed = true;
        match event {
            Event::Snapshot(snapshot) => self.apply(&snapshot),
            Event::Made(ticket, result) => self.made(ticket, result),
            Event::Retry(ticket) => {
                if let Some(slot) = self.slots.get_mut(&ticket.0) {
                    slot.later = None;
                }
                self.queue.push_back(ticket);
                changed = false;
            }
            Event::Invalid => self.invalidate(),
            Event::Endpoint => {}
            Event::Outliers => changed = self.look_for_outliers(),
            Event::Closed => changed = false,
        }
        self.start_factories();
        changed
    }

    fn look_for_outliers(&mut self) -> bool {
        let Some(detector) = &mut self.detector else { return false };
        let now = Instant::now();
        let changed = detector.run(now);
        let done = Instant::now();
        self.look_at = done + (done - now) * PAUSE;
        changed
    }

    fn apply(&mut self, snapshot: &Snapshot) {
        self.freshness = snapshot.freshness.clone();
        self.unseen = Unseen::of(snapshot);
        match &snapshot.freshness {
            Freshness::Stale { error, .. } if error.kind() != ErrorKind::Implausible => {
                if let Some(timeout) = self.config.invalidate_on_error
                    && self.invalid_at.is_none()
                    && self.invalidated.is_none()
                {
                    // A sum beyond the clock's range is never.
                    let at = Instant::now().checked_add(timeout);
                    self.invalid_at = at.map(|at| (at, error.clone()));
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
        let before = self.slots.len();
        // Both are sorted by id, and mostly hold the same allocations.
        let seen = std::mem::replace(&mut self.seen, snapshot.instances.clone());
        let mut seen = seen.iter().peekable();
        for instance in snapshot.instances.iter() {
            if seen.next_if(|seen| Arc::ptr_eq(seen, instance)).is_some() {
                continue;
            }
            while let Some(gone) = seen.next_if(|seen| seen.id() < instance.id()) {
                self.remove(gone.id());
            }
            seen.next_if(|seen| seen.id() == instance.id());
            self.touched.push(instance.id().clone());
            let known = self.slots.get_mut(instance.id());
            if !known.is_some_and(|slot| slot.update(instance)) {
                self.remove(instance.id());
                self.add(instance.clone());
            }
        }
        seen.for_each(|gone| self.remove(gone.id()));
        if self.slots.len() > 2 * before {
            // Filled in order, one by one, its nodes are half empty; made as a whole, they are full.
            self.slots = std::mem::take(&mut self.slots).into_iter().collect();
        }
        // Tickets of what is gone are thrown away when their turn comes, or when they are many.
        if self.queue.len() > 2 * self.slots.len() {
            let slots = &self.slots;
            self.queue.retain(|(id, run)| slots.get(id).is_some_and(|s| s.generation == *run));
        }
        self.start_factories();
    }

    fn remove(&mut self, id: &InstanceId) {
        if let Some(detector) = &mut self.detector {
            detector.remove(id);
        }
        let Some(mut slot) = self.slots.remove(id) else { return };
        self.leaving.extend(slot.leave());
        self.census.remove(slot.counted());
        self.touched.push(id.clone());
        if let Some(key) = slot.later {
            self.later.try_remove(&key);
        }
    }

    fn add(&mut self, instance: Arc<Instance>) {
        self.generation += 1;
        let id = instance.id().clone();
        let slot = Slot::new(self.shared.around.clone(), instance, self.generation);
        self.queue.push_back((id.clone(), self.generation));
        if let Some(detector) = &mut self.detector {
            detector.add(&slot.member());
        }
        self.slots.insert(id, slot);
    }

    /// Fills the free places. A ticket whose slot is gone or replaced is thrown away here.
    fn start_factories(&mut self) {
        while self.running.len() < self.config.max_concurrent {
            let Some(ticket) = self.queue.pop_front() else {
                // The room that a whole fleet took when it came up is not needed any more.
                self.queue.shrink_to(self.config.max_concurrent);
                return;
            };
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
        self.touched.push(ticket.0.clone());
        match result {
            Ok(service) => {
                slot.made(service);
                let failures = slot.failures();
                if failures > 0 {
                    let Surroundings { lines, service, .. } = &*self.shared.around;
                    telemetry::factory_works(lines, service, &ticket.0, failures);
                }
            }
            Err(error) => {
                let delay = slot.failed(error.clone(), &self.config.backoff, &mut self.rng);
                slot.later = Some(self.later.insert(ticket.clone(), delay));
                let failures = slot.failures();
                let Surroundings { lines, service, .. } = &*self.shared.around;
                telemetry::factory_failed(lines, service, &ticket.0, &error, failures);
            }
        }
    }

    fn invalidate(&mut self) {
        if let Some((_, error)) = self.invalid_at.take() {
            self.invalidated = Some(error);
            for id in self.slots.keys() {
                self.detector.iter_mut().for_each(|detector| detector.remove(id));
            }
            self.touched.extend(self.slots.keys().cloned());
            self.leaving.extend(self.slots.values_mut().filter_map(Slot::leave));
            self.slots.clear();
            self.census = Census::default();
            self.seen = Arc::default();
            self.later.clear();
        }
    }

    fn publish(&mut self) {
        loop {
            let moves = self.moves();
            let (lists, broken) = self.copies.next(moves);
            if broken.is_empty() {
                return self.publish_lists(lists);
            }
            // Worth nothing, and made anew.
            for id in broken {
                if let Some(generation) = self.slots.get(&id).map(|slot| slot.generation) {
                    let error = panicked("the service, when it was cloned,");
                    self.made((id, generation), Err(error));
                }
            }
        }
    }

    fn publish_lists(&mut self, lists: Arc<Lists<S>>) {
        let ready = lists.members.len();
        let error = match &self.invalidated {
            Some(error) => Some(error.clone()),
            None if ready == 0 => self.slots.values().find_map(Slot::error),
            None => None,
        };
        let facts = Facts {
            panicking: self.panicking,
            known: self.slots.len(),
            freshness: self.freshness.clone(),
            unseen: self.unseen.clone(),
            census: self.census,
            source: self.shared.around.source.clone(),
            error,
        };
        self.shared.published.publish(EndpointSet::new(lists, facts));
        self.leaving.clear();
        telemetry::endpoints(&self.shared.around.service, ready, self.slots.len());
    }

    /// Where everything stands whose place may have changed.
    fn moves(&mut self) -> Moves<S> {
        let mut touched = std::mem::take(&mut self.touched);
        // Before their state is looked at: what changes after that is noted again.
        touched.append(&mut self.shared.around.take_touched());
        touched.sort();
        touched.dedup();
        for id in &touched {
            if let Some(slot) = self.slots.get_mut(id) {
                let (now, before) = slot.recount();
                self.census.remove(before);
                self.census.add(now);
            }
        }
        let Census { usable, healthy, pending, .. } = self.census;
        // Those whose check has not spoken yet may be well: while they could make the set good
        // enough, a bad one that spoke first is not used.
        let share = self.config.panic_threshold;
        let panicking = ((healthy + pending) as f64) < (usable + pending) as f64 * share;
        if panicking != self.panicking {
            self.panicking = panicking;
            touched.extend(self.slots.keys().cloned());
            touched.sort();
            touched.dedup();
        }
        let now = Instant::now();
        let place = |id| {
            let slot = self.slots.get_mut(id);
            slot.map_or(Place::Nowhere, |slot| slot.place(panicking, now, &mut self.leaving))
        };
        let places: Vec<_> = touched.iter().map(place).collect();
        touched.into_iter().zip(places).collect()
    }
}

impl<S, F> Supervised for Worker<S, F>
where
    S: Clone + Send + Sync + 'static,
    F: Factory<S>,
{
    type Output = ();
    const NAME: &'static str = "the endpointer";

    fn service(&self) -> &str {
        &self.shared.around.service
    }

    async fn run(&mut self) {
        self.follow().await;
    }

    /// The endpoints serve on, their connections with them. Everything that is made from them is made again.
    fn panicked(&mut self, error: Error) {
        self.freshness = match std::mem::replace(&mut self.freshness, Freshness::Fresh) {
            Freshness::Pending { .. } => Freshness::Pending { error: Some(error) },
            Freshness::Stale { since, .. } => Freshness::Stale { since, error },
            Freshness::Fresh => Freshness::Stale { since: Instant::now(), error },
        };
        // The next snapshot is compared with what is there, whatever was done of the last one.
        self.seen = Arc::new(self.slots.values().map(|slot| slot.instance().clone()).collect());
        self.census = Census::default();
        self.slots.values_mut().for_each(Slot::uncount);
        self.copies.give_up();
        let published = self.copies.published();
        let listed = published.members.iter().chain(&published.resting);
        self.touched = listed.map(|member| member.instance().id().clone()).collect();
        self.touched.extend(self.slots.keys().cloned());
        let running: HashSet<&Ticket> = self.tickets.values().collect();
        let waits = self.slots.iter().filter(|(_, slot)| !slot.is_made() && slot.later.is_none());
        let waits = waits.map(|(id, slot)| (id.clone(), slot.generation));
        self.queue = waits.filter(|ticket| !running.contains(ticket)).collect();
        self.publish_lists(published);
    }
}

/// Never, without a time.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instancer;
    use crate::discovery::Publisher;

    #[tokio::test(start_paused = true)]
    async fn tickets_of_removed_instances_do_not_pile_up() {
        let list = Publisher::new("s");
        let shared = Shared::new(Surroundings::default());
        // The first instance stays and takes the only place.
        let hangs = |_: Arc<Instance>| std::future::pending::<Result<(), Error>>();
        let config = EndpointerBuilder::default().max_concurrent(1);
        let subscription = list.subscribe();
        let mut worker = Worker::new(config, subscription, Arc::new(hangs), Arc::new(shared));
        for port in 1..=5000 {
            let at = |port: u16| Instance::new(format!("10.0.0.1:{port}")).unwrap();
            let addresses = [1, port, port + 1].map(at);
            list.publish(addresses);
            worker.apply(&list.current());
            // As if the second one had had a place and failed.
            let ticket = (at(port + 1).id().clone(), worker.generation);
            worker.made(ticket, Err(Error::timeout("too long")));
        }
        assert_eq!(worker.slots.len(), 3);
        assert!(worker.queue.len() < 100, "{}", worker.queue.len());
        assert!(worker.later.len() <= 3, "{}", worker.later.len());
    }
}
