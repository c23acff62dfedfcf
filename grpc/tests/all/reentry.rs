//! Request streams that hold the response of their own call.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use fleetward_grpc::{Channel, RetryPolicy};
use futures::{Stream, StreamExt, future, stream};
use tokio::sync::oneshot;
use tonic::{Code, Streaming};

use crate::a6::script::{Op, Scripted};
use crate::greet::greet_client::GreetClient;
use crate::greet::{GreetRequest, GreetResponse};
use crate::server::Server;
use crate::support::*;

/// On a runtime of one thread, which has until a deadline: a freeze fails the test instead of hanging
/// it.
pub(crate) fn on_one_thread<F: Future<Output = ()>>(call: impl FnOnce() -> F + Send + 'static) {
    let (done, over) = mpsc::channel();
    let thread = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(call());
        drop(runtime);
        done.send(()).unwrap();
    });
    let frozen = over.recv_timeout(3 * LONG) == Err(mpsc::RecvTimeoutError::Timeout);
    assert!(!frozen, "the thread is frozen");
    thread.join().unwrap();
}

type Response = Streaming<GreetResponse>;

/// Sends two messages; then has its call's own response and does something with it.
fn owner<F: Future<Output = GreetRequest> + Send + 'static>(
    then: impl FnOnce(Response) -> F + Send + 'static,
) -> (impl Stream<Item = GreetRequest> + Send + 'static, oneshot::Sender<Response>) {
    let (give, given) = oneshot::channel();
    let last = stream::once(async move { then(given.await.unwrap()).await });
    (stream::iter(["a", "b"].map(named)).chain(last), give)
}

async fn begin(
    channel: &Channel,
    (requests, give): (
        impl Stream<Item = GreetRequest> + Send + 'static,
        oneshot::Sender<Response>,
    ),
) {
    let answer = GreetClient::new(channel.clone()).chat(requests).await.unwrap();
    // Where the call has ended by now, the request is gone already.
    drop(give.send(answer.into_inner()));
}

#[test]
fn a_request_stream_may_drop_its_own_response_while_it_is_polled() {
    on_one_thread(|| async {
        let server = Server::start().await;
        for retry in [None, Some(RetryPolicy::default())] {
            let channel = match retry {
                Some(retry) => builder([&server]).retry(retry).build(),
                None => builder([&server]).build(),
            };
            let (tell, told) = oneshot::channel();
            let request = owner(|mut response| async move {
                for _ in 0..2 {
                    response.message().await.unwrap().unwrap();
                }
                drop(response);
                tell.send(()).unwrap();
                named("c")
            });
            begin(&channel, request).await;
            told.await.unwrap();
            until("the call is over", || server.running() == 0).await;
            assert!(who(&channel).await.is_ok(), "the channel is of no use any more");
        }
    });
}

/// The server ends the call, so nobody reads the request any more, and dropping it drops the response.
#[test]
fn a_request_stream_may_drop_its_own_response_when_it_is_dropped() {
    on_one_thread(|| async {
        let mut ends = vec![Op::Read(2), Op::Head, Op::Say("fine"), Op::End(Code::Ok, vec![])];
        ends.insert(3, Op::Sleep(200));
        let server = Scripted::always(ends).await;
        let channel = server.builder().retry(RetryPolicy::default()).build();
        let held = Arc::new(());
        let request = owner({
            let held = held.clone();
            |response| async move {
                let _owned = (response, held);
                match future::pending::<Infallible>().await {}
            }
        });
        begin(&channel, request).await;
        until("what the request holds is free", || Arc::strong_count(&held) == 1).await;
    });
}

#[test]
fn a_request_stream_that_panics_with_its_own_response_ends_its_call() {
    on_one_thread(|| async {
        let server = Server::start().await;
        let channel = builder([&server]).build();
        let request = owner(|mut response| async move {
            response.message().await.unwrap().unwrap();
            panic!("on purpose")
        });
        begin(&channel, request).await;
        until("the call is over", || server.running() == 0).await;
        assert!(who(&channel).await.is_ok(), "the channel is of no use any more");
    });
}
