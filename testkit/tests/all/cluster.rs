use std::time::Duration;

use fleetward_testkit::eventually;
use fleetward_testkit::servers::EtcdCluster;

#[tokio::test]
async fn another_member_leads_after_the_leader_is_killed() {
    let Some(cluster) = EtcdCluster::start_or_skip(3).await else { return };
    cluster.etcdctl(&["put", "key", "value"]).await;
    let old = cluster.wait_for_leader().await;

    cluster.member(old).kill().await;
    eventually("another member leads", Duration::from_secs(4), || async {
        cluster.leader().await.is_some_and(|new| new != old)
    })
    .await;

    cluster.member(old).start_again().await;
    assert_eq!(cluster.member(old).etcdctl(&["get", "key"]).await, "key\nvalue\n");
    assert_eq!(cluster.endpoints().len(), 3);
}

#[tokio::test]
async fn another_member_leads_while_the_leader_is_paused() {
    let Some(cluster) = EtcdCluster::start_or_skip(3).await else { return };
    let old = cluster.wait_for_leader().await;
    cluster.member(old).pause().await;
    eventually("another member leads", Duration::from_secs(4), || async {
        cluster.leader().await.is_some_and(|new| new != old)
    })
    .await;
    cluster.member(old).resume();
    cluster.member(old).ready().await;
}
