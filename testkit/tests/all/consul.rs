use std::time::Duration;

use fleetward_testkit::eventually;
use fleetward_testkit::servers::{Consul, ConsulCluster};

const SERVICE: &str = r#"{"ID":"a-1","Name":"a","Address":"10.0.0.1","Port":80}"#;

async fn instances(consul: &Consul) -> usize {
    consul.get("/v1/health/service/a").await.matches("\"a-1\"").count()
}

#[tokio::test]
async fn in_dev_mode_nothing_survives_and_with_data_everything() {
    for persistent in [false, true] {
        let builder = Consul::builder();
        let builder = if persistent { builder.with_data() } else { builder };
        let Some(consul) = builder.start_or_skip().await else { return };
        let address = consul.addr();
        consul.put("/v1/agent/service/register", SERVICE).await;
        let seen = || async { instances(&consul).await > 0 };
        eventually("it is in the catalogue", Duration::from_secs(2), seen).await;
        consul.kill().await;
        assert!(!consul.is_running());
        consul.start_again().await;
        assert_eq!((instances(&consul).await > 0, consul.addr()), (persistent, address));
        consul.wipe().await;
        consul.start_again().await;
        assert_eq!(instances(&consul).await, 0);
    }
}

#[tokio::test]
async fn a_paused_agent_is_silent_until_it_is_resumed() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    consul.pause().await;
    assert!(consul.try_request("GET", "/v1/status/leader", "").await.is_err());
    consul.resume();
    consul.get("/v1/status/leader").await;
}

#[tokio::test]
async fn a_cluster_with_acls_and_tls_gets_another_leader() {
    let Some(cluster) = ConsulCluster::start_or_skip(3).await else { return };
    let leader = cluster.wait_for_leader().await;
    cluster.member(leader).kill().await;
    let another = || async { cluster.leader().await.is_some_and(|new| new != leader) };
    eventually("another leads", Duration::from_secs(20), another).await;
    cluster.member(leader).start_again().await;
    assert_eq!(cluster.secure_endpoints().len(), 3);
}
