//! What a balancer may know of the call.

use std::any::Any;
use std::fmt;

use tokio::time::Instant;

use crate::InstanceId;
use crate::endpoints::{Member, Operation};

/// Finds what a request says under a name: for gRPC and HTTP its headers.
pub type Lookup = for<'a> fn(request: &'a dyn Any, name: &str) -> Option<&'a [u8]>;

/// What a balancer may know of the call.
#[derive(Clone, Copy, Default)]
pub struct PickContext<'a> {
    request: Option<&'a dyn Any>,
    lookup: Option<Lookup>,
    attempt: u32,
    tried: &'a [InstanceId],
    tried_is_sorted: bool,
    excludes_nothing: bool,
    operation: Operation,
    second_choice: bool,
    now: Option<Instant>,
}

impl<'a> PickContext<'a> {
    /// Knows nothing.
    #[inline]
    pub fn new() -> Self {
        Self::default()
    }

    /// With the request, so that a balancer can look at it.
    #[must_use]
    #[inline]
    pub fn with_request(mut self, request: &'a dyn Any) -> Self {
        self.request = Some(request);
        self
    }

    /// With a way to look into the request by name.
    #[must_use]
    #[inline]
    pub fn with_lookup(mut self, lookup: Lookup) -> Self {
        self.lookup = Some(lookup);
        self
    }

    /// As of an attempt that follows others: how many, and the instances that they went to.
    #[must_use]
    #[inline]
    pub fn with_attempt(mut self, attempt: u32, tried: &'a [InstanceId]) -> Self {
        self.attempt = attempt;
        self.tried = tried;
        self.tried_is_sorted = false;
        self
    }

    /// As [`with_attempt`](Self::with_attempt), with instances in order: there may be many.
    #[inline]
    pub(crate) fn with_sorted_attempt(self, attempt: u32, tried: &'a [InstanceId]) -> Self {
        Self { tried_is_sorted: true, ..self.with_attempt(attempt, tried) }
    }

    /// With what the request asks for, where instances may differ in whether they can do it.
    #[must_use]
    #[inline]
    pub fn with_operation(mut self, operation: Operation) -> Self {
        self.operation = operation;
        self
    }

    /// For a call that is not to go where its operation is [refused](crate::endpoints::Outcome::Refused): the
    /// balancer has chosen such an endpoint for it.
    pub(crate) fn with_second_choice(mut self) -> Self {
        self.second_choice = true;
        self
    }

    pub(crate) fn without_tried(mut self) -> Self {
        self.tried = &[];
        self
    }

    /// As if every endpoint were as good for this call as any other.
    pub(crate) fn without_exclusion(mut self) -> Self {
        self.excludes_nothing = true;
        self.tried = &[];
        self
    }

    /// With the time, where the caller knows it already.
    #[must_use]
    #[inline]
    pub fn with_now(mut self, now: Instant) -> Self {
        self.now = Some(now);
        self
    }

    /// The request, if it is a `T`: for gRPC an `http::Request<tonic::body::Body>`.
    #[inline]
    pub fn request<T: Any>(&self) -> Option<&'a T> {
        self.request?.downcast_ref()
    }

    /// What the request says under `name`: for gRPC a metadata entry. Nothing where the caller has
    /// not said how to [look it up](Self::with_lookup).
    #[inline]
    pub fn attribute(&self, name: &str) -> Option<&'a [u8]> {
        self.lookup?(self.request?, name)
    }

    /// How many attempts of this call went before: 0 for the first.
    #[inline]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether the balancer has chosen for this call already, in vain: an endpoint that refuses what it asks
    /// for. That happens for as long as the endpoint does so; a balancer that counts turns had better not
    /// count it.
    #[inline]
    pub fn is_second_choice(&self) -> bool {
        self.second_choice
    }

    /// What the request asks for.
    #[inline]
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// Whether there were earlier attempts.
    pub(crate) fn is_again(&self) -> bool {
        !self.tried.is_empty()
    }

    /// Whether a call is not to go there now, because an earlier attempt of it did, because the
    /// endpoint comes back from an ejection and has its one call already, or because it refuses what
    /// the call asks for and others do it.
    ///
    /// It is a wish: a balancer that takes nothing else is asked once more as if nothing were excluded
    /// ([`pick_allowed`](crate::balancing::pick_allowed)).
    ///
    /// Only a balancer that keeps choosing the same endpoint for the same call need ask; others are
    /// simply asked again.
    #[inline]
    pub fn excludes(&self, member: &Member) -> bool {
        let is_second_choice = || self.second_choice && member.state().is_no_better(self.operation);
        (!member.lets_in() || is_second_choice()) && !self.excludes_nothing
            || !self.tried.is_empty() && self.has_tried(member.instance().id())
    }

    /// Whether an earlier attempt went there.
    #[inline(never)]
    pub(crate) fn has_tried(&self, instance: &InstanceId) -> bool {
        if self.tried_is_sorted {
            self.tried.binary_search(instance).is_ok()
        } else {
            self.tried.contains(instance)
        }
    }

    /// The time: of this pick, or a little before it. A call reads the clock once when it begins, and
    /// its pick reads it no second time.
    #[inline]
    pub fn now(&self) -> Instant {
        self.now.unwrap_or_else(Instant::now)
    }
}

impl fmt::Debug for PickContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PickContext")
            .field("attempt", &self.attempt)
            .field("tried", &self.tried)
            .finish_non_exhaustive()
    }
}
