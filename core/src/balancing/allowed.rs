//! What one call leaves out of a set, as far as its balancer agrees.

use crate::Balancer;
use crate::balancing::{PickContext, ReadySet};

/// Has `balancer` choose an endpoint that the context does not [exclude](PickContext::excludes).
///
/// Exclusion is a wish, on top of what the balancer would choose:
///
/// 1. The balancer is asked for its choice, and again a few times: most move on by themselves.
/// 2. If it keeps choosing endpoints that are excluded, it is offered the others alone.
/// 3. If there are no others, or it refuses them, it chooses from the whole set as if nothing were
///    excluded: to go somewhere again is better than to fail.
///
/// `None` if the set is empty or the balancer refuses it. A position outside the set it was offered
/// counts as refused. [`Balanced`](crate::Balanced) picks like this; a balancer that hands parts of its
/// set to other balancers does as well.
///
/// ```
/// use fleetward_core::{Balancer, Instance};
/// use fleetward_core::balancing::{PickContext, ReadySet, pick_allowed};
/// use fleetward_core::endpoints::Member;
///
/// #[derive(Debug)]
/// struct OnlyV1;
///
/// impl Balancer for OnlyV1 {
///     fn pick(&self, endpoints: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
///         endpoints.iter().position(|member| member.instance().version() == Some("v1"))
///     }
/// }
///
/// let v1 = Instance::new("10.0.0.1:80")?.with_version("v1");
/// let v2 = Instance::new("10.0.0.2:80")?.with_version("v2");
/// let tried = [v1.id().clone()];
/// let members = [Member::detached(v1), Member::detached(v2)];
/// // Its second attempt goes to v1 again, for the balancer takes nothing else.
/// let context = PickContext::new().with_attempt(1, &tried);
/// assert_eq!(pick_allowed(&OnlyV1, &ReadySet::new(&members), &context), Some(0));
/// # Ok::<(), fleetward_core::Error>(())
/// ```
pub fn pick_allowed<B: Balancer + ?Sized>(
    balancer: &B,
    endpoints: &ReadySet<'_>,
    context: &PickContext<'_>,
) -> Option<usize> {
    const PICKS: usize = 4;
    if endpoints.is_empty() {
        return None;
    }
    let pick = |set: &ReadySet<'_>, context: &PickContext<'_>| {
        balancer.pick(set, context).filter(|&at| at < set.len())
    };
    let mut excluded = None;
    for _ in 0..PICKS {
        let Some(at) = pick(endpoints, context) else { break };
        if !context.excludes(&endpoints[at]) {
            return Some(at);
        }
        excluded = Some(at);
    }
    let allowed: Vec<usize> =
        (0..endpoints.len()).filter(|&at| !context.excludes(&endpoints[at])).collect();
    if allowed.len() == endpoints.len() {
        return None;
    }
    let members: Vec<_> = allowed.iter().map(|&at| endpoints[at].clone()).collect();
    if !members.is_empty()
        && let Some(at) =
            pick(&ReadySet::new(&members).with_not_ready(endpoints.not_ready()), context)
    {
        return Some(allowed[at]);
    }
    pick(endpoints, &context.without_exclusion()).or(excluded)
}
