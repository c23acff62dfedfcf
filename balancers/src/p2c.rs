//! The less busy of two.

use fleetward_core::Balancer;
use fleetward_core::balancing::{PickContext, Prepared, ReadySet};
use fleetward_core::endpoints::Member;

use crate::draws::Draws;
use crate::sampler::Sampler;

/// Of two endpoints at random, the one with fewer calls under way (power of two choices, "P2C").
///
/// Choose it when calls differ in length: at 90 % load the mean time in a large fleet is 2.6 service
/// times, where a random choice takes 10 (the supermarket model). Looking at two and not at all keeps
/// many clients from running to the same idle endpoint at once, and costs the same for any number.
/// It does not see latency: see [`PeakEwma`](crate::PeakEwma) for endpoints that are slow or failing.
///
/// Where weights differ, the two are drawn in proportion to weight, calls under way count per unit of
/// weight, and the first wins a tie: so each gets its share in a quiet fleet as in a busy one.
///
/// ```
/// use fleetward_balancers::P2c;
/// use fleetward_core::{Balancer, Instance};
/// use fleetward_core::balancing::{PickContext, ReadySet};
/// use fleetward_core::endpoints::Member;
/// let members = ["10.0.0.1:80", "10.0.0.2:80"]
///     .map(|address| Member::detached(Instance::new(address).unwrap()));
/// let _under_way = members[0].begin();
/// assert_eq!(P2c::new().pick(&ReadySet::new(&members), &PickContext::new()), Some(1));
/// ```
///
/// Source: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 2001.
#[derive(Debug, Default)]
pub struct P2c {
    draws: Draws,
}

impl P2c {
    /// Draws from a generator that no other thread touches.
    pub fn new() -> Self {
        Self::default()
    }

    /// Draws the same sequence for the same seed, shared by all threads.
    pub fn with_seed(seed: u64) -> Self {
        Self { draws: Draws::with_seed(seed) }
    }
}

impl Balancer for P2c {
    fn pick(&self, endpoints: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        Sampler::pick(endpoints, 2, &self.draws, context, busyness)
    }

    fn prepare(&self, endpoints: &ReadySet<'_>) -> Option<Prepared> {
        Some(Box::new(Sampler::new(endpoints)))
    }
}

fn busyness(member: &Member, inverse_weight: f32) -> f32 {
    member.in_flight() as f32 * inverse_weight
}
