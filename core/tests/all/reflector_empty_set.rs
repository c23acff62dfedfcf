//! The empty-set policy: what vanishes in bulk is held, what is deleted one by one is not.

use std::time::Duration;

use fleetward_core::discovery::{EmptySetPolicy, ReflectorConfig};
use fleetward_core::{DefaultEndpointer, ErrorKind, Instancer, Subscription};
use tokio::time::{Instant, sleep};

use crate::fake_source::{FakeSource, entries, ids, is_fresh, reflect, reflect_with};
use crate::support::{Probe, ready, until_ready};

const ALL: [&str; 5] = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80", "10.0.0.5:80"];
const MINUTE: Duration = Duration::from_secs(60);

fn policy(policy: EmptySetPolicy) -> ReflectorConfig {
    ReflectorConfig::default().with_empty_set(policy)
}

async fn until_fresh(subscription: &mut Subscription) {
    subscription.wait_for(is_fresh).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_empty_list_is_held_for_a_minute_and_then_honoured() {
    let source = FakeSource::of(&ALL);
    let mut subscription = reflect(&source).subscribe();
    until_fresh(&mut subscription).await;
    source.will_list(Vec::new());
    source.end_watch();
    let from = Instant::now();
    let held = subscription.changed().await.unwrap();
    assert_eq!(ids(&held), ALL);
    let error = held.freshness.error().unwrap();
    assert!(error.message().contains("empty-set policy holds them for 60s"), "{error}");
    assert_eq!(error.context("held"), Some("5"));

    // A second empty list does not move the deadline.
    sleep(MINUTE / 2).await;
    source.end_watch();
    let gone = subscription.wait_for(|snapshot| snapshot.instances.is_empty()).await.unwrap();
    let held_for = from.elapsed();
    assert!(held_for >= MINUTE && held_for < MINUTE + Duration::from_millis(100), "{held_for:?}");
    assert!(is_fresh(&gone), "{gone:?}");
}

#[tokio::test(start_paused = true)]
async fn a_mass_drop_is_held_and_what_is_seen_again_is_live() {
    let source = FakeSource::of(&ALL);
    let mut subscription = reflect(&source).subscribe();
    until_fresh(&mut subscription).await;
    source.will_list(entries(&ALL[..2]));
    source.end_watch();
    let held = subscription.changed().await.unwrap();
    assert_eq!((ids(&held), held.freshness.is_stale()), (ALL.to_vec(), true));
    for entry in entries(&ALL[2..4]) {
        source.put(entry);
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(subscription.current().freshness.error().unwrap().context("held"), Some("1"));
    source.put(entries(&ALL[4..]).remove(0));
    until_fresh(&mut subscription).await;
    sleep(2 * MINUTE).await;
    assert_eq!(ids(&subscription.current()), ALL, "none of them has a deadline any more");
}

#[tokio::test(start_paused = true)]
async fn half_of_the_set_may_go_in_one_list() {
    let source = FakeSource::of(&ALL[..4]);
    let mut subscription = reflect(&source).subscribe();
    until_fresh(&mut subscription).await;
    source.will_list(entries(&ALL[..2]));
    source.end_watch();
    let next = subscription.changed().await.unwrap();
    assert_eq!((ids(&next), is_fresh(&next)), (ALL[..2].to_vec(), true));
}

#[tokio::test(start_paused = true)]
async fn deletes_seen_one_by_one_reach_zero_at_once() {
    let source = FakeSource::of(&ALL);
    let mut subscription = reflect(&source).subscribe();
    until_fresh(&mut subscription).await;
    sleep(Duration::from_secs(1)).await;
    let before = Instant::now();
    ALL.iter().for_each(|key| source.delete(key));
    let empty = subscription.wait_for(|snapshot| snapshot.instances.is_empty()).await.unwrap();
    assert!(is_fresh(&empty));
    assert!(before.elapsed() <= Duration::from_millis(51));
}

#[tokio::test(start_paused = true)]
async fn complete_sets_that_lose_one_entry_at_a_time_reach_zero_at_once() {
    let source = FakeSource::of(&ALL);
    let mut subscription = reflect(&source).subscribe();
    until_fresh(&mut subscription).await;
    for left in (0..ALL.len()).rev() {
        source.full(entries(&ALL[..left]));
        let next = subscription.changed().await.unwrap();
        assert_eq!((ids(&next), is_fresh(&next)), (ALL[..left].to_vec(), true));
    }
}

#[tokio::test(start_paused = true)]
async fn a_complete_set_that_loses_all_at_once_is_held() {
    let source = FakeSource::of(&ALL);
    let mut subscription = reflect(&source).subscribe();
    until_fresh(&mut subscription).await;
    source.full(Vec::new());
    let held = subscription.changed().await.unwrap();
    assert_eq!((ids(&held), held.freshness.is_stale()), (ALL.to_vec(), true));
}

#[tokio::test(start_paused = true)]
async fn a_single_instance_that_a_new_list_lacks_is_held() {
    let source = FakeSource::of(&ALL[..1]);
    let mut subscription = reflect(&source).subscribe();
    until_fresh(&mut subscription).await;
    source.will_list(Vec::new());
    source.end_watch();
    let held = subscription.changed().await.unwrap();
    assert_eq!((ids(&held), held.freshness.is_stale()), (ALL[..1].to_vec(), true));
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_is_seen_ends_a_hold() {
    let source = FakeSource::of(&ALL[..2]);
    let mut subscription = reflect(&source).subscribe();
    until_fresh(&mut subscription).await;
    source.will_list(Vec::new());
    source.end_watch();
    subscription.changed().await.unwrap();
    source.delete(ALL[0]);
    source.delete(ALL[1]);
    let gone = subscription.wait_for(is_fresh).await.unwrap();
    assert!(gone.instances.is_empty());
}

#[tokio::test(start_paused = true)]
async fn hold_holds_for_ever_and_honour_not_at_all() {
    let source = FakeSource::of(&ALL);
    let mut hold = reflect_with(&source, policy(EmptySetPolicy::Hold)).subscribe();
    until_fresh(&mut hold).await;
    source.will_list(Vec::new());
    source.end_watch();
    sleep(Duration::from_secs(24 * 3600)).await;
    assert_eq!(ids(&hold.current()), ALL);
    assert!(hold.current().freshness.is_stale());

    let source = FakeSource::of(&ALL);
    let mut honour = reflect_with(&source, policy(EmptySetPolicy::Honour)).subscribe();
    until_fresh(&mut honour).await;
    source.will_list(Vec::new());
    source.end_watch();
    let empty = honour.changed().await.unwrap();
    assert!(empty.instances.is_empty() && is_fresh(&empty));
}

#[tokio::test(start_paused = true)]
async fn the_first_list_is_believed_even_if_it_is_empty() {
    let source = FakeSource::of(&[]);
    let mut subscription = reflect(&source).subscribe();
    let first = subscription.wait_for(is_fresh).await.unwrap();
    assert!(first.instances.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_hold_does_not_end_while_the_registry_is_down() {
    let source = FakeSource::of(&ALL);
    let mut subscription = reflect(&source).subscribe();
    until_fresh(&mut subscription).await;
    source.will_list(Vec::new());
    source.end_watch();
    subscription.changed().await.unwrap();
    source.go_down();
    sleep(10 * MINUTE).await;
    assert_eq!(ids(&subscription.current()), ALL, "an outage never changes the set");
    source.will_list(entries(&ALL[..3]));
    let after = subscription.wait_for(is_fresh).await.unwrap();
    assert_eq!(ids(&after), ALL[..3], "the list that ends the outage decides");
}

#[tokio::test(start_paused = true)]
async fn what_is_held_stays_within_the_limit() {
    let source = FakeSource::of(&ALL);
    let config = policy(EmptySetPolicy::Hold).with_max_instances(5);
    let mut subscription = reflect_with(&source, config).subscribe();
    until_fresh(&mut subscription).await;
    for generation in 1..20 {
        let addresses: Vec<_> = (0..5).map(|i| format!("10.0.{generation}.{i}:80")).collect();
        let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
        source.full(entries(&addresses));
        sleep(Duration::from_secs(1)).await;
        assert!(subscription.current().instances.len() <= 10);
    }
}

/// `invalidate_on_error` gives up on a registry that cannot be asked. One that was asked, and is
/// doubted, is no reason to drop the instances that it has just confirmed.
#[tokio::test(start_paused = true)]
async fn what_is_held_does_not_count_as_an_error_of_the_registry() {
    let source = FakeSource::of(&ALL);
    let reflector = reflect_with(&source, policy(EmptySetPolicy::Hold));
    let mut subscription = reflector.subscribe();
    let builder = DefaultEndpointer::builder().invalidate_on_error(MINUTE / 6);
    let endpointer = builder.build(reflector, Probe::default().factory());
    until_ready(&endpointer, &ALL).await;
    source.will_list(entries(&ALL[..2]));
    source.end_watch();
    let held = subscription.wait_for(|snapshot| snapshot.freshness.is_stale()).await.unwrap();
    assert_eq!(held.freshness.error().unwrap().kind(), ErrorKind::Implausible);
    sleep(MINUTE).await;
    assert_eq!(ready(&endpointer).len(), 5);
    source.go_down();
    sleep(MINUTE).await;
    assert!(ready(&endpointer).is_empty(), "an error counts even while some are held");
}
