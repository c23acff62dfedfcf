//! The reflector: what it publishes, and what it does when the registry misbehaves.

use std::sync::Arc;
use std::time::Duration;

use fleetward_core::discovery::{
    Change, Entry, KeyChange, Listing, Reflector, ReflectorConfig, Source,
};
use fleetward_core::{Error, ErrorKind, Freshness, Instancer, ServiceName};
use futures::{Stream, StreamExt, stream};
use tokio::time::{Instant, advance, sleep, timeout};

use crate::fake_source::{
    FakeSource, down, entries, entry, greeter, ids, is_fresh, reflect, reflect_with, unreadable,
};
use crate::support::{instance, settle};

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";
const C: &str = "10.0.0.3:80";

fn cursor_lost() -> Error {
    Error::new(ErrorKind::CursorLost, "compacted")
}

#[tokio::test(start_paused = true)]
async fn go_kit_case_5_the_snapshot_on_subscribing_is_sorted_and_changes_notify() {
    let source = FakeSource::of(&[C, A, B]);
    let mut subscription = reflect(&source).subscribe();
    let first = subscription.wait_for(is_fresh).await.unwrap();
    assert_eq!(ids(&first), [A, B, C]);
    source.delete(B);
    let next = subscription.changed().await.unwrap();
    assert_eq!(ids(&next), [A, C]);
    assert!(next.revision > first.revision);
}

#[tokio::test(start_paused = true)]
async fn go_kit_case_5_nothing_runs_after_the_last_one_unsubscribes() {
    let source = FakeSource::of(&[A]);
    let weak = Arc::downgrade(&source);
    let reflector = reflect(&source);
    let (one, two) = (reflector.subscribe(), reflector.clone().subscribe());
    settle().await;
    drop((reflector, one));
    settle().await;
    assert!(source.is_watched(), "a subscription alone keeps the watch");
    source.put(entry(B, B));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(ids(&two.current()), [A, B]);
    drop(two);
    settle().await;
    assert!(!source.is_watched());
    drop(source);
    assert!(weak.upgrade().is_none(), "the task still holds the source");
}

#[tokio::test(start_paused = true)]
async fn go_kit_case_6_each_observer_has_an_immutable_view_of_its_own() {
    let source = FakeSource::of(&[A]);
    let reflector = reflect(&source);
    let (mut one, mut two) = (reflector.subscribe(), reflector.subscribe());
    let old = one.wait_for(is_fresh).await.unwrap();
    source.put(entry(B, B));
    let new = two.wait_for(|snapshot| snapshot.instances.len() == 2).await.unwrap();
    assert_eq!(ids(&old), [A], "what was handed out never changes");
    assert_eq!(ids(&new), [A, B]);
    assert_eq!(ids(&one.changed().await.unwrap()), [A, B], "the other one's reading is its own");
}

#[tokio::test(start_paused = true)]
async fn an_error_keeps_the_set_and_marks_it_stale_with_the_reason() {
    let source = FakeSource::of(&[A, B]);
    let reflector = reflect(&source);
    let mut subscription = reflector.subscribe();
    subscription.wait_for(is_fresh).await.unwrap();
    let before = Instant::now();
    source.go_down();
    let stale = subscription.changed().await.unwrap();
    assert_eq!(ids(&stale), [A, B]);
    let Freshness::Stale { since, error } = &stale.freshness else { panic!("{stale:?}") };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.context("service"), Some("greeter"));
    assert!(*since - before < Duration::from_millis(60));
    let first_since = *since;

    // Ten minutes of failures of one kind wake nobody and change nothing.
    assert!(timeout(Duration::from_secs(600), subscription.changed()).await.is_err());
    let current = subscription.current();
    assert_eq!(ids(&current), [A, B]);
    assert!(matches!(&current.freshness, Freshness::Stale { since, .. } if *since == first_since));
    assert!(reflector.last_error().is_some());

    source.will_list(entries(&[A, B]));
    let fresh = subscription.wait_for(is_fresh).await.unwrap();
    assert_eq!(ids(&fresh), [A, B]);
    assert!(Arc::ptr_eq(&fresh.instances[0], &stale.instances[0]), "an equal instance is kept");
    assert!(reflector.last_error().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_down_at_the_start_leaves_the_view_pending_with_the_reason() {
    let source = FakeSource::of(&[A]);
    source.will_fail(down());
    let reflector = reflect(&source);
    let mut subscription = reflector.subscribe();
    let pending = subscription.wait_for(|s| s.freshness.error().is_some()).await.unwrap();
    assert!(pending.freshness.is_pending());
    assert_eq!(pending.freshness.error().unwrap().message(), "connection refused");
    sleep(Duration::from_secs(60)).await;
    assert!(subscription.current().freshness.is_pending());
    assert!(source.lists() > 5, "it goes on trying");
    source.will_list(entries(&[A]));
    let waited = Instant::now();
    subscription.wait_for(is_fresh).await.unwrap();
    assert!(waited.elapsed() <= Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_never_answers_is_a_timeout() {
    let source = FakeSource::of(&[A]);
    source.will_hang();
    let config = ReflectorConfig::default().with_list_timeout(Duration::from_secs(3));
    let reflector = reflect_with(&source, config);
    sleep(Duration::from_millis(3100)).await;
    let error = reflector.last_error().unwrap();
    assert!(error.is_timeout());
    assert!(error.to_string().starts_with("list: timed out"), "{error}");
    source.will_list(entries(&[A]));
    reflector.subscribe().wait_for(is_fresh).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_once_is_followed_by_a_list_at_once_and_never_goes_stale() {
    let source = FakeSource::of(&[A, B, C]);
    let reflector = reflect(&source);
    let mut subscription = reflector.subscribe();
    subscription.wait_for(is_fresh).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    source.will_list(entries(&[A, B]));
    let before = Instant::now();
    source.end_watch();
    let next = subscription.changed().await.unwrap();
    assert!(is_fresh(&next), "{next:?}");
    assert_eq!(ids(&next), [A, B]);
    assert!(before.elapsed() < Duration::from_millis(5));
}

#[tokio::test(start_paused = true)]
async fn endless_cursor_losses_do_not_spin() {
    let source = FakeSource::of(&[A]);
    source.fail_watches(Some(cursor_lost()));
    let reflector = reflect(&source);
    sleep(Duration::from_secs(60)).await;
    let lists = source.lists();
    assert!((5..60).contains(&lists), "{lists} lists in a minute");
    assert_eq!(ids(&reflector.subscribe().current()), [A]);
    source.fail_watches(None);
    sleep(Duration::from_secs(15)).await;
    assert!(source.is_watched());
    assert!(is_fresh(&reflector.subscribe().current()));
}

#[tokio::test(start_paused = true)]
async fn a_refused_list_does_not_spin_and_keeps_trying() {
    let source = FakeSource::of(&[A]);
    source.will_fail(Error::new(ErrorKind::Unauthenticated, "bad token"));
    let _reflector = reflect(&source);
    sleep(Duration::from_secs(600)).await;
    let lists = source.lists();
    assert!((60..400).contains(&lists), "{lists} lists in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_events_a_second_are_at_most_twenty_snapshots() {
    let source = FakeSource::of(&[A]);
    let mut subscription = reflect(&source).subscribe();
    let first = subscription.wait_for(is_fresh).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    for tick in 0..1000_u32 {
        for event in 0..10 {
            let weight = tick * 10 + event + 2;
            let changed = instance(A).with_weight(weight);
            source.put(Entry::new(A, Ok(changed)));
        }
        sleep(Duration::from_millis(1)).await;
    }
    let published = subscription.current().revision - first.revision;
    assert!((15..=21).contains(&published), "{published} snapshots in a second");
    sleep(Duration::from_millis(50)).await;
    assert_eq!(subscription.current().instances[0].weight(), 10_001, "the newest one counts");
}

#[tokio::test(start_paused = true)]
async fn a_single_change_after_a_quiet_time_is_published_at_once() {
    let source = FakeSource::of(&[A]);
    let mut subscription = reflect(&source).subscribe();
    subscription.wait_for(is_fresh).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let before = Instant::now();
    source.put(entry(B, B));
    subscription.changed().await.unwrap();
    assert_eq!(before.elapsed(), Duration::ZERO);
    source.put(entry(C, C));
    subscription.changed().await.unwrap();
    assert!(before.elapsed() >= Duration::from_millis(50), "the next one waits its turn");
}

#[tokio::test(start_paused = true)]
async fn what_changes_nothing_is_not_published() {
    let source = FakeSource::of(&[A]);
    let mut subscription = reflect(&source).subscribe();
    subscription.wait_for(is_fresh).await.unwrap();
    source.put(entry(A, A));
    source.delete("never seen");
    source.full(entries(&[A]));
    source.emit(Ok(Change::Progress));
    source.end_watch();
    assert!(timeout(Duration::from_secs(5), subscription.changed()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_bad_value_is_left_out_counted_and_replaced_when_it_is_mended() {
    let source = FakeSource::of(&[]);
    source.will_list(vec![entry(A, A), unreadable("b", "no JSON"), entry(C, C)]);
    let mut subscription = reflect(&source).subscribe();
    let first = subscription.wait_for(is_fresh).await.unwrap();
    assert_eq!((ids(&first), first.skipped), (vec![A, C], 1));
    source.put(unreadable("b", "no address"));
    source.put(unreadable("d", "no JSON"));
    let worse = subscription.changed().await.unwrap();
    assert_eq!((ids(&worse), worse.skipped), (vec![A, C], 2));
    source.put(entry("b", B));
    source.delete("d");
    let mended = subscription.changed().await.unwrap();
    assert_eq!((ids(&mended), mended.skipped), (vec![A, B, C], 0));
}

#[tokio::test(start_paused = true)]
async fn a_value_that_turns_bad_keeps_the_last_good_one() {
    let source = FakeSource::of(&[A, B]);
    let mut subscription = reflect(&source).subscribe();
    subscription.wait_for(is_fresh).await.unwrap();
    source.put(unreadable(A, "half written"));
    let kept = subscription.changed().await.unwrap();
    assert_eq!((ids(&kept), kept.skipped), (vec![A, B], 1));
    source.will_list(vec![unreadable(A, "half written"), entry(B, B)]);
    source.end_watch();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(source.lists(), 2);
    assert_eq!(ids(&subscription.current()), [A, B], "and across a new list");
    source.delete(A);
    let gone = subscription.changed().await.unwrap();
    assert_eq!((ids(&gone), gone.skipped), (vec![B], 0), "a delete is a delete");
}

#[tokio::test(start_paused = true)]
async fn a_change_of_id_under_one_key_is_one_leaving_and_one_joining() {
    let source = FakeSource::of(&[]);
    source.will_list(vec![entry("slot-1", A), entry("slot-2", B)]);
    let mut subscription = reflect(&source).subscribe();
    subscription.wait_for(is_fresh).await.unwrap();
    source.put(entry("slot-1", C));
    assert_eq!(ids(&subscription.changed().await.unwrap()), [B, C]);
}

#[tokio::test(start_paused = true)]
async fn more_entries_than_the_limit_keep_the_last_known_good_set() {
    let source = FakeSource::of(&[A, B]);
    let config = ReflectorConfig::default().with_max_instances(2);
    let mut subscription = reflect_with(&source, config).subscribe();
    subscription.wait_for(is_fresh).await.unwrap();

    source.will_list(entries(&[A, B, C]));
    source.put(entry(C, C));
    let stale = subscription.changed().await.unwrap();
    assert_eq!(ids(&stale), [A, B], "neither cut off nor grown");
    let error = stale.freshness.error().unwrap();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert_eq!((error.context("entries"), error.context("limit")), (Some("3"), Some("2")));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(ids(&subscription.current()), [A, B]);

    source.will_list(entries(&[B, C]));
    let fresh = subscription.wait_for(is_fresh).await.unwrap();
    assert_eq!(ids(&fresh), [B, C]);
}

#[tokio::test(start_paused = true)]
async fn changes_of_one_transaction_are_seen_together() {
    let source = FakeSource::of(&[A]);
    let mut subscription = reflect(&source).subscribe();
    subscription.wait_for(is_fresh).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let changes = vec![KeyChange::Delete(A.into()), KeyChange::Put(entry(B, B))];
    source.emit(Ok(Change::Keys { changes, cursor: 9 }));
    assert_eq!(ids(&subscription.changed().await.unwrap()), [B]);
}

/// A source whose watch never has to wait.
struct Torrent;

impl Source for Torrent {
    type Cursor = ();

    async fn list(&self, _: &ServiceName) -> Result<Listing<()>, Error> {
        Ok(Listing::new(entries(&[A]), ()))
    }

    fn watch(
        &self,
        _: &ServiceName,
        (): (),
    ) -> impl Stream<Item = Result<Change<()>, Error>> + Send {
        stream::iter(2..).map(|weight| {
            let entry = Entry::new(A, Ok(instance(A).with_weight(weight)));
            Ok(Change::Keys { changes: vec![KeyChange::Put(entry)], cursor: () })
        })
    }
}

#[tokio::test]
async fn endless_news_hold_up_neither_publishing_nor_other_tasks_nor_the_end() {
    let config = ReflectorConfig::default();
    let reflector = Reflector::spawn(Arc::new(Torrent), greeter(), config).unwrap();
    let mut subscription = reflector.subscribe();
    for weight in [100, 1000, 2000] {
        let seen = subscription.wait_for(|s| s.instances.iter().any(|i| i.weight() > weight));
        timeout(Duration::from_secs(20), seen).await.unwrap().unwrap();
    }
    drop((reflector, subscription));
    settle().await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[test]
fn outside_a_runtime_spawning_is_an_error_and_not_a_panic() {
    let source = FakeSource::of(&[A]);
    let error = Reflector::spawn(source, greeter(), ReflectorConfig::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("tokio runtime"), "{error}");
}

#[test]
fn a_runtime_that_ends_leaves_the_last_set_marked_stale() {
    let source = FakeSource::of(&[A]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let subscription = runtime.block_on(async {
        let mut subscription = reflect(&source).subscribe();
        subscription.wait_for(is_fresh).await.unwrap();
        subscription
    });
    drop(runtime);
    let last = subscription.current();
    assert_eq!(ids(&last), [A]);
    assert_eq!(last.freshness.error().unwrap().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_loop_outlives_days_of_trouble() {
    let source = FakeSource::of(&[A]);
    let mut subscription = reflect(&source).subscribe();
    subscription.wait_for(is_fresh).await.unwrap();
    for _ in 0..50 {
        source.go_down();
        advance(Duration::from_secs(1)).await;
        sleep(Duration::from_secs(3600)).await;
        source.will_list(entries(&[A]));
        subscription.wait_for(is_fresh).await.unwrap();
        settle().await;
    }
    assert!(source.is_watched());
}
