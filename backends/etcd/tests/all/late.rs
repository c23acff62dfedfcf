//! Requests that arrive long after their deadline, when a later attempt has succeeded.

use std::time::Duration;

use fleetward_core::discovery::Source;
use fleetward_core::registration::{KeptAlive, Leased, Registry};
use fleetward_core::{Error, Instance};
use fleetward_etcd::{EtcdConfig, EtcdLease, EtcdRegistry};
use fleetward_testkit::eventually;
use fleetward_testkit::proxy::FaultProxy;
use fleetward_testkit::servers::Etcd;

use crate::support::*;

const KEY: &str = "a/10.0.0.1:80";
/// How long the put is on its way: longer than all attempts take together.
const LATE: Duration = Duration::from_secs(30);

/// How often a key was written since it was made.
async fn version(etcd: &Etcd) -> Option<u32> {
    let fields = etcd.etcdctl(&["get", KEY, "--write-out=fields"]).await;
    fields.lines().find_map(|line| line.strip_prefix("\"Version\" : "))?.parse().ok()
}

/// Two ways to one server. The first one is slow, and the one that is taken; the other one refuses.
struct Ways {
    registry: EtcdRegistry,
    slow: FaultProxy,
    quick: FaultProxy,
}

impl Ways {
    async fn to(etcd: &Etcd) -> Self {
        let (slow, quick) =
            (FaultProxy::start(etcd.addr()).await, FaultProxy::start(etcd.addr()).await);
        let config = EtcdConfig::new([slow.endpoint(), quick.endpoint()]);
        let registry = connect(config.with_request_timeout(10 * SECOND)).await;
        quick.refuse().await;
        registry.list(&service("a")).await.unwrap();
        slow.set_latency(SECOND);
        Self { registry, slow, quick }
    }

    /// Lets the grant of a registration through, and holds back for long what comes after it on the
    /// slow way. Both ends of a request are held back, for etcd does not carry out what it hears to
    /// be called off.
    async fn hold_back_the_put(&self, etcd: &Etcd) {
        let granted = async || metric(etcd, "etcd_debugging_lease_granted_total").await > 0.0;
        eventually("the lease is granted", 10 * SECOND, granted).await;
        // The answer of the grant is on its way already.
        self.slow.set_latency(LATE);
    }

    async fn register(&self, instance: &Instance) -> Result<Leased<EtcdLease>, Error> {
        self.registry.register(&service("a"), instance, 300 * SECOND).await
    }

    /// An attempt whose put stays on its way.
    async fn begin(&self, etcd: &Etcd, instance: &Instance) {
        let (first, ()) = tokio::join!(self.register(instance), self.hold_back_the_put(etcd));
        println!("the first attempt: {}", first.unwrap_err());
        assert!(keys(etcd, "a/").await.is_empty(), "its put is on its way");
        self.quick.accept().await;
    }

    async fn assert_ours(&self, leased: &mut Leased<EtcdLease>) {
        let kept = renewed(&self.registry, &mut leased.lease).await;
        assert!(matches!(kept, KeptAlive::Alive { .. }), "{kept:?}");
    }
}

#[tokio::test]
async fn a_put_that_lands_after_the_next_attempt_is_ours() {
    for etcd in versions().await {
        let ways = Ways::to(&etcd).await;
        ways.begin(&etcd, &instance(0)).await;
        let mut leased = ways.register(&instance(0)).await.unwrap();
        eventually("it lands", 2 * LATE, || async { version(&etcd).await == Some(2) }).await;
        ways.assert_ours(&mut leased).await;
        assert_eq!(leases(&etcd).await, 1);
        ways.registry.deregister(leased.lease).await.unwrap();
        assert_eq!((keys(&etcd, "a/").await.len(), leases(&etcd).await), (0, 0));
    }
}

#[tokio::test]
async fn a_put_that_lands_after_it_was_sent_to_another_server_is_ours() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let ways = Ways::to(&etcd).await;
    ways.quick.accept().await;
    let instance = instance(0);
    let (leased, ()) = tokio::join!(ways.register(&instance), ways.hold_back_the_put(&etcd));
    let mut leased = leased.expect("the other one was asked");
    eventually("it lands", 2 * LATE, || async { version(&etcd).await == Some(2) }).await;
    ways.assert_ours(&mut leased).await;
}

#[tokio::test]
async fn a_late_put_of_another_value_is_refused() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let ways = Ways::to(&etcd).await;
    let weighted = |weight| Instance::new("10.0.0.1:80").unwrap().with_weight(weight);
    ways.begin(&etcd, &weighted(1)).await;
    let mut leased = ways.register(&weighted(2)).await.unwrap();
    let labels = r#"grpc_code="NotFound",grpc_method="Txn",grpc_service="etcdserverpb.KV",grpc_type="unary""#;
    let refused = format!("grpc_server_handled_total{{{labels}}}");
    eventually("the late one is refused", 2 * LATE, || async {
        metric_or_zero(&etcd, &refused).await == 1.0
    })
    .await;
    ways.assert_ours(&mut leased).await;
    let listing = ways.registry.list(&service("a")).await.unwrap();
    assert_eq!(listing.entries[0].readable().next().unwrap().weight(), 2);
}
