//! Balancers that send calls with the same key to the same endpoint.

use std::any::Any;

use fleetward_balancers::{HashKey, Maglev, RingHash, by_name};
use fleetward_core::balancing::{PickContext, Prepared, ReadySet};
use fleetward_core::endpoints::{InFlight, Member, Outcome};
use fleetward_core::{Balancer, Instance, InstanceId};

/// A request and its key.
struct Get(Option<u64>);

fn key() -> HashKey {
    HashKey::number(|request: &Get| request.0)
}

fn member(number: usize, weight: u32) -> Member {
    let address = format!("10.0.{}.{}:80", number / 250, number % 250 + 1);
    Member::detached(Instance::new(address).unwrap().with_weight(weight))
}

fn members(count: usize) -> Vec<Member> {
    (0..count).map(|number| member(number, 1)).collect()
}

fn ring(min: u32, max: u32) -> Box<dyn Balancer> {
    Box::new(RingHash::new(key()).with_ring_size(min, max))
}

fn both() -> [Box<dyn Balancer>; 2] {
    [Box::new(RingHash::new(key()).with_seed(1)), Box::new(Maglev::new(key()).with_seed(1))]
}

fn both_bounded(factor: f64) -> [Box<dyn Balancer>; 2] {
    [
        Box::new(RingHash::new(key()).with_ring_size(65_536, 65_536).with_load(factor)),
        Box::new(Maglev::new(key()).with_load(factor)),
    ]
}

/// A set with what its balancer has prepared.
struct Set<'a> {
    balancer: &'a dyn Balancer,
    members: &'a [Member],
    prepared: Option<Prepared>,
}

impl<'a> Set<'a> {
    fn new(balancer: &'a dyn Balancer, members: &'a [Member]) -> Self {
        Self { balancer, members, prepared: balancer.prepare(&ReadySet::new(members)) }
    }

    fn pick_with(&self, key: Option<u64>, context: PickContext<'_>) -> Option<usize> {
        let set = ReadySet::new(self.members).with_prepared(self.prepared.as_ref());
        self.balancer.pick(&set, &context.with_request(&Get(key)))
    }

    fn pick(&self, key: u64) -> usize {
        self.pick_with(Some(key), PickContext::new()).unwrap()
    }

    fn counts(&self, keys: u64) -> Vec<u64> {
        let mut counts = vec![0; self.members.len()];
        (0..keys).for_each(|key| counts[self.pick(key)] += 1);
        counts
    }

    fn imbalance(&self, keys: u64) -> f64 {
        let most = *self.counts(keys).iter().max().unwrap() as f64;
        most * self.members.len() as f64 / keys as f64
    }
}

/// What share of the keys goes elsewhere without one of the members: its own, and others.
fn moved(balancer: &dyn Balancer, members: &[Member], gone: usize, keys: u64) -> (f64, f64) {
    let mut rest = members.to_vec();
    rest.remove(gone);
    let (before, after) = (Set::new(balancer, members), Set::new(balancer, &rest));
    let (mut own, mut others) = (0, 0);
    for key in 0..keys {
        let from = before.pick(key);
        if from == gone {
            own += 1;
        } else if rest[after.pick(key)].instance().id() != members[from].instance().id() {
            others += 1;
        }
    }
    (own as f64 / keys as f64, others as f64 / keys as f64)
}

#[test]
fn a_ring_is_as_even_as_its_size_allows() {
    let members = members(100);
    for (size, range) in [(1024, 1.6..2.4), (4096, 1.3..1.65), (65_536, 1.05..1.16)] {
        let balancer = ring(size, size.max(4096));
        let imbalance = Set::new(&*balancer, &members).imbalance(200_000);
        assert!(range.contains(&imbalance), "{size}: {imbalance}");
    }
}

#[test]
fn a_maglev_table_is_even() {
    let members = members(100);
    let balancer = Maglev::new(key());
    let imbalance = Set::new(&balancer, &members).imbalance(1_000_000);
    // What is above 1 is mostly the sample's.
    assert!(imbalance < 1.05, "{imbalance}");
}

#[test]
fn when_an_endpoint_goes_its_keys_move_and_few_others() {
    let members = members(100);
    for (balancer, most) in
        [(ring(1024, 4096), 0.001), (ring(4096, 4096), 0.01), (ring(65_536, 65_536), 0.01)]
    {
        for gone in [0, 50, 99] {
            let (own, others) = moved(&*balancer, &members, gone, 50_000);
            assert!((0.002..0.025).contains(&own), "{own}");
            assert!(others <= most, "{others} {balancer:?}");
        }
    }
}

#[test]
fn maglev_moves_half_a_percent_more() {
    let balancer = Maglev::new(key());
    let members = members(1000);
    for (count, low, high) in [(100, 0.0125, 0.0185), (1000, 0.0045, 0.0090)] {
        let mut total = 0.0;
        let gone = [0, count / 3, count - 1];
        for gone in gone {
            let (own, others) = moved(&balancer, &members[..count], gone, 60_000);
            total += (own + others) / 3.0;
        }
        assert!((low..high).contains(&total), "{count}: {total}");
    }
}

#[test]
fn weights_are_honoured() {
    let members: Vec<_> = [1, 0, 2, 5, 12].iter().enumerate().map(|(n, &w)| member(n, w)).collect();
    let balancers: [Box<dyn Balancer>; 2] = [ring(65_536, 65_536), Box::new(Maglev::new(key()))];
    for balancer in balancers {
        let counts = Set::new(&*balancer, &members).counts(100_000);
        for (count, member) in counts.iter().zip(&members) {
            let ideal = f64::from(member.instance().weight()) * 5000.0;
            assert!((*count as f64 - ideal).abs() <= ideal * 0.1, "{counts:?} {balancer:?}");
        }
    }
}

#[test]
fn one_light_endpoint_among_heavy_ones_has_its_place() {
    let mut members: Vec<_> = (0..9).map(|number| member(number, u32::MAX)).collect();
    members.push(member(9, 1));
    for balancer in both() {
        let counts = Set::new(&*balancer, &members).counts(20_000);
        assert!(counts[..9].iter().all(|&count| count > 1000), "{counts:?}");
    }
}

#[test]
fn a_retry_goes_on_to_other_endpoints_and_always_the_same_ones() {
    let members = members(20);
    for balancer in both() {
        let set = Set::new(&*balancer, &members);
        let mut seconds = [[0; 20]; 20];
        for key in 0..20_000 {
            let mut tried = Vec::new();
            let mut positions = Vec::new();
            while positions.len() < 20 {
                let context = PickContext::new().with_attempt(positions.len() as u32, &tried);
                let at = set.pick_with(Some(key), context).unwrap();
                assert_eq!(set.pick_with(Some(key), context), Some(at));
                assert!(!positions.contains(&at), "{positions:?} {at}");
                positions.push(at);
                tried.push(members[at].instance().id().clone());
                if key > 200 && positions.len() == 2 {
                    break;
                }
            }
            seconds[positions[0]][positions[1]] += 1;
            if positions.len() == 20 {
                // Nothing is left: back to the first.
                let context = PickContext::new().with_attempt(20, &tried);
                assert_eq!(set.pick_with(Some(key), context), Some(positions[0]));
            }
        }
        // The calls of one endpoint do not all fall upon one other.
        for seconds in seconds {
            let (most, sum) = (seconds.iter().max().unwrap(), seconds.iter().sum::<u32>());
            assert!(*most * 3 < sum, "{seconds:?} {balancer:?}");
        }
    }
}

#[test]
fn a_call_without_a_key_goes_anywhere() {
    let members = members(10);
    for balancer in both() {
        let set = Set::new(&*balancer, &members);
        let mut counts = [0; 10];
        for _ in 0..5000 {
            counts[set.pick_with(None, PickContext::new()).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (200..900).contains(count)), "{counts:?}");
        // Also where earlier attempts are to be left out.
        let tried: Vec<_> = members[1..].iter().map(|m| m.instance().id().clone()).collect();
        let context = PickContext::new().with_attempt(9, &tried);
        assert_eq!(set.pick_with(None, context), Some(0));
    }
    let sequence = |balancer: &dyn Balancer| -> Vec<_> {
        let set = Set::new(balancer, &members);
        (0..20).map(|_| set.pick_with(None, PickContext::new())).collect()
    };
    let [first, second] = [(); 2].map(|()| both());
    for (first, second) in first.iter().zip(&second) {
        assert_eq!(sequence(&**first), sequence(&**second), "the same seed");
    }
}

#[test]
fn a_set_that_nobody_prepared_gives_the_same_picks() {
    let mut members = members(7);
    members[2] = member(2, 0);
    for balancer in both() {
        let set = Set::new(&*balancer, &members);
        for key in 0..20 {
            let bare = ReadySet::new(&members);
            let request = Get(Some(key));
            let context = PickContext::new().with_request(&request);
            assert_eq!(balancer.pick(&bare, &context), Some(set.pick(key)));
        }
        for hopeless in [&members[2..3], &[]] {
            let set = Set::new(&*balancer, hopeless);
            assert_eq!(set.pick_with(Some(1), PickContext::new()), None);
            assert_eq!(balancer.pick(&ReadySet::new(hopeless), &PickContext::new()), None);
        }
    }
}

#[test]
fn load_stays_bounded_however_popular_a_key_is() {
    let members = members(50);
    for factor in [1.0, 1.25, 2.0] {
        for balancer in both_bounded(factor) {
            let set = Set::new(&*balancer, &members);
            let mut rng = fastrand::Rng::with_seed(1);
            let mut calls = Vec::new();
            for number in 1..=3000 {
                // Half of all calls have the same key.
                let key = if rng.bool() { 0 } else { rng.u64(..500) };
                calls.push(members[set.pick(key)].begin());
                let most = members.iter().map(Member::in_flight).max().unwrap();
                let bound = (factor * f64::from(number) / 50.0).ceil() as usize;
                assert!(most <= bound, "{most} > {bound} at {number}, {factor} {balancer:?}");
            }
            // And as calls end: where a new one goes, it stays within the bound.
            for _ in 0..2000 {
                drop(calls.swap_remove(rng.usize(..calls.len())));
                drop(calls.swap_remove(rng.usize(..calls.len())));
                let at = set.pick(if rng.bool() { 0 } else { rng.u64(..500) });
                calls.push(members[at].begin());
                let bound = (factor * calls.len() as f64 / 50.0).ceil() as usize;
                assert!(members[at].in_flight() <= bound);
            }
        }
    }
}

#[test]
fn a_bound_is_in_proportion_to_the_weights() {
    let members: Vec<_> = [1, 3, 6].iter().enumerate().map(|(n, &w)| member(n, w)).collect();
    for balancer in both_bounded(1.25) {
        let set = Set::new(&*balancer, &members);
        let mut calls = Vec::new();
        for number in 1..=1000 {
            calls.push(members[set.pick(7)].begin());
            for (member, share) in members.iter().zip([0.1, 0.3, 0.6]) {
                let bound = (1.25 * share * f64::from(number) + 1e-9).ceil() as usize;
                assert!(member.in_flight() <= bound, "{number} {members:?}");
            }
        }
    }
}

/// One call for each key, all under way at once.
#[derive(Default)]
struct Calls(Vec<(InstanceId, InFlight)>);

impl Calls {
    /// Every call ends and is made anew, one after the other.
    fn renew(&mut self, balancer: &dyn Balancer, members: &[Member], keys: u64) {
        let set = Set::new(balancer, members);
        for key in 0..keys {
            let last = self.0.len();
            if last == keys as usize {
                let (_, ended) = self.0.swap_remove(key as usize);
                ended.finish(Outcome::Success);
            }
            let member = &members[set.pick(key)];
            self.0.push((member.instance().id().clone(), member.begin()));
            if last == keys as usize {
                self.0.swap(key as usize, last - 1);
            }
        }
    }

    fn places(&self) -> impl Iterator<Item = &InstanceId> {
        self.0.iter().map(|(id, _)| id)
    }
}

/// What share of the calls that are under way elsewhere moves when one of the members goes.
fn moved_under_load(balancer: &dyn Balancer, members: &[Member], gone: usize, keys: u64) -> f64 {
    let mut calls = Calls::default();
    (0..4).for_each(|_| calls.renew(balancer, members, keys));
    let before: Vec<_> = calls.places().cloned().collect();
    let mut rest = members.to_vec();
    let gone = rest.remove(gone);
    (0..4).for_each(|_| calls.renew(balancer, &rest, keys));
    let moved = |(before, after): &(&InstanceId, &InstanceId)| {
        *before != gone.instance().id() && before != after
    };
    before.iter().zip(calls.places()).filter(moved).count() as f64 / keys as f64
}

#[test]
fn a_bound_moves_few_keys_more_when_an_endpoint_goes() {
    let members = members(100);
    let (keys, gone) = (10_000, [3, 42, 77]);
    let unbounded = [ring(65_536, 65_536), Box::new(Maglev::new(key())) as Box<dyn Balancer>];
    for (bounded, unbounded) in both_bounded(1.25).iter().zip(unbounded) {
        let extra = gone.map(|gone| {
            moved_under_load(&**bounded, &members, gone, keys)
                - moved(&*unbounded, &members, gone, keys).1
        });
        let extra = extra.iter().sum::<f64>() / 3.0;
        assert!(extra < 0.005, "{extra} {bounded:?}");
    }
}

#[test]
fn a_call_that_finds_room_nowhere_goes_where_it_may() {
    let members = members(3);
    for balancer in both_bounded(1.0) {
        let set = Set::new(&*balancer, &members);
        let _calls = [(); 5].map(|()| members[1].begin());
        let tried = [0, 2].map(|at| members[at].instance().id().clone());
        let context = PickContext::new().with_attempt(2, &tried);
        for key in 0..50 {
            assert_eq!(set.pick_with(Some(key), context), Some(1));
            assert_ne!(set.pick(key), 1);
        }
    }
}

fn lookup<'a>(request: &'a dyn Any, name: &str) -> Option<&'a [u8]> {
    (name == "user").then(|| request.downcast_ref::<String>().map(String::as_bytes))?
}

#[test]
fn by_name_the_key_is_a_header() {
    let members = members(10);
    for spec in ["ring_hash?header=user", "maglev?header=user&load=1.25"] {
        let balancer = by_name(spec).unwrap();
        let prepared = balancer.prepare(&ReadySet::new(&members));
        let set = ReadySet::new(&members).with_prepared(prepared.as_ref());
        let mut seen = [false; 10];
        for number in 0..200 {
            let request = format!("user {number}");
            let context = PickContext::new().with_request(&request).with_lookup(lookup);
            let at = balancer.pick(&set, &context).unwrap();
            assert_eq!(balancer.pick(&set, &context), Some(at));
            seen[at] = true;
        }
        assert_eq!(seen, [true; 10]);
    }
}

#[test]
fn a_pick_by_key_allocates_nothing() {
    let members = members(100);
    let by_attribute = || HashKey::attribute("user");
    let tried: Vec<_> = members[..30].iter().map(|m| m.instance().id().clone()).collect();
    let _calls: Vec<_> = members[..50].iter().map(Member::begin).collect();
    for balancer in [
        Box::new(RingHash::new(by_attribute())) as Box<dyn Balancer>,
        Box::new(RingHash::new(by_attribute()).with_load(1.25)),
        Box::new(RingHash::new(key())),
        Box::new(Maglev::new(by_attribute())),
        Box::new(Maglev::new(by_attribute()).with_load(1.25)),
        Box::new(Maglev::new(HashKey::request(|r: &String| Some(r.as_bytes())))),
    ] {
        let prepared = balancer.prepare(&ReadySet::new(&members));
        let set = ReadySet::new(&members).with_prepared(prepared.as_ref());
        let requests: Vec<_> = (0..100).map(|number| format!("user {number}")).collect();
        // The thread's own generator is set up by its first use.
        balancer.pick(&set, &PickContext::new());
        let allocated = allocation_counter::measure(|| {
            for request in &requests {
                let context = PickContext::new().with_request(request).with_lookup(lookup);
                std::hint::black_box(balancer.pick(&set, &context));
                let context = context.with_attempt(30, &tried);
                std::hint::black_box(balancer.pick(&set, &context));
            }
        });
        assert_eq!(allocated.count_total, 0, "{balancer:?}");
    }
}
