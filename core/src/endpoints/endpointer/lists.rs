//! The long part of an endpoint set, and how it is changed without being copied.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::held::Held;
use crate::InstanceId;
use crate::discovery::edits::{self, Edit};
use crate::endpoints::Member;

/// What can take a call and what cannot, each sorted by id.
pub(super) struct Lists<S> {
    /// Beside `services`, position by position: a balancer sees these without knowing `S`.
    pub(super) members: Vec<Member>,
    pub(super) services: Vec<Held<S>>,
    pub(super) resting: Vec<Member>,
    /// Those of `members`.
    pub(super) weights: Weights,
}

impl<S> Default for Lists<S> {
    fn default() -> Self {
        Self {
            members: Vec::new(),
            services: Vec::new(),
            resting: Vec::new(),
            weights: Weights::default(),
        }
    }
}

impl<S: Clone> Clone for Lists<S> {
    fn clone(&self) -> Self {
        Self {
            members: self.members.clone(),
            services: self.services.clone(),
            resting: self.resting.clone(),
            weights: self.weights.clone(),
        }
    }
}

/// Where an instance stands from now on.
#[derive(Clone)]
pub(super) enum Place<S> {
    Ready(Member, Held<S>),
    Resting(Member),
    Nowhere,
}

/// Moves, sorted by id, each id once.
pub(super) type Moves<S> = Vec<(InstanceId, Place<S>)>;

impl<S> Place<S> {
    fn is_broken(&self) -> bool {
        matches!(self, Self::Ready(_, service) if !service.is_some())
    }
}

impl<S> Lists<S> {
    fn broken(&self) -> impl Iterator<Item = InstanceId> {
        let services = self.members.iter().zip(&self.services);
        let broken = services.filter(|(_, service)| !service.is_some());
        broken.map(|(member, _)| member.instance().id().clone())
    }

    fn apply(&mut self, moves: Moves<S>) {
        let (mut members, mut services, mut resting) = (Vec::new(), Vec::new(), Vec::new());
        for (id, place) in moves {
            let ready_at = find(&self.members, &id);
            let resting_at = find(&self.resting, &id);
            let (ready, rests) = match place {
                Place::Ready(member, service) => (Some((member, service)), None),
                Place::Resting(member) => (None, Some(member)),
                Place::Nowhere => (None, None),
            };
            if let Ok(at) = ready_at {
                self.weights.remove(self.members[at].instance().weight());
            }
            let (member, service) = ready.unzip();
            if let Some(member) = &member {
                self.weights.add(member.instance().weight());
            }
            members.extend(Edit::new(ready_at, member));
            services.extend(Edit::new(ready_at, service));
            resting.extend(Edit::new(resting_at, rests));
        }
        edits::apply(&mut self.members, members);
        edits::apply(&mut self.services, services);
        edits::apply(&mut self.resting, resting);
    }
}

/// How many have which weight. Mostly all have one and the same, and a balancer that knows so has nothing to
/// prepare.
#[derive(Clone, Default)]
pub(super) struct Weights {
    counts: BTreeMap<u32, usize>,
}

impl Weights {
    fn add(&mut self, weight: u32) {
        *self.counts.entry(weight).or_default() += 1;
    }

    fn remove(&mut self, weight: u32) {
        if let Entry::Occupied(mut count) = self.counts.entry(weight) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// The weight that all have, if they have the same.
    pub(super) fn even(&self) -> Option<u32> {
        self.counts.keys().next().copied().filter(|_| self.counts.len() == 1)
    }
}

fn find(members: &[Member], id: &InstanceId) -> Result<usize, usize> {
    members.binary_search_by(|member| member.instance().id().cmp(id))
}

/// Two copies: one is published, the other, which was published before, waits to be the next.
pub(super) struct Copies<S> {
    published: Arc<Lists<S>>,
    spare: Option<Arc<Lists<S>>>,
    /// What was published before, and what it lacks. Calls may still read it.
    behind: Option<(Arc<Lists<S>>, Moves<S>)>,
}

impl<S: Clone> Copies<S> {
    pub(super) fn new() -> Self {
        Self { published: Arc::default(), spare: None, behind: None }
    }

    /// What is to be published after these moves, and whose services are missing there because their `Clone`
    /// panics. Those are to be moved away first.
    pub(super) fn next(&mut self, moves: Moves<S>) -> (Arc<Lists<S>>, Vec<InstanceId>) {
        if moves.is_empty() {
            return (self.published.clone(), Vec::new());
        }
        self.behind = None;
        let spare = self.spare.take().and_then(Arc::into_inner);
        let mut broken = Vec::new();
        let mut lists = spare.unwrap_or_else(|| {
            let copy = Lists::clone(&self.published);
            broken.extend(copy.broken());
            copy
        });
        let applied = moves.clone();
        broken.extend(
            applied.iter().filter(|(_, place)| place.is_broken()).map(|(id, _)| id.clone()),
        );
        lists.apply(applied);
        let before = std::mem::replace(&mut self.published, Arc::new(lists));
        self.behind = Some((before, moves));
        (self.published.clone(), broken)
    }

    /// Brings the copy published before up to date, if nobody reads it any more. Whether that is done:
    /// else it is to be tried again, or [given up](Self::give_up).
    pub(super) fn catch_up(&mut self) -> bool {
        let Some((mut before, moves)) = self.behind.take() else { return true };
        match Arc::get_mut(&mut before) {
            Some(lists) => {
                lists.apply(moves);
                self.spare = Some(before);
                true
            }
            None => {
                self.behind = Some((before, moves));
                false
            }
        }
    }

    /// Keeps nothing alive that has left the set: the next one is made by copying.
    pub(super) fn give_up(&mut self) {
        self.spare = None;
        self.behind = None;
    }

    /// What is published.
    pub(super) fn published(&self) -> Arc<Lists<S>> {
        self.published.clone()
    }
}

/// Through its shared handle.
impl<S> std::ops::Deref for Copies<S> {
    type Target = Lists<S>;

    fn deref(&self) -> &Lists<S> {
        &self.published
    }
}
