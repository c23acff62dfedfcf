//! The experiment of Prequal's paper: machines that others use as well.

use fastrand::Rng;

use crate::score::{Latencies, errors, unevenness};
use crate::{
    Action, Arrivals, ClientPlan, Column, Contender, Plan, SECOND, Scenario, ServerPlan,
    ServiceTime, Trace,
};

const SERVERS: usize = 40;
const SLOTS: usize = 4;
const WORK: ServiceTime = ServiceTime::HalfIdle(75.0);
const END: u64 = 40 * SECOND;
/// The first seconds, in which queues build up, are not measured.
const FROM: u64 = 5 * SECOND;
/// The speeds of a machine, as often as they occur, before they are brought to a mean of 1.
const SPEEDS: [f64; 10] = [1.2, 1.2, 1.2, 1.2, 1.2, 1.0, 1.0, 0.9, 0.6, 0.4];
/// How long a machine keeps its speed on average.
const PHASE: f64 = 5.0;

const CONTENDERS: &[Contender] = &[
    Contender::named("round_robin"),
    Contender::named("p2c"),
    Contender::named("least_request?choices=all"),
    Contender::named("peak_ewma"),
    Contender::prequal(),
];

const COLUMNS: &[Column] = &[
    Column::new("p50 ms", 0),
    Column::new("p90 ms", 0),
    Column::new("p99 ms", 0),
    Column::new("p99.9 ms", 0),
    Column::new("given up %", 2),
    Column::new("most calls / mean", 2),
    Column::new("probes a call", 1),
];

macro_rules! at_load {
    ($load:literal, $clients:literal, $name:literal, $about:expr) => {
        Scenario {
            name: $name,
            title: concat!(
                "Machines that others use as well (Prequal): load ",
                $load,
                " %, ",
                $clients,
                " clients"
            ),
            about: $about,
            contenders: CONTENDERS,
            plan: plan::<$load, $clients>,
            columns: COLUMNS,
            score,
            goals: &[],
            curve: true,
            series: None,
        }
    };
}

pub(super) const SCENARIOS: [Scenario; 4] = [
    at_load!(
        75,
        40,
        "antagonists-75",
        "40 clients and 40 servers with 4 slots each. A call is 81 ms of work on average (normal, as \
wide as its mean, never below 0), and is given up after 5 s. Every 5 s on average each machine changes its \
speed, to between 0.4 and 1.2 of what is usual, because of what else runs there. The load is that \
of the whole fleet, relative to its mean speed."
    ),
    at_load!(
        90,
        40,
        "antagonists-90",
        "The same, at 90 % load. The paper's p90 and p99 in its own test bed: weighted round \
robin 1667 ms and more than 5 s, least loaded 940 and 2654, least loaded of two 213 and 1169, Prequal 152 \
and 286."
    ),
    at_load!(97, 40, "antagonists-97", "The same, at 97 % load."),
    at_load!(
        90,
        4,
        "antagonists-90-few",
        "The same at 90 % load, but from 4 clients, each of which makes ten times as many calls."
    ),
];

fn plan<const LOAD: u32, const CLIENTS: usize>(seed: u64) -> Plan {
    let mean = SPEEDS.iter().sum::<f64>() / SPEEDS.len() as f64;
    let capacity = (SERVERS * SLOTS) as f64 / (WORK.mean() / 1000.0);
    let rate = capacity * f64::from(LOAD) / 100.0 / CLIENTS as f64;
    let client = ClientPlan { start: 0, arrivals: Arrivals::Poisson(rate), zone: None };
    let mut plan = Plan {
        servers: vec![ServerPlan::with_slots(WORK, SLOTS); SERVERS],
        clients: vec![client; CLIENTS],
        until: END,
        patience: Some(5 * SECOND),
        ..Plan::default()
    };
    let mut rng = Rng::with_seed(seed ^ 0xa17a);
    for server in 0..SERVERS {
        let mut at = 0;
        while at < END {
            let speed = rng.choice(SPEEDS).unwrap_or(1.0) / mean;
            plan.act(at, Action::Speed(server, speed));
            at += (-(1.0 - rng.f64()).ln() * PHASE * SECOND as f64) as u64 + 1;
        }
    }
    plan
}

fn score(trace: &Trace) -> Vec<f64> {
    let calls = trace.between(FROM, END);
    let latencies = Latencies::of(calls);
    vec![
        latencies.quantile(0.5),
        latencies.quantile(0.9),
        latencies.quantile(0.99),
        latencies.quantile(0.999),
        errors(calls),
        unevenness(calls, trace.servers),
        trace.probes as f64 / trace.calls.len().max(1) as f64,
    ]
}
