//! One callable instance: what is known of it, keyed by its id, and what outlives every update.

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

pub use self::call::{InFlight, Outcome};
pub use self::conditions::Connectivity;
pub(crate) use self::conditions::{Admission, Checked};
pub use self::member::Member;
pub(crate) use self::outcomes::Window;
pub use self::readiness::Readiness;
pub(crate) use self::refusals::News;
pub(crate) use self::state::{EndpointState, Surroundings};
pub(crate) use self::way::Way;
