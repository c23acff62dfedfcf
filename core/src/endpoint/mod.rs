//! One callable instance: what is known of it, keyed by its id, and what outlives every update.

mod call;
mod latency;
mod member;
mod outcomes;
mod readiness;
mod state;

pub use self::call::{InFlight, Outcome};
pub use self::member::Member;
pub(crate) use self::outcomes::Window;
pub use self::readiness::{Connectivity, Readiness};
pub(crate) use self::state::{Admission, Checked, EndpointState, Surroundings};
