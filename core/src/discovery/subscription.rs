//! A reader's place at the live view of a service.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;

use super::refresh::Refresh;
use crate::discovery::view::Memo;
use crate::{Error, ErrorKind, Snapshot};

/// A reader's place at an [`Instancer`](crate::Instancer). Dropping it unsubscribes.
///
/// Only the newest snapshot matters: a slow reader skips those in between and blocks nobody.
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
    pub(super) fn new(
        service: Arc<str>,
        source: Arc<str>,
        mut receiver: watch::Receiver<Arc<Snapshot>>,
        refresh: Refresh,
    ) -> Self {
        let seen = receiver.borrow_and_update().revision;
        Self {
            service,
            source,
            receiver,
            refresh,
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
