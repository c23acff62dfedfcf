//! An instancer seen through a view.

use std::fmt;
use std::sync::Arc;

use super::View;
use super::lens::Lens;
use crate::{Instance, Instancer, Subscription};

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
    /// conditions that come from configuration there is [`Filter`](crate::discovery::Filter).
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
/// closes when that one does. A change wakes those who wait only if the view shows it. An
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
