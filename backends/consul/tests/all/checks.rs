//! Health: what is discovered in which state, and the checks that Consul runs.

use fleetward_consul::ConsulCheck;
use fleetward_core::registration::{KeptAlive, Registry};
use fleetward_core::{Health, Instance};
use fleetward_testkit::eventually;
use fleetward_testkit::servers::Consul;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::*;

async fn set(consul: &Consul, check: &str, state: &str) {
    consul.put(&format!("/v1/agent/check/{state}/{check}"), "").await;
}

#[tokio::test]
async fn pitfall_weights_and_status_follow_the_aggregated_health() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let body = r#"{"ID":"1","Name":"a","Address":"10.0.0.1","Port":80,"Weights":{"Passing":10,"Warning":3},
        "Checks":[{"CheckID":"x","TTL":"1h","Status":"passing"},{"CheckID":"y","TTL":"1h","Status":"passing"}]}"#;
    put(&consul, body).await;
    let (strict, lenient) =
        (registry(&consul).await, connect(config(&consul).with_passing(false)).await);
    let expect = |weight: u32, health: Health| {
        let (strict, lenient) = (&strict, &lenient);
        eventually(health.as_str(), 3 * SECOND, move || async move {
            let all = list(lenient, "a").await;
            let known = all.first().map(|one| one.health());
            let strictly = list(strict, "a").await.len();
            known == Some(health)
                && all[0].weight() == weight
                && strictly == usize::from(health == Health::Healthy)
        })
    };
    expect(10, Health::Healthy).await;
    set(&consul, "x", "warn").await;
    expect(3, Health::Degraded).await;
    set(&consul, "y", "fail").await;
    expect(0, Health::Unhealthy).await;
    consul.put("/v1/agent/service/maintenance/1?enable=true", "").await;
    expect(0, Health::Maintenance).await;
    consul.put("/v1/agent/service/maintenance/1?enable=false", "").await;
    set(&consul, "x", "pass").await;
    set(&consul, "y", "pass").await;
    expect(10, Health::Healthy).await;
    // `passing` needs the node's checks too.
    consul.put("/v1/agent/maintenance?enable=true", "").await;
    expect(0, Health::Maintenance).await;
    consul.put("/v1/agent/maintenance?enable=false", "").await;
    expect(10, Health::Healthy).await;
}

#[tokio::test]
async fn pitfall_a_check_without_a_status_starts_critical_and_ours_does_not() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    put(&consul, r#"{"ID":"1","Name":"a","Address":"10.0.0.9","Port":80,"Check":{"TTL":"1h"}}"#)
        .await;
    let registry = registry(&consul).await;
    let lease = register(&registry, 0).await.lease;
    assert_eq!(addresses(&registry, "a").await, ["10.0.0.1:80"]);
    assert_eq!(lease.service_id(), "a:10.0.0.1:80");
    let text = consul.get("/v1/agent/checks").await;
    assert!(text.contains(r#""CheckID": "service:a:10.0.0.1:80""#), "{text}");
}

/// Answers every connection with `200 OK`.
async fn well() -> (TcpListener, Instance) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let instance = Instance::new(listener.local_addr().unwrap()).unwrap();
    (listener, instance)
}

#[tokio::test]
async fn consul_runs_tcp_and_http_checks() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let (interval, timeout) = (SECOND, SECOND);
    for check in [
        ConsulCheck::Tcp { interval, timeout },
        ConsulCheck::Http { path: "/health".into(), tls: false, interval, timeout },
    ] {
        let registry = connect(config(&consul).with_check(check.clone())).await;
        let (listener, instance) = well().await;
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 1024];
                let _read = stream.read(&mut head).await;
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _sent = stream.write_all(answer).await;
            }
        });
        let mut lease = registry.register(&service("a"), &instance, TTL).await.unwrap().lease;
        assert_eq!(list(&registry, "a").await.len(), 1, "at once");
        tokio::time::sleep(SECOND * 5 / 2).await;
        assert_eq!(list(&registry, "a").await.len(), 1, "{check:?} passes");
        serving.abort();
        let gone = || async { list(&registry, "a").await.is_empty() };
        eventually("the check fails", 5 * SECOND, gone).await;
        assert!(matches!(renewed(&registry, &mut lease).await, KeptAlive::Alive { .. }));
        remove(&consul, lease.service_id()).await;
        assert!(matches!(renewed(&registry, &mut lease).await, KeptAlive::Lost { .. }));
    }
    let check = ConsulCheck::Grpc { service: "greeter".into(), tls: false, interval, timeout };
    let registry = connect(config(&consul).with_check(check)).await;
    let lease = register(&registry, 0).await.lease;
    assert_eq!(list(&registry, "a").await.len(), 1);
    registry.deregister(lease).await.unwrap();
    assert!(services(&consul).await.is_empty());
}
