//! go-kit's known faults in endpoints, balancers and retry, each shown to be absent here. Those of
//! discovery and registration stand with the reflector's and the keeper's tests.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fleetward_balancers::{Random, RoundRobin};
use fleetward_core::balancing::{PickContext, ReadySet, WaitForReady};
use fleetward_core::discovery::{FixedInstancer, Publisher};
use fleetward_core::{
    Balanced, Balancer, DefaultEndpointer, Endpointer, Instance, Metadata, Retry,
};
use tower::Layer;

use crate::support::{AskExt as _, Probe, instance, instances, ready, settle, until_ready};

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";

#[tokio::test(start_paused = true)]
async fn go_kit_fault_a_duplicate_runs_the_factory_again_and_loses_a_closer() {
    let (list, probe) = (Publisher::new("s"), Probe::default());
    let endpointer = DefaultEndpointer::new(list.clone(), probe.factory());
    for _ in 0..3 {
        list.publish(instances(&[A, A, B]));
        until_ready(&endpointer, &[A, B]).await;
    }
    assert_eq!(probe.made(A), 1);
    list.publish([]);
    until_ready(&endpointer, &[]).await;
    assert!(probe.live().is_empty(), "every service that was made is dropped");
}

#[tokio::test(start_paused = true)]
async fn go_kit_fault_a_transient_factory_failure_stays_failed() {
    let probe = Probe::default();
    probe.break_factory(A, true);
    let endpointer =
        DefaultEndpointer::new(FixedInstancer::new("s", instances(&[A, B])), probe.factory());
    until_ready(&endpointer, &[B]).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let tries = probe.made(A);
    assert!((8..40).contains(&tries), "tried again, 1 s to 60 s apart: {tries} in 600 s");
    probe.break_factory(A, false);
    let recovered = endpointer.endpoints().wait_for(|set| set.ready().len() == 2);
    let waited = tokio::time::timeout(Duration::from_secs(61), recovered).await;
    assert!(waited.is_ok(), "recovers without any news from the registry");
}

#[tokio::test(start_paused = true)]
async fn go_kit_fault_a_slow_factory_stalls_readers_the_publisher_and_others() {
    let (list, probe) = (Publisher::new("s"), Probe::default());
    probe.slow_factory(A, Duration::from_millis(300));
    let endpointer = DefaultEndpointer::new(list.clone(), probe.factory());
    let other = DefaultEndpointer::new(list.clone(), Probe::default().factory());
    let started = tokio::time::Instant::now();
    list.publish(instances(&[A, B]));
    until_ready(&endpointer, &[B]).await;
    until_ready(&other, &[A, B]).await;
    assert_eq!(started.elapsed(), Duration::ZERO, "nobody waited for the slow one");
    let balanced = Balanced::new(endpointer.clone(), RoundRobin::new());
    assert_eq!(balanced.ask("").await.unwrap(), B);
    assert_eq!(started.elapsed(), Duration::ZERO);
    until_ready(&endpointer, &[A, B]).await;
    assert_eq!(started.elapsed(), Duration::from_millis(300));
}

#[tokio::test(start_paused = true)]
async fn go_kit_fault_the_closer_runs_with_requests_in_flight() {
    let (list, probe) = (Publisher::new("s"), Probe::default());
    probe.slow_calls(A, Duration::from_secs(5));
    let endpointer = DefaultEndpointer::new(list.clone(), probe.factory());
    list.publish(instances(&[A]));
    until_ready(&endpointer, &[A]).await;
    let call = tokio::spawn(Balanced::new(endpointer.clone(), RoundRobin::new()).ask(""));
    settle().await;
    list.publish(instances(&[B]));
    until_ready(&endpointer, &[B]).await;
    assert_eq!(probe.live(), [A, B], "removed, but a call is under way");
    assert_eq!(call.await.unwrap().unwrap(), A, "and it ends well");
    settle().await;
    assert_eq!(probe.live(), [B]);
}

#[tokio::test(start_paused = true)]
async fn go_kit_fault_closing_closes_no_endpoints_and_twice_panics() {
    let probe = Probe::default();
    let endpointer =
        DefaultEndpointer::new(FixedInstancer::new("s", instances(&[A, B])), probe.factory());
    until_ready(&endpointer, &[A, B]).await;
    let second = endpointer.clone();
    drop(endpointer);
    settle().await;
    assert_eq!(probe.live(), [A, B], "another handle is left");
    drop(second);
    settle().await;
    assert!(probe.live().is_empty());
}

#[tokio::test(start_paused = true)]
async fn go_kit_fault_retry_spins_on_an_empty_set() {
    let endpointer =
        DefaultEndpointer::new(FixedInstancer::new("s", []), Probe::default().factory());
    let balanced =
        Balanced::new(endpointer, RoundRobin::new()).wait_for_ready(WaitForReady::FailFast);
    let retry = Retry::new(u32::MAX, Duration::from_millis(100));
    let error = retry.layer(balanced).ask("").await.unwrap_err();
    let attempts = error.attempts().len();
    assert!(attempts <= 40, "{attempts} attempts in 100 ms; go-kit makes 102,868");
}

#[tokio::test(start_paused = true)]
async fn go_kit_fault_retry_picks_the_bad_instance_again() {
    let probe = Probe::default();
    probe.fail_calls(A);
    let list = FixedInstancer::new("s", instances(&[A, B]));
    let endpointer = DefaultEndpointer::new(list, probe.factory());
    until_ready(&endpointer, &[A, B]).await;
    let balancers: [Arc<dyn Balancer>; 3] =
        [Arc::new(Random::new()), Arc::new(RoundRobin::new()), Arc::new(AlwaysFirst)];
    for balancer in balancers {
        let balanced = Balanced::new(endpointer.clone(), balancer.clone());
        let retried = Retry::new(2, Duration::from_secs(60)).layer(balanced);
        for _ in 0..2000 {
            let answer = retried.clone().ask("").await;
            assert_eq!(answer.unwrap(), B, "{balancer:?}");
        }
    }
    assert!(probe.calls(A) > 3000, "the bad one was met often enough to prove something");
}

/// Stubborn: exclusion has to work without the balancer's help.
#[derive(Debug)]
struct AlwaysFirst;

impl Balancer for AlwaysFirst {
    fn pick(&self, _: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
        Some(0)
    }
}

#[tokio::test(start_paused = true)]
async fn go_kit_fault_no_backoff_between_attempts() {
    let probe = Probe::default();
    probe.fail_calls(A);
    let endpointer =
        DefaultEndpointer::new(FixedInstancer::new("s", instances(&[A])), probe.factory());
    let retry = Retry::new(5, Duration::from_secs(60)).seed(1);
    let started = tokio::time::Instant::now();
    let balanced = Balanced::new(endpointer, RoundRobin::new());
    assert!(retry.layer(balanced).ask("").await.is_err());
    assert!(started.elapsed() >= Duration::from_millis(10), "{:?}", started.elapsed());
    assert!(started.elapsed() <= Duration::from_secs(4));
}

#[test]
fn go_kit_fault_fresh_round_robins_all_start_at_the_first_instance() {
    let members: Vec<_> = (1..=10)
        .map(|i| fleetward_core::endpoints::Member::detached(instance(&format!("10.0.0.{i}:80"))))
        .collect();
    let first = |_| RoundRobin::new().pick(&ReadySet::new(&members), &PickContext::new());
    let starts: BTreeSet<_> = (0..200).map(first).collect();
    assert!(starts.len() >= 9, "{starts:?}");
}

/// Sees the request and the metadata: picks the shard that the request names.
#[derive(Debug, Default)]
struct ByShard {
    asked: AtomicUsize,
}

impl Balancer for ByShard {
    fn pick(&self, endpoints: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let shard = context.request::<&'static str>()?;
        endpoints.iter().position(|e| e.instance().metadata().get("shard") == Some(shard))
    }
}

#[tokio::test(start_paused = true)]
async fn go_kit_fault_the_balancer_sees_no_request_no_weight_and_no_metadata() {
    let sharded = |address: &str, shard: &str| -> Instance {
        instance(address).with_metadata(Metadata::new([("shard", shard)]).unwrap())
    };
    let probe = Probe::default();
    let list = FixedInstancer::new("s", [sharded(A, "x"), sharded(B, "y")]);
    let endpointer = DefaultEndpointer::new(list, probe.factory());
    until_ready(&endpointer, &[A, B]).await;
    let balancer = Arc::new(ByShard::default());
    let balanced = Balanced::new(endpointer, balancer.clone());
    assert_eq!(balanced.clone().ask("y").await.unwrap(), B);
    assert_eq!(balanced.clone().ask("x").await.unwrap(), A);
    let asked = balancer.asked.load(Ordering::Relaxed);
    let error = balanced.ask("z").await.unwrap_err();
    assert!(error.to_string().contains("the balancer chose none"), "{error}");
    let more = balancer.asked.load(Ordering::Relaxed) - asked;
    assert!(more <= 3, "a refusal is final, not asked for again and again: {more}");
}

#[tokio::test(start_paused = true)]
async fn go_kit_fault_no_weights_weight_zero_drains_and_never_panics() {
    let (list, probe) = (Publisher::new("s"), Probe::default());
    let endpointer = DefaultEndpointer::new(list.clone(), probe.factory());
    list.publish([instance(A), instance(B).with_weight(0)]);
    until_ready(&endpointer, &[A]).await;
    list.publish([instance(A).with_weight(0), instance(B).with_weight(0)]);
    until_ready(&endpointer, &[]).await;
    let balanced = Balanced::new(endpointer.clone(), RoundRobin::new());
    let error = balanced.clone().ask("").await.unwrap_err();
    assert!(error.to_string().contains("no instance is ready"), "{error}");
    list.publish([instance(A), instance(B)]);
    until_ready(&endpointer, &[A, B]).await;
    assert_eq!((probe.made(A), probe.made(B)), (1, 1), "a weight does not reconnect");
}

#[tokio::test(start_paused = true)]
async fn go_kit_fault_fast_failures_attract_traffic() {
    // The balancers here look at no load, so a fast failure cannot look like an idle instance.
    let probe = Probe::default();
    probe.fail_calls(A);
    probe.slow_calls(B, Duration::from_millis(50));
    let list = FixedInstancer::new("s", instances(&[A, B]));
    let endpointer = DefaultEndpointer::new(list, probe.factory());
    until_ready(&endpointer, &[A, B]).await;
    let balanced = Balanced::new(endpointer, RoundRobin::new());
    for _ in 0..100 {
        let _ = balanced.clone().ask("").await;
    }
    assert_eq!((probe.calls(A), probe.calls(B)), (50, 50));
}

#[tokio::test(start_paused = true)]
async fn go_kit_fault_no_load_feedback_in_flight_is_seen_and_never_leaks() {
    let probe = Probe::default();
    probe.slow_calls(A, Duration::from_secs(1));
    let endpointer =
        DefaultEndpointer::new(FixedInstancer::new("s", instances(&[A])), probe.factory());
    until_ready(&endpointer, &[A]).await;
    let balanced = Balanced::new(endpointer.clone(), RoundRobin::new());
    let calls: Vec<_> = (0..10).map(|_| tokio::spawn(balanced.clone().ask(""))).collect();
    settle().await;
    assert_eq!(endpointer.endpoints().load().ready()[0].in_flight(), 10);
    for call in &calls[..5] {
        call.abort();
    }
    settle().await;
    assert_eq!(
        endpointer.endpoints().load().ready()[0].in_flight(),
        5,
        "a dropped call is counted out"
    );
    for call in calls {
        let _ = call.await;
    }
    assert_eq!(endpointer.endpoints().load().ready()[0].in_flight(), 0);
    assert_eq!(ready(&endpointer).len(), 1);
}
