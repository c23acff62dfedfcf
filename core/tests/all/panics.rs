//! What stands when somebody else's code panics in a task of ours: nothing stays that calls itself fresh.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use fleetward_core::backoff::Backoff;
use fleetward_core::discovery::{InstancerExt, Publisher};
use fleetward_core::endpoints::EndpointSet;
use fleetward_core::health::{HealthCheck, HealthChecked, HealthReporter};
use fleetward_core::registration::Status;
use fleetward_core::{
    DefaultEndpointer, Endpointer, Error, ErrorKind, Instance, Instancer, RegisterOptions,
};
use tokio::time::{sleep, timeout};

use crate::fake_registry::{FakeRegistry, TTL, options, register, register_with};
use crate::fake_source::{FakeSource, POISON, entries, entry, is_fresh, reflect};
use crate::support::{Probe, instances, settle, until_ready};

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";
const C: &str = "10.0.0.3:80";
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_view_that_panics_leaves_the_endpoints_connected_and_says_so() {
    let (list, probe) = (Publisher::new("s"), Probe::default());
    let broken = Arc::new(AtomicBool::new(false));
    let panics = broken.clone();
    list.publish(instances(&[A, B]));
    let view = list.clone().view(move |all: &[Arc<Instance>]| {
        assert!(!panics.load(Ordering::Relaxed), "a bug in a view, on purpose");
        all.to_vec()
    });
    let endpointer = DefaultEndpointer::new(view, probe.factory());
    until_ready(&endpointer, &[A, B]).await;

    broken.store(true, Ordering::Relaxed);
    list.publish(instances(&[B, C]));
    let stale = timeout(MINUTE, endpointer.endpoints().wait_for(|set| set.freshness().is_stale()));
    let stale = stale.await.unwrap();
    let reason = stale.freshness().error().unwrap().to_string();
    assert!(reason.contains("the view panicked"), "{reason}");
    until_ready(&endpointer, &[A, B]).await;
    assert_eq!(probe.live(), [A, B], "in use, and connected");
    drop(stale);

    // Nothing new is published: it is asked again all the same, and what was removed leaves.
    broken.store(false, Ordering::Relaxed);
    let fresh = endpointer
        .endpoints()
        .wait_for(|set| !set.freshness().is_stale() && set.ready().len() == 2);
    timeout(MINUTE, fresh).await.unwrap();
    until_ready(&endpointer, &[B, C]).await;
    settle().await;
    assert_eq!((probe.made(B), probe.live()), (1, vec![B.to_owned(), C.to_owned()]));
    list.publish(instances(&[C]));
    until_ready(&endpointer, &[C]).await;
}

/// Wakes by a panic.
struct Bad(AtomicBool);

impl Wake for Bad {
    fn wake(self: Arc<Self>) {
        assert!(self.0.load(Ordering::Relaxed), "a bug in an executor, on purpose");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpointer_whose_task_panics_starts_over_from_its_inputs() {
    let (list, probe) = (Publisher::new("s"), Probe::default());
    list.publish(instances(&[A, B]));
    let endpointer = DefaultEndpointer::new(list.clone(), probe.factory());
    until_ready(&endpointer, &[A, B]).await;
    let waker = Arc::new(Bad(false.into()));
    let mut waiting = Box::pin(endpointer.endpoints().wait_for(EndpointSet::is_panicking));
    let context = &mut std::task::Context::from_waker(Waker::noop());
    let woken = Waker::from(waker.clone());
    for _ in 0..5 {
        assert!(waiting.as_mut().poll(&mut std::task::Context::from_waker(&woken)).is_pending());
        list.publish(instances(&[A, B, C]));
        sleep(MINUTE).await;
        list.publish(instances(&[A, B]));
        sleep(MINUTE).await;
    }
    waker.0.store(true, Ordering::Relaxed);
    assert!(waiting.as_mut().poll(context).is_pending());
    list.publish(instances(&[A, C]));
    let moved = endpointer.endpoints().wait_for(|set| {
        let ids: Vec<_> = set.ready().iter().map(|m| m.instance().id().to_string()).collect();
        ids == [A, C] && !set.freshness().is_stale()
    });
    timeout(MINUTE, moved).await.unwrap();
    assert_eq!((probe.made(A), probe.live()), (1, vec![A.to_owned(), C.to_owned()]));
}

/// The source of an error, which panics when it is dropped.
#[derive(Debug)]
struct Bomb(Arc<AtomicUsize>);

impl fmt::Display for Bomb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a bomb")
    }
}

impl std::error::Error for Bomb {}

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.fetch_add(1, Ordering::Relaxed);
            panic!("a bug in an error, on purpose");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn errors_that_panic_when_they_are_dropped_stop_nothing() {
    let (list, probe) = (Publisher::new("s"), Probe::default());
    let (dropped, runs) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
    let (make, bombs) = (probe.factory(), dropped.clone());
    let factory = move |instance: Arc<Instance>| {
        let fails = instance.id().as_str() == A && runs.fetch_add(1, Ordering::Relaxed) < 3;
        let error = fails
            .then(|| Error::new(ErrorKind::Other, "as it must").with_source(Bomb(bombs.clone())));
        let made = make(instance);
        async move {
            match error {
                Some(error) => Err(error),
                None => made.await.map_err(Error::invalid_data),
            }
        }
    };
    list.publish(instances(&[A, B]));
    let backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(20)).unwrap();
    let endpointer = DefaultEndpointer::builder().backoff(backoff).build(list.clone(), factory);
    let both = endpointer
        .endpoints()
        .wait_for(|set| set.ready().len() == 2 && !set.freshness().is_stale());
    timeout(MINUTE, both).await.unwrap();
    assert!(dropped.load(Ordering::Relaxed) > 0);
    list.publish(instances(&[C]));
    timeout(MINUTE, endpointer.endpoints().wait_for(|set| set.ready().len() == 1)).await.unwrap();
    assert_eq!(probe.made(B), 1);
}

/// A service that panics when it is cloned or dropped for the `at`th time.
struct Fragile {
    address: String,
    clones: Arc<AtomicUsize>,
    at: usize,
    drops: bool,
}

impl Clone for Fragile {
    fn clone(&self) -> Self {
        assert_ne!(self.clones.fetch_add(1, Ordering::Relaxed), self.at, "on purpose");
        Self { address: self.address.clone(), clones: self.clones.clone(), ..*self }
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(!self.drops, "a bug in a service, on purpose");
    }
}

#[tokio::test(start_paused = true)]
async fn services_that_panic_when_they_are_cloned_or_dropped_stop_nothing() {
    for (at, drops) in [(0, false), (1, false), (2, false), (usize::MAX, true)] {
        let list = Publisher::new("s");
        list.publish(instances(&[A, B]));
        let clones = Arc::new(AtomicUsize::new(0));
        let factory = move |instance: Arc<Instance>| {
            let (address, clones) = (instance.address().to_string(), clones.clone());
            async move { Ok::<_, Error>(Fragile { address, clones, at, drops }) }
        };
        let endpointer = DefaultEndpointer::new(list.clone(), factory);
        for addresses in [&[A, B][..], &[B, C], &[A, C], &[B]] {
            list.publish(instances(addresses));
            let moved = endpointer.endpoints().wait_for(|set| {
                let ready = set.ready();
                let found: Vec<_> = (0..ready.len())
                    .filter_map(|at| Some(set.service(at)?.address.clone()))
                    .collect();
                found == addresses
            });
            let moved = timeout(MINUTE, moved).await;
            assert!(moved.is_ok(), "{at} {drops} {addresses:?}: {endpointer:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_is_asked_again() {
    let source = FakeSource::of(&[A, B]);
    let mut subscription = reflect(&source).subscribe();
    subscription.wait_for(is_fresh).await.unwrap();
    let stream_panics = || source.emit(Err(Error::new(ErrorKind::Other, POISON)));
    for (round, list_panics) in [(1, false), (2, true)] {
        if list_panics {
            source.will_panic();
        } else {
            source.watches_panic(true);
        }
        stream_panics();
        let stale = subscription.wait_for(|snapshot| snapshot.freshness.is_stale());
        let stale = timeout(MINUTE, stale).await.unwrap().unwrap();
        let reason = stale.freshness.error().unwrap().to_string();
        assert!(reason.contains("the source panicked") && reason.contains("greeter"), "{reason}");
        assert_eq!(stale.instances.len(), 2, "the last known good set");
        sleep(10 * MINUTE).await;
        assert!(subscription.current().freshness.is_stale() || !list_panics);
        source.watches_panic(false);
        source.will_list(entries(&[A, B]));
        timeout(MINUTE, subscription.wait_for(is_fresh)).await.unwrap().unwrap();
        sleep(MINUTE).await;
        source.put(entry(C, C));
        let joined = subscription.wait_for(|snapshot| snapshot.instances.len() == 3);
        timeout(MINUTE, joined).await.unwrap().unwrap();
        source.delete(C);
        let left = subscription.wait_for(|snapshot| snapshot.instances.len() == 2);
        timeout(MINUTE, left).await.unwrap().unwrap();
        assert!(source.lists() > 2 * round);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reflector_whose_task_panics_starts_over_and_forgets_nothing() {
    let source = FakeSource::of(&[A, B, C]);
    let reflector = reflect(&source);
    let mut subscription = reflector.subscribe();
    subscription.wait_for(is_fresh).await.unwrap();
    // What publishes wakes this reader.
    let waker = Arc::new(Bad(false.into()));
    let mut reader = reflector.subscribe();
    let mut waiting = Box::pin(reader.changed());
    let woken = Waker::from(waker.clone());
    assert!(waiting.as_mut().poll(&mut std::task::Context::from_waker(&woken)).is_pending());
    source.will_list(entries(&[A, B]));
    source.delete(C);
    sleep(MINUTE).await;
    waker.0.store(true, Ordering::Relaxed);
    // A drop in bulk is held as ever: it is no first list.
    source.will_list(entries(&[]));
    source.end_watch();
    let held = subscription.wait_for(|snapshot| {
        snapshot.freshness.error().is_some_and(|error| error.kind() == ErrorKind::Implausible)
    });
    let held = timeout(MINUTE, held).await.unwrap().unwrap();
    assert_eq!(held.instances.len(), 2, "{held:?}");
    source.will_list(entries(&[A, B]));
    source.end_watch();
    timeout(MINUTE, subscription.wait_for(is_fresh)).await.unwrap().unwrap();
    source.delete(B);
    let left = subscription.wait_for(|snapshot| snapshot.instances.len() == 1);
    timeout(MINUTE, left).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_panics_does_not_keep_a_registration_that_calls_itself_registered() {
    let registry = FakeRegistry::new();
    registry.panics(true);
    let error = register(&registry).await.unwrap_err();
    assert!(error.to_string().contains("the registry's client panicked"), "{error}");
    let registration = register_with(&registry, options().with_keep_trying(true)).await.unwrap();
    sleep(MINUTE).await;
    registry.panics(false);
    let mut status = registration.watch_status();
    let registered = status.wait_for(Status::is_registered);
    timeout(MINUTE, registered).await.unwrap().unwrap();

    registry.panics(true);
    let trouble = timeout(MINUTE, status.wait_for(Status::is_retrying)).await.unwrap().unwrap();
    assert!(trouble.error().unwrap().to_string().contains("panicked"), "{trouble:?}");
    sleep(10 * TTL).await;
    registry.panics(false);
    let registered = status.wait_for(Status::is_registered);
    timeout(MINUTE, registered).await.unwrap().unwrap();
    assert!(registry.is_held());

    registry.panics(true);
    let error = registration.deregister().await.unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    assert!(registration.status().is_deregistered());
}

#[tokio::test(start_paused = true)]
async fn a_keeper_whose_task_panics_registers_again() {
    let registry = FakeRegistry::new();
    let registration = register_with(&registry, RegisterOptions::default().with_ttl(TTL)).await;
    let registration = registration.unwrap();
    let waker = Arc::new(Bad(false.into()));
    let mut watch = registration.watch_status();
    let mut waiting = Box::pin(watch.wait_for(Status::is_deregistered));
    let woken = Waker::from(waker.clone());
    assert!(waiting.as_mut().poll(&mut std::task::Context::from_waker(&woken)).is_pending());
    registry.lose();
    sleep(10 * TTL).await;
    assert!(registration.status().is_registered() && registry.is_held(), "{registration:?}");
    registry.lose();
    sleep(10 * TTL).await;
    assert!(registry.is_held(), "and it still looks after it");
    waker.0.store(true, Ordering::Relaxed);
    registration.deregister().await.unwrap();
    assert!(!registry.is_held());
}

/// Panics before there is a future, or finds the instance well.
struct Eager(Arc<AtomicBool>);

impl<S: Send + 'static> HealthCheck<S> for Eager {
    fn run<'a, 'b, 'r>(
        &'a self,
        _: &'b Instance,
        _: S,
        health: HealthReporter,
    ) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'r>>
    where
        'a: 'r,
        'b: 'r,
        Self: 'r,
    {
        assert!(!self.0.load(Ordering::Relaxed), "a bug in a check, on purpose");
        Box::pin(async move { health.healthy() })
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_that_cannot_even_begin_is_begun_again() {
    let list = Publisher::new("s");
    list.publish(instances(&[A]));
    let broken = Arc::new(AtomicBool::new(true));
    let factory = |_: Arc<Instance>| async { Ok::<_, Error>(()) };
    let checked = HealthChecked::new(factory, Eager(broken.clone()));
    let endpointer =
        DefaultEndpointer::builder().panic_threshold(0.0).build::<(), _, _>(list.clone(), checked);
    sleep(MINUTE).await;
    let error = endpointer.endpoints().load().no_endpoints("s").to_string();
    assert!(error.contains("the health check panicked"), "{error}");
    broken.store(false, Ordering::Relaxed);
    timeout(MINUTE, endpointer.endpoints().wait_for(|set| set.ready().len() == 1)).await.unwrap();
}
