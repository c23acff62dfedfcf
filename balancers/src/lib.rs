#![doc = include_str!("../README.md")]

mod by_name;
mod random;
mod round_robin;

pub use by_name::{NAMES, by_name};
pub use random::Random;
pub use round_robin::RoundRobin;
