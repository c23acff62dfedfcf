//! The state: services, their entries under leases, and what changed of late.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fleetward_core::discovery::{Entry, KeyChange};
use fleetward_core::{Instance, ServiceName};
use tokio::time::Instant;

/// Everything a registry holds. It knows no time but what it is given: whoever reads or writes a
/// service first lets expire what is due.
pub(crate) struct Table {
    services: HashMap<ServiceName, Service>,
    /// Counts the changes of all services.
    revision: u64,
    leases: u64,
    history: usize,
}

#[derive(Default)]
struct Service {
    records: BTreeMap<Arc<str>, Record>,
    expiries: BTreeSet<(Instant, Arc<str>)>,
    changes: VecDeque<(u64, KeyChange)>,
    /// The newest change that is not remembered any more.
    forgotten: u64,
}

struct Record {
    instance: Arc<Instance>,
    revision: u64,
    lease: u64,
    /// Nothing if it lies beyond the clock's range.
    expiry: Option<Instant>,
}

/// How a registration stands with regard to a lease.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Ours,
    Theirs,
    Nobodys,
}

/// What a watch reads.
pub(crate) struct News {
    pub(crate) changes: Vec<KeyChange>,
    pub(crate) revision: u64,
    /// When to look again even if nothing is written.
    pub(crate) next_expiry: Option<Instant>,
}

impl Table {
    pub(crate) fn new(history: usize) -> Self {
        Self { services: HashMap::new(), revision: 0, leases: 0, history }
    }

    pub(crate) fn list(&mut self, service: &ServiceName, now: Instant) -> (Vec<Entry>, u64) {
        self.expire(service, now);
        let records = self.services.get(service).into_iter().flat_map(|found| &found.records);
        let entries =
            records.map(|(id, record)| entry(id, &record.instance, record.revision)).collect();
        (entries, self.revision)
    }

    /// What changed after the revision `from`; nothing if that is not remembered.
    pub(crate) fn since(&mut self, service: &ServiceName, from: u64, now: Instant) -> Option<News> {
        self.expire(service, now);
        let revision = self.revision;
        let Some(found) = self.services.get(service) else {
            return (from <= revision).then_some(News {
                changes: Vec::new(),
                revision,
                next_expiry: None,
            });
        };
        if from < found.forgotten || from > revision {
            return None;
        }
        let at = found.changes.partition_point(|(revision, _)| *revision <= from);
        let changes = found.changes.range(at..).map(|(_, change)| change.clone()).collect();
        let next_expiry = found.expiries.first().map(|(expiry, _)| *expiry);
        Some(News { changes, revision, next_expiry })
    }

    /// Writes the instance under a new lease, over whatever stands there.
    pub(crate) fn register(
        &mut self,
        service: &ServiceName,
        instance: &Instance,
        ttl: Duration,
        now: Instant,
    ) -> u64 {
        self.expire(service, now);
        self.leases += 1;
        let (id, instance) = (&key(instance), Arc::new(instance.clone()));
        let record = Record {
            instance: instance.clone(),
            revision: self.revision + 1,
            lease: self.leases,
            expiry: now.checked_add(ttl),
        };
        let found = self.services.entry(service.clone()).or_default();
        found.expiries.extend(record.expiry.map(|expiry| (expiry, id.clone())));
        if let Some(expiry) = found.records.insert(id.clone(), record).and_then(|old| old.expiry) {
            // The same moment, if both leases end then, is one entry of the set: keep it.
            let kept = found.records.get(id).and_then(|record| record.expiry);
            if kept != Some(expiry) {
                found.expiries.remove(&(expiry, id.clone()));
            }
        }
        let revision = self.revision + 1;
        self.record(service, KeyChange::Put(entry(id, &instance, revision)));
        self.leases
    }

    /// Renews the lease if the entry still stands under it.
    pub(crate) fn renew(
        &mut self,
        service: &ServiceName,
        id: &Arc<str>,
        lease: u64,
        ttl: Duration,
        now: Instant,
    ) -> Held {
        let held = self.held(service, id, lease, now);
        let found = self.services.get_mut(service).filter(|_| held == Held::Ours);
        if let Some(found) = found
            && let Some(record) = found.records.get_mut(id)
        {
            if let Some(old) = record.expiry {
                found.expiries.remove(&(old, id.clone()));
            }
            record.expiry = now.checked_add(ttl);
            found.expiries.extend(record.expiry.map(|expiry| (expiry, id.clone())));
        }
        held
    }

    /// Removes the entry if it still stands under the lease.
    pub(crate) fn deregister(
        &mut self,
        service: &ServiceName,
        id: &Arc<str>,
        lease: u64,
        now: Instant,
    ) -> Held {
        let held = self.held(service, id, lease, now);
        if held == Held::Ours {
            self.remove(service, id);
        }
        held
    }

    fn held(&mut self, service: &ServiceName, id: &Arc<str>, lease: u64, now: Instant) -> Held {
        self.expire(service, now);
        match self.services.get(service).and_then(|found| found.records.get(id)) {
            Some(record) if record.lease == lease => Held::Ours,
            Some(_) => Held::Theirs,
            None => Held::Nobodys,
        }
    }

    fn expire(&mut self, service: &ServiceName, now: Instant) {
        while let Some(id) = self.due(service, now) {
            self.remove(service, &id);
        }
    }

    fn due(&self, service: &ServiceName, now: Instant) -> Option<Arc<str>> {
        let (expiry, id) = self.services.get(service)?.expiries.first()?;
        (*expiry <= now).then(|| id.clone())
    }

    fn remove(&mut self, service: &ServiceName, id: &Arc<str>) {
        let Some(found) = self.services.get_mut(service) else { return };
        let Some(record) = found.records.remove(id) else { return };
        if let Some(expiry) = record.expiry {
            found.expiries.remove(&(expiry, id.clone()));
        }
        self.record(service, KeyChange::Delete(id.clone()));
    }

    fn record(&mut self, service: &ServiceName, change: KeyChange) {
        self.revision += 1;
        let Some(found) = self.services.get_mut(service) else { return };
        found.changes.push_back((self.revision, change));
        while found.changes.len() > self.history {
            if let Some((revision, _)) = found.changes.pop_front() {
                found.forgotten = revision;
            }
        }
    }
}

/// The key is the id's text, whatever the address: who registers an id takes its place.
pub(crate) fn key(instance: &Instance) -> Arc<str> {
    instance.id().as_str().into()
}

fn entry(id: &Arc<str>, instance: &Arc<Instance>, revision: u64) -> Entry {
    Entry::shared(id.clone(), instance.clone()).with_revision(revision)
}
