//! TLS, on both sides.

use std::fs;

use fleetward_core::ErrorKind;
use fleetward_core::discovery::Source;
use fleetward_etcd::EtcdConfig;
use fleetward_testkit::servers::{Authority, Etcd};

use crate::support::*;

fn trusted(etcd: &Etcd) -> EtcdConfig {
    let client = etcd.tls().client();
    config(etcd).with_ca_file(etcd.tls().ca()).with_client_certificate(client.cert(), client.key())
}

#[tokio::test]
async fn both_sides_show_a_certificate() {
    let Some(etcd) = Etcd::builder().with_tls().start_or_skip().await else { return };
    let pem = fs::read(etcd.tls().ca()).unwrap();
    for config in [trusted(&etcd), trusted(&etcd).with_ca_pem(pem)] {
        let registry = connect(config).await;
        let (_, cursor) = ids(&registry, "a").await;
        let mut watch = Watch::open(&registry, "a", cursor).await;
        put(&etcd, "a/10.0.0.1:80", &value("10.0.0.1:80")).await;
        assert_eq!(watch.change().await, Seen::Put("10.0.0.1:80".into()));
        etcd.etcdctl(&["del", "a/10.0.0.1:80"]).await;
    }
}

#[tokio::test]
async fn whom_nobody_trusts_is_refused() {
    let Some(etcd) = Etcd::builder().with_tls().start_or_skip().await else { return };
    let stranger = Authority::new();
    let strange = stranger.client("root");
    for (config, part) in [
        (config(&etcd), ""),
        (config(&etcd).with_tls(true), "UnknownIssuer"),
        (config(&etcd).with_ca_file(etcd.tls().ca()), ""),
        (trusted(&etcd).with_ca_file(stranger.ca()), "check ca and domain"),
        (trusted(&etcd).with_client_certificate(strange.cert(), strange.key()), ""),
        (trusted(&etcd).with_domain("etcd.invalid"), "not valid for name"),
    ] {
        let registry = match fleetward_etcd::EtcdRegistry::connect(config).await {
            Ok(registry) => registry,
            // A machine without any certificate authority.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
                continue;
            }
        };
        let error = registry.list(&service("a")).await.unwrap_err();
        println!("{error}");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_renewed_client_certificate_is_used_for_the_next_connection() {
    let Some(etcd) = Etcd::builder().with_tls().start_or_skip().await else { return };
    let authority = etcd.tls().authority();
    let (stranger, known) = (Authority::new(), authority.client("worker"));
    let strange = stranger.client("worker");
    let registry = connect(
        config(&etcd)
            .with_ca_file(authority.ca())
            .with_client_certificate(strange.cert(), strange.key()),
    )
    .await;
    assert!(registry.list(&service("a")).await.is_err());
    fs::copy(known.cert(), strange.cert()).unwrap();
    fs::copy(known.key(), strange.key()).unwrap();
    assert!(registry.list(&service("a")).await.is_ok());
}
