//! Errors now and then, of servers that are well: a balancer must not make too much of them.

use std::time::Duration;

use crate::score::{Latencies, errors, share_of, unevenness, unevenness_by_window};
use crate::{
    Action, Arrivals, Bound, ClientPlan, Column, Contender, Failure, Goal, MILLISECOND, Plan,
    SECOND, Scenario, ServerPlan, ServiceTime, Trace,
};

const SERVERS: usize = 10;
const SLOTS: usize = 4;
const END: u64 = 120 * SECOND;
const WORK: ServiceTime = ServiceTime::LogNormal { median: 20.0, spread: 1.5 };
/// Relative to all slots.
const LOAD: f64 = 0.7;

const CONTENDERS: &[Contender] = &[
    Contender::named("round_robin"),
    Contender::named("p2c"),
    Contender::named("peak_ewma"),
    Contender::named("peak_ewma")
        .titled("peak_ewma, penalty 1 s")
        .with_failure_penalty(Duration::from_secs(1)),
    Contender::named("peak_ewma")
        .titled("peak_ewma, no penalty")
        .with_failure_penalty(Duration::ZERO),
    Contender::named("peak_ewma").titled("peak_ewma, detection").with_outlier_detection(),
];

const COLUMNS: &[Column] = &[
    Column::new("errors %", 3),
    Column::new("p50 ms", 0),
    Column::new("p99 ms", 0),
    Column::new("p99.9 ms", 0),
    Column::new("most calls / mean", 2),
    Column::new("the same in 5 s", 2),
    Column::new("share of the first server %", 1),
    Column::new("ejections", 0),
];

const fn scenario(
    name: &'static str,
    title: &'static str,
    about: &'static str,
    plan: fn(u64) -> Plan,
    goals: &'static [Goal],
) -> Scenario {
    Scenario {
        name,
        title,
        about,
        contenders: CONTENDERS,
        plan,
        columns: COLUMNS,
        score,
        goals,
        curve: false,
        series: None,
    }
}

/// Round robin, which ignores errors, has a p99 of 52 ms here.
const SHORT_TAIL: [Goal; 2] = [
    Goal { contender: "peak_ewma", column: "p99 ms", bound: Bound::AtMost(58.0) },
    Goal { contender: "peak_ewma, detection", column: "p99 ms", bound: Bound::AtMost(58.0) },
];

const STAYS_IN_USE: [Goal; 2] = {
    let (column, bound) = ("share of the first server %", Bound::AtLeast(8.0));
    [
        Goal { contender: "peak_ewma", column, bound },
        Goal { contender: "peak_ewma, detection", column, bound },
    ]
};

const FEW_ERRORS: [Goal; 1] =
    [Goal { contender: "peak_ewma", column: "errors %", bound: Bound::AtMost(0.1) }];

pub(super) const SCENARIOS: [Scenario; 4] = [
    scenario(
        "errors-1-percent",
        "Every call fails with a chance of 1 %",
        "\
10 servers with 4 slots and a median of 20 ms (log-normal), at 70 % load for 120 s. One call in a hundred fails after \
1 ms, wherever it goes.",
        |_| plan(&[0.01; SERVERS]),
        &SHORT_TAIL,
    ),
    scenario(
        "errors-rare",
        "Every call fails with a chance of 1 in 5000",
        "The same, but one call in 5000 fails: a server has an error every 40 s or so.",
        |_| plan(&[0.0002; SERVERS]),
        &SHORT_TAIL,
    ),
    scenario(
        "errors-one-server",
        "One server fails one call in 1000",
        "The same, but only the first server fails, one call in a thousand: every 8 s or so.",
        |_| {
            let mut chances = [0.0; SERVERS];
            chances[0] = 0.001;
            plan(&chances)
        },
        &STAYS_IN_USE,
    ),
    scenario(
        "errors-flaky-server",
        "One server fails three calls in ten",
        "The same, but only the first server fails, three calls in ten.",
        |_| {
            let mut chances = [0.0; SERVERS];
            chances[0] = 0.3;
            plan(&chances)
        },
        &FEW_ERRORS,
    ),
];

fn plan(chances: &[f64; SERVERS]) -> Plan {
    let rate = LOAD * (SERVERS * SLOTS) as f64 / (WORK.mean() / 1000.0);
    let mut plan = Plan {
        servers: vec![ServerPlan::with_slots(WORK, SLOTS); SERVERS],
        clients: vec![ClientPlan { start: 0, arrivals: Arrivals::Poisson(rate), zone: None }],
        until: END,
        ..Plan::default()
    };
    for (server, &probability) in chances.iter().enumerate() {
        let failure = Failure { probability, after: MILLISECOND, refuses: false };
        plan.act(0, Action::Fail(server, Some(failure)));
    }
    plan
}

fn score(trace: &Trace) -> Vec<f64> {
    let calls = trace.between(5 * SECOND, END);
    let latencies = Latencies::of(calls);
    vec![
        errors(calls),
        latencies.quantile(0.5),
        latencies.quantile(0.99),
        latencies.quantile(0.999),
        unevenness(calls, trace.servers),
        unevenness_by_window(calls, trace.servers, 5 * SECOND),
        share_of(calls, 0),
        trace.ejections as f64,
    ]
}
