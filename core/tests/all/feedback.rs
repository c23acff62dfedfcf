//! What endpoints learn from calls through the whole path, and what becomes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use fleetward_balancers::RoundRobin;
use fleetward_core::balancing::{PickContext, Prepared, ReadySet};
use fleetward_core::discovery::{FixedInstancer, Publisher};
use fleetward_core::endpoints::{
    EndpointSet, EndpointerBuilder, InFlight, Member, Observer, Outcome,
};
use fleetward_core::outlier::OutlierDetection;
use fleetward_core::{Balanced, Balancer, BoxError, DefaultEndpointer, Endpointer, Retry};
use tokio::time::Instant;
use tower::Layer;

use crate::support::{self, AskExt as _, Probe, Probed, instance, instances, settle, until_ready};

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";
const C: &str = "10.0.0.3:80";

async fn balanced(
    builder: EndpointerBuilder,
    probe: &Probe,
    addresses: &[&str],
) -> (Balanced<Probed>, DefaultEndpointer<Probed>) {
    let list = FixedInstancer::new("s", instances(addresses));
    let endpointer = builder.build(list, probe.factory());
    until_ready(&endpointer, addresses).await;
    (Balanced::new(endpointer.clone(), RoundRobin::starting_at(0)), endpointer)
}

fn member(endpointer: &impl Endpointer<Probed>, address: &str) -> Member {
    let set = endpointer.endpoints().load();
    let mut all = set.ready().iter().chain(set.ready().not_ready());
    all.find(|member| member.instance().id().as_str() == address).unwrap().clone()
}

fn ready(endpointer: &impl Endpointer<Probed>) -> Vec<String> {
    support::ready(endpointer).iter().map(ToString::to_string).collect()
}

fn detecting() -> EndpointerBuilder {
    DefaultEndpointer::builder().outlier_detection(OutlierDetection::default()).seed(1)
}

#[tokio::test(start_paused = true)]
async fn latency_is_measured_and_survives_a_change_of_weight() {
    let probe = Probe::default();
    probe.slow_calls(A, Duration::from_millis(200));
    let list = Publisher::new("s");
    list.publish(instances(&[A]));
    let endpointer = DefaultEndpointer::new(list.clone(), probe.factory());
    until_ready(&endpointer, &[A]).await;
    assert_eq!(member(&endpointer, A).latency(Instant::now()), None);
    Balanced::new(endpointer.clone(), RoundRobin::new()).ask("").await.unwrap();
    list.publish([instance(A).with_weight(7)]);
    endpointer.endpoints().wait_for(|set| set.ready()[0].instance().weight() == 7).await;
    let latency = member(&endpointer, A).latency(Instant::now()).unwrap();
    assert!((latency - 0.2).abs() < 0.002, "{latency}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_never_a_low_latency() {
    let probe = Probe::default();
    probe.fail_calls(A);
    let (balanced, endpointer) = balanced(DefaultEndpointer::builder(), &probe, &[A]).await;
    balanced.ask("").await.unwrap_err();
    let latency = member(&endpointer, A).latency(Instant::now()).unwrap();
    assert!(latency > 4.9, "{latency}");
}

#[tokio::test(start_paused = true)]
async fn a_lone_failure_weighs_little_and_three_in_a_row_are_believed() {
    let member = Member::detached(instance(A));
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let call = |began: u64, took: u64, outcome| {
        member.begin_at(at(began)).finish_at(outcome, at(began + took));
        member.latency(at(began + took)).unwrap()
    };
    // 50 calls a second, of which 1 % fail: 1 % of the penalty is added, by and by.
    let mut latency = 0.0;
    for i in 0..5000 {
        let outcome = if i % 100 == 50 { Outcome::FAILURE } else { Outcome::Success };
        latency = call(i * 20, 10, outcome);
        assert!(latency < 0.08, "call {i}: {latency}");
    }
    assert!((latency - 0.06).abs() < 0.01, "{latency}");
    // From the third in a row on it is the penalty, then the double of what is known, to a minute.
    let failures = [(); 8].map(|()| call(100_000, 1, Outcome::FAILURE));
    assert!(failures[0] < 0.1 && failures[1] < 0.1, "{failures:?}");
    assert_eq!(failures[2..], [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]);
    // A success ends the row; what it took and what the server asks for count in full.
    call(200_000, 10, Outcome::Success);
    assert!(call(200_020, 1, Outcome::FAILURE) < 0.1);
    assert_eq!(call(200_040, 700, Outcome::FAILURE), 0.7);
    call(200_750, 10, Outcome::Success);
    let pushback = Outcome::Failure { pushback: Some(Duration::from_secs(9)) };
    assert_eq!(call(200_770, 1, pushback), 9.0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_is_no_failure_and_no_low_latency() {
    let probe = Probe::default();
    probe.slow_calls(A, Duration::from_secs(60));
    let (balanced, endpointer) = balanced(detecting(), &probe, &[A, B]).await;
    for _ in 0..50 {
        let call = balanced.clone().ask("");
        let _ = tokio::time::timeout(Duration::from_millis(300), call).await;
    }
    settle().await;
    assert_eq!(ready(&endpointer), [A, B], "nobody is ejected");
    // It takes at least as long as the callers waited; one that leaves at once says nothing.
    let latency = member(&endpointer, A).latency(Instant::now()).unwrap();
    assert!((0.29..0.31).contains(&latency), "{latency}");
    for _ in 0..10 {
        drop(balanced.clone().ask(""));
    }
    let after = member(&endpointer, A).latency(Instant::now()).unwrap();
    assert!(after > 0.29, "{after}");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_misses_our_own_deadline_has_failed() {
    let probe = Probe::default();
    probe.slow_calls(A, Duration::from_secs(60));
    let (balanced, endpointer) = balanced(detecting(), &probe, &[A, B]).await;
    let per_attempt =
        Retry::new(2, Duration::from_secs(5)).per_attempt_timeout(Duration::from_millis(100));
    let client = per_attempt.layer(balanced.clone());
    for _ in 0..10 {
        assert_eq!(client.clone().ask("").await.unwrap(), B);
    }
    settle().await;
    assert_eq!(ready(&endpointer), [B]);
    // The deadline of the whole call counts as well.
    let probe = Probe::default();
    probe.slow_calls(A, Duration::from_secs(60));
    let (balanced, endpointer) = self::balanced(detecting(), &probe, &[A, B]).await;
    let client = Retry::new(1, Duration::from_millis(100)).layer(balanced);
    for _ in 0..10 {
        let _ = client.clone().ask("").await;
    }
    settle().await;
    assert_eq!(ready(&endpointer), [B]);
}

#[tokio::test(start_paused = true)]
async fn what_fails_five_times_in_a_row_is_ejected_and_comes_back_by_one_call() {
    let probe = Probe::default();
    probe.fail_calls(B);
    let (balanced, endpointer) = balanced(detecting(), &probe, &[A, B, C]).await;
    for _ in 0..15 {
        let _ = balanced.clone().ask("").await;
    }
    settle().await;
    assert_eq!(ready(&endpointer), [A, C]);
    assert_eq!(probe.calls(B), 5);
    for _ in 0..100 {
        balanced.clone().ask("").await.unwrap();
    }
    assert_eq!(probe.calls(B), 5, "it gets no calls");
    // It hangs now: after 5 s one call goes there, and only one.
    probe.heal_calls(B);
    probe.slow_calls(B, Duration::from_secs(2));
    endpointer.endpoints().wait_for(|set| set.ready().len() == 3).await;
    let before = Instant::now();
    let calls: Vec<_> = (0..30).map(|_| tokio::spawn(balanced.clone().ask(""))).collect();
    settle().await;
    assert_eq!(probe.calls(B), 6, "one call tries it");
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert!(before.elapsed() < Duration::from_secs(3));
    probe.slow_calls(B, Duration::ZERO);
    for _ in 0..30 {
        balanced.clone().ask("").await.unwrap();
    }
    assert_eq!(probe.calls(B), 16, "it is back");
}

#[tokio::test(start_paused = true)]
async fn a_balancer_that_insists_is_kept_away_from_an_endpoint_that_proves_itself() {
    #[derive(Debug)]
    struct Second;
    impl Balancer for Second {
        fn pick(&self, set: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
            Some(1.min(set.len() - 1))
        }
    }
    let probe = Probe::default();
    probe.fail_calls(B);
    let list = FixedInstancer::new("s", instances(&[A, B]));
    let endpointer = detecting().build(list, probe.factory());
    until_ready(&endpointer, &[A, B]).await;
    let balanced = Balanced::new(endpointer.clone(), Second);
    for _ in 0..5 {
        balanced.clone().ask("").await.unwrap_err();
    }
    settle().await;
    endpointer.endpoints().wait_for(|set| set.ready().len() == 2).await;
    probe.heal_calls(B);
    probe.slow_calls(B, Duration::from_secs(1));
    let first = tokio::spawn(balanced.clone().ask(""));
    settle().await;
    assert_eq!(balanced.clone().ask("").await.unwrap(), A);
    assert_eq!(first.await.unwrap().unwrap(), B);
    assert_eq!(balanced.ask("").await.unwrap(), B);
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_the_last_ones_are_used() {
    let probe = Probe::default();
    [A, B, C].iter().for_each(|address| probe.fail_calls(address));
    let all = OutlierDetection::default().with_max_ejected(1.0);
    let builder = DefaultEndpointer::builder().outlier_detection(all);
    let (balanced, endpointer) = balanced(builder, &probe, &[A, B, C]).await;
    for _ in 0..30 {
        let _ = balanced.clone().ask("").await;
    }
    settle().await;
    assert!(endpointer.endpoints().load().is_panicking(), "one of three is less than half");
    assert_eq!(ready(&endpointer), [A, B, C]);
    let never = DefaultEndpointer::builder()
        .outlier_detection(OutlierDetection::default().with_max_ejected(1.0))
        .panic_threshold(0.0);
    let (balanced, endpointer) = self::balanced(never, &probe, &[A, B, C]).await;
    for _ in 0..30 {
        let _ = balanced.clone().ask("").await;
    }
    settle().await;
    assert_eq!(ready(&endpointer).len(), 1, "never the last one");
    assert_eq!(endpointer.endpoints().load().ready().not_ready().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_ejection_survives_a_change_of_weight_and_ends_with_the_instance() {
    let probe = Probe::default();
    probe.fail_calls(B);
    let list = Publisher::new("s");
    list.publish(instances(&[A, B, C]));
    let endpointer = detecting().build(list.clone(), probe.factory());
    until_ready(&endpointer, &[A, B, C]).await;
    let balanced = Balanced::new(endpointer.clone(), RoundRobin::new());
    for _ in 0..15 {
        let _ = balanced.clone().ask("").await;
    }
    settle().await;
    assert_eq!(ready(&endpointer), [A, C]);
    list.publish([instance(A), instance(B).with_weight(9), instance(C)]);
    settle().await;
    assert_eq!(ready(&endpointer), [A, C]);
    list.publish(instances(&[A, C]));
    settle().await;
    list.publish(instances(&[A, B, C]));
    until_ready(&endpointer, &[A, B, C]).await;
}

/// Says which set it was asked to prepare, and whether a pick sees the same one.
#[derive(Debug)]
struct Sized;

impl Balancer for Sized {
    fn pick(&self, set: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
        assert_eq!(set.prepared::<usize>(), Some(&set.len()));
        Some(0)
    }

    fn prepare(&self, set: &ReadySet<'_>) -> Option<Prepared> {
        Some(Box::new(set.len()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_pick_sees_what_was_prepared_for_just_this_set() {
    let probe = Probe::default();
    let list = Publisher::new("s");
    list.publish(instances(&[A]));
    let endpointer = DefaultEndpointer::new(list.clone(), probe.factory());
    until_ready(&endpointer, &[A]).await;
    // One that comes late, and two over the same endpoints.
    let (one, two) = (
        Balanced::new(endpointer.clone(), Sized),
        Balanced::new(endpointer.clone(), Box::new(Sized)),
    );
    let plain = Balanced::new(endpointer.clone(), RoundRobin::new());
    for addresses in [&[A][..], &[A, B], &[A, B, C], &[C]] {
        list.publish(instances(addresses));
        until_ready(&endpointer, addresses).await;
        for client in [&one, &two, &plain] {
            client.clone().ask("").await.unwrap();
        }
    }
    drop(one);
    list.publish(instances(&[A, B]));
    until_ready(&endpointer, &[A, B]).await;
    assert!(two.pick(&"").is_some());
}

/// Compares what it is told of a set's weights with what they are.
#[derive(Debug)]
struct Weighs;

impl Balancer for Weighs {
    fn pick(&self, set: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
        let told: &Option<u32> = set.prepared().expect("it was prepared");
        assert_eq!(*told, ReadySet::new(set.members()).even_weight(), "{set:?}");
        Some(0)
    }

    fn prepare(&self, set: &ReadySet<'_>) -> Option<Prepared> {
        Some(Box::new(set.even_weight()))
    }
}

#[tokio::test(start_paused = true)]
async fn whether_weights_are_even_is_known_after_any_change() {
    let probe = Probe::default();
    let list = Publisher::new("s");
    let endpointer = DefaultEndpointer::new(list.clone(), probe.factory());
    let balanced = Balanced::new(endpointer.clone(), Weighs);
    let mut rng = fastrand::Rng::with_seed(7);
    let mut even = 0;
    for _ in 0..200 {
        let weights = rng.u32(2..5);
        let some: Vec<_> = (0..rng.usize(1..8))
            .map(|_| {
                let address = format!("10.0.0.{}:80", rng.u8(1..9));
                instance(&address).with_weight(rng.u32(1..weights))
            })
            .collect();
        let kept: BTreeMap<_, _> = some.into_iter().map(|one| (one.id().clone(), one)).collect();
        let wanted: Vec<_> = kept.into_values().collect();
        list.publish(wanted.clone());
        let is_there = |set: &EndpointSet<Probed>| {
            let ready = set.ready().iter().map(|member| &**member.instance());
            ready.eq(&wanted)
        };
        let there = tokio::time::timeout(
            Duration::from_secs(60),
            endpointer.endpoints().wait_for(is_there),
        )
        .await;
        assert!(there.is_ok(), "{wanted:?} {:?}", endpointer.endpoints().load());
        assert!(balanced.pick(&"").is_some());
        even += u32::from(endpointer.endpoints().load().ready().even_weight().is_some());
    }
    assert!((20..180).contains(&even), "{even}");
}

/// Answers are statuses, and streams end when they are dropped.
#[derive(Clone, Debug)]
struct ByText;

impl Observer<String> for ByText {
    type Observed = String;

    fn response(&self, text: String, call: InFlight) -> String {
        call.finish(if text == A { Outcome::FAILURE } else { Outcome::Success });
        text
    }

    fn error(&self, _: &BoxError) -> Outcome {
        Outcome::Ignored
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_decides_what_a_failure_is() {
    let probe = Probe::default();
    probe.fail_calls(C);
    let list = FixedInstancer::new("s", instances(&[A, B, C]));
    let endpointer = detecting().build(list, probe.factory());
    until_ready(&endpointer, &[A, B, C]).await;
    let observed =
        Balanced::builder().observer(ByText).build(endpointer.clone(), RoundRobin::starting_at(0));
    for _ in 0..60 {
        let _ = observed.clone().ask("").await;
    }
    settle().await;
    assert_eq!(ready(&endpointer), [B, C], "A answers, and its answers are failures");
    assert_eq!(member(&endpointer, C).latency(Instant::now()), None, "an error that says nothing");
}

#[tokio::test(start_paused = true)]
async fn lookups_reach_the_balancer() {
    #[derive(Debug)]
    struct ByName;
    impl Balancer for ByName {
        fn pick(&self, set: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
            let wanted = context.attribute("instance")?;
            set.iter().position(|member| member.instance().id().as_str().as_bytes() == wanted)
        }
    }
    let probe = Probe::default();
    let (_, endpointer) = balanced(DefaultEndpointer::builder(), &probe, &[A, B]).await;
    let balanced = Balanced::builder()
        .lookup(|request, name| {
            let text: &&'static str = request.downcast_ref()?;
            Some(text.strip_prefix(name)?.strip_prefix('=')?.as_bytes())
        })
        .build(endpointer, ByName);
    assert_eq!(balanced.clone().ask("instance=10.0.0.2:80").await.unwrap(), B);
    balanced.ask("nothing").await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn the_length_of_a_stream_that_breaks_is_no_latency() {
    let member = Member::detached(instance(A));
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut stream = member.begin_at(at(0));
    stream.answered_at(at(1));
    stream.finish_at(Outcome::FAILURE, at(3600));
    let latency = member.latency(at(3600)).unwrap();
    assert!(latency < 5.1, "{latency}");
}

/// Cannot prepare anything.
#[derive(Debug)]
struct PanicsAtWork(RoundRobin, std::sync::atomic::AtomicBool);

impl Balancer for PanicsAtWork {
    fn pick(&self, endpoints: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        self.0.pick(endpoints, context)
    }

    fn prepare(&self, _: &ReadySet<'_>) -> Option<Prepared> {
        assert!(!self.1.load(std::sync::atomic::Ordering::Relaxed), "as it must");
        None
    }
}

#[tokio::test(start_paused = true)]
async fn a_balancer_that_panics_while_it_prepares_does_not_stop_the_endpointer() {
    let probe = Probe::default();
    let list = Publisher::new("s");
    list.publish(instances(&[A]));
    let endpointer = DefaultEndpointer::new(list.clone(), probe.factory());
    until_ready(&endpointer, &[A]).await;
    let balancer = std::sync::Arc::new(PanicsAtWork(RoundRobin::new(), false.into()));
    let balanced = Balanced::new(endpointer.clone(), balancer.clone());
    balancer.1.store(true, std::sync::atomic::Ordering::Relaxed);
    list.publish(instances(&[B]));
    let moved = endpointer
        .endpoints()
        .wait_for(|set| set.ready().iter().any(|m| m.instance().id().as_str() == B));
    tokio::time::timeout(Duration::from_secs(60), moved).await.expect("it goes on");
    assert_eq!(balanced.ask("").await.unwrap(), B);
}
