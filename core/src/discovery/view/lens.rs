//! A view, and what those who are subscribed through it share.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{Memo, View};
use crate::Subscription;

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
        let (channel, behind) = subscription.origin();
        let service = subscription.service().clone();
        let fresh = Memo::new(self.view.clone(), service, channel.clone(), behind.cloned());
        let fresh = Arc::new(fresh);
        let mut known = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = known.upgrade();
        // An instancer may subscribe to something else each time: revisions of two publishers
        // cannot be compared.
        let is_same = shared.as_ref().is_some_and(|memo| memo.is_of(channel, behind));
        if !is_same {
            *known = Arc::downgrade(&fresh);
        }
        drop(known);
        // From here on: what is dropped may be the user's.
        subscription.through(shared.filter(|_| is_same).unwrap_or(fresh))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::{InstancerExt, Publisher};
    use crate::{Instance, Instancer};

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
