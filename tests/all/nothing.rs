//! A wrong name, a wrong codec, a dropped registration: what a call says tells them apart.

use std::time::Duration;

use fleetward::Instance;
use fleetward::balancing::WaitForReady;
use fleetward::grpc::{Channel, Connect};
use fleetward::http::Client;
use fleetward::retry::RetryError;
use fleetward_testkit::servers::{Consul, Etcd};
use tokio::time::{Instant, sleep};

const LONG: Duration = Duration::from_secs(20);
const FAST: WaitForReady = WaitForReady::FailFast;

/// Waits until a call over gRPC and one over HTTP say all of this.
async fn both_say(url: &str, parts: &[&str]) {
    grpc_says(url, parts).await;
    let client = Client::builder(url).wait_for_ready(FAST).connect().await.unwrap();
    until(parts, || over_http(&client)).await;
}

/// (Over HTTP an instance to which there is no connection yet is one that can be called.)
async fn grpc_says(url: &str, parts: &[&str]) {
    let channel = Channel::builder(url).wait_for_ready(FAST).connect().await.unwrap();
    until(parts, || over_grpc(&channel)).await;
}

async fn until<F: Future<Output = String>>(parts: &[&str], mut say: impl FnMut() -> F) {
    let mut said = String::new();
    let begun = Instant::now();
    while !parts.iter().all(|part| said.contains(part)) {
        assert!(begun.elapsed() < LONG, "{parts:?} is not said, but: {said}");
        sleep(Duration::from_millis(10)).await;
        said = say().await;
    }
}

async fn over_grpc(channel: &Channel) -> String {
    let mut client = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let request = tonic_health::pb::HealthCheckRequest::default();
    let status = client.check(request).await.expect_err("there is no instance");
    status.message().to_owned()
}

async fn over_http(client: &Client) -> String {
    let request = http::Request::get("/").body(String::new()).unwrap();
    let error = client.send(request).await.expect_err("there is no instance");
    let source = std::error::Error::source(&error).unwrap();
    let last = source.downcast_ref::<RetryError>().unwrap().final_error();
    format!("{error}, for {last}")
}

#[tokio::test]
async fn in_memory() {
    let url = "memory://nothing/greeter";
    both_say(url, &["no instance is registered", "the memory of this process"]).await;
    let registration = fleetward::register(url, Instance::new("127.0.0.1:1").unwrap()).await;
    let parts = ["no instance is ready: 1 failed to connect (", "refused", "127.0.0.1:1"];
    grpc_says(url, &parts).await;
    let hidden = format!("{url}?only=version=v2");
    both_say(&hidden, &["the filters leave out the one instance that is registered"]).await;
    registration.unwrap().deregister().await.unwrap();
    both_say(url, &["no instance is registered"]).await;
}

#[tokio::test]
async fn on_etcd() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let at = etcd.endpoint();
    let url = |rest: &str| format!("etcd://{at}/{rest}");
    let place = format!("registry=etcd at http://{at}, keys below ");
    // A wrong name, or a dropped registration.
    let here = format!("{place}team/greter/, codec grpc");
    both_say(&url("team/greter"), &["no instance is registered (", &here]).await;
    // What stands there is of the other codec.
    etcd.etcdctl(&["put", "team/greeter/10.0.0.1:80", "10.0.0.1:80"]).await;
    let here = format!("{place}team/greeter/, codec grpc");
    let parts = ["that can be read; one entry cannot", "key=team/greeter/10.0.0.1:80", &here];
    both_say(&url("team/greeter"), &parts).await;
    let here = format!("{place}/team/greeter/, codec plain");
    both_say(&url("team/greeter?codec=plain"), &["no instance is registered (", &here]).await;
}

#[tokio::test]
async fn on_consul() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let at = consul.endpoint();
    let url = |rest: &str| format!("consul://{at}/{rest}");
    let place = format!("registry=Consul at http://{at}, /v1/health/service/");
    let here = format!("{place}greter?passing=1&tag=blue");
    both_say(&url("greter?tag=blue"), &["no instance is registered (", &here]).await;
    let body = r#"{"Name": "greeter", "Address": "169.254.169.254", "Port": 80}"#;
    consul.put("/v1/agent/service/register", body).await;
    let here = format!("{place}greeter?passing=1");
    let parts = ["that can be read; one entry cannot", "link-local addresses are refused", &here];
    both_say(&url("greeter"), &parts).await;
}
