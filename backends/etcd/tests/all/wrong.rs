//! The wrong server, the wrong protocol, the wrong setting: the error says what was found.

use fleetward_core::discovery::Source;
use fleetward_core::registry::RegistryUrl;
use fleetward_core::{Error, ErrorKind};
use fleetward_etcd::EtcdConfig;
use fleetward_testkit::servers::{Consul, Etcd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::*;

/// The error of a program that has this in its configuration.
async fn refused(url: &str) -> Error {
    let config = EtcdConfig::from_url(RegistryUrl::parse(url).unwrap()).unwrap();
    let error = connect(config).await.list(&service("a")).await.unwrap_err();
    println!("{error}");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(!error.to_string().contains("canary"), "{error}");
    error
}

#[track_caller]
fn assert_found(error: &Error, parts: &[&str]) {
    let found = error.context("found").unwrap_or_else(|| panic!("nothing found: {error}"));
    for part in parts {
        assert!(found.contains(part), "{part}: {error}");
    }
}

#[tokio::test]
async fn etcd_without_tls_is_named() {
    for etcd in versions().await {
        for user in ["", "root:canary@"] {
            let error = refused(&format!("etcds://{user}{}", etcd.endpoint())).await;
            assert_found(&error, &["without TLS", "write etcd://"]);
        }
    }
}

#[tokio::test]
async fn etcd_with_tls_is_named() {
    let Some(etcd) = Etcd::builder().with_tls().start_or_skip().await else { return };
    for user in ["", "root:canary@"] {
        let error = refused(&format!("etcd://{user}{}", etcd.endpoint())).await;
        assert_found(&error, &["speaks TLS", "write etcds://"]);
    }
}

#[tokio::test]
async fn consul_is_named() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    for scheme in ["etcd", "etcds"] {
        let error = refused(&format!("{scheme}://{}", consul.addr())).await;
        assert_found(&error, &["Consul", "write consul://"]);
    }
}

#[tokio::test]
async fn any_server_of_http_1_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 512];
            let _read = stream.read(&mut request).await;
            let _sent =
                stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    let error = refused(&format!("etcd://{address}")).await;
    assert_found(&error, &["HTTP/1", "is it etcd's port?"]);
    let error = refused(&format!("etcds://{address}")).await;
    assert_found(&error, &["no TLS"]);
}

#[tokio::test]
async fn nothing_is_found_where_nothing_is_and_where_all_is_well() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let error = refused("etcd://127.0.0.1:1").await;
    assert_eq!(error.context("found"), None, "{error}");
    // It was etcd before.
    let registry = registry(&etcd).await;
    ids(&registry, "a").await;
    etcd.kill().await;
    let error = registry.list(&service("a")).await.unwrap_err();
    assert_eq!(error.context("found"), None, "{error}");
}

#[tokio::test]
async fn a_server_that_takes_our_probes_for_too_many_is_named() {
    for version in [
        fleetward_testkit::servers::EtcdVersion::V3_5,
        fleetward_testkit::servers::EtcdVersion::V3_4,
    ] {
        let args = ["--grpc-keepalive-min-time", "60s"];
        let builder = Etcd::builder().with_version(version).with_args(args);
        let Some(etcd) = builder.start_or_skip().await else { return };
        let registry = registry(&etcd).await;
        let (_, cursor) = ids(&registry, "a").await;
        let mut said = Vec::new();
        // It forgives two probes. A busy machine may be too late to see what came after what.
        while said.len() < 3 {
            let mut watch = Watch::open(&registry, "a", cursor).await;
            let error = watch.error(60 * SECOND).await;
            println!("{error}");
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            said.push(error.to_string());
            let parts = ["keepalive=", "--grpc-keepalive-min-time"];
            if parts.iter().all(|part| error.to_string().contains(part)) {
                break;
            }
        }
        assert!(said.last().unwrap().contains("keepalive="), "{said:#?}");
    }
}
