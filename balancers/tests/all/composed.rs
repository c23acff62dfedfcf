//! The balancers that stand around others, against what their sources say.

use std::time::Duration;

use fleetward_balancers::{
    LeastRequest, P2c, PeakEwma, Priority, Random, RoundRobin, SlowStart, Split, ZoneAware, by_name,
};
use fleetward_core::balancing::{PickContext, Prepared, ReadySet, pick_allowed};
use fleetward_core::discovery::Publisher;
use fleetward_core::endpoints::Member;
use fleetward_core::{Balancer, Instance, InstanceId, Instancer, Metadata};

const PICKS: usize = 100_000;

fn instance(i: usize) -> Instance {
    Instance::new(format!("10.0.{}.{}:80", i / 256, i % 256)).unwrap()
}

/// Members by zone, with the number of each; an empty name is no zone.
fn zones(sizes: &[(&str, usize)]) -> Vec<Member> {
    let names = sizes.iter().flat_map(|(zone, size)| std::iter::repeat_n(*zone, *size));
    let zoned = |(i, zone): (usize, &str)| match zone {
        "" => instance(i),
        zone => instance(i).with_zone(zone),
    };
    names.enumerate().map(zoned).map(Member::detached).collect()
}

fn levels(sizes: &[(u32, usize)]) -> Vec<Member> {
    let names = sizes.iter().flat_map(|(level, size)| std::iter::repeat_n(*level, *size));
    let at_level = |(i, level): (usize, u32)| {
        instance(i).with_metadata(Metadata::new([("priority", level.to_string())]).unwrap())
    };
    names.enumerate().map(at_level).map(Member::detached).collect()
}

fn versions(names: &[&str]) -> Vec<Member> {
    let version = |(i, version): (usize, &&str)| instance(i).with_version(*version);
    names.iter().enumerate().map(version).map(Member::detached).collect()
}

/// What part of the picks went to each position of the set, prepared as it is in use.
fn shares(balancer: &dyn Balancer, set: ReadySet<'_>, context: &PickContext<'_>) -> Vec<f64> {
    let prepared = balancer.prepare(&set);
    let set = set.with_prepared(prepared.as_ref());
    let mut counts = vec![0u32; set.len()];
    for _ in 0..PICKS {
        counts[balancer.pick(&set, context).unwrap()] += 1;
    }
    counts.iter().map(|&count| f64::from(count) / PICKS as f64).collect()
}

/// What part went to each group of positions, which follow one another.
fn group_shares(balancer: &dyn Balancer, set: ReadySet<'_>, sizes: &[usize]) -> Vec<f64> {
    let shares = shares(balancer, set, &PickContext::new());
    let mut rest = &shares[..];
    let mut take = |&size: &usize| {
        let (group, after) = rest.split_at(size);
        rest = after;
        group.iter().sum()
    };
    sizes.iter().map(&mut take).collect()
}

#[track_caller]
fn assert_near(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() < 0.01, "{found:?}, not {expected:?}");
    }
}

#[test]
fn slow_start_follows_the_formula() {
    let seconds = Duration::from_secs;
    let straight = SlowStart::new(Random::new()).with_window(seconds(60));
    for (age, factor) in [(0, 0.1), (3, 0.1), (15, 0.25), (30, 0.5), (60, 1.0), (90, 1.0)] {
        assert!((straight.factor(seconds(age)) - factor).abs() < 1e-6, "{age}");
    }
    let quick = straight.with_aggression(2.0);
    assert!((quick.factor(seconds(15)) - 0.5).abs() < 1e-6);
    let none = quick.with_window(Duration::ZERO);
    assert_eq!(none.factor(Duration::ZERO), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_new_endpoint_gets_its_factor_of_what_the_others_get() {
    let mut members: Vec<_> = (0..9).map(instance).map(Member::detached).collect();
    tokio::time::advance(Duration::from_secs(100)).await;
    members.push(Member::detached(instance(9)));
    let mut age = 0;
    for (at, factor) in [(3, 0.1), (15, 0.25), (30, 0.5), (61, 1.0)] {
        tokio::time::advance(Duration::from_secs(at - age)).await;
        age = at;
        let inner: [Box<dyn Balancer>; 2] =
            [Box::new(Random::with_seed(1)), Box::new(RoundRobin::new())];
        for inner in inner {
            let balancer = SlowStart::new(inner).with_window(Duration::from_secs(60)).with_seed(2);
            let shares = shares(&balancer, ReadySet::new(&members), &PickContext::new());
            let found = shares[9] / shares[0];
            assert!((found - factor).abs() < 0.06 * factor + 0.01, "{balancer:?} {at}: {found}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn while_all_are_new_slow_start_changes_nothing() {
    let members: Vec<_> = (0..5).map(instance).map(Member::detached).collect();
    let balancer = SlowStart::new(RoundRobin::starting_at(0));
    let prepared = balancer.prepare(&ReadySet::new(&members));
    let set = ReadySet::new(&members).with_prepared(prepared.as_ref());
    for at in 0..1000 {
        // Through the window and beyond it.
        tokio::time::advance(Duration::from_millis(50)).await;
        assert_eq!(balancer.pick(&set, &PickContext::new()), Some(at % 5));
    }
}

#[tokio::test(start_paused = true)]
async fn slow_start_slows_a_balancer_that_runs_to_the_new_endpoint() {
    let mut members: Vec<_> = (0..9).map(instance).map(Member::detached).collect();
    tokio::time::advance(Duration::from_secs(100)).await;
    members.push(Member::detached(instance(9)));
    let _busy: Vec<_> = members[..9].iter().map(Member::begin).collect();
    let inner = LeastRequest::with_seed(1).with_full_scan();
    let bare = shares(&inner, ReadySet::new(&members), &PickContext::new());
    assert_eq!(bare[9], 1.0);
    let balancer = SlowStart::new(inner).with_seed(2);
    let slowed = shares(&balancer, ReadySet::new(&members), &PickContext::new());
    // Accepted in one of three tries.
    assert!((slowed[9] - (1.0 - 0.9f64.powi(3))).abs() < 0.01, "{slowed:?}");
}

/// Answers as it was asked to when it prepared.
#[derive(Debug)]
struct Answers(usize);

impl Balancer for Answers {
    fn pick(&self, endpoints: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
        let (len, answer) = endpoints.prepared::<(usize, usize)>()?;
        (*len == endpoints.len()).then_some(*answer)
    }

    fn prepare(&self, endpoints: &ReadySet<'_>) -> Option<Prepared> {
        Some(Box::new((endpoints.len(), self.0)))
    }
}

#[tokio::test(start_paused = true)]
async fn the_inner_balancer_finds_what_it_has_prepared() {
    let mut members = zones(&[("a", 6), ("b", 6)]);
    tokio::time::advance(Duration::from_secs(100)).await;
    members.push(Member::detached(instance(200).with_zone("b")));
    let balancers: [Box<dyn Balancer>; 4] = [
        Box::new(SlowStart::new(Answers(1))),
        Box::new(ZoneAware::new("a", || Answers(1)).with_callers([("b", 1.0)])),
        Box::new(Priority::new(|| Answers(1))),
        Box::new(Split::new(|| SlowStart::new(Answers(1)))),
    ];
    for balancer in balancers {
        let prepared = balancer.prepare(&ReadySet::new(&members));
        let set = ReadySet::new(&members).with_prepared(prepared.as_ref());
        assert_eq!(balancer.pick(&set, &PickContext::new()), Some(1), "{balancer:?}");
    }
}

fn zone_aware(zone: &str) -> ZoneAware<Random> {
    ZoneAware::new(zone, || Random::with_seed(1)).with_seed(2)
}

#[test]
fn zones_get_what_envoy_gives_them() {
    let (sizes, members) = ([2, 4, 2], zones(&[("a", 2), ("b", 4), ("c", 2)]));
    let callers = [("a", 40.0), ("b", 40.0), ("c", 20.0)];
    // Together, as much at each instance: 0.4 of the callers send 0.625 to a, and that is 0.25.
    for (zone, expected) in
        [("a", [0.625, 0.25, 0.125]), ("b", [0.0, 1.0, 0.0]), ("c", [0.0, 0.0, 1.0])]
    {
        let balancer = zone_aware(zone).with_callers(callers);
        assert_near(&group_shares(&balancer, ReadySet::new(&members), &sizes), &expected);
    }
}

#[test]
fn callers_are_read_from_their_own_service() {
    let (sizes, members) = ([2, 4, 2], zones(&[("a", 2), ("b", 4), ("c", 2)]));
    let own = Publisher::new("callers");
    let balancer = zone_aware("a").with_callers_of(own.subscribe());
    let found =
        |balancer: &ZoneAware<Random>| group_shares(balancer, ReadySet::new(&members), &sizes);
    // Nothing is known: a third in each zone, and a has a quarter of the instances.
    assert_near(&found(&balancer), &[0.75, 0.25, 0.0]);
    let callers = zones(&[("a", 4), ("b", 4), ("c", 2)]);
    own.publish(callers.iter().map(|member| Instance::clone(member.instance())));
    assert_near(&found(&balancer), &[0.625, 0.25, 0.125]);
}

#[test]
fn instances_without_a_zone_are_one_of_their_own() {
    let members = zones(&[("a", 3), ("", 5)]);
    let balancer = zone_aware("a").with_callers([("a", 1.0)]);
    let found = group_shares(&balancer, ReadySet::new(&members), &[3, 5]);
    assert_near(&found, &[0.375, 0.625]);
}

#[test]
fn a_caller_in_a_zone_without_instances_uses_the_others() {
    let members = zones(&[("a", 2), ("b", 4), ("c", 2)]);
    let found = group_shares(&zone_aware("d"), ReadySet::new(&members), &[2, 4, 2]);
    // A quarter of the callers in each of four zones: b has a surplus, a and c are full.
    assert_near(&found, &[0.0, 1.0, 0.0]);
}

#[test]
fn a_small_set_is_not_divided() {
    let members = zones(&[("a", 1), ("b", 4)]);
    let found = group_shares(&zone_aware("a"), ReadySet::new(&members), &[1, 4]);
    assert_near(&found, &[0.2, 0.8]);
    let balancer = zone_aware("a").with_min_size(5);
    let found = group_shares(&balancer, ReadySet::new(&members), &[1, 4]);
    assert_near(&found, &[0.4, 0.6]);
}

#[test]
fn instances_count_by_weight() {
    let weighted = |(i, weight)| instance(i).with_zone(["a", "b"][i % 2]).with_weight(weight);
    let weights = [3, 1, 3, 1, 0, 0, 3, 1];
    let members: Vec<_> =
        weights.into_iter().enumerate().map(weighted).map(Member::detached).collect();
    let b = ZoneAware::new("b", || P2c::with_seed(1)).with_seed(2);
    let shares = shares(&b, ReadySet::new(&members), &PickContext::new());
    let in_b: f64 = shares.iter().skip(1).step_by(2).sum();
    // Half of the callers, a quarter of the weight.
    assert!((in_b - 0.5).abs() < 0.01, "{shares:?}");
    assert_eq!((shares[4], shares[5]), (0.0, 0.0), "draining");
}

fn ids(members: &[Member]) -> Vec<InstanceId> {
    members.iter().map(|member| member.instance().id().clone()).collect()
}

#[test]
fn another_group_stands_in_for_one_that_the_call_has_tried() {
    let by_zone = zones(&[("a", 2), ("b", 4)]);
    let by_level = levels(&[(0, 2), (1, 4)]);
    let by_version = versions(&["v2", "v2", "v1", "v1", "v1", "v1"]);
    let cases: [(Box<dyn Balancer>, &[Member]); 3] = [
        (Box::new(ZoneAware::new("a", RoundRobin::new).with_callers([("b", 1.0)])), &by_zone),
        (Box::new(Priority::new(RoundRobin::new)), &by_level),
        (Box::new(Split::new(RoundRobin::new).with_version("v2", 1.0)), &by_version),
    ];
    for (balancer, members) in cases {
        let tried = ids(&members[..2]);
        let first = shares(&balancer, ReadySet::new(members), &PickContext::new());
        assert_eq!(first[0] + first[1], 1.0, "{balancer:?} {first:?}");
        let one = PickContext::new().with_attempt(1, &tried[..1]);
        let second = shares(&balancer, ReadySet::new(members), &one);
        assert_eq!(second[1], 1.0, "{balancer:?} {second:?}");
        let both = PickContext::new().with_attempt(2, &tried);
        let third = shares(&balancer, ReadySet::new(members), &both);
        assert_near(&third, &[0.0, 0.0, 0.25, 0.25, 0.25, 0.25]);
        let all = ids(members);
        let all = PickContext::new().with_attempt(6, &all);
        assert!(balancer.pick(&ReadySet::new(members), &all).is_some(), "better than nothing");
    }
}

/// Takes these and no others.
#[derive(Clone, Debug)]
struct Only(Vec<InstanceId>);

impl Balancer for Only {
    fn pick(&self, set: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
        set.iter().position(|member| self.0.contains(member.instance().id()))
    }
}

/// Takes none of those that the call has tried.
#[derive(Debug)]
struct Strict;

impl Balancer for Strict {
    fn pick(&self, set: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        set.iter().position(|member| !context.excludes(member))
    }
}

#[test]
fn what_a_group_s_balancer_refuses_is_offered_by_another_group_or_tried_again() {
    let by_zone = zones(&[("a", 3), ("b", 3)]);
    let by_level = levels(&[(0, 3), (1, 3)]);
    let by_version = versions(&["v2", "v2", "v2", "v1", "v1", "v1"]);
    let members = [&by_zone, &by_level, &by_version];
    // All calls fall to the first three.
    let around = |inner: fn(&[InstanceId]) -> Box<dyn Balancer>, at: usize, ids: &[InstanceId]| {
        let (ids, ids2, ids3) = (ids.to_vec(), ids.to_vec(), ids.to_vec());
        let balancer: Box<dyn Balancer> = match at {
            0 => Box::new(ZoneAware::new("a", move || inner(&ids)).with_callers([("b", 1.0)])),
            1 => Box::new(Priority::new(move || inner(&ids2))),
            _ => Box::new(Split::new(move || inner(&ids3)).with_version("v2", 1.0)),
        };
        balancer
    };
    for (at, members) in members.into_iter().enumerate() {
        let ids = ids(members);
        let takes_first: fn(&[InstanceId]) -> Box<dyn Balancer> =
            |ids| Box::new(Only(ids[..1].to_vec()));
        let takes_one_of_each: fn(&[InstanceId]) -> Box<dyn Balancer> =
            |ids| Box::new(Only(vec![ids[0].clone(), ids[4].clone()]));
        let strict: fn(&[InstanceId]) -> Box<dyn Balancer> = |_| Box::new(Strict);
        for (inner, tried, expected) in [
            (takes_first, &ids[..0], 0),
            (takes_first, &ids[..1], 0),
            (takes_first, &ids[..], 0),
            (takes_one_of_each, &ids[..1], 4),
            (takes_one_of_each, &ids[..], 0),
            (strict, &ids[..2], 2),
            (strict, &ids[..3], 3),
            (strict, &ids[..], 0),
        ] {
            let balancer = around(inner, at, &ids);
            let context = PickContext::new().with_attempt(tried.len() as u32, tried);
            let set = ReadySet::new(members);
            let prepared = balancer.prepare(&set);
            for set in [set, set.with_prepared(prepared.as_ref())] {
                let picked = balancer.pick(&set, &context);
                assert_eq!(picked, Some(expected), "{balancer:?} after {tried:?}");
            }
            let slowly = SlowStart::new(balancer);
            assert_eq!(pick_allowed(&slowly, &set, &context), Some(expected), "{slowly:?}");
        }
    }
}

#[test]
fn a_round_robin_in_a_group_goes_on_from_set_to_set() {
    let members = zones(&[("a", 6)]);
    let balancer = ZoneAware::new("a", || RoundRobin::starting_at(0));
    for at in 0..12 {
        let prepared = balancer.prepare(&ReadySet::new(&members));
        let set = ReadySet::new(&members).with_prepared(prepared.as_ref());
        assert_eq!(balancer.pick(&set, &PickContext::new()), Some(at % 6));
    }
}

fn priority() -> Priority<Random> {
    Priority::new(|| Random::with_seed(1)).with_seed(2)
}

/// Level 0 and level 1 with a hundred instances each; the number of ready ones is given.
fn failover(ready: [usize; 2]) -> Vec<f64> {
    let members = levels(&[(0, 100), (1, 100)]);
    let (zero, one) = members.split_at(100);
    let all_ready = [&zero[..ready[0]], &one[..ready[1]]].concat();
    let not_ready = [&zero[ready[0]..], &one[ready[1]..]].concat();
    let set = ReadySet::new(&all_ready).with_not_ready(&not_ready);
    group_shares(&priority(), set, &ready)
}

#[test]
fn a_level_that_fails_hands_over_as_envoy_s_does() {
    assert_near(&failover([100, 100]), &[1.0, 0.0]);
    assert_eq!(failover([72, 100]), [1.0, 0.0]);
    assert_near(&failover([71, 100]), &[0.99, 0.01]);
    assert!(failover([71, 100])[1] > 0.005);
    assert_near(&failover([50, 100]), &[0.70, 0.30]);
    assert_near(&failover([25, 100]), &[0.35, 0.65]);
    assert_near(&failover([0, 100]), &[0.0, 1.0]);
    // Not enough anywhere: 28 and 56 percent are scaled up to a hundred.
    assert_near(&failover([20, 40]), &[1.0 / 3.0, 2.0 / 3.0]);
}

#[test]
fn a_level_is_what_the_metadata_or_a_function_says() {
    let members = levels(&[(7, 2), (3, 2)]);
    let found = group_shares(&priority(), ReadySet::new(&members), &[2, 2]);
    assert_eq!(found, [0.0, 1.0]);
    let reversed = priority().with_level(|it| {
        10 - it.metadata().get("priority").and_then(|it| it.parse().ok()).unwrap_or(0)
    });
    let found = group_shares(&reversed, ReadySet::new(&members), &[2, 2]);
    assert_eq!(found, [1.0, 0.0]);
    // Nobody says anything under that key: one level.
    let found = group_shares(&priority().with_key("tier"), ReadySet::new(&members), &[2, 2]);
    assert_near(&found, &[0.5, 0.5]);
}

#[test]
fn a_split_keeps_its_share_and_keeps_it_evenly() {
    let members = versions(&["v1", "v1", "v2", "v1"]);
    let balancer = Split::new(|| Random::with_seed(1)).with_version("v2", 0.05).with_seed(3);
    let prepared = balancer.prepare(&ReadySet::new(&members));
    let set = ReadySet::new(&members).with_prepared(prepared.as_ref());
    let canary: Vec<_> = (0..PICKS)
        .map(|_| usize::from(balancer.pick(&set, &PickContext::new()) == Some(2)))
        .collect();
    let total: usize = canary.iter().sum();
    assert!(total.abs_diff(PICKS / 20) <= 3, "{total}");
    for window in canary.windows(100) {
        let count = window.iter().sum::<usize>();
        assert!((4..=6).contains(&count), "{count}");
    }
}

#[test]
fn shares_of_a_split_that_nobody_can_use_go_to_the_rest() {
    let split =
        || Split::new(|| Random::with_seed(1)).with_version("v2", 0.2).with_version("v3", 0.3);
    let found =
        |names: &[&str]| shares(&split(), ReadySet::new(&versions(names)), &PickContext::new());
    assert_near(&found(&["v1", "v2", "v3"]), &[0.5, 0.2, 0.3]);
    assert_near(&found(&["v1", "v3"]), &[0.7, 0.3]);
    assert_near(&found(&["v2", "v3"]), &[0.4, 0.6]);
    assert_near(&found(&["v1"]), &[1.0]);
    let draining = Member::detached(instance(9).with_version("v2").with_weight(0));
    let members = [versions(&["v1"]), vec![draining]].concat();
    assert_near(&shares(&split(), ReadySet::new(&members), &PickContext::new()), &[1.0, 0.0]);
}

#[test]
fn nonsense_in_a_split_is_brought_into_bounds() {
    let members = versions(&["v1", "v2", "v3"]);
    let split = Split::new(|| Random::with_seed(1))
        .with_version("v1", f64::NAN)
        .with_version("v2", 0.75)
        .with_version("v3", f64::INFINITY);
    let found = shares(&split, ReadySet::new(&members), &PickContext::new());
    assert_near(&found, &[0.0, 0.75, 0.25]);
    // A share of nothing is used only where nothing else is there.
    let found = shares(&split, ReadySet::new(&members[..1]), &PickContext::new());
    assert_eq!(found, [1.0]);
}

#[test]
fn composed_balancers_by_name_do_as_those_in_code() {
    let canary = Metadata::new([("track", "canary")]).unwrap();
    let mut members = versions(&["v1", "v1", "v2"]);
    members.push(Member::detached(instance(99).with_metadata(canary)));
    for (spec, of, expected) in [
        ("split?version=v2&share=0.1&balancer=random", 2, 0.1),
        ("split?key=track&value=canary&share=0.3&balancer=round_robin", 3, 0.3),
        (
            "slow_start?window=1m&aggression=2&least=0.2&balancer=least_request?choices=3%26bias=2",
            0,
            0.25,
        ),
        ("priority?balancer=split?version=v2%26share=0.1%26balancer=random", 2, 0.1),
        ("zone_aware?zone=a&min_size=1&balancer=random", 1, 0.25),
    ] {
        let balancer = by_name(spec).unwrap();
        let found = shares(&balancer, ReadySet::new(&members), &PickContext::new());
        assert!((found[of] - expected).abs() < 0.01, "{spec}: {found:?}");
    }
    for wrong in [
        "zone_aware",
        "split?share=0.1",
        "split?version=v2&share=1.1",
        "split?version=v2&share=NaN",
        "split?version=v2&key=a&value=b&share=0.1",
        "priority?overprovisioning=99",
        "priority?panic_threshold=101",
        "slow_start?least=2",
        "slow_start?aggression=0",
        "slow_start?window=soon",
    ] {
        assert!(by_name(wrong).is_err(), "{wrong}");
    }
}

fn all() -> [Box<dyn Balancer>; 5] {
    [
        Box::new(SlowStart::new(P2c::new())),
        Box::new(ZoneAware::new("a", PeakEwma::new)),
        Box::new(Priority::new(PeakEwma::new)),
        Box::new(Split::new(P2c::new).with_version("v2", 0.05)),
        Box::new(SlowStart::new(ZoneAware::new("a", || Priority::new(RoundRobin::new)))),
    ]
}

#[test]
fn nothing_is_chosen_where_nothing_can_be() {
    for balancer in all() {
        let drained = [Member::detached(instance(1).with_weight(0))];
        for members in [&[][..], &drained] {
            let prepared = balancer.prepare(&ReadySet::new(members));
            let set = ReadySet::new(members);
            for set in [set, set.with_prepared(prepared.as_ref())] {
                let picked = balancer.pick(&set, &PickContext::new());
                assert_eq!(picked, None, "{balancer:?}");
            }
        }
    }
}

#[test]
fn a_set_that_nobody_prepared_or_another_one_did_is_no_trouble() {
    let members = zones(&[("a", 6), ("b", 6)]);
    for balancer in all() {
        let of_another_set = balancer.prepare(&ReadySet::new(&members));
        for len in 1..members.len() {
            let set = ReadySet::new(&members[..len]);
            for set in [set, set.with_prepared(of_another_set.as_ref())] {
                let picked = balancer.pick(&set, &PickContext::new());
                assert!(picked.is_some_and(|at| at < len), "{balancer:?} {picked:?} of {len}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_composed_pick_allocates_nothing() {
    let mut members = zones(&[("a", 3), ("b", 6), ("", 1)]);
    tokio::time::advance(Duration::from_secs(100)).await;
    members.extend((20..24).map(instance).map(Member::detached));
    for balancer in all() {
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

#[test]
fn a_zone_that_cannot_carry_its_callers_sends_calls_elsewhere() {
    let members: Vec<_> = (1..=9)
        .map(|i| {
            let instance = Instance::new(format!("10.0.0.{i}:80")).unwrap();
            Member::detached(instance.with_zone(["a", "b", "c"][i % 3]))
        })
        .collect();
    let set = ReadySet::new(&members);
    let balancer = ZoneAware::new("a", P2c::new).with_seed(1);
    let prepared = balancer.prepare(&set);
    let set = set.with_prepared(prepared.as_ref());
    let at_home = |picks: usize| {
        let zone_of = |at: usize| members[at].instance().zone() == Some("a");
        let picks = (0..picks).map(|_| balancer.pick(&set, &PickContext::new()).unwrap());
        picks.filter(|&at| zone_of(at)).count()
    };
    let busy = |zone, calls: usize| -> Vec<_> {
        let members = members.iter().filter(|member| member.instance().zone() == Some(zone));
        members.flat_map(|member| (0..calls).map(|_| member.begin())).collect()
    };
    // Three under way say nothing; so do twice as many as elsewhere, for each zone may be busy.
    let _three = busy("a", 3);
    assert_eq!(at_home(100), 100);
    let (_more, _elsewhere) = (busy("a", 3), (busy("b", 2), busy("c", 2)));
    assert_eq!(at_home(100), 100);
    let _too_many = busy("a", 1);
    assert_eq!(at_home(100), 0);
}

/// A group's balancer that comes back to the whole when it is dropped.
#[derive(Debug)]
struct ComesBack(Random, Whole);

type Whole = std::sync::Arc<std::sync::OnceLock<std::sync::Weak<ZoneAware<ComesBack>>>>;

fn come_back(whole: &Whole) {
    if let Some(whole) = whole.get().and_then(std::sync::Weak::upgrade) {
        whole.prepare(&ReadySet::new(&[]));
    }
}

impl Balancer for ComesBack {
    fn pick(&self, endpoints: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        self.0.pick(endpoints, context)
    }
}

impl Drop for ComesBack {
    fn drop(&mut self) {
        come_back(&self.1);
    }
}

#[test]
fn groups_are_made_and_dropped_under_no_lock() {
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let whole = Whole::default();
        let place = whole.clone();
        let make = move || {
            come_back(&place);
            ComesBack(Random::new(), place.clone())
        };
        let balancer = std::sync::Arc::new(ZoneAware::new("a", make));
        whole.set(std::sync::Arc::downgrade(&balancer)).unwrap();
        for names in [["a", "b"], ["c", "d"], ["a", "d"]] {
            let members = zones(&names.map(|zone| (zone, 5)));
            let prepared = balancer.prepare(&ReadySet::new(&members));
            let set = ReadySet::new(&members).with_prepared(prepared.as_ref());
            assert!(balancer.pick(&set, &PickContext::new()).is_some());
        }
        done.send(()).unwrap();
    });
    finished.recv_timeout(Duration::from_secs(60)).expect("it is frozen, or has panicked");
}
