//! From the live set of instances to a set of callable services.
//!
//! What calls see is an immutable [`EndpointSet`], swapped whole. Reading it takes no lock.

mod default;
mod factories;
mod fixed;
mod held;
mod lists;
mod live;
mod outliers;
mod pace;
mod publication;
mod set;
mod settings;
mod slot;
mod slots;
mod validity;
mod worker;

use std::sync::Arc;

pub use self::default::{DefaultEndpointer, EndpointerBuilder};
pub use self::fixed::FixedEndpointer;
pub use self::live::{EndpointSetGuard, Endpoints};
pub(crate) use self::set::BalancerId;
pub use self::set::EndpointSet;

/// Gives the callable endpoints of one service: go-kit's `Endpointer`.
///
/// A [`DefaultEndpointer`] follows an instancer, a [`FixedEndpointer`] has what it was given. Whatever is written
/// against this trait, as [`Balanced`](crate::Balanced) is, takes either, and anything that wraps one.
pub trait Endpointer<S> {
    /// The live endpoints. Whoever needs them for longer clones the handle.
    fn endpoints(&self) -> &Endpoints<S>;
}

impl<S> Endpointer<S> for Endpoints<S> {
    fn endpoints(&self) -> &Endpoints<S> {
        self
    }
}

impl<S, E: Endpointer<S> + ?Sized> Endpointer<S> for Arc<E> {
    fn endpoints(&self) -> &Endpoints<S> {
        (**self).endpoints()
    }
}
