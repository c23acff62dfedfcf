//! From a set to a call under way.

use std::sync::Arc;

use crate::Balancer;
use crate::balancing::{PickContext, ReadySet, pick_allowed};
use crate::endpoints::endpoint::{EndpointState, Way};
use crate::endpoints::{InFlight, Member};

/// Has `balancer` choose an endpoint, as [`pick_allowed`] does, and begins the call there. The position
/// and the call's guard.
///
/// If the endpoint chosen has refused the call's [operation](PickContext::with_operation) time and again
/// ([`Outcome::Refused`](crate::endpoints::Outcome::Refused)), the call goes to another one if there is a better one,
/// but for a call now and then. What becomes of it there decides whether the endpoint goes on losing these
/// calls.
///
/// ```
/// use fleetward_core::{Balancer, Instance};
/// use fleetward_core::balancing::{PickContext, ReadySet, begin_call};
/// use fleetward_core::endpoints::{Member, Outcome};
/// #[derive(Debug)]
/// struct First;
/// impl Balancer for First {
///     fn pick(&self, _: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
///         Some(0)
///     }
/// }
/// let members = ["10.0.0.1:80", "10.0.0.2:80"]
///     .map(|address| Member::detached(Instance::new(address).unwrap()));
/// for _ in 0..5 {
///     let (at, call) = begin_call(&First, &ReadySet::new(&members), &PickContext::new()).unwrap();
///     assert_eq!(at, 0);
///     call.finish(Outcome::Refused);
/// }
/// let (at, call) = begin_call(&First, &ReadySet::new(&members), &PickContext::new()).unwrap();
/// assert_eq!(at, 1);
/// # call.finish(Outcome::Success);
/// ```
pub fn begin_call<B: Balancer + ?Sized>(
    balancer: &B,
    endpoints: &ReadySet<'_>,
    context: &PickContext<'_>,
) -> Option<(usize, InFlight)> {
    let (at, way) = choose_way(balancer, endpoints, context)?;
    Some((at, endpoints.get(at)?.begin_by(context.operation(), way, context.now())))
}

/// The endpoint for a call, and how it comes there.
#[inline]
pub(crate) fn choose_way<B: Balancer + ?Sized>(
    balancer: &B,
    endpoints: &ReadySet<'_>,
    context: &PickContext<'_>,
) -> Option<(usize, Way<Arc<EndpointState>>)> {
    let at = pick_allowed(balancer, endpoints, context)?;
    let member = endpoints.get(at)?;
    if member.state().is_doubted() {
        return Some(choose_beside(balancer, endpoints, context, at, member));
    }
    Some((at, Way::Straight))
}

/// The way of a call whose first choice, `at`, is in doubt.
#[cold]
fn choose_beside<B: Balancer + ?Sized>(
    balancer: &B,
    endpoints: &ReadySet<'_>,
    context: &PickContext<'_>,
    at: usize,
    member: &Member,
) -> (usize, Way<Arc<EndpointState>>) {
    let operation = context.operation();
    if member.state().takes(operation, context.now()) {
        return (at, Way::Straight);
    }
    let context = context.with_second_choice();
    let better = |context: &PickContext<'_>| {
        let other = pick_allowed(balancer, endpoints, context)?;
        endpoints.get(other).filter(|its| !its.state().is_no_better(operation)).map(|_| other)
    };
    // Rather where an earlier attempt went than where the answer is known.
    let again = || better(&context.without_tried()).filter(|_| context.is_again());
    match better(&context).or_else(again) {
        Some(other) => (other, Way::Instead(member.state().clone())),
        None => (at, Way::Forced),
    }
}
