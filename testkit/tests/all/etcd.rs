use std::path::PathBuf;
use std::time::Duration;

use fleetward_testkit::eventually;
use fleetward_testkit::servers::{Etcd, EtcdVersion};

#[tokio::test]
async fn both_versions_start_and_answer() {
    for version in [EtcdVersion::V3_4, EtcdVersion::V3_5] {
        let builder = Etcd::builder().with_version(version);
        let Some(etcd) = builder.start_or_skip().await else { return };
        etcd.etcdctl(&["put", "key", "value"]).await;
        assert_eq!(etcd.etcdctl(&["get", "key"]).await, "key\nvalue\n");
        assert_eq!(etcd.client_url(), format!("http://{}", etcd.endpoint()));
    }
}

#[tokio::test]
async fn data_and_address_survive_stop_and_kill() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let address = etcd.addr();
    etcd.etcdctl(&["put", "key", "value"]).await;

    etcd.stop().await;
    assert!(!etcd.is_running());
    assert!(!etcd.try_etcdctl(&["--command-timeout=200ms", "get", "key"]).await.status.success());
    etcd.start_again().await;
    assert_eq!(etcd.etcdctl(&["get", "key"]).await, "key\nvalue\n");

    etcd.kill().await;
    assert!(!etcd.is_running());
    etcd.start_again().await;
    assert_eq!(etcd.etcdctl(&["get", "key"]).await, "key\nvalue\n");
    assert_eq!(etcd.addr(), address);
}

#[tokio::test]
async fn a_paused_server_is_silent_until_it_is_resumed() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    etcd.pause().await;
    assert!(etcd.is_running());
    assert!(!etcd.try_etcdctl(&["--command-timeout=300ms", "get", "key"]).await.status.success());
    etcd.resume();
    etcd.ready().await;
    etcd.etcdctl(&["get", "key"]).await;

    etcd.pause().await;
    etcd.stop().await;
    assert!(!etcd.is_running(), "a paused server can be stopped");
}

#[tokio::test]
async fn a_wiped_server_begins_anew() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let first = cluster_id(&etcd).await;
    etcd.etcdctl(&["put", "key", "value"]).await;

    etcd.wipe().await;
    assert!(!etcd.data_dir().exists());
    etcd.start_again().await;
    assert_eq!(etcd.etcdctl(&["get", "key"]).await, "");
    assert_eq!(cluster_id(&etcd).await, first);

    etcd.wipe_as_new_cluster().await;
    etcd.start_again().await;
    assert_ne!(cluster_id(&etcd).await, first);
}

#[tokio::test]
async fn a_server_is_upgraded_on_its_data() {
    let builder = Etcd::builder().with_version(EtcdVersion::V3_4);
    let Some(etcd) = builder.start_or_skip().await else { return };
    etcd.etcdctl(&["put", "key", "value"]).await;
    etcd.stop().await;
    etcd.use_version(EtcdVersion::V3_5);
    etcd.start_again().await;
    assert_eq!(etcd.etcdctl(&["get", "key"]).await, "key\nvalue\n");
}

#[tokio::test]
async fn dropping_ends_a_paused_server_and_removes_its_files() {
    let own = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}", std::process::id()));
    let builder = Etcd::builder()
        .with_auth_token_ttl(Duration::from_secs(5))
        .with_args(["--max-txn-ops", "7"])
        .with_data_dir(&own);
    let Some(etcd) = builder.start_or_skip().await else { return };
    let (address, log, data) = (etcd.addr(), etcd.log(), etcd.data_dir());
    assert!(log.exists());
    etcd.pause().await;
    drop(etcd);
    eventually("the port is free", Duration::from_secs(1), || async {
        std::net::TcpListener::bind(address).is_ok()
    })
    .await;
    assert!(!log.exists());
    assert!(data.exists(), "a data folder of the test's own is kept");
    std::fs::remove_dir_all(own).expect("the folder is there");
}

async fn cluster_id(etcd: &Etcd) -> String {
    let fields = etcd.etcdctl(&["-w", "fields", "get", "key"]).await;
    let line = fields.lines().find(|line| line.contains("ClusterID"));
    line.expect("there is a cluster id").to_owned()
}
