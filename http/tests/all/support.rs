//! What the tests share.

use std::time::Duration;

use bytes::Bytes;
use fleetward_core::discovery::Publisher;
use fleetward_core::endpoints::Member;
use fleetward_core::{Error, Instance};
use fleetward_http::{Client, ClientBuilder, PooledBody, ResponseBody, RetryPolicy};
use http::{Request, Response};
use http_body_util::BodyExt;

use tokio::time::{Instant, sleep, timeout};

use crate::server::Server;

/// Longer than anything may take that is to happen at all.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// What a wait may be late by on a busy machine.
pub(crate) const LATE: Duration = Duration::from_millis(150);

pub(crate) fn builder(instances: impl IntoIterator<Item = Instance>) -> ClientBuilder<Publisher> {
    let publisher = Publisher::new("shop");
    publisher.publish(instances);
    Client::builder(publisher)
}

pub(crate) fn of<'a>(servers: impl IntoIterator<Item = &'a Server>) -> ClientBuilder<Publisher> {
    builder(servers.into_iter().map(Server::instance))
}

/// With the default policy, and all of `n` endpoints there.
pub(crate) async fn retrying(builder: ClientBuilder<Publisher>, n: usize) -> Client {
    let client = builder.retry(RetryPolicy::default()).build();
    ready(&client, n).await;
    client
}

pub(crate) async fn ready<S: Clone + Send + Sync + 'static>(client: &Client<S>, n: usize) {
    let wait = client.endpoints().wait_for(|set| set.ready().len() == n);
    assert!(timeout(LONG, wait).await.is_ok(), "not {n} ready: {client:?}");
}

pub(crate) fn request(method: &str, uri: &str) -> Request<String> {
    Request::builder().method(method).uri(uri).body(String::new()).unwrap()
}

pub(crate) async fn get(
    client: &Client,
    uri: &str,
) -> Result<Response<ResponseBody<PooledBody>>, Error> {
    client.send(request("GET", uri)).await
}

pub(crate) async fn text(response: Response<ResponseBody<PooledBody>>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

pub(crate) fn members(client: &Client) -> Vec<Member> {
    let set = client.endpoints().load();
    set.ready().iter().chain(set.ready().not_ready()).cloned().collect()
}

pub(crate) fn in_flight(client: &Client) -> usize {
    members(client).iter().map(Member::in_flight).sum()
}

pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "it never came to pass that {what}");
        sleep(Duration::from_millis(2)).await;
    }
}
