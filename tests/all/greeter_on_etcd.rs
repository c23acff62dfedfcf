//! The main job on a real etcd, with real processes: what is promised to the greeter's user.

use std::time::Duration;

use fleetward_testkit::eventually;
use fleetward_testkit::servers::Etcd;
use tokio::time::{Instant, sleep};

use crate::programs::{Outcome, Server, client};

fn all_answered(calls: u32, instances: usize) -> Outcome {
    let last_line = format!("calls={calls} failed=0 instances={instances}");
    Outcome { success: true, last_line }
}

/// The keys under `/ns/greeter/`, as another program would read them.
async fn keys(etcd: &Etcd) -> Vec<String> {
    let output = etcd.try_etcdctl(&["get", "--prefix", "--keys-only", "/ns/greeter/"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

async fn until_registered(etcd: &Etcd, servers: &[Server], within: Duration) {
    let mut expected: Vec<_> =
        servers.iter().map(|server| format!("/ns/greeter/{}", server.address)).collect();
    expected.sort();
    let started = Instant::now();
    eventually("every server is registered", within, || async { keys(etcd).await == expected })
        .await;
    println!("registered after {:?}", started.elapsed());
}

fn url(etcd: &Etcd) -> String {
    format!("etcd://{}/greeter?codec=plain&schema=ns", etcd.endpoint())
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_a_server_and_terminating_another_costs_no_call() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(Server::start(&url(&etcd)).await);
    }
    until_registered(&etcd, &servers, Duration::from_secs(5)).await;
    let calling = client(&url(&etcd), 600, "10ms");
    sleep(Duration::from_secs(2)).await;
    servers[1].kill().await;
    sleep(Duration::from_secs(1)).await;
    servers.remove(0).terminate().await;
    assert_eq!(calling.await.unwrap(), all_answered(600, 3));
    servers.remove(0);
    until_registered(&etcd, &servers, Duration::from_secs(5 + 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_without_etcd_and_a_wiped_etcd_cost_no_call() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(Server::start(&url(&etcd)).await);
    }
    until_registered(&etcd, &servers, Duration::from_secs(5)).await;
    let calling = client(&url(&etcd), 1600, "50ms");
    sleep(Duration::from_secs(2)).await;

    etcd.stop().await;
    sleep(Duration::from_secs(60)).await;
    etcd.start_again().await;
    until_registered(&etcd, &servers, Duration::from_secs(5)).await;

    etcd.wipe_as_new_cluster().await;
    etcd.start_again().await;
    until_registered(&etcd, &servers, Duration::from_secs(5)).await;

    assert_eq!(calling.await.unwrap(), all_answered(1600, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_finds_what_a_tutorials_server_wrote_and_an_exit_code_tells_failure() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let server = Server::start(&url(&etcd)).await;
    // The value is the address itself: what a reader of that format expects.
    let key = format!("/ns/greeter/{}", server.address);
    let value = etcd.etcdctl(&["get", "--print-value-only", &key]).await;
    assert_eq!(value.trim(), server.address);

    // The same server once more, registered by hand under another service.
    let key = format!("/ns/by-hand/{}", server.address);
    etcd.etcdctl(&["put", &key, &server.address]).await;
    let by_hand = url(&etcd).replace("/greeter?", "/by-hand?");
    assert_eq!(client(&by_hand, 10, "1ms").await.unwrap(), all_answered(10, 1));

    let nobody = url(&etcd).replace("/greeter?", "/nobody?");
    let outcome = client(&nobody, 1, "1ms").await.unwrap();
    assert!(!outcome.success);
    assert_eq!(outcome.last_line, "calls=1 failed=1 instances=0");
}
