//! A layer between the retry and the balancer that moves each call to another task.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use fleetward_core::balancing::{PickContext, ReadySet};
use fleetward_core::context::{CallContext, ContextCarrier};
use fleetward_core::discovery::FixedInstancer;
use fleetward_core::retry::Verdict;
use fleetward_core::{
    Balanced, Balancer, BoxError, DefaultEndpointer, Endpointer, Instance, Retry,
};
use futures::future::BoxFuture;
use http::Request;
use tokio::sync::Notify;
use tokio::time::Instant;
use tower::util::ServiceExt as _;
use tower::{Layer, Service};

use crate::support::{instances, settle, until_ready};

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";

/// Makes each call in a task of its own, which goes on when the caller has left.
#[derive(Clone)]
struct Moved<S>(S);

impl<S> Service<Request<()>> for Moved<S>
where
    S: Service<Request<()>, Response = String, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = String;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<String, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let call = tokio::spawn(self.0.clone().oneshot(request));
        Box::pin(async move { call.await? })
    }
}

/// Always the first one.
#[derive(Debug)]
struct First;

impl Balancer for First {
    fn pick(&self, _: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
        Some(0)
    }
}

/// What the instances have in common.
#[derive(Default)]
struct Fleet {
    calls: AtomicUsize,
    has_context: AtomicBool,
    ready: AtomicBool,
    wakes: Notify,
}

#[derive(Clone)]
struct Of {
    address: String,
    fleet: Arc<Fleet>,
    waits: bool,
}

impl Service<Request<()>> for Of {
    type Response = String;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<String, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if !self.waits || self.fleet.ready.load(Ordering::SeqCst) {
            return Poll::Ready(Ok(()));
        }
        let (fleet, waker) = (self.fleet.clone(), cx.waker().clone());
        tokio::spawn(async move {
            fleet.wakes.notified().await;
            waker.wake();
        });
        Poll::Pending
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        self.fleet.calls.fetch_add(1, Ordering::SeqCst);
        self.fleet.has_context.fetch_or(request.context().is_some(), Ordering::SeqCst);
        let address = self.address.clone();
        Box::pin(async move { if address == A { Err("fails".into()) } else { Ok(address) } })
    }
}

async fn balanced(fleet: &Arc<Fleet>, waits: bool, addresses: &[&str]) -> Balanced<Of> {
    let fleet = fleet.clone();
    let factory = move |instance: Arc<Instance>| {
        let address = instance.address().to_string();
        let of = Of { address, fleet: fleet.clone(), waits };
        async move { Ok::<_, Infallible>(of) }
    };
    let endpointer =
        DefaultEndpointer::new(FixedInstancer::new("s", instances(addresses)), factory);
    until_ready(&endpointer, addresses).await;
    Balanced::new(endpointer, First)
}

#[tokio::test(start_paused = true)]
async fn its_attempts_still_leave_out_what_was_tried_and_instances_see_no_context() {
    let fleet = Arc::<Fleet>::default();
    let balanced = balanced(&fleet, false, &[A, B]).await;
    let retried = Retry::new(2, Duration::from_secs(5)).layer(Moved(balanced));
    let context = CallContext::new();
    let mut request = Request::new(());
    request.replace_context(Some(context.clone()));
    assert_eq!(retried.oneshot(request).await.unwrap(), B);
    assert_eq!(context.instance().unwrap().as_str(), B);
    assert_eq!(fleet.calls.load(Ordering::SeqCst), 2);
    assert!(!fleet.has_context.load(Ordering::SeqCst));
}

/// The task goes on when the attempt's time is up. What was said never to have left must not leave then.
#[tokio::test(start_paused = true)]
async fn what_was_taken_back_does_not_leave_afterwards() {
    let fleet = Arc::<Fleet>::default();
    let balanced = balanced(&fleet, true, &[B]).await;
    let endpointer = balanced.endpoints().clone();
    let retry = Retry::with_callback(Duration::from_secs(5), |_, _| Verdict::Return)
        .max_attempts(1)
        .timeout(Duration::from_millis(100));
    let error = retry.layer(Moved(balanced)).oneshot(Request::new(())).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(error.attempts()[0].instance.as_ref().unwrap().as_str(), B);
    let in_flight = || endpointer.endpoints().load().ready()[0].in_flight();
    assert_eq!(in_flight(), 1, "its task does not know yet");
    fleet.ready.store(true, Ordering::SeqCst);
    fleet.wakes.notify_waiters();
    settle().await;
    assert_eq!(in_flight(), 0);
    assert_eq!(fleet.calls.load(Ordering::SeqCst), 0, "it has left after all");
    let latency = endpointer.endpoints().load().ready()[0].latency(Instant::now());
    assert!(latency >= Some(5.0), "the instance was too slow: {latency:?}");
}
