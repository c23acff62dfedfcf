//! The choice of one endpoint among those that are ready.

use std::any::Any;
use std::fmt;
use std::ops::Index;
use std::sync::Arc;

use crate::balancing::PickContext;
use crate::endpoints::Member;

/// Chooses an endpoint for a call. One method is all that a balancer needs.
///
/// `pick` runs on the path of every call, from many threads at once: take no lock and allocate
/// nothing. Draining and unready endpoints have been left out already, and a retry leaves out those
/// tried before, so no balancer has to care.
///
/// ```
/// use fleetward_core::Balancer;
/// use fleetward_core::balancing::{PickContext, ReadySet};
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
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a balancer",
    note = "a balancer is a value, such as `RoundRobin::new()`; the one of a name is `by_name(\"round_robin\")?`, both in `fleetward::balancers`"
)]
pub trait Balancer: Send + Sync + fmt::Debug {
    /// The position of the chosen endpoint, or `None` to choose none. The set is never empty. A
    /// position outside the set counts as `None`.
    fn pick(&self, endpoints: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize>;

    /// What `pick` wants to have at hand for a set: a table, a schedule, groups.
    ///
    /// Runs once for each new set, by its publisher, off the path of calls; `pick` finds it by
    /// [`ReadySet::prepared`]. It is asked for an empty set as well. If it panics, that set is not
    /// prepared.
    fn prepare(&self, endpoints: &ReadySet<'_>) -> Option<Prepared> {
        let _ = endpoints;
        None
    }
}

/// What a balancer has prepared for one set; it knows the type.
pub type Prepared = Box<dyn Any + Send + Sync>;

#[deny(clippy::missing_trait_methods)]
impl<B: Balancer + ?Sized> Balancer for Arc<B> {
    fn pick(&self, endpoints: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        (**self).pick(endpoints, context)
    }

    fn prepare(&self, endpoints: &ReadySet<'_>) -> Option<Prepared> {
        (**self).prepare(endpoints)
    }
}

#[deny(clippy::missing_trait_methods)]
impl<B: Balancer + ?Sized> Balancer for Box<B> {
    fn pick(&self, endpoints: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        (**self).pick(endpoints, context)
    }

    fn prepare(&self, endpoints: &ReadySet<'_>) -> Option<Prepared> {
        (**self).prepare(endpoints)
    }
}

/// The endpoints that can take a call now, sorted by instance id.
#[derive(Clone, Copy)]
pub struct ReadySet<'a> {
    members: &'a [Member],
    not_ready: &'a [Member],
    prepared: Option<&'a (dyn Any + Send + Sync)>,
    /// What is known of it without looking through the members.
    even_weight: Option<Option<u32>>,
}

impl<'a> ReadySet<'a> {
    /// A view of `members`: for tests of a balancer, and for a balancer that offers another one a
    /// part of its set.
    #[inline]
    pub fn new(members: &'a [Member]) -> Self {
        Self { members, not_ready: &[], prepared: None, even_weight: None }
    }

    /// With those that are known and cannot take a call now.
    #[must_use]
    #[inline]
    pub fn with_not_ready(mut self, not_ready: &'a [Member]) -> Self {
        self.not_ready = not_ready;
        self
    }

    /// With what the balancer's [`prepare`](Balancer::prepare) made of this same set.
    #[must_use]
    #[inline]
    pub fn with_prepared(self, prepared: Option<&'a Prepared>) -> Self {
        self.with_shared(prepared.map(|prepared| &**prepared))
    }

    #[inline]
    pub(crate) fn with_shared(mut self, prepared: Option<&'a (dyn Any + Send + Sync)>) -> Self {
        self.prepared = prepared;
        self
    }

    /// With the weight that all of them have, or the knowledge that they differ.
    pub(crate) fn with_even_weight(mut self, weight: Option<u32>) -> Self {
        self.even_weight = Some(weight);
        self
    }

    /// The weight that all of them have; nothing if they differ, or there are none.
    ///
    /// A set that a balancer is to [`prepare`](Balancer::prepare) knows it without looking through its
    /// endpoints, which takes milliseconds where there are a hundred thousand; any other one is looked through.
    pub fn even_weight(&self) -> Option<u32> {
        self.even_weight.unwrap_or_else(|| {
            let first = self.members.first()?.instance().weight();
            let same = self.members.iter().all(|member| member.instance().weight() == first);
            same.then_some(first)
        })
    }

    /// Those that the registry knows and that cannot take a call now: not connected, not yet checked,
    /// unhealthy or ejected. Draining ones are in neither.
    #[inline]
    pub fn not_ready(&self) -> &'a [Member] {
        self.not_ready
    }

    /// What [`prepare`](Balancer::prepare) made of this set, if it is a `T`.
    ///
    /// Nothing in a set that nobody has prepared: a test's, or what is left of a set when a retry
    /// leaves out the endpoints tried.
    #[inline]
    pub fn prepared<T: Any>(&self) -> Option<&'a T> {
        self.prepared?.downcast_ref()
    }

    /// The endpoints as a slice.
    #[inline]
    pub fn members(&self) -> &'a [Member] {
        self.members
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The endpoint at a position.
    #[inline]
    pub fn get(&self, position: usize) -> Option<&'a Member> {
        self.members.get(position)
    }

    /// All of them, in order.
    #[inline]
    pub fn iter(&self) -> std::slice::Iter<'a, Member> {
        self.members.iter()
    }
}

impl Index<usize> for ReadySet<'_> {
    type Output = Member;

    #[inline]
    fn index(&self, position: usize) -> &Member {
        &self.members[position]
    }
}

impl fmt::Debug for ReadySet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadySet")
            .field("members", &self.members)
            .field("not_ready", &self.not_ready)
            .finish_non_exhaustive()
    }
}
