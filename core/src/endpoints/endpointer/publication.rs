//! The set that calls see, and how it is prepared for the balancers over it.
//!
//! A balancer prepares a set before calls see it. That is foreign code: it may be slow, attach or drop another
//! balancer over the same endpointer, or wait for a thread that does. So no lock is held while it runs. A set to
//! publish is put on the agenda. The first thread to find nobody at work publishes it, and whatever is added to
//! the agenda meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use super::set::{Attached, BalancerId, EndpointSet};
use crate::Balancer;
use crate::endpoints::endpoint::Surroundings;
use crate::task::shield::shielded;

/// How often whoever is at work looks for more before it leaves that to the endpointer's task, and how often a set
/// is looked at again for balancers that others attach while they prepare.
const MOST: usize = 8;

pub(super) struct Publication<S> {
    around: Arc<Surroundings>,
    set: ArcSwap<EndpointSet<S>>,
    /// Counts the sets published, and wakes whoever waits for one.
    version: watch::Sender<u64>,
    agenda: Mutex<Agenda<S>>,
}

/// What there is to do. Only looked at and changed under the lock: nothing of the user's runs or is dropped there.
struct Agenda<S> {
    next: BalancerId,
    balancers: Vec<(BalancerId, Weak<dyn Balancer>)>,
    /// Those with a smaller number were there when the present set was prepared.
    seen: BalancerId,
    /// The newest set, not yet prepared.
    waiting: Option<EndpointSet<S>>,
    is_busy: bool,
}

impl<S> Publication<S> {
    pub(super) fn new(around: Arc<Surroundings>) -> Self {
        let agenda =
            Agenda { next: 0, balancers: Vec::new(), seen: 0, waiting: None, is_busy: false };
        Self {
            set: ArcSwap::from_pointee(EndpointSet::pending(around.source.clone())),
            around,
            version: watch::Sender::new(0),
            agenda: Mutex::new(agenda),
        }
    }

    pub(super) fn load(&self) -> Guard<Arc<EndpointSet<S>>> {
        self.set.load()
    }

    pub(super) fn load_full(&self) -> Arc<EndpointSet<S>> {
        self.set.load_full()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Publishes a set: at once, unless somebody is at work, who then does it.
    pub(super) fn publish(&self, set: EndpointSet<S>) {
        let replaced = self.agenda().waiting.replace(set);
        drop(replaced);
        self.work();
    }

    /// Has every set from now on prepared for the balancer, the present one included.
    pub(super) fn attach(&self, balancer: Weak<dyn Balancer>) -> BalancerId {
        let id = {
            let mut agenda = self.agenda();
            let id = agenda.next;
            agenda.next += 1;
            agenda.balancers.push((id, balancer));
            id
        };
        self.work();
        id
    }

    fn agenda(&self) -> MutexGuard<'_, Agenda<S>> {
        // Nothing in here panics half way.
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        // The user's to drop, which may come back here: when nobody is at work any more.
        let (mut sets, mut balancers) = (Vec::new(), Vec::new());
        let Some(mut turn) = Turn::take(self) else { return };
        for _ in 0..MOST {
            let Some(waiting) = turn.next() else { break };
            let is_new = waiting.is_some();
            let mut set = waiting.unwrap_or_else(|| self.set.load().again());
            for _ in 0..MOST {
                let found = turn.balancers(&set);
                if found.is_empty() {
                    break;
                }
                set.prepare_for(&self.around.service, &found);
                balancers.extend(found);
            }
            sets.push(self.set.swap(Arc::new(set)));
            if is_new {
                // After the set stands: who is woken finds it.
                self.version.send_modify(|version| *version += 1);
            }
        }
        if !turn.over {
            // That is enough for a caller who only attaches: the endpointer's task goes on.
            self.around.changed.notify_one();
        }
        drop(turn);
        for set in sets {
            shielded(|| drop(set));
        }
        for balancer in balancers {
            shielded(|| drop(balancer));
        }
    }
}

/// Held by who is at work.
struct Turn<'a, S> {
    publication: &'a Publication<S>,
    /// Given back.
    over: bool,
}

impl<'a, S> Turn<'a, S> {
    /// Nothing if another one is at work, on another thread or further up this one's stack: that one looks again.
    fn take(publication: &'a Publication<S>) -> Option<Self> {
        let busy = std::mem::replace(&mut publication.agenda().is_busy, true);
        // Made only where it is ours, for dropping it gives it back.
        (!busy).then(|| Self { publication, over: false })
    }

    /// The set that waits, or `Some(None)`: the present one, for balancers that are new. Without either the turn is
    /// over.
    fn next(&mut self) -> Option<Option<EndpointSet<S>>> {
        let mut agenda = self.publication.agenda();
        if agenda.waiting.is_none() && agenda.seen == agenda.next {
            // Under the lock in which there was nothing to do: what comes later finds nobody at work.
            agenda.is_busy = false;
            self.over = true;
            return None;
        }
        Some(agenda.waiting.take())
    }

    /// The balancers that the set has not been prepared for.
    fn balancers(&self, set: &EndpointSet<S>) -> Attached {
        let mut agenda = self.publication.agenda();
        agenda.seen = agenda.next;
        agenda.balancers.retain(|(_, balancer)| balancer.strong_count() > 0);
        let missing = agenda.balancers.iter().filter(|(id, _)| !set.is_prepared_for(*id));
        missing.filter_map(|(id, balancer)| Some((*id, balancer.upgrade()?))).collect()
    }
}

impl<S> Drop for Turn<'_, S> {
    fn drop(&mut self) {
        if !self.over {
            self.publication.agenda().is_busy = false;
        }
    }
}
