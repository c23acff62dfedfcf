//! Active health checks: asking an instance how it is, instead of waiting for calls to fail.
//!
//! Off unless a factory is wrapped in [`HealthChecked`]. A check is a task for each endpoint that
//! says what it finds out to a [`HealthReporter`]; the endpointer then publishes a set without
//! what is unhealthy, or with it, where too few are left
//! ([`panic_threshold`](crate::endpoints::EndpointerBuilder::panic_threshold)).
//!
//! A check costs traffic and one task an endpoint, in every client. Where the registry checks
//! already, or where calls are many, it finds out little that the registry or the calls do not.

mod checked;
mod probing;
mod reporter;
mod verdict;

use std::sync::Arc;

use async_trait::async_trait;

pub use self::checked::HealthChecked;
pub use self::probing::{Probe, Probing};
pub use self::reporter::HealthReporter;
use crate::Instance;

/// Finds out, for as long as an endpoint exists, whether it is well.
///
/// Implement it for a check that is told of changes, such as a stream; one that asks again and again
/// is a [`Probe`] in [`Probing`].
///
/// ```
/// use fleetward_core::{Error, ErrorKind, Instance};
/// use fleetward_core::health::{HealthCheck, HealthReporter};
///
/// /// Well while the disk of a service in the same process has room.
/// struct Room(tokio::sync::watch::Receiver<u64>);
///
/// #[async_trait::async_trait]
/// impl<S: Send + 'static> HealthCheck<S> for Room {
///     async fn run(&self, _: &Instance, _: S, health: HealthReporter) {
///         let mut room = self.0.clone();
///         loop {
///             match *room.borrow_and_update() {
///                 0 => health.unhealthy(Error::new(ErrorKind::LimitExceeded, "the disk is full")),
///                 _ => health.healthy(),
///             }
///             if room.changed().await.is_err() {
///                 return;
///             }
///         }
///     }
/// }
/// ```
#[async_trait]
pub trait HealthCheck<S>: Send + Sync + 'static {
    /// Checks one endpoint. Dropped when the instance is removed.
    ///
    /// The endpoint takes no call before the first word to `health`, so that word must come within
    /// a bounded time. What was said last stands when this returns; returning without a word makes
    /// the endpoint unhealthy. When it panics, the endpoint is unhealthy, and it runs again after a
    /// while.
    ///
    /// `instance` is as it was when the endpoint was made: its address holds for all its life,
    /// weight and metadata may have changed. `service` may be used or dropped. Holding it does not
    /// keep the endpoint alive, and what goes through it counts as no call.
    async fn run(&self, instance: &Instance, service: S, health: HealthReporter);
}

#[async_trait]
impl<S: Send + 'static, C: HealthCheck<S> + ?Sized> HealthCheck<S> for Arc<C> {
    async fn run(&self, instance: &Instance, service: S, health: HealthReporter) {
        (**self).run(instance, service, health).await;
    }
}

const _: () = {
    const fn shared<T: Send + Sync + 'static + ?Sized>() {}
    shared::<dyn HealthCheck<()>>();
    shared::<HealthReporter>();
};
