//! What the registry said, key by key, and which instances that makes.

use std::cmp::Reverse;
use std::collections::hash_map::Entry as Place;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::keys::Keys;
use super::values::{self, Value};
use crate::discovery::empty_set::{Hold, is_bulk_drop};
use crate::discovery::{EmptySetPolicy, Entry, KeyChange};
use crate::double_buffer::{self, Buffered, DoubleBuffer, Edit};
use crate::{Error, Instance, InstanceId};

/// The state behind the snapshots: a row a key of the registry.
///
/// A row outlives its key while the empty-set policy holds it, and keeps its last good instance
/// while the value under the key cannot be read. The table knows no time but what it is given and
/// does no I/O.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: HashMap<Arc<str>, Row>,
    /// The rows of keys that hold several instances.
    groups: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// The keys under which each instance stands.
    keys_of: HashMap<InstanceId, Keys>,
    /// Instances that may differ from the last rendered set.
    touched: BTreeSet<InstanceId>,
    unreadable: usize,
    held: usize,
    /// Not later than the first deadline among the held rows.
    next_expiry: Option<Instant>,
    faults: Vec<(Arc<str>, Error)>,
    /// Instances that have more tags than are kept, and how many more.
    cut: Vec<(InstanceId, usize)>,
    /// The ids, as text, that several keys claim.
    claimed: HashSet<Box<str>>,
    clashes: Vec<Clash>,
    /// The key that turned unreadable last.
    newest_fault: Option<Arc<str>>,
    rendered: DoubleBuffer<Vec<Arc<Instance>>>,
}

impl Buffered for Vec<Arc<Instance>> {
    /// The instance from now on; nothing if it has left.
    type Change = (InstanceId, Option<Arc<Instance>>);

    fn apply(&mut self, changes: &[Self::Change]) {
        let edits = changes.iter().filter_map(|(id, now)| Edit::new(find(self, id), now.clone()));
        let edits = edits.collect();
        double_buffer::apply(self, edits);
    }

    fn len(&self) -> usize {
        self.len()
    }
}

fn find(set: &[Arc<Instance>], id: &InstanceId) -> Result<usize, usize> {
    set.binary_search_by(|one| one.id().cmp(id))
}

#[derive(Debug, Default)]
struct Row {
    /// The last good value.
    instance: Option<Arc<Instance>>,
    /// When that was written.
    revision: u64,
    /// Why the present value cannot be read.
    fault: Option<Error>,
    /// Set while the key is gone from the registry but kept by policy.
    hold: Option<Hold>,
    /// The registry's key, where that holds several instances.
    group: Option<Box<Arc<str>>>,
}

impl Row {
    /// The registry's key of the row that stands under `row`.
    fn key<'a>(&'a self, row: &'a Arc<str>) -> &'a Arc<str> {
        self.group.as_deref().unwrap_or(row)
    }
}

/// An id that several keys claim.
#[derive(Debug)]
pub(crate) struct Clash {
    pub(crate) instance: InstanceId,
    pub(crate) keys: usize,
    /// Some of them.
    pub(crate) addresses: Vec<String>,
}

/// Where a complete set came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The very first list: there is nothing to hold.
    First,
    /// A list that was asked for, so that what happened in between is not known.
    Relist,
    /// A watch that tells complete sets: one missing entry is one delete seen.
    Watched,
}

/// How a rendered set differs from the one before.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub(super) joined: Vec<InstanceId>,
    pub(super) left: Vec<InstanceId>,
}

impl Table {
    /// Takes a complete set. At most `limit` rows are held; a drop beyond it is followed.
    pub(super) fn replace(
        &mut self,
        entries: Vec<Entry>,
        origin: Origin,
        policy: EmptySetPolicy,
        limit: usize,
        now: Instant,
    ) {
        let mut all = Vec::with_capacity(entries.len());
        entries.into_iter().for_each(|entry| values::add(entry, &mut all));
        let listed: HashSet<Arc<str>> = all.iter().map(|value| value.row.clone()).collect();
        let mut known = 0;
        let (mut missing, mut worthless) = (Vec::new(), Vec::new());
        for (key, row) in self.rows.iter().filter(|(_, row)| row.hold.is_none()) {
            let gone = !listed.contains(key);
            if row.instance.is_none() {
                worthless.extend(gone.then(|| key.clone()));
                continue;
            }
            known += 1;
            missing.extend(gone.then(|| key.clone()));
        }
        let bulk = match origin {
            Origin::First => false,
            Origin::Watched if missing.len() == 1 => false,
            _ => is_bulk_drop(known, missing.len(), listed.len()),
        };
        let room = self.held + missing.len() <= limit;
        match policy.hold(now).filter(|_| bulk && room) {
            Some(hold) => missing.iter().for_each(|key| self.hold(key, hold)),
            None => missing.iter().for_each(|key| self.remove(key)),
        }
        worthless.iter().for_each(|key| self.remove(key));
        all.into_iter().for_each(|value| self.put(value));
    }

    /// Takes a change of one key.
    pub(super) fn apply(&mut self, change: KeyChange) {
        match change {
            KeyChange::Put(entry) => {
                let stood: Vec<_> = self.under(entry.key()).cloned().collect();
                let mut all = Vec::new();
                values::add(entry, &mut all);
                let stand: HashSet<&Arc<str>> = all.iter().map(|value| &value.row).collect();
                let gone = stood.iter().filter(|row| !stand.contains(row));
                gone.for_each(|row| self.remove(row));
                all.into_iter().for_each(|value| self.put(value));
            }
            KeyChange::Delete(key) => {
                let gone: Vec<_> = self.under(&key).cloned().collect();
                gone.iter().for_each(|row| self.remove(row));
            }
        }
    }

    /// The keys of the rows that stand under a key of the registry.
    fn under(&self, key: &Arc<str>) -> impl Iterator<Item = &Arc<str>> {
        let own = self.rows.get_key_value(key).filter(|(_, row)| row.group.is_none());
        self.groups.get(key).into_iter().flatten().chain(own.map(|(key, _)| key))
    }

    /// Makes everything anew that follows from the rows.
    pub(super) fn rebuild(&mut self) {
        let published = self.rendered.published().clone();
        let rows = std::mem::take(&mut self.rows);
        *self = Self { rendered: DoubleBuffer::new(published.clone()), ..Self::default() };
        self.touched = published.iter().map(|instance| instance.id().clone()).collect();
        for (key, row) in rows {
            self.unreadable += usize::from(row.fault.is_some());
            self.held += usize::from(row.hold.is_some());
            if let Some(instance) = &row.instance {
                self.link(instance.id(), &key);
            }
            if let Some(group) = row.group.as_deref() {
                self.groups.entry(group.clone()).or_default().insert(key.clone());
            }
            self.rows.insert(key, row);
        }
        self.reckon_expiry();
    }

    /// Lets go of the rows whose hold is over.
    pub(super) fn sweep(&mut self, now: Instant) {
        let held = self.rows.iter().filter_map(|(key, row)| Some((key, row.hold?)));
        let over: Vec<_> =
            held.filter(|(_, hold)| hold.is_over(now)).map(|(key, _)| key.clone()).collect();
        over.iter().for_each(|key| self.remove(key));
        self.reckon_expiry();
    }

    fn reckon_expiry(&mut self) {
        let deadline = |row: &Row| match row.hold? {
            Hold::Forever => None,
            Hold::Until(deadline) => Some(deadline),
        };
        self.next_expiry = self.rows.values().filter_map(deadline).min();
    }

    /// When to [`sweep`](Self::sweep) next.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.next_expiry
    }

    /// The set as it was rendered last.
    #[cfg(test)]
    pub(super) fn rendered(&self) -> &Arc<Vec<Arc<Instance>>> {
        self.rendered.published()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.groups.is_empty() && self.keys_of.is_empty()
    }

    /// How many rows are kept although their keys are gone.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// How many keys hold a value that cannot be read.
    pub(super) fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// How many keys the registry has, were these changes applied; never too few.
    pub(super) fn size_after(&self, changes: &[KeyChange]) -> usize {
        let stands = |key: &Arc<str>| self.rows.get(key).is_some_and(|row| row.hold.is_none());
        let news = changes.iter().map(|change| match change {
            KeyChange::Put(entry) => {
                let known = self.under(entry.key()).filter(|key| stands(key)).count();
                entry.instances().len().saturating_sub(known)
            }
            KeyChange::Delete(_) => 0,
        });
        self.rows.len() - self.held + news.sum::<usize>()
    }

    /// Why a key cannot be read: the one that turned so last, or another one if it is well again.
    pub(super) fn fault(&self) -> Option<Error> {
        if self.unreadable == 0 {
            return None;
        }
        let of = |(key, row): (&Arc<str>, &Row)| {
            Some(row.fault.clone()?.with_context("key", row.key(key)))
        };
        let newest = self.newest_fault.as_ref().and_then(|key| self.rows.get_key_value(key));
        newest.and_then(of).or_else(|| self.rows.iter().find_map(of))
    }

    /// The values that turned unreadable, or became so in another way, since the last call.
    pub(super) fn take_faults(&mut self) -> Vec<(Arc<str>, Error)> {
        std::mem::take(&mut self.faults)
    }

    /// The instances whose tags were cut since the last call.
    pub(super) fn take_cut(&mut self) -> Vec<(InstanceId, usize)> {
        std::mem::take(&mut self.cut)
    }

    /// The ids that have come to be claimed by several keys since the last call.
    pub(super) fn take_clashes(&mut self) -> Vec<Clash> {
        std::mem::take(&mut self.clashes)
    }

    /// How many ids are claimed by several keys.
    pub(super) fn claimed(&self) -> usize {
        self.claimed.len()
    }

    /// The set as it is now, sorted by id, or `None` if it equals the one rendered last. The work is that of what has
    /// changed, or one pass over the set where somebody still holds the one before the last.
    pub(super) fn render(&mut self) -> Option<(Arc<Vec<Arc<Instance>>>, Difference)> {
        let mut difference = Difference::default();
        let mut changes = Vec::new();
        let touched = std::mem::take(&mut self.touched);
        let last = self.rendered.published();
        for id in touched.iter().cloned() {
            let before = find(last, &id);
            let now = self.winner(&id);
            match (before, &now) {
                (Ok(at), Some(now)) if last[at] == *now => continue,
                (Ok(_), Some(_)) => {}
                (Ok(_), None) => difference.left.push(id.clone()),
                (Err(_), Some(_)) => difference.joined.push(id.clone()),
                (Err(_), None) => continue,
            }
            changes.push((id, now));
        }
        let changed = !changes.is_empty();
        let now = self.rendered.next(changes);
        self.look_for_clashes(&touched, &now);
        changed.then_some((now, difference))
    }

    /// Of several keys with one instance: a live one before a held one, then the healthier, then the newer, then the
    /// smaller key.
    fn winner(&self, id: &InstanceId) -> Option<Arc<Instance>> {
        let keys = self.keys_of.get(id)?.as_slice();
        let rows = keys.iter().filter_map(|key| {
            let row = self.rows.get(key)?;
            Some((key, row, row.instance.as_ref()?))
        });
        let best = rows.min_by_key(|(key, row, instance)| {
            let health = (!instance.is_draining(), instance.health());
            (row.hold.is_some(), Reverse((health, row.revision)), *key)
        });
        best.map(|(_, _, instance)| instance.clone())
    }

    /// Whether the ids of what has changed are claimed by several keys, at one address or at more.
    fn look_for_clashes(&mut self, touched: &BTreeSet<InstanceId>, set: &[Arc<Instance>]) {
        for id in touched {
            let text = id.as_str();
            let from = set.partition_point(|one| one.id().as_key() < text);
            let same = || set[from..].iter().take_while(|one| one.id().as_str() == text);
            let keys = same().filter_map(|one| self.keys_of.get(one.id()));
            let keys: usize = keys.map(|keys| keys.as_slice().len()).sum();
            if keys < 2 {
                self.claimed.remove(text);
            } else if self.claimed.insert(text.into()) {
                let addresses = same().take(4).map(|one| one.address().to_string()).collect();
                self.clashes.push(Clash { instance: id.clone(), keys, addresses });
            }
        }
    }

    fn put(&mut self, value: Value) {
        let Value { row: key, group, read, revision } = value;
        let row = self.rows.entry(key.clone()).or_default();
        if let Some(group) = group
            && row.group.is_none()
        {
            self.groups.entry(group.clone()).or_default().insert(key.clone());
            row.group = Some(Box::new(group));
        }
        if row.hold.take().is_some() {
            self.held -= 1;
            self.touched.extend(row.instance.as_ref().map(|instance| instance.id().clone()));
        }
        let was_unreadable = row.fault.is_some();
        match read {
            Ok(instance) => {
                row.fault = None;
                self.unreadable -= usize::from(was_unreadable);
                self.set_instance(&key, instance, revision);
            }
            Err(fault) => {
                self.unreadable += usize::from(!was_unreadable);
                if row.fault.as_ref().is_none_or(|old| old.to_string() != fault.to_string()) {
                    row.fault = Some(fault.clone());
                    self.newest_fault = Some(key.clone());
                    self.faults.push((row.key(&key).clone(), fault));
                }
            }
        }
    }

    fn set_instance(&mut self, key: &Arc<str>, instance: Arc<Instance>, revision: u64) {
        let Some(row) = self.rows.get_mut(key) else { return };
        let id = instance.id().clone();
        let cut = |instance: &Instance| instance.tags().left_out();
        let cut_before = row.instance.as_deref().map_or(0, cut);
        if cut(&instance) > 0 && cut(&instance) != cut_before {
            self.cut.push((id.clone(), cut(&instance)));
        }
        if std::mem::replace(&mut row.revision, revision) != revision {
            self.touched.insert(id.clone());
        }
        match row.instance.replace(instance.clone()) {
            // The old allocation stays, so that readers can compare pointers.
            Some(old) if old == instance => row.instance = Some(old),
            Some(old) if *old.id() == id => {
                self.touched.insert(id);
            }
            old => {
                if let Some(old) = old {
                    self.unlink(old.id(), key);
                }
                self.link(&id, key);
            }
        }
    }

    fn link(&mut self, id: &InstanceId, key: &Arc<str>) {
        match self.keys_of.entry(id.clone()) {
            Place::Occupied(mut keys) => keys.get_mut().push(key.clone()),
            Place::Vacant(none) => drop(none.insert(Keys::One(key.clone()))),
        }
        self.touched.insert(id.clone());
    }

    fn hold(&mut self, key: &Arc<str>, hold: Hold) {
        let Some(row) = self.rows.get_mut(key) else { return };
        // A value that is gone cannot be unreadable any more; its last good one is what is held.
        self.unreadable -= usize::from(row.fault.take().is_some());
        self.held += usize::from(row.hold.replace(hold).is_none());
        self.touched.extend(row.instance.as_ref().map(|instance| instance.id().clone()));
        if let Hold::Until(deadline) = hold {
            self.next_expiry = Some(self.next_expiry.map_or(deadline, |next| next.min(deadline)));
        }
    }

    fn remove(&mut self, key: &Arc<str>) {
        let Some(row) = self.rows.remove(key) else { return };
        if let Some(group) = row.group.as_deref()
            && let Some(rows) = self.groups.get_mut(group)
        {
            rows.remove(key);
            if rows.is_empty() {
                self.groups.remove(group);
            }
        }
        self.held -= usize::from(row.hold.is_some());
        self.unreadable -= usize::from(row.fault.is_some());
        if let Some(instance) = row.instance {
            self.unlink(instance.id(), key);
        }
    }

    fn unlink(&mut self, id: &InstanceId, key: &Arc<str>) {
        if self.keys_of.get_mut(id).is_some_and(|keys| keys.remove(key)) {
            self.keys_of.remove(id);
        }
        self.touched.insert(id.clone());
    }
}
