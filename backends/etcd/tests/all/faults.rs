//! Servers that hang, and connections that nobody notices are gone.

use fleetward_core::ErrorKind;
use fleetward_core::discovery::Source;
use fleetward_core::registration::Registry;
use fleetward_etcd::EtcdConfig;
use fleetward_testkit::servers::Etcd;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};

use crate::support::*;

#[tokio::test]
async fn a_silent_server_is_noticed() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let registry = registry(&etcd).await;
    let (_, cursor) = ids(&registry, "a").await;
    let mut watch = Watch::open(&registry, "a", cursor).await;
    let paused = Instant::now();
    etcd.pause().await;
    let error = watch.error(9 * SECOND).await;
    println!("{:?}: {error}", paused.elapsed());
    assert!(paused.elapsed() <= SECOND * 15 / 2, "{:?}", paused.elapsed());
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    etcd.resume();
    let (_, cursor) = ids(&registry, "a").await;
    Watch::open(&registry, "a", cursor).await;
}

#[tokio::test]
async fn every_call_has_a_deadline() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let registry = connect(config(&etcd).with_request_timeout(SECOND / 2)).await;
    let mut leased = register(&registry, 0).await;
    let (_, cursor) = ids(&registry, "a").await;
    etcd.pause().await;
    let begun = Instant::now();
    let (list, register, renewal, watch) = (
        registry.list(&service("a")).await.unwrap_err(),
        registry.register(&service("a"), &instance(1), TTL).await.unwrap_err(),
        registry.keep_alive(&mut leased.lease).await.unwrap_err(),
        Watch::begin(&registry, "a", cursor).error(SECOND).await,
    );
    let gone = registry.deregister(leased.lease).await.unwrap_err();
    for error in [list, register, renewal, watch, gone] {
        assert!(error.context("service").is_some(), "{error}");
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    }
    assert!(begun.elapsed() < 4 * SECOND, "{:?}", begun.elapsed());
    etcd.resume();
    assert!(registry.list(&service("a")).await.is_ok());
}

#[tokio::test]
async fn a_server_that_hangs_at_the_login_is_left_by_impatient_callers_too() {
    let (mut hung, mut endpoints) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        endpoints.push(listener.local_addr().unwrap().to_string());
        hung.push(listener);
    }
    let registry = connect(EtcdConfig::new(endpoints).with_user("root", "canary")).await;
    for _ in 0..2 {
        // Less than the share of the first server, so that it is the caller who gives up.
        timeout(2 * SECOND, registry.list(&service("a"))).await.expect_err("nobody answers");
    }
    for listener in &hung {
        timeout(5 * SECOND, listener.accept()).await.expect("each was tried once").unwrap();
    }
}

#[tokio::test]
async fn pitfall_keepalive_ping_not_too_often() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let (busy, idle) = (registry(&etcd).await, registry(&etcd).await);
    let (_, cursor) = ids(&busy, "a").await;
    let mut watch = Watch::open(&busy, "a", cursor).await;
    ids(&idle, "a").await;
    let before = connections(&etcd);
    // etcd forgives two pings that come too early.
    sleep(24 * SECOND).await;
    assert_eq!(connections(&etcd), before, "no connection was closed");
    ids(&idle, "a").await;
    put(&etcd, "a/10.0.0.1:80", &value("10.0.0.1:80")).await;
    assert_eq!(watch.change().await, Seen::Put("10.0.0.1:80".into()));
}

/// The local ports of this process's connections to the server; it must not be another one's.
fn connections(etcd: &Etcd) -> Vec<String> {
    let std::net::SocketAddr::V4(server) = etcd.addr() else { panic!("not IPv4") };
    let remote = format!("{:08X}:{:04X}", u32::from(*server.ip()).swap_bytes(), server.port());
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let mut ports: Vec<_> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        // 01: established.
        .filter(|fields| fields[2] == remote && fields[3] == "01")
        .map(|fields| fields[1].to_owned())
        .collect();
    ports.sort();
    ports
}
