//! The layer on a factory.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::HealthCheck;
use crate::endpoints::Readiness;
use crate::health::HealthReporter;
use crate::task::current_runtime;
use crate::task::supervised::{Supervised, supervise};
use crate::{Error, ErrorKind, Factory, Instance};

/// A [`Factory`] whose endpoints are checked.
///
/// It makes a service by the inner factory and then runs the check beside it, in a task that ends
/// when the instance is removed. So it fits every [`Endpointer`](crate::Endpointer):
///
/// ```
/// use std::sync::Arc;
/// use fleetward_core::{DefaultEndpointer, Endpointer, Error, Instance};
/// use fleetward_core::discovery::FixedInstancer;
/// use fleetward_core::health::{HealthChecked, Probe, Probing};
///
/// /// What a real one would ask the instance.
/// struct Always;
///
/// #[async_trait::async_trait]
/// impl<S: Send + Sync> Probe<S> for Always {
///     async fn probe(&self, _: &Instance, _: &S) -> Result<(), Error> {
///         Ok(())
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let list = FixedInstancer::new("greeter", [Instance::new("10.0.0.1:80")?]);
/// let factory = |instance: Arc<Instance>| async move {
///     Ok::<_, Error>(format!("a client of {}", instance.address()))
/// };
/// let endpointer = DefaultEndpointer::<String>::new(list, HealthChecked::new(factory, Probing::new(Always)));
/// endpointer.endpoints().wait_for(|set| set.ready().len() == 1).await; // after the first good answer
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// With a [`Readiness::detached`] nobody would listen, and nothing is checked.
pub struct HealthChecked<F, C> {
    factory: F,
    check: Arc<C>,
}

impl<F, C> HealthChecked<F, C> {
    /// Checks what `factory` makes by `check`.
    pub fn new(factory: F, check: C) -> Self {
        Self { factory, check: Arc::new(check) }
    }
}

#[async_trait]
impl<S, F, C> Factory<S> for HealthChecked<F, C>
where
    S: Clone + Send + Sync + 'static,
    F: Factory<S>,
    C: HealthCheck<S>,
{
    async fn make(&self, instance: &Arc<Instance>, readiness: Readiness) -> Result<S, Error> {
        let service = self.factory.make(instance, readiness.clone()).await?;
        // No await from here on: a check is begun only for a service that is used.
        if readiness.is_attached() {
            let runtime = current_runtime("check")?;
            let health = readiness.health();
            let (check, instance) = (self.check.clone(), instance.clone());
            let mut checking = Checking { check, instance, service: service.clone(), health };
            runtime.spawn(async move {
                tokio::select! {
                    () = readiness.removed() => {}
                    () = supervise(&mut checking) => {}
                }
            });
        }
        Ok(service)
    }
}

/// The check of one endpoint, until it returns. A check that panics must not leave the endpoint with the last word
/// of a check that is gone, or waiting for a first one for ever.
struct Checking<S, C> {
    check: Arc<C>,
    instance: Arc<Instance>,
    service: S,
    health: HealthReporter,
}

impl<S, C> Supervised for Checking<S, C>
where
    S: Clone + Send + Sync + 'static,
    C: HealthCheck<S>,
{
    type Output = ();
    const NAME: &'static str = "the health check";

    fn service(&self) -> &str {
        self.health.service()
    }

    async fn run(&mut self) {
        let (service, health) = (self.service.clone(), self.health.clone());
        self.check.run(&self.instance, service, health).await;
        if self.health.is_pending() {
            self.health
                .unhealthy(Error::new(ErrorKind::Other, "the health check ended without a word"));
        }
    }

    fn panicked(&mut self, error: Error) {
        self.health.unhealthy(error);
    }
}

impl<F, C> fmt::Debug for HealthChecked<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthChecked").finish_non_exhaustive()
    }
}
