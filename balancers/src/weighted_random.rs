//! Any of them, some more often.

use fleetward_core::Balancer;
use fleetward_core::balancing::{PickContext, Prepared, ReadySet};

use crate::alias::AliasTable;
use crate::draws::Draws;
use crate::weighted_round_robin::search;

/// Any endpoint, each with a probability in proportion to its weight.
///
/// [`WeightedRoundRobin`](crate::WeightedRoundRobin) is fairer over a short time; this one has no
/// state that threads share. A pick takes constant time by Walker's alias method, whatever the
/// weights (Vose, "A linear algorithm for generating random numbers with a given distribution",
/// 1991).
///
/// ```
/// use fleetward_balancers::WeightedRandom;
/// use fleetward_core::{Balancer, Instance};
/// use fleetward_core::balancing::{PickContext, ReadySet};
/// use fleetward_core::endpoints::Member;
/// let members = [("10.0.0.1:80", 3), ("10.0.0.2:80", 1)].map(|(address, weight)| {
///     Member::detached(Instance::new(address).unwrap().with_weight(weight))
/// });
/// let balancer = WeightedRandom::with_seed(1);
/// let prepared = balancer.prepare(&ReadySet::new(&members));
/// let set = ReadySet::new(&members).with_prepared(prepared.as_ref());
/// let firsts = (0..1000).filter(|_| balancer.pick(&set, &PickContext::new()) == Some(0));
/// assert!((700..800).contains(&firsts.count()));
/// ```
#[derive(Debug, Default)]
pub struct WeightedRandom {
    draws: Draws,
}

impl WeightedRandom {
    /// Draws from a generator that no other thread touches.
    pub fn new() -> Self {
        Self::default()
    }

    /// Draws the same sequence for the same seed, shared by all threads.
    pub fn with_seed(seed: u64) -> Self {
        Self { draws: Draws::with_seed(seed) }
    }
}

impl Balancer for WeightedRandom {
    fn pick(&self, endpoints: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
        let bits = self.draws.bits();
        match endpoints.prepared::<AliasTable>() {
            Some(table) => table.at(bits),
            None => search(endpoints.members(), bits),
        }
    }

    fn prepare(&self, endpoints: &ReadySet<'_>) -> Option<Prepared> {
        let weights: Vec<u32> = endpoints.iter().map(|member| member.instance().weight()).collect();
        Some(Box::new(AliasTable::new(&weights)))
    }
}
