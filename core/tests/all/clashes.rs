//! One instance under two keys, and one id at two addresses.

use std::time::Duration;

use fleetward_balancers::RoundRobin;
use fleetward_core::discovery::{Entry, KeyChange, Publisher};
use fleetward_core::outlier::OutlierDetection;
use fleetward_core::{
    Balanced, DefaultEndpointer, Endpointer, Health, Instance, Instancer, Retry, Snapshot,
};
use tokio::time::{sleep, timeout};
use tower::Layer;

use crate::fake_source::{FakeSource, is_fresh, reflect};
use crate::support::{AskExt as _, Probe, Probed, instance, settle};

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";
const MINUTE: Duration = Duration::from_secs(60);

fn named(id: &str, address: &str) -> Instance {
    instance(address).with_id(id).unwrap()
}

fn entry(key: &str, instance: Instance, revision: u64) -> Entry {
    Entry::new(key, Ok(instance)).with_revision(revision)
}

fn weights(snapshot: &Snapshot) -> Vec<(String, u32)> {
    let all = snapshot.instances.iter();
    all.map(|one| (one.address().to_string(), one.weight())).collect()
}

#[tokio::test(start_paused = true)]
async fn of_two_entries_of_one_instance_the_healthier_counts_then_the_newer() {
    let well = |weight| named("web", A).with_weight(weight).with_health(Health::Healthy);
    let degraded = named("web", A).with_weight(9).with_health(Health::Degraded);
    let drained = named("web", A).with_weight(0).with_health(Health::Unhealthy);
    for (one, other, expected) in [
        // What draws no calls, under the smaller key and the newer, hides nothing.
        ((drained.clone(), 9), (well(3), 1), 3),
        ((degraded.clone(), 9), (well(3), 1), 3),
        ((drained.clone(), 1), (degraded, 1), 9),
        ((well(3), 1), (well(4), 2), 4),
        ((well(3), 2), (well(4), 1), 3),
        ((well(3), 1), (well(4), 1), 3),
        ((drained.clone(), 1), (drained, 2), 0),
    ] {
        for (first, second) in [((&one, "1"), (&other, "2")), ((&other, "2"), (&one, "1"))] {
            let source = FakeSource::of(&[]);
            let make =
                |(given, key): (&(Instance, u64), &str)| entry(key, given.0.clone(), given.1);
            source.will_list(vec![make(first)]);
            let mut subscription = reflect(&source).subscribe();
            subscription.wait_for(is_fresh).await.unwrap();
            sleep(Duration::from_secs(1)).await;
            source.put(make(second));
            sleep(Duration::from_secs(1)).await;
            let both = subscription.current();
            assert_eq!(weights(&both), [(A.to_owned(), expected)], "{one:?} {other:?}");
            // Seen again and again it is the same, and tells nobody.
            for _ in 0..5 {
                source.full(vec![make(second), make(first)]);
                source.put(make(first));
                sleep(Duration::from_secs(1)).await;
            }
            assert_eq!(subscription.current().revision, both.revision, "no flapping");
            source.delete(first.1);
            sleep(Duration::from_secs(1)).await;
            let left = (second.0).0.weight();
            assert_eq!(weights(&subscription.current()), [(A.to_owned(), left)]);
        }
    }
}

/// Waits until so many can be picked.
async fn until(endpointer: &impl Endpointer<Probed>, ready: usize) {
    let reached = endpointer.endpoints().wait_for(|set| set.ready().len() == ready);
    assert!(timeout(MINUTE, reached).await.is_ok(), "{ready}: {:?}", endpointer.endpoints());
}

#[tokio::test(start_paused = true)]
async fn one_id_at_two_addresses_is_two_endpoints_that_come_and_go_alone() {
    let source = FakeSource::of(&[]);
    source.will_list(vec![entry("k1", named("web", A), 1)]);
    let probe = Probe::default();
    let endpointer = DefaultEndpointer::new(reflect(&source), probe.factory());
    until(&endpointer, 1).await;
    sleep(Duration::from_secs(1)).await;
    for _ in 0..3 {
        source.put(entry("k2", named("web", B), 2));
        until(&endpointer, 2).await;
        sleep(Duration::from_secs(1)).await;
        source.put(entry("k1", named("web", A).with_weight(7), 3));
        let heavier = |m: &fleetward_core::endpoints::Member| m.instance().weight() == 7;
        let heavy = endpointer.endpoints().wait_for(|set| set.ready().iter().any(heavier));
        timeout(MINUTE, heavy).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        source.emit(Ok(fleetward_core::discovery::Change::Keys {
            changes: vec![KeyChange::Delete("k2".into())],
            cursor: 0,
        }));
        until(&endpointer, 1).await;
        settle().await;
        assert_eq!(probe.live(), [A]);
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((probe.made(A), probe.made(B)), (1, 3), "neither touches the other");
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_a_dead_process_left_does_not_hide_the_living_one() {
    let list = Publisher::new("s");
    list.publish([named("web", A), named("web", B)]);
    let probe = Probe::default();
    let endpointer = DefaultEndpointer::builder()
        .outlier_detection(OutlierDetection::default())
        .build(list, probe.factory());
    until(&endpointer, 2).await;
    probe.fail_calls(A);
    let balanced = Balanced::new(endpointer, RoundRobin::new());
    for _ in 0..100 {
        let retry = Retry::new(2, Duration::from_secs(5)).layer(balanced.clone());
        assert_eq!(retry.ask("").await.unwrap(), B, "the retry goes to the other one");
    }
    assert!(probe.calls(A) < 60, "{}", probe.calls(A));
}
