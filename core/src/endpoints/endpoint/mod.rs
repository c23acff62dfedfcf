//! One callable instance: what is known of it, keyed by its id, and what outlives every update.

mod call;
mod doubt;
mod latency;
mod member;
mod outcomes;
mod readiness;
mod refusals;
mod state;

pub(crate) use self::call::Way;
pub use self::call::{InFlight, Outcome};
pub use self::member::Member;
pub(crate) use self::outcomes::Window;
pub use self::readiness::{Connectivity, Readiness};
pub(crate) use self::refusals::News;
pub(crate) use self::state::{Admission, Checked, EndpointState, Surroundings};
