//! The choice of one endpoint among those that are ready.

use std::any::Any;
use std::fmt;
use std::ops::Index;
use std::sync::Arc;

use crate::Member;

/// Chooses an endpoint for a call. One method is all that a balancer needs.
///
/// `pick` runs on the path of every call, from many threads at once: take no lock and allocate
/// nothing. Draining and unready endpoints have been left out already, and a retry leaves out those
/// tried before, so no balancer has to care.
///
/// ```
/// use fleetward_core::{Balancer, PickContext, ReadySet};
///
/// /// The endpoint with the fewest calls under way.
/// #[derive(Debug)]
/// struct LeastLoaded;
///
/// impl Balancer for LeastLoaded {
///     fn pick(&self, endpoints: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
///         (0..endpoints.len()).min_by_key(|&i| endpoints[i].in_flight())
///     }
/// }
/// ```
pub trait Balancer: Send + Sync + fmt::Debug {
    /// The position of the chosen endpoint, or `None` to choose none. The set is never empty. A
    /// position outside the set counts as `None`.
    fn pick(&self, endpoints: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize>;
}

impl<B: Balancer + ?Sized> Balancer for Arc<B> {
    fn pick(&self, endpoints: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        (**self).pick(endpoints, context)
    }
}

impl<B: Balancer + ?Sized> Balancer for Box<B> {
    fn pick(&self, endpoints: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        (**self).pick(endpoints, context)
    }
}

/// The endpoints that can take a call now, sorted by instance id.
#[derive(Clone, Copy, Debug)]
pub struct ReadySet<'a> {
    members: &'a [Member],
}

impl<'a> ReadySet<'a> {
    /// A view of `members`; for tests of a balancer.
    pub fn new(members: &'a [Member]) -> Self {
        Self { members }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The endpoint at a position.
    pub fn get(&self, position: usize) -> Option<&'a Member> {
        self.members.get(position)
    }

    /// All of them, in order.
    pub fn iter(&self) -> std::slice::Iter<'a, Member> {
        self.members.iter()
    }
}

impl Index<usize> for ReadySet<'_> {
    type Output = Member;

    fn index(&self, position: usize) -> &Member {
        &self.members[position]
    }
}

/// What a balancer may know of the call.
#[derive(Clone, Copy, Default)]
pub struct PickContext<'a> {
    request: Option<&'a dyn Any>,
    attempt: u32,
}

impl<'a> PickContext<'a> {
    /// Knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// With the request, so that a balancer can look at it.
    #[must_use]
    pub fn with_request(mut self, request: &'a dyn Any) -> Self {
        self.request = Some(request);
        self
    }

    pub(crate) fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// The request, if it is a `T`: for gRPC an `http::Request<tonic::body::Body>`.
    pub fn request<T: Any>(&self) -> Option<&'a T> {
        self.request?.downcast_ref()
    }

    /// How many attempts of this call went before: 0 for the first.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

impl fmt::Debug for PickContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PickContext").field("attempt", &self.attempt).finish_non_exhaustive()
    }
}
