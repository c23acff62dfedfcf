//! What the tests share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fleetward_core::discovery::Publisher;
use fleetward_core::endpoints::EndpointerBuilder;
use fleetward_core::health::{HealthChecked, Probe, Probing};
use fleetward_core::{DefaultEndpointer, Endpointer, Error, Instance, InstanceId};
use fleetward_testkit::HeldAddress;
use tokio::net::TcpListener;
use tokio::time::timeout;

/// Longer than anything may take that is to happen at all.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) fn instance(address: SocketAddr) -> Instance {
    Instance::new(address).unwrap()
}

pub(crate) fn builder() -> EndpointerBuilder {
    DefaultEndpointer::builder().panic_threshold(0.0)
}

/// Probes quickly.
pub(crate) fn probing<P>(probe: P) -> Probing<P> {
    Probing::new(probe)
        .with_interval(Duration::from_millis(20))
        .with_timeout(Duration::from_millis(300))
        .with_initial_spread(Duration::ZERO)
}

pub(crate) fn follow<P: Probe<()>>(
    builder: EndpointerBuilder,
    instances: impl IntoIterator<Item = Instance>,
    check: Probing<P>,
) -> DefaultEndpointer<()> {
    let list = Publisher::new("greeter");
    list.publish(instances);
    let unit = |_: Arc<Instance>| async { Ok::<_, Error>(()) };
    builder.build(list, HealthChecked::new(unit, check))
}

/// Waits until exactly these can be picked.
pub(crate) async fn until_ready(endpointer: &DefaultEndpointer<()>, instances: &[&Instance]) {
    let mut ids: Vec<InstanceId> = instances.iter().map(|i| i.id().clone()).collect();
    ids.sort();
    let wait = endpointer
        .endpoints()
        .wait_for(|set| set.ready().iter().map(|member| member.instance().id()).eq(ids.iter()));
    if timeout(LONG, wait).await.is_err() {
        panic!("waited for {ids:?}: {endpointer:?}");
    }
}

/// Why nothing can be picked.
pub(crate) async fn reason(endpointer: &DefaultEndpointer<()>) -> String {
    let wait = endpointer.endpoints().wait_for(|set| {
        set.ready().is_empty() && set.no_endpoints("").to_string().contains("health check")
    });
    timeout(LONG, wait).await.unwrap().no_endpoints("greeter").to_string()
}

/// A listener, and its address: nobody else gets it when the listener is gone.
pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let held = HeldAddress::at("127.0.0.1:0".parse().unwrap()).unwrap();
    (held.listen().await.unwrap(), held.until_exit())
}

/// An address where nobody listens, nor will.
pub(crate) async fn dead_address() -> SocketAddr {
    listen().await.1
}
