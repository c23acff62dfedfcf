//! What go-kit's own tests assert, case by case: endpoints (1 to 4), balancers (7), retry (8).
//! Cases 5 and 6 stand with the reflector's tests.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use fleetward_balancers::{Random, RoundRobin};
use fleetward_core::balancing::{PickContext, ReadySet, WaitForReady};
use fleetward_core::context::WithContext;
use fleetward_core::discovery::{FixedInstancer, Publisher};
use fleetward_core::endpoints::Member;
use fleetward_core::retry::Verdict;
use fleetward_core::{Balanced, Balancer, DefaultEndpointer, Endpointer, Error, ErrorKind, Retry};
use tower::{Layer, service_fn};

use crate::support::{AskExt as _, Probe, instance, instances, ready, settle, until_ready};

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";

#[tokio::test(start_paused = true)]
async fn go_kit_case_1_endpoints_follow_the_instances() {
    let (list, probe) = (Publisher::new("s"), Probe::default());
    let endpointer = DefaultEndpointer::new(list.clone(), probe.factory());
    list.publish(instances(&[A, B]));
    until_ready(&endpointer, &[A, B]).await;

    list.publish(instances(&[A, B]));
    settle().await;
    assert_eq!((probe.made(A), probe.made(B)), (1, 1), "the same update again is a no-op");

    list.publish_stale(Error::new(ErrorKind::Unavailable, "down"));
    settle().await;
    assert_eq!(probe.live(), [A, B], "an error keeps both");

    list.publish(instances(&[A]));
    until_ready(&endpointer, &[A]).await;
    assert_eq!(probe.live(), [A], "removing b closes only b");

    list.publish([]);
    until_ready(&endpointer, &[]).await;
    assert!(probe.live().is_empty(), "emptying closes a");
    assert_eq!((probe.made(A), probe.made(B)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn go_kit_case_2_invalidation_keeps_the_first_error_and_the_first_deadline() {
    let (list, probe) = (Publisher::new("s"), Probe::default());
    let timeout = Duration::from_secs(1);
    let endpointer = DefaultEndpointer::builder()
        .invalidate_on_error(timeout)
        .build(list.clone(), probe.factory());
    list.publish(instances(&[A]));
    until_ready(&endpointer, &[A]).await;

    list.publish_stale(Error::new(ErrorKind::Unavailable, "the first error"));
    settle().await;
    assert_eq!(ready(&endpointer).len(), 1, "still served at the error");
    tokio::time::sleep(timeout / 2).await;
    assert_eq!(ready(&endpointer).len(), 1, "and at half the timeout");
    list.publish_stale(Error::new(ErrorKind::PermissionDenied, "a second error"));
    tokio::time::sleep(timeout / 2 + Duration::from_millis(2)).await;
    assert!(ready(&endpointer).is_empty(), "gone at the first error's deadline");
    assert!(probe.live().is_empty(), "and closed");
    list.publish_stale(Error::new(ErrorKind::Timeout, "a third error"));
    settle().await;
    let balanced =
        Balanced::new(endpointer.clone(), RoundRobin::new()).wait_for_ready(WaitForReady::FailFast);
    let error = balanced.ask("").await.unwrap_err();
    assert!(error.to_string().contains("the first error"), "{error}");

    list.publish(instances(&[A]));
    until_ready(&endpointer, &[A]).await;
    assert_eq!(probe.made(A), 2, "a good update makes it anew");
}

#[tokio::test(start_paused = true)]
async fn go_kit_case_3_all_factories_fail() {
    let probe = Probe::default();
    probe.break_factory(A, true);
    probe.break_factory(B, true);
    let list = FixedInstancer::new("s", instances(&[A, B]));
    let endpointer = DefaultEndpointer::new(list, probe.factory());
    endpointer.endpoints().wait_for(|set| set.known() == 2).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(ready(&endpointer).is_empty());
    assert!(!endpointer.endpoints().load().freshness().is_stale(), "the discovery itself is fine");
    let error = endpointer.endpoints().load().no_endpoints("s");
    assert!(error.to_string().contains("is broken"), "the cause is named: {error}");
}

#[tokio::test(start_paused = true)]
async fn go_kit_case_4_the_initial_set_an_empty_update_and_an_update_after_the_end() {
    let (list, probe) = (Publisher::new("s"), Probe::default());
    list.publish(instances(&[A, B]));
    let started = tokio::time::Instant::now();
    let endpointer = DefaultEndpointer::new(list.clone(), probe.factory());
    until_ready(&endpointer, &[A, B]).await;
    assert!(started.elapsed() < Duration::from_secs(1));
    list.publish([]);
    until_ready(&endpointer, &[]).await;
    assert!(probe.live().is_empty());
    drop(endpointer);
    list.publish(instances(&[A]));
    settle().await;
    assert_eq!(probe.made(A), 1, "nobody listens any more");
}

fn members(n: usize) -> Vec<Member> {
    (1..=n).map(|i| Member::detached(instance(&format!("10.0.0.{i}:80")))).collect()
}

fn picks(balancer: &dyn Balancer, members: &[Member], n: usize) -> Vec<usize> {
    let set = ReadySet::new(members);
    (0..n).map(|_| balancer.pick(&set, &PickContext::new()).unwrap()).collect()
}

#[test]
fn go_kit_case_7_random_is_within_one_percent() {
    let members = members(7);
    let seeded = Random::with_seed(12345);
    let unseeded = Random::new();
    for balancer in [&seeded, &unseeded] {
        let mut counts = [0u32; 7];
        for pick in picks(balancer, &members, 1_000_000) {
            counts[pick] += 1;
        }
        for count in counts {
            let off = (f64::from(count) * 7.0 / 1e6 - 1.0).abs();
            assert!(off < 0.01, "{balancer:?}: {counts:?}");
        }
    }
    let again = picks(&Random::with_seed(12345), &members, 1000);
    assert_eq!(again, picks(&Random::with_seed(12345), &members, 1000), "a seed repeats");
    assert_ne!(again, picks(&Random::with_seed(54321), &members, 1000));
}

#[tokio::test(start_paused = true)]
async fn go_kit_case_7_an_empty_set_is_the_no_endpoints_error() {
    let endpointer =
        DefaultEndpointer::new(FixedInstancer::new("greeter", []), Probe::default().factory());
    let balancers: [Arc<dyn Balancer>; 2] = [Arc::new(RoundRobin::new()), Arc::new(Random::new())];
    for balancer in balancers {
        let balanced = Balanced::new(endpointer.clone(), balancer);
        let error = balanced.ask("").await.unwrap_err();
        let error = error.downcast_ref::<Error>().unwrap();
        assert!(error.is_no_endpoints());
        assert_eq!(error.context("service"), Some("greeter"));
    }
}

#[test]
fn go_kit_case_7_round_robin_gives_the_exact_sequence() {
    let members = members(3);
    assert_eq!(picks(&RoundRobin::starting_at(0), &members, 7), [0, 1, 2, 0, 1, 2, 0]);
    let seeded = picks(&RoundRobin::with_seed(9), &members, 6);
    assert_eq!(seeded, picks(&RoundRobin::with_seed(9), &members, 6));
    assert!(seeded.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 3), "{seeded:?}");
}

#[tokio::test(start_paused = true)]
async fn go_kit_case_7_an_empty_set_does_not_advance_the_turn() {
    let (list, probe) = (Publisher::new("s"), Probe::default());
    let endpointer = DefaultEndpointer::new(list.clone(), probe.factory());
    let balanced = Balanced::new(endpointer.clone(), RoundRobin::starting_at(0))
        .wait_for_ready(WaitForReady::FailFast);
    for _ in 0..5 {
        assert!(balanced.clone().ask("").await.is_err());
    }
    list.publish(instances(&[A, B]));
    until_ready(&endpointer, &[A, B]).await;
    assert_eq!(balanced.ask("").await.unwrap(), A);
}

#[test]
fn go_kit_case_7_a_hundred_threads_share_a_balancer_fairly() {
    let members = members(4);
    let balancers: [Arc<dyn Balancer>; 3] =
        [Arc::new(RoundRobin::new()), Arc::new(Random::new()), Arc::new(Random::with_seed(1))];
    for balancer in balancers {
        let counts = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..100).map(|_| scope.spawn(|| picks(&*balancer, &members, 1000))).collect();
            let mut counts = BTreeMap::new();
            for pick in threads.into_iter().flat_map(|thread| thread.join().unwrap()) {
                *counts.entry(pick).or_insert(0u32) += 1;
            }
            counts
        });
        assert_eq!(counts.values().sum::<u32>(), 100_000);
        let round_robin = format!("{balancer:?}").starts_with("RoundRobin");
        for count in counts.values() {
            // Of round robin, a call for each thread: those that met have taken some turns in a row, and
            // may not have used them up.
            let allowed = if round_robin { 100 } else { 1000 };
            assert!(count.abs_diff(25_000) <= allowed, "{balancer:?}: {counts:?}");
        }
    }
}

fn hour() -> Duration {
    Duration::from_secs(3600)
}

#[tokio::test(start_paused = true)]
async fn go_kit_case_8_retry_on_an_empty_set_fails() {
    let endpointer =
        DefaultEndpointer::new(FixedInstancer::new("s", []), Probe::default().factory());
    let balanced = Balanced::new(endpointer, RoundRobin::new());
    let retried = Retry::new(999, Duration::from_secs(10)).layer(balanced);
    let error = retried.ask("").await.unwrap_err();
    assert!(error.to_string().contains("no instance is registered"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn go_kit_case_8_max_counts_attempts() {
    // Two bad, then one good.
    for (max, calls, good) in [(0, 1, false), (1, 1, false), (2, 2, false), (3, 3, true)] {
        let made = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = made.clone();
        let service = service_fn(move |_: WithContext<()>| {
            let n = counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async move { if n < 2 { Err(format!("error {}", n + 1)) } else { Ok(n) } }
        });
        let outcome = Retry::new(max, hour()).layer(service).ask(()).await;
        assert_eq!(outcome.is_ok(), good, "max = {max}");
        assert_eq!(made.load(std::sync::atomic::Ordering::Relaxed), calls, "max = {max}");
        if let Err(error) = outcome {
            assert_eq!(error.attempts().len(), calls, "every attempt's error is kept");
            let last = format!("error {calls}");
            assert_eq!(error.final_error().to_string(), last, "without a callback, the original");
            assert!(error.source().is_some());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn go_kit_case_8_a_timeout_surfaces_as_a_deadline_error() {
    let service = service_fn(|_: WithContext<()>| async {
        std::future::pending::<()>().await;
        Ok::<_, String>(())
    });
    let started = tokio::time::Instant::now();
    let error = Retry::new(5, Duration::from_millis(100)).layer(service).ask(()).await;
    let error = error.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(started.elapsed() <= Duration::from_millis(120), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn go_kit_case_8_the_callback_stops_and_replaces_the_final_error_only() {
    let service = service_fn(|_: WithContext<()>| async { Err::<(), _>("the original") });
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let numbers = seen.clone();
    let retry = Retry::with_callback(hour(), move |n, error| {
        numbers.lock().unwrap().push((n, error.to_string()));
        if n < 3 { Verdict::Retry } else { Verdict::ReturnError("the replacement".into()) }
    });
    let error = retry.layer(service).ask(()).await.unwrap_err();
    assert_eq!(error.final_error().to_string(), "the replacement");
    assert_eq!(error.attempts().len(), 3);
    assert!(error.attempts().iter().all(|a| a.error.to_string() == "the original"));
    let numbers: Vec<_> = seen.lock().unwrap().iter().map(|(n, _)| *n).collect();
    assert_eq!(numbers, [1, 2, 3], "counted from 1");

    let retry = Retry::with_callback(hour(), |_, _| Verdict::Return);
    let error = retry.layer(service).ask(()).await.unwrap_err();
    assert_eq!(error.final_error().to_string(), "the original");
}

#[tokio::test(start_paused = true)]
async fn go_kit_case_8_the_balancers_errors_count_as_attempts() {
    let endpointer =
        DefaultEndpointer::new(FixedInstancer::new("s", []), Probe::default().factory());
    let balanced =
        Balanced::new(endpointer, RoundRobin::new()).wait_for_ready(WaitForReady::FailFast);
    let error = Retry::new(4, hour()).layer(balanced).ask("").await.unwrap_err();
    assert_eq!(error.attempts().len(), 4);
    assert!(error.attempts().iter().all(|attempt| attempt.instance.is_none()));
}
