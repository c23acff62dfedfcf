#![doc = include_str!("../README.md")]

mod client;
mod clock;
mod contender;
mod events;
mod figure;
mod plan;
mod prequal;
mod report;
mod runner;
mod scenario;
pub mod scenarios;
mod score;
mod server;
mod service_time;
mod trace;
mod world;

pub use contender::{Contender, Made, Make};
pub use figure::draw;
pub use plan::{Action, Arrivals, ClientPlan, Cold, Failure, Plan, ServerPlan};
pub use prequal::Prequal;
pub use report::Report;
pub use runner::{Results, Row, run_all};
pub use scenario::{Bound, Column, Goal, Scenario, Series};
pub use service_time::ServiceTime;
pub use trace::{Answer, Call, Trace};
pub use world::run;

/// Virtual time, and spans of it, in nanoseconds.
pub type Nanos = u64;

/// A second of virtual time.
pub const SECOND: Nanos = 1_000_000_000;

/// A millisecond of virtual time.
pub const MILLISECOND: Nanos = 1_000_000;
