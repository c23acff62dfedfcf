//! Each in turn, some more often.

use fleetward_core::Balancer;
use fleetward_core::balancing::{PickContext, Prepared, ReadySet};
use fleetward_core::endpoints::Member;

use crate::schedule::smooth;
use crate::stride::StrideSchedule;
use crate::turns::Turns;

/// Each endpoint in turn, as often as its weight says, and evenly spread.
///
/// How fair it is, is told by how far an endpoint can lag behind its share at any moment:
///
/// - by less than one call where the weights, divided by what they have in common, sum up to 8192
///   or less. Then an order is prepared that is fair from its first turn on and no matter where in
///   the evenly spread one it starts (Tijdeman, "The chairman assignment problem", 1980);
/// - by three calls at the most otherwise, at any weights and at any time, and mostly by less than
///   two. Then turns are dealt out by halves of the weights, and halves of those, from nothing but
///   the number of the turn. An endpoint with a millionth of the weight gets a millionth of the
///   calls.
///
/// A pick costs a look into a table, or some steps, at most the logarithm of the number of endpoints
/// and two more on average, fewer where weights are very unlike.
/// A new balancer starts at a random place, so that many clients that start together do not all call
/// the same instance first. When the set changes, the turn goes on from the same count; counted from
/// there, an endpoint may lag behind about twice as far. So it may while threads pick at the very same moment,
/// over and over: each then takes some turns in a row, so that they do not wait for each other. Where all weights are alike it is
/// a [`RoundRobin`](crate::RoundRobin).
///
/// ```
/// use fleetward_balancers::WeightedRoundRobin;
/// use fleetward_core::{Balancer, Instance};
/// use fleetward_core::balancing::{PickContext, ReadySet};
/// use fleetward_core::endpoints::Member;
/// let members = [("10.0.0.1:80", 3), ("10.0.0.2:80", 1)].map(|(address, weight)| {
///     Member::detached(Instance::new(address).unwrap().with_weight(weight))
/// });
/// let balancer = WeightedRoundRobin::starting_at(0);
/// let prepared = balancer.prepare(&ReadySet::new(&members));
/// let set = ReadySet::new(&members).with_prepared(prepared.as_ref());
/// let picks = [(); 4].map(|()| balancer.pick(&set, &PickContext::new()));
/// assert_eq!(picks, [Some(0), Some(1), Some(0), Some(0)]);
/// ```
#[derive(Debug)]
pub struct WeightedRoundRobin {
    /// Counts from 0, where the prepared order begins.
    turns: Turns,
    start: u64,
}

impl WeightedRoundRobin {
    /// Starts at a random place.
    pub fn new() -> Self {
        Self::at(fastrand::u64(..))
    }

    /// Starts at a place that follows from `seed`: the same sequence each time.
    pub fn with_seed(seed: u64) -> Self {
        Self::at(fastrand::Rng::with_seed(seed).u64(..))
    }

    /// Starts so many turns after the beginning.
    pub fn starting_at(turn: usize) -> Self {
        Self::at(turn as u64)
    }

    fn at(start: u64) -> Self {
        Self { turns: Turns::default(), start }
    }
}

impl Default for WeightedRoundRobin {
    fn default() -> Self {
        Self::new()
    }
}

impl Balancer for WeightedRoundRobin {
    fn pick(&self, endpoints: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        let turn = self.turns.of(context);
        let on = self.start.wrapping_add(turn);
        match endpoints.prepared::<Plan>() {
            Some(Plan::Equal) => Some(on.checked_rem(endpoints.len() as u64)? as usize),
            Some(Plan::Order(order)) => {
                let index = turn.checked_rem(order.len() as u64)?;
                Some(order[index as usize] as usize)
            }
            Some(Plan::Halves(halves)) => Some(halves.at(turn)),
            Some(Plan::Nobody) => None,
            None => search(endpoints.members(), ticket(on)),
        }
    }

    fn prepare(&self, endpoints: &ReadySet<'_>) -> Option<Prepared> {
        Some(Box::new(Plan::new(endpoints, self.start)))
    }
}

/// 2^64 divided by the golden ratio. Of all multiples modulo 1 those of the golden ratio are spread
/// most evenly; where they are looked up in the summed weights, nobody lags behind by much.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A turn's ticket, as a fraction of 2^64.
fn ticket(turn: u64) -> u64 {
    turn.wrapping_mul(GOLDEN)
}

/// How turns become positions in one set.
#[derive(Debug)]
enum Plan {
    Equal,
    Order(Box<[u32]>),
    Halves(StrideSchedule),
    Nobody,
}

impl Plan {
    fn new(endpoints: &ReadySet<'_>, start: u64) -> Self {
        if endpoints.even_weight().is_some_and(|weight| weight > 0) {
            return Self::Equal;
        }
        let weights: Vec<u32> = endpoints.iter().map(|member| member.instance().weight()).collect();
        match smooth(&weights, start) {
            Some(order) => Self::Order(order),
            None => StrideSchedule::new(&weights, start).map_or(Self::Nobody, Self::Halves),
        }
    }
}

/// Whose a ticket is, where nothing is prepared: a stretch for each by its weight, in order. Shared
/// with other draws by weight.
pub(crate) fn search(members: &[Member], ticket: u64) -> Option<usize> {
    let weight = |member: &Member| u128::from(member.instance().weight());
    let total: u128 = members.iter().map(weight).sum();
    let mut left = (u128::from(ticket) * total) >> 64;
    members.iter().position(|member| {
        let weight = weight(member);
        let found = left < weight;
        left = left.saturating_sub(weight);
        found
    })
}

#[cfg(test)]
mod tests {
    use fleetward_core::Instance;

    use super::*;

    #[test]
    fn the_search_gives_each_a_stretch_of_its_weight() {
        let weights = [0, 3, 1, 0, 4, 0];
        let members: Vec<_> = (80..)
            .zip(weights)
            .map(|(port, weight)| {
                let instance = Instance::new(format!("10.0.0.1:{port}")).unwrap();
                Member::detached(instance.with_weight(weight))
            })
            .collect();
        let eighth = 1 << 61;
        for (stretch, position) in [1, 1, 1, 2, 4, 4, 4, 4].into_iter().enumerate() {
            let first = stretch as u64 * eighth;
            assert_eq!(search(&members, first), Some(position));
            assert_eq!(search(&members, first + (eighth - 1)), Some(position));
        }
        assert_eq!(search(&members[..1], 7), None);
        assert_eq!(search(&[], 7), None);
    }
}
