//! One pick, and what it leaves out.

use std::sync::Arc;

use crate::{Balancer, InFlight, Instance, PickContext, ReadySet};

/// The endpoint chosen for one call.
#[derive(Debug)]
#[non_exhaustive]
pub struct Picked<S> {
    /// Its service.
    pub service: S,
    /// The instance.
    pub instance: Arc<Instance>,
    /// Counts the call as under way.
    pub in_flight: InFlight,
}

/// Asks the balancer, and again while it answers with an instance that this call must not go to.
///
/// Most balancers move on by themselves within a few picks; for one that does not, what is left is
/// offered alone. Where nothing is left, going there is better than failing.
pub(super) fn pick_allowed(
    balancer: &dyn Balancer,
    ready: ReadySet<'_>,
    context: &PickContext<'_>,
) -> Option<usize> {
    const PICKS: usize = 4;
    if ready.is_empty() {
        return None;
    }
    let pick = |set: &ReadySet<'_>| balancer.pick(set, context).filter(|&at| at < set.len());
    for _ in 0..PICKS {
        let at = pick(&ready)?;
        if !context.excludes(&ready[at]) {
            return Some(at);
        }
    }
    let allowed: Vec<usize> =
        (0..ready.len()).filter(|&at| !context.excludes(&ready[at])).collect();
    if allowed.is_empty() {
        return pick(&ready);
    }
    let members: Vec<_> = allowed.iter().map(|&at| ready[at].clone()).collect();
    pick(&ReadySet::new(&members).with_resting(ready.resting())).map(|at| allowed[at])
}
