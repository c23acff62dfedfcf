//! The endpoints of a service at one moment: what a call picks from.

use std::fmt;

use crate::{Error, ErrorKind, Freshness, Member, ReadySet};

/// A callable instance.
#[derive(Clone)]
pub struct Endpoint<S> {
    member: Member,
    service: S,
}

impl<S> Endpoint<S> {
    pub(super) fn new(member: Member, service: S) -> Self {
        Self { member, service }
    }

    /// The instance and its statistics.
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// What the factory made. Clone it to call it.
    pub fn service(&self) -> &S {
        &self.service
    }
}

impl<S> fmt::Debug for Endpoint<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.member, f)
    }
}

/// The endpoints of a service at one moment; immutable.
///
/// Only what can take a call now is in here: made, connected, not draining. So a pick costs the
/// same whatever share of the instances is unhealthy.
pub struct EndpointSet<S> {
    /// Beside `services`, position by position: a balancer sees these without knowing `S`.
    members: Vec<Member>,
    services: Vec<S>,
    known: usize,
    freshness: Freshness,
    /// Why calls find nothing, where something is known of it.
    error: Option<Error>,
}

impl<S> EndpointSet<S> {
    pub(super) fn pending() -> Self {
        Self::new(Vec::new(), 0, Freshness::Pending { error: None }, None)
    }

    pub(super) fn new(
        ready: Vec<Endpoint<S>>,
        known: usize,
        freshness: Freshness,
        error: Option<Error>,
    ) -> Self {
        let (members, services) = ready.into_iter().map(|e| (e.member, e.service)).unzip();
        Self { members, services, known, freshness, error }
    }

    /// The endpoints that can take a call, as a balancer sees them.
    pub fn ready(&self) -> ReadySet<'_> {
        ReadySet::new(&self.members)
    }

    /// The service at a position of [`ready`](Self::ready).
    pub fn service(&self, position: usize) -> Option<&S> {
        self.services.get(position)
    }

    /// How many instances the registry knows, ready or not.
    pub fn known(&self) -> usize {
        self.known
    }

    /// How far the registry's word can be trusted.
    pub fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// The error that a call gets which finds no endpoint here.
    pub fn no_endpoints(&self, service: &str) -> Error {
        let message = match (self.known, &self.freshness, &self.error) {
            (0, Freshness::Pending { .. }, _) => "nothing has been heard from the registry yet",
            (0, _, Some(_)) => "the endpoints were given up because the registry is in error",
            (0, _, None) => "no instance is registered",
            _ if self.members.is_empty() => "no instance is ready",
            _ => "the balancer chose none",
        };
        let error = Error::new(ErrorKind::NoEndpoints, message)
            .with_context("service", service)
            .with_context("known", self.known)
            .with_context("ready", self.members.len());
        match self.error.as_ref().or(self.freshness.error()) {
            Some(cause) => error.with_context("cause", cause).with_source(cause.clone()),
            None => error,
        }
    }
}

impl<S> fmt::Debug for EndpointSet<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointSet")
            .field("known", &self.known)
            .field("ready", &self.members)
            .field("freshness", &self.freshness)
            .field("error", &self.error)
            .finish()
    }
}
