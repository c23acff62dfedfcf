//! Three servers with ACLs and TLS on both sides.

use fleetward_consul::ConsulConfig;
use fleetward_core::ErrorKind;
use fleetward_core::discovery::Source;
use fleetward_testkit::eventually;
use fleetward_testkit::servers::{Authority, ConsulCluster};
use tokio::time::{Instant, sleep, timeout};

use crate::support::*;

fn trusted(cluster: &ConsulCluster, members: &[usize]) -> ConsulConfig {
    let tls = cluster.member(0).tls();
    let agents = members.iter().map(|index| cluster.member(*index).secure_endpoint());
    ConsulConfig::new(agents)
        .with_ca_file(tls.ca())
        .with_client_certificate(tls.client().cert(), tls.client().key())
        .with_token(cluster.member(0).root_token())
}

#[tokio::test]
async fn a_leader_change_removes_nobody() {
    let Some(cluster) = ConsulCluster::start_or_skip(3).await else { return };
    let leader = cluster.wait_for_leader().await;
    let followers: Vec<_> = (0..3).filter(|index| *index != leader).collect();
    // Agents that stay: what is registered at a server that dies is critical, as it should be.
    let registry = connect(trusted(&cluster, &followers)).await;
    let registration = keep(&registry, 0, 10 * SECOND).await;
    let mut watch = follow(&registry);
    converged(&mut watch, 1, 2 * SECOND).await;
    let mut removals = watch.clone();
    let spy = tokio::spawn(async move {
        let gone = removals.wait_for(|now| !now.freshness.is_pending() && now.instances.is_empty());
        timeout(30 * SECOND, gone).await.is_ok()
    });
    let killed = Instant::now();
    cluster.member(leader).kill().await;
    let new = async {
        loop {
            match cluster.leader().await {
                Some(index) if index != leader => break,
                _ => sleep(SECOND / 20).await,
            }
        }
    };
    timeout(20 * SECOND, new).await.expect("another leads");
    println!("another leads after {:?}", killed.elapsed());
    let second = loop {
        match timeout(20 * SECOND, registry_put(&cluster, followers[0])).await {
            Ok(true) => break Instant::now(),
            Ok(false) => sleep(SECOND / 10).await,
            Err(_) => panic!("no registration within 20 s"),
        }
    };
    println!("seen {:?} after it was written", {
        converged(&mut watch, 2, 5 * SECOND).await;
        second.elapsed()
    });
    println!("all is well {:?} after the kill", killed.elapsed());
    let known = || async { registration.status().is_registered() };
    eventually("the registration stands", 5 * SECOND, known).await;
    assert!(!spy.is_finished(), "there was a removal");
    spy.abort();
}

async fn registry_put(cluster: &ConsulCluster, at: usize) -> bool {
    let body = r#"{"ID":"second","Name":"a","Address":"10.0.0.2","Port":80}"#;
    let put = cluster.member(at).try_request("PUT", "/v1/agent/service/register", body).await;
    put.is_ok_and(|(status, _)| status == 200)
}

#[tokio::test]
async fn whom_nobody_trusts_is_refused() {
    let Some(cluster) = ConsulCluster::start_or_skip(1).await else { return };
    let stranger = Authority::new();
    let strange = stranger.client("x");
    let bare = || {
        ConsulConfig::new([cluster.member(0).secure_endpoint()])
            .with_token(cluster.member(0).root_token())
    };
    let ca = cluster.member(0).tls().ca();
    for (config, part) in [
        (bare().with_ca_file(&ca), ""),
        (trusted(&cluster, &[0]).with_ca_file(stranger.ca()), "check ca and domain"),
        (bare().with_ca_file(&ca).with_client_certificate(strange.cert(), strange.key()), ""),
        (trusted(&cluster, &[0]).with_domain("consul.invalid"), "not valid for name"),
    ] {
        let error = connect(config).await.list(&service("a")).await.unwrap_err();
        println!("{error}");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(connect(trusted(&cluster, &[0])).await.list(&service("a")).await.is_ok());
    let pem = std::fs::read(&ca).unwrap();
    let with_pem = trusted(&cluster, &[0]).with_ca_pem(pem);
    assert!(connect(with_pem).await.list(&service("a")).await.is_ok());
}

#[tokio::test]
async fn a_renewed_client_certificate_is_used_for_the_next_connection() {
    let Some(cluster) = ConsulCluster::start_or_skip(1).await else { return };
    let authority = cluster.member(0).tls().authority();
    let stranger = Authority::new();
    let (strange, known) = (stranger.client("worker"), authority.client("worker"));
    let config = trusted(&cluster, &[0]).with_client_certificate(strange.cert(), strange.key());
    let registry = connect(config).await;
    assert!(registry.list(&service("a")).await.is_err());
    std::fs::copy(known.cert(), strange.cert()).unwrap();
    std::fs::copy(known.key(), strange.key()).unwrap();
    let taken = || async { registry.list(&service("a")).await.is_ok() };
    eventually("the new certificate is shown", 2 * SECOND, taken).await;
}
