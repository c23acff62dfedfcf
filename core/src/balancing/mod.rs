//! The choice of an endpoint for each call.
//!
//! A [`Balancer`] picks one of a [`ReadySet`]. [`Balanced`] is the tower service that asks it, calls what it
//! picked and tells the endpoint how that went.

mod allowed;
mod balanced;
mod balancer;
mod begin;
mod pick_context;

pub use self::allowed::pick_allowed;
pub use self::balanced::{Balanced, BalancedBuilder, BalancedFuture, Picked, WaitForReady};
pub use self::balancer::{Balancer, Prepared, ReadySet};
pub use self::begin::begin_call;
pub(crate) use self::begin::choose_way;
pub use self::pick_context::{Lookup, PickContext};
