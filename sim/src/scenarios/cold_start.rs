//! A server that nobody knows yet, and a client that knows none.

use std::sync::Arc;

use fleetward_balancers::{P2c, PeakEwma, SlowStart};

use crate::score::{Latencies, share_of};
use crate::{
    Action, Arrivals, Call, ClientPlan, Cold, Column, Contender, Plan, SECOND, Scenario, Series,
    ServerPlan, ServiceTime, Trace,
};

const NEW: u32 = 5;
const JOINS: u64 = 20 * SECOND;
const END: u64 = 120 * SECOND;
const SLOTS: usize = 8;
const WORK: ServiceTime = ServiceTime::LogNormal { median: 20.0, spread: 1.5 };

const CONTENDERS: &[Contender] = &[
    Contender::named("round_robin"),
    Contender::named("p2c"),
    Contender::named("least_request?choices=all"),
    Contender::named("peak_ewma"),
    Contender::made("slow_start, p2c", |_| Ok(Arc::new(SlowStart::new(P2c::new())))),
    Contender::made("slow_start, peak_ewma", |_| Ok(Arc::new(SlowStart::new(PeakEwma::new())))),
];

pub(super) const SCENARIOS: [Scenario; 2] = [
    Scenario {
        name: "cold-server",
        title: "A new server with cold caches joins",
        about: "\
20 clients send 100 calls a second each to 9 servers with 8 slots and a median of 20 ms (log-normal). At 20 s a tenth \
server joins. Its first call takes 10 times as long as usual, and this falls in a line to the usual with its 500th. A \
fair share is 10 %.",
        contenders: CONTENDERS,
        plan: |_| {
            let mut plan = plan(20, 100.0);
            plan.servers[NEW as usize].present = false;
            plan.servers[NEW as usize].cold = Some(Cold { calls: 500, factor: 10.0 });
            plan.act(JOINS, Action::Join(NEW as usize));
            plan
        },
        columns: &[
            Column::new("share in the 1st second %", 1),
            Column::new("share from 1 s to 10 s %", 1),
            Column::new("share at the end %", 1),
            Column::new("most in line at the new one", 0),
            Column::new("mean in line elsewhere", 1),
            Column::new("p99 ms, first 10 s", 0),
        ],
        score: score_server,
        goals: &[],
        curve: false,
        series: Some(Series {
            label: "the new server's share of the calls in %",
            bin: SECOND,
            span: END,
            figure: |calls| share_of(calls, NEW),
            logarithmic: false,
        }),
    },
    Scenario {
        name: "cold-client",
        title: "A client starts that knows no server",
        about: "\
One client sends 2000 calls a second, from its first moment on, to 10 servers with 8 slots and a median of 20 ms \
(log-normal) of which it knows nothing; one of them hangs for the first 5 s.",
        contenders: CONTENDERS,
        plan: |_| {
            let mut plan = plan(1, 2000.0);
            plan.act(0, Action::Speed(NEW as usize, 0.0));
            plan.act(5 * SECOND, Action::Speed(NEW as usize, 1.0));
            plan
        },
        columns: &[
            Column::new("calls to the one that hangs", 0),
            Column::new("most in line elsewhere, 1st s", 0),
            Column::new("p99 ms, 1st s", 0),
            Column::new("p99 ms, 5 s", 0),
            Column::new("its share at the end %", 1),
        ],
        score: score_client,
        goals: &[],
        curve: false,
        series: None,
    },
];

fn plan(clients: usize, rate: f64) -> Plan {
    let client = ClientPlan { start: 0, arrivals: Arrivals::Poisson(rate), zone: None };
    Plan {
        servers: vec![ServerPlan::with_slots(WORK, SLOTS); 10],
        clients: vec![client; clients],
        until: END,
        ..Plan::default()
    }
}

fn is_new(call: &&Call) -> bool {
    call.server == NEW
}

fn most_in_line<'a>(calls: impl Iterator<Item = &'a Call>) -> f64 {
    f64::from(calls.map(|call| call.in_line).max().unwrap_or(0))
}

fn score_server(trace: &Trace) -> Vec<f64> {
    let first = trace.between(JOINS, JOINS + 10 * SECOND);
    let others: Vec<_> = first.iter().filter(|call| !is_new(call)).collect();
    let in_line: f64 = others.iter().map(|call| f64::from(call.in_line)).sum();
    vec![
        share_of(trace.between(JOINS, JOINS + SECOND), NEW),
        share_of(trace.between(JOINS + SECOND, JOINS + 10 * SECOND), NEW),
        share_of(trace.between(END - 10 * SECOND, END), NEW),
        most_in_line(first.iter().filter(is_new)),
        in_line / others.len().max(1) as f64,
        Latencies::of(first).quantile(0.99),
    ]
}

fn score_client(trace: &Trace) -> Vec<f64> {
    let first = trace.between(0, 5 * SECOND);
    vec![
        first.iter().filter(is_new).count() as f64,
        most_in_line(trace.between(0, SECOND).iter().filter(|call| !is_new(call))),
        Latencies::of(trace.between(0, SECOND)).quantile(0.99),
        Latencies::of(first).quantile(0.99),
        share_of(trace.between(END - 10 * SECOND, END), NEW),
    ]
}
