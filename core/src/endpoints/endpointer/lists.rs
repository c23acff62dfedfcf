//! The long part of an endpoint set, and how it changes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::held::Held;
use crate::InstanceId;
use crate::double_buffer::{self, Buffered, Edit};
use crate::endpoints::Member;

/// What can take a call and what cannot, each sorted by id.
pub(super) struct Lists<S> {
    /// Beside `services`, position by position: a balancer sees these without knowing `S`.
    pub(super) members: Vec<Member>,
    pub(super) services: Vec<Held<S>>,
    pub(super) not_ready: Vec<Member>,
    /// Those of `members`.
    pub(super) weights: Weights,
    /// Members without a service: its `Clone` has panicked.
    pub(super) broken: Vec<InstanceId>,
}

impl<S> Default for Lists<S> {
    fn default() -> Self {
        Self {
            members: Vec::new(),
            services: Vec::new(),
            not_ready: Vec::new(),
            weights: Weights::default(),
            broken: Vec::new(),
        }
    }
}

impl<S: Clone> Clone for Lists<S> {
    fn clone(&self) -> Self {
        let Self { members, services, not_ready, weights, .. } = self;
        let services = services.clone();
        let broken = members.iter().zip(&services).filter(|(_, service)| !service.is_some());
        let broken = broken.map(|(member, _)| member.instance().id().clone()).collect();
        let (members, not_ready, weights) = (members.clone(), not_ready.clone(), weights.clone());
        Self { members, services, not_ready, weights, broken }
    }
}

/// Where an instance stands from now on.
#[derive(Clone)]
pub(super) enum Place<S> {
    Ready(Member, Held<S>),
    NotReady(Member),
    Nowhere,
}

/// Where which instance stands.
pub(super) type Move<S> = (InstanceId, Place<S>);

impl<S: Clone> Lists<S> {
    pub(super) fn of(moves: &[Move<S>]) -> Self {
        let mut lists = Self::default();
        lists.apply(moves);
        lists
    }
}

impl<S: Clone> Buffered for Lists<S> {
    type Change = Move<S>;

    fn apply(&mut self, moves: &[Move<S>]) {
        let (mut members, mut services, mut not_ready) = (Vec::new(), Vec::new(), Vec::new());
        self.broken.retain(|id| moves.binary_search_by(|(moved, _)| moved.cmp(id)).is_err());
        for (id, place) in moves {
            let ready_at = find(&self.members, id);
            let resting_at = find(&self.not_ready, id);
            let (ready, rests) = match place.clone() {
                Place::Ready(member, service) => (Some((member, service)), None),
                Place::NotReady(member) => (None, Some(member)),
                Place::Nowhere => (None, None),
            };
            if let Ok(at) = ready_at {
                self.weights.remove(self.members[at].instance().weight());
            }
            let (member, service) = ready.unzip();
            if let Some(member) = &member {
                self.weights.add(member.instance().weight());
            }
            if service.as_ref().is_some_and(|service| !service.is_some()) {
                self.broken.push(id.clone());
            }
            members.extend(Edit::new(ready_at, member));
            services.extend(Edit::new(ready_at, service));
            not_ready.extend(Edit::new(resting_at, rests));
        }
        double_buffer::apply(&mut self.members, members);
        double_buffer::apply(&mut self.services, services);
        double_buffer::apply(&mut self.not_ready, not_ready);
    }

    fn len(&self) -> usize {
        self.members.len() + self.not_ready.len()
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
