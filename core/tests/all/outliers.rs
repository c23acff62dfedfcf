//! The detector's rules, on members that nobody else holds and a clock that only the test moves.

use std::time::Duration;

use fleetward_core::endpoints::{InFlight, Member, Outcome};
use fleetward_core::outlier::{FailureShare, OutlierDetection, OutlierDetector, SuccessRate};
use tokio::time::Instant;

use crate::support::instance;

struct Bench {
    now: Instant,
    detector: OutlierDetector,
    members: Vec<Member>,
}

impl Bench {
    fn new(n: usize, config: OutlierDetection) -> Self {
        let now = Instant::now();
        let mut detector = OutlierDetector::new(config, 1, now);
        let member =
            |i| Member::detached(instance(&format!("10.0.{}.{}:80", i / 250, i % 250 + 1)));
        let members: Vec<_> = (0..n).map(member).collect();
        members.iter().for_each(|member| detector.add(member));
        Self { now, detector, members }
    }

    fn calls(&self, at: usize, successes: usize, failures: usize) {
        for i in 0..successes + failures {
            let outcome = if i < successes { Outcome::Success } else { Outcome::FAILURE };
            self.members[at].begin_at(self.now).finish_at(outcome, self.now);
        }
    }

    fn after(&mut self, seconds: f64) -> bool {
        self.now += Duration::from_secs_f64(seconds);
        self.detector.run(self.now)
    }

    /// Lets time pass in steps of a tick, as an endpointer would.
    fn let_pass(&mut self, seconds: usize) {
        for _ in 0..seconds {
            self.after(1.0);
        }
    }

    fn ejected(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|&i| !self.members[i].is_healthy()).collect()
    }

    /// How long until the only ejected member may be tried, in seconds.
    fn ejection(&mut self) -> f64 {
        let began = self.now;
        while self.ejected().len() == 1 {
            self.after(0.05);
            assert!(self.now - began < Duration::from_secs(1000), "it never ends");
        }
        (self.now - began).as_secs_f64()
    }

    fn probe(&self, at: usize) -> InFlight {
        assert!(self.members[at].lets_in());
        let probe = self.members[at].begin_at(self.now);
        assert!(!self.members[at].lets_in(), "only one");
        probe
    }
}

/// Only the rules that look at the end of an interval.
fn statistical() -> OutlierDetection {
    OutlierDetection::default().with_consecutive_failures(None).with_moving_success_rate(None)
}

fn within(value: f64, expected: f64, share: f64) -> bool {
    (value - expected).abs() <= expected * share + 0.06
}

#[test]
fn the_fifth_failure_in_a_row_ejects_at_once() {
    let mut bench = Bench::new(3, OutlierDetection::default());
    bench.calls(0, 0, 4);
    assert!(!bench.after(0.0));
    bench.calls(0, 1, 0);
    bench.calls(0, 0, 4);
    assert!(!bench.after(0.0), "a success ends the row");
    bench.calls(0, 0, 1);
    assert!(bench.after(0.0));
    assert_eq!(bench.ejected(), [0]);
}

#[test]
fn never_more_than_the_share_and_never_the_last_one() {
    let ejected = |n: usize, share: f64| {
        let mut bench = Bench::new(n, OutlierDetection::default().with_max_ejected(share));
        (0..n).for_each(|i| bench.calls(i, 0, 50));
        bench.after(0.0);
        assert_eq!(bench.detector.ejected(), bench.ejected().len());
        bench.ejected().len()
    };
    assert_eq!(ejected(1, 1.0), 0, "the last one");
    assert_eq!(ejected(2, 1.0), 1);
    assert_eq!(ejected(10, 1.0), 9);
    assert_eq!(ejected(3, 0.1), 1, "one always may go");
    assert_eq!(ejected(10, 0.1), 1);
    assert_eq!(ejected(11, 0.1), 2, "one of eleven is below a tenth");
    assert_eq!(ejected(100, 0.1), 10);
    assert_eq!(ejected(100, 0.0), 0);
}

#[test]
fn the_success_rate_rule_follows_a50() {
    let run = |n: usize, requests: usize| {
        let mut bench = Bench::new(n, statistical().with_failure_share(None));
        (1..n).for_each(|i| bench.calls(i, requests, 0));
        bench.calls(0, requests / 2, requests - requests / 2);
        bench.let_pass(9);
        assert_eq!(bench.ejected(), [0; 0], "not before the interval's end");
        bench.let_pass(1);
        bench.ejected()
    };
    assert_eq!(run(5, 100), [0]);
    assert_eq!(run(4, 100), [0; 0], "too few instances");
    assert_eq!(run(5, 99), [0; 0], "too few requests");
}

#[test]
fn only_whole_intervals_count() {
    let mut bench = Bench::new(5, statistical());
    (1..5).for_each(|i| bench.calls(i, 200, 0));
    bench.calls(0, 0, 60);
    bench.let_pass(9);
    // The other half of the failures falls into the next interval; both are too few for A50's
    // success rate, and each is enough for the failure share.
    bench.let_pass(1);
    assert_eq!(bench.ejected(), [0]);
    let mut bench = Bench::new(5, statistical());
    (1..5).for_each(|i| bench.calls(i, 200, 0));
    bench.calls(0, 0, 40);
    bench.let_pass(10);
    bench.calls(0, 0, 40);
    bench.let_pass(10);
    assert_eq!(bench.ejected(), [0; 0], "forty in each is too few for either");
}

#[test]
fn identical_outliers_above_the_sigma_limit_are_caught_by_the_failure_share() {
    let run = |config: OutlierDetection| {
        let mut bench = Bench::new(10, config.with_max_ejected(0.5));
        (0..3).for_each(|i| bench.calls(i, 5, 95));
        (3..10).for_each(|i| bench.calls(i, 100, 0));
        bench.let_pass(10);
        bench.ejected()
    };
    // Three of ten are 30 %, more than the 21.7 % up to which 1.9 deviations can see them.
    assert_eq!(run(statistical().with_failure_share(None)), [0; 0]);
    assert_eq!(run(statistical().with_success_rate(None)), [0, 1, 2]);
    assert_eq!(run(statistical()), [0, 1, 2]);
    let mut strict = SuccessRate::default();
    strict.deviations = 1.5;
    let few = statistical().with_failure_share(None).with_success_rate(Some(strict));
    assert_eq!(run(few), [0, 1, 2], "with fewer deviations it sees them");
    let mut above = FailureShare::default();
    above.threshold = 0.95;
    let none = statistical().with_success_rate(None).with_failure_share(Some(above));
    assert_eq!(run(none), [0; 0], "95 % is not above 95 %");
}

#[test]
fn half_of_all_calls_failing_is_seen_within_20_s_even_at_one_call_a_second() {
    let seconds_until_ejected = |failures_of_ten: usize| {
        let mut bench = Bench::new(10, OutlierDetection::default());
        (1..=120).find(|second| {
            let fails = (second * failures_of_ten) % 10 < failures_of_ten;
            bench.calls(0, usize::from(!fails), usize::from(fails));
            bench.let_pass(1);
            !bench.ejected().is_empty()
        })
    };
    let half = seconds_until_ejected(5).unwrap();
    // 1 - (1 - e^(-t/30)) / 2 falls below 0.8 after 15.3 s.
    assert!((13..=18).contains(&half), "{half}");
    assert_eq!(seconds_until_ejected(1), None, "nine of ten succeed");
}

#[test]
fn ejections_grow_while_it_keeps_failing_and_shrink_while_it_behaves() {
    let mut bench = Bench::new(3, OutlierDetection::default());
    bench.calls(0, 0, 5);
    bench.after(0.0);
    for expected in [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0] {
        let took = bench.ejection();
        assert!(within(took, expected, 0.1), "{took} instead of {expected}");
        bench.probe(0).finish_at(Outcome::FAILURE, bench.now);
        assert!(!bench.members[0].lets_in(), "nobody else, until the detector has taken note");
        assert!(bench.after(0.0));
        assert_eq!(bench.ejected(), [0]);
    }
    bench.ejection();
    bench.probe(0).finish_at(Outcome::Success, bench.now);
    assert!(bench.after(0.0), "it is back");
    assert!(bench.members[0].lets_in() && bench.ejected().is_empty());
    // Nine ejections; each interval in which it behaves takes one off.
    bench.let_pass(10 * 8);
    bench.calls(0, 0, 5);
    bench.after(0.0);
    let took = bench.ejection();
    assert!(within(took, 10.0, 0.1), "{took}");
}

#[test]
fn statistical_ejections_last_the_base_time_times_their_number() {
    let mut bench = Bench::new(5, statistical());
    for expected in [30.0, 60.0, 90.0] {
        (1..5).for_each(|i| bench.calls(i, 100, 0));
        bench.calls(0, 0, 100);
        let mut waited = 0.0;
        while bench.ejected().is_empty() {
            bench.after(0.05);
            waited += 0.05;
            assert!(waited < 10.1, "an interval");
        }
        let took = bench.ejection();
        assert!(within(took, expected, 0.1), "{took} instead of {expected}");
        bench.probe(0).finish_at(Outcome::Success, bench.now);
        bench.after(0.0);
    }
}

#[test]
fn a_probe_that_is_given_up_or_hangs_leaves_the_place_to_another() {
    let mut bench = Bench::new(3, OutlierDetection::default());
    bench.calls(0, 0, 5);
    bench.after(0.0);
    bench.ejection();
    bench.probe(0).give_up_at(bench.now);
    let hangs = bench.probe(0);
    bench.let_pass(9);
    assert!(!bench.members[0].lets_in());
    bench.let_pass(3);
    let second = bench.probe(0);
    drop(hangs);
    second.finish_at(Outcome::Success, bench.now);
    bench.after(0.0);
    assert!(bench.members[0].lets_in() && bench.ejected().is_empty());
}

#[test]
fn a_streaming_probe_counts_from_its_head() {
    let mut bench = Bench::new(3, OutlierDetection::default());
    bench.calls(0, 0, 5);
    bench.after(0.0);
    bench.ejection();
    let mut stream = bench.probe(0);
    stream.answered_at(bench.now);
    assert!(bench.after(0.0));
    assert!(bench.members[0].lets_in());
    assert_eq!(bench.members[0].in_flight(), 1, "it goes on");
}

#[test]
fn a_call_from_before_the_ejection_is_no_probe() {
    let mut bench = Bench::new(3, OutlierDetection::default());
    let old = bench.members[0].begin_at(bench.now);
    bench.calls(0, 0, 5);
    bench.after(0.0);
    old.finish_at(Outcome::Success, bench.now);
    assert!(!bench.after(0.0));
    assert_eq!(bench.ejected(), [0]);
}

#[test]
fn what_is_removed_is_no_longer_counted() {
    let mut bench = Bench::new(10, OutlierDetection::default());
    bench.calls(0, 0, 5);
    bench.after(0.0);
    assert_eq!(bench.detector.ejected(), 1);
    let gone = bench.members[0].instance().id().clone();
    bench.detector.remove(&gone);
    bench.detector.remove(&gone);
    assert_eq!(bench.detector.ejected(), 0);
    bench.calls(1, 0, 5);
    bench.after(0.0);
    assert!(!bench.members[1].is_healthy(), "its place among the ejected is free");
}

#[test]
fn an_hour_without_a_call_and_a_late_run_eject_nobody() {
    let mut bench = Bench::new(10, OutlierDetection::default());
    (0..10).for_each(|i| bench.calls(i, 100, 3));
    bench.after(3600.0);
    bench.let_pass(30);
    assert_eq!(bench.ejected(), [0; 0]);
}

#[test]
fn an_ejection_for_ever_and_other_nonsense_does_no_harm() {
    let for_ever = OutlierDetection::default()
        .with_ejection_time(Duration::MAX, Duration::MAX)
        .with_first_ejection(Duration::MAX)
        .with_interval(Duration::MAX);
    let mut bench = Bench::new(3, for_ever);
    bench.calls(0, 0, 5);
    assert!(bench.after(0.0));
    bench.after(3600.0);
    assert_eq!(bench.ejected(), [0]);
    for (share, ejected) in [(f64::NAN, 1), (-1.0, 0), (f64::INFINITY, 2), (7.0, 2)] {
        let mut bench = Bench::new(3, OutlierDetection::default().with_max_ejected(share));
        (0..3).for_each(|at| bench.calls(at, 0, 5));
        bench.after(0.0);
        assert_eq!(bench.ejected().len(), ejected, "{share}");
    }
}

#[test]
fn what_is_no_longer_watched_is_not_left_ejected() {
    let mut bench = Bench::new(3, OutlierDetection::default());
    bench.calls(0, 0, 5);
    bench.after(0.0);
    bench.detector.remove(bench.members[0].instance().id());
    assert_eq!((bench.detector.ejected(), bench.ejected()), (0, vec![]));
    bench.detector.add(&bench.members[0]);
    bench.calls(0, 1, 0);
    bench.calls(0, 0, 5);
    bench.after(0.0);
    assert_eq!(bench.ejected(), [0]);
    bench.detector.add(&bench.members[0]);
    assert_eq!((bench.detector.ejected(), bench.ejected()), (0, vec![]), "added once more");
}

#[test]
fn the_end_of_an_answered_probe_says_nothing_of_a_later_one() {
    let mut bench = Bench::new(3, OutlierDetection::default());
    bench.calls(0, 0, 5);
    bench.after(0.0);
    bench.ejection();
    let mut stream = bench.probe(0);
    stream.answered_at(bench.now);
    bench.after(0.0);
    bench.calls(0, 0, 5);
    bench.after(0.0);
    assert_eq!(bench.ejected(), [0], "again");
    bench.ejection();
    let probe = bench.probe(0);
    stream.finish_at(Outcome::FAILURE, bench.now);
    bench.after(0.0);
    assert_eq!(bench.ejected(), Vec::<usize>::new(), "this probe is not over");
    assert!(!bench.members[0].lets_in());
    probe.finish_at(Outcome::Success, bench.now);
    assert!(bench.members[0].lets_in());
}

#[test]
fn an_answered_call_that_the_caller_drops_ends_the_row() {
    let mut bench = Bench::new(3, OutlierDetection::default());
    for _ in 0..4 {
        bench.calls(0, 0, 4);
        let mut stream = bench.members[0].begin_at(bench.now);
        stream.answered_at(bench.now);
        stream.give_up_at(bench.now);
        assert!(!bench.after(0.0));
    }
    assert_eq!(bench.ejected(), Vec::<usize>::new());
}
