//! The limit on calls at one instance: turns, refusals, cancellation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fleetward_balancers::RoundRobin;
use fleetward_core::discovery::FixedInstancer;
use fleetward_core::limit::{ConcurrencyLimit, Limited};
use fleetward_core::outlier::OutlierDetection;
use fleetward_core::{Balanced, BoxError, DefaultEndpointer, Endpointer, Error, ErrorKind, Retry};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Notify, mpsc};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::{AskExt as _, Probe, instances, settle, until_ready};

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";

/// What the public types promise, at compile time.
#[allow(dead_code)]
fn the_limited_service_can_be_shared() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Limited<crate::support::Probed>>();
    fn sent<T: Send>(_: T) {}
    sent(Limited::call as fn(&mut Limited<crate::support::Probed>, &'static str) -> _);
}

/// Answers when it is told to, and says who has begun, in order.
#[derive(Clone)]
struct Held {
    begun: mpsc::UnboundedSender<u32>,
    go: Arc<Notify>,
}

impl Held {
    fn new() -> (Self, mpsc::UnboundedReceiver<u32>) {
        let (begun, order) = mpsc::unbounded_channel();
        (Self { begun, go: Arc::default() }, order)
    }
}

impl Service<u32> for Held {
    type Response = u32;
    type Error = Error;
    type Future = BoxFuture<'static, Result<u32, Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, number: u32) -> Self::Future {
        let held = self.clone();
        Box::pin(async move {
            held.begun.send(number).unwrap();
            held.go.notified().await;
            Ok(number)
        })
    }
}

fn overloaded(error: &BoxError) -> &Error {
    let error = error.downcast_ref::<Error>().unwrap();
    assert!(error.is_unsent() && error.kind() == ErrorKind::Overloaded, "{error}");
    assert!(!error.is_permanent());
    error
}

#[tokio::test(start_paused = true)]
async fn so_many_run_so_many_wait_in_order_and_the_rest_fails_at_once() {
    let (held, mut order) = Held::new();
    let limited = ConcurrencyLimit::new(2).queue(3).layer(held.clone());
    let calls: Vec<_> = (0..5).map(|n| tokio::spawn(limited.clone().oneshot(n))).collect();
    settle().await;
    assert_eq!((limited.under_way(), limited.waiting()), (2, 3));
    let refused = limited.clone().oneshot(5).now_or_never().unwrap().unwrap_err();
    let text = overloaded(&refused).to_string();
    assert!(text.contains("limit=2, queue=3") && text.contains("nothing was sent"), "{text}");

    let mut begun = vec![order.recv().await.unwrap(), order.recv().await.unwrap()];
    assert!(order.try_recv().is_err(), "no third one");
    for waiting in (0..3).rev() {
        held.go.notify_one();
        begun.push(order.recv().await.unwrap());
        assert_eq!((limited.under_way(), limited.waiting()), (2, waiting));
    }
    assert_eq!(begun, [0, 1, 2, 3, 4]);
    held.go.notify_waiters();
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap(), number as u32);
    }
    assert_eq!((limited.under_way(), limited.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_unless_asked_and_zero_is_one() {
    let (held, _order) = Held::new();
    let limited = ConcurrencyLimit::new(0).layer(held);
    let running = tokio::spawn(limited.clone().oneshot(0));
    settle().await;
    overloaded(&limited.clone().oneshot(1).now_or_never().unwrap().unwrap_err());
    running.abort();
    settle().await;
    assert!(limited.clone().oneshot(2).now_or_never().is_none(), "it runs");
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_leaves_a_place_and_its_turn_to_the_next() {
    let (held, mut order) = Held::new();
    let limited = ConcurrencyLimit::new(1).queue(2).layer(held);
    let calls: Vec<_> = (0..3).map(|n| tokio::spawn(limited.clone().oneshot(n))).collect();
    settle().await;
    calls[1].abort();
    settle().await;
    assert_eq!(limited.waiting(), 1, "a waiting one is gone");
    let late = tokio::spawn(limited.clone().oneshot(3));
    settle().await;
    assert_eq!(limited.waiting(), 2);
    calls[0].abort();
    settle().await;
    assert_eq!((limited.under_way(), limited.waiting()), (1, 1), "a running one is gone");
    calls[2].abort();
    settle().await;
    assert_eq!((limited.under_way(), limited.waiting()), (1, 0));
    late.abort();
    settle().await;
    assert_eq!((limited.under_way(), limited.waiting()), (0, 0));
    order.close();
    let mut begun = Vec::new();
    order.recv_many(&mut begun, 9).await;
    assert_eq!(begun, [0, 2, 3]);
}

/// The one that is given the permit goes away before it has noticed.
#[tokio::test(start_paused = true)]
async fn a_turn_that_nobody_takes_goes_to_the_next() {
    let (held, mut order) = Held::new();
    let limited = ConcurrencyLimit::new(1).queue(2).layer(held);
    let mut first = Box::pin(limited.clone().oneshot(0));
    let mut second = Box::pin(limited.clone().oneshot(1));
    let mut third = Box::pin(limited.clone().oneshot(2));
    for call in [&mut first, &mut second, &mut third] {
        assert!(call.now_or_never().is_none());
    }
    drop(first);
    // The second one holds the permit and does not know: still nobody else may have its place.
    assert_eq!((limited.under_way(), limited.waiting()), (1, 1));
    drop(second);
    assert!((&mut third).now_or_never().is_none());
    order.close();
    let mut begun = Vec::new();
    order.recv_many(&mut begun, 9).await;
    assert_eq!(begun, [0, 2]);
    drop(third);
    assert_eq!((limited.under_way(), limited.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_future_that_nobody_polls_takes_no_place_and_one_that_is_done_keeps_none() {
    let echo = service_fn(|n: u32| async move { Ok::<_, Error>(n) });
    let mut limited = ConcurrencyLimit::new(1).layer(echo);
    let _unpolled = limited.call(0);
    let mut done = Box::pin(limited.call(1));
    assert_eq!((&mut done).await.unwrap(), 1);
    assert_eq!(limited.call(2).await.unwrap(), 2);
    assert_eq!(limited.under_way(), 0);
}

#[tokio::test(start_paused = true)]
async fn errors_pass_through_and_free_the_place() {
    let failing = service_fn(|()| async { Err::<(), _>(Error::timeout("too slow")) });
    let limited = ConcurrencyLimit::new(1).layer(failing);
    for _ in 0..3 {
        let error = limited.clone().oneshot(()).await.unwrap_err();
        assert!(error.downcast_ref::<Error>().unwrap().is_timeout());
    }
    let never_ready = tower::limit::ConcurrencyLimit::new(failing, 0);
    let limited = ConcurrencyLimit::new(1).layer(never_ready);
    let mut service = limited.clone();
    assert!(service.ready().now_or_never().unwrap().is_ok(), "whatever the inner one is");
    let mut call = Box::pin(service.call(()));
    assert!((&mut call).now_or_never().is_none());
    assert_eq!(limited.under_way(), 1);
    drop(call);
    assert_eq!(limited.under_way(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_random_cancellations_leave_nothing_behind() {
    const MAX: usize = 8;
    const QUEUE: usize = 24;
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (counted, highest) = (running.clone(), most.clone());
    let service = service_fn(move |micros: u64| {
        let (running, most) = (counted.clone(), highest.clone());
        async move {
            let _guard = Inside::new(&running, &most);
            tokio::time::sleep(Duration::from_micros(micros)).await;
            // A pause of another kind: sleeping is coarse.
            tokio::task::yield_now().await;
            Ok::<_, Error>(micros)
        }
    });
    let limited = ConcurrencyLimit::new(MAX).queue(QUEUE).layer(service);
    let mut rng = fastrand::Rng::with_seed(10_000);
    let (mut done, mut refused, mut cancelled) = (0, 0, 0);
    while cancelled < 10_000 {
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let call = limited.clone().oneshot(rng.u64(0..2000));
                let yields = rng.u32(0..20);
                let patience = Duration::from_micros(rng.u64(0..8000));
                tokio::spawn(async move {
                    for _ in 0..yields {
                        tokio::task::yield_now().await;
                    }
                    tokio::time::timeout(patience, call).await
                })
            })
            .collect();
        for call in &calls {
            if rng.u32(0..4) == 0 {
                call.abort();
            }
        }
        for call in calls {
            match call.await {
                Ok(Ok(Ok(_))) => done += 1,
                Ok(Ok(Err(error))) => {
                    overloaded(&error);
                    refused += 1;
                }
                Ok(Err(_)) => cancelled += 1,
                Err(aborted) => {
                    assert!(aborted.is_cancelled());
                    cancelled += 1;
                }
            }
        }
        assert_eq!((limited.under_way(), limited.waiting()), (0, 0));
        assert_eq!(running.load(Ordering::Relaxed), 0);
    }
    assert!(done > 100 && refused > 100, "{done} {refused}");
    assert_eq!(most.load(Ordering::Relaxed), MAX, "used up, never exceeded");
}

struct Inside(Arc<AtomicUsize>);

impl Inside {
    fn new(running: &Arc<AtomicUsize>, most: &AtomicUsize) -> Self {
        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
        most.fetch_max(now, Ordering::SeqCst);
        Self(running.clone())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_instance_is_no_failing_one_and_a_retry_goes_elsewhere() {
    let probe = Probe::default();
    probe.slow_calls(A, Duration::from_secs(60));
    let list = FixedInstancer::new("s", instances(&[A, B]));
    let limit = ConcurrencyLimit::new(1);
    let detection = OutlierDetection::default().with_consecutive_failures(Some(1));
    let endpointer = DefaultEndpointer::builder()
        .outlier_detection(detection)
        .build(list, limit.per_instance(probe.factory()));
    until_ready(&endpointer, &[A, B]).await;
    let balanced = Balanced::new(endpointer.clone(), RoundRobin::starting_at(0));
    let slow = tokio::spawn(balanced.clone().ask(""));
    settle().await;
    assert_eq!(balanced.clone().ask("").await.unwrap(), B);
    let refused = balanced.clone().ask("").await.unwrap_err();
    let text = overloaded(&refused).to_string();
    assert!(text.contains(&format!("instance={A}")), "{text}");

    let retry = Retry::new(2, Duration::from_secs(5)).layer(balanced);
    for _ in 0..50 {
        assert_eq!(retry.clone().ask("").await.unwrap(), B);
    }
    assert_eq!(probe.calls(A), 1, "nothing else was sent there");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let set = endpointer.endpoints().load();
    assert_eq!(set.ready().len(), 2, "not ejected");
    let full = set.ready().iter().find(|member| member.instance().id().as_str() == A).unwrap();
    assert_eq!(full.in_flight(), 1);
    assert_eq!(
        full.latency(tokio::time::Instant::now()),
        None,
        "being full says nothing about how quick it is"
    );
    slow.abort();
}
