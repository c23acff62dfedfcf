//! Views: what is seen through them, who computes it, and what is left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fleetward_balancers::Subset;
use fleetward_core::discovery::{Filter, FixedInstancer, InstancerExt, Publisher};
use fleetward_core::endpoints::EndpointSet;
use fleetward_core::{
    DefaultEndpointer, Endpointer, Error, ErrorKind, Instance, InstanceId, Instancer,
    RegistryHandle, Subscription,
};
use futures::{FutureExt, StreamExt};

fn instance(n: usize, version: &str) -> Instance {
    let address = format!("10.{}.{}.{}:80", n >> 16, n >> 8 & 255, n & 255);
    Instance::new(address.as_str()).unwrap().with_version(version)
}

fn down() -> Error {
    Error::new(ErrorKind::Unavailable, "the registry is down")
}

/// A view of everything that counts how often it was asked.
fn counted(list: impl Instancer) -> (impl Instancer, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let view = list.view(move |all: &[Arc<Instance>]| {
        counter.fetch_add(1, Ordering::Relaxed);
        all.to_vec()
    });
    (view, count)
}

#[test]
fn it_works_without_a_runtime_and_follows_what_is_published() {
    let list = Publisher::new("greeter");
    let view = list.clone().view(Filter::version("v2"));
    let subscription = view.subscribe();
    assert!(subscription.current().freshness.is_pending());
    list.publish([instance(1, "v1"), instance(2, "v2"), instance(3, "v2")]);
    assert_eq!(subscription.current().instances.len(), 2);
    list.publish([instance(1, "v1")]);
    let empty = subscription.current();
    assert!(empty.instances.is_empty() && !empty.freshness.is_stale(), "{empty:?}");
    let ids = |view: &dyn Instancer| view.subscribe().current().instances.len();
    assert_eq!(ids(&list.view(Filter::version("v2").or_all())), 1);
}

#[tokio::test(start_paused = true)]
async fn freshness_and_its_reasons_pass_through() {
    let list = Publisher::new("greeter");
    let mut view = list.clone().filter(|instance| instance.version() == Some("v2")).subscribe();
    list.publish_stale(down());
    let pending = view.changed().await.unwrap();
    assert!(pending.freshness.is_pending() && pending.freshness.error().is_some());
    list.publish([instance(1, "v1"), instance(2, "v2")]);
    let fresh = view.changed().await.unwrap();
    assert!(fresh.freshness.error().is_none());
    list.publish_stale(down());
    let stale = view.changed().await.unwrap();
    assert!(stale.freshness.is_stale(), "{stale:?}");
    assert!(Arc::ptr_eq(&stale.instances, &fresh.instances), "an error changes no set");
    assert!(fresh.revision < stale.revision);
    // A newer reason of the same kind wakes nobody, and is there for who looks.
    list.publish_stale(Error::new(ErrorKind::Unavailable, "still down"));
    assert!(view.changed().now_or_never().is_none());
    let shown = view.current();
    assert!(shown.freshness.error().unwrap().to_string().contains("still down"));
    assert_eq!(shown.revision, stale.revision);
    drop(list);
    let closed = view.changed().await.unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::Closed);
    assert_eq!(view.current().instances.len(), 1, "what was known last stays");
}

#[tokio::test(start_paused = true)]
async fn only_a_change_that_is_shown_wakes() {
    let list = Publisher::new("greeter");
    list.publish([instance(1, "v1"), instance(2, "v2")]);
    let view = list.clone().view(Filter::version("v2"));
    let mut subscription = view.subscribe();
    let mut stream = view.subscribe();
    let first = stream.next().await.unwrap();
    list.publish([instance(2, "v2"), instance(3, "v1")]);
    assert!(subscription.changed().now_or_never().is_none());
    assert!(stream.next().now_or_never().is_none());
    assert!(Arc::ptr_eq(&first.instances, &subscription.current().instances));
    // Other allocations, of equal content.
    list.publish([instance(2, "v2")]);
    assert!(subscription.changed().now_or_never().is_none());
    list.publish([instance(2, "v2").with_weight(5)]);
    assert_eq!(subscription.changed().await.unwrap().instances[0].weight(), 5);
    assert_eq!(stream.next().await.unwrap().instances[0].weight(), 5);
    assert!(
        subscription.clone().changed().now_or_never().is_none(),
        "a clone stands where it stood"
    );
}

#[test]
fn it_is_computed_once_for_all_and_not_at_all_for_nobody() {
    let list = Publisher::new("greeter");
    let (view, count) = counted(list.clone());
    for n in 0..10 {
        list.publish([instance(n, "v1")]);
    }
    assert_eq!(count.load(Ordering::Relaxed), 0, "nobody is subscribed");
    let subscriptions: Vec<_> = (0..50).map(|_| view.subscribe()).collect();
    assert_eq!(count.load(Ordering::Relaxed), 1);
    list.publish([instance(1, "v1"), instance(2, "v1")]);
    let shown: Vec<_> = subscriptions.iter().map(Subscription::current).collect();
    assert!(shown.iter().all(|one| Arc::ptr_eq(one, &shown[0])));
    list.publish_stale(down());
    assert!(subscriptions.iter().all(|s| s.current().freshness.is_stale()));
    assert_eq!(count.load(Ordering::Relaxed), 2, "an error is no new set");
    drop(subscriptions);
    list.publish([instance(1, "v1")]);
    assert_eq!(count.load(Ordering::Relaxed), 2);
    assert!(format!("{list:?}").contains("subscribers: 0"), "nothing is left behind: {list:?}");
    assert_eq!(view.subscribe().current().instances.len(), 1);
}

#[test]
fn a_view_of_a_view_sees_what_the_first_has_left() {
    let list = Publisher::new("greeter");
    list.publish((0..100).map(|n| instance(n, if n < 40 { "v1" } else { "v2" })));
    let (inner, count) = counted(list.clone().view(Filter::version("v1")));
    let view = Arc::new(inner.view(Subset::of(10).with_client_id("me")));
    let subscriptions = [view.subscribe(), view.subscribe()];
    for subscription in &subscriptions {
        let set = subscription.current();
        assert_eq!(set.instances.len(), 10);
        assert!(set.instances.iter().all(|instance| instance.version() == Some("v1")));
        assert!(set.instances.is_sorted_by(|a, b| a.id() < b.id()));
    }
    assert_eq!(count.load(Ordering::Relaxed), 1);
    list.publish((0..100).map(|n| instance(n, "v2")));
    assert!(subscriptions.iter().all(|s| s.current().instances.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reader_misses_the_last_word_however_fast_it_comes() {
    let list = Publisher::new("greeter");
    let view = Arc::new(list.clone().view(Filter::version("v2")));
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let mut subscription = view.subscribe();
            tokio::spawn(async move {
                let mut last = 0;
                loop {
                    let set = subscription.changed().await.unwrap();
                    assert!(set.revision > last, "{} after {last}", set.revision);
                    last = set.revision;
                    if set.instances.iter().any(|instance| instance.weight() == 2000) {
                        return;
                    }
                }
            })
        })
        .collect();
    for weight in 1..=2000 {
        list.publish([instance(1, "v1"), instance(2, "v2").with_weight(weight)]);
        if weight % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for reader in readers {
        tokio::time::timeout(Duration::from_secs(10), reader).await.unwrap().unwrap();
    }
}

#[test]
fn a_view_that_panics_keeps_its_last_choice_and_is_asked_again() {
    let list = Publisher::new("greeter");
    let view = list.clone().filter(|instance| {
        assert_ne!(instance.version(), Some("bad"));
        true
    });
    list.publish([instance(1, "bad")]);
    let mut subscription = view.subscribe();
    let first = subscription.current();
    assert!(first.freshness.is_pending() && first.freshness.error().is_some(), "{first:?}");
    list.publish([instance(1, "good")]);
    let good = subscription.changed().now_or_never().unwrap().unwrap();
    assert!(good.instances.len() == 1 && good.freshness.error().is_none(), "{good:?}");
    list.publish([instance(1, "good"), instance(2, "bad")]);
    let stale = subscription.changed().now_or_never().unwrap().unwrap();
    assert!(stale.instances.len() == 1 && stale.freshness.is_stale(), "{stale:?}");
    let reason = stale.freshness.error().unwrap().to_string();
    assert!(reason.contains("the view panicked") && reason.contains("greeter"), "{reason}");
    list.publish([instance(2, "good")]);
    let good = subscription.changed().now_or_never().unwrap().unwrap();
    assert!(good.instances.len() == 1 && good.freshness.error().is_none(), "{good:?}");
    assert!(good.revision > stale.revision);
}

#[test]
fn a_view_may_answer_in_any_order_twice_and_with_instances_of_its_own() {
    let list = FixedInstancer::new("greeter", (0..3).map(|n| instance(n, "v1")));
    let view = list.view(|all: &[Arc<Instance>]| {
        let heavier = all.iter().rev().map(|i| Arc::new(Instance::clone(i).with_weight(7)));
        heavier.chain(all.iter().cloned()).collect()
    });
    let set = view.subscribe().current();
    assert!(set.instances.is_sorted_by(|a, b| a.id() < b.id()));
    assert!(set.instances.len() == 3 && set.instances.iter().all(|i| i.weight() == 7));
}

#[tokio::test]
async fn a_handle_shows_its_views_for_every_service_and_serves_on_without_it() {
    let list = FixedInstancer::new("greeter", (0..100).map(|n| instance(n, "v1")));
    let handle = RegistryHandle::fixed(Arc::new(list))
        .with_view(Filter::version("v1"))
        .with_view(Subset::of(3));
    let greeters = handle.service("greeter").unwrap();
    let mut subscription = greeters.subscribe();
    drop((handle, greeters));
    assert_eq!(subscription.current().instances.len(), 3);
    assert!(subscription.changed().now_or_never().is_none(), "a fixed set never closes");
}

#[tokio::test(start_paused = true)]
async fn of_a_hundred_thousand_addresses_only_the_subset_is_dialled() {
    let all: Vec<_> = (0..100_000).map(|n| instance(n, "v1")).collect();
    let list = Publisher::new("greeter");
    list.publish(all.iter().cloned());
    for subset in [Subset::of(20).with_client_id("me"), Subset::of(20).with_client_index(7)] {
        let dialled = Arc::new(AtomicUsize::new(0));
        let dials = dialled.clone();
        let view = list.clone().view(subset);
        let chosen = view.subscribe().current().instances[0].id().clone();
        let endpointer = DefaultEndpointer::new(view, move |instance: Arc<Instance>| {
            dials.fetch_add(1, Ordering::Relaxed);
            async move { Ok::<_, Error>(instance) }
        });
        endpointer.endpoints().wait_for(|set| set.ready().len() == 20).await;
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(dialled.load(Ordering::Relaxed), 20);
        // One of them goes: another takes its place.
        list.publish(all.iter().filter(|instance| *instance.id() != chosen).cloned());
        let serves = |id: &InstanceId, set: &EndpointSet<Arc<Instance>>| {
            set.ready().iter().any(|endpoint| endpoint.instance().id() == id)
        };
        endpointer
            .endpoints()
            .wait_for(|set| set.ready().len() == 20 && !serves(&chosen, set))
            .await;
        let moved = dialled.load(Ordering::Relaxed) - 20;
        assert!((1..=5).contains(&moved), "{moved}");
        list.publish(all.iter().cloned());
    }
}

#[test]
fn each_of_several_views_is_given_instances_in_order_and_once() {
    let backwards_and_twice = |all: &[Arc<Instance>]| -> Vec<Arc<Instance>> {
        all.iter().rev().chain(all).cloned().collect()
    };
    let in_order = |all: &[Arc<Instance>]| -> Vec<Arc<Instance>> {
        assert!(all.is_sorted_by(|a, b| a.id() < b.id()), "{all:?}");
        all.to_vec()
    };
    let list = FixedInstancer::new("greeter", (1..4).map(|n| instance(n, "v1")));
    let handle = RegistryHandle::fixed(Arc::new(list));
    let handle = handle.with_view(backwards_and_twice).with_view(in_order);
    let seen = handle.service("greeter").unwrap().subscribe().current();
    assert_eq!(seen.instances.len(), 3);
}
