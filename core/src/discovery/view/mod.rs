//! A part of a service, for a client that wants no more than that.
//!
//! A view is a function of the complete set, so there is nothing that could miss an update. It has
//! no task and no state to keep in step: who subscribes through it reads what the inner instancer
//! published, and the first to read a new snapshot computes what all the others are shown (`lens`).
//! The price is that the work is done by a reader, in `current` or `changed`.

mod filter;
mod lens;

use std::fmt;
use std::sync::Arc;

pub use self::filter::Filter;
pub(crate) use self::lens::{Lens, Memo};
use crate::model::snapshot::sort_unique;
use crate::{Instance, Instancer, Subscription};

/// Chooses the instances that a client sees. [`Filter`] is one, a subset is one
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

/// What every [`Instancer`] can do.
pub trait InstancerExt: Instancer + Sized {
    /// The same service, of which only the instances are seen that `view` chooses.
    ///
    /// ```
    /// use fleetward_core::{Instance, Instancer};
    /// use fleetward_core::discovery::{Filter, FixedInstancer, InstancerExt};
    /// let list = FixedInstancer::new("greeter", [
    ///     Instance::new("10.0.0.1:80")?.with_version("v1"),
    ///     Instance::new("10.0.0.2:80")?.with_version("v2"),
    /// ]);
    /// let new = list.view(Filter::version("v2"));
    /// assert_eq!(new.subscribe().current().instances.len(), 1);
    /// # Ok::<(), fleetward_core::Error>(())
    /// ```
    fn view(self, view: impl View) -> Viewed<Self> {
        Viewed { inner: self, lens: Lens::new(Arc::new(view)) }
    }

    /// The same service, of which only the instances are seen that fulfil the condition. For
    /// conditions that come from configuration there is [`Filter`].
    ///
    /// ```
    /// use fleetward_core::{Instance, Instancer};
    /// use fleetward_core::discovery::{FixedInstancer, InstancerExt};
    /// let list = FixedInstancer::new("greeter", [Instance::new("10.0.0.1:80")?]);
    /// let sharded = list.filter(|instance| instance.metadata().get("shard") == Some("7"));
    /// assert!(sharded.subscribe().current().instances.is_empty());
    /// # Ok::<(), fleetward_core::Error>(())
    /// ```
    fn filter(self, condition: impl Fn(&Instance) -> bool + Send + Sync + 'static) -> Viewed<Self> {
        self.view(move |all: &[Arc<Instance>]| -> Vec<Arc<Instance>> {
            all.iter().filter(|instance| condition(instance)).cloned().collect()
        })
    }
}

impl<I: Instancer> InstancerExt for I {}

/// An [`Instancer`] seen through a [`View`]; made by [`InstancerExt::view`].
///
/// Its snapshots are as fresh as those of the instancer behind it, with the same reasons, and it
/// closes when that one does. Who waits for a change is woken only by one that the view shows. An
/// empty choice is an empty set: the [`EmptySetPolicy`](crate::discovery::EmptySetPolicy) judges what the
/// registry says, not what a view makes of it.
///
/// It has no task, so it works outside of a runtime too, and dropping it leaves nothing behind.
pub struct Viewed<I> {
    inner: I,
    lens: Lens,
}

impl<I: Instancer> Instancer for Viewed<I> {
    fn subscribe(&self) -> Subscription {
        self.lens.over(self.inner.subscribe())
    }
}

impl<I: fmt::Debug> fmt::Debug for Viewed<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Viewed").field(&self.inner).finish_non_exhaustive()
    }
}

const _: () = {
    const fn shared<T: Send + Sync + 'static>() {}
    const fn object_safe(_: Option<&dyn View>) {}
    shared::<Viewed<Arc<dyn Instancer>>>();
    object_safe(None);
};
