//! How a request reaches an instance.

use std::sync::Arc;
use std::task::{Context, Poll};

use fleetward_core::discovery::Publisher;
use fleetward_core::{Instance, InstanceId};
use fleetward_http::{Client, Origin, Pool, RequestBody, RetryPolicy};
use http::{Request, Response};
use tower::util::Either;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::server::{Server, one_connection};
use crate::support::*;

#[tokio::test]
async fn a_path_is_enough_and_an_authority_is_what_is_asked_for_there() {
    let server = Server::start().await;
    let client = of([&server]).build();
    for (uri, host) in [
        ("/users?id=7", server.id()),
        ("http://shop/users?id=7", "shop".to_owned()),
        ("https://shop:8443/users?id=7", "shop:8443".to_owned()),
    ] {
        let response = get(&client, uri).await.unwrap();
        assert_eq!(response.extensions().get::<InstanceId>().unwrap().as_str(), server.id());
        let seen = server.seen();
        assert_eq!(seen[0].uri, "/users?id=7");
        assert_eq!(seen[0].headers["host"], host);
    }
    let own = Request::get("/").header("host", "mine").body(String::new()).unwrap();
    client.send(own).await.unwrap();
    assert_eq!(server.seen()[0].headers["host"], "mine");
}

#[tokio::test]
async fn connections_are_kept() {
    let server = Server::start().await;
    let client = of([&server]).build();
    for _ in 0..20 {
        text(get(&client, "/").await.unwrap()).await;
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn idle_connections_go_with_their_instance() {
    let (instance, closed) = one_connection().await;
    let publisher = Publisher::new("shop");
    publisher.publish([instance]);
    let client = Client::new(publisher.clone());
    text(get(&client, "/").await.unwrap()).await;
    assert!(!closed.is_finished());
    publisher.publish([]);
    let closed = tokio::time::timeout(LONG, closed).await;
    assert_eq!(closed.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn http_2_shares_a_connection_and_names_the_authority() {
    let server = Server::start().await;
    let client =
        of([&server]).retry(RetryPolicy::default()).build_on(Pool::new().with_http2_only());
    ready(&client, 1).await;
    text(get(&client, "http://shop/first").await.unwrap()).await;
    let calls: Vec<_> = (0..50)
        .map(|n| {
            let request = Request::put(format!("/{n}")).header("host", "mine").body(format!("{n}"));
            tokio::spawn(client.send(request.unwrap()))
        })
        .collect();
    for call in calls {
        let response = call.await.unwrap().unwrap();
        assert_eq!(response.version(), http::Version::HTTP_2);
    }
    // One for all authorities.
    assert_eq!(server.connections(), 1);
    let seen = server.seen();
    assert_eq!(seen[0].uri, "http://shop/first");
    for seen in &seen[1..] {
        assert_eq!(seen.uri, format!("http://mine/{}", str::from_utf8(&seen.body).unwrap()));
    }
    assert!(seen.iter().all(|seen| !seen.headers.contains_key("host")));
}

#[tokio::test]
async fn an_instance_that_asks_for_https_is_never_talked_to_in_plaintext() {
    let server = Server::start().await;
    let secure = Instance::new(format!("https://{}", server.address)).unwrap();
    let wait = fleetward_core::balancing::WaitForReady::FailFast;
    let client = builder([secure]).wait_for_ready(wait).build();
    let refused = || client.endpoints().load().no_endpoints("shop").to_string();
    until("the factory has refused it", || refused().contains("another scheme than http")).await;
    let error = get(&client, "/").await.unwrap_err();
    assert!(error.is_no_endpoints());
    // The reason, as over gRPC.
    assert!(error.to_string().contains("another scheme than http"), "{error}");
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn any_client_serves_and_layers_go_on_both_sides() {
    let instances = ["10.0.0.1:80", "https://10.0.0.2:443"].map(|at| Instance::new(at).unwrap());
    let client = builder(instances).retry(RetryPolicy::default()).build_on(
        |instance: Arc<Instance>| async move {
            let inner = service_fn(|request: Request<RequestBody>| async move {
                match request.uri().host() {
                    Some("10.0.0.1") => {
                        Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))
                    }
                    _ => {
                        let host = request.headers()["host"].to_str().unwrap();
                        Ok(Response::new(format!("{} {host}", request.uri())))
                    }
                }
            });
            Ok::<_, fleetward_core::Error>(Origin::new(&instance, inner)?.without_redirects())
        },
    );
    ready(&client, 2).await;
    // Any tower service: here with a layer of the caller's.
    let client = ServiceBuilder::new()
        .map_request(|path: &str| Request::post(path).body(String::new()).unwrap())
        .service(client);
    for _ in 0..4 {
        let response = client.clone().oneshot("http://me@shop/a?b").await.unwrap();
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        assert_eq!(body, "https://10.0.0.2:443/a?b shop");
    }
}

/// Never becomes ready.
#[derive(Clone)]
struct Unready;

impl Service<Request<RequestBody>> for Unready {
    type Response = Response<String>;
    type Error = std::io::Error;
    type Future = std::future::Ready<Result<Response<String>, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Err(std::io::Error::other("worn out")))
    }

    fn call(&mut self, _: Request<RequestBody>) -> Self::Future {
        unreachable!("it is not ready")
    }
}

#[tokio::test]
async fn a_client_that_is_not_ready_has_not_seen_the_request() {
    let instances = ["10.0.0.1:80", "10.0.0.2:80"].map(|at| Instance::new(at).unwrap());
    let client = builder(instances).build_on(|instance: Arc<Instance>| async move {
        let sound = service_fn(|_: Request<RequestBody>| async {
            Ok::<_, std::io::Error>(Response::new("sound".to_owned()))
        });
        let broken = instance.id().as_str() == "10.0.0.1:80";
        let service = if broken { Either::Left(Unready) } else { Either::Right(sound) };
        Origin::new(&instance, service)
    });
    ready(&client, 2).await;
    for _ in 0..4 {
        let response = client.send(request("POST", "/")).await.unwrap();
        assert_eq!(response.status(), 200);
    }
}
