//! Balanced and Retry as a caller meets them: waiting, deadlines, cancellation, cost.

use std::sync::Arc;
use std::time::Duration;

use fleetward_balancers::{Random, RoundRobin};
use fleetward_core::{
    Balanced, Endpointer, Error, ErrorKind, FixedInstancer, Member, PickContext, Publisher,
    ReadySet, Retry, RetryError, Retrying, WaitForReady,
};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use crate::support::{Probe, Probed, instance, instances, settle, until_ready};

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";

/// What the public types promise, at compile time.
#[allow(dead_code)]
fn the_services_can_be_shared() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Balanced<Probed>>();
    shared::<Retrying<Balanced<Probed>>>();
    shared::<Endpointer<Probed>>();
    fn object_safe(_: &dyn fleetward_core::Balancer, _: &dyn fleetward_core::Instancer) {}
}

#[tokio::test(start_paused = true)]
async fn a_random_balancer_with_retry_is_one_line() {
    let probe = Probe::default();
    let list = FixedInstancer::new("s", instances(&[A, B]));
    let endpointer = Endpointer::new(list, probe.factory());
    let client =
        Retry::new(3, Duration::from_millis(500)).layer(Balanced::new(endpointer, Random::new()));
    assert!([A, B].contains(&client.oneshot("").await.unwrap().as_str()));
}

#[tokio::test(start_paused = true)]
async fn exclusion_works_through_layers_in_between() {
    let probe = Probe::default();
    probe.fail_calls(A);
    let list = FixedInstancer::new("s", instances(&[A, B]));
    let endpointer = Endpointer::new(list, probe.factory());
    until_ready(&endpointer, &[A, B]).await;
    let service = ServiceBuilder::new()
        .layer(Retry::new(2, Duration::from_secs(5)))
        .timeout(Duration::from_secs(1))
        .concurrency_limit(100)
        .service(Balanced::new(endpointer, Random::new()));
    for _ in 0..200 {
        assert_eq!(service.clone().oneshot("").await.unwrap(), B);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_the_first_endpoint() {
    let (list, probe) = (Publisher::new("s"), Probe::default());
    let endpointer = Endpointer::new(list.clone(), probe.factory());
    let call = tokio::spawn(Balanced::new(endpointer, RoundRobin::new()).oneshot(""));
    tokio::time::sleep(Duration::from_secs(2)).await;
    list.publish(instances(&[A]));
    assert_eq!(call.await.unwrap().unwrap(), A);
}

#[tokio::test(start_paused = true)]
async fn waiting_is_bounded_and_the_error_names_service_and_cause() {
    let list = Publisher::new("greeter");
    list.publish_stale(Error::new(ErrorKind::Unavailable, "connection refused by etcd"));
    let endpointer = Endpointer::new(list, Probe::default().factory());
    let balanced = Balanced::new(endpointer, RoundRobin::new());
    let started = Instant::now();
    let error = balanced.clone().oneshot("").await.unwrap_err();
    assert_eq!(started.elapsed().as_secs(), 3, "the default bound");
    let text = error.to_string();
    assert!(text.contains("greeter") && text.contains("connection refused by etcd"), "{text}");
    let started = Instant::now();
    let fast = balanced.wait_for_ready(WaitForReady::FailFast);
    assert!(fast.oneshot("").await.is_err());
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn poll_ready_never_fails_and_never_waits() {
    let endpointer = Endpointer::new(FixedInstancer::new("s", []), Probe::default().factory());
    let mut balanced = Balanced::new(endpointer, RoundRobin::new());
    let ready = std::future::poll_fn(|cx| Service::<&'static str>::poll_ready(&mut balanced, cx));
    assert!(futures::FutureExt::now_or_never(ready).unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_tried_elsewhere() {
    let probe = Probe::default();
    probe.slow_calls(A, Duration::from_secs(60));
    let list = FixedInstancer::new("s", instances(&[A, B]));
    let endpointer = Endpointer::new(list, probe.factory());
    until_ready(&endpointer, &[A, B]).await;
    let retry =
        Retry::new(2, Duration::from_secs(5)).per_attempt_timeout(Duration::from_millis(200));
    let client = retry.layer(Balanced::new(endpointer.clone(), RoundRobin::starting_at(0)));
    assert_eq!(client.oneshot("").await.unwrap(), B);
    assert!(endpointer.load().ready().iter().all(|member| member.in_flight() == 0));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_names_where_every_attempt_went() {
    let probe = Probe::default();
    probe.fail_calls(A);
    probe.slow_calls(B, Duration::from_secs(60));
    let list = FixedInstancer::new("s", instances(&[A, B]));
    let endpointer = Endpointer::new(list, probe.factory());
    until_ready(&endpointer, &[A, B]).await;
    let balanced = Balanced::new(endpointer, RoundRobin::starting_at(0));
    let started = Instant::now();
    let error =
        Retry::new(9, Duration::from_millis(500)).layer(balanced).oneshot("").await.unwrap_err();
    assert!(started.elapsed() <= Duration::from_millis(520));
    assert!(error.is_timeout());
    let went: Vec<_> = error.attempts().iter().map(|a| a.instance.clone().unwrap()).collect();
    assert_eq!(went.iter().map(fleetward_core::InstanceId::as_str).collect::<Vec<_>>(), [A, B]);
    assert!(error.to_string().contains("after 2 failed attempts"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_backoff_beyond_the_deadline_returns_the_last_error_at_once() {
    let probe = Probe::default();
    probe.fail_calls(A);
    let list = FixedInstancer::new("s", instances(&[A]));
    let endpointer = Endpointer::new(list, probe.factory());
    until_ready(&endpointer, &[A]).await;
    let backoff =
        fleetward_core::Backoff::new(Duration::from_secs(9), Duration::from_secs(9)).unwrap();
    // The shortest wait is a tenth of the step: 0.9 s.
    let retry = Retry::new(5, Duration::from_millis(800)).backoff(backoff);
    let started = Instant::now();
    let error: RetryError =
        retry.layer(Balanced::new(endpointer, RoundRobin::new())).oneshot("").await.unwrap_err();
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(error.final_error().to_string(), format!("{A} fails"));
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_at_any_await_leaves_nothing_in_flight() {
    let probe = Probe::default();
    probe.slow_calls(A, Duration::from_millis(50));
    probe.fail_calls(A);
    probe.slow_calls(B, Duration::from_millis(70));
    let list = Publisher::new("s");
    let endpointer = Endpointer::new(list.clone(), probe.factory());
    let balanced = Balanced::new(endpointer.clone(), Random::new());
    let client = Retry::new(3, Duration::from_secs(1)).layer(balanced);
    let mut rng = fastrand::Rng::with_seed(3);
    let mut calls = Vec::new();
    for i in 0..2000 {
        if i == 1000 {
            list.publish(instances(&[A, B]));
        }
        let call = client.clone().oneshot("");
        let most = Duration::from_millis(rng.u64(0..200));
        calls.push(tokio::spawn(tokio::time::timeout(most, call)));
    }
    for call in calls {
        let _ = call.await.unwrap();
    }
    settle().await;
    assert!(endpointer.load().ready().iter().all(|member| member.in_flight() == 0));
    let metrics = tokio::runtime::Handle::current().metrics();
    assert!(metrics.num_alive_tasks() <= 2, "only the endpointer's: {}", metrics.num_alive_tasks());
}

#[test]
fn a_pick_allocates_nothing() {
    let members: Vec<_> =
        (1..=100).map(|i| Member::detached(instance(&format!("10.0.0.{i}:80")))).collect();
    let balancers: [Arc<dyn fleetward_core::Balancer>; 3] =
        [Arc::new(RoundRobin::new()), Arc::new(Random::new()), Arc::new(Random::with_seed(7))];
    for balancer in balancers {
        // The thread's own generator is set up by its first use.
        balancer.pick(&ReadySet::new(&members), &PickContext::new());
        let allocated = allocation_counter::measure(|| {
            for _ in 0..1000 {
                std::hint::black_box(balancer.pick(&ReadySet::new(&members), &PickContext::new()));
            }
        });
        assert_eq!(allocated.count_total, 0, "{balancer:?}");
    }
}

#[tokio::test]
async fn a_pick_through_the_whole_path_allocates_nothing() {
    let probe = Probe::default();
    let list = FixedInstancer::new("s", instances(&[A, B]));
    let endpointer = Endpointer::new(list, probe.factory());
    until_ready(&endpointer, &[A, B]).await;
    let balanced = Balanced::new(endpointer, RoundRobin::new());
    drop(balanced.pick(&"warm up"));
    let allocated = allocation_counter::measure(|| {
        for _ in 0..1000 {
            drop(std::hint::black_box(balanced.pick(&"request")));
        }
    });
    assert_eq!(allocated.count_total, 0, "set, pick, clone of the service, in-flight guard");
}
