use std::path::Path;
use std::sync::Arc;

use fleetward_testkit::servers::{Authority, Etcd, Identity};

#[tokio::test]
async fn only_clients_with_a_trusted_certificate_get_in() {
    let Some(etcd) = Etcd::builder().with_tls().start_or_skip().await else { return };
    assert!(etcd.client_url().starts_with("https://127."));
    etcd.etcdctl(&["put", "key", "value"]).await;

    let tls = etcd.tls();
    let stranger = Authority::new();
    assert!(get(&etcd, &tls.ca(), Some(tls.client())).await);
    assert!(!get(&etcd, &tls.ca(), None).await, "no certificate");
    assert!(!get(&etcd, &tls.ca(), Some(&stranger.client("root"))).await, "not the server's CA");
    assert!(!get(&etcd, &stranger.ca(), Some(tls.client())).await, "not the client's CA");
}

#[tokio::test]
async fn a_cluster_can_share_an_authority() {
    let authority = Arc::new(Authority::new());
    let builder = Etcd::builder().with_authority(Arc::clone(&authority));
    let Some(cluster) = builder.start_cluster_or_skip(3).await else { return };
    cluster.etcdctl(&["put", "key", "value"]).await;
    let client = authority.client("another client");
    assert!(get(cluster.member(1), &authority.ca(), Some(&client)).await);
}

/// Whether `etcdctl`, with these certificates in place of the right ones, can read.
async fn get(etcd: &Etcd, ca: &Path, client: Option<&Identity>) -> bool {
    let path = |path: &Path| path.to_str().expect("temporary paths are UTF-8").to_owned();
    let mut args = vec!["--command-timeout=1s".to_owned(), "--cacert".to_owned(), path(ca)];
    args.push(format!("--cert={}", client.map(|own| path(own.cert())).unwrap_or_default()));
    args.push(format!("--key={}", client.map(|own| path(own.key())).unwrap_or_default()));
    args.extend(["get".to_owned(), "key".to_owned()]);
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    etcd.try_etcdctl(&args).await.status.success()
}
