//! Servers that are not the service, and say at once that they do not know what they are asked, or do not
//! allow it: errors that may be the caller's fault.

use crate::score::{Latencies, errors, seconds_until, share};
use crate::{
    Action, Arrivals, Bound, Call, ClientPlan, Column, Contender, Failure, Goal, MILLISECOND, Plan,
    SECOND, Scenario, Series, ServerPlan, ServiceTime, Trace,
};

const FROM: u64 = 10 * SECOND;
const TO: u64 = 40 * SECOND;
const END: u64 = 120 * SECOND;
const WORK: ServiceTime = ServiceTime::LogNormal { median: 20.0, spread: 1.5 };

const CONTENDERS: [Contender; 7] = [
    Contender::named("round_robin"),
    Contender::named("p2c"),
    Contender::named("least_request"),
    Contender::named("peak_ewma"),
    Contender::named("round_robin").titled("round_robin, detection").with_outlier_detection(),
    Contender::named("p2c").titled("p2c, detection").with_outlier_detection(),
    Contender::named("peak_ewma").titled("peak_ewma, detection").with_outlier_detection(),
];

const COLUMNS: &[Column] = &[
    Column::new("errors while it refuses %", 2),
    Column::new("share after 2 s %", 2),
    Column::new("back after s", 0),
    Column::new("p50 ms", 1),
    Column::new("p99 ms", 0),
];

/// Whoever balances: little of the calls reaches it, and so few fail.
const GOALS: [Goal; 14] = {
    let mut goals = [goal("share after 2 s %", 2.0, 0); 14];
    let mut at = 0;
    while at < CONTENDERS.len() {
        goals[2 * at] = goal("share after 2 s %", 2.0, at);
        goals[2 * at + 1] = goal("errors while it refuses %", 1.0, at);
        at += 1;
    }
    goals
};

const fn goal(column: &'static str, most: f64, contender: usize) -> Goal {
    Goal { contender: CONTENDERS[contender].title(), column, bound: Bound::AtMost(most) }
}

pub(super) const SCENARIOS: [Scenario; 3] = [
    Scenario {
        name: "black-hole-answers",
        title: "A black hole that answers: one of ten refuses everything",
        about: "\
10 servers with a median of 20 ms (log-normal), 1000 calls a second of 4 methods for 120 s. From 10 s to 40 s one \
server refuses every call after 1 ms, with an error that may be the caller's fault. Then it is well again. A fair share \
is 10 %. \"Back after\": until it had half of that for three seconds; 80 s is the run's end.",
        series: Some(Series {
            label: "the wrong server's share of the calls in %",
            bin: SECOND,
            span: END,
            figure: |calls| share(calls, |call| call.server == 0),
            logarithmic: false,
        }),
        ..scenario(|_| plan(10, 1, FROM), |trace| score(1, FROM, trace))
    },
    Scenario {
        name: "black-hole-answers-new",
        title: "A black hole that answers from the beginning",
        about: "\
The same with 5 servers, of which one has refused every call ever since the client began.",
        ..scenario(|_| plan(5, 1, 0), |trace| score(1, 0, trace))
    },
    Scenario {
        name: "black-hole-answers-most",
        title: "Two wrong servers of three",
        about: "\
The same with 3 servers, of which two have refused every call ever since the client began.",
        ..scenario(|_| plan(3, 2, 0), |trace| score(2, 0, trace))
    },
];

const fn scenario(plan: fn(u64) -> Plan, score: fn(&Trace) -> Vec<f64>) -> Scenario {
    Scenario {
        name: "",
        title: "",
        about: "",
        contenders: &CONTENDERS,
        plan,
        columns: COLUMNS,
        score,
        goals: &GOALS,
        curve: false,
        series: None,
    }
}

/// The first `wrong` of the servers refuse.
fn plan(servers: usize, wrong: usize, from: u64) -> Plan {
    let mut plan = Plan {
        servers: vec![ServerPlan::unlimited(WORK); servers],
        clients: vec![ClientPlan { start: 0, arrivals: Arrivals::Poisson(1000.0), zone: None }],
        until: END,
        operations: 4,
        ..Plan::default()
    };
    let failure = Failure { probability: 1.0, after: MILLISECOND, refuses: true };
    for server in 0..wrong {
        plan.act(from, Action::Fail(server, Some(failure)));
        plan.act(TO, Action::Fail(server, None));
    }
    plan
}

fn score(wrong: u32, from: u64, trace: &Trace) -> Vec<f64> {
    let latencies = Latencies::of(&trace.calls);
    let is_wrong = |call: &Call| call.server < wrong;
    let half = 50.0 / trace.servers as f64;
    vec![
        errors(trace.between(from, TO)),
        share(trace.between(from + 2 * SECOND, TO), is_wrong),
        seconds_until(&trace.calls, 0, half, TO, END),
        latencies.quantile(0.5),
        latencies.quantile(0.99),
    ]
}
