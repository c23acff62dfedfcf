//! What the documentation says goes together does.

use std::sync::Arc;
use std::time::Duration;

use fleetward::balancers::RoundRobin;
use fleetward::balancing::WaitForReady;
use fleetward::context::WithContext;
use fleetward::discovery::FixedInstancer;
use fleetward::grpc::{Channel, Connection, ConnectionConfig, Connector, GrpcHealth};
use fleetward::health::{HealthChecked, Probing};
use fleetward::health::{HttpProbe, TcpProbe};
use fleetward::http::{Client, Origin, Pool, RequestBody};
use fleetward::limit::ConcurrencyLimit;
use fleetward::{Balanced, DefaultEndpointer, Error, ErrorKind, Instance, Retry};
use http::{Request, Response};
use tonic::body::Body;
use tower::timeout::TimeoutLayer;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

/// Nobody listens there.
fn list() -> FixedInstancer {
    FixedInstancer::new("greeter", [Instance::new("127.0.0.1:9").unwrap()])
}

fn limit() -> ConcurrencyLimit {
    ConcurrencyLimit::new(10).queue(2)
}

fn refused(
    _: Request<RequestBody>,
) -> std::future::Ready<Result<Response<String>, std::io::Error>> {
    std::future::ready(Err(std::io::ErrorKind::ConnectionRefused.into()))
}

/// A call goes through all of it, and comes back with the error of who could not be reached.
macro_rules! http {
    ($factory:expr) => {
        let wait = WaitForReady::AtMost(Duration::from_millis(100));
        let client = Client::builder(list()).wait_for_ready(wait).build_on($factory);
        let request = Request::post("/").body(String::new()).unwrap();
        let error = client.send(request).await.unwrap_err();
        let kinds = [ErrorKind::Unavailable, ErrorKind::NoEndpoints];
        assert!(kinds.contains(&error.kind()), "{error}");
    };
}

#[tokio::test]
async fn around_and_below_an_http_client() {
    let probe = || HttpProbe::new("/healthz").unwrap();
    http!(limit().per_instance(Pool::new()));
    http!(HealthChecked::new(Pool::new(), Probing::new(probe())));
    http!(limit().per_instance(HealthChecked::new(Pool::new(), Probing::new(TcpProbe::new()))));
    http!(HealthChecked::new(limit().per_instance(Pool::new()), Probing::new(probe())));
    http!(limit().per_instance(|instance: Arc<Instance>| async move {
        Ok::<_, Error>(Origin::new(&instance, service_fn(refused))?.without_redirects())
    }));
    http!(|instance: Arc<Instance>| async move {
        let below = limit().layer(service_fn(refused));
        Ok::<_, Error>(Origin::new(&instance, below)?.without_redirects())
    });
    http!(|instance: Arc<Instance>| async move {
        let origin = Origin::new(&instance, service_fn(refused))?.without_redirects();
        let layers = ServiceBuilder::new()
            .layer(TimeoutLayer::new(Duration::from_secs(1)))
            .concurrency_limit(10);
        Ok::<_, Error>(layers.service(origin))
    });
}

/// As [`http!`].
macro_rules! grpc {
    ($service:expr) => {
        let mut client = tonic::client::Grpc::new($service);
        let _ = tokio::time::timeout(Duration::from_millis(1), client.ready()).await;
    };
}

#[tokio::test]
async fn around_and_below_a_grpc_channel() {
    let builder = || Channel::builder(list());
    let checked = builder().health_check(GrpcHealth::service("greeter"));
    let limited = limit().per_instance(checked.connector());
    grpc!(checked.build_on(limited));
    let probed = HealthChecked::new(
        limit().per_instance(builder().connector()),
        Probing::new(HttpProbe::new("/healthz").unwrap().with_port(9090).unwrap()),
    );
    grpc!(builder().build_on(probed));
    let connector = || Connector::new(ConnectionConfig::default());
    grpc!(builder().build_on(connector()));
    grpc!(builder().build_on(|instance: Arc<Instance>| async move {
        let readiness = fleetward::endpoints::Readiness::detached(&instance);
        let connector = Connector::new(ConnectionConfig::default());
        let made: Connection = fleetward::Factory::make(&connector, &instance, readiness).await?;
        Ok::<_, Error>(ServiceBuilder::new().timeout(Duration::from_secs(1)).service(made))
    }));
    // By hand.
    let endpointer = DefaultEndpointer::<Connection>::new(list(), connector());
    grpc!(Balanced::new(endpointer, RoundRobin::new()));
    let endpointer = DefaultEndpointer::new(list(), limit().per_instance(connector()));
    let balanced = Balanced::new(endpointer, RoundRobin::new());
    let balanced = balanced.map_request(|request: Request<Body>| request);
    grpc!(balanced);
}

#[tokio::test]
async fn around_any_service() {
    let factory = |_: Arc<Instance>| async {
        Ok::<_, Error>(service_fn(|name: &'static str| async move {
            Ok::<_, Error>(format!("hello {name}"))
        }))
    };
    let endpointer = DefaultEndpointer::new(list(), limit().per_instance(factory));
    let service = ServiceBuilder::new()
        .map_request(WithContext::<&'static str>::from)
        .layer(Retry::new(3, Duration::from_secs(1)))
        .timeout(Duration::from_secs(1))
        .layer(limit())
        .service(Balanced::new(endpointer, RoundRobin::new()));
    assert_eq!(service.oneshot("you").await.unwrap(), "hello you");
}
