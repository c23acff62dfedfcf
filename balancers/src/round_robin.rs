//! One after the other.

use fleetward_core::Balancer;
use fleetward_core::balancing::{PickContext, ReadySet};

use crate::turns::Turns;

/// Each endpoint in turn, in the order of their ids.
///
/// A new one starts at a random endpoint, so that many clients that start together do not all call
/// the same instance first. Weights are not looked at. When the set changes, the turn goes on from
/// the same count, which all threads share.
///
/// ```
/// use fleetward_balancers::RoundRobin;
/// use fleetward_core::{Balancer, Instance};
/// use fleetward_core::balancing::{PickContext, ReadySet};
/// use fleetward_core::endpoints::Member;
/// let members = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]
///     .map(|address| Member::detached(Instance::new(address).unwrap()));
/// let balancer = RoundRobin::starting_at(0);
/// let picks = [(); 4].map(|()| balancer.pick(&ReadySet::new(&members), &PickContext::new()));
/// assert_eq!(picks, [Some(0), Some(1), Some(2), Some(0)]);
/// ```
#[derive(Debug)]
pub struct RoundRobin {
    turns: Turns,
    start: usize,
}

impl RoundRobin {
    /// Starts at a random endpoint.
    pub fn new() -> Self {
        Self::starting_at(fastrand::usize(..))
    }

    /// Starts at a place that follows from `seed`: the same sequence each time.
    pub fn with_seed(seed: u64) -> Self {
        Self::starting_at(fastrand::Rng::with_seed(seed).usize(..))
    }

    /// Starts at a position (modulo the number of endpoints).
    pub fn starting_at(position: usize) -> Self {
        Self { turns: Turns::default(), start: position }
    }
}

impl Default for RoundRobin {
    fn default() -> Self {
        Self::new()
    }
}

impl Balancer for RoundRobin {
    fn pick(&self, endpoints: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        let turn = self.start.wrapping_add(self.turns.of(context) as usize);
        turn.checked_rem(endpoints.len())
    }
}
