//! The slots of a service, and where their endpoints stand in the next set.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::time::delay_queue::Key;

use super::factories::Ticket;
use super::lists::{Move, Place};
use super::slot::{Available, Counts, Slot};
use crate::endpoints::endpoint::Surroundings;
use crate::endpoints::{Member, Readiness};
use crate::{Instance, InstanceId};

/// One slot an instance, and which of them may stand elsewhere than in the set published last.
pub(super) struct Slots<S> {
    around: Arc<Surroundings>,
    slots: BTreeMap<InstanceId, Slot<S>>,
    generation: u64,
    /// Those whose place may have changed since the last set; also those that are gone.
    touched: Vec<InstanceId>,
    counts: Counts,
    /// The share of healthy ones below which the others are used as well.
    panic_threshold: f64,
    panicking: bool,
    /// Whether one has begun to fail since that was asked last.
    failing: bool,
    /// Those that are not in the next set. They end when it is published.
    leaving: Vec<Available>,
}

impl<S: Clone> Slots<S> {
    pub(super) fn new(around: Arc<Surroundings>, panic_threshold: f64) -> Self {
        Self {
            around,
            slots: BTreeMap::new(),
            generation: 0,
            touched: Vec::new(),
            counts: Counts::default(),
            panic_threshold,
            panicking: false,
            failing: false,
            leaving: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&InstanceId, &Slot<S>)> {
        self.slots.iter()
    }

    pub(super) fn get(&self, id: &InstanceId) -> Option<&Slot<S>> {
        self.slots.get(id)
    }

    /// The slot that a factory runs for, unless it is gone or was made anew.
    pub(super) fn of(&mut self, (id, generation): &Ticket) -> Option<&mut Slot<S>> {
        self.slots.get_mut(id).filter(|slot| slot.generation == *generation)
    }

    fn at(&self, (id, generation): &Ticket) -> Option<&Slot<S>> {
        self.slots.get(id).filter(|slot| slot.generation == *generation)
    }

    pub(super) fn is_wanted(&self, ticket: &Ticket) -> bool {
        self.at(ticket).is_some()
    }

    /// What the factory needs, if anybody still wants its service.
    pub(super) fn wanted(&self, ticket: &Ticket) -> Option<(Arc<Instance>, Readiness)> {
        let slot = self.at(ticket)?;
        Some((slot.instance().clone(), slot.readiness()))
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn is_panicking(&self) -> bool {
        self.panicking
    }

    pub(super) fn touch(&mut self, id: &InstanceId) {
        self.touched.push(id.clone());
    }

    /// Takes the newest weight and metadata of an instance. `false` if there is no slot that they fit.
    pub(super) fn update(&mut self, instance: &Arc<Instance>) -> bool {
        self.touch(instance.id());
        self.slots.get_mut(instance.id()).is_some_and(|slot| slot.update(instance))
    }

    pub(super) fn add(&mut self, instance: Arc<Instance>) -> (Ticket, Member) {
        self.generation += 1;
        let id = instance.id().clone();
        let slot = Slot::new(self.around.clone(), instance, self.generation);
        let member = slot.member();
        self.slots.insert(id.clone(), slot);
        ((id, self.generation), member)
    }

    /// The key is that of its factory's next try.
    pub(super) fn remove(&mut self, id: &InstanceId) -> Option<Key> {
        let mut slot = self.slots.remove(id)?;
        self.leaving.extend(slot.leave());
        self.counts.remove(slot.counted());
        self.touched.push(id.clone());
        slot.later
    }

    pub(super) fn clear(&mut self) {
        self.touched.extend(self.slots.keys().cloned());
        self.leaving.extend(self.slots.values_mut().filter_map(Slot::leave));
        self.slots.clear();
        self.counts = Counts::default();
    }

    /// After many were added: filled in order, one by one, the tree's nodes are half empty; made as a whole, they are
    /// full.
    pub(super) fn compact(&mut self) {
        self.slots = std::mem::take(&mut self.slots).into_iter().collect();
    }

    /// Counts all anew. They and those that are listed are looked at for the next set.
    pub(super) fn recount(&mut self, listed: impl Iterator<Item = InstanceId>) {
        self.counts = Counts::default();
        self.slots.values_mut().for_each(Slot::uncount);
        self.touched = listed.collect();
        self.touched.extend(self.slots.keys().cloned());
    }

    /// Where everything stands whose place may have changed.
    pub(super) fn moves(&mut self) -> Vec<Move<S>> {
        let mut touched = std::mem::take(&mut self.touched);
        // Before their state is looked at: what changes after that is noted again.
        touched.append(&mut self.around.take_touched());
        touched.sort();
        touched.dedup();
        for id in &touched {
            if let Some(slot) = self.slots.get_mut(id) {
                let (now, before) = slot.recount();
                self.counts.remove(before);
                self.counts.add(now);
                self.failing |= now.fails_since(before);
            }
        }
        let Counts { usable, healthy, pending, .. } = self.counts;
        // Those whose check has not spoken yet may be well: while they could make the set good
        // enough, a bad one that spoke first is not used.
        let panicking =
            ((healthy + pending) as f64) < (usable + pending) as f64 * self.panic_threshold;
        if panicking != self.panicking {
            self.panicking = panicking;
            touched.extend(self.slots.keys().cloned());
            touched.sort();
            touched.dedup();
        }
        let now = Instant::now();
        let place = |id| {
            let slot = self.slots.get_mut(id);
            slot.map_or(Place::Nowhere, |slot| slot.place(panicking, now, &mut self.leaving))
        };
        let places: Vec<_> = touched.iter().map(place).collect();
        touched.into_iter().zip(places).collect()
    }

    /// Whether an instance has begun to fail since this was asked last: it cannot be reached, or it is ejected.
    pub(super) fn take_failing(&mut self) -> bool {
        std::mem::take(&mut self.failing)
    }

    /// The set without those that leave is published.
    pub(super) fn published(&mut self) {
        self.leaving.clear();
    }
}
