//! Errors that may be the caller's fault: whose fault they are, and what becomes of the instance.

use std::any::Any;
use std::time::Duration;

use fleetward_balancers::{HashKey, LeastRequest, Maglev, P2c, PeakEwma, RingHash, RoundRobin};
use fleetward_core::Balancer;
use fleetward_core::balancing::{PickContext, Prepared, ReadySet, begin_call};
use fleetward_core::endpoints::{Member, Operation, Outcome};
use fleetward_core::outlier::{OutlierDetection, OutlierDetector};
use tokio::time::Instant;

use crate::support::instance;

/// A fleet whose clock moves by a millisecond a call.
struct Fleet {
    members: Vec<Member>,
    balancer: Box<dyn Balancer>,
    prepared: Option<Prepared>,
    detector: Option<OutlierDetector>,
    start: Instant,
    now: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Asked<'a> {
    method: &'a str,
    key: &'a str,
}

impl Fleet {
    fn new(n: usize, balancer: impl Balancer + 'static) -> Self {
        let at = |i| instance(&format!("10.0.0.{}:80", i + 1));
        let first = Member::detached(at(0));
        let rest: Vec<_> = (1..n).map(|i| first.detached_beside(at(i))).collect();
        let now = Instant::now();
        let mut fleet = Self {
            members: std::iter::once(first).chain(rest).collect(),
            balancer: Box::new(balancer),
            prepared: None,
            detector: None,
            start: now,
            now,
        };
        fleet.prepared = fleet.balancer.prepare(&ReadySet::new(&fleet.members));
        fleet
    }

    fn detecting(mut self) -> Self {
        let mut detector = OutlierDetector::new(OutlierDetection::default(), 1, self.now);
        self.members.iter().for_each(|member| detector.add(member));
        self.detector = Some(detector);
        self
    }

    fn with_balancer(balancer: impl Balancer + 'static) -> impl Fn(usize) -> Self {
        let balancer = std::sync::Arc::new(balancer);
        move |n| Self::new(n, balancer.clone())
    }

    /// Where a call went, which took some milliseconds, or one if it was refused.
    fn call(&mut self, method: &str, key: &str, outcome: impl Fn(usize) -> Outcome) -> usize {
        let request = (method.to_owned(), key.to_owned());
        let context = PickContext::new()
            .with_request(&request)
            .with_lookup(key_of)
            .with_operation(Operation::named(method.as_bytes()))
            .with_now(self.now);
        // Those that are ejected are not in the set, as with an endpointer.
        let at: Vec<usize> =
            (0..self.members.len()).filter(|&i| self.members[i].is_healthy()).collect();
        let ready: Vec<_> = at.iter().map(|&i| self.members[i].clone()).collect();
        let mut set = ReadySet::new(&ready);
        if at.len() == self.members.len() {
            set = set.with_prepared(self.prepared.as_ref());
        }
        let (picked, call) = begin_call(&*self.balancer, &set, &context).unwrap();
        let picked = at[picked];
        let outcome = outcome(picked);
        let took = if outcome == Outcome::Success { 10 } else { 1 };
        call.finish_at(outcome, self.now + Duration::from_millis(took));
        self.now += Duration::from_millis(1);
        if let Some(detector) = &mut self.detector {
            detector.run(self.now);
        }
        picked
    }

    fn seconds(&self) -> f64 {
        (self.now - self.start).as_secs_f64()
    }

    /// Calls of these methods in turn, for so many seconds from now on; how many each instance got after
    /// the first two.
    fn run(
        &mut self,
        seconds: f64,
        asked: impl Fn(u64) -> Asked<'static>,
        outcome: impl Fn(usize, Asked<'static>, u64) -> Outcome,
    ) -> Vec<u64> {
        let mut calls = vec![0; self.members.len()];
        let begin = self.seconds();
        for i in 0.. {
            let asked = asked(i);
            let at = self.call(asked.method, asked.key, |at| outcome(at, asked, i));
            calls[at] += u64::from(self.seconds() - begin > 2.0);
            if self.seconds() - begin > seconds {
                break;
            }
        }
        calls
    }
}

fn key_of<'a>(request: &'a dyn Any, _: &str) -> Option<&'a [u8]> {
    request.downcast_ref::<(String, String)>().map(|(_, key)| key.as_bytes())
}

fn one_method(_: u64) -> Asked<'static> {
    Asked { method: "/shop/Get", key: "k" }
}

fn share(calls: &[u64], at: usize) -> f64 {
    calls[at] as f64 / calls.iter().sum::<u64>() as f64
}

/// As a random number in 0..1, the same for the same number.
fn chance(i: u64) -> f64 {
    fastrand::Rng::with_seed(i).f64()
}

fn refuses(it_does: bool) -> Outcome {
    if it_does { Outcome::Refused } else { Outcome::Success }
}

type Make = Box<dyn Fn(usize) -> Fleet>;

fn balancers() -> Vec<(&'static str, Make)> {
    vec![
        ("round_robin", Box::new(Fleet::with_balancer(RoundRobin::starting_at(0))) as Make),
        ("p2c", Box::new(Fleet::with_balancer(P2c::with_seed(1)))),
        (
            "least_request",
            Box::new(Fleet::with_balancer(LeastRequest::with_seed(1).with_full_scan())),
        ),
        ("peak_ewma", Box::new(Fleet::with_balancer(PeakEwma::with_seed(1)))),
    ]
}

#[test]
fn one_that_refuses_what_others_do_loses_these_calls() {
    for (name, fleet) in balancers() {
        for from in [0, 3000] {
            let calls = fleet(5).run(8.0, one_method, |at, _, i| refuses(at == 0 && i >= from));
            // It may have answered well for the first second of those that are counted.
            let most = if from == 0 { 0.005 } else { 0.05 };
            assert!(share(&calls, 0) < most, "{name}, from {from}: {calls:?}");
            assert!((1..5).all(|at| share(&calls, at) > 0.2), "{name}, from {from}: {calls:?}");
        }
    }
}

#[test]
fn the_one_that_answers_wins_against_two() {
    for (name, fleet) in balancers() {
        let calls = fleet(3).run(8.0, one_method, |at, _, _| refuses(at != 2));
        assert!(share(&calls, 2) > 0.99, "{name}: {calls:?}");
    }
}

#[test]
fn callers_that_are_refused_everywhere_cost_no_instance_its_calls() {
    for (name, fleet) in balancers() {
        for bad in [0.02, 0.3, 0.5, 0.9, 1.0] {
            let calls = fleet(5).run(12.0, one_method, |_, _, i| refuses(chance(i) < bad));
            for at in 0..5 {
                let share = share(&calls, at);
                assert!((0.15..0.27).contains(&share), "{name}, {bad}: {share} {calls:?}");
            }
        }
    }
}

/// All of a bad caller's calls go to one instance, by its key.
#[test]
fn a_caller_that_is_refused_leaves_the_instance_of_its_key_to_the_others() {
    const KEYS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let key = || HashKey::attribute("key");
    let makes: [(&str, Make); 2] = [
        ("ring_hash", Box::new(move |n| Fleet::new(n, RingHash::new(key())).detecting())),
        ("maglev", Box::new(move |n| Fleet::new(n, Maglev::new(key())).detecting())),
    ];
    for (name, make) in makes {
        let mut fleet = make(4);
        let home: Vec<usize> =
            KEYS.iter().map(|key| fleet.call("m", key, |_| Outcome::Success)).collect();
        // Nine calls of ten are the bad caller's, with several methods.
        let asked = |i: u64| Asked {
            method: ["/shop/Get", "/shop/Put", "/shop/List"][i as usize % 3],
            key: if i.is_multiple_of(10) { KEYS[(i / 10) as usize % KEYS.len()] } else { "bad" },
        };
        let (mut at_home, mut all) = (0, 0);
        for i in 0..20_000 {
            let asked = asked(i);
            let at = fleet.call(asked.method, asked.key, |_| refuses(asked.key == "bad"));
            if let Some(key) = KEYS.iter().position(|key| *key == asked.key) {
                all += 1;
                at_home += u32::from(at == home[key]);
            }
        }
        assert!(at_home as f64 / all as f64 > 0.97, "{name}: {at_home} of {all}");
        assert!(fleet.members.iter().all(Member::is_healthy), "{name}");
    }
}

#[test]
fn old_instances_keep_their_calls_while_a_new_method_is_rolled_out() {
    for (name, make) in balancers() {
        // Half of them are old; the new methods are called far more often than the old one.
        let asked = |i: u64| Asked {
            method: match chance(i) {
                0.0..0.1 => "/shop/Old",
                0.1..0.6 => "/shop/New",
                _ => "/shop/Newer",
            },
            key: "",
        };
        let mut fleet = make(4).detecting();
        let mut calls = [[0u64; 4]; 2];
        for i in 0..15_000 {
            let asked = asked(i);
            let is_new = asked.method != "/shop/Old";
            let at = fleet.call(asked.method, "", |at| refuses(is_new && at < 2));
            calls[usize::from(is_new)][at] += u64::from(i > 2000);
        }
        let [old, new] = calls;
        assert!(share(&new, 0) + share(&new, 1) < 0.02, "{name}: {new:?}");
        // The new ones have the new methods' calls too, which some balancers see.
        assert!((0..2).all(|at| share(&old, at) > 0.2), "{name}: {old:?}");
        assert!(fleet.members.iter().all(Member::is_healthy), "{name}");
    }
}

#[test]
fn one_that_refuses_every_method_is_ejected_and_of_a_single_method_is_not() {
    let mut fleet = Fleet::new(5, RoundRobin::starting_at(0)).detecting();
    fleet.run(20.0, one_method, |at, _, _| refuses(at == 0));
    assert!(fleet.members[0].is_healthy());
    let two =
        |i| Asked { method: ["/shop/Get", "/shop/Put"][usize::from(chance(i) < 0.5)], key: "" };
    fleet.run(12.0, two, |at, _, _| refuses(at == 0));
    assert!(!fleet.members[0].is_healthy());
    assert!(fleet.members[1..].iter().all(Member::is_healthy));
    // It does its work again.
    let calls = fleet.run(90.0, two, |_, _, _| Outcome::Success);
    assert!(fleet.members[0].is_healthy() && share(&calls, 0) > 0.05, "{calls:?}");
}

#[test]
fn one_that_refuses_whatever_it_is_asked_need_not_be_asked_everything() {
    let names: Vec<&'static str> =
        (0..6000).map(|i| &*Box::leak(format!("GET /item-{i}").into_boxed_str())).collect();
    for (name, fleet) in balancers() {
        let asked = |i: u64| Asked { method: names[i as usize % names.len()], key: "" };
        let calls = fleet(5).run(6.0, asked, |at, _, _| refuses(at == 0));
        assert!(share(&calls, 0) < 0.02, "{name}: {calls:?}");
        let calls = fleet(3).run(6.0, asked, |at, _, _| refuses(at != 2));
        assert!(share(&calls, 2) > 0.97, "{name}: {calls:?}");
        // Nor does it cost anybody anything if all refuse.
        let calls = fleet(5).run(6.0, asked, |_, _, _| Outcome::Refused);
        assert!((0..5).all(|at| share(&calls, at) > 0.1), "{name}: {calls:?}");
    }
}

#[test]
fn it_is_tried_now_and_then_and_comes_back() {
    let mut fleet = Fleet::new(5, RoundRobin::starting_at(0));
    let calls = fleet.run(10.0, one_method, |at, _, _| refuses(at == 0));
    assert!((1..20).contains(&calls[0]), "{calls:?}");
    let calls = fleet.run(60.0, one_method, |_, _, _| Outcome::Success);
    assert!(share(&calls, 0) > 0.1, "{calls:?}");
    let calls = fleet.run(5.0, one_method, |_, _, _| Outcome::Success);
    assert!((0.19..0.21).contains(&share(&calls, 0)), "{calls:?}");
}

#[test]
fn where_the_others_have_gone_it_is_called() {
    let mut fleet = Fleet::new(3, RoundRobin::starting_at(0));
    fleet.run(3.0, one_method, |at, _, _| refuses(at == 0));
    fleet.members.truncate(1);
    assert_eq!(fleet.call("/shop/Get", "", |_| Outcome::Refused), 0);
}

#[test]
fn a_second_attempt_goes_where_the_first_failed_rather_than_where_it_is_refused() {
    let mut fleet = Fleet::new(2, RoundRobin::starting_at(0));
    fleet.run(3.0, one_method, |at, _, _| refuses(at == 0));
    let tried = [fleet.members[1].instance().id().clone()];
    let context = PickContext::new()
        .with_operation(Operation::named(b"/shop/Get"))
        .with_attempt(1, &tried)
        .with_now(fleet.now);
    for _ in 0..10 {
        let set = ReadySet::new(&fleet.members);
        let (at, call) = begin_call(&*fleet.balancer, &set, &context).unwrap();
        call.finish_at(Outcome::Success, fleet.now);
        assert_eq!(at, 1);
    }
}

#[test]
fn what_is_refused_never_looks_faster_than_what_is_answered_well() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs_f64(seconds);
    let good = Member::detached(instance("10.0.0.1:80"));
    let new = good.detached_beside(instance("10.0.0.2:80"));
    let call = |member: &Member, begin: f64, took: f64, outcome| {
        member.begin_at(at(begin)).finish_at(outcome, at(begin + took));
        member.latency(at(begin + took)).unwrap()
    };
    call(&good, 0.0, 0.1, Outcome::Success);
    call(&good, 1.0, 0.001, Outcome::Refused);
    call(&good, 1.1, 0.1, Outcome::Success);
    // One that has given no good answer looks like the others.
    let stands_in = call(&new, 2.0, 0.001, Outcome::Refused);
    assert!((0.09..0.11).contains(&stands_in), "{stands_in}");
    // However many it refuses, and however long ago the last good answer is.
    for i in 0..2000 {
        let latency = call(&good, 3.0 + 0.1 * f64::from(i), 0.001, Outcome::Refused);
        assert!(latency > 0.09, "{i}: {latency}");
    }
    assert!(call(&good, 300.0, 0.5, Outcome::Refused) >= 0.5);
    // The first good answer is believed.
    assert!((call(&new, 300.0, 0.01, Outcome::Success) - 0.01).abs() < 1e-3);
}

#[test]
fn a_call_that_its_caller_drops_says_nothing() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let member = Member::detached(instance("10.0.0.1:80"));
    // A stream without a message, for an hour.
    let mut stream = member.begin_at(at(0));
    stream.heard_at(at(1));
    stream.give_up_at(at(3600));
    let latency = member.latency(at(3600)).unwrap_or(0.0);
    assert!(latency <= 1.0, "{latency}");
    let mut stream = member.begin_at(at(3600));
    stream.heard_at(at(3600));
    stream.finish_at(Outcome::Refused, at(7200));
    let latency = member.latency(at(7200)).unwrap_or(0.0);
    assert!(latency <= 1.0, "{latency}");
}

#[test]
fn a_refusal_ends_a_row_of_failures_as_long_as_it_is_nobody_s_fault() {
    let now = Instant::now();
    let mut detector = OutlierDetector::new(OutlierDetection::default(), 1, now);
    let members = ["10.0.0.1:80", "10.0.0.2:80"].map(|it| Member::detached(instance(it)));
    members.iter().for_each(|member| detector.add(member));
    for outcome in
        [Outcome::FAILURE; 4].into_iter().chain([Outcome::Refused]).chain([Outcome::FAILURE; 4])
    {
        members[0].begin_at(now).finish_at(outcome, now);
    }
    assert!(!detector.run(now));
    members[0].begin_at(now).finish_at(Outcome::FAILURE, now);
    assert!(detector.run(now));
}
