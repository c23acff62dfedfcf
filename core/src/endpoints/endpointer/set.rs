//! The endpoints of a service at one moment: what a call picks from.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::lists::Lists;
use super::slot::Counts;
use crate::balancing::ReadySet;
use crate::task::shield::shielded;
use crate::{Balancer, Error, ErrorKind, Freshness, Snapshot, telemetry};

/// The endpoints of a service at one moment; immutable.
///
/// Only what can take a call now is in here: made, connected, healthy, not draining. So a pick costs
/// the same whatever share of the instances is unhealthy.
pub struct EndpointSet<S> {
    lists: Arc<Lists<S>>,
    facts: Arc<Facts>,
    /// What each balancer over this set has prepared for it. Mostly there is one.
    prepared: Vec<(BalancerId, Option<EndpointerState>)>,
    /// Why there will never be another set, if nobody makes one.
    never: Option<Error>,
}

/// Tells the balancers over one endpointer apart.
pub(crate) type BalancerId = u64;

/// What a balancer has prepared, which is handed on while the same endpoints are prepared for another one.
type EndpointerState = Arc<dyn Any + Send + Sync>;

/// Balancers over one endpointer.
pub(super) type Attached = Vec<(BalancerId, Arc<dyn Balancer>)>;

/// What is known of a set beside its endpoints.
pub(super) struct Facts {
    /// Too few are healthy: those that are not can take calls as well.
    pub(super) panicking: bool,
    pub(super) known: usize,
    pub(super) freshness: Freshness,
    pub(super) unseen: Unseen,
    pub(super) counts: Counts,
    /// Where the instances are looked for; empty if nobody said it.
    pub(super) source: Arc<str>,
    /// Why calls find nothing, where something is known of it.
    pub(super) error: Option<Error>,
}

/// What the registry has beside the instances that are seen.
#[derive(Clone, Default)]
pub(super) struct Unseen {
    /// Entries that cannot be read.
    skipped: usize,
    /// Why one of these cannot.
    fault: Option<Error>,
    /// Instances that a view leaves out.
    hidden: usize,
}

impl Facts {
    /// Before anything is known.
    pub(super) fn pending(source: Arc<str>) -> Self {
        Self {
            panicking: false,
            known: 0,
            freshness: Freshness::Pending { error: None },
            unseen: Unseen::default(),
            counts: Counts::default(),
            source,
            error: None,
        }
    }
}

impl Unseen {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let Snapshot { skipped, fault, hidden, .. } = snapshot;
        Self { skipped: *skipped, fault: fault.clone(), hidden: *hidden }
    }
}

impl<S> EndpointSet<S> {
    pub(super) fn pending(source: Arc<str>) -> Self {
        Self::new(Arc::default(), Facts::pending(source))
    }

    pub(super) fn new(lists: Arc<Lists<S>>, facts: Facts) -> Self {
        Self { lists, facts: Arc::new(facts), prepared: Vec::new(), never: None }
    }

    /// The only one that there will be.
    pub(super) fn never(error: Error, source: Arc<str>) -> Self {
        Self { never: Some(error), ..Self::pending(source) }
    }

    /// Whether another set may follow.
    pub(crate) fn is_last(&self) -> bool {
        self.never.is_some()
    }

    /// The same set, to be prepared for further balancers.
    pub(super) fn again(&self) -> Self {
        let Self { lists, facts, prepared, never } = self;
        let (lists, facts, never) = (lists.clone(), facts.clone(), never.clone());
        Self { lists, facts, prepared: prepared.clone(), never }
    }

    pub(super) fn is_prepared_for(&self, balancer: BalancerId) -> bool {
        self.prepared.iter().any(|(id, _)| *id == balancer)
    }

    /// Has these balancers prepare the set. One that panics picks from a set that is not prepared.
    pub(super) fn prepare_for(&mut self, service: &str, balancers: &Attached) {
        let ready = self.ready().with_even_weight(self.lists.weights.even());
        let prepare = |(id, balancer): &(BalancerId, Arc<dyn Balancer>)| {
            let prepared = shielded(|| balancer.prepare(&ready));
            if prepared.is_none() {
                telemetry::not_prepared(service);
            }
            (*id, prepared.flatten().map(EndpointerState::from))
        };
        let prepared: Vec<_> = balancers.iter().map(prepare).collect();
        self.prepared.extend(prepared);
    }

    /// The endpoints that can take a call, as a balancer sees them.
    pub fn ready(&self) -> ReadySet<'_> {
        ReadySet::new(&self.lists.members).with_not_ready(&self.lists.not_ready)
    }

    /// With what this balancer has prepared.
    pub(crate) fn ready_for(&self, balancer: BalancerId) -> ReadySet<'_> {
        let prepared = self.prepared.iter().find(|(id, _)| *id == balancer);
        self.ready().with_shared(prepared.and_then(|(_, prepared)| prepared.as_deref()))
    }

    /// The service at a position of [`ready`](Self::ready).
    pub fn service(&self, position: usize) -> Option<&S> {
        self.lists.services.get(position)?.get()
    }

    /// Whether so few endpoints are healthy that the others are used as well.
    pub fn is_panicking(&self) -> bool {
        self.facts.panicking
    }

    /// How many instances the registry knows, ready or not.
    pub fn known(&self) -> usize {
        self.facts.known
    }

    /// How far the registry's word can be trusted.
    pub fn freshness(&self) -> &Freshness {
        &self.facts.freshness
    }

    /// The error that a call gets which finds no endpoint here. It says where instances are looked
    /// for and what stands there that is no endpoint, or why none of those known is ready.
    pub fn no_endpoints(&self, service: &str) -> Error {
        if let Some(error) = &self.never {
            return error.clone().with_context("service", service);
        }
        let Facts { known, freshness, unseen, error, source, .. } = &*self.facts;
        let ready = self.lists.members.len();
        let mut none =
            Error::new(ErrorKind::NoEndpoints, self.why_none()).with_context("service", service);
        if !source.is_empty() {
            none = none.with_context("registry", source);
        }
        none = none.with_context("known", known).with_context("ready", ready);
        if unseen.skipped > 0 {
            none = none.with_context("unreadable", unseen.skipped);
        }
        let unread = unseen.fault.as_ref().filter(|_| *known == 0);
        match error.as_ref().or(freshness.error()).or(unread) {
            Some(cause) => none.with_context("cause", cause).with_source(cause.clone()),
            None => none,
        }
    }

    fn why_none(&self) -> Cow<'static, str> {
        let Facts { known, freshness, unseen, error, counts, .. } = &*self.facts;
        match (known, freshness, error) {
            (0, Freshness::Pending { .. }, _) => {
                "nothing has been heard from the registry yet".into()
            }
            (0, _, Some(_)) => {
                "the endpoints were given up because the registry is in error".into()
            }
            (0, _, None) => match (unseen.hidden, unseen.skipped) {
                (0, 0) => "no instance is registered".into(),
                (0, 1) => "no instance is registered that can be read; one entry cannot".into(),
                (0, skipped) => {
                    format!("no instance is registered that can be read; {skipped} entries cannot")
                        .into()
                }
                (1, _) => "the filters leave out the one instance that is registered".into(),
                (hidden, _) => {
                    format!("the filters leave out all {hidden} instances that are registered")
                        .into()
                }
            },
            _ if self.lists.members.is_empty() => match counts.hindrances() {
                none if none.is_empty() => "no instance is ready".into(),
                why => format!("no instance is ready: {why}").into(),
            },
            _ => "the balancer chose none".into(),
        }
    }
}

impl<S> fmt::Debug for EndpointSet<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointSet")
            .field("known", &self.known())
            .field("ready", &self.lists.members)
            .field("panicking", &self.is_panicking())
            .field("freshness", self.freshness())
            .field("error", &self.facts.error)
            .finish_non_exhaustive()
    }
}
