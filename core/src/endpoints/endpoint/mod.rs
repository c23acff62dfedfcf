//! One callable instance: what is known of it, keyed by its id, and what outlives every update.

mod admission;
mod call;
mod conditions;
mod doubt;
mod latency;
mod member;
mod outcomes;
mod readiness;
mod refusals;
mod state;
mod usual;
mod way;

pub(crate) use self::admission::Admission;
pub use self::call::{InFlight, Outcome};
pub(crate) use self::conditions::Checked;
pub use self::conditions::Connectivity;
pub use self::member::Member;
pub(crate) use self::outcomes::Window;
pub use self::readiness::Readiness;
pub(crate) use self::refusals::News;
pub(crate) use self::state::{EndpointState, Surroundings};
pub(crate) use self::way::Way;
