//! The experiments, a file each.

mod antagonists;
mod black_hole;
mod black_hole_answers;
mod cold_start;
mod endpoints;
mod errors;
mod gray_failure;
mod linkerd;
mod rolling_restart;
mod sizes;
mod zones;

use crate::Scenario;

/// All of them.
pub fn all() -> Vec<Scenario> {
    let mut all = vec![linkerd::SCENARIO, endpoints::SCENARIO];
    all.extend(antagonists::SCENARIOS);
    all.extend(black_hole::SCENARIOS);
    all.extend(black_hole_answers::SCENARIOS);
    all.push(gray_failure::SCENARIO);
    all.extend(errors::SCENARIOS);
    all.extend(cold_start::SCENARIOS);
    all.extend(sizes::SCENARIOS);
    all.extend([rolling_restart::SCENARIO, zones::SCENARIO]);
    all
}

/// The one of that name.
pub fn named(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}
