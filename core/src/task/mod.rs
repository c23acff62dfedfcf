//! What tasks of ours need: the runtime they are spawned on, a restart after a panic, and a bound on what one
//! poll does.

mod runtime;
pub(crate) mod shield;
pub(crate) mod supervised;

pub use self::runtime::current_runtime;
pub use self::supervised::{Supervised, supervise};
