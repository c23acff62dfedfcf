//! A client of a backend, in one of the two forms that users hold one in.

use std::sync::Arc;
use std::time::Duration;

use fleetward_core::backoff::Backoff;
use fleetward_core::discovery::{Reflector, ReflectorConfig, Source};
use fleetward_core::registration::{Keeper, Registrar, Registry};
use fleetward_core::{
    Error, Instance, Instancer, RegisterOptions, Registration, RegistryHandle, ServiceName,
};
use std::fmt::Debug;

use super::{Capabilities, Watcher};

/// How a case holds the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// As the type it is: `Reflector::spawn(Arc<Backend>, …)` and `Keeper<Backend>`.
    Concrete,
    /// With its type forgotten: a [`RegistryHandle`], an `Arc<dyn Instancer>` and an
    /// `Arc<dyn Registrar>`.
    Erased,
}

/// A client of a backend.
#[derive(Debug)]
pub struct Client<B> {
    held: Held<B>,
    capabilities: Capabilities,
}

#[derive(Debug)]
enum Held<B> {
    Concrete(Arc<B>),
    Erased(RegistryHandle),
}

impl<B: Source + Registry + Debug> Client<B> {
    pub(super) fn new(backend: B, form: Form, capabilities: &Capabilities) -> Self {
        let held = match form {
            Form::Concrete => Held::Concrete(Arc::new(backend)),
            Form::Erased => {
                Held::Erased(RegistryHandle::new(backend).with_reflector_config(config()))
            }
        };
        Self { held, capabilities: capabilities.clone() }
    }

    /// Follows a service.
    pub fn watch(&self, service: &ServiceName) -> Watcher {
        let instancer: Arc<dyn Instancer> = match &self.held {
            Held::Concrete(backend) => {
                let reflector = Reflector::spawn(backend.clone(), service.clone(), config());
                Arc::new(reflector.expect("a case runs in a runtime"))
            }
            Held::Erased(handle) => handle.service(service).expect("a case runs in a runtime"),
        };
        Watcher::new(instancer.subscribe(), &self.capabilities)
    }

    /// Registers an instance.
    ///
    /// # Errors
    /// Those of [`Registrar::register`].
    pub async fn register(
        &self,
        service: &ServiceName,
        instance: &Instance,
        options: RegisterOptions,
    ) -> Result<Registration, Error> {
        let instance = instance.clone();
        match &self.held {
            Held::Concrete(backend) => {
                Keeper::new(backend.clone()).register(service, instance, options).await
            }
            Held::Erased(handle) => handle.register_with(service, instance, options).await,
        }
    }
}

/// The defaults, but with waits after a failure that suit a test.
fn config() -> ReflectorConfig {
    let backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
    ReflectorConfig::default().with_backoff(backoff.expect("the bounds are good"))
}
