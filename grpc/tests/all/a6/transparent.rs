//! What no server can have acted on is sent again without being counted.

use fleetward_core::Instance;
use fleetward_core::discovery::FixedInstancer;
use fleetward_core::retry::Throttle;
use fleetward_grpc::ChannelBuilder;
use h2::Reason;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;

use super::script::*;
use super::*;
use crate::server::Server;
use crate::support::*;

const PREVIOUS: &str = "grpc-previous-rpc-attempts";

fn refuses() -> Vec<Op> {
    vec![Op::Reset(Reason::REFUSED_STREAM)]
}

/// Two streams for one attempt: the second refusal is a failure like any other.
#[tokio::test]
async fn a_refused_stream_is_sent_again_once_and_then_counts() {
    let server = Scripted::always(refuses()).await;
    let channel = server.builder().build();
    let status = morning(&channel, "you").await.unwrap_err();
    assert_eq!((status.code(), server.calls()), (Code::Unavailable, 2), "without a policy");

    let server = Scripted::always(refuses()).await;
    let throttle = Arc::new(Throttle::new(10, 0.1).unwrap());
    let channel = server.builder().retry(policy()).retry_budget(throttle.clone()).build();
    morning(&channel, "you").await.unwrap_err();
    assert_eq!(server.calls(), 1 + 4, "it is not one of the four attempts");
    assert_eq!(throttle.tokens(), 6.0, "nor one of the failures");
    let headers = server.headers(PREVIOUS);
    let expected = [None, None, Some("1"), Some("2"), Some("3")];
    assert_eq!(headers, expected.map(|value| value.map(str::to_owned)));
}

#[tokio::test]
async fn a_refused_second_attempt_is_sent_again_as_the_second() {
    let server = Scripted::start(|n| match n {
        0 => fails(Code::Unavailable),
        1 => refuses(),
        _ => answers(),
    })
    .await;
    let channel = server.builder().retry(policy().with_max_attempts(2)).build();
    morning(&channel, "you").await.unwrap();
    let headers = server.headers(PREVIOUS);
    assert_eq!(headers, [None, Some("1"), Some("1")].map(|value| value.map(str::to_owned)));
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_at_once() {
    let server = Scripted::start(|n| if n == 0 { refuses() } else { answers() }).await;
    let slow = policy().with_backoff(Backoff::new(LONG, LONG).unwrap());
    let channel = server.builder().retry(slow).build();
    ready(&channel, 1).await;
    morning(&channel, "you").await.unwrap();
    assert!(server.gaps()[0] < SLACK, "{:?}", server.gaps());
}

#[tokio::test]
async fn a_refused_request_that_comes_in_over_time_is_sent_again_whole() {
    let server = Scripted::start(|n| match n {
        0 => vec![Op::Read(2), Op::Reset(Reason::REFUSED_STREAM)],
        _ => answers(),
    })
    .await;
    let channel = server.builder().build();
    let (tell, names) = stream();
    let call = tokio::spawn(async move { gather(&channel, names).await });
    for name in ["a", "b"] {
        tell.send(named(name)).await.unwrap();
    }
    until("it is sent again", || server.calls() == 2).await;
    tell.send(named("c")).await.unwrap();
    drop(tell);
    call.await.unwrap().unwrap();
    assert_eq!(server.seen()[1].names(), ["a", "b", "c"]);
}

/// More has left than is kept.
#[tokio::test]
async fn a_refused_call_that_is_committed_fails() {
    let server = Scripted::start(|n| match n {
        0 => vec![Op::Read(2), Op::Reset(Reason::REFUSED_STREAM)],
        _ => answers(),
    })
    .await;
    let channel = server.builder().retry(policy()).replay_limit(20).build();
    let (tell, names) = stream();
    let call = tokio::spawn(async move { gather(&channel, names).await });
    for name in ["one of a few", "and another one"] {
        tell.send(named(name)).await.unwrap();
        tokio::task::yield_now().await;
    }
    let status = call.await.unwrap().unwrap_err();
    assert_eq!((status.code(), server.calls()), (Code::Unavailable, 1));
}

/// A reset with any other code may come from the application.
#[tokio::test]
async fn any_other_reset_counts() {
    for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::NO_ERROR] {
        let server = Scripted::always(vec![Op::Reset(reason)]).await;
        let channel = server.builder().build();
        morning(&channel, "you").await.unwrap_err();
        assert_eq!(server.calls(), 1, "{reason:?}");
    }
}

/// Reads the head of one stream, says that it looked at no stream above `last`, and goes.
async fn goes_away(last: u32, then: Duration) -> Instance {
    async fn serve(mut socket: TcpStream, last: u32, then: Duration) -> std::io::Result<()> {
        const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        socket.write_all(&SETTINGS).await?;
        socket.read_exact(&mut [0; 24]).await?;
        loop {
            let mut head = [0; 9];
            socket.read_exact(&mut head).await?;
            let [a, b, c, kind, ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            socket.read_exact(&mut payload).await?;
            // HEADERS
            if kind == 1 {
                let mut frame = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
                frame.extend(last.to_be_bytes());
                frame.extend([0; 4]);
                socket.write_all(&frame).await?;
                tokio::time::sleep(then).await;
                return Ok(());
            }
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(socket, last, then));
        }
    });
    Instance::new(address).unwrap()
}

/// A channel to `first`, then `second`, by turns.
fn both(first: Instance, second: &Scripted) -> ChannelBuilder<FixedInstancer> {
    Channel::builder(FixedInstancer::new("greeter", [first, second.instance()]))
        .balancer(fleetward_balancers::RoundRobin::starting_at(0))
}

#[tokio::test]
async fn a_stream_above_the_last_of_a_goaway_goes_elsewhere_uncounted() {
    let server = Scripted::always(answers()).await;
    let channel = both(goes_away(0, millis(50)).await, &server).build();
    ready(&channel, 2).await;
    let (one, two) = tokio::join!(morning(&channel, "you"), morning(&channel, "me"));
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    assert_eq!(server.headers(PREVIOUS), [None, None]);
}

/// The server may have acted on it.
#[tokio::test]
async fn a_stream_below_the_last_of_a_goaway_is_lost_with_its_connection() {
    for retry in [false, true] {
        let server = Scripted::always(answers()).await;
        let channel = both(goes_away(1, millis(20)).await, &server);
        let channel = if retry { channel.retry(policy()) } else { channel }.build();
        ready(&channel, 2).await;
        // One for each.
        let (one, two) = tokio::join!(morning(&channel, "you"), morning(&channel, "me"));
        let failed: Vec<_> = [one, two].into_iter().filter_map(Result::err).collect();
        assert_eq!(failed.len(), usize::from(!retry), "{failed:?}");
        assert!(failed.iter().all(|status| status.code() == Code::Unavailable), "{failed:?}");
        let mut headers = server.headers(PREVIOUS);
        headers.sort();
        let again = retry.then(|| Some("1".to_owned()));
        assert_eq!(headers, std::iter::once(None).chain(again).collect::<Vec<_>>());
    }
}

/// Down before it was sent: no instance has seen it, and the body is not used up.
#[tokio::test]
async fn a_connection_that_is_down_costs_no_attempt_of_any_kind_of_call() {
    for streaming in [false, true] {
        let dying = Server::start().await;
        let alive = Scripted::always(answers()).await;
        let channel = both(dying.instance(), &alive).build();
        ready(&channel, 2).await;
        let _ = dying.kill();
        // No pause: for a moment the set still has it.
        for _ in 0..10 {
            if streaming {
                let (tell, names) = stream();
                let channel = channel.clone();
                let call = tokio::spawn(async move { gather(&channel, names).await });
                tokio::task::yield_now().await;
                let _ = tell.send(named("a")).await;
                drop(tell);
                match call.await.unwrap() {
                    Ok(_) => {}
                    // It had left when the connection broke.
                    Err(status) => assert!(status.message().contains("instance"), "{status}"),
                }
            } else {
                let _ = morning(&channel, "you").await;
            }
        }
        until("calls go to the one that is alive", || alive.calls() >= 5).await;
        assert!(alive.headers(PREVIOUS).iter().all(Option::is_none));
    }
}
