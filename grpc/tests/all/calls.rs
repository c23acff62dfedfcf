//! Calls of every kind through generated clients.

use fleetward_core::InstanceId;
use fleetward_grpc::{Channel, ChannelBuilder, ConnectionConfig};
use tokio_stream::StreamExt;
use tonic::service::Interceptor;
use tonic::{Code, Request, Status};

use crate::greet::greet_client::GreetClient;
use crate::server::Server;
use crate::support::*;

#[tokio::test]
async fn a_generated_client_takes_the_channel_as_it_is() {
    let server = Server::start().await;
    let mut client = GreetClient::new(builder([&server]).build());
    let response = client.morning(named("you")).await.unwrap();
    assert_eq!(response.into_inner().message, format!("{} greets you", server.id()));
}

/// gRPC does without: it would be another header for each call.
#[tokio::test]
async fn a_request_does_not_tell_its_length() {
    let server = Server::start().await;
    let channel = builder([&server]).build();
    let told = morning(&channel, "header content-length").await.unwrap();
    assert_eq!(told, "");
}

#[tokio::test]
async fn all_kinds_of_streaming() {
    let server = Server::start().await;
    let mut client = GreetClient::new(builder([&server]).build());
    let id = server.id();

    let down = client.countdown(named("3 1")).await.unwrap().into_inner();
    let down: Vec<_> = down.map(|m| m.unwrap().message).collect().await;
    assert_eq!(down, [2, 1, 0].map(|i| format!("{id} counts {i}")));

    let names = tokio_stream::iter(["a", "b"].map(named));
    let all = client.gather(names).await.unwrap().into_inner().message;
    assert_eq!(all, format!("{id} greets a and b"));

    // One at a time, each after the answer to the one before.
    let (tell, told) = tokio::sync::mpsc::channel(1);
    let told = tokio_stream::wrappers::ReceiverStream::new(told);
    let mut answers = client.chat(told).await.unwrap().into_inner();
    for name in ["x", "y", "z"] {
        tell.send(named(name)).await.unwrap();
        let answer = answers.message().await.unwrap().unwrap().message;
        assert_eq!(answer, format!("{id} greets {name}"));
    }
    drop(tell);
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_long_stream_of_requests_goes_through_whole() {
    let server = Server::start().await;
    let channel = builder([&server]).replay_limit(1000).build();
    // Some of it there at once, more than is kept for another attempt, the rest later.
    let names = tokio_stream::iter((0..200).map(|i| named(format!("{i:0>100}")))).chain(
        tokio_stream::once(named("last")).then(|last| async {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            last
        }),
    );
    let all = GreetClient::new(channel).gather(names).await.unwrap().into_inner().message;
    assert_eq!(all.matches(" and ").count(), 200);
    assert!(all.ends_with(" and last"));
}

#[tokio::test]
async fn interceptors_work_on_top() {
    #[derive(Clone)]
    struct Agent;
    impl Interceptor for Agent {
        fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
            request.metadata_mut().insert("x-from", "interceptor".parse().unwrap());
            Ok(request)
        }
    }
    let server = Server::start().await;
    let channel = builder([&server]).build();
    let mut client = GreetClient::with_interceptor(channel.clone(), Agent);
    let seen = client.morning(named("header x-from")).await.unwrap().into_inner();
    assert_eq!(seen.message, "interceptor");
    let refuse = |_| Err(Status::permission_denied("no"));
    let mut client = GreetClient::with_interceptor(channel, refuse);
    let status = client.morning(named("you")).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_response_says_which_instance_gave_it() {
    let server = Server::start().await;
    let instance = server.instance().with_id("blue").unwrap();
    let channel =
        Channel::new(fleetward_core::discovery::FixedInstancer::new("greeter", [instance]));
    let response = GreetClient::new(channel).morning(named("you")).await.unwrap();
    let instance: &InstanceId = response.extensions().get().unwrap();
    assert_eq!(instance.as_str(), "blue");
}

#[tokio::test]
async fn requests_carry_a_user_agent_and_trailers() {
    let server = Server::start().await;
    let config = ConnectionConfig::default()
        .with_tcp_keepalive(std::time::Duration::from_secs(30))
        .with_user_agent("shop/2")
        .unwrap();
    let channel = builder([&server]).connection(config).build();
    let agent = morning(&channel, "header user-agent").await.unwrap();
    assert_eq!(agent, concat!("shop/2 fleetward-grpc/", env!("CARGO_PKG_VERSION")));
    assert_eq!(morning(&channel, "header te").await.unwrap(), "trailers");
}

#[tokio::test]
async fn a_callers_own_user_agent_stays_in_front() {
    let server = Server::start().await;
    let mut request = Request::new(named("header user-agent"));
    request.metadata_mut().insert("user-agent", "mine/3".parse().unwrap());
    let answer = GreetClient::new(builder([&server]).build()).morning(request).await;
    let agent = concat!("mine/3 fleetward-grpc/", env!("CARGO_PKG_VERSION"));
    assert_eq!(answer.unwrap().into_inner().message, agent);
}

#[tokio::test]
async fn a_servers_status_comes_through_whole() {
    let server = Server::start().await;
    let channel = builder([&server]).build();
    let status = morning(&channel, "fail now").await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.message(), "not now – später");
    assert_eq!(status.details(), b"details");
    assert_eq!(status.metadata().get("x-reason").unwrap(), "because");
    assert_eq!(server.calls(), 1);
}

/// What stands for an instancer, as a URL does, is exchanged for one by whoever knows how.
#[tokio::test]
async fn a_builder_takes_any_target() {
    trait Connect {
        fn connect(self, server: &Server) -> Channel;
    }
    impl Connect for ChannelBuilder<&str> {
        fn connect(self, server: &Server) -> Channel {
            assert_eq!(*self.target(), "etcd://user:secret@host/greeter");
            assert!(!format!("{self:?}").contains("secret"));
            self.with_target(publisher([server])).build()
        }
    }
    let server = Server::start().await;
    let channel = Channel::builder("etcd://user:secret@host/greeter")
        .balancer(fleetward_balancers::Random::new())
        .connect(&server);
    assert_eq!(who(&channel).await.unwrap(), server.id());
}

/// Whatever the moment at which a caller loses interest, nothing stays behind.
#[tokio::test]
async fn a_thousand_dropped_calls_leave_nothing_in_flight() {
    let servers = [Server::start().await, Server::start().await];
    let channel = builder(&servers).build();
    ready(&channel, 2).await;
    let members: Vec<_> = channel.endpoints().load().ready().iter().cloned().collect();
    let mut rng = fastrand::Rng::with_seed(5);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let (channel, patience) = (channel.clone(), rng.u64(0..20_000));
        calls.spawn(async move {
            let call = morning(&channel, "sleep 10");
            let _ = tokio::time::timeout(std::time::Duration::from_micros(patience), call).await;
        });
    }
    while calls.join_next().await.is_some() {}
    until("nothing is in flight", || members.iter().all(|member| member.in_flight() == 0)).await;
    until("no handler runs", || servers.iter().all(|s| s.running() == 0)).await;
    // A server may have hung up on so many resets (it is an attack known as rapid reset).
    ready(&channel, 2).await;
    assert!(morning(&channel, "you").await.is_ok());
}
