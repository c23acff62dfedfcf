#![doc = include_str!("../README.md")]

#[cfg(unix)]
pub mod servers;
mod wait;

pub use wait::{Outcome, eventually};
