//! What chooses.

use std::sync::Arc;

use crate::Instance;
use crate::model::snapshot::sort_unique;

/// Chooses the instances that a client sees. [`Filter`](crate::discovery::Filter) is one, a subset is one
/// (`fleetward::balancers::Subset`), and so is any closure of this signature:
///
/// ```
/// use std::sync::Arc;
/// use fleetward_core::{Instance, Instancer};
/// use fleetward_core::discovery::{FixedInstancer, InstancerExt};
/// let list = FixedInstancer::new("greeter", [
///     Instance::new("10.0.0.1:80")?.with_weight(10),
///     Instance::new("10.0.0.2:80")?,
/// ]);
/// let heavy = list.view(|all: &[Arc<Instance>]| {
///     all.iter().filter(|instance| instance.weight() > 5).cloned().collect()
/// });
/// assert_eq!(heavy.subscribe().current().instances.len(), 1);
/// # Ok::<(), fleetward_core::Error>(())
/// ```
///
/// It is a function of what it is given and of nothing else: it is asked when the set has changed, once
/// for all subscribers (those that ask at the very same moment may each ask it), and not when nobody is
/// subscribed. It may answer with instances of its own making, of another weight for example. What it reads
/// through itself while it chooses is its last choice.
///
/// If it panics, its last choice is shown further, marked [`Stale`](crate::Freshness::Stale) with an error that
/// says so. It is asked again about the next set, and, by an [`Endpointer`](crate::Endpointer), after a pause.
pub trait View: Send + Sync + 'static {
    /// The instances to show of `all`, which are sorted by id. In any order; of those with the same
    /// id the first one counts.
    fn choose(&self, all: &[Arc<Instance>]) -> Vec<Arc<Instance>>;
}

impl<F> View for F
where
    F: Fn(&[Arc<Instance>]) -> Vec<Arc<Instance>> + Send + Sync + 'static,
{
    fn choose(&self, all: &[Arc<Instance>]) -> Vec<Arc<Instance>> {
        self(all)
    }
}

/// One after the other; each sees what the one before has left.
impl View for Vec<Arc<dyn View>> {
    fn choose(&self, all: &[Arc<Instance>]) -> Vec<Arc<Instance>> {
        let mut chosen: Option<Vec<_>> = None;
        for view in self {
            let mut next = view.choose(chosen.as_deref().unwrap_or(all));
            sort_unique(&mut next);
            chosen = Some(next);
        }
        chosen.unwrap_or_else(|| all.to_vec())
    }
}
