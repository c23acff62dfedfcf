//! A view of a service, and waiting for what it should show.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use fleetward_core::{Health, Instance, Metadata, Snapshot, Subscription};
use tokio::time::{Instant, timeout, timeout_at};

use super::Capabilities;

/// A subscription that does not wait for ever.
#[derive(Debug)]
pub struct Watcher {
    subscription: Subscription,
    patience: Duration,
    /// What the keys of the metadata begin with that the backend adds.
    added: Option<Cow<'static, str>>,
}

impl Watcher {
    pub(super) fn new(subscription: Subscription, capabilities: &Capabilities) -> Self {
        let (patience, added) = (capabilities.patience, capabilities.added_metadata.clone());
        Self { subscription, patience, added }
    }

    /// Waits until the set is as it should be.
    ///
    /// # Panics
    /// If it is not within the subject's patience.
    pub async fn sees(
        &mut self,
        what: &str,
        condition: impl FnMut(&Snapshot) -> bool,
    ) -> Arc<Snapshot> {
        self.sees_within(self.patience, what, condition).await
    }

    /// As [`sees`](Self::sees), with a deadline of its own.
    ///
    /// # Panics
    /// If it is not within `deadline`.
    pub async fn sees_within(
        &mut self,
        deadline: Duration,
        what: &str,
        condition: impl FnMut(&Snapshot) -> bool,
    ) -> Arc<Snapshot> {
        match timeout(deadline, self.subscription.wait_for(condition)).await {
            Ok(Ok(set)) => set,
            Ok(Err(error)) => panic!("waiting for {what}: {error:?}"),
            Err(_) => panic!("not within {deadline:?}: {what}; instead {}", shown(&self.now())),
        }
    }

    /// Waits until the set is exactly these instances, everything that they say included but what
    /// the backend adds by itself, and the registry vouches for it.
    pub async fn sees_exactly(&mut self, expected: &[&Instance]) -> Arc<Snapshot> {
        let mut expected: Vec<Instance> = expected.iter().copied().cloned().collect();
        expected.sort_by(|a, b| a.id().cmp(b.id()));
        let what = format!("exactly {expected:?}");
        let added = self.added.clone();
        self.sees(&what, |set| {
            let found = set.instances.iter().map(|found| without(found, added.as_deref()));
            let same = found.eq(expected.iter().cloned());
            same && !set.freshness.is_pending() && !set.freshness.is_stale()
        })
        .await
    }

    /// Looks at every snapshot for some time.
    pub async fn always(
        &mut self,
        time: Duration,
        what: &str,
        condition: impl Fn(&Snapshot) -> bool,
    ) {
        let end = Instant::now() + time;
        let mut now = self.now();
        loop {
            assert!(condition(&now), "not always: {what}; {}", shown(&now));
            match timeout_at(end, self.subscription.changed()).await {
                Ok(newer) => now = newer.expect("the view is held"),
                Err(_) => return,
            }
        }
    }

    /// The next snapshot.
    pub async fn next(&mut self) -> Arc<Snapshot> {
        match timeout(self.patience, self.subscription.changed()).await {
            Ok(set) => set.expect("the view is held"),
            Err(_) => panic!("no news within {:?}; {}", self.patience, shown(&self.now())),
        }
    }

    /// The newest snapshot.
    pub fn now(&self) -> Arc<Snapshot> {
        self.subscription.current()
    }

    /// The ids in the newest snapshot.
    pub fn ids(&self) -> Vec<String> {
        self.now().instances.iter().map(|instance| instance.id().to_string()).collect()
    }
}

/// An instance without the metadata whose keys begin with `added`, and without what only the registry says.
fn without(instance: &Instance, added: Option<&str>) -> Instance {
    let instance = instance.clone().with_health(Health::Unknown);
    let Some(added) = added else { return instance };
    let own = instance.metadata().iter().filter(|(key, _)| !key.starts_with(added));
    let own = Metadata::new(own).expect("fewer than there were");
    instance.with_metadata(own)
}

/// A snapshot in a failure's message: not all of 1,000 instances.
fn shown(set: &Snapshot) -> String {
    let some: Vec<_> = set.instances.iter().take(5).collect();
    let (all, freshness) = (set.instances.len(), &set.freshness);
    format!("{all} instances, {} skipped, {freshness:?}; the first: {some:?}", set.skipped)
}
