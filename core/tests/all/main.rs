//! All integration tests of the crate in one binary.
#![allow(clippy::unwrap_used, missing_docs)] // a test that panics has failed, as it should

mod blame;
mod calls;
mod clashes;
mod endpointer;
mod fake_registry;
mod fake_source;
mod feedback;
mod fixed_endpointer;
mod go_kit;
mod go_kit_faults;
mod go_kit_faults_discovery;
mod health;
mod hedging;
mod keeper;
mod limit;
mod moved;
mod no_endpoints;
mod outliers;
mod panics;
mod picking;
mod reentrancy;
mod reflector;
mod reflector_empty_set;
mod refresh;
mod refusals;
mod registration;
mod stacked;
mod support;
mod telemetry;
mod unsent;
mod view;
mod withdrawn;
