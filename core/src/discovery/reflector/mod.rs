//! The reflector: turns any [`Source`] into an [`Instancer`].
//!
//! A backend only lists and watches. What is hard about following a registry is done here, once,
//! the same for every backend:
//!
//! - `driver`: the loop: list, watch from there, list again after any end, with backoff;
//! - `refreshes`: when a reader's hint makes it list again;
//! - `view`: what is published when, and how far it can be trusted;
//! - `table`: the state, a row a key: duplicates, unreadable values, the empty-set policy.

mod config;
mod driver;
#[cfg(test)]
mod groups;
mod keys;
#[cfg(test)]
mod model;
mod refreshes;
mod table;
mod values;
mod view;

use std::fmt;
use std::sync::{Arc, Weak};

use crate::task::current_runtime;
use tokio::task::AbortHandle;

pub use self::config::ReflectorConfig;
use self::driver::Driver;
pub(crate) use self::table::Clash;
use crate::discovery::{Publisher, Source};
use crate::task::shield::shielded;
use crate::task::supervised::supervise;
use crate::{Error, ErrorKind, Instancer, ServiceName, Subscription};

/// Follows one service in a registry and is its [`Instancer`].
///
/// Use it when you hold a [`Source`]; behind a [`RegistryHandle`](crate::RegistryHandle) it is made
/// for you, once a service.
///
/// What it promises, whatever the source does:
///
/// - **An error never changes the set.** The last known good set stays, marked
///   [`Stale`](crate::Freshness::Stale) with the reason, until the registry answers again.
/// - **The loop never ends** while a clone of the reflector or any of its subscriptions lives, and
///   it ends at once with the last of them. Every wait in it is bounded and jittered.
/// - **Nothing is missed**: the watch starts where the list stood, and whatever ends the watch is
///   followed by a new list.
/// - **A bulk drop is held** by the [`EmptySetPolicy`](crate::discovery::EmptySetPolicy); deletes seen one by
///   one are followed at once.
/// - **A value that cannot be read is left out and counted**; if the key held a good one before,
///   that one stays. Two keys that hold the same instance, by
///   id and address, are one; two addresses under one id are two instances, and an event.
/// - **No subscriber blocks it**, and it publishes at most once in
///   [`min_publish_interval`](ReflectorConfig::min_publish_interval).
///
/// A source that panics is one that fails: the set stays as it is, marked stale, and the source is asked again.
///
/// ```
/// # use std::sync::Arc;
/// # use fleetward_core::{Error, Instancer, ServiceName};
/// # use fleetward_core::discovery::{Reflector, ReflectorConfig, Source};
/// async fn follow<S: Source>(source: Arc<S>) -> Result<(), Error> {
///     let service = ServiceName::new("greeter")?;
///     let reflector = Reflector::spawn(source, service, ReflectorConfig::default())?;
///     let mut subscription = reflector.subscribe();
///     let snapshot = subscription.wait_for(|snapshot| !snapshot.freshness.is_pending()).await?;
///     println!("{} instances", snapshot.instances.len());
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Reflector {
    running: Arc<Running>,
}

/// The one owner of the task. Clones of the reflector and its subscriptions share it.
struct Running {
    publisher: Publisher,
    task: AbortHandle,
}

impl Reflector {
    /// Starts to follow `service`. Never waits: the first snapshot is
    /// [`Pending`](crate::Freshness::Pending).
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) outside a tokio runtime.
    pub fn spawn<S: Source>(
        source: Arc<S>,
        service: ServiceName,
        config: ReflectorConfig,
    ) -> Result<Self, Error> {
        let runtime = current_runtime("reflect")?;
        let described = shielded(|| source.describe(&service)).unwrap_or_default();
        let publisher = Publisher::new(service.as_str()).with_source(&described);
        let mut driver = Driver::new(source, service, config, publisher.clone());
        let obituary = Obituary(publisher.clone());
        let task = runtime.spawn(async move {
            let _obituary = obituary;
            supervise(&mut driver).await;
        });
        Ok(Self { running: Arc::new(Running { publisher, task: task.abort_handle() }) })
    }

    /// Why the set is not fresh just now, if it is not.
    pub fn last_error(&self) -> Option<Error> {
        self.running.publisher.current().freshness.error().cloned()
    }

    /// The service that is followed.
    pub fn service(&self) -> &Arc<str> {
        self.running.publisher.service()
    }

    pub(crate) fn is_running(&self) -> bool {
        !self.running.task.is_finished()
    }

    pub(crate) fn downgrade(&self) -> WeakReflector {
        WeakReflector(Arc::downgrade(&self.running))
    }
}

impl Instancer for Reflector {
    fn subscribe(&self) -> Subscription {
        self.running.publisher.subscribe().guarded(self.running.clone())
    }
}

impl fmt::Debug for Reflector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.running.publisher.current();
        f.debug_struct("Reflector")
            .field("service", self.service())
            .field("instances", &current.instances.len())
            .field("freshness", &current.freshness)
            .finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A reflector that does not keep its task alive.
#[derive(Clone)]
pub(crate) struct WeakReflector(Weak<Running>);

impl WeakReflector {
    /// The reflector, while anybody uses it.
    pub(crate) fn upgrade(&self) -> Option<Reflector> {
        self.0.upgrade().map(|running| Reflector { running })
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl fmt::Debug for WeakReflector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WeakReflector").field(&self.upgrade()).finish()
    }
}

/// Tells the subscribers when the task ends although somebody still wants it: the runtime is shutting down.
struct Obituary(Publisher);

impl Drop for Obituary {
    fn drop(&mut self) {
        let error = Error::new(ErrorKind::Closed, "the task that follows the registry has ended");
        self.0.publish_stale(error.with_context("service", self.0.service()));
    }
}
