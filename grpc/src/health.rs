//! gRPC's own health protocol: `grpc.health.v1.Health/Watch`, by gRFC A17.
//!
//! One stream for each connection, on that connection, on which the server says how it is whenever
//! that changes. So it costs next to nothing while nothing changes, and what it says is true of the
//! very connection that calls take. Unlike gRPC's own libraries, which wait for the first answer
//! without end, an endpoint that has not answered within a timeout is unhealthy, not connecting:
//! where none answers, the panic threshold decides.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use fleetward_core::backoff::{Backoff, BackoffState};
use fleetward_core::health::{HealthCheck, HealthReporter};
use fleetward_core::{Error, ErrorKind, Instance};
use futures::future::BoxFuture;
use http::uri::PathAndQuery;
use tokio::time::{Instant, sleep, timeout};
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;
use tower_service::Service;

use crate::channel::{Head, describe_foreign};
use crate::connection::Patient;
use crate::{Connection, ResponseBody};

/// Health checks by `grpc.health.v1.Health/Watch` (gRFC A17), for
/// [`ChannelBuilder::health_check`](crate::ChannelBuilder::health_check).
///
/// | the server | the endpoint |
/// |---|---|
/// | has not answered yet | takes no call |
/// | does not answer within the timeout (2 s) | is unhealthy, until it answers |
/// | says `SERVING` | is healthy |
/// | says anything else | is unhealthy |
/// | answers `UNIMPLEMENTED` | counts as healthy on this connection; told once as an event |
/// | answers with anything but gRPC | is unhealthy |
/// | ends the stream after a second and an answer | takes no call; the stream is opened again at once |
/// | fails the stream otherwise | is unhealthy; the stream is opened again with backoff |
///
/// A new connection begins anew. A stream is opened once its connection stands, so however many
/// instances there are, they are asked no faster than they are dialled
/// ([`with_max_dials`](crate::ConnectionConfig::with_max_dials)).
///
/// An open stream counts as activity: with
/// [`with_http2_keep_alive_interval`](crate::ConnectionConfig::with_http2_keep_alive_interval) pings
/// go on while there are no calls.
///
/// ```
/// use fleetward_core::Instance;
/// use fleetward_core::discovery::FixedInstancer;
/// use fleetward_grpc::{Channel, GrpcHealth};
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let list = FixedInstancer::new("greeter", [Instance::new("127.0.0.1:50051")?]);
/// let channel = Channel::builder(list).health_check(GrpcHealth::service("greeter.v1.Greeter")).build();
/// # Ok::<(), fleetward_core::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct GrpcHealth {
    service: String,
    timeout: Duration,
    backoff: Backoff,
    /// Whether it was told that there is nothing to check.
    told: AtomicBool,
}

impl Default for GrpcHealth {
    fn default() -> Self {
        Self::new()
    }
}

impl GrpcHealth {
    /// Asks how the server as a whole is (the service `""` of the protocol).
    pub fn new() -> Self {
        Self::service("")
    }

    /// Asks how one service of the server is, by the name under which the server reports it: mostly
    /// its full name, `package.Service`.
    pub fn service(name: impl Into<String>) -> Self {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(120));
        Self {
            service: name.into(),
            timeout: Duration::from_secs(2),
            backoff: backoff.unwrap_or_default(),
            told: AtomicBool::new(false),
        }
    }

    /// Sets how long the first answer may take (default 2 s, between 1 ms and a day).
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.clamp(Duration::from_millis(1), Backoff::LONGEST);
        self
    }

    /// Sets the waits before a failed stream is opened again (default: full jitter, from 1 s growing
    /// by 1.6 to 120 s).
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Follows one connection. Never ends by itself.
    async fn watch(&self, connection: &Connection, health: &HealthReporter) {
        let mut backoff = BackoffState::new(self.backoff.clone(), fastrand::Rng::new());
        loop {
            let (answered, end) = self.stream(connection, health).await;
            if end.code() == Code::Unimplemented {
                if self.told.swap(true, Ordering::Relaxed) {
                    health.healthy();
                } else {
                    health.unsupported(self.error(&end));
                }
                return std::future::pending().await;
            }
            if answered.is_some_and(|since| since.elapsed() >= STOOD) {
                backoff.reset();
                health.pending();
                continue;
            }
            if !health.is_connected() {
                // That is why, and not the instance's word: the next connection begins anew.
                return std::future::pending().await;
            }
            health.unhealthy(self.error(&end));
            sleep(backoff.next_delay()).await;
        }
    }

    /// One stream, to its end. Says since when there were answers, if there were any.
    async fn stream(
        &self,
        connection: &Connection,
        health: &HealthReporter,
    ) -> (Option<Instant>, Status) {
        let (mut stream, first) = match self.open(connection, health).await {
            Ok(opened) => opened,
            Err(status) => return (None, status),
        };
        self.report(first, health);
        let since = Instant::now();
        let end = loop {
            match stream.message().await {
                Ok(Some(answer)) => self.report(answer, health),
                Ok(None) => break Status::unavailable("the server ended the health stream"),
                Err(status) => break status,
            }
        };
        (Some(since), end)
    }

    /// The stream and its first answer.
    async fn open(
        &self,
        connection: &Connection,
        health: &HealthReporter,
    ) -> Result<(Streaming<Answer>, Answer), Status> {
        let mut client =
            Grpc::new(Native(connection.clone())).max_decoding_message_size(MAX_ANSWER);
        let mut opened = std::pin::pin!(async move {
            let mut request = Request::new(Question { service: self.service.clone() });
            request.extensions_mut().insert(Patient);
            let path = PathAndQuery::from_static("/grpc.health.v1.Health/Watch");
            let codec = ProstCodec::default();
            let mut stream = client.server_streaming(request, path, codec).await?.into_inner();
            let first = stream.message().await?;
            let none = || Status::unavailable("the server ended the health stream unanswered");
            Ok((stream, first.ok_or_else(none)?))
        });
        match timeout(self.timeout, &mut opened).await {
            Ok(opened) => opened,
            Err(_) => {
                let error = Error::timeout(format!("no answer within {:?}", self.timeout));
                health.unhealthy(self.named(error));
                opened.await
            }
        }
    }

    fn report(&self, answer: Answer, health: &HealthReporter) {
        let says = match answer.status {
            SERVING => return health.healthy(),
            2 => "NOT_SERVING",
            3 => "SERVICE_UNKNOWN",
            _ => "UNKNOWN",
        };
        let error = Error::new(ErrorKind::Unavailable, format!("the server says {says}"));
        health.unhealthy(self.named(error));
    }

    fn error(&self, status: &Status) -> Error {
        let text = format!("Watch failed: {:?}: {}", status.code(), status.message());
        self.named(Error::new(ErrorKind::Unavailable, text).with_source(status.clone()))
    }

    fn named(&self, error: Error) -> Error {
        let error = error.with_operation("health check");
        if self.service.is_empty() { error } else { error.with_context("checked", &self.service) }
    }
}

#[async_trait]
impl HealthCheck<Connection> for GrpcHealth {
    async fn run(&self, _: &Instance, connection: Connection, health: HealthReporter) {
        health.while_connected(|| self.watch(&connection, &health)).await;
    }
}

/// A connection on which what is not gRPC is an error: `404 Not Found` says nothing of a server that does not
/// know how to be checked.
struct Native(Connection);

impl Service<http::Request<Body>> for Native {
    type Response = http::Response<ResponseBody>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.0.poll_ready(cx).map_err(|error| Status::from_error(error.into()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let response = self.0.call(request);
        Box::pin(async move {
            let response = response.await.map_err(|error| Status::from_error(error.into()))?;
            let is_over = http_body::Body::is_end_stream(response.body());
            match Head::of(&response, is_over) {
                Head::Foreign(_) => {
                    Err(Status::unavailable(describe_foreign(&response.into_parts().0)))
                }
                Head::Begun | Head::Succeeded | Head::Failed(_) => Ok(response),
            }
        })
    }
}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct Question {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Answer {
    /// A number, for a newer server may know more of them.
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;
/// An answer has two bytes; more is unknown fields of a newer server.
const MAX_ANSWER: usize = 4096;
/// A stream that answered and stood this long is opened again at once; one that did not waits, so
/// that a server which ends every stream is not asked in a loop.
const STOOD: Duration = Duration::from_secs(1);
