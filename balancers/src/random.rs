//! Any of them.

use std::sync::atomic::{AtomicU64, Ordering};

use fleetward_core::{Balancer, PickContext, ReadySet};

/// Any endpoint, each with the same probability. Weights are not looked at.
///
/// ```
/// use fleetward_balancers::Random;
/// use fleetward_core::{Balancer, Instance, Member, PickContext, ReadySet};
/// let members = ["10.0.0.1:80", "10.0.0.2:80"]
///     .map(|address| Member::detached(Instance::new(address).unwrap()));
/// let picked = Random::new().pick(&ReadySet::new(&members), &PickContext::new());
/// assert!(picked.is_some_and(|position| position < 2));
/// ```
#[derive(Debug, Default)]
pub struct Random {
    /// Only with a seed; without one each thread draws from a generator of its own.
    seeded: Option<AtomicU64>,
}

impl Random {
    /// Draws from a generator that no other thread touches.
    pub fn new() -> Self {
        Self::default()
    }

    /// Draws the same sequence for the same seed, shared by all threads.
    pub fn with_seed(seed: u64) -> Self {
        Self { seeded: Some(AtomicU64::new(seed)) }
    }
}

impl Balancer for Random {
    fn pick(&self, endpoints: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
        let n = endpoints.len();
        if n == 0 {
            return None;
        }
        Some(match &self.seeded {
            None => fastrand::usize(..n),
            // A counter that seeds a generator for one draw: repeatable without a lock.
            Some(counter) => {
                let seed = counter.fetch_add(1, Ordering::Relaxed);
                fastrand::Rng::with_seed(seed).usize(..n)
            }
        })
    }
}
