//! The keeper: makes a [`Registrar`] of any [`Registry`].
//!
//! A backend only writes, renews and removes. When to do so, and what to do when the registry does
//! not answer or has lost the entry, is decided here, once, the same for every backend; see
//! `task` for the loop.

mod task;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::oneshot;

use self::task::Task;
use crate::registration::registrar::registration;
use crate::registration::{Registrar, Registry};
use crate::task::current_runtime;
use crate::task::supervised::supervise;
use crate::{Error, ErrorKind, Instance, RegisterOptions, Registration, ServiceName};

/// Keeps instances registered in a [`Registry`].
///
/// Use it when you hold a `Registry`; behind a [`RegistryHandle`](crate::RegistryHandle) it is made
/// for you. What it promises, whatever the registry does:
///
/// - **A lost registration is written again, for ever**: after a lost lease, a wiped or restarted
///   registry, or a process that was stopped past its time to live.
/// - **It renews every third of the time to live**, a little early, so that two requests may fail
///   before the lease does.
/// - **It comes back at once where the registry tells of a loss** ([`Registry::lost`]), spread over
///   100 ms, or more slowly if it loses the registration again and again.
/// - **It never fights.** While somebody else holds the key (a second process with the same
///   address, say), it looks again every third of the time to live and says so in the
///   [`Status`](crate::registration::Status); it registers when the key is free.
/// - **It owns exactly one key.** The key follows from the instance's id, so registering again
///   writes over whatever an earlier attempt with an unknown outcome may have written, and an
///   earlier lease is never used again, for removing it might remove what its successor wrote.
/// - **Dropping leaves nothing behind** for longer than the time to live, at whatever await it
///   happens; an attempt in flight is seen to its end, within
///   [`deregister_timeout`](RegisterOptions::deregister_timeout), and taken back.
///
/// ```
/// # use std::sync::Arc;
/// use fleetward_core::{Error, Instance, RegisterOptions, ServiceName};
/// use fleetward_core::registration::{Keeper, Registrar, Registry};
/// async fn announce<R: Registry>(registry: Arc<R>) -> Result<(), Error> {
///     let keeper = Keeper::new(registry);
///     let service = ServiceName::new("greeter")?;
///     let instance = Instance::new("10.0.0.1:8080")?;
///     let registration = keeper.register(&service, instance, RegisterOptions::default()).await?;
///     // … serve …
///     registration.deregister().await
/// }
/// ```
pub struct Keeper<R> {
    registry: Arc<R>,
}

impl<R: Registry> Keeper<R> {
    /// A keeper that writes to `registry`.
    pub fn new(registry: Arc<R>) -> Self {
        Self { registry }
    }
}

#[async_trait]
impl<R: Registry> Registrar for Keeper<R> {
    async fn register(
        &self,
        service: &ServiceName,
        instance: Instance,
        options: RegisterOptions,
    ) -> Result<Registration, Error> {
        options.validate().map_err(|error| error.with_operation("register"))?;
        let runtime = current_runtime("register")?;
        let instance = Arc::new(instance);
        let (registration, report) = registration(service.clone(), instance.clone());
        let (first, attempted) = oneshot::channel();
        let registry = self.registry.clone();
        let mut task = Task::new(registry, service.clone(), instance, options, report, first);
        // From here on the registration owns the task: dropping this future at the await below
        // drops the registration, which ends the task in an orderly way.
        runtime.spawn(async move { supervise(&mut task).await });
        match attempted.await {
            Ok(Ok(())) => Ok(registration),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::new(ErrorKind::Closed, "the task that registers has ended")
                .with_operation("register")
                .with_context("service", service)),
        }
    }
}

impl<R> Clone for Keeper<R> {
    fn clone(&self) -> Self {
        Self { registry: self.registry.clone() }
    }
}

impl<R> fmt::Debug for Keeper<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}
