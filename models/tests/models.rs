//! Each model, one test each.

use fleetward_models::{admission, budget, latency, outcomes, owed, replay_buffer};

#[test]
fn latency_no_peak_is_lost() {
    latency::no_peak_is_lost();
}

#[test]
fn latency_a_good_answer_replaces_what_stands_in_for_one() {
    latency::a_good_answer_replaces_what_stands_in_for_one();
}

#[test]
fn admission_a_probe_that_says_nothing_is_offered_again() {
    admission::a_probe_that_says_nothing_is_offered_again();
}

#[test]
fn admission_a_failed_probe_takes_nothing_from_the_next_one() {
    admission::a_failed_probe_takes_nothing_from_the_next_one();
}

#[test]
fn outcomes_every_outcome_is_in_one_window() {
    outcomes::every_outcome_is_in_one_window();
}

#[test]
fn budget_what_is_left_for_one_goes_to_one() {
    budget::what_is_left_for_one_goes_to_one();
}

#[test]
fn owed_what_is_taken_back_makes_no_room() {
    owed::what_is_taken_back_makes_no_room();
}

#[test]
fn owed_what_is_not_owed_makes_room() {
    owed::what_is_not_owed_makes_room();
}

#[test]
fn replay_buffer_no_more_is_kept_than_there_is_room() {
    replay_buffer::no_more_is_kept_than_there_is_room();
}
