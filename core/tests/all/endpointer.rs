//! What the endpointer promises beyond go-kit's cases.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fleetward_core::discovery::{FixedInstancer, Publisher};
use fleetward_core::endpoints::Readiness;
use fleetward_core::{DefaultEndpointer, Endpointer, Error, ErrorKind, Factory, Instance};

use crate::support::{Probe, Probed, instance, instances, ready, settle, until_ready};

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";

fn addresses(n: usize) -> Vec<Instance> {
    (0..n).map(|i| instance(&format!("10.0.{}.{}:80", i / 250, i % 250 + 1))).collect()
}

#[tokio::test(start_paused = true)]
async fn at_most_so_many_factories_run_at_once() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counter, peak) = (now.clone(), most.clone());
    let factory = move |instance: Arc<Instance>| {
        let (counter, peak) = (counter.clone(), peak.clone());
        async move {
            peak.fetch_max(counter.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(10)).await;
            counter.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, Error>(instance)
        }
    };
    let list = FixedInstancer::new("s", addresses(1000));
    let endpointer = DefaultEndpointer::new(list, factory);
    endpointer.endpoints().wait_for(|set| set.ready().len() == 1000).await;
    assert_eq!(most.load(Ordering::SeqCst), 64);
}

#[tokio::test(start_paused = true)]
async fn a_factory_that_panics_or_hangs_affects_nothing_else() {
    let probe = Probe::default();
    let make = probe.factory();
    let hung = Arc::new(AtomicUsize::new(0));
    let hangs = hung.clone();
    let factory = move |instance: Arc<Instance>| {
        let (made, hangs) = (make(instance.clone()), hangs.clone());
        async move {
            match instance.address().port() {
                1 => panic!("a bug in a factory, on purpose"),
                2 => {
                    hangs.fetch_add(1, Ordering::SeqCst);
                    std::future::pending().await
                }
                _ => made.await,
            }
        }
    };
    let list = FixedInstancer::new("s", instances(&["10.0.0.1:1", "10.0.0.1:2", A]));
    let endpointer = DefaultEndpointer::new(list, factory);
    until_ready(&endpointer, &[A]).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(ready(&endpointer).len(), 1);
    assert!(hung.load(Ordering::SeqCst) >= 2, "given up after its deadline and tried again");
    let error = endpointer.endpoints().load().no_endpoints("s").to_string();
    assert!(error.contains("known=3"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_changed_address_reconnects_a_changed_weight_or_metadata_does_not() {
    let (list, probe) = (Publisher::new("s"), Probe::default());
    let named = |address: &str| instance(address).with_id("one").unwrap();
    let endpointer = DefaultEndpointer::new(list.clone(), probe.factory());
    list.publish([named(A)]);
    until_ready(&endpointer, &["one"]).await;
    list.publish([named(A).with_weight(7).with_zone("z")]);
    endpointer
        .endpoints()
        .wait_for(|set| set.ready().get(0).is_some_and(|m| m.instance().weight() == 7))
        .await;
    assert_eq!(probe.made(A), 1);
    list.publish([named(B)]);
    settle().await;
    until_ready(&endpointer, &["one"]).await;
    assert_eq!((probe.made(B), probe.live()), (1, vec![B.to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn statistics_survive_an_update() {
    let (list, probe) = (Publisher::new("s"), Probe::default());
    let endpointer = DefaultEndpointer::new(list.clone(), probe.factory());
    list.publish([instance(A)]);
    until_ready(&endpointer, &[A]).await;
    let _call = endpointer.endpoints().load().ready()[0].begin();
    list.publish([instance(A).with_weight(3), instance(B)]);
    until_ready(&endpointer, &[A, B]).await;
    assert_eq!(endpointer.endpoints().load().ready()[0].in_flight(), 1);
}

/// Hands its readiness out, as a factory that connects by itself would use it.
#[derive(Clone, Default)]
struct Connecting {
    lines: Arc<std::sync::Mutex<Vec<Readiness>>>,
}

#[async_trait::async_trait]
impl Factory<Probed> for Connecting {
    async fn make(&self, instance: &Arc<Instance>, readiness: Readiness) -> Result<Probed, Error> {
        readiness.set_connecting();
        self.lines.lock().unwrap().push(readiness);
        let made = Probe::default().factory()(instance.clone()).await;
        made.map_err(|why| Error::new(ErrorKind::Other, why))
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_is_connected_can_be_picked_and_a_removed_one_is_told() {
    let (list, factory) = (Publisher::new("s"), Connecting::default());
    let endpointer = DefaultEndpointer::new(list.clone(), factory.clone());
    list.publish(instances(&[A]));
    endpointer.endpoints().wait_for(|set| set.known() == 1).await;
    settle().await;
    assert!(ready(&endpointer).is_empty(), "made, but not connected");
    let line = factory.lines.lock().unwrap()[0].clone();
    line.set_ready();
    until_ready(&endpointer, &[A]).await;
    line.set_failed(Error::new(ErrorKind::Unavailable, "connection refused"));
    until_ready(&endpointer, &[]).await;
    let error = endpointer.endpoints().load().no_endpoints("s").to_string();
    assert!(error.contains("connection refused") && error.contains(A), "{error}");
    line.set_ready();
    until_ready(&endpointer, &[A]).await;
    assert!(!line.is_removed());
    list.publish([]);
    tokio::time::timeout(Duration::from_secs(1), line.removed()).await.unwrap();
    list.publish(instances(&[B]));
    settle().await;
    let line = factory.lines.lock().unwrap()[1].clone();
    drop(endpointer);
    tokio::time::timeout(Duration::from_secs(1), line.removed()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_instance_removed_while_it_is_made_leaves_nothing() {
    let (list, probe) = (Publisher::new("s"), Probe::default());
    probe.slow_factory(A, Duration::from_secs(5));
    let endpointer = DefaultEndpointer::new(list.clone(), probe.factory());
    list.publish(instances(&[A]));
    endpointer.endpoints().wait_for(|set| set.known() == 1).await;
    settle().await;
    list.publish(instances(&[B]));
    until_ready(&endpointer, &[B]).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(probe.live(), [B]);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_changes_while_the_factory_runs_counts_at_once_and_is_made_once() {
    let named = |address: &str| instance(address).with_id("one").unwrap();
    // While it runs, and in the moment in which it ends.
    for after in [1, 2].map(Duration::from_secs) {
        let (list, probe) = (Publisher::new("s"), Probe::default());
        probe.slow_factory(A, Duration::from_secs(2));
        probe.slow_factory(B, Duration::from_secs(3));
        let endpointer = DefaultEndpointer::new(list.clone(), probe.factory());
        list.publish([named(A)]);
        tokio::time::sleep(after).await;
        list.publish([named(B)]);
        until_ready(&endpointer, &["one"]).await;
        assert_eq!((probe.live(), probe.made(B)), (vec![B.to_owned()], 1));
    }
}

#[tokio::test(start_paused = true)]
async fn the_factory_of_a_removed_instance_makes_room_at_once() {
    let (list, probe) = (Publisher::new("s"), Probe::default());
    probe.slow_factory(A, Duration::from_secs(5));
    let endpointer =
        DefaultEndpointer::builder().max_concurrent(1).build(list.clone(), probe.factory());
    list.publish(instances(&[A, B]));
    settle().await;
    let started = tokio::time::Instant::now();
    list.publish(instances(&[B]));
    until_ready(&endpointer, &[B]).await;
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_good_set_in_time_calls_the_invalidation_off() {
    let (list, probe) = (Publisher::new("s"), Probe::default());
    let minute = Duration::from_secs(60);
    let builder = DefaultEndpointer::builder().invalidate_on_error(minute);
    let endpointer = builder.build(list.clone(), probe.factory());
    list.publish(instances(&[A]));
    until_ready(&endpointer, &[A]).await;
    list.publish_stale(Error::new(ErrorKind::Unavailable, "down"));
    tokio::time::sleep(minute / 2).await;
    list.publish(instances(&[A]));
    tokio::time::sleep(minute).await;
    assert_eq!((ready(&endpointer).len(), probe.made(A)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_last_known_endpoints_serve_on_when_the_publisher_is_gone() {
    let (list, probe) = (Publisher::new("s"), Probe::default());
    list.publish(instances(&[A]));
    let endpointer = DefaultEndpointer::new(list.clone(), probe.factory());
    until_ready(&endpointer, &[A]).await;
    drop(list);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(ready(&endpointer).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn invalidation_after_a_time_without_end_never_happens() {
    let (list, probe) = (Publisher::new("s"), Probe::default());
    list.publish(instances(&[A]));
    let builder = DefaultEndpointer::builder().invalidate_on_error(Duration::MAX);
    let endpointer = builder.build(list.clone(), probe.factory());
    until_ready(&endpointer, &[A]).await;
    list.publish_stale(Error::new(ErrorKind::Unavailable, "down"));
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    assert_eq!(ready(&endpointer).len(), 1);
    list.publish(instances(&[A, B]));
    until_ready(&endpointer, &[A, B]).await;
}

#[tokio::test(start_paused = true)]
async fn a_service_without_a_name_follows_connectivity_as_well() {
    let (list, factory) = (Publisher::new(""), Connecting::default());
    list.publish(instances(&[A]));
    let endpointer = DefaultEndpointer::new(list.clone(), factory.clone());
    endpointer.endpoints().wait_for(|set| set.known() == 1).await;
    settle().await;
    factory.lines.lock().unwrap()[0].set_ready();
    until_ready(&endpointer, &[A]).await;
}

/// Counts how often any of its kind is copied.
struct Counted(Arc<AtomicUsize>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Ordering::Relaxed);
        Self(self.0.clone())
    }
}

/// A set costs a copy of every endpoint, so a set for each handful of endpoints that come up would
/// be quadratic work.
#[tokio::test]
async fn endpoints_that_come_up_by_the_thousands_are_not_copied_for_each_handful() {
    const N: usize = 20_000;
    let copies = Arc::new(AtomicUsize::new(0));
    let counter = copies.clone();
    let factory = move |_: Arc<Instance>| {
        let counted = Counted(counter.clone());
        async move { Ok::<_, Error>(counted) }
    };
    let endpointer = DefaultEndpointer::new(FixedInstancer::new("s", addresses(N)), factory);
    endpointer.endpoints().wait_for(|set| set.ready().len() == N).await;
    let each = copies.load(Ordering::Relaxed) / N;
    assert!(each < 40, "each was copied {each} times");
}
