//! The task that keeps the endpoints in step with the instances.

use std::sync::Arc;

use futures::FutureExt;
use tokio::time::{Instant, timeout_at};

use super::factories::{Factories, Progress, Ticket};
use super::lists::Lists;
use super::live::EndpointerState;
use super::outliers::Outliers;
use super::pace::Pace;
use super::set::{EndpointSet, Facts};
use super::settings::Settings;
use super::slot::Slot;
use super::slots::Slots;
use super::validity::Validity;
use crate::backoff::Backoff;
use crate::double_buffer::DoubleBuffer;
use crate::endpoints::endpoint::Surroundings;
use crate::task::shield::panicked;
use crate::task::supervised::Supervised;
use crate::{Error, Factory, Instance, InstanceId, Snapshot, Subscription, telemetry};

/// What is there already goes into one set, up to so many events.
const MAX_BATCH: usize = 10_000;

pub(super) struct Worker<S: Clone, F> {
    shared: Arc<EndpointerState<S>>,
    subscription: Subscription,
    validity: Validity,
    /// The instances that the slots were last brought in step with.
    seen: Arc<Vec<Arc<Instance>>>,
    slots: Slots<S>,
    factories: Factories<S, F>,
    /// Between two runs of a failing factory.
    backoff: Backoff,
    rng: fastrand::Rng,
    outliers: Outliers,
    lists: DoubleBuffer<Lists<S>>,
    pace: Pace,
}

enum Event<S> {
    Snapshot(Arc<Snapshot>),
    Factory(Progress<S>),
    /// An endpoint's connectivity, health or admission changed.
    Endpoint,
    /// It is time to look for outliers.
    Outliers,
    /// The registry has been in error for too long.
    Expired,
    Closed,
}

impl<S, F> Worker<S, F>
where
    S: Clone + Send + Sync + 'static,
    F: Factory<S>,
{
    pub(super) fn new(
        settings: Settings,
        subscription: Subscription,
        factory: Arc<F>,
        shared: Arc<EndpointerState<S>>,
    ) -> Self {
        let mut rng = settings.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        Self {
            subscription,
            validity: Validity::new(settings.invalidate_on_error),
            seen: Arc::default(),
            slots: Slots::new(shared.around.clone(), settings.panic_threshold),
            factories: Factories::new(factory, &settings),
            outliers: Outliers::new(settings.outliers, rng.u64(..)),
            backoff: settings.backoff,
            rng,
            lists: DoubleBuffer::default(),
            pace: Pace::new(),
            shared,
        }
    }

    /// Runs until it is aborted by the last handle.
    async fn follow(&mut self) {
        let current = self.subscription.current();
        self.take_in(&current);
        self.publish();
        let mut open = true;
        // Set while events wait to be published.
        let mut due = None;
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
            due = self.pace.wait(now).filter(|_| changed);
            if changed && due.is_none() {
                changed = false;
                // An endpoint may have failed often enough to be an outlier by now.
                self.outliers.run();
                self.publish();
                if !self.lists.catch_up() {
                    // A call is picking: that takes no longer than a moment.
                    tokio::task::yield_now().await;
                    if !self.lists.catch_up() {
                        self.lists.give_up();
                    }
                }
                self.pace.spent_since(now);
            }
        }
    }

    /// Waits for the next thing to do. Cancel safe: an event is taken only when it is returned.
    async fn next(&mut self, open: bool) -> Event<S> {
        let (expires_at, outliers_at) = (self.validity.expires_at(), self.outliers.next_run());
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
            progress = self.factories.next() => Event::Factory(progress),
            () = sleep_until(expires_at) => Event::Expired,
            () = sleep_until(outliers_at) => Event::Outliers,
            () = sleep_until(view_at), if open => Event::Snapshot(self.subscription.current()),
        }
    }

    /// Whether there is a new set to publish.
    fn handle(&mut self, event: Event<S>) -> bool {
        let changed = match event {
            Event::Snapshot(snapshot) => {
                self.take_in(&snapshot);
                true
            }
            Event::Factory(Progress::Made(ticket, result)) => {
                self.made(&ticket, result);
                true
            }
            Event::Factory(Progress::Queued(ticket)) => {
                if let Some(slot) = self.slots.of(&ticket) {
                    slot.later = None;
                }
                false
            }
            Event::Endpoint => true,
            Event::Outliers => self.outliers.run(),
            Event::Expired => self.give_up(),
            Event::Closed => false,
        };
        self.start_factories();
        changed
    }

    fn take_in(&mut self, snapshot: &Snapshot) {
        if !self.validity.take_in(snapshot) {
            return;
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
            if !self.slots.update(instance) {
                self.remove(instance.id());
                let (ticket, member) = self.slots.add(instance.clone());
                self.outliers.add(&member);
                self.factories.queue(ticket);
            }
        }
        seen.for_each(|gone| self.remove(gone.id()));
        if self.slots.len() > 2 * before {
            self.slots.compact();
        }
        self.factories.trim(self.slots.len(), |ticket| self.slots.is_wanted(ticket));
        self.start_factories();
    }

    fn remove(&mut self, id: &InstanceId) {
        self.outliers.remove(id);
        if let Some(next_try) = self.slots.remove(id) {
            self.factories.cancel(&next_try);
        }
    }

    fn start_factories(&mut self) {
        self.factories.start(|ticket| self.slots.wanted(ticket));
    }

    fn made(&mut self, ticket: &Ticket, result: Result<S, Error>) {
        let Some(slot) = self.slots.of(ticket) else { return };
        let Surroundings { lines, service, .. } = &*self.shared.around;
        match result {
            Ok(made) => {
                slot.made(made);
                if slot.failures() > 0 {
                    telemetry::factory_works(lines, service, &ticket.0, slot.failures());
                }
            }
            Err(error) => {
                let delay = slot.failed(error.clone(), &self.backoff, &mut self.rng);
                slot.later = Some(self.factories.queue_after(delay, ticket.clone()));
                telemetry::factory_failed(lines, service, &ticket.0, &error, slot.failures());
            }
        }
        self.slots.touch(&ticket.0);
    }

    /// Whether the endpoints are given up now.
    fn give_up(&mut self) -> bool {
        let expired = self.validity.expire();
        if expired {
            self.slots.iter().for_each(|(id, _)| self.outliers.remove(id));
            self.slots.clear();
            self.factories.cancel_all();
            self.seen = Arc::default();
        }
        expired
    }

    fn publish(&mut self) {
        loop {
            let moves = self.slots.moves();
            if self.slots.take_failing() {
                self.subscription.refresh();
            }
            let lists = self.lists.next(moves);
            if lists.broken.is_empty() {
                return self.publish_lists(lists);
            }
            // Worth nothing, and made anew.
            for id in &lists.broken {
                if let Some(generation) = self.slots.get(id).map(|slot| slot.generation) {
                    let error = panicked("the service, when it was cloned,");
                    self.made(&(id.clone(), generation), Err(error));
                }
            }
        }
    }

    fn publish_lists(&mut self, lists: Arc<Lists<S>>) {
        let (ready, known) = (lists.members.len(), self.slots.len());
        let error = match &self.validity.invalidated {
            Some(error) => Some(error.clone()),
            None if ready == 0 => self.slots.iter().find_map(|(_, slot)| slot.error()),
            None => None,
        };
        let facts = Facts {
            panicking: self.slots.is_panicking(),
            known,
            freshness: self.validity.freshness.clone(),
            unseen: self.validity.unseen.clone(),
            counts: self.slots.counts(),
            source: self.shared.around.source.clone(),
            error,
        };
        self.shared.published.publish(EndpointSet::new(lists, facts));
        self.slots.published();
        telemetry::endpoints(&self.shared.around.service, ready, known);
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
        self.validity.panicked(error);
        // The next snapshot is compared with what is there, whatever was done of the last one.
        self.seen = Arc::new(self.slots.iter().map(|(_, slot)| slot.instance().clone()).collect());
        self.lists.give_up();
        let published = self.lists.published().clone();
        let listed = published.members.iter().chain(&published.not_ready);
        self.slots.recount(listed.map(|member| member.instance().id().clone()));
        let waits = |slot: &Slot<S>| !slot.is_made() && slot.later.is_none();
        let waiting = self.slots.iter().filter(|(_, slot)| waits(slot));
        self.factories.requeue(waiting.map(|(id, slot)| (id.clone(), slot.generation)));
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
        let shared = EndpointerState::new(Surroundings::default());
        // The first instance stays and takes the only place.
        let hangs = |_: Arc<Instance>| std::future::pending::<Result<(), Error>>();
        let settings = Settings { max_concurrent: 1, ..Settings::default() };
        let subscription = list.subscribe();
        let mut worker = Worker::new(settings, subscription, Arc::new(hangs), Arc::new(shared));
        for port in 1..=5000 {
            let at = |port: u16| Instance::new(format!("10.0.0.1:{port}")).unwrap();
            let addresses = [1, port, port + 1].map(at);
            list.publish(addresses);
            worker.take_in(&list.current());
            // As if the second one had had a place and failed.
            let id = at(port + 1).id().clone();
            let generation = worker.slots.get(&id).unwrap().generation;
            worker.made(&(id, generation), Err(Error::timeout("too long")));
        }
        assert_eq!(worker.slots.len(), 3);
        let (queued, later) = worker.factories.waiting();
        assert!(queued < 100, "{queued}");
        assert!(later <= 3, "{later}");
    }
}
