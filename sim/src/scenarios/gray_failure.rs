//! A server that becomes slow without failing.

use crate::score::{Latencies, seconds_until, share_of};
use crate::{
    Action, Arrivals, Bound, ClientPlan, Column, Contender, Goal, Plan, SECOND, Scenario, Series,
    ServerPlan, ServiceTime, Trace,
};

const SICK: u32 = 0;
const FROM: u64 = 15 * SECOND;
const TO: u64 = 45 * SECOND;
const END: u64 = 120 * SECOND;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "gray-failure",
    title: "A gray failure: one of ten becomes 100 times slower",
    about: "\
10 servers with a median of 20 ms (log-normal), 1000 calls a second for 120 s. From 15 s to 45 s one server works \
at a hundredth of its speed, at what is under way as well; it never fails. The baseline is the same run before \
that. \"Back after\": until it had half of its fair share for three seconds; 75 s is the run's end.",
    contenders: &[
        Contender::named("round_robin"),
        Contender::named("p2c"),
        Contender::named("least_request?choices=all"),
        Contender::named("peak_ewma"),
        Contender::named("peak_ewma").titled("peak_ewma, detection").with_outlier_detection(),
    ],
    plan,
    columns: &[
        Column::new("share after 5 s %", 2),
        Column::new("baseline p99 ms", 0),
        Column::new("p99 ms", 0),
        Column::new("p99 / baseline", 2),
        Column::new("p99.9 ms", 0),
        Column::new("back after s", 0),
    ],
    score,
    goals: &[
        Goal { contender: "peak_ewma", column: "share after 5 s %", bound: Bound::AtMost(2.0) },
        Goal { contender: "peak_ewma", column: "p99 / baseline", bound: Bound::AtMost(2.0) },
    ],
    curve: false,
    series: Some(Series {
        label: "p99 of each second's calls in milliseconds",
        bin: SECOND,
        span: END,
        figure: |calls| Latencies::of(calls).quantile(0.99),
        logarithmic: true,
    }),
};

fn plan(_: u64) -> Plan {
    let work = ServiceTime::LogNormal { median: 20.0, spread: 1.5 };
    let mut plan = Plan {
        servers: vec![ServerPlan::unlimited(work); 10],
        clients: vec![ClientPlan { start: 0, arrivals: Arrivals::Poisson(1000.0), zone: None }],
        until: END,
        ..Plan::default()
    };
    plan.act(FROM, Action::Speed(SICK as usize, 0.01));
    plan.act(TO, Action::Speed(SICK as usize, 1.0));
    plan
}

fn score(trace: &Trace) -> Vec<f64> {
    let before = Latencies::of(trace.between(5 * SECOND, FROM)).quantile(0.99);
    let sick = Latencies::of(trace.between(FROM, TO));
    vec![
        share_of(trace.between(FROM + 5 * SECOND, TO), SICK),
        before,
        sick.quantile(0.99),
        sick.quantile(0.99) / before,
        sick.quantile(0.999),
        seconds_until(&trace.calls, SICK, 5.0, TO, END),
    ]
}
