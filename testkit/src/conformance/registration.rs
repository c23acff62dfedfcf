//! What a registration that is kept alive does.

use std::time::Duration;

use super::bed::{instance, ok, service};
use super::{Bed, Subject};

/// Registered is seen, deregistered is gone, without waiting for the time to live.
pub async fn visible_to_a_watcher<S: Subject>(bed: &Bed<S>) {
    let (service, one, client) = (service("greeter"), instance(1), bed.client().await);
    let mut watcher = bed.watcher(&service).await;
    // So long that its end cannot pass for a removal.
    let options = bed.options().with_ttl(bed.expiry() + bed.capabilities().patience);
    let registered = client.register(&service, &one, options).await;
    let registration = ok("register", registered);
    let status = registration.status();
    assert!(status.is_registered(), "the status must be registered; it is {status:?}");
    watcher.sees_exactly(&[&one]).await;
    bed.assert_now(&service, &[&one]).await;
    ok("deregister", registration.deregister().await);
    watcher.sees_exactly(&[]).await;
}

/// The registration is renewed: it never leaves the set.
pub async fn renewed_past_three_ttls<S: Subject>(bed: &Bed<S>) {
    let (service, one, client) = (service("greeter"), instance(1), bed.client().await);
    let registration = bed.register(&client, &service, &one).await;
    let mut watcher = bed.watcher(&service).await;
    let long = bed.capabilities().ttl * 3 + bed.capabilities().expiry_slack;
    watcher.always(long, "registered", |set| set.get(one.id()).is_some()).await;
    bed.assert_now(&service, &[&one]).await;
    let status = registration.status();
    assert!(status.is_registered(), "the status must be registered; it is {status:?}");
}

/// A lease that is lost is noticed with the next renewal, and the instance registered again.
pub async fn lost_lease_registered_again<S: Subject>(bed: &Bed<S>) {
    let (service, one, client) = (service("greeter"), instance(1), bed.client().await);
    let registration = bed.register(&client, &service, &one).await;
    let mut watcher = bed.watcher(&service).await;
    for _ in 0..2 {
        bed.subject().lose_lease(&service, one.id()).await;
        // It was gone, so who sees it now sees the new registration.
        let deadline = bed.capabilities().ttl + bed.capabilities().patience;
        let again = async || {
            let seen = bed.watcher(&service).await.now().get(one.id()).is_some();
            seen && registration.status().is_registered()
        };
        crate::eventually("registered again", deadline, again).await;
        watcher.sees_exactly(&[&one]).await;
    }
    // What it is now is renewed too.
    let long = bed.capabilities().ttl + bed.capabilities().expiry_slack;
    watcher.always(long, "kept", |set| set.get(one.id()).is_some()).await;
    ok("deregister", registration.deregister().await);
    watcher.sees_exactly(&[]).await;
}

/// A registration is one key, also after another process took its place, and none in the end.
pub async fn exactly_one_key<S: Subject>(bed: &Bed<S>) {
    let (service, one) = (service("greeter"), instance(1));
    bed.assert_keys(&service, 0, "before it is registered").await;
    let (old, new) = (bed.client().await, bed.client().await);
    let before = bed.register(&old, &service, &one).await;
    bed.assert_keys(&service, 1, "when it is registered").await;
    let after = bed.register(&new, &service, &one).await;
    bed.assert_keys(&service, 1, "when it is registered by two").await;
    ok("deregister", before.deregister().await);
    ok("deregister", after.deregister().await);
    bed.assert_keys(&service, 0, "when it is deregistered").await;
}

/// An instance that is deregistered takes nothing away from its successor.
pub async fn deregisters_only_its_own<S: Subject>(bed: &Bed<S>) {
    let (service, one, client) = (service("greeter"), instance(1), bed.client().await);
    let before = bed.register(&client, &service, &one).await;
    // Nobody keeps this one, so nobody repairs it either.
    bed.put(&service, &one).await;
    let mut watcher = bed.watcher(&service).await;
    ok("deregister of what has a successor", before.deregister().await);
    bed.assert_now(&service, &[&one]).await;
    let last = bed.catch_up(&mut watcher, &service).await;
    // Nor does the end of its lease take it away.
    let long = bed.expiry();
    watcher.always(long, "the successor's", |set| set.get(one.id()).is_some()).await;
    bed.remove(&service, &one).await;
    watcher.sees_exactly(&[&last]).await;
}

/// Deregistering again changes nothing, not even for one that has registered since.
pub async fn double_deregister_harmless<S: Subject>(bed: &Bed<S>) {
    let (service, one, client) = (service("greeter"), instance(1), bed.client().await);
    let mut watcher = bed.watcher(&service).await;
    let registration = bed.register(&client, &service, &one).await;
    watcher.sees_exactly(&[&one]).await;
    let (first, second) = tokio::join!(registration.deregister(), registration.deregister());
    ok("deregister", first);
    ok("deregister of what is deregistered", second);
    watcher.sees_exactly(&[]).await;
    let _again = bed.register(&client, &service, &one).await;
    ok("deregister of what is deregistered", registration.deregister().await);
    let last = bed.catch_up(&mut watcher, &service).await;
    watcher.sees_exactly(&[&one, &last]).await;
}

/// A registration that is dropped is gone, at the latest with its time to live.
pub async fn dropped_leaves_nothing<S: Subject>(bed: &Bed<S>) {
    let (service, one, client) = (service("greeter"), instance(1), bed.client().await);
    let mut watcher = bed.watcher(&service).await;
    let registration = bed.register(&client, &service, &one).await;
    watcher.sees_exactly(&[&one]).await;
    drop((registration, client));
    watcher.sees_within(bed.expiry(), "gone", |set| set.instances.is_empty()).await;
    // It does not come back either, as it would if somebody renewed it still.
    let long = bed.capabilities().ttl + Duration::from_secs(1);
    watcher.always(long, "gone", |set| set.instances.is_empty()).await;
}
