//! What the endpointer holds for one instance id.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::time::delay_queue::Key;

use super::held::Held;
use super::lists::Place;
use crate::backoff::{Backoff, BackoffState};
use crate::endpoints::endpoint::{Checked, EndpointState, Surroundings};
use crate::endpoints::{Connectivity, Member, Readiness};
use crate::{Error, Instance};

/// One instance on its way to an endpoint. Dropping it removes the endpoint: it takes no new call,
/// stops dialling, and its service goes when the calls under way have ended.
pub(super) struct Slot<S> {
    instance: Arc<Instance>,
    state: Arc<EndpointState>,
    service: Held<S>,
    /// Tells the results of this slot's factory from those of an earlier one of the same id.
    pub(super) generation: u64,
    /// Its place among the factories that wait for their next try.
    pub(super) later: Option<Key>,
    /// Of a factory that has failed.
    backoff: Option<Box<BackoffState>>,
    /// While it is in the set.
    available: Option<Available>,
    /// As it was counted last.
    counted: Standing,
    error: Option<Error>,
}

/// An endpoint's stay in the set. Dropped, it tells those who wait there that they wait in vain: after
/// the set without it is published, so that they do not come back.
pub(super) struct Available {
    state: Arc<EndpointState>,
}

impl Drop for Available {
    fn drop(&mut self) {
        self.state.set_withdrawn(true);
    }
}

/// What an instance counts as when it is decided whether too few are healthy.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    pub(super) usable: bool,
    /// And usable.
    pub(super) healthy: bool,
    pub(super) pending: bool,
    /// Why it takes no call, for messages.
    hindrance: Option<Hindrance>,
}

impl Standing {
    /// Whether the instance cannot be reached, and could be when it was counted last, or nothing was known of it.
    pub(super) fn fails_since(self, before: Self) -> bool {
        let fails = |standing: Self| {
            matches!(standing.hindrance, Some(Hindrance::Failed | Hindrance::Ejected))
        };
        fails(self) && !fails(before)
    }

    pub(super) const HEALTHY: Self =
        Self { usable: true, healthy: true, pending: false, hindrance: None };
    pub(super) const DRAINING: Self = Self {
        usable: false,
        healthy: false,
        pending: false,
        hindrance: Some(Hindrance::Draining),
    };
}

/// Why an instance takes no call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Hindrance {
    Draining,
    /// Its service could not be made, or the last try to connect failed.
    Failed,
    /// Or its service is being made.
    Connecting,
    Unchecked,
    Unhealthy,
    Ejected,
}

/// How many there are of each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) usable: usize,
    pub(super) healthy: usize,
    pub(super) pending: usize,
    hindered: [usize; HINDRANCES.len()],
}

/// In the order of [`Hindrance`], as they are counted in a sentence.
const HINDRANCES: [&str; 6] = [
    "draining",
    "failed to connect",
    "connecting",
    "not yet found healthy",
    "unhealthy",
    "ejected",
];

impl Counts {
    pub(super) fn add(&mut self, one: Standing) {
        self.usable += usize::from(one.usable);
        self.healthy += usize::from(one.healthy);
        self.pending += usize::from(one.pending);
        one.hindrance.into_iter().for_each(|why| self.hindered[why as usize] += 1);
    }

    pub(super) fn remove(&mut self, one: Standing) {
        self.usable -= usize::from(one.usable);
        self.healthy -= usize::from(one.healthy);
        self.pending -= usize::from(one.pending);
        one.hindrance.into_iter().for_each(|why| self.hindered[why as usize] -= 1);
    }

    /// Why the instances take no call: `2 connecting, 1 unhealthy`; empty if none is hindered.
    pub(super) fn hindrances(&self) -> String {
        let counted = self.hindered.iter().zip(HINDRANCES).filter(|(count, _)| **count > 0);
        let counted: Vec<_> = counted.map(|(count, why)| format!("{count} {why}")).collect();
        counted.join(", ")
    }
}

impl<S: Clone> Slot<S> {
    pub(super) fn new(around: Arc<Surroundings>, instance: Arc<Instance>, generation: u64) -> Self {
        Self {
            state: Arc::new(EndpointState::new(around, &instance)),
            instance,
            service: Held::none(),
            generation,
            later: None,
            backoff: None,
            available: None,
            counted: Standing::default(),
            error: None,
        }
    }

    pub(super) fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    pub(super) fn readiness(&self) -> Readiness {
        Readiness::new(self.state.clone())
    }

    /// Takes the newest weight and metadata. `false` if the address is another one: then the
    /// connection is worth nothing and the slot must be made anew.
    pub(super) fn update(&mut self, instance: &Arc<Instance>) -> bool {
        let same = self.instance.address() == instance.address();
        if same {
            self.instance = instance.clone();
        }
        same
    }

    pub(super) fn made(&mut self, service: S) {
        self.service = Held::new(service);
        self.error = None;
    }

    /// Notes a failure of the factory and says how long to wait.
    pub(super) fn failed(
        &mut self,
        error: Error,
        backoff: &Backoff,
        rng: &mut fastrand::Rng,
    ) -> std::time::Duration {
        self.service = Held::none();
        self.error = Some(error);
        let fresh = || Box::new(BackoffState::new(backoff.clone(), rng.fork()));
        self.backoff.get_or_insert_with(fresh).next_delay()
    }

    /// How often the factory has failed.
    pub(super) fn failures(&self) -> u32 {
        self.backoff.as_ref().map_or(0, |backoff| backoff.failures())
    }

    pub(super) fn member(&self) -> Member {
        Member::new(self.instance.clone(), self.state.clone())
    }

    /// How it stands now, and how it was counted last.
    pub(super) fn recount(&mut self) -> (Standing, Standing) {
        let usable = self.is_usable();
        let healthy = usable && self.is_healthy();
        let hindrance = if healthy { None } else { Some(self.hindrance()) };
        let now = Standing { usable, healthy, pending: self.is_pending(), hindrance };
        (now, std::mem::replace(&mut self.counted, now))
    }

    pub(super) fn counted(&self) -> Standing {
        self.counted
    }

    /// As if it had never been counted.
    pub(super) fn uncount(&mut self) {
        self.counted = Standing::default();
    }

    pub(super) fn is_made(&self) -> bool {
        self.service.is_some()
    }

    /// Whether calls would go through: made, connected, not draining, and its health known if
    /// somebody checks it; healthy or not.
    fn is_usable(&self) -> bool {
        self.is_reachable() && self.state.checked() != Checked::Pending
    }

    /// Whether nothing but the first word of its health check is missing.
    fn is_pending(&self) -> bool {
        self.is_reachable() && self.state.checked() == Checked::Pending
    }

    fn is_reachable(&self) -> bool {
        self.service.is_some()
            && self.state.connectivity() == Connectivity::Ready
            && !self.instance.is_draining()
    }

    fn is_healthy(&self) -> bool {
        self.state.is_healthy()
    }

    /// Of one that is not healthy.
    fn hindrance(&self) -> Hindrance {
        match (self.state.connectivity(), self.state.checked()) {
            _ if self.instance.is_draining() => Hindrance::Draining,
            _ if !self.is_made() && self.error.is_some() => Hindrance::Failed,
            _ if !self.is_made() => Hindrance::Connecting,
            (Connectivity::TransientFailure, _) => Hindrance::Failed,
            (Connectivity::Connecting, _) => Hindrance::Connecting,
            (Connectivity::Ready, Checked::Pending) => Hindrance::Unchecked,
            (Connectivity::Ready, Checked::Unhealthy) => Hindrance::Unhealthy,
            (Connectivity::Ready, Checked::Never | Checked::Healthy) => Hindrance::Ejected,
        }
    }

    /// Where it stands in the set that is published `now`: as it was counted, for it may be something
    /// else by now, and is noted for the next set then.
    pub(super) fn place(
        &mut self,
        panicking: bool,
        now: Instant,
        leaving: &mut Vec<Available>,
    ) -> Place<S> {
        let Standing { usable, healthy, .. } = self.counted;
        let available = usable && (panicking || healthy);
        match (available, &self.available) {
            (true, None) => {
                self.state.set_available_since(now);
                self.state.set_withdrawn(false);
                self.available = Some(Available { state: self.state.clone() });
            }
            (false, Some(_)) => leaving.extend(self.available.take()),
            _ => {}
        }
        match available {
            true => Place::Ready(self.member(), self.service.clone()),
            false if self.instance.is_draining() => Place::Nowhere,
            false => Place::NotReady(self.member()),
        }
    }

    /// Its stay in the set, if it is there. Whoever takes it ends that.
    pub(super) fn leave(&mut self) -> Option<Available> {
        self.available.take()
    }

    /// Why it is not ready, if something failed.
    pub(super) fn error(&self) -> Option<Error> {
        let error = self.error.clone().or_else(|| self.state.last_error())?;
        Some(error.with_context("instance", self.instance.id()))
    }
}

impl<S> Drop for Slot<S> {
    fn drop(&mut self) {
        self.state.remove();
    }
}
