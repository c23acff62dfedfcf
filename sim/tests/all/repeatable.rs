//! The same seed, the same run.

use fleetward_sim::{Contender, Trace, run, scenarios};

fn trace(scenario: &str, contender: &str, seconds: u64, seed: u64) -> Trace {
    let scenario = scenarios::named(scenario).unwrap();
    let contender: &Contender =
        scenario.contenders.iter().find(|one| one.title() == contender).unwrap();
    let mut plan = (scenario.plan)(seed);
    plan.until = plan.until.min(seconds * fleetward_sim::SECOND);
    run(&plan, contender, seed).unwrap()
}

/// With ejections, probes, joining servers, slow starts and zones: whatever draws or asks the time.
#[test]
fn a_seed_says_all_of_a_run() {
    for (scenario, contender, seconds) in [
        ("black-hole", "p2c, detection", 17),
        ("antagonists-90-few", "prequal (experiment)", 3),
        ("rolling-restart", "slow_start, peak_ewma", 16),
        ("zones", "zone_aware, spread known", 3),
    ] {
        let first = trace(scenario, contender, seconds, 1);
        assert!(first.calls.len() > 1000);
        // At another time, on another thread, after other draws.
        let again = std::thread::spawn(move || {
            fastrand::u64(..);
            trace(scenario, contender, seconds, 1)
        });
        assert!(first == again.join().unwrap(), "{scenario}: {contender}");
        assert!(first != trace(scenario, contender, seconds, 2), "{scenario}: {contender}");
    }
}

#[test]
fn calls_arrive_at_the_same_times_whoever_balances() {
    let starts = |contender| -> Vec<u64> {
        trace("black-hole", contender, 5, 1).calls.iter().map(|call| call.start).collect()
    };
    assert_eq!(starts("round_robin"), starts("peak_ewma"));
}
