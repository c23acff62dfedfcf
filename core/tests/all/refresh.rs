//! A polled registry is asked again when connections fail; and what it says of the service as a whole.

use std::sync::Arc;
use std::time::Duration;

use fleetward_core::discovery::{FixedInstancer, InstancerExt, Publisher, ReflectorConfig};
use fleetward_core::endpoints::Readiness;
use fleetward_core::model::ServiceSettings;
use fleetward_core::{
    BoxError, DefaultEndpointer, Error, ErrorKind, Factory, Instance, Instancer, Subscription,
};
use tokio::time::{Instant, timeout};

use crate::fake_source::{FakeSource, entries, ids, is_fresh, reflect, reflect_with};
use crate::support::settle;

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";
const INTERVAL: Duration = Duration::from_secs(5);

async fn polled(addresses: &[&str]) -> (Arc<FakeSource>, Subscription) {
    let source = FakeSource::of(addresses);
    source.is_polled_from_now_on();
    let mut subscription = reflect(&source).subscribe();
    subscription.wait_for(is_fresh).await.unwrap();
    (source, subscription)
}

#[tokio::test(start_paused = true)]
async fn a_hint_makes_a_polled_registry_tell_its_set_at_once() {
    let (source, mut subscription) = polled(&[A]).await;
    tokio::time::sleep(INTERVAL).await;
    source.will_list(entries(&[B]));
    let before = Instant::now();
    subscription.refresh();
    let next = subscription.changed().await.unwrap();
    assert_eq!(ids(&next), [B], "one missing entry is one delete seen, as in a watch");
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert!(source.is_watched(), "and it is watched on");
    assert_eq!(source.lists(), 2);
}

#[tokio::test(start_paused = true)]
async fn hints_are_answered_once_in_the_interval_and_none_is_lost() {
    let (source, subscription) = polled(&[A]).await;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(21) {
        subscription.refresh();
        // News comes in between, which must not make it forget.
        source.full(entries(&[A]));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let lists = source.listed_at();
    assert_eq!(lists.len(), 5, "the first, and one each 5 s: {lists:?}");
    assert!(lists.windows(2).all(|pair| pair[1] - pair[0] >= INTERVAL), "{lists:?}");
    // The last hint came after the last list.
    tokio::time::sleep(INTERVAL).await;
    assert_eq!(source.lists(), 6);
    tokio::time::sleep(INTERVAL * 10).await;
    assert_eq!(source.lists(), 6, "without a hint it is not asked");
}

#[tokio::test(start_paused = true)]
async fn one_that_tells_each_change_is_not_asked() {
    let source = FakeSource::of(&[A]);
    let mut subscription = reflect(&source).subscribe();
    subscription.wait_for(is_fresh).await.unwrap();
    subscription.refresh();
    tokio::time::sleep(INTERVAL * 3).await;
    assert_eq!(source.lists(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hint_does_not_shorten_the_backoff_of_a_registry_that_fails() {
    let (source, subscription) = polled(&[A]).await;
    source.go_down();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(60) {
        subscription.refresh();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Full jitter up to 10 s: far fewer than a list each 50 ms.
    assert!(source.lists() < 60, "{}", source.lists());
    assert!(subscription.current().freshness.is_stale());
}

#[tokio::test(start_paused = true)]
async fn a_set_that_vanishes_in_bulk_is_held_also_when_it_was_asked_for() {
    let (source, mut subscription) = polled(&[A, B]).await;
    source.will_list(Vec::new());
    subscription.refresh();
    let next = subscription.changed().await.unwrap();
    assert_eq!(ids(&next), [A, B]);
    assert_eq!(next.freshness.error().unwrap().kind(), ErrorKind::Implausible);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_hears_the_hint_also_through_a_view() {
    let list = Publisher::new("greeter");
    let view = list.clone().view("zone=eu".parse::<fleetward_core::discovery::Filter>().unwrap());
    let (one, two) = (view.subscribe(), list.subscribe());
    one.refresh();
    two.refresh();
    two.clone().refresh();
    timeout(Duration::from_secs(1), list.refresh_requested()).await.expect("heard");
    let again = timeout(Duration::from_secs(1), list.refresh_requested()).await;
    assert!(again.is_err(), "hints that nobody waited for are one");
}

/// The service of an instance, with the line by which a test says how its connection does.
type Line = tokio::sync::mpsc::UnboundedSender<Readiness>;

struct Lines(Line);

#[async_trait::async_trait]
impl Factory<()> for Lines {
    async fn make(&self, _: &Arc<Instance>, readiness: Readiness) -> Result<(), Error> {
        self.0.send(readiness).map_err(|_| Error::new(ErrorKind::Closed, "the test is over"))
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpointer_asks_when_a_connection_begins_to_fail() {
    let list = Publisher::new("greeter");
    list.publish([Instance::new(A).unwrap()]);
    let (line, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let _endpointer = DefaultEndpointer::new(list.clone(), Lines(line));
    let readiness = lines.recv().await.unwrap();
    let heard =
        || async { timeout(Duration::from_secs(1), list.refresh_requested()).await.is_ok() };
    assert!(!heard().await, "all is well");
    readiness.set_connecting();
    assert!(!heard().await, "a connection is being made");
    readiness.set_failed(Error::new(ErrorKind::Unavailable, "connection refused"));
    assert!(heard().await);
    assert!(!heard().await, "it failed once");
    readiness.set_connecting();
    settle().await;
    readiness.set_failed(Error::new(ErrorKind::Unavailable, "connection refused"));
    assert!(heard().await, "the next try has failed");
    readiness.set_ready();
    assert!(!heard().await);
}

#[tokio::test(start_paused = true)]
async fn an_endpointer_asks_when_a_factory_fails() {
    let list = Publisher::new("greeter");
    list.publish([Instance::new(A).unwrap()]);
    let fails = |_: Arc<Instance>| async { Err::<(), _>(BoxError::from("no such host")) };
    let _endpointer = DefaultEndpointer::new(list.clone(), fails);
    timeout(Duration::from_secs(1), list.refresh_requested()).await.expect("heard");
}

#[tokio::test(start_paused = true)]
async fn settings_of_the_service_reach_its_readers_and_wake_them() {
    let source = FakeSource::of(&[A]);
    source.is_polled_from_now_on();
    let ring =
        ServiceSettings::default().with_balancer("ring_hash?key=user").with_max_concurrency(8);
    source.will_say(Some(ring.clone()));
    let reflector = reflect_with(&source, ReflectorConfig::default());
    let mut subscription = reflector.subscribe();
    let first = subscription.wait_for(is_fresh).await.unwrap();
    assert_eq!(first.settings.as_deref(), Some(&ring));
    let mut viewed = reflector.clone().view(|all: &[Arc<Instance>]| all.to_vec()).subscribe();
    assert_eq!(viewed.current().settings.as_deref(), Some(&ring));
    viewed.wait_for(is_fresh).await.unwrap();
    // The same again wakes nobody; other ones do, although the instances are the same.
    tokio::time::sleep(INTERVAL).await;
    subscription.refresh();
    assert!(timeout(INTERVAL * 2, subscription.changed()).await.is_err());
    source.will_say(None);
    subscription.refresh();
    let next = subscription.changed().await.unwrap();
    assert_eq!(next.settings, None);
    assert_eq!(ids(&next), [A]);
    assert_eq!(viewed.changed().await.unwrap().settings, None);
    assert_eq!(FixedInstancer::new("s", []).subscribe().current().settings, None);
}
