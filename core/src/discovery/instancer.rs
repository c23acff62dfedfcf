//! The live view of one service.

use std::fmt;
use std::sync::Arc;

use super::Subscription;

/// The live view of one service.
///
/// A [`Reflector`](crate::discovery::Reflector) is one, made from any registry; a [`Publisher`](crate::discovery::Publisher) is one that
/// the caller feeds by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the live view of a service",
    note = "a registry handle gives one: `registry.service(\"greeter\")?`; a channel to a URL, or an HTTP client of one, is opened by `.connect().await?` instead of `.build()`, with `use fleetward::Connect`"
)]
pub trait Instancer: Send + Sync + fmt::Debug {
    /// Subscribes: the current snapshot at once, then each newest one.
    fn subscribe(&self) -> Subscription;
}

impl<T: Instancer + ?Sized> Instancer for Arc<T> {
    fn subscribe(&self) -> Subscription {
        (**self).subscribe()
    }
}
