//! The test bed: what a case holds.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use fleetward_core::registration::Registry;
use fleetward_core::{Error, Instance, InstanceId, RegisterOptions, Registration, ServiceName};
use tokio::sync::Mutex;

use super::{Capabilities, Capability, Client, Form, Subject, Watcher};
use crate::proxy::FaultProxy;

type Lease<S> = <<S as Subject>::Backend as Registry>::Lease;

/// A subject, the form it is used in, and what a case wants to have at hand.
///
/// To call a case of the suite directly, make one and give it to the case's function.
pub struct Bed<S: Subject> {
    subject: S,
    capabilities: Capabilities,
    form: Form,
    /// Writes what is there without being kept alive by anybody.
    writer: S::Backend,
    leases: Mutex<HashMap<(ServiceName, InstanceId), Lease<S>>>,
    /// Counts the instances of [`catch_up`](Self::catch_up).
    last: AtomicU16,
}

impl<S: Subject> Bed<S> {
    /// A bed for one case.
    pub async fn new(subject: S, form: Form) -> Self {
        let (capabilities, writer) = (subject.capabilities(), subject.open().await);
        Self {
            subject,
            capabilities,
            form,
            writer,
            leases: Mutex::default(),
            last: AtomicU16::new(LAST),
        }
    }

    /// The subject, for its hooks.
    pub fn subject(&self) -> &S {
        &self.subject
    }

    /// What the subject can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// A new client in the form under test.
    pub async fn client(&self) -> Client<S::Backend> {
        Client::new(self.subject.open().await, self.form, &self.capabilities)
    }

    /// A proxy in front of the server, and a new client that goes through it.
    pub(crate) async fn proxied(&self) -> (FaultProxy, Client<S::Backend>) {
        let proxy = FaultProxy::start(self.subject.address()).await;
        let backend = self.subject.open_at(proxy.addr()).await;
        (proxy, Client::new(backend, self.form, &self.capabilities))
    }

    /// A new client's view of a service, once it knows the complete set.
    pub(crate) async fn watcher(&self, service: &ServiceName) -> Watcher {
        let mut watcher = self.client().await.watch(service);
        watcher.sees("a first complete set", |set| !set.freshness.is_pending()).await;
        watcher
    }

    /// Puts an instance into the registry, or changes it, and lets nobody renew it: it outlives
    /// the case.
    pub(crate) async fn put(&self, service: &ServiceName, instance: &Instance) {
        if !self.capabilities.has(Capability::Register) {
            return self.subject.put(service, instance).await;
        }
        self.put_through(&self.writer, service, instance).await;
    }

    /// As [`put`](Self::put), through a new client: for when others may just have been hurt.
    pub(crate) async fn put_anew(&self, service: &ServiceName, instance: &Instance) {
        if !self.capabilities.has(Capability::Register) {
            return self.subject.put(service, instance).await;
        }
        let writer = self.subject.open().await;
        self.put_through(&writer, service, instance).await;
    }

    async fn put_through(&self, writer: &S::Backend, service: &ServiceName, instance: &Instance) {
        let leased = writer.register(service, instance, LONG).await;
        let leased = ok("register", leased);
        let key = (service.clone(), instance.id().clone());
        self.leases.lock().await.insert(key, leased.lease);
    }

    /// Takes out of the registry what [`put`](Self::put) put there.
    pub(crate) async fn remove(&self, service: &ServiceName, instance: &Instance) {
        if !self.capabilities.has(Capability::Register) {
            return self.subject.remove(service, instance).await;
        }
        let key = (service.clone(), instance.id().clone());
        let lease = self.leases.lock().await.remove(&key).expect("it was put");
        let removed = self.writer.deregister(lease).await;
        ok("deregister", removed);
    }

    /// Registers through a client and keeps it alive.
    pub(crate) async fn register(
        &self,
        client: &Client<S::Backend>,
        service: &ServiceName,
        instance: &Instance,
    ) -> Registration {
        let registered = client.register(service, instance, self.options()).await;
        ok("register", registered)
    }

    /// The registration's settings: the shortest time to live, and prompt retries.
    pub(crate) fn options(&self) -> RegisterOptions {
        RegisterOptions::default().with_ttl(self.capabilities.ttl)
    }

    /// By when an entry must be gone that nobody renews.
    pub(crate) fn expiry(&self) -> Duration {
        self.capabilities.ttl + self.capabilities.expiry_slack
    }

    /// Asks a new client whether it sees exactly these instances, now.
    pub(crate) async fn assert_now(&self, service: &ServiceName, expected: &[&Instance]) {
        let found = self.watcher(service).await.ids();
        let mut expected: Vec<_> = expected.iter().map(|one| one.id().to_string()).collect();
        expected.sort();
        assert_eq!(found, expected, "a new client must see {expected:?}; it sees {found:?}");
    }

    /// Waits until a new client sees exactly these instances, as many as it takes. A watcher that
    /// saw more before may hold what vanishes in bulk; a new one has nothing to hold.
    pub(crate) async fn becomes(&self, service: &ServiceName, expected: &[&Instance]) {
        let mut ids: Vec<_> = expected.iter().map(|one| one.id().to_string()).collect();
        ids.sort();
        let deadline = self.expiry() + self.capabilities.patience;
        let what = format!("a new client sees {ids:?}");
        crate::eventually(&what, deadline, async || self.watcher(service).await.ids() == ids).await;
    }

    /// Waits until all that was written so far has reached the watcher: an instance that is put
    /// last is seen last. It stays, and is given back.
    pub(crate) async fn catch_up(&self, watcher: &mut Watcher, service: &ServiceName) -> Instance {
        let last = self.put_last(service).await;
        watcher.sees("what was written last", |set| set.get(last.id()).is_some()).await;
        last
    }

    /// Puts an instance that no case has, and that differs each time.
    pub(crate) async fn put_last(&self, service: &ServiceName) -> Instance {
        let last = instance(self.last.fetch_add(1, Ordering::Relaxed));
        self.put(service, &last).await;
        last
    }

    /// The keys of a service, past the backend.
    pub(crate) async fn assert_keys(&self, service: &ServiceName, expected: usize, when: &str) {
        let keys = self.subject.keys(service).await;
        assert_eq!(
            keys.len(),
            expected,
            "{when} there must be {expected} keys; there are {keys:?}"
        );
    }
}

impl<S: Subject> fmt::Debug for Bed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bed").field("form", &self.form).finish_non_exhaustive()
    }
}

/// What a call gave. It must succeed; where it does not, that is said in a sentence.
#[track_caller]
pub(crate) fn ok<T>(call: &str, gave: Result<T, Error>) -> T {
    gave.unwrap_or_else(|error| panic!("{call} must succeed; it failed: {error}"))
}

/// A service's name.
pub(crate) fn service(name: &str) -> ServiceName {
    ServiceName::new(name).expect("the suite's names are good")
}

/// An instance with an address of its own.
pub(crate) fn instance(number: u16) -> Instance {
    let [high, low] = number.to_be_bytes();
    Instance::new(format!("10.1.{high}.{low}:8080")).expect("the suite's addresses are good")
}

/// Longer than any case takes.
const LONG: Duration = Duration::from_secs(300);

/// The first instance of [`Bed::catch_up`].
const LAST: u16 = 65_000;
