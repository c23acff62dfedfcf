//! What several of the tests need.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use fleetward_consul::{ConsulConfig, ConsulCursor, ConsulLease, ConsulRegistry};
use fleetward_core::discovery::{Change, Entry, Listing, Reflector, ReflectorConfig, Source};
use fleetward_core::registration::{Keeper, KeptAlive, Leased, Registrar, Registry};
use fleetward_core::{
    Error, Instance, Instancer, RegisterOptions, Registration, ServiceName, Subscription,
};
use fleetward_testkit::servers::Consul;
use futures::StreamExt;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const TTL: Duration = Duration::from_secs(6);

pub(crate) fn config(consul: &Consul) -> ConsulConfig {
    ConsulConfig::new([consul.endpoint()])
}

pub(crate) async fn registry(consul: &Consul) -> ConsulRegistry {
    connect(config(consul)).await
}

pub(crate) async fn connect(config: ConsulConfig) -> ConsulRegistry {
    ConsulRegistry::connect(config).await.expect("the configuration is right")
}

pub(crate) fn service(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

pub(crate) fn instance(n: u32) -> Instance {
    Instance::new(format!("10.0.{}.{}:80", n / 250, n % 250 + 1)).unwrap()
}

/// Registers by hand, as other programs do.
pub(crate) async fn put(consul: &Consul, body: &str) {
    consul.put("/v1/agent/service/register", body).await;
}

/// go-kit's shape: no check.
pub(crate) async fn put_plain(consul: &Consul, name: &str, id: &str, host: &str) {
    let body = format!(r#"{{"ID":"{id}","Name":"{name}","Address":"{host}","Port":80}}"#);
    put(consul, &body).await;
}

pub(crate) async fn remove(consul: &Consul, id: &str) {
    consul.put(&format!("/v1/agent/service/deregister/{id}"), "").await;
}

/// The ids of the services at the agent: the truth.
pub(crate) async fn services(consul: &Consul) -> Vec<String> {
    let text = consul.get("/v1/agent/services").await;
    let all: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    all.keys().cloned().collect()
}

/// Those that can be read, sorted by id.
pub(crate) fn readable(listing: &Listing<ConsulCursor>) -> Vec<Arc<Instance>> {
    let entries = listing.entries.iter();
    let mut found: Vec<_> = entries.flat_map(Entry::readable).cloned().collect();
    found.sort_by(|a, b| a.id().cmp(b.id()));
    found
}

pub(crate) async fn list(registry: &ConsulRegistry, name: &str) -> Vec<Arc<Instance>> {
    readable(&registry.list(&service(name)).await.expect("the list is read"))
}

pub(crate) async fn addresses(registry: &ConsulRegistry, name: &str) -> Vec<String> {
    let found = list(registry, name).await;
    let mut all: Vec<_> = found.iter().map(|one| one.address().to_string()).collect();
    all.sort();
    all
}

pub(crate) async fn register(registry: &ConsulRegistry, n: u32) -> Leased<ConsulLease> {
    registry.register(&service("a"), &instance(n), TTL).await.expect("it is registered")
}

pub(crate) async fn renewed(registry: &ConsulRegistry, lease: &mut ConsulLease) -> KeptAlive {
    registry.keep_alive(lease).await.expect("the agent can be asked")
}

pub(crate) fn follow(registry: &ConsulRegistry) -> Subscription {
    let source = Arc::new(registry.clone());
    Reflector::spawn(source, service("a"), ReflectorConfig::default()).unwrap().subscribe()
}

pub(crate) async fn keep(registry: &ConsulRegistry, n: u32, ttl: Duration) -> Registration {
    let keeper = Keeper::new(Arc::new(registry.clone()));
    let options = RegisterOptions::default().with_ttl(ttl);
    keeper.register(&service("a"), instance(n), options).await.expect("it is registered")
}

/// Waits until that many instances are known, freshly; says how long it took.
pub(crate) async fn converged(
    watch: &mut Subscription,
    count: usize,
    deadline: Duration,
) -> Duration {
    let begun = Instant::now();
    let condition = watch.wait_for(|now| {
        now.instances.len() == count && !now.freshness.is_pending() && !now.freshness.is_stale()
    });
    let waited = timeout(deadline, condition).await;
    let waited = waited.map(Result::unwrap).map(drop);
    assert!(waited.is_ok(), "not {count} within {deadline:?}: {:?}", watch.current());
    begun.elapsed()
}

/// A watch in a task of its own, for the stream borrows from the registry.
pub(crate) struct Watch {
    items: Receiver<Result<Change<ConsulCursor>, Error>>,
    _task: JoinSet<()>,
}

impl Watch {
    pub(crate) async fn open(registry: &ConsulRegistry, name: &str) -> Self {
        let listing = registry.list(&service(name)).await.expect("the list is read");
        Self::from(registry, name, listing.cursor)
    }

    pub(crate) fn from(registry: &ConsulRegistry, name: &str, from: ConsulCursor) -> Self {
        let (registry, service) = (registry.clone(), service(name));
        let (sender, items) = channel(1);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut stream = pin!(registry.watch(&service, from));
            while let Some(item) = stream.next().await {
                if sender.send(item).await.is_err() {
                    break;
                }
            }
        });
        Self { items, _task: task }
    }

    pub(crate) async fn next(&mut self, deadline: Duration) -> Result<Change<ConsulCursor>, Error> {
        let item = timeout(deadline, self.items.recv()).await;
        item.unwrap_or_else(|_| panic!("nothing within {deadline:?}")).expect("the watch goes on")
    }

    /// The next complete set.
    pub(crate) async fn full(&mut self, deadline: Duration) -> Vec<Arc<Instance>> {
        let end = Instant::now() + deadline;
        loop {
            match self.next(end - Instant::now()).await {
                Ok(Change::Full(listing)) => return readable(&listing),
                Ok(Change::Progress) => {}
                other => panic!("instead of a change: {other:?}"),
            }
        }
    }

    /// The first complete set of that many, once all sets of other sizes have passed.
    ///
    /// Consul wakes the query of a name that nobody has for anything that happens, so that a set may
    /// come twice, and that of before the change may come first.
    pub(crate) async fn full_of(&mut self, count: usize) -> Vec<Arc<Instance>> {
        let end = Instant::now() + 10 * SECOND;
        loop {
            let found = self.full(end - Instant::now()).await;
            if found.len() == count {
                return found;
            }
        }
    }

    /// The error that ends the watch.
    pub(crate) async fn error(&mut self, deadline: Duration) -> Error {
        let end = Instant::now() + deadline;
        loop {
            let item = timeout_at(end, self.items.recv()).await;
            match item.unwrap_or_else(|_| panic!("no error within {deadline:?}")) {
                Some(Err(error)) => {
                    assert!(self.items.recv().await.is_none(), "a watch ends with its error");
                    return error;
                }
                Some(Ok(_)) => {}
                None => panic!("the watch ended without an error"),
            }
        }
    }
}
