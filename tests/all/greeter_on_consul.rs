//! The main job on a real Consul, with real processes; nothing but the URL differs from etcd.

use std::time::Duration;

use fleetward_testkit::eventually;
use fleetward_testkit::servers::Consul;
use tokio::time::{Instant, sleep};

use crate::programs::{Outcome, Server, client};

fn all_answered(calls: u32, instances: usize) -> Outcome {
    let last_line = format!("calls={calls} failed=0 instances={instances}");
    Outcome { success: true, last_line }
}

fn url(consul: &Consul) -> String {
    format!("consul://{}/greeter?passing=true", consul.endpoint())
}

/// Whether exactly these pass their checks, as another program would read it.
async fn until_passing(consul: &Consul, servers: &[Server], within: Duration) {
    let started = Instant::now();
    eventually("exactly the servers are passing", within, || async {
        let path = "/v1/health/service/greeter?passing=1";
        let Ok((200, text)) = consul.try_request("GET", path, "").await else { return false };
        let all =
            servers.iter().all(|server| text.contains(&format!("greeter:{}\"", server.address)));
        all && text.matches("\"TaggedAddresses\"").count() == 2 * servers.len()
    })
    .await;
    println!("passing after {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_a_server_and_terminating_another_costs_no_call() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(Server::start(&url(&consul)).await);
    }
    until_passing(&consul, &servers, Duration::from_secs(5)).await;
    let calling = client(&url(&consul), 600, "10ms");
    sleep(Duration::from_secs(2)).await;
    servers[1].kill().await;
    sleep(Duration::from_secs(1)).await;
    servers.remove(0).terminate().await;
    assert_eq!(calling.await.unwrap(), all_answered(600, 3));
    servers.remove(0);
    until_passing(&consul, &servers, Duration::from_secs(5 + 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_seconds_without_consul_and_an_agent_that_lost_everything_cost_no_call() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(Server::start(&url(&consul)).await);
    }
    until_passing(&consul, &servers, Duration::from_secs(5)).await;
    let calling = client(&url(&consul), 400, "50ms");
    sleep(Duration::from_secs(2)).await;
    // In -dev mode nothing survives.
    consul.kill().await;
    sleep(Duration::from_secs(10)).await;
    consul.start_again().await;
    // A heartbeat is a third of the time to live, 5 s; one more second to register.
    until_passing(&consul, &servers, Duration::from_secs(3)).await;
    assert_eq!(calling.await.unwrap(), all_answered(400, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_finds_what_was_registered_by_hand() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let server = Server::start(&url(&consul)).await;
    let (host, port) = server.address.rsplit_once(':').unwrap();
    // The tutorials' shape.
    let body = format!(
        r#"{{"ID":"by-hand-{host}-{port}","Name":"by-hand","Tags":["by-hand"],"Address":"{host}","Port":{port}}}"#
    );
    consul.put("/v1/agent/service/register", &body).await;
    let by_hand = format!("consul://{}/by-hand?tag=by-hand", consul.endpoint());
    assert_eq!(client(&by_hand, 10, "1ms").await.unwrap(), all_answered(10, 1));
}
