//! The conformance suite: what every backend promises, asked of yours.
//!
//! A backend is two traits, [`Source`](fleetward_core::discovery::Source) and
//! [`Registry`](fleetward_core::registration::Registry). Describe it with a [`Subject`], which is two methods and
//! some hooks, and call [`conformance_tests!`](crate::conformance_tests): each case becomes a test.
//! Or call [`run_all`] and print its [`Report`]; or call a single case, which is a function that
//! takes a [`Bed`].
//!
//! What a backend cannot do it says in its [`Capabilities`]. The cases that need it are skipped,
//! and say so: `SKIPPED instances::zone: Zone: the format has no place for it`.
//!
//! - [`discovery`]: what a watcher sees;
//! - [`instances`]: what an instance says comes back;
//! - [`registration`]: what a registration that is kept alive does;
//! - [`faults`]: outages, cut and silent connections, dropped futures;
//! - [`contract`]: the traits by themselves;
//! - [`told`]: each change once, and no way back.
//!
//! All but the last two run on the backend as the type it is and with its type forgotten: see [`Form`].
//!
//! The cases wait for what they expect, with a deadline, so a correct backend is as quick as it is.
//! Some have to live through a time to live or two; [`Capabilities::with_ttl`] keeps that short.

mod bed;
mod capabilities;
mod cases;
mod client;
pub mod contract;
mod cut_short;
pub mod discovery;
pub mod faults;
pub mod instances;
mod read_only;
pub mod registration;
mod run;
mod subject;
mod tests;
pub mod told;
mod watcher;

pub use self::bed::Bed;
pub use self::capabilities::{Capabilities, Capability};
pub use self::cases::{CASES, Case};
pub use self::client::{Client, Form};
pub use self::read_only::ReadOnly;
pub use self::run::{Outcome, Report, run, run_all};
pub use self::subject::Subject;
#[doc(hidden)]
pub use self::tests::__test;
pub use self::watcher::Watcher;
