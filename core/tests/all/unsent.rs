//! What never left this process goes elsewhere, for as long as there is an elsewhere; then it waits.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use fleetward_balancers::Random;
use fleetward_core::balancing::WaitForReady;
use fleetward_core::discovery::Publisher;
use fleetward_core::limit::ConcurrencyLimit;
use fleetward_core::retry::{HedgeDelay, RetryClassifier, Verdict};
use fleetward_core::{
    Balanced, BoxError, DefaultEndpointer, Endpointer, Error, ErrorKind, Instance, Retry,
};
use futures::future::BoxFuture;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt as _};

use crate::support::{Ask, AskExt as _};

/// How an instance takes calls.
#[derive(Clone, Debug, PartialEq)]
enum Takes {
    Answers,
    /// The connection is refused.
    Refuses,
    /// It is not ready for a call, and does not become so.
    Connects,
    /// It has the call, and does not answer.
    Hangs,
    /// It answers after [`SLOW`].
    Slowly,
}

#[derive(Clone)]
struct Fleet {
    size: usize,
    list: Publisher,
    answering: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    takes: Arc<dyn Fn(&str) -> Takes + Send + Sync>,
}

#[derive(Clone)]
struct Of {
    address: String,
    fleet: Fleet,
}

impl Service<&'static str> for Of {
    type Response = String;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<String, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match (self.fleet.takes)(&self.address) {
            Takes::Connects => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, _: &'static str) -> Self::Future {
        self.fleet.calls.fetch_add(1, Ordering::SeqCst);
        let Self { address, fleet } = self.clone();
        Box::pin(async move {
            match (fleet.takes)(&address) {
                Takes::Refuses if !fleet.answering.load(Ordering::SeqCst) => Err(refused().into()),
                Takes::Hangs => pending().await,
                Takes::Slowly => {
                    tokio::time::sleep(SLOW).await;
                    Ok(address)
                }
                _ => Ok(address),
            }
        })
    }
}

fn refused() -> Error {
    Error::new(ErrorKind::Unavailable, "connection refused").with_nothing_sent()
}

fn address(i: usize) -> String {
    format!("10.0.{}.{}:80", i / 250, i % 250)
}

fn all(size: usize) -> Vec<Instance> {
    (0..size).map(|i| Instance::new(address(i)).unwrap()).collect()
}

/// May be sent again if it never left, and else not: a POST.
struct Once;

impl RetryClassifier<Ask> for Once {
    fn copy(&self, request: &Ask) -> Option<Ask> {
        Some(request.clone())
    }

    fn judge(&self, _: u32, error: &BoxError) -> Verdict {
        if Verdict::is_unsent(error) { Verdict::Transparent } else { Verdict::Return }
    }
}

impl Fleet {
    fn new(size: usize, takes: impl Fn(usize) -> Takes + Send + Sync + 'static) -> Self {
        let list = Publisher::new("s");
        list.publish(all(size));
        let takes = move |of: &str| takes((0..).find(|i| address(*i) == of).unwrap());
        let (answering, calls) = (Arc::default(), Arc::default());
        Self { size, list, answering, calls, takes: Arc::new(takes) }
    }

    async fn balanced(&self) -> Balanced<Of> {
        let fleet = self.clone();
        let factory = move |instance: Arc<Instance>| {
            let of = Of { address: instance.address().to_string(), fleet: fleet.clone() };
            async move { Ok::<_, Error>(of) }
        };
        let endpointer = DefaultEndpointer::new(self.list.clone(), factory);
        endpointer.endpoints().wait_for(|set| set.ready().len() == self.size).await;
        Balanced::new(endpointer, Random::with_seed(7))
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

fn once() -> Retry<Once> {
    Retry::with_policy(Once).max_attempts(1)
}

#[tokio::test(start_paused = true)]
async fn as_long_as_an_untried_instance_is_left_it_goes_on_at_once() {
    for (size, live, rounds) in [(20, 5, 400), (20, 2, 400), (20, 1, 100), (400, 1, 3)] {
        let takes = move |i| if i % (size / live) == 0 { Takes::Answers } else { Takes::Refuses };
        let fleet = Fleet::new(size, takes);
        let client = once().layer(fleet.balanced().await);
        let started = Instant::now();
        for _ in 0..rounds {
            client.clone().ask("").await.unwrap();
        }
        assert_eq!(started.elapsed(), Duration::ZERO, "{live} of {size}");
    }
}

const WAIT: Duration = Duration::from_secs(3);
const SLOW: Duration = Duration::from_secs(4);

#[tokio::test(start_paused = true)]
async fn when_all_were_tried_it_waits_for_a_change_and_no_longer_than_for_an_endpoint() {
    let fleet = Fleet::new(5, |i| if i < 5 { Takes::Refuses } else { Takes::Answers });
    let client = once().layer(fleet.balanced().await);
    let started = Instant::now();
    let error = client.clone().ask("").await.unwrap_err();
    let elapsed = started.elapsed();
    assert!(elapsed >= WAIT && elapsed < WAIT + Duration::from_millis(100), "{elapsed:?}");
    // What the last instance said, and not only that there is none.
    assert!(error.final_error().to_string().contains("connection refused"), "{error}");
    assert!((7..40).contains(&fleet.calls()), "it does not spin: {}", fleet.calls());

    // A new instance is a change.
    let call = tokio::spawn(client.clone().ask(""));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (published, list) = (Instant::now(), fleet.list.clone());
    list.publish(all(6));
    assert_eq!(call.await.unwrap().unwrap(), address(5));
    assert!(published.elapsed() < Duration::from_millis(50), "{:?}", published.elapsed());

    // One that takes calls again changes nothing that could be seen.
    let fleet = Fleet::new(3, |_| Takes::Refuses);
    let client = once().layer(fleet.balanced().await);
    let call = tokio::spawn(client.ask(""));
    tokio::time::sleep(Duration::from_millis(500)).await;
    fleet.answering.store(true, Ordering::SeqCst);
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_wait_is_bounded_by_the_deadline_by_wait_for_ready_and_by_a_number() {
    let fleet = Fleet::new(3, |_| Takes::Refuses);
    let balanced = fleet.balanced().await;
    let started = Instant::now();
    let deadline = Duration::from_millis(200);
    let error = once().timeout(deadline).layer(balanced.clone()).ask("").await.unwrap_err();
    assert!(error.is_timeout() && started.elapsed() < deadline * 2, "{error}");
    assert!(error.to_string().contains("connection refused"), "{error}");

    let (started, before) = (Instant::now(), fleet.calls());
    let fast = balanced.clone().wait_for_ready(WaitForReady::FailFast);
    let error = once().layer(fast).ask("").await.unwrap_err();
    assert!(error.final_error().to_string().contains("connection refused"), "{error}");
    assert_eq!((started.elapsed(), fleet.calls() - before), (Duration::ZERO, 4));

    let before = fleet.calls();
    let endless = balanced.wait_for_ready(WaitForReady::AtMost(Duration::MAX));
    let error = once().layer(endless).ask("").await.unwrap_err();
    assert_eq!((fleet.calls() - before, error.attempts().len()), (1001, 1001));
}

/// A set that changes all the time.
#[tokio::test(start_paused = true)]
async fn changes_that_bring_nothing_do_not_make_it_spin() {
    let fleet = Fleet::new(3, |_| Takes::Refuses);
    let client = once().layer(fleet.balanced().await);
    let list = fleet.list.clone();
    let changing = tokio::spawn(async move {
        for weight in 2.. {
            list.publish(all(3).into_iter().map(|instance| instance.with_weight(weight)));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    client.ask("").await.unwrap_err();
    changing.abort();
    assert!(fleet.calls() < 250, "{}", fleet.calls());
}

/// Its queue is where calls wait; beyond that they are to fail.
#[tokio::test(start_paused = true)]
async fn full_instances_are_not_waited_for() {
    let list = Publisher::new("s");
    list.publish(all(3));
    let fleet = Fleet::new(3, |_| Takes::Hangs);
    let factory = move |instance: Arc<Instance>| {
        let of = Of { address: instance.address().to_string(), fleet: fleet.clone() };
        async move { Ok::<_, Error>(of) }
    };
    let endpointer = DefaultEndpointer::new(list, ConcurrencyLimit::new(1).per_instance(factory));
    endpointer.endpoints().wait_for(|set| set.ready().len() == 3).await;
    let client = once().layer(Balanced::new(endpointer, Random::new()));
    let _under_way: Vec<_> = (0..3).map(|_| tokio::spawn(client.clone().ask(""))).collect();
    tokio::task::yield_now().await;
    let started = Instant::now();
    let error = client.ask("").await.unwrap_err();
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert!((3..=5).contains(&error.attempts().len()), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_ends_before_it_left_goes_elsewhere_whatever_the_request() {
    let most = Duration::from_millis(100);
    for (takes, goes_elsewhere) in [(Takes::Connects, true), (Takes::Hangs, false)] {
        let bad = takes.clone();
        let fleet = Fleet::new(4, move |i| if i < 2 { bad.clone() } else { Takes::Answers });
        let balanced = fleet.balanced().await;
        let per_attempt = once().per_attempt_timeout(most);
        let through = ServiceBuilder::new()
            .timeout(Duration::from_secs(60))
            .concurrency_limit(100)
            .service(balanced.clone());
        let mut failed = 0;
        for _ in 0..20 {
            failed += usize::from(per_attempt.layer(balanced.clone()).ask("").await.is_err());
            failed += usize::from(per_attempt.layer(through.clone()).ask("").await.is_err());
        }
        assert_eq!(failed == 0, goes_elsewhere, "{takes:?}: {failed} of 40");
        // Both are slow, whether or not they had the request.
        let now = Instant::now();
        let slow = |i| balanced.endpoints().load().ready()[i].latency(now) >= Some(1.0);
        assert_eq!([0, 1, 2, 3].map(slow), [true, true, false, false]);
    }
}

/// Without a balancer it is the layer itself that still has the request.
#[tokio::test(start_paused = true)]
async fn an_attempt_whose_service_is_not_ready_has_not_left() {
    let fleet = Fleet::new(1, |_| Takes::Connects);
    let service = Of { address: address(0), fleet: fleet.clone() };
    let retry = once().per_attempt_timeout(Duration::from_millis(100));
    let started = Instant::now();
    let error = retry.layer(service.map_request(|ask: Ask| ask.request)).ask("").await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    // Nobody says where it went, so there is a bound.
    assert_eq!((error.attempts().len(), started.elapsed().as_millis() / 10), (6, 60));
    assert_eq!(fleet.calls(), 0);
}

/// How long a call waits for an endpoint is for `wait_for_ready` to say.
#[tokio::test(start_paused = true)]
async fn the_time_of_an_attempt_begins_with_its_endpoint() {
    let most = Duration::from_millis(100);
    let fleet = Fleet::new(0, |i| if i == 0 { Takes::Hangs } else { Takes::Answers });
    let balanced = fleet.balanced().await;
    let client = once().per_attempt_timeout(most).layer(balanced);
    let call = tokio::spawn(client.clone().ask(""));
    tokio::time::sleep(Duration::from_millis(1234)).await;
    fleet.list.publish(all(2).split_off(1));
    call.await.unwrap().unwrap();

    fleet.list.publish([]);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let started = Instant::now();
    client.clone().ask("").await.unwrap_err();
    assert_eq!(started.elapsed().as_millis() / 10, 300);

    let call = tokio::spawn(client.ask(""));
    tokio::time::sleep(Duration::from_millis(250)).await;
    let ready = Instant::now();
    fleet.list.publish(all(1));
    assert!(call.await.unwrap().unwrap_err().is_timeout());
    let took = ready.elapsed().as_millis();
    assert!((100..=105).contains(&took), "all of its time, and no more: {took} ms");
}

/// Those under way go on while another one waits for somewhere to go, and decide the call.
#[tokio::test(start_paused = true)]
async fn a_hedge_that_never_left_waits_beside_those_under_way() {
    let fleet = Fleet::new(3, |i| if i == 0 { Takes::Slowly } else { Takes::Refuses });
    let balanced = fleet.balanced().await;
    let hedged = once().max_attempts(2).hedge(HedgeDelay::fixed(Duration::from_millis(10)));
    let started = Instant::now();
    hedged.layer(balanced).ask("").await.unwrap();
    assert!(started.elapsed() >= SLOW && started.elapsed() < WAIT * 2, "{:?}", started.elapsed());
    assert!(fleet.calls() < 40, "{}", fleet.calls());
}
