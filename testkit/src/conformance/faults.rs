//! What goes wrong on a bad day, and what must come of it.
//!
//! What is there before the fault is put there after the first set was seen: so it came through the
//! watch, and the fault strikes one that is open rather than one that is being opened.

use std::time::Duration;

use fleetward_core::Snapshot;

use super::bed::{instance, ok, service};
use super::cut_short::cut_short;
use super::{Bed, Subject};

/// While the server is away the last known set stays, marked stale; when it is back everything goes
/// on: who was registered is, who watches sees what is new.
pub async fn server_stopped_and_started<S: Subject>(bed: &Bed<S>) {
    let (service, all) = (service("greeter"), [instance(1), instance(2), instance(3)]);
    let server = bed.client().await;
    let mut watcher = bed.watcher(&service).await;
    let mut registrations = Vec::new();
    for one in &all[..2] {
        registrations.push(bed.register(&server, &service, one).await);
    }
    watcher.sees_exactly(&[&all[0], &all[1]]).await;
    bed.subject().stop().await;
    let notice = bed.capabilities().silence + bed.capabilities().patience;
    let stale = watcher.sees_within(notice, "stale", |set| set.freshness.is_stale()).await;
    assert_eq!(stale.instances.len(), 2, "the last known good set must stay; it is {stale:?}");
    let a_while = Duration::from_secs(1);
    watcher.always(a_while, "the set stays", |set| set.instances.len() == 2).await;
    bed.subject().start().await;
    let back = bed.capabilities().ttl + bed.capabilities().patience;
    watcher
        .sees_within(back, "both, fresh", |set| {
            assert!(!set.instances.is_empty(), "an outage never empties the set");
            set.instances.len() == 2 && !set.freshness.is_stale()
        })
        .await;
    registrations.push(bed.register(&server, &service, &all[2]).await);
    watcher.sees_exactly(&[&all[0], &all[1], &all[2]]).await;
    let registered = async || registrations.iter().all(|one| one.status().is_registered());
    crate::eventually("all are registered", back, registered).await;
}

/// The watcher is cut off for a while: it keeps what it knows, and catches up.
pub async fn connection_cut<S: Subject>(bed: &Bed<S>) {
    let (service, all) = (service("greeter"), [instance(1), instance(2), instance(3)]);
    let (proxy, client) = bed.proxied().await;
    let mut watcher = client.watch(&service);
    watcher.sees_exactly(&[]).await;
    bed.put(&service, &all[0]).await;
    bed.put(&service, &all[1]).await;
    watcher.sees_exactly(&[&all[0], &all[1]]).await;
    proxy.refuse().await;
    proxy.cut();
    bed.remove(&service, &all[0]).await;
    bed.put(&service, &all[2]).await;
    let notice = bed.capabilities().silence + bed.capabilities().patience;
    let stale = watcher.sees_within(notice, "stale", |set| set.freshness.is_stale()).await;
    assert_eq!(stale.instances.len(), 2, "the last known good set must stay; it is {stale:?}");
    proxy.heal().await;
    watcher.sees_exactly(&[&all[1], &all[2]]).await;
}

/// A connection that is reset is made again, and nothing is missed.
pub async fn connection_reset<S: Subject>(bed: &Bed<S>) {
    let (service, first) = (service("greeter"), instance(1));
    let (proxy, client) = bed.proxied().await;
    let mut watcher = client.watch(&service);
    watcher.sees_exactly(&[]).await;
    bed.put(&service, &first).await;
    watcher.sees_exactly(&[&first]).await;
    for number in 2..5 {
        let one = instance(number);
        proxy.reset();
        bed.put(&service, &one).await;
        watcher.sees("what came after the reset", |set| set.get(one.id()).is_some()).await;
    }
    let now = watcher.now();
    assert_eq!(now.instances.len(), 4, "all four must be seen; it is {now:?}");
}

/// A connection on which nothing comes through any more, and nobody says so, is noticed.
pub async fn connection_half_open<S: Subject>(bed: &Bed<S>) {
    let (service, first, second) = (service("greeter"), instance(1), instance(2));
    let (proxy, client) = bed.proxied().await;
    let mut watcher = client.watch(&service);
    watcher.sees_exactly(&[]).await;
    bed.put(&service, &first).await;
    watcher.sees_exactly(&[&first]).await;
    proxy.half_open();
    bed.put(&service, &second).await;
    let notice = bed.capabilities().silence + bed.capabilities().patience;
    watcher
        .sees_within(notice, "what happened in the silence", |set| {
            assert!(set.get(first.id()).is_some(), "silence empties nothing");
            set.get(second.id()).is_some() && !set.freshness.is_stale()
        })
        .await;
}

/// A process that was cut off until its lease ended registers again, under one key.
pub async fn registered_again_after_an_outage<S: Subject>(bed: &Bed<S>) {
    let (service, one) = (service("greeter"), instance(1));
    let (proxy, client) = bed.proxied().await;
    let mut watcher = bed.watcher(&service).await;
    let registration = bed.register(&client, &service, &one).await;
    watcher.sees_exactly(&[&one]).await;
    proxy.refuse().await;
    proxy.cut();
    let ended = bed.expiry() + bed.capabilities().patience;
    watcher.sees_within(ended, "the lease's end", |set| set.instances.is_empty()).await;
    let status = registration.status();
    assert!(!status.is_registered(), "the status must say that it is lost; it is {status:?}");
    proxy.heal().await;
    let back = bed.capabilities().ttl + bed.capabilities().patience;
    watcher.sees_within(back, "registered again", |set| set.get(one.id()).is_some()).await;
    watcher.sees_exactly(&[&one]).await;
    ok("deregister", registration.deregister().await);
    watcher.sees_exactly(&[]).await;
}

/// A watch that ends for no reason is opened again, and nothing is missed.
pub async fn watch_killed<S: Subject>(bed: &Bed<S>) {
    let (service, first) = (service("greeter"), instance(1));
    let mut watcher = bed.watcher(&service).await;
    bed.put(&service, &first).await;
    watcher.sees_exactly(&[&first]).await;
    for number in 2..5 {
        bed.subject().kill_watches().await;
        let one = instance(number);
        bed.put_anew(&service, &one).await;
        watcher
            .sees("what came after the watch's end", |set| {
                assert!(set.get(first.id()).is_some(), "a watch's end empties nothing");
                set.get(one.id()).is_some()
            })
            .await;
    }
    let now = watcher.now();
    assert_eq!(now.instances.len(), 4, "all four must be seen; it is {now:?}");
}

/// A subscriber that never reads holds nobody up, and finds the newest set when it does.
pub async fn subscriber_that_never_reads<S: Subject>(bed: &Bed<S>) {
    let (service, client) = (service("greeter"), bed.client().await);
    let (idle, mut other) = (client.watch(&service), client.watch(&service));
    for number in 1..=30 {
        let one = instance(number);
        bed.put(&service, &one).await;
    }
    other.sees("all of them", |set| set.instances.len() == 30).await;
    let mut idle = idle;
    idle.sees("the newest set", |set| set.instances.len() == 30).await;
}

/// A registration whose future is dropped half way, wherever that is, leaves nothing behind.
pub async fn registration_dropped_at_every_await<S: Subject>(bed: &Bed<S>) {
    let (service, client) = (service("greeter"), bed.client().await);
    let mut watcher = bed.watcher(&service).await;
    for polls in 0.. {
        let one = instance(polls);
        let registering = client.register(&service, &one, bed.options());
        match cut_short(registering, polls).await {
            None => assert!(polls < 1000, "register must end; it was polled {polls} times"),
            Some(registered) => {
                let registration = ok("register", registered);
                watcher.sees("it, when not cut short", |set| set.get(one.id()).is_some()).await;
                ok("deregister", registration.deregister().await);
                break;
            }
        }
    }
    // Also what is still on its way to the registry, and whoever would keep it alive.
    let last = bed.catch_up(&mut watcher, &service).await;
    bed.becomes(&service, &[&last]).await;
    let mut watcher = bed.watcher(&service).await;
    let left = |set: &Snapshot| set.instances.len() == 1 && set.get(last.id()).is_some();
    watcher.always(bed.capabilities().ttl, "nothing of it left", left).await;
}
