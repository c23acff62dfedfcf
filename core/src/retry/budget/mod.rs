//! What bounds the extra attempts of all calls together.
//!
//! A limit on the attempts of one call does not protect a service: when every call fails, three
//! attempts each are three times the load, just when it can bear least. So all calls share a
//! budget, and an attempt beyond the first, a retry or a hedge, is sent only if the budget allows
//! it; else the call ends with the error it has. Nothing ever waits for a budget.
//!
//! Two kinds are here. [`RatioBudget`] bounds extra attempts as a share of the calls, and keeps its
//! promise whatever happens: the default choice. [`Throttle`] is gRPC's: it needs no clock, stops
//! all extra attempts once enough of them have failed, and bounds no share while fewer do.

mod ratio;
mod saved;
mod throttle;
mod word;

use std::fmt::Debug;
use std::sync::Arc;

pub use self::ratio::RatioBudget;
pub use self::throttle::Throttle;

/// Says whether one more attempt may be sent, for all calls that share it.
///
/// One budget belongs to one service (gRPC: one target), not to one instance, and is shared by
/// everything that calls it: `Arc` a budget and give it to each.
///
/// Layers that stand above one another may share a budget, too: a call through all of them counts once.
///
/// The methods are called on the path of every call, from any thread: they must not block.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use fleetward_core::retry::RetryBudget;
///
/// /// A number of extra attempts for the life of a process.
/// #[derive(Debug)]
/// struct Supply(AtomicU32);
///
/// impl RetryBudget for Supply {
///     fn allows(&self) -> bool {
///         let order = Ordering::Relaxed;
///         self.0.fetch_update(order, order, |left| left.checked_sub(1)).is_ok()
///     }
/// }
///
/// let supply = Supply(AtomicU32::new(1));
/// assert!(supply.allows());
/// assert!(!supply.allows());
/// ```
pub trait RetryBudget: Send + Sync + Debug {
    /// A call begins. Once a call, however many attempts it makes, and however many layers above one
    /// another share the budget.
    fn call(&self) {}

    /// An attempt succeeded.
    fn succeeded(&self) {}

    /// An attempt failed in a way that would be tried again, whether or not it is; or the server
    /// said not to try again. An attempt that never left this process is neither this nor a success, for
    /// as long as it is [not counted](crate::retry::Verdict::Transparent).
    fn failed(&self) {}

    /// Whether one more attempt may be sent now. If so, what it costs is taken: ask right before
    /// sending, and after [`failed`](Self::failed).
    fn allows(&self) -> bool;

    /// Tells budgets apart while they live: the same for all handles to one budget, by default the
    /// budget's address. One that stands in front of another says what that one says.
    fn identity(&self) -> usize {
        std::ptr::from_ref(self).cast::<()>().addr()
    }
}

#[deny(clippy::missing_trait_methods)]
impl<B: RetryBudget + ?Sized> RetryBudget for Arc<B> {
    fn call(&self) {
        (**self).call();
    }

    fn succeeded(&self) {
        (**self).succeeded();
    }

    fn failed(&self) {
        (**self).failed();
    }

    fn allows(&self) -> bool {
        (**self).allows()
    }

    fn identity(&self) -> usize {
        (**self).identity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_shared_through_arcs_and_trait_objects() {
        let throttle = Arc::new(Throttle::default());
        let shared: Arc<dyn RetryBudget> = Arc::new(throttle.clone());
        shared.call();
        for _ in 0..5 {
            shared.failed();
        }
        assert!(!shared.allows() && !throttle.allows());
        shared.succeeded();
        assert!(shared.allows() && throttle.allows());
        assert_eq!(shared.identity(), throttle.identity());
        assert_ne!(shared.identity(), Arc::new(Throttle::default()).identity());
    }
}
