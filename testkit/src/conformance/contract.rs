//! What the two traits of a backend promise by themselves, without the core's machinery.

use std::pin::pin;
use std::time::Duration;

use fleetward_core::discovery::{Change, KeyChange, Source};
use fleetward_core::registration::{KeptAlive, Registry};
use futures::StreamExt;
use tokio::time::{Instant, timeout};

use super::bed::{instance, ok, service};
use super::cut_short::cut_short;
use super::{Bed, Subject};

/// What is written between a list and its watch is told by the watch.
pub async fn list_then_watch_without_a_gap<S: Subject>(bed: &Bed<S>) {
    let (service, one, patience) = (service("greeter"), instance(1), bed.capabilities().patience);
    let backend = bed.subject().open().await;
    let listing = ok("list", backend.list(&service).await);
    let entries = listing.entries;
    assert!(entries.is_empty(), "list must give nothing; it gave {entries:?}");
    bed.put(&service, &one).await;
    let mut changes = pin!(backend.watch(&service, listing.cursor));
    let told = async {
        while let Some(change) = changes.next().await {
            if tells_of(ok("watch", change), one.id().as_str()) {
                return;
            }
        }
        panic!("the watch must tell what came after the list; it ended");
    };
    let told = timeout(patience, told).await;
    assert!(told.is_ok(), "the watch must tell what came after the list; it said nothing of it");
}

/// A renewal confirms, with a time to live to count on.
pub async fn renewal_confirms<S: Subject>(bed: &Bed<S>) {
    let (service, one, ttl) = (service("greeter"), instance(1), bed.capabilities().ttl);
    let backend = bed.subject().open().await;
    let mut leased = ok("register", backend.register(&service, &one, ttl).await);
    let zero = leased.ttl.is_zero();
    assert!(!zero, "register must give a time to live; it gave {:?}", leased.ttl);
    let kept = ok("keep_alive", backend.keep_alive(&mut leased.lease).await);
    let alive = matches!(kept, KeptAlive::Alive { ttl } if !ttl.is_zero());
    assert!(alive, "keep_alive must say Alive, with a time to live; it said {kept:?}");
    bed.assert_now(&service, &[&one]).await;
    ok("deregister", backend.deregister(leased.lease).await);
    bed.assert_now(&service, &[]).await;
}

/// A renewal tells that the lease is lost.
pub async fn lost_lease_is_told<S: Subject>(bed: &Bed<S>) {
    let (service, one, ttl) = (service("greeter"), instance(1), bed.capabilities().ttl);
    let backend = bed.subject().open().await;
    let mut leased = ok("register", backend.register(&service, &one, ttl).await);
    bed.subject().lose_lease(&service, one.id()).await;
    bed.assert_now(&service, &[]).await;
    let kept = ok("keep_alive of a lost lease", backend.keep_alive(&mut leased.lease).await);
    let lost = matches!(kept, KeptAlive::Lost { .. });
    assert!(lost, "keep_alive must say Lost; it said {kept:?}");
    bed.assert_now(&service, &[]).await;
}

/// A loss is told to whoever waits for it, and to who comes later.
pub async fn loss_is_told_without_asking<S: Subject>(bed: &Bed<S>) {
    let (service, patience) = (service("greeter"), bed.capabilities().patience);
    let backend = bed.subject().open().await;
    for (n, waits) in [(1, true), (2, false)] {
        let one = instance(n);
        // So long that its end cannot pass for the loss.
        let ttl = bed.expiry() + 2 * patience;
        let leased = backend.register(&service, &one, ttl).await.expect("it is registered");
        let told = async {
            timeout(patience, backend.lost(&leased.lease)).await.expect("the loss is told");
        };
        if waits {
            tokio::join!(told, bed.subject().lose_lease(&service, one.id()));
        } else {
            // Begun, so that it is known that somebody wants to know; then let go.
            cut_short(backend.lost(&leased.lease), 1).await;
            bed.subject().lose_lease(&service, one.id()).await;
            told.await;
        }
    }
}

/// A renewal tells that somebody else holds the key, and the successor's is not touched by it, nor
/// by the end of the older lease.
pub async fn successor_is_told<S: Subject>(bed: &Bed<S>) {
    let (service, one, ttl) = (service("greeter"), instance(1), bed.capabilities().ttl);
    let (old, new) = (bed.subject().open().await, bed.subject().open().await);
    let mut before = ok("register", old.register(&service, &one, ttl).await);
    let after = ok("register over what stands there", new.register(&service, &one, 10 * ttl).await);
    let kept =
        ok("keep_alive of a lease with a successor", old.keep_alive(&mut before.lease).await);
    let superseded = matches!(kept, KeptAlive::Superseded { .. });
    assert!(superseded, "keep_alive must say Superseded; it said {kept:?}");
    let mut watcher = bed.watcher(&service).await;
    watcher.always(bed.expiry(), "the successor's", |set| set.get(one.id()).is_some()).await;
    ok("deregister of a lease with a successor", old.deregister(before.lease).await);
    bed.assert_now(&service, &[&one]).await;
    ok("deregister", new.deregister(after.lease).await);
    bed.assert_now(&service, &[]).await;
}

/// A lease that nobody renews lives for its time, and no longer.
pub async fn lease_ends_by_itself<S: Subject>(bed: &Bed<S>) {
    let (service, one, ttl) = (service("greeter"), instance(1), bed.capabilities().ttl);
    let mut watcher = bed.watcher(&service).await;
    let begun = Instant::now();
    let backend = bed.subject().open().await;
    let leased = ok("register", backend.register(&service, &one, ttl).await);
    watcher.sees_exactly(&[&one]).await;
    let most = leased.ttl + bed.capabilities().expiry_slack;
    watcher.sees_within(most, "its end", |set| set.instances.is_empty()).await;
    let lived = begun.elapsed();
    // A registry that keeps time in seconds may be one short.
    let long = lived + Duration::from_secs(1) >= leased.ttl;
    assert!(long, "a lease must live for {:?}; it lived for {lived:?}", leased.ttl);
}

/// Deregistering what has ended, or was never noticed to be gone, is no error.
pub async fn deregister_of_what_is_gone<S: Subject>(bed: &Bed<S>) {
    let (service, one, ttl) = (service("greeter"), instance(1), bed.capabilities().ttl);
    let mut watcher = bed.watcher(&service).await;
    let backend = bed.subject().open().await;
    let leased = ok("register", backend.register(&service, &one, ttl).await);
    watcher.sees_exactly(&[&one]).await;
    watcher.sees_within(bed.expiry(), "its end", |set| set.instances.is_empty()).await;
    ok("deregister of a lease that has ended", backend.deregister(leased.lease).await);
}

/// A list or a watch that is dropped half way does no harm to those that follow.
pub async fn reads_dropped_at_every_await<S: Subject>(bed: &Bed<S>) {
    let (service, one) = (service("greeter"), instance(1));
    bed.put(&service, &one).await;
    let backend = bed.subject().open().await;
    for polls in 0..1000 {
        if let Some(listing) = cut_short(backend.list(&service), polls).await {
            let entries = ok("list", listing).entries;
            assert_eq!(entries.len(), 1, "list must give one entry; it gave {entries:?}");
            break;
        }
    }
    let cursor = ok("list", backend.list(&service).await).cursor;
    bed.put(&service, &instance(2)).await;
    for polls in 0..1000 {
        let mut changes = pin!(backend.watch(&service, cursor.clone()));
        let told = async {
            loop {
                let Some(change) = changes.next().await else {
                    panic!("the watch must tell what came after the list; it ended")
                };
                if tells_of(ok("watch", change), instance(2).id().as_str()) {
                    return;
                }
            }
        };
        if cut_short(told, polls).await.is_some() {
            break;
        }
    }
    let entries = ok("list", backend.list(&service).await).entries;
    assert_eq!(entries.len(), 2, "list must give two entries; it gave {entries:?}");
}

/// A registration, renewal or removal that is dropped half way leaves nothing that outlives the
/// time to live.
pub async fn writes_dropped_at_every_await<S: Subject>(bed: &Bed<S>) {
    let (name, ttl) = (service("greeter"), bed.capabilities().ttl);
    let backend = bed.subject().open().await;
    for polls in 0..1000 {
        let one = instance(polls);
        let Some(registered) = cut_short(backend.register(&name, &one, ttl), polls).await else {
            continue;
        };
        let mut leased = ok("register", registered);
        for polls in 0..1000 {
            let kept = cut_short(backend.keep_alive(&mut leased.lease), polls).await;
            if kept.is_some() {
                break;
            }
        }
        ok("deregister", backend.deregister(leased.lease).await);
        break;
    }
    for polls in 0..1000 {
        let one = instance(1000 + polls);
        let leased = ok("register", backend.register(&name, &one, ttl).await);
        if cut_short(backend.deregister(leased.lease), polls).await.is_some() {
            break;
        }
    }
    bed.becomes(&name, &[]).await;
    // What was on its way to the registry may have come late.
    let mut watcher = bed.watcher(&name).await;
    let last = bed.catch_up(&mut watcher, &name).await;
    bed.becomes(&name, &[&last]).await;
}

fn tells_of<C>(change: Change<C>, id: &str) -> bool {
    let is = |entry: &fleetward_core::discovery::Entry| {
        entry.readable().any(|instance| instance.id().as_str() == id)
    };
    match change {
        Change::Keys { changes, .. } => changes.iter().any(|change| match change {
            KeyChange::Put(entry) => is(entry),
            _ => false,
        }),
        Change::Full(listing) => listing.entries.iter().any(is),
        _ => false,
    }
}
