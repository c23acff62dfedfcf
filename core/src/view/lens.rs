//! One computation for any number of subscribers, without a task.
//!
//! All subscriptions made through a lens share a memo: what was published last, and what the view
//! made of it. A reader asks with what it found in the channel; who is first computes. The memo
//! belongs to the subscriptions, so that nothing is kept, and nothing done, when nobody is left.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;

use super::View;
use crate::snapshot::sorted_unique;
use crate::{Snapshot, Subscription};

/// A view, and the memo of those who are subscribed through it.
pub(crate) struct Lens {
    view: Arc<dyn View>,
    memo: Mutex<Weak<Memo>>,
}

impl Lens {
    pub(crate) fn new(view: Arc<dyn View>) -> Self {
        Self { view, memo: Mutex::default() }
    }

    /// The subscription, seen through the view.
    pub(crate) fn over(&self, subscription: Subscription) -> Subscription {
        let mut known = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        // An instancer may subscribe to something else each time: revisions of two publishers
        // cannot be compared.
        let memo = known.upgrade().filter(|memo| memo.is_of(&subscription));
        let memo = memo.unwrap_or_else(|| {
            let memo = Arc::new(Memo::new(self.view.clone(), &subscription));
            *known = Arc::downgrade(&memo);
            memo
        });
        drop(known);
        subscription.through(memo)
    }
}

/// The newest snapshot and what is shown of it.
pub(crate) struct Memo {
    view: Arc<dyn View>,
    /// Only to be compared.
    channel: watch::Receiver<Arc<Snapshot>>,
    behind: Option<Arc<Memo>>,
    last: Mutex<Option<Last>>,
}

struct Last {
    source: Arc<Snapshot>,
    shown: Arc<Snapshot>,
}

impl Memo {
    fn new(view: Arc<dyn View>, subscription: &Subscription) -> Self {
        let (channel, behind) = subscription.origin();
        Self { view, channel: channel.clone(), behind: behind.cloned(), last: Mutex::default() }
    }

    fn is_of(&self, subscription: &Subscription) -> bool {
        let (channel, behind) = subscription.origin();
        channel.same_channel(&self.channel)
            && behind.map(Arc::as_ptr) == self.behind.as_ref().map(Arc::as_ptr)
    }

    /// What is shown of `published`; or of a newer one, if another reader was here with it.
    pub(crate) fn show(&self, published: Arc<Snapshot>) -> Arc<Snapshot> {
        let source = match &self.behind {
            Some(behind) => behind.show(published),
            None => published,
        };
        // A view that panicked has left `last` as it was.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = &*last {
            let is_older = source.revision < last.source.revision;
            if is_older || Arc::ptr_eq(&source, &last.source) {
                return last.shown.clone();
            }
        }
        let shown = Arc::new(self.look(&source, last.as_ref()));
        *last = Some(Last { source, shown: shown.clone() });
        shown
    }

    fn look(&self, source: &Snapshot, last: Option<&Last>) -> Snapshot {
        let unchanged = last.filter(|last| Arc::ptr_eq(&last.source.instances, &source.instances));
        let instances = match unchanged {
            Some(last) => last.shown.instances.clone(),
            None => sorted_unique(self.view.choose(&source.instances)),
        };
        let mut shown = Snapshot { instances, ..source.clone() };
        if let Some(Last { shown: before, .. }) = last {
            let same_set = before.instances == shown.instances;
            if same_set {
                // The old allocation stays, so that readers can compare pointers.
                shown.instances = before.instances.clone();
            }
            if same_set
                && before.skipped == shown.skipped
                && before.freshness.is_like(&shown.freshness)
            {
                shown.revision = before.revision;
            }
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Instance, Instancer, InstancerExt, Publisher};

    #[test]
    fn a_reader_that_is_late_is_shown_the_newest_all_the_same() {
        let list = Publisher::new("greeter");
        let subscription = list.clone().filter(|_| true).subscribe();
        let (_, memo) = subscription.origin();
        let memo = memo.unwrap();
        list.publish([Instance::new("10.0.0.1:80").unwrap()]);
        let old = list.current();
        list.publish([Instance::new("10.0.0.2:80").unwrap()]);
        let newest = subscription.current();
        assert!(Arc::ptr_eq(&memo.show(old), &newest));
        assert_eq!(newest.instances[0].address().to_string(), "10.0.0.2:80");
    }

    #[test]
    fn subscriptions_to_two_publishers_share_no_memo() {
        #[derive(Debug)]
        struct Alternating(Publisher, Publisher, std::sync::atomic::AtomicBool);
        impl Instancer for Alternating {
            fn subscribe(&self) -> Subscription {
                let first = self.2.fetch_not(std::sync::atomic::Ordering::Relaxed);
                if first { self.0.subscribe() } else { self.1.subscribe() }
            }
        }
        let (one, two) = (Publisher::new("one"), Publisher::new("two"));
        one.publish([]);
        one.publish([]);
        two.publish([Instance::new("10.0.0.1:80").unwrap()]);
        let view = Alternating(one, two, true.into()).filter(|_| true);
        let (first, second) = (view.subscribe(), view.subscribe());
        assert_eq!((first.current().instances.len(), second.current().instances.len()), (0, 1));
    }
}
