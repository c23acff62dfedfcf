//! What a watcher sees of a service.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};

use super::bed::{instance, service};
use super::{Bed, Subject};

/// What is registered already is seen at once and completely.
pub async fn snapshot_at_once<S: Subject>(bed: &Bed<S>) {
    let (service, all) = (service("greeter"), [instance(1), instance(2), instance(3)]);
    for one in &all {
        bed.put(&service, one).await;
    }
    let mut watcher = bed.client().await.watch(&service);
    let first = watcher.sees("a first set", |set| !set.freshness.is_pending()).await;
    assert_eq!(first.instances.len(), 3, "the first set must be complete; it is {first:?}");
    watcher.sees_exactly(&[&all[0], &all[1], &all[2]]).await;
}

/// A service that nobody registered is an empty set, which is known: neither pending nor an error.
pub async fn an_unknown_service_is_empty<S: Subject>(bed: &Bed<S>) {
    let mut watcher = bed.client().await.watch(&service("nobody"));
    watcher.sees_exactly(&[]).await;
}

/// An instance that joins is seen.
pub async fn add<S: Subject>(bed: &Bed<S>) {
    let (service, first, second) = (service("greeter"), instance(1), instance(2));
    let mut watcher = bed.watcher(&service).await;
    bed.put(&service, &first).await;
    watcher.sees_exactly(&[&first]).await;
    bed.put(&service, &second).await;
    watcher.sees_exactly(&[&first, &second]).await;
}

/// An instance that changes is seen as changed, under its id.
pub async fn change<S: Subject>(bed: &Bed<S>) {
    let weights = &bed.capabilities().weights;
    let (service, other) = (service("greeter"), instance(2));
    let before = instance(1).with_weight(*weights.start());
    let after = instance(1).with_weight(weights.end().saturating_sub(1).min(7));
    assert_ne!(before, after, "the subject can write more than one weight");
    bed.put(&service, &before).await;
    bed.put(&service, &other).await;
    let mut watcher = bed.watcher(&service).await;
    watcher.sees_exactly(&[&before, &other]).await;
    bed.put(&service, &after).await;
    watcher.sees_exactly(&[&after, &other]).await;
}

/// An instance that leaves is not seen any more.
pub async fn delete<S: Subject>(bed: &Bed<S>) {
    let (service, first, second) = (service("greeter"), instance(1), instance(2));
    bed.put(&service, &first).await;
    bed.put(&service, &second).await;
    let mut watcher = bed.watcher(&service).await;
    watcher.sees_exactly(&[&first, &second]).await;
    bed.remove(&service, &first).await;
    watcher.sees_exactly(&[&second]).await;
}

/// The last one that leaves, leaves an empty set.
pub async fn last_one_removed<S: Subject>(bed: &Bed<S>) {
    let (service, only) = (service("greeter"), instance(1));
    bed.put(&service, &only).await;
    let mut watcher = bed.watcher(&service).await;
    watcher.sees_exactly(&[&only]).await;
    bed.remove(&service, &only).await;
    watcher.sees_exactly(&[]).await;
    bed.put(&service, &only).await;
    watcher.sees_exactly(&[&only]).await;
}

/// Every set is sorted by id, whatever order they came in, and the revisions rise.
pub async fn order<S: Subject>(bed: &Bed<S>) {
    let service = service("greeter");
    let mut watcher = bed.watcher(&service).await;
    let mut revision = watcher.now().revision;
    for number in [5, 1, 4, 2, 3] {
        let one = instance(number);
        bed.put(&service, &one).await;
        loop {
            let set = watcher.next().await;
            assert!(
                set.revision > revision,
                "revisions must rise; {} follows {revision}",
                set.revision
            );
            revision = set.revision;
            assert!(
                set.instances.is_sorted_by(|a, b| a.id() < b.id()),
                "a set must be sorted by id; it is {set:?}"
            );
            if set.get(one.id()).is_some() {
                break;
            }
        }
    }
    let sorted = watcher.ids();
    assert_eq!(bed.watcher(&service).await.ids(), sorted, "a new client sees the same order");
}

/// An instance under two keys is one, and stays while one of them does.
pub async fn duplicate<S: Subject>(bed: &Bed<S>) {
    let (service, one) = (service("greeter"), instance(1));
    let mut watcher = bed.watcher(&service).await;
    bed.put(&service, &one).await;
    bed.subject().write_raw(&service, "a", &bed.subject().encoded(&one)).await;
    let last = bed.catch_up(&mut watcher, &service).await;
    watcher.sees_exactly(&[&one, &last]).await;
    bed.assert_now(&service, &[&one, &last]).await;
    bed.remove(&service, &one).await;
    let newer = bed.catch_up(&mut watcher, &service).await;
    watcher.sees_exactly(&[&one, &last, &newer]).await;
    bed.subject().delete_raw(&service, "a").await;
    watcher.sees_exactly(&[&last, &newer]).await;
}

/// What somebody writes with the registry's own tools is seen as what we write.
pub async fn written_by_hand<S: Subject>(bed: &Bed<S>) {
    let (service, one, other) = (service("greeter"), instance(1), instance(2));
    bed.subject().write_raw(&service, "a", &bed.subject().encoded(&one)).await;
    let mut watcher = bed.watcher(&service).await;
    watcher.sees_exactly(&[&one]).await;
    bed.subject().write_raw(&service, "b", &bed.subject().encoded(&other)).await;
    watcher.sees_exactly(&[&one, &other]).await;
    bed.subject().delete_raw(&service, "a").await;
    watcher.sees_exactly(&[&other]).await;
}

/// An entry that cannot be read is left out and counted; the others are not touched.
pub async fn bad_value_skipped<S: Subject>(bed: &Bed<S>) {
    let (service, good, late) = (service("greeter"), instance(1), instance(2));
    bed.put(&service, &good).await;
    let mut watcher = bed.watcher(&service).await;
    bed.subject().write_raw(&service, "b", b"\xff\xfe is no instance").await;
    watcher.sees("one entry skipped", |set| set.skipped == 1).await;
    watcher.sees_exactly(&[&good]).await;
    // The same in a list.
    let mut listed = bed.watcher(&service).await;
    let set = listed.sees_exactly(&[&good]).await;
    assert_eq!(set.skipped, 1, "a list must count what it skips; it is {set:?}");
    bed.subject().write_raw(&service, "b", &bed.subject().encoded(&late)).await;
    for watcher in [&mut watcher, &mut listed] {
        let set = watcher.sees_exactly(&[&good, &late]).await;
        assert_eq!(set.skipped, 0, "nothing must be skipped any more; it is {set:?}");
    }
}

/// A service whose name begins with another one's name is another service.
pub async fn sibling_names_apart<S: Subject>(bed: &Bed<S>) {
    let names = ["foo", "foobar", "fo", "foo-bar", "foo.bar", "foo0"];
    let all: Vec<_> = (1..).map(instance).zip(names.map(service)).collect();
    let (first, name) = &all[0];
    let mut early = bed.watcher(name).await;
    for (one, service) in &all {
        bed.put(service, one).await;
    }
    let last = bed.catch_up(&mut early, name).await;
    early.sees_exactly(&[first, &last]).await;
    bed.remove(name, &last).await;
    for (one, service) in &all {
        bed.watcher(service).await.sees_exactly(&[one]).await;
    }
    for (one, service) in &all[1..] {
        bed.remove(service, one).await;
    }
    bed.assert_now(name, &[first]).await;
}

/// Every character that a name may have, and the longest name.
pub async fn odd_names<S: Subject>(bed: &Bed<S>) {
    let longest = "x".repeat(128);
    for (number, name) in (1..).zip(["a.b_c-1", "A-1", "...", "-", "_", "0", &longest]) {
        let (service, one) = (service(name), instance(number));
        let mut watcher = bed.watcher(&service).await;
        bed.put(&service, &one).await;
        watcher.sees_exactly(&[&one]).await;
        bed.assert_now(&service, &[&one]).await;
    }
}

/// 1,000 instances are seen by a watcher and by one that comes later; one of them leaves.
pub async fn a_thousand_instances<S: Subject>(bed: &Bed<S>) {
    let service = service("fleet");
    let mut watcher = bed.watcher(&service).await;
    let all: Vec<_> = (1..=1000).map(instance).collect();
    stream::iter(&all).for_each_concurrent(32, |one| bed.put(&service, one)).await;
    let expected: BTreeSet<_> = all.iter().map(|one| one.id().clone()).collect();
    let set = watcher.sees("1,000 instances", |set| set.instances.len() >= 1000).await;
    let found: BTreeSet<_> = set.instances.iter().map(|one| one.id().clone()).collect();
    assert!(
        found == expected,
        "all 1,000 must be seen; {} are missing",
        expected.difference(&found).count()
    );
    let mut late = bed.watcher(&service).await;
    assert_eq!(late.now().instances.len(), 1000, "a list must have all of them at once");
    bed.remove(&service, &all[500]).await;
    for watcher in [&mut watcher, &mut late] {
        let set = watcher.sees("999 instances", |set| set.instances.len() == 999).await;
        let gone = set.get(all[500].id()).is_none();
        assert!(gone, "the one that was removed must be missing; another one is");
    }
}
