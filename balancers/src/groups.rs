//! What the balancers have in common that divide a set: groups of endpoints, each with a share of
//! the calls and a balancer of its own.
//!
//! A group's balancer is kept by the group's key from set to set, so that a round robin goes on
//! where it was. All of that happens when a set is prepared; a pick finds its group by a binary
//! search, for a registry may name any number of them, and asks that group's balancer.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleetward_core::Balancer;
use fleetward_core::balancing::{PickContext, Prepared, ReadySet, pick_allowed};
use fleetward_core::endpoints::Member;

/// The balancers of groups, by key.
pub(crate) struct GroupCache<K, B> {
    make: Box<dyn Fn() -> B + Send + Sync>,
    by_key: Mutex<BTreeMap<K, Arc<B>>>,
}

impl<K: Ord, B> GroupCache<K, B> {
    pub(crate) fn new(make: impl Fn() -> B + Send + Sync + 'static) -> Self {
        Self { make: Box::new(make), by_key: Mutex::default() }
    }

    fn get(&self, key: K) -> Arc<B> {
        if let Some(known) = self.by_key().get(&key).cloned() {
            return known;
        }
        // Not under the lock, for it is the user's code. Of two who make one at once, the first counts.
        let made = Arc::new((self.make)());
        self.by_key().entry(key).or_insert_with(|| made.clone()).clone()
    }

    fn by_key(&self) -> MutexGuard<'_, BTreeMap<K, Arc<B>>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the balancers that no group has: one for each key that was ever there would be too
    /// many. A group that was made for a single pick still has its own.
    fn retain_used(&self) {
        let mut unused = Vec::new();
        self.by_key().retain(|_, balancer| {
            let used = Arc::strong_count(balancer) > 1;
            unused.extend((!used).then(|| balancer.clone()));
            used
        });
        // Not under the lock: these are the user's to drop.
        drop(unused);
    }
}

impl<K, B> fmt::Debug for GroupCache<K, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupCache").finish_non_exhaustive()
    }
}

/// Which members of a set stand in a group.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) ready: Vec<usize>,
    pub(crate) not_ready: Vec<Member>,
    /// Of all calls, relative to the other parts.
    pub(crate) share: f64,
}

/// A set in groups.
pub(crate) struct Grouped<B> {
    /// How many members the whole set has.
    len: usize,
    /// In the order in which they stand in for one another.
    groups: Vec<Group<B>>,
}

struct Group<B> {
    balancer: Arc<B>,
    members: Vec<Member>,
    /// Where the members stand in the whole set.
    positions: Vec<usize>,
    not_ready: Vec<Member>,
    prepared: Option<Prepared>,
    /// The sum of the shares up to this group's, of all.
    up_to: f64,
}

impl<B: Balancer + 'static> Grouped<B> {
    /// Parts without a member that could take a call are left out, and with them their shares. Where
    /// no share is left, the first part gets all.
    pub(crate) fn new<K: Ord>(
        endpoints: &ReadySet<'_>,
        parts: impl IntoIterator<Item = (K, Part)>,
        kept: &GroupCache<K, B>,
    ) -> Self {
        let members = endpoints.members();
        let parts: Vec<_> = parts
            .into_iter()
            .filter(|(_, part)| part.ready.iter().any(|&at| !members[at].instance().is_draining()))
            .collect();
        let total: f64 = parts.iter().map(|(_, part)| part.share).sum();
        let mut up_to = 0.0;
        let groups = parts
            .into_iter()
            .map(|(key, part)| {
                up_to += if total > 0.0 { part.share / total } else { 1.0 };
                let members: Vec<_> = part.ready.iter().map(|&at| members[at].clone()).collect();
                let balancer = kept.get(key);
                let set = ReadySet::new(&members).with_not_ready(&part.not_ready);
                let prepared = balancer.prepare(&set);
                let (positions, not_ready) = (part.ready, part.not_ready);
                Group { balancer, members, positions, not_ready, prepared, up_to }
            })
            .collect();
        Self { len: members.len(), groups }
    }

    /// As what is to be prepared for a set, by which balancers are kept.
    pub(crate) fn into_prepared<K: Ord>(self, kept: &GroupCache<K, B>) -> Prepared {
        kept.retain_used();
        Box::new(self)
    }

    /// What was prepared for this set, if it was.
    pub(crate) fn of<'a>(endpoints: &ReadySet<'a>) -> Option<&'a Self> {
        endpoints.prepared::<Self>().filter(|grouped| grouped.len == endpoints.len())
    }

    /// Asks the group that `unit`, a number in `0..1`, falls to. If it offers nothing but what the call
    /// is not to go to, the others stand in; if they offer no more, the call goes there all the same.
    pub(crate) fn pick(&self, unit: f64, context: &PickContext<'_>) -> Option<usize> {
        let last = self.groups.len().checked_sub(1)?;
        // The last sum may have been rounded down.
        let chosen = self.groups.partition_point(|group| group.up_to <= unit).min(last);
        let chosen = &self.groups[chosen];
        let others = self.groups.iter().filter(|group| !std::ptr::eq(*group, chosen));
        let mut excluded = None;
        for group in std::iter::once(chosen).chain(others) {
            match group.pick(context) {
                Some(picked) if picked.excluded => {
                    excluded.get_or_insert(picked.position);
                }
                Some(picked) => return Some(picked.position),
                None => {}
            }
        }
        excluded
    }
}

impl<B: Balancer + 'static> Grouped<B> {
    /// Asks one of the groups after the first, each with a chance by its size, for a member in its
    /// stead.
    pub(crate) fn pick_beside_first(&self, unit: f64, context: &PickContext<'_>) -> Option<usize> {
        let others = self.groups.get(1..)?;
        let members: usize = others.iter().map(|group| group.members.len()).sum();
        let mut left = (unit * members as f64) as usize;
        let chosen = others.iter().find(|group| {
            let found = left < group.members.len();
            left = left.saturating_sub(group.members.len());
            found
        });
        chosen?.pick(context).filter(|picked| !picked.excluded).map(|picked| picked.position)
    }
}

/// What a group's balancer chose.
struct Picked {
    /// In the whole set.
    position: usize,
    excluded: bool,
}

impl<B: Balancer> Group<B> {
    fn pick(&self, context: &PickContext<'_>) -> Option<Picked> {
        let set = ReadySet::new(&self.members)
            .with_not_ready(&self.not_ready)
            .with_prepared(self.prepared.as_ref());
        let picked = pick_allowed(&*self.balancer, &set, context)?;
        let excluded = context.excludes(&self.members[picked]);
        Some(Picked { position: *self.positions.get(picked)?, excluded })
    }
}

impl<B> fmt::Debug for Grouped<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grouped").field("groups", &self.groups.len()).finish_non_exhaustive()
    }
}
