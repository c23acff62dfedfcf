//! The queues against queueing theory.

use fleetward_sim::{
    Answer, Arrivals, ClientPlan, Contender, Failure, MILLISECOND, Plan, SECOND, ServerPlan,
    ServiceTime, Trace, run,
};

fn plan(server: ServerPlan, servers: usize, per_second: f64, seconds: u64) -> Plan {
    let arrivals = Arrivals::Poisson(per_second);
    Plan {
        servers: vec![server; servers],
        clients: vec![ClientPlan { start: 0, arrivals, zone: None }],
        until: seconds * SECOND,
        ..Plan::default()
    }
}

fn mean_millis(trace: &Trace) -> f64 {
    let sum: f64 = trace.calls.iter().map(|call| call.took as f64).sum();
    sum / trace.calls.len() as f64 / MILLISECOND as f64
}

fn assert_close(measured: f64, expected: f64, within: f64) {
    let off = (measured / expected - 1.0).abs();
    assert!(off < within, "{measured}, expected {expected}");
}

#[test]
fn one_slot_with_random_calls_takes_as_long_as_the_formula_says() {
    let random = Contender::named("random");
    // M/M/1: 1 / (mu - lambda), at 100 calls a second of capacity.
    for (load, expected) in [(50.0, 20.0), (80.0, 50.0)] {
        let server = ServerPlan::with_slots(ServiceTime::Exponential(10.0), 1);
        let trace = run(&plan(server, 1, load, 3000), &random, 1).unwrap();
        assert_close(mean_millis(&trace), expected, 0.04);
    }
    // M/D/1, by Pollaczek and Khinchine: half of the waiting time of M/M/1.
    let server = ServerPlan::with_slots(ServiceTime::Constant(10.0), 1);
    let trace = run(&plan(server, 1, 80.0, 2000), &random, 1).unwrap();
    assert_close(mean_millis(&trace), 10.0 + 20.0, 0.04);
    // M/M/2 at 80 %: 1/mu / (1 - rho^2).
    let server = ServerPlan::with_slots(ServiceTime::Exponential(10.0), 2);
    let trace = run(&plan(server, 1, 160.0, 2000), &random, 1).unwrap();
    assert_close(mean_millis(&trace), 10.0 / (1.0 - 0.64), 0.04);
}

/// The supermarket model: with two choices the mean is the sum of `load^(2^i - 2)` service times.
#[test]
fn two_choices_take_as_long_as_the_supermarket_model_says() {
    let server = ServerPlan::with_slots(ServiceTime::Exponential(10.0), 1);
    let plan = plan(server, 200, 200.0 * 90.0, 12);
    let trace = run(&plan, &Contender::named("p2c"), 1).unwrap();
    let settled = Trace { calls: trace.between(4 * SECOND, 12 * SECOND).to_vec(), ..trace };
    assert_close(mean_millis(&settled), 26.14, 0.04);
}

#[test]
fn unlimited_slots_make_nobody_wait() {
    let server = ServerPlan::unlimited(ServiceTime::Uniform(10.0, 20.0));
    let trace = run(&plan(server, 3, 1000.0, 10), &Contender::named("random"), 1).unwrap();
    assert!(trace.calls.iter().all(|call| call.took <= 20 * MILLISECOND + 1));
    assert_close(mean_millis(&trace), 15.0, 0.01);
}

#[test]
fn failures_and_patience_end_calls_when_they_say() {
    let mut plan = plan(ServerPlan::unlimited(ServiceTime::Constant(100.0)), 2, 100.0, 20);
    plan.patience = Some(50 * MILLISECOND);
    let failure = Failure { probability: 0.5, after: MILLISECOND, refuses: false };
    plan.act(0, fleetward_sim::Action::Fail(0, Some(failure)));
    let trace = run(&plan, &Contender::named("round_robin"), 1).unwrap();
    let took = |answer| {
        let calls = trace.calls.iter().filter(move |call| call.answer == answer);
        calls.map(|call| call.took).collect::<Vec<_>>()
    };
    let (failed, given_up) = (took(Answer::Failed), took(Answer::GivenUp));
    assert!(failed.iter().all(|&took| took == MILLISECOND));
    assert!(given_up.iter().all(|&took| took == 50 * MILLISECOND));
    assert_eq!(failed.len() + given_up.len(), trace.calls.len());
    assert_close(failed.len() as f64, trace.calls.len() as f64 / 4.0, 0.1);
}
