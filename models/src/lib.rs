//! Models of what fleetward makes from atomics by hand.
//!
//! A module here compiles one file of another crate with loom's atomics in place of std's: the file imports them
//! from `crate::sync`. loom then runs every interleaving of a few threads. The models run as this crate's tests.
//! Nothing else is built for loom.
//!
//! A file that is modelled imports nothing of its crate but `crate::sync` and what stands beside it here.

pub mod admission;
pub mod budget;
pub mod latency;
pub mod outcomes;
pub mod owed;
pub mod replay_buffer;
mod sync;
