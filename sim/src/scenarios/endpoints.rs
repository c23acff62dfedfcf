//! The demonstration of tower's pull request 76, "balance: Implement a Peak-EWMA load metric", 2018.

use crate::score::{Latencies, unevenness};
use crate::{
    Arrivals, Bound, ClientPlan, Column, Contender, Goal, Plan, SECOND, Scenario, ServerPlan,
    ServiceTime, Trace,
};

/// In milliseconds: a call takes anything up to that.
const LATENCIES: [f64; 10] = [1.0, 10.0, 10.0, 10.0, 10.0, 100.0, 100.0, 100.0, 100.0, 1000.0];

pub(super) const SCENARIO: Scenario = Scenario {
    name: "tower",
    title: "Ten endpoints of very different speed (tower #76)",
    about: "\
50,000 calls, 50 at a time. A call takes anything up to 1 ms at one endpoint, up to 10 ms at four, up to \
100 ms at four and up to 1 s at one. Published p99.9: Peak EWMA 105 ms, least loaded of two 857 ms, round robin \
988 ms; published time for all calls: 15, 18 and 72 s.",
    contenders: &[
        Contender::named("round_robin"),
        Contender::named("p2c"),
        Contender::named("least_request?choices=all"),
        Contender::named("peak_ewma"),
    ],
    plan,
    columns: &[
        Column::new("all calls s", 1),
        Column::new("p50 ms", 1),
        Column::new("p99 ms", 0),
        Column::new("p99.9 ms", 0),
        Column::new("most calls / mean", 1),
    ],
    score,
    goals: &[Goal { contender: "peak_ewma", column: "p99.9 ms", bound: Bound::AtMost(105.0) }],
    curve: true,
    series: None,
};

fn plan(_: u64) -> Plan {
    let server = |most: &f64| ServerPlan::unlimited(ServiceTime::Uniform(0.0, *most));
    Plan {
        servers: LATENCIES.iter().map(server).collect(),
        clients: vec![ClientPlan {
            start: 0,
            arrivals: Arrivals::Closed { at_once: 50, calls: 50_000 },
            zone: None,
        }],
        until: 3600 * SECOND,
        ..Plan::default()
    }
}

fn score(trace: &Trace) -> Vec<f64> {
    let latencies = Latencies::of(&trace.calls);
    let end = trace.calls.iter().map(|call| call.start + call.took).max().unwrap_or(0);
    vec![
        end as f64 / SECOND as f64,
        latencies.quantile(0.5),
        latencies.quantile(0.99),
        latencies.quantile(0.999),
        unevenness(&trace.calls, trace.servers),
    ]
}
