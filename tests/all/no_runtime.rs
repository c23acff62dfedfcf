//! Outside of a tokio runtime there are errors and no panics.

use fleetward::discovery::FixedInstancer;
use fleetward::endpoints::Readiness;
use fleetward::grpc::{Channel, ConnectionConfig, Connector};
use fleetward::health::HealthChecked;
use fleetward::http::Client;
use fleetward::{DefaultEndpointer, Endpointer, Error, ErrorKind, Factory, Instance};
use futures::FutureExt;
use tonic::body::Body;
use tower::Service;

fn list() -> FixedInstancer {
    FixedInstancer::new("greeter", [Instance::new("127.0.0.1:1").unwrap()])
}

/// The error that `register` gives.
fn is_told(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("call this inside a tokio runtime"), "{error}");
}

#[test]
fn what_opens_a_registry_returns_the_error_of_a_registration() {
    use fleetward::grpc::Connect as _;
    let me = || Instance::new("10.0.0.1:80").unwrap();
    let mut urls = vec!["memory:greeter", "static:127.0.0.1:1"];
    is_told(&fleetward::register(urls[0], me()).now_or_never().unwrap().unwrap_err());
    if cfg!(feature = "consul") {
        urls.push("consul://127.0.0.1:8500/greeter");
    }
    if cfg!(feature = "etcd") {
        urls.push("etcd://127.0.0.1:2379/greeter");
    }
    for url in &urls[2..] {
        is_told(&fleetward::connect(url).now_or_never().unwrap().unwrap_err());
    }
    for url in urls {
        is_told(&Channel::builder(url).connect().now_or_never().unwrap().unwrap_err());
        is_told(&Client::builder(url).connect().now_or_never().unwrap().unwrap_err());
    }
}

#[test]
fn what_is_built_ends_each_call_with_that_error_at_once() {
    let mut channel = Channel::builder(list()).build();
    let call = channel.call(http::Request::new(Body::empty()));
    let status = call.now_or_never().unwrap().unwrap_err();
    assert!(status.message().contains("call this inside a tokio runtime"), "{status}");
    let request = http::Request::get("/").body(String::new()).unwrap();
    let call = Client::new(list()).send(request);
    is_told(&call.now_or_never().unwrap().unwrap_err());
    let endpointer = DefaultEndpointer::<()>::new(list(), |_| async { Ok::<_, Error>(()) });
    is_told(&endpointer.endpoints().load().no_endpoints("greeter"));
}

#[test]
fn what_makes_a_connection_returns_that_error() {
    let instance = std::sync::Arc::new(Instance::new("127.0.0.1:1").unwrap());
    let connector = Connector::new(ConnectionConfig::default());
    let made = connector.make(&instance, Readiness::detached(&instance)).now_or_never();
    is_told(&made.unwrap().unwrap_err());
    let checked = HealthChecked::new(connector, fleetward::grpc::GrpcHealth::service("greeter"));
    let made = checked.make(&instance, Readiness::detached(&instance)).now_or_never();
    is_told(&made.unwrap().unwrap_err());
}
