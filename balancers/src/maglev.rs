//! Consistent hashing by a table that is filled in turns.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use fleetward_core::balancing::{PickContext, Prepared, ReadySet};
use fleetward_core::registry::Options;
use fleetward_core::{Balancer, Error};
use twox_hash::XxHash64;

use crate::HashKey;
use crate::hashing::{ByKey, KeyOptions, Owners};
use crate::key::hash;

/// Calls with the same key to the same endpoint, by Google's Maglev table.
///
/// Like [`RingHash`](crate::RingHash), but shares are even to about 1 %, and a pick is one look into
/// a table. The price: when one of 100 endpoints goes, besides its own keys half a percent of the
/// others move as well ("Maglev: a fast and reliable software network load balancer", 2016).
///
/// The table is Envoy's: its size is a prime, 65537; an endpoint's permutation of it is given by
/// the XXH64 of its address with seeds 0 and 1; endpoints choose an entry in turns, in the order of
/// their ids, a lighter one less often. Choose a size of 100 times the number of endpoints or more.
///
/// A retry, which must not go where the call went before, goes on along the table. A call without a
/// key goes anywhere, in proportion to the weights.
///
/// ```
/// use fleetward_balancers::{HashKey, Maglev};
/// use fleetward_core::{Balancer, Instance};
/// use fleetward_core::balancing::{PickContext, ReadySet};
/// use fleetward_core::endpoints::Member;
/// struct GetCart { user: &'static str }
///
/// let members = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]
///     .map(|address| Member::detached(Instance::new(address).unwrap()));
/// let key = HashKey::request(|request: &GetCart| Some(request.user.as_bytes()));
/// let balancer = Maglev::new(key).with_load(1.25);
/// let prepared = balancer.prepare(&ReadySet::new(&members));
/// let set = ReadySet::new(&members).with_prepared(prepared.as_ref());
///
/// let ann = GetCart { user: "ann" };
/// let picks = [(); 3].map(|()| balancer.pick(&set, &PickContext::new().with_request(&ann)));
/// assert_eq!(picks[0], picks[1]);
/// assert_eq!(picks[1], picks[2]);
/// ```
#[derive(Debug)]
pub struct Maglev {
    by_key: ByKey,
    size: u32,
}

impl Maglev {
    /// The size of a table that nobody has set.
    pub const DEFAULT_TABLE_SIZE: u32 = 65_537;

    /// The largest table, as in Envoy.
    pub const MAX_TABLE_SIZE: u32 = 5_000_011;

    /// Hashes calls by `key`, into a table of 65537 entries.
    pub fn new(key: HashKey) -> Self {
        Self { by_key: ByKey::new(key), size: Self::DEFAULT_TABLE_SIZE }
    }

    /// Sets the size of the table (default 65537). Each entry takes 4 bytes and, on a change of the
    /// set, some 50 ns.
    ///
    /// # Errors
    /// [`InvalidInput`](fleetward_core::ErrorKind::InvalidInput) if it is not a prime from 3 to
    /// [`MAX_TABLE_SIZE`](Self::MAX_TABLE_SIZE).
    pub fn with_table_size(mut self, size: u32) -> Result<Self, Error> {
        if !(3..=Self::MAX_TABLE_SIZE).contains(&size) || !is_prime(size) {
            let message = "the size of a Maglev table is a prime from 3 to 5000011, as 65537";
            return Err(Error::invalid_input(message).with_context("size", size));
        }
        self.size = size;
        Ok(self)
    }

    /// Passes by an endpoint that would have more than `factor` times its share of the calls under
    /// way, rounded up, in favour of the next along the table: see
    /// [`RingHash::with_load`](crate::RingHash::with_load).
    #[must_use]
    pub fn with_load(mut self, factor: f64) -> Self {
        self.by_key.set_load(factor);
        self
    }

    /// Sends calls without a key to the same sequence of endpoints each time.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.by_key.set_seed(seed);
        self
    }

    pub(crate) fn from_options(options: &mut Options) -> Result<Self, Error> {
        let size = options.take_parsed::<u32>("table")?.unwrap_or(Self::DEFAULT_TABLE_SIZE);
        let KeyOptions { key, load } = KeyOptions::take(options)?;
        let maglev = Self::new(key).with_table_size(size)?;
        Ok(match load {
            Some(load) => maglev.with_load(load),
            None => maglev,
        })
    }
}

impl Balancer for Maglev {
    fn pick(&self, endpoints: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        let choose = |Table(owners): &Table| {
            let entry = self.by_key.hash(context) % u64::from(self.size);
            self.by_key.choose(owners, entry as usize, endpoints, context)
        };
        match endpoints.prepared::<Table>() {
            Some(table) => choose(table),
            None => choose(&Table::new(endpoints, self.size)),
        }
    }

    fn prepare(&self, endpoints: &ReadySet<'_>) -> Option<Prepared> {
        Some(Box::new(Table::new(endpoints, self.size)))
    }
}

#[derive(Debug)]
struct Table(Owners);

impl Table {
    fn new(endpoints: &ReadySet<'_>, size: u32) -> Self {
        Self(Owners::new(fill(endpoints, size), endpoints))
    }
}

/// An endpoint's way through the table: every entry once.
struct Permutation {
    next: u32,
    skip: u32,
}

impl Permutation {
    fn new(address: &str, size: u32) -> Self {
        let second = XxHash64::oneshot(1, address.as_bytes());
        Self {
            next: (hash(address.as_bytes()) % u64::from(size)) as u32,
            skip: (second % u64::from(size - 1)) as u32 + 1,
        }
    }

    fn next(&mut self, size: u32) -> usize {
        let entry = self.next;
        // Below twice the largest table.
        self.next += self.skip;
        if self.next >= size {
            self.next -= size;
        }
        entry as usize
    }
}

/// Nothing if nobody has a weight.
fn fill(endpoints: &ReadySet<'_>, size: u32) -> Vec<u32> {
    const FREE: u32 = u32::MAX;
    let weight = |position: u32| u64::from(endpoints[position as usize].instance().weight());
    let heaviest = (0..endpoints.len() as u32).map(weight).max().unwrap_or(0);
    let mut permutations: Vec<_> = endpoints
        .iter()
        .map(|member| Permutation::new(&member.instance().address().authority(), size))
        .collect();
    // Who takes an entry next: by round, then by position. In Envoy's terms, the `k`-th turn of a
    // weight (from 0) comes in the first round that is at least `k * heaviest / weight`, and not
    // before round 1. A heap finds it without asking the light ones in every round.
    let mut turns: BinaryHeap<Reverse<(u64, u32)>> = (0..endpoints.len() as u32)
        .filter(|&position| weight(position) > 0)
        .map(|position| Reverse((1, position)))
        .collect();
    let mut taken = vec![0u64; endpoints.len()];
    let mut table = vec![FREE; size as usize];
    for _ in 0..size {
        let Some(mut turn) = turns.peek_mut() else { return Vec::new() };
        let Reverse((round, position)) = &mut *turn;
        let permutation = &mut permutations[*position as usize];
        // A permutation meets every entry, and one is free.
        let entry =
            std::iter::repeat_with(|| permutation.next(size)).find(|&entry| table[entry] == FREE);
        if let Some(entry) = entry {
            table[entry] = *position;
        }
        let taken = &mut taken[*position as usize];
        *taken += 1;
        *round = (*taken * heaviest).div_ceil(weight(*position)).max(*round + 1);
    }
    table
}

fn is_prime(number: u32) -> bool {
    let mut divisors = (2..).take_while(|divisor| divisor * divisor <= number);
    number >= 2 && !divisors.any(|divisor| number.is_multiple_of(divisor))
}

#[cfg(test)]
mod tests {
    use fleetward_core::Instance;
    use fleetward_core::endpoints::Member;

    use super::*;

    fn members(weights: &[u32]) -> Vec<Member> {
        let instance = |(port, &weight): (usize, &u32)| {
            let instance = Instance::new(format!("10.0.0.1:{}", 1000 + port)).unwrap();
            Member::detached(instance.with_weight(weight))
        };
        weights.iter().enumerate().map(instance).collect()
    }

    /// As Envoy's `maglev_lb.cc` describes it: every endpoint is asked in every round.
    fn round_by_round(members: &[Member], size: u32) -> Vec<u32> {
        let weights: Vec<_> = members.iter().map(|m| u64::from(m.instance().weight())).collect();
        let heaviest = *weights.iter().max().unwrap();
        let mut permutations: Vec<_> = members
            .iter()
            .map(|m| Permutation::new(&m.instance().address().authority(), size))
            .collect();
        let mut targets = vec![0; members.len()];
        let mut table = vec![u32::MAX; size as usize];
        let mut filled = 0;
        for round in 1.. {
            for position in 0..members.len() {
                if filled == size {
                    return table;
                }
                if weights[position] == 0 || round * weights[position] < targets[position] {
                    continue;
                }
                targets[position] += heaviest;
                loop {
                    let entry = permutations[position].next(size);
                    if table[entry] == u32::MAX {
                        table[entry] = position as u32;
                        filled += 1;
                        break;
                    }
                }
            }
        }
        table
    }

    #[test]
    fn turns_are_those_of_envoy() {
        let mut rng = fastrand::Rng::with_seed(8);
        let random = (0..30).map(|_| {
            let most = 1 << rng.u32(0..12);
            (0..rng.usize(1..40)).map(|_| rng.u32(0..=most)).chain([1]).collect()
        });
        for weights in
            [vec![1; 5], vec![1, 2, 3], vec![0, 7], vec![1000, 1, 333]].into_iter().chain(random)
        {
            let members = members(&weights);
            let table = fill(&ReadySet::new(&members), 503);
            assert_eq!(table, round_by_round(&members, 503), "{weights:?}");
        }
        assert!(fill(&ReadySet::new(&members(&[0, 0])), 503).is_empty());
        assert!(fill(&ReadySet::new(&[]), 503).is_empty());
    }

    #[test]
    fn a_permutation_meets_every_entry_once() {
        let mut permutation = Permutation::new("10.0.0.1:80", 503);
        let mut met: Vec<_> = (0..503).map(|_| permutation.next(503)).collect();
        met.sort_unstable();
        assert!(met.into_iter().eq(0..503));
    }

    #[test]
    fn a_table_s_size_is_a_prime() {
        let with = |size| Maglev::new(HashKey::attribute("user")).with_table_size(size);
        for size in [3, 5, 65_537, 655_373, Maglev::MAX_TABLE_SIZE] {
            assert!(with(size).is_ok(), "{size}");
        }
        for size in [0, 1, 2, 4, 9, 65_536, 65_539 * 3, 5_000_077, u32::MAX] {
            assert!(with(size).is_err(), "{size}");
        }
    }
}
