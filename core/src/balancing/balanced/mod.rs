//! The tower service that sends each request to an endpoint of its balancer's choice.

#[expect(clippy::module_inception, reason = "the module is named after its main type")]
mod balanced;
mod choice;
mod future;
mod pick;
mod wait;
mod waiting;

pub use self::balanced::{Balanced, BalancedBuilder};
pub use self::future::BalancedFuture;
pub use self::pick::Picked;
pub use self::wait::WaitForReady;
