//! What several of the tests need.

use std::pin::pin;
use std::time::Duration;

use fleetward_core::discovery::{Change, Entry, KeyChange, Source};
use fleetward_core::registration::{KeptAlive, Leased, Registry};
use fleetward_core::{Error, Instance, ServiceName};
use fleetward_etcd::{EtcdConfig, EtcdCursor, EtcdLease, EtcdRegistry};
use fleetward_testkit::servers::{Etcd, EtcdVersion};
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const TTL: Duration = Duration::from_secs(5);

/// Both versions that are tested, started one after the other; none where etcd is missing.
pub(crate) async fn versions() -> Vec<Etcd> {
    let mut servers = Vec::new();
    for version in [EtcdVersion::V3_5, EtcdVersion::V3_4] {
        servers.extend(Etcd::builder().with_version(version).start_or_skip().await);
    }
    servers
}

pub(crate) fn config(etcd: &Etcd) -> EtcdConfig {
    EtcdConfig::new([etcd.endpoint()])
}

pub(crate) async fn registry(etcd: &Etcd) -> EtcdRegistry {
    connect(config(etcd)).await
}

pub(crate) async fn connect(config: EtcdConfig) -> EtcdRegistry {
    EtcdRegistry::connect(config).await.expect("the configuration is right")
}

pub(crate) fn service(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

pub(crate) fn instance(n: u32) -> Instance {
    Instance::new(format!("10.0.{}.{}:80", n / 250, n % 250 + 1)).unwrap()
}

/// The value that gRPC's naming has for an instance without metadata.
pub(crate) fn value(address: &str) -> String {
    format!(r#"{{"Op":0,"Addr":"{address}","Metadata":null}}"#)
}

pub(crate) async fn put(etcd: &Etcd, key: &str, value: &str) {
    etcd.etcdctl(&["put", key, value]).await;
}

/// The ids of what can be read, sorted, and where the list stood.
pub(crate) async fn ids(registry: &EtcdRegistry, name: &str) -> (Vec<String>, EtcdCursor) {
    let listing = registry.list(&service(name)).await.expect("the list is read");
    let readable = listing.entries.iter().flat_map(Entry::readable);
    let mut ids: Vec<_> = readable.map(|instance| instance.id().to_string()).collect();
    ids.sort();
    (ids, listing.cursor)
}

pub(crate) async fn register(registry: &EtcdRegistry, n: u32) -> Leased<EtcdLease> {
    registry.register(&service("a"), &instance(n), TTL).await.expect("it is registered")
}

pub(crate) async fn renewed(registry: &EtcdRegistry, lease: &mut EtcdLease) -> KeptAlive {
    registry.keep_alive(lease).await.expect("the lease can be asked for")
}

/// The keys and values below a prefix, as etcdctl sees them: the truth.
pub(crate) async fn keys(etcd: &Etcd, prefix: &str) -> Vec<String> {
    let text = etcd.etcdctl(&["get", "--prefix", "--keys-only", prefix]).await;
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// A field of a key as `etcdctl` names it, where the key stands.
pub(crate) async fn field(etcd: &Etcd, key: &str, name: &str) -> Option<i64> {
    let fields = etcd.etcdctl(&["get", key, "--write-out=fields"]).await;
    let start = format!("\"{name}\" : ");
    let found = fields.lines().find_map(|line| line.strip_prefix(&start));
    found.map(|number| number.parse().expect("a number"))
}

pub(crate) async fn leases(etcd: &Etcd) -> usize {
    let text = etcd.etcdctl(&["lease", "list"]).await;
    text.lines().filter(|line| !line.starts_with("found")).count()
}

/// One of the server's metrics.
pub(crate) async fn metric(etcd: &Etcd, name: &str) -> f64 {
    find_metric(etcd, name).await.unwrap_or_else(|| panic!("no metric {name}"))
}

/// One that is not there before it is first counted.
pub(crate) async fn metric_or_zero(etcd: &Etcd, name: &str) -> f64 {
    find_metric(etcd, name).await.unwrap_or_default()
}

async fn find_metric(etcd: &Etcd, name: &str) -> Option<f64> {
    let mut stream = TcpStream::connect(etcd.addr()).await.expect("etcd listens");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|number| number.parse().unwrap())
}

/// How many watches the server has.
pub(crate) async fn watchers(etcd: &Etcd) -> f64 {
    metric(etcd, "etcd_debugging_mvcc_watcher_total").await
}

/// A watch, with the parts of its changes taken apart. It runs in a task of its own, for the
/// stream borrows from the registry.
pub(crate) struct Watch {
    items: Receiver<Result<Change<EtcdCursor>, Error>>,
    _task: JoinSet<()>,
}

impl Watch {
    /// Opens a watch and waits until the server has it.
    pub(crate) async fn open(registry: &EtcdRegistry, name: &str, from: EtcdCursor) -> Self {
        let mut watch = Self::begin(registry, name, from);
        match watch.next(6 * SECOND).await {
            Ok(Change::Progress) => watch,
            other => panic!("instead of a beginning: {other:?}"),
        }
    }

    /// Opens a watch that may fail.
    pub(crate) fn begin(registry: &EtcdRegistry, name: &str, from: EtcdCursor) -> Self {
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

    /// The next item within a deadline.
    pub(crate) async fn next(&mut self, deadline: Duration) -> Result<Change<EtcdCursor>, Error> {
        let item = timeout(deadline, self.items.recv()).await;
        item.unwrap_or_else(|_| panic!("nothing within {deadline:?}")).expect("the watch goes on")
    }

    /// The next change of keys, with the progress in between left out.
    pub(crate) async fn changes(&mut self, deadline: Duration) -> (Vec<KeyChange>, EtcdCursor) {
        let end = Instant::now() + deadline;
        loop {
            let item = timeout_at(end, self.items.recv()).await;
            match item.unwrap_or_else(|_| panic!("nothing within {deadline:?}")) {
                Some(Ok(Change::Keys { changes, cursor })) => return (changes, cursor),
                Some(Ok(Change::Progress)) => {}
                other => panic!("instead of a change: {other:?}"),
            }
        }
    }

    /// One change of one key.
    pub(crate) async fn change(&mut self) -> Seen {
        let (mut changes, _) = self.changes(SECOND).await;
        assert_eq!(changes.len(), 1, "{changes:?}");
        Seen::from(changes.remove(0))
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

/// A change of a key, comparable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Put(String),
    Bad(String),
    Gone(String),
}

impl From<KeyChange> for Seen {
    fn from(change: KeyChange) -> Self {
        match change {
            KeyChange::Put(entry) => match entry.readable().next() {
                Some(instance) => Self::Put(instance.id().to_string()),
                None => Self::Bad(entry.key().to_string()),
            },
            KeyChange::Delete(key) => Self::Gone(key.to_string()),
            other => panic!("{other:?}"),
        }
    }
}
