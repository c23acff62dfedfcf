//! The handle to a live set of endpoints.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use arc_swap::Guard;
use tokio::task::AbortHandle;

use super::publication::Publication;
use super::set::{BalancerId, EndpointSet};
use crate::Balancer;
use crate::endpoints::endpoint::Surroundings;

/// The endpoints of one service: the set as it is now, and the wait for another one.
///
/// What an [`Endpointer`](crate::Endpointer) gives, as an instancer gives a
/// [`Subscription`](crate::Subscription). A clone is another handle to the same endpoints. The task that keeps them
/// up to date, if there is one, ends with the last handle; then they are removed.
pub struct Endpoints<S> {
    shared: Arc<EndpointerState<S>>,
    task: Option<Arc<AbortOnDrop>>,
}

impl<S> Endpoints<S> {
    pub(super) fn new(shared: Arc<EndpointerState<S>>, task: Option<AbortHandle>) -> Self {
        Self { shared, task: task.map(|task| Arc::new(AbortOnDrop(task))) }
    }

    /// The service's name.
    pub fn service(&self) -> &Arc<str> {
        &self.shared.around.service
    }

    /// The set as it is now. Lock-free, allocates nothing; hold the guard only briefly.
    pub fn load(&self) -> EndpointSetGuard<S> {
        EndpointSetGuard(self.shared.published.load())
    }

    /// Waits until the set fulfils the condition, as it is now included. Cancel safe; without a
    /// deadline of its own.
    pub async fn wait_for(
        &self,
        mut condition: impl FnMut(&EndpointSet<S>) -> bool,
    ) -> Arc<EndpointSet<S>> {
        // Subscribing before looking: a set published in between is not missed.
        let mut changed = self.changes();
        loop {
            let set = self.shared.published.load_full();
            if condition(&set) {
                return set;
            }
            // Drop the set before waiting.
            drop(set);
            if changed.changed().await.is_err() {
                // Not reachable: `self` keeps the sender alive.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Has every set from now on prepared for `balancer`, for as long as it lives.
    pub(crate) fn attach(&self, balancer: &Arc<dyn Balancer>) -> BalancerId {
        self.shared.published.attach(Arc::downgrade(balancer))
    }

    /// Tells of each set that is published from now on.
    pub(crate) fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.published.subscribe()
    }
}

impl<S> Clone for Endpoints<S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), task: self.task.clone() }
    }
}

impl<S> fmt::Debug for Endpoints<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoints")
            .field("service", self.service())
            .field("set", &*self.load())
            .finish_non_exhaustive()
    }
}

/// A set that is being read.
pub struct EndpointSetGuard<S>(Guard<Arc<EndpointSet<S>>>);

impl<S> Deref for EndpointSetGuard<S> {
    type Target = EndpointSet<S>;

    fn deref(&self) -> &EndpointSet<S> {
        &self.0
    }
}

impl<S> fmt::Debug for EndpointSetGuard<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is written by whoever keeps the set up to date, and read through the handles.
pub(super) struct EndpointerState<S> {
    pub(super) around: Arc<Surroundings>,
    pub(super) published: Publication<S>,
}

impl<S> EndpointerState<S> {
    pub(super) fn new(around: Surroundings) -> Self {
        let around = Arc::new(around);
        Self { published: Publication::new(around.clone()), around }
    }
}

/// The task ends with the last handle.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
