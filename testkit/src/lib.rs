#![doc = include_str!("../README.md")]

mod address;
pub mod conformance;
pub mod proxy;
#[cfg(unix)]
pub mod servers;
mod wait;

pub use address::HeldAddress;
pub use wait::{Outcome, eventually};
