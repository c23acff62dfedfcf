//! The experiment of Linkerd's blog, "Beyond Round Robin: Load Balancing for Latency", 2016.

use crate::score::{Latencies, errors, share, share_of};
use crate::{
    Action, Arrivals, Bound, ClientPlan, Column, Contender, Goal, MILLISECOND, Plan, SECOND,
    Scenario, Series, ServerPlan, ServiceTime, Trace,
};

const SLOW: u32 = 0;
const FROM: u64 = 15 * SECOND;
const TO: u64 = 45 * SECOND;
const END: u64 = 60 * SECOND;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "linkerd",
    title: "One of eleven turns slow (Linkerd, 2016)",
    about: "\
11 servers that take 167 ± 5 ms, 1000 calls a second at even intervals for 60 s; one server takes \
exactly 2 s from 15 s to 45 s. A call is a success if it is answered within 1 s; nobody cancels it \
when it takes longer. Published for the real thing: round robin 95 %, least loaded 99 %, Peak EWMA \
99.9 %.",
    contenders: &[
        Contender::named("round_robin"),
        Contender::named("random"),
        Contender::named("p2c"),
        Contender::named("least_request?choices=all"),
        Contender::named("peak_ewma"),
        Contender::named("peak_ewma?choices=10"),
    ],
    plan,
    columns: &[
        Column::new("success %", 2),
        Column::new("p50 ms", 0),
        Column::new("p99 ms", 0),
        Column::new("p99.9 ms", 0),
        Column::new("share of the slow one %", 2),
    ],
    score,
    goals: &[Goal { contender: "peak_ewma", column: "success %", bound: Bound::AtLeast(99.92) }],
    curve: true,
    series: Some(Series {
        label: "calls that took longer than 1 s in %",
        bin: 2 * SECOND,
        span: END,
        figure: |calls| share(calls, |call| call.took > SECOND),
        logarithmic: false,
    }),
};

fn plan(_: u64) -> Plan {
    let usual = ServiceTime::Uniform(162.0, 172.0);
    let mut plan = Plan {
        servers: vec![ServerPlan::unlimited(usual); 11],
        clients: vec![ClientPlan { start: 0, arrivals: Arrivals::Every(MILLISECOND), zone: None }],
        until: END,
        ..Plan::default()
    };
    plan.act(FROM, Action::Serve(SLOW as usize, ServiceTime::Constant(2000.0)));
    plan.act(TO, Action::Serve(SLOW as usize, usual));
    plan
}

fn score(trace: &Trace) -> Vec<f64> {
    let calls = &trace.calls;
    let late = share(calls, |call| call.took > SECOND);
    let latencies = Latencies::of(calls);
    vec![
        100.0 - errors(calls) - late,
        latencies.quantile(0.5),
        latencies.quantile(0.99),
        latencies.quantile(0.999),
        share_of(trace.between(FROM, TO), SLOW),
    ]
}
