//! Callers that are not spread over the zones as the servers are.

use std::sync::Arc;

use fleetward_balancers::{PeakEwma, ZoneAware};

use crate::score::{Latencies, share, unevenness};
use crate::{
    Arrivals, Bound, ClientPlan, Column, Contender, Goal, Plan, SECOND, Scenario, ServerPlan,
    ServiceTime, Trace,
};

/// Of the callers, by number.
const CALLERS: [&str; 10] = ["a", "a", "a", "a", "a", "a", "b", "b", "c", "c"];
/// Of the servers.
const SERVERS: [&str; 12] = ["a", "a", "a", "a", "b", "b", "b", "b", "c", "c", "c", "c"];
const SLOTS: usize = 4;
const LOAD: f64 = 0.7;
const END: u64 = 60 * SECOND;
const WORK: ServiceTime = ServiceTime::LogNormal { median: 20.0, spread: 1.5 };

pub(super) const SCENARIO: Scenario = Scenario {
    name: "zones",
    title: "Callers that are spread unlike the servers",
    about: "\
Three zones: 60, 20 and 20 % of the callers, and a third of the servers each. 10 callers, 12 servers with 4 slots and \
a median of 20 ms (log-normal), at 70 % load for 60 s. To load all servers alike, 26.7 % of the calls must leave their \
zone: 44 % of those of the large one. If all calls stayed, the large zone's servers would have 126 % of what they can do.",
    contenders: &[
        Contender::named("p2c"),
        Contender::named("peak_ewma"),
        Contender::made("zone_aware, spread known", |zone| {
            let balancer = ZoneAware::new(zone.unwrap_or_default(), PeakEwma::new);
            Ok(Arc::new(balancer.with_callers([("a", 60.0), ("b", 20.0), ("c", 20.0)])))
        }),
        Contender::made("zone_aware, spread unknown", |zone| {
            Ok(Arc::new(ZoneAware::new(zone.unwrap_or_default(), PeakEwma::new)))
        }),
    ],
    plan,
    columns: &[
        Column::new("across zones %", 1),
        Column::new("p50 ms", 0),
        Column::new("p99 ms", 0),
        Column::new("p99.9 ms", 0),
        Column::new("most calls / mean", 2),
    ],
    score,
    goals: &[
        Goal {
            contender: "zone_aware, spread known",
            column: "across zones %",
            bound: Bound::AtMost(27.5),
        },
        Goal {
            contender: "zone_aware, spread known",
            column: "most calls / mean",
            bound: Bound::AtMost(1.15),
        },
    ],
    curve: false,
    series: None,
};

fn plan(_: u64) -> Plan {
    let rate = LOAD * (SERVERS.len() * SLOTS) as f64 / (WORK.mean() / 1000.0);
    let arrivals = Arrivals::Poisson(rate / CALLERS.len() as f64);
    let client = |zone| ClientPlan { start: 0, arrivals, zone: Some(zone) };
    let server = |zone| ServerPlan { zone: Some(zone), ..ServerPlan::with_slots(WORK, SLOTS) };
    Plan {
        servers: SERVERS.map(server).into(),
        clients: CALLERS.map(client).into(),
        until: END,
        ..Plan::default()
    }
}

fn score(trace: &Trace) -> Vec<f64> {
    let calls = trace.between(5 * SECOND, END);
    let latencies = Latencies::of(calls);
    vec![
        share(calls, |call| CALLERS[call.client as usize] != SERVERS[call.server as usize]),
        latencies.quantile(0.5),
        latencies.quantile(0.99),
        latencies.quantile(0.999),
        unevenness(calls, trace.servers),
    ]
}
