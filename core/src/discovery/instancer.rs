//! The live view of one service: who publishes it and who holds it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;

use super::refresh::Refresh;
use crate::discovery::view::Memo;
use crate::model::snapshot::sorted_unique;
use crate::{Error, ErrorKind, Freshness, Instance, Snapshot};

/// The live view of one service.
///
/// A [`Reflector`](crate::discovery::Reflector) is one, made from any registry; a [`Publisher`] is one that
/// the caller feeds by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the live view of a service",
    note = "a registry handle gives one: `registry.service(\"greeter\")?`; a channel to a URL, or an HTTP client of one, is opened by `.connect().await?` instead of `.build()`, with `use fleetward::grpc::Connect` or `use fleetward::http::Connect`"
)]
pub trait Instancer: Send + Sync + fmt::Debug {
    /// Subscribes: the current snapshot at once, then each newest one.
    fn subscribe(&self) -> Subscription;
}

impl<T: Instancer + ?Sized> Instancer for Arc<T> {
    fn subscribe(&self) -> Subscription {
        (**self).subscribe()
    }
}

/// A reader's place at an [`Instancer`]. Dropping it unsubscribes.
///
/// Only the newest snapshot matters: who reads slowly skips those in between and blocks nobody.
/// As a [`Stream`] it yields the current snapshot at once, then each newer one.
pub struct Subscription {
    service: Arc<str>,
    source: Arc<str>,
    receiver: watch::Receiver<Arc<Snapshot>>,
    refresh: Refresh,
    /// What shows another set than the one published. It works when it is read, without a task.
    memo: Option<Arc<Memo>>,
    /// The revision returned last. What is published need not change what a view shows.
    seen: u64,
    stream: Option<WatchStream<Arc<Snapshot>>>,
    /// The revision that the stream yielded last.
    streamed: Option<u64>,
    /// Whatever must live as long as somebody is subscribed (the reflector's task).
    _guard: Option<Arc<dyn std::any::Any + Send + Sync>>,
}

impl Subscription {
    fn new(publisher: &Publisher) -> Self {
        let Publisher { service, source, sender, refresh } = publisher;
        let mut receiver = sender.subscribe();
        let seen = receiver.borrow_and_update().revision;
        Self {
            service: service.clone(),
            source: source.clone(),
            receiver,
            refresh: refresh.clone(),
            memo: None,
            seen,
            stream: None,
            streamed: None,
            _guard: None,
        }
    }

    /// The service's name, for messages.
    pub fn service(&self) -> &Arc<str> {
        &self.service
    }

    /// Where the instances are looked for, for messages; empty if nobody said it. See
    /// [`Source::describe`](crate::discovery::Source::describe).
    pub fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// The newest snapshot, without waiting.
    pub fn current(&self) -> Arc<Snapshot> {
        let published = self.receiver.borrow().clone();
        self.shown(published)
    }

    /// Says that the set may be out of date, for connections to its instances fail (gRPC calls this re-resolution).
    ///
    /// A hint: where the registry is polled, it is asked at once, but at most once in
    /// [`min_refresh_interval`](crate::discovery::ReflectorConfig::min_refresh_interval); one that tells each change
    /// has nothing to add. A [`DefaultEndpointer`](crate::endpoints::DefaultEndpointer) calls it by itself.
    pub fn refresh(&self) {
        self.refresh.request();
    }

    /// Waits for a snapshot newer than the last one this method (or none) returned. Cancel safe.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) once the publisher is gone.
    pub async fn changed(&mut self) -> Result<Arc<Snapshot>, Error> {
        loop {
            self.published().await?;
            let newest = self.take_newest();
            if self.seen != newest.revision {
                self.seen = newest.revision;
                return Ok(newest);
            }
        }
    }

    /// Waits until a snapshot fulfils the condition, the current one included. Cancel safe.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) once the publisher is gone.
    pub async fn wait_for(
        &mut self,
        mut condition: impl FnMut(&Snapshot) -> bool,
    ) -> Result<Arc<Snapshot>, Error> {
        loop {
            let newest = self.take_newest();
            self.seen = newest.revision;
            if condition(&newest) {
                return Ok(newest);
            }
            self.published().await?;
        }
    }

    async fn published(&mut self) -> Result<(), Error> {
        self.receiver.changed().await.map_err(|_| {
            Error::new(ErrorKind::Closed, "nobody publishes this service any more")
                .with_context("service", &*self.service)
        })
    }

    fn take_newest(&mut self) -> Arc<Snapshot> {
        let published = self.receiver.borrow_and_update().clone();
        self.shown(published)
    }

    /// Never under the channel's lock: a view may take its time.
    fn shown(&self, published: Arc<Snapshot>) -> Arc<Snapshot> {
        match &self.memo {
            Some(memo) => memo.show(published),
            None => published,
        }
    }

    /// Where the snapshots come from, and what they are seen through.
    pub(crate) fn origin(&self) -> (&watch::Receiver<Arc<Snapshot>>, Option<&Arc<Memo>>) {
        (&self.receiver, self.memo.as_ref())
    }

    /// When to read [`current`](Self::current) again though nothing is published: a view has panicked.
    pub(crate) fn retry_at(&self) -> Option<tokio::time::Instant> {
        self.memo.as_ref()?.retry_at()
    }

    /// Shows what `memo` makes of what this subscription has shown so far.
    pub(crate) fn through(mut self, memo: Arc<Memo>) -> Self {
        self.memo = Some(memo);
        self.seen = self.take_newest().revision;
        self
    }

    /// Keeps `guard` alive as long as this subscription, beside what it keeps already.
    pub(crate) fn guarded(mut self, guard: Arc<dyn std::any::Any + Send + Sync>) -> Self {
        self._guard = Some(match self._guard.take() {
            Some(other) => Arc::new((other, guard)),
            None => guard,
        });
        self
    }
}

impl Clone for Subscription {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            source: self.source.clone(),
            receiver: self.receiver.clone(),
            refresh: self.refresh.clone(),
            memo: self.memo.clone(),
            seen: self.seen,
            stream: None,
            streamed: None,
            _guard: self._guard.clone(),
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("service", &self.service)
            .field("current", &self.current())
            .finish_non_exhaustive()
    }
}

impl Stream for Subscription {
    type Item = Arc<Snapshot>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let stream = this.stream.get_or_insert_with(|| WatchStream::new(this.receiver.clone()));
            let Some(published) = ready!(Pin::new(stream).poll_next(cx)) else {
                return Poll::Ready(None);
            };
            let newest = this.shown(published);
            if this.streamed != Some(newest.revision) {
                this.streamed = Some(newest.revision);
                return Poll::Ready(Some(newest));
            }
        }
    }
}

/// The writing side of a service's view: makes complete, sorted, revisioned snapshots.
///
/// It is an [`Instancer`] itself, so a list of one's own is three lines:
///
/// ```
/// use fleetward_core::{Instance, Instancer};
/// use fleetward_core::discovery::Publisher;
/// let list = Publisher::new("greeter");
/// list.publish([Instance::new("10.0.0.1:80")?, Instance::new("10.0.0.2:80")?]);
/// assert_eq!(list.subscribe().current().instances.len(), 2);
/// # Ok::<(), fleetward_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Publisher {
    service: Arc<str>,
    source: Arc<str>,
    sender: watch::Sender<Arc<Snapshot>>,
    refresh: Refresh,
}

impl Publisher {
    /// A view that is [`Pending`](Freshness::Pending) until something is published.
    pub fn new(service: impl Into<Arc<str>>) -> Self {
        let sender = watch::Sender::new(Arc::new(Snapshot::pending()));
        let refresh = Refresh::default();
        Self { service: service.into(), source: Arc::default(), sender, refresh }
    }

    /// Says where the instances come from, for messages.
    pub(crate) fn with_source(self, source: &str) -> Self {
        let source: String = source.chars().take(MAX_SOURCE).flat_map(char::escape_debug).collect();
        Self { source: source.into(), ..self }
    }

    /// The service's name.
    pub fn service(&self) -> &Arc<str> {
        &self.service
    }

    /// Publishes the complete set. Of instances with the same id and address the first one counts.
    pub fn publish(&self, instances: impl IntoIterator<Item = Instance>) {
        let instances = sorted_unique(instances.into_iter().map(Arc::new));
        let freshness = Freshness::Fresh;
        self.publish_sorted(Snapshot { instances, freshness, ..Snapshot::pending() });
    }

    /// Says that the registry cannot be asked: the set stays, marked stale. What was stale already
    /// keeps its first moment and takes the newest reason; what was pending stays pending with the
    /// reason, for there is no last known good set.
    ///
    /// Subscribers are woken when the view turns stale and when the reason becomes one of another
    /// kind; a reason of the same kind is only put in place.
    pub fn publish_stale(&self, error: Error) {
        let now = tokio::time::Instant::now();
        self.modify(|current| {
            let same_kind = current.freshness.error().is_some_and(|old| old.kind() == error.kind());
            let mut next = Snapshot::clone(current);
            next.freshness = match &current.freshness {
                Freshness::Pending { .. } => Freshness::Pending { error: Some(error) },
                Freshness::Fresh => Freshness::Stale { since: now, error },
                Freshness::Stale { since, .. } => Freshness::Stale { since: *since, error },
            };
            next.revision += u64::from(!same_kind);
            (next, !same_kind)
        });
    }

    /// Waits until a reader [says](Subscription::refresh) that the set may be out of date: for whoever finds the
    /// instances by asking now and then. Any number of hints that nobody waited for are one. Cancel safe.
    pub async fn refresh_requested(&self) {
        self.refresh.requested().await;
    }

    /// Puts another snapshot in place, and wakes the subscribers if the closure says so.
    fn modify(&self, next: impl FnOnce(&Snapshot) -> (Snapshot, bool)) {
        let mut replaced = None;
        self.sender.send_if_modified(|current| {
            let (next, wakes) = next(current);
            replaced = Some(std::mem::replace(current, Arc::new(next)));
            wakes
        });
        // Not under the channel's lock: an error in it may hold a source of the user's.
        drop(replaced);
    }

    /// The newest snapshot.
    pub fn current(&self) -> Arc<Snapshot> {
        self.sender.borrow().clone()
    }

    /// Puts newer reasons in place, of the same kind of freshness; wakes nobody.
    pub(crate) fn replace_reasons(&self, freshness: Freshness, fault: Option<Error>) {
        self.modify(|current| (Snapshot { freshness, fault, ..Snapshot::clone(current) }, false));
    }

    /// Publishes a complete set that is sorted already, each id once. It gets the next revision.
    pub(crate) fn publish_sorted(&self, next: Snapshot) {
        debug_assert!(next.instances.is_sorted_by(|a, b| a.id() < b.id()));
        self.modify(|current| (Snapshot { revision: current.revision + 1, ..next }, true));
    }
}

/// So many characters are kept of what a source says of itself.
const MAX_SOURCE: usize = 256;

impl Instancer for Publisher {
    fn subscribe(&self) -> Subscription {
        Subscription::new(self)
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("service", &self.service)
            .field("subscribers", &self.sender.receiver_count())
            .finish_non_exhaustive()
    }
}

/// A constant set (go-kit's `FixedInstancer`): for tests, and where addresses are configuration.
///
/// ```
/// use fleetward_core::Instance;
/// use fleetward_core::discovery::FixedInstancer;
/// let fixed = FixedInstancer::new("greeter", [Instance::new("10.0.0.1:80")?]);
/// # Ok::<(), fleetward_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct FixedInstancer(Publisher);

impl FixedInstancer {
    /// The set, for ever.
    pub fn new(
        service: impl Into<Arc<str>>,
        instances: impl IntoIterator<Item = Instance>,
    ) -> Self {
        let publisher = Publisher::new(service).with_source("a fixed list");
        publisher.publish(instances);
        Self(publisher)
    }
}

impl Instancer for FixedInstancer {
    fn subscribe(&self) -> Subscription {
        // The publisher lives as long as its readers: a fixed set never closes.
        let guard = Arc::new(self.0.clone());
        self.0.subscribe().guarded(guard)
    }
}
