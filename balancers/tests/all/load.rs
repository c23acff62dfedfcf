//! The balancers that look at load, against what theory and their sources say.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use fleetward_balancers::{LeastRequest, P2c, PeakEwma, by_name};
use fleetward_core::balancing::{PickContext, ReadySet};
use fleetward_core::endpoints::{InFlight, Member, Outcome};
use fleetward_core::{Balancer, Instance};
use tokio::time::Instant;

fn members(weights: &[u32]) -> Vec<Member> {
    let instance = |(i, &weight)| {
        Instance::new(format!("10.0.{}.{}:80", i / 256, i % 256)).map(|it| it.with_weight(weight))
    };
    weights.iter().enumerate().map(instance).map(|it| Member::detached(it.unwrap())).collect()
}

#[test]
fn a_draining_endpoint_is_never_picked() {
    let members = members(&[0, 1, 0, 5, 0]);
    let balancers: [Box<dyn Balancer>; 4] = [
        Box::new(P2c::with_seed(1)),
        Box::new(LeastRequest::with_seed(1).with_choices(4)),
        Box::new(LeastRequest::with_seed(1).with_full_scan()),
        Box::new(PeakEwma::with_seed(1)),
    ];
    for balancer in balancers {
        let prepared = balancer.prepare(&ReadySet::new(&members));
        for set in
            [ReadySet::new(&members), ReadySet::new(&members).with_prepared(prepared.as_ref())]
        {
            for _ in 0..1000 {
                let picked = balancer.pick(&set, &PickContext::new());
                assert!(matches!(picked, Some(1 | 3)), "{balancer:?} {picked:?}");
            }
        }
        let drained = &members[..1];
        assert_eq!(balancer.pick(&ReadySet::new(drained), &PickContext::new()), None);
        assert_eq!(balancer.pick(&ReadySet::new(&[]), &PickContext::new()), None);
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for spec in [
        "least_request?choices=1",
        "least_request?choices=11",
        "least_request?bias=-1",
        "least_request?bias=NaN",
        "peak_ewma?choices=1",
        "p2c?choices=2",
    ] {
        assert!(by_name(spec).is_err(), "{spec}");
    }
    for spec in [
        "least_request?choices=all",
        "least_request?choices=0&bias=0",
        "least_request?choices=10",
        "peak_ewma?choices=3",
    ] {
        assert!(by_name(spec).is_ok(), "{spec}");
    }
}

/// Endpoints that serve one call at a time, each at rate 1, and calls that arrive at random at
/// `load` an endpoint: the mean time in the system, in service times.
fn supermarket(balancer: &dyn Balancer, load: f64, calls: usize) -> f64 {
    const N: usize = 500;
    let members = members(&[1; N]);
    let prepared = balancer.prepare(&ReadySet::new(&members));
    let set = ReadySet::new(&members).with_prepared(prepared.as_ref());
    let mut rng = fastrand::Rng::with_seed(42);
    let mut exponential = move || -(1.0 - rng.f64()).ln();
    let start = Instant::now();
    let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
    // The queue of an endpoint is told by when it will be idle; a call leaves at its end.
    let mut idle_from = vec![0.0f64; N];
    let mut leaving: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut under_way: Vec<VecDeque<InFlight>> = (0..N).map(|_| VecDeque::new()).collect();
    let (mut now, mut total) = (0.0, 0.0);
    let warm_up = calls / 5;
    for call in 0..warm_up + calls {
        now += exponential() / (load * N as f64);
        // Positive floats are ordered as their bits are.
        while let Some(&Reverse((end, picked))) = leaving.peek() {
            if f64::from_bits(end) > now {
                break;
            }
            leaving.pop();
            let call = under_way[picked].pop_front().unwrap();
            call.finish_at(Outcome::Success, at(f64::from_bits(end)));
        }
        let picked = balancer.pick(&set, &PickContext::new().with_now(at(now))).unwrap();
        let end = idle_from[picked].max(now) + exponential();
        idle_from[picked] = end;
        leaving.push(Reverse((end.to_bits(), picked)));
        under_way[picked].push_back(members[picked].begin_at(at(now)));
        if call >= warm_up {
            total += end - now;
        }
    }
    total / calls as f64
}

/// Of Mitzenmacher's model: the sum of `load^(2^i - 2)`.
fn expected_time(load: f64) -> f64 {
    (1..12).map(|i| load.powf(2f64.powi(i) - 2.0)).sum()
}

fn assert_supermarket(balancer: &dyn Balancer, load: f64, expected: f64, calls: usize) {
    assert!((expected_time(load) - expected).abs() < 1e-4, "{}", expected_time(load));
    let time = supermarket(balancer, load, calls);
    assert!((time / expected - 1.0).abs() < 0.01, "{time}, not {expected}");
}

#[test]
fn p2c_meets_the_supermarket_model_at_70_percent() {
    assert_supermarket(&P2c::with_seed(1), 0.7, 1.6145, 300_000);
}

#[test]
fn p2c_meets_the_supermarket_model_at_90_percent() {
    assert_supermarket(&P2c::with_seed(1), 0.9, 2.6141, 1_000_000);
}

#[test]
fn p2c_meets_the_supermarket_model_at_95_percent() {
    assert_supermarket(&P2c::with_seed(1), 0.95, 3.3830, 4_000_000);
}

/// Calls that arrive at random, `rate` a second for `seconds`; `answer` says how long an endpoint
/// takes and whether it succeeds. How many went to each.
fn drive(
    balancer: &dyn Balancer,
    members: &[Member],
    rate: f64,
    seconds: std::ops::Range<f64>,
    mut answer: impl FnMut(usize, f64) -> (f64, Outcome),
) -> Vec<u32> {
    let prepared = balancer.prepare(&ReadySet::new(members));
    let set = ReadySet::new(members).with_prepared(prepared.as_ref());
    let mut rng = fastrand::Rng::with_seed(7);
    let start = members[0].available_since();
    let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
    let mut leaving: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut under_way: Vec<Option<(InFlight, Outcome)>> = Vec::new();
    let mut counts = vec![0; members.len()];
    let mut now = seconds.start;
    while now < seconds.end {
        now -= (1.0 - rng.f64()).ln() / rate;
        while let Some(&Reverse((end, call))) = leaving.peek() {
            if f64::from_bits(end) > now {
                break;
            }
            leaving.pop();
            let (call, outcome) = under_way[call].take().unwrap();
            call.finish_at(outcome, at(f64::from_bits(end)));
        }
        let picked = balancer.pick(&set, &PickContext::new().with_now(at(now))).unwrap();
        counts[picked] += 1;
        let (took, outcome) = answer(picked, now);
        leaving.push(Reverse(((now + took).to_bits(), under_way.len())));
        under_way.push(Some((members[picked].begin_at(at(now)), outcome)));
    }
    while let Some(Reverse((end, call))) = leaving.pop() {
        if let Some((call, outcome)) = under_way[call].take() {
            call.finish_at(outcome, at(f64::from_bits(end)));
        }
    }
    counts
}

fn share(counts: &[u32], of: usize) -> f64 {
    f64::from(counts[of]) / f64::from(counts.iter().sum::<u32>())
}

#[test]
fn peak_ewma_keeps_away_from_a_slow_endpoint() {
    let members = members(&[1; 10]);
    let slow_one = |picked, _| (if picked == 0 { 1.0 } else { 0.01 }, Outcome::Success);
    let counts = drive(&PeakEwma::with_seed(1), &members, 1000.0, 0.0..30.0, slow_one);
    assert!(share(&counts, 0) < 0.001, "{counts:?}");
    assert!(counts[0] >= 1, "it was tried: {counts:?}");
    assert!(counts[1..].iter().all(|&count| (2500..4200).contains(&count)), "{counts:?}");
}

#[test]
fn peak_ewma_leaves_an_endpoint_that_fails_and_comes_back_to_it() {
    let members = members(&[1; 10]);
    let balancer = PeakEwma::with_seed(1);
    let fine = |_, _| (0.01, Outcome::Success);
    let before = drive(&balancer, &members, 1000.0, 0.0..2.0, fine);
    assert!(share(&before, 0) > 0.08, "{before:?}");
    // It fails at once, as if nobody listened: no answer is quicker.
    let failing = |picked, _| match picked {
        0 => (0.0001, Outcome::FAILURE),
        _ => (0.01, Outcome::Success),
    };
    let during = drive(&balancer, &members, 1000.0, 2.0..12.0, failing);
    assert!((1..=3).contains(&during[0]), "one failure is enough: {during:?}");
    let after = drive(&balancer, &members, 1000.0, 12.0..120.0, fine);
    assert!(share(&after, 0) > 0.02, "{after:?}");
}

#[test]
fn peak_ewma_gives_a_fast_failing_endpoint_at_most_2_percent_within_2_seconds() {
    let members = members(&[1; 10]);
    let failing = |picked, _| match picked {
        0 => (0.0001, Outcome::FAILURE),
        _ => (0.05, Outcome::Success),
    };
    let counts = drive(&PeakEwma::with_seed(1), &members, 200.0, 0.0..2.0, failing);
    assert!(share(&counts, 0) <= 0.02, "{counts:?}");
}

#[test]
fn peak_ewma_gives_a_new_endpoint_one_call_until_it_answers() {
    let members = members(&[1; 10]);
    let balancer = PeakEwma::with_seed(1);
    let start = members[0].available_since();
    for member in &members[1..] {
        member.begin_at(start).finish_at(Outcome::Success, start + Duration::from_millis(10));
    }
    let now = start + Duration::from_millis(20);
    let context = PickContext::new().with_now(now);
    let mut under_way = Vec::new();
    let mut picks = || {
        let mut count = 0;
        for _ in 0..1000 {
            let at = balancer.pick(&ReadySet::new(&members), &context).unwrap();
            if at == 0 {
                count += 1;
                under_way.push(members[0].begin_at(now));
            }
        }
        (count, under_way.pop())
    };
    let (count, call) = picks();
    assert_eq!(count, 1, "it is tried, once");
    call.unwrap().finish_at(Outcome::Success, now + Duration::from_millis(1));
    let (count, _) = picks();
    assert!(
        (9..=10).contains(&count),
        "then until ten calls of 1 ms are as long as one of 10: {count}"
    );
}

/// How far the share of any endpoint is off, at most.
fn off(balancer: &dyn Balancer, weights: &[u32], rate: f64) -> f64 {
    let alike = |_, _| (0.01, Outcome::Success);
    let counts = drive(balancer, &members(weights), rate, 0.0..100_000.0 / rate, alike);
    let total = f64::from(weights.iter().sum::<u32>());
    let off = |at: usize| (share(&counts, at) - f64::from(weights[at]) / total).abs();
    (0..weights.len()).map(off).fold(0.0, f64::max)
}

#[test]
fn shares_follow_weights_in_a_quiet_fleet_and_in_a_busy_one() {
    let weights = [1, 2, 4, 8, 1, 0];
    for (rate, of_p2c, of_peak_ewma) in [(1.0, 0.01, 0.11), (100.0, 0.05, 0.1), (1e4, 0.01, 0.02)] {
        let (p2c, peak_ewma) = (P2c::with_seed(1), PeakEwma::with_seed(1));
        let (p2c, peak_ewma) = (off(&p2c, &weights, rate), off(&peak_ewma, &weights, rate));
        assert!(p2c < of_p2c, "{p2c} at {rate}");
        assert!(peak_ewma < of_peak_ewma, "{peak_ewma} at {rate}");
    }
}

#[test]
fn one_heavy_endpoint_gets_its_share_and_no_more_than_it() {
    let weights = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1000];
    let alike = |_, _| (0.01, Outcome::Success);
    let counts = drive(&P2c::with_seed(1), &members(&weights), 1000.0, 0.0..100.0, alike);
    assert!((share(&counts, 9) - 1000.0 / 1009.0).abs() < 0.01, "{counts:?}");
}

#[test]
fn least_request_weighs_as_envoy_does() {
    let members = members(&[4, 1]);
    let full = |bias| LeastRequest::with_seed(1).with_full_scan().with_bias(bias);
    let set = ReadySet::new(&members);
    let pick = |bias| full(bias).pick(&set, &PickContext::new());
    // 4/1 and 1/1, 4/2 and 1/1, 4/4 and 1/1, 4/5 and 1/1.
    let mut under_way = vec![members[0].begin(), members[0].begin()];
    assert_eq!(pick(1.0), Some(0), "4/3 against 1/1");
    assert_eq!(pick(2.0), Some(1), "4/9 against 1/1");
    under_way.extend([members[0].begin(), members[0].begin()]);
    assert_eq!(pick(1.0), Some(1), "4/5 against 1/1");
    assert_eq!(pick(0.0), Some(0), "calls under way do not count");
}

#[test]
fn a_full_scan_takes_any_of_the_least_busy() {
    let members = members(&[1; 10]);
    let balancer = LeastRequest::with_seed(1).with_full_scan();
    let _under_way: Vec<_> = members.iter().skip(3).map(Member::begin).collect();
    let mut counts = [0u32; 10];
    for _ in 0..30_000 {
        let picked = balancer.pick(&ReadySet::new(&members), &PickContext::new()).unwrap();
        counts[picked] += 1;
    }
    assert!(counts[..3].iter().all(|count| (9500..10_500).contains(count)), "{counts:?}");
}

#[test]
fn more_choices_find_the_idle_endpoint_sooner() {
    let members = members(&[1; 10]);
    let _under_way: Vec<_> = members.iter().skip(1).map(Member::begin).collect();
    // The chance that one of ten is among k different ones is k/10.
    for choices in [2, 3, 5, 9, 10] {
        let balancer = LeastRequest::with_seed(1).with_choices(choices);
        let set = ReadySet::new(&members);
        let found =
            (0..10_000).filter(|_| balancer.pick(&set, &PickContext::new()) == Some(0)).count();
        assert!(found.abs_diff(1000 * choices) < 200, "{choices}: {found}");
    }
}

#[test]
fn an_endpoint_that_failed_the_call_before_is_left_out() {
    let members = members(&[1, 1]);
    let _busy: Vec<_> = (0..10).map(|_| members[1].begin()).collect();
    let tried = [members[0].instance().id().clone()];
    let context = PickContext::new().with_attempt(1, &tried);
    let set = ReadySet::new(&members);
    assert_eq!(P2c::new().pick(&set, &context), Some(1));
    assert_eq!(PeakEwma::new().pick(&set, &context), Some(1));
    assert_eq!(LeastRequest::new().with_full_scan().pick(&set, &context), Some(1));
}

#[test]
fn a_pick_by_load_allocates_nothing() {
    for weights in [[1; 100], std::array::from_fn(|i| 1 + i as u32 % 7)] {
        let members = members(&weights);
        let balancers: [Box<dyn Balancer>; 5] = [
            Box::new(P2c::new()),
            Box::new(P2c::with_seed(1)),
            Box::new(LeastRequest::new().with_choices(10)),
            Box::new(LeastRequest::new().with_full_scan()),
            Box::new(PeakEwma::new()),
        ];
        for balancer in balancers {
            let prepared = balancer.prepare(&ReadySet::new(&members));
            let set = ReadySet::new(&members).with_prepared(prepared.as_ref());
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
