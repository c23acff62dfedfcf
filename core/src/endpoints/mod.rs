//! From instances to what can be called.
//!
//! A [`Factory`] makes the service of one instance. A [`DefaultEndpointer`] keeps one for each instance that
//! an instancer shows, and publishes the [`EndpointSet`] of those that take calls now; [`Endpointer`] is what both it and a
//! [`FixedEndpointer`] are. An [`Observer`] says how
//! calls went.

pub(crate) mod endpoint;
pub(crate) mod endpointer;
mod factory;
mod feedback;
mod observer;
mod operation;

pub use self::endpoint::{Connectivity, InFlight, Member, Outcome, Readiness};
pub use self::endpointer::{
    DefaultEndpointer, EndpointSet, EndpointSetGuard, Endpointer, EndpointerBuilder, Endpoints,
    FixedEndpointer,
};
pub use self::factory::Factory;
pub use self::feedback::FeedbackConfig;
pub use self::observer::{ByResult, Observer};
pub use self::operation::{Operation, OperationOf};
