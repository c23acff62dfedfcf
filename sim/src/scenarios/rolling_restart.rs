//! A deployment: every server goes and comes back, one after the other.

use std::sync::Arc;

use fleetward_balancers::{PeakEwma, SlowStart};

use crate::score::{Latencies, errors, unevenness};
use crate::{
    Action, Arrivals, Bound, ClientPlan, Cold, Column, Contender, Goal, Plan, SECOND, Scenario,
    Series, ServerPlan, ServiceTime, Trace,
};

const SERVERS: usize = 10;
const SLOTS: usize = 8;
const END: u64 = 80 * SECOND;
const WORK: ServiceTime = ServiceTime::LogNormal { median: 20.0, spread: 1.5 };

pub(super) const SCENARIO: Scenario = Scenario {
    name: "rolling-restart",
    title: "A rolling restart",
    about: "\
5 clients send 400 calls a second each to 10 servers with 8 slots and a median of 20 ms (log-normal). From 10 s on one \
server after the other leaves, finishes what it has, and is back 5 s later with cold caches (its first call \
takes 5 times as long, its 200th as long as usual); 6 s after the first the second one leaves, and so on.",
    contenders: &[
        Contender::named("round_robin"),
        Contender::named("p2c"),
        Contender::named("least_request?choices=all"),
        Contender::named("peak_ewma"),
        Contender::made("slow_start, peak_ewma", |_| Ok(Arc::new(SlowStart::new(PeakEwma::new())))),
    ],
    plan,
    columns: &[
        Column::new("errors %", 2),
        Column::new("p50 ms", 0),
        Column::new("p99 ms", 0),
        Column::new("p99.9 ms", 0),
        Column::new("most calls / mean", 2),
    ],
    score,
    goals: &[Goal { contender: "peak_ewma", column: "errors %", bound: Bound::AtMost(0.0) }],
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
    let mut server = ServerPlan::with_slots(WORK, SLOTS);
    server.cold = Some(Cold { calls: 200, factor: 5.0 });
    let client = ClientPlan { start: 0, arrivals: Arrivals::Poisson(400.0), zone: None };
    let mut plan = Plan {
        servers: vec![server; SERVERS],
        clients: vec![client; 5],
        until: END,
        ..Plan::default()
    };
    for server in 0..SERVERS {
        let at = (10 + 6 * server as u64) * SECOND;
        plan.act(at, Action::Leave(server));
        plan.act(at + 5 * SECOND, Action::Join(server));
    }
    plan
}

fn score(trace: &Trace) -> Vec<f64> {
    let calls = trace.between(10 * SECOND, END);
    let latencies = Latencies::of(calls);
    vec![
        errors(calls),
        latencies.quantile(0.5),
        latencies.quantile(0.99),
        latencies.quantile(0.999),
        unevenness(calls, trace.servers),
    ]
}
