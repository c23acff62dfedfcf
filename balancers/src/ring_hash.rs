//! Consistent hashing on a ring.

use std::fmt::Write as _;

use fleetward_core::balancing::{PickContext, Prepared, ReadySet};
use fleetward_core::registry::Options;
use fleetward_core::{Balancer, Error};

use crate::HashKey;
use crate::hashing::{ByKey, KeyOptions, Owners};
use crate::key::hash;
use crate::sorted_index::SortedIndex;

/// Calls with the same key to the same endpoint, by hashing both onto a ring.
///
/// Choose it where an endpoint keeps something for those who come again: a cache, a session. When an
/// endpoint comes or goes, its share of the keys moves, and of the others one percent at most, for
/// the numbers of entries are rounded. The ring is gRPC's (`ring_hash`, gRFC
/// A42, and A76 for the key): each endpoint stands at the XXH64 of its address and a number,
/// `10.0.0.1:80_0`, `10.0.0.1:80_1`, as often as its weight says, and a call goes to the first at or
/// after the XXH64 of its key. So clients of gRPC and of this crate agree, whatever their language,
/// if the addresses they know are the same text (`host:port`, without a scheme). Of two instances
/// with the same address one gets all calls.
///
/// The price is that shares are uneven: of 100 endpoints the one with the most keys has about 2
/// times the mean with 1024 entries or some more, 1.4 times with 4096, 1.1 times with 65536.
/// [`Maglev`](crate::Maglev) is even and moves a few keys more; a
/// [bound on the load](Self::with_load) evens out what popular keys do.
///
/// A retry, which must not go where the call went before, goes on along the ring. A call without a
/// key goes anywhere, in proportion to the weights.
///
/// ```
/// use fleetward_balancers::{HashKey, RingHash};
/// use fleetward_core::{Balancer, Instance};
/// use fleetward_core::balancing::{PickContext, ReadySet};
/// use fleetward_core::endpoints::Member;
/// struct GetCart { user: &'static str }
///
/// let members = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]
///     .map(|address| Member::detached(Instance::new(address).unwrap()));
/// let key = HashKey::request(|request: &GetCart| Some(request.user.as_bytes()));
/// let balancer = RingHash::new(key).with_ring_size(1024, 8192);
/// let prepared = balancer.prepare(&ReadySet::new(&members));
/// let set = ReadySet::new(&members).with_prepared(prepared.as_ref());
///
/// let ann = GetCart { user: "ann" };
/// let picks = [(); 3].map(|()| balancer.pick(&set, &PickContext::new().with_request(&ann)));
/// assert_eq!(picks[0], picks[1]);
/// assert_eq!(picks[1], picks[2]);
/// ```
#[derive(Debug)]
pub struct RingHash {
    by_key: ByKey,
    min: u32,
    max: u32,
}

impl RingHash {
    /// The most entries that a ring may have: 8 Mi.
    pub const MAX_RING_SIZE: u32 = 8 << 20;

    /// Hashes calls by `key`, onto a ring of 1024 to 4096 entries.
    pub fn new(key: HashKey) -> Self {
        Self { by_key: ByKey::new(key), min: 1024, max: 4096 }
    }

    /// Sets how many entries the ring has (default: 1024 to 4096).
    ///
    /// At least `min`, and then more until also the lightest endpoint has a whole number of them,
    /// but `max` at most, which rounds the shares of the light ones. Each entry takes 12 bytes and,
    /// on a change of the set, some 100 ns. Both are brought to between 1 and
    /// [`MAX_RING_SIZE`](Self::MAX_RING_SIZE), and `max` to `min` at least.
    #[must_use]
    pub fn with_ring_size(mut self, min: u32, max: u32) -> Self {
        self.min = min.clamp(1, Self::MAX_RING_SIZE);
        self.max = max.clamp(self.min, Self::MAX_RING_SIZE);
        self
    }

    /// Passes by an endpoint that would have more than `factor` times its share of the calls under
    /// way, rounded up, in favour of the next along the ring ("Consistent hashing with bounded
    /// loads", 2016). 1.25 is a good start.
    ///
    /// From 1 to 1000; other values are brought there. Calls under way are those of this process.
    /// Calls that are picked at the same moment do not see each other, and a retry that finds room
    /// nowhere goes over the bound. An endpoint without any call is taken at once; for others the
    /// calls of all endpoints are summed up, so a pick costs some nanoseconds for each of them.
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
        let (min, max) = (options.take_parsed("min")?, options.take_parsed("max")?);
        // One of them moves the other's default.
        let max: u32 = max.unwrap_or(min.unwrap_or(0).max(4096));
        let min = min.unwrap_or(max.min(1024));
        if !(1..=max).contains(&min) || max > Self::MAX_RING_SIZE {
            return Err(Error::invalid_input("a ring has 1 <= min <= max <= 8388608 entries"));
        }
        let KeyOptions { key, load } = KeyOptions::take(options)?;
        let ring = Self::new(key).with_ring_size(min, max);
        Ok(match load {
            Some(load) => ring.with_load(load),
            None => ring,
        })
    }
}

impl Balancer for RingHash {
    fn pick(&self, endpoints: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        let choose = |ring: &Ring| {
            let entry = ring.entry(self.by_key.hash(context));
            self.by_key.choose(&ring.owners, entry, endpoints, context)
        };
        match endpoints.prepared::<Ring>() {
            Some(ring) => choose(ring),
            None => choose(&Ring::new(endpoints, self.min, self.max)),
        }
    }

    fn prepare(&self, endpoints: &ReadySet<'_>) -> Option<Prepared> {
        Some(Box::new(Ring::new(endpoints, self.min, self.max)))
    }
}

#[derive(Debug)]
struct Ring {
    hashes: SortedIndex,
    owners: Owners,
}

impl Ring {
    /// As gRFC A42 places the entries, in the order of the set.
    fn new(endpoints: &ReadySet<'_>, min: u32, max: u32) -> Self {
        let mut entries = Vec::new();
        for (position, count) in (0..).zip(counts(endpoints, min, max)) {
            let mut text = String::new();
            let mut end = 0;
            for number in 0..count {
                if number == 0 {
                    text = endpoints[position as usize].instance().address().authority();
                    text.push('_');
                    end = text.len();
                }
                text.truncate(end);
                // A `String` takes anything.
                let _ = write!(text, "{number}");
                entries.push((hash(text.as_bytes()), position));
            }
        }
        entries.sort_unstable();
        let (hashes, positions) = entries.into_iter().unzip();
        Self { hashes: SortedIndex::new(hashes), owners: Owners::new(positions, endpoints) }
    }

    fn entry(&self, hash: u64) -> usize {
        let entry = self.hashes.at_least(hash);
        if entry < self.owners.len() { entry } else { 0 }
    }
}

/// How many entries each endpoint has. Not all targets are whole numbers; what one lacks the next
/// one gets.
fn counts(endpoints: &ReadySet<'_>, min: u32, max: u32) -> Vec<u32> {
    let weights = || endpoints.iter().map(|member| f64::from(member.instance().weight()));
    let total: f64 = weights().sum();
    let lightest = weights().filter(|&weight| weight > 0.0).fold(total, f64::min) / total;
    let scale = ((lightest * f64::from(min)).ceil() / lightest).min(f64::from(max));
    let (mut current, mut target) = (0u32, 0.0);
    let count = |weight: f64| {
        // Nobody's share of nothing is no number, and adds no entry.
        target += scale * (weight / total);
        let before = current;
        while f64::from(current) < target {
            current += 1;
        }
        current - before
    };
    weights().map(count).collect()
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

    fn counted(weights: &[u32], min: u32, max: u32) -> Vec<u32> {
        counts(&ReadySet::new(&members(weights)), min, max)
    }

    #[test]
    fn entries_are_shared_out_as_grpc_does() {
        // The example in grpc-go's ring: size 10 for 3, 3, 4, and 7 entries at most.
        assert_eq!(counted(&[3, 3, 4], 1, 10), [1, 1, 2]);
        assert_eq!(counted(&[3, 3, 4], 10, 20), [3, 3, 4]);
        assert_eq!(counted(&[3, 3, 4], 7, 7), [3, 2, 2]);
        // The lightest gets a whole number: ceil(1024 / 100) each.
        assert_eq!(counted(&[1; 100], 1024, 4096), [11; 100]);
        // And at `max` the light ones share.
        assert_eq!(counted(&[1; 8], 1, 4), [1, 0, 1, 0, 1, 0, 1, 0]);
        assert_eq!(counted(&[0, 5, 0], 4, 8), [0, 4, 0]);
        assert_eq!(counted(&[0, 0], 4, 8), [0, 0]);
        assert!(counted(&[], 4, 8).is_empty());
        let skewed = counted(&[1, u32::MAX, u32::MAX], 1024, 4096);
        assert_eq!(skewed.iter().sum::<u32>(), 4096);
    }

    #[test]
    fn an_entry_stands_at_the_hash_of_address_and_number() {
        let members = members(&[1, 2]);
        let ring = Ring::new(&ReadySet::new(&members), 3, 3);
        for (text, position) in
            [("10.0.0.1:1000_0", 0), ("10.0.0.1:1001_0", 1), ("10.0.0.1:1001_1", 1)]
        {
            let entry = ring.entry(hash(text.as_bytes()));
            assert_eq!(ring.owners.position(entry), Some(position), "{text}");
        }
        // Behind the last entry comes the first.
        assert_eq!(ring.entry(u64::MAX), 0);
        assert_eq!(ring.owners.len(), 3);
    }
}
