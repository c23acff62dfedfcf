//! Fairness by weight.

use std::thread;

use fleetward_balancers::{Random, WeightedRandom, WeightedRoundRobin};
use fleetward_core::balancing::{PickContext, ReadySet};
use fleetward_core::endpoints::Member;
use fleetward_core::{Balancer, Instance};

fn members(weights: &[u32]) -> Vec<Member> {
    let instance = |(number, &weight): (usize, &u32)| {
        let address = format!("10.0.{}.{}:80", number / 250, number % 250 + 1);
        Member::detached(Instance::new(address).unwrap().with_weight(weight))
    };
    weights.iter().enumerate().map(instance).collect()
}

/// Weights as popularity often has them: the second half as much as the first, the third a third.
fn zipf(first: u32, count: u32) -> Vec<u32> {
    (1..=count).map(|rank| first / rank).collect()
}

/// Of any magnitude.
fn weight(rng: &mut fastrand::Rng, most: u32) -> u32 {
    let most = most >> rng.u32(..31);
    rng.u32(0..=most)
}

/// Picks so often and says how far any endpoint ever lagged behind its share, in calls, and how
/// often each was picked.
fn run(balancer: &dyn Balancer, members: &[Member], picks: usize) -> (f64, Vec<usize>) {
    let prepared = balancer.prepare(&ReadySet::new(members));
    let set = ReadySet::new(members).with_prepared(prepared.as_ref());
    let weight = |member: &Member| f64::from(member.instance().weight());
    let total: f64 = members.iter().map(weight).sum();
    let shares: Vec<f64> = members.iter().map(|member| weight(member) / total).collect();
    let mut counts = vec![0; members.len()];
    let mut worst = 0.0f64;
    for done in 0..picks {
        let at = balancer.pick(&set, &PickContext::new()).unwrap();
        // An endpoint lags most right before its turn.
        worst = worst.max(shares[at] * done as f64 - counts[at] as f64);
        counts[at] += 1;
    }
    let at_the_end = shares.iter().zip(&counts).map(|(s, &c)| s * picks as f64 - c as f64);
    (at_the_end.fold(worst, f64::max), counts)
}

#[test]
fn no_endpoint_lags_behind_by_more_than_a_call_where_the_period_is_short() {
    for weights in [zipf(1000, 100), vec![5, 1, 1], vec![300, 200, 100], vec![7; 13]] {
        let members = members(&weights);
        for seed in 0..50 {
            let (lag, _) = run(&WeightedRoundRobin::with_seed(seed), &members, 15_000);
            assert!(lag <= 1.0, "{lag} {weights:?} {seed}");
        }
        let (lag, _) = run(&WeightedRoundRobin::starting_at(0), &members, 15_000);
        assert!(lag <= 1.0, "{lag}");
    }
}

#[test]
fn no_endpoint_lags_behind_by_more_than_three_calls_at_any_weights() {
    let zipf = members(&zipf(1_000_000, 100));
    for seed in 0..20 {
        let (lag, _) = run(&WeightedRoundRobin::with_seed(seed), &zipf, 200_000);
        assert!(lag <= 3.0, "{lag} zipf {seed}");
    }
    for seed in 0..150 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let weights: Vec<_> = (0..rng.usize(2..300)).map(|_| weight(&mut rng, u32::MAX)).collect();
        let members = members(&weights);
        let (lag, counts) = run(&WeightedRoundRobin::with_seed(seed), &members, 30_000);
        assert!(lag <= 3.0, "{lag} {weights:?} {seed}");
        assert!(weights.iter().zip(counts).all(|(&weight, count)| weight > 0 || count == 0));
    }
}

#[test]
fn a_millionth_of_the_weight_gets_a_millionth_of_the_calls() {
    for (seed, weights) in [(1, [1, 1_000_000]), (2, [1_000_000, 1]), (3, [1, 1_000_000])] {
        let light = usize::from(weights[1] == 1);
        let (lag, counts) =
            run(&WeightedRoundRobin::with_seed(seed), &members(&weights), 3_000_000);
        assert!((2..=4).contains(&counts[light]), "{counts:?}");
        assert!(lag <= 3.0, "{lag}");
    }
}

#[test]
fn equal_weights_are_plain_turns_from_a_place_that_the_seed_gives() {
    let members = members(&[3; 5]);
    for seed in 0..20 {
        let balancer = WeightedRoundRobin::with_seed(seed);
        let prepared = balancer.prepare(&ReadySet::new(&members));
        let set = ReadySet::new(&members).with_prepared(prepared.as_ref());
        let first = balancer.pick(&set, &PickContext::new()).unwrap();
        for turn in 1..20 {
            assert_eq!(balancer.pick(&set, &PickContext::new()), Some((first + turn) % 5));
        }
    }
}

#[test]
fn clients_that_start_together_call_each_endpoint_by_its_weight() {
    for weights in [[60, 25, 10, 5], [600_001, 250_000, 100_000, 50_000], [1; 4]] {
        let members = members(&weights);
        let mut firsts = [0; 4];
        for seed in 0..2000 {
            firsts[run(&WeightedRoundRobin::with_seed(seed), &members, 1)
                .1
                .iter()
                .position(|&c| c == 1)
                .unwrap()] += 1;
        }
        let total: u32 = weights.iter().sum();
        for (first, weight) in firsts.into_iter().zip(weights) {
            let share = f64::from(weight) / f64::from(total);
            let sigma = (2000.0 * share * (1.0 - share)).sqrt();
            assert!((f64::from(first) - 2000.0 * share).abs() < 4.0 * sigma, "{firsts:?}");
        }
    }
}

#[test]
fn turns_are_fair_whatever_threads_the_calls_come_from() {
    let weights = [5, 2, 1];
    let members = members(&weights);
    let balancer = WeightedRoundRobin::new();
    let prepared = balancer.prepare(&ReadySet::new(&members));
    let set = ReadySet::new(&members).with_prepared(prepared.as_ref());
    let counts = thread::scope(|scope| {
        let pick = || {
            let mut counts = [0; 3];
            (0..8000).for_each(|_| counts[balancer.pick(&set, &PickContext::new()).unwrap()] += 1);
            counts
        };
        let threads = [(); 4].map(|()| scope.spawn(pick));
        threads.map(|thread| thread.join().unwrap())
    });
    for (at, expected) in [20_000, 8000, 4000].into_iter().enumerate() {
        let sum: i64 = counts.iter().map(|counts| counts[at]).sum();
        // A call for each thread that may have turns left.
        assert!((sum - expected).abs() <= 4, "{counts:?}");
    }
}

#[test]
fn the_turn_goes_on_when_the_set_changes() {
    let balancer = WeightedRoundRobin::with_seed(3);
    let mut rng = fastrand::Rng::with_seed(3);
    for _ in 0..300 {
        let weights: Vec<_> = (0..rng.usize(..9)).map(|_| weight(&mut rng, 1 << 20)).collect();
        let members = members(&weights);
        let prepared = balancer.prepare(&ReadySet::new(&members));
        let prepared = prepared.filter(|_| rng.bool());
        let set = ReadySet::new(&members).with_prepared(prepared.as_ref());
        for _ in 0..rng.usize(..50) {
            match balancer.pick(&set, &PickContext::new()) {
                Some(at) => assert!(weights[at] > 0),
                None => assert!(weights.iter().all(|&weight| weight == 0), "{weights:?}"),
            }
        }
    }
    // The same seed on the same sets, but picks in between are counted.
    let members = members(&[1; 3]);
    let [all, some] = [(); 2].map(|()| WeightedRoundRobin::starting_at(0));
    let picks = |balancer: &WeightedRoundRobin| run(balancer, &members[..2], 3).1;
    assert_eq!(picks(&all), picks(&some));
    run(&all, &members, 1);
    assert_ne!(picks(&all), picks(&some));
}

#[test]
fn a_set_that_nobody_prepared_gives_fair_picks_too() {
    let weights = [5, 0, 3, 2];
    let members = members(&weights);
    for balancer in [
        Box::new(WeightedRoundRobin::with_seed(1)) as Box<dyn Balancer>,
        Box::new(WeightedRandom::with_seed(1)),
    ] {
        let mut counts = [0.0f64; 4];
        for _ in 0..10_000 {
            counts[balancer.pick(&ReadySet::new(&members), &PickContext::new()).unwrap()] += 1.0;
        }
        for (count, weight) in counts.into_iter().zip(weights) {
            assert!((count - f64::from(weight) * 1000.0).abs() < 200.0, "{balancer:?} {counts:?}");
        }
        assert_eq!(counts[1], 0.0);
        assert_eq!(balancer.pick(&ReadySet::new(&[]), &PickContext::new()), None);
        assert_eq!(balancer.pick(&ReadySet::new(&members[1..2]), &PickContext::new()), None);
    }
}

#[test]
fn random_picks_fit_the_weights() {
    let weights = [1, 2, 4, 8, 16, 32, 64, 128, 256, 0, 512];
    for seed in 0..10 {
        let picks = 200_000;
        let (_, counts) = run(&WeightedRandom::with_seed(seed), &members(&weights), picks);
        assert_eq!(counts[9], 0);
        let chi_square: f64 = weights
            .iter()
            .zip(counts)
            .filter(|(weight, _)| **weight > 0)
            .map(|(&weight, count)| {
                let expected = f64::from(weight) / 1023.0 * picks as f64;
                (count as f64 - expected).powi(2) / expected
            })
            .sum();
        // 9 degrees of freedom: above 27.9 once in 1000 times, below 1.15 as well.
        assert!((1.15..27.9).contains(&chi_square), "{chi_square} {seed}");
    }
}

#[test]
fn a_pick_by_weight_allocates_nothing() {
    for weights in [vec![1; 100], zipf(1000, 100), zipf(1_000_000, 100)] {
        let members = members(&weights);
        for balancer in [
            Box::new(Random::new()) as Box<dyn Balancer>,
            Box::new(WeightedRandom::new()),
            Box::new(WeightedRandom::with_seed(1)),
            Box::new(WeightedRoundRobin::new()),
        ] {
            let prepared = balancer.prepare(&ReadySet::new(&members));
            let set = ReadySet::new(&members).with_prepared(prepared.as_ref());
            // The thread's own generator and number are set up by their first use.
            balancer.pick(&set, &PickContext::new());
            let allocated = allocation_counter::measure(|| {
                for _ in 0..1000 {
                    std::hint::black_box(balancer.pick(&set, &PickContext::new()));
                }
            });
            assert_eq!(allocated.count_total, 0, "{balancer:?}");
        }
    }
}
