//! One computation for any number of subscribers, without a task.
//!
//! All subscriptions made through a lens share a memo: what was published last, and what the view
//! made of it. A reader asks with what it found in the channel; who is first computes. Two who ask at the same
//! moment may both compute, for a view is somebody's code: no lock is held while it chooses, and the result of
//! the one who is done first counts for both. The memo belongs to the subscriptions, so that nothing is kept, and
//! nothing done, when nobody is left.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use tokio::sync::watch;
use tokio::time::Instant;

use super::View;
use crate::backoff::{Backoff, BackoffState};
use crate::model::snapshot::sorted_unique;
use crate::task::shield::{panicked, shielded};
use crate::{Freshness, Instance, Snapshot, telemetry};

/// The newest snapshot and what is shown of it.
pub(crate) struct Memo {
    view: Arc<dyn View>,
    service: Arc<str>,
    /// Only to be compared.
    channel: watch::Receiver<Arc<Snapshot>>,
    behind: Option<Arc<Self>>,
    last: Mutex<Option<Arc<Last>>>,
    /// The threads on which the view is choosing: what it reads there through itself is its last choice.
    choosing: Mutex<Vec<ThreadId>>,
}

struct Last {
    source: Arc<Snapshot>,
    shown: Arc<Snapshot>,
    /// Set while the view panics: then what is shown is an earlier choice.
    failed: Option<Failed>,
}

#[derive(Clone)]
struct Failed {
    since: Instant,
    /// When the view is asked again, though nothing new was published.
    again: Instant,
    backoff: BackoffState,
}

impl Memo {
    pub(super) fn new(
        view: Arc<dyn View>,
        service: Arc<str>,
        channel: watch::Receiver<Arc<Snapshot>>,
        behind: Option<Arc<Self>>,
    ) -> Self {
        let (last, choosing) = (Mutex::default(), Mutex::default());
        Self { view, service, channel, behind, last, choosing }
    }

    /// Whether it is of a subscription to this channel, seen through that already.
    pub(super) fn is_of(
        &self,
        channel: &watch::Receiver<Arc<Snapshot>>,
        behind: Option<&Arc<Self>>,
    ) -> bool {
        channel.same_channel(&self.channel)
            && behind.map(Arc::as_ptr) == self.behind.as_ref().map(Arc::as_ptr)
    }

    /// What is shown of `published`; or of a newer one, if another reader was here with it.
    pub(crate) fn show(&self, published: Arc<Snapshot>) -> Arc<Snapshot> {
        let source = match &self.behind {
            Some(behind) => behind.show(published),
            None => published,
        };
        loop {
            let last = lock(&self.last).clone();
            if let Some(last) = &last {
                let is_older = source.revision < last.source.revision;
                if is_older || (Arc::ptr_eq(&source, &last.source) && !last.is_due()) {
                    return last.shown.clone();
                }
            }
            if lock(&self.choosing).contains(&thread::current().id()) {
                return last
                    .map_or_else(|| Arc::new(Snapshot::pending()), |last| last.shown.clone());
            }
            let next = Arc::new(self.look(&source, last.as_deref()));
            let mut place = lock(&self.last);
            // Another reader may have been quicker. Then this is looked at again, beside what that one has found.
            if place.as_ref().map(Arc::as_ptr) == last.as_ref().map(Arc::as_ptr) {
                let replaced = place.replace(next.clone());
                drop(place);
                drop(replaced);
                return next.shown.clone();
            }
        }
    }

    /// When to look again because the view has panicked.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        let behind = self.behind.as_ref().and_then(|behind| behind.retry_at());
        let last = lock(&self.last).clone();
        let own = last.and_then(|last| last.failed.as_ref().map(|failed| failed.again));
        own.into_iter().chain(behind).min()
    }

    fn look(&self, source: &Arc<Snapshot>, last: Option<&Last>) -> Last {
        let is_known =
            |last: &&Last| Arc::ptr_eq(&last.source.instances, &source.instances) && !last.is_due();
        let (instances, failed) = match last.filter(is_known) {
            Some(last) => (last.shown.instances.clone(), last.failed.clone()),
            None => self.choose(source, last),
        };
        let unseen = source.instances.len().saturating_sub(instances.len());
        let hidden = source.hidden + unseen;
        let mut shown = Snapshot { instances, hidden, ..Snapshot::clone(source) };
        if let Some(failed) = &failed {
            let error = panicked("the view").with_context("service", &self.service);
            let nothing = last.is_none_or(|last| last.shown.freshness.is_pending());
            shown.freshness = match nothing {
                true => Freshness::Pending { error: Some(error) },
                false => Freshness::Stale { since: failed.since, error },
            };
        }
        if let Some(Last { shown: before, .. }) = last {
            let same_set = before.instances == shown.instances;
            if same_set {
                // The old allocation stays, so that readers can compare pointers.
                shown.instances = before.instances.clone();
            }
            let is_same = same_set
                && before.skipped == shown.skipped
                // Of an empty set it is said why it is empty.
                && (before.hidden == shown.hidden || !shown.instances.is_empty())
                && before.settings == shown.settings
                && before.freshness.is_like(&shown.freshness);
            // Another number for another set, also where the view was asked twice about the same one.
            shown.revision = match is_same {
                true => before.revision,
                false => shown.revision.max(before.revision + 1),
            };
        }
        Last { source: source.clone(), shown: Arc::new(shown), failed }
    }

    /// What the view chooses; the choice before, if it panics.
    fn choose(&self, source: &Snapshot, last: Option<&Last>) -> (Set, Option<Failed>) {
        let thread = thread::current().id();
        lock(&self.choosing).push(thread);
        let chosen = shielded(|| sorted_unique(self.view.choose(&source.instances)));
        lock(&self.choosing).retain(|other| *other != thread);
        if let Some(chosen) = chosen {
            return (chosen, None);
        }
        let now = Instant::now();
        let before = last.and_then(|last| last.failed.clone());
        telemetry::view_panicked(&self.service, before.is_none());
        let mut failed = before.unwrap_or_else(|| Failed {
            since: now,
            again: now,
            backoff: BackoffState::new(Backoff::default(), fastrand::Rng::new()),
        });
        failed.again = now + failed.backoff.next_delay();
        (last.map(|last| last.shown.instances.clone()).unwrap_or_default(), Some(failed))
    }
}

type Set = Arc<Vec<Arc<Instance>>>;

impl Last {
    fn is_due(&self) -> bool {
        self.failed.as_ref().is_some_and(|failed| failed.again <= Instant::now())
    }
}

/// Nothing panics under these locks, for nothing of the user's runs or is dropped there.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
