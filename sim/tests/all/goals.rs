//! What balancers have to keep, with fewer seeds than the program takes.

use fleetward_sim::{Report, run_all, scenarios};

fn keeps_its_goals(name: &str) {
    let mut scenario = scenarios::named(name).unwrap();
    assert!(!scenario.goals.is_empty());
    // Only those that are to keep something: the others cost time.
    let goals = scenario.goals;
    let wanted = |title| goals.iter().any(|goal| goal.contender == title);
    let contenders: Vec<_> =
        scenario.contenders.iter().copied().filter(|one| wanted(one.title())).collect();
    scenario.contenders = Box::leak(contenders.into_boxed_slice());
    let results = run_all(&scenario, 2).unwrap();
    let report = Report { scenario: &scenario, results: &results, pictures: &[] };
    assert!(report.meets_its_goals(), "{report}");
}

#[test]
fn peak_ewma_answers_in_time_while_one_of_eleven_is_slow() {
    keeps_its_goals("linkerd");
}

#[test]
fn peak_ewma_keeps_the_tail_short_where_endpoints_differ_much() {
    keeps_its_goals("tower");
}

#[test]
fn a_black_hole_gets_few_calls() {
    keeps_its_goals("black-hole");
}

#[test]
fn a_black_hole_that_answers_gets_few_calls() {
    keeps_its_goals("black-hole-answers");
    keeps_its_goals("black-hole-answers-new");
    keeps_its_goals("black-hole-answers-most");
}

#[test]
fn errors_now_and_then_do_no_harm() {
    keeps_its_goals("errors-1-percent");
    keeps_its_goals("errors-rare");
    keeps_its_goals("errors-one-server");
    keeps_its_goals("errors-flaky-server");
}

#[test]
fn a_gray_failure_leaves_the_tail_alone() {
    keeps_its_goals("gray-failure");
}

#[test]
fn a_rolling_restart_costs_no_call() {
    keeps_its_goals("rolling-restart");
}

#[test]
fn calls_stay_in_their_zone_as_far_as_it_carries_them() {
    keeps_its_goals("zones");
}

#[test]
fn every_scenario_scores_as_many_figures_as_it_has_columns() {
    let mut names = std::collections::BTreeSet::new();
    for scenario in scenarios::all() {
        assert!(names.insert(scenario.name), "{} is there twice", scenario.name);
        let mut plan = (scenario.plan)(1);
        plan.until = plan.until.min(fleetward_sim::SECOND / 10);
        let trace = fleetward_sim::run(&plan, &scenario.contenders[0], 1).unwrap();
        assert_eq!((scenario.score)(&trace).len(), scenario.columns.len(), "{}", scenario.name);
        for goal in scenario.goals {
            assert!(scenario.columns.iter().any(|column| column.title == goal.column), "{goal:?}");
            let mut contenders = scenario.contenders.iter();
            assert!(contenders.any(|one| one.title() == goal.contender), "{goal:?}");
        }
    }
}
