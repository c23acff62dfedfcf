//! Any of them.

use fleetward_core::Balancer;
use fleetward_core::balancing::{PickContext, ReadySet};

use crate::draws::Draws;

/// Any endpoint, each with the same probability. Weights are not looked at.
///
/// ```
/// use fleetward_balancers::Random;
/// use fleetward_core::{Balancer, Instance};
/// use fleetward_core::balancing::{PickContext, ReadySet};
/// use fleetward_core::endpoints::Member;
/// let members = ["10.0.0.1:80", "10.0.0.2:80"]
///     .map(|address| Member::detached(Instance::new(address).unwrap()));
/// let picked = Random::new().pick(&ReadySet::new(&members), &PickContext::new());
/// assert!(picked.is_some_and(|position| position < 2));
/// ```
#[derive(Debug, Default)]
pub struct Random {
    draws: Draws,
}

impl Random {
    /// Draws from a generator that no other thread touches.
    pub fn new() -> Self {
        Self::default()
    }

    /// Draws the same sequence for the same seed, shared by all threads.
    pub fn with_seed(seed: u64) -> Self {
        Self { draws: Draws::with_seed(seed) }
    }
}

impl Balancer for Random {
    fn pick(&self, endpoints: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
        (!endpoints.is_empty()).then(|| self.draws.below(endpoints.len()))
    }
}
