//! The endpoints of a service at one moment: what a call picks from.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::lists::Lists;
use crate::supervised::shielded;
use crate::{Balancer, Error, ErrorKind, Freshness, ReadySet, telemetry};

/// The endpoints of a service at one moment; immutable.
///
/// Only what can take a call now is in here: made, connected, healthy, not draining. So a pick costs
/// the same whatever share of the instances is unhealthy.
pub struct EndpointSet<S> {
    lists: Arc<Lists<S>>,
    facts: Arc<Facts>,
    /// What each balancer over this set has prepared for it. Mostly there is one.
    prepared: Vec<(BalancerId, Option<Shared>)>,
}

/// Tells the balancers over one endpointer apart.
pub(crate) type BalancerId = u64;

/// What a balancer has prepared, which is handed on while the same endpoints are prepared for another one.
type Shared = Arc<dyn Any + Send + Sync>;

/// Balancers over one endpointer.
pub(super) type Attached = Vec<(BalancerId, Arc<dyn Balancer>)>;

/// What is known of a set beside its endpoints.
pub(super) struct Facts {
    /// Too few are healthy: those that are not can take calls as well.
    pub(super) panicking: bool,
    pub(super) known: usize,
    pub(super) freshness: Freshness,
    /// Why calls find nothing, where something is known of it.
    pub(super) error: Option<Error>,
}

impl<S> EndpointSet<S> {
    pub(super) fn pending() -> Self {
        let freshness = Freshness::Pending { error: None };
        let facts = Facts { panicking: false, known: 0, freshness, error: None };
        Self::new(Arc::default(), facts)
    }

    pub(super) fn new(lists: Arc<Lists<S>>, facts: Facts) -> Self {
        Self { lists, facts: Arc::new(facts), prepared: Vec::new() }
    }

    /// The same set, to be prepared for further balancers.
    pub(super) fn again(&self) -> Self {
        let Self { lists, facts, prepared } = self;
        Self { lists: lists.clone(), facts: facts.clone(), prepared: prepared.clone() }
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
            (*id, prepared.flatten().map(Shared::from))
        };
        let prepared: Vec<_> = balancers.iter().map(prepare).collect();
        self.prepared.extend(prepared);
    }

    /// The endpoints that can take a call, as a balancer sees them.
    pub fn ready(&self) -> ReadySet<'_> {
        ReadySet::new(&self.lists.members).with_resting(&self.lists.resting)
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

    /// The error that a call gets which finds no endpoint here.
    pub fn no_endpoints(&self, service: &str) -> Error {
        let Facts { known, freshness, error, .. } = &*self.facts;
        let members = &self.lists.members;
        let message = match (known, freshness, error) {
            (0, Freshness::Pending { .. }, _) => "nothing has been heard from the registry yet",
            (0, _, Some(_)) => "the endpoints were given up because the registry is in error",
            (0, _, None) => "no instance is registered, or filters leave none",
            _ if members.is_empty() => "no instance is ready",
            _ => "the balancer chose none",
        };
        let none = Error::new(ErrorKind::NoEndpoints, message)
            .with_context("service", service)
            .with_context("known", known)
            .with_context("ready", members.len());
        match error.as_ref().or(freshness.error()) {
            Some(cause) => none.with_context("cause", cause).with_source(cause.clone()),
            None => none,
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
