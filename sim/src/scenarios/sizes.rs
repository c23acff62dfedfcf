//! Servers of different size, whose weights say so or do not.

use crate::score::{Latencies, errors, share};
use crate::{
    Arrivals, ClientPlan, Column, Contender, Plan, SECOND, Scenario, ServerPlan, ServiceTime, Trace,
};

/// The first servers are small.
const SMALL: u32 = 5;
const SMALL_SLOTS: usize = 2;
const LARGE_SLOTS: usize = 8;
const LOAD: f64 = 0.8;
const END: u64 = 60 * SECOND;
const WORK: ServiceTime = ServiceTime::LogNormal { median: 20.0, spread: 1.5 };

const CONTENDERS: &[Contender] = &[
    Contender::named("round_robin"),
    Contender::named("weighted_round_robin"),
    Contender::named("p2c"),
    Contender::named("least_request?choices=all"),
    Contender::named("peak_ewma"),
];

const COLUMNS: &[Column] = &[
    Column::new("share of the small ones %", 1),
    Column::new("p50 ms", 0),
    Column::new("p90 ms", 0),
    Column::new("p99 ms", 0),
    Column::new("p99.9 ms", 0),
    Column::new("given up %", 2),
];

pub(super) const SCENARIOS: [Scenario; 2] = [
    Scenario {
        name: "sizes-known",
        title: "Servers of two sizes, and weights that say so",
        about: "\
4 clients, 5 servers with 2 slots and weight 1 and 5 with 8 slots and weight 4, a median of 20 ms (log-normal), 80 % \
load for 60 s; calls are given up after 2 s. The small ones' fair share is 20 %.",
        contenders: CONTENDERS,
        plan: |_| plan(4),
        columns: COLUMNS,
        score,
        goals: &[],
        curve: false,
        series: None,
    },
    Scenario {
        name: "sizes-unknown",
        title: "Servers of two sizes, and nobody says so",
        about: "The same with weight 1 everywhere.",
        contenders: CONTENDERS,
        plan: |_| plan(1),
        columns: COLUMNS,
        score,
        goals: &[],
        curve: false,
        series: None,
    },
];

fn plan(weight: u32) -> Plan {
    let slots = SMALL as usize * (SMALL_SLOTS + LARGE_SLOTS);
    let rate = LOAD * slots as f64 / (WORK.mean() / 1000.0);
    let client = ClientPlan { start: 0, arrivals: Arrivals::Poisson(rate / 4.0), zone: None };
    let large = ServerPlan { weight, ..ServerPlan::with_slots(WORK, LARGE_SLOTS) };
    let mut servers = vec![ServerPlan::with_slots(WORK, SMALL_SLOTS); SMALL as usize];
    servers.extend(vec![large; SMALL as usize]);
    let patience = Some(2 * SECOND);
    Plan { servers, clients: vec![client; 4], until: END, patience, ..Plan::default() }
}

fn score(trace: &Trace) -> Vec<f64> {
    let calls = trace.between(5 * SECOND, END);
    let latencies = Latencies::of(calls);
    vec![
        share(calls, |call| call.server < SMALL),
        latencies.quantile(0.5),
        latencies.quantile(0.9),
        latencies.quantile(0.99),
        latencies.quantile(0.999),
        errors(calls),
    ]
}
