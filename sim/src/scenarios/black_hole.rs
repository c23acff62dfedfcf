//! A server that refuses everything at once, and so looks idle.

use crate::score::{Latencies, errors, seconds_until, share_of};
use crate::{
    Action, Arrivals, Bound, ClientPlan, Column, Contender, Failure, Goal, MILLISECOND, Plan,
    SECOND, Scenario, Series, ServerPlan, ServiceTime, Trace,
};

const SICK: u32 = 0;

/// When it fails, and when the run ends.
struct Times {
    from: u64,
    to: u64,
    end: u64,
}

const CALM: Times = Times { from: 10 * SECOND, to: 40 * SECOND, end: 120 * SECOND };
const BUSY: Times = Times { from: 5 * SECOND, to: 15 * SECOND, end: 45 * SECOND };

const CONTENDERS: &[Contender] = &[
    Contender::named("round_robin"),
    Contender::named("p2c"),
    Contender::named("peak_ewma"),
    Contender::named("round_robin").titled("round_robin, detection").with_outlier_detection(),
    Contender::named("p2c").titled("p2c, detection").with_outlier_detection(),
    Contender::named("peak_ewma").titled("peak_ewma, detection").with_outlier_detection(),
];

const COLUMNS: &[Column] = &[
    Column::new("errors while it fails %", 2),
    Column::new("share after 2 s %", 2),
    Column::new("back after s", 0),
    Column::new("share at the end %", 1),
    Column::new("p50 ms", 1),
    Column::new("p99 ms", 0),
];

/// Little of the calls reaches it, and so few fail.
const fn goals(contender: &'static str) -> [Goal; 2] {
    [
        Goal { contender, column: "share after 2 s %", bound: Bound::AtMost(2.0) },
        Goal { contender, column: "errors while it fails %", bound: Bound::AtMost(1.0) },
    ]
}

const CALM_GOALS: [Goal; 4] = {
    let ([a, b], [c, d]) = (goals("peak_ewma"), goals("p2c, detection"));
    [a, b, c, d]
};

pub(super) const SCENARIOS: [Scenario; 2] = [
    Scenario {
        name: "black-hole",
        title: "A black hole: one of ten fails at once",
        about: "\
10 servers with a median of 20 ms (log-normal), 1000 calls a second for 120 s. From 10 s to 40 s one server fails \
every call after 1 ms; so it looks idle, and draws calls to it. Then it is well again. A fair share is 10 %. \"Back \
after\": until it had half of that for three seconds; 80 s is the run's end.",
        contenders: CONTENDERS,
        plan: |_| plan(&CALM, 20.0, 1000.0),
        columns: COLUMNS,
        score: |trace| score(&CALM, trace),
        goals: &CALM_GOALS,
        curve: false,
        series: Some(Series {
            label: "the sick server's share of the calls in %",
            bin: SECOND,
            span: CALM.end,
            figure: |calls| share_of(calls, SICK),
            logarithmic: false,
        }),
    },
    Scenario {
        name: "black-hole-busy",
        title: "A black hole among busy servers",
        about: "\
The same with a median of 100 ms and 10,000 calls a second for 45 s: every other server has about 110 calls under way. \
One fails from 5 s to 15 s; 30 s is the time until the end.",
        contenders: CONTENDERS,
        plan: |_| plan(&BUSY, 100.0, 10_000.0),
        columns: COLUMNS,
        score: |trace| score(&BUSY, trace),
        goals: &goals("peak_ewma, detection"),
        curve: false,
        series: None,
    },
];

fn plan(times: &Times, median: f64, rate: f64) -> Plan {
    let work = ServiceTime::LogNormal { median, spread: 1.5 };
    let mut plan = Plan {
        servers: vec![ServerPlan::unlimited(work); 10],
        clients: vec![ClientPlan { start: 0, arrivals: Arrivals::Poisson(rate), zone: None }],
        until: times.end,
        ..Plan::default()
    };
    let failure = Failure { probability: 1.0, after: MILLISECOND, refuses: false };
    plan.act(times.from, Action::Fail(SICK as usize, Some(failure)));
    plan.act(times.to, Action::Fail(SICK as usize, None));
    plan
}

fn score(&Times { from, to, end }: &Times, trace: &Trace) -> Vec<f64> {
    let latencies = Latencies::of(&trace.calls);
    vec![
        errors(trace.between(from, to)),
        share_of(trace.between(from + 2 * SECOND, to), SICK),
        seconds_until(&trace.calls, SICK, 5.0, to, end),
        share_of(trace.between(end - 5 * SECOND, end), SICK),
        latencies.quantile(0.5),
        latencies.quantile(0.99),
    ]
}
