//! The conformance suite on etcd, in both layouts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fleetward_core::{Instance, InstanceId, ServiceName};
use fleetward_etcd::{EtcdCodec, EtcdConfig, EtcdRegistry};
use fleetward_testkit::conformance::{
    CASES, Capabilities, Capability, Case, Form, Outcome, Subject, run, run_all,
};
use fleetward_testkit::proxy::FaultProxy;
use fleetward_testkit::servers::Etcd;

use crate::support::{SECOND, connect, keys, put};

fleetward_testkit::conformance_tests!(grpc);

/// All cases in one test and on one server, in namespaces of their own.
#[tokio::test(flavor = "multi_thread")]
async fn plain() {
    let Some(etcd) = Etcd::start_or_skip().await.map(Arc::new) else { return };
    let number = AtomicU32::new(0);
    let plain = async || {
        let schema = format!("schema-{}", number.fetch_add(1, Ordering::Relaxed));
        Some(EtcdSubject::new(etcd.clone(), EtcdCodec::Plain, &schema).await)
    };
    let report = run_all(plain).await.expect("etcd is there");
    println!("{report}");
    report.assert_passed();
    let skipped = report.outcomes().iter().filter(|(.., how)| matches!(how, Outcome::Skipped(_)));
    let mut skipped: Vec<_> = skipped.map(|(case, ..)| case.name).collect();
    skipped.dedup();
    assert_eq!(
        skipped,
        [
            "change",
            "weights",
            "metadata",
            "zone",
            "version",
            "own_id",
            "server_stopped_and_started"
        ]
    );
}

/// The default layout can do everything.
#[tokio::test]
async fn nothing_is_skipped() {
    let Some(subject) = grpc().await else { return };
    let capabilities = subject.capabilities();
    assert!(CASES.iter().all(|case| case.skipped(&capabilities).is_none()));
}

/// The half-open case can fail: a client that does not probe its connection never notices.
#[tokio::test(flavor = "multi_thread")]
async fn without_keepalive_a_silent_connection_goes_unnoticed() {
    let Some(mut subject) = grpc().await else { return };
    subject.keepalive = 600 * SECOND;
    let case = Case::named("faults::connection_half_open").expect("there is such a case");
    let failed = tokio::spawn(run(case, Form::Concrete, async move || Some(subject))).await;
    let panic = failed.expect_err("the case fails").into_panic();
    let message = panic.downcast_ref::<String>().expect("a sentence");
    assert!(message.contains("what happened in the silence"), "{message}");
}

async fn grpc() -> Option<EtcdSubject> {
    let etcd = Arc::new(Etcd::start_or_skip().await?);
    Some(EtcdSubject::new(etcd, EtcdCodec::Grpc, "prod").await)
}

struct EtcdSubject {
    etcd: Arc<Etcd>,
    codec: EtcdCodec,
    prefix: String,
    /// All clients go through it, so that their watches can be killed.
    proxy: FaultProxy,
    keepalive: Duration,
}

impl EtcdSubject {
    async fn new(etcd: Arc<Etcd>, codec: EtcdCodec, prefix: &str) -> Self {
        let proxy = FaultProxy::start(etcd.addr()).await;
        Self { etcd, codec, prefix: prefix.to_owned(), proxy, keepalive: SECOND * 11 / 2 }
    }

    fn root(&self, service: &ServiceName) -> String {
        match self.codec {
            EtcdCodec::Plain => format!("/{}/{service}/", self.prefix),
            _ => format!("{}/{service}/", self.prefix),
        }
    }
}

impl Subject for EtcdSubject {
    type Backend = EtcdRegistry;

    fn capabilities(&self) -> Capabilities {
        let hooks = [
            Capability::RawWrites,
            Capability::Keys,
            Capability::LoseLease,
            Capability::TellsLoss,
            Capability::KillWatches,
            Capability::Restart,
            Capability::Proxy,
        ];
        let all = hooks.into_iter().fold(Capabilities::new(), Capabilities::with);
        let all = all.with_ttl(2 * SECOND).with_silence(15 * SECOND / 2);
        let address_only = "the value is the address alone";
        let lost = [
            Capability::Weights,
            Capability::Zone,
            Capability::Version,
            Capability::Metadata,
            Capability::Ids,
        ];
        match self.codec {
            EtcdCodec::Plain => {
                let all = all.without(Capability::Restart, "the server is shared");
                lost.into_iter().fold(all, |all, lost| all.without(lost, address_only))
            }
            _ => all,
        }
    }

    async fn open(&self) -> EtcdRegistry {
        self.open_at(self.proxy.addr()).await
    }

    fn address(&self) -> SocketAddr {
        self.etcd.addr()
    }

    async fn open_at(&self, address: SocketAddr) -> EtcdRegistry {
        let config = EtcdConfig::new([address.to_string()])
            .with_codec(self.codec)
            .with_keepalive(self.keepalive, SECOND * 3 / 2);
        connect(match self.codec {
            EtcdCodec::Plain => config.with_schema(&self.prefix),
            _ => config.with_prefix(&self.prefix),
        })
        .await
    }

    async fn write_raw(&self, service: &ServiceName, key: &str, value: &[u8]) {
        // etcdctl takes a value as an argument, which cannot be bad UTF-8.
        let value = String::from_utf8_lossy(value);
        put(&self.etcd, &(self.root(service) + key), &value).await;
    }

    async fn delete_raw(&self, service: &ServiceName, key: &str) {
        self.etcd.etcdctl(&["del", &(self.root(service) + key)]).await;
    }

    fn encoded(&self, instance: &Instance) -> Vec<u8> {
        let address = instance.address().to_string();
        match self.codec {
            EtcdCodec::Plain => address.into_bytes(),
            _ => crate::support::value(&address).into_bytes(),
        }
    }

    async fn keys(&self, service: &ServiceName) -> Vec<String> {
        keys(&self.etcd, &self.root(service)).await
    }

    async fn lose_lease(&self, service: &ServiceName, id: &InstanceId) {
        let key = self.root(service) + id.as_str();
        let found = self.etcd.etcdctl(&["get", &key, "--write-out=fields"]).await;
        let lease = found.lines().find_map(|line| line.strip_prefix("\"Lease\" : "));
        let lease: i64 = lease.expect("the key has a lease").parse().expect("a number");
        self.etcd.etcdctl(&["lease", "revoke", &format!("{lease:x}")]).await;
    }

    async fn kill_watches(&self) {
        self.proxy.reset();
    }

    async fn stop(&self) {
        self.etcd.stop().await;
    }

    async fn start(&self) {
        self.etcd.start_again().await;
    }
}
